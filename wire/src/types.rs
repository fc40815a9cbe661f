//! The values frames are made of: ids, streams, relations, marks.
//!
//! Plain `Copy` data; no owner thread. Their protobuf shapes are in `schema.rs`.
//! Deliberately not here: reasons of refusals and goodbyes (`reasons.rs`).

/// Names one message for good, wherever and however often it is stored or delivered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct MessageId {
    /// The user who sent it; never 0.
    pub sender: u64,
    /// The sender's device; never 0.
    pub device: u32,
    /// That device's own counter; never 0, larger for every new message.
    pub client_id: u64,
}

/// Which answers (`Sent` or a final `Refused`) a device has seen: all up to `base`, and
/// `base + 1 + i` where bit `i` of `map` is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Confirmed {
    /// Every answer up to this id was seen.
    pub base: u64,
    /// Answers seen above the base, one bit each.
    pub map: u64,
}

impl Confirmed {
    /// Whether the answer to `client_id` was seen.
    pub fn covers(&self, client_id: u64) -> bool {
        match client_id.checked_sub(self.base) {
            None | Some(0) => true,
            Some(above) if above <= u64::from(u64::BITS) => self.map >> (above - 1) & 1 == 1,
            Some(_) => false,
        }
    }

    /// Client side: notes that the answer to `client_id` was seen; the base advances over all that
    /// follow it without a gap. An id more than 64 above the base can't be noted and changes
    /// nothing: the server refuses such a `Send`, so there is no answer to see.
    pub fn insert(&mut self, client_id: u64) {
        let Some(above) = client_id.checked_sub(self.base) else { return };
        if above == 0 || above > u64::from(u64::BITS) {
            return;
        }
        self.map |= 1 << (above - 1);
        let run = self.map.trailing_ones();
        self.map = self.map.checked_shr(run).unwrap_or(0);
        self.base = self.base.saturating_add(u64::from(run));
    }
}

/// An ordered sequence of records: a user's inbox or a group's stream. The id is never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Stream {
    /// The inbox of a user; in a conversation, the peer.
    User(u64),
    /// The stream of a group.
    Group(u64),
}

/// `Relation::kind` of a message that deletes an earlier one of its author: the server honours it.
pub const RELATION_DELETE: u32 = 3;

/// How a message refers to an earlier one. The server passes it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relation {
    /// 1 reply, 2 edit, 3 delete, 4 reaction; others are the applications' own.
    pub kind: u32,
    /// The earlier message.
    pub target: MessageId,
}

/// How long the server keeps a user's side of a conversation, apart from what waits to be acked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Retention {
    /// Nothing is kept beyond the acks of the user's devices.
    UntilAcked,
    /// Each message so many seconds from when the server took it; not 0.
    Seconds(u32),
    /// Until it is deleted, or newer ones need the room.
    Permanent,
}

impl Retention {
    /// The schema's number.
    pub fn code(self) -> u8 {
        match self {
            Self::UntilAcked => 1,
            Self::Seconds(_) => 2,
            Self::Permanent => 3,
        }
    }

    /// The schema's `keep_seconds`; 0 where there is no such time.
    pub fn seconds(self) -> u32 {
        match self {
            Self::Seconds(seconds) => seconds,
            Self::UntilAcked | Self::Permanent => 0,
        }
    }

    /// The retention of a schema number; `seconds` counts for 2 alone and is not 0 there.
    pub fn from_code(code: u8, seconds: u32) -> Option<Self> {
        match (code, seconds) {
            (1, _) => Some(Self::UntilAcked),
            (2, 1..) => Some(Self::Seconds(seconds)),
            (3, _) => Some(Self::Permanent),
            _ => None,
        }
    }
}

/// What a `Receipt` tells about messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mark {
    /// Tick 2: a device of the recipient acked it.
    Has = 1,
    /// Tick 3: the recipient read it.
    Read = 2,
}

impl Mark {
    /// The schema's number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The mark of a schema number.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Has),
            2 => Some(Self::Read),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn confirmed_covers_base_and_map() {
        let seen = Confirmed { base: 10, map: 0b101 };
        let covered: Vec<u64> = (0..80).filter(|id| seen.covers(*id)).collect();
        assert_eq!(covered, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]);
    }

    #[test]
    fn confirmed_holds_at_the_ends_of_the_numbers() {
        let seen = Confirmed { base: u64::MAX - 1, map: u64::MAX };
        assert!(seen.covers(u64::MAX));
        assert!(!Confirmed::default().covers(u64::MAX));
        let mut full = Confirmed { base: 0, map: u64::MAX << 1 };
        full.insert(1);
        assert_eq!(full, Confirmed { base: 64, map: 0 });
        let mut last = Confirmed { base: u64::MAX - 1, map: 0 };
        last.insert(u64::MAX);
        assert_eq!(last, Confirmed { base: u64::MAX, map: 0 });
    }

    proptest! {
        #[test]
        fn confirmed_is_the_set_of_inserted_ids(
            base in 0_u64..1_000,
            steps in proptest::collection::vec(1_u64..=64, 0..200),
        ) {
            let mut seen = Confirmed { base, map: 0 };
            let mut oracle: BTreeSet<u64> = (0..=base).collect();
            for above in steps {
                let id = seen.base + above;
                seen.insert(id);
                oracle.insert(id);
                prop_assert_eq!(seen.map & 1, 0, "the base advances over answers without a gap");
                for id in 0..seen.base + 130 {
                    prop_assert_eq!(seen.covers(id), oracle.contains(&id));
                }
            }
        }
    }
}
