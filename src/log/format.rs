//! The two things on disk that are not records: the head of a segment and the head of a commit.
//!
//! Owner: nobody, it is pure. The layout is specified in `docs/log-format.md`.
//!
//! ```text
//!  segment   | head, one page | commit | commit | ... | zeros to the end |
//!  commit    | head, 64 bytes | record | record | ... | zeros to a multiple of 4 KiB |
//! ```
//!
//! Invariants: a commit never leaves its segment; commit n is written only after commit n - 1 was
//! synced, so a whole head of commit n proves that n - 1 was durable. Recovery rests on that.

use crate::canary::{self, Canary};
use crate::limits::COMMIT_ALIGN_BYTES;

use super::record::{self, At, Flaw, Kind, put_u32, put_u64, take_u32, take_u64};
use super::segment::{length_u32, length_usize};

/// The version of the format this code writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Every segment starts with these bytes.
pub const MAGIC: [u8; 8] = *b"MYRIADLG";

// Head of a segment.
pub(super) const MAGIC_AT: usize = 0;
pub(super) const VERSION: usize = MAGIC_AT + 8;
pub(super) const HEAD_CRC: usize = VERSION + 4;
pub(super) const SEGMENT: usize = HEAD_CRC + 4;
pub(super) const EPOCH: usize = SEGMENT + 4;
pub(super) const GENERATION: usize = EPOCH + 4;
pub(super) const SEGMENT_SIZE: usize = GENERATION + 8;
pub(super) const HEAD_TIME_MS: usize = SEGMENT_SIZE + 8;
pub(super) const ANCHOR: usize = HEAD_TIME_MS + 8;
pub(super) const AFTER: usize = ANCHOR + 8;
pub(super) const HEAD_SPARE: usize = AFTER + 4;
/// Bytes of the head of a segment that mean something: less than a sector, so that a power cut
/// leaves the old head or the new one.
pub(super) const SEGMENT_HEAD_BYTES: usize = HEAD_SPARE + 4;
/// Where the first commit of a segment starts.
pub const FIRST_COMMIT: u32 = 4096;

// Head of a commit.
pub(super) const COMMIT_KIND: usize = record::KIND;
pub(super) const COUNT: usize = COMMIT_KIND + 4;
pub(super) const SEQUENCE: usize = COUNT + 4;
pub(super) const PREVIOUS: usize = SEQUENCE + 8;
pub(super) const BODY_BYTES: usize = PREVIOUS + 8;
pub(super) const COMMIT_EPOCH: usize = BODY_BYTES + 4;
pub(super) const REDO: usize = COMMIT_EPOCH + 4;
pub(super) const COMMIT_SPARE: usize = REDO + 8;
/// Bytes of the head of a commit.
pub const COMMIT_HEAD_BYTES: usize = COMMIT_SPARE + 16;

const _: () = assert!(SEGMENT_HEAD_BYTES == 64);
const _: () = assert!(COMMIT_HEAD_BYTES == 64);
const _: () = assert!(COMMIT_HEAD_BYTES.is_multiple_of(record::RECORD_ALIGN_BYTES));
const _: () = assert!(FIRST_COMMIT as usize == COMMIT_ALIGN_BYTES);

/// What the head of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    /// Its number, also in the file's name.
    pub(super) segment: u32,
    /// Epoch of the boot that prepared the segment.
    pub(super) epoch: u32,
    /// Tells this use of the file from every other; part of each checksum in it.
    pub(super) generation: u64,
    /// Size of the file.
    pub(super) bytes: u64,
    /// Highest time of a record known when the head was written.
    pub(super) time_ms: u64,
    /// Number of a commit that was durable when the head was written; 0: it claims none.
    pub(super) anchor: u64,
    /// The segment this one comes after in the order of use, still there then; 0: it names none.
    pub(super) after: u32,
}

/// Why bytes are not the head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadFlaw {
    /// All zero: the file was prepared and never given a head.
    Blank,
    /// Anything else that does not verify.
    Damaged,
    /// Of another version.
    Version(u32),
}

