//! Protobuf fields: the thin layer between our frames and the protobuf crate's primitives.
//!
//! Hand-written rather than generated, because every generated decoder we measured allocates per
//! frame or copies payloads (`docs/decisions/0001-protobuf-crate.md`). The numbers here are those
//! of `proto/myriad.proto`; golden files, encoded anew by `protoc` where it is installed, hold
//! the two together.
//!
//! Reading ([`Fields`]) follows the protobuf rules: fields in any order, the last value of a field
//! wins, repeated sub-messages merge, repeated numbers come packed or not, unknown fields are
//! skipped. It is stricter in two points: a known field of the wrong wire type is `Malformed`, and
//! a number that does not fit its type is `OutOfRange` instead of being cut.
//!
//! Writing describes a message once as calls on a [`Sink`]; the description runs with [`Length`]
//! to count its bytes and with [`Slots`] to write them, so length and bytes cannot disagree.

use crate::types::{Confirmed, Mark, MessageId, Relation, Stream};
use buffa::encoding::{Tag, WireType, decode_varint, skip_field, varint_len};
use buffa::types::{borrow_bytes, borrow_str, decode_fixed64};

/// Why bytes are no frame. The connection they came on is closed with `bad_frame`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, cut short, or a field of the wrong wire type.
    #[error("the bytes are not a protobuf message of the schema")]
    Malformed,
    /// Nothing inside.
    #[error("the frame has no body")]
    NoBody,
    /// More than one body in a frame.
    #[error("the frame has more than one body")]
    SecondBody,
    /// A body this version does not know.
    #[error("the frame's body is none that this version knows")]
    UnknownFrame,
    /// A required field is absent, empty or 0.
    #[error("field {0} is required and must not be 0")]
    MissingField(&'static str),
    /// A field's value is none it may have.
    #[error("field {0} is out of range")]
    OutOfRange(&'static str),
    /// A list is longer than the protocol allows.
    #[error("a list has too many items")]
    TooManyItems,
}

impl From<buffa::DecodeError> for DecodeError {
    fn from(_: buffa::DecodeError) -> Self {
        // Which of the crate's reasons it was helps nobody: all mean that the sender is broken.
        Self::Malformed
    }
}

// ---------------------------------------------------------------- reading

/// The fields of one message, front to back.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// One field whose tag was read; exactly one of its methods takes the value.
pub(crate) struct Field<'f, 'a> {
    tag: Tag,
    rest: &'f mut &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'_, 'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = Tag::decode(&mut self.rest)?;
        Ok(Some(Field { tag, rest: &mut self.rest }))
    }
}

impl<'a> Field<'_, 'a> {
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.tag.field_number()
    }

    #[inline]
    fn expect(&self, wire_type: WireType) -> Result<(), DecodeError> {
        if self.tag.wire_type() == wire_type { Ok(()) } else { Err(DecodeError::Malformed) }
    }

    #[inline]
    pub(crate) fn uint64(self) -> Result<u64, DecodeError> {
        self.expect(WireType::Varint)?;
        Ok(decode_varint(self.rest)?)
    }

    /// A `uint32` (or an enum); `name` is for the error.
    #[inline]
    pub(crate) fn uint32(self, name: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.uint64()?).map_err(|_| DecodeError::OutOfRange(name))
    }

    #[inline]
    pub(crate) fn boolean(self) -> Result<bool, DecodeError> {
        Ok(self.uint64()? != 0)
    }

    #[inline]
    pub(crate) fn fixed64(self) -> Result<u64, DecodeError> {
        self.expect(WireType::Fixed64)?;
        Ok(decode_fixed64(self.rest)?)
    }

    #[inline]
    pub(crate) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        self.expect(WireType::LengthDelimited)?;
        Ok(borrow_bytes(self.rest)?)
    }

    pub(crate) fn text(self) -> Result<&'a str, DecodeError> {
        self.expect(WireType::LengthDelimited)?;
        Ok(borrow_str(self.rest)?)
    }

    /// A sub-message's fields.
    #[inline]
    pub(crate) fn message(self) -> Result<Fields<'a>, DecodeError> {
        Ok(Fields::new(self.bytes()?))
    }

    /// One element of a repeated `uint64`, or a packed run of them; none may be 0.
    pub(crate) fn ids(
        self,
        name: &'static str,
        count_max: usize,
        ids: &mut Vec<u64>,
    ) -> Result<(), DecodeError> {
        let mut add = |id: u64| {
            if id == 0 {
                return Err(DecodeError::MissingField(name));
            }
            if ids.len() == count_max {
                return Err(DecodeError::TooManyItems);
            }
            ids.push(id);
            Ok(())
        };
        if self.tag.wire_type() == WireType::Varint {
            return add(decode_varint(self.rest)?);
        }
        let mut run = self.bytes()?;
        while !run.is_empty() {
            add(decode_varint(&mut run)?)?;
        }
        Ok(())
    }

    /// Passes over a field this version does not know.
    pub(crate) fn skip(self) -> Result<(), DecodeError> {
        Ok(skip_field(self.tag, self.rest)?)
    }
}

