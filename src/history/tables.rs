//! The tables of history in redb, and the bytes of their rows.
//!
//! Owner: the history thread. Keys are numbers in the order they are read; rows are fixed
//! little-endian fields. `docs/history.md` is their specification.

use redb::TableDefinition;
use wire::{MessageId, Relation, Retention};

use super::HistoryError;
use super::shelf::Place;

/// User, peer.
pub(super) type Pair = (u64, u64);

/// Numbers about the whole, by name.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// User and peer to a [`Conversation`].
pub(super) const CONVERSATIONS: TableDefinition<'_, Pair, &[u8]> =
    TableDefinition::new("conversations");
/// User, peer and number to an [`Item`].
pub(super) const ITEMS: TableDefinition<'_, (u64, u64, u64), &[u8]> = TableDefinition::new("items");
/// User, peer, whether the user sent it, device and client id to the number of the item.
pub(super) const IDS: TableDefinition<'_, (u64, u64, u8, u32, u64), u64> =
    TableDefinition::new("ids");
/// When an item ends, user, peer and number.
pub(super) const EXPIRIES: TableDefinition<'_, (u64, u64, u64, u64), ()> =
    TableDefinition::new("expiries");
/// Where a payload is to how many items speak of it.
pub(super) const PAYLOADS: TableDefinition<'_, u64, u8> = TableDefinition::new("payloads");
/// Where a payload is that nothing speaks of and that has to be overwritten, to its bytes.
pub(super) const ERASE: TableDefinition<'_, u64, u32> = TableDefinition::new("erase");
/// User and peer of what is left of users who are gone: their items are to be removed.
pub(super) const LEFT: TableDefinition<'_, Pair, ()> = TableDefinition::new("left");
/// A payload file to the bytes in it that live.
pub(super) const FILES: TableDefinition<'_, u32, u64> = TableDefinition::new("files");

/// What a user's side of a conversation is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Conversation {
    /// What the user chose; `None`: as the server's default says.
    pub(super) retention: Option<Retention>,
    /// Number of the newest item there ever was; 0: none.
    pub(super) last: u64,
    /// Time of that item, milliseconds since 1970.
    pub(super) time_ms: u64,
    /// The user has read what came at or before this position of the own inbox.
    pub(super) read: u64,
    /// Items there are.
    pub(super) kept: u32,
    /// Of those from the peer, how many came after `read`.
    pub(super) unread: u32,
}

const CONVERSATION_BYTES: usize = 40;

impl Conversation {
    pub(super) fn encode(&self) -> [u8; CONVERSATION_BYTES] {
        let mut row = [0; CONVERSATION_BYTES];
        let mut at = Cursor(&mut row);
        at.put(self.last);
        at.put(self.time_ms);
        at.put(self.read);
        at.put32(self.kept);
        at.put32(self.unread);
        let (code, seconds) = match self.retention {
            None => (0, 0),
            Some(retention) => (retention.code(), retention.seconds()),
        };
        at.put32(u32::from(code));
        at.put32(seconds);
        row
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, HistoryError> {
        let mut at = Taker(row);
        let (last, time_ms, read) = (at.take()?, at.take()?, at.take()?);
        let (kept, unread) = (at.take32()?, at.take32()?);
        let (code, seconds) = (at.take32()?, at.take32()?);
        let retention = match u8::try_from(code) {
            Ok(0) => None,
            Ok(code) => Some(
                Retention::from_code(code, seconds).ok_or(HistoryError::Damaged("a retention"))?,
            ),
            Err(_) => return Err(HistoryError::Damaged("a retention")),
        };
        Ok(Self { retention, last, time_ms, read, kept, unread })
    }
}

/// One side of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Item {
    /// The user sent it; else the peer.
    pub(super) outgoing: bool,
    /// Only that there was something is left.
    pub(super) deleted: bool,
    /// Of its sender.
    pub(super) device: u32,
    /// Of that device.
    pub(super) client_id: u64,
    /// In the recipient's stream.
    pub(super) position: u64,
    /// When the server took it, milliseconds since 1970.
    pub(super) time_ms: u64,
    /// When it ends, milliseconds since 1970; 0: never.
    pub(super) expires_ms: u64,
    /// What its sender asked for: seconds to keep it, 0: nothing.
    pub(super) ttl_s: u32,
    /// The application's own.
    pub(super) kind: u32,
    /// Its payload.
    pub(super) place: Place,
    /// The earlier message it speaks of.
    pub(super) relation: Option<Relation>,
}

