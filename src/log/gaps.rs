//! Every segment there is, from its first byte: what chains, and where it does not.
//!
//! Owner: a tool. Reads only. `scan` decides whether a server may start and stops at the first
//! flaw; this goes on behind it, and looks at the old segments a start leaves alone.
//!
//! A *gap* is a stretch of a segment where commits must be that do not verify: later commits prove
//! that these were durable. What ends the log without such a proof is a torn tail and no damage.

use super::format::{CommitHead, FIRST_COMMIT, SegmentHead};
use super::head::{Head, missing_end, newest_mark, read_head};
use super::look::{head_at, last_trace, next_head};
use super::record::{At, Flaw};
use super::report::{RecoverError, failed};
use super::segment::{length_u32, length_usize};
use super::store::Store;
use super::whole::{Commit, Found, read, read_commit};
use crate::limits::COMMIT_ALIGN_BYTES;

const PAGE: u32 = FIRST_COMMIT;

/// Commits that were durable and do not verify.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub(super) found: Found,
    /// Where the first of them starts, and where something whole follows.
    pub(super) from: u32,
    pub(super) to: u32,
    /// Number of the first of them, and how many there are.
    pub(super) first: u64,
    pub(super) count: u64,
    /// The commit before: its place and its head. `None`: nothing is known of it.
    pub(super) before: Option<(At, CommitHead)>,
    /// The head of a commit after, to take over what it says.
    pub(super) after: Option<CommitHead>,
    /// The head at `from`, if only the records are damaged.
    pub(super) head: Option<CommitHead>,
}

/// What cannot be read at all.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) at: At,
    pub(super) what: &'static str,
    /// Leaving the whole segment out loses only what waits in it.
    pub(super) is_old: bool,
}

/// All that is known of a log's segments.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    pub(super) gaps: Vec<Gap>,
    pub(super) broken: Vec<Broken>,
    /// Segments with commits, in order, and those without.
    pub(super) used: Vec<u32>,
    pub(super) spares: Vec<u32>,
    /// All segments, and the heads of those where it verifies.
    pub(super) segments: Vec<u32>,
    heads: Vec<SegmentHead>,
    /// Segments before the one a restart begins in, and that one; 0: it is missing.
    pub(super) old: u64,
    pub(super) begin: u32,
    pub(super) commits: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Number of the commit a restart begins to read at, and of the one that completed the
    /// checkpoint it begins with (0: there is none).
    pub(super) redo: u64,
    pub(super) complete: u64,
    /// Where something was begun and never announced.
    pub(super) torn: Option<At>,
    /// In old segments: bytes after the last commit that may be damage or were never announced.
    pub(super) doubtful: Vec<At>,
}

/// A segment with at least one head of a commit in it.
struct Start {
    found: Found,
    /// Number of its first commit; where that has no head, the one before the first that has.
    number: u64,
    /// Its first commit has a head, and is whole.
    has_head: bool,
    is_whole: bool,
}

/// Looks at every segment in `store`.
///
/// # Errors
/// The disk refused, or a newer program wrote the log.
pub(super) fn gaps<S: Store>(store: &S) -> Result<Gaps, RecoverError> {
    let mut all = Gaps::default();
    let mut starts = starts(store, &mut all)?;
    all.used = starts.iter().map(|start| start.found.head.segment).collect();
    drop_unfinished(store, &mut all, &mut starts)?;
    all.redo = begin_of_a_restart(store, &starts)?;
    let begins = |start: &Start| start.number <= all.redo.max(1);
    let holding = starts.iter().rposition(begins);
    all.old = holding.unwrap_or(0) as u64;
    all.begin = holding.map_or(0, |index| starts[index].found.head.segment);
    let after_all = all.used.last().copied().unwrap_or(0);
    for broken in &mut all.broken {
        broken.is_old = broken.at.segment < all.begin
            || (broken.at.segment > after_all && is_empty(store, broken.at.segment)?);
    }
    let mut last: Last = None;
    for (index, start) in starts.iter().enumerate() {
        let old = holding.is_some_and(|holding| index < holding);
        let in_chain = holding.is_some_and(|holding| index > holding);
        let next = starts.get(index + 1);
        let until = next.map(|next| next.number);
        let must_reach = next.filter(|next| !old && next.has_head).map(|next| next.number);
        let before = last.filter(|(_, head)| in_chain || head.sequence + 1 == start.number);
        let is_last = next.is_none();
        last = walk(store, &mut all, start, before, Bounds { until, must_reach, is_last })?;
    }
    if holding.is_none() && !all.used.is_empty() {
        let at = At { segment: all.used[0], offset: FIRST_COMMIT };
        let what = "the segments before this one, which a restart begins with, are missing";
        all.broken.push(Broken { at, what, is_old: false });
    }
    let end = last.map_or((0, 0), |(at, head)| (at.segment, head.sequence));
    if let Some(lost) = missing_end(&all.segments, all.heads.iter(), end) {
        all.broken.push(Broken { at: lost.at, what: lost.what, is_old: false });
    }
    Ok(all)
}

