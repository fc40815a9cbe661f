//! Beside the message path: devices that are logged out and accounts that end, and who may not log
//! in any more. Each end is a record of the log: what was released on its strength may be off the
//! disk soon, and a start must not look for it.

use crate::clock::Now;
use crate::log::{Kind, Lane, Record, Refused, Stage, Ticket};
use crate::path::deliver::settle_inbox;
use crate::path::session::{DEVICE_DROPPED, remove_device, stage_device, tell_devices};
use crate::path::store::{forget_entry, release_acked};
use crate::path::{STREAM_USER, group};
use crate::state::order::{Fault, POST_DEVICE};
use crate::state::people::Marks;
use crate::state::request::Login;
use crate::state::{NONE, Tables};
use wire::Parting;

/// Why somebody with a good token may not log in, at the user's home.
#[must_use]
pub fn turns_away(tables: &Tables, login: &Login) -> Option<Parting> {
    if login.device == POST_DEVICE {
        return Some(Parting::TokenInvalid); // its ids are those of messages from outside
    }
    let user = tables.users.find_even_ended(login.user)?;
    let marks = tables.users.user(user).marks;
    if marks.any(Marks::REVOKED) && tables.people.is_revoked(user, login.device, login.issued_s) {
        let ended = marks.any(Marks::ENDED);
        return Some(if ended { Parting::AccountDeleted } else { Parting::LoggedOut });
    }
    marks.any(Marks::SUSPENDED).then_some(Parting::Suspended)
}

/// Logs a device out: its session ends, its cursor goes, and tokens of it issued before
/// `not_before_s` are refused. None: there was no such device, so nothing waits for the log.
///
/// # Errors
/// The log takes nothing now, or there is no room for another user; nothing was changed.
pub fn end_device(
    tables: &mut Tables,
    stage: &mut Stage,
    (user, id): (u64, u32),
    not_before_s: u64,
    now: Now,
) -> Result<Option<Ticket>, Fault> {
    let user = tables.users.find_or_add_ended(user).ok_or(Fault::Full)?;
    let device = tables.users.device_of(user, id);
    let ticket = match device {
        Some(device) => {
            let top = tables.users.device(device).top;
            let staged = stage_device(tables, stage, user, id, (DEVICE_DROPPED, top), now);
            Some(staged.map_err(|parting| match parting {
                Parting::StoreFailed => Fault::StoreFailed,
                _ => Fault::Overloaded,
            })?)
        }
        None => None,
    };
    revoke(tables, user, Some(id), not_before_s);
    if let Some(device) = device {
        remove_device(tables, device, Parting::LoggedOut);
        release_acked(tables, user);
        settle_inbox(tables, user);
        tell_devices(tables, user, NONE, id, false);
        tables.watches.touch(tables.users.user(user).watchers);
    }
    Ok(ticket)
}

/// Ends an account. None: nobody ever heard of it, so nothing waits for the log.
///
/// # Errors
/// The log takes nothing now, or there is no room for another user; nothing was changed.
pub fn end_user(
    tables: &mut Tables,
    stage: &mut Stage,
    id: u64,
    not_before_s: u64,
    now: Now,
) -> Result<Option<Ticket>, Fault> {
    let is_known = tables.users.find_even_ended(id).is_some();
    let user = tables.users.find_or_add_ended(id).ok_or(Fault::Full)?;
    let ticket = if is_known {
        let time_ms = now.wall_ms;
        let record =
            Record { stream_kind: STREAM_USER, stream: id, time_ms, ..Record::blank(Kind::Ended) };
        // It frees what is waited for, so it has the room that cursors have.
        let staged = stage.append_urgent(Lane::Reserve, &record);
        Some(staged.map_err(|refused| match refused {
            Refused::Failed => Fault::StoreFailed,
            Refused::Full | Refused::Busy => Fault::Overloaded,
        })?)
    } else {
        None
    };
    forget(tables, user);
    revoke(tables, user, None, not_before_s);
    Ok(ticket)
}

/// Forgets everything about a user. The row itself stays, marked: positions of its stream and ids
/// of its messages are never used again.
pub fn forget(tables: &mut Tables, user: u32) {
    let devices: Vec<u32> = tables.users.devices_of(user).collect();
    for device in devices {
        remove_device(tables, device, Parting::AccountDeleted);
    }
    group::members::forget(tables, user);
    let owner = tables.users.user_mut(user);
    if let Some(mut inbox) = tables.inboxes.get_mut(owner.inbox) {
        while let Some(entry) = inbox.pop_through(u64::MAX) {
            if let Some(at) = entry.at() {
                tables.live.scrub(at);
            }
            forget_entry(&mut tables.live, &mut tables.pairs, (user, owner.first_pair), &entry);
        }
    }
    tables.inboxes.release_empty(&mut owner.inbox);
    let mut pairs = tables.pairs.remove_all(owner.first_pair);
    if !pairs.is_empty() {
        pairs.sort_unstable();
        tables.dirty_reads.retain(|pair| pairs.binary_search(pair).is_err());
    }
    // Of what was dropped nobody is told that anybody has it, should the user come back.
    (owner.has, owner.has_from) = (owner.tail, owner.tail);
    owner.first_pair = NONE;
    owner.active_s = 0;
    if !std::mem::replace(&mut owner.seen_dirty, true) {
        tables.dirty_seen.push(user);
    }
    tables.watches.touch(owner.watchers);
    tables.users.end(user);
    tables.people.forget(user);
    tables.voids.forget(user);
}

fn revoke(tables: &mut Tables, user: u32, device: Option<u32>, not_before_s: u64) {
    let before_s = u32::try_from(not_before_s).unwrap_or(u32::MAX);
    tables.people.revoke(user, device, before_s);
    tables.users.user_mut(user).marks.set(Marks::REVOKED, true);
}
