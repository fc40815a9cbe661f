//! Room: why an append that was granted never fails for want of space.
//!
//! Owner: shared by the committer (adds) and all stages (take); the only memory they share on the
//! message path, and a shard touches it once per lease, not once per message.
//!
//! All amounts are multiples of a page. A batch of n bytes costs `padded(n)`, as if it made a
//! commit alone; together with others it costs less, and the difference is given back when the
//! commit is done. With W the cost of the largest possible batch,
//!
//! ```text
//!   free room + leases + granted, not committed <= sum over usable segments of (unused - W)
//! ```
//!
//! A commit moves on to the next segment only when the next batch does not fit, so it leaves less
//! than W unused behind, and then gives `W - unused` back. Hence a granted batch always fits: if
//! it did not fit the last segment, less than W would be unused there, so nothing could have been
//! granted. The W that stays unused in the last segment also lets a restart on a full disk write
//! the few pages it needs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

use crate::limits::{COMMIT_ALIGN_BYTES, ROOM_LEASE_BYTES};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

use super::bell::Bell;
use super::cycle::Cycle;
use super::settings::Settings;
use super::staging::Lane;

/// Pages kept for each end of an image (it may make a commit alone, with a page for company), and
/// as many for BEGIN and COMPLETE.
const END_PAGES: u64 = 2;

/// What the committer and the stages share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Bytes that may still be leased, the reserve included.
    room: CachePadded<AtomicU64>,
    /// Of these, bytes that messages may not take.
    reserve: u64,
    /// Of these again, bytes that only [`super::Lane::Image`] may take: the next checkpoint needs
    /// them, and without it nothing is ever freed.
    for_images: AtomicU64,
    /// Of these again, bytes for the ends of images and of the checkpoint.
    for_ends: u64,
    /// Room above both reserves from which on leases are generous.
    plenty: u64,
    /// Least room a message needs to be sure of a grant.
    batch_cost_max: u64,
    /// No further segment can be had at the moment.
    blocked: AtomicBool,
    /// For people; not on the message path.
    troubles: Mutex<Troubles>,
    /// A write or sync failed: for ever.
    failed: AtomicBool,
    /// A stage holds something back that somebody waits for.
    pub(super) urgent: AtomicBool,
    /// A stage was refused for want of room although more may be had.
    pub(super) short: AtomicBool,
    /// Wakes the committer.
    pub(super) bell: Arc<Bell>,
    /// Checkpoints.
    pub(super) cycle: Cycle,
}

/// What the committer can't do at the moment, and why.
#[derive(Debug, Default)]
struct Troubles {
    segment: Option<String>,
    scrub: Option<String>,
}

/// What an operator has to know about a running log, for whoever tells it. May be asked from any
/// thread.
#[derive(Clone, Debug)]
pub struct Outlook(pub(super) Arc<Shared>);

impl Outlook {
    /// Why messages are refused for want of room, if they are.
    #[must_use]
    pub fn full(&self) -> Option<String> {
        if !self.0.is_full() {
            return None;
        }
        self.0.blocked_by()
    }

    /// Why a freed segment can't be overwritten, if that is so. It is tried again every second.
    #[must_use]
    pub fn unscrubbed(&self) -> Option<String> {
        self.0.troubles().scrub.clone()
    }
}

impl Shared {
    pub(super) fn new(settings: &Settings, shards: usize) -> Self {
        let reserve = settings.reserve_bytes();
        Self {
            room: CachePadded::new(AtomicU64::new(0)),
            reserve,
            for_images: AtomicU64::new(0),
            for_ends: reserve.min(END_PAGES * (shards as u64 + 1) * COMMIT_ALIGN_BYTES as u64),
            plenty: ROOM_LEASE_BYTES * 2 * (shards as u64),
            batch_cost_max: settings.batch_cost_max(),
            blocked: AtomicBool::new(false),
            troubles: Mutex::default(),
            failed: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            short: AtomicBool::new(false),
            bell: Arc::new(Bell::default()),
            cycle: Cycle::default(),
        }
    }

