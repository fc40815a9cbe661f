//! What a client says: one struct per frame, decoded without copying.
//!
//! Meanings, limits and answers: `docs/protocol.md`, "Frames from the client". A decoded frame has
//! every required field and every list within its bound; whether a token is valid, a user exists
//! or an id fits the window is the server's to judge. Unknown fields are skipped.

use crate::history_frame::{self, Fetch, ListConversations, SetRetention};
use crate::schema::{
    DecodeError, Field, Fields, LongSink, complete_relation, frame_length, read_confirmed,
    read_envelope, read_relation, read_stream, required, write_choice, write_confirmed,
    write_frame, write_relation, write_stream,
};
use crate::types::{Confirmed, Relation, Stream};

/// Users one `WatchPresence` may name.
pub const WATCHED_USERS_MAX: usize = 64;
/// Peers one `AskReceipts` may name.
pub const ASKED_PEERS_MAX: usize = 256;

/// A frame from a client. Borrows token and payload from the bytes it was decoded from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientFrame<'a> {
    /// Logs in; the first frame of a connection.
    Hello(Hello<'a>),
    /// Hands in a newer token.
    Renew(Renew<'a>),
    /// Sends a message.
    Send(Send<'a>),
    /// Says up to where this device holds a stream.
    Ack(Ack),
    /// Says up to where the user has read.
    Read(Read),
    /// A heartbeat.
    Ping(Ping),
    /// The user types, or stopped.
    Typing(Typing),
    /// Whose presence to be told of.
    WatchPresence(WatchPresence),
    /// Asks for the marks of messages sent earlier.
    AskReceipts(AskReceipts),
    /// Asks for a page of a conversation.
    Fetch(Fetch),
    /// Asks for the conversations there are.
    ListConversations(ListConversations),
    /// Decides how long a conversation is kept.
    SetRetention(SetRetention),
}

/// Logs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// A JWT that names user and device; not empty.
    pub token: &'a str,
    /// The highest position of the own inbox this device holds, or 0.
    pub resume_after: u64,
    /// Answers seen so far.
    pub confirmed: Confirmed,
    /// The user, not only the app, is here.
    pub active: bool,
}

/// Hands in a newer token of the same user and device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renew<'a> {
    /// The newer JWT; not empty.
    pub token: &'a str,
}

/// Sends a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Send<'a> {
    /// This device's number of the message; never 0.
    pub client_id: u64,
    /// Answers seen so far.
    pub confirmed: Confirmed,
    /// The recipient.
    pub to: Stream,
    /// Opaque to the server; may be empty.
    pub payload: &'a [u8],
    /// Seconds after which nobody needs it any more; 0: the server's default retention.
    pub ttl_seconds: u32,
    /// The application's own; the server passes it on.
    pub kind: u32,
    /// The earlier message it speaks of.
    pub relation: Option<Relation>,
    /// Not a deed of the user: does not count as activity.
    pub automatic: bool,
}

/// Says up to where this device holds a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// `None`: the own inbox.
    pub stream: Option<Stream>,
    /// All positions up to this one are held.
    pub up_to: u64,
}

/// Says up to where the user has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// The conversation: a peer or a group. `None`: every conversation.
    pub stream: Option<Stream>,
    /// A position of the own inbox, or of the group's stream.
    pub up_to: u64,
    /// Not a deed of the user.
    pub automatic: bool,
}

/// A heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ping {
    /// The user, not only the app, is here.
    pub active: bool,
    /// Answers seen so far.
    pub confirmed: Confirmed,
    /// Asks for a `Pong`.
    pub answer: bool,
}

/// The user types, or stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Typing {
    /// To whom.
    pub to: Stream,
    /// No longer.
    pub stopped: bool,
}

/// Whose presence to be told of; replaces the former list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WatchPresence {
    /// At most [`WATCHED_USERS_MAX`], none 0. Empty: nobody.
    pub users: Vec<u64>,
}

