//! The completion driver: Linux's `io_uring`, for sessions beyond what descriptors allow and for
//! hosts where system calls are expensive.
//!
//! Owner: one shard's thread. Two rooms:
//!
//! ```text
//!   listener --accept--> lobby (a readiness driver)  --settle-->  slots of rings
//!                        real descriptors, greeting,              no descriptors; idle costs
//!                        sessions that move away                  one armed poll, no buffer
//! ```
//!
//! The *lobby* holds what may still move to another shard or be turned away: few, short-lived, and
//! with ordinary descriptors, so that moving is handing over a number. A session that stays
//! (`settle`) goes into the table of a ring and its descriptor is closed: the process's limit of
//! files bounds a ring's table, not the sum of them, so a shard opens as many rings as it needs.
//! Where no further ring can be had, a session stays in the lobby and works there.
//!
//! A settled connection is watched by one multishot poll. A report puts it into the ready list;
//! each `poll` serves the front of that list with one read each, up to
//! [`URING_AREAS_MAX`](crate::limits::URING_AREAS_MAX) in one system call. Sends are collected and
//! leave together in `flush`. Nothing ever waits inside the kernel but polls: reads and sends that
//! can't be done at once say so.
//!
//! A close cancels the poll by its name (a multishot poll does not end by itself, not even by the
//! end of the stream: seen on Linux 6.18) and empties the slot, which is reused when the last
//! completion of both has come. `How::Reset` is a linger option set through the ring.
//!
//! One wait covers all: the first ring polls the lobby, the doorbell's eventfd and the other rings.

mod lobby;
mod op;
mod probe;
mod rings;
mod settled;
mod slots;

pub use probe::{probe, syscall_ns};

use super::ready::Ready;
use super::{Closed, Completion, Counts, Driver, How, Next};
use crate::limits::URING_SLOTS_MAX;
use crate::mem::Token;
use crate::ring::Doorbell;
use hashbrown::HashMap;
use rings::Rings;
use rustix::event::{EventfdFlags, eventfd};
use slots::{Home, PAUSED, READABLE, SENDING, Slots, Where};
use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names of the driver's own files in [`op::Op::File`].
const BELL: u32 = 0;
const LOBBY: u32 = 1;

/// See the module.
pub struct Uring {
    rings: Rings,
    slots: Slots,
    /// By token index; grows to the highest index in use, within what is reserved.
    homes: Vec<Home>,
    connections_max: usize,
    lobby: Ready,
    /// Who is in the lobby, by index there.
    guests: Vec<Guest>,
    guests_free: Vec<u32>,
    guests_ever: u32,
    /// The driver's own files that the kernel gave up watching.
    unwatched: Vec<u32>,
    /// The lobby may have something.
    lobby_due: bool,
    /// Guests that settle as soon as their send is over or a slot is free.
    settling: VecDeque<Token>,
    ready: VecDeque<slots::Place>,
    /// Sends that wait for room: token index and number of the buffer.
    delayed: HashMap<u32, u32>,
    /// Reads that completed when nobody asked; told by the next `poll`.
    aside: Vec<(usize, op::Done)>,
    /// Ends that are still to be told.
    lost: Vec<(Token, Closed)>,
    doorbell: Doorbell,
    /// The doorbell's file, which lives as long as it does.
    bell: RawFd,
    enabled: bool,
    grow_again: Option<Instant>,
    counts: Counts,
}

impl Uring {
    /// A driver that accepts from `listener`, for tokens with indices below `connections_max`,
    /// reading at most `receive_bytes` at a time. `slots_per_ring` (at most [`URING_SLOTS_MAX`]
    /// and what the process may have files): connections per ring.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// If `receive_bytes` or `slots_per_ring` is 0.
    pub fn new(
        listener: TcpListener,
        connections_max: usize,
        receive_bytes: usize,
        slots_per_ring: u32,
    ) -> io::Result<Self> {
        assert!(slots_per_ring > 0, "a ring without slots holds nobody");
        let slots_per_ring = slots_per_ring.min(URING_SLOTS_MAX);
        let lobby = Ready::new(listener, connections_max, receive_bytes)?;
        let mut rings = Rings::new(slots_per_ring, receive_bytes)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let bell_fd = bell.as_raw_fd();
        rings.watch_file(bell_fd, BELL);
        rings.watch_file(lobby.as_raw_fd(), LOBBY);
        let doorbell = Doorbell::new(Arc::new(move || ring(&bell)));
        Ok(Self {
            rings,
            slots: Slots::new(slots_per_ring),
            homes: Vec::with_capacity(connections_max),
            connections_max,
            lobby,
            guests: Vec::new(),
            guests_free: Vec::new(),
            guests_ever: 0,
            unwatched: Vec::new(),
            lobby_due: true,
            settling: VecDeque::new(),
            ready: VecDeque::new(),
            delayed: HashMap::new(),
            aside: Vec::new(),
            lost: Vec::new(),
            doorbell,
            bell: bell_fd,
            enabled: false,
            grow_again: None,
            counts: Counts::default(),
        })
    }

    /// Where a connection that is attached lives.
    fn find(&mut self, token: Token) -> Where {
        let home = self.homes.get(token.index as usize).map_or(Where::Nowhere, |home| home.look());
        let here = match home {
            Where::Nowhere => false,
            Where::Lobby(index) => self.guests[index as usize].owner == token,
            Where::Settled(place) => self.slots.at(place).token() == token,
        };
        if here {
            return home;
        }
        self.counts.stale += 1;
        Where::Nowhere
    }

