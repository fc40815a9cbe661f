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
//! Deliberately not here: judging what is durable (`scan`), checkpoints (later).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use crate::canary::{self, Canary};

use super::commit::Committer;
use super::format::{COMMIT_HEAD_BYTES, CommitHead, FIRST_COMMIT, SegmentHead, padded};
use super::record::{self, At, Kind, Record};
use super::report::{Corrupt, RecoverError, Report, failed};
use super::scan::{Scan, read_tail, scan};
use super::segment::{Opening, Sealed, Tail, finish, generation, length_u32, wipe, write_head};
use super::settings::Settings;
use super::staging::{Stage, Wake};
use super::store::Store;
use super::whole::{Commit, Found, read_commit};

/// Where the log goes on.
#[derive(Clone, Debug)]
enum Plan {
    /// In a fresh segment, which exists, with a copy of the tail.
    Fresh { segment: u32, carried: Option<Carried> },
    /// In the last segment with commits, from `offset`.
    InPlace { found: Found, offset: u32 },
}

/// The part of the last segment that is copied: its commits from one offset to another.
#[derive(Clone, Debug)]
struct Carried {
    found: Found,
    from: u32,
    end: u32,
}

/// A log that was read and not yet opened for appending.
pub struct Recovered<S> {
    store: S,
    settings: Settings,
    plan: Plan,
    last: Option<Commit>,
    /// Segments ready for later use.
    spares: Vec<u32>,
    /// Segments nobody needs.
    dead: Vec<u32>,
    soiled: Vec<u32>,
    next_segment: u32,
    segments: u64,
    time_ms: u64,
    /// Number of the commit a restart begins to read at.
    redo: u64,
    /// Segments before the one the log ends in, in order.
    sealed: VecDeque<Sealed>,
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
    mut store: S,
    settings: &Settings,
    visit: &mut dyn FnMut(At, &Record<'_>),
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
        first.map(|first| Sealed { number: head.segment, first, bytes: head.bytes })
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
        (Err(error), Some((found, offset)), Some(_)) => {
            let epoch_bytes = padded(record::RECORD_HEADER_BYTES as u64);
            if u64::from(offset) + epoch_bytes > found.head.bytes {
                return Err(failed("making a segment, with no room left in the last one", error));
            }
            scan.report.full = Some(error.to_string());
            Ok(Plan::InPlace { found, offset })
        }
        (Err(error), _, _) => Err(failed("making the first segment", error)),
    }
}

