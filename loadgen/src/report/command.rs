//! The commands that look at reports: `report` and `compare`.

use std::path::{Path, PathBuf};

use super::compare::{self, CompareError, Side};
use super::{Report, ReportError, file, html};
use crate::live::lines::{summary, visible_line};

/// `report`: draws a report again.
#[derive(Debug, clap::Args)]
pub struct ReportArguments {
    /// A report of `run --json`
    report: PathBuf,
    /// Draws it into this file
    #[arg(long)]
    html: Option<PathBuf>,
}

/// `compare`: two sides, each one report or several.
#[derive(Debug, clap::Args)]
pub struct CompareArguments {
    /// A report, several with commas between, or a folder of them
    a: String,
    /// The other side
    b: String,
    /// Draws both into this file
    #[arg(long)]
    html: Option<PathBuf>,
}

/// Prints a report's summary and draws its page.
///
/// # Errors
/// It can't be read, or the page can't be written.
pub fn report(arguments: &ReportArguments) -> Result<(), ReportError> {
    let report = Report::read(&arguments.report)?;
    for line in summary(&report) {
        crate::say!("{}", visible_line(&line));
    }
    match &arguments.html {
        Some(file) => write(file, &html::page(&report)),
        None => Ok(()),
    }
}

/// Prints the table of two sides and draws their page.
///
/// # Errors
/// A report can't be read, or the page can't be written.
pub fn compare(arguments: &CompareArguments) -> Result<(), CompareError> {
    let (a, b) = (Side::read(&arguments.a)?, Side::read(&arguments.b)?);
    for line in compare::table(&a, &b) {
        crate::say!("{line}");
    }
    match &arguments.html {
        Some(file) => Ok(write(file, &compare::page(&a, &b))?),
        None => Ok(()),
    }
}

/// Writes a page.
///
/// # Errors
/// The file can't be written.
pub(crate) fn write(path: &Path, page: &str) -> Result<(), ReportError> {
    file::write(path, page).map_err(|source| ReportError::Io { path: path.to_owned(), source })
}
