//! What waits in a log, read without a server: for the tools that verify, repair and restore.
//!
//! Owner: the command line. Reads only. The log says whether its bytes are sound; this says
//! whether everything that waits can be read, and whose it is.

use crate::limits;
use crate::log::{
    self, At, FileStore, InspectError, Kind, Reader, STREAM_GROUP, STREAM_USER, Store as _,
    StoreReader,
};
use crate::path::Rules;
use crate::path::replay::{Replay, ReplayError};
use crate::state::Tables;
use crate::state::placement::Placement;
use std::path::Path;

/// Users there is room for at first, at least and at most; if there are more, the log is read again
/// with more room. At most: what room for a user takes before there is one, 200 bytes of addresses
/// and 8 of memory, must not be felt.
const USERS_AT_FIRST: std::ops::RangeInclusive<u64> = 64 * 1024..=4 * 1024 * 1024;
/// Every user takes at least this much of a log (an item of an image).
const USER_BYTES_MIN: u64 = 42;

/// Why a log did not become tables.
#[derive(Debug, thiserror::Error)]
pub enum WaitingError {
    /// The log would be refused.
    #[error(transparent)]
    Log(#[from] InspectError),
    /// Its records make no sense.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// One record that waits and is not at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it should be.
    pub at: At,
    /// In the stream of this user,
    pub user: u64,
    /// or this group.
    pub in_group: bool,
    /// At which position.
    pub position: u64,
    /// From whom.
    pub sender: u64,
}

impl Unreadable {
    /// The kind of its stream, as the log numbers them.
    #[must_use]
    pub fn stream_kind(&self) -> u8 {
        if self.in_group { STREAM_GROUP } else { STREAM_USER }
    }
}

/// What waits in a log.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Records that wait for at least one device, or one member of a group.
    pub records: u64,
    /// Users with any of them, and all users.
    pub users: u64,
    /// See `users`.
    pub users_known: u64,
    /// Those that can't be read, by user.
    pub unreadable: Vec<Unreadable>,
}

/// Reads the log in `data` as a server would at its start, and then every record that waits.
///
/// # Errors
/// [`WaitingError`]: a server would refuse it.
pub fn waiting(data: &Path) -> Result<Waiting, WaitingError> {
    let tables = tables(data)?;
    let store = FileStore::open_read_only(data).map_err(InspectError::from)?;
    let mut reader = StoreReader::new(store);
    let mut found = Waiting { users_known: tables.users.count() as u64, ..Waiting::default() };
    for index in 0..u32::try_from(tables.users.count()).unwrap_or(u32::MAX) {
        let user = tables.users.user(index);
        let (id, inbox) = (user.id, user.inbox);
        let Some(inbox) = tables.inboxes.get(inbox) else { continue };
        found.users += u64::from(inbox.count() > 0);
        for entry in inbox.after(0) {
            found.records += 1;
            let at = entry.at().unwrap_or_default();
            let is_it = reader.read(at).is_some_and(|record| {
                let kinds = [Kind::Message, Kind::OwnCopy, Kind::Notice];
                let place = (record.stream, record.position);
                kinds.contains(&record.kind) && place == (id, entry.position)
            });
            if !is_it {
                let (position, sender) = (entry.position, entry.sender);
                let in_group = false;
                found.unreadable.push(Unreadable { at, user: id, in_group, position, sender });
            }
        }
    }
    waiting_in_groups(&tables, &mut reader, &mut found);
    Ok(found)
}

fn waiting_in_groups(tables: &Tables, reader: &mut impl Reader, found: &mut Waiting) {
    for group in (0..tables.groups.slots()).filter_map(|index| tables.groups.get(index)) {
        for entry in group.after(0) {
            found.records += 1;
            let at = entry.at().unwrap_or_default();
            let is_it = reader.read(at).is_some_and(|record| {
                let place = (record.stream_kind, record.stream, record.position);
                let kinds = [Kind::Message, Kind::Group];
                kinds.contains(&record.kind) && place == (STREAM_GROUP, group.id, entry.position)
            });
            if !is_it {
                let (position, sender) = (entry.position, entry.sender);
                let (user, in_group) = (group.id, true);
                found.unreadable.push(Unreadable { at, user, in_group, position, sender });
            }
        }
    }
}

/// As many users as the log can hold, within bounds.
fn users_at_first(data: &Path) -> Result<usize, WaitingError> {
    let store = FileStore::open_read_only(data).map_err(InspectError::from)?;
    let segments = store.segments().unwrap_or_default();
    let bytes: u64 = segments.iter().map(|segment| store.bytes(*segment).unwrap_or(0)).sum();
    let users = (bytes / USER_BYTES_MIN).clamp(*USERS_AT_FIRST.start(), *USERS_AT_FIRST.end());
    Ok(usize::try_from(users).unwrap_or(usize::MAX))
}

/// The log as one shard would remember it, with as much room as it takes.
fn tables(data: &Path) -> Result<Tables, WaitingError> {
    let mut users_max = users_at_first(data)?;
    loop {
        let mut tables = vec![Tables::new(1, users_max, limits::PAIRS_SETTING_MAX)];
        let mut replay = Replay::new(Placement::new(1), &Rules::default());
        let mut fits = Ok(());
        log::replayed(data, &mut |at, record| {
            if fits.is_ok() {
                fits = replay.record(&mut tables, at, record);
            }
        })?;
        match fits {
            Err(ReplayError::TooManyUsers) if users_max < limits::USERS_SETTING_MAX => {
                users_max = (users_max * 8).min(limits::USERS_SETTING_MAX);
                continue;
            }
            fits => fits?,
        }
        replay.finish()?;
        if let Some(tables) = tables.pop() {
            return Ok(tables);
        }
    }
}
