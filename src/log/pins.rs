//! Pins: who besides the shards still needs old segments (a follower of the log, a backup).
//!
//! Owner: shared by the committer, which asks before it frees anything, and whoever reads the log
//! beside it. A pin names the lowest segment its holder needs; it ends when it is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All pins of a log; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    pins: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    lowest: BTreeMap<u64, u32>,
}

/// Keeps every segment from one number on from being freed.
#[derive(Debug)]
pub struct Pin {
    pins: Pins,
    number: u64,
}

impl Pins {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps every segment from `lowest` on.
    #[must_use]
    pub fn pin(&self, lowest: u32) -> Pin {
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.lowest.insert(number, lowest);
        Pin { pins: self.clone(), number }
    }

    /// Does something to a segment unless it is pinned; nobody can pin it meanwhile.
    pub(super) fn unless_pinned<T>(&self, segment: u32, act: impl FnOnce() -> T) -> Option<T> {
        let table = self.table();
        let lowest = table.lowest.values().copied().min().unwrap_or(u32::MAX);
        let done = (segment < lowest).then(act);
        drop(table); // only now may it be pinned
        done
    }

    /// The lowest segment anybody needs; `u32::MAX` if nobody needs any.
    #[must_use]
    pub fn lowest(&self) -> u32 {
        self.table().lowest.values().copied().min().unwrap_or(u32::MAX)
    }
}

impl Pin {
    /// From now on segments from `lowest` on are enough.
    pub fn move_to(&self, lowest: u32) {
        self.pins.table().lowest.insert(self.number, lowest);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.table().lowest.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_pin_counts_until_it_is_dropped() {
        let pins = Pins::default();
        assert_eq!(pins.lowest(), u32::MAX);
        let one = pins.pin(7);
        let other = pins.pin(3);
        assert_eq!(pins.lowest(), 3);
        other.move_to(9);
        assert_eq!(pins.lowest(), 7);
        drop(one);
        assert_eq!(pins.lowest(), 9);
        drop(other);
        assert_eq!(pins.lowest(), u32::MAX);
    }
}
