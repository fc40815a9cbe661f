//! Groups, beside the message path: one stream per group, at the group's home.
//!
//! ```text
//!  sender's home      group's home                     members' homes
//!  route --question-> store: a place in the log
//!                     push --one letter per shard----> seats: one frame, copied to live devices
//!  finish <-answer--- durable
//!                     marks <--flags, once per turn--- ack, read
//!                     ticks, release
//!                     page  <--question-- answer-----> fetch: who is behind
//! ```
//!
//! `change` are the rules of who may change what, the same for orders and for a replay.

pub mod change;
pub mod image;
pub mod look;
pub mod marks;
pub mod page;
pub mod replay;
pub mod seats;
pub mod store;

use crate::limits;
use crate::log::At;
use crate::state::Tables;
use crate::state::groups::Groups;
use crate::state::inbox::Entry;
use crate::state::live::Live;

/// What an operator may set of the rules for groups.
#[derive(Clone, Copy, Debug)]
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

/// A record of a group can be read from the log at this place.
pub fn place(groups: &mut Groups, live: &mut Live, index: u32, position: u64, at: At) {
    let Some(group) = groups.get_mut(index) else { return };
    if let Some(former) = group.place(position, at) {
        live.add(at, former.bytes());
    }
}

/// What was counted for a record that nobody waits for any more.
pub(super) fn forget(live: &mut Live, entry: &Entry) {
    if let Some(at) = entry.at()
        && !entry.is_moving()
    {
        live.remove(at, entry.bytes());
    }
}

/// The group is over: nothing of it is kept.
pub fn end(tables: &mut Tables, index: u32) {
    let Some(mut group) = tables.groups.remove(index) else { return };
    while let Some(entry) = group.pop_through(u64::MAX) {
        forget(&mut tables.live, &entry);
        if let Some(at) = entry.at() {
            tables.live.scrub(at);
        }
    }
}
