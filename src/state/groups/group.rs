//! One group: who is in it, what they have, and the records that wait for them.

use super::Low;
use crate::limits;
use crate::state::inbox::Entry;
use crate::state::order::Role;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A member of a group, and what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Adds, removes and renames. Of the owner it says nothing.
    pub admin: bool,
    /// Where its marks stand among those of all members; given by the group.
    pub place: u32,
    /// Position of the record by which it came: it may read from there on.
    pub since: u64,
    /// One of its devices has everything up to here.
    pub has: u64,
    /// It read everything up to here.
    pub read: u64,
    /// All its devices have everything up to here.
    pub acked: u64,
}

/// Somebody who was a member: may still pull what was said meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    /// Who.
    pub user: u64,
    /// Position of the record by which it came,
    pub since: u64,
    /// and of the one by which it went.
    pub until: u64,
}

/// A group.
#[derive(Debug, Default)]
pub struct Group {
    /// The id on the wire.
    pub id: u64,
    /// Who owns it.
    pub owner: u64,
    /// Its name.
    pub name: Box<str>,
    /// The highest position given out in its stream.
    pub tail: u64,
    /// The highest one that members' homes are to know of: arrivals and departures in large groups
    /// are told to nobody.
    pub announced: u64,
    /// What lies at or below was let go.
    pub released: u64,
    /// By user.
    pub members: BTreeMap<u64, Member>,
    /// Members who are admins: who is to follow an owner is found without a look at all.
    admins: BTreeSet<u64>,
    /// Oldest first.
    pub former: VecDeque<Former>,
    /// Members per home shard, as far as there are any.
    pub homes: Vec<u32>,
    /// Records somebody still waits for, in the order of their positions (I3).
    pub(super) entries: VecDeque<Entry>,
    /// Their payload bytes.
    pub(super) bytes: u64,
    /// How many of them are messages.
    pub(super) messages: usize,
    /// Where members stand.
    pub has: Low,
    /// See `has`.
    pub read: Low,
    /// See `has`.
    pub acked: Low,
    /// Whose marks stand at which place.
    places: Vec<u64>,
    /// Who wrote lately, and the last position: they are to be told of ticks.
    authors: Vec<(u64, u64)>,
    /// Senders were told of tick 2 up to here,
    pub told_has: u64,
    /// and of tick 3 up to here.
    pub told_read: u64,
    /// The author told last of what all others have, up to where, and which mark.
    pub told_last: Option<(u64, u64, wire::Mark)>,
    /// Of a tick that could not be told to all authors in one turn: up to where, and the last one
    /// who was told, in the order of their ids. One per mark.
    pub half_told: [Option<(u64, u64)>; 2],
    /// Bit per shard: it is to be told of `announced`.
    pub heads_due: u64,
    /// Session clock, milliseconds: when shards were told of the head last.
    pub heads_told_ms: u64,
    /// On the list of groups whose marks moved.
    pub marks_dirty: bool,
    /// On the list of groups whose `heads_due` is not empty.
    pub heads_dirty: bool,
    /// The log was not told of `released`.
    pub release_dirty: bool,
    /// When a record may have to go, seconds since 1970; 0: never.
    pub(super) due_s: u32,
}

impl Group {
    /// One without members.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }
}

impl Group {
    /// What `user` is in it; none if it is no member.
    #[must_use]
    pub fn role(&self, user: u64) -> Option<Role> {
        let member = self.members.get(&user)?;
        Some(match (self.owner == user, member.admin) {
            (true, _) => Role::Owner,
            (false, true) => Role::Admin,
            (false, false) => Role::Member,
        })
    }

    /// Number of members.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Whether `user` may read the record at `position`.
    #[must_use]
    pub fn may_read(&self, user: u64, position: u64) -> bool {
        let within = |&(since, until): &(u64, u64)| (since..=until).contains(&position);
        self.spans_of(user).iter().any(within)
    }

    /// What `user` may read: from and to which position, in order. To the end: `u64::MAX`.
    #[must_use]
    pub fn spans_of(&self, user: u64) -> Vec<(u64, u64)> {
        let former = self.former.iter().filter(|former| former.user == user);
        let mut spans: Vec<_> = former.map(|former| (former.since, former.until)).collect();
        spans.extend(self.members.get(&user).map(|member| (member.since, u64::MAX)));
        spans.sort_unstable();
        spans
    }

    /// Whether `user` may read anything at all.
    #[must_use]
    pub fn may_ask(&self, user: u64) -> bool {
        self.members.contains_key(&user) || self.former.iter().any(|former| former.user == user)
    }

    /// A bit per shard that has members.
    #[must_use]
    pub fn homes_mask(&self) -> u64 {
        let bits = self.homes.iter().enumerate().filter(|(_, count)| **count > 0);
        bits.fold(0, |mask, (shard, _)| mask | 1 << shard)
    }

