//! Stand-ins under loom, and mutations that show that a model can fail.
//!
//! **Weaker than the real thing on purpose.** The queue keeps its order and its bound and nothing
//! more: a look at it whether it is empty or full may be out of date as far as the memory model
//! allows, where crossbeam's own has stronger orderings inside. A protocol that holds here leans
//! on its own fences.
//!
//! **Mutations.** A [`Mutation`] names one line of the code under test by what stands there, and
//! takes the effect of the atomic operation of that line away or its ordering. A model that still
//! holds then does not watch that line. Nothing in the code under test knows of this.
//!
//! Owner: one model at a time per thread; loom plays all threads of a model on one.

#![allow(unreachable_pub, dead_code, reason = "as the types they stand for; used by models alone")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use loom::thread::{Thread, current, park};
pub use std::sync::atomic::Ordering;

/// What happens to the operation of a mutated line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It is not done: a fence is none, a store stores nothing.
    Skip,
    /// It is done, and orders nothing.
    Relax,
}

/// One line of the code under test, changed.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    file: &'static str,
    line: u32,
    effect: Effect,
}

impl Mutation {
    /// The first line of `file` (from the root of the crate, with its text `source`) that has
    /// `operation`, at or after the first one that has `place`.
    ///
    /// # Panics
    /// If there is none: the code changed, and the mutation has to follow.
    #[must_use]
    pub fn new(
        (file, source): (&'static str, &str),
        place: &str,
        operation: &str,
        effect: Effect,
    ) -> Self {
        let mut lines = (1..).zip(source.lines()).skip_while(|(_, line)| !line.contains(place));
        let found = lines
            .find(|(_, line)| line.contains(operation) && !line.trim_start().starts_with("//"));
        let Some((line, _)) = found else { panic!("{file}: no `{operation}` after `{place}`") };
        Self { file, line, effect }
    }
}

thread_local! {
    static MUTATION: Cell<Option<Mutation>> = const { Cell::new(None) };
    static HITS: Cell<u64> = const { Cell::new(0) };
}

/// Whether the line that called is mutated, and how.
fn mutated(caller: &Location<'_>) -> Option<Effect> {
    let mutation = MUTATION.get()?;
    let here = caller.line() == mutation.line && caller.file().ends_with(mutation.file);
    here.then(|| {
        HITS.set(HITS.get() + 1);
        mutation.effect
    })
}

/// Plays `model` in every order, with at most `preemptions` threads stopped against their will in
/// each; `None`: any number.
pub fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    let model = Arc::new(model);
    builder.check(move || {
        // The stack loom gives by itself is too small for all of a log.
        let model = Arc::clone(&model);
        spawn(move || model()).join();
    });
}

/// Stack of a thread in a model, in words of 8 bytes.
pub const STACK_WORDS: usize = 64 * 1024;

/// A thread of a model.
#[derive(Debug)]
pub struct Running {
    ended: Arc<(loom::sync::Mutex<bool>, loom::sync::Condvar)>,
}

/// Starts a thread of a model. The caller has to wait for its end.
pub fn spawn(body: impl FnOnce() + Send + 'static) -> Running {
    let ended = Arc::new((loom::sync::Mutex::new(false), loom::sync::Condvar::new()));
    let end = Arc::clone(&ended);
    let body = move || {
        body();
        if let Ok(mut ended) = end.0.lock() {
            *ended = true;
        }
        end.1.notify_one();
    };
    let thread = loom::thread::Builder::new().stack_size(STACK_WORDS).spawn(body);
    assert!(thread.is_ok(), "loom always gives a thread");
    Running { ended }
}

impl Running {
    /// Waits for its end, also if the caller is unparked for another reason meanwhile (loom's own
    /// `join` takes that for an error of its own).
    pub fn join(self) {
        let Ok(mut ended) = self.ended.0.lock() else { return };
        while !*ended {
            let Ok(later) = self.ended.1.wait(ended) else { return };
            ended = later;
        }
    }
}

