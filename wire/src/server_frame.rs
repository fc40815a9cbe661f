//! What the server says: one struct per frame, encoded without a copy in between.
//!
//! Meanings and when each is sent: `docs/protocol.md`, "Frames from the server". Encoding counts
//! first and writes once; the only allocation is the growth of the buffer written to. A client
//! decodes with the same code; a reason of a newer server is `OutOfRange`.

use crate::reasons::{Parting, Refusal};
use crate::schema::{
    DecodeError, Fields, Length, NO_ID, Sink, Slots, complete_id, complete_relation, length_of,
    read_envelope, read_id, read_reason, read_relation, read_stream, required, required32,
    write_id, write_mark, write_relation, write_stream,
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
    /// The answer to a `Ping` that asked for one.
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
}

/// The answer to a `Ping` that asked for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pong {
    /// Milliseconds since 1970.
    pub server_time_ms: u64,
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
        let (number, body) = read_envelope(bytes, 12)?;
        match number {
            1 => read_welcome(body).map(Self::Welcome),
            2 => read_sent(body).map(Self::Sent),
            3 => read_refused(body).map(Self::Refused),
            4 => read_deliver(body).map(Self::Deliver),
            5 => read_receipt(body).map(Self::Receipt),
            6 => read_expired(body).map(Self::Expired),
            7 => read_pong(body).map(Self::Pong),
            8 => read_goodbye(body).map(Self::Goodbye),
            9 => read_typing(body).map(Self::Typing),
            10 => read_presence(body).map(Self::Presence),
            11 => read_read_sync(body).map(Self::ReadSync),
            12 => read_device_event(body).map(Self::DeviceEvent),
            _ => Err(DecodeError::UnknownFrame),
        }
    }

    /// Appends the frame's bytes to `out`, without any framing.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let body_length = self.body_length();
        self.encode_counted(body_length, self.length_around(body_length), out);
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        self.length_around(self.body_length())
    }

    /// The first half of an encoding: the length of the body.
    #[inline]
    pub(crate) fn body_length(&self) -> usize {
        length_of(|sink| self.describe(sink))
    }

    /// The length of the frame around a body of `body_length`.
    #[inline]
    pub(crate) fn length_around(&self, body_length: usize) -> usize {
        let mut length = Length::default();
        length.message(self.number(), body_length, |_| ());
        length.0
    }

    /// The second half: appends the frame whose lengths were counted.
    #[inline]
    pub(crate) fn encode_counted(&self, body_length: usize, length: usize, out: &mut Vec<u8>) {
        let mut slots = Slots::at_end_of(out, length);
        slots.message(self.number(), body_length, |sink| self.describe(sink));
        slots.finish();
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
        }
    }

    fn describe(&self, sink: &mut impl Sink) {
        match self {
            Self::Welcome(welcome) => describe_welcome(sink, welcome),
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
            Self::Expired(expired) => write_id(sink, 1, expired.id),
            Self::Pong(pong) => sink.uint64(1, pong.server_time_ms),
            Self::Goodbye(goodbye) => {
                sink.uint64(1, u64::from(goodbye.reason.code()));
                sink.uint64(2, u64::from(goodbye.retry_after_ms));
                sink.bytes(3, goodbye.detail.as_bytes());
            }
            Self::Typing(typing) => {
                sink.uint64(1, typing.user);
                sink.boolean(2, typing.stopped);
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
        }
    }
}

fn describe_welcome(sink: &mut impl Sink, welcome: &Welcome) {
    sink.uint64(1, welcome.user);
    sink.uint64(2, u64::from(welcome.device));
    sink.uint64(3, welcome.next_client_id);
    sink.uint64(4, u64::from(welcome.heartbeat_ms));
    let limits = welcome.limits;
    let length = length_of(|sink| describe_limits(sink, limits));
    sink.message(5, length, |sink| describe_limits(sink, limits));
    sink.uint64(6, welcome.server_time_ms);
    sink.fixed64(7, welcome.cursor);
}

