//! Groups whose home is this shard: members, their marks, the records that still wait for somebody.
//!
//! The truth about a group is its stream in the log; this is what it says. What members' homes keep
//! of it (`circles`) is a cache. Slots are never used twice: an image walks them while groups come
//! and go.

mod group;
mod letters;
mod low;
mod records;

pub use group::{Former, Group, Member};
pub use letters::{Joining, Letter, Page, Piece, Pushed, Stand, Stands, Tick, Tiding, Typing};
pub use low::Low;

use hashbrown::HashTable;
use std::collections::{BTreeSet, VecDeque};

/// The groups of one shard.
#[derive(Debug, Default)]
pub struct Groups {
    slots: Vec<Option<Box<Group>>>,
    index: HashTable<u32>,
    count: usize,
    /// Groups with something that may have to go: (seconds since 1970, index).
    dates: BTreeSet<(u32, u32)>,
    /// Groups whose marks moved.
    pub dirty_marks: Vec<u32>,
    /// Groups of which some shard is to be told the head.
    pub dirty_heads: VecDeque<u32>,
    /// Groups of whose releases the log is to be told.
    pub dirty_releases: Vec<u32>,
    /// (group, user): the user's account is gone, and it is to leave.
    pub quits: VecDeque<(u64, u64)>,
    /// Groups that are over and not taken apart yet: nobody finds them any more.
    pub over: VecDeque<Box<Group>>,
    /// Scratch: authors who are to be told.
    pub authors: Vec<u64>,
}

impl Groups {
    /// Index of a group.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<u32> {
        self.index.find(hash(id), |&index| self.id_of(index) == id).copied()
    }

    /// A group by its index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Group> {
        self.slots.get(index as usize)?.as_deref()
    }

    /// A group by its index, to change it.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Group> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    /// A group by its id.
    #[must_use]
    pub fn of(&self, id: u64) -> Option<&Group> {
        self.get(self.find(id)?)
    }

    /// Adds a group without members, unless there is one with this id.
    pub fn add(&mut self, id: u64) -> u32 {
        if let Some(index) = self.find(id) {
            return index;
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        assert!(index != u32::MAX, "fewer than 2^32 groups fit a process");
        self.slots.push(Some(Box::new(Group::new(id))));
        let slots = &self.slots;
        let id_of = |index: u32| slots[index as usize].as_ref().map_or(0, |group| group.id);
        self.index.insert_unique(hash(id), index, |&other| hash(id_of(other)));
        self.count += 1;
        index
    }

    /// Takes a group out.
    pub fn remove(&mut self, index: u32) -> Option<Box<Group>> {
        let id = self.id_of(index);
        let group = self.slots.get_mut(index as usize)?.take()?;
        if let Ok(entry) = self.index.find_entry(hash(id), |&other| other == index) {
            entry.remove();
        }
        self.dates.remove(&(group.due_s, index));
        self.count -= 1;
        Some(group)
    }

    /// Number of groups.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Slots so far, those of groups that ended included.
    #[must_use]
    pub fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Something in this group may have to go at `due_s`.
    pub fn note_due(&mut self, index: u32, due_s: u32) {
        let Some(group) = self.slots.get_mut(index as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        let due_s = due_s.max(1);
        if group.due_s != 0 && group.due_s <= due_s {
            return;
        }
        self.dates.remove(&(group.due_s, index));
        group.due_s = due_s;
        self.dates.insert((due_s, index));
    }

    /// A group whose date has come. It has no date then.
    pub fn pop_due(&mut self, now_s: u32) -> Option<u32> {
        let &(due_s, index) = self.dates.first().filter(|(due_s, _)| *due_s <= now_s)?;
        self.dates.remove(&(due_s, index));
        if let Some(group) = self.get_mut(index) {
            group.due_s = 0;
        }
        Some(index)
    }

    /// Marks of this group moved.
    pub fn touch_marks(&mut self, index: u32) {
        let Some(group) = self.slots.get_mut(index as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        if !std::mem::replace(&mut group.marks_dirty, true) {
            self.dirty_marks.push(index);
        }
    }

    /// These shards are to be told of the head of this group.
    pub fn touch_head(&mut self, index: u32, shards: u64) {
        let Some(group) = self.slots.get_mut(index as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        group.heads_due |= shards;
        if shards != 0 && !std::mem::replace(&mut group.heads_dirty, true) {
            self.dirty_heads.push_back(index);
        }
    }

    /// Everything up to `position` was let go; the log is to be told at leisure.
    pub fn touch_release(&mut self, index: u32, position: u64) {
        let Some(group) = self.slots.get_mut(index as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        group.released = group.released.max(position);
        if !std::mem::replace(&mut group.release_dirty, true) {
            self.dirty_releases.push(index);
        }
    }

    fn id_of(&self, index: u32) -> u64 {
        self.get(index).map_or(0, |group| group.id)
    }
}

/// Spreads ids over the index.
pub(super) fn hash(id: u64) -> u64 {
    let mixed = (id ^ (id >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests;
