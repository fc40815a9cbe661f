//! What this device holds of each group's stream, what it still has to fetch, and which acks it
//! owes.
//!
//! ```text
//!            GroupNews                 its turn              page with more
//!   Level ------------------> Behind -----------> Asked ---------------------> Behind
//!     ^                         ^                   |
//!     |                         +----- Paused <-----+ page that ends below the head, or refused
//!     +---------------------------------------------+ page that reaches the head
//! ```
//!
//! Only a group that is level takes what is pushed: a push ahead of what has to be fetched would
//! change the order, and comes again in a page. Invariants: a group's cursor never falls; what lies
//! at or below it was handed out. Deliberately not here: events (`session/groups.rs`).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use super::{
    ACK_BYTES, FETCHES_PER_SECOND, GROUP_ACK_EVERY, GROUP_ACK_MS, GROUP_FETCHES_MAX, GROUPS_MAX,
};
use crate::{Fetch, Fetched, GroupNews, PAGE_ITEMS_MAX, RequestRefused, Stream};

/// First wait after a page that ended below the head; doubled with each further one.
const PAUSE_MS: u64 = 50;
/// Longest wait before a page is asked for again.
const PAUSE_MS_MAX: u64 = 5_000;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Stage {
    /// Nothing is known to be missing.
    #[default]
    Level,
    /// Waits for its turn to be fetched.
    Behind,
    /// A page is under way.
    Asked,
    /// Not to be asked for before this time.
    Paused { until_ms: u64 },
}

#[derive(Clone, Default, Debug)]
struct Group {
    /// Everything up to here was handed out.
    cursor: u64,
    /// The server named this as the head, on this connection.
    head: u64,
    stage: Stage,
    pauses: u32,
    unacked_messages: u32,
    unacked_bytes: usize,
    unacked_since_ms: u64,
    ack_due: bool,
    /// The user is no member any more: forgotten when all is fetched and acked.
    left: bool,
    used: u64,
}

/// See the module.
#[derive(Clone, Default, Debug)]
pub(super) struct Groups {
    known: BTreeMap<u64, Group>,
    uses: u64,
    /// Groups in `Behind`, each once, by when they fell behind.
    behind: VecDeque<u64>,
    /// Pages under way: number of the question, group, from where.
    asked: BTreeMap<u64, (u64, u64)>,
    /// Some group's ack is due: spares a look at all of them.
    ack_due: bool,
    /// Fetches since `second_ms`.
    fetches: u32,
    second_ms: u64,
}

/// What is to be done with something that was pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pushed {
    /// It is next: hand it out.
    Next,
    /// It was handed out, or comes again in a page.
    Drop,
}

impl Groups {
    // ---- what is kept ----------------------------------------------------------------------

    /// Takes back the cursor of an earlier life.
    pub(super) fn restore(&mut self, group: u64, cursor: u64) {
        self.group(group).cursor = cursor;
    }

