//! How the committer and the shards make a checkpoint together.
//!
//! Owner: shared. The committer moves the phase on, each shard answers once per phase:
//!
//! ```text
//!  committer                                    each shard
//!  commits BEGIN (its number is the redo mark)
//!  phase Settle ------------------------------> takes what was committed before, answers it
//!  phase Image  <------------ settled --------- reads all letters, stages an image of its tables,
//!                                               piece by piece, then END
//!  commits COMPLETE <-------- reported -------- END is durable: where is anything still live?
//!  frees segments
//! ```
//!
//! Invariant: a shard sees a phase only after it can see every commit before the mark, because the
//! committer publishes commits first (Release) and the phase after them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Segments with anything live in them, rising, and how many bytes of payload each still holds.
pub type Live = Vec<(u32, u64)>;

/// What a shard says at the end of its image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveReport {
    /// Where its live records are.
    pub live: Live,
    /// Segments that hold payloads which have to go soon: deleted, or their time was over.
    pub to_scrub: Vec<u32>,
}

/// What the checkpoint under way asks of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    None,
    /// To take note of everything committed so far and to answer it.
    Settle(u64),
    /// To stage an image of what it remembers.
    Image(u64),
}

const SETTLE: u64 = 1;
const IMAGE: u64 = 2;
const PHASES: u64 = 4;

/// What the committer and all stages share about checkpoints.
#[derive(Debug, Default)]
pub(super) struct Cycle {
    /// Number of the checkpoint times [`PHASES`] plus its phase.
    state: AtomicU64,
    settled: AtomicUsize,
    told: Mutex<Told>,
    /// A shard wants a checkpoint soon.
    pub(super) wanted: AtomicBool,
    /// Something of the above changed since the committer looked.
    pub(super) news: AtomicBool,
    /// Bytes of records staged as images in this cycle.
    pub(super) image_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Told {
    reports: Vec<LiveReport>,
    /// Segments whose live records are to be copied forward.
    victims: Vec<u32>,
}

impl Cycle {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked of a shard now.
    pub(super) fn phase(&self) -> Phase {
        // Acquire: pairs with the Release in `enter`; commits published before are seen.
        let state = self.state.load(Ordering::Acquire);
        match state % PHASES {
            SETTLE => Phase::Settle(state / PHASES),
            IMAGE => Phase::Image(state / PHASES),
            _ => Phase::None,
        }
    }

    /// The committer moves on.
    pub(super) fn enter(&self, phase: Phase) {
        let state = match phase {
            Phase::None => 0,
            Phase::Settle(number) => {
                self.settled.store(0, Ordering::Relaxed);
                self.image_bytes.store(0, Ordering::Relaxed);
                self.told().reports.clear();
                number * PHASES + SETTLE
            }
            Phase::Image(number) => number * PHASES + IMAGE,
        };
        // Release: pairs with the Acquire in `phase`.
        self.state.store(state, Ordering::Release);
    }

    /// A shard has settled.
    pub(super) fn settle(&self) {
        // Release: pairs with the Acquire in `settled`; its answers are in the mailboxes by then.
        self.settled.fetch_add(1, Ordering::Release);
        self.news.store(true, Ordering::Release);
    }

    /// How many shards have settled.
    pub(super) fn settled(&self) -> usize {
        // Acquire: pairs with the Release in `settle`.
        self.settled.load(Ordering::Acquire)
    }

    /// A shard's image is durable.
    pub(super) fn report(&self, report: LiveReport) {
        self.told().reports.push(report);
        self.news.store(true, Ordering::Release);
    }

    /// How many shards have reported.
    pub(super) fn reported(&self) -> usize {
        self.told().reports.len()
    }

    /// Adds the segments with payloads that have to go to those that are known.
    pub(super) fn add_scrubs(&self, to_scrub: &mut BTreeSet<u32>) {
        to_scrub.extend(self.told().reports.iter().flat_map(|report| &report.to_scrub));
    }

    /// The reports of this cycle, taken.
    pub(super) fn take_reports(&self) -> Vec<LiveReport> {
        std::mem::take(&mut self.told().reports)
    }

    /// Names the segments whose live records the shards copy forward in the next cycle.
    pub(super) fn choose(&self, victims: Vec<u32>) {
        self.told().victims = victims;
    }

    /// The segments chosen.
    pub(super) fn victims(&self) -> Vec<u32> {
        self.told().victims.clone()
    }
}
