//! One client that waits for what it wants to see: for tests and scripted conversations.
//!
//! Nothing happens between calls: a peer that is not waited on reads nothing and sends no
//! heartbeat, so a server closes it after 2.5 intervals. Deliberately not here: reconnecting by
//! itself; a script says when.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use client::{
    Address, Client, ClientEvent, ConnectionError, Session, SessionOptions, SessionState,
};
use wire::Stream;
use wire::client::OutboxFull;

use crate::interrupt;

/// Longest wait for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a `Welcome`.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Events kept that nobody asked for; beyond it the oldest are dropped.
pub const BACKLOG_EVENTS_MAX: usize = 100_000;
/// How long one read waits, so that time passes for the session.
const READ_WAIT: Duration = Duration::from_millis(100);

/// Why a peer did not get what it waited for.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The server closed; the events tell why.
    #[error("the server closed the connection; last events: {last:?}")]
    Closed {
        /// What came last.
        last: Vec<ClientEvent>,
    },
    /// It did not come.
    #[error("nothing of the kind within {waited:?}; last events: {last:?}")]
    Timeout {
        /// How long it was waited for.
        waited: Duration,
        /// What came instead, last.
        last: Vec<ClientEvent>,
    },
    /// The outbox is full.
    #[error(transparent)]
    Outbox(#[from] OutboxFull),
    /// Somebody wants the program to end.
    #[error("interrupted")]
    Interrupted,
}

/// See the module.
#[derive(Debug)]
pub struct Peer {
    /// The client: free to use between waits.
    pub client: Client,
    address: Address,
    started: Instant,
    backlog: VecDeque<ClientEvent>,
}

impl Peer {
    /// Connects, logs in and waits for `Welcome`.
    ///
    /// # Errors
    /// No connection, or no `Welcome`.
    pub fn login(url: &str, token: &str) -> Result<Self, PeerError> {
        Self::login_with(url, token, SessionOptions::default(), &SessionState::default())
    }

    /// As [`Peer::login`], with options and what an earlier life left.
    ///
    /// # Errors
    /// No connection, or no `Welcome`.
    pub fn login_with(
        url: &str,
        token: &str,
        options: SessionOptions,
        state: &SessionState,
    ) -> Result<Self, PeerError> {
        let mut peer = Self::offline_with(url, token, options, state)?;
        peer.reconnect()?;
        Ok(peer)
    }

