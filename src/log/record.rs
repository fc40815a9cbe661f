//! One record: what the log remembers of one event, and its bytes.
//!
//! Owner: nobody, it is pure. Shards encode, the committer fills in the checksum (only it knows
//! which segment a record lands in), readers and recovery verify and decode. The layout is
//! specified in `docs/log-format.md`; a test compares the two.
//!
//! Invariants: a record is 8-byte aligned; its checksum covers the generation of its segment, its
//! offset, its length and everything after; decoding never reads past what it was given and never
//! trusts a length before the checksum held.
//!
//! Deliberately not here: what a record means. That is `path` and `state`.

use crate::limits::{FRAME_BYTES_MAX, PAYLOAD_BYTES_MAX};

pub(super) use super::bytes::{put_u32, put_u64, take_u32, take_u64};

/// `stream_kind` of a user's stream.
pub const STREAM_USER: u8 = 1;
/// `stream_kind` of a group's.
pub const STREAM_GROUP: u8 = 2;

/// Where a record starts: segment number and byte offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct At {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Bytes from the start of the segment.
    pub offset: u32,
}

impl At {
    /// Both numbers in one: `segment << 32 | offset`. Keeps the order.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        (self.segment as u64) << 32 | self.offset as u64
    }

    /// The inverse of [`At::to_u64`].
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the halves are taken apart")]
    pub const fn from_u64(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

/// What kind of event a record tells of. The numbers are on disk: they never change meaning.
/// Those reserved for later kinds are listed in `docs/log-format.md`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Opens a commit; only the log writes and sees it.
    Commit = 1,
    /// A message in a stream.
    Message = 2,
    /// A copy of what another device of the user sent.
    OwnCopy = 3,
    /// A refusal that has to be given again when the request is repeated.
    Refusal = 4,
    /// A device became known.
    Device = 5,
    /// A device's cursor moved.
    Cursor = 6,
    /// A user's read mark moved.
    ReadMark = 7,
    /// A new epoch of positions begins.
    Epoch = 8,
    /// A message that was accepted and goes nowhere: the recipient blocks the sender.
    Void = 9,
    /// A part of a checkpoint: `body_kind` says which (`docs/log-format.md`).
    Checkpoint = 10,
    /// A message was given up when its retention ended: for its sender.
    Notice = 11,
    /// A group began, changed or ended: `body_kind` says how (`docs/log-format.md`).
    Group = 12,
    /// The record at this position of the stream is not for anybody any more.
    Tombstone = 13,
    /// A user's account is gone, with all devices and waiting mail.
    Ended = 14,
}

impl Kind {
    /// The kind with this number, if it is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Commit,
            2 => Self::Message,
            3 => Self::OwnCopy,
            4 => Self::Refusal,
            5 => Self::Device,
            6 => Self::Cursor,
            7 => Self::ReadMark,
            8 => Self::Epoch,
            9 => Self::Void,
            10 => Self::Checkpoint,
            11 => Self::Notice,
            12 => Self::Group,
            13 => Self::Tombstone,
            14 => Self::Ended,
            _ => return None,
        })
    }

    /// One word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Message => "message",
            Self::OwnCopy => "own-copy",
            Self::Refusal => "refusal",
            Self::Device => "device",
            Self::Cursor => "cursor",
            Self::ReadMark => "read-mark",
            Self::Epoch => "epoch",
            Self::Void => "void",
            Self::Checkpoint => "checkpoint",
            Self::Notice => "notice",
            Self::Group => "group",
            Self::Tombstone => "tombstone",
            Self::Ended => "ended",
        }
    }
}

/// The message another message refers to (edit, delete, reply).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Relation {
    /// What the relation is; the application's number.
    pub kind: u32,
    /// Author of the other message.
    pub sender: u64,
    /// Device it was sent from.
    pub device: u32,
    /// Its number there.
    pub client_id: u64,
}

