//! Requests between the steps, the other shards and the log.

use super::intake::Step;
use super::{Core, Waiter};
use crate::limits;
use crate::log::{self, Placed, Reader, Record};
use crate::mem::{RetryAfterMs, Token};
use crate::path::receipt::Receipt;
use crate::path::{deliver, presence, receipt, route, session, store};
use crate::ring::Mailbox;
use crate::state::Tables;
use crate::state::order::POST_DEVICE;
use crate::state::placement::Placement;
use crate::state::request::{Envelope, Errand, Request, Staged};
use crate::state::window::{Answer, Outcome};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use wire::{Refusal, Send, Stream};

impl<S, R: Reader> Core<S, R> {
    /// A `Send`: route, then the recipient's home, here or elsewhere.
    pub(super) fn on_send(
        &mut self,
        token: Token,
        user: u32,
        device: u32,
        send: &Send<'_>,
    ) -> Step {
        let home = match send.to {
            Stream::User(to) | Stream::Group(to) => self.placement.home(to),
        };
        session::confirm(&mut self.tables, device, send.confirmed);
        let looked = route::look(&mut self.tables, &self.rules, device, send);
        if matches!(looked, route::Looked::New(_)) {
            if let Some(reason) = self.cannot_keep(device, send.to) {
                route::hold(&mut self.tables, device, send.client_id);
                route::refuse(&mut self.tables, device, send.client_id, reason);
                return Step::Taken;
            }
            if let Err(RetryAfterMs(retry_after_ms)) = self.may_send(token, user) {
                let Self { tables, .. } = self;
                route::hold(tables, device, send.client_id);
                let reason = Refusal::RateLimited;
                route::refuse_for(tables, device, send.client_id, reason, retry_after_ms);
                return Step::Taken;
            }
            if home != self.me && !self.mailbox.has_credit(home) {
                return self.wait_for_credit(token, device, home, send.client_id);
            }
        }
        if !send.automatic {
            session::active(&mut self.tables, user, self.now);
        }
        match looked {
            route::Looked::New(to) => {
                let request = route::begin(&mut self.tables, device, to, send);
                self.carry(home, request);
            }
            route::Looked::Known(answer) => self.on_repeat(device, send, answer),
            route::Looked::Refused(reason) => {
                route::refuse(&mut self.tables, device, send.client_id, reason);
            }
        }
        Step::Taken
    }

    /// Takes a request to the recipient's home, toward which there is a credit.
    pub(super) fn carry(&mut self, home: usize, mut request: Box<Request>) {
        request.refusals_heard = self.refusals_heard[home];
        if home == self.me {
            self.own.push_back(request); // stored in this turn, with others at once
            if self.own.len() >= self.own_max {
                self.store_own();
            }
            return;
        }
        let sent = self.mailbox.ask(home, Envelope::Send(request));
        debug_assert!(sent.is_ok(), "a credit was there a moment ago");
    }

    fn on_repeat(&mut self, device: u32, send: &Send<'_>, answer: Answer) {
        match route::repeat(&mut self.tables, device, send, answer) {
            route::Repeated::CopyMissing(request) => self.store_copy(request),
            route::Repeated::Answered(outcome) => {
                route::answer(&mut self.tables, device, send.client_id, outcome);
            }
            route::Repeated::Refused(reason) => {
                route::refuse(&mut self.tables, device, send.client_id, reason);
            }
        }
    }

    /// What the state of the log says to a new message before anybody else is asked. After a failed
    /// sync requests under way never come back, and their credits with them; on a full disk the
    /// copy for the sender's other devices would find no room after the message has.
    fn cannot_keep(&self, device: u32, to: Stream) -> Option<Refusal> {
        match self.stage.health() {
            log::Health::Failed => Some(Refusal::StoreFailed),
            log::Health::Full if route::wants_copy(&self.tables, device, to) => {
                Some(Refusal::DiskFull)
            }
            log::Health::Full | log::Health::Good => None,
        }
    }

    /// No credit toward the recipient's home: the connection waits a little, then hears so.
    fn wait_for_credit(&mut self, token: Token, device: u32, home: usize, client_id: u64) -> Step {
        let waits_since_ms = self.waits_since_ms.unwrap_or(self.now.mono_ms);
        if self.now.mono_ms >= waits_since_ms + limits::CREDIT_WAIT_MS {
            route::hold(&mut self.tables, device, client_id);
            route::refuse(&mut self.tables, device, client_id, Refusal::Overloaded);
            return Step::Taken;
        }
        self.mailbox.wants_credit(home);
        self.park(token);
        Step::Wait
    }

