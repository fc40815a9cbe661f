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
use myriad::io::sim::SimNet;
use myriad::log::{self, SharedMemory};
use myriad::metrics::Counters;
use wire::Stream;
use wire::client::SessionOptions;

use super::checks::Checks;
use super::groups::Director;
use super::people::People;
use super::phone::{Leaving, Phone};
use super::plan::{Plan, Trick};
use super::random::Random;
use super::server::{Server, Setup};
use super::store;
use super::trouble::{CLOCK_JUMP_MS_MAX, Toll, Troubles};

pub(crate) const SECRET: &[u8] = b"a secret that only the simulation knows";
/// Where the wall clock starts: in 2026, in milliseconds since 1970.
pub(crate) const WALL_MS: u64 = 1_780_000_000_000;
/// When tokens were issued: no clock that is set back may show a time before.
const TOKENS_ISSUED_S: u64 = (WALL_MS - CLOCK_JUMP_MS_MAX) / 1000 - 60;
/// How long they last: longer than any world, whatever its clock shows.
const TOKEN_TTL_S: u64 = 60 * 24 * 3600;
/// How long a mended world may take to come to rest, by its own clock. Long: where a staging ring
/// is tiny, phones that were refused often wait 30 s between attempts and lose to those who were
/// not.
const REST_MS_MAX: u64 = 900_000;
/// Rounds it must be at rest, so that nothing is under way unseen.
const REST_ROUNDS: u32 = 30;
/// The same where there are groups: word of what is to be fetched is paced, and acks wait.
const REST_ROUNDS_GROUPS: u32 = 120;

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
    pub(crate) toll: Toll,
    pub(super) plan: Plan,
    pub(super) setup: Setup,
    pub(super) net: SimNet,
    pub(super) keys: Arc<Keys>,
    pub(super) server: Option<Server>,
    pub(super) now: Now,
    pub(super) troubles: Troubles,
    /// The chance of what is pressed.
    pub(super) press: Random,
    /// What people think of each other.
    pub(crate) people: People,
    /// The chance of their whims.
    pub(super) whims: Random,
    /// Who makes and changes groups.
    pub(super) director: Director,
    /// What the last boot counted, at the end.
    pub(crate) counted: Counters,
}

impl World {
    /// A world with a running server and phones that are not connected.
    pub(crate) fn new(plan: Plan) -> Self {
        let seed = plan.seed;
        let mut random = Random::new(seed);
        let net = SimNet::new(random.next(), plan.net);
        let now = Now { mono_ms: 0, wall_ms: WALL_MS };
        let mut phones = Vec::new();
        for (user, devices) in &plan.users {
            for device in 1..=*devices {
                let token = auth::mint(SECRET, *user, device, TOKEN_TTL_S, TOKENS_ISSUED_S);
                let ack_every = u32::try_from(random.between(1, 5)).unwrap_or(1);
                let options = SessionOptions { ack_every, ..SessionOptions::default() };
                let mut phone = Phone::new((*user, device), token, options);
                phone.hurry(if random.per_mille(plan.hasty_per_mille) { 20 } else { 1 }, 0);
                phone.pause_ms_max = plan.pause_ms_max;
                phone.connects_at_ms = random.below(plan.pause_ms_max.max(plan.first_ms_max));
                phones.push(phone);
            }
        }
        if plan.trick == Some(Trick::PhoneSwaps) {
            phones.iter_mut().for_each(|phone| phone.swaps = true);
        }
        let mut world = Self {
            checks: Checks::default(),
            phones,
            random,
            disk: SharedMemory::new(),
            toll: Toll::default(),
            setup: plan.setup.clone(),
            plan,
            net,
            keys: Arc::new(Keys::from_secret(SECRET)),
            server: None,
            now,
            troubles: Troubles::default(),
            counted: Counters::default(),
            people: People::default(),
            whims: Random::new(seed ^ 0x57u64.rotate_left(40)),
            press: Random::new(seed ^ 0x9eu64.rotate_left(40)),
            director: Director::new(seed),
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
            self.change_people();
            self.direct_groups();
            self.break_something();
            self.round();
            self.verdict()?;
        }
        self.mend();
        self.verdict()?;
        self.come_to_rest()?;
        self.judge()
    }

