//! Senders who write to people who are not there, as fast as their windows allow.

use std::time::{Duration, Instant};

use client::{Address, ClientEvent, ConnectionError, SessionOptions, TickMark};
use wire::Stream;
use wire::client::Session;

use super::{Cost, DurableError, Options, cost};
use crate::bench::BenchError;
use crate::process::{Home, ServerProcess};
use crate::swarm::{Handler, Swarm};
use crate::tokens::Mint;
use crate::{interrupt, usage};

/// Longest wait without any progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const TOKEN_TTL_S: u64 = 24 * 3600;
/// First sender.
const FIRST_SENDER: u64 = 7_000_000_000;
/// First recipient.
const FIRST_RECIPIENT: u64 = 8_000_000_000;
/// Messages per sender before measuring: tables and paths are warm then.
const WARM_UP: u64 = 64;

/// Sends all messages and tells what the server took for them.
pub(super) fn fill(
    options: &Options,
    server: &ServerProcess,
    home: &Home,
) -> Result<Cost, DurableError> {
    let mut swarm = Swarm::new().map_err(BenchError::from)?;
    let mut senders = Senders::new(options);
    log_in(options, server, home, &mut swarm, &mut senders)?;
    senders.begin(WARM_UP * options.senders as u64);
    exchange(&mut swarm, &mut senders)?;
    let no_process = || BenchError::NoProcess(server.pid());
    let before = usage::cpu(server.pid()).ok_or_else(no_process)?;
    senders.begin(options.messages);
    let started = Instant::now();
    exchange(&mut swarm, &mut senders)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = usage::cpu(server.pid()).ok_or_else(no_process)?.since(before);
    Ok(cost(options.messages, seconds, cpu))
}

fn log_in(
    options: &Options,
    server: &ServerProcess,
    home: &Home,
    swarm: &mut Swarm,
    senders: &mut Senders,
) -> Result<(), BenchError> {
    let mint = Mint::new(home.secret());
    let address = Address::parse(&server.url("tcp"))?;
    for index in 0..options.senders {
        let token = mint.token(FIRST_SENDER + index as u64, 1, TOKEN_TTL_S)?;
        let session = SessionOptions { ticks_until: TickMark::Sent, ..SessionOptions::default() };
        swarm.add(Session::new(token, session));
        swarm.connect(index, &address, None)?;
        swarm.turn(Duration::ZERO, senders)?;
    }
    let deadline = Instant::now() + STALL_TIMEOUT;
    while swarm.live_count() < options.senders {
        senders.look(deadline)?;
        swarm.turn(Duration::from_millis(10), senders)?;
    }
    Ok(())
}

/// Goes on until everything that was begun is durable.
fn exchange(swarm: &mut Swarm, senders: &mut Senders) -> Result<(), BenchError> {
    for index in 0..swarm.len() {
        swarm.with(index, senders, |session, senders| senders.write(index, session));
    }
    let (mut done, mut deadline) = (senders.done, Instant::now() + STALL_TIMEOUT);
    while senders.done < senders.wanted {
        senders.look(deadline)?;
        swarm.turn(Duration::from_millis(20), senders)?;
        if senders.done > done {
            (done, deadline) = (senders.done, Instant::now() + STALL_TIMEOUT);
        }
    }
    Ok(())
}

struct Senders {
    in_flight: u32,
    payload: Vec<u8>,
    recipients: u64,
    /// Per sender: under way, and begun ever.
    under_way: Vec<(u32, u64)>,
    /// Messages still to be begun, all that are to be, and those that are durable.
    left: u64,
    wanted: u64,
    done: u64,
    last_closed: String,
}

impl Senders {
    fn new(options: &Options) -> Self {
        Self {
            in_flight: u32::try_from(options.in_flight).unwrap_or(u32::MAX),
            payload: vec![b'm'; options.payload_bytes],
            recipients: options.recipients.max(1),
            under_way: vec![(0, 0); options.senders],
            left: 0,
            wanted: 0,
            done: 0,
            last_closed: String::new(),
        }
    }

    fn begin(&mut self, messages: u64) {
        (self.left, self.wanted, self.done) = (messages, messages, 0);
    }

    /// Fills the window of one sender.
    fn write(&mut self, index: usize, session: &mut Session) {
        let Some((under_way, begun)) = self.under_way.get_mut(index) else { return };
        while self.left > 0 && *under_way < self.in_flight {
            let to = FIRST_RECIPIENT + index as u64 * self.recipients + *begun % self.recipients;
            if session.send(Stream::User(to), &self.payload, 0).is_err() {
                return;
            }
            *under_way += 1;
            *begun += 1;
            self.left -= 1;
        }
    }

    fn look(&self, deadline: Instant) -> Result<(), BenchError> {
        if interrupt::requested() {
            return Err(BenchError::Interrupted);
        }
        if Instant::now() >= deadline {
            let last = self.last_closed.clone();
            return Err(BenchError::Stalled { done: self.done, wanted: self.wanted, last });
        }
        Ok(())
    }
}

impl Handler for Senders {
    fn event(&mut self, index: usize, session: &mut Session, event: ClientEvent) {
        if let ClientEvent::Tick { mark: TickMark::Sent, .. } = event {
            if let Some((under_way, _)) = self.under_way.get_mut(index) {
                *under_way = under_way.saturating_sub(1);
            }
            self.done += 1;
            self.write(index, session);
        }
    }

    fn closed(&mut self, index: usize, error: Option<ConnectionError>) {
        let why = error.map_or_else(|| "the server closed it".to_owned(), |e| e.to_string());
        self.last_closed = format!("sender {index}: {why}");
    }
}
