//! What the terminal shows of what happens, and what the client does about it.

use client::{ClientEvent, TickMark};

use super::{Chat, ChatError};

impl Chat {
    /// Shows one event. Whatever is shown counts as read.
    pub(super) fn show(&mut self, event: ClientEvent) -> Result<(), ChatError> {
        match event {
            ClientEvent::Welcome { user, device, .. } => {
                if (user, device) != (self.options.user, self.options.device) {
                    return Err(ChatError::Stranger { user, device });
                }
                self.schedule.attempt = 0;
                self.screen.note("connected")?;
            }
            ClientEvent::Message { peer, position, time_ms, payload, repeat, .. } => {
                if !repeat {
                    self.screen.incoming(time_ms, peer, &payload)?;
                    if self.to.is_none() {
                        self.talk_to(peer)?;
                    }
                }
                self.client.session.read(Some(peer), position);
            }
            ClientEvent::OwnCopy { to, time_ms, payload, repeat: false, .. } => {
                self.screen.copy(time_ms, to, &payload)?;
            }
            ClientEvent::Tick { client_id, device, mark, .. } => {
                self.show_tick(client_id, device, mark)?;
            }
            ClientEvent::Refused { client_id, reason, .. } => {
                let name = self.name_of(client_id);
                let line = format!("refused ({}): {name}; {}", reason.name(), reason.advice());
                self.screen.note(&line)?;
            }
            ClientEvent::Renumbered { client_id, new_client_id } => {
                if let Some(words) = self.words.remove(&client_id) {
                    self.keep_words(new_client_id, words);
                }
            }
            ClientEvent::Presence { user, online, last_seen_ms } => {
                self.screen.presence(user, online, last_seen_ms)?;
            }
            ClientEvent::Typing { user, stopped: false } => self.screen.typing(user)?,
            ClientEvent::Expired { id } if id.sender == self.options.user => {
                let name = self.name_of(id.client_id);
                self.screen.note(&format!("never collected, now expired: {name}"))?;
            }
            ClientEvent::Device { device, added } => {
                let what = if added { "added" } else { "dropped" };
                self.screen.note(&format!("device {device} of yours was {what}"))?;
            }
            ClientEvent::Goodbye { reason, retry_after_ms, reconnect, .. } => {
                if !reconnect {
                    return Err(ChatError::Goodbye { reason });
                }
                self.schedule.retry_after_ms = retry_after_ms;
                self.screen.note(&format!("the server says goodbye: {}", reason.name()))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn show_tick(&mut self, client_id: u64, device: u32, mark: TickMark) -> Result<(), ChatError> {
        if device != self.options.device {
            return Ok(()); // the other device shows its own
        }
        let name = self.name_of(client_id);
        self.screen.tick(mark, &name)?;
        if mark == TickMark::Read {
            self.words.remove(&client_id);
        }
        Ok(())
    }
}
