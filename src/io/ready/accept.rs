//! The listening side of the readiness driver: when to accept, and when to rest.
//!
//! Owner: its driver. The listener is edge-triggered: after one report it is asked until it says
//! "no more", over as many turns as that takes. When the system has no room for another
//! connection, asking again at once would spin, because the waiting connection stays ready; so
//! accepting rests for a while instead. The last descriptors are not for connections: a log that
//! can't open its next segment is worse than a client that has to come again.

use super::super::{Counts, socket};
use crate::limits::{ACCEPT_PAUSE_MS, FILES_RESERVED};
use crate::remedy::{self, Scarce};
use crate::sys;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Acceptor {
    listener: mio::net::TcpListener,
    /// The owner wants connections.
    on: bool,
    /// The kernel said that connections wait, and has not said "no more" since.
    waiting: bool,
    /// Descriptors from this number on are not for connections.
    files_max: i64,
    /// Set while accepting rests.
    again: Option<Instant>,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener, registry: &Registry, name: Token) -> io::Result<Self> {
        socket::prepare_listener(&listener)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        registry.register(&mut listener, name, Interest::READABLE)?;
        let files = sys::nofile().map_or(u64::MAX, |(soft, _)| soft);
        let files_max = i64::try_from(files.saturating_sub(FILES_RESERVED)).unwrap_or(i64::MAX);
        Ok(Self { listener, on: true, waiting: true, files_max, again: None })
    }

    pub(super) fn switch(&mut self, on: bool) {
        self.on = on;
    }

    /// The kernel reports connections.
    pub(super) fn notice(&mut self) {
        self.waiting = true;
    }

    /// Whether asking for a connection makes sense now.
    pub(super) fn is_due(&self) -> bool {
        self.on && self.waiting && self.again.is_none()
    }

    /// How long the driver may sleep for all that is known here. Ends a rest whose time is over.
    pub(super) fn timeout(&mut self, wanted: Option<Duration>) -> Option<Duration> {
        let mut timeout = wanted;
        if let Some(again) = self.again {
            let left = again.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.again = None;
            } else if self.on {
                timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
            }
        }
        if self.is_due() { Some(Duration::ZERO) } else { timeout }
    }

    /// The next connection; `None`: enough for this turn.
    pub(super) fn accept(&mut self, counts: &mut Counts) -> Option<(TcpStream, IpAddr)> {
        while self.is_due() {
            match self.listener.accept() {
                // The system gives the lowest free number, so a high one says that all are taken.
                Ok((socket, _)) if i64::from(socket.as_raw_fd()) >= self.files_max => {
                    drop(socket);
                    remedy::note(Scarce::Files);
                    self.rest(counts);
                }
                Ok((socket, address)) => {
                    counts.accepted += 1;
                    return Some((socket.into(), address.ip().to_canonical()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.waiting = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                    // That one left while it waited. The others have the next turn: failures
                    // shall not make a turn longer than connections would.
                    counts.accept_failures += 1;
                    return None;
                }
                Err(error) => {
                    remedy::note_error(&error);
                    self.rest(counts);
                }
            }
        }
        None
    }

    fn rest(&mut self, counts: &mut Counts) {
        counts.accept_failures += 1;
        counts.accept_pauses += 1;
        self.again = Some(Instant::now() + Duration::from_millis(ACCEPT_PAUSE_MS));
    }
}
