//! The whole run from one thread: start, a look every second, the wait at the end, the report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::course::{Course, Role};
use super::player::{Outcome, Player};
use super::scenario::Scenario;
use super::schedule::micros;
use super::tally::Tally;
use super::{Options, RunError, host, preflight, sockets, verdict};
use crate::interrupt;
use crate::live::{Moment, Progress};
use crate::report::machine::Machine;
use crate::report::{
    FORMAT, Generator, Oracle, Report, SERIES_MAX, Second, Server, Sessions, Target, Time, Versions,
};
use crate::usage::{self, Cpu, Memory};

/// How often the run is looked at.
const LOOK: Duration = Duration::from_millis(50);
const SECOND_US: u64 = 1_000_000;
/// Between the last login and the first phase: memory is read when things are calm.
const CALM_US: u64 = 1_000_000;
/// With clients away at the end nobody knows what is still to come; so long nothing came.
const QUIET_US: u64 = 2_000_000;
/// Threads of one run.
const THREADS_MAX: u32 = 1_024;
/// From so many clients on their memory can be told from the noise.
const CLIENTS_MEASURABLE: u64 = 5_000;

/// Plays a scenario; `view` makes the view once the scenario is known to be sound.
///
/// # Errors
/// It can't begin; see [`RunError`]. What goes wrong later is in the report.
pub fn run(
    options: &Options,
    view: &mut dyn FnMut(&str) -> Box<dyn Progress>,
) -> Result<Report, RunError> {
    let scenario = prepare(options)?;
    let secret = options.auth_secret_file.as_deref();
    let reads = scenario.clients.read_percent > 0;
    let protocol =
        crate::protocol::open(&options.target, secret, reads).map_err(RunError::Arguments)?;
    let (name, port) = protocol.target();
    let target = preflight::resolve(name, port)?;
    let sessions = scenario.clients.sessions;
    let sources = host::sources(options.sources.as_deref(), target.ip(), sessions)
        .map_err(RunError::Arguments)?;
    let timeout = Duration::from_secs_f64(scenario.clients.connect_timeout_seconds);
    preflight::check(protocol.as_ref(), target, timeout)?;
    usage::raise_file_limit();
    let cores = thread::available_parallelism().map_or(1, |count| count.get());
    let threads = options.threads.unwrap_or(u32::try_from(cores).unwrap_or(1));
    let threads = threads.clamp(1, THREADS_MAX.min(sessions));
    let course = Arc::new(Course::new(scenario, protocol, target, sources, threads));
    let mut run = Run::start(course, options)?;
    let mut view = view(&run.course.scenario.name);
    let interrupted = run.play(&mut *view);
    let report = run.finish(options, interrupted)?;
    view.finish(&report);
    Ok(report)
}

fn prepare(options: &Options) -> Result<Scenario, RunError> {
    let mut scenario = Scenario::load(&options.scenario)?;
    if let Some(sessions) = options.sessions {
        scenario.clients.sessions = sessions;
    }
    if let Some(rate) = options.rate {
        scenario.set_rate(rate).map_err(RunError::Arguments)?;
    }
    let name = &options.scenario;
    scenario.check().map_err(|why| RunError::Arguments(format!("{name}: {why}")))?;
    Ok(scenario)
}

/// What was read of the processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    server: Option<Memory>,
    server_cpu: Option<Cpu>,
    own: Option<Memory>,
    slab_bytes: Option<u64>,
}

struct Run {
    course: Arc<Course>,
    threads: Vec<JoinHandle<Result<Outcome, String>>>,
    tallies: Receiver<Tally>,
    total: Tally,
    news: Vec<String>,
    known_reasons: BTreeMap<String, u64>,
    series: Vec<Second>,
    engine: &'static str,
    server_pid: Option<u32>,
    started_unix_ms: u64,
    before: Reading,
    /// With everybody there, before the first phase.
    there: Reading,
    most_ready: u64,
    /// From the first login to the last of the opening.
    opening_us: u64,
    opening_logins: u64,
}

