//! What the server says: one struct per frame, encoded without a copy in between.
//!
//! Meanings: `docs/protocol.md`, "Frames from the server". A payload is copied once, nothing is
//! counted beforehand, and the only allocation is the growth of the buffer. A newer server's reason
//! is `OutOfRange`.

mod read;
mod write;

use crate::group_frame::{self, GroupChange, GroupNews, write_change};
use crate::history_frame::{self, Conversation, Conversations, Fetched, Item, RequestRefused};
use crate::reasons::{Parting, Refusal};
use crate::schema::{
    DecodeError, LongSink, frame_length, read_envelope, write_frame, write_id, write_mark,
    write_relation, write_stream,
};
use crate::types::{Mark, MessageId, Relation, Stream};

/// A frame from the server. Borrows payload and detail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerFrame<'a> {
    /// The login succeeded.
    Welcome(Welcome),
    /// A `Send` is durable.
    Sent(Sent),
    /// A `Send` was refused.
    Refused(Refused),
    /// A message.
    Deliver(Deliver<'a>),
    /// Own messages reached or were read by their recipient.
    Receipt(Receipt),
    /// An own message ended before every device of the recipient had it.
    Expired(Expired),
    /// The answer to a `Ping` that asked for one, or word of another interval.
    Pong(Pong),
    /// The server closes.
    Goodbye(Goodbye<'a>),
    /// A peer types, or stopped.
    Typing(TypingFrom),
    /// A watched user came, went or was seen.
    Presence(Presence),
    /// Another device of the user read.
    ReadSync(ReadSync),
    /// A device of the user was added or dropped.
    DeviceEvent(DeviceEvent),
    /// A message of a page of history.
    Item(Item<'a>),
    /// A page of history has ended.
    Fetched(Fetched),
    /// How a conversation stands.
    Conversation(Conversation),
    /// A page of conversations has ended.
    Conversations(Conversations),
    /// A question to history could not be answered.
    RequestRefused(RequestRefused),
    /// A group has records to be fetched.
    GroupNews(GroupNews),
}

/// What this server allows; see the fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Bytes of one payload.
    pub payload_bytes_max: u32,
    /// Messages delivered and not acked, per device and stream.
    pub unacked_messages_max: u32,
    /// Their payload bytes.
    pub unacked_bytes_max: u32,
    /// Ids above `Confirmed.base` that may be in use.
    pub unconfirmed_ids_max: u32,
    /// Users in one `WatchPresence`.
    pub watched_users_max: u32,
    /// Peers in one `AskReceipts`.
    pub asked_peers_max: u32,
}

/// The login succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Who the token says this is.
    pub user: u64,
    /// Which device.
    pub device: u32,
    /// The smallest `client_id` free for a new message.
    pub next_client_id: u64,
    /// Send some frame at least this often.
    pub heartbeat_ms: u32,
    /// What this server allows.
    pub limits: Limits,
    /// Milliseconds since 1970.
    pub server_time_ms: u64,
    /// The own inbox is acked by this device up to here.
    pub cursor: u64,
}

/// A `Send` is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The `Send`'s id.
    pub client_id: u64,
    /// Its position in the recipient's stream; `Receipt`s speak of it.
    pub position: u64,
    /// When the server took it, milliseconds since 1970.
    pub time_ms: u64,
}

/// A `Send` was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The `Send`'s id.
    pub client_id: u64,
    /// Why.
    pub reason: Refusal,
    /// Whether the same id may be sent again.
    pub retriable: bool,
    /// How long to wait before that; 0: no advice.
    pub retry_after_ms: u32,
    /// With `stale_id` and `id_reused`: where to go on; else 0.
    pub next_client_id: u64,
}

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deliver<'a> {
    /// `None`: the own inbox.
    pub stream: Option<Stream>,
    /// Its place in that stream; ack it.
    pub position: u64,
    /// Which message it is, however often it comes.
    pub id: MessageId,
    /// When the server took it, milliseconds since 1970.
    pub time_ms: u64,
    /// The sender's application's own.
    pub kind: u32,
    /// Opaque.
    pub payload: &'a [u8],
    /// The earlier message it speaks of.
    pub relation: Option<Relation>,
    /// Only on copies of what another device of this user sent: the recipient.
    pub to: Option<Stream>,
    /// With `to`: its position in the recipient's stream, which `Receipt`s speak of; else 0.
    pub to_position: u64,
    /// No message: the group changed.
    pub change: Option<GroupChange>,
    /// The first message of somebody the user does not know.
    pub request: bool,
}

