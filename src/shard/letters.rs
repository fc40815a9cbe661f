//! What a shard takes in from the others, and from itself, in batches; questions about other users.
//!
//! Looked at together before the first is stored: people who were not heard of for a while are in
//! no cache, and the waits for memory of a batch overlap (`path::ahead`).

use super::Core;
use crate::limits;
use crate::log::Reader;
use crate::path::receipt::Receipt;
use crate::path::{ahead, people, presence, receipt};
use crate::ring::Kind;
use crate::state::request::{Envelope, Errand};

impl<S, R: Reader> Core<S, R> {
    /// Letters from other shards, then what is for users of this one. True: letters are left.
    pub(super) fn letters(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let mut left = limits::LETTERS_PER_TURN_MAX;
        while left > 0 {
            let room = left.min(ahead::AHEAD_MAX);
            batch.extend(std::iter::from_fn(|| self.mailbox.receive()).take(room));
            if batch.is_empty() {
                break;
            }
            left -= batch.len();
            ahead::fetch(batch.iter().filter_map(|(_, kind, letter)| {
                let Envelope::Send(request) = letter else { return None };
                let is_question = *kind == Kind::Question;
                Some((&self.tables, if is_question { request.to } else { request.sender }))
            }));
            for (from, kind, letter) in batch.drain(..) {
                self.letter(from, kind, letter);
            }
        }
        self.batch = batch;
        self.store_own();
        left == 0
    }

    /// Messages from one user of this shard to another.
    pub(super) fn store_own(&mut self) {
        if self.own.is_empty() {
            return;
        }
        ahead::fetch(self.own.iter().map(|request| (&self.tables, request.to)));
        while let Some(request) = self.own.pop_front() {
            self.store(self.me, request);
        }
    }

    fn letter(&mut self, from: usize, kind: Kind, letter: Envelope<S>) {
        match letter {
            Envelope::Send(request) if kind == Kind::Question => self.store(from, request),
            Envelope::Send(request) => self.finish(from, request),
            Envelope::Notice(request) if kind == Kind::Question => {
                self.store_notice(from, request);
            }
            Envelope::Notice(request) => self.given_up(request),
            Envelope::Move(arrival) => self.on_arrival(*arrival),
            Envelope::Receipt { sender, recipient, after, up_to, mark } => {
                let receipt = Receipt { sender, recipient, after, up_to, mark };
                receipt::push(&mut self.tables, &receipt);
            }
            Envelope::Errand(errand) => self.run_errand(errand),
            Envelope::Group(letter) => self.group_letter(from, kind, letter),
            Envelope::Typing { .. } if self.overload.sheds_presence() => {
                self.tables.counters.shed += 1;
            }
            Envelope::Typing { from, to, stopped } => {
                presence::push_typing(&mut self.tables, from, to, stopped);
            }
            Envelope::Presence { watcher, device, user, online, last_seen_s, asked } => {
                let news = presence::News { watcher, device, user, online, last_seen_s, asked };
                presence::push(&mut self.tables, &news);
            }
        }
    }

    /// Carries questions about other users to their homes, as far as there are credits.
    pub(super) fn run_errands(&mut self) {
        let mut without_credit = 0u64; // a bit per shard: at most 64
        for _ in 0..self.errands.len() {
            let Some(errand) = self.errands.pop_front() else { return };
            let home = self.placement.home(errand.target());
            if home == self.me {
                self.run_errand(errand);
                continue;
            }
            let full = without_credit & (1 << home) != 0;
            if full || self.mailbox.notify(home, Envelope::Errand(errand)).is_err() {
                if !full {
                    self.mailbox.wants_credit(home);
                    without_credit |= 1 << home;
                }
                self.errands.push_back(errand);
            }
        }
    }

    pub(super) fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Receipts { asker, peer } => receipt::ask(&mut self.tables, asker, peer),
            Errand::Ticks { asker, group } => self.tell_ticks(asker, group),
            Errand::Watch { watcher, device, target } => {
                let Self { tables, mailbox, placement, me, now, .. } = self;
                if let Some(news) = presence::watch(tables, watcher, device, target, *now) {
                    let _told =
                        super::traffic::tell_presence(tables, mailbox, *placement, *me, news);
                }
            }
        }
    }

    /// Somebody types: for the devices of a peer, unless one blocks the other.
    pub(super) fn send_typing(&mut self, user: u32, to: u64, stopped: bool) {
        let from = self.tables.users.user(user).id;
        if people::blocks(&self.tables, user, to) {
            return; // in neither direction
        }
        let home = self.placement.home(to);
        if home == self.me {
            presence::push_typing(&mut self.tables, from, to, stopped);
        } else if self.mailbox.notify(home, Envelope::Typing { from, to, stopped }).is_err() {
            self.tables.counters.shed += 1;
        }
    }
}
