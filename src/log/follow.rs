//! Following the log from beside: every committed record, once, in log order, far from the shards.
//!
//! Owner: [`Durable`] is shared by the committer, which publishes, and whoever follows. A
//! [`Follower`] belongs to one thread; it reads through a store of its own, never writes, and pins
//! the segments it still needs.
//!
//! A follower remembers the *number* of the last commit it is done with. Numbers are stable:
//! recovery copies the last commits to a fresh segment under the same numbers, so places change
//! and numbers do not.
//!
//! Invariants: nothing beyond the durable mark is handed out; commits come without a gap, unless
//! the log no longer has them, and then [`Follower::missed`] says how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::commit::Committer;
use super::format::FIRST_COMMIT;
use super::head::{Head, damaged_head, read_head};
use super::look::next_head;
use super::pins::{Pin, Pins};
use super::record::{Flaw, Record};
use super::report::{RecoverError, failed};
use super::store::Store;
use super::whole::{Commit, Found, read_commit};

/// Up to where the log is durable.
#[derive(Debug)]
pub struct Durable(AtomicU64);

impl Durable {
    /// A log whose last durable commit has this number.
    #[must_use]
    pub fn new(sequence: u64) -> Self {
        Self(AtomicU64::new(sequence))
    }

    /// Number of the last commit that was synced.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`.
        self.0.load(Ordering::Acquire)
    }

    /// Commit number `sequence` was synced.
    pub(super) fn publish(&self, sequence: u64) {
        // Release: pairs with the Acquire in `sequence`; what it speaks of is on the disk.
        self.0.store(sequence, Ordering::Release);
    }
}

impl<S> Committer<S> {
    /// Up to where the log is durable, for those who follow it.
    #[must_use]
    pub fn durable(&self) -> Arc<Durable> {
        Arc::clone(&self.durable)
    }
}