/// One record, borrowed. Every kind has the same fields; those it does not use are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What happened.
    pub kind: Kind,
    /// 1: `stream` is a user; 2: a group.
    pub stream_kind: u8,
    /// The stream the record belongs to.
    pub stream: u64,
    /// Its position there: epoch << 32 | sequence.
    pub position: u64,
    /// Who sent it.
    pub sender: u64,
    /// From which device.
    pub device: u32,
    /// Under which number of that device.
    pub client_id: u64,
    /// Wall time, milliseconds since 1970.
    pub time_ms: u64,
    /// Seconds it is kept unless acked; 0: the default.
    pub ttl_s: u32,
    /// CRC-32C of the request that caused it, to recognise a repeat with other content.
    pub request_crc: u32,
    /// The application's kind of payload, or the code of a refusal.
    pub body_kind: u32,
    /// `OwnCopy`, `Notice`: to whom it was sent. `ReadMark`: whose messages were read. `Group`:
    /// whom it concerns.
    pub peer: u64,
    /// `OwnCopy`: position in the peer's stream. `Cursor`, `ReadMark`: up to here. `Device`: where
    /// its cursor starts. `Epoch`: the epoch. `Notice`: position of the message in the peer's
    /// stream. `Checkpoint`: its number. `Group`: a role. `Refusal`: the kind of the stream that
    /// was meant, if it was a group's.
    pub aux: u64,
    /// The same record as one that stood elsewhere: a straggler copied forward.
    pub moved: bool,
    /// The message this one refers to.
    pub relation: Option<Relation>,
    /// What the clients said to each other; opaque.
    pub payload: &'a [u8],
}

impl Record<'static> {
    /// A record of `kind` with every other field 0: fill in what the kind uses.
    #[must_use]
    pub const fn blank(kind: Kind) -> Self {
        Self {
            kind,
            stream_kind: 0,
            stream: 0,
            position: 0,
            sender: 0,
            device: 0,
            client_id: 0,
            time_ms: 0,
            ttl_s: 0,
            request_crc: 0,
            body_kind: 0,
            peer: 0,
            aux: 0,
            moved: false,
            relation: None,
            payload: &[],
        }
    }
}

// Layout: each offset is the previous one plus its size.
pub(super) const CRC: usize = 0;
pub(super) const BYTES: usize = CRC + 4;
pub(super) const KIND: usize = BYTES + 4;
pub(super) const STREAM_KIND: usize = KIND + 1;
pub(super) const FLAGS: usize = STREAM_KIND + 1;
pub(super) const SPARE_BYTE: usize = FLAGS + 1;
pub(super) const BODY_KIND: usize = SPARE_BYTE + 1;
pub(super) const STREAM: usize = BODY_KIND + 4;
pub(super) const POSITION: usize = STREAM + 8;
pub(super) const SENDER: usize = POSITION + 8;
pub(super) const CLIENT_ID: usize = SENDER + 8;
pub(super) const TIME_MS: usize = CLIENT_ID + 8;
pub(super) const PEER: usize = TIME_MS + 8;
pub(super) const AUX: usize = PEER + 8;
pub(super) const DEVICE: usize = AUX + 8;
pub(super) const TTL_S: usize = DEVICE + 4;
pub(super) const REQUEST_CRC: usize = TTL_S + 4;
pub(super) const SPARE: usize = REQUEST_CRC + 4;
/// Bytes of the fixed part of every record.
pub const RECORD_HEADER_BYTES: usize = SPARE + 4;

// A relation, when the flag says so, follows the fixed part.
pub(super) const RELATION_KIND: usize = 0;
pub(super) const RELATION_DEVICE: usize = RELATION_KIND + 4;
pub(super) const RELATION_SENDER: usize = RELATION_DEVICE + 4;
pub(super) const RELATION_CLIENT_ID: usize = RELATION_SENDER + 8;
/// Bytes of a relation.
pub const RELATION_BYTES: usize = RELATION_CLIENT_ID + 8;

/// Flag: a relation follows the fixed part.
pub(super) const FLAG_RELATION: u8 = 1;
/// Flag: copied forward from a segment that was to be freed.
pub(super) const FLAG_MOVED: u8 = 2;
/// Records start at multiples of this.
pub(super) const RECORD_ALIGN_BYTES: usize = 8;
/// The largest record: a full payload with a relation.
pub const RECORD_BYTES_MAX: usize =
    (RECORD_HEADER_BYTES + RELATION_BYTES + PAYLOAD_BYTES_MAX).next_multiple_of(RECORD_ALIGN_BYTES);

const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN_BYTES));
const _: () = assert!(RECORD_BYTES_MAX <= FRAME_BYTES_MAX);

/// Bytes `record` takes in the log: fixed part, relation, payload, padding to 8.
#[must_use]
pub fn encoded_bytes(record: &Record<'_>) -> usize {
    unpadded_bytes(record).next_multiple_of(RECORD_ALIGN_BYTES)
}

