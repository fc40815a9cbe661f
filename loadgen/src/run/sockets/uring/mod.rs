//! The engine for more sockets than a process may have files: io_uring with direct descriptors.
//!
//! A ring's table holds as many sockets as the limit of open files says, but they are not counted
//! against it; so a thread has as many rings as its clients need. The first one waits, and is told
//! by the others when they have something. Idle sockets are watched (multishot poll: no buffer, 256
//! bytes of the kernel); what came is read at once into one of a few areas.
//!
//! ```text
//! user data:  operation (4 bits) | generation (20) | slot in the ring (20) | buffer (20)
//! ```
//!
//! A completion with an old generation is of a connection that was closed: only its buffer is
//! taken back. A socket is made by the ordinary call, put into the table, and its file closed:
//! options and source addresses work on every kernel that way.

mod done;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::ring::{AREA_BYTES, Ring};
use super::{Buffers, Completion, Sockets, URING};

/// Most sockets of one table, in the kernel.
const TABLE_MAX: u64 = 1 << 20;
/// Bits of the three numbers in user data.
const BITS: u32 = 20;
const MASK: u64 = (1 << BITS) - 1;
/// Buffers kept for the next write.
const BUFFERS_KEPT: usize = 256;
/// The slot of what concerns no socket.
const NO_SLOT: u32 = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Operation {
    Connect = 1,
    Watch = 2,
    Receive = 3,
    Send = 4,
    Cancel = 5,
    Ring = 6,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Free,
    Connecting,
    Open,
}

/// One socket.
#[derive(Clone, Copy, Debug, Default)]
struct Conn {
    generation: u32,
    /// Buffer of the send under way.
    send: u32,
    state: State,
    sending: bool,
    receiving: bool,
    held: bool,
    /// Something came that was not looked at.
    readable: bool,
    /// The end was reported, together with what lies before it: reads go on until they find it.
    ending: bool,
    /// The end of the connection before is not submitted yet.
    leaving: bool,
}

/// See the module.
pub(super) struct Uring {
    targets: Vec<SocketAddr>,
    /// Sockets of each ring.
    table: u32,
    rings: Vec<Ring>,
    /// The first ring tells when this one has something.
    watched: Vec<bool>,
    conns: Vec<Conn>,
    /// Of each ring, the slots that wait for an area to read into: slot, generation, bytes.
    to_read: Vec<VecDeque<(u32, u32, usize)>>,
    /// Slots whose place is to be emptied once what was said of them is submitted.
    to_clear: Vec<u32>,
    failed: Vec<(u32, io::Error)>,
    buffers: Buffers,
}

impl Uring {
    pub(super) fn new(targets: &[SocketAddr], slots: u32) -> io::Result<Self> {
        let files = crate::usage::raise_file_limit().min(TABLE_MAX);
        let table = u32::try_from(files).unwrap_or(u32::MAX).min(slots).max(1);
        let mut rings = Vec::new();
        for _ in 0..slots.div_ceil(table) {
            rings.push(Ring::new(targets, table)?);
        }
        let watched = vec![false; rings.len()];
        let to_read = vec![VecDeque::new(); rings.len()];
        Ok(Self {
            targets: targets.to_vec(),
            table,
            rings,
            watched,
            conns: vec![Conn::default(); slots as usize],
            to_read,
            to_clear: Vec::new(),
            failed: Vec::new(),
            buffers: Buffers::new(BUFFERS_KEPT),
        })
    }

    /// Has the first ring told of all others.
    fn watch_rings(&mut self) -> io::Result<()> {
        let Some((first, others)) = self.rings.split_first_mut() else { return Ok(()) };
        for (number, ring) in (1..).zip(others) {
            let watched = self.watched.get_mut(number as usize);
            if watched.is_some_and(|watched| !std::mem::replace(watched, true)) {
                first.watch_ring(ring.fd(), name(Operation::Ring, 0, NO_SLOT, number))?;
            }
        }
        Ok(())
    }

    fn conn(&mut self, slot: u32) -> Option<&mut Conn> {
        self.conns.get_mut(slot as usize)
    }

    /// The ring of a slot and its place there.
    fn ring(&mut self, slot: u32) -> Option<(&mut Ring, u32)> {
        let (ring, place) = (slot / self.table, slot % self.table);
        self.rings.get_mut(ring as usize).map(|ring| (ring, place))
    }

    /// Something can be read.
    fn readable(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if conn.receiving || conn.held {
            conn.readable = true;
            return;
        }
        conn.receiving = true;
        let generation = conn.generation;
        self.want_read(slot, generation, AREA_BYTES);
    }

    fn want_read(&mut self, slot: u32, generation: u32, bytes_max: usize) {
        if let Some(queue) = self.to_read.get_mut((slot / self.table) as usize) {
            queue.push_back((slot, generation, bytes_max));
        }
    }

    /// Begins the reads of a ring that have an area; whether others wait for one.
    fn begin_reads(&mut self, ring: usize) -> bool {
        while let Some((slot, generation, bytes_max)) =
            self.to_read.get_mut(ring).and_then(VecDeque::pop_front)
        {
            let is_current = self.conn(slot).is_some_and(|conn| {
                conn.generation == generation && conn.state == State::Open && conn.receiving
            });
            if !is_current {
                continue;
            }
            let Some((ring, place)) = self.ring(slot) else { continue };
            let named = |area| name(Operation::Receive, generation, place, area);
            match ring.receive(place, bytes_max, named) {
                Ok(true) => {}
                Ok(false) => {
                    self.want_read(slot, generation, bytes_max);
                    return true;
                }
                Err(error) => self.failed.push((slot, error)),
            }
        }
        false
    }

