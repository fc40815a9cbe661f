//! The log for people: one line per record. `verify` gives the verdict on the whole.
//!
//! Owner: the command line, which warns if a server is using the folder. Reads only, takes no lock,
//! repairs nothing; works on a copy and on the folder of a server, stopped or running.

use std::io::{self, Write};
use std::path::Path;

use super::checkpoint::{CHECKPOINT_BEGIN, CHECKPOINT_COMPLETE, CHECKPOINT_END, CHECKPOINT_IMAGE};
use super::file::{FileStore, OpenError};
use super::format::FIRST_COMMIT;
use super::head::{Head, read_head};
use super::people::Position;
use super::record::{At, Kind, Record, STREAM_GROUP, STREAM_USER};
use super::report::{RecoverError, failed};
use super::scan::scan;
use super::store::Store;
use super::whole::{Commit, Plainly, read_commit};
use crate::clock::utc;

/// Which records to print, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Only records in this user's stream, sent by this user, or sent to this user.
    pub user: Option<u64>,
    /// Names the code of a refusal; the log does not know them.
    pub refusal: Option<fn(u32) -> Option<&'static str>>,
}

impl Filter {
    fn matches(&self, record: &Record<'_>) -> bool {
        self.user.is_none_or(|user| {
            (record.stream_kind == STREAM_USER && record.stream == user)
                || record.sender == user
                || record.peer == user
        })
    }
}

/// A device record with this `body_kind` says that the device was dropped (`docs/log-format.md`).
const DEVICE_DROPPED: u32 = 2;
/// Beside a server: damage is believed when it is seen so often.
const LOOKS_IN_USE: usize = 5;

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
            written = print(out, at, record, filter);
        }
        written.is_ok()
    })?;
    written?;
    if segments == 0 {
        return Err(nothing_there(dir));
    }
    out.flush()?;
    // The lines ended where reading did: whether that was the end is another question.
    let mut judged = scan(&store, &mut Plainly(&mut |_, _| {}));
    for _ in 1..LOOKS_IN_USE {
        // What a server is writing may look like damage for a moment.
        if judged.is_ok() || !FileStore::is_in_use(dir) {
            break;
        }
        judged = scan(&store, &mut Plainly(&mut |_, _| {}));
    }
    judged?;
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

fn print(out: &mut dyn Write, at: At, record: &Record<'_>, filter: &Filter) -> io::Result<()> {
    write!(out, "{}:{} {}", at.segment, at.offset, record.kind.name())?;
    if record.moved {
        write!(out, " moved")?;
    }
    if record.kind == Kind::Checkpoint {
        return checkpoint(out, record);
    }
    match record.stream_kind {
        0 => {}
        STREAM_USER => write!(out, " user {}", record.stream)?,
        STREAM_GROUP => write!(out, " group {}", record.stream)?,
        kind => write!(out, " stream {kind}/{}", record.stream)?,
    }
    if record.position != 0 {
        write!(out, " position {}", Position(record.position))?;
    }
    if record.sender != 0 || record.device != 0 {
        write!(out, " from {}.{}", record.sender, record.device)?;
    }
    if record.client_id != 0 {
        write!(out, " id {}", record.client_id)?;
    }
    of_its_kind(out, record, filter)?;
    if record.ttl_s != 0 {
        write!(out, " ttl {} s", record.ttl_s)?;
    }
    if let Some(relation) = &record.relation {
        let (kind, sender) = (relation.kind, relation.sender);
        write!(out, " relation {kind} to {sender}.{} id {}", relation.device, relation.client_id)?;
    }
    if record.time_ms != 0 {
        write!(out, ", {}", utc(record.time_ms))?;
    }
    if !record.payload.is_empty() {
        write!(out, ", {} bytes", record.payload.len())?;
    }
    writeln!(out)
}

