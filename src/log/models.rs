//! The committer's bell, the staging ring and the room in every order of their steps
//! (`scripts/loom`): the real committer loop, real stages, a disk that keeps nothing.
//!
//! What a model holds: a batch that was handed over comes back without any further event (loom
//! reports all threads asleep as a deadlock), each stage's batches in their order, and whoever is
//! told to try again for want of a segment gets one made. Time stands still in a model, so nothing
//! is saved by a timeout. Each model stands beside mutations of the code that it notices.

use std::io;
use std::sync::atomic::{AtomicU64 as Plain, Ordering};
use std::sync::{Arc, OnceLock};

use super::{
    Committer, Kind, Lane, Record, Refused, Settings, Stage, Store, Wake, next_epoch, recover,
    run_committer,
};
use crate::ring::Doorbell;
use crate::sync::Thread;
use crate::sync::model::{Effect, Mutation, current, explore, fails_with, park, spawn};

const BELL: (&str, &str) = ("src/log/bell.rs", include_str!("bell.rs"));
const STAGING: (&str, &str) = ("src/log/staging.rs", include_str!("staging.rs"));
const ROOM: (&str, &str) = ("src/log/room.rs", include_str!("room.rs"));

/// A disk that takes everything and keeps nothing.
#[derive(Clone, Default)]
struct Nothing;

impl Store for Nothing {
    fn segments(&self) -> io::Result<Vec<u32>> {
        Ok(Vec::new())
    }

