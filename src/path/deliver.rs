//! Step 6: records of a user's stream reach its devices; acks move cursors.
//!
//! A device that has everything up to the former tail is *live*: a new message is pushed to it at
//! once, from memory. Any other reads the stream from its cursor, out of the log, and only what is
//! durable. At most `UNACKED_*_MAX` are un-acked per device; the cumulative `Ack` is the credit.

use crate::canary::{self, Canary};
use crate::clock::Now;
use crate::limits;
use crate::log::{Kind, Reader, Record};
use crate::path::people::Wary;
use crate::path::store::{Stored, release_acked};
use crate::state::device::Device;
use crate::state::inbox::Inbox;
use crate::state::request::Request;
use crate::state::window::Outcome;
use crate::state::{NONE, Tables};
use wire::{MessageId, Parting, ServerFrame, Stream};

/// Pushes a message just stored to every live device of the recipient.
pub fn push(tables: &mut Tables, stored: &Stored, request: &Request, now: Now) {
    push_live(tables, stored, request, None, now);
}

/// Pushes the copy of what one device sent to the sender's other live devices.
pub fn push_copy(
    tables: &mut Tables,
    stored: &Stored,
    request: &Request,
    to_position: u64,
    now: Now,
) {
    push_live(tables, stored, request, Some(to_position), now);
}

/// Pushes the word that a message was given up to its sender's live devices.
pub fn push_notice(tables: &mut Tables, stored: &Stored, request: &Request, now: Now) {
    let Outcome::Sent { position: of, .. } = request.outcome else { return };
    let Request { sender, device, client_id, .. } = *request;
    let frame = ServerFrame::Expired(wire::Expired {
        id: MessageId { sender, device, client_id },
        position: stored.position,
        to: Some(Stream::User(request.to)),
        to_position: of,
    });
    push_frame(tables, stored, &frame, 0, None, now);
}

fn push_live(tables: &mut Tables, stored: &Stored, request: &Request, copy: Option<u64>, now: Now) {
    let wary = Wary::of(&tables.users, stored.user).filter(|_| copy.is_none());
    let is_request =
        wary.is_some_and(|it| it.is_stranger(&tables.people, &tables.pairs, request.sender));
    let frame = ServerFrame::Deliver(wire::Deliver {
        stream: None,
        position: stored.position,
        id: MessageId {
            sender: request.sender,
            device: request.device,
            client_id: request.client_id,
        },
        time_ms: stored.time_ms,
        kind: request.kind,
        payload: &request.payload,
        relation: request.relation,
        to: copy.map(|_| Stream::User(request.to)),
        to_position: copy.unwrap_or(0),
        change: None,
        request: is_request,
    });
    let bytes = u32::try_from(request.payload.len()).unwrap_or(u32::MAX);
    push_frame(tables, stored, &frame, bytes, copy.map(|_| request.device), now);
}

/// Pushes what was just stored to the live devices of its user but `except`.
fn push_frame(
    tables: &mut Tables,
    stored: &Stored,
    frame: &ServerFrame<'_>,
    bytes: u32,
    except: Option<u32>,
    now: Now,
) {
    let mut at = tables.users.user(stored.user).first_device;
    while at != NONE {
        let device = tables.users.device_mut(at);
        let next = device.next;
        let live = device.pushed == stored.former_tail;
        if except == Some(device.id) {
            if live {
                skip(device, stored.position);
            }
        } else if let Some(token) = device.conn()
            && live
            && has_room(device, bytes)
        {
            count_pushed(device, stored.position, bytes, now);
            tables.counters.delivered += 1;
            tables.write(token, frame);
        }
        at = next;
    }
}

