//! Connections: what is known of a socket between two reads. 40 bytes each, the generation of the
//! token included (see the assertion); what only busy connections need (partial input, waiting
//! output) lives in pools beside them.
//!
//! ```text
//!  Greeting --Hello--> Verifying --claims--> Moving --> (other shard) Session
//!      |                   |                   |                         |
//!      |                   +----- same home: Session <-------------------+
//!      +--> Leaving <------+-------------------+-------------------------+
//! ```

use crate::clock::Past;
use crate::mem::{Slab, Token};
use crate::state::NONE;
use wire::{Parser, Transport};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// No valid `Hello` yet.
    Greeting,
    /// The token is being checked off the shard.
    Verifying,
    /// Logged in, waits to be handed to its user's home.
    Moving,
    /// Logged in, at home.
    Session,
    /// Said goodbye; closes when its output has left.
    Leaving,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// Session clock: when the last frame came. Looked at every `LOOK_MS_MAX`.
    pub heard: Past,
    /// Where its input stands.
    pub parser: Parser,
    /// Index of the device, which names the user too; [`NONE`] before login.
    pub device: u32,
    /// Seconds since 1970 when the token ends.
    pub expires_s: u32,
    /// Index into the outboxes, [`NONE`] while nothing waits to leave.
    pub outbox: u32,
    /// Index into the partial inputs, [`NONE`] while everything read was used.
    pub partial: u32,
    /// Index of its source's count, [`NONE`] once logged in.
    pub source: u32,
    /// Before login: bytes read (bounded by `HELLO_BYTES_MAX`). After: frames in this second.
    pub spent: u16,
    /// The second `spent` counts, wrapping: one that was silent for a multiple of 256 seconds finds
    /// its former count, for that second.
    pub second: u8,
    /// How far it has come.
    pub phase: Phase,
    /// Not read at present: its first waiting frame lacks a credit, or its outbox is high.
    pub paused: bool,
    /// It was asked for heartbeats less often, and is judged by that.
    pub stretched: bool,
}

const _: () = assert!(size_of::<Conn>() == 36 && Slab::<Conn>::TENANT_BYTES == 40);

impl Conn {
    /// A connection just accepted.
    #[must_use]
    pub fn new(now_ms: u64, parser: Parser) -> Self {
        Self {
            heard: Past::at(now_ms),
            parser,
            device: NONE,
            expires_s: 0,
            outbox: NONE,
            partial: NONE,
            source: NONE,
            spent: 0,
            second: 0,
            phase: Phase::Greeting,
            paused: false,
            stretched: false,
        }
    }

    /// The transport it speaks.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.parser.transport()
    }
}

/// Input that is not complete yet.
#[derive(Debug, Default)]
pub struct Partial {
    /// Bytes not parsed yet.
    pub raw: Vec<u8>,
    /// The parts of a fragmented message seen so far.
    pub assembly: Vec<u8>,
    /// A whole frame that waits for a credit toward another shard; it comes before `raw`.
    pub waiting: Vec<u8>,
}

/// Partial inputs of the connections that have one; buffers are recycled.
#[derive(Debug, Default)]
pub struct Partials {
    slots: slab::Slab<Box<Partial>>,
    #[allow(clippy::vec_box, reason = "the box itself goes to and fro with every read")]
    spare: Vec<Box<Partial>>,
}

const SPARE_PARTIALS_MAX: usize = 1024;
const SPARE_BYTES_MAX: usize = 16 * 1024;

impl Partials {
    /// The partial input of a connection, made if it has none.
    pub fn of(&mut self, conn: &mut Conn) -> &mut Partial {
        if conn.partial == NONE {
            let fresh = self.spare.pop().unwrap_or_default();
            conn.partial = u32::try_from(self.slots.insert(fresh)).unwrap_or(NONE);
        }
        &mut self.slots[conn.partial as usize]
    }

    /// Takes the partial input out, to work on it while the tables are borrowed.
    pub fn take(&mut self, conn: &mut Conn) -> Option<Box<Partial>> {
        if conn.partial == NONE {
            return None;
        }
        let taken = self.slots.remove(conn.partial as usize);
        conn.partial = NONE;
        Some(taken)
    }

    /// Puts a partial input back, or recycles it when it is empty.
    pub fn put(&mut self, conn: &mut Conn, partial: Box<Partial>) {
        debug_assert_eq!(conn.partial, NONE);
        let empty =
            partial.raw.is_empty() && partial.assembly.is_empty() && partial.waiting.is_empty();
        if empty {
            self.recycle(partial);
        } else {
            conn.partial = u32::try_from(self.slots.insert(partial)).unwrap_or(NONE);
        }
    }

    /// An empty one to work with.
    pub fn fresh(&mut self) -> Box<Partial> {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives buffers back.
    pub fn recycle(&mut self, mut partial: Box<Partial>) {
        partial.raw.clear();
        partial.assembly.clear();
        partial.waiting.clear();
        let small = partial.raw.capacity() <= SPARE_BYTES_MAX
            && partial.assembly.capacity() <= SPARE_BYTES_MAX
            && partial.waiting.capacity() <= SPARE_BYTES_MAX;
        if small && self.spare.len() < SPARE_PARTIALS_MAX {
            self.spare.push(partial);
        }
    }

    /// How many connections have partial input.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slots.len()
    }
}

/// Something to do with a connection once its driver may be touched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Which connection.
    pub token: Token,
    /// Session clock, milliseconds: since when.
    pub since_ms: u64,
}
