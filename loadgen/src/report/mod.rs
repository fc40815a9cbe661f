//! What a run has to say, as one JSON file: the form every view of it is made from.
//!
//! [`Report`] is filled by the run and written once; [`latency`] keeps whole histograms, so that
//! reports can be merged and drawn as curves; [`machine`] reads the facts of the host that a
//! number means nothing without; [`html`] draws one report,
//! [`compare`] sets two side by side.
//!
//! Invariant: fields are only ever added. A name that is there keeps its meaning and its unit.
//! Deliberately not here: measuring, and judging (thresholds arrive judged).

pub mod command;
pub mod compare;
pub(crate) mod file;
pub mod html;
pub mod latency;
pub mod machine;
mod messages;
#[cfg(test)]
pub(crate) mod sample;
mod series;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use latency::{Latencies, Latency};
pub use machine::Machine;
pub use messages::Messages;
pub use series::{Quantiles, Second, SecondLatencies};

/// The form of the file. A reader refuses a number it does not know.
pub const FORMAT: u32 = 1;
/// Largest report that is read. A day with a line per second and four full histograms is 40 MiB.
pub const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Findings of the oracle that are spelled out; the counts go on. More would hide the first ones.
pub const EXAMPLES_MAX: usize = 1_000;
/// Lines of the series: a day.
pub const SERIES_MAX: usize = 86_400;

/// Why a report can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is larger than any report.
    #[error("{}: {bytes} bytes, a report has {FILE_BYTES_MAX} at most", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is no report.
    #[error("{}: not a report of `myriad-loadgen run --json`: {why}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Whether the numbers may be used at all.
    pub valid: bool,
    /// Why not, one sentence each; empty if they may.
    pub invalid_because: Vec<String>,
    /// What became of the messages.
    pub messages: Messages,
    /// What became of the sessions.
    pub sessions: Sessions,
    /// The groups, if there were some.
    #[serde(default)]
    pub groups: Option<Groups>,
    /// Microseconds since the moment an action was meant to begin.
    pub latency_us: Latencies,
    /// What the server used; `null` where it could not be read.
    pub server: Server,
    /// The messages that went wrong, spelled out.
    pub oracle: Oracle,
    /// Why connections failed, sessions ended and messages were refused; the most frequent first.
    #[serde(default)]
    pub failures: Vec<Failure>,
    /// Goals of the scenario and whether they were met.
    pub thresholds: Vec<Threshold>,
    /// What was played.
    pub scenario: Scenario,
    /// Against what.
    pub target: Target,
    /// Who measured.
    pub versions: Versions,
    /// When, and for how long.
    pub time: Time,
    /// A line per second.
    pub series: Vec<Second>,
    /// The load generator itself.
    pub generator: Generator,
    /// The host it ran on.
    pub machine: Machine,
}

/// What became of the sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// As many were wanted.
    pub target: u64,
    /// Most that were logged in at one time.
    pub established: u64,
    /// Attempts that failed, and sessions that ended against our will.
    pub failed: u64,
    /// Logins per second while sessions were opened.
    pub per_second: f64,
}

/// The groups of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// How many.
    pub count: u64,
    /// Members of each.
    pub members: u64,
    /// So many of them write.
    pub writers: u64,
    /// Messages to groups.
    pub sent: u64,
    /// Copies of them that arrived, the first time each.
    pub delivered: u64,
}

/// What the server used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Its process id, if it was given.
    pub pid: Option<u32>,
    /// Resident memory before the first session.
    pub rss_bytes_before: Option<u64>,
    /// Resident memory with all sessions there.
    pub rss_bytes_after: Option<u64>,
    /// Growth of its memory per session.
    pub user_bytes_per_session: Option<f64>,
    /// Growth of the kernel's memory per session, less the client's own share if that is known.
    pub kernel_bytes_per_session: Option<f64>,
    /// How the two above were found, in a sentence.
    pub memory_method: Option<String>,
    /// CPU of all its threads per delivered message.
    pub cpu_us_per_message: Option<f64>,
    /// CPU in user space, seconds.
    pub cpu_user_s: Option<f64>,
    /// CPU in the kernel, seconds.
    pub cpu_system_s: Option<f64>,
}

/// What the oracle found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Oracle {
    /// The first [`EXAMPLES_MAX`] of them.
    pub examples: Vec<Example>,
    /// How many more there were.
    pub left_out: u64,
}

/// What can go wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// Acked and never arrived.
    Lost,
    /// Arrived again.
    Duplicated,
    /// Arrived after one that was sent later.
    Reordered,
    /// Arrived with other bytes.
    Corrupted,
}

impl Wrong {
    /// Its name in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Corrupted => "corrupted",
        }
    }
}

/// One message that went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// What is wrong.
    pub kind: Wrong,
    /// Who sent it.
    pub from: u64,
    /// Who it is for.
    pub to: u64,
    /// The sender's count of messages to that recipient.
    pub sequence: u64,
    /// Seconds since the start when it was seen.
    pub at_s: f64,
    /// More, in words; may be empty.
    pub detail: String,
}

/// One reason of failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In words, with what to do where that is known.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// A goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// As the scenario has it: `delivered.p99_us <= 50000`.
    pub goal: String,
    /// What was measured; `null` if nothing was.
    pub measured: Option<f64>,
    /// Whether it was met.
    pub held: bool,
}

/// What was played.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// All that was set, by the file or by flags, as text.
    pub parameters: BTreeMap<String, String>,
}

/// Against what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `myriad`, `nats`, `mqtt`, `redis`, `echo`.
    pub protocol: String,
    /// Its address.
    pub url: String,
}

/// Who measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of the load generator.
    pub loadgen: String,
    /// Of the server, if it tells or was told.
    pub server: Option<String>,
}

impl Versions {
    /// This load generator, against a server that says what it is (or does not).
    #[must_use]
    pub fn new(server: Option<String>) -> Self {
        Self { loadgen: env!("CARGO_PKG_VERSION").to_owned(), server }
    }
}

/// When, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// Milliseconds since 1970, UTC.
    pub started_unix_ms: u64,
    /// From the first connection to the last.
    pub duration_s: f64,
}

/// The load generator itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// `io_uring` or `epoll` or `kqueue`.
    pub engine: String,
    /// Its threads.
    pub threads: u64,
    /// Its own memory per client, user space.
    pub bytes_per_client: Option<f64>,
    /// How late it began what it was meant to begin: 99 of 100 were less late.
    pub behind_p99_us: u64,
    /// And at the worst.
    pub behind_max_us: u64,
    /// CPU it used, seconds.
    pub cpu_s: Option<f64>,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// It can't be read, is too large, or is no report.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let io = |source| ReportError::Io { path: path.to_owned(), source };
        let malformed = |why: String| ReportError::Malformed { path: path.to_owned(), why };
        let bytes = fs::metadata(path).map_err(io)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(ReportError::TooLarge { path: path.to_owned(), bytes });
        }
        let text = fs::read_to_string(path).map_err(io)?;
        let report: Self =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        if report.format != FORMAT {
            let why = format!("format {}, this program reads {FORMAT}", report.format);
            return Err(malformed(why));
        }
        Ok(report)
    }

    /// Writes it, for people and programs.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        let io = |source| ReportError::Io { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self).map_err(|error| io(error.into()))?;
        file::write(path, &(text + "\n")).map_err(io)
    }
}
