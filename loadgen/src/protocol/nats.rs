//! NATS core: a subject per client, at most once, nothing is answered or kept.
//!
//! Text lines that end with CR LF; a client is logged in when the server answers the ping that
//! follows its subscription. Deliberately not here: JetStream, authentication, TLS.

use super::parts::{FRAME_BYTES_MAX, Peer, line, number, words};
use super::small::{Dialect, Link, Small};
use super::{Event, Full, Promises, Protocol, ReadMark, Speaker};

/// The longest line: `INFO` names every server of a cluster.
const LINE_BYTES_MAX: usize = 32 * 1024;
const PORT: u16 = 4222;

/// A NATS server.
#[derive(Debug)]
pub struct Nats {
    peer: Peer,
}

impl Nats {
    /// Reads `nats://HOST:PORT`; `None` if it is another scheme.
    ///
    /// # Errors
    /// What is wrong with the address, for the operator.
    #[must_use]
    pub fn parse(target: &str) -> Option<Result<Self, String>> {
        Some(Peer::parse(target, "nats", PORT, &[])?.map(|peer| Self { peer }))
    }
}

impl Protocol for Nats {
    fn name(&self) -> String {
        "NATS core".to_owned()
    }

    fn target(&self) -> (&str, u16) {
        self.peer.target()
    }

    fn promises(&self) -> Promises {
        Promises::default()
    }

    fn speaker(&self, number: u32) -> Result<Box<dyn Speaker>, String> {
        Ok(Small::speaker(NatsClient { number }))
    }
}

#[derive(Debug)]
struct NatsClient {
    number: u32,
}

impl Dialect for NatsClient {
    fn open(&mut self, _now_ms: u64, link: &mut Link) {
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\
             \"lang\":\"rust\",\"version\":\"{}\",\"protocol\":1,\"name\":\"myriad-loadgen\"}}\r\n\
             SUB myriad.{} 1\r\nPING\r\n",
            env!("CARGO_PKG_VERSION"),
            self.number
        );
        link.output.extend_from_slice(hello.as_bytes());
    }

    /// Takes whole lines and messages.
    fn parse(
        &mut self,
        bytes: &mut [u8],
        _now_ms: u64,
        link: &mut Link,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, String> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..)
            && let Some((head, length)) = line(rest, LINE_BYTES_MAX)?
        {
            let unknown = || format!("the server said what NATS does not: {}", words(head));
            match head.split(|byte| *byte == b' ').next().unwrap_or_default() {
                b"MSG" => {
                    let count = head.rsplit(|byte| *byte == b' ').next().and_then(number);
                    let count = count.filter(|count| *count < FRAME_BYTES_MAX - LINE_BYTES_MAX);
                    let count = count.ok_or_else(unknown)?;
                    let Some(body) = rest.get(length..length + count + 2) else { break };
                    let payload = body.get(..count).unwrap_or_default();
                    events(Event::Delivered { payload, mark: ReadMark::default() });
                    used += count + 2;
                }
                b"PING" => link.output.extend_from_slice(b"PONG\r\n"),
                b"PONG" => link.let_in(events),
                b"+OK" | b"INFO" => {}
                b"-ERR" => {
                    let reason = words(head);
                    let lower = reason.to_lowercase();
                    let hopeless = lower.contains("authorization") || lower.contains("permissions");
                    events(Event::Goodbye { reason: reason.clone(), retry_after_ms: 0, hopeless });
                    return Err(reason);
                }
                _ => return Err(unknown()),
            }
            used += length;
        }
        Ok(used)
    }

    fn send(&mut self, to: u32, _tag: u64, payload: &[u8], link: &mut Link) -> Result<(), Full> {
        link.room()?;
        let head = format!("PUB myriad.{to} {}\r\n", payload.len());
        link.output.extend_from_slice(head.as_bytes());
        link.output.extend_from_slice(payload);
        link.output.extend_from_slice(b"\r\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::tests::{hear, hear_slowly, output, refuses};
    use super::*;

    fn speaker() -> Box<dyn Speaker> {
        let mut speaker = Nats::parse("nats://h").unwrap().unwrap().speaker(7).unwrap();
        speaker.connected(0);
        speaker
    }

    #[test]
    fn it_logs_in_subscribes_and_publishes() {
        let mut speaker = speaker();
        let hello = String::from_utf8(output(&mut *speaker)).unwrap();
        assert!(
            hello.starts_with("CONNECT {") && hello.ends_with("}\r\nSUB myriad.7 1\r\nPING\r\n")
        );
        assert!(speaker.send(8, 1, b"early").is_err(), "nobody is logged in");
        let heard = hear_slowly(&mut *speaker, b"INFO {\"server_id\":\"x\"}\r\nPONG\r\n");
        assert_eq!(heard, ["Ready"]);
        speaker.send(8, 1, b"hello").unwrap();
        assert_eq!(output(&mut *speaker), b"PUB myriad.8 5\r\nhello\r\n");
        assert!(output(&mut *speaker).is_empty());
    }

    #[test]
    fn messages_come_whole_whatever_is_in_them() {
        let mut speaker = speaker();
        hear(&mut *speaker, b"PONG\r\n");
        let bytes = b"MSG myriad.7 1 4\r\na\r\nb\r\nMSG myriad.7 1 reply 0\r\n\r\nPING\r\n";
        output(&mut *speaker);
        for heard in [hear(&mut *speaker, bytes), hear_slowly(&mut *speaker, bytes)] {
            assert_eq!(heard.len(), 2, "{heard:?}");
            assert!(heard[0].contains("[97, 13, 10, 98]") && heard[1].contains("payload: []"));
        }
        assert_eq!(output(&mut *speaker), b"PONG\r\nPONG\r\n");
    }

    #[test]
    fn refusals_and_nonsense_end_the_connection() {
        let mut heard = Vec::new();
        let mut bytes = *b"-ERR 'Authorization Violation'\r\n";
        let result =
            speaker().receive(&mut bytes, 1, &mut |event| heard.push(format!("{event:?}")));
        assert!(result.unwrap_err().contains("Authorization"));
        assert!(heard[0].contains("hopeless: true"), "{heard:?}");
        for wrong in [
            &b"MSG myriad.7 1 99999999999999999999\r\n"[..],
            b"MSG myriad.7 1 131071\r\n",
            b"MSG x\r\n",
            b"HTTP/1.1 400\r\n",
            &[b'x'; LINE_BYTES_MAX + 3],
        ] {
            refuses(&mut *speaker(), wrong);
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut speaker = speaker();
        hear(&mut *speaker, b"PONG\r\n");
        let taken = (0..10_000).take_while(|tag| speaker.send(8, *tag, &[0; 1_000]).is_ok());
        assert!(taken.count() < 300);
    }
}