/// Reads on from where a device stands and pushes what fits its window.
///
/// # Errors
/// A record that should be there can't be read: the session has to end before the device believes
/// it has everything.
pub fn pump<R: Reader>(
    tables: &mut Tables,
    reader: &mut R,
    device: u32,
    now: Now,
) -> Result<(), Parting> {
    let Tables { users, people, pairs, inboxes, conns, outboxes, counters, .. } = tables;
    let here = users.device(device);
    let (user, Some(token)) = (here.user, here.conn()) else { return Ok(()) };
    let wary = Wary::of(users, user);
    let (user, here) = users.pair_mut(user, device);
    let Some(inbox) = inboxes.get(user.inbox) else {
        caught_up(here, user.tail);
        return Ok(());
    };
    let Some(conn) = conns.get_mut(token) else { return Ok(()) };
    for entry in canary::swapped(Canary::SwapDeliveries, inbox.after(here.pushed)) {
        if entry.is_own_copy() && entry.device == here.id {
            skip(here, entry.position);
            continue;
        }
        if entry.is_expiring() {
            return Ok(()); // soon gone, or waiting again
        }
        let Some(at) = entry.at() else { return Ok(()) };
        if !has_room(here, entry.bytes())
            || outboxes.waiting_bytes(conn) > limits::OUTBOX_BYTES_HIGH
        {
            return Ok(());
        }
        let record = reader.read(at).filter(|record| record.position == entry.position);
        let Some(record) = record else { return Err(Parting::StoreFailed) };
        let wary = wary.filter(|_| entry.is_message());
        let is_request = wary.is_some_and(|it| it.is_stranger(people, pairs, entry.sender));
        outboxes.frame(token, conn, &frame_of(&record, is_request));
        counters.delivered += 1;
        count_pushed(here, entry.position, entry.bytes(), now);
    }
    caught_up(here, user.tail);
    Ok(())
}

/// A device was pushed all there is; what is missing up to the tail was deleted or expired.
fn caught_up(device: &mut Device, tail: u64) {
    device.pushed = device.pushed.max(tail);
    if device.unacked == 0 && device.cursor < device.pushed {
        device.imply_cursor(device.pushed);
    }
}

fn frame_of<'a>(record: &Record<'a>, is_request: bool) -> ServerFrame<'a> {
    if record.kind == Kind::Notice {
        let Record { sender, device, client_id, position, .. } = *record;
        return ServerFrame::Expired(wire::Expired {
            id: MessageId { sender, device, client_id },
            position,
            to: Some(Stream::User(record.peer)),
            to_position: record.aux,
        });
    }
    let copy = record.kind == Kind::OwnCopy;
    ServerFrame::Deliver(wire::Deliver {
        stream: None,
        position: record.position,
        id: MessageId { sender: record.sender, device: record.device, client_id: record.client_id },
        time_ms: record.time_ms,
        kind: record.body_kind,
        payload: record.payload,
        relation: record.relation.as_ref().map(|relation| wire::Relation {
            kind: relation.kind,
            target: MessageId {
                sender: relation.sender,
                device: relation.device,
                client_id: relation.client_id,
            },
        }),
        to: copy.then_some(Stream::User(record.peer)),
        to_position: if copy { record.aux } else { 0 },
        change: None,
        request: is_request,
    })
}

/// One message may always go; more only while the window has room.
fn has_room(device: &Device, bytes: u32) -> bool {
    canary::is(Canary::UnackedOverflow)
        || device.unacked == 0
        || (u32::from(device.unacked) < limits::UNACKED_MESSAGES_MAX
            && device.unacked_bytes.saturating_add(bytes) <= limits::UNACKED_BYTES_MAX)
}

fn count_pushed(device: &mut Device, position: u64, bytes: u32, now: Now) {
    if device.unacked == 0 {
        device.expect_ack(now.mono_ms);
    }
    device.pushed = position;
    device.unacked = device.unacked.saturating_add(1); // within its window, canaries apart
    device.unacked_bytes = device.unacked_bytes.saturating_add(bytes);
}

/// The device sent this itself: it needs no push, and no ack when nothing before it waits for one.
fn skip(device: &mut Device, position: u64) {
    if device.unacked == 0 && device.cursor == device.pushed {
        device.imply_cursor(position);
    }
    device.pushed = position;
}

