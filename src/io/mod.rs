//! The drivers: how bytes get in and out. One contract, several backends side by side.
//!
//! | driver | what it is |
//! | --- | --- |
//! | [`ready::Ready`] | readiness (epoll, kqueue) through `mio`, made to look like completions |
//! | [`sim::Sim`] | a seeded network in memory, for tests and the simulator |
//! | `uring::Uring` | `io_uring` (Linux): settled connections need no descriptor |
//!
//! Owner: a driver belongs to one shard's thread. Only its [`Doorbell`] and the sockets that it
//! gives out (`Driver::Socket`) cross threads. Nothing above this room knows which driver runs;
//! `tests/conformance/` holds all of them to the promises below.
//!
//! # What a driver promises
//!
//! 1. **Names.** A connection is the [`Token`] it was attached with. The driver keeps one small
//!    entry per index and checks generations: what the kernel still says about a connection that
//!    is gone is counted and dropped, never handed out under the next tenant's name.
//! 2. **Lifetime.** Completions for a token come only between `attach` and the first of: a
//!    [`Completion::Closed`] for it, `close`, `detach`, [`Next::Close`]. `Closed` comes at most
//!    once, and when it comes the driver has let go of the socket. Any call with a token that is
//!    not attached is harmless.
//! 3. **Input.** Bytes come in order, none lost, none twice, in pieces of any size above zero.
//!    The slice belongs to the sink during the call only, which may change it (unmasking);
//!    whatever is needed later must be copied. No memory waits for an idle connection.
//! 4. **End.** A peer that closes its writing half is `Closed` ([`Closed::Peer`]), after all its
//!    bytes; what was still to be sent to it is dropped. (A chat client has no use for half a
//!    connection, and half-closed ones would have to be bounded in time.)
//! 5. **Pause.** After [`Next::Pause`] or `pause` no `Data` comes, and no `Closed` that was found
//!    by reading, until `resume`; nothing is lost meanwhile. `Sent`, and a failure found by
//!    sending, still come: a paused connection that waits for its outbox must hear of its end.
//! 6. **Output.** At most one send per connection is under way. The buffer belongs to the driver
//!    until it comes back, from `send` itself or in [`Completion::Sent`]; what a connection's end
//!    leaves behind is freed. `send` never blocks and never calls the sink.
//! 7. **Fairness.** In one `poll` no connection gets a second `Data` before every other one that
//!    is ready had its first; a greedy peer costs others at most one receive buffer per turn.
//! 8. **Bounds.** At most `events_max` connections are served per `poll` and at most
//!    [`ACCEPTS_PER_TURN_MAX`] accepted; the rest keeps its place and the next `poll` does not
//!    sleep.
//! 9. **Exhaustion.** When the system has no descriptors or memory for a new connection, accepting
//!    stops for [`ACCEPT_PAUSE_MS`]; established connections go on. It is counted, never a spin.
//! 10. **Time.** `poll` sleeps at most `timeout` (`None`: until something happens); a rung
//!     doorbell ends it. It may return early with nothing.
//!
//! 11. **Settling.** A connection may move (`detach`) until `settle` says that it stays. All other
//!     promises hold before and after.
//!
//! [`ACCEPTS_PER_TURN_MAX`]: crate::limits::ACCEPTS_PER_TURN_MAX
//! [`ACCEPT_PAUSE_MS`]: crate::limits::ACCEPT_PAUSE_MS

pub mod ready;
pub mod sim;
pub mod socket;
#[cfg(target_os = "linux")]
pub mod uring;

use crate::mem::Token;
use crate::ring::Doorbell;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Something that has happened.
#[derive(Debug)]
pub enum Completion<'a, S> {
    /// A new connection; nothing of it is read before it is attached. Dropping it closes it.
    Accepted {
        /// What to `attach`, here or at another shard.
        socket: S,
        /// Who connects. IPv4 peers of an IPv6 listener come as IPv4.
        source: IpAddr,
    },
    /// Bytes arrived, at least one.
    Data(Token, &'a mut [u8]),
    /// All of the buffer has left for the system (which says nothing about the peer); here it is
    /// back. Its contents mean nothing any more.
    Sent(Token, Vec<u8>),
    /// The connection is gone.
    Closed(Token, Closed),
}

