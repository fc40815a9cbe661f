//! redb: one table by conversation and number, one by message id.

use super::{Fault, Item, PAGE, Store};
use redb::{Database, Durability, ReadableDatabase as _, TableDefinition, WriteTransaction};
use std::path::Path;

const ITEM: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("item");
const ID: TableDefinition<'_, (u32, u64, u32), u32> = TableDefinition::new("id");

pub(super) struct Redb {
    database: Database,
    deletes: Option<WriteTransaction>,
    batches: u32,
}

pub(super) fn open(folder: &Path) -> Result<Redb, Fault> {
    let database =
        Database::builder().set_cache_size(64 * 1024 * 1024).create(folder.join("history.redb"))?;
    Ok(Redb { database, deletes: None, batches: 0 })
}

impl Redb {
    /// One commit in ten waits for the disk: as often as SQLite does with `synchronous = NORMAL`.
    fn begin(&mut self) -> Result<WriteTransaction, Fault> {
        let mut write = self.database.begin_write()?;
        self.batches += 1;
        if !self.batches.is_multiple_of(10) {
            write.set_durability(Durability::None)?;
        }
        Ok(write)
    }
}

impl Store for Redb {
    fn insert(&mut self, items: &[Item<'_>]) -> Result<(), Fault> {
        let write = self.begin()?;
        {
            let mut table = write.open_table(ITEM)?;
            let mut ids = write.open_table(ID)?;
            for item in items {
                let at = u64::from(item.conversation) << 32 | u64::from(item.number);
                table.insert(at, item.payload)?;
                ids.insert((item.conversation, item.client_id, item.device), item.number)?;
            }
        }
        Ok(write.commit()?)
    }

    fn page(&mut self, conversation: u32, each: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        let first = u64::from(conversation) << 32;
        let table = self.database.begin_read()?.open_table(ITEM)?;
        for item in table.range(first..=first | 0xffff_ffff)?.rev().take(PAGE) {
            each(item?.1.value());
        }
        Ok(())
    }

    fn delete(&mut self, conversation: u32, device: u32, client_id: u64) -> Result<(), Fault> {
        if self.deletes.is_none() {
            self.deletes = Some(self.begin()?);
        }
        let write = self.deletes.as_ref().ok_or("no transaction")?;
        let mut table = write.open_table(ITEM)?;
        let mut ids = write.open_table(ID)?;
        let number = ids.remove((conversation, client_id, device))?.ok_or("no such message")?;
        let at = u64::from(conversation) << 32 | u64::from(number.value());
        table.remove(at)?.ok_or("no such item")?;
        Ok(())
    }

    fn commit_deletes(&mut self) -> Result<(), Fault> {
        if let Some(mut write) = self.deletes.take() {
            write.set_durability(Durability::Immediate)?;
            write.commit()?;
        }
        Ok(())
    }

    fn scrub(&mut self) -> Result<(), Fault> {
        self.database.compact()?;
        Ok(())
    }
}
