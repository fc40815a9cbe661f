//! Orders about people: settings, ties, ends of devices and accounts. The rules are in
//! `path::people` and `path::ending`.

use super::{Core, Waiter};
use crate::log::{Reader, Ticket};
use crate::path::{ending, group, people};
use crate::state::order::{Done, Fault, Order, Pending, Reply};

impl<S, R: Reader> Core<S, R> {
    /// Obeys an order about a user of this shard.
    pub(super) fn obey_people(&mut self, order: Order, reply: Reply) {
        let Self { tables, stage, now, .. } = self;
        match order {
            Order::Person { user, person } => {
                reply(people::set_person(tables, user, person).map(|()| Done::Obeyed));
            }
            Order::Relate { user, other, ties } => {
                reply(people::relate(tables, user, other, ties).map(|()| Done::Obeyed));
            }
            Order::EndDevice { user, device, not_before_s } => {
                let staged = ending::end_device(tables, stage, (user, device), not_before_s, *now);
                self.answer_when_durable(staged, reply);
            }
            Order::EndUser { user, not_before_s } => {
                let groups = group::members::groups_of(tables, user);
                let staged = ending::end_user(tables, stage, user, not_before_s, *now);
                if staged.is_ok() {
                    tables.circles.quits.extend(groups.into_iter().map(|group| (group, user)));
                }
                if staged.is_ok()
                    && let Some(index) = tables.users.find_even_ended(user)
                {
                    self.burials.retain(|(whose, _)| *whose != index);
                }
                self.answer_when_durable(staged, reply);
            }
            Order::Post(post) => self.post(&post, reply),
            _ => reply(Err(Fault::NotSupported)),
        }
    }

    fn answer_when_durable(&mut self, staged: Result<Option<Ticket>, Fault>, reply: Reply) {
        match staged {
            Ok(Some(ticket)) => {
                let pending = Pending { reply, done: Done::Obeyed };
                self.waiters.push_back(Waiter::Order { ticket, pending });
            }
            Ok(None) => reply(Ok(Done::Obeyed)),
            Err(fault) => reply(Err(fault)),
        }
    }
}
