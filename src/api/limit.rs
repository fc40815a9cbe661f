//! Who may ask how often: a bucket per address, per user, and per name that is logged in to.
//!
//! A bucket is one number, the time at which it is full again: a request moves it on by the price
//! of one, and is refused if that would be further ahead than a burst. Invariants: the tables are
//! bounded, and closed rather than open: when a table is full of buckets in use, a newcomer is told
//! to come again.

use super::front::now_ms;
use super::problem::{Code, Problem};
use super::serve::source_of;
use crate::limits;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// All buckets of the API.
#[derive(Debug)]
pub(super) struct Buckets {
    requests: Table<IpAddr>,
    attempts: Table<IpAddr>,
    names: Table<String>,
    callers: Table<u64>,
    lookups: Table<u64>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            requests: Table::new(limits::API_REQUESTS_BURST, limits::API_REQUESTS_EVERY_MS),
            attempts: Table::new(limits::API_ATTEMPTS_BURST, limits::API_ATTEMPTS_EVERY_MS),
            names: Table::new(limits::API_NAME_BURST, limits::API_NAME_EVERY_MS),
            callers: Table::new(limits::API_CALLER_BURST, limits::API_CALLER_EVERY_MS),
            lookups: Table::new(limits::API_LOOKUPS_BURST, limits::API_LOOKUPS_EVERY_MS),
        }
    }
}

impl Buckets {
    /// A request from an address.
    pub(super) fn request(&self, from: IpAddr) -> Result<(), Problem> {
        self.requests.take(source_of(from))
    }

    /// A try at a password, a registration, or a wrong admin token, from an address.
    pub(super) fn attempt(&self, from: IpAddr) -> Result<(), Problem> {
        self.attempts.take(source_of(from))
    }

    /// A try at the password of a name, wherever it comes from.
    pub(super) fn name(&self, name: &str) -> Result<(), Problem> {
        // What is longer is no name, and refused without a hash being computed.
        let name: String = name.chars().take(limits::API_NAME_LETTERS_MAX).collect();
        self.names.take(name.to_lowercase())
    }

    /// A request of a user.
    pub(super) fn caller(&self, user: u64) -> Result<(), Problem> {
        self.callers.take(user)
    }

    /// A look at another user: going through numbers takes years.
    pub(super) fn lookup(&self, user: u64) -> Result<(), Problem> {
        self.lookups.take(user)
    }
}

/// Buckets of one kind.
#[derive(Debug)]
struct Table<K> {
    burst: u64,
    every_ms: u64,
    full_at_ms: Mutex<HashMap<K, u64>>,
}

impl<K: Eq + Hash> Table<K> {
    /// `burst` in a row, and one more each `every_ms`.
    fn new(burst: u32, every_ms: u64) -> Self {
        Self { burst: u64::from(burst), every_ms, full_at_ms: Mutex::default() }
    }

    fn take(&self, key: K) -> Result<(), Problem> {
        self.take_at(key, now_ms()).map_err(|wait_ms| {
            Problem::new(Code::RateLimited, "Come again after retry_after_ms, and more slowly.")
                .after(u32::try_from(wait_ms).unwrap_or(u32::MAX))
        })
    }

    /// Takes one at a time in milliseconds, or says how long to wait.
    fn take_at(&self, key: K, now_ms: u64) -> Result<(), u64> {
        let mut buckets = self.full_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= limits::API_BUCKETS_MAX && !buckets.contains_key(&key) {
            buckets.retain(|_, full_at_ms| *full_at_ms > now_ms);
            if buckets.len() >= limits::API_BUCKETS_MAX {
                return Err(self.every_ms.max(u64::from(limits::API_RETRY_MS)));
            }
        }
        let full_at_ms = buckets.entry(key).or_default();
        let next_ms = (*full_at_ms).max(now_ms).saturating_add(self.every_ms);
        let ahead_ms = next_ms - now_ms;
        let most_ms = self.burst * self.every_ms;
        if ahead_ms > most_ms {
            return Err(ahead_ms - most_ms);
        }
        *full_at_ms = next_ms;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_goes_through_and_then_one_each_interval() {
        let table = Table::new(3, 100);
        for _ in 0..3 {
            table.take_at('a', 1_000).unwrap();
        }
        assert_eq!(table.take_at('a', 1_000), Err(100));
        assert_eq!(table.take_at('a', 1_060), Err(40));
        table.take_at('a', 1_100).unwrap();
        assert_eq!(table.take_at('a', 1_100), Err(100));
        table.take_at('b', 1_100).unwrap();
    }

    #[test]
    fn a_full_table_is_closed_until_somebody_in_it_is_at_rest() {
        let table = Table::new(1, 1_000);
        for key in 0..limits::API_BUCKETS_MAX {
            table.take_at(key, 5_000).unwrap();
        }
        table.take_at(limits::API_BUCKETS_MAX, 5_999).unwrap_err();
        table.take_at(limits::API_BUCKETS_MAX, 6_000).unwrap();
    }

    proptest! {
        /// Whoever waits as told gets through, and nobody gets more than the rate allows.
        #[test]
        fn the_time_to_wait_is_true_and_the_rate_holds(
            burst in 1_u32..20,
            every_ms in 1_u64..1_000,
            gaps in prop::collection::vec(0_u64..2_000, 1..200),
        ) {
            let table = Table::new(burst, every_ms);
            let (mut now_ms, mut taken) = (1_u64, 0_u64);
            for gap in gaps {
                now_ms += gap;
                match table.take_at((), now_ms) {
                    Ok(()) => taken += 1,
                    Err(wait_ms) => {
                        prop_assert!(table.take_at((), now_ms + wait_ms - 1).is_err());
                        now_ms += wait_ms;
                        prop_assert!(table.take_at((), now_ms).is_ok());
                        taken += 1;
                    }
                }
                prop_assert!(taken <= u64::from(burst) + now_ms / every_ms);
            }
        }
    }
}
