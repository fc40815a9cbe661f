//! Beside the message path: what a shard remembers, as bytes, piece by piece, and back.
//!
//! The payload of a checkpoint's IMAGE record is a row of items; `docs/log-format.md` specifies
//! them. A user with its devices is one item, so it is exact at one point of the log. All others
//! are lists that can be cut anywhere: what they hold only adds to what is known.
//!
//! What happens to a user after its item was staged is in the log behind it, in the order in which
//! the shard staged it. So an image never needs to stand still.

mod bytes;
mod read;

use bytes::put_outcome;
pub(super) use bytes::{Input, put_entry, put_u32, put_u64};
pub use read::{BadImage, DeviceImage, Item, UserImage, read};

use super::group::image as groups;
use crate::limits;
use crate::state::Tables;
use crate::state::device::Device;
use crate::state::people::Marks;
use crate::state::posts::PostKey;
use crate::state::window::{Answer, Outcome};

const USER: u8 = 1;
const ANSWERS: u8 = 2;
const ENTRIES: u8 = 3;
const PAIRS: u8 = 4;
const VOIDS: u8 = 5;
const ANSWERED: u8 = 6;
const WAITING_VOIDS: u8 = 11;
const POSTS: u8 = 12;

/// In the number of a user's devices: the account is gone.
const ENDED: u8 = 0x80;

/// Bytes of one listed thing, for the bounds of a piece.
const DEVICE_BYTES: usize = 56;
const ANSWER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 36;
/// On both lists of conversations.
const PAIR_BYTES: usize = 32 + 16;
const SPAN_BYTES: usize = 16;
const VOID_BYTES: usize = 44;
const POST_BYTES: usize = 37;
/// Tag and head of the largest item without its list.
const HEAD_BYTES: usize = 64;
/// Room for the largest item that is not cut, a user: a piece with less is full.
const LEAST_BYTES: usize = HEAD_BYTES + limits::DEVICES_PER_USER_MAX * DEVICE_BYTES;

/// Where the walk over a shard's tables is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// At the user with this index.
    User(u32),
    /// At its answers: those of this device (counted) above this id.
    Answers(u32, usize, u64),
    /// At its waiting records above this position.
    Entries(u32, u64),
    /// At the pair in this slot.
    Pair(u32),
    /// At what those of a pair from this one on wrote while blocked: recipient, sender.
    Voids(u32, u64),
    /// Among the groups.
    Groups(groups::Walk),
    /// At those of it that wait for their time, from this one on: recipient, position.
    WaitingVoids(u32, u64),
    /// Among the answers to messages from outside a session, at those with lower numbers.
    Posts(u64),
    /// Through.
    Done,
}

impl Walk {
    /// Before everything.
    pub const START: Self = Self::User(0);
}

/// Appends items from `walk` on to `out` until it holds about `bytes_max`; returns where to go on.
pub fn write(tables: &Tables, mut walk: Walk, bytes_max: usize, out: &mut Vec<u8>) -> Walk {
    loop {
        let room = bytes_max.saturating_sub(out.len());
        if room < LEAST_BYTES && !out.is_empty() {
            return walk;
        }
        walk = match walk {
            Walk::User(index) if index as usize >= tables.users.count() => Walk::Pair(0),
            Walk::User(index) => {
                write_user(tables, index, out);
                Walk::Answers(index, 0, 0)
            }
            Walk::Answers(index, nth, after) => {
                write_answers(tables, (index, nth, after), room, out)
            }
            Walk::Entries(index, after) => match write_entries(tables, index, after, room, out) {
                Some(after) => Walk::Entries(index, after),
                None => Walk::User(index + 1),
            },
            Walk::Pair(slot) if slot as usize >= tables.pairs.slots() => Walk::Voids(0, 0),
            Walk::Pair(slot) => Walk::Pair(write_pairs(tables, slot, room, out)),
            Walk::Voids(user, sender) => write_voids(tables, (user, sender), room, out),
            Walk::Groups(at) => match groups::write(tables, at, room, out) {
                Some(next) => Walk::Groups(next),
                None => Walk::Done,
            },
            Walk::WaitingVoids(user, position) => {
                write_waiting_voids(tables, (user, position), room, out)
            }
            Walk::Posts(before) => write_posts(tables, before, room, out),
            Walk::Done => return walk,
        };
    }
}

