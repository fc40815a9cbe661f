//! How much a shard can't do any more: named levels, and what is shed at each.
//!
//! | level | what is shed |
//! | --- | --- |
//! | normal | nothing |
//! | busy | presence and typing |
//! | strained | read receipts come later, heartbeats are asked for less often |
//! | full | new sessions are refused, with a time to come back |
//!
//! Messages are shed at no level; what a message waits for has bounds of its own (credits, the
//! staging ring) and is refused by name.
//!
//! The measure is what was left undone: how long ago the shard last had nothing waiting, taken at
//! the end of each turn. Of each look the *smallest* counts: a burst that is worked off is none, a
//! queue that stands is. Queues to other shards and to the log that are nearly full count as well.
//! From outside (the memory of the process) comes a level below which the shard may not go.
//!
//! A level moves one step at a time: up after [`limits::OVERLOAD_RISE_LOOKS`] looks, down after
//! [`limits::OVERLOAD_CALM_MS`] below half of its threshold.
//!
//! Owner: a shard; [`Pressure`] is shared with the main thread. Pure: no clock. Deliberately not
//! here: the shedding (`shedding.rs`).

use crate::limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// No measure of time behind.
const UNKNOWN_MS: u64 = u64::MAX;

/// See the module. Each level sheds what the ones before it shed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything is done.
    #[default]
    Normal,
    /// Presence and typing are shed.
    Busy,
    /// Read receipts are delayed, heartbeats stretched.
    Strained,
    /// New sessions are refused.
    Full,
}

impl Level {
    const ALL: [Self; 4] = [Self::Normal, Self::Busy, Self::Strained, Self::Full];

    /// The word for it, in lines and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Busy => "busy",
            Self::Strained => "strained",
            Self::Full => "full",
        }
    }

    /// What an operator should know of it.
    #[must_use]
    pub fn sheds(self) -> &'static str {
        match self {
            Self::Normal => "nothing is shed",
            Self::Busy => "presence and typing are shed",
            Self::Strained => "presence and typing are shed, read receipts and heartbeats delayed",
            Self::Full => {
                "presence and typing are shed, read receipts and heartbeats delayed, new sessions \
                 told to come back later"
            }
        }
    }

    fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Full)
    }

    fn up(self) -> Self {
        Self::of(self as u8 + 1)
    }

    fn down(self) -> Self {
        Self::of((self as u8).saturating_sub(1))
    }
}

/// What one shard and the outside tell each other: plain numbers, each for itself, so every access
/// is relaxed.
#[derive(Debug, Default)]
pub struct Pressure {
    floor: AtomicU8,
    sheds: AtomicBool,
    level: AtomicU8,
    late_ms: AtomicU64,
    queue_percent: AtomicU64,
    conns: AtomicU64,
    sessions: AtomicU64,
    stored: AtomicU64,
    delivered: AtomicU64,
}

impl Pressure {
    /// The level below which the shard may not go: from its next look on.
    pub fn set_floor(&self, level: Level) {
        self.floor.store(level as u8, Relaxed);
    }

    /// Whether the shard is to let idle sessions go, a few at a time.
    pub fn set_shedding(&self, sheds: bool) {
        self.sheds.store(sheds, Relaxed);
    }

    /// The shard's level at its last look.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::of(self.level.load(Relaxed))
    }

    /// How far behind it was then, all the time since the look before, in milliseconds.
    #[must_use]
    pub fn late_ms(&self) -> u64 {
        self.late_ms.load(Relaxed)
    }

    /// How full the fullest of its queues was then, percent.
    #[must_use]
    pub fn queue_percent(&self) -> u64 {
        self.queue_percent.load(Relaxed)
    }

    /// Connections it held then.
    #[must_use]
    pub fn conns(&self) -> u64 {
        self.conns.load(Relaxed)
    }

    /// Of these, how many had logged in.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    /// Messages it had stored then, since the start.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored.load(Relaxed)
    }

    /// Messages it had handed to devices then, since the start: each device counts.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }
}

