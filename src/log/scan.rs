//! Reading a log from its first byte: which commits count, and what is a torn tail and what is
//! corruption.
//!
//! Owner: the thread that recovers, or a tool; reads only.
//!
//! What is believed
//! - Commits are numbered without gaps. Segments are read in the order of their numbers.
//! - A segment *counts* from its first whole commit on. If that has number n, every commit of an
//!   earlier segment numbered n or above is void: it is the leftover of a tail that recovery
//!   copied, or never finished. So a copy takes effect when it is whole, at once.
//! - Commit n was written only after commit n - 1 was synced. So where reading stops because
//!   commit n is not whole, any whole head of a commit beyond n proves damage to something that
//!   was durable: corruption, nothing is changed and the caller gets an error. Without such proof
//!   commit n was never announced to anybody: a torn tail, it ends the log.
//! - Segments made ready for what comes after the end say what was durable when they were made: if
//!   that is not there, the end is missing, which is corruption too (`head`).
//!
//! Invariants: any bytes whatever give a result; nothing is allocated beyond the size of one
//! segment; each byte is read a bounded number of times.

use std::io;

use super::checkpoint::{CHECKPOINT_BEGIN, CHECKPOINT_IMAGE};
use super::file::segment_file_name;
use super::format::{CommitHead, FIRST_COMMIT};
use super::head::{missing_end, must_read_head, newest_mark};
use super::look::each_page;
use super::record::{At, Flaw, Kind, encoded_bytes};
use super::report::{Corrupt, RecoverError, Report, failed};
use super::store::Store;
use super::whole::{Commit, Found, Visit, read_commit, users_in};

/// What is known of a log after reading it.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) report: Report,
    /// Every segment with a valid head, in order.
    pub(super) found: Vec<Found>,
    /// Segments whose head was never written.
    pub(super) blank: Vec<u32>,
    /// The last commit that counts.
    pub(super) last: Option<Commit>,
    /// The last segment that counts; its records were not handed out.
    pub(super) tail: Option<u32>,
    /// Segments beyond the end with leftovers in them: to be wiped before they are used.
    pub(super) soiled: Vec<u32>,
    /// Number of the commit from which on records are handed out.
    pub(super) redo: u64,
    /// Index in `found` of the segment the log ends in, and where its next commit would start.
    pub(super) end: Option<(usize, u32)>,
}

/// Reads the whole log and hands out the records of all segments that count but the last, whose
/// places may change: [`read_tail`] does that one.
pub(super) fn scan<S: Store>(store: &S, visit: &mut dyn Visit) -> Result<Scan, RecoverError> {
    let mut scan = Scan::default();
    survey(store, &mut scan)?;
    let mut started: Vec<usize> =
        (0..scan.found.len()).filter(|index| scan.found[*index].first.is_some()).collect();
    if let Some(newest) = started.last() {
        scan.redo = newest_mark(store, &scan.found[*newest])?;
        let begins =
            |index: &usize| scan.found[*index].first.is_some_and(|at| at <= scan.redo.max(1));
        let Some(holding) = started.iter().rposition(begins) else {
            let first = &scan.found[started[0]];
            let at = At { segment: first.head.segment, offset: FIRST_COMMIT };
            let what = "the segments before this one are missing";
            let commit = scan.redo.max(1);
            return Err(RecoverError::Corrupt(Corrupt { at, commit, what, users: Vec::new() }));
        };
        // What lies before is only read where something in it is still live.
        started.drain(..holding);
    }
    scan.tail = started.last().map(|index| scan.found[*index].head.segment);
    let mut spare = Commit::default();
    for (nth, index) in started.iter().enumerate() {
        let until = started.get(nth + 1).and_then(|next| scan.found[*next].first);
        read_segment(store, &mut scan, *index, until, &mut spare, visit)?;
    }
    if started.is_empty() {
        look_beyond(store, &mut scan, 1)?;
    }
    reaches_its_end(&scan)?;
    Ok(scan)
}

