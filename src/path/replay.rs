//! Beside the message path: at start, the records of the log become tables again.
//!
//! Every record is shown to the home of its stream ([`stream`]) and, if it answers a `Send`, to the
//! home of its sender ([`answer`]). Cursors only move forward, so replaying is idempotent.
//!
//! A log that begins with a checkpoint is read in two moods. Until a shard's image ends, a user of
//! it that was not met in the image yet is *dim*: of its stream only the places of records are
//! kept (the image names some without one), and of what it sent the answers. The user's item in
//! the image then counts, because the shard staged it behind all of that; what comes after is
//! replayed on top of it.

use crate::canary::{self, Canary};
use crate::limits;
use crate::log::{At, CHECKPOINT_BEGIN, CHECKPOINT_END, CHECKPOINT_IMAGE, Kind, Record};
use crate::path::image::{self, BadImage, Item, UserImage};
use crate::path::session::{DEVICE_DROPPED, remove_device};
use crate::path::store::{forget_entry, note_pair, release_acked};
use crate::state::Tables;
use crate::state::inbox::{Entry, What};
use crate::state::placement::Placement;
use crate::state::window::{Answer, Outcome, stream_tag};
use std::collections::HashMap;
use wire::Refusal;

/// Why a log does not fit these settings.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplayError {
    /// More users in the log than `users_max` allows.
    #[error("the log knows more users than users_max allows on this shard; raise users_max")]
    TooManyUsers,
    /// A checkpoint that verifies makes no sense.
    #[error("{0}; a newer program may have written it, use that one")]
    Image(#[from] BadImage),
    /// The log ends inside the checkpoint it begins with.
    #[error(
        "the log ends inside its checkpoint, which was complete; nothing was changed: restore a \
         backup, or keep a copy and ask for help"
    )]
    CutImage,
    /// A checkpoint names a waiting record and nothing says where it is.
    #[error(
        "the checkpoint knows position {position:x} of user {user} and the log does not hold it; \
         nothing was changed: restore a backup, or keep a copy and ask for help"
    )]
    Missing {
        /// In whose stream.
        user: u64,
        /// Which.
        position: u64,
    },
}

/// Turns the records of a log into tables.
#[derive(Debug)]
pub struct Replay {
    placement: Placement,
    mood: Mood,
}

#[derive(Debug)]
enum Mood {
    /// Before the first record.
    Fresh,
    /// Everything is replayed as it comes.
    Plain,
    /// Inside the checkpoint the log begins with.
    Image(Box<Dim>),
}

/// What is known of users whose image did not come yet.
#[derive(Debug)]
struct Dim {
    /// Number of the checkpoint.
    number: u64,
    /// Who lived where when it was made.
    placement: Placement,
    /// Per shard of then: its image is complete.
    ended: Vec<bool>,
    /// Where records lie, by stream and position.
    places: HashMap<(u64, u64), At>,
    /// What dim users sent.
    answers: HashMap<u64, Vec<Record<'static>>>,
}

impl Replay {
    /// A replay into one table per shard of `placement`.
    #[must_use]
    pub fn new(placement: Placement) -> Self {
        Self { placement, mood: Mood::Fresh }
    }

    /// Shows a record to the homes that need it; `tables` holds those of all shards.
    ///
    /// # Errors
    /// The tables are too small for what the log holds, or a checkpoint is not what it seems.
    pub fn record(
        &mut self,
        tables: &mut [Tables],
        at: At,
        record: &Record<'_>,
    ) -> Result<(), ReplayError> {
        if matches!(self.mood, Mood::Fresh) {
            self.mood = Dim::begin(record).map_or(Mood::Plain, Mood::Image);
        }
        let placement = self.placement;
        let Mood::Image(dim) = &mut self.mood else {
            return plain(tables, placement, at, record);
        };
        if record.kind == Kind::Checkpoint {
            dim.checkpoint(tables, placement, record)?;
            if dim.ended.iter().all(|ended| *ended) {
                self.mood = Mood::Plain;
            }
            return Ok(());
        }
        if let Some(id) = stream_of(record) {
            let here = &mut tables[placement.home(id)];
            if dim.is_dim(here, id) {
                dim.places.insert((id, record.position), at);
            } else {
                stream(here, at, record)?;
            }
        }
        if let Some(id) = sender_of(record) {
            let here = &mut tables[placement.home(id)];
            if dim.is_dim(here, id) {
                let kept = Record { payload: &[], relation: None, ..*record };
                dim.answers.entry(id).or_default().push(kept);
            } else {
                answer(here, record);
            }
        }
        Ok(())
    }

