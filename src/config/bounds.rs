//! Between which numbers an operator may choose: one table for the check and for the help.
//!
//! Owner: the main thread, at start. The numbers themselves are in `limits`.

use clap::Arg;

use super::Config;
use super::error::ConfigError;
use crate::limits;

/// A setting with bounds.
struct Bounds {
    key: &'static str,
    unit: &'static str,
    min: Least,
    max: Most,
    /// What was chosen; `None`: nothing, and that is fine.
    value: fn(&Config) -> Option<u64>,
}

/// The lower bound.
enum Least {
    Number(u64),
    /// One payload of the largest size, else a message that is allowed could never wait.
    Payload,
    /// So many segments.
    Segments(u64),
}

/// The upper bound.
enum Most {
    Number(u64),
    /// What a TOML file can say.
    Any,
}

impl Least {
    fn of(&self, config: &Config) -> u64 {
        match *self {
            Self::Number(number) => number,
            Self::Payload => config.payload_bytes_max as u64,
            Self::Segments(count) => count * config.segment_bytes,
        }
    }
}

/// Every one, in the order they are checked: what a bound is made of comes before it.
const BOUNDS: [Bounds; 28] = [
    bounds("origins", "entries", 0, limits::ORIGINS_MAX as u64, |c| Some(c.origins.len() as u64)),
    bounds("shards", "count", 1, limits::SHARDS_MAX as u64, |c| Some(c.shards as u64)),
    bounds(
        "heartbeat_ms",
        "milliseconds",
        limits::HEARTBEAT_MS_MIN,
        limits::HEARTBEAT_MS_MAX,
        |c| Some(c.heartbeat_ms),
    ),
    bounds("sessions_max", "count", 1, limits::SESSIONS_SETTING_MAX as u64, |c| {
        Some(c.sessions_max as u64)
    }),
    bounds("users_max", "count", 1, limits::USERS_SETTING_MAX as u64, |c| Some(c.users_max as u64)),
    bounds("pairs_max", "count", 1, limits::PAIRS_SETTING_MAX as u64, |c| Some(c.pairs_max as u64)),
    bounds(
        "unknown_conns_per_source_max",
        "count per shard",
        1,
        limits::UNKNOWN_CONNS_MAX as u64,
        |c| Some(c.unknown_conns_per_source_max as u64),
    ),
    bounds("messages_per_second_max", "count", 0, limits::RATE_SETTING_MAX as u64, |c| {
        Some(c.messages_per_second_max.into())
    }),
    bounds("logins_per_second_max", "count per shard", 0, limits::RATE_SETTING_MAX as u64, |c| {
        Some(c.logins_per_second_max.into())
    }),
    bounds("payload_bytes_max", "bytes", 1, limits::PAYLOAD_BYTES_MAX as u64, |c| {
        Some(c.payload_bytes_max as u64)
    }),
    bounds(
        "retention_s",
        "seconds",
        limits::RETENTION_S_MIN as u64,
        limits::RETENTION_S_MAX as u64,
        |c| Some(c.retention_s.into()),
    ),
    bounds("inbox_messages_max", "count", 1, limits::INBOX_MESSAGES_SETTING_MAX as u64, |c| {
        Some(c.inbox_messages_max.into())
    }),
    bounds(
        "inbox_messages_per_sender_max",
        "count",
        1,
        limits::INBOX_MESSAGES_SETTING_MAX as u64,
        |c| Some(c.inbox_messages_per_sender_max.into()),
    ),
    Bounds {
        min: Least::Payload,
        ..bounds("inbox_bytes_max", "bytes", 0, limits::INBOX_BYTES_SETTING_MAX, |c| {
            Some(c.inbox_bytes_max)
        })
    },
    Bounds {
        min: Least::Payload,
        ..bounds("inbox_bytes_per_sender_max", "bytes", 0, limits::INBOX_BYTES_SETTING_MAX, |c| {
            Some(c.inbox_bytes_per_sender_max)
        })
    },
    bounds("group_members_max", "count", 1, limits::GROUP_MEMBERS_SETTING_MAX as u64, |c| {
        Some(c.groups.members_max.into())
    }),
    bounds("group_push_max", "count", 0, limits::GROUP_PUSH_SETTING_MAX as u64, |c| {
        Some(c.groups.push_max.into())
    }),
    bounds("group_quiet_above", "count", 0, limits::GROUP_MEMBERS_SETTING_MAX as u64, |c| {
        Some(c.groups.quiet_above.into())
    }),
    bounds("group_messages_max", "count", 1, limits::INBOX_MESSAGES_SETTING_MAX as u64, |c| {
        Some(c.groups.messages_max.into())
    }),
    Bounds {
        min: Least::Payload,
        ..bounds("group_bytes_max", "bytes", 0, limits::INBOX_BYTES_SETTING_MAX, |c| {
            Some(c.groups.bytes_max)
        })
    },
    bounds(
        "segment_bytes",
        "bytes",
        limits::SEGMENT_BYTES_SETTING_MIN,
        limits::SEGMENT_BYTES_SETTING_MAX,
        |c| Some(c.segment_bytes),
    ),
    Bounds {
        min: Least::Segments(limits::LOG_SEGMENTS_MIN),
        max: Most::Any,
        ..bounds("log_bytes_max", "bytes", 0, 0, |c| c.log_bytes_max)
    },
    bounds("commit_gap_us", "microseconds", 0, limits::COMMIT_GAP_US_SETTING_MAX, |c| {
        Some(c.commit_gap_us)
    }),
    bounds("history_messages_max", "count", 1, limits::HISTORY_MESSAGES_SETTING_MAX as u64, |c| {
        Some(c.history_messages_max.into())
    }),
    bounds(
        "access_token_s",
        "seconds",
        limits::ACCESS_TOKEN_S_MIN,
        limits::ACCESS_TOKEN_S_MAX,
        |c| Some(c.access_token_s),
    ),
    bounds("password_threads", "count", 1, limits::PASSWORD_THREADS_MAX as u64, |c| {
        Some(c.password_threads as u64)
    }),
    Bounds {
        max: Most::Any,
        ..bounds("memory_max_bytes", "bytes", 0, 0, |c| Some(c.memory_max_bytes))
    },
    bounds("drain_ms", "milliseconds", 0, limits::DRAIN_MS_SETTING_MAX, |c| Some(c.drain_ms)),
];

