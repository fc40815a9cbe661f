//! The hot path, to be counted in instructions: `scripts/bench` runs this under callgrind.
//!
//! `hot-path WHAT N`: does N operations of one kind after a warm-up and prints `operations M`.
//! Whatever is to be counted happens inside functions whose names begin with `measured_`;
//! callgrind counts nothing else (`--toggle-collect`), so neither the start nor the phones nor the
//! disk of a world are in the figure. Nanoseconds are printed as well, for whoever runs it alone.
//!
//! | WHAT | an operation |
//! | --- | --- |
//! | `alone`, `one`, `sixteen` | a ticked durable message through a whole server (`LOADS`) |
//! | `read` | as `sixteen`, with the tick for "read" too |
//! | `append` | a record of 128 bytes staged, checked and committed, 16 per batch |
//! | `queue` | a question and its answer between two shards, 16 per turn |
//! | `parse` | a `Send` of 150 bytes from a WebSocket: unmasked, framed, decoded |
//! | `deliver`, `sent` | that frame encoded and framed for a WebSocket |
//!
//! What is counted is built as the program that is shipped: see `Cargo.toml`.

#![allow(clippy::expect_used, reason = "a benchmark may fail by panicking")]

mod world;

use std::hint::black_box;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use myriad::log::{
    Committer, Kind, Lane, Record, Settings, Stage, Store, Wake, next_epoch, recover,
};
use myriad::ring::{Doorbell, Mailbox, mesh};
use wire::client::TickMark;
use wire::{
    ClientFrame, Confirmed, Deliver, Event, MessageId, Parser, Policy, Sent, ServerFrame, Stream,
    Transport,
};
use world::{PAYLOAD, Person, Phone, SHARDS, Server};

/// Operations per call of what is counted, where there is a choice.
const BATCH: u64 = 16;

/// The loads of a whole server: name, users, messages in flight per user, and the tick that ends
/// a message. Every user is connected by WebSocket and writes to a partner; about half of the
/// pairs have both shards between them.
const LOADS: [(&str, u64, u64, TickMark); 4] = [
    ("alone", 2, 1, TickMark::Has),
    ("one", 200, 1, TickMark::Has),
    ("sixteen", 200, 16, TickMark::Has),
    ("read", 200, 16, TickMark::Read),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let count = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let load = LOADS.iter().find(|(name, ..)| *name == what);
    let (operations, time) = match (what.as_str(), load) {
        (_, Some((_, users, in_flight, done))) => whole(*users, *in_flight, *done, count),
        ("append", _) => append(count),
        ("queue", _) => queue(count),
        ("parse", _) => parse(count),
        ("deliver", _) => write(&deliver_frame(), count),
        ("sent", _) => write(&sent_frame(), count),
        _ => {
            eprintln!("hot-path: what of alone, one, sixteen, read, append, queue, parse, ...?");
            return ExitCode::from(2);
        }
    };
    println!("{what}: {} ns each", time.as_nanos() / u128::from(operations.max(1)));
    println!("operations {operations}");
    ExitCode::SUCCESS
}

/// A disk that takes everything and keeps nothing.
#[derive(Clone)]
struct Nothing;

impl Store for Nothing {
    fn segments(&self) -> io::Result<Vec<u32>> {
        Ok(Vec::new())
    }

    fn create(&mut self, _: u32, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&mut self, _: u32, _: u64, bytes: &[u8]) -> io::Result<()> {
        black_box(bytes);
        Ok(())
    }

