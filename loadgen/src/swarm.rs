//! Thousands of clients on one thread: one `poll`, non-blocking sockets, edge-triggered.
//!
//! The owner drives it turn by turn and handles what happens in a [`Handler`]. Reading goes on
//! until a socket has nothing more; time passes for every client about four times a second, spread
//! over the turns. Deliberately not here: who reconnects when, and what is sent.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use client::{Address, Client, ClientEvent, Connection, ConnectionError, Received, Seen, Session};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use wire::ServerFrame;

/// Events taken per turn.
const EVENTS_PER_TURN: usize = 4_096;
/// Every client's session is told the time this often.
const TICK_MS: u64 = 250;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What to do about what happens. `index` is what [`Swarm::add`] returned.
pub trait Handler {
    /// A frame came in; the session has not seen it yet.
    fn frame(&mut self, _index: usize, _frame: &ServerFrame<'_>) -> Seen {
        Seen::Pass
    }

    /// Something happened to a session.
    fn event(&mut self, index: usize, session: &mut Session, event: ClientEvent);

    /// Its connection is gone.
    fn closed(&mut self, _index: usize, _error: Option<ConnectionError>) {}
}

/// See the module.
#[derive(Debug)]
pub struct Swarm {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    started: Instant,
    ticked_ms: u64,
    tick_next: usize,
    buffer: Vec<ClientEvent>,
}

impl Swarm {
    /// Without clients.
    ///
    /// # Errors
    /// The host gives no `poll`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            clients: Vec::new(),
            started: Instant::now(),
            ticked_ms: 0,
            tick_next: 0,
            buffer: Vec::new(),
        })
    }

    /// Takes a session, not connected yet, and returns its index.
    pub fn add(&mut self, session: Session) -> usize {
        self.clients.push(Client::new(session));
        self.clients.len() - 1
    }

    /// Connects one client (blocking) and says its `Hello`; `Welcome` comes in a later turn.
    ///
    /// # Errors
    /// No connection.
    pub fn connect(
        &mut self,
        index: usize,
        address: &Address,
        source: Option<IpAddr>,
    ) -> Result<(), ConnectionError> {
        let now_ms = self.now_ms();
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        client.disconnect();
        let connection = Connection::connect_from(address, source, CONNECT_TIMEOUT)?;
        connection.stream().set_nonblocking(true)?;
        let fd = connection.as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        // Closing the socket takes it out of the poll: nothing else holds the descriptor.
        self.poll.registry().register(&mut SourceFd(&fd), Token(index), interest)?;
        client.attach(connection, now_ms)
    }

    /// Drops a connection without a word.
    pub fn disconnect(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index) {
            client.disconnect();
        }
    }

    /// One turn: waits for at most `wait`, handles what came, lets time pass.
    ///
    /// # Errors
    /// The `poll` failed.
    pub fn turn(&mut self, wait: Duration, handler: &mut dyn Handler) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now_ms = self.now_ms();
        for event in &self.events {
            let Token(index) = event.token();
            if let Some(client) = self.clients.get_mut(index) {
                let ends = event.is_read_closed();
                serve((client, index), (now_ms, ends), &mut self.buffer, handler);
            }
        }
        self.tick(now_ms, handler);
        Ok(())
    }

    /// Does something with one client's session and writes what comes of it.
    pub fn with<H: Handler, T>(
        &mut self,
        index: usize,
        handler: &mut H,
        act: impl FnOnce(&mut Session, &mut H) -> T,
    ) -> Option<T> {
        let client = self.clients.get_mut(index)?;
        let result = act(&mut client.session, handler);
        flush(client, index, handler);
        Some(result)
    }

    /// One client.
    #[must_use]
    pub fn client(&self, index: usize) -> Option<&Client> {
        self.clients.get(index)
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many are connected.
    #[must_use]
    pub fn connected_count(&self) -> usize {
        self.clients.iter().filter(|client| client.is_connected()).count()
    }

    /// How many are logged in.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.clients.iter().filter(|client| client.session.is_live()).count()
    }

    /// Milliseconds since the swarm began; the sessions' clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells the time to as many clients as its passing allows, in turn.
    fn tick(&mut self, now_ms: u64, handler: &mut dyn Handler) {
        let count = u64::try_from(self.clients.len()).unwrap_or(u64::MAX);
        let passed_ms = now_ms.saturating_sub(self.ticked_ms).min(TICK_MS);
        let due = passed_ms * count / TICK_MS;
        if due == 0 {
            return;
        }
        self.ticked_ms = now_ms;
        for _ in 0..due {
            let index = self.tick_next;
            self.tick_next = (self.tick_next + 1) % self.clients.len();
            let Some(client) = self.clients.get_mut(index) else { continue };
            if client.is_connected() {
                client.tick(now_ms);
                if client.is_connected() {
                    flush(client, index, handler);
                } else {
                    handler.closed(index, None);
                }
            }
        }
    }
}

/// Reads what came. `ends`: the end is behind it, of which there is no further event; else a read
/// that did not fill its area was the last.
fn serve(
    (client, index): (&mut Client, usize),
    (now_ms, ends): (u64, bool),
    buffer: &mut Vec<ClientEvent>,
    handler: &mut dyn Handler,
) {
    loop {
        if !client.is_connected() {
            return; // an event of a connection that is gone
        }
        buffer.clear();
        let received =
            client.receive_observed(now_ms, buffer, &mut |frame| handler.frame(index, frame));
        for event in buffer.drain(..) {
            handler.event(index, &mut client.session, event);
        }
        match received {
            Ok(Some(Received::Bytes { full })) if full || ends => {}
            Ok(Some(_)) => break,
            Ok(None) => {
                handler.closed(index, None);
                return;
            }
            Err(error) => {
                handler.closed(index, Some(error));
                return;
            }
        }
    }
    flush(client, index, handler);
}

fn flush(client: &mut Client, index: usize, handler: &mut dyn Handler) {
    if let Err(error) = client.flush() {
        handler.closed(index, Some(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    struct Deaf;

    impl Handler for Deaf {
        fn event(&mut self, _index: usize, _session: &mut Session, _event: ClientEvent) {}
    }

    /// What a server that is killed wrote last and its end may be one event.
    #[test]
    fn an_end_that_comes_with_bytes_is_heard_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let mut swarm = Swarm::new().unwrap();
        let index = swarm.add(Session::new("token".to_owned(), client::SessionOptions::default()));
        swarm.connect(index, &Address::parse(&address).unwrap(), None).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(&[0]).unwrap();
        accepted.shutdown(std::net::Shutdown::Write).unwrap();
        // One turn hears of both, and nothing else would tell of the end before the session's
        // patience is over.
        let began = Instant::now();
        while swarm.connected_count() > 0 && began.elapsed() < Duration::from_secs(3) {
            swarm.turn(Duration::from_millis(100), &mut Deaf).unwrap();
        }
        assert_eq!(swarm.connected_count(), 0, "the end was not heard");
    }
}
