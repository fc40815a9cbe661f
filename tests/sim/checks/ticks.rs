//! Ticks: nobody is told that somebody has a message before one of their devices got it, and in
//! the end everybody is told.

use wire::client::{ClientEvent, TickMark};
use wire::{MessageId, Stream};

use super::super::phone::Phone;
use super::Checks;

impl Checks {
    /// On the way. Ticks are intervals of positions, so one that an old backup lacks may get its
    /// tick with those behind it.
    pub(crate) fn checks_ticks_tell_the_truth(&mut self, event: &ClientEvent, sender: u64) {
        let ClientEvent::Tick { client_id, device, to, mark, position, .. } = *event else {
            return;
        };
        self.note_tick(event, sender);
        if mark == TickMark::Sent {
            return;
        }
        let id = MessageId { sender, device, client_id };
        let to = match to {
            Stream::User(to) => to,
            Stream::Group(group) => return self.checks_groups_ticks(group, id, position, mark),
        };
        if self.is_lost_with_disk(id, position) {
            return;
        }
        let mut views = self.views.range((to, 0)..=(to, u32::MAX));
        if !views.any(|(_, view)| view.ids.contains(&id)) {
            let what = format!("ticks: {mark:?} for {id:?} at {position:x}, got by nobody");
            self.hasty_ticks.push((id, what));
        }
    }

    /// At the end: a tick of what nobody had was taken back by word of its end.
    pub(crate) fn checks_ticks_were_true(&mut self) {
        for (id, what) in std::mem::take(&mut self.hasty_ticks) {
            let ended = self.expired.contains(&id) || self.deleted.contains(&id);
            if !ended && !self.notices_lost {
                self.violated(what);
            }
        }
    }

    /// At the end: every message of a phone has its second tick.
    pub(crate) fn checks_ticks_were_told(&mut self, phone: &Phone) {
        let (sender, own) = phone.name;
        for message in phone.session.state().unticked.iter().filter(|it| it.device == own) {
            let id = MessageId { sender, device: own, client_id: message.client_id };
            let ended = [&self.expired, &self.deleted, &self.lost_with_disk]
                .iter()
                .any(|ids| ids.contains(&id));
            let due = match message.to {
                Stream::User(_) => !self.may_be_void(&id),
                Stream::Group(group) => self.group_ticks_are_due(group, id, message.position),
            };
            if message.mark < TickMark::Has && !ended && due {
                self.violated(format!("ticks: nobody was told that {id:?} arrived"));
            }
        }
    }
}
