//! The checkpoint a log begins with: users are dim until their image comes.

use super::ReplayError;
use super::plain::{answer, stream};
use crate::limits;
use crate::log::{At, CHECKPOINT_BEGIN, CHECKPOINT_END, CHECKPOINT_IMAGE, Kind, Record};
use crate::path::Rules;
use crate::path::group::image::{Fact, load};
use crate::path::image::{self, Item, UserImage};
use crate::path::store::note_pair;
use crate::state::Tables;
use crate::state::inbox::Entry;
use crate::state::pairs::Pair;
use crate::state::people::Marks;
use crate::state::placement::Placement;
use crate::state::window::Answer;
use std::collections::HashMap;

/// What is known of users whose image did not come yet.
#[derive(Debug)]
pub(super) struct Dim {
    /// Number of the checkpoint.
    number: u64,
    /// Who lived where when it was made.
    placement: Placement,
    /// Per shard of then: its image is complete.
    pub(super) ended: Vec<bool>,
    /// Where records lie, by stream and position.
    pub(super) places: HashMap<(u64, u64), At>,
    /// What dim users sent.
    pub(super) answers: HashMap<u64, Vec<Record<'static>>>,
    /// Records of the streams of dim users. Whoever came when the walk over the users was through
    /// has no item: the log has all of it.
    kept: HashMap<u64, Vec<(At, Record<'static>)>>,
}

/// Of payloads only the length counts here.
static BLANK: [u8; limits::PAYLOAD_BYTES_MAX] = [0; limits::PAYLOAD_BYTES_MAX];

impl Dim {
    /// The first record of a log that begins with a checkpoint.
    pub(super) fn begin(record: &Record<'_>) -> Option<Box<Self>> {
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
                kept: HashMap::new(),
            })
        })
    }

    pub(super) fn is_dim(&self, here: &Tables, id: u64) -> bool {
        !self.ended[self.placement.home(id)] && here.users.find_even_ended(id).is_none()
    }

    /// The same of a group.
    pub(super) fn is_dim_group(&self, here: &Tables, id: u64) -> bool {
        !self.ended[self.placement.home(id)] && here.groups.find(id).is_none()
    }

    /// Keeps a record of a dim user's stream.
    pub(super) fn keep(&mut self, id: u64, at: At, record: &Record<'_>) {
        self.places.insert((id, record.position), at);
        let payload = &BLANK[..record.payload.len().min(BLANK.len())];
        let record = Record { payload, relation: None, ..*record };
        self.kept.entry(id).or_default().push((at, record));
    }

    /// The image of a shard is through: who lived there and is not in it came later.
    fn late(
        &mut self,
        tables: &mut [Tables],
        placement: Placement,
        rules: &Rules,
        shard: usize,
    ) -> Result<(), ReplayError> {
        let homes = self.placement;
        for (id, records) in self.kept.extract_if(|id, _| homes.home(*id) == shard) {
            let here = &mut tables[placement.home(id)];
            for (at, record) in records {
                stream(here, rules, at, &record)?;
            }
            for record in self.answers.remove(&id).unwrap_or_default() {
                answer(here, &record);
            }
        }
        // What somebody posted of whom the log says nothing else: an account without devices.
        for (id, records) in self.answers.extract_if(|id, _| homes.home(*id) == shard) {
            let here = &mut tables[placement.home(id)];
            records.iter().for_each(|record| answer(here, record));
        }
        Ok(())
    }

    pub(super) fn checkpoint(
        &mut self,
        tables: &mut [Tables],
        placement: Placement,
        rules: &Rules,
        record: &Record<'_>,
    ) -> Result<(), ReplayError> {
        if record.aux != self.number {
            return Ok(());
        }
        match record.body_kind {
            CHECKPOINT_IMAGE => image::read(record.payload, |item| {
                let id = match &item {
                    Item::User(user) => user.id,
                    Item::Answer { user, .. }
                    | Item::Entry { user, .. }
                    | Item::Date { user, .. } => *user,
                    Item::Pair { recipient, .. }
                    | Item::Answered { recipient, .. }
                    | Item::Voids { recipient, .. }
                    | Item::WaitingVoid { recipient, .. } => *recipient,
                    Item::Group(item) => item.group,
                    Item::Post { key: (sender, _), .. } => *sender,
                };
                self.item(&mut tables[placement.home(id)], placement, item)
            }),
            CHECKPOINT_END => {
                let shard = usize::try_from(record.stream).unwrap_or(usize::MAX);
                if let Some(ended) = self.ended.get_mut(shard) {
                    *ended = true;
                }
                self.late(tables, placement, rules, shard)
            }
            _ => Ok(()),
        }
    }

    fn item(
        &mut self,
        here: &mut Tables,
        placement: Placement,
        item: Item,
    ) -> Result<(), ReplayError> {
        match item {
            Item::User(user) => {
                load_user(here, &user)?;
                self.kept.remove(&user.id);
                for record in self.answers.remove(&user.id).unwrap_or_default() {
                    answer(here, &record);
                }
            }
            Item::Answer { user, device, answer } => load_answer(here, user, device, answer),
            Item::Date { user, due_s } => {
                let Some(index) = here.users.find(user) else { return Ok(()) };
                let handle = here.users.user(index).inbox;
                if let Some(mut inbox) = here.inboxes.get_mut(handle) {
                    here.expiry.note(&mut inbox, index, due_s);
                }
            }
            Item::Entry { user, mut entry } => {
                let position = entry.position;
                if entry.at().is_none() && !waits(here, user, position) {
                    let at = self.places.get(&(user, position));
                    entry.place(*at.ok_or(ReplayError::Missing { user, position })?);
                }
                load_entry(here, user, entry);
            }
            Item::Pair { recipient, sender, last, read } => {
                if let Some(pair) = pair_of(here, recipient, sender) {
                    pair.last = pair.last.max(last);
                    pair.read = pair.read.max(read);
                }
            }
            Item::Answered { recipient, sender } => {
                if let Some(pair) = pair_of(here, recipient, sender) {
                    pair.answered = true;
                }
            }
            Item::WaitingVoid { recipient, position, void } => {
                let Some(index) = here.users.find(recipient) else { return Ok(()) };
                here.voids.add((index, position), void);
            }
            Item::Voids { recipient, sender, spans } => {
                let Some(index) = here.users.find(recipient) else { return Ok(()) };
                here.users.user_mut(index).marks.set(Marks::VOIDED, true);
                here.people.load_spans(index, sender, spans);
            }
            Item::Post { key, request_crc, outcome } => {
                here.posts.load(key, request_crc, outcome);
            }
            Item::Group(mut item) => {
                if let Fact::Entry(entry) = &mut item.fact {
                    let (group, position) = (item.group, entry.position);
                    let known = here.groups.of(group).and_then(|group| group.find(position));
                    if entry.at().is_none() && known.is_none() {
                        let at = self.places.get(&(group, position));
                        entry.place(*at.ok_or(ReplayError::MissingInGroup { group, position })?);
                    }
                }
                load(here, placement, item);
            }
        }
        Ok(())
    }
}