    /// Not connected yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn offline(url: &str, token: &str) -> Result<Self, PeerError> {
        Self::offline_with(url, token, SessionOptions::default(), &SessionState::default())
    }

    /// As [`Peer::offline`], with options and what an earlier life left.
    ///
    /// # Errors
    /// The address is none.
    pub fn offline_with(
        url: &str,
        token: &str,
        options: SessionOptions,
        state: &SessionState,
    ) -> Result<Self, PeerError> {
        Ok(Self {
            client: Client::new(Session::restore(token, options, state)),
            address: Address::parse(url).map_err(ConnectionError::from)?,
            started: Instant::now(),
            backlog: VecDeque::new(),
        })
    }

    /// Connects without waiting for `Welcome`.
    ///
    /// # Errors
    /// No connection.
    pub fn connect(&mut self) -> Result<(), PeerError> {
        let now_ms = self.now_ms();
        self.client.connect(&self.address, None, CONNECT_TIMEOUT, now_ms)?;
        if let Some(connection) = self.client.connection() {
            let stream = connection.stream();
            stream.set_write_timeout(Some(CONNECT_TIMEOUT)).map_err(ConnectionError::from)?;
        }
        Ok(())
    }

    /// Connects anew (a former connection is dropped) and waits for `Welcome`.
    ///
    /// # Errors
    /// No connection, or no `Welcome`.
    pub fn reconnect(&mut self) -> Result<(), PeerError> {
        self.backlog.retain(|event| !matches!(event, ClientEvent::Welcome { .. }));
        self.connect()?;
        self.wait_for(|event| matches!(event, ClientEvent::Welcome { .. }), LOGIN_TIMEOUT)?;
        Ok(())
    }

    /// As [`Peer::reconnect`], to another address (a server that came back on another port).
    ///
    /// # Errors
    /// No connection, or no `Welcome`.
    pub fn reconnect_to(&mut self, url: &str) -> Result<(), PeerError> {
        self.address = Address::parse(url).map_err(ConnectionError::from)?;
        self.reconnect()
    }

    /// Drops the connection without a word.
    pub fn drop_connection(&mut self) {
        self.client.disconnect();
    }

    /// Puts a message into the outbox and writes it if connected. Returns its `client_id`.
    ///
    /// # Errors
    /// The outbox is full, or the connection failed.
    pub fn send(&mut self, to: u64, payload: impl AsRef<[u8]>) -> Result<u64, PeerError> {
        self.send_to(Stream::User(to), payload)
    }

    /// The same to a user or a group.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub fn send_to(&mut self, to: Stream, payload: impl AsRef<[u8]>) -> Result<u64, PeerError> {
        let client_id = self.client.session.send(to, payload.as_ref(), 0)?;
        self.client.flush()?;
        Ok(client_id)
    }

    /// Says that the conversation with `peer` is read up to a position of the own inbox.
    ///
    /// # Errors
    /// The connection failed.
    pub fn read(&mut self, peer: u64, up_to: u64) -> Result<(), PeerError> {
        self.client.session.read(Some(peer), up_to);
        self.client.flush()?;
        Ok(())
    }

    /// Says that the user types.
    ///
    /// # Errors
    /// The connection failed.
    pub fn typing(&mut self, to: u64, stopped: bool) -> Result<(), PeerError> {
        self.client.session.typing(to, stopped);
        self.client.flush()?;
        Ok(())
    }

    /// Watches the presence of these users; more than the protocol allows changes nothing.
    ///
    /// # Errors
    /// The connection failed.
    pub fn watch(&mut self, users: &[u64]) -> Result<(), PeerError> {
        if self.client.session.watch(users).is_ok() {
            self.client.flush()?;
        }
        Ok(())
    }

    /// Waits for an event, takes it out and returns it; others stay for later calls. Events that
    /// came before this call count.
    ///
    /// # Errors
    /// The time is over, or the connection ended without it.
    pub fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&ClientEvent) -> bool,
        timeout: Duration,
    ) -> Result<ClientEvent, PeerError> {
        let deadline = Instant::now() + timeout;
        let mut looked_at = 0;
        loop {
            let found = self.backlog.iter().skip(looked_at).position(&mut wanted);
            if let Some(event) = found.and_then(|index| self.backlog.remove(looked_at + index)) {
                return Ok(event);
            }
            looked_at = self.backlog.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(PeerError::Timeout { waited: timeout, last: self.last_events() });
            }
            if interrupt::requested() {
                return Err(PeerError::Interrupted);
            }
            if !self.client.is_connected() {
                return Err(PeerError::Closed { last: self.last_events() });
            }
            self.pump(left.min(READ_WAIT))?;
        }
    }

    /// Reads, writes and lets time pass for so long, whatever comes.
    ///
    /// # Errors
    /// The connection failed. That the server closed it is no error here.
    pub fn quiet(&mut self, time: Duration) -> Result<(), PeerError> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.client.is_connected() {
                return Ok(());
            }
            self.pump(left.min(READ_WAIT))?;
        }
    }

    /// Reads what is there now (waiting at most `wait`) and writes what is due.
    ///
    /// # Errors
    /// The connection failed.
    pub fn pump(&mut self, wait: Duration) -> Result<(), PeerError> {
        if let Some(connection) = self.client.connection() {
            // A timeout of zero would mean for ever.
            let wait = wait.max(Duration::from_millis(1));
            connection.stream().set_read_timeout(Some(wait)).map_err(ConnectionError::from)?;
        }
        let mut events = Vec::new();
        let now_ms = self.now_ms();
        let received = self.client.receive(now_ms, &mut events);
        self.backlog.extend(events);
        while self.backlog.len() > BACKLOG_EVENTS_MAX {
            self.backlog.pop_front();
        }
        match received {
            Err(ConnectionError::Io(error)) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        self.client.tick(self.now_ms());
        self.client.flush()?;
        Ok(())
    }

    /// What came and was not waited for.
    pub fn take_events(&mut self) -> Vec<ClientEvent> {
        self.backlog.drain(..).collect()
    }

    /// Milliseconds of this peer's clock, as its session knows it.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn last_events(&self) -> Vec<ClientEvent> {
        let skipped = self.backlog.len().saturating_sub(8);
        self.backlog.iter().skip(skipped).cloned().collect()
    }
}
