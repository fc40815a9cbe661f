//! The disk as the log sees it: numbered segments, write at, sync, read at.
//!
//! Owner: the committer holds the only store that writes. `FileStore` is the real one,
//! `SharedMemory` the one of tests and the simulator, with faults.
//!
//! What an implementation promises: `create` leaves a segment that reads as zeros, whose blocks
//! are allocated and whose name survives a power cut; what `sync` returned `Ok` for survives one;
//! an error of `write_at` or `sync` says nothing about what did or did not reach the disk.

use std::io;

/// A place segments live in. All numbers are bytes.
pub trait Store: Send {
    /// The numbers of all segments, in any order.
    ///
    /// # Errors
    /// Whatever listing the folder gave.
    fn segments(&self) -> io::Result<Vec<u32>>;

    /// Makes a segment of `bytes`: preallocated, zero-filled, synced, its folder synced.
    ///
    /// # Errors
    /// Any; no room is `ErrorKind::StorageFull`. Nothing is left behind.
    fn create(&mut self, segment: u32, bytes: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Any; a part may have been written.
    fn write_at(&mut self, segment: u32, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written to `segment` so far survive a power cut.
    ///
    /// # Errors
    /// Any; it is final: what was written since the last sync may be lost even if a later sync
    /// succeeds.
    fn sync(&mut self, segment: u32) -> io::Result<()>;

    /// Reads from `offset` into `out`; returns how much was there (less only at the end).
    ///
    /// # Errors
    /// Any.
    fn read_at(&self, segment: u32, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Takes a segment that nobody needs out of the log: from now on it is a file in the making
    /// for segment `name`, to be finished by [`Store::renew`] or ended by [`Store::scrub`].
    ///
    /// # Errors
    /// Any; then it is still a segment.
    fn retire(&mut self, segment: u32, name: u32) -> io::Result<()>;

    /// Overwrites what was retired for `segment` with zeros and makes it that segment, as
    /// [`Store::create`] does.
    ///
    /// # Errors
    /// Any; the next start ends it.
    fn renew(&mut self, segment: u32, bytes: u64) -> io::Result<()>;

    /// Overwrites what was retired for `name` with zeros and removes it.
    ///
    /// # Errors
    /// Any; the next start ends it.
    fn scrub(&mut self, name: u32) -> io::Result<()>;

    /// Removes a segment.
    ///
    /// # Errors
    /// Any.
    fn remove(&mut self, segment: u32) -> io::Result<()>;

    /// Size of a segment.
    ///
    /// # Errors
    /// Any.
    fn bytes(&self, segment: u32) -> io::Result<u64>;

    /// A number that outsiders cannot guess, mixed into the generation of each new segment, so
    /// that nobody can send a payload that would pass for a commit. 0 where that does not matter.
    fn salt(&mut self) -> u64 {
        0
    }

    /// A way to make segments from another thread, if there is one: making one takes long and
    /// must not delay commits.
    fn creator(&self) -> Option<Box<dyn Creator>> {
        None
    }
}

/// A store that makes its segments itself, where there is no thread for it.
#[derive(Debug)]
pub(super) struct InPlace<'a, S>(pub(super) &'a mut S);

impl<S: Store> Creator for InPlace<'_, S> {
    fn create(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        self.0.create(segment, bytes)
    }

    fn retire(&mut self, segment: u32, name: u32) -> io::Result<()> {
        self.0.retire(segment, name)
    }

    fn renew(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        self.0.renew(segment, bytes)
    }

    fn scrub(&mut self, name: u32) -> io::Result<()> {
        self.0.scrub(name)
    }
}

/// Makes segments beside the store it came from.
pub trait Creator: Send {
    /// As [`Store::create`].
    ///
    /// # Errors
    /// As [`Store::create`].
    fn create(&mut self, segment: u32, bytes: u64) -> io::Result<()>;

    /// As [`Store::retire`].
    ///
    /// # Errors
    /// As [`Store::retire`].
    fn retire(&mut self, segment: u32, name: u32) -> io::Result<()>;

    /// As [`Store::renew`].
    ///
    /// # Errors
    /// As [`Store::renew`].
    fn renew(&mut self, segment: u32, bytes: u64) -> io::Result<()>;

    /// As [`Store::scrub`].
    ///
    /// # Errors
    /// As [`Store::scrub`].
    fn scrub(&mut self, name: u32) -> io::Result<()>;
}
