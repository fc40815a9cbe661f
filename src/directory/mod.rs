//! The directory: accounts, devices, profiles, settings, contacts, blocks, in SQLite.
//!
//! Owner: threads of its own, never a shard. A [`Directory`] is the way to them for whoever may
//! wait: the HTTP API and the start of the server. The truth of what it keeps is in its file;
//! shards hold copies of what the message path needs and are told of every change by an order
//! (`state::order`).
//!
//! ```text
//!  ask ──▶ read (2) ──question──▶ answer
//!   │        └─password─▶ passwords (2) ─┐
//!   └────────────change──────────────────┴─▶ write (1) ──commit──▶ tell ──▶ shards ──▶ answer
//!                                                 └──end of a user──▶ end ──▶ shards
//! ```
//!
//! Invariants: a change is one transaction; it is durable before shards are told, and they have
//! obeyed before it is answered. Nothing here shows a [`Secret`]. How many commands are under way
//! is bounded; one too many is answered [`Fault::Overloaded`] at once.
//!
//! Deliberately not here: groups (streams of the log), who may call what (the HTTP API), rate
//! limits.

mod accounts;
mod answer;
mod book;
mod check;
mod command;
mod complaint;
mod devices;
mod ending;
mod kept;
mod load;
mod operator;
mod passwords;
mod profile;
mod read;
mod schema;
mod secret;
mod sql;
mod tell;
mod threads;
mod ties;
mod view;
mod way;
mod write;

#[cfg(test)]
mod tests;

pub use crate::config::Registration;
pub use answer::{
    Account, Answer, Begun, Card, Contact, Counts, Device, Event, Fault, GroupAdd, Invitation,
    Invite, ReportCard, Session, Standing,
};
pub use command::{Command, Edit, Page, Register, Report};
pub use load::{FillError, Filled};
pub use schema::{OpenError, is_there};
pub use secret::Secret;
pub use threads::{Copier, Threads};

use crate::auth::OwnKey;
use crate::state::order::{self, Order};
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use way::{UnderWay, Way};
use write::{Change, Writer};

/// The way back of a command. It is called once, on a thread of the directory, which it must not
/// block: it may only put the answer somewhere.
pub type Reply = Box<dyn FnOnce(Result<Answer, Fault>) + Send>;

/// The time, in seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Sends an order to its home.
pub type SendOrder = Box<dyn Fn(Order, order::Reply) + Send + Sync>;

/// Where orders go, once there are shards.
type ToShards = Arc<OnceLock<SendOrder>>;

/// What a directory is started with.
pub struct Options {
    /// Its folder; made if it is not there.
    pub folder: PathBuf,
    /// How it decides.
    pub rules: Rules,
    /// Threads that hash passwords, at least 1.
    pub password_threads: usize,
    /// The time.
    pub clock: Clock,
}

/// How the directory decides.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who may register.
    pub registration: Registration,
    /// Users there may be: as many as shards remember.
    pub users_max: u64,
    /// How long an access token is good, in seconds.
    pub access_s: u64,
    /// The operator's own tokens name users too: whoever they name exists, and gets a row when
    /// there is something to keep.
    pub foreign: bool,
    /// Events are kept for a webhook.
    pub webhook: bool,
    /// Signs access tokens.
    pub own: OwnKey,
}

impl fmt::Debug for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Options");
        out.field("folder", &self.folder).field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// The way to the directory. Cheap to clone; all clones lead to the same one.
#[derive(Clone)]
pub struct Directory {
    under_way: UnderWay,
    reads: Sender<Option<(Command, Way)>>,
    writer: Writer,
}

impl Directory {
    /// Asks. `reply` gets the answer later, or [`Fault::Overloaded`] at once, on the calling
    /// thread, if too much is under way.
    pub fn ask(
        &self,
        command: Command,
        reply: impl FnOnce(Result<Answer, Fault>) + Send + 'static,
    ) {
        let way = match self.under_way.enter(Box::new(reply)) {
            Ok(way) => way,
            Err(reply) => return reply(Err(Fault::Overloaded)),
        };
        if read::is_read(&command) {
            // If the threads have ended the way answers for itself.
            let _ended = self.reads.send(Some((command, way)));
        } else {
            self.writer.send(Change::Command(command), Some(way));
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Directory")
    }
}
