//! What a gap still holds: the records that verify by themselves, and a guess at the others.
//!
//! Owner: a tool. Reads only. A guess is read from bytes that do not verify: for people, and for
//! fillers that say that something is gone.

use super::format::COMMIT_HEAD_BYTES;
use super::gaps::Gap;
use super::people::{Position, place};
use super::record::{self, At, Kind, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Record, STREAM_USER};
use super::report::RecoverError;
use super::segment::length_u32;
use super::store::Store;
use super::whole::read;

/// A record that is lost, as far as its bytes still tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where it lay.
    pub at: At,
    /// Bytes that were replaced.
    pub bytes: u32,
    /// What it was, in whose stream, at which position, from whom; `None`: its bytes tell nothing.
    pub kind: Option<Kind>,
    /// See `kind`.
    pub user: Option<u64>,
    /// See `kind`.
    pub position: u64,
    /// See `kind`.
    pub sender: u64,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {} bytes", place(self.at), self.bytes)?;
        match (self.kind, self.user) {
            (Some(kind), Some(user)) => {
                let name = kind.name();
                write!(out, ", by what is left of them: {name} of user {user}")?;
                let position = Position(self.position);
                write!(out, ", position {position}, from user {}", self.sender)
            }
            _ => write!(out, ", nothing is known of what they were"),
        }
    }
}

/// What a gap holds.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// Start and padded length of records that verify.
    pub(super) kept: Vec<(usize, usize)>,
    pub(super) lost: Vec<Lost>,
}

/// Looks for records that verify in a gap; the rest is read as if it verified, for people.
pub(super) fn content<S: Store>(store: &S, gap: &Gap) -> Result<Content, RecoverError> {
    let segment = gap.found.head.segment;
    let mut bytes = vec![0; (gap.to - gap.from) as usize];
    let count = read(store, segment, u64::from(gap.from), &mut bytes)?;
    bytes.truncate(count);
    bytes.resize((gap.to - gap.from) as usize, 0);
    let mut kept = Vec::new();
    let mut start = COMMIT_HEAD_BYTES;
    while start < bytes.len() {
        match verified(gap, &bytes, start)? {
            Some(padded) => {
                kept.push((start, padded));
                start += padded;
            }
            None => start += record::RECORD_ALIGN_BYTES,
        }
    }
    let mut content = Content { bytes, kept, lost: Vec::new() };
    let mut from = COMMIT_HEAD_BYTES;
    for (start, padded) in content.kept.clone() {
        content.lose(gap, from, start);
        from = start + padded;
    }
    let body = gap
        .head
        .filter(|_| gap.count == 1)
        .map(|head| COMMIT_HEAD_BYTES + head.body_bytes as usize);
    content.lose(gap, from, body.unwrap_or(content.bytes.len()));
    Ok(content)
}

/// The padded length of the record at `start`, if one verifies there.
fn verified(gap: &Gap, bytes: &[u8], start: usize) -> Result<Option<usize>, RecoverError> {
    let offset = gap.from + length_u32(start);
    let Ok((length, padded)) = record::extent(&bytes[start..], RECORD_HEADER_BYTES) else {
        return Ok(None);
    };
    // Cheap first: most places hold no record at all.
    if length > RECORD_BYTES_MAX
        || !record::is_whole(gap.found.seed, offset, &bytes[start..], length)
    {
        return Ok(None);
    }
    match record::decode(gap.found.seed, offset, &bytes[start..]) {
        Ok((record, _)) => Ok((record.kind != Kind::Commit).then_some(padded)),
        Err(record::Flaw::Newer(kind)) => {
            let at = At { segment: gap.found.head.segment, offset };
            Err(RecoverError::Newer { at, kind })
        }
        Err(_) => Ok(None),
    }
}

impl Content {
    /// Notes what lay between two places, which is not there any more.
    pub(super) fn lose(&mut self, gap: &Gap, from: usize, to: usize) {
        let mut start = from;
        while start < to && self.bytes[start..to].iter().any(|byte| *byte != 0) {
            let at = At { segment: gap.found.head.segment, offset: gap.from + length_u32(start) };
            let (record, padded) = self.guess(start, to);
            let user = record
                .filter(|record| record.stream_kind == STREAM_USER)
                .map(|record| record.stream);
            self.lost.push(Lost {
                at,
                bytes: length_u32(padded),
                kind: record.map(|record| record.kind),
                user,
                position: record.map_or(0, |record| record.position),
                sender: record.map_or(0, |record| record.sender),
            });
            start += padded;
        }
    }

    /// What seems to lie at `start`, before `to`, and its padded length.
    pub(super) fn guess(&self, start: usize, to: usize) -> (Option<Record<'_>>, usize) {
        let all = to - start;
        let bytes = &self.bytes[start..to];
        let Some((length, padded)) = record::extent(bytes, RECORD_HEADER_BYTES)
            .ok()
            .filter(|(_, padded)| *padded == all || padded + RECORD_HEADER_BYTES <= all)
        else {
            let header = bytes.get(..RECORD_HEADER_BYTES);
            return (header.and_then(|bytes| record::parse(bytes).ok()), all);
        };
        (record::parse(&bytes[..length]).ok(), padded)
    }
}
