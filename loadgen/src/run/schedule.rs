//! When something is meant to happen: times that follow a rate, whatever the server does.
//!
//! A [`Schedule`] hands out intended times of one phase. It never waits for answers: an event that
//! could not happen in time is still due at its intended time, which is what latency counts from.
//! Pure; times are microseconds since the phase began.

/// What a number of events may lack of a whole one by the way it was computed.
const ROUNDING: f64 = 1e-6;

/// A rate that holds or changes evenly over a phase.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rate {
    /// Events per second at the start.
    pub(crate) from: f64,
    /// Events per second at the end.
    pub(crate) to: f64,
    /// Length of the phase.
    pub(crate) seconds: f64,
}

impl Rate {
    /// Events up to a second of the phase.
    pub(crate) fn count(&self, at_s: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        self.from * at_s + slope * at_s * at_s / 2.0
    }

    /// The second in which so many events have happened; the inverse of [`Rate::count`].
    fn at(&self, count: f64) -> f64 {
        let slope = (self.to - self.from) / self.seconds;
        if slope.abs() < f64::EPSILON {
            return count / self.from;
        }
        let root = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        (root - self.from) / slope
    }
}

/// One part of a rate, for one of several threads that share it.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    rate: Rate,
    /// Number of the next event among those of all threads.
    next: u64,
    /// Threads that share the rate.
    parts: u64,
    /// Events of the whole phase.
    total: f64,
}

impl Schedule {
    /// The events of `part` of `parts`.
    pub(crate) fn new(rate: Rate, part: u64, parts: u64) -> Self {
        let is_empty = rate.seconds <= 0.0 || (rate.from <= 0.0 && rate.to <= 0.0);
        let total = if is_empty { 0.0 } else { (rate.count(rate.seconds) + ROUNDING).floor() };
        Self { rate, next: part, parts: parts.max(1), total }
    }

    /// When the next event is due; `None` if there is none left.
    pub(crate) fn due_us(&self) -> Option<u64> {
        // The first of all is due at 0, the n-th after n intervals.
        let number = self.next as f64;
        (number < self.total).then(|| micros(self.rate.at(number)))
    }

    /// Takes the next event if it is due by then; returns its intended time.
    pub(crate) fn take(&mut self, now_us: u64) -> Option<u64> {
        let due = self.due_us().filter(|due| *due <= now_us)?;
        self.next += self.parts;
        Some(due)
    }
}

/// Seconds as microseconds; what is no time is 0.
pub(crate) fn micros(seconds: f64) -> u64 {
    whole(seconds * 1e6)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and not-a-number is 0: both are what is wanted"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(rate: Rate, parts: u64) -> Vec<u64> {
        let mut times = Vec::new();
        for part in 0..parts {
            let mut schedule = Schedule::new(rate, part, parts);
            while let Some(due) = schedule.take(u64::MAX) {
                times.push(due);
            }
        }
        times.sort_unstable();
        times
    }

    #[test]
    fn a_rate_that_holds_is_even_however_many_threads_share_it() {
        let rate = Rate { from: 100.0, to: 100.0, seconds: 3.0 };
        for parts in [1, 2, 7] {
            let times = all(rate, parts);
            assert_eq!(times.len(), 300);
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 10_000), "{parts}");
        }
    }

    #[test]
    fn a_ramp_has_the_events_of_its_area() {
        for (from, to) in [(0.0, 200.0), (200.0, 0.0), (50.0, 150.0)] {
            let times = all(Rate { from, to, seconds: 10.0 }, 3);
            assert_eq!(times.len(), 1_000, "{from} to {to}");
            let early = times.iter().filter(|time| **time < 5_000_000).count();
            let area = Rate { from, to, seconds: 10.0 }.count(5.0);
            assert!((early as f64 - area).abs() <= 2.0, "{early} of {area}");
            assert!(times.iter().all(|time| *time <= 10_000_000));
        }
    }

    #[test]
    fn an_event_not_taken_in_time_keeps_its_time() {
        let mut schedule = Schedule::new(Rate { from: 10.0, to: 10.0, seconds: 1.0 }, 0, 1);
        assert_eq!(schedule.take(0), Some(0));
        assert_eq!(schedule.take(99_999), None);
        assert_eq!(schedule.take(5_000_000), Some(100_000));
        assert_eq!(schedule.take(5_000_000), Some(200_000));
    }

    #[test]
    fn no_rate_is_no_event() {
        let none = Rate { from: 0.0, to: 0.0, seconds: 5.0 };
        assert_eq!(Schedule::new(none, 0, 1).due_us(), None);
    }
}
