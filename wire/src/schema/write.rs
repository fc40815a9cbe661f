//! Fields to bytes, and the messages several frames share.
//!
//! A message is described once as calls on a [`Sink`]; see the header of `schema.rs`. Deliberately
//! not here: the frames (`client_frame.rs`, `server_frame.rs`).

use super::GOES_ON;
use crate::types::{Confirmed, Mark, MessageId, Relation, Stream};
use crate::websocket::{HEADER_BYTES_MAX, put_last};
use buffa::encoding::{WireType, encode_varint, varint_len};

/// Where the description of a message goes. Fields of value 0, `false` or empty are left out, as
/// proto3 has it.
pub(crate) trait Sink {
    /// A varint without a tag.
    fn varint(&mut self, value: u64);
    /// Eight bytes as they are.
    fn eight(&mut self, bytes: [u8; 8]);

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
            self.eight(value.to_le_bytes());
        }
    }

    /// A sub-message of at most `SUB_MESSAGE_BYTES_MAX`, written even if it is empty.
    fn message(&mut self, number: u32, describe: impl FnOnce(&mut Self))
    where
        Self: Sized;
}

/// Where the description of a frame goes, whose one long value (payload, token, detail, list) is
/// not copied before its place is known. Not for sub-messages.
pub(crate) trait LongSink<'p>: Sink {
    /// The value of the field that may be long, without tag and length.
    fn long(&mut self, long: Long<'p>);

    #[inline(always)]
    fn bytes(&mut self, number: u32, value: &'p [u8]) {
        self.list(number, Long::Bytes(value));
    }

    /// A repeated `uint64`, packed.
    fn ids(&mut self, number: u32, ids: &'p [u64]) {
        self.list(number, Long::Ids(ids));
    }

    #[inline(always)]
    fn list(&mut self, number: u32, long: Long<'p>) {
        let length = long.len();
        if length > 0 {
            self.tag(number, WireType::LengthDelimited);
            self.varint(length as u64);
            self.long(long);
        }
    }
}

/// The longest sub-message: one byte holds its length. `Relation` and `Limits` come to 38 at most.
const SUB_MESSAGE_BYTES_MAX: u8 = 127;
/// A body's tag and length.
const ENVELOPE_BYTES_MAX: usize = 7;
/// Where a body begins in its room: before it everything fits that goes before a body.
const BODY_AT: u8 = 21;
/// A place in the room is one byte, so that most need no look at its end.
const ROOM_BYTES: usize = 256;
/// The longest body of a frame without its payload, token, detail or list. `Deliver` is the one.
const FIXED_BYTES_MAX: usize = 160;
const _: () = assert!(BODY_AT as usize == HEADER_BYTES_MAX + ENVELOPE_BYTES_MAX);
const _: () = assert!(BODY_AT as usize + FIXED_BYTES_MAX + 8 <= ROOM_BYTES);

/// Counts the bytes of a description.
#[derive(Default)]
pub(crate) struct Length(usize);

impl Sink for Length {
    fn varint(&mut self, value: u64) {
        self.0 += varint_len(value);
    }

    fn eight(&mut self, _: [u8; 8]) {
        self.0 += 8;
    }

    fn message(&mut self, number: u32, describe: impl FnOnce(&mut Self)) {
        self.tag(number, WireType::LengthDelimited);
        self.0 += 1;
        describe(self);
    }
}

impl<'p> LongSink<'p> for Length {
    fn long(&mut self, long: Long<'p>) {
        self.0 += long.len();
    }
}

/// The one value of a frame that may be long.
#[derive(Clone, Copy)]
pub(crate) enum Long<'p> {
    Bytes(&'p [u8]),
    /// Varints without tags.
    Ids(&'p [u64]),
}

impl Long<'_> {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Ids(ids) => ids.iter().map(|id| varint_len(*id)).sum(),
        }
    }
}

/// Writes a description into room of its own, all but the long value, and notes where that goes.
pub(crate) struct Writer<'p> {
    room: [u8; ROOM_BYTES],
    used: u8,
    long: Long<'p>,
    long_at: u8,
}

impl Sink for Writer<'_> {
    #[inline(always)]
    fn varint(&mut self, value: u64) {
        if value < 0x80 {
            self.room[usize::from(self.used)] = (value & 0x7f) as u8;
            self.used = self.used.wrapping_add(1);
        } else if value >> 56 == 0 {
            let (bytes, length) = eight_groups(value);
            self.put(bytes, length);
        } else {
            // Eight groups that all say "goes on", and the rest.
            let (bytes, _) = eight_groups(value & (u64::MAX >> 8));
            let bytes = u64::from_le_bytes(bytes) | GOES_ON;
            self.put(bytes.to_le_bytes(), 8);
            let (bytes, length) = eight_groups(value >> 56);
            self.put(bytes, length);
        }
    }

    #[inline(always)]
    fn eight(&mut self, bytes: [u8; 8]) {
        self.put(bytes, 8);
    }

    #[inline(always)]
    fn message(&mut self, number: u32, describe: impl FnOnce(&mut Self)) {
        self.tag(number, WireType::LengthDelimited);
        let length_at = self.used;
        self.used = self.used.wrapping_add(1);
        describe(self);
        let length = self.used.wrapping_sub(length_at).wrapping_sub(1);
        assert!(length <= SUB_MESSAGE_BYTES_MAX, "a sub-message of {length} bytes");
        self.room[usize::from(length_at)] = length;
    }
}

