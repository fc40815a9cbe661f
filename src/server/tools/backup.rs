//! A backup: a consistent copy of a data folder, and the way back.
//!
//! Owner: the backup thread of a running server, or the command line on a stopped folder.
//!
//! ```text
//!  DIR/manifest      one line of JSON, one line with its CRC-32C
//!  DIR/log/...       every segment, whole commits up to the durable mark, zeros after them
//!  DIR/history/...   as it was between two batches, before the mark was taken
//!  DIR/directory/... accounts, as they were at one moment before that, and the key of their tokens
//!  DIR/last-seen
//! ```
//!
//! Order: pin (from now on nothing is freed), directory, history, the mark, the log. So the copy of
//! history has never read further than the copy of the log goes.
//!
//! Invariant: DIR exists only when all of it is durable; until then it is called DIR.tmp.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{self, FolderError, failed};
use crate::limits;
use crate::log::{self, CopyError, Durable, Pins, RESTORING, RecoverError};

/// The version of the manifest this program writes, and the only one it reads.
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest";
const DIRECTORY: &str = crate::server::directory::FOLDER;
const TOKEN_KEY: &str = crate::server::directory::KEY;
const PIECE_BYTES: usize = 1024 * 1024;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this list.
    pub myriad_backup: u32,
    /// Version of the log's format.
    pub log_format: u32,
    /// When it was made, milliseconds since 1970.
    pub time_ms: u64,
    /// Number of the last commit in it.
    pub commit: u64,
    /// Every file.
    pub files: Vec<Entry>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the backup.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// CRC-32C of its content.
    pub crc32c: u32,
}

impl Manifest {
    /// Sizes of all files; most of the log is zeros that take no room.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Why there is no backup, or no restored folder.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// DIR exists.
    #[error("{0} exists; name a folder that does not")]
    Exists(PathBuf),
    /// Left of an earlier one.
    #[error("{0} is left of a backup that did not end; remove it if none is being made")]
    Unfinished(PathBuf),
    /// The log.
    #[error(transparent)]
    Log(#[from] CopyError),
    /// A file or folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// History.
    #[error("history was not copied: {0}")]
    History(String),
    /// Accounts.
    #[error("the directory of accounts was not copied: {0}")]
    Directory(String),
    /// The folder DIR is to be made in.
    #[error("{0} is not there or no folder; make it first")]
    NoParent(PathBuf),
    /// There is no manifest.
    #[error("{0} is not there; is this a backup?")]
    NoBackup(PathBuf),
    /// Another version of the program.
    #[error("{0} is of another version of the program; restore with the one that wrote it")]
    Version(PathBuf),
    /// The manifest is damaged.
    #[error("{0} is no usable manifest ({1}); use another backup")]
    Manifest(PathBuf, String),
    /// A file is not what the manifest says.
    #[error("{0} is not what the manifest says ({1}); use another backup")]
    File(PathBuf, &'static str),
    /// Somebody uses the folder.
    #[error("{0} is in use; name another folder")]
    InUse(PathBuf),
}

impl BackupError {
    /// Whether something was asked that can't be, and nothing was begun; else it failed, or there
    /// is damage.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Exists(_)
            | Self::Unfinished(_)
            | Self::NoParent(_)
            | Self::NoBackup(_)
            | Self::Version(_)
            | Self::InUse(_)
            | Self::Folder(FolderError::NotEmpty(_) | FolderError::Inside(_))
            | Self::Log(
                CopyError::Open(_)
                | CopyError::Log(RecoverError::Version { .. } | RecoverError::Newer { .. }),
            ) => true,
            Self::Log(_)
            | Self::Folder(FolderError::Io { .. })
            | Self::History(_)
            | Self::Directory(_)
            | Self::Manifest(..)
            | Self::File(..) => false,
        }
    }
}

/// What a running server lends to its backup.
pub struct Running<'a> {
    /// Up to where the log is durable.
    pub durable: &'a Durable,
    /// Keeps segments from being freed.
    pub pins: &'a Pins,
    /// Copies history into a folder that exists and is empty.
    pub history: &'a dyn Fn(&Path) -> Result<(), String>,
    /// Copies the directory's tables likewise.
    pub directory: &'a dyn Fn(&Path) -> Result<(), String>,
    /// The server is stopping.
    pub stop: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Running<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Running").finish_non_exhaustive()
    }
}