fn describe_limits(sink: &mut impl Sink, limits: Limits) {
    sink.uint64(1, u64::from(limits.payload_bytes_max));
    sink.uint64(2, u64::from(limits.unacked_messages_max));
    sink.uint64(3, u64::from(limits.unacked_bytes_max));
    sink.uint64(4, u64::from(limits.unconfirmed_ids_max));
    sink.uint64(5, u64::from(limits.watched_users_max));
    sink.uint64(6, u64::from(limits.asked_peers_max));
}

#[inline]
fn describe_deliver(sink: &mut impl Sink, deliver: &Deliver<'_>) {
    write_stream(sink, 1, deliver.stream);
    sink.fixed64(2, deliver.position);
    write_id(sink, 3, deliver.id);
    sink.uint64(4, deliver.time_ms);
    sink.uint64(5, u64::from(deliver.kind));
    sink.bytes(6, deliver.payload);
    write_relation(sink, 7, deliver.relation);
    write_stream(sink, 8, deliver.to);
    sink.fixed64(9, deliver.to_position);
}

fn read_limits(mut fields: Fields<'_>, limits: &mut Limits) -> Result<(), DecodeError> {
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => limits.payload_bytes_max = field.uint32("payload_bytes_max")?,
            2 => limits.unacked_messages_max = field.uint32("unacked_messages_max")?,
            3 => limits.unacked_bytes_max = field.uint32("unacked_bytes_max")?,
            4 => limits.unconfirmed_ids_max = field.uint32("unconfirmed_ids_max")?,
            5 => limits.watched_users_max = field.uint32("watched_users_max")?,
            6 => limits.asked_peers_max = field.uint32("asked_peers_max")?,
            _ => field.skip()?,
        }
    }
    Ok(())
}

fn read_welcome(mut fields: Fields<'_>) -> Result<Welcome, DecodeError> {
    let mut welcome = Welcome {
        user: 0,
        device: 0,
        next_client_id: 0,
        heartbeat_ms: 0,
        limits: Limits::default(),
        server_time_ms: 0,
        cursor: 0,
    };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => welcome.user = field.uint64()?,
            2 => welcome.device = field.uint32("device")?,
            3 => welcome.next_client_id = field.uint64()?,
            4 => welcome.heartbeat_ms = field.uint32("heartbeat_ms")?,
            5 => read_limits(field.message()?, &mut welcome.limits)?,
            6 => welcome.server_time_ms = field.uint64()?,
            7 => welcome.cursor = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    required(welcome.user, "user")?;
    required32(welcome.device, "device")?;
    required(welcome.next_client_id, "next_client_id")?;
    Ok(welcome)
}

fn read_sent(mut fields: Fields<'_>) -> Result<Sent, DecodeError> {
    let mut sent = Sent { client_id: 0, position: 0, time_ms: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => sent.client_id = field.uint64()?,
            2 => sent.position = field.fixed64()?,
            3 => sent.time_ms = field.uint64()?,
            _ => field.skip()?,
        }
    }
    required(sent.client_id, "client_id")?;
    Ok(sent)
}

fn read_refused(mut fields: Fields<'_>) -> Result<Refused, DecodeError> {
    let mut client_id = 0;
    let mut reason = None;
    let mut retriable = false;
    let mut retry_after_ms = 0;
    let mut next_client_id = 0;
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => client_id = field.uint64()?,
            2 => reason = read_reason(field, "reason", Refusal::from_code)?,
            3 => retriable = field.boolean()?,
            4 => retry_after_ms = field.uint32("retry_after_ms")?,
            5 => next_client_id = field.uint64()?,
            _ => field.skip()?,
        }
    }
    let client_id = required(client_id, "client_id")?;
    let reason = reason.ok_or(DecodeError::MissingField("reason"))?;
    Ok(Refused { client_id, reason, retriable, retry_after_ms, next_client_id })
}

