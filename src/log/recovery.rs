//! From what a crash left to a log that can be appended to.
//!
//! Owner: the thread that starts the server, before any shard runs.
//!
//! [`recover`] reads (`scan`) and decides where the log goes on, [`Recovered::start`] writes:
//!
//! ```text
//!   segment 7   | head | c40 | c41 | c42 | torn... |            as found
//!   segment 8   | head | c40 | c41 | c42 | c43: epoch | ...     copied, synced; the new epoch
//! ```
//!
//! Only the last commit can be whole in the page cache and not on the disk: a later one is written
//! only after a sync. So it is copied to a fresh segment and synced there before anything is
//! served, and with it, if the segment is less than half full, all of that segment, so that
//! restarts do not leave a trail of nearly empty ones (unless the checkpoint a restart begins with
//! was made in that segment: it names places in it). Records are reported at their new places.
//! The first commit of the copy is written last, after a sync of the others: a segment counts from
//! its first whole commit on, so the copy takes effect when all of it is durable, and until then
//! the original does. A crash at any moment of this is recovered like any other.
//!
//! On a full disk there may be no fresh segment. Then the log goes on in its last one: everything
//! after the last commit is wiped, that commit is written again where it is, with the same bytes,
//! and synced. (This is the one case in which a page that may have been acknowledged is written
//! again; a power cut in that moment on a disk that tears sectors could cost it.)
//!
//! Deliberately not here: judging what is durable, and from which commit on a restart reads
//! (`scan`); making all of this true on the disk (`reopen`).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};

use super::format::{FIRST_COMMIT, SegmentHead, padded};
use super::record::{self, At, Kind, Record};
use super::report::{RecoverError, Report, failed};
use super::scan::{Scan, read_tail, scan};
use super::segment::Sealed;
use super::settings::Settings;
use super::store::Store;
use super::whole::{Commit, Found, Plainly, Visit};

/// Where the log goes on.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// In a fresh segment, which exists, with a copy of the tail.
    Fresh { segment: u32, carried: Option<Carried> },
    /// In the last segment with commits, from `offset`; `again`: in the place of the last commit,
    /// which is nothing but an epoch, so that starts on a full disk do not use it up.
    InPlace { found: Found, offset: u32, again: bool },
}

/// The part of the last segment that is copied: its commits from one offset to another.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    pub(super) found: Found,
    pub(super) from: u32,
    pub(super) end: u32,
}

/// A log that was read and not yet opened for appending.
pub struct Recovered<S> {
    pub(super) store: S,
    pub(super) settings: Settings,
    pub(super) plan: Plan,
    pub(super) last: Option<Commit>,
    /// Segments ready for later use.
    pub(super) spares: Vec<u32>,
    /// Segments nobody needs.
    pub(super) dead: Vec<u32>,
    pub(super) soiled: Vec<u32>,
    pub(super) next_segment: u32,
    pub(super) segments: u64,
    pub(super) time_ms: u64,
    /// Number of the commit a restart begins to read at.
    pub(super) redo: u64,
    /// Segments before the one the log ends in, in order.
    pub(super) sealed: VecDeque<Sealed>,
    /// Of these, segments nobody needs any more.
    pub(super) freed: VecDeque<Sealed>,
    /// Bytes of the images that were read.
    pub(super) image_bytes: u64,
    /// Highest epoch of anything found; the next one must be above it ([`super::next_epoch`]).
    pub highest_epoch: u32,
}

impl<S> fmt::Debug for Recovered<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Recovered")
            .field("plan", &self.plan)
            .field("highest_epoch", &self.highest_epoch)
            .finish_non_exhaustive()
    }
}

