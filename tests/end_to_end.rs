//! People who keep the rules, over real sockets with a real server: what the README promises them.
//!
//! `messages`: offline, several devices, ticks, retries. `endings`: expiry, deletes. `presence`:
//! online, last seen, typing. `groups`: one order, ticks, coming and going. `lifecycle`: starting,
//! refusing to start, draining, keys. `overload`: too much to do, too little memory, very many
//! goodbyes.
//! Deliberately not here: broken clients (`hostile`), kills under load (`crash`), full disks
//! (`disk_full`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking, and its numbers are small"
)]

mod support;

#[path = "end_to_end/endings.rs"]
mod endings;
#[path = "end_to_end/groups.rs"]
mod groups;
#[path = "end_to_end/lifecycle.rs"]
mod lifecycle;
#[path = "end_to_end/messages.rs"]
mod messages;
#[path = "end_to_end/overload.rs"]
mod overload;
#[path = "end_to_end/presence.rs"]
mod presence;
