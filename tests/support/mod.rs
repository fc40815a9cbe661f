//! What the end-to-end tests share: a real server process with its folder, tokens for it, and the
//! well-behaved pair that must not notice what the others do.
//!
//! Invariants: a server never outlives its test, nor its folder. Limits of the host's speed are
//! generous on purpose: these tests run beside each other on few cores. Deliberately not here: the
//! client that breaks rules (`raw`), and promises themselves.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking, and each test binary uses its own part of this"
)]

pub(crate) mod group;
pub(crate) mod raw;
pub(crate) mod terminal;

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use loadgen::process::{Home, ProcessError, ServeOptions, ServerProcess};
use loadgen::{ClientEvent, Peer, PeerError, TickMark, usage};

use raw::Raw;

/// Longest wait for something that must happen.
pub(crate) const WAIT: Duration = Duration::from_secs(20);
/// Wait for something that must not happen.
pub(crate) const QUIET: Duration = Duration::from_millis(400);
/// Both ways to carry frames.
pub(crate) const TRANSPORTS: [&str; 2] = ["tcp", "ws"];

/// Small tables and segments: dozens of servers start within a minute.
const SMALL: [&str; 8] = [
    "--sessions-max",
    "2000",
    "--users-max",
    "10000",
    "--pairs-max",
    "20000",
    "--segment-bytes",
    "4194304",
];

/// A running server with its folder.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its folder and secret.
    pub(crate) home: Home,
    serve: ServeOptions,
    process: Option<ServerProcess>,
}

impl Server {
    /// Starts one on a free port in a fresh folder.
    pub(crate) fn start(shards: usize, arguments: &[&str]) -> Self {
        Self::start_in(Home::new().unwrap(), shards, arguments)
    }

    /// Starts one in a folder somebody prepared.
    pub(crate) fn start_in(home: Home, shards: usize, arguments: &[&str]) -> Self {
        let serve = options(shards, arguments);
        let process = Some(ServerProcess::start(&serve, &home).unwrap());
        Self { home, serve, process }
    }

    /// A second process with the same settings on the same folder.
    pub(crate) fn start_another(&self) -> Result<ServerProcess, ProcessError> {
        ServerProcess::start(&self.serve, &self.home)
    }

    fn process(&self) -> &ServerProcess {
        self.process.as_ref().expect("the server runs")
    }

    /// Its HTTP API; start it with `--api-listen`.
    pub(crate) fn api(&self) -> String {
        self.process().api().expect("it has an HTTP API")
    }

    /// Kills it on the spot.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("the server runs").kill().unwrap();
    }

    /// Starts it again after its end.
    pub(crate) fn start_again(&mut self) {
        self.process = Some(ServerProcess::start(&self.serve, &self.home).unwrap());
    }

    /// Starts it again after its end with other settings.
    pub(crate) fn start_again_with(&mut self, arguments: &[&str]) {
        self.serve = options(self.serve.shards, arguments);
        self.start_again();
    }

    /// Kills it on the spot and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.take().expect("the server runs").kill().unwrap();
        self.process = Some(ServerProcess::start(&self.serve, &self.home).unwrap());
    }

    /// Kills it on the spot and starts it with another number of shards.
    pub(crate) fn restart_with(&mut self, shards: usize) {
        self.serve.shards = shards;
        self.kill_and_restart();
    }

    /// Kills it on the spot and starts it with other settings.
    pub(crate) fn restart_with_arguments(&mut self, arguments: &[&str]) {
        self.serve = options(self.serve.shards, arguments);
        self.kill_and_restart();
    }

    /// Ends it in order and starts it again.
    pub(crate) fn drain_and_restart(&mut self) {
        let status = self.stop();
        assert!(status.success(), "{status} after SIGTERM: {}", self.home.log_tail());
        self.process = Some(ServerProcess::start(&self.serve, &self.home).unwrap());
    }

    /// SIGTERM, without waiting.
    pub(crate) fn terminate(&self) {
        self.process().terminate().unwrap();
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended()
    }

    /// Waits for its end after [`Server::terminate`].
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.process.take().expect("the server runs").wait(WAIT, &self.home).unwrap()
    }

    /// Whether it still runs.
    pub(crate) fn lives(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().unwrap().is_none())
    }

    /// Where it listens.
    pub(crate) fn listen(&self) -> String {
        self.process().listen().to_owned()
    }

    /// What it printed when it began to listen: a line of JSON.
    pub(crate) fn first_line(&self) -> &str {
        self.process().first_line()
    }

    /// The address of a transport.
    pub(crate) fn url(&self, transport: &str) -> String {
        self.process().url(transport)
    }

    /// A token that is good for an hour.
    pub(crate) fn token(&self, user: u64, device: u32) -> String {
        self.token_until(user, device, now_s() + 3600)
    }

    /// A token that ends at this second since 1970.
    pub(crate) fn token_until(&self, user: u64, device: u32, exp: u64) -> String {
        token_signed(self.home.secret(), user, device, exp)
    }

    /// A logged-in client that keeps the rules.
    pub(crate) fn peer(&self, transport: &str, user: u64, device: u32) -> Peer {
        Peer::login(&self.url(transport), &self.token(user, device)).unwrap()
    }

    /// A logged-in client that does only what it is told.
    pub(crate) fn raw(&self, transport: &str, user: u64, device: u32) -> Raw {
        Raw::login(&self.listen(), transport, &self.token(user, device))
    }

    /// Makes users known: each logs in once and goes away.
    pub(crate) fn provision(&self, users: impl IntoIterator<Item = u64>) {
        for user in users {
            self.raw("tcp", user, 1);
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        usage::memory(self.process().pid()).unwrap().resident_bytes
    }
}

