//! Beside the message path: who is online, who wants to know, who types. Volatile, bounded, and the
//! first to be shed.
//!
//! Online (P3) = a live session and the user's last deed younger than the threshold plus 1.5 of the
//! client's heartbeat intervals.

use crate::clock::Now;
use crate::limits;
use crate::path::session::{for_each_conn, heartbeat_ms};
use crate::path::{Rules, people};
use crate::state::request::Errand;
use crate::state::watch::{Told, Watch};
use crate::state::{NONE, Tables};
use wire::ServerFrame;

/// What one watcher has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Who watches,
    pub watcher: u64,
    /// on which device,
    pub device: u32,
    /// whom.
    pub user: u64,
    /// Online now?
    pub online: bool,
    /// Seconds since 1970 of the last deed; 0 for never, or not to be told.
    pub last_seen_s: u32,
    /// The watcher has just asked: it is answered even if it may not know.
    pub asked: bool,
}

/// Whether a user shows as online.
#[must_use]
pub fn is_online(tables: &Tables, rules: &Rules, user: u32, now: Now) -> bool {
    let mut tokens = tables.users.devices_of(user).filter_map(|at| tables.users.device(at).conn());
    let stretched = tokens.any(|token| tables.conns.get(token).is_some_and(|it| it.stretched));
    let fresh_ms = limits::ONLINE_THRESHOLD_MS + heartbeat_ms(rules, stretched) * 3 / 2;
    let active_ms = u64::from(tables.users.user(user).active_s) * 1000;
    now.wall_ms.saturating_sub(active_ms) <= fresh_ms && tables.users.is_connected(user)
}

/// Starts or renews a watch at the home of its target. A user nobody knows is answered once.
pub fn watch(
    tables: &mut Tables,
    watcher: u64,
    device: u32,
    target: u64,
    now: Now,
) -> Option<News> {
    let Some(user) = tables.users.find(target) else {
        let (online, last_seen_s, asked) = (false, 0, true);
        return Some(News { watcher, device, user: target, online, last_seen_s, asked });
    };
    let until_ms = now.mono_ms + limits::WATCH_LEASE_MS;
    let lease = Watch { watcher, device, told: None, until_ms };
    let maxima = (limits::WATCHERS_PER_USER_MAX, limits::WATCHES_PER_SHARD_MAX);
    let handle = &mut tables.users.user_mut(user).watchers;
    if !tables.watches.add(handle, user, lease, maxima) {
        tables.counters.shed += 1;
    }
    None
}

/// Compares what the watchers of one user were told with what is true now; `tell` hands news to
/// the watcher's home and says whether that was possible.
pub fn look(
    tables: &mut Tables,
    rules: &Rules,
    handle: u32,
    now: Now,
    mut tell: impl FnMut(&mut Tables, News) -> bool,
) {
    let Some(target) = tables.watches.list_mut(handle).map(|list| list.target) else { return };
    if tables.watches.expire(handle, now.mono_ms) {
        tables.users.user_mut(target).watchers = NONE;
        return;
    }
    let online = is_online(tables, rules, target, now);
    let (user, last_seen_s) = {
        let here = tables.users.user(target);
        (here.id, here.active_s)
    };
    let count = tables.watches.list_mut(handle).map_or(0, |list| list.watches.len());
    for index in 0..count {
        let Some(list) = tables.watches.list_mut(handle) else { return };
        let Watch { watcher, device, told, .. } = list.watches[index];
        let truth = match people::shows(tables, target, watcher) {
            true if online => Told::Online,
            true => Told::Offline,
            false => Told::Nothing,
        };
        if told == Some(truth) {
            continue;
        }
        let last_seen_s = if truth == Told::Nothing { 0 } else { last_seen_s };
        let (online, asked) = (truth == Told::Online, told.is_none());
        let news = News { watcher, device, user, online, last_seen_s, asked };
        if tell(tables, news)
            && let Some(list) = tables.watches.list_mut(handle)
        {
            list.watches[index].told = Some(truth);
        }
    }
}

/// Pushes news to the watching device, at the watcher's home.
pub fn push(tables: &mut Tables, news: &News) {
    let Some(user) = tables.users.find(news.watcher) else { return };
    let Some(device) = tables.users.device_of(user, news.device) else { return };
    let Some(token) = tables.users.device(device).conn() else { return };
    // Both ways: who hides from somebody does not see them either, and must not even hear that
    // something changed.
    let sees = people::shows(tables, user, news.user);
    if !sees && !news.asked {
        return;
    }
    let (online, last_seen_s) = if sees { (news.online, news.last_seen_s) } else { (false, 0) };
    if is_congested(tables, token) {
        tables.counters.shed += 1;
        return;
    }
    tables.write(
        token,
        &ServerFrame::Presence(wire::Presence {
            user: news.user,
            online,
            last_seen_ms: u64::from(last_seen_s) * 1000,
        }),
    );
}

/// Pushes "somebody types" to the recipient's devices.
pub fn push_typing(tables: &mut Tables, from: u64, to: u64, stopped: bool) {
    let Some(user) = tables.users.find(to) else { return };
    if people::blocks(tables, user, from) {
        return;
    }
    let frame = ServerFrame::Typing(wire::TypingFrom { user: from, stopped, group: 0 });
    for_each_conn(tables, user, NONE, |tables, token| {
        if is_congested(tables, token) {
            tables.counters.shed += 1;
        } else {
            tables.write(token, &frame);
        }
    });
}

/// Whether a device may ask about so many users more in this minute.
pub fn may_ask(tables: &mut Tables, device: u32, count: usize, now: Now) -> bool {
    let here = tables.users.device_mut(device);
    let may = here.count_watched(count, now.mono_ms) <= limits::QUESTIONS_PER_MINUTE_MAX;
    if !may {
        tables.counters.shed += 1;
    }
    may
}

/// The errands of a `WatchPresence`.
pub fn watch_errands(
    tables: &Tables,
    user: u32,
    device: u32,
    targets: &[u64],
) -> impl Iterator<Item = Errand> {
    let watcher = tables.users.user(user).id;
    let device = tables.users.device(device).id;
    let targets = targets.iter().take(limits::WATCHED_USERS_MAX);
    targets.map(move |&target| Errand::Watch { watcher, device, target })
}

/// The errands of an `AskReceipts`.
pub fn receipt_errands(tables: &Tables, user: u32, peers: &[u64]) -> impl Iterator<Item = Errand> {
    let asker = tables.users.user(user).id;
    peers.iter().take(limits::ASKED_PEERS_MAX).map(move |&peer| Errand::Receipts { asker, peer })
}

/// Last-seen times that changed since the last call, as (user, seconds since 1970).
pub fn take_seen(tables: &mut Tables) -> Vec<(u64, u32)> {
    let dirty = std::mem::take(&mut tables.dirty_seen);
    dirty
        .into_iter()
        .map(|user| {
            let here = tables.users.user_mut(user);
            here.seen_dirty = false;
            (here.id, here.active_s)
        })
        .collect()
}

fn is_congested(tables: &Tables, token: crate::mem::Token) -> bool {
    tables
        .conns
        .get(token)
        .is_none_or(|conn| tables.outboxes.waiting_bytes(conn) > limits::OUTBOX_BYTES_HIGH / 2)
}