    /// The log is at its end.
    ///
    /// # Errors
    /// It ends inside the checkpoint it begins with, which was durable as a whole.
    pub fn finish(self) -> Result<(), ReplayError> {
        match self.mood {
            Mood::Image(_) => Err(ReplayError::CutImage),
            Mood::Fresh | Mood::Plain => Ok(()),
        }
    }
}

fn plain(
    tables: &mut [Tables],
    placement: Placement,
    at: At,
    record: &Record<'_>,
) -> Result<(), ReplayError> {
    if let Some(id) = stream_of(record) {
        stream(&mut tables[placement.home(id)], at, record)?;
    }
    if let Some(id) = sender_of(record) {
        answer(&mut tables[placement.home(id)], record);
    }
    Ok(())
}

impl Dim {
    /// The first record of a log that begins with a checkpoint.
    fn begin(record: &Record<'_>) -> Option<Box<Self>> {
        let begins = record.kind == Kind::Checkpoint && record.body_kind == CHECKPOINT_BEGIN;
        let shards = usize::try_from(record.stream).ok()?;
        let sane = (1..=limits::SHARDS_MAX).contains(&shards);
        (begins && sane).then(|| {
            Box::new(Self {
                number: record.aux,
                placement: Placement::new(shards),
                ended: vec![false; shards],
                places: HashMap::new(),
                answers: HashMap::new(),
            })
        })
    }

    fn is_dim(&self, here: &Tables, id: u64) -> bool {
        !self.ended[self.placement.home(id)] && here.users.find(id).is_none()
    }

