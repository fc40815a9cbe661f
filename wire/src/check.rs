//! What must hold for any bytes whatever: the bodies of the fuzz targets in `fuzz/`.
//!
//! Built only for tests and for the fuzzers (feature `check`). Each function takes bytes nobody
//! vouches for and panics if a promise of the crate is broken. Deliberately not here: what valid
//! bytes mean (`wire/tests/`).

use crate::framing::{Event, FrameError, Parser, Policy, TCP_PREAMBLE, Transport};
use crate::handshake::{HANDSHAKE_BYTES_MAX, check_handshake_response, client_handshake};
use crate::{ClientFrame, ServerFrame};

/// Decoding never panics, and what was decoded comes back from its own encoding.
pub fn frame(data: &[u8]) {
    let mut bytes = Vec::new();
    if let Ok(frame) = ClientFrame::decode(data) {
        frame.encode(&mut bytes);
        assert_eq!(frame.encoded_len(), bytes.len());
        assert_eq!(ClientFrame::decode(&bytes), Ok(frame));
    }
    bytes.clear();
    if let Ok(frame) = ServerFrame::decode(data) {
        frame.encode(&mut bytes);
        assert_eq!(frame.encoded_len(), bytes.len());
        assert_eq!(ServerFrame::decode(&bytes), Ok(frame));
    }
}

/// An upgrade is granted or refused within its bounds, and a client's check never panics.
pub fn handshake(data: &[u8]) {
    let origins = ["https://web.example".to_string()];
    let policy = Policy { frame_bytes_max: 1_000, origins: &origins };
    let whole = events(Parser::server(), data, data.len(), &policy);
    let split = events(Parser::server(), data, 1, &policy);
    assert_eq!(whole, split, "bytes one by one are the same bytes");
    if let Ok(Some(used)) = check_handshake_response([7; 16], data) {
        assert!(used <= data.len());
    }
    // Whatever stands in the fields of a request that is well-formed otherwise.
    let mut request = Vec::new();
    client_handshake("chat.example", "/v1/chat", [7; 16], &mut request);
    request.truncate(request.len() - 2);
    request.extend_from_slice(b"Origin: ");
    request.extend_from_slice(data);
    request.extend_from_slice(b"\r\n\r\n");
    let first = events(Parser::server(), &request, request.len(), &policy).into_iter().next();
    if let Some(Seen::Upgraded) = first {
        assert!(data.len() < HANDSHAKE_BYTES_MAX);
    }
}

/// Framing never panics, never passes its bound, and does not depend on how bytes are split.
/// The first three bytes choose the side, the bound and the split.
pub fn websocket(data: &[u8]) {
    let [side, bound, stride, data @ ..] = data else { return };
    let policy = Policy { frame_bytes_max: usize::from(*bound) * 4, origins: &[] };
    let parser = match side % 4 {
        0 => Parser::client(Transport::WebSocket),
        1 => Parser::client(Transport::Tcp),
        2 => server_after(&TCP_PREAMBLE),
        _ => {
            let mut request = Vec::new();
            client_handshake("chat.example", "/", [7; 16], &mut request);
            server_after(&request)
        }
    };
    let whole = events(parser, data, data.len(), &policy);
    let split = events(parser, data, usize::from(*stride).max(1), &policy);
    assert_eq!(whole, split, "splitting bytes changed their meaning");
}

fn server_after(opening: &[u8]) -> Parser {
    let mut parser = Parser::server();
    let policy = Policy { frame_bytes_max: 0, origins: &[] };
    let opened = parser.next(&mut opening.to_vec(), &mut Vec::new(), &policy).map(|_| ());
    assert_eq!(opened, Ok(()));
    parser
}

/// An event that owns its bytes.
#[derive(PartialEq, Eq, Debug)]
enum Seen {
    Upgraded,
    Opened,
    Frame(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(u16),
    Failed(FrameError),
}

/// All events of `data` arriving `stride` bytes at a time, with every promise of the parser's
/// contract checked on the way.
fn events(mut parser: Parser, data: &[u8], stride: usize, policy: &Policy<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut kept = Vec::new();
    let mut assembly = Vec::new();
    for arrived in data.chunks(stride.max(1)) {
        kept.extend_from_slice(arrived);
        let mut start = 0;
        loop {
            let available = kept.len() - start;
            let (used, event) = match parser.next(&mut kept[start..], &mut assembly, policy) {
                Ok(next) => next,
                Err(error) => {
                    seen.push(Seen::Failed(error));
                    return seen;
                }
            };
            assert!(used <= available);
            start += used;
            match event {
                Event::More { missing } => {
                    assert!(missing > 0);
                    break;
                }
                Event::Upgraded(_) => seen.push(Seen::Upgraded),
                Event::Opened => seen.push(Seen::Opened),
                Event::Frame(bytes) => {
                    assert!(bytes.len() <= policy.frame_bytes_max);
                    seen.push(Seen::Frame(bytes.to_vec()));
                }
                Event::Ping(bytes) => {
                    assert!(bytes.len() <= crate::websocket::CONTROL_BYTES_MAX);
                    seen.push(Seen::Ping(bytes.to_vec()));
                }
                Event::Pong => seen.push(Seen::Pong),
                Event::Close { code } => seen.push(Seen::Close(code)),
                Event::Skip => {}
            }
            assert!(used > 0, "an event that uses nothing up would come again for ever");
            assert!(assembly.len() <= policy.frame_bytes_max);
        }
        kept.drain(..start);
    }
    seen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_promises_hold_for_garbage(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            super::frame(&data);
            super::handshake(&data);
            super::websocket(&data);
        }
    }
}
