//! Things that are taken and given back all the time, each with an index.

use crate::state::NONE;

/// Things with an index; one that is given back is empty and is taken again as it is.
#[derive(Debug)]
pub(super) struct Places<T> {
    places: Vec<T>,
    free: Vec<u32>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Places<T> {
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)
    }

    /// The thing with an index, or a fresh one if the index is [`NONE`].
    pub(super) fn of(&mut self, index: &mut u32) -> &mut T {
        if *index == NONE {
            *index = self.free.pop().unwrap_or_else(|| {
                self.places.push(T::default());
                u32::try_from(self.places.len() - 1).unwrap_or(NONE)
            });
            assert!(*index != NONE, "fewer than 2^32 of anything fit a process");
        }
        &mut self.places[*index as usize]
    }

    /// Takes back a thing that is empty; its index names nothing from now on.
    pub(super) fn give(&mut self, index: &mut u32) {
        self.free.push(std::mem::replace(index, NONE));
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// How many wait to be taken again.
    pub(super) fn spare(&self) -> usize {
        self.free.len()
    }

    /// All of them, those that are not taken as well.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut()
    }
}
