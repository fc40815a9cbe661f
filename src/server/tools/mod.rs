//! What operators do to a data folder besides running a server on it.
//!
//! Owner: the command line, and for a backup of a running server its backup thread. Nothing here
//! is called by a shard. What is done, and when, stands in `docs/operations.md`.

mod backup;
mod folder;
mod waiting;

pub use backup::{BackupError, Entry, Manifest, Running, backup, check_backup, restore};
pub use folder::{FolderError, copy_folder, copy_into};
pub use waiting::{Unreadable, Waiting, WaitingError, waiting};
