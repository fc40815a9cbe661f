//! The database and the payload files as one thing that is changed by transactions.
//!
//! Owner: the history thread. A transaction is durable when it returned, and so are the payloads
//! it refers to; then what it gave up is overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};
use wire::Retention;

use super::HistoryError;
use super::batch::Batch;
use super::shelf::{Place, Shelf};
use super::tables::{CONVERSATIONS, ERASE, EXPIRIES, FILES, IDS, ITEMS, LEFT, META, PAYLOADS};
use crate::limits::HISTORY_CACHE_BYTES;

/// The version of the tables.
const VERSION: u64 = 1;

/// What an operator decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How long a conversation is kept whose user said nothing.
    pub retention: Retention,
    /// Items of one side of a conversation; the oldest go.
    pub items_max: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    database: Database,
    pub(super) shelf: Shelf,
    pub(super) rules: Rules,
    /// Number of the last commit of the log that was applied.
    done: u64,
    /// Some commits were gone when history came to read them: what was copied forward of them is
    /// the only record there is.
    has_gaps: bool,
    /// Bytes that live, per payload file.
    files: BTreeMap<u32, u64>,
    /// When the first item ends; `None`: none does.
    next_expiry_ms: Option<u64>,
    /// Users who are gone left something that is still there.
    has_left: bool,
    /// Something was given up and not overwritten yet.
    is_soiled: bool,
    /// Payload files that may have nothing that lives.
    unclean: BTreeSet<u32>,
}

impl Store {
    /// Opens history in `folder`, making it if need be, and finishes what a crash cut short.
    ///
    /// # Errors
    /// [`HistoryError`], with what to do about it.
    pub fn open(folder: &Path, rules: Rules) -> Result<Self, HistoryError> {
        Self::open_at(folder, rules).map_err(HistoryError::at_opening)
    }

    fn open_at(folder: &Path, rules: Rules) -> Result<Self, HistoryError> {
        let payloads = folder.join("payloads");
        let mut maker = DirBuilder::new();
        maker.recursive(true).mode(0o700).create(folder)?;
        let database = Builder::new()
            .set_cache_size(HISTORY_CACHE_BYTES)
            .create(folder.join("tables.redb"))?;
        let Start { newest, end, done, has_gaps } = start(&database)?;
        let mut store = Self {
            shelf: Shelf::open(&payloads, newest, end)?,
            files: files(&database)?,
            database,
            rules,
            done,
            has_gaps,
            next_expiry_ms: None,
            has_left: false,
            is_soiled: true,
            unclean: BTreeSet::new(),
        };
        let dead = store.files.iter().filter(|(_, live)| **live == 0);
        store.unclean = dead.map(|(file, _)| *file).collect();
        store.clean()?;
        Ok(store)
    }

