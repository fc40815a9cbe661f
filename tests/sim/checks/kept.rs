//! I1, acked is kept: after `Sent` a message survives everything until every device it is for
//! acked it, or until it ended otherwise and its sender was told.

use wire::MessageId;

use super::super::store::Contents;
use super::{Answer, Checks};

impl Checks {
    /// At every start: whatever `Sent` was said of waits where it was said to be, and can be read,
    /// unless it may be gone.
    pub(crate) fn checks_i1_sent_is_kept(&mut self, contents: &Contents) {
        let mut wrong = Vec::new();
        for (id, answer) in &self.sent {
            let place = (answer.to, answer.position);
            match contents.waiting.get(&place) {
                Some(Some(there)) if there == id => {}
                Some(None) if self.is_rotten => {}
                None if self.may_be_gone(id, answer) => {}
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
            if !self.may_be_gone(id, answer) {
                wrong.push(format!("I1: {id:?} was {answer:x?} and did not reach everybody"));
            }
        }
        for ((id, copy), (user, position)) in &self.stored {
            for (name, view) in self.views.range((*user, 0)..=(*user, u32::MAX)) {
                let own = *copy && *name == (id.sender, id.device);
                let is_for = view.first_cursor.is_some_and(|cursor| cursor < *position) && !own;
                if is_for && !view.ids.contains(id) && !self.expired.contains(id) {
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
        let mut views = self.views.range((answer.to, 0)..=(answer.to, u32::MAX)).peekable();
        let everybody_has = views.peek().is_some()
            && views.all(|(_, view)| {
                let is_for = view.first_cursor.is_some_and(|cursor| cursor < answer.position);
                !is_for || view.ids.contains(id)
            });
        everybody_has || self.expired.contains(id)
    }
}
