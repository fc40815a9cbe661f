//! fjall: one keyspace by conversation and number, one by message id.

use super::{Fault, Item, PAGE, Store};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

pub(super) struct Fjall {
    database: Database,
    items: Keyspace,
    ids: Keyspace,
    deletes: Option<fjall::OwnedWriteBatch>,
}

pub(super) fn open(folder: &Path) -> Result<Fjall, Fault> {
    let database = Database::builder(folder).cache_size(64 * 1024 * 1024).open()?;
    let items = database.keyspace("item", KeyspaceCreateOptions::default)?;
    let ids = database.keyspace("id", KeyspaceCreateOptions::default)?;
    Ok(Fjall { database, items, ids, deletes: None })
}

fn at(conversation: u32, number: u32) -> [u8; 8] {
    (u64::from(conversation) << 32 | u64::from(number)).to_be_bytes()
}

fn id(conversation: u32, client_id: u64, device: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&conversation.to_be_bytes());
    key[4..12].copy_from_slice(&client_id.to_be_bytes());
    key[12..].copy_from_slice(&device.to_be_bytes());
    key
}

impl Store for Fjall {
    fn insert(&mut self, items: &[Item<'_>]) -> Result<(), Fault> {
        let mut batch = self.database.batch();
        for item in items {
            batch.insert(&self.items, at(item.conversation, item.number), item.payload);
            let key = id(item.conversation, item.client_id, item.device);
            batch.insert(&self.ids, key, item.number.to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    fn page(&mut self, conversation: u32, each: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        let range = at(conversation, 0)..=at(conversation, u32::MAX);
        for item in self.items.range(range).rev().take(PAGE) {
            each(&item.value()?);
        }
        Ok(())
    }

    fn delete(&mut self, conversation: u32, device: u32, client_id: u64) -> Result<(), Fault> {
        let key = id(conversation, client_id, device);
        let number = self.ids.get(key)?.ok_or("no such message")?;
        let number = u32::from_be_bytes(number.as_ref().try_into()?);
        let batch = self.deletes.get_or_insert_with(|| self.database.batch());
        batch.remove(&self.ids, key);
        batch.remove(&self.items, at(conversation, number));
        Ok(())
    }

    fn commit_deletes(&mut self) -> Result<(), Fault> {
        if let Some(batch) = self.deletes.take() {
            batch.commit()?;
        }
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn scrub(&mut self) -> Result<(), Fault> {
        for keyspace in [&self.items, &self.ids] {
            keyspace.rotate_memtable_and_wait()?;
            keyspace.major_compact()?;
        }
        Ok(())
    }
}
