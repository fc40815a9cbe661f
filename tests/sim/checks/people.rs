//! Blocks and privacy: what a blocked sender wrote is never delivered and not tellable, and nobody
//! sees who hides.
//!
//! The server may take its time until it has answered an order, and what it wrote before that may
//! be on its way for long. So something must hold from the moment of the answer on, for messages
//! written after it and on connections begun after it, until a change back is ordered.

use wire::client::{ClientEvent, TickMark};
use wire::{Mark, MessageId, Presence, Receipt, Stream};

use super::super::fast::{FastMap, FastSet};
use super::{Checks, Name};

/// What holds of one user toward another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whim {
    /// Blocks the other.
    pub(crate) blocks: bool,
    /// Does not let the other see when it was here.
    pub(crate) hides: bool,
    /// Neither tells nor gets tick 3.
    pub(crate) reads_silently: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wish {
    whim: Whim,
    /// Number of the order.
    number: u64,
    /// When it was answered.
    obeyed_at: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Counts what happens: the time of this checker.
    clock: u64,
    /// By user and other, as they were ordered.
    wishes: FastMap<(u64, u64), Vec<Wish>>,
    /// When phones began their present connection.
    connected_at: FastMap<Name, u64>,
    /// When messages were written.
    written_at: FastMap<MessageId, u64>,
    /// Messages `Sent` while their recipient blocked their sender for certain.
    void: FastSet<MessageId>,
    /// The same, perhaps.
    perhaps_void: FastSet<MessageId>,
    /// Messages with a tick beyond the first.
    ticked: FastSet<MessageId>,
}

impl Wishes {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Whether something held of `user` toward `other` ever since this time, and still does.
    fn held_since(&self, pair: (u64, u64), since: u64, holds: fn(Whim) -> bool) -> bool {
        let Some(wishes) = self.wishes.get(&pair) else { return false };
        let is_old = |wish: &Wish| wish.obeyed_at.is_some_and(|at| at < since);
        let Some(first) = wishes.iter().rposition(is_old) else { return false };
        wishes[first..].iter().all(|wish| holds(wish.whim))
    }

    /// Whether something may have held at some time since this one.
    fn may_have_held(&self, pair: (u64, u64), since: u64, holds: fn(Whim) -> bool) -> bool {
        let Some(wishes) = self.wishes.get(&pair) else { return false };
        (0..wishes.len()).any(|at| {
            let ended_at = wishes.get(at + 1).and_then(|next| next.obeyed_at);
            holds(wishes[at].whim) && ended_at.is_none_or(|ended_at| ended_at >= since)
        })
    }
}

impl Checks {
    /// From now on this is ordered of a user toward another.
    pub(crate) fn wished(&mut self, pair: (u64, u64), whim: Whim, number: u64) {
        let wish = Wish { whim, number, obeyed_at: None };
        self.wishes.wishes.entry(pair).or_default().push(wish);
    }

    /// An order was answered.
    pub(crate) fn obeyed(&mut self, number: u64) {
        self.note_obeyed(|wish| wish.number == number);
    }

    /// A server starts with everything that was ordered.
    pub(crate) fn all_obeyed(&mut self) {
        self.note_obeyed(|_| true);
    }

    fn note_obeyed(&mut self, which: impl Fn(&Wish) -> bool) {
        let now = self.wishes.now();
        for wish in self.wishes.wishes.values_mut().flatten().filter(|wish| which(wish)) {
            wish.obeyed_at.get_or_insert(now);
        }
    }

    /// An account ends: what was sent to it goes with it.
    pub(crate) fn account_ends(&mut self, user: u64) {
        let sent = self.sent.iter().filter(|(_, answer)| answer.to == Stream::User(user));
        let ids: Vec<MessageId> = sent.map(|(id, _)| *id).collect();
        self.deleted.extend(ids);
    }

    pub(super) fn note_connected(&mut self, name: Name) {
        let now = self.wishes.now();
        self.wishes.connected_at.insert(name, now);
    }

