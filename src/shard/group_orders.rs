//! Orders about groups, at the groups' homes: who may, then a record, which takes effect at once
//! and is answered when it is durable. A user's home is asked before the user comes into a group.

use super::groups::shards;
use super::{Core, Waiter};
use crate::limits;
use crate::log::{self, Lane, Reader};
use crate::path::group::change::{self, Change};
use crate::path::group::{look, store};
use crate::state::groups::{Joining, Letter, Tiding};
use crate::state::order::{Done, Fault, GroupEdit, Order, Reply};
use crate::state::request::Envelope;
use std::fmt;
use wire::Change as What;

/// The way back of an order that waits for its commit.
pub(super) struct Back(Reply);

impl fmt::Debug for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Back").finish_non_exhaustive()
    }
}

impl Back {
    /// It is durable.
    pub(super) fn changed(self, position: u64) {
        (self.0)(Ok(Done::Changed { position }));
    }
}

impl<S, R: Reader> Core<S, R> {
    /// An order about a group, or about the groups of a user.
    pub(super) fn obey_for_groups(&mut self, order: Order, reply: Reply) {
        let rules = self.rules.groups;
        match order {
            Order::GroupCreate { group, owner, name } => {
                match change::create(&self.tables, group, owner, &name) {
                    Err(fault) => reply(Err(fault)),
                    Ok(None) => reply(Ok(Done::Changed { position: 0 })),
                    Ok(Some(_)) => {
                        let begins = Some(name);
                        self.invite(Joining {
                            group,
                            user: owner,
                            by: owner,
                            begins,
                            fault: None,
                            reply,
                        });
                    }
                }
            }
            Order::GroupEdit { group, by, edit } => self.edit(group, by, &edit, reply),
            Order::GroupLook { group, by } => reply(look::card(&self.tables, &rules, group, by)),
            Order::GroupMembers { group, by, after, limit } => {
                reply(look::members(&self.tables, group, by, after, limit));
            }
            Order::GroupMarks { group, by, position, after, limit } => {
                reply(look::marks(&self.tables, (group, by), position, after, limit));
            }
            Order::GroupsOf { user, after, limit } => {
                reply(Ok(look::groups_of(&self.tables, user, after, limit)));
            }
            _ => reply(Err(Fault::NotSupported)),
        }
    }

    fn edit(&mut self, group: u64, by: u64, edit: &GroupEdit, reply: Reply) {
        let Some(here) = self.tables.groups.of(group) else { return reply(Err(Fault::Unknown)) };
        match change::decide(here, &self.rules.groups, by, edit) {
            Err(fault) => reply(Err(fault)),
            Ok(None) => reply(Ok(Done::Changed { position: 0 })),
            Ok(Some(change)) if change.what == What::Added => {
                let user = change.user;
                self.invite(Joining { group, user, by, begins: None, fault: None, reply });
            }
            Ok(Some(change)) => self.change(group, &change, reply),
        }
    }

    /// Accounts that are gone leave their groups, without anybody waiting for it. What finds no
    /// room now is tried again.
    pub(super) fn serve_quits(&mut self) {
        for _ in 0..self.tables.circles.quits.len() {
            let Some((group, user)) = self.tables.circles.quits.pop_front() else { break };
            let home = self.placement.home(group);
            let letter = Envelope::Group(Letter::Quit { group, user });
            if home == self.me {
                self.tables.groups.quits.push_back((group, user));
            } else if self.mailbox.notify(home, letter).is_err() {
                self.mailbox.wants_credit(home);
                self.tables.circles.quits.push_back((group, user));
            }
        }
        let some = self.tables.groups.quits.len().min(limits::GROUPS_PER_TURN_MAX);
        for _ in 0..some {
            let Some((group, user)) = self.tables.groups.quits.pop_front() else { return };
            let here = self.tables.groups.of(group);
            let Some(edit) = here.and_then(|here| change::farewell(here, user)) else { continue };
            self.edit(group, 0, &edit, Box::new(|_| {}));
            self.tables.groups.quits.push_back((group, user)); // until it is out
        }
    }