impl Run {
    /// Opens the engines and lets the threads begin to connect.
    fn start(course: Arc<Course>, options: &Options) -> Result<Self, RunError> {
        let (sender, tallies) = channel();
        let (ready, opened) = channel();
        let mut threads = Vec::new();
        let before = read(options.server_pid);
        for part in 0..course.threads {
            let (course, sender, ready) = (Arc::clone(&course), sender.clone(), ready.clone());
            let engine = options.engine;
            let body = move || play_thread(&course, part, engine, sender, &ready);
            let spawned = thread::Builder::new().name(format!("clients-{part}")).spawn(body);
            let spawned =
                spawned.map_err(|error| RunError::Engine(format!("no thread: {error}")))?;
            threads.push(spawned);
        }
        drop(ready); // a thread that panics must not be waited for
        let mut names = Vec::new();
        let mut news = Vec::new();
        for answer in opened.iter().take(threads.len()) {
            match answer {
                Ok((name, why_not)) => {
                    if names.is_empty() {
                        news.extend(why_not);
                    }
                    names.push(name);
                }
                Err(why) => {
                    course.stop();
                    return Err(RunError::Engine(why));
                }
            }
        }
        let engine = names.first().copied().unwrap_or("none");
        let limits = host::limits(
            course.sources.len(),
            course.target.ip().is_loopback(),
            engine != sockets::URING,
        );
        let sessions = u64::from(course.scenario.clients.sessions);
        news.extend(host::first_limit(&limits, sessions));
        Ok(Self {
            course,
            threads,
            tallies,
            total: Tally::new(),
            news,
            known_reasons: BTreeMap::new(),
            series: Vec::new(),
            engine,
            server_pid: options.server_pid,
            started_unix_ms: unix_ms(),
            before,
            there: before,
            most_ready: 0,
            opening_us: 0,
            opening_logins: 0,
        })
    }

    /// Goes through all stages; whether it was interrupted.
    fn play(&mut self, view: &mut dyn Progress) -> bool {
        let mut next_second_us = SECOND_US;
        let mut quiet = Quiet::default();
        let mut calm_from_us = None;
        loop {
            thread::sleep(LOOK);
            let now_us = self.course.now_us();
            if now_us >= next_second_us {
                next_second_us += SECOND_US;
                self.second(now_us, view);
            }
            let interrupted = interrupt::requested();
            let ended = self.threads.iter().any(JoinHandle::is_finished);
            if interrupted || ended {
                return interrupted;
            }
            if self.course.begun_us().is_none() {
                if calm_from_us.is_none() && self.opening_is_over(now_us) {
                    calm_from_us = Some(now_us);
                    self.opening_us = now_us;
                    self.opening_logins = self.course.sum(|gauge| &gauge.ready);
                }
                if calm_from_us.is_some_and(|from| now_us >= from + CALM_US) {
                    self.there = read(self.server_pid);
                    self.course.begin(now_us);
                }
            } else if self.course.end_us().is_some_and(|end| now_us >= end)
                && self.is_drained(now_us, &mut quiet)
            {
                return false;
            }
        }
    }

    /// Everybody is there, or can't be expected any more.
    fn opening_is_over(&self, now_us: u64) -> bool {
        let course = &self.course;
        let ready = course.sum(|gauge| &gauge.ready);
        let hopeless = course.sum(|gauge| &gauge.hopeless);
        let clients = &course.scenario.clients;
        let opening = f64::from(course.online_first()) / clients.connects_per_second;
        let latest = micros(opening + clients.connect_timeout_seconds);
        ready + hopeless >= self.wanted() || now_us > latest
    }

    /// Clients that are to be connected now and mean to log in.
    fn wanted(&self) -> u64 {
        self.course.sum(|gauge| &gauge.wanted)
    }

    fn is_drained(&self, now_us: u64, quiet: &mut Quiet) -> bool {
        let course = &self.course;
        let end_us = course.end_us().unwrap_or(0);
        if now_us >= end_us + micros(course.scenario.ending.drain_seconds) {
            return true;
        }
        let sent = course.sum(|gauge| &gauge.sent);
        let answered = course.sum(|gauge| &gauge.answered);
        let arrived = course.sum(|gauge| &gauge.arrived);
        let under_way = course.sum(|gauge| &gauge.under_way);
        if sent <= answered && sent <= arrived && under_way == 0 {
            return true;
        }
        let clients = u64::from(course.scenario.clients.sessions);
        let somebody_away = self.wanted() < clients && under_way == 0;
        quiet.is_long(answered + arrived, now_us) && somebody_away
    }

