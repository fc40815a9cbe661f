//! What a user's home keeps of the groups its users are members of.
//!
//! ```text
//!  circle:      a group, as far as users of this shard are in it; what was announced of it
//!  membership:  a user in a circle: what the user's devices have
//!  seat:        a device in a membership: its cursor, what it was pushed
//! ```
//!
//! A cache: the truth is at the group's home (`groups`), from which a start makes this anew. Users
//! without groups own nothing here. Indices are reused; who keeps one over a turn checks it.

mod parts;

pub use parts::{Circle, Membership, Seat};

use crate::mem::Token;
use crate::state::NONE;
use crate::state::groups::hash;
use hashbrown::HashTable;
use parts::NOBODY;
use std::collections::VecDeque;

/// All circles of a shard.
#[derive(Debug, Default)]
pub struct Circles {
    circles: slab::Slab<Circle>,
    memberships: slab::Slab<Membership>,
    seats: slab::Slab<Seat>,
    /// Circles by group.
    by_group: HashTable<u32>,
    /// Memberships by user and group.
    by_both: HashTable<u32>,
    /// First membership by user.
    by_user: HashTable<u32>,
    /// Memberships of which the group's home is to be told.
    pub dirty: Vec<u32>,
    /// Seats to be told that there is something.
    pub news: VecDeque<u32>,
    /// Circles of groups that are over whose members were not all made to leave.
    ending: VecDeque<u32>,
    /// (group, user): the account is gone, and the group's home is to be told.
    pub quits: VecDeque<(u64, u64)>,
    /// Scratch: a frame as bytes, for plain connections and for those on WebSocket.
    pub frames: [Vec<u8>; 2],
}

impl Circles {
    /// Index of the circle of a group.
    #[must_use]
    pub fn find(&self, group: u64) -> Option<u32> {
        self.by_group.find(hash(group), |&at| self.circles[at as usize].group == group).copied()
    }

    /// A circle by index.
    #[must_use]
    pub fn circle(&self, index: u32) -> Option<&Circle> {
        self.circles.get(index as usize)
    }

    /// A circle by index, to change it.
    pub fn circle_mut(&mut self, index: u32) -> Option<&mut Circle> {
        self.circles.get_mut(index as usize)
    }

    /// A circle together with all seats and the list of those that are to be told something.
    pub fn with_seats(
        &mut self,
        index: u32,
    ) -> Option<(&mut Circle, &mut slab::Slab<Seat>, &mut VecDeque<u32>)> {
        Some((self.circles.get_mut(index as usize)?, &mut self.seats, &mut self.news))
    }

    /// A membership by index.
    #[must_use]
    pub fn membership(&self, index: u32) -> Option<&Membership> {
        self.memberships.get(index as usize)
    }

    /// A membership by index, to change it.
    pub fn membership_mut(&mut self, index: u32) -> Option<&mut Membership> {
        self.memberships.get_mut(index as usize)
    }

    /// A seat by index.
    #[must_use]
    pub fn seat(&self, index: u32) -> Option<&Seat> {
        self.seats.get(index as usize)
    }

    /// A seat by index, to change it.
    pub fn seat_mut(&mut self, index: u32) -> Option<&mut Seat> {
        self.seats.get_mut(index as usize)
    }

    /// Index of a user's membership in a group.
    #[must_use]
    pub fn membership_of(&self, user: u32, group: u64) -> Option<u32> {
        let same = |&at: &u32| {
            let here = &self.memberships[at as usize];
            here.user == user && here.group == group
        };
        self.by_both.find(hash_both(user, group), same).copied()
    }

    /// Indices of a user's memberships, newest first.
    pub fn memberships_of(&self, user: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.by_user.find(hash(user.into()), |&at| self.user_of(at) == user).copied();
        std::iter::successors(first, |&at| {
            let next = self.memberships[at as usize].next;
            (next != NONE).then_some(next)
        })
    }

    /// Indices of the seats of a membership.
    pub fn seats_of(&self, membership: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.memberships.get(membership as usize).map_or(NONE, |here| here.first_seat);
        std::iter::successors((first != NONE).then_some(first), |&at| {
            let next = self.seats[at as usize].next;
            (next != NONE).then_some(next)
        })
    }

