//! Messages the server has not answered, in the order of their ids.
//!
//! Invariants: entries are sorted by id; an entry's id never changes its content; `confirmed` is
//! computed from what is here. Deliberately not here: ticks (an answered message has left).

use std::collections::VecDeque;

use super::WINDOW_IDS;
use crate::{Confirmed, Relation, Send, Stream};

/// First wait after a retriable refusal that names none; doubled with each further one.
const RETRY_MS: u64 = 50;
/// Longest wait between two attempts that the client chooses by itself.
const RETRY_MS_MAX: u64 = 30_000;
/// New ids one message may get before it counts as refused.
const RENUMBERED_MAX: u32 = 4;

/// A message as its author hands it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// To whom.
    pub to: Stream,
    /// What; opaque to the server.
    pub payload: Vec<u8>,
    /// The application's own number.
    pub kind: u32,
    /// Seconds after which it may be dropped undelivered; 0: the server's default.
    pub ttl_seconds: u32,
    /// An earlier message it belongs to.
    pub relation: Option<Relation>,
    /// Not a deed of the user: does not count as activity.
    pub automatic: bool,
}

/// The outbox is full: wait for answers, or tell the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the outbox is full: {messages} messages, {bytes} bytes are waiting to be sent")]
pub struct OutboxFull {
    /// Messages waiting.
    pub messages: usize,
    /// Payload bytes waiting.
    pub bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// To be written when its turn comes.
    Queued,
    /// Written on this connection, not answered.
    OnWire,
    /// Refused; not before this time, and nothing larger before it.
    Waiting { until_ms: u64 },
}

#[derive(Clone, Debug)]
struct Entry {
    client_id: u64,
    message: Outgoing,
    stage: Stage,
    refusals: u32,
    renumbered: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    next_client_id: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries that are not on the wire: spares a scan when there is none.
    unsent: usize,
}

impl Outbox {
    /// Empty, and the next message gets `next_client_id` (at least 1).
    pub(super) fn new(next_client_id: u64) -> Self {
        Self {
            next_client_id: next_client_id.max(1),
            entries: VecDeque::new(),
            bytes: 0,
            unsent: 0,
        }
    }

    /// Takes back a message of an earlier life. Ids must rise; others are passed over.
    pub(super) fn restore(&mut self, client_id: u64, message: Outgoing) {
        let after = self.entries.back().map_or(0, |entry| entry.client_id);
        if client_id <= after {
            return;
        }
        self.next_client_id = self.next_client_id.max(client_id.saturating_add(1));
        self.insert_last(client_id, message, 0);
    }

