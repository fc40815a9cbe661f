//! One thread's books: what its clients wrote, what became of it, and what reached them.
//!
//! Owner: one thread. A message is in the books of its sender's thread (until it is answered) and
//! of its recipient's thread (for ever, as a number). Deliberately not here: sockets and sessions.

use std::collections::HashMap;

use super::copies::Copies;
use super::groups::{self, Plan};
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

/// Sender, recipient (a client's number or a group's address), sequence.
pub(crate) type Name = (u32, u32, u32);

/// A message under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    from: u32,
    to: u32,
    sequence: u32,
    intended_us: u64,
    timed: bool,
    /// Nobody is away who has to read it.
    read_timed: bool,
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
    /// Until then it was away on purpose: copies of a group meant before are not timed.
    pub(crate) since_us: u64,
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
    /// The same for groups, in runs that have some.
    pub(crate) copies: Option<Box<Copies>>,
    refused: Vec<Name>,
    pub(crate) tally: Tally,
    /// Totals that are never reset: sent, copies of them, answered for good, copies that arrived.
    pub(crate) sent_count: u64,
    pub(crate) expected_count: u64,
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
            copies: None,
            refused: Vec::new(),
            tally: Tally::new(),
            sent_count: 0,
            expected_count: 0,
            answered_count: 0,
            arrived_count: 0,
        }
    }

    /// These groups are written to, too.
    pub(crate) fn with_groups(mut self, plan: Option<Plan>) -> Self {
        self.copies = plan.map(|plan| Box::new(Copies::new(plan)));
        self
    }

    /// How many are to get what is sent there.
    fn copies_of(&self, to: u32) -> u64 {
        Plan::copies(self.copies.as_ref().map(|copies| &copies.plan), to)
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

    /// The message is with its session. `read_timed`: nobody who has to read it is away.
    pub(crate) fn handed_over(&mut self, head: &Head, now_us: u64, read_timed: bool) {
        let Head { from, to, sequence, intended_us, timed, .. } = *head;
        let read_wanted = self.read_is_wanted(sequence);
        if self.promises.acks {
            let read_timed = timed && read_timed;
            let acked = false;
            let flight =
                Flight { from, to, sequence, intended_us, timed, read_timed, acked, read_wanted };
            self.flights.insert(self.next_tag, flight);
        }
        self.next_tag += 1;
        self.sent_count += 1;
        self.expected_count += self.copies_of(to);
        self.tally.messages.sent += 1;
        self.tally.posts += u64::from(groups::group_of(to).is_some());
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
                    if flight.read_timed {
                        let took = listener.now_us.saturating_sub(flight.intended_us);
                        self.tally.read_us.saturating_record(took);
                    }
                }
            }
            Event::Refused { tag, reason } => {
                if let Some(flight) = self.flights.remove(&tag) {
                    self.answered_count += 1;
                    self.arrived_count += self.copies_of(flight.to); // not waited for
                    self.tally.messages.refused += 1;
                    self.tally.reason(format!("message refused: {reason}"), 1);
                    if self.refused.len() < REFUSED_MAX {
                        self.refused.push((flight.from, flight.to, flight.sequence));
                    }
                }
            }
            Event::Delivered { payload, mark } => {
                if let Some(sequence) = self.delivered(listener, payload, mark)
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
    fn delivered(&mut self, listener: Listener, payload: &[u8], mark: ReadMark) -> Option<u32> {
        let Listener { number, now_us, .. } = listener;
        let head = match payload::judge(payload) {
            Judged::Whole(head) if head.run != self.run => {
                self.tally.messages.foreign += 1;
                return None;
            }
            Judged::Whole(head) => head,
            Judged::Corrupt(head) => {
                self.corrupt(listener, head, payload.len());
                return None;
            }
        };
        if let Some(detail) = self.astray(number, head.to, mark.group) {
            let to = if groups::group_of(head.to).is_some() { number } else { head.to };
            self.wrong(Wrong::Corrupted, head, to, now_us, detail);
            return None;
        }
        match self.note(listener, &head, mark.position)? {
            Arrival::New => {}
            Arrival::Late => self.wrong(Wrong::Reordered, head, number, now_us, String::new()),
            Arrival::Repeated => {
                self.wrong(Wrong::Duplicated, head, number, now_us, String::new());
                return None;
            }
            Arrival::Redelivered => {
                self.tally.messages.redelivered += 1;
                return None;
            }
        }
        self.arrived_count += 1;
        self.tally.messages.delivered += 1;
        self.tally.copies += u64::from(mark.group.is_some());
        if !self.promises.acks {
            self.answered_count += 1;
            self.tally.messages.acked += 1;
        }
        if head.timed && (mark.group.is_none() || head.intended_us >= listener.since_us) {
            self.tally.delivered_us.saturating_record(now_us.saturating_sub(head.intended_us));
        }
        Some(head.sequence)
    }

    /// Why a message for `to` should not have come to this client in that group (or outside any).
    fn astray(&self, number: u32, to: u32, came_in: Option<u32>) -> Option<String> {
        let Some(group) = groups::group_of(to) else {
            let is_astray = to != number || came_in.is_some();
            return is_astray.then(|| format!("it came to client {number}"));
        };
        if !self.is_member(group, number) {
            Some(format!("it came to client {number}, who is not a member"))
        } else if came_in != Some(group) {
            Some(format!("it came to client {number} as of somewhere else"))
        } else {
            None
        }
    }

    fn is_member(&self, group: u32, number: u32) -> bool {
        self.copies.as_ref().is_some_and(|copies| copies.plan.is_member(group, number))
    }

    /// Whether a head that may be damaged is one this client can get next.
    fn fits(&self, number: u32, head: &Head) -> bool {
        let track = match groups::group_of(head.to) {
            Some(group) if head.from != number && self.is_member(group, number) => {
                self.copies.as_ref().and_then(|copies| copies.track(group, number, head.from))
            }
            None if head.to == number => self.tracks.get(&(number, head.from)),
            _ => return false,
        };
        let near = track.map_or(head.sequence == 1, |track| track.is_near(head.sequence));
        head.run == self.run && near
    }

    fn track(&mut self, number: u32, head: &Head) -> &mut Track {
        match (groups::group_of(head.to), &mut self.copies) {
            (Some(group), Some(copies)) => copies.track_mut(group, number, head.from),
            _ => self.tracks.entry((number, head.from)).or_default(),
        }
    }

    /// Notes a whole message and where it stands; how it came. `None`: an own one of a group.
    fn note(&mut self, listener: Listener, head: &Head, position: u64) -> Option<Arrival> {
        let Listener { number, life, now_us, .. } = listener;
        let (Some(group), Some(copies)) = (groups::group_of(head.to), &mut self.copies) else {
            return Some(self.track(number, head).note(head.sequence, life));
        };
        let (arrival, misplaced) = copies.note(listener, group, head, position);
        if let Some(detail) = misplaced {
            self.wrong(Wrong::Reordered, *head, number, now_us, detail);
        }
        arrival
    }

    fn corrupt(&mut self, listener: Listener, head: Option<Head>, bytes: usize) {
        let Listener { number, life, now_us, .. } = listener;
        // A head that fits is believed, so that the message does not count as lost as well.
        let unknown = Head {
            run: self.run,
            from: u32::MAX,
            to: number,
            sequence: 0,
            intended_us: 0,
            timed: false,
        };
        let head = head.filter(|head| self.fits(number, head)).unwrap_or(unknown);
        if head.sequence > 0 {
            let arrival = self.track(number, &head).note(head.sequence, life);
            if matches!(arrival, Arrival::New | Arrival::Late) {
                self.arrived_count += 1;
            }
        }
        let detail = format!("{bytes} bytes whose checksum does not fit");
        self.wrong(Wrong::Corrupted, head, number, now_us, detail);
    }

    /// `to`: who got it, or should have.
    fn wrong(&mut self, kind: Wrong, head: Head, to: u32, now_us: u64, detail: String) {
        self.tally.wrong(example(kind, (head.from, head.to, head.sequence), to, now_us, detail));
    }
}

/// A message that went wrong, spelled out. `to`: who got it, or should have.
pub(crate) fn example(
    kind: Wrong,
    (from, address, sequence): Name,
    to: u32,
    now_us: u64,
    detail: String,
) -> Example {
    let detail = match groups::group_of(address) {
        Some(group) if detail.is_empty() => format!("in group {group}"),
        Some(group) => format!("in group {group}: {detail}"),
        None => detail,
    };
    Example {
        kind,
        from: u64::from(from),
        to: u64::from(to),
        sequence: u64::from(sequence),
        at_s: now_us as f64 / 1e6,
        detail,
    }
}
