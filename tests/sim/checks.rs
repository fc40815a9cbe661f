//! What must hold, by the names of the design: I1 to I6, and that ticks tell the truth.
//!
//! Owner: the world. The checkers know nothing of the server's inside (but for the bounds of I6):
//! they see frames as phones get them and, at the end, the records of the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use myriad::limits;
use myriad::log::{Kind, Record};
use myriad::state::NONE;
use wire::client::{ClientEvent, TickMark};
use wire::{Deliver, MessageId, Refusal, Refused, ServerFrame, Stream, Welcome};

use super::server::SimShard;

/// A device of a user.
pub(crate) type Name = (u64, u32);

/// What a device was told so far.
#[derive(Debug, Default)]
struct View {
    /// Its cursor when it logged in first: what lies above is for it.
    first_cursor: Option<u64>,
    /// Message ids it got.
    ids: HashSet<MessageId>,
    /// The last new id per sending device and kind (message or copy for whom).
    last_id: HashMap<(u64, u32, Option<u64>), u64>,
    /// The last position on the present connection.
    last_position: u64,
    /// The epoch of the boot that welcomed it last.
    boot: u32,
}

/// A message as its author gave it to the session.
#[derive(Clone, Copy, Debug)]
struct Content {
    to: u64,
    hash: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    contents: HashMap<MessageId, Content>,
    /// Messages whose `Sent` was seen: to whom, and at which position.
    sent: BTreeMap<MessageId, (u64, u64)>,
    refused: HashSet<MessageId>,
    /// I4: what stands at a position of a user's stream; copies are marked.
    names: HashMap<(u64, u64), (MessageId, bool)>,
    /// The last boot in which a message was pushed, by its epoch.
    pushed: HashMap<MessageId, u32>,
    /// When each boot began, and its epoch.
    boots: Vec<(u64, u32)>,
    views: BTreeMap<Name, View>,
    /// Records of messages and copies in the log: where they stand.
    stored: BTreeMap<(MessageId, bool), (u64, u64)>,
    last_stored: HashMap<(u64, u64, u32), (u64, u64)>,
    /// Where messages and copies were last said to stand.
    placed: HashMap<(MessageId, bool), (u64, u64)>,
    violations: Vec<String>,
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
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
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

    /// A server started.
    pub(crate) fn booted(&mut self, wall_ms: u64, epoch: u32) {
        self.trace(|| format!("boot, epoch {epoch:x}"));
        self.boots.push((wall_ms, epoch));
    }

    /// A phone's user wrote a message.
    pub(crate) fn written(&mut self, id: MessageId, to: u64, payload: &[u8]) {
        self.contents.insert(id, Content { to, hash: hash_of(payload) });
    }

    /// A phone gave its message a new number.
    pub(crate) fn renumbered(&mut self, name: Name, client_id: u64, new_client_id: u64) {
        if let Some(content) = self.contents.get(&id_of(name, client_id)).copied() {
            self.contents.insert(id_of(name, new_client_id), content);
        }
    }

    /// A phone got a frame.
    pub(crate) fn heard(&mut self, name: Name, frame: &ServerFrame<'_>) {
        self.trace(|| format!("{name:?} {}", brief(frame)));
        match frame {
            ServerFrame::Welcome(welcome) => self.heard_welcome(name, welcome),
            ServerFrame::Deliver(deliver) => {
                self.deliveries += 1;
                self.checks_i3_order(name, deliver);
                self.heard_deliver(name, deliver);
            }
            ServerFrame::Sent(sent) => {
                let id = id_of(name, sent.client_id);
                let Some(to) = self.contents.get(&id).map(|content| content.to) else {
                    return self.violated(format!("I5: Sent for {id:?}, which nobody wrote"));
                };
                if self.refused.contains(&id) {
                    self.violated(format!("I5: {id:?} was refused for good, then Sent"));
                }
                let first = *self.sent.entry(id).or_insert((to, sent.position));
                if first != (to, sent.position) {
                    let now = sent.position;
                    self.violated(format!("I2: {id:?} was Sent at {first:?}, now at {now:x}"));
                }
                self.placed.insert((id, false), (to, sent.position));
                self.checks_i4_positions_are_never_reused(to, sent.position, id, false);
            }
            ServerFrame::Refused(refused) => {
                self.checks_i5_no_silent_loss_on_refusal(name, refused);
            }
            _ => {}
        }
    }

