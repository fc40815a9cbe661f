//! Bytes of a connection to events: both transports, however the bytes are split.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use proptest::prelude::*;
use wire::*;

const FRAME_BYTES_MAX: usize = 70_000;

/// An event that owns its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    Opened,
    Upgraded,
    Frame(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(u16),
    Failed(FrameError),
}

fn seen(event: Event<'_>) -> Option<Seen> {
    match event {
        Event::More { .. } | Event::Skip => None,
        Event::Opened => Some(Seen::Opened),
        Event::Upgraded(_) => Some(Seen::Upgraded),
        Event::Frame(bytes) => Some(Seen::Frame(bytes.to_vec())),
        Event::Ping(bytes) => Some(Seen::Ping(bytes.to_vec())),
        Event::Pong => Some(Seen::Pong),
        Event::Close { code } => Some(Seen::Close(code)),
    }
}

/// A connection as a caller keeps it: bytes not used up, parser, fragments.
struct Reader {
    parser: Parser,
    kept: Vec<u8>,
    assembly: Vec<u8>,
    frame_bytes_max: usize,
    seen: Vec<Seen>,
    failed: bool,
}

impl Reader {
    fn new(parser: Parser, frame_bytes_max: usize) -> Self {
        let (kept, assembly, seen) = (Vec::new(), Vec::new(), Vec::new());
        Self { parser, kept, assembly, frame_bytes_max, seen, failed: false }
    }

    /// Takes what arrived; `put_back` has every unit parsed once more from the same bytes.
    fn arrived(&mut self, bytes: &[u8], put_back: bool) {
        self.kept.extend_from_slice(bytes);
        let policy = Policy { frame_bytes_max: self.frame_bytes_max, origins: &[] };
        let mut start = 0;
        while !self.failed {
            if put_back {
                let (parser, assembled) = (self.parser, self.assembly.len());
                let fragmented = parser.is_fragmented();
                let first = self.parser.next(&mut self.kept[start..], &mut self.assembly, &policy);
                let first = first.map(|(used, event)| (used, seen(event)));
                self.parser = parser;
                self.assembly.truncate(if fragmented { assembled } else { 0 });
                let (mut again, mut assembly) = (self.parser, self.assembly.clone());
                let mut copy = self.kept[start..].to_vec();
                let second = again.next(&mut copy, &mut assembly, &policy);
                assert_eq!(second.map(|(used, event)| (used, seen(event))), first);
            }
            match self.parser.next(&mut self.kept[start..], &mut self.assembly, &policy) {
                Ok((used, event)) => {
                    if let Event::Frame(frame) = event {
                        assert!(frame.len() <= self.frame_bytes_max);
                    }
                    if let Event::More { missing } = event {
                        assert!(missing > 0);
                        self.kept.drain(..start + used);
                        break;
                    }
                    assert!(used > 0, "{event:?} uses nothing up");
                    start += used;
                    self.seen.extend(seen(event));
                }
                Err(error) => {
                    self.seen.push(Seen::Failed(error));
                    self.failed = true;
                }
            }
            assert!(self.assembly.len() <= self.frame_bytes_max);
        }
    }

    fn read_all(parser: Parser, bytes: &[u8], cuts: &[usize], put_back: bool) -> Vec<Seen> {
        let mut reader = Self::new(parser, FRAME_BYTES_MAX);
        let mut start = 0;
        for cut in cuts {
            let end = start.max(*cut);
            reader.arrived(&bytes[start..end], put_back);
            start = end;
        }
        reader.arrived(&bytes[start..], put_back);
        reader.seen
    }
}

/// A parser that is past the upgrade.
fn upgraded() -> Parser {
    let mut parser = Parser::server();
    let mut request = request("");
    let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX, origins: &[] };
    parser.next(&mut request, &mut Vec::new(), &policy).unwrap();
    parser
}

