//! Counts what a message costs in allocations once everything is warm: nothing, on a shard.
//!
//! Two real shards with the readiness driver over loopback and the real log on a disk in memory,
//! all in one thread. Counted is what happens inside `turn`: driver, rules, tables, queues between
//! shards, staging. Phones, committer and disk are not. Exits with 1 if anything was allocated.
//! `MYRIAD_BACKTRACES=n` prints where the first n came from.

#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(clippy::expect_used, reason = "a benchmark may fail by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use client::Connection;
use myriad::auth::{self, Keys};
use myriad::clock::{HostClock, wall_ms};
use myriad::io::Driver as _;
use myriad::io::ready::Ready;
use myriad::limits;
use myriad::log::{self, Committer, Settings, SharedMemory, Step, StoreReader, Wake};
use myriad::path::Rules;
use myriad::ring;
use myriad::shard::{Drain, Parts, Shard};
use myriad::state::placement::Placement;
use myriad::state::{Positions, Tables};
use wire::Stream;
use wire::client::{ClientEvent, Session, SessionOptions, TickMark};

/// Messages before the count begins: buffers and pools find their sizes.
const WARM_UP: u64 = 10_000;
/// Messages that are counted, each with all three ticks.
const COUNTED: u64 = 10_000;
/// Messages each user has without the third tick at the most.
const IN_FLIGHT: u64 = 16;
/// The same before the count begins: more, so that every pool is at its largest by then, and few
/// enough that no output of one turn outgrows what a pool keeps (16 KiB).
const IN_FLIGHT_WARM_UP: u64 = 32;
const SHARDS: usize = 2;
const SECRET: &[u8] = b"a secret that only this benchmark knows";

struct Counting;

thread_local! {
    /// Whether allocations are counted at the moment.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BACKTRACES: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    if COUNTS.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if BACKTRACES.get() > 0 {
            BACKTRACES.set(BACKTRACES.get() - 1);
            COUNTS.set(false); // the backtrace allocates itself
            eprintln!("{}", Backtrace::force_capture());
            COUNTS.set(true);
        }
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches cells of the
// thread that need neither allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

type RealShard = Shard<Ready, StoreReader<SharedMemory>>;

/// Two shards on two listeners, and their log.
struct Server {
    shards: Vec<RealShard>,
    committer: Committer<SharedMemory>,
    listen: Vec<SocketAddr>,
    clock: HostClock,
}

/// The shards never sleep here.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

impl Server {
    fn start() -> Self {
        let disk = SharedMemory::new();
        let (recovered, _) = log::recover(disk.clone(), &Settings::default(), &mut |_, _| {})
            .expect("an empty disk is a log");
        let epoch = log::next_epoch(recovered.highest_epoch, wall_ms());
        let wakes = (0..SHARDS).map(|_| Arc::new(Awake) as Arc<dyn Wake>).collect();
        let (stages, committer) = recovered.start(epoch, wakes).expect("a disk without faults");
        let clock = HostClock::start();
        let mut listen = Vec::new();
        let mut drivers = Vec::new();
        for _ in 0..SHARDS {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
            listener.set_nonblocking(true).expect("a socket");
            listen.push(listener.local_addr().expect("a bound socket"));
            drivers.push(Ready::new(listener, 64, limits::RECEIVE_BYTES).expect("a driver"));
        }
        let doorbells = drivers.iter().map(Ready::doorbell).collect();
        let credits = 1_024;
        let mailboxes = ring::mesh(SHARDS, credits, doorbells);
        let (rules, epochs) = (Arc::new(Rules::default()), Arc::new(AtomicU32::new(epoch)));
        let keys = Arc::new(Keys::from_secret(SECRET));
        let pieces = drivers.into_iter().zip(mailboxes).zip(stages);
        let shards = pieces.enumerate().map(|(me, ((driver, mailbox), stage))| {
            let parts = Parts {
                me,
                doorbell: driver.doorbell(),
                driver,
                reader: StoreReader::new(disk.clone()),
                stage,
                mailbox,
                tables: Tables::new(64, 64, 64),
                positions: Positions::new(epoch),
                epochs: Arc::clone(&epochs),
                placement: Placement::new(SHARDS),
                rules: Arc::clone(&rules),
                keys: Arc::clone(&keys),
                side: None,
                expiry_held: false,
                drain: Arc::new(Drain::default()),
                sessions_max: 32,
                credits,
            };
            Shard::new(parts, clock.now())
        });
        let shards = shards.collect();
        Self { shards, committer, listen, clock }
    }

