//! Following the log from beside: every committed record, once, in log order, far from the shards.
//!
//! Owner: [`Durable`] is shared by the committer, which publishes, and whoever follows. A
//! [`Follower`] belongs to one thread; it reads through a store of its own and never writes.
//!
//! A follower remembers the *number* of the last commit it is done with. Numbers are stable:
//! recovery copies the last commits to a fresh segment under the same numbers, so places change
//! and numbers do not.
//!
//! Invariants: nothing beyond the durable mark is handed out; commits come without a gap, unless
//! the log no longer has them, and then [`Follower::missed`] says how many; no segment at or above
//! its pin may be freed.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::format::{COMMIT_HEAD_BYTES, CommitHead, FIRST_COMMIT, SEGMENT_HEAD_BYTES, SegmentHead};
use super::pins::{Pin, Pins};
use super::record::{Flaw, Record, seed_of};
use super::report::{RecoverError, failed};
use super::segment::{length_u32, length_usize};
use super::store::Store;
use super::whole::{Commit, Found, read, read_commit};

/// Up to where the log is durable, and from where on somebody still needs it.
#[derive(Debug)]
pub struct Durable {
    sequence: AtomicU64,
    pins: Pins,
}

impl Durable {
    /// A log whose last durable commit has this number, and that nobody follows.
    #[must_use]
    pub fn new(sequence: u64, pins: Pins) -> Self {
        Self { sequence: AtomicU64::new(sequence), pins }
    }

    /// Number of the last commit that was synced.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`.
        self.sequence.load(Ordering::Acquire)
    }

    /// Commit number `sequence` was synced.
    pub(super) fn publish(&self, sequence: u64) {
        // Release: pairs with the Acquire in `sequence`; what it speaks of is on the disk.
        self.sequence.store(sequence, Ordering::Release);
    }

    /// A follower's hold on the segments it needs.
    fn pin(&self) -> Pin {
        self.pins.pin(0)
    }
}

/// Why following stopped.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The disk refused, or a segment is of another version.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// A commit that was durable is not where it must be.
    #[error("commit {0} can't be found in the log; run `myriad log verify` on the data folder")]
    Lost(u64),
}

/// Where the next commit is expected.
#[derive(Debug)]
struct Place {
    found: Found,
    offset: u32,
}

/// Reads the log from beside.
#[derive(Debug)]
pub struct Follower<S> {
    store: S,
    durable: Arc<Durable>,
    pin: Pin,
    /// Number of the next commit.
    due: u64,
    place: Option<Place>,
    commit: Commit,
    missed: u64,
}