/// Copies the data folder `data` into `to`. `running`: a server uses it; else the caller holds its
/// lock.
///
/// # Errors
/// [`BackupError`]; nothing is left behind then.
pub fn backup(
    data: &Path,
    to: &Path,
    running: Option<&Running<'_>>,
    time_ms: u64,
) -> Result<Manifest, BackupError> {
    // Without the slash a shell may have put at its end.
    let to = to.components().as_path();
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    if !parent.is_dir() {
        return Err(BackupError::NoParent(parent.to_owned()));
    }
    let mut name = OsString::from(to);
    name.push(".tmp");
    let unfinished = PathBuf::from(name);
    match DirBuilder::new().mode(0o700).create(&unfinished) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Unfinished(unfinished));
        }
        Err(error) => return Err(failed("making folder", &unfinished)(error).into()),
    }
    let made = fill(data, &unfinished, running, time_ms).and_then(|manifest| {
        fs::rename(&unfinished, to).map_err(failed("naming", to))?;
        folder::sync_folder(parent)?;
        Ok(manifest)
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&unfinished); // if it stays, the next one says so
    }
    made
}

fn fill(
    data: &Path,
    to: &Path,
    running: Option<&Running<'_>>,
    time_ms: u64,
) -> Result<Manifest, BackupError> {
    folder::refuse_inside(data, to)?;
    let _pin = running.map(|running| running.pins.pin(0));
    fill_directory(&data.join(DIRECTORY), &to.join(DIRECTORY), running)?;
    let history = data.join("history");
    if history.is_dir() {
        let copy = to.join("history");
        folder::make_empty(&copy)?;
        match running {
            Some(running) => (running.history)(&copy).map_err(BackupError::History)?,
            None => folder::copy_into(&history, &copy)?,
        }
    }
    let mark = running.map(|running| running.durable.sequence());
    let stop = || running.is_some_and(|running| (running.stop)());
    folder::make_empty(&to.join("log"))?;
    let copied = log::copy_commits(data, &to.join("log"), mark, &stop)?;
    let last_seen = data.join("last-seen");
    if last_seen.is_file() {
        folder::copy_file(&last_seen, &to.join("last-seen"))?;
    }
    let mut files = Vec::new();
    list(to, Path::new(""), &mut files)?;
    let log_format = log::FORMAT_VERSION;
    let commit = copied.commit;
    let manifest = Manifest { myriad_backup: VERSION, log_format, time_ms, commit, files };
    write_manifest(&to.join(MANIFEST), &manifest)?;
    folder::sync_folder(to)?;
    Ok(manifest)
}

/// Copies accounts. The tables of a running server are copied by whoever has them open.
fn fill_directory(
    from: &Path,
    to: &Path,
    running: Option<&Running<'_>>,
) -> Result<(), BackupError> {
    if !from.is_dir() {
        return Ok(());
    }
    folder::make_empty(to)?;
    let Some(running) = running else { return Ok(folder::copy_into(from, to)?) };
    (running.directory)(to).map_err(BackupError::Directory)?;
    let key = from.join(TOKEN_KEY);
    if key.is_file() {
        folder::copy_file(&key, &to.join(TOKEN_KEY))?;
    }
    Ok(())
}

/// Lists every file below `root`, with its size and checksum.
fn list(root: &Path, inner: &Path, files: &mut Vec<Entry>) -> Result<(), FolderError> {
    let here = root.join(inner);
    for entry in fs::read_dir(&here).map_err(failed("reading folder", &here))? {
        let entry = entry.map_err(failed("reading folder", &here))?;
        let path = inner.join(entry.file_name());
        let kind = entry.file_type().map_err(failed("asking about", &here))?;
        if kind.is_dir() {
            list(root, &path, files)?;
        } else {
            let (bytes, crc32c) = checksum(&root.join(&path))?;
            files.push(Entry { path, bytes, crc32c });
        }
    }
    Ok(())
}

