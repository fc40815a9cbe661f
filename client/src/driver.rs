//! A session on a connection: reads, lets the session decide, writes.
//!
//! Invariant: the session is asked for output only when everything before is written, so what
//! waits in memory is bounded by what one round can produce.

use std::net::IpAddr;
use std::time::Duration;

use wire::ServerFrame;
use wire::client::{ClientEvent, Session};

use crate::address::Address;
use crate::connection::{Connection, ConnectionError, Received};

/// What an observer of raw frames wants done with one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The session gets it.
    Pass,
    /// The session never sees it: as if it was lost on the way.
    Lose,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    /// The rules; use it freely between calls, then [`Client::flush`].
    pub session: Session,
    connection: Option<Connection>,
}

impl Client {
    /// Not connected yet.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session, connection: None }
    }

    /// Connects (blocking) and says `Hello`. A former connection is dropped.
    ///
    /// # Errors
    /// No connection, see [`ConnectionError`].
    pub fn connect(
        &mut self,
        address: &Address,
        source: Option<IpAddr>,
        timeout: Duration,
        now_ms: u64,
    ) -> Result<(), ConnectionError> {
        self.disconnect();
        let connection = Connection::connect_from(address, source, timeout)?;
        self.attach(connection, now_ms)
    }

    /// Takes over a connection that is ready for `Hello`, and says it.
    ///
    /// # Errors
    /// The socket failed; the client is not connected then.
    pub fn attach(&mut self, connection: Connection, now_ms: u64) -> Result<(), ConnectionError> {
        self.connection = Some(connection);
        self.session.connected(now_ms);
        self.flush().map(|_| ())
    }

    /// Drops the connection without a word, as a lost network does.
    pub fn disconnect(&mut self) {
        self.connection = None;
        self.session.disconnected();
    }

    /// Closes in order, if connected.
    pub fn close(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close();
        }
        self.disconnect();
    }

    /// Reads once. With a blocking socket this waits as long as its read timeout says.
    /// `None`: there is no connection, or no more.
    ///
    /// # Errors
    /// The connection failed; the client is not connected then.
    pub fn receive(
        &mut self,
        now_ms: u64,
        events: &mut Vec<ClientEvent>,
    ) -> Result<Option<Received>, ConnectionError> {
        self.receive_observed(now_ms, events, &mut |_| Seen::Pass)
    }

    /// As [`Client::receive`], with an observer that sees every frame first.
    ///
    /// # Errors
    /// The connection failed; the client is not connected then.
    pub fn receive_observed(
        &mut self,
        now_ms: u64,
        events: &mut Vec<ClientEvent>,
        observe: &mut dyn FnMut(&ServerFrame<'_>) -> Seen,
    ) -> Result<Option<Received>, ConnectionError> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        let session = &mut self.session;
        let received = connection.receive(&mut |frame| {
            if observe(frame) == Seen::Pass {
                session.on_frame(frame, now_ms, events);
            }
        });
        match received {
            Ok(Received::Closed) => {
                let _ = connection.flush(); // the echo of a close, if it still gets through
                self.disconnect();
                Ok(None)
            }
            Ok(received) => Ok(Some(received)),
            Err(error) => {
                self.disconnect();
                Err(error)
            }
        }
    }

    /// Lets time pass: see [`Session::tick`]. A connection without a sign of life is dropped.
    pub fn tick(&mut self, now_ms: u64) {
        self.session.tick(now_ms);
        if self.session.is_lost(now_ms) {
            self.disconnect();
        }
    }

    /// Writes what is to leave now. Returns whether all of it is written.
    ///
    /// # Errors
    /// The connection failed; the client is not connected then.
    pub fn flush(&mut self) -> Result<bool, ConnectionError> {
        let Some(connection) = &mut self.connection else { return Ok(true) };
        let session = &mut self.session;
        let flushed = connection.flush().and_then(|empty| {
            if !empty {
                return Ok(false);
            }
            session.take_output(&mut |frame| connection.queue(frame));
            connection.flush()
        });
        if flushed.is_err() {
            self.disconnect();
        }
        flushed
    }

    /// The connection, if there is one.
    #[must_use]
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// The connection, to write to it past the session.
    pub fn connection_mut(&mut self) -> Option<&mut Connection> {
        self.connection.as_mut()
    }

    /// Whether there is a connection (not necessarily logged in).
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }
}
