//! Myriad over WebSocket and plain TCP: the client library's session and the framing.
//!
//! Invariants: frames reach the session in the order of their bytes; between reads an idle speaker
//! keeps no bytes. Deliberately not here: the rules of the protocol (`wire::client`), and what all
//! speakers of a run share (`server`).

mod server;

use std::collections::VecDeque;
use std::sync::Arc;

use client::{ClientEvent, Session, TickMark};
use wire::{DecodeError, Parser, Policy, ServerFrame, Transport};

use super::{Event, Full, ReadMark, Speaker};
use server::Shared;
pub use server::{FIRST_USER, Myriad};

/// Largest frame taken from a server: the largest payload and a generous head.
const FRAME_BYTES_MAX: usize = 128 * 1024;
/// Messages of one client whose marks are followed; more than an outbox holds.
const FLIGHTS_MAX: usize = 2 * wire::client::OUTBOX_MESSAGES_MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Offline,
    /// The upgrade is asked for, not granted.
    Upgrading,
    Open,
    /// The server sent a close frame.
    Closing,
}

/// One device of one user.
#[derive(Debug)]
struct MyriadSpeaker {
    session: Session,
    shared: Arc<Shared>,
    /// Authority and path of the WebSocket; none on plain TCP.
    upgrade: Option<Box<(String, String)>>,
    stage: Stage,
    parser: Parser,
    /// State of the masks' generator: what a proxy can't guess, from a random start.
    masks: u64,
    nonce: [u8; 16],
    /// The head of a frame whose rest has not come.
    input: Vec<u8>,
    /// Fragments of a message whose end has not come.
    assembly: Vec<u8>,
    /// What leaves before anything of the session: the opening, pongs, the answer to a close.
    output: Vec<u8>,
    /// `client_id` to tag of messages that lack a mark this run waits for; ids rise.
    flights: VecDeque<(u64, u64)>,
}

impl MyriadSpeaker {
    /// Never connected. `upgrade`: authority and path of the WebSocket, if it is one.
    fn new(session: Session, shared: Arc<Shared>, upgrade: Option<Box<(String, String)>>) -> Self {
        Self {
            session,
            shared,
            upgrade,
            stage: Stage::Offline,
            parser: Parser::default(),
            masks: client::random_bits(),
            nonce: [0; 16],
            input: Vec::new(),
            assembly: Vec::new(),
            output: Vec::new(),
            flights: VecDeque::new(),
        }
    }

    fn mask(&mut self) -> [u8; 4] {
        next_mask(&mut self.masks)
    }

    fn transport(&self) -> Transport {
        if self.upgrade.is_some() { Transport::WebSocket } else { Transport::Tcp }
    }