    /// The seat of a device in a membership.
    #[must_use]
    pub fn seat_of(&self, membership: u32, device: u32) -> Option<u32> {
        self.seats_of(membership).find(|&at| self.seats[at as usize].device == device)
    }

    /// A group is over, by the record at `position`: its circle is not found any more, so that
    /// another group with its id has one of its own. Its members leave one by one
    /// ([`Circles::next_to_leave`]).
    pub fn end(&mut self, index: u32, position: u64) {
        let Some(circle) = self.circles.get_mut(index as usize) else { return };
        (circle.over, circle.staying) = (position, circle.members.len());
        let group = circle.group;
        if let Ok(entry) = self.by_group.find_entry(hash(group), |&at| at == index) {
            entry.remove();
        }
        self.ending.push_back(index);
    }

    /// The next membership that has to end with its group, and the position of that end. From the
    /// last one of the list to the first: who goes in between is replaced by one who was seen.
    pub fn next_to_leave(&mut self) -> Option<(u32, u64)> {
        while let Some(&index) = self.ending.front() {
            // Its place may be another circle's by now, which is not over or listed behind it.
            if let Some(circle) = self.circles.get_mut(index as usize) {
                let staying = circle.staying.min(circle.members.len());
                if let Some(next) = staying.checked_sub(1) {
                    circle.staying = next;
                    return Some((circle.members[next], circle.over));
                }
            }
            self.ending.pop_front();
        }
        None
    }

    /// Some members were not made to leave yet.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Whether a membership is one no more: its user went, or the group is over.
    #[must_use]
    pub fn is_over(&self, membership: &Membership) -> bool {
        let circle = self.circles.get(membership.circle as usize);
        membership.left != 0 || circle.is_some_and(|circle| circle.over != 0)
    }

    /// Memberships of a circle.
    #[cfg(test)]
    fn members(&self, circle: u32) -> &[u32] {
        &self.circles[circle as usize].members
    }

    /// A user is a member of a group from now on. The caller has looked that it was not.
    pub fn join(&mut self, user: u32, group: u64, marks: (u64, u64, u64)) -> u32 {
        let circle = self.circle_of(group);
        let (has, read, acked) = marks;
        let list = &mut self.circles[circle as usize].members;
        let slot = u32::try_from(list.len()).unwrap_or(NONE);
        let first = self.by_user.find(hash(user.into()), |&at| {
            self.memberships[at as usize].user == user //
        });
        let next = first.copied().unwrap_or(NONE);
        let (left, first_seat, dirty) = (0, NONE, false);
        let fresh = Membership {
            group,
            has,
            read,
            acked,
            left,
            user,
            circle,
            slot,
            next,
            first_seat,
            dirty,
        };
        let index = u32::try_from(self.memberships.insert(fresh)).unwrap_or(NONE);
        assert!(index != NONE, "fewer than 2^32 memberships fit a process");
        list.push(index);
        let Self { memberships, by_both, by_user, .. } = self;
        let both = |at: &u32| {
            let here = &memberships[*at as usize];
            hash_both(here.user, here.group)
        };
        by_both.insert_unique(hash_both(user, group), index, both);
        let user_of = |at: &u32| memberships[*at as usize].user;
        match by_user.find_mut(hash(user.into()), |at| user_of(at) == user) {
            Some(first) => *first = index,
            None => {
                by_user.insert_unique(hash(user.into()), index, |at| hash(user_of(at).into()));
            }
        }
        index
    }

