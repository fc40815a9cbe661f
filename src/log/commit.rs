//! The committer: gathers the batches of all shards into one commit, writes it with one write,
//! syncs, and hands the batches back with their places.
//!
//! Owner: the committer thread ([`super::run_committer`]), or the simulator, which calls
//! [`Committer::step`] itself with the time of its own making.
//!
//! ```text
//!   | commit head | batch of shard 2 | batch of shard 0 | ... | zeros to 4 KiB |   one write, one sync
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

use crate::limits;

use super::bell::{Bell, Sleep};
use super::file::segment_file_name;
use super::format::{COMMIT_HEAD_BYTES, CommitHead, FIRST_COMMIT, SegmentHead, padded};
use super::record::{self, At, seed_of};
use super::room::Shared;
use super::settings::Settings;
use super::staging::{Batch, Stage, StageEnds, Wake};
use super::store::Store;
use super::thread::Maker;

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

/// A segment that can be appended to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) number: u32,
    pub(super) seed: u32,
    /// Where the next commit starts.
    pub(super) offset: u32,
    pub(super) bytes: u64,
}

impl Tail {
    pub(super) fn left(&self) -> u64 {
        self.bytes.saturating_sub(u64::from(self.offset))
    }
}

/// Where an opened log goes on.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) current: Tail,
    pub(super) spares: VecDeque<Tail>,
    /// Number of the next commit.
    pub(super) sequence: u64,
    /// Where the last commit starts.
    pub(super) previous: At,
    pub(super) epoch: u32,
    /// Number of the next segment to be made.
    pub(super) next_segment: u32,
    /// Segments there are.
    pub(super) segments: u64,
    /// Highest time of a record.
    pub(super) time_ms: u64,
}

