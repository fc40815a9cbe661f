//! The whole run from one thread: start, a look every second, the wait at the end, the report.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::course::{Course, Server};
use super::maker::{self, Maker, Making};
use super::player::{Outcome, Player};
use super::scenario::Scenario;
use super::schedule::micros;
use super::tally::Tally;
use super::{Options, RunError, host, preflight, sockets};
use crate::interrupt;
use crate::live::Progress;
use crate::protocol::Identity;
use crate::protocol::myriad::FIRST_USER;
use crate::report::{Report, Second};
use crate::usage::{self, Cpu, Memory};

/// How often the run is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(50);
pub(super) const SECOND_US: u64 = 1_000_000;
/// Between the last login and the first phase: memory is read when things are calm.
pub(super) const CALM_US: u64 = 1_000_000;
/// Memory per session is counted from when one in so many is there.
const WARM_SHARE: u64 = 10;
/// With clients away at the end nobody knows what is still to come; so long nothing came.
const QUIET_US: u64 = 2_000_000;
/// Threads of one run.
const THREADS_MAX: u32 = 1_024;

/// Plays a scenario; `view` makes the view once the scenario is known to be sound.
///
/// # Errors
/// It can't begin; see [`RunError`]. What goes wrong later is in the report.
pub fn run(
    options: &Options,
    view: &mut dyn FnMut(&str) -> Box<dyn Progress>,
) -> Result<Report, RunError> {
    let scenario = prepare(options)?;
    let identity = Identity {
        auth_secret_file: options.auth_secret_file.as_deref(),
        first_user: options.first_user.unwrap_or(FIRST_USER),
    };
    let reads = scenario.clients.read_percent > 0;
    let timeout = Duration::from_secs_f64(scenario.clients.connect_timeout_seconds);
    let mut servers = Vec::new();
    for url in options.target.split(',') {
        let protocol =
            crate::protocol::open(url.trim(), identity, reads).map_err(RunError::Arguments)?;
        let (name, port) = protocol.target();
        let address = preflight::resolve(name, port)?;
        servers.push(Server { protocol, address });
    }
    scenario.check_servers(servers.len()).map_err(RunError::Arguments)?;
    let sessions = scenario.clients.sessions;
    let each = sessions.div_ceil(u32::try_from(servers.len()).unwrap_or(1));
    let first = servers.first().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |s| s.address.ip());
    let sources =
        host::sources(options.sources.as_deref(), first, each).map_err(RunError::Arguments)?;
    let source = sources.first().copied();
    let maker = maker(&scenario, &servers, options)?;
    for server in &servers {
        preflight::check(server.protocol.as_ref(), server.address, source, timeout)?;
    }
    if let Some(maker) = &maker {
        maker.check()?;
    }
    usage::raise_file_limit();
    let cores = thread::available_parallelism().map_or(1, |count| count.get());
    let cores = u32::try_from(cores).unwrap_or(1);
    let threads = options.threads.unwrap_or(cores).clamp(1, THREADS_MAX.min(sessions));
    let course = Arc::new(Course::new(scenario, servers, sources, threads));
    let mut run = Run::start(course, options)?;
    run.maker.clone_from(&maker);
    let mut view = view(&run.course.scenario.name);
    let report = match run.play(&mut *view) {
        Ok(interrupted) => run.finish(options, interrupted),
        Err(why) => {
            run.course.stop();
            for thread in run.threads {
                let _ = thread.join(); // why the run ended is known already
            }
            Err(why)
        }
    };
    if let Some(maker) = maker {
        maker.end();
    }
    let report = report?;
    view.finish(&report);
    Ok(report)
}

/// Who makes the groups, if the scenario has some.
fn maker(
    scenario: &Scenario,
    servers: &[Server],
    options: &Options,
) -> Result<Option<Maker>, RunError> {
    let (Some(plan), Some(server)) = (scenario.plan(), servers.first()) else { return Ok(None) };
    Maker::new(plan, &server.protocol, options.api.as_deref()).map(Some)
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
    if let Some(pid) = options.server_pid
        && cfg!(target_os = "linux")
        && usage::memory(pid).is_none()
    {
        return Err(RunError::Arguments(format!("--server-pid {pid}: there is no such process")));
    }
    Ok(scenario)
}

/// What was read of the processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) server: Option<Memory>,
    pub(super) server_cpu: Option<Cpu>,
    pub(super) own: Option<Memory>,
    pub(super) slab_bytes: Option<u64>,
}

