//! Inboxes: the records of a user's stream that some device has not acked yet.
//!
//! Only users with waiting mail own one. Invariant (I3): positions ascend.
//!
//! ```text
//!  oldest                                          newest
//!  | packed: durable, a few bytes each | young: whole entries |
//! ```
//!
//! *Young* is what is not durable yet, what something happens to (its time is over, it is being
//! copied forward), and all behind that; and, while its user is connected, what came last, because
//! that is acked soon. The rest is *packed* (`packed.rs`). A change in the middle of these makes
//! all from there on young until [`InboxMut::settle`]. Both lie in pools of the shard.

use super::chunks::Chunks;
use super::packed::Packed;
use super::places::Places;
pub use crate::state::entry::{Entry, What};

use crate::log::At;
use crate::state::NONE;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Entries at the end of an inbox that are looked at one by one: a few cache lines.
const LATE_ENTRIES: usize = 4;

/// What is kept per inbox. 96 bytes.
#[derive(Debug)]
struct Slot {
    packed: Packed,
    bytes: u64,
    copy_bytes: u64,
    copies: u32,
    /// Index of the young entries, [`NONE`] if there are none.
    young: u32,
    /// When something may have to go: seconds since 1970. 0: not known.
    due_s: u32,
}

const _: () = assert!(size_of::<Slot>() <= 96);

impl Default for Slot {
    fn default() -> Self {
        let packed = Packed::default();
        Self { packed, bytes: 0, copy_bytes: 0, copies: 0, young: NONE, due_s: 0 }
    }
}

/// Where the records of all inboxes lie.
#[derive(Debug, Default)]
struct Rooms {
    chunks: Chunks,
    young: Places<VecDeque<Entry>>,
}

/// Somebody's waiting records, to look at.
#[derive(Clone, Copy, Debug)]
pub struct Inbox<'a> {
    slot: &'a Slot,
    rooms: &'a Rooms,
}

/// The waiting records of one user, to change.
#[derive(Debug)]
pub struct InboxMut<'a> {
    slot: &'a mut Slot,
    rooms: &'a mut Rooms,
}

impl<'a> Inbox<'a> {
    /// Entries with a position above `after`, oldest first.
    pub fn after(self, after: u64) -> impl Iterator<Item = Entry> + 'a {
        let walk = || self.slot.packed.walk(&self.rooms.chunks);
        let packed = (after < self.slot.packed.last())
            .then(walk)
            .into_iter()
            .flatten()
            .skip_while(move |entry| entry.position <= after);
        let young = self.young().map(|young| {
            let index = young.partition_point(|entry| entry.position <= after);
            young.range(index..).copied()
        });
        packed.chain(young.into_iter().flatten())
    }

    /// The entry of exactly this position.
    #[must_use]
    pub fn find(self, position: u64) -> Option<Entry> {
        if position > self.slot.packed.last() {
            let young = self.young()?;
            return young_index(young, position).map(|index| young[index]);
        }
        let mut packed = self.slot.packed.walk(&self.rooms.chunks);
        packed.find(|entry| entry.position >= position).filter(|entry| entry.position == position)
    }

    fn young(self) -> Option<&'a VecDeque<Entry>> {
        self.rooms.young.get(self.slot.young)
    }

    /// Touches where the next record will be put. The number means nothing.
    #[must_use]
    pub fn touch_end(self) -> u64 {
        let young = self.young().and_then(|young| young.back()).map_or(0, |last| last.position);
        young ^ u64::from(self.slot.packed.touch_end(&self.rooms.chunks))
    }

    /// Number of waiting records.
    #[must_use]
    pub fn count(self) -> usize {
        self.slot.packed.count() + self.young().map_or(0, VecDeque::len)
    }
    /// How many of them are copies of what the user sent, or notices.
    #[must_use]
    pub fn copies(self) -> usize {
        self.slot.copies as usize
    }

    /// Payload bytes of those.
    #[must_use]
    pub fn copy_bytes(self) -> u64 {
        self.slot.copy_bytes
    }

    /// Payload bytes of the waiting records.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.slot.bytes
    }

    /// As in the slot: seconds since 1970, 0: not known.
    #[must_use]
    pub fn due_s(self) -> u32 {
        self.slot.due_s
    }
}

