//! MQTT 3.1.1: a topic per client. With QoS 0 nothing is answered or kept. With QoS 1 the broker
//! answers each message, the session outlives its connection, and what was not answered is sent
//! again after the next login.
//!
//! `mqtt://HOST:PORT?qos=1`; without it QoS 0. Deliberately not here: QoS 2, authentication, TLS.

use std::collections::VecDeque;

use super::parts::{FRAME_BYTES_MAX, Peer, UNANSWERED_MAX};
use super::small::{Dialect, Link, Small};
use super::{Event, Full, Promises, Protocol, ReadMark, Speaker};

const PORT: u16 = 1883;
/// The broker gives a client up that says nothing for one and a half times this.
const KEEP_ALIVE_S: u16 = 60;
/// A sign of life in time, and with room for one that comes late.
const PING_MS: u64 = 30_000;
/// Kinds of packets, with the flags they must have.
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBACK: u8 = 0x90;
const PINGRESP: u8 = 0xd0;
const DUP: u8 = 0x08;
const QOS_BITS: u8 = 0x06;

/// An MQTT broker.
#[derive(Debug)]
pub struct Mqtt {
    peer: Peer,
    /// 0 or 1.
    qos: u8,
}

impl Mqtt {
    /// Reads `mqtt://HOST:PORT` with `?qos=0` or `?qos=1`; `None` if it is another scheme.
    ///
    /// # Errors
    /// What is wrong with the address, for the operator.
    #[must_use]
    pub fn parse(target: &str) -> Option<Result<Self, String>> {
        let peer = match Peer::parse(target, "mqtt", PORT, &["qos"])? {
            Ok(peer) => peer,
            Err(why) => return Some(Err(why)),
        };
        Some(match peer.value("qos") {
            None | Some("0") => Ok(Self { peer, qos: 0 }),
            Some("1") => Ok(Self { peer, qos: 1 }),
            Some(other) => Err(format!("{target}: qos is 0 or 1, not `{other}`")),
        })
    }
}

impl Protocol for Mqtt {
    fn name(&self) -> String {
        format!("MQTT 3.1.1 QoS {}", self.qos)
    }

    fn target(&self) -> (&str, u16) {
        self.peer.target()
    }

    fn promises(&self) -> Promises {
        let kept = self.qos > 0;
        Promises { acks: kept, durable: kept, resends: kept, ..Promises::default() }
    }

    fn speaker(&self, number: u32) -> Result<Box<dyn Speaker>, String> {
        Ok(Small::speaker(MqttClient { number, qos: self.qos, ..MqttClient::default() }))
    }
}

/// A message without an answer.
#[derive(Debug)]
struct Flight {
    id: u16,
    tag: u64,
    /// As it is sent, for the next time.
    packet: Vec<u8>,
}

#[derive(Debug, Default)]
struct MqttClient {
    number: u32,
    qos: u8,
    flights: VecDeque<Flight>,
    last_id: u16,
    /// When the last sign of life left and came.
    spoke_ms: u64,
    heard_ms: u64,
}

/// Appends a packet: its kind, its length, its parts.
fn packet(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.push(kind);
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        let seven_bits = u8::try_from(length % 128).unwrap_or_default();
        length /= 128;
        out.push(if length > 0 { seven_bits | 0x80 } else { seven_bits });
        if length == 0 {
            break;
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// A text with its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// A packet: its kind, its body, and its length with all before it.
type Packet<'a> = (u8, &'a [u8], usize);

/// The packet at the front; `None` if its end has not come.
fn parse(bytes: &[u8]) -> Result<Option<Packet<'_>>, String> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    // Before its length is believed: another protocol has to be told from a long packet.
    let is_known = matches!(*kind, CONNACK | PUBACK | SUBACK | PINGRESP) || kind & 0xf0 == PUBLISH;
    if !is_known {
        return Err(format!("the broker sent a packet of unknown kind {kind:#04x}"));
    }
    let mut length = 0usize;
    for (index, byte) in rest.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if length > FRAME_BYTES_MAX / 2 {
                return Err(format!("the broker sent a packet of {length} bytes"));
            }
            let start = index + 2;
            let body = bytes.get(start..start + length);
            return Ok(body.map(|body| (*kind, body, start + length)));
        }
    }
    match rest.len() {
        0..4 => Ok(None),
        _ => Err("the broker sent a packet whose length is not one".to_owned()),
    }
}

