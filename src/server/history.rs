//! The thread that keeps history, and the queues between it and the shards.
//!
//! Owner: `main` starts it before the log takes anything, so that no segment it needs is freed,
//! and ends it after the shards. Where there is no history, shards have no ends to it.

use super::side::{Bell, inlet};
use super::{ServeError, spawn, tools};
use crate::clock::{ExpiryClock, HostClock};
use crate::config::Config;
use crate::history::{History, Rules, Store};
use crate::limits;
use crate::log::{Durable, FileStore, Follower, Pins};
use crate::ring::{Doorbell, Inlet};
use crate::shard::{Answer, Ask, HistoryEnds};
use crate::state::Tables;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Where history lives in the data folder.
const FOLDER: &str = "history";

/// Asks for a copy of the files of history.
struct CopyJob {
    to: PathBuf,
    done: SyncSender<Result<(), String>>,
}

/// Has the history thread copy its files between two batches.
#[derive(Clone)]
pub(super) struct Copier {
    jobs: Arc<Inlet<CopyJob>>,
}

impl Copier {
    /// Copies them into `to`, which exists. Questions wait meanwhile.
    pub(super) fn copy(&self, to: &Path, stop: &dyn Fn() -> bool) -> Result<(), String> {
        let (done, told) = sync_channel(1);
        if self.jobs.push(CopyJob { to: to.to_owned(), done }).is_err() {
            return Err("another copy is waited for".to_owned());
        }
        loop {
            match told.recv_timeout(Duration::from_millis(limits::HISTORY_GAP_MS)) {
                Ok(copied) => return copied,
                Err(RecvTimeoutError::Timeout) if !stop() => {}
                Err(_) => return Err("the server is stopping".to_owned()),
            }
        }
    }
}

/// The running thread.
pub(super) struct Thread {
    copies: Arc<Inlet<CopyJob>>,
    asks: Arc<Inlet<Ask>>,
    answers: Arc<[OnceLock<Arc<Inlet<Answer>>>]>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Thread {
    /// Opens history and starts its thread, if this server keeps one. With `expiry_held` nothing
    /// in it ends. `tables` say who is gone.
    pub(super) fn start(
        config: &Config,
        (durable, pins): (Arc<Durable>, &Pins),
        expiry_held: bool,
        tables: &[Tables],
    ) -> Result<Option<Self>, ServeError> {
        if !config.history {
            return Ok(None);
        }
        let clock = HostClock::start();
        let expiry = ExpiryClock::new(clock.now(), expiry_held);
        let history = open(config, (durable, pins), expiry, tables)
            .map_err(|error| ServeError::Data(config.data.join(FOLDER), format!("{error}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (asks, bell) = inlet(limits::HISTORY_ASKS_MAX);
        let answers: Arc<[OnceLock<_>]> = (0..config.shards).map(|_| OnceLock::new()).collect();
        let copies = Arc::new(Inlet::new(1, Doorbell::silent()));
        let work = Work {
            history,
            clock,
            copies: Arc::clone(&copies),
            folder: config.data.join(FOLDER),
            asks: Arc::clone(&asks),
            answers: Arc::clone(&answers),
            stop: Arc::clone(&stop),
        };
        let thread = spawn("history", move || work.run(&bell))?;
        Ok(Some(Self { copies, asks, answers, stop, thread }))
    }

    /// Connects the answers to the shards' doorbells.
    pub(super) fn hang(&self, doorbells: &[Doorbell]) {
        for (slot, doorbell) in self.answers.iter().zip(doorbells) {
            let inlet = Arc::new(Inlet::new(limits::HISTORY_ANSWERS_MAX, doorbell.clone()));
            let _hung_once = slot.set(inlet);
        }
    }

    /// The ends for one shard.
    pub(super) fn of(&self, shard: usize) -> Option<HistoryEnds> {
        let answers = Arc::clone(self.answers.get(shard)?.get()?);
        Some(HistoryEnds { asks: Arc::clone(&self.asks), answers })
    }

    /// How its files are copied.
    pub(super) fn copier(&self) -> Copier {
        Copier { jobs: Arc::clone(&self.copies) }
    }

    /// Ends it. What it has not read it reads after the next start.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let _its_panic_was_printed = self.thread.join();
    }
}

type Error = Box<dyn std::error::Error>;

fn open(
    config: &Config,
    (durable, pins): (Arc<Durable>, &Pins),
    expiry: ExpiryClock,
    tables: &[Tables],
) -> Result<History<FileStore>, Error> {
    let rules = Rules { retention: config.history_default, items_max: config.history_messages_max };
    let mut store = Store::open(&config.data.join(FOLDER), rules)?;
    let mut done = store.done();
    if done > durable.sequence() {
        eprintln!(
            "myriad: history has read {done} commits and the log has {}. Unless somebody put \
             another log here, or an older copy, the end of this one is missing, with messages \
             that were answered with `Sent`: stop the server and restore a backup. History reads \
             all of the log again; what it holds stays",
            durable.sequence()
        );
        done = 0;
    }
    let log = FileStore::open_read_only(&config.data)?;
    let follower = Follower::open(log, durable, pins, done)?;
    if follower.missed() > 0 {
        // Records of ends may be among them.
        let gone: Vec<u64> = tables.iter().flat_map(|tables| tables.users.ended()).collect();
        store.end_users(&gone)?;
    }
    Ok(History::new(store, follower, expiry)?)
}

/// What the thread works on.
struct Work {
    history: History<FileStore>,
    clock: HostClock,
    copies: Arc<Inlet<CopyJob>>,
    folder: PathBuf,
    asks: Arc<Inlet<Ask>>,
    answers: Arc<[OnceLock<Arc<Inlet<Answer>>>]>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(mut self, bell: &Bell) {
        bell.attach();
        loop {
            for _ in 0..limits::HISTORY_ASKS_MAX {
                let Some(ask) = self.asks.pop() else { break };
                let answer = self.history.answer(&ask, self.clock.now());
                self.hand_back(ask.shard, answer);
            }
            if let Some(CopyJob { to, done }) = self.copies.pop() {
                // Between two transactions: what the files say now is what a start would find.
                let copied = tools::copy_into(&self.folder, &to).map_err(|error| error.to_string());
                let _nobody_waits = done.send(copied);
            }
            let more = self.history.step(self.clock.now(), &self.stop);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if !more {
                let look = Duration::from_millis(limits::HISTORY_GAP_MS);
                bell.sleep(look, || self.asks.is_empty());
            }
        }
    }

    /// Waits for room: a shard takes a few answers in each turn.
    fn hand_back(&self, shard: usize, answer: Answer) {
        let Some(inlet) = self.answers.get(shard).and_then(OnceLock::get) else { return };
        let mut answer = answer;
        while let Err(back) = inlet.push(answer) {
            if self.stop.load(Ordering::Acquire) {
                return; // the shards may have ended
            }
            answer = back;
            thread::sleep(Duration::from_millis(limits::HISTORY_ANSWER_PAUSE_MS));
        }
    }
}
