//! Between the kernel's reports and the driver's flags: the entry of a connection, and the calls
//! on it that need no more than its socket.
//!
//! Owner: its driver.

use super::super::Closed;
use crate::mem::Token;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

const _: () = assert!(usize::BITS == 64, "kernel tokens carry index and generation");
const _: () = assert!(size_of::<Entry>() == 12, "the budget of a connection here");

/// In the ready list.
pub(super) const QUEUED: u8 = 1;
/// There may be something to read.
pub(super) const READABLE: u8 = 1 << 1;
/// The peer's end, or an error, stands behind what there is to read.
pub(super) const ENDING: u8 = 1 << 2;
/// There may be room to write.
pub(super) const WRITABLE: u8 = 1 << 3;
/// The owner wants no data now.
pub(super) const PAUSED: u8 = 1 << 4;
/// A send is under way; its rest is in `outgoing`.
pub(super) const SENDING: u8 = 1 << 5;

/// What the driver knows of the connection at one index.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) socket: Option<TcpStream>,
    pub(super) generation: u32,
    pub(super) flags: u8,
    /// Found by a send; reported by the next `poll`.
    pub(super) fault: Option<Closed>,
}

/// Our name for a connection as the kernel keeps it.
#[allow(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
pub(super) fn name(token: Token) -> mio::Token {
    mio::Token(token.to_u64() as usize)
}

/// What a report of the kernel means for us.
pub(super) fn flags_of(event: &Event) -> u8 {
    let mut flags = 0;
    let ending = event.is_read_closed() || event.is_error();
    if event.is_readable() || ending {
        flags |= READABLE;
    }
    if ending {
        flags |= ENDING;
    }
    if event.is_writable() || event.is_write_closed() || event.is_error() {
        flags |= WRITABLE;
    }
    flags
}

/// Changes what the kernel watches.
pub(super) fn watch(
    registry: &Registry,
    socket: &TcpStream,
    token: Token,
    interest: Interest,
) -> io::Result<()> {
    registry.reregister(&mut SourceFd(&socket.as_raw_fd()), name(token), interest)
}

/// Writes what fits now: 0 if nothing does.
pub(super) fn write_some(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
