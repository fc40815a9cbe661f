//! Beside the message path: what has waited too long is given up, and its sender is told.
//!
//! ```text
//!  recipient's home                     sender's home
//!  its time is over: pushed no more --> a notice in the sender's inbox
//!  a tombstone in the log           <-- durable
//!  gone
//! ```
//!
//! So the sender is told before the message goes (I1). A crash in between tells twice; clients drop
//! the second by the message's id. Copies and notices nobody fetched just go.
//!
//! Time here is wall time that only moves as the host's monotonic clock does, see
//! `shard::expiry`.

use crate::clock::Now;
use crate::limits;
use crate::log::{self, Kind, Lane, Reader, Record, Stage};
use crate::path::store::{Stored, copies_are_full, forget_entry};
use crate::path::{Rules, STREAM_USER};
use crate::state::inbox::{Entry, What};
use crate::state::request::{Request, Staged};
use crate::state::voids::Void;
use crate::state::window::Outcome;
use crate::state::{Positions, Tables};
use wire::{MessageId, Relation};

/// When a message with this time and time to live has its time over, in seconds since 1970.
#[must_use]
pub fn due_s(rules: &Rules, time_ms: u64, ttl_s: u32) -> u32 {
    let kept_s = if ttl_s == 0 { rules.retention_s } else { ttl_s.min(rules.retention_s) };
    u32::try_from(time_ms / 1000).unwrap_or(u32::MAX).saturating_add(kept_s)
}

/// What to do with a record whose time is over.
#[derive(Debug)]
pub enum Begun {
    /// Bury it at once.
    Bury,
    /// Its sender's home has to be told first.
    Tell(Box<Request>),
    /// It can't be read back: it stays, and is counted.
    Unreadable,
}

/// Collects the positions in a user's inbox whose time is over, at most as many as `out` has room
/// for below the limit, and notes when to look again.
pub fn examine<R: Reader>(
    tables: &mut Tables,
    reader: &mut R,
    rules: &Rules,
    user: u32,
    now_s: u32,
    out: &mut Vec<u64>,
) {
    let Tables { users, inboxes, expiry, .. } = tables;
    let Some(mut inbox) = inboxes.get_mut(users.user(user).inbox) else { return };
    let mut next_s = u32::MAX;
    let mut oldest_seen = false;
    for entry in inbox.as_ref().after(0) {
        if entry.is_expiring() || (oldest_seen && !entry.is_timed()) {
            continue;
        }
        let due_s = match entry.due_s() {
            Some(due_s) => due_s,
            None => oldest_due(reader, rules, &entry, now_s),
        };
        if due_s > now_s || entry.at().is_none() {
            oldest_seen |= !entry.is_timed();
            next_s = next_s.min(due_s.max(now_s + 1));
        } else if out.len() < limits::EXPIRED_PER_LOOK_MAX {
            out.push(entry.position);
        } else {
            next_s = now_s;
            break;
        }
    }
    if next_s != u32::MAX {
        expiry.note(&mut inbox, user, next_s);
    }
}

fn oldest_due<R: Reader>(reader: &mut R, rules: &Rules, entry: &Entry, now_s: u32) -> u32 {
    let Some(at) = entry.at() else { return now_s.saturating_add(1) };
    match reader.read(at).filter(|record| record.position == entry.position) {
        Some(record) => due_s(rules, record.time_ms, 0),
        None => now_s.saturating_add(limits::EXPIRY_RETRY_S),
    }
}

/// Begins to give up the record at `position`.
pub fn begin<R: Reader>(tables: &mut Tables, reader: &mut R, user: u32, position: u64) -> Begun {
    let Tables { users, inboxes, requests, counters, voids, .. } = tables;
    let owner = users.user(user);
    if let Some(Void { sender, device, client_id, .. }) = voids.get(user, position) {
        let mut request = requests.take();
        (request.sender, request.device, request.client_id) = (sender, device, client_id);
        fill(&mut request, owner.id, (position, 0));
        return Begun::Tell(request);
    }
    let Some(mut inbox) = inboxes.get_mut(owner.inbox) else { return Begun::Bury };
    let Some(entry) = inbox.as_ref().find(position) else { return Begun::Bury };
    if !entry.is_message() {
        return Begun::Bury;
    }
    let record = entry.at().and_then(|at| reader.read(at));
    let Some(record) = record.filter(|record| record.position == position) else {
        counters.unreadable += 1;
        return Begun::Unreadable;
    };
    let mut request = requests.take();
    (request.sender, request.device) = (record.sender, record.device);
    request.client_id = record.client_id;
    fill(&mut request, owner.id, (position, record.time_ms));
    inbox.set_expiring(position, true);
    Begun::Tell(request)
}

/// What a request says that takes word of an end to a sender.
fn fill(request: &mut Request, to: u64, (position, time_ms): (u64, u64)) {
    request.to = to;
    request.in_group = false;
    request.outcome = Outcome::Sent { position, time_ms };
    request.retry = None;
    request.ttl_s = 0;
    request.relation = None;
    request.stage = Staged::Notice;
    request.payload.clear();
}