/// Why a connection is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The peer closed it, or its writing half.
    Peer,
    /// The peer reset it.
    Reset,
    /// The peer's host stopped answering (user timeout).
    TimedOut,
    /// Anything else that the system reports.
    Failed(io::ErrorKind),
}

impl Closed {
    /// What an error of a read or a write says about the connection.
    #[must_use]
    pub fn from_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected => Self::Reset,
            io::ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::Failed(kind),
        }
    }
}

/// The sink's answer to `Data`; ignored for other completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Go on.
    Read,
    /// Hand out nothing more of this connection until `resume`.
    Pause,
    /// The same as `close(token, How::Graceful)` right after.
    Close,
}

/// How to close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The peer gets what `send` has finished with, then the end of the stream. A send still
    /// under way is abandoned: wait for its `Sent` if it matters. Input that is already here is
    /// thrown away (bounded), because unread input would turn the end into a reset.
    Graceful,
    /// At once; the peer sees a reset. Leaves nothing behind in the kernel.
    Reset,
}

/// What a driver counted since it began. Plain numbers, read by the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Reports of the kernel, or calls, about a connection that was gone.
    pub stale: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that failed while being accepted.
    pub accept_failures: u64,
    /// Times that accepting rested for lack of descriptors or memory.
    pub accept_pauses: u64,
    /// Sends that could not leave at once.
    pub sends_delayed: u64,
}

/// A backend. The module says what it promises.
pub trait Driver {
    /// A connection that is attached to no driver. Dropping it closes the connection.
    type Socket: Send + 'static;

    /// Takes a connection over under the name `token` and starts reading.
    ///
    /// # Errors
    /// What the system says, or `InvalidInput` for an index beyond `connections_max`. The
    /// connection is then closed.
    ///
    /// # Panics
    /// If the index is taken by a connection that is still attached.
    fn attach(&mut self, token: Token, socket: Self::Socket) -> io::Result<()>;

    /// Lets go of a connection so that it can move to another shard; bytes not yet handed out
    /// travel with it. `None` if it is not attached, or has settled.
    ///
    /// # Panics
    /// If a send is under way.
    fn detach(&mut self, token: Token) -> Option<Self::Socket>;

    /// The connection stays with this driver to its end: it may be kept more cheaply now.
    fn settle(&mut self, _token: Token) {}

    /// Sends `buffer`. `Some`: all of it left at once, or the connection is gone (then `Closed`
    /// follows, or has come already). `None`: `Sent` gives the buffer back later.
    ///
    /// # Panics
    /// If a send is under way on this connection.
    fn send(&mut self, token: Token, buffer: Vec<u8>) -> Option<Vec<u8>>;

    /// Ends a pause.
    fn resume(&mut self, token: Token);

    /// Hands out nothing more of this connection until `resume`.
    fn pause(&mut self, token: Token);

    /// Sends the end of the stream after what `send` has finished with, and goes on reading: a
    /// peer that is told goodbye keeps its connection until it closes, so that unread input does
    /// not turn the goodbye into a reset. The caller bounds the time and then calls `close`.
    fn finish(&mut self, token: Token);

    /// Closes. No completion for the token comes afterwards.
    fn close(&mut self, token: Token, how: How);

    /// Stops or starts taking new connections. While stopped they wait in the kernel.
    fn accept(&mut self, on: bool);

    /// Waits, then hands what happened to `sink`.
    ///
    /// # Errors
    /// Only if the system's waiting itself fails; the shard can't go on then.
    fn poll(
        &mut self,
        timeout: Option<Duration>,
        events_max: usize,
        sink: &mut impl FnMut(Completion<'_, Self::Socket>) -> Next,
    ) -> io::Result<()>;

    /// Lets everything leave that `send` took and gives finished buffers back (`Sent`, nothing
    /// else comes). For drivers that gather sends; call it after the last `send` of a turn.
    ///
    /// # Errors
    /// As [`Driver::poll`].
    fn flush(
        &mut self,
        _sink: &mut impl FnMut(Completion<'_, Self::Socket>) -> Next,
    ) -> io::Result<()> {
        Ok(())
    }

    /// What ends a `poll` from another thread.
    fn doorbell(&self) -> Doorbell;

    /// What was counted so far.
    fn counts(&self) -> Counts {
        Counts::default()
    }
}
