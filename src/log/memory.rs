//! A disk in memory, with the faults a real one has.
//!
//! Owner: whoever tests; clones share one disk, so that a test can pull the plug on a log that
//! runs. Not for production.
//!
//! Each segment has two images: what a process reads back (the page cache) and what a power cut
//! leaves. A write touches the first, a sync carries 512-byte sectors over to the second. A sync
//! that fails carries nothing over *and forgets that it should*, as Linux does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::store::Store;

/// Sectors reach the disk whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// For tests that want no faults: the same disk.
pub type MemoryStore = SharedMemory;

/// What is to go wrong, counted down with each call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The disk holds no more than this many bytes of segments.
    pub bytes_max: Option<u64>,
    /// After so many further writes one fails, half done.
    pub failing_write: Option<u32>,
    /// After so many further syncs one fails.
    pub failing_sync: Option<u32>,
    /// After so many further writes, syncs, creations and removals everything fails: the process
    /// is being killed.
    pub dies_after: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Image {
    current: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    segments: BTreeMap<u32, Image>,
    /// Taken out of the log and not yet overwritten, by the name they are to get.
    retired: BTreeMap<u32, Image>,
    faults: Faults,
    syncs: u64,
    writes: u64,
}

/// A disk in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SharedMemory {
    disk: Arc<Mutex<Disk>>,
}

impl SharedMemory {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of the disk as it is now, no longer shared.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { disk: Arc::new(Mutex::new(self.disk().clone())) }
    }

    /// Plans what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    /// Power cut: of everything unsynced, the sectors `survives` says so of (segment, sector)
    /// reached the disk. Also ends all faults but the size of the disk.
    pub fn cut_power(&self, survives: &mut dyn FnMut(u32, usize) -> bool) {
        let mut disk = self.disk();
        for (segment, image) in &mut disk.segments {
            for sector in std::mem::take(&mut image.dirty) {
                if survives(*segment, sector) {
                    image.carry_over(sector);
                }
            }
            image.current = image.durable.clone();
        }
        disk.faults = Faults { bytes_max: disk.faults.bytes_max, ..Faults::default() };
    }

    /// What a start does first: ends what an earlier run left in the making.
    pub fn reopen(&self) {
        self.disk().retired.clear();
    }

    /// The sectors that were written and not synced.
    #[must_use]
    pub fn dirty(&self) -> Vec<(u32, usize)> {
        let disk = self.disk();
        let of = |(segment, image): (&u32, &Image)| {
            let segment = *segment;
            image.dirty.iter().map(move |sector| (segment, *sector)).collect::<Vec<_>>()
        };
        disk.segments.iter().flat_map(of).collect()
    }

    /// Changes bytes behind the log's back, on the disk and in the cache; ignored beyond the end.
    pub fn corrupt(&self, segment: u32, offset: usize, change: &mut dyn FnMut(u8) -> u8) {
        if let Some(image) = self.disk().segments.get_mut(&segment) {
            for bytes in [&mut image.current, &mut image.durable] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte = change(*byte);
                }
            }
        }
    }

    /// Puts a segment of exactly these bytes on the disk.
    pub fn put(&self, segment: u32, bytes: &[u8]) {
        let image =
            Image { current: bytes.to_vec(), durable: bytes.to_vec(), dirty: BTreeSet::new() };
        self.disk().segments.insert(segment, image);
    }

    /// The bytes of a segment as a process reads them.
    #[must_use]
    pub fn image(&self, segment: u32) -> Option<Vec<u8>> {
        self.disk().segments.get(&segment).map(|image| image.current.clone())
    }

    /// Writes and syncs that succeeded so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let disk = self.disk();
        (disk.writes, disk.syncs)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Image {
    fn carry_over(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.current.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.current[start..end]);
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len());
        let Some(target) = self.current.get_mut(offset..end) else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a write beyond the segment"));
        };
        target.copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
        Ok(())
    }
}

impl Disk {
    fn add_blank(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        let zeros = vec![0_u8; usize::try_from(bytes).map_err(io::Error::other)?];
        let image = Image { current: zeros.clone(), durable: zeros, dirty: BTreeSet::new() };
        self.segments.insert(segment, image);
        Ok(())
    }

    fn live(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.faults.dies_after {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the process died"))?;
        }
        Ok(())
    }

    fn segment(&mut self, segment: u32) -> io::Result<&mut Image> {
        self.segments.get_mut(&segment).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// Whether the fault counted by `counter` is due now.
fn is_due(counter: &mut Option<u32>) -> bool {
    match counter {
        Some(0) => {
            *counter = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl Store for SharedMemory {
    fn segments(&self) -> io::Result<Vec<u32>> {
        Ok(self.disk().segments.keys().copied().collect())
    }

    fn create(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.live()?;
        if disk.segments.contains_key(&segment) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let images = disk.segments.values().chain(disk.retired.values());
        let used: u64 = images.map(|image| image.current.len() as u64).sum();
        if disk.faults.bytes_max.is_some_and(|bytes_max| used + bytes > bytes_max) {
            return Err(ErrorKind::StorageFull.into());
        }
        disk.add_blank(segment, bytes)
    }

    fn write_at(&mut self, segment: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let died = disk.live();
        if died.is_err() || is_due(&mut disk.faults.failing_write) {
            disk.segment(segment)?.write(offset, &bytes[..bytes.len() / 2])?;
            return Err(io::Error::other("a write failed"));
        }
        disk.writes += 1;
        disk.segment(segment)?.write(offset, bytes)
    }

    fn sync(&mut self, segment: u32) -> io::Result<()> {
        let mut disk = self.disk();
        disk.live()?;
        let fails = is_due(&mut disk.faults.failing_sync);
        disk.syncs += u64::from(!fails);
        let image = disk.segment(segment)?;
        for sector in std::mem::take(&mut image.dirty) {
            if !fails {
                image.carry_over(sector);
            }
        }
        if fails { Err(io::Error::other("a sync failed")) } else { Ok(()) }
    }

    fn read_at(&self, segment: u32, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk();
        let image = disk.segment(segment)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(image.current.len());
        let there = &image.current[start..];
        let count = there.len().min(out.len());
        out[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn retire(&mut self, segment: u32, name: u32) -> io::Result<()> {
        let mut disk = self.disk();
        disk.live()?;
        let image = disk.segments.remove(&segment).ok_or(ErrorKind::NotFound)?;
        disk.retired.insert(name, image);
        Ok(())
    }

    fn renew(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.live()?;
        disk.retired.remove(&segment).ok_or(ErrorKind::NotFound)?;
        disk.add_blank(segment, bytes)
    }

    fn scrub(&mut self, name: u32) -> io::Result<()> {
        let mut disk = self.disk();
        disk.live()?;
        disk.retired.remove(&name).map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn remove(&mut self, segment: u32) -> io::Result<()> {
        let mut disk = self.disk();
        disk.live()?;
        disk.segments.remove(&segment).map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn bytes(&self, segment: u32) -> io::Result<u64> {
        Ok(self.disk().segment(segment)?.current.len() as u64)
    }
}
