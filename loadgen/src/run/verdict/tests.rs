//! What the end of a run judges, pair by pair and copy by copy.

use super::*;
use crate::protocol::{Event, Promises, ReadMark};
use crate::run::groups::{Groups, Plan};
use crate::run::ledger::{Heard, Listener};
use crate::run::payload;

const RUN: u64 = 5;

/// Client 0 writes `sent` messages to client 1 in one thread; these are answered, refused and
/// delivered.
fn books(sent: u64, acked: &[u64], refused: &[u64], came: &[u32]) -> Outcome {
    let promises = Promises { acks: true, ..Promises::default() };
    let mut ledger = Ledger::new(RUN, 0, promises);
    let mut heard = Heard::default();
    let listener = Listener { number: 1, life: 1, now_us: 9, since_us: 0 };
    let mut payloads = Vec::new();
    for tag in 1..=sent {
        let (found, head) = ledger.name(0, 1, 1, true);
        assert_eq!(found, tag);
        ledger.handed_over(&head, 1, true);
        let mut bytes = Vec::new();
        payload::write(&head, 50, &mut bytes);
        payloads.push(bytes);
    }
    for tag in acked {
        ledger.hear(listener, Event::Acked { tag: *tag }, &mut heard);
    }
    for tag in refused {
        let event = Event::Refused { tag: *tag, reason: String::new() };
        ledger.hear(listener, event, &mut heard);
    }
    for sequence in came {
        let payload = &payloads[*sequence as usize - 1];
        let event = Event::Delivered { payload, mark: ReadMark::default() };
        ledger.hear(listener, event, &mut heard);
    }
    Outcome { ledger, missing: Vec::new() }
}

/// Lost, unanswered, waiting; and the sequences that are named as lost.
fn judged(outcome: Outcome, interrupted: bool) -> ([u64; 3], Vec<u64>) {
    let mut tally = Tally::new();
    close_books(&[outcome], &mut tally, Closing { now_us: 10, interrupted });
    let messages = &tally.messages;
    let names = tally.examples.iter().map(|example| example.sequence).collect();
    ([messages.lost, messages.unanswered, messages.waiting], names)
}

#[test]
fn only_what_was_answered_and_never_came_is_lost() {
    let books = || books(9, &[1, 2, 3, 6, 9], &[4], &[1, 5, 6]);
    assert_eq!(judged(books(), false), ([3, 2, 0], vec![2, 3, 9]));
    let absent = Outcome { missing: vec![1], ..books() };
    assert_eq!(judged(absent, false), ([0, 2, 3], Vec::new()));
}

#[test]
fn what_an_interrupted_run_had_under_way_is_not_called_lost() {
    let books = || books(6, &[1, 2, 3, 4, 5, 6], &[], &[1, 3]);
    assert_eq!(judged(books(), false), ([4, 0, 0], vec![2, 4, 5, 6]));
    // 2 was overtaken by 3, so it is lost all the same.
    assert_eq!(judged(books(), true), ([1, 0, 3], vec![2]));
}

