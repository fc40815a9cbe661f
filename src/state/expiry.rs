//! When to look at whose waiting mail, because the time of something in it may be over.
//!
//! Owner: the shard. One date per user is enough: what is oldest goes first, and what has a time to
//! live of its own is listed with the inbox. A date stays when the mail it was for is gone: it is
//! early then, and looking once too often is cheap. Dates that were overtaken by an earlier one
//! stay until they come, so the heap is made anew when they are the most of it (I6).

use crate::state::inbox::{InboxMut, Inboxes};
use crate::state::users::Users;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Dates beyond one per user that are borne before the heap is made anew.
const SURPLUS_MAX: usize = 4_096;

/// The dates, in seconds since 1970.
#[derive(Debug, Default)]
pub struct Expiry {
    dates: BinaryHeap<Reverse<(u32, u32)>>,
    /// Per user the earliest of its dates; 0: none.
    earliest: Vec<u32>,
    /// Users with a date.
    dated: usize,
}

impl Expiry {
    /// Something in this inbox has its time over at `due_s`.
    pub fn note(&mut self, inbox: &mut InboxMut<'_>, user: u32, due_s: u32) {
        let due_s = due_s.max(1);
        inbox.note_due(due_s);
        if self.earliest.len() <= user as usize {
            self.earliest.resize(user as usize + 1, 0);
        }
        let earliest = &mut self.earliest[user as usize];
        if *earliest == 0 || due_s < *earliest {
            self.dated += usize::from(*earliest == 0);
            *earliest = due_s;
            self.dates.push(Reverse((due_s, user)));
        }
    }

    /// A user with waiting mail whose date has come. It has no date then.
    pub fn pop(&mut self, now_s: u32, users: &Users, inboxes: &mut Inboxes) -> Option<u32> {
        while self.dates.peek().is_some_and(|Reverse((due_s, _))| *due_s <= now_s) {
            let Some(Reverse((due_s, user))) = self.dates.pop() else { break };
            let earliest = &mut self.earliest[user as usize];
            if *earliest != due_s {
                continue;
            }
            *earliest = 0;
            self.dated -= 1;
            if let Some(mut inbox) = inboxes.get_mut(users.user(user).inbox) {
                inbox.forget_due();
                return Some(user);
            }
        }
        None
    }

    /// Makes the heap anew if most of it is out of date.
    pub fn tidy(&mut self) {
        if self.dates.len() <= 2 * self.dated + SURPLUS_MAX {
            return;
        }
        self.dates.clear();
        for (user, due_s) in (0..).zip(&self.earliest) {
            if *due_s != 0 {
                self.dates.push(Reverse((*due_s, user)));
            }
        }
    }

    /// The next date, if there is one.
    #[must_use]
    pub fn next_s(&self) -> Option<u32> {
        self.dates.peek().map(|Reverse((due_s, _))| *due_s)
    }

    /// Dates kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.dates.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::inbox::{Entry, What};

    #[test]
    fn the_earliest_date_of_an_inbox_counts_and_old_ones_are_forgotten() {
        let mut users = Users::with_capacity(4);
        let mut inboxes = Inboxes::default();
        let mut expiry = Expiry::default();
        let user = users.find_or_add(7).unwrap();
        let entry = Entry::staged(1, (2, 1), 10, What::Message, None);
        inboxes.of(&mut users.user_mut(user).inbox).append(entry);
        let handle = users.user(user).inbox;
        for due_s in [50, 40, 60] {
            expiry.note(&mut inboxes.get_mut(handle).unwrap(), user, due_s);
        }
        assert_eq!((expiry.next_s(), expiry.count()), (Some(40), 2));
        assert_eq!(expiry.pop(39, &users, &mut inboxes), None);
        assert_eq!(expiry.pop(45, &users, &mut inboxes), Some(user));
        assert_eq!(expiry.pop(100, &users, &mut inboxes), None, "50 was overtaken");
        for due_s in (100..20_000).rev() {
            expiry.note(&mut inboxes.get_mut(handle).unwrap(), user, due_s);
            expiry.tidy();
        }
        assert!(expiry.count() <= 2 + SURPLUS_MAX);
        assert_eq!(expiry.pop(100, &users, &mut inboxes), Some(user));
    }
}
