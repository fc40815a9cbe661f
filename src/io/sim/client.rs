//! The client's side of a simulated connection.
//!
//! Owner: whoever plays the client, in the thread of the simulation. It sees of the server's end
//! what TCP would show it.

use super::net::{Side, SimNet};
use std::io;

/// A client's side of a connection. Dropping it closes, as a process that exits does.
#[derive(Debug)]
pub struct ClientEnd {
    pub(super) net: SimNet,
    pub(super) link: usize,
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
        pipe.read_to(due, out);
        inner.events += 1;
        Heard::Bytes(due)
    }

    /// Ends the writing half and goes on reading.
    pub fn finish(&mut self) {
        let mut inner = self.net.inner.borrow_mut();
        inner.events += 1;
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
        inner.events += 1;
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