/// Where a restart begins: what `scan` makes of an undamaged log. Damage may hide the newest mark,
/// so in a damaged one any head counts that can be read.
fn begin_of_a_restart<S: Store>(store: &S, starts: &[Start]) -> Result<u64, RecoverError> {
    let mut redo = 0;
    let mut newest = starts.iter().rev();
    for start in newest.by_ref() {
        redo = redo.max(newest_mark(store, &start.found)?);
        let mut offset = FIRST_COMMIT;
        while let Some((place, head)) = next_head(store, &start.found, offset, 0)? {
            redo = redo.max(head.redo);
            offset = place + PAGE;
        }
        if start.is_whole {
            break;
        }
    }
    Ok(redo)
}

/// The newest segment may begin with a commit, or a copy of the last ones, that was never
/// finished: then it does not count.
fn drop_unfinished<S: Store>(
    store: &S,
    all: &mut Gaps,
    starts: &mut Vec<Start>,
) -> Result<(), RecoverError> {
    let bounds = Bounds { until: None, must_reach: None, is_last: true };
    while let Some(newest) = starts.pop_if(|start| !start.is_whole) {
        // Behind it may be others that do not count either.
        let counts = starts.iter().rfind(|start| start.is_whole);
        let last = match counts {
            Some(before) => walk(store, &mut Gaps::default(), before, None, bounds)?,
            None => None,
        };
        let due = last.map_or(1, |(_, head)| head.sequence + 1);
        if next_head(store, &newest.found, FIRST_COMMIT, due)?.is_some() {
            starts.push(newest);
            return Ok(());
        }
        all.torn = Some(At { segment: newest.found.head.segment, offset: FIRST_COMMIT });
    }
    Ok(())
}

fn is_empty<S: Store>(store: &S, segment: u32) -> Result<bool, RecoverError> {
    let mut page = vec![0_u8; COMMIT_ALIGN_BYTES];
    read(store, segment, u64::from(FIRST_COMMIT), &mut page)?;
    Ok(page.iter().all(|byte| *byte == 0))
}

/// Reads the heads of all segments.
fn starts<S: Store>(store: &S, all: &mut Gaps) -> Result<Vec<Start>, RecoverError> {
    let mut numbers = store.segments().map_err(|error| failed("listing segments", error))?;
    numbers.sort_unstable();
    let mut starts = Vec::new();
    let mut commit = Commit::default();
    for segment in numbers {
        let found = match read_head(store, segment, &mut commit)? {
            Head::Valid(found) => found,
            Head::Blank => {
                all.segments.push(segment);
                all.spares.push(segment);
                continue;
            }
            Head::Damaged(what) => {
                all.segments.push(segment);
                let at = At { segment, offset: 0 };
                all.broken.push(Broken { at, what, is_old: false });
                continue;
            }
            // Nobody needs what was freed since; whoever verifies beside a server looks anew.
            Head::Gone => continue,
        };
        all.segments.push(segment);
        all.heads.push(found.head);
        let Some((place, first)) = next_head(store, &found, FIRST_COMMIT, 0)? else {
            all.spares.push(segment);
            continue;
        };
        let is_whole = found.first.is_some();
        let has_head = place == FIRST_COMMIT;
        let number = if has_head { first.sequence } else { first.sequence.saturating_sub(1) };
        starts.push(Start { found, number, has_head, is_whole });
    }
    Ok(starts)
}

