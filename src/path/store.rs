//! Step 5: a message at its recipient's home gets its position and its place in the log.
//!
//! Everything that could refuse it is asked before: the user, the quotas, room in the log. After
//! this step it is pushed and can't be refused any more (I5).
//!
//! **Nothing overtakes a refusal** (I3): requests from one shard travel through one queue, so those
//! of a device behind one that was refused with "try again" may still be under way. Each request
//! says how many such refusals its shard had heard of when it sent it, and [`Refusals`] remembers
//! those it had not: what lies behind one of them is refused as well.

mod refusals;

pub use refusals::Refusals;

use crate::canary::{self, Canary};
use crate::clock::Now;
use crate::log::{self, Kind, Lane, Record, STREAM_GROUP, Stage, Ticket};
use crate::path::{Rules, STREAM_USER, expire, people};
use crate::state::device::CursorNews;
use crate::state::inbox::{Entry, What};
use crate::state::live::Live;
use crate::state::pairs::Pairs;
use crate::state::people::Marks;
use crate::state::request::Request;
use crate::state::voids::Void;
use crate::state::{NONE, Positions, Tables};
use wire::Refusal;

/// A message with a position, staged for the log.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Index of the user whose stream it is in.
    pub user: u32,
    /// Its position.
    pub position: u64,
    /// The stream's tail before it.
    pub former_tail: u64,
    /// When its record is durable.
    pub ticket: Ticket,
    /// What it was stamped with, milliseconds since 1970.
    pub time_ms: u64,
    /// The recipient blocks its sender: nobody gets it.
    pub void: bool,
}

/// Stores a message in its recipient's stream.
///
/// # Errors
/// Why not; nothing was stored or given out then.
pub fn store(
    tables: &mut Tables,
    rules: &Rules,
    stage: &mut Stage,
    positions: &mut Positions,
    refusals: &mut Refusals,
    request: &Request,
    now: Now,
) -> Result<Stored, Refusal> {
    guarded(refusals, request, || try_store(tables, rules, stage, positions, request, now))
}

/// Refuses what lies behind a refusal that its shard had not heard of, and remembers further ones.
///
/// # Errors
/// As `store` says, or [`Refusal::Held`].
pub fn guarded<T>(
    refusals: &mut Refusals,
    request: &Request,
    store: impl FnOnce() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    refusals.heard(request.refusals_heard);
    let stored = if refusals.holds(request) && !canary::is(Canary::OvertakeRefused) {
        Err(Refusal::Held)
    } else {
        store()
    };
    if let Err(reason) = &stored
        && reason.retriable()
    {
        refusals.note(request);
    }
    stored
}

/// What a sender hears when the log does not take a message.
pub(in crate::path) fn refusal_of(refused: log::Refused) -> Refusal {
    match refused {
        log::Refused::Full => Refusal::DiskFull,
        log::Refused::Busy => Refusal::Overloaded,
        log::Refused::Failed => Refusal::StoreFailed,
    }
}

fn try_store(
    tables: &mut Tables,
    rules: &Rules,
    stage: &mut Stage,
    positions: &mut Positions,
    request: &Request,
    now: Now,
) -> Result<Stored, Refusal> {
    let user = match tables.users.find(request.to) {
        Some(user) => user,
        None if rules.unknown_users_allowed => {
            tables.users.find_or_add(request.to).ok_or(Refusal::UnknownUser)?
        }
        None => return Err(Refusal::UnknownUser),
    };
    check_quotas(tables, rules, user, request)?;
    let void = people::blocks(tables, user, request.sender) && !canary::is(Canary::DeliverBlocked);
    if void && !has_room_for_void(tables, rules, user, request) {
        return Err(Refusal::InboxFull);
    }
    let position = positions.peek().ok_or(Refusal::StoreFailed)?;
    let mut record = record(Kind::Message, request, request.to, position, now.wall_ms);
    if void {
        // For its sender like any other: the same way, the same wait, the same answer again.
        (record.kind, record.payload, record.relation) = (Kind::Void, &[], None);
        record.aux = request.payload.len() as u64;
    }
    let ticket = stage.append(Lane::Message, &record).map_err(refusal_of)?;
    positions.take();
    let due_s = expire::due_s(rules, now.wall_ms, request.ttl_s);
    let former_tail = if void {
        let Request { sender, device, client_id, .. } = *request;
        let bytes = u32::try_from(request.payload.len()).unwrap_or(u32::MAX);
        note_void(tables, (user, position), Void { sender, device, client_id, due_s, bytes });
        tables.counters.voided += 1;
        tables.users.user(user).tail
    } else {
        append(tables, user, position, request, (false, due_s))
    };
    tables.counters.stored += 1;
    Ok(Stored { user, position, former_tail, ticket, time_ms: now.wall_ms, void })
}

