//! A slab that checks generations: the home of connections, and of anything named by a `Token`.
//!
//! Owner: one shard. Built on the `slab` crate, to which it adds a fixed capacity and a generation
//! per tenant. Lookups by a token whose tenant has left give `None`: a stale token is an expected
//! case, never an error. Not here: growth; a full slab hands the newcomer back.

use super::Token;
use std::num::NonZeroU32;

/// Tenants with stable 32-bit indices and generation-checked access.
#[derive(Debug)]
pub struct Slab<T> {
    tenants: slab::Slab<Tenant<T>>,
    capacity: usize,
    generation: NonZeroU32,
}

/// The generation is `NonZero` so that the vacant/occupied mark of the slab fits in its niche.
#[derive(Debug)]
struct Tenant<T> {
    generation: NonZeroU32,
    value: T,
}

/// Like the entry of the `slab` crate, which is private. `Vacant` is the next vacant place.
#[allow(dead_code, reason = "only its size matters")]
enum Entry<T> {
    Vacant(usize),
    Occupied(T),
}

/// Bytes a `T` takes in a slab of the `slab` crate, its mark of being there included.
#[must_use]
pub const fn entry_bytes<T>() -> usize {
    size_of::<Entry<T>>()
}

impl<T> Slab<T> {
    /// Bytes a tenant takes, with its generation and the mark of being there.
    pub const TENANT_BYTES: usize = entry_bytes::<Tenant<T>>();

    /// A slab for at most `n` tenants. Reserves address space, touches nothing.
    ///
    /// # Panics
    /// If `n` does not fit in 32 bits with two indices to spare (drivers use those for their own).
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        assert!(n <= (u32::MAX - 2) as usize, "a slab has 32-bit indices");
        Self { tenants: slab::Slab::with_capacity(n), capacity: n, generation: NonZeroU32::MIN }
    }

    /// Moves `value` in and names it.
    ///
    /// # Errors
    /// Hands `value` back if the slab is full.
    pub fn insert(&mut self, value: T) -> Result<Token, T> {
        if self.tenants.len() >= self.capacity {
            return Err(value);
        }
        let generation = self.generation;
        self.generation = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let index = self.tenants.insert(Tenant { generation, value });
        Ok(Token { index: narrow(index), generation: generation.get() })
    }

    /// Moves the tenant of `token` out, if it is still there.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        self.tenants.try_remove(token.index as usize).map(|tenant| tenant.value)
    }

    /// The tenant of `token`, if it is still there.
    #[must_use]
    pub fn get(&self, token: Token) -> Option<&T> {
        let tenant = self.tenants.get(token.index as usize)?;
        (tenant.generation.get() == token.generation).then_some(&tenant.value)
    }

    /// The tenant of `token` to change, if it is still there.
    #[must_use]
    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let tenant = self.tenants.get_mut(token.index as usize)?;
        (tenant.generation.get() == token.generation).then_some(&mut tenant.value)
    }

    /// Whoever lives at `index` now.
    #[must_use]
    pub fn by_index(&self, index: u32) -> Option<(Token, &T)> {
        let tenant = self.tenants.get(index as usize)?;
        Some((Token { index, generation: tenant.generation.get() }, &tenant.value))
    }

    /// Whoever lives at `index` now, to change.
    #[must_use]
    pub fn by_index_mut(&mut self, index: u32) -> Option<(Token, &mut T)> {
        let tenant = self.tenants.get_mut(index as usize)?;
        Some((Token { index, generation: tenant.generation.get() }, &mut tenant.value))
    }

    /// All tenants in the order of their indices. Walks vacant places too: not for every turn.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.tenants.iter().map(|(index, tenant)| {
            let token = Token { index: narrow(index), generation: tenant.generation.get() };
            (token, &tenant.value)
        })
    }

    /// Tenants now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether nobody lives here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Tenants at the most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// The `slab` crate hands out indices below the highest number of tenants so far, which the
/// capacity check of `with_capacity` keeps within 32 bits.
#[allow(clippy::cast_possible_truncation, reason = "bounded by the check in with_capacity")]
fn narrow(index: usize) -> u32 {
    index as u32
}

#[cfg(test)]
mod tests {
    use super::super::Token;
    use super::Slab;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16),
        /// Removes the n-th token ever given out, stale or not.
        Remove(usize),
        Change(usize, u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => any::<u16>().prop_map(Step::Insert),
            2 => (0..64usize).prop_map(Step::Remove),
            1 => ((0..64usize), any::<u16>()).prop_map(|(at, value)| Step::Change(at, value)),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_from_tokens_that_never_return(
            steps in steps(),
            capacity in 0..20usize,
        ) {
            let mut slab = Slab::with_capacity(capacity);
            let mut model: BTreeMap<u64, u16> = BTreeMap::new();
            let mut given: Vec<Token> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(value) => match slab.insert(value) {
                        Ok(token) => {
                            prop_assert!(model.len() < capacity);
                            prop_assert!(!given.contains(&token));
                            given.push(token);
                            model.insert(token.to_u64(), value);
                        }
                        Err(back) => {
                            prop_assert_eq!(back, value);
                            prop_assert_eq!(model.len(), capacity);
                        }
                    },
                    Step::Remove(at) => if let Some(token) = given.get(at) {
                        prop_assert_eq!(slab.remove(*token), model.remove(&token.to_u64()));
                    },
                    Step::Change(at, value) => if let Some(token) = given.get(at) {
                        let place = slab.get_mut(*token);
                        prop_assert_eq!(place.is_some(), model.contains_key(&token.to_u64()));
                        if let Some(place) = place {
                            *place = value;
                            model.insert(token.to_u64(), value);
                        }
                    },
                }
                prop_assert_eq!(slab.len(), model.len());
                for token in &given {
                    prop_assert_eq!(slab.get(*token), model.get(&token.to_u64()));
                }
                let mut walked: Vec<_> =
                    slab.iter().map(|(token, value)| (token.to_u64(), *value)).collect();
                walked.sort_unstable();
                prop_assert_eq!(walked, model.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_index_finds_whoever_lives_there_now() {
        let mut slab = Slab::with_capacity(1);
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.by_index(first.index), Some((first, &'a')));
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b').unwrap();
        assert_eq!(second.index, first.index);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.by_index_mut(first.index).map(|(token, _)| token), Some(second));
        assert_eq!(slab.by_index(1), None);
        assert_eq!(slab.insert('c'), Err('c'));
    }

    #[test]
    fn the_generation_costs_four_bytes_and_no_more() {
        assert_eq!(Slab::<[u32; 21]>::TENANT_BYTES, 88);
    }
}
