//! `myriad log`: looks into a log without changing it, and mends a copy when told to.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Failure, print};
use crate::clock;
use crate::log::{self, At, Filter, Finding, InspectError, VerifyReport};
use crate::server::tools::{self, Waiting};

/// The list of what was lost, in the repaired folder.
const LIST: &str = "repair.txt";

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
    /// Say whether everything in the log is sound; exit code 1 if not
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
        LogCommand::Inspect { data, user } => inspect(data, &Filter { user: *user }),
        LogCommand::Verify { data, repair: None } => verify(data),
        LogCommand::Verify { data, repair: Some(new) } => repair(data, new),
    }
}

fn inspect(data: &Path, filter: &Filter) -> Result<(), Failure> {
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

/// Everything that is known of the log in `data`.
pub(super) fn judge(data: &Path) -> Result<(VerifyReport, Option<Waiting>), Failure> {
    let mut report = log::verify(data).map_err(|fault| failure(&fault))?;
    match tools::waiting(data) {
        Ok(waiting) => {
            for lost in &waiting.unreadable {
                report.add(log::unreadable(lost.at, lost.user, lost.position, lost.sender));
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
    log::verify(data).map_err(|fault| failure(&fault))?;
    tools::copy_folder(data, new).map_err(Failure::refused)?;
    let mut lines = vec![format!("Repaired copy of {}.", data.display())];
    let mended = log::mend(new).map_err(|fault| given_up(new, &fault.to_string()))?;
    lines.extend(mended.left_out.iter().map(|segment| log::left_out(*segment)));
    lines.extend(mended.lost.iter().map(|lost| format!("lost: {lost}")));
    let waiting = tools::waiting(new).map_err(|fault| given_up(new, &fault.to_string()))?;
    if !waiting.unreadable.is_empty() {
        let lost: Vec<(u64, u64)> =
            waiting.unreadable.iter().map(|lost| (lost.user, lost.position)).collect();
        for lost in &waiting.unreadable {
            let (epoch, nth) = (lost.position >> 32, lost.position & 0xffff_ffff);
            lines.push(format!(
                "lost while it waited: position {epoch}/{nth} of user {}, from user {}",
                lost.user, lost.sender
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

/// A folder without a log is a slip of whoever typed; damage is a finding.
pub(super) fn failure(fault: &InspectError) -> Failure {
    match fault {
        InspectError::Open(_) => Failure::refused(fault),
        InspectError::Log(_) | InspectError::Output(_) => Failure::failed(fault),
    }
}
