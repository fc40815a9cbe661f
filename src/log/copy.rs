//! A copy of the log up to a mark, made of whole commits, while the log goes on.
//!
//! Owner: whoever makes a backup. Reads beside the committer: what is at or below the mark is not
//! written any more, and the caller's pin keeps it from being freed.
//!
//! Invariant: every commit is verified before it is copied, and none is left out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::file::{FileStore, OpenError, segment_file_name};
use super::format::FIRST_COMMIT;
use super::gaps::{next_head, place};
use super::inspect::{InspectError, head_of};
use super::make::sync_folder;
use super::record::At;
use super::report::{RecoverError, failed};
use super::segment::{length_u32, length_usize};
use super::store::Store as _;
use super::whole::{Commit, Found, read, read_commit};
use crate::limits::COMMIT_ALIGN_BYTES;

/// Why the log was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It can't be read.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// The copy can't be written.
    #[error("writing {0}: {1}")]
    Write(PathBuf, io::Error),
    /// Something durable is not whole.
    #[error(
        "{}: the log is damaged, and a copy would be too; run `myriad log verify` on the data \
         folder and keep the backups there are", place(*.0)
    )]
    Damaged(At),
    /// The caller wants no copy any more.
    #[error("the server is stopping")]
    Stopped,
}

impl From<InspectError> for CopyError {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Open(error) => Self::Open(error),
            InspectError::Log(error) => Self::Log(error),
            InspectError::Output(error) => Self::Write(PathBuf::new(), error),
        }
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Number of the last commit.
    pub commit: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of commits.
    pub bytes: u64,
}

/// Copies the commits of the log in `data` up to number `mark` (`None`: all there are) into
/// segments in the folder `to`, which exists and holds none. `stop` is asked often.
///
/// # Errors
/// [`CopyError`]; a part of the copy may be there.
pub fn copy_commits(
    data: &Path,
    to: &Path,
    mark: Option<u64>,
    stop: &dyn Fn() -> bool,
) -> Result<Copied, CopyError> {
    let store = FileStore::open_read_only(data)?;
    let mut numbers = store.segments().map_err(|error| failed("listing segments", error))?;
    numbers.sort_unstable();
    let limit = mark.unwrap_or(u64::MAX);
    let mut used: Vec<(Found, u64)> = Vec::new();
    for segment in numbers {
        let Some(found) = head_of(&store, segment)? else { continue };
        match found.first {
            Some(first) if first <= limit => used.push((found, first)),
            Some(_) => {}
            None => {
                // A spare, or the first commit is damaged.
                let newest = used.last().map_or(0, |(_, first)| *first);
                let next = next_head(&store, &found, FIRST_COMMIT, newest)?;
                if mark.is_some() && next.is_some_and(|(_, head)| head.sequence <= limit) {
                    return Err(CopyError::Damaged(At { segment, offset: FIRST_COMMIT }));
                }
            }
        }
    }
    let mut copied = Copied::default();
    for (nth, (found, first)) in used.iter().enumerate() {
        let until = used.get(nth + 1).map_or_else(|| limit.saturating_add(1), |(_, first)| *first);
        let span = Span { found, first: *first, until, limit };
        copy_segment(&store, &span, to, &mut copied, stop)?;
    }
    if mark.is_some_and(|mark| mark != copied.commit) {
        let segment = used.last().map_or(0, |(found, _)| found.head.segment);
        return Err(CopyError::Damaged(At { segment, offset: FIRST_COMMIT }));
    }
    sync_folder(to).map_err(|error| CopyError::Write(to.to_owned(), error))?;
    Ok(copied)
}

/// The commits of a segment that are copied: from `first` to below `until`.
struct Span<'a> {
    found: &'a Found,
    first: u64,
    until: u64,
    limit: u64,
}

fn copy_segment(
    store: &FileStore,
    span: &Span<'_>,
    to: &Path,
    copied: &mut Copied,
    stop: &dyn Fn() -> bool,
) -> Result<(), CopyError> {
    let Span { found, first, until, limit } = *span;
    let segment = found.head.segment;
    let path = to.join(segment_file_name(segment));
    let wrong = |error| CopyError::Write(path.clone(), error);
    let file = create(&path).map_err(wrong)?;
    file.set_len(found.head.bytes).map_err(wrong)?;
    let mut head = vec![0_u8; COMMIT_ALIGN_BYTES];
    read(store, segment, 0, &mut head)?;
    file.write_all_at(&head, 0).map_err(wrong)?;
    let (mut due, mut offset) = (first, FIRST_COMMIT);
    let mut commit = Commit::default();
    while due < until && due <= limit {
        if stop() {
            return Err(CopyError::Stopped);
        }
        let whole = read_commit(store, found, offset, &mut commit)?.is_ok();
        if !whole || commit.head.sequence != due {
            let beyond = next_head(store, found, offset, due)?;
            if beyond.is_some_and(|(_, head)| head.sequence <= limit && head.sequence < until) {
                return Err(CopyError::Damaged(At { segment, offset }));
            }
            break;
        }
        file.write_all_at(&commit.bytes, u64::from(offset)).map_err(wrong)?;
        copied.bytes += commit.head.padded_bytes();
        copied.commit = due;
        offset += length_u32(length_usize(commit.head.padded_bytes()));
        due += 1;
    }
    copied.segments += 1;
    file.sync_all().map_err(wrong)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
