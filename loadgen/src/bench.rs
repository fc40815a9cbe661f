//! Pairs of users exchange fully ticked messages as fast as a window allows: what does one cost?
//!
//! A message counts when its sender saw both `Sent` (durable) and the receipt that a device of
//! the recipient has it. The server's CPU is read from the kernel, so this works against any
//! server process on the same host. Closed loop on purpose: it asks for cost, not for latency
//! under a given load. Deliberately not here: judging the numbers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::{Address, AddressError, ClientEvent, ConnectionError, Seen, SessionOptions, TickMark};
use hdrhistogram::Histogram;
use serde::Serialize;
use wire::client::Session;
use wire::{ServerFrame, Stream};

use crate::swarm::{Handler, Swarm};
use crate::tokens::{Mint, MintError};
use crate::usage::{self, Cpu};
use crate::{echo, interrupt};

/// Longest wait without any progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Lifetime of the tokens.
const TOKEN_TTL_S: u64 = 24 * 3600;
/// First user; high, so that a bench never meets people.
const FIRST_USER: u64 = 7_000_000_000;
/// Messages per session that are sent before measuring: tables and paths are warm then.
const WARM_UP: u64 = 2;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the server.
    pub url: String,
    /// Its HS256 secret.
    pub auth_secret_file: PathBuf,
    /// Its process.
    pub server_pid: u32,
    /// Sessions; every one sends to its partner.
    pub sessions: usize,
    /// Messages under way per sender.
    pub in_flight: usize,
    /// Messages in all.
    pub messages: u64,
    /// Bytes per message.
    pub payload_bytes: usize,
    /// Measures a bare echo with as many round trips afterwards.
    pub echo: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Sessions.
    pub sessions: usize,
    /// Messages under way per sender.
    pub in_flight: usize,
    /// Fully ticked messages.
    pub messages: u64,
    /// How long they took.
    pub seconds: f64,
    /// Messages per second.
    pub messages_per_second: f64,
    /// Frames the server sent meanwhile.
    pub frames_from_server: u64,
    /// CPU of the server in all, seconds, by the scheduler's account.
    pub server_cpu_s: f64,
    /// Of it in user space, to 10 ms.
    pub server_user_s: f64,
    /// Of it in the kernel, to 10 ms.
    pub server_system_s: f64,
    /// CPU of the server per message, microseconds.
    pub server_cpu_us_per_message: f64,
    /// From `Send` to `Sent`, microseconds.
    pub sent_us: Percentiles,
    /// From `Send` to the receipt, microseconds.
    pub has_us: Percentiles,
    /// Sends that were refused for a time.
    pub delayed: u64,
    /// Connections that ended.
    pub closed: u64,
    /// The yardstick, measured in the same run.
    pub echo: Option<echo::Report>,
    /// CPU per message over CPU of an echo's round trip.
    pub echo_ratio: Option<f64>,
}

/// Of a distribution.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Half are below.
    pub p50: u64,
    /// 99 of 100 are below.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// Why a bench could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No tokens.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectionError),
    /// `poll` failed, or the echo.
    #[error("can't wait for sockets: {0}")]
    Poll(#[from] std::io::Error),
    /// The process can't be read.
    #[error("no process {0} to measure")]
    NoProcess(u32),
    /// Nothing happened for too long.
    #[error("nothing happened for {STALL_TIMEOUT:?}: {done} of {wanted} done; last closed: {last}")]
    Stalled {
        /// What was done.
        done: u64,
        /// Of how many.
        wanted: u64,
        /// Why the last connection ended, if one did.
        last: String,
    },
    /// Somebody wants the program to end.
    #[error("interrupted")]
    Interrupted,
}

/// Measures.
///
/// # Errors
/// See [`BenchError`].
pub fn run(options: &Options) -> Result<Report, BenchError> {
    usage::raise_file_limit();
    let mut swarm = Swarm::new()?;
    let mut play = Play::new(options);
    log_in(&mut swarm, &mut play, options)?;
    play.begin(WARM_UP * options.sessions as u64);
    exchange(&mut swarm, &mut play)?;
    let no_process = BenchError::NoProcess(options.server_pid);
    let before = usage::cpu(options.server_pid).ok_or(no_process)?;
    play.begin(options.messages);
    let started = Instant::now();
    exchange(&mut swarm, &mut play)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = usage::cpu(options.server_pid).unwrap_or_default().since(before);
    drop(swarm);
    let mut report = play.report(options, seconds, cpu);
    if options.echo {
        let echo = echo::measure(&echo::Options {
            sessions: options.sessions,
            in_flight: options.in_flight,
            round_trips: options.messages,
            payload_bytes: options.payload_bytes,
        })?;
        report.echo_ratio =
            Some(report.server_cpu_us_per_message / echo.server_cpu_us_per_round_trip);
        report.echo = Some(echo);
    }
    Ok(report)
}

fn log_in(swarm: &mut Swarm, play: &mut Play, options: &Options) -> Result<(), BenchError> {
    let mint = Mint::from_file(&options.auth_secret_file)?;
    let address = Address::parse(&options.url)?;
    for index in 0..options.sessions {
        let token = mint.token(FIRST_USER + index as u64, 1, TOKEN_TTL_S)?;
        let session_options =
            SessionOptions { ticks_until: TickMark::Has, ..SessionOptions::default() };
        swarm.add(Session::new(token, session_options));
        swarm.connect(index, &address, None)?;
        swarm.turn(Duration::ZERO, play)?;
    }
    let deadline = Instant::now() + STALL_TIMEOUT;
    while swarm.live_count() < options.sessions {
        stop_if_needed(deadline, swarm.live_count() as u64, options.sessions as u64, play)?;
        swarm.turn(Duration::from_millis(10), play)?;
    }
    Ok(())
}

