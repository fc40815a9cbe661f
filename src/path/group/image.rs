//! Groups as items of a checkpoint's pieces, and back.
//!
//! A group's head is one item, so it is exact at one point of the log. Its members, former members
//! and waiting records are lists that can be cut anywhere: what they hold only adds to what is
//! known, and who goes meanwhile goes by a record behind it.

use crate::limits;
use crate::path::image::{BadImage, Input, put_entry, put_u32, put_u64};
use crate::state::Tables;
use crate::state::groups::{Former, Group, Member};
use crate::state::inbox::Entry;
use crate::state::placement::Placement;

pub(in crate::path) const GROUP: u8 = 7;
pub(in crate::path) const MEMBERS: u8 = 8;
pub(in crate::path) const FORMER: u8 = 9;
pub(in crate::path) const GROUP_ENTRIES: u8 = 10;

const MEMBER_BYTES: usize = 48;
const FORMER_BYTES: usize = 24;
const ENTRY_BYTES: usize = 36;
/// Tag and head of the largest item without its list or name.
const HEAD_BYTES: usize = 48;

/// Where the walk over groups is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// At the group in this slot.
    Group(u32),
    /// At its members above this id.
    Members(u32, u64),
    /// At its former members from this one on.
    Former(u32, usize),
    /// At its waiting records above this position.
    Entries(u32, u64),
}

impl Walk {
    /// The slot it is at.
    #[must_use]
    pub fn slot(self) -> u32 {
        match self {
            Self::Group(slot)
            | Self::Members(slot, _)
            | Self::Former(slot, _)
            | Self::Entries(slot, _) => slot,
        }
    }
}

/// Appends one item, or a part of a list, with at most about `room` bytes. Returns where to go on;
/// none: that was all.
pub fn write(tables: &Tables, walk: Walk, room: usize, out: &mut Vec<u8>) -> Option<Walk> {
    let slot = walk.slot();
    if slot >= tables.groups.slots() {
        return None;
    }
    let Some(group) = tables.groups.get(slot) else { return Some(Walk::Group(slot + 1)) };
    Some(match walk {
        Walk::Group(_) => {
            write_group(group, out);
            Walk::Members(slot, 0)
        }
        Walk::Members(_, after) => match write_members(group, after, room, out) {
            Some(after) => Walk::Members(slot, after),
            None => Walk::Former(slot, 0),
        },
        Walk::Former(_, from) => match write_former(group, from, room, out) {
            Some(from) => Walk::Former(slot, from),
            None => Walk::Entries(slot, 0),
        },
        Walk::Entries(_, after) => match write_entries(group, after, room, out) {
            Some(after) => Walk::Entries(slot, after),
            None => Walk::Group(slot + 1),
        },
    })
}

fn write_group(group: &Group, out: &mut Vec<u8>) {
    out.push(GROUP);
    for number in [group.id, group.owner, group.tail, group.released] {
        put_u64(out, number);
    }
    put_u32(out, u32::try_from(group.name.len()).unwrap_or(0));
    out.extend_from_slice(group.name.as_bytes());
}

fn write_members(group: &Group, after: u64, room: usize, out: &mut Vec<u8>) -> Option<u64> {
    let most = room.saturating_sub(HEAD_BYTES) / MEMBER_BYTES;
    let rest = || group.members.range(after.saturating_add(1)..).take(most);
    let count = rest().count();
    if count == 0 {
        return None;
    }
    begin_list(MEMBERS, group.id, count, out);
    let mut last = after;
    for (&user, member) in rest() {
        for number in [user, member.since, member.has, member.read, member.acked] {
            put_u64(out, number);
        }
        put_u64(out, u64::from(member.admin));
        last = user;
    }
    Some(last)
}

fn write_former(group: &Group, from: usize, room: usize, out: &mut Vec<u8>) -> Option<usize> {
    let most = room.saturating_sub(HEAD_BYTES) / FORMER_BYTES;
    let rest = || group.former.iter().skip(from).take(most);
    let count = rest().count();
    if count == 0 {
        return None;
    }
    begin_list(FORMER, group.id, count, out);
    for former in rest() {
        for number in [former.user, former.since, former.until] {
            put_u64(out, number);
        }
    }
    Some(from + count)
}

