//! The server's life: recover the log, open the doors, run the shards, drain, end.
//!
//! Owner: the main thread. Order matters and is visible in [`run`]: nothing listens before what
//! recovery found is durable again, and the log outlives the shards.

mod api;
mod clock_guard;
mod control;
mod directory;
pub(crate) mod driver;
mod group_orders;
mod history;
mod last_seen;
mod levels;
pub(crate) mod memory;
mod outlook;
mod shards;
mod side;
pub(crate) mod sizes;
pub mod tools;

pub use control::{Asked, ask_for_backup};

use sizes::Sizes;

use crate::auth::Keys;
use crate::clock::{HostClock, wall_ms};
use crate::config::Config;
use crate::io::socket;
use crate::limits;
use crate::log::{self, FileStore, Settings, Wake};
use crate::metrics::Counters;
use crate::path::replay::{ReplayError, StartError, start};
use crate::remedy;
use crate::ring::Doorbell;
use crate::state::Tables;
use crate::state::placement::Placement;
use crate::sys;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Why the server did not start, or ended other than by a drain.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder can't be used.
    #[error("the data folder {0} can't be used: {1}")]
    Data(PathBuf, String),
    /// The log could not be recovered.
    #[error("the log in {0} can't be recovered: {1}")]
    Recover(PathBuf, String),
    /// The log does not fit the settings.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The address can't be listened on.
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The directory of accounts can't be used.
    #[error("the directory of accounts: {0}")]
    Directory(String),
    /// A secret of the HTTP API can't be used.
    #[error("the secret in {0} can't be used: {1}")]
    Token(PathBuf, String),
    /// A thread could not be started.
    #[error("can't start a thread: {0}. Raise the limit on processes (ulimit -u)")]
    Thread(std::io::Error),
    /// Signals can't be caught.
    #[error("can't catch signals: {0}")]
    Signals(std::io::Error),
    /// A shard ended by itself.
    #[error("shard {0} ended: {1}. What was answered with `Sent` is safe; restart the server")]
    ShardEnded(usize, String),
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// Prints one line of JSON on stdout when it listens, with `listen`, `driver`, `shards`, `pid`.
///
/// # Errors
/// See [`ServeError`].
pub fn run(config: &Config, keys: Keys) -> Result<(), ServeError> {
    let stop = catch_signals().map_err(ServeError::Signals)?;
    let door = api::Door::open(config)?;
    let files = sys::raise_nofile().map_or(u64::MAX, |(soft, _)| soft);
    let choice = driver::choose(config, files);
    let sizes = Sizes::of(config, files, choice.driver);
    let bells: Vec<Arc<LateBell>> = (0..config.shards).map(|_| Arc::default()).collect();
    let Recovered { mut tables, stages, committer, epoch, expiry_held } =
        recover(config, &sizes, &bells)?;
    let (accounts, keys) = directory::Open::start(config, keys, &mut tables)?;
    let folder = config.data.clone();
    let (listeners, listen) = bind(config)?;

    let log_bell = committer.bell();
    let teller = outlook::Teller::new(committer.outlook());
    let pins = committer.pins();
    let history =
        history::Thread::start(config, (committer.durable(), &pins), expiry_held, &tables)?;
    let (durable, pins) = (committer.durable(), committer.pins());
    let log_thread = spawn("log", move || log::run_committer(committer))?;
    let keys = Arc::new(keys);
    let api_keys = Arc::clone(&keys);
    let side = side::Threads::start(&keys, config.shards, &folder)?;
    let running = shards::start(shards::Start {
        config,
        sizes: &sizes,
        keys,
        listeners,
        tables,
        stages,
        epoch,
        expiry_held,
        side: &side,
        history: history.as_ref(),
        bells: &bells,
        driver: choice.driver,
    })?;
    accounts.iter().for_each(|accounts| accounts.hang(running.desk()));
    let source = control::Source {
        data: config.data.clone(),
        durable,
        pins,
        history: history.as_ref().map(history::Thread::copier),
        directory: accounts.as_ref().map(|accounts| accounts.threads.copier()),
        desk: running.desk().clone(),
    };
    let control = control::Thread::start(source)?;
    let api = api::start(door, accounts.as_ref(), &running, api_keys)?;
    announce(config, listen, api.as_ref(), &sizes, &choice);

    let guard = memory::Guard::find(config.memory_max_bytes);
    let ended = watch(&running, &stop, &log_thread, (teller, guard));
    if let Some(api) = api {
        // Half of the time: what it answers may still need the shards.
        api.stop(Duration::from_millis(config.drain_ms / 2));
    }
    let counters = running.drain(config.drain_ms);
    if let Some(accounts) = accounts {
        accounts.threads.stop();
    }
    side.stop();
    control.stop();
    if let Some(history) = history {
        history.stop();
    }
    log_bell.stop();
    report(&counters, &written(log_thread));
    ended
}

