//! What this device holds of its own inbox, and what it owes an `Ack` for.
//!
//! Invariant: `received_up_to` never falls. Deliberately not here: the messages themselves.

use std::collections::{BTreeSet, VecDeque};

use super::{ACK_BYTES, SEEN_IDS_MAX};
use crate::MessageId;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    received_up_to: u64,
    seen: BTreeSet<MessageId>,
    seen_order: VecDeque<MessageId>,
    unacked_messages: u32,
    unacked_bytes: usize,
    ack_due: bool,
}

impl Inbox {
    /// As it was saved: the highest position held, and the ids seen last, oldest first.
    pub(super) fn restore(received_up_to: u64, seen: &[MessageId]) -> Self {
        let mut inbox = Self { received_up_to, ..Self::default() };
        for id in seen.iter().skip(seen.len().saturating_sub(SEEN_IDS_MAX)) {
            inbox.remember(*id);
        }
        inbox
    }

    /// Notes a delivery; returns whether its id was seen before. With `ack_every` 0 no `Ack`
    /// falls due by itself.
    pub(super) fn deliver(
        &mut self,
        position: u64,
        id: MessageId,
        bytes: usize,
        ack_every: u32,
    ) -> bool {
        let repeat = !self.remember(id);
        self.unacked_bytes = self.unacked_bytes.saturating_add(bytes);
        self.notice(position, ack_every);
        repeat
    }

    /// Notes that something else of the inbox came.
    pub(super) fn notice(&mut self, position: u64, ack_every: u32) {
        self.received_up_to = self.received_up_to.max(position);
        self.unacked_messages = self.unacked_messages.saturating_add(1);
        self.ack_due |= ack_every > 0
            && (self.unacked_messages >= ack_every || self.unacked_bytes >= ACK_BYTES);
    }

    /// An `Ack` is to leave if anything is un-acked.
    pub(super) fn flush(&mut self) {
        self.ack_due |= self.unacked_messages > 0;
    }

    /// An `Ack` is to leave in any case (the server knows of less than is held).
    pub(super) fn claim(&mut self) {
        self.ack_due = true;
    }

    /// The position to ack, once.
    pub(super) fn take_ack(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.ack_due) {
            return None;
        }
        self.unacked_messages = 0;
        self.unacked_bytes = 0;
        Some(self.received_up_to)
    }

    /// `Hello` names what is held, so nothing is owed any more.
    pub(super) fn disconnected(&mut self) {
        self.ack_due = false;
        self.unacked_messages = 0;
        self.unacked_bytes = 0;
    }

    /// The highest position held.
    pub(super) fn received_up_to(&self) -> u64 {
        self.received_up_to
    }

    /// The ids seen last, oldest first.
    pub(super) fn seen(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.seen_order.iter().copied()
    }

    fn remember(&mut self, id: MessageId) -> bool {
        if !self.seen.insert(id) {
            return false;
        }
        if self.seen_order.len() >= SEEN_IDS_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen_order.push_back(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client_id: u64) -> MessageId {
        MessageId { sender: 1, device: 1, client_id }
    }

    #[test]
    fn repeat_is_recognised_by_id_not_by_position() {
        let mut inbox = Inbox::default();
        assert!(!inbox.deliver(10, id(1), 5, 1));
        assert!(inbox.deliver(20, id(1), 5, 1));
        assert_eq!(inbox.received_up_to(), 20);
    }

    #[test]
    fn memory_of_ids_is_bounded_and_keeps_the_latest() {
        let mut inbox = Inbox::default();
        for n in 1..=(SEEN_IDS_MAX as u64 + 10) {
            inbox.deliver(n, id(n), 0, 1);
        }
        assert_eq!(inbox.seen.len(), SEEN_IDS_MAX);
        assert_eq!(inbox.seen_order.len(), SEEN_IDS_MAX);
        assert!(!inbox.deliver(99_999, id(1), 0, 1), "the oldest is forgotten");
        assert!(inbox.deliver(99_999, id(4_000), 0, 1));
    }

    #[test]
    fn ack_leaves_after_so_many_messages_or_bytes_or_when_flushed() {
        let mut inbox = Inbox::default();
        inbox.deliver(1, id(1), 10, 3);
        inbox.deliver(2, id(2), 10, 3);
        assert_eq!(inbox.take_ack(), None);
        inbox.flush();
        assert_eq!(inbox.take_ack(), Some(2));
        inbox.flush();
        assert_eq!(inbox.take_ack(), None, "nothing new, nothing to say");
        inbox.deliver(3, id(3), ACK_BYTES, 3);
        assert_eq!(inbox.take_ack(), Some(3));
        inbox.deliver(4, id(4), ACK_BYTES, 0);
        assert_eq!(inbox.take_ack(), None, "acks are the caller's business");
    }
}
