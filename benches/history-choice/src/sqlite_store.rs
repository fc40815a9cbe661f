//! SQLite by rusqlite: a table clustered by conversation and number, an index by message id.

use super::{Fault, Item, PAGE, Store};
use rusqlite::{Connection, params};
use std::path::Path;

pub(super) struct Sqlite(Connection);

pub(super) fn open(folder: &Path) -> Result<Sqlite, Fault> {
    let connection = Connection::open(folder.join("history.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON;
         PRAGMA cache_size = -65536;
         CREATE TABLE item (at INTEGER PRIMARY KEY, device INTEGER, client_id INTEGER,
         payload BLOB);
         CREATE INDEX item_id ON item (at >> 32, client_id, device);",
    )?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(Sqlite(connection))
}

impl Sqlite {
    fn begin(&self) -> Result<(), Fault> {
        if self.0.is_autocommit() {
            self.0.execute_batch("BEGIN")?;
        }
        Ok(())
    }
}

impl Store for Sqlite {
    fn insert(&mut self, items: &[Item<'_>]) -> Result<(), Fault> {
        self.begin()?;
        let mut insert = self.0.prepare_cached("INSERT INTO item VALUES (?1, ?2, ?3, ?4)")?;
        for item in items {
            let at = i64::from(item.conversation) << 32 | i64::from(item.number);
            insert.execute(params![at, item.device, item.client_id as i64, item.payload])?;
        }
        self.0.execute_batch("COMMIT")?;
        Ok(())
    }

    fn page(&mut self, conversation: u32, each: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        let first = i64::from(conversation) << 32;
        let mut select = self.0.prepare_cached(
            "SELECT payload FROM item WHERE at BETWEEN ?1 AND ?2 ORDER BY at DESC LIMIT ?3",
        )?;
        let mut rows = select.query(params![first, first | 0xffff_ffff, PAGE as i64])?;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_blob()?);
        }
        Ok(())
    }

    fn delete(&mut self, conversation: u32, device: u32, client_id: u64) -> Result<(), Fault> {
        self.begin()?;
        let mut delete = self.0.prepare_cached(
            "DELETE FROM item WHERE at >> 32 = ?1 AND client_id = ?2 AND device = ?3",
        )?;
        let count = delete.execute(params![conversation, client_id as i64, device])?;
        assert_eq!(count, 1);
        Ok(())
    }

    fn commit_deletes(&mut self) -> Result<(), Fault> {
        Ok(self.0.execute_batch("COMMIT")?)
    }

    fn scrub(&mut self) -> Result<(), Fault> {
        let busy = self.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        assert_eq!(busy, Ok(0));
        Ok(())
    }
}
