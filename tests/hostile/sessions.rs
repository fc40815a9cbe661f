//! Who is logged in and breaks the protocol: named, closed, and nobody else is harmed.

use std::thread;
use std::time::{Duration, Instant};

use wire::{AskReceipts, ClientFrame, Confirmed, Parting, Renew, Stream, Typing, WatchPresence};

use crate::support::raw::{Got, Raw, hello, message};
use crate::support::{Pair, QUIET, Server, TRANSPORTS, WAIT, now_s, token_signed};

/// Frames more than one session may send in a second.
const FLOOD_FRAMES: usize = 200_000;
/// Longest time in which a client that provokes answers and never reads them is cut off.
const UNREAD_TIME: Duration = Duration::from_secs(40);
/// What it may cost.
const RESIDENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[test]
fn a_session_that_breaks_the_protocol_ends_with_the_reason() {
    for shards in [1, 2] {
        let server = Server::start(shards, &[]);
        let pair = Pair::start(&server, 900);
        for transport in TRANSPORTS {
            let token = server.token(1, 1);
            let mut raw = server.raw(transport, 1, 1);
            raw.send(&ClientFrame::Hello(hello(&token)));
            raw.ends_with(Parting::SecondHello);

            let too_many: Vec<u64> = (1..=300).collect();
            let watch = WatchPresence { users: too_many.clone() };
            let ask = AskReceipts { peers: too_many, groups: false };
            for frame in [ClientFrame::WatchPresence(watch), ClientFrame::AskReceipts(ask)] {
                let mut raw = server.raw(transport, 1, 1);
                raw.send(&frame);
                raw.ends_with(Parting::BadFrame);
            }
            for content in [&b""[..], &[0xff; 9], &[0x1a, 0x02, 0x08, 0x01], &[0x7a, 0x00]] {
                let mut raw = server.raw(transport, 1, 1);
                let bytes = raw.framed_bytes(content);
                raw.write(&bytes);
                raw.ends_with(Parting::BadFrame);
            }
            let mut raw = server.raw(transport, 1, 1);
            let bytes = raw.framed_bytes(&vec![0; 70_000]);
            raw.write(&bytes);
            raw.ends_with(Parting::FrameTooLarge);
        }
        let mut raw = server.raw("ws", 1, 1);
        raw.write(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        raw.ends_with_code(Parting::BadFrame, 1003);
        let mut raw = server.raw("ws", 1, 1);
        raw.write(&[0x82, 0x01, 0x0a]); // no mask
        raw.ends_with(Parting::BadFrame);
        pair.finish();
    }
}

#[test]
fn the_newer_session_of_a_device_wins_and_the_older_is_told() {
    for (shards, first, second) in [(1, "tcp", "ws"), (2, "ws", "tcp"), (2, "tcp", "tcp")] {
        let server = Server::start(shards, &[]);
        server.provision([2]);
        let mut older = server.raw(first, 1, 1);
        let mut newer = server.raw(second, 1, 1);
        older.ends_with(Parting::Replaced);
        assert!(newer.ask(message(1, 2, b"still here")).is_ok());
        // Two programs with one token take over from each other; neither makes the other stuck.
        let mut last = newer;
        for id in 2..12 {
            let mut next = server.raw(first, 1, 1);
            assert!(next.ask(message(id, 2, b"and again")).is_ok());
            last.ends_with(Parting::Replaced);
            last = next;
        }
    }
}

#[test]
fn what_the_older_session_sent_is_neither_lost_nor_doubled_nor_reordered() {
    for (shards, transport) in [(1, "ws"), (2, "tcp"), (2, "ws")] {
        let server = Server::start(shards, &[]);
        let mut bob = server.raw(transport, 2, 1);
        let mut first_id = 1;
        for _ in 0..5 {
            let ids = first_id..first_id + 50;
            let confirmed = Confirmed { base: first_id - 1, map: 0 };
            let mut older = server.raw(transport, 1, 1);
            for id in ids.clone() {
                let payload = id.to_le_bytes();
                let send = wire::Send { confirmed, ..message(id, 2, &payload) };
                older.send(&ClientFrame::Send(send));
            }
            // Nobody waits for an answer: part of it is read, part of it is not.
            let mut newer = server.raw(transport, 1, 1);
            for id in ids.clone() {
                let payload = id.to_le_bytes();
                let send = wire::Send { confirmed, ..message(id, 2, &payload) };
                newer.send(&ClientFrame::Send(send)); // twice: the second is a repeat
                newer.send(&ClientFrame::Send(send));
            }
            for id in ids.clone() {
                assert!(newer.answer(id).is_ok(), "{id}");
            }
            for id in ids.clone() {
                let (position, payload) = bob.delivered();
                assert_eq!(payload, id.to_le_bytes());
                bob.ack(position);
            }
            first_id = ids.end;
        }
        assert!(bob.collect(QUIET).is_empty(), "each was stored once");
    }
}

#[test]
fn renewing_with_a_token_that_is_not_good_ends_the_session() {
    let server = Server::start(2, &[]);
    let secret = server.home.secret();
    let soon = now_s() + 600;
    let cases = [
        (token_signed(secret, 2, 1, soon), Parting::TokenInvalid),
        (token_signed(secret, 1, 2, soon), Parting::TokenInvalid),
        (token_signed(&[9; 64], 1, 1, soon), Parting::TokenInvalid),
        ("x".to_owned(), Parting::TokenInvalid),
        (token_signed(secret, 1, 1, now_s() - 600), Parting::TokenExpired),
    ];
    for transport in TRANSPORTS {
        for (token, reason) in &cases {
            let mut raw = server.raw(transport, 1, 1);
            raw.send(&ClientFrame::Renew(Renew { token }));
            raw.ends_with(*reason);
        }
        let mut raw = server.raw(transport, 1, 1);
        raw.send(&ClientFrame::Renew(Renew { token: &server.token(1, 1) }));
        raw.settle();
    }
}

#[test]
fn a_flood_of_frames_is_stopped_by_name_and_harms_nobody() {
    for transport in TRANSPORTS {
        let server = Server::start(2, &[]);
        let pair = Pair::start(&server, 900);
        let mut raw = server.raw(transport, 1, 1);
        let typing = ClientFrame::Typing(Typing { to: Stream::User(900), stopped: false });
        let flood = raw.framed(&typing).repeat(FLOOD_FRAMES);
        raw.write(&flood);
        // A machine too slow to take 20,000 a second has nothing to stop.
        let ending = raw.wait(Duration::from_secs(5), |got| matches!(got, Got::Goodbye { .. }));
        if let Some(Got::Goodbye { reason, .. }) = ending {
            assert_eq!(reason, Parting::TooManyFrames);
        } else {
            println!("{transport}: {FLOOD_FRAMES} frames were all taken");
            raw.settle();
        }
        // It comes back like anybody else.
        server.raw(transport, 1, 1).settle();
        pair.finish();
    }
}

#[test]
fn who_provokes_answers_and_never_reads_them_costs_little() {
    let mut server = Server::start(1, &[]);
    let pair = Pair::start(&server, 900);
    let before = server.resident_bytes();
    // Each provokes an answer as large as itself, and stays below the limit of frames: what ends
    // the session is the bound on what waits for it, and nothing else.
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[7; 125]].concat();
    let many = ping.repeat(300);
    let mut raw = server.raw("ws", 1, 1);
    raw.receive_little();
    let (began, mut written) = (Instant::now(), 0);
    while began.elapsed() < UNREAD_TIME && raw.write(&many) {
        written += many.len();
        thread::sleep(Duration::from_millis(20)); // at most 15,000 a second
    }
    let grown = server.resident_bytes().saturating_sub(before);
    println!("after {written} bytes of pings: {grown} bytes more");
    assert!(grown < RESIDENT_BYTES_MAX, "{grown} bytes for a client that never reads");
    assert!(began.elapsed() < UNREAD_TIME, "it is cut off");
    assert_eq!(raw.ending(WAIT).reason, None, "what it would not read is not said");
    pair.finish();
    assert!(server.stop().success());
    let said = server.home.log_tail();
    assert!(said.contains("\"too_slow\":1"), "the bound on its outbox ended it: {said}");
}