    fn empty_places(&mut self) -> io::Result<()> {
        for slot in std::mem::take(&mut self.to_clear) {
            let is_free = self.conn(slot).is_some_and(|conn| {
                conn.leaving = false;
                conn.state == State::Free
            });
            if let Some((ring, place)) = self.ring(slot)
                && is_free
            {
                ring.clear(place)?;
            }
        }
        Ok(())
    }
}

impl Sockets for Uring {
    fn name(&self) -> &'static str {
        URING
    }

    fn connect(&mut self, slot: u32, target: usize, source: Option<IpAddr>) -> io::Result<()> {
        self.close(slot);
        let address = *self.targets.get(target).ok_or(io::ErrorKind::InvalidInput)?;
        let socket = super::socket(address, source)?;
        let Some(conn) = self.conn(slot) else { return Ok(()) };
        let (generation, leaving) = (conn.generation, std::mem::take(&mut conn.leaving));
        let Some((ring, place)) = self.ring(slot) else { return Ok(()) };
        if leaving {
            ring.enter(None)?; // what was said of the former socket in this place
        }
        ring.place(place, &socket)?;
        ring.connect(place, target, name(Operation::Connect, generation, place, 0))?;
        if let Some(conn) = self.conn(slot) {
            conn.state = State::Connecting;
        }
        Ok(())
    }

    fn write(&mut self, slot: u32, bytes: Vec<u8>) -> bool {
        let Some(conn) = self.conn(slot).filter(|conn| conn.state == State::Open) else {
            return true;
        };
        conn.sending = true;
        let generation = conn.generation;
        let Some((ring, place)) = self.ring(slot) else { return true };
        let named = |number| name(Operation::Send, generation, place, number);
        match ring.send(place, bytes, named) {
            Ok(number) => {
                if let Some(conn) = self.conn(slot) {
                    conn.send = number;
                }
            }
            Err(error) => self.failed.push((slot, error)),
        }
        false
    }

    fn hold(&mut self, slot: u32, held: bool) {
        let Some(conn) = self.conn(slot) else { return };
        conn.held = held;
        if !held && std::mem::take(&mut conn.readable) {
            self.readable(slot);
        }
    }

    fn read(&mut self, slot: u32, bytes_max: usize) {
        let Some(conn) = self.conn(slot) else { return };
        if conn.state == State::Open && conn.readable && !conn.receiving {
            conn.readable = false;
            conn.receiving = true;
            let generation = conn.generation;
            self.want_read(slot, generation, bytes_max);
        }
    }

    fn close(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        let was = *conn;
        let leaving = was.leaving;
        let generation = (was.generation + 1) & u32::try_from(MASK).unwrap_or(u32::MAX);
        *conn = Conn { generation, leaving, ..Conn::default() };
        if was.state == State::Free {
            return;
        }
        conn.leaving = true;
        self.to_clear.push(slot);
        let Some((ring, place)) = self.ring(slot) else { return };
        // The operations hold the socket, so it closes when the last of them has ended.
        let named = |operation, buffer| name(operation, was.generation, place, buffer);
        let mut under_way = vec![match was.state {
            State::Connecting => named(Operation::Connect, 0),
            State::Free | State::Open => named(Operation::Watch, 0),
        }];
        if was.sending {
            under_way.push(named(Operation::Send, was.send));
        }
        for operation in under_way {
            // A queue that stays full fails at the next wait, which says so.
            let _ = ring.cancel(operation, name(Operation::Cancel, 0, place, 0));
        }
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn wait(
        &mut self,
        timeout: Duration,
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) -> io::Result<()> {
        let mut more = false;
        for ring in 0..self.rings.len() {
            more |= self.begin_reads(ring);
        }
        for (slot, error) in std::mem::take(&mut self.failed) {
            self.end(slot, error.raw_os_error().map(|code| -code), each);
        }
        for ring in self.rings.iter_mut().skip(1) {
            if ring.has_work() {
                ring.enter(None)?;
            }
        }
        self.watch_rings()?;
        let wait = if more { Duration::ZERO } else { timeout };
        if let Some(first) = self.rings.first_mut() {
            first.enter(Some(wait))?;
        }
        self.empty_places()?;
        for ring in 0..self.rings.len() {
            self.take(ring, each);
        }
        Ok(())
    }
}

/// User data of an operation.
fn name(operation: Operation, generation: u32, place: u32, buffer: u32) -> u64 {
    let numbers = [u64::from(generation), u64::from(place), u64::from(buffer)];
    numbers.into_iter().fold(operation as u64, |name, number| name << BITS | (number & MASK))
}

/// The number at a place of user data: 0 buffer, 1 slot, 2 generation.
fn part(user_data: u64, index: u32) -> u32 {
    u32::try_from(user_data >> (index * BITS) & MASK).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_gives_back_what_was_put_in() {
        let user_data = name(Operation::Send, 0xf_ffff, 17, 0xa_bcde);
        assert_eq!(user_data >> (3 * BITS), Operation::Send as u64);
        assert_eq!([2, 1, 0].map(|index| part(user_data, index)), [0xf_ffff, 17, 0xa_bcde]);
    }

    #[test]
    fn a_socket_is_small() {
        assert!(size_of::<Conn>() <= 16);
    }
}
