//! Answers to messages from outside a session: their callers number them as they like, so there is
//! no window of ids as devices have it, but a memory of the last of them.
//!
//! Beyond [`limits::POSTS_REMEMBERED_MAX`] the eldest is forgotten: whoever repeats that gets
//! another position for the same message id, and clients drop the second. Checkpoints keep the
//! others, newest first, so that what a start finds in the log behind them stays the newer.

use crate::limits;
use crate::state::window::Outcome;
use std::collections::{HashMap, VecDeque};

/// Which message: its sender, and the caller's number of it.
pub type PostKey = (u64, u64);

/// See the module.
#[derive(Debug)]
pub struct Posts {
    known: HashMap<PostKey, (u32, Outcome)>,
    /// As they came. Those that were forgotten stay until they are the eldest.
    order: VecDeque<PostKey>,
    /// The number of the eldest in `order`; the others have those that follow.
    eldest: u64,
}

/// Far from both ends: newer ones count up from here, what an image adds counts down.
const MIDDLE: u64 = u64::MAX / 2;

impl Default for Posts {
    fn default() -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), eldest: MIDDLE }
    }
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
            self.eldest += 1;
            self.known.remove(&eldest);
        }
    }

    /// Takes one back from an image, as the eldest, unless the log has told of it since or there is
    /// no room: images come newest first.
    pub fn load(&mut self, key: PostKey, request_crc: u32, outcome: Outcome) {
        if self.order.len() < limits::POSTS_REMEMBERED_MAX && !self.known.contains_key(&key) {
            self.known.insert(key, (request_crc, outcome));
            self.order.push_front(key);
            self.eldest -= 1;
        }
    }

    /// Those whose number is below `before`, newest first: number, key, CRC of the request, what
    /// became of it. [`u64::MAX`]: all.
    pub fn before(&self, before: u64) -> impl Iterator<Item = (u64, PostKey, u32, Outcome)> {
        let count = usize::try_from(before.saturating_sub(self.eldest)).unwrap_or(usize::MAX);
        (0..count.min(self.order.len())).rev().filter_map(move |at| {
            let key = *self.order.get(at)?;
            let (request_crc, outcome) = self.find(key)?;
            Some((self.eldest + at as u64, key, request_crc, outcome))
        })
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

    fn sent(position: u64) -> Outcome {
        Outcome::Sent { position, time_ms: 1 }
    }

    fn numbers(posts: &Posts) -> Vec<u64> {
        posts.before(u64::MAX).map(|(_, (_, number), ..)| number).collect()
    }

    #[test]
    fn an_image_brings_back_what_is_older_than_the_log_behind_it() {
        let mut before = Posts::default();
        for number in 1..=5 {
            before.settle((7, number), 1, sent(number));
        }
        before.forget((7, 2));
        let mut after = Posts::default();
        // What the log behind the image's beginning says of them, and of a newer one.
        after.settle((7, 4), 1, sent(44));
        after.settle((7, 6), 1, sent(6));
        let mut at = u64::MAX;
        // Newer ones may come, and the eldest be forgotten, between two pieces.
        loop {
            let next = before.before(at).next();
            let Some((number, key, crc, outcome)) = next else { break };
            after.load(key, crc, outcome);
            at = number;
            before.settle((7, 100 + number), 1, Outcome::Pending);
        }
        assert_eq!(numbers(&after), [6, 4, 5, 3, 1]);
        assert_eq!(after.find((7, 4)), Some((1, sent(44))), "the log is newer");
    }

    #[test]
    fn an_image_of_others_never_drives_out_what_is_there() {
        let mut posts = Posts::default();
        let most = limits::POSTS_REMEMBERED_MAX as u64;
        (1..=most).for_each(|number| posts.settle((7, number), 1, sent(number)));
        posts.load((8, 1), 1, sent(1));
        assert_eq!((posts.find((8, 1)), posts.count()), (None, limits::POSTS_REMEMBERED_MAX));
        posts.settle((7, 0), 1, sent(1));
        assert_eq!(posts.before(u64::MAX).count(), limits::POSTS_REMEMBERED_MAX);
        assert_eq!(posts.before(0).count(), 0);
    }
}
