//! How many strangers are let in at a time, so that a storm of reconnects stays a queue.
//!
//! Everybody who is let in costs a descriptor, memory and turns until they have said who they are.
//! Letting in more than are served only makes all of them wait longer, until they give up and come
//! again. So while many are at the door the others wait in the kernel, in order and for free.
//!
//! Strangers who say nothing must not keep the door shut: when few of those inside get on, twice as
//! many are let in each [`ADMISSION_LOOK_MS`], up to the cap at which the oldest has to leave.
//!
//! Owner: a shard. Pure.

use crate::limits::ADMISSION_LOOK_MS;

/// Of those let in at a time, one in so many has to get on in each look; else more are let in.
const SERVED_SHARE: u64 = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Admission {
    base: usize,
    max: usize,
    limit: usize,
    /// Since when it is crowded, and how many had got on then.
    crowded: Option<(u64, u64)>,
}

impl Admission {
    /// So many at a time, and never more than `max`.
    pub(super) fn new(base: usize, max: usize) -> Self {
        let base = base.clamp(1, max.max(1));
        Self { base, max: max.max(base), limit: base, crowded: None }
    }

    /// Whether more are let in: `inside` have not said who they are, `served` have so far. A shard
    /// that is behind lets in fewer at a time: half of them for each step of `shrink`.
    pub(super) fn is_open(&mut self, inside: usize, served: u64, now_ms: u64, shrink: u32) -> bool {
        let limit = (self.limit >> shrink).max(1);
        if inside < limit {
            if inside < (self.base >> shrink).max(1) {
                self.limit = self.base;
            }
            self.crowded = None;
            return true;
        }
        let (since_ms, before) = *self.crowded.get_or_insert((now_ms, served));
        if now_ms >= since_ms + ADMISSION_LOOK_MS {
            self.crowded = Some((now_ms, served));
            if (served - before) * SERVED_SHARE < limit as u64 {
                self.limit = (self.limit * 2).min(self.max);
            }
        }
        // At the cap newcomers come in again: each makes the oldest leave.
        inside < (self.limit >> shrink).max(1) || self.limit == self.max
    }

    /// When to look again though nothing happens.
    pub(super) fn look_ms(&self) -> Option<u64> {
        self.crowded.map(|(since_ms, _)| since_ms + ADMISSION_LOOK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::{ADMISSION_LOOK_MS, Admission};

    #[test]
    fn the_door_closes_while_many_are_inside_and_opens_as_they_get_on() {
        let mut door = Admission::new(10, 100);
        assert!(door.is_open(9, 0, 0, 0));
        assert!(!door.is_open(10, 0, 0, 0));
        assert_eq!(door.look_ms(), Some(ADMISSION_LOOK_MS));
        assert!(door.is_open(8, 2, 5, 0));
        assert_eq!(door.look_ms(), None);
    }

    #[test]
    fn a_shard_that_is_behind_lets_in_fewer_at_a_time_but_always_somebody() {
        let mut door = Admission::new(64, 1_000);
        assert!(door.is_open(63, 0, 0, 0) && !door.is_open(16, 0, 0, 2));
        assert!(door.is_open(15, 0, 0, 2) && !door.is_open(4, 0, 0, 4));
        assert!(door.is_open(0, 0, 0, 30), "one at least");
        assert!(door.is_open(63, 0, 0, 0), "as before");
    }

    #[test]
    fn a_storm_that_is_served_stays_a_queue() {
        let mut door = Admission::new(10, 100);
        for look in 0..50 {
            assert!(!door.is_open(10, look * 10, look * ADMISSION_LOOK_MS, 0));
        }
    }

    #[test]
    fn those_who_say_nothing_do_not_keep_the_others_out() {
        let mut door = Admission::new(10, 100);
        assert!(!door.is_open(10, 0, 0, 0));
        let (mut inside, mut now_ms) = (10, 0);
        while inside < 100 {
            now_ms += ADMISSION_LOOK_MS;
            assert!(door.is_open(inside, 0, now_ms, 0), "{inside} inside");
            inside = (inside * 2).min(100);
            assert_eq!(door.is_open(inside, 0, now_ms, 0), inside == 100);
        }
        assert!(now_ms <= 5 * ADMISSION_LOOK_MS);
        // Once they are gone it is as before.
        assert!(door.is_open(3, 0, now_ms, 0));
        assert!(!door.is_open(10, 0, now_ms, 0));
    }
}