    /// Collects what the threads counted, and shows it.
    fn second(&mut self, now_us: u64, view: &mut dyn Progress) {
        self.course.ask();
        let mut counted = Tally::new();
        for _ in 0..self.threads.len() {
            match self.tallies.recv_timeout(LOOK) {
                Ok(tally) => counted.add(tally),
                // A thread that is busy: its counts come with the next second.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let (phase_number, phase) = self.phase(now_us);
        let ready = self.course.sum(|gauge| &gauge.ready);
        self.most_ready = self.most_ready.max(ready);
        let length_s = self.series.last().map_or(1.0, |last| now_us as f64 / 1e6 - last.at_s);
        let second = Second {
            at_s: now_us as f64 / 1e6,
            phase,
            sessions: ready,
            logins: counted.logins,
            failed: counted.failed,
            sent_per_second: counted.messages.sent as f64 / length_s,
            delivered_per_second: counted.messages.delivered as f64 / length_s,
            wrong: counted.messages.wrong(),
            latency_us: counted.brief(),
            behind_us: counted.behind_us.max(),
        };
        self.total.add(counted);
        for (reason, count) in &self.total.reasons {
            if !self.known_reasons.contains_key(reason) {
                self.news.push(format!("{reason} ({count} so far)"));
                self.known_reasons.insert(reason.clone(), *count);
            }
        }
        let length = self.course.legs.last().map_or(1, |leg| leg.end_us).max(1);
        let into = self.course.begun_us().map_or(0, |begun| now_us.saturating_sub(begun));
        view.second(&Moment {
            second: second.clone(),
            sessions_target: self.wanted(),
            phase_number,
            phases: self.course.legs.len(),
            done: (into as f64 / length as f64).min(1.0),
            messages: self.total.messages,
            failed: self.total.failed,
            news: std::mem::take(&mut self.news),
        });
        if self.series.len() < SERIES_MAX {
            self.series.push(second);
        }
    }

    /// Number and name of what is played now.
    fn phase(&self, now_us: u64) -> (usize, String) {
        let Some(begun_us) = self.course.begun_us() else { return (0, "connect".to_owned()) };
        let into = now_us.saturating_sub(begun_us);
        let legs = self.course.legs.iter().zip(&self.course.scenario.phases);
        let mut numbered = legs.enumerate();
        match numbered.find(|(_, (leg, _))| into < leg.end_us) {
            Some((index, (_, phase))) => (index + 1, phase.name.clone()),
            None => (self.course.legs.len(), "drain".to_owned()),
        }
    }

    /// Stops the threads and sums everything up.
    fn finish(mut self, options: &Options, interrupted: bool) -> Result<Report, RunError> {
        let end_us = self.course.now_us();
        let after = read(self.server_pid);
        let own_cpu = usage::cpu(std::process::id());
        let at_end = self.course.sum(|gauge| &gauge.ready);
        let absent = self.wanted().saturating_sub(at_end);
        self.course.stop();
        let mut outcomes = Vec::new();
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(Ok(outcome)) => outcomes.push(outcome),
                Ok(Err(why)) => return Err(RunError::Engine(why)),
                Err(_) => return Err(RunError::Engine("a thread of clients panicked".to_owned())),
            }
        }
        for tally in self.tallies.try_iter() {
            self.total.add(tally);
        }
        for outcome in &mut outcomes {
            self.total.add(std::mem::replace(&mut outcome.ledger.tally, Tally::new()));
        }
        verdict::close_books(&outcomes, &mut self.total, end_us);
        let scenario = &self.course.scenario;
        let latencies = verdict::latencies(&self.total);
        let thresholds = verdict::judge(&scenario.thresholds, &self.total, &latencies, absent);
        let invalid_because = verdict::invalid_because(scenario, &self.total, absent, interrupted);
        let protocol = self.course.protocol.name();
        Ok(Report {
            format: FORMAT,
            valid: invalid_because.is_empty(),
            invalid_because,
            messages: self.total.messages,
            sessions: self.sessions(),
            latency_us: latencies,
            server: self.server(after),
            thresholds,
            scenario: crate::report::Scenario {
                name: scenario.name.clone(),
                parameters: parameters(&self.course, options),
            },
            target: Target { protocol, url: options.target.clone() },
            versions: Versions::new(options.server_version.clone()),
            time: Time { started_unix_ms: self.started_unix_ms, duration_s: end_us as f64 / 1e6 },
            generator: self.generator(own_cpu),
            machine: Machine::read(),
            series: self.series,
            oracle: Oracle {
                examples: self.total.examples,
                left_out: self.total.examples_left_out,
            },
        })
    }

    fn sessions(&self) -> Sessions {
        let course = &self.course;
        let all = 0..course.scenario.clients.sessions;
        let target = all.filter(|number| course.role(*number) != Role::Hostile).count();
        Sessions {
            target: target as u64,
            established: self.most_ready.max(self.opening_logins),
            failed: self.total.failed,
            per_second: self.opening_logins as f64 * 1e6 / self.opening_us.max(1) as f64,
        }
    }