/// A position of a user's stream went to what somebody wrote while blocked.
pub fn note_void(tables: &mut Tables, (user, position): (u32, u64), void: Void) {
    let here = tables.users.user_mut(user);
    here.marks.set(Marks::VOIDED, true);
    let pair = tables.pairs.find_from(here.first_pair, user, void.sender);
    let last = pair.map_or(0, |pair| tables.pairs.get(pair).last);
    tables.people.void(user, void.sender, position, last);
    tables.voids.add((user, position), void);
}

/// Whether what a blocked sender writes may be taken: as much as if the recipient never came.
fn has_room_for_void(tables: &Tables, rules: &Rules, user: u32, request: &Request) -> bool {
    let (sender, bytes) = (request.sender, request.payload.len() as u64);
    let first_pair = tables.users.user(user).first_pair;
    let pair = tables.pairs.find_from(first_pair, user, sender);
    let waiting = pair.map_or((0, 0), |pair| {
        let pair = tables.pairs.get(pair);
        (pair.waiting, pair.waiting_bytes)
    });
    let most = (
        rules.inbox_messages_per_sender_max.saturating_sub(waiting.0),
        rules.inbox_bytes_per_sender_max.saturating_sub(waiting.1),
    );
    tables.people.has_room_for_void(user, sender)
        && tables.voids.has_room(user, sender, bytes, most)
}

/// Stores the copy of what one device sent for the sender's other devices.
///
/// # Errors
/// The log has no room for it, or so many copies wait for a device that never comes that no
/// further ones are kept.
pub fn store_copy(
    tables: &mut Tables,
    rules: &Rules,
    stage: &mut Stage,
    positions: &mut Positions,
    request: &Request,
    outcome: (u64, u64),
) -> Result<Stored, log::Refused> {
    let (to_position, time_ms) = outcome;
    let user = tables.users.find(request.sender).ok_or(log::Refused::Failed)?;
    if copies_are_full(tables, rules, user, request) {
        return Err(log::Refused::Full);
    }
    let position = positions.peek().ok_or(log::Refused::Busy)?;
    let mut record = record(Kind::OwnCopy, request, request.sender, position, time_ms);
    record.peer = request.to;
    record.aux = to_position;
    let ticket = stage.append(Lane::Message, &record)?;
    positions.take();
    let due_s = expire::due_s(rules, time_ms, request.ttl_s);
    let former_tail = append(tables, user, position, request, (true, due_s));
    Ok(Stored { user, position, former_tail, ticket, time_ms, void: false })
}

/// Notes in the log that an id was refused for good, so that it stays refused after a restart.
///
/// # Errors
/// The log has no room for it.
pub fn store_refusal(
    stage: &mut Stage,
    request: &Request,
    reason: Refusal,
    now: Now,
) -> Result<Ticket, log::Refused> {
    let mut record = record(Kind::Refusal, request, request.sender, 0, now.wall_ms);
    record.body_kind = u32::from(reason.code());
    record.aux = if request.in_group { STREAM_GROUP.into() } else { 0 };
    record.peer = request.to;
    record.payload = &[];
    record.relation = None;
    stage.append(Lane::Message, &record)
}

pub(super) fn record(
    kind: Kind,
    request: &Request,
    stream: u64,
    position: u64,
    time_ms: u64,
) -> Record<'_> {
    Record {
        kind,
        stream_kind: STREAM_USER,
        stream,
        position,
        sender: request.sender,
        device: request.device,
        client_id: request.client_id,
        time_ms,
        ttl_s: request.ttl_s,
        request_crc: request.request_crc,
        body_kind: request.kind,
        peer: 0,
        aux: 0,
        moved: false,
        relation: request.relation.map(|relation| log::Relation {
            kind: relation.kind,
            sender: relation.target.sender,
            device: relation.target.device,
            client_id: relation.target.client_id,
        }),
        payload: &request.payload,
    }
}

fn check_quotas(
    tables: &Tables,
    rules: &Rules,
    user: u32,
    request: &Request,
) -> Result<(), Refusal> {
    let bytes = request.payload.len() as u64;
    let here = tables.users.user(user);
    if let Some(inbox) = tables.inboxes.get(here.inbox) {
        let full = inbox.count() - inbox.copies() >= rules.inbox_messages_max as usize
            || inbox.bytes() - inbox.copy_bytes() + bytes > rules.inbox_bytes_max;
        if full {
            return Err(Refusal::InboxFull);
        }
    }
    if let Some(pair) = tables.pairs.find_from(here.first_pair, user, request.sender) {
        let pair = tables.pairs.get(pair);
        let full = pair.waiting >= rules.inbox_messages_per_sender_max
            || pair.waiting_bytes + bytes > rules.inbox_bytes_per_sender_max;
        if full {
            return Err(Refusal::InboxFull);
        }
    }
    Ok(())
}