fn write_user(tables: &Tables, index: u32, out: &mut Vec<u8>) {
    let user = tables.users.user(index);
    // Oldest first: loading puts each before the ones before it.
    let mut devices: Vec<u32> = tables.users.devices_of(index).collect();
    devices.reverse();
    out.push(USER);
    for number in [user.id, user.tail, user.has, user.has_from, user.ids_floor] {
        put_u64(out, number);
    }
    let ended = if user.marks.any(Marks::ENDED) { ENDED } else { 0 };
    out.push(u8::try_from(devices.len()).unwrap_or(0) | ended);
    for &device in &devices {
        write_device(tables.users.device(device), out);
    }
}

/// Writes answers of a user's devices; returns where to go on.
fn write_answers(
    tables: &Tables,
    (index, nth, after): (u32, usize, u64),
    room: usize,
    out: &mut Vec<u8>,
) -> Walk {
    let Some(device) = tables.users.devices_of(index).nth(nth) else {
        return Walk::Entries(index, 0);
    };
    let here = tables.users.device(device);
    let open = |answer: &&Answer| answer.outcome != Outcome::Pending && answer.client_id > after;
    let mut answers: Vec<&Answer> = tables.windows.of(here.window).filter(open).collect();
    answers.sort_unstable_by_key(|answer| answer.client_id);
    answers.truncate(room.saturating_sub(HEAD_BYTES) / ANSWER_BYTES);
    let Some(last) = answers.last() else { return Walk::Answers(index, nth + 1, 0) };
    let last = last.client_id;
    out.push(ANSWERS);
    put_u64(out, tables.users.user(index).id);
    put_u32(out, here.id);
    put_u32(out, u32::try_from(answers.len()).unwrap_or(0));
    for answer in answers {
        write_answer(answer, out);
    }
    Walk::Answers(index, nth, last)
}

fn write_device(device: &Device, out: &mut Vec<u8>) {
    put_u32(out, device.id);
    put_u32(out, device.seen_s);
    for number in
        [device.cursor, device.start, device.base, device.seen, device.top, /* spare */ 0]
    {
        put_u64(out, number);
    }
}

fn write_answer(answer: &Answer, out: &mut Vec<u8>) {
    put_u64(out, answer.client_id);
    put_u32(out, answer.request_crc);
    out.extend_from_slice(&answer.stream.to_le_bytes());
    out.push(u8::from(answer.copied));
    put_outcome(out, answer.outcome);
}

/// Writes waiting records above `after`; where to go on, or none when that was all.
fn write_entries(
    tables: &Tables,
    index: u32,
    after: u64,
    room: usize,
    out: &mut Vec<u8>,
) -> Option<u64> {
    let user = tables.users.user(index);
    let inbox = tables.inboxes.get(user.inbox)?;
    let most = room.saturating_sub(HEAD_BYTES) / ENTRY_BYTES;
    let count = inbox.after(after).take(most).count();
    if count == 0 {
        return None;
    }
    out.push(ENTRIES);
    put_u64(out, user.id);
    put_u32(out, u32::try_from(count).unwrap_or(0));
    put_u32(out, inbox.due_s());
    let mut last = after;
    for entry in inbox.after(after).take(count) {
        put_entry(out, &entry);
        last = entry.position;
    }
    Some(last)
}

