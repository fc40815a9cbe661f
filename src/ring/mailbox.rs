//! The mailboxes: one bounded queue per ordered pair of shards, with credits.
//!
//! Owner: each mailbox is one shard's; the two ends of a queue are in two mailboxes.
//!
//! **Credits.** A shard may have `credits` questions and notices under way to another one. A
//! question's credit comes back with its answer, a notice's when the receiver has taken it out.
//! So in the queue from a to b there are never more than
//!
//! ```text
//!   credits   questions and notices of a        (a's own count)
//! + credits   answers of a to questions of b    (b's own count: a question holds its credit
//!                                                until b has taken its answer out)
//! ```
//!
//! and with a capacity of that sum an answer always fits. Two shards whose credits toward each
//! other are all spent therefore still answer each other, and go on.
//!
//! **Publishing.** A message is in the queue at once, but the receiver looks only where the ready
//! bitmap says so, and that is written by `ring_doorbells`, once per turn for each receiver.
//!
//! Not here: what a message means, what to do without a credit (park, then refuse).

use super::Doorbell;
use crate::sync::{ArrayQueue, AtomicBool, AtomicU64, Ordering, fence};
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

/// What a message is to the credits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Wants an answer; its credit comes back with it.
    Question,
    /// Wants none; its credit comes back when it is taken out.
    Notice,
    /// Uses the slot that its question reserved.
    Answer,
}

/// Builds the mailboxes of `shards` shards, in order.
///
/// `credits`: questions and notices one shard may have under way to another. The memory is
/// `shards^2 * 2 * credits` slots of a little more than `T`, all of it touched here.
///
/// # Panics
/// If there are not 1 to 64 shards with a doorbell each, or if `credits` is 0.
#[must_use]
pub fn mesh<T: Send>(shards: usize, credits: usize, doorbells: Vec<Doorbell>) -> Vec<Mailbox<T>> {
    assert!((1..=u64::BITS as usize).contains(&shards), "the ready bitmap has 64 bits");
    assert_eq!(doorbells.len(), shards, "a doorbell per shard");
    assert!(credits > 0, "without a credit nothing ever moves");
    let shared = Arc::new(Shared {
        pairs: (0..shards * shards).map(|_| Pair::new(credits)).collect(),
        ready: (0..shards).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
        doorbells,
    });
    (0..shards).map(|me| Mailbox::new(me, shards, credits, Arc::clone(&shared))).collect()
}

/// One shard's end of all its queues. See the module.
pub struct Mailbox<T> {
    me: usize,
    credits: u64,
    shared: Arc<Shared<T>>,
    peers: Box<[Peer]>,
    /// Shards that a message was queued for since the last `ring_doorbells`.
    touched: u64,
    /// Shards whose notices were taken out since the last `ring_doorbells`.
    consumed_from: u64,
    /// Shards this one said it starves for; see `wants_credit`.
    wanted: Cell<u64>,
    /// Senders whose queue may hold something, taken over from the shared bitmap.
    pending: u64,
    /// Where `receive` goes on in its round.
    next: usize,
}

/// What this shard counts about one other shard.
#[derive(Clone, Default, Debug)]
struct Peer {
    /// Questions asked of it and not yet answered.
    questions: u64,
    /// Notices ever sent to it.
    notices: u64,
    /// What `Pair::consumed` was when last read: the counter's cache line is the receiver's, so
    /// it is read only when credits seem to have run out.
    consumed_seen: Cell<u64>,
    /// Questions of it that this shard still has to answer.
    unanswered: u64,
    /// Notices of it ever taken out: the plain copy of `Pair::consumed`.
    consumed: u64,
}

/// The queue from one shard to another.
struct Pair<T> {
    queue: ArrayQueue<(Kind, T)>,
    /// Notices ever taken out; written by the receiver only, read by the sender when it is short.
    consumed: CachePadded<AtomicU64>,
    /// The sender has something waiting for a credit; written by the sender only.
    starved: AtomicBool,
}

