//! A hashed timer wheel: one deadline per connection index, eight bytes each, everything O(1).
//!
//! Owner: one shard. `SLOTS` slots of `SLOT_MS` each, a doubly linked list per slot whose links
//! are 32-bit indices in a side array, so arming needs no allocation and no room in the connection
//! record. The deadline itself is not kept, only its slot:
//!
//! - nothing comes out before its deadline, except deadlines beyond [`HORIZON_MS`], which are
//!   clamped to it and come out early; the owner, who knows the real deadline, arms again;
//! - an entry comes out at most `SLOT_MS` late, plus the time between two calls of `expire`.
//!
//! Deadlines are meant to be *lazy*: activity only writes a time into the record, and the owner
//! compares when the entry comes out. Not here: what a deadline means.
//!
//! ```text
//!   heads[slot] --> index --next--> index --next--> end       links[index] = [previous, next]
//!                     ^---previous----'                       previous of the first: HEAD | slot
//! ```
//!
//! A zeroed link means "not armed", so a wheel for millions of entries touches no memory until
//! they are armed (zeroed pages come from the kernel on first use).

/// Milliseconds one slot covers: the resolution of every deadline.
pub const SLOT_MS: u64 = 64;
/// Slots of the wheel; a power of two.
const SLOTS: usize = 4096;
/// Deadlines farther away than this come out early, about 4 minutes 22 seconds.
pub const HORIZON_MS: u64 = (SLOTS as u64 - 1) * SLOT_MS;

/// Marks a `previous` link that names a slot instead of an entry.
const HEAD: u32 = 1 << 31;
/// Words of the bitmap of slots that are not empty.
const WORDS: usize = SLOTS / 64;

/// Bytes per index: the two links.
pub const ENTRY_BYTES: usize = size_of::<[u32; 2]>();

const _: () = assert!(SLOTS.is_power_of_two() && SLOTS < HEAD as usize && WORDS > 1);

/// See the module.
pub struct Wheel {
    /// `[previous, next]` of each index; entries are index + 1, 0 means none.
    links: Vec<[u32; 2]>,
    /// First entry (index + 1) of each slot, 0 for an empty one.
    heads: Box<[u32; SLOTS]>,
    /// A bit for each slot that is not empty.
    occupied: Box<[u64; WORDS]>,
    /// Number of the slot that `expire` looks at first, counted from time 0, not wrapped.
    /// Everything armed is in the `SLOTS` slots from here.
    cursor: u64,
    armed: usize,
}

const PREVIOUS: usize = 0;
const NEXT: usize = 1;

impl Wheel {
    /// A wheel for indices below `capacity` that starts at `now_ms`.
    ///
    /// # Panics
    /// If `capacity` is not below 2^31.
    #[must_use]
    pub fn new(capacity: usize, now_ms: u64) -> Self {
        assert!(capacity < HEAD as usize, "a wheel has 31-bit indices");
        Self {
            links: vec![[0; 2]; capacity],
            heads: Box::new([0; SLOTS]),
            occupied: Box::new([0; WORDS]),
            cursor: now_ms / SLOT_MS,
            armed: 0,
        }
    }

    /// Sets the deadline of `index`; an earlier setting is forgotten. Deadlines in the past come
    /// out of the next `expire`.
    ///
    /// # Panics
    /// If `index` is not below the capacity.
    pub fn arm(&mut self, index: u32, at_ms: u64) {
        let last = self.cursor + SLOTS as u64 - 1;
        let slot = slot_of(at_ms.div_ceil(SLOT_MS).clamp(self.cursor, last));
        let entry = index as usize;
        if self.links[entry][PREVIOUS] == HEAD | slot {
            return; // already first of that slot: the usual case of arming twice in a row
        }
        self.disarm(index);
        let next = self.heads[slot as usize];
        if next == 0 {
            self.occupied[slot as usize / 64] |= 1 << (slot % 64);
        } else {
            self.links[next as usize - 1][PREVIOUS] = index + 1;
        }
        self.links[entry] = [HEAD | slot, next];
        self.heads[slot as usize] = index + 1;
        self.armed += 1;
    }

