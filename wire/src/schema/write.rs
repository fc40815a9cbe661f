//! Fields to bytes, and the messages several frames share.
//!
//! A message is described once as calls on a [`Sink`]; see the header of `schema.rs`. Deliberately
//! not here: the frames (`client_frame.rs`, `server_frame.rs`).

use crate::types::{Confirmed, Mark, MessageId, Relation, Stream};
use crate::websocket::{HEADER_BYTES_MAX, HeaderBytes};
use buffa::encoding::{WireType, varint_len};

/// Where the description of a message goes. Fields of value 0, `false` or empty are left out, as
/// proto3 has it.
pub(crate) trait Sink {
    /// A varint without a tag.
    fn varint(&mut self, value: u64);
    /// Bytes as they are.
    fn raw(&mut self, bytes: &[u8]);

    #[inline(always)]
    fn tag(&mut self, number: u32, wire_type: WireType) {
        self.varint(u64::from(number << 3 | wire_type as u32));
    }

    #[inline(always)]
    fn uint64(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.chosen_uint64(number, value);
        }
    }

    /// A field of a `oneof`: written even if it is 0.
    #[inline(always)]
    fn chosen_uint64(&mut self, number: u32, value: u64) {
        self.tag(number, WireType::Varint);
        self.varint(value);
    }

    #[inline(always)]
    fn boolean(&mut self, number: u32, value: bool) {
        self.uint64(number, u64::from(value));
    }

    #[inline(always)]
    fn fixed64(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.tag(number, WireType::Fixed64);
            self.raw(&value.to_le_bytes());
        }
    }

    #[inline(always)]
    fn bytes(&mut self, number: u32, value: &[u8]) {
        if !value.is_empty() {
            self.tag(number, WireType::LengthDelimited);
            self.varint(value.len() as u64);
            self.raw(value);
        }
    }

    /// A repeated `uint64`, packed.
    fn ids(&mut self, number: u32, ids: &[u64]) {
        if !ids.is_empty() {
            self.tag(number, WireType::LengthDelimited);
            let length: usize = ids.iter().map(|id| varint_len(*id)).sum();
            self.varint(length as u64);
            for id in ids {
                self.varint(*id);
            }
        }
    }

    /// A sub-message of at most `SUB_MESSAGE_BYTES_MAX`, written even if it is empty.
    fn message(&mut self, number: u32, describe: impl FnOnce(&mut Self))
    where
        Self: Sized;
}

/// The longest sub-message: one byte holds its length. `Relation` and `Limits` come to 38 at most.
const SUB_MESSAGE_BYTES_MAX: u8 = 127;
/// The longest body of a frame without its payload, token, detail or list. `Deliver` is the one.
const FIXED_BYTES_MAX: usize = 144;
/// What a body without its payload usually comes to; a wrong guess costs a move of the body.
const FIXED_BYTES_USUAL: usize = 40;
/// A body's tag and length.
const ENVELOPE_BYTES_MAX: usize = 7;

/// Counts the bytes of a description.
#[derive(Default)]
pub(crate) struct Length(usize);

impl Sink for Length {
    fn varint(&mut self, value: u64) {
        self.0 += varint_len(value);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn message(&mut self, number: u32, describe: impl FnOnce(&mut Self)) {
        self.tag(number, WireType::LengthDelimited);
        self.0 += 1;
        describe(self);
    }
}

/// Writes a description into zeroed room that is large enough for every frame of its kind.
pub(crate) struct Writer<'a> {
    room: &'a mut [u8],
    used: usize,
}

impl Sink for Writer<'_> {
    #[inline(always)]
    fn varint(&mut self, mut value: u64) {
        let mut used = self.used;
        while value >= 0x80 {
            self.room[used] = (value & 0x7f) as u8 | 0x80;
            value >>= 7;
            used += 1;
        }
        self.room[used] = (value & 0x7f) as u8;
        self.used = used + 1;
    }

    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        self.room[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }

    #[inline(always)]
    fn message(&mut self, number: u32, describe: impl FnOnce(&mut Self)) {
        self.tag(number, WireType::LengthDelimited);
        let length_at = self.used;
        self.used += 1;
        describe(self);
        let length = self.used - length_at - 1;
        debug_assert!(length <= usize::from(SUB_MESSAGE_BYTES_MAX), "{length}");
        self.room[length_at] = u8::try_from(length).unwrap_or(SUB_MESSAGE_BYTES_MAX);
    }
}

