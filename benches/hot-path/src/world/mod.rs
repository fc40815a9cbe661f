//! A whole server in one thread, for benchmarks that count: real shards, real rules, the real log
//! on whatever disk it is given, the readiness driver over loopback, and phones.
//!
//! Owner: the thread of the benchmark. Nothing here sleeps: a turn of every shard, a step of the
//! committer and a look at every phone take turns, so the same calls give the same work. Time is
//! a number that whoever runs the world moves on. Deliberately not here: what is counted.

#![allow(
    dead_code,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may fail by panicking, and each uses its own part of this"
)]

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use client::Connection;
use myriad::auth::{self, Keys};
use myriad::clock::Now;
use myriad::io::Driver as _;
use myriad::io::ready::Ready;
use myriad::limits;
use myriad::log::{self, Committer, Settings, Step, Store, StoreReader, Wake};
use myriad::path::Rules;
use myriad::ring;
use myriad::shard::{Desk, Drain, Parts, Shard};
use myriad::state::order::Order;
use myriad::state::placement::Placement;
use myriad::state::{Positions, Tables};
use wire::Stream;
use wire::client::{ClientEvent, Session, SessionOptions, TickMark};

pub(crate) const SHARDS: usize = 2;
/// Payload of a message.
pub(crate) const PAYLOAD: [u8; 150] = [7; 150];
const SECRET: &[u8] = b"a secret that only this benchmark knows";
/// When the world begins, milliseconds since 1970.
const WALL_MS: u64 = 1_790_000_000_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// Letters under way between two shards; the largest that a server has.
const CREDITS: usize = 1_024;

pub(crate) type RealShard<S> = Shard<Ready, StoreReader<S>>;

/// Two shards on two listeners, and their log.
pub(crate) struct Server<S: Store> {
    pub(crate) shards: Vec<RealShard<S>>,
    pub(crate) committer: Committer<S>,
    pub(crate) listen: Vec<SocketAddr>,
    /// Milliseconds since the start. Whoever runs the world moves it on.
    pub(crate) now_ms: u64,
    desk: Desk,
}

/// The shards never sleep here.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

impl<S: Store + Clone> Server<S> {
    /// A server with room for so many users, on an empty disk.
    pub(crate) fn start(disk: &S, users: usize) -> Self {
        let settings = Settings { commit_gap_us: 0, ..Settings::default() };
        let (recovered, _) =
            log::recover(disk.clone(), &settings, &mut |_, _| {}).expect("an empty disk is a log");
        let epoch = log::next_epoch(recovered.highest_epoch, WALL_MS);
        let wakes = (0..SHARDS).map(|_| Arc::new(Awake) as Arc<dyn Wake>).collect();
        let (stages, committer) = recovered.start(epoch, wakes).expect("a disk without faults");
        let places = users.next_power_of_two().max(32);
        let (listen, drivers): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| driver(places)).unzip();
        let doorbells: Vec<_> = drivers.iter().map(Ready::doorbell).collect();
        let desk = Desk::new(&doorbells);
        let mailboxes = ring::mesh(SHARDS, CREDITS, doorbells);
        // Users exist as soon as somebody speaks of them: most here never log in.
        let rules = Rules { unknown_users_allowed: true, ..Rules::default() };
        let (rules, epochs) = (Arc::new(rules), Arc::new(AtomicU32::new(epoch)));
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
                tables: Tables::new(places, places, places),
                positions: Positions::new(epoch),
                epochs: Arc::clone(&epochs),
                placement: Placement::new(SHARDS),
                rules: Arc::clone(&rules),
                keys: Arc::clone(&keys),
                side: None,
                orders: desk.of(me),
                expiry_held: false,
                drain: Arc::new(Drain::default()),
                pressure: Arc::default(),
                sessions_max: places,
                credits: CREDITS,
            };
            Shard::new(parts, now(0))
        });
        let shards = shards.collect();
        Self { shards, committer, listen, now_ms: 0, desk }
    }

    /// A turn of the shard at `index`.
    pub(crate) fn turn(&mut self, index: usize) {
        let now = now(self.now_ms);
        let goes_on = self.shards[index].turn(&|| now, false).expect("the driver polls");
        assert!(goes_on, "nobody drains it");
    }

    /// Commits until nothing is left to commit; how many records and bytes that were.
    pub(crate) fn commit(&mut self) -> (u64, u64) {
        let mut sum = (0, 0);
        while let Step::Committed { records, bytes, .. } = self.committer.step(self.now_ms * 1000) {
            sum = (sum.0 + u64::from(records), sum.1 + bytes);
        }
        sum
    }

    /// Gives orders and waits until all are obeyed.
    pub(crate) fn order(&mut self, orders: impl Iterator<Item = Order>) {
        let left = Arc::new(AtomicU32::new(0));
        for order in orders {
            left.fetch_add(1, Ordering::Relaxed);
            let one = Arc::clone(&left);
            let what = format!("{order:?}");
            self.desk.send(
                order,
                Box::new(move |done| {
                    assert!(done.is_ok(), "{what}: {done:?}");
                    one.fetch_sub(1, Ordering::Relaxed);
                }),
            );
            // The way in holds some thousands.
            while left.load(Ordering::Relaxed) > 1_000 {
                self.round();
            }
        }
        while left.load(Ordering::Relaxed) > 0 {
            self.round();
        }
    }

    /// A turn of every shard, and what that commits.
    pub(crate) fn round(&mut self) {
        for index in 0..SHARDS {
            self.turn(index);
        }
        self.commit();
        self.now_ms += 1;
    }

    /// A phone on a TCP connection or a WebSocket to the shard at `shard`.
    pub(crate) fn connect(&mut self, scheme: &str, shard: usize, phone: &Person) -> Phone {
        let url = format!("{scheme}://{}/v1/chat", self.listen[shard]);
        // An upgrade waits for its answer, and the shards run in this thread.
        let asking = thread::spawn(move || Connection::connect(&url, CONNECT_TIMEOUT));
        while !asking.is_finished() {
            self.turn(shard);
            thread::sleep(Duration::from_micros(100));
        }
        let connection = asking.join().expect("no panic").expect("loopback");
        connection.stream().set_nonblocking(true).expect("a socket");
        Phone::new(connection, phone, self.now_ms)
    }
}