fn checksum(path: &Path) -> Result<(u64, u32), FolderError> {
    let mut file = File::open(path).map_err(failed("opening", path))?;
    let mut piece = vec![0_u8; PIECE_BYTES];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let count = file.read(&mut piece).map_err(failed("reading", path))?;
        if count == 0 {
            return Ok((bytes, crc));
        }
        bytes += count as u64;
        crc = crc32c::crc32c_append(crc, &piece[..count]);
    }
}

fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let bad = |error: serde_json::Error| BackupError::Manifest(path.to_owned(), error.to_string());
    let line = serde_json::to_string(manifest).map_err(bad)?;
    let text = format!("{line}\n{:08x}\n", crc32c::crc32c(line.as_bytes()));
    let mut file = folder::create(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    Ok(written.map_err(failed("writing", path))?)
}

/// Reads the manifest of a backup.
///
/// # Errors
/// [`BackupError`]: it is not there, damaged, or of another version.
fn manifest(backup: &Path) -> Result<Manifest, BackupError> {
    let path = backup.join(MANIFEST);
    let bad = |why: &str| BackupError::Manifest(path.clone(), why.to_owned());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::NoBackup(path));
        }
        Err(error) => return Err(failed("opening", &path)(error).into()),
    };
    let mut text = String::new();
    let read = file.take(limits::MANIFEST_BYTES_MAX).read_to_string(&mut text);
    read.map_err(failed("reading", &path))?;
    let mut lines = text.lines();
    let (Some(line), Some(crc)) = (lines.next(), lines.next()) else {
        return Err(bad("it is cut"));
    };
    if crc != format!("{:08x}", crc32c::crc32c(line.as_bytes())) {
        return Err(bad("it is damaged"));
    }
    let manifest: Manifest = serde_json::from_str(line).map_err(|error| bad(&error.to_string()))?;
    if manifest.myriad_backup != VERSION || manifest.log_format != log::FORMAT_VERSION {
        return Err(BackupError::Version(path));
    }
    let is_inside = |file: &Entry| {
        let mut parts = file.path.components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    if !manifest.files.iter().all(is_inside) {
        return Err(bad("it names files outside"));
    }
    Ok(manifest)
}

/// Puts a backup into the data folder `data`, which must not exist or be empty. Every file is
/// checked before anything is written, and again as it was copied.
///
/// # Errors
/// [`BackupError`]; no server starts on what is left then.
pub fn restore(backup: &Path, data: &Path) -> Result<Manifest, BackupError> {
    let manifest = manifest(backup)?;
    check(backup, &manifest)?;
    folder::make_empty(data)?;
    let lock = folder::create(&data.join("lock"))?;
    lock.try_lock().map_err(|_| BackupError::InUse(data.to_owned()))?;
    // As long as this is there no server starts on the folder.
    let restoring = data.join(RESTORING);
    folder::make_empty(&restoring)?;
    folder::sync_folder(data)?;
    for file in &manifest.files {
        let target = restoring.join(&file.path);
        if let Some(parent) = target.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(failed("making folder", parent))?;
        }
        folder::copy_file(&backup.join(&file.path), &target)?;
    }
    check(&restoring, &manifest)?;
    for name in [DIRECTORY, "history", "last-seen", "log"] {
        let (from, to) = (restoring.join(name), data.join(name));
        if from.exists() {
            folder::sync_tree(&from)?;
            fs::rename(&from, &to).map_err(failed("naming", &to))?;
        }
    }
    // All names are durable before what keeps servers away goes.
    folder::sync_folder(data)?;
    fs::remove_dir_all(&restoring).map_err(failed("removing", &restoring))?;
    folder::sync_folder(data)?;
    Ok(manifest)
}

/// Whether a backup is what its manifest says, every file.
///
/// # Errors
/// [`BackupError`]: what is not.
pub fn check_backup(backup: &Path) -> Result<Manifest, BackupError> {
    let manifest = manifest(backup)?;
    check(backup, &manifest)?;
    Ok(manifest)
}

/// Whether every file is what the manifest says.
fn check(folder: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    for file in &manifest.files {
        let path = folder.join(&file.path);
        if !path.is_file() {
            return Err(BackupError::File(path, "it is missing"));
        }
        if checksum(&path)? != (file.bytes, file.crc32c) {
            return Err(BackupError::File(path, "its size or checksum is another"));
        }
    }
    Ok(())
}
