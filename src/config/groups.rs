//! What an operator may set of the rules for groups.

use super::Settings;
use crate::limits;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRules {
    /// Members of one group.
    pub members_max: u32,
    /// Members up to which messages are pushed; to those of larger groups it is told that there
    /// are some.
    pub push_max: u32,
    /// Members above which nobody is told of arrivals and departures.
    pub quiet_above: u32,
    /// Records waiting in one group.
    pub messages_max: u32,
    /// Payload bytes waiting in one group.
    pub bytes_max: u64,
}

impl Default for GroupRules {
    fn default() -> Self {
        Self {
            members_max: limits::GROUP_MEMBERS_MAX,
            push_max: limits::GROUP_PUSH_MAX,
            quiet_above: limits::GROUP_QUIET_ABOVE,
            messages_max: limits::GROUP_MESSAGES_MAX,
            bytes_max: limits::GROUP_BYTES_MAX,
        }
    }
}

impl GroupRules {
    /// What was said; what was not is at its default.
    pub(super) fn of(said: &Settings) -> Self {
        let usual = Self::default();
        Self {
            members_max: said.group_members_max.unwrap_or(usual.members_max),
            push_max: said.group_push_max.unwrap_or(usual.push_max),
            quiet_above: said.group_quiet_above.unwrap_or(usual.quiet_above),
            messages_max: said.group_messages_max.unwrap_or(usual.messages_max),
            bytes_max: said.group_bytes_max.unwrap_or(usual.bytes_max),
        }
    }
}
