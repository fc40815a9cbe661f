//! The verdict on a log: everything that is wrong, where, whom it concerns, and what to do.
//!
//! Owner: the command line. Reads only, takes no lock, repairs nothing; works on a copy, on the
//! folder of a stopped server, and, with a warning, on that of a running one. What the records
//! mean, and whether what waits can be read, is asked one floor up: the log does not know.

use std::fmt;
use std::path::Path;

use super::file::{FileStore, segment_file_name};
use super::format::FIRST_COMMIT;
use super::gaps::{Gaps, gaps, place};
use super::inspect::{InspectError, nothing_there};
use super::record::{At, Record};
use super::report::Report;
use super::salvage::content;
use super::scan::{read_tail, scan};
use super::whole::Plainly;

/// Findings kept; the rest are counted.
const FINDINGS_MAX: usize = 1000;
const REPAIR: &str = "`myriad log verify DIR --repair NEW_DIR` mends a copy and says what is lost";

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: At,
    /// What.
    pub what: String,
    /// Users whose records are concerned, as far as they can be read.
    pub users: Vec<u64>,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", place(self.at), self.what)?;
        if self.users.is_empty() {
            write!(out, "; users concerned: unknown. ")?;
        } else {
            let users: Vec<String> = self.users.iter().map(u64::to_string).collect();
            write!(out, "; users concerned: {}. ", users.join(", "))?;
        }
        write!(out, "{}", self.advice)
    }
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// What a restart would read; nothing if it would refuse.
    pub report: Report,
    /// Commits, records and bytes in all segments, old ones too.
    pub commits: u64,
    /// See `commits`.
    pub records: u64,
    /// See `commits`.
    pub bytes: u64,
    /// Segments with commits in them.
    pub segments: u64,
    /// Those of them a restart does not read: something in them is still waited for.
    pub old: u64,
    /// Segments prepared and not used.
    pub spares: u64,
    /// A server holds the folder: what it was writing may look like a torn tail, or damage.
    pub in_use: bool,
    /// In old segments: bytes that were never announced, or damage in which nothing waits.
    pub doubtful: Vec<At>,
    /// What is wrong, at most a thousand.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds a finding, if there are not too many already.
    pub fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments, commits, records, bytes, old, spares, .. } = self;
        if self.in_use {
            writeln!(out, "warning: a server is using this folder, its newest commit may be cut")?;
        }
        writeln!(out, "{records} records in {commits} commits, {bytes} bytes")?;
        writeln!(out, "{segments} segments in use, {old} of them old; {spares} spare")?;
        writeln!(out, "highest epoch {}", self.report.highest_epoch)?;
        match self.report.torn {
            Some(at) => writeln!(
                out,
                "torn tail in segment {} at byte {}: never announced, ignored at the next start",
                at.segment, at.offset
            )?,
            None => writeln!(out, "no torn tail")?,
        }
        for at in &self.doubtful {
            writeln!(
                out,
                "{}: bytes that are no commit, at the end of an old segment: never announced, or \
                 damage in which nothing waits",
                place(*at)
            )?;
        }
        for finding in &self.findings {
            writeln!(out, "damage: {finding}")?;
        }
        match self.findings.len() {
            0 => write!(out, "whole"),
            FINDINGS_MAX => write!(out, "damaged: {FINDINGS_MAX} findings or more"),
            count => write!(out, "damaged: {count} findings"),
        }
    }
}

/// Reads all of the log in `dir` (a data folder or its `log` folder) and says what is there.
///
/// # Errors
/// [`InspectError`]: it can't be read at all, or a newer program wrote it. Damage is no error.
pub fn verify(dir: &Path) -> Result<VerifyReport, InspectError> {
    let in_use = FileStore::is_in_use(dir);
    let store = FileStore::open_read_only(dir)?;
    let found = gaps(&store)?;
    if found.used.is_empty() && found.spares.is_empty() && found.broken.is_empty() {
        // "Whole" would be true and of no use to whoever named the wrong folder.
        return Err(nothing_there(dir));
    }
    let mut report = VerifyReport {
        report: Report { torn: found.torn, ..Report::default() },
        commits: found.commits,
        records: found.records,
        bytes: found.bytes,
        segments: found.used.len() as u64,
        old: found.old,
        spares: found.spares.len() as u64,
        in_use,
        doubtful: found.doubtful.clone(),
        findings: Vec::new(),
    };
    judge(&store, &found, &mut report)?;
    match scan(&store, &mut Plainly(&mut |_, _| {})) {
        Ok(scanned) => report.report = scanned.report,
        // It stops at the first of what is told above; what only it sees is told here.
        Err(error) if report.is_whole() => report.add(Finding {
            at: At { segment: found.used.last().copied().unwrap_or(0), offset: 0 },
            what: format!("a server would refuse this log: {error}"),
            users: Vec::new(),
            advice: "Restore a backup".to_owned(),
        }),
        Err(_) => {}
    }
    Ok(report)
}

fn judge(store: &FileStore, found: &Gaps, report: &mut VerifyReport) -> Result<(), InspectError> {
    for broken in &found.broken {
        let advice = if broken.is_old {
            format!("Only messages that wait in it are concerned. {REPAIR}")
        } else {
            "This can't be repaired: restore a backup".to_owned()
        };
        let what = broken.what.to_owned();
        report.add(Finding { at: broken.at, what, users: Vec::new(), advice });
    }
    for gap in &found.gaps {
        let content = content(store, gap)?;
        let mut users: Vec<u64> = content.lost.iter().filter_map(|lost| lost.user).collect();
        users.sort_unstable();
        users.dedup();
        let last = gap.first + gap.count.max(1) - 1;
        let which = if last == gap.first {
            format!("commit {}", gap.first)
        } else {
            format!("commits {} to {last}", gap.first)
        };
        let old = if gap.first < found.redo { ", read only for what waits in it" } else { "" };
        report.add(Finding {
            at: At { segment: gap.found.head.segment, offset: gap.from },
            what: format!(
                "{which} (durable{old}) up to byte {} is damaged; {} records in it verify",
                gap.to,
                content.kept.len()
            ),
            users,
            advice: REPAIR.to_owned(),
        });
    }
    Ok(())
}

/// Hands out what a restart would read, in order, at the places where it lies now.
///
/// # Errors
/// [`InspectError`], as a restart would refuse.
pub fn replayed(
    dir: &Path,
    visit: &mut dyn FnMut(At, &Record<'_>),
) -> Result<Report, InspectError> {
    let store = FileStore::open_read_only(dir)?;
    let found = scan(&store, &mut Plainly(visit))?;
    if let Some((index, end)) = found.end {
        read_tail(&store, &found.found[index], FIRST_COMMIT, end, &mut |commit| {
            if commit.head.sequence >= found.redo {
                commit.visit(commit.at, visit);
            }
            Ok(())
        })?;
    }
    Ok(found.report)
}

/// A record somebody waits for that is not at its place.
#[must_use]
pub fn unreadable(at: At, user: u64, position: u64, sender: u64) -> Finding {
    let (epoch, nth) = (position >> 32, position & 0xffff_ffff);
    let name = segment_file_name(at.segment);
    Finding {
        at,
        what: format!(
            "position {epoch}/{nth} of user {user}, from user {sender}, waits and can't be read \
             ({name} is damaged or missing)"
        ),
        users: vec![user],
        advice: REPAIR.to_owned(),
    }
}
