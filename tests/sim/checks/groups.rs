//! Groups: one order for all members, nobody outside, everybody inside, true ticks.
//!
//! What a group is follows from its changes, which phones hear and the log keeps, and from the
//! answers to those who made them. A change that only phones were told of may be lost in a crash;
//! one whose order was not answered may have happened or not. Where that leaves open whether
//! somebody was in, nothing is demanded and nothing is forbidden.

use std::collections::BTreeMap;

use myriad::log::{Kind, Record};
use wire::client::TickMark;
use wire::{Change, ClientFrame, Deliver, GroupChange, Item, MessageId, Refusal, Refused, Stream};

use super::super::fast::{FastMap, FastSet};
use super::{Checks, Name, Place, hash_of};

/// What is known of one group.
#[derive(Debug, Default)]
struct Circle {
    /// By position; surely: it is durable.
    changes: BTreeMap<u64, (GroupChange, bool)>,
    /// The highest position anybody knew of.
    head: u64,
    /// A change of this user (0: of all) may have happened, above this position.
    doubts: BTreeMap<u64, u64>,
    /// Users who are in since this moment, and whom nobody tried to remove.
    settled: BTreeMap<u64, u64>,
    /// Up to where a user said to have read.
    read: BTreeMap<u64, u64>,
}

/// What a device was told of groups.
#[derive(Debug, Default)]
struct GroupView {
    /// When it logged in first.
    welcomed: Option<u64>,
    /// Messages its session handed out.
    got: FastSet<MessageId>,
    /// Pushed up to here on this connection, per group.
    pushed: BTreeMap<u64, u64>,
    /// Its questions: group, and the last number of the answer so far.
    asked: BTreeMap<u64, (u64, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Circles {
    known: BTreeMap<u64, Circle>,
    views: BTreeMap<Name, GroupView>,
    /// Who got something at which position, to be judged when all is known.
    deliveries: FastSet<(u64, u64, u64)>,
    /// `not_member` for what was written to a group.
    turned_away: Vec<(MessageId, u64)>,
    /// Ticks, to be judged when all is known: who lacked the message then.
    early: Vec<(u64, MessageId, u64, TickMark, Vec<u64>)>,
}

/// Whether a user is in at a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stands {
    In,
    Out,
    Unknown,
}

/// What a change makes of a user: in, out, or nothing.
fn effect(change: &GroupChange, user: u64) -> Option<Stands> {
    match change.what {
        Change::Created | Change::Added if change.user == user => Some(Stands::In),
        Change::Removed | Change::Left if change.user == user => Some(Stands::Out),
        Change::Ended => Some(Stands::Out),
        _ => None,
    }
}

impl Checks {
    // ---- what happens ----------------------------------------------------------------------

    /// A phone says something.
    pub(crate) fn said(&mut self, name: Name, frame: &ClientFrame<'_>) {
        if let ClientFrame::Fetch(fetch) = frame
            && let Stream::Group(group) = fetch.stream
        {
            let view = self.circles.views.entry(name).or_default();
            view.asked.insert(fetch.request, (group, fetch.from));
        }
    }

    pub(super) fn group_welcome(&mut self, name: Name) {
        let moment = self.next_moment();
        let view = self.circles.views.entry(name).or_default();
        view.welcomed.get_or_insert(moment);
        view.pushed.clear();
        view.asked.clear();
    }

    pub(super) fn heard_group_deliver(&mut self, name: Name, group: u64, deliver: &Deliver<'_>) {
        self.deliveries += 1;
        let position = deliver.position;
        let view = self.circles.views.entry(name).or_default();
        let former = view.pushed.insert(group, position).unwrap_or(0);
        if former >= position {
            let what = format!("{name:?} got position {position:x} of {group} after {former:x}");
            self.violated(format!("I3: {what}"));
        }
        self.group_record(name, (group, position), deliver.id, deliver.change, deliver.payload);
        if deliver.change.is_none() {
            let boot = self.boot_of(position);
            self.pushed.insert(deliver.id, boot);
        }
    }

