//! Inboxes: the records of a user's stream that some device has not acked yet.
//!
//! Only users with waiting mail own one; the deques are pooled. Invariant (I3): positions ascend.
//! An entry knows where its record lies in the log once the record is durable; nothing is read
//! before that.

use crate::log::At;
use crate::state::NONE;
use std::collections::VecDeque;

/// One waiting record. 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the stream.
    pub position: u64,
    /// Where the record lies, packed; [`STAGED`] until it is durable.
    at: u64,
    /// Who sent it.
    pub sender: u64,
    /// From which of the sender's devices.
    pub device: u32,
    /// Bytes of its payload; the top bits are marks.
    size: u32,
}

/// Entries at the end of an inbox that are looked at one by one: two cache lines.
const LATE_ENTRIES: usize = 4;
const STAGED: u64 = u64::MAX;
/// What the entry is, and what happens to it: marks in `size`.
const OWN_COPY: u32 = 1 << 31;
const NOTICE: u32 = 1 << 30;
const TIMED: u32 = 1 << 29;
const EXPIRING: u32 = 1 << 28;
const MOVING: u32 = 1 << 27;
const BYTES: u32 = MOVING - 1;

/// What a waiting record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A message from somebody.
    Message,
    /// A copy of what the user sent from another device.
    OwnCopy,
    /// Word that a message of the user's was given up.
    Notice,
}

impl Entry {
    /// An entry whose record is staged but not durable yet. `timed`: it has a time to live of its
    /// own.
    #[must_use]
    pub fn staged(
        position: u64,
        (sender, device): (u64, u32),
        bytes: u32,
        what: What,
        timed: bool,
    ) -> Self {
        let what = match what {
            What::Message => 0,
            What::OwnCopy => OWN_COPY,
            What::Notice => NOTICE,
        };
        let size = bytes.min(BYTES) | what | if timed { TIMED } else { 0 };
        Self { position, at: STAGED, sender, device, size }
    }

    /// An entry as [`Entry::parts`] took it apart; without a place if `at` is 0.
    #[must_use]
    pub fn from_parts(position: u64, at: u64, sender: u64, device: u32, size: u32) -> Self {
        let at = if at == 0 { STAGED } else { at };
        Self { position, at, sender, device, size: size & (OWN_COPY | NOTICE | TIMED | BYTES) }
    }

    /// Place (0: none yet) and size with marks, for an image.
    #[must_use]
    pub fn parts(&self) -> (u64, u32) {
        let place = if self.at == STAGED { 0 } else { self.at };
        (place, self.size & (OWN_COPY | NOTICE | TIMED | BYTES))
    }

    /// Where its record lies, once durable.
    #[must_use]
    pub fn at(&self) -> Option<At> {
        let (segment, offset) = (self.at >> 32, self.at & u64::from(u32::MAX));
        let place =
            At { segment: u32::try_from(segment).ok()?, offset: u32::try_from(offset).ok()? };
        (self.at != STAGED).then_some(place)
    }

    /// The record is durable at this place.
    pub fn place(&mut self, at: At) {
        self.at = (u64::from(at.segment) << 32) | u64::from(at.offset);
        self.size &= !MOVING;
    }

    /// Payload bytes.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.size & BYTES
    }

    /// A message from somebody: it counts for its sender's quota and ticks.
    #[must_use]
    pub fn is_message(&self) -> bool {
        self.size & (OWN_COPY | NOTICE) == 0
    }

    /// It has a time to live of its own.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.size & TIMED != 0
    }

    /// Its time is over and its sender is being told: it is pushed to nobody any more.
    #[must_use]
    pub fn is_expiring(&self) -> bool {
        self.size & EXPIRING != 0
    }

    /// Sets whether its sender is being told that its time is over.
    pub fn set_expiring(&mut self, expiring: bool) {
        self.size = if expiring { self.size | EXPIRING } else { self.size & !EXPIRING };
    }

    /// A copy of its record further on in the log is staged and not durable yet.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.size & MOVING != 0
    }

    /// Its record is being copied forward.
    pub fn set_moving(&mut self) {
        self.size |= MOVING;
    }

    /// A copy of what the user sent from another device.
    #[must_use]
    pub fn is_own_copy(&self) -> bool {
        self.size & OWN_COPY != 0
    }
}