/// The pair of a recipient who is known, if there is room for it.
fn pair_of(here: &mut Tables, recipient: u64, sender: u64) -> Option<&mut Pair> {
    let index = here.users.find(recipient)?;
    let first = &mut here.users.user_mut(index).first_pair;
    let pair = here.pairs.find_or_add(index, sender, first)?;
    Some(here.pairs.get_mut(pair))
}

fn load_user(here: &mut Tables, image: &UserImage) -> Result<(), ReplayError> {
    let index = if image.ended {
        here.users.find_or_add_ended(image.id)
    } else {
        here.users.find_or_add(image.id)
    };
    let index = index.ok_or(ReplayError::TooManyUsers)?;
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
fn waits(here: &Tables, user: u64, position: u64) -> bool {
    let Some(index) = here.users.find(user) else { return false };
    let handle = here.users.user(index).inbox;
    here.inboxes.get(handle).is_some_and(|inbox| inbox.find(position).is_some())
}

fn load_entry(here: &mut Tables, user: u64, entry: Entry) {
    let Some(index) = here.users.find(user) else { return };
    let owner = here.users.user_mut(index);
    let mut inbox = here.inboxes.of(&mut owner.inbox);
    if !inbox.insert(entry) {
        return; // it came between its user's image and this piece
    }
    if let Some(at) = entry.at() {
        here.live.add(at, entry.bytes());
    }
    if entry.is_message() {
        note_pair(here, index, entry.sender, entry.position, entry.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::STREAM_USER;
    use crate::path::image::Walk;
    use crate::path::replay::Replay;
    use crate::state::order::POST_DEVICE;
    use crate::state::window::Outcome;

    /// Logs in when the walk over the users is through and the image has not ended yet.
    #[test]
    fn who_comes_while_an_image_ends_is_known_afterwards() {
        let mut before = Tables::new(4, 4, 4);
        before.users.find_or_add(1).unwrap();
        let mut image = Vec::new();
        assert_eq!(image::write(&before, Walk::START, 1 << 16, &mut image), Walk::Done);
        let part = |body_kind, stream| Record {
            body_kind,
            stream,
            aux: 1,
            ..Record::blank(Kind::Checkpoint)
        };
        let of_two = Record { stream_kind: STREAM_USER, stream: 2, ..Record::blank(Kind::Device) };
        let records = [
            part(CHECKPOINT_BEGIN, 1),
            Record { payload: &image, ..part(CHECKPOINT_IMAGE, 0) },
            Record { device: 1, ..of_two },
            Record { kind: Kind::Message, position: 9, sender: 1, payload: b"hello", ..of_two },
            part(CHECKPOINT_END, 0),
        ];
        let mut tables = [Tables::new(4, 4, 4)];
        let mut replay = Replay::new(Placement::new(1), &Rules::default());
        for (nth, record) in (1..).zip(&records) {
            let at = At { segment: 1, offset: nth * 4096 };
            replay.record(&mut tables, at, record).unwrap();
        }
        replay.finish().unwrap();
        let [tables] = tables;
        let two = tables.users.find(2).expect("the log knows it");
        assert!(tables.users.device_of(two, 1).is_some());
        let inbox = tables.inboxes.get(tables.users.user(two).inbox).expect("its mail waits");
        assert_eq!(inbox.find(9).map(|entry| entry.bytes()), Some(5));
        assert!(tables.users.find(1).is_some());
    }
    /// Posts while an image is made, as somebody of whom the log says nothing else.
    #[test]
    fn what_was_posted_while_an_image_was_made_is_known_afterwards() {
        let part = |body_kind, stream| Record {
            body_kind,
            stream,
            aux: 1,
            ..Record::blank(Kind::Checkpoint)
        };
        let of_one = Record { stream_kind: STREAM_USER, stream: 1, ..Record::blank(Kind::Device) };
        let posted = Record {
            kind: Kind::Message,
            position: 9,
            sender: 7,
            device: POST_DEVICE,
            client_id: 5,
            request_crc: 3,
            time_ms: 1,
            ..of_one
        };
        let records = [
            part(CHECKPOINT_BEGIN, 1),
            Record { device: 1, ..of_one },
            posted,
            part(CHECKPOINT_END, 0),
        ];
        let mut tables = [Tables::new(4, 4, 4)];
        let mut replay = Replay::new(Placement::new(1), &Rules::default());
        for (nth, record) in (1..).zip(&records) {
            let at = At { segment: 1, offset: nth * 4096 };
            replay.record(&mut tables, at, record).unwrap();
        }
        replay.finish().unwrap();
        let sent = Outcome::Sent { position: 9, time_ms: 1 };
        assert_eq!(tables[0].posts.find((7, 5)), Some((3, sent)));
    }
}
