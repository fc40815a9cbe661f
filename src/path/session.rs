//! Step 3: who is it. Login at the user's home, takeover by the same device, what the client
//! confirms, activity, and when a silent, un-acking or expired session ends.

use crate::clock::{Now, Past};
use crate::limits;
use crate::log::{Kind, Lane, Record, Refused, Stage, Ticket};
use crate::mem::Token;
use crate::path::deliver::settle_inbox;
use crate::path::store::release_acked;
use crate::path::{Rules, STREAM_USER, group};
use crate::state::conn::{Conn, Phase};
use crate::state::request::Login;
use crate::state::{NONE, Tables};
use std::cmp::Reverse;
use wire::{Confirmed, Parting, ServerFrame};

/// A record's mark in `body_kind` that a device was dropped.
pub const DEVICE_DROPPED: u32 = 2;

/// Largest client id and base: leaves room to count on.
pub const CLIENT_ID_MAX: u64 = u64::MAX - 2 * limits::UNCONFIRMED_IDS_MAX;

/// What a good token leads to.
#[derive(Clone, Copy, Debug)]
pub enum Admitted {
    /// The device is known: attach it now.
    Known(u32),
    /// The device is new: attach it when its record is durable.
    New(u32, Ticket),
}

/// Finds or makes the user and device of a login.
///
/// # Errors
/// The reason to say goodbye with: no room for the user, or the log can't take a new device.
pub fn admit(
    tables: &mut Tables,
    stage: &mut Stage,
    login: &Login,
    now: Now,
) -> Result<Admitted, Parting> {
    let user = tables.users.find_or_add(login.user).ok_or(Parting::Full)?;
    match tables.users.device_of(user, login.device) {
        Some(device) if tables.users.device(device).durable => Ok(Admitted::Known(device)),
        Some(device) => {
            let cursor = tables.users.device(device).cursor;
            let ticket = stage_device(tables, stage, user, login.device, (0, cursor), now)?;
            Ok(Admitted::New(device, ticket))
        }
        None => new_device(tables, stage, user, login.device, now),
    }
}

/// Makes `token` the connection of a durable device. The device's former connection, if any, is
/// doomed as replaced.
pub fn attach(tables: &mut Tables, token: Token, device: u32, login: &Login, now: Now) {
    let here = tables.users.device_mut(device);
    let former = here.connect(token);
    here.durable = true;
    here.pushed = here.cursor;
    here.unacked = 0;
    here.unacked_bytes = 0;
    here.seen_s = seconds(now);
    if let Some(old) = former.filter(|&old| old != token) {
        if let Some(conn) = tables.conns.get_mut(old) {
            conn.device = NONE; // its late clean-up must not touch the device
        }
        tables.doomed.push((old, Parting::Replaced));
    }
    if let Some(conn) = tables.conns.get_mut(token) {
        conn.device = device;
        conn.phase = Phase::Session;
        conn.heard = Past::at(now.mono_ms);
        conn.spent = 0;
        conn.expires_s = u32::try_from(login.expires_s).unwrap_or(u32::MAX);
        let source = std::mem::replace(&mut conn.source, NONE);
        tables.sources.leave(source);
    }
    confirm(tables, device, login.confirmed);
    tables.counters.logins += 1;
}

/// Writes `Welcome`, after what `resume_after` acks was taken into account.
pub fn welcome(tables: &mut Tables, rules: &Rules, token: Token, device: u32, now: Now) {
    let here = tables.users.device(device);
    let frame = ServerFrame::Welcome(wire::Welcome {
        user: tables.users.user(here.user).id,
        device: here.id,
        next_client_id: here.next_client_id(),
        heartbeat_ms: u32::try_from(rules.heartbeat_ms).unwrap_or(u32::MAX),
        limits: wire::Limits {
            payload_bytes_max: u32::try_from(rules.payload_bytes_max).unwrap_or(u32::MAX),
            unacked_messages_max: limits::UNACKED_MESSAGES_MAX,
            unacked_bytes_max: limits::UNACKED_BYTES_MAX,
            unconfirmed_ids_max: u32::try_from(limits::UNCONFIRMED_IDS_MAX).unwrap_or(u32::MAX),
            watched_users_max: u32::try_from(limits::WATCHED_USERS_MAX).unwrap_or(u32::MAX),
            asked_peers_max: u32::try_from(limits::ASKED_PEERS_MAX).unwrap_or(u32::MAX),
        },
        server_time_ms: now.wall_ms,
        cursor: here.cursor,
    });
    tables.write(token, &frame);
}