/// Hands out the commits between two offsets of a segment that was scanned.
pub(super) fn read_tail<S: Store>(
    store: &S,
    found: &Found,
    from: u32,
    end: u32,
    each: &mut dyn FnMut(&Commit) -> Result<(), RecoverError>,
) -> Result<(), RecoverError> {
    let mut commit = Commit::default();
    let mut offset = from;
    while offset < end {
        if read_commit(store, found, offset, &mut commit)?.is_err() {
            let error = io::Error::other("it reads differently the second time");
            return Err(failed(&segment_file_name(found.head.segment), error));
        }
        each(&commit)?;
        offset += commit.head.padded_u32();
    }
    Ok(())
}

/// Reads the heads of all segments and their first commits.
fn survey<S: Store>(store: &S, scan: &mut Scan) -> Result<(), RecoverError> {
    let mut numbers = store.segments().map_err(|error| failed("listing segments", error))?;
    numbers.sort_unstable();
    let mut commit = Commit::default();
    for segment in numbers {
        let Some(found) = must_read_head(store, segment, &mut commit)? else {
            scan.blank.push(segment);
            continue;
        };
        scan.report.highest_epoch = scan.report.highest_epoch.max(found.head.epoch);
        scan.report.last_time_ms = scan.report.last_time_ms.max(found.head.time_ms);
        scan.found.push(found);
    }
    Ok(())
}

/// Refuses a log whose end is missing.
fn reaches_its_end(scan: &Scan) -> Result<(), RecoverError> {
    let heads = || scan.found.iter().map(|found| &found.head);
    let mut segments = scan.blank.clone();
    segments.extend(heads().map(|head| head.segment));
    let end = scan.last.as_ref().map_or((0, 0), |last| (last.at.segment, last.head.sequence));
    match missing_end(&segments, heads(), end) {
        Some(corrupt) => Err(RecoverError::Corrupt(corrupt)),
        None => Ok(()),
    }
}

/// Reads the commits of segment `index` up to, not including, number `until`.
fn read_segment<S: Store>(
    store: &S,
    scan: &mut Scan,
    index: usize,
    until: Option<u64>,
    spare: &mut Commit,
    visit: &mut dyn Visit,
) -> Result<(), RecoverError> {
    let mut offset = FIRST_COMMIT;
    let mut counted = false;
    loop {
        let (due, previous) = match &scan.last {
            Some(last) => (last.head.sequence + 1, Some(last.at)),
            None => (scan.found[index].first.unwrap_or(1), None),
        };
        if until.is_some_and(|until| due >= until) {
            return in_order(scan, until, due);
        }
        let found = &scan.found[index];
        let flaw = match read_commit(store, found, offset, spare)? {
            Ok(())
                if spare.head.sequence == due
                    && previous.is_none_or(|previous| spare.head.previous == previous) =>
            {
                None
            }
            Ok(()) => Some(Flaw::Damaged),
            Err(Flaw::Newer(kind)) => return Err(newer(spare, kind)),
            Err(flaw) => Some(flaw),
        };
        if let Some(flaw) = flaw {
            scan.end = Some((index, offset));
            return stop(store, scan, until, due, flaw);
        }
        offset += spare.head.padded_u32();
        scan.end = Some((index, offset));
        scan.report.segments += u64::from(!counted);
        counted = true;
        count(&mut scan.report, spare);
        match &mut scan.last {
            Some(last) => {
                if scan.tail != Some(last.at.segment) && last.head.sequence >= scan.redo {
                    last.show(last.at, visit);
                }
                std::mem::swap(last, spare);
            }
            None => scan.last = Some(std::mem::take(spare)),
        }
    }
}

/// The next segment starts with number `until`, and `due` is next: they must be the same.
fn in_order(scan: &Scan, until: Option<u64>, due: u64) -> Result<(), RecoverError> {
    if until == Some(due) {
        return Ok(());
    }
    let at = scan.last.as_ref().map(|last| last.at).unwrap_or_default();
    let what = "a later segment starts with an earlier commit";
    Err(RecoverError::Corrupt(Corrupt { at, commit: due, what, users: Vec::new() }))
}