/// Why following stopped.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The disk refused, or a segment is of another version.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// A commit that was durable is not where it must be. Trying again does not cure it.
    #[error(
        "commit {0} can't be found in the log; stop the server, run `myriad log verify` on the \
         data folder and see docs/operations.md"
    )]
    Lost(u64),
    /// Whoever follows has seen more than there is.
    #[error(
        "it was read up to commit {done} before, and the log ends at commit {last}: the end of \
         the log is missing, or this log is another one. Restore a backup, see docs/operations.md"
    )]
    Ahead {
        /// Read before.
        done: u64,
        /// The last one there is.
        last: u64,
    },
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
    /// now on the segments it needs are pinned.
    ///
    /// # Errors
    /// [`FollowError`]; [`FollowError::Ahead`] if `done` is beyond the end.
    pub fn open(
        store: S,
        durable: Arc<Durable>,
        pins: &Pins,
        done: u64,
    ) -> Result<Self, FollowError> {
        let last = durable.sequence();
        if done > last {
            return Err(FollowError::Ahead { done, last });
        }
        let pin = pins.pin(0); // until it is known which
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
        let bytes = self.commit.head.padded_u32();
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
    /// (what an earlier segment holds of it is void). If it is gone (segments are freed when nobody
    /// needs them, also from between others) it goes on with the next commit there is.
    fn seek(&mut self) -> Result<(), FollowError> {
        let mut next: Option<(u64, Found)> = None;
        let mut numbers = self.segments()?;
        while let Some(number) = numbers.pop() {
            let Some((first, found)) = self.first_of(number)? else { continue };
            if first <= self.due {
                self.skip_to_due(Place { found, offset: FIRST_COMMIT })?;
                if self.read_due()? {
                    return Ok(());
                }
                break;
            }
            if next.as_ref().is_none_or(|(known, _)| first < *known) {
                next = Some((first, found));
            }
        }
        let Some((first, found)) = next else { return Err(FollowError::Lost(self.due)) };
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
            offset += self.commit.head.padded_u32();
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
    fn first_of(&mut self, segment: u32) -> Result<Option<(u64, Found)>, FollowError> {
        match read_head(&self.store, segment, &mut self.commit)? {
            Head::Gone | Head::Blank => Ok(None),
            Head::Damaged(what) => Err(damaged_head(segment, what).into()),
            Head::Valid(found) => match found.first {
                Some(first) => Ok(Some((first, found))),
                // What is durable in it must not be passed over as if it were not there.
                None => match next_head(&self.store, &found, FIRST_COMMIT, 0)? {
                    Some((place, head)) if head.sequence <= self.durable.sequence() => {
                        let is_first = place == FIRST_COMMIT;
                        Err(FollowError::Lost(head.sequence - u64::from(!is_first)))
                    }
                    _ => Ok(None),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Kind, Lane, Settings, SharedMemory, Stage, Wake, next_epoch, recover};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    struct Log {
        disk: SharedMemory,
        stage: Stage,
        committer: Committer<SharedMemory>,
        written: u64,
    }

    fn open(disk: SharedMemory, written: u64) -> Log {
        let settings = Settings::small();
        let (recovered, _) = recover(disk.clone(), &settings, &mut |_, _| {}).unwrap();
        let epoch = next_epoch(recovered.highest_epoch, 0);
        let (mut stages, committer) = recovered.start(epoch, vec![Arc::new(NoWake)]).unwrap();
        Log { disk, stage: stages.remove(0), committer, written }
    }

    impl Log {
        /// Commits of one record each.
        fn write(&mut self, count: u64) {
            for _ in 0..count {
                self.written += 1;
                let record = Record { client_id: self.written, ..Record::blank(Kind::Message) };
                self.stage.append(Lane::Message, &record).unwrap();
                self.stage.flush();
                self.committer.step(self.written * 1_000_000_000);
                while self.stage.committed().is_some() {}
            }
        }

        fn follow(&self, done: u64) -> Follower<SharedMemory> {
            let committer = &self.committer;
            let (durable, pins) = (committer.durable(), committer.pins());
            Follower::open(self.disk.clone(), durable, &pins, done).unwrap()
        }
    }

    /// Reads everything; the ids of the messages and the number of the last commit.
    fn read(follower: &mut Follower<SharedMemory>) -> (Vec<u64>, u64) {
        let (mut ids, mut done) = (Vec::new(), 0);
        let mut each = |record: &Record<'_>| {
            if record.kind == Kind::Message {
                ids.push(record.client_id);
            }
        };
        while let Some(sequence) = follower.next(&mut each).unwrap() {
            done = sequence;
        }
        (ids, done)
    }

    #[test]
    fn every_commit_comes_once_across_segments_and_restarts() {
        let mut log = open(SharedMemory::new(), 0);
        let mut follower = log.follow(0);
        log.write(5);
        let (ids, _) = read(&mut follower);
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        assert!(read(&mut follower).0.is_empty(), "nothing beyond the durable mark");
        let mut seen = ids;
        let mut done = 0;
        for _ in 0..10 {
            log.write(4);
            let (ids, last) = read(&mut follower);
            seen.extend(ids);
            done = done.max(last);
            log = open(log.disk.clone(), log.written);
            follower = log.follow(done); // places changed, numbers did not
        }
        assert_eq!(seen, (1..=log.written).collect::<Vec<_>>());
        assert_eq!(follower.missed(), 0);
    }

    #[test]
    fn what_it_needs_is_pinned_and_nothing_else() {
        let mut log = open(SharedMemory::new(), 0);
        assert_eq!(log.committer.pins().lowest(), u32::MAX);
        let mut follower = log.follow(0);
        let first = log.committer.pins().lowest();
        log.write(12);
        read(&mut follower);
        assert_eq!(log.committer.pins().lowest(), first, "not before it is released");
        follower.release();
        let later = log.committer.pins().lowest();
        assert!(later > first && later <= log.disk.segments().unwrap().into_iter().max().unwrap());
        drop(follower);
        assert_eq!(log.committer.pins().lowest(), u32::MAX);
    }

    #[test]
    fn what_is_gone_is_counted_and_the_rest_still_comes() {
        let mut log = open(SharedMemory::new(), 0);
        log.write(12);
        let mut segments = log.disk.segments().unwrap();
        segments.sort_unstable();
        // One from the beginning and one from between others.
        for gone in [segments[0], segments[2]] {
            log.disk.remove(gone).unwrap();
        }
        let mut follower = log.follow(0);
        let (ids, last) = read(&mut follower);
        assert_eq!(last, log.committer.durable().sequence());
        assert!(follower.missed() > 0);
        assert_eq!(ids.last(), Some(&12));
        assert!(ids.is_sorted() && ids.len() < 12 && ids.len() > 2, "{ids:?}");
    }

    #[test]
    fn a_rewound_follower_says_the_same_again() {
        let mut log = open(SharedMemory::new(), 0);
        log.write(9);
        let mut follower = log.follow(0);
        let mark = follower.mark();
        let once = read(&mut follower);
        follower.rewind(mark);
        assert_eq!(read(&mut follower), once);
    }
}
