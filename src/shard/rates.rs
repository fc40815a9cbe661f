//! How much one user and one source of connections may ask of a shard (token buckets; what one
//! connection may is counted in it, see `intake`).
//!
//! A user who sends few messages a second is not even looked up: a bucket is taken from only for
//! frames of a session beyond its share of the rate, so that all devices of a user together never
//! get less than the rate, and at the worst twice as much.

use super::Core;
use crate::limits;
use crate::log::Reader;
use crate::mem::{Buckets, Rate, RetryAfterMs, Token};
use crate::path::Rules;

/// The rates in force.
#[derive(Debug)]
pub(super) struct Rates {
    /// By index of the user.
    messages: Buckets<u32>,
    /// By the source, as [`crate::state::sources::Sources::key_of`] says it.
    logins: Buckets<u64>,
    /// Frames of a session in one second that are not looked at.
    free_frames: u16,
}

impl Rates {
    pub(super) fn new(rules: &Rules) -> Self {
        let rate = |per_second: u32, seconds| Rate::new(per_second, per_second * seconds);
        let messages = rate(rules.messages_per_second_max, limits::MESSAGES_BURST_S);
        let logins = rate(rules.logins_per_second_max, limits::LOGINS_BURST_S);
        let devices = u32::try_from(limits::DEVICES_PER_USER_MAX).unwrap_or(u32::MAX);
        let free_frames = rules.messages_per_second_max / devices;
        Self {
            messages: Buckets::new(messages, limits::RATES_WATCHED_MAX),
            logins: Buckets::new(logins, limits::RATES_WATCHED_MAX),
            free_frames: u16::try_from(free_frames).unwrap_or(u16::MAX),
        }
    }

    /// A user sends a message from outside a session.
    pub(super) fn take_message(&mut self, user: u32, now_ms: u64) -> Result<(), RetryAfterMs> {
        self.messages.take(user, 1, now_ms)
    }
}

impl<S, R: Reader> Core<S, R> {
    /// A user sends a new message on this connection.
    pub(super) fn may_send(&mut self, token: Token, user: u32) -> Result<(), RetryAfterMs> {
        let spent = self.tables.conns.get(token).map_or(u16::MAX, |conn| conn.spent);
        if spent <= self.rates.free_frames {
            return Ok(());
        }
        self.rates.take_message(user, self.host_ms)
    }

    /// Somebody logs in on this connection.
    pub(super) fn may_log_in(&mut self, token: Token) -> Result<(), RetryAfterMs> {
        let Some(conn) = self.tables.conns.get(token) else { return Ok(()) };
        let source = self.tables.sources.key_of(conn.source);
        self.rates.logins.take(source, 1, self.host_ms)
    }
}
