//! Messages: stored while somebody is away, copied to all devices, ticked, answered once.

use std::time::Duration;

use loadgen::client::Outgoing;
use loadgen::{ClientEvent, Peer, SessionOptions, TickMark};
use wire::{ClientFrame, Confirmed, MessageId, Relation, Stream};

use crate::support::raw::{Got, Raw, hello, message};
use crate::support::{QUIET, Server, WAIT, next_message, ticked};

/// Shards and transport of each run.
const HOUSES: [(usize, &str); 4] = [(1, "tcp"), (1, "ws"), (2, "tcp"), (2, "ws")];

/// Every repeat, and every message, that comes within a moment.
fn messages_left(peer: &mut Peer) -> Vec<ClientEvent> {
    peer.quiet(QUIET).unwrap();
    let events = peer.take_events();
    events.into_iter().filter(|event| matches!(event, ClientEvent::Message { .. })).collect()
}

#[test]
fn what_was_sent_to_somebody_away_arrives_in_order() {
    for (shards, transport) in HOUSES {
        let mut server = Server::start(shards, &[]);
        server.provision([2]);
        let mut ann = server.peer(transport, 1, 1);
        let mut sent = Vec::new();
        for number in 0..300_u32 {
            sent.push(ann.send(2, number.to_le_bytes()).unwrap());
        }
        for client_id in sent {
            ticked(&mut ann, client_id, TickMark::Sent);
        }
        if transport == "ws" {
            server.kill_and_restart(); // what is stored does not depend on who stored it
        }
        let mut bob = server.peer(transport, 2, 1);
        let mut last = 0;
        for number in 0..300_u32 {
            let (payload, position) = next_message(&mut bob);
            assert_eq!(payload, number.to_le_bytes());
            assert!(position > last);
            last = position;
        }
        bob.quiet(QUIET).unwrap();
        // Acked: the next session gets nothing again.
        let mut bob = server.peer(transport, 2, 1);
        assert_eq!(messages_left(&mut bob), []);
    }
}

#[test]
fn eight_devices_get_everything_and_a_ninth_drops_the_stalest() {
    for (shards, transport) in [(1, "ws"), (2, "tcp")] {
        let server = Server::start(shards, &[]);
        let mut bob = server.peer(transport, 2, 1);
        let mut devices: Vec<Peer> = (1..=8).map(|id| server.peer(transport, 1, id)).collect();
        // Each was told of those that came after it.
        for added in 2..=8 {
            let event = ClientEvent::Device { device: added, added: true };
            devices[0].wait_for(|it| *it == event, WAIT).unwrap();
        }
        let client_id = bob.send(1, b"to all of you").unwrap();
        for device in &mut devices {
            assert_eq!(next_message(device).0, b"to all of you");
        }
        ticked(&mut bob, client_id, TickMark::Has);
        // The third writes: the others get a copy, with where it stands for Bob.
        let client_id = devices[2].send(2, b"from my tablet").unwrap();
        let position = ticked(&mut devices[2], client_id, TickMark::Sent);
        assert_eq!(next_message(&mut bob).0, b"from my tablet");
        for index in [0, 1, 3, 4, 5, 6, 7] {
            let is_copy = |event: &ClientEvent| matches!(event, ClientEvent::OwnCopy { .. });
            let copy = devices[index].wait_for(is_copy, WAIT).unwrap();
            let ClientEvent::OwnCopy { to, to_position, payload, id, .. } = copy else {
                unreachable!()
            };
            assert_eq!((to, to_position), (Stream::User(2), position));
            assert_eq!((payload.as_slice(), id.device), (&b"from my tablet"[..], 3));
        }
        // All but the fifth go on being connected; it is the one to go.
        devices[4].client.close();
        let client_id = devices[0].send(1, b"the server saw it go").unwrap();
        ticked(&mut devices[0], client_id, TickMark::Sent);
        let ninth = server.peer(transport, 1, 9);
        for index in [0, 7] {
            let dropped = |event: &ClientEvent| {
                matches!(event, ClientEvent::Device { device: 5, added: false })
            };
            devices[index].wait_for(dropped, WAIT).unwrap();
        }
        drop(ninth);
        // When all are connected, the one that logged in longest ago is told so and goes.
        let mut all: Vec<Raw> =
            [1, 2, 3, 4, 6, 7, 8, 9].map(|id| server.raw(transport, 1, id)).into_iter().collect();
        std::thread::sleep(Duration::from_millis(1_100)); // logins are told apart by the second
        for raw in &mut all[1..] {
            raw.settle();
        }
        let _tenth = server.raw(transport, 1, 10);
        let told = all.iter_mut().map(dropped).filter(|it| *it).count();
        assert_eq!(told, 1, "one makes room, and hears why");
    }
}