struct Shared<T> {
    /// From shard `a` to shard `b`: at `a * shards + b`.
    pairs: Box<[Pair<T>]>,
    /// Per receiver: a bit for each sender that published something.
    ready: Box<[CachePadded<AtomicU64>]>,
    doorbells: Vec<Doorbell>,
}

impl<T> Pair<T> {
    fn new(credits: usize) -> Self {
        Self {
            queue: ArrayQueue::new(2 * credits),
            consumed: CachePadded::new(AtomicU64::new(0)),
            starved: AtomicBool::new(false),
        }
    }
}

impl<T> Mailbox<T> {
    fn new(me: usize, shards: usize, credits: usize, shared: Arc<Shared<T>>) -> Self {
        Self {
            me,
            credits: credits as u64,
            shared,
            peers: vec![Peer::default(); shards].into_boxed_slice(),
            touched: 0,
            consumed_from: 0,
            wanted: Cell::new(0),
            pending: 0,
            next: 0,
        }
    }

    /// Sends a question to shard `to` (which may be this one). It takes a credit that comes back
    /// with the answer.
    ///
    /// # Errors
    /// Hands `item` back if there is no credit.
    pub fn ask(&mut self, to: usize, item: T) -> Result<(), T> {
        if !self.has_credit(to) {
            return Err(item);
        }
        self.push(to, Kind::Question, item);
        self.peers[to].questions += 1;
        Ok(())
    }

    /// Sends a notice to shard `to`. It takes a credit that comes back when `to` takes it out.
    ///
    /// # Errors
    /// Hands `item` back if there is no credit.
    pub fn notify(&mut self, to: usize, item: T) -> Result<(), T> {
        if !self.has_credit(to) {
            return Err(item);
        }
        self.push(to, Kind::Notice, item);
        self.peers[to].notices += 1;
        Ok(())
    }

    /// Sends the answer to a question of shard `to`. Always has room.
    ///
    /// # Panics
    /// If `to` has no question open here: an answer too many is a bug of ours.
    pub fn answer(&mut self, to: usize, item: T) {
        assert!(self.peers[to].unanswered > 0, "answer without a question");
        self.peers[to].unanswered -= 1;
        self.push(to, Kind::Answer, item);
    }

    /// Takes out the next message, from each sender in turn. Gives its sender's number.
    pub fn receive(&mut self) -> Option<(usize, Kind, T)> {
        loop {
            if self.pending == 0 {
                let ready = &self.shared.ready[self.me];
                if ready.load(Ordering::Relaxed) == 0 {
                    return None;
                }
                // Acquire pairs with the Release in `ring_doorbells`: what was queued before the
                // bit was set is seen by the pops below.
                self.pending = ready.swap(0, Ordering::Acquire);
            }
            let from = self.next_pending()?;
            let Some((kind, item)) = self.pair(from, self.me).queue.pop() else {
                self.pending &= !(1 << from);
                continue;
            };
            self.next = if from + 1 < self.peers.len() { from + 1 } else { 0 };
            self.settle(from, kind);
            return Some((from, kind, item));
        }
    }

    /// Publishes what was queued and wakes each shard that got something, or that waits for a
    /// credit which came back. Call once per turn, and before sleeping.
    pub fn ring_doorbells(&mut self) {
        for to in bits(std::mem::take(&mut self.touched)) {
            // Release pairs with the Acquire in `receive`.
            self.shared.ready[to].fetch_or(1 << self.me, Ordering::Release);
            self.shared.doorbells[to].ring();
            self.consumed_from &= !(1 << to); // it is up; it sees its credits by itself
        }
        let consumed_from = std::mem::take(&mut self.consumed_from);
        if consumed_from == 0 {
            return;
        }
        // Pairs with the fence in `Doorbell::prepare_sleep`: either the starving shard sees the
        // counter, or this one sees that it starves.
        fence(Ordering::SeqCst);
        for from in bits(consumed_from) {
            if self.pair(from, self.me).starved.load(Ordering::Relaxed) {
                self.shared.doorbells[from].ring();
            }
        }
    }

