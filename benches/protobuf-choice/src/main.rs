//! What decoding a `Send` and encoding a `Deliver` of 150 bytes cost with each protobuf crate.
//!
//! `protobuf-choice CANDIDATE decode|encode ROUNDS` does it ROUNDS times; `./measure` runs each
//! under callgrind with two numbers of rounds and divides the difference, so that start-up does not
//! count. Without arguments: prints allocations per operation, and checks that all candidates
//! agree on the bytes. The result is in `docs/decisions/0001-protobuf-crate.md`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

#[allow(warnings)]
mod prost_vec {
    include!(concat!(env!("OUT_DIR"), "/prost/myriad.v1.rs"));
}
#[allow(warnings)]
mod prost_bytes {
    include!(concat!(env!("OUT_DIR"), "/prost_bytes/myriad.v1.rs"));
}
#[allow(warnings)]
mod buffa_views {
    include!(concat!(env!("OUT_DIR"), "/buffa/buffa_include.rs"));
}
#[allow(warnings)]
mod quick {
    pub mod myriad {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/quick/myriad/v1.rs"));
        }
    }
}

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting has no say in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const CLIENT_ID: u64 = 123_456;
const BASE: u64 = 123_450;
const MAP: u64 = 0b1010;
const PEER: u64 = 9_876_543_210;
const POSITION: u64 = 58_000_000 << 32 | 4_000_000;
const TIME_MS: u64 = 1_790_000_000_000;
const DEVICE: u32 = 3;
const CANDIDATES: [&str; 5] = ["prost", "prost-bytes", "buffa-views", "quick", "wire"];

fn send_bytes() -> Vec<u8> {
    let payload = [0x5a; 150];
    let mut bytes = Vec::new();
    wire::ClientFrame::Send(wire::Send {
        client_id: CLIENT_ID,
        confirmed: wire::Confirmed { base: BASE, map: MAP },
        to: wire::Stream::User(PEER),
        payload: &payload,
        ttl_seconds: 0,
        kind: 0,
        relation: None,
        automatic: false,
    })
    .encode(&mut bytes);
    bytes
}

/// Decodes; returns what the path needs of a `Send`: id, confirmed, recipient, payload length.
fn decode(candidate: &str, rounds: u64) -> u64 {
    let bytes = send_bytes();
    let shared = bytes::Bytes::from(bytes.clone());
    let mut sum = 0_u64;
    for _ in 0..rounds {
        let bytes = black_box(&bytes[..]);
        sum += match candidate {
            "prost" => decode_prost(bytes),
            "prost-bytes" => decode_prost_bytes(black_box(&shared)),
            "buffa-views" => decode_buffa(bytes),
            "quick" => decode_quick(bytes),
            "wire" => decode_wire(bytes),
            other => panic!("no candidate {other}"),
        };
    }
    sum
}

#[inline(never)]
fn decode_prost(bytes: &[u8]) -> u64 {
    use prost::Message as _;
    use prost_vec::{client_frame::Body, send::To};
    match prost_vec::ClientFrame::decode(bytes).unwrap().body {
        Some(Body::Send(send)) => {
            let Some(To::User(user)) = send.to else { panic!() };
            send.client_id + send.confirmed.unwrap().base + user + send.payload.len() as u64
        }
        _ => panic!(),
    }
}

#[inline(never)]
fn decode_prost_bytes(bytes: &bytes::Bytes) -> u64 {
    use prost::Message as _;
    use prost_bytes::{client_frame::Body, send::To};
    match prost_bytes::ClientFrame::decode(bytes.clone()).unwrap().body {
        Some(Body::Send(send)) => {
            let Some(To::User(user)) = send.to else { panic!() };
            send.client_id + send.confirmed.unwrap().base + user + send.payload.len() as u64
        }
        _ => panic!(),
    }
}

#[inline(never)]
fn decode_buffa(bytes: &[u8]) -> u64 {
    use buffa::MessageView as _;
    use buffa_views::myriad::v1::__buffa::view::oneof::{client_frame::Body, send::To};
    use buffa_views::myriad::v1::ClientFrameView;
    match ClientFrameView::decode_view(bytes).unwrap().body {
        Some(Body::Send(send)) => {
            let Some(To::User(user)) = send.to else { panic!() };
            let base = send.confirmed.as_option().unwrap().base;
            send.client_id + base + user + send.payload.len() as u64
        }
        _ => panic!(),
    }
}

#[inline(never)]
fn decode_quick(bytes: &[u8]) -> u64 {
    use quick::myriad::v1::{ClientFrame, mod_ClientFrame::OneOfbody, mod_Send::OneOfto};
    use quick_protobuf::{BytesReader, MessageRead as _};
    let mut reader = BytesReader::from_bytes(bytes);
    match ClientFrame::from_reader(&mut reader, bytes).unwrap().body {
        OneOfbody::send(send) => {
            let OneOfto::user(user) = send.to else { panic!() };
            send.client_id + send.confirmed.unwrap().base + user + send.payload.len() as u64
        }
        _ => panic!(),
    }
}

#[inline(never)]
fn decode_wire(bytes: &[u8]) -> u64 {
    match wire::ClientFrame::decode(bytes).unwrap() {
        wire::ClientFrame::Send(send) => {
            let wire::Stream::User(user) = send.to else { panic!() };
            send.client_id + send.confirmed.base + user + send.payload.len() as u64
        }
        _ => panic!(),
    }
}