#[test]
fn many_new_devices_at_once_are_each_themselves_or_told_why() {
    for (shards, transport) in [(1, "tcp"), (2, "ws")] {
        let server = Server::start(shards, &["--commit-gap-us", "50000"]);
        let tokens: Vec<String> = (1..=30).map(|device| server.token(1, device)).collect();
        let mut raws: Vec<Raw> =
            tokens.iter().map(|_| Raw::open(&server.listen(), transport)).collect();
        for (raw, token) in raws.iter_mut().zip(&tokens) {
            raw.send(&ClientFrame::Hello(hello(token)));
        }
        let mut stayed = 0;
        for (device, raw) in (1..).zip(&mut raws) {
            let is_answer = |got: &Got| matches!(got, Got::Welcome(_) | Got::Goodbye { .. });
            match raw.expect("an answer", is_answer) {
                Got::Welcome(welcome) => {
                    assert_eq!((welcome.user, welcome.device), (1, device));
                    stayed += u32::from(!dropped(raw));
                }
                Got::Goodbye { reason, .. } => {
                    // While all eight wait for their records, a ninth is to come again.
                    let named = [wire::Parting::TooManyDevices, wire::Parting::Overloaded];
                    assert!(named.contains(&reason), "{reason:?}");
                }
                other => unreachable!("{other:?}"),
            }
        }
        assert_eq!(stayed, 8);
        server.raw(transport, 1, 1).settle();
    }
}

fn dropped(raw: &mut Raw) -> bool {
    let too_many = wire::Parting::TooManyDevices;
    let is_it = |got: &Got| matches!(got, Got::Goodbye { reason, .. } if *reason == too_many);
    raw.wait(Duration::from_millis(50), is_it).is_some()
}

#[test]
fn reading_on_one_device_is_known_on_the_others() {
    for (shards, transport) in [(1, "tcp"), (2, "ws")] {
        let server = Server::start(shards, &[]);
        let mut phone = server.peer(transport, 2, 1);
        let mut laptop = server.peer(transport, 2, 2);
        let mut ann = server.peer(transport, 1, 1);
        let client_id = ann.send(2, b"read me").unwrap();
        let (_, position) = next_message(&mut phone);
        next_message(&mut laptop);
        phone.read(1, position).unwrap();
        let is_it = |event: &ClientEvent| {
            matches!(event, ClientEvent::ReadSync { stream: Some(Stream::User(1)), up_to }
                if *up_to == position)
        };
        laptop.wait_for(is_it, WAIT).unwrap();
        ticked(&mut ann, client_id, TickMark::Read);
    }
}

#[test]
fn receipts_wait_for_a_sender_who_was_away() {
    for (shards, transport) in HOUSES {
        let mut server = Server::start(shards, &[]);
        server.provision([2]);
        let mut ann = server.peer(transport, 1, 1);
        let ids = [ann.send(2, b"one").unwrap(), ann.send(2, b"two").unwrap()];
        for client_id in ids {
            ticked(&mut ann, client_id, TickMark::Sent);
        }
        let token = server.token(1, 1);
        let state = ann.client.session.state();
        ann.client.close();
        let mut bob = server.peer(transport, 2, 1);
        let (_, first) = next_message(&mut bob);
        next_message(&mut bob);
        bob.read(1, first).unwrap();
        bob.quiet(QUIET).unwrap();
        drop(bob);
        if shards == 2 {
            server.drain_and_restart();
        }
        let options = SessionOptions::default();
        let mut ann = Peer::login_with(&server.url(transport), &token, options, &state).unwrap();
        for client_id in ids {
            ticked(&mut ann, client_id, TickMark::Has);
        }
        ticked(&mut ann, ids[0], TickMark::Read);
        ann.quiet(QUIET).unwrap();
        let read =
            |event: &ClientEvent| matches!(event, ClientEvent::Tick { mark: TickMark::Read, .. });
        assert!(!ann.take_events().iter().any(read), "the second was not read");
    }
}

#[test]
fn a_message_to_oneself_is_one_message() {
    for (shards, transport) in [(1, "ws"), (2, "tcp")] {
        let server = Server::start(shards, &[]);
        let mut phone = server.peer(transport, 1, 1);
        let mut laptop = server.peer(transport, 1, 2);
        let client_id = phone.send(1, b"buy milk").unwrap();
        let at = ticked(&mut phone, client_id, TickMark::Sent);
        assert_eq!(next_message(&mut phone), (b"buy milk".to_vec(), at));
        assert_eq!(next_message(&mut laptop), (b"buy milk".to_vec(), at));
        ticked(&mut phone, client_id, TickMark::Has);
        phone.read(1, at).unwrap();
        ticked(&mut phone, client_id, TickMark::Read);
        assert_eq!(messages_left(&mut phone), []);
        assert_eq!(messages_left(&mut laptop), []);
    }
}

