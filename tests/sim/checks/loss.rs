//! I5, no silent loss: what can't be kept is refused with a reason; nothing is refused after it
//! was pushed; whoever obeys the protocol hears no reproach.

use wire::{MessageId, Refusal, Refused};

use super::{Checks, Name, id_of};

impl Checks {
    /// What was refused for good is never `Sent`.
    pub(super) fn checks_i5_one_kind_of_answer(&mut self, id: MessageId) {
        if self.refused.contains(&id) {
            self.violated(format!("I5: {id:?} was refused for good, then Sent"));
        }
    }

    /// What was pushed is not refused; a phone that obeys hears no reproach.
    pub(super) fn checks_i5_no_silent_loss_on_refusal(&mut self, name: Name, refused: &Refused) {
        let id = id_of(name, refused.client_id);
        let reason = refused.reason;
        if refused.retriable != reason.retriable() {
            self.violated(format!("I5: {id:?}: {reason} says retriable {}", refused.retriable));
        }
        let boot = self.views.get(&name).map(|view| view.boot);
        if boot.is_some() && self.pushed.get(&id).copied() == boot {
            self.violated(format!("I5: {id:?} was pushed and then refused: {reason}"));
        }
        if self.sent.contains_key(&id) {
            self.violated(format!("I5: {id:?} was Sent and then refused: {reason}"));
        }
        // `stale_id` may come once a crash has forgotten a refusal that nobody heard.
        let undeserved = reason == Refusal::StaleId && self.boots.len() < 2
            || matches!(reason, Refusal::IdReused | Refusal::WindowFull | Refusal::Invalid);
        if undeserved {
            self.violated(format!("I5: a phone that obeys was refused {id:?}: {reason}"));
        }
        if !refused.retriable {
            self.refused.insert(id);
        }
    }

    /// At the end, when everything has come to rest: everything that was ever written was `Sent`,
    /// refused for good, or sent under another number.
    pub(crate) fn checks_i5_every_send_was_answered(&mut self) {
        let open = |id: &&MessageId| {
            let settled = [&self.refused, &self.renumbered, &self.lost_with_disk];
            !self.sent.contains_key(*id) && settled.iter().all(|ids| !ids.contains(*id))
        };
        let mut open: Vec<MessageId> = self.contents.keys().filter(open).copied().collect();
        open.sort_by_key(|id| (id.sender, id.device, id.client_id));
        for id in open {
            self.violated(format!("I5: {id:?} was never answered"));
        }
    }
}
