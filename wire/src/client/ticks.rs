//! Which of the own messages still lack a tick, per conversation.
//!
//! Receipts are cumulative intervals over positions of the recipient's stream and may overtake
//! the `Sent` that names a message's position, so the last interval of each mark is kept.
//! A message that another device of this user wrote to a group is known from a push, which does not
//! wait for the disk: once that connection is gone it may stand elsewhere, and no interval counts
//! for it until it comes again.
//!
//! Deliberately not here: messages without a `Sent` (the outbox has them).

use std::collections::{BTreeMap, VecDeque};

use super::event::{ClientEvent, TickMark};
use super::{PEERS_MAX, UNTICKED_PER_PEER_MAX};
use crate::{Mark, MessageId, Stream};

/// One message of this user that was stored and not yet read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unticked {
    pub(super) position: u64,
    pub(super) device: u32,
    pub(super) client_id: u64,
    pub(super) mark: TickMark,
    pub(super) place: Place,
}

/// Whether a message stands where it is said to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It is durable there.
    Durable,
    /// It was pushed on the present connection.
    Pushed,
    /// It was pushed on an earlier one.
    Doubtful,
}

/// Positions in `after < position <= up_to`.
#[derive(Clone, Copy, Default, Debug)]
struct Interval {
    after: u64,
    up_to: u64,
}

impl Interval {
    fn covers(self, position: u64) -> bool {
        self.after < position && position <= self.up_to
    }

    /// Grows by an overlapping or adjoining interval; one apart from it takes its place.
    fn merge(&mut self, other: Self) {
        let apart = other.after > self.up_to || self.after > other.up_to;
        *self = if apart {
            other
        } else {
            Self { after: self.after.min(other.after), up_to: self.up_to.max(other.up_to) }
        };
    }
}

#[derive(Clone, Default, Debug)]
struct Peer {
    /// Sorted by position.
    unticked: VecDeque<Unticked>,
    has: Interval,
    read: Interval,
    used: u64,
}

impl Peer {
    /// Takes the place its position gives it (nearly always the last). When full, the oldest goes.
    fn insert(&mut self, message: Unticked) {
        if self.unticked.len() >= UNTICKED_PER_PEER_MAX {
            self.unticked.pop_front();
        }
        let index = self.unticked.partition_point(|other| other.position <= message.position);
        self.unticked.insert(index, message);
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Ticks {
    peers: BTreeMap<Stream, Peer>,
    uses: u64,
    until: TickMark,
}

impl Ticks {
    /// Follows messages until they carry the mark `until`.
    pub(super) fn new(until: TickMark) -> Self {
        Self { peers: BTreeMap::new(), uses: 0, until }
    }

    /// A message has a position now. Marks that came ahead of it are told at once.
    pub(super) fn add(&mut self, to: Stream, message: Unticked, events: &mut Vec<ClientEvent>) {
        let until = self.until;
        let peer = self.peer(to);
        let mut message = message;
        if peer.has.covers(message.position) || peer.read.covers(message.position) {
            raise(&mut message, to, TickMark::Has, events);
        }
        if peer.read.covers(message.position) {
            raise(&mut message, to, TickMark::Read, events);
        }
        if message.mark < until {
            peer.insert(message);
        }
    }

    /// All own messages to `to` with `after < position <= up_to` carry the mark.
    pub(super) fn receipt(
        &mut self,
        to: Stream,
        after: u64,
        up_to: u64,
        mark: Mark,
        events: &mut Vec<ClientEvent>,
    ) {
        let interval = Interval { after, up_to };
        let mark = if mark == Mark::Read { TickMark::Read } else { TickMark::Has };
        let until = self.until;
        let peer = self.peer(to);
        if mark == TickMark::Read {
            peer.read.merge(interval);
        } else {
            peer.has.merge(interval);
        }
        let first = peer.unticked.partition_point(|message| message.position <= after);
        let last = peer.unticked.partition_point(|message| message.position <= up_to);
        if first >= last {
            return; // also an interval that ends before it begins
        }
        let sure = |message: &&mut Unticked| message.place != Place::Doubtful;
        for message in peer.unticked.range_mut(first..last).filter(sure) {
            raise(message, to, TickMark::Has, events);
            if mark == TickMark::Read {
                raise(message, to, TickMark::Read, events);
            }
        }
        if mark >= until {
            let mut index = 0;
            peer.unticked.retain(|message| {
                index += 1;
                !(first < index && index <= last) || message.place == Place::Doubtful
            });
        }
    }

    /// A message that is followed came again, there.
    pub(super) fn moved(&mut self, to: Stream, position: u64, id: MessageId, place: Place) {
        let peer = self.peer(to);
        let same = |it: &Unticked| (it.device, it.client_id) == (id.device, id.client_id);
        let Some(index) = peer.unticked.iter().position(same) else { return };
        if let Some(message) = peer.unticked.remove(index) {
            peer.insert(Unticked { position, place, ..message });
        }
    }

    /// The connection is gone: nobody knows whether what was pushed on it is durable.
    pub(super) fn disconnected(&mut self) {
        for message in self.peers.values_mut().flat_map(|peer| &mut peer.unticked) {
            if message.place == Place::Pushed {
                message.place = Place::Doubtful;
            }
        }
    }

    /// No further tick will come for this message.
    pub(super) fn forget(&mut self, id: MessageId) {
        for peer in self.peers.values_mut() {
            peer.unticked
                .retain(|message| (message.device, message.client_id) != (id.device, id.client_id));
        }
    }

    /// To whom messages without a tick went.
    pub(super) fn unticked_streams(&self) -> Vec<Stream> {
        let unticked = self.peers.iter().filter(|(_, peer)| !peer.unticked.is_empty());
        unticked.map(|(to, _)| *to).collect()
    }

    /// Everything without all its ticks, as far as its place is sure.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Stream, Unticked)> + '_ {
        self.peers.iter().flat_map(|(to, peer)| {
            let durable = peer.unticked.iter().filter(|it| it.place == Place::Durable);
            durable.map(move |message| (*to, *message))
        })
    }

    /// Takes back a message of an earlier life.
    pub(super) fn restore(&mut self, to: Stream, message: Unticked) {
        self.peer(to).insert(message);
    }

    fn peer(&mut self, to: Stream) -> &mut Peer {
        self.uses += 1;
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&to) {
            let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.used).map(|(to, _)| *to);
            if let Some(oldest) = oldest {
                self.peers.remove(&oldest);
            }
        }
        let peer = self.peers.entry(to).or_default();
        peer.used = self.uses;
        peer
    }
}

