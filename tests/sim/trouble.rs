//! What happens to the server: its disk, its clock, its process, its host.
//!
//! Owner: the world. What breaks, breaks by the chances of the plan; `mend` ends all of it.

use myriad::io::sim::Faults as NetFaults;
use myriad::log::{Faults as DiskFaults, Record, SharedMemory, Store as _};
use myriad::path::replay::StartError;

use super::plan::{Death, Trick};
use super::server::Server;
use super::store;
use super::world::{WALL_MS, World};

/// Where epochs that follow the wall clock begin: 2025-01-01, in seconds since 1970.
const EPOCH_BASE_S: u64 = 1_735_689_600;
/// How far the wall clock is set wrong at the most: tokens stay good.
pub(super) const CLOCK_JUMP_MS_MAX: u64 = 10 * 24 * 3_600_000;
/// How long a flipped bit stays, at the most, before somebody finds and mends it.
const ROT_MS_MAX: u64 = 2_000;
/// Bytes at the start of a segment that tell this use of it from every other.
const SEGMENT_HEAD_BYTES: usize = 64;

/// A bit that flipped in a segment that is not written any more.
#[derive(Debug)]
pub(crate) struct Rot {
    segment: u32,
    offset: usize,
    bit: u8,
    /// The segment as it was, to mend it from.
    was: Vec<u8>,
    until_ms: u64,
}

/// What is wrong with the server at the moment.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// The committer does nothing before this time.
    pub(crate) committer_stalls_until_ms: u64,
    /// A shard gets no turn before this time.
    pub(crate) shard_stalls: Option<(usize, u64)>,
    disk_full_until_ms: Option<u64>,
    /// A fault was planned that a start may meet.
    disk_is_faulty: bool,
    restarts_at_ms: Option<u64>,
    backup: Option<SharedMemory>,
    /// A backup was restored and has not started yet: every epoch up to this may be used up.
    clock_must_pass: Option<u32>,
    rot: Option<Rot>,
}

/// How often what happened to the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Toll {
    /// Starts that served.
    pub(crate) boots: u64,
    /// Ends without warning; starts that died are among them.
    pub(crate) crashes: u64,
    /// Of these, the ones in which the host lost its power.
    pub(crate) power_cuts: u64,
    /// Of these, the ones in the middle of a start.
    pub(crate) deaths_in_start: u64,
    /// Backups that took the place of a lost disk.
    pub(crate) restores: u64,
    /// Starts that refused a damaged log by name.
    pub(crate) damage_named: u64,
    /// Disk actions of disks that were lost.
    pub(crate) former_disk_actions: u64,
}

impl World {
    /// Something breaks, perhaps; what broke earlier may end.
    pub(crate) fn break_something(&mut self) {
        self.end_troubles();
        let now_ms = self.now.mono_ms;
        let failed = self.server.as_ref().is_some_and(|server| server.has_failed);
        if failed && self.random.per_mille(30) {
            self.crash();
        }
        let chances = self.plan.chances;
        if self.random.per_mille(chances.committer_stall) {
            self.troubles.committer_stalls_until_ms = now_ms + self.random.below(1_500);
        }
        if self.random.per_mille(chances.shard_stall) {
            let until_ms = now_ms + self.random.below(3_000);
            self.troubles.shard_stalls = Some((self.random.index(self.plan.shards_max), until_ms));
        }
        if self.random.per_mille(chances.suspend) {
            self.pass(100, 40_000);
        }
        if self.random.per_mille(chances.clock_jump) {
            self.set_clock();
        }
        self.break_disk();
        self.press_shards();
        if self.random.per_mille(chances.crash) {
            self.crash();
        }
        if self.random.per_mille(chances.drain) {
            self.drain();
        }
    }