/// Asks for the marks of messages sent earlier.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AskReceipts {
    /// At most [`ASKED_PEERS_MAX`], none 0.
    pub peers: Vec<u64>,
    /// They are groups; else users.
    pub groups: bool,
}

impl<'a> ClientFrame<'a> {
    /// Decodes one frame.
    ///
    /// # Errors
    /// Every way in which `bytes` are no such frame; see [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (number, body) = read_envelope(bytes, 12)?;
        match number {
            1 => read_hello(body).map(Self::Hello),
            2 => read_renew(body).map(Self::Renew),
            3 => read_send(body).map(Self::Send),
            4 => read_ack(body).map(Self::Ack),
            5 => read_read(body).map(Self::Read),
            6 => read_ping(body).map(Self::Ping),
            7 => read_typing(body).map(Self::Typing),
            8 => read_watch(body).map(Self::WatchPresence),
            9 => read_ask(body).map(Self::AskReceipts),
            10 => history_frame::read_fetch(body).map(Self::Fetch),
            11 => history_frame::read_list(body).map(Self::ListConversations),
            12 => history_frame::read_set_retention(body).map(Self::SetRetention),
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
            Self::Hello(_) => 1,
            Self::Renew(_) => 2,
            Self::Send(_) => 3,
            Self::Ack(_) => 4,
            Self::Read(_) => 5,
            Self::Ping(_) => 6,
            Self::Typing(_) => 7,
            Self::WatchPresence(_) => 8,
            Self::AskReceipts(_) => 9,
            Self::Fetch(_) => 10,
            Self::ListConversations(_) => 11,
            Self::SetRetention(_) => 12,
        }
    }

    fn describe<'p>(&'p self, sink: &mut impl LongSink<'p>) {
        match self {
            Self::Hello(hello) => {
                sink.bytes(1, hello.token.as_bytes());
                sink.fixed64(2, hello.resume_after);
                write_confirmed(sink, 3, hello.confirmed);
                sink.boolean(4, hello.active);
            }
            Self::Renew(renew) => sink.bytes(1, renew.token.as_bytes()),
            Self::Send(send) => describe_send(sink, send),
            Self::Ack(ack) => {
                write_stream(sink, 1, ack.stream);
                sink.fixed64(2, ack.up_to);
            }
            Self::Read(read) => {
                write_stream(sink, 1, read.stream);
                sink.fixed64(2, read.up_to);
                sink.boolean(3, read.automatic);
            }
            Self::Ping(ping) => {
                sink.boolean(1, ping.active);
                write_confirmed(sink, 2, ping.confirmed);
                sink.boolean(3, ping.answer);
            }
            Self::Typing(typing) => {
                write_choice(sink, [1, 2], typing.to);
                sink.boolean(3, typing.stopped);
            }
            Self::WatchPresence(watch) => sink.ids(1, &watch.users),
            Self::AskReceipts(ask) => {
                sink.ids(1, &ask.peers);
                sink.boolean(2, ask.groups);
            }
            Self::Fetch(fetch) => history_frame::describe_fetch(sink, fetch),
            Self::ListConversations(list) => history_frame::describe_list(sink, list),
            Self::SetRetention(set) => history_frame::describe_set_retention(sink, set),
        }
    }
}

fn describe_send<'p>(sink: &mut impl LongSink<'p>, send: &Send<'p>) {
    sink.uint64(1, send.client_id);
    write_confirmed(sink, 2, send.confirmed);
    write_choice(sink, [3, 4], send.to);
    sink.bytes(5, send.payload);
    sink.uint64(6, u64::from(send.ttl_seconds));
    sink.uint64(7, u64::from(send.kind));
    write_relation(sink, 8, send.relation);
    sink.boolean(9, send.automatic);
}

fn read_hello(mut fields: Fields<'_>) -> Result<Hello<'_>, DecodeError> {
    let mut hello =
        Hello { token: "", resume_after: 0, confirmed: Confirmed::default(), active: false };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => hello.token = field.text()?,
            2 => hello.resume_after = field.fixed64()?,
            3 => read_confirmed(field.message()?, &mut hello.confirmed)?,
            4 => hello.active = field.boolean()?,
            _ => field.skip()?,
        }
    }
    if hello.token.is_empty() { Err(DecodeError::MissingField("token")) } else { Ok(hello) }
}

