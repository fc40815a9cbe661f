//! What one thread's clients got of groups: every copy, once and in the one order of its group.
//!
//! All members of a group see one order. Each message stands at a position of its group; a member
//! gets rising positions, and every member gets a message at the same one. A server that was
//! restarted may have stored a message again, at a position of its new epoch; only positions of
//! one epoch are compared. Memory is taken in runs with groups alone. Owner: one thread.
//! Deliberately not here: what never came (`verdict`).

use std::collections::{HashMap, VecDeque};

use super::groups::Plan;
use super::ledger::Listener;
use super::oracle::{Arrival, Track};
use super::payload::Head;

/// Messages whose place is remembered by one thread, some 80 bytes each. Who gets older ones later
/// than that is judged by rising positions alone.
const PLACES_MAX: usize = 262_144;
/// The epoch of a server is the upper half of its positions.
const EPOCH_SHIFT: u32 = 32;

/// Group, sender, sequence.
pub(crate) type Post = (u32, u32, u32);

/// Where a message stands, and who got it there first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    position: u64,
    member: u32,
}

/// What the last message was that a member got of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    life: u32,
    position: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Copies {
    pub(crate) plan: Plan,
    /// Group, member and sender to what came.
    tracks: HashMap<(u32, u32, u32), Track>,
    /// Group and member to what came last.
    last: HashMap<(u32, u32), Last>,
    places: HashMap<Post, Place>,
    /// The keys of `places`, oldest first.
    order: VecDeque<Post>,
}

impl Copies {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            tracks: HashMap::new(),
            last: HashMap::new(),
            places: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What came to a member from a sender.
    pub(crate) fn track(&self, group: u32, member: u32, sender: u32) -> Option<&Track> {
        self.tracks.get(&(group, member, sender))
    }

    pub(crate) fn track_mut(&mut self, group: u32, member: u32, sender: u32) -> &mut Track {
        self.tracks.entry((group, member, sender)).or_default()
    }

    /// A copy came whole: how, and what is wrong with its place. A sender may get its own
    /// messages: they stand where others see them, and nobody waits for them.
    pub(crate) fn note(
        &mut self,
        listener: Listener,
        group: u32,
        head: &Head,
        position: u64,
    ) -> (Option<Arrival>, Option<String>) {
        let Listener { number, life, .. } = listener;
        let arrival = (head.from != number)
            .then(|| self.track_mut(group, number, head.from).note(head.sequence, life));
        let falls = self.falls((group, number), Last { life, position });
        let wrong = match arrival {
            None | Some(Arrival::New) => {
                let elsewhere = self.elsewhere((group, head.from, head.sequence), position, number);
                falls.or(elsewhere)
            }
            Some(_) => None, // judged, or allowed
        };
        (arrival, wrong)
    }

    /// Whether a member got something that stands before what it got already.
    fn falls(&mut self, member: (u32, u32), now: Last) -> Option<String> {
        let last = self.last.entry(member).or_default();
        if last.life == now.life && now.position <= last.position {
            let (position, before) = (now.position, last.position);
            return Some(format!("it stands at {position} and came after what stands at {before}"));
        }
        *last = now;
        None
    }

    /// Whether others got this message at another place.
    fn elsewhere(&mut self, post: Post, position: u64, member: u32) -> Option<String> {
        let here = Place { position, member };
        let Some(known) = self.places.get_mut(&post) else {
            if self.order.len() >= PLACES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.places.remove(&oldest);
            }
            self.order.push_back(post);
            self.places.insert(post, here);
            return None;
        };
        let wrong = compare(*known, here);
        if known.position >> EPOCH_SHIFT < position >> EPOCH_SHIFT {
            *known = here;
        }
        wrong
    }

    /// Messages that stand elsewhere for the clients of another thread: which, for which client of
    /// this one, and why.
    pub(crate) fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (Post, u32, String)> + 'a {
        self.places.iter().filter_map(|(post, here)| {
            let there = other.places.get(post)?;
            Some((*post, here.member, compare(*there, *here)?))
        })
    }
}

