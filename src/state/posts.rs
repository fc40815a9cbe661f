//! Answers to messages from outside a session: their callers number them as they like, so there is
//! no window of ids as devices have it, but a memory of the last of them.
//!
//! Beyond [`limits::POSTS_REMEMBERED_MAX`] the eldest is forgotten: whoever repeats that gets
//! another position for the same message id, and clients drop the second.

use crate::limits;
use crate::state::window::Outcome;
use std::collections::{HashMap, VecDeque};

/// Which message: its sender, and the caller's number of it.
pub type PostKey = (u64, u64);

/// See the module.
#[derive(Debug, Default)]
pub struct Posts {
    known: HashMap<PostKey, (u32, Outcome)>,
    /// As they came. Those that were forgotten stay until they are the eldest.
    order: VecDeque<PostKey>,
}

impl Posts {
    /// The CRC of the request and what became of it, if that is remembered.
    #[must_use]
    pub fn find(&self, key: PostKey) -> Option<(u32, Outcome)> {
        self.known.get(&key).copied()
    }

    /// This became of it.
    pub fn settle(&mut self, key: PostKey, request_crc: u32, outcome: Outcome) {
        if self.known.insert(key, (request_crc, outcome)).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > limits::POSTS_REMEMBERED_MAX {
            let Some(eldest) = self.order.pop_front() else { return };
            self.known.remove(&eldest);
        }
    }

    /// It may be tried again.
    pub fn forget(&mut self, key: PostKey) {
        self.known.remove(&key);
    }

    /// How many are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eldest_is_forgotten() {
        let mut posts = Posts::default();
        let most = limits::POSTS_REMEMBERED_MAX as u64;
        for number in 0..=most {
            posts.settle((7, number), 1, Outcome::Pending);
        }
        let sent = Outcome::Sent { position: 9, time_ms: 1 };
        posts.settle((7, most), 1, sent);
        assert_eq!(posts.find((7, 0)), None);
        assert_eq!(posts.find((7, 1)), Some((1, Outcome::Pending)));
        assert_eq!(posts.find((7, most)), Some((1, sent)));
        posts.forget((7, 1));
        assert_eq!((posts.find((7, 1)), posts.count()), (None, limits::POSTS_REMEMBERED_MAX - 1));
    }
}