fn id_of(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

impl MqttClient {
    fn understand(
        &mut self,
        kind: u8,
        body: &[u8],
        link: &mut Link,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        let wrong = || format!("the broker sent a malformed packet of kind {kind:#04x}");
        match kind {
            CONNACK => self.greeted(*body.get(1).ok_or_else(wrong)?, link, events),
            SUBACK => {
                if body.get(2).ok_or_else(wrong)? & 0x80 != 0 {
                    return Err("the broker refused the subscription".to_owned());
                }
                link.let_in(events);
                Ok(())
            }
            PUBACK => {
                let id = id_of(body).ok_or_else(wrong)?;
                // Answers come in the order of the messages, but need not.
                let at = self.flights.iter().position(|flight| flight.id == id);
                if let Some(flight) = at.and_then(|at| self.flights.remove(at)) {
                    events(Event::Acked { tag: flight.tag });
                }
                Ok(())
            }
            PINGRESP => Ok(()),
            _ => {
                let topic = usize::from(id_of(body).ok_or_else(wrong)?);
                let mut payload = body.get(2 + topic..).ok_or_else(wrong)?;
                if kind & QOS_BITS != 0 {
                    let id = payload.get(..2).ok_or_else(wrong)?;
                    packet(PUBACK, &[id], &mut link.output);
                    payload = payload.get(2..).ok_or_else(wrong)?;
                }
                events(Event::Delivered { payload, mark: ReadMark::default() });
                Ok(())
            }
        }
    }

    fn greeted(
        &self,
        code: u8,
        link: &mut Link,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        let reason = match code {
            0 => {
                let topic = text(&format!("myriad/{}", self.number));
                packet(0x82, &[&1u16.to_be_bytes(), &topic, &[self.qos]], &mut link.output);
                return Ok(());
            }
            1 => "the broker does not speak MQTT 3.1.1",
            2 => "the broker does not take this client's name",
            3 => "the broker is not available",
            4 => "the broker wants a name and a password",
            5 => "the broker does not let this client in",
            _ => "the broker refused for a reason MQTT 3.1.1 does not know",
        };
        let hopeless = code != 3;
        events(Event::Goodbye { reason: reason.to_owned(), retry_after_ms: 0, hopeless });
        Err(reason.to_owned())
    }

    /// An id that no message without an answer has; never 0.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.flights.iter().any(|flight| flight.id == self.last_id) {
                return self.last_id;
            }
        }
    }
}

impl Dialect for MqttClient {
    fn open(&mut self, now_ms: u64, link: &mut Link) {
        (self.spoke_ms, self.heard_ms) = (now_ms, now_ms);
        // With QoS 0 a clean session: the broker keeps nothing.
        let flags = if self.qos > 0 { 0x00 } else { 0x02 };
        let head = [&text("MQTT")[..], &[4, flags], &KEEP_ALIVE_S.to_be_bytes()].concat();
        let name = text(&format!("myriad-loadgen-{}", self.number));
        packet(0x10, &[&head, &name], &mut link.output);
        // A client may send before it is greeted; these are in their order, before anything new.
        for flight in &mut self.flights {
            if let Some(first) = flight.packet.first_mut() {
                *first |= DUP;
            }
            link.output.extend_from_slice(&flight.packet);
        }
    }