    fn sync(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, _: u32, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn retire(&mut self, _: u32, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn renew(&mut self, _: u32, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn scrub(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self, _: u32) -> io::Result<u64> {
        Ok(0)
    }
}

// ---- a whole server

/// Messages of each user before the count begins.
const WARM_UP: u64 = 40;
/// Rounds that may pass without any message being done.
const STUCK_ROUNDS: u64 = 10_000;

fn whole(users: u64, in_flight: u64, done: TickMark, messages: u64) -> (u64, Duration) {
    let mut server = Server::start(&Nothing, usize::try_from(users).expect("few"));
    let mut phones = Vec::new();
    for index in 0..users {
        let (user, peer) = (1 + index, Some(1 + (index ^ 1)));
        let person = Person { user, device: 1, peer, done };
        let shard = usize::try_from(index).expect("few") % SHARDS;
        phones.push(server.connect("ws", shard, &person));
    }
    // Mail for who is not there yet would have to be read back from a disk that keeps nothing.
    while !phones.iter().all(Phone::is_live) {
        phones.iter_mut().for_each(|phone| phone.run(server.now_ms, 0, 0));
        turns(&mut server);
        server.now_ms += 1;
    }
    let each = messages.div_ceil(users);
    let mut time = Duration::ZERO;
    run(&mut server, &mut phones, in_flight, WARM_UP, &mut |server| turns(server));
    let before: u64 = server.shards.iter().map(|shard| shard.tables().counters.turns).sum();
    run(&mut server, &mut phones, in_flight, WARM_UP + each, &mut |server| {
        let start = Instant::now();
        measured_turns(server);
        time += start.elapsed();
    });
    let after: u64 = server.shards.iter().map(|shard| shard.tables().counters.turns).sum();
    println!("{users} users, {in_flight} in flight each: {} turns", after - before);
    (each * users, time)
}

/// Goes on until every user has so many messages done.
fn run(
    server: &mut Server<Nothing>,
    phones: &mut [Phone],
    in_flight: u64,
    each: u64,
    turns: &mut dyn FnMut(&mut Server<Nothing>),
) {
    let (mut done, mut stuck) = (0, 0);
    let wanted = each * phones.len() as u64;
    while done < wanted {
        for phone in &mut *phones {
            phone.run(server.now_ms, in_flight, each);
        }
        turns(server);
        server.now_ms += 1;
        let before = std::mem::replace(&mut done, phones.iter().map(|phone| phone.done).sum());
        stuck = if done > before { 0 } else { stuck + 1 };
        assert!(stuck < STUCK_ROUNDS, "{done} of {wanted} messages are done");
    }
}

/// A turn of each shard, and what the log's own thread would do meanwhile.
fn turns(server: &mut Server<Nothing>) {
    for index in 0..SHARDS {
        server.turn(index);
    }
    server.commit();
}

#[inline(never)]
fn measured_turns(server: &mut Server<Nothing>) {
    turns(server);
}

// ---- the log

struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

fn append(count: u64) -> (u64, Duration) {
    let settings = Settings { commit_gap_us: 0, ..Settings::default() };
    let (recovered, _) = recover(Nothing, &settings, &mut |_, _| {}).expect("an empty disk");
    let epoch = next_epoch(recovered.highest_epoch, 0);
    let (mut stages, mut committer) =
        recovered.start(epoch, vec![Arc::new(Awake)]).expect("a disk without faults");
    let mut stage = stages.pop().expect("a stage for the wake");
    let (mut now_us, mut time) = (0, Duration::ZERO);
    let batches = count.div_ceil(BATCH);
    for _ in 0..batches {
        now_us += 10;
        let start = Instant::now();
        measured_append(&mut stage, &mut committer, now_us);
        time += start.elapsed();
    }
    (batches * BATCH, time)
}

#[inline(never)]
fn measured_append(stage: &mut Stage, committer: &mut Committer<Nothing>, now_us: u64) {
    let payload = [3_u8; 128];
    let blank = Record::blank(Kind::Message);
    for _ in 0..BATCH {
        let record = Record { stream_kind: 1, stream: 7, payload: &payload, ..blank };
        black_box(stage.append(Lane::Message, black_box(&record)).expect("room"));
    }
    stage.flush();
    black_box(committer.step(now_us));
    while stage.committed().is_some() {}
}

// ---- between shards

/// About what a request between shards weighs.
type Letter = [u64; 8];

fn queue(count: u64) -> (u64, Duration) {
    let mut boxes = mesh::<Letter>(2, 4_096, vec![Doorbell::silent(); 2]);
    let (mut other, mut me) = (boxes.pop().expect("two"), boxes.pop().expect("two"));
    let turns = count.div_ceil(BATCH);
    let start = Instant::now();
    for _ in 0..turns {
        measured_queue(&mut me, &mut other);
    }
    (turns * BATCH, start.elapsed())
}

/// Both ends' work on one core; nothing waits.
#[inline(never)]
fn measured_queue(me: &mut Mailbox<Letter>, other: &mut Mailbox<Letter>) {
    for at in 0..BATCH {
        me.ask(1, [at; 8]).expect("a credit");
    }
    me.ring_doorbells();
    while let Some((from, _, letter)) = other.receive() {
        other.answer(from, letter);
    }
    other.ring_doorbells();
    while let Some(letter) = me.receive() {
        black_box(letter);
    }
}

// ---- the wire

const POSITION: u64 = 58_000_000 << 32 | 4_000_000;
const TIME_MS: u64 = 1_790_000_000_000;

/// Frames in one input, as one read may bring them.
fn parse(count: u64) -> (u64, Duration) {
    let frame = ClientFrame::Send(wire::Send {
        client_id: 123_456,
        confirmed: Confirmed { base: 123_450, map: 0b1010 },
        to: Stream::User(9_876_543_210),
        payload: &PAYLOAD,
        ttl_seconds: 0,
        kind: 0,
        relation: None,
        automatic: false,
    });
    let mut bytes = Vec::new();
    for _ in 0..BATCH {
        wire::write_client_frame(Transport::WebSocket, [1, 2, 3, 4], &frame, &mut bytes);
    }
    let mut parser = upgraded();
    let policy = Policy { frame_bytes_max: myriad::limits::FRAME_BYTES_MAX, origins: &[] };
    let (mut input, mut time) = (bytes.clone(), Duration::ZERO);
    let inputs = count.div_ceil(BATCH);
    for _ in 0..inputs {
        input.copy_from_slice(&bytes); // masked again
        let start = Instant::now();
        let frames = measured_parse(&mut parser, &policy, &mut input);
        time += start.elapsed();
        assert_eq!(frames, BATCH, "every frame is found");
    }
    (inputs * BATCH, time)
}

#[inline(never)]
fn measured_parse(parser: &mut Parser, policy: &Policy<'_>, mut input: &mut [u8]) -> u64 {
    let (mut assembly, mut frames) = (Vec::new(), 0);
    while !input.is_empty() {
        let next = parser.next(black_box(input), &mut assembly, policy).expect("the protocol");
        let (used, Event::Frame(bytes)) = next else { break };
        black_box(ClientFrame::decode(bytes).expect("a frame"));
        frames += 1;
        input = &mut input[used..];
    }
    frames
}

/// A server's parser that has seen its upgrade.
fn upgraded() -> Parser {
    let mut parser = Parser::server();
    let mut request = b"GET /v1/chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: myriad.v1\r\n\r\n"
        .to_vec();
    let policy = Policy { frame_bytes_max: 1_024, origins: &[] };
    let mut assembly = Vec::new();
    let opened = parser.next(&mut request, &mut assembly, &policy).expect("a handshake");
    assert!(matches!(opened.1, Event::Upgraded(_)), "the request is whole");
    parser
}

fn deliver_frame() -> ServerFrame<'static> {
    ServerFrame::Deliver(Deliver {
        stream: None,
        position: POSITION,
        id: MessageId { sender: 9_876_543_211, device: 3, client_id: 123_456 },
        time_ms: TIME_MS,
        kind: 0,
        payload: &PAYLOAD,
        relation: None,
        to: None,
        to_position: 0,
        change: None,
        request: false,
    })
}

fn sent_frame() -> ServerFrame<'static> {
    ServerFrame::Sent(Sent { client_id: 123_456, position: POSITION, time_ms: TIME_MS })
}

fn write(frame: &ServerFrame<'_>, count: u64) -> (u64, Duration) {
    let mut out = Vec::with_capacity(64 * 1024);
    let outputs = count.div_ceil(BATCH);
    let start = Instant::now();
    for _ in 0..outputs {
        out.clear();
        measured_write(frame, &mut out);
    }
    (outputs * BATCH, start.elapsed())
}

#[inline(never)]
fn measured_write(frame: &ServerFrame<'_>, out: &mut Vec<u8>) {
    for _ in 0..BATCH {
        wire::write_server_frame(Transport::WebSocket, black_box(frame), out);
    }
}
