//! A simulated client: the real client session on a simulated socket, TCP or WebSocket.
//!
//! Owner: the world. A phone obeys the protocol; its network, its speed and its user do not obey
//! anybody. What it hears goes to the checkers before its session sees it.

use myriad::io::sim::{ClientEnd, Heard, SimNet};
use wire::client::{ClientEvent, Outgoing, Session, SessionOptions};
use wire::{
    ClientFrame, Event, MessageId, Parser, Policy, RELATION_DELETE, Relation, ServerFrame, Stream,
    Transport,
};

use super::checks::{Checks, Name};
use super::random::Random;

/// Output waiting in a phone above which its session is not asked for more.
const OUTPUT_BYTES_MAX: usize = 96 * 1024;
/// Connections left behind unclosed: a phone that took over from itself.
const LEFT_BEHIND_MAX: usize = 3;
/// Largest frame a phone takes.
const FRAME_BYTES_MAX: usize = 128 * 1024;

/// How a connection is left.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaving {
    /// In order.
    Close,
    /// By a reset.
    Reset,
    /// Without a word.
    Vanish,
    /// Not at all: the next connection takes over.
    TakeOver,
}

/// One connection of a phone.
struct Link {
    end: ClientEnd,
    transport: Transport,
    parser: Parser,
    nonce: [u8; 16],
    upgraded: bool,
    input: Vec<u8>,
    assembly: Vec<u8>,
    output: Vec<u8>,
}

/// See the module.
pub(crate) struct Phone {
    /// Who it is.
    pub(crate) name: Name,
    /// What it remembers.
    pub(crate) session: Session,
    /// Its clock runs so many times as fast, which makes it retry early.
    haste: u64,
    /// What its clock showed, and the time of the world, when the haste was set.
    clock: (u64, u64),
    /// The last goodbye it heard, and how many.
    pub(crate) goodbyes: (u32, Option<wire::Parting>),
    /// It reads nothing before this time.
    pub(crate) stalled_until_ms: u64,
    /// It connects again at this time.
    pub(crate) connects_at_ms: u64,
    /// How long it waits after it lost its connection, at the most.
    pub(crate) pause_ms_max: u64,
    /// It swaps two deliveries: a canary for the checkers.
    pub(crate) swaps: bool,
    token: String,
    options: SessionOptions,
    link: Option<Link>,
    left_behind: Vec<ClientEnd>,
    events: Vec<ClientEvent>,
    last_written: Option<(Stream, MessageId)>,
}

impl Phone {
    /// A phone that is not connected.
    pub(crate) fn new(name: Name, token: String, options: SessionOptions) -> Self {
        Self {
            name,
            session: Session::new(token.clone(), options.clone()),
            haste: 1,
            clock: (0, 0),
            goodbyes: (0, None),
            stalled_until_ms: 0,
            connects_at_ms: 0,
            pause_ms_max: 400,
            swaps: false,
            token,
            options,
            link: None,
            left_behind: Vec::new(),
            events: Vec::new(),
            last_written: None,
        }
    }

    /// From now on its clock runs so many times as fast as the world's.
    pub(crate) fn hurry(&mut self, haste: u64, now_ms: u64) {
        self.clock = (self.own_ms(now_ms), now_ms);
        self.haste = haste;
    }

    fn own_ms(&self, now_ms: u64) -> u64 {
        let (shown_ms, set_ms) = self.clock;
        shown_ms + (now_ms - set_ms) * self.haste
    }

    /// Whether it has a connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Nothing waits in it.
    pub(crate) fn is_settled(&self) -> bool {
        let written = self.link.as_ref().is_some_and(|link| link.output.is_empty());
        let held = self.session.is_live() && self.session.is_level();
        written && held && self.session.unanswered() == 0
    }

