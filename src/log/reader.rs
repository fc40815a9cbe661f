//! Reading records back by their place.
//!
//! Owner: each shard has a reader of its own. Everything handed out has been verified against the
//! generation of its segment, so a stale or wrong place gives `None`, never another's message.

use super::format::{FIRST_COMMIT, SEGMENT_HEAD_BYTES, SegmentHead};
use super::record::{self, At, Kind, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Record, seed_of};
use super::store::Store;

/// A read-only view of the log.
pub trait Reader {
    /// The record at `at`, verified; `None` if there is none that can be read. `at` comes from
    /// [`super::Stage::committed`] or recovery.
    fn read(&mut self, at: At) -> Option<Record<'_>>;

    /// Lets go of every segment that `keep` says no to: it may be freed and used again. What is
    /// read again is opened again.
    fn retain(&mut self, keep: &dyn Fn(u32) -> bool);
}

/// Reads through a [`Store`], copying: for the simulator, and for cold reads off the shards.
#[derive(Debug)]
pub struct StoreReader<S> {
    store: S,
    /// Seeds of the segments read lately, by number.
    seeds: Vec<(u32, u32)>,
    scratch: Vec<u8>,
}

/// Seeds remembered; the oldest goes.
const SEEDS_MAX: usize = 64;

impl<S: Store> StoreReader<S> {
    /// A reader of everything in `store`.
    pub fn new(store: S) -> Self {
        Self { store, seeds: Vec::new(), scratch: Vec::new() }
    }

    fn seed(&mut self, segment: u32) -> Option<u32> {
        if let Some((_, seed)) = self.seeds.iter().find(|(number, _)| *number == segment) {
            return Some(*seed);
        }
        let mut head = [0_u8; SEGMENT_HEAD_BYTES];
        self.store.read_at(segment, 0, &mut head).ok()?;
        let head = SegmentHead::decode(&head).ok().filter(|head| head.segment == segment)?;
        let seed = seed_of(head.generation);
        if self.seeds.len() == SEEDS_MAX {
            self.seeds.remove(0);
        }
        self.seeds.push((segment, seed));
        Some(seed)
    }
}

impl<S: Store> Reader for StoreReader<S> {
    fn read(&mut self, at: At) -> Option<Record<'_>> {
        if at.offset < FIRST_COMMIT {
            return None;
        }
        let seed = self.seed(at.segment)?;
        self.scratch.resize(RECORD_HEADER_BYTES, 0);
        let offset = u64::from(at.offset);
        let count = self.store.read_at(at.segment, offset, &mut self.scratch).ok()?;
        if count < RECORD_HEADER_BYTES {
            return None;
        }
        let length = record::take_u32(&self.scratch, record::BYTES) as usize;
        if !(RECORD_HEADER_BYTES..=RECORD_BYTES_MAX).contains(&length) {
            return None;
        }
        self.scratch.resize(length, 0);
        let rest = offset + RECORD_HEADER_BYTES as u64;
        self.store.read_at(at.segment, rest, &mut self.scratch[RECORD_HEADER_BYTES..]).ok()?;
        let (record, _) = record::decode(seed, at.offset, &self.scratch).ok()?;
        (record.kind != Kind::Commit).then_some(record)
    }

    fn retain(&mut self, keep: &dyn Fn(u32) -> bool) {
        self.seeds.retain(|(segment, _)| keep(*segment));
    }
}
