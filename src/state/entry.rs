//! What is known of one waiting record.
//!
//! An entry knows where its record lies in the log once the record is durable; nothing is read
//! before that.

use crate::log::At;

/// One waiting record. 40 bytes; most are kept packed, see `packed.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the stream.
    pub position: u64,
    /// Where the record lies, packed; [`STAGED`] until it is durable.
    pub(super) at: u64,
    /// Who sent it.
    pub sender: u64,
    /// From which of the sender's devices.
    pub device: u32,
    /// Bytes of its payload; the top bits are marks.
    pub(super) size: u32,
    /// With a time to live of its own: when that is over, seconds since 1970. Otherwise 0.
    pub(super) due_s: u32,
}

const _: () = assert!(size_of::<Entry>() <= 40);

const STAGED: u64 = u64::MAX;
/// What the entry is, and what happens to it: marks in `size`.
pub(super) const OWN_COPY: u32 = 1 << 31;
pub(super) const NOTICE: u32 = 1 << 30;
pub(super) const TIMED: u32 = 1 << 29;
pub(super) const EXPIRING: u32 = 1 << 28;
pub(super) const MOVING: u32 = 1 << 27;
pub(super) const BYTES: u32 = MOVING - 1;

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
    /// An entry whose record is staged but not durable yet. `due_s`: when its own time to live is
    /// over, if it has one, in seconds since 1970.
    #[must_use]
    pub fn staged(
        position: u64,
        (sender, device): (u64, u32),
        bytes: u32,
        what: What,
        due_s: Option<u32>,
    ) -> Self {
        let what = match what {
            What::Message => 0,
            What::OwnCopy => OWN_COPY,
            What::Notice => NOTICE,
        };
        let timed = if due_s.is_some() { TIMED } else { 0 };
        let size = bytes.min(BYTES) | what | timed;
        Self { position, at: STAGED, sender, device, size, due_s: due_s.unwrap_or(0) }
    }

    /// An entry as [`Entry::parts`] took it apart; without a place if `at` is 0.
    #[must_use]
    pub fn from_parts(
        position: u64,
        at: u64,
        (sender, device): (u64, u32),
        size: u32,
        due_s: u32,
    ) -> Self {
        let at = if at == 0 { STAGED } else { at };
        let size = size & (OWN_COPY | NOTICE | TIMED | BYTES);
        let due_s = if size & TIMED == 0 { 0 } else { due_s };
        Self { position, at, sender, device, size, due_s }
    }

    /// Place (0: none yet), size with marks, and end of its own time to live (0: none), for an
    /// image.
    #[must_use]
    pub fn parts(&self) -> (u64, u32, u32) {
        let place = if self.at == STAGED { 0 } else { self.at };
        (place, self.size & (OWN_COPY | NOTICE | TIMED | BYTES), self.due_s)
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

    /// When its own time to live is over, in seconds since 1970, if it has one.
    #[must_use]
    pub fn due_s(&self) -> Option<u32> {
        self.is_timed().then_some(self.due_s)
    }

    /// It may be packed: its record is durable and nothing happens to it.
    #[must_use]
    pub(super) fn is_settled(&self) -> bool {
        self.at != STAGED && self.size & (EXPIRING | MOVING) == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_readable_only_when_placed() {
        let mut entry = Entry::staged(7, (1, 1), 150, What::OwnCopy, None);
        assert_eq!(entry.at(), None);
        entry.place(At { segment: 3, offset: 4096 });
        assert_eq!(entry.at(), Some(At { segment: 3, offset: 4096 }));
        assert_eq!((entry.bytes(), entry.is_own_copy()), (150, true));
    }

    #[test]
    fn an_entry_is_put_together_as_it_was_taken_apart() {
        for due_s in [None, Some(0), Some(77)] {
            let mut entry = Entry::staged(7, (1, 2), 150, What::Notice, due_s);
            for _ in 0..2 {
                let (at, size, end_s) = entry.parts();
                assert_eq!(Entry::from_parts(7, at, (1, 2), size, end_s), entry);
                entry.place(At { segment: 3, offset: 4096 });
            }
        }
    }
}