    /// Parses what is there; returns how much of it was used.
    fn parse(
        &mut self,
        input: &mut [u8],
        now_ms: u64,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, String> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            match wire::check_handshake_response(self.nonce, input) {
                Ok(None) => return Ok(0),
                Ok(Some(count)) => used = count,
                Err(error) => return Err(format!("the server refused the upgrade: {error}")),
            }
            self.open(now_ms);
        }
        let mut assembly = std::mem::take(&mut self.assembly);
        let result = self.parse_frames(input, &mut used, &mut assembly, now_ms, events);
        self.assembly = assembly;
        result.map(|()| used)
    }

    fn parse_frames(
        &mut self,
        input: &mut [u8],
        used: &mut usize,
        assembly: &mut Vec<u8>,
        now_ms: u64,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX, origins: &[] };
        let mut heard = Vec::new();
        while let Some(rest) = input.get_mut(*used..)
            && !rest.is_empty()
            && self.stage == Stage::Open
        {
            let (count, event) = self
                .parser
                .next(rest, assembly, &policy)
                .map_err(|error| format!("the server sent what can't be read: {error}"))?;
            *used += count;
            match event {
                wire::Event::More { .. } => break,
                wire::Event::Frame(bytes) => match ServerFrame::decode(bytes) {
                    Ok(frame) => {
                        self.session.on_frame(&frame, now_ms, &mut heard);
                        self.tell(&mut heard, events);
                    }
                    Err(DecodeError::UnknownFrame) => {} // of a newer server
                    Err(error) => return Err(format!("the server sent a bad frame: {error}")),
                },
                wire::Event::Ping(payload) => {
                    let mask = next_mask(&mut self.masks);
                    wire::write_control(wire::Control::Pong(payload), Some(mask), &mut self.output);
                }
                wire::Event::Close { code } => {
                    self.stage = Stage::Closing;
                    let close = wire::Control::Close { code, reason: "" };
                    wire::write_control(close, Some(self.mask()), &mut self.output);
                    return Err(format!("the server closed the WebSocket with {code}"));
                }
                wire::Event::Skip
                | wire::Event::Pong
                | wire::Event::Opened
                | wire::Event::Upgraded(_) => {}
            }
        }
        if !self.parser.is_fragmented() {
            *assembly = Vec::new(); // millions of idle clients share this process
        }
        Ok(())
    }

    fn open(&mut self, now_ms: u64) {
        self.stage = Stage::Open;
        self.parser = Parser::client(self.transport());
        self.session.connected(now_ms);
    }

    /// Translates the session's words.
    fn tell(&mut self, heard: &mut Vec<ClientEvent>, events: &mut dyn FnMut(Event<'_>)) {
        for event in heard.drain(..) {
            match event {
                ClientEvent::Welcome { .. } => events(Event::Ready),
                ClientEvent::Message { peer, position, payload, .. } => {
                    let mark = ReadMark { peer, position, group: None };
                    events(Event::Delivered { payload: &payload, mark });
                }
                ClientEvent::GroupMessage { group, id, position, payload, .. } => {
                    let group = Some(self.shared.group_number(group));
                    let mark = ReadMark { peer: id.sender, position, group };
                    events(Event::Delivered { payload: &payload, mark });
                }
                ClientEvent::Tick { client_id, mark, .. } => self.tick_of(client_id, mark, events),
                ClientEvent::Refused { client_id, reason, .. } => {
                    if let Some(tag) = self.land(client_id) {
                        events(Event::Refused { tag, reason: format!("{reason:?}") });
                    }
                }
                ClientEvent::Renumbered { client_id, new_client_id } => {
                    if let Some(tag) = self.land(client_id) {
                        self.flights.push_back((new_client_id, tag));
                    }
                }
                ClientEvent::Goodbye { reason, retry_after_ms, detail, reconnect } => {
                    let reason = if detail.is_empty() {
                        format!("{reason:?}")
                    } else {
                        format!("{reason:?}: {detail}")
                    };
                    events(Event::Goodbye { reason, retry_after_ms, hopeless: !reconnect });
                }
                _ => {}
            }
        }
    }

    fn tick_of(&mut self, client_id: u64, mark: TickMark, events: &mut dyn FnMut(Event<'_>)) {
        match mark {
            TickMark::Sent if self.shared.reads => {
                let flight = self.flight(client_id).and_then(|index| self.flights.get(index));
                if let Some((_, tag)) = flight {
                    events(Event::Acked { tag: *tag });
                }
            }
            TickMark::Sent => {
                if let Some(tag) = self.land(client_id) {
                    events(Event::Acked { tag });
                }
            }
            TickMark::Has => {}
            TickMark::Read => {
                if let Some(tag) = self.land(client_id) {
                    events(Event::Read { tag });
                }
            }
        }
    }

    fn launch(&mut self, to: wire::Stream, tag: u64, payload: &[u8]) -> Result<(), Full> {
        let client_id = self.session.send(to, payload, 0).map_err(|_| Full)?;
        if self.flights.len() >= FLIGHTS_MAX {
            self.flights.pop_front(); // answered long ago: the outbox is shorter than this
        }
        self.flights.push_back((client_id, tag));
        Ok(())
    }

    fn flight(&self, client_id: u64) -> Option<usize> {
        self.flights.iter().position(|(id, _)| *id == client_id)
    }

    /// Forgets a message; returns its tag.
    fn land(&mut self, client_id: u64) -> Option<u64> {
        let index = self.flight(client_id)?;
        let (_, tag) = self.flights.remove(index)?;
        if self.flights.is_empty() {
            self.flights = VecDeque::new();
        }
        Some(tag)
    }
}

impl Speaker for MyriadSpeaker {
    fn connected(&mut self, now_ms: u64) {
        self.disconnected();
        match &self.upgrade {
            None => {
                self.output.extend_from_slice(&wire::TCP_PREAMBLE);
                self.open(now_ms);
            }
            Some(upgrade) => {
                for half in self.nonce.chunks_mut(8) {
                    self.masks = scramble(self.masks);
                    half.copy_from_slice(&self.masks.to_le_bytes());
                }
                let (authority, path) = upgrade.as_ref();
                wire::client_handshake(authority, path, self.nonce, &mut self.output);
                self.stage = Stage::Upgrading;
            }
        }
    }

    fn disconnected(&mut self) {
        self.stage = Stage::Offline;
        self.session.disconnected();
        self.input = Vec::new();
        self.assembly = Vec::new();
        self.output = Vec::new();
    }

    fn receive(
        &mut self,
        bytes: &mut [u8],
        now_ms: u64,
        events: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        if self.input.is_empty() {
            let used = self.parse(bytes, now_ms, events)?;
            self.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let used = self.parse(&mut input, now_ms, events)?;
        if used < input.len() {
            input.drain(..used);
            self.input = input;
        }
        Ok(())
    }

    fn send(&mut self, to: u32, tag: u64, payload: &[u8]) -> Result<(), Full> {
        self.launch(wire::Stream::User(self.shared.first_user + u64::from(to)), tag, payload)
    }

    fn send_to_group(&mut self, group: u32, tag: u64, payload: &[u8]) -> Result<(), Full> {
        let id = self.shared.group_id(group).ok_or(Full)?;
        self.launch(wire::Stream::Group(id), tag, payload)
    }

    fn read(&mut self, mark: ReadMark) {
        match mark.group.map(|number| self.shared.group_id(number)) {
            None => self.session.read(Some(mark.peer), mark.position),
            Some(Some(id)) => self.session.read_group(id, mark.position),
            Some(None) => {} // of another run
        }
    }

    fn tick(&mut self, now_ms: u64) -> Result<(), String> {
        self.session.tick(now_ms);
        if self.session.is_lost(now_ms) {
            return Err("the server gave no sign of life for several heartbeats".to_owned());
        }
        Ok(())
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        if !self.output.is_empty() {
            out.append(&mut self.output);
            self.output = Vec::new();
        }
        if self.stage == Stage::Open {
            let transport = self.transport();
            let masks = &mut self.masks;
            self.session.take_output(&mut |frame| {
                wire::write_client_frame(transport, next_mask(masks), frame, out);
            });
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.stage == Stage::Open && self.transport() == Transport::WebSocket {
            let close = wire::Control::Close { code: 1000, reason: "" };
            wire::write_control(close, Some(self.mask()), out);
        }
        self.stage = Stage::Closing;
    }

    fn is_ready(&self) -> bool {
        self.session.is_live()
    }

    fn unanswered(&self) -> usize {
        self.session.unanswered()
    }
}

/// One step of SplitMix64's output function, as state: cheap, and every value is as likely.
fn scramble(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn next_mask(masks: &mut u64) -> [u8; 4] {
    *masks = scramble(*masks);
    let [a, b, c, d, ..] = masks.to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;
    use crate::tokens::Mint;
    use client::Address;
    use wire::{Deliver, MessageId, Sent, Welcome};

    fn speaker(url: &str) -> Box<dyn Speaker> {
        let address = Address::parse(url).unwrap();
        Myriad::new(address, Mint::new(b"secret"), FIRST_USER, false).speaker(3).unwrap()
    }

    fn frame(frame: &ServerFrame<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::write_server_frame(Transport::Tcp, frame, &mut bytes);
        bytes
    }

    fn welcome() -> Vec<u8> {
        frame(&ServerFrame::Welcome(Welcome {
            user: FIRST_USER + 3,
            device: 1,
            next_client_id: 1,
            heartbeat_ms: 5_000,
            limits: wire::Limits::default(),
            server_time_ms: 1,
            cursor: 0,
        }))
    }

    fn hear(speaker: &mut dyn Speaker, bytes: &mut [u8]) -> Vec<String> {
        let mut heard = Vec::new();
        let events = &mut |event: Event<'_>| heard.push(format!("{event:?}"));
        speaker.receive(bytes, 1, events).unwrap();
        heard
    }

    #[test]
    fn frames_that_come_byte_by_byte_mean_the_same() {
        let mut speaker = speaker("tcp://h:1");
        speaker.connected(0);
        let mut out = Vec::new();
        speaker.take_output(&mut out);
        assert!(out.starts_with(&wire::TCP_PREAMBLE) && out.len() > 100, "preamble and Hello");
        let mut heard = Vec::new();
        for byte in welcome() {
            heard.extend(hear(&mut *speaker, &mut [byte]));
        }
        assert_eq!(heard, ["Ready"]);
        assert!(speaker.is_ready());
    }

    #[test]
    fn a_message_is_acked_by_its_tag_also_after_a_reconnect() {
        let mut speaker = speaker("tcp://h:1");
        speaker.send(4, 77, b"hello").unwrap();
        for _ in 0..2 {
            speaker.connected(0);
            hear(&mut *speaker, &mut welcome());
            let mut out = Vec::new();
            speaker.take_output(&mut out);
            let left = out.windows(5).any(|bytes| bytes == b"hello");
            assert!(left, "it leaves after each login until it is answered");
        }
        let sent = Sent { client_id: 1, position: 9, time_ms: 1 };
        let heard = hear(&mut *speaker, &mut frame(&ServerFrame::Sent(sent)));
        assert_eq!(heard, ["Acked { tag: 77 }"]);
        assert_eq!(speaker.unanswered(), 0);
    }

    /// What is heard of a message that came to the own inbox, or in a group.
    fn hear_delivery(speaker: &mut dyn Speaker, stream: Option<wire::Stream>) -> Vec<String> {
        speaker.connected(0);
        hear(speaker, &mut welcome());
        let id = MessageId { sender: 8, device: 1, client_id: 1 };
        let mut bytes = frame(&ServerFrame::Deliver(Deliver {
            stream,
            id,
            position: 5,
            payload: b"p",
            time_ms: 0,
            kind: 0,
            relation: None,
            to: None,
            to_position: 0,
            change: None,
            request: false,
        }));
        hear(speaker, &mut bytes)
    }

    #[test]
    fn a_delivery_carries_the_payload_and_what_read_needs() {
        let heard = hear_delivery(&mut *speaker("tcp://h:1"), None);
        let mark = "ReadMark { peer: 8, position: 5, group: None }";
        assert_eq!(heard, [format!("Delivered {{ payload: [112], mark: {mark} }}")]);
    }

    #[test]
    fn groups_are_named_by_their_numbers() {
        let address = Address::parse("tcp://h:1").unwrap();
        let server = Myriad::new(address, Mint::new(b"secret"), FIRST_USER, false);
        let mut speaker = server.speaker(3).unwrap();
        assert_eq!(speaker.send_to_group(1, 7, b"p"), Err(Full), "there are none yet");
        server.set_groups(&[70, 77]);
        speaker.send_to_group(1, 7, b"p").unwrap();
        assert_eq!(speaker.send_to_group(2, 8, b"p"), Err(Full));
        for (id, number) in [(77, 1), (70, 0), (5, u32::MAX)] {
            let heard = hear_delivery(&mut *speaker, Some(wire::Stream::Group(id)));
            let mark = format!("ReadMark {{ peer: 8, position: 5, group: Some({number}) }}");
            assert_eq!(heard, [format!("Delivered {{ payload: [112], mark: {mark} }}")]);
        }
    }

    #[test]
    fn a_refused_upgrade_is_told() {
        let mut speaker = speaker("ws://h:1");
        speaker.connected(0);
        let mut answer = *b"HTTP/1.1 404 Not Found\r\n\r\n";
        let error = speaker.receive(&mut answer, 1, &mut |_| {}).unwrap_err();
        assert!(error.contains("404"), "{error}");
    }
}