/// The waiting records of one user.
#[derive(Debug, Default)]
pub struct Inbox {
    entries: VecDeque<Entry>,
    bytes: u64,
    copies: usize,
    copy_bytes: u64,
    /// When those with a time to live of their own have it over, by position: seconds since 1970.
    timed: VecDeque<(u64, u32)>,
    /// When the first of them, or the oldest, may have to go: seconds since 1970. 0: not known.
    pub due_s: u32,
}

impl Inbox {
    /// Adds a record; its position is above all others.
    pub fn append(&mut self, entry: Entry) {
        assert!(self.entries.back().is_none_or(|last| last.position < entry.position), "I3");
        self.count_in(&entry);
        self.entries.push_back(entry);
    }

    /// Adds a record wherever its position belongs, when an image is loaded. False: it is there.
    pub fn insert(&mut self, entry: Entry) -> bool {
        let index = self.entries.partition_point(|other| other.position < entry.position);
        let is_new = self.entries.get(index).is_none_or(|other| other.position != entry.position);
        if is_new {
            self.count_in(&entry);
            self.entries.insert(index, entry);
        }
        is_new
    }

    /// Takes the record of exactly this position out.
    pub fn remove(&mut self, position: u64) -> Option<Entry> {
        let index = self.entries.partition_point(|entry| entry.position < position);
        if self.entries.get(index).is_none_or(|entry| entry.position != position) {
            return None;
        }
        let entry = self.entries.remove(index)?;
        self.count_out(&entry);
        Some(entry)
    }

    fn count_in(&mut self, entry: &Entry) {
        self.bytes += u64::from(entry.bytes());
        if !entry.is_message() {
            self.copies += 1;
            self.copy_bytes += u64::from(entry.bytes());
        }
    }

    fn count_out(&mut self, entry: &Entry) {
        self.bytes -= u64::from(entry.bytes());
        if entry.is_timed() {
            let index = self.timed.partition_point(|(other, _)| *other < entry.position);
            if self.timed.get(index).is_some_and(|(other, _)| *other == entry.position) {
                self.timed.remove(index);
            }
        }
        if !entry.is_message() {
            self.copies -= 1;
            self.copy_bytes -= u64::from(entry.bytes());
        }
    }

    /// Takes the oldest record out if its position is at most `up_to`.
    pub fn pop_through(&mut self, up_to: u64) -> Option<Entry> {
        if self.entries.front().is_none_or(|first| first.position > up_to) {
            return None;
        }
        let first = self.entries.pop_front()?;
        self.count_out(&first);
        Some(first)
    }

    /// The entry of exactly this position.
    pub fn find(&mut self, position: u64) -> Option<&mut Entry> {
        // What has just become durable is mostly among the last, which were touched a moment ago;
        // a search through a long inbox would wait for memory at every step.
        let late = self.entries.len().saturating_sub(LATE_ENTRIES);
        let is_late = self.entries.get(late).is_some_and(|first| first.position <= position);
        let index = if is_late {
            late + self.entries.range(late..).take_while(|late| late.position < position).count()
        } else {
            self.entries.partition_point(|entry| entry.position < position)
        };
        self.entries.get_mut(index).filter(|entry| entry.position == position)
    }

    /// Entries with a position above `after`, oldest first.
    pub fn after(&self, after: u64) -> impl Iterator<Item = &Entry> {
        let index = self.entries.partition_point(|entry| entry.position <= after);
        self.entries.range(index..)
    }

    /// All entries, oldest first, to change marks.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    /// Position of the youngest waiting record.
    #[must_use]
    pub fn last_position(&self) -> Option<u64> {
        self.entries.back().map(|last| last.position)
    }

    /// Number of waiting records.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Notes when an entry that has a time to live of its own has it over.
    pub fn set_due(&mut self, position: u64, due_s: u32) {
        let index = self.timed.partition_point(|(other, _)| *other < position);
        self.timed.insert(index, (position, due_s));
    }

    /// When the entry at `position` has its own time to live over, if it has one.
    #[must_use]
    pub fn due_of(&self, position: u64) -> Option<u32> {
        let index = self.timed.partition_point(|(other, _)| *other < position);
        self.timed.get(index).filter(|(other, _)| *other == position).map(|(_, due_s)| *due_s)
    }

