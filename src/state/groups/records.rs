//! The records of a group that somebody waits for.

use super::Group;
use crate::limits;
use crate::log::At;
use crate::state::inbox::Entry;
use std::collections::VecDeque;

/// A list with room for more records than this is given back when it is empty.
const SPARE_ENTRIES_MAX: usize = 128;

impl Group {
    /// Number of records somebody waits for.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are messages: of many changes nobody is told, but they are kept for those
    /// who fetch.
    #[must_use]
    pub fn waiting_messages(&self) -> usize {
        self.messages
    }

    /// Their payload bytes.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a record; its position is above all others. False: it is one change more than are kept
    /// for those who fetch.
    pub fn append(&mut self, entry: Entry) -> bool {
        assert!(self.entries.back().is_none_or(|last| last.position < entry.position), "I3");
        let changes = self.entries.len() - self.messages;
        if !entry.is_message() && changes >= limits::GROUP_CHANGES_MAX {
            return false;
        }
        self.count_in(&entry);
        self.entries.push_back(entry);
        true
    }

    /// Adds a record wherever its position belongs, when an image is loaded. False: it is there.
    pub fn insert(&mut self, entry: Entry) -> bool {
        let index = self.index_after(entry.position);
        if index > 0 && self.entries[index - 1].position == entry.position {
            return false;
        }
        self.count_in(&entry);
        self.entries.insert(index, entry);
        true
    }

    /// Records above `after`, oldest first.
    pub fn after(&self, after: u64) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.index_after(after)..)
    }

    /// Records below `before` (0: all), newest first.
    pub fn before(&self, before: u64) -> impl Iterator<Item = &Entry> {
        let before = if before == 0 { u64::MAX } else { before };
        self.entries.range(..self.index_after(before.saturating_sub(1))).rev()
    }

    /// All records, oldest first, to change what happens to them.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    /// The record of exactly this position.
    #[must_use]
    pub fn find(&self, position: u64) -> Option<&Entry> {
        self.index_of(position).map(|index| &self.entries[index])
    }

    /// The record of exactly this position, to change what happens to it.
    pub fn find_mut(&mut self, position: u64) -> Option<&mut Entry> {
        self.index_of(position).map(|index| &mut self.entries[index])
    }

    /// The record of exactly this position is durable at this place. Returns the entry as it was.
    pub fn place(&mut self, position: u64, at: At) -> Option<Entry> {
        let entry = self.find_mut(position)?;
        let former = *entry;
        entry.place(at);
        Some(former)
    }

    /// Takes the oldest record out if its position is at most `up_to`.
    pub fn pop_through(&mut self, up_to: u64) -> Option<Entry> {
        self.entries.front().filter(|first| first.position <= up_to)?;
        let first = self.entries.pop_front()?;
        self.count_out(&first);
        if self.entries.is_empty() && self.entries.capacity() > SPARE_ENTRIES_MAX {
            self.entries = VecDeque::new();
        }
        Some(first)
    }

    /// Takes the record of exactly this position out.
    pub fn remove(&mut self, position: u64) -> Option<Entry> {
        let entry = self.entries.remove(self.index_of(position)?)?;
        self.count_out(&entry);
        Some(entry)
    }

    fn count_in(&mut self, entry: &Entry) {
        self.bytes += u64::from(entry.bytes());
        self.messages += usize::from(entry.is_message());
    }

    fn count_out(&mut self, entry: &Entry) {
        self.bytes -= u64::from(entry.bytes());
        self.messages -= usize::from(entry.is_message());
    }

    fn index_after(&self, position: u64) -> usize {
        self.entries.partition_point(|entry| entry.position <= position)
    }

    fn index_of(&self, position: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&position, |entry| entry.position).ok()
    }
}
