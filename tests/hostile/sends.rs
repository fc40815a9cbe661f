//! Ids, cursors, sizes and quotas out of range: each is refused by name, and the rest goes on.

use wire::{ClientFrame, Confirmed, Mark, Read, Refusal, Send, Stream};

use crate::support::raw::{Got, Raw, hello, message};
use crate::support::{QUIET, Server, TRANSPORTS};

/// With the ids up to here confirmed.
fn confirming(base: u64, frame: Send<'_>) -> Send<'_> {
    Send { confirmed: Confirmed { base, map: 0 }, ..frame }
}

#[test]
fn ids_out_of_range_are_refused_by_name() {
    for (shards, transport) in [(1, "tcp"), (2, "ws")] {
        let server = Server::start(shards, &[]);
        server.provision([2, 3]);
        let mut raw = server.raw(transport, 1, 1);
        assert_eq!(raw.refused(message(u64::MAX, 2, b"x")), Refusal::Invalid);
        let above = raw.ask(message(65, 2, b"x")).unwrap_err();
        assert_eq!((above.reason, above.retriable), (Refusal::WindowFull, true));
        let first = raw.ask(message(1, 2, b"one")).unwrap();
        assert_eq!(raw.ask(message(1, 2, b"one")).unwrap(), first, "the first answer again");
        for other in [message(1, 2, b"two"), message(1, 3, b"one"), message(1, 2, b"")] {
            let reused = raw.ask(other).unwrap_err();
            assert_eq!((reused.reason, reused.retriable), (Refusal::IdReused, false));
            assert_eq!(reused.next_client_id, 2);
        }
        // Gaps are legal; at or below what is confirmed nothing is.
        assert!(raw.ask(confirming(1, message(60, 2, b"sixty"))).is_ok());
        for id in [1, 40, 60] {
            let stale = raw.ask(confirming(60, message(id, 2, b"one"))).unwrap_err();
            assert_eq!((stale.reason, stale.next_client_id), (Refusal::StaleId, 61), "{id}");
        }
        assert!(raw.ask(message(124, 2, b"the last of the window")).is_ok());
        assert_eq!(raw.refused(message(125, 2, b"one more")), Refusal::WindowFull);
        // A base that goes back changes nothing.
        assert_eq!(raw.refused(confirming(0, message(30, 2, b"x"))), Refusal::StaleId);
        // The recipient has each message that was answered, once.
        let mut other = server.raw("tcp", 2, 1);
        let got: Vec<_> = (0..3).map(|_| other.delivered().1).collect();
        assert_eq!(got, [&b"one"[..], b"sixty", b"the last of the window"]);
        assert!(other.collect(QUIET).is_empty());
    }
}

#[test]
fn a_client_id_of_zero_is_no_frame() {
    let server = Server::start(1, &[]);
    let mut raw = server.raw("ws", 1, 1);
    raw.say(0, 1, b"x");
    raw.ends_with(wire::Parting::BadFrame);
}

#[test]
fn a_base_out_of_range_harms_only_the_device_that_sent_it() {
    let server = Server::start(2, &[]);
    server.provision([2]);
    let mut sibling = server.raw("tcp", 1, 2);
    let mut raw = server.raw("ws", 1, 1);
    for base in [u64::MAX, u64::MAX - 1, 1 << 63] {
        raw.ping(Confirmed { base, map: u64::MAX }, true);
        raw.expect("a Pong", |got| matches!(got, Got::Pong));
    }
    assert_eq!(raw.refused(message(1, 2, b"x")), Refusal::StaleId);
    assert_eq!(raw.refused(message(u64::MAX, 2, b"x")), Refusal::Invalid);
    let confirmed = Confirmed { base: u64::MAX, map: u64::MAX };
    let token = server.token(3, 1);
    Raw::login_with(&server.listen(), "tcp", &wire::Hello { confirmed, ..hello(&token) });
    assert!(sibling.ask(message(1, 2, b"the tablet goes on")).is_ok());
}

#[test]
fn cursors_beyond_what_exists_are_clamped() {
    for (shards, transport) in [(1, "ws"), (2, "tcp")] {
        let mut server = Server::start(shards, &[]);
        let mut bob = server.raw(transport, 2, 1);
        let mut ann = server.raw(transport, 1, 1);
        let read = |up_to, peer: u64| {
            ClientFrame::Read(Read { stream: Some(Stream::User(peer)), up_to, automatic: false })
        };
        // Before there is anything, for a stranger, and for everybody.
        bob.ack(u64::MAX);
        bob.send(&read(u64::MAX, 1));
        bob.send(&read(7, 4_711));
        bob.send(&ClientFrame::Read(Read { stream: None, up_to: u64::MAX, automatic: true }));
        bob.settle();
        let first = ann.ask(message(1, 2, b"one")).unwrap();
        assert_eq!(bob.delivered(), (first, b"one".to_vec()), "the future was not acked");
        bob.ack(first + (1 << 40));
        bob.send(&read(u64::MAX, 1));
        for mark in [Mark::Has, Mark::Read] {
            let is_it = |got: &Got| {
                matches!(got, Got::Receipt(receipt)
                    if receipt.mark == mark && receipt.up_to == first)
            };
            ann.expect("a receipt up to what exists", is_it);
        }
        let second = ann.ask(message(2, 2, b"two")).unwrap();
        assert!(second > first);
        assert_eq!(bob.delivered(), (second, b"two".to_vec()));
        let quiet = ann.collect(QUIET);
        assert!(quiet.is_empty(), "a tick for what nobody acked: {quiet:?}");
        // A login that claims to hold the future gets what comes in it.
        drop(bob);
        server.kill_and_restart();
        let token = server.token(2, 1);
        let greedy = wire::Hello { resume_after: u64::MAX, ..hello(&token) };
        let (mut bob, welcome) = Raw::login_with(&server.listen(), transport, &greedy);
        assert!(welcome.cursor <= second, "{} is beyond {second}", welcome.cursor);
        let mut ann = server.raw(transport, 1, 1);
        let third = ann.ask(message(3, 2, b"three")).unwrap();
        assert_eq!(bob.delivered(), (third, b"three".to_vec()));
    }
}

#[test]
fn a_payload_too_large_is_refused_and_the_session_goes_on() {
    for transport in TRANSPORTS {
        let server = Server::start(2, &[]);
        let mut bob = server.raw(transport, 2, 1);
        let mut raw = server.raw(transport, 1, 1);
        let refused = raw.ask(message(1, 2, &vec![1; 65 * 1024])).unwrap_err();
        assert_eq!((refused.reason, refused.retriable), (Refusal::PayloadTooLarge, false));
        assert_eq!(raw.refused(message(1, 2, &[1; 65_537])), Refusal::PayloadTooLarge);
        let largest = vec![2; 65_536];
        let position = raw.ask(message(2, 2, &largest)).unwrap();
        assert_eq!(bob.delivered(), (position, largest));
    }
}

#[test]
fn who_does_not_exist_is_refused_the_same_way_for_ever() {
    for (shards, transport) in [(1, "ws"), (2, "tcp")] {
        let mut server = Server::start(shards, &[]);
        server.provision([2]);
        let mut raw = server.raw(transport, 1, 1);
        let send = confirming(90, message(101, 100, b"anybody?"));
        let refused = raw.ask(send).unwrap_err();
        assert_eq!((refused.reason, refused.retriable), (Refusal::UnknownUser, false));
        assert_eq!(raw.refused(send), Refusal::UnknownUser);
        let mut raw = server.raw(transport, 1, 1);
        assert_eq!(raw.refused(send), Refusal::UnknownUser);
        // A later message is not held back by it.
        assert!(raw.ask(confirming(90, message(102, 2, b"hello"))).is_ok());
        server.kill_and_restart();
        // Now the user exists; the answer to that message stays what it was.
        server.provision([100]);
        let mut raw = server.raw(transport, 1, 1);
        assert_eq!(raw.refused(send), Refusal::UnknownUser);
        assert!(raw.ask(confirming(90, message(103, 100, b"welcome"))).is_ok());
    }
}

#[test]
fn a_group_one_is_not_in_takes_nothing_and_ends_nothing() {
    let server = Server::start(1, &[]);
    let mut raw = server.raw("ws", 1, 1);
    let refused = raw.ask(Send { to: Stream::Group(5), ..message(1, 1, b"all") }).unwrap_err();
    assert_eq!((refused.reason, refused.retriable), (Refusal::NotMember, false));
    let to = Stream::Group(5);
    raw.send(&ClientFrame::Typing(wire::Typing { to, stopped: false }));
    raw.send(&ClientFrame::Read(Read { stream: Some(to), up_to: 1, automatic: false }));
    raw.send(&ClientFrame::Ack(wire::Ack { stream: Some(to), up_to: u64::MAX }));
    raw.settle();
    assert!(raw.ask(message(2, 1, b"me then")).is_ok());
}

#[test]
fn a_full_inbox_refuses_by_sender_and_in_all_and_order_is_kept() {
    for (shards, transport) in [(1, "tcp"), (2, "ws")] {
        let limits = ["--inbox-messages-max", "8", "--inbox-messages-per-sender-max", "5"];
        let server = Server::start(shards, &limits);
        server.provision([9]);
        let mut ann = server.raw(transport, 1, 1);
        for id in 1..=5 {
            assert!(ann.ask(message(id, 9, &[id as u8])).is_ok());
        }
        let full = ann.ask(message(6, 9, &[6])).unwrap_err();
        assert_eq!((full.reason, full.retriable), (Refusal::InboxFull, true));
        assert!(full.retry_after_ms > 0);
        // Nothing overtakes it, not even to somebody else.
        assert_eq!(ann.refused(message(7, 9, &[7])), Refusal::Held);
        assert_eq!(ann.refused(message(8, 1, &[8])), Refusal::Held);
        assert_eq!(ann.refused(message(6, 9, &[6])), Refusal::InboxFull);
        // Others have their own share, until the whole is used up.
        let mut eve = server.raw(transport, 2, 1);
        for id in 1..=3 {
            assert!(eve.ask(message(id, 9, &[10 + id as u8])).is_ok());
        }
        assert_eq!(eve.refused(message(4, 9, &[14])), Refusal::InboxFull);
        let mut bob = server.raw(transport, 9, 1);
        let mut got = Vec::new();
        let mut last = 0;
        for _ in 0..8 {
            let (position, payload) = bob.delivered();
            assert!(position > last);
            (last, got) = (position, [got, payload].concat());
        }
        assert_eq!(got, [1, 2, 3, 4, 5, 11, 12, 13]);
        bob.ack(last);
        bob.settle();
        for id in 6..=7 {
            assert!(ann.ask(message(id, 9, &[id as u8])).is_ok(), "room again, in order");
        }
        assert!(ann.ask(message(8, 1, &[8])).is_ok());
        assert_eq!([bob.delivered().1, bob.delivered().1].concat(), [6, 7]);
        // Who gives a refused message up may go on with the next.
        assert!(eve.ask(confirming(4, message(5, 9, &[15]))).is_ok());
        assert_eq!(bob.delivered().1, [15]);
    }
}

#[test]
fn quotas_count_bytes_too() {
    let limits = ["--inbox-bytes-max", "150000", "--inbox-bytes-per-sender-max", "100000"];
    let server = Server::start(2, &limits);
    server.provision([9]);
    let mut ann = server.raw("ws", 1, 1);
    let mut eve = server.raw("tcp", 2, 1);
    assert!(ann.ask(message(1, 9, &[1; 60_000])).is_ok());
    assert_eq!(ann.refused(message(2, 9, &[2; 60_000])), Refusal::InboxFull, "her share");
    assert!(eve.ask(message(1, 9, &[3; 60_000])).is_ok());
    assert_eq!(eve.refused(message(2, 9, &[4; 40_000])), Refusal::InboxFull, "the whole");
    assert!(ann.ask(confirming(2, message(3, 9, &[5; 30_000]))).is_ok(), "a smaller one fits");
    let mut bob = server.raw("tcp", 9, 1);
    for first in [1, 3, 5] {
        let (position, payload) = bob.delivered();
        assert_eq!(payload[0], first);
        bob.ack(position);
    }
    bob.settle();
    assert!(eve.ask(message(2, 9, &[4; 40_000])).is_ok());
}

#[test]
fn sends_in_one_burst_behind_a_refusal_are_held() {
    for (shards, transport) in [(1, "ws"), (2, "tcp")] {
        let server = Server::start(shards, &["--inbox-messages-per-sender-max", "3"]);
        server.provision([9, 10]);
        let mut ann = server.raw(transport, 1, 1);
        for id in 1..=8 {
            ann.say(id, 9, &[id as u8]); // none waits for an answer
        }
        for id in 1..=3 {
            assert!(ann.answer(id).is_ok());
        }
        assert_eq!(ann.answer(4).unwrap_err().reason, Refusal::InboxFull);
        for id in 5..=8 {
            let reason = ann.answer(id).unwrap_err().reason;
            assert!(matches!(reason, Refusal::Held | Refusal::InboxFull), "{reason}");
        }
        let mut bob = server.raw(transport, 9, 1);
        let mut got = Vec::new();
        for id in 4..=8 {
            while got.len() < 3 || !ann_is_taken(&mut ann, id) {
                let (position, payload) = bob.delivered();
                got.extend(payload);
                bob.ack(position);
                bob.settle();
            }
        }
        while got.len() < 8 {
            got.extend(bob.delivered().1);
        }
        assert_eq!(got, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(bob.collect(QUIET).is_empty());
    }
}

fn ann_is_taken(ann: &mut Raw, id: u64) -> bool {
    ann.ask(message(id, 9, &[id as u8])).is_ok()
}
