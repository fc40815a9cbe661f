//! The network between simulated clients and simulated drivers: pipes, delays, faults.
//!
//! Owner: the thread of the simulation; shared by reference count, never while a sink runs. A
//! connection is a pair of pipes; a pipe is bounded and hands bytes out when they are due. What
//! each side sees of the other's end follows TCP: an orderly end comes after all bytes, writing to
//! an end that no longer reads provokes a reset, and a reset overtakes bytes not yet read.

use super::super::{Closed, How};
use super::Sim;
use super::faults::Faults;
use super::pipe::Pipe;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// Connections waiting to be accepted by one shard; further ones are reset.
const BACKLOG_MAX: usize = 4096;

/// The simulated network. Clones are the same network.
#[derive(Clone, Debug)]
pub struct SimNet {
    inner: Rc<RefCell<Inner>>,
}

/// The server's side of a connection: an index and a sign of life. Dropping it closes.
#[derive(Debug)]
pub struct SimSocket {
    link: usize,
    _alive: Arc<()>,
}

/// A client's side of a connection. Dropping it closes, as a process that exits does.
#[derive(Debug)]
pub struct ClientEnd {
    net: SimNet,
    link: usize,
}

/// What a client's read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// So many bytes were appended.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The server has closed, in order.
    End,
    /// The connection is gone.
    Reset,
}

/// What a read found.
#[derive(Debug)]
pub(super) enum Arrival {
    Bytes(usize),
    Nothing,
    End(Closed),
}

#[derive(Debug)]
struct Inner {
    random: u64,
    step: u64,
    faults: Faults,
    links: Vec<Link>,
    backlogs: Vec<VecDeque<SimSocket>>,
}

#[derive(Debug)]
struct Link {
    source: IpAddr,
    alive: Weak<()>,
    to_server: Pipe,
    to_client: Pipe,
}

impl SimNet {
    /// A network whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let inner =
            Inner { random: seed, step: 0, faults, links: Vec::new(), backlogs: Vec::new() };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// The driver of shard `shard`: see `Ready::new` for the numbers.
    #[must_use]
    pub fn driver(&self, shard: usize, connections_max: usize, receive_bytes: usize) -> Sim {
        Sim::new(self.clone(), shard, connections_max, receive_bytes)
    }

    /// Connects a client, from 127.0.0.1, to the listener of shard `shard`.
    #[must_use]
    pub fn connect(&self, shard: usize) -> ClientEnd {
        self.connect_from(shard, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Connects a client from `source`.
    #[must_use]
    pub fn connect_from(&self, shard: usize, source: IpAddr) -> ClientEnd {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let link = inner.links.len();
        let alive = Arc::new(());
        inner.links.push(Link {
            source,
            alive: Arc::downgrade(&alive),
            to_server: Pipe::default(),
            to_client: Pipe::default(),
        });
        if inner.backlogs.len() <= shard {
            inner.backlogs.resize_with(shard + 1, VecDeque::new);
        }
        if inner.backlogs[shard].len() < BACKLOG_MAX {
            inner.backlogs[shard].push_back(SimSocket { link, _alive: alive });
        } else {
            inner.links[link].to_client.reset = Some(inner.step);
        }
        ClientEnd { net: self.clone(), link }
    }

    /// Lets `steps` steps pass. Every `poll` is a step by itself.
    pub fn advance(&self, steps: u64) {
        self.inner.borrow_mut().step += steps;
    }

    /// Changes what goes wrong from now on: a simulation ends with a calm network.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.borrow_mut().faults = faults;
    }

    /// Whether nothing is in flight, unread or waiting to be accepted.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let inner = self.inner.borrow();
        inner.backlogs.iter().all(VecDeque::is_empty)
            && inner.links.iter().all(|link| {
                // Nobody will ever read what waits for a client that was dropped.
                let client_gone = link.alive.strong_count() == 0;
                (link.to_server.deaf || link.to_server.bytes.is_empty())
                    && (client_gone || link.to_client.deaf || link.to_client.bytes.is_empty())
            })
    }

