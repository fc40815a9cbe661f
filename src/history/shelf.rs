//! Payloads, each kept once, where it was written until it is overwritten with zeros.
//!
//! Owner: the history thread. Files `payloads-0000000001` and on in the folder of history hold
//! payloads one after the other, without anything between them; where each is stands in the tables
//! (`tables`). Nothing here is ever moved, so that overwriting a payload leaves no copy of it
//! ([decision 0004](../../docs/decisions/0004-history-store.md)).
//!
//! Invariants: what a transaction refers to is synced before it; what it gave up is overwritten
//! after it; the end of the newest file is part of the transaction, and what lies beyond it at a
//! start was never referred to and is cut off.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::limits::{HISTORY_FILE_BYTES, HISTORY_PENDING_KEPT_BYTES};

const PREFIX: &str = "payloads-";

/// Where a payload is: number of the file and offset in one number, and its length in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    /// `file << 32 | offset`; files count from 1.
    pub(super) at: u64,
    /// Bytes; 0: an empty payload, which is nowhere.
    pub(super) bytes: u32,
}

impl Place {
    /// The number of its file.
    pub(super) fn file(self) -> u32 {
        u32::try_from(self.at >> 32).unwrap_or(u32::MAX)
    }

    fn offset(self) -> u64 {
        self.at & 0xffff_ffff
    }
}

/// The payload files.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    /// The newest file, and up to where it is written.
    newest: (u32, File),
    end: u64,
    /// Bytes of the newest file that are not written yet; they follow `end`.
    pending: Vec<u8>,
    /// The newest file has bytes that are not synced.
    dirty: bool,
    /// An older file that was read last.
    open: Option<(u32, File)>,
}

impl Shelf {
    /// Opens the files in `folder`, making it if need be. `newest` and `end` are what the last
    /// transaction said (1 and 0 at first); what lies beyond is removed.
    ///
    /// # Errors
    /// The system refused, or the newest file is shorter than it was.
    pub(super) fn open(folder: &Path, newest: u32, end: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if number_of(&path).is_some_and(|number| number > newest) {
                fs::remove_file(path)?;
            }
        }
        let file = writable(&path_of(folder, newest))?;
        let bytes = file.metadata()?.len();
        if bytes < end {
            let why = format!("{} has {bytes} bytes of {end}", path_of(folder, newest).display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        file.set_len(end)?;
        File::open(folder)?.sync_all()?;
        let (pending, dirty) = (Vec::new(), false);
        Ok(Self {
            folder: folder.to_owned(),
            newest: (newest, file),
            end,
            pending,
            dirty,
            open: None,
        })
    }

    /// Number of the newest file, and its end.
    pub(super) fn end(&self) -> (u32, u64) {
        (self.newest.0, self.end + self.pending.len() as u64)
    }

    /// Takes a payload; it is on the disk after [`Shelf::sync`].
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn add(&mut self, payload: &[u8]) -> io::Result<Place> {
        let Ok(bytes) = u32::try_from(payload.len()) else {
            return Err(io::Error::other("a payload of more than 4 GiB"));
        };
        if bytes == 0 {
            return Ok(Place::default());
        }
        if self.end().1 + u64::from(bytes) > HISTORY_FILE_BYTES {
            self.sync()?;
            let number = self.newest.0 + 1;
            self.newest = (number, writable(&path_of(&self.folder, number))?);
            self.end = 0;
            File::open(&self.folder)?.sync_all()?;
        }
        let (file, offset) = self.end();
        self.pending.extend_from_slice(payload);
        Ok(Place { at: u64::from(file) << 32 | offset, bytes })
    }

    /// Writes and syncs everything added.
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.newest.1.write_all_at(&self.pending, self.end)?;
            self.end += self.pending.len() as u64;
            self.pending.clear();
            self.pending.shrink_to(HISTORY_PENDING_KEPT_BYTES);
            self.dirty = true;
        }
        if self.dirty {
            self.newest.1.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Forgets what was added since a transaction that ended at `newest` and `end`.
    ///
    /// # Errors
    /// As [`Shelf::open`].
    pub(super) fn back_to(&mut self, newest: u32, end: u64) -> io::Result<()> {
        *self = Self::open(&self.folder, newest, end)?;
        Ok(())
    }

    /// The payload at `place`; empty if its file is gone.
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn read(&mut self, place: Place) -> io::Result<Vec<u8>> {
        let mut payload = vec![0; place.bytes as usize];
        if place.bytes > 0 {
            self.file(place.file())?.read_exact_at(&mut payload, place.offset())?;
        }
        Ok(payload)
    }

    /// Overwrites payloads with zeros and syncs. A file that is gone has nothing to overwrite.
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn erase(&mut self, places: &[Place]) -> io::Result<()> {
        let mut touched: Vec<u32> = Vec::new();
        for place in places {
            let zeros = vec![0; place.bytes as usize];
            match self.file(place.file()) {
                Ok(file) => file.write_all_at(&zeros, place.offset())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            if !touched.contains(&place.file()) {
                touched.push(place.file());
            }
        }
        for number in touched {
            self.file(number)?.sync_data()?;
        }
        Ok(())
    }

    /// Removes a file in which nothing lives any more.
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn remove(&mut self, number: u32) -> io::Result<()> {
        debug_assert!(number < self.newest.0);
        self.open = None;
        match fs::remove_file(path_of(&self.folder, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn file(&mut self, number: u32) -> io::Result<&File> {
        if number == self.newest.0 {
            return Ok(&self.newest.1);
        }
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let path = path_of(&self.folder, number);
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            self.open = Some((number, file));
        }
        self.open.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn path_of(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{PREFIX}{number:010}"))
}

fn number_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

fn writable(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_back_and_what_is_erased_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(folder.path(), 1, 0).unwrap();
        let first = shelf.add(b"first").unwrap();
        let second = shelf.add(b"second").unwrap();
        assert_eq!(shelf.add(b"").unwrap(), Place::default());
        shelf.sync().unwrap();
        assert_eq!(shelf.read(first).unwrap(), b"first");
        shelf.erase(&[first]).unwrap();
        assert_eq!(shelf.read(first).unwrap(), [0; 5]);
        assert_eq!(shelf.read(second).unwrap(), b"second");
        assert_eq!(fs::read(path_of(folder.path(), 1)).unwrap(), b"\0\0\0\0\0second");
    }

    #[test]
    fn what_lies_beyond_the_last_transaction_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(folder.path(), 1, 0).unwrap();
        let kept = shelf.add(b"kept").unwrap();
        shelf.sync().unwrap();
        let (newest, end) = shelf.end();
        let large = vec![7; usize::try_from(HISTORY_FILE_BYTES).unwrap() - 2];
        shelf.add(&large).unwrap();
        shelf.sync().unwrap();
        assert_eq!(shelf.end().0, 2, "a file has its size");
        drop(shelf);
        let mut shelf = Shelf::open(folder.path(), newest, end).unwrap();
        assert_eq!(shelf.read(kept).unwrap(), b"kept");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let short = Shelf::open(folder.path(), newest, end + 1).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_that_is_gone_has_nothing_to_erase() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(folder.path(), 3, 0).unwrap();
        shelf.remove(1).unwrap();
        shelf.erase(&[Place { at: 1 << 32, bytes: 5 }]).unwrap();
        assert!(shelf.read(Place { at: 2 << 32, bytes: 1 }).is_err());
    }
}
