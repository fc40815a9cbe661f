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
pub mod members;
pub mod page;
pub mod replay;
pub mod seats;
pub mod store;

pub use crate::config::GroupRules;

use crate::limits;
use crate::log::At;
use crate::state::Tables;
use crate::state::groups::Groups;
use crate::state::inbox::Entry;
use crate::state::live::Live;

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

/// The group is over: nobody finds it any more. A large one is taken apart piece by piece
/// ([`take_apart`]).
pub fn end(tables: &mut Tables, index: u32) {
    let Some(group) = tables.groups.remove(index) else { return };
    tables.groups.over.push_back(group);
    if tables.groups.over.len() == 1 {
        take_apart(tables);
    }
}

/// Takes groups that are over apart, a bounded piece: nothing of them is kept.
pub fn take_apart(tables: &mut Tables) {
    let Tables { groups, live, .. } = tables;
    let mut left = limits::GROUP_APART_PER_TURN_MAX;
    while let Some(group) = groups.over.front_mut() {
        while left > 0
            && let Some(entry) = group.pop_through(u64::MAX)
        {
            forget(live, &entry);
            if let Some(at) = entry.at() {
                live.scrub(at);
            }
            left -= 1;
        }
        let members = group.members.len();
        if group.waiting() > 0 || members > left {
            group.forget_some(left);
            return;
        }
        left -= members;
        groups.over.pop_front();
    }
}
