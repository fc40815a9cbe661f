//! Fields from bytes, and the messages several frames share.
//!
//! Rules and strictness are in the header of `schema.rs`. Deliberately not here: the frames
//! (`client_frame.rs`, `server_frame/read.rs`).

use super::{DecodeError, GOES_ON};
use crate::types::{Confirmed, MessageId, Relation, Stream};
use buffa::encoding::{Tag, WireType, decode_varint, skip_field};

/// The fields of one message, front to back.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// One field whose tag was read; exactly one of its methods takes the value.
pub(crate) struct Field<'f, 'a> {
    /// Number of the field, and its wire type in the lowest three bits.
    tag: u32,
    rest: &'f mut &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'_, 'a>>, DecodeError> {
        let tag = match self.rest.split_first() {
            None => return Ok(None),
            Some((&first, behind)) if first < 0x80 => {
                self.rest = behind;
                u32::from(first)
            }
            Some(_) => long_tag(&mut self.rest)?,
        };
        if tag >> 3 == 0 {
            return Err(DecodeError::Malformed);
        }
        Ok(Some(Field { tag, rest: &mut self.rest }))
    }
}

/// A field number above 15.
#[cold]
#[inline(never)]
fn long_tag(rest: &mut &[u8]) -> Result<u32, DecodeError> {
    u32::try_from(varint(rest)?).map_err(|_| DecodeError::Malformed)
}

/// Takes a varint from the front.
#[inline(always)]
fn varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let Some((&first, behind)) = rest.split_first() else { return Err(DecodeError::Malformed) };
    if first < 0x80 {
        *rest = behind;
        return Ok(u64::from(first));
    }
    if let Some((&second, behind)) = behind.split_first()
        && second < 0x80
    {
        *rest = behind;
        return Ok(u64::from(first & 0x7f) | u64::from(second) << 7);
    }
    if let Some(eight) = rest.first_chunk() {
        let eight = u64::from_le_bytes(*eight);
        let last = !eight & GOES_ON; // the first byte behind which none follows
        if last != 0 {
            let bits = last.trailing_zeros() + 1;
            *rest = &rest[bits as usize / 8..];
            return Ok(joined(eight & u64::MAX >> (64 - bits) & !GOES_ON));
        }
    }
    rare_varint(rest)
}

/// One of nine or ten bytes, at the very end, or broken.
#[cold]
#[inline(never)]
fn rare_varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    Ok(decode_varint(rest)?)
}

/// Puts together what eight bytes hold, seven bits each: the opposite of `write::eight_groups`.
#[inline(always)]
fn joined(groups: u64) -> u64 {
    let quarters = groups - (groups & 0x7f00_7f00_7f00_7f00) / 2;
    let halves = quarters - (quarters & 0x3fff_0000_3fff_0000) / 4 * 3;
    halves - (halves & 0x0fff_ffff_0000_0000) / 16 * 15
}

impl<'a> Field<'_, 'a> {
    #[inline(always)]
    pub(crate) fn number(&self) -> u32 {
        self.tag >> 3
    }

    #[inline(always)]
    fn expect(&self, wire_type: WireType) -> Result<(), DecodeError> {
        if self.tag & 7 == wire_type as u32 { Ok(()) } else { Err(DecodeError::Malformed) }
    }

    #[inline(always)]
    pub(crate) fn uint64(self) -> Result<u64, DecodeError> {
        self.expect(WireType::Varint)?;
        varint(self.rest)
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

    #[inline(always)]
    pub(crate) fn fixed64(self) -> Result<u64, DecodeError> {
        self.expect(WireType::Fixed64)?;
        let (value, behind) = self.rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
        *self.rest = behind;
        Ok(u64::from_le_bytes(*value))
    }

    #[inline(always)]
    pub(crate) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        self.expect(WireType::LengthDelimited)?;
        let length = usize::try_from(varint(self.rest)?).map_err(|_| DecodeError::Malformed)?;
        let (value, behind) = self.rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        *self.rest = behind;
        Ok(value)
    }

    pub(crate) fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Malformed)
    }

    /// A sub-message's fields.
    #[inline(always)]
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
        if self.tag & 7 == WireType::Varint as u32 {
            return add(varint(self.rest)?);
        }
        let mut run = self.bytes()?;
        while !run.is_empty() {
            add(varint(&mut run)?)?;
        }
        Ok(())
    }

    /// Passes over a field this version does not know.
    #[cold]
    pub(crate) fn skip(self) -> Result<(), DecodeError> {
        let tag = Tag::new(self.number(), WireType::from_u32(self.tag & 7)?);
        Ok(skip_field(tag, self.rest)?)
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
#[inline(always)]
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
#[inline(always)]
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