fn new_device(
    tables: &mut Tables,
    stage: &mut Stage,
    user: u32,
    id: u32,
    now: Now,
) -> Result<Admitted, Parting> {
    let count = tables.users.devices_of(user).count();
    // The first device gets what was stored before anybody logged in; later ones start at the end.
    let owner = tables.users.user(user);
    let cursor = if count == 0 && owner.inbox != NONE { 0 } else { owner.tail };
    let ticket = stage_device(tables, stage, user, id, (0, cursor), now)?;
    if count >= limits::DEVICES_PER_USER_MAX {
        drop_stalest(tables, stage, user, now)?;
    }
    let device = tables.users.add_device(user, id, cursor);
    tables.users.device_mut(device).seen_s = seconds(now);
    tell_devices(tables, user, device, id, true);
    Ok(Admitted::New(device, ticket))
}

/// Drops the device that was seen longest ago, connected ones last. One that waits for its own
/// record is somebody logging in right now.
fn drop_stalest(
    tables: &mut Tables,
    stage: &mut Stage,
    user: u32,
    now: Now,
) -> Result<(), Parting> {
    let durable = tables.users.devices_of(user).filter(|&at| tables.users.device(at).durable);
    // The list begins with the newest: of several seen in one second the oldest goes.
    let stalest = durable.max_by_key(|&index| {
        let device = tables.users.device(index);
        Reverse((device.conn().is_some(), device.seen_s))
    });
    let stalest = stalest.ok_or(Parting::Overloaded)?;
    let (id, top) = (tables.users.device(stalest).id, tables.users.device(stalest).top);
    stage_device(tables, stage, user, id, (DEVICE_DROPPED, top), now)?;
    remove_device(tables, stalest, Parting::TooManyDevices);
    release_acked(tables, user);
    tell_devices(tables, user, NONE, id, false);
    Ok(())
}

/// Forgets a device and everything kept for it. Its session ends for this reason.
pub fn remove_device(tables: &mut Tables, device: u32, parting: Parting) {
    group::members::drop_device(tables, tables.users.device(device).user, device);
    let gone = tables.users.remove_device(device);
    // If it comes back it goes on above every id it used: a message id names one message.
    let owner = tables.users.user_mut(gone.user);
    owner.ids_floor = owner.ids_floor.max(gone.top).max(gone.base);
    let mut window = gone.window;
    tables.windows.retain(&mut window, |_| false);
    tables.dirty_cursors.retain(|&other| other != device);
    if let Some(token) = gone.conn() {
        if let Some(conn) = tables.conns.get_mut(token) {
            conn.device = NONE;
        }
        doom(tables, token, parting);
    }
}

/// Ends a connection for this reason at the end of the turn; what it still says is not looked at.
pub fn doom(tables: &mut Tables, token: Token, parting: Parting) {
    if let Some(conn) = tables.conns.get_mut(token) {
        conn.paused = true;
    }
    tables.doomed.push((token, parting));
}

/// Ends all sessions of a user.
pub fn doom_all(tables: &mut Tables, user: u32, parting: Parting) {
    for_each_conn(tables, user, NONE, |tables, token| doom(tables, token, parting));
}

/// Tells a user's devices but `except` that another was added or is gone.
pub fn tell_devices(tables: &mut Tables, user: u32, except: u32, id: u32, added: bool) {
    let frame = ServerFrame::DeviceEvent(wire::DeviceEvent { device: id, added });
    for_each_conn(tables, user, except, |tables, token| tables.write(token, &frame));
}