    /// Somebody comes by the record at `position`, or is one already.
    pub fn join(&mut self, user: u64, home: usize, position: u64) {
        if self.members.contains_key(&user) {
            return;
        }
        let before = position.saturating_sub(1);
        let marks = Member { has: before, read: before, acked: before, ..Member::default() };
        self.put(user, home, Member { since: position, ..marks });
    }

    /// Adds a member as it is known; one that is there keeps the better of its marks.
    pub fn put(&mut self, user: u64, home: usize, member: Member) {
        if let Some(known) = self.members.get(&user) {
            self.set_admin(user, known.admin || member.admin);
            return self.raise(user, (member.has, member.read, member.acked));
        }
        let place = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(user);
        self.members.insert(user, Member { place, ..member });
        self.set_admin(user, member.admin);
        self.count_home(home);
        self.has.push(member.has);
        self.read.push(member.read);
        self.acked.push(member.acked);
    }

    /// One member more lives on this shard.
    pub fn count_home(&mut self, home: usize) {
        if self.homes.len() <= home {
            self.homes.resize(home + 1, 0);
        }
        self.homes[home] += 1;
    }

    /// A member goes by the record at `position`. At most `former_max` of those are remembered.
    pub fn part(&mut self, user: u64, home: usize, position: u64, former_max: usize) {
        let Some(member) = self.members.remove(&user) else { return };
        self.admins.remove(&user);
        if let Some(count) = self.homes.get_mut(home) {
            *count = count.saturating_sub(1);
        }
        self.leave_place(member.place);
        self.remember(Former { user, since: member.since, until: position }, former_max);
    }

    /// The last one moves to the place of one who goes.
    fn leave_place(&mut self, place: u32) {
        self.has.swap_remove(place);
        self.read.swap_remove(place);
        self.acked.swap_remove(place);
        self.places.swap_remove(place as usize);
        let moved = self.places.get(place as usize);
        if let Some(moved) = moved.and_then(|user| self.members.get_mut(user)) {
            moved.place = place;
        }
    }

    /// The group is over: forgets some members. False: there are none left.
    pub fn forget_some(&mut self, most: usize) -> bool {
        (0..most).all(|_| self.members.pop_first().is_some())
    }

    /// A member becomes an admin, or is none any more.
    pub fn set_admin(&mut self, user: u64, admin: bool) {
        let Some(member) = self.members.get_mut(&user) else { return };
        member.admin = admin;
        if admin {
            self.admins.insert(user);
        } else {
            self.admins.remove(&user);
        }
    }

    /// Who follows an owner that goes: an admin, else any other member. None: nobody is left.
    #[must_use]
    pub fn heir_of(&self, owner: u64) -> Option<u64> {
        let not_owner = |user: &&u64| **user != owner;
        let admin = self.admins.iter().find(not_owner);
        admin.or_else(|| self.members.keys().find(not_owner)).copied()
    }

    /// Remembers somebody who was a member.
    pub fn remember(&mut self, former: Former, former_max: usize) {
        if self.former.contains(&former) {
            return;
        }
        while self.former.len() >= former_max {
            self.former.pop_front();
        }
        self.former.push_back(former);
    }

    /// A member's marks move forward, as far as there are records. Nobody read what it has not.
    pub fn raise(&mut self, user: u64, (has, read, acked): (u64, u64, u64)) {
        let Some(member) = self.members.get_mut(&user) else { return };
        let has = has.min(self.tail).max(member.has);
        let read = read.min(has).max(member.read);
        let acked = acked.min(has).max(member.acked);
        (member.has, member.read, member.acked) = (has, read, acked);
        self.has.set(member.place, has);
        self.read.set(member.place, read);
        self.acked.set(member.place, acked);
    }

    /// Who is the only one to stand lowest of these marks, and the lowest of all others.
    #[must_use]
    pub fn lone(&self, low: &Low) -> Option<(u64, u64)> {
        let place = low.lone()?;
        Some((*self.places.get(place as usize)?, low.least_but(place)?))
    }

    /// Somebody wrote the message at `position`. Of too many authors the one who wrote longest ago
    /// is forgotten: that one asks for its ticks at its next login.
    pub fn note_author(&mut self, author: u64, position: u64) {
        if let Some(known) = self.authors.iter_mut().rev().find(|(known, _)| *known == author) {
            known.1 = position;
            return;
        }
        if self.authors.len() >= limits::GROUP_AUTHORS_MAX {
            let oldest = self.authors.iter().enumerate().min_by_key(|(_, (_, last))| *last);
            if let Some((index, _)) = oldest {
                self.authors.swap_remove(index);
            }
        }
        self.authors.push((author, position));
    }

    /// Who wrote something above `after`, and may be told so.
    pub fn authors_after(&self, after: u64) -> impl Iterator<Item = u64> + '_ {
        let wrote = self.authors.iter().filter(move |(_, last)| *last > after);
        wrote.map(|(author, _)| *author)
    }

    /// Authors who were told everything are forgotten.
    pub fn forget_authors(&mut self) {
        let told = self.told_has.min(self.told_read);
        self.authors.retain(|(_, last)| *last > told);
    }
}
