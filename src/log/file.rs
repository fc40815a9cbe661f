//! Segments as files of a data folder.
//!
//! Owner: the committer thread holds the [`FileStore`]; the thread that makes segments holds a
//! `FileMaker` of the same folder.
//!
//! ```text
//!   <data>/lock                      held exclusively by the one server that uses the folder
//!   <data>/log/log-0000000001.seg    a segment
//!   <data>/log/log-0000000002.new    one that is being made; removed at the next start
//! ```
//!
//! Folders and segments are made for their owner only: they hold people's letters.
//!
//! Invariants: one process per folder (`flock`); no network file system (their locks and syncs
//! cannot be relied on); a file has its final name only once it is allocated, zeroed and synced; a
//! file stays open from before its first write until after its last sync, because a failed
//! write-back is only reported to files that were open when it happened.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::make::{FileMaker, sync_folder};
use super::store::{Creator, Store};

pub(super) const SUFFIX: &str = ".seg";
/// The folder in a data folder in which a restore puts files until all are there.
pub const RESTORING: &str = "restoring";
/// Files kept open for writing: the current segment, the next one, and one being left.
const OPEN_FILES_MAX: usize = 4;

/// The name of the file of a segment.
#[must_use]
pub fn segment_file_name(segment: u32) -> String {
    format!("log-{segment:010}{SUFFIX}")
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{0} is in use by another server; stop that one or choose another data folder")]
    Locked(PathBuf),
    /// A restore into it did not end.
    #[error(
        "{0} holds what a restore left that did not end; remove everything in the folder and \
         restore again"
    )]
    Restoring(PathBuf),
    /// It is on a network file system.
    #[error(
        "{path} is on a network file system ({kind}), whose locks and syncs cannot be relied on; \
         choose a folder on a local disk"
    )]
    Network {
        /// The folder.
        path: PathBuf,
        /// What kind of file system.
        kind: String,
    },
    /// The system refused something.
    #[error("{what} {path}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// The segments of a data folder.
#[derive(Debug)]
pub struct FileStore {
    folder: PathBuf,
    writers: BTreeMap<u32, File>,
    reader: Mutex<Option<(u32, File)>>,
    /// Held as long as the store lives; `None`: read-only.
    lock: Option<File>,
}

