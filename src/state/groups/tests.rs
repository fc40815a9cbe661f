//! Tests of the tables of groups: against what a plain look at all members says.

use super::*;
use crate::limits;
use crate::state::inbox::Entry;
use crate::state::inbox::What;
use crate::state::order::Role;
use proptest::prelude::*;

fn entry(position: u64) -> Entry {
    Entry::staged(position, (1, 1), 10, What::Message, Some(7))
}

#[test]
fn a_member_reads_from_where_it_came_to_where_it_went() {
    let mut group = Group::new(7);
    group.owner = 1;
    group.join(1, 0, 10);
    group.join(2, 1, 20);
    group.tail = 40;
    group.part(2, 1, 30, 8);
    group.tail = 60;
    group.join(2, 1, 50);
    for (position, may) in [(19, false), (20, true), (30, true), (31, false), (50, true)] {
        assert_eq!(group.may_read(2, position), may, "{position}");
    }
    assert_eq!(group.spans_of(2), [(20, 30), (50, u64::MAX)]);
    assert!(!group.may_ask(3) && group.spans_of(3).is_empty());
    assert_eq!((&*group.homes, group.role(1)), (&[1, 1][..], Some(Role::Owner)));
    group.part(2, 1, 70, 1);
    assert_eq!(group.former.len(), 1, "the oldest interval is forgotten");
    assert!(!group.may_read(2, 25) && group.may_read(2, 55));
}

#[test]
fn marks_never_pass_what_exists_nor_what_one_has() {
    let mut group = Group::default();
    group.join(1, 0, 10);
    group.tail = 12;
    group.raise(1, (99, 99, 99));
    let Member { has, read, acked, .. } = group.members[&1];
    assert_eq!((has, read, acked), (12, 12, 12));
    group.raise(1, (11, 11, 11));
    assert_eq!(group.members[&1].has, 12, "and never go back");
}

#[test]
fn groups_are_found_until_they_end_and_their_slots_stay_empty() {
    let mut groups = Groups::default();
    let first = groups.add(7);
    assert_eq!(groups.add(7), first);
    groups.note_due(first, 50);
    groups.note_due(first, 60);
    assert!(groups.remove(first).is_some() && groups.find(7).is_none());
    assert_eq!(groups.pop_due(u32::MAX), None, "its date went with it");
    assert_ne!(groups.add(7), first, "an image that passed the slot would miss it");
    assert_eq!((groups.count(), groups.slots()), (1, 2));
}

#[test]
fn records_are_found_by_position_from_both_ends() {
    let mut group = Group::default();
    for position in [2, 4, 8] {
        assert!(group.append(entry(position)));
    }
    assert!(group.insert(entry(6)) && !group.insert(entry(6)));
    let after = |after| group.after(after).map(|it| it.position).collect::<Vec<_>>();
    let before = |before| group.before(before).map(|it| it.position).collect::<Vec<_>>();
    assert_eq!((after(0), after(4)), (vec![2, 4, 6, 8], vec![6, 8]));
    assert_eq!((before(0), before(6)), (vec![8, 6, 4, 2], vec![4, 2]));
    assert_eq!(group.waiting_bytes(), 40);
    assert!(group.remove(4).is_some() && group.remove(4).is_none());
    assert_eq!(group.pop_through(1), None);
    assert_eq!(group.pop_through(6).map(|it| it.position), Some(2));
    assert_eq!((group.waiting(), group.waiting_bytes()), (2, 20));
}

#[test]
fn changes_take_no_room_from_messages_and_are_bounded_themselves() {
    let mut group = Group::default();
    let change = |position| Entry::staged(position, (1, 0), 0, What::Notice, Some(7));
    let most = limits::GROUP_CHANGES_MAX as u64;
    assert!((1..=most).all(|position| group.append(change(position))));
    assert!(!group.append(change(most + 1)), "nobody fetches this one");
    assert_eq!((group.waiting() as u64, group.waiting_messages()), (most, 0));
    assert!(group.append(entry(most + 2)), "a message is not a change");
    assert_eq!((group.waiting_messages(), group.waiting_bytes()), (1, 10));
    assert!(group.pop_through(1).is_some() && group.append(change(most + 3)));
}

proptest! {
    /// Whatever members do, the lowest mark is what a look at all of them says, and so is who is
    /// the only one to stand there.
    #[test]
    fn the_lowest_mark_is_that_of_a_look_at_all(
        acts in prop::collection::vec((0..400_u64, 0..6_u8, 0..5_u64), 1..1_500),
        crowd in 0..600_u64,
    ) {
        let mut group = Group::default();
        group.tail = 1;
        (1_000..1_000 + crowd).for_each(|user| group.join(user, 0, 1));
        for (user, act, step) in acts {
            let user = if user < 200 { user } else { 800 + user };
            group.tail += step;
            match act {
                0 => {
                    group.tail += 1;
                    group.join(user, 0, group.tail);
                }
                1 => group.part(user, 0, group.tail, 4),
                _ => {
                    let has = group.members.get(&user).map_or(0, |member| member.has) + step;
                    group.raise(user, (has, has / 2, has));
                }
            }
            let mut all: Vec<_> = group.members.iter().map(|(user, it)| (it.has, *user)).collect();
            all.sort_unstable();
            prop_assert_eq!(group.has.least(), all.first().map(|(has, _)| *has));
            let lone = match all[..] {
                [(first, user), (second, _), ..] if first < second => Some((user, second)),
                _ => None,
            };
            prop_assert_eq!(group.lone(&group.has), lone);
        }
    }
}

#[test]
fn a_group_that_shrinks_and_grows_again_knows_its_lowest() {
    let mut group = Group::default();
    for most in [5_000, 17, 300, 1, 16, 40_000] {
        (1..=most).for_each(|user| group.join(user, 0, 1_000_000 - user));
        assert_eq!(group.has.least(), Some(1_000_000 - most - 1));
        assert_eq!(group.lone(&group.has).map(|(user, _)| user), (most > 1).then_some(most));
        (1..=most).rev().for_each(|user| {
            assert_eq!(group.has.least(), Some(1_000_000 - user - 1), "{user} of {most}");
            group.part(user, 0, 1_000_000, 1);
        });
        assert_eq!(group.has.least(), None);
    }
}
