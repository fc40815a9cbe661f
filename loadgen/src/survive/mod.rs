//! What an answer is worth: messages for people who are away, a `kill -9` right after the last
//! answer, and a count of what comes back.
//!
//! Two steps, because the server is started again in between by whoever started it: [`fill`] lets
//! the recipients log in once and leave, has messages for them acked, and kills; [`count`] lets
//! them come back. Deliberately not here: sockets (`links`), starting servers, rates and latency
//! (`run`).

mod links;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use links::{Link, Links};
use serde::Serialize;

use crate::protocol::{self, Event, Identity, Protocol};

/// Longest wait for logins, for the next answer, for an open end.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages of one test: more tell no more.
pub const MESSAGES_MAX: u64 = 10_000_000;

/// Whom to ask, and how many take part. The same in both steps.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address of the server; its scheme names the protocol
    #[arg(long)]
    target: String,
    /// File with a Myriad server's HS256 secret
    #[arg(long)]
    auth_secret_file: Option<PathBuf>,
    #[arg(long, default_value_t = 50_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: u64,
    /// People who are away
    #[arg(long, default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    recipients: u32,
    /// Connections that send
    #[arg(long, default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    senders: u32,
    /// Messages without an answer, per sender
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    #[arg(long, default_value_t = 150)]
    payload_bytes: usize,
}

/// The step.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Step {
    /// Recipients log in and leave; messages for them are sent until all are acked
    Fill {
        /// Whom to ask.
        #[command(flatten)]
        options: Options,
        /// Process killed with SIGKILL on the spot when the last message is acked
        #[arg(long)]
        kill_pid: Option<i32>,
    },
    /// Recipients come back: how many of the messages come?
    Count {
        /// Whom to ask.
        #[command(flatten)]
        options: Options,
        /// Nothing more comes if nothing came for so long
        #[arg(long, default_value_t = 5)]
        quiet_seconds: u64,
    },
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Of [`Step::Fill`].
    Filled {
        /// Messages the server answered for.
        acked: u64,
        /// How long that took.
        seconds: f64,
    },
    /// Of [`Step::Count`].
    Counted {
        /// Messages that were acked before.
        expected: u64,
        /// Of them came back.
        survived: u64,
        /// Came again.
        duplicated: u64,
    },
}

/// Why it can't be told.
#[derive(Debug, thiserror::Error)]
pub enum SurviveError {
    /// The arguments are wrong, or the protocol keeps nothing.
    #[error("{0}")]
    Arguments(String),
    /// A connection failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The server said something that ends the test.
    #[error("{0}")]
    Server(String),
    /// Nothing happens any more.
    #[error("nothing happened for {STALL_TIMEOUT:?} while waiting for {0}")]
    Stalled(String),
    /// Somebody wants the program to end.
    #[error("interrupted")]
    Interrupted,
}

/// Plays a step.
///
/// # Errors
/// See [`SurviveError`].
pub fn run(step: &Step) -> Result<Found, SurviveError> {
    match step {
        Step::Fill { options, kill_pid } => fill(options, *kill_pid),
        Step::Count { options, quiet_seconds } => {
            count(options, Duration::from_secs(*quiet_seconds))
        }
    }
}

fn open(options: &Options) -> Result<std::sync::Arc<dyn Protocol>, SurviveError> {
    let auth_secret_file = options.auth_secret_file.as_deref();
    let identity = Identity { auth_secret_file, ..Identity::default() };
    let protocol =
        protocol::open(&options.target, identity, false).map_err(SurviveError::Arguments)?;
    if !protocol.promises().durable {
        let why = format!("{} keeps nothing for those who are away, by design", protocol.name());
        return Err(SurviveError::Arguments(why));
    }
    Ok(protocol)
}