/// The one writer of the log.
pub struct Committer<S> {
    pub(super) store: S,
    settings: Settings,
    pub(super) shared: Arc<Shared>,
    ends: Vec<StageEnds>,
    wakes: Vec<Arc<dyn Wake>>,
    woken: Vec<bool>,
    log: Opening,
    pending: VecDeque<(usize, Batch)>,
    pending_bytes: u64,
    pending_urgent: bool,
    /// When the oldest pending batch was gathered.
    pending_since_us: u64,
    buffer: Vec<u8>,
    now_us: u64,
    /// When the last commit ended; `None`: never, or it is to be noted at the next step.
    ended_us: Option<u64>,
    just_committed: bool,
    /// Batches were left over for want of space in the last commit.
    behind: bool,
    /// Commit at once, whatever the pace.
    hurry: bool,
    maker: Option<Maker>,
    retry_us: u64,
    create_error: Option<String>,
    error: Option<String>,
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
        let committer = Self {
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
            just_committed: false,
            behind: false,
            hurry: false,
            maker: None,
            retry_us: 0,
            create_error: None,
            error: None,
            log,
        };
        committer.shared.add(committer.usable(&committer.log.current));
        for spare in &committer.log.spares {
            committer.shared.add(committer.usable(spare));
        }
        (stages, committer)
    }

    /// Gathers all stages and, if it is time, makes one commit durable.
    pub fn step(&mut self, now_us: u64) -> Step {
        self.now_us = now_us;
        if let Some(error) = &self.error {
            return Step::Failed(error.clone());
        }
        if self.just_committed {
            self.just_committed = false;
            self.ended_us = Some(now_us);
        }
        self.gather();
        self.preallocate();
        match self.rest() {
            Some((until_us, _)) => Step::Idle { until_us },
            None => match self.commit() {
                Ok(step) => step,
                Err(error) => self.fail(error),
            },
        }
    }

    /// Makes the next segment ready if there is none. `step` calls it; in the committer thread the
    /// slow part runs on a thread beside it. Without room it tries again a second later.
    pub fn preallocate(&mut self) {
        if !self.log.spares.is_empty() || self.error.is_some() {
            return;
        }
        if let Some(maker) = &mut self.maker
            && let Some((segment, result)) = maker.take_made()
        {
            return self.adopt(segment, result);
        }
        if self.now_us < self.retry_us || self.maker.as_ref().is_some_and(Maker::is_busy) {
            return;
        }
        let Some(next) = self.log.next_segment.checked_add(1) else {
            return self.block("segment numbers are used up".to_owned());
        };
        if let Some(bytes_max) = self.settings.log_bytes_max
            && (self.log.segments + 1) * self.settings.segment_bytes > bytes_max
        {
            return self.block(format!("the log may not grow beyond {bytes_max} bytes"));
        }
        let segment = self.log.next_segment;
        self.log.next_segment = next;
        if let Some(maker) = &mut self.maker {
            maker.want(segment, self.settings.segment_bytes);
        } else {
            let result = self.store.create(segment, self.settings.segment_bytes);
            self.adopt(segment, result);
        }
    }

    /// Wakes the thread that runs this committer, and stops it.
    #[must_use]
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.shared.bell)
    }

    /// Why no further segment can be had, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.create_error.as_deref()
    }

    /// How it would sleep now; `None`: it would not.
    pub(super) fn rest(&self) -> Option<(Option<u64>, Sleep)> {
        if self.pending.is_empty() {
            return Some((self.retry_at(), Sleep::Deep));
        }
        if self.behind || self.hurry {
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
            || self.maker.as_ref().is_some_and(Maker::has_made)
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

    fn retry_at(&self) -> Option<u64> {
        let waits = self.log.spares.is_empty() && self.retry_us > self.now_us;
        waits.then_some(self.retry_us)
    }

    /// Bytes of `tail` that may be granted; the rest may be wasted at its end (`room`).
    fn usable(&self, tail: &Tail) -> u64 {
        tail.left().saturating_sub(self.settings.batch_cost_max())
    }

    fn gather(&mut self) {
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
        // Acquire: pairs with the Release in `Stage::flush`. Looked at first: it is rarely set.
        if self.shared.urgent.load(Ordering::Acquire)
            && self.shared.urgent.swap(false, Ordering::Acquire)
        {
            self.pending_urgent |= !self.pending.is_empty();
        }
    }

    fn commit(&mut self) -> io::Result<Step> {
        let first = self.pending.front().map_or(0, |(_, batch)| batch.bytes.len());
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
        };
        let bytes = head.padded_bytes();
        head.encode(self.log.current.seed, offset, &mut self.buffer);
        self.buffer.resize(length_usize(bytes), 0);
        let segment = self.log.current.number;
        self.store.write_at(segment, u64::from(offset), &self.buffer)?;
        self.store.sync(segment)?;
        self.log.sequence += 1;
        self.log.previous = At { segment, offset };
        self.log.current.offset = offset + length_u32(length_usize(bytes));
        self.publish(taken, bytes);
        Ok(Step::Committed { batches: taken, bytes, records })
    }

    /// Moves on to the next segment, which `room` guarantees to be there.
    fn advance(&mut self) {
        let wasted = self.log.current.left();
        let next = self.log.spares.pop_front();
        assert!(next.is_some(), "a batch was granted and there is no segment for it");
        if let Some(next) = next {
            self.log.current = next;
            self.shared.add(self.settings.batch_cost_max() - wasted);
        }
    }

    /// Copies as many pending batches as fit into the commit buffer and seals their records.
    fn assemble(&mut self) -> (usize, u32) {
        let Tail { number, seed, offset, .. } = self.log.current;
        let limit = self.settings.commit_bytes_max().min(self.log.current.left());
        self.buffer.clear();
        self.buffer.resize(COMMIT_HEAD_BYTES, 0);
        let (mut taken, mut records) = (0, 0);
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
        assert!(taken > 0, "a batch that was granted does not fit an empty segment");
        seal_all(seed, offset, &mut self.buffer);
        (taken, records)
    }

    /// Hands the first `taken` pending batches back to their shards.
    fn publish(&mut self, taken: usize, bytes: u64) {
        let mut granted = 0;
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
        self.just_committed = true;
        for (shard, woken) in self.woken.iter_mut().enumerate() {
            if std::mem::take(woken) {
                self.wakes[shard].wake();
            }
        }
    }

    fn adopt(&mut self, segment: u32, result: io::Result<()>) {
        let head = SegmentHead {
            segment,
            epoch: self.log.epoch,
            generation: generation(self.log.epoch, segment, self.store.salt()),
            bytes: self.settings.segment_bytes,
            time_ms: self.log.time_ms,
        };
        match result.and_then(|()| write_head(&mut self.store, &head)) {
            Ok(tail) => {
                self.log.segments += 1;
                self.log.spares.push_back(tail);
                self.shared.add(self.usable(&tail));
                if self.shared.is_blocked() {
                    self.shared.block(false);
                    self.create_error = None;
                    self.wake_all();
                }
            }
            Err(error) => {
                // If it is there without a head, recovery takes it for what it is.
                let _ = self.store.remove(segment);
                self.block(format!("making {}: {error}", segment_file_name(segment)));
            }
        }
    }

    fn block(&mut self, error: String) {
        self.retry_us = self.now_us + limits::SEGMENT_RETRY_MS * 1000;
        self.create_error = Some(error);
        if !self.shared.is_blocked() {
            self.shared.block(true);
            self.wake_all();
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

    fn wake_all(&self) {
        for wake in &self.wakes {
            wake.wake();
        }
    }
}

/// Fills in the checksum of each record of a commit that starts at `offset`.
pub(super) fn seal_all(seed: u32, offset: u32, commit: &mut [u8]) {
    let mut at = COMMIT_HEAD_BYTES;
    while at < commit.len() {
        let sealed = record::seal(seed, offset + length_u32(at), &mut commit[at..]);
        // These are bytes this process has just encoded.
        let Ok(padded) = sealed else { panic!("a staged record is malformed: {sealed:?}") };
        at += padded;
    }
}

/// What tells this use of a segment from all others.
pub(super) fn generation(epoch: u32, segment: u32, salt: u64) -> u64 {
    (u64::from(epoch) << 32 | u64::from(segment)) ^ salt
}

/// Writes the head of a segment and syncs it: from now on commits may follow.
pub(super) fn write_head<S: Store>(store: &mut S, head: &SegmentHead) -> io::Result<Tail> {
    store.write_at(head.segment, 0, &head.encode())?;
    store.sync(head.segment)?;
    Ok(Tail {
        number: head.segment,
        seed: seed_of(head.generation),
        offset: FIRST_COMMIT,
        bytes: head.bytes,
    })
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A length within a segment; segments are smaller than 4 GiB.
pub(super) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A length within a segment.
pub(super) fn length_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