impl SegmentHead {
    /// The bytes of the head, a whole page.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0_u8; COMMIT_ALIGN_BYTES];
        page[MAGIC_AT..VERSION].copy_from_slice(&MAGIC);
        put_u32(&mut page, VERSION, FORMAT_VERSION);
        put_u32(&mut page, SEGMENT, self.segment);
        put_u32(&mut page, EPOCH, self.epoch);
        put_u64(&mut page, GENERATION, self.generation);
        put_u64(&mut page, SEGMENT_SIZE, self.bytes);
        put_u64(&mut page, HEAD_TIME_MS, self.time_ms);
        put_u64(&mut page, ANCHOR, self.anchor);
        put_u32(&mut page, AFTER, self.after);
        let crc = Self::checksum(&page);
        put_u32(&mut page, HEAD_CRC, crc);
        page
    }

    /// Verifies and reads a head.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeadFlaw> {
        let Some(head) = bytes.get(..SEGMENT_HEAD_BYTES) else { return Err(HeadFlaw::Damaged) };
        if head.iter().all(|byte| *byte == 0) {
            return Err(HeadFlaw::Blank);
        }
        if head[MAGIC_AT..VERSION] != MAGIC {
            return Err(HeadFlaw::Damaged);
        }
        let version = take_u32(head, VERSION);
        if version != FORMAT_VERSION {
            return Err(HeadFlaw::Version(version));
        }
        if take_u32(head, HEAD_CRC) != Self::checksum(head) {
            return Err(HeadFlaw::Damaged);
        }
        Ok(Self {
            segment: take_u32(head, SEGMENT),
            epoch: take_u32(head, EPOCH),
            generation: take_u64(head, GENERATION),
            bytes: take_u64(head, SEGMENT_SIZE),
            time_ms: take_u64(head, HEAD_TIME_MS),
            anchor: take_u64(head, ANCHOR),
            after: take_u32(head, AFTER),
        })
    }

    fn checksum(head: &[u8]) -> u32 {
        let before = crc32c::crc32c(&head[..HEAD_CRC]);
        crc32c::crc32c_append(before, &head[SEGMENT..SEGMENT_HEAD_BYTES])
    }
}

/// What the head of a commit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct CommitHead {
    /// Number of the commit, from 1; each is one more than the one before.
    pub(super) sequence: u64,
    /// Where the commit before starts; zeros for the first.
    pub(super) previous: At,
    /// Epoch of the boot that made it.
    pub(super) epoch: u32,
    /// Records in it.
    pub(super) count: u32,
    /// Bytes of its records, each padded to 8.
    pub(super) body_bytes: u32,
    /// Number of the commit a restart may begin to read at, once this one is whole; 0: the first.
    pub(super) redo: u64,
}

impl CommitHead {
    /// Writes the head of a commit that starts at `offset` into the start of `bytes`.
    pub(super) fn encode(&self, seed: u32, offset: u32, bytes: &mut [u8]) {
        let head = &mut bytes[..COMMIT_HEAD_BYTES];
        head.fill(0);
        put_u32(head, record::BYTES, LENGTH);
        head[COMMIT_KIND] = Kind::Commit as u8;
        put_u32(head, COUNT, self.count);
        put_u64(head, SEQUENCE, self.sequence);
        put_u64(head, PREVIOUS, self.previous.to_u64());
        put_u32(head, BODY_BYTES, self.body_bytes);
        put_u32(head, COMMIT_EPOCH, self.epoch);
        put_u64(head, REDO, self.redo);
        let sealed = record::seal(seed, offset, head);
        debug_assert_eq!(sealed, Ok(COMMIT_HEAD_BYTES));
    }