    /// Says that something here waits for a credit toward `to`: its return will wake this shard.
    /// Stands until a credit toward `to` is used, or until `may_sleep` has reported its return.
    pub fn wants_credit(&mut self, to: usize) {
        self.wanted.set(self.wanted.get() | 1 << to);
        // Relaxed: ordered by the fence in `Doorbell::prepare_sleep`, and who is up needs no ring.
        self.pair(self.me, to).starved.store(true, Ordering::Relaxed);
    }

    /// Whether a question or notice can be sent to shard `to` now.
    #[must_use]
    pub fn has_credit(&self, to: usize) -> bool {
        let peer = &self.peers[to];
        let free = |consumed| peer.questions + (peer.notices - consumed) < self.credits;
        if free(peer.consumed_seen.get()) {
            return true;
        }
        // Acquire pairs with the Release in `settle`. The slot of a notice is free before its
        // count goes up, so that whoever reads the count finds the slot.
        let consumed = self.pair(self.me, to).consumed.load(Ordering::Acquire);
        peer.consumed_seen.set(consumed);
        free(consumed)
    }

    /// Credits in use toward the shard where most are, percent.
    #[must_use]
    pub fn used_percent(&self) -> u64 {
        let used = self.peers.iter().enumerate().map(|(to, peer)| {
            // Acquire as in `has_credit`.
            let consumed = self.pair(self.me, to).consumed.load(Ordering::Acquire);
            peer.questions + (peer.notices - consumed)
        });
        used.max().unwrap_or(0) * 100 / self.credits.max(1)
    }

    /// Whether there is nothing to receive, nothing unpublished, and no credit came back that
    /// this shard said it wants. Call after [`Doorbell::prepare_sleep`]; whatever happens after
    /// that call rings.
    #[must_use]
    pub fn may_sleep(&self) -> bool {
        if self.touched != 0 || self.pending != 0 || self.consumed_from != 0 {
            return false;
        }
        if self.shared.ready[self.me].load(Ordering::Relaxed) != 0 {
            return false;
        }
        let mut returned = false;
        for to in bits(self.wanted.get()).filter(|to| self.has_credit(*to)) {
            // Reported once: the owner looks at what waits, or it would never sleep again for a
            // credit that nobody wants any more.
            self.forget_want(to);
            returned = true;
        }
        !returned
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.peers.len()
    }

    /// This shard's number.
    #[must_use]
    pub fn me(&self) -> usize {
        self.me
    }

    fn pair(&self, from: usize, to: usize) -> &Pair<T> {
        &self.shared.pairs[from * self.peers.len() + to]
    }

    fn push(&mut self, to: usize, kind: Kind, item: T) {
        let pushed = self.pair(self.me, to).queue.push((kind, item)).is_ok();
        assert!(pushed, "the credits bound the queue");
        self.touched |= 1 << to;
        if kind != Kind::Answer && self.wanted.get() & 1 << to != 0 {
            self.forget_want(to);
        }
    }

    fn forget_want(&self, to: usize) {
        self.wanted.set(self.wanted.get() & !(1 << to));
        self.pair(self.me, to).starved.store(false, Ordering::Relaxed);
    }

    /// Does the books of a message taken out.
    fn settle(&mut self, from: usize, kind: Kind) {
        let peer = &mut self.peers[from];
        match kind {
            Kind::Question => peer.unanswered += 1,
            Kind::Answer => {
                assert!(peer.questions > 0, "answer to a question nobody asked");
                peer.questions -= 1;
            }
            Kind::Notice => {
                peer.consumed += 1;
                let consumed = peer.consumed;
                self.consumed_from |= 1 << from;
                // Release pairs with the Acquire in `has_credit`.
                self.pair(from, self.me).consumed.store(consumed, Ordering::Release);
            }
        }
    }

    /// The pending sender at or after the place in the round.
    fn next_pending(&self) -> Option<usize> {
        let from_here = self.pending & (u64::MAX << self.next);
        let round = if from_here == 0 { self.pending } else { from_here };
        (round != 0).then(|| round.trailing_zeros() as usize)
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mailbox")
            .field("me", &self.me)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

/// The numbers of the set bits, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            bit
        })
    })
}

#[cfg(all(test, not(feature = "models")))]
#[path = "mailbox_tests.rs"]
mod tests;