    fn heard_welcome(&mut self, name: Name, welcome: &Welcome) {
        if (welcome.user, welcome.device) != name {
            let got = (welcome.user, welcome.device);
            self.violated(format!("login: {name:?} was welcomed as {got:?}"));
        }
        let boot =
            self.boots.iter().rev().find(|(start_ms, _)| *start_ms <= welcome.server_time_ms);
        let view = self.views.entry(name).or_default();
        view.boot = boot.map_or(0, |(_, epoch)| *epoch);
        view.last_position = 0;
        view.first_cursor.get_or_insert(welcome.cursor);
    }

    fn heard_deliver(&mut self, name: Name, deliver: &Deliver<'_>) {
        let (user, device) = name;
        let id = deliver.id;
        let copy_for = match deliver.to {
            Some(Stream::User(to)) => Some(to),
            _ => None,
        };
        let position = deliver.position;
        self.placed.insert((id, copy_for.is_some()), (user, position));
        self.checks_i4_positions_are_never_reused(user, position, id, copy_for.is_some());
        if let Some(to) = copy_for {
            self.checks_i4_positions_are_never_reused(to, deliver.to_position, id, false);
        }
        let expected = self.contents.get(&id).copied();
        let hash = hash_of(deliver.payload);
        if expected.is_none_or(|was| was.hash != hash || was.to != copy_for.unwrap_or(user)) {
            self.violated(format!("content: {name:?} got {id:?} as nobody wrote it"));
        }
        if copy_for.is_some() && (id.sender, id.device) == (user, device) {
            self.violated(format!("copies: {name:?} got a copy of its own {id:?}"));
        }
        if copy_for.is_none() {
            // A boot may use several epochs; the first names it.
            let epoch = u32::try_from(position >> 32).unwrap_or(u32::MAX);
            let boot = self.boots.iter().rev().find(|(_, first)| *first <= epoch);
            self.pushed.insert(id, boot.map_or(0, |(_, first)| *first));
        }
        if self.refused.contains(&id) {
            self.violated(format!("I5: {id:?} was refused for good, then delivered"));
        }
        self.views.entry(name).or_default().ids.insert(id);
    }