#[test]
fn websocket_pings_and_closes_are_answered() {
    let server = Server::start(1, &[]);
    let mut raw = server.raw("ws", 1, 1);
    raw.write(&[0x89, 0x83, 0, 0, 0, 0, 1, 2, 3]);
    raw.expect("a pong", |got| matches!(got, Got::SocketPong));
    // A message in three fragments with a ping between them is one message.
    raw.write(&[0x02, 0x82, 0, 0, 0, 0, 0x32, 0x02]); // Ping { answer }
    raw.write(&[0x89, 0x80, 0, 0, 0, 0]);
    raw.write(&[0x00, 0x81, 0, 0, 0, 0, 0x18]);
    raw.write(&[0x80, 0x81, 0, 0, 0, 0, 0x01]);
    raw.expect("a Pong", |got| matches!(got, Got::Pong));
    raw.write(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]); // close 1000
    let ending = raw.ending(WAIT);
    assert_eq!((ending.reason, ending.close_code), (None, Some(1000)));
    let mut raw = server.raw("ws", 1, 1);
    raw.write(&[0x88, 0x80, 0, 0, 0, 0]);
    assert_eq!(raw.ending(WAIT).close_code, Some(1005));
    assert!(server.raw("tcp", 1, 1).collect(QUIET).is_empty());
}

#[test]
fn what_comes_before_welcome_is_taken_after_it() {
    for (shards, transport) in [(1, "tcp"), (2, "ws"), (2, "tcp")] {
        let server = Server::start(shards, &[]);
        server.provision(2..8);
        for user in 2..8 {
            let mut raw = Raw::open(&server.listen(), transport);
            let token = server.token(user, 2);
            let mut bytes = raw.framed(&ClientFrame::Hello(hello(&token)));
            for id in 1..=3 {
                let send = message(id, 2, b"impatient");
                bytes.extend(raw.framed(&ClientFrame::Send(send)));
            }
            raw.write(&bytes);
            raw.expect("a Welcome", |got| matches!(got, Got::Welcome(_)));
            for id in 1..=3 {
                assert!(raw.answer(id).is_ok());
            }
        }
    }
}
