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
pub trait Store {
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

/// Makes segments beside the store it came from.
pub trait Creator: Send {
    /// As [`Store::create`].
    ///
    /// # Errors
    /// As [`Store::create`].
    fn create(&mut self, segment: u32, bytes: u64) -> io::Result<()>;
}