/// Client 0 of two threads writes two messages to its group of four; client 3 writes none. Clients
/// 0 and 2 are of one thread, 1 and 3 of the other.
fn group_books(come: impl Fn(u32, &mut dyn FnMut(Got))) -> (Vec<Outcome>, Tally) {
    let groups = Groups { count: 2, members: 4, writers: Some(1) };
    let plan = Plan { groups, sessions: 9, step: 1, inverse: 1 };
    let promises = Promises { acks: true, groups: true, ..Promises::default() };
    let new = || Ledger::new(RUN, 0, promises).with_groups(Some(plan));
    let mut ledgers = [new(), new()];
    let mut heard = Heard::default();
    let mut payloads = Vec::new();
    for tag in 1..=2 {
        let (_, head) = ledgers[0].name(0, groups::address(0), 1, true);
        ledgers[0].handed_over(&head, 1, true);
        let listener = Listener { number: 0, life: 1, now_us: 9, since_us: 0 };
        ledgers[0].hear(listener, Event::Acked { tag }, &mut heard);
        let mut bytes = Vec::new();
        payload::write(&head, 50, &mut bytes);
        payloads.push(bytes);
    }
    assert_eq!(ledgers[0].expected_count, 6, "three copies of each");
    for number in 0..9 {
        let ledger = &mut ledgers[number as usize % 2];
        let listener = Listener { number, life: 1, now_us: 9, since_us: 0 };
        come(number, &mut |got: Got| {
            let payload = &payloads[got.sequence as usize - 1];
            let mark = ReadMark { peer: 0, position: got.position, group: Some(got.group) };
            ledger.hear(listener, Event::Delivered { payload, mark }, &mut heard);
        });
    }
    let mut tally = Tally::new();
    let mut outcomes = Vec::new();
    for mut ledger in ledgers {
        tally.add(std::mem::replace(&mut ledger.tally, Tally::new()));
        outcomes.push(Outcome { ledger, missing: Vec::new() });
    }
    (outcomes, tally)
}

/// What a member of a group gets.
struct Got {
    sequence: u32,
    position: u64,
    group: u32,
}

fn got(sequence: u32, position: u64) -> Got {
    Got { sequence, position, group: 0 }
}

/// Everything that was wrong: what, with whom, which message, and more.
fn faults(come: impl Fn(u32, &mut dyn FnMut(Got))) -> Vec<(Wrong, u64, u64, String)> {
    let (outcomes, mut tally) = group_books(come);
    close_books(&outcomes, &mut tally, Closing { now_us: 10, interrupted: false });
    let named = tally.examples.into_iter().map(|it| (it.kind, it.to, it.sequence, it.detail));
    assert_eq!(tally.messages.wrong(), named.len() as u64);
    named.collect()
}

/// To the three others, both messages, at one place each.
fn well(number: u32, come: &mut dyn FnMut(Got)) {
    if (1..4).contains(&number) {
        come(got(1, 5));
        come(got(2, 6));
    }
}

#[test]
fn a_group_where_everybody_gets_everything_is_well() {
    let (outcomes, mut tally) = group_books(well);
    let arrived: u64 = outcomes.iter().map(|outcome| outcome.ledger.arrived_count).sum();
    close_books(&outcomes, &mut tally, Closing { now_us: 10, interrupted: false });
    let messages = &tally.messages;
    assert_eq!([messages.sent, messages.acked, messages.delivered, arrived], [2, 2, 6, 6]);
    assert_eq!([tally.posts, tally.copies, messages.wrong()], [2, 6, 0]);
    assert_eq!(tally.delivered_us.len(), 6);
}

#[test]
fn a_copy_that_one_member_lacks_is_lost() {
    let found = faults(|number, come| match number {
        2 => come(got(2, 6)),
        _ => well(number, come),
    });
    assert_eq!(found, [(Wrong::Lost, 2, 1, "in group 0".to_owned())]);
    let found = faults(|number, come| {
        if number != 3 {
            well(number, come);
        }
    });
    let lost = |sequence| (Wrong::Lost, 3, sequence, "in group 0".to_owned());
    assert_eq!(found, [lost(1), lost(2)]);
}

#[test]
fn a_copy_that_comes_twice_is_doubled() {
    let found = faults(|number, come| {
        well(number, come);
        if number == 1 {
            come(got(1, 7));
        }
    });
    assert_eq!(found, [(Wrong::Duplicated, 1, 1, "in group 0".to_owned())]);
}

#[test]
fn a_copy_for_somebody_outside_is_found() {
    let found = faults(|number, come| {
        well(number, come);
        if number == 8 {
            come(got(2, 6));
        }
        if number == 3 {
            come(Got { group: 1, ..got(2, 6) });
        }
    });
    let astray = |to, why: &str| {
        (Wrong::Corrupted, to, 2, format!("in group 0: it came to client {to}{why}"))
    };
    let found_by_thread = [astray(8, ", who is not a member"), astray(3, " as of somewhere else")];
    assert_eq!(found, found_by_thread);
}

