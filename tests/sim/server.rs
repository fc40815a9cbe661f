//! The server under test: real shards, real committer, real recovery, one thread, no host.
//!
//! Owner: the world. A server is one boot; a crash drops it, and what the disk kept makes the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use myriad::auth::Keys;
use myriad::clock::Now;
use myriad::io::Driver as _;
use myriad::io::sim::{Sim, SimNet};
use myriad::log::{self, Committer, Record, SharedMemory, Step, StoreReader};
use myriad::path::Rules;
use myriad::path::replay::StartError;
use myriad::ring;
use myriad::shard::{Desk, Drain, Level, Parts, Pressure, Shard};
use myriad::state::placement::Placement;
use myriad::state::{Positions, Tables};

use super::people::People;
use super::store::{self, Contents, OpenLog};

/// Connections of a shard's table; phones that come back often leave some lingering.
const CONNS_MAX: usize = 512;
/// Users of a shard's table.
const USERS_MAX: usize = 64;
/// Pairs of a shard's table.
const PAIRS_MAX: usize = 1024;
/// Receive area of a driver: less than the largest frame, so that frames come in parts.
const RECEIVE_BYTES: usize = 16 * 1024;

/// A shard as it is simulated.
pub(crate) type SimShard = Shard<Sim, StoreReader<SharedMemory>>;

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Shards.
    pub(crate) shards: usize,
    /// Credits between two shards.
    pub(crate) credits: usize,
    /// Positions in an epoch.
    pub(crate) epoch_positions: u32,
    /// Sizes of the log.
    pub(crate) log: log::Settings,
    /// The rules in force.
    pub(crate) rules: Rules,
}

/// One boot.
pub(crate) struct Server {
    /// The shards, in order.
    pub(crate) shards: Vec<SimShard>,
    /// The other end of the log.
    pub(crate) committer: Committer<SharedMemory>,
    /// What tells shards to stop.
    pub(crate) drains: Vec<Arc<Drain>>,
    /// What tells shards how they stand.
    pub(crate) pressures: Vec<Arc<Pressure>>,
    /// The log failed; a restart is due.
    pub(crate) has_failed: bool,
    epoch: u32,
    /// The way in for orders.
    #[allow(dead_code, reason = "no world gives orders yet")]
    pub(crate) desk: Desk,
}

impl Server {
    /// Recovers from `disk` and starts; `seen` gets every record that is read, and says what waits.
    /// Fails as a real start would; the disk is as it was then.
    pub(crate) fn start(
        setup: &Setup,
        net: &SimNet,
        disk: &SharedMemory,
        keys: &Arc<Keys>,
        now: Now,
        people: &People,
        seen: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(Self, Contents), StartError> {
        let placement = Placement::new(setup.shards);
        let mut tables: Vec<Tables> =
            (0..setup.shards).map(|_| Tables::new(CONNS_MAX, USERS_MAX, PAIRS_MAX)).collect();
        let OpenLog { stages, committer, epoch, contents } =
            store::open(disk, setup, &mut tables, now.wall_ms, seen)?;
        people.load(&mut tables);
        let rules = Arc::new(setup.rules.clone());
        let drains: Vec<_> = (0..setup.shards).map(|_| Arc::new(Drain::default())).collect();
        let pressures: Vec<_> = (0..setup.shards).map(|_| Arc::new(Pressure::default())).collect();
        let drivers: Vec<Sim> =
            (0..setup.shards).map(|me| net.driver(me, CONNS_MAX, RECEIVE_BYTES)).collect();
        let doorbells: Vec<_> = drivers.iter().map(Sim::doorbell).collect();
        let desk = Desk::new(&doorbells);
        let mailboxes = ring::mesh(setup.shards, setup.credits, doorbells);
        let epochs = Arc::new(AtomicU32::new(epoch));
        let pieces = drivers.into_iter().zip(mailboxes).zip(tables).zip(stages);
        let shards = pieces.enumerate().map(|(me, (((driver, mailbox), tables), stage))| {
            let parts = Parts {
                me,
                doorbell: driver.doorbell(),
                driver,
                reader: StoreReader::new(disk.clone()),
                stage,
                mailbox,
                tables,
                positions: Positions::with_limit(epoch, setup.epoch_positions),
                epochs: Arc::clone(&epochs),
                placement,
                rules: Arc::clone(&rules),
                keys: Arc::clone(keys),
                side: None,
                orders: desk.of(me),
                expiry_held: false,
                drain: Arc::clone(&drains[me]),
                pressure: Arc::clone(&pressures[me]),
                sessions_max: CONNS_MAX - 64,
                credits: setup.credits,
            };
            Shard::new(parts, now)
        });
        let shards = shards.collect();
        Ok((
            Self { shards, committer, drains, pressures, has_failed: false, epoch, desk },
            contents,
        ))
    }

    /// The epoch of this boot's positions.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// One turn of one shard. False: it is through with draining.
    pub(crate) fn turn(&mut self, shard: usize, now: Now) -> bool {
        self.shards[shard].turn(&|| now, false).expect("a simulated driver always polls")
    }

    /// Lets the committer work until it would sleep.
    pub(crate) fn commit(&mut self, now: Now) {
        while !self.has_failed {
            match self.committer.step(now.mono_ms * 1000) {
                Step::Committed { .. } => {}
                Step::Idle { .. } => return,
                Step::Failed(_) => self.has_failed = true,
            }
        }
    }

    /// Tells all shards how far the drain is.
    pub(crate) fn drain(&self, phase: u8) {
        for drain in &self.drains {
            drain.phase.store(phase, Ordering::Release);
        }
    }

    /// From now on a shard is at this level at the least, and sheds sessions or not.
    pub(crate) fn press(&self, shard: usize, level: Level, sheds: bool) {
        self.pressures[shard].set_floor(level);
        self.pressures[shard].set_shedding(sheds);
    }

    /// Every device is connected and has acked everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.shards.iter().all(|shard| {
            let users = &shard.tables().users;
            (0..u32::try_from(users.count()).expect("few users")).all(|user| {
                users.devices_of(user).all(|index| {
                    let device = users.device(index);
                    device.conn().is_some() && device.cursor == users.user(user).tail
                })
            })
        })
    }

    /// Nothing is on its way between shards or to the log.
    pub(crate) fn is_quiet(&self) -> bool {
        self.shards.iter().all(|shard| {
            let load = shard.load();
            let waits = load.waiters + load.parked + load.movers + load.copies + load.errands;
            let told = !shard.tables().pairs.has_dirty() && shard.tables().dirty_reads.is_empty();
            waits == 0 && !load.is_staged && told
        })
    }
}
