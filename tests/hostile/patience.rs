//! Who is slow, silent, or never acks. Each limit is waited for in real time, all of them at once
//! on one server, while a pair chats.

use std::thread;
use std::time::{Duration, Instant};

use wire::{ClientFrame, Confirmed, Parting, Renew};

use crate::support::raw::{Ending, Got, Raw, hello, message};
use crate::support::{Pair, Server, TRANSPORTS, now_s};

/// From accept to a valid `Hello`.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// From a delivery to its `Ack`.
const ACK_TIME: Duration = Duration::from_secs(30);
/// What a loaded machine may add to either.
const LATE: Duration = Duration::from_secs(4);
/// Un-acked messages and payload bytes a device gets.
const UNACKED_MESSAGES: usize = 64;
const UNACKED_BYTES: usize = 64 * 1024;

/// Writes one piece a second until the server has had enough; says after how long that was.
fn drip(mut raw: Raw, pieces: &[&[u8]], limit: Duration) -> (Duration, Ending) {
    let began = Instant::now();
    for piece in pieces.iter().cycle() {
        raw.write(piece);
        let goodbye = raw.wait(Duration::from_secs(1), |_| false);
        assert_eq!(goodbye, None);
        if raw.is_closed() {
            break;
        }
        assert!(began.elapsed() < limit, "still open after {limit:?}");
    }
    (began.elapsed(), raw.ending(Duration::from_secs(1)))
}

fn closes_about(after: Duration, wanted: Duration) {
    let early = wanted.saturating_sub(Duration::from_secs(1));
    assert!((early..wanted + LATE).contains(&after), "closed after {after:?}, not {wanted:?}");
}

#[test]
fn slow_everybody_who_tries_patience_is_closed_in_time() {
    let server = Server::start(2, &["--heartbeat-ms", "1000"]);
    let pair = Pair::start(&server, 900);
    server.provision([50, 51]);
    thread::scope(|scope| {
        let server = &server;
        for transport in TRANSPORTS {
            scope.spawn(move || one_byte_a_second_before_login(server, transport));
            scope.spawn(move || nothing_after_opening(server, transport));
            scope.spawn(move || silence_after_login(server, transport));
            scope.spawn(move || half_a_frame_is_no_sign_of_life(server, transport));
        }
        scope.spawn(|| nothing_at_all(server));
        scope.spawn(|| one_byte_of_http_a_second(server));
        scope.spawn(|| pings_do_not_replace_a_hello(server));
        scope.spawn(|| a_device_that_does_not_ack(server, "ws", 10, 150, 200));
        scope.spawn(|| a_device_that_does_not_ack(server, "tcp", 20, 40, 4_096));
        scope.spawn(|| a_device_that_does_not_read(server));
        scope.spawn(|| a_token_that_ends(server));
        scope.spawn(|| a_token_that_is_renewed(server));
    });
    pair.finish();
}

fn one_byte_a_second_before_login(server: &Server, transport: &str) {
    let raw = Raw::open(&server.listen(), transport);
    let token = server.token(1, 1);
    let bytes = raw.framed(&ClientFrame::Hello(hello(&token)));
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    let (after, ending) = drip(raw, &pieces, HELLO_TIME + LATE);
    closes_about(after, HELLO_TIME);
    assert_eq!(ending.reason, Some(Parting::HelloTimeout), "{ending:?}");
}

fn nothing_after_opening(server: &Server, transport: &str) {
    let began = Instant::now();
    let mut raw = Raw::open(&server.listen(), transport);
    raw.ends_with(Parting::HelloTimeout);
    closes_about(began.elapsed(), HELLO_TIME);
}

/// There is no protocol yet in which a reason could be told.
fn nothing_at_all(server: &Server) {
    let began = Instant::now();
    let ending = Raw::bare(&server.listen()).ending(HELLO_TIME + LATE);
    closes_about(began.elapsed(), HELLO_TIME);
    assert!(!ending.reset && ending.before.is_empty(), "{ending:?}");
}

fn one_byte_of_http_a_second(server: &Server) {
    let raw = Raw::bare(&server.listen());
    let pieces: Vec<&[u8]> = b"GET /v1/chat HTTP/1.1\r\nHost: x".chunks(1).collect();
    let (after, _) = drip(raw, &pieces, HELLO_TIME + LATE);
    closes_about(after, HELLO_TIME);
}

fn pings_do_not_replace_a_hello(server: &Server) {
    let raw = Raw::open(&server.listen(), "ws");
    let began = Instant::now();
    let mut raw = raw;
    while !raw.is_closed() {
        raw.write(&[0x89, 0x80, 0, 0, 0, 0]);
        raw.wait(Duration::from_millis(500), |_| false);
        assert!(began.elapsed() < HELLO_TIME + LATE, "pings keep a stranger for ever");
    }
    raw.ends_with(Parting::HelloTimeout);
    closes_about(began.elapsed(), HELLO_TIME);
}