/// A device has everything up to `up_to`. True: its cursor moved.
pub fn ack(tables: &mut Tables, device: u32, up_to: u64, now: Now) -> bool {
    let user = tables.users.device(device).user;
    let (owner, here) = tables.users.pair_mut(user, device);
    let up_to = if up_to > owner.tail {
        tables.counters.clamped += 1;
        owner.tail
    } else {
        up_to
    };
    if up_to <= here.cursor {
        return false;
    }
    if let Some(inbox) = tables.inboxes.get(owner.inbox) {
        settle_window(here, inbox, up_to);
    } else {
        here.unacked = 0;
        here.unacked_bytes = 0;
    }
    here.cursor = here.cursor.max(up_to);
    here.pushed = here.pushed.max(here.cursor);
    here.expect_ack(now.mono_ms);
    if here.note_cursor() {
        tables.dirty_cursors.push(device);
    }
    has_moved(tables, user, device);
    release_acked(tables, user);
    true
}

/// Takes what is acked out of the window, and own messages that follow it directly.
fn settle_window(here: &mut Device, inbox: Inbox<'_>, up_to: u64) {
    for entry in inbox.after(here.cursor) {
        let own = entry.is_own_copy() && entry.device == here.id;
        if entry.position > here.pushed || (entry.position > up_to && !own) {
            break;
        }
        if !own {
            here.unacked = here.unacked.saturating_sub(1);
            here.unacked_bytes = here.unacked_bytes.saturating_sub(entry.bytes());
        }
        here.cursor = entry.position;
    }
}

/// Tick 2: the first device that gets so far marks the senders as having something to be told.
///
/// A device that came late starts above what waits for older ones, so its ack says nothing about
/// that: `has` is told from `has_from` on only, until an older device has caught up.
pub fn has_moved(tables: &mut Tables, user: u32, device: u32) {
    let (owner, here) = tables.users.pair_mut(user, device);
    let (former, former_from) = (owner.has, owner.has_from);
    owner.note_had(here.start, here.cursor);
    let (up_to, joined) = (owner.has, owner.has_from < former_from);
    if joined {
        // What lay in the gap was never told: tell everything anew.
        let mut at = owner.first_pair;
        while at != NONE {
            let pair = tables.pairs.get_mut(at);
            (pair.told_has, pair.told_read) = (0, 0);
            let next = pair.next;
            tables.pairs.mark_dirty(at);
            at = next;
        }
        return;
    }
    let first_pair = owner.first_pair;
    let Some(inbox) = tables.inboxes.get(owner.inbox) else { return };
    for entry in inbox.after(former).take_while(|entry| entry.position <= up_to) {
        if !entry.is_message() {
            continue;
        }
        if let Some(pair) = tables.pairs.find_from(first_pair, user, entry.sender) {
            tables.pairs.mark_dirty(pair);
        }
    }
}

/// Whether a device has not been pushed everything there is.
#[must_use]
pub fn is_behind(tables: &Tables, device: u32) -> bool {
    let here = tables.users.device(device);
    here.pushed < tables.users.user(here.user).tail
}

/// Packs what nothing happens to any more. A connected user keeps as much as it may have to ack.
pub fn settle_inbox(tables: &mut Tables, user: u32) {
    let handle = tables.users.user(user).inbox;
    let Some(mut inbox) = tables.inboxes.get_mut(handle) else { return };
    let connected = tables.users.is_connected(user);
    inbox.settle(if connected { limits::UNACKED_MESSAGES_MAX as usize } else { 0 });
}

/// Devices of a user that are connected and behind: to be pumped.
pub fn behind(tables: &Tables, user: u32, out: &mut Vec<u32>) {
    let tail = tables.users.user(user).tail;
    for index in tables.users.devices_of(user) {
        let device = tables.users.device(index);
        if device.conn().is_some() && device.pushed < tail {
            out.push(index);
        }
    }
}
