//! What a shard knows of its people beside their mail: settings, whom they know, whom they block,
//! which tokens are not good any more, and what was sent to those who block its sender.
//!
//! Settings are marks in the user's own row, so that a user who chose nothing costs nothing and is
//! told apart by one look. All else is here, for those users only who have it, and found by the
//! user's index. The truth of settings and ties is the directory's; it hands them over at start
//! ([`crate::path::people::load`]) and tells every change as an order.

use crate::limits;
use crate::state::NONE;
use crate::state::order::{Audience, Person, Ties};
use std::collections::{BTreeMap, HashMap};

/// What is true of a user, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u16);

impl Marks {
    /// No session and no sends.
    pub const SUSPENDED: Self = Self(1);
    /// Neither tells nor gets tick 3.
    pub const RECEIPTS_OFF: Self = Self(1 << 1);
    /// First messages of strangers are marked.
    pub const MARKS_REQUESTS: Self = Self(1 << 2);
    /// Presence is for contacts only.
    pub const CONTACTS_SEE: Self = Self(1 << 3);
    /// Presence is for nobody.
    pub const NOBODY_SEES: Self = Self(1 << 4);
    /// Blocks somebody.
    pub const BLOCKS: Self = Self(1 << 5);
    /// Some tokens are not good any more.
    pub const REVOKED: Self = Self(1 << 6);
    /// Somebody who was blocked wrote: receipts are told around that.
    pub const VOIDED: Self = Self(1 << 7);
    /// The account is gone: nobody finds this user any more.
    pub const ENDED: Self = Self(1 << 8);

    /// Whether any of these is set.
    #[must_use]
    pub fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Sets or takes away a mark.
    pub fn set(&mut self, mark: Self, on: bool) {
        self.0 = if on { self.0 | mark.0 } else { self.0 & !mark.0 };
    }

    /// Replaces the settings; what else is true stays.
    pub fn set_person(&mut self, person: Person) {
        self.set(Self::SUSPENDED, person.suspended);
        self.set(Self::RECEIPTS_OFF, person.receipts_off);
        self.set(Self::MARKS_REQUESTS, person.marks_requests);
        self.set(Self::CONTACTS_SEE, person.last_seen == Audience::Contacts);
        self.set(Self::NOBODY_SEES, person.last_seen == Audience::Nobody);
    }
}

/// Whom one user knows and blocks. In one run each, rising: contacts, contacts that are blocked,
/// others that are blocked.
#[derive(Debug, Default)]
struct List {
    others: Box<[u64]>,
    /// Where the second run begins,
    both_from: u32,
    /// and the third.
    blocked_from: u32,
}

impl List {
    fn runs(&self) -> [&[u64]; 3] {
        let (contacts, blocked) = self.others.split_at(self.blocked_from as usize);
        let (contacts, both) = contacts.split_at(self.both_from as usize);
        [contacts, both, blocked]
    }

    fn find(&self, other: u64) -> Ties {
        let [contacts, both, blocked] = self.runs().map(|run| run.binary_search(&other).is_ok());
        Ties { contact: contacts || both, blocked: both || blocked }
    }

    fn blocks(&self, other: u64) -> bool {
        self.runs()[1..].iter().any(|run| run.binary_search(&other).is_ok())
    }

    fn blocks_somebody(&self) -> bool {
        (self.both_from as usize) < self.others.len()
    }

    /// Takes `other` out of the list if it is in it, then puts it where it belongs. What stands
    /// behind moves by one, in place: the list may be long, and this is a turn's time.
    fn set(&mut self, other: u64, ties: Ties) {
        let found = self.runs().map(|run| run.binary_search(&other));
        let mut others = std::mem::take(&mut self.others).into_vec();
        for (run, found) in found.into_iter().enumerate() {
            if let Ok(at) = found {
                others.remove(self.begin_of(run) + at);
                self.shift(run, |begin| begin - 1);
            }
        }
        if let Some(run) = run_of(ties) {
            let (Ok(at) | Err(at)) = found[run];
            others.reserve_exact(1);
            others.insert(self.begin_of(run) + at, other);
            self.shift(run, |begin| begin + 1);
        }
        self.others = others.into_boxed_slice();
    }

    fn begin_of(&self, run: usize) -> usize {
        [0, self.both_from, self.blocked_from][run] as usize
    }

    /// The runs behind this one begin elsewhere.
    fn shift(&mut self, run: usize, by: impl Fn(u32) -> u32) {
        if run < 1 {
            self.both_from = by(self.both_from);
        }
        if run < 2 {
            self.blocked_from = by(self.blocked_from);
        }
    }

