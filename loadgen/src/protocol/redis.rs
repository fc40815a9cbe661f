//! Redis pub/sub: a channel per client, at most once. Every `PUBLISH` is answered with the number
//! of those who got it; nothing is kept for those who did not.
//!
//! RESP3, so that one connection publishes and listens (Redis 6 and newer). Deliberately not here:
//! streams and lists, authentication, TLS.

use std::collections::VecDeque;

use super::parts::{FRAME_BYTES_MAX, Peer, UNANSWERED_MAX, line, number, words};
use super::small::{Dialect, Link, Small};
use super::{Event, Full, Promises, Protocol, ReadMark, Speaker};

/// The longest line that is not a payload.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// Parts of one answer; the greeting has seven pairs and a list of modules.
const ITEMS_MAX: usize = 256;
/// Lists in lists.
const DEPTH_MAX: usize = 4;
const PORT: u16 = 6379;

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    peer: Peer,
}

impl Redis {
    /// Reads `redis://HOST:PORT`; `None` if it is another scheme.
    ///
    /// # Errors
    /// What is wrong with the address, for the operator.
    #[must_use]
    pub fn parse(target: &str) -> Option<Result<Self, String>> {
        Some(Peer::parse(target, "redis", PORT, &[])?.map(|peer| Self { peer }))
    }
}

impl Protocol for Redis {
    fn name(&self) -> String {
        "Redis pub/sub".to_owned()
    }

    fn target(&self) -> (&str, u16) {
        self.peer.target()
    }

    fn promises(&self) -> Promises {
        Promises { acks: true, ..Promises::default() }
    }

    fn speaker(&self, number: u32) -> Result<Box<dyn Speaker>, String> {
        Ok(Small::speaker(RedisClient { number, flights: VecDeque::new() }))
    }
}

#[derive(Debug)]
struct RedisClient {
    number: u32,
    /// Tags of publishes without an answer; answers come in their order.
    flights: VecDeque<u64>,
}

