//! I2, once: a `Send` that is repeated is stored once and gets its first answer again.

use wire::MessageId;

use super::{Answer, Checks, Place};

impl Checks {
    /// Position and time of every `Sent` for a message are those of the first.
    pub(super) fn checks_i2_the_first_answer_again(&mut self, id: MessageId, answer: Answer) {
        if self.lost_with_disk.contains(&id) {
            return; // the backup knows nothing of the first answer
        }
        let first = *self.sent.entry(id).or_insert(answer);
        if first != answer {
            self.violated(format!("I2: {id:?} was answered {first:x?}, now {answer:x?}"));
        }
    }

    /// The log has one record of each message, and at most one own copy; once it was durable it is
    /// never stored anew.
    pub(super) fn checks_i2_stored_once(&mut self, id: MessageId, copy: bool, place: Place) {
        let earlier = self.durable.get(&(id, copy)).copied().filter(|first| *first != place);
        let here = self.stored.insert((id, copy), place);
        if let Some(first) = here.or(earlier) {
            self.violated(format!("I2: {id:?} (copy: {copy}) is stored at {first:x?}, {place:x?}"));
        }
    }
}
