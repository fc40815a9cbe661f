//! `myriad log`: looks into a log without changing it, and mends a copy when told to.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Failure, print};
use crate::clock;
use crate::log::{
    self, At, FileStore, Filter, Finding, InspectError, OpenError, Position, RecoverError,
    Store as _, VerifyReport,
};
use crate::server::tools::{self, FolderError, Waiting};

/// The list of what was lost, in the repaired folder.
const LIST: &str = "repair.txt";

/// Beside a server: so often it is looked again before giving up.
const LOOKS_MAX: usize = 8;

/// The commands of `myriad log`.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Print one line per record, without payloads
    Inspect {
        /// The data folder
        #[arg(value_name = "DIR")]
        data: PathBuf,
        /// Only records to or from this user
        #[arg(long, value_name = "USER")]
        user: Option<u64>,
    },
    /// Say whether everything in the log is sound; exit code 1 if not. History is not looked at
    Verify {
        /// The data folder
        #[arg(value_name = "DIR")]
        data: PathBuf,
        /// Copy the data folder into this one, which must not exist or be empty, and mend the
        /// copy; what is lost is listed, also in repair.txt there
        #[arg(long, value_name = "NEW_DIR")]
        repair: Option<PathBuf>,
    },
}

pub(super) fn run(command: &LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Inspect { data, user } => {
            inspect(data, &Filter { user: *user, refusal: Some(refusal) })
        }
        LogCommand::Verify { data, repair: None } => verify(data),
        LogCommand::Verify { data, repair: Some(new) } => repair(data, new),
    }
}

/// The name of a refusal's code.
fn refusal(code: u32) -> Option<&'static str> {
    u8::try_from(code).ok().and_then(wire::Refusal::from_code).map(wire::Refusal::name)
}

fn inspect(data: &Path, filter: &Filter) -> Result<(), Failure> {
    if FileStore::is_in_use(data) {
        eprintln!("myriad: a server is using this folder: the newest lines may be missing");
    }
    let mut out = BufWriter::new(io::stdout().lock());
    match log::inspect(data, &mut out, filter) {
        // A reader that has gone away has seen enough.
        Err(InspectError::Output(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => shown.map_err(|fault| failure(&fault)),
    }
}

fn verify(data: &Path) -> Result<(), Failure> {
    let (report, waiting) = judge(data)?;
    print(&told(&report, waiting.as_ref()))?;
    if report.is_whole() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "The log in {} is damaged; nothing was changed. What to do stands above.",
        data.display()
    )))
}

type Judged = (VerifyReport, Option<Waiting>);

/// Everything that is known of the log in `data`. What a server writes or frees meanwhile may look
/// like damage, so beside one damage is believed when it is seen twice and nothing was freed.
pub(super) fn judge(data: &Path) -> Result<Judged, Failure> {
    let mut before = None;
    for _ in 0..LOOKS_MAX {
        let listed = segments(data);
        let seen = look(data);
        let is_whole = seen.as_ref().is_ok_and(|(report, _)| report.is_whole());
        if is_whole || !FileStore::is_in_use(data) {
            return seen;
        }
        let said = match &seen {
            Ok((report, _)) => report.findings.iter().map(ToString::to_string).collect(),
            Err(failure) => vec![failure.text().to_owned()],
        };
        let now = segments(data);
        if before.as_ref() == Some(&said) && listed.iter().all(|segment| now.contains(segment)) {
            return seen;
        }
        before = Some(said);
    }
    Err(Failure::refused(format!(
        "The server that uses {} changes its log faster than it can be judged. Make a backup and \
         run `myriad restore --check` on that, or stop the server.",
        data.display()
    )))
}

fn segments(data: &Path) -> Vec<u32> {
    let listed = FileStore::open_read_only(data).map(|store| store.segments());
    listed.ok().and_then(Result::ok).unwrap_or_default()
}