    pub(super) fn note_written(&mut self, id: MessageId) {
        let now = self.wishes.now();
        self.wishes.written_at.insert(id, now);
    }

    pub(super) fn note_renumbered(&mut self, id: MessageId, new_id: MessageId) {
        if let Some(at) = self.wishes.written_at.get(&id).copied() {
            self.wishes.written_at.insert(new_id, at);
        }
    }

    /// A message was `Sent`: was it blocked?
    pub(super) fn note_sent(&mut self, id: MessageId, to: Stream) {
        let Stream::User(to) = to else { return }; // blocks are between two
        let Some(written_at) = self.wishes.written_at.get(&id).copied() else { return };
        let pair = (to, id.sender);
        if self.wishes.held_since(pair, written_at, |whim| whim.blocks) {
            self.wishes.void.insert(id);
        }
        if self.wishes.may_have_held(pair, written_at, |whim| whim.blocks) {
            self.wishes.perhaps_void.insert(id);
        }
    }

    /// Whether a message may have gone nowhere because its sender was blocked.
    pub(super) fn may_be_void(&self, id: &MessageId) -> bool {
        self.wishes.perhaps_void.contains(id)
    }

    /// At the end: nobody got what a blocked sender wrote, and nobody was told that anybody has it.
    pub(crate) fn checks_blocked_is_never_delivered_and_not_tellable(&mut self) {
        let mut wrong = Vec::new();
        for id in &self.wishes.void {
            if self
                .views
                .iter()
                .any(|((user, _), view)| *user != id.sender && view.ids.contains(id))
            {
                wrong.push(format!("blocks: {id:?} was delivered though its sender was blocked"));
            }
            if self.wishes.ticked.contains(id) {
                wrong.push(format!("blocks: somebody was told that {id:?} arrived"));
            }
        }
        wrong.sort();
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    pub(super) fn note_tick(&mut self, event: &ClientEvent, sender: u64) {
        if let ClientEvent::Tick { client_id, device, mark, .. } = *event
            && mark != TickMark::Sent
        {
            self.wishes.ticked.insert(MessageId { sender, device, client_id });
        }
    }

    /// Who hides is not seen, and who hides does not see.
    pub(super) fn checks_privacy_of_presence(&mut self, name: Name, presence: &Presence) {
        let tells = presence.online || presence.last_seen_ms > 0;
        let since = self.wishes.connected_at.get(&name).copied().unwrap_or(0);
        for pair in [(presence.user, name.0), (name.0, presence.user)] {
            if tells && self.wishes.held_since(pair, since, |whim| whim.hides) {
                self.violated(format!(
                    "privacy: {name:?} got {presence:?}, and {pair:?} is hidden"
                ));
            }
        }
    }

    /// Blocked people don't hear each other type.
    pub(super) fn checks_blocks_of_typing(&mut self, name: Name, from: u64) {
        let since = self.wishes.connected_at.get(&name).copied().unwrap_or(0);
        for pair in [(from, name.0), (name.0, from)] {
            if self.wishes.held_since(pair, since, |whim| whim.blocks) {
                self.violated(format!(
                    "blocks: {name:?} heard {from} type, and {pair:?} is blocked"
                ));
            }
        }
    }

    /// Who reads silently neither tells nor is told.
    pub(super) fn checks_privacy_of_reading(&mut self, name: Name, receipt: &Receipt) {
        let Some(Stream::User(reader)) = receipt.stream else { return };
        if receipt.mark != Mark::Read {
            return;
        }
        let since = self.wishes.connected_at.get(&name).copied().unwrap_or(0);
        for pair in [(reader, name.0), (name.0, reader)] {
            if self.wishes.held_since(pair, since, |whim| whim.reads_silently) {
                self.violated(format!("privacy: {name:?} got {receipt:x?}, {pair:?} is silent"));
            }
        }
    }
}