/// One answer.
#[derive(Debug, PartialEq)]
enum Value<'a> {
    Text(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    List { is_push: bool, items: Vec<Value<'a>> },
    Other,
}

/// The value at the front and its length; `None` if its end has not come.
fn value(bytes: &[u8], depth: usize) -> Result<Option<(Value<'_>, usize)>, String> {
    let Some((head, length)) = line(bytes, LINE_BYTES_MAX)? else { return Ok(None) };
    let wrong = || format!("the server said what Redis does not: {}", words(head));
    let (kind, rest) = head.split_first().ok_or_else(wrong)?;
    match kind {
        b'+' => Ok(Some((Value::Text(rest), length))),
        b'-' => Ok(Some((Value::Error(rest), length))),
        b':' => {
            let text = std::str::from_utf8(rest).map_err(|_| wrong())?;
            Ok(Some((Value::Integer(text.parse().map_err(|_| wrong())?), length)))
        }
        b'_' | b'#' | b',' | b'(' => Ok(Some((Value::Other, length))),
        b'$' | b'!' | b'=' if rest == b"-1" => Ok(Some((Value::Other, length))),
        b'$' | b'!' | b'=' => {
            let count = number(rest).filter(|count| *count < FRAME_BYTES_MAX - LINE_BYTES_MAX);
            let count = count.ok_or_else(wrong)?;
            let Some(body) = bytes.get(length..length + count + 2) else { return Ok(None) };
            let text = body.get(..count).unwrap_or_default();
            let value = if *kind == b'!' { Value::Error(text) } else { Value::Text(text) };
            Ok(Some((value, length + count + 2)))
        }
        b'*' | b'>' | b'%' | b'~' | b'|' => {
            let pairs = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            let count = number(rest).filter(|count| *count <= ITEMS_MAX && depth < DEPTH_MAX);
            let mut at = length;
            let mut items = Vec::new();
            for _ in 0..count.ok_or_else(wrong)? * pairs {
                let rest = bytes.get(at..).unwrap_or_default();
                let Some((item, length)) = value(rest, depth + 1)? else { return Ok(None) };
                items.push(item);
                at += length;
            }
            Ok(Some((Value::List { is_push: *kind == b'>', items }, at)))
        }
        _ => Err(wrong()),
    }
}

impl RedisClient {
    fn understand(
        &mut self,
        value: &Value<'_>,
        link: &mut Link,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        match value {
            Value::List { is_push: true, items } => match items.as_slice() {
                [Value::Text(b"message"), Value::Text(_), Value::Text(payload)] => {
                    events(Event::Delivered { payload, mark: ReadMark::default() });
                }
                [Value::Text(b"subscribe"), ..] => link.let_in(events),
                _ => {}
            },
            Value::Integer(count) => {
                if let Some(tag) = self.flights.pop_front() {
                    events(if *count > 0 {
                        Event::Acked { tag }
                    } else {
                        Event::Refused { tag, reason: "nobody is subscribed".to_owned() }
                    });
                }
            }
            Value::Error(said) => {
                let reason = words(said);
                let hopeless = reason.starts_with("NOAUTH") || reason.starts_with("ERR unknown");
                events(Event::Goodbye { reason: reason.clone(), retry_after_ms: 0, hopeless });
                return Err(reason);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Dialect for RedisClient {
    fn open(&mut self, _now_ms: u64, link: &mut Link) {
        let channel = format!("myriad.{}", self.number);
        let hello = format!(
            "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{channel}\r\n",
            channel.len()
        );
        link.output.extend_from_slice(hello.as_bytes());
    }

    fn forget(&mut self) {
        self.flights = VecDeque::new();
    }

    fn parse(
        &mut self,
        bytes: &mut [u8],
        _now_ms: u64,
        link: &mut Link,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, String> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..)
            && let Some((value, length)) = value(rest, 0)?
        {
            self.understand(&value, link, events)?;
            used += length;
        }
        if self.flights.is_empty() {
            self.flights = VecDeque::new();
        }
        Ok(used)
    }

    fn send(&mut self, to: u32, tag: u64, payload: &[u8], link: &mut Link) -> Result<(), Full> {
        link.room()?;
        if self.flights.len() >= UNANSWERED_MAX {
            return Err(Full);
        }
        let channel = format!("myriad.{to}");
        let head = format!(
            "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n",
            channel.len(),
            payload.len()
        );
        link.output.extend_from_slice(head.as_bytes());
        link.output.extend_from_slice(payload);
        link.output.extend_from_slice(b"\r\n");
        self.flights.push_back(tag);
        Ok(())
    }

    fn unanswered(&self) -> usize {
        self.flights.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::tests::{hear, hear_slowly, output, refuses};
    use super::*;

    const GREETING: &[u8] = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*0\r\n\
        >3\r\n$9\r\nsubscribe\r\n$8\r\nmyriad.7\r\n:1\r\n";

    fn speaker() -> Box<dyn Speaker> {
        let mut speaker = Redis::parse("redis://h").unwrap().unwrap().speaker(7).unwrap();
        speaker.connected(0);
        speaker
    }

    #[test]
    fn it_subscribes_and_publishes() {
        let mut speaker = speaker();
        let hello = String::from_utf8(output(&mut *speaker)).unwrap();
        assert!(hello.contains("HELLO") && hello.ends_with("$8\r\nmyriad.7\r\n"), "{hello}");
        assert_eq!(hear_slowly(&mut *speaker, GREETING), ["Ready"]);
        speaker.send(12, 5, b"hello").unwrap();
        let expected = b"*3\r\n$7\r\nPUBLISH\r\n$9\r\nmyriad.12\r\n$5\r\nhello\r\n";
        assert_eq!(output(&mut *speaker), expected);
    }

    #[test]
    fn answers_belong_to_publishes_in_their_order() {
        let mut speaker = speaker();
        hear(&mut *speaker, GREETING);
        for tag in [5, 6, 7] {
            speaker.send(8, tag, b"x").unwrap();
        }
        assert_eq!(speaker.unanswered(), 3);
        let heard = hear(&mut *speaker, b":1\r\n:0\r\n:2\r\n");
        assert_eq!(heard[0], "Acked { tag: 5 }");
        assert!(heard[1].starts_with("Refused { tag: 6"), "{heard:?}");
        assert_eq!(heard[2], "Acked { tag: 7 }");
        assert_eq!(speaker.unanswered(), 0);
    }

    #[test]
    fn messages_come_whole_whatever_is_in_them() {
        let mut speaker = speaker();
        hear(&mut *speaker, GREETING);
        let bytes = b">3\r\n$7\r\nmessage\r\n$8\r\nmyriad.7\r\n$4\r\na\r\nb\r\n";
        for heard in [hear(&mut *speaker, bytes), hear_slowly(&mut *speaker, bytes)] {
            assert_eq!(heard.len(), 1);
            assert!(heard[0].contains("[97, 13, 10, 98]"), "{heard:?}");
        }
    }

    #[test]
    fn errors_and_nonsense_end_the_connection() {
        assert!(
            refuses(&mut *speaker(), b"-NOAUTH Authentication required.\r\n").contains("NOAUTH")
        );
        for wrong in [
            &b"$99999999999\r\n"[..],
            b"$-2\r\n",
            b"*300\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
            b":x\r\n",
            b"?\r\n",
            b"\r\n",
            &[b'+'; LINE_BYTES_MAX + 3],
        ] {
            refuses(&mut *speaker(), wrong);
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut speaker = speaker();
        hear(&mut *speaker, GREETING);
        let taken = (0..10_000).take_while(|tag| speaker.send(8, *tag, b"x").is_ok());
        assert_eq!(taken.count(), UNANSWERED_MAX);
    }
}