    /// At the recipient's home: store, deliver, wait for the commit.
    pub(super) fn store(&mut self, from: usize, mut request: Box<Request>) {
        if request.in_group {
            return self.store_in_group(from, request);
        }
        let Self { tables, rules, stage, positions, refusals, now, burials, .. } = self;
        // What it deletes must find a place on the list of those that wait for room.
        let deletes = request.relation.is_some_and(|it| it.kind == wire::RELATION_DELETE);
        let refusals = &mut refusals[from];
        let stored = if deletes && burials.len() >= limits::BURIALS_MAX {
            refusals.refuse(&request, Refusal::DiskFull)
        } else {
            store::store(tables, rules, stage, positions, refusals, &request, *now)
        };
        match stored {
            Ok(stored) => {
                if !stored.void {
                    deliver::push(tables, &stored, &request, *now);
                }
                if deletes {
                    self.delete_target(&stored, &request);
                }
                let (position, time_ms) = (stored.position, stored.time_ms);
                request.outcome = Outcome::Sent { position, time_ms };
                let (ticket, user) = (stored.ticket, stored.user);
                self.waiters.push_back(Waiter::Request {
                    ticket,
                    from,
                    user,
                    position,
                    request,
                    deleted: false,
                });
            }
            Err(reason) => {
                if reason.retriable() {
                    request.retry = Some(reason);
                } else {
                    request.outcome = Outcome::Refused(reason);
                }
                self.decided(from, request);
            }
        }
    }

    /// The recipient's home has decided: tell the sender's.
    pub(super) fn decided(&mut self, from: usize, request: Box<Request>) {
        if from == self.me {
            self.finish(self.me, request);
        } else {
            self.mailbox.answer(from, Envelope::Send(request));
        }
    }

    /// At the sender's home: what has to be durable before the answer, then the answer.
    pub(super) fn finish(&mut self, home: usize, request: Box<Request>) {
        self.refusals_heard[home] += u64::from(request.retry.is_some());
        match route::finish(&mut self.tables, request) {
            route::Finish::Copy(request) => self.store_copy(request),
            route::Finish::NoteRefusal(request) => self.note_refusal(request),
            route::Finish::Done(request) => {
                if request.device == POST_DEVICE {
                    self.finish_post(&request);
                }
                self.tables.requests.give(request);
            }
        }
    }

    /// Everything about a request is durable: its answer is given.
    fn settle_request(&mut self, request: Box<Request>, copied: bool) {
        if request.device == POST_DEVICE {
            self.finish_post(&request);
        } else {
            route::settle(&mut self.tables, &request, copied);
        }
        self.tables.requests.give(request);
    }

    /// The copy for the sender's other devices; behind those that wait already.
    fn store_copy(&mut self, request: Box<Request>) {
        if self.copies.len() >= limits::COPIES_WAITING_MAX {
            return self.lose_copy(request);
        }
        self.copies.push_back(request);
        self.store_copies();
    }

    /// Stores the copies that wait, in order, as far as the staging ring has room.
    pub(super) fn store_copies(&mut self) {
        while let Some(mut request) = self.copies.pop_front() {
            let Outcome::Sent { position, time_ms } = request.outcome else {
                self.tables.requests.give(request);
                continue;
            };
            let Self { tables, rules, stage, positions, now, .. } = self;
            match store::store_copy(tables, rules, stage, positions, &request, (position, time_ms))
            {
                Ok(stored) => {
                    deliver::push_copy(tables, &stored, &request, position, *now);
                    self.delete_target(&stored, &request);
                    request.stage = Staged::OwnCopy;
                    let (ticket, user, position) = (stored.ticket, stored.user, stored.position);
                    let from = self.me;
                    let waiter =
                        Waiter::Request { ticket, from, user, position, request, deleted: false };
                    self.waiters.push_back(waiter);
                }
                Err(log::Refused::Busy) => return self.copies.push_front(request),
                Err(_) => self.lose_copy(request),
            }
        }
    }

    /// The message itself is safe; its sender hears so even though the copy is not.
    fn lose_copy(&mut self, request: Box<Request>) {
        self.tables.counters.own_copies_lost += 1;
        self.settle_request(request, false);
    }

    fn note_refusal(&mut self, mut request: Box<Request>) {
        let Outcome::Refused(reason) = request.outcome else {
            return self.tables.requests.give(request);
        };
        match store::store_refusal(&mut self.stage, &request, reason, self.now) {
            Ok(ticket) => {
                request.stage = Staged::Refusal;
                let (from, user, position) = (self.me, crate::state::NONE, 0);
                self.waiters.push_back(Waiter::Request {
                    ticket,
                    from,
                    user,
                    position,
                    request,
                    deleted: false,
                });
            }
            Err(_) => self.settle_request(request, false),
        }
    }

