//! What a crash run is told, and what it tells.

use std::path::PathBuf;

use client::{AddressError, ConnectionError};
use serde::Serialize;

use super::oracle::Counts;
use crate::process::{ProcessError, ServeOptions};
use crate::tokens::MintError;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to start the server.
    pub serve: ServeOptions,
    /// `ws` or `tcp`.
    pub transport: String,
    /// How often it is killed.
    pub rounds: u32,
    /// Users; each writes to two others.
    pub sessions: usize,
    /// Longest life of the server in one round; the moment of death is random within it.
    pub seconds_per_round: f64,
    /// Unanswered messages per sender.
    pub in_flight: usize,
    /// Bytes per message.
    pub payload_bytes: usize,
    /// Of everything random here.
    pub seed: u64,
    /// Says a line per round on standard error.
    pub talkative: bool,
}

impl Options {
    /// A short run against a binary.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            serve: ServeOptions::new(binary),
            transport: "ws".to_owned(),
            rounds: 10,
            sessions: 100,
            seconds_per_round: 1.0,
            in_flight: 4,
            payload_bytes: 150,
            seed: 1,
            talkative: false,
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every promise was kept.
    pub passed: bool,
    /// Of the run.
    pub seed: u64,
    /// Kills.
    pub rounds: u32,
    /// Users.
    pub sessions: usize,
    /// Audits of everything stored.
    pub audits: u32,
    /// Connections made.
    pub connects: u64,
    /// Connections dropped on purpose while the server lived.
    pub drops: u64,
    /// Messages that were refused for a time and sent again.
    pub delayed: u64,
    /// `Goodbye` frames seen at orderly ends.
    pub goodbyes: u64,
    /// What the oracle counted.
    pub counts: Counts,
    /// Broken promises, in words (the first ones).
    pub violations: Vec<String>,
    /// How long it all took.
    pub seconds: f64,
}

/// Why a run could not be finished (which says nothing about the promises).
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// The server can't be started or stopped.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No tokens.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// Its address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A living server can't be reached.
    #[error("the server lives but can't be reached: {0}")]
    Connect(ConnectionError),
    /// `poll` failed.
    #[error("can't wait for sockets: {0}")]
    Poll(#[from] std::io::Error),
    /// Not everybody got a `Welcome`.
    #[error("{missing} of {wanted} clients were not welcomed in time; the server said: {log}")]
    NotWelcome {
        /// How many were not.
        missing: usize,
        /// Of how many.
        wanted: usize,
        /// The end of the server's standard error.
        log: String,
    },
    /// Somebody wants the program to end.
    #[error("interrupted")]
    Interrupted,
}