    pub(super) fn heard_group_item(&mut self, name: Name, item: &Item<'_>) {
        self.deliveries += 1;
        let view = self.circles.views.entry(name).or_default();
        let Some((group, last)) = view.asked.get_mut(&item.request) else {
            return self.violated(format!("groups: {name:?} got an answer to no question of it"));
        };
        let (group, former) = (*group, std::mem::replace(last, item.number));
        if former >= item.number {
            let what = format!("{name:?} got item {:x} of {group} after {former:x}", item.number);
            self.violated(format!("I3: {what}"));
        }
        if item.position != item.number {
            self.violated(format!("groups: item {:x} stands at {:x}", item.number, item.position));
        }
        self.group_record(name, (group, item.number), item.id, item.change, item.payload);
        if let Some(change) = item.change {
            self.is_sure(group, item.number, change); // pages hold what is durable
        }
    }

    /// Something of a group's stream reached a phone.
    fn group_record(
        &mut self,
        name: Name,
        (group, position): (u64, u64),
        id: MessageId,
        change: Option<GroupChange>,
        payload: &[u8],
    ) {
        let stream = Stream::Group(group);
        self.circles.deliveries.insert((group, position, name.0));
        let circle = self.circles.known.entry(group).or_default();
        circle.head = circle.head.max(position);
        if let Some(change) = change {
            self.names_change((stream, position), id.sender, change, payload);
            let circle = self.circles.known.entry(group).or_default();
            circle.changes.entry(position).or_insert((change, false));
            return;
        }
        self.checks_i4_positions_are_never_reused((stream, position), id, false);
        self.placed.insert((id, false), (stream, position));
        let known = self.contents.get(&id);
        if known.is_none_or(|was| was.hash != hash_of(payload) || was.to != stream) {
            self.violated(format!("content: {name:?} got {id:?} in {group} as nobody wrote it"));
        }
        if self.refused.contains(&id) {
            self.violated(format!("I5: {id:?} was refused for good, then delivered"));
        }
    }

    /// A position names one change, as it names one message.
    fn names_change(&mut self, place: Place, by: u64, change: GroupChange, payload: &[u8]) {
        let what = u64::from(change.what.code()) << 8 | u64::from(change.role.code());
        let client_id = hash_of(payload) ^ what.rotate_left(32) ^ change.user.rotate_left(7);
        let id = MessageId { sender: by, device: 0, client_id };
        self.checks_i4_positions_are_never_reused(place, id, false);
    }

    /// A change of a group is in the log.
    pub(super) fn recorded_change(&mut self, record: &Record<'_>) {
        let (group, position) = (record.stream, record.position);
        let Some(change) = change_of(record) else {
            return self.violated(format!("groups: {group} has a change nobody knows: {record:?}"));
        };
        self.names_change((Stream::Group(group), position), record.sender, change, record.payload);
        self.is_sure(group, position, change);
    }

    fn is_sure(&mut self, group: u64, position: u64, change: GroupChange) {
        let circle = self.circles.known.entry(group).or_default();
        circle.changes.insert(position, (change, true));
        circle.head = circle.head.max(position);
    }

    /// The session of a phone handed a message out.
    pub(crate) fn group_got(&mut self, name: Name, group: u64, id: MessageId) {
        let position = self.placed.get(&(id, false)).map_or(0, |place| place.1);
        let view = self.circles.views.entry(name).or_default();
        let is_new = view.got.insert(id);
        if is_new && (id.sender, id.device) != name {
            // In a stream of its own, so that positions of others don't matter.
            let last = view_last(&mut self.views, name, id, group);
            if *last >= id.client_id {
                self.swaps.push((name, id, *last, false));
            }
            *last = id.client_id.max(*last);
        }
        self.trace(|| format!("{name:?} has {id:?} of {group}, at {position:x}"));
    }

    /// The user of a phone read a group.
    pub(crate) fn group_read(&mut self, name: Name, group: u64, position: u64) {
        let circle = self.circles.known.entry(group).or_default();
        let read = circle.read.entry(name.0).or_default();
        *read = position.max(*read);
    }

    // ---- orders ----------------------------------------------------------------------------

    /// Somebody is about to change a group; `user`: whom it may put in or out (0: all).
    pub(crate) fn group_ordered(&mut self, group: u64, user: u64, puts_out: bool) {
        let circle = self.circles.known.entry(group).or_default();
        match user {
            0 if puts_out => circle.settled.clear(),
            _ if puts_out => drop(circle.settled.remove(&user)),
            _ => {}
        }
    }

