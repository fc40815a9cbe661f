//! The lowest of the marks of all members, and how many stand there.

use std::cmp::Ordering;

/// See the module. Exact while `count` is not 0; after that a scan tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Low {
    /// The lowest mark.
    pub least: u64,
    /// How many members stand there; 0: nobody does any more, or there are no members.
    pub count: u32,
    /// One of those who stand there; 0: not known.
    pub last: u64,
    /// At the last scan: the lowest mark above it (`u64::MAX`: there was none).
    pub second: u64,
}

impl Low {
    /// A member comes with this mark.
    pub fn enter(&mut self, mark: u64) {
        match mark.cmp(&self.least) {
            Ordering::Less => (self.least, self.count, self.last) = (mark, 1, 0),
            Ordering::Equal => self.count += 1,
            Ordering::Greater => {} // if nobody stands at the lowest, a scan is due anyway
        }
    }

    /// A member goes, with this mark.
    pub fn leave(&mut self, mark: u64) {
        if mark == self.least {
            self.count = self.count.saturating_sub(1);
            self.last = 0;
        }
    }

    /// A member's mark moves forward.
    pub fn advance(&mut self, from: u64, to: u64) {
        if to > from {
            self.leave(from);
        }
    }

    /// Begins a scan.
    pub(super) fn restart(&mut self) {
        *self = Self { least: u64::MAX, count: 0, last: 0, second: u64::MAX };
    }

    /// A member in a scan.
    pub(super) fn meet(&mut self, mark: u64, user: u64) {
        if mark < self.least {
            (self.second, self.least) = (self.least, mark);
            (self.count, self.last) = (1, user);
        } else if mark == self.least {
            self.count += 1;
        } else {
            self.second = self.second.min(mark);
        }
    }
}
