//! The message ids seen last, to recognise repeats.
//!
//! A server that crashed may store a message again at another position: its id stays. Bounded; the
//! oldest is forgotten first.

use std::collections::{BTreeSet, VecDeque};

use super::SEEN_IDS_MAX;
use crate::MessageId;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    ids: BTreeSet<MessageId>,
    order: VecDeque<MessageId>,
}

impl Seen {
    /// As they were saved, oldest first.
    pub(super) fn restore(seen: &[MessageId]) -> Self {
        let mut all = Self::default();
        for id in seen.iter().skip(seen.len().saturating_sub(SEEN_IDS_MAX)) {
            all.remember(*id);
        }
        all
    }

    /// Notes an id; returns whether it is new.
    pub(super) fn remember(&mut self, id: MessageId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        if self.order.len() >= SEEN_IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.order.push_back(id);
        true
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.order.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client_id: u64) -> MessageId {
        MessageId { sender: 1, device: 1, client_id }
    }

    #[test]
    fn memory_of_ids_is_bounded_and_keeps_the_latest() {
        let mut seen = Seen::default();
        for n in 1..=(SEEN_IDS_MAX as u64 + 10) {
            assert!(seen.remember(id(n)));
        }
        assert_eq!(seen.ids.len(), SEEN_IDS_MAX);
        assert_eq!(seen.order.len(), SEEN_IDS_MAX);
        assert!(seen.remember(id(1)), "the oldest is forgotten");
        assert!(!seen.remember(id(4_000)));
        let again = Seen::restore(&seen.iter().collect::<Vec<_>>());
        assert_eq!(again.order, seen.order);
    }
}
