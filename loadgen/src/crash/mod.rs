//! Kills a server under load, again and again, and proves from outside that it kept its word.
//!
//! ```text
//!  provision ─▶ ( start ─▶ load ─▶ kill -9 ) x rounds, and every few rounds
//!               ( start ─▶ settle ─▶ audit ─▶ SIGTERM )
//! ```
//!
//! Every user has two devices. The first ones write to each other, retry what was not answered,
//! and now and then lose an answer or their connection. The second ones are away during the load
//! and read afterwards everything that is stored, which is how "stored once" is seen. The clients
//! themselves never forget anything: all that is lost, the server lost.
//!
//! Owner: one thread. Deliberately not here: what counts as broken ([`oracle`]).

pub mod oracle;
mod play;
mod report;

use std::io::Write;
use std::time::{Duration, Instant};

use client::{Address, Session, SessionOptions, TickMark};

use crate::interrupt;
use crate::process::{Home, ServerProcess};
use crate::random::Random;
use crate::swarm::Swarm;
use crate::tokens::Mint;
use crate::usage;
use play::Play;

pub use report::{CrashError, Options, Report};

/// Messages of one sender that may wait in one inbox between two audits: below the server's
/// default quota of 2,000.
const WAITING_PER_SENDER_MAX: u32 = 1_500;
/// Rounds between two audits.
const ROUNDS_PER_AUDIT: u32 = 10;
/// Longest wait for everything to arrive, after which it counts as lost.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(90);
/// After everything expected came, so long is waited for what must not come.
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for a server to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Lifetime of the tokens.
const TOKEN_TTL_S: u64 = 24 * 3600;
/// Connections opened between two turns.
const CONNECTS_PER_TURN: usize = 8;

/// Runs it all.
///
/// # Errors
/// The run could not be finished. Broken promises are in the report.
pub fn run(options: &Options) -> Result<Report, CrashError> {
    let started = Instant::now();
    usage::raise_file_limit();
    let home = Home::new()?;
    let mint = Mint::new(home.secret());
    let mut runner = Runner::new(options, &home, &mint)?;
    runner.provision()?;
    for round in 1..=options.rounds {
        runner.round(round)?;
        if round % ROUNDS_PER_AUDIT == 0 || round == options.rounds {
            runner.audit()?;
        }
        if runner.play.oracle.counts().violations > 0 {
            break; // the first failure tells most
        }
    }
    Ok(runner.report(started.elapsed().as_secs_f64()))
}

struct Runner<'o> {
    options: &'o Options,
    home: &'o Home,
    swarm: Swarm,
    play: Play,
    random: Random,
    audits: u32,
    connects: u64,
}

impl<'o> Runner<'o> {
    fn new(options: &'o Options, home: &'o Home, mint: &Mint) -> Result<Self, CrashError> {
        let mut swarm = Swarm::new()?;
        // Indices: first devices 0..sessions, second devices after them.
        for device in [1, 2] {
            for user in 1..=options.sessions as u64 {
                let session = Session::new(
                    mint.token(user, device, TOKEN_TTL_S)?,
                    SessionOptions { ticks_until: TickMark::Has, ..SessionOptions::default() },
                );
                swarm.add(session);
            }
        }
        let per_round = WAITING_PER_SENDER_MAX / ROUNDS_PER_AUDIT;
        let play = Play::new(options, per_round);
        let random = Random::new(options.seed);
        Ok(Self { options, home, swarm, play, random, audits: 0, connects: 0 })
    }

    /// Everybody logs in once, so that users, devices and cursors exist.
    fn provision(&mut self) -> Result<(), CrashError> {
        let (server, address) = self.start()?;
        let all = 0..self.swarm.len();
        self.connect_all(all.clone(), &address, None)?;
        self.wait_for_welcomes(all)?;
        self.stop(server)
    }

    /// Load until a random moment, then the end.
    fn round(&mut self, round: u32) -> Result<(), CrashError> {
        let (server, address) = self.start()?;
        // One life in eight ends while the clients are still logging in.
        let longest_s = if self.random.once_in(8) { 0.06 } else { self.options.seconds_per_round };
        let share = self.random.below(1_000) as f64 / 1_000.0;
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(0.02 + longest_s * share);
        // Quotas bound how much a round may write; it ends before that runs out.
        let enough = self.random.below(self.play.round_messages_max());
        self.play.begin_load();
        self.connect_all(0..self.options.sessions, &address, Some(until))?;
        while Instant::now() < until && self.play.round_messages() <= enough {
            if interrupt::requested() {
                return Err(CrashError::Interrupted);
            }
            let left = until.saturating_duration_since(Instant::now());
            self.swarm.turn(left.min(Duration::from_millis(5)), &mut self.play)?;
            self.reconnect_dropped(&address)?;
        }
        let killed = Instant::now();
        server.kill()?;
        // Clients that lost a frame must not read on behind it: theirs would be a gap of their own.
        while let Some(index) = self.play.dropped.pop() {
            self.swarm.disconnect(index);
        }
        self.play.end_load();
        self.wait_until_closed()?;
        self.say(&format!("round {round}: killed after {:?}", killed - started));
        Ok(())
    }

