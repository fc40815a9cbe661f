//! Which segments nobody needs any more, once a checkpoint is complete.
//!
//! Owner: the committer. A segment is free when it ends before the commit a restart begins to read
//! at, no shard has anything live in it, and nobody pins it. Liveness only ever falls in an old
//! segment: what is copied forward is live elsewhere. What was freed is overwritten with zeros and
//! becomes the next segment, or is removed.

use super::commit::Committer;
use super::cycle::LiveReport;
use super::pins::Pins;
use super::segment::Sealed;
use super::store::Store;
use std::sync::atomic::Ordering;

impl<S: Store> Committer<S> {
    /// Who reads the log beside the shards says so here.
    #[must_use]
    pub fn pins(&self) -> Pins {
        self.pins.clone()
    }

    /// The checkpoint whose mark is `log.redo` is durable: frees what it can, and names the
    /// segments whose stragglers are worth copying forward. False: nothing could be freed.
    pub(super) fn reclaim(&mut self, reports: &[LiveReport]) -> bool {
        let mut live: std::collections::BTreeMap<u32, u64> = std::collections::BTreeMap::new();
        for (segment, bytes) in reports.iter().flat_map(|report| &report.live) {
            *live.entry(*segment).or_default() += bytes;
        }
        let needed = self.first_needed();
        let old = self.log.sealed.iter().filter(|sealed| sealed.number < needed);
        let (kept, free): (Vec<Sealed>, Vec<Sealed>) =
            old.copied().partition(|sealed| live.contains_key(&sealed.number));
        self.log.sealed.retain(|sealed| !free.contains(sealed));
        let frees = !free.is_empty();
        self.freed.extend(free);
        self.forget_scrubbed();
        if !self.checkpoints.to_scrub.is_empty() {
            // What is still waited for in them is copied forward in the next one.
            self.shared.cycle.wanted.store(true, Ordering::Release);
        }
        self.choose_victims(&kept, &live);
        frees
    }

    /// What was freed is on its way to be overwritten.
    pub(super) fn forget_scrubbed(&mut self) {
        let (sealed, current) = (&self.log.sealed, self.log.current.number);
        let stays =
            |number: u32| number == current || sealed.iter().any(|sealed| sealed.number == number);
        self.checkpoints.to_scrub.retain(|number| stays(*number));
    }

    /// The segment that holds the commit a restart begins to read at.
    fn first_needed(&self) -> u32 {
        let redo = self.log.redo;
        let current = (self.log.current.number, self.log.current.first);
        let begins = |(_, first): &(u32, Option<u64>)| first.is_some_and(|first| first <= redo);
        let sealed = self.log.sealed.iter().map(|sealed| (sealed.number, Some(sealed.first)));
        let holding = sealed.chain([current]).rfind(begins);
        holding.map_or(0, |(number, _)| number)
    }

    /// Nearly empty segments, old ones, and those with payloads that have to go, as far as copying
    /// what is left in them costs no more than half a segment per checkpoint.
    fn choose_victims(&self, kept: &[Sealed], live: &std::collections::BTreeMap<u32, u64>) {
        let bytes_of = |sealed: &Sealed| live.get(&sealed.number).copied().unwrap_or(0);
        let to_scrub = |sealed: &Sealed| self.checkpoints.to_scrub.contains(&sealed.number);
        let age_ms = self.settings.scrub_age_ms;
        let is_old = |sealed: &Sealed| self.log.time_ms >= sealed.begun_ms.saturating_add(age_ms);
        let mut candidates: Vec<&Sealed> = kept
            .iter()
            .filter(|sealed| {
                to_scrub(sealed) || is_old(sealed) || bytes_of(sealed) < sealed.bytes / 4
            })
            .collect();
        candidates.sort_by_key(|sealed| (!to_scrub(sealed), bytes_of(sealed)));
        let mut left = self.settings.segment_bytes / 2;
        let mut victims = Vec::new();
        for sealed in candidates {
            // The first always: else a full one with a payload to scrub would stay for ever.
            if !victims.is_empty() && bytes_of(sealed) > left {
                break;
            }
            left = left.saturating_sub(bytes_of(sealed));
            victims.push(sealed.number);
        }
        self.shared.cycle.choose(victims);
    }

    /// A freed segment that is not pinned at the moment.
    pub(super) fn next_freed(&self) -> Option<Sealed> {
        let lowest = self.pins.lowest();
        self.freed.iter().find(|sealed| sealed.number < lowest).copied()
    }
}
