//! An index from hashes to numbers that grows in small pieces.
//!
//! A hash table that is full moves all it holds into one twice as large, within one insert: with a
//! hundred thousand entries that takes milliseconds, and a turn waits. This one is many tables,
//! each for its share of the hashes, so that each moves at its own time, and little.

use hashbrown::HashTable;
use hashbrown::hash_table::{AbsentEntry, OccupiedEntry};

/// Tables. Each grows for itself: with ten million entries a piece is about 40,000 of them.
const PARTS: usize = 256;
/// From this bit of the hash on it is said which table: a table looks at the lowest bits and the
/// highest.
const PART_BIT: u32 = 40;

/// See the module. Methods are those of [`HashTable`].
#[derive(Debug)]
pub struct Index {
    parts: Box<[HashTable<u32>]>,
}

impl Default for Index {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| HashTable::new()).collect() }
    }
}

impl Index {
    /// The number with this hash that is the one.
    #[must_use]
    pub fn find(&self, hash: u64, is_it: impl FnMut(&u32) -> bool) -> Option<&u32> {
        self.parts[part(hash)].find(hash, is_it)
    }

    /// The number with this hash that is the one, to replace it by another one with the same hash.
    pub fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&u32) -> bool) -> Option<&mut u32> {
        self.parts[part(hash)].find_mut(hash, is_it)
    }

    /// The number with this hash that is the one, to take it out.
    ///
    /// # Errors
    /// It is not there.
    pub fn find_entry(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&u32) -> bool,
    ) -> Result<OccupiedEntry<'_, u32>, AbsentEntry<'_, u32>> {
        self.parts[part(hash)].find_entry(hash, is_it)
    }

    /// Adds a number that is not there. `hash_of` tells the hashes of those that are.
    pub fn insert_unique(&mut self, hash: u64, number: u32, hash_of: impl Fn(&u32) -> u64) {
        self.parts[part(hash)].insert_unique(hash, number, hash_of);
    }

    /// Numbers in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(HashTable::is_empty)
    }
}

fn part(hash: u64) -> usize {
    usize::try_from(hash >> PART_BIT).unwrap_or(usize::MAX) % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(number: u32) -> u64 {
        u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn numbers_are_found_until_they_are_taken_out() {
        let mut index = Index::default();
        for number in 0..10_000 {
            index.insert_unique(hash_of(number), number, |&other| hash_of(other));
        }
        assert_eq!((index.len(), index.is_empty()), (10_000, false));
        for number in 0..10_000 {
            assert_eq!(index.find(hash_of(number), |&it| it == number), Some(&number));
            let entry = index.find_entry(hash_of(number), |&it| it == number);
            entry.unwrap().remove();
            assert_eq!(index.find(hash_of(number), |&it| it == number), None);
        }
        assert!(index.is_empty());
    }

    #[test]
    fn no_insert_moves_more_than_a_small_part() {
        const NUMBERS: u32 = 200_000;
        let mut index = Index::default();
        let mut most = 0;
        for number in 0..NUMBERS {
            let moved = std::cell::Cell::new(0);
            index.insert_unique(hash_of(number), number, |&other| {
                moved.set(moved.get() + 1);
                hash_of(other)
            });
            most = most.max(moved.get());
        }
        assert!((1..NUMBERS / 100).contains(&most), "{most} of {NUMBERS} moved at once");
    }
}