impl<'p> LongSink<'p> for Writer<'p> {
    #[inline(always)]
    fn long(&mut self, long: Long<'p>) {
        (self.long, self.long_at) = (long, self.used);
    }
}

impl Writer<'_> {
    /// Appends the first `length` of `bytes`.
    #[inline(always)]
    fn put(&mut self, bytes: [u8; 8], length: u8) {
        let at = usize::from(self.used);
        self.room[at..at + 8].copy_from_slice(&bytes);
        self.used = self.used.wrapping_add(length);
        debug_assert!(usize::from(self.used) <= usize::from(BODY_AT) + FIXED_BYTES_MAX);
    }
}

/// A number below 2^56 as a varint: eight bytes, and how many of them count.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "there are eight bytes")]
fn eight_groups(value: u64) -> ([u8; 8], u8) {
    // The upper half moves up by 4, the upper half of each half by 2, of each quarter by 1: then
    // each byte holds seven bits.
    let halves = value + (value & 0x00ff_ffff_f000_0000) * 0xf;
    let quarters = halves + (halves & 0x0fff_c000_0fff_c000) * 0x3;
    let groups = quarters + (quarters & 0x3f80_3f80_3f80_3f80);
    let last_at = (groups | 1).ilog2() & !7;
    let goes_on = GOES_ON & ((1 << last_at) - 1);
    ((groups | goes_on).to_le_bytes(), (last_at / 8 + 1) as u8)
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

/// Appends what goes before a frame, then the frame around a described body; returns where the
/// frame begins.
///
/// The body is written first, into room of its own on the stack, and what goes before it is put
/// there when its length is known. `put_prefix` is given the room before the frame, whose end it
/// fills, and the frame's length; it says how much it took, at most `HEADER_BYTES_MAX`. The growth
/// of `out` is the only thing that may allocate.
#[inline(always)]
pub(crate) fn write_frame<'p>(
    out: &mut Vec<u8>,
    number: u32,
    put_prefix: impl Fn(&mut [u8], usize) -> usize,
    describe: impl FnOnce(&mut Writer<'p>),
) -> usize {
    let (long, long_at) = (Long::Bytes(&[]), BODY_AT);
    let mut body = Writer { room: [0; ROOM_BYTES], used: BODY_AT, long, long_at };
    describe(&mut body);
    let Writer { room, used, long, long_at } = &mut body;
    let (used, long_at, body_at) =
        (usize::from(*used), usize::from(*long_at), usize::from(BODY_AT));
    let long_bytes = long.len();
    let body_bytes = used - body_at + long_bytes;
    let frame_at = body_at - put_envelope(&mut room[..body_at], number, body_bytes);
    let frame_bytes = body_at - frame_at + body_bytes;
    let prefix_bytes = put_prefix(&mut room[..frame_at], frame_bytes);

    out.reserve(prefix_bytes + frame_bytes);
    let begins_at = out.len() + prefix_bytes;
    if long_bytes == 0 {
        out.extend_from_slice(&room[frame_at - prefix_bytes..used]);
        return begins_at;
    }
    out.extend_from_slice(&room[frame_at - prefix_bytes..long_at]);
    match long {
        Long::Bytes(bytes) => out.extend_from_slice(bytes),
        Long::Ids(ids) => ids.iter().for_each(|id| encode_varint(*id, out)),
    }
    if long_at < used {
        out.extend_from_slice(&room[long_at..used]);
    }
    begins_at
}

/// Puts a body's tag and length at the end of the room before it; returns how much they take.
#[inline(always)]
fn put_envelope(before: &mut [u8], number: u32, body_bytes: usize) -> usize {
    let tag = number << 3 | WireType::LengthDelimited as u32;
    if let (Ok(tag @ 0..0x80), Ok(length @ 0..0x80)) = (u8::try_from(tag), u8::try_from(body_bytes))
    {
        return put_last(before, [tag, length]);
    }
    let mut end = before.len();
    for value in [body_bytes as u64, u64::from(tag)] {
        let (bytes, length) = eight_groups(value);
        let last = u64::from_le_bytes(bytes) << (64 - 8 * u32::from(length));
        put_last(&mut before[..end], last.to_le_bytes());
        end -= usize::from(length);
    }
    before.len() - end
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn varint(value: u64) -> Vec<u8> {
        let mut writer =
            Writer { room: [0; ROOM_BYTES], used: 0, long: Long::Bytes(&[]), long_at: 0 };
        writer.varint(value);
        writer.room[..usize::from(writer.used)].to_vec()
    }

    #[test]
    fn a_varint_is_that_of_the_crate_around_every_power_of_two() {
        let powers = (0..64).map(|bit| 1_u64 << bit);
        for value in powers.flat_map(|it| [it - 1, it, it + 1, it | 1 << 20, !it]) {
            let mut same = Vec::new();
            encode_varint(value, &mut same);
            assert_eq!(varint(value), same, "{value:#x}");
        }
    }

    proptest! {
        #[test]
        fn a_varint_is_that_of_the_crate(value: u64, shift in 0..64_u32) {
            let value = value >> shift;
            let mut same = Vec::new();
            encode_varint(value, &mut same);
            prop_assert_eq!(varint(value), same);
        }
    }
}
