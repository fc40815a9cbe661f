//! Making, renewing and scrubbing the files of segments: the slow writes beside the commits.
//!
//! Owner: the thread that makes segments; at start and in tests also the [`super::FileStore`].
//!
//! Invariant: a file has the name of a segment only while it is allocated, zeroed and synced, or in
//! use. What is in the making, or on its way out, is called `.new`; the next start ends those.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::file::segment_file_name;
use super::store::Creator;

const SUFFIX_NEW: &str = ".new";
/// Zeros are written in pieces of this.
const ZEROS_BYTES: usize = 256 * 1024;
/// How much of a new segment is synced at a time, so that the sync of a commit never queues behind
/// all of it.
const SYNC_EVERY_BYTES: u64 = 4 * 1024 * 1024;

/// Makes segments of a folder that a [`super::FileStore`] holds.
#[derive(Clone, Debug)]
pub(super) struct FileMaker {
    pub(super) folder: PathBuf,
}

impl FileMaker {
    fn path(&self, segment: u32) -> PathBuf {
        self.folder.join(segment_file_name(segment))
    }

    fn unfinished(&self, segment: u32) -> PathBuf {
        self.folder.join(format!("log-{segment:010}{SUFFIX_NEW}"))
    }

    /// Ends what an earlier run left in the making. Letters may be left in it: zeros first.
    pub(super) fn end_unfinished(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("log-") && name.ends_with(SUFFIX_NEW) {
                scrub_file(&path)?;
            }
        }
        Ok(())
    }

    fn finish(&self, segment: u32, filled: io::Result<()>) -> io::Result<()> {
        let unfinished = self.unfinished(segment);
        let made = filled.and_then(|()| fs::rename(&unfinished, self.path(segment)));
        if made.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        made?;
        sync_folder(&self.folder)
    }
}

impl Creator for FileMaker {
    fn create(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        if self.path(segment).exists() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let filled = fill(&self.unfinished(segment), bytes);
        self.finish(segment, filled)
    }

    fn retire(&mut self, segment: u32, name: u32) -> io::Result<()> {
        fs::rename(self.path(segment), self.unfinished(name))?;
        sync_folder(&self.folder)
    }

    fn renew(&mut self, segment: u32, bytes: u64) -> io::Result<()> {
        // What can't be overwritten stays a `.new`: the next start does it, and then removes it.
        overwrite(&self.unfinished(segment), bytes)?;
        fs::rename(self.unfinished(segment), self.path(segment))?;
        sync_folder(&self.folder)
    }

    fn scrub(&mut self, name: u32) -> io::Result<()> {
        scrub_file(&self.unfinished(name))?;
        sync_folder(&self.folder)
    }
}

/// Makes a file of zeros whose blocks are allocated and written: a commit then changes no
/// metadata, and a full disk shows here.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        // Some file systems cannot; writing the zeros finds out too, only later.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    zero(&mut file, bytes)
}

/// Overwrites a file that is there with zeros and gives it this size: its blocks stay.
fn overwrite(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    // Zeros first, also in what is cut off: blocks that are given back keep what was in them.
    let former = file.metadata()?.len();
    zero(&mut file, former.max(bytes))?;
    file.set_len(bytes)?;
    file.sync_all()
}

/// Overwrites a file with zeros, then removes it.
fn scrub_file(path: &Path) -> io::Result<()> {
    let bytes = fs::metadata(path)?.len();
    overwrite(path, bytes)?;
    fs::remove_file(path)
}

fn zero(file: &mut File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0_u8; ZEROS_BYTES];
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(&zeros[..piece])?;
        left -= piece as u64;
        if left.is_multiple_of(SYNC_EVERY_BYTES) {
            file.sync_data()?;
        }
    }
    file.sync_all()
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