    /// A membership ends, with its seats, and with it its circle if nobody else is in it.
    pub fn part(&mut self, index: u32) {
        loop {
            let seat = self.memberships.get(index as usize).map_or(NONE, |here| here.first_seat);
            if seat == NONE {
                break;
            }
            self.remove_seat(seat);
        }
        let Some(here) = self.memberships.get(index as usize) else { return };
        let (user, group, circle, slot, next) =
            (here.user, here.group, here.circle, here.slot, here.next);
        if let Ok(entry) = self.by_both.find_entry(hash_both(user, group), |&at| at == index) {
            entry.remove();
        }
        self.unlink(index, user, next);
        self.memberships.remove(index as usize);
        let list = &mut self.circles[circle as usize].members;
        list.swap_remove(slot as usize);
        if let Some(&moved) = list.get(slot as usize) {
            self.memberships[moved as usize].slot = slot;
        }
        if self.circles[circle as usize].members.is_empty() {
            if let Ok(entry) = self.by_group.find_entry(hash(group), |&at| at == circle) {
                entry.remove();
            }
            self.circles.remove(circle as usize);
        }
    }

    fn unlink(&mut self, index: u32, user: u32, next: u32) {
        let Self { memberships, by_user, .. } = self;
        let is_users = |at: &u32| memberships[*at as usize].user == user;
        let Ok(mut entry) = by_user.find_entry(hash(user.into()), is_users) else { return };
        if *entry.get() == index {
            if next == NONE {
                entry.remove();
            } else {
                *entry.get_mut() = next;
            }
            return;
        }
        let mut at = *entry.get();
        while memberships[at as usize].next != index {
            at = memberships[at as usize].next;
        }
        memberships[at as usize].next = next;
    }

    /// A device gets a seat, which is not connected yet.
    pub fn add_seat(&mut self, membership: u32, device: u32, cursor: u64) -> u32 {
        let next = self.memberships[membership as usize].first_seat;
        let seat = Seat {
            cursor,
            pushed: cursor,
            owed: cursor,
            split: cursor,
            told: 0,
            token: NOBODY,
            device,
            membership,
            next,
            slot: NONE,
            bytes: [0; 2],
            count: [0; 2],
            listed: false,
            behind: false,
        };
        let index = u32::try_from(self.seats.insert(seat)).unwrap_or(NONE);
        assert!(index != NONE, "fewer than 2^32 seats fit a process");
        self.memberships[membership as usize].first_seat = index;
        index
    }

    /// A seat's device is connected from now on; nothing was pushed on that connection.
    pub fn connect(&mut self, index: u32, token: Token) {
        let Some(seat) = self.seats.get_mut(index as usize) else { return };
        (seat.pushed, seat.owed, seat.split) = (seat.cursor, seat.cursor, seat.cursor);
        (seat.count, seat.bytes, seat.told) = ([0; 2], [0; 2], 0);
        (seat.token, seat.behind) = (token, false);
        if seat.slot == NONE {
            let circle = self.memberships[seat.membership as usize].circle;
            let list = &mut self.circles[circle as usize].seated;
            seat.slot = u32::try_from(list.len()).unwrap_or(NONE);
            list.push(index);
        }
    }

    /// A seat's connection is gone.
    pub fn disconnect(&mut self, index: u32) {
        let Some(seat) = self.seats.get(index as usize) else { return };
        let circle = self.memberships[seat.membership as usize].circle;
        self.circles[circle as usize].unseat(&mut self.seats, index);
    }

    /// Takes a seat away.
    pub fn remove_seat(&mut self, index: u32) {
        self.disconnect(index);
        let Some(seat) = self.seats.try_remove(index as usize) else { return };
        let first = &mut self.memberships[seat.membership as usize].first_seat;
        if *first == index {
            *first = seat.next;
            return;
        }
        let mut at = *first;
        while self.seats[at as usize].next != index {
            at = self.seats[at as usize].next;
        }
        self.seats[at as usize].next = seat.next;
    }

    /// The group's home is to be told of this membership.
    pub fn touch(&mut self, membership: u32) {
        let Some(here) = self.memberships.get_mut(membership as usize) else { return };
        if !std::mem::replace(&mut here.dirty, true) {
            self.dirty.push(membership);
        }
    }

    /// A seat is to be told that there is something.
    pub fn list_news(&mut self, seat: u32) {
        let Some(here) = self.seats.get_mut(seat as usize) else { return };
        if !std::mem::replace(&mut here.listed, true) {
            self.news.push_back(seat);
        }
    }

