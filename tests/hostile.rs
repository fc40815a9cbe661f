//! Clients that break the rules, against a real server over real sockets: each gets a named refusal
//! or close, costs bounded memory, and harms nobody. A well-behaved pair chats all the time.
//!
//! `abuse`: within the letter of the protocol. `strangers`: before login. `sessions`: after it.
//! `sends`: ids, cursors, quotas. `patience`: who is slow, silent, or does not ack. Deliberately
//! not here: how frames are parsed (the wire crate).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking, and its numbers are small"
)]

mod support;

#[path = "hostile/abuse.rs"]
mod abuse;
#[path = "hostile/patience.rs"]
mod patience;
#[path = "hostile/sends.rs"]
mod sends;
#[path = "hostile/sessions.rs"]
mod sessions;
#[path = "hostile/strangers.rs"]
mod strangers;
