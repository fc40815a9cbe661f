//! The log for people: one line per record, and a verdict on the whole.
//!
//! Owner: the command line. Reads only, takes no lock, repairs nothing; works on a copy, on the
//! folder of a stopped server, and, with a warning, on that of a running one.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use super::file::{FileStore, OpenError};
use super::format::FIRST_COMMIT;
use super::record::{At, Kind, Record};
use super::report::{RecoverError, Report};
use super::scan::{Scan, read_tail, scan};

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

/// What [`verify`] found in a log without damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// What reading it found.
    pub report: Report,
    /// Segments prepared and not used.
    pub spares: u64,
    /// A server holds the folder: what it was writing may look like a torn tail, or damage.
    pub in_use: bool,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { segments, commits, records, bytes, torn, highest_epoch, .. } = &self.report;
        if self.in_use {
            writeln!(out, "warning: a server is using this folder, its newest commit may be cut")?;
        }
        writeln!(out, "{records} records in {commits} commits, {bytes} bytes")?;
        writeln!(out, "{segments} segments in use, {} spare", self.spares)?;
        writeln!(out, "highest epoch {highest_epoch}")?;
        match torn {
            Some(at) => writeln!(
                out,
                "torn tail in segment {} at byte {}: never announced, ignored at the next start",
                at.segment, at.offset
            )?,
            None => writeln!(out, "no torn tail")?,
        }
        write!(out, "whole")
    }
}

/// Prints the records of the log in `dir` (a data folder or its `log` folder), oldest first, one
/// line each. Payloads are not shown, only their length: they are other people's letters.
///
/// # Errors
/// [`InspectError`]; the lines before the damage have been written.
pub fn inspect(dir: &Path, out: &mut dyn Write, filter: &Filter) -> Result<(), InspectError> {
    let mut written = Ok(());
    let read = read_all(dir, &mut |at, record| {
        if written.is_ok() && filter.matches(record) {
            written = print(out, at, record);
        }
    });
    written?;
    read?;
    out.flush()?;
    Ok(())
}

/// Reads all of the log in `dir` and says what is there.
///
/// # Errors
/// [`InspectError`], naming the first damage.
pub fn verify(dir: &Path) -> Result<VerifyReport, InspectError> {
    let in_use = FileStore::is_in_use(dir);
    let found = read_all(dir, &mut |_, _| {})?;
    let spares = found.found.iter().filter(|found| found.first.is_none()).count();
    let spares = (spares + found.blank.len()) as u64;
    Ok(VerifyReport { report: found.report, spares, in_use })
}

fn read_all(dir: &Path, visit: &mut dyn FnMut(At, &Record<'_>)) -> Result<Scan, InspectError> {
    let store = FileStore::open_read_only(dir)?;
    let found = scan(&store, visit)?;
    if found.found.is_empty() && found.blank.is_empty() {
        // "Whole" would be true and of no use to whoever named the wrong folder.
        let error = io::Error::new(io::ErrorKind::NotFound, "there are no segments");
        return Err(OpenError::Io { what: "looking for a log in", path: dir.into(), error }.into());
    }
    if let Some((index, end)) = found.end {
        read_tail(&store, &found.found[index], FIRST_COMMIT, end, &mut |commit| {
            commit.visit(commit.at, visit);
            Ok(())
        })?;
    }
    Ok(found)
}

fn print(out: &mut dyn Write, at: At, record: &Record<'_>) -> io::Result<()> {
    write!(out, "{}:{} {}", at.segment, at.offset, record.kind.name())?;
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
        Kind::Cursor | Kind::ReadMark | Kind::Device | Kind::OwnCopy => {
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