    /// Forgets the deadline of `index`, if it has one.
    ///
    /// # Panics
    /// If `index` is not below the capacity.
    pub fn disarm(&mut self, index: u32) {
        let [previous, next] = self.links[index as usize];
        if previous == 0 {
            return;
        }
        if previous & HEAD == 0 {
            self.links[previous as usize - 1][NEXT] = next;
        } else {
            let slot = (previous & !HEAD) as usize;
            self.heads[slot] = next;
            if next == 0 {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
        if next != 0 {
            self.links[next as usize - 1][PREVIOUS] = previous;
        }
        self.links[index as usize] = [0; 2];
        self.armed -= 1;
    }

    /// Takes out at most `max` indices that are due at `now_ms` and appends them to `out`. What
    /// is left over for lack of `max` comes first the next time.
    pub fn expire(&mut self, now_ms: u64, out: &mut Vec<u32>, max: usize) {
        let now_slot = now_ms / SLOT_MS;
        let mut left = max;
        // Ends: each pass empties a slot or runs out of budget, and `first_occupied` looks only
        // at the SLOTS slots from the cursor.
        while let Some(slot) = self.first_occupied().filter(|slot| *slot <= now_slot) {
            self.cursor = slot;
            while left > 0 {
                let first = self.heads[slot_of(slot) as usize];
                if first == 0 {
                    break;
                }
                self.disarm(first - 1);
                out.push(first - 1);
                left -= 1;
            }
            if left == 0 {
                return;
            }
        }
        // The slot of now stays in reach: a deadline that has passed is armed there.
        self.cursor = self.cursor.max(now_slot);
    }

    /// When `expire` is worth calling next; may be early. `None`: nothing is armed.
    #[must_use]
    pub fn next_due_ms(&self, now_ms: u64) -> Option<u64> {
        self.first_occupied().map(|slot| (slot * SLOT_MS).max(now_ms))
    }

    /// Whether `index` has a deadline.
    #[must_use]
    pub fn is_armed(&self, index: u32) -> bool {
        self.links.get(index as usize).is_some_and(|link| link[PREVIOUS] != 0)
    }

    /// Deadlines set now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no deadline is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// The first slot from the cursor on that is not empty (not wrapped). Looks at `WORDS` words
    /// at the most, usually at one or two.
    fn first_occupied(&self) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        let start = slot_of(self.cursor);
        let start_word = start as usize / 64;
        // The word of the cursor is looked at twice: first its upper part, last its lower part.
        for pass in 0..=WORDS {
            let word = (start_word + pass) % WORDS;
            let upper = u64::MAX << (start % 64);
            let mask = match pass {
                0 => upper,
                WORDS => !upper,
                _ => u64::MAX,
            };
            let bits = self.occupied[word] & mask;
            if bits != 0 {
                let slot = word as u64 * 64 + u64::from(bits.trailing_zeros());
                let distance = (slot + SLOTS as u64 - u64::from(start)) % SLOTS as u64;
                return Some(self.cursor + distance);
            }
        }
        None
    }
}

impl std::fmt::Debug for Wheel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Wheel")
            .field("capacity", &self.links.len())
            .field("armed", &self.armed)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// Where the slot of that number lies in the wheel.
#[allow(clippy::cast_possible_truncation, reason = "a remainder below SLOTS")]
fn slot_of(number: u64) -> u32 {
    (number % SLOTS as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::{HORIZON_MS, SLOT_MS, Wheel};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        /// Index, milliseconds from now (may be in the past).
        Arm(u32, i64),
        Disarm(u32),
        /// Milliseconds that pass, budget.
        Pass(u64, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let distance =
            prop_oneof![-500..500i64, 0..100_000i64, 0..2 * i64::try_from(HORIZON_MS).unwrap(),];
        let pass = prop_oneof![0..200u64, 0..20_000u64, 0..3 * HORIZON_MS];
        let budget = prop_oneof![Just(1000usize), 0..4usize];
        let step = prop_oneof![
            4 => (0..40u32, distance).prop_map(|(index, in_ms)| Step::Arm(index, in_ms)),
            1 => (0..40u32).prop_map(Step::Disarm),
            3 => (pass, budget).prop_map(|(pass_ms, max)| Step::Pass(pass_ms, max)),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        /// The model keeps deadlines and their clamped bounds, and checks: never early by more
        /// than the clamp, never later than a slot when the budget allows.
        #[test]
        fn comes_out_on_time(steps in steps(), start_ms in 0..1_000_000u64) {
            let mut wheel = Wheel::new(40, start_ms);
            let mut now_ms = start_ms;
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut bounds: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            // A wheel that is behind (budget) clamps from where it stands: here or later.
            let mut stands_ms = start_ms;
            for step in steps {
                match step {
                    Step::Arm(index, in_ms) => {
                        let at_ms = now_ms.saturating_add_signed(in_ms);
                        wheel.arm(index, at_ms);
                        model.insert(index, at_ms);
                        let clamp = |from_ms: u64| {
                            at_ms.min(from_ms / SLOT_MS * SLOT_MS + HORIZON_MS)
                        };
                        bounds.insert(index, (clamp(stands_ms), clamp(now_ms)));
                    }
                    Step::Disarm(index) => {
                        wheel.disarm(index);
                        model.remove(&index);
                        bounds.remove(&index);
                    }
                    Step::Pass(pass_ms, max) => {
                        now_ms += pass_ms;
                        let mut out = Vec::new();
                        wheel.expire(now_ms, &mut out, max);
                        prop_assert!(out.len() <= max);
                        for index in &out {
                            prop_assert!(model.remove(index).is_some(), "unarmed or twice");
                            let (earliest_ms, _) = bounds.remove(index).unwrap();
                            prop_assert!(earliest_ms <= now_ms, "early");
                        }
                        if out.len() < max {
                            stands_ms = now_ms;
                            for (index, (_, latest_ms)) in &bounds {
                                prop_assert!(latest_ms + SLOT_MS > now_ms, "{index} is late");
                            }
                        }
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                for index in 0..40 {
                    prop_assert_eq!(wheel.is_armed(index), model.contains_key(&index));
                }
                let due_ms = wheel.next_due_ms(now_ms);
                prop_assert_eq!(due_ms.is_some(), !model.is_empty());
                if let (Some(due_ms), Some(first_ms)) = (due_ms, model.values().min()) {
                    prop_assert!(due_ms <= first_ms.next_multiple_of(SLOT_MS).max(now_ms));
                }
            }
        }
    }

    #[test]
    fn a_deadline_in_the_past_comes_out_at_the_next_call() {
        let mut wheel = Wheel::new(2, 10_000);
        let mut out = Vec::new();
        wheel.expire(20_000, &mut out, 10);
        wheel.arm(1, 5);
        assert_eq!(wheel.next_due_ms(20_000), Some(20_000));
        wheel.expire(20_000, &mut out, 10);
        assert_eq!(out, [1]);
    }

    #[test]
    fn arming_again_moves_the_deadline() {
        let mut wheel = Wheel::new(3, 0);
        let mut out = Vec::new();
        for index in 0..3 {
            wheel.arm(index, 1_000);
        }
        wheel.arm(1, 50_000);
        wheel.expire(2_000, &mut out, 10);
        out.sort_unstable();
        assert_eq!(out, [0, 2]);
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn an_index_out_of_range_is_not_armed() {
        assert!(!Wheel::new(1, 0).is_armed(7));
    }
}
