//! The body of the committer thread, and of the thread beside it that makes segments.
//!
//! Owner: the committer thread. The only place of the log that reads a clock and sleeps; all
//! decisions are in `commit`.
//!
//! Making a segment, or overwriting one that was freed, writes 64 MiB of zeros. That happens on a
//! thread of its own, one segment ahead, so that no commit waits for it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::bell::{Bell, Sleep};
use super::commit::{Committer, Step};
use super::pins::Pins;
use super::segment::Sealed;
use super::store::{Creator, Store};
use crate::sync::{self, Instant};

/// What a committer wrote while it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Commits: one write and one sync each.
    pub commits: u64,
    /// Their bytes, padding included.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
}

/// Runs `committer` on the calling thread until its bell says stop: then everything handed over
/// so far is committed and this returns.
///
/// # Errors
/// What the system said when a write or sync failed. Nothing was announced since.
pub fn run_committer<S: Store>(mut committer: Committer<S>) -> Result<Written, String> {
    let mut written = Written::default();
    let bell = committer.bell();
    bell.attach();
    if let Some(creator) = committer.store.creator()
        && let Ok(maker) = Maker::start(creator, committer.pins(), Arc::clone(&bell))
    {
        committer.use_maker(maker);
    }
    let start = Instant::now();
    loop {
        let stopping = bell.is_stopping();
        if stopping {
            committer.hurry();
        }
        let now_us = micros(start.elapsed());
        match committer.step(now_us) {
            Step::Committed { bytes, records, .. } => {
                committer.note_end(micros(start.elapsed()));
                written.commits += 1;
                written.bytes += bytes;
                written.records += u64::from(records);
            }
            Step::Failed(error) => return Err(error),
            Step::Idle { .. } if stopping && committer.is_drained() => return Ok(written),
            Step::Idle { until_us } => {
                let sleep = committer.rest().map_or(Sleep::Pause, |(_, sleep)| sleep);
                bell.prepare(sleep);
                let news = sleep != Sleep::Pause && committer.has_news();
                if !news && !bell.is_stopping() {
                    doze(until_us.map(|until_us| until_us.saturating_sub(now_us)));
                }
                bell.awake();
            }
        }
    }
}

/// Sleeps until unparked, at most `micros`.
fn doze(micros: Option<u64>) {
    match micros {
        Some(micros) => sync::park_timeout(Duration::from_micros(micros)),
        None => sync::park(),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The committer's side of the thread that makes segments.
pub(super) struct Maker {
    shared: Arc<Making>,
    busy: bool,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Maker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Maker").field("busy", &self.busy).finish_non_exhaustive()
    }
}

/// What the two threads share: at most one order and one result.
struct Making {
    orders: Mutex<Orders>,
    ordered: Condvar,
    has_made: AtomicBool,
    pins: Pins,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Orders {
    wanted: Option<Order>,
    made: Option<(Order, Result<(), Undone>)>,
    stop: bool,
}

/// What is to be done beside the commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Make this segment of so many bytes.
    Make { segment: u32, bytes: u64 },
    /// Make it out of one that was freed.
    Renew { freed: Sealed, segment: u32, bytes: u64 },
    /// Overwrite a freed one and remove it, under an unused number.
    Scrub { freed: Sealed, name: u32 },
}

/// Why an order was not carried out, and how far it got.
#[derive(Debug)]
pub(super) enum Undone {
    /// What was to be made was not.
    Unmade(io::Error),
    /// The freed segment is pinned, and still a segment.
    Pinned,
    /// The freed segment could not be taken out of the log: it is still a segment.
    Kept(io::Error),
    /// It was taken out and could not be overwritten to the end: the next start does that.
    Unscrubbed(io::Error),
}

impl fmt::Display for Undone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmade(error) => error.fmt(out),
            Self::Pinned => out.write_str("it is still read"),
            Self::Kept(error) => write!(out, "{error}; it stays as it is and is tried again"),
            Self::Unscrubbed(error) => write!(out, "{error}; the next start does it"),
        }
    }
}

impl Order {
    /// Does it. A segment that is pinned stays as it is.
    pub(super) fn carry_out(self, creator: &mut dyn Creator, pins: &Pins) -> Result<(), Undone> {
        let mut retire = |freed: Sealed, name| match pins
            .unless_pinned(freed.number, || creator.retire(freed.number, name))
        {
            None => Err(Undone::Pinned),
            Some(retired) => retired.map_err(Undone::Kept),
        };
        match self {
            Self::Make { segment, bytes } => creator.create(segment, bytes).map_err(Undone::Unmade),
            Self::Renew { freed, segment, bytes } => {
                retire(freed, segment)?;
                creator.renew(segment, bytes).map_err(Undone::Unscrubbed)
            }
            Self::Scrub { freed, name } => {
                retire(freed, name)?;
                creator.scrub(name).map_err(Undone::Unscrubbed)
            }
        }
    }
}

impl Making {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, creator: &mut dyn Creator) {
        let mut orders = self.orders();
        loop {
            if orders.stop {
                return;
            }
            if let Some(order) = orders.wanted.take() {
                drop(orders);
                let result = order.carry_out(creator, &self.pins);
                orders = self.orders();
                orders.made = Some((order, result));
                // Release: pairs with the Acquire in `Maker::has_made`.
                self.has_made.store(true, Ordering::Release);
                self.bell.ring(true);
            } else {
                orders = self.ordered.wait(orders).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Maker {
    fn start(mut creator: Box<dyn Creator>, pins: Pins, bell: Arc<Bell>) -> io::Result<Self> {
        let shared = Arc::new(Making {
            orders: Mutex::default(),
            ordered: Condvar::new(),
            has_made: AtomicBool::new(false),
            pins,
            bell,
        });
        let making = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("log-segments".to_owned())
            .spawn(move || making.run(creator.as_mut()))?;
        Ok(Self { shared, busy: false, thread: Some(thread) })
    }

    /// Orders something; only while not busy.
    pub(super) fn want(&mut self, order: Order) {
        self.busy = true;
        self.shared.orders().wanted = Some(order);
        self.shared.ordered.notify_one();
    }

    /// Whether something was ordered and not taken.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether a result waits.
    pub(super) fn has_made(&self) -> bool {
        // Acquire: pairs with the Release in `Making::run`.
        self.shared.has_made.load(Ordering::Acquire)
    }

    /// The result of the last order, once.
    pub(super) fn take_made(&mut self) -> Option<(Order, Result<(), Undone>)> {
        if !self.has_made() {
            return None;
        }
        self.shared.has_made.store(false, Ordering::Relaxed);
        self.busy = false;
        self.shared.orders().made.take()
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.shared.orders().stop = true;
        self.shared.ordered.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
