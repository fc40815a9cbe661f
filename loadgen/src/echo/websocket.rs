//! The echo over WebSocket: the upgrade granted, every message sent back without its mask.
//!
//! Idle, a connection keeps no buffer. The path is `/`. Deliberately not here: sockets (`echo`).

use std::io::{self, ErrorKind};

use wire::{Control, Event, Parser, Policy, write_control};

use crate::protocol::echo::write_message;

/// Largest message that is sent back; more than any scenario writes.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Longest request to upgrade.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// `wire` grants upgrades to chat only; here it is asked for by us and not granted to the client.
const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol: myriad.v1\r\n";

/// What a connection remembers between two reads.
#[derive(Debug, Default)]
pub(super) struct Speech {
    parser: Parser,
    /// The head of a frame whose rest has not come.
    input: Vec<u8>,
    /// Fragments of a message whose end has not come.
    assembly: Vec<u8>,
    is_open: bool,
}

impl Speech {
    /// Takes bytes in and appends what is to be sent back.
    ///
    /// # Errors
    /// The client closed, or said what can't be read.
    pub(super) fn hear(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        if self.input.is_empty() {
            let used = self.parse(bytes, out)?;
            self.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let used = self.parse(&mut input, out)?;
        if used < input.len() {
            input.drain(..used);
            self.input = input;
        }
        Ok(())
    }

    /// Takes the request, and whole frames, from the front; returns how much they were.
    fn parse(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
        if self.is_open {
            return self.parse_frames(bytes, out);
        }
        let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
            let is_long = bytes.len() > HEAD_BYTES_MAX;
            return if is_long { Err(ErrorKind::InvalidData.into()) } else { Ok(0) };
        };
        let head = bytes.get(..end + 2).unwrap_or_default();
        let mut request = [head, SUBPROTOCOL.as_bytes(), b"\r\n"].concat();
        let mut response = Vec::new();
        self.parse_frames(&mut request, &mut response)?;
        let response = String::from_utf8_lossy(&response).replace(SUBPROTOCOL, "");
        out.extend_from_slice(response.as_bytes());
        self.is_open = true;
        let rest = bytes.get_mut(end + 4..).unwrap_or_default();
        Ok(end + 4 + self.parse_frames(rest, out)?)
    }

    fn parse_frames(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let policy = Policy { frame_bytes_max: MESSAGE_BYTES_MAX, origins: &[] };
        let mut used = 0;
        while let Some(rest) = bytes.get_mut(used..)
            && !rest.is_empty()
        {
            let unreadable = |error| io::Error::new(ErrorKind::InvalidData, error);
            let next = self.parser.next(rest, &mut self.assembly, &policy);
            let (count, event) = next.map_err(unreadable)?;
            used += count;
            match event {
                Event::More { .. } => break,
                Event::Upgraded(handshake) => handshake.write_response(out),
                Event::Frame(payload) => write_message(None, payload, out),
                Event::Ping(payload) => write_control(Control::Pong(payload), None, out),
                Event::Close { .. } => return Err(ErrorKind::UnexpectedEof.into()),
                Event::Opened => return Err(ErrorKind::InvalidData.into()), // no WebSocket
                Event::Pong | Event::Skip => {}
            }
        }
        if !self.parser.is_fragmented() {
            self.assembly = Vec::new();
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn any_client_is_let_in_and_hears_itself() {
        let mut said = REQUEST.as_bytes().to_vec();
        write_message(Some([1, 2, 3, 4]), b"hello", &mut said);
        said.extend_from_slice(b"\x89\x80\0\0\0\0");
        let mut slowly = Vec::new();
        let mut speech = Speech::default();
        for byte in &said {
            speech.hear(&mut [*byte], &mut slowly).unwrap();
        }
        let mut at_once = Vec::new();
        Speech::default().hear(&mut said, &mut at_once).unwrap();
        assert_eq!(slowly, at_once);
        let text = String::from_utf8_lossy(&at_once);
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        // The example of RFC 6455, section 1.3.
        assert!(text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
        assert!(!text.contains("Protocol:"), "{text}");
        assert!(text.ends_with("\r\n\r\n\u{fffd}\x05hello\u{fffd}\0"), "{text:?}");
        assert!(speech.input.is_empty());
    }

    #[test]
    fn what_is_no_websocket_is_closed() {
        let refused = |bytes: &[u8]| Speech::default().hear(&mut bytes.to_vec(), &mut Vec::new());
        assert!(refused(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_err());
        assert!(refused(&[b'x'; HEAD_BYTES_MAX + 1]).is_err());
        let mut speech = Speech::default();
        speech.hear(&mut REQUEST.as_bytes().to_vec(), &mut Vec::new()).unwrap();
        assert!(speech.hear(&mut [0x82, 1, b'x'], &mut Vec::new()).is_err(), "without a mask");
        let close = &mut [0x88, 0x80, 0, 0, 0, 0];
        let mut speech = Speech { is_open: true, ..speech };
        assert!(speech.hear(close, &mut Vec::new()).is_err());
    }
}
