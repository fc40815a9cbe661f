//! What the driver knows of its connections: where each one lives, and the state of each slot.
//!
//! Owner: its driver. A connection is first a guest of the lobby and later has a slot of a ring. A
//! slot is taken from the moment a socket is put into it until the last completion about it has
//! come, which is after the connection is gone; so what a completion says is always about the
//! present tenant, and a slot without a tenant only waits for its last ones.

use super::super::Closed;
use crate::mem::Token;

/// A place in a ring's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) ring: u16,
    pub(super) slot: u16,
}

/// Where a connection is; four bytes per token index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Home(u32);

/// A home as it can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Where {
    /// Nobody has this index.
    Nowhere,
    /// In the lobby under this index.
    Lobby(u32),
    /// In a ring.
    Settled(Place),
}

impl Home {
    pub(super) const NOWHERE: Self = Self(u32::MAX);
    const LOBBY: u32 = 1 << 31;

    pub(super) fn lobby(index: u32) -> Self {
        Self(index | Self::LOBBY)
    }

    pub(super) fn settled(place: Place) -> Self {
        Self(u32::from(place.ring) << 16 | u32::from(place.slot))
    }

    #[allow(clippy::cast_possible_truncation, reason = "each half has 16 bits")]
    pub(super) fn look(self) -> Where {
        match self {
            Self::NOWHERE => Where::Nowhere,
            Self(bits) if bits & Self::LOBBY != 0 => Where::Lobby(bits & !Self::LOBBY),
            Self(bits) => Where::Settled(Place { ring: (bits >> 16) as u16, slot: bits as u16 }),
        }
    }
}

/// In the ready list.
pub(super) const QUEUED: u8 = 1;
/// There may be something to read.
pub(super) const READABLE: u8 = 1 << 1;
/// The peer's end, or an error, stands behind what there is to read.
pub(super) const ENDING: u8 = 1 << 2;
/// A read is under way.
pub(super) const READING: u8 = 1 << 3;
/// The owner wants no data now.
pub(super) const PAUSED: u8 = 1 << 4;
/// A send is under way.
pub(super) const SENDING: u8 = 1 << 5;
/// The kernel is to say when there is room to write.
pub(super) const FULL: u8 = 1 << 6;
/// The kernel gave up watching; it is asked again behind the next read. (At once would be for
/// ever: what can be read is reported again, finds no room again, and so on.)
pub(super) const UNWATCHED: u8 = 1 << 7;

/// One slot.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The tenant's token; generation 0: none.
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) flags: u8,
    /// Operations whose last completion is still to come.
    pub(super) pending: u8,
    /// Found by a send; reported by the next `poll`.
    pub(super) fault: Option<Closed>,
}

const _: () = assert!(size_of::<Slot>() <= 12, "with four bytes of home: the budget here");

impl Slot {
    pub(super) fn token(&self) -> Token {
        Token { index: self.index, generation: self.generation }
    }

    pub(super) fn has_tenant(&self) -> bool {
        self.generation != 0
    }
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u16>,
}

/// The slots of all rings of a driver.
#[derive(Debug)]
pub(super) struct Slots {
    tables: Vec<Table>,
    per_ring: usize,
    /// No ring before this one has room.
    first: usize,
}

impl Slots {
    pub(super) fn new(per_ring: u32) -> Self {
        Self { tables: vec![Table::default()], per_ring: per_ring as usize, first: 0 }
    }

    /// One more ring.
    pub(super) fn grow(&mut self) {
        self.tables.push(Table::default());
    }

    /// A slot without tenant and pending operations; `None`: every ring is full.
    pub(super) fn take(&mut self) -> Option<Place> {
        for (number, table) in self.tables.iter_mut().enumerate().skip(self.first) {
            let ring = u16::try_from(number).ok()?;
            if let Some(slot) = table.free.pop() {
                return Some(Place { ring, slot });
            }
            if table.slots.len() < self.per_ring {
                let slot = u16::try_from(table.slots.len()).ok()?;
                table.slots.push(Slot::default());
                return Some(Place { ring, slot });
            }
            self.first = number + 1;
        }
        None
    }

    /// Gives a slot back.
    pub(super) fn give(&mut self, place: Place) {
        self.first = self.first.min(usize::from(place.ring));
        self.tables[usize::from(place.ring)].free.push(place.slot);
    }

    pub(super) fn at(&mut self, place: Place) -> &mut Slot {
        &mut self.tables[usize::from(place.ring)].slots[usize::from(place.slot)]
    }
}

#[cfg(test)]
mod tests {
    use super::{Home, Place, Slots, Where};

    #[test]
    fn a_home_tells_where_it_is() {
        assert_eq!(Home::NOWHERE.look(), Where::Nowhere);
        assert_eq!(Home::lobby(70_000).look(), Where::Lobby(70_000));
        for (ring, slot) in [(0, 0), (0x7fff, 0xfffe), (3, 32_767)] {
            let place = Place { ring, slot };
            assert_eq!(Home::settled(place).look(), Where::Settled(place));
        }
    }

    #[test]
    fn slots_fill_ring_by_ring_and_come_back() {
        let mut slots = Slots::new(2);
        let first: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(first.len(), 2);
        slots.grow();
        let second: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(second.iter().map(|place| place.ring).collect::<Vec<_>>(), [1, 1]);
        slots.give(first[1]);
        assert_eq!(slots.take(), Some(first[1]), "the first ring with room");
        assert_eq!(slots.take(), None);
    }
}
