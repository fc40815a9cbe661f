//! What members have becomes ticks for authors, and what all of them have is let go.

use super::forget;
use crate::canary::{self, Canary};
use crate::limits;
use crate::log::{Kind, Lane, Record, Refused, STREAM_GROUP, Stage};
use crate::state::Tables;
use crate::state::groups::{Group, Low, Stand, Tick};
use crate::state::inbox::Entry;
use crate::state::people::Marks;
use wire::{Mark, ServerFrame, Stream};

/// What became of a look at a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Nothing is left to be done.
    Done,
    /// There is more, in the next turn.
    Again,
}

/// A member's home says where it stands.
pub fn take(tables: &mut Tables, stand: &Stand) {
    let Some(index) = tables.groups.find(stand.group) else { return };
    let Some(group) = tables.groups.get_mut(index) else { return };
    group.raise(stand.user, (stand.has, stand.read, stand.acked));
    tables.groups.touch_marks(index);
}

/// Looks at a group whose marks moved. `tell` hands a tick to the home of its author and says
/// whether that was possible.
pub fn look(
    tables: &mut Tables,
    index: u32,
    tell: &mut impl FnMut(&mut Tables, Tick) -> bool,
) -> Looked {
    for mark in [Mark::Has, Mark::Read] {
        if tick_all(tables, index, mark, tell) == Looked::Again {
            return Looked::Again;
        }
    }
    if !tick_last(tables, index, tell) {
        return Looked::Again;
    }
    release(tables, index);
    Looked::Done
}

/// Tells authors what every member has, or has read, by now.
fn tick_all(
    tables: &mut Tables,
    index: u32,
    mark: Mark,
    tell: &mut impl FnMut(&mut Tables, Tick) -> bool,
) -> Looked {
    let Some(group) = tables.groups.get(index) else { return Looked::Done };
    let (low, told) = marks_of(group, mark);
    let early = canary::is(Canary::TickEarly).then_some(group.tail);
    let Some(least) = early.or_else(|| low.least()).filter(|least| *least > told) else {
        return Looked::Done;
    };
    let id = group.id;
    // What was begun is ended as it was, or with few credits some authors would never be reached.
    let begun = group.half_told[half(mark)].filter(|(up_to, _)| *up_to > told);
    let up_to = begun.map_or(least, |(up_to, _)| up_to);
    let heard = begun.map_or(0, |(_, author)| author);
    let mut authors = std::mem::take(&mut tables.groups.authors);
    authors.clear();
    authors.extend(tables.groups.get(index).into_iter().flat_map(|it| it.authors_after(told)));
    authors.sort_unstable();
    let mut last = heard;
    let all = authors.iter().filter(|author| **author > heard).all(|&author| {
        let told = tell(tables, Tick { author, group: id, after: told, up_to, mark });
        last = if told { author } else { last };
        told
    });
    tables.groups.authors = authors;
    let Some(group) = tables.groups.get_mut(index) else { return Looked::Done };
    group.half_told[half(mark)] = (!all).then_some((up_to, last));
    if !all {
        return Looked::Again;
    }
    match mark {
        Mark::Has => group.told_has = up_to,
        Mark::Read => group.told_read = up_to,
    }
    group.forget_authors();
    if up_to < least { Looked::Again } else { Looked::Done }
}

fn half(mark: Mark) -> usize {
    usize::from(mark == Mark::Read)
}

fn marks_of(group: &Group, mark: Mark) -> (&Low, u64) {
    match mark {
        Mark::Has => (&group.has, group.told_has),
        Mark::Read => (&group.read, group.told_read),
    }
}

/// An author who is the only one to stand lowest: everybody else has more of what it wrote. False:
/// it could not be told.
fn tick_last(
    tables: &mut Tables,
    index: u32,
    tell: &mut impl FnMut(&mut Tables, Tick) -> bool,
) -> bool {
    for mark in [Mark::Has, Mark::Read] {
        let Some(group) = tables.groups.get(index) else { return true };
        let (low, _) = marks_of(group, mark);
        let Some((author, second)) = group.lone(low) else { continue };
        let Some(after) = low.least() else { continue };
        let wrote = group.authors_after(after).any(|it| it == author);
        let tick = Tick { author, group: group.id, after, up_to: second, mark };
        let is_news = group.told_last != Some((author, second, mark));
        if wrote && is_news {
            if !tell(tables, tick) {
                return false;
            }
            if let Some(group) = tables.groups.get_mut(index) {
                group.told_last = Some((author, second, mark));
            }
        }
    }
    true
}