#[test]
fn a_retry_gets_the_first_answer_again_also_after_a_restart() {
    for (shards, transport) in HOUSES {
        let mut server = Server::start(shards, &[]);
        server.provision([2]);
        let mut ann = server.raw(transport, 1, 1);
        let positions: Vec<u64> =
            (1..=20).map(|id| ann.ask(message(id, 2, &id.to_le_bytes())).unwrap()).collect();
        let again = |server: &Server| {
            let mut ann = server.raw(transport, 1, 1);
            for (id, position) in (1..).zip(&positions) {
                assert_eq!(ann.ask(message(id, 2, &u64::to_le_bytes(id))), Ok(*position));
            }
        };
        again(&server);
        server.kill_and_restart();
        again(&server);
        server.drain_and_restart();
        again(&server);
        // A reinstalled app that forgot everything is told where to go on.
        let token = server.token(1, 1);
        let (_, welcome) = Raw::login_with(&server.listen(), transport, &hello(&token));
        assert_eq!(welcome.next_client_id, 21);
        // Once in the store, in order.
        let mut bob = server.raw(transport, 2, 1);
        for (id, position) in (1..).zip(&positions) {
            assert_eq!(bob.delivered(), (*position, u64::to_le_bytes(id).to_vec()));
        }
        assert!(bob.collect(QUIET).is_empty());
    }
}

#[test]
fn confirmed_answers_are_forgotten_and_new_ids_go_on() {
    let server = Server::start(2, &[]);
    let mut bob = server.peer("tcp", 2, 1);
    let mut ann = server.raw("ws", 1, 1);
    for id in 1..=200 {
        let confirmed = Confirmed { base: id - 1, map: 0 };
        assert!(ann.ask(wire::Send { confirmed, ..message(id, 2, b"x") }).is_ok(), "{id}");
        next_message(&mut bob);
    }
}

#[test]
fn what_an_application_adds_to_a_message_arrives_with_it() {
    for (shards, transport) in [(1, "ws"), (2, "tcp")] {
        let mut server = Server::start(shards, &[]);
        server.provision([2]);
        let mut ann = server.peer(transport, 1, 1);
        let target = MessageId { sender: 2, device: 3, client_id: u64::MAX >> 1 };
        let relation = Some(Relation { kind: 4, target });
        let outgoing = Outgoing {
            to: Stream::User(2),
            payload: Vec::new(),
            kind: u32::MAX,
            ttl_seconds: 3_600,
            relation,
            automatic: true,
        };
        let client_id = ann.client.session.send_message(outgoing).unwrap();
        ticked(&mut ann, client_id, TickMark::Sent);
        for restart in [false, true] {
            if restart {
                server.kill_and_restart();
            }
            // Not acked, so it comes again: from the log, and from the log of another life.
            let options = SessionOptions { ack_every: 0, ..SessionOptions::default() };
            let (url, token) = (server.url(transport), server.token(2, 1));
            let mut bob = Peer::login_with(&url, &token, options, &Default::default()).unwrap();
            let is_message = |event: &ClientEvent| matches!(event, ClientEvent::Message { .. });
            let got = bob.wait_for(is_message, WAIT).unwrap();
            let ClientEvent::Message { id, kind, payload, relation: got, .. } = got else {
                unreachable!()
            };
            assert_eq!((id.sender, id.device, id.client_id), (1, 1, client_id));
            assert_eq!((kind, payload.len(), got), (u32::MAX, 0, relation));
        }
    }
}

#[test]
fn a_login_goes_on_where_the_device_says_it_stands() {
    for (shards, transport) in [(1, "tcp"), (2, "ws")] {
        let server = Server::start(shards, &[]);
        server.provision([2]);
        let mut ann = server.raw(transport, 1, 1);
        let positions: Vec<u64> =
            (1..=10).map(|id| ann.ask(message(id, 2, &[id as u8])).unwrap()).collect();
        let token = server.token(2, 1);
        let claims = wire::Hello { resume_after: positions[3], ..hello(&token) };
        let (mut bob, welcome) = Raw::login_with(&server.listen(), transport, &claims);
        assert_eq!(welcome.cursor, positions[3]);
        for id in 5..=10 {
            assert_eq!(bob.delivered().1, [id]);
        }
        // A device that says it holds less than it acked is not believed.
        let less = wire::Hello { resume_after: positions[0], ..hello(&token) };
        let (mut bob, welcome) = Raw::login_with(&server.listen(), transport, &less);
        assert_eq!(welcome.cursor, positions[3]);
        assert_eq!(bob.delivered().1, [5]);
        // A device that comes later begins at the end.
        let mut tablet = server.raw(transport, 2, 2);
        assert!(tablet.collect(QUIET).is_empty());
    }
}

#[test]
fn another_number_of_shards_changes_nothing_for_anybody() {
    let mut server = Server::start(2, &[]);
    server.provision(1..=20);
    let mut positions = Vec::new();
    for user in 1..=20 {
        let mut ann = server.raw("tcp", user, 1);
        positions.push(ann.ask(message(1, user % 20 + 1, &user.to_le_bytes())).unwrap());
    }
    for shards in [1, 3] {
        server.restart_with(shards);
        for (user, position) in (1..).zip(&positions) {
            let mut ann = server.raw("ws", user, 1);
            let again = ann.ask(message(1, user % 20 + 1, &u64::to_le_bytes(user)));
            assert_eq!(again, Ok(*position), "the first answer");
        }
    }
    for (user, position) in (1..).zip(&positions) {
        let mut bob = server.raw("tcp", user % 20 + 1, 1);
        assert_eq!(bob.delivered(), (*position, u64::to_le_bytes(user).to_vec()));
        bob.ack(*position);
        bob.settle();
    }
}
