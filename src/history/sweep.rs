//! What ended goes: items whose time is over, or whose user is gone, are removed, and their
//! payloads overwritten.
//!
//! Owner: the history thread, every [`HISTORY_SWEEP_MS`](crate::limits::HISTORY_SWEEP_MS).

use redb::ReadableTable as _;

use super::HistoryError;
use super::store::Store;
use crate::limits::HISTORY_SWEEP_ITEMS_MAX;

impl Store {
    /// Removes items that ended by `now_ms` (by 0 none did) and items of users who are gone, a
    /// bounded number of each; says whether there are more.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing was removed then.
    pub fn sweep(&mut self, now_ms: u64) -> Result<bool, HistoryError> {
        let more = self.has_left() && self.write(|it| it.sweep_left(HISTORY_SWEEP_ITEMS_MAX))?;
        if self.next_expiry_ms().is_none_or(|first| first > now_ms) {
            return Ok(more);
        }
        let ended = self.write(|batch| {
            let mut ended = Vec::new();
            let until = (now_ms, u64::MAX, u64::MAX, u64::MAX);
            for entry in batch.expiries.range(..=until)?.take(HISTORY_SWEEP_ITEMS_MAX) {
                let (_, user, peer, number) = entry?.0.value();
                ended.push(((user, peer), number));
            }
            for (pair, number) in &ended {
                batch.remove(*pair, *number)?;
            }
            Ok(ended.len() == HISTORY_SWEEP_ITEMS_MAX)
        });
        Ok(ended? || more)
    }
}