    /// Takes at least `bytes`, more for messages if there is plenty; leaves what is reserved for
    /// other lanes untouched. `None`: not enough.
    pub(super) fn lease(&self, bytes: u64, lane: Lane) -> Option<u64> {
        let floor = match lane {
            Lane::Message => self.reserve(),
            Lane::Reserve => self.for_images.load(Ordering::Relaxed),
            Lane::Copy => self.for_images.load(Ordering::Relaxed) + self.reserve / 2,
            Lane::Image => self.for_ends,
            Lane::End => 0,
        };
        // Relaxed: the number alone is what counts, it publishes nothing.
        let mut room = self.room.load(Ordering::Relaxed);
        loop {
            let wanted = if lane == Lane::Message && room >= floor + self.plenty {
                bytes.max(ROOM_LEASE_BYTES)
            } else {
                bytes
            };
            if room.saturating_sub(floor) < wanted {
                return None;
            }
            let left = room - wanted;
            match self.room.compare_exchange_weak(room, left, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(wanted),
                Err(changed) => room = changed,
            }
        }
    }

    /// Takes exactly `bytes` out of what there is, for the committer. False: there is less.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let mut room = self.room.load(Ordering::Relaxed);
        while let Some(left) = room.checked_sub(bytes) {
            match self.room.compare_exchange_weak(room, left, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(changed) => room = changed,
            }
        }
        false
    }

    /// Bytes that messages may not take.
    pub(super) fn reserve(&self) -> u64 {
        self.reserve + self.for_images.load(Ordering::Relaxed)
    }

    /// Keeps room for a set of images a quarter larger than the last one. What there is on a full
    /// disk belongs to the acks: without them nothing can be freed either.
    pub(super) fn reserve_for_images(&self, bytes: u64) {
        let wanted = (bytes + bytes / 4).next_multiple_of(self.batch_cost_max);
        let bytes = wanted.min(self.room().saturating_sub(self.reserve));
        self.for_images.store(bytes, Ordering::Relaxed);
    }

    /// Asks the committer for a further segment.
    pub(super) fn ask(&self) {
        // Release: pairs with the Acquire in `preallocate` and `has_news`.
        if !self.short.swap(true, Ordering::Release) {
            self.bell.ring(true);
        }
    }

    /// Adds room: a new segment, or what was granted and not needed.
    pub(super) fn add(&self, bytes: u64) {
        self.room.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that may still be leased, the reserve included.
    pub(super) fn room(&self) -> u64 {
        self.room.load(Ordering::Relaxed)
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that no further segment can be had, and why; `None`: one was had. Returns whether
    /// that is news.
    pub(super) fn block(&self, why: Option<String>) -> bool {
        let blocked = why.is_some();
        self.troubles().segment = why;
        let before = self.is_blocked();
        // Only the committer writes it.
        self.blocked.store(blocked, Ordering::Relaxed);
        before != blocked
    }

    /// Notes that a freed segment can't be overwritten, and why; `None`: one was.
    pub(super) fn note_unscrubbed(&self, why: Option<String>) {
        self.troubles().scrub = why;
    }

    /// Why no further segment can be had, if that is so.
    pub(super) fn blocked_by(&self) -> Option<String> {
        self.troubles().segment.clone()
    }

    /// Whether no further segment can be had.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Whether messages are being refused, or nearly.
    pub(super) fn is_full(&self) -> bool {
        self.is_blocked() && self.room() < self.reserve() + self.batch_cost_max
    }

    /// Notes that a write or sync failed.
    pub(super) fn fail(&self) {
        // Release: pairs with the Acquire in `has_failed`; whoever sees it sees what led to it.
        self.failed.store(true, Ordering::Release);
    }

    /// Whether a write or sync failed.
    pub(super) fn has_failed(&self) -> bool {
        // Acquire: pairs with the Release in `fail`.
        self.failed.load(Ordering::Acquire)
    }
}
