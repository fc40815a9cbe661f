//! The network between simulated clients and simulated drivers: pipes, delays, faults.
//!
//! Owner: the thread of the simulation; shared by reference count, never while a sink runs. A
//! connection is a pair of pipes; a pipe is bounded and hands bytes out when they are due. What
//! each side sees of the other's end follows TCP: an orderly end comes after all bytes, writing to
//! an end that no longer reads provokes a reset, and a reset overtakes bytes not yet read.

use super::super::{Closed, How};
use super::Sim;
use super::client::ClientEnd;
use super::faults::Faults;
use super::pipe::Pipe;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// Connections waiting to be accepted by one shard; further ones are reset.
const BACKLOG_MAX: usize = 4096;
/// Steps after which a host that lost its power is up again, at the least.
const REBOOT_STEPS: u64 = 100;

/// The simulated network. Clones are the same network.
#[derive(Clone, Debug)]
pub struct SimNet {
    pub(super) inner: Rc<RefCell<Inner>>,
}

/// The server's side of a connection: an index and a sign of life. Dropping it closes.
#[derive(Debug)]
pub struct SimSocket {
    link: usize,
    _alive: Arc<()>,
}

/// What a read found.
#[derive(Debug)]
pub(super) enum Arrival {
    Bytes(usize),
    Nothing,
    End(Closed),
}

#[derive(Debug)]
pub(super) struct Inner {
    random: u64,
    pub(super) step: u64,
    /// See [`SimNet::events`].
    pub(super) events: u64,
    faults: Faults,
    pub(super) links: Vec<Link>,
    backlogs: Vec<VecDeque<SimSocket>>,
}

#[derive(Debug)]
pub(super) struct Link {
    source: IpAddr,
    alive: Weak<()>,
    pub(super) to_server: Pipe,
    pub(super) to_client: Pipe,
    /// The server's host lost its power while this stood.
    dark: bool,
}

impl SimNet {
    /// A network whose every choice follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let inner = Inner {
            random: seed,
            step: 0,
            events: 0,
            faults,
            links: Vec::new(),
            backlogs: Vec::new(),
        };
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
        inner.events += 1;
        let link = inner.links.len();
        let alive = Arc::new(());
        inner.links.push(Link {
            source,
            alive: Arc::downgrade(&alive),
            to_server: Pipe::default(),
            to_client: Pipe::default(),
            dark: false,
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

    /// What happened so far: completions handed to shards, connections made and ended, pieces that
    /// a client or the server wrote, and pieces that a client read. A `poll` or a read that finds
    /// nothing is no event; what the server read is counted as its completion.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.inner.borrow().events
    }

    /// The server's process dies: what waited to be accepted is reset. (The sockets that it had
    /// close by being dropped.)
    pub fn process_dies(&self) {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        for socket in inner.backlogs.iter_mut().flat_map(|backlog| backlog.drain(..)) {
            inner.links[socket.link].to_client.reset = Some(inner.step);
        }
    }

    /// The server's host loses its power: what was under way is lost, and clients hear nothing
    /// until they write and the host that is up again answers with a reset. Call it while the
    /// drivers still stand.
    pub fn host_dies(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.backlogs.clear();
        for link in inner.links.iter_mut().filter(|link| link.alive.strong_count() > 0) {
            link.dark = true;
            link.to_server.go_deaf();
            link.to_client.lose();
        }
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

    /// A completion was handed out.
    pub(super) fn count_completion(&self) {
        self.inner.borrow_mut().events += 1;
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
        inner.events += 1;
        let due = inner.arrival(socket.link, Side::Server);
        let link = &mut inner.links[socket.link];
        link.to_client.end = link.to_client.end.or(Some(due));
    }

    pub(super) fn close(&self, socket: &SimSocket, how: How) {
        let mut inner = self.inner.borrow_mut();
        inner.events += 1;
        let due = inner.arrival(socket.link, Side::Server);
        let link = &mut inner.links[socket.link];
        link.to_server.go_deaf();
        match how {
            How::Graceful => link.to_client.end = link.to_client.end.or(Some(due)),
            How::Reset => link.to_client.reset = Some(due),
        }
    }
}

/// Who writes.
#[derive(Clone, Copy)]
pub(super) enum Side {
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
    pub(super) fn arrival(&mut self, link: usize, side: Side) -> u64 {
        let mut delay = self.below(self.faults.delay_steps_max as usize + 1) as u64;
        let chance = self.faults.stalls_per_million as usize;
        if chance > 0 && self.below(1_000_000) < chance {
            delay += self.below(self.faults.stall_steps_max as usize + 1) as u64;
        }
        let earliest = self.links[link].pipe(side).flights.back().map_or(0, |(due, _)| *due);
        earliest.max(self.step + delay)
    }

    pub(super) fn write(&mut self, link: usize, side: Side, bytes: &[u8]) -> usize {
        let due = self.arrival(link, side);
        if self.links[link].dark {
            let back = &mut self.links[link].to_client;
            back.reset = back.reset.or(Some(due + REBOOT_STEPS));
            return bytes.len();
        }
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
        self.events += 1;
        let pipe = self.links[link].pipe(side);
        pipe.bytes.extend(&bytes[..taken]);
        pipe.flights.push_back((due, taken));
        taken
    }

    /// A socket that the server dropped without a word has closed.
    pub(super) fn notice_dropped(&mut self, link: usize) {
        let step = self.step;
        let link = &mut self.links[link];
        if link.alive.strong_count() == 0 && !link.to_server.deaf && !link.dark {
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
