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
    /// A phone says something else.
    pub(crate) chatter: u64,
    /// A phone leaves its connection.
    pub(crate) leave: u64,
    /// A phone stops reading for a while.
    pub(crate) stall: u64,
    /// The committer rests.
    pub(crate) committer_stall: u64,
    /// The disk is full for a while.
    pub(crate) disk_full: u64,
    /// A write or sync is going to fail.
    pub(crate) disk_fault: u64,
    /// The process or the host dies.
    pub(crate) crash: u64,
    /// The server is stopped in order.
    pub(crate) drain: u64,
}

/// What is broken on purpose, so that the checkers have something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Canary {
    /// A crash takes the disk back to an earlier time.
    DiskForgets,
    /// Phones hear deliveries in the wrong order.
    PhoneSwaps,
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
    /// Chance that a shard misses a round.
    pub(crate) lazy_shard_per_mille: u64,
    /// Chance that the committer misses a round.
    pub(crate) lazy_committer_per_mille: u64,
    /// Chance that a phone is one that does not wait before it tries again.
    pub(crate) hasty_per_mille: u64,
    /// Chances of what happens.
    pub(crate) chances: Chances,
    /// What is broken on purpose.
    pub(crate) canary: Option<Canary>,
}

impl Plan {
    /// A plan that follows from `seed`, with this many credits between shards.
    pub(crate) fn of(seed: u64, credits: usize) -> Self {
        let mut random = Random::new(seed ^ 0x51u64.rotate_left(40));
        let shards_max = usize::try_from(random.between(1, 3)).unwrap_or(1);
        let rounds = u32::try_from(random.between(200, 900)).unwrap_or(200);
        let net = match random.below(3) {
            0 => NetFaults::none(),
            1 => NetFaults::pieces(),
            _ => NetFaults { resets_per_million: 200, ..NetFaults::pieces() },
        };
        let rough = |random: &mut Random, chance| {
            if random.per_mille(400) { random.below(chance) } else { 0 }
        };
        let chances = Chances {
            write: random.between(5, 120),
            chatter: random.below(40),
            leave: random.below(12),
            stall: rough(&mut random, 10),
            committer_stall: rough(&mut random, 10),
            disk_full: rough(&mut random, 6),
            disk_fault: rough(&mut random, 6),
            crash: rough(&mut random, 12),
            drain: rough(&mut random, 4),
        };
        Self {
            seed,
            setup: setup(&mut random, shards_max, credits),
            shards_max,
            users: users(&mut random),
            net,
            rounds,
            step_ms_max: random.between(1, 20),
            away_ms_max: random.between(10, 4_000),
            lazy_shard_per_mille: random.below(500),
            lazy_committer_per_mille: random.below(800),
            hasty_per_mille: rough(&mut random, 500),
            chances,
            canary: None,
        }
    }
}

impl Plan {
    /// Two shards that do nothing but write to each other, with one credit each.
    pub(crate) fn of_full_queues(seed: u64) -> Self {
        let placement = Placement::new(2);
        let living_at = |home| {
            (1..).filter(move |user| placement.home(*user) == home).take(3).map(|user| (user, 1))
        };
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
            users: living_at(0).chain(living_at(1)).collect(),
            net: NetFaults::none(),
            rounds: 0,
            step_ms_max: 1,
            away_ms_max: 1,
            lazy_shard_per_mille: 0,
            lazy_committer_per_mille: 0,
            hasty_per_mille: 0,
            chances: Chances::default(),
            canary: None,
        }
    }
}

fn users(random: &mut Random) -> Vec<(u64, u32)> {
    let count = random.between(4, 8);
    let user = |_| {
        // Some ids small, some spread, so that homes differ.
        let id = random.between(1, 500) * if random.per_mille(500) { 1 } else { 1 << 33 };
        (id, u32::try_from(random.between(1, 3)).unwrap_or(1))
    };
    let mut users: Vec<_> = (0..count).map(user).collect();
    users.sort_unstable();
    users.dedup_by_key(|user| user.0);
    users
}

fn setup(random: &mut Random, shards: usize, credits: usize) -> Setup {
    let mut rules = Rules::default();
    let log = if random.per_mille(500) {
        rules.payload_bytes_max = 3_000;
        Settings::small()
    } else {
        Settings {
            segment_bytes: 512 * 1024,
            batch_bytes: 100 * 1024,
            batches_per_shard: usize::try_from(random.between(2, 8)).unwrap_or(2),
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
