//! The committer's doorbell: a stage rings it, at the cost of a system call only if the committer
//! sleeps and the news is worth waking it.
//!
//! Owner: shared. States: awake (also: pausing for the gap between commits, it will look anyway),
//! dozing (only urgent news wakes it), asleep (any news does).
//!
//! No wake-up is lost: a stage publishes its batch, then looks at the state; the committer
//! publishes the state, then looks for batches once more before it sleeps. The two fences order
//! "publish, then look" on both sides, so at least one of them sees the other.

use std::sync::OnceLock;

use crate::sync::{self, AtomicBool, AtomicU8, Ordering, Thread, fence};

const AWAKE: u8 = 0;
const DOZING: u8 = 1;
const ASLEEP: u8 = 2;

/// How deep the committer sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    /// It pauses between commits: nothing needs to wake it.
    Pause,
    /// Lazy records wait: urgent news wakes it.
    Doze,
    /// Nothing waits: any news wakes it.
    Deep,
}

/// Wakes the committer thread and asks it to stop.
#[derive(Debug, Default)]
pub struct Bell {
    state: AtomicU8,
    stop: AtomicBool,
    sleeper: OnceLock<Thread>,
}

impl Bell {
    /// Asks the committer to commit what it has been handed and return.
    pub fn stop(&self) {
        // Release: pairs with the Acquire in `is_stopping`; batches pushed before are seen.
        self.stop.store(true, Ordering::Release);
        // Pairs with the fence in `prepare`: either the committer sees it there, or it has told
        // by now whom to wake.
        fence(Ordering::SeqCst);
        self.wake();
    }

    /// Whether [`Bell::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        // Acquire: pairs with the Release in `stop`.
        self.stop.load(Ordering::Acquire)
    }

    /// Names the calling thread as the one to wake.
    pub(super) fn attach(&self) {
        let _ = self.sleeper.set(sync::current());
    }

    /// Says there is news. The batch has been pushed before.
    pub(super) fn ring(&self, urgent: bool) {
        // Pairs with the fence in `prepare`.
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state == ASLEEP || (state == DOZING && urgent) {
            self.wake();
        }
    }

    /// Wakes the committer if it sleeps in any way that can be interrupted.
    pub(super) fn wake(&self) {
        let was = self.state.swap(AWAKE, Ordering::Relaxed);
        if (was != AWAKE || self.is_stopping())
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// Says how the committer is about to sleep; it must look for news once more afterwards.
    pub(super) fn prepare(&self, sleep: Sleep) {
        let state = match sleep {
            Sleep::Pause => AWAKE,
            Sleep::Doze => DOZING,
            Sleep::Deep => ASLEEP,
        };
        self.state.store(state, Ordering::Relaxed);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }

    /// Says the committer is awake.
    pub(super) fn awake(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }
}