    /// What happened so far: completions handed to shards, actions of the network and of the disk.
    /// Turns and reads that find nothing to do are none.
    pub(crate) fn events(&self) -> u64 {
        self.net.events() + self.disk.actions() + self.toll.former_disk_actions
    }

    /// Phones, shards and committer go once, some of them perhaps not. A process whose time has
    /// come dies at once.
    pub(crate) fn round(&mut self) {
        self.everybody_goes();
        self.hear_of_groups();
        if self.disk.has_died() && self.server.is_some() {
            self.crash();
        }
    }

    fn everybody_goes(&mut self) {
        let Self { phones, checks, now, random, net, plan, troubles, people, .. } = self;
        let shards = self.server.as_ref().map_or(0, |server| server.shards.len());
        for phone in phones.iter_mut() {
            if !phone.is_connected() && phone.connects_at_ms <= now.mono_ms && shards > 0 {
                phone.connect(net, random.index(shards), random, now.mono_ms);
                checks.connected(phone.name);
            }
            phone.run(checks, now.mono_ms, random);
        }
        let Some(server) = &mut self.server else { return };
        let start = random.index(shards);
        for place in 0..shards {
            let shard = (start + place) % shards;
            let stalls = troubles
                .shard_stalls
                .is_some_and(|(stalled, until_ms)| stalled == shard && now.mono_ms < until_ms);
            if !stalls && !random.per_mille(plan.lazy_shard_per_mille) {
                server.turn(shard, *now);
                people.turned(shard).into_iter().for_each(|number| checks.obeyed(number));
                checks.checks_i6_bounded(shard, &server.shards[shard], plan.setup.credits);
            }
        }
        let stalls = now.mono_ms < troubles.committer_stalls_until_ms;
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

    /// Time passes, in small steps, until a start would not read any record like this any more: a
    /// checkpoint stands for them.
    #[allow(dead_code, reason = "only some test programs with worlds do this")]
    pub(crate) fn pass_checkpoints(&mut self, mut is_it: impl FnMut(&log::Record<'_>) -> bool) {
        for _ in 0..1_000 {
            let mut is_read = false;
            let read = store::read(&self.disk, &self.setup, &mut |record| is_read |= is_it(record));
            read.expect("the log is whole");
            if !is_read {
                return;
            }
            for _ in 0..100 {
                self.pass(10, 20);
                self.round();
            }
        }
        panic!("no checkpoint was made");
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
        let ttl_s = if random.per_mille(self.plan.chances.short_lived) {
            u32::try_from(random.between(1, 20)).unwrap_or(1)
        } else {
            0
        };
        let deletes = random.per_mille(self.plan.chances.delete);
        let phone = &mut self.phones[index];
        phone.write(Stream::User(to), &payload, ttl_s, None, &mut self.checks);
        if deletes {
            phone.delete_last(&mut self.checks);
        }
    }

    /// Goes on until nothing happens any more.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), String> {
        let end_ms = self.now.mono_ms + REST_MS_MAX;
        let mut rested = 0;
        let rounds = if self.plan.groups > 0 { REST_ROUNDS_GROUPS } else { REST_ROUNDS };
        while rested < rounds {
            self.pass(5, 40);
            self.round();
            self.hear_answers();
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
        for shard in self.server.take().iter().flat_map(|server| &server.shards) {
            self.counted.add(&shard.tables().counters);
        }
        let Self { checks, phones, disk, setup, .. } = self;
        phones.iter().for_each(|phone| checks.checks_ticks_were_told(phone));
        checks.checks_ticks_were_true();
        checks.log_begins();
        store::read(disk, setup, &mut |record| checks.recorded(record))
            .map_err(|error| format!("I1: the log can't be read at the end: {error}"))?;
        checks.checks_i1_everybody_got_everything();
        checks.checks_groups_at_the_end();
        checks.checks_i3_swaps_were_mended();
        checks.checks_blocked_is_never_delivered_and_not_tellable();
        checks.checks_i5_every_send_was_answered();
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