    fn end_troubles(&mut self) {
        let now_ms = self.now.mono_ms;
        if self.troubles.disk_full_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            self.troubles.disk_full_until_ms = None;
            self.disk.set_faults(DiskFaults::default());
        }
        if self.troubles.rot.as_ref().is_some_and(|rot| rot.until_ms <= now_ms) {
            self.mend_rot();
        }
        if self.troubles.restarts_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.boot();
        }
    }

    fn break_disk(&mut self) {
        let now_ms = self.now.mono_ms;
        let chances = self.plan.chances;
        if self.random.per_mille(chances.disk_full) {
            self.troubles.disk_full_until_ms = Some(now_ms + self.random.below(5_000));
            let bytes_max = Some(self.disk_bytes());
            self.disk.set_faults(DiskFaults { bytes_max, ..DiskFaults::default() });
        }
        if self.random.per_mille(chances.disk_fault) && self.troubles.disk_full_until_ms.is_none() {
            let after = Some(u32::try_from(self.random.below(6)).unwrap_or(0));
            let faults = match self.random.below(4) {
                0 => DiskFaults { failing_sync: after, ..DiskFaults::default() },
                1 => DiskFaults { failing_write: after, ..DiskFaults::default() },
                2 => DiskFaults { failing_read: after, ..DiskFaults::default() },
                _ => DiskFaults { dies_after: after, ..DiskFaults::default() },
            };
            self.disk.set_faults(faults);
            self.troubles.disk_is_faulty = true;
        }
        if self.random.per_mille(chances.rot) {
            self.rot();
        }
        let forgets = self.plan.trick == Some(Trick::DiskForgets);
        if self.random.per_mille(if forgets { 20 } else { chances.backup })
            && self.troubles.rot.is_none()
        {
            let backup = self.disk.fork();
            backup.set_faults(DiskFaults::default());
            self.troubles.backup = Some(backup);
        }
    }

    fn disk_bytes(&self) -> u64 {
        let segments = self.disk.segments().unwrap_or_default();
        segments.iter().map(|segment| self.disk.bytes(*segment).unwrap_or(0)).sum()
    }

    /// Somebody sets the wall clock to some time not too far from the true one.
    fn set_clock(&mut self) {
        let true_ms = WALL_MS + self.now.mono_ms;
        let scale = [1_000, 60_000, 3_600_000, CLOCK_JUMP_MS_MAX][self.random.index(4)];
        let by_ms = self.random.below(scale);
        let later = self.random.per_mille(500);
        self.now.wall_ms = if later { true_ms + by_ms } else { true_ms - by_ms };
        self.checks.trace(|| format!("the wall clock is wrong by {by_ms} ms (later: {later})"));
    }

    /// A bit flips in a segment before the last one that commits were written to.
    fn rot(&mut self) {
        if self.troubles.rot.is_some() {
            return;
        }
        let mut segments = self.disk.segments().unwrap_or_default();
        segments.sort_unstable();
        let is_written = |segment: &u32| {
            let mut head = [0; 8];
            let read = self.disk.fork().read_at(*segment, 4096, &mut head);
            read.is_ok() && head != [0; 8]
        };
        segments.retain(is_written);
        segments.pop();
        if segments.is_empty() {
            return;
        }
        let segment = segments[self.random.index(segments.len())];
        let Some(was) = self.disk.image(segment) else { return };
        let used = was.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let offset = self.random.index(used.max(1));
        let bit = 1u8 << self.random.below(8);
        self.disk.corrupt(segment, offset, &mut |byte| byte ^ bit);
        let until_ms = self.now.mono_ms + self.random.below(ROT_MS_MAX);
        self.checks.trace(|| format!("a bit flips in segment {segment} at {offset}"));
        self.troubles.rot = Some(Rot { segment, offset, bit, was, until_ms });
    }

    /// The operator puts the segment back, if it still is what it was.
    fn mend_rot(&mut self) {
        let Some(rot) = self.troubles.rot.take() else { return };
        let Some(is) = self.disk.image(rot.segment) else { return };
        let head = |bytes: &[u8]| bytes[..SEGMENT_HEAD_BYTES].to_vec();
        let same = rot.offset < SEGMENT_HEAD_BYTES || head(&is) == head(&rot.was);
        if same && is.len() == rot.was.len() && is[rot.offset] == rot.was[rot.offset] ^ rot.bit {
            let byte = rot.was[rot.offset];
            self.disk.corrupt(rot.segment, rot.offset, &mut |_| byte);
        }
    }

    /// The process ends at once, or the whole host does; another start follows later.
    pub(crate) fn crash(&mut self) {
        let host = match self.plan.death {
            Death::Either => self.random.per_mille(500),
            Death::Process => false,
            Death::Host => true,
        };
        self.checks.trace(|| format!("crash, of the host: {host}"));
        // A host may also lose its power while nothing runs on it.
        self.toll.crashes += u64::from(self.server.is_some() || self.disk.has_died());
        if host {
            self.net.host_dies();
        } else {
            self.net.process_dies();
        }
        self.server = None;
        if host {
            self.cut_power();
        }
        if self.random.per_mille(self.plan.chances.restore) {
            self.restore();
        }
        if self.plan.trick == Some(Trick::DiskForgets)
            && let Some(backup) = self.troubles.backup.take()
        {
            self.disk = backup;
        }
        let bytes_max = self.troubles.disk_full_until_ms.map(|_| self.disk_bytes());
        self.disk.set_faults(DiskFaults { bytes_max, ..DiskFaults::default() });
        self.troubles.disk_is_faulty = false;
        let pause_ms = self.random.between(1, self.plan.down_ms_max);
        self.troubles.restarts_at_ms = Some(self.now.mono_ms + pause_ms);
    }

    fn cut_power(&mut self) {
        self.toll.power_cuts += 1;
        let keeps = self.random.below(1001);
        let random = &mut self.random;
        self.disk.cut_power(&mut |_, _| random.per_mille(keeps));
    }

    /// The disk is lost and the last backup takes its place. The operator sees to it that the clock
    /// is right, so that it has passed every epoch that was ever used.
    fn restore(&mut self) {
        let Some(backup) = self.troubles.backup.take() else { return };
        self.mend_rot();
        // What the lost disk had used: nobody can ask it any more, but the clock knows.
        let used = store::read(&self.disk, &self.setup, &mut |_| {});
        let used = used.map_or(0, |contents| contents.highest_epoch);
        let Self { checks, setup, .. } = self;
        checks.log_begins();
        let read = store::read(&backup, setup, &mut |record| checks.recorded(record));
        let contents = match read {
            Ok(contents) => contents,
            Err(what) => return self.checks.violated(format!("backup: it can't be read: {what}")),
        };
        self.toll.restores += 1;
        self.toll.former_disk_actions += self.disk.actions().saturating_sub(backup.actions());
        self.disk = backup;
        let lost = self.checks.restored(&contents, used);
        self.checks.trace(|| format!("a backup is restored; {lost} messages are lost"));
        self.troubles.clock_must_pass = Some(self.checks.highest_epoch());
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
    pub(crate) fn boot(&mut self) {
        self.troubles.restarts_at_ms = None;
        if self.toll.boots > 0 && self.plan.shards_max > 1 {
            let most = self.plan.shards_max as u64;
            self.setup.shards = usize::try_from(self.random.between(1, most)).unwrap_or(1);
        }
        self.plan_death();
        if let Some(epoch) = self.troubles.clock_must_pass {
            let passed_ms = (EPOCH_BASE_S + u64::from(epoch) + 2) * 1000;
            self.now.wall_ms = self.now.wall_ms.max(passed_ms);
        }
        let Self { setup, net, disk, keys, now, checks, people, .. } = self;
        checks.log_begins();
        let mut seen = |record: &Record<'_>| checks.recorded(record);
        match Server::start(setup, net, disk, keys, *now, people, &mut seen) {
            Ok((server, contents)) => {
                self.toll.boots += 1;
                self.troubles.clock_must_pass = None;
                checks.is_rotten = self.troubles.rot.is_some();
                checks.booted(server.epoch(), &contents);
                checks.all_obeyed();
                people.restarted();
                self.server = Some(server);
            }
            Err(_) if self.disk.has_died() => {
                self.toll.deaths_in_start += 1;
                self.crash();
            }
            Err(error) => self.could_not_start(&error),
        }
    }

    /// Perhaps this start dies at one of its first disk actions.
    fn plan_death(&mut self) {
        let planned = if self.plan.deaths.is_empty() {
            let dies = self.random.per_mille(self.plan.chances.crash_in_start);
            dies.then(|| u32::try_from(self.random.below(12)).unwrap_or(0))
        } else {
            Some(self.plan.deaths.remove(0))
        };
        if planned.is_some() {
            let bytes_max = self.troubles.disk_full_until_ms.map(|_| self.disk_bytes());
            self.disk.set_faults(DiskFaults {
                dies_after: planned,
                bytes_max,
                ..DiskFaults::default()
            });
        }
    }

    /// Only what is wrong with the disk on purpose may keep a server from starting, and damage only
    /// by its name.
    fn could_not_start(&mut self, error: &StartError) {
        let named = error.is_damage();
        let rotten = self.troubles.rot.is_some();
        let excused = self.troubles.disk_full_until_ms.is_some() || self.troubles.disk_is_faulty;
        if named && rotten {
            self.toll.damage_named += 1;
        } else if named {
            self.checks.violated(format!("I1: nobody damaged the log: {error}"));
        } else if !excused {
            self.checks.violated(format!("start: {error}"));
        }
        self.checks.trace(|| format!("no start: {error}"));
        self.mend_rot();
        if self.troubles.disk_full_until_ms.is_none() {
            self.troubles.disk_is_faulty = false;
            self.disk.set_faults(DiskFaults::default());
        }
        self.troubles.restarts_at_ms = Some(self.now.mono_ms + 200.min(self.plan.down_ms_max));
    }

    /// Everything works again, and nobody does anything new.
    pub(crate) fn mend(&mut self) {
        self.net.set_faults(NetFaults::none());
        self.mend_rot();
        self.troubles.disk_full_until_ms = None;
        self.troubles.disk_is_faulty = false;
        self.troubles.committer_stalls_until_ms = 0;
        self.troubles.shard_stalls = None;
        self.disk.set_faults(DiskFaults::default());
        self.plan.lazy_committer_per_mille = 0;
        self.plan.lazy_shard_per_mille = 0;
        self.plan.chances.restore = 0;
        self.plan.chances.crash_in_start = 0;
        self.plan.deaths.clear();
        self.release_shards();
        self.make_peace();
        if self.server.as_ref().is_some_and(|server| server.has_failed) {
            self.crash();
        }
        if self.troubles.restarts_at_ms.is_some() || self.server.is_none() {
            self.troubles.backup = None;
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
}