fn request(extra: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    client_handshake("chat.example", "/v1/chat", [7; 16], &mut bytes);
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(extra.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A WebSocket frame written by hand, lengths minimal.
fn websocket_frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(bit | u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            bytes.push(bit | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    match mask {
        None => bytes.extend_from_slice(payload),
        Some(key) => {
            bytes.extend(key);
            bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
        }
    }
    bytes
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    websocket_frame(first, Some(KEY), payload)
}

fn from_client(bytes: &[u8]) -> Vec<Seen> {
    Reader::read_all(upgraded(), bytes, &[], false)
}

fn from_server(bytes: &[u8]) -> Vec<Seen> {
    Reader::read_all(Parser::client(Transport::WebSocket), bytes, &[], false)
}

/// What a well-behaved client does on a WebSocket, with what a server must see of it.
#[derive(Clone, Debug)]
enum Deed {
    Whole(Vec<u8>),
    Fragments(Vec<Vec<u8>>, Option<Vec<u8>>),
    Ping(Vec<u8>),
    Pong,
}

fn deed() -> impl Strategy<Value = Deed> {
    let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
    prop_oneof![
        3 => bytes(400).prop_map(Deed::Whole),
        1 => Just(Deed::Whole(vec![5; 66_000])),
        2 => (proptest::collection::vec(bytes(90), 2..5), proptest::option::of(bytes(20)))
            .prop_map(|(fragments, between)| Deed::Fragments(fragments, between)),
        1 => bytes(126).prop_map(Deed::Ping),
        1 => Just(Deed::Pong),
    ]
}

fn play(deeds: &[Deed], mask: Option<[u8; 4]>) -> (Vec<u8>, Vec<Seen>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for deed in deeds {
        match deed {
            Deed::Whole(payload) => {
                bytes.extend(websocket_frame(0x82, mask, payload));
                expected.push(Seen::Frame(payload.clone()));
            }
            Deed::Fragments(fragments, between) => {
                let last = fragments.len() - 1;
                for (at, fragment) in fragments.iter().enumerate() {
                    let fin = if at == last { 0x80 } else { 0 };
                    let opcode = if at == 0 { 2 } else { 0 };
                    bytes.extend(websocket_frame(fin | opcode, mask, fragment));
                    if let Some(payload) = between.as_ref().filter(|_| at == 0) {
                        bytes.extend(websocket_frame(0x89, mask, payload));
                        expected.push(Seen::Ping(payload.clone()));
                    }
                }
                expected.push(Seen::Frame(fragments.concat()));
            }
            Deed::Ping(payload) => {
                bytes.extend(websocket_frame(0x89, mask, payload));
                expected.push(Seen::Ping(payload.clone()));
            }
            Deed::Pong => {
                bytes.extend(websocket_frame(0x8a, mask, b"x"));
                expected.push(Seen::Pong);
            }
        }
    }
    bytes.extend(websocket_frame(0x88, mask, &[0x03, 0xe8, b'b', b'y', b'e']));
    expected.push(Seen::Close(1000));
    (bytes, expected)
}

fn cuts(total: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..=total, 0..20).prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_split_of_a_websocket_gives_the_same_events(
        (deeds, mask, cuts) in (proptest::collection::vec(deed(), 0..6), any::<[u8; 4]>())
            .prop_flat_map(|(deeds, mask)| {
                let total = play(&deeds, Some(mask)).0.len();
                (Just(deeds), Just(mask), cuts(total + request("").len()))
            }),
        put_back in any::<bool>(),
    ) {
        let (frames, expected) = play(&deeds, Some(mask));
        let bytes = [request(""), frames].concat();
        let expected: Vec<_> = [vec![Seen::Upgraded], expected].concat();
        prop_assert_eq!(Reader::read_all(Parser::server(), &bytes, &cuts, put_back), expected);
    }

    #[test]
    fn a_client_reads_the_same_from_an_unmasked_server(
        deeds in proptest::collection::vec(deed(), 0..6),
        cuts in cuts(2_000),
    ) {
        let (bytes, expected) = play(&deeds, None);
        let cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
        let parser = Parser::client(Transport::WebSocket);
        prop_assert_eq!(Reader::read_all(parser, &bytes, &cuts, true), expected);
    }

    #[test]
    fn any_split_of_tcp_gives_the_same_events(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
        cuts in cuts(1_500),
    ) {
        let mut bytes = TCP_PREAMBLE.to_vec();
        let mut expected = vec![Seen::Opened];
        for frame in &frames {
            bytes.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
            bytes.extend(frame);
            expected.push(Seen::Frame(frame.clone()));
        }
        let cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
        prop_assert_eq!(Reader::read_all(Parser::server(), &bytes, &cuts, true), expected);
    }

    #[test]
    fn garbage_never_panics_and_never_passes_the_bound(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        opening in 0..4,
        frame_bytes_max in 0_usize..200,
    ) {
        let (parser, opening) = match opening {
            0 => (Parser::server(), vec![]),
            1 => (Parser::server(), TCP_PREAMBLE.to_vec()),
            2 => (upgraded(), vec![]),
            _ => (Parser::client(Transport::WebSocket), vec![]),
        };
        let mut reader = Reader::new(parser, frame_bytes_max);
        reader.arrived(&[opening, bytes].concat(), true);
    }

    #[test]
    fn damage_to_a_websocket_is_survived(
        deeds in proptest::collection::vec(deed(), 1..5),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = play(&deeds, Some(KEY)).0;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        Reader::read_all(upgraded(), &bytes, &[], true);
    }

    #[test]
    fn what_one_side_writes_the_other_reads(parts in support::parts(), mask in any::<[u8; 4]>()) {
        for transport in [Transport::Tcp, Transport::WebSocket] {
            let mut bytes = vec![];
            write_server_frame(transport, &parts.server_frame(), &mut bytes);
            let mut parser = Parser::client(transport);
            let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX, origins: &[] };
            let length = bytes.len();
            let mut assembly = Vec::new();
            let (used, event) = parser.next(&mut bytes, &mut assembly, &policy).unwrap();
            prop_assert_eq!(used, length);
            let Event::Frame(frame) = event else { panic!("{event:?}") };
            prop_assert_eq!(ServerFrame::decode(frame), Ok(parts.server_frame()));

            let (mut parser, mut bytes) = match transport {
                Transport::WebSocket => (upgraded(), vec![]),
                _ => (Parser::server(), TCP_PREAMBLE.to_vec()),
            };
            write_client_frame(transport, mask, &parts.client_frame(), &mut bytes);
            let mut start = 0;
            let frame = loop {
                match parser.next(&mut bytes[start..], &mut assembly, &policy).unwrap() {
                    (used, Event::Opened) => start += used,
                    (_, Event::Frame(frame)) => break frame.to_vec(),
                    other => panic!("{other:?}"),
                }
            };
            prop_assert_eq!(ClientFrame::decode(&frame), Ok(parts.client_frame()));
        }
    }
}

#[test]
fn rfc_6455_section_5_7_examples() {
    // "Hello", as text (which Myriad does not speak), unmasked and masked.
    let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(from_server(&hello), [Seen::Failed(FrameError::TextMessage)]);
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(from_client(&hello), [Seen::Failed(FrameError::TextMessage)]);
    // The same bytes as binary messages.
    let mut binary = hello;
    binary[0] = 0x82;
    assert_eq!(from_client(&binary), [Seen::Frame(b"Hello".to_vec())]);
    // In two fragments, unmasked (text in the RFC).
    let fragments = [0x02, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    assert_eq!(from_server(&fragments), [Seen::Frame(b"Hello".to_vec())]);
    // An unmasked ping and its masked pong.
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(from_server(&ping), [Seen::Ping(b"Hello".to_vec())]);
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(from_client(&pong), [Seen::Pong]);
    let mut written = Vec::new();
    write_control(Control::Pong(b"Hello"), Some(KEY), &mut written);
    assert_eq!(written, pong);
    // 256 bytes and 64 KiB, unmasked.
    let bytes = [&[0x82, 0x7e, 0x01, 0x00][..], &[1; 256]].concat();
    assert_eq!(from_server(&bytes), [Seen::Frame(vec![1; 256])]);
    let bytes = [&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0][..], &[1; 65_536]].concat();
    assert_eq!(from_server(&bytes), [Seen::Frame(vec![1; 65_536])]);
}

#[test]
fn every_broken_rule_of_websocket_is_named() {
    let failure = |bytes: &[u8]| match from_client(bytes).pop() {
        Some(Seen::Failed(error)) => error,
        other => panic!("{other:?}"),
    };
    for bit in [0x40, 0x20, 0x10] {
        assert_eq!(failure(&[0x82 | bit]), FrameError::ReservedBits);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(failure(&[0x80 | opcode]), FrameError::UnknownOpcode);
    }
    assert_eq!(failure(&[0x81]), FrameError::TextMessage);
    assert_eq!(failure(&[0x82, 0x00]), FrameError::Unmasked);
    assert_eq!(from_server(&[0x82, 0x80]), [Seen::Failed(FrameError::Masked)]);
    assert_eq!(failure(&[0x09]), FrameError::ControlFragmented);
    assert_eq!(failure(&[0x89, 0xfe]), FrameError::ControlTooLong);
    assert_eq!(failure(&[0x82, 0xfe, 0, 125]), FrameError::LengthMalformed);
    assert_eq!(failure(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), FrameError::LengthMalformed);
    assert_eq!(failure(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0]), FrameError::LengthMalformed);
    assert_eq!(failure(&[0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0]), FrameError::FrameTooLarge);
    assert_eq!(failure(&masked(0x80, b"x")), FrameError::ContinuationUnexpected);
    assert_eq!(failure(&masked(0x00, b"x")), FrameError::ContinuationUnexpected);
    let interrupted = [masked(0x02, b"x"), masked(0x82, b"y")].concat();
    assert_eq!(failure(&interrupted), FrameError::MessageInterrupted);
    assert_eq!(failure(&masked(0x88, b"x")), FrameError::CloseMalformed);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        assert_eq!(failure(&masked(0x88, &code.to_be_bytes())), FrameError::CloseCodeInvalid);
    }
    assert_eq!(failure(&masked(0x88, &[3, 0xe8, 0xff])), FrameError::CloseReasonNotText);
    assert_eq!(FrameError::CloseReasonNotText.close_code(), 1007);
}

