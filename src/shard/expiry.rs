//! Mail that has waited too long, and messages that are deleted before they were delivered: the way
//! of a notice between shards and the log. The rules are in `path::expire`.

use super::{Core, Waiter};
use crate::clock::Now;
use crate::limits;
use crate::log::Reader;
use crate::path::expire::{self, Begun};
use crate::path::{deliver, store};
use crate::state::request::{Envelope, Request};
use crate::state::window::Outcome;

impl<S, R: Reader> Core<S, R> {
    /// The time by which mail ends, seconds since 1970. Its monotonic side is the host's clock: the
    /// session clock leaves out what the server was late by.
    fn expiry_s(&self) -> Option<u32> {
        self.expiry_clock.now_s(Now { mono_ms: self.host_ms, wall_ms: self.now.wall_ms })
    }

    /// Gives up what has waited too long, a bounded number per call.
    pub(super) fn expire(&mut self) {
        self.bury_waiting();
        // While the log has no room for that much, nothing more is begun.
        if self.now.mono_ms < self.expiry_due_ms || !self.burials.is_empty() {
            return;
        }
        self.expiry_due_ms = self.now.mono_ms + limits::EXPIRY_LOOK_MS;
        let Some(now_s) = self.expiry_s() else { return };
        self.expire_in_groups(now_s);
        let mut positions = std::mem::take(&mut self.expired);
        for _ in 0..limits::EXPIRED_PER_LOOK_MAX {
            let Self { tables, reader, rules, .. } = self;
            let Some(user) = tables.expiry.pop(now_s, &tables.users, &mut tables.inboxes) else {
                break;
            };
            positions.clear();
            expire::examine(tables, reader, rules, user, now_s, &mut positions);
            for &position in &positions {
                self.give_up(user, position, now_s);
            }
            deliver::settle_inbox(&mut self.tables, user);
            if positions.len() >= limits::EXPIRED_PER_LOOK_MAX {
                break;
            }
        }
        self.expired = positions;
        for _ in 0..limits::EXPIRED_PER_LOOK_MAX {
            let Some((user, position)) = self.tables.voids.pop_due(now_s) else { break };
            self.give_up(user, position, now_s);
        }
        self.tables.expiry.tidy();
    }

    fn give_up(&mut self, user: u32, position: u64, now_s: u32) {
        match expire::begin(&mut self.tables, &mut self.reader, user, position) {
            Begun::Bury => self.bury(user, position),
            Begun::Unreadable => self.look_again(user, now_s + limits::EXPIRY_RETRY_S),
            Begun::Tell(request) => {
                let home = self.placement.home(request.sender);
                if home == self.me {
                    self.store_notice(self.me, request);
                } else if let Err(Envelope::Notice(request)) =
                    self.mailbox.ask(home, Envelope::Notice(request))
                {
                    self.keep_waiting(request, now_s + 1);
                }
            }
        }
    }

    /// At the sender's home: the notice, then word back when it is durable.
    pub(super) fn store_notice(&mut self, from: usize, mut request: Box<Request>) {
        let Self { tables, rules, stage, positions, now, .. } = self;
        match expire::store_notice(tables, rules, stage, positions, &request, *now) {
            Ok(Some(stored)) => {
                deliver::push_notice(tables, &stored, &request, *now);
                let (ticket, user, position) = (stored.ticket, stored.user, stored.position);
                self.waiters.push_back(Waiter::Request {
                    ticket,
                    from,
                    user,
                    position,
                    request,
                    deleted: false,
                });
            }
            Ok(None) => self.noticed(from, request),
            Err(_) => {
                request.retry = Some(wire::Refusal::Overloaded);
                self.noticed(from, request);
            }
        }
    }

    /// The sender is told, durably, or can't be now.
    pub(super) fn noticed(&mut self, from: usize, request: Box<Request>) {
        if from == self.me {
            self.given_up(request);
        } else {
            self.mailbox.answer(from, Envelope::Notice(request));
        }
    }