    fn parse(
        &mut self,
        bytes: &mut [u8],
        now_ms: u64,
        link: &mut Link,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, String> {
        self.heard_ms = now_ms;
        let mut used = 0;
        while let Some((kind, body, length)) = parse(bytes.get(used..).unwrap_or_default())? {
            self.understand(kind, body, link, events)?;
            used += length;
        }
        if self.flights.is_empty() {
            self.flights = VecDeque::new();
        }
        Ok(used)
    }

    fn send(&mut self, to: u32, tag: u64, payload: &[u8], link: &mut Link) -> Result<(), Full> {
        let topic = text(&format!("myriad/{to}"));
        if self.qos == 0 {
            link.room()?;
            packet(PUBLISH, &[&topic, payload], &mut link.output);
            return Ok(());
        }
        if self.flights.len() >= UNANSWERED_MAX {
            return Err(Full);
        }
        let id = self.next_id();
        let mut bytes = Vec::new();
        packet(PUBLISH | self.qos << 1, &[&topic, &id.to_be_bytes(), payload], &mut bytes);
        if link.is_ready {
            link.output.extend_from_slice(&bytes);
        }
        self.flights.push_back(Flight { id, tag, packet: bytes });
        Ok(())
    }

    fn tick(&mut self, now_ms: u64, link: &mut Link) -> Result<(), String> {
        if now_ms.saturating_sub(self.heard_ms) > 3 * PING_MS {
            return Err("the broker gave no sign of life".to_owned());
        }
        if link.is_ready && now_ms.saturating_sub(self.spoke_ms) >= PING_MS {
            self.spoke_ms = now_ms;
            packet(0xc0, &[], &mut link.output);
        }
        Ok(())
    }

    fn close(&mut self, _link: &Link, out: &mut Vec<u8>) {
        packet(0xe0, &[], out);
    }

    fn unanswered(&self) -> usize {
        self.flights.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::tests::{hear, hear_slowly, output, refuses};
    use super::*;

    const GREETING: &[u8] = &[0x20, 2, 0, 0, 0x90, 3, 0, 1, 1];

    fn speaker(qos: u8) -> Box<dyn Speaker> {
        let target = format!("mqtt://h?qos={qos}");
        let mut speaker = Mqtt::parse(&target).unwrap().unwrap().speaker(7).unwrap();
        speaker.connected(0);
        speaker
    }

    #[test]
    fn it_connects_and_subscribes() {
        let mut speaker = speaker(1);
        let hello = output(&mut *speaker);
        let expected = b"\x10\x1c\0\x04MQTT\x04\0\0\x3c\0\x10myriad-loadgen-7";
        assert_eq!(hello, expected);
        assert_eq!(hear_slowly(&mut *speaker, &GREETING[..4]), [] as [&str; 0]);
        assert_eq!(output(&mut *speaker), b"\x82\x0d\0\x01\0\x08myriad/7\x01");
        assert_eq!(hear_slowly(&mut *speaker, &GREETING[4..]), ["Ready"]);
        assert!(speaker.is_ready());
    }

    #[test]
    fn quality_0_is_neither_answered_nor_kept() {
        let mut speaker = speaker(0);
        assert!(speaker.send(8, 1, b"x").is_err(), "not logged in");
        hear(&mut *speaker, GREETING);
        output(&mut *speaker);
        speaker.send(8, 1, b"x").unwrap();
        assert_eq!(output(&mut *speaker), b"\x30\x0b\0\x08myriad/8x");
        assert_eq!(speaker.unanswered(), 0);
    }

    #[test]
    fn what_was_not_answered_is_sent_again_and_marked_so() {
        let mut speaker = speaker(1);
        hear(&mut *speaker, GREETING);
        output(&mut *speaker);
        speaker.send(8, 71, b"x").unwrap();
        speaker.send(8, 72, b"y").unwrap();
        assert_eq!(
            output(&mut *speaker),
            b"\x32\x0d\0\x08myriad/8\0\x01x\x32\x0d\0\x08myriad/8\0\x02y"
        );
        assert_eq!(hear(&mut *speaker, b"\x40\x02\0\x01"), ["Acked { tag: 71 }"]);
        speaker.disconnected();
        speaker.send(8, 73, b"z").unwrap();
        speaker.connected(9);
        let out = output(&mut *speaker);
        assert!(out.ends_with(b"\x3a\x0d\0\x08myriad/8\0\x02y\x3a\x0d\0\x08myriad/8\0\x03z"));
        let heard = hear(&mut *speaker, b"\x40\x02\0\x03\x40\x02\0\x02\x40\x02\0\x02");
        assert_eq!(heard, ["Acked { tag: 73 }", "Acked { tag: 72 }"], "each once");
    }

    #[test]
    fn deliveries_of_quality_1_are_answered() {
        let mut speaker = speaker(1);
        hear(&mut *speaker, GREETING);
        output(&mut *speaker);
        let bytes = b"\x32\x0e\0\x08myriad/7\x12\x34hi\x30\x0b\0\x08myriad/7!";
        for take in [hear, hear_slowly] {
            let heard = take(&mut *speaker, bytes);
            assert_eq!(heard.len(), 2);
            assert!(heard[0].contains("[104, 105]") && heard[1].contains("[33]"), "{heard:?}");
            assert_eq!(output(&mut *speaker), b"\x40\x02\x12\x34");
        }
    }

    #[test]
    fn refusals_and_nonsense_end_the_connection() {
        assert!(refuses(&mut *speaker(1), b"\x20\x02\0\x05").contains("let this client in"));
        for wrong in [
            &b"\x20\x01\0"[..],
            b"\x20\x00",
            b"\x30\x01\0",
            b"\x30\x04\0\x08ab",
            b"\x32\x03\0\x01a",
            b"\x40\x01\0",
            b"\x90\x03\0\x01\x80",
            b"\x30\xff\xff\xff\xff\x01",
            b"\x30\xff\xff\xff\x7f",
            b"\x00\x00",
            b"HTTP/1.1 400 Bad Request\r\n",
        ] {
            let mut speaker = speaker(1);
            let result = speaker.receive(&mut wrong.to_vec(), 1, &mut |_| {});
            assert!(result.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn signs_of_life_are_given_and_missed() {
        let mut speaker = speaker(1);
        hear(&mut *speaker, GREETING);
        output(&mut *speaker);
        speaker.tick(PING_MS).unwrap();
        assert_eq!(output(&mut *speaker), b"\xc0\0");
        speaker.tick(PING_MS + 1).unwrap();
        assert!(output(&mut *speaker).is_empty(), "once in a while");
        assert!(speaker.tick(4 * PING_MS).is_err());
    }

    #[test]
    fn what_waits_is_bounded_and_ids_are_never_used_twice() {
        let mut speaker = speaker(1);
        hear(&mut *speaker, GREETING);
        let mut tag = 0;
        for _ in 0..3 * 65_536 / UNANSWERED_MAX {
            output(&mut *speaker);
            let first = tag;
            while speaker.send(8, tag, b"x").is_ok() {
                tag += 1;
            }
            let out = output(&mut *speaker);
            assert_eq!(tag - first, UNANSWERED_MAX as u64);
            for at in 0..UNANSWERED_MAX {
                let id = &out[at * 15 + 12..at * 15 + 14];
                assert_ne!(id, [0, 0]);
                let heard = hear(&mut *speaker, &[&[0x40, 2][..], id].concat());
                assert_eq!(heard, [format!("Acked {{ tag: {} }}", first + at as u64)]);
            }
        }
    }
}
