//! Clients that break the rules, against a real server over real sockets: each gets a named refusal
//! or close, costs bounded memory, and harms nobody. A well-behaved pair chats all the time.
//!
//! `strangers`: before login. `sessions`: after it. `sends`: ids, cursors, quotas. `patience`: who
//! is slow, silent, or does not ack. Deliberately not here: how frames are parsed (the wire crate).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod patience;
mod sends;
mod sessions;
mod strangers;
