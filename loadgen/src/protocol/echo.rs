//! A plain WebSocket echo server: every message comes back to who sent it.
//!
//! What is left of a measurement when the server does nothing. `echo+ws://HOST:PORT/PATH`. The
//! server is not asked to prove that it knows WebSocket (`Sec-WebSocket-Accept`): nothing secret
//! goes there. Deliberately not here: TLS, and servers that want a subprotocol.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use wire::{Parser, Policy, Transport};

use super::parts::{FRAME_BYTES_MAX, Peer, words};
use super::small::{Dialect, Link, Small};
use super::{Event, Full, Promises, Protocol, ReadMark, Speaker};
use crate::random::Random;

const PORT: u16 = 80;
/// The longest answer to the upgrade.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// An echo server.
#[derive(Debug)]
pub struct Echo {
    peer: Peer,
    authority: String,
}

impl Echo {
    /// Reads `echo+ws://HOST:PORT/PATH`; `None` if it is another scheme.
    ///
    /// # Errors
    /// What is wrong with the address, for the operator.
    #[must_use]
    pub fn parse(target: &str) -> Option<Result<Self, String>> {
        let made = |peer: Peer| {
            let host = &peer.host;
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            Self { authority: format!("{host}:{}", peer.port), peer }
        };
        Some(Peer::parse(target, "echo+ws", PORT, &[])?.map(made))
    }
}

impl Protocol for Echo {
    fn name(&self) -> String {
        "WebSocket echo".to_owned()
    }

    fn target(&self) -> (&str, u16) {
        self.peer.target()
    }

    fn promises(&self) -> Promises {
        Promises { echoes: true, ..Promises::default() }
    }

    fn speaker(&self, number: u32) -> Result<Box<dyn Speaker>, String> {
        // Fresh in every process, so that no proxy can guess the masks.
        let random = Random::new(client::random_bits() ^ u64::from(number));
        let key = [client::random_bits().to_le_bytes(), client::random_bits().to_le_bytes()];
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
            self.peer.path,
            self.authority,
            BASE64_STANDARD.encode(key.concat())
        );
        Ok(Small::speaker(EchoClient {
            request: request.into_boxed_str(),
            random,
            parser: Parser::client(Transport::WebSocket),
            assembly: Vec::new(),
        }))
    }
}

#[derive(Debug)]
struct EchoClient {
    request: Box<str>,
    random: Random,
    parser: Parser,
    /// Fragments of a message whose end has not come.
    assembly: Vec<u8>,
}

/// The end of an answer to the upgrade; `None` if it has not come.
fn upgraded(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = bytes.windows(4).take(HEAD_BYTES_MAX).position(|end| end == b"\r\n\r\n") else {
        return match bytes.len() {
            0..HEAD_BYTES_MAX => Ok(None),
            _ => Err("the server's answer to the upgrade has no end".to_owned()),
        };
    };
    let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if !first.starts_with(b"HTTP/1.1 101") {
        return Err(format!("the server refused the upgrade: {}", words(first)));
    }
    Ok(Some(end + 4))
}

