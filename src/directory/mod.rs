//! The directory: accounts, devices, profiles, settings, contacts, blocks, in SQLite.
//!
//! Owner: threads of its own, never a shard. A [`Directory`] is the way to them for whoever may
//! wait: the HTTP API and the start of the server. The truth of what it keeps is in its files;
//! shards hold copies of what the message path needs and are told of every change by an order
//! (`state::order`).
//!
//! Invariants: a change is one transaction; it is durable before shards are told, and they have
//! obeyed before it is answered. Nothing here shows a [`Secret`]. Every queue is bounded; a full
//! one answers [`Fault::Overloaded`] at once.
//!
//! Deliberately not here: groups (streams of the log), who may call what (the HTTP API), rate
//! limits.

mod answer;
mod command;
mod secret;

pub use answer::{
    Account, Answer, Begun, Card, Contact, Counts, Device, Event, Fault, GroupAdd, Invitation,
    Invite, ReportCard, Session, Standing,
};
pub use command::{Command, Edit, Page, Register, Report};
pub use secret::Secret;

use std::fmt;
use std::sync::mpsc::{SyncSender, TrySendError};

/// The way back of a command. It is called once, on a thread of the directory or of a shard, so
/// it must not block: it may only put the answer somewhere.
pub type Reply = Box<dyn FnOnce(Result<Answer, Fault>) + Send>;

/// A command with its way back.
struct Asked {
    command: Command,
    reply: Reply,
}

/// The way to the directory. Cheap to clone; all clones lead to the same one.
#[derive(Clone)]
pub struct Directory {
    asked: SyncSender<Asked>,
}

impl Directory {
    /// Asks. `reply` gets the answer later, or [`Fault::Overloaded`] at once, on the calling
    /// thread, if too much waits.
    pub fn ask(
        &self,
        command: Command,
        reply: impl FnOnce(Result<Answer, Fault>) + Send + 'static,
    ) {
        let asked = Asked { command, reply: Box::new(reply) };
        match self.asked.try_send(asked) {
            Ok(()) => {}
            Err(TrySendError::Full(asked) | TrySendError::Disconnected(asked)) => {
                (asked.reply)(Err(Fault::Overloaded));
            }
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Directory")
    }
}