/// What is wrong with two places of one message.
fn compare(first: Place, second: Place) -> Option<String> {
    let differs = first.position != second.position;
    let same_epoch = first.position >> EPOCH_SHIFT == second.position >> EPOCH_SHIFT;
    (differs && same_epoch).then(|| {
        format!(
            "it stands at {} for client {} and at {} for client {}",
            first.position, first.member, second.position, second.member
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::groups::{self, Groups};

    const EPOCH: u64 = 1 << EPOCH_SHIFT;

    fn copies() -> Copies {
        let groups = Groups { count: 1, members: 4, writers: None };
        Copies::new(Plan { groups, sessions: 4, step: 1, inverse: 1 })
    }

    fn head(from: u32, sequence: u32) -> Head {
        let to = groups::address(0);
        Head { run: 1, from, to, sequence, intended_us: 0, timed: true }
    }

    fn note(
        copies: &mut Copies,
        (member, life): (u32, u32),
        (from, sequence): (u32, u32),
        position: u64,
    ) -> (Option<Arrival>, Option<String>) {
        let listener = Listener { number: member, life, now_us: 0, since_us: 0 };
        copies.note(listener, 0, &head(from, sequence), position)
    }

    #[test]
    fn two_members_with_another_order_are_found_whatever_their_senders() {
        let mut copies = copies();
        let new = (Some(Arrival::New), None);
        assert_eq!(note(&mut copies, (2, 1), (0, 1), 5), new);
        assert_eq!(note(&mut copies, (2, 1), (1, 1), 6), new);
        // Client 3 gets them the other way round, at rising positions of its own.
        let (arrival, wrong) = note(&mut copies, (3, 1), (1, 1), 5);
        assert_eq!(arrival, Some(Arrival::New));
        assert_eq!(wrong.unwrap(), "it stands at 6 for client 2 and at 5 for client 3");
        note(&mut copies, (3, 1), (0, 1), 6).1.unwrap();
    }

    #[test]
    fn a_position_that_falls_is_found() {
        let mut copies = copies();
        note(&mut copies, (2, 1), (0, 1), 6);
        let (_, wrong) = note(&mut copies, (2, 1), (1, 1), 5);
        assert!(wrong.unwrap().contains("it stands at 5 and came after what stands at 6"));
        let again = note(&mut copies, (2, 2), (1, 1), 5);
        assert_eq!(again, (Some(Arrival::Redelivered), None), "on a later connection");
    }

    #[test]
    fn an_own_message_has_its_place_and_is_no_copy() {
        let mut copies = copies();
        assert_eq!(note(&mut copies, (0, 1), (0, 1), 5), (None, None));
        assert!(copies.track(0, 0, 0).is_none());
        assert!(note(&mut copies, (2, 1), (0, 1), 6).1.is_some());
    }

    #[test]
    fn what_a_restarted_server_stored_again_stands_elsewhere_and_is_not_wrong() {
        let mut copies = copies();
        note(&mut copies, (2, 1), (0, 1), EPOCH + 5);
        let later = 2 * EPOCH + 1;
        assert_eq!(note(&mut copies, (3, 2), (0, 1), later), (Some(Arrival::New), None));
        let (_, wrong) = note(&mut copies, (1, 2), (0, 1), later + 1);
        assert!(wrong.is_some(), "those of one epoch agree");
    }

    #[test]
    fn threads_compare_what_their_clients_saw() {
        let (mut one, mut other) = (copies(), copies());
        for (position, sequence) in [(5, 1), (6, 2)] {
            note(&mut one, (2, 1), (0, sequence), position);
            note(&mut other, (3, 1), (0, sequence), position);
        }
        assert_eq!(other.differences(&one).count(), 0);
        note(&mut one, (2, 1), (0, 3), 7);
        note(&mut other, (3, 1), (0, 3), 8);
        let found: Vec<_> = other.differences(&one).collect();
        let words = "it stands at 7 for client 2 and at 8 for client 3".to_owned();
        assert_eq!(found, [((0, 0, 3), 3, words)]);
    }

    #[test]
    fn places_are_bounded() {
        let mut copies = copies();
        for sequence in 1..=u32::try_from(PLACES_MAX).unwrap() + 2 {
            note(&mut copies, (2, 1), (0, sequence), u64::from(sequence));
        }
        assert_eq!([copies.places.len(), copies.order.len()], [PLACES_MAX; 2]);
        assert!(!copies.places.contains_key(&(0, 0, 1)), "the oldest is forgotten");
    }
}
