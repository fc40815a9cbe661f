//! The HTTP upgrade, both halves.
//!
//! The server reads one request head of at most [`HANDSHAKE_BYTES_MAX`] and answers 101 or a 4xx
//! whose body says what to change; the client writes the request and checks the answer. `httparse`
//! does the parsing; whatever HTTP allows and a chat client does not need is refused.
//!
//! Invariants: no token in a URL; browsers connect only from listed Origins; no body, so no bytes
//! whose meaning a proxy and we could disagree on. Deliberately not here: extensions (none).

use crate::frame_error::FrameError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// The subprotocol both sides must name.
pub const SUBPROTOCOL: &str = "myriad.v1";
/// The most a request or answer head may have.
pub const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;
/// The most fields a head may have.
pub const HANDSHAKE_FIELDS_MAX: usize = 32;

/// The constant of RFC 6455 section 1.3 that a key is hashed with.
const ACCEPT_CONSTANT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Base64 of 20 bytes.
const ACCEPT_BYTES: usize = 28;

/// An upgrade that may be granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    accept: [u8; ACCEPT_BYTES],
}

impl Handshake {
    /// Appends the 101 answer.
    pub fn write_response(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
            Upgrade: websocket\r\n\
            Connection: Upgrade\r\n\
            Sec-WebSocket-Protocol: myriad.v1\r\n\
            Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// Why the answer to a client's upgrade is not a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not an HTTP/1.1 answer.
    #[error("the answer is not HTTP/1.1: is this a Myriad server?")]
    Malformed,
    /// The head is above [`HANDSHAKE_BYTES_MAX`] or has too many fields.
    #[error("the answer's head is too large")]
    HeadTooLarge,
    /// Another status than 101; the body says why.
    #[error("the server answered {0} instead of granting the upgrade")]
    Status(u16),
    /// `Upgrade` or `Connection` is missing.
    #[error("the answer is not an upgrade to WebSocket")]
    NotAnUpgrade,
    /// The key was not answered: something between cached or made up the answer.
    #[error("Sec-WebSocket-Accept does not answer our key")]
    WrongAccept,
    /// The server did not choose `myriad.v1`.
    #[error("the server does not speak myriad.v1")]
    WrongSubprotocol,
    /// The server uses an extension nobody offered.
    #[error("the server uses an extension that was not offered")]
    Extension,
}

/// Finds the end of a head; `searched` says how much of `input` was searched before without
/// success, so that a head that comes byte by byte costs its length only once.
pub(crate) fn head_end(input: &[u8], searched: usize) -> Option<usize> {
    // The end may straddle the border of what was searched: "\r\n\r\n" has 3 bytes before its last.
    let from = searched.saturating_sub(3).min(input.len());
    let found = input[from..].windows(4).position(|bytes| bytes == b"\r\n\r\n");
    found.map(|at| from + at + 4)
}

/// Judges a whole request head.
pub(crate) fn read_request(head: &[u8], origins: &[String]) -> Result<Handshake, FrameError> {
    let mut fields = [httparse::EMPTY_HEADER; HANDSHAKE_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(FrameError::HeadTooLarge),
        _ => return Err(FrameError::HttpMalformed),
    }
    if request.method != Some("GET") {
        return Err(FrameError::NotGet);
    }
    if request.version != Some(1) {
        return Err(FrameError::HttpMalformed);
    }
    check_target(request.path.unwrap_or_default())?;
    let fields = Fields(request.headers);
    let host = fields.once("Host").ok_or(FrameError::HttpMalformed)?;
    if fields.has("Transfer-Encoding") || fields.all("Content-Length").any(|value| value != b"0") {
        return Err(FrameError::BodyAnnounced);
    }
    if !fields.lists("Upgrade", "websocket") || !fields.lists("Connection", "upgrade") {
        return Err(FrameError::NotAnUpgrade);
    }
    if fields.once("Sec-WebSocket-Version") != Some(b"13") {
        return Err(FrameError::WrongWebSocketVersion);
    }
    let key = fields.once("Sec-WebSocket-Key").ok_or(FrameError::BadKey)?;
    if !key_is_valid(key) {
        return Err(FrameError::BadKey);
    }
    if !fields.lists_exactly("Sec-WebSocket-Protocol", SUBPROTOCOL) {
        return Err(FrameError::NoSubprotocol);
    }
    if !fields.all("Origin").all(|origin| origin_is_allowed(origin, host, origins)) {
        return Err(FrameError::OriginRefused);
    }
    Ok(Handshake { accept: accept_of(key) })
}

/// A request target is one of two paths; a query is ignored unless somebody put a token there.
fn check_target(target: &str) -> Result<(), FrameError> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != "/v1/chat" && path != "/" {
        return Err(FrameError::UnknownPath);
    }
    if query.to_ascii_lowercase().contains("token=") {
        return Err(FrameError::TokenInUrl);
    }
    Ok(())
}

