//! The client's half of the rules: what a client remembers and says, without a socket or a clock.
//!
//! One [`Session`] is one device of one user. It outlives connections: messages written while
//! offline wait in its outbox, keep their `client_id` over every retry, and leave in that order
//! after the next `Welcome`. Frames and the time are handed in, frames and [`ClientEvent`]s come
//! out, so the same code runs in the terminal client, the load generator, the tests and a
//! simulator. Owner: whoever holds it; nothing is shared.
//!
//! ```text
//!            connected          Welcome
//!  Offline ------------> Hello ---------> Live
//!     ^                    |               |
//!     +------ disconnected +---------------+
//! ```
//!
//! Invariants:
//! - `client_id`s only grow; one id stands for one content for ever.
//! - Every unanswered message is in the outbox, and `confirmed` covers all ids below
//!   `next_client_id` that are not: it is computed from the outbox and cannot drift from it.
//! - On the wire are only ids up to `confirmed.base + 64`, and never a larger one before a refused
//!   smaller one.
//! - What a server can make this grow is bounded by the constants below.
//!
//! A caller that keeps a session over restarts saves [`Session::state`] *before* it writes what
//! [`Session::take_output`] gives: a confirmation or an `Ack` that left but was not saved would
//! let the server forget what the client does not hold.
//!
//! Deliberately not here: sockets, framing, the choice of when to reconnect (only
//! [`backoff_ms`], the arithmetic of it), and end-to-end encryption.

mod backoff;
mod event;
mod groups;
mod inbox;
mod outbox;
mod seen;
mod session;
mod state;
mod ticks;

#[cfg(test)]
mod tests;

pub use crate::{ASKED_PEERS_MAX, WATCHED_USERS_MAX as WATCHED_MAX};
pub use backoff::backoff_ms;
pub use event::{ClientEvent, TickMark};
pub use outbox::{OutboxFull, Outgoing};
pub use session::{CannotAsk, Session};
pub use state::{
    GroupCursor, PendingSend, SessionOptions, SessionState, TooManyWatched, UntickedMessage,
};

/// Messages the outbox holds unless the options say otherwise.
pub const OUTBOX_MESSAGES_MAX: usize = 1_024;
/// Payload bytes the outbox holds unless the options say otherwise.
pub const OUTBOX_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Ids beyond `confirmed.base` that may be on the wire: as many as the map of answers has bits.
pub const WINDOW_IDS: u64 = 64;
/// Message ids remembered to recognise repeats; the oldest is forgotten first.
pub const SEEN_IDS_MAX: usize = 4_096;
/// Peers whose ticks are followed; the one used longest ago is forgotten first.
pub const PEERS_MAX: usize = 4_096;
/// Messages to one peer whose ticks are followed; the oldest is forgotten first.
pub const UNTICKED_PER_PEER_MAX: usize = 2_048;
/// Peers and groups whose `Read` or `Typing` waits to leave; a further one is dropped.
pub const NOTICES_MAX: usize = 256;
/// A watch is a lease of 60 s; renewed after this.
pub const WATCH_RENEW_MS: u64 = 45_000;
/// Renewed after this while a watched user was never seen: a server answers for a user it does not
/// know, but can't watch him. 64 users so often stay below 600 a minute.
pub const WATCH_UNKNOWN_RENEW_MS: u64 = 10_000;
/// Un-acked bytes that make an `Ack` leave whatever the options say: a quarter of the window.
pub const ACK_BYTES: usize = 16 * 1024;
/// Groups whose cursors are kept; the one used longest ago is forgotten first, and goes on from the
/// server's.
pub const GROUPS_MAX: usize = 4_096;
/// Messages of a group after which an `Ack` leaves: a quarter of the window. In a large group the
/// acks of all members cost more than its messages.
pub const GROUP_ACK_EVERY: u32 = 16;
/// The longest a message of a group waits for its `Ack`, milliseconds.
pub const GROUP_ACK_MS: u64 = 500;
/// Pages of groups under way at once.
pub const GROUP_FETCHES_MAX: usize = 4;
/// Pages of groups asked for in a second: well below the 100 that a server takes of one session.
pub const FETCHES_PER_SECOND: u32 = 40;
/// Heartbeat interval until a `Welcome` names one.
pub const HEARTBEAT_MS: u64 = 5_000;
/// Intervals without any frame from the server, though asked, after which a connection is lost.
pub const LOST_AFTER_HEARTBEATS: u64 = 4;