fn write_entries(group: &Group, after: u64, room: usize, out: &mut Vec<u8>) -> Option<u64> {
    let most = room.saturating_sub(HEAD_BYTES) / ENTRY_BYTES;
    let rest = || group.after(after).take(most);
    let count = rest().count();
    if count == 0 {
        return None;
    }
    begin_list(GROUP_ENTRIES, group.id, count, out);
    let mut last = after;
    for entry in rest() {
        put_entry(out, entry);
        last = entry.position;
    }
    Some(last)
}

fn begin_list(tag: u8, group: u64, count: usize, out: &mut Vec<u8>) {
    out.push(tag);
    put_u64(out, group);
    put_u32(out, u32::try_from(count).unwrap_or(0));
}

/// One thing of an image that is about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The group's id.
    pub group: u64,
    /// What there is to say of it.
    pub fact: Fact,
}

/// See [`Item`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The group itself.
    Group {
        /// Who owns it,
        owner: u64,
        /// the highest position,
        tail: u64,
        /// what was let go,
        released: u64,
        /// and its name.
        name: Box<str>,
    },
    /// A member.
    Member(u64, Member),
    /// Somebody who was a member.
    Former(Former),
    /// A record that waits.
    Entry(Entry),
}

/// Reads the item with this tag.
pub(in crate::path) fn read<E: From<BadImage>>(
    tag: u8,
    input: &mut Input<'_>,
    each: &mut impl FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    let group = input.u64()?;
    if tag == GROUP {
        let (owner, tail, released) = (input.u64()?, input.u64()?, input.u64()?);
        let bytes = input.u32()? as usize;
        if bytes > limits::GROUP_NAME_BYTES_MAX {
            return Err(BadImage.into());
        }
        let name = std::str::from_utf8(input.bytes(bytes)?).map_err(|_| BadImage)?.into();
        return each(Item { group, fact: Fact::Group { owner, tail, released, name } });
    }
    for _ in 0..input.u32()? {
        let fact = match tag {
            MEMBERS => {
                let (user, since, has) = (input.u64()?, input.u64()?, input.u64()?);
                let (read, acked, admin) = (input.u64()?, input.u64()?, input.u64()? != 0);
                let place = 0; // the group gives one
                Fact::Member(user, Member { admin, place, since, has, read, acked })
            }
            FORMER => {
                let (user, since, until) = (input.u64()?, input.u64()?, input.u64()?);
                Fact::Former(Former { user, since, until })
            }
            GROUP_ENTRIES => Fact::Entry(input.entry()?),
            _ => return Err(BadImage.into()),
        };
        each(Item { group, fact })?;
    }
    Ok(())
}

/// Loads an item into the tables of the group's home. An entry has its place by now.
pub(in crate::path) fn load(tables: &mut Tables, placement: Placement, item: Item) {
    let Item { group: id, fact } = item;
    if let Fact::Group { owner, tail, released, name } = fact {
        let index = tables.groups.add(id);
        let Some(group) = tables.groups.get_mut(index) else { return };
        (group.owner, group.tail, group.released, group.name) = (owner, tail, released, name);
        return;
    }
    let Some(index) = tables.groups.find(id) else { return };
    let Some(group) = tables.groups.get_mut(index) else { return };
    match fact {
        Fact::Group { .. } => {}
        Fact::Member(user, member) => group.put(user, placement.home(user), member),
        Fact::Former(former) => group.remember(former, limits::GROUP_FORMER_MAX),
        Fact::Entry(entry) => {
            if group.insert(entry) {
                if let Some(at) = entry.at() {
                    tables.live.add(at, entry.bytes());
                }
                let due_s = entry.due_s().unwrap_or(u32::MAX);
                tables.groups.note_due(index, due_s);
            }
        }
    }
}
