//! Between rows and values, and what can stop a statement.

use super::Fault;
use crate::state::order::Audience;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Params, Row};

/// Why a command stops. Everything it changed is taken back.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is refused.
    Fault(Fault),
    /// The file can't be used.
    Sql(rusqlite::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

pub(super) type Outcome<T> = Result<T, Stop>;

/// An id as a column holds it. The order of large ones is another one, but it is one.
pub(super) fn sql(id: u64) -> i64 {
    id.cast_signed()
}

/// An id out of a column.
pub(super) fn id_of(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get(at).map(i64::cast_unsigned)
}

/// The least a column may hold to come after `after`; `None`: nothing does.
pub(super) fn from(after: Option<u64>) -> Option<i64> {
    match after {
        None => Some(i64::MIN),
        Some(after) => sql(after).checked_add(1),
    }
}

/// An audience as a column holds it.
pub(super) fn audience(audience: Audience) -> i64 {
    match audience {
        Audience::Everybody => 0,
        Audience::Contacts => 1,
        Audience::Nobody => 2,
    }
}

/// An audience out of a column; whatever it should not be is the smallest.
pub(super) fn audience_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Audience> {
    row.get(at).map(|number: i64| match number {
        0 => Audience::Everybody,
        1 => Audience::Contacts,
        _ => Audience::Nobody,
    })
}

/// Carries out a statement. Says how many rows it changed.
pub(super) fn run(db: &Connection, text: &str, values: impl Params) -> rusqlite::Result<usize> {
    db.prepare_cached(text)?.execute(values)
}

/// The first row, if there is one.
pub(super) fn one<T>(
    db: &Connection,
    text: &str,
    values: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached(text)?.query_row(values, read).optional()
}

/// The first column of the first row, if there is one.
pub(super) fn value<T: FromSql>(
    db: &Connection,
    text: &str,
    values: impl Params,
) -> rusqlite::Result<Option<T>> {
    one(db, text, values, |row| row.get(0))
}

/// Whether there is a row.
pub(super) fn is_there(db: &Connection, text: &str, values: impl Params) -> rusqlite::Result<bool> {
    one(db, text, values, |_| Ok(())).map(|row| row.is_some())
}

/// All rows.
pub(super) fn all<T>(
    db: &Connection,
    text: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(text)?.query_map(values, read)?.collect()
}

/// A page: of one row more than asked for it is told that there are more.
pub(super) fn page<T>(mut rows: Vec<T>, limit: u32) -> (Vec<T>, bool) {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    (rows, more)
}
