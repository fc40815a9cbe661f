//! The next segment: made before it is needed, off the commit path, out of a freed one if possible.
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
use super::store::{InPlace, Store};
use super::thread::{Maker, Order};
use crate::limits;

impl<S: Store> Committer<S> {
    /// Makes the next segment ready if it is time, and overwrites what was freed. `step` calls it;
    /// in the committer thread the slow part runs on a thread beside it. Without room it tries
    /// again a second later.
    pub fn preallocate(&mut self) {
        // Acquire: pairs with the Release in `Shared::ask`.
        if self.shared.short.load(Ordering::Acquire) {
            self.shared.short.swap(false, Ordering::Acquire);
        }
        // What was ordered is taken even if the need has passed: it would be news for ever.
        if let Some(maker) = &mut self.maker
            && let Some((order, result)) = maker.take_made()
        {
            return self.on_made(order, result);
        }
        if self.error.is_some() || self.maker.as_ref().is_some_and(Maker::is_busy) {
            return;
        }
        if let Some(order) = self.next_order() {
            if let Some(maker) = &mut self.maker {
                maker.want(order);
            } else {
                let result = order.carry_out(&mut InPlace(&mut self.store), &self.pins);
                self.on_made(order, result);
            }
        }
    }

    /// What should be done now beside committing.
    fn next_order(&mut self) -> Option<Order> {
        let wants = self.wants_segment();
        if self.now_us < self.retry_us {
            return None;
        }
        let freed = self.next_freed();
        if !wants && freed.is_none() {
            return None;
        }
        let Some(next) = self.log.next_segment.checked_add(1) else {
            self.block("segment numbers are used up".to_owned());
            return None;
        };
        let segment = self.log.next_segment;
        let bytes = self.settings.segment_bytes;
        let order = match freed {
            Some(freed) => {
                self.freed.retain(|other| *other != freed);
                let keeps = self.log.spares.len() < limits::SPARE_SEGMENTS_MAX;
                if wants || (keeps && freed.bytes == bytes) {
                    Order::Renew { freed: freed.number, segment, bytes }
                } else {
                    Order::Scrub { freed: freed.number, name: segment }
                }
            }
            None => {
                if let Some(bytes_max) = self.settings.log_bytes_max
                    && (self.log.segments + 1) * bytes > bytes_max
                {
                    self.block(format!("the log may not grow beyond {bytes_max} bytes"));
                    return None;
                }
                Order::Make { segment, bytes }
            }
        };
        self.log.next_segment = next;
        Some(order)
    }

    /// Whether a further segment should be made: there is none after the current one, or what is
    /// granted and not yet written has used up most of it in advance.
    pub(super) fn wants_segment(&self) -> bool {
        let ahead = self.settings.batch_cost_max().max(self.settings.capacity() / 4);
        self.log.spares.is_empty() || self.shared.room() < self.shared.reserve() + ahead
    }

    fn on_made(&mut self, order: Order, result: io::Result<()>) {
        match (order, result) {
            (Order::Make { segment, .. }, result) => self.adopt(segment, result, 1),
            (Order::Renew { segment, .. }, Ok(())) => self.adopt(segment, Ok(()), 0),
            (Order::Scrub { .. }, Ok(())) => self.log.segments -= 1,
            (Order::Renew { freed, .. } | Order::Scrub { freed, .. }, Err(error)) => {
                if error.kind() == io::ErrorKind::WouldBlock {
                    self.keep_freed(freed); // pinned meanwhile
                } else {
                    // Retired or not, nothing refers to it; the next start ends it.
                    self.log.segments -= 1;
                    let name = segment_file_name(freed);
                    self.block(format!("overwriting {name}, which was freed: {error}"));
                }
            }
        }
    }

    fn adopt(&mut self, segment: u32, result: io::Result<()>, more: u64) {
        let head = SegmentHead {
            segment,
            epoch: self.log.epoch,
            generation: generation(self.log.epoch, segment, self.store.salt()),
            bytes: self.settings.segment_bytes,
            time_ms: self.log.time_ms,
            anchor: self.durable.sequence(),
            after: self.log.spares.back().unwrap_or(&self.log.current).number,
        };
        match result.and_then(|()| write_head(&mut self.store, &head)) {
            Ok(tail) => {
                self.log.segments += more;
                self.log.spares.push_back(tail);
                self.shared.add(self.usable(&tail));
                self.shared.reserve_for_images(self.checkpoints.image_bytes);
                if self.shared.is_blocked() {
                    self.shared.block(false);
                    self.create_error = None;
                    self.wake_all();
                }
            }
            Err(error) => {
                // If it is there without a head, recovery takes it for what it is.
                let _ = self.store.remove(segment);
                self.log.segments -= 1 - more;
                self.block(format!("making {}: {error}", segment_file_name(segment)));
            }
        }
    }

    pub(super) fn block(&mut self, error: String) {
        self.retry_us = self.now_us + limits::SEGMENT_RETRY_MS * 1000;
        self.create_error = Some(error);
        if !self.shared.is_blocked() {
            self.shared.block(true);
            self.wake_all();
        }
    }
}
