//! At members' homes: who comes and goes, in groups and with their devices.

use super::seats::settle;
use crate::canary::{self, Canary};
use crate::limits;
use crate::mem::Token;
use crate::state::groups::{Member, Tiding};
use crate::state::{NONE, Tables};

/// Who is in a group, and who is not any more.
pub fn hear(tables: &mut Tables, tiding: Tiding) {
    match tiding {
        Tiding::Joined { group, user, position, pushes } => {
            joined(tables, user, group, position, pushes);
        }
        Tiding::Left { group, user, position } => left(tables, user, group, position),
        Tiding::Ended { group, position } => ended(tables, group, position),
    }
}

/// A user of this shard came into a group by the record at `position`. `pushes`: that record is
/// pushed next.
fn joined(tables: &mut Tables, user: u64, group: u64, position: u64, pushes: bool) {
    let Some(index) = tables.users.find_or_add(user) else {
        tables.counters.members_lost += 1;
        return;
    };
    let before = position.saturating_sub(1);
    if let Some(former) = tables.circles.membership_of(index, group) {
        tables.circles.part(former); // it left, and not all its devices were told
    }
    let membership = seat_all(tables, index, (group, position), (before, before, before));
    let devices: Vec<(u32, Token)> = tables
        .users
        .devices_of(index)
        .filter_map(|device| Some((device, tables.users.device(device).conn()?)))
        .collect();
    for (device, token) in devices {
        if let Some(seat) = tables.circles.seat_of(membership, device) {
            tables.circles.connect(seat, token);
            if !pushes {
                fall_behind(tables, seat);
            }
        }
    }
}

/// At a start: a member as the group's home knows it.
/// False: that account is gone.
pub fn restore(tables: &mut Tables, user: u64, (group, head): (u64, u64), member: &Member) -> bool {
    if tables.users.find(user).is_none() && tables.users.find_even_ended(user).is_some() {
        return false;
    }
    let Some(index) = tables.users.find_or_add(user) else {
        tables.counters.members_lost += 1;
        return true;
    };
    let Member { has, read, acked, .. } = *member;
    seat_all(tables, index, (group, head), (has, read, acked));
    true
}

/// The groups of a user.
#[must_use]
pub fn groups_of(tables: &Tables, user: u64) -> Vec<u64> {
    let Some(user) = tables.users.find(user) else { return Vec::new() };
    let circles = &tables.circles;
    let memberships = circles.memberships_of(user).filter_map(|at| circles.membership(at));
    memberships.filter(|here| !circles.is_over(here)).map(|here| here.group).collect()
}

/// A user is gone: nothing is kept of its memberships here.
pub fn forget(tables: &mut Tables, user: u32) {
    let memberships: Vec<u32> = tables.circles.memberships_of(user).collect();
    for index in memberships {
        tables.circles.part(index);
    }
}

/// Makes a membership with a seat for each of the user's devices.
fn seat_all(
    tables: &mut Tables,
    user: u32,
    (group, head): (u64, u64),
    marks: (u64, u64, u64),
) -> u32 {
    let membership = tables.circles.join(user, group, marks);
    if let Some(circle) = tables.circles.find(group).and_then(|at| tables.circles.circle_mut(at)) {
        circle.head = circle.head.max(head);
    }
    let mut device = tables.users.user(user).first_device;
    while device != NONE {
        tables.circles.add_seat(membership, device, marks.2);
        device = tables.users.device(device).next;
    }
    membership
}

/// A user of this shard went, by the record at `position`. Devices that were not pushed it are
/// told; those that are away, when they come back.
fn left(tables: &mut Tables, user: u64, group: u64, position: u64) {
    let Some(user) = tables.users.find(user) else { return };
    let Some(index) = tables.circles.membership_of(user, group) else { return };
    if canary::is(Canary::PushToRemoved) {
        return;
    }
    leave(tables, index, position);
}

/// The group is over, by the record at `position`. Members of a large one leave piece by piece
/// ([`leave_some`]).
fn ended(tables: &mut Tables, group: u64, position: u64) {
    let Some(circle) = tables.circles.find(group) else { return };
    tables.circles.end(circle, position);
}

/// Members of groups that are over leave, a bounded number of them.
pub fn leave_some(tables: &mut Tables) {
    for _ in 0..limits::GROUP_APART_PER_TURN_MAX {
        let Some((index, position)) = tables.circles.next_to_leave() else { return };
        leave(tables, index, position);
    }
}

fn leave(tables: &mut Tables, index: u32, position: u64) {
    if let Some(here) = tables.circles.membership_mut(index) {
        here.left = position;
    }
    let seats: Vec<u32> = tables.circles.seats_of(index).collect();
    for seat in seats {
        let Some(here) = tables.circles.seat_mut(seat) else { continue };
        if !here.is_seated() {
            continue; // told when it comes back
        }
        if here.pushed >= position && !here.behind {
            tables.circles.remove_seat(seat);
        } else {
            (here.behind, here.told) = (true, 0);
            tables.circles.list_news(seat);
        }
    }
    end_if_told(tables, index);
}

/// A membership that is over ends when all devices were told.
pub(super) fn end_if_told(tables: &mut Tables, index: u32) {
    let over = tables.circles.membership(index).is_some_and(|here| here.left != 0);
    if over && tables.circles.seats_of(index).next().is_none() {
        tables.circles.part(index);
    }
}

