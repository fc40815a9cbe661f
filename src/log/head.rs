//! The head of a segment, read and judged in one place; what callers make of it is theirs.
//!
//! Owner: whoever reads a log: recovery, a tool, a follower. Reads only, also beside a committer.

use std::io::{self, ErrorKind};

use super::file::segment_file_name;
use super::format::{
    COMMIT_HEAD_BYTES, CommitHead, FIRST_COMMIT, HeadFlaw, SEGMENT_HEAD_BYTES, SegmentHead,
};
use super::record::{At, Flaw, seed_of};
use super::report::{Corrupt, RecoverError, failed};
use super::store::Store;
use super::whole::{Commit, Found, read, read_commit};
use crate::limits::COMMIT_ALIGN_BYTES;

/// A head that seems damaged is read so often: a committer may just be writing it.
const LOOKS: usize = 3;

/// What is at the beginning of a segment.
pub(super) enum Head {
    /// The segment is not there any more: it was freed since it was listed.
    Gone,
    /// It was made and never given a head, and nothing is in it.
    Blank,
    /// The head does not verify, or is not this segment's: nothing in it verifies without. Why.
    Damaged(&'static str),
    /// The head verifies; `Found::first` says whether the first commit does.
    Valid(Found),
}

/// Reads the head of a segment and its first commit, which it leaves in `commit` if it is whole.
///
/// # Errors
/// The disk refused, or a newer program wrote the segment: nobody may go on then.
pub(super) fn read_head<S: Store>(
    store: &S,
    segment: u32,
    commit: &mut Commit,
) -> Result<Head, RecoverError> {
    let mut before = None;
    for _ in 0..LOOKS {
        match look(store, segment, commit)? {
            (Head::Damaged(what), page) if before == Some(page) => return Ok(Head::Damaged(what)),
            (Head::Damaged(_), page) => before = Some(page),
            (head, _) => return Ok(head),
        }
    }
    Ok(Head::Damaged("the head of the segment reads differently each time"))
}

/// As [`read_head`], for a store nobody else changes: a damaged head is an error there.
pub(super) fn must_read_head<S: Store>(
    store: &S,
    segment: u32,
    commit: &mut Commit,
) -> Result<Option<Found>, RecoverError> {
    match read_head(store, segment, commit)? {
        Head::Valid(found) => Ok(Some(found)),
        Head::Blank => Ok(None),
        Head::Damaged(what) => Err(damaged_head(segment, what)),
        Head::Gone => Err(failed(&reading(segment), ErrorKind::NotFound.into())),
    }
}

/// The error for a segment whose head is damaged.
pub(super) fn damaged_head(segment: u32, what: &'static str) -> RecoverError {
    let at = At { segment, offset: 0 };
    RecoverError::Corrupt(Corrupt { at, commit: 0, what, users: Vec::new() })
}

type HeadPage = [u8; SEGMENT_HEAD_BYTES];

fn look<S: Store>(
    store: &S,
    segment: u32,
    commit: &mut Commit,
) -> Result<(Head, HeadPage), RecoverError> {
    let mut page: HeadPage = [0; SEGMENT_HEAD_BYTES];
    // The first commit before the head: it is written after the head, so if it is there the head
    // must be.
    let mut first = [0_u8; COMMIT_ALIGN_BYTES];
    if there(segment, store.read_at(segment, u64::from(FIRST_COMMIT), &mut first))?.is_none() {
        return Ok((Head::Gone, page));
    }
    let Some(count) = there(segment, store.read_at(segment, 0, &mut page))? else {
        return Ok((Head::Gone, page));
    };
    let head = match SegmentHead::decode(&page[..count]) {
        Ok(head) if head.segment == segment => head,
        Ok(_) => return Ok((Head::Damaged("it is the head of another segment"), page)),
        Err(HeadFlaw::Version(version)) => return Err(RecoverError::Version { segment, version }),
        Err(HeadFlaw::Damaged) => return Ok((Head::Damaged("its head is damaged"), page)),
        Err(HeadFlaw::Blank) if first.iter().all(|byte| *byte == 0) => {
            return Ok((Head::Blank, page));
        }
        Err(HeadFlaw::Blank) => return Ok((Head::Damaged("its head is gone"), page)),
    };
    let Some(bytes) = there(segment, store.bytes(segment))? else { return Ok((Head::Gone, page)) };
    if bytes < head.bytes || head.bytes > u64::from(u32::MAX) {
        return Ok((Head::Damaged("the file is shorter than it was"), page));
    }
    let mut found = Found::new(head, seed_of(head.generation));
    match read_commit(store, &found, FIRST_COMMIT, commit) {
        Ok(Ok(())) => {
            found.first = Some(commit.head.sequence);
            found.first_redo = commit.head.redo;
            found.first_previous = commit.head.previous;
        }
        Ok(Err(Flaw::Newer(kind))) => return Err(RecoverError::Newer { at: commit.at, kind }),
        Ok(Err(Flaw::Nothing | Flaw::Damaged)) => {}
        Err(RecoverError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
            return Ok((Head::Gone, page));
        }
        Err(error) => return Err(error),
    }
    Ok((Head::Valid(found), page))
}

/// What was asked of a segment, or `None` if that is gone.
fn there<T>(segment: u32, asked: io::Result<T>) -> Result<Option<T>, RecoverError> {
    match asked {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&reading(segment), error)),
    }
}

fn reading(segment: u32) -> String {
    format!("reading {}", segment_file_name(segment))
}

/// The newest mark in the heads of a segment's commits: where a restart begins.
///
/// A commit whose head is whole and whose records are not carries a mark that is durable all the
/// same: it was chosen when all of the checkpoint was, and nothing is freed before the commit is.
pub(super) fn newest_mark<S: Store>(store: &S, found: &Found) -> Result<u64, RecoverError> {
    let (mut mark, mut offset) = (0, FIRST_COMMIT);
    let mut head = [0_u8; COMMIT_HEAD_BYTES];
    while u64::from(offset) + COMMIT_HEAD_BYTES as u64 <= found.head.bytes {
        let count = read(store, found.head.segment, u64::from(offset), &mut head)?;
        let Ok(head) = CommitHead::decode(found.seed, offset, &head[..count]) else { break };
        mark = mark.max(head.redo);
        let Some(next) = u32::try_from(u64::from(offset) + head.padded_bytes()).ok() else { break };
        offset = next;
    }
    Ok(mark)
}

/// Whether the end of a log is missing, which ends with commit `last` in segment `ended` (both 0:
/// there is no commit at all). `segments` are all there are, `heads` those with a valid head.
///
/// The segments made ready for what comes after the end tell: each names the one it follows, and a
/// commit that was durable when it was made.
pub(super) fn missing_end<'a>(
    segments: &[u32],
    heads: impl Iterator<Item = &'a SegmentHead>,
    (ended, last): (u32, u64),
) -> Option<Corrupt> {
    let lost = |segment, commit, what| {
        let at = At { segment, offset: 0 };
        Some(Corrupt { at, commit, what, users: Vec::new() })
    };
    for head in heads {
        if head.segment > ended && head.after != 0 && !segments.contains(&head.after) {
            let what = "it is missing, and the segment that was made to follow it is there";
            return lost(head.after, 0, what);
        }
        if head.anchor > last {
            let what = "it is missing: it was durable when this segment was made";
            return lost(head.segment, last + 1, what);
        }
    }
    match segments.iter().min() {
        Some(lowest) if last == 0 && *lowest > 1 => {
            lost(*lowest, 0, "there is no commit in the log, and the segments before are missing")
        }
        _ => None,
    }
}