    /// A turn of each shard, counted if `counts`, and a commit if one is due.
    fn turn(&mut self, counts: bool) {
        let clock = self.clock;
        for shard in &mut self.shards {
            COUNTS.set(counts);
            let turned = shard.turn(&|| clock.now(), false);
            COUNTS.set(false);
            assert!(turned.expect("the driver polls"));
        }
        while let Step::Committed { .. } = self.committer.step(clock.now().mono_ms * 1000) {}
    }
}

/// One device of one user.
struct Phone {
    session: Session,
    connection: Connection,
    /// To whom it writes.
    peer: Option<u64>,
    events: Vec<ClientEvent>,
    written: u64,
    read: u64,
}

impl Phone {
    fn connect(listen: SocketAddr, user: u64, device: u32, peer: Option<u64>) -> Self {
        let token = auth::mint(SECRET, user, device, 3_600, wall_ms() / 1000);
        let mut session = Session::new(token, SessionOptions::default());
        session.connected(0);
        // Not WebSocket: its upgrade waits for an answer, and the shards run in this thread.
        let url = format!("tcp://{listen}");
        let connection = Connection::connect(&url, Duration::from_secs(5)).expect("loopback");
        connection.stream().set_nonblocking(true).expect("a socket");
        Self { session, connection, peer, events: Vec::new(), written: 0, read: 0 }
    }

    fn run(&mut self, now_ms: u64, in_flight: u64) {
        let Self { session, connection, events, .. } = self;
        session.tick(now_ms);
        let heard = connection.receive(&mut |frame| session.on_frame(frame, now_ms, events));
        heard.expect("the server stays");
        for event in self.events.drain(..) {
            match event {
                ClientEvent::Message { peer, position, .. } => {
                    self.session.read(Some(peer), position);
                }
                ClientEvent::Tick { mark: TickMark::Read, .. } => self.read += 1,
                ClientEvent::Goodbye { reason, .. } => panic!("goodbye: {reason}"),
                _ => {}
            }
        }
        while let Some(peer) = self.peer
            && self.session.is_live()
            && self.written < self.read + in_flight
        {
            let payload = [7; 150];
            self.session.send(Stream::User(peer), &payload, 0).expect("few are in flight");
            self.written += 1;
        }
        let Self { session, connection, .. } = self;
        session.take_output(&mut |frame| connection.queue(frame));
        connection.flush().expect("the server stays");
    }
}

fn main() -> ExitCode {
    let backtraces = std::env::var("MYRIAD_BACKTRACES").ok().and_then(|count| count.parse().ok());
    let mut server = Server::start();
    let placement = Placement::new(SHARDS);
    let living_at = |home| (1..).find(|user| placement.home(*user) == home).expect("some user");
    let (anna, bert) = (living_at(0), living_at(1));
    // Anna has a second device: own copies. One connects at the other's home: it moves.
    let mut phones = vec![
        Phone::connect(server.listen[0], anna, 1, Some(bert)),
        Phone::connect(server.listen[0], bert, 1, Some(anna)),
        Phone::connect(server.listen[1], anna, 2, None),
    ];
    run_until(&mut server, &mut phones, WARM_UP, false);
    BACKTRACES.set(backtraces.unwrap_or(0));
    let turns = run_until(&mut server, &mut phones, WARM_UP + COUNTED, true);
    let allocations = ALLOCATIONS.get();
    println!("{allocations} allocations in {turns} turns of {COUNTED} fully ticked messages");
    if allocations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Goes on until so many messages have all their ticks; returns the turns.
fn run_until(server: &mut Server, phones: &mut [Phone], ticked: u64, counts: bool) -> u64 {
    let mut turns = 0;
    while phones.iter().map(|phone| phone.read).sum::<u64>() < ticked {
        let now_ms = server.clock.now().mono_ms;
        for phone in &mut *phones {
            phone.run(now_ms, if counts { IN_FLIGHT } else { IN_FLIGHT_WARM_UP });
        }
        server.turn(counts);
        turns += SHARDS as u64;
        assert!(now_ms < 300_000, "stuck: {ticked} messages were to be ticked");
    }
    turns
}