/// Own messages with `after < position <= up_to` carry the mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The recipient or group they were sent to; required on the wire.
    pub stream: Option<Stream>,
    /// Exclusive lower end.
    pub after: u64,
    /// Inclusive upper end.
    pub up_to: u64,
    /// Tick 2 or 3.
    pub mark: Mark,
}

/// An own message ended before every device of the recipient had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expired {
    /// Which.
    pub id: MessageId,
    /// Position of this word in the own inbox: to be acked like a message.
    pub position: u64,
    /// To whom it was sent.
    pub to: Option<Stream>,
    /// Its position in that stream.
    pub to_position: u64,
}

/// The answer to a `Ping` that asked for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pong {
    /// Milliseconds since 1970.
    pub server_time_ms: u64,
    /// From now on send some frame at least this often; 0: as before.
    pub heartbeat_ms: u32,
}

/// The server closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Goodbye<'a> {
    /// Why.
    pub reason: Parting,
    /// How long to stay away; 0: no advice.
    pub retry_after_ms: u32,
    /// For people reading logs.
    pub detail: &'a str,
}

/// A peer types, or stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TypingFrom {
    /// Who.
    pub user: u64,
    /// No longer.
    pub stopped: bool,
    /// In this group; 0: to the user alone.
    pub group: u64,
}

/// A watched user came, went or was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presence {
    /// Who.
    pub user: u64,
    /// Here now.
    pub online: bool,
    /// Milliseconds since 1970; 0: never, or not known.
    pub last_seen_ms: u64,
}

/// Another device of the user read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadSync {
    /// As in `Read`.
    pub stream: Option<Stream>,
    /// As in `Read`.
    pub up_to: u64,
}

/// A device of the user was added or dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceEvent {
    /// Which.
    pub device: u32,
    /// Added; else dropped.
    pub added: bool,
}