pub(super) struct Run {
    pub(super) course: Arc<Course>,
    pub(super) threads: Vec<JoinHandle<Result<Outcome, String>>>,
    pub(super) tallies: Receiver<Tally>,
    pub(super) total: Tally,
    pub(super) news: Vec<String>,
    pub(super) known_reasons: BTreeMap<String, u64>,
    pub(super) series: Vec<Second>,
    pub(super) engine: &'static str,
    pub(super) server_pid: Option<u32>,
    maker: Option<Maker>,
    making: Option<Making>,
    pub(super) started_unix_ms: u64,
    pub(super) before: Reading,
    /// With the first clients there, and how many: what is used for the first time is paid then.
    pub(super) warm: Option<(Reading, u64)>,
    /// With everybody there, before the first phase.
    pub(super) there: Reading,
    pub(super) most_ready: u64,
    /// From the first login to the last of the opening.
    pub(super) opening_us: u64,
    pub(super) opening_logins: u64,
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
            course.sources.len().max(1) * course.servers.len(),
            course.is_loopback(),
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
            maker: None,
            making: None,
            started_unix_ms: unix_ms(),
            before,
            warm: None,
            there: before,
            most_ready: 0,
            opening_us: 0,
            opening_logins: 0,
        })
    }

    /// Goes through all stages; whether it was interrupted.
    fn play(&mut self, view: &mut dyn Progress) -> Result<bool, RunError> {
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
                return Ok(interrupted);
            }
            if self.course.begun_us().is_none() {
                let ready = self.course.sum(|gauge| &gauge.ready);
                if self.warm.is_none() && ready >= self.wanted() / WARM_SHARE {
                    self.warm = Some((read(self.server_pid), ready));
                }
                if calm_from_us.is_none() && self.opening_is_over(now_us) {
                    calm_from_us = Some(now_us);
                    self.opening_us = now_us;
                    self.opening_logins = self.course.sum(|gauge| &gauge.ready);
                }
                if calm_from_us.is_some_and(|from| now_us >= from + CALM_US) {
                    self.begin(now_us)?;
                }
            } else if self.course.end_us().is_some_and(|end| now_us >= end)
                && self.is_drained(now_us, &mut quiet)
            {
                return Ok(false);
            }
        }
    }

    /// Everybody is there: makes the groups if there are to be some, and lets the first phase
    /// begin. Called until it has.
    fn begin(&mut self, now_us: u64) -> Result<(), RunError> {
        let Some(maker) = &self.maker else {
            self.there = read(self.server_pid);
            self.course.begin(now_us);
            return Ok(());
        };
        match &self.making {
            None => {
                self.there = read(self.server_pid);
                self.making = Some(maker.begin()?);
                let groups = self.course.scenario.groups.into_iter();
                let words =
                    groups.map(|it| format!("making {} groups of {}", it.count, it.members));
                self.news.extend(words);
            }
            Some(making) => {
                if let Some(result) = maker::outcome(making) {
                    result?;
                    self.there.server_cpu = self.server_pid.and_then(usage::cpu);
                    self.course.begin(now_us + CALM_US);
                }
            }
        }
        Ok(())
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
    pub(super) fn wanted(&self) -> u64 {
        self.course.sum(|gauge| &gauge.wanted)
    }

    fn is_drained(&self, now_us: u64, quiet: &mut Quiet) -> bool {
        let course = &self.course;
        let end_us = course.end_us().unwrap_or(0);
        if now_us >= end_us + micros(course.scenario.ending.drain_seconds) {
            return true;
        }
        let sent = course.sum(|gauge| &gauge.sent);
        let expected = course.sum(|gauge| &gauge.expected);
        let answered = course.sum(|gauge| &gauge.answered);
        let arrived = course.sum(|gauge| &gauge.arrived);
        let under_way = course.sum(|gauge| &gauge.under_way);
        if sent <= answered && expected <= arrived && under_way == 0 {
            return true;
        }
        let clients = u64::from(course.scenario.clients.sessions);
        let somebody_away = self.wanted() < clients && under_way == 0;
        quiet.is_long(answered + arrived, now_us) && somebody_away
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
    let targets: Vec<_> = course.servers.iter().map(|server| server.address).collect();
    let result = sockets::open(engine, &targets, slots);
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

pub(super) fn read(server_pid: Option<u32>) -> Reading {
    Reading {
        server: server_pid.and_then(usage::memory),
        server_cpu: server_pid.and_then(usage::cpu),
        own: usage::memory(std::process::id()),
        slab_bytes: host::slab_bytes(),
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
