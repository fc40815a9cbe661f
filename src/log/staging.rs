//! A shard's end of the log: records go into a private batch, batches to the committer and back.
//!
//! Owner: one shard per [`Stage`]; the two queues are the only thing shared with the committer.
//!
//! ```text
//!   free --append--> open --flush--> queue "full" --> committer --> queue "back" --committed-->
//!   free again
//! ```
//!
//! Invariants: a stage's batches come back in the order they were handed over; a batch holds at
//! most `batch_bytes`; a shard has at most `batches_per_shard` of them, all made at start, so
//! neither queue is ever full. Buffers are used last in, first out: a quiet shard touches few.

use std::fmt;
use std::sync::Arc;

use crate::sync::{ArrayQueue, Ordering};

use crate::canary::{self, Canary};
use crate::limits;

use super::cycle::{LiveReport, Phase};
use super::format::padded;
use super::record::{self, At, Kind, Record, encoded_bytes};
use super::room::Shared;
use super::settings::Settings;

/// Who an append is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Messages: refused first when the disk is full.
    Message,
    /// Acks, cursors, epochs: may use the last 5 %, or a full disk could never drain.
    Reserve,
    /// Copies that empty a segment: may use half of what is kept for acks.
    Copy,
    /// Parts of a checkpoint: have a reserve of their own, or a full disk could never be reclaimed.
    Image,
    /// Begin and end of a checkpoint: the last few pages are for nothing else, because what was
    /// staged in between is of no use without.
    End,
}

/// Why an append was refused; nothing was staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The disk is full: no room could be reserved.
    Full,
    /// All batches are under way, or the next segment is still being made: try again soon.
    Busy,
    /// The log is read-only after a failed write or sync.
    Failed,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Full => "the disk is full",
            Self::Busy => "the log is busy",
            Self::Failed => "the log is read-only since a write failed",
        })
    }
}

impl std::error::Error for Refused {}

/// How the log is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Appends succeed.
    Good,
    /// Messages are refused, acks are still taken.
    Full,
    /// Read-only after a failed write or sync, for ever.
    Failed,
}

/// Where a record is in its batch, until the batch has a place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// Number of the batch, rising by one per batch of the stage.
    pub batch: u64,
    /// Bytes from the start of the batch.
    pub offset: u32,
}

/// A batch that is durable, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Number of the batch.
    pub batch: u64,
    /// Where its first record starts.
    pub base: At,
}

impl Placed {
    /// Where the record of `ticket` is. The ticket must be of this batch.
    #[must_use]
    pub fn at(&self, ticket: Ticket) -> At {
        debug_assert_eq!(self.batch, ticket.batch);
        At { segment: self.base.segment, offset: self.base.offset + ticket.offset }
    }
}

/// Wakes a shard when something of its batches became durable, or when the health of the log
/// changed. Implemented by the shard's doorbell.
pub trait Wake: Send + Sync {
    /// Wakes the shard; it then calls [`Stage::committed`] until that returns `None`.
    fn wake(&self);
}

/// Records on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) number: u64,
    /// Records, each padded, checksums not filled in.
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
    /// Room granted to it.
    pub(super) granted: u64,
    /// Somebody waits for it.
    pub(super) urgent: bool,
    /// Highest time of its records, for the heads of segments.
    pub(super) time_ms: u64,
    /// Where it ended up.
    pub(super) base: At,
}

/// The committer's ends of a stage's queues.
#[derive(Debug)]
pub(super) struct StageEnds {
    pub(super) full: Arc<ArrayQueue<Batch>>,
    pub(super) back: Arc<ArrayQueue<Batch>>,
}

/// A shard's end of its staging ring. No allocation in steady state: batches circulate.
#[derive(Debug)]
pub struct Stage {
    open: Option<Batch>,
    free: Vec<Batch>,
    full: Arc<ArrayQueue<Batch>>,
    back: Arc<ArrayQueue<Batch>>,
    pub(super) shared: Arc<Shared>,
    /// Room leased and not yet granted to a batch.
    lease: u64,
    next_number: u64,
    in_flight: usize,
    batch_bytes: usize,
    batches: usize,
    /// A batch was handed over since the bell was rung; true inside: somebody waits for it.
    unannounced: Option<bool>,
}

