//! At start: what the message path needs to know goes into the shards' tables, before anybody can
//! connect.

use super::book;
use super::sql::{all, audience_of, id_of, sql};
use crate::limits;
use crate::path::people::{self, Known, LoadError};
use crate::state::Tables;
use crate::state::order::{Person, Ties};
use rusqlite::{Connection, Row, params};

/// Why it does not.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The tables have no room.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The file can't be read.
    #[error("the directory can't be read: {0}. Look at its disk, or restore a backup")]
    Sql(#[from] rusqlite::Error),
}

/// What was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Users with their settings.
    pub users: u64,
    /// Contacts and blocks.
    pub ties: u64,
    /// Devices and accounts whose tokens are refused.
    pub revoked: u64,
}

/// Hands over all users, their contacts and blocks, and which tokens are refused.
pub(super) fn fill(
    db: &Connection,
    tables: &mut [Tables],
    now_s: u64,
) -> Result<Filled, FillError> {
    let mut filled = Filled::default();
    // One picture of it all, although nobody writes yet.
    db.execute_batch("BEGIN")?;
    fill_users(db, tables, &mut filled)?;
    fill_ties(db, tables, &mut filled)?;
    fill_revoked(db, tables, now_s, &mut filled)?;
    db.execute_batch("COMMIT")?;
    Ok(filled)
}

fn fill_users(
    db: &Connection,
    tables: &mut [Tables],
    filled: &mut Filled,
) -> Result<(), FillError> {
    let text =
        "SELECT user, state, receipts_off, last_seen, marks_requests, not_before_s FROM users";
    let mut statement = db.prepare(text)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let user = id_of(row, 0)?;
        let person = Person {
            suspended: row.get::<_, i64>(1)? != book::LIVES,
            receipts_off: row.get(2)?,
            last_seen: audience_of(row, 3)?,
            marks_requests: row.get(4)?,
        };
        people::load(tables, Known::Person { user, person })?;
        filled.users += 1;
        let not_before_s = id_of(row, 5)?;
        if not_before_s > 0 {
            people::load(tables, Known::Revoked { user, device: None, not_before_s })?;
            filled.revoked += 1;
        }
    }
    Ok(())
}

fn fill_ties(db: &Connection, tables: &mut [Tables], filled: &mut Filled) -> Result<(), FillError> {
    // In the order of the table, so that one user's come together.
    let mut statement = db.prepare("SELECT owner, other, contact, blocked FROM ties")?;
    let mut rows = statement.query([])?;
    let mut list: Vec<(u64, Ties)> = Vec::new();
    let mut owner = 0;
    loop {
        let next = rows.next()?.map(read_tie).transpose()?;
        let same = next.as_ref().is_some_and(|(user, _)| *user == owner);
        if !same && !list.is_empty() {
            people::load(tables, Known::Ties { user: owner, ties: &list })?;
            filled.ties += list.len() as u64;
            list.clear();
        }
        let Some((user, tie)) = next else { return Ok(()) };
        owner = user;
        list.push(tie);
    }
}

fn read_tie(row: &Row<'_>) -> rusqlite::Result<(u64, (u64, Ties))> {
    let ties = Ties { contact: row.get(2)?, blocked: row.get(3)? };
    Ok((id_of(row, 0)?, (id_of(row, 1)?, ties)))
}

fn fill_revoked(
    db: &Connection,
    tables: &mut [Tables],
    now_s: u64,
    filled: &mut Filled,
) -> Result<(), FillError> {
    let since = sql(now_s.saturating_sub(limits::REVOCATION_S));
    let text = "SELECT user, device, not_before_s FROM revoked WHERE not_before_s > ?1 \
                UNION ALL SELECT user, NULL, not_before_s FROM gone WHERE not_before_s > ?1";
    let mut statement = db.prepare(text)?;
    let mut rows = statement.query([since])?;
    while let Some(row) = rows.next()? {
        let (user, not_before_s) = (id_of(row, 0)?, id_of(row, 2)?);
        let device = row.get(1)?;
        people::load(tables, Known::Revoked { user, device, not_before_s })?;
        filled.revoked += 1;
    }
    Ok(())
}

/// Devices whose homes have not obeyed their end yet.
pub(super) fn untold(db: &Connection) -> rusqlite::Result<Vec<(u64, u32, u64)>> {
    let text = "SELECT user, device, not_before_s FROM revoked WHERE told = 0";
    all(db, text, [], |row| Ok((id_of(row, 0)?, row.get(1)?, id_of(row, 2)?)))
}

/// Users whose end began.
pub(super) fn ending(db: &Connection) -> rusqlite::Result<Vec<u64>> {
    let text = "SELECT user FROM users WHERE state = ?";
    all(db, text, params![book::ENDING], |row| id_of(row, 0))
}
