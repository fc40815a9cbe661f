//! The committer: gathers the batches of all shards into one commit, writes it with one write,
//! syncs, and hands the batches back with their places.
//!
//! Owner: the committer thread ([`super::run_committer`]), or the simulator, which calls
//! [`Committer::step`] itself with the time of its own making.
//!
//! ```text
//!   | head | batch of shard 2 | batch of shard 0 | ... | zeros to 4 KiB |   one write, one sync
//! ```
//!
//! Invariants: batches of a stage are committed in the order they were handed over; nothing is
//! handed back before its sync succeeded; the first failed write or sync is the last thing ever
//! written; a commit never leaves its segment and there is always a segment for it (`room`).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bell::{Bell, Sleep};
use super::checkpoint::Checkpoints;
use super::file::segment_file_name;
use super::follow::Durable;
use super::format::{COMMIT_HEAD_BYTES, CommitHead, padded};
use super::pins::Pins;
use super::record::At;
use super::room::Shared;
use super::segment::{Opening, Sealed, Tail, length_u32, length_usize, seal_all};
use super::settings::Settings;
use super::staging::{Batch, Stage, StageEnds, Wake};
use super::store::Store;
use super::thread::Maker;
use crate::canary::{self, Canary};
use crate::limits;

/// What a step did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing to do before this time (microseconds, the caller's clock), or before the bell
    /// rings.
    Idle {
        /// When to call again at the latest; `None`: only when the bell rings.
        until_us: Option<u64>,
    },
    /// A commit became durable. Call again at once.
    Committed {
        /// Batches in it.
        batches: usize,
        /// Bytes written, padding included.
        bytes: u64,
        /// Records in it.
        records: u32,
    },
    /// A write or sync failed, now or earlier: the log is read-only. What the system said.
    Failed(String),
}

/// The one writer of the log.
pub struct Committer<S> {
    pub(super) store: S,
    pub(super) settings: Settings,
    pub(super) shared: Arc<Shared>,
    ends: Vec<StageEnds>,
    pub(super) wakes: Vec<Arc<dyn Wake>>,
    woken: Vec<bool>,
    pub(super) log: Opening,
    pub(super) durable: Arc<Durable>,
    pending: VecDeque<(usize, Batch)>,
    pending_bytes: u64,
    pending_urgent: bool,
    /// When the oldest pending batch was gathered.
    pending_since_us: u64,
    buffer: Vec<u8>,
    pub(super) now_us: u64,
    /// When the last commit ended; `None`: never.
    ended_us: Option<u64>,
    /// Batches were left over for want of space in the last commit.
    behind: bool,
    /// Commit at once, whatever the pace.
    hurry: bool,
    pub(super) maker: Option<Maker>,
    pub(super) retry_us: u64,
    /// Freed segments wait: one of them could not be taken out of the log.
    pub(super) passes_freed: bool,
    pub(super) error: Option<String>,
    pub(super) checkpoints: Checkpoints,
    pub(super) pins: Pins,
    /// Nobody needs these any more: to be overwritten.
    pub(super) freed: VecDeque<Sealed>,
}