fn unpadded_bytes(record: &Record<'_>) -> usize {
    let relation = if record.relation.is_some() { RELATION_BYTES } else { 0 };
    RECORD_HEADER_BYTES + relation + record.payload.len()
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Length 0: nothing was ever written here.
    Nothing,
    /// Length, checksum or shape are wrong.
    Damaged,
    /// Whole, but of a kind or with a flag this version does not know.
    Newer(u8),
}

/// What the generation of a segment contributes to every checksum in it.
pub(super) fn seed_of(generation: u64) -> u32 {
    crc32c::crc32c(&generation.to_le_bytes())
}

/// The checksum of the record (or commit header) in `bytes`, which starts at `offset`.
fn checksum(seed: u32, offset: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed ^ offset, &bytes[BYTES..])
}

/// Appends the bytes of `record`, its checksum still 0, padded.
pub(super) fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let bytes = u32::try_from(unpadded_bytes(record)).unwrap_or(u32::MAX);
    let flags = if record.relation.is_some() { FLAG_RELATION } else { 0 }
        | if record.moved { FLAG_MOVED } else { 0 };
    let mut header = [0_u8; RECORD_HEADER_BYTES];
    put_u32(&mut header, BYTES, bytes);
    header[KIND] = record.kind as u8;
    header[STREAM_KIND] = record.stream_kind;
    header[FLAGS] = flags;
    put_u32(&mut header, BODY_KIND, record.body_kind);
    put_u64(&mut header, STREAM, record.stream);
    put_u64(&mut header, POSITION, record.position);
    put_u64(&mut header, SENDER, record.sender);
    put_u64(&mut header, CLIENT_ID, record.client_id);
    put_u64(&mut header, TIME_MS, record.time_ms);
    put_u64(&mut header, PEER, record.peer);
    put_u64(&mut header, AUX, record.aux);
    put_u32(&mut header, DEVICE, record.device);
    put_u32(&mut header, TTL_S, record.ttl_s);
    put_u32(&mut header, REQUEST_CRC, record.request_crc);
    out.extend_from_slice(&header);
    if let Some(relation) = &record.relation {
        let mut part = [0_u8; RELATION_BYTES];
        put_u32(&mut part, RELATION_KIND, relation.kind);
        put_u32(&mut part, RELATION_DEVICE, relation.device);
        put_u64(&mut part, RELATION_SENDER, relation.sender);
        put_u64(&mut part, RELATION_CLIENT_ID, relation.client_id);
        out.extend_from_slice(&part);
    }
    out.extend_from_slice(record.payload);
    out.resize(out.len().next_multiple_of(RECORD_ALIGN_BYTES), 0);
}

/// The padded length of the record that starts `bytes`, if a length of at least `least` is there
/// and fits. Says nothing about its checksum.
pub(super) fn extent(bytes: &[u8], least: usize) -> Result<(usize, usize), Flaw> {
    let Some(length) = bytes.get(BYTES..BYTES + 4) else { return Err(Flaw::Damaged) };
    let length = take_u32(length, 0) as usize;
    if length == 0 {
        return Err(Flaw::Nothing);
    }
    if length < least || length > bytes.len() {
        return Err(Flaw::Damaged);
    }
    Ok((length, length.next_multiple_of(RECORD_ALIGN_BYTES)))
}

/// Fills in the checksum of the record that starts `bytes` and will lie at `offset`; returns its
/// padded length.
pub(super) fn seal(seed: u32, offset: u32, bytes: &mut [u8]) -> Result<usize, Flaw> {
    let (length, padded) = extent(bytes, KIND + 1)?;
    let crc = checksum(seed, offset, &bytes[..length]);
    put_u32(bytes, CRC, crc);
    Ok(padded)
}

/// Whether the checksum of the record of `length` bytes that starts `bytes` holds.
pub(super) fn is_whole(seed: u32, offset: u32, bytes: &[u8], length: usize) -> bool {
    bytes.get(..length).is_some_and(|bytes| checksum(seed, offset, bytes) == take_u32(bytes, CRC))
}

/// Verifies and decodes the record that starts `bytes` and lies at `offset`; also returns its
/// padded length.
pub(super) fn decode(seed: u32, offset: u32, bytes: &[u8]) -> Result<(Record<'_>, usize), Flaw> {
    let (length, padded) = extent(bytes, RECORD_HEADER_BYTES)?;
    if !is_whole(seed, offset, bytes, length) {
        return Err(Flaw::Damaged);
    }
    let record = parse(&bytes[..length])?;
    Ok((record, padded))
}

