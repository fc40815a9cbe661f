//! The upgrade: what is granted, what is refused and with which words.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use wire::*;

const NONCE: [u8; 16] = *b"the sample nonce";

fn request() -> String {
    let mut bytes = Vec::new();
    client_handshake("chat.example:8080", "/v1/chat", NONCE, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn answer(request: &str, origins: &[&str]) -> Result<Vec<u8>, FrameError> {
    let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
    let policy = Policy { frame_bytes_max: 1_000, origins: &origins };
    let mut bytes = request.as_bytes().to_vec();
    let length = bytes.len();
    let mut assembly = Vec::new();
    let (used, event) = Parser::server().next(&mut bytes, &mut assembly, &policy)?;
    let Event::Upgraded(handshake) = event else { panic!("{event:?}") };
    assert_eq!(used, length);
    let mut response = Vec::new();
    handshake.write_response(&mut response);
    Ok(response)
}

fn refusal(request: &str) -> FrameError {
    answer(request, &[]).unwrap_err()
}

/// The request with a line replaced (or, if `name` is new, added).
fn with(name: &str, value: &str) -> String {
    let mut lines: Vec<String> = request().lines().map(str::to_string).collect();
    lines.retain(|line| !line.is_empty() && !line.to_lowercase().starts_with(&name.to_lowercase()));
    if !value.is_empty() {
        lines.push(format!("{name}: {value}"));
    }
    lines.join("\r\n") + "\r\n\r\n"
}

#[test]
fn the_accept_of_rfc_6455_is_the_accept_here() {
    let response = answer(&with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), &[]).unwrap();
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(response.ends_with("\r\n\r\n"));
}

#[test]
fn both_halves_agree() {
    let mut response = answer(&request(), &[]).unwrap();
    let length = response.len();
    for cut in 0..length {
        assert_eq!(check_handshake_response(NONCE, &response[..cut]), Ok(None));
    }
    response.extend_from_slice(b"\x82\x00");
    assert_eq!(check_handshake_response(NONCE, &response), Ok(Some(length)));
    assert_eq!(check_handshake_response([1; 16], &response), Err(HandshakeError::WrongAccept));
}

#[test]
fn browsers_that_write_it_differently_are_granted() {
    assert!(answer(&with("Connection", "keep-alive, Upgrade"), &[]).is_ok());
    assert!(answer(&with("Upgrade", "WebSocket"), &[]).is_ok());
    assert!(answer(&with("Sec-WebSocket-Protocol", "other, myriad.v1"), &[]).is_ok());
    assert!(answer(&with("Sec-WebSocket-Extensions", "permessage-deflate"), &[]).is_ok());
    assert!(answer(&with("Content-Length", "0"), &[]).is_ok());
    for path in ["/", "/?", "/v1/chat?x=1"] {
        assert!(answer(&request().replace("/v1/chat", path), &[]).is_ok(), "{path}");
    }
}

#[test]
fn every_other_request_is_refused_by_name() {
    use FrameError::*;
    assert_eq!(refusal("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), NotAnUpgrade);
    assert_eq!(refusal(&with("Upgrade", "h2c")), NotAnUpgrade);
    assert_eq!(refusal(&with("Connection", "keep-alive")), NotAnUpgrade);
    assert_eq!(refusal(&with("Sec-WebSocket-Version", "8")), WrongWebSocketVersion);
    assert_eq!(refusal(&with("Sec-WebSocket-Key", "")), BadKey);
    assert_eq!(refusal(&with("Sec-WebSocket-Key", "c2hvcnQ=")), BadKey);
    assert_eq!(refusal(&with("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!==")), BadKey);
    let twice =
        request().replace("\r\n\r\n", "\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    assert_eq!(refusal(&twice), BadKey);
    assert_eq!(refusal(&with("Sec-WebSocket-Protocol", "")), NoSubprotocol);
    assert_eq!(refusal(&with("Sec-WebSocket-Protocol", "myriad.v2, Myriad.v1")), NoSubprotocol);
    assert_eq!(refusal(&request().replace("GET ", "POST ")), NotGet);
    assert_eq!(refusal(&request().replace("/v1/chat", "/v2/chat")), UnknownPath);
    assert_eq!(refusal(&request().replace("/v1/chat", "/?access_token=x")), TokenInUrl);
    assert_eq!(refusal(&request().replace("HTTP/1.1", "HTTP/1.0")), HttpMalformed);
    assert_eq!(refusal(&with("Host", "")), HttpMalformed);
    assert_eq!(refusal(&request().replace("\r\n\r\n", "\r\nHost: y\r\n\r\n")), HttpMalformed);
    assert_eq!(refusal(&with("Transfer-Encoding", "chunked")), BodyAnnounced);
    assert_eq!(refusal(&with("Content-Length", "3")), BodyAnnounced);
    assert_eq!(refusal("GET / HTTP/1.1\r\nHost x\r\n\r\n"), HttpMalformed);
    assert_eq!(refusal("GET  \r\n\r\n"), HttpMalformed);
    let fields = "X: y\r\n".repeat(40);
    assert_eq!(refusal(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), HeadTooLarge);
    let long = "y".repeat(HANDSHAKE_BYTES_MAX);
    assert_eq!(refusal(&format!("GET / HTTP/1.1\r\nX: {long}")), HeadTooLarge);
}

#[test]
fn only_listed_origins_and_the_host_itself_may_come_from_a_browser() {
    let from = |origin: &str, origins: &[&str]| answer(&with("Origin", origin), origins).is_ok();
    assert!(from("http://chat.example:8080", &[]));
    assert!(from("HTTPS://CHAT.EXAMPLE:8080", &[]));
    assert!(!from("http://chat.example", &[]), "another port is another origin");
    assert!(!from("https://evil.example", &[]));
    assert!(!from("null", &[]));
    assert!(!from("chat.example:8080", &[]), "without a scheme it is none");
    assert!(from("https://web.example", &["https://web.example"]));
    assert!(!from("https://web.example.evil", &["https://web.example"]));
    assert!(from("null", &["*"]));
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let mut bytes = request().into_bytes();
    let policy = Policy { frame_bytes_max: 1_000, origins: &[] };
    let mut parser = Parser::server();
    let mut assembly = Vec::new();
    for have in 0..bytes.len() {
        let event = parser.next(&mut bytes[..have], &mut assembly, &policy);
        assert!(matches!(event, Ok((0, Event::More { .. }))), "{event:?}");
    }
    let event = parser.next(&mut bytes, &mut assembly, &policy);
    assert!(matches!(event, Ok((_, Event::Upgraded(_)))), "{event:?}");
    assert_eq!(parser.transport(), Transport::WebSocket);
}

#[test]
fn a_client_takes_only_what_it_asked_for() {
    let granted = String::from_utf8(answer(&request(), &[]).unwrap()).unwrap();
    let check = |text: &str| check_handshake_response(NONCE, text.as_bytes()).unwrap_err();
    assert_eq!(check("SSH-2.0\r\n\r\n"), HandshakeError::Malformed);
    for error in FrameError::ALL {
        let Some(response) = error.http_response() else { continue };
        assert!(matches!(check(response), HandshakeError::Status(400..500)), "{error:?}");
    }
    assert_eq!(check(&granted.replace("Upgrade: websocket", "X: y")), HandshakeError::NotAnUpgrade);
    assert_eq!(check(&granted.replace("myriad.v1", "other")), HandshakeError::WrongSubprotocol);
    let extended = granted.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n");
    assert_eq!(check(&extended), HandshakeError::Extension);
    let long = "y".repeat(HANDSHAKE_BYTES_MAX);
    assert_eq!(check(&long), HandshakeError::HeadTooLarge);
}

#[test]
fn a_client_request_cannot_be_split_by_its_parts() {
    let mut bytes = Vec::new();
    client_handshake("x\r\nEvil: 1", "/\r\n\r\n", NONCE, &mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("GET / HTTP/1.1\r\nHost: xEvil:1\r\n"), "{text}");
}

proptest! {
    #[test]
    fn garbage_heads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let policy = Policy { frame_bytes_max: 1_000, origins: &[] };
        let bytes = [b"GET ", &bytes[..], b"\r\n\r\n"].concat();
        let _ = Parser::server().next(&mut bytes.clone(), &mut Vec::new(), &policy);
        let _ = check_handshake_response(NONCE, &bytes);
    }

    #[test]
    fn damaged_heads_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let policy = Policy { frame_bytes_max: 1_000, origins: &[] };
        let mut bytes = request().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Parser::server().next(&mut bytes, &mut Vec::new(), &policy);
        let mut bytes = answer(&request(), &[]).unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        let _ = check_handshake_response(NONCE, &bytes);
    }
}
