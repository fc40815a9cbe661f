//! What was written by those who are blocked and has not had its time: their senders are told of
//! its end as of any message that nobody fetched. It counts for their share of the inbox until
//! then.
//!
//! Bounded by the quota of a sender and by [`limits::VOIDS_WAITING_MAX`].

use crate::limits;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Void {
    /// Who sent it,
    pub sender: u64,
    /// from which device,
    pub device: u32,
    /// under which number.
    pub client_id: u64,
    /// When its time is over, seconds since 1970.
    pub due_s: u32,
    /// Bytes of what was written, which is not kept.
    pub bytes: u32,
}

/// See the module. The key is (index of the recipient, position).
#[derive(Debug, Default)]
pub struct Voids {
    waiting: BTreeMap<(u32, u64), Void>,
    dues: BTreeSet<(u32, u32, u64)>,
    /// By sender: how many, and their bytes.
    counts: HashMap<(u32, u64), (u32, u64)>,
}

impl Voids {
    /// Whether another of this sender may wait, with so many bytes, of which `most` may: a number
    /// and bytes.
    #[must_use]
    pub fn has_room(&self, user: u32, sender: u64, bytes: u64, most: (u32, u64)) -> bool {
        let (count, waiting) = self.count(user, sender);
        let fits = count < most.0 && waiting.saturating_add(bytes) <= most.1;
        self.waiting.len() < limits::VOIDS_WAITING_MAX && fits
    }

    /// How many of this sender wait, and their bytes.
    #[must_use]
    pub fn count(&self, user: u32, sender: u64) -> (u32, u64) {
        self.counts.get(&(user, sender)).copied().unwrap_or_default()
    }

    /// Another one waits.
    pub fn add(&mut self, (user, position): (u32, u64), void: Void) {
        if self.waiting.insert((user, position), void).is_none() {
            let (count, bytes) = self.counts.entry((user, void.sender)).or_default();
            (*count, *bytes) = (*count + 1, *bytes + u64::from(void.bytes));
            self.dues.insert((void.due_s, user, position));
        }
    }

    /// It does not wait any more.
    pub fn remove(&mut self, user: u32, position: u64) {
        let Some(void) = self.waiting.remove(&(user, position)) else { return };
        self.dues.remove(&(void.due_s, user, position));
        if let Some((count, bytes)) = self.counts.get_mut(&(user, void.sender)) {
            *count -= 1;
            *bytes -= u64::from(void.bytes);
            if *count == 0 {
                self.counts.remove(&(user, void.sender));
            }
        }
    }

    /// One whose time is over; it is not named again before [`Voids::look_again`].
    pub fn pop_due(&mut self, now_s: u32) -> Option<(u32, u64)> {
        let &(due_s, user, position) = self.dues.first()?;
        (due_s <= now_s).then(|| {
            self.dues.pop_first();
            (user, position)
        })
    }

    /// Its sender could not be told: it is named again at this time.
    pub fn look_again(&mut self, user: u32, position: u64, due_s: u32) {
        if let Some(void) = self.waiting.get_mut(&(user, position)) {
            void.due_s = due_s;
            self.dues.insert((due_s, user, position));
        }
    }

    /// The one at this position.
    #[must_use]
    pub fn get(&self, user: u32, position: u64) -> Option<Void> {
        self.waiting.get(&(user, position)).copied()
    }

    /// Those from this one on.
    pub fn from(&self, key: (u32, u64)) -> impl Iterator<Item = ((u32, u64), Void)> + '_ {
        self.waiting.range(key..).map(|(key, void)| (*key, *void))
    }

    /// Those of a user are nobody's any more.
    pub fn forget(&mut self, user: u32) {
        let all = self.waiting.range((user, 0)..=(user, u64::MAX));
        let positions: Vec<u64> = all.map(|((_, position), _)| *position).collect();
        for position in positions {
            self.remove(user, position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_once_and_counts_until_it_goes() {
        let mut voids = Voids::default();
        let void = |client_id, due_s| Void { sender: 7, device: 1, client_id, due_s, bytes: 10 };
        voids.add((0, 5), void(1, 100));
        voids.add((0, 5), void(1, 100));
        voids.add((0, 6), void(2, 50));
        assert_eq!(voids.count(0, 7), (2, 20));
        assert!(voids.has_room(0, 7, 5, (3, 25)) && !voids.has_room(0, 7, 5, (2, 25)));
        assert!(!voids.has_room(0, 7, 6, (3, 25)), "their bytes count as well");
        assert_eq!((voids.pop_due(49), voids.pop_due(60)), (None, Some((0, 6))));
        assert_eq!(voids.pop_due(60), None, "until it is looked at again");
        voids.look_again(0, 6, 60);
        assert_eq!(voids.pop_due(60), Some((0, 6)));
        voids.remove(0, 6);
        assert_eq!(voids.pop_due(99), None);
        voids.forget(0);
        assert_eq!((voids.count(0, 7), voids.pop_due(u32::MAX)), ((0, 0), None));
    }
}
