//! How many connections that have not logged in each source holds.
//!
//! A source is an IPv4 address or an IPv6 /64: what one household or one attacker owns cheaply.

use crate::mem::Token;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

/// Tokens a list keeps of connections that do not wait any more, besides one for each that does.
const STALE_MAX: usize = 256;

/// Counts per source and the order of arrival.
#[derive(Debug, Default)]
pub struct Sources {
    counts: HashMap<u64, Count>,
    order: VecDeque<Token>,
    known: slab::Slab<IpAddr>,
    greeting: usize,
}

#[derive(Debug, Default)]
struct Count {
    count: u32,
    order: VecDeque<Token>,
}

impl Sources {
    /// Notes a new connection; the handle goes back with [`Sources::leave`].
    pub fn enter(&mut self, source: IpAddr, token: Token) -> u32 {
        let key = key(source);
        let count = self.counts.entry(key).or_default();
        count.count += 1;
        count.order.push_back(token);
        self.order.push_back(token);
        self.greeting += 1;
        u32::try_from(self.known.insert(source)).unwrap_or(u32::MAX)
    }

    /// The connection logged in or went away.
    pub fn leave(&mut self, handle: u32) {
        let Some(source) = self.known.try_remove(handle as usize) else { return };
        self.greeting -= 1;
        let key = key(source);
        if let Some(count) = self.counts.get_mut(&key) {
            count.count -= 1;
            if count.count == 0 {
                self.counts.remove(&key);
            }
        }
    }

    /// The address behind a handle.
    #[must_use]
    pub fn address(&self, handle: u32) -> IpAddr {
        self.known.get(handle as usize).copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The source behind a handle, in one number.
    #[must_use]
    pub fn key_of(&self, handle: u32) -> u64 {
        key(self.address(handle))
    }

    /// The oldest connection that has to make room, if a limit is passed; call until none.
    /// `is_greeting` tells which of the noted connections still wait for their `Hello`.
    pub fn surplus(
        &mut self,
        source: IpAddr,
        limits: (usize, usize),
        is_greeting: impl Fn(Token) -> bool,
    ) -> Option<Token> {
        let (all_max, source_max) = limits;
        if self.greeting > all_max {
            return oldest(&mut self.order, &is_greeting);
        }
        let count = self.counts.get_mut(&key(source))?;
        if count.count as usize > source_max {
            return oldest(&mut count.order, &is_greeting);
        }
        prune(&mut count.order, count.count as usize, &is_greeting);
        prune(&mut self.order, self.greeting, &is_greeting);
        None
    }

    /// How many connections have not logged in.
    #[must_use]
    pub fn greeting(&self) -> usize {
        self.greeting
    }
}

/// The lists keep tokens of connections that logged in or left. They are dropped before they are
/// more than those that stand, or each session would leave 16 bytes here.
fn prune(order: &mut VecDeque<Token>, standing: usize, is_greeting: &impl Fn(Token) -> bool) {
    if order.len() <= 2 * standing + STALE_MAX {
        return;
    }
    let newest = order.pop_back(); // has just come, and is never asked to make room for itself
    order.retain(|&token| is_greeting(token));
    order.extend(newest);
    order.shrink_to(2 * standing + STALE_MAX);
}

fn oldest(order: &mut VecDeque<Token>, is_greeting: &impl Fn(Token) -> bool) -> Option<Token> {
    while let Some(token) = order.pop_front() {
        if is_greeting(token) {
            return Some(token);
        }
    }
    None
}

fn key(source: IpAddr) -> u64 {
    match source {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => u64::from(u32::from(v4)),
            None => u64::try_from(u128::from(v6) >> 64).unwrap_or(u64::MAX) | 1 << 63,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(index: u32) -> Token {
        Token { index, generation: 1 }
    }

    #[test]
    fn the_oldest_of_a_greedy_source_makes_room() {
        let mut sources = Sources::default();
        let greedy: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap(); // the same /64
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        sources.enter(other, token(0));
        sources.enter(greedy, token(1));
        sources.enter(neighbour, token(2));
        assert_eq!(sources.surplus(greedy, (10, 2), |_| true), None);
        let third = sources.enter(greedy, token(3));
        assert_eq!(sources.surplus(greedy, (10, 2), |_| true), Some(token(1)));
        sources.leave(third);
        assert_eq!(sources.greeting(), 3);
        assert_eq!(sources.surplus(other, (2, 2), |t| t.index > 0), Some(token(1)));
    }

    #[test]
    fn sessions_that_logged_in_leave_nothing_behind() {
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let mut sources = Sources::default();
        let waiting = sources.enter(source, token(0)); // keeps the count of its source
        for index in 1..100_000 {
            let handle = sources.enter(source, token(index));
            let is_greeting = |other: Token| other.index == 0;
            assert_eq!(sources.surplus(source, (16_384, 4_096), is_greeting), None);
            assert_eq!(sources.order.back(), Some(&token(index)), "the newest may wait yet");
            sources.leave(handle);
        }
        for order in [&sources.order, &sources.counts[&key(source)].order] {
            assert!(order.len() <= 4 + STALE_MAX, "{}", order.len());
            assert!(order.capacity() <= 2 * (4 + STALE_MAX), "{}", order.capacity());
            assert_eq!(order.front(), Some(&token(0)), "still the oldest that waits");
        }
        sources.leave(waiting);
        assert_eq!((sources.greeting(), sources.counts.len()), (0, 0));
    }
}
