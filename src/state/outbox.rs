//! Bytes on their way out, per connection that has some.
//!
//! All frames of one turn to one connection gather in one buffer and leave in one send. While a
//! send is under way (`sending`) a second buffer gathers. Buffers are recycled; an idle connection
//! owns none. Beyond `OUTBOX_BYTES_MAX` the connection is listed as overflowing and gets no more:
//! the shard closes it (I6: memory never grows because a client does not read).

use crate::limits;
use crate::mem::{Buffers, Token};
use crate::state::NONE;
use crate::state::conn::Conn;
use wire::ServerFrame;

/// What waits for one connection.
#[derive(Debug, Default)]
struct Outbox {
    gathering: Vec<u8>,
    sending: bool,
    listed: bool,
}

/// The outboxes of a shard.
#[derive(Debug)]
pub struct Outboxes {
    slots: slab::Slab<Outbox>,
    buffers: Buffers,
    dirty: Vec<Token>,
    overflowing: Vec<Token>,
}

const SPARE_BUFFERS_MAX: usize = 4096;
const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;

impl Default for Outboxes {
    fn default() -> Self {
        Self {
            slots: slab::Slab::new(),
            buffers: Buffers::new(SPARE_BUFFERS_MAX, SPARE_BUFFER_BYTES_MAX),
            dirty: Vec::new(),
            overflowing: Vec::new(),
        }
    }
}

/// What to do with an outbox in the flush phase.
#[derive(Debug, PartialEq, Eq)]
pub enum Flush {
    /// Hand this to the driver.
    Send(Vec<u8>),
    /// A send is under way; the rest follows it.
    Wait,
    /// Nothing waits.
    Empty,
}

impl Outboxes {
    /// Adds a frame.
    pub fn frame(&mut self, token: Token, conn: &mut Conn, frame: &ServerFrame<'_>) {
        let transport = conn.transport();
        self.write(token, conn, |out| wire::write_server_frame(transport, frame, out));
    }

    /// Adds whatever `fill` appends.
    pub fn write(&mut self, token: Token, conn: &mut Conn, fill: impl FnOnce(&mut Vec<u8>)) {
        if conn.outbox == NONE {
            let fresh = Outbox { gathering: self.buffers.take(), sending: false, listed: false };
            conn.outbox = u32::try_from(self.slots.insert(fresh)).unwrap_or(NONE);
        }
        let Some(outbox) = self.slots.get_mut(conn.outbox as usize) else { return };
        if outbox.gathering.len() > limits::OUTBOX_BYTES_MAX {
            self.overflowing.push(token);
            return;
        }
        fill(&mut outbox.gathering);
        if !outbox.listed {
            outbox.listed = true;
            self.dirty.push(token);
        }
    }

    /// Bytes gathered for a connection and not handed to the driver.
    #[must_use]
    pub fn waiting_bytes(&self, conn: &Conn) -> usize {
        self.slots.get(conn.outbox as usize).map_or(0, |outbox| outbox.gathering.len())
    }

    /// The connections with something gathered since the last call; give the vector back.
    #[must_use]
    pub fn take_dirty(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.dirty)
    }

    /// Something was gathered since [`Outboxes::take_dirty`].
    #[must_use]
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes the emptied vector of [`Outboxes::take_dirty`] back.
    pub fn give_dirty(&mut self, mut list: Vec<Token>) {
        list.clear();
        list.append(&mut self.dirty);
        self.dirty = list;
    }

    /// The next connection that passed the limit.
    pub fn overflowing(&mut self) -> Option<Token> {
        self.overflowing.pop()
    }

    /// What to do for a dirty connection now.
    pub fn flush(&mut self, conn: &mut Conn) -> Flush {
        let Some(outbox) = self.slots.get_mut(conn.outbox as usize) else { return Flush::Empty };
        outbox.listed = false;
        if outbox.sending {
            return Flush::Wait;
        }
        if outbox.gathering.is_empty() {
            self.drop_slot(conn);
            return Flush::Empty;
        }
        outbox.sending = true;
        Flush::Send(std::mem::take(&mut outbox.gathering))
    }

    /// The driver gave a buffer back: all of it left.
    pub fn sent(&mut self, token: Token, conn: &mut Conn, buffer: Vec<u8>) {
        let Some(outbox) = self.slots.get_mut(conn.outbox as usize) else {
            self.buffers.give(buffer);
            return;
        };
        outbox.sending = false;
        if outbox.gathering.is_empty() {
            self.drop_slot(conn);
            self.buffers.give(buffer);
        } else {
            self.buffers.give(buffer);
            if !outbox.listed {
                outbox.listed = true;
                self.dirty.push(token);
            }
        }
    }

    /// The connection is gone.
    pub fn forget(&mut self, conn: &mut Conn) {
        if conn.outbox != NONE {
            self.drop_slot(conn);
        }
    }

    /// Takes a buffer back whose connection is gone.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffers.give(buffer);
    }

    fn drop_slot(&mut self, conn: &mut Conn) {
        let outbox = self.slots.remove(conn.outbox as usize);
        conn.outbox = NONE;
        if outbox.gathering.capacity() > 0 {
            self.buffers.give(outbox.gathering);
        }
    }
}