/// Goes on until everything that was begun is fully ticked.
fn exchange(swarm: &mut Swarm, play: &mut Play) -> Result<(), BenchError> {
    for index in 0..swarm.len() {
        swarm.with(index, play, |session, play| play.write(index, session));
    }
    let mut done = play.done;
    let mut deadline = Instant::now() + STALL_TIMEOUT;
    while play.done < play.wanted {
        stop_if_needed(deadline, play.done, play.wanted, play)?;
        swarm.turn(Duration::from_millis(20), play)?;
        if play.done > done {
            done = play.done;
            deadline = Instant::now() + STALL_TIMEOUT;
        }
    }
    Ok(())
}

fn stop_if_needed(
    deadline: Instant,
    done: u64,
    wanted: u64,
    play: &Play,
) -> Result<(), BenchError> {
    if interrupt::requested() {
        return Err(BenchError::Interrupted);
    }
    if Instant::now() >= deadline {
        return Err(BenchError::Stalled { done, wanted, last: play.last_closed.clone() });
    }
    Ok(())
}

/// When a message was written, and how far it got.
#[derive(Clone, Copy, Debug)]
struct Flight {
    began: Instant,
}

#[derive(Debug)]
struct Play {
    in_flight: usize,
    payload: Vec<u8>,
    sessions: u64,
    /// Per session, by client id.
    flights: Vec<HashMap<u64, Flight>>,
    /// Messages still to be begun.
    left: u64,
    wanted: u64,
    done: u64,
    frames: u64,
    delayed: u64,
    closed: u64,
    last_closed: String,
    sent_us: Histogram<u64>,
    has_us: Histogram<u64>,
}

impl Play {
    fn new(options: &Options) -> Self {
        Self {
            in_flight: options.in_flight,
            payload: vec![b'm'; options.payload_bytes],
            sessions: options.sessions as u64,
            flights: vec![HashMap::new(); options.sessions],
            left: 0,
            wanted: 0,
            done: 0,
            frames: 0,
            delayed: 0,
            closed: 0,
            last_closed: String::new(),
            sent_us: histogram(),
            has_us: histogram(),
        }
    }

    /// So many messages from now on; counters start at zero.
    fn begin(&mut self, messages: u64) {
        self.left = messages;
        self.wanted = messages;
        self.done = 0;
        self.frames = 0;
        self.sent_us.reset();
        self.has_us.reset();
    }

    /// Fills the window of one session.
    fn write(&mut self, index: usize, session: &mut Session) {
        let Some(flights) = self.flights.get_mut(index) else { return };
        while self.left > 0 && flights.len() < self.in_flight {
            let partner = FIRST_USER + ((index as u64) ^ 1).min(self.sessions - 1);
            let Ok(client_id) = session.send(Stream::User(partner), &self.payload, 0) else {
                return;
            };
            flights.insert(client_id, Flight { began: Instant::now() });
            self.left -= 1;
        }
    }

    fn report(&self, options: &Options, seconds: f64, cpu: Cpu) -> Report {
        Report {
            sessions: options.sessions,
            in_flight: options.in_flight,
            messages: self.done,
            seconds,
            messages_per_second: self.done as f64 / seconds,
            frames_from_server: self.frames,
            server_cpu_s: cpu.scheduled_s,
            server_user_s: cpu.user_s,
            server_system_s: cpu.system_s,
            server_cpu_us_per_message: cpu.scheduled_s * 1e6 / self.done.max(1) as f64,
            sent_us: percentiles(&self.sent_us),
            has_us: percentiles(&self.has_us),
            delayed: self.delayed,
            closed: self.closed,
            echo: None,
            echo_ratio: None,
        }
    }
}

impl Handler for Play {
    fn frame(&mut self, _index: usize, _frame: &ServerFrame<'_>) -> Seen {
        self.frames += 1;
        Seen::Pass
    }

    fn event(&mut self, index: usize, session: &mut Session, event: ClientEvent) {
        match event {
            ClientEvent::Tick { client_id, mark, .. } => {
                let Some(flights) = self.flights.get_mut(index) else { return };
                let Some(flight) = flights.get(&client_id) else { return };
                let took = micros(flight.began.elapsed());
                if mark == TickMark::Sent {
                    self.sent_us.saturating_record(took);
                } else {
                    self.has_us.saturating_record(took);
                    flights.remove(&client_id);
                    self.done += 1;
                    self.write(index, session);
                }
            }
            ClientEvent::Delayed { .. } => self.delayed += 1,
            _ => {}
        }
    }

    fn closed(&mut self, index: usize, error: Option<ConnectionError>) {
        self.closed += 1;
        let why = error.map_or_else(|| "the server closed it".to_owned(), |e| e.to_string());
        self.last_closed = format!("session {index}: {why}");
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// From 1 us to 100 s, to two digits.
pub(crate) fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 100_000_000, 2) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants that are in order: {error}"),
    }
}

pub(crate) fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    Percentiles {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    }
}
