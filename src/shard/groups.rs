//! Groups whose home is this shard: orders, messages, word to members' homes and from them. The
//! rules are in `path::group`.
//!
//! What is told of a group to a shard keeps its order: who came and who went first (`tidings`,
//! never dropped), then what is pushed; a push without a credit becomes a flag that there is
//! something (`Group::heads_due`).

use super::{Core, Waiter};
use crate::limits;
use crate::log::{self, Lane, Reader, Ticket};
use crate::path::group::{marks, members, seats, store};
use crate::path::store::guarded;
use crate::state::groups::{Letter, Pushed, Stands, Tick, Tiding};
use crate::state::order::Role;
use crate::state::request::{Envelope, Request, Staged};
use crate::state::window::Outcome;
use std::collections::VecDeque;
use std::sync::Arc;

/// Pushed records that are kept to be filled again.
const SPARE_PUSHES_MAX: usize = 1_024;
/// Payloads above this are not kept with them.
const SPARE_PAYLOAD_BYTES_MAX: usize = 4 * 1024;

/// What waits here for credits and for time.
#[derive(Debug)]
pub(super) struct Grouping {
    /// Per shard: who came and who went, not told yet.
    tidings: Vec<VecDeque<Tiding>>,
    /// Groups of which shards are to be told the head when the time has come, oldest first.
    paced: VecDeque<(u64, u32)>,
    /// Records that were pushed; whoever has them no more can be filled again.
    pushes: VecDeque<Arc<Pushed>>,
    /// Letters of marks, empty.
    #[allow(clippy::vec_box, reason = "the box itself is recycled: it travels between shards")]
    pub(super) stands: Vec<Box<Stands>>,
    /// When the log is told of releases.
    releases_due_ms: u64,
}

impl Grouping {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            tidings: (0..shards).map(|_| VecDeque::new()).collect(),
            paced: VecDeque::new(),
            pushes: VecDeque::new(),
            stands: Vec::new(),
            releases_due_ms: 0,
        }
    }

    /// How many arrivals and departures wait, for the shard where most do.
    pub(super) fn waiting(&self) -> usize {
        self.tidings.iter().map(VecDeque::len).max().unwrap_or(0)
    }

    /// When there is something to do: session clock, milliseconds.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.paced.front().map(|(due_ms, _)| *due_ms)
    }
}

impl<S, R: Reader> Core<S, R> {
    // ---- messages ----------------------------------------------------------------------------

    /// A message to a group, at the group's home: store, push, wait for the commit.
    pub(super) fn store_in_group(&mut self, from: usize, mut request: Box<Request>) {
        let Self { tables, rules, stage, positions, refusals, now, .. } = self;
        let stored = guarded(&mut refusals[from], &request, || {
            store::store(tables, rules, stage, positions, &request, *now)
        });
        match stored {
            Ok(stored) => {
                self.delete_in_group(&stored, &request);
                let homes = self.tables.groups.get(stored.group).map_or(0, |it| it.homes_mask());
                if !self.pulls(stored.group) {
                    self.push_to(homes, stored.group, |pushed| {
                        store::fill_message(pushed, &stored, &request);
                    });
                }
                let (position, time_ms) = (stored.position, stored.time_ms);
                request.outcome = Outcome::Sent { position, time_ms };
                let (ticket, user) = (stored.ticket, stored.group);
                let deleted = false;
                let waiter = Waiter::Request { ticket, from, user, position, request, deleted };
                self.waiters.push_back(waiter);
            }
            Err(reason) => {
                if reason.retriable() {
                    request.retry = Some(reason);
                } else {
                    request.outcome = Outcome::Refused(reason);
                }
                self.decided(from, request);
            }
        }
    }

    /// The record of a request is durable: in a group's stream, or in a user's.
    pub(super) fn place_sent(
        &mut self,
        placed: &log::Placed,
        ticket: Ticket,
        (index, position): (u32, u64),
        request: &Request,
    ) {
        if request.in_group && request.stage == Staged::Message {
            self.place_in_group(placed, ticket, (index, position));
        } else {
            self.place(placed, ticket, index, position);
        }
    }

    /// A record of a group is durable.
    pub(super) fn place_in_group(&mut self, placed: &log::Placed, ticket: Ticket, at: (u32, u64)) {
        let (index, position) = at;
        let Self { tables, .. } = self;
        crate::path::group::place(
            &mut tables.groups,
            &mut tables.live,
            index,
            position,
            placed.at(ticket),
        );
        if self.pulls(index)
            && let Some(group) = self.tables.groups.get(index)
            && group.announced >= position
        {
            // Not before: who fetched now would find nothing.
            let homes = group.homes_mask();
            self.tables.groups.touch_head(index, homes);
        }
    }

