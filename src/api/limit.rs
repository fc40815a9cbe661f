//! Who may ask how often: a bucket per address, per user, and per name that is logged in to.
//!
//! Invariants: the tables are bounded, and closed rather than open: when a table is full of buckets
//! in use, a newcomer is told to come again.

use super::front::now_ms;
use super::problem::{Code, Problem};
use super::serve::source_of;
use crate::limits;
use crate::mem::{Buckets as Table, Rate, RetryAfterMs};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// All buckets of the API.
#[derive(Debug)]
pub(super) struct Buckets {
    requests: Mutex<Table<IpAddr>>,
    attempts: Mutex<Table<IpAddr>>,
    names: Mutex<Table<String>>,
    callers: Mutex<Table<u64>>,
    lookups: Mutex<Table<u64>>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            requests: table(limits::API_REQUESTS_PER_S, limits::API_REQUESTS_BURST),
            attempts: table(limits::API_ATTEMPTS_PER_S, limits::API_ATTEMPTS_BURST),
            names: table(1, limits::API_NAME_BURST * limits::API_NAME_EVERY_S),
            callers: table(limits::API_CALLER_PER_S, limits::API_CALLER_BURST),
            lookups: table(limits::API_LOOKUPS_PER_S, limits::API_LOOKUPS_BURST),
        }
    }
}

fn table<K: Eq + Hash>(per_second: u32, burst: u32) -> Mutex<Table<K>> {
    Mutex::new(Table::new(Rate::new(per_second, burst), limits::API_BUCKETS_MAX))
}

impl Buckets {
    /// A request from an address.
    pub(super) fn request(&self, from: IpAddr) -> Result<(), Problem> {
        take(&self.requests, source_of(from), 1)
    }

    /// A try at a password, a registration, or a wrong admin token, from an address.
    pub(super) fn attempt(&self, from: IpAddr) -> Result<(), Problem> {
        take(&self.attempts, source_of(from), 1)
    }

    /// A try at the password of a name, wherever it comes from.
    pub(super) fn name(&self, name: &str) -> Result<(), Problem> {
        // What is longer is no name, and refused without a hash being computed.
        let name: String = name.chars().take(limits::API_NAME_LETTERS_MAX).collect();
        take(&self.names, name.to_lowercase(), limits::API_NAME_EVERY_S)
    }

    /// A try at the password of somebody who is logged in: a stolen token shall not help to guess.
    pub(super) fn password(&self, user: u64) -> Result<(), Problem> {
        // No name begins like this.
        take(&self.names, format!("#{user}"), limits::API_NAME_EVERY_S)
    }

    /// A request of a user.
    pub(super) fn caller(&self, user: u64) -> Result<(), Problem> {
        take(&self.callers, user, 1)
    }

    /// A look at another user: going through numbers takes years.
    pub(super) fn lookup(&self, user: u64) -> Result<(), Problem> {
        take(&self.lookups, user, 1)
    }
}

fn take<K: Eq + Hash>(table: &Mutex<Table<K>>, who: K, cost: u32) -> Result<(), Problem> {
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    table.take(who, cost, now_ms()).map_err(|RetryAfterMs(wait_ms)| {
        Problem::new(Code::RateLimited, "Come again after retry_after_ms, and more slowly.")
            .after(wait_ms)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_tries_in_whatever_letters_and_others_have_theirs() {
        let buckets = Buckets::default();
        for number in 0..limits::API_NAME_BURST {
            buckets.name(if number % 2 == 0 { "ann" } else { "ANN" }).unwrap();
        }
        assert_eq!(buckets.name("Ann").unwrap_err().code, Code::RateLimited);
        buckets.name("bob").unwrap();
    }

    #[test]
    fn an_address_has_a_burst_and_its_neighbours_share_it() {
        let buckets = Buckets::default();
        let [here, near, far] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
            .map(|text| text.parse::<IpAddr>().unwrap());
        for _ in 0..limits::API_ATTEMPTS_BURST {
            buckets.attempt(here).unwrap();
        }
        buckets.attempt(near).unwrap_err();
        buckets.attempt(far).unwrap();
    }
}
