//! Recycled byte buffers of a shard: outboxes, encoded frames, tails of half-read frames.
//!
//! Owner: one shard. Bounded twice: so many buffers are kept, and none that has grown beyond the
//! kept capacity, so a burst of large messages does not stay in memory for ever. Buffers that are
//! out are the holder's business. Most recently used first: its lines are still in the cache.

/// A bounded stack of empty `Vec<u8>` with capacity.
#[derive(Debug)]
pub struct Buffers {
    kept: Vec<Vec<u8>>,
    kept_max: usize,
    kept_capacity_max: usize,
}

impl Buffers {
    /// Keeps at most `kept_max` buffers of at most `kept_capacity_max` bytes of capacity each.
    #[must_use]
    pub fn new(kept_max: usize, kept_capacity_max: usize) -> Self {
        Self { kept: Vec::with_capacity(kept_max), kept_max, kept_capacity_max }
    }

    /// An empty buffer: a kept one, or a new one without capacity.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        self.kept.pop().unwrap_or_default()
    }

    /// Takes a buffer back, whatever it holds. Beyond the bounds it is freed.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || capacity > self.kept_capacity_max || self.kept.len() >= self.kept_max {
            return;
        }
        buffer.clear();
        self.kept.push(buffer);
    }

    /// Buffers kept right now.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Buffers;

    #[test]
    fn a_buffer_comes_back_empty_with_its_capacity() {
        let mut buffers = Buffers::new(4, 1024);
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[7; 100]);
        let capacity = buffer.capacity();
        buffers.give(buffer);
        let again = buffers.take();
        assert!(again.is_empty());
        assert_eq!(again.capacity(), capacity);
    }

    #[test]
    fn neither_too_many_nor_too_large_buffers_are_kept() {
        let mut buffers = Buffers::new(2, 64);
        buffers.give(Vec::with_capacity(65));
        buffers.give(Vec::new());
        assert_eq!(buffers.kept(), 0);
        for _ in 0..5 {
            buffers.give(Vec::with_capacity(64));
        }
        assert_eq!(buffers.kept(), 2);
    }
}