    /// A message just stored deletes an earlier one of its author, or of anybody if its author may
    /// do more than a plain member: nobody gets that any more.
    fn delete_in_group(&mut self, stored: &store::Stored, request: &Request) {
        let Some(relation) = request.relation.filter(|it| it.kind == wire::RELATION_DELETE) else {
            return;
        };
        let Self { tables, reader, .. } = self;
        let Some(group) = tables.groups.get(stored.group) else { return };
        let target = relation.target;
        let rules_more = group.role(request.sender).is_some_and(|role| role >= Role::Admin);
        if target.sender != request.sender && !rules_more {
            return;
        }
        let same = |sender: u64, device: u32| (sender, device) == (target.sender, target.device);
        let candidates = group.before(stored.position).filter(|it| same(it.sender, it.device));
        let found = candidates.take(limits::DELETE_LOOKS_MAX).find(|entry| {
            entry.is_message()
                && entry.at().and_then(|at| reader.read(at)).is_some_and(|record| {
                    record.position == entry.position && record.client_id == target.client_id
                })
        });
        let found = found.map(|entry| entry.position);
        if let Some(position) = found {
            self.tables.counters.deleted += 1;
            self.bury_in_group(stored.group, position);
        }
    }

    /// Takes a record out of a group and off the disk. False: the log has no room to say so; it
    /// is tried again by its date.
    pub(super) fn bury_in_group(&mut self, index: u32, position: u64) -> bool {
        let Self { tables, stage, now, .. } = self;
        if marks::stage_tombstone(tables, stage, index, position, now.wall_ms).is_err() {
            tables.groups.note_due(index, u32::try_from(now.wall_ms / 1000 + 1).unwrap_or(1));
            return false;
        }
        marks::remove(tables, index, position);
        true
    }

    /// Gives up what has waited too long in groups.
    pub(super) fn expire_in_groups(&mut self, now_s: u32) {
        for _ in 0..limits::EXPIRED_PER_LOOK_MAX {
            let Some(index) = self.tables.groups.pop_due(now_s) else { return };
            let mut positions = std::mem::take(&mut self.expired);
            positions.clear();
            marks::expired(&mut self.tables, index, now_s, &mut positions);
            for &position in &positions {
                if !self.bury_in_group(index, position) {
                    break;
                }
            }
            self.expired = positions;
        }
    }

    pub(super) fn pulls(&self, index: u32) -> bool {
        let group = self.tables.groups.get(index);
        group.is_some_and(|group| group.count() > self.rules.groups.push_max as usize)
    }

    // ---- to members' homes -------------------------------------------------------------------

    /// Tells a shard who came or went, behind what it was not told yet.
    pub(super) fn tell(&mut self, home: usize, tiding: Tiding) {
        if home == self.me {
            return members::hear(&mut self.tables, tiding);
        }
        self.grouping.tidings[home].push_back(tiding);
        self.tell_tidings(home);
    }

    fn tell_tidings(&mut self, home: usize) {
        while let Some(&tiding) = self.grouping.tidings[home].front() {
            let letter = Envelope::Group(Letter::Tiding(tiding));
            if self.mailbox.notify(home, letter).is_err() {
                return self.mailbox.wants_credit(home);
            }
            self.grouping.tidings[home].pop_front();
        }
    }

    /// Pushes a record to these shards. One without a credit hears later that there is something.
    pub(super) fn push_to(&mut self, homes: u64, group: u32, fill: impl FnOnce(&mut Pushed)) {
        let mut pushed = self.spare_push();
        if let Some(pushed) = Arc::get_mut(&mut pushed) {
            fill(pushed);
        }
        let mut missed = 0;
        for shard in shards(homes) {
            if shard == self.me {
                seats::push(&mut self.tables, &pushed);
                continue;
            }
            let letter = Envelope::Group(Letter::Push(Arc::clone(&pushed)));
            let in_order = self.grouping.tidings[shard].is_empty();
            if !in_order || self.mailbox.notify(shard, letter).is_err() {
                missed |= 1 << shard;
            }
        }
        self.tables.groups.touch_head(group, missed);
        if self.grouping.pushes.len() < SPARE_PUSHES_MAX {
            self.grouping.pushes.push_back(pushed);
        }
    }

    /// A record to fill: one that every shard is done with, or a new one.
    fn spare_push(&mut self) -> Arc<Pushed> {
        if let Some(mut oldest) = self.grouping.pushes.pop_front() {
            if let Some(spare) = Arc::get_mut(&mut oldest) {
                spare.payload.clear();
                spare.payload.shrink_to(SPARE_PAYLOAD_BYTES_MAX);
                return oldest;
            }
            self.grouping.pushes.push_front(oldest);
        }
        Arc::default()
    }

