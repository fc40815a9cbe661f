//! Pairs of users exchange messages for minutes, as fast as their windows allow, and ack them all:
//! does the log stay as large as it was after the first minute?
//!
//! The server is started here, in a folder of its own, and its segments are counted from outside
//! once a second. Their number goes up and down with every checkpoint, so minutes are compared by
//! the most there were. Deliberately not here: what a message costs (`bench`).

use std::path::Path;
use std::time::{Duration, Instant};

use client::{Address, ClientEvent, ConnectionError, SessionOptions, TickMark};
use serde::Serialize;
use wire::Stream;
use wire::client::Session;

use crate::bench::BenchError;
use crate::process::{Home, ProcessError, ServeOptions, ServerProcess};
use crate::swarm::{Handler, Swarm};
use crate::tokens::Mint;
use crate::{interrupt, usage};

/// Longest wait without any progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the end of the server.
const END_TIMEOUT: Duration = Duration::from_secs(60);
const TOKEN_TTL_S: u64 = 24 * 3600;
const FIRST_USER: u64 = 7_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);
/// Segments are counted this often.
const LOOK: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the server is started.
    pub serve: ServeOptions,
    /// Minutes.
    pub minutes: u32,
    /// Sessions; every one sends to its partner.
    pub sessions: usize,
    /// Messages under way per sender.
    pub in_flight: usize,
    /// Bytes per message.
    pub payload_bytes: usize,
}

