//! Step 7: marks become receipts.
//!
//! A receipt is a comparison of what is true (the recipient's `has`, the conversation's `read`)
//! with what the sender's home was told. Dirty pairs are looked at once per turn, a bounded
//! number of them; what finds no credit toward another shard stays dirty and grows (flags, never
//! queue entries).

use crate::canary::{self, Canary};
use crate::limits;
use crate::log::{Kind, Lane, Record, Stage};
use crate::path::STREAM_USER;
use crate::path::session::for_each_conn;
use crate::state::device::CursorNews;
use crate::state::people::{Marks, Span};
use crate::state::placement::Placement;
use crate::state::{NONE, Tables};
use wire::{Mark, ServerFrame, Stream};

/// In the record of a read mark: the reader also wrote to the one whose messages these are.
pub const READER_WROTE: u32 = 1;

/// Marks for one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Whose messages got the mark.
    pub sender: u64,
    /// In whose stream.
    pub recipient: u64,
    /// Positions above this,
    pub after: u64,
    /// up to this,
    pub up_to: u64,
    /// have this mark.
    pub mark: Mark,
}

/// Tells every sender that has something to be told. `tell` hands a receipt to the home of its
/// sender and says whether that was possible.
pub fn tell_dirty(
    tables: &mut Tables,
    placement: Placement,
    mut tell: impl FnMut(&mut Tables, usize, Receipt) -> bool,
) {
    if !tables.pairs.has_dirty() {
        return;
    }
    let mut dirty = tables.pairs.take_dirty();
    // Beyond that in the next turn; what could not be told comes behind all others then.
    let some = dirty.len().min(limits::RECEIPT_PAIRS_PER_TURN_MAX);
    let mut at = 0;
    dirty.retain(|&index| {
        at += 1;
        let done = at <= some && tell_pair(tables, placement, index, &mut tell);
        if done {
            tables.pairs.clean(index);
        }
        !done
    });
    let missed = dirty.len() - (at - some);
    dirty.rotate_left(missed);
    tables.pairs.still_dirty(dirty);
}

fn tell_pair(
    tables: &mut Tables,
    placement: Placement,
    index: u32,
    tell: &mut impl FnMut(&mut Tables, usize, Receipt) -> bool,
) -> bool {
    let pair = tables.pairs.get(index);
    let owner = tables.users.user(pair.recipient);
    let sender = pair.sender;
    if owner.marks.any(Marks::BLOCKS) && tables.people.blocks(pair.recipient, sender) {
        return true; // looked at anew when that ends
    }
    // A reader may say so before its ack; and of what it has not, nobody read anything.
    let (has, read) = (owner.has, pair.read.min(owner.has));
    let (from, last) = (owner.has_from, pair.last);
    let (told_has, told_read) = (pair.told_has.max(from), pair.told_read.max(from));
    let reads_told = !owner.marks.any(Marks::RECEIPTS_OFF) || canary::is(Canary::TellSilent);
    let receipt =
        Receipt { sender, recipient: owner.id, after: told_has, up_to: has, mark: Mark::Has };
    let home = placement.home(sender);
    if last > told_has && !tell_stretches(tables, home, index, receipt, tell) {
        return false;
    }
    let receipt = Receipt { after: told_read, up_to: read, mark: Mark::Read, ..receipt };
    !reads_told || last <= told_read || tell_stretches(tables, home, index, receipt, tell)
}

/// Tells a receipt, in parts if its sender wrote something in between while blocked: of that
/// nobody may be told that anybody has it.
fn tell_stretches(
    tables: &mut Tables,
    home: usize,
    index: u32,
    receipt: Receipt,
    tell: &mut impl FnMut(&mut Tables, usize, Receipt) -> bool,
) -> bool {
    let mut after = receipt.after;
    while after < receipt.up_to {
        let pair = tables.pairs.get(index);
        let is_voided = tables.users.user(pair.recipient).marks.any(Marks::VOIDED)
            && !canary::is(Canary::TickBlocked);
        let spans = if is_voided { tables.people.spans(pair.recipient, pair.sender) } else { &[] };
        let (from, up_to) = stretch(spans, after, receipt.up_to);
        let is_news = from < up_to && pair.last > from;
        if is_news && !tell(tables, home, Receipt { after: from, up_to, ..receipt }) {
            return false;
        }
        after = up_to.max(from);
        let pair = tables.pairs.get_mut(index);
        match receipt.mark {
            Mark::Has => pair.told_has = after.min(receipt.up_to),
            Mark::Read => pair.told_read = after.min(receipt.up_to),
        }
    }
    true
}

/// The first stretch above `after`, at most up to `up_to`, that holds none of the spans.
fn stretch(spans: &[Span], after: u64, up_to: u64) -> (u64, u64) {
    let mut from = after;
    for span in spans.iter().filter(|span| span.last > after) {
        if span.first > from + 1 {
            return (from, up_to.min(span.first - 1));
        }
        from = span.last;
    }
    (from, up_to)
}

/// Pushes a receipt to the devices of its sender, at the sender's home.
pub fn push(tables: &mut Tables, receipt: &Receipt) {
    let Some(user) = tables.users.find(receipt.sender) else { return };
    let is_read = receipt.mark == Mark::Read;
    if is_read && tables.users.user(user).marks.any(Marks::RECEIPTS_OFF) {
        return; // who does not tell is not told
    }
    let frame = ServerFrame::Receipt(wire::Receipt {
        stream: Some(Stream::User(receipt.recipient)),
        after: receipt.after,
        up_to: receipt.up_to,
        mark: receipt.mark,
    });
    for_each_conn(tables, user, NONE, |tables, token| {
        tables.counters.receipts += 1;
        tables.write(token, &frame);
    });
}

