//! One transaction over tables and payloads: items come and go with everything that speaks of them.
//!
//! Owner: the history thread, for the time of a transaction. Rows of conversations and the live
//! bytes of files are changed in memory and written once, at the end.
//!
//! Invariant: `kept` and `unread` of a conversation count its items, `EXPIRIES` has the items that
//! end, `IDS` every item, `PAYLOADS` how many items speak of each payload. A pair in `LEFT` has no
//! row, and may have items.

use std::collections::BTreeMap;

use redb::{ReadableTable as _, Table, WriteTransaction};
use wire::{MessageId, Retention};

use super::HistoryError;
use super::shelf::{Place, Shelf};
use super::store::{Freed, Rules};
use super::tables::{
    CONVERSATIONS, Conversation, ERASE, EXPIRIES, FILES, IDS, ITEMS, Item, LEFT, META, PAYLOADS,
    Pair,
};

/// See the module.
pub(super) struct Batch<'t> {
    transaction: &'t WriteTransaction,
    pub(super) shelf: &'t mut Shelf,
    rules: Rules,
    /// Some commits were gone when history came to read them.
    pub(super) has_gaps: bool,
    conversations: Table<'t, Pair, &'static [u8]>,
    pub(super) items: Table<'t, (u64, u64, u64), &'static [u8]>,
    ids: Table<'t, (u64, u64, u8, u32, u64), u64>,
    pub(super) expiries: Table<'t, (u64, u64, u64, u64), ()>,
    payloads: Table<'t, u64, u8>,
    erase: Table<'t, u64, u32>,
    left: Table<'t, Pair, ()>,
    /// Conversations looked at; written at the end if they changed.
    looked_at: BTreeMap<Pair, (Conversation, Conversation)>,
    files: &'t BTreeMap<u32, u64>,
    freed: Freed,
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Batch").field("freed", &self.freed).finish_non_exhaustive()
    }
}