fn read_renew(mut fields: Fields<'_>) -> Result<Renew<'_>, DecodeError> {
    let mut renew = Renew { token: "" };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => renew.token = field.text()?,
            _ => field.skip()?,
        }
    }
    if renew.token.is_empty() { Err(DecodeError::MissingField("token")) } else { Ok(renew) }
}

fn read_send(mut fields: Fields<'_>) -> Result<Send<'_>, DecodeError> {
    let mut client_id = 0;
    let mut confirmed = Confirmed::default();
    let mut to = None;
    let mut payload: &[u8] = &[];
    let mut ttl_seconds = 0;
    let mut kind = 0;
    let mut relation = None;
    let mut automatic = false;
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => client_id = field.uint64()?,
            2 => read_confirmed(field.message()?, &mut confirmed)?,
            3 => to = Some(Stream::User(recipient(field)?)),
            4 => to = Some(Stream::Group(recipient(field)?)),
            5 => payload = field.bytes()?,
            6 => ttl_seconds = field.uint32("ttl_seconds")?,
            7 => kind = field.uint32("kind")?,
            8 => read_relation(field.message()?, &mut relation)?,
            9 => automatic = field.boolean()?,
            _ => field.skip()?,
        }
    }
    Ok(Send {
        client_id: required(client_id, "client_id")?,
        confirmed,
        to: to.ok_or(DecodeError::MissingField("to"))?,
        payload,
        ttl_seconds,
        kind,
        relation: complete_relation(relation)?,
        automatic,
    })
}

fn recipient(field: Field<'_, '_>) -> Result<u64, DecodeError> {
    required(field.uint64()?, "to")
}

fn read_ack(mut fields: Fields<'_>) -> Result<Ack, DecodeError> {
    let mut ack = Ack { stream: None, up_to: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => ack.stream = read_stream(field.message()?, "stream")?,
            2 => ack.up_to = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    Ok(ack)
}

fn read_read(mut fields: Fields<'_>) -> Result<Read, DecodeError> {
    let mut read = Read { stream: None, up_to: 0, automatic: false };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => read.stream = read_stream(field.message()?, "stream")?,
            2 => read.up_to = field.fixed64()?,
            3 => read.automatic = field.boolean()?,
            _ => field.skip()?,
        }
    }
    Ok(read)
}

fn read_ping(mut fields: Fields<'_>) -> Result<Ping, DecodeError> {
    let mut ping = Ping::default();
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => ping.active = field.boolean()?,
            2 => read_confirmed(field.message()?, &mut ping.confirmed)?,
            3 => ping.answer = field.boolean()?,
            _ => field.skip()?,
        }
    }
    Ok(ping)
}

fn read_typing(mut fields: Fields<'_>) -> Result<Typing, DecodeError> {
    let mut to = None;
    let mut stopped = false;
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => to = Some(Stream::User(recipient(field)?)),
            2 => to = Some(Stream::Group(recipient(field)?)),
            3 => stopped = field.boolean()?,
            _ => field.skip()?,
        }
    }
    Ok(Typing { to: to.ok_or(DecodeError::MissingField("to"))?, stopped })
}

fn read_watch(mut fields: Fields<'_>) -> Result<WatchPresence, DecodeError> {
    let mut watch = WatchPresence::default();
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => field.ids("users", WATCHED_USERS_MAX, &mut watch.users)?,
            _ => field.skip()?,
        }
    }
    Ok(watch)
}

fn read_ask(mut fields: Fields<'_>) -> Result<AskReceipts, DecodeError> {
    let mut ask = AskReceipts::default();
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => field.ids("peers", ASKED_PEERS_MAX, &mut ask.peers)?,
            2 => ask.groups = field.boolean()?,
            _ => field.skip()?,
        }
    }
    Ok(ask)
}