/// Reading stopped at `scan.end`, where commit `due` should be: corruption, or the end?
fn stop<S: Store>(
    store: &S,
    scan: &mut Scan,
    until: Option<u64>,
    due: u64,
    flaw: Flaw,
) -> Result<(), RecoverError> {
    if until.is_none() {
        return look_beyond(store, scan, due);
    }
    let (index, offset) = scan.end.unwrap_or((0, FIRST_COMMIT));
    // If nothing is here, a segment in between that does not count is where it must have been.
    let between = scan.found.get(index + 1).filter(|next| next.first.is_none());
    match between {
        Some(between) if flaw == Flaw::Nothing => Err(damaged(store, between, FIRST_COMMIT, due)?),
        _ => Err(damaged(store, &scan.found[index], offset, due)?),
    }
}

/// Looks at everything after the end of the log for proof that commit `due` was durable.
fn look_beyond<S: Store>(store: &S, scan: &mut Scan, due: u64) -> Result<(), RecoverError> {
    let (start, mut offset) = scan.end.unwrap_or((0, FIRST_COMMIT));
    let mut torn: Option<(&Found, u32)> = None;
    for found in &scan.found[start.min(scan.found.len())..] {
        let seen = look(store, found, offset, due)?;
        if seen.trace {
            torn = torn.or(Some((found, offset)));
            scan.soiled.push(found.head.segment);
        }
        if seen.beyond {
            let (found, offset) = torn.unwrap_or((found, offset));
            return Err(damaged(store, found, offset, due)?);
        }
        offset = FIRST_COMMIT;
    }
    scan.report.torn = torn.map(|(found, offset)| At { segment: found.head.segment, offset });
    Ok(())
}

/// Says what is known of the damaged commit `due`, which starts or should start at `offset`.
fn damaged<S: Store>(
    store: &S,
    found: &Found,
    offset: u32,
    due: u64,
) -> Result<RecoverError, RecoverError> {
    let mut commit = Commit::default();
    let what = match read_commit(store, found, offset, &mut commit)? {
        Ok(()) => "another one is in its place",
        Err(Flaw::Nothing) => "it is missing",
        Err(_) => "it does not verify",
    };
    let at = At { segment: found.head.segment, offset };
    Ok(RecoverError::Corrupt(Corrupt { at, commit: due, what, users: users_in(&commit) }))
}

/// What lies in a segment from some offset on.
struct Seen {
    /// There is anything but zeros.
    trace: bool,
    /// There is a whole head of a commit beyond the one that is due.
    beyond: bool,
}

fn look<S: Store>(store: &S, found: &Found, from: u32, due: u64) -> Result<Seen, RecoverError> {
    let mut seen = Seen { trace: false, beyond: false };
    each_page(store, found, from, &mut |offset, page| {
        seen.trace = seen.trace || page.iter().any(|byte| *byte != 0);
        let head = CommitHead::decode(found.seed, offset, page);
        seen.beyond = head.is_ok_and(|head| head.sequence > due);
        seen.beyond
    })?;
    Ok(seen)
}

fn count(report: &mut Report, commit: &Commit) {
    report.commits += 1;
    report.records += u64::from(commit.head.count);
    report.bytes += commit.head.padded_bytes();
    report.highest_epoch = report.highest_epoch.max(commit.head.epoch);
    commit.visit(commit.at, &mut |_, record| {
        let epoch = match record.kind {
            Kind::Epoch => record.aux,
            _ => record.position >> 32,
        };
        let epoch = u32::try_from(epoch).unwrap_or(u32::MAX);
        report.highest_epoch = report.highest_epoch.max(epoch);
        if record.kind == Kind::Checkpoint {
            match record.body_kind {
                CHECKPOINT_BEGIN => report.image_bytes = 0,
                CHECKPOINT_IMAGE => report.image_bytes += encoded_bytes(record) as u64,
                _ => {}
            }
        }
        report.last_time_ms = report.last_time_ms.max(record.time_ms);
    });
}

fn newer(commit: &Commit, kind: u8) -> RecoverError {
    RecoverError::Newer { at: commit.at, kind }
}