fn read_deliver(mut fields: Fields<'_>) -> Result<Deliver<'_>, DecodeError> {
    let mut deliver = Deliver {
        stream: None,
        position: 0,
        id: NO_ID,
        time_ms: 0,
        kind: 0,
        payload: &[],
        relation: None,
        to: None,
        to_position: 0,
    };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => deliver.stream = read_stream(field.message()?, "stream")?,
            2 => deliver.position = field.fixed64()?,
            3 => read_id(field.message()?, &mut deliver.id)?,
            4 => deliver.time_ms = field.uint64()?,
            5 => deliver.kind = field.uint32("kind")?,
            6 => deliver.payload = field.bytes()?,
            7 => read_relation(field.message()?, &mut deliver.relation)?,
            8 => deliver.to = read_stream(field.message()?, "to")?,
            9 => deliver.to_position = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    complete_id(deliver.id, "id")?;
    complete_relation(deliver.relation)?;
    Ok(deliver)
}

fn read_receipt(mut fields: Fields<'_>) -> Result<Receipt, DecodeError> {
    let mut stream = None;
    let mut after = 0;
    let mut up_to = 0;
    let mut mark = None;
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => stream = read_stream(field.message()?, "stream")?,
            2 => after = field.fixed64()?,
            3 => up_to = field.fixed64()?,
            4 => mark = read_reason(field, "mark", Mark::from_code)?,
            _ => field.skip()?,
        }
    }
    if stream.is_none() {
        return Err(DecodeError::MissingField("stream"));
    }
    Ok(Receipt { stream, after, up_to, mark: mark.ok_or(DecodeError::MissingField("mark"))? })
}

fn read_expired(mut fields: Fields<'_>) -> Result<Expired, DecodeError> {
    let mut id = NO_ID;
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => read_id(field.message()?, &mut id)?,
            _ => field.skip()?,
        }
    }
    Ok(Expired { id: complete_id(id, "id")? })
}

fn read_pong(mut fields: Fields<'_>) -> Result<Pong, DecodeError> {
    let mut pong = Pong { server_time_ms: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => pong.server_time_ms = field.uint64()?,
            _ => field.skip()?,
        }
    }
    Ok(pong)
}

fn read_goodbye(mut fields: Fields<'_>) -> Result<Goodbye<'_>, DecodeError> {
    let mut reason = None;
    let mut retry_after_ms = 0;
    let mut detail = "";
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => reason = read_reason(field, "reason", Parting::from_code)?,
            2 => retry_after_ms = field.uint32("retry_after_ms")?,
            3 => detail = field.text()?,
            _ => field.skip()?,
        }
    }
    let reason = reason.ok_or(DecodeError::MissingField("reason"))?;
    Ok(Goodbye { reason, retry_after_ms, detail })
}

fn read_typing(mut fields: Fields<'_>) -> Result<TypingFrom, DecodeError> {
    let mut typing = TypingFrom { user: 0, stopped: false };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => typing.user = field.uint64()?,
            2 => typing.stopped = field.boolean()?,
            _ => field.skip()?,
        }
    }
    required(typing.user, "user")?;
    Ok(typing)
}

fn read_presence(mut fields: Fields<'_>) -> Result<Presence, DecodeError> {
    let mut presence = Presence { user: 0, online: false, last_seen_ms: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => presence.user = field.uint64()?,
            2 => presence.online = field.boolean()?,
            3 => presence.last_seen_ms = field.uint64()?,
            _ => field.skip()?,
        }
    }
    required(presence.user, "user")?;
    Ok(presence)
}

fn read_read_sync(mut fields: Fields<'_>) -> Result<ReadSync, DecodeError> {
    let mut sync = ReadSync { stream: None, up_to: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => sync.stream = read_stream(field.message()?, "stream")?,
            2 => sync.up_to = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    Ok(sync)
}

fn read_device_event(mut fields: Fields<'_>) -> Result<DeviceEvent, DecodeError> {
    let mut event = DeviceEvent { device: 0, added: false };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => event.device = field.uint32("device")?,
            2 => event.added = field.boolean()?,
            _ => field.skip()?,
        }
    }
    required32(event.device, "device")?;
    Ok(event)
}
