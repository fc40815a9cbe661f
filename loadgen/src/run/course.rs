//! What the threads of a run share: the scenario, the clock, and what each tells the others.
//!
//! Threads play the same phases by the same clock; all they are told is when the first one begins
//! and when to stop. Deliberately not here: what a thread does (`player`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::groups::Plan;
use super::scenario::{Scenario, Shape, Traffic};
use super::schedule::{Rate, micros};
use crate::protocol::{Promises, Protocol};

/// See the module.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) scenario: Scenario,
    /// The groups, in runs that have some.
    pub(crate) plan: Option<Plan>,
    /// In every payload: others' messages may still wait on the server.
    pub(crate) run: u64,
    /// At least one; see [`Course::server`].
    pub(crate) servers: Vec<Server>,
    /// Source addresses, taken in turn; empty: the host's choice.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) threads: u32,
    pub(crate) legs: Vec<Leg>,
    pub(crate) gauges: Vec<Gauge>,
    started: Instant,
    /// When the first phase begins; 0: not known yet.
    begin_us: AtomicU64,
    stop: AtomicBool,
    /// Raised once a second: hand over what was counted.
    second: AtomicU64,
}

/// One server of a run.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) address: SocketAddr,
}

/// One phase on the run's clock, seconds and microseconds since the first began.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) start_us: u64,
    pub(crate) end_us: u64,
    pub(crate) rate: Rate,
    pub(crate) traffic: Traffic,
    /// Clients with smaller numbers are connected.
    pub(crate) online: u32,
    pub(crate) churn_per_second: f64,
    /// Every connection is cut at the start; so many come back per second (0: all at once).
    pub(crate) storm: Option<f64>,
}

/// What a thread tells the others, every turn.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Clients that are logged in.
    pub(crate) ready: AtomicU64,
    /// Clients that are to be.
    pub(crate) wanted: AtomicU64,
    /// Clients that will never be: refused for good.
    pub(crate) hopeless: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// Copies that are to arrive: of a message to a group one for each other member.
    pub(crate) expected: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) arrived: AtomicU64,
    pub(crate) under_way: AtomicU64,
}

impl Course {
    pub(crate) fn new(
        scenario: Scenario,
        servers: Vec<Server>,
        sources: Vec<IpAddr>,
        threads: u32,
    ) -> Self {
        let legs = legs(&scenario);
        let mut gauges = Vec::new();
        gauges.resize_with(threads as usize, Gauge::default);
        Self {
            plan: scenario.plan(),
            scenario,
            run: client::random_bits(),
            servers,
            sources,
            threads,
            legs,
            gauges,
            started: Instant::now(),
            begin_us: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            second: AtomicU64::new(0),
        }
    }

    /// Microseconds of the run's clock.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Lets the first phase begin then.
    pub(crate) fn begin(&self, at_us: u64) {
        self.begin_us.store(at_us.max(1), Ordering::Release);
    }

    /// When the first phase begins, once that is known.
    pub(crate) fn begun_us(&self) -> Option<u64> {
        Some(self.begin_us.load(Ordering::Acquire)).filter(|at| *at > 0)
    }

    /// When the last phase is over, once that is known.
    pub(crate) fn end_us(&self) -> Option<u64> {
        let length = self.legs.last().map_or(0, |leg| leg.end_us);
        self.begun_us().map(|begun| begun + length)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Asks for what was counted; returns the number of the request.
    pub(crate) fn ask(&self) -> u64 {
        self.second.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn asked(&self) -> u64 {
        self.second.load(Ordering::Acquire)
    }

    /// Index of the server of a client: that of its partner, so that pairs can talk.
    pub(crate) fn server(&self, number: u32) -> usize {
        number as usize / 2 % self.servers.len().max(1)
    }

    /// What all servers of the run promise.
    pub(crate) fn promises(&self) -> Promises {
        // All are opened alike, and there is at least one.
        self.servers.first().map(|server| server.protocol.promises()).unwrap_or_default()
    }

    /// Whether the servers are on this host.
    pub(crate) fn is_loopback(&self) -> bool {
        self.servers.iter().all(|server| server.address.ip().is_loopback())
    }

    /// A gauge, summed over the threads.
    pub(crate) fn sum(&self, gauge: impl Fn(&Gauge) -> &AtomicU64) -> u64 {
        self.gauges.iter().map(|thread| gauge(thread).load(Ordering::Relaxed)).sum()
    }

    /// Clients connected before the first phase.
    pub(crate) fn online_first(&self) -> u32 {
        self.legs.first().map_or(0, |leg| leg.online)
    }

    /// What a client is there for.
    pub(crate) fn role(&self, number: u32) -> Role {
        // A step that meets every remainder of 100 spreads the few evenly over the numbers.
        let place = u64::from(number) * 37 % 100;
        let clients = &self.scenario.clients;
        if place < u64::from(clients.hostile_percent) {
            Role::Hostile
        } else if place < u64::from(clients.hostile_percent + clients.slow_percent) {
            Role::Slow
        } else {
            Role::Plain
        }
    }
}

/// What a client is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Plain,
    /// Reads slowly.
    Slow,
    /// Breaks rules and never logs in.
    Hostile,
}

fn legs(scenario: &Scenario) -> Vec<Leg> {
    let mut legs = Vec::new();
    let mut start_us = 0;
    let mut rate_before = 0.0;
    let mut online_percent = 100.0;
    for phase in &scenario.phases {
        let to = phase.messages_per_second;
        let from = if phase.shape == Shape::Ramp { rate_before } else { to };
        online_percent = phase.online_percent.unwrap_or(online_percent);
        let end_us = start_us + micros(phase.seconds);
        legs.push(Leg {
            start_us,
            end_us,
            rate: Rate { from, to, seconds: phase.seconds },
            traffic: phase.traffic,
            online: scenario.online(online_percent),
            churn_per_second: phase.churn_per_second,
            storm: phase.storm.then_some(phase.storm_per_second),
        });
        if phase.shape != Shape::Spike {
            rate_before = to;
        }
        start_us = end_us;
    }
    legs
}
