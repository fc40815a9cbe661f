//! Waiting records packed into a few bytes each, oldest first.
//!
//! What an inbox holds for long: durable, and nothing happens to it. Taken off at the front, added
//! at the back, read from the front; whoever wants anything else takes them apart.
//!
//! ```text
//!  head | marks | position | segment | offset | name      | size   | end
//!  1    | 0 or 1| 2,3,4,8  | 0 to 5  | 3 or 4 | 0,1 or 13 | 1 to 4 | 0 or 4 bytes
//! ```
//!
//! Position and segment are told as differences from the record before, offsets in units of what
//! records are aligned to. A *name* is a sender and its device: a number in a short list of the
//! inbox, or spelled out when the list is full; left out when it is that of the record before.

use super::chunks::{CHUNK_BYTES, Chunks};
use super::entry::{Entry, TIMED};
use crate::log::At;
use crate::state::NONE;

/// The lower two bits of the head: bytes of the difference of positions.
const POSITION_BYTES: [usize; 4] = [2, 3, 4, 8];
/// The next three: the difference of segments, or this if that does not fit and follows.
const SEGMENT_FOLLOWS: u8 = 7;
const SEGMENT_SHIFT: u32 = 2;
/// The name is that of the record before.
const SAME_NAME: u8 = 1 << 5;
/// A byte of marks follows.
const MARKED: u8 = 1 << 6;
/// The size takes one byte; otherwise seven bits per byte, the lowest first.
const SMALL: u8 = 1 << 7;
/// The top bits of a size, in a byte of marks.
const MARKS_SHIFT: u32 = 27;
/// In a byte of marks: the offset takes four bytes and is not in units.
const WIDE_OFFSET: u8 = 1;
/// Records begin at multiples of this.
const OFFSET_UNIT: u32 = 8;
/// Names of an inbox that have a number; the first lies in [`Packed`].
const NAMES_MAX: u8 = 61;
const NAME_BYTES: usize = 12;
const NAMES_PER_CHUNK: usize = CHUNK_BYTES / NAME_BYTES;
/// The number of a name that is spelled out.
const SPELLED: u8 = u8::MAX;

/// More than any record takes: 1 + 1 + 8 + 5 + 4 + 13 + 4 + 4.
const RECORD_BYTES_MAX: usize = 40;

/// What the record before tells about the next one.
#[derive(Clone, Copy, Debug)]
struct Before {
    position: u64,
    segment: u32,
    name: u8,
}

const NOTHING: Before = Before { position: 0, segment: 0, name: SPELLED };

/// The packed records of one inbox. 64 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    /// The record last taken off, and the one last added.
    front: Before,
    back: Before,
    /// Name 0.
    sender: u64,
    device: u32,
    /// The first chunk of records, the last, and the first with more names.
    head: u32,
    tail: u32,
    names: u32,
    count: u32,
    /// Bytes used up in the first chunk, and used in the last.
    head_at: u8,
    tail_at: u8,
    named: u8,
}

const _: () = assert!(size_of::<Packed>() <= 64);

impl Default for Packed {
    fn default() -> Self {
        Self {
            front: NOTHING,
            back: NOTHING,
            sender: 0,
            device: 0,
            head: NONE,
            tail: NONE,
            names: NONE,
            count: 0,
            head_at: 0,
            tail_at: 0,
            named: 0,
        }
    }
}

impl Packed {
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Position of the last record, 0 if there is none.
    pub(super) fn last(&self) -> u64 {
        if self.count == 0 { 0 } else { self.back.position }
    }

    /// Touches the chunk the next record will be put into.
    pub(super) fn touch_end(&self, chunks: &Chunks) -> u32 {
        if self.tail == NONE { 0 } else { chunks.get(self.tail).next }
    }

    /// Adds a settled record; its position is above all others.
    pub(super) fn push(&mut self, chunks: &mut Chunks, entry: &Entry) {
        let at = entry.at().unwrap_or_default();
        let name = self.number_of(chunks, (entry.sender, entry.device));
        let mut bytes = Bytes::default();
        encode(&mut bytes, &self.back, entry, at, name);
        self.write(chunks, bytes.as_slice());
        self.back = Before { position: entry.position, segment: at.segment, name };
        self.count += 1;
    }

    /// Takes the oldest off if its position is at most `up_to`.
    pub(super) fn pop_through(&mut self, chunks: &mut Chunks, up_to: u64) -> Option<Entry> {
        let mut walk = self.walk(chunks);
        let entry = walk.next().filter(|entry| entry.position <= up_to)?;
        let (chunk, at, before) = (walk.chunk, walk.at, walk.before);
        while self.head != chunk {
            self.head = chunks.give(self.head);
        }
        (self.head_at, self.front) = (at, before);
        self.count -= 1;
        if self.count == 0 {
            chunks.give_chain(self.head);
            chunks.give_chain(self.names);
            *self = Self::default();
        }
        Some(entry)
    }