/// What a shard sees of itself when it looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The fullest of its queues.
    pub(super) queue_percent: u64,
    /// Its connections.
    pub(super) conns: usize,
    /// Of these, those that have logged in.
    pub(super) sessions: usize,
    /// Messages stored, and handed to devices, since the start.
    pub(super) stored: u64,
    /// See `stored`.
    pub(super) delivered: u64,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The level since the look before,
    pub(super) was: Level,
    /// for so long,
    pub(super) for_ms: u64,
    /// and from now on.
    pub(super) is: Level,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Overload {
    pressure: Arc<Pressure>,
    /// By what the shard saw itself.
    own: Level,
    /// The higher of that and the floor.
    level: Level,
    /// Host clock: when this turn began; the last time at which nothing was left from before.
    began_ms: u64,
    caught_up_ms: u64,
    /// This turn did not take all there was.
    left_some: bool,
    /// The least the shard was behind since the last look; [`UNKNOWN_MS`] if no turn has ended.
    late_ms: u64,
    looked_ms: u64,
    rising: u32,
    calm_since_ms: Option<u64>,
}

impl Overload {
    pub(super) fn new(pressure: Arc<Pressure>, now_ms: u64) -> Self {
        Self {
            pressure,
            own: Level::Normal,
            level: Level::Normal,
            began_ms: now_ms,
            caught_up_ms: now_ms,
            left_some: false,
            late_ms: UNKNOWN_MS,
            looked_ms: now_ms,
            rising: 0,
            calm_since_ms: None,
        }
    }

    /// The level in force.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Presence and typing are shed.
    pub(super) fn sheds_presence(&self) -> bool {
        self.level >= Level::Busy
    }

    /// Read marks wait, heartbeats are stretched.
    pub(super) fn is_strained(&self) -> bool {
        self.level >= Level::Strained
    }

    /// New sessions are refused.
    pub(super) fn is_full(&self) -> bool {
        self.level >= Level::Full
    }

    /// Halvings of the number of strangers let in at a time: whoever logs in must not be what the
    /// others wait for. A full shard lets some in, to tell them when to come back.
    pub(super) fn door_shrink(&self) -> u32 {
        match self.level {
            Level::Normal => 0,
            Level::Busy => limits::BUSY_DOOR_SHRINK,
            Level::Strained | Level::Full => limits::STRAINED_DOOR_SHRINK,
        }
    }

    /// Idle sessions are to go.
    pub(super) fn sheds_sessions(&self) -> bool {
        self.pressure.sheds.load(Relaxed)
    }

    /// A turn has begun, by the host's clock.
    pub(super) fn begin(&mut self, host_ms: u64) {
        self.began_ms = host_ms;
        if !std::mem::take(&mut self.left_some) {
            self.caught_up_ms = host_ms;
        }
    }

    /// This turn does not take all there is.
    pub(super) fn leave_some(&mut self, left: bool) {
        self.left_some |= left;
    }

    /// Whether the turn that ends did not take all there was.
    pub(super) fn has_left_some(&self) -> bool {
        self.left_some
    }

    /// A turn has ended; `host_ms` is none if it did too little to take long.
    pub(super) fn end(&mut self, host_ms: Option<u64>) {
        self.late_ms = match host_ms {
            Some(now_ms) => self.late_ms.min(now_ms.saturating_sub(self.caught_up_ms)),
            None => 0,
        };
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self) -> bool {
        self.began_ms >= self.looked_ms + limits::OVERLOAD_LOOK_MS
    }