    /// A number below `n` (0 if `n` is 0).
    pub(super) fn below(&self, n: usize) -> usize {
        self.inner.borrow_mut().below(n)
    }

    pub(super) fn accept(&self, shard: usize) -> Option<(SimSocket, IpAddr)> {
        let mut inner = self.inner.borrow_mut();
        let socket = inner.backlogs.get_mut(shard)?.pop_front()?;
        let source = inner.links[socket.link].source;
        Some((socket, source))
    }

    /// The server writes.
    pub(super) fn write(&self, socket: &SimSocket, bytes: &[u8]) -> Result<usize, Closed> {
        let mut inner = self.inner.borrow_mut();
        inner.maybe_reset(socket.link);
        let inner = &mut *inner;
        if inner.links[socket.link].to_server.reset_is_due(inner.step) {
            return Err(Closed::Reset);
        }
        Ok(inner.write(socket.link, Side::Server, bytes))
    }

    /// The server reads.
    pub(super) fn read(&self, socket: &SimSocket, into: &mut [u8]) -> Arrival {
        let mut inner = self.inner.borrow_mut();
        inner.maybe_reset(socket.link);
        let inner = &mut *inner;
        let pipe = &mut inner.links[socket.link].to_server;
        if pipe.reset_is_due(inner.step) {
            return Arrival::End(Closed::Reset);
        }
        let due = pipe.due(inner.step).min(into.len());
        if due == 0 {
            let ended = pipe.bytes.is_empty() && pipe.end.is_some_and(|step| step <= inner.step);
            return if ended { Arrival::End(Closed::Peer) } else { Arrival::Nothing };
        }
        let take = inner.shorten(due, inner.faults.short_reads_percent);
        inner.links[socket.link].to_server.read(&mut into[..take]);
        Arrival::Bytes(take)
    }

    /// The server closes.
    pub(super) fn finish(&self, socket: &SimSocket) {
        let mut inner = self.inner.borrow_mut();
        let due = inner.arrival(socket.link, Side::Server);
        let link = &mut inner.links[socket.link];
        link.to_client.end = link.to_client.end.or(Some(due));
    }

    pub(super) fn close(&self, socket: &SimSocket, how: How) {
        let mut inner = self.inner.borrow_mut();
        let due = inner.arrival(socket.link, Side::Server);
        let link = &mut inner.links[socket.link];
        link.to_server.go_deaf();
        match how {
            How::Graceful => link.to_client.end = link.to_client.end.or(Some(due)),
            How::Reset => link.to_client.reset = Some(due),
        }
    }
}

impl ClientEnd {
    /// Writes what fits; possibly nothing.
    ///
    /// # Errors
    /// `ConnectionReset` once the connection is gone, `BrokenPipe` after `finish` or `close`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.net.inner.borrow_mut();
        let inner = &mut *inner;
        inner.notice_dropped(self.link);
        let link = &inner.links[self.link];
        if link.to_client.reset_is_due(inner.step) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if link.to_server.end.is_some() || link.to_client.deaf {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(inner.write(self.link, Side::Client, bytes))
    }

    /// Appends what has arrived to `out`.
    pub fn read(&mut self, out: &mut Vec<u8>) -> Heard {
        let mut inner = self.net.inner.borrow_mut();
        inner.notice_dropped(self.link);
        let step = inner.step;
        let pipe = &mut inner.links[self.link].to_client;
        if pipe.deaf || pipe.reset_is_due(step) {
            return Heard::Reset;
        }
        let due = pipe.due(step);
        if due == 0 {
            let ended = pipe.bytes.is_empty() && pipe.end.is_some_and(|end| end <= step);
            return if ended { Heard::End } else { Heard::Nothing };
        }
        let from = out.len();
        out.resize(from + due, 0);
        pipe.read(&mut out[from..]);
        Heard::Bytes(due)
    }