    /// All records, oldest first.
    pub(super) fn walk<'a>(&'a self, chunks: &'a Chunks) -> Walk<'a> {
        let (chunk, at, before, left) = (self.head, self.head_at, self.front, self.count);
        Walk { packed: self, chunks, chunk, at, before, name: None, left }
    }

    fn write(&mut self, chunks: &mut Chunks, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.tail == NONE {
                self.tail = chunks.take();
                self.head = self.tail;
            } else if usize::from(self.tail_at) == CHUNK_BYTES {
                let fresh = chunks.take();
                chunks.get_mut(self.tail).next = fresh;
                (self.tail, self.tail_at) = (fresh, 0);
            }
            let room = &mut chunks.get_mut(self.tail).bytes[usize::from(self.tail_at)..];
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.tail_at += u8::try_from(now.len()).unwrap_or(0);
            rest = later;
        }
    }

    /// The number of a name, which gets one if there is room.
    fn number_of(&mut self, chunks: &mut Chunks, name: (u64, u32)) -> u8 {
        let back = self.back.name;
        if back < self.named && self.name(chunks, back) == name {
            return back;
        }
        if self.named == 0 {
            (self.sender, self.device) = name;
            self.named = 1;
            return 0;
        }
        if (self.sender, self.device) == name {
            return 0;
        }
        let (mut last, mut chunk) = (NONE, self.names);
        for number in 1..self.named {
            let slot = slot_of(number);
            if name_in(chunks, chunk, slot) == name {
                return number;
            }
            last = chunk;
            if slot + 1 == NAMES_PER_CHUNK {
                chunk = chunks.get(chunk).next;
            }
        }
        if self.named == NAMES_MAX {
            return SPELLED;
        }
        if chunk == NONE {
            chunk = chunks.take();
            if last == NONE {
                self.names = chunk;
            } else {
                chunks.get_mut(last).next = chunk;
            }
        }
        let slot = slot_of(self.named) * NAME_BYTES;
        let bytes = &mut chunks.get_mut(chunk).bytes[slot..slot + NAME_BYTES];
        bytes[..8].copy_from_slice(&name.0.to_le_bytes());
        bytes[8..].copy_from_slice(&name.1.to_le_bytes());
        self.named += 1;
        self.named - 1
    }

    /// The name with a number.
    fn name(&self, chunks: &Chunks, number: u8) -> (u64, u32) {
        if number == 0 {
            return (self.sender, self.device);
        }
        let mut chunk = self.names;
        for _ in 0..(usize::from(number) - 1) / NAMES_PER_CHUNK {
            chunk = chunks.get(chunk).next;
        }
        name_in(chunks, chunk, slot_of(number))
    }
}

/// Which one in its chunk a name is that is not the first.
fn slot_of(number: u8) -> usize {
    (usize::from(number) - 1) % NAMES_PER_CHUNK
}

fn name_in(chunks: &Chunks, chunk: u32, slot: usize) -> (u64, u32) {
    let bytes = &chunks.get(chunk).bytes[slot * NAME_BYTES..(slot + 1) * NAME_BYTES];
    (number_from(&bytes[..8]), u32::try_from(number_from(&bytes[8..])).unwrap_or(0))
}