/// Index of the entry of exactly this position.
fn young_index(young: &VecDeque<Entry>, position: u64) -> Option<usize> {
    // What has just become durable is mostly among the last, which were touched a moment ago;
    // a search through a long inbox would wait for memory at every step.
    let late = young.len().saturating_sub(LATE_ENTRIES);
    let is_late = young.get(late).is_some_and(|first| first.position <= position);
    let index = if is_late {
        late + young.range(late..).take_while(|late| late.position < position).count()
    } else {
        young.partition_point(|entry| entry.position < position)
    };
    young.get(index).is_some_and(|entry| entry.position == position).then_some(index)
}

impl InboxMut<'_> {
    /// The same, to look at.
    #[must_use]
    pub fn as_ref(&self) -> Inbox<'_> {
        Inbox { slot: self.slot, rooms: self.rooms }
    }

    /// Adds a record; its position is above all others. One that is durable is packed at once if
    /// nothing young is before it.
    pub fn append(&mut self, entry: Entry) {
        self.slot.count_in(&entry);
        if self.slot.young == NONE && entry.is_settled() {
            assert!(self.slot.packed.last() < entry.position, "I3");
            return self.slot.packed.push(&mut self.rooms.chunks, &entry);
        }
        let last = self.slot.packed.last();
        let young = self.young();
        assert!(young.back().map_or(last, |it| it.position) < entry.position, "I3");
        young.push_back(entry);
    }

    /// Adds a record wherever its position belongs, when an image is loaded. False: it is there.
    pub fn insert(&mut self, entry: Entry) -> bool {
        if self.as_ref().find(entry.position).is_some() {
            return false;
        }
        if entry.position < self.slot.packed.last() {
            self.unpack_from(entry.position);
        }
        let first_young = self.rooms.young.get(self.slot.young).and_then(|young| young.front());
        self.slot.count_in(&entry);
        if entry.is_settled() && first_young.is_none_or(|first| entry.position < first.position) {
            self.slot.packed.push(&mut self.rooms.chunks, &entry);
        } else {
            let young = self.young();
            let index = young.partition_point(|other| other.position < entry.position);
            young.insert(index, entry);
        }
        true
    }

    /// Takes the record of exactly this position out.
    pub fn remove(&mut self, position: u64) -> Option<Entry> {
        let found = self.as_ref().find(position)?;
        if self.as_ref().after(0).next() == Some(found) {
            return self.pop_through(position);
        }
        let entry = self.with_young(position, VecDeque::remove)??;
        self.slot.count_out(&entry);
        self.give_back_young();
        Some(entry)
    }

    /// Takes the oldest record out if its position is at most `up_to`.
    pub fn pop_through(&mut self, up_to: u64) -> Option<Entry> {
        let entry = if self.slot.packed.count() > 0 {
            self.slot.packed.pop_through(&mut self.rooms.chunks, up_to)?
        } else {
            let young = self.rooms.young.get_mut(self.slot.young)?;
            young.front().filter(|first| first.position <= up_to)?;
            let first = young.pop_front()?;
            self.give_back_young();
            first
        };
        self.slot.count_out(&entry);
        Some(entry)
    }

    /// The record of exactly this position is durable at this place. Returns the entry as it was.
    pub fn place(&mut self, position: u64, at: At) -> Option<Entry> {
        self.with_young(position, |young, index| {
            let entry = young.get_mut(index)?;
            let former = *entry;
            entry.place(at);
            Some(former)
        })?
    }

    /// Sets whether the sender of this record is being told that its time is over.
    pub fn set_expiring(&mut self, position: u64, expiring: bool) {
        self.with_young(position, |young, index| young[index].set_expiring(expiring));
    }

    /// Marks those as being copied forward for which `copy` says so, oldest first, until it breaks.
    pub fn set_moving(&mut self, mut copy: impl FnMut(&Entry) -> ControlFlow<(), bool>) {
        let mut moving = Vec::new();
        for entry in self.as_ref().after(0) {
            match copy(&entry) {
                ControlFlow::Continue(true) => moving.push(entry.position),
                ControlFlow::Continue(false) => {}
                ControlFlow::Break(()) => break,
            }
        }
        for position in moving {
            self.with_young(position, |young, index| young[index].set_moving());
        }
    }

    /// Packs the oldest of the young entries while more than `keep` are left, as far as they are
    /// durable and nothing happens to them.
    pub fn settle(&mut self, keep: usize) {
        let Self { slot, rooms } = self;
        let Some(young) = rooms.young.get_mut(slot.young) else { return };
        while young.len() > keep
            && let Some(entry) = young.front().filter(|entry| entry.is_settled())
        {
            slot.packed.push(&mut rooms.chunks, entry);
            young.pop_front();
        }
        self.give_back_young();
    }

    /// Notes that something here may have to go at `due_s`.
    pub fn note_due(&mut self, due_s: u32) {
        if self.slot.due_s == 0 || due_s < self.slot.due_s {
            self.slot.due_s = due_s;
        }
    }

    /// Nothing is known of when something has to go.
    pub fn forget_due(&mut self) {
        self.slot.due_s = 0;
    }

    /// The young entries, if only to be.
    fn young(&mut self) -> &mut VecDeque<Entry> {
        self.rooms.young.of(&mut self.slot.young)
    }

    /// Does something to the entry of exactly this position, which becomes a young one.
    fn with_young<T>(
        &mut self,
        position: u64,
        act: impl FnOnce(&mut VecDeque<Entry>, usize) -> T,
    ) -> Option<T> {
        if position <= self.slot.packed.last() {
            self.as_ref().find(position)?;
            self.unpack_from(position);
        }
        let young = self.rooms.young.get_mut(self.slot.young)?;
        young_index(young, position).map(|index| act(young, index))
    }

    /// Makes all packed entries from a position on young ones.
    fn unpack_from(&mut self, position: u64) {
        let mut packed = std::mem::take(&mut self.slot.packed);
        let mut later = Vec::new();
        while let Some(entry) = packed.pop_through(&mut self.rooms.chunks, u64::MAX) {
            if entry.position < position {
                self.slot.packed.push(&mut self.rooms.chunks, &entry);
            } else {
                later.push(entry);
            }
        }
        let young = self.young();
        young.reserve(later.len());
        for entry in later.into_iter().rev() {
            young.push_front(entry);
        }
    }

    fn give_back_young(&mut self) {
        let is_enough = self.rooms.young.spare() >= SPARE_YOUNG_MAX;
        let young = self.rooms.young.get_mut(self.slot.young);
        if let Some(young) = young.filter(|young| young.is_empty()) {
            if young.capacity() > SPARE_ENTRIES_MAX || is_enough {
                *young = VecDeque::new();
            }
            self.rooms.young.give(&mut self.slot.young);
        }
    }
}

