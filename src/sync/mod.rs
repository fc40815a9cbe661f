//! What the protocols between threads are made of: atomics, fences, a bounded queue, parking.
//!
//! In every build that runs these are the standard library's and crossbeam's own. In tests with the
//! feature `models` (`scripts/loom` alone has it) they are stand-ins that loom schedules in every
//! order the memory model allows, so that the code of `ring` and `log` is tried as it is and not a
//! copy of it. Owner: nobody; no state. Deliberately not here: locks, and atomics that are no
//! part of a protocol with a model.

#[cfg(all(test, feature = "models"))]
pub(crate) mod model;

#[cfg(all(test, feature = "models"))]
pub(crate) use model::{
    ArrayQueue, AtomicBool, AtomicU8, AtomicU64, Instant, Ordering, Thread, current, fence, park,
    park_timeout,
};

#[cfg(not(all(test, feature = "models")))]
pub(crate) use crossbeam_queue::ArrayQueue;
#[cfg(not(all(test, feature = "models")))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
#[cfg(not(all(test, feature = "models")))]
pub(crate) use std::thread::{Thread, current, park, park_timeout};
#[cfg(not(all(test, feature = "models")))]
pub(crate) use std::time::Instant;
