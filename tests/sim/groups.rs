//! Who makes groups and changes them: orders through the desk, as the HTTP API gives them.
//!
//! Owner: the world, with a chance of its own, so that worlds without groups stay what they are. At
//! most one order for a user and a group is open at a time. One whose answer is lost in a crash
//! leaves it in doubt whether it was obeyed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use myriad::state::order::{Done, Fault, GroupEdit, Order};
use wire::{Change, GroupChange, Role, Stream};

use super::random::Random;
use super::world::World;

/// What groups are called.
const NAMES: [&str; 4] = ["Weekend", "Familie", "登山", "x"];
/// Answers as they come: number of the order, what became of it.
type Answers = Arc<Mutex<Vec<(u64, Result<Done, Fault>)>>>;

/// An order without an answer yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    group: u64,
    by: u64,
    change: GroupChange,
}

/// See the module.
pub(crate) struct Director {
    random: Random,
    answers: Answers,
    open: BTreeMap<u64, Open>,
    last_order: u64,
    /// Groups that were begun, by the answer.
    begun: Vec<u64>,
}

impl Director {
    /// Nobody did anything yet.
    pub(crate) fn new(seed: u64) -> Self {
        let random = Random::new(seed ^ 0x67u64.rotate_left(40));
        let (answers, open) = (Answers::default(), BTreeMap::new());
        Self { random, answers, open, last_order: 0, begun: Vec::new() }
    }

    fn is_open(&self, group: u64, user: u64) -> bool {
        let clashes = |open: &Open| {
            let whose = open.change.user;
            open.group == group && (whose == user || whose == 0 || user == 0)
        };
        self.open.values().any(clashes)
    }
}

impl World {
    /// Groups begin, change and are written to, perhaps.
    pub(super) fn direct_groups(&mut self) {
        if self.plan.groups == 0 {
            return;
        }
        if self.server.is_some() && self.director.random.per_mille(60) {
            self.change_a_group();
        }
        for index in 0..self.phones.len() {
            let random = &mut self.director.random;
            if random.per_mille(self.plan.chances.write / 2) {
                let group = self.some_group();
                let random = &mut self.director.random;
                let burst = if random.per_mille(60) { random.between(2, 80) } else { 1 };
                (0..burst).for_each(|_| self.write_to_group(index, group));
            }
            let random = &mut self.director.random;
            if random.per_mille(self.plan.chances.chatter / 4) {
                let stopped = random.per_mille(500);
                let group = self.some_group();
                self.phones[index].session.typing_in(group, stopped);
            }
        }
    }

    /// Ids of groups are a namespace of their own: the first is called like a user.
    fn some_group(&mut self) -> u64 {
        let number = self.director.random.below(self.plan.groups);
        let like_a_user = self.plan.users.first().map_or(1, |user| user.0);
        if number == 0 { like_a_user } else { (1 << 50) + number }
    }

    fn write_to_group(&mut self, index: usize, group: u64) {
        let most = self.setup.rules.payload_bytes_max as u64;
        let random = &mut self.director.random;
        let bytes = match random.below(40) {
            0 => most,
            1..=3 => random.below(most),
            _ => random.below(200),
        };
        let fill = random.next().to_le_bytes();
        let bytes = usize::try_from(bytes).unwrap_or(0);
        let payload: Vec<u8> = fill.iter().copied().cycle().take(bytes).collect();
        let short = random.per_mille(self.plan.chances.short_lived);
        let ttl_s = if short { u32::try_from(random.between(1, 20)).unwrap_or(1) } else { 0 };
        let phone = &mut self.phones[index];
        phone.write(Stream::Group(group), &payload, ttl_s, None, &mut self.checks);
    }

    fn change_a_group(&mut self) {
        let group = self.some_group();
        let users = &self.plan.users;
        let Director { random, begun, .. } = &mut self.director;
        let user = users[random.index(users.len())].0;
        let name = NAMES[random.index(NAMES.len())].to_owned();
        let change = |what, user| GroupChange { what, user, role: Role::Member };
        if !begun.contains(&group) {
            let order = Order::GroupCreate { group, owner: user, name };
            let begins = GroupChange { role: Role::Owner, ..change(Change::Created, user) };
            return self.order_in_group(order, Open { group, by: 0, change: begins }, false);
        }
        let (edit, change) = match random.below(100) {
            0..50 => (GroupEdit::Add(user), change(Change::Added, user)),
            50..70 => (GroupEdit::Remove(user), change(Change::Removed, user)),
            70..80 => (GroupEdit::Leave, change(Change::Left, user)),
            80..88 => (GroupEdit::Rename(name), change(Change::Renamed, 0)),
            88..92 => (GroupEdit::Promote(user), change(Change::Role, user)),
            92..94 => (GroupEdit::Demote(user), change(Change::Role, user)),
            94..98 => (GroupEdit::HandOver(user), change(Change::Role, user)),
            _ => (GroupEdit::End, change(Change::Ended, 0)),
        };
        let puts_out = matches!(change.what, Change::Removed | Change::Left | Change::Ended);
        // Mostly the operator, who may do anything; who leaves does so on their own.
        let by = match edit {
            GroupEdit::Leave => user,
            _ if random.per_mille(700) => 0,
            _ => users[random.index(users.len())].0,
        };
        self.order_in_group(
            Order::GroupEdit { group, by, edit },
            Open { group, by, change },
            puts_out,
        );
    }

    fn order_in_group(&mut self, order: Order, open: Open, puts_out: bool) {
        let Some(server) = &self.server else { return };
        if self.director.is_open(open.group, open.change.user) {
            return;
        }
        self.checks.trace(|| format!("order {order:?}"));
        self.checks.group_ordered(open.group, open.change.user, puts_out);
        self.director.last_order += 1;
        let number = self.director.last_order;
        self.director.open.insert(number, open);
        let answers = Arc::clone(&self.director.answers);
        let reply = move |answer| {
            answers.lock().expect("nobody panics with it").push((number, answer));
        };
        server.desk.send(order, Box::new(reply));
    }

    /// What became of orders; those of a server that is gone will never be answered.
    pub(super) fn hear_of_groups(&mut self) {
        let answers = std::mem::take(&mut *self.director.answers.lock().expect("as above"));
        for (number, answer) in answers {
            let Some(Open { group, by, change }) = self.director.open.remove(&number) else {
                self.checks.violated(format!("groups: order {number} was answered twice"));
                continue;
            };
            self.checks.trace(|| format!("order for {group}, {change:?}: {answer:?}"));
            if let Ok(Done::Changed { position }) = answer {
                self.checks.group_changed(group, position, change);
            }
            let begun = &mut self.director.begun;
            let anybody = matches!(change.what, Change::Added | Change::Renamed);
            match (change.what, answer) {
                (Change::Created, Ok(_) | Err(Fault::Conflict)) if !begun.contains(&group) => {
                    begun.push(group);
                }
                (Change::Ended, Ok(_)) => begun.retain(|known| *known != group),
                // The last one who was in has left.
                (_, Err(Fault::Unknown)) if by == 0 && anybody => {
                    begun.retain(|known| *known != group);
                }
                _ => {}
            }
        }
        if self.server.is_none() {
            for (_, Open { group, change, .. }) in std::mem::take(&mut self.director.open) {
                self.checks.group_doubted(group, change.user);
            }
        }
    }
}