/// Appends a binary message; with a mask on a client.
pub(crate) fn write_message(mask: Option<[u8; 4]>, payload: &[u8], out: &mut Vec<u8>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x82);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => out.push(masked | length),
        (_, Ok(length)) => {
            out.push(masked | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    match mask {
        None => out.extend_from_slice(payload),
        Some(mask) => {
            out.extend_from_slice(&mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
}

impl EchoClient {
    fn mask(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.random.bits().to_le_bytes();
        [a, b, c, d]
    }
}

impl Dialect for EchoClient {
    fn open(&mut self, _now_ms: u64, link: &mut Link) {
        link.output.extend_from_slice(self.request.as_bytes());
    }

    fn forget(&mut self) {
        self.parser = Parser::client(Transport::WebSocket);
        self.assembly = Vec::new();
    }

    fn parse(
        &mut self,
        bytes: &mut [u8],
        _now_ms: u64,
        link: &mut Link,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, String> {
        let mut used = 0;
        if !link.is_ready {
            let Some(length) = upgraded(bytes)? else { return Ok(0) };
            used = length;
            link.let_in(events);
        }
        let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX / 2, origins: &[] };
        let mut assembly = std::mem::take(&mut self.assembly);
        while let Some(rest) = bytes.get_mut(used..)
            && !rest.is_empty()
        {
            let (count, event) = self
                .parser
                .next(rest, &mut assembly, &policy)
                .map_err(|error| format!("the server sent what can't be read: {error}"))?;
            used += count;
            match event {
                wire::Event::More { .. } => break,
                wire::Event::Frame(payload) => {
                    events(Event::Delivered { payload, mark: ReadMark::default() });
                }
                wire::Event::Ping(payload) => {
                    let pong = wire::Control::Pong(payload);
                    let [a, b, c, d, ..] = self.random.bits().to_le_bytes();
                    wire::write_control(pong, Some([a, b, c, d]), &mut link.output);
                }
                wire::Event::Close { code } => {
                    return Err(format!("the server closed the WebSocket with {code}"));
                }
                _ => {}
            }
        }
        if self.parser.is_fragmented() {
            self.assembly = assembly;
        }
        Ok(used)
    }

    fn send(&mut self, _to: u32, _tag: u64, payload: &[u8], link: &mut Link) -> Result<(), Full> {
        link.room()?;
        let mask = Some(self.mask());
        write_message(mask, payload, &mut link.output);
        Ok(())
    }

    fn close(&mut self, link: &Link, out: &mut Vec<u8>) {
        if link.is_ready {
            let close = wire::Control::Close { code: 1000, reason: "" };
            let mask = self.mask();
            wire::write_control(close, Some(mask), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::tests::{hear, hear_slowly, output, refuses};
    use super::*;

    const GRANTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    fn connected() -> Box<dyn Speaker> {
        let echo = Echo::parse("echo+ws://h:8080/echo").unwrap().unwrap();
        let mut speaker = echo.speaker(7).unwrap();
        speaker.connected(0);
        speaker
    }

    #[test]
    fn it_upgrades() {
        let mut speaker = connected();
        let request = String::from_utf8(output(&mut *speaker)).unwrap();
        assert!(request.starts_with("GET /echo HTTP/1.1\r\nHost: h:8080\r\n"), "{request}");
        assert_eq!(hear_slowly(&mut *speaker, GRANTED), ["Ready"]);
        assert!(refuses(&mut *connected(), b"HTTP/1.1 404 No\r\n\r\n").contains("404"));
    }

    #[test]
    fn what_it_sends_comes_back_whatever_its_length() {
        let mut speaker = connected();
        hear(&mut *speaker, GRANTED);
        output(&mut *speaker);
        for length in [0, 1, 125, 126, 500, 65_000] {
            let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
            speaker.send(1, 1, &payload).unwrap();
            let out = output(&mut *speaker);
            // The echo: the same without the mask.
            let head = out.len() - length - 4;
            let mut echoed = out[..head].to_vec();
            echoed[1] &= 0x7f;
            let mask: [u8; 4] = out[head..head + 4].try_into().unwrap();
            echoed.extend(out[head + 4..].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
            let heard = hear(&mut *speaker, &echoed);
            assert_eq!(
                heard,
                [format!(
                    "Delivered {{ payload: {payload:?}, \
                mark: ReadMark {{ peer: 0, position: 0, group: None }} }}"
                )]
            );
        }
    }

    #[test]
    fn pings_are_answered_and_closes_end_it() {
        let mut speaker = connected();
        hear(&mut *speaker, GRANTED);
        output(&mut *speaker);
        hear(&mut *speaker, b"\x89\x02hi");
        let pong = output(&mut *speaker);
        assert_eq!((pong[0], pong[1]), (0x8a, 0x82));
        assert!(refuses(&mut *speaker, b"\x88\x02\x03\xe8").contains("1000"));
        assert!(!refuses(&mut *connected(), &[b'x'; HEAD_BYTES_MAX + 4]).is_empty());
    }
}