/// Takes the address to listen on, once per shard.
fn bind(config: &Config) -> Result<(Vec<TcpListener>, SocketAddr), ServeError> {
    let fail = |error| ServeError::Listen(config.listen, error);
    let listeners = socket::bind_group(config.listen, config.shards, limits::LISTEN_BACKLOG);
    let listeners = listeners.map_err(fail)?;
    let listen = listeners[0].local_addr().map_err(fail)?;
    Ok((listeners, listen))
}

/// What the log wrote until its end.
fn written(log_thread: JoinHandle<Result<log::Written, String>>) -> log::Written {
    match log_thread.join() {
        Ok(Ok(written)) => written,
        Ok(Err(error)) => {
            eprintln!("myriad: the log took nothing more since: {error}");
            log::Written::default()
        }
        Err(_) => log::Written::default(),
    }
}

/// A shard's doorbell that exists before its driver does.
#[derive(Debug, Default)]
pub(crate) struct LateBell(OnceLock<Doorbell>);

impl LateBell {
    fn hang(&self, doorbell: Doorbell) {
        let _hung_once = self.0.set(doorbell);
    }

    fn ring(&self) {
        if let Some(doorbell) = self.0.get() {
            doorbell.ring();
        }
    }
}

impl Wake for LateBell {
    fn wake(&self) {
        self.ring();
    }
}

/// What the log gave.
struct Recovered {
    tables: Vec<Tables>,
    stages: Vec<log::Stage>,
    committer: log::Committer<FileStore>,
    epoch: u32,
    expiry_held: bool,
}

/// Reads the log into tables and makes everything found durable again.
fn recover(
    config: &Config,
    sizes: &Sizes,
    bells: &[Arc<LateBell>],
) -> Result<Recovered, ServeError> {
    let folder = config.data.clone();
    let fail =
        |error: &dyn std::fmt::Display| ServeError::Recover(config.data.clone(), error.to_string());
    let store = FileStore::open(&folder)
        .map_err(|error| ServeError::Data(config.data.clone(), error.to_string()))?;
    let settings = Settings {
        segment_bytes: config.segment_bytes,
        commit_gap_us: config.commit_gap_us,
        log_bytes_max: config.log_bytes_max,
        ..Settings::default()
    };
    let placement = Placement::new(config.shards);
    let mut tables: Vec<Tables> = (0..config.shards)
        .map(|_| Tables::new(sizes.conns_max, sizes.users_max, sizes.pairs_max))
        .collect();
    let rules = shards::rules_of(config, sizes);
    let (recovered, found) =
        start(store, &settings, &rules, &mut tables, &mut |_| {}).map_err(|error| match error {
            StartError::Recover(error) => fail(&error),
            StartError::Replay(error) => error.into(),
        })?;
    if found.records > 0 {
        eprintln!("myriad: recovered {} records from {}", found.records, folder.display());
    }
    if let Some(why) = &found.full {
        eprintln!(
            "myriad: no further segment of the log can be had: {why}. It goes on in its last one; \
             when that is full messages are refused with disk_full. Free space on its disk, or \
             raise log_bytes_max if that was reached"
        );
    }
    let epoch = log::next_epoch(recovered.highest_epoch, wall_ms());
    let wakes = bells.iter().map(|bell| Arc::clone(bell) as Arc<dyn Wake>).collect();
    let (stages, committer) = recovered.start(epoch, wakes).map_err(|error| fail(&error))?;
    last_seen::load(&folder, |user, seconds| {
        let home = &mut tables[placement.home(user)];
        if let Some(index) = home.users.find(user) {
            let here = home.users.user_mut(index);
            here.active_s = here.active_s.max(seconds);
        }
    });
    // Not every record has a time: a server that only started left one without.
    let newest_ms = (found.last_time_ms > 0).then_some(found.last_time_ms);
    let expiry_held = clock_guard::holds(&folder, newest_ms, config.clock_confirmed, wall_ms());
    Ok(Recovered { tables, stages, committer, epoch, expiry_held })
}

