//! What a world is like: everything that follows from a seed before the first round.

use myriad::io::sim::Faults as NetFaults;
use myriad::log::Settings;
use myriad::path::Rules;
use myriad::state::placement::Placement;

use super::random::Random;
use super::server::Setup;

/// Chances per round, in a thousand; those of phones are per phone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chances {
    /// A user writes.
    pub(crate) write: u64,
    /// What is written has a short time to live.
    pub(crate) short_lived: u64,
    /// What is written is deleted at once.
    pub(crate) delete: u64,
    /// A phone says something else.
    pub(crate) chatter: u64,
    /// A phone leaves its connection.
    pub(crate) leave: u64,
    /// A phone stops reading for a while.
    pub(crate) stall: u64,
    /// The committer rests: a sync that takes long.
    pub(crate) committer_stall: u64,
    /// A shard gets no turn for a while.
    pub(crate) shard_stall: u64,
    /// The whole host sleeps: time passes and nobody does anything.
    pub(crate) suspend: u64,
    /// Somebody sets the wall clock, forward or back.
    pub(crate) clock_jump: u64,
    /// The disk is full for a while.
    pub(crate) disk_full: u64,
    /// A read, write or sync is going to fail.
    pub(crate) disk_fault: u64,
    /// A bit flips in a segment that is not written any more.
    pub(crate) rot: u64,
    /// A backup is made.
    pub(crate) backup: u64,
    /// At a crash: the disk is lost, and the last backup takes its place.
    pub(crate) restore: u64,
    /// The process or the host dies.
    pub(crate) crash: u64,
    /// At a start: it dies again, at one of its first disk actions.
    pub(crate) crash_in_start: u64,
    /// The server is stopped in order.
    pub(crate) drain: u64,
}

/// What is broken on purpose outside of the server, so that the checkers have something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    /// A crash takes the disk back to an earlier time, and nobody is told.
    DiskForgets,
    /// Phones hear deliveries in the wrong order.
    PhoneSwaps,
}

/// How the server dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Now this way, now the other.
    Either,
    /// The process: the page cache stays.
    Process,
    /// The host: what was not synced is lost, or some sectors of it.
    Host,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The seed of everything else.
    pub(crate) seed: u64,
    /// How the server starts.
    pub(crate) setup: Setup,
    /// Shards of later boots at the most.
    pub(crate) shards_max: usize,
    /// Users and how many devices each has.
    pub(crate) users: Vec<(u64, u32)>,
    /// What the network does.
    pub(crate) net: NetFaults,
    /// Rounds before the end.
    pub(crate) rounds: u32,
    /// Time of a round at the most.
    pub(crate) step_ms_max: u64,
    /// How long a phone stays away at the most.
    pub(crate) away_ms_max: u64,
    /// How long a phone waits at the most before it connects again.
    pub(crate) pause_ms_max: u64,
    /// How long a server that died stays away at the most.
    pub(crate) down_ms_max: u64,
    /// Chance that a shard misses a round.
    pub(crate) lazy_shard_per_mille: u64,
    /// Chance that the committer misses a round.
    pub(crate) lazy_committer_per_mille: u64,
    /// Chance that a phone is one that does not wait before it tries again.
    pub(crate) hasty_per_mille: u64,
    /// Chances of what happens.
    pub(crate) chances: Chances,
    /// Chance per round that a shard is told of another level of overload.
    pub(crate) pressed_per_mille: u64,
    /// Phones connect first at any time up to this.
    pub(crate) first_ms_max: u64,
    /// Chance per round that somebody blocks, unblocks, befriends or hides.
    pub(crate) whims_per_mille: u64,
    /// Groups there may be.
    pub(crate) groups: u64,
    /// How the server dies.
    pub(crate) death: Death,
    /// Starts that die: the first after so many disk actions, the second after so many, ...
    pub(crate) deaths: Vec<u32>,
    /// What is broken on purpose.
    pub(crate) trick: Option<Trick>,
}

/// A chance that most worlds do without.
fn rough(random: &mut Random, chance: u64) -> u64 {
    if random.per_mille(400) { random.below(chance) } else { 0 }
}