/// Copies of what a user sent have a quota of their own: an abandoned device must neither grow
/// memory for ever nor keep others' messages out.
pub(super) fn copies_are_full(
    tables: &Tables,
    rules: &Rules,
    user: u32,
    request: &Request,
) -> bool {
    let bytes = request.payload.len() as u64;
    tables.inboxes.get(tables.users.user(user).inbox).is_some_and(|inbox| {
        inbox.copies() >= rules.inbox_messages_max as usize
            || inbox.copy_bytes() + bytes > rules.inbox_bytes_max
    })
}

/// Puts a record at the end of a user's stream; returns the former tail.
fn append(
    tables: &mut Tables,
    user: u32,
    position: u64,
    request: &Request,
    (own_copy, due_s): (bool, u32),
) -> u64 {
    let here = tables.users.user_mut(user);
    let former_tail = std::mem::replace(&mut here.tail, position);
    let bytes = u32::try_from(request.payload.len()).unwrap_or(u32::MAX >> 1);
    let what = if own_copy { What::OwnCopy } else { What::Message };
    let from = (request.sender, request.device);
    let own_due_s = (request.ttl_s != 0).then_some(due_s);
    let mut inbox = tables.inboxes.of(&mut here.inbox);
    inbox.append(Entry::staged(position, from, bytes, what, own_due_s));
    tables.expiry.note(&mut inbox, user, due_s);
    if !own_copy {
        note_pair(tables, user, request.sender, position, bytes);
    }
    former_tail
}

/// The pair (recipient, sender) has one message more.
pub fn note_pair(tables: &mut Tables, user: u32, sender: u64, position: u64, bytes: u32) {
    let first = &mut tables.users.user_mut(user).first_pair;
    if let Some(pair) = tables.pairs.find_or_add(user, sender, first) {
        let pair = tables.pairs.get_mut(pair);
        pair.last = pair.last.max(position);
        pair.waiting += 1;
        pair.waiting_bytes += u64::from(bytes);
    }
}

/// Removes what every device has acked from the inbox.
pub fn release_acked(tables: &mut Tables, user: u32) {
    let acked = tables.users.acked_by_all(user);
    let here = tables.users.user_mut(user);
    if here.inbox == NONE {
        return;
    }
    let Some(mut inbox) = tables.inboxes.get_mut(here.inbox) else { return };
    let mut releases = false;
    while let Some(entry) = inbox.pop_through(acked) {
        forget_entry(&mut tables.live, &mut tables.pairs, (user, here.first_pair), &entry);
        releases = true;
    }
    tables.inboxes.release_empty(&mut here.inbox);
    if releases {
        tell_implied(tables, user);
    }
}

/// Cursors that moved without an ack go to the log: what was released on their strength may be off
/// the disk soon, and a start that did not know of them would look for it.
fn tell_implied(tables: &mut Tables, user: u32) {
    let mut index = tables.users.user(user).first_device;
    while index != NONE {
        let device = tables.users.device_mut(index);
        if device.cursor_news == CursorNews::Implied && device.note_cursor() {
            tables.dirty_cursors.push(index);
        }
        index = device.next;
    }
}

/// What was counted for an entry that left the inbox of this user, whose pairs begin there.
pub fn forget_entry(
    live: &mut Live,
    pairs: &mut Pairs,
    (user, first_pair): (u32, u32),
    entry: &Entry,
) {
    if let Some(at) = entry.at()
        && !entry.is_moving()
    {
        live.remove(at, entry.bytes());
    }
    if !entry.is_message() {
        return;
    }
    if let Some(pair) = pairs.find_from(first_pair, user, entry.sender) {
        let pair = pairs.get_mut(pair);
        pair.waiting = pair.waiting.saturating_sub(1);
        pair.waiting_bytes = pair.waiting_bytes.saturating_sub(u64::from(entry.bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::release_acked;
    use crate::state::Tables;
    use crate::state::inbox::{Entry, What};

    /// What the others acked goes, and a start must not look for it.
    #[test]
    fn a_cursor_that_moved_by_itself_is_told_when_mail_goes_on_its_strength() {
        let mut tables = Tables::new(4, 4, 4);
        let user = tables.users.find_or_add(7).unwrap();
        let (acking, own) =
            (tables.users.add_device(user, 1, 0), tables.users.add_device(user, 2, 0));
        let copy = Entry::staged(1, (7, 2), 10, What::OwnCopy, None);
        tables.inboxes.of(&mut tables.users.user_mut(user).inbox).append(copy);
        let device = tables.users.device_mut(own);
        device.imply_cursor(1);
        release_acked(&mut tables, user);
        assert!(tables.dirty_cursors.is_empty(), "nothing went");
        tables.users.device_mut(acking).cursor = 1;
        release_acked(&mut tables, user);
        assert_eq!(tables.dirty_cursors, [own]);
    }
}