impl<'t> Batch<'t> {
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        shelf: &'t mut Shelf,
        files: &'t BTreeMap<u32, u64>,
        rules: Rules,
        has_gaps: bool,
    ) -> Result<Self, HistoryError> {
        Ok(Self {
            transaction,
            shelf,
            rules,
            has_gaps,
            conversations: transaction.open_table(CONVERSATIONS)?,
            items: transaction.open_table(ITEMS)?,
            ids: transaction.open_table(IDS)?,
            expiries: transaction.open_table(EXPIRIES)?,
            payloads: transaction.open_table(PAYLOADS)?,
            erase: transaction.open_table(ERASE)?,
            left: transaction.open_table(LEFT)?,
            looked_at: BTreeMap::new(),
            files,
            freed: Freed::default(),
        })
    }

    /// Writes what was changed in memory and syncs the payloads.
    pub(super) fn finish(mut self, done: Option<u64>) -> Result<Freed, HistoryError> {
        self.shelf.sync()?;
        for (pair, (now, before)) in &self.looked_at {
            if now != before {
                self.conversations.insert(*pair, now.encode().as_slice())?;
            }
        }
        let mut files = self.transaction.open_table(FILES)?;
        for (file, live) in &self.freed.live {
            files.insert(*file, *live)?;
        }
        let (newest, end) = self.shelf.end();
        let mut meta = self.transaction.open_table(META)?;
        meta.insert("file", u64::from(newest))?;
        meta.insert("end", end)?;
        meta.insert("gaps", u64::from(self.has_gaps))?;
        if let Some(done) = done {
            meta.insert("done", done)?;
        }
        Ok(self.freed)
    }

    /// A user's side of a conversation; as it would begin if there is none yet.
    pub(super) fn conversation(&mut self, pair: Pair) -> Result<&mut Conversation, HistoryError> {
        if !self.looked_at.contains_key(&pair) {
            // Of somebody who was gone and came back: it begins anew, with nothing in it.
            let was_left = self.left.remove(pair)?.is_some();
            if was_left {
                self.drop_items(pair, usize::MAX)?;
            }
            let found = match self.conversations.get(pair)? {
                Some(row) => Conversation::decode(row.value())?,
                None => Conversation::default(),
            };
            self.looked_at.insert(pair, (found, found));
        }
        let known = self.looked_at.get_mut(&pair).map(|(now, _)| now);
        known.ok_or(HistoryError::Damaged("a conversation"))
    }

    /// How long a conversation is kept.
    pub(super) fn retention(&mut self, pair: Pair) -> Result<Retention, HistoryError> {
        let default = self.rules.retention;
        Ok(self.conversation(pair)?.retention.unwrap_or(default))
    }

    /// The number of the item of a message, if there is one.
    pub(super) fn find(&self, pair: Pair, id: MessageId) -> Result<Option<u64>, HistoryError> {
        let outgoing = u8::from(id.sender == pair.0);
        let key = (pair.0, pair.1, outgoing, id.device, id.client_id);
        Ok(self.ids.get(key)?.map(|number| number.value()))
    }

    /// Adds an item under the next number; the oldest go beyond the limit.
    pub(super) fn add(&mut self, pair: Pair, item: &Item) -> Result<(), HistoryError> {
        let incoming = !item.outgoing;
        let conversation = self.conversation(pair)?;
        conversation.last += 1;
        conversation.time_ms = conversation.time_ms.max(item.time_ms);
        conversation.kept += 1;
        conversation.unread += u32::from(incoming && item.position > conversation.read);
        let (number, kept) = (conversation.last, conversation.kept);
        self.items.insert((pair.0, pair.1, number), item.encode().as_slice())?;
        let outgoing = u8::from(item.outgoing);
        self.ids.insert((pair.0, pair.1, outgoing, item.device, item.client_id), number)?;
        if item.expires_ms > 0 {
            self.expiries.insert((item.expires_ms, pair.0, pair.1, number), ())?;
        }
        if kept > self.rules.items_max {
            self.remove_oldest(pair)?;
        }
        Ok(())
    }

    /// Changes the row of an item, and when it ends.
    pub(super) fn change(
        &mut self,
        pair: Pair,
        number: u64,
        before: &Item,
        item: &Item,
    ) -> Result<(), HistoryError> {
        if before.expires_ms != item.expires_ms {
            self.expiries.remove((before.expires_ms, pair.0, pair.1, number))?;
            if item.expires_ms > 0 {
                self.expiries.insert((item.expires_ms, pair.0, pair.1, number), ())?;
            }
        }
        self.items.insert((pair.0, pair.1, number), item.encode().as_slice())?;
        Ok(())
    }

    /// An item, if it is there.
    pub(super) fn item(&self, pair: Pair, number: u64) -> Result<Option<Item>, HistoryError> {
        let row = self.items.get((pair.0, pair.1, number))?;
        row.map(|row| Item::decode(row.value())).transpose()
    }

    /// Removes an item and all that speaks of it.
    pub(super) fn remove(&mut self, pair: Pair, number: u64) -> Result<(), HistoryError> {
        let Some(item) = self.item(pair, number)? else { return Ok(()) };
        self.drop_item(pair, number, &item)?;
        if self.left.get(pair)?.is_some() {
            return Ok(()); // it has no row, and the rest of it goes piece by piece
        }
        let conversation = self.conversation(pair)?;
        conversation.kept = conversation.kept.saturating_sub(1);
        if !item.outgoing && item.position > conversation.read {
            conversation.unread = conversation.unread.saturating_sub(1);
        }
        Ok(())
    }

    /// The same, but for the row of its conversation.
    fn drop_item(&mut self, pair: Pair, number: u64, item: &Item) -> Result<(), HistoryError> {
        self.items.remove((pair.0, pair.1, number))?;
        let outgoing = u8::from(item.outgoing);
        self.ids.remove((pair.0, pair.1, outgoing, item.device, item.client_id))?;
        if item.expires_ms > 0 {
            self.expiries.remove((item.expires_ms, pair.0, pair.1, number))?;
        }
        self.give_up(item.place)
    }

    /// Drops the first items of a conversation; returns how many there were, `most` or fewer.
    fn drop_items(&mut self, pair: Pair, most: usize) -> Result<usize, HistoryError> {
        let mut items = Vec::new();
        for entry in self.items.range((pair.0, pair.1, 0)..=(pair.0, pair.1, u64::MAX))?.take(most)
        {
            let (key, row) = entry?;
            items.push((key.value().2, Item::decode(row.value())?));
        }
        for (number, item) in &items {
            self.drop_item(pair, *number, item)?;
        }
        Ok(items.len())
    }

    /// A user is gone: what it chose is forgotten, and its side of every conversation is left to
    /// [`Batch::sweep_left`]. The sides of others stay theirs.
    pub(super) fn end_user(&mut self, user: u64) -> Result<(), HistoryError> {
        let all = (user, 0)..=(user, u64::MAX);
        let mut pairs: Vec<Pair> = self.looked_at.range(all.clone()).map(|(it, _)| *it).collect();
        for entry in self.conversations.range(all)? {
            pairs.push(entry?.0.value());
        }
        for pair in pairs {
            self.looked_at.remove(&pair);
            self.conversations.remove(pair)?;
            self.left.insert(pair, ())?;
        }
        Ok(())
    }

    /// Removes some of what users left who are gone, at most so many items; says whether there may
    /// be more.
    pub(super) fn sweep_left(&mut self, most: usize) -> Result<bool, HistoryError> {
        let mut room = most;
        while room > 0 {
            let first = self.left.first()?.map(|(pair, _)| pair.value());
            let Some(pair) = first else { return Ok(false) };
            let count = self.drop_items(pair, room)?;
            if count < room {
                self.left.remove(pair)?;
            }
            room = room.saturating_sub(count.max(1));
        }
        Ok(true)
    }

    /// Keeps a payload for `count` items.
    pub(super) fn keep(&mut self, payload: &[u8], count: u8) -> Result<Place, HistoryError> {
        let place = self.shelf.add(payload)?;
        if place.bytes > 0 {
            self.payloads.insert(place.at, count)?;
            *self.live(place.file()) += u64::from(place.bytes);
        }
        Ok(place)
    }

    /// One item less speaks of a payload; after the last it is overwritten.
    pub(super) fn give_up(&mut self, place: Place) -> Result<(), HistoryError> {
        if place.bytes == 0 {
            return Ok(());
        }
        let count = self.payloads.get(place.at)?.map_or(1, |count| count.value());
        if count > 1 {
            self.payloads.insert(place.at, count - 1)?;
            return Ok(());
        }
        self.payloads.remove(place.at)?;
        self.erase.insert(place.at, place.bytes)?;
        self.freed.erase = true;
        let live = self.live(place.file());
        *live = live.saturating_sub(u64::from(place.bytes));
        Ok(())
    }

    fn remove_oldest(&mut self, pair: Pair) -> Result<(), HistoryError> {
        let first = {
            let mut range = self.items.range((pair.0, pair.1, 0)..=(pair.0, pair.1, u64::MAX))?;
            range.next().transpose()?.map(|(key, _)| key.value().2)
        };
        first.map_or(Ok(()), |number| self.remove(pair, number))
    }

    fn live(&mut self, file: u32) -> &mut u64 {
        let before = self.files.get(&file).copied().unwrap_or(0);
        self.freed.live.entry(file).or_insert(before)
    }
}
