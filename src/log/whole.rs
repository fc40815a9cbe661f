//! Reading one commit and believing it only when all of it verifies.
//!
//! Owner: the thread that recovers, or a tool. Nothing is allocated beyond the size of a segment,
//! and no length is used before the checksum over it held.

use super::file::segment_file_name;
use super::format::{COMMIT_HEAD_BYTES, CommitHead, SegmentHead};
use super::record::{self, At, Flaw, Kind, RECORD_HEADER_BYTES, Record, STREAM_USER};
use super::report::{RecoverError, failed};
use super::segment::{length_u32, length_usize};
use super::store::Store;
use crate::limits::COMMIT_ALIGN_BYTES;

/// Users named in a report of corruption at the most.
const USERS_NAMED_MAX: usize = 64;

/// A segment with a valid head.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) head: SegmentHead,
    pub(super) seed: u32,
    /// Number of its first commit, if that is whole.
    pub(super) first: Option<u64>,
    /// The mark in the head of that commit.
    pub(super) first_redo: u64,
    /// Where the commit before that one was.
    pub(super) first_previous: At,
}

impl Found {
    /// A segment of whose commits nothing is known yet.
    pub(super) fn new(head: SegmentHead, seed: u32) -> Self {
        Self { head, seed, first: None, first_redo: 0, first_previous: At::default() }
    }
}

/// Records shown ahead at once: enough that waits for memory overlap.
const AHEAD_RECORDS: usize = 32;

/// Who takes in the records of a log, in their order.
pub trait Visit {
    /// These come next: a chance to fetch what they will touch. May not change anything.
    fn ahead(&mut self, _records: &[(At, Record<'_>)]) {}

    /// A record, and where it will lie when the log runs.
    fn record(&mut self, at: At, record: &Record<'_>);
}

/// A [`Visit`] that does not look ahead.
pub(super) struct Plainly<'a>(pub(super) &'a mut dyn FnMut(At, &Record<'_>));

impl Visit for Plainly<'_> {
    fn record(&mut self, at: At, record: &Record<'_>) {
        (self.0)(at, record);
    }
}

/// A commit in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Commit {
    pub(super) at: At,
    pub(super) seed: u32,
    pub(super) head: CommitHead,
    /// Head and records, without the padding to a page.
    pub(super) bytes: Vec<u8>,
}

impl Commit {
    /// Hands out the records as if the commit started at `at`. The commit has been verified.
    pub(super) fn visit(&self, at: At, visit: &mut dyn FnMut(At, &Record<'_>)) {
        let mut start = COMMIT_HEAD_BYTES;
        while start < self.bytes.len() {
            let bytes = &self.bytes[start..];
            let Ok((length, padded)) = record::extent(bytes, RECORD_HEADER_BYTES) else { return };
            let Ok(record) = record::parse(&bytes[..length]) else { return };
            visit(At { segment: at.segment, offset: at.offset + length_u32(start) }, &record);
            start += padded;
        }
    }

    /// The same to somebody who looks ahead.
    pub(super) fn show(&self, at: At, to: &mut dyn Visit) {
        let mut group = Vec::with_capacity(AHEAD_RECORDS);
        let mut start = COMMIT_HEAD_BYTES;
        loop {
            while group.len() < AHEAD_RECORDS && start < self.bytes.len() {
                let bytes = &self.bytes[start..];
                let Ok((length, padded)) = record::extent(bytes, RECORD_HEADER_BYTES) else {
                    break;
                };
                let Ok(record) = record::parse(&bytes[..length]) else { break };
                let offset = at.offset + length_u32(start);
                group.push((At { segment: at.segment, offset }, record));
                start += padded;
            }
            if group.is_empty() {
                return;
            }
            to.ahead(&group);
            for (at, record) in group.drain(..) {
                to.record(at, &record);
            }
        }
    }
}

/// Reads the commit at `offset` into `commit` and verifies it. On a flaw `commit` holds what was
/// read, for a report.
pub(super) fn read_commit<S: Store>(
    store: &S,
    found: &Found,
    offset: u32,
    commit: &mut Commit,
) -> Result<Result<(), Flaw>, RecoverError> {
    let segment = found.head.segment;
    let left = found.head.bytes.saturating_sub(u64::from(offset));
    commit.at = At { segment, offset };
    commit.seed = found.seed;
    commit.head = CommitHead::default();
    commit.bytes.clear();
    commit.bytes.resize(length_usize(left.min(COMMIT_ALIGN_BYTES as u64)), 0);
    let count = read(store, segment, u64::from(offset), &mut commit.bytes)?;
    if count < COMMIT_HEAD_BYTES {
        return Ok(Err(Flaw::Nothing));
    }
    let head = match CommitHead::decode(found.seed, offset, &commit.bytes) {
        Ok(head) => head,
        Err(flaw) => return Ok(Err(flaw)),
    };
    if head.padded_bytes() > left {
        return Ok(Err(Flaw::Damaged));
    }
    commit.head = head;
    let whole = COMMIT_HEAD_BYTES + head.body_bytes as usize;
    let first = commit.bytes.len().min(whole);
    commit.bytes.resize(whole, 0);
    if first < whole {
        let rest = u64::from(offset) + first as u64;
        read(store, segment, rest, &mut commit.bytes[first..])?;
    }
    Ok(verify_records(found.seed, commit))
}

/// Every record must verify, and there must be as many as the head says.
fn verify_records(seed: u32, commit: &mut Commit) -> Result<(), Flaw> {
    let (mut start, mut count) = (COMMIT_HEAD_BYTES, 0);
    while start < commit.bytes.len() {
        let offset = commit.at.offset + length_u32(start);
        let (record, padded) = match record::decode(seed, offset, &commit.bytes[start..]) {
            Ok(decoded) => decoded,
            Err(Flaw::Newer(kind)) => {
                commit.at.offset = offset;
                return Err(Flaw::Newer(kind));
            }
            Err(_) => return Err(Flaw::Damaged),
        };
        if record.kind == Kind::Commit {
            return Err(Flaw::Damaged);
        }
        start += padded;
        count += 1;
    }
    if start == commit.bytes.len() && count == commit.head.count {
        Ok(())
    } else {
        Err(Flaw::Damaged)
    }
}

/// The users a damaged commit concerns, as far as its records' lengths still lead from one to the
/// next. Unverified: for people only.
pub(super) fn users_in(commit: &Commit) -> Vec<u64> {
    let mut users = Vec::new();
    let mut start = COMMIT_HEAD_BYTES;
    while start < commit.bytes.len() && users.len() < USERS_NAMED_MAX {
        let bytes = &commit.bytes[start..];
        let Ok((length, padded)) = record::extent(bytes, RECORD_HEADER_BYTES) else { break };
        if let Ok(record) = record::parse(&bytes[..length])
            && record.stream_kind == STREAM_USER
            && !users.contains(&record.stream)
        {
            users.push(record.stream);
        }
        start += padded;
    }
    users
}

pub(super) fn read<S: Store>(
    store: &S,
    segment: u32,
    offset: u64,
    out: &mut [u8],
) -> Result<usize, RecoverError> {
    store
        .read_at(segment, offset, out)
        .map_err(|error| failed(&format!("reading {}", segment_file_name(segment)), error))
}
