//! Orders about people, one after the other in a world where nothing else happens: what each of
//! them does to sessions, messages and a later start.

use myriad::auth;
use myriad::log::{Kind, Record};
use myriad::state::order::{Audience, Done, Fault, Order, POST_DEVICE, Person, Post, Ties};
use wire::client::{SessionOptions, TickMark};
use wire::{Parting, Refusal, Stream};

use super::sim::phone::Phone;
use super::sim::plan::Plan;
use super::sim::world::{SECRET, WALL_MS, World};

const ANN: u64 = 11;
const BOB: u64 = 22;
/// Has no phone.
const CYD: u64 = 33;
/// Index of Ann's phone, of Bob's first and of Bob's second.
const ANNS: usize = 0;
const BOBS: usize = 1;
const BOBS_OTHER: usize = 2;

/// A world with Ann, and Bob with two devices, on so many shards. Everybody is connected.
fn world(shards: usize) -> World {
    let mut world = World::new(Plan::of_orders(shards, vec![(ANN, 1), (BOB, 2)]));
    world.checks.kept = Some(Vec::new());
    rest(&mut world);
    world
}

fn rest(world: &mut World) {
    world.come_to_rest().expect("nothing breaks here");
}

/// The server dies and starts again from its disk.
fn die(world: &mut World) {
    world.crash();
    world.mend();
}

/// What a user's phones heard since this was last asked, of frames that contain this text.
fn heard(world: &mut World, user: u64, text: &str) -> Vec<String> {
    let kept = world.checks.kept.replace(Vec::new()).unwrap_or_default();
    let is_it = |(name, frame): &((u64, u32), String)| name.0 == user && frame.contains(text);
    kept.into_iter().filter(is_it).map(|(_, frame)| frame).collect()
}

fn relate(world: &mut World, user: u64, other: u64, ties: Ties) {
    assert_eq!(world.order(Order::Relate { user, other, ties }), Ok(Done::Obeyed));
}

fn block(world: &mut World, user: u64, other: u64, blocked: bool) {
    relate(world, user, other, Ties { contact: false, blocked });
}

fn settle(world: &mut World, user: u64, person: Person) {
    assert_eq!(world.order(Order::Person { user, person }), Ok(Done::Obeyed));
}

fn post(client_id: u64, payload: &[u8]) -> Order {
    Order::Post(Box::new(posted(client_id, payload)))
}

fn posted(client_id: u64, payload: &[u8]) -> Post {
    Post {
        sender: ANN,
        client_id,
        to: Stream::User(BOB),
        kind: 0,
        ttl_s: 0,
        relation: None,
        payload: payload.to_vec(),
    }
}

/// Lets a phone try to connect until it hears this goodbye.
fn parts(world: &mut World, phone: usize, parting: Parting) {
    for _ in 0..2_000 {
        world.pass(1, 5);
        world.round();
        if world.phones[phone].goodbyes.1 == Some(parting) {
            return;
        }
    }
    panic!("no {parting}: {:?}", world.phones[phone].goodbyes);
}

/// Messages of Ann's that have no tick beyond the first.
fn unticked(world: &World) -> Vec<u64> {
    let state = world.phones[ANNS].session.state();
    let stuck = state.unticked.iter().filter(|message| message.mark < TickMark::Has);
    stuck.map(|message| message.client_id).collect()
}

#[test]
fn what_the_blocked_write_goes_nowhere_and_looks_like_any_other() {
    for shards in [1, 2] {
        let mut world = world(shards);
        world.write(ANNS, BOB);
        rest(&mut world);
        assert_eq!(heard(&mut world, BOB, "Deliver").len(), 2, "on both devices");
        block(&mut world, BOB, ANN, true);
        world.write(ANNS, BOB);
        world.phones[ANNS].session.typing(BOB, false);
        rest(&mut world);
        assert_eq!(heard(&mut world, ANN, "Sent").len(), 1, "as if it had gone its way");
        die(&mut world);
        rest(&mut world);
        assert_eq!(unticked(&world), [2], "tick 2 never comes");
        block(&mut world, BOB, ANN, false);
        world.write(ANNS, BOB);
        rest(&mut world);
        let delivered = heard(&mut world, BOB, "Deliver");
        assert_eq!(delivered.len(), 2, "only what was written afterwards: {delivered:?}");
        die(&mut world);
        rest(&mut world);
        assert_eq!(unticked(&world), [2], "though ticks came of what lies on both sides of it");
        assert!(heard(&mut world, BOB, "Deliver").is_empty(), "not even later");
        world.judge().expect("all else holds");
    }
}

