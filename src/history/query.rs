//! What users ask: pages of a conversation, the list of them, and how long one is kept.
//!
//! Owner: the history thread, between two transactions. Pages are bounded in count and bytes.

use redb::ReadableTable as _;
use wire::{Conversation as State, MessageId, Retention, Stream};

use super::HistoryError;
use super::apply::expiry_ms;
use super::store::Store;
use super::tables::{CONVERSATIONS, Conversation, ITEMS, Item, LEFT, Pair};
use crate::limits::HISTORY_PAGE_BYTES_MAX;
use crate::shard::{Found, Kept, Question};

impl Store {
    /// Answers a question of `user`. `request` goes into what carries it. Items that ended by
    /// `now_ms` are not told; by 0 none did.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing was changed then.
    pub fn answer(
        &mut self,
        user: u64,
        request: u64,
        question: Question,
        now_ms: u64,
    ) -> Result<Found, HistoryError> {
        match question {
            Question::Page { peer, from, forwards, limit } => {
                self.page((user, peer), from, forwards, limit as usize, now_ms)
            }
            Question::Conversations { after, limit } => {
                self.conversations(user, request, after, limit as usize)
            }
            Question::Retain { peer, retention } => {
                let state = self.retain((user, peer), retention)?;
                Ok(Found::Retained(self.state((user, peer), request, &state)))
            }
        }
    }

    fn page(
        &mut self,
        (user, peer): Pair,
        from: u64,
        forwards: bool,
        limit: usize,
        now_ms: u64,
    ) -> Result<Found, HistoryError> {
        let mut rows: Vec<(u64, Item)> = Vec::new();
        let mut more = false;
        {
            let tables = self.read()?;
            if tables.open_table(LEFT)?.get((user, peer))?.is_some() {
                // Somebody was gone and is back: what was before is about to be removed.
                return Ok(Found::Page { items: Vec::new(), more: false });
            }
            let table = tables.open_table(ITEMS)?;
            let first = if forwards { from.saturating_add(1) } else { 0 };
            let last = match (forwards, from) {
                (true, _) | (false, 0) => u64::MAX,
                (false, from) => from - 1,
            };
            if first > last {
                return Ok(Found::Page { items: Vec::new(), more: false });
            }
            let mut range = table.range((user, peer, first)..=(user, peer, last))?;
            let mut bytes = 0;
            while let Some(entry) = if forwards { range.next() } else { range.next_back() } {
                let (key, row) = entry?;
                let item = Item::decode(row.value())?;
                if item.expires_ms > 0 && item.expires_ms <= now_ms {
                    continue; // it ended; the next sweep removes it
                }
                bytes += item.place.bytes as usize;
                more = rows.len() == limit || (bytes > HISTORY_PAGE_BYTES_MAX && !rows.is_empty());
                if more {
                    break;
                }
                rows.push((key.value().2, item));
            }
        }
        let mut items = Vec::with_capacity(rows.len());
        for (number, item) in rows {
            items.push(self.kept(if item.outgoing { user } else { peer }, number, &item)?);
        }
        Ok(Found::Page { items, more })
    }

    fn kept(&mut self, sender: u64, number: u64, item: &Item) -> Result<Kept, HistoryError> {
        Ok(Kept {
            number,
            id: MessageId { sender, device: item.device, client_id: item.client_id },
            position: item.position,
            time_ms: item.time_ms,
            kind: item.kind,
            payload: self.shelf.read(item.place)?,
            relation: item.relation,
            deleted: item.deleted,
        })
    }

    fn conversations(
        &mut self,
        user: u64,
        request: u64,
        after: u64,
        limit: usize,
    ) -> Result<Found, HistoryError> {
        let mut list = Vec::new();
        let mut more = false;
        let table = self.read()?.open_table(CONVERSATIONS)?;
        if let Some(first) = after.checked_add(1) {
            for entry in table.range((user, first)..=(user, u64::MAX))? {
                let (key, row) = entry?;
                if list.len() == limit {
                    more = true;
                    break;
                }
                let found = Conversation::decode(row.value())?;
                list.push(self.state(key.value(), request, &found));
            }
        }
        Ok(Found::Conversations { list, more })
    }

    fn state(&self, pair: Pair, request: u64, found: &Conversation) -> State {
        State {
            request,
            stream: Stream::User(pair.1),
            last: found.last,
            unread: found.unread,
            time_ms: found.time_ms,
            retention: found.retention.unwrap_or(self.rules.retention),
        }
    }

    /// Sets how long one side of a conversation is kept, for what is there and what will come.
    fn retain(&mut self, pair: Pair, retention: Retention) -> Result<Conversation, HistoryError> {
        self.write(|batch| {
            batch.conversation(pair)?.retention = Some(retention);
            let mut items = Vec::new();
            for entry in batch.items.range((pair.0, pair.1, 0)..=(pair.0, pair.1, u64::MAX))? {
                let (key, row) = entry?;
                items.push((key.value().2, Item::decode(row.value())?));
            }
            for (number, item) in items {
                if retention == Retention::UntilAcked {
                    batch.remove(pair, number)?;
                    continue;
                }
                let expires_ms = expiry_ms(item.time_ms, item.ttl_s, retention);
                if expires_ms != item.expires_ms {
                    batch.change(pair, number, &item, &Item { expires_ms, ..item })?;
                }
            }
            batch.conversation(pair).map(|conversation| *conversation)
        })
    }
}