const OUTGOING: u32 = 1;
const DELETED: u32 = 2;
const RELATED: u32 = 4;

impl Item {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = [0; ITEM_BYTES_MAX];
        let mut at = Cursor(&mut row);
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let related = self.relation.is_some();
        at.put32(
            flag(self.outgoing, OUTGOING) | flag(self.deleted, DELETED) | flag(related, RELATED),
        );
        at.put32(self.device);
        at.put(self.client_id);
        at.put(self.position);
        at.put(self.time_ms);
        at.put(self.expires_ms);
        at.put32(self.ttl_s);
        at.put32(self.kind);
        at.put(self.place.at);
        at.put32(self.place.bytes);
        if let Some(relation) = self.relation {
            at.put32(relation.kind);
            at.put32(relation.target.device);
            at.put(relation.target.sender);
            at.put(relation.target.client_id);
        }
        let left = at.0.len();
        row[..ITEM_BYTES_MAX - left].to_vec()
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, HistoryError> {
        let mut at = Taker(row);
        let flags = at.take32()?;
        let mut item = Self {
            outgoing: flags & OUTGOING != 0,
            deleted: flags & DELETED != 0,
            device: at.take32()?,
            client_id: at.take()?,
            position: at.take()?,
            time_ms: at.take()?,
            expires_ms: at.take()?,
            ttl_s: at.take32()?,
            kind: at.take32()?,
            place: Place { at: at.take()?, bytes: at.take32()? },
            relation: None,
        };
        if flags & RELATED != 0 {
            let (kind, device) = (at.take32()?, at.take32()?);
            let target = MessageId { sender: at.take()?, device, client_id: at.take()? };
            item.relation = Some(Relation { kind, target });
        }
        Ok(item)
    }
}

const ITEM_BYTES_MAX: usize = 60 + 24;

/// Writes fields one after the other.
struct Cursor<'a>(&'a mut [u8]);

impl Cursor<'_> {
    fn put_bytes(&mut self, bytes: &[u8]) {
        let room = std::mem::take(&mut self.0);
        let (head, tail) = room.split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.0 = tail;
    }

    fn put(&mut self, value: u64) {
        self.put_bytes(&value.to_le_bytes());
    }

    fn put32(&mut self, value: u32) {
        self.put_bytes(&value.to_le_bytes());
    }
}

/// Reads them back.
struct Taker<'a>(&'a [u8]);

impl Taker<'_> {
    fn take_bytes<const N: usize>(&mut self) -> Result<[u8; N], HistoryError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(HistoryError::Damaged("a row"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn take(&mut self) -> Result<u64, HistoryError> {
        self.take_bytes().map(u64::from_le_bytes)
    }

    fn take32(&mut self) -> Result<u32, HistoryError> {
        self.take_bytes().map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(n in any::<[u64; 6]>(), w in any::<[u32; 6]>(),
                                       flags in any::<[bool; 3]>(), mode in 0_u8..4) {
            let target = MessageId { sender: n[4], device: w[4], client_id: n[5] };
            let item = Item {
                outgoing: flags[0],
                deleted: flags[1],
                device: w[0],
                client_id: n[0],
                position: n[1],
                time_ms: n[2],
                expires_ms: n[3],
                ttl_s: w[1],
                kind: w[2],
                place: Place { at: n[4], bytes: w[3] },
                relation: flags[2].then_some(Relation { kind: w[5], target }),
            };
            let row = item.encode();
            prop_assert_eq!(Item::decode(&row).unwrap(), item);
            prop_assert!(Item::decode(&row[..row.len() - 1]).is_err());
            let conversation = Conversation {
                retention: Retention::from_code(mode, w[0].max(1)),
                last: n[0],
                time_ms: n[1],
                read: n[2],
                kept: w[1],
                unread: w[2],
            };
            let row = conversation.encode();
            prop_assert_eq!(Conversation::decode(&row).unwrap(), conversation);
            prop_assert!(Conversation::decode(&row[..39]).is_err());
        }
    }
}