impl Plan {
    /// A world in which anything may happen.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x51u64.rotate_left(40));
        let random = &mut random;
        let shards_max = usize::try_from(random.between(1, 3)).unwrap_or(1);
        let credits = [1, 1, 2, 64][random.index(4)];
        let rounds = u32::try_from(random.between(200, 900)).unwrap_or(200);
        let restores = random.per_mille(150);
        let chances = Chances {
            write: random.between(5, 120),
            short_lived: rough(random, 300),
            delete: rough(random, 100),
            chatter: random.below(40),
            leave: random.below(12),
            stall: rough(random, 10),
            committer_stall: rough(random, 10),
            shard_stall: rough(random, 10),
            suspend: rough(random, 4),
            clock_jump: rough(random, 6),
            disk_full: rough(random, 6),
            disk_fault: rough(random, 6),
            rot: rough(random, 10),
            backup: if restores { 10 } else { 0 },
            restore: if restores { 300 } else { 0 },
            crash: rough(random, 12).max(if restores { 6 } else { 0 }),
            crash_in_start: rough(random, 500),
            drain: rough(random, 4),
        };
        Self {
            setup: with_small_groups(
                with_a_narrow_door(setup(random, shards_max, credits), seed),
                seed,
            ),
            shards_max,
            users: users(random, 8, 3),
            net: net(random),
            rounds,
            step_ms_max: random.between(1, 20),
            away_ms_max: random.between(10, 4_000),
            pause_ms_max: 400,
            down_ms_max: 500,
            lazy_shard_per_mille: random.below(500),
            lazy_committer_per_mille: random.below(800),
            hasty_per_mille: rough(random, 500),
            chances,
            pressed_per_mille: pressed(seed),
            groups: if restores { 0 } else { groups(seed) },
            ..Self::calm(seed)
        }
    }

    /// A small world whose server dies every few rounds, and often again while it starts.
    pub(crate) fn of_crashes(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xc4u64.rotate_left(40));
        let random = &mut random;
        let shards_max = usize::try_from(random.between(1, 2)).unwrap_or(1);
        let chances = Chances {
            write: random.between(20, 300),
            short_lived: rough(random, 300),
            delete: rough(random, 100),
            chatter: random.below(20),
            leave: random.below(12),
            disk_fault: rough(random, 20),
            disk_full: rough(random, 20),
            crash: random.between(20, 120),
            crash_in_start: random.below(500),
            ..Chances::default()
        };
        let credits = [1, 2, 64][random.index(3)];
        let mut setup = with_a_narrow_door(setup(random, shards_max, credits), seed);
        setup = with_small_groups(setup, seed);
        setup.log =
            Settings { batches_per_shard: setup.log.batches_per_shard, ..Settings::small() };
        setup.rules.payload_bytes_max = 3_000;
        Self {
            setup,
            shards_max,
            users: users(random, 3, 2),
            net: net(random),
            rounds: 600,
            step_ms_max: random.between(1, 6),
            away_ms_max: random.between(1, 50),
            pause_ms_max: 4,
            down_ms_max: 3,
            lazy_shard_per_mille: random.below(300),
            lazy_committer_per_mille: random.below(600),
            hasty_per_mille: 500,
            chances,
            pressed_per_mille: pressed(seed),
            groups: groups(seed),
            ..Self::calm(seed)
        }
    }

    /// A tiny world whose starts die after so many disk actions each, in this way; nothing else
    /// breaks.
    pub(crate) fn of_deaths(seed: u64, death: Death, deaths: Vec<u32>) -> Self {
        let mut random = Random::new(seed ^ 0xdeu64.rotate_left(40));
        let random = &mut random;
        let shards_max = usize::try_from(random.between(1, 2)).unwrap_or(1);
        let log = Settings::small();
        let rules = Rules { payload_bytes_max: 3_000, ..Rules::default() };
        Self {
            setup: Setup { shards: shards_max, credits: 2, epoch_positions: u32::MAX, log, rules },
            shards_max,
            users: users(random, 2, 2),
            rounds: 100,
            step_ms_max: 3,
            pause_ms_max: 4,
            down_ms_max: 2,
            lazy_committer_per_mille: 300,
            hasty_per_mille: 500,
            chances: Chances { write: 120, ..Chances::default() },
            death,
            deaths,
            ..Self::calm(seed)
        }
    }

    /// A world in which anything may happen but the loss of a disk, and people change their minds
    /// about each other all the time.
    pub(crate) fn of_whims(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x77u64.rotate_left(40));
        let mut plan = Self::of(seed);
        plan.chances.restore = 0;
        plan.chances.chatter = random.between(10, 80);
        plan.groups = 0; // blocks are no matter of groups, and those have worlds of their own
        plan.whims_per_mille = random.between(5, 100);
        plan.first_ms_max = if random.per_mille(500) { 6_000 } else { 0 };
        plan
    }

    /// Two shards that do nothing but write to each other, with one credit each.
    pub(crate) fn of_full_queues(seed: u64) -> Self {
        let placement = Placement::new(2);
        let living_at = |home| {
            (1..).filter(move |user| placement.home(*user) == home).take(3).map(|user| (user, 1))
        };
        Self { users: living_at(0).chain(living_at(1)).collect(), ..Self::calm(seed) }
    }

    /// A world with these users where nothing happens but what a test does.
    pub(crate) fn of_orders(shards: usize, users: Vec<(u64, u32)>) -> Self {
        let mut plan = Self::calm(1);
        plan.setup.shards = shards;
        plan.setup.credits = 8;
        plan.shards_max = shards;
        Self { users, ..plan }
    }

    /// A world where nothing happens by itself: two shards, one credit, nobody.
    fn calm(seed: u64) -> Self {
        let setup = Setup {
            shards: 2,
            credits: 1,
            epoch_positions: u32::MAX,
            log: Settings::default(),
            rules: Rules::default(),
        };
        Self {
            seed,
            setup,
            shards_max: 1, // it never starts again
            users: Vec::new(),
            net: NetFaults::none(),
            rounds: 0,
            step_ms_max: 1,
            away_ms_max: 1,
            pause_ms_max: 1,
            down_ms_max: 1,
            lazy_shard_per_mille: 0,
            lazy_committer_per_mille: 0,
            hasty_per_mille: 0,
            chances: Chances::default(),
            pressed_per_mille: 0,
            first_ms_max: 0,
            whims_per_mille: 0,
            groups: 0,
            death: Death::Either,
            deaths: Vec::new(),
            trick: None,
        }
    }
}