    /// Verifies and reads the head of a commit that starts at `offset`.
    pub(super) fn decode(seed: u32, offset: u32, bytes: &[u8]) -> Result<Self, Flaw> {
        let Some(head) = bytes.get(..COMMIT_HEAD_BYTES) else { return Err(Flaw::Damaged) };
        let (length, _) = record::extent(head, COMMIT_HEAD_BYTES)?;
        if !record::is_whole(seed, offset, head, length) {
            return Err(Flaw::Damaged);
        }
        if head[COMMIT_KIND] != Kind::Commit as u8 {
            return Err(Flaw::Damaged);
        }
        Ok(Self {
            sequence: take_u64(head, SEQUENCE),
            previous: At::from_u64(take_u64(head, PREVIOUS)),
            epoch: take_u32(head, COMMIT_EPOCH),
            count: take_u32(head, COUNT),
            body_bytes: take_u32(head, BODY_BYTES),
            redo: take_u64(head, REDO),
        })
    }

    /// Bytes the whole commit takes, padding included.
    pub(super) fn padded_bytes(&self) -> u64 {
        padded(u64::from(self.body_bytes))
    }

    /// The same as an offset within its segment, for a commit that was found to fit it.
    pub(super) fn padded_u32(&self) -> u32 {
        length_u32(length_usize(self.padded_bytes()))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "64")]
const LENGTH: u32 = COMMIT_HEAD_BYTES as u32;

/// Bytes a commit with `body_bytes` of records takes, head and padding included.
pub(super) const fn padded(body_bytes: u64) -> u64 {
    (COMMIT_HEAD_BYTES as u64 + body_bytes).next_multiple_of(COMMIT_ALIGN_BYTES as u64)
}

/// Seconds since 1970 at 2025-01-01, where epochs count from.
const EPOCH_BASE_S: u64 = 1_735_689_600;

/// The epoch of a new boot: above every one seen, and at least the seconds since 2025-01-01, so
/// that a restored backup does not reuse one. A clock beyond the year 2093 counts as 2093: a wild
/// clock must not use the numbers up.
#[must_use]
pub fn next_epoch(highest_seen: u32, wall_ms: u64) -> u32 {
    let seconds = (wall_ms / 1000).saturating_sub(EPOCH_BASE_S).min(1 << 31);
    let seconds = u32::try_from(seconds).unwrap_or(1 << 31);
    if canary::is(Canary::ReuseEpoch) {
        return highest_seen.max(1);
    }
    if canary::is(Canary::EpochIgnoresClock) {
        return highest_seen + 1;
    }
    highest_seen.saturating_add(1).max(seconds)
}

#[cfg(test)]
mod tests {
    use super::super::record::*;
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/log-format.md");

    /// The rows of a table of the document, each as its cells.
    fn table(name: &str) -> Vec<Vec<String>> {
        let marker = format!("<!-- table: {name} -->\n");
        let (_, rest) = DOCUMENT.split_once(&marker).expect("a table of this name");
        rest.lines()
            .take_while(|line| line.starts_with('|'))
            .skip(2)
            .map(|line| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect())
            .collect()
    }

    /// Offsets in the document are those of the code, gap-free, and add up to `total`.
    fn check_table(name: &str, fields: &[(&str, usize)], total: usize) {
        let rows = table(name);
        let mut next = 0;
        for (row, (field, offset)) in rows.iter().zip(fields) {
            assert_eq!((row[0].parse(), row[2].as_str()), (Ok(*offset), *field), "{name}");
            assert_eq!(*offset, next, "{name}: {field} starts where the one before ends");
            next += row[1].parse::<usize>().expect("bytes");
        }
        assert_eq!((rows.len(), next), (fields.len(), total), "{name}");
    }

