//! What a recipient may expect of a sender: every message once, in order, unchanged.
//!
//! Pure. A [`Track`] is what one recipient knows of one sender. Sequences count from 1 for each
//! pair. After a reconnect a server may deliver again what it does not know to be held
//! (`redelivered`: allowed, in order); within one connection a second time is a fault.
//!
//! Deliberately not here: which messages were answered by the server; see `verdict.rs`.

/// Gaps one track keeps apart; beyond it the two oldest are taken for one, which can only make a
/// late message look like a late one of the gap between.
const GAPS_MAX: usize = 10_000;

/// So far ahead of what came a damaged message is believed to be.
const NEAR: u32 = 1_000;

/// How a message came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// The first time, in its turn or after a gap.
    New,
    /// The first time, after one that was sent later.
    Late,
    /// Again on the same connection.
    Repeated,
    /// Again, on a later connection.
    Redelivered,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    /// All sequences below this came, except those of `gaps`.
    next: u32,
    /// The highest sequence that came on this connection.
    last_here: u32,
    /// Which connection of the recipient.
    life: u32,
    /// First and last sequence of what has not come, ascending.
    gaps: Vec<(u32, u32)>,
}

impl Track {
    /// Notes the arrival of a sequence on the recipient's connection `life`.
    pub(crate) fn note(&mut self, sequence: u32, life: u32) -> Arrival {
        if self.life != life {
            self.life = life;
            self.last_here = 0;
        }
        let next = self.next.max(1);
        let after_all = sequence > self.last_here;
        self.last_here = self.last_here.max(sequence);
        if sequence >= next {
            if sequence > next {
                self.open_gap(next, sequence - 1);
            }
            self.next = sequence.saturating_add(1);
            return Arrival::New;
        }
        if self.fill(sequence) {
            return Arrival::Late;
        }
        if after_all { Arrival::Redelivered } else { Arrival::Repeated }
    }

    /// Whether a sequence that may be damaged is one this sender can be at.
    pub(crate) fn is_near(&self, sequence: u32) -> bool {
        sequence > 0 && sequence <= self.next.saturating_add(NEAR)
    }

    /// The highest sequence that came; 0: none did.
    pub(crate) fn came_up_to(&self) -> u32 {
        self.next.saturating_sub(1)
    }

    /// What of the sequences up to `sent` never came, as first and last.
    pub(crate) fn missing(&self, sent: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let next = self.next.max(1);
        let tail = (next <= sent).then_some((next, sent));
        self.gaps.iter().copied().chain(tail)
    }

    fn open_gap(&mut self, first: u32, last: u32) {
        if self.gaps.len() >= GAPS_MAX
            && let Some((_, end)) = self.gaps.get(1).copied()
        {
            self.gaps.remove(1);
            if let Some(oldest) = self.gaps.first_mut() {
                oldest.1 = end;
            }
        }
        self.gaps.push((first, last));
    }

    /// Takes a sequence out of the gaps; whether it was in one.
    fn fill(&mut self, sequence: u32) -> bool {
        let index = self.gaps.partition_point(|(_, last)| *last < sequence);
        let Some((first, last)) = self.gaps.get(index).copied() else { return false };
        if sequence < first {
            return false;
        }
        self.gaps.remove(index);
        let rest = [(first, sequence.saturating_sub(1)), (sequence.saturating_add(1), last)];
        for (offset, part) in rest.into_iter().filter(|(a, b)| a <= b).enumerate() {
            self.gaps.insert(index + offset, part);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arrival::{Late, New, Redelivered, Repeated};

    fn play(arrivals: &[(u32, u32, Arrival)]) -> Track {
        let mut track = Track::default();
        for (sequence, life, expected) in arrivals {
            assert_eq!(track.note(*sequence, *life), *expected, "{sequence} in life {life}");
        }
        track
    }

    #[test]
    fn a_dropped_one_is_missing() {
        let track = play(&[(1, 1, New), (3, 1, New), (4, 1, New)]);
        assert_eq!(track.missing(6).collect::<Vec<_>>(), [(2, 2), (5, 6)]);
    }

    #[test]
    fn a_doubled_one_is_a_repeat_on_its_connection_only() {
        play(&[(1, 1, New), (1, 1, Repeated), (2, 1, New), (1, 1, Repeated)]);
        play(&[(1, 1, New), (2, 1, New), (1, 2, Redelivered), (2, 2, Redelivered), (3, 2, New)]);
        play(&[(1, 1, New), (1, 2, Redelivered), (1, 2, Repeated)]);
    }

    #[test]
    fn swapped_ones_are_one_late_one() {
        let track = play(&[(2, 1, New), (1, 1, Late), (3, 1, New)]);
        assert_eq!(track.missing(3).count(), 0);
        play(&[(5, 1, New), (3, 1, Late), (1, 1, Late), (4, 1, Late), (3, 1, Repeated)]);
    }

    #[test]
    fn any_order_ends_with_what_never_came() {
        let mut random = crate::random::Random::new(5);
        for _ in 0..200 {
            let sent = 1 + u32::try_from(random.below(40)).unwrap();
            let mut order: Vec<u32> = (1..=sent).collect();
            for index in 0..order.len() {
                let other = usize::try_from(random.below(order.len() as u64)).unwrap();
                order.swap(index, other);
            }
            let came = order.split_off(order.len() / 3);
            let mut track = Track::default();
            for sequence in &came {
                let arrival = track.note(*sequence, 1);
                assert!(matches!(arrival, New | Late), "{sequence}: {arrival:?}");
            }
            let missing: Vec<u32> = track.missing(sent).flat_map(|(a, b)| a..=b).collect();
            order.sort_unstable();
            assert_eq!(missing, order);
        }
    }
}