#[test]
fn what_the_blocked_write_ends_in_time_like_any_other() {
    for dies in [false, true] {
        let mut world = world(2);
        block(&mut world, BOB, ANN, true);
        let World { phones, checks, .. } = &mut world;
        phones[ANNS].write(Stream::User(BOB), b"short-lived", 3, None, checks);
        rest(&mut world);
        assert_eq!(heard(&mut world, ANN, "Sent").len(), 1);
        if dies {
            die(&mut world);
        }
        world.pass(4_000, 4_000);
        rest(&mut world);
        assert_eq!(heard(&mut world, ANN, "Expired").len(), 1, "as if Bob had not come");
        world.pass(4_000, 4_000);
        rest(&mut world);
        assert!(heard(&mut world, ANN, "Expired").is_empty(), "once");
    }
}

/// Bytes are counted as of mail to somebody who never comes: or large messages would tell a block.
#[test]
fn what_the_blocked_write_takes_as_much_room_as_mail() {
    for (blocked, by_image) in [(false, false), (true, false), (true, true)] {
        let mut plan = Plan::of_orders(2, vec![(ANN, 1), (BOB, 2)]);
        plan.setup.rules.inbox_bytes_per_sender_max = 20_000;
        plan.setup.log.checkpoint_ms_max = 1_000;
        let mut world = World::new(plan);
        world.checks.foreign(POST_DEVICE);
        rest(&mut world);
        for phone in [BOBS, BOBS_OTHER] {
            world.phones[phone].connects_at_ms = u64::MAX;
            world.phones[phone].leave(super::sim::phone::Leaving::Close);
        }
        block(&mut world, BOB, ANN, blocked);
        let write = |world: &mut World, number| world.order(post(number, &[7; 2_900]));
        for number in 1..=6 {
            write(&mut world, number).expect("it has room");
            if number == 4 {
                if by_image {
                    world.pass_checkpoints(|record: &Record<'_>| record.kind == Kind::Void);
                }
                die(&mut world);
                block(&mut world, BOB, ANN, blocked); // as a start does from the directory
            }
        }
        let full = Err(Fault::Refused(Refusal::InboxFull));
        assert_eq!(write(&mut world, 7), full, "blocked: {blocked}, by image: {by_image}");
    }
}

#[test]
fn nobody_hears_a_blocked_user_type() {
    let mut world = world(2);
    for (user, other) in [(BOB, ANN), (ANN, BOB)] {
        world.phones[ANNS].session.typing(BOB, false);
        rest(&mut world);
        assert_eq!(heard(&mut world, BOB, "Typing").len(), 2);
        block(&mut world, user, other, true);
        world.phones[ANNS].session.typing(BOB, false);
        rest(&mut world);
        assert!(heard(&mut world, BOB, "Typing").is_empty());
        block(&mut world, user, other, false);
    }
}

#[test]
fn strangers_are_marked_until_they_are_known() {
    for by_contact in [false, true] {
        let mut world = world(2);
        settle(&mut world, BOB, Person { marks_requests: true, ..Person::default() });
        world.phones[BOBS_OTHER].connects_at_ms = u64::MAX;
        world.phones[BOBS_OTHER].leave(super::sim::phone::Leaving::Close);
        world.write(ANNS, BOB);
        for _ in 0..400 {
            world.pass(1, 5);
            world.round();
        }
        assert_eq!(heard(&mut world, BOB, "of a stranger").len(), 1, "as it comes");
        world.phones[BOBS_OTHER].connects_at_ms = 0;
        rest(&mut world);
        assert_eq!(heard(&mut world, BOB, "of a stranger").len(), 1, "and from the log");
        if by_contact {
            relate(&mut world, BOB, ANN, Ties { contact: true, blocked: false });
        } else {
            world.write(BOBS, ANN);
            rest(&mut world);
        }
        die(&mut world);
        world.write(ANNS, BOB);
        rest(&mut world);
        let heard = heard(&mut world, BOB, "Deliver");
        assert!(heard.iter().any(|it| it.contains("sender: 11")), "{heard:?}");
        assert!(heard.iter().all(|it| !it.contains("of a stranger")), "{heard:?}");
    }
}

#[test]
fn who_hides_is_not_seen_and_does_not_see() {
    let mut world = world(2);
    let nobody = Person { last_seen: Audience::Nobody, ..Person::default() };
    let contacts = Person { last_seen: Audience::Contacts, ..Person::default() };
    let watch = |world: &mut World| {
        world.phones[ANNS].session.watch(&[BOB]).expect("one");
        rest(world);
        let heard = heard(world, ANN, "Presence");
        assert!(!heard.is_empty(), "whoever asks is answered");
        heard.iter().any(|it| it.contains("online: true") || !it.contains("last_seen_ms: 0"))
    };
    assert!(watch(&mut world));
    settle(&mut world, BOB, nobody);
    rest(&mut world);
    let told = heard(&mut world, ANN, "Presence");
    assert_eq!(told.len(), 1, "the watch that stands is told: {told:?}");
    assert!(told[0].contains("online: false") && told[0].contains("last_seen_ms: 0"));
    assert!(!watch(&mut world));
    settle(&mut world, BOB, contacts);
    assert!(!watch(&mut world), "a stranger");
    relate(&mut world, BOB, ANN, Ties { contact: true, blocked: false });
    assert!(watch(&mut world), "a contact");
    settle(&mut world, ANN, contacts);
    assert!(!watch(&mut world), "who does not show herself does not see either");
    relate(&mut world, ANN, BOB, Ties { contact: true, blocked: false });
    assert!(watch(&mut world));
    relate(&mut world, ANN, BOB, Ties { contact: true, blocked: true });
    assert!(!watch(&mut world), "blocks hide in both directions");
}

#[test]
fn who_reads_silently_neither_tells_nor_is_told() {
    let silent = Person { receipts_off: true, ..Person::default() };
    for shy in [ANN, BOB] {
        let mut world = world(2);
        settle(&mut world, shy, silent);
        world.write(ANNS, BOB);
        rest(&mut world);
        let up_to = world.phones[BOBS].session.received_up_to();
        world.phones[BOBS].session.read(Some(ANN), up_to);
        rest(&mut world);
        let receipts = heard(&mut world, ANN, "Receipt");
        assert!(receipts.iter().any(|it| it.contains("mark: Has")), "{receipts:?}");
        assert!(receipts.iter().all(|it| !it.contains("mark: Read")), "{receipts:?}");
    }
}

#[test]
fn the_suspended_have_no_session_and_send_nothing() {
    let mut world = world(2);
    let suspended = Person { suspended: true, ..Person::default() };
    settle(&mut world, ANN, suspended);
    parts(&mut world, ANNS, Parting::Suspended);
    assert_eq!(world.order(post(1, b"hello")), Err(Fault::Refused(Refusal::Suspended)));
    die(&mut world);
    world.phones[ANNS].goodbyes.1 = None;
    world.phones[ANNS].connects_at_ms = 0;
    parts(&mut world, ANNS, Parting::Suspended);
    settle(&mut world, ANN, Person::default());
    world.phones[ANNS].restart();
    world.phones[ANNS].connects_at_ms = 0;
    rest(&mut world);
    world.write(ANNS, BOB);
    rest(&mut world);
    assert!(!heard(&mut world, BOB, "Deliver").is_empty());
}

/// A phone of Bob's with a token that was issued so many seconds after the others.
fn renewed(device: u32, after_s: u64) -> Phone {
    let token = auth::mint(SECRET, BOB, device, 1_000_000, WALL_MS / 1000 + after_s);
    Phone::new((BOB, device), token, SessionOptions::default())
}

#[test]
fn a_device_that_is_logged_out_needs_a_newer_token() {
    let mut world = world(2);
    let not_before_s = WALL_MS / 1000 + 1;
    let order = Order::EndDevice { user: BOB, device: 2, not_before_s };
    assert_eq!(world.order(order), Ok(Done::Obeyed));
    parts(&mut world, BOBS_OTHER, Parting::LoggedOut);
    assert_eq!(heard(&mut world, BOB, "DeviceEvent").len(), 1, "the other device hears of it");
    die(&mut world);
    world.phones[BOBS_OTHER] = renewed(2, 0);
    parts(&mut world, BOBS_OTHER, Parting::LoggedOut);
    assert!(world.phones[BOBS].session.is_live() || !world.phones[BOBS].is_connected());
    world.phones[BOBS_OTHER] = renewed(2, 1);
    rest(&mut world);
    assert!(world.phones[BOBS_OTHER].session.is_live(), "a token issued afterwards is good");
}

#[test]
fn an_account_that_ends_is_unknown_and_leaves_no_mail() {
    for dies in [false, true] {
        let mut world = world(2);
        for phone in [BOBS, BOBS_OTHER] {
            world.phones[phone].leave(super::sim::phone::Leaving::Close);
            world.phones[phone].connects_at_ms = u64::MAX;
        }
        world.write(ANNS, BOB);
        for _ in 0..400 {
            world.pass(1, 5);
            world.round();
        }
        assert_eq!(heard(&mut world, ANN, "Sent").len(), 1);
        let order = Order::EndUser { user: BOB, not_before_s: WALL_MS / 1000 + 1 };
        assert_eq!(world.order(order), Ok(Done::Obeyed));
        if dies {
            die(&mut world);
        }
        let server = world.server().expect("it runs");
        let live: usize = server.shards.iter().map(|it| it.tables().live.segments().count()).sum();
        assert_eq!(live, 0, "nothing is waited for");
        world.write(ANNS, BOB);
        for _ in 0..400 {
            world.pass(1, 5);
            world.round();
        }
        let refused = heard(&mut world, ANN, "Refused");
        assert!(refused.iter().any(|it| it.contains("UnknownUser")), "{refused:?}");
        world.phones[BOBS].connects_at_ms = 0;
        parts(&mut world, BOBS, Parting::AccountDeleted);
        // An operator's own system may know the id again, and say so with a newer token.
        world.phones.truncate(BOBS);
        world.phones.push(renewed(1, 1));
        rest(&mut world);
        assert!(heard(&mut world, BOB, "Deliver").is_empty(), "of the former mail nothing is left");
        world.write(ANNS, BOB);
        rest(&mut world);
        assert_eq!(heard(&mut world, BOB, "Deliver").len(), 1);
    }
}

#[test]
fn a_message_from_outside_is_one_message_however_often_it_is_posted() {
    for shards in [1, 2] {
        let mut world = world(shards);
        world.checks.foreign(POST_DEVICE);
        let first = world.order(post(77, b"hello")).expect("it is stored");
        assert_eq!(world.order(post(77, b"hello")), Ok(first.clone()));
        assert_eq!(world.order(post(77, b"other")), Err(Fault::Refused(Refusal::IdReused)));
        assert_eq!(world.order(post(0, b"hello")), Err(Fault::Refused(Refusal::Invalid)));
        rest(&mut world);
        die(&mut world);
        assert_eq!(world.order(post(77, b"hello")), Ok(first), "also after a restart");
        rest(&mut world);
        let kept = world.checks.kept.take().unwrap_or_default();
        let of = |user: u64| {
            let frames =
                kept.iter().filter(|(name, frame)| name.0 == user && frame.contains("Deliver"));
            frames.count()
        };
        assert_eq!((of(BOB), of(ANN)), (2, 1), "Bob's devices get it, and Ann's gets a copy");
        block(&mut world, BOB, ANN, true);
        let blocked = world.order(post(78, b"hello"));
        assert!(matches!(blocked, Ok(Done::Posted { .. })), "like any other: {blocked:?}");
    }
}

#[test]
fn what_was_posted_is_known_when_only_a_checkpoint_stands_for_it() {
    for shards in [1, 2] {
        let mut plan = Plan::of_orders(shards, vec![(ANN, 1), (BOB, 2)]);
        plan.setup.log.checkpoint_ms_max = 1_000;
        let mut world = World::new(plan);
        world.checks.foreign(POST_DEVICE);
        rest(&mut world);
        let first = world.order(post(77, b"hello")).expect("it is stored");
        rest(&mut world);
        for _ in 0..2 {
            let is_it = |record: &Record<'_>| record.device == POST_DEVICE;
            world.pass_checkpoints(is_it);
            die(&mut world);
            assert_eq!(world.order(post(77, b"hello")), Ok(first.clone()));
            assert_eq!(world.order(post(77, b"other")), Err(Fault::Refused(Refusal::IdReused)));
            rest(&mut world);
        }
        // From somebody of whom the log says nothing else, while an image is made or not.
        settle(&mut world, CYD, Person::default());
        let of_cyd = |number: u64| {
            Order::Post(Box::new(Post { sender: CYD, ..posted(number, b"from nobody's device") }))
        };
        let sent: Vec<_> = (1..=300).map(|number| world.order(of_cyd(number))).collect();
        assert!(sent.iter().all(|sent| matches!(sent, Ok(Done::Posted { .. }))), "{sent:?}");
        die(&mut world);
        let again: Vec<_> = (1..=300).map(|number| world.order(of_cyd(number))).collect();
        assert_eq!(again, sent);
    }
}
