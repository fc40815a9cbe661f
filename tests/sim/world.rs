//! A world in one thread: phones, a network, a server, a disk and the time, all from one seed.
//!
//! ```text
//!  phones == SimNet == shards == ring::mesh      every round: time passes, phones act and run,
//!                        |                       shards take a turn (or don't), the committer
//!                     committer == SharedMemory  steps (or doesn't), something breaks (or not)
//! ```
//!
//! After the last round everything is mended, the world must come to rest, and the checkers look
//! at what everybody got and at what is in the log.

use std::sync::Arc;

use myriad::auth::{self, Keys};
use myriad::clock::Now;
use myriad::io::sim::{Faults as NetFaults, SimNet};
use myriad::log::{self, Faults as DiskFaults, SharedMemory, Store as _};
use wire::client::{SessionOptions, TickMark};

use super::checks::Checks;
use super::phone::{Leaving, Phone};
use super::plan::{Canary, Plan};
use super::random::Random;
use super::server::{Server, Setup};

const SECRET: &[u8] = b"a secret that only the simulation knows";
/// Where the wall clock starts: in 2026, in milliseconds since 1970.
const WALL_MS: u64 = 1_780_000_000_000;
/// How long a mended world may take to come to rest, by its own clock. Long: where a staging ring
/// is tiny, phones that were refused often wait 30 s between attempts and lose to those who were
/// not.
const REST_MS_MAX: u64 = 900_000;
/// Rounds it must be at rest, so that nothing is under way unseen.
const REST_ROUNDS: u32 = 30;

/// See the module.
pub(crate) struct World {
    /// What must hold.
    pub(crate) checks: Checks,
    /// The phones.
    pub(crate) phones: Vec<Phone>,
    /// The chance of this world.
    pub(crate) random: Random,
    /// The disk.
    pub(crate) disk: SharedMemory,
    /// What was done to the server, for reports.
    pub(crate) boots: u32,
    plan: Plan,
    setup: Setup,
    net: SimNet,
    keys: Arc<Keys>,
    server: Option<Server>,
    now: Now,
    committer_stalls_until_ms: u64,
    disk_full_until_ms: Option<u64>,
    /// A fault was planned that a start may meet.
    disk_is_faulty: bool,
    restarts_at_ms: Option<u64>,
    backup: Option<SharedMemory>,
}

