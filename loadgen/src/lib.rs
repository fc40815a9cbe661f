//! Drives and checks chat servers: what the `myriad-loadgen` command is made of, and what the
//! server's own tests use to play clients.
//!
//! Reading guide: [`Peer`] is one client that waits; [`swarm::Swarm`] is thousands on one thread;
//! [`process::ServerProcess`] starts, kills and stops a server; [`check`] plays a conversation,
//! [`crash`] kills a server under load and proves that nothing is lost, [`bench`], [`echo`] and
//! [`idle`] measure.
//!
//! Deliberately not here: the client's rules (`wire::client`) and sockets (`client`).

pub mod bench;
pub mod check;
pub mod crash;
pub mod echo;
pub mod idle;
pub mod interrupt;
pub mod peer;
pub mod process;
pub mod random;
pub mod swarm;
pub mod tokens;
pub mod usage;

pub use client;
pub use client::{Client, ClientEvent, Connection, Session, SessionOptions, TickMark};
pub use peer::{Peer, PeerError};
