//! What a session makes of what it hears of groups, and what it asks and acks there.
//!
//! Deliberately not here: which group is held up to where (`Groups`).

use super::Session;
use crate::client::event::{ClientEvent, TickMark};
use crate::client::groups::Pushed;
use crate::client::ticks::{Place, Unticked};
use crate::{
    Ack, Change, ClientFrame, Deliver, GroupChange, Item, MessageId, Relation, ServerFrame, Stream,
};

/// A record of a group's stream, pushed or fetched.
struct Entry<'a> {
    group: u64,
    position: u64,
    id: MessageId,
    time_ms: u64,
    kind: u32,
    payload: &'a [u8],
    relation: Option<Relation>,
    change: Option<GroupChange>,
    place: Place,
}

impl Session {
    /// Everything of this group up to here was handed out; 0: nothing is known of it.
    #[must_use]
    pub fn group_cursor(&self, group: u64) -> u64 {
        self.groups.cursor(group)
    }

    /// Nothing of any group is known to be missing.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.groups.is_level()
    }

    /// The user saw the group up to this position of its stream.
    pub fn read_group(&mut self, group: u64, up_to: u64) {
        self.note_read(Some(Stream::Group(group)), up_to);
    }

    /// The user types in a group, or stopped. Dropped unless connected.
    pub fn typing_in(&mut self, group: u64, stopped: bool) {
        self.note_typing(Stream::Group(group), stopped);
    }

    pub(super) fn on_group_deliver(
        &mut self,
        group: u64,
        deliver: &Deliver<'_>,
        events: &mut Vec<ClientEvent>,
    ) {
        let (position, bytes) = (deliver.position, deliver.payload.len());
        let acks = self.options.ack_every > 0;
        if self.groups.push(group, position, bytes, acks, self.now_ms) == Pushed::Next {
            let entry = Entry {
                group,
                position,
                id: deliver.id,
                time_ms: deliver.time_ms,
                kind: deliver.kind,
                payload: deliver.payload,
                relation: deliver.relation,
                change: deliver.change,
                place: Place::Pushed,
            };
            self.hand_out(&entry, events);
        }
    }

    /// Frames that answer a page of ours are taken; whether it was one.
    pub(super) fn on_group_page(
        &mut self,
        frame: &ServerFrame<'_>,
        events: &mut Vec<ClientEvent>,
    ) -> bool {
        let acks = self.options.ack_every > 0;
        match frame {
            ServerFrame::Item(item) => self.on_group_item(item, acks, events),
            ServerFrame::Fetched(page) => self.groups.fetched(page, acks, self.now_ms),
            ServerFrame::RequestRefused(refused) => {
                let Some(group) = self.groups.refused(refused, self.now_ms) else { return false };
                if !refused.retriable {
                    events.push(ClientEvent::GroupRefused { group, reason: refused.reason });
                }
                true
            }
            _ => false,
        }
    }

    fn on_group_item(
        &mut self,
        item: &Item<'_>,
        acks: bool,
        events: &mut Vec<ClientEvent>,
    ) -> bool {
        let (position, bytes) = (item.number, item.payload.len());
        let pushed = self.groups.item(item.request, position, bytes, acks, self.now_ms);
        let Some((group, pushed)) = pushed else { return false };
        if pushed == Pushed::Next {
            let entry = Entry {
                group,
                position,
                id: item.id,
                time_ms: item.time_ms,
                kind: item.kind,
                payload: item.payload,
                relation: item.relation,
                change: item.change,
                place: Place::Durable,
            };
            self.hand_out(&entry, events);
        }
        true
    }

    fn hand_out(&mut self, entry: &Entry<'_>, events: &mut Vec<ClientEvent>) {
        let Entry { group, position, id, time_ms, kind, relation, place, .. } = *entry;
        let payload = entry.payload.to_vec();
        if let Some(change) = entry.change {
            self.follow_membership(group, change);
            let by = id.sender;
            events.push(ClientEvent::GroupChanged {
                group,
                position,
                time_ms,
                by,
                change,
                payload,
            });
            return;
        }
        let own_device = (id.sender, id.device) == (self.user, self.device);
        // An own message may come before its `Sent`, and is known all the same.
        let repeat =
            !self.seen.remember(id) || own_device && self.outbox.message(id.client_id).is_some();
        events.push(ClientEvent::GroupMessage {
            group,
            id,
            position,
            time_ms,
            kind,
            payload,
            relation,
            repeat,
        });
        if id.sender == self.user {
            let to = Stream::Group(group);
            if repeat && !own_device {
                self.ticks.moved(to, position, id, place);
            } else if !repeat {
                let (device, client_id, mark) = (id.device, id.client_id, TickMark::Sent);
                let unticked = Unticked { position, device, client_id, mark, place };
                self.ticks.add(to, unticked, events);
            }
            if time_ms < self.welcomed_ms {
                self.ask_about(to);
            }
        }
    }

    fn follow_membership(&mut self, group: u64, change: GroupChange) {
        let own = change.user == self.user;
        match change.what {
            Change::Ended => self.groups.set_left(group, true),
            Change::Removed | Change::Left if own => self.groups.set_left(group, true),
            Change::Created | Change::Added if own => self.groups.set_left(group, false),
            _ => {}
        }
    }

    /// An own message to a group has a position: if it is delivered to this device, too, it is a
    /// repeat.
    pub(super) fn know_own(&mut self, to: Stream, client_id: u64) {
        if matches!(to, Stream::Group(_)) {
            let (sender, device) = (self.user, self.device);
            self.seen.remember(MessageId { sender, device, client_id });
        }
    }

    pub(super) fn take_group_acks(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        self.groups.take_acks(&mut |group, up_to| {
            sink(&ClientFrame::Ack(Ack { stream: Some(Stream::Group(group)), up_to }));
        });
    }

    pub(super) fn take_group_fetches(&mut self, sink: &mut dyn FnMut(&ClientFrame<'_>)) {
        let Self { groups, last_request, now_ms, .. } = self;
        groups.take_fetches(last_request, *now_ms, &mut |fetch| sink(&ClientFrame::Fetch(fetch)));
    }
}
