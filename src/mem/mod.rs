//! Memory of a shard: a generation-checked slab, a timer wheel, recycled buffers, token
//! buckets, an index that grows in small pieces.
//!
//! Owner: one shard each; nothing here is shared between threads. Everything but the index, which
//! its users bound, has a capacity given at construction and address space reserved for it then,
//! but pages are touched only when used, so a table planned for millions costs what is in it. Not
//! here: queues between shards (`ring`), the allocator, huge pages.

mod bucket;
mod buffers;
mod index;
mod slab;
mod wheel;

pub use bucket::{Bucket, Buckets, Rate, RetryAfterMs};
pub use buffers::Buffers;
pub use index::Index;
pub use slab::{Slab, entry_bytes};
pub use wheel::{ENTRY_BYTES as WHEEL_ENTRY_BYTES, HORIZON_MS, SLOT_MS, Wheel};

/// Names one tenant of a slab for its whole life, and never another one.
///
/// The index is reused, the generation is not (a counter of the slab, 32 bits: a holder would have
/// to sit on a stale token for four thousand million insertions to be fooled).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Token {
    /// Place in the slab.
    pub index: u32,
    /// Which tenant of that place; never 0.
    pub generation: u32,
}

impl Token {
    /// Both halves in one number, generation above index.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The reverse of [`Token::to_u64`]. Any number gives a token; most name nobody.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "each half is 32 bits by construction")]
    pub const fn from_u64(number: u64) -> Self {
        Self { index: number as u32, generation: (number >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::Token;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_survives_the_trip_through_a_number(index: u32, generation: u32) {
            let token = Token { index, generation };
            prop_assert_eq!(Token::from_u64(token.to_u64()), token);
        }
    }
}