    /// At the recipient's home: the message may go, or is tried again later.
    pub(super) fn given_up(&mut self, request: Box<Request>) {
        let user = self.tables.users.find(request.to);
        let (Some(user), Outcome::Sent { position, .. }) = (user, request.outcome) else {
            return self.tables.requests.give(request);
        };
        if request.retry.is_some() {
            let now_s = self.expiry_s().unwrap_or(0);
            return self.keep_waiting(request, now_s + 1);
        }
        self.tables.counters.expired += 1;
        self.tables.requests.give(request);
        self.bury(user, position);
        deliver::settle_inbox(&mut self.tables, user);
    }

    /// Its sender could not be told: it waits on as before, and is tried again.
    fn keep_waiting(&mut self, request: Box<Request>, again_s: u32) {
        let (user, outcome) = (self.tables.users.find(request.to), request.outcome);
        self.tables.requests.give(request);
        let (Some(user), Outcome::Sent { position, .. }) = (user, outcome) else { return };
        self.tables.voids.look_again(user, position, again_s);
        let handle = self.tables.users.user(user).inbox;
        if let Some(mut inbox) = self.tables.inboxes.get_mut(handle) {
            inbox.set_expiring(position, false);
        }
        self.look_again(user, again_s);
        deliver::behind(&self.tables, user, &mut self.behind);
    }

    fn look_again(&mut self, user: u32, due_s: u32) {
        let handle = self.tables.users.user(user).inbox;
        if let Some(mut inbox) = self.tables.inboxes.get_mut(handle) {
            self.tables.expiry.note(&mut inbox, user, due_s);
        }
    }

    /// Takes a record out of its inbox and off the disk.
    pub(super) fn bury(&mut self, user: u32, position: u64) {
        let Self { tables, stage, now, .. } = self;
        if expire::stage_tombstone(tables, stage, user, position, *now).is_err() {
            return self.burials.push((user, position));
        }
        expire::remove(tables, user, position);
        deliver::behind(tables, user, &mut self.behind);
    }

    /// Tombstones that found no room.
    fn bury_waiting(&mut self) {
        if self.burials.is_empty() {
            return;
        }
        for (user, position) in std::mem::take(&mut self.burials) {
            self.bury(user, position);
        }
    }

    /// A message just stored deletes an earlier one of its author: nobody gets that any more.
    pub(super) fn delete_target(&mut self, stored: &store::Stored, request: &Request) {
        let Self { tables, reader, .. } = self;
        let (user, author) = (stored.user, request.sender);
        let target = expire::find_target(tables, reader, user, request.relation, author);
        let target = target.or_else(|| self.find_staged(user, request));
        let target = target.or_else(|| expire::find_void(&self.tables, user, request));
        if let Some(position) = target.filter(|position| *position != stored.position) {
            self.tables.counters.deleted += 1;
            self.bury(user, position);
            deliver::settle_inbox(&mut self.tables, user);
        }
    }

    /// The message that `request` deletes if it is on its way to the log: an offline queue sends
    /// both at once, and what is not durable cannot be read back.
    fn find_staged(&mut self, user: u32, request: &Request) -> Option<u64> {
        let target = expire::delete_target(request.relation, request.sender)?;
        let inbox = self.tables.inboxes.get(self.tables.users.user(user).inbox)?;
        let is_staged = |position: u64| {
            let entry = inbox.after(position - 1).next();
            entry.is_some_and(|entry| entry.position == position && entry.at().is_none())
        };
        // Newest first; a device has at most a window of ids open, so it is never far.
        self.waiters.iter_mut().rev().take(limits::DELETE_LOOKS_MAX).find_map(|waiter| match waiter
        {
            Waiter::Request { user: whose, position, request, deleted, .. }
                if *whose == user
                    && !request.in_group
                    && (request.sender, request.device) == (target.sender, target.device)
                    && request.client_id == target.client_id
                    && is_staged(*position) =>
            {
                *deleted = true;
                Some(*position)
            }
            _ => None,
        })
    }
}
