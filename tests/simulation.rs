//! Runs whole worlds from seeds; a failure prints one line that replays it.
//!
//! `MYRIAD_SEED=n` runs that seed only, `MYRIAD_SEEDS=n` so many instead of the usual number, from
//! `MYRIAD_FIRST_SEED=n` on. `MYRIAD_SECONDS=n` begins no world after that time, and seeds do not
//! end before (`scripts/soak`). `MYRIAD_TRACE=1` prints every frame that phones hear.

#![allow(clippy::expect_used, reason = "a simulation may fail by panicking: its seed is printed")]

#[cfg(feature = "canary")]
#[path = "sim/canaries.rs"]
mod canary;
#[path = "sim/orders.rs"]
mod orders;
mod sim;

use std::time::Duration;

use myriad::metrics::Counters;

use sim::harness::{self, Failure, Order, Sums};
use sim::plan::{Death, Plan, Trick};
use sim::world::World;

/// Worlds of each test unless the environment says otherwise: together two minutes on two cores.
const WORLDS: u64 = 2_000;
/// See [`WORLDS`].
const CRASHING_WORLDS: u64 = 2_000;
/// See [`WORLDS`].
const WHIMSICAL_WORLDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.trim().parse().ok()
}

/// Runs the worlds that the environment asks for, or the usual ones.
fn run_seeds(test: &'static str, plan: fn(u64) -> Plan, usual: u64) -> Sums {
    let time = number("MYRIAD_SECONDS").map(Duration::from_secs);
    let usual = if time.is_some() { u64::MAX } else { usual };
    let (first, count) = match number("MYRIAD_SEED") {
        Some(seed) => (seed, 1),
        None => (number("MYRIAD_FIRST_SEED").unwrap_or(0), number("MYRIAD_SEEDS").unwrap_or(usual)),
    };
    harness::run(Order { test, plan, first, count, time })
}

#[test]
fn slow_whole_server_keeps_its_word() {
    run_seeds("slow_whole_server_keeps_its_word", Plan::of, WORLDS);
}

#[test]
fn slow_server_that_crashes_all_the_time_keeps_its_word() {
    let test = "slow_server_that_crashes_all_the_time_keeps_its_word";
    run_seeds(test, Plan::of_crashes, CRASHING_WORLDS);
}

#[test]
fn slow_whims_of_people_are_obeyed() {
    run_seeds("slow_whims_of_people_are_obeyed", Plan::of_whims, WHIMSICAL_WORLDS);
}

/// Runs a tiny world whose starts die after so many disk actions; returns how many of the deaths
/// were reached.
fn die(seed: u64, death: Death, deaths: &[u32], sums: &mut Sums) -> u64 {
    let plan = Plan::of_deaths(seed, death, deaths.to_vec());
    match harness::run_world(plan) {
        Ok(world) => {
            sums.add(&world);
            world.toll.crashes
        }
        Err(Failure { what, .. }) => {
            panic!("{what}\nin world {seed} with {death:?} and {deaths:?}")
        }
    }
}

#[test]
fn slow_a_crash_at_any_single_disk_action_loses_nothing() {
    let mut sums = Sums::default();
    for (seed, death) in [(1, Death::Process), (2, Death::Host), (3, Death::Host)] {
        // At every action of a life, from the first of its first start on.
        let reached = |at: &u32| die(seed, death, &[*at], &mut sums) > 0;
        let lived = (0..).take_while(reached).count();
        assert!(lived > 50, "a life of {lived} disk actions only");
        // And again at every action of the start that follows, until that start is through.
        let mut longest = 0;
        for at in (0..u32::try_from(lived).unwrap_or(0)).step_by(7) {
            let again = (0..30).take_while(|again| die(seed, death, &[at, *again], &mut sums) > 1);
            longest = longest.max(again.count());
        }
        assert!(longest > 8, "a start of {longest} disk actions only");
    }
    println!("{sums}");
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

#[test]
fn shards_that_are_told_to_shed_do_so_and_lose_nothing() {
    let mut counted = Counters::default();
    for seed in (3..).step_by(4).take(24) {
        let mut plan = Plan::of(seed);
        // Slow and quiet enough for users to have done nothing for a while.
        plan.pressed_per_mille = 20;
        plan.step_ms_max = 100;
        plan.chances.write = 3;
        plan.chances.chatter = 5;
        plan.chances.crash = 0; // what is counted is that of one boot
        plan.chances.drain = 0;
        let mut world = World::new(plan);
        world.phones.iter_mut().for_each(|phone| phone.session.set_active(false));
        world.run().unwrap_or_else(|what| panic!("{what} in world {seed}"));
        counted.add(&world.counted);
    }
    let Counters { shed, reads_delayed, stretched, turned_away, sessions_shed, .. } = counted;
    let all = [shed, reads_delayed, stretched, turned_away, sessions_shed];
    assert!(all.iter().all(|count| *count > 0), "{counted:?}");
    assert!(counted.busy_ms > 0 && counted.strained_ms > 0 && counted.full_ms > 0, "{counted:?}");
}

/// What the checkers say of worlds that are broken on purpose from outside.
fn complaints(trick: Trick) -> Vec<String> {
    let complaint = |seed| {
        let mut plan = Plan::of(seed);
        plan.trick = Some(trick);
        plan.chances.crash = 10;
        plan.chances.disk_full = 0;
        plan.chances.restore = 0;
        harness::run_world(plan).err().map(|failure| failure.what)
    };
    (0..30).filter_map(complaint).collect()
}

#[test]
fn a_disk_that_forgets_is_found() {
    let found = complaints(Trick::DiskForgets);
    assert!(found.iter().any(|what| what.starts_with("I1")), "found: {found:#?}");
}

#[test]
fn swapped_deliveries_are_found() {
    let found = complaints(Trick::PhoneSwaps);
    assert!(found.iter().any(|what| what.starts_with("I3")), "found: {found:#?}");
}
