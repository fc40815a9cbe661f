//! `myriad log`: looks into a log without changing it. What it prints is `log::inspect`'s.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Failure, print};
use crate::log::{self, Filter, InspectError};

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
    },
}

pub(super) fn run(command: &LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Inspect { data, user } => inspect(data, &Filter { user: *user }),
        LogCommand::Verify { data } => verify(data),
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
    let found = log::verify(data).map_err(|fault| failure(&fault))?;
    print(&format!("{found}\n"))
}

/// A folder without a log is a slip of whoever typed; damage is a finding.
fn failure(fault: &InspectError) -> Failure {
    match fault {
        InspectError::Open(_) => Failure::refused(fault),
        InspectError::Log(_) | InspectError::Output(_) => Failure::failed(fault),
    }
}
