//! `myriad backup` and `myriad restore`: what is done is `server::tools`'s.

use std::path::{Path, PathBuf, absolute};

use clap::Args;

use super::log::{judge, told};
use super::{Failure, print};
use crate::clock::{utc, wall_ms};
use crate::log::{FileStore, OpenError};
use crate::server::tools::BackupError;
use crate::server::{self, Asked, tools};

/// The flags of `myriad backup`.
#[derive(Args, Debug)]
pub(super) struct BackupFlags {
    /// The folder to be made; its parent must exist
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// The data folder, of a running server or a stopped one
    #[arg(long, value_name = "DATA", env = "MYRIAD_DATA")]
    data: PathBuf,
}

/// The flags of `myriad restore`.
#[derive(Args, Debug)]
pub(super) struct RestoreFlags {
    /// The backup
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// Only say whether the backup is sound, every file and its log; exit code 1 if not
    #[arg(long)]
    check: bool,
    /// The data folder to be made; it must not exist or be empty
    #[arg(long, value_name = "DATA", env = "MYRIAD_DATA", required_unless_present = "check")]
    data: Option<PathBuf>,
}

pub(super) fn backup(flags: &BackupFlags) -> Result<(), Failure> {
    let BackupFlags { to, data } = flags;
    if !data.join("log").is_dir() {
        let why = "there is no log in it; name the data folder with --data";
        return Err(Failure::refused(format!("{}: {why}.", data.display())));
    }
    let to = absolute(to).map_err(|error| Failure::refused(format!("The folder: {error}.")))?;
    let made = match server::ask_for_backup(data, &to) {
        Asked::Made(made) => made,
        Asked::Nobody => stopped(data, &to)?,
        Asked::Refused(why) => return Err(Failure::refused(why)),
        Asked::Failed(why) => return Err(Failure::failed(why)),
    };
    print(&format!("{}: {made}\n", to.display()))
}

/// Copies a folder no server uses, under its lock.
fn stopped(data: &Path, to: &Path) -> Result<String, Failure> {
    let _lock = FileStore::open(data).map_err(|error| match error {
        OpenError::Locked(path) => Failure::refused(format!(
            "A server uses {0} and does not answer on {0}/control.sock; stop it, or run this as \
             its user.",
            path.display()
        )),
        error => Failure::refused(error),
    })?;
    let made = tools::backup(data, to, None, wall_ms()).map_err(failure)?;
    Ok(format!("commit {}, {} files of {} bytes", made.commit, made.files.len(), made.bytes()))
}

fn failure(error: BackupError) -> Failure {
    if error.is_refusal() { Failure::refused(error) } else { Failure::failed(error) }
}

pub(super) fn restore(flags: &RestoreFlags) -> Result<(), Failure> {
    let RestoreFlags { backup, check, data } = flags;
    let data = match data {
        Some(data) if !check => data,
        _ => return check_only(backup),
    };
    let manifest = tools::restore(backup, data).map_err(failure)?;
    let (report, waiting) = judge(data)?;
    let tools::Manifest { time_ms, commit, .. } = manifest;
    print(&format!(
        "{} restored as of {}, commit {commit}\n{}\
         The clock of this host must be right before the server starts: positions given out after \
         the backup are told from new ones by the time of the start.\n",
        data.display(),
        utc(time_ms),
        told(&report, waiting.as_ref())
    ))?;
    if report.is_whole() {
        return Ok(());
    }
    Err(Failure::failed("The backup was made of a damaged log; what to do stands above."))
}

/// Says whether a backup is sound, without restoring it.
fn check_only(backup: &Path) -> Result<(), Failure> {
    let manifest = tools::check_backup(backup).map_err(failure)?;
    let (report, waiting) = judge(backup)?;
    print(&format!(
        "{}: of {}, commit {}; {} files are what the manifest says\n{}",
        backup.display(),
        utc(manifest.time_ms),
        manifest.commit,
        manifest.files.len(),
        told(&report, waiting.as_ref())
    ))?;
    if report.is_whole() {
        return Ok(());
    }
    Err(Failure::failed("The log in this backup is damaged; use another backup."))
}
