//! One thread's books: what its clients wrote, what became of it, and what reached them.
//!
//! Owner: one thread. A message is in the books of its sender's thread (until it is answered) and
//! of its recipient's thread (for ever, as a number). Deliberately not here: sockets and sessions.

use std::collections::HashMap;

use super::oracle::{Arrival, Track};
use super::payload::{self, Head, Judged};
use super::tally::Tally;
use crate::protocol::{Event, Promises, ReadMark};
use crate::report::{Example, Wrong};

/// Refused messages that are remembered one by one; beyond it they would look lost.
const REFUSED_MAX: usize = 10_000_000;

/// Messages under way of a whole run: beyond it none is begun, and they count as not sent. A server
/// that stands still must not take all memory (some 430 bytes each), nor make the end long.
pub(crate) const UNDER_WAY_MAX: usize = 4_000_000;

/// Sender, recipient, sequence.
pub(crate) type Name = (u32, u32, u32);

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    from: u32,
    to: u32,
    sequence: u32,
    intended_us: u64,
    timed: bool,
    acked: bool,
    read_wanted: bool,
}

/// Who hears something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) number: u32,
    /// Its connections so far.
    pub(crate) life: u32,
    pub(crate) now_us: u64,
}

/// What hearing asks of the client.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// It is logged in.
    pub(crate) ready: bool,
    /// Messages to mark as read.
    pub(crate) reads: Vec<ReadMark>,
    /// The server said goodbye: why, when to come back, and whether that is in vain.
    pub(crate) goodbye: Option<(String, u32, bool)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    run: u64,
    read_percent: u32,
    promises: Promises,
    next_tag: u64,
    flights: HashMap<u64, Flight>,
    /// Sender and recipient to the sequence sent last.
    pub(crate) sent: HashMap<(u32, u32), u32>,
    /// Recipient and sender to what came.
    pub(crate) tracks: HashMap<(u32, u32), Track>,
    refused: Vec<Name>,
    pub(crate) tally: Tally,
    /// Totals that are never reset: sent, answered for good, arrived.
    pub(crate) sent_count: u64,
    pub(crate) answered_count: u64,
    pub(crate) arrived_count: u64,
}

impl Ledger {
    pub(crate) fn new(run: u64, read_percent: u32, promises: Promises) -> Self {
        Self {
            run,
            read_percent: if promises.reads { read_percent } else { 0 },
            promises,
            next_tag: 1,
            flights: HashMap::new(),
            sent: HashMap::new(),
            tracks: HashMap::new(),
            refused: Vec::new(),
            tally: Tally::new(),
            sent_count: 0,
            answered_count: 0,
            arrived_count: 0,
        }
    }

    /// Names the next message of a pair: its tag and head. [`Ledger::handed_over`] or
    /// [`Ledger::not_sent`] follows.
    pub(crate) fn name(
        &mut self,
        from: u32,
        to: u32,
        intended_us: u64,
        timed: bool,
    ) -> (u64, Head) {
        let last = self.sent.entry((from, to)).or_insert(0);
        *last += 1;
        let head = Head { run: self.run, from, to, sequence: *last, intended_us, timed };
        (self.next_tag, head)
    }

    /// The message is with its session.
    pub(crate) fn handed_over(&mut self, head: &Head, now_us: u64) {
        let Head { from, to, sequence, intended_us, timed, .. } = *head;
        let read_wanted = self.read_is_wanted(sequence);
        if self.promises.acks {
            let flight =
                Flight { from, to, sequence, intended_us, timed, acked: false, read_wanted };
            self.flights.insert(self.next_tag, flight);
        }
        self.next_tag += 1;
        self.sent_count += 1;
        self.tally.messages.sent += 1;
        self.tally.behind_us.saturating_record(now_us.saturating_sub(intended_us));
    }

    /// The session took no more: the name is free again.
    pub(crate) fn not_sent(&mut self, head: &Head) {
        if let Some(last) = self.sent.get_mut(&(head.from, head.to)) {
            *last -= 1;
        }
        self.tally.messages.unsent += 1;
    }