    /// What became durable since the last turn.
    pub(super) fn commits(&mut self) {
        while let Some(placed) = self.stage.committed() {
            while self.waiters.front().is_some_and(|waiter| waiter.batch() <= placed.batch) {
                match self.waiters.pop_front() {
                    Some(Waiter::Request { ticket, from, user, position, request, deleted }) => {
                        self.place_sent(&placed, ticket, (user, position), &request);
                        if deleted {
                            self.tables.live.scrub(placed.at(ticket));
                        }
                        self.on_durable(from, request);
                    }
                    Some(Waiter::Login { conn, device, login, .. }) => {
                        self.on_durable_device(conn, device, &login);
                    }
                    Some(Waiter::Epoch { epoch, .. }) => {
                        self.positions.roll(epoch);
                        self.epoch_under_way = false;
                    }
                    Some(Waiter::Moved { ticket, user, position }) => {
                        self.place(&placed, ticket, user, position);
                    }
                    Some(Waiter::MovedInGroup { ticket, group, position }) => {
                        self.place_in_group(&placed, ticket, (group, position));
                    }
                    Some(Waiter::Change { ticket, group, position, back }) => {
                        self.place_in_group(&placed, ticket, (group, position));
                        back.changed(position);
                    }
                    Some(Waiter::Image { report, .. }) => self.on_image(*report),
                    Some(Waiter::Order { pending, .. }) => (pending.reply)(Ok(pending.done)),
                    None => {}
                }
            }
        }
        self.next_epoch();
        self.store_copies();
        self.read_on();
    }

    /// A shard that has used half of its epoch makes the next one durable before it needs it
    /// (4.29 thousand million positions last five days at 10,000 messages a second).
    fn next_epoch(&mut self) {
        if !self.positions.is_low() || self.epoch_under_way {
            return;
        }
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        let record = Record { aux: u64::from(epoch), ..Record::blank(log::Kind::Epoch) };
        if let Ok(ticket) = self.stage.append_urgent(log::Lane::Reserve, &record) {
            self.waiters.push_back(Waiter::Epoch { ticket, epoch });
            self.epoch_under_way = true;
        }
    }

    fn on_durable(&mut self, from: usize, request: Box<Request>) {
        match request.stage {
            Staged::Message => self.decided(from, request),
            Staged::Notice => self.noticed(from, request),
            Staged::OwnCopy | Staged::Refusal => {
                let copied = request.stage == Staged::OwnCopy;
                self.settle_request(request, copied);
            }
        }
    }

    /// The record can be read from the log now.
    pub(super) fn place(&mut self, placed: &Placed, ticket: log::Ticket, user: u32, position: u64) {
        if user == crate::state::NONE {
            return;
        }
        let handle = self.tables.users.user(user).inbox;
        let Some(mut inbox) = self.tables.inboxes.get_mut(handle) else { return };
        let at = placed.at(ticket);
        if let Some(entry) = inbox.place(position, at) {
            self.tables.live.add(at, entry.bytes());
            deliver::settle_inbox(&mut self.tables, user);
            deliver::behind(&self.tables, user, &mut self.behind);
        }
    }

    /// Devices that are behind read on from the log.
    pub(super) fn read_on(&mut self) {
        let mut behind = std::mem::take(&mut self.behind);
        for device in behind.drain(..) {
            let Self { tables, reader, now, .. } = self;
            let Some(here) = tables.users.device_if_any(device) else { continue };
            let conn = here.conn();
            if let Err(parting) = deliver::pump(tables, reader, device, *now)
                && let Some(token) = conn
            {
                tables.doomed.push((token, parting));
            }
        }
        self.behind = behind;
    }
}

/// Adds questions about other users; what finds no room is shed.
pub(super) fn add_errands(errands: &mut VecDeque<Errand>, new: impl Iterator<Item = Errand>) {
    let room = limits::ERRANDS_MAX.saturating_sub(errands.len());
    errands.extend(new.take(room));
}

/// Hands a receipt to the sender's home. False: no credit now.
pub(super) fn tell_receipt<S>(
    tables: &mut Tables,
    mailbox: &mut Mailbox<Envelope<S>>,
    me: usize,
    home: usize,
    receipt: Receipt,
) -> bool {
    if home == me {
        receipt::push(tables, &receipt);
        return true;
    }
    let Receipt { sender, recipient, after, up_to, mark } = receipt;
    let told = mailbox.notify(home, Envelope::Receipt { sender, recipient, after, up_to, mark });
    if told.is_err() {
        mailbox.wants_credit(home);
    }
    told.is_ok()
}

/// Hands presence news to the watcher's home. False: no credit now.
pub(super) fn tell_presence<S>(
    tables: &mut Tables,
    mailbox: &mut Mailbox<Envelope<S>>,
    placement: Placement,
    me: usize,
    news: presence::News,
) -> bool {
    let home = placement.home(news.watcher);
    if home == me {
        presence::push(tables, &news);
        return true;
    }
    let presence::News { watcher, device, user, online, last_seen_s, asked } = news;
    let letter = Envelope::Presence { watcher, device, user, online, last_seen_s, asked };
    mailbox.notify(home, letter).is_ok()
}
