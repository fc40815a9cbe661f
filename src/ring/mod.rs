//! Queues between threads: the mailbox of each shard, its doorbell, inlets from side threads.
//!
//! Owner: each [`Mailbox`] belongs to one shard's thread; what they share is bounded queues, one
//! per ordered pair of shards, and a few words of atomics, each with its pairing noted. No locks,
//! no unbounded queue; a full destination is a value the caller handles ([`Mailbox::ask`] hands
//! the item back). Not here: what the messages mean.

mod doorbell;
mod inlet;
mod mailbox;
#[cfg(all(test, feature = "models"))]
mod models;

pub use doorbell::Doorbell;
pub use inlet::Inlet;
pub use mailbox::{Kind, Mailbox, mesh};