impl FileStore {
    /// Opens the data folder `dir`, making it if need be, and locks it.
    ///
    /// # Errors
    /// [`OpenError`], each with its remedy.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        refuse_unfinished(dir)?;
        let folder = dir.join("log");
        let mut maker = fs::DirBuilder::new();
        maker.recursive(true).mode(0o700);
        maker.create(&folder).map_err(|error| failed("making folder", &folder, error))?;
        refuse_network(dir)?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| failed("opening", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed("locking", &path, error)),
        }
        let store =
            Self { folder, writers: BTreeMap::new(), reader: Mutex::new(None), lock: Some(lock) };
        store.maker().end_unfinished().map_err(|error| failed("cleaning", &store.folder, error))?;
        sync_folder(dir).map_err(|error| failed("syncing", dir, error))?;
        Ok(store)
    }

    /// Opens a folder for reading only, without a lock: a data folder or its `log` folder. Every
    /// write is refused.
    ///
    /// # Errors
    /// [`OpenError::Io`] if there is no such folder.
    pub fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        let folder = log_folder(dir);
        fs::read_dir(&folder).map_err(|error| failed("reading folder", &folder, error))?;
        Ok(Self { folder, writers: BTreeMap::new(), reader: Mutex::new(None), lock: None })
    }

    /// Keeps servers from the data folder `dir` while the result lives, and changes nothing in it.
    /// `None`: it has no lock, as the copy of a folder, so no server has it.
    ///
    /// # Errors
    /// [`OpenError::Locked`]: one is using it; [`OpenError::Restoring`].
    pub fn hold(dir: &Path) -> Result<Option<File>, OpenError> {
        refuse_unfinished(dir)?;
        let path = dir.join("lock");
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("opening", &path, error)),
        };
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed("locking", &path, error)),
        }
    }

    /// Whether a server holds the data folder `dir` at the moment.
    #[must_use]
    pub fn is_in_use(dir: &Path) -> bool {
        File::open(dir.join("lock"))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.folder.join(segment_file_name(segment))
    }

    fn maker(&self) -> FileMaker {
        FileMaker { folder: self.folder.clone() }
    }

    fn may_write(&self) -> io::Result<()> {
        if self.lock.is_none() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "opened for reading only"));
        }
        Ok(())
    }

    /// Closes what is open of a segment.
    fn forget(&mut self, segment: u32) {
        self.writers.remove(&segment);
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn writer(&mut self, segment: u32) -> io::Result<&File> {
        self.may_write()?;
        if !self.writers.contains_key(&segment) {
            let file = OpenOptions::new().write(true).open(self.path(segment))?;
            if self.writers.len() >= OPEN_FILES_MAX {
                self.writers.pop_first();
            }
            self.writers.insert(segment, file);
        }
        self.writers.get(&segment).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Store for FileStore {
    fn segments(&self) -> io::Result<Vec<u32>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            if let Some(segment) = entry?.file_name().to_str().and_then(segment_of) {
                segments.push(segment);
            }
        }
        Ok(segments)
    }

    fn create(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        self.may_write()?;
        self.maker().create(segment, bytes)
    }

    fn retire(&mut self, segment: u32, name: u32) -> io::Result<()> {
        self.may_write()?;
        self.forget(segment);
        self.maker().retire(segment, name)
    }

    fn renew(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        self.may_write()?;
        self.maker().renew(segment, bytes)
    }

    fn scrub(&mut self, name: u32) -> io::Result<()> {
        self.may_write()?;
        self.maker().scrub(name)
    }

    fn write_at(&mut self, segment: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writer(segment)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, segment: u32) -> io::Result<()> {
        self.writer(segment)?.sync_data()
    }

    fn read_at(&self, segment: u32, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.as_ref().is_none_or(|(open, _)| *open != segment) {
            *reader = Some((segment, File::open(self.path(segment))?));
        }
        let Some((_, file)) = reader.as_ref() else { return Ok(0) };
        let mut done = 0;
        while done < out.len() {
            match file.read_at(&mut out[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn remove(&mut self, segment: u32) -> io::Result<()> {
        self.may_write()?;
        self.forget(segment);
        fs::remove_file(self.path(segment))?;
        sync_folder(&self.folder)
    }

    fn bytes(&self, segment: u32) -> io::Result<u64> {
        Ok(fs::metadata(self.path(segment))?.len())
    }

    fn salt(&mut self) -> u64 {
        // Without randomness forging needs luck and a crash at the right moment; refusing to
        // start would be worse.
        getrandom::u64().unwrap_or_default()
    }

    fn creator(&self) -> Option<Box<dyn Creator>> {
        Some(Box::new(self.maker()))
    }
}

/// The folder of the segments, given the data folder or that folder itself.
pub(super) fn log_folder(dir: &Path) -> PathBuf {
    let folder = dir.join("log");
    if folder.is_dir() { folder } else { dir.to_owned() }
}

fn segment_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("log-")?.strip_suffix(SUFFIX)?;
    let segment = digits.parse().ok()?;
    (segment_file_name(segment) == name).then_some(segment)
}

fn failed(what: &'static str, path: &Path, error: io::Error) -> OpenError {
    OpenError::Io { what, path: path.to_owned(), error }
}

fn refuse_unfinished(dir: &Path) -> Result<(), OpenError> {
    if dir.join(RESTORING).exists() {
        return Err(OpenError::Restoring(dir.to_owned()));
    }
    Ok(())
}

fn refuse_network(path: &Path) -> Result<(), OpenError> {
    let found = rustix::fs::statfs(path).map_err(|error| failed("asking", path, error.into()))?;
    match network_kind(&found) {
        Some(kind) => Err(OpenError::Network { path: path.to_owned(), kind }),
        None => Ok(()),
    }
}

#[cfg(target_os = "linux")]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unnecessary_cast,
    reason = "the width of the magic number differs between targets; all are 32 bits"
)]
fn network_kind(found: &rustix::fs::StatFs) -> Option<String> {
    // From statfs(2) and linux/magic.h.
    let kind = match found.f_type as u32 {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xfe53_4d42 => "SMB2",
        0xff53_4d42 => "CIFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x00c3_6400 => "Ceph",
        0x0102_1997 => "9P",
        0x0bd0_0bd0 => "Lustre",
        0x564c => "NCP",
        _ => return None,
    };
    Some(kind.to_owned())
}

#[cfg(not(target_os = "linux"))]
fn network_kind(found: &rustix::fs::StatFs) -> Option<String> {
    // MNT_LOCAL, the same number on FreeBSD and macOS.
    const LOCAL: u64 = 0x1000;
    let is_local = u64::from(found.f_flags) & LOCAL != 0;
    (!is_local).then(|| "not marked local".to_owned())
}