    /// An order was answered: the change is durable at this position (0: it was so already).
    pub(crate) fn group_changed(&mut self, group: u64, position: u64, change: GroupChange) {
        let moment = self.next_moment();
        let circle = self.circles.known.entry(group).or_default();
        if matches!(change.what, Change::Created | Change::Added) {
            circle.settled.insert(change.user, moment);
        }
        if position == 0 {
            return;
        }
        let known = circle.changes.get(&position).map(|(known, _)| *known);
        // The last one to leave ends the group.
        let ends = change.what == Change::Left && known.is_some_and(|it| it.what == Change::Ended);
        if known.is_some_and(|known| known.what != change.what) && !ends {
            let what = format!("{group} has {known:?} at {position:x}, answered was {change:?}");
            return self.violated(format!("groups: {what}"));
        }
        self.is_sure(group, position, known.unwrap_or(change));
    }

    /// The answer to an order will never come: it may have been obeyed or not.
    pub(crate) fn group_doubted(&mut self, group: u64, user: u64) {
        let circle = self.circles.known.entry(group).or_default();
        let head = circle.head;
        circle.doubts.insert(user, head);
        if user == 0 {
            circle.settled.clear();
        } else {
            circle.settled.remove(&user);
        }
    }

    // ---- what must hold --------------------------------------------------------------------

    /// Whether a user is in a group at a position, as far as anybody can tell.
    fn stands(&self, group: u64, user: u64, position: u64) -> Stands {
        let Some(circle) = self.circles.known.get(&group) else { return Stands::Out };
        let doubt = [user, 0].iter().filter_map(|of| circle.doubts.get(of)).min();
        let doubted = |since: u64| doubt.is_some_and(|at| since <= *at && *at < position);
        for (at, (change, sure)) in circle.changes.range(..=position).rev() {
            let Some(effect) = effect(change, user) else { continue };
            if !sure && self.boot_of(*at) != self.boot_of(position) {
                return Stands::Unknown; // told, and perhaps lost
            }
            return if doubted(*at) { Stands::Unknown } else { effect };
        }
        if doubted(0) { Stands::Unknown } else { Stands::Out }
    }

    /// A refused author was no member, or somebody tried to remove them.
    pub(super) fn checks_groups_members_may_write(&mut self, name: Name, refused: &Refused) {
        let id = super::id_of(name, refused.client_id);
        let Some(content) = self.contents.get(&id) else { return };
        let (Stream::Group(group), Refusal::NotMember) = (content.to, refused.reason) else {
            return;
        };
        let since = self.circles.known.get(&group).and_then(|circle| circle.settled.get(&name.0));
        if since.is_some_and(|since| *since < content.written) {
            self.violated(format!("groups: {id:?} was refused by {group}: its author is in"));
        }
        self.circles.turned_away.push((id, group));
    }

    /// When a mark is told, every member who was in has it.
    pub(super) fn checks_groups_ticks(
        &mut self,
        group: u64,
        id: MessageId,
        position: u64,
        mark: TickMark,
    ) {
        // Marks are cumulative: one may cover what ended before everybody had it.
        let ended = self.contents.get(&id).is_none_or(|content| content.ttl_s != 0);
        let Some(circle) = self.circles.known.get(&group).filter(|_| !ended) else { return };
        let users: FastSet<u64> =
            circle.changes.range(..=position).map(|(_, (change, _))| change.user).collect();
        let lacks = |user: &u64| match mark {
            TickMark::Read => circle.read.get(user).is_none_or(|read| *read < position),
            _ => {
                let mut devices = self.circles.views.range((*user, 0)..=(*user, u32::MAX));
                !devices.any(|(_, view)| view.got.contains(&id))
            }
        };
        let lacking: Vec<u64> = users
            .into_iter()
            .filter(|user| *user != 0 && *user != id.sender)
            .filter(lacks)
            .collect();
        if !lacking.is_empty() {
            // Who left meanwhile does not count; that may not be known yet.
            self.circles.early.push((group, id, position, mark, lacking));
        }
    }

    /// Whether the author of a message will be told that everybody has it: they are in, and so is
    /// somebody else.
    pub(super) fn group_ticks_are_due(&self, group: u64, id: MessageId, position: u64) -> bool {
        let short = self.contents.get(&id).is_none_or(|content| content.ttl_s != 0);
        let Some(circle) = self.circles.known.get(&group).filter(|_| !short) else { return false };
        let mut others = circle.settled.keys().filter(|user| **user != id.sender);
        self.stays(group, id.sender, position)
            && others.any(|user| self.stays(group, *user, position))
    }

