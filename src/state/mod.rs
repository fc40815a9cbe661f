//! What a shard remembers: connections, users and their devices, inboxes, answers, marks, presence.
//!
//! Owner: the shard's thread; nothing here is shared. Tables only: the rules that change them are
//! in `path`. No clock, no socket, no file. Handles are `u32` indices, [`NONE`] for "no such".

mod chunks;
pub mod circles;
pub mod conn;
pub mod device;
mod entry;
pub mod expiry;
pub mod groups;
pub mod inbox;
pub mod live;
pub mod order;
pub mod outbox;
mod packed;
pub mod pairs;
pub mod people;
pub mod placement;
mod places;
pub mod posts;
pub mod request;
pub mod sources;
pub mod users;
pub mod voids;
pub mod watch;
pub mod window;

use crate::mem::{Slab, Token, WHEEL_ENTRY_BYTES, entry_bytes};
use crate::metrics::Counters;

/// The handle that names nothing.
pub const NONE: u32 = u32::MAX;

/// Bytes of an idle session with one device: its records here, and its links in the timer wheel.
/// `docs/budgets.md` draws them, with what drivers add.
pub(crate) const SESSION_BYTES: usize = Slab::<conn::Conn>::TENANT_BYTES
    + size_of::<users::User>()
    + entry_bytes::<device::Device>()
    + WHEEL_ENTRY_BYTES;
const _: () = assert!(SESSION_BYTES == 208);

/// Everything a shard remembers.
#[derive(Debug)]
pub struct Tables {
    /// Connections.
    pub conns: Slab<conn::Conn>,
    /// Input that is not complete.
    pub partials: conn::Partials,
    /// Output that waits.
    pub outboxes: outbox::Outboxes,
    /// Counts of connections before login.
    pub sources: sources::Sources,
    /// Users and devices.
    pub users: users::Users,
    /// What is known of users beside their mail.
    pub people: people::People,
    /// What the blocked wrote.
    pub voids: voids::Voids,
    /// Waiting mail.
    pub inboxes: inbox::Inboxes,
    /// When waiting mail has waited too long.
    pub expiry: expiry::Expiry,
    /// Where in the log waiting mail lies.
    pub live: live::Live,
    /// Answers not confirmed.
    pub windows: window::Windows,
    /// Answers to messages from outside a session.
    pub posts: posts::Posts,
    /// Marks.
    pub pairs: pairs::Pairs,
    /// Groups whose home this is.
    pub groups: groups::Groups,
    /// What is kept of the groups of users whose home this is.
    pub circles: circles::Circles,
    /// Presence leases.
    pub watches: watch::Watches,
    /// Spare requests.
    pub requests: request::Requests,
    /// Devices whose cursor is ahead of the log.
    pub dirty_cursors: Vec<u32>,
    /// Pairs whose read mark is ahead of the log.
    pub dirty_reads: Vec<u32>,
    /// Users whose last-seen time is ahead of its file.
    pub dirty_seen: Vec<u32>,
    /// Connections the rules want closed, with the reason.
    pub doomed: Vec<(Token, wire::Parting)>,
    /// Counters.
    pub counters: Counters,
}

impl Tables {
    /// Tables for so many connections, users and pairs.
    #[must_use]
    pub fn new(conns_max: usize, users_max: usize, pairs_max: usize) -> Self {
        Self {
            conns: Slab::with_capacity(conns_max),
            partials: conn::Partials::default(),
            outboxes: outbox::Outboxes::default(),
            sources: sources::Sources::default(),
            users: users::Users::with_capacity(users_max),
            people: people::People::with_capacity(users_max),
            voids: voids::Voids::default(),
            inboxes: inbox::Inboxes::default(),
            expiry: expiry::Expiry::default(),
            live: live::Live::default(),
            windows: window::Windows::default(),
            posts: posts::Posts::default(),
            pairs: pairs::Pairs::new(pairs_max),
            groups: groups::Groups::default(),
            circles: circles::Circles::default(),
            watches: watch::Watches::default(),
            requests: request::Requests::default(),
            dirty_cursors: Vec::new(),
            dirty_reads: Vec::new(),
            dirty_seen: Vec::new(),
            doomed: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Writes a frame to a connection, if it still stands.
    pub fn write(&mut self, token: Token, frame: &wire::ServerFrame<'_>) {
        if let Some(conn) = self.conns.get_mut(token)
            && conn.phase != conn::Phase::Leaving
        {
            self.outboxes.frame(token, conn, frame);
        }
    }
}

/// The sequence of positions a shard gives out: epoch in the upper half, its own counter below.
///
/// Invariant (I4): a position is given out once. The epoch is new at every boot and durable before
/// the first position of it exists.
#[derive(Debug)]
pub struct Positions {
    next: u64,
    end: u64,
    /// Positions per epoch.
    count: u32,
}

impl Positions {
    /// Positions of `epoch`, from its first.
    #[must_use]
    pub fn new(epoch: u32) -> Self {
        Self::with_limit(epoch, u32::MAX)
    }

    /// The first `count` positions of `epoch`: the simulator's epochs are short.
    #[must_use]
    pub fn with_limit(epoch: u32, count: u32) -> Self {
        let first = u64::from(epoch) << 32;
        Self { next: first + 1, end: first + u64::from(count), count }
    }

    /// The position the next record gets, or none when the epoch is used up.
    #[must_use]
    pub fn peek(&self) -> Option<u64> {
        (self.next <= self.end).then_some(self.next)
    }

    /// The last position that may have been given out; its upper half is the epoch.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The position just peeked at is taken.
    pub fn take(&mut self) {
        debug_assert!(self.next <= self.end);
        self.next += 1;
    }

    /// Moves on to `epoch`, which is durable by now.
    pub fn roll(&mut self, epoch: u32) {
        let fresh = Self::with_limit(epoch, self.count);
        assert!(fresh.next > self.next, "an epoch never goes back");
        *self = fresh;
    }

    /// Whether half of this epoch is used up: time to make the next one durable.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.end.saturating_sub(self.next) < u64::from(self.count / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::Positions;

    #[test]
    fn positions_ascend_across_epochs_and_end_with_theirs() {
        let mut positions = Positions::with_limit(7, 2);
        assert_eq!(positions.peek(), Some((7 << 32) + 1));
        positions.take();
        assert!(positions.is_low());
        positions.take();
        assert_eq!(positions.peek(), None);
        positions.roll(9);
        assert_eq!(positions.peek(), Some((9 << 32) + 1));
    }
}