    /// How many of them are copies of what the user sent, or notices.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Payload bytes of those.
    #[must_use]
    pub fn copy_bytes(&self) -> u64 {
        self.copy_bytes
    }

    /// Payload bytes of the waiting records.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// All inboxes with waiting mail.
#[derive(Debug, Default)]
pub struct Inboxes {
    slots: slab::Slab<Inbox>,
    spare: Vec<Inbox>,
}

const SPARE_INBOXES_MAX: usize = 16 * 1024;
const SPARE_ENTRIES_MAX: usize = 128;

impl Inboxes {
    /// The inbox behind a handle, made if the handle names none.
    pub fn of(&mut self, handle: &mut u32) -> &mut Inbox {
        if *handle == NONE {
            let fresh = self.spare.pop().unwrap_or_default();
            *handle = u32::try_from(self.slots.insert(fresh)).unwrap_or(NONE);
        }
        &mut self.slots[*handle as usize]
    }

    /// The inbox behind a handle.
    #[must_use]
    pub fn get(&self, handle: u32) -> Option<&Inbox> {
        self.slots.get(handle as usize)
    }

    /// The inbox behind a handle, to change it.
    pub fn get_mut(&mut self, handle: u32) -> Option<&mut Inbox> {
        self.slots.get_mut(handle as usize)
    }

    /// Recycles the inbox behind a handle if nothing waits in it.
    pub fn release_empty(&mut self, handle: &mut u32) {
        if self.slots.get(*handle as usize).is_none_or(|inbox| inbox.count() > 0) {
            return;
        }
        let mut inbox = self.slots.remove(*handle as usize);
        inbox.due_s = 0;
        *handle = NONE;
        if inbox.entries.capacity() <= SPARE_ENTRIES_MAX && self.spare.len() < SPARE_INBOXES_MAX {
            self.spare.push(inbox);
        }
    }

    /// Number of users with waiting mail.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_readable_only_when_placed() {
        let mut entry = Entry::staged(7, (1, 1), 150, What::OwnCopy, false);
        assert_eq!(entry.at(), None);
        entry.place(At { segment: 3, offset: 4096 });
        assert_eq!(entry.at(), Some(At { segment: 3, offset: 4096 }));
        assert_eq!((entry.bytes(), entry.is_own_copy()), (150, true));
    }

    #[test]
    fn popping_stops_at_the_mark_and_keeps_the_byte_count() {
        let mut inbox = Inbox::default();
        for position in 1..=5 {
            inbox.append(Entry::staged(position * 10, (1, 1), 100, What::Message, false));
        }
        assert_eq!(inbox.after(20).map(|entry| entry.position).collect::<Vec<_>>(), [30, 40, 50]);
        assert_eq!(inbox.pop_through(25).map(|entry| entry.position), Some(10));
        assert_eq!(inbox.pop_through(25).map(|entry| entry.position), Some(20));
        assert_eq!(inbox.pop_through(25), None);
        assert_eq!((inbox.count(), inbox.bytes()), (3, 300));
        assert!(inbox.find(40).is_some() && inbox.find(41).is_none());
    }

    #[test]
    fn every_entry_is_found_and_nothing_between_them() {
        let mut inbox = Inbox::default();
        for count in 0..3 * LATE_ENTRIES as u64 {
            for position in 0..=2 * count + 1 {
                let there = position > 0 && position <= 2 * count && position % 2 == 0;
                assert_eq!(
                    inbox.find(position).map(|entry| entry.position == position),
                    there.then_some(true),
                    "{position} of {count}"
                );
            }
            inbox.append(Entry::staged(2 * (count + 1), (1, 1), 1, What::Message, false));
        }
    }

    #[test]
    fn an_empty_inbox_goes_back_to_the_pool() {
        let mut inboxes = Inboxes::default();
        let mut handle = NONE;
        inboxes.of(&mut handle).append(Entry::staged(1, (1, 1), 1, What::Message, false));
        inboxes.release_empty(&mut handle);
        assert_ne!(handle, NONE);
        inboxes.get_mut(handle).unwrap().pop_through(1);
        inboxes.release_empty(&mut handle);
        assert_eq!((handle, inboxes.count()), (NONE, 0));
    }
}
