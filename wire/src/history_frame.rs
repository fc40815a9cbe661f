//! The frames of history: what a client asks of it, and what it is told. Meanings, limits and
//! answers: `docs/protocol.md`, "History".
//!
//! A page is a run of `Item` frames and a `Fetched` that ends it, so that no frame is larger than
//! a delivery. Deliberately not here: the envelopes (`client_frame.rs`, `server_frame.rs`).

use crate::group_frame::{ChangeParts, GroupChange, write_change};
use crate::reasons::Refusal;
use crate::schema::{
    DecodeError, Field, Fields, LongSink, NO_ID, Sink, complete_relation, read_id, read_reason,
    read_relation, read_stream, required, write_id, write_relation, write_stream,
};
use crate::types::{MessageId, Relation, Retention, Stream};

/// Items or conversations one request may ask for.
pub const PAGE_ITEMS_MAX: u32 = 100;
/// What a request gets that names no number.
pub const PAGE_ITEMS: u32 = 50;
/// The longest time a conversation may be kept for: ten years of 365 days, in seconds.
pub const RETENTION_SECONDS_MAX: u32 = 3_650 * 24 * 3_600;

/// Asks for a page of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// The client's number of the question; never 0.
    pub request: u64,
    /// The conversation: a peer or a group.
    pub stream: Stream,
    /// The number (in a group: the position) to go on from, which is not in the page itself. 0:
    /// from the end, or with `forwards` from the beginning.
    pub from: u64,
    /// Towards newer ones; else towards older ones.
    pub forwards: bool,
    /// At most so many items, up to [`PAGE_ITEMS_MAX`]; 0: [`PAGE_ITEMS`].
    pub limit: u32,
}

/// Asks for a page of the list of conversations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListConversations {
    /// The client's number of the question; never 0.
    pub request: u64,
    /// The peer to go on after; 0: from the beginning.
    pub after: u64,
    /// As in [`Fetch`].
    pub limit: u32,
}

/// Decides how long the own side of a conversation is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetRetention {
    /// The client's number of the question; never 0.
    pub request: u64,
    /// The conversation.
    pub stream: Stream,
    /// How long.
    pub retention: Retention,
}

/// One message of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item<'a> {
    /// The question it answers.
    pub request: u64,
    /// Its number in the conversation (in a group: its position); larger is later.
    pub number: u64,
    /// Which message.
    pub id: MessageId,
    /// Its position in the recipient's stream; ticks speak of it.
    pub position: u64,
    /// When the server took it, milliseconds since 1970.
    pub time_ms: u64,
    /// The sender's application's own.
    pub kind: u32,
    /// As sent; empty if it was deleted.
    pub payload: &'a [u8],
    /// The earlier message it speaks of.
    pub relation: Option<Relation>,
    /// Its author deleted it for everybody.
    pub deleted: bool,
    /// No message: the group changed.
    pub change: Option<GroupChange>,
}

/// A page has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// The question.
    pub request: u64,
    /// Items the page had.
    pub count: u32,
    /// There are further ones in the same direction.
    pub more: bool,
    /// Of a group, forwards: nothing else lies at or below this position; else 0.
    pub up_to: u64,
}

/// How a conversation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conversation {
    /// The question it answers; 0: another device changed the retention.
    pub request: u64,
    /// The peer or group.
    pub stream: Stream,
    /// Number of the newest message; 0: none yet.
    pub last: u64,
    /// Messages of the peer after the own read mark.
    pub unread: u32,
    /// When the server took the newest one, milliseconds since 1970.
    pub time_ms: u64,
    /// How long the own side is kept.
    pub retention: Retention,
}

/// A page of conversations has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conversations {
    /// The question.
    pub request: u64,
    /// Conversations the page had.
    pub count: u32,
    /// There are further ones.
    pub more: bool,
}

/// A question could not be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestRefused {
    /// The question.
    pub request: u64,
    /// Why.
    pub reason: Refusal,
    /// Whether asking again can help.
    pub retriable: bool,
    /// How long to wait before that; 0: no advice.
    pub retry_after_ms: u32,
}

pub(crate) fn describe_fetch(sink: &mut impl Sink, fetch: &Fetch) {
    sink.uint64(1, fetch.request);
    write_stream(sink, 2, Some(fetch.stream));
    sink.uint64(3, fetch.from);
    sink.boolean(4, fetch.forwards);
    sink.uint64(5, u64::from(fetch.limit));
}