    /// Looks; call it when it is due.
    pub(super) fn look(&mut self, seen: Seen) -> Look {
        let now_ms = self.began_ms;
        let for_ms = now_ms.saturating_sub(self.looked_ms);
        self.looked_ms = now_ms;
        let late_ms = std::mem::replace(&mut self.late_ms, UNKNOWN_MS);
        let late_ms = if late_ms == UNKNOWN_MS { 0 } else { late_ms };
        self.judge(wanted(late_ms, seen.queue_percent), late_ms, seen.queue_percent, now_ms);
        let was = self.level;
        self.level = self.own.max(Level::of(self.pressure.floor.load(Relaxed)));
        self.pressure.level.store(self.level as u8, Relaxed);
        self.pressure.late_ms.store(late_ms, Relaxed);
        self.pressure.queue_percent.store(seen.queue_percent, Relaxed);
        self.pressure.conns.store(seen.conns as u64, Relaxed);
        self.pressure.sessions.store(seen.sessions as u64, Relaxed);
        self.pressure.stored.store(seen.stored, Relaxed);
        self.pressure.delivered.store(seen.delivered, Relaxed);
        Look { was, for_ms, is: self.level }
    }

    /// Moves the shard's own level by one step at the most.
    fn judge(&mut self, wanted: Level, late_ms: u64, queue_percent: u64, now_ms: u64) {
        if wanted > self.own {
            self.calm_since_ms = None;
            self.rising += 1;
            if self.rising >= limits::OVERLOAD_RISE_LOOKS {
                self.rising = 0;
                self.own = self.own.up();
            }
            return;
        }
        self.rising = 0;
        // Twice as much would still not want this level.
        let is_calm = wanted_twice(late_ms, queue_percent) < self.own;
        if !is_calm {
            self.calm_since_ms = None;
            return;
        }
        let since_ms = *self.calm_since_ms.get_or_insert(now_ms);
        if now_ms >= since_ms + limits::OVERLOAD_CALM_MS {
            self.own = self.own.down();
            self.calm_since_ms = None;
        }
    }
}

/// The level for being so far behind, with a queue so full.
fn wanted(late_ms: u64, queue_percent: u64) -> Level {
    let by_queue = match queue_percent {
        limits::STRAINED_QUEUE_PERCENT.. => Level::Strained,
        limits::BUSY_QUEUE_PERCENT.. => Level::Busy,
        _ => Level::Normal,
    };
    let by_time = match late_ms {
        limits::FULL_LATE_MS.. => Level::Full,
        limits::STRAINED_LATE_MS.. => Level::Strained,
        limits::BUSY_LATE_MS.. => Level::Busy,
        _ => Level::Normal,
    };
    by_queue.max(by_time)
}