    /// Number of memberships.
    #[must_use]
    pub fn count(&self) -> usize {
        self.memberships.len()
    }

    fn circle_of(&mut self, group: u64) -> u32 {
        if let Some(index) = self.find(group) {
            return index;
        }
        let fresh = Circle { group, ..Circle::default() };
        let index = u32::try_from(self.circles.insert(fresh)).unwrap_or(NONE);
        let circles = &self.circles;
        let hash_of = |at: &u32| hash(circles[*at as usize].group);
        self.by_group.insert_unique(hash(group), index, hash_of);
        index
    }

    fn user_of(&self, membership: u32) -> u32 {
        self.memberships[membership as usize].user
    }
}

fn hash_both(user: u32, group: u64) -> u64 {
    hash(group ^ (u64::from(user) << 32 | u64::from(user)).wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_is_found_by_user_and_group_until_it_ends() {
        let mut circles = Circles::default();
        let all: Vec<u32> = [(1, 7), (1, 8), (2, 7), (1, 9)]
            .map(|(user, group)| circles.join(user, group, (0, 0, 0)))
            .to_vec();
        assert_eq!(circles.memberships_of(1).collect::<Vec<_>>(), [all[3], all[1], all[0]]);
        circles.part(all[1]);
        assert_eq!(circles.memberships_of(1).collect::<Vec<_>>(), [all[3], all[0]]);
        assert_eq!(circles.membership_of(1, 8), None);
        assert_eq!(circles.find(8), None, "nobody is in it");
        circles.part(all[3]);
        assert_eq!(circles.membership_of(1, 7), Some(all[0]));
        let seven = circles.find(7).unwrap();
        assert_eq!(circles.members(seven), [all[0], all[2]]);
        circles.part(all[0]);
        assert_eq!(circles.members(seven), [all[2]]);
        assert_eq!(circles.memberships_of(1).count(), 0);
        circles.part(all[2]);
        assert_eq!((circles.count(), circles.by_user.len(), circles.circles.len()), (0, 0, 0));
    }

    #[test]
    fn seats_come_and_go_with_their_connections() {
        let mut circles = Circles::default();
        let token = |generation| Token { index: 1, generation };
        let one = circles.join(1, 7, (5, 5, 5));
        let seats: Vec<u32> = (0..3).map(|device| circles.add_seat(one, device, 5)).collect();
        for &seat in &seats {
            circles.connect(seat, token(seat + 1));
        }
        let circle = circles.find(7).unwrap();
        circles.disconnect(seats[0]);
        assert_eq!(circles.circle(circle).unwrap().seated, [seats[2], seats[1]]);
        circles.remove_seat(seats[1]);
        assert_eq!(circles.circle(circle).unwrap().seated, [seats[2]]);
        assert_eq!(circles.seats_of(one).collect::<Vec<_>>(), [seats[2], seats[0]]);
        circles.connect(seats[0], token(9));
        assert_eq!(circles.seat_of(one, 0), Some(seats[0]));
        circles.part(one);
        assert_eq!(circles.seats.len(), 0);
    }

    #[test]
    fn what_is_not_acked_is_bounded_from_above_and_forgotten_by_acks() {
        let mut circles = Circles::default();
        let one = circles.join(1, 7, (0, 0, 0));
        let index = circles.add_seat(one, 1, 0);
        let seat = circles.seat_mut(index).unwrap();
        // Acks that always lag four messages behind must not let the count grow.
        for position in 1..=1_000_u64 {
            seat.count_pushed(position, 10);
            if position > 4 {
                assert!(seat.ack(position - 4));
            }
            let (count, bytes) = seat.unacked();
            assert!((4.min(position)..=10).contains(&count.into()), "{count} at {position}");
            assert_eq!(bytes, count * 10);
        }
        assert!(!seat.skip(1_001), "something before it is not acked");
        assert!(seat.ack(1_000));
        assert_eq!((seat.cursor, seat.unacked()), (1_001, (0, 0)), "the own one went with it");
        assert!(seat.skip(1_002));
        assert_eq!(seat.cursor, 1_002);
    }
}
