//! I4, positions are never reused: not those that were pushed and lost before their commit, not
//! after a restart, and not after the restore of an old backup.

use wire::MessageId;

use super::{Checks, Place, epoch_of};

impl Checks {
    /// A position of a stream never names two messages.
    pub(super) fn checks_i4_positions_are_never_reused(
        &mut self,
        (stream, position): Place,
        id: MessageId,
        copy: bool,
    ) {
        self.highest_epoch = self.highest_epoch.max(epoch_of(position));
        let first = *self.names.entry((stream, position)).or_insert((id, copy));
        if first != (id, copy) {
            let now = (id, copy);
            self.violated(format!(
                "I4: position {position:x} of {stream:?} names {first:?} and {now:?}"
            ));
        }
    }

    /// The epoch of a start lies above that of every start before, and above every position that
    /// anybody was told.
    pub(super) fn checks_i4_epochs_rise(&mut self, epoch: u32) {
        let former = self.highest_epoch;
        if epoch <= former {
            self.violated(format!("I4: a start with epoch {epoch:x} after epoch {former:x}"));
        }
        self.highest_epoch = former.max(epoch);
    }
}
