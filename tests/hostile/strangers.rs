//! Who has not logged in: no protocol, a wrong one, half of one, or no good token.

use std::time::Duration;

use wire::{ClientFrame, Confirmed, Parting, Ping};

use crate::support::raw::{Raw, hello, message};
use crate::support::{Pair, Server, TRANSPORTS, now_s, token_signed};

/// What all the connections of these tests together may leave behind.
const RESIDENT_BYTES_MAX: u64 = 24 * 1024 * 1024;

const KEY: &str = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

/// An upgrade with some lines of its own.
fn upgrade(lines: &str) -> String {
    format!(
        "GET /v1/chat HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{KEY}{lines}\r\n"
    )
}

#[test]
fn what_is_not_the_protocol_is_told_so_in_http() {
    let server = Server::start(2, &["--origins", "https://good.example"]);
    let pair = Pair::start(&server, 900);
    let chosen = "Sec-WebSocket-Protocol: myriad.v1\r\n";
    let cases: [(&str, Vec<u8>); 14] = [
        ("400", b"\x00\x01\x02\xff not a protocol\r\n\r\n".to_vec()),
        ("400", b"MYR\x02".to_vec()),
        ("400", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()), // TLS
        ("400", b"\r\n\r\n".to_vec()),
        ("426", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("405", b"POST /v1/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("404", b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("400", b"GET /v1/chat?token=x HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("400", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("400", upgrade("").into_bytes()),
        ("400", upgrade("Sec-WebSocket-Protocol: chat, mqtt\r\n").into_bytes()),
        ("403", upgrade(&format!("{chosen}Origin: https://evil.example\r\n")).into_bytes()),
        ("431", upgrade(&format!("{chosen}X: {}\r\n", "x".repeat(9_000))).into_bytes()),
        ("431", [&b"GET /"[..], &[b'a'; 12_000]].concat()),
    ];
    for (status, bytes) in cases {
        let mut raw = Raw::bare(&server.listen());
        raw.write(&bytes);
        let answer = raw.http_answer();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
        let (_, advice) = answer.split_once("\r\n\r\n").unwrap();
        assert!(advice.len() > 10, "{shown:?} was told nothing: {answer:?}");
    }
    for origin in ["", "Origin: https://good.example\r\n", "Origin: http://chat.example\r\n"] {
        let mut raw = Raw::bare(&server.listen());
        raw.write(upgrade(&format!("{chosen}{origin}")).as_bytes());
        raw.write(&[0x88, 0x80, 0, 0, 0, 0]); // a close frame
        let answer = raw.http_answer();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{origin}: {answer:?}");
    }
    pair.finish();
}

#[test]
fn bytes_that_are_no_frame_are_told_so() {
    let server = Server::start(1, &[]);
    let pair = Pair::start(&server, 900);
    let (bad, large) = (Parting::BadFrame, Parting::FrameTooLarge);
    let on_tcp: [(Parting, &[u8]); 5] = [
        (large, &[0xff; 4]),
        (large, &[0x01, 0x20, 0, 0]), // 8,193 bytes
        (bad, &[0; 4]),               // a frame of nothing
        (bad, &[3, 0, 0, 0, 0xff, 0xff, 0xff]),
        (bad, &[2, 0, 0, 0, 0x0a, 0x00]), // a Hello without a token
    ];
    for (reason, bytes) in on_tcp {
        let mut raw = Raw::open(&server.listen(), "tcp");
        raw.write(bytes);
        raw.ends_with(reason);
    }
    let on_websocket: [(u16, &[u8]); 13] = [
        (1009, &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]),
        (1009, &[0x82, 0xfe, 0x20, 0x01, 1, 2, 3, 4]), // 8,193 bytes
        (1002, &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        (1002, &[0x82, 0xfe, 0, 1, 1, 2, 3, 4, 5]), // a long length for a short frame
        (1002, &[0x82, 0x01, 0x0a]),                // no mask
        (1002, &[0xc2, 0x81, 0, 0, 0, 0, 0x0a]),    // a reserved bit
        (1002, &[0x83, 0x81, 0, 0, 0, 0, 0x0a]),    // opcode 3
        (1003, &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']), // text
        (1002, &[0x80, 0x80, 0, 0, 0, 0]),          // a continuation of nothing
        (1002, &[0x09, 0x80, 0, 0, 0, 0]),          // a ping in fragments
        (1002, &[0x89, 0xfe, 0, 126, 0, 0, 0, 0]),  // a ping of 126 bytes
        (1002, &[0x88, 0x81, 0, 0, 0, 0, 3]),       // a close of one byte
        (1002, &[0x82, 0x81, 9, 9, 9, 9, 9]),       // one byte that is no frame
    ];
    for (code, bytes) in on_websocket {
        let mut raw = Raw::open(&server.listen(), "ws");
        raw.write(bytes);
        raw.ends_with_code(if code == 1009 { large } else { bad }, code);
    }
    pair.finish();
}

#[test]
fn who_does_not_begin_with_a_good_hello_is_told_why() {
    for shards in [1, 2] {
        let server = Server::start(shards, &[]);
        let pair = Pair::start(&server, 900);
        let secret = server.home.secret().to_vec();
        let soon = now_s() + 600;
        let expired = token_signed(&secret, 1, 1, now_s() - 600);
        let tokens = [
            ("nonsense".to_owned(), Parting::TokenInvalid),
            ("a.b.c".to_owned(), Parting::TokenInvalid),
            (token_signed(&[b'x'; 64], 1, 1, soon), Parting::TokenInvalid),
            (token_signed(&secret, 0, 1, soon), Parting::TokenInvalid),
            (token_signed(&secret, 1, 0, soon), Parting::TokenInvalid),
            ("t".repeat(3_000), Parting::TokenInvalid),
            (expired, Parting::TokenExpired),
        ];
        for transport in TRANSPORTS {
            for (token, reason) in &tokens {
                let mut raw = Raw::open(&server.listen(), transport);
                raw.send(&ClientFrame::Hello(hello(token)));
                raw.ends_with(*reason);
            }
            let mut raw = Raw::open(&server.listen(), transport);
            raw.say(1, 900, b"no Hello before this");
            raw.ends_with(Parting::HelloExpected);
            let mut raw = Raw::open(&server.listen(), transport);
            let ping = Ping { active: true, confirmed: Confirmed::default(), answer: true };
            raw.send(&ClientFrame::Ping(ping));
            raw.ends_with(Parting::HelloExpected);
        }
        let mut raw = Raw::open(&server.listen(), "ws");
        raw.write(&[0x89, 0x80, 0, 0, 0, 0].repeat(1_500)); // 9,000 bytes of pings
        raw.ends_with(Parting::HelloExpected);
        pair.finish();
    }
}

#[test]
fn strangers_with_half_frames_cost_little_and_harm_nobody() {
    let server = Server::start(2, &["--unknown-conns-per-source-max", "200"]);
    let pair = Pair::start(&server, 900);
    let before = server.resident_bytes();
    // Each holds the most that is kept of a frame that is not complete.
    let half = [&8_000_u32.to_le_bytes()[..], &[0; 7_000]].concat();
    let mut held = Vec::new();
    for _ in 0..1_000 {
        let mut raw = Raw::open(&server.listen(), "tcp");
        raw.write(&half);
        held.push(raw);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    println!("1,000 strangers with 7,000 bytes each: {grown} bytes more");
    assert!(grown < RESIDENT_BYTES_MAX, "{grown} bytes for strangers");
    // Whoever waited longest made room.
    held[0].ends_with(Parting::Evicted);
    let evicted = held.iter_mut().skip(1).take(500).map(Raw::ends_now).filter(|it| *it).count();
    assert!(evicted >= 450, "{evicted}");
    drop(held);
    // Cut off in the middle of everything, at every length.
    let mut raw = Raw::open(&server.listen(), "ws");
    let whole = raw.framed(&ClientFrame::Send(message(1, 2, &[7; 40])));
    raw.write(&whole);
    for cut in 0..whole.len() {
        Raw::open(&server.listen(), "ws").write(&whole[..cut]);
    }
    let after = server.resident_bytes().saturating_sub(before);
    assert!(after < RESIDENT_BYTES_MAX, "{after} bytes were not given back");
    pair.finish();
}

impl Raw {
    /// Whether this connection is already evicted.
    fn ends_now(&mut self) -> bool {
        self.collect(Duration::from_millis(2));
        self.is_closed()
    }
}