    /// Connects to the listener of `shard`.
    pub(crate) fn connect(&mut self, net: &SimNet, shard: usize, random: &mut Random, now_ms: u64) {
        let transport = if random.per_mille(300) { Transport::WebSocket } else { Transport::Tcp };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&random.next().to_le_bytes());
        let mut output = Vec::new();
        if transport == Transport::WebSocket {
            wire::client_handshake("sim", "/v1/chat", nonce, &mut output);
        } else {
            output.extend_from_slice(&wire::TCP_PREAMBLE);
        }
        self.link = Some(Link {
            end: net.connect(shard),
            transport,
            parser: Parser::client(transport),
            nonce,
            upgraded: transport != Transport::WebSocket,
            input: Vec::new(),
            assembly: Vec::new(),
            output,
        });
        self.session.connected(self.own_ms(now_ms));
    }

    /// Leaves its connection.
    pub(crate) fn leave(&mut self, how: Leaving) {
        let Some(mut link) = self.link.take() else { return };
        self.session.disconnected();
        match how {
            Leaving::Close => link.end.close(),
            Leaving::Reset => link.end.reset(),
            Leaving::Vanish => link.end.vanish(),
            Leaving::TakeOver => {
                if self.left_behind.len() == LEFT_BEHIND_MAX {
                    self.left_behind.remove(0);
                }
                self.left_behind.push(link.end);
            }
        }
    }

    /// The program ends and starts again from what it had saved.
    pub(crate) fn restart(&mut self) {
        self.leave(Leaving::Close);
        let state = self.session.state();
        self.session = Session::restore(self.token.clone(), self.options.clone(), &state);
    }

    /// Closes what it left behind.
    pub(crate) fn tidy_up(&mut self) {
        self.left_behind.clear();
    }

    /// Its user writes.
    pub(crate) fn write(
        &mut self,
        to: Stream,
        payload: &[u8],
        ttl_seconds: u32,
        relation: Option<Relation>,
        checks: &mut Checks,
    ) {
        let outgoing = Outgoing {
            to,
            payload: payload.to_vec(),
            kind: 0,
            ttl_seconds,
            relation,
            automatic: false,
        };
        let Ok(client_id) = self.session.send_message(outgoing) else { return };
        let (sender, device) = self.name;
        let id = MessageId { sender, device, client_id };
        checks.written(id, to, payload, ttl_seconds);
        if let Some(relation) = relation {
            checks.deleted(relation.target);
        } else if matches!(to, Stream::User(_)) {
            self.last_written = Some((to, id));
        }
    }

    /// Its user deletes what was written last.
    pub(crate) fn delete_last(&mut self, checks: &mut Checks) {
        let Some((to, target)) = self.last_written.take() else { return };
        let relation = Relation { kind: RELATION_DELETE, target };
        self.write(to, b"", 0, Some(relation), checks);
    }

    /// Lets it read, think and write.
    pub(crate) fn run(&mut self, checks: &mut Checks, now_ms: u64, random: &mut Random) {
        if self.link.is_none() {
            return;
        }
        let own_ms = self.own_ms(now_ms);
        self.session.tick(own_ms);
        let reads = now_ms >= self.stalled_until_ms;
        let ended = reads && self.read(checks, own_ms);
        self.handle_events(checks, random);
        if ended || self.session.is_lost(own_ms) || !self.put_out(checks, random) {
            self.leave(Leaving::Close);
            self.connects_at_ms = now_ms + random.between(1, self.pause_ms_max);
        }
    }

    /// Reads what has come. True: the connection ended.
    fn read(&mut self, checks: &mut Checks, own_ms: u64) -> bool {
        let Some(link) = &mut self.link else { return false };
        let heard = link.end.read(&mut link.input);
        if !link.upgraded {
            match wire::check_handshake_response(link.nonce, &link.input) {
                Ok(Some(used)) => {
                    link.input.drain(..used);
                    link.upgraded = true;
                }
                Ok(None) => return matches!(heard, Heard::End | Heard::Reset),
                Err(_) => return true,
            }
        }
        let mut input = std::mem::take(&mut link.input);
        let used = self.parse(&mut input, checks, own_ms);
        if let Some(link) = &mut self.link {
            input.drain(..used);
            link.input = input;
        }
        matches!(heard, Heard::End | Heard::Reset)
    }

    fn parse(&mut self, input: &mut [u8], checks: &mut Checks, own_ms: u64) -> usize {
        let Self { link: Some(link), session, events, name, swaps, .. } = self else {
            return 0;
        };
        let policy = Policy { frame_bytes_max: FRAME_BYTES_MAX, origins: &[] };
        let mut used = 0;
        let mut kept: Option<Vec<u8>> = None;
        while used < input.len() {
            let next = link.parser.next(&mut input[used..], &mut link.assembly, &policy);
            let Ok((count, event)) = next else {
                checks.violated(format!("wire: {name:?} can't read what the server sent"));
                return input.len();
            };
            used += count;
            let bytes = match event {
                Event::More { .. } => break,
                Event::Frame(bytes) => bytes,
                _ => continue,
            };
            if *swaps && kept.is_none() && is_delivery(bytes) {
                kept = Some(bytes.to_vec());
                continue;
            }
            hear(*name, bytes, checks, session, own_ms, events);
            if let Some(late) = kept.take() {
                hear(*name, &late, checks, session, own_ms, events);
            }
        }
        if let Some(late) = kept {
            hear(*name, &late, checks, session, own_ms, events);
        }
        used
    }

    fn handle_events(&mut self, checks: &mut Checks, random: &mut Random) {
        for event in self.events.drain(..) {
            checks.checks_ticks_tell_the_truth(&event, self.name.0);
            match event {
                ClientEvent::Message { peer, position, .. } if random.per_mille(300) => {
                    let peer = (!random.per_mille(200)).then_some(peer);
                    self.session.read(peer, position);
                }
                ClientEvent::GroupMessage { group, id, position, .. } => {
                    checks.group_got(self.name, group, id);
                    if random.per_mille(200) {
                        checks.group_read(self.name, group, position);
                        self.session.read_group(group, position);
                    }
                }
                ClientEvent::Goodbye { reason, .. } => {
                    self.goodbyes = (self.goodbyes.0 + 1, Some(reason));
                }
                ClientEvent::Renumbered { client_id, new_client_id } => {
                    checks.renumbered(self.name, client_id, new_client_id);
                }
                _ => {}
            }
        }
    }

    /// Writes what there is. False: the connection is gone.
    fn put_out(&mut self, checks: &mut Checks, random: &mut Random) -> bool {
        let Some(link) = &mut self.link else { return true };
        if link.upgraded && link.output.len() < OUTPUT_BYTES_MAX {
            let Link { transport, output, .. } = link;
            let name = self.name;
            self.session.take_output(&mut |frame: &ClientFrame<'_>| {
                checks.said(name, frame);
                let mask = u32::try_from(random.next() >> 32).unwrap_or(0).to_le_bytes();
                wire::write_client_frame(*transport, mask, frame, output);
            });
        }
        while !link.output.is_empty() {
            match link.end.write(&link.output) {
                Ok(0) => break,
                Ok(count) => drop(link.output.drain(..count)),
                Err(_) => {
                    link.output.clear(); // what was heard before the end is still to be read
                    return false;
                }
            }
        }
        true
    }
}

fn is_delivery(bytes: &[u8]) -> bool {
    matches!(ServerFrame::decode(bytes), Ok(ServerFrame::Deliver(_)))
}

fn hear(
    name: Name,
    bytes: &[u8],
    checks: &mut Checks,
    session: &mut Session,
    own_ms: u64,
    events: &mut Vec<ClientEvent>,
) {
    match ServerFrame::decode(bytes) {
        Ok(frame) => {
            checks.heard(name, &frame);
            session.on_frame(&frame, own_ms, events);
        }
        Err(error) => checks.violated(format!("wire: {name:?} got no frame: {error}")),
    }
}
