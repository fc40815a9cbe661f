//! What the operator's directory would know and say: contacts, blocks, settings. It is told to the
//! server as orders, all of it again at every start, and to the checkers as what must hold.
//!
//! Owner: the world, with a chance of its own, so that worlds without people's whims stay what they
//! are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use myriad::path::people::{Known, load};
use myriad::state::Tables;
use myriad::state::order::{Audience, Done, Fault, Order, Person, Ties};

use super::checks::Whim;
use super::random::Random;
use super::server::Server;
use super::world::World;

/// What became of orders, by their number.
type Answers = Arc<Mutex<Vec<(u64, Result<Done, Fault>)>>>;

/// The truth.
#[derive(Default)]
pub(crate) struct People {
    persons: BTreeMap<u64, Person>,
    ties: BTreeMap<(u64, u64), Ties>,
    revoked: Vec<(u64, Option<u32>, u64)>,
    answers: Answers,
    ordered: u64,
    /// Orders that were answered, with the shards that had no turn since: letters to them may say
    /// what was true before.
    spreading: Vec<(u64, Vec<usize>)>,
}

impl People {
    /// Hands everything to a server that starts.
    pub(crate) fn load(&self, tables: &mut [Tables]) {
        let mut known = |known: Known<'_>| load(tables, known).expect("few people");
        for (&user, &person) in &self.persons {
            known(Known::Person { user, person });
        }
        let mut all: BTreeMap<u64, Vec<(u64, Ties)>> = BTreeMap::new();
        for (&(user, other), &ties) in &self.ties {
            all.entry(user).or_default().push((other, ties));
        }
        for (&user, ties) in &all {
            known(Known::Ties { user, ties });
        }
        for &(user, device, not_before_s) in &self.revoked {
            known(Known::Revoked { user, device, not_before_s });
        }
    }

    /// Notes a change and tells a running server of it. Returns its number.
    pub(crate) fn order(&mut self, server: Option<&Server>, order: Order) -> u64 {
        match &order {
            Order::Person { user, person } => drop(self.persons.insert(*user, *person)),
            Order::Relate { user, other, ties } => drop(self.ties.insert((*user, *other), *ties)),
            Order::EndDevice { user, device, not_before_s } => {
                self.revoked.push((*user, Some(*device), *not_before_s));
            }
            Order::EndUser { user, not_before_s } => {
                self.revoked.push((*user, None, *not_before_s));
                self.persons.remove(user);
                self.ties.retain(|(whose, _), _| whose != user);
            }
            _ => {}
        }
        self.ordered += 1;
        let number = self.ordered;
        if let Some(server) = server {
            let answers = Arc::clone(&self.answers);
            let reply = move |answer| answers.lock().expect("one thread").push((number, answer));
            server.desk.send(order, Box::new(reply));
        }
        number
    }

    /// What was answered since this was last asked.
    pub(crate) fn take_answers(&self) -> Vec<(u64, Result<Done, Fault>)> {
        std::mem::take(&mut *self.answers.lock().expect("one thread"))
    }

    /// A shard had a turn. Returns the orders that are obeyed everywhere now.
    pub(crate) fn turned(&mut self, shard: usize) -> Vec<u64> {
        for (_, shards) in &mut self.spreading {
            shards.retain(|other| *other != shard);
        }
        let spread = self.spreading.extract_if(.., |(_, shards)| shards.is_empty());
        spread.map(|(number, _)| number).collect()
    }

    /// The server starts anew: what was on its way is gone.
    pub(crate) fn restarted(&mut self) {
        self.spreading.clear();
    }

    fn person(&self, user: u64) -> Person {
        self.persons.get(&user).copied().unwrap_or_default()
    }

    fn ties(&self, user: u64, other: u64) -> Ties {
        self.ties.get(&(user, other)).copied().unwrap_or_default()
    }

    /// What holds of `user` toward `other` now.
    fn whim(&self, user: u64, other: u64) -> Whim {
        let (person, ties) = (self.person(user), self.ties(user, other));
        let hides = match person.last_seen {
            Audience::Everybody => false,
            Audience::Contacts => !ties.contact,
            Audience::Nobody => true,
        };
        Whim {
            blocks: ties.blocked,
            hides: hides || ties.blocked,
            reads_silently: person.receipts_off,
        }
    }
}

fn person(random: &mut Random) -> Person {
    let audiences = [Audience::Everybody, Audience::Contacts, Audience::Nobody];
    Person {
        suspended: false, // whoever is does not come to rest
        receipts_off: random.per_mille(300),
        last_seen: audiences[random.index(audiences.len())],
        marks_requests: random.per_mille(300),
    }
}

impl World {
    /// Somebody blocks, unblocks, befriends, hides, perhaps.
    pub(super) fn change_people(&mut self) {
        self.hear_answers();
        if self.plan.whims_per_mille == 0 || !self.whims.per_mille(self.plan.whims_per_mille) {
            return;
        }
        let random = &mut self.whims;
        let mut somebody = || self.plan.users[random.index(self.plan.users.len())].0;
        let (user, other) = (somebody(), somebody());
        let order = if random.per_mille(300) {
            Order::Person { user, person: person(random) }
        } else {
            let ties = Ties { contact: random.per_mille(500), blocked: random.per_mille(500) };
            Order::Relate { user, other, ties }
        };
        if user != other {
            let _number = self.order_whim(order);
        }
    }

    /// At the end nobody blocks anybody: what was held back is to come.
    pub(super) fn make_peace(&mut self) {
        for (user, other) in self.people.ties.keys().copied().collect::<Vec<_>>() {
            let contact = self.people.ties(user, other).contact;
            let ties = Ties { contact, blocked: false };
            let _number = self.order_whim(Order::Relate { user, other, ties });
        }
    }

    fn order_whim(&mut self, order: Order) -> u64 {
        let user = order.home();
        let others: Vec<u64> = match &order {
            Order::Relate { other, .. } => vec![*other],
            Order::EndUser { .. } => {
                self.checks.account_ends(user);
                Vec::new()
            }
            Order::EndDevice { .. } | Order::Post(_) => Vec::new(),
            _ => self.plan.users.iter().map(|(other, _)| *other).collect(),
        };
        self.checks.trace(|| format!("{order:?}"));
        let number = self.people.order(self.server.as_ref(), order);
        for other in others {
            let whim = self.people.whim(user, other);
            self.checks.wished((user, other), whim, number);
        }
        number
    }

    pub(super) fn hear_answers(&mut self) {
        for (number, answer) in self.people.take_answers() {
            match answer {
                Ok(_) => self.spread(number),
                Err(fault) => self.checks.violated(format!("orders: {number} met {fault:?}")),
            }
        }
    }

    fn spread(&mut self, number: u64) {
        let shards = self.server.as_ref().map_or(0, |server| server.shards.len());
        self.people.spreading.push((number, (0..shards).collect()));
    }

    /// Orders a change and waits until it is obeyed.
    ///
    /// # Panics
    /// If nobody ever answers.
    pub(crate) fn order(&mut self, order: Order) -> Result<Done, Fault> {
        let number = self.order_whim(order);
        for _ in 0..10_000 {
            self.pass(1, 5);
            self.round();
            if let Some((_, answer)) =
                self.people.take_answers().into_iter().find(|(other, _)| *other == number)
            {
                self.spread(number);
                return answer;
            }
        }
        panic!("an order was not answered")
    }
}
