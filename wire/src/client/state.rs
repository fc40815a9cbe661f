//! How a session behaves, and what of it is worth keeping over a restart of the program.
//!
//! Plain data; how it is saved is the owner's choice.

use super::event::TickMark;
use super::outbox::Outgoing;
use super::{OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX, WATCHED_MAX};
use crate::{MessageId, Stream};

/// How a session behaves. `Default` is what a chat client wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionOptions {
    /// Received messages of the own inbox after which an `Ack` leaves; fewer are acked at the next
    /// [tick](crate::client::Session::tick). 1 acks at once; 0 leaves every `Ack` to
    /// [`acknowledge`](crate::client::Session::acknowledge), also those of groups.
    pub ack_every: u32,
    /// Messages the outbox holds.
    pub outbox_messages_max: usize,
    /// Payload bytes the outbox holds.
    pub outbox_bytes_max: usize,
    /// A message that carries this mark is not followed any further.
    pub ticks_until: TickMark,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ack_every: 1,
            outbox_messages_max: OUTBOX_MESSAGES_MAX,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            ticks_until: TickMark::Read,
        }
    }
}

/// A message that waits for its answer, with its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingSend {
    /// Its name for ever.
    pub client_id: u64,
    /// The message.
    pub message: Outgoing,
}

/// A message that lacks a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UntickedMessage {
    /// To whom it went.
    pub to: Stream,
    /// Where it stands in the recipient's stream.
    pub position: u64,
    /// The device that sent it.
    pub device: u32,
    /// Its id.
    pub client_id: u64,
    /// How far it got.
    pub mark: TickMark,
}

/// Everything a session must not forget over a restart of the program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionState {
    /// The id the next message gets (0 counts as 1).
    pub next_client_id: u64,
    /// The highest position of the own inbox that is held.
    pub received_up_to: u64,
    /// Unanswered messages, by rising id.
    pub outbox: Vec<PendingSend>,
    /// Messages that lack a tick.
    pub unticked: Vec<UntickedMessage>,
    /// Message ids seen last, oldest first.
    pub seen: Vec<MessageId>,
    /// What is held of each group.
    pub groups: Vec<GroupCursor>,
}

/// What a device holds of a group's stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupCursor {
    /// Which group.
    pub group: u64,
    /// Everything up to this position.
    pub up_to: u64,
}

/// More users than one client may watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{asked} users asked for, at most {WATCHED_MAX} may be watched")]
pub struct TooManyWatched {
    /// How many were asked for.
    pub asked: usize,
}
