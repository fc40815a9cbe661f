//! The HTTP API over real sockets with a real server: what docs/http-api.md promises.
//!
//! `document`: docs/openapi.json is what the code says. `walk`: every endpoint as nobody, as the
//! wrong user, as a suspended one and as the right one. `requests`: too slow, too large, repeated,
//! cut off. `leaving`: what is left of a deleted account, and the operator's figures. `kills`:
//! groups are changed while the server is killed. Deliberately not here: what shards do with blocks
//! and groups (`end_to_end`), and what the directory keeps (`directory`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking"
)]

#[path = "api/document.rs"]
mod document;
#[path = "api/kills.rs"]
mod kills;
#[path = "api/leaving.rs"]
mod leaving;
#[path = "api/requests.rs"]
mod requests;
#[path = "api/street.rs"]
mod street;
mod support;
#[path = "api/walk.rs"]
mod walk;
#[path = "api/webhook.rs"]
mod webhook;
