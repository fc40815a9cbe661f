//! The shard's ends of the queues to and from the threads beside it.

use super::HistoryEnds;
use crate::auth::{Claims, TokenError};
use crate::mem::Token;
use crate::ring::Inlet;
use crate::state::request::Login;
use std::sync::Arc;

/// A token to be checked off the shard.
#[derive(Debug)]
pub struct CheckJob {
    /// Where the answer goes.
    pub shard: usize,
    /// Whose token.
    pub conn: Token,
    /// The token itself.
    pub jwt: String,
    /// What the `Hello` said besides; none for a `Renew`.
    pub hello: Option<Login>,
}

/// The answer.
#[derive(Debug)]
pub struct Checked {
    /// Whose token.
    pub conn: Token,
    /// What the `Hello` said besides; none for a `Renew`.
    pub hello: Option<Login>,
    /// What the token says.
    pub claims: Result<Claims, TokenError>,
}

/// Threads beside the shards.
#[derive(Debug, Clone)]
pub struct Side {
    /// Tokens to check.
    pub jobs: Arc<Inlet<CheckJob>>,
    /// Checked tokens of this shard.
    pub checked: Arc<Inlet<Checked>>,
    /// Last-seen times for their file: (user, seconds).
    pub seen: Arc<Inlet<SeenBatch>>,
    /// History, if this server keeps one.
    pub history: Option<HistoryEnds>,
}

impl Side {
    /// Nothing of these threads waits for the shard.
    pub(super) fn is_empty(&self) -> bool {
        let answered = self.history.as_ref().is_some_and(|history| !history.answers.is_empty());
        self.checked.is_empty() && !answered
    }
}

/// Last-seen times of one flush: (user, seconds since 1970).
pub type SeenBatch = Vec<(u64, u32)>;
