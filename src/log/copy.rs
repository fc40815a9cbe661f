//! A copy of the log up to a mark, made of whole commits, while the log goes on.
//!
//! Owner: whoever makes a backup. Reads beside the committer: what is at or below the mark is not
//! written any more, and the caller's pin keeps it from being freed.
//!
//! Invariant: every commit is verified before it is copied, and none is left out: a log in which
//! anything durable is known to be damaged or missing is not copied. (Of an old segment whose
//! successor was freed nobody knows where it ended; whether what waits in it can be read is asked
//! by whoever checks the copy.)

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::file::{FileStore, OpenError, segment_file_name};
use super::format::FIRST_COMMIT;
use super::head::{Head, read_head};
use super::look::next_head;
use super::make::sync_folder;
use super::people::place;
use super::record::At;
use super::report::{RecoverError, failed};
use super::scan::scan;
use super::store::Store as _;
use super::whole::{Commit, Found, Plainly, read, read_commit};
use crate::limits::COMMIT_ALIGN_BYTES;

/// Why the log was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It can't be read, a newer program wrote it, or a server would refuse it.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// The copy can't be written.
    #[error("writing {0}: {1}")]
    Write(PathBuf, io::Error),
    /// Something durable is not whole.
    #[error(
        "{}: {what}; the log is damaged, and a copy would be too; run `myriad log verify` on the \
         data folder and keep the backups there are", place(*.at)
    )]
    Damaged {
        /// Where.
        at: At,
        /// What is wrong.
        what: &'static str,
    },
    /// The caller wants no copy any more.
    #[error("the server is stopping")]
    Stopped,
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
    /// The newest mark among the commits of the newest segment: a restart begins there.
    redo: u64,
}

/// Copies the commits of the log in `data` up to number `mark` (`None`: nobody writes it, all
/// there are) into segments in the folder `to`, which exists and holds none. `stop` is asked often.
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
    let limit = match mark {
        Some(mark) => mark,
        None => {
            let scanned = scan(&store, &mut Plainly(&mut |_, _| {}))?;
            scanned.last.map_or(0, |last| last.head.sequence)
        }
    };
    let used = used(&store, limit, mark.is_some())?;
    let mut copied = Copied::default();
    let mut holes: Vec<(u64, At)> = Vec::new();
    for (nth, (found, first)) in used.iter().enumerate() {
        let next = used.get(nth + 1);
        let until = next.map_or_else(|| limit.saturating_add(1), |(_, first)| *first);
        copied.redo = 0;
        let span = Span { found, first: *first, until };
        let (due, end) = copy_segment(&store, &span, to, &mut copied, stop)?;
        if due == until {
            continue;
        }
        // Between old segments others may have been freed; the next one tells whether here.
        let segment = found.head.segment;
        if next.is_none_or(|(next, _)| next.first_previous.segment == segment) {
            return Err(CopyError::Damaged {
                at: end,
                what: "a commit is missing, or does not verify",
            });
        }
        holes.push((until, end));
    }
    if let Some((_, end)) = holes.iter().find(|(until, _)| *until > copied.redo.max(1)) {
        return Err(CopyError::Damaged {
            at: *end,
            what: "the segments after this one are missing",
        });
    }
    if let Some((found, first)) = used.first()
        && *first > copied.redo.max(1)
    {
        let at = At { segment: found.head.segment, offset: FIRST_COMMIT };
        return Err(CopyError::Damaged { at, what: "the segments before this one are missing" });
    }
    if limit != copied.commit {
        let segment = used.last().map_or(0, |(found, _)| found.head.segment);
        let at = At { segment, offset: FIRST_COMMIT };
        return Err(CopyError::Damaged { at, what: "the newest commits are missing" });
    }
    sync_folder(to).map_err(|error| CopyError::Write(to.to_owned(), error))?;
    Ok(copied)
}

/// The segments with commits up to number `limit`, in order, each with the number of its first.
fn used(store: &FileStore, limit: u64, is_running: bool) -> Result<Vec<(Found, u64)>, CopyError> {
    let mut numbers = store.segments().map_err(|error| failed("listing segments", error))?;
    numbers.sort_unstable();
    let (mut used, mut others) = (Vec::new(), Vec::new());
    let mut commit = Commit::default();
    for segment in numbers {
        match read_head(store, segment, &mut commit)? {
            Head::Valid(found) => match found.first {
                Some(first) if first <= limit => used.push((found, first)),
                Some(_) => {} // begun after the mark
                None => others.push(found),
            },
            Head::Damaged(what) => {
                return Err(CopyError::Damaged { at: At { segment, offset: 0 }, what });
            }
            // A spare; or freed before the caller's pin: if it was needed it is missed below.
            Head::Blank | Head::Gone => {}
        }
    }
    let newest = used.last().map_or(0, |(found, _): &(Found, u64)| found.head.segment);
    for found in &others {
        let segment = found.head.segment;
        if segment > newest && !is_running {
            continue; // a copy of the end, or a first commit, never finished: `scan` saw to that
        }
        let next = next_head(store, found, FIRST_COMMIT, 0)?;
        if next.is_some_and(|(_, head)| head.sequence <= limit) {
            let at = At { segment, offset: FIRST_COMMIT };
            return Err(CopyError::Damaged { at, what: "its first commit does not verify" });
        }
    }
    Ok(used)
}

/// The commits of a segment that are copied: from `first` to below `until`.
struct Span<'a> {
    found: &'a Found,
    first: u64,
    until: u64,
}

/// Copies what is whole. Returns the number of the commit that would be next, and where.
fn copy_segment(
    store: &FileStore,
    span: &Span<'_>,
    to: &Path,
    copied: &mut Copied,
    stop: &dyn Fn() -> bool,
) -> Result<(u64, At), CopyError> {
    let Span { found, first, until } = *span;
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
    while due < until {
        if stop() {
            return Err(CopyError::Stopped);
        }
        let whole = read_commit(store, found, offset, &mut commit)?.is_ok();
        if !whole || commit.head.sequence != due {
            let beyond = next_head(store, found, offset, due)?;
            if beyond.is_some_and(|(_, head)| head.sequence < until) {
                let at = At { segment, offset };
                return Err(CopyError::Damaged { at, what: "a commit does not verify" });
            }
            break;
        }
        file.write_all_at(&commit.bytes, u64::from(offset)).map_err(wrong)?;
        copied.bytes += commit.head.padded_bytes();
        copied.commit = due;
        copied.redo = copied.redo.max(commit.head.redo);
        offset += commit.head.padded_u32();
        due += 1;
    }
    copied.segments += 1;
    file.sync_all().map_err(wrong)?;
    Ok((due, At { segment, offset }))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
