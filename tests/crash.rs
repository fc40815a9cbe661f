//! Kill -9 at any moment under load: no message whose `Sent` was seen is lost, none is stored twice
//! after a retry, no position is used again (I1, I2, I4).
//!
//! The clients, the oracle and the moments of death are `loadgen::crash`; each run is replayed by
//! its seed as far as a real server can be. Deliberately not here: power loss (the simulator's).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

mod support;

use loadgen::crash::{self, Options, Report};

/// Kills the server so many times and wants every promise kept.
fn kills(shards: usize, transport: &str, rounds: u32, seed: u64) -> Report {
    let options = Options {
        serve: support::options(shards, &[]),
        transport: transport.to_owned(),
        rounds,
        sessions: 40,
        seconds_per_round: 1.0,
        seed,
        ..Options::new("")
    };
    let report = crash::run(&options).unwrap();
    println!("{report:?}");
    assert!(report.passed, "seed {seed}: {:#?}", report.violations);
    assert_eq!(report.rounds, rounds);
    assert!(report.counts.messages > u64::from(rounds), "there was load");
    report
}

#[test]
fn slow_nothing_acked_is_lost_in_fifty_kills_under_load() {
    kills(2, "ws", 35, 1);
    kills(1, "tcp", 15, 2);
}