impl Stage {
    pub(super) fn new(settings: &Settings, shared: Arc<Shared>) -> (Self, StageEnds) {
        let batches = settings.batches_per_shard;
        let full = Arc::new(ArrayQueue::new(batches));
        let back = Arc::new(ArrayQueue::new(batches));
        let free = (0..batches)
            .map(|_| Batch { bytes: Vec::with_capacity(settings.batch_bytes), ..Batch::default() })
            .collect();
        let ends = StageEnds { full: Arc::clone(&full), back: Arc::clone(&back) };
        let stage = Self {
            open: None,
            free,
            full,
            back,
            shared,
            lease: 0,
            next_number: 0,
            in_flight: 0,
            batch_bytes: settings.batch_bytes,
            batches,
            unannounced: None,
        };
        (stage, ends)
    }

    /// Reserves room for `record` and appends it to the open batch. Cursors and read marks in the
    /// reserve lane are lazy: nobody waits for them.
    ///
    /// # Errors
    /// [`Refused`]; nothing was staged.
    ///
    /// # Panics
    /// If the record is larger than a batch or of the log's own kind: a bug of the caller.
    pub fn append(&mut self, lane: Lane, record: &Record<'_>) -> Result<Ticket, Refused> {
        let lazy = match lane {
            Lane::Message => false,
            Lane::Reserve => matches!(record.kind, Kind::Cursor | Kind::ReadMark),
            Lane::Copy | Lane::Image | Lane::End => true,
        };
        let ticket = self.stage(lane, record, !lazy)?;
        if record.kind == Kind::Checkpoint {
            let bytes = encoded_bytes(record) as u64;
            self.shared.cycle.image_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(ticket)
    }

    /// Like [`Stage::append`], but somebody waits, whatever the kind.
    ///
    /// # Errors
    /// [`Refused`]; nothing was staged.
    ///
    /// # Panics
    /// As [`Stage::append`].
    pub fn append_urgent(&mut self, lane: Lane, record: &Record<'_>) -> Result<Ticket, Refused> {
        self.stage(lane, record, true)
    }

    /// Hands the open batch, if any, to the committer and rings its bell: call it at the end of
    /// every turn. While half of the batches are under way the open one is kept back to grow; it
    /// leaves with the first flush after one came back.
    pub fn flush(&mut self) {
        if let Some(open) = &self.open
            && open.count > 0
        {
            let urgent = open.urgent;
            if self.in_flight < self.batches / 2 {
                self.hand_over();
            } else if urgent {
                // What is under way might be lazy, and this has to wait for it.
                // Release: pairs with the Acquire in the committer's `gather`.
                self.shared.urgent.store(true, Ordering::Release);
                self.unannounced = Some(true);
            }
        }
        if let Some(urgent) = self.unannounced.take() {
            self.shared.bell.ring(urgent);
        }
    }

    /// The next batch whose records are durable, in order.
    pub fn committed(&mut self) -> Option<Placed> {
        let mut batch = self.back.pop()?;
        let placed = Placed { batch: batch.number, base: batch.base };
        batch.bytes.clear();
        batch.count = 0;
        batch.granted = 0;
        batch.urgent = false;
        batch.time_ms = 0;
        self.free.push(batch);
        self.in_flight -= 1;
        Some(placed)
    }

    /// What the checkpoint under way asks of this shard. To be asked before
    /// [`Stage::committed`] in a turn: then everything committed before the checkpoint's mark
    /// comes out of that.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.shared.cycle.phase()
    }

    /// Says that this shard has settled: once per checkpoint, when it is asked to.
    pub fn settled(&self) {
        self.shared.cycle.settle();
        self.shared.bell.ring(true);
    }

    /// Says that this shard's image is durable, and where anything live is.
    pub fn report(&self, report: LiveReport) {
        self.shared.cycle.report(report);
        self.shared.bell.ring(true);
    }

    /// Segments whose live records this shard is to copy forward in this checkpoint.
    #[must_use]
    pub fn victims(&self) -> Vec<u32> {
        self.shared.cycle.victims()
    }

    /// Asks for a checkpoint soon: something is to go from the disk, or much of a full one could.
    pub fn want_checkpoint(&self) {
        // Release: pairs with the Acquire in `wants_checkpoint`.
        if !self.shared.cycle.wanted.swap(true, Ordering::Release) {
            self.shared.cycle.news.store(true, Ordering::Release);
            self.shared.bell.ring(true);
        }
    }

