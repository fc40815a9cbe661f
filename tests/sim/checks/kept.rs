//! I1, acked is kept: after `Sent` a message survives everything until every device it is for
//! acked it, or until it ended otherwise and its sender was told.

use wire::{Expired, MessageId, Stream};

use super::super::store::Contents;
use super::{Answer, Checks, Name};

impl Checks {
    /// At every start: whatever `Sent` was said of waits where it was said to be, and can be read,
    /// unless it may be gone.
    pub(crate) fn checks_i1_sent_is_kept(&mut self, contents: &Contents) {
        let mut wrong = Vec::new();
        for (id, answer) in &self.sent {
            // What members of a group got is judged at the end.
            let Stream::User(to) = answer.to else { continue };
            let place = (to, answer.position);
            match contents.waiting.get(&place) {
                Some(Some(there)) if there == id => {}
                Some(None) if self.is_rotten => {}
                None if self.may_be_gone(id, answer) || contents.noticed.contains(id) => {}
                waits => wrong.push(format!(
                    "I1: {id:?} was Sent at {place:x?}, at a start there is {waits:?}"
                )),
            }
        }
        wrong.sort();
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// At the end, when everything has come to rest: what was `Sent` reached every device it is
    /// for, and so did everything else that is in the log.
    pub(crate) fn checks_i1_everybody_got_everything(&mut self) {
        let mut wrong = Vec::new();
        for (id, answer) in &self.sent {
            if matches!(answer.to, Stream::User(_)) && !self.may_be_gone(id, answer) {
                wrong.push(format!("I1: {id:?} was {answer:x?} and did not reach everybody"));
            }
        }
        for ((id, copy), (stream, position)) in &self.stored {
            let Stream::User(user) = stream else { continue };
            for (name, view) in self.views.range((*user, 0)..=(*user, u32::MAX)) {
                let own = *copy && *name == (id.sender, id.device);
                let is_for = view.first_cursor.is_some_and(|cursor| cursor < *position) && !own;
                if is_for && !view.ids.contains(id) && !self.has_ended(id, *copy) {
                    wrong.push(format!(
                        "I1: {name:?} never got {id:?} (copy: {copy}) of position {position:x}"
                    ));
                }
            }
        }
        wrong.sort();
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// Whether the log need not have a message any more although it was `Sent`: everybody has it,
    /// or its sender was told that it ended.
    fn may_be_gone(&self, id: &MessageId, answer: &Answer) -> bool {
        let Stream::User(to) = answer.to else { return true };
        let mut views = self.views.range((to, 0)..=(to, u32::MAX)).peekable();
        let everybody_has = views.peek().is_some()
            && views.all(|(_, view)| {
                let is_for = view.first_cursor.is_some_and(|cursor| cursor < answer.position);
                !is_for || view.ids.contains(id)
            });
        everybody_has || self.has_ended(id, false)
    }

    /// Whether a message or a copy may vanish before everybody has it.
    fn has_ended(&self, id: &MessageId, copy: bool) -> bool {
        // Nobody is told of the end of a copy.
        let short = self.contents.get(id).is_some_and(|content| content.ttl_s != 0);
        self.expired.contains(id)
            || (!copy && self.may_be_void(id))
            || self.deleted.contains(id)
            || (short && (copy || self.notices_lost))
    }

    /// Word of an end comes to the author, and not before the message's time is over.
    pub(super) fn checks_i1_told_of_an_end(&mut self, name: Name, expired: &Expired) {
        let id = expired.id;
        if id.sender != name.0 {
            return self.violated(format!("I1: {name:?} was told of the end of {id:?}"));
        }
        if self.contents.get(&id).is_none_or(|content| content.ttl_s == 0) {
            self.violated(format!("I1: {id:?} ended long before its time"));
        }
        let view = self.views.entry(name).or_default();
        if view.last_position >= expired.position {
            let (former, position) = (view.last_position, expired.position);
            self.violated(format!("I3: {name:?} got position {position:x} after {former:x}"));
            return;
        }
        view.last_position = expired.position;
    }
}