    fn of(runs: &[Vec<u64>; 3]) -> Self {
        let both_from = runs[0].len();
        let blocked_from = both_from + runs[1].len();
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            others: runs.concat().into_boxed_slice(),
            both_from: number(both_from),
            blocked_from: number(blocked_from),
        }
    }
}

/// In which run of a list somebody stands.
fn run_of(ties: Ties) -> Option<usize> {
    match (ties.contact, ties.blocked) {
        (true, false) => Some(0),
        (true, true) => Some(1),
        (false, true) => Some(2),
        (false, false) => None,
    }
}

/// Tokens that are not good any more. Seconds since 1970.
#[derive(Debug, Default)]
struct Revoked {
    /// Of all devices those issued before this.
    all_before_s: u32,
    /// Of these devices those issued before that.
    devices: Vec<(u32, u32)>,
}

/// Positions that went to messages of a blocked sender, with nothing else of that sender between
/// the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
}

/// See the module.
#[derive(Debug)]
pub struct People {
    /// Per user the index of its list plus one; 0: it has none.
    list_of: Vec<u32>,
    lists: slab::Slab<List>,
    ties: usize,
    revoked: HashMap<u32, Revoked>,
    spans: BTreeMap<(u32, u64), Vec<Span>>,
}

impl People {
    /// Room for `users_max` users. Of that nothing is touched before somebody has ties, and nothing
    /// grows afterwards: a growing table would hold up a turn.
    #[must_use]
    pub fn with_capacity(users_max: usize) -> Self {
        Self {
            list_of: vec![0; users_max],
            lists: slab::Slab::with_capacity(users_max),
            ties: 0,
            revoked: HashMap::new(),
            spans: BTreeMap::new(),
        }
    }

    /// What a user has to do with another.
    #[must_use]
    pub fn ties(&self, user: u32, other: u64) -> Ties {
        self.list(user).map(|list| list.find(other)).unwrap_or_default()
    }

    /// Whether a user blocks another.
    #[must_use]
    pub fn blocks(&self, user: u32, other: u64) -> bool {
        self.list(user).is_some_and(|list| list.blocks(other))
    }

    /// Whether a user blocks anybody.
    #[must_use]
    pub fn blocks_somebody(&self, user: u32) -> bool {
        self.list(user).is_some_and(List::blocks_somebody)
    }

    /// Sets what a user has to do with another. False: one more than a user may have.
    pub fn relate(&mut self, user: u32, other: u64, ties: Ties) -> bool {
        let former = self.ties(user, other);
        if former == ties {
            return true;
        }
        let is_new = run_of(former).is_none();
        let count = self.list(user).map_or(0, |list| list.others.len());
        if is_new && count >= limits::TIES_PER_USER_MAX {
            return false;
        }
        let Some(list) = self.list_mut(user) else { return false };
        list.set(other, ties);
        let left = list.others.len();
        self.ties = self.ties + left - count;
        if left == 0 {
            self.forget_ties(user);
        }
        true
    }

    /// Sets all ties of a user at once. False: more than a user may have.
    pub fn load(&mut self, user: u32, ties: &[(u64, Ties)]) -> bool {
        if ties.len() > limits::TIES_PER_USER_MAX {
            return false;
        }
        self.forget_ties(user);
        let mut runs: [Vec<u64>; 3] = Default::default();
        for &(other, ties) in ties {
            if let Some(run) = run_of(ties) {
                runs[run].push(other);
            }
        }
        for run in &mut runs {
            run.sort_unstable();
            run.dedup();
        }
        let fresh = List::of(&runs);
        if fresh.others.is_empty() {
            return true;
        }
        let count = fresh.others.len();
        let Some(list) = self.list_mut(user) else { return false };
        *list = fresh;
        self.ties += count;
        true
    }

    /// Forgets whom a user knows and blocks.
    pub fn forget_ties(&mut self, user: u32) {
        let Some(slot) = self.list_of.get_mut(user as usize) else { return };
        let Some(index) = std::mem::take(slot).checked_sub(1) else { return };
        self.ties -= self.lists.remove(index as usize).others.len();
    }

    /// How many ties there are.
    #[must_use]
    pub fn ties_count(&self) -> usize {
        self.ties
    }

    fn list(&self, user: u32) -> Option<&List> {
        let index = self.list_of.get(user as usize)?.checked_sub(1)?;
        self.lists.get(index as usize)
    }

    /// A user's list, made if there is none. `None`: there is no such user.
    fn list_mut(&mut self, user: u32) -> Option<&mut List> {
        let slot = self.list_of.get_mut(user as usize)?;
        if *slot == 0 {
            let index = u32::try_from(self.lists.insert(List::default())).unwrap_or(NONE);
            *slot = index.checked_add(1)?;
        }
        self.lists.get_mut(*slot as usize - 1)
    }