/// Calls `act` for every connection of a user but that of the device `except`.
pub fn for_each_conn(
    tables: &mut Tables,
    user: u32,
    except: u32,
    mut act: impl FnMut(&mut Tables, Token),
) {
    let mut at = tables.users.user(user).first_device;
    while at != NONE {
        let device = tables.users.device(at);
        let (next, conn) = (device.next, device.conn());
        if let Some(token) = conn
            && at != except
        {
            act(tables, token);
        }
        at = next;
    }
}

/// Stages the word that a device is known, or is not any more.
///
/// # Errors
/// The log takes nothing now.
pub fn stage_device(
    tables: &Tables,
    stage: &mut Stage,
    user: u32,
    device: u32,
    (body_kind, cursor): (u32, u64),
    now: Now,
) -> Result<Ticket, Parting> {
    let record = Record {
        stream_kind: STREAM_USER,
        stream: tables.users.user(user).id,
        device,
        time_ms: now.wall_ms,
        body_kind,
        aux: cursor,
        ..Record::blank(Kind::Device)
    };
    stage.append(Lane::Message, &record).map_err(|refused| match refused {
        Refused::Failed => Parting::StoreFailed,
        Refused::Full | Refused::Busy => Parting::Overloaded,
    })
}

/// Takes note of the answers a device has seen: they are forgotten here.
pub fn confirm(tables: &mut Tables, device: u32, confirmed: Confirmed) {
    let here = tables.users.device_mut(device);
    let base = confirmed.base.min(CLIENT_ID_MAX);
    let map = if base < here.base {
        u32::try_from(here.base - base).ok().and_then(|by| confirmed.map.checked_shr(by))
    } else {
        Some(confirmed.map)
    };
    let seen = map.unwrap_or(0);
    if base <= here.base && here.seen | seen == here.seen {
        return;
    }
    here.raise_base(base);
    here.seen |= seen;
    here.held &= !here.seen;
    let (base, seen) = (here.base, here.seen);
    let mut window = here.window;
    tables
        .windows
        .retain(&mut window, |answer| !Confirmed { base, map: seen }.covers(answer.client_id));
    tables.users.device_mut(device).window = window;
}

/// The user did something at this device.
pub fn active(tables: &mut Tables, user: u32, now: Now) {
    let here = tables.users.user_mut(user);
    let second = seconds(now);
    if here.active_s < second {
        here.active_s = second;
        let watchers = here.watchers;
        if !std::mem::replace(&mut here.seen_dirty, true) {
            tables.dirty_seen.push(user);
        }
        tables.watches.touch(watchers);
    }
}

/// A connection goes away: its device is no longer connected.
pub fn gone(tables: &mut Tables, token: Token, now: Now) {
    let Some(conn) = tables.conns.get_mut(token) else { return };
    let source = std::mem::replace(&mut conn.source, NONE);
    let index = std::mem::replace(&mut conn.device, NONE);
    tables.sources.leave(source);
    if index == NONE {
        return;
    }
    let device = tables.users.device_mut(index);
    let user = device.user;
    if device.conn() == Some(token) {
        device.disconnect();
        device.unacked = 0;
        device.unacked_bytes = 0;
        device.pushed = device.cursor;
        device.seen_s = seconds(now);
        settle_inbox(tables, user);
    }
    tables.watches.touch(tables.users.user(user).watchers);
}

/// How often a session shows that it lives, in milliseconds. `stretched`: it was asked to do so
/// less often.
#[must_use]
pub fn heartbeat_ms(rules: &Rules, stretched: bool) -> u64 {
    if !stretched {
        return rules.heartbeat_ms;
    }
    let most_ms = limits::HEARTBEAT_MS_MAX.max(rules.heartbeat_ms);
    (rules.heartbeat_ms * limits::HEARTBEAT_STRETCH).min(most_ms)
}