    /// Whether a user was in at a position and nobody ever tried to change that later.
    fn stays(&self, group: u64, user: u64, position: u64) -> bool {
        let Some(circle) = self.circles.known.get(&group) else { return false };
        let above = (std::ops::Bound::Excluded(position), std::ops::Bound::Unbounded);
        let goes = |(_, (change, _)): (&u64, &(GroupChange, bool))| effect(change, user).is_some();
        self.stands(group, user, position) == Stands::In
            && circle.settled.contains_key(&user)
            && !circle.changes.range(above).any(goes)
    }

    /// At the end, when everything has come to rest and the log is known.
    pub(crate) fn checks_groups_at_the_end(&mut self) {
        self.checks_groups_nobody_outside();
        self.checks_groups_everybody_inside();
        self.checks_groups_ticks_were_true();
    }

    /// Who is not in at a position neither writes nor gets it.
    fn checks_groups_nobody_outside(&mut self) {
        let mut wrong = Vec::new();
        for (group, position, user) in &self.circles.deliveries {
            // A departure is the last thing that reaches who goes.
            let change = self.circles.known.get(group).and_then(|it| it.changes.get(position));
            let goes = change.is_some_and(|(it, _)| effect(it, *user) == Some(Stands::Out));
            let before = if goes { *position - 1 } else { *position };
            if self.stands(*group, *user, before) == Stands::Out {
                wrong.push(format!("groups: {user} got {position:x} of {group} from outside"));
            }
        }
        for (id, answer) in &self.sent {
            if let Stream::Group(group) = answer.to
                && self.stands(group, id.sender, answer.position) == Stands::Out
            {
                wrong.push(format!("groups: {id:?} was Sent to {group} from outside: {answer:x?}"));
            }
        }
        wrong.sort();
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// Who is in at a position, and stays, gets it on every device that was there.
    fn checks_groups_everybody_inside(&mut self) {
        let mut sure: FastMap<MessageId, Place> = FastMap::default();
        for (id, answer) in &self.sent {
            sure.insert(*id, (answer.to, answer.position));
        }
        let stored = self.stored.iter().filter(|((_, copy), _)| !copy);
        sure.extend(stored.map(|((id, _), place)| (*id, *place)));
        let mut wrong = Vec::new();
        for (id, (stream, position)) in sure {
            let Stream::Group(group) = stream else { continue };
            let Some(content) = self.contents.get(&id).filter(|content| content.ttl_s == 0) else {
                continue;
            };
            for (name, view) in &self.circles.views {
                let was_there = view.welcomed.is_some_and(|moment| moment < content.written);
                let own = *name == (id.sender, id.device);
                if was_there
                    && !own
                    && !view.got.contains(&id)
                    && self.stays(group, name.0, position)
                {
                    wrong.push(format!("I1: {name:?} never got {id:?} of {group}, {position:x}"));
                }
            }
        }
        wrong.sort();
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// Marks that were told although somebody lacked the message: those had left.
    fn checks_groups_ticks_were_true(&mut self) {
        for (group, id, position, mark, lacking) in std::mem::take(&mut self.circles.early) {
            for user in lacking {
                if self.stays(group, user, position) {
                    self.violated(format!(
                        "ticks: {mark:?} for {id:?} at {position:x} of {group}, which {user} lacked"
                    ));
                }
            }
        }
    }
}

/// The last id of a sender that a device got of a group.
fn view_last(
    views: &mut BTreeMap<Name, super::View>,
    name: Name,
    id: MessageId,
    group: u64,
) -> &mut u64 {
    let view = views.entry(name).or_default();
    let key = (id.sender, id.device, Some(Stream::Group(group)));
    view.last_id.entry(key).or_insert(0)
}

/// What a record says of a change.
fn change_of(record: &Record<'_>) -> Option<GroupChange> {
    let what = Change::from_code(u8::try_from(record.body_kind).ok()?)?;
    let role = wire::Role::from_code(u8::try_from(record.aux).ok()?)?;
    Some(GroupChange { what, user: record.peer, role })
}

/// Whether a record tells of a change of a group.
pub(super) fn is_change(kind: Kind) -> bool {
    kind == Kind::Group
}