impl World {
    /// A world with a running server and phones that are not connected.
    pub(crate) fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let net = SimNet::new(random.next(), plan.net);
        let now = Now { mono_ms: 0, wall_ms: WALL_MS };
        let mut phones = Vec::new();
        for (user, devices) in &plan.users {
            for device in 1..=*devices {
                let ttl_s = 30 * 24 * 3600;
                let token = auth::mint(SECRET, *user, device, ttl_s, WALL_MS / 1000);
                let ack_every = u32::try_from(random.between(1, 5)).unwrap_or(1);
                let options = SessionOptions { ack_every, ..SessionOptions::default() };
                let mut phone = Phone::new((*user, device), token, options);
                phone.hurry(if random.per_mille(plan.hasty_per_mille) { 20 } else { 1 }, 0);
                phone.connects_at_ms = random.below(200);
                phones.push(phone);
            }
        }
        if plan.canary == Some(Canary::PhoneSwaps) {
            phones.iter_mut().for_each(|phone| phone.swaps = true);
        }
        let mut world = Self {
            checks: Checks::default(),
            phones,
            random,
            disk: SharedMemory::new(),
            boots: 0,
            setup: plan.setup.clone(),
            plan,
            net,
            keys: Arc::new(Keys::from_secret(SECRET)),
            server: None,
            now,
            committer_stalls_until_ms: 0,
            disk_full_until_ms: None,
            disk_is_faulty: false,
            restarts_at_ms: None,
            backup: None,
        };
        world.checks.traced_ms = std::env::var_os("MYRIAD_TRACE").map(|_| 0);
        world.boot();
        world
    }

    /// The running server.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Everything the plan says, then the end. The first thing that did not hold is the error.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.rounds {
            self.pass(1, self.plan.step_ms_max);
            self.act();
            self.break_something();
            self.round();
            self.verdict()?;
        }
        self.mend();
        self.come_to_rest()?;
        self.judge()
    }

    /// Phones, shards and committer go once, some of them perhaps not.
    pub(crate) fn round(&mut self) {
        let Self { phones, checks, now, random, net, plan, .. } = self;
        let shards = self.server.as_ref().map_or(0, |server| server.shards.len());
        for phone in phones.iter_mut() {
            if !phone.is_connected() && phone.connects_at_ms <= now.mono_ms && shards > 0 {
                phone.connect(net, random.index(shards), random, now.mono_ms);
            }
            phone.run(checks, now.mono_ms, random);
        }
        let Some(server) = &mut self.server else { return };
        let start = random.index(shards);
        for place in 0..shards {
            let shard = (start + place) % shards;
            if !random.per_mille(plan.lazy_shard_per_mille) {
                server.turn(shard, *now);
                checks.checks_i6_bounded(shard, &server.shards[shard], plan.setup.credits);
            }
        }
        let stalls = now.mono_ms < self.committer_stalls_until_ms;
        if !stalls && !random.per_mille(plan.lazy_committer_per_mille) {
            server.commit(*now);
        }
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, least_ms: u64, most_ms: u64) {
        let ms = self.random.between(least_ms, most_ms);
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        if let Some(traced_ms) = &mut self.checks.traced_ms {
            *traced_ms = self.now.mono_ms;
        }
    }

    fn verdict(&self) -> Result<(), String> {
        self.checks.violation().map_or(Ok(()), |what| Err(what.to_owned()))
    }

    /// What users and their phones do.
    fn act(&mut self) {
        for index in 0..self.phones.len() {
            let now_ms = self.now.mono_ms;
            let chances = self.plan.chances;
            if self.random.per_mille(chances.write) {
                let to = self.somebody();
                let burst = if self.random.per_mille(100) { self.random.between(2, 80) } else { 1 };
                for _ in 0..burst {
                    self.write(index, to);
                }
            }
            let random = &mut self.random;
            let phone = &mut self.phones[index];
            if random.per_mille(chances.chatter) {
                chatter(phone, random, &self.plan.users);
            }
            if random.per_mille(chances.leave) {
                let how = match random.below(8) {
                    0..=2 => Leaving::Close,
                    3..=4 => Leaving::Reset,
                    5 => Leaving::Vanish,
                    _ => Leaving::TakeOver,
                };
                phone.leave(how);
                phone.connects_at_ms = now_ms + random.below(self.plan.away_ms_max);
            }
            if random.per_mille(chances.leave / 4) {
                phone.restart();
                phone.connects_at_ms = now_ms + random.below(self.plan.away_ms_max);
            }
            if random.per_mille(chances.leave) {
                phone.tidy_up();
            }
            if random.per_mille(chances.stall) {
                phone.stalled_until_ms = now_ms + random.below(3_000);
            }
        }
    }

    fn somebody(&mut self) -> u64 {
        if self.random.per_mille(10) {
            return 999; // a user who never logged in
        }
        let index = self.random.index(self.plan.users.len());
        self.plan.users[index].0
    }

    /// The user of a phone writes something to somebody.
    pub(crate) fn write(&mut self, index: usize, to: u64) {
        let most = self.setup.rules.payload_bytes_max as u64;
        let random = &mut self.random;
        let bytes = match random.below(40) {
            0 => 0,
            1 => most,
            2..=4 => random.below(most),
            _ => random.below(200),
        };
        let fill = random.next().to_le_bytes();
        let payload: Vec<u8> =
            fill.iter().copied().cycle().take(usize::try_from(bytes).unwrap_or(0)).collect();
        self.phones[index].write(to, &payload, &mut self.checks);
    }

    /// What happens to the server.
    fn break_something(&mut self) {
        let now_ms = self.now.mono_ms;
        if self.disk_full_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            self.disk_full_until_ms = None;
            self.disk.set_faults(DiskFaults::default());
        }
        if self.restarts_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.boot();
        }
        let failed = self.server.as_ref().is_some_and(|server| server.has_failed);
        if failed && self.random.per_mille(30) {
            self.crash();
        }
        let chances = self.plan.chances;
        if self.random.per_mille(chances.committer_stall) {
            self.committer_stalls_until_ms = now_ms + self.random.below(1_500);
        }
        if self.random.per_mille(chances.disk_full) {
            self.disk_full_until_ms = Some(now_ms + self.random.below(5_000));
            let bytes_max = Some(self.disk_bytes());
            self.disk.set_faults(DiskFaults { bytes_max, ..DiskFaults::default() });
        }
        if self.random.per_mille(chances.disk_fault) && self.disk_full_until_ms.is_none() {
            let after = Some(u32::try_from(self.random.below(6)).unwrap_or(0));
            let faults = match self.random.below(3) {
                0 => DiskFaults { failing_sync: after, ..DiskFaults::default() },
                1 => DiskFaults { failing_write: after, ..DiskFaults::default() },
                _ => DiskFaults { dies_after: after, ..DiskFaults::default() },
            };
            self.disk.set_faults(faults);
            self.disk_is_faulty = true;
        }
        if self.plan.canary == Some(Canary::DiskForgets) && self.random.per_mille(20) {
            self.backup = Some(self.disk.fork());
        }
        if self.random.per_mille(chances.crash) {
            self.crash();
        }
        if self.random.per_mille(chances.drain) {
            self.drain();
        }
    }

    fn disk_bytes(&self) -> u64 {
        let segments = self.disk.segments().unwrap_or_default();
        segments.iter().map(|segment| self.disk.bytes(*segment).unwrap_or(0)).sum()
    }

    /// The process ends at once, or the whole host does; another start follows later.
    fn crash(&mut self) {
        self.checks.trace(|| "crash".to_owned());
        self.server = None;
        if self.random.per_mille(500) {
            let keeps = self.random.below(1001);
            let random = &mut self.random;
            self.disk.cut_power(&mut |_, _| random.per_mille(keeps));
        }
        if let Some(backup) = self.backup.take() {
            self.disk = backup;
        }
        let bytes_max = self.disk_full_until_ms.map(|_| self.disk_bytes());
        self.disk.set_faults(DiskFaults { bytes_max, ..DiskFaults::default() });
        self.restarts_at_ms = Some(self.now.mono_ms + self.random.between(1, 500));
    }

    /// The server is asked to stop, and does.
    fn drain(&mut self) {
        let Some(server) = &self.server else { return };
        server.drain(1);
        for _ in 0..self.random.below(50) {
            self.pass(1, 10);
            self.round();
        }
        if let Some(server) = &self.server {
            server.drain(2);
        }
        for _ in 0..self.random.below(400) {
            self.pass(1, 10);
            self.round();
        }
        self.crash();
    }

    /// A start, with perhaps another number of shards. One that fails is tried again later.
    fn boot(&mut self) {
        self.restarts_at_ms = None;
        if self.boots > 0 && self.plan.shards_max > 1 {
            let most = self.plan.shards_max as u64;
            self.setup.shards = usize::try_from(self.random.between(1, most)).unwrap_or(1);
        }
        match Server::start(&self.setup, &self.net, &self.disk, &self.keys, self.now) {
            Ok(server) => {
                self.boots += 1;
                self.checks.booted(self.now.wall_ms, server.epoch());
                self.server = Some(server);
            }
            Err(error) => {
                // Only what is wrong with the disk on purpose may keep a server from starting.
                let excused = self.disk_full_until_ms.is_some() || self.disk_is_faulty;
                if !excused || error.contains("damaged") {
                    self.checks.violated(format!("start: {error}"));
                }
                self.checks.trace(|| format!("no start: {error}"));
                if self.disk_full_until_ms.is_none() {
                    self.disk_is_faulty = false;
                    self.disk.set_faults(DiskFaults::default());
                }
                self.restarts_at_ms = Some(self.now.mono_ms + 200);
            }
        }
    }

    /// Everything works again, and nobody does anything new.
    pub(crate) fn mend(&mut self) {
        self.net.set_faults(NetFaults::none());
        self.disk_full_until_ms = None;
        self.disk_is_faulty = false;
        self.disk.set_faults(DiskFaults::default());
        self.committer_stalls_until_ms = 0;
        self.plan.lazy_committer_per_mille = 0;
        self.plan.lazy_shard_per_mille = 0;
        if self.server.as_ref().is_some_and(|server| server.has_failed) {
            self.crash();
        }
        if self.restarts_at_ms.is_some() || self.server.is_none() {
            self.backup = None;
            self.pass(1, 5);
            self.boot();
        }
        for phone in &mut self.phones {
            phone.hurry(1, self.now.mono_ms);
            phone.stalled_until_ms = 0;
            phone.tidy_up();
            phone.connects_at_ms = phone.connects_at_ms.min(self.now.mono_ms + 1_000);
        }
    }

    /// Goes on until nothing happens any more.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), String> {
        let end_ms = self.now.mono_ms + REST_MS_MAX;
        let mut rested = 0;
        while rested < REST_ROUNDS {
            self.pass(5, 40);
            self.round();
            self.verdict()?;
            let settled = self.phones.iter().all(Phone::is_settled);
            let server = self.server.as_ref();
            let quiet = server.is_some_and(|server| server.is_quiet() && server.is_drained());
            rested = if settled && quiet { rested + 1 } else { 0 };
            if self.now.mono_ms > end_ms {
                return Err(format!("I5: no rest after the end: {}", self.unrest()));
            }
        }
        Ok(())
    }

    fn unrest(&self) -> String {
        let mut out = String::new();
        for phone in self.phones.iter().filter(|phone| !phone.is_settled()) {
            let (live, unanswered) = (phone.session.is_live(), phone.session.unanswered());
            let (name, link, byes) = (phone.name, phone.is_connected(), phone.goodbyes);
            out += &format!("{name:?} link {link} live {live} unanswered {unanswered} {byes:?}; ");
        }
        let loads = self.server.iter().flat_map(|server| &server.shards);
        for shard in loads {
            out += &format!("{:?}; ", shard.load());
        }
        let drained = self.server.as_ref().is_some_and(Server::is_drained);
        out + &format!("drained: {drained}")
    }

    /// What everybody got, and what is in the log.
    pub(crate) fn judge(&mut self) -> Result<(), String> {
        for phone in &self.phones {
            let unticked = phone.session.state().unticked;
            for message in unticked.iter().filter(|message| message.device == phone.name.1) {
                if message.mark < TickMark::Has {
                    let (name, id) = (phone.name, message.client_id);
                    self.checks.violated(format!("ticks: {name:?} was never told of {id}"));
                }
            }
        }
        self.server = None;
        let checks = &mut self.checks;
        log::recover(self.disk.fork(), &self.setup.log, &mut |_, record| checks.recorded(record))
            .map_err(|error| format!("the log can't be read at the end: {error}"))?;
        self.checks.checks_i1_acked_is_kept();
        self.verdict()
    }
}

/// What phones say beside messages.
fn chatter(phone: &mut Phone, random: &mut Random, users: &[(u64, u32)]) {
    let peer = users[random.index(users.len())].0;
    match random.below(5) {
        0 => phone.session.typing(peer, random.per_mille(500)),
        1 => {
            let watched: Vec<u64> = users.iter().map(|(user, _)| *user).take(8).collect();
            phone.session.watch(&watched).expect("few users");
        }
        2 => phone.session.set_active(random.per_mille(500)),
        3 => phone.session.ping(),
        _ => phone.session.read(Some(peer), phone.session.received_up_to()),
    }
}