    #[test]
    fn document_and_code_agree_on_every_offset() {
        let fields = [
            ("magic", MAGIC_AT),
            ("version", VERSION),
            ("crc", HEAD_CRC),
            ("segment", SEGMENT),
            ("epoch", EPOCH),
            ("generation", GENERATION),
            ("size", SEGMENT_SIZE),
            ("time", HEAD_TIME_MS),
            ("anchor", ANCHOR),
            ("after", AFTER),
            ("spare", HEAD_SPARE),
            ("spare", SEGMENT_HEAD_BYTES),
        ];
        check_table("segment head", &fields, FIRST_COMMIT as usize);
        let fields = [
            ("crc", CRC),
            ("length", BYTES),
            ("kind", COMMIT_KIND),
            ("count", COUNT),
            ("sequence", SEQUENCE),
            ("previous", PREVIOUS),
            ("body", BODY_BYTES),
            ("epoch", COMMIT_EPOCH),
            ("redo", REDO),
            ("spare", COMMIT_SPARE),
        ];
        check_table("commit head", &fields, COMMIT_HEAD_BYTES);
        let fields = [
            ("crc", CRC),
            ("length", BYTES),
            ("kind", KIND),
            ("stream kind", STREAM_KIND),
            ("flags", FLAGS),
            ("spare", SPARE_BYTE),
            ("body kind", BODY_KIND),
            ("stream", STREAM),
            ("position", POSITION),
            ("sender", SENDER),
            ("client id", CLIENT_ID),
            ("time", TIME_MS),
            ("peer", PEER),
            ("aux", AUX),
            ("device", DEVICE),
            ("ttl", TTL_S),
            ("request crc", REQUEST_CRC),
            ("spare", SPARE),
        ];
        check_table("record", &fields, RECORD_HEADER_BYTES);
        let fields = [
            ("kind", RELATION_KIND),
            ("device", RELATION_DEVICE),
            ("sender", RELATION_SENDER),
            ("client id", RELATION_CLIENT_ID),
        ];
        check_table("relation", &fields, RELATION_BYTES);
        assert!(DOCUMENT.contains(&format!("format version {FORMAT_VERSION}")));
    }

    #[test]
    fn document_and_code_agree_on_every_kind() {
        let rows = table("kinds");
        for row in &rows {
            let kind = Kind::from_number(row[0].parse().expect("number")).expect("a kind");
            assert_eq!((kind as u8).to_string(), row[0]);
            assert_eq!(kind.name(), row[1]);
        }
        assert_eq!((1..=255).filter(|n| Kind::from_number(*n).is_some()).count(), rows.len());
    }

    #[test]
    fn heads_survive_the_round_trip_and_no_changed_bit() {
        let head = SegmentHead {
            segment: 7,
            epoch: 8,
            generation: 9 << 40,
            bytes: 1 << 20,
            time_ms: 11,
            anchor: 1 << 40,
            after: 6,
        };
        let bytes = head.encode();
        assert_eq!(SegmentHead::decode(&bytes), Ok(head));
        let commit = CommitHead {
            sequence: 1 << 50,
            previous: At { segment: 3, offset: 8192 },
            epoch: 8,
            count: 2,
            body_bytes: 176,
            redo: 77,
        };
        let mut encoded = [0_u8; COMMIT_HEAD_BYTES];
        commit.encode(5, 4096, &mut encoded);
        assert_eq!(CommitHead::decode(5, 4096, &encoded), Ok(commit));
        assert!(CommitHead::decode(6, 4096, &encoded).is_err(), "another generation");
        assert!(CommitHead::decode(5, 8192, &encoded).is_err(), "another place");
        for bit in 0..SEGMENT_HEAD_BYTES * 8 {
            let mut head = bytes.clone();
            head[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHead::decode(&head).is_err(), "bit {bit}");
            let mut head = encoded;
            head[bit / 8] ^= 1 << (bit % 8);
            assert!(CommitHead::decode(5, 4096, &head).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn epochs_rise_whatever_the_clock_says() {
        assert_eq!(next_epoch(0, 0), 1);
        assert_eq!(next_epoch(41, 0), 42);
        assert_eq!(next_epoch(0, 1_735_689_700_000), 100);
        assert_eq!(next_epoch(500, 1_735_689_700_000), 501);
        assert_eq!(next_epoch(0, u64::MAX), 1 << 31);
    }
}
