//! What must hold, by the names of the design: I1 to I6, and that ticks tell the truth.
//!
//! Owner: the world. The checkers know nothing of the server's inside (but for the bounds of I6):
//! they see frames as phones get them and, at every start and at the end, the records of the log.
//!
//! ```text
//!  kept       I1  what was Sent waits at every start; all that waits reaches its devices
//!  once       I2  one record per message, one answer per Send, the first one for ever
//!  order      I3  positions rise on a connection; messages of one sender to one stream in order
//!  positions  I4  a position names one message for ever; epochs rise
//!  loss       I5  every Send is answered, nothing is refused after it was pushed
//!  bounds     I6  what a shard holds is within its limits
//!  ticks          nobody is told that somebody has what nobody got
//!  people         what the blocked write goes nowhere, and nobody can tell; who hides is not seen
//!  groups         one order, nobody outside, everybody inside, true ticks
//! ```

mod bounds;
mod groups;
mod kept;
mod loss;
mod once;
mod order;
mod people;
mod positions;
mod ticks;

use std::collections::BTreeMap;

use myriad::log::{Kind, Record, STREAM_GROUP};
use wire::{Deliver, MessageId, Sent, ServerFrame, Stream, Welcome};

use groups::Circles;

use super::fast::{FastMap, FastSet};
use super::store::Contents;
pub(crate) use people::Whim;
use people::Wishes;

/// A device of a user.
pub(crate) type Name = (u64, u32);
/// A stream and a position in it.
type Place = (Stream, u64);

/// What a device was told so far.
#[derive(Debug, Default)]
struct View {
    /// Its cursor when it logged in first: what lies above is for it.
    first_cursor: Option<u64>,
    /// Message ids it got.
    ids: FastSet<MessageId>,
    /// The last new id per sending device and kind (message or copy for whom).
    last_id: FastMap<(u64, u32, Option<Stream>), u64>,
    /// The last position on the present connection.
    last_position: u64,
    /// The epoch of the boot it is or was connected to.
    boot: u32,
    /// How many disks had been lost by then.
    disks_lost: usize,
}

/// A message as its author gave it to the session.
#[derive(Clone, Copy, Debug)]
struct Content {
    to: Stream,
    hash: u64,
    /// Its time to live, seconds; 0: the server's.
    ttl_s: u32,
    /// When it was written, by the order of what happened.
    written: u64,
}

/// The answer to a `Send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    to: Stream,
    position: u64,
    time_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    contents: FastMap<MessageId, Content>,
    /// Messages whose `Sent` was seen, and what it said.
    sent: FastMap<MessageId, Answer>,
    /// Messages whose final refusal was seen.
    refused: FastSet<MessageId>,
    /// Messages that got another number.
    renumbered: FastSet<MessageId>,
    /// Messages whose sender was told that they ended before everybody had them.
    expired: FastSet<MessageId>,
    /// Messages whose author deleted them: they may vanish before anybody has them.
    deleted: FastSet<MessageId>,
    /// Ticks of messages nobody had: a cumulative receipt may cover what has just ended, then word
    /// of that follows.
    hasty_ticks: Vec<(MessageId, String)>,
    /// A word of an end found no room in its sender's inbox.
    pub(crate) notices_lost: bool,
    /// Messages that an old backup lacks: `Sent`, and lost with the disk that had them.
    lost_with_disk: FastSet<MessageId>,
    /// Restores: the highest epoch before, and what the backup has.
    restores: Vec<(u32, FastSet<MessageId>)>,
    /// I4: what stands at a position of a user's stream; copies are marked.
    names: FastMap<Place, (MessageId, bool)>,
    /// I4: the highest epoch of anything that anybody was told.
    highest_epoch: u32,
    /// The last boot in which a message was pushed, by its epoch.
    pushed: FastMap<MessageId, u32>,
    /// The epochs of all boots.
    boots: Vec<u32>,
    views: BTreeMap<Name, View>,
    /// Records of messages and copies that were read from the log last: where they stand.
    stored: FastMap<(MessageId, bool), Place>,
    last_stored: FastMap<(Stream, u64, u32), (u64, u64)>,
    /// Records that were read by a start that succeeded: they were durable.
    durable: FastMap<(MessageId, bool), Place>,
    /// Where messages and copies were last said to stand.
    placed: FastMap<(MessageId, bool), Place>,
    /// What is known of groups.
    circles: Circles,
    /// Counts what happens, to tell before from after.
    happened: u64,
    /// A bit is flipped at the moment: not everything can be read.
    pub(crate) is_rotten: bool,
    violations: Vec<String>,
    /// Blocks and privacy.
    wishes: Wishes,
    /// Messages of this device are written by nobody's phone.
    foreign: Option<u32>,
    /// Frames that phones got, on one line each, if they are kept.
    pub(crate) kept: Option<Vec<(Name, String)>>,
    /// I3, to be judged when the log is known: to whom, what came late, behind what.
    swaps: Vec<(Name, MessageId, u64, bool)>,
    /// An own copy found no room: a later retry may have appended it out of order.
    copies_lost: bool,
    /// Prints what phones hear, with this time.
    pub(crate) traced_ms: Option<u64>,
    /// What happened, for the reader of a report.
    pub(crate) deliveries: u64,
    /// `Refused` frames by reason.
    pub(crate) refusals: BTreeMap<&'static str, u64>,
}