    /// I3: positions rise on a connection; new messages of one sender come in their order.
    fn checks_i3_order(&mut self, name: Name, deliver: &Deliver<'_>) {
        let view = self.views.entry(name).or_default();
        let (id, position) = (deliver.id, deliver.position);
        let former = std::mem::replace(&mut view.last_position, position);
        let mut wrong = Vec::new();
        if former >= position {
            wrong.push(format!("I3: {name:?} got position {position:x} after {former:x}"));
        }
        if !view.ids.contains(&id) {
            let copy_for = match deliver.to {
                Some(Stream::User(to)) => Some(to),
                _ => None,
            };
            let last = view.last_id.entry((id.sender, id.device, copy_for)).or_insert(0);
            let promised = copy_for.is_none() || !self.copies_lost;
            if *last >= id.client_id && promised {
                self.swaps.push((name, id, *last, copy_for.is_some()));
            }
            *last = id.client_id.max(*last);
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// I4: a position of a stream never names two messages, even pushed-but-lost ones.
    fn checks_i4_positions_are_never_reused(
        &mut self,
        stream: u64,
        position: u64,
        id: MessageId,
        copy: bool,
    ) {
        let first = *self.names.entry((stream, position)).or_insert((id, copy));
        if first != (id, copy) {
            let now = (id, copy);
            self.violated(format!(
                "I4: position {position:x} of {stream} names {first:?} and {now:?}"
            ));
        }
    }

    /// I5, on the way: what was pushed is not refused; a phone that obeys hears no reproach.
    fn checks_i5_no_silent_loss_on_refusal(&mut self, name: Name, refused: &Refused) {
        let id = id_of(name, refused.client_id);
        let reason = refused.reason;
        *self.refusals.entry(reason.name()).or_default() += 1;
        if refused.retriable != reason.retriable() {
            self.violated(format!("I5: {id:?}: {reason} says retriable {}", refused.retriable));
        }
        let boot = self.views.get(&name).map(|view| view.boot);
        if boot.is_some() && self.pushed.get(&id).copied() == boot {
            self.violated(format!("I5: {id:?} was pushed and then refused: {reason}"));
        }
        if self.sent.contains_key(&id) {
            self.violated(format!("I5: {id:?} was Sent and then refused: {reason}"));
        }
        // `stale_id` may come once a crash has forgotten a refusal that nobody heard.
        let undeserved = reason == Refusal::StaleId && self.boots.len() < 2
            || matches!(reason, Refusal::IdReused | Refusal::WindowFull | Refusal::Invalid);
        if undeserved {
            self.violated(format!("I5: a phone that obeys was refused {id:?}: {reason}"));
        }
        if !refused.retriable {
            self.refused.insert(id);
        }
    }

    /// Ticks: nobody is told that somebody has a message before one of their devices got it.
    pub(crate) fn checks_ticks_tell_the_truth(&mut self, event: &ClientEvent, sender: u64) {
        let ClientEvent::Tick { client_id, device, to, mark, position, .. } = *event else {
            return;
        };
        let Stream::User(to) = to else { return };
        if mark == TickMark::Sent {
            return;
        }
        let id = MessageId { sender, device, client_id };
        let mut views = self.views.range((to, 0)..=(to, u32::MAX));
        if !views.any(|(_, view)| view.ids.contains(&id)) {
            self.violated(format!("ticks: {mark:?} for {id:?} at {position:x}, got by nobody"));
        }
    }

    /// A record of the log at the end, in log order.
    pub(crate) fn recorded(&mut self, record: &Record<'_>) {
        let copy = match record.kind {
            Kind::Message => false,
            Kind::OwnCopy => true,
            _ => return,
        };
        let id =
            MessageId { sender: record.sender, device: record.device, client_id: record.client_id };
        let place = (record.stream, record.position);
        if record.moved {
            self.stored.entry((id, copy)).or_insert(place); // the original may be gone
            return;
        }
        self.checks_i4_positions_are_never_reused(place.0, place.1, id, copy);
        // I2: one record per message id, and one copy.
        if let Some(first) = self.stored.insert((id, copy), place) {
            self.violated(format!("I2: {id:?} (copy: {copy}) is stored at {first:x?}, {place:x?}"));
        }
        if self.contents.get(&id).is_none_or(|content| content.hash != hash_of(record.payload)) {
            self.violated(format!("content: {id:?} is stored as nobody wrote it"));
        }
        if !copy {
            let key = (place.0, id.sender, id.device);
            let last = self.last_stored.insert(key, (id.client_id, place.1)).unwrap_or((0, 0));
            if last.0 >= id.client_id || last.1 >= place.1 {
                self.violated(format!("I3: {id:?} is stored at {:x} after {last:x?}", place.1));
            }
        }
    }

    /// At the end, after all records: I1, every message whose `Sent` was seen is in the log where
    /// it was said to be, and everything in the log reached every device it is for.
    pub(crate) fn checks_i1_acked_is_kept(&mut self) {
        let mut wrong = Vec::new();
        for (id, place) in &self.sent {
            let stored = self.stored.get(&(*id, false));
            // What everybody has may be gone from the log.
            let gone = stored.is_none() && self.everybody_has(id, *place);
            if stored != Some(place) && !gone {
                wrong.push(format!("I1: {id:?} was Sent at {place:x?}, stored at {stored:x?}"));
            }
        }
        // I3: what was pushed before a crash and lost may have come early, in the wake of something
        // that was refused. In the stream it stands where it belongs.
        for (name, late, ahead, copy) in &self.swaps {
            let ahead = MessageId { client_id: *ahead, ..*late };
            let place = |id: &MessageId| {
                self.stored.get(&(*id, *copy)).or_else(|| self.placed.get(&(*id, *copy)))
            };
            let places = (place(late), place(&ahead));
            if !matches!(places, (Some(late), Some(ahead)) if late < ahead) {
                let ahead = ahead.client_id;
                wrong.push(format!("I3: {name:?} got {late:?} (copy: {copy}) after {ahead}"));
            }
        }
        for ((id, copy), (user, position)) in &self.stored {
            for (name, view) in self.views.range((*user, 0)..=(*user, u32::MAX)) {
                let own = *copy && *name == (id.sender, id.device);
                let is_for = view.first_cursor.is_some_and(|cursor| cursor < *position) && !own;
                if is_for && !view.ids.contains(id) {
                    wrong.push(format!(
                        "I1: {name:?} never got {id:?} (copy: {copy}) of position {position:x}"
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// Whether every device a message is for got it.
    fn everybody_has(&self, id: &MessageId, (user, position): (u64, u64)) -> bool {
        let mut views = self.views.range((user, 0)..=(user, u32::MAX)).peekable();
        views.peek().is_some()
            && views.all(|(_, view)| {
                view.first_cursor.is_none_or(|cursor| cursor >= position) || view.ids.contains(id)
            })
    }

    /// I6: what a shard holds is within its limits.
    pub(crate) fn checks_i6_bounded(&mut self, me: usize, shard: &SimShard, credits: usize) {
        let tables = shard.tables();
        let load = shard.load();
        self.copies_lost |= tables.counters.own_copies_lost > 0;
        let mut wrong = Vec::new();
        let mut bound = |what: &str, is: usize, most: usize| {
            if is > most {
                wrong.push(format!("I6: {what} of shard {me}: {is}, at most {most}"));
            }
        };
        let conns = tables.conns.len();
        bound("refusals", load.refusals, credits);
        bound("movers", load.movers, conns);
        bound("parked connections", load.parked, conns);
        bound("errands", load.errands, limits::ERRANDS_MAX);
        bound("partial inputs", tables.partials.count(), conns);
        bound("doomed connections", tables.doomed.len(), 2 * conns);
        bound("copies", load.copies, limits::COPIES_WAITING_MAX);
        for (_, conn) in tables.conns.iter() {
            let most = limits::OUTBOX_BYTES_MAX + limits::FRAME_BYTES_MAX + 1024;
            bound("bytes of an outbox", tables.outboxes.waiting_bytes(conn), most);
        }
        let mut devices = 0;
        for user in 0..u32::try_from(tables.users.count()).unwrap_or(NONE) {
            let owner = tables.users.user(user);
            for index in tables.users.devices_of(user) {
                devices += 1;
                let device = tables.users.device(index);
                let most = limits::UNACKED_MESSAGES_MAX as usize;
                bound("un-acked messages", usize::from(device.unacked), most);
                if device.unacked > 1 {
                    let most = limits::UNACKED_BYTES_MAX as usize;
                    bound("un-acked bytes", device.unacked_bytes as usize, most);
                }
                let most = usize::try_from(limits::UNCONFIRMED_IDS_MAX).unwrap_or(0);
                bound("answers of a device", tables.windows.answers(device.window), most);
                bound("cursor, beyond pushed", usize::from(device.cursor > device.pushed), 0);
                bound("pushed, beyond tail", usize::from(device.pushed > owner.tail), 0);
            }
        }
        bound("dirty cursors", tables.dirty_cursors.len(), devices);
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}

/// A frame on one line, without its payload.
fn brief(frame: &ServerFrame<'_>) -> String {
    match frame {
        ServerFrame::Deliver(deliver) => {
            let Deliver { position, id, to, to_position, payload, .. } = deliver;
            format!("Deliver {position:x} {id:?} to {to:?} {to_position:x}, {} B", payload.len())
        }
        other => format!("{other:x?}"),
    }
}

fn id_of((user, device): Name, client_id: u64) -> MessageId {
    MessageId { sender: user, device, client_id }
}