fn key_is_valid(key: &[u8]) -> bool {
    let mut nonce = [0; 18];
    STANDARD.decode_slice(key, &mut nonce).is_ok_and(|length| length == 16)
}

/// An Origin is allowed if it is listed, if all are, or if the page came from this very host.
fn origin_is_allowed(origin: &[u8], host: &[u8], origins: &[String]) -> bool {
    let listed =
        |allowed: &String| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin);
    let authority = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = origin.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    origins.iter().any(listed)
        || authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn accept_of(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_CONSTANT).finalize();
    let mut accept = [0; ACCEPT_BYTES];
    let written = STANDARD.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_BYTES), "20 bytes are 28 characters");
    accept
}

/// The fields of a head.
struct Fields<'h>(&'h [httparse::Header<'h>]);

impl<'h> Fields<'h> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
        let named = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(named).map(|field| field.value.trim_ascii())
    }

    fn has(&self, name: &'static str) -> bool {
        self.all(name).next().is_some()
    }

    /// The value of a field that must not come twice.
    fn once(&self, name: &'static str) -> Option<&'h [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The elements of a comma-separated list, over all fields of the name.
    fn elements(&self, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
        self.all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    fn lists(&self, name: &'static str, element: &str) -> bool {
        self.elements(name).any(|found| found.eq_ignore_ascii_case(element.as_bytes()))
    }

    fn lists_exactly(&self, name: &'static str, element: &str) -> bool {
        self.elements(name).any(|found| found == element.as_bytes())
    }
}

/// Appends a client's request. `nonce` must be fresh random bytes; `host` is `name` or
/// `name:port`, `path` normally `/v1/chat`. Both come from the user's own configuration and must
/// not hold line breaks; these are dropped.
pub fn client_handshake(host: &str, path: &str, nonce: [u8; 16], out: &mut Vec<u8>) {
    let visible = |text: &str, out: &mut Vec<u8>| {
        out.extend(text.bytes().filter(u8::is_ascii_graphic));
    };
    out.extend_from_slice(b"GET ");
    visible(path, out);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    visible(host, out);
    out.extend_from_slice(
        b"\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: myriad.v1\r\n\
        Sec-WebSocket-Key: ",
    );
    out.extend_from_slice(&key_of(nonce));
    out.extend_from_slice(b"\r\n\r\n");
}

fn key_of(nonce: [u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    let written = STANDARD.encode_slice(nonce, &mut key);
    debug_assert_eq!(written, Ok(24), "16 bytes are 24 characters");
    key
}

/// Checks the server's answer to [`client_handshake`] with the same `nonce`.
///
/// Returns how many bytes it took, or `None` if there is more to come. Frames may follow at once.
///
/// # Errors
/// Anything but a grant of exactly what was asked for.
pub fn check_handshake_response(
    nonce: [u8; 16],
    bytes: &[u8],
) -> Result<Option<usize>, HandshakeError> {
    let Some(length) = head_end(bytes, 0) else {
        let too_large = bytes.len() >= HANDSHAKE_BYTES_MAX;
        return if too_large { Err(HandshakeError::HeadTooLarge) } else { Ok(None) };
    };
    let mut fields = [httparse::EMPTY_HEADER; HANDSHAKE_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(&bytes[..length]) {
        Ok(httparse::Status::Complete(parsed)) if parsed == length => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HandshakeError::HeadTooLarge),
        _ => return Err(HandshakeError::Malformed),
    }
    match response.code {
        Some(101) => {}
        Some(status) => return Err(HandshakeError::Status(status)),
        None => return Err(HandshakeError::Malformed),
    }
    let fields = Fields(response.headers);
    if !fields.lists("Upgrade", "websocket") || !fields.lists("Connection", "upgrade") {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if fields.once("Sec-WebSocket-Accept") != Some(&accept_of(&key_of(nonce))) {
        return Err(HandshakeError::WrongAccept);
    }
    if fields.once("Sec-WebSocket-Protocol") != Some(SUBPROTOCOL.as_bytes()) {
        return Err(HandshakeError::WrongSubprotocol);
    }
    if fields.has("Sec-WebSocket-Extensions") {
        return Err(HandshakeError::Extension);
    }
    Ok(Some(length))
}
