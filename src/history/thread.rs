//! The loop of the history thread: answer, follow, sweep, sleep.
//!
//! Owner: the history thread. All waiting and all clocks of history are here: what ends, ends by
//! the [`ExpiryClock`] the inboxes use, never by the wall clock. A disk that refuses is tried
//! again; nothing is lost by that, because the log keeps what was not applied.

use std::sync::atomic::{AtomicBool, Ordering};

use super::HistoryError;
use super::store::Store;
use crate::clock::{ExpiryClock, Now};
use crate::limits;
use crate::log::{FollowError, Follower, Record, Store as LogStore};
use crate::shard::{Answer, Ask, Found};
use wire::Refusal;

/// See the module.
#[derive(Debug)]
pub struct History<S> {
    store: Store,
    follower: Follower<S>,
    pub(super) expiry: ExpiryClock,
    /// Milliseconds of a monotonic clock: not before this the log is looked at.
    follow_due_ms: u64,
    sweep_due_ms: u64,
    /// The log could not be followed, and it was said.
    in_trouble: bool,
    /// Not before this it is said again that a question, or a look for what ended, failed.
    quiet_until_ms: u64,
    was_behind: bool,
    missed: u64,
}

impl<S: LogStore> History<S> {
    /// Puts it together; `follower` was opened after `store.done()`. What ends, ends by `expiry`.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn new(
        mut store: Store,
        follower: Follower<S>,
        expiry: ExpiryClock,
    ) -> Result<Self, HistoryError> {
        if follower.missed() > 0 {
            store.note_gaps()?;
        }
        Ok(Self {
            store,
            follower,
            expiry,
            follow_due_ms: 0,
            sweep_due_ms: 0,
            in_trouble: false,
            quiet_until_ms: 0,
            was_behind: false,
            missed: 0,
        })
    }

    /// Answers one question.
    pub fn answer(&mut self, ask: &Ask, now: Now) -> Answer {
        let ended_ms = self.ended_ms(now);
        let found = match self.store.answer(ask.user, ask.request, ask.question, ended_ms) {
            Ok(found) => found,
            Err(error) => {
                self.complain("a question could not be answered", &error, now);
                Found::Refused(Refusal::StoreFailed)
            }
        };
        Answer { conn: ask.conn, request: ask.request, found }
    }

    /// Follows the log and sweeps, as far as that is due, at most one batch of each. Returns
    /// whether there is more to do at once.
    pub fn step(&mut self, now: Now, stop: &AtomicBool) -> bool {
        let mono_ms = now.mono_ms;
        let mut more = false;
        if mono_ms >= self.sweep_due_ms && !stop.load(Ordering::Acquire) {
            self.sweep_due_ms = mono_ms + limits::HISTORY_SWEEP_MS;
            match self.store.sweep(self.ended_ms(now)) {
                Ok(true) => {
                    self.sweep_due_ms = mono_ms;
                    more = true;
                }
                Ok(false) => {}
                Err(error) => self.complain("what has ended could not be removed", &error, now),
            }
        }
        if mono_ms >= self.follow_due_ms {
            self.follow_due_ms = mono_ms + limits::HISTORY_GAP_MS;
            match self.follow(now) {
                Ok(true) => {
                    self.follow_due_ms = mono_ms;
                    more = true;
                }
                Ok(false) => {}
                Err(error) => {
                    self.say(&error);
                    self.follow_due_ms = mono_ms + limits::HISTORY_RETRY_MS;
                }
            }
        }
        more
    }

    /// What ends at this time or before has ended; by 0 nothing has.
    fn ended_ms(&self, now: Now) -> u64 {
        self.expiry.now_ms(now).unwrap_or(0)
    }

    /// Applies one batch of commits. True: it was a full one.
    ///
    /// # Errors
    /// [`HistoryError`]; the same commits are applied by the next call.
    pub fn follow(&mut self, now: Now) -> Result<bool, HistoryError> {
        let ended_ms = self.ended_ms(now);
        let Self { store, follower, .. } = self;
        if follower.behind() == 0 {
            return Ok(false);
        }
        let mark = follower.mark();
        let applied = apply(store, follower, ended_ms);
        let full = match applied {
            Ok(applied) => applied,
            Err(error) => {
                follower.rewind(mark);
                return Err(error);
            }
        };
        follower.release();
        self.in_trouble = false;
        self.report();
        Ok(full)
    }

    /// Applies all that is durable.
    ///
    /// # Errors
    /// As [`History::follow`].
    pub fn catch_up(&mut self, now: Now) -> Result<(), HistoryError> {
        while self.follower.behind() > 0 {
            self.follow(now)?;
        }
        Ok(())
    }

    /// The tables and payloads.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    fn report(&mut self) {
        let behind = self.follower.behind();
        if (behind > limits::HISTORY_BEHIND_COMMITS) != self.was_behind {
            self.was_behind = !self.was_behind;
            let what = if self.was_behind {
                "is behind: what it has not read keeps its place in the log. Mind the disk"
            } else {
                "has caught up"
            };
            eprintln!("myriad: history {what} ({behind} commits)");
        }
        if self.follower.missed() > self.missed {
            let missed = self.follower.missed() - self.missed;
            self.missed = self.follower.missed();
            eprintln!(
                "myriad: history starts {missed} commits after its last one: the log has no \
                 earlier ones any more. What they held is not in history"
            );
        }
    }

    /// The log could not be followed.
    fn say(&mut self, error: &HistoryError) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            let outlook = if error.is_final() {
                "Trying again will not help, although it does every second"
            } else {
                "It tries again every second"
            };
            eprintln!(
                "myriad: history can't go on: {error}. {outlook}; messages are not affected, and \
                 the log keeps what history has not read, so mind the disk"
            );
        }
    }

    /// Something else failed, and following the log goes on.
    fn complain(&mut self, what: &str, error: &HistoryError, now: Now) {
        if now.mono_ms < self.quiet_until_ms {
            return;
        }
        self.quiet_until_ms = now.mono_ms + limits::HISTORY_COMPLAINT_MS;
        eprintln!(
            "myriad: history: {what}: {error}. History goes on; the like is not said for {} s",
            limits::HISTORY_COMPLAINT_MS / 1000
        );
    }
}

/// One transaction: commits until a batch is full or none is left. What ended by `ended_ms` is not
/// kept. Returns whether it was full.
fn apply<S: LogStore>(
    store: &mut Store,
    follower: &mut Follower<S>,
    ended_ms: u64,
) -> Result<bool, HistoryError> {
    store.write_following(|batch| {
        let (mut records, mut bytes, mut done) = (0, 0, 0);
        loop {
            let mut result = Ok(());
            let mut each = |record: &Record<'_>| {
                records += 1;
                bytes += record.payload.len();
                if result.is_ok() {
                    result = batch.record(record, ended_ms);
                }
            };
            let next = follower.next(&mut each);
            result?;
            let next: Result<Option<u64>, FollowError> = next;
            let Some(sequence) = next? else { return Ok((done, false)) };
            done = sequence;
            let full = records >= limits::HISTORY_BATCH_RECORDS as u64
                || bytes >= limits::HISTORY_BATCH_BYTES;
            if full {
                return Ok((done, true));
            }
        }
    })
}