#[test]
fn two_members_with_another_order_are_found_on_one_thread_and_on_two() {
    // Two messages of one sender: overtaken.
    let found = faults(|number, come| match number {
        3 => {
            come(got(2, 6));
            come(got(1, 5));
        }
        _ => well(number, come),
    });
    assert_eq!(found, [(Wrong::Reordered, 3, 1, "in group 0".to_owned())]);
    // Each order is sound by itself; but 1 and 3 share a thread, and 2 is of the other.
    for (odd, count) in [(3, 1), (2, 1)] {
        let found = faults(|number, come| match number {
            number if number == odd => {
                come(got(1, 5));
                come(got(2, 7));
            }
            _ => well(number, come),
        });
        let words = format!("{found:?}");
        assert_eq!(found.len(), count, "{words}");
        assert!(
            found.iter().all(|(kind, _, sequence, _)| (*kind, *sequence) == (Wrong::Reordered, 2)),
            "{words}"
        );
        assert!(
            words.contains("in group 0: it stands at 6 for client 1 and at 7 for client")
                || words.contains("in group 0: it stands at 7 for client 2 and at 6 for client 1"),
            "{words}"
        );
    }
}

#[test]
fn what_a_group_lacks_for_a_reason_is_not_lost() {
    let lacks = |number, come: &mut dyn FnMut(Got)| {
        if number != 3 {
            well(number, come);
        }
    };
    let (mut outcomes, mut tally) = group_books(lacks);
    outcomes[1].missing = vec![3];
    close_books(&outcomes, &mut tally, Closing { now_us: 10, interrupted: false });
    assert_eq!([tally.messages.waiting, tally.messages.wrong()], [2, 0], "client 3 is away");
    let (mut outcomes, mut tally) = group_books(|_, _| {});
    let (_, head) = outcomes[0].ledger.name(0, groups::address(0), 1, true);
    outcomes[0].ledger.handed_over(&head, 1, true);
    let (tag, head) = outcomes[0].ledger.name(0, groups::address(0), 1, true);
    outcomes[0].ledger.handed_over(&head, 1, true);
    let refused = Event::Refused { tag, reason: String::new() };
    let listener = Listener { number: 0, life: 1, now_us: 9, since_us: 0 };
    outcomes[0].ledger.hear(listener, refused, &mut Heard::default());
    assert_eq!(outcomes[0].ledger.arrived_count, 3, "nobody waits for its copies");
    close_books(&outcomes, &mut tally, Closing { now_us: 10, interrupted: true });
    let messages = &tally.messages;
    assert_eq!([messages.waiting, messages.unanswered, messages.wrong()], [6, 1, 0]);
}

#[test]
fn a_copy_meant_while_its_member_was_away_has_no_latency() {
    let (mut outcomes, _) = group_books(|_, _| {});
    let ledger = &mut outcomes[0].ledger;
    let head = |sequence, intended_us| payload::Head {
        run: RUN,
        from: 0,
        to: groups::address(0),
        sequence,
        intended_us,
        timed: true,
    };
    let listener = Listener { number: 2, life: 2, now_us: 99, since_us: 50 };
    for (sequence, intended_us) in [(1, 49), (2, 50)] {
        let mut bytes = Vec::new();
        payload::write(&head(sequence, intended_us), 50, &mut bytes);
        let mark = ReadMark { peer: 0, position: u64::from(sequence), group: Some(0) };
        let event = Event::Delivered { payload: &bytes, mark };
        ledger.hear(listener, event, &mut Heard::default());
    }
    assert_eq!([ledger.tally.messages.delivered, ledger.tally.delivered_us.len()], [2, 1]);
}