    /// Takes a message and names it.
    pub(super) fn push(
        &mut self,
        message: Outgoing,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<u64, OutboxFull> {
        let bytes = self.bytes + message.payload.len();
        if self.entries.len() >= messages_max || bytes > bytes_max {
            return Err(OutboxFull { messages: self.entries.len(), bytes: self.bytes });
        }
        Ok(self.push_unbounded(message, 0))
    }

    fn push_unbounded(&mut self, message: Outgoing, renumbered: u32) -> u64 {
        let client_id = self.next_client_id;
        self.next_client_id += 1;
        self.insert_last(client_id, message, renumbered);
        client_id
    }

    fn insert_last(&mut self, client_id: u64, message: Outgoing, renumbered: u32) {
        self.bytes += message.payload.len();
        self.unsent += 1;
        self.entries.push_back(Entry {
            client_id,
            message,
            stage: Stage::Queued,
            refusals: 0,
            renumbered,
        });
    }

    /// A server that knows larger ids of this device than we do has met an earlier life of it.
    pub(super) fn raise_next(&mut self, next_client_id: u64) {
        self.next_client_id = self.next_client_id.max(next_client_id);
    }

    /// The message was answered for good, or is given up: forget it.
    pub(super) fn remove(&mut self, client_id: u64) -> Option<Outgoing> {
        let index = self.index(client_id)?;
        let entry = self.entries.remove(index)?;
        self.bytes -= entry.message.payload.len();
        self.unsent -= usize::from(entry.stage != Stage::OnWire);
        Some(entry.message)
    }

    /// Its id is spent: gives the message a new one, unless that was tried too often.
    pub(super) fn renumber(&mut self, client_id: u64, next_client_id: u64) -> Option<u64> {
        let renumbered = self.entries.get(self.index(client_id)?)?.renumbered;
        if renumbered >= RENUMBERED_MAX || next_client_id == 0 {
            return None;
        }
        let message = self.remove(client_id)?;
        self.raise_next(next_client_id);
        Some(self.push_unbounded(message, renumbered + 1))
    }

    /// The message was refused for now. Returns how long it waits; `None`: no such message.
    ///
    /// `held` only says that a smaller id comes first, so the order of the outbox is wait enough.
    pub(super) fn delay(
        &mut self,
        client_id: u64,
        retry_after_ms: u32,
        held: bool,
        now_ms: u64,
    ) -> Option<u64> {
        let index = self.index(client_id)?;
        let entry = self.entries.get_mut(index)?;
        if entry.stage == Stage::OnWire {
            self.unsent += 1;
        }
        if held && index > 0 {
            entry.stage = Stage::Queued;
            return Some(0);
        }
        let own_wait = (RETRY_MS << entry.refusals.min(16)).min(RETRY_MS_MAX);
        entry.refusals += 1;
        let wait_ms = own_wait.max(u64::from(retry_after_ms));
        entry.stage = Stage::Waiting { until_ms: now_ms.saturating_add(wait_ms) };
        Some(wait_ms)
    }

    /// What was on the wire may be lost: all of it is to be sent again.
    pub(super) fn disconnected(&mut self) {
        for entry in &mut self.entries {
            if entry.stage == Stage::OnWire {
                entry.stage = Stage::Queued;
                self.unsent += 1;
            }
        }
    }

    /// Ends the waits that are over.
    pub(super) fn tick(&mut self, now_ms: u64) {
        if self.unsent == 0 {
            return;
        }
        for entry in &mut self.entries {
            if matches!(entry.stage, Stage::Waiting { until_ms } if until_ms <= now_ms) {
                entry.stage = Stage::Queued;
            }
        }
    }

    /// Hands out what may be written now, in order of ids, and holds it for written.
    /// Returns whether a deed of the user was among it.
    pub(super) fn take(&mut self, sink: &mut dyn FnMut(&Send<'_>)) -> bool {
        if self.unsent == 0 {
            return false;
        }
        let confirmed = self.confirmed();
        let last = confirmed.base.saturating_add(WINDOW_IDS);
        let mut by_user = false;
        for entry in &mut self.entries {
            if entry.client_id > last {
                break;
            }
            match entry.stage {
                Stage::OnWire => continue,
                Stage::Waiting { .. } => break,
                Stage::Queued => {}
            }
            entry.stage = Stage::OnWire;
            self.unsent -= 1;
            by_user |= !entry.message.automatic;
            sink(&Send {
                client_id: entry.client_id,
                confirmed,
                to: entry.message.to,
                payload: &entry.message.payload,
                ttl_seconds: entry.message.ttl_seconds,
                kind: entry.message.kind,
                relation: entry.message.relation,
                automatic: entry.message.automatic,
            });
        }
        by_user
    }

    /// Which ids are settled: everything below `next_client_id` that does not wait here.
    pub(super) fn confirmed(&self) -> Confirmed {
        let Some(first) = self.entries.front() else {
            return Confirmed { base: self.next_client_id - 1, map: 0 };
        };
        let base = first.client_id - 1;
        let spent = self.next_client_id - first.client_id;
        let mut map = if spent >= WINDOW_IDS { u64::MAX } else { (1 << spent) - 1 };
        for entry in &self.entries {
            let offset = entry.client_id - first.client_id;
            if offset >= WINDOW_IDS {
                break;
            }
            map &= !(1 << offset);
        }
        Confirmed { base, map }
    }

    /// The id the next message gets.
    pub(super) fn next_client_id(&self) -> u64 {
        self.next_client_id
    }

    /// Messages not answered yet.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A message that waits.
    pub(super) fn message(&self, client_id: u64) -> Option<&Outgoing> {
        self.entries.get(self.index(client_id)?).map(|entry| &entry.message)
    }

    /// All that waits, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Outgoing)> {
        self.entries.iter().map(|entry| (entry.client_id, &entry.message))
    }

    fn index(&self, client_id: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&client_id, |entry| entry.client_id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing() -> Outgoing {
        Outgoing {
            to: Stream::User(2),
            payload: vec![7; 3],
            kind: 0,
            ttl_seconds: 0,
            relation: None,
            automatic: false,
        }
    }

    fn outbox(count: u64) -> Outbox {
        let mut outbox = Outbox::new(1);
        for _ in 0..count {
            outbox.push(outgoing(), 1_000, 1_000_000).unwrap();
        }
        outbox
    }

    fn taken(outbox: &mut Outbox) -> Vec<u64> {
        let mut ids = Vec::new();
        outbox.take(&mut |send| ids.push(send.client_id));
        ids
    }

    #[test]
    fn confirmed_covers_exactly_what_left_the_outbox() {
        let mut outbox = outbox(5);
        assert_eq!(outbox.confirmed(), Confirmed { base: 0, map: 0 });
        outbox.remove(2);
        outbox.remove(4);
        assert_eq!(outbox.confirmed(), Confirmed { base: 0, map: 0b01010 });
        outbox.remove(1);
        assert_eq!(outbox.confirmed(), Confirmed { base: 2, map: 0b010 });
        outbox.remove(3);
        outbox.remove(5);
        assert_eq!(outbox.confirmed(), Confirmed { base: 5, map: 0 });
    }

    #[test]
    fn window_of_64_is_respected_and_moves_with_the_base() {
        let mut outbox = outbox(100);
        assert_eq!(taken(&mut outbox), (1..=64).collect::<Vec<_>>());
        outbox.remove(2);
        assert!(taken(&mut outbox).is_empty());
        outbox.remove(1);
        assert_eq!(taken(&mut outbox), vec![65, 66]);
    }

    #[test]
    fn nothing_larger_leaves_before_a_refused_smaller_one() {
        let mut outbox = outbox(3);
        assert_eq!(taken(&mut outbox), vec![1, 2, 3]);
        assert_eq!(outbox.delay(1, 200, false, 0), Some(200));
        assert_eq!(outbox.delay(2, 0, true, 0), Some(0));
        outbox.push(outgoing(), 10, 100).unwrap();
        assert!(taken(&mut outbox).is_empty());
        outbox.tick(199);
        assert!(taken(&mut outbox).is_empty());
        outbox.tick(200);
        assert_eq!(taken(&mut outbox), vec![1, 2, 4]);
    }

    #[test]
    fn repeated_refusals_wait_longer_and_longer() {
        let mut outbox = outbox(1);
        let mut waits = Vec::new();
        for _ in 0..14 {
            taken(&mut outbox);
            waits.push(outbox.delay(1, 0, true, 0).unwrap());
            outbox.tick(u64::MAX);
        }
        assert_eq!(waits[..3], [50, 100, 200]);
        assert_eq!(waits[13], 30_000);
    }

    #[test]
    fn spent_id_gets_a_new_one_a_few_times() {
        let mut outbox = outbox(1);
        assert_eq!(outbox.renumber(1, 50), Some(50));
        assert_eq!(outbox.confirmed(), Confirmed { base: 49, map: 0 });
        assert_eq!(outbox.renumber(50, 50), Some(51));
        assert_eq!(outbox.renumber(51, 50), Some(52));
        assert_eq!(outbox.renumber(52, 50), Some(53));
        assert_eq!(outbox.renumber(53, 50), None);
    }

    #[test]
    fn full_outbox_refuses_by_count_and_by_bytes() {
        let mut outbox = outbox(2);
        assert!(outbox.push(outgoing(), 2, 1_000).is_err());
        assert!(outbox.push(outgoing(), 10, 8).is_err());
        assert!(outbox.push(outgoing(), 10, 9).is_ok());
    }
}
