//! What this device holds of its own inbox, and what it owes an `Ack` for.
//!
//! Invariant: `received_up_to` never falls. Deliberately not here: the messages themselves.

use super::ACK_BYTES;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    received_up_to: u64,
    unacked_messages: u32,
    unacked_bytes: usize,
    ack_due: bool,
}

impl Inbox {
    /// As it was saved: the highest position held.
    pub(super) fn restore(received_up_to: u64) -> Self {
        Self { received_up_to, ..Self::default() }
    }

    /// Notes a delivery. With `ack_every` 0 no `Ack` falls due by itself.
    pub(super) fn deliver(&mut self, position: u64, bytes: usize, ack_every: u32) {
        self.unacked_bytes = self.unacked_bytes.saturating_add(bytes);
        self.notice(position, ack_every);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_leaves_after_so_many_messages_or_bytes_or_when_flushed() {
        let mut inbox = Inbox::default();
        inbox.deliver(1, 10, 3);
        inbox.deliver(2, 10, 3);
        assert_eq!(inbox.take_ack(), None);
        inbox.flush();
        assert_eq!(inbox.take_ack(), Some(2));
        inbox.flush();
        assert_eq!(inbox.take_ack(), None, "nothing new, nothing to say");
        inbox.deliver(3, ACK_BYTES, 3);
        assert_eq!(inbox.take_ack(), Some(3));
        inbox.deliver(4, ACK_BYTES, 0);
        assert_eq!(inbox.take_ack(), None, "acks are the caller's business");
    }
}
