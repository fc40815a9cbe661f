//! What reading a log can come to: a report, or why it was not opened.
//!
//! Owner: nobody, plain values. Messages are for operators: what, where, and what to do.

use std::fmt;
use std::io;

use super::file::segment_file_name;
use super::people::place;
use super::record::At;

/// Damage to something that was durable. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Where the damaged commit starts, or should.
    pub at: At,
    /// Its number, or that of the commit that is missing; 0: not a commit, the segment is damaged.
    pub commit: u64,
    /// What is wrong.
    pub what: &'static str,
    /// Users whose records are in the damaged commit, as far as they can be read.
    pub users: Vec<u64>,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, commit, what, users } = self;
        if *commit == 0 {
            return write!(out, "{}: {what}", segment_file_name(at.segment));
        }
        write!(out, "{}: commit {commit} was durable and is damaged ({what})", place(*at))?;
        write!(out, "; users concerned: {}", named(users))
    }
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk refused.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// Something durable is damaged.
    #[error(
        "{0}. Nothing was changed: run `myriad log verify` on the data folder, it says what can be \
         done; see docs/operations.md"
    )]
    Corrupt(Corrupt),
    /// A segment of another format version.
    #[error(
        "{} has format version {version}, this program reads version {}; use the program that \
         wrote it",
        segment_file_name(*.segment), super::FORMAT_VERSION
    )]
    Version {
        /// The segment.
        segment: u32,
        /// Its version.
        version: u32,
    },
    /// A whole record of a kind this version does not know.
    #[error(
        "{}, byte {}: a record of the unknown kind {kind}; a newer program wrote it, use that one",
        segment_file_name(.at.segment), .at.offset
    )]
    Newer {
        /// The record.
        at: At,
        /// Its kind.
        kind: u8,
    },
    /// The settings do not fit together or not to the log.
    #[error("the settings of the log: {0}")]
    Settings(String),
}

fn named(users: &[u64]) -> String {
    if users.is_empty() {
        return "unknown".to_owned();
    }
    users.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// What reading a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments with at least one commit that counts.
    pub segments: u64,
    /// Commits that count.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of these commits, padding included.
    pub bytes: u64,
    /// Bytes of the last checkpoint in it.
    pub image_bytes: u64,
    /// Highest epoch of anything: heads, commits, positions, epoch records.
    pub highest_epoch: u32,
    /// Highest time of a record or head, milliseconds since 1970.
    pub last_time_ms: u64,
    /// Where a commit that was never finished starts, if there is one; it was never announced.
    pub torn: Option<At>,
    /// No fresh segment could be had: why. The log goes on in its last one.
    pub full: Option<String>,
}

pub(super) fn failed(what: &str, error: io::Error) -> RecoverError {
    RecoverError::Io { what: what.to_owned(), error }
}
