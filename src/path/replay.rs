//! Beside the message path: at start, the records of the log become tables again.
//!
//! Every record is shown to the home of its stream ([`stream`]) and, if it answers a `Send`, to the
//! home of its sender ([`answer`]). Cursors only move forward, so replaying is idempotent.

use crate::limits;
use crate::log::{At, Kind, Record};
use crate::path::session::{DEVICE_DROPPED, remove_device};
use crate::path::store::{note_pair, release_acked};
use crate::state::Tables;
use crate::state::inbox::Entry;
use crate::state::placement::Placement;
use crate::state::window::{Answer, Outcome, stream_tag};
use wire::Refusal;

/// Why a log does not fit these settings.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplayError {
    /// More users in the log than `users_max` allows.
    #[error("the log knows more users than users_max allows on this shard; raise users_max")]
    TooManyUsers,
}

/// Shows a record to the homes that need it; `tables` holds those of all shards.
///
/// # Errors
/// The tables are too small for what the log holds.
pub fn record(
    tables: &mut [Tables],
    placement: Placement,
    at: At,
    record: &Record<'_>,
) -> Result<(), ReplayError> {
    if let Some(id) = stream_of(record) {
        stream(&mut tables[placement.home(id)], at, record)?;
    }
    if let Some(id) = sender_of(record) {
        answer(&mut tables[placement.home(id)], record);
    }
    Ok(())
}

/// Whose home must see this record as a part of its stream.
fn stream_of(record: &Record<'_>) -> Option<u64> {
    match record.kind {
        Kind::Message | Kind::OwnCopy | Kind::Device | Kind::Cursor | Kind::ReadMark => {
            Some(record.stream)
        }
        _ => None,
    }
}

/// Whose home must see this record as an answer it may have to give again.
fn sender_of(record: &Record<'_>) -> Option<u64> {
    match record.kind {
        Kind::Message | Kind::OwnCopy | Kind::Refusal => Some(record.sender),
        _ => None,
    }
}

/// Replays a record of a stream whose home this is.
fn stream(tables: &mut Tables, at: At, record: &Record<'_>) -> Result<(), ReplayError> {
    let user = tables.users.find_or_add(record.stream).ok_or(ReplayError::TooManyUsers)?;
    match record.kind {
        Kind::Message | Kind::OwnCopy => append(tables, user, at, record),
        Kind::Device => device(tables, user, record),
        Kind::Cursor => cursor(tables, user, record),
        Kind::ReadMark => read_mark(tables, user, record),
        _ => {}
    }
    Ok(())
}

fn append(tables: &mut Tables, user: u32, at: At, record: &Record<'_>) {
    let here = tables.users.user_mut(user);
    if record.position <= here.tail {
        return; // seen already
    }
    here.tail = record.position;
    let own_copy = record.kind == Kind::OwnCopy;
    let bytes = u32::try_from(record.payload.len()).unwrap_or(u32::MAX >> 1);
    let mut entry = Entry::staged(record.position, record.sender, record.device, bytes, own_copy);
    entry.place(at);
    tables.inboxes.of(&mut here.inbox).append(entry);
    if !own_copy {
        note_pair(tables, user, record.sender, record.position, bytes);
    }
}

fn device(tables: &mut Tables, user: u32, record: &Record<'_>) {
    let known = tables.users.device_of(user, record.device);
    if record.body_kind == DEVICE_DROPPED {
        let owner = tables.users.user_mut(user);
        owner.ids_floor = owner.ids_floor.max(record.aux);
        if let Some(index) = known {
            remove_device(tables, index);
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
    if let Some(index) = tables.pairs.find(user, record.peer) {
        let pair = tables.pairs.get_mut(index);
        pair.read = pair.read.max(record.aux);
    }
}

/// Replays a record as the answer to its sender's `Send`.
fn answer(tables: &mut Tables, record: &Record<'_>) {
    let Some(user) = tables.users.find(record.sender) else { return };
    let Some(index) = tables.users.device_of(user, record.device) else { return };
    let device = tables.users.device_mut(index);
    device.top = device.top.max(record.client_id);
    // A client uses an id only within 64 of what it has confirmed: below that nothing is open.
    let floor = device.top.saturating_sub(limits::UNCONFIRMED_IDS_MAX);
    device.raise_base(floor);
    let (base, mut window) = (device.base, device.window);
    // Whoever had no other device when the message was stored wants no copy of it.
    let copied = record.kind == Kind::OwnCopy
        || record.stream == record.sender
        || tables.users.devices_of(user).nth(1).is_none();
    tables.windows.retain(&mut window, |answer| answer.client_id > base);
    if record.client_id > base {
        remember(tables, &mut window, record, copied);
    }
    tables.users.device_mut(index).window = window;
}

fn remember(tables: &mut Tables, window: &mut u32, record: &Record<'_>, copied: bool) {
    let outcome = match record.kind {
        Kind::OwnCopy => Outcome::Sent { position: record.aux, time_ms: record.time_ms },
        Kind::Refusal => {
            let reason = u8::try_from(record.body_kind).ok().and_then(Refusal::from_code);
            Outcome::Refused(reason.unwrap_or(Refusal::UnknownUser))
        }
        _ => Outcome::Sent { position: record.position, time_ms: record.time_ms },
    };
    match tables.windows.find(*window, record.client_id) {
        Some(known) => known.copied |= copied,
        None => {
            let (client_id, request_crc) = (record.client_id, record.request_crc);
            let to = if record.kind == Kind::Message { record.stream } else { record.peer };
            let stream = stream_tag(to);
            let answer = Answer { client_id, request_crc, stream, copied, outcome };
            tables.windows.insert(window, answer);
        }
    }
}
