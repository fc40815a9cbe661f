//! The wake-up of a shard that sleeps in its driver: rung only when it said that it sleeps.
//!
//! Owner: the shard calls `prepare_sleep` and `awake`; anybody may `ring`. The protocol is the
//! classic one of two parties who each write their own flag and then read the other's:
//!
//! ```text
//!   sleeper                              ringer
//!   sleeping := true                     publish the message
//!   -- full fence --                     -- full fence --
//!   anything published?  yes: stay up    sleeping?  yes: wake it (once)
//! ```
//!
//! At least one of the two sees the other, so no wake-up is lost. A wake-up too many is possible
//! and harmless: the waker's effect stays until the driver's next wait, which returns at once.

use crate::sync::{AtomicBool, Ordering, fence};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::sync::Arc;

/// See the module. Clones ring the same shard.
#[derive(Clone)]
pub struct Doorbell {
    shared: Arc<Shared>,
}

struct Shared {
    sleeping: CachePadded<AtomicBool>,
    waker: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Doorbell {
    /// A doorbell that calls `waker`, from any thread, to end the shard's wait. The waker must
    /// leave a mark that ends also a wait that begins later (an eventfd, `EVFILT_USER`).
    #[must_use]
    pub fn new(waker: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self::build(Some(waker))
    }

    /// A doorbell without a sound, for shards that never sleep (simulation).
    #[must_use]
    pub fn silent() -> Self {
        Self::build(None)
    }

    fn build(waker: Option<Arc<dyn Fn() + Send + Sync>>) -> Self {
        Self {
            shared: Arc::new(Shared { sleeping: CachePadded::new(AtomicBool::new(false)), waker }),
        }
    }

    /// Wakes the shard if it said that it sleeps. Call after publishing what it shall see.
    pub fn ring(&self) {
        // Pairs with the fence in `prepare_sleep`: either the load below sees `sleeping`, or the
        // sleeper, looking after its own fence, sees what was published before this one.
        fence(Ordering::SeqCst);
        if self.shared.sleeping.load(Ordering::Relaxed)
            // Relaxed: the swap only elects one ringer. What was published reaches the sleeper
            // through the queue it is in, not through this flag.
            && self.shared.sleeping.swap(false, Ordering::Relaxed)
            && let Some(waker) = &self.shared.waker
        {
            waker();
        }
    }

    /// Says that the shard is about to sleep. The shard then looks once more whether something
    /// came ([`may_sleep`](super::Mailbox::may_sleep), [`Inlet::is_empty`](super::Inlet::is_empty))
    /// and calls [`Doorbell::awake`] instead of sleeping if so.
    pub fn prepare_sleep(&self) {
        self.shared.sleeping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }

    /// Says that the shard is up: nobody needs to ring.
    pub fn awake(&self) {
        // Relaxed: a ringer that still sees the old value wakes once too often, no more.
        self.shared.sleeping.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Doorbell")
            .field("sleeping", &self.shared.sleeping.load(Ordering::Relaxed))
            .field("silent", &self.shared.waker.is_none())
            .finish()
    }
}

#[cfg(not(feature = "models"))]
#[cfg(test)]
mod tests {
    use super::Doorbell;
    use crate::ring::Inlet;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Condvar, Mutex};
    use std::time::Duration;

    /// What an eventfd does: a mark that ends this wait or the next one.
    #[derive(Default)]
    struct Mark {
        set: Mutex<bool>,
        changed: Condvar,
    }

    impl Mark {
        fn set(&self) {
            *self.set.lock().unwrap() = true;
            self.changed.notify_one();
        }

        /// False if nobody set the mark for much longer than any scheduling delay.
        fn wait(&self) -> bool {
            let set = self.set.lock().unwrap();
            let (mut set, timeout) =
                self.changed.wait_timeout_while(set, Duration::from_secs(20), |set| !*set).unwrap();
            *set = false;
            !timeout.timed_out()
        }
    }

    fn counting() -> (Doorbell, Arc<AtomicU64>) {
        let rung = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&rung);
        let waker = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        (Doorbell::new(Arc::new(waker)), rung)
    }

    #[test]
    fn rings_once_and_only_for_a_sleeper() {
        let (doorbell, rung) = counting();
        doorbell.ring();
        assert_eq!(rung.load(Ordering::Relaxed), 0);
        doorbell.prepare_sleep();
        doorbell.ring();
        doorbell.ring();
        assert_eq!(rung.load(Ordering::Relaxed), 1);
        doorbell.prepare_sleep();
        doorbell.awake();
        doorbell.ring();
        assert_eq!(rung.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: u64 = if cfg!(miri) { 20 } else { 20_000 };
        let mark = Arc::new(Mark::default());
        let waker = Arc::clone(&mark);
        let doorbell = Doorbell::new(Arc::new(move || waker.set()));
        let inlet = Inlet::new(4, doorbell.clone());
        let echo = Arc::new(AtomicU64::new(0));
        let sender = {
            let (inlet, echo) = (inlet.clone(), Arc::clone(&echo));
            std::thread::spawn(move || {
                for round in 1..=ROUNDS {
                    inlet.push(round).unwrap();
                    // Waiting for the receiver makes every round a race between its falling
                    // asleep and this push.
                    while echo.load(Ordering::Acquire) < round {
                        std::thread::yield_now();
                    }
                }
            })
        };
        let mut heard = 0;
        while heard < ROUNDS {
            if let Some(round) = inlet.pop() {
                assert_eq!(round, heard + 1);
                heard = round;
                echo.store(round, Ordering::Release);
                continue;
            }
            doorbell.prepare_sleep();
            if inlet.is_empty() {
                assert!(mark.wait(), "slept through message {}", heard + 1);
            }
            doorbell.awake();
        }
        sender.join().unwrap();
    }
}
