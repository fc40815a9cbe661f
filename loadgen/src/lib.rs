//! Drives and checks chat servers: what the `myriad-loadgen` command is made of, and what the
//! server's own tests use to play clients.
//!
//! Reading guide: [`Peer`] is one client that waits; [`swarm::Swarm`] is thousands on one thread;
//! [`protocol`] is how a server is spoken to without I/O;
//! [`process::ServerProcess`] starts, kills and stops a server; [`check`] plays a conversation,
//! [`crash`] kills a server under load and proves that nothing is lost, [`mod@bench`], [`durable`],
//! [`mod@sustain`], [`survive`], [`echo`], [`connects`] and [`idle`] measure. [`live`] shows a run
//! as it goes, [`report`] is what it has to say afterwards.
//!
//! Deliberately not here: the client's rules (`wire::client`) and sockets (`client`).

/// Prints a line, as `println!` does, but goes on if nobody reads it any more: a panic would leave
/// child processes and folders behind.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => { $crate::say_line(format_args!($($words)*)) };
}

pub mod bench;
pub mod check;
pub mod connects;
pub mod crash;
pub mod durable;
pub mod echo;
pub mod idle;
pub mod interrupt;
pub mod live;
pub mod peer;
pub mod process;
pub mod protocol;
pub mod random;
pub mod report;
pub mod run;
pub mod survive;
pub mod sustain;
pub mod swarm;
pub mod tokens;
pub mod usage;

use std::fmt::Arguments;
use std::io::Write;

pub use client;
pub use client::{Client, ClientEvent, Connection, Session, SessionOptions, TickMark};
pub use peer::{Peer, PeerError};

/// What [`say!`] does.
pub fn say_line(line: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // The exit code still tells what the lines would have.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
