//! The readiness driver: epoll or kqueue through `mio`, made to look like completions.
//!
//! Owner: one shard's thread. Edge-triggered. What the kernel reports is written into the flags of
//! the connection's entry, and the connection joins the `ready` list (once); each `poll` serves
//! the front of that list and reads each connection **once**, into one buffer that all share. A
//! short read has drained the socket, so no second read is needed to hear "would block"; a full
//! one, or one before an announced end, puts the connection at the back of the list. That is
//! both the fairness and the bound.
//!
//! A send is tried at once; only what did not fit is kept, in a side map, and only then is the
//! kernel asked about writability. An entry is 12 bytes; a connection that is idle has nothing else
//! here.
//!
//! ```text
//!   kernel --report--> flags |= READABLE ...      resume()
//!                      QUEUED? no: push  ---+   +---'
//!                                           v   v
//!                     ready list: [ a b c d e f ] --front--> write on, read once
//!                                             ^-- back ---- full read or end announced
//! ```
//!
//! Not here: TLS, timers (the wheel), anything about frames.

mod accept;
mod entry;
#[cfg(target_os = "linux")]
mod lobby;
mod serve;

use super::{Closed, Completion, Counts, Driver, How, Next};
use crate::limits::{ACCEPTS_PER_TURN_MAX, CLOSE_READS_MAX};
use crate::mem::Token;
use crate::remedy;
use crate::ring::Doorbell;
use accept::Acceptor;
use entry::{Entry, PAUSED, QUEUED, READABLE, SENDING, WRITABLE};
use entry::{flags_of, name, watch, write_some};
use hashbrown::HashMap;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// Kernel tokens of the driver's own sources. Slabs leave the two highest indices free.
const WAKE: mio::Token = mio::Token(usize::MAX);
const LISTENER: mio::Token = mio::Token(usize::MAX - 1);

/// The rest of a send.
#[derive(Debug)]
struct Outgoing {
    buffer: Vec<u8>,
    offset: usize,
}

/// See the module.
pub struct Ready {
    poll: Poll,
    events: Events,
    events_capacity: usize,
    /// The kernel may have had more to report than was asked for.
    more: bool,
    acceptor: Acceptor,
    doorbell: Doorbell,
    /// By index; grows to the highest index in use, within what is reserved.
    entries: Vec<Entry>,
    connections_max: usize,
    ready: VecDeque<Token>,
    outgoing: HashMap<u32, Outgoing>,
    receive: Vec<u8>,
    counts: Counts,
}

impl Ready {
    /// A driver that accepts from `listener`, for tokens with indices below `connections_max`,
    /// reading at most `receive_bytes` at a time.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// If `receive_bytes` is 0.
    pub fn new(
        listener: TcpListener,
        connections_max: usize,
        receive_bytes: usize,
    ) -> io::Result<Self> {
        assert!(receive_bytes > 0, "an empty buffer reads nothing");
        let poll = Poll::new()?;
        let acceptor = Acceptor::new(listener, poll.registry(), LISTENER)?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let doorbell = Doorbell::new(Arc::new(move || {
            // Fails only if the wake-up is already there or the driver is gone.
            let _ = waker.wake();
        }));
        Ok(Self {
            poll,
            events: Events::with_capacity(1),
            events_capacity: 1,
            more: false,
            acceptor,
            doorbell,
            entries: Vec::with_capacity(connections_max),
            connections_max,
            ready: VecDeque::new(),
            outgoing: HashMap::new(),
            receive: vec![0; receive_bytes],
            counts: Counts::default(),
        })
    }

    /// The entry of a connection that is attached.
    fn entry(&mut self, token: Token) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(token.index as usize);
        let entry = entry.filter(|e| e.socket.is_some() && e.generation == token.generation);
        if entry.is_none() {
            self.counts.stale += 1;
        }
        entry
    }

    /// How long the driver may sleep for all it knows.
    pub(super) fn timeout(&mut self, wanted: Option<Duration>) -> Option<Duration> {
        let timeout = self.acceptor.timeout(wanted);
        if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) }
    }

    /// Sets flags and puts the connection into the ready list if it is not in it.
    fn queue(&mut self, token: Token, flags: u8) {
        if let Some(entry) = self.entry(token) {
            let queued = entry.flags & QUEUED != 0;
            entry.flags |= flags | QUEUED;
            if !queued {
                self.ready.push_back(token);
            }
        }
    }

    /// Takes the socket out and forgets everything about the connection.
    fn release(&mut self, token: Token) -> Option<TcpStream> {
        let entry = self.entry(token)?;
        let flags = std::mem::take(&mut entry.flags);
        entry.fault = None;
        let socket = entry.socket.take();
        if flags & SENDING != 0 {
            self.outgoing.remove(&token.index);
        }
        socket
    }

    /// Asks the kernel and notes what it says.
    fn harvest(&mut self, timeout: Option<Duration>, events_max: usize) -> io::Result<()> {
        if self.events_capacity < events_max {
            self.events = Events::with_capacity(events_max);
            self.events_capacity = events_max;
        }
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut reports = 0;
        for event in &events {
            reports += 1;
            match event.token() {
                WAKE => {}
                LISTENER => self.acceptor.notice(),
                mio::Token(number) => {
                    self.queue(Token::from_u64(number as u64), flags_of(event));
                }
            }
        }
        self.more = reports >= self.events_capacity;
        self.events = events;
        Ok(())
    }
}