fn look(data: &Path) -> Result<Judged, Failure> {
    let mut report = log::verify(data).map_err(|fault| failure(&fault))?;
    match tools::waiting(data) {
        Ok(waiting) => {
            for lost in &waiting.unreadable {
                let stream = (lost.stream_kind(), lost.user);
                report.add(log::unreadable(lost.at, stream, lost.position, lost.sender));
            }
            Ok((report, Some(waiting)))
        }
        // The report has it already, in better words.
        Err(_) if !report.is_whole() => Ok((report, None)),
        Err(fault) => {
            report.add(Finding {
                at: At::default(),
                what: format!("the records can't be replayed: {fault}"),
                users: Vec::new(),
                advice: "Restore a backup".to_owned(),
            });
            Ok((report, None))
        }
    }
}

pub(super) fn told(report: &VerifyReport, waiting: Option<&Waiting>) -> String {
    let waits = waiting.map_or_else(
        || "what waits is not known: the log can't be replayed as it is\n".to_owned(),
        |waiting| {
            let Waiting { records, users, users_known, .. } = waiting;
            format!("{records} records wait for {users} of {users_known} users\n")
        },
    );
    format!("{waits}{report}\n")
}

fn repair(data: &Path, new: &Path) -> Result<(), Failure> {
    let lock = FileStore::hold(data).map_err(|fault| match fault {
        OpenError::Locked(_) => Failure::refused(format!(
            "A server uses {}; stop it first: in a copy of a log that is being written, what is \
             under way would pass for damage.",
            data.display()
        )),
        fault => Failure::refused(fault),
    })?;
    log::verify(data).map_err(|fault| failure(&fault))?;
    tools::copy_folder(data, new).map_err(|fault| match fault {
        FolderError::NotEmpty(_) | FolderError::Inside(_) => Failure::refused(fault),
        FolderError::Io { .. } => given_up(new, &fault.to_string()),
    })?;
    drop(lock);
    let mut lines = vec![format!("Repaired copy of {}.", data.display())];
    let mended = log::mend(new).map_err(|fault| given_up(new, &fault.to_string()))?;
    lines.extend(mended.left_out.iter().map(|segment| log::left_out(*segment)));
    lines.extend(mended.lost.iter().map(|lost| format!("lost: {lost}")));
    let waiting = tools::waiting(new).map_err(|fault| given_up(new, &fault.to_string()))?;
    if !waiting.unreadable.is_empty() {
        let stream = |lost: &tools::Unreadable| (lost.stream_kind(), lost.user, lost.position);
        let lost: Vec<(u8, u64, u64)> = waiting.unreadable.iter().map(stream).collect();
        for lost in &waiting.unreadable {
            let whose = if lost.in_group { "group" } else { "user" };
            lines.push(format!(
                "lost while it waited: position {} of {whose} {}, from user {}",
                Position(lost.position),
                lost.user,
                lost.sender
            ));
        }
        let epoch_of = |highest| log::next_epoch(highest, clock::wall_ms());
        log::bury(new, &lost, &epoch_of).map_err(|fault| given_up(new, &fault.to_string()))?;
    }
    if lines.len() == 1 {
        lines.push("Nothing was lost.".to_owned());
    }
    let (report, waiting) = judge(new)?;
    let list = lines.join("\n") + "\n";
    write_list(&new.join(LIST), &list).map_err(|error| {
        Failure::failed(format!("{} can't be written: {error}.", new.join(LIST).display()))
    })?;
    print(&(list + &told(&report, waiting.as_ref())))?;
    if report.is_whole() {
        return Ok(());
    }
    Err(given_up(new, "the copy is still damaged, see above"))
}

fn write_list(path: &Path, list: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(list.as_bytes())?;
    file.sync_all()
}

fn given_up(new: &Path, why: &str) -> Failure {
    Failure::failed(format!(
        "{why}. The original was not changed; the copy in {} is of no use, remove it.",
        new.display()
    ))
}

/// A folder without a log is a slip of whoever typed, and of a newer log nothing can be said;
/// damage is a finding.
pub(super) fn failure(fault: &InspectError) -> Failure {
    match fault {
        InspectError::Open(_)
        | InspectError::Log(RecoverError::Version { .. } | RecoverError::Newer { .. }) => {
            Failure::refused(fault)
        }
        InspectError::Log(_) | InspectError::Output(_) => Failure::failed(fault),
    }
}
