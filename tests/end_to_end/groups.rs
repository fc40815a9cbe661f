//! Groups: one order for all members, nobody outside hears anything, true ticks, catching up.

use std::time::{Duration, Instant};

use loadgen::{ClientEvent, Peer, TickMark};
use serde_json::json;
use wire::{ClientFrame, Fetch, Refusal, Stream};

use crate::support::raw::{Got, Raw, message};
use crate::support::{QUIET, Server, WAIT, ticked};

const GROUP: u64 = 700;

/// Shards and transport of each run.
const HOUSES: [(usize, &str); 3] = [(1, "tcp"), (2, "ws"), (2, "tcp")];

fn send_to(peer: &mut Peer, group: u64, payload: &[u8]) -> u64 {
    let client_id = peer.client.session.send(Stream::Group(group), payload, 0).unwrap();
    peer.client.flush().unwrap();
    client_id
}

/// The next message of a group for a peer: its payload and position.
fn next_in_group(peer: &mut Peer) -> (Vec<u8>, u64) {
    // What this device sent comes again in a page.
    let is_message =
        |event: &ClientEvent| matches!(event, ClientEvent::GroupMessage { repeat: false, .. });
    match peer.wait_for(is_message, WAIT).unwrap() {
        ClientEvent::GroupMessage { payload, position, .. } => (payload, position),
        other => unreachable!("{other:?}"),
    }
}

