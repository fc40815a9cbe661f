//! Which shard is whose home: `partition_of(id)` (fixed for ever) dealt to the shards in turn.

use crate::log::partition_of;

/// The table of partitions on one host.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    shards: usize,
}

impl Placement {
    /// Deals the partitions to `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        assert!(shards > 0, "a server has at least one shard");
        Self { shards }
    }

    /// The home shard of a user or group.
    #[must_use]
    pub fn home(self, id: u64) -> usize {
        usize::from(partition_of(id)) % self.shards
    }
}