/// How this repository's binary is started.
pub(crate) fn options(shards: usize, arguments: &[&str]) -> ServeOptions {
    let mut serve = ServeOptions::new(env!("CARGO_BIN_EXE_myriad"));
    serve.shards = shards;
    if let Ok(driver) = std::env::var("MYRIAD_TEST_DRIVER") {
        serve.driver = driver; // scripts/test runs these tests once with each
    }
    let small = SMALL.chunks(2).filter(|pair| !arguments.contains(&pair[0])).flatten();
    serve.arguments = small.chain(arguments).map(|&argument| argument.to_owned()).collect();
    serve
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// A token signed with any HS256 secret.
pub(crate) fn token_signed(secret: &[u8], user: u64, device: u32, exp: u64) -> String {
    let claims = serde_json::json!({ "sub": user.to_string(), "device": device, "exp": exp });
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

/// The next message for a peer: its payload and position.
pub(crate) fn next_message(peer: &mut Peer) -> (Vec<u8>, u64) {
    let is_message = |event: &ClientEvent| matches!(event, ClientEvent::Message { .. });
    match peer.wait_for(is_message, WAIT).unwrap() {
        ClientEvent::Message { payload, position, .. } => (payload, position),
        other => unreachable!("{other:?}"),
    }
}

/// Waits until a message of this peer carries a mark; says where it stands.
pub(crate) fn ticked(peer: &mut Peer, client_id: u64, mark: TickMark) -> u64 {
    let is_it = |event: &ClientEvent| {
        matches!(event, ClientEvent::Tick { client_id: id, mark: m, .. }
            if *id == client_id && *m == mark)
    };
    match peer.wait_for(is_it, WAIT).unwrap() {
        ClientEvent::Tick { position, .. } => position,
        other => unreachable!("{other:?}"),
    }
}

/// Two people who chat all the time, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Pair {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Duration)>,
}

impl Pair {
    /// Both log in and begin. They are users `first` and `first + 1`.
    pub(crate) fn start(server: &Server, first: u64) -> Self {
        let mut ann = server.peer("ws", first, 1);
        let mut bob = server.peer("tcp", first + 1, 1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut count, mut slowest) = (0, Duration::ZERO);
            // They go on for a moment after everybody else is done.
            while !stopped.load(Ordering::Acquire) || count < 5 {
                count += 1;
                let began = Instant::now();
                exchange(&mut ann, &mut bob, first + 1, count).unwrap();
                slowest = slowest.max(began.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            (count, slowest)
        });
        Self { stop, thread }
    }

    /// They end. Panics if anything of theirs was lost, refused, or took longer than [`WAIT`].
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::Release);
        let (count, slowest) = self.thread.join().expect("the well-behaved pair was harmed");
        println!("meanwhile a pair exchanged {count} messages, the slowest in {slowest:?}");
    }
}

/// One message and its three ticks.
fn exchange(ann: &mut Peer, bob: &mut Peer, bob_id: u64, count: u32) -> Result<(), PeerError> {
    let client_id = ann.send(bob_id, count.to_le_bytes())?;
    let expected = count.to_le_bytes();
    let it = bob.wait_for(|event| matches!(event, ClientEvent::Message { .. }), WAIT)?;
    let ClientEvent::Message { payload, position, repeat, peer, .. } = it else { unreachable!() };
    assert_eq!((payload.as_slice(), repeat), (&expected[..], false), "in order, each once");
    bob.read(peer, position)?;
    for mark in [TickMark::Sent, TickMark::Has, TickMark::Read] {
        let is_it = |event: &ClientEvent| {
            matches!(event, ClientEvent::Tick { client_id: id, mark: m, .. }
                if *id == client_id && *m == mark)
        };
        ann.wait_for(is_it, WAIT)?;
    }
    Ok(())
}
