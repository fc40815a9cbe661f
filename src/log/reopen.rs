//! The second half of a start: what was recovered is made durable again and opened for appending.
//!
//! Owner: the thread that starts the server. The order is in `recovery`'s description.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use crate::canary::{self, Canary};

use super::commit::Committer;
use super::format::{COMMIT_HEAD_BYTES, CommitHead, FIRST_COMMIT, SegmentHead};
use super::record::{self, At, Kind, Record};
use super::recovery::{Carried, Plan, Recovered};
use super::report::{Corrupt, RecoverError};
use super::segment::{Opening, Tail, finish, generation, length_u32, wipe, write_head};
use super::staging::{Stage, Wake};
use super::store::Store;
use super::whole::{Commit, Found, read_commit};

impl<S: Store> Recovered<S> {
    /// Makes the end of the log durable and then `epoch`, and opens the log for one stage per
    /// wake-up in `wakes`. Nothing may be served, no position given out, before this returned.
    ///
    /// # Errors
    /// Whatever the disk said; run [`super::recover`] again.
    ///
    /// # Panics
    /// If `epoch` is not above `highest_epoch`: positions would be reused.
    pub fn start(
        mut self,
        epoch: u32,
        wakes: Vec<Arc<dyn Wake>>,
    ) -> io::Result<(Vec<Stage>, Committer<S>)> {
        let planted = canary::is(Canary::ReuseEpoch);
        assert!(planted || epoch > self.highest_epoch, "epoch {epoch} is used up");
        let last = self.last.take();
        let mut sequence = last.as_ref().map_or(1, |last| last.head.sequence + 1);
        let mut begun_ms = self.time_ms;
        let (mut current, mut previous) = match self.plan.clone() {
            Plan::Fresh { segment, carried } => {
                // That the last commit is durable is not known yet.
                let known = last
                    .as_ref()
                    .map_or((0, 0), |last| (last.head.sequence.saturating_sub(1), last.at.segment));
                if let Some(Carried { found, from: FIRST_COMMIT, .. }) = &carried {
                    begun_ms = found.head.time_ms; // what is in it gets no younger by a restart
                }
                self.start_fresh((segment, epoch), (known, begun_ms), carried)?
            }
            Plan::InPlace { found, offset, again: false } => {
                begun_ms = found.head.time_ms;
                self.start_in_place(&found, offset, last.as_ref())?
            }
            Plan::InPlace { found, offset, again: true } => {
                begun_ms = found.head.time_ms;
                let former = last.as_ref().map(|last| last.head).unwrap_or_default();
                sequence = former.sequence;
                // Less than a sector changes: a power cut leaves the former epoch or this one.
                let after = offset + former.padded_u32();
                let (tail, _) = self.start_in_place(&found, after, None)?;
                (Tail { offset, ..tail }, former.previous)
            }
        };
        let redo = self.redo;
        let head = CommitHead { sequence, previous, epoch, count: 1, body_bytes: 0, redo };
        previous = self.write_epoch(&mut current, head)?;
        let mut spares = VecDeque::new();
        let mut after = current.number;
        for segment in std::mem::take(&mut self.spares) {
            spares.push_back(self.prepare((segment, epoch), (sequence, after), self.time_ms)?);
            after = segment;
        }
        // Only now: until the new epoch is durable these might be all there is, and until the
        // spares have new heads one of them may name one of these as the one before it.
        // Payloads are left in them, so they are overwritten before they are removed.
        for segment in std::mem::take(&mut self.dead) {
            self.store.retire(segment, self.next_segment)?;
            self.store.scrub(self.next_segment)?;
            self.next_segment = self.next_segment.saturating_add(1);
        }
        let opening = Opening {
            current,
            spares,
            sequence: sequence + 1,
            previous,
            epoch,
            next_segment: self.next_segment,
            segments: self.segments,
            time_ms: self.time_ms,
            redo: self.redo,
            begun_ms,
            sealed: std::mem::take(&mut self.sealed),
            freed: std::mem::take(&mut self.freed),
            image_bytes: self.image_bytes,
        };
        Ok(Committer::open(self.store, &self.settings, opening, wakes))
    }

    /// Whether every one of `segments` is there: else messages that wait would be lost in silence.
    ///
    /// # Errors
    /// [`RecoverError::Corrupt`] naming the first that is missing.
    pub fn check_live(&self, segments: impl Iterator<Item = u32>) -> Result<(), RecoverError> {
        let there = |segment: u32| {
            self.sealed.iter().any(|sealed| sealed.number == segment) || self.plan.has(segment)
        };
        for segment in segments {
            if !there(segment) {
                let at = At { segment, offset: 0 };
                let what = "messages that wait are in this segment, and it is missing";
                return Err(RecoverError::Corrupt(Corrupt {
                    at,
                    commit: 0,
                    what,
                    users: Vec::new(),
                }));
            }
        }
        Ok(())
    }

