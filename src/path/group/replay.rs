//! At start, records of groups' streams become tables again; then members' homes learn of them.

use super::change::{Change, apply};
use super::{forget, store};
use crate::log::{At, Kind, Record};
use crate::path::Rules;
use crate::state::Tables;
use crate::state::placement::Placement;

/// Replays a record of a group's stream; `tables` are those of the group's home.
pub fn stream(
    tables: &mut Tables,
    placement: Placement,
    rules: &Rules,
    at: At,
    record: &Record<'_>,
) {
    match record.kind {
        _ if record.moved => moved(tables, at, record),
        Kind::Group => {
            let Some(change) = Change::of(record) else { return };
            let seen = tables.groups.of(record.stream).map_or(0, |group| group.tail);
            if record.position <= seen {
                return;
            }
            if apply(tables, placement, record.stream, &change, record.position).is_some() {
                append(tables, rules, at, record);
            }
        }
        Kind::Message => {
            let seen = tables.groups.of(record.stream).map_or(u64::MAX, |group| group.tail);
            if record.position > seen {
                append(tables, rules, at, record);
            }
        }
        Kind::Tombstone => bury(tables, record),
        Kind::Cursor => released(tables, record),
        _ => {}
    }
}

fn append(tables: &mut Tables, rules: &Rules, at: At, record: &Record<'_>) {
    let Some(index) = tables.groups.find(record.stream) else { return };
    let Some(group) = tables.groups.get_mut(index) else { return };
    group.tail = record.position;
    let (mut entry, due_s) = store::entry_of(rules, record);
    entry.place(at);
    if group.append(entry) {
        tables.live.add(at, entry.bytes());
        tables.groups.note_due(index, due_s);
    }
}

/// A record that waits was copied forward: it is read from there now.
fn moved(tables: &mut Tables, at: At, record: &Record<'_>) {
    let Some(index) = tables.groups.find(record.stream) else { return };
    let Some(group) = tables.groups.get_mut(index) else { return };
    if let Some(former) = group.place(record.position, at) {
        forget(&mut tables.live, &former);
        tables.live.add(at, former.bytes());
    }
}

/// A record is not for anybody any more.
fn bury(tables: &mut Tables, record: &Record<'_>) {
    let Some(index) = tables.groups.find(record.stream) else { return };
    let Some(group) = tables.groups.get_mut(index) else { return };
    if let Some(entry) = group.remove(record.position) {
        forget(&mut tables.live, &entry);
        if let Some(at) = entry.at() {
            tables.live.scrub(at);
        }
    }
}

/// Everything up to a position was let go.
fn released(tables: &mut Tables, record: &Record<'_>) {
    let Some(index) = tables.groups.find(record.stream) else { return };
    let Some(group) = tables.groups.get_mut(index) else { return };
    group.released = group.released.max(record.aux);
    while let Some(entry) = group.pop_through(record.aux) {
        forget(&mut tables.live, &entry);
    }
}

/// All records are replayed: tells the homes of members of their groups.
pub fn tell_homes(tables: &mut [Tables], placement: Placement) {
    for home in 0..tables.len() {
        for index in 0..tables[home].groups.slots() {
            let Some(group) = tables[home].groups.get_mut(index) else { continue };
            group.announced = group.tail;
            group.told_has = group.has.least().unwrap_or(group.tail);
            group.told_read = group.read.least().unwrap_or(group.tail);
            group.homes.clear();
            let wrote = group.after(group.told_has.min(group.told_read));
            let wrote: Vec<_> = wrote.filter(|it| it.is_message()).copied().collect();
            for entry in wrote {
                group.note_author(entry.sender, entry.position);
            }
            let (id, head) = (group.id, group.announced);
            let members = std::mem::take(&mut group.members);
            for (&user, member) in &members {
                let at = placement.home(user);
                if !super::members::restore(&mut tables[at], user, (id, head), member) {
                    tables[home].groups.quits.push_back((id, user));
                }
                if let Some(group) = tables[home].groups.get_mut(index) {
                    group.count_home(at);
                }
            }
            if let Some(group) = tables[home].groups.get_mut(index) {
                group.members = members;
            }
            tables[home].groups.touch_marks(index);
        }
    }
}
