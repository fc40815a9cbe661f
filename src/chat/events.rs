//! What the terminal shows of what happens, and what the client does about it.

use client::{ClientEvent, TickMark};
use wire::{Change, GroupChange, Stream};

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
            ClientEvent::Message { peer, position, time_ms, payload, repeat, request, .. } => {
                if !repeat {
                    let name = self.called(Stream::User(peer));
                    if request {
                        self.screen.note(&format!("{name} is no contact of yours and writes:"))?;
                    }
                    self.screen.incoming(time_ms, &name, &payload)?;
                    if self.to.is_none() && !request {
                        self.talk_to(Stream::User(peer))?;
                    }
                }
                self.client.session.read(Some(peer), position);
            }
            ClientEvent::OwnCopy { to, time_ms, payload, repeat: false, .. } => {
                let to = self.called(to);
                self.screen.copy(time_ms, &to, &payload)?;
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
                let name = self.called(Stream::User(user));
                self.screen.presence(&name, online, last_seen_ms)?;
            }
            ClientEvent::Typing { user, stopped: false } => {
                let name = self.called(Stream::User(user));
                self.screen.typing(&name)?;
            }
            event => self.show_group(event)?,
        }
        Ok(())
    }

    /// The same for what happens in groups, and to this device.
    fn show_group(&mut self, event: ClientEvent) -> Result<(), ChatError> {
        match event {
            ClientEvent::GroupMessage { group, id, position, time_ms, payload, repeat, .. } => {
                if !repeat {
                    let from =
                        format!("{} {}", self.called(Stream::Group(group)), self.by(id.sender));
                    self.screen.incoming(time_ms, &from, &payload)?;
                    if self.to.is_none() {
                        self.talk_to(Stream::Group(group))?;
                    }
                }
                self.client.session.read_group(group, position);
            }
            ClientEvent::GroupChanged { group, by, change, payload, position, .. } => {
                self.show_change(group, by, change, &payload)?;
                self.client.session.read_group(group, position);
            }
            ClientEvent::GroupRefused { group, reason } => {
                let group = self.called(Stream::Group(group));
                let line =
                    format!("{group} can't be read ({}): {}", reason.name(), reason.advice());
                self.screen.note(&line)?;
            }
            ClientEvent::GroupTyping { group, user, stopped: false } => {
                let who = format!("{} in {}", self.by(user), self.called(Stream::Group(group)));
                self.screen.typing(&who)?;
            }
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

    fn show_change(
        &mut self,
        group: u64,
        by: u64,
        change: GroupChange,
        name: &[u8],
    ) -> Result<(), ChatError> {
        if matches!(change.what, Change::Created | Change::Renamed) {
            self.names.note_group(group, &String::from_utf8_lossy(name));
        }
        let (by, group) = (self.by(by), self.called(Stream::Group(group)));
        let whom = self.by(change.user);
        let line = match change.what {
            Change::Created => format!("{by} began {group}"),
            Change::Added => format!("{by} added {whom} to {group}"),
            Change::Removed => format!("{by} removed {whom} from {group}"),
            Change::Left => format!("{whom} left {group}"),
            Change::Renamed => format!("{by} named it {group}"),
            Change::Role => format!("{by} changed what {whom} may do in {group}"),
            Change::Ended => format!("{by} ended {group}"),
        };
        Ok(self.screen.note(&line)?)
    }

    fn by(&mut self, user: u64) -> String {
        if user == self.options.user { "me".to_owned() } else { self.called(Stream::User(user)) }
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