/// At the sender's home: the notice gets its place. `None`: nobody is to be told.
///
/// # Errors
/// The log has no room for it now.
pub fn store_notice(
    tables: &mut Tables,
    rules: &Rules,
    stage: &mut Stage,
    positions: &mut Positions,
    request: &Request,
    now: Now,
) -> Result<Option<Stored>, log::Refused> {
    let Some(user) = tables.users.find(request.sender) else { return Ok(None) };
    if copies_are_full(tables, rules, user, request) {
        tables.counters.notices_lost += 1;
        return Ok(None);
    }
    let Outcome::Sent { position: of, .. } = request.outcome else { return Ok(None) };
    let position = positions.peek().ok_or(log::Refused::Busy)?;
    let record = Record {
        stream_kind: STREAM_USER,
        stream: request.sender,
        position,
        sender: request.sender,
        device: request.device,
        client_id: request.client_id,
        time_ms: now.wall_ms,
        peer: request.to,
        aux: of,
        ..Record::blank(Kind::Notice)
    };
    let ticket = stage.append_urgent(Lane::Reserve, &record)?;
    positions.take();
    let owner = tables.users.user_mut(user);
    let former_tail = std::mem::replace(&mut owner.tail, position);
    let from = (request.sender, request.device);
    let mut inbox = tables.inboxes.of(&mut owner.inbox);
    inbox.append(Entry::staged(position, from, 0, What::Notice, None));
    tables.expiry.note(&mut inbox, user, due_s(rules, now.wall_ms, 0));
    Ok(Some(Stored { user, position, former_tail, ticket, time_ms: now.wall_ms, void: false }))
}

/// Stages the word that a record is not for anybody any more.
///
/// # Errors
/// The log has no room for it now.
pub fn stage_tombstone(
    tables: &Tables,
    stage: &mut Stage,
    user: u32,
    position: u64,
    now: Now,
) -> Result<(), log::Refused> {
    let record = Record {
        stream_kind: STREAM_USER,
        stream: tables.users.user(user).id,
        position,
        time_ms: now.wall_ms,
        ..Record::blank(Kind::Tombstone)
    };
    stage.append(Lane::Reserve, &record).map(|_| ())
}

/// Takes a record out of its inbox; its payload is to go from the disk soon.
pub fn remove(tables: &mut Tables, user: u32, position: u64) {
    tables.voids.remove(user, position);
    let owner = tables.users.user_mut(user);
    let Some(mut inbox) = tables.inboxes.get_mut(owner.inbox) else { return };
    let Some(entry) = inbox.remove(position) else { return };
    forget_entry(&mut tables.live, &mut tables.pairs, (user, owner.first_pair), &entry);
    tables.inboxes.release_empty(&mut owner.inbox);
    let tail = owner.tail;
    if let Some(at) = entry.at() {
        tables.live.scrub(at);
    }
    let mut index = owner.first_device;
    while index != crate::state::NONE {
        let device = tables.users.device_mut(index);
        let own = entry.is_own_copy() && entry.device == device.id;
        if device.cursor < position && position <= device.pushed && !own && device.unacked > 0 {
            device.unacked -= 1;
            device.unacked_bytes = device.unacked_bytes.saturating_sub(entry.bytes());
        }
        if device.unacked == 0 && device.pushed == tail && device.cursor < tail {
            device.imply_cursor(tail); // nothing is owed any more
        }
        index = device.next;
    }
}

/// What a message of `author` asks to delete: one of its own.
#[must_use]
pub fn delete_target(relation: Option<Relation>, author: u64) -> Option<MessageId> {
    let Relation { kind, target } = relation?;
    (kind == wire::RELATION_DELETE && target.sender == author).then_some(target)
}

/// The waiting message of `author` that a message deletes, if there is one in this inbox.
pub fn find_target<R: Reader>(
    tables: &mut Tables,
    reader: &mut R,
    user: u32,
    relation: Option<Relation>,
    author: u64,
) -> Option<u64> {
    let target = delete_target(relation, author)?;
    let inbox = tables.inboxes.get(tables.users.user(user).inbox)?;
    let same = |entry: &Entry| (entry.sender, entry.device) == (target.sender, target.device);
    let candidates = inbox.after(0).filter(same).take(limits::DELETE_LOOKS_MAX);
    let mut found = candidates.filter(|entry| {
        entry.at().and_then(|at| reader.read(at)).is_some_and(|record| {
            let MessageId { client_id, .. } = target;
            record.position == entry.position && record.client_id == client_id
        })
    });
    found.next().map(|entry| entry.position)
}

/// What `request` deletes if that was written while its author was blocked: no word of its end is
/// to come then, as of any deleted message.
#[must_use]
pub fn find_void(tables: &Tables, user: u32, request: &Request) -> Option<u64> {
    let target = delete_target(request.relation, request.sender)?;
    let waiting = tables.voids.from((user, 0)).take_while(|((whose, _), _)| *whose == user);
    let mut found = waiting.take(limits::DELETE_LOOKS_MAX).filter(|(_, void)| {
        (void.sender, void.device, void.client_id)
            == (target.sender, target.device, target.client_id)
    });
    found.next().map(|((_, position), _)| position)
}