    /// Everything that was not answered is retried until it is; then the store is read.
    fn audit(&mut self) -> Result<(), CrashError> {
        let (server, address) = self.start()?;
        let firsts = 0..self.options.sessions;
        let seconds = self.options.sessions..self.swarm.len();
        self.connect_all(firsts.clone(), &address, None)?;
        self.wait_for_welcomes(firsts.clone())?;
        self.settle(|runner| {
            let unanswered =
                |index| runner.swarm.client(index).map_or(0, |client| client.session.unanswered());
            (0..runner.options.sessions).map(unanswered).sum::<usize>()
                + runner.play.oracle.undelivered()
        })?;
        self.connect_all(seconds.clone(), &address, None)?;
        self.wait_for_welcomes(seconds)?;
        self.settle(|runner| runner.play.oracle.unaudited(true))?;
        let quiet_until = Instant::now() + QUIET;
        while Instant::now() < quiet_until {
            self.swarm.turn(Duration::from_millis(20), &mut self.play)?;
        }
        self.play.oracle.judge(true);
        self.audits += 1;
        self.say("audit");
        self.stop(server)
    }

    fn start(&mut self) -> Result<(ServerProcess, Address), CrashError> {
        let server = ServerProcess::start(&self.options.serve, self.home)?;
        let address = Address::parse(&server.url(&self.options.transport))?;
        self.play.oracle.server_started();
        Ok((server, address))
    }

    /// SIGTERM: everybody gets a `Goodbye`, and the server ends with 0.
    fn stop(&mut self, mut server: ServerProcess) -> Result<(), CrashError> {
        let live = self.swarm.live_count() as u64;
        let before = self.play.goodbyes;
        server.terminate()?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while server.ended()?.is_none() && Instant::now() < deadline {
            self.swarm.turn(Duration::from_millis(10), &mut self.play)?;
        }
        let status = server.wait(Duration::ZERO, self.home)?;
        self.wait_until_closed()?;
        if !status.success() {
            let words = format!("the server ended with {status} after SIGTERM");
            self.play.oracle.broken(words);
        }
        let goodbyes = self.play.goodbyes - before;
        if goodbyes < live {
            let words = format!("{goodbyes} of {live} clients got a Goodbye at SIGTERM");
            self.play.oracle.broken(words);
        }
        Ok(())
    }

    fn connect_all(
        &mut self,
        indices: std::ops::Range<usize>,
        address: &Address,
        until: Option<Instant>,
    ) -> Result<(), CrashError> {
        for (count, index) in indices.enumerate() {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            self.connect(index, address)?;
            if count % CONNECTS_PER_TURN == 0 {
                self.swarm.turn(Duration::ZERO, &mut self.play)?;
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize, address: &Address) -> Result<(), CrashError> {
        self.connects += 1;
        let (user, device) = self.play.who(index);
        self.play.oracle.connected(user, device);
        self.play.connected(index);
        self.swarm.connect(index, address, None).map_err(CrashError::Connect)
    }

    /// Clients that dropped their connection come back at once, with what they remember.
    fn reconnect_dropped(&mut self, address: &Address) -> Result<(), CrashError> {
        while let Some(index) = self.play.dropped.pop() {
            self.swarm.disconnect(index);
            self.connect(index, address)?;
        }
        Ok(())
    }

    fn wait_for_welcomes(&mut self, indices: std::ops::Range<usize>) -> Result<(), CrashError> {
        let wanted = indices.len();
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let live = |index: &usize| {
                self.swarm.client(*index).is_some_and(|client| client.session.is_live())
            };
            let missing = wanted - indices.clone().filter(live).count();
            if missing == 0 {
                return Ok(());
            }
            if interrupt::requested() {
                return Err(CrashError::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(CrashError::NotWelcome { missing, wanted, log: self.home.log_tail() });
            }
            self.swarm.turn(Duration::from_millis(10), &mut self.play)?;
        }
    }

    /// Goes on until nothing is missing any more, or for too long: then the judge finds it.
    fn settle(&mut self, missing: impl Fn(&Self) -> usize) -> Result<(), CrashError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while Instant::now() < deadline && missing(self) > 0 {
            if interrupt::requested() {
                return Err(CrashError::Interrupted);
            }
            let look_again = Instant::now() + Duration::from_millis(50);
            while Instant::now() < look_again {
                self.swarm.turn(Duration::from_millis(10), &mut self.play)?;
            }
        }
        Ok(())
    }

    /// Reads what a dead server left in the sockets, until all of them are closed.
    fn wait_until_closed(&mut self) -> Result<(), CrashError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.swarm.connected_count() > 0 && Instant::now() < deadline {
            self.swarm.turn(Duration::from_millis(10), &mut self.play)?;
        }
        for index in 0..self.swarm.len() {
            self.swarm.disconnect(index);
        }
        self.play.dropped.clear();
        Ok(())
    }

    fn say(&self, what: &str) {
        if self.options.talkative {
            let counts = self.play.oracle.counts();
            // Nobody has to read it.
            let _ = writeln!(
                std::io::stderr(),
                "{what}; so far {} messages, {} answers ({} repeated), {} deliveries, \
                 {} moved by retry, {} audited, {} violations",
                counts.messages,
                counts.answers,
                counts.answers_repeated,
                counts.deliveries,
                counts.moved_by_retry,
                counts.audited,
                counts.violations,
            );
        }
    }

    fn report(self, seconds: f64) -> Report {
        let counts = self.play.oracle.counts();
        Report {
            passed: counts.violations == 0,
            seed: self.options.seed,
            rounds: self.options.rounds,
            sessions: self.options.sessions,
            audits: self.audits,
            connects: self.connects,
            drops: self.play.drops,
            delayed: self.play.delayed,
            goodbyes: self.play.goodbyes,
            counts,
            violations: self.play.oracle.violations().to_vec(),
            seconds,
        }
    }
}