fn number_from(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// A record being packed.
struct Bytes {
    bytes: [u8; RECORD_BYTES_MAX],
    len: usize,
}

impl Default for Bytes {
    fn default() -> Self {
        Self { bytes: [0; RECORD_BYTES_MAX], len: 0 }
    }
}

impl Bytes {
    /// The lowest `count` bytes of a number.
    fn put(&mut self, number: u64, count: usize) {
        self.bytes[self.len..self.len + count].copy_from_slice(&number.to_le_bytes()[..count]);
        self.len += count;
    }

    /// A number in groups of seven bits.
    fn put_groups(&mut self, number: u32) {
        let mut left = number;
        while left >= 0x80 {
            self.put(u64::from(left & 0x7F | 0x80), 1);
            left >>= 7;
        }
        self.put(u64::from(left), 1);
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn encode(out: &mut Bytes, before: &Before, entry: &Entry, at: At, name: u8) {
    let distance = entry.position.wrapping_sub(before.position);
    let fits = |bytes: usize| bytes == 8 || distance >> (8 * bytes) == 0;
    let length = POSITION_BYTES.iter().position(|&bytes| fits(bytes)).unwrap_or(3);
    let step = at.segment.wrapping_sub(before.segment);
    let short_step =
        u8::try_from(step).ok().filter(|&step| step < SEGMENT_FOLLOWS).unwrap_or(SEGMENT_FOLLOWS);
    let wide = !at.offset.is_multiple_of(OFFSET_UNIT) || (at.offset / OFFSET_UNIT) >> 24 != 0;
    let marks = entry.size >> MARKS_SHIFT << 1 | u32::from(wide);
    let same = name == before.name && name != SPELLED;
    let bytes = entry.bytes();
    let mut head = short_step << SEGMENT_SHIFT | u8::try_from(length).unwrap_or(3);
    for (flag, is) in [(SAME_NAME, same), (MARKED, marks != 0), (SMALL, bytes < 256)] {
        head |= if is { flag } else { 0 };
    }
    out.put(head.into(), 1);
    if marks != 0 {
        out.put(marks.into(), 1);
    }
    out.put(distance, POSITION_BYTES[length]);
    if short_step == SEGMENT_FOLLOWS {
        // Copied forward, the record before may lie in a later segment than this one.
        out.put_groups(step << 1 ^ if step >> 31 == 1 { u32::MAX } else { 0 });
    }
    if wide {
        out.put(at.offset.into(), 4);
    } else {
        out.put((at.offset / OFFSET_UNIT).into(), 3);
    }
    if !same {
        out.put(name.into(), 1);
        if name == SPELLED {
            out.put(entry.sender, 8);
            out.put(entry.device.into(), 4);
        }
    }
    if bytes < 256 {
        out.put(bytes.into(), 1);
    } else {
        out.put_groups(bytes);
    }
    if entry.is_timed() {
        out.put(entry.due_s.into(), 4);
    }
}

/// Reads packed records, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    packed: &'a Packed,
    chunks: &'a Chunks,
    chunk: u32,
    at: u8,
    before: Before,
    /// The name of the record before, if it was looked up.
    name: Option<(u64, u32)>,
    left: u32,
}

impl Walk<'_> {
    fn byte(&mut self) -> u8 {
        if usize::from(self.at) == CHUNK_BYTES {
            (self.chunk, self.at) = (self.chunks.get(self.chunk).next, 0);
        }
        let byte = self.chunks.get(self.chunk).bytes[usize::from(self.at)];
        self.at += 1;
        byte
    }

    fn take(&mut self, count: usize) -> u64 {
        (0..count).fold(0, |number, nth| number | u64::from(self.byte()) << (8 * nth))
    }

    fn take_u32(&mut self, count: usize) -> u32 {
        u32::try_from(self.take(count)).unwrap_or(u32::MAX)
    }

    fn take_groups(&mut self) -> u32 {
        let mut number = 0;
        for shift in (0..u32::BITS).step_by(7) {
            let byte = self.byte();
            number |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn place(&mut self, step: u8, wide: bool) -> At {
        let step = if step == SEGMENT_FOLLOWS {
            let folded = self.take_groups();
            folded >> 1 ^ if folded & 1 == 1 { u32::MAX } else { 0 }
        } else {
            step.into()
        };
        let segment = self.before.segment.wrapping_add(step);
        let offset = if wide { self.take_u32(4) } else { self.take_u32(3) * OFFSET_UNIT };
        At { segment, offset }
    }
}

impl Iterator for Walk<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        let head = self.byte();
        let marks = if head & MARKED == 0 { 0 } else { self.byte() };
        let distance = self.take(POSITION_BYTES[usize::from(head & 3)]);
        let position = self.before.position.wrapping_add(distance);
        let at = self.place(head >> SEGMENT_SHIFT & 7, marks & WIDE_OFFSET != 0);
        let (name, known) = match head & SAME_NAME {
            0 => (self.byte(), None),
            _ => (self.before.name, self.name),
        };
        let (sender, device) = match known {
            Some(known) => known,
            None if name == SPELLED => (self.take(8), self.take_u32(4)),
            None => self.packed.name(self.chunks, name),
        };
        self.name = Some((sender, device));
        let bytes = if head & SMALL == 0 { self.take_groups() } else { self.byte().into() };
        let size = bytes | u32::from(marks >> 1) << MARKS_SHIFT;
        let due_s = if size & TIMED == 0 { 0 } else { self.take_u32(4) };
        self.before = Before { position, segment: at.segment, name };
        Some(Entry { position, at: at.to_u64(), sender, device, size, due_s })
    }
}