    /// Asks the home of a user who is to come into a group.
    fn invite(&mut self, joining: Joining) {
        let home = self.placement.home(joining.user);
        let mut joining = Box::new(joining);
        if home == self.me {
            self.may_join(&mut joining);
            return self.invited(*joining);
        }
        let letter = Envelope::Group(Letter::Joining(joining));
        if let Err(Envelope::Group(Letter::Joining(joining))) = self.mailbox.ask(home, letter) {
            (joining.reply)(Err(Fault::Overloaded));
        }
    }

    /// At the home of a user who is to come into a group.
    pub(super) fn may_join(&self, joining: &mut Joining) {
        let found = self.tables.users.find(joining.user);
        joining.fault = match found {
            None if !self.rules.unknown_users_allowed => Some(Fault::Unknown),
            Some(user) => {
                let groups = self.tables.circles.memberships_of(user).count();
                (groups >= limits::GROUPS_PER_USER_MAX).then_some(Fault::Full)
            }
            None => None,
        };
    }

    /// The home of the user has answered. Much may have happened meanwhile.
    pub(super) fn invited(&mut self, joining: Joining) {
        let Joining { group, user, by, begins, fault, reply } = joining;
        if let Some(fault) = fault {
            return reply(Err(fault));
        }
        let edit = GroupEdit::Add(user);
        let decided = match (&begins, self.tables.groups.of(group)) {
            (Some(name), _) => change::create(&self.tables, group, user, name),
            (None, Some(here)) => change::decide(here, &self.rules.groups, by, &edit),
            (None, None) => Err(Fault::Unknown),
        };
        match decided {
            Err(fault) => reply(Err(fault)),
            Ok(None) => reply(Ok(Done::Changed { position: 0 })),
            Ok(Some(change)) => self.change(group, &change, reply),
        }
    }

    /// A change gets its record, takes effect, and is told.
    fn change(&mut self, id: u64, change: &Change<'_>, reply: Reply) {
        let former = self.tables.groups.of(id);
        let mut homes = former.map_or(0, |group| group.homes_mask());
        let announced = former.map_or(0, |group| group.announced);
        let members = former.map_or(0, |group| group.count());
        let is_arrival = matches!(change.what, What::Created | What::Added);
        let home = self.placement.home(change.user);
        if self.grouping.waiting() >= limits::GROUP_TIDINGS_MAX {
            return reply(Err(Fault::Overloaded));
        }
        let Some(position) = self.positions.peek() else { return reply(Err(Fault::StoreFailed)) };
        let record = change.record(id, position, self.now.wall_ms);
        let ticket = match self.stage.append(Lane::Message, &record) {
            Ok(ticket) => ticket,
            Err(log::Refused::Busy) => return reply(Err(Fault::Overloaded)),
            Err(_) => return reply(Err(Fault::StoreFailed)),
        };
        self.positions.take();
        let index = change::apply(&mut self.tables, self.placement, id, change, position);
        // A group that ended has none any more: what it had decides how that is told.
        let count = self.tables.groups.of(id).map_or(members, |group| group.count());
        let rules = self.rules.groups;
        let is_quiet = change::is_traffic(change.what) && count > rules.quiet_above as usize;
        let pushes = !is_quiet && count <= rules.push_max as usize;
        let group = index.unwrap_or(u32::MAX);
        let mut after = announced;
        if let Some(index) = index {
            after = store::append(&mut self.tables, &self.rules, index, &record, !is_quiet);
        }
        if is_arrival {
            homes |= 1 << home;
            let user = change.user;
            self.tell(home, Tiding::Joined { group: id, user, position, pushes });
        }
        let time_ms = self.now.wall_ms;
        let stored = store::Stored { group, position, after, ticket, time_ms };
        if pushes {
            self.push_to(homes, group, |pushed| store::fill_change(pushed, id, &stored, change));
        }
        match change.what {
            What::Removed | What::Left => {
                self.tell(home, Tiding::Left { group: id, user: change.user, position });
            }
            What::Ended => {
                for shard in shards(homes) {
                    self.tell(shard, Tiding::Ended { group: id, position });
                }
            }
            _ => {}
        }
        let back = Back(reply);
        self.waiters.push_back(Waiter::Change { ticket, group, position, back });
    }
}