    /// Number of the last commit of the log that was applied; 0: none.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// From now on, and for good: some commits were gone.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub(super) fn note_gaps(&mut self) -> Result<(), HistoryError> {
        self.has_gaps = true;
        self.write(|_| Ok(()))
    }

    /// When the first item ends, milliseconds since 1970; `None`: none does.
    pub(super) fn next_expiry_ms(&self) -> Option<u64> {
        self.next_expiry_ms
    }

    /// Users who are gone left something that is still there.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    /// These users are gone. For a history that did not see the records that say so.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing was changed then.
    pub fn end_users(&mut self, users: &[u64]) -> Result<(), HistoryError> {
        self.write(|batch| users.iter().try_for_each(|user| batch.end_user(*user)))
    }

    /// Bytes of payload that live.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.files.values().sum()
    }

    /// Changes tables and payloads together.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing was changed then.
    pub(super) fn write<T>(
        &mut self,
        act: impl FnOnce(&mut Batch<'_>) -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        self.change(|batch| Ok((None, act(batch)?)))
    }

    /// The same, and moves the cursor into the log to the number that `act` gives first.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing was changed then.
    pub(super) fn write_following<T>(
        &mut self,
        act: impl FnOnce(&mut Batch<'_>) -> Result<(u64, T), HistoryError>,
    ) -> Result<T, HistoryError> {
        self.change(|batch| act(batch).map(|(done, value)| (Some(done), value)))
    }

    fn change<T>(
        &mut self,
        act: impl FnOnce(&mut Batch<'_>) -> Result<(Option<u64>, T), HistoryError>,
    ) -> Result<T, HistoryError> {
        let before = self.shelf.end();
        let (done, value, freed) = match self.try_change(act) {
            Ok(written) => written,
            Err(error) => {
                self.shelf.back_to(before.0, before.1)?;
                return Err(error);
            }
        };
        self.done = done.unwrap_or(self.done);
        let mut touched: BTreeSet<u32> = freed.live.keys().copied().collect();
        touched.insert(before.0);
        self.files.extend(freed.live);
        self.is_soiled |= freed.erase;
        self.next_expiry_ms = Some(0); // until it is looked up
        self.unclean.extend(touched);
        // This transaction stands, whatever the disk says to what follows from it: the caller must
        // not apply it again. What is left over is done by the next one or at the next start.
        if let Err(error) = self.clean() {
            eprintln!("myriad: history could not overwrite what was deleted: {error}. It will");
        }
        Ok(value)
    }

    /// Overwrites what was given up and removes files in which nothing lives.
    fn clean(&mut self) -> Result<(), HistoryError> {
        self.next_expiry_ms = self.first_expiry()?;
        self.has_left = !self.read()?.open_table(LEFT)?.is_empty()?;
        if self.is_soiled {
            self.erase()?;
            self.is_soiled = false;
        }
        let candidates = std::mem::take(&mut self.unclean);
        self.remove_files(&candidates)
    }

    /// A view of the tables as they are.
    pub(super) fn read(&self) -> Result<ReadTransaction, HistoryError> {
        Ok(self.database.begin_read()?)
    }

    fn try_change<T>(
        &mut self,
        act: impl FnOnce(&mut Batch<'_>) -> Result<(Option<u64>, T), HistoryError>,
    ) -> Result<(Option<u64>, T, Freed), HistoryError> {
        let transaction = self.database.begin_write()?;
        let (done, value, freed) = {
            let Self { shelf, files, rules, has_gaps, .. } = self;
            let mut batch = Batch::open(&transaction, shelf, files, *rules, *has_gaps)?;
            let (done, value) = act(&mut batch)?;
            (done, value, batch.finish(done)?)
        };
        transaction.commit()?;
        Ok((done, value, freed))
    }

    /// Overwrites every payload that was given up.
    fn erase(&mut self) -> Result<(), HistoryError> {
        let places = {
            let table = self.database.begin_read()?.open_table(ERASE)?;
            let mut places = Vec::new();
            for entry in table.iter()? {
                let (at, bytes) = entry?;
                places.push(Place { at: at.value(), bytes: bytes.value() });
            }
            places
        };
        if places.is_empty() {
            return Ok(());
        }
        self.shelf.erase(&places)?;
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(ERASE)?;
            for place in &places {
                table.remove(place.at)?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Removes those of `candidates` in which nothing lives; never the newest, which is written.
    fn remove_files(&mut self, candidates: &BTreeSet<u32>) -> Result<(), HistoryError> {
        let newest = self.shelf.end().0;
        let lives = |file: &u32| self.files.get(file).is_some_and(|live| *live > 0);
        let dead: Vec<u32> =
            candidates.iter().copied().filter(|file| *file < newest && !lives(file)).collect();
        if dead.is_empty() {
            return Ok(());
        }
        for file in &dead {
            self.shelf.remove(*file)?;
            self.files.remove(file);
        }
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(FILES)?;
            for file in dead {
                table.remove(file)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn first_expiry(&self) -> Result<Option<u64>, HistoryError> {
        let table = self.database.begin_read()?.open_table(EXPIRIES)?;
        Ok(table.first()?.map(|(key, _)| key.value().0))
    }
}

/// What a transaction leaves to be done after it.
#[derive(Debug, Default)]
pub(super) struct Freed {
    /// Live bytes of the payload files that changed.
    pub(super) live: BTreeMap<u32, u64>,
    /// Payloads were given up.
    pub(super) erase: bool,
}

/// What the last transaction left.
struct Start {
    newest: u32,
    end: u64,
    done: u64,
    has_gaps: bool,
}

/// Makes all tables, checks their version, and says where the payload files end and which commit
/// was applied last.
fn start(database: &Database) -> Result<Start, HistoryError> {
    let transaction = database.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META)?;
        let of = |name: &str| -> Result<Option<u64>, HistoryError> {
            Ok(meta.get(name)?.map(|value| value.value()))
        };
        let version = of("version")?;
        if version.is_some_and(|version| version != VERSION) {
            return Err(HistoryError::Version(version.unwrap_or_default()));
        }
        let newest = u32::try_from(of("file")?.unwrap_or(1))
            .map_err(|_| HistoryError::Damaged("the number of a file"))?;
        let found = Start {
            newest,
            end: of("end")?.unwrap_or(0),
            done: of("done")?.unwrap_or(0),
            has_gaps: of("gaps")?.is_some_and(|gaps| gaps > 0),
        };
        meta.insert("version", VERSION)?;
        found
    };
    make(&transaction, CONVERSATIONS)?;
    make(&transaction, ITEMS)?;
    make(&transaction, IDS)?;
    make(&transaction, EXPIRIES)?;
    make(&transaction, PAYLOADS)?;
    make(&transaction, ERASE)?;
    make(&transaction, FILES)?;
    make(&transaction, LEFT)?;
    transaction.commit()?;
    Ok(found)
}

fn make<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), HistoryError> {
    transaction.open_table(table)?;
    Ok(())
}

fn files(database: &Database) -> Result<BTreeMap<u32, u64>, HistoryError> {
    let table = database.begin_read()?.open_table(FILES)?;
    let mut files = BTreeMap::new();
    for entry in table.iter()? {
        let (file, live) = entry?;
        files.insert(file.value(), live.value());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { retention: Retention::Permanent, items_max: 10 };

    /// Whether any payload file holds these bytes.
    fn holds(folder: &Path, text: &[u8]) -> bool {
        let files = std::fs::read_dir(folder.join("payloads")).unwrap();
        let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.unwrap().path());
        let mut contents = files.map(|entry| read(entry).unwrap());
        contents.any(|bytes| bytes.windows(text.len()).any(|part| part == text))
    }

    #[test]
    fn what_a_crash_left_to_be_overwritten_is_overwritten_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), RULES).unwrap();
        let place = store.write(|batch| batch.keep(b"given up", 1)).unwrap();
        assert_eq!(store.payload_bytes(), 8);
        // The transaction alone, without what follows it.
        store.try_change(|batch| batch.give_up(place).map(|()| (None, ()))).unwrap();
        assert!(holds(folder.path(), b"given up"));
        drop(store);
        let store = Store::open(folder.path(), RULES).unwrap();
        assert!(!holds(folder.path(), b"given up"));
        assert_eq!(store.payload_bytes(), 0);
    }

    #[test]
    fn what_a_failed_transaction_added_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), RULES).unwrap();
        let failed: Result<(), _> = store.write(|batch| {
            batch.keep(b"never kept", 1)?;
            batch.shelf.sync()?;
            Err(HistoryError::Damaged("a test"))
        });
        assert!(failed.is_err() && !holds(folder.path(), b"never kept"));
        store.write(|batch| batch.keep(b"kept", 1)).unwrap();
        assert!(holds(folder.path(), b"kept"));
        assert_eq!(store.payload_bytes(), 4);
    }

    #[test]
    fn a_payload_file_goes_when_nothing_in_it_lives() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path(), RULES).unwrap();
        let large = vec![7; 60_000];
        let count = usize::try_from(crate::limits::HISTORY_FILE_BYTES).unwrap() / large.len() + 1;
        let places = store.write(|batch| (0..count).map(|_| batch.keep(&large, 2)).collect());
        let places: Vec<Place> = places.unwrap();
        let files = || std::fs::read_dir(folder.path().join("payloads")).unwrap().count();
        assert_eq!(files(), 2);
        let give_up = |store: &mut Store| {
            store.write(|batch| places.iter().try_for_each(|place| batch.give_up(*place)))
        };
        give_up(&mut store).unwrap();
        assert_eq!(files(), 2, "the other side still has it");
        give_up(&mut store).unwrap();
        assert_eq!((files(), store.payload_bytes()), (1, 0), "the newest stays");
    }

    #[test]
    fn files_that_are_damaged_are_refused_with_what_to_do() {
        for (file, bytes) in [("tables.redb", &b"no tables"[..]), ("payloads", b"no folder")] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(file), bytes).unwrap();
            let refused = Store::open(folder.path(), RULES).unwrap_err();
            let text = refused.to_string();
            assert!(matches!(refused, HistoryError::Unopened(_)), "{file}: {text}");
            assert!(text.contains("move it away"), "{file}: {text}");
        }
    }

    #[test]
    fn tables_of_a_newer_program_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), RULES).unwrap();
        let transaction = store.database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("version", 2).unwrap();
        transaction.commit().unwrap();
        drop(store);
        assert!(matches!(Store::open(folder.path(), RULES), Err(HistoryError::Version(2))));
    }
}
