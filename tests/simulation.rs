//! Runs whole worlds from seeds; a failure prints one line that replays it.
//!
//! `MYRIAD_SEED=n` runs that seed only, `MYRIAD_SEEDS=n` runs so many instead of the usual number.
//! `MYRIAD_TRACE=1` prints every frame that phones hear.

#![allow(clippy::expect_used, reason = "a simulation may fail by panicking: its seed is printed")]

mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use sim::plan::{Canary, Plan};
use sim::world::World;

/// Seeds per test unless the environment says otherwise.
const SEEDS: u64 = 120;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.trim().parse().ok()
}

/// Runs a world per seed.
fn run_seeds(test: &str, credits: usize) {
    let seeds = match number("MYRIAD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MYRIAD_SEEDS").unwrap_or(SEEDS),
    };
    let (mut sent, mut delivered, mut boots) = (0, 0, 0);
    let mut refusals = std::collections::BTreeMap::new();
    for seed in seeds {
        let replay =
            format!("replay: MYRIAD_SEED={seed} cargo nextest run --test simulation {test}");
        let run = || {
            let mut world = World::new(Plan::of(seed, credits));
            world.run().map(|()| world).map_err(|what| format!("{what}\n{replay}"))
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(world)) => {
                sent += world.checks.sent_count();
                delivered += world.checks.deliveries;
                boots += world.boots;
                for (reason, count) in &world.checks.refusals {
                    *refusals.entry(*reason).or_insert(0) += count;
                }
            }
            Ok(Err(what)) => panic!("{what}"),
            Err(panic) => {
                eprintln!("{replay}");
                resume_unwind(panic);
            }
        }
    }
    println!("{sent} sent, {delivered} delivered, {boots} boots, refused: {refusals:?}");
}

#[test]
fn whole_server_keeps_its_word_with_one_credit() {
    run_seeds("whole_server_keeps_its_word_with_one_credit", 1);
}

#[test]
fn whole_server_keeps_its_word_with_two_credits() {
    run_seeds("whole_server_keeps_its_word_with_two_credits", 2);
}

#[test]
fn whole_server_keeps_its_word_with_many_credits() {
    run_seeds("whole_server_keeps_its_word_with_many_credits", 64);
}

#[test]
fn two_shards_whose_queues_toward_each_other_are_full_both_go_on() {
    for seed in 0..10 {
        let mut world = World::new(Plan::of_full_queues(seed));
        let (mut parked, mut rounds) = (0, 0);
        let users: Vec<u64> = world.phones.iter().map(|phone| phone.name.0).collect();
        for _ in 0..400 {
            for index in 0..users.len() {
                // Everybody writes to the other shard all the time.
                let to = users[(index + users.len() / 2) % users.len()];
                world.write(index, to);
            }
            world.pass(1, 1);
            world.round();
            let server = world.server().expect("nothing breaks here");
            let full = server.shards.iter().all(|shard| shard.load().parked > 0);
            parked += u32::from(full);
            rounds += 1;
        }
        assert!(parked > rounds / 2, "both queues were full in {parked} of {rounds} rounds only");
        let sent = world.checks.sent_count();
        assert!(sent > 100, "only {sent} went through while both queues were full");
        world.mend();
        world.come_to_rest().and_then(|()| world.judge()).expect("everything arrives");
    }
}

/// What the checkers say of worlds that are broken on purpose.
fn complaints(canary: Canary) -> Vec<String> {
    let complaint = |seed| {
        let mut plan = Plan::of(seed, 2);
        plan.canary = Some(canary);
        plan.chances.crash = 10;
        plan.chances.disk_full = 0;
        World::new(plan).run().err()
    };
    (0..30).filter_map(complaint).collect()
}

#[test]
fn canary_a_disk_that_forgets_is_found() {
    let found = complaints(Canary::DiskForgets);
    assert!(found.iter().any(|what| what.starts_with("I1")), "found: {found:#?}");
}

#[test]
fn canary_swapped_deliveries_are_found() {
    let found = complaints(Canary::PhoneSwaps);
    assert!(found.iter().any(|what| what.starts_with("I3")), "found: {found:#?}");
}
