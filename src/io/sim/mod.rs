//! The simulated driver: a seeded network in memory, deterministic, without clock or thread.
//!
//! Owner: one thread runs everything: the drivers of all shards, the network they share
//! ([`SimNet`]) and the clients ([`ClientEnd`]). The same seed and the same calls give the same
//! completions in the same order.
//!
//! - Bytes stay in order per connection and direction, and arrive in arbitrary pieces.
//! - Time is a count of steps: each `poll` of any driver is one. Bytes written at a step can be
//!   read `0..=delay_steps_max` steps later.
//! - Buffers are bounded as the kernel's are: writes come up short, sends complete late.
//! - [`Faults`] adds pieces shorter than they need be, delay and resets.
//!
//! A socket is an index, so that it may cross threads as the contract wants; its lifetime is a
//! shared count, by which the network notices a socket that was dropped. Not here: lost or
//! reordered bytes (TCP does not do that), time-outs (the shard's wheel does those), `timeout`
//! (a simulated `poll` never sleeps).

mod client;
mod faults;
mod net;
mod pipe;

pub use client::{ClientEnd, Heard};
pub use faults::Faults;
pub use net::{SimNet, SimSocket};

use super::{Closed, Completion, Counts, Driver, How, Next};
use crate::limits::ACCEPTS_PER_TURN_MAX;
use crate::mem::Token;
use crate::ring::Doorbell;
use net::Arrival;
use std::io;
use std::time::Duration;

/// A driver on a [`SimNet`]. See the module.
#[derive(Debug)]
pub struct Sim {
    net: SimNet,
    shard: usize,
    accepting: bool,
    conns: Vec<Option<Conn>>,
    conns_max: usize,
    receive: Vec<u8>,
    counts: Counts,
}

/// One attached connection.
#[derive(Debug)]
struct Conn {
    generation: u32,
    socket: SimSocket,
    paused: bool,
    /// Found by a send; reported by the next `poll`.
    fault: Option<Closed>,
    /// A send under way and how much of it has left.
    outgoing: Option<(Vec<u8>, usize)>,
}

impl Sim {
    pub(super) fn new(net: SimNet, shard: usize, conns_max: usize, receive_bytes: usize) -> Self {
        assert!(receive_bytes > 0, "an empty buffer reads nothing");
        Self {
            net,
            shard,
            accepting: true,
            conns: Vec::new(),
            conns_max,
            receive: vec![0; receive_bytes],
            counts: Counts::default(),
        }
    }

