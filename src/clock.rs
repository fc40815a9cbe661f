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

/// Milliseconds since 1970 by the host's clock (0 if the clock stands before that).
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
