//! Token buckets: how much of something somebody may do, per second and at once.
//!
//! Pure: the time is handed in, and a bucket is one number, the time at which it is full again.
//! A rate holds exactly, whatever the order of small and large takings. It fails closed: a clock
//! that goes back makes whoever asks wait longer, and a table that has no room for another bucket
//! refuses. Used by shards and, beyond them, by the HTTP API.

use std::collections::HashMap;
use std::hash::Hash;

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds per token.
    interval_ns: u64,
    /// Tokens it holds.
    burst: u32,
}

impl Rate {
    /// So many tokens a second, at most a thousand million, and at most `burst` at once. Of none
    /// at all there is no rate: that is for the caller to refuse.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let interval_ns = NS_PER_SECOND.checked_div(u64::from(per_second))?.max(1);
        (burst > 0).then_some(Self { interval_ns, burst })
    }

    fn whole_ns(self) -> u64 {
        self.interval_ns * u64::from(self.burst)
    }
}

/// Too much was asked for: how long to wait, in milliseconds, before it can be had. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfterMs(pub u32);

/// One bucket, full at first. 8 bytes; kept with its rate by whoever owns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it is full again, on the clock of the callers.
    full_ns: u64,
}

impl Bucket {
    /// Takes `cost` tokens, at most as many as the bucket ever holds.
    ///
    /// # Errors
    /// They are not there yet; nothing was taken.
    pub fn take(&mut self, rate: Rate, cost: u32, now_ms: u64) -> Result<(), RetryAfterMs> {
        let now_ns = now_ms.saturating_mul(NS_PER_MS);
        let cost_ns = rate.interval_ns * u64::from(cost.min(rate.burst));
        let full_ns = self.full_ns.max(now_ns).saturating_add(cost_ns);
        let beyond_ns = (full_ns - now_ns).saturating_sub(rate.whole_ns());
        if beyond_ns > 0 {
            let wait_ms = beyond_ns.div_ceil(NS_PER_MS);
            return Err(RetryAfterMs(u32::try_from(wait_ms).unwrap_or(u32::MAX)));
        }
        self.full_ns = full_ns;
        Ok(())
    }

    fn is_full(&self, now_ms: u64) -> bool {
        self.full_ns <= now_ms.saturating_mul(NS_PER_MS)
    }
}

/// Buckets of one rate, by who takes. Full ones are forgotten.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Option<Rate>,
    buckets: HashMap<K, Bucket>,
    buckets_max: usize,
    /// The table was looked through for full ones last.
    swept_ms: Option<u64>,
}

/// How often a table without room is looked through for full buckets; and how long those for whom
/// it has none are told to wait.
const SWEEP_MS: u32 = 1_000;

impl<K: Eq + Hash> Buckets<K> {
    /// At most `buckets_max` buckets of this rate; without one, everybody may take what they like.
    #[must_use]
    pub fn new(rate: Option<Rate>, buckets_max: usize) -> Self {
        Self { rate, buckets: HashMap::new(), buckets_max, swept_ms: None }
    }

    /// `who` takes `cost` tokens.
    ///
    /// # Errors
    /// They are not there yet, or there is no room to count another one; nothing was taken.
    pub fn take(&mut self, who: K, cost: u32, now_ms: u64) -> Result<(), RetryAfterMs> {
        let Some(rate) = self.rate else { return Ok(()) };
        if let Some(bucket) = self.buckets.get_mut(&who) {
            return bucket.take(rate, cost, now_ms);
        }
        if self.buckets.len() >= self.buckets_max && !self.sweep(now_ms) {
            return Err(RetryAfterMs(SWEEP_MS));
        }
        let mut bucket = Bucket::default();
        bucket.take(rate, cost, now_ms)?;
        self.buckets.insert(who, bucket);
        Ok(())
    }

    /// How many buckets are not known to be full.
    #[must_use]
    pub fn count(&self) -> usize {
        self.buckets.len()
    }

