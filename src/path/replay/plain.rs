//! One record after the other, on top of what is known.

use super::ReplayError;
use crate::canary::{self, Canary};
use crate::limits;
use crate::log::{At, Kind, Record, STREAM_GROUP};
use crate::path::receipt::READER_WROTE;
use crate::path::session::{DEVICE_DROPPED, remove_device};
use crate::path::store::{self, forget_entry, note_pair, release_acked};
use crate::path::{Rules, STREAM_USER, ending, expire, group};
use crate::state::Tables;
use crate::state::inbox::{Entry, What};
use crate::state::order::POST_DEVICE;
use crate::state::placement::Placement;
use crate::state::voids::Void;
use crate::state::window::{Answer, Outcome, stream_tag};
use wire::{Parting, Refusal, Stream};

pub(super) fn plain(
    tables: &mut [Tables],
    placement: Placement,
    rules: &Rules,
    at: At,
    record: &Record<'_>,
) -> Result<(), ReplayError> {
    if let Some(id) = group_of(record) {
        group::replay::stream(&mut tables[placement.home(id)], placement, rules, at, record);
    }
    if let Some(id) = stream_of(record) {
        stream(&mut tables[placement.home(id)], rules, at, record)?;
    }
    if let Some(id) = sender_of(record) {
        answer(&mut tables[placement.home(id)], record);
    }
    Ok(())
}

/// Which group's home must see this record as a part of its stream.
pub(super) fn group_of(record: &Record<'_>) -> Option<u64> {
    (record.stream_kind == STREAM_GROUP).then_some(record.stream)
}

/// Which user's home must see this record as a part of its stream.
pub(super) fn stream_of(record: &Record<'_>) -> Option<u64> {
    match record.kind {
        _ if record.stream_kind == STREAM_GROUP => None,
        Kind::Message
        | Kind::OwnCopy
        | Kind::Notice
        | Kind::Tombstone
        | Kind::Device
        | Kind::Cursor
        | Kind::ReadMark
        | Kind::Ended => Some(record.stream),
        // Of the other kind nothing was ever written: it fills a place.
        Kind::Void if record.stream_kind == STREAM_USER => Some(record.stream),
        _ => None,
    }
}

/// Whose home must see this record as an answer it may have to give again.
pub(super) fn sender_of(record: &Record<'_>) -> Option<u64> {
    match record.kind {
        _ if record.moved => None, // it was answered long ago
        Kind::Message | Kind::OwnCopy | Kind::Refusal => Some(record.sender),
        Kind::Void if record.stream_kind == STREAM_USER => Some(record.sender),
        _ => None,
    }
}

/// Replays a record of a stream whose home this is.
pub(super) fn stream(
    tables: &mut Tables,
    rules: &Rules,
    at: At,
    record: &Record<'_>,
) -> Result<(), ReplayError> {
    let known = match record.kind {
        Kind::Tombstone | Kind::Cursor | Kind::ReadMark if !record.moved => {
            let Some(user) = tables.users.find(record.stream) else { return Ok(()) };
            Some(user)
        }
        Kind::Ended => tables.users.find_or_add_ended(record.stream),
        _ => tables.users.find_or_add(record.stream),
    };
    let user = known.ok_or(ReplayError::TooManyUsers)?;
    match record.kind {
        _ if record.moved => moved(tables, user, at, record.position),
        Kind::Message | Kind::OwnCopy | Kind::Notice => append(tables, rules, user, at, record),
        Kind::Tombstone => bury(tables, user, record.position),
        Kind::Device => device(tables, user, record),
        Kind::Cursor => cursor(tables, user, record),
        Kind::ReadMark => read_mark(tables, user, record),
        Kind::Void => void(tables, rules, user, record),
        Kind::Ended => ending::forget(tables, user),
        _ => {}
    }
    Ok(())
}

fn append(tables: &mut Tables, rules: &Rules, user: u32, at: At, record: &Record<'_>) {
    let here = tables.users.user_mut(user);
    if record.position <= here.tail {
        return; // seen already
    }
    here.tail = record.position;
    if canary::is(Canary::ForgetAtRecovery) && record.client_id % 5 == 4 {
        return;
    }
    let what = match record.kind {
        Kind::OwnCopy => What::OwnCopy,
        Kind::Notice => What::Notice,
        _ => What::Message,
    };
    let bytes = u32::try_from(record.payload.len()).unwrap_or(u32::MAX >> 1);
    let from = (record.sender, record.device);
    let due_s = expire::due_s(rules, record.time_ms, record.ttl_s);
    let own_due_s = (record.ttl_s != 0).then_some(due_s);
    let mut entry = Entry::staged(record.position, from, bytes, what, own_due_s);
    entry.place(at);
    tables.live.add(at, entry.bytes());
    let mut inbox = tables.inboxes.of(&mut here.inbox);
    inbox.append(entry);
    inbox.settle(0);
    tables.expiry.note(&mut inbox, user, due_s);
    if what == What::Message {
        note_pair(tables, user, record.sender, record.position, bytes);
    }
}

/// A record that waits was copied forward: it is read from there now.
fn moved(tables: &mut Tables, user: u32, at: At, position: u64) {
    let handle = tables.users.user(user).inbox;
    let Some(mut inbox) = tables.inboxes.get_mut(handle) else { return };
    if let Some(entry) = inbox.place(position, at) {
        if let Some(former) = entry.at() {
            tables.live.remove(former, entry.bytes());
        }
        tables.live.add(at, entry.bytes());
    }
}

