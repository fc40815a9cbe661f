//! Who wrote to whom: per (recipient, sender) the marks that become receipts.
//!
//! Kept at the recipient's home. The truth of tick 2 is the recipient's cursor, of tick 3 the mark
//! `read` kept here per conversation (a reader who opened one chat has not read the others);
//! `told_*` is what the sender's home was told already. Dirty pairs are a list of flags, never
//! queue entries: any number of changes become one receipt.
//! Bounded by `pairs_max`: a pair that can't be kept costs its sender ticks 2 and 3 and the quota
//! per sender, never the message.

use crate::mem::Index;
use crate::state::NONE;

/// One (recipient, sender). 64 bytes.
#[derive(Debug)]
pub struct Pair {
    /// The sender's id.
    pub sender: u64,
    /// The last position the sender got in the recipient's stream.
    pub last: u64,
    /// The recipient read this conversation up to here.
    pub read: u64,
    /// The sender's home was told tick 2 up to here.
    pub told_has: u64,
    /// The sender's home was told tick 3 up to here.
    pub told_read: u64,
    /// Payload bytes of this sender waiting in the inbox.
    pub waiting_bytes: u64,
    /// Messages of this sender waiting in the inbox.
    pub waiting: u32,
    /// Index of the recipient.
    pub recipient: u32,
    /// Next pair of the same recipient.
    pub next: u32,
    /// On the dirty list.
    pub dirty: bool,
    /// The mark `read`, or `answered`, is ahead of the log.
    pub read_dirty: bool,
    /// The recipient wrote to the sender. Kept for those who have strangers marked.
    pub answered: bool,
}

/// The pairs of a shard.
#[derive(Debug)]
pub struct Pairs {
    pairs: slab::Slab<Pair>,
    index: Index,
    dirty: Vec<u32>,
    pairs_max: usize,
    /// Slots that were ever taken.
    slots: usize,
}

impl Pairs {
    /// Room for `pairs_max` pairs; grows on demand up to that (most users write to few others).
    #[must_use]
    pub fn new(pairs_max: usize) -> Self {
        let (pairs, index) = (slab::Slab::new(), Index::default());
        Self { pairs, index, dirty: Vec::new(), pairs_max, slots: 0 }
    }

    /// Index of a pair.
    #[must_use]
    pub fn find(&self, recipient: u32, sender: u64) -> Option<u32> {
        let same = |&index: &u32| {
            self.pairs
                .get(index as usize)
                .is_some_and(|pair| pair.recipient == recipient && pair.sender == sender)
        };
        self.index.find(hash(recipient, sender), same).copied()
    }

    /// Index of a pair. `first` is the recipient's list of pairs: most people hear from one more
    /// than from others, often it is the first, and the index, a wait for memory of its own, need
    /// not be asked.
    #[must_use]
    pub fn find_from(&self, first: u32, recipient: u32, sender: u64) -> Option<u32> {
        if self.get_if_any(first).is_some_and(|pair| pair.sender == sender) {
            return Some(first);
        }
        self.find(recipient, sender)
    }

    /// Index of a pair, made if there is room. `first` is the recipient's list of pairs.
    pub fn find_or_add(&mut self, recipient: u32, sender: u64, first: &mut u32) -> Option<u32> {
        if let Some(index) = self.find_from(*first, recipient, sender) {
            return Some(index);
        }
        if self.pairs.len() >= self.pairs_max {
            return None;
        }
        let index = u32::try_from(self.pairs.insert(Pair {
            sender,
            last: 0,
            read: 0,
            told_has: 0,
            told_read: 0,
            waiting_bytes: 0,
            waiting: 0,
            recipient,
            next: *first,
            dirty: false,
            read_dirty: false,
            answered: false,
        }))
        .ok()?;
        *first = index;
        self.slots = self.slots.max(index as usize + 1);
        let pairs = &self.pairs;
        self.index.insert_unique(hash(recipient, sender), index, |&other| {
            pairs.get(other as usize).map_or(0, |pair| hash(pair.recipient, pair.sender))
        });
        Some(index)
    }

    /// A pair by index; indices come from this table.
    #[must_use]
    pub fn get(&self, index: u32) -> &Pair {
        &self.pairs[index as usize]
    }

    /// The pair in a slot, if there is one.
    #[must_use]
    pub fn get_if_any(&self, slot: u32) -> Option<&Pair> {
        self.pairs.get(slot as usize)
    }

    /// Slots there are, taken or not; all pairs are in those below.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// A pair by index, to change it.
    pub fn get_mut(&mut self, index: u32) -> &mut Pair {
        &mut self.pairs[index as usize]
    }

    /// Forgets all pairs of a recipient, whose list begins with `first`. Returns their indices.
    pub fn remove_all(&mut self, first: u32) -> Vec<u32> {
        let all: Vec<u32> = self.of(first).collect();
        for &index in &all {
            let pair = self.pairs.remove(index as usize);
            let entry =
                self.index.find_entry(hash(pair.recipient, pair.sender), |&other| other == index);
            if let Ok(entry) = entry {
                entry.remove();
            }
        }
        self.dirty.retain(|index| self.pairs.contains(*index as usize));
        all
    }

    /// The sender of this pair has something to be told.
    pub fn mark_dirty(&mut self, index: u32) {
        let pair = &mut self.pairs[index as usize];
        if !pair.dirty {
            pair.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Takes the list of dirty pairs (their flags stay set until [`Pairs::clean`]); give the
    /// emptied vector back with [`Pairs::still_dirty`].
    #[must_use]
    pub fn take_dirty(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty)
    }

    /// The sender was told everything.
    pub fn clean(&mut self, index: u32) {
        self.pairs[index as usize].dirty = false;
    }

    /// What could not be told yet.
    pub fn still_dirty(&mut self, list: Vec<u32>) {
        debug_assert!(self.dirty.is_empty(), "nothing is marked while receipts are told");
        self.dirty = list;
    }

    /// Whether somebody has something to be told.
    #[must_use]
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Number of pairs.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pairs.len()
    }

    /// The pairs of one recipient, as indices.
    pub fn of(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors((first != NONE).then_some(first), |&index| {
            let next = self.pairs[index as usize].next;
            (next != NONE).then_some(next)
        })
    }
}

fn hash(recipient: u32, sender: u64) -> u64 {
    let mixed = (sender ^ (u64::from(recipient) << 32 | u64::from(recipient)))
        .wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_dirty_once_however_often_it_is_marked() {
        let mut pairs = Pairs::new(10);
        let mut first = NONE;
        let pair = pairs.find_or_add(0, 7, &mut first).unwrap();
        pairs.mark_dirty(pair);
        pairs.mark_dirty(pair);
        let mut dirty = pairs.take_dirty();
        assert_eq!(dirty, [pair]);
        dirty.clear();
        pairs.clean(pair);
        pairs.still_dirty(dirty);
        assert!(!pairs.has_dirty());
    }

    #[test]
    fn the_table_has_an_end_and_lists_the_pairs_of_a_recipient() {
        let mut pairs = Pairs::new(2);
        let mut first = NONE;
        let a = pairs.find_or_add(0, 7, &mut first).unwrap();
        let b = pairs.find_or_add(0, 8, &mut first).unwrap();
        assert_eq!(pairs.find_or_add(0, 9, &mut first), None);
        assert_eq!(pairs.find_or_add(0, 7, &mut first), Some(a));
        assert_eq!(pairs.of(first).collect::<Vec<_>>(), [b, a]);
    }
}
