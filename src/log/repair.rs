//! Mending a copy of a damaged log, so that it verifies again and says no more than it knows.
//!
//! Owner: the command line, on a copy it has just made: this writes where a server would not.
//!
//! Records that verify stay at their places. What lies between them becomes *fillers*: records of
//! the kind void, which say nothing, sealed anew with the heads of their commits. Inside the
//! checkpoint a restart begins with, a filler for a record of an inbox is a tombstone with its
//! number, because the image may name it; if what is damaged there may be a piece of the image
//! itself, nothing is mended.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::file::{FileStore, OpenError, segment_file_name};
use super::format::{COMMIT_HEAD_BYTES, CommitHead};
use super::gaps::{Gap, Gaps, gaps};
use super::people::place;
use super::record::{
    self, At, Kind, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Record, STREAM_GROUP, STREAM_USER,
};
use super::recovery::recover;
use super::report::{RecoverError, failed};
use super::salvage::{Content, Lost, content};
use super::segment::{length_u32, length_usize, seal_all};
use super::settings::Settings;
use super::staging::{Lane, Refused, Wake};
use super::store::Store;
use crate::limits::{COMMIT_ALIGN_BYTES, SEGMENT_BYTES_SETTING_MIN};

/// Rounds of looking and mending: what one round mends may show more.
const ROUNDS_MAX: usize = 4;

/// What [`mend`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// What was replaced by fillers.
    pub lost: Vec<Lost>,
    /// Old segments that were left out; what waited in them is lost.
    pub left_out: Vec<u32>,
}

/// Why a log was not mended.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The copy can't be written.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It can't be read.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// It can't be mended.
    #[error("{}: {what}. This can't be repaired: restore a backup", place(*at))]
    Beyond {
        /// Where.
        at: At,
        /// Why.
        what: String,
    },
    /// A tombstone found no room.
    #[error("saying in the log what is lost: {0}")]
    Bury(String),
}

fn beyond<T>(at: At, what: impl Into<String>) -> Result<T, MendError> {
    Err(MendError::Beyond { at, what: what.into() })
}

/// Mends the log in `dir`, which must be a copy made for this.
///
/// # Errors
/// [`MendError`]; the copy is of no use then.
pub fn mend(dir: &Path) -> Result<Mended, MendError> {
    let mut store = FileStore::open(dir)?;
    let mut mended = Mended::default();
    for _ in 0..ROUNDS_MAX {
        let found = gaps(&store)?;
        if found.gaps.is_empty() && found.broken.is_empty() {
            return Ok(mended);
        }
        for broken in &found.broken {
            if !broken.is_old {
                return beyond(broken.at, broken.what);
            }
            leave_out(&mut store, &found, broken.at.segment)?;
            mended.left_out.push(broken.at.segment);
        }
        for gap in &found.gaps {
            mend_gap(&mut store, &found, gap, &mut mended)?;
        }
    }
    let found = gaps(&store)?;
    match (found.gaps.first(), found.broken.first()) {
        (Some(gap), _) => {
            let at = At { segment: gap.found.head.segment, offset: gap.from };
            beyond(at, "too many heads of commits are lost here")
        }
        (None, Some(broken)) => beyond(broken.at, broken.what),
        (None, None) => Ok(mended),
    }
}

