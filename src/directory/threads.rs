//! Starts and ends the directory's threads, and carries out what runs beside them.

use super::complaint::Complaints;
use super::ending::{End, Ender};
use super::load::{self, FillError, Filled};
use super::passwords::Passwords;
use super::read::Reader;
use super::schema::{self, OpenError};
use super::tell::{Tell, Teller};
use super::way::UnderWay;
use super::write::{Scribe, Write, Writer, transaction};
use super::{Directory, Options, Rules, SendOrder, ToShards};
use crate::limits;
use crate::state::Tables;
use crate::state::order::Order;
use rusqlite::Connection;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// The running directory.
pub struct Threads {
    folder: PathBuf,
    directory: Directory,
    passwords: Passwords,
    tell: Sender<Tell>,
    end: Sender<End>,
    to_shards: ToShards,
    stop: Arc<AtomicBool>,
    workers: Workers,
}

struct Workers {
    hashers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    scribe: JoinHandle<()>,
    teller: JoinHandle<()>,
    ender: JoinHandle<()>,
}

impl fmt::Debug for Threads {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Threads").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Threads {
    /// Opens the directory and starts its threads. Orders wait until [`Threads::hang`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn start(options: Options) -> Result<Self, OpenError> {
        let Options { folder, rules, password_threads, clock } = options;
        let rules = Arc::new(rules);
        let db = schema::open(&folder)?;
        let fail = |error| OpenError::File(folder.clone(), error);
        forget_requests(&db, &rules, clock()).map_err(fail)?;
        let (passwords, hashers) = Passwords::start(password_threads.max(1))?;
        let (to_write, write_told) = channel();
        let (reads, read_told) = channel();
        let (tell, tell_told) = channel();
        let (end, end_told) = channel();
        begin_again(&db, &tell, &end).map_err(fail)?;
        let to_shards = ToShards::default();
        let stop = Arc::new(AtomicBool::new(false));
        let events_dropped = Arc::new(AtomicU64::new(0));
        let complaints = Complaints::default();
        let writer = Writer(to_write);
        let scribe = Scribe {
            db,
            rules: Arc::clone(&rules),
            clock: Arc::clone(&clock),
            told: write_told,
            tell: tell.clone(),
            end: end.clone(),
            events_dropped: Arc::clone(&events_dropped),
            swept: Instant::now(),
            complaints: complaints.clone(),
        };
        let shards = || Arc::clone(&to_shards);
        let teller = Teller::new((tell.clone(), tell_told), shards(), writer.clone());
        let ender = Ender {
            told: end_told,
            to_shards: shards(),
            writer: writer.clone(),
            clock: Arc::clone(&clock),
            stop: Arc::clone(&stop),
        };
        let told = Arc::new(Mutex::new(read_told));
        let readers = (0..limits::DIRECTORY_READERS).map(|index| {
            let reader = Reader {
                db: schema::open_to_read(&folder)?,
                rules: Arc::clone(&rules),
                clock: Arc::clone(&clock),
                told: Arc::clone(&told),
                writer: writer.clone(),
                passwords: passwords.clone(),
                events_dropped: Arc::clone(&events_dropped),
                complaints: complaints.clone(),
            };
            spawn(&format!("directory-read-{index}"), move || reader.run())
        });
        let workers = Workers {
            hashers,
            readers: readers.collect::<Result<_, _>>()?,
            scribe: spawn("directory", move || scribe.run())?,
            teller: spawn("directory-tell", move || teller.run())?,
            ender: spawn("directory-end", move || ender.run())?,
        };
        let directory = Directory { under_way: UnderWay::default(), reads, writer };
        Ok(Self { folder, directory, passwords, tell, end, to_shards, stop, workers })
    }

    /// The way to it.
    #[must_use]
    pub fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// Hands what shards need to know over to their tables: before they run.
    ///
    /// # Errors
    /// The tables have no room, or the file can't be read.
    pub fn fill(&self, tables: &mut [Tables], now_s: u64) -> Result<Filled, FillError> {
        let db = schema::open_to_read(&self.folder).map_err(|error| match error {
            OpenError::File(_, error) => FillError::Sql(error),
            _ => FillError::Sql(rusqlite::Error::InvalidQuery),
        })?;
        load::fill(&db, tables, now_s)
    }

    /// From now on orders go to shards.
    pub fn hang(&self, send: SendOrder) {
        let _hung_once = self.to_shards.set(send);
    }

    /// How its file is copied.
    #[must_use]
    pub fn copier(&self) -> Copier {
        Copier { folder: self.folder.clone() }
    }

    /// How many passwords were hashed or checked since the start.
    #[must_use]
    pub fn hashes_count(&self) -> u64 {
        self.passwords.hashed()
    }

    /// Ends it, after the shards. What was taken is finished; what comes later is refused.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        let Workers { hashers, readers, scribe, teller, ender } = self.workers;
        for _ in &readers {
            let _ended = self.directory.reads.send(None);
        }
        join(readers);
        for _ in &hashers {
            self.passwords.stop_one();
        }
        join(hashers);
        // What was written is told before who tells it ends.
        let _ended = self.directory.writer.0.send(Write::Stop);
        join(vec![scribe]);
        let _ended = self.tell.send(Tell::Stop);
        let _ended = self.end.send(End::Stop);
        join(vec![teller, ender]);
    }
}

/// Copies the file while it is in use.
#[derive(Clone, Debug)]
pub struct Copier {
    folder: PathBuf,
}

impl Copier {
    /// Writes a copy into the folder `to`, which exists: all of it as it was at one moment.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn copy(&self, to: &Path) -> Result<(), String> {
        schema::copy(&self.folder, to).map_err(|error| error.to_string())
    }
}

/// What the last start left undone: ends no shard has obeyed yet.
fn begin_again(db: &Connection, tell: &Sender<Tell>, end: &Sender<End>) -> rusqlite::Result<()> {
    let ends = load::untold(db)?;
    let order = |(user, device, not_before_s)| Order::EndDevice { user, device, not_before_s };
    let _listened_to_later = tell.send(Tell::Orders(ends.into_iter().map(order).collect(), None));
    for user in load::ending(db)? {
        let _listened_to_later = end.send(End::User(user, None));
    }
    Ok(())
}

fn forget_requests(db: &Connection, rules: &Rules, now_s: u64) -> rusqlite::Result<()> {
    let forgotten = transaction(db, rules, now_s, |book| book.abandon_all());
    match forgotten {
        Ok(_) | Err(super::sql::Stop::Fault(_)) => Ok(()),
        Err(super::sql::Stop::Sql(error)) => Err(error),
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        let _its_panic_was_printed = thread.join();
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(OpenError::Thread)
}