fn wait_for_change(peer: &mut Peer, what: wire::Change) -> u64 {
    let is_it = |event: &ClientEvent| match event {
        ClientEvent::GroupChanged { change, .. } => change.what == what,
        _ => false,
    };
    match peer.wait_for(is_it, WAIT).unwrap() {
        ClientEvent::GroupChanged { position, .. } => position,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn everybody_in_a_group_gets_the_same_in_the_same_order() {
    for (shards, transport) in HOUSES {
        let server = Server::start(shards, &[]);
        server.provision(1..=5);
        server.make_group(GROUP, &[1, 2, 3, 4]);
        let mut peers: Vec<Peer> = (1..=4).map(|user| server.peer(transport, user, 1)).collect();
        let mut outsider = server.peer(transport, 5, 1);
        for peer in &mut peers {
            wait_for_change(peer, wire::Change::Added);
        }
        for round in 0..25_u32 {
            for peer in &mut peers {
                send_to(peer, GROUP, &round.to_le_bytes());
            }
        }
        let mut heard: Vec<Vec<(Vec<u8>, u64)>> = Vec::new();
        for peer in &mut peers {
            // Its own come as answers, not as messages.
            heard.push((0..75).map(|_| next_in_group(peer)).collect());
        }
        let mut all: Vec<(u64, Vec<u8>)> = Vec::new();
        for list in &heard {
            assert!(list.is_sorted_by(|one, other| one.1 < other.1), "{transport}: {list:?}");
            all.extend(list.iter().map(|(payload, position)| (*position, payload.clone())));
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100, "a position is one message for everybody");
        let heard = outsider.take_events();
        let of_group = |event: &ClientEvent| {
            matches!(event, ClientEvent::GroupMessage { .. } | ClientEvent::GroupNews(_))
        };
        assert!(!heard.iter().any(of_group), "{heard:?}");
    }
}

#[test]
fn ticks_are_true_for_all_members_and_no_sooner() {
    for (shards, transport) in HOUSES {
        let server = Server::start(shards, &[]);
        server.provision(1..=3);
        server.make_group(GROUP, &[1, 2, 3]);
        let mut ann = server.peer(transport, 1, 1);
        let mut bob = server.peer(transport, 2, 1);
        let id = send_to(&mut ann, GROUP, b"is everybody here?");
        let position = ticked(&mut ann, id, TickMark::Sent);
        assert_eq!(next_in_group(&mut bob).0, b"is everybody here?");
        bob.quiet(Duration::from_secs(1)).unwrap();
        ann.quiet(QUIET).unwrap();
        let is_has = |event: &ClientEvent| {
            matches!(event, ClientEvent::Tick { mark: TickMark::Has | TickMark::Read, .. })
        };
        assert!(!ann.take_events().iter().any(is_has), "the third was never here");
        let mut eve = server.peer(transport, 3, 1);
        assert_eq!(next_in_group(&mut eve), (b"is everybody here?".to_vec(), position));
        eve.quiet(Duration::from_secs(1)).unwrap();
        assert_eq!(ticked(&mut ann, id, TickMark::Has), position);
        let marks = server.group_marks(GROUP, position);
        assert!(marks.iter().all(|(_, has, _)| *has >= position), "{marks:?}");
        for peer in [&mut bob, &mut eve] {
            peer.client.session.read_group(GROUP, position);
            peer.client.flush().unwrap();
        }
        assert_eq!(ticked(&mut ann, id, TickMark::Read), position);
    }
}

#[test]
fn who_goes_hears_nothing_more_and_who_comes_hears_nothing_earlier() {
    for (shards, transport) in HOUSES {
        let server = Server::start(shards, &[]);
        server.provision(1..=4);
        server.make_group(GROUP, &[1, 2, 3]);
        let mut ann = server.peer(transport, 1, 1);
        let mut bob = server.peer(transport, 2, 1);
        wait_for_change(&mut bob, wire::Change::Added);
        let id = send_to(&mut ann, GROUP, b"before");
        ticked(&mut ann, id, TickMark::Sent);
        assert_eq!(next_in_group(&mut bob).0, b"before");
        let gone = server.edit_group(GROUP, 1, &json!({ "remove": 2 })).unwrap();
        assert_eq!(wait_for_change(&mut bob, wire::Change::Removed), gone);
        server.edit_group(GROUP, 1, &json!({ "add": 4 })).unwrap();
        let id = send_to(&mut ann, GROUP, b"after");
        let after = ticked(&mut ann, id, TickMark::Sent);
        let mut dan = server.peer(transport, 4, 1);
        assert_eq!(next_in_group(&mut dan), (b"after".to_vec(), after));
        bob.quiet(QUIET).unwrap();
        let heard = bob.take_events();
        assert!(!heard.iter().any(|it| matches!(it, ClientEvent::GroupMessage { .. })));
        // Who is out is refused for good, and may read up to the end of the membership.
        let mut bob = server.raw(transport, 2, 1);
        let mut frame = message(1, GROUP, b"let me in");
        frame.to = Stream::Group(GROUP);
        assert_eq!(bob.refused(frame), Refusal::NotMember);
        let (items, up_to) = page(&mut bob, 1, GROUP, 0);
        assert!(items.iter().all(|position| *position <= gone), "{items:?} {gone}");
        assert_eq!(items.last(), Some(&gone));
        assert_eq!(up_to, gone);
        // Nor does it learn that something came later.
        bob.send(&ClientFrame::Fetch(fetch(2, GROUP, u64::MAX)));
        let Got::Fetched(end) = bob.expect("a page", |got| matches!(got, Got::Fetched(_))) else {
            unreachable!()
        };
        assert_eq!(end.up_to, gone);
        let mut stranger = server.raw(transport, 9, 1);
        stranger.send(&ClientFrame::Fetch(fetch(1, GROUP, 0)));
        let got = stranger.expect("a refusal", |got| matches!(got, Got::RequestRefused(_)));
        let Got::RequestRefused(refused) = got else { unreachable!() };
        assert_eq!(refused.reason, Refusal::NotMember);
    }
}

/// In a group so large that comings and goings are told to nobody else.
#[test]
fn who_was_removed_while_away_hears_so_at_the_next_login() {
    for (shards, transport) in HOUSES {
        let server = Server::start(shards, &["--group-quiet-above", "0"]);
        server.provision(1..=3);
        server.make_group(GROUP, &[1, 2, 3]);
        let mut bob = server.peer(transport, 2, 1);
        // Its seat was taken: the server told it that there is something.
        bob.wait_for(|event| matches!(event, ClientEvent::GroupNews(_)), WAIT).unwrap();
        bob.drop_connection();
        server.edit_group(GROUP, 1, &json!({ "remove": 2 })).unwrap();
        bob.reconnect().unwrap();
        let is_out =
            |event: &ClientEvent| matches!(event, ClientEvent::GroupNews(news) if news.left);
        bob.wait_for(is_out, WAIT).unwrap();
    }
}

#[test]
fn who_was_away_pages_through_in_order() {
    away_pages_through(&[]);
}

#[test]
fn who_was_away_from_a_group_that_does_not_push_pages_through_in_order() {
    away_pages_through(&["--group-push-max", "1"]);
}

fn away_pages_through(args: &[&str]) {
    for (shards, transport) in HOUSES {
        let server = Server::start(shards, args);
        server.provision(1..=2);
        server.make_group(GROUP, &[1, 2]);
        let mut ann = server.peer(transport, 1, 1);
        let mut last = 0;
        for number in 0..250_u32 {
            last = send_to(&mut ann, GROUP, &number.to_le_bytes());
        }
        ticked(&mut ann, last, TickMark::Sent);
        let mut bob = server.peer(transport, 2, 1);
        for number in 0..250_u32 {
            assert_eq!(next_in_group(&mut bob).0, number.to_le_bytes());
        }
        bob.quiet(Duration::from_secs(1)).unwrap();
        assert!(ticked(&mut ann, last, TickMark::Has) > 0);
        // Everything is acked: the next session has nothing to fetch.
        let mut bob = server.raw(transport, 2, 1);
        bob.settle();
        assert!(!bob.collect(QUIET).iter().any(|got| matches!(got, Got::GroupNews(_))));
    }
}

#[test]
fn a_group_that_does_not_push_tells_and_is_fetched() {
    for (shards, transport) in HOUSES {
        let server = Server::start(shards, &["--group-push-max", "2"]);
        server.provision(1..=4);
        server.make_group(GROUP, &[1, 2, 3, 4]);
        let mut peers: Vec<Peer> = (1..=4).map(|user| server.peer(transport, user, 1)).collect();
        for number in 0..100_u32 {
            send_to(&mut peers[0], GROUP, &number.to_le_bytes());
            if number % 10 == 0 {
                peers[0].pump(Duration::from_millis(20)).unwrap();
            }
        }
        for peer in &mut peers[1..] {
            for number in 0..100_u32 {
                assert_eq!(next_in_group(peer).0, number.to_le_bytes());
            }
        }
    }
}

#[test]
fn groups_survive_kill_9_with_what_was_said_in_them() {
    for (shards, transport) in HOUSES {
        let mut server = Server::start(shards, &[]);
        server.provision(1..=3);
        server.make_group(GROUP, &[1, 2, 3]);
        server.edit_group(GROUP, 1, &json!({ "rename": "old friends" })).unwrap();
        server.edit_group(GROUP, 1, &json!({ "promote": 2 })).unwrap();
        let mut ann = server.peer(transport, 1, 1);
        let ids: Vec<u64> = (0..50_u8).map(|number| send_to(&mut ann, GROUP, &[number])).collect();
        for id in ids {
            ticked(&mut ann, id, TickMark::Sent);
        }
        server.edit_group(GROUP, 2, &json!({ "remove": 3 })).unwrap();
        let shards_after = if transport == "ws" { 3 } else { shards };
        server.restart_with(shards_after);
        let look = server.order(&json!({ "look": { "group": GROUP } })).unwrap();
        assert_eq!(look["group"]["name"], "old friends");
        assert_eq!(look["group"]["members"], 2);
        assert!(server.edit_group(GROUP, 2, &json!({ "add": 3 })).is_ok(), "still an admin");
        let mut bob = server.peer(transport, 2, 1);
        for number in 0..50_u8 {
            assert_eq!(next_in_group(&mut bob).0, [number]);
        }
        let mut eve = server.raw(transport, 3, 1);
        let (items, _) = page(&mut eve, 1, GROUP, 0);
        assert!(items.len() > 50, "what was said while she was in: {}", items.len());
    }
}

#[test]
fn the_end_of_a_group_is_told_to_all_and_is_the_end() {
    for (shards, transport) in HOUSES {
        let server = Server::start(shards, &[]);
        server.provision(1..=3);
        server.make_group(GROUP, &[1, 2, 3]);
        let mut bob = server.peer(transport, 2, 1);
        wait_for_change(&mut bob, wire::Change::Added);
        assert!(server.edit_group(GROUP, 2, &json!("end")).is_err(), "he may not");
        assert!(server.edit_group(GROUP, 1, &json!("leave")).is_err(), "an owner hands over first");
        server.edit_group(GROUP, 1, &json!("end")).unwrap();
        wait_for_change(&mut bob, wire::Change::Ended);
        assert!(server.order(&json!({ "look": { "group": GROUP } })).is_err());
        let groups = server.order(&json!({ "of": { "user": 2 } })).unwrap();
        assert_eq!(groups["groups"]["groups"], json!([]));
        let mut eve = server.raw(transport, 3, 1);
        let got = eve.expect("word of it", |got| matches!(got, Got::GroupNews(_)));
        assert!(matches!(got, Got::GroupNews(news) if news.left));
    }
}

/// The word that it is over is the only one: a large group pushes nothing to so many at once.
#[test]
fn the_end_of_a_group_that_does_not_push_is_news_and_nothing_else() {
    for (shards, transport) in HOUSES {
        let server = Server::start(shards, &["--group-push-max", "1"]);
        server.provision(1..=3);
        server.make_group(GROUP, &[1, 2, 3]);
        let mut bob = server.raw(transport, 2, 1);
        // He has all there is, so that a push would reach him.
        let (_, up_to) = page(&mut bob, 1, GROUP, 0);
        bob.send(&ClientFrame::Ack(wire::Ack { stream: Some(Stream::Group(GROUP)), up_to }));
        bob.settle();
        server.edit_group(GROUP, 1, &json!("end")).unwrap();
        let is_word = |got: &Got| match got {
            Got::GroupNews(news) => news.left,
            Got::Deliver { .. } => true,
            _ => false,
        };
        let got = bob.expect("word of it", is_word);
        assert!(matches!(got, Got::GroupNews(_)), "{got:?}");
    }
}

fn fetch(request: u64, group: u64, from: u64) -> Fetch {
    Fetch { request, stream: Stream::Group(group), from, forwards: true, limit: 100 }
}

/// The positions of a page, and how far it reaches. Asks until what is durable is there.
fn page(raw: &mut Raw, request: u64, group: u64, from: u64) -> (Vec<u64>, u64) {
    let began = Instant::now();
    loop {
        raw.send(&ClientFrame::Fetch(fetch(request, group, from)));
        let mut positions = Vec::new();
        loop {
            let is_part = |got: &Got| matches!(got, Got::Item(..) | Got::Fetched(_));
            match raw.expect("a page", is_part) {
                Got::Item(position) => positions.push(position),
                Got::Fetched(end) if positions.is_empty() && began.elapsed() < WAIT => {
                    assert_eq!(end.request, request);
                    break;
                }
                Got::Fetched(end) => return (positions, end.up_to),
                other => unreachable!("{other:?}"),
            }
        }
    }
}