fn raise(message: &mut Unticked, to: Stream, mark: TickMark, events: &mut Vec<ClientEvent>) {
    if message.mark >= mark {
        return;
    }
    message.mark = mark;
    events.push(ClientEvent::Tick {
        client_id: message.client_id,
        device: message.device,
        to,
        mark,
        position: message.position,
        time_ms: 0,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Stream = Stream::User(9);

    fn message(position: u64) -> Unticked {
        let (mark, place) = (TickMark::Sent, Place::Durable);
        Unticked { position, device: 1, client_id: position, mark, place }
    }

    fn marks(events: &[ClientEvent]) -> Vec<(u64, TickMark)> {
        let mut marks = Vec::new();
        for event in events {
            if let ClientEvent::Tick { client_id, mark, .. } = event {
                marks.push((*client_id, *mark));
            }
        }
        marks
    }

    #[test]
    fn each_mark_is_told_once_and_in_rising_order() {
        let (mut ticks, mut events) = (Ticks::new(TickMark::Read), Vec::new());
        ticks.add(PEER, message(5), &mut events);
        ticks.add(PEER, message(6), &mut events);
        ticks.receipt(PEER, 0, 5, Mark::Has, &mut events);
        ticks.receipt(PEER, 0, 5, Mark::Has, &mut events);
        ticks.receipt(PEER, 0, 6, Mark::Read, &mut events);
        let expected =
            [(5, TickMark::Has), (5, TickMark::Read), (6, TickMark::Has), (6, TickMark::Read)];
        assert_eq!(marks(&events), expected);
        assert!(ticks.unticked_streams().is_empty());
    }

    #[test]
    fn receipt_ahead_of_sent_is_not_lost() {
        let (mut ticks, mut events) = (Ticks::new(TickMark::Read), Vec::new());
        ticks.receipt(PEER, 4, 7, Mark::Has, &mut events);
        ticks.add(PEER, message(7), &mut events);
        ticks.add(PEER, message(8), &mut events);
        ticks.add(PEER, message(3), &mut events);
        assert_eq!(marks(&events), [(7, TickMark::Has)]);
    }

    #[test]
    fn positions_outside_the_interval_stay_unticked() {
        let (mut ticks, mut events) = (Ticks::new(TickMark::Read), Vec::new());
        for position in 1..=4 {
            ticks.add(PEER, message(position), &mut events);
        }
        ticks.receipt(PEER, 1, 2, Mark::Read, &mut events);
        ticks.receipt(PEER, 3, 4, Mark::Read, &mut events);
        let left: Vec<u64> = ticks.iter().map(|(_, message)| message.position).collect();
        assert_eq!(left, [1, 3]);
        assert_eq!(ticks.unticked_streams(), [PEER]);
    }

    #[test]
    fn what_was_only_pushed_gets_no_mark_after_its_connection_unless_it_comes_again() {
        let (mut ticks, mut events) = (Ticks::new(TickMark::Read), Vec::new());
        let group = Stream::Group(3);
        for position in 5..=7 {
            let pushed = Unticked { place: Place::Pushed, ..message(position) };
            ticks.add(group, pushed, &mut events);
        }
        ticks.receipt(group, 0, 5, Mark::Has, &mut events);
        assert_eq!(marks(&events), [(5, TickMark::Has)]);
        ticks.disconnected();
        events.clear();
        let id = MessageId { sender: 9, device: 1, client_id: 7 };
        ticks.moved(group, 9, id, Place::Durable);
        ticks.receipt(group, 0, 9, Mark::Has, &mut events);
        ticks.receipt(group, 0, 9, Mark::Read, &mut events);
        assert_eq!(marks(&events), [(7, TickMark::Has), (7, TickMark::Read)]);
        assert_eq!(ticks.iter().count(), 0, "what is doubtful is not saved");
        assert_eq!(ticks.unticked_streams(), [group]);
    }

    #[test]
    fn peers_and_messages_are_bounded() {
        let (mut ticks, mut events) = (Ticks::new(TickMark::Read), Vec::new());
        for position in 1..=(UNTICKED_PER_PEER_MAX as u64 + 5) {
            ticks.add(PEER, message(position), &mut events);
        }
        assert_eq!(ticks.iter().count(), UNTICKED_PER_PEER_MAX);
        for user in 100..(100 + PEERS_MAX as u64) {
            ticks.add(Stream::User(user), message(1), &mut events);
        }
        assert_eq!(ticks.peers.len(), PEERS_MAX);
        assert!(!ticks.unticked_streams().contains(&PEER), "the one used longest ago is gone");
    }
}
