//! Groups that users of this shard are members of: what their devices say, and what is said of it
//! to the groups' homes.

use super::Core;
use super::intake::{Step, spend};
use crate::limits;
use crate::log::Reader;
use crate::mem::Token;
use crate::path::group::{marks, page, seats};
use crate::path::{presence, session};
use crate::state::groups::{Letter, Stands, Tick, Typing};
use crate::state::request::{Envelope, Errand};
use wire::{Ack, ClientFrame, Fetch, Parting, Refusal, Stream};

impl<S, R: Reader> Core<S, R> {
    /// A frame about a group, but for `Send`. None: it is about something else.
    pub(super) fn on_group_frame(
        &mut self,
        token: Token,
        user: u32,
        device: u32,
        frame: &ClientFrame<'_>,
    ) -> Option<Step> {
        match frame {
            ClientFrame::Ack(Ack { stream: Some(Stream::Group(group)), up_to }) => {
                seats::ack(&mut self.tables, device, *group, *up_to);
            }
            ClientFrame::Read(read) if let Some(Stream::Group(group)) = read.stream => {
                if !read.automatic {
                    session::active(&mut self.tables, user, self.now);
                }
                seats::read(&mut self.tables, device, group, read.up_to);
            }
            ClientFrame::Typing(typing) if let Stream::Group(group) = typing.to => {
                session::active(&mut self.tables, user, self.now);
                if self.overload.sheds_presence() {
                    self.tables.counters.shed += 1;
                } else {
                    self.on_group_typing(user, group, typing.stopped);
                }
            }
            ClientFrame::AskReceipts(ask) if ask.groups => {
                let Self { tables, errands, now, .. } = self;
                if presence::may_ask(tables, device, ask.peers.len(), *now) {
                    let asker = tables.users.user(user).id;
                    let new = ask.peers.iter().map(|&group| Errand::Ticks { asker, group });
                    super::traffic::add_errands(errands, new);
                }
            }
            ClientFrame::Fetch(fetch) if let Stream::Group(group) = fetch.stream => {
                return Some(self.on_group_fetch(token, user, fetch, group));
            }
            _ => return None,
        }
        Some(Step::Taken)
    }

    /// A device asks for a part of a group's stream.
    fn on_group_fetch(&mut self, token: Token, user: u32, fetch: &Fetch, group: u64) -> Step {
        let Some(conn) = self.tables.conns.get_mut(token) else { return Step::Taken };
        if spend(conn, limits::GROUP_FETCH_COST_FRAMES, self.host_ms) {
            return self.doom(token, Parting::TooManyFrames);
        }
        let user = self.tables.users.user(user).id;
        let mut asked = Box::new(page::ask(token, user, fetch, group));
        let home = self.placement.home(group);
        if home == self.me {
            self.fill(&mut asked);
            page::write(&mut self.tables, &asked);
        } else if self.mailbox.ask(home, Envelope::Group(Letter::Page(asked))).is_err() {
            page::refuse(&mut self.tables, token, fetch.request, Refusal::Overloaded);
        }
        Step::Taken
    }

    /// A user types in a group.
    fn on_group_typing(&mut self, user: u32, group: u64, stopped: bool) {
        if self.tables.circles.membership_of(user, group).is_none() {
            return;
        }
        let typing = Typing { group, from: self.tables.users.user(user).id, stopped };
        let home = self.placement.home(group);
        if home == self.me {
            self.type_in_group(typing);
        } else if self.mailbox.notify(home, Envelope::Group(Letter::Typing(typing))).is_err() {
            self.tables.counters.shed += 1;
        }
    }

    /// At a group's home: the marks of what somebody wrote there.
    pub(super) fn tell_ticks(&mut self, asker: u64, group: u64) {
        for tick in marks::ask(&self.tables, asker, group) {
            self.tell_tick(tick);
        }
    }

    fn tell_tick(&mut self, tick: Tick) {
        let home = self.placement.home(tick.author);
        if home == self.me {
            marks::push(&mut self.tables, &tick);
        } else if self.mailbox.notify(home, Envelope::Group(Letter::Tick(tick))).is_err() {
            self.tables.counters.shed += 1; // asked again at the next login
        }
    }

    /// Tells groups' homes where members stand: one letter for many of them. What finds no credit
    /// stays marked.
    pub(super) fn tell_stands(&mut self) {
        if self.tables.circles.dirty.is_empty() {
            return;
        }
        let Self { tables, mailbox, placement, me, grouping, .. } = self;
        let mut dirty = std::mem::take(&mut tables.circles.dirty);
        for home in 0..mailbox.shards() {
            let mut letter: Option<Box<Stands>> = None;
            dirty.retain(|&index| {
                let group = tables.circles.membership(index).map_or(0, |here| here.group);
                if placement.home(group) != home {
                    return true;
                }
                if home != *me && letter.is_none() && !mailbox.has_credit(home) {
                    mailbox.wants_credit(home);
                    return true;
                }
                if let Some(here) = tables.circles.membership_mut(index) {
                    here.dirty = false;
                }
                let Some(stand) = seats::stand(tables, index) else { return false };
                if home == *me {
                    marks::take(tables, &stand);
                    return false;
                }
                let open = letter.get_or_insert_with(|| grouping.stands.pop().unwrap_or_default());
                open.stands.push(stand);
                if open.stands.len() >= limits::GROUP_MARKS_PER_LETTER_MAX
                    && let Some(full) = letter.take()
                {
                    let sent = mailbox.ask(home, Envelope::Group(Letter::Stands(full)));
                    debug_assert!(sent.is_ok(), "a credit was there a moment ago");
                }
                false
            });
            if let Some(last) = letter.take() {
                let sent = mailbox.ask(home, Envelope::Group(Letter::Stands(last)));
                debug_assert!(sent.is_ok(), "a credit was there a moment ago");
            }
        }
        dirty.append(&mut tables.circles.dirty);
        tables.circles.dirty = dirty;
    }
}