pub(crate) fn describe_list(sink: &mut impl Sink, list: &ListConversations) {
    sink.uint64(1, list.request);
    sink.uint64(2, list.after);
    sink.uint64(3, u64::from(list.limit));
}

pub(crate) fn describe_set_retention(sink: &mut impl Sink, set: &SetRetention) {
    sink.uint64(1, set.request);
    write_stream(sink, 2, Some(set.stream));
    describe_retention(sink, [3, 4], set.retention);
}

fn describe_retention(sink: &mut impl Sink, numbers: [u32; 2], retention: Retention) {
    sink.uint64(numbers[0], u64::from(retention.code()));
    sink.uint64(numbers[1], u64::from(retention.seconds()));
}

pub(crate) fn describe_item<'p>(sink: &mut impl LongSink<'p>, item: &Item<'p>) {
    sink.uint64(1, item.request);
    sink.uint64(2, item.number);
    write_id(sink, 3, item.id);
    sink.fixed64(4, item.position);
    sink.uint64(5, item.time_ms);
    sink.uint64(6, u64::from(item.kind));
    sink.bytes(7, item.payload);
    write_relation(sink, 8, item.relation);
    sink.boolean(9, item.deleted);
    write_change(sink, 10, item.change);
}

pub(crate) fn describe_fetched(sink: &mut impl Sink, page: &Fetched) {
    describe_end(sink, page.request, page.count, page.more);
    sink.fixed64(4, page.up_to);
}

pub(crate) fn describe_conversations(sink: &mut impl Sink, page: &Conversations) {
    describe_end(sink, page.request, page.count, page.more);
}

fn describe_end(sink: &mut impl Sink, request: u64, count: u32, more: bool) {
    sink.uint64(1, request);
    sink.uint64(2, u64::from(count));
    sink.boolean(3, more);
}

pub(crate) fn describe_conversation(sink: &mut impl Sink, conversation: &Conversation) {
    sink.uint64(1, conversation.request);
    write_stream(sink, 2, Some(conversation.stream));
    sink.uint64(3, conversation.last);
    sink.uint64(4, u64::from(conversation.unread));
    sink.uint64(5, conversation.time_ms);
    describe_retention(sink, [6, 7], conversation.retention);
}

pub(crate) fn describe_refused(sink: &mut impl Sink, refused: &RequestRefused) {
    sink.uint64(1, refused.request);
    sink.uint64(2, u64::from(refused.reason.code()));
    sink.boolean(3, refused.retriable);
    sink.uint64(4, u64::from(refused.retry_after_ms));
}

pub(crate) fn read_fetch(mut fields: Fields<'_>) -> Result<Fetch, DecodeError> {
    let (mut request, mut stream, mut from, mut forwards, mut limit) = (0, None, 0, false, 0);
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => request = field.uint64()?,
            2 => stream = read_stream(field.message()?, "stream")?,
            3 => from = field.uint64()?,
            4 => forwards = field.boolean()?,
            5 => limit = field.uint32("limit")?,
            _ => field.skip()?,
        }
    }
    let request = required(request, "request")?;
    let stream = stream.ok_or(DecodeError::MissingField("stream"))?;
    Ok(Fetch { request, stream, from, forwards, limit })
}

pub(crate) fn read_list(mut fields: Fields<'_>) -> Result<ListConversations, DecodeError> {
    let mut list = ListConversations { request: 0, after: 0, limit: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => list.request = field.uint64()?,
            2 => list.after = field.uint64()?,
            3 => list.limit = field.uint32("limit")?,
            _ => field.skip()?,
        }
    }
    required(list.request, "request")?;
    Ok(list)
}

pub(crate) fn read_set_retention(mut fields: Fields<'_>) -> Result<SetRetention, DecodeError> {
    let (mut request, mut stream, mut kept) = (0, None, Kept::default());
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => request = field.uint64()?,
            2 => stream = read_stream(field.message()?, "stream")?,
            3 => kept.code = field.uint64()?,
            4 => kept.take_seconds(field)?,
            _ => field.skip()?,
        }
    }
    let request = required(request, "request")?;
    let stream = stream.ok_or(DecodeError::MissingField("stream"))?;
    Ok(SetRetention { request, stream, retention: kept.complete()? })
}

