//! A client of Myriad over `std::net`, without threads and without a runtime.
//!
//! [`Connection`] carries frames over a socket, [`wire::client::Session`] knows the rules, and
//! [`Client`] puts the two together. The caller decides how to wait: with a read timeout (one
//! client) or with `poll` on the file descriptors (thousands).
//!
//! Owner: one thread at a time per value; nothing is shared.
//! Deliberately not here: TLS, minting tokens, saving a session's state.

mod address;
#[cfg(feature = "api")]
pub mod api;
mod connection;
mod driver;

pub use address::{Address, AddressError, Scheme};
pub use connection::{Connection, ConnectionError, Received};
pub use driver::{Client, Seen};
pub use wire;
pub use wire::client::{ClientEvent, Outgoing, Session, SessionOptions, SessionState, TickMark};

/// 64 random bits from the host, for jitter; 0 if the host has none to give.
#[must_use]
pub fn random_bits() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}
