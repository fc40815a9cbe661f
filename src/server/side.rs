//! Threads beside the shards: one checks slow signatures, one keeps last-seen times.

use super::{ServeError, last_seen, spawn};
use crate::auth::Keys;
use crate::clock::wall_ms;
use crate::limits;
use crate::ring::{Doorbell, Inlet};
use crate::shard::{CheckJob, Checked, HistoryEnds, SeenBatch, Side};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The running side threads.
pub(super) struct Threads {
    jobs: Arc<Inlet<CheckJob>>,
    seen: Arc<Inlet<SeenBatch>>,
    checked: Arc<[OnceLock<Arc<Inlet<Checked>>>]>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them; shards get their ends with [`Threads::of`] after [`Threads::hang`].
    pub(super) fn start(
        keys: &Arc<Keys>,
        shards: usize,
        folder: &Path,
    ) -> Result<Self, ServeError> {
        let stop = Arc::new(AtomicBool::new(false));
        let checked: Arc<[OnceLock<Arc<Inlet<Checked>>>]> =
            (0..shards).map(|_| OnceLock::new()).collect();
        let (jobs, job_bell) = inlet(limits::CHECKS_WAITING_MAX);
        let (seen, seen_bell) = inlet(limits::SEEN_WAITING_MAX);
        let checker = {
            let (keys, jobs, checked) = (Arc::clone(keys), Arc::clone(&jobs), Arc::clone(&checked));
            let stop = Arc::clone(&stop);
            spawn("tokens", move || {
                work(&stop, &job_bell, &jobs, |job: CheckJob| check(&keys, &checked, &job));
            })?
        };
        let keeper = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            let mut file = last_seen::File::open(folder);
            spawn("last-seen", move || {
                work(&stop, &seen_bell, &seen, |batch: SeenBatch| file.write(&batch));
            })?
        };
        Ok(Self { jobs, seen, checked, stop, threads: vec![checker, keeper] })
    }

    /// Connects the answers to the shards' doorbells.
    pub(super) fn hang(&self, doorbells: &[Doorbell]) {
        for (slot, doorbell) in self.checked.iter().zip(doorbells) {
            let inlet = Arc::new(Inlet::new(limits::CHECKS_WAITING_MAX, doorbell.clone()));
            let _hung_once = slot.set(inlet);
        }
    }

    /// The ends for one shard.
    pub(super) fn of(&self, shard: usize, history: Option<HistoryEnds>) -> Side {
        let silent = || Arc::new(Inlet::new(1, Doorbell::silent()));
        Side {
            jobs: Arc::clone(&self.jobs),
            checked: self.checked[shard].get().map_or_else(silent, Arc::clone),
            seen: Arc::clone(&self.seen),
            history,
        }
    }

    /// Ends them after what waits is done.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.thread().unpark();
            let _its_panic_was_printed = thread.join();
        }
    }
}

/// A queue whose bell wakes the thread that works on it.
pub(super) fn inlet<T: Send>(capacity: usize) -> (Arc<Inlet<T>>, Bell) {
    let worker: Arc<OnceLock<thread::Thread>> = Arc::default();
    let named = Arc::clone(&worker);
    let doorbell = Doorbell::new(Arc::new(move || {
        if let Some(worker) = named.get() {
            worker.unpark();
        }
    }));
    let bell = Bell { doorbell: doorbell.clone(), worker };
    (Arc::new(Inlet::new(capacity, doorbell)), bell)
}

/// Wakes the thread that works on a queue.
pub(super) struct Bell {
    doorbell: Doorbell,
    worker: Arc<OnceLock<thread::Thread>>,
}

impl Bell {
    /// The calling thread is the one to wake.
    pub(super) fn attach(&self) {
        let _named_once = self.worker.set(thread::current());
    }

    /// Sleeps until something is pushed, at most so long; not at all unless `is_idle`.
    pub(super) fn sleep(&self, time: Duration, is_idle: impl FnOnce() -> bool) {
        self.doorbell.prepare_sleep();
        if is_idle() {
            thread::park_timeout(time);
        }
        self.doorbell.awake();
    }
}

/// The body of a side thread.
fn work<T: Send>(stop: &AtomicBool, bell: &Bell, inlet: &Inlet<T>, mut act: impl FnMut(T)) {
    bell.attach();
    let look = Duration::from_millis(limits::SIDE_LOOK_MS);
    loop {
        let stopping = stop.load(Ordering::Acquire);
        while let Some(item) = inlet.pop() {
            act(item);
        }
        if stopping {
            return;
        }
        bell.sleep(look, || inlet.is_empty());
    }
}

fn check(keys: &Keys, shards: &[OnceLock<Arc<Inlet<Checked>>>], job: &CheckJob) {
    let claims = keys.verify(&job.jwt, wall_ms() / 1000);
    if let Some(inlet) = shards.get(job.shard).and_then(OnceLock::get) {
        // A full inlet means more answers wait than connections may: this one times out.
        let _full = inlet.push(Checked { conn: job.conn, hello: job.hello, claims });
    }
}