    fn server(&self, after: Reading) -> Server {
        let sessions = self.opening_logins.max(1) as f64;
        let grown = |before: Option<u64>, after: Option<u64>| {
            Some((after?.saturating_sub(before?)) as f64 / sessions)
        };
        let resident = |reading: &Reading| reading.server.map(|memory| memory.resident_bytes);
        let ends = if self.course.target.ip().is_loopback() { 2.0 } else { 1.0 };
        let is_known = self.server_pid.is_some() && self.before.server.is_some();
        let slab = grown(self.before.slab_bytes, self.there.slab_bytes).filter(|_| is_known);
        let cpu = match (self.there.server_cpu, after.server_cpu) {
            (Some(before), Some(after)) => Some(after.since(before)),
            _ => None,
        };
        let delivered = self.total.messages.delivered;
        Server {
            pid: self.server_pid,
            rss_bytes_before: resident(&self.before),
            rss_bytes_after: resident(&self.there),
            user_bytes_per_session: grown(resident(&self.before), resident(&self.there)),
            kernel_bytes_per_session: slab.map(|bytes| bytes / ends),
            memory_method: is_known.then(|| {
                let share = if ends > 1.0 { ", of which half is the clients' end" } else { "" };
                format!(
                    "growth from before the first login to {} s after the last: VmRSS of the \
                     process; Slab of this host's kernel{share}",
                    CALM_US / SECOND_US
                )
            }),
            cpu_us_per_message: cpu
                .filter(|_| delivered > 0)
                .map(|cpu| cpu.scheduled_s * 1e6 / delivered as f64),
            cpu_user_s: cpu.map(|cpu| cpu.user_s),
            cpu_system_s: cpu.map(|cpu| cpu.system_s),
        }
    }

    fn generator(&self, cpu: Option<Cpu>) -> Generator {
        let grown = match (self.before.own, self.there.own) {
            (Some(before), Some(there)) if self.opening_logins >= CLIENTS_MEASURABLE => {
                let bytes = there.resident_bytes.saturating_sub(before.resident_bytes);
                Some(bytes as f64 / self.opening_logins as f64)
            }
            _ => None,
        };
        Generator {
            engine: self.engine.to_owned(),
            threads: u64::from(self.course.threads),
            bytes_per_client: grown,
            behind_p99_us: self.total.behind_us.value_at_quantile(0.99),
            behind_max_us: self.total.behind_us.max(),
            cpu_s: cpu.map(|cpu| cpu.scheduled_s),
        }
    }
}

/// Since when a number has not changed.
#[derive(Debug, Default)]
struct Quiet {
    value: u64,
    since_us: u64,
}

impl Quiet {
    fn is_long(&mut self, value: u64, now_us: u64) -> bool {
        if self.value != value || self.since_us == 0 {
            *self = Self { value, since_us: now_us };
        }
        now_us - self.since_us >= QUIET_US
    }
}

type Opened = Result<(&'static str, Option<String>), String>;

fn play_thread(
    course: &Arc<Course>,
    part: u32,
    engine: sockets::Engine,
    tallies: Sender<Tally>,
    opened: &Sender<Opened>,
) -> Result<Outcome, String> {
    let slots = super::pace::locals(course.scenario.clients.sessions, part, course.threads);
    let result = sockets::open(engine, course.target, slots);
    let sockets = match result {
        Ok((sockets, why_not)) => {
            let why_not = why_not.map(|why| format!("{why}: going on with {}", sockets.name()));
            let _ = opened.send(Ok((sockets.name(), why_not)));
            sockets
        }
        Err(why) => {
            let _ = opened.send(Err(why.clone()));
            return Err(why);
        }
    };
    Player::new(course, part, sockets, tallies).run()
}

fn read(server_pid: Option<u32>) -> Reading {
    Reading {
        server: server_pid.and_then(usage::memory),
        server_cpu: server_pid.and_then(usage::cpu),
        own: usage::memory(std::process::id()),
        slab_bytes: host::slab_bytes(),
    }
}

fn parameters(course: &Course, options: &Options) -> BTreeMap<String, String> {
    let clients = &course.scenario.clients;
    let highest = course.legs.iter().map(|leg| leg.rate.to).fold(0.0, f64::max);
    let mut parameters = BTreeMap::new();
    for (key, value) in [
        ("file", options.scenario.clone()),
        ("about", course.scenario.about.clone()),
        ("sessions", clients.sessions.to_string()),
        ("connects_per_second", clients.connects_per_second.to_string()),
        ("payload_bytes", clients.payload_bytes.to_string()),
        ("read_percent", clients.read_percent.to_string()),
        ("slow_percent", clients.slow_percent.to_string()),
        ("hostile_percent", clients.hostile_percent.to_string()),
        ("messages_per_second_max", highest.to_string()),
        ("source_addresses", course.sources.len().max(1).to_string()),
        ("threads", course.threads.to_string()),
    ] {
        parameters.insert(key.to_owned(), value);
    }
    parameters
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
