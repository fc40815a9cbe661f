//! Fields to bytes, and the messages several frames share.
//!
//! A message is described once as calls on a [`Sink`]; see the header of `schema.rs`. Deliberately
//! not here: the frames (`client_frame.rs`, `server_frame.rs`).

use crate::types::{Confirmed, Mark, MessageId, Relation, Stream};
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

    /// A sub-message, written even if it is empty.
    #[inline(always)]
    fn message(&mut self, number: u32, length: usize, describe: impl FnOnce(&mut Self))
    where
        Self: Sized,
    {
        self.tag(number, WireType::LengthDelimited);
        self.varint(length as u64);
        describe(self);
    }
}

/// Counts the bytes of a description.
#[derive(Default)]
pub(crate) struct Length(pub(crate) usize);

impl Sink for Length {
    #[inline(always)]
    fn varint(&mut self, value: u64) {
        self.0 += varint_len(value);
    }

    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline(always)]
    fn message(&mut self, number: u32, length: usize, _: impl FnOnce(&mut Self)) {
        self.tag(number, WireType::LengthDelimited);
        self.varint(length as u64);
        self.0 += length; // counted by the caller
    }
}

/// How long a described message is.
#[inline(always)]
pub(crate) fn length_of(describe: impl FnOnce(&mut Length)) -> usize {
    let mut length = Length::default();
    describe(&mut length);
    length.0
}

/// Writes a description into slots that [`Length`] counted before.
pub(crate) struct Slots<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl<'a> Slots<'a> {
    /// Makes room for `length` bytes at the end of `out`: the one place that may allocate.
    #[inline(always)]
    pub(crate) fn at_end_of(out: &'a mut Vec<u8>, length: usize) -> Self {
        let start = out.len();
        out.resize(start + length, 0);
        Self { bytes: &mut out[start..], used: 0 }
    }

    /// All that was counted must have been written.
    #[inline(always)]
    pub(crate) fn finish(self) {
        debug_assert_eq!(self.used, self.bytes.len(), "a description wrote less than it counted");
    }
}

impl Sink for Slots<'_> {
    #[inline(always)]
    fn varint(&mut self, mut value: u64) {
        let mut used = self.used;
        while value >= 0x80 {
            self.bytes[used] = (value & 0x7f) as u8 | 0x80;
            value >>= 7;
            used += 1;
        }
        self.bytes[used] = (value & 0x7f) as u8;
        self.used = used + 1;
    }

    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        self.bytes[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }
}

/// Writes `Confirmed`; nothing if it is the default.
#[inline(always)]
pub(crate) fn write_confirmed(sink: &mut impl Sink, number: u32, confirmed: Confirmed) {
    if confirmed != Confirmed::default() {
        let length = length_of(|sink| describe_confirmed(sink, confirmed));
        sink.message(number, length, |sink| describe_confirmed(sink, confirmed));
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
        let length = length_of(|sink| write_choice(sink, [1, 2], stream));
        sink.message(number, length, |sink| write_choice(sink, [1, 2], stream));
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
    let length = length_of(|sink| describe_id(sink, id));
    sink.message(number, length, |sink| describe_id(sink, id));
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
        let length = length_of(|sink| describe_relation(sink, relation));
        sink.message(number, length, |sink| describe_relation(sink, relation));
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
