//! What a world is like: everything that follows from a seed before the first round.

use myriad::io::sim::Faults as NetFaults;
use myriad::log::Settings;
use myriad::path::Rules;

use super::random::Random;
use super::server::Setup;

/// Chances per round, in a thousand; those of phones are per phone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chances {
    /// A user writes.
    pub write: u64,
    /// A phone says something else.
    pub chatter: u64,
    /// A phone leaves its connection.
    pub leave: u64,
    /// A phone stops reading for a while.
    pub stall: u64,
    /// The committer rests.
    pub committer_stall: u64,
    /// The disk is full for a while.
    pub disk_full: u64,
    /// A write or sync is going to fail.
    pub disk_fault: u64,
    /// The process or the host dies.
    pub crash: u64,
    /// The server is stopped in order.
    pub drain: u64,
}

/// What is broken on purpose, so that the checkers have something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A crash takes the disk back to an earlier time.
    DiskForgets,
    /// Phones hear deliveries in the wrong order.
    PhoneSwaps,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything else.
    pub seed: u64,
    /// How the server starts.
    pub setup: Setup,
    /// Shards of later boots at the most.
    pub shards_max: usize,
    /// Users and how many devices each has.
    pub users: Vec<(u64, u32)>,
    /// What the network does.
    pub net: NetFaults,
    /// Rounds before the end.
    pub rounds: u32,
    /// Time of a round at the most.
    pub step_ms_max: u64,
    /// How long a phone stays away at the most.
    pub away_ms_max: u64,
    /// Chance that a shard misses a round.
    pub lazy_shard_per_mille: u64,
    /// Chance that the committer misses a round.
    pub lazy_committer_per_mille: u64,
    /// Chance that a phone is one that does not wait before it tries again.
    pub hasty_per_mille: u64,
    /// Chances of what happens.
    pub chances: Chances,
    /// What is broken on purpose.
    pub canary: Option<Canary>,
}

impl Plan {
    /// A plan that follows from `seed`, with this many credits between shards.
    pub fn of(seed: u64, credits: usize) -> Self {
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
