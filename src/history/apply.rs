//! Records of the log become items: a message on both sides, a mark, a deletion, the end of a user.
//!
//! Owner: the history thread. Pure but for the batch it changes: the same records give the same
//! tables, whatever happened in between.

use redb::ReadableTable as _;
use wire::{MessageId, RELATION_DELETE, Relation, Retention};

use super::HistoryError;
use super::batch::Batch;
use super::shelf::Place;
use super::tables::{Item, Pair};
use crate::log::{Kind, Record};
use crate::path::STREAM_USER;

impl Batch<'_> {
    /// Applies one record. `now_ms` is only to skip what has ended already; by 0 nothing has.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub(super) fn record(&mut self, record: &Record<'_>, now_ms: u64) -> Result<(), HistoryError> {
        match record.kind {
            // What was copied forward was applied where it first stood, unless that was missed.
            Kind::Message if record.moved && !self.has_gaps => Ok(()),
            Kind::Message if record.stream_kind == STREAM_USER => self.message(record, now_ms),
            Kind::ReadMark if record.stream_kind == STREAM_USER => {
                self.read_up_to((record.stream, record.peer), record.aux)
            }
            Kind::Ended if record.stream_kind == STREAM_USER => self.end_user(record.stream),
            // Copies say nothing new: both sides are written from the message itself.
            _ => Ok(()),
        }
    }

    fn message(&mut self, record: &Record<'_>, now_ms: u64) -> Result<(), HistoryError> {
        let (to, from) = (record.stream, record.sender);
        if let Some(relation) = record.relation
            && relation.kind == RELATION_DELETE
            && relation.sender == from
        {
            let (device, client_id) = (relation.device, relation.client_id);
            return self.delete(to, MessageId { sender: from, device, client_id });
        }
        let mut sides: [Option<(Pair, u64)>; 2] = [None; 2];
        // A message to oneself has one side.
        let pairs = [Some((from, to)), (to != from).then_some((to, from))];
        for (side, pair) in sides.iter_mut().zip(pairs) {
            let Some(pair) = pair else { continue };
            *side = self.wanted(pair, record, now_ms)?.map(|expires_ms| (pair, expires_ms));
        }
        let count = sides.iter().flatten().count();
        if count == 0 {
            return Ok(());
        }
        let place = self.keep(record.payload, u8::try_from(count).unwrap_or(u8::MAX))?;
        for (pair, expires_ms) in sides.into_iter().flatten() {
            self.add(pair, &item_of(record, pair.0 == from, expires_ms, place))?;
        }
        Ok(())
    }

    /// Whether a side of a conversation keeps a message, and until when (0: for ever).
    fn wanted(
        &mut self,
        pair: Pair,
        record: &Record<'_>,
        now_ms: u64,
    ) -> Result<Option<u64>, HistoryError> {
        let retention = self.retention(pair)?;
        if retention == Retention::UntilAcked {
            return Ok(None);
        }
        let (sender, device, client_id) = (record.sender, record.device, record.client_id);
        if self.find(pair, MessageId { sender, device, client_id })?.is_some() {
            return Ok(None);
        }
        let expires_ms = expiry_ms(record.time_ms, record.ttl_s, retention);
        if expires_ms > 0 && expires_ms <= now_ms {
            // It had its number, as if it had been kept and had ended.
            let conversation = self.conversation(pair)?;
            conversation.last += 1;
            conversation.time_ms = conversation.time_ms.max(record.time_ms);
            return Ok(None);
        }
        Ok(Some(expires_ms))
    }

    /// Takes the payload of a message out of both sides; that it was there stays.
    fn delete(&mut self, to: u64, id: MessageId) -> Result<(), HistoryError> {
        let from = id.sender;
        for pair in [Some((from, to)), (to != from).then_some((to, from))].into_iter().flatten() {
            let Some(number) = self.find(pair, id)? else { continue };
            let Some(item) = self.item(pair, number)? else { continue };
            if item.deleted {
                continue;
            }
            self.give_up(item.place)?;
            let place = Place::default();
            let left = Item { deleted: true, place, kind: 0, relation: None, ..item };
            self.change(pair, number, &item, &left)?;
        }
        Ok(())
    }

    /// A user read what a peer sent up to a position of the own inbox.
    fn read_up_to(&mut self, pair: Pair, up_to: u64) -> Result<(), HistoryError> {
        if self.retention(pair)? == Retention::UntilAcked {
            return Ok(()); // nothing is kept that could be unread, and what comes is later
        }
        let conversation = self.conversation(pair)?;
        if up_to <= conversation.read {
            return Ok(());
        }
        conversation.read = up_to;
        if conversation.unread == 0 {
            return Ok(());
        }
        let mut unread = 0;
        {
            let range = self.items.range((pair.0, pair.1, 0)..=(pair.0, pair.1, u64::MAX))?;
            for entry in range.rev() {
                let item = Item::decode(entry?.1.value())?;
                if !item.outgoing && item.position <= up_to {
                    break; // positions of one inbox rise with the numbers
                }
                unread += u32::from(!item.outgoing);
            }
        }
        self.conversation(pair)?.unread = unread;
        Ok(())
    }
}

/// When a message ends, milliseconds since 1970; 0: never.
pub(super) fn expiry_ms(time_ms: u64, ttl_s: u32, retention: Retention) -> u64 {
    let after = |seconds: u32| time_ms.saturating_add(u64::from(seconds) * 1000).max(1);
    let kept = match retention {
        Retention::Seconds(seconds) => after(seconds),
        Retention::UntilAcked | Retention::Permanent => u64::MAX,
    };
    let wished = if ttl_s > 0 { after(ttl_s) } else { u64::MAX };
    let first = kept.min(wished);
    if first == u64::MAX { 0 } else { first }
}

fn item_of(record: &Record<'_>, outgoing: bool, expires_ms: u64, place: Place) -> Item {
    let relation = record.relation.map(|relation| Relation {
        kind: relation.kind,
        target: MessageId {
            sender: relation.sender,
            device: relation.device,
            client_id: relation.client_id,
        },
    });
    Item {
        outgoing,
        deleted: false,
        device: record.device,
        client_id: record.client_id,
        position: record.position,
        time_ms: record.time_ms,
        expires_ms,
        ttl_s: record.ttl_s,
        kind: record.body_kind,
        place,
        relation,
    }
}