fn wanted_twice(late_ms: u64, queue_percent: u64) -> Level {
    wanted(late_ms.saturating_mul(2), queue_percent.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK_MS: u64 = limits::OVERLOAD_LOOK_MS;

    /// A shard whose turns take `turn_ms` each, all full of work, for so long. Says its levels.
    fn run(overload: &mut Overload, now_ms: &mut u64, turn_ms: u64, for_ms: u64) -> Vec<Level> {
        let mut levels = vec![overload.level()];
        let until_ms = *now_ms + for_ms;
        while *now_ms < until_ms {
            overload.begin(*now_ms);
            if overload.is_due() {
                let look = overload.look(Seen::default());
                if look.is != look.was {
                    levels.push(look.is);
                }
            }
            *now_ms += turn_ms.max(1);
            overload.end((turn_ms > 0).then_some(*now_ms));
        }
        levels
    }

    fn fresh() -> (Overload, Arc<Pressure>) {
        let pressure = Arc::new(Pressure::default());
        (Overload::new(Arc::clone(&pressure), 0), pressure)
    }

    #[test]
    fn a_standing_queue_raises_the_level_step_by_step_and_calm_lowers_it_so() {
        let (mut overload, pressure) = fresh();
        let mut now_ms = 0;
        let up = [Level::Normal, Level::Busy, Level::Strained, Level::Full];
        let began_ms = now_ms;
        assert_eq!(run(&mut overload, &mut now_ms, limits::FULL_LATE_MS, 5_000), up);
        assert!(now_ms - began_ms >= 3 * u64::from(limits::OVERLOAD_RISE_LOOKS) * LOOK_MS);
        assert_eq!(pressure.level(), Level::Full);
        assert_eq!(pressure.late_ms(), limits::FULL_LATE_MS);
        let mut down = up;
        down.reverse();
        assert_eq!(run(&mut overload, &mut now_ms, 0, 2_500), down[..2]);
        assert_eq!(run(&mut overload, &mut now_ms, 0, 10_000), down[1..]);
    }

    #[test]
    fn each_level_has_its_own_lateness() {
        for (turn_ms, expected) in [
            (limits::BUSY_LATE_MS - 1, Level::Normal),
            (limits::BUSY_LATE_MS, Level::Busy),
            (limits::STRAINED_LATE_MS - 1, Level::Busy),
            (limits::STRAINED_LATE_MS, Level::Strained),
            (limits::FULL_LATE_MS - 1, Level::Strained),
            (limits::FULL_LATE_MS, Level::Full),
        ] {
            let (mut overload, _) = fresh();
            run(&mut overload, &mut 0, turn_ms, 20_000);
            assert_eq!(overload.level(), expected, "{turn_ms} ms");
        }
    }

    #[test]
    fn a_burst_that_is_worked_off_is_no_overload() {
        let (mut overload, _) = fresh();
        let mut now_ms = 0;
        for _ in 0..50 {
            assert_eq!(run(&mut overload, &mut now_ms, 150, 150), [Level::Normal]);
            assert_eq!(run(&mut overload, &mut now_ms, 0, 10), [Level::Normal]);
        }
    }

    #[test]
    fn work_left_over_from_turn_to_turn_counts_from_where_it_began() {
        let (mut overload, pressure) = fresh();
        for now_ms in (0..2_000).step_by(10) {
            overload.begin(now_ms);
            if overload.is_due() {
                overload.look(Seen::default());
            }
            overload.leave_some(true);
            overload.end(Some(now_ms + 10));
        }
        assert_eq!(overload.level(), Level::Full, "short turns, none of which took all");
        assert!(pressure.late_ms() > 1_000);
    }

    #[test]
    fn levels_do_not_flutter_around_a_threshold() {
        let (mut overload, _) = fresh();
        let mut now_ms = 0;
        run(&mut overload, &mut now_ms, limits::BUSY_LATE_MS, 1_000);
        for _ in 0..20 {
            let below = run(&mut overload, &mut now_ms, limits::BUSY_LATE_MS - 3, 3_000);
            assert_eq!(below, [Level::Busy], "more than half of the threshold is no calm");
        }
    }

    #[test]
    fn full_queues_count_but_never_keep_sessions_out() {
        let (mut overload, _) = fresh();
        for (queue_percent, expected) in [(100, Level::Strained), (80, Level::Strained)] {
            let mut now_ms = overload.began_ms;
            for _ in 0..100 {
                now_ms += LOOK_MS;
                overload.begin(now_ms);
                overload.look(Seen { queue_percent, ..Seen::default() });
            }
            assert_eq!(overload.level(), expected, "{queue_percent} %");
        }
    }

    #[test]
    fn the_floor_from_outside_holds_at_once_and_ends_at_once() {
        let (mut overload, pressure) = fresh();
        pressure.set_floor(Level::Full);
        let seen = Seen { conns: 7, sessions: 5, stored: 4, delivered: 3, ..Seen::default() };
        assert_eq!(overload.look(seen).is, Level::Full);
        assert!(overload.is_full() && overload.is_strained() && overload.sheds_presence());
        assert_eq!((pressure.conns(), pressure.sessions()), (7, 5));
        assert_eq!((pressure.stored(), pressure.delivered()), (4, 3));
        pressure.set_floor(Level::Normal);
        assert_eq!(overload.look(Seen::default()).is, Level::Normal);
    }
}
