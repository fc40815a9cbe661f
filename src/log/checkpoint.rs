//! Checkpoints: why a restart reads what is live and not all that ever was.
//!
//! Owner: the committer; `cycle` is its conversation with the shards. A checkpoint is a stretch of
//! the log itself, between a BEGIN record and a COMPLETE record, in which every shard has staged
//! an image of all it remembers, piece by piece beside its other work. The commit of COMPLETE, and
//! every later one, carries the number of BEGIN's commit in its head: a restart begins there.
//!
//! Invariants
//! - BEGIN is the first record of its commit.
//! - Nothing is freed before the commit that carries the new mark is durable.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::commit::Committer;
use super::cycle::Phase;
use super::format::padded;
use super::record::{self, Kind, RECORD_HEADER_BYTES, Record};
use super::staging::Lane;
use super::store::Store;
use crate::limits;

/// `body_kind` of the first record of a checkpoint. `stream`: how many shards take part.
pub const CHECKPOINT_BEGIN: u32 = 1;
/// `body_kind` of a piece of an image. `stream`: the shard; `peer`: how many there are.
pub const CHECKPOINT_IMAGE: u32 = 2;
/// `body_kind` of the end of a shard's image. `stream`: the shard, `position`: its last one, so
/// that no epoch is forgotten.
pub const CHECKPOINT_END: u32 = 3;
/// `body_kind` of the last record of a checkpoint.
pub const CHECKPOINT_COMPLETE: u32 = 4;

/// How far the checkpoint under way is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is none.
    #[default]
    Idle,
    /// BEGIN waits for its commit.
    Begins,
    /// Shards settle.
    Settles,
    /// Shards stage their images.
    Images,
    /// COMPLETE waits for its commit.
    Completes,
}

/// The committer's side of checkpoints.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    progress: Progress,
    /// Number of the last checkpoint of this boot.
    number: u64,
    /// Number of the commit with the BEGIN of the one under way.
    mark: u64,
    /// Bytes committed since the last one began.
    pub(super) bytes_since: u64,
    /// Bytes of the last complete set of images.
    pub(super) image_bytes: u64,
    /// When the last one ended.
    ended_us: u64,
    /// How many in a row freed nothing.
    in_vain: u32,
    /// Segments with payloads that have to go, until they are freed.
    pub(super) to_scrub: BTreeSet<u32>,
    /// Records of the committer's own for the next commit.
    pub(super) own: Vec<u8>,
    /// Room leased for them.
    pub(super) own_granted: u64,
}

impl Checkpoints {
    /// Nothing is under way, and the images a restart reads have so many bytes.
    pub(super) fn after(image_bytes: u64) -> Self {
        Self { image_bytes, ..Self::default() }
    }
}

impl<S: Store> Committer<S> {
    /// Moves the checkpoint under way on, or begins one if it is time.
    pub(super) fn drive_checkpoint(&mut self) {
        self.shared.cycle.news.store(false, Ordering::Release);
        let shards = self.wakes.len();
        let number = self.checkpoints.number;
        let progress = self.checkpoints.progress;
        match progress {
            Progress::Idle if self.wants_checkpoint() => self.begin_checkpoint(),
            Progress::Settles if self.shared.cycle.settled() == shards => {
                self.checkpoints.progress = Progress::Images;
                self.shared.cycle.enter(Phase::Image(number));
                self.wake_all();
            }
            Progress::Images if self.shared.cycle.reported() == shards && self.own_complete() => {
                self.checkpoints.progress = Progress::Completes;
                self.log.redo = self.checkpoints.mark;
            }
            _ => {}
        }
    }

    fn wants_checkpoint(&self) -> bool {
        let cycle = &self.shared.cycle;
        let rested = self.checkpoints.number == 0 || self.now_us >= self.rested_us();
        let many = self.settings.segment_bytes * limits::CHECKPOINT_SEGMENTS;
        let due = self.checkpoints.bytes_since >= many.max(self.checkpoints.image_bytes * 2);
        let late = self.now_us >= self.latest_us();
        // Acquire: pairs with the Release in `Stage::want_checkpoint`.
        due || late || (rested && cycle.wanted.load(Ordering::Acquire))
    }

