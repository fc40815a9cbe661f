//! A segment that is being written: where its next commit goes, and the small writes that are not
//! commits of messages (its head, zeros, the seals).
//!
//! Owner: the committer, or recovery before there is one.

use std::collections::VecDeque;
use std::io;

use super::format::{COMMIT_HEAD_BYTES, CommitHead, FIRST_COMMIT, SegmentHead};
use super::record::{self, At, seed_of};
use super::store::Store;

/// Bytes wiped with one write.
const WIPE_BYTES: usize = 256 * 1024;

/// A segment that can be appended to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) number: u32,
    pub(super) seed: u32,
    /// Where the next commit starts.
    pub(super) offset: u32,
    pub(super) bytes: u64,
    /// Number of its first commit, once there is one.
    pub(super) first: Option<u64>,
}

/// A segment that is not written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) number: u32,
    /// Number of its first commit.
    pub(super) first: u64,
    pub(super) bytes: u64,
    /// Nothing in it is older, milliseconds since 1970, by the times of records.
    pub(super) begun_ms: u64,
}

impl Tail {
    pub(super) fn left(&self) -> u64 {
        self.bytes.saturating_sub(u64::from(self.offset))
    }
}

/// Where an opened log goes on.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) current: Tail,
    pub(super) spares: VecDeque<Tail>,
    /// Number of the next commit.
    pub(super) sequence: u64,
    /// Where the last commit starts.
    pub(super) previous: At,
    pub(super) epoch: u32,
    /// Number of the next segment to be made.
    pub(super) next_segment: u32,
    /// Segments there are.
    pub(super) segments: u64,
    /// Highest time of a record.
    pub(super) time_ms: u64,
    /// Number of the commit a restart begins to read at; 0: the first.
    pub(super) redo: u64,
    /// Nothing in the current segment is older, milliseconds since 1970, by the times of records.
    pub(super) begun_ms: u64,
    /// Segments before the current one, in order.
    pub(super) sealed: VecDeque<Sealed>,
    /// Segments nobody needs: to be overwritten.
    pub(super) freed: VecDeque<Sealed>,
    /// Bytes of the images a restart reads.
    pub(super) image_bytes: u64,
}

/// Fills in the checksum of each record of a commit that starts at `offset`.
pub(super) fn seal_all(seed: u32, offset: u32, commit: &mut [u8]) {
    let mut at = COMMIT_HEAD_BYTES;
    while at < commit.len() {
        let sealed = record::seal(seed, offset + length_u32(at), &mut commit[at..]);
        // These are bytes this process has just encoded.
        let Ok(padded) = sealed else { panic!("a staged record is malformed: {sealed:?}") };
        at += padded;
    }
}

/// What tells this use of a segment from all others.
pub(super) fn generation(epoch: u32, segment: u32, salt: u64) -> u64 {
    (u64::from(epoch) << 32 | u64::from(segment)) ^ salt
}

/// Writes the head of a segment and syncs it: from now on commits may follow.
pub(super) fn write_head<S: Store>(store: &mut S, head: &SegmentHead) -> io::Result<Tail> {
    store.write_at(head.segment, 0, &head.encode())?;
    store.sync(head.segment)?;
    Ok(Tail {
        number: head.segment,
        seed: seed_of(head.generation),
        offset: FIRST_COMMIT,
        bytes: head.bytes,
        first: None,
    })
}

/// Seals a commit that goes to the end of `tail`, whose head and unsealed records are in `bytes`,
/// and pads it; returns the length.
pub(super) fn finish(tail: &Tail, head: CommitHead, bytes: &mut Vec<u8>) -> u32 {
    seal_all(tail.seed, tail.offset, bytes);
    head.encode(tail.seed, tail.offset, bytes);
    bytes.resize(length_usize(head.padded_bytes()), 0);
    length_u32(bytes.len())
}

/// Writes zeros from `from` to the end of a segment.
pub(super) fn wipe<S: Store>(store: &mut S, segment: u32, from: u32, bytes: u64) -> io::Result<()> {
    let zeros = vec![0_u8; WIPE_BYTES];
    let mut start = u64::from(from);
    while start < bytes {
        let piece = length_usize(bytes - start).min(zeros.len());
        store.write_at(segment, start, &zeros[..piece])?;
        start += piece as u64;
    }
    Ok(())
}

/// A length within a segment; segments are smaller than 4 GiB.
///
/// # Panics
/// If it is longer: whoever calls has checked what was read, so this would be a fault of ours, and
/// to go on with another number would write in the wrong place.
pub(super) fn length_u32(length: usize) -> u32 {
    let Ok(length) = u32::try_from(length) else { panic!("{length} bytes within a segment") };
    length
}

/// A length within a segment.
///
/// # Panics
/// If this machine cannot address it; see [`length_u32`].
pub(super) fn length_usize(length: u64) -> usize {
    let Ok(length) = usize::try_from(length) else { panic!("{length} bytes within a segment") };
    length
}