/// How far a segment must reach, and may.
#[derive(Clone, Copy)]
struct Bounds {
    /// The next segment starts with this number: from there on this one is void.
    until: Option<u64>,
    /// And every number before that must be here.
    must_reach: Option<u64>,
    is_last: bool,
}

type Last = Option<(At, CommitHead)>;

/// Follows the commits of one segment. Returns the last one.
fn walk<S: Store>(
    store: &S,
    all: &mut Gaps,
    start: &Start,
    before: Last,
    bounds: Bounds,
) -> Result<Last, RecoverError> {
    let found = &start.found;
    let mut last = before;
    let mut offset = FIRST_COMMIT;
    let mut commit = Commit::default();
    loop {
        let due = last.as_ref().map(|(_, head): &(At, CommitHead)| head.sequence + 1);
        if bounds.until.is_some_and(|until| due.is_some_and(|due| due >= until)) {
            return Ok(last);
        }
        let read = read_commit(store, found, offset, &mut commit)?;
        if let Err(Flaw::Newer(kind)) = read {
            return Err(RecoverError::Newer { at: commit.at, kind });
        }
        let fits = due.is_none_or(|due| commit.head.sequence == due);
        if read.is_ok() && fits {
            note(all, &commit);
            last = Some((commit.at, commit.head));
            offset += commit.head.padded_u32();
            continue;
        }
        let own = head_at(store, found, offset)?
            .filter(|head| due.is_none_or(|due| head.sequence == due));
        let least = due.or_else(|| own.map(|head| head.sequence)).unwrap_or(0);
        let next = next_head(store, found, offset + if own.is_some() { PAGE } else { 0 }, least)?;
        let Some((place, after)) = next.filter(|(place, _)| *place > offset) else {
            return end(store, all, start, End { last, offset, own }, bounds);
        };
        let first = due.or_else(|| own.map(|head| head.sequence)).unwrap_or(after.sequence - 1);
        let gap = Gap {
            found: found.clone(),
            from: offset,
            to: place,
            first,
            count: after.sequence.saturating_sub(first),
            before: last,
            after: Some(after),
            head: own,
        };
        let before = CommitHead { sequence: after.sequence - 1, ..after };
        last = Some((after.previous, before));
        all.gaps.push(gap);
        offset = place;
    }
}

/// Where reading a segment stopped.
#[derive(Clone, Copy)]
struct End {
    last: Last,
    offset: u32,
    own: Option<CommitHead>,
}

/// Nothing whole follows in this segment: is that as it should be?
fn end<S: Store>(
    store: &S,
    all: &mut Gaps,
    start: &Start,
    end: End,
    bounds: Bounds,
) -> Result<Last, RecoverError> {
    let End { last, offset, own } = end;
    let found = &start.found;
    let at = At { segment: found.head.segment, offset };
    let trace = last_trace(store, found, offset)?;
    let due = last.as_ref().map_or(start.number, |(_, head)| head.sequence + 1);
    let missing = bounds.must_reach.map_or(0, |until| until.saturating_sub(due));
    if missing == 0 {
        match trace {
            Some(_) if bounds.is_last => all.torn = all.torn.or(Some(at)),
            Some(_) => all.doubtful.push(at),
            None => {}
        }
        return Ok(last);
    }
    let own_end = own.map_or(0, |head| head.padded_u32());
    let pages = u32::try_from(missing).unwrap_or(u32::MAX).saturating_mul(PAGE);
    let to = trace.unwrap_or(offset).max(offset.saturating_add(own_end.max(pages)));
    all.gaps.push(Gap {
        found: found.clone(),
        from: offset,
        to: to.min(length_u32(length_usize(found.head.bytes))),
        first: due,
        count: missing,
        before: last,
        after: None,
        head: own,
    });
    Ok(last.map(|(at, head)| (at, CommitHead { sequence: due + missing - 1, ..head })))
}

fn note(all: &mut Gaps, commit: &Commit) {
    all.commits += 1;
    all.records += u64::from(commit.head.count);
    all.bytes += commit.head.padded_bytes();
    if all.redo > 0 && all.complete == 0 && commit.head.redo >= all.redo {
        all.complete = commit.head.sequence;
    }
}