    /// When a checkpoint may begin that a shard asked for.
    fn rested_us(&self) -> u64 {
        let mut pause_ms = self.settings.checkpoint_gap_ms;
        if self.shared.is_blocked() {
            let doubled = limits::CHECKPOINT_FULL_GAP_MS << self.checkpoints.in_vain.min(16);
            pause_ms = pause_ms.min(doubled);
        }
        self.checkpoints.ended_us.saturating_add(pause_ms * 1000)
    }

    /// When the next checkpoint begins at the latest.
    fn latest_us(&self) -> u64 {
        self.checkpoints.ended_us.saturating_add(self.settings.checkpoint_ms_max * 1000)
    }

    /// When a checkpoint has to begin that only waits for its time.
    pub(super) fn checkpoint_due_us(&self) -> Option<u64> {
        if self.checkpoints.progress != Progress::Idle {
            return None;
        }
        let wanted = self.shared.cycle.wanted.load(Ordering::Acquire);
        let wanted = wanted.then(|| self.rested_us());
        wanted.into_iter().chain([self.latest_us()]).min()
    }

    fn begin_checkpoint(&mut self) {
        self.checkpoints.number += 1;
        if !self.own_record(CHECKPOINT_BEGIN, &[]) {
            self.checkpoints.number -= 1;
            return;
        }
        let wanted = self.shared.cycle.wanted.swap(false, Ordering::AcqRel);
        let age_ms = self.settings.scrub_age_ms;
        if wanted || self.log.time_ms >= self.log.begun_ms.saturating_add(age_ms) {
            // Payloads have to go: only what is sealed can be freed.
            self.leave_segment();
        }
        self.checkpoints.progress = Progress::Begins;
    }

    /// Encodes a record of the committer's own for the next commit. False: there is no room now.
    fn own_record(&mut self, body_kind: u32, payload: &[u8]) -> bool {
        let bytes = padded((RECORD_HEADER_BYTES + payload.len()) as u64);
        let Some(granted) = self.shared.lease(bytes, Lane::End) else {
            self.shared.ask();
            return false;
        };
        let record = Record {
            body_kind,
            stream: self.wakes.len() as u64,
            time_ms: self.log.time_ms,
            aux: self.checkpoints.number,
            payload,
            ..Record::blank(Kind::Checkpoint)
        };
        self.checkpoints.own_granted += granted;
        record::encode(&record, &mut self.checkpoints.own);
        true
    }

    /// COMPLETE, with the segments that have to be emptied: a restart must not forget them.
    fn own_complete(&mut self) -> bool {
        self.shared.cycle.add_scrubs(&mut self.checkpoints.to_scrub);
        self.forget_scrubbed();
        let named = self.checkpoints.to_scrub.iter().take(limits::SCRUBS_NAMED_MAX);
        let payload: Vec<u8> = named.flat_map(|segment| segment.to_le_bytes()).collect();
        self.own_record(CHECKPOINT_COMPLETE, &payload)
    }

    /// Goes on in the next segment if there is one and the room in this one can be done without.
    fn leave_segment(&mut self) {
        let unused = self.usable(&self.log.current);
        if self.log.current.first.is_none() || self.log.spares.is_empty() {
            return;
        }
        if unused == 0 {
            self.advance();
        } else if self.shared.take(unused) {
            self.enter_next();
        }
    }

    /// A commit with records of the committer's own is durable; it had number `sequence`.
    pub(super) fn own_committed(&mut self, sequence: u64) {
        match self.checkpoints.progress {
            Progress::Begins => {
                self.checkpoints.mark = sequence;
                self.checkpoints.bytes_since = 0;
                self.checkpoints.progress = Progress::Settles;
                self.shared.cycle.enter(Phase::Settle(self.checkpoints.number));
                self.wake_all();
            }
            Progress::Completes => {
                self.checkpoints.progress = Progress::Idle;
                self.checkpoints.ended_us = self.now_us;
                let image_bytes = self.shared.cycle.image_bytes.load(Ordering::Relaxed);
                self.checkpoints.image_bytes = image_bytes;
                self.shared.reserve_for_images(image_bytes);
                self.shared.cycle.enter(Phase::None);
                let reports = self.shared.cycle.take_reports();
                let freed = self.reclaim(&reports);
                let in_vain = self.checkpoints.in_vain.saturating_add(1);
                self.checkpoints.in_vain = if freed { 0 } else { in_vain };
            }
            _ => {}
        }
    }
}
