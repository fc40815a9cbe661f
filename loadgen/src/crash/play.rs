//! What the clients of a crash run do, and how the oracle gets to know what they see.
//!
//! Deliberately not here: when servers and connections begin and end.

use client::{ClientEvent, Seen, Session};
use wire::{MessageId, Refusal, ServerFrame, Stream};

use super::Options;
use super::oracle::Oracle;
use super::oracle::content;
use crate::random::Random;
use crate::swarm::Handler;

/// One answer in so many is lost together with its connection.
const LOST_ANSWER_ONE_IN: u64 = 200;
/// One delivery in so many is lost together with its connection.
const LOST_DELIVERY_ONE_IN: u64 = 400;

/// See the module.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) oracle: Oracle,
    /// Clients whose connection is to be dropped and made anew.
    pub(super) dropped: Vec<usize>,
    pub(super) drops: u64,
    pub(super) delayed: u64,
    pub(super) goodbyes: u64,
    sessions: usize,
    in_flight: usize,
    payload_bytes: usize,
    per_round: u32,
    /// Messages written this round, per first device.
    written: Vec<u32>,
    /// This client sees nothing more until it is connected again.
    blind: Vec<bool>,
    loading: bool,
    random: Random,
}

impl Play {
    pub(super) fn new(options: &Options, per_round: u32) -> Self {
        Self {
            oracle: Oracle::default(),
            dropped: Vec::new(),
            drops: 0,
            delayed: 0,
            goodbyes: 0,
            sessions: options.sessions,
            in_flight: options.in_flight,
            payload_bytes: options.payload_bytes,
            per_round,
            written: vec![0; options.sessions],
            blind: vec![false; options.sessions * 2],
            loading: false,
            random: Random::new(options.seed ^ 0x5eed),
        }
    }

    /// User and device of a client.
    pub(super) fn who(&self, index: usize) -> (u64, u32) {
        if index < self.sessions {
            (index as u64 + 1, 1)
        } else {
            ((index - self.sessions) as u64 + 1, 2)
        }
    }

    /// Messages written in this round so far.
    pub(super) fn round_messages(&self) -> u64 {
        self.written.iter().copied().map(u64::from).sum()
    }

    /// Messages a round may write.
    pub(super) fn round_messages_max(&self) -> u64 {
        u64::from(self.per_round) * self.sessions as u64
    }

    pub(super) fn begin_load(&mut self) {
        self.loading = true;
        self.written.fill(0);
    }

    /// Who is blind stays so: what is left in its socket comes after what it lost.
    pub(super) fn end_load(&mut self) {
        self.loading = false;
    }

    pub(super) fn connected(&mut self, index: usize) {
        if let Some(blind) = self.blind.get_mut(index) {
            *blind = false;
        }
    }

    /// Two thirds go to the partner, the rest to a neighbour, so that chains form.
    fn recipient(&mut self, index: usize) -> u64 {
        let count = self.sessions as u64;
        let index = index as u64;
        let other = if self.random.once_in(3) { (index + 2) % count } else { index ^ 1 };
        other.min(count - 1) + 1
    }

    fn write(&mut self, index: usize, session: &mut Session) {
        if !self.loading || index >= self.sessions {
            return;
        }
        while session.unanswered() < self.in_flight {
            if self.written.get(index).is_none_or(|written| *written >= self.per_round) {
                return;
            }
            let to = self.recipient(index);
            let (sender, device) = self.who(index);
            let id = MessageId { sender, device, client_id: session.next_client_id() };
            let payload = content(id, to, self.payload_bytes);
            if session.send(Stream::User(to), &payload, 0).is_err() {
                return;
            }
            self.oracle.written(id, to);
            if let Some(written) = self.written.get_mut(index) {
                *written += 1;
            }
        }
    }

    /// Whether this frame is the last thing its connection does: the client never sees it.
    fn loses(&mut self, index: usize, one_in: u64) -> bool {
        if !self.loading || !self.random.once_in(one_in) {
            return false;
        }
        if let Some(blind) = self.blind.get_mut(index) {
            *blind = true;
        }
        self.dropped.push(index);
        self.drops += 1;
        true
    }

    fn check_content(&mut self, user: u64, id: MessageId, to: u64, payload: &[u8]) {
        if payload != content(id, to, self.payload_bytes) {
            self.oracle.corrupted(user, id);
        }
    }
}

impl Handler for Play {
    fn frame(&mut self, index: usize, frame: &ServerFrame<'_>) -> Seen {
        if self.blind.get(index).is_some_and(|blind| *blind) {
            return Seen::Lose;
        }
        let (user, device) = self.who(index);
        match frame {
            ServerFrame::Sent(sent) => {
                let id = MessageId { sender: user, device, client_id: sent.client_id };
                // The oracle remembers the answer that the client is going to lose.
                self.oracle.sent(id, sent.position);
                if self.loses(index, LOST_ANSWER_ONE_IN) {
                    return Seen::Lose;
                }
            }
            ServerFrame::Deliver(deliver) => {
                if self.loses(index, LOST_DELIVERY_ONE_IN) {
                    return Seen::Lose;
                }
                let (id, position) = (deliver.id, deliver.position);
                if let Some(Stream::User(to)) = deliver.to {
                    self.check_content(user, id, to, deliver.payload);
                    self.oracle.copied(user, device, position, id, deliver.to_position);
                } else if device == 1 {
                    self.check_content(user, id, user, deliver.payload);
                    self.oracle.delivered(user, device, position, id);
                } else {
                    self.check_content(user, id, user, deliver.payload);
                    self.oracle.audited(user, device, position, id);
                }
            }
            _ => {}
        }
        Seen::Pass
    }

    fn event(&mut self, index: usize, session: &mut Session, event: ClientEvent) {
        let (user, _) = self.who(index);
        match event {
            ClientEvent::Welcome { .. } | ClientEvent::Tick { .. } => self.write(index, session),
            ClientEvent::Delayed { .. } => self.delayed += 1,
            ClientEvent::Goodbye { .. } => self.goodbyes += 1,
            ClientEvent::Refused { client_id, reason, .. } => {
                self.refused(user, client_id, reason);
            }
            ClientEvent::Renumbered { client_id, .. } => {
                self.oracle.broken(format!(
                    "I2: the server calls id {client_id} of {user} spent, but never answered it"
                ));
            }
            _ => {}
        }
    }
}

impl Play {
    fn refused(&mut self, user: u64, client_id: u64, reason: Refusal) {
        self.oracle.broken(format!("message {client_id} of {user} was refused: {}", reason.name()));
    }
}