#[test]
fn the_bound_holds_over_all_fragments_and_at_header_time() {
    let mut reader = Reader::new(upgraded(), 100);
    reader.arrived(&masked(0x02, &[1; 60]), false);
    reader.arrived(&masked(0x00, &[]), false);
    reader.arrived(&masked(0x89, &[2; 125]), false); // a control frame is not part of it
    reader.arrived(&masked(0x00, &[1; 40]), false);
    reader.arrived(&masked(0x00, &[1; 1])[..2], false); // not even the mask is there
    assert_eq!(reader.seen, [Seen::Ping(vec![2; 125]), Seen::Failed(FrameError::FrameTooLarge)]);
}

#[test]
fn nothing_is_read_after_a_close() {
    let bytes = [masked(0x88, &[]), masked(0x82, b"late"), vec![0xff; 40]].concat();
    assert_eq!(from_client(&bytes), [Seen::Close(1005)]);
}

#[test]
fn a_huge_tcp_length_is_refused_at_once() {
    let bytes = [&TCP_PREAMBLE[..], &u32::MAX.to_le_bytes()].concat();
    let expected = [Seen::Opened, Seen::Failed(FrameError::FrameTooLarge)];
    assert_eq!(Reader::read_all(Parser::server(), &bytes, &[], false), expected);
}