fn now(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: WALL_MS + mono_ms }
}

fn driver(connections_max: usize) -> (SocketAddr, Ready) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.set_nonblocking(true).expect("a socket");
    let listen = listener.local_addr().expect("a bound socket");
    let ready = Ready::new(listener, connections_max, limits::RECEIVE_BYTES);
    (listen, ready.expect("a driver"))
}

/// Whose device a phone is, and what it is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub(crate) user: u64,
    pub(crate) device: u32,
    /// To whom it writes.
    pub(crate) peer: Option<u64>,
    /// Its messages are done with this tick. With `Read` it also reads what it gets.
    pub(crate) done: TickMark,
}

/// One device of one user.
pub(crate) struct Phone {
    session: Session,
    connection: Connection,
    person: Person,
    events: Vec<ClientEvent>,
    /// Messages begun.
    pub(crate) written: u64,
    /// Messages done.
    pub(crate) done: u64,
    /// Messages of groups heard.
    pub(crate) heard: u64,
}

impl Phone {
    fn new(connection: Connection, person: &Person, now_ms: u64) -> Self {
        let now_s = (WALL_MS + now_ms) / 1000;
        let token = auth::mint(SECRET, person.user, person.device, 24 * 3_600, now_s);
        let options = SessionOptions { ticks_until: person.done, ..SessionOptions::default() };
        let mut session = Session::new(token, options);
        session.connected(now_ms);
        let (events, person) = (Vec::new(), *person);
        Self { session, connection, person, events, written: 0, done: 0, heard: 0 }
    }

    /// Says something in a group.
    pub(crate) fn say(&mut self, group: u64) {
        self.session.send(Stream::Group(group), &PAYLOAD, 0).expect("few are in flight");
        let Self { session, connection, .. } = self;
        session.take_output(&mut |frame| connection.queue(frame));
        connection.flush().expect("the server stays");
    }

    pub(crate) fn is_live(&self) -> bool {
        self.session.is_live()
    }

    /// Nothing of any group is known to be missing.
    pub(crate) fn is_level(&self) -> bool {
        self.session.is_level()
    }

    /// Hears what came, and writes while fewer than `in_flight` messages are under way and fewer
    /// than `written_max` were begun.
    pub(crate) fn run(&mut self, now_ms: u64, in_flight: u64, written_max: u64) {
        let Self { session, connection, events, .. } = self;
        session.tick(now_ms);
        let heard = connection.receive(&mut |frame| session.on_frame(frame, now_ms, events));
        heard.expect("the server stays");
        for event in self.events.drain(..) {
            match event {
                ClientEvent::Message { peer, position, .. }
                    if self.person.done == TickMark::Read =>
                {
                    self.session.read(Some(peer), position);
                }
                ClientEvent::GroupMessage { .. } => self.heard += 1,
                ClientEvent::Tick { mark, .. } if mark == self.person.done => self.done += 1,
                ClientEvent::Goodbye { reason, .. } => panic!("goodbye: {reason}"),
                _ => {}
            }
        }
        while let Some(peer) = self.person.peer
            && self.session.is_live()
            && self.written < (self.done + in_flight).min(written_max)
        {
            self.session.send(Stream::User(peer), &PAYLOAD, 0).expect("few are in flight");
            self.written += 1;
        }
        let Self { session, connection, .. } = self;
        session.take_output(&mut |frame| connection.queue(frame));
        connection.flush().expect("the server stays");
    }
}