/// The length of a frame around a described body.
pub(crate) fn frame_length(number: u32, describe: impl FnOnce(&mut Length)) -> usize {
    let mut body = Length::default();
    describe(&mut body);
    let mut envelope = Length::default();
    envelope.tag(number, WireType::LengthDelimited);
    envelope.varint(body.0 as u64);
    envelope.0 + body.0
}

/// Appends a prefix that depends on the frame's length, then the frame around a described body;
/// returns where the frame begins.
///
/// The body is written first, where it will probably stay: behind a prefix and an envelope for the
/// length it probably has. So nothing is counted beforehand. `variable_bytes` bounds what payload,
/// token, detail or list contribute. The growth of `out` is the only thing that may allocate.
#[inline(always)]
pub(crate) fn write_frame(
    out: &mut Vec<u8>,
    number: u32,
    variable_bytes: usize,
    prefix_of: impl Fn(usize) -> HeaderBytes,
    describe: impl FnOnce(&mut Writer<'_>),
) -> usize {
    let start = out.len();
    let guess = variable_bytes + FIXED_BYTES_USUAL;
    let tag_bytes = varint_len(u64::from(number << 3));
    let envelope_bytes = |body_bytes: usize| tag_bytes + varint_len(body_bytes as u64);
    let guessed_envelope = envelope_bytes(guess);
    let guessed_at = start + prefix_of(guessed_envelope + guess).len() + guessed_envelope;
    let room = HEADER_BYTES_MAX + ENVELOPE_BYTES_MAX + variable_bytes + FIXED_BYTES_MAX;
    out.resize(start + room, 0);

    let mut body = Writer { room: &mut out[guessed_at..], used: 0 };
    describe(&mut body);
    let body_bytes = body.used;

    let frame_bytes = envelope_bytes(body_bytes) + body_bytes;
    let prefix = prefix_of(frame_bytes);
    let frame_at = start + prefix.len();
    let body_at = frame_at + frame_bytes - body_bytes;
    if body_at != guessed_at {
        out.copy_within(guessed_at..guessed_at + body_bytes, body_at);
    }
    let mut head = Writer { room: &mut out[start..body_at], used: 0 };
    head.raw(prefix.as_slice());
    head.tag(number, WireType::LengthDelimited);
    head.varint(body_bytes as u64);
    out.truncate(frame_at + frame_bytes);
    frame_at
}

/// Writes `Confirmed`; nothing if it is the default.
#[inline(always)]
pub(crate) fn write_confirmed(sink: &mut impl Sink, number: u32, confirmed: Confirmed) {
    if confirmed != Confirmed::default() {
        sink.message(number, |sink| describe_confirmed(sink, confirmed));
    }
}

#[inline(always)]
fn describe_confirmed(sink: &mut impl Sink, confirmed: Confirmed) {
    sink.uint64(1, confirmed.base);
    sink.fixed64(2, confirmed.map);
}

/// Writes `Stream` if there is one.
#[inline(always)]
pub(crate) fn write_stream(sink: &mut impl Sink, number: u32, stream: Option<Stream>) {
    if let Some(stream) = stream {
        sink.message(number, |sink| write_choice(sink, [1, 2], stream));
    }
}

/// Writes the `oneof` of user and group, `numbers` being their field numbers.
#[inline(always)]
pub(crate) fn write_choice(sink: &mut impl Sink, numbers: [u32; 2], stream: Stream) {
    match stream {
        Stream::User(user) => sink.chosen_uint64(numbers[0], user),
        Stream::Group(group) => sink.chosen_uint64(numbers[1], group),
    }
}

/// Writes `MessageId`.
#[inline(always)]
pub(crate) fn write_id(sink: &mut impl Sink, number: u32, id: MessageId) {
    sink.message(number, |sink| describe_id(sink, id));
}

#[inline(always)]
fn describe_id(sink: &mut impl Sink, id: MessageId) {
    sink.uint64(1, id.sender);
    sink.uint64(2, u64::from(id.device));
    sink.uint64(3, id.client_id);
}

/// Writes `Relation` if there is one.
#[inline(always)]
pub(crate) fn write_relation(sink: &mut impl Sink, number: u32, relation: Option<Relation>) {
    if let Some(relation) = relation {
        sink.message(number, |sink| describe_relation(sink, relation));
    }
}

#[inline(always)]
fn describe_relation(sink: &mut impl Sink, relation: Relation) {
    sink.uint64(1, u64::from(relation.kind));
    write_id(sink, 2, relation.target);
}

/// Writes `Mark`.
#[inline(always)]
pub(crate) fn write_mark(sink: &mut impl Sink, number: u32, mark: Mark) {
    sink.uint64(number, u64::from(mark.code()));
}
