//! A shard's part of a checkpoint: settle, an image of the tables beside the other work, the end.
//!
//! A few pieces per turn, each exact at the point of the log where it stands; see `path::image` and
//! `log::Phase`. What is left in segments that are worth emptying is copied forward on the way.

use super::{Core, Waiter};
use crate::limits;
use crate::log::{
    CHECKPOINT_END, CHECKPOINT_IMAGE, Health, Kind, Lane, LiveReport, Phase, RECORD_HEADER_BYTES,
    Reader, Record, Refused, encoded_bytes,
};
use crate::path::group;
use crate::path::image::{self, Walk};
use crate::path::receipt;
use std::ops::ControlFlow;

/// How far this shard is.
#[derive(Debug)]
pub(super) struct Imaging {
    /// The last checkpoint this shard has settled for.
    settled: u64,
    /// The last one it has begun an image for.
    begun: u64,
    walk: Walk,
    /// Of users from here on nothing was copied yet,
    copy_next: u32,
    /// and of those up to here it has to be.
    copy_end: u32,
    /// The same of groups.
    group_next: u32,
    /// See `group_next`.
    group_end: u32,
    /// END is staged, or there is no image to make.
    ended: bool,
    /// Segments to copy out of.
    victims: Vec<u32>,
    /// The piece being made.
    piece: Vec<u8>,
}

impl Imaging {
    pub(super) fn new() -> Self {
        Self {
            settled: 0,
            begun: 0,
            walk: Walk::Done,
            copy_next: 0,
            copy_end: 0,
            group_next: 0,
            group_end: 0,
            ended: true,
            victims: Vec::new(),
            piece: Vec::new(),
        }
    }

    /// There are pieces to be made.
    pub(super) fn is_busy(&self) -> bool {
        !self.ended
    }
}

impl<S, R: Reader> Core<S, R> {
    /// Does what the checkpoint under way asks. `phase` was read before what is committed was
    /// taken in this turn; `has_letters`: some from other shards are left to be read.
    pub(super) fn checkpoint(&mut self, phase: Phase, has_letters: bool) {
        match phase {
            Phase::Settle(number) if number != self.imaging.settled => {
                self.imaging.settled = number;
                self.stage.settled();
            }
            // An answer to what was committed before the mark may still be in a letter.
            Phase::Image(number) if number != self.imaging.begun && !has_letters => {
                self.imaging.begun = number;
                self.imaging.walk = Walk::START;
                (self.imaging.copy_next, self.imaging.copy_end) = (0, 0);
                (self.imaging.group_next, self.imaging.group_end) = (0, 0);
                self.imaging.ended = false;
                self.imaging.victims = self.stage.victims();
            }
            _ => {}
        }
        if self.imaging.is_busy() {
            self.image();
        }
        // A full disk takes too little to make a checkpoint due, and only one frees what is empty.
        let is_full = self.stage.health() == Health::Full;
        if self.tables.live.take_scrubs_news() || (is_full && self.tables.live.take_emptied()) {
            self.stage.want_checkpoint();
        }
    }

    /// Stages pieces of the image, as many as one turn may and the log takes, each followed by what
    /// is to be copied of its users.
    fn image(&mut self) {
        let mut left = self.stage.image_room();
        while left > 0 && self.copy_forward(&mut left) {
            if self.imaging.walk == Walk::Done {
                return self.end_image();
            }
            let start = self.imaging.walk;
            let mut piece = std::mem::take(&mut self.imaging.piece);
            piece.clear();
            let bytes_max = limits::IMAGE_BYTES_MAX.min(self.stage.payload_bytes_max());
            let next = image::write(&self.tables, start, bytes_max, &mut piece);
            let staged = piece.is_empty() || self.stage_piece(CHECKPOINT_IMAGE, &piece);
            let bytes = piece.len() + RECORD_HEADER_BYTES;
            self.imaging.piece = piece;
            if !staged {
                return; // no room now: the same piece anew in a later turn
            }
            self.imaging.walk = next;
            if !self.imaging.victims.is_empty() {
                self.imaging.copy_end = self.users_before(next);
                self.imaging.group_end = self.groups_before(next);
            }
            left = left.saturating_sub(bytes);
            if left == 0 {
                return;
            }
        }
    }

    /// How many users come before a point of the walk. One in the middle of whose records a piece
    /// ends comes with the piece that ends them.
    fn users_before(&self, walk: Walk) -> u32 {
        match walk {
            Walk::User(index) | Walk::Answers(index, ..) | Walk::Entries(index, _) => index,
            Walk::Pair(_)
            | Walk::Voids(..)
            | Walk::WaitingVoids(..)
            | Walk::Posts(_)
            | Walk::Groups(_)
            | Walk::Done => u32::try_from(self.tables.users.count()).unwrap_or(u32::MAX),
        }
    }

    /// The same of groups.
    fn groups_before(&self, walk: Walk) -> u32 {
        match walk {
            Walk::Groups(at) => at.slot(),
            Walk::Done => self.tables.groups.slots(),
            _ => 0,
        }
    }