/// Writes pairs from slot `index` on; returns the slot to go on with.
fn write_pairs(tables: &Tables, mut index: u32, room: usize, out: &mut Vec<u8>) -> u32 {
    let most = room.saturating_sub(HEAD_BYTES) / PAIR_BYTES;
    let count_at = out.len() + 1;
    out.push(PAIRS);
    put_u32(out, 0);
    let (mut count, start) = (0_u32, index);
    while (count as usize) < most && (index as usize) < tables.pairs.slots() {
        if let Some(pair) = tables.pairs.get_if_any(index) {
            put_u64(out, tables.users.user(pair.recipient).id);
            put_u64(out, pair.sender);
            put_u64(out, pair.last);
            put_u64(out, pair.read);
            count += 1;
        }
        index += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    let pairs = (start..index).filter_map(|index| tables.pairs.get_if_any(index));
    let answered = || pairs.clone().filter(|pair| pair.answered);
    if answered().next().is_some() {
        out.push(ANSWERED);
        put_u32(out, u32::try_from(answered().count()).unwrap_or(0));
        for pair in answered() {
            put_u64(out, tables.users.user(pair.recipient).id);
            put_u64(out, pair.sender);
        }
    }
    index
}

/// Writes what was written by those who were blocked, whole pairs, from this one on; returns where
/// to go on.
fn write_voids(tables: &Tables, from: (u32, u64), room: usize, out: &mut Vec<u8>) -> Walk {
    let end = out.len() + room.saturating_sub(HEAD_BYTES + limits::VOID_SPANS_MAX * SPAN_BYTES);
    for ((recipient, sender), spans) in tables.people.spans_from(from) {
        if out.len() > end {
            return Walk::Voids(recipient, sender);
        }
        out.push(VOIDS);
        put_u64(out, tables.users.user(recipient).id);
        put_u64(out, sender);
        put_u32(out, u32::try_from(spans.len()).unwrap_or(0));
        for span in spans {
            put_u64(out, span.first);
            put_u64(out, span.last);
        }
    }
    Walk::WaitingVoids(0, 0)
}

/// Writes those of them that wait for their time, from this one on; returns where to go on.
fn write_waiting_voids(tables: &Tables, from: (u32, u64), room: usize, out: &mut Vec<u8>) -> Walk {
    let most = room.saturating_sub(HEAD_BYTES) / VOID_BYTES;
    let count = tables.voids.from(from).take(most).count();
    if count > 0 {
        out.push(WAITING_VOIDS);
        put_u32(out, u32::try_from(count).unwrap_or(0));
    }
    for ((recipient, position), void) in tables.voids.from(from).take(count) {
        for number in [tables.users.user(recipient).id, position, void.sender, void.client_id] {
            put_u64(out, number);
        }
        put_u32(out, void.device);
        put_u32(out, void.due_s);
        put_u32(out, void.bytes);
    }
    match tables.voids.from(from).nth(count) {
        Some(((recipient, position), _)) => Walk::WaitingVoids(recipient, position),
        None => Walk::Posts(u64::MAX),
    }
}

/// Writes answers to messages from outside a session, newest first; returns where to go on. Those
/// still under way will be told by records behind the image.
fn write_posts(tables: &Tables, before: u64, room: usize, out: &mut Vec<u8>) -> Walk {
    let most = room.saturating_sub(HEAD_BYTES) / POST_BYTES;
    let settled = |(.., outcome): &(u64, PostKey, u32, Outcome)| *outcome != Outcome::Pending;
    let posts = || tables.posts.before(before).filter(settled).take(most);
    let Some((last, ..)) = posts().last() else { return Walk::Groups(groups::Walk::Group(0)) };
    out.push(POSTS);
    put_u32(out, u32::try_from(posts().count()).unwrap_or(0));
    for (_, (sender, client_id), request_crc, outcome) in posts() {
        put_u64(out, sender);
        put_u64(out, client_id);
        put_u32(out, request_crc);
        put_outcome(out, outcome);
    }
    Walk::Posts(last)
}
