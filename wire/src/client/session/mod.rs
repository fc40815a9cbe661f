//! One device of one user: takes frames and the time, gives frames and events.
//!
//! What is to be written is kept as state (a flag, a set of peers, the outbox), never as a queue
//! of frames: so it is bounded, coalesces by itself and survives a lost connection.

mod groups;
mod hear;
mod history;
mod say;

pub use history::CannotAsk;

use std::collections::BTreeMap;

use super::groups::Groups;
use super::inbox::Inbox;
use super::outbox::{Outbox, OutboxFull, Outgoing};
use super::seen::Seen;
use super::state::{
    GroupCursor, PendingSend, SessionOptions, SessionState, TooManyWatched, UntickedMessage,
};
use super::ticks::{Place, Ticks, Unticked};
use super::{
    HEARTBEAT_MS, LOST_AFTER_HEARTBEATS, NOTICES_MAX, WATCH_RENEW_MS, WATCH_UNKNOWN_RENEW_MS,
    WATCHED_MAX,
};
use crate::{ClientFrame, Confirmed, Stream};

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
    groups: Groups,
    seen: Seen,
    ticks: Ticks,
    /// Conversation to (read up to, written on this connection).
    reads: BTreeMap<Option<Stream>, (u64, bool)>,
    typing: BTreeMap<Stream, bool>,
    watched: Vec<u64>,
    /// Somebody watched was never seen by the server.
    watched_unknown: bool,
    asks: Vec<Stream>,
    /// Questions to history that are not written yet, and the number of the last one.
    questions: Vec<ClientFrame<'static>>,
    last_request: u64,
    /// The server's clock at the last `Welcome`, milliseconds since 1970.
    welcomed_ms: u64,
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
            let place = Place::Durable;
            ticks.restore(to, Unticked { position, device, client_id, mark, place });
        }
        let mut groups = Groups::default();
        for held in &state.groups {
            groups.restore(held.group, held.up_to);
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
            inbox: Inbox::restore(state.received_up_to),
            groups,
            seen: Seen::restore(&state.seen),
            ticks,
            reads: BTreeMap::new(),
            typing: BTreeMap::new(),
            watched: Vec::new(),
            watched_unknown: false,
            asks: Vec::new(),
            questions: Vec::new(),
            last_request: 0,
            welcomed_ms: 0,
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
        self.groups.disconnected();
        self.ticks.disconnected();
        for (_, written) in self.reads.values_mut() {
            *written = false; // it may have been lost, and saying it twice does no harm
        }
        self.typing.clear();
        self.asks.clear();
        self.questions.clear();
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
        self.note_read(peer.map(Stream::User), up_to);
    }

    fn note_read(&mut self, of: Option<Stream>, up_to: u64) {
        if self.reads.len() >= NOTICES_MAX && !self.reads.contains_key(&of) {
            // One that was written already is the one to forget: it was very likely heard.
            let spare = self.reads.iter().find(|(_, (_, written))| *written).map(|(of, _)| *of);
            let Some(spare) = spare else { return };
            self.reads.remove(&spare);
        }
        let entry = self.reads.entry(of).or_insert((0, true));
        if up_to > entry.0 {
            *entry = (up_to, false);
        }
    }

    /// The user types to `to`, or stopped. Dropped unless connected: it is worth nothing later.
    pub fn typing(&mut self, to: u64, stopped: bool) {
        self.note_typing(Stream::User(to), stopped);
    }

    fn note_typing(&mut self, to: Stream, stopped: bool) {
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
        self.groups.flush();
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
        self.groups.tick(self.options.ack_every > 0, now_ms);
        self.ping_due |= now_ms.saturating_sub(self.beat_ms) >= self.heartbeat_ms;
        let lease_ms = if self.watched_unknown { WATCH_UNKNOWN_RENEW_MS } else { WATCH_RENEW_MS };
        self.watch_due |=
            !self.watched.is_empty() && now_ms.saturating_sub(self.watched_ms) >= lease_ms;
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
            seen: self.seen.iter().collect(),
            groups: self.groups.iter().map(|(group, up_to)| GroupCursor { group, up_to }).collect(),
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

    /// The interval in which the server wants a sign of life, milliseconds.
    #[must_use]
    pub fn heartbeat_ms(&self) -> u64 {
        self.heartbeat_ms
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
