//! The frames of the message path cost no allocation, on either transport.

#![allow(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use wire::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches only a cell of the
// thread that needs neither allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const ID: MessageId = MessageId { sender: 42, device: 1, client_id: 301 };
const CONFIRMED: Confirmed = Confirmed { base: 300, map: 6 };

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn reading_a_turns_frames_allocates_nothing() {
    let payload = [7; 150];
    let frames = [
        ClientFrame::Send(Send {
            client_id: 309,
            confirmed: CONFIRMED,
            to: Stream::User(43),
            payload: &payload,
            ttl_seconds: 1,
            kind: 1,
            relation: Some(Relation { kind: 1, target: ID }),
            automatic: false,
        }),
        ClientFrame::Ack(Ack { stream: Some(Stream::User(1)), up_to: 5 }),
        ClientFrame::Read(Read { stream: Some(Stream::User(1)), up_to: 5, automatic: false }),
        ClientFrame::Ping(Ping { active: true, confirmed: CONFIRMED, answer: true }),
        ClientFrame::Typing(Typing { to: Stream::User(1), stopped: false }),
        ClientFrame::Hello(Hello {
            token: "t",
            resume_after: 1,
            confirmed: CONFIRMED,
            active: true,
        }),
    ];
    for transport in [Transport::Tcp, Transport::WebSocket] {
        let mut parser = Parser::server();
        let policy = Policy { frame_bytes_max: 70_000, origins: &[] };
        let mut input = TCP_PREAMBLE.to_vec();
        if transport == Transport::WebSocket {
            input.clear();
            client_handshake("chat.example", "/v1/chat", [7; 16], &mut input);
        }
        for frame in &frames {
            write_client_frame(transport, [1, 2, 3, 4], frame, &mut input);
        }
        let mut assembly = Vec::new();
        let mut out = Vec::with_capacity(1_024);
        let mut decoded = 0;
        let allocations = allocations_of(|| {
            let mut start = 0;
            loop {
                let (used, event) = match parser.next(&mut input[start..], &mut assembly, &policy) {
                    Ok(next) => next,
                    Err(error) => panic!("{error}"),
                };
                start += used;
                match event {
                    Event::More { .. } => break,
                    Event::Upgraded(handshake) => handshake.write_response(&mut out),
                    Event::Frame(frame) => {
                        assert!(ClientFrame::decode(frame).is_ok());
                        decoded += 1;
                    }
                    _ => {}
                }
            }
        });
        assert_eq!(decoded, frames.len());
        assert_eq!(allocations, 0, "{transport:?}");
    }
}

#[test]
fn writing_a_turns_frames_allocates_nothing() {
    let payload = [7; 150];
    let frames = [
        ServerFrame::Sent(Sent { client_id: 309, position: 5, time_ms: 6 }),
        ServerFrame::Deliver(Deliver {
            stream: Some(Stream::Group(2)),
            position: 5,
            id: ID,
            time_ms: 6,
            kind: 7,
            payload: &payload,
            relation: Some(Relation { kind: 1, target: ID }),
            to: Some(Stream::User(43)),
            to_position: 1,
            change: None,
            request: false,
        }),
        ServerFrame::Receipt(Receipt {
            stream: Some(Stream::User(43)),
            after: 1,
            up_to: 2,
            mark: Mark::Has,
        }),
        ServerFrame::Refused(Refused {
            client_id: 1,
            reason: Refusal::Held,
            retriable: true,
            retry_after_ms: 1,
            next_client_id: 0,
        }),
        ServerFrame::Pong(Pong { server_time_ms: 1, heartbeat_ms: 2 }),
    ];
    let mut out = Vec::with_capacity(4_096);
    for transport in [Transport::Tcp, Transport::WebSocket] {
        out.clear();
        let allocations = allocations_of(|| {
            for frame in &frames {
                write_server_frame(transport, frame, &mut out);
            }
            write_control(Control::Pong(b"x"), None, &mut out);
        });
        assert_eq!(allocations, 0, "{transport:?}");
        assert!(out.len() > payload.len());
    }
}