/// When to look at a connection again, and why to end it then.
#[must_use]
pub fn deadline(tables: &Tables, rules: &Rules, conn: &Conn, now: Now) -> (u64, Parting) {
    let heard_ms = now.mono_ms.saturating_sub(conn.heard.age_ms(now.mono_ms));
    match conn.phase {
        Phase::Greeting | Phase::Verifying | Phase::Moving | Phase::Leaving => {
            (heard_ms + limits::HELLO_TIMEOUT_MS, Parting::HelloTimeout)
        }
        Phase::Session if conn.device == NONE => (now.mono_ms + 1, Parting::Replaced),
        Phase::Session => {
            let beat_ms = heartbeat_ms(rules, conn.stretched);
            let silence_ms = beat_ms * limits::SILENT_HALF_INTERVALS / 2;
            let mut due = (heard_ms + silence_ms, Parting::Silent);
            let device = tables.users.device(conn.device);
            if device.unacked > 0 {
                let waited_ms = device.unacked_for_ms(now.mono_ms);
                let due_ms =
                    (now.mono_ms + limits::ACK_TIMEOUT_MS + 1000) - waited_ms.min(now.mono_ms);
                due = due.min_by_time((due_ms, Parting::AckTimeout));
            }
            let left_s = u64::from(conn.expires_s).saturating_sub(now.wall_ms / 1000);
            due.min_by_time((now.mono_ms + left_s * 1000, Parting::TokenExpired))
        }
    }
}

trait MinByTime {
    fn min_by_time(self, other: Self) -> Self;
}

impl MinByTime for (u64, Parting) {
    fn min_by_time(self, other: Self) -> Self {
        if other.0 < self.0 { other } else { self }
    }
}

/// Seconds since 1970, as the tables keep them (until 2106).
#[must_use]
pub fn seconds(now: Now) -> u32 {
    u32::try_from(now.wall_ms / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{attach, deadline, heartbeat_ms};
    use crate::clock::{Now, Past};
    use crate::mem::Token;
    use crate::path::Rules;
    use crate::state::Tables;
    use crate::state::conn::Conn;
    use crate::state::request::Login;
    use wire::{Confirmed, Parser, Parting};

    /// A table with one session, logged in at this time.
    fn session(now: Now) -> (Tables, Token) {
        let mut tables = Tables::new(1, 1, 1);
        let user = tables.users.find_or_add(7).unwrap();
        let device = tables.users.add_device(user, 1, 0);
        let token = tables.conns.insert(Conn::new(now.mono_ms, Parser::server())).unwrap();
        let (expires_s, confirmed) = (u64::from(u32::MAX), Confirmed { base: 0, map: 0 });
        let login = Login {
            user: 7,
            device: 1,
            expires_s,
            issued_s: 0,
            resume_after: 0,
            confirmed,
            active: false,
        };
        attach(&mut tables, token, device, &login, now);
        (tables, token)
    }

    #[test]
    fn a_session_is_judged_by_the_interval_it_was_told() {
        let mut rules = Rules::default();
        let at = |mono_ms| Now { mono_ms, wall_ms: 1 };
        let (mut tables, token) = session(at(0));
        tables.conns.get_mut(token).unwrap().stretched = true;
        for base_ms in [1_000, 5_000, 100_000, 300_000] {
            rules.heartbeat_ms = base_ms;
            let told_ms = heartbeat_ms(&rules, true);
            assert!((base_ms..=300_000).contains(&told_ms));
            let conn = tables.conns.get(token).unwrap();
            let due = deadline(&tables, &rules, conn, at(1));
            assert_eq!(due, (told_ms * 5 / 2, Parting::Silent));
        }
    }

    #[test]
    fn a_session_that_outlives_the_wrap_ends_by_silence_alone() {
        const WRAP_MS: u64 = 1 << 32;
        let rules = Rules::default();
        let silence_ms = rules.heartbeat_ms * 5 / 2;
        let at = |mono_ms| Now { mono_ms, wall_ms: 1 };
        let (mut tables, token) = session(at(10));
        for heard_ms in [WRAP_MS - 1, WRAP_MS + 5, 3 * WRAP_MS - silence_ms / 2] {
            let conn = tables.conns.get_mut(token).unwrap();
            conn.heard = Past::at(heard_ms); // any frame does that
            for waited_ms in [0, silence_ms - 1, silence_ms, silence_ms + 20_000] {
                let conn = tables.conns.get(token).unwrap();
                let due = deadline(&tables, &rules, conn, at(heard_ms + waited_ms));
                assert_eq!(due, (heard_ms + silence_ms, Parting::Silent));
            }
        }
    }
}