    fn stage_piece(&mut self, body_kind: u32, payload: &[u8]) -> bool {
        let record = self.checkpoint_record(body_kind, payload);
        self.stage.append(Lane::Image, &record).is_ok()
    }

    fn checkpoint_record<'a>(&self, body_kind: u32, payload: &'a [u8]) -> Record<'a> {
        Record {
            body_kind,
            stream: self.me as u64,
            // Epochs of before the mark must stay known: they are used up.
            position: self.positions.last(),
            peer: self.mailbox.shards() as u64,
            time_ms: self.now.wall_ms,
            aux: self.imaging.begun,
            payload,
            ..Record::blank(Kind::Checkpoint)
        }
    }

    /// Copies waiting records of the users whose pieces are staged out of segments that are to be
    /// emptied. False: the turn has done enough, or the log is busy; the rest comes later.
    fn copy_forward(&mut self, left: &mut usize) -> bool {
        while self.imaging.copy_next < self.imaging.copy_end {
            if *left == 0 || !self.copy_user(self.imaging.copy_next, left) {
                return false;
            }
            self.imaging.copy_next += 1;
        }
        while self.imaging.group_next < self.imaging.group_end {
            if *left == 0 || !self.copy_group(self.imaging.group_next, left) {
                return false;
            }
            self.imaging.group_next += 1;
        }
        true
    }

    /// False: there is more to copy. What finds no room waits for the next checkpoint.
    fn copy_user(&mut self, user: u32, left: &mut usize) -> bool {
        let Self { tables, stage, reader, waiters, imaging, .. } = self;
        let handle = tables.users.user(user).inbox;
        let Some(mut inbox) = tables.inboxes.get_mut(handle) else { return true };
        let mut is_done = true;
        inbox.set_moving(|entry| {
            let Some(at) = entry.at().filter(|at| imaging.victims.contains(&at.segment)) else {
                return ControlFlow::Continue(false);
            };
            if entry.is_moving() {
                return ControlFlow::Continue(false);
            }
            if *left == 0 {
                is_done = false;
                return ControlFlow::Break(());
            }
            let found = reader.read(at).filter(|record| record.position == entry.position);
            let Some(record) = found else {
                tables.counters.unreadable += 1; // `log verify` tells more
                return ControlFlow::Continue(false);
            };
            let record = Record { moved: true, ..record };
            let ticket = match stage.append(Lane::Copy, &record) {
                Ok(ticket) => ticket,
                Err(refused) => {
                    is_done = refused != Refused::Busy;
                    return ControlFlow::Break(());
                }
            };
            *left = left.saturating_sub(encoded_bytes(&record));
            tables.live.remove(at, entry.bytes());
            let position = entry.position;
            waiters.push_back(Waiter::Moved { ticket, user, position });
            ControlFlow::Continue(true)
        });
        is_done
    }

    /// The same of a group.
    fn copy_group(&mut self, index: u32, left: &mut usize) -> bool {
        let Self { tables, stage, reader, waiters, imaging, .. } = self;
        let Some(group) = tables.groups.get_mut(index) else { return true };
        for entry in group.entries_mut() {
            let Some(at) = entry.at().filter(|at| imaging.victims.contains(&at.segment)) else {
                continue;
            };
            if entry.is_moving() {
                continue;
            }
            if *left == 0 {
                return false;
            }
            let found = reader.read(at).filter(|record| record.position == entry.position);
            let Some(record) = found else {
                tables.counters.unreadable += 1;
                continue;
            };
            let record = Record { moved: true, ..record };
            let ticket = match stage.append(Lane::Copy, &record) {
                Ok(ticket) => ticket,
                Err(refused) => return refused != Refused::Busy,
            };
            *left = left.saturating_sub(encoded_bytes(&record));
            tables.live.remove(at, entry.bytes());
            entry.set_moving();
            let position = entry.position;
            waiters.push_back(Waiter::MovedInGroup { ticket, group: index, position });
        }
        true
    }

    /// All pieces are staged: the cursors that go with what this shard calls live, then END.
    fn end_image(&mut self) {
        // In the lane of images: when that of cursors has run dry only this frees anything.
        let Self { tables, stage, now, .. } = self;
        receipt::stage_cursors(tables, stage, Lane::Image, now.wall_ms);
        group::marks::stage_releases(tables, stage, Lane::Image, now.wall_ms);
        if !tables.dirty_cursors.is_empty() || !tables.groups.dirty_releases.is_empty() {
            return;
        }
        let record = self.checkpoint_record(CHECKPOINT_END, &[]);
        let Ok(ticket) = self.stage.append_urgent(Lane::End, &record) else { return };
        self.imaging.ended = true;
        let report = Box::new(self.tables.live.report());
        self.waiters.push_back(Waiter::Image { ticket, report });
    }

    /// END is durable, and with it everything the report rests on.
    pub(super) fn on_image(&mut self, report: LiveReport) {
        let is_live = |segment: u32| report.live.iter().any(|(number, _)| *number == segment);
        self.reader.retain(&is_live);
        self.tables.live.told(&report);
        self.stage.report(report);
    }
}