impl Driver for Ready {
    type Socket = TcpStream;

    fn attach(&mut self, token: Token, socket: TcpStream) -> io::Result<()> {
        let index = token.index as usize;
        if index >= self.connections_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more connections than planned",
            ));
        }
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, Entry::default);
        }
        let entry = &mut self.entries[index];
        assert!(entry.socket.is_none(), "the index is taken");
        let source = socket.as_raw_fd();
        let registry = self.poll.registry();
        let watched = registry.register(&mut SourceFd(&source), name(token), Interest::READABLE);
        watched.inspect_err(remedy::note_error)?;
        *entry =
            Entry { socket: Some(socket), generation: token.generation, flags: 0, fault: None };
        Ok(())
    }

    fn detach(&mut self, token: Token) -> Option<TcpStream> {
        let sending = self.entry(token)?.flags & SENDING != 0;
        assert!(!sending, "a connection moves only when nothing is being sent");
        let socket = self.release(token)?;
        // Fails only if the descriptor were not registered; then there is nothing to undo.
        let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
        Some(socket)
    }

    fn send(&mut self, token: Token, buffer: Vec<u8>) -> Option<Vec<u8>> {
        let Some(entry) = self.entry(token) else { return Some(buffer) };
        assert!(entry.flags & SENDING == 0, "one send at a time");
        if entry.fault.is_some() {
            return Some(buffer);
        }
        let Some(socket) = &self.entries[token.index as usize].socket else { return Some(buffer) };
        let both = Interest::READABLE | Interest::WRITABLE;
        let tried = match write_some(socket, &buffer) {
            Ok(bytes) if bytes == buffer.len() => return Some(buffer),
            Ok(bytes) => watch(self.poll.registry(), socket, token, both).map(|()| bytes),
            Err(error) => Err(error),
        };
        let entry = &mut self.entries[token.index as usize];
        match tried {
            Ok(offset) => {
                // The kernel reports room, also room there is already, as a new edge.
                entry.flags = entry.flags & !WRITABLE | SENDING;
                self.outgoing.insert(token.index, Outgoing { buffer, offset });
                self.counts.sends_delayed += 1;
                None
            }
            Err(error) => {
                entry.fault = Some(Closed::from_error(&error));
                self.queue(token, 0);
                Some(buffer)
            }
        }
    }

    fn resume(&mut self, token: Token) {
        let Some(entry) = self.entry(token) else { return };
        entry.flags &= !PAUSED;
        if entry.flags & READABLE != 0 {
            self.queue(token, READABLE);
        }
    }

    fn pause(&mut self, token: Token) {
        if let Some(entry) = self.entry(token) {
            entry.flags |= PAUSED;
        }
    }

    fn finish(&mut self, token: Token) {
        if let Some(socket) = self.entry(token).and_then(|entry| entry.socket.as_ref()) {
            let _peer_was_faster = socket.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, token: Token, how: How) {
        let Some(mut socket) = self.release(token) else { return };
        // Errors here mean that the peer was faster; the connection is gone either way. Closing
        // the only descriptor also ends the kernel's watch.
        match how {
            How::Reset => drop(SockRef::from(&socket).set_linger(Some(Duration::ZERO))),
            How::Graceful => {
                let _ = socket.shutdown(Shutdown::Write);
                for _ in 0..CLOSE_READS_MAX {
                    if !matches!(socket.read(&mut self.receive), Ok(n) if n == self.receive.len()) {
                        break;
                    }
                }
            }
        }
    }

    fn accept(&mut self, on: bool) {
        self.acceptor.switch(on);
    }

    fn poll(
        &mut self,
        timeout: Option<Duration>,
        events_max: usize,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) -> io::Result<()> {
        let timeout = self.timeout(timeout);
        self.harvest(timeout, events_max)?;
        // Whoever queues again while being served waits for the next poll.
        for _ in 0..self.ready.len().min(events_max) {
            if let Some(token) = self.ready.pop_front() {
                self.serve(token, sink);
            }
        }
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            let Some((socket, source)) = self.acceptor.accept(&mut self.counts) else { break };
            sink(Completion::Accepted { socket, source });
        }
        Ok(())
    }

    fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ready")
            .field("acceptor", &self.acceptor)
            .field("ready", &self.ready.len())
            .field("outgoing", &self.outgoing.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
