//! Memory for packed waiting records: small chunks of one size, in chains.
//!
//! Nothing ever moves and nothing is allocated per record: chunks come from pages and go back to a
//! list of free ones. Pages stay; a shard keeps the memory that its fullest hour took.

use crate::state::NONE;

/// Bytes of a chunk that hold something.
pub(super) const CHUNK_BYTES: usize = 32;
const CHUNKS_PER_PAGE: usize = 1024;

#[derive(Clone, Copy)]
pub(super) struct Chunk {
    /// The next of its chain, or of the free ones.
    pub(super) next: u32,
    pub(super) bytes: [u8; CHUNK_BYTES],
}

/// All chunks of a shard, used and free.
pub(super) struct Chunks {
    pages: Vec<Box<[Chunk]>>,
    free: u32,
    used: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { pages: Vec::new(), free: NONE, used: 0 }
    }
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Chunks").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Chunks {
    pub(super) fn get(&self, index: u32) -> &Chunk {
        &self.pages[index as usize / CHUNKS_PER_PAGE][index as usize % CHUNKS_PER_PAGE]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Chunk {
        &mut self.pages[index as usize / CHUNKS_PER_PAGE][index as usize % CHUNKS_PER_PAGE]
    }

    /// A chunk that ends a chain; its bytes are whatever they were.
    pub(super) fn take(&mut self) -> u32 {
        if self.free == NONE {
            self.add_page();
        }
        let index = self.free;
        let chunk = self.get_mut(index);
        let next = std::mem::replace(&mut chunk.next, NONE);
        self.free = next;
        self.used += 1;
        index
    }

    /// Takes a chunk back; returns the one behind it in its chain.
    pub(super) fn give(&mut self, index: u32) -> u32 {
        let free = self.free;
        let next = std::mem::replace(&mut self.get_mut(index).next, free);
        self.free = index;
        self.used -= 1;
        next
    }

    /// Takes a whole chain back.
    pub(super) fn give_chain(&mut self, first: u32) {
        let mut index = first;
        while index != NONE {
            index = self.give(index);
        }
    }

    fn add_page(&mut self) {
        let first = self.pages.len() * CHUNKS_PER_PAGE;
        let end = u32::try_from(first + CHUNKS_PER_PAGE).unwrap_or(NONE);
        assert!(end != NONE, "fewer than 2^32 chunks fit a process");
        let mut page = vec![Chunk { next: NONE, bytes: [0; CHUNK_BYTES] }; CHUNKS_PER_PAGE];
        for (chunk, index) in page.iter_mut().rev().zip((0..end).rev()) {
            chunk.next = self.free;
            self.free = index;
        }
        self.pages.push(page.into_boxed_slice());
    }

    /// Bytes of the chunks in use.
    #[cfg(test)]
    pub(super) fn bytes_used(&self) -> usize {
        self.used * size_of::<Chunk>()
    }
}
