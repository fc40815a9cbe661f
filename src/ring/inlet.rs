//! A bounded queue into one shard from threads that are no shards: signature checks, control.
//!
//! Owner: any thread pushes, the shard pops. Full means the item comes back and the sender decides
//! (these senders may wait or refuse; a shard is never among them). Not here: answers; whoever
//! wants one puts a way back into `T`.

use super::Doorbell;
use crate::sync::ArrayQueue;
use std::sync::Arc;

/// See the module. Clones lead to the same shard.
#[derive(Debug)]
pub struct Inlet<T> {
    queue: Arc<ArrayQueue<T>>,
    doorbell: Doorbell,
}

impl<T: Send> Inlet<T> {
    /// An inlet with room for `capacity` items; pushing rings `doorbell`.
    ///
    /// # Panics
    /// If `capacity` is 0.
    #[must_use]
    pub fn new(capacity: usize, doorbell: Doorbell) -> Self {
        Self { queue: Arc::new(ArrayQueue::new(capacity)), doorbell }
    }

    /// Hands `item` to the shard and wakes it if it sleeps.
    ///
    /// # Errors
    /// Hands `item` back if the inlet is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.queue.push(item)?;
        self.doorbell.ring();
        Ok(())
    }

    /// The oldest item.
    #[must_use]
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Whether nothing waits. Exact for the shard after [`Doorbell::prepare_sleep`]: whatever is
    /// pushed later rings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<T> Clone for Inlet<T> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), doorbell: self.doorbell.clone() }
    }
}

#[cfg(all(test, not(feature = "models")))]
mod tests {
    use super::Inlet;
    use crate::ring::Doorbell;

    #[test]
    fn a_full_inlet_hands_the_item_back() {
        let inlet = Inlet::new(2, Doorbell::silent());
        assert!(inlet.is_empty());
        assert_eq!(inlet.push(1), Ok(()));
        assert_eq!(inlet.clone().push(2), Ok(()));
        assert_eq!(inlet.push(3), Err(3));
        assert_eq!(inlet.pop(), Some(1));
        assert_eq!(inlet.pop(), Some(2));
        assert_eq!(inlet.pop(), None);
    }
}
