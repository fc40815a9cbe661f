//! Starts a thread per shard, pins it, and ends them all together.

use super::{LateBell, ServeError, Sizes, history, side, spawn, wait_until};
use crate::auth::Keys;
use crate::clock::HostClock;
use crate::config::{Config, Driver};
use crate::io;
use crate::io::ready::Ready;
#[cfg(target_os = "linux")]
use crate::io::uring::Uring;
use crate::limits;
use crate::log::{MapReader, Stage};
use crate::metrics::Counters;
use crate::path::Rules;
use crate::ring;
use crate::shard::{Desk, Drain, Parts, Pressure, Shard};
use crate::state::placement::Placement;
use crate::state::{Positions, Tables};
use crate::sys;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the shards are started with.
pub(super) struct Start<'a> {
    pub(super) config: &'a Config,
    pub(super) sizes: &'a Sizes,
    pub(super) keys: Arc<Keys>,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) tables: Vec<Tables>,
    pub(super) stages: Vec<Stage>,
    pub(super) epoch: u32,
    pub(super) expiry_held: bool,
    pub(super) side: &'a side::Threads,
    pub(super) history: Option<&'a history::Thread>,
    pub(super) bells: &'a [Arc<LateBell>],
    pub(super) driver: Driver,
}

/// The running shards.
pub(super) struct Running {
    threads: Vec<JoinHandle<Result<(), String>>>,
    drains: Vec<Arc<Drain>>,
    bells: Vec<Arc<LateBell>>,
    pressures: Vec<Arc<Pressure>>,
    ended: Arc<Mutex<Option<(usize, String)>>>,
    desk: Desk,
}

/// Starts a thread per shard, with the driver chosen.
pub(super) fn start(mut start: Start<'_>) -> Result<Running, ServeError> {
    let listeners = std::mem::take(&mut start.listeners);
    let fail = |error| ServeError::Listen(start.config.listen, error);
    let conns_max = start.sizes.conns_max;
    match start.driver {
        #[cfg(target_os = "linux")]
        Driver::Uring => {
            let files = u32::try_from(start.sizes.files).unwrap_or(u32::MAX);
            let make = |listener| Uring::new(listener, conns_max, limits::RECEIVE_BYTES, files);
            let drivers: Result<Vec<_>, _> = listeners.into_iter().map(make).collect();
            start_with(drivers.map_err(fail)?, start)
        }
        _ => {
            let make = |listener| Ready::new(listener, conns_max, limits::RECEIVE_BYTES);
            let drivers: Result<Vec<_>, _> = listeners.into_iter().map(make).collect();
            start_with(drivers.map_err(fail)?, start)
        }
    }
}

