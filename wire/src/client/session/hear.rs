//! What a session makes of each frame of the server.
//!
//! Deliberately not here: what is written because of it (`say.rs`).

use super::{Phase, Session};
use crate::client::PEERS_MAX;
use crate::client::event::{ClientEvent, TickMark};
use crate::client::ticks::{Place, Unticked};
use crate::{
    Deliver, Goodbye, Parting, Presence, Receipt, Refusal, Refused, Sent, ServerFrame, Stream,
    TypingFrom, Welcome,
};

impl Session {
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
            ServerFrame::Deliver(deliver) => match deliver.stream {
                Some(Stream::Group(group)) => self.on_group_deliver(group, deliver, events),
                _ => self.on_deliver(deliver, events),
            },
            ServerFrame::Receipt(receipt) => self.on_receipt(receipt, events),
            ServerFrame::Expired(expired) => {
                if expired.id.sender == self.user {
                    self.ticks.forget(expired.id);
                }
                self.inbox.notice(expired.position, self.options.ack_every);
                events.push(ClientEvent::Expired { id: expired.id });
            }
            ServerFrame::Pong(pong) => {
                if pong.heartbeat_ms > 0 {
                    self.heartbeat_ms = u64::from(pong.heartbeat_ms);
                }
                events.push(ClientEvent::Pong { server_time_ms: pong.server_time_ms });
            }
            ServerFrame::Goodbye(goodbye) => events.push(goodbye_event(goodbye)),
            ServerFrame::Typing(typing) => {
                let TypingFrom { user, stopped, group } = *typing;
                events.push(match group {
                    0 => ClientEvent::Typing { user, stopped },
                    _ => ClientEvent::GroupTyping { group, user, stopped },
                });
            }
            ServerFrame::GroupNews(news) => {
                self.groups.news(news, now_ms);
                events.push(ClientEvent::GroupNews(*news));
            }
            ServerFrame::Presence(presence) => {
                let Presence { user, online, last_seen_ms } = *presence;
                self.watched_unknown |= !online && last_seen_ms == 0;
                events.push(ClientEvent::Presence { user, online, last_seen_ms });
            }
            ServerFrame::ReadSync(sync) => {
                events.push(ClientEvent::ReadSync { stream: sync.stream, up_to: sync.up_to });
            }
            ServerFrame::DeviceEvent(device) => {
                events.push(ClientEvent::Device { device: device.device, added: device.added });
            }
            ServerFrame::Item(_)
            | ServerFrame::Fetched(_)
            | ServerFrame::Conversation(_)
            | ServerFrame::Conversations(_)
            | ServerFrame::RequestRefused(_) => {
                if !self.on_group_page(frame, events) {
                    events.extend(Self::history_event(frame));
                }
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
        self.welcomed_ms = welcome.server_time_ms;
        self.asks = self.ticks.unticked_streams();
        // Of these some may have been stored and even ticked, unheard.
        let unanswered: Vec<Stream> = self.outbox.iter().map(|(_, message)| message.to).collect();
        unanswered.into_iter().for_each(|to| self.ask_about(to));
        self.watch_due = !self.watched.is_empty();
        if self.options.ack_every > 0 {
            self.groups.flush(); // what is held and was not acked before the connection ended
        }
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
            place: Place::Durable,
        };
        self.know_own(message.to, sent.client_id);
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
        let repeat = !self.seen.remember(id);
        self.inbox.deliver(position, bytes, self.options.ack_every);
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
                request: deliver.request,
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
                place: Place::Durable,
            };
            self.ticks.add(to, unticked, events);
            if time_ms < self.welcomed_ms {
                self.ask_about(to); // it may have been ticked before this device was here
            }
        }
    }

    /// Asks for the marks of what went to `to`, at the next output.
    pub(super) fn ask_about(&mut self, to: Stream) {
        if self.asks.len() < PEERS_MAX && !self.asks.contains(&to) {
            self.asks.push(to);
        }
    }

    fn on_receipt(&mut self, receipt: &Receipt, events: &mut Vec<ClientEvent>) {
        if let Some(stream) = receipt.stream {
            self.ticks.receipt(stream, receipt.after, receipt.up_to, receipt.mark, events);
        }
    }
}

fn goodbye_event(goodbye: &Goodbye<'_>) -> ClientEvent {
    // With these the next attempt would end the same way, or throw out a sibling for ever.
    let hopeless = matches!(
        goodbye.reason,
        Parting::TokenInvalid
            | Parting::TokenExpired
            | Parting::Replaced
            | Parting::TooManyDevices
            | Parting::Suspended
            | Parting::LoggedOut
            | Parting::AccountDeleted
    );
    ClientEvent::Goodbye {
        reason: goodbye.reason,
        retry_after_ms: goodbye.retry_after_ms,
        detail: goodbye.detail.to_owned(),
        reconnect: !hopeless,
    }
}
