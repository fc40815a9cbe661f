//! One device of one user: takes frames and the time, gives frames and events.
//!
//! What is to be written is kept as state (a flag, a set of peers, the outbox), never as a queue
//! of frames: so it is bounded, coalesces by itself and survives a lost connection.

use std::collections::BTreeMap;

use super::event::{ClientEvent, TickMark};
use super::inbox::Inbox;
use super::outbox::{Outbox, OutboxFull, Outgoing};
use super::state::{PendingSend, SessionOptions, SessionState, TooManyWatched, UntickedMessage};
use super::ticks::{Ticks, Unticked};
use super::{
    ASKED_PEERS_MAX, HEARTBEAT_MS, LOST_AFTER_HEARTBEATS, NOTICES_MAX, WATCH_RENEW_MS, WATCHED_MAX,
};
use crate::{
    Ack, AskReceipts, ClientFrame, Confirmed, Deliver, Goodbye, Hello, Parting, Ping, Read,
    Receipt, Refusal, Refused, Renew, Sent, ServerFrame, Stream, Typing, WatchPresence, Welcome,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No connection.
    Offline,
    /// `Hello` is written or about to be; nothing else may leave.
    Greeting,
    /// Logged in.
    Live,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Session {
    options: SessionOptions,
    token: String,
    phase: Phase,
    /// From the last `Welcome`; 0 before it.
    user: u64,
    device: u32,
    heartbeat_ms: u64,
    active: bool,
    outbox: Outbox,
    inbox: Inbox,
    ticks: Ticks,
    /// Peer to (read up to, written on this connection).
    reads: BTreeMap<Option<u64>, (u64, bool)>,
    typing: BTreeMap<u64, bool>,
    watched: Vec<u64>,
    asks: Vec<u64>,
    hello_due: bool,
    renew_due: bool,
    watch_due: bool,
    ping_due: bool,
    /// The clock as last handed in.
    now_ms: u64,
    heard_ms: u64,
    beat_ms: u64,
    watched_ms: u64,
}

impl Session {
    /// A session that never was connected. Nothing leaves before [`Session::connected`].
    #[must_use]
    pub fn new(token: impl Into<String>, options: SessionOptions) -> Self {
        Self::restore(token, options, &SessionState::default())
    }

    /// A session that goes on where an earlier life of it was saved.
    #[must_use]
    pub fn restore(
        token: impl Into<String>,
        options: SessionOptions,
        state: &SessionState,
    ) -> Self {
        let mut outbox = Outbox::new(state.next_client_id);
        for pending in &state.outbox {
            outbox.restore(pending.client_id, pending.message.clone());
        }
        let mut ticks = Ticks::new(options.ticks_until);
        for message in &state.unticked {
            let UntickedMessage { to, position, device, client_id, mark } = *message;
            ticks.restore(to, Unticked { position, device, client_id, mark });
        }
        Self {
            options,
            token: token.into(),
            phase: Phase::Offline,
            user: 0,
            device: 0,
            heartbeat_ms: HEARTBEAT_MS,
            active: true,
            outbox,
            inbox: Inbox::restore(state.received_up_to, &state.seen),
            ticks,
            reads: BTreeMap::new(),
            typing: BTreeMap::new(),
            watched: Vec::new(),
            asks: Vec::new(),
            hello_due: false,
            renew_due: false,
            watch_due: false,
            ping_due: false,
            now_ms: 0,
            heard_ms: 0,
            beat_ms: 0,
            watched_ms: 0,
        }
    }

    // ---- what the owner does ---------------------------------------------------------------

    /// A connection stands: the next output is `Hello`.
    pub fn connected(&mut self, now_ms: u64) {
        self.disconnected();
        self.phase = Phase::Greeting;
        self.hello_due = true;
        self.now_ms = now_ms;
        self.heard_ms = now_ms;
        self.beat_ms = now_ms;
    }

    /// The connection is gone: what was on the wire unanswered will be sent again.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Offline;
        self.outbox.disconnected();
        self.inbox.disconnected();
        for (_, written) in self.reads.values_mut() {
            *written = false; // it may have been lost, and saying it twice does no harm
        }
        self.typing.clear();
        self.asks.clear();
        self.hello_due = false;
        self.renew_due = false;
        self.ping_due = false;
        self.watch_due = false;
    }

    /// Puts a message of the user into the outbox and returns its `client_id`.
    ///
    /// # Errors
    /// The outbox is full.
    pub fn send(&mut self, to: Stream, payload: &[u8], kind: u32) -> Result<u64, OutboxFull> {
        self.send_message(Outgoing {
            to,
            payload: payload.to_vec(),
            kind,
            ttl_seconds: 0,
            relation: None,
            automatic: false,
        })
    }

    /// Puts a message into the outbox and returns its `client_id`.
    ///
    /// # Errors
    /// The outbox is full.
    pub fn send_message(&mut self, message: Outgoing) -> Result<u64, OutboxFull> {
        self.outbox.push(message, self.options.outbox_messages_max, self.options.outbox_bytes_max)
    }

    /// Takes an unanswered message back. It may have been stored all the same if it was on the
    /// wire. Messages refused after it become sendable again.
    pub fn give_up(&mut self, client_id: u64) -> bool {
        let known = self.outbox.remove(client_id).is_some();
        self.ping_due |= known; // tells the server that the id is settled
        known
    }

    /// The user saw the conversation with `peer` (`None`: every one) up to this position of the
    /// own inbox.
    pub fn read(&mut self, peer: Option<u64>, up_to: u64) {
        if self.reads.len() >= NOTICES_MAX && !self.reads.contains_key(&peer) {
            // One that was written already is the one to forget: it was very likely heard.
            let spare = self.reads.iter().find(|(_, (_, written))| *written).map(|(peer, _)| *peer);
            let Some(spare) = spare else { return };
            self.reads.remove(&spare);
        }
        let entry = self.reads.entry(peer).or_insert((0, true));
        if up_to > entry.0 {
            *entry = (up_to, false);
        }
    }

    /// The user types to `to`, or stopped. Dropped unless connected: it is worth nothing later.
    pub fn typing(&mut self, to: u64, stopped: bool) {
        if self.phase == Phase::Live && self.typing.len() < NOTICES_MAX {
            self.typing.insert(to, stopped);
        }
    }

    /// Watches the presence of exactly these users, over reconnects, until called again.
    ///
    /// # Errors
    /// More than [`WATCHED_MAX`]; the former list stands.
    pub fn watch(&mut self, users: &[u64]) -> Result<(), TooManyWatched> {
        if users.len() > WATCHED_MAX {
            return Err(TooManyWatched { asked: users.len() });
        }
        self.watch_due = !(users.is_empty() && self.watched.is_empty());
        self.watched = users.to_vec();
        Ok(())
    }

    /// Acks everything received at the next output.
    pub fn acknowledge(&mut self) {
        self.inbox.flush();
    }

    /// Asks the server for a sign of life at the next output.
    pub fn ping(&mut self) {
        self.ping_due = true;
    }

    /// Whether the user, not only the program, is here: told with each heartbeat.
    pub fn set_active(&mut self, active: bool) {
        self.ping_due |= active != self.active;
        self.active = active;
    }

    /// A newer token for the same user and device; told to the server if connected.
    pub fn renew(&mut self, token: impl Into<String>) {
        self.token = token.into();
        self.renew_due = true;
    }

    /// Time passes: retries, heartbeat, watch lease, coalesced acks. Call it a few times a second.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.phase != Phase::Live {
            return;
        }
        self.outbox.tick(now_ms);
        if self.options.ack_every > 0 {
            self.inbox.flush();
        }
        self.ping_due |= now_ms.saturating_sub(self.beat_ms) >= self.heartbeat_ms;
        self.watch_due |=
            !self.watched.is_empty() && now_ms.saturating_sub(self.watched_ms) >= WATCH_RENEW_MS;
    }

    // ---- what the server says --------------------------------------------------------------

    /// Takes one frame from the server.
    pub fn on_frame(
        &mut self,
        frame: &ServerFrame<'_>,
        now_ms: u64,
        events: &mut Vec<ClientEvent>,
    ) {
        self.now_ms = now_ms;
        self.heard_ms = now_ms;
        match frame {
            ServerFrame::Welcome(welcome) => self.on_welcome(welcome, events),
            ServerFrame::Sent(sent) => self.on_sent(sent, events),
            ServerFrame::Refused(refused) => self.on_refused(refused, events),
            ServerFrame::Deliver(deliver) => self.on_deliver(deliver, events),
            ServerFrame::Receipt(receipt) => self.on_receipt(receipt, events),
            ServerFrame::Expired(expired) => {
                if expired.id.sender == self.user {
                    self.ticks.forget(expired.id);
                }
                events.push(ClientEvent::Expired { id: expired.id });
            }
            ServerFrame::Pong(pong) => {
                events.push(ClientEvent::Pong { server_time_ms: pong.server_time_ms });
            }
            ServerFrame::Goodbye(goodbye) => events.push(goodbye_event(goodbye)),
            ServerFrame::Typing(typing) => {
                events.push(ClientEvent::Typing { user: typing.user, stopped: typing.stopped });
            }
            ServerFrame::Presence(presence) => events.push(ClientEvent::Presence {
                user: presence.user,
                online: presence.online,
                last_seen_ms: presence.last_seen_ms,
            }),
            ServerFrame::ReadSync(sync) => {
                events.push(ClientEvent::ReadSync { stream: sync.stream, up_to: sync.up_to });
            }
            ServerFrame::DeviceEvent(device) => {
                events.push(ClientEvent::Device { device: device.device, added: device.added });
            }
        }
    }

    fn on_welcome(&mut self, welcome: &Welcome, events: &mut Vec<ClientEvent>) {
        if self.phase != Phase::Greeting {
            return; // nobody asked; a server that says it twice changes nothing
        }
        self.phase = Phase::Live;
        self.user = welcome.user;
        self.device = welcome.device;
        self.heartbeat_ms = u64::from(welcome.heartbeat_ms).max(1);
        self.outbox.raise_next(welcome.next_client_id);
        if welcome.cursor < self.inbox.received_up_to() {
            self.inbox.claim();
        }
        self.asks = self.ticks.unticked_users();
        self.watch_due = !self.watched.is_empty();
        events.push(ClientEvent::Welcome {
            user: welcome.user,
            device: welcome.device,
            heartbeat_ms: self.heartbeat_ms,
            server_time_ms: welcome.server_time_ms,
        });
    }

    fn on_sent(&mut self, sent: &Sent, events: &mut Vec<ClientEvent>) {
        let Some(message) = self.outbox.remove(sent.client_id) else {
            return; // given up, or answered twice
        };
        events.push(ClientEvent::Tick {
            client_id: sent.client_id,
            device: self.device,
            to: message.to,
            mark: TickMark::Sent,
            position: sent.position,
            time_ms: sent.time_ms,
        });
        let unticked = Unticked {
            position: sent.position,
            device: self.device,
            client_id: sent.client_id,
            mark: TickMark::Sent,
        };
        self.ticks.add(message.to, unticked, events);
    }

    fn on_refused(&mut self, refused: &Refused, events: &mut Vec<ClientEvent>) {
        let client_id = refused.client_id;
        let reason = refused.reason;
        if refused.retriable {
            let held = reason == Refusal::Held;
            let wait = self.outbox.delay(client_id, refused.retry_after_ms, held, self.now_ms);
            if let Some(retry_in_ms) = wait {
                events.push(ClientEvent::Delayed { client_id, reason, retry_in_ms });
            }
            return;
        }
        if matches!(reason, Refusal::StaleId | Refusal::IdReused)
            && let Some(new_client_id) = self.outbox.renumber(client_id, refused.next_client_id)
        {
            events.push(ClientEvent::Renumbered { client_id, new_client_id });
            return;
        }
        if let Some(message) = self.outbox.remove(client_id) {
            events.push(ClientEvent::Refused { client_id, to: message.to, reason });
        }
    }

    fn on_deliver(&mut self, deliver: &Deliver<'_>, events: &mut Vec<ClientEvent>) {
        let Deliver { id, position, time_ms, kind, .. } = *deliver;
        let bytes = deliver.payload.len();
        let repeat = self.inbox.deliver(position, id, bytes, self.options.ack_every);
        let payload = deliver.payload.to_vec();
        let Some(to) = deliver.to else {
            events.push(ClientEvent::Message {
                peer: id.sender,
                id,
                position,
                time_ms,
                kind,
                payload,
                relation: deliver.relation,
                repeat,
            });
            return;
        };
        let to_position = deliver.to_position;
        let copy =
            ClientEvent::OwnCopy { to, id, position, to_position, time_ms, kind, payload, repeat };
        events.push(copy);
        if !repeat {
            let unticked = Unticked {
                position: to_position,
                device: id.device,
                client_id: id.client_id,
                mark: TickMark::Sent,
            };
            self.ticks.add(to, unticked, events);
        }
    }

    fn on_receipt(&mut self, receipt: &Receipt, events: &mut Vec<ClientEvent>) {
        if let Some(stream) = receipt.stream {
            self.ticks.receipt(stream, receipt.after, receipt.up_to, receipt.mark, events);
        }
    }

    // ---- what is to be written -------------------------------------------------------------

    /// Hands out every frame that is to leave now. What is handed out counts as written: after a
    /// failure to write it call [`Session::disconnected`].
    pub fn take_output(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        match self.phase {
            Phase::Offline => {}
            Phase::Greeting => self.take_hello(sink),
            Phase::Live => {
                if std::mem::take(&mut self.renew_due) {
                    sink(&ClientFrame::Renew(Renew { token: &self.token }));
                }
                if self.outbox.take(&mut |send| sink(&ClientFrame::Send(*send))) {
                    self.beat_ms = self.now_ms;
                }
                if let Some(up_to) = self.inbox.take_ack() {
                    sink(&ClientFrame::Ack(Ack { stream: None, up_to }));
                }
                self.take_reads(sink);
                self.take_asks(sink);
                self.take_rest(sink);
            }
        }
    }

    fn take_hello(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        if std::mem::take(&mut self.hello_due) {
            self.renew_due = false;
            sink(&ClientFrame::Hello(Hello {
                token: &self.token,
                resume_after: self.inbox.received_up_to(),
                confirmed: self.outbox.confirmed(),
                active: self.active,
            }));
        }
    }

    fn take_reads(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        for (peer, (up_to, written)) in &mut self.reads {
            if !*written {
                *written = true;
                let stream = peer.map(Stream::User);
                sink(&ClientFrame::Read(Read { stream, up_to: *up_to, automatic: false }));
            }
        }
    }

    fn take_asks(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        for peers in std::mem::take(&mut self.asks).chunks(ASKED_PEERS_MAX) {
            sink(&ClientFrame::AskReceipts(AskReceipts { peers: peers.to_vec() }));
        }
    }

    fn take_rest(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        if std::mem::take(&mut self.watch_due) {
            self.watched_ms = self.now_ms;
            sink(&ClientFrame::WatchPresence(WatchPresence { users: self.watched.clone() }));
        }
        while let Some((user, stopped)) = self.typing.pop_first() {
            sink(&ClientFrame::Typing(Typing { to: Stream::User(user), stopped }));
        }
        if std::mem::take(&mut self.ping_due) {
            self.beat_ms = self.now_ms;
            // Silence for a whole interval is worth a question.
            let answer = self.now_ms.saturating_sub(self.heard_ms) >= self.heartbeat_ms;
            sink(&ClientFrame::Ping(Ping {
                active: self.active,
                confirmed: self.outbox.confirmed(),
                answer,
            }));
        }
    }

    // ---- what the owner may ask ------------------------------------------------------------

    /// Everything worth keeping over a restart of the program.
    #[must_use]
    pub fn state(&self) -> SessionState {
        SessionState {
            next_client_id: self.outbox.next_client_id(),
            received_up_to: self.inbox.received_up_to(),
            outbox: self
                .outbox
                .iter()
                .map(|(client_id, message)| PendingSend { client_id, message: message.clone() })
                .collect(),
            unticked: self
                .ticks
                .iter()
                .map(|(to, message)| UntickedMessage {
                    to,
                    position: message.position,
                    device: message.device,
                    client_id: message.client_id,
                    mark: message.mark,
                })
                .collect(),
            seen: self.inbox.seen().collect(),
        }
    }

    /// Logged in on a live connection.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The server was asked for a sign of life and gave none for several heartbeats.
    #[must_use]
    pub fn is_lost(&self, now_ms: u64) -> bool {
        self.phase != Phase::Offline
            && now_ms.saturating_sub(self.heard_ms) >= LOST_AFTER_HEARTBEATS * self.heartbeat_ms
    }

    /// Messages without an answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.outbox.len()
    }

    /// The id the next message gets.
    #[must_use]
    pub fn next_client_id(&self) -> u64 {
        self.outbox.next_client_id()
    }

    /// The answers seen, as the next frame will tell the server.
    #[must_use]
    pub fn confirmed(&self) -> Confirmed {
        self.outbox.confirmed()
    }

    /// The highest position of the own inbox that is held.
    #[must_use]
    pub fn received_up_to(&self) -> u64 {
        self.inbox.received_up_to()
    }

    /// This user, as the last `Welcome` said (0 before one).
    #[must_use]
    pub fn user(&self) -> u64 {
        self.user
    }

    /// This device, as the last `Welcome` said (0 before one).
    #[must_use]
    pub fn device(&self) -> u32 {
        self.device
    }
}

fn goodbye_event(goodbye: &Goodbye<'_>) -> ClientEvent {
    // With these the next attempt would end the same way, or throw out a sibling for ever.
    let hopeless = matches!(
        goodbye.reason,
        Parting::TokenInvalid | Parting::TokenExpired | Parting::Replaced | Parting::TooManyDevices
    );
    ClientEvent::Goodbye {
        reason: goodbye.reason,
        retry_after_ms: goodbye.retry_after_ms,
        detail: goodbye.detail.to_owned(),
        reconnect: !hopeless,
    }
}