/// Refuses 0 where an id is required.
#[inline]
pub(crate) fn required(value: u64, name: &'static str) -> Result<u64, DecodeError> {
    if value == 0 { Err(DecodeError::MissingField(name)) } else { Ok(value) }
}

/// The same for 32-bit ids.
#[inline]
pub(crate) fn required32(value: u32, name: &'static str) -> Result<u32, DecodeError> {
    if value == 0 { Err(DecodeError::MissingField(name)) } else { Ok(value) }
}

/// Reads `Confirmed`, merging into what an earlier field of the same number said.
#[inline]
pub(crate) fn read_confirmed(
    mut fields: Fields<'_>,
    confirmed: &mut Confirmed,
) -> Result<(), DecodeError> {
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => confirmed.base = field.uint64()?,
            2 => confirmed.map = field.fixed64()?,
            _ => field.skip()?,
        }
    }
    Ok(())
}

/// Reads `Stream`; an empty one, or one of id 0, is a missing field.
#[inline]
pub(crate) fn read_stream(
    mut fields: Fields<'_>,
    name: &'static str,
) -> Result<Option<Stream>, DecodeError> {
    let mut stream = Err(DecodeError::MissingField(name));
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => stream = Ok(Some(Stream::User(required(field.uint64()?, name)?))),
            2 => stream = Ok(Some(Stream::Group(required(field.uint64()?, name)?))),
            _ => field.skip()?,
        }
    }
    stream
}

/// A `MessageId` while its fields come in; zeros until then.
pub(crate) const NO_ID: MessageId = MessageId { sender: 0, device: 0, client_id: 0 };

/// Reads `MessageId`, merging; [`complete_id`] checks it when the outer message has ended.
#[inline]
pub(crate) fn read_id(mut fields: Fields<'_>, id: &mut MessageId) -> Result<(), DecodeError> {
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => id.sender = field.uint64()?,
            2 => id.device = field.uint32("device")?,
            3 => id.client_id = field.uint64()?,
            _ => field.skip()?,
        }
    }
    Ok(())
}

/// Refuses an id with a part missing.
#[inline]
pub(crate) fn complete_id(id: MessageId, name: &'static str) -> Result<MessageId, DecodeError> {
    if id.sender == 0 || id.device == 0 || id.client_id == 0 {
        return Err(DecodeError::MissingField(name));
    }
    Ok(id)
}

/// Reads `Relation`, merging; [`complete_relation`] checks it when the outer message has ended.
pub(crate) fn read_relation(
    mut fields: Fields<'_>,
    relation: &mut Option<Relation>,
) -> Result<(), DecodeError> {
    let relation = relation.get_or_insert(Relation { kind: 0, target: NO_ID });
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => relation.kind = field.uint32("relation.kind")?,
            2 => read_id(field.message()?, &mut relation.target)?,
            _ => field.skip()?,
        }
    }
    Ok(())
}

/// Refuses a relation without a target.
#[inline]
pub(crate) fn complete_relation(
    relation: Option<Relation>,
) -> Result<Option<Relation>, DecodeError> {
    if let Some(relation) = relation {
        complete_id(relation.target, "relation.target")?;
    }
    Ok(relation)
}

/// Reads an enum of at most 255 values through its `from_code`; 0 is a missing field.
#[inline]
pub(crate) fn read_reason<T>(
    field: Field<'_, '_>,
    name: &'static str,
    from_code: fn(u8) -> Option<T>,
) -> Result<Option<T>, DecodeError> {
    let code = field.uint64()?;
    if code == 0 {
        return Ok(None);
    }
    let reason = u8::try_from(code).ok().and_then(from_code);
    reason.map(Some).ok_or(DecodeError::OutOfRange(name))
}

/// The envelope of both directions: exactly one known body, unknown fields beside it skipped.
///
/// Returns the body's field number (at most `body_number_max`) and its bytes.
#[inline]
pub(crate) fn read_envelope(
    bytes: &[u8],
    body_number_max: u32,
) -> Result<(u32, Fields<'_>), DecodeError> {
    let mut fields = Fields::new(bytes);
    let mut body = None;
    let mut unknown = false;
    while let Some(field) = fields.next()? {
        let number = field.number();
        if number > body_number_max {
            unknown = true;
            field.skip()?;
        } else if body.is_some() {
            return Err(DecodeError::SecondBody);
        } else {
            body = Some((number, field.message()?));
        }
    }
    let missing = if unknown { DecodeError::UnknownFrame } else { DecodeError::NoBody };
    body.ok_or(missing)
}

// ---------------------------------------------------------------- writing

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