#[test]
fn the_transport_shows_in_the_first_bytes() {
    let failure = |bytes: &[u8]| Reader::read_all(Parser::server(), bytes, &[], false);
    assert_eq!(failure(b"MYR\x02"), [Seen::Failed(FrameError::UnknownVersion)]);
    assert_eq!(failure(&[0x16, 3, 1]), [Seen::Failed(FrameError::TlsOnPlaintext)]);
    for bytes in [&b"\0"[..], b"get / HTTP/1.1", b"MYS\x01", b"SSH-2.0", b"AAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(failure(bytes), [Seen::Failed(FrameError::UnknownPreamble)], "{bytes:?}");
    }
    for bytes in [&b""[..], b"M", b"MY", b"MYR", b"G", b"GET", b"GET "] {
        assert_eq!(failure(bytes), [], "{bytes:?} may still become something");
    }
}

#[test]
fn a_message_that_comes_byte_by_byte_costs_its_length() {
    // The parser sees a growing buffer 65,540 times; were a call to look at more than the header,
    // this would touch two billion bytes. What `missing` says is exact.
    let mut bytes = masked(0x82, &vec![9; 65_536]);
    let mut parser = upgraded();
    let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX, origins: &[] };
    let total = bytes.len();
    let mut assembly = Vec::new();
    for have in 10..total {
        let event = parser.next(&mut bytes[..have], &mut assembly, &policy);
        assert_eq!(event, Ok((0, Event::More { missing: total - have })));
    }
    let (used, event) = parser.next(&mut bytes, &mut assembly, &policy).unwrap();
    assert_eq!((used, event), (total, Event::Frame(&[9; 65_536])));
}

#[test]
fn goodbye_leaves_with_a_close_frame() {
    let goodbye = Goodbye { reason: Parting::Silent, retry_after_ms: 0, detail: "" };
    let mut bytes = Vec::new();
    write_goodbye(Transport::WebSocket, &goodbye, goodbye.reason.close_code(), &mut bytes);
    let seen = from_server(&bytes);
    assert_eq!(seen[1], Seen::Close(4010));
    bytes.clear();
    write_goodbye(Transport::Undecided, &goodbye, 1000, &mut bytes);
    assert!(bytes.is_empty());
}

#[test]
fn control_frames_are_cut_to_what_they_may_carry() {
    let mut bytes = Vec::new();
    let reason = "é".repeat(100);
    write_control(Control::Close { code: 1000, reason: &reason }, None, &mut bytes);
    assert_eq!(from_server(&bytes), [Seen::Close(1000)]);
    assert_eq!(bytes.len(), 2 + 2 + 122);
    bytes.clear();
    write_control(Control::Close { code: 1005, reason: "none" }, Some(KEY), &mut bytes);
    assert_eq!(from_client(&bytes), [Seen::Close(1005)]);
    bytes.clear();
    write_control(Control::Ping(&[1; 200]), None, &mut bytes);
    assert_eq!(from_server(&bytes), [Seen::Ping(vec![1; 125])]);
}