/// Removes a segment nothing in which can be read. If it was made ready for what comes after the
/// end, so do the others of these, which hold nothing and may name it.
fn leave_out(store: &mut FileStore, found: &Gaps, segment: u32) -> Result<(), MendError> {
    let is_beyond_end = found.used.last().is_none_or(|last| segment > *last);
    let with_it = found.spares.iter().filter(|spare| is_beyond_end && **spare > segment);
    for segment in with_it.chain([&segment]) {
        match store.remove(*segment) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("leaving a segment out", error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn mend_gap(
    store: &mut FileStore,
    found: &Gaps,
    gap: &Gap,
    mended: &mut Mended,
) -> Result<(), MendError> {
    let at = At { segment: gap.found.head.segment, offset: gap.from };
    let mut content = content(store, gap)?;
    let in_checkpoint = found.redo > 0
        && gap.first + gap.count > found.redo
        && (found.complete == 0 || gap.first <= found.complete);
    let is_image = |lost: &Lost| lost.user.is_none() || lost.kind == Some(Kind::Checkpoint);
    if in_checkpoint && (content.lost.iter().any(is_image) || gap.count > 1) {
        return beyond(at, "a part of the checkpoint a restart begins with may be in what is lost");
    }
    let Some(starts) = commit_starts(&content, gap) else {
        return beyond(at, format!("{} commits are missing and have no room", gap.count));
    };
    let mut before = gap.before;
    let mut out = vec![0_u8; content.bytes.len()];
    for (nth, start) in starts.iter().enumerate() {
        let end = starts.get(nth + 1).copied().unwrap_or(out.len());
        let (count, body_end) = fill(&mut content, gap, &mut out, (*start, end), in_checkpoint);
        let offset = gap.from + length_u32(*start);
        let model =
            gap.head.or_else(|| before.map(|(_, head)| head)).or(gap.after).unwrap_or_default();
        let previous = match (before, gap.head) {
            (Some((at, _)), _) => at,
            (None, Some(head)) => head.previous,
            (None, None) => At::default(),
        };
        let head = CommitHead {
            sequence: gap.first + nth as u64,
            previous,
            epoch: model.epoch,
            count,
            body_bytes: length_u32(body_end - start - COMMIT_HEAD_BYTES),
            redo: model.redo,
        };
        seal_all(gap.found.seed, offset, &mut out[*start..body_end]);
        head.encode(gap.found.seed, offset, &mut out[*start..body_end]);
        before = Some((At { segment: at.segment, offset }, head));
    }
    let write = |store: &mut FileStore, offset: u32, bytes: &[u8]| {
        store
            .write_at(at.segment, u64::from(offset), bytes)
            .and_then(|()| store.sync(at.segment))
            .map_err(|error| failed("writing the copy", error))
    };
    write(store, gap.from, &out)?;
    if let (Some(after), Some((previous, _))) = (gap.after, before)
        && after.previous != previous
    {
        let mut bytes = [0_u8; COMMIT_HEAD_BYTES];
        CommitHead { previous, ..after }.encode(gap.found.seed, gap.to, &mut bytes);
        write(store, gap.to, &bytes)?;
    }
    mended.lost.append(&mut content.lost);
    Ok(())
}

/// Where the commits of a gap are to start: pages whose head is not a part of a record that
/// verifies, those before such a record first.
fn commit_starts(content: &Content, gap: &Gap) -> Option<Vec<usize>> {
    let count = length_usize(gap.count);
    let mut starts = vec![0];
    for must_lead in [true, false] {
        for page in (COMMIT_ALIGN_BYTES..content.bytes.len()).step_by(COMMIT_ALIGN_BYTES) {
            let body = page + COMMIT_HEAD_BYTES;
            let free = !content.kept.iter().any(|(at, padded)| *at < body && at + padded > page);
            let leads = content.kept.iter().any(|(at, _)| *at == body);
            if starts.len() < count && free && leads == must_lead {
                starts.push(page);
            }
        }
    }
    starts.sort_unstable();
    (starts.len() == count).then_some(starts)
}

/// Puts the kept records and fillers of one commit into `out`, not sealed. Returns how many there
/// are and where they end.
fn fill(
    content: &mut Content,
    gap: &Gap,
    out: &mut [u8],
    (start, end): (usize, usize),
    in_checkpoint: bool,
) -> (u32, usize) {
    let mut count = 0;
    let mut cursor = start + COMMIT_HEAD_BYTES;
    let kept: Vec<(usize, usize)> = content.kept.clone();
    for (at, padded) in kept {
        if at < cursor || at >= end {
            continue;
        }
        if at > cursor && at - cursor < RECORD_HEADER_BYTES {
            content.lose(gap, at, at + padded); // no filler fits before it
            continue;
        }
        count += filler(content, out, (cursor, at), in_checkpoint);
        out[at..at + padded].copy_from_slice(&content.bytes[at..at + padded]);
        count += 1;
        cursor = at + padded;
    }
    let body = gap
        .head
        .filter(|_| gap.count == 1)
        .map(|head| start + COMMIT_HEAD_BYTES + head.body_bytes as usize);
    let target = match body {
        Some(body) if body == cursor || body >= cursor + RECORD_HEADER_BYTES => body,
        _ if end - cursor < RECORD_HEADER_BYTES => cursor,
        _ => end,
    };
    count += filler(content, out, (cursor, target), in_checkpoint);
    (count, target)
}

/// Fills a stretch with records that say nothing, or that a record of an inbox is gone.
fn filler(
    content: &Content,
    out: &mut [u8],
    (from, to): (usize, usize),
    in_checkpoint: bool,
) -> u32 {
    let (mut count, mut start) = (0, from);
    while start < to {
        let (lost, mut bytes) = content.guess(start, to);
        if bytes > RECORD_BYTES_MAX {
            // What is left must hold a record too.
            bytes = RECORD_BYTES_MAX.min(to - start - RECORD_HEADER_BYTES);
        }
        let waits = lost.filter(|record| {
            let kinds = [Kind::Message, Kind::OwnCopy, Kind::Notice, Kind::Group];
            let streams = [STREAM_USER, STREAM_GROUP];
            in_checkpoint && streams.contains(&record.stream_kind) && kinds.contains(&record.kind)
        });
        let blank = match waits {
            Some(lost) => Record {
                stream_kind: lost.stream_kind,
                stream: lost.stream,
                position: lost.position,
                ..Record::blank(Kind::Tombstone)
            },
            None => Record::blank(Kind::Void),
        };
        let payload = vec![0_u8; bytes - RECORD_HEADER_BYTES];
        let mut encoded = Vec::with_capacity(bytes);
        record::encode(&Record { payload: &payload, ..blank }, &mut encoded);
        out[start..start + bytes].copy_from_slice(&encoded);
        start += bytes;
        count += 1;
    }
    count
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// Says in the log in `dir` that these records, by kind of stream, stream and position, are not for
/// anybody any more. `epoch_of` chooses the new epoch, given the highest there was.
///
/// # Errors
/// [`MendError`].
pub fn bury(
    dir: &Path,
    records: &[(u8, u64, u64)],
    epoch_of: &dyn Fn(u32) -> u32,
) -> Result<(), MendError> {
    let store = FileStore::open(dir)?;
    let newest = store.segments().map_err(|error| failed("listing segments", error))?;
    let newest = newest.into_iter().max().unwrap_or(1);
    let segment_bytes = store.bytes(newest).map_err(|error| failed("asking for a size", error))?;
    let segment_bytes = segment_bytes.max(SEGMENT_BYTES_SETTING_MIN);
    let settings = Settings { segment_bytes, ..Settings::default() };
    let (recovered, _) = recover(store, &settings, &mut |_, _| {})?;
    let epoch = epoch_of(recovered.highest_epoch);
    let opened = recovered.start(epoch, vec![Arc::new(Silent)]);
    let (mut stages, mut committer) = opened.map_err(|error| failed("opening the copy", error))?;
    let mut now_us = 0;
    let mut left = records.iter();
    let mut next = left.next();
    while next.is_some() || !stages[0].is_idle() {
        while let Some((stream_kind, stream, position)) = next {
            let record = Record {
                stream_kind: *stream_kind,
                stream: *stream,
                position: *position,
                ..Record::blank(Kind::Tombstone)
            };
            match stages[0].append_urgent(Lane::Message, &record) {
                Ok(_) => next = left.next(),
                Err(Refused::Busy) => break,
                Err(refused) => return Err(MendError::Bury(refused.to_string())),
            }
        }
        stages[0].flush();
        now_us += 1_000_000;
        if let super::Step::Failed(error) = committer.step(now_us) {
            return Err(MendError::Bury(error));
        }
        while stages[0].committed().is_some() {}
    }
    Ok(())
}

/// How a segment's file is called, for lists of what was left out.
#[must_use]
pub fn left_out(segment: u32) -> String {
    format!("{} was left out: nothing in it verifies", segment_file_name(segment))
}

#[cfg(test)]
mod tests {
    use super::super::{Filter, inspect, verify};
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt as _;
    use std::path::PathBuf;

    const SEGMENT_BYTES: u64 = 256 * 1024;

    fn settings() -> Settings {
        Settings { segment_bytes: SEGMENT_BYTES, batch_bytes: 16 * 1024, ..Settings::default() }
    }

    fn message(id: u64, payload: &[u8]) -> Record<'_> {
        Record {
            stream_kind: STREAM_USER,
            stream: 7,
            position: 1 << 32 | id,
            sender: 3,
            client_id: id,
            payload,
            ..Record::blank(Kind::Message)
        }
    }

    /// A log of commits of three messages of about 1,500 bytes each; returns the messages' places.
    fn log(dir: &Path, commits: u64) -> Vec<(u64, At)> {
        let store = FileStore::open(dir).unwrap();
        let (recovered, _) = recover(store, &settings(), &mut |_, _| {}).unwrap();
        let epoch = recovered.highest_epoch + 1;
        let (mut stages, mut committer) = recovered.start(epoch, vec![Arc::new(Silent)]).unwrap();
        let stage = &mut stages[0];
        let mut places = Vec::new();
        for commit in 0..commits {
            let payload = vec![0x55_u8; 1500];
            let ids = commit * 3 + 1..commit * 3 + 4;
            let tickets: Vec<_> = ids
                .map(|id| (id, stage.append_urgent(Lane::Message, &message(id, &payload)).unwrap()))
                .collect();
            stage.flush();
            while !stage.is_idle() {
                committer.step(commit * 1_000_000);
                while let Some(placed) = stage.committed() {
                    places.extend(tickets.iter().map(|(id, ticket)| (*id, placed.at(*ticket))));
                }
            }
        }
        places
    }

    fn found(dir: &Path) -> Vec<u64> {
        let mut ids = Vec::new();
        let store = FileStore::open(dir).unwrap();
        recover(store, &settings(), &mut |_, record| {
            if record.kind == Kind::Message {
                ids.push(record.client_id);
            }
        })
        .unwrap();
        ids
    }

    fn path(dir: &Path, at: At) -> PathBuf {
        dir.join("log").join(segment_file_name(at.segment))
    }

    fn flip(dir: &Path, at: At, bytes: u32) {
        let file = fs::File::options().read(true).write(true).open(path(dir, at)).unwrap();
        let mut old = vec![0; bytes as usize];
        file.read_exact_at(&mut old, at.offset.into()).unwrap();
        old.iter_mut().for_each(|byte| *byte ^= 0x81);
        file.write_all_at(&old, at.offset.into()).unwrap();
    }

    fn beside(at: At, by: i32) -> At {
        At { offset: at.offset.checked_add_signed(by).unwrap(), ..at }
    }

    /// Whatever is damaged, only what was hit is lost, and the copy is whole.
    #[test]
    fn only_what_was_hit_is_lost() {
        // What is flipped, relative to the first record of the 30th commit, and what that costs.
        let cases: [(i32, u32, &[u64]); 7] = [
            (100, 1, &[91]),            // in a payload
            (-60, 1, &[]),              // in the head of the commit
            (4, 1, &[91]),              // in the length of a record
            (-64, 170, &[91]),          // the head and a record
            (1588 + 40, 8, &[92]),      // in a header
            (1500, 200, &[91, 92]),     // two records
            (-64, 4800, &[91, 92, 93]), // all of the commit
        ];
        for (by, bytes, lost) in cases {
            let dir = tempfile::tempdir().unwrap();
            let places = log(dir.path(), 60);
            let (id, at) = places[90];
            assert_eq!(id, 91);
            flip(dir.path(), beside(at, by), bytes);
            let report = verify(dir.path()).unwrap();
            assert_eq!(report.findings.len(), 1, "{by}: {report}");
            let mended = mend(dir.path()).unwrap();
            assert!(mended.lost.len() <= lost.len().max(1), "{by}: {mended:?}");
            assert!(mended.lost.is_empty() == lost.is_empty(), "{by}: {mended:?}");
            let report = verify(dir.path()).unwrap();
            assert!(report.is_whole(), "{by}: {report}");
            let expected: Vec<u64> = (1..=180).filter(|id| !lost.contains(id)).collect();
            assert_eq!(found(dir.path()), expected, "{by}");
        }
    }

    /// The same over the border between two segments, and over several commits.
    #[test]
    fn damage_at_the_borders_of_segments_is_mended() {
        for (which, commits) in [("first", 1), ("last", 1), ("first", 2), ("middle", 3)] {
            let dir = tempfile::tempdir().unwrap();
            let places = log(dir.path(), 120);
            let second: Vec<&(u64, At)> = places.iter().filter(|(_, at)| at.segment == 2).collect();
            let first = match which {
                "first" => 0,
                "last" => second.len() - 3 * commits,
                _ => 30,
            };
            let (id, at) = *second[first];
            let bytes = 8192 * u32::try_from(commits).unwrap();
            flip(dir.path(), beside(at, -64), bytes);
            let report = verify(dir.path()).unwrap();
            assert!(!report.is_whole(), "{which}: {report}");
            assert_eq!(report.findings.len(), 1, "{which}: {report}");
            mend(dir.path()).unwrap();
            let report = verify(dir.path()).unwrap();
            assert!(report.is_whole(), "{which} {commits}: {report}");
            let lost = id..id + 3 * commits as u64;
            let expected: Vec<u64> = (1..=360).filter(|id| !lost.contains(id)).collect();
            assert_eq!(found(dir.path()), expected, "{which}");
        }
    }

    #[test]
    fn a_torn_tail_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let places = log(dir.path(), 60);
        let (_, at) = places[177];
        flip(dir.path(), beside(at, 100), 1);
        let report = verify(dir.path()).unwrap();
        assert!(report.is_whole() && report.torn.is_some(), "{report}");
        assert_eq!(mend(dir.path()).unwrap(), Mended::default());
        assert_eq!(found(dir.path()).len(), 177);
    }

    #[test]
    fn a_missing_segment_is_beyond_repair() {
        let dir = tempfile::tempdir().unwrap();
        let places = log(dir.path(), 120);
        fs::remove_file(path(dir.path(), At { segment: 2, offset: 0 })).unwrap();
        assert!(places.iter().any(|(_, at)| at.segment == 3));
        let report = verify(dir.path()).unwrap();
        assert!(!report.is_whole(), "{report}");
        assert!(matches!(mend(dir.path()), Err(MendError::Beyond { .. })));
    }

    #[test]
    fn a_damaged_head_of_a_segment_is_named() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 120);
        flip(dir.path(), At { segment: 2, offset: 24 }, 1);
        let report = verify(dir.path()).unwrap().to_string();
        assert!(report.contains("its head is damaged"), "{report}");
        let error = mend(dir.path()).unwrap_err().to_string();
        assert!(error.contains("can't be repaired"), "{error}");
    }

    /// Between the begin of a checkpoint and its completion an image may name a record without
    /// saying where it is: what is lost there keeps its number.
    #[test]
    fn what_an_image_may_name_becomes_a_tombstone() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open(dir.path()).unwrap();
        let (recovered, _) = recover(store, &settings(), &mut |_, _| {}).unwrap();
        let (mut stages, mut committer) = recovered.start(1, vec![Arc::new(Silent)]).unwrap();
        let stage = &mut stages[0];
        stage.want_checkpoint();
        let mut places = Vec::new();
        let mut step = |stage: &mut super::super::Stage, record: &Record<'_>, at_us: u64| {
            let ticket = stage.append_urgent(Lane::Message, record).unwrap();
            stage.flush();
            let mut at = At::default();
            while !stage.is_idle() {
                committer.step(at_us);
                while let Some(placed) = stage.committed() {
                    at = placed.at(ticket);
                }
            }
            committer.step(at_us + 1);
            at
        };
        for id in 1..=4_u64 {
            places.push(step(stage, &message(id, b"letter"), id * 1_000_000));
        }
        let super::super::Phase::Settle(_) = stage.phase() else { panic!("a checkpoint is made") };
        stage.settled();
        let end =
            Record { body_kind: super::super::CHECKPOINT_END, ..Record::blank(Kind::Checkpoint) };
        step(stage, &end, 9_000_000);
        stage.report(super::super::LiveReport::default());
        for id in 5..=8_u64 {
            places.push(step(stage, &message(id, b"letter"), (id + 9) * 1_000_000));
        }
        drop(committer);
        drop(stages);
        let lines = || {
            let mut lines = Vec::new();
            inspect(dir.path(), &mut lines, &Filter::default()).unwrap();
            String::from_utf8(lines).unwrap()
        };
        assert!(lines().contains(" complete, 1 shards"), "{}", lines());
        flip(dir.path(), beside(places[2], 90), 1);
        assert_eq!(mend(dir.path()).unwrap().lost.len(), 1);
        let report = verify(dir.path()).unwrap();
        assert!(report.is_whole(), "{report}");
        assert!(lines().contains("tombstone user 7 position 1/3"), "{}", lines());
        // A record that may have been a piece of the image is another matter.
        flip(dir.path(), beside(places[1], 9), 1);
        let refused = mend(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("a part of the checkpoint"), "{refused}");
    }

    #[test]
    fn what_is_buried_is_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 3);
        bury(dir.path(), &[(1, 7, 1 << 32 | 2), (1, 7, 1 << 32 | 5)], &|highest| highest + 1)
            .unwrap();
        assert!(verify(dir.path()).unwrap().is_whole());
        let mut lines = Vec::new();
        inspect(dir.path(), &mut lines, &Filter { user: Some(7), ..Filter::default() }).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines.matches("tombstone user 7 position 1/").count(), 2, "{lines}");
    }
}