fn hash_of(payload: &[u8]) -> u64 {
    (payload.len() as u64) << 32 | u64::from(crc32c::crc32c(payload))
}

impl Checks {
    /// The first thing that did not hold.
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violations.first().map(String::as_str)
    }

    /// Messages whose `Sent` was seen.
    pub(crate) fn sent_count(&self) -> usize {
        self.sent.len()
    }

    /// Messages of this device come from elsewhere: they are not looked at.
    pub(crate) fn foreign(&mut self, device: u32) {
        self.foreign = Some(device);
    }

    /// Something else did not hold.
    pub(crate) fn violated(&mut self, what: String) {
        if self.violations.len() < 100 {
            self.violations.push(what);
        }
    }

    /// Prints a line if this run is traced.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if let Some(now_ms) = self.traced_ms {
            eprintln!("{now_ms:>7} {}", line());
        }
    }

    /// A phone connects to the running server.
    pub(crate) fn connected(&mut self, name: Name) {
        let boot = self.boots.last().copied().unwrap_or(0);
        let view = self.views.entry(name).or_default();
        view.boot = boot;
        view.disks_lost = self.restores.len();
        view.last_position = 0;
        self.note_connected(name);
    }

    /// A phone's user wrote a message.
    pub(crate) fn written(&mut self, id: MessageId, to: Stream, payload: &[u8], ttl_s: u32) {
        let written = self.next_moment();
        self.contents.insert(id, Content { to, hash: hash_of(payload), ttl_s, written });
        self.note_written(id);
    }

    /// Later than every moment before.
    fn next_moment(&mut self) -> u64 {
        self.happened += 1;
        self.happened
    }

    /// A phone's user deletes an earlier message.
    pub(crate) fn deleted(&mut self, id: MessageId) {
        self.deleted.insert(id);
    }

    /// A phone gave its message a new number.
    pub(crate) fn renumbered(&mut self, name: Name, client_id: u64, new_client_id: u64) {
        let id = id_of(name, client_id);
        self.note_renumbered(id, id_of(name, new_client_id));
        if let Some(content) = self.contents.get(&id).copied() {
            self.contents.insert(id_of(name, new_client_id), content);
        }
        self.renumbered.insert(id);
    }

    /// A phone got a frame.
    pub(crate) fn heard(&mut self, name: Name, frame: &ServerFrame<'_>) {
        self.trace(|| format!("{name:?} {}", brief(frame)));
        if let Some(kept) = &mut self.kept {
            kept.push((name, brief(frame)));
        }
        match frame {
            ServerFrame::Presence(presence) => self.checks_privacy_of_presence(name, presence),
            ServerFrame::Typing(typing) if typing.group == 0 => {
                self.checks_blocks_of_typing(name, typing.user);
            }
            ServerFrame::Receipt(receipt) => self.checks_privacy_of_reading(name, receipt),
            ServerFrame::Welcome(welcome) => self.heard_welcome(name, welcome),
            ServerFrame::Deliver(deliver) => match deliver.stream {
                Some(Stream::Group(group)) => self.heard_group_deliver(name, group, deliver),
                _ => self.heard_deliver(name, deliver),
            },
            ServerFrame::Item(item) => self.heard_group_item(name, item),
            ServerFrame::Sent(sent) => self.heard_sent(name, sent),
            ServerFrame::Refused(refused) => {
                *self.refusals.entry(refused.reason.name()).or_default() += 1;
                self.checks_groups_members_may_write(name, refused);
                self.checks_i5_no_silent_loss_on_refusal(name, refused);
            }
            ServerFrame::Expired(expired) => {
                self.checks_i1_told_of_an_end(name, expired);
                self.expired.insert(expired.id);
            }
            _ => {}
        }
    }

    fn heard_welcome(&mut self, name: Name, welcome: &Welcome) {
        if (welcome.user, welcome.device) != name {
            let got = (welcome.user, welcome.device);
            self.violated(format!("login: {name:?} was welcomed as {got:?}"));
        }
        self.group_welcome(name);
        let view = self.views.entry(name).or_default();
        view.last_position = 0;
        if view.disks_lost == self.restores.len() {
            view.first_cursor.get_or_insert(welcome.cursor);
        }
    }

    fn heard_sent(&mut self, name: Name, sent: &Sent) {
        let id = id_of(name, sent.client_id);
        let Some(to) = self.contents.get(&id).map(|content| content.to) else {
            return self.violated(format!("I5: Sent for {id:?}, which nobody wrote"));
        };
        let answer = Answer { to, position: sent.position, time_ms: sent.time_ms };
        if self.is_lost_with_disk(id, sent.position) {
            self.lost_with_disk.insert(id);
            return; // read long after the disk was lost
        }
        self.placed.insert((id, false), (to, sent.position));
        self.note_sent(id, to);
        self.checks_i5_one_kind_of_answer(id);
        self.checks_i2_the_first_answer_again(id, answer);
        self.checks_i4_positions_are_never_reused((to, sent.position), id, false);
    }

    fn heard_deliver(&mut self, name: Name, deliver: &Deliver<'_>) {
        self.deliveries += 1;
        if self.foreign == Some(deliver.id.device) {
            return;
        }
        self.checks_i3_order(name, deliver.id, deliver.position, copy_for(deliver));
        let (user, device) = name;
        let own = Stream::User(user);
        let id = deliver.id;
        let copy_for = copy_for(deliver);
        let position = deliver.position;
        self.placed.insert((id, copy_for.is_some()), (own, position));
        self.checks_i4_positions_are_never_reused((own, position), id, copy_for.is_some());
        if let Some(to) = copy_for {
            self.checks_i4_positions_are_never_reused((to, deliver.to_position), id, false);
        }
        let expected = self.contents.get(&id).copied();
        let hash = hash_of(deliver.payload);
        if expected.is_none_or(|was| was.hash != hash || was.to != copy_for.unwrap_or(own)) {
            self.violated(format!("content: {name:?} got {id:?} as nobody wrote it"));
        }
        if copy_for.is_some() && (id.sender, id.device) == (user, device) {
            self.violated(format!("copies: {name:?} got a copy of its own {id:?}"));
        }
        if copy_for.is_none() {
            let boot = self.boot_of(position);
            self.pushed.insert(id, boot);
        }
        if self.refused.contains(&id) {
            self.violated(format!("I5: {id:?} was refused for good, then delivered"));
        }
        self.views.entry(name).or_default().ids.insert(id);
    }

    /// The log is read from its beginning: by a start, or at the end.
    pub(crate) fn log_begins(&mut self) {
        self.stored.clear();
        self.last_stored.clear();
    }

    /// The boot in which a position was given out. It may use several epochs; the first names it.
    fn boot_of(&self, position: u64) -> u32 {
        let epoch = epoch_of(position);
        self.boots.iter().rev().find(|first| **first <= epoch).copied().unwrap_or(0)
    }

    /// A record of the log, in log order.
    pub(crate) fn recorded(&mut self, record: &Record<'_>) {
        let in_group = record.stream_kind == STREAM_GROUP;
        if groups::is_change(record.kind) {
            return self.recorded_change(record);
        }
        let copy = match record.kind {
            Kind::Message => false,
            Kind::OwnCopy => true,
            _ => return,
        };
        if self.foreign == Some(record.device) {
            return;
        }
        let id =
            MessageId { sender: record.sender, device: record.device, client_id: record.client_id };
        let of = if in_group { Stream::Group } else { Stream::User };
        let place = (of(record.stream), record.position);
        if record.moved {
            self.stored.entry((id, copy)).or_insert(place); // the original may be gone
            return;
        }
        self.checks_i4_positions_are_never_reused(place, id, copy);
        self.checks_i2_stored_once(id, copy, place);
        if self.contents.get(&id).is_none_or(|content| content.hash != hash_of(record.payload)) {
            self.violated(format!("content: {id:?} is stored as nobody wrote it"));
        }
        if !copy {
            self.checks_i3_stored_in_order(id, place);
        }
    }

    /// The server started from what was recorded, with this epoch.
    pub(crate) fn booted(&mut self, epoch: u32, contents: &Contents) {
        self.trace(|| format!("boot, epoch {epoch:x}"));
        self.durable.extend(self.stored.iter());
        self.checks_i1_sent_is_kept(contents);
        self.checks_i4_epochs_rise(epoch);
        self.boots.push(epoch);
    }

    /// The disk is lost and a backup takes its place, which has this.
    ///
    /// What may be expected then: messages that were `Sent`, are not in the backup and did not
    /// reach everybody are lost, and nothing else. Whatever else anybody had not heard the answer
    /// of comes again. A device that the backup does not know is new when it comes back, and what
    /// is sent until then is not for it. Positions are not reused, given that the clock is right
    /// (I4). Returns how many messages were lost.
    pub(crate) fn restored(&mut self, backup: &Contents, highest_epoch: u32) -> usize {
        self.highest_epoch = self.highest_epoch.max(highest_epoch);
        let mut ids: FastSet<MessageId> = self.stored.keys().map(|(id, _)| *id).collect();
        ids.extend(backup.waiting.values().flatten());
        let gone = |id: &&MessageId| !ids.contains(*id);
        let lost: Vec<MessageId> = self.sent.keys().filter(gone).copied().collect();
        for id in &lost {
            self.sent.remove(id);
            self.lost_with_disk.insert(*id);
        }
        for (name, view) in &mut self.views {
            if !backup.devices.contains(name) {
                view.first_cursor = None;
            }
        }
        self.durable.clear();
        self.restores.push((self.highest_epoch, ids));
        lost.len()
    }

    /// Whether a message of this position was lost with a disk that a backup took the place of.
    fn is_lost_with_disk(&self, id: MessageId, position: u64) -> bool {
        let epoch = epoch_of(position);
        self.restores.iter().any(|(last, ids)| epoch <= *last && !ids.contains(&id))
    }

    /// The seconds since 2025 that the clock must have passed before a restored backup starts.
    pub(crate) fn highest_epoch(&self) -> u32 {
        self.highest_epoch
    }
}

/// The epoch of a position.
fn epoch_of(position: u64) -> u32 {
    u32::try_from(position >> 32).unwrap_or(u32::MAX)
}

/// Whom a delivery is an own copy for, if it is one.
fn copy_for(deliver: &Deliver<'_>) -> Option<Stream> {
    deliver.to
}

/// A frame on one line, without its payload.
fn brief(frame: &ServerFrame<'_>) -> String {
    match frame {
        ServerFrame::Deliver(deliver) => {
            let Deliver { stream, position, id, to, to_position, payload, .. } = deliver;
            let Deliver { change, request, .. } = deliver;
            let bytes = payload.len();
            let copy = to.map(|to| format!(" to {to:?} {to_position:x}")).unwrap_or_default();
            let request = if *request { ", of a stranger" } else { "" };
            format!("Deliver {stream:?} {position:x} {id:?}{copy}, {bytes} B {change:?}{request}")
        }
        other => format!("{other:x?}"),
    }
}

fn id_of((user, device): Name, client_id: u64) -> MessageId {
    MessageId { sender: user, device, client_id }
}