    /// How long the driver may sleep for all it knows.
    fn timeout(&mut self, wanted: Option<Duration>) -> Option<Duration> {
        let timeout = self.lobby.timeout(wanted);
        self.lobby_due |= self.lobby.is_due();
        let due = self.lobby_due
            || !self.ready.is_empty()
            || !self.lost.is_empty()
            || !self.aside.is_empty();
        if due { Some(Duration::ZERO) } else { timeout }
    }
}

/// Rings the bell. Its count is never read, because each ring is reported by itself; adding to it
/// fails only when it is full, and then it was reported.
#[allow(clippy::host_endian_bytes, reason = "the kernel counts in the host's order")]
fn ring(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// Somebody in the lobby, or nobody.
#[derive(Clone, Copy, Debug)]
struct Guest {
    /// The name the owner gave; generation 0: nobody.
    owner: Token,
    /// Of the name in the lobby, whose indices are used again by others.
    generation: u32,
}

/// No token has generation 0.
const NOBODY: Token = Token { index: 0, generation: 0 };

impl Driver for Uring {
    type Socket = TcpStream;

    fn attach(&mut self, token: Token, socket: TcpStream) -> io::Result<()> {
        let index = token.index as usize;
        if index >= self.connections_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more connections than planned",
            ));
        }
        if index >= self.homes.len() {
            self.homes.resize(index + 1, Home::NOWHERE);
        }
        assert!(self.homes[index].look() == Where::Nowhere, "the index is taken");
        let guest = self.new_guest(token, socket)?;
        self.homes[index] = Home::lobby(guest);
        Ok(())
    }

    fn detach(&mut self, token: Token) -> Option<TcpStream> {
        let Where::Lobby(index) = self.find(token) else { return None };
        let socket = self.lobby.detach(self.guest(index));
        self.forget_guest(index);
        socket
    }

    fn settle(&mut self, token: Token) {
        self.settle_guest(token);
    }

    fn send(&mut self, token: Token, buffer: Vec<u8>) -> Option<Vec<u8>> {
        match self.find(token) {
            Where::Nowhere => Some(buffer),
            Where::Lobby(index) => {
                let guest = self.guest(index);
                self.lobby.send(guest, buffer)
            }
            Where::Settled(place) => {
                let slot = self.slots.at(place);
                assert!(slot.flags & SENDING == 0, "one send at a time");
                if slot.fault.is_some() {
                    return Some(buffer);
                }
                slot.flags |= SENDING;
                slot.pending += 1;
                self.rings.send(usize::from(place.ring), u32::from(place.slot), buffer);
                None
            }
        }
    }

    fn resume(&mut self, token: Token) {
        match self.find(token) {
            Where::Nowhere => {}
            Where::Lobby(index) => {
                let guest = self.guest(index);
                self.lobby.resume(guest);
                self.lobby_due = true;
            }
            Where::Settled(place) => {
                let slot = self.slots.at(place);
                slot.flags &= !PAUSED;
                if slot.flags & READABLE != 0 {
                    self.queue(place, READABLE);
                }
            }
        }
    }

    fn pause(&mut self, token: Token) {
        match self.find(token) {
            Where::Nowhere => {}
            Where::Lobby(index) => {
                let guest = self.guest(index);
                self.lobby.pause(guest);
            }
            Where::Settled(place) => self.slots.at(place).flags |= PAUSED,
        }
    }

    fn finish(&mut self, token: Token) {
        match self.find(token) {
            Where::Nowhere => {}
            Where::Lobby(index) => {
                let guest = self.guest(index);
                self.lobby.finish(guest);
            }
            Where::Settled(place) => {
                self.slots.at(place).pending += 1;
                self.rings.shutdown(usize::from(place.ring), u32::from(place.slot));
            }
        }
    }

    fn close(&mut self, token: Token, how: How) {
        self.lost.retain(|(lost, _)| *lost != token);
        match self.find(token) {
            Where::Nowhere => {}
            Where::Lobby(index) => {
                let guest = self.guest(index);
                self.lobby.close(guest, how);
                self.forget_guest(index);
            }
            Where::Settled(place) => self.end(place, how),
        }
    }

    fn accept(&mut self, on: bool) {
        self.lobby.accept(on);
        self.lobby_due = true;
    }

    fn flush(
        &mut self,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) -> io::Result<()> {
        self.rings.submit()?;
        self.reap_sent(sink);
        Ok(())
    }

    fn poll(
        &mut self,
        timeout: Option<Duration>,
        events_max: usize,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) -> io::Result<()> {
        if !std::mem::replace(&mut self.enabled, true) {
            self.rings.enable()?;
        }
        self.watch_files();
        let timeout = self.timeout(timeout);
        for (token, why) in std::mem::take(&mut self.lost) {
            sink(Completion::Closed(token, why));
        }
        self.rings.wait(timeout)?;
        for (ring, done) in std::mem::take(&mut self.aside) {
            self.on_done(ring, done, sink);
        }
        self.reap(sink);
        // Each pass is some twenty reports; not for ever, should they come as fast.
        for _ in 0..events_max.div_ceil(16) {
            if self.ready.len() >= events_max || !self.rings.run_deferred()? {
                break;
            }
            self.reap(sink);
        }
        self.serve(events_max, sink)?;
        if self.lobby_due {
            self.poll_lobby(events_max, sink)?;
        }
        self.settle_later();
        Ok(())
    }

    fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    fn counts(&self) -> Counts {
        let lobby = self.lobby.counts();
        Counts {
            stale: lobby.stale + self.counts.stale,
            sends_delayed: lobby.sends_delayed + self.counts.sends_delayed,
            ..lobby
        }
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Uring")
            .field("rings", &self.rings.count())
            .field("lobby", &self.lobby)
            .field("ready", &self.ready.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