    /// Segments before the checkpoint that a restart begins with, in which nothing is `live`, are
    /// free: whoever was to overwrite them did not come to it.
    pub fn free_all_but(&mut self, live: impl Iterator<Item = u32>) {
        let live: BTreeSet<u32> = live.collect();
        let goes_on = match &self.plan {
            Plan::Fresh { carried: Some(Carried { found, from: FIRST_COMMIT, .. }), .. }
            | Plan::InPlace { found, .. } => found.first,
            Plan::Fresh { .. } => self.last.as_ref().map(|last| last.head.sequence),
        };
        let first = self.sealed.iter().map(|sealed| Some(sealed.first)).chain([goes_on]);
        let first: Vec<Option<u64>> = first.collect();
        let redo = self.redo;
        let holds = first.iter().rposition(|first| first.is_some_and(|first| first <= redo));
        let before = holds.unwrap_or(0);
        let (old, kept): (Vec<_>, Vec<_>) = self
            .sealed
            .drain(..)
            .enumerate()
            .partition(|(nth, sealed)| *nth < before && !live.contains(&sealed.number));
        self.sealed = kept.into_iter().map(|(_, sealed)| sealed).collect();
        self.freed.extend(old.into_iter().map(|(_, sealed)| sealed));
    }

    /// The store, without having opened anything.
    pub fn into_store(self) -> S {
        self.store
    }

    fn start_fresh(
        &mut self,
        (segment, epoch): (u32, u32),
        (known, begun_ms): ((u64, u32), u64),
        carried: Option<Carried>,
    ) -> io::Result<(Tail, At)> {
        let mut tail = self.prepare((segment, epoch), known, begun_ms)?;
        let Some(Carried { found, from, end }) = carried else { return Ok((tail, At::default())) };
        let mut commit = Commit::default();
        let mut first = Vec::new();
        let (mut offset, mut previous) = (from, None);
        while offset < end {
            let read = read_commit(&self.store, &found, offset, &mut commit);
            if !matches!(read, Ok(Ok(()))) {
                return Err(io::Error::other("the log reads differently the second time"));
            }
            let head =
                CommitHead { previous: previous.unwrap_or(commit.head.previous), ..commit.head };
            let bytes = finish(&tail, head, &mut commit.bytes);
            if previous.is_none() {
                first = std::mem::take(&mut commit.bytes);
            } else {
                self.store.write_at(segment, u64::from(tail.offset), &commit.bytes)?;
            }
            previous = Some(At { segment, offset: tail.offset });
            tail.first.get_or_insert(head.sequence);
            tail.offset += bytes;
            offset += bytes;
        }
        self.store.sync(segment)?;
        self.store.write_at(segment, u64::from(FIRST_COMMIT), &first)?;
        self.store.sync(segment)?;
        Ok((tail, previous.unwrap_or_default()))
    }

    fn start_in_place(
        &mut self,
        found: &Found,
        offset: u32,
        last: Option<&Commit>,
    ) -> io::Result<(Tail, At)> {
        let segment = found.head.segment;
        wipe(&mut self.store, segment, offset, found.head.bytes)?;
        self.store.sync(segment)?;
        let mut at = At::default();
        if let Some(last) = last {
            at = last.at;
            self.store.write_at(at.segment, u64::from(at.offset), &last.bytes)?;
            self.store.sync(at.segment)?;
        }
        let Found { head, seed, first, .. } = found;
        Ok((Tail { number: segment, seed: *seed, offset, bytes: head.bytes, first: *first }, at))
    }

    /// Gives a segment the head of this boot; wipes it first if anything is left in it. Commit
    /// number `anchor` is durable, and the segment comes after the segment `after`.
    fn prepare(
        &mut self,
        (segment, epoch): (u32, u32),
        (anchor, after): (u64, u32),
        time_ms: u64,
    ) -> io::Result<Tail> {
        let bytes = self.settings.segment_bytes;
        if self.soiled.contains(&segment) {
            wipe(&mut self.store, segment, FIRST_COMMIT, bytes)?;
            self.store.sync(segment)?;
        }
        let generation = generation(epoch, segment, self.store.salt());
        let head = SegmentHead { segment, epoch, generation, bytes, time_ms, anchor, after };
        write_head(&mut self.store, &head)
    }

    /// Makes the epoch durable: a commit of its own.
    fn write_epoch(&mut self, tail: &mut Tail, head: CommitHead) -> io::Result<At> {
        let record = Record {
            aux: u64::from(head.epoch),
            time_ms: self.time_ms,
            ..Record::blank(Kind::Epoch)
        };
        let mut bytes = vec![0_u8; COMMIT_HEAD_BYTES];
        record::encode(&record, &mut bytes);
        let head = CommitHead { body_bytes: length_u32(bytes.len() - COMMIT_HEAD_BYTES), ..head };
        let taken = finish(tail, head, &mut bytes);
        self.store.write_at(tail.number, u64::from(tail.offset), &bytes)?;
        self.store.sync(tail.number)?;
        let at = At { segment: tail.number, offset: tail.offset };
        tail.first.get_or_insert(head.sequence);
        tail.offset += taken;
        Ok(at)
    }
}