    fn create(&mut self, _: u32, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&mut self, _: u32, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, _: u32, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn retire(&mut self, _: u32, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn renew(&mut self, _: u32, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn scrub(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self, _: u32) -> io::Result<u64> {
        Ok(0)
    }
}

/// What an eventfd is to a shard: a mark that ends this sleep or the next one.
#[derive(Clone, Default)]
struct Ear(Arc<OnceLock<Thread>>);

impl Ear {
    fn is_here(&self) {
        assert!(self.0.set(current()).is_ok(), "two threads with one ear");
    }

    fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// A shard as far as the log knows it.
struct Shard {
    stage: Stage,
    ear: Ear,
    doorbell: Doorbell,
}

/// As the server's own: what is committed rings the doorbell.
struct Ring(Doorbell);

impl Wake for Ring {
    fn wake(&self) {
        self.0.ring();
    }
}

impl Shard {
    fn message(&mut self, bytes: usize) -> Result<(), Refused> {
        let payload = vec![1; bytes];
        let record = Record { stream_kind: 1, payload: &payload, ..Record::blank(Kind::Message) };
        self.stage.append(Lane::Message, &record).map(|_| ())
    }

    fn cursor(&mut self) {
        let record = Record { stream_kind: 1, ..Record::blank(Kind::Cursor) };
        assert!(self.stage.append(Lane::Reserve, &record).is_ok());
    }

    /// Looks until there is room for a page; loom ends a model that goes on for too long.
    fn wait_for_room(&self) {
        let shared = &self.stage.shared;
        let enough = Settings::small().reserve_bytes() + u64::from(super::FIRST_COMMIT);
        loop {
            shared.add(0); // so that the number read next is the latest there is
            if shared.room() >= enough {
                return;
            }
            loom::thread::yield_now();
        }
    }

    /// Sleeps, as a shard does, until this batch is durable.
    fn wait_for(&mut self, batch: u64) {
        loop {
            if let Some(placed) = self.stage.committed() {
                assert_eq!(placed.batch, batch, "batches come back in their order");
                return;
            }
            self.doorbell.prepare_sleep();
            if !self.stage.has_committed() {
                park();
            }
            self.doorbell.awake();
        }
    }
}

/// A log with so many shards, as at its first start.
fn log(batches_per_shard: usize, shards: usize) -> (Vec<Shard>, Committer<Nothing>) {
    let settings = Settings { batches_per_shard, commit_gap_us: 0, ..Settings::small() };
    let (recovered, _) = recover(Nothing, &settings, &mut |_, _| {}).unwrap();
    let epoch = next_epoch(recovered.highest_epoch, 0);
    let ears: Vec<Ear> = (0..shards).map(|_| Ear::default()).collect();
    let doorbells: Vec<_> = ears
        .iter()
        .map(|ear| {
            let ear = ear.clone();
            Doorbell::new(Arc::new(move || ear.wake()))
        })
        .collect();
    let wakes = doorbells.iter().map(|bell| Arc::new(Ring(bell.clone())) as Arc<dyn Wake>);
    let (stages, committer) = recovered.start(epoch, wakes.collect()).unwrap();
    let shards = stages.into_iter().zip(ears).zip(doorbells);
    let shards = shards.map(|((stage, ear), doorbell)| Shard { stage, ear, doorbell }).collect();
    (shards, committer)
}

/// Plays what the shards do, each on a thread, the last one on this, beside the committer.
fn play(
    (mut shards, committer): (Vec<Shard>, Committer<Nothing>),
    shard: impl Fn(&mut Shard) + Clone + Send + 'static,
) {
    let bell = committer.bell();
    let committer = spawn(move || assert!(run_committer(committer).is_ok()));
    let mut last = shards.pop().unwrap();
    let others: Vec<_> = shards
        .into_iter()
        .map(|mut other| {
            let shard = shard.clone();
            spawn(move || {
                other.ear.is_here();
                shard(&mut other);
            })
        })
        .collect();
    last.ear.is_here();
    shard(&mut last);
    for other in others {
        other.join();
    }
    bell.stop();
    committer.join();
}

/// Two urgent batches, one after the other: the committer falls asleep in between.
fn urgent_batches() {
    explore(Some(3), || {
        play(log(4, 1), |shard| {
            for batch in 0..2 {
                shard.message(8).unwrap();
                shard.stage.flush();
                shard.wait_for(batch);
            }
        });
    });
}

/// A lazy batch is under way and fills the ring: what somebody waits for has to hurry it along.
fn an_urgent_record_behind_a_lazy_batch() {
    explore(Some(3), || {
        play(log(2, 1), |shard| {
            shard.cursor();
            shard.stage.flush();
            shard.message(8).unwrap();
            shard.stage.flush();
            shard.wait_for(0);
            shard.stage.flush();
            shard.wait_for(1);
        });
    });
}

/// Nobody waits for it, but the server ends.
fn a_lazy_batch_and_the_end() {
    explore(Some(3), || {
        play(log(4, 1), |shard| {
            shard.cursor();
            shard.stage.flush();
        });
    });
}

/// Two shards hand over one batch each.
fn two_shards() {
    explore(Some(2), || {
        play(log(4, 2), |shard| {
            shard.message(8).unwrap();
            shard.stage.flush();
            shard.wait_for(0);
        });
    });
}

/// There is room for one of two shards. Who hears "try again" only looks from then on, and still
/// finds room in the end.
fn asks_for_room() {
    explore(Some(2), || {
        let (shards, committer) = log(4, 2);
        assert!(
            shards[0].stage.shared.lease(u64::from(super::FIRST_COMMIT), Lane::Message).is_some()
        );
        play((shards, committer), |shard| match shard.message(8) {
            Ok(()) => {}
            Err(Refused::Busy) => shard.wait_for_room(),
            Err(refused) => panic!("{refused}"),
        });
    });
}

#[test]
fn no_batch_is_slept_over() {
    urgent_batches();
    a_lazy_batch_and_the_end();
}

#[test]
fn a_lazy_batch_is_hurried_along() {
    an_urgent_record_behind_a_lazy_batch();
}

#[test]
fn no_shard_is_overlooked() {
    two_shards();
}

#[test]
fn who_finds_no_room_gets_a_segment() {
    asks_for_room();
}

/// A deadlock is what loom says when all threads sleep.
fn sleeps(mutation: Mutation, model: fn()) {
    let why = fails_with(mutation, model);
    assert!(why.contains("deadlock"), "{why}");
}

#[test]
fn noticed_a_bell_without_a_fence() {
    for place in ["fn ring(", "fn prepare("] {
        for model in [urgent_batches as fn(), an_urgent_record_behind_a_lazy_batch, two_shards] {
            sleeps(Mutation::new(BELL, place, "fence(", Effect::Skip), model);
        }
    }
}

#[test]
fn noticed_a_committer_that_does_not_say_it_sleeps() {
    let mutation = Mutation::new(BELL, "fn prepare(", ".store(", Effect::Skip);
    sleeps(mutation, urgent_batches);
}

#[test]
fn noticed_a_hurry_that_is_not_told() {
    let mutation = Mutation::new(STAGING, "pub fn flush(", "urgent.store(", Effect::Skip);
    sleeps(mutation, an_urgent_record_behind_a_lazy_batch);
}

#[test]
fn noticed_a_stop_that_is_not_told() {
    let mutation = Mutation::new(BELL, "pub fn stop(", ".store(", Effect::Skip);
    sleeps(mutation, a_lazy_batch_and_the_end);
}

#[test]
fn noticed_an_ask_that_is_lost() {
    let mutation = Mutation::new(ROOM, "fn ask(", ".swap(", Effect::Skip);
    let why = fails_with(mutation, asks_for_room);
    assert!(why.contains("maximum number of branches"), "{why}");
}

#[test]
fn noticed_room_that_is_given_twice() {
    let mutation = Mutation::new(ROOM, "fn lease(", "compare_exchange_weak(", Effect::Skip);
    let why = fails_with(mutation, two_leases);
    assert!(why.contains("room given twice"), "{why}");
}

#[test]
fn no_room_is_given_twice() {
    two_leases();
}

/// Two threads lease at once: what is left and what they have make what there was.
fn two_leases() {
    explore(None, || {
        let shared = Arc::new(super::room::Shared::new(&Settings::small(), 2));
        let there = 4 * u64::from(super::FIRST_COMMIT);
        shared.add(there);
        let other = Arc::clone(&shared);
        let leased = Arc::new(Plain::new(0));
        let theirs = Arc::clone(&leased);
        let thread = spawn(move || {
            theirs.store(other.lease(4_096, Lane::Reserve).unwrap_or(0), Ordering::Relaxed);
        });
        let mine = shared.lease(8_192, Lane::Message).unwrap_or(0);
        thread.join();
        let all = mine + leased.load(Ordering::Relaxed) + shared.room();
        assert_eq!(all, there, "room given twice");
    });
}