/// Messages for people who are away, all acked; then the kill.
fn fill(options: &Options, kill_pid: Option<i32>) -> Result<Found, SurviveError> {
    let protocol = open(options)?;
    let everybody = Links::open(&*protocol, 0..options.recipients)?;
    everybody.leave();
    let senders = options.recipients..options.recipients + options.senders;
    let mut links = Links::open(&*protocol, senders)?;
    let began = Instant::now();
    let mut filler = Filler { options, begun: 0, acked: 0, refused: None };
    let mut deadline = Instant::now() + STALL_TIMEOUT;
    for link in &mut links.links {
        filler.begin(link);
    }
    links.flush_all()?;
    while filler.acked < options.messages {
        let before = filler.acked;
        links.turn(&mut |event| filler.hear(&event))?;
        if let Some(reason) = filler.refused.take() {
            let why = format!("the server refused a message for somebody who is away: {reason}");
            return Err(SurviveError::Server(why));
        }
        for link in &mut links.links {
            filler.begin(link);
        }
        if filler.acked < options.messages {
            links.flush_all()?;
        }
        if filler.acked > before {
            deadline = Instant::now() + STALL_TIMEOUT;
        } else if Instant::now() >= deadline {
            return Err(SurviveError::Stalled(format!(
                "answers: {} of {} came",
                filler.acked, options.messages
            )));
        }
    }
    if let Some(pid) = kill_pid {
        kill(pid)?;
    }
    Ok(Found::Filled { acked: filler.acked, seconds: began.elapsed().as_secs_f64() })
}

fn kill(pid: i32) -> Result<(), SurviveError> {
    let pid = rustix::process::Pid::from_raw(pid)
        .filter(|pid| pid.as_raw_nonzero().get() > 1)
        .ok_or_else(|| SurviveError::Arguments(format!("--kill-pid {pid} is no process")))?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        .map_err(|error| SurviveError::Io { what: "can't kill".to_owned(), source: error.into() })
}

struct Filler<'o> {
    options: &'o Options,
    begun: u64,
    acked: u64,
    refused: Option<String>,
}

impl Filler<'_> {
    /// Lets a sender have as many messages under way as it may.
    fn begin(&mut self, link: &mut Link) {
        while self.begun < self.options.messages
            && link.speaker.unanswered() < self.options.in_flight.max(1)
        {
            let to = u32::try_from(self.begun % u64::from(self.options.recipients)).unwrap_or(0);
            let mut payload = self.begun.to_le_bytes().to_vec();
            payload.resize(self.options.payload_bytes.max(payload.len()), b'm');
            if link.speaker.send(to, self.begun + 1, &payload).is_err() {
                break; // full; answers make room
            }
            self.begun += 1;
        }
    }

    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Acked { .. } => self.acked += 1,
            Event::Refused { reason, .. } => self.refused = Some(reason.clone()),
            _ => {}
        }
    }
}

/// Lets the recipients come back, and counts.
fn count(options: &Options, quiet: Duration) -> Result<Found, SurviveError> {
    let protocol = open(options)?;
    let mut seen = vec![false; usize::try_from(options.messages).unwrap_or(0)];
    let (mut survived, mut duplicated) = (0, 0);
    let mut hear = |event: &Event<'_>| -> bool {
        let Event::Delivered { payload, .. } = event else { return false };
        let head = payload.get(..8).and_then(|head| head.try_into().ok());
        let index = head.and_then(|head| usize::try_from(u64::from_le_bytes(head)).ok());
        match index.and_then(|index| seen.get_mut(index)) {
            Some(seen) if *seen => duplicated += 1,
            Some(seen) => {
                *seen = true;
                survived += 1;
            }
            None => {} // somebody else's
        }
        true
    };
    let mut links = Links::connect(&*protocol, 0..options.recipients)?;
    links.wait_ready(&mut |event| {
        hear(&event);
    })?;
    let mut last = Instant::now();
    while last.elapsed() < quiet {
        let mut came = false;
        links.turn(&mut |event| came |= hear(&event))?;
        links.flush_all()?;
        if came {
            last = Instant::now();
        }
    }
    links.leave();
    Ok(Found::Counted { expected: options.messages, survived, duplicated })
}
