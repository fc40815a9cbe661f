//! Tells the operator at which level of overload the server is, when that changes.
//!
//! Owner: the main thread, with each of its looks. The level of the server is that of the shard
//! with the highest. Deliberately not here: how a shard judges its level (`shard::overload`).

use crate::limits;
use crate::shard::{Level, Pressure};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Teller {
    told: Level,
    told_ms: Option<u64>,
}

impl Teller {
    /// Looks, and says what is news. `now_ms` is of a monotonic clock.
    pub(super) fn look(&mut self, pressures: &[Arc<Pressure>], now_ms: u64) {
        let level = pressures.iter().map(|shard| shard.level()).max().unwrap_or_default();
        if !self.is_news(level, now_ms) {
            return;
        }
        let count = pressures.iter().filter(|shard| shard.level() == level).count();
        let late_ms = pressures.iter().map(|shard| shard.late_ms()).max().unwrap_or(0);
        let percent = pressures.iter().map(|shard| shard.queue_percent()).max().unwrap_or(0);
        eprintln!(
            "myriad: level {} ({count} of {} shards; {late_ms} ms behind, queues {percent} % full \
             at the most): {}",
            level.name(),
            pressures.len(),
            level.sheds()
        );
    }

    /// Whether this level is to be told. A line is late rather than one of many.
    fn is_news(&mut self, level: Level, now_ms: u64) -> bool {
        let soon = self.told_ms.is_some_and(|told_ms| now_ms < told_ms + limits::LEVEL_TELL_MS);
        if level == self.told || soon {
            return false;
        }
        (self.told, self.told_ms) = (level, Some(now_ms));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_told_once_and_the_last_one_is_told_in_the_end() {
        let mut teller = Teller::default();
        assert!(!teller.is_news(Level::Normal, 0));
        assert!(teller.is_news(Level::Busy, 20));
        assert!(!teller.is_news(Level::Busy, 90_000));
        assert!(teller.is_news(Level::Full, 100_000));
        for now_ms in (100_020..100_000 + limits::LEVEL_TELL_MS).step_by(20) {
            assert!(!teller.is_news(Level::Normal, now_ms), "at {now_ms}");
        }
        assert!(teller.is_news(Level::Normal, 100_000 + limits::LEVEL_TELL_MS));
    }
}