/// Reads the log in `store`, hands every durable record to `visit` in log order, each with the
/// place it will have when the log runs, and decides where the log goes on. Changes nothing but,
/// if need be, makes a segment.
///
/// # Errors
/// [`RecoverError`]; `visit` may have been called by then.
pub fn recover<S: Store>(
    store: S,
    settings: &Settings,
    visit: &mut dyn FnMut(At, &Record<'_>),
) -> Result<(Recovered<S>, Report), RecoverError> {
    recover_into(store, settings, &mut Plainly(visit))
}

/// [`recover`] for somebody who looks ahead.
///
/// # Errors
/// As [`recover`].
pub fn recover_into<S: Store>(
    mut store: S,
    settings: &Settings,
    visit: &mut dyn Visit,
) -> Result<(Recovered<S>, Report), RecoverError> {
    settings.check().map_err(RecoverError::Settings)?;
    let mut scan = scan(&store, visit)?;
    let Sorted { all, mut dead, mut spares } = sort(&store, &scan, settings)?;
    let highest = all.last().copied().unwrap_or(0);
    let mut next_segment = highest.checked_add(1).ok_or_else(|| {
        failed("choosing a segment", io::Error::other("segment numbers are used up"))
    })?;
    let in_use = (all.len() - dead.len()) as u64;
    let fresh = match spares.pop_front() {
        Some(spare) => Ok(spare),
        None => make(&mut store, settings, next_segment, in_use).inspect(|_| next_segment += 1),
    };
    let made = u64::from(next_segment > highest + 1);
    let plan = plan(&mut scan, settings, fresh)?;
    visit_tail(&store, &scan, &plan, visit)?;
    if let Plan::Fresh { carried: Some(carried), .. } = &plan
        && carried.from == FIRST_COMMIT
    {
        dead.push(carried.found.head.segment);
    }
    let ended = scan.end.map_or(0, |(index, _)| scan.found[index].head.segment);
    let in_place = matches!(plan, Plan::InPlace { .. });
    let counts = |found: &&Found| {
        let number = found.head.segment;
        !dead.contains(&number) && (number < ended || (number == ended && !in_place))
    };
    let sealed = scan.found.iter().filter(counts).filter_map(|found| {
        let Found { head, first, .. } = found;
        let SegmentHead { segment: number, bytes, time_ms: begun_ms, .. } = *head;
        first.map(|first| Sealed { number, first, bytes, begun_ms })
    });
    let sealed = sealed.collect();
    let recovered = Recovered {
        store,
        settings: *settings,
        plan,
        last: scan.last.take(),
        segments: all.len() as u64 + made - dead.len() as u64,
        spares: spares.into(),
        dead,
        soiled: std::mem::take(&mut scan.soiled),
        next_segment,
        time_ms: scan.report.last_time_ms,
        redo: scan.redo,
        sealed,
        freed: VecDeque::new(),
        image_bytes: scan.report.image_bytes,
        highest_epoch: scan.report.highest_epoch,
    };
    Ok((recovered, scan.report))
}

/// The segments by what can be done with them.
struct Sorted {
    /// Every one, in order.
    all: Vec<u32>,
    /// Nothing in it counts, and it cannot be used.
    dead: Vec<u32>,
    /// Nothing in it counts, and it can be used next.
    spares: VecDeque<u32>,
}

fn sort<S: Store>(store: &S, scan: &Scan, settings: &Settings) -> Result<Sorted, RecoverError> {
    let ended = scan.end.map_or(0, |(index, _)| scan.found[index].head.segment);
    let mut all: Vec<u32> = scan.found.iter().map(|found| found.head.segment).collect();
    all.extend(&scan.blank);
    all.sort_unstable();
    let (mut dead, mut spares) = (Vec::new(), VecDeque::new());
    for segment in all.iter().copied() {
        let mut found = scan.found.iter().filter(|found| found.head.segment == segment);
        if found.any(|found| found.first.is_some() && !is_void(scan, found)) {
            continue;
        }
        let bytes = store.bytes(segment).map_err(|error| failed("asking for a size", error))?;
        if segment > ended && bytes == settings.segment_bytes {
            spares.push_back(segment);
        } else {
            dead.push(segment);
        }
    }
    Ok(Sorted { all, dead, spares })
}

/// Whether every commit of a segment is void: the next one that counts starts with the same.
fn is_void(scan: &Scan, found: &Found) -> bool {
    let later = scan.found.iter().filter(|other| other.head.segment > found.head.segment);
    later.filter_map(|other| other.first).next() == found.first
}

fn make<S: Store>(
    store: &mut S,
    settings: &Settings,
    segment: u32,
    segments: u64,
) -> io::Result<u32> {
    if let Some(bytes_max) = settings.log_bytes_max
        && (segments + 1) * settings.segment_bytes > bytes_max
    {
        let why = format!("the log may not grow beyond {bytes_max} bytes");
        return Err(io::Error::new(ErrorKind::StorageFull, why));
    }
    store.create(segment, settings.segment_bytes).map(|()| segment)
}

fn plan(
    scan: &mut Scan,
    settings: &Settings,
    fresh: io::Result<u32>,
) -> Result<Plan, RecoverError> {
    let end = scan.end.map(|(index, end)| (scan.found[index].clone(), end));
    match (fresh, end, &scan.last) {
        (Ok(segment), Some((found, end)), Some(last)) => {
            let last_bytes = last.head.padded_bytes();
            if last_bytes + settings.batch_cost_max() > settings.capacity() {
                let why = format!("the last commit, {last_bytes} bytes, does not fit a segment");
                return Err(RecoverError::Settings(why));
            }
            // A checkpoint knows places of records before it. Where its pieces may name places in
            // this segment, those stay: of the last commit no place was known yet.
            let unnamed = found.first_redo == scan.redo;
            let all = unnamed && u64::from(end - FIRST_COMMIT) <= settings.capacity() / 2;
            let from = if all { FIRST_COMMIT } else { last.at.offset };
            Ok(Plan::Fresh { segment, carried: Some(Carried { found, from, end }) })
        }
        (Ok(segment), _, _) => Ok(Plan::Fresh { segment, carried: None }),
        (Err(error), Some((found, offset)), Some(last)) => {
            let epoch_bytes = padded(record::RECORD_HEADER_BYTES as u64);
            let again = is_epoch(last) && last.at.segment == found.head.segment;
            let offset = if again { last.at.offset } else { offset };
            if u64::from(offset) + epoch_bytes > found.head.bytes {
                return Err(failed("making a segment, with no room left in the last one", error));
            }
            scan.report.full = Some(error.to_string());
            Ok(Plan::InPlace { found, offset, again })
        }
        (Err(error), _, _) => Err(failed("making the first segment", error)),
    }
}

/// Whether a commit holds an epoch and nothing else: no position of it is in the log.
fn is_epoch(commit: &Commit) -> bool {
    let mut only = commit.head.count == 1;
    commit.visit(commit.at, &mut |_, record| only = only && record.kind == Kind::Epoch);
    only
}

/// Hands out the records of the last segment at the places they will have.
fn visit_tail<S: Store>(
    store: &S,
    scan: &Scan,
    plan: &Plan,
    visit: &mut dyn Visit,
) -> Result<(), RecoverError> {
    let Some((index, end)) = scan.end else { return Ok(()) };
    let found = &scan.found[index];
    read_tail(store, found, FIRST_COMMIT, end, &mut |commit| {
        if commit.head.sequence >= scan.redo {
            commit.show(plan.place(commit.at), visit);
        }
        Ok(())
    })
}

impl Plan {
    /// Whether the log goes on in this segment.
    pub(super) fn has(&self, number: u32) -> bool {
        match self {
            Self::Fresh { segment, .. } => *segment == number,
            Self::InPlace { found, .. } => found.head.segment == number,
        }
    }

    /// Where what was found at `at` will be.
    fn place(&self, at: At) -> At {
        match self {
            Self::Fresh { segment, carried: Some(carried) } if at.offset >= carried.from => {
                At { segment: *segment, offset: at.offset - carried.from + FIRST_COMMIT }
            }
            _ => at,
        }
    }
}