/// Lets go what all devices of all members have.
fn release(tables: &mut Tables, index: u32) {
    let Tables { groups, live, .. } = tables;
    let Some(group) = groups.get_mut(index) else { return };
    let Some(least) = group.acked.least() else { return };
    let mut last = 0;
    while let Some(entry) = group.pop_through(least) {
        forget(live, &entry);
        last = entry.position;
    }
    if last > 0 {
        groups.touch_release(index, last);
    }
}

/// Tells the log of what groups let go: a start must not look for what may be off the disk by then.
pub fn stage_releases(tables: &mut Tables, stage: &mut Stage, lane: Lane, wall_ms: u64) {
    let mut dirty = std::mem::take(&mut tables.groups.dirty_releases);
    dirty.retain(|&index| {
        let Some(group) = tables.groups.get_mut(index) else { return false };
        let record = Record {
            stream_kind: STREAM_GROUP,
            stream: group.id,
            time_ms: wall_ms,
            aux: group.released,
            ..Record::blank(Kind::Cursor)
        };
        group.release_dirty = stage.append(lane, &record).is_err();
        group.release_dirty
    });
    tables.groups.dirty_releases = dirty;
}

/// What an author asks after a while away: the marks of all it wrote.
pub fn ask(tables: &Tables, asker: u64, group: u64) -> Vec<Tick> {
    let Some(here) = tables.groups.of(group) else { return Vec::new() };
    let Some(member) = here.members.get(&asker) else { return Vec::new() };
    let after = member.since.saturating_sub(1);
    [(Mark::Has, here.told_has), (Mark::Read, here.told_read)]
        .into_iter()
        .filter(|(_, up_to)| *up_to > after)
        .map(|(mark, up_to)| Tick { author: asker, group, after, up_to, mark })
        .collect()
}

/// Pushes a tick to the devices of its author, at the author's home.
pub fn push(tables: &mut Tables, tick: &Tick) {
    let Some(user) = tables.users.find(tick.author) else { return };
    if tick.mark == Mark::Read && tables.users.user(user).marks.any(Marks::RECEIPTS_OFF) {
        return; // who gives no tick 3 gets none
    }
    let frame = ServerFrame::Receipt(wire::Receipt {
        stream: Some(Stream::Group(tick.group)),
        after: tick.after,
        up_to: tick.up_to,
        mark: tick.mark,
    });
    crate::path::session::for_each_conn(tables, user, crate::state::NONE, |tables, token| {
        tables.counters.receipts += 1;
        tables.write(token, &frame);
    });
}

/// Collects the positions in a group whose time is over and that something younger is before, at
/// most as many as one look may; what is oldest goes at once. Notes when to look again.
pub fn expired(tables: &mut Tables, index: u32, now_s: u32, out: &mut Vec<u64>) {
    let Tables { groups, live, counters, .. } = tables;
    let Some(group) = groups.get_mut(index) else { return };
    let is_due = |entry: &Entry| entry.at().is_some() && entry.due_s().unwrap_or(0) <= now_s;
    let mut last = 0;
    loop {
        let Some(first) = group.after(0).next().copied().filter(is_due) else { break };
        group.pop_through(first.position);
        forget(live, &first);
        if let Some(at) = first.at() {
            live.scrub(at);
        }
        counters.expired += u64::from(first.is_message());
        last = first.position;
    }
    let mut next_s = u32::MAX;
    for entry in group.after(0) {
        if is_due(entry) && out.len() < limits::EXPIRED_PER_LOOK_MAX {
            out.push(entry.position);
            counters.expired += u64::from(entry.is_message());
        } else {
            next_s = next_s.min(entry.due_s().unwrap_or(u32::MAX).max(now_s + 1));
        }
    }
    if last > 0 {
        groups.touch_release(index, last);
    }
    if next_s != u32::MAX {
        groups.note_due(index, next_s);
    }
}

/// Stages the word that a record of a group is not for anybody any more.
///
/// # Errors
/// The log has no room for it now.
pub fn stage_tombstone(
    tables: &Tables,
    stage: &mut Stage,
    index: u32,
    position: u64,
    wall_ms: u64,
) -> Result<(), Refused> {
    let Some(group) = tables.groups.get(index) else { return Ok(()) };
    let record = Record {
        stream_kind: STREAM_GROUP,
        stream: group.id,
        position,
        time_ms: wall_ms,
        ..Record::blank(Kind::Tombstone)
    };
    stage.append(Lane::Reserve, &record).map(|_| ())
}

/// Takes a record out of its group; its payload is to go from the disk soon.
pub fn remove(tables: &mut Tables, index: u32, position: u64) {
    let Tables { groups, live, .. } = tables;
    let Some(group) = groups.get_mut(index) else { return };
    let Some(entry) = group.remove(position) else { return };
    forget(live, &entry);
    if let Some(at) = entry.at() {
        live.scrub(at);
    }
}