    /// Ends the writing half and goes on reading.
    pub fn finish(&mut self) {
        let mut inner = self.net.inner.borrow_mut();
        let due = inner.arrival(self.link, Side::Client);
        let pipe = &mut inner.links[self.link].to_server;
        if pipe.reset.is_none() {
            pipe.end = pipe.end.or(Some(due));
        }
    }

    /// Closes in order: the server gets all that was written, then the end.
    pub fn close(&mut self) {
        self.finish();
        self.net.inner.borrow_mut().links[self.link].to_client.go_deaf();
    }

    /// Resets the connection.
    pub fn reset(&mut self) {
        let mut inner = self.net.inner.borrow_mut();
        let due = inner.arrival(self.link, Side::Client);
        let link = &mut inner.links[self.link];
        link.to_server.reset = Some(due);
        link.to_client.go_deaf();
    }

    /// Disappears without a word (a phone in a tunnel): the server sees nothing, what it writes
    /// fills the pipe and stays there. The connection is half open for good.
    pub fn vanish(mut self) {
        self.link = usize::MAX; // nothing to close on drop
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        if self.link != usize::MAX {
            self.close();
        }
    }
}

/// Who writes.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

impl Inner {
    /// The next number of the seed's sequence (`SplitMix64`).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[allow(clippy::cast_possible_truncation, reason = "a remainder below a usize")]
    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }

    /// `bytes`, or with that chance a number from 1 to `bytes`.
    fn shorten(&mut self, bytes: usize, percent: u32) -> usize {
        if percent > 0 && self.below(100) < percent as usize {
            1 + self.below(bytes)
        } else {
            bytes
        }
    }

    /// Breaks a connection, with the chance that the faults name.
    fn maybe_reset(&mut self, link: usize) {
        let chance = self.faults.resets_per_million as usize;
        if chance > 0 && self.below(1_000_000) < chance {
            let step = self.step;
            self.links[link].to_server.reset = Some(step);
            self.links[link].to_client.reset = Some(step);
        }
    }

    /// When something sent now by that side arrives: not before what was sent earlier.
    fn arrival(&mut self, link: usize, side: Side) -> u64 {
        let delay = self.below(self.faults.delay_steps_max as usize + 1) as u64;
        let earliest = self.links[link].pipe(side).flights.back().map_or(0, |(due, _)| *due);
        earliest.max(self.step + delay)
    }

    fn write(&mut self, link: usize, side: Side, bytes: &[u8]) -> usize {
        let due = self.arrival(link, side);
        let pipe = self.links[link].pipe(side);
        if pipe.deaf {
            // Nobody reads there: the answer is a reset, which takes its time to come back.
            let back = self.links[link].pipe(side.other());
            back.reset = back.reset.or(Some(due + 1));
            return bytes.len();
        }
        let room = self.faults.buffer_bytes.saturating_sub(pipe.bytes.len());
        let fits = bytes.len().min(room);
        if fits == 0 {
            return 0;
        }
        let taken = self.shorten(fits, self.faults.short_writes_percent);
        let pipe = self.links[link].pipe(side);
        pipe.bytes.extend(&bytes[..taken]);
        pipe.flights.push_back((due, taken));
        taken
    }

    /// A socket that the server dropped without a word has closed.
    fn notice_dropped(&mut self, link: usize) {
        let step = self.step;
        let link = &mut self.links[link];
        if link.alive.strong_count() == 0 && !link.to_server.deaf {
            link.to_server.go_deaf();
            link.to_client.end = link.to_client.end.or(Some(step));
        }
    }
}

impl Link {
    /// The pipe that this side writes to.
    fn pipe(&mut self, writer: Side) -> &mut Pipe {
        match writer {
            Side::Client => &mut self.to_server,
            Side::Server => &mut self.to_client,
        }
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}