fn catch_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn announce(
    config: &Config,
    listen: SocketAddr,
    api: Option<&crate::api::Api>,
    sizes: &Sizes,
    choice: &driver::Choice,
) {
    let mut line = serde_json::json!({
        "listen": listen.to_string(),
        "driver": choice.driver.name(),
        "shards": config.shards,
        "pid": std::process::id(),
    });
    if let Some(api) = api {
        line["api"] = api.address().to_string().into();
    }
    let mut out = std::io::stdout().lock();
    let _closed_stdout_is_fine = writeln!(out, "{line}").and_then(|()| out.flush());
    eprintln!(
        "myriad: up to {} sessions on {} shards; the process may open {} files; data in {}",
        config.sessions_max,
        config.shards,
        sizes.files,
        config.data.display()
    );
    eprintln!("myriad: driver {}: {}", choice.driver.name(), choice.why);
    if let Some(sessions) = sizes.short_of_files(config) {
        eprintln!(
            "myriad: files are the limit: sessions beyond {sessions} are told that the server is \
             full. To have more, {}; or lower sessions_max",
            remedy::FILES
        );
    }
}

/// Waits for a signal; an end of a shard or of the log is told at once.
fn watch(
    running: &shards::Running,
    stop: &AtomicBool,
    log_thread: &JoinHandle<Result<log::Written, String>>,
    (mut teller, mut guard): (outlook::Teller, memory::Guard),
) -> Result<(), ServeError> {
    let clock = HostClock::start();
    let mut log_ended = false;
    let mut levels = levels::Teller::default();
    while !stop.load(Ordering::Acquire) {
        if let Some((shard, error)) = running.ended() {
            return Err(ServeError::ShardEnded(shard, error));
        }
        if log_thread.is_finished() && !log_ended {
            log_ended = true;
            eprintln!(
                "myriad: the log failed and is read-only now: messages are refused with \
                 store_failed. Check the disk, then restart"
            );
        }
        let now_ms = clock.now().mono_ms;
        teller.look(now_ms);
        guard.look(running.pressures(), now_ms);
        levels.look(running.pressures(), now_ms);
        thread::sleep(Duration::from_millis(limits::MAIN_LOOK_MS));
    }
    Ok(())
}

fn report(counters: &Counters, written: &log::Written) {
    let log = [
        ("log_commits", written.commits),
        ("log_bytes", written.bytes),
        ("log_records", written.records),
    ];
    let map: serde_json::Map<String, serde_json::Value> =
        counters.each().chain(log).map(|(name, value)| (name.to_owned(), value.into())).collect();
    eprintln!("myriad: drained; counters {}", serde_json::Value::Object(map));
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ServeError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(ServeError::Thread)
}

/// Waits until `done` or the time is over.
fn wait_until(time: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > time {
            return false;
        }
        thread::sleep(Duration::from_millis(limits::DRAIN_LOOK_MS));
    }
    true
}
