//! A disk in memory, with the faults a real one has.
//!
//! Owner: whoever tests; clones share one disk, so that a test can pull the plug on a log that
//! runs. Not for production.
//!
//! Each segment has two images: what a process reads back (the page cache) and what a power cut
//! leaves. A write touches the first, a sync carries 512-byte sectors over to the second. A sync
//! that fails carries nothing over *and forgets that it should*, as Linux does. A process that
//! dies leaves both images as they are: what the next one reads back may still be lost in a power
//! cut.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pages::{Pages, SECTOR_BYTES, SECTORS};
use super::store::Store;

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
    /// After so many further reads one fails.
    pub failing_read: Option<u32>,
    /// After so many further segments taken out of the log, taking one out fails.
    pub failing_retire: Option<u32>,
    /// After so many further writes, syncs, creations and removals everything fails: the process
    /// is being killed. A write that is under way then is half done.
    pub dies_after: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Image {
    current: Pages,
    durable: Pages,
    /// Pages with sectors that were written and not synced, a bit for each.
    dirty: BTreeMap<usize, u8>,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    segments: BTreeMap<u32, Image>,
    /// Taken out of the log and not yet overwritten, by the name they are to get.
    retired: BTreeMap<u32, Image>,
    faults: Faults,
    died: bool,
    syncs: u64,
    writes: u64,
    actions: u64,
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
        let mut disk = self.disk();
        disk.faults = faults;
        disk.died = false;
    }

    /// Whether the moment came that `dies_after` names.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.disk().died
    }

    /// Power cut: of everything unsynced, the sectors `survives` says so of (segment, sector)
    /// reached the disk. Also ends all faults but the size of the disk.
    pub fn cut_power(&self, survives: &mut dyn FnMut(u32, usize) -> bool) {
        let mut disk = self.disk();
        for (segment, image) in &mut disk.segments {
            for (page, sectors) in std::mem::take(&mut image.dirty) {
                let of_page = (0..SECTORS).filter(|sector| sectors & 1 << sector != 0);
                let kept = of_page.filter(|sector| survives(*segment, page * SECTORS + sector));
                let kept = kept.fold(0, |kept, sector| kept | 1 << sector);
                image.durable.take_over(&image.current, page, kept);
            }
            image.current = image.durable.clone();
        }
        disk.faults = Faults { bytes_max: disk.faults.bytes_max, ..Faults::default() };
        disk.died = false;
        disk.actions += 1;
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
            let sectors = |(page, sectors): (&usize, &u8)| {
                let (page, sectors) = (*page, *sectors);
                let set = (0..SECTORS).filter(move |sector| sectors & 1 << sector != 0);
                set.map(move |sector| (segment, page * SECTORS + sector))
            };
            image.dirty.iter().flat_map(sectors).collect::<Vec<_>>()
        };
        disk.segments.iter().flat_map(of).collect()
    }

    /// Changes bytes behind the log's back, on the disk and in the cache; ignored beyond the end.
    pub fn corrupt(&self, segment: u32, offset: usize, change: &mut dyn FnMut(u8) -> u8) {
        if let Some(image) = self.disk().segments.get_mut(&segment) {
            for bytes in [&mut image.current, &mut image.durable] {
                if let Some(byte) = bytes.byte_mut(offset) {
                    *byte = change(*byte);
                }
            }
        }
    }

    /// Puts a segment of exactly these bytes on the disk.
    pub fn put(&self, segment: u32, bytes: &[u8]) {
        self.disk().segments.insert(segment, Image::of(Pages::of(bytes)));
    }

    /// The bytes of a segment as a process reads them.
    #[must_use]
    pub fn image(&self, segment: u32) -> Option<Vec<u8>> {
        self.disk().segments.get(&segment).map(|image| image.current.to_vec())
    }

    /// Writes and syncs that succeeded so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let disk = self.disk();
        (disk.writes, disk.syncs)
    }

    /// Everything that changed the disk or tried to: writes, syncs, creations, removals, power
    /// cuts. `dies_after` counts the same without the cuts.
    #[must_use]
    pub fn actions(&self) -> u64 {
        self.disk().actions
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Image {
    fn of(bytes: Pages) -> Self {
        Self { current: bytes.clone(), durable: bytes, dirty: BTreeMap::new() }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if !self.current.write(offset, bytes) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a write beyond the segment"));
        }
        if !bytes.is_empty() {
            for sector in offset / SECTOR_BYTES..=(offset + bytes.len() - 1) / SECTOR_BYTES {
                *self.dirty.entry(sector / SECTORS).or_default() |= 1 << (sector % SECTORS);
            }
        }
        Ok(())
    }

    /// Everything written reaches the disk.
    fn sync(&mut self) {
        for (page, sectors) in std::mem::take(&mut self.dirty) {
            self.durable.take_over(&self.current, page, sectors);
        }
    }
}

impl Disk {
    fn add_blank(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        let zeros = Pages::zeros(usize::try_from(bytes).map_err(io::Error::other)?);
        self.segments.insert(segment, Image::of(zeros));
        Ok(())
    }

    fn live(&mut self) -> io::Result<()> {
        self.actions += 1;
        if let Some(left) = &mut self.faults.dies_after {
            let Some(fewer) = left.checked_sub(1) else {
                self.died = true;
                return Err(io::Error::other("the process died"));
            };
            *left = fewer;
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
        if fails {
            image.dirty.clear();
            return Err(io::Error::other("a sync failed"));
        }
        image.sync();
        Ok(())
    }

    fn read_at(&self, segment: u32, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk();
        if is_due(&mut disk.faults.failing_read) {
            return Err(io::Error::other("a read failed"));
        }
        let image = disk.segment(segment)?;
        Ok(image.current.read(usize::try_from(offset).unwrap_or(usize::MAX), out))
    }

    fn retire(&mut self, segment: u32, name: u32) -> io::Result<()> {
        let mut disk = self.disk();
        disk.live()?;
        if is_due(&mut disk.faults.failing_retire) {
            return Err(io::Error::other("taking it out failed"));
        }
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