/// Plays `model` with `mutation` and gives what it fails with.
///
/// # Panics
/// If it holds all the same, or never came by the mutated line: then it proves nothing.
pub fn fails_with(mutation: Mutation, model: fn()) -> String {
    MUTATION.set(Some(mutation));
    HITS.set(0);
    let played = std::panic::catch_unwind(model);
    MUTATION.set(None);
    assert!(HITS.get() > 0, "{mutation:?} was never come by");
    let Err(why) = played else { panic!("{mutation:?} is not noticed") };
    let text = why.downcast_ref::<String>().cloned();
    text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// As [`std::sync::atomic::fence`].
#[track_caller]
pub fn fence(order: Ordering) {
    if mutated(Location::caller()).is_none() {
        loom::sync::atomic::fence(order);
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// As the standard library's.
        #[derive(Debug)]
        pub struct $name(loom::sync::atomic::$name);

        impl Default for $name {
            fn default() -> Self {
                Self::new(<$value>::default())
            }
        }

        #[allow(missing_docs, dead_code, reason = "as the standard library's")]
        impl $name {
            #[must_use]
            pub fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                match mutated(Location::caller()) {
                    None => self.0.load(order),
                    Some(_) => self.0.load(Ordering::Relaxed),
                }
            }

            /// A swap in the model: loom gives the stores of several threads to one place no
            /// common order, and would let a thread read back what it stored itself although it
            /// knows, by a fence, of a store that came after. Every order of the stores still
            /// comes up, as some order of the steps.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                match mutated(Location::caller()) {
                    None => _ = self.0.swap(value, order),
                    Some(Effect::Relax) => _ = self.0.swap(value, Ordering::Relaxed),
                    Some(Effect::Skip) => {}
                }
            }

            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                match mutated(Location::caller()) {
                    None => self.0.swap(value, order),
                    Some(Effect::Relax) => self.0.swap(value, Ordering::Relaxed),
                    Some(Effect::Skip) => self.0.load(Ordering::Relaxed),
                }
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8);
atomic!(AtomicU64, u64);

#[allow(missing_docs, reason = "as the standard library's")]
impl AtomicU64 {
    #[track_caller]
    pub fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        match mutated(Location::caller()) {
            None => self.0.fetch_or(value, order),
            Some(Effect::Relax) => self.0.fetch_or(value, Ordering::Relaxed),
            Some(Effect::Skip) => self.0.load(Ordering::Relaxed),
        }
    }

    #[track_caller]
    pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        match mutated(Location::caller()) {
            None => self.0.fetch_add(value, order),
            Some(Effect::Relax) => self.0.fetch_add(value, Ordering::Relaxed),
            Some(Effect::Skip) => self.0.load(Ordering::Relaxed),
        }
    }

    /// Mutated, it stores what it would without having looked.
    ///
    /// # Errors
    /// The value that stood there instead.
    #[track_caller]
    pub fn compare_exchange_weak(
        &self,
        expected: u64,
        value: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        if mutated(Location::caller()).is_some() {
            self.0.store(value, Ordering::Relaxed);
            return Ok(expected);
        }
        // A failure without a cause would be one more round of the caller's loop, and no end to
        // the orders to try.
        self.0.compare_exchange(expected, value, success, failure)
    }
}

/// A bounded queue with the promises that `ring` and `log` lean on, and no more.
///
/// Order between threads comes from the counts alone; the items are behind a lock that loom does
/// not know and nobody waits for.
#[derive(Debug)]
pub struct ArrayQueue<T> {
    items: Mutex<RefCell<VecDeque<T>>>,
    capacity: u64,
    pushed: loom::sync::atomic::AtomicU64,
    popped: loom::sync::atomic::AtomicU64,
}

#[allow(missing_docs, reason = "as crossbeam's")]
impl<T> ArrayQueue<T> {
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a queue without room");
        Self {
            items: Mutex::default(),
            capacity: capacity as u64,
            pushed: loom::sync::atomic::AtomicU64::new(0),
            popped: loom::sync::atomic::AtomicU64::new(0),
        }
    }

    /// # Errors
    /// Hands the item back if, as far as the caller can know, the queue is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut pushed = self.pushed.load(Ordering::Relaxed);
        loop {
            // Acquire: who sees a slot free may use it.
            if pushed.saturating_sub(self.popped.load(Ordering::Acquire)) >= self.capacity {
                return Err(item);
            }
            match self.pushed.compare_exchange(
                pushed,
                pushed + 1,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(changed) => pushed = changed,
            }
        }
        // No other thread of the model runs between the exchange and this.
        self.items().borrow_mut().push_back(item);
        Ok(())
    }

    /// For one thread only, as all queues here are read.
    pub fn pop(&self) -> Option<T> {
        let popped = self.popped.load(Ordering::Relaxed);
        if self.pushed.load(Ordering::Acquire) == popped {
            return None;
        }
        let item = self.items().borrow_mut().pop_front();
        self.popped.store(popped + 1, Ordering::Release);
        item
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pushed.load(Ordering::Relaxed) == self.popped.load(Ordering::Relaxed)
    }

    fn items(&self) -> MutexGuard<'_, RefCell<VecDeque<T>>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that stands still: what waits for time alone never happens in a model.
#[derive(Clone, Copy, Debug)]
pub struct Instant;

#[allow(missing_docs, reason = "as the standard library's")]
impl Instant {
    #[must_use]
    pub fn now() -> Self {
        Self
    }

    #[must_use]
    pub fn elapsed(self) -> Duration {
        Duration::ZERO
    }
}

/// Parks without an end: a model may not be saved by a timeout.
pub fn park_timeout(_: Duration) {
    park();
}