/// Hands out the records of the last segment at the places they will have.
fn visit_tail<S: Store>(
    store: &S,
    scan: &Scan,
    plan: &Plan,
    visit: &mut dyn FnMut(At, &Record<'_>),
) -> Result<(), RecoverError> {
    let Some((index, end)) = scan.end else { return Ok(()) };
    let found = &scan.found[index];
    read_tail(store, found, FIRST_COMMIT, end, &mut |commit| {
        if commit.head.sequence >= scan.redo {
            commit.visit(plan.place(commit.at), visit);
        }
        Ok(())
    })
}

impl Plan {
    /// Whether the log goes on in this segment.
    fn has(&self, number: u32) -> bool {
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

impl<S: Store> Recovered<S> {
    /// Makes the end of the log durable and then `epoch`, and opens the log for one stage per
    /// wake-up in `wakes`. Nothing may be served, no position given out, before this returned.
    ///
    /// # Errors
    /// Whatever the disk said; run [`recover`] again.
    ///
    /// # Panics
    /// If `epoch` is not above `highest_epoch`: positions would be reused.
    pub fn start(
        mut self,
        epoch: u32,
        wakes: Vec<Arc<dyn Wake>>,
    ) -> io::Result<(Vec<Stage>, Committer<S>)> {
        let planted = canary::is(Canary::ReuseEpoch);
        assert!(planted || epoch > self.highest_epoch, "epoch {epoch} is used up");
        let last = self.last.take();
        let (mut current, mut previous) = match self.plan.clone() {
            Plan::Fresh { segment, carried } => self.start_fresh(segment, epoch, carried)?,
            Plan::InPlace { found, offset } => {
                self.start_in_place(&found, offset, last.as_ref())?
            }
        };
        let sequence = last.as_ref().map_or(1, |last| last.head.sequence + 1);
        let redo = self.redo;
        let head = CommitHead { sequence, previous, epoch, count: 1, body_bytes: 0, redo };
        previous = self.write_epoch(&mut current, head)?;
        // Only now: until the new epoch is durable these might be all there is.
        for segment in std::mem::take(&mut self.dead) {
            self.store.remove(segment)?;
        }
        let mut spares = VecDeque::new();
        for segment in std::mem::take(&mut self.spares) {
            spares.push_back(self.prepare(segment, epoch)?);
        }
        let opening = Opening {
            current,
            spares,
            sequence: sequence + 1,
            previous,
            epoch,
            next_segment: self.next_segment,
            segments: self.segments,
            time_ms: self.time_ms,
            redo: self.redo,
            sealed: std::mem::take(&mut self.sealed),
        };
        Ok(Committer::open(self.store, &self.settings, opening, wakes))
    }

    /// Whether every one of `segments` is there: else messages that wait would be lost in silence.
    ///
    /// # Errors
    /// [`RecoverError::Corrupt`] naming the first that is missing.
    pub fn check_live(&self, segments: impl Iterator<Item = u32>) -> Result<(), RecoverError> {
        let there = |segment: u32| {
            self.sealed.iter().any(|sealed| sealed.number == segment) || self.plan.has(segment)
        };
        for segment in segments {
            if !there(segment) {
                let at = At { segment, offset: 0 };
                let what = "messages that wait are in this segment, and it is missing";
                return Err(RecoverError::Corrupt(Corrupt {
                    at,
                    commit: 0,
                    what,
                    users: Vec::new(),
                }));
            }
        }
        Ok(())
    }

    /// The store, without having opened anything.
    pub fn into_store(self) -> S {
        self.store
    }

    fn start_fresh(
        &mut self,
        segment: u32,
        epoch: u32,
        carried: Option<Carried>,
    ) -> io::Result<(Tail, At)> {
        let mut tail = self.prepare(segment, epoch)?;
        let Some(Carried { found, from, end }) = carried else { return Ok((tail, At::default())) };
        let mut commit = Commit::default();
        let mut first = Vec::new();
        let (mut offset, mut previous) = (from, None);
        while offset < end {
            let read = read_commit(&self.store, &found, offset, &mut commit);
            if !matches!(read, Ok(Ok(()))) {
                return Err(io::Error::other("the log reads differently the second time"));
            }
            let head =
                CommitHead { previous: previous.unwrap_or(commit.head.previous), ..commit.head };
            let bytes = finish(&tail, head, &mut commit.bytes);
            if previous.is_none() {
                first = std::mem::take(&mut commit.bytes);
            } else {
                self.store.write_at(segment, u64::from(tail.offset), &commit.bytes)?;
            }
            previous = Some(At { segment, offset: tail.offset });
            tail.first.get_or_insert(head.sequence);
            tail.offset += bytes;
            offset += bytes;
        }
        self.store.sync(segment)?;
        self.store.write_at(segment, u64::from(FIRST_COMMIT), &first)?;
        self.store.sync(segment)?;
        Ok((tail, previous.unwrap_or_default()))
    }

    fn start_in_place(
        &mut self,
        found: &Found,
        offset: u32,
        last: Option<&Commit>,
    ) -> io::Result<(Tail, At)> {
        let segment = found.head.segment;
        wipe(&mut self.store, segment, offset, found.head.bytes)?;
        self.store.sync(segment)?;
        let mut at = At::default();
        if let Some(last) = last {
            at = last.at;
            self.store.write_at(at.segment, u64::from(at.offset), &last.bytes)?;
            self.store.sync(at.segment)?;
        }
        let Found { head, seed, first, .. } = found;
        Ok((Tail { number: segment, seed: *seed, offset, bytes: head.bytes, first: *first }, at))
    }

    /// Gives a segment the head of this boot; wipes it first if anything is left in it.
    fn prepare(&mut self, segment: u32, epoch: u32) -> io::Result<Tail> {
        let bytes = self.settings.segment_bytes;
        if self.soiled.contains(&segment) {
            wipe(&mut self.store, segment, FIRST_COMMIT, bytes)?;
            self.store.sync(segment)?;
        }
        let generation = generation(epoch, segment, self.store.salt());
        let head = SegmentHead { segment, epoch, generation, bytes, time_ms: self.time_ms };
        write_head(&mut self.store, &head)
    }

    /// Makes the epoch durable: a commit of its own.
    fn write_epoch(&mut self, tail: &mut Tail, head: CommitHead) -> io::Result<At> {
        let record = Record {
            aux: u64::from(head.epoch),
            time_ms: self.time_ms,
            ..Record::blank(Kind::Epoch)
        };
        let mut bytes = vec![0_u8; COMMIT_HEAD_BYTES];
        record::encode(&record, &mut bytes);
        let head = CommitHead { body_bytes: length_u32(bytes.len() - COMMIT_HEAD_BYTES), ..head };
        let taken = finish(tail, head, &mut bytes);
        self.store.write_at(tail.number, u64::from(tail.offset), &bytes)?;
        self.store.sync(tail.number)?;
        let at = At { segment: tail.number, offset: tail.offset };
        tail.first.get_or_insert(head.sequence);
        tail.offset += taken;
        Ok(at)
    }
}