/// What a kind makes of the fields that mean something else in each.
fn of_its_kind(out: &mut dyn Write, record: &Record<'_>, filter: &Filter) -> io::Result<()> {
    let (peer, aux, number) = (record.peer, Position(record.aux), record.body_kind);
    match record.kind {
        Kind::Epoch => write!(out, " {}", record.aux),
        Kind::Cursor => write!(out, " acked up to {aux}"),
        Kind::ReadMark => write!(out, " has read what {peer} sent up to {aux}"),
        Kind::Device if number == DEVICE_DROPPED => {
            write!(out, " dropped, highest id {}", record.aux)
        }
        Kind::Device => write!(out, " its cursor starts at {aux}"),
        Kind::OwnCopy => write!(out, " of {aux} of user {peer}, kind {number}"),
        Kind::Notice => write!(out, " given up: {aux} of user {peer}"),
        Kind::Refusal => match filter.refusal.and_then(|name| name(number)) {
            Some(name) => write!(out, " refused: {name}"),
            None => write!(out, " refused: code {number}"),
        },
        Kind::Message if number != 0 => write!(out, " kind {number}"),
        Kind::Group => group_change(out, record),
        _ => Ok(()),
    }
}

/// What happened to a group (`docs/log-format.md`).
fn group_change(out: &mut dyn Write, record: &Record<'_>) -> io::Result<()> {
    let user = record.peer;
    match record.body_kind {
        1 => write!(out, " begins, owner {user}"),
        2 => write!(out, " added {user}"),
        3 => write!(out, " removed {user}"),
        4 => write!(out, " left: {user}"),
        5 => write!(out, " renamed"),
        6 => write!(out, " {user} has role {}", record.aux),
        7 => write!(out, " ended"),
        what => write!(out, " change {what} of {user}"),
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
        write!(out, ", {}", utc(record.time_ms))?;
    }
    writeln!(out, ", {} bytes", record.payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Relation;

    const OPERATIONS: &str = include_str!("../../docs/operations.md");

    /// One record of each kind, as the document shows it.
    #[test]
    fn the_document_shows_a_line_of_every_kind() {
        let of = |kind| Record { stream_kind: STREAM_USER, stream: 72, ..Record::blank(kind) };
        let time_ms = 1_790_000_000_000;
        let (epoch, sent) = (54_266_400, |of: Record<'static>| Record {
            sender: 71,
            device: 1,
            client_id: 9,
            time_ms,
            ..of
        });
        let position = epoch << 32 | 5;
        let relation = Some(Relation { kind: 3, sender: 71, device: 1, client_id: 8 });
        let records = [
            Record { position, ttl_s: 60, relation, payload: b"hello", ..sent(of(Kind::Message)) },
            Record {
                position,
                peer: 73,
                aux: position + 3,
                payload: b"hello",
                body_kind: 1,
                ..sent(of(Kind::OwnCopy))
            },
            Record { body_kind: 7, ..sent(of(Kind::Refusal)) },
            Record { sender: 72, device: 1, aux: position, ..of(Kind::Device) },
            Record { sender: 72, device: 1, aux: 9, body_kind: 2, ..of(Kind::Device) },
            Record { sender: 72, device: 1, aux: position, ..of(Kind::Cursor) },
            Record { peer: 71, aux: position, ..of(Kind::ReadMark) },
            Record { aux: epoch, time_ms, ..Record::blank(Kind::Epoch) },
            sent(of(Kind::Void)),
            Record { position, peer: 73, aux: position + 3, ..sent(of(Kind::Notice)) },
            Record {
                stream_kind: STREAM_GROUP,
                stream: 700,
                position,
                sender: 71,
                body_kind: 2,
                peer: 72,
                time_ms,
                ..Record::blank(Kind::Group)
            },
            Record { position, moved: true, ..of(Kind::Tombstone) },
            Record { time_ms, ..of(Kind::Ended) },
            Record {
                aux: 4,
                body_kind: CHECKPOINT_IMAGE,
                stream: 1,
                payload: b"image",
                time_ms,
                ..Record::blank(Kind::Checkpoint)
            },
        ];
        let filter = Filter { refusal: Some(|_| Some("unknown_user")), ..Filter::default() };
        let mut lines = Vec::new();
        for (nth, record) in (0..).zip(&records) {
            let at = At { segment: 12, offset: 4160 + nth * 96 };
            print(&mut lines, at, record, &filter).unwrap();
        }
        let lines = String::from_utf8(lines).unwrap();
        for line in lines.lines() {
            assert!(OPERATIONS.contains(&format!("\n{line}\n")), "not shown:\n{lines}");
        }
        let kinds = (1..=u8::MAX).filter_map(Kind::from_number);
        for kind in kinds.filter(|kind| *kind != Kind::Commit) {
            assert!(records.iter().any(|record| record.kind == kind), "{kind:?}");
        }
    }
}
