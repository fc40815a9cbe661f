//! What a session costs that does nothing: the server's memory before and after many logins.
//!
//! Deliberately not here: the kernel's share of a socket, which is not in the server's RSS.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::{Address, AddressError, ClientEvent, ConnectionError, SessionOptions};
use serde::Serialize;
use wire::client::Session;

use crate::interrupt;
use crate::swarm::{Handler, Swarm};
use crate::tokens::{Mint, MintError};
use crate::usage::{self, Memory};

/// Sessions that share one source address: well below the ports one address has.
const SESSIONS_PER_SOURCE: usize = 4_000;
/// Longest wait for the welcomes.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// After the last login so long passes before memory is read.
const CALM: Duration = Duration::from_secs(2);
/// Lifetime of the tokens.
const TOKEN_TTL_S: u64 = 24 * 3600;
/// First user; high, so that a measurement never meets people.
const FIRST_USER: u64 = 8_000_000_000;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the server, on loopback.
    pub url: String,
    /// Its HS256 secret.
    pub auth_secret_file: PathBuf,
    /// Its process.
    pub server_pid: u32,
    /// Sessions.
    pub sessions: usize,
    /// Sessions that log in before anything is counted: buffers and paths used for the first
    /// time are paid then.
    pub warm_up: usize,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// Sessions logged in at the end, those of the warm-up included.
    pub sessions: usize,
    /// How long logging in took.
    pub seconds: f64,
    /// Resident bytes of the server before the first login.
    pub resident_bytes_fresh: u64,
    /// After the warm-up.
    pub resident_bytes_before: u64,
    /// With half of the sessions.
    pub resident_bytes_half: u64,
    /// With all of them.
    pub resident_bytes_after: u64,
    /// Growth since the start, warm-up and all, per session.
    pub bytes_per_session: f64,
    /// Growth since the warm-up, per session: without what is paid once.
    pub bytes_per_session_after_warm_up: f64,
    /// Growth over the second half, per session.
    pub bytes_per_session_second_half: f64,
    /// Connections that ended.
    pub closed: u64,
}

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum IdleError {
    /// No tokens.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No connection.
    #[error("session {index}: {source}")]
    Connect {
        /// Which one.
        index: usize,
        /// Why.
        source: ConnectionError,
    },
    /// `poll` failed.
    #[error("can't wait for sockets: {0}")]
    Poll(#[from] std::io::Error),
    /// The process can't be read.
    #[error("no process {0} to measure")]
    NoProcess(u32),
    /// Not everybody was welcomed.
    #[error("{live} of {wanted} sessions logged in; last closed: {last}")]
    NotWelcome {
        /// How many were.
        live: usize,
        /// Of how many.
        wanted: usize,
        /// Why the last connection ended, if one did.
        last: String,
    },
    /// Somebody wants the program to end.
    #[error("interrupted")]
    Interrupted,
}

#[derive(Debug, Default)]
struct Watch {
    closed: u64,
    last_closed: String,
}

impl Handler for Watch {
    fn event(&mut self, index: usize, _session: &mut Session, event: ClientEvent) {
        if let ClientEvent::Goodbye { reason, detail, .. } = event {
            self.last_closed = format!("session {index}: {} {detail}", reason.name());
        }
    }

    fn closed(&mut self, index: usize, error: Option<ConnectionError>) {
        self.closed += 1;
        if let Some(error) = error {
            self.last_closed = format!("session {index}: {error}");
        }
    }
}

/// Measures.
///
/// # Errors
/// See [`IdleError`].
pub fn run(options: &Options) -> Result<Report, IdleError> {
    usage::raise_file_limit();
    let read = || {
        let no_process = IdleError::NoProcess(options.server_pid);
        usage::memory(options.server_pid).ok_or(no_process)
    };
    let mint = Mint::from_file(&options.auth_secret_file)?;
    let address = Address::parse(&options.url)?;
    let mut swarm = Swarm::new()?;
    let mut watch = Watch::default();
    let fresh: Memory = read()?;
    let warm = options.warm_up;
    let half = warm + options.sessions / 2;
    let all = warm + options.sessions;
    log_in(&mut swarm, &mut watch, &mint, &address, 0..warm)?;
    let before = read()?;
    let started = Instant::now();
    log_in(&mut swarm, &mut watch, &mint, &address, warm..half)?;
    let at_half = read()?;
    log_in(&mut swarm, &mut watch, &mint, &address, half..all)?;
    let seconds = started.elapsed().as_secs_f64();
    let after = read()?;
    let growth = |from: Memory, sessions: usize| {
        (after.resident_bytes as f64 - from.resident_bytes as f64) / sessions.max(1) as f64
    };
    Ok(Report {
        sessions: swarm.live_count(),
        seconds,
        resident_bytes_fresh: fresh.resident_bytes,
        resident_bytes_before: before.resident_bytes,
        resident_bytes_half: at_half.resident_bytes,
        resident_bytes_after: after.resident_bytes,
        bytes_per_session: growth(fresh, all),
        bytes_per_session_after_warm_up: growth(before, options.sessions),
        bytes_per_session_second_half: growth(at_half, all - half),
        closed: watch.closed,
    })
}

/// Logs these in and lets some calm time pass with all of them alive.
fn log_in(
    swarm: &mut Swarm,
    watch: &mut Watch,
    mint: &Mint,
    address: &Address,
    indices: std::ops::Range<usize>,
) -> Result<(), IdleError> {
    let wanted = indices.end;
    for index in indices {
        let token = mint.token(FIRST_USER + index as u64, 1, TOKEN_TTL_S)?;
        swarm.add(Session::new(token, SessionOptions::default()));
        let connected = swarm.connect(index, address, source(address, index));
        connected.map_err(|source| IdleError::Connect { index, source })?;
        if index % 8 == 0 {
            swarm.turn(Duration::ZERO, watch)?;
        }
    }
    let deadline = Instant::now() + LOGIN_TIMEOUT;
    let mut calm_since = None;
    loop {
        if interrupt::requested() {
            return Err(IdleError::Interrupted);
        }
        swarm.turn(Duration::from_millis(10), watch)?;
        let live = swarm.live_count();
        if live < wanted {
            calm_since = None;
            if Instant::now() >= deadline {
                let last = watch.last_closed.clone();
                return Err(IdleError::NotWelcome { live, wanted, last });
            }
        } else if calm_since.get_or_insert_with(Instant::now).elapsed() >= CALM {
            return Ok(());
        }
    }
}

/// Many clients of one loopback address would run out of ports: they are spread.
fn source(address: &Address, index: usize) -> Option<IpAddr> {
    let target: Ipv4Addr = address.host.parse().ok()?;
    if !target.is_loopback() || !cfg!(target_os = "linux") {
        return None; // elsewhere only 127.0.0.1 exists
    }
    let [a, b, c, d] = target.octets();
    let step = u8::try_from(index / SESSIONS_PER_SOURCE % 200).unwrap_or(0);
    Some(IpAddr::V4(Ipv4Addr::new(a, b, c.wrapping_add(step), d)))
}