/// Answers what a sender asks after a while away: its pair is told anew from the start.
pub fn ask(tables: &mut Tables, asker: u64, peer: u64) {
    let Some(recipient) = tables.users.find(peer) else { return };
    let Some(index) = tables.pairs.find(recipient, asker) else { return };
    let pair = tables.pairs.get_mut(index);
    pair.told_has = 0;
    pair.told_read = 0;
    tables.pairs.mark_dirty(index);
}

/// A device's user has read a conversation (or all of them) up to a position of the own inbox.
/// `tell`: its senders are to be told now; else somebody marks the pairs on the list of dirty read
/// marks later. Returns whether a mark moved.
pub fn read(tables: &mut Tables, device: u32, peer: Option<u64>, up_to: u64, tell: bool) -> bool {
    let user = tables.users.device(device).user;
    let owner = tables.users.user(user);
    let (first_pair, tail) = (owner.first_pair, owner.tail);
    if up_to > tail {
        tables.counters.clamped += 1;
    }
    let up_to = up_to.min(tail);
    let mut moved = false;
    match peer {
        Some(peer) => {
            if let Some(index) = tables.pairs.find(user, peer) {
                moved = read_pair(tables, index, up_to, tell);
            }
        }
        None => {
            let mut at = first_pair;
            while at != NONE {
                moved |= read_pair(tables, at, up_to, tell);
                at = tables.pairs.get(at).next;
            }
        }
    }
    if moved {
        let stream = peer.map(Stream::User);
        let frame = ServerFrame::ReadSync(wire::ReadSync { stream, up_to });
        for_each_conn(tables, user, device, |tables, token| tables.write(token, &frame));
    }
    moved
}

/// Moves one conversation's mark. Its record is lazy: a mark lost in a crash is set again by the
/// reader, and tick 3 was true when it was told.
fn read_pair(tables: &mut Tables, index: u32, up_to: u64, tell: bool) -> bool {
    let pair = tables.pairs.get_mut(index);
    if up_to <= pair.read || pair.read >= pair.last {
        return false;
    }
    pair.read = up_to;
    if !std::mem::replace(&mut pair.read_dirty, true) {
        tables.dirty_reads.push(index);
    }
    if tell {
        tables.pairs.mark_dirty(index);
    }
    true
}

/// Stages the read marks that moved since the last call: one record for any number of moves.
pub fn stage_reads(tables: &mut Tables, stage: &mut Stage, wall_ms: u64) {
    let mut dirty = std::mem::take(&mut tables.dirty_reads);
    dirty.retain(|&index| {
        let pair = tables.pairs.get_mut(index);
        let record = Record {
            stream_kind: STREAM_USER,
            stream: tables.users.user(pair.recipient).id,
            time_ms: wall_ms,
            peer: pair.sender,
            aux: pair.read,
            body_kind: if pair.answered { READER_WROTE } else { 0 },
            ..Record::blank(Kind::ReadMark)
        };
        let staged = stage.append(Lane::Reserve, &record).is_ok();
        pair.read_dirty = !staged;
        !staged
    });
    tables.dirty_reads = dirty;
}

/// Stages the cursors that moved since the last call.
pub fn stage_cursors(tables: &mut Tables, stage: &mut Stage, lane: Lane, wall_ms: u64) {
    let mut dirty = std::mem::take(&mut tables.dirty_cursors);
    dirty.retain(|&index| {
        if tables.users.device_if_any(index).is_none() {
            return false;
        }
        let device = tables.users.device(index);
        let record = Record {
            stream_kind: STREAM_USER,
            stream: tables.users.user(device.user).id,
            device: device.id,
            time_ms: wall_ms,
            aux: device.cursor,
            ..Record::blank(Kind::Cursor)
        };
        if stage.append(lane, &record).is_err() {
            return true; // stays dirty: the cursor in memory is the truth until there is room
        }
        let device = tables.users.device_mut(index);
        device.cursor_news = CursorNews::Told;
        false
    });
    tables.dirty_cursors = dirty;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_turn_looks_at_some_pairs_and_all_have_their_turn() {
        const MOST: usize = limits::RECEIPT_PAIRS_PER_TURN_MAX;
        let senders = 2 * MOST as u64 + 9;
        let mut tables = Tables::new(4, 4, 4 * MOST);
        let user = tables.users.find_or_add(7).unwrap();
        let mut first = NONE;
        for sender in 0..senders {
            let pair = tables.pairs.find_or_add(user, 1_000 + sender, &mut first).unwrap();
            tables.pairs.get_mut(pair).last = 5;
            tables.pairs.mark_dirty(pair);
        }
        let here = tables.users.user_mut(user);
        (here.first_pair, here.has) = (first, 5);
        let mut told: HashMap<u64, u32> = HashMap::new();
        for turn in 0..6 {
            let mut looks = 0;
            tell_dirty(&mut tables, Placement::new(1), |_, _, receipt| {
                looks += 1;
                // Every other sender's home has no room at first.
                let is_told = turn >= 3 || receipt.sender % 2 == 0;
                *told.entry(receipt.sender).or_default() += u32::from(is_told);
                is_told
            });
            assert!(looks <= MOST, "{looks} in a turn");
        }
        assert!(!tables.pairs.has_dirty());
        assert_eq!(told.len() as u64, senders);
        assert!(told.values().all(|times| *times == 1));
    }
}
