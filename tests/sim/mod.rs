//! The seeded simulation of the whole server: the real shards, rules, log and client sessions run
//! in one thread against a network, a disk and a clock that follow from one number.
//!
//! ```text
//!  plan     what a world is like            checks   what must hold: I1 to I6, and ticks
//!  world    the rounds, the rest, the end   trouble  what breaks
//!  server   one boot of the real server     store    where a log is opened
//!  phone    a client on a simulated socket  harness  many worlds on all cores, and their sums
//!  random   the one source of chance        fast     maps for the checkers
//!  groups   who makes and changes groups
//! ```
//!
//! Deliberately not here: threads, sockets and files (`tests/conformance/` and the end-to-end
//! tests have those), history.

pub(crate) mod checks;
pub(crate) mod fast;
mod groups;
pub(crate) mod harness;
pub(crate) mod people;
pub(crate) mod phone;
pub(crate) mod plan;
mod pressure;
pub(crate) mod random;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod trouble;
pub(crate) mod world;
