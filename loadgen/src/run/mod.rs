//! `run`: plays a scenario against a server, checks every message, and says what it cost.
//!
//! ```text
//!  row  rooms                         who lives there
//!   0   payload  schedule  host       bytes of a message; intended times; the host's limits
//!       groups                        who is in which group, and who writes
//!   1   oracle  scenario  sockets     once and in order; the TOML file; epoll and io_uring
//!   2   tally  course  pace           what is counted; what threads share; what is due
//!   3   ledger  copies                books; those of groups
//!       play  write  player           clients; who writes to whom; one thread's turn
//!   4   verdict  preflight  control   lost or not, goals; one login before; the whole run
//!       maker  look                   groups on a server; a look every second
//!       account  command              the report; the command line
//! ```
//!
//! Invariants: latency counts from the intended time of an action, whatever the server or this
//! program did in between; a message is judged by its recipient; nothing waits without a bound.
//! Deliberately not here: protocols (`protocol`), views (`report`, `live`).

mod account;
pub mod command;
mod control;
mod copies;
mod course;
mod groups;
mod host;
mod ledger;
mod limit;
mod look;
mod maker;
mod oracle;
mod pace;
mod payload;
mod play;
mod player;
mod preflight;
mod scenario;
mod schedule;
mod sockets;
mod tally;
mod verdict;
mod write;

use std::path::PathBuf;

pub use control::run;
pub use sockets::Engine;

/// What to play, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of a built-in scenario, or a TOML file.
    pub scenario: String,
    /// Address of the server.
    pub target: String,
    /// Address of the server's HTTP interface, which makes the groups of a scenario that has some.
    pub api: Option<String>,
    /// The server's HS256 secret, where the protocol has tokens.
    pub auth_secret_file: Option<PathBuf>,
    /// Number of the first user instead of the usual one, where the protocol has such.
    pub first_user: Option<u64>,
    /// Sessions instead of the scenario's.
    pub sessions: Option<u32>,
    /// The highest rate of messages per second; all of the scenario's are scaled to it.
    pub rate: Option<f64>,
    /// Process of the server, if it is on this host: its memory and CPU are measured.
    pub server_pid: Option<u32>,
    /// Which engine.
    pub engine: Engine,
    /// Threads; `None`: one per processor.
    pub threads: Option<u32>,
    /// Source addresses, see `host`.
    pub sources: Option<String>,
    /// What the server is, for the report.
    pub server_version: Option<String>,
}

/// Why a run can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The arguments or the scenario are wrong.
    #[error("{0}")]
    Arguments(String),
    /// The server can't be reached, or lets nobody in.
    #[error("{0}")]
    Target(String),
    /// The engine can't be opened, or failed.
    #[error("{0}")]
    Engine(String),
    /// Somebody wants the program to end.
    #[error("interrupted before the run began")]
    Interrupted,
}
