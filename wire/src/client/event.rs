//! What a session tells its owner. Owned values: an event may outlive the bytes it came from.

use crate::{
    Conversation, Conversations, Fetched, GroupChange, GroupNews, Parting, Refusal, Relation,
    RequestRefused, Stream,
};

/// How far a message got: the three ticks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TickMark {
    /// The server has it, durably.
    Sent,
    /// At least one device of the recipient has it.
    Has,
    /// The recipient saw it.
    Read,
}

/// Something happened that the user of a session may want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// Logged in; what waited in the outbox leaves now.
    Welcome {
        /// Who the server says we are.
        user: u64,
        /// Which device of that user.
        device: u32,
        /// Interval of the heartbeat, in milliseconds.
        heartbeat_ms: u64,
        /// The server's clock, milliseconds since 1970.
        server_time_ms: u64,
    },
    /// A message for the user.
    Message {
        /// Who wrote it.
        peer: u64,
        /// Its name, the same however often it is stored or delivered.
        id: crate::MessageId,
        /// Where it stands in the own inbox.
        position: u64,
        /// When the server took it, milliseconds since 1970.
        time_ms: u64,
        /// The application's own number.
        kind: u32,
        /// What was written, as the sender gave it.
        payload: Vec<u8>,
        /// An earlier message it belongs to.
        relation: Option<Relation>,
        /// This id was delivered before: show it once.
        repeat: bool,
        /// The user does not know its sender: show it as a request.
        request: bool,
    },
    /// A copy of what another device of the same user sent.
    OwnCopy {
        /// To whom it went.
        to: Stream,
        /// Its name.
        id: crate::MessageId,
        /// Where the copy stands in the own inbox.
        position: u64,
        /// Where the message stands in the recipient's stream; ticks speak of it.
        to_position: u64,
        /// When the server took it, milliseconds since 1970.
        time_ms: u64,
        /// The application's own number.
        kind: u32,
        /// What was written.
        payload: Vec<u8>,
        /// This id was delivered before.
        repeat: bool,
    },
    /// A message of a group, by whomever: also by other devices of this user.
    GroupMessage {
        /// Which group.
        group: u64,
        /// Its name.
        id: crate::MessageId,
        /// Where it stands in the group's stream. Events of one group come in this order.
        position: u64,
        /// When the server took it, milliseconds since 1970.
        time_ms: u64,
        /// The application's own number.
        kind: u32,
        /// What was written.
        payload: Vec<u8>,
        /// An earlier message it belongs to.
        relation: Option<Relation>,
        /// This id was delivered before, or this device sent it: show it once.
        repeat: bool,
    },
    /// A group changed, in the order of its messages.
    GroupChanged {
        /// Which group.
        group: u64,
        /// Where the change stands in the group's stream.
        position: u64,
        /// When it happened, milliseconds since 1970.
        time_ms: u64,
        /// Who did it; 0: the operator.
        by: u64,
        /// What happened.
        change: GroupChange,
        /// The name, if the group began or has another one.
        payload: Vec<u8>,
    },
    /// Records of a group wait; the session fetches them by itself.
    GroupNews(GroupNews),
    /// The records of a group can't be had: nothing more will come of it.
    GroupRefused {
        /// Which group.
        group: u64,
        /// Why.
        reason: Refusal,
    },
    /// A member of a group types, or stopped.
    GroupTyping {
        /// In which group.
        group: u64,
        /// Who.
        user: u64,
        /// No longer.
        stopped: bool,
    },
    /// A message of this user got further. Each mark comes once per message, in rising order.
    Tick {
        /// Which message, of the device below.
        client_id: u64,
        /// The device of this user that sent it.
        device: u32,
        /// To whom.
        to: Stream,
        /// How far it got.
        mark: TickMark,
        /// Where it stands in the recipient's stream.
        position: u64,
        /// With [`TickMark::Sent`] the server's time, milliseconds since 1970; else 0.
        time_ms: u64,
    },
    /// A message was refused for good; it has left the outbox.
    Refused {
        /// Which message.
        client_id: u64,
        /// To whom it was to go.
        to: Stream,
        /// Why.
        reason: Refusal,
    },
    /// A message could not be taken now; it stays in the outbox and is sent again.
    Delayed {
        /// Which message.
        client_id: u64,
        /// Why.
        reason: Refusal,
        /// When it is sent again, in milliseconds from now (0: as soon as an earlier one left).
        retry_in_ms: u64,
    },
    /// The id was spent by an earlier life of this device; the message has a new one.
    Renumbered {
        /// What [`crate::client::Session::send`] returned.
        client_id: u64,
        /// What it is called from now on.
        new_client_id: u64,
    },
    /// Retention ended before every device had this message.
    Expired {
        /// Which message.
        id: crate::MessageId,
    },
    /// A watched user came, left or was seen.
    Presence {
        /// Whom it is about.
        user: u64,
        /// Here now.
        online: bool,
        /// Last activity, milliseconds since 1970; 0: never, or not known.
        last_seen_ms: u64,
    },
    /// A user types, or stopped.
    Typing {
        /// Who.
        user: u64,
        /// No longer.
        stopped: bool,
    },
    /// Another device of this user read a conversation.
    ReadSync {
        /// Which conversation; `None`: every one.
        stream: Option<Stream>,
        /// Read up to this position of the own inbox.
        up_to: u64,
    },
    /// A device was added to this user, or dropped.
    Device {
        /// Which device.
        device: u32,
        /// Added, or else dropped.
        added: bool,
    },
    /// A message of a page of history ([`crate::client::Session::fetch`]).
    Item {
        /// The question it answers.
        request: u64,
        /// Its number in the conversation (in a group: its position); larger is later.
        number: u64,
        /// Its name.
        id: crate::MessageId,
        /// Where it stands in the recipient's stream; ticks speak of it.
        position: u64,
        /// When the server took it, milliseconds since 1970.
        time_ms: u64,
        /// The application's own number.
        kind: u32,
        /// What was written; empty if it was deleted.
        payload: Vec<u8>,
        /// An earlier message it belongs to.
        relation: Option<Relation>,
        /// Its author deleted it for everybody.
        deleted: bool,
        /// In a group's stream: no message, the group changed.
        change: Option<GroupChange>,
    },
    /// A page of history has ended.
    Fetched(Fetched),
    /// How a conversation stands: asked for, or another device changed its retention.
    Conversation(Conversation),
    /// A page of conversations has ended.
    Conversations(Conversations),
    /// A question to history could not be answered.
    RequestRefused(RequestRefused),
    /// The server closes this connection.
    Goodbye {
        /// Why.
        reason: Parting,
        /// Come back no sooner than this.
        retry_after_ms: u32,
        /// For people reading logs.
        detail: String,
        /// Whether coming back with the same token can help.
        reconnect: bool,
    },
    /// The server answered a question for life.
    Pong {
        /// The server's clock, milliseconds since 1970.
        server_time_ms: u64,
    },
}