const fn bounds(
    key: &'static str,
    unit: &'static str,
    min: u64,
    max: u64,
    value: fn(&Config) -> Option<u64>,
) -> Bounds {
    Bounds { key, unit, min: Least::Number(min), max: Most::Number(max), value }
}

/// Checks every number.
///
/// # Errors
/// The first that is out of its bounds.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    for Bounds { key, min, max, value, .. } in &BOUNDS {
        let Some(value) = value(config) else { continue };
        let min = min.of(config);
        let max = match max {
            Most::Number(max) => *max,
            Most::Any => i64::MAX.unsigned_abs(),
        };
        if !(min..=max).contains(&value) {
            return Err(ConfigError::OutOfRange { key, value, min, max });
        }
    }
    Ok(())
}

/// Adds its bounds to the help of a setting that has some.
pub(super) fn tell(argument: Arg) -> Arg {
    let key = argument.get_id().as_str();
    let Some(Bounds { unit, min, max, .. }) = BOUNDS.iter().find(|bounds| bounds.key == key) else {
        return argument;
    };
    let min = match min {
        Least::Number(number) => number.to_string(),
        Least::Payload => "payload_bytes_max".to_owned(),
        Least::Segments(count) => format!("{count} times segment_bytes"),
    };
    let bounds = match max {
        Most::Number(max) => format!("{min} to {max}"),
        Most::Any => format!("at least {min}"),
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    argument.help(format!("{help} ({unit}, {bounds})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{example, layers};

    #[test]
    fn every_bound_is_of_a_setting_and_in_its_help() {
        let known = layers::known_keys();
        for Bounds { key, .. } in &BOUNDS {
            assert!(known.iter().any(|known| known == key), "{key}");
        }
        let text = example();
        for help in [
            format!("(count, 1 to {})", limits::SESSIONS_SETTING_MAX),
            format!("(seconds, {} to {})", limits::RETENTION_S_MIN, limits::RETENTION_S_MAX),
            format!("(bytes, payload_bytes_max to {})", limits::INBOX_BYTES_SETTING_MAX),
            format!("(bytes, at least {} times segment_bytes)", limits::LOG_SEGMENTS_MIN),
        ] {
            assert!(text.contains(&help), "{help} is not in\n{text}");
        }
    }
}
