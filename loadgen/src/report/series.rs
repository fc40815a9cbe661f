//! A run second by second.

use serde::{Deserialize, Serialize};

/// One second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the start, at the end of it.
    pub at_s: f64,
    /// The phase it was in.
    pub phase: String,
    /// Sessions logged in, at the end of it.
    pub sessions: u64,
    /// Logins in it.
    pub logins: u64,
    /// Sessions and attempts that failed in it.
    pub failed: u64,
    /// Messages handed over in it, per second.
    pub sent_per_second: f64,
    /// Messages that arrived in it, per second.
    pub delivered_per_second: f64,
    /// Messages that went wrong in it.
    pub wrong: u64,
    /// Latency of what was completed in it.
    pub latency_us: SecondLatencies,
    /// How late the generator began what it was meant to begin, at the worst.
    pub behind_us: u64,
}

/// Latency of one second; `null` where nothing was completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondLatencies {
    /// Connect and log in.
    pub connect: Option<Quantiles>,
    /// Until the server answered.
    pub sent: Option<Quantiles>,
    /// Until it arrived.
    pub delivered: Option<Quantiles>,
    /// Until the sender knew it read.
    pub read: Option<Quantiles>,
}

/// A second's latency in brief.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half are faster.
    pub p50: u64,
    /// 99 of 100 are faster.
    pub p99: u64,
    /// The slowest.
    pub max: u64,
}