/// Reads the fields of a record of exactly `bytes`, verified or not.
pub(super) fn parse(bytes: &[u8]) -> Result<Record<'_>, Flaw> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err(Flaw::Damaged);
    }
    let kind = Kind::from_number(bytes[KIND]).ok_or(Flaw::Newer(bytes[KIND]))?;
    let flags = bytes[FLAGS];
    if flags & !(FLAG_RELATION | FLAG_MOVED) != 0 {
        return Err(Flaw::Newer(bytes[KIND]));
    }
    let rest = &bytes[RECORD_HEADER_BYTES..];
    let (relation, payload) = if flags & FLAG_RELATION == 0 {
        (None, rest)
    } else {
        let (part, payload) = rest.split_at_checked(RELATION_BYTES).ok_or(Flaw::Damaged)?;
        let relation = Relation {
            kind: take_u32(part, RELATION_KIND),
            sender: take_u64(part, RELATION_SENDER),
            device: take_u32(part, RELATION_DEVICE),
            client_id: take_u64(part, RELATION_CLIENT_ID),
        };
        (Some(relation), payload)
    };
    Ok(Record {
        kind,
        stream_kind: bytes[STREAM_KIND],
        stream: take_u64(bytes, STREAM),
        position: take_u64(bytes, POSITION),
        sender: take_u64(bytes, SENDER),
        device: take_u32(bytes, DEVICE),
        client_id: take_u64(bytes, CLIENT_ID),
        time_ms: take_u64(bytes, TIME_MS),
        ttl_s: take_u32(bytes, TTL_S),
        request_crc: take_u32(bytes, REQUEST_CRC),
        body_kind: take_u32(bytes, BODY_KIND),
        peer: take_u64(bytes, PEER),
        aux: take_u64(bytes, AUX),
        moved: flags & FLAG_MOVED != 0,
        relation,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_relation()(kind: u32, sender: u64, device: u32, client_id: u64) -> Relation {
            Relation { kind, sender, device, client_id }
        }
    }

    prop_compose! {
        fn any_record()(
            (kind, stream_kind) in (2_u8..=11, 0_u8..=2),
            moved: bool,
            numbers: [u64; 7],
            small: [u32; 4],
            relation in option::of(any_relation()),
        ) -> Record<'static> {
            Record {
                kind: Kind::from_number(kind).expect("a kind"),
                stream_kind,
                stream: numbers[0],
                position: numbers[1],
                sender: numbers[2],
                client_id: numbers[3],
                time_ms: numbers[4],
                peer: numbers[5],
                aux: numbers[6],
                device: small[0],
                ttl_s: small[1],
                request_crc: small[2],
                body_kind: small[3],
                moved,
                relation,
                payload: &[],
            }
        }
    }

    proptest! {
        #[test]
        fn records_survive_the_round_trip(
            record in any_record(), payload in vec(any::<u8>(), 0..200), seed: u32, offset: u32,
        ) {
            let record = Record { payload: &payload, ..record };
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            prop_assert_eq!(bytes.len(), encoded_bytes(&record));
            prop_assert_eq!(seal(seed, offset, &mut bytes), Ok(bytes.len()));
            prop_assert_eq!(decode(seed, offset, &bytes), Ok((record, bytes.len())));
            prop_assert!(decode(seed.wrapping_add(1), offset, &bytes).is_err());
            prop_assert!(decode(seed, offset ^ 8, &bytes).is_err());
            for cut in 0..bytes.len() - 7 {
                prop_assert!(decode(seed, offset, &bytes[..cut]).is_err());
            }
        }

        #[test]
        fn a_changed_bit_is_noticed(
            record in any_record(), payload in vec(any::<u8>(), 0..40), bit: prop::sample::Index,
        ) {
            let record = Record { payload: &payload, ..record };
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            prop_assert!(seal(1, 4096, &mut bytes).is_ok());
            let bit = bit.index(unpadded_bytes(&record) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(1, 4096, &bytes).is_err());
        }

        #[test]
        fn no_bytes_upset_the_decoder(bytes in vec(any::<u8>(), 0..300), seed: u32, offset: u32) {
            let _ = decode(seed, offset, &bytes);
            let _ = parse(&bytes);
        }

        #[test]
        fn places_pack_in_order(one: (u32, u32), other: (u32, u32)) {
            let one = At { segment: one.0, offset: one.1 };
            let other = At { segment: other.0, offset: other.1 };
            prop_assert_eq!(At::from_u64(one.to_u64()), one);
            prop_assert_eq!(one.cmp(&other), one.to_u64().cmp(&other.to_u64()));
        }
    }
}
