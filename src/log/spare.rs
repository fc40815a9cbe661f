//! The next segment: made before it is needed, off the commit path.
//!
//! Owner: the committer. While none can be had (a full disk, or the cap) the log is blocked: it
//! lives on the room it has, messages are refused when that ends, and making one is tried again
//! every second.

use std::io;
use std::sync::atomic::Ordering;

use super::commit::Committer;
use super::file::segment_file_name;
use super::format::SegmentHead;
use super::segment::{generation, write_head};
use super::store::Store;
use super::thread::Maker;
use crate::limits;

impl<S: Store> Committer<S> {
    /// Makes the next segment ready if it is time. `step` calls it; in the committer thread the
    /// slow part runs on a thread beside it. Without room it tries again a second later.
    pub fn preallocate(&mut self) {
        // Acquire: pairs with the Release in `Shared::ask`.
        if self.shared.short.load(Ordering::Acquire) {
            self.shared.short.store(false, Ordering::Relaxed);
        }
        // What was ordered is taken even if the need has passed: it would be news for ever.
        if let Some(maker) = &mut self.maker
            && let Some((segment, result)) = maker.take_made()
        {
            return self.adopt(segment, result);
        }
        if !self.wants_segment() || self.error.is_some() {
            return;
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

    /// Whether a further segment should be made: there is none after the current one, or what is
    /// granted and not yet written has used up most of it in advance.
    pub(super) fn wants_segment(&self) -> bool {
        let ahead = self.settings.batch_cost_max().max(self.settings.capacity() / 4);
        self.log.spares.is_empty() || self.shared.room() < self.settings.reserve_bytes() + ahead
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
}