/// In one world of four shards are pressed: rarely in the one, all the time in the other. By a
/// chance of its own, so that all other worlds stay what they are.
fn pressed(seed: u64) -> u64 {
    match seed % 8 {
        3 => 10,
        7 => 100,
        _ => 0,
    }
}

/// In three worlds of five there are groups, by a chance of their own. What an old backup makes of
/// them nobody has to guess: there are none in worlds that have backups.
fn groups(seed: u64) -> u64 {
    match seed % 5 {
        0 => 1,
        2 => 2,
        4 => 4,
        _ => 0,
    }
}

/// In most worlds with groups few members are many: from so many on they fetch, or are not told of
/// arrivals and departures, or the group is full.
fn with_small_groups(mut setup: Setup, seed: u64) -> Setup {
    let rules = &mut setup.rules.groups;
    match seed % 7 {
        0 => rules.push_max = 1,
        1 => rules.quiet_above = 1,
        2 => (rules.push_max, rules.quiet_above) = (2, 1),
        3 => rules.messages_max = 20,
        4 => (rules.push_max, rules.members_max) = (3, 4),
        _ => {}
    }
    setup
}

fn net(random: &mut Random) -> NetFaults {
    let faults = match random.below(3) {
        0 => NetFaults::none(),
        1 => NetFaults::pieces(),
        _ => NetFaults { resets_per_million: 200, ..NetFaults::pieces() },
    };
    if random.per_mille(700) {
        return faults;
    }
    NetFaults { stalls_per_million: 3_000, stall_steps_max: 3_000, ..faults }
}

fn users(random: &mut Random, most: u64, devices_max: u64) -> Vec<(u64, u32)> {
    let count = random.between(most.div_ceil(2), most);
    let user = |_| {
        // Some ids small, some spread, so that homes differ.
        let id = random.between(1, 500) * if random.per_mille(500) { 1 } else { 1 << 33 };
        (id, u32::try_from(random.between(1, devices_max)).unwrap_or(1))
    };
    let mut users: Vec<_> = (0..count).map(user).collect();
    users.sort_unstable();
    users.dedup_by_key(|user| user.0);
    users
}

/// In two worlds of three only one or two strangers are let in at a time.
fn with_a_narrow_door(mut setup: Setup, seed: u64) -> Setup {
    setup.rules.admitted_at_once_max = match seed % 3 {
        0 => setup.rules.admitted_at_once_max,
        rest => usize::try_from(rest).unwrap_or(1),
    };
    setup
}

fn setup(random: &mut Random, shards: usize, credits: usize) -> Setup {
    let mut rules = Rules::default();
    let batches_per_shard = usize::try_from(random.between(2, 8)).unwrap_or(2);
    let log = if random.per_mille(500) {
        rules.payload_bytes_max = 3_000;
        Settings { batches_per_shard, ..Settings::small() }
    } else {
        Settings {
            segment_bytes: 512 * 1024,
            batch_bytes: 100 * 1024,
            batches_per_shard,
            ..Settings::default()
        }
    };
    if random.per_mille(200) {
        rules.inbox_messages_max = 40;
        rules.inbox_messages_per_sender_max = 20;
    }
    let epoch_positions = if random.per_mille(300) { 50 } else { u32::MAX };
    Setup { shards, credits, epoch_positions, log, rules }
}