/// A record is not for anybody any more.
fn bury(tables: &mut Tables, user: u32, position: u64) {
    tables.voids.remove(user, position);
    let owner = tables.users.user_mut(user);
    let Some(mut inbox) = tables.inboxes.get_mut(owner.inbox) else { return };
    if let Some(entry) = inbox.remove(position) {
        if let Some(at) = entry.at() {
            tables.live.scrub(at);
        }
        forget_entry(&mut tables.live, &mut tables.pairs, (user, owner.first_pair), &entry);
    }
    tables.inboxes.release_empty(&mut owner.inbox);
}

fn device(tables: &mut Tables, user: u32, record: &Record<'_>) {
    let known = tables.users.device_of(user, record.device);
    if record.body_kind == DEVICE_DROPPED {
        let owner = tables.users.user_mut(user);
        owner.ids_floor = owner.ids_floor.max(record.aux);
        if let Some(index) = known {
            remove_device(tables, index, Parting::TooManyDevices);
            release_acked(tables, user);
        }
    } else if known.is_none() {
        let index = tables.users.add_device(user, record.device, record.aux);
        let device = tables.users.device_mut(index);
        device.durable = true;
        device.seen_s = u32::try_from(record.time_ms / 1000).unwrap_or(u32::MAX);
    }
}

fn cursor(tables: &mut Tables, user: u32, record: &Record<'_>) {
    let Some(index) = tables.users.device_of(user, record.device) else { return };
    let (owner, device) = tables.users.pair_mut(user, index);
    let up_to = record.aux.min(owner.tail);
    device.seen_s = device.seen_s.max(u32::try_from(record.time_ms / 1000).unwrap_or(u32::MAX));
    if up_to > device.cursor {
        device.cursor = up_to;
        device.pushed = up_to;
        owner.note_had(device.start, up_to);
        release_acked(tables, user);
    }
}

fn read_mark(tables: &mut Tables, user: u32, record: &Record<'_>) {
    let answered = record.body_kind == READER_WROTE;
    let pair = if answered {
        let first = &mut tables.users.user_mut(user).first_pair;
        tables.pairs.find_or_add(user, record.peer, first)
    } else {
        tables.pairs.find(user, record.peer)
    };
    if let Some(index) = pair {
        let pair = tables.pairs.get_mut(index);
        pair.read = pair.read.max(record.aux);
        pair.answered |= answered;
    }
}

/// What somebody wrote who was blocked.
fn void(tables: &mut Tables, rules: &Rules, user: u32, record: &Record<'_>) {
    if canary::is(Canary::ForgetVoids) {
        return;
    }
    let Record { sender, device, client_id, .. } = *record;
    let due_s = expire::due_s(rules, record.time_ms, record.ttl_s);
    let bytes = u32::try_from(record.aux).unwrap_or(u32::MAX);
    let void = Void { sender, device, client_id, due_s, bytes };
    store::note_void(tables, (user, record.position), void);
}

/// Replays a record as the answer to its sender's `Send`.
pub(super) fn answer(tables: &mut Tables, record: &Record<'_>) {
    if record.device == POST_DEVICE {
        return post(tables, record);
    }
    let Some(user) = tables.users.find(record.sender) else { return };
    let Some(index) = tables.users.device_of(user, record.device) else { return };
    let device = tables.users.device_mut(index);
    device.top = device.top.max(record.client_id);
    // A client uses an id only within 64 of what it has confirmed: below that nothing is open.
    let mut floor = device.top.saturating_sub(limits::UNCONFIRMED_IDS_MAX);
    if canary::is(Canary::ForgetAnswers) {
        return;
    }
    if canary::is(Canary::AnswersOverflow) {
        floor = 0;
    }
    device.raise_base(floor);
    let (base, mut window) = (device.base, device.window);
    // Whoever had no other device when the message was stored wants no copy of it.
    let copied = record.kind == Kind::OwnCopy
        || record.stream_kind == STREAM_GROUP
        || record.stream == record.sender
        || tables.users.devices_of(user).nth(1).is_none();
    tables.windows.retain(&mut window, |answer| answer.client_id > base);
    if record.client_id > base {
        remember(tables, &mut window, record, copied);
    }
    tables.users.device_mut(index).window = window;
}

/// The same for what was sent from outside a session.
fn post(tables: &mut Tables, record: &Record<'_>) {
    let key = (record.sender, record.client_id);
    tables.posts.settle(key, record.request_crc, outcome_of(record));
}

fn outcome_of(record: &Record<'_>) -> Outcome {
    match record.kind {
        Kind::OwnCopy => Outcome::Sent { position: record.aux, time_ms: record.time_ms },
        Kind::Refusal => {
            let reason = u8::try_from(record.body_kind).ok().and_then(Refusal::from_code);
            Outcome::Refused(reason.unwrap_or(Refusal::UnknownUser))
        }
        _ => Outcome::Sent { position: record.position, time_ms: record.time_ms },
    }
}

fn remember(tables: &mut Tables, window: &mut u32, record: &Record<'_>, copied: bool) {
    let outcome = outcome_of(record);
    match tables.windows.find(*window, record.client_id) {
        Some(known) => known.copied |= copied,
        None => {
            let (client_id, request_crc) = (record.client_id, record.request_crc);
            let stream = stream_tag(sent_to(record));
            let answer =
                Answer { client_id, request_crc, stream, copied, settling: false, outcome };
            tables.windows.insert(window, answer);
        }
    }
}

/// To whom a record that answers a `Send` was sent.
fn sent_to(record: &Record<'_>) -> Stream {
    match record.kind {
        Kind::Message if record.stream_kind == STREAM_GROUP => Stream::Group(record.stream),
        Kind::Message | Kind::Void => Stream::User(record.stream),
        Kind::Refusal if record.aux == u64::from(STREAM_GROUP) => Stream::Group(record.peer),
        _ => Stream::User(record.peer),
    }
}