/// A device is connected: its seats are, too. What it lacks it is told of.
pub fn log_in(tables: &mut Tables, device: u32, token: Token) {
    let user = tables.users.device(device).user;
    let memberships: Vec<u32> = tables.circles.memberships_of(user).collect();
    for index in memberships {
        let circles = &mut tables.circles;
        let Some(here) = circles.membership(index) else { continue };
        let (circle, left, has) = (here.circle, here.left, here.has);
        let seat = match circles.seat_of(index, device) {
            Some(seat) => seat,
            None if left != 0 => continue,
            // A new device goes on from where the best one is: what is above, nobody has.
            None => circles.add_seat(index, device, has),
        };
        circles.connect(seat, token);
        let head = circles.circle(circle).map_or(0, |circle| circle.head);
        let cursor = circles.seat(seat).map_or(0, |seat| seat.cursor);
        if cursor < head || left != 0 {
            fall_behind(tables, seat);
        }
    }
}

fn fall_behind(tables: &mut Tables, seat: u32) {
    if let Some(here) = tables.circles.seat_mut(seat) {
        here.behind = true;
    }
    tables.circles.list_news(seat);
}

/// A device is gone for good: it holds nothing back.
pub fn drop_device(tables: &mut Tables, user: u32, device: u32) {
    let memberships: Vec<u32> = tables.circles.memberships_of(user).collect();
    for index in memberships {
        if let Some(seat) = tables.circles.seat_of(index, device) {
            tables.circles.remove_seat(seat);
            settle(tables, index);
            end_if_told(tables, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::group::change::{Change, apply};
    use crate::path::group::take_apart;
    use crate::state::order::Role;
    use crate::state::placement::Placement;
    use wire::Change as What;

    const GROUP: u64 = 77;
    const PIECE: u64 = limits::GROUP_APART_PER_TURN_MAX as u64;

    /// One shard, where users 1 to `members` are in the group.
    fn tables(members: u64) -> Tables {
        let mut tables = Tables::new(4, 1 << 14, 4);
        for user in 1..=members {
            play(&mut tables, if user == 1 { What::Created } else { What::Added }, user, user);
            let tiding = Tiding::Joined { group: GROUP, user, position: user, pushes: true };
            hear(&mut tables, tiding);
        }
        tables
    }

    fn play(tables: &mut Tables, what: What, user: u64, position: u64) {
        let change = Change { what, by: 1, user, role: Role::Member, name: "friends" };
        apply(tables, Placement::new(1), GROUP, &change, position);
    }

    #[test]
    fn a_large_group_is_over_at_once_and_taken_apart_piece_by_piece() {
        let members = 3 * PIECE + 9;
        let mut tables = tables(members);
        play(&mut tables, What::Ended, 0, members + 1);
        assert!(tables.groups.of(GROUP).is_none() && !tables.groups.over.is_empty());
        let pieces = std::iter::repeat_with(|| take_apart(&mut tables)).take(3).count();
        assert_eq!((pieces, tables.groups.over.len()), (3, 0), "four pieces with that of the end");
    }

    #[test]
    fn members_of_a_large_group_that_is_over_leave_piece_by_piece() {
        let members = 3 * PIECE + 9;
        let mut tables = tables(members);
        let position = members + 1;
        hear(&mut tables, Tiding::Ended { group: GROUP, position });
        for user in [1, 2, members] {
            assert!(groups_of(&tables, user).is_empty(), "nobody is in it any more");
        }
        for piece in 1..=3 {
            leave_some(&mut tables);
            assert_eq!(tables.circles.count() as u64, members - piece * PIECE);
            assert!(tables.circles.is_ending());
        }
        leave_some(&mut tables);
        assert_eq!((tables.circles.count(), tables.circles.is_ending()), (0, false));
    }

    #[test]
    fn a_group_with_the_id_of_one_that_is_being_ended_keeps_its_members() {
        let members = 2 * PIECE;
        let mut tables = tables(members);
        let position = members + 1;
        hear(&mut tables, Tiding::Ended { group: GROUP, position });
        leave_some(&mut tables);
        // The first one is still in the old one, the last one is out.
        for (user, position) in [(1, position + 1), (members, position + 2)] {
            hear(&mut tables, Tiding::Joined { group: GROUP, user, position, pushes: true });
        }
        while tables.circles.is_ending() {
            leave_some(&mut tables);
        }
        assert_eq!(tables.circles.count(), 2);
        for user in [1, members] {
            assert_eq!(groups_of(&tables, user), [GROUP], "{user}");
        }
    }

    #[test]
    fn who_is_away_when_a_group_ends_hears_so_at_the_next_login() {
        let mut tables = tables(PIECE + 1);
        let user = tables.users.find(1).unwrap();
        let device = tables.users.add_device(user, 1, 0);
        log_in(&mut tables, device, Token { index: 0, generation: 1 });
        let membership = tables.circles.membership_of(user, GROUP).unwrap();
        let seat = tables.circles.seat_of(membership, device).unwrap();
        tables.circles.disconnect(seat);
        tables.circles.news.clear();
        tables.circles.seat_mut(seat).unwrap().listed = false;
        hear(&mut tables, Tiding::Ended { group: GROUP, position: PIECE + 2 });
        while tables.circles.is_ending() {
            leave_some(&mut tables);
        }
        assert_eq!(tables.circles.count(), 1, "the one who was not told");
        log_in(&mut tables, device, Token { index: 0, generation: 2 });
        assert_eq!(tables.circles.news, [seat]);
    }
}
