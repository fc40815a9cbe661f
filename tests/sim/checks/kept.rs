//! I1, acked is kept: after `Sent` a message survives everything until every device it is for
//! acked it, or until it ended otherwise and its sender was told.

use wire::MessageId;

use super::Checks;

impl Checks {
    /// At every start and at the end: whatever `Sent` was said of is in the log, where it was said
    /// to be.
    pub(crate) fn checks_i1_sent_is_in_the_log(&mut self) {
        let mut wrong = Vec::new();
        for (id, answer) in &self.sent {
            let stored = self.stored.get(&(*id, false)).copied();
            let place = (answer.to, answer.position);
            if stored != Some(place) && !(stored.is_none() && self.may_be_gone(*id)) {
                wrong.push(format!("I1: {id:?} was Sent at {place:x?}, stored at {stored:x?}"));
            }
        }
        wrong.sort();
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// At the end, when everything has come to rest: everything in the log reached every device it
    /// is for.
    pub(crate) fn checks_i1_stored_is_delivered(&mut self) {
        let mut wrong = Vec::new();
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

    /// Whether the log need not have a message any more although it was `Sent`: its sender was told
    /// that it ended. (Where acked messages are removed from the log, they belong here too.)
    fn may_be_gone(&self, id: MessageId) -> bool {
        self.expired.contains(&id)
    }
}