    /// The largest payload a record may have here.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.batch_bytes - record::RECORD_HEADER_BYTES
    }

    /// How full the ring is, in percent of what is beyond the half that is under way whenever the
    /// disk is slow ([`Stage::flush`]). A failed log is no load.
    #[must_use]
    pub fn used_percent(&self) -> u64 {
        let (half, failed) = (self.batches / 2, self.shared.has_failed());
        let beyond = if failed { 0 } else { self.in_flight.saturating_sub(half) };
        (beyond * 100 / (self.batches - half).max(1)) as u64
    }

    /// Whether [`Stage::committed`] has something: a shard must not fall asleep over it.
    #[must_use]
    pub fn has_committed(&self) -> bool {
        !self.back.is_empty()
    }

    /// How the log is.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.shared.has_failed() {
            Health::Failed
        } else if self.shared.is_full() {
            Health::Full
        } else {
            Health::Good
        }
    }

    /// Bytes of a checkpoint that may be staged in this turn. While several batches are under way:
    /// one piece per batch, neither filling all of them nor starving behind messages on a slow
    /// disk; and what is under way is hurried along.
    #[must_use]
    pub fn image_room(&mut self) -> usize {
        if self.in_flight < (self.batches / 2).clamp(1, limits::IMAGE_BATCHES_MAX) {
            return limits::IMAGE_BYTES_PER_TURN_MAX;
        }
        if !self.shared.urgent.swap(true, Ordering::Release) {
            self.unannounced = Some(true);
        }
        let few = limits::IMAGE_BYTES_MAX / 2; // a piece is larger, and so the only one
        if self.open.as_ref().is_some_and(|open| open.bytes.len() >= few) { 0 } else { few }
    }

    /// Whether nothing is staged and nothing is under way. Never again true once the log failed
    /// with something under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.open.as_ref().is_none_or(|open| open.count == 0)
    }

    fn stage(&mut self, lane: Lane, record: &Record<'_>, urgent: bool) -> Result<Ticket, Refused> {
        let bytes = encoded_bytes(record);
        assert!(bytes <= self.batch_bytes, "a record of {bytes} bytes does not fit a batch");
        assert!(record.kind != Kind::Commit, "commits are the log's own");
        if self.shared.has_failed() {
            return Err(Refused::Failed);
        }
        if self.open.as_ref().is_some_and(|open| open.bytes.len() + bytes > self.batch_bytes) {
            self.hand_over();
        }
        if self.open.is_none() {
            let mut batch = self.free.pop().ok_or(Refused::Busy)?;
            batch.number = self.next_number;
            self.next_number += 1;
            self.open = Some(batch);
        }
        let Some(open) = &mut self.open else { return Err(Refused::Busy) };
        let cost = padded((open.bytes.len() + bytes) as u64);
        if cost > open.granted {
            grant(&self.shared, &mut self.lease, lane, cost - open.granted)?;
            open.granted = cost;
        }
        #[allow(clippy::cast_possible_truncation, reason = "a batch is smaller than a segment")]
        let ticket = Ticket { batch: open.number, offset: open.bytes.len() as u32 };
        let is_message = record.kind == Kind::Message;
        if canary::is(Canary::DropAppend) && is_message && record.client_id % 5 == 4 {
            record::encode(&Record { kind: Kind::Void, ..*record }, &mut open.bytes);
        } else {
            record::encode(record, &mut open.bytes);
        }
        open.count += 1;
        open.urgent |= urgent;
        open.time_ms = open.time_ms.max(record.time_ms);
        Ok(ticket)
    }

    fn hand_over(&mut self) {
        let Some(batch) = self.open.take() else { return };
        self.unannounced = Some(batch.urgent || self.unannounced == Some(true));
        self.in_flight += 1;
        // The queue holds every batch there is.
        let refused = self.full.push(batch);
        assert!(refused.is_ok(), "more batches than were made");
    }
}

/// Takes `bytes` from the lease, renewing it if need be.
fn grant(shared: &Shared, lease: &mut u64, lane: Lane, bytes: u64) -> Result<(), Refused> {
    if *lease < bytes {
        let missing = bytes - *lease;
        match shared.lease(missing, lane) {
            Some(leased) => *lease += leased,
            None if shared.has_failed() => return Err(Refused::Failed),
            None if shared.is_blocked() => return Err(Refused::Full),
            None => {
                shared.ask();
                return Err(Refused::Busy);
            }
        }
    }
    *lease -= bytes;
    Ok(())
}
