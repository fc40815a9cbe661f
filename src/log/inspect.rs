//! The log for people: one line per record. `verify` gives the verdict on the whole.
//!
//! Owner: the command line. Reads only, takes no lock, repairs nothing; works on a copy, on the
//! folder of a stopped server, and, with a warning, on that of a running one.

use std::io::{self, Write};
use std::path::Path;

use super::checkpoint::{CHECKPOINT_BEGIN, CHECKPOINT_COMPLETE, CHECKPOINT_END, CHECKPOINT_IMAGE};
use super::file::{FileStore, OpenError};
use super::format::FIRST_COMMIT;
use super::head::{Head, read_head};
use super::record::{At, Kind, Record};
use super::report::{RecoverError, failed};
use super::scan::scan;
use super::store::Store;
use super::whole::{Commit, Plainly, read_commit};

/// Which records to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only records in this user's stream, sent by this user, or sent to this user.
    pub user: Option<u64>,
}

impl Filter {
    fn matches(&self, record: &Record<'_>) -> bool {
        self.user.is_none_or(|user| {
            (record.stream_kind == 1 && record.stream == user)
                || record.sender == user
                || record.peer == user
        })
    }
}

/// Why a log could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no such folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is damaged, or of another version.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// The lines could not be written.
    #[error("writing: {0}")]
    Output(#[from] io::Error),
}

/// Prints the records of the log in `dir` (a data folder or its `log` folder), oldest first, one
/// line each. Payloads are not shown, only their length: they are other people's letters.
///
/// # Errors
/// [`InspectError`]; the lines before the damage have been written.
pub fn inspect(dir: &Path, out: &mut dyn Write, filter: &Filter) -> Result<(), InspectError> {
    let store = FileStore::open_read_only(dir)?;
    let mut written = Ok(());
    let mut segments = 0_u64;
    every_record(&store, &mut segments, &mut |at, record| {
        if written.is_ok() && filter.matches(record) {
            written = print(out, at, record);
        }
        written.is_ok()
    })?;
    written?;
    if segments == 0 {
        return Err(nothing_there(dir));
    }
    out.flush()?;
    // The lines ended where reading did: whether that was the end is another question.
    scan(&store, &mut Plainly(&mut |_, _| {}))?;
    Ok(())
}

/// Shows the records of all whole commits, segment by segment, the old ones too; what a later
/// segment starts with again is void in the earlier one, and shown there only.
fn every_record(
    store: &FileStore,
    segments: &mut u64,
    visit: &mut dyn FnMut(At, &Record<'_>) -> bool,
) -> Result<(), InspectError> {
    let mut numbers = store.segments().map_err(|error| failed("listing segments", error))?;
    numbers.sort_unstable();
    *segments = numbers.len() as u64;
    let mut used = Vec::new();
    let mut commit = Commit::default();
    for segment in numbers {
        match read_head(store, segment, &mut commit)? {
            Head::Valid(found) if found.first.is_some() => used.push(found),
            // Spares, what was freed since, and damage: the verdict at the end names it.
            Head::Valid(_) | Head::Blank | Head::Gone | Head::Damaged(_) => {}
        }
    }
    for (nth, found) in used.iter().enumerate() {
        let until = used.get(nth + 1).and_then(|next| next.first).unwrap_or(u64::MAX);
        let mut offset = FIRST_COMMIT;
        while read_commit(store, found, offset, &mut commit)?.is_ok()
            && commit.head.sequence < until
        {
            let mut more = true;
            commit.visit(commit.at, &mut |at, record| more = more && visit(at, record));
            if !more {
                return Ok(());
            }
            offset += commit.head.padded_u32();
        }
    }
    Ok(())
}

/// The folder named holds no log.
pub(super) fn nothing_there(dir: &Path) -> InspectError {
    let error = io::Error::new(io::ErrorKind::NotFound, "there are no segments");
    OpenError::Io { what: "looking for a log in", path: dir.into(), error }.into()
}

fn print(out: &mut dyn Write, at: At, record: &Record<'_>) -> io::Result<()> {
    write!(out, "{}:{} {}", at.segment, at.offset, record.kind.name())?;
    if record.moved {
        write!(out, " moved")?;
    }
    if record.kind == Kind::Checkpoint {
        return checkpoint(out, record);
    }
    match record.stream_kind {
        0 => {}
        1 => write!(out, " user {}", record.stream)?,
        2 => write!(out, " group {}", record.stream)?,
        kind => write!(out, " stream {kind}/{}", record.stream)?,
    }
    if record.position != 0 {
        write!(out, " position {}/{}", record.position >> 32, record.position & 0xffff_ffff)?;
    }
    if record.sender != 0 || record.device != 0 {
        write!(out, " from {}.{}", record.sender, record.device)?;
    }
    if record.client_id != 0 {
        write!(out, " id {}", record.client_id)?;
    }
    if record.peer != 0 {
        write!(out, " peer {}", record.peer)?;
    }
    match record.kind {
        Kind::Epoch => write!(out, " {}", record.aux)?,
        Kind::Cursor | Kind::ReadMark | Kind::Device | Kind::OwnCopy | Kind::Notice => {
            write!(out, " at {}/{}", record.aux >> 32, record.aux & 0xffff_ffff)?;
        }
        _ => {}
    }
    if record.body_kind != 0 {
        write!(out, " kind {}", record.body_kind)?;
    }
    if record.ttl_s != 0 {
        write!(out, " ttl {} s", record.ttl_s)?;
    }
    if let Some(relation) = &record.relation {
        let (kind, sender) = (relation.kind, relation.sender);
        write!(out, " relation {kind} to {sender}.{} id {}", relation.device, relation.client_id)?;
    }
    if record.time_ms != 0 {
        write!(out, " time {}", record.time_ms)?;
    }
    if record.payload.is_empty() {
        writeln!(out)
    } else {
        writeln!(out, " {} bytes", record.payload.len())
    }
}

/// A part of a checkpoint uses the fields of a record in its own way.
fn checkpoint(out: &mut dyn Write, record: &Record<'_>) -> io::Result<()> {
    write!(out, " {}", record.aux)?;
    match record.body_kind {
        CHECKPOINT_BEGIN => write!(out, " begin, {} shards", record.stream)?,
        CHECKPOINT_IMAGE => write!(out, " image of shard {}", record.stream)?,
        CHECKPOINT_END => write!(out, " end of shard {}", record.stream)?,
        CHECKPOINT_COMPLETE => write!(out, " complete, {} shards", record.stream)?,
        part => write!(out, " part {part}")?,
    }
    if record.time_ms != 0 {
        write!(out, " time {}", record.time_ms)?;
    }
    writeln!(out, " {} bytes", record.payload.len())
}
