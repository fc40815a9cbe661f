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
