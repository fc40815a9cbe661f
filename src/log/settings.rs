//! What an operator (or a test) may choose about the log, and which choices fit together.
//!
//! Owner: read at start, then constant.

use crate::limits;

use super::format::{FIRST_COMMIT, padded};
use super::record::RECORD_HEADER_BYTES;

/// Sizes and paces of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Size of a segment in bytes: a multiple of 4096, below 4 GiB.
    pub segment_bytes: u64,
    /// Pause between the end of one commit and the start of the next, microseconds.
    pub commit_gap_us: u64,
    /// How long a record nobody waits for may wait for company, milliseconds.
    pub lazy_ms: u64,
    /// Batches a shard may have under way to the committer, at least 2.
    pub batches_per_shard: usize,
    /// Largest batch in bytes; also bounds a record.
    pub batch_bytes: usize,
    /// Pause between checkpoints that a shard asked for, milliseconds.
    pub checkpoint_gap_ms: u64,
    /// Longest time between checkpoints, milliseconds.
    pub checkpoint_ms_max: u64,
    /// Age at which a segment is emptied in any case, milliseconds.
    pub scrub_age_ms: u64,
    /// Cap on the sizes of all segments; reaching it is the same as a full disk.
    pub log_bytes_max: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: limits::SEGMENT_BYTES,
            commit_gap_us: limits::COMMIT_GAP_US,
            lazy_ms: limits::COMMIT_LAZY_MS,
            batches_per_shard: limits::BATCHES_PER_SHARD_MAX,
            batch_bytes: limits::BATCH_BYTES_MAX,
            checkpoint_gap_ms: limits::CHECKPOINT_GAP_MS,
            checkpoint_ms_max: limits::CHECKPOINT_MS_MAX,
            scrub_age_ms: limits::SCRUB_AGE_MS,
            log_bytes_max: None,
        }
    }
}

impl Settings {
    /// The smallest sensible log, for simulation: 16 KiB segments, payloads up to 3,920 bytes.
    #[must_use]
    pub fn small() -> Self {
        Self {
            segment_bytes: 16 * 1024,
            batches_per_shard: 4,
            batch_bytes: 4096 - super::COMMIT_HEAD_BYTES,
            checkpoint_gap_ms: 10_000,
            checkpoint_ms_max: 60_000,
            scrub_age_ms: 120_000,
            ..Self::default()
        }
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn check(&self) -> Result<(), String> {
        let page = u64::from(FIRST_COMMIT);
        if !self.segment_bytes.is_multiple_of(page) || self.segment_bytes > u64::from(u32::MAX) {
            return Err(format!(
                "a segment of {} bytes: it must be a multiple of {page} below 4 GiB",
                self.segment_bytes
            ));
        }
        if self.batch_bytes < RECORD_HEADER_BYTES {
            return Err(format!("a batch of {} bytes holds no record", self.batch_bytes));
        }
        let least = page + 2 * self.batch_cost_max() + self.reserve_bytes();
        if self.segment_bytes < least {
            return Err(format!(
                "a segment of {} bytes is too small for batches of {}: it takes {least}",
                self.segment_bytes, self.batch_bytes
            ));
        }
        if self.batches_per_shard < 2 {
            return Err("a shard needs at least 2 batches".to_owned());
        }
        Ok(())
    }

    /// Bytes of a segment that commits may take.
    pub(super) fn capacity(&self) -> u64 {
        self.segment_bytes.saturating_sub(u64::from(FIRST_COMMIT))
    }

    /// What the largest batch costs if it makes a commit alone.
    pub(super) fn batch_cost_max(&self) -> u64 {
        padded(self.batch_bytes as u64)
    }

    /// Bytes only [`super::Lane::Reserve`] may use.
    pub(super) fn reserve_bytes(&self) -> u64 {
        (self.segment_bytes * limits::RESERVE_PERCENT / 100).next_multiple_of(FIRST_COMMIT.into())
    }

    /// Largest commit in bytes. Recovery must be able to copy it and still write an epoch.
    pub(super) fn commit_bytes_max(&self) -> u64 {
        let most = self.capacity().saturating_sub(self.batch_cost_max());
        limits::COMMIT_BYTES_MAX.max(self.batch_cost_max()).min(most)
    }
}