    /// Takes in one word of a server.
    pub(crate) fn hear(&mut self, listener: Listener, event: Event<'_>, heard: &mut Heard) {
        match event {
            Event::Ready => heard.ready = true,
            Event::Acked { tag } => self.acked(tag, listener.now_us),
            Event::Read { tag } => {
                self.acked(tag, listener.now_us);
                if let Some(flight) = self.flights.remove(&tag) {
                    self.tally.messages.read += 1;
                    if flight.timed {
                        let took = listener.now_us.saturating_sub(flight.intended_us);
                        self.tally.read_us.saturating_record(took);
                    }
                }
            }
            Event::Refused { tag, reason } => {
                if let Some(flight) = self.flights.remove(&tag) {
                    self.answered_count += 1;
                    self.arrived_count += 1; // nothing of it is waited for
                    self.tally.messages.refused += 1;
                    self.tally.reason(format!("message refused: {reason}"), 1);
                    if self.refused.len() < REFUSED_MAX {
                        self.refused.push((flight.from, flight.to, flight.sequence));
                    }
                }
            }
            Event::Delivered { payload, mark } => {
                if let Some(sequence) = self.delivered(listener, payload)
                    && self.read_is_wanted(sequence)
                {
                    heard.reads.push(mark);
                }
            }
            Event::Goodbye { reason, retry_after_ms, hopeless } => {
                heard.goodbye = Some((reason, retry_after_ms, hopeless));
            }
        }
    }

    /// Messages whose answers, or marks of reading, are missing.
    pub(crate) fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// Messages that were not answered, and those that were refused.
    pub(crate) fn excused(&self) -> (Vec<Name>, &[Name]) {
        let open = self.flights.values().filter(|flight| !flight.acked);
        let open = open.map(|flight| (flight.from, flight.to, flight.sequence));
        (open.collect(), &self.refused)
    }

    /// Both ends of a message know by its sequence whether it is to be read.
    fn read_is_wanted(&self, sequence: u32) -> bool {
        sequence % 100 < self.read_percent
    }

    fn acked(&mut self, tag: u64, now_us: u64) {
        let Some(flight) = self.flights.get_mut(&tag) else { return };
        if !flight.acked {
            flight.acked = true;
            self.answered_count += 1;
            self.tally.messages.acked += 1;
            if flight.timed {
                let took = now_us.saturating_sub(flight.intended_us);
                self.tally.sent_us.saturating_record(took);
            }
        }
        if !flight.read_wanted {
            self.flights.remove(&tag);
        }
    }

    /// Judges a delivery; returns its sequence if it came for the first time and whole.
    fn delivered(&mut self, listener: Listener, payload: &[u8]) -> Option<u32> {
        let Listener { number, life, now_us } = listener;
        let head = match payload::judge(payload) {
            Judged::Whole(head) if head.run != self.run => {
                self.tally.messages.foreign += 1;
                return None;
            }
            Judged::Whole(head) if head.to == number => head,
            Judged::Whole(head) => {
                let detail = format!("it came to client {number}");
                self.wrong(Wrong::Corrupted, head, now_us, detail);
                return None;
            }
            Judged::Corrupt(head) => {
                self.corrupt(listener, head, payload.len());
                return None;
            }
        };
        let track = self.tracks.entry((number, head.from)).or_default();
        match track.note(head.sequence, life) {
            Arrival::New => {}
            Arrival::Late => self.wrong(Wrong::Reordered, head, now_us, String::new()),
            Arrival::Repeated => {
                self.wrong(Wrong::Duplicated, head, now_us, String::new());
                return None;
            }
            Arrival::Redelivered => {
                self.tally.messages.redelivered += 1;
                return None;
            }
        }
        self.arrived_count += 1;
        self.tally.messages.delivered += 1;
        if !self.promises.acks {
            self.answered_count += 1;
            self.tally.messages.acked += 1;
        }
        if head.timed {
            self.tally.delivered_us.saturating_record(now_us.saturating_sub(head.intended_us));
        }
        Some(head.sequence)
    }

    fn corrupt(&mut self, listener: Listener, head: Option<Head>, bytes: usize) {
        let Listener { number, life, now_us } = listener;
        // A head that fits is believed, so that the message does not count as lost as well.
        let fits = |head: &Head| {
            let track = self.tracks.get(&(number, head.from));
            let near = track.map_or(head.sequence == 1, |track| track.is_near(head.sequence));
            head.run == self.run && head.to == number && near
        };
        let unknown = Head {
            run: self.run,
            from: u32::MAX,
            to: number,
            sequence: 0,
            intended_us: 0,
            timed: false,
        };
        let head = head.filter(fits).unwrap_or(unknown);
        if head.sequence > 0 {
            let track = self.tracks.entry((number, head.from)).or_default();
            if matches!(track.note(head.sequence, life), Arrival::New | Arrival::Late) {
                self.arrived_count += 1;
            }
        }
        let detail = format!("{bytes} bytes whose checksum does not fit");
        self.wrong(Wrong::Corrupted, head, now_us, detail);
    }

    fn wrong(&mut self, kind: Wrong, head: Head, now_us: u64, detail: String) {
        self.tally.wrong(Example {
            kind,
            from: u64::from(head.from),
            to: u64::from(head.to),
            sequence: u64::from(head.sequence),
            at_s: now_us as f64 / 1e6,
            detail,
        });
    }
}
