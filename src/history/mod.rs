//! History: what was said, kept beyond the acks, to be read again by conversation.
//!
//! ```text
//!  log ==committed records==> Follower > apply ==> redb (tables.rs)      numbers, ids, marks
//!                                              ==> Shelf (shelf.rs)      payloads
//!  shards ==asks==> thread.rs > query.rs ==answers==> shards
//! ```
//!
//! Read in this order: `tables` (rows), `shelf` (payloads), `batch` (one transaction over both),
//! `apply` (records become items), `query` (what users ask), `sweep` (what ended), `thread`.
//!
//! Owner: the history thread, alone; shards reach it through bounded queues. It is a cursor into
//! the log like a device's, so a shard does nothing for it and never waits for it.
//!
//! Invariants
//! - A record is applied once: the number of its commit is saved with what it changed.
//! - A payload that nothing speaks of any more is overwritten on the disk after the transaction
//!   that said so, or at the next start if that was cut short.
//! - Every page, queue and batch has its bound in `limits`.
//!
//! Deliberately not here: delivery and receipts (they are cursors into inboxes), groups (later),
//! what the log itself still holds of a message.

mod apply;
mod batch;
mod query;
mod shelf;
mod store;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod thread;

use std::io;

pub use store::{Rules, Store};
pub use thread::History;

use crate::log::{FollowError, RecoverError};

/// Why history can't go on.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The tables refused.
    #[error("the tables: {0}")]
    Tables(#[from] Box<redb::Error>),
    /// The payload files refused.
    #[error("the payload files: {0}")]
    Payloads(#[from] io::Error),
    /// What is in the tables is not what this program writes.
    #[error(
        "{0} in the tables of history can't be read; stop the server and move the folder \
         `history` away: it is made anew from what the log still holds"
    )]
    Damaged(&'static str),
    /// A newer program wrote the tables.
    #[error("the tables of history have version {0}; use the program that wrote them")]
    Version(u64),
    /// The tables or payload files can't be opened.
    #[error(
        "{0}. See whether the disk is sound and the folder `history` belongs to this user. If what \
         is in it is damaged, move it away: it is made anew from what the log still holds, or \
         restore a backup, which has what was acked as well"
    )]
    Unopened(Box<Self>),
    /// The log could not be followed.
    #[error(transparent)]
    Log(#[from] FollowError),
}

impl HistoryError {
    /// Of an error at the opening: what to do about it.
    fn at_opening(self) -> Self {
        match self {
            Self::Tables(_) | Self::Payloads(_) => Self::Unopened(Box::new(self)),
            other => other,
        }
    }

    /// Whether trying again can't help.
    fn is_final(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Version(_) => true,
            Self::Log(FollowError::Log(error)) => !matches!(error, RecoverError::Io { .. }),
            Self::Log(FollowError::Lost(_) | FollowError::Ahead { .. }) => true,
            Self::Tables(_) | Self::Payloads(_) | Self::Unopened(_) => false,
        }
    }
}

/// The errors of redb are many and large; for us they are one.
macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for HistoryError {
            fn from(error: $error) -> Self {
                Self::Tables(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);