/// Encodes a `Deliver` with its WebSocket header's worth of knowledge: the length comes first.
fn encode(candidate: &str, rounds: u64, out: &mut Vec<u8>) {
    let payload = [0x5a; 150];
    let shared = bytes::Bytes::copy_from_slice(&payload);
    for _ in 0..rounds {
        let payload = black_box(&payload[..]);
        out.clear();
        match candidate {
            "prost" => encode_prost(payload, out),
            "prost-bytes" => encode_prost_bytes(black_box(&shared), out),
            "buffa-views" => encode_buffa(payload, out),
            "quick" => encode_quick(payload, out),
            "wire" => encode_wire(payload, out),
            other => panic!("no candidate {other}"),
        }
        black_box(&out);
    }
}

macro_rules! prost_encode {
    ($name:ident, $module:ident, $payload:ty, $own:expr) => {
        #[inline(never)]
        fn $name(payload: $payload, out: &mut Vec<u8>) {
            use prost::Message as _;
            let frame = $module::ServerFrame {
                body: Some($module::server_frame::Body::Deliver($module::Deliver {
                    position: POSITION,
                    id: Some($module::MessageId {
                        sender: PEER,
                        device: DEVICE,
                        client_id: CLIENT_ID,
                    }),
                    time_ms: TIME_MS,
                    payload: $own(payload),
                    ..Default::default()
                })),
            };
            frame.encode(out).unwrap();
        }
    };
}
prost_encode!(encode_prost, prost_vec, &[u8], <[u8]>::to_vec);
prost_encode!(encode_prost_bytes, prost_bytes, &bytes::Bytes, bytes::Bytes::clone);

#[inline(never)]
fn encode_buffa(payload: &[u8], out: &mut Vec<u8>) {
    use buffa::{MessageFieldView, ViewEncode as _};
    use buffa_views::myriad::v1::__buffa::view::oneof::server_frame::Body;
    use buffa_views::myriad::v1::{DeliverView, MessageIdView, ServerFrameView};
    let mut deliver = DeliverView::default();
    deliver.position = POSITION;
    let mut id = MessageIdView::default();
    id.sender = PEER;
    id.device = DEVICE;
    id.client_id = CLIENT_ID;
    deliver.id = MessageFieldView::set(id);
    deliver.time_ms = TIME_MS;
    deliver.payload = payload;
    let mut frame = ServerFrameView::default();
    frame.body = Some(Body::Deliver(Box::new(deliver)));
    frame.encode(out);
}

#[inline(never)]
fn encode_quick(payload: &[u8], out: &mut Vec<u8>) {
    use quick::myriad::v1::{Deliver, MessageId, ServerFrame, mod_ServerFrame::OneOfbody};
    use quick_protobuf::{MessageWrite as _, Writer};
    let frame = ServerFrame {
        body: OneOfbody::deliver(Deliver {
            position: POSITION,
            id: Some(MessageId { sender: PEER, device: DEVICE, client_id: CLIENT_ID }),
            time_ms: TIME_MS,
            payload: payload.into(),
            ..Default::default()
        }),
    };
    frame.write_message(&mut Writer::new(out)).unwrap();
}

#[inline(never)]
fn encode_wire(payload: &[u8], out: &mut Vec<u8>) {
    wire::ServerFrame::Deliver(wire::Deliver {
        stream: None,
        position: POSITION,
        id: wire::MessageId { sender: PEER, device: DEVICE, client_id: CLIENT_ID },
        time_ms: TIME_MS,
        kind: 0,
        payload,
        relation: None,
        to: None,
        to_position: 0,
        change: None,
        request: false,
    })
    .encode(out);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, candidate, operation, rounds] = &arguments[..] {
        let rounds = rounds.parse().expect("ROUNDS is a number");
        match operation.as_str() {
            "decode" => assert!(decode(candidate, rounds) > 0 || rounds == 0),
            "encode" => encode(candidate, rounds, &mut Vec::with_capacity(1024)),
            other => panic!("no operation {other}"),
        }
        return;
    }
    let mut expected = Vec::new();
    encode("wire", 1, &mut expected);
    for candidate in CANDIDATES {
        let mut out = Vec::with_capacity(1024);
        encode(candidate, 1, &mut out);
        assert_eq!(out, expected, "{candidate} writes other bytes");
        assert_eq!(decode(candidate, 1), decode("wire", 1), "{candidate} reads other values");
        let start = ALLOCATIONS.load(Ordering::Relaxed);
        decode(candidate, 0);
        let middle = ALLOCATIONS.load(Ordering::Relaxed);
        decode(candidate, 1_000);
        let decoded = ALLOCATIONS.load(Ordering::Relaxed) - middle - (middle - start);
        let start = ALLOCATIONS.load(Ordering::Relaxed);
        encode(candidate, 0, &mut out);
        let middle = ALLOCATIONS.load(Ordering::Relaxed);
        encode(candidate, 1_000, &mut out);
        let encoded = ALLOCATIONS.load(Ordering::Relaxed) - middle - (middle - start);
        println!(
            "{candidate:12} allocations: decode Send {:.0}, encode Deliver {:.0}",
            decoded as f64 / 1e3,
            encoded as f64 / 1e3
        );
    }
}