    fn conn(&mut self, token: Token) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(token.index as usize).and_then(Option::as_mut);
        let conn = conn.filter(|conn| conn.generation == token.generation);
        if conn.is_none() {
            self.counts.stale += 1;
        }
        conn
    }

    fn release(&mut self, token: Token) -> Option<Conn> {
        self.conn(token)?;
        self.conns[token.index as usize].take()
    }

    fn fail(
        &mut self,
        token: Token,
        why: Closed,
        sink: &mut impl FnMut(Completion<'_, SimSocket>) -> Next,
    ) {
        if let Some(conn) = self.release(token) {
            self.net.close(&conn.socket, How::Graceful);
            sink(Completion::Closed(token, why));
        }
    }

    /// Serves one connection; false if it had nothing to do.
    fn serve(
        &mut self,
        token: Token,
        sink: &mut impl FnMut(Completion<'_, SimSocket>) -> Next,
    ) -> bool {
        let Some(conn) = self.conns[token.index as usize].as_mut() else { return false };
        if let Some(why) = conn.fault {
            self.fail(token, why, sink);
            return true;
        }
        let mut worked = false;
        if let Some((buffer, offset)) = &mut conn.outgoing {
            match self.net.write(&conn.socket, &buffer[*offset..]) {
                Ok(bytes) => *offset += bytes,
                Err(why) => {
                    self.fail(token, why, sink);
                    return true;
                }
            }
            if *offset == buffer.len()
                && let Some((buffer, _)) = conn.outgoing.take()
            {
                worked = true;
                sink(Completion::Sent(token, buffer));
            }
        }
        if conn.paused {
            return worked;
        }
        match self.net.read(&conn.socket, &mut self.receive) {
            Arrival::Nothing => return worked,
            Arrival::End(why) => self.fail(token, why, sink),
            Arrival::Bytes(bytes) => {
                match sink(Completion::Data(token, &mut self.receive[..bytes])) {
                    Next::Read => {}
                    Next::Pause => conn.paused = true,
                    Next::Close => self.close(token, How::Graceful),
                }
            }
        }
        true
    }
}

impl Driver for Sim {
    type Socket = SimSocket;

    fn attach(&mut self, token: Token, socket: SimSocket) -> io::Result<()> {
        let index = token.index as usize;
        if index >= self.conns_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more connections than planned",
            ));
        }
        if index >= self.conns.len() {
            self.conns.resize_with(index + 1, || None);
        }
        assert!(self.conns[index].is_none(), "the index is taken");
        let generation = token.generation;
        self.conns[index] =
            Some(Conn { generation, socket, paused: false, fault: None, outgoing: None });
        Ok(())
    }

    fn detach(&mut self, token: Token) -> Option<SimSocket> {
        let conn = self.conn(token)?;
        assert!(conn.outgoing.is_none(), "a connection moves only when nothing is being sent");
        self.release(token).map(|conn| conn.socket)
    }

    fn send(&mut self, token: Token, buffer: Vec<u8>) -> Option<Vec<u8>> {
        let net = self.net.clone();
        let Some(conn) = self.conn(token) else { return Some(buffer) };
        assert!(conn.outgoing.is_none(), "one send at a time");
        if conn.fault.is_some() {
            return Some(buffer);
        }
        match net.write(&conn.socket, &buffer) {
            Ok(bytes) if bytes == buffer.len() => Some(buffer),
            Ok(bytes) => {
                conn.outgoing = Some((buffer, bytes));
                self.counts.sends_delayed += 1;
                None
            }
            Err(why) => {
                conn.fault = Some(why);
                Some(buffer)
            }
        }
    }

    fn resume(&mut self, token: Token) {
        if let Some(conn) = self.conn(token) {
            conn.paused = false;
        }
    }

    fn pause(&mut self, token: Token) {
        if let Some(conn) = self.conn(token) {
            conn.paused = true;
        }
    }

    fn finish(&mut self, token: Token) {
        let net = self.net.clone();
        if let Some(conn) = self.conn(token) {
            net.finish(&conn.socket);
        }
    }

    fn close(&mut self, token: Token, how: How) {
        if let Some(conn) = self.release(token) {
            self.net.close(&conn.socket, how);
        }
    }

    fn accept(&mut self, on: bool) {
        self.accepting = on;
    }

    fn poll(
        &mut self,
        _timeout: Option<Duration>,
        events_max: usize,
        sink: &mut impl FnMut(Completion<'_, SimSocket>) -> Next,
    ) -> io::Result<()> {
        self.net.advance(1);
        let net = self.net.clone();
        let sink = &mut |completion: Completion<'_, SimSocket>| {
            net.count_completion();
            sink(completion)
        };
        // A new order at every poll: nobody may rely on one, and `events_max` starves nobody.
        let start = self.net.below(self.conns.len());
        let mut served = 0;
        for place in 0..self.conns.len() {
            if served == events_max {
                break;
            }
            let index = (start + place) % self.conns.len();
            let Some(conn) = &self.conns[index] else { continue };
            let generation = conn.generation;
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            served += usize::from(self.serve(Token { index, generation }, sink));
        }
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            if !self.accepting {
                break;
            }
            let Some((socket, source)) = self.net.accept(self.shard) else { break };
            self.counts.accepted += 1;
            sink(Completion::Accepted { socket, source });
        }
        Ok(())
    }

    fn doorbell(&self) -> Doorbell {
        Doorbell::silent()
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}