impl Slot {
    fn count_in(&mut self, entry: &Entry) {
        self.bytes += u64::from(entry.bytes());
        if !entry.is_message() {
            self.copies += 1;
            self.copy_bytes += u64::from(entry.bytes());
        }
    }

    fn count_out(&mut self, entry: &Entry) {
        self.bytes -= u64::from(entry.bytes());
        if !entry.is_message() {
            self.copies -= 1;
            self.copy_bytes -= u64::from(entry.bytes());
        }
    }
}

/// All inboxes with waiting mail.
#[derive(Debug, Default)]
pub struct Inboxes {
    slots: Places<Slot>,
    rooms: Rooms,
}

const SPARE_YOUNG_MAX: usize = 16 * 1024;
const SPARE_ENTRIES_MAX: usize = 128;

impl Inboxes {
    /// The inbox behind a handle, made if the handle names none.
    pub fn of(&mut self, handle: &mut u32) -> InboxMut<'_> {
        let Self { slots, rooms } = self;
        InboxMut { slot: slots.of(handle), rooms }
    }

    /// The inbox behind a handle.
    #[must_use]
    pub fn get(&self, handle: u32) -> Option<Inbox<'_>> {
        self.slots.get(handle).map(|slot| Inbox { slot, rooms: &self.rooms })
    }

    /// The inbox behind a handle, to change it.
    pub fn get_mut(&mut self, handle: u32) -> Option<InboxMut<'_>> {
        let Self { slots, rooms } = self;
        slots.get_mut(handle).map(|slot| InboxMut { slot, rooms })
    }

    /// Packs all that may be packed: at the end of a start.
    pub fn settle(&mut self) {
        let Self { slots, rooms } = self;
        for slot in slots.all_mut() {
            if rooms.young.taken() == 0 {
                break;
            }
            InboxMut { slot, rooms }.settle(0);
        }
    }

    /// Recycles the inbox behind a handle if nothing waits in it.
    pub fn release_empty(&mut self, handle: &mut u32) {
        if self.get(*handle).is_none_or(|inbox| inbox.count() > 0) {
            return;
        }
        if let Some(mut inbox) = self.get_mut(*handle) {
            inbox.forget_due();
        }
        self.slots.give(handle);
    }

    /// Number of users with waiting mail.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slots.taken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn popping_stops_at_the_mark_and_keeps_the_byte_count() {
        let mut inboxes = Inboxes::default();
        let mut inbox = inboxes.of(&mut { NONE });
        for position in 1..=5 {
            inbox.append(Entry::staged(position * 10, (1, 1), 100, What::Message, None));
        }
        let after: Vec<u64> = inbox.as_ref().after(20).map(|entry| entry.position).collect();
        assert_eq!(after, [30, 40, 50]);
        assert_eq!(inbox.pop_through(25).map(|entry| entry.position), Some(10));
        assert_eq!(inbox.pop_through(25).map(|entry| entry.position), Some(20));
        assert_eq!(inbox.pop_through(25), None);
        assert_eq!((inbox.as_ref().count(), inbox.as_ref().bytes()), (3, 300));
        assert!(inbox.as_ref().find(40).is_some() && inbox.as_ref().find(41).is_none());
    }

    #[test]
    fn every_entry_is_found_and_nothing_between_them() {
        let mut inboxes = Inboxes::default();
        let mut inbox = inboxes.of(&mut { NONE });
        for count in 0..3 * LATE_ENTRIES as u64 {
            for position in 0..=2 * count + 1 {
                let there = position > 0 && position <= 2 * count && position % 2 == 0;
                assert_eq!(
                    inbox.as_ref().find(position).map(|entry| entry.position == position),
                    there.then_some(true),
                    "{position} of {count}"
                );
            }
            inbox.append(Entry::staged(2 * (count + 1), (1, 1), 1, What::Message, None));
        }
    }

    /// The plainest inbox there is.
    #[derive(Default)]
    struct Model {
        entries: VecDeque<Entry>,
    }

    impl Model {
        fn of(&mut self, position: u64) -> Option<&mut Entry> {
            self.entries.iter_mut().find(|entry| entry.position == position)
        }

        fn insert(&mut self, entry: Entry) -> bool {
            let index = self.entries.partition_point(|other| other.position < entry.position);
            let is_new = self.entries.get(index).is_none_or(|it| it.position != entry.position);
            if is_new {
                self.entries.insert(index, entry);
            }
            is_new
        }
    }

    /// What is done to an inbox; positions are counted from its first or its last.
    #[derive(Clone, Debug)]
    enum Act {
        Append(u64, Kind),
        Load(u64, Kind),
        Place(u64, At),
        PopThrough(u64),
        Remove(u64),
        SetExpiring(u64, bool),
        SetMoving(u64),
        Settle(usize),
        After(u64),
    }

    type Kind = (u64, u32, u32, u8, Option<u32>, Option<At>);

    fn entry_of(position: u64, (sender, device, bytes, what, due_s, at): Kind) -> Entry {
        let what = [What::Message, What::OwnCopy, What::Notice][usize::from(what)];
        let mut entry = Entry::staged(position, (sender, device), bytes, what, due_s);
        if let Some(at) = at {
            entry.place(at);
        }
        entry
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let at = prop_oneof![
            (1..5_u32, 512..9_000_u32).prop_map(|(segment, unit)| At { segment, offset: unit * 8 }),
            (1..u32::MAX, any::<u32>()).prop_map(|(segment, offset)| At { segment, offset }),
        ];
        let sender = prop_oneof![0..3_u64, 0..100_u64, any::<u64>()];
        let bytes = prop_oneof![0..300_u32, 0..70_000_u32, any::<u32>()];
        let due_s = prop::option::weighted(0.2, any::<u32>());
        let step = prop_oneof![1..50_u64, 1..2_000_000_u64, 1..1_u64 << 50];
        let kind = (sender, 0..3_u32, bytes, 0..3_u8, due_s, prop::option::of(at.clone()));
        let near = 0..40_u64;
        let act = prop_oneof![
            8 => (step, kind.clone()).prop_map(|(step, kind)| Act::Append(step, kind)),
            1 => (near.clone(), kind).prop_map(|(near, kind)| Act::Load(near, kind)),
            4 => (near.clone(), at).prop_map(|(near, at)| Act::Place(near, at)),
            2 => near.clone().prop_map(Act::PopThrough),
            1 => near.clone().prop_map(Act::Remove),
            1 => (near.clone(), any::<bool>()).prop_map(|(near, on)| Act::SetExpiring(near, on)),
            1 => near.clone().prop_map(Act::SetMoving),
            3 => prop_oneof![Just(0), 0..10_usize].prop_map(Act::Settle),
            1 => near.prop_map(Act::After),
        ];
        prop::collection::vec(act, 1..150)
    }

    fn play(inboxes: &mut Inboxes, handle: &mut u32, model: &mut Model, act: &Act, tail: &mut u64) {
        // The position of the nth entry, or one beside it.
        let nth = |near: u64| {
            let index = usize::try_from(near / 2).unwrap() % model.entries.len().max(1);
            model.entries.get(index).map_or(near, |entry| entry.position + near % 2)
        };
        let mut inbox = inboxes.of(handle);
        match *act {
            Act::Append(step, kind) => {
                *tail += step;
                let entry = entry_of(*tail, kind);
                inbox.append(entry);
                model.entries.push_back(entry);
            }
            Act::Load(near, kind) => {
                let entry = entry_of(nth(near).max(1), kind);
                assert_eq!(inbox.insert(entry), model.insert(entry));
                *tail = entry.position.max(*tail);
            }
            Act::Place(near, at) => {
                let position = nth(near);
                let former = model.of(position).map(|entry| {
                    std::mem::replace(entry, {
                        let mut placed = *entry;
                        placed.place(at);
                        placed
                    })
                });
                assert_eq!(inbox.place(position, at), former);
            }
            Act::PopThrough(near) => {
                let up_to = nth(near);
                let is_due = model.entries.front().is_some_and(|first| first.position <= up_to);
                let expected = if is_due { model.entries.pop_front() } else { None };
                assert_eq!(inbox.pop_through(up_to), expected);
            }
            Act::Remove(near) => {
                let position = nth(near);
                let index = model.entries.iter().position(|entry| entry.position == position);
                let expected = index.and_then(|index| model.entries.remove(index));
                assert_eq!(inbox.remove(position), expected);
            }
            Act::SetExpiring(near, on) => {
                let position = nth(near);
                inbox.set_expiring(position, on);
                if let Some(entry) = model.of(position) {
                    entry.set_expiring(on);
                }
            }
            Act::SetMoving(near) => play_moving(&mut inbox, model, near),
            Act::Settle(keep) => inbox.settle(keep),
            Act::After(near) => {
                let after = nth(near);
                let expected = model.entries.iter().filter(|entry| entry.position > after);
                assert!(inbox.as_ref().after(after).eq(expected.copied()));
            }
        }
    }

    fn play_moving(inbox: &mut InboxMut<'_>, model: &mut Model, near: u64) {
        fn copier(near: u64) -> impl FnMut(&Entry) -> ControlFlow<(), bool> {
            let mut left = near;
            move |entry| {
                left = left.saturating_sub(1);
                match (left, entry.at()) {
                    (0, _) => ControlFlow::Break(()),
                    (_, at) => ControlFlow::Continue(at.is_some() && left.is_multiple_of(3)),
                }
            }
        }
        let mut copy = copier(near);
        for entry in &mut model.entries {
            match copy(entry) {
                ControlFlow::Continue(true) => entry.set_moving(),
                ControlFlow::Continue(false) => {}
                ControlFlow::Break(()) => break,
            }
        }
        inbox.set_moving(copier(near));
    }

    fn assert_same(inbox: Inbox<'_>, model: &Model) {
        let waiting = &model.entries;
        let copies = || waiting.iter().filter(|entry| !entry.is_message());
        assert!(inbox.after(0).eq(waiting.iter().copied()));
        assert_eq!(inbox.count(), waiting.len());
        assert_eq!(inbox.bytes(), waiting.iter().map(|it| u64::from(it.bytes())).sum::<u64>());
        assert_eq!(inbox.copies(), copies().count());
        assert_eq!(inbox.copy_bytes(), copies().map(|it| u64::from(it.bytes())).sum::<u64>());
        for entry in waiting {
            assert_eq!(inbox.find(entry.position), Some(*entry));
        }
    }

    proptest! {
        #[test]
        fn an_inbox_is_what_a_plain_list_would_be(
            acts in acts(),
            others in acts(),
        ) {
            let mut inboxes = Inboxes::default();
            let (mut handles, mut models) = ([NONE; 2], [Model::default(), Model::default()]);
            let mut tails = [0; 2];
            let turns = acts.len().max(others.len());
            let mut both = [acts.into_iter(), others.into_iter()];
            for turn in 0..2 * turns {
                let who = turn % 2;
                let Some(act) = both[who].next() else { continue };
                let model = &mut models[who];
                play(&mut inboxes, &mut handles[who], model, &act, &mut tails[who]);
                assert_same(inboxes.get(handles[who]).unwrap(), model);
                inboxes.release_empty(&mut handles[who]);
            }
            for (handle, model) in handles.iter_mut().zip(&models) {
                if *handle != NONE {
                    assert_same(inboxes.get(*handle).unwrap(), model);
                    let mut inbox = inboxes.get_mut(*handle).unwrap();
                    while inbox.pop_through(u64::MAX).is_some() {}
                }
                inboxes.release_empty(handle);
            }
            assert_eq!((inboxes.count(), inboxes.rooms.young.taken()), (0, 0));
            assert_eq!(inboxes.rooms.chunks.bytes_used(), 0);
        }
    }

    #[test]
    fn a_further_message_of_the_recovery_bench_takes_nine_bytes_and_a_half() {
        // benches/recovery.rs: what a user gets lies 1,000,000 positions and 192 MB apart.
        const USERS: u32 = 1_000;
        const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
        let mut inboxes = Inboxes::default();
        let mut handles = vec![NONE; USERS as usize];
        let mut used = Vec::new();
        for round in 0..10 {
            for user in 0..USERS {
                let nth = round * 1_000_000 + u64::from(user) * 1_000;
                let place = 4096 + 192 * nth;
                // What came in the first round was written by an earlier start of the server.
                let epoch = 50_000_000 + round.min(1) * 100;
                let from = (1_000_001 + u64::from(user), 1);
                let mut entry =
                    Entry::staged(epoch << 32 | (nth + 1), from, 100, What::Message, None);
                let segment = u32::try_from(1 + round.min(1) + place / SEGMENT_BYTES).unwrap();
                let offset = u32::try_from(place % SEGMENT_BYTES).unwrap();
                entry.place(At { segment, offset });
                inboxes.of(&mut handles[user as usize]).append(entry);
            }
            used.push(inboxes.rooms.chunks.bytes_used() as f64 / f64::from(USERS));
        }
        let further = (used[9] - used[0]) / 9.0;
        assert!(further <= 9.5, "{further}: {used:?}");
    }

    #[test]
    fn a_long_inbox_of_many_senders_stays_small() {
        const MESSAGES: u64 = 10_000;
        let mut inboxes = Inboxes::default();
        let mut inbox = inboxes.of(&mut { NONE });
        for nth in 1..=MESSAGES {
            let from = (u64::MAX / (1 + nth % 50), 1);
            let mut entry = Entry::staged(nth * 100_000, from, 150, What::Message, None);
            entry.place(At { segment: 1 + u32::try_from(nth / 3).unwrap(), offset: 8 << 20 });
            inbox.append(entry);
        }
        let each = inboxes.rooms.chunks.bytes_used() as f64 / MESSAGES as f64;
        assert!(each <= 11.0, "{each}: a byte more for the name, and what chunks take");
    }

    #[test]
    fn an_empty_inbox_goes_back_to_the_pool() {
        let mut inboxes = Inboxes::default();
        let mut handle = NONE;
        inboxes.of(&mut handle).append(Entry::staged(1, (1, 1), 1, What::Message, None));
        inboxes.release_empty(&mut handle);
        assert_ne!(handle, NONE);
        inboxes.get_mut(handle).unwrap().pop_through(1);
        inboxes.release_empty(&mut handle);
        assert_eq!((handle, inboxes.count()), (NONE, 0));
    }
}