impl<'a> ServerFrame<'a> {
    /// Decodes one frame.
    ///
    /// # Errors
    /// Every way in which `bytes` are no such frame; see [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (number, body) = read_envelope(bytes, 18)?;
        match number {
            1 => read::welcome(body).map(Self::Welcome),
            2 => read::sent(body).map(Self::Sent),
            3 => read::refused(body).map(Self::Refused),
            4 => read::deliver(body).map(Self::Deliver),
            5 => read::receipt(body).map(Self::Receipt),
            6 => read::expired(body).map(Self::Expired),
            7 => read::pong(body).map(Self::Pong),
            8 => read::goodbye(body).map(Self::Goodbye),
            9 => read::typing(body).map(Self::Typing),
            10 => read::presence(body).map(Self::Presence),
            11 => read::read_sync(body).map(Self::ReadSync),
            12 => read::device_event(body).map(Self::DeviceEvent),
            13 => history_frame::read_item(body).map(Self::Item),
            14 => history_frame::read_fetched(body).map(Self::Fetched),
            15 => history_frame::read_conversation(body).map(Self::Conversation),
            16 => history_frame::read_conversations(body).map(Self::Conversations),
            17 => history_frame::read_refused(body).map(Self::RequestRefused),
            18 => group_frame::read_news(body).map(Self::GroupNews),
            _ => Err(DecodeError::UnknownFrame),
        }
    }

    /// Appends the frame's bytes to `out`, without any framing.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.write(out, |_, _| 0);
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        frame_length(self.number(), |sink| self.describe(sink))
    }

    /// Appends what goes before the frame (see [`write_frame`]) and the frame; returns where it
    /// begins.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        put_prefix: impl Fn(&mut [u8], usize) -> usize,
    ) -> usize {
        write_frame(out, self.number(), put_prefix, |sink| self.describe(sink))
    }

    fn number(&self) -> u32 {
        match self {
            Self::Welcome(_) => 1,
            Self::Sent(_) => 2,
            Self::Refused(_) => 3,
            Self::Deliver(_) => 4,
            Self::Receipt(_) => 5,
            Self::Expired(_) => 6,
            Self::Pong(_) => 7,
            Self::Goodbye(_) => 8,
            Self::Typing(_) => 9,
            Self::Presence(_) => 10,
            Self::ReadSync(_) => 11,
            Self::DeviceEvent(_) => 12,
            Self::Item(_) => 13,
            Self::Fetched(_) => 14,
            Self::Conversation(_) => 15,
            Self::Conversations(_) => 16,
            Self::RequestRefused(_) => 17,
            Self::GroupNews(_) => 18,
        }
    }

    fn describe<'p>(&'p self, sink: &mut impl LongSink<'p>) {
        match self {
            Self::Welcome(welcome) => write::welcome(sink, welcome),
            Self::Sent(sent) => {
                sink.uint64(1, sent.client_id);
                sink.fixed64(2, sent.position);
                sink.uint64(3, sent.time_ms);
            }
            Self::Refused(refused) => {
                sink.uint64(1, refused.client_id);
                sink.uint64(2, u64::from(refused.reason.code()));
                sink.boolean(3, refused.retriable);
                sink.uint64(4, u64::from(refused.retry_after_ms));
                sink.uint64(5, refused.next_client_id);
            }
            Self::Deliver(deliver) => describe_deliver(sink, deliver),
            Self::Receipt(receipt) => {
                write_stream(sink, 1, receipt.stream);
                sink.fixed64(2, receipt.after);
                sink.fixed64(3, receipt.up_to);
                write_mark(sink, 4, receipt.mark);
            }
            Self::Expired(expired) => {
                write_id(sink, 1, expired.id);
                sink.fixed64(2, expired.position);
                write_stream(sink, 3, expired.to);
                sink.fixed64(4, expired.to_position);
            }
            Self::Pong(pong) => {
                sink.uint64(1, pong.server_time_ms);
                sink.uint64(2, u64::from(pong.heartbeat_ms));
            }
            Self::Goodbye(goodbye) => {
                sink.uint64(1, u64::from(goodbye.reason.code()));
                sink.uint64(2, u64::from(goodbye.retry_after_ms));
                sink.bytes(3, goodbye.detail.as_bytes());
            }
            Self::Typing(typing) => {
                sink.uint64(1, typing.user);
                sink.boolean(2, typing.stopped);
                sink.uint64(3, typing.group);
            }
            Self::Presence(presence) => {
                sink.uint64(1, presence.user);
                sink.boolean(2, presence.online);
                sink.uint64(3, presence.last_seen_ms);
            }
            Self::ReadSync(sync) => {
                write_stream(sink, 1, sync.stream);
                sink.fixed64(2, sync.up_to);
            }
            Self::DeviceEvent(event) => {
                sink.uint64(1, u64::from(event.device));
                sink.boolean(2, event.added);
            }
            Self::Item(item) => history_frame::describe_item(sink, item),
            Self::Fetched(page) => history_frame::describe_fetched(sink, page),
            Self::Conversations(page) => history_frame::describe_conversations(sink, page),
            Self::Conversation(state) => history_frame::describe_conversation(sink, state),
            Self::RequestRefused(refused) => history_frame::describe_refused(sink, refused),
            Self::GroupNews(news) => group_frame::describe_news(sink, news),
        }
    }
}

#[inline]
fn describe_deliver<'p>(sink: &mut impl LongSink<'p>, deliver: &Deliver<'p>) {
    write_stream(sink, 1, deliver.stream);
    sink.fixed64(2, deliver.position);
    write_id(sink, 3, deliver.id);
    sink.uint64(4, deliver.time_ms);
    sink.uint64(5, u64::from(deliver.kind));
    sink.bytes(6, deliver.payload);
    write_relation(sink, 7, deliver.relation);
    write_stream(sink, 8, deliver.to);
    sink.fixed64(9, deliver.to_position);
    write_change(sink, 10, deliver.change);
    sink.boolean(11, deliver.request);
}
