//! `myriad backup` and `myriad restore`: what is done is `server::tools`'s.

use std::path::{Path, PathBuf, absolute};

use clap::Args;

use super::log::{judge, told};
use super::{Failure, print};
use crate::clock::wall_ms;
use crate::log::{FileStore, OpenError};
use crate::server::{self, tools};

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
    /// The data folder to be made; it must not exist or be empty
    #[arg(long, value_name = "DATA", env = "MYRIAD_DATA")]
    data: PathBuf,
}

pub(super) fn backup(flags: &BackupFlags) -> Result<(), Failure> {
    let BackupFlags { to, data } = flags;
    if !data.join("log").is_dir() {
        let why = "there is no log in it; name the data folder with --data";
        return Err(Failure::refused(format!("{}: {why}.", data.display())));
    }
    let to = absolute(to).map_err(|error| Failure::refused(format!("The folder: {error}.")))?;
    let made = match server::ask_for_backup(data, &to).map_err(Failure::failed)? {
        Some(made) => made,
        None => stopped(data, &to)?,
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
    let made = tools::backup(data, to, None, wall_ms()).map_err(Failure::failed)?;
    Ok(format!("commit {}, {} files of {} bytes", made.commit, made.files.len(), made.bytes()))
}

pub(super) fn restore(flags: &RestoreFlags) -> Result<(), Failure> {
    let RestoreFlags { backup, data } = flags;
    let manifest = tools::manifest(backup).map_err(Failure::refused)?;
    tools::restore(backup, data).map_err(Failure::failed)?;
    let (report, waiting) = judge(data)?;
    let tools::Manifest { time_ms, commit, .. } = manifest;
    print(&format!(
        "{} restored as of {} ({time_ms} ms since 1970), commit {commit}\n{}\
         The clock of this host must be right before the server starts: numbers given out after \
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

/// A time for people, in UTC.
fn utc(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
}

/// Year, month and day so many days after 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = 365 + u64::from(is_leap);
        if days >= length {
            days -= length;
            year += 1;
            continue;
        }
        let february = 28 + u64::from(is_leap);
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in (1..).zip(months) {
            if days < length {
                return (year, month, days + 1);
            }
            days -= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_709_164_800_000), "2024-02-29 00:00:00 UTC");
        assert_eq!(utc(1_735_689_599_999), "2024-12-31 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }
}