    fn checkpoint(
        &mut self,
        tables: &mut [Tables],
        placement: Placement,
        record: &Record<'_>,
    ) -> Result<(), ReplayError> {
        if record.aux != self.number {
            return Ok(());
        }
        match record.body_kind {
            CHECKPOINT_IMAGE => image::read(record.payload, |item| {
                let id = match &item {
                    Item::User(user) => user.id,
                    Item::Answer { user, .. } | Item::Entry { user, .. } => *user,
                    Item::Pair { recipient, .. } => *recipient,
                };
                self.item(&mut tables[placement.home(id)], item)
            }),
            CHECKPOINT_END => {
                let shard = usize::try_from(record.stream).unwrap_or(usize::MAX);
                if let Some(ended) = self.ended.get_mut(shard) {
                    *ended = true;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn item(&mut self, here: &mut Tables, item: Item) -> Result<(), ReplayError> {
        match item {
            Item::User(user) => {
                load_user(here, &user)?;
                for record in self.answers.remove(&user.id).unwrap_or_default() {
                    answer(here, &record);
                }
            }
            Item::Answer { user, device, answer } => load_answer(here, user, device, answer),
            Item::Entry { user, mut entry } => {
                let position = entry.position;
                if entry.at().is_none() && !waits(here, user, position) {
                    let at = self.places.get(&(user, position));
                    entry.place(*at.ok_or(ReplayError::Missing { user, position })?);
                }
                load_entry(here, user, entry);
            }
            Item::Pair { recipient, sender, last, read } => {
                let Some(index) = here.users.find(recipient) else { return Ok(()) };
                let first = &mut here.users.user_mut(index).first_pair;
                if let Some(pair) = here.pairs.find_or_add(index, sender, first) {
                    let pair = here.pairs.get_mut(pair);
                    pair.last = pair.last.max(last);
                    pair.read = pair.read.max(read);
                }
            }
        }
        Ok(())
    }
}

fn load_user(here: &mut Tables, image: &UserImage) -> Result<(), ReplayError> {
    let index = here.users.find_or_add(image.id).ok_or(ReplayError::TooManyUsers)?;
    let user = here.users.user_mut(index);
    (user.tail, user.has, user.has_from) = (image.tail, image.has, image.has_from);
    user.ids_floor = image.ids_floor;
    for known in &image.devices {
        let device = here.users.add_device(index, known.id, known.cursor);
        let device = here.users.device_mut(device);
        (device.start, device.seen_s, device.durable) = (known.start, known.seen_s, true);
        (device.base, device.seen) = (known.base, known.seen);
        device.top = device.top.max(known.top);
    }
    Ok(())
}

fn load_answer(here: &mut Tables, user: u64, device: u32, answer: Answer) {
    let Some(user) = here.users.find(user) else { return };
    let Some(index) = here.users.device_of(user, device) else { return };
    let device = here.users.device(index);
    let mut window = device.window;
    if answer.client_id <= device.base {
        return;
    }
    match here.windows.find(window, answer.client_id) {
        Some(known) => known.copied |= answer.copied,
        None => here.windows.insert(&mut window, answer),
    }
    here.users.device_mut(index).window = window;
}

/// Whether this record is in the user's inbox already.
fn waits(here: &mut Tables, user: u64, position: u64) -> bool {
    let Some(index) = here.users.find(user) else { return false };
    let handle = here.users.user(index).inbox;
    here.inboxes.get_mut(handle).is_some_and(|inbox| inbox.find(position).is_some())
}

fn load_entry(here: &mut Tables, user: u64, entry: Entry) {
    let Some(index) = here.users.find(user) else { return };
    let owner = here.users.user_mut(index);
    if !here.inboxes.of(&mut owner.inbox).insert(entry) {
        return; // it came between its user's image and this piece
    }
    if let Some(at) = entry.at() {
        here.live.add(at, entry.bytes());
    }
    if entry.is_message() {
        note_pair(here, index, entry.sender, entry.position, entry.bytes());
    }
}

/// Whose home must see this record as a part of its stream.
fn stream_of(record: &Record<'_>) -> Option<u64> {
    match record.kind {
        Kind::Message
        | Kind::OwnCopy
        | Kind::Notice
        | Kind::Tombstone
        | Kind::Device
        | Kind::Cursor
        | Kind::ReadMark => Some(record.stream),
        _ => None,
    }
}

/// Whose home must see this record as an answer it may have to give again.
fn sender_of(record: &Record<'_>) -> Option<u64> {
    match record.kind {
        _ if record.moved => None, // it was answered long ago
        Kind::Message | Kind::OwnCopy | Kind::Refusal => Some(record.sender),
        _ => None,
    }
}

/// Replays a record of a stream whose home this is.
fn stream(tables: &mut Tables, at: At, record: &Record<'_>) -> Result<(), ReplayError> {
    let user = tables.users.find_or_add(record.stream).ok_or(ReplayError::TooManyUsers)?;
    match record.kind {
        _ if record.moved => moved(tables, user, at, record.position),
        Kind::Message | Kind::OwnCopy | Kind::Notice => append(tables, user, at, record),
        Kind::Tombstone => bury(tables, user, record.position),
        Kind::Device => device(tables, user, record),
        Kind::Cursor => cursor(tables, user, record),
        Kind::ReadMark => read_mark(tables, user, record),
        _ => {}
    }
    Ok(())
}

fn append(tables: &mut Tables, user: u32, at: At, record: &Record<'_>) {
    let here = tables.users.user_mut(user);
    if record.position <= here.tail {
        return; // seen already
    }
    here.tail = record.position;
    if canary::is(Canary::ForgetAtRecovery) && record.client_id % 5 == 4 {
        return;
    }
    let what = match record.kind {
        Kind::OwnCopy => What::OwnCopy,
        Kind::Notice => What::Notice,
        _ => What::Message,
    };
    let bytes = u32::try_from(record.payload.len()).unwrap_or(u32::MAX >> 1);
    let from = (record.sender, record.device);
    let mut entry = Entry::staged(record.position, from, bytes, what, record.ttl_s != 0);
    entry.place(at);
    tables.live.add(at, entry.bytes());
    tables.inboxes.of(&mut here.inbox).append(entry);
    if what == What::Message {
        note_pair(tables, user, record.sender, record.position, bytes);
    }
}

/// A record that waits was copied forward: it is read from there now.
fn moved(tables: &mut Tables, user: u32, at: At, position: u64) {
    let handle = tables.users.user(user).inbox;
    let entry = tables.inboxes.get_mut(handle).and_then(|inbox| inbox.find(position));
    if let Some(entry) = entry {
        if let Some(former) = entry.at() {
            tables.live.remove(former, entry.bytes());
        }
        entry.place(at);
        tables.live.add(at, entry.bytes());
    }
}

/// A record is not for anybody any more.
fn bury(tables: &mut Tables, user: u32, position: u64) {
    let owner = tables.users.user_mut(user);
    let Some(inbox) = tables.inboxes.get_mut(owner.inbox) else { return };
    if let Some(entry) = inbox.remove(position) {
        forget_entry(&mut tables.live, &mut tables.pairs, user, &entry);
    }
    tables.inboxes.release_empty(&mut owner.inbox);
}

fn device(tables: &mut Tables, user: u32, record: &Record<'_>) {
    let known = tables.users.device_of(user, record.device);
    if record.body_kind == DEVICE_DROPPED {
        let owner = tables.users.user_mut(user);
        owner.ids_floor = owner.ids_floor.max(record.aux);
        if let Some(index) = known {
            remove_device(tables, index);
            release_acked(tables, user);
        }
    } else if known.is_none() {
        let index = tables.users.add_device(user, record.device, record.aux);
        let device = tables.users.device_mut(index);
        device.durable = true;
        device.seen_s = u32::try_from(record.time_ms / 1000).unwrap_or(u32::MAX);
    }
}

fn cursor(tables: &mut Tables, user: u32, record: &Record<'_>) {
    let Some(index) = tables.users.device_of(user, record.device) else { return };
    let (owner, device) = tables.users.pair_mut(user, index);
    let up_to = record.aux.min(owner.tail);
    device.seen_s = device.seen_s.max(u32::try_from(record.time_ms / 1000).unwrap_or(u32::MAX));
    if up_to > device.cursor {
        device.cursor = up_to;
        device.pushed = up_to;
        owner.note_had(device.start, up_to);
        release_acked(tables, user);
    }
}

fn read_mark(tables: &mut Tables, user: u32, record: &Record<'_>) {
    if let Some(index) = tables.pairs.find(user, record.peer) {
        let pair = tables.pairs.get_mut(index);
        pair.read = pair.read.max(record.aux);
    }
}

/// Replays a record as the answer to its sender's `Send`.
fn answer(tables: &mut Tables, record: &Record<'_>) {
    let Some(user) = tables.users.find(record.sender) else { return };
    let Some(index) = tables.users.device_of(user, record.device) else { return };
    let device = tables.users.device_mut(index);
    device.top = device.top.max(record.client_id);
    // A client uses an id only within 64 of what it has confirmed: below that nothing is open.
    let mut floor = device.top.saturating_sub(limits::UNCONFIRMED_IDS_MAX);
    if canary::is(Canary::ForgetAnswers) {
        return;
    }
    if canary::is(Canary::AnswersOverflow) {
        floor = 0;
    }
    device.raise_base(floor);
    let (base, mut window) = (device.base, device.window);
    // Whoever had no other device when the message was stored wants no copy of it.
    let copied = record.kind == Kind::OwnCopy
        || record.stream == record.sender
        || tables.users.devices_of(user).nth(1).is_none();
    tables.windows.retain(&mut window, |answer| answer.client_id > base);
    if record.client_id > base {
        remember(tables, &mut window, record, copied);
    }
    tables.users.device_mut(index).window = window;
}

fn remember(tables: &mut Tables, window: &mut u32, record: &Record<'_>, copied: bool) {
    let outcome = match record.kind {
        Kind::OwnCopy => Outcome::Sent { position: record.aux, time_ms: record.time_ms },
        Kind::Refusal => {
            let reason = u8::try_from(record.body_kind).ok().and_then(Refusal::from_code);
            Outcome::Refused(reason.unwrap_or(Refusal::UnknownUser))
        }
        _ => Outcome::Sent { position: record.position, time_ms: record.time_ms },
    };
    match tables.windows.find(*window, record.client_id) {
        Some(known) => known.copied |= copied,
        None => {
            let (client_id, request_crc) = (record.client_id, record.request_crc);
            let to = if record.kind == Kind::Message { record.stream } else { record.peer };
            let stream = stream_tag(to);
            let answer =
                Answer { client_id, request_crc, stream, copied, settling: false, outcome };
            tables.windows.insert(window, answer);
        }
    }
}
