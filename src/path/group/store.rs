//! A message or a change gets its place in a group's stream, at the group's home.

use super::GroupRules;
use super::change::Change;
use crate::clock::Now;
use crate::log::{Kind, Lane, Record, STREAM_GROUP, Stage, Ticket};
use crate::path::{Rules, expire};
use crate::state::groups::Pushed;
use crate::state::inbox::{Entry, What};
use crate::state::request::Request;
use crate::state::{Positions, Tables};
use wire::{MessageId, Refusal};

/// A record with a position, staged for the log.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Index of the group.
    pub group: u32,
    /// Its position.
    pub position: u64,
    /// The one that was announced before it.
    pub after: u64,
    /// When it is durable.
    pub ticket: Ticket,
    /// What it was stamped with, milliseconds since 1970.
    pub time_ms: u64,
}

/// Stores a message of a member.
///
/// # Errors
/// Why not; nothing was stored or given out then.
pub fn store(
    tables: &mut Tables,
    rules: &Rules,
    stage: &mut Stage,
    positions: &mut Positions,
    request: &Request,
    now: Now,
) -> Result<Stored, Refusal> {
    let index = tables.groups.find(request.to).ok_or(Refusal::NotMember)?;
    let group = tables.groups.get(index).ok_or(Refusal::NotMember)?;
    if !group.members.contains_key(&request.sender) {
        return Err(Refusal::NotMember);
    }
    let bytes = request.payload.len() as u64;
    let GroupRules { messages_max, bytes_max, .. } = rules.groups;
    if group.waiting_messages() >= messages_max as usize
        || group.waiting_bytes() + bytes > bytes_max
    {
        return Err(Refusal::InboxFull);
    }
    let position = positions.peek().ok_or(Refusal::StoreFailed)?;
    let record = Record {
        stream_kind: STREAM_GROUP,
        ..crate::path::store::record(Kind::Message, request, request.to, position, now.wall_ms)
    };
    let ticket = stage.append(Lane::Message, &record).map_err(crate::path::store::refusal_of)?;
    positions.take();
    tables.counters.stored += 1;
    let after = append(tables, rules, index, &record, true);
    imply_sender(tables, index, request.sender, after, position);
    Ok(Stored { group: index, position, after, ticket, time_ms: now.wall_ms })
}

/// Puts a record that found its place in the log, of a change after it was applied, at the end of
/// a group's stream: `announce` says whether members are told. Returns what was announced before.
pub fn append(
    tables: &mut Tables,
    rules: &Rules,
    index: u32,
    record: &Record<'_>,
    announce: bool,
) -> u64 {
    let Some(group) = tables.groups.get_mut(index) else { return 0 };
    let former = group.announced;
    group.tail = record.position;
    if announce {
        group.announced = record.position;
    }
    let (entry, due_s) = entry_of(rules, record);
    if entry.is_message() {
        group.note_author(record.sender, record.position);
    }
    if group.append(entry) {
        tables.groups.note_due(index, due_s);
    }
    former
}

/// What is kept of a record that waits for members, and when its time is over.
pub(super) fn entry_of(rules: &Rules, record: &Record<'_>) -> (Entry, u32) {
    let bytes = u32::try_from(record.payload.len()).unwrap_or(u32::MAX >> 1);
    let what = if record.kind == Kind::Message { What::Message } else { What::Notice };
    let due_s = expire::due_s(rules, record.time_ms, record.ttl_s);
    let from = (record.sender, record.device);
    (Entry::staged(record.position, from, bytes, what, Some(due_s)), due_s)
}

/// Who says something has it and has read it; if also everything before, then up to there.
fn imply_sender(tables: &mut Tables, index: u32, sender: u64, before: u64, position: u64) {
    let Some(group) = tables.groups.get_mut(index) else { return };
    let Some(member) = group.members.get(&sender) else { return };
    if member.has < before {
        return;
    }
    let read = if member.read >= before { position } else { 0 };
    group.raise(sender, (position, read, 0));
    tables.groups.touch_marks(index);
}

/// What members' homes get of a message.
pub fn fill_message(pushed: &mut Pushed, stored: &Stored, request: &Request) {
    pushed.group = request.to;
    (pushed.after, pushed.position) = (stored.after, stored.position);
    let Request { sender, device, client_id, .. } = *request;
    pushed.id = MessageId { sender, device, client_id };
    pushed.time_ms = stored.time_ms;
    (pushed.kind, pushed.relation, pushed.change) = (request.kind, request.relation, None);
    pushed.payload.clear();
    pushed.payload.extend_from_slice(&request.payload);
}

/// What members' homes get of a change.
pub fn fill_change(pushed: &mut Pushed, id: u64, stored: &Stored, change: &Change<'_>) {
    pushed.group = id;
    (pushed.after, pushed.position) = (stored.after, stored.position);
    pushed.id = MessageId { sender: change.by, device: 0, client_id: 0 };
    pushed.time_ms = stored.time_ms;
    (pushed.kind, pushed.relation, pushed.change) = (0, None, Some(change.told()));
    pushed.payload.clear();
    pushed.payload.extend_from_slice(change.name.as_bytes());
}