impl<S: Store> Follower<S> {
    /// Follows the log in `store` after commit number `done` (0: from the oldest there is). From
    /// now on the segments it needs are marked as needed.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn open(store: S, durable: Arc<Durable>, done: u64) -> Result<Self, FollowError> {
        let pin = durable.pin(); // everything, until it is known what
        let mut follower = Self {
            store,
            durable,
            pin,
            due: done + 1,
            place: None,
            commit: Commit::default(),
            missed: 0,
        };
        if follower.due <= follower.durable.sequence() {
            follower.seek()?;
        } else {
            follower.place = follower.newest()?;
        }
        follower.release();
        Ok(follower)
    }

    /// Hands out the records of the next commit and returns its number; `None`: there is none that
    /// is durable.
    ///
    /// # Errors
    /// [`FollowError`]; the same commit is tried again by the next call.
    pub fn next(&mut self, visit: &mut dyn FnMut(&Record<'_>)) -> Result<Option<u64>, FollowError> {
        if self.due > self.durable.sequence() {
            return Ok(None);
        }
        if !self.read_due()? {
            self.seek()?;
            if !self.read_due()? {
                return Err(FollowError::Lost(self.due));
            }
        }
        self.commit.visit(self.commit.at, &mut |_, record| visit(record));
        let bytes = length_u32(length_usize(self.commit.head.padded_bytes()));
        if let Some(place) = &mut self.place {
            place.offset += bytes;
        }
        self.due += 1;
        Ok(Some(self.due - 1))
    }

    /// Where it is, to come back to with [`Follower::rewind`].
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.due
    }

    /// Hands out again what was handed out since `mark`.
    pub fn rewind(&mut self, mark: u64) {
        self.due = mark;
        self.place = None;
    }

    /// Everything handed out so far is kept elsewhere: earlier segments may be freed.
    pub fn release(&self) {
        self.pin.move_to(self.place.as_ref().map_or(0, |place| place.found.head.segment));
    }

    /// Commits durable and not handed out.
    #[must_use]
    pub fn behind(&self) -> u64 {
        (self.durable.sequence() + 1).saturating_sub(self.due)
    }

    /// Commits the log no longer had when they were due.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Reads the commit that is due into `self.commit`, if it is at the place it is expected.
    fn read_due(&mut self) -> Result<bool, FollowError> {
        let Some(place) = &self.place else { return Ok(false) };
        match read_commit(&self.store, &place.found, place.offset, &mut self.commit)? {
            Ok(()) => Ok(self.commit.head.sequence == self.due),
            Err(Flaw::Newer(kind)) => Err(RecoverError::Newer { at: self.commit.at, kind }.into()),
            Err(_) => Ok(false),
        }
    }

    /// Finds the commit that is due: in the last segment that starts with it or an earlier one
    /// (what an earlier segment holds of it is void). Older than everything: goes on with the
    /// oldest commit there is.
    fn seek(&mut self) -> Result<(), FollowError> {
        let mut oldest: Option<(u64, Found)> = None;
        let mut numbers = self.segments()?;
        while let Some(number) = numbers.pop() {
            let Some((first, found)) = self.first_of(number)? else { continue };
            if first <= self.due {
                return self.skip_to_due(Place { found, offset: FIRST_COMMIT });
            }
            if oldest.as_ref().is_none_or(|(known, _)| first < *known) {
                oldest = Some((first, found));
            }
        }
        let Some((first, found)) = oldest else { return Err(FollowError::Lost(self.due)) };
        self.missed += first - self.due;
        self.due = first;
        self.place = Some(Place { found, offset: FIRST_COMMIT });
        Ok(())
    }

    fn skip_to_due(&mut self, place: Place) -> Result<(), FollowError> {
        let mut offset = place.offset;
        let found = place.found;
        loop {
            let whole = read_commit(&self.store, &found, offset, &mut self.commit)?.is_ok();
            if !whole || self.commit.head.sequence >= self.due {
                break;
            }
            offset += length_u32(length_usize(self.commit.head.padded_bytes()));
        }
        self.place = Some(Place { found, offset });
        Ok(())
    }

    /// The place after everything: nothing is due yet.
    fn newest(&mut self) -> Result<Option<Place>, FollowError> {
        let mut numbers = self.segments()?;
        while let Some(number) = numbers.pop() {
            if let Some((_, found)) = self.first_of(number)? {
                self.skip_to_due(Place { found, offset: FIRST_COMMIT })?;
                return Ok(self.place.take());
            }
        }
        Ok(None)
    }

    fn segments(&self) -> Result<Vec<u32>, FollowError> {
        let mut numbers =
            self.store.segments().map_err(|error| failed("listing segments", error))?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The number of the first commit of a segment; `None`: it has none (a spare), or it is gone.
    fn first_of(&self, segment: u32) -> Result<Option<(u64, Found)>, FollowError> {
        let mut page = [0_u8; SEGMENT_HEAD_BYTES];
        match self.store.read_at(segment, 0, &mut page) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading a segment", error).into()),
        }
        let Ok(head) = SegmentHead::decode(&page) else { return Ok(None) };
        let seed = seed_of(head.generation);
        let mut bytes = [0_u8; COMMIT_HEAD_BYTES];
        read(&self.store, segment, u64::from(FIRST_COMMIT), &mut bytes)?;
        let Ok(first) = CommitHead::decode(seed, FIRST_COMMIT, &bytes) else { return Ok(None) };
        let first = first.sequence;
        Ok(Some((first, Found { head, seed, first: Some(first), first_redo: 0 })))
    }
}
