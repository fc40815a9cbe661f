//! What a connection that is ready gets: the rest of its send, and one read.
//!
//! Owner: its driver.

use super::super::{Closed, Completion, Driver, How, Next};
use super::Ready;
use super::entry::{ENDING, PAUSED, QUEUED, READABLE, SENDING, WRITABLE, watch, write_some};
use crate::mem::Token;
use mio::Interest;
use std::io::{self, Read};
use std::net::TcpStream;

impl Ready {
    /// Serves one connection of the ready list.
    pub(super) fn serve(
        &mut self,
        token: Token,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) {
        let Some(entry) = self.entry(token) else { return };
        entry.flags &= !QUEUED;
        if let Some(why) = entry.fault {
            self.fail(token, why, sink);
            return;
        }
        if entry.flags & (SENDING | WRITABLE) == SENDING | WRITABLE && !self.write_on(token, sink) {
            return;
        }
        let Some(entry) = self.entry(token) else { return };
        if entry.flags & (READABLE | PAUSED) == READABLE {
            self.read_once(token, sink);
        }
    }

    /// Reads once and hands out what came.
    fn read_once(
        &mut self,
        token: Token,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) {
        let entry = &mut self.entries[token.index as usize];
        let Some(mut socket) = entry.socket.as_ref() else { return };
        let bytes = match socket.read(&mut self.receive) {
            Ok(0) => return self.fail(token, Closed::Peer, sink),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                entry.flags &= !READABLE;
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return self.queue(token, READABLE);
            }
            Err(error) => return self.fail(token, Closed::from_error(&error), sink),
        };
        let drained = bytes < self.receive.len() && entry.flags & ENDING == 0;
        if drained {
            entry.flags &= !READABLE;
        }
        match sink(Completion::Data(token, &mut self.receive[..bytes])) {
            Next::Read if drained => {}
            Next::Read => self.queue(token, READABLE),
            Next::Pause => entry.flags |= PAUSED,
            Next::Close => self.close(token, How::Graceful),
        }
    }

    /// Goes on with a send. False if the connection is gone.
    fn write_on(
        &mut self,
        token: Token,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) -> bool {
        let entry = &mut self.entries[token.index as usize];
        let (Some(socket), Some(outgoing)) =
            (entry.socket.as_ref(), self.outgoing.get_mut(&token.index))
        else {
            return true;
        };
        match write_some(socket, &outgoing.buffer[outgoing.offset..]) {
            Ok(bytes) => outgoing.offset += bytes,
            Err(error) => {
                self.fail(token, Closed::from_error(&error), sink);
                return false;
            }
        }
        if outgoing.offset < outgoing.buffer.len() {
            entry.flags &= !WRITABLE; // the kernel reports the next room as a new edge
            return true;
        }
        entry.flags &= !(SENDING | WRITABLE);
        let watched = watch(self.poll.registry(), socket, token, Interest::READABLE);
        let Some(outgoing) = self.outgoing.remove(&token.index) else { return true };
        sink(Completion::Sent(token, outgoing.buffer));
        if let Err(error) = watched {
            self.fail(token, Closed::from_error(&error), sink);
            return false;
        }
        true
    }

    /// Lets go of a connection and says why.
    fn fail(
        &mut self,
        token: Token,
        why: Closed,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) {
        if self.release(token).is_some() {
            sink(Completion::Closed(token, why));
        }
    }
}