impl<S> fmt::Debug for Committer<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Committer")
            .field("log", &self.log)
            .field("pending", &self.pending.len())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<S: Store> Committer<S> {
    pub(super) fn open(
        store: S,
        settings: &Settings,
        log: Opening,
        wakes: Vec<Arc<dyn Wake>>,
    ) -> (Vec<Stage>, Self) {
        let shared = Arc::new(Shared::new(settings, wakes.len()));
        let (stages, ends): (Vec<_>, Vec<_>) =
            wakes.iter().map(|_| Stage::new(settings, Arc::clone(&shared))).unzip();
        let mut committer = Self {
            store,
            settings: *settings,
            shared,
            ends,
            woken: vec![false; wakes.len()],
            wakes,
            pending: VecDeque::with_capacity(stages.len() * settings.batches_per_shard),
            pending_bytes: 0,
            pending_urgent: false,
            pending_since_us: 0,
            buffer: Vec::new(),
            now_us: 0,
            ended_us: None,
            behind: false,
            hurry: false,
            maker: None,
            retry_us: 0,
            passes_freed: false,
            error: None,
            durable: Arc::new(Durable::new(log.sequence - 1)),
            checkpoints: Checkpoints::after(log.image_bytes),
            pins: Pins::default(),
            freed: VecDeque::new(),
            log,
        };
        committer.shared.add(committer.usable(&committer.log.current));
        for spare in &committer.log.spares {
            committer.shared.add(committer.usable(spare));
        }
        committer.shared.reserve_for_images(committer.checkpoints.image_bytes);
        if committer.shared.room() < settings.reserve_bytes() + settings.batch_cost_max() {
            // Too little for the first message: the next segment cannot wait.
            committer.preallocate();
        }
        // Only now: whoever reads along has not said yet what it still needs.
        committer.freed = std::mem::take(&mut committer.log.freed);
        (stages, committer)
    }

    /// Gathers all stages and, if it is time, makes one commit durable.
    pub fn step(&mut self, now_us: u64) -> Step {
        self.now_us = now_us;
        if let Some(error) = &self.error {
            return Step::Failed(error.clone());
        }
        self.gather();
        self.preallocate();
        self.drive_checkpoint();
        match self.rest() {
            Some((until_us, _)) => Step::Idle { until_us },
            None => match self.commit() {
                Ok(step) => {
                    self.preallocate();
                    step
                }
                Err(error) => self.fail(error),
            },
        }
    }

    /// Wakes the thread that runs this committer, and stops it.
    #[must_use]
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.shared.bell)
    }

    /// How it would sleep now; `None`: it would not.
    pub(super) fn rest(&self) -> Option<(Option<u64>, Sleep)> {
        if self.pending.is_empty() && self.checkpoints.own.is_empty() {
            let wakes = earlier(self.retry_at(), self.checkpoint_due_us());
            return Some((wakes, Sleep::Deep));
        }
        if self.behind || self.hurry || !self.checkpoints.own.is_empty() {
            return None;
        }
        if !self.pending_urgent {
            let lazy_ms = if self.shared.is_full() {
                self.settings.lazy_ms.max(limits::COMMIT_LAZY_FULL_MS)
            } else {
                self.settings.lazy_ms
            };
            let due = self.pending_since_us + lazy_ms * 1000;
            if self.now_us < due {
                return Some((earlier(Some(due), self.retry_at()), Sleep::Doze));
            }
        }
        let due = self.ended_us.map_or(0, |ended| ended + self.settings.commit_gap_us);
        if self.now_us < due && self.pending_bytes < self.settings.commit_bytes_max() {
            return Some((earlier(Some(due), self.retry_at()), Sleep::Pause));
        }
        None
    }

    /// Whether a stage has handed something over that was not gathered, or a segment was made.
    pub(super) fn has_news(&self) -> bool {
        self.ends.iter().any(|ends| !ends.full.is_empty())
            || self.shared.urgent.load(Ordering::Acquire)
            || self.shared.short.load(Ordering::Acquire)
            || self.shared.cycle.news.load(Ordering::Acquire)
            || self.maker.as_ref().is_some_and(Maker::has_made)
    }

    /// Says when the commit of the last step ended, so that the gap counts from there; else it
    /// counts from the time given to that step.
    pub fn note_end(&mut self, now_us: u64) {
        self.ended_us = Some(now_us);
    }

    /// Whether everything gathered is durable.
    pub(super) fn is_drained(&self) -> bool {
        self.pending.is_empty()
    }

    /// From now on commits follow each other without pause.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Has segments made by another thread from now on.
    pub(super) fn use_maker(&mut self, maker: Maker) {
        self.maker = Some(maker);
    }

    /// Bytes of `tail` that may be granted; the rest may be wasted at its end (`room`).
    pub(super) fn usable(&self, tail: &Tail) -> u64 {
        tail.left().saturating_sub(self.settings.batch_cost_max())
    }

    fn gather(&mut self) {
        // Before the queues are looked at: what the stage waits for was handed over before this
        // was set, so it is found below, or else its hurry would be spent on nothing.
        // Acquire: pairs with the Release in `Stage::flush`. Loaded first: it is rarely set.
        let hurried = self.shared.urgent.load(Ordering::Acquire)
            && self.shared.urgent.swap(false, Ordering::Acquire);
        let was_empty = self.pending.is_empty();
        for (shard, ends) in self.ends.iter().enumerate() {
            while let Some(batch) = ends.full.pop() {
                self.pending_bytes += batch.bytes.len() as u64;
                self.pending_urgent |= batch.urgent;
                self.pending.push_back((shard, batch));
            }
        }
        if was_empty {
            self.pending_since_us = self.now_us;
        }
        self.pending_urgent |= hurried && !self.pending.is_empty();
    }

    fn commit(&mut self) -> io::Result<Step> {
        let own = self.checkpoints.own.len();
        let first = match self.pending.front() {
            Some((_, batch)) if own == 0 => batch.bytes.len(),
            _ => own,
        };
        if padded(first as u64) > self.log.current.left() {
            self.advance();
        }
        let offset = self.log.current.offset;
        let (taken, records) = self.assemble();
        let head = CommitHead {
            sequence: self.log.sequence,
            previous: self.log.previous,
            epoch: self.log.epoch,
            count: records,
            body_bytes: length_u32(self.buffer.len() - COMMIT_HEAD_BYTES),
            redo: self.log.redo,
        };
        let bytes = head.padded_bytes();
        head.encode(self.log.current.seed, offset, &mut self.buffer);
        self.buffer.resize(length_usize(bytes), 0);
        let segment = self.log.current.number;
        self.store.write_at(segment, u64::from(offset), &self.buffer)?;
        if !canary::is(Canary::AckBeforeSync) {
            self.store.sync(segment)?;
        }
        self.durable.publish(self.log.sequence);
        self.log.sequence += 1;
        self.log.previous = At { segment, offset };
        self.log.current.offset = offset + length_u32(length_usize(bytes));
        self.log.current.first.get_or_insert(head.sequence);
        self.checkpoints.bytes_since += bytes;
        self.publish(taken, bytes);
        if own > 0 {
            self.own_committed(head.sequence);
        }
        Ok(Step::Committed { batches: taken, bytes, records })
    }

    /// Moves on to the next segment, which `room` guarantees to be there.
    pub(super) fn advance(&mut self) {
        let wasted = self.log.current.left();
        self.enter_next();
        self.shared.add(self.settings.batch_cost_max() - wasted);
    }

    /// Goes on in the next segment.
    pub(super) fn enter_next(&mut self) {
        let next = self.log.spares.pop_front();
        assert!(next.is_some(), "a batch was granted and there is no segment for it");
        if let Some(next) = next {
            let former = std::mem::replace(&mut self.log.current, next);
            if let Some(first) = former.first {
                let Tail { number, bytes, .. } = former;
                let begun_ms = self.log.begun_ms;
                self.log.sealed.push_back(Sealed { number, first, bytes, begun_ms });
                self.log.begun_ms = self.log.time_ms;
            }
        }
    }

    /// Copies as many pending batches as fit into the commit buffer and seals their records.
    fn assemble(&mut self) -> (usize, u32) {
        let Tail { number, seed, offset, .. } = self.log.current;
        let limit = self.settings.commit_bytes_max().min(self.log.current.left());
        self.buffer.clear();
        self.buffer.resize(COMMIT_HEAD_BYTES, 0);
        // The committer's own record first: a mark must not have anything before it.
        let (mut taken, mut records) = (0, u32::from(!self.checkpoints.own.is_empty()));
        self.buffer.append(&mut self.checkpoints.own);
        for (_, batch) in &mut self.pending {
            let body = self.buffer.len() - COMMIT_HEAD_BYTES + batch.bytes.len();
            if padded(body as u64) > limit {
                break;
            }
            batch.base = At { segment: number, offset: offset + length_u32(self.buffer.len()) };
            self.buffer.extend_from_slice(&batch.bytes);
            taken += 1;
            records += batch.count;
            self.log.time_ms = self.log.time_ms.max(batch.time_ms);
        }
        assert!(records > 0, "a batch that was granted does not fit an empty segment");
        seal_all(seed, offset, &mut self.buffer);
        (taken, records)
    }

    /// Hands the first `taken` pending batches back to their shards.
    fn publish(&mut self, taken: usize, bytes: u64) {
        let mut granted = std::mem::take(&mut self.checkpoints.own_granted);
        for (shard, batch) in self.pending.drain(..taken) {
            granted += batch.granted;
            self.pending_bytes -= batch.bytes.len() as u64;
            self.woken[shard] = true;
            let refused = self.ends[shard].back.push(batch);
            assert!(refused.is_ok(), "more batches than were made");
        }
        self.shared.add(granted - bytes);
        self.behind = !self.pending.is_empty();
        self.pending_urgent = self.behind;
        self.ended_us = Some(self.now_us);
        for (shard, woken) in self.woken.iter_mut().enumerate() {
            if std::mem::take(woken) {
                self.wakes[shard].wake();
            }
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "the error ends here")]
    fn fail(&mut self, error: io::Error) -> Step {
        let name = segment_file_name(self.log.current.number);
        let error = format!("{name} at byte {}: {error}", self.log.current.offset);
        self.shared.fail();
        self.error = Some(error.clone());
        self.wake_all();
        Step::Failed(error)
    }

    pub(super) fn wake_all(&self) {
        for wake in &self.wakes {
            wake.wake();
        }
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