    /// Tokens of a user's device (of all devices, if none is named) issued before `before_s` are
    /// not good any more. Of very many devices the one that was ended first counts for all: their
    /// tokens are refused as well if they are as old.
    pub fn revoke(&mut self, user: u32, device: Option<u32>, before_s: u32) {
        let revoked = self.revoked.entry(user).or_default();
        let Some(device) = device else {
            revoked.all_before_s = revoked.all_before_s.max(before_s);
            return revoked.devices.retain(|(_, until_s)| *until_s > before_s);
        };
        match revoked.devices.iter_mut().find(|(id, _)| *id == device) {
            Some((_, known_s)) => *known_s = before_s.max(*known_s),
            None => revoked.devices.push((device, before_s)),
        }
        if revoked.devices.len() > limits::REVOCATIONS_PER_USER_MAX {
            let first = revoked.devices.iter().enumerate().min_by_key(|(_, (_, until_s))| *until_s);
            if let Some((at, &(_, until_s))) = first {
                revoked.devices.swap_remove(at);
                revoked.all_before_s = revoked.all_before_s.max(until_s);
            }
        }
    }

    /// Whether a token of this device, issued at `issued_s`, is not good any more.
    #[must_use]
    pub fn is_revoked(&self, user: u32, device: u32, issued_s: u64) -> bool {
        let Some(revoked) = self.revoked.get(&user) else { return false };
        let of_device = revoked.devices.iter().find(|(id, _)| *id == device);
        let before_s = revoked.all_before_s.max(of_device.map_or(0, |(_, until_s)| *until_s));
        issued_s < u64::from(before_s)
    }

    /// Notes that a message of a blocked sender got this position of a user's stream; `last`: the
    /// sender's last message that the user got. False: there is no room to remember it.
    pub fn void(&mut self, user: u32, sender: u64, position: u64, last: u64) -> bool {
        let full = self.spans.len() >= limits::VOIDED_PAIRS_MAX;
        if full && !self.spans.contains_key(&(user, sender)) {
            return false;
        }
        let spans = self.spans.entry((user, sender)).or_default();
        match spans.last_mut() {
            Some(span) if position <= span.last => {}
            Some(span) if last < span.first => span.last = position,
            _ => spans.push(Span { first: position, last: position }),
        }
        if spans.len() > limits::VOID_SPANS_MAX {
            // What lies between the two oldest was ticked long ago.
            spans[1].first = spans[0].first;
            spans.remove(0);
        }
        true
    }

    /// Whether there is room to remember a message of this sender that is blocked.
    #[must_use]
    pub fn has_room_for_void(&self, user: u32, sender: u64) -> bool {
        self.spans.len() < limits::VOIDED_PAIRS_MAX || self.spans.contains_key(&(user, sender))
    }

    /// As it was saved.
    pub fn load_spans(&mut self, user: u32, sender: u64, spans: Vec<Span>) {
        self.spans.insert((user, sender), spans);
    }

    /// The positions that went to what a sender wrote while blocked, rising.
    #[must_use]
    pub fn spans(&self, user: u32, sender: u64) -> &[Span] {
        self.spans.get(&(user, sender)).map_or(&[], Vec::as_slice)
    }

    /// All of them from this (user, sender) on, for an image.
    pub fn spans_from(&self, from: (u32, u64)) -> impl Iterator<Item = ((u32, u64), &[Span])> {
        self.spans.range(from..).map(|(key, spans)| (*key, spans.as_slice()))
    }

    /// Forgets everything about a user.
    pub fn forget(&mut self, user: u32) {
        self.forget_ties(user);
        self.revoked.remove(&user);
        let keys: Vec<_> =
            self.spans.range((user, 0)..=(user, u64::MAX)).map(|(key, _)| *key).collect();
        for key in keys {
            self.spans.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A list says what was set last of everybody, whatever was set before.
        #[test]
        fn a_list_is_what_was_set(
            acts in prop::collection::vec((0..12_u64, any::<bool>(), any::<bool>()), 0..100),
        ) {
            let mut list = List::default();
            let mut expected = BTreeMap::new();
            for (other, contact, blocked) in acts {
                let ties = Ties { contact, blocked };
                list.set(other, ties);
                expected.insert(other, ties);
                for other in 0..12 {
                    let ties = expected.get(&other).copied().unwrap_or_default();
                    prop_assert_eq!(list.find(other), ties);
                    prop_assert_eq!(list.blocks(other), ties.blocked);
                }
                for run in list.runs() {
                    prop_assert!(run.is_sorted_by(|one, next| one < next));
                }
                let known = expected.values().filter(|ties| run_of(**ties).is_some()).count();
                prop_assert_eq!(list.others.len(), known);
            }
        }
    }
}