    /// Groups and their cursors.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.known.iter().map(|(id, group)| (*id, group.cursor))
    }

    /// Everything of this group up to here was handed out; 0: nothing is known of it.
    pub(super) fn cursor(&self, group: u64) -> u64 {
        self.known.get(&group).map_or(0, |group| group.cursor)
    }

    /// Nothing is known to be missing.
    pub(super) fn is_level(&self) -> bool {
        self.known.values().all(|group| group.stage == Stage::Level)
    }

    // ---- what is heard ---------------------------------------------------------------------

    /// The server pushes this device no more of a group before it has acked up to its head.
    pub(super) fn news(&mut self, news: &GroupNews, now_ms: u64) {
        let group = self.group(news.group);
        if group.cursor == 0 {
            group.cursor = news.cursor;
        }
        group.left |= news.left;
        group.head = news.head;
        if group.cursor > news.cursor {
            group.owe(0, now_ms); // the server knows of less than is held
            group.ack_due = true;
        }
        let (fetch, due) = (group.head > group.cursor, group.ack_due);
        if fetch && group.stage == Stage::Level {
            group.stage = Stage::Behind;
            self.behind.push_back(news.group);
        }
        self.ack_due |= due;
    }

    /// Something of `bytes` was pushed.
    pub(super) fn push(
        &mut self,
        id: u64,
        position: u64,
        bytes: usize,
        acks: bool,
        now_ms: u64,
    ) -> Pushed {
        let group = self.group(id);
        if position <= group.cursor {
            return Pushed::Drop;
        }
        if group.stage != Stage::Level {
            group.head = group.head.max(position);
            return Pushed::Drop;
        }
        self.hold(id, position, bytes, acks, now_ms);
        Pushed::Next
    }

    /// An item of a page came: of which group it is, and whether it is to be handed out. `None`:
    /// of no page of ours.
    pub(super) fn item(
        &mut self,
        request: u64,
        position: u64,
        bytes: usize,
        acks: bool,
        now_ms: u64,
    ) -> Option<(u64, Pushed)> {
        let (id, _) = *self.asked.get(&request)?;
        if position <= self.cursor(id) {
            return Some((id, Pushed::Drop));
        }
        self.hold(id, position, bytes, acks, now_ms);
        Some((id, Pushed::Next))
    }

    /// A page has ended; whether it was one of ours.
    pub(super) fn fetched(&mut self, page: &Fetched, acks: bool, now_ms: u64) -> bool {
        let Some((id, from)) = self.asked.remove(&page.request) else { return false };
        let group = self.group(id);
        group.cursor = group.cursor.max(page.up_to);
        if page.more && group.cursor > from {
            group.pauses = 0;
            group.stage = Stage::Behind;
            self.behind.push_back(id);
            return true;
        }
        if group.cursor < group.head || page.more {
            group.pause(0, now_ms); // not durable yet, or no page of any use
            return true;
        }
        group.pauses = 0;
        group.stage = Stage::Level;
        // Only the ack lets the server push again.
        group.owe(0, now_ms);
        group.ack_due |= acks;
        self.ack_due |= acks;
        true
    }

    /// A page was refused: of which group, if it was one of ours. For good: the group is
    /// forgotten.
    pub(super) fn refused(&mut self, refused: &RequestRefused, now_ms: u64) -> Option<u64> {
        let (id, _) = self.asked.remove(&refused.request)?;
        if refused.retriable {
            self.group(id).pause(u64::from(refused.retry_after_ms), now_ms);
        } else {
            self.known.remove(&id);
        }
        Some(id)
    }

    /// The user left the group, or came back.
    pub(super) fn set_left(&mut self, id: u64, left: bool) {
        self.group(id).left = left;
    }

    /// The connection is gone: pages under way are lost, and so is what the server said of heads.
    pub(super) fn disconnected(&mut self) {
        self.behind.clear();
        self.asked.clear();
        self.fetches = 0;
        for group in self.known.values_mut() {
            group.stage = Stage::Level;
            group.head = 0;
            group.pauses = 0;
        }
    }

    // ---- what is to be done ----------------------------------------------------------------

    /// Time passes: pauses end, acks that waited long enough fall due.
    pub(super) fn tick(&mut self, acks: bool, now_ms: u64) {
        for (id, group) in &mut self.known {
            if matches!(group.stage, Stage::Paused { until_ms } if now_ms >= until_ms) {
                group.stage = Stage::Behind;
                self.behind.push_back(*id);
            }
            let waited_ms = now_ms.saturating_sub(group.unacked_since_ms);
            group.ack_due |= acks && group.unacked_messages > 0 && waited_ms >= GROUP_ACK_MS;
            self.ack_due |= group.ack_due;
        }
    }

    /// Acks of all groups are to leave where anything is un-acked.
    pub(super) fn flush(&mut self) {
        for group in self.known.values_mut() {
            group.ack_due |= group.unacked_messages > 0;
            self.ack_due |= group.ack_due;
        }
    }

    /// The acks that are to leave now: group and position.
    pub(super) fn take_acks(&mut self, sink: &mut dyn FnMut(u64, u64)) {
        if !std::mem::take(&mut self.ack_due) {
            return;
        }
        self.known.retain(|id, group| {
            if !std::mem::take(&mut group.ack_due) {
                return true;
            }
            (group.unacked_messages, group.unacked_bytes) = (0, 0);
            sink(*id, group.cursor);
            !(group.left && group.stage == Stage::Level)
        });
    }

    /// The pages that are to be asked for now; `last_request` numbers them.
    pub(super) fn take_fetches(
        &mut self,
        last_request: &mut u64,
        now_ms: u64,
        sink: &mut dyn FnMut(Fetch),
    ) {
        while self.asked.len() < GROUP_FETCHES_MAX && !self.behind.is_empty() {
            if now_ms.saturating_sub(self.second_ms) >= 1_000 {
                (self.second_ms, self.fetches) = (now_ms, 0);
            }
            if self.fetches >= FETCHES_PER_SECOND {
                return;
            }
            let Some(id) = self.behind.pop_front() else { return };
            let Some(group) = self.known.get_mut(&id) else { continue };
            group.stage = Stage::Asked;
            self.fetches += 1;
            *last_request += 1;
            self.asked.insert(*last_request, (id, group.cursor));
            sink(Fetch {
                request: *last_request,
                stream: Stream::Group(id),
                from: group.cursor,
                forwards: true,
                limit: PAGE_ITEMS_MAX,
            });
        }
    }

    /// Everything of the group up to `position` is with the owner now.
    fn hold(&mut self, id: u64, position: u64, bytes: usize, acks: bool, now_ms: u64) {
        let group = self.group(id);
        group.cursor = position;
        group.owe(bytes, now_ms);
        let many = group.unacked_messages >= GROUP_ACK_EVERY || group.unacked_bytes >= ACK_BYTES;
        group.ack_due |= acks && many;
        let due = group.ack_due;
        self.ack_due |= due;
    }

    /// The group, known from now on. When there are too many, the one used longest ago goes that
    /// has nothing under way.
    fn group(&mut self, id: u64) -> &mut Group {
        self.uses += 1;
        if self.known.len() >= GROUPS_MAX && !self.known.contains_key(&id) {
            let idle = self.known.iter().filter(|(_, group)| group.stage == Stage::Level);
            let oldest = idle.min_by_key(|(_, group)| group.used).map(|(id, _)| *id);
            // With all of them under way some page is, and its end will make room again.
            let oldest = oldest.or_else(|| self.behind.pop_front());
            if let Some(oldest) = oldest {
                self.known.remove(&oldest);
            }
        }
        let group = self.known.entry(id).or_default();
        group.used = self.uses;
        group
    }
}

impl Group {
    fn owe(&mut self, bytes: usize, now_ms: u64) {
        if self.unacked_messages == 0 {
            self.unacked_since_ms = now_ms;
        }
        self.unacked_messages = self.unacked_messages.saturating_add(1);
        self.unacked_bytes = self.unacked_bytes.saturating_add(bytes);
    }

    fn pause(&mut self, at_least_ms: u64, now_ms: u64) {
        let own_ms = (PAUSE_MS << self.pauses.min(16)).min(PAUSE_MS_MAX);
        self.pauses += 1;
        self.stage = Stage::Paused { until_ms: now_ms + own_ms.max(at_least_ms) };
    }
}