fn start_with<D>(drivers: Vec<D>, start: Start<'_>) -> Result<Running, ServeError>
where
    D: io::Driver + Send + 'static,
{
    let Start { config, sizes, keys, tables, stages, .. } = start;
    let Start { epoch, expiry_held, side, history, bells, .. } = start;
    for (driver, bell) in drivers.iter().zip(bells) {
        bell.hang(driver.doorbell());
    }
    let doorbells: Vec<_> = drivers.iter().map(io::Driver::doorbell).collect();
    side.hang(&doorbells);
    if let Some(history) = history {
        history.hang(&doorbells);
    }
    let desk = Desk::new(&doorbells);
    let credits = (limits::CREDITS_PER_SHARD / config.shards)
        .clamp(limits::CREDITS_PER_PAIR_MIN, limits::CREDITS_PER_PAIR_MAX);
    let mailboxes = ring::mesh(config.shards, credits, doorbells);
    let rules = Arc::new(rules_of(config, sizes));
    let cores = sys::cores().unwrap_or_default();
    let clock = HostClock::start();
    let epochs = Arc::new(AtomicU32::new(epoch));
    let mut running = Running {
        threads: Vec::new(),
        drains: Vec::new(),
        bells: bells.to_vec(),
        pressures: Vec::new(),
        ended: Arc::default(),
        desk,
    };
    let pieces = drivers.into_iter().zip(mailboxes).zip(tables).zip(stages);
    for (me, (((driver, mailbox), tables), stage)) in pieces.enumerate() {
        let drain = Arc::new(Drain::default());
        let pressure = Arc::new(Pressure::default());
        running.drains.push(Arc::clone(&drain));
        running.pressures.push(Arc::clone(&pressure));
        let parts = Parts {
            me,
            doorbell: driver.doorbell(),
            driver,
            reader: MapReader::open(&config.data),
            stage,
            mailbox,
            tables,
            positions: Positions::new(epoch),
            epochs: Arc::clone(&epochs),
            placement: Placement::new(config.shards),
            rules: Arc::clone(&rules),
            keys: Arc::clone(&keys),
            side: Some(side.of(me, history.and_then(|history| history.of(me)))),
            orders: running.desk.of(me),
            expiry_held,
            drain: Arc::clone(&drain),
            pressure,
            sessions_max: sizes.sessions_max,
            credits,
        };
        let core = (cores.len() >= config.shards).then(|| cores[me]);
        let ended = Arc::clone(&running.ended);
        running.threads.push(spawn(&format!("shard-{me}"), move || {
            let result = body(parts, core, clock, &drain);
            if let Err(error) = &result {
                let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                ended.get_or_insert((me, error.clone()));
            }
            result
        })?);
    }
    Ok(running)
}

/// The thread of one shard.
fn body<D: io::Driver>(
    parts: Parts<D, MapReader>,
    core: Option<usize>,
    clock: HostClock,
    drain: &Drain,
) -> Result<(), String> {
    if let Some(core) = core {
        let _unpinned_is_only_slower = sys::pin_thread(core);
    }
    let mut shard = Shard::new(parts, clock.now());
    let result = loop {
        match shard.turn(&|| clock.now(), true) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    let report = (shard.tables().counters.clone(), 0);
    *drain.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    result
}

impl Running {
    /// A shard that ended by itself, with its reason.
    pub(super) fn ended(&self) -> Option<(usize, String)> {
        let told = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        told.or_else(|| {
            let dead = self.threads.iter().position(JoinHandle::is_finished)?;
            Some((dead, "its thread stopped".to_owned()))
        })
    }

    /// Finishes what is under way, says goodbye, ends. Returns what all shards counted.
    pub(super) fn drain(self, drain_ms: u64) -> Counters {
        let time = Duration::from_millis(drain_ms);
        let began = Instant::now();
        self.signal(1);
        let mut quiet_looks = 0;
        wait_until(time / 2, || {
            let quiet = self.drains.iter().all(|drain| drain.quiet.load(Ordering::Acquire));
            quiet_looks = if quiet { quiet_looks + 1 } else { 0 };
            quiet_looks >= 3
        });
        self.signal(2);
        let rest = time.saturating_sub(began.elapsed());
        let ended = wait_until(rest, || self.threads.iter().all(JoinHandle::is_finished));
        let mut counters = Counters::default();
        let mut left = 0;
        for drain in &self.drains {
            let report = drain.report.lock().unwrap_or_else(PoisonError::into_inner);
            counters.add(&report.0);
            left += report.1;
        }
        if !ended {
            eprintln!(
                "myriad: drain_ms is over; closing what is left: {left} connections without a \
                 goodbye, or still reading it. What is counted below may lack the last moment"
            );
        }
        counters
    }

    /// What the shards and the main thread tell each other of their load.
    pub(super) fn pressures(&self) -> &[Arc<Pressure>] {
        &self.pressures
    }

    /// The ways for orders into the shards.
    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }

    fn signal(&self, phase: u8) {
        for (drain, bell) in self.drains.iter().zip(&self.bells) {
            drain.phase.store(phase, Ordering::Release);
            bell.ring();
        }
    }
}

pub(super) fn rules_of(config: &Config, sizes: &Sizes) -> Rules {
    Rules {
        heartbeat_ms: config.heartbeat_ms,
        payload_bytes_max: config.payload_bytes_max,
        retention_s: config.retention_s,
        inbox_messages_max: config.inbox_messages_max,
        inbox_bytes_max: config.inbox_bytes_max,
        inbox_messages_per_sender_max: config.inbox_messages_per_sender_max,
        inbox_bytes_per_sender_max: config.inbox_bytes_per_sender_max,
        unknown_users_allowed: config.unknown_users_allowed,
        origins: config.origins.clone(),
        admitted_at_once_max: sizes.admitted_at_once_max,
        unknown_conns_max: sizes.strangers_max,
        unknown_conns_per_source_max: config.unknown_conns_per_source_max,
        messages_per_second_max: config.messages_per_second_max,
        logins_per_second_max: config.logins_per_second_max,
        groups: config.groups,
    }
}
