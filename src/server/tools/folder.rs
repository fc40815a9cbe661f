//! Copies of files and folders that are durable when they are said to be made.
//!
//! Owner: whoever calls. Files and folders are made for their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes copied at a time.
const PIECE_BYTES: usize = 1024 * 1024;
/// Files of a data folder that belong to one run of a server and not to its data.
const OF_ONE_RUN: [&str; 3] = ["lock", "control.sock", "dev-secret"];

/// Why a folder was not copied.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is something in it.
    #[error("{0} is there and not empty; name a folder that is empty or does not exist")]
    NotEmpty(PathBuf),
    /// A part of the other.
    #[error("{0} lies in the folder that is copied; name one outside")]
    Inside(PathBuf),
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

/// Says what was tried on what.
pub(super) fn failed<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> FolderError + 'a {
    move |error| FolderError::Io { what, path: path.to_owned(), error }
}

/// Copies a data folder but for what belongs to one run of a server.
///
/// # Errors
/// [`FolderError`]; a part of the copy may be there.
pub fn copy_folder(from: &Path, to: &Path) -> Result<(), FolderError> {
    make_empty(to)?;
    refuse_inside(from, to)?;
    copy_inner(from, to, true)
}

/// Refuses a folder that lies within another.
pub(super) fn refuse_inside(outer: &Path, inner: &Path) -> Result<(), FolderError> {
    let full = |path: &Path| fs::canonicalize(path).map_err(failed("looking for", path));
    if full(inner)?.starts_with(full(outer)?) {
        return Err(FolderError::Inside(inner.to_owned()));
    }
    Ok(())
}

/// Copies what is in a folder into another one, which exists.
///
/// # Errors
/// [`FolderError`]; a part of the copy may be there.
pub fn copy_into(from: &Path, to: &Path) -> Result<(), FolderError> {
    copy_inner(from, to, false)
}

fn copy_inner(from: &Path, to: &Path, is_top: bool) -> Result<(), FolderError> {
    for entry in fs::read_dir(from).map_err(failed("reading folder", from))? {
        let entry = entry.map_err(failed("reading folder", from))?;
        let (name, path) = (entry.file_name(), entry.path());
        let target = to.join(&name);
        let kind = entry.file_type().map_err(failed("asking about", &path))?;
        let passing = name.to_str().is_some_and(|name| is_top && OF_ONE_RUN.contains(&name));
        if passing {
            continue;
        }
        if kind.is_dir() {
            make_empty(&target)?;
            copy_inner(&path, &target, false)?;
        } else if kind.is_file() {
            copy_file(&path, &target)?;
        }
    }
    sync_folder(to)
}

/// Makes a folder, or takes one that is empty.
pub(super) fn make_empty(folder: &Path) -> Result<(), FolderError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(failed("making folder", folder))?;
    let mut inside = fs::read_dir(folder).map_err(failed("reading folder", folder))?;
    if inside.next().is_some() {
        return Err(FolderError::NotEmpty(folder.to_owned()));
    }
    Ok(())
}

/// Copies a file and syncs the copy. Pages of zeros are left out: they take no room.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(), FolderError> {
    let mut source = File::open(from).map_err(failed("opening", from))?;
    let mut copy = create(to)?;
    let mut piece = vec![0_u8; PIECE_BYTES];
    let mut bytes = 0_u64;
    loop {
        let count = source.read(&mut piece).map_err(failed("reading", from))?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        let written = if piece[..count].iter().all(|byte| *byte == 0) {
            copy.set_len(bytes)
                .and_then(|()| io::Seek::seek(&mut copy, io::SeekFrom::End(0)).map(|_| ()))
        } else {
            copy.write_all(&piece[..count])
        };
        written.map_err(failed("writing", to))?;
    }
    copy.sync_all().map_err(failed("syncing", to))
}

/// Makes a file that is not there.
pub(super) fn create(path: &Path) -> Result<File, FolderError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(failed("making", path))
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), FolderError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(failed("syncing", folder))
}

/// Syncs a folder and those in it; a file has nothing to sync.
pub(super) fn sync_tree(path: &Path) -> Result<(), FolderError> {
    if !path.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(failed("reading folder", path))? {
        sync_tree(&entry.map_err(failed("reading folder", path))?.path())?;
    }
    sync_folder(path)
}
