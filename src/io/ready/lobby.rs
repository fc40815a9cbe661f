//! What the completion driver asks of the readiness driver that holds its newcomers.
//!
//! Owner: its driver.

use super::Ready;
use super::entry::{PAUSED, SENDING};
use crate::mem::Token;
use std::os::fd::{AsRawFd, RawFd};

impl Ready {
    /// `poll` has something to do without being told by the kernel.
    pub(in crate::io) fn is_due(&self) -> bool {
        self.more || !self.ready.is_empty() || self.acceptor.is_due()
    }

    /// A send is under way on this connection.
    pub(in crate::io) fn is_sending(&mut self, token: Token) -> bool {
        self.entry(token).is_some_and(|entry| entry.flags & SENDING != 0)
    }

    /// The owner wants no data of this connection now.
    pub(in crate::io) fn is_paused(&mut self, token: Token) -> bool {
        self.entry(token).is_some_and(|entry| entry.flags & PAUSED != 0)
    }
}

impl AsRawFd for Ready {
    /// Becomes readable when the kernel has something to report.
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}
