//! THE RULES, one step per file, in the order a message meets them.
//!
//! ```text
//!  accept > frame > session > route > store > deliver > receipt
//!               beside them: presence, people, ending, group, expire, replay, image
//! ```
//!
//! A step never calls the next one: `shard::turn` does. Each is a plain function from tables, what
//! came in and the time to a small result. No clock, no socket, no file: the log is written through
//! a [`crate::log::Stage`] and read through a [`crate::log::Reader`], both handed in.

pub mod accept;
pub mod ahead;
pub mod deliver;
pub mod ending;
pub mod expire;
pub mod frame;
pub mod group;
pub mod image;
pub mod people;
pub mod presence;
pub mod receipt;
pub mod replay;
pub mod route;
pub mod session;
pub mod store;

use crate::limits;

/// `stream_kind` of a user's inbox in the log.
pub use crate::log::STREAM_USER;

/// What an operator may set of the rules; defaults are the limits.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Heartbeat interval told to clients, milliseconds.
    pub heartbeat_ms: u64,
    /// Largest payload.
    pub payload_bytes_max: usize,
    /// Messages waiting in one inbox.
    pub inbox_messages_max: u32,
    /// Payload bytes waiting in one inbox.
    pub inbox_bytes_max: u64,
    /// Messages of one sender waiting in one inbox.
    pub inbox_messages_per_sender_max: u32,
    /// Payload bytes of one sender waiting in one inbox.
    pub inbox_bytes_per_sender_max: u64,
    /// How long an un-acked message is kept, seconds.
    pub retention_s: u32,
    /// A message to a user that never logged in makes the user.
    pub unknown_users_allowed: bool,
    /// Origins of browsers that may connect.
    pub origins: Vec<String>,
    /// Connections without login that a shard lets in at a time while they get on.
    pub admitted_at_once_max: usize,
    /// Connections without login per shard.
    pub unknown_conns_max: usize,
    /// Connections without login per source and shard.
    pub unknown_conns_per_source_max: usize,
    /// Messages of one user in a second; 0: as many as there are.
    pub messages_per_second_max: u32,
    /// Logins from one source and shard in a second; 0: as many as there are.
    pub logins_per_second_max: u32,
    /// Those of groups.
    pub groups: group::GroupRules,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            heartbeat_ms: limits::HEARTBEAT_MS,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            inbox_messages_max: limits::INBOX_MESSAGES_MAX,
            inbox_bytes_max: limits::INBOX_BYTES_MAX,
            inbox_messages_per_sender_max: limits::INBOX_MESSAGES_PER_SENDER_MAX,
            inbox_bytes_per_sender_max: limits::INBOX_BYTES_PER_SENDER_MAX,
            retention_s: limits::RETENTION_S,
            unknown_users_allowed: false,
            origins: Vec::new(),
            admitted_at_once_max: limits::ADMITTED_AT_ONCE_MAX,
            unknown_conns_max: limits::UNKNOWN_CONNS_MAX,
            unknown_conns_per_source_max: limits::UNKNOWN_CONNS_PER_SOURCE_MAX,
            messages_per_second_max: limits::MESSAGES_PER_SECOND_MAX,
            logins_per_second_max: limits::LOGINS_PER_SECOND_MAX,
            groups: group::GroupRules::default(),
        }
    }
}