    /// Forgets full buckets, now and then. True: there is room.
    fn sweep(&mut self, now_ms: u64) -> bool {
        let is_soon = |swept_ms| now_ms < swept_ms + u64::from(SWEEP_MS);
        if self.swept_ms.is_none_or(|swept_ms| !is_soon(swept_ms)) {
            self.swept_ms = Some(now_ms);
            self.buckets.retain(|_, bucket| !bucket.is_full(now_ms));
        }
        self.buckets.len() < self.buckets_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_goes_at_once_and_then_one_by_one() {
        let rate = Rate::new(10, 3).unwrap();
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, 1, 5_000), Ok(()));
        }
        assert_eq!(bucket.take(rate, 1, 5_000), Err(RetryAfterMs(100)));
        assert_eq!(bucket.take(rate, 1, 5_099), Err(RetryAfterMs(1)));
        assert_eq!(bucket.take(rate, 1, 5_100), Ok(()));
        assert_eq!(bucket.take(rate, 3, 5_100), Err(RetryAfterMs(300)));
    }

    #[test]
    fn no_rate_is_no_limit_and_none_at_all_is_no_rate() {
        assert_eq!((Rate::new(0, 5), Rate::new(5, 0)), (None, None));
        let mut buckets = Buckets::new(None, 0);
        assert!((0..100).all(|_| buckets.take(1, u32::MAX, 0).is_ok()));
    }

    #[test]
    fn a_table_without_room_refuses_until_some_bucket_is_full() {
        let mut buckets = Buckets::new(Rate::new(1, 2), 2);
        assert!(buckets.take("a", 2, 0).is_ok() && buckets.take("b", 1, 0).is_ok());
        assert_eq!(buckets.take("c", 1, 0), Err(RetryAfterMs(1_000)));
        assert_eq!(buckets.take("c", 1, 999), Err(RetryAfterMs(1_000)), "looked through just now");
        assert_eq!(buckets.take("c", 1, 1_000), Ok(()), "b is full by now");
        assert_eq!(buckets.take("a", 2, 1_000), Err(RetryAfterMs(1_000)), "and a is not forgotten");
        assert_eq!(buckets.count(), 2);
    }

    proptest! {
        /// Whatever is asked for when: in no stretch of time is more given than the rate allows,
        /// and whoever waits as long as it was told gets it.
        #[test]
        fn never_more_than_the_rate_and_never_longer_than_was_said(
            per_second in 1_u32..2_000,
            burst in 1_u32..50,
            asks in proptest::collection::vec((0_u64..300, 1_u32..60), 1..80),
        ) {
            let rate = Rate::new(per_second, burst).unwrap();
            let (mut bucket, mut now_ms) = (Bucket::default(), 0);
            let mut given: Vec<(u64, u64)> = Vec::new();
            for (pause_ms, cost) in asks {
                now_ms += pause_ms;
                if let Err(RetryAfterMs(wait_ms)) = bucket.take(rate, cost, now_ms) {
                    prop_assert!(wait_ms > 0);
                    let mut early = bucket;
                    prop_assert!(early.take(rate, cost, now_ms + u64::from(wait_ms) - 1).is_err());
                    now_ms += u64::from(wait_ms);
                    prop_assert_eq!(bucket.take(rate, cost, now_ms), Ok(()));
                }
                given.push((now_ms, u64::from(cost.min(burst))));
            }
            for (first, (from_ms, _)) in given.iter().enumerate() {
                let mut sum = 0;
                for (until_ms, cost) in &given[first..] {
                    sum += cost;
                    let passed_ns = (until_ms - from_ms) * NS_PER_MS;
                    let most = u64::from(burst) + passed_ns / rate.interval_ns;
                    prop_assert!(sum <= most, "{sum} of {most} in {passed_ns} ns");
                }
            }
        }
    }
}
