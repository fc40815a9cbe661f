//! Tells the operator that the file can't be used, not too often.

use crate::limits;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When that was told last. Shared by the threads that use the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Complaints(Arc<Mutex<Option<Instant>>>);

impl Complaints {
    /// Tells it. Never with values of a statement: SQLite's words name columns only.
    pub(super) fn tell(&self, error: &rusqlite::Error) {
        let silence = Duration::from_millis(limits::DIRECTORY_SILENCE_MS);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|told| told.elapsed() < silence) {
            return;
        }
        *last = Some(Instant::now());
        eprintln!(
            "myriad: the directory can't use its files: {error}. Accounts can't be changed until \
             that is over; messages go on. Look at the disk below the data folder (space, rights, \
             errors)"
        );
    }
}
