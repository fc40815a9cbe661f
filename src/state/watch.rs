//! Who watches whose presence: leases at the watched user's home.
//!
//! Bounded per watched user and per shard; a watch that finds no room is not kept (presence is the
//! first thing to be shed). A sweep compares what each watcher was told with what is true now.

use crate::state::NONE;

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The watching user.
    pub watcher: u64,
    /// Its device.
    pub device: u32,
    /// What the watcher was told; `None`: it waits to be told.
    pub told: Option<Told>,
    /// Session clock, milliseconds: the lease ends.
    pub until_ms: u64,
}

/// What a watcher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The user is there.
    Online,
    /// The user is not there, and since when.
    Offline,
    /// What is said of users nobody knows.
    Nothing,
}

/// The leases of a shard, by watched user.
#[derive(Debug, Default)]
pub struct Watches {
    lists: slab::Slab<List>,
    count: usize,
    /// Lists to look at soon because something happened to their user.
    dirty: Vec<u32>,
}

/// The leases on one user.
#[derive(Debug)]
pub struct List {
    /// Index of the watched user.
    pub target: u32,
    /// Its watchers.
    pub watches: Vec<Watch>,
    dirty: bool,
}

impl Watches {
    /// Adds or renews a lease. False: there is no room.
    pub fn add(
        &mut self,
        handle: &mut u32,
        target: u32,
        watch: Watch,
        maxima: (usize, usize),
    ) -> bool {
        let (per_user_max, all_max) = maxima;
        if *handle == NONE {
            let list = List { target, watches: Vec::new(), dirty: false };
            *handle = u32::try_from(self.lists.insert(list)).unwrap_or(NONE);
        }
        let handle = *handle;
        let Some(list) = self.lists.get_mut(handle as usize) else { return false };
        let same =
            |other: &&mut Watch| other.watcher == watch.watcher && other.device == watch.device;
        let added = if let Some(known) = list.watches.iter_mut().find(same) {
            known.until_ms = watch.until_ms;
            known.told = None; // a renewal is answered with the present state
            true
        } else if list.watches.len() < per_user_max && self.count < all_max {
            list.watches.push(watch);
            self.count += 1;
            true
        } else {
            false
        };
        self.touch(handle);
        added
    }

    /// Something happened to the user behind this handle: look at it soon.
    pub fn touch(&mut self, handle: u32) {
        if let Some(list) = self.lists.get_mut(handle as usize)
            && !list.dirty
        {
            list.dirty = true;
            self.dirty.push(handle);
        }
    }

    /// The handles to look at soon.
    pub fn take_dirty(&mut self, out: &mut Vec<u32>) {
        for handle in self.dirty.drain(..) {
            if let Some(list) = self.lists.get_mut(handle as usize) {
                list.dirty = false;
                out.push(handle);
            }
        }
    }

    /// All handles: a sweep for what changes by the passing of time.
    pub fn each(&self, out: &mut Vec<u32>) {
        out.extend(self.lists.iter().filter_map(|(index, _)| u32::try_from(index).ok()));
    }

    /// The leases behind a handle.
    pub fn list_mut(&mut self, handle: u32) -> Option<&mut List> {
        self.lists.get_mut(handle as usize)
    }

    /// Drops leases that ended; true if none is left and the list is gone.
    pub fn expire(&mut self, handle: u32, now_ms: u64) -> bool {
        let Some(list) = self.lists.get_mut(handle as usize) else { return true };
        let before = list.watches.len();
        list.watches.retain(|watch| watch.until_ms > now_ms);
        self.count -= before - list.watches.len();
        let gone = list.watches.is_empty();
        if gone {
            self.lists.remove(handle as usize);
        }
        gone
    }

    /// Number of leases.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}
