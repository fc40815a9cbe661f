//! Time as it is handed to the shards: milliseconds, read by the turn, never by a rule itself.
//!
//! Owner: the thread that runs a shard reads its clock at the start of a turn; everything below
//! gets the numbers. The simulator hands out its own.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of time, taken at the start of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds since the process started (in a shard: of its session clock, decision 0003);
    /// never goes back. Deadlines are in it.
    pub mono_ms: u64,
    /// Milliseconds since 1970 by the host's clock; may jump. For what people see, for the end of
    /// tokens and for presence.
    pub wall_ms: u64,
}

/// A moment of a `mono_ms` clock that is past, in four bytes: for records of which there are
/// millions.
///
/// It keeps the lower 32 bits of the milliseconds, so it is exact, and says only how long ago it
/// was, and that only up to [`Past::AGE_MS_MAX`]: after that it seems to have been a moment ago.
/// Whoever holds one writes it anew or looks at it in time. How long the clock has run, or the
/// record has lived, does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past(u32);

impl Past {
    /// Ages beyond this wrap: 49 days and 17 hours.
    pub const AGE_MS_MAX: u64 = u32::MAX as u64;

    /// This moment.
    #[must_use]
    pub const fn at(now_ms: u64) -> Self {
        Self(lower_half(now_ms))
    }

    /// Milliseconds since then. `now_ms` is of the same clock and not before it.
    #[must_use]
    pub const fn age_ms(self, now_ms: u64) -> u64 {
        lower_half(now_ms).wrapping_sub(self.0) as u64
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the upper half is what `Past` leaves out")]
const fn lower_half(ms: u64) -> u32 {
    ms as u32
}

/// Reads the host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    start: Instant,
}

impl HostClock {
    /// A clock whose monotonic side starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono_ms, wall_ms: wall_ms() }
    }
}

/// The time by which anything ends: what waits in inboxes, and what history keeps for a while.
///
/// It begins at the wall clock of the start and moves as the monotonic clock does, and it is never
/// ahead of the wall clock: a wall clock that is set, whichever way, ends nothing before its time.
/// Held (the wall clock was far ahead of the log at the start) nothing ends at all.
#[derive(Clone, Copy, Debug)]
pub struct ExpiryClock {
    wall_ms: u64,
    mono_ms: u64,
    held: bool,
}

impl ExpiryClock {
    /// A clock that begins now.
    #[must_use]
    pub fn new(now: Now, held: bool) -> Self {
        Self { wall_ms: now.wall_ms, mono_ms: now.mono_ms, held }
    }

    /// Milliseconds since 1970; `None`: nothing may end. The `mono_ms` of `now` is of the same
    /// clock as the one this began with.
    #[must_use]
    pub fn now_ms(&self, now: Now) -> Option<u64> {
        let passed_ms = now.mono_ms.saturating_sub(self.mono_ms);
        let believed_ms = self.wall_ms.saturating_add(passed_ms).min(now.wall_ms);
        (!self.held).then_some(believed_ms)
    }

    /// The same in seconds.
    #[must_use]
    pub fn now_s(&self, now: Now) -> Option<u32> {
        let seconds = self.now_ms(now)? / 1000;
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

/// Milliseconds since 1970 by the host's clock (0 if the clock stands before that).
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time for people, in UTC, given milliseconds since 1970.
#[must_use]
pub fn utc(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
}

/// Year, month and day so many days after 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = 365 + u64::from(is_leap);
        if days >= length {
            days -= length;
            year += 1;
            continue;
        }
        let february = 28 + u64::from(is_leap);
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in (1..).zip(months) {
            if days < length {
                return (year, month, days + 1);
            }
            days -= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_793_664_000_000;
    const DAY_MS: u64 = 24 * 3_600_000;

    fn at(mono_ms: u64, wall_ms: u64) -> Now {
        Now { mono_ms, wall_ms }
    }

    #[test]
    fn a_moment_past_is_as_old_as_it_is_however_long_the_clock_has_run() {
        const WRAP_MS: u64 = 1 << 32;
        for start_ms in [0, 7, WRAP_MS - 1, WRAP_MS, 5 * WRAP_MS - 300, u64::MAX / 2] {
            for age_ms in [0, 1, 299, 300, 750_000, Past::AGE_MS_MAX] {
                assert_eq!(Past::at(start_ms).age_ms(start_ms + age_ms), age_ms);
            }
        }
        assert_eq!(Past::at(3).age_ms(3 + Past::AGE_MS_MAX + 1), 0, "beyond its bound");
    }

    #[test]
    fn a_wall_clock_that_is_set_ends_nothing_before_its_time() {
        let clock = ExpiryClock::new(at(5_000, START_MS), false);
        assert_eq!(clock.now_ms(at(6_000, START_MS + 1_000)), Some(START_MS + 1_000));
        let ahead = at(6_000, START_MS + 40 * DAY_MS);
        assert_eq!(clock.now_ms(ahead), Some(START_MS + 1_000), "time that did not pass");
        assert_eq!(clock.now_s(ahead), Some(1_793_664_001));
        // It was wrong at the start and is put right: what is stamped now has its whole time.
        let back = at(7_000, START_MS - DAY_MS);
        assert_eq!(clock.now_ms(back), Some(START_MS - DAY_MS));
        assert_eq!(clock.now_ms(at(8_000, START_MS + 3_000)), Some(START_MS + 3_000));
    }

    #[test]
    fn a_clock_that_is_held_says_no_time() {
        let clock = ExpiryClock::new(at(0, START_MS), true);
        assert_eq!(clock.now_ms(at(1_000, START_MS + 1_000)), None);
        assert_eq!(clock.now_s(at(DAY_MS, START_MS + DAY_MS)), None);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_709_164_800_000), "2024-02-29 00:00:00 UTC");
        assert_eq!(utc(1_735_689_599_999), "2024-12-31 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }
}
