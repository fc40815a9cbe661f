//! The directory's file: where it is, how it is opened, how its tables came to be.
//!
//! Owner: whoever starts the directory. One connection writes, some only read. The write-ahead log
//! lets them do so at the same time; a reader sees what was committed when it began to ask, so an
//! answered change is seen by every later question. `synchronous = FULL` makes a commit durable
//! before it returns.

use crate::limits;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in the directory's folder.
const FILE: &str = "directory.sqlite";
/// Every version of the tables, as a change of the one before. Only ever added to.
const VERSIONS: &[M<'_>] =
    &[M::up(include_str!("schema/1.sql")), M::up(include_str!("schema/2.sql"))];

/// Why the directory can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder can't be made.
    #[error("{0} can't be made: {1}. Let this user write there")]
    Folder(PathBuf, std::io::Error),
    /// It can't be opened.
    #[error(
        "{0} can't be used: {1}. If it is damaged restore a backup; moving the folder away starts \
         with no accounts at all"
    )]
    File(PathBuf, rusqlite::Error),
    /// Its tables can't be brought to what this program knows.
    #[error(
        "the tables of {0} are none this program can bring up to date: {1}. Start the newer \
         version that wrote them, or restore a backup"
    )]
    Version(PathBuf, rusqlite_migration::Error),
    /// A thread can't be started.
    #[error("can't start a thread: {0}. Raise the limit on processes (ulimit -u)")]
    Thread(std::io::Error),
    /// The system gives no random numbers, or none that hash.
    #[error("can't prepare password hashes: {0}")]
    Hash(String),
}

/// Whether there is a directory in this folder.
#[must_use]
pub fn is_there(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Opens the file for writing, and makes or changes its tables as need be.
///
/// # Errors
/// See [`OpenError`].
pub(super) fn open(folder: &Path) -> Result<Connection, OpenError> {
    let path = folder.join(FILE);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|cause| OpenError::Folder(folder.to_owned(), cause))?;
    let fail = |cause| OpenError::File(path.clone(), cause);
    let mut db = Connection::open(&path).map_err(fail)?;
    prepare(&db).map_err(fail)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    db.pragma_update(None, "foreign_keys", true).map_err(fail)?;
    // What was deleted is overwritten where that costs no further write.
    db.pragma_update(None, "secure_delete", "FAST").map_err(fail)?;
    db.pragma_update(None, "journal_size_limit", limits::DIRECTORY_WAL_BYTES).map_err(fail)?;
    Migrations::from_slice(VERSIONS)
        .to_latest(&mut db)
        .map_err(|cause| OpenError::Version(path.clone(), cause))?;
    Ok(db)
}

/// Opens the file for reading; it exists and is up to date.
///
/// # Errors
/// See [`OpenError`].
pub(super) fn open_to_read(folder: &Path) -> Result<Connection, OpenError> {
    let path = folder.join(FILE);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let db = Connection::open_with_flags(&path, flags)?;
        prepare(&db)?;
        Ok(db)
    };
    open().map_err(|cause| OpenError::File(path.clone(), cause))
}

/// Writes a copy of the file into another folder: all of it as it was at one moment, whoever
/// writes meanwhile. It is durable when this returns.
///
/// # Errors
/// See [`OpenError`].
pub(super) fn copy(folder: &Path, to: &Path) -> Result<(), OpenError> {
    let path = to.join(FILE);
    let copy = || {
        let db = open_to_read(folder)?;
        let fail = |cause| OpenError::File(path.clone(), cause);
        db.execute("VACUUM INTO ?", [path.to_string_lossy()]).map_err(fail)?;
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        sync(&path).and_then(|()| sync(to)).map_err(|cause| OpenError::Folder(path.clone(), cause))
    };
    copy()
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_millis(limits::DIRECTORY_LOCK_MS))?;
    db.pragma_update(None, "cache_size", -limits::DIRECTORY_CACHE_KIB)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.set_prepared_statement_cache_capacity(128);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_made_once_and_a_newer_file_is_refused() {
        Migrations::from_slice(VERSIONS).validate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("directory");
        assert!(!is_there(&folder));
        let db = open(&folder).unwrap();
        let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        let sync: i64 = db.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), sync), ("wal", 2));
        drop(db);
        let db = open(&folder).unwrap();
        assert!(is_there(&folder));
        db.pragma_update(None, "user_version", 999).unwrap();
        drop(db);
        let refusal = open(&folder).unwrap_err().to_string();
        assert!(refusal.contains("newer"), "{refusal}");
    }

    #[test]
    fn who_only_reads_can_not_write() {
        let folder = tempfile::tempdir().unwrap();
        let _db = open(folder.path()).unwrap();
        let reader = open_to_read(folder.path()).unwrap();
        assert!(reader.execute("DELETE FROM users", []).is_err());
    }

    #[test]
    fn rubbish_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), vec![7u8; 8192]).unwrap();
        let refusal = open(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains("restore a backup"), "{refusal}");
    }
}
