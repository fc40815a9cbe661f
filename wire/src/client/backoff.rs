//! How long to wait before the next attempt to connect.
//!
//! Deliberately not here: randomness and time; both are handed in.

/// Upper bound of the first attempt's wait.
const FIRST_MS: u64 = 500;
/// Upper bound of any attempt's wait, before what the server asked for is added.
const CAP_MS: u64 = 60_000;

/// Milliseconds to wait before attempt `attempt` (0 is the first after a loss).
///
/// Full jitter: evenly spread over `0..=min(60 s, 500 ms * 2^attempt)` by `random` (any 64 random
/// bits), on top of `retry_after_ms`, which the server asked for: ten million clients told the
/// same number must not come back in the same instant.
#[must_use]
pub fn backoff_ms(attempt: u32, retry_after_ms: u32, random: u64) -> u64 {
    let bound = FIRST_MS.saturating_mul(1 << attempt.min(16)).min(CAP_MS);
    u64::from(retry_after_ms) + random % (bound + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_grows_is_capped_and_never_undercuts_the_server() {
        for attempt in 0..80 {
            for random in [0, 1, 499, 500, 60_000, u64::MAX] {
                let wait = backoff_ms(attempt, 2_000, random);
                assert!((2_000..=62_000).contains(&wait));
            }
        }
        assert!(backoff_ms(0, 0, u64::MAX) <= 500);
        assert_eq!(backoff_ms(0, 0, 500), 500);
        assert_eq!(backoff_ms(40, 0, 60_000), 60_000);
    }
}