fn silence_after_login(server: &Server, transport: &str) {
    let mut raw = server.raw(transport, 30 + transport.len() as u64, 1);
    let began = Instant::now();
    raw.ends_with(Parting::Silent);
    closes_about(began.elapsed(), Duration::from_millis(2_500));
}

fn half_a_frame_is_no_sign_of_life(server: &Server, transport: &str) {
    let raw = server.raw(transport, 40 + transport.len() as u64, 1);
    let bytes = raw.framed(&ClientFrame::Send(message(1, 50, &[0; 100])));
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    let (after, ending) = drip(raw, &pieces, Duration::from_secs(8));
    closes_about(after, Duration::from_millis(2_500));
    assert_eq!(ending.reason, Some(Parting::Silent), "{ending:?}");
}

/// Sends `count` messages to a device that pings and never acks, then to one that does.
fn a_device_that_does_not_ack(
    server: &Server,
    transport: &str,
    user: u64,
    count: usize,
    bytes: usize,
) {
    let mut lazy = server.raw(transport, user, 1);
    let mut ann = server.raw(transport, user + 1, 1);
    let began = Instant::now();
    for id in 1..=count as u64 {
        let mut payload = vec![0; bytes];
        payload[..8].copy_from_slice(&id.to_le_bytes());
        let base = id - 1;
        let confirmed = Confirmed { base, map: 0 };
        ann.ask(wire::Send { confirmed, ..message(id, user, &payload) }).unwrap();
    }
    let mut got = Vec::new();
    let deadline = Instant::now() + ACK_TIME + LATE;
    while !lazy.is_closed() {
        lazy.ping(Confirmed::default(), false);
        got.extend(lazy.collect(Duration::from_millis(500)));
        assert!(Instant::now() < deadline, "never told to ack");
    }
    closes_about(began.elapsed(), ACK_TIME);
    let window = UNACKED_MESSAGES.min(UNACKED_BYTES / bytes);
    assert!(
        matches!(got.pop(), Some(Got::Goodbye { reason: Parting::AckTimeout, .. })),
        "{:?}",
        got.last()
    );
    let delivered = got.iter().filter(|got| matches!(got, Got::Deliver { .. })).count();
    assert_eq!(delivered, window, "exactly the window was delivered");
    // It comes back, acks, and gets everything from the start, in order.
    let mut bob = server.raw(transport, user, 1);
    for id in 1..=count as u64 {
        let (position, payload) = bob.delivered();
        assert_eq!(payload[..8], id.to_le_bytes());
        bob.ack(position);
    }
}

/// Pings, as if alive, and reads nothing of what it gets.
fn a_device_that_does_not_read(server: &Server) {
    let mut deaf = server.raw("tcp", 60, 1);
    let mut ann = server.raw("ws", 61, 1);
    for id in 1..=40 {
        let confirmed = Confirmed { base: id - 1, map: 0 };
        ann.ask(wire::Send { confirmed, ..message(id, 60, &[1; 30_000]) }).unwrap();
    }
    let began = Instant::now();
    while began.elapsed() < ACK_TIME + LATE {
        deaf.ping(Confirmed::default(), false);
        thread::sleep(Duration::from_millis(500));
    }
    // What was written to it before is still there; then it ends.
    let ending = deaf.ending(Duration::from_secs(5));
    assert!(ending.reset || ending.reason == Some(Parting::AckTimeout), "{ending:?}");
    let delivered = ending.before.iter().filter(|got| matches!(got, Got::Deliver { .. })).count();
    assert!(delivered <= UNACKED_BYTES / 30_000, "{delivered}");
}

/// Says something twice a second until the time is over or the server ends it.
fn stays(raw: &mut Raw, time: Duration) -> Option<Got> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        raw.ping(Confirmed::default(), false);
        let goodbye = |got: &Got| matches!(got, Got::Goodbye { .. });
        if let Some(goodbye) = raw.wait(Duration::from_millis(500), goodbye) {
            return Some(goodbye);
        }
    }
    None
}

fn a_token_that_ends(server: &Server) {
    let token = server.token_until(70, 1, now_s() + 5);
    let mut raw = Raw::login(&server.listen(), "ws", &token);
    let began = Instant::now();
    let goodbye = stays(&mut raw, Duration::from_secs(25));
    assert!(
        matches!(goodbye, Some(Got::Goodbye { reason: Parting::TokenExpired, .. })),
        "{goodbye:?}"
    );
    let after = began.elapsed();
    assert!(after > Duration::from_secs(3), "ended after {after:?}, before its time");
}

fn a_token_that_is_renewed(server: &Server) {
    let token = server.token_until(71, 1, now_s() + 5);
    let mut raw = Raw::login(&server.listen(), "tcp", &token);
    raw.send(&ClientFrame::Renew(Renew { token: &server.token(71, 1) }));
    let goodbye = stays(&mut raw, Duration::from_secs(25));
    assert_eq!(goodbye, None, "renewed, and ended all the same");
    raw.settle();
}
