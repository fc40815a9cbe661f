//! The next segment: made before it is needed, off the commit path, out of a freed one if possible.
//!
//! Owner: the committer. While none can be had (a full disk, or the cap) the log is blocked: it
//! lives on the room it has, messages are refused when that ends, and making one is tried again
//! every second.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::Committer;
use super::file::segment_file_name;
use super::format::SegmentHead;
use super::room::Outlook;
use super::segment::{Sealed, Tail, generation, write_head};
use super::store::{InPlace, Store};
use super::thread::{Maker, Order, Undone};
use crate::limits;

impl<S: Store> Committer<S> {
    /// Why no further segment can be had, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.blocked_by()
    }

    /// What an operator has to know, for whoever tells it.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        Outlook(Arc::clone(&self.shared))
    }

    /// Makes the next segment ready if it is time, and overwrites what was freed. `step` calls it;
    /// in the committer thread the slow part runs on a thread beside it. Without room it tries
    /// again a second later.
    pub fn preallocate(&mut self) {
        // Loaded first: it is rarely set, and a swap would take its line from the shards each time.
        // Acquire: pairs with the Release in `Shared::ask`.
        if self.shared.short.load(Ordering::Acquire) {
            self.shared.short.swap(false, Ordering::Acquire);
        }
        // What was ordered is taken even if the need has passed: it would be news for ever.
        if let Some(maker) = &mut self.maker
            && let Some((order, result)) = maker.take_made()
        {
            self.on_made(order, result);
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
        // After one that could not be taken out of the log a fresh one is tried, else the log would
        // stand still for as long as the disk refuses that.
        let passes = wants && std::mem::take(&mut self.passes_freed);
        let freed = if passes { None } else { self.next_freed() };
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
                    Order::Renew { freed, segment, bytes }
                } else {
                    Order::Scrub { freed, name: segment }
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

    /// When to look again at what should be done beside committing.
    pub(super) fn retry_at(&self) -> Option<u64> {
        let wants = || self.wants_segment() || self.next_freed().is_some();
        if self.retry_us > self.now_us && wants() {
            return Some(self.retry_us);
        }
        // Nobody says when a segment is not pinned any more.
        let is_idle = self.maker.as_ref().is_none_or(|maker| !maker.is_busy());
        let looks = is_idle && !self.freed.is_empty();
        looks.then_some(self.now_us + limits::SEGMENT_RETRY_MS * 1000)
    }

    fn on_made(&mut self, order: Order, result: Result<(), Undone>) {
        match (order, result) {
            (Order::Make { segment, .. }, Ok(())) => {
                self.log.segments += 1;
                self.adopt(segment);
            }
            (Order::Renew { segment, .. }, Ok(())) => {
                self.shared.note_unscrubbed(None);
                self.adopt(segment);
            }
            (Order::Scrub { .. }, Ok(())) => {
                self.shared.note_unscrubbed(None);
                self.log.segments -= 1;
            }
            (Order::Make { segment, .. }, Err(undone)) => {
                self.block(format!("making {}: {undone}", segment_file_name(segment)));
            }
            (Order::Renew { freed, .. } | Order::Scrub { freed, .. }, Err(undone)) => {
                self.on_undone(freed, &undone);
            }
        }
    }

    /// A freed segment was not overwritten.
    fn on_undone(&mut self, freed: Sealed, undone: &Undone) {
        if matches!(undone, Undone::Unscrubbed(_)) {
            self.log.segments -= 1;
        } else {
            self.freed.push_back(freed);
        }
        if matches!(undone, Undone::Pinned) {
            return;
        }
        self.passes_freed = matches!(undone, Undone::Kept(_));
        self.retry_us = self.now_us + limits::SEGMENT_RETRY_MS * 1000;
        let name = segment_file_name(freed.number);
        let why = format!("overwriting {name}, which was freed: {undone}");
        if self.wants_segment() {
            self.block(why.clone());
        }
        self.shared.note_unscrubbed(Some(why));
    }

    /// A segment was made, and is one of `log.segments`: gives it a head and its room to the
    /// shards.
    fn adopt(&mut self, segment: u32) {
        let head = SegmentHead {
            segment,
            epoch: self.log.epoch,
            generation: generation(self.log.epoch, segment, self.store.salt()),
            bytes: self.settings.segment_bytes,
            time_ms: self.log.time_ms,
            anchor: self.durable.sequence(),
            after: self.log.spares.back().unwrap_or(&self.log.current).number,
        };
        match write_head(&mut self.store, &head) {
            Ok(tail) => {
                self.log.spares.push_back(tail);
                self.shared.add(self.usable(&tail));
                self.shared.reserve_for_images(self.checkpoints.image_bytes);
                if self.shared.block(None) {
                    self.wake_all();
                }
            }
            Err(error) => {
                // If it is there without a head, recovery takes it for what it is.
                let _ = self.store.remove(segment);
                self.log.segments -= 1;
                self.block(format!("making {}: {error}", segment_file_name(segment)));
            }
        }
    }

    pub(super) fn block(&mut self, why: String) {
        self.retry_us = self.now_us + limits::SEGMENT_RETRY_MS * 1000;
        if self.shared.block(Some(why)) {
            self.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Faults, SharedMemory, Step, Wake, recover};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    #[test]
    fn a_freed_segment_that_cannot_be_taken_out_stays_one_and_is_tried_again() {
        let mut disk = SharedMemory::new();
        let settings = crate::log::Settings::small();
        let (recovered, _) = recover(disk.clone(), &settings, &mut |_, _| {}).unwrap();
        let (_stages, mut committer) = recovered.start(1, vec![Arc::new(NoWake)]).unwrap();
        let freed = Sealed { number: 50, first: 7, bytes: settings.segment_bytes, begun_ms: 3 };
        disk.create(freed.number, freed.bytes).unwrap();
        committer.log.segments += 1;
        committer.freed.push_back(freed);
        let outlook = committer.outlook();
        disk.set_faults(Faults { failing_retire: Some(0), ..Faults::default() });
        committer.step(0);
        assert_eq!(committer.freed, [freed], "with all that is known of it");
        assert!(disk.segments().unwrap().contains(&freed.number));
        let why = outlook.unscrubbed().unwrap();
        assert!(why.contains("log-0000000050.seg") && why.contains("tried again"), "{why}");
        let segments = committer.log.segments;
        let Step::Idle { until_us: Some(until_us) } = committer.step(1) else { panic!("idle") };
        assert_eq!(until_us, limits::SEGMENT_RETRY_MS * 1000, "it wakes for that by itself");
        for seconds in 1..=4 {
            committer.step(seconds * until_us);
        }
        assert!(committer.freed.is_empty());
        assert!(!disk.segments().unwrap().contains(&freed.number));
        assert_eq!(disk.segments().unwrap().len() as u64, committer.log.segments);
        assert!(committer.log.segments >= segments);
        assert_eq!(outlook.unscrubbed(), None);
    }
}
