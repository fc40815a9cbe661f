//! Myriad: a chat server, built towards ten million live sessions on one host.
//!
//! Read the modules in the order below: a room uses only rooms above its own (`tests/tidy.rs`
//! holds that). `docs/architecture.md` is the map.

// row 0: numbers with units, time, counters, atomics, the few libc calls, planted bugs
pub mod canary;
pub mod clock;
pub mod limits;
pub mod metrics;
mod sync;
pub mod sys;
// row 1: settings, memory, queues between shards, what to do when the host runs out
pub mod config;
pub mod mem;
pub mod remedy;
pub mod ring;
// row 2: the append log, the drivers, tokens (the wire is a crate of its own)
pub mod auth;
pub mod io;
pub mod log;
// row 3: what a shard remembers
pub mod state;
// row 4: the rules, a step per file
pub mod path;
// row 5: the phases of one turn
pub mod shard;
// row 6: beside the shards: history, accounts and what belongs to them
pub mod directory;
pub mod history;
// row 7: accounts, groups and messages for programs that speak HTTP
pub mod api;
// row 8: start, drain, signals; the terminal client
pub mod chat;
pub mod server;
// row 9: what the host allows, judged with what the server knows of itself
pub mod doctor;
// row 10: the command line, which starts any of them
pub mod cli;