    /// Something waits here for the next turn.
    pub(super) fn groups_wait(&self) -> bool {
        let Self { tables, grouping, .. } = self;
        grouping.waiting() > 0
            || !tables.groups.dirty_marks.is_empty()
            || !tables.groups.dirty_heads.is_empty()
            || !tables.circles.dirty.is_empty()
            || !tables.circles.news.is_empty()
            || !tables.circles.quits.is_empty()
            || !tables.groups.quits.is_empty()
            || !tables.groups.over.is_empty()
            || tables.circles.is_ending()
    }

    /// All that waits: who came and went, marks, ticks, heads, in this order.
    pub(super) fn serve_groups(&mut self) {
        let now_ms = self.now.mono_ms;
        let is_due = now_ms >= self.grouping.releases_due_ms
            || self.grouping.due_ms().is_some_and(|due_ms| due_ms <= now_ms);
        if !is_due && !self.groups_wait() {
            return; // most turns, and each message takes some
        }
        for shard in 0..self.grouping.tidings.len() {
            self.tell_tidings(shard);
        }
        crate::path::group::take_apart(&mut self.tables);
        members::leave_some(&mut self.tables);
        self.serve_quits();
        self.tell_stands();
        self.look_at_marks();
        self.tell_heads();
        seats::tell_news(&mut self.tables);
        if self.now.mono_ms >= self.grouping.releases_due_ms {
            self.grouping.releases_due_ms = self.now.mono_ms + limits::GROUP_RELEASE_TELL_MS;
            let Self { tables, stage, now, .. } = self;
            marks::stage_releases(tables, stage, Lane::Reserve, now.wall_ms);
        }
    }

    /// Groups whose marks moved: ticks and releases.
    fn look_at_marks(&mut self) {
        let Self { tables, mailbox, placement, me, .. } = self;
        let mut tell = |tables: &mut _, tick: Tick| {
            let home = placement.home(tick.author);
            if home == *me {
                marks::push(tables, &tick);
                return true;
            }
            let told = mailbox.notify(home, Envelope::Group(Letter::Tick(tick))).is_ok();
            if !told {
                mailbox.wants_credit(home);
            }
            told
        };
        let mut dirty = std::mem::take(&mut tables.groups.dirty_marks);
        let most = dirty.len().min(limits::GROUPS_PER_TURN_MAX);
        let mut nth = 0;
        dirty.retain(|&index| {
            nth += 1;
            if nth > most {
                return true;
            }
            let stays = marks::look(tables, index, &mut tell) == marks::Looked::Again;
            if let Some(group) = tables.groups.get_mut(index) {
                group.marks_dirty = stays;
            }
            stays
        });
        dirty.append(&mut tables.groups.dirty_marks);
        tables.groups.dirty_marks = dirty;
    }

    /// Tells shards the heads of groups. Groups that do not push are paced.
    fn tell_heads(&mut self) {
        let now_ms = self.now.mono_ms;
        while self.grouping.paced.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            if let Some((_, index)) = self.grouping.paced.pop_front() {
                self.tables.groups.dirty_heads.push_back(index);
            }
        }
        let some = self.tables.groups.dirty_heads.len().min(limits::GROUPS_PER_TURN_MAX);
        for _ in 0..some {
            let Some(index) = self.tables.groups.dirty_heads.pop_front() else { return };
            let pulls = self.pulls(index);
            let Some(group) = self.tables.groups.get_mut(index) else { continue };
            let due_ms = group.heads_told_ms + limits::GROUP_HEAD_MS;
            if pulls && group.heads_told_ms != 0 && now_ms < due_ms {
                self.grouping.paced.push_back((due_ms, index));
                continue;
            }
            group.heads_told_ms = now_ms.max(1);
            let (id, head) = (group.id, group.announced);
            let due = std::mem::take(&mut group.heads_due);
            let missed = self.tell_head(id, head, due);
            let Some(group) = self.tables.groups.get_mut(index) else { continue };
            group.heads_dirty = false;
            self.tables.groups.touch_head(index, missed);
        }
    }

    /// Tells these shards; returns those that could not be told.
    fn tell_head(&mut self, group: u64, head: u64, homes: u64) -> u64 {
        let mut missed = 0;
        for shard in shards(homes) {
            if shard == self.me {
                seats::head(&mut self.tables, group, head);
                continue;
            }
            let in_order = self.grouping.tidings[shard].is_empty();
            let letter = Envelope::Group(Letter::Head { group, head });
            if !in_order || self.mailbox.notify(shard, letter).is_err() {
                self.mailbox.wants_credit(shard);
                missed |= 1 << shard;
            }
        }
        missed
    }
}

/// The shards of a bitmap.
pub(super) fn shards(homes: u64) -> impl Iterator<Item = usize> {
    (0..u64::BITS as usize).filter(move |shard| homes & 1 << shard != 0)
}
