//! The command line of `run`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::limit::{self, Goal};
use super::{Engine, Options, RunError};
use crate::live;
use crate::report::{self, Report, ReportError, html};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 every goal was met; 1 some goal was not, or the result is not valid, or the server \
can't be reached; 2 wrong arguments or scenario.

Example: myriad-loadgen run storm --target ws://127.0.0.1:7878/v1/chat --auth-secret-file secret \
--html storm.html")]
pub struct RunArguments {
    /// A TOML file, or one of: idle, chat, fan-in, offline-online, storm, churn, slow-readers,
    /// hostile, group
    scenario: String,
    /// Address of the server: ws://HOST:PORT/v1/chat or tcp://HOST:PORT. Several, with commas
    /// between, share the clients; then only pairs can talk
    #[arg(long)]
    target: String,
    /// Address of the server's HTTP interface, such as http://127.0.0.1:7880, for scenarios with
    /// groups: they are made there
    #[arg(long)]
    api: Option<String>,
    /// File with the server's HS256 secret; tokens are minted from it
    #[arg(long)]
    auth_secret_file: Option<PathBuf>,
    /// Writes the report here, for programs
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the report here, for people: one file that needs no network
    #[arg(long)]
    html: Option<PathBuf>,
    /// Number of the first user, 8,000,000,000 unless given: two generators at one server need
    /// users of their own
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..1 << 62))]
    first_user: Option<u64>,
    /// Sessions, instead of the scenario's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    sessions: Option<u32>,
    /// Messages per second where the scenario has the most; its other rates are scaled alike
    #[arg(long, allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Searches the highest rate at which a latency goal is met, such as delivered.p99=50ms; a run
    /// of the whole scenario at each rate that is tried
    #[arg(long, value_name = "GOAL", value_parser = goal)]
    find_limit: Option<Goal>,
    /// Process id of a server on this host: its memory and CPU are measured
    #[arg(long)]
    server_pid: Option<u32>,
    /// What the server is, in the report's words
    #[arg(long)]
    server_version: Option<String>,
    /// How sockets are driven
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineName,
    /// Threads; one per processor unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    threads: Option<u32>,
    /// Source addresses, such as 10.0.0.1-10.0.0.9,10.0.1.1; for a target on 127.0.0.0/8 as many
    /// of it as the sessions need, unless given
    #[arg(long)]
    sources: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    /// io_uring if it works here, else epoll
    Auto,
    /// epoll (kqueue on FreeBSD): a socket is a file of this process
    Epoll,
    /// io_uring: sockets are not counted as files of this process
    Uring,
}

/// Why `run` failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The run could not begin, or its engine failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The report can't be written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl CommandError {
    /// Whether the arguments are to blame.
    #[must_use]
    pub fn is_wrong_argument(&self) -> bool {
        matches!(self, Self::Run(RunError::Arguments(_)))
    }
}

/// Plays and reports; whether every goal was met and the result is valid.
///
/// # Errors
/// See [`CommandError`].
pub fn command(arguments: RunArguments) -> Result<bool, CommandError> {
    let RunArguments { json, html, target, .. } = &arguments;
    let (json, html, target) = (json.clone(), html.clone(), target.clone());
    let options = Options {
        scenario: arguments.scenario,
        target: arguments.target,
        api: arguments.api,
        auth_secret_file: arguments.auth_secret_file,
        first_user: arguments.first_user,
        sessions: arguments.sessions,
        rate: arguments.rate,
        server_pid: arguments.server_pid,
        engine: match arguments.engine {
            EngineName::Auto => Engine::Auto,
            EngineName::Epoll => Engine::Epoll,
            EngineName::Uring => Engine::Uring,
        },
        threads: arguments.threads,
        sources: arguments.sources,
        server_version: arguments.server_version,
    };
    if let Some(rate) = options.rate
        && !(rate > 0.0 && rate.is_finite())
    {
        let why = format!("--rate {rate}: a number above 0 is wanted");
        return Err(RunError::Arguments(why).into());
    }
    check_files(json.as_deref(), html.as_deref())?;
    let report = match arguments.find_limit {
        Some(goal) => match limit::find(&options, goal)? {
            Some(report) => report,
            None => return Ok(false),
        },
        None => super::run(&options, &mut |scenario| {
            live::open(&live::Title { scenario: scenario.to_owned(), target: target.clone() })
        })?,
    };
    if let Some(path) = json {
        report.write(&path)?;
    }
    if let Some(path) = html {
        report::command::write(&path, &html::page(&report))?;
    }
    Ok(passed(&report))
}

/// Before the run: it would be in vain.
fn check_files(json: Option<&Path>, html: Option<&Path>) -> Result<(), RunError> {
    if json.is_some() && json == html {
        return Err(RunError::Arguments("--json and --html name the same file".to_owned()));
    }
    for (option, path) in [("--json", json), ("--html", html)] {
        let Some(path) = path else { continue };
        report::file::check(path).map_err(|error| {
            let path = path.display();
            RunError::Arguments(format!("{option} {path} can't be written: {error}"))
        })?;
    }
    Ok(())
}

fn goal(text: &str) -> Result<Goal, String> {
    text.parse()
}

/// Whether a report is one to be content with.
#[must_use]
pub fn passed(report: &Report) -> bool {
    report.valid && report.thresholds.iter().all(|goal| goal.held)
}