/// What one minute was like.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Minute {
    /// Which one, from 1.
    pub minute: u32,
    /// Messages of this minute that a device of the recipient had.
    pub messages: u64,
    /// The most segments there were, those being made included.
    pub segments_max: usize,
    /// Their bytes.
    pub log_bytes_max: u64,
    /// Resident memory of the server at its end.
    pub resident_bytes: u64,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Per minute.
    pub minutes: Vec<Minute>,
    /// Connections that ended.
    pub closed: u64,
    /// In the last minute there were never more segments than in the first.
    pub held: bool,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SustainError {
    /// The server did not start or end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The traffic could not be played.
    #[error(transparent)]
    Bench(#[from] BenchError),
}

/// Exchanges messages for so many minutes and counts segments.
///
/// # Errors
/// See [`SustainError`].
pub fn run(options: &Options) -> Result<Report, SustainError> {
    usage::raise_file_limit();
    let home = Home::new()?;
    let server = ServerProcess::start(&options.serve, &home)?;
    let mut swarm = Swarm::new().map_err(BenchError::from)?;
    let mut pairs = Pairs::new(options);
    log_in(options, &server, &home, &mut swarm, &mut pairs)?;
    for index in 0..swarm.len() {
        swarm.with(index, &mut pairs, |session, pairs| pairs.write(index, session));
    }
    let mut minutes: Vec<Minute> = Vec::new();
    let log = home.data().join("log");
    for minute in 1..=options.minutes {
        let before = pairs.done;
        let (segments_max, log_bytes_max) = exchange(&mut swarm, &mut pairs, &log)?;
        let resident_bytes = usage::memory(server.pid()).unwrap_or_default().resident_bytes;
        let messages = pairs.done - before;
        minutes.push(Minute { minute, messages, segments_max, log_bytes_max, resident_bytes });
        crate::say!(
            "minute {minute}: {messages} messages, at most {segments_max} segments of {} MiB in \
             all, server {} MiB",
            log_bytes_max >> 20,
            resident_bytes >> 20
        );
    }
    drop(swarm);
    server.terminate()?;
    server.wait(END_TIMEOUT, &home)?;
    let held = match (minutes.first(), minutes.last()) {
        (Some(first), Some(last)) => last.segments_max <= first.segments_max,
        _ => false,
    };
    Ok(Report { minutes, closed: pairs.closed, held })
}

fn log_in(
    options: &Options,
    server: &ServerProcess,
    home: &Home,
    swarm: &mut Swarm,
    pairs: &mut Pairs,
) -> Result<(), BenchError> {
    let mint = Mint::new(home.secret());
    let address = Address::parse(&server.url("tcp"))?;
    for index in 0..options.sessions {
        let token = mint.token(FIRST_USER + index as u64, 1, TOKEN_TTL_S)?;
        let session = SessionOptions { ticks_until: TickMark::Has, ..SessionOptions::default() };
        swarm.add(Session::new(token, session));
        swarm.connect(index, &address, None)?;
        swarm.turn(Duration::ZERO, pairs)?;
    }
    let deadline = Instant::now() + STALL_TIMEOUT;
    while swarm.live_count() < options.sessions {
        pairs.look(deadline, options.sessions as u64)?;
        swarm.turn(Duration::from_millis(10), pairs)?;
    }
    Ok(())
}

/// Goes on for a minute; gives the most segments and bytes there were.
fn exchange(swarm: &mut Swarm, pairs: &mut Pairs, log: &Path) -> Result<(usize, u64), BenchError> {
    let end = Instant::now() + MINUTE;
    let (mut most, mut look) = ((0, 0), Instant::now() + LOOK);
    let (mut done, mut deadline) = (pairs.done, Instant::now() + STALL_TIMEOUT);
    while Instant::now() < end {
        pairs.look(deadline, 0)?;
        swarm.turn(Duration::from_millis(20), pairs)?;
        if pairs.done > done {
            (done, deadline) = (pairs.done, Instant::now() + STALL_TIMEOUT);
        }
        if Instant::now() >= look {
            look = Instant::now() + LOOK;
            most = most.max(segments(log));
        }
    }
    Ok(most)
}

/// Files of segments and their bytes.
fn segments(log: &Path) -> (usize, u64) {
    let paths = std::fs::read_dir(log).into_iter().flatten().flatten().map(|entry| entry.path());
    let sizes = paths.filter_map(|path| Some(path.metadata().ok()?.len()));
    sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
}

struct Pairs {
    in_flight: usize,
    payload: Vec<u8>,
    /// Per session: under way.
    under_way: Vec<usize>,
    done: u64,
    closed: u64,
    last_closed: String,
}

impl Pairs {
    fn new(options: &Options) -> Self {
        Self {
            in_flight: options.in_flight,
            payload: vec![b'm'; options.payload_bytes],
            under_way: vec![0; options.sessions],
            done: 0,
            closed: 0,
            last_closed: String::new(),
        }
    }

    /// Fills the window of one session.
    fn write(&mut self, index: usize, session: &mut Session) {
        let Some(under_way) = self.under_way.get_mut(index) else { return };
        while *under_way < self.in_flight {
            let partner = FIRST_USER + (index as u64 ^ 1);
            if session.send(Stream::User(partner), &self.payload, 0).is_err() {
                return;
            }
            *under_way += 1;
        }
    }

    fn look(&self, deadline: Instant, wanted: u64) -> Result<(), BenchError> {
        if interrupt::requested() {
            return Err(BenchError::Interrupted);
        }
        if Instant::now() >= deadline {
            let last = self.last_closed.clone();
            return Err(BenchError::Stalled { done: self.done, wanted, last });
        }
        Ok(())
    }
}

impl Handler for Pairs {
    fn event(&mut self, index: usize, session: &mut Session, event: ClientEvent) {
        if let ClientEvent::Tick { mark: TickMark::Has, .. } = event {
            if let Some(under_way) = self.under_way.get_mut(index) {
                *under_way = under_way.saturating_sub(1);
            }
            self.done += 1;
            self.write(index, session);
        }
    }

    fn closed(&mut self, index: usize, error: Option<ConnectionError>) {
        self.closed += 1;
        let why = error.map_or_else(|| "the server closed it".to_owned(), |e| e.to_string());
        self.last_closed = format!("session {index}: {why}");
    }
}