/// A retention while its fields come in.
#[derive(Default)]
struct Kept {
    code: u64,
    seconds: u32,
}

impl Kept {
    fn take_seconds(&mut self, field: Field<'_, '_>) -> Result<(), DecodeError> {
        self.seconds = field.uint32("keep_seconds")?;
        Ok(())
    }

    fn complete(&self) -> Result<Retention, DecodeError> {
        let code = u8::try_from(self.code).map_err(|_| DecodeError::OutOfRange("retention"))?;
        match Retention::from_code(code, self.seconds) {
            Some(retention) => Ok(retention),
            None if code == 0 => Err(DecodeError::MissingField("retention")),
            None if code == 2 => Err(DecodeError::MissingField("keep_seconds")),
            None => Err(DecodeError::OutOfRange("retention")),
        }
    }
}

pub(crate) fn read_item(mut fields: Fields<'_>) -> Result<Item<'_>, DecodeError> {
    let mut item = Item {
        request: 0,
        number: 0,
        id: NO_ID,
        position: 0,
        time_ms: 0,
        kind: 0,
        payload: &[],
        relation: None,
        deleted: false,
        change: None,
    };
    let mut change = ChangeParts::default();
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => item.request = field.uint64()?,
            2 => item.number = field.uint64()?,
            3 => read_id(field.message()?, &mut item.id)?,
            4 => item.position = field.fixed64()?,
            5 => item.time_ms = field.uint64()?,
            6 => item.kind = field.uint32("kind")?,
            7 => item.payload = field.bytes()?,
            8 => read_relation(field.message()?, &mut item.relation)?,
            9 => item.deleted = field.boolean()?,
            10 => change.read(field)?,
            _ => field.skip()?,
        }
    }
    required(item.request, "request")?;
    required(item.number, "number")?;
    item.change = change.complete(item.id)?;
    complete_relation(item.relation)?;
    Ok(item)
}

pub(crate) fn read_fetched(fields: Fields<'_>) -> Result<Fetched, DecodeError> {
    read_end(fields)
}

pub(crate) fn read_conversations(fields: Fields<'_>) -> Result<Conversations, DecodeError> {
    let Fetched { request, count, more, .. } = read_end(fields)?;
    Ok(Conversations { request, count, more })
}

fn read_end(mut fields: Fields<'_>) -> Result<Fetched, DecodeError> {
    let mut page = Fetched { request: 0, count: 0, more: false, up_to: 0 };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => page.request = field.uint64()?,
            2 => page.count = field.uint32("count")?,
            3 => page.more = field.boolean()?,
            4 => page.up_to = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    required(page.request, "request")?;
    Ok(page)
}

pub(crate) fn read_conversation(mut fields: Fields<'_>) -> Result<Conversation, DecodeError> {
    let (mut request, mut stream, mut kept) = (0, None, Kept::default());
    let (mut last, mut unread, mut time_ms) = (0, 0, 0);
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => request = field.uint64()?,
            2 => stream = read_stream(field.message()?, "stream")?,
            3 => last = field.uint64()?,
            4 => unread = field.uint32("unread")?,
            5 => time_ms = field.uint64()?,
            6 => kept.code = field.uint64()?,
            7 => kept.take_seconds(field)?,
            _ => field.skip()?,
        }
    }
    let stream = stream.ok_or(DecodeError::MissingField("stream"))?;
    Ok(Conversation { request, stream, last, unread, time_ms, retention: kept.complete()? })
}

pub(crate) fn read_refused(mut fields: Fields<'_>) -> Result<RequestRefused, DecodeError> {
    let (mut request, mut reason, mut retriable, mut retry_after_ms) = (0, None, false, 0);
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => request = field.uint64()?,
            2 => reason = read_reason(field, "reason", Refusal::from_code)?,
            3 => retriable = field.boolean()?,
            4 => retry_after_ms = field.uint32("retry_after_ms")?,
            _ => field.skip()?,
        }
    }
    let request = required(request, "request")?;
    let reason = reason.ok_or(DecodeError::MissingField("reason"))?;
    Ok(RequestRefused { request, reason, retriable, retry_after_ms })
}
