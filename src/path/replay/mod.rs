//! Beside the message path: at start, the records of the log become tables again.
//!
//! Every record is shown to the home of its stream and, if it answers a `Send`, to the
//! home of its sender. Cursors only move forward, so replaying is idempotent.
//!
//! A log that begins with a checkpoint is read in two moods. Until a shard's image ends, a user of
//! it that was not met in the image yet is *dim*: of its stream only the places of records are
//! kept (the image names some without one), and of what it sent the answers. The user's item in
//! the image then counts, because the shard staged it behind all of that; what comes after is
//! replayed on top of it. Whoever came when the walk over the users was through has no item: what
//! was kept of it is replayed when the image ends.

mod dim;
mod plain;
mod start;

pub use start::{StartError, start};

use crate::log::{At, CHECKPOINT_COMPLETE, Kind, Position, Record};
use crate::path::image::BadImage;
use crate::path::{Rules, ahead, group};
use crate::state::Tables;
use crate::state::placement::Placement;
use dim::Dim;
use plain::{answer, group_of, plain, sender_of, stream, stream_of};

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
        "the log ends inside its checkpoint, which was complete; nothing was changed: run \
         `myriad log verify` on the data folder, and see docs/operations.md"
    )]
    CutImage,
    /// A checkpoint names a waiting record and nothing says where it is.
    #[error(
        "the checkpoint knows position {} of user {user} and the log does not hold it; \
         nothing was changed: run `myriad log verify` on the data folder, and see \
         docs/operations.md",
        Position(*position)
    )]
    Missing {
        /// In whose stream.
        user: u64,
        /// Which.
        position: u64,
    },
    /// The same of a group's record.
    #[error(
        "the checkpoint knows position {} of group {group} and the log does not hold it; \
         nothing was changed: run `myriad log verify` on the data folder, and see \
         docs/operations.md",
        Position(*position)
    )]
    MissingInGroup {
        /// In whose stream.
        group: u64,
        /// Which.
        position: u64,
    },
}

/// Turns the records of a log into tables.
#[derive(Debug)]
pub struct Replay {
    placement: Placement,
    rules: Rules,
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

impl Replay {
    /// A replay into one table per shard of `placement`.
    #[must_use]
    pub fn new(placement: Placement, rules: &Rules) -> Self {
        Self { placement, rules: rules.clone(), mood: Mood::Fresh }
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
        if record.kind == Kind::Checkpoint && record.body_kind == CHECKPOINT_COMPLETE {
            for segment in record.payload.as_chunks().0 {
                tables[0].live.scrub(At { segment: u32::from_le_bytes(*segment), offset: 0 });
            }
        }
        let Self { placement, ref rules, .. } = *self;
        let Mood::Image(dim) = &mut self.mood else {
            return plain(tables, placement, rules, at, record);
        };
        if record.kind == Kind::Checkpoint {
            dim.checkpoint(tables, placement, rules, record)?;
            if dim.ended.iter().all(|ended| *ended) {
                self.mood = Mood::Plain;
            }
            return Ok(());
        }
        if let Some(id) = group_of(record) {
            let here = &mut tables[placement.home(id)];
            if dim.is_dim_group(here, id) && !group::change::begins(record) {
                dim.places.insert((id, record.position), at);
            } else {
                group::replay::stream(here, placement, rules, at, record);
            }
        }
        if let Some(id) = stream_of(record) {
            let here = &mut tables[placement.home(id)];
            if dim.is_dim(here, id) {
                dim.keep(id, at, record);
            } else {
                stream(here, rules, at, record)?;
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

    /// Fetches what these records will touch. A start waits for memory more than for anything
    /// else; here the waits of many records overlap.
    fn ahead(&self, tables: &[Tables], records: &[(At, Record<'_>)]) {
        let people = |(_, record): &(At, Record<'_>)| [stream_of(record), sender_of(record)];
        let at_home = |id| (&tables[self.placement.home(id)], id);
        for records in records.chunks(ahead::AHEAD_MAX) {
            ahead::fetch(records.iter().flat_map(people).flatten().map(at_home));
        }
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
