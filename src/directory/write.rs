//! The one thread that writes: takes what waits, makes it one transaction, answers after it.
//!
//! A commit waits for the disk, so changes that wait for the same one share it. Each is still whole
//! or not at all: one that is refused takes back what it did and leaves the others alone.

use super::accounts::Newcomer;
use super::book::Book;
use super::complaint::Complaints;
use super::ending::End;
use super::sql::{Outcome, Stop};
use super::tell::Tell;
use super::way::Way;
use super::{Answer, Clock, Command, Fault, Register, Rules};
use crate::limits;
use crate::state::order::Order;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// A change.
pub(super) enum Change {
    /// As it was asked.
    Command(Command),
    /// Somebody registers, with the hash of the password.
    Register { register: Register, hash: String },
    /// The password was right; it was held against `seen`.
    LogIn { user: u64, seen: String, device: Option<u32>, label: String },
    /// The old password was right.
    SetPassword { user: u64, keep: u32, seen: String, hash: String },
    /// Somebody is made by the operator.
    Provision { user: Option<u64>, newcomer: Newcomer },
    /// The end of a user begins.
    BeginEnd { user: u64 },
    /// The last step of it.
    Bury { user: u64, not_before_s: u64 },
    /// A device's home has obeyed its end.
    Told { user: u64, device: u32, not_before_s: u64 },
}

/// What the thread is told.
pub(super) enum Write {
    /// Make this change and answer.
    Change(Change, Option<Way>),
    /// End, after what was told before.
    Stop,
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Writer(pub(super) Sender<Write>);

impl Writer {
    /// Has a change made.
    pub(super) fn send(&self, change: Change, way: Option<Way>) {
        // If the thread has ended the way answers for itself.
        let _ended = self.0.send(Write::Change(change, way));
    }

    /// Has a change made that nobody waits for.
    pub(super) fn note(&self, change: Change) {
        self.send(change, None);
    }
}

/// The thread.
pub(super) struct Scribe {
    pub(super) db: Connection,
    pub(super) rules: Arc<Rules>,
    pub(super) clock: Clock,
    pub(super) told: Receiver<Write>,
    pub(super) tell: Sender<Tell>,
    pub(super) end: Sender<End>,
    pub(super) events_dropped: Arc<AtomicU64>,
    pub(super) swept: Instant,
    pub(super) complaints: Complaints,
}

/// What became of one change, until it is durable.
struct Made {
    way: Option<Way>,
    answer: Result<Answer, Fault>,
    orders: Vec<Order>,
    ended: Option<u64>,
    events_dropped: u64,
}

impl Scribe {
    /// The body of the thread.
    pub(super) fn run(mut self) {
        let sweep = Duration::from_millis(limits::DIRECTORY_SWEEP_MS);
        let mut stop = false;
        while !stop {
            let rest = sweep.saturating_sub(self.swept.elapsed());
            if rest.is_zero() {
                self.sweep();
            }
            let mut batch = Vec::new();
            match self.told.recv_timeout(rest) {
                Ok(Write::Change(change, way)) => batch.push((change, way)),
                Ok(Write::Stop) | Err(RecvTimeoutError::Disconnected) => stop = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            while !stop
                && !batch.is_empty()
                && batch.len() < limits::DIRECTORY_CHANGES_PER_COMMIT_MAX
            {
                match self.told.try_recv() {
                    Ok(Write::Change(change, way)) => batch.push((change, way)),
                    Ok(Write::Stop) => stop = true,
                    Err(_) => break,
                }
            }
            if !batch.is_empty() {
                self.write(batch);
            }
        }
        // The next start has nothing to recover then.
        let _only_slower = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    /// Makes changes durable together, then tells shards and answers.
    fn write(&mut self, batch: Vec<(Change, Option<Way>)>) {
        let began = self.db.execute_batch("BEGIN IMMEDIATE");
        let began = began.map_err(|error| self.complaints.tell(&error)).is_ok();
        let mut made = Vec::with_capacity(batch.len());
        for (change, way) in batch {
            made.push(if began { self.make(change, way) } else { refused(way) });
        }
        let kept = began
            && match self.db.execute_batch("COMMIT") {
                Ok(()) => true,
                Err(error) => {
                    self.complaints.tell(&error);
                    let _it_may_be_over = self.db.execute_batch("ROLLBACK");
                    false
                }
            };
        for one in made {
            self.tell(if kept { one } else { refused(one.way) });
        }
    }

    fn tell(&self, made: Made) {
        let Made { way, answer, orders, ended, events_dropped } = made;
        self.events_dropped.fetch_add(events_dropped, Ordering::Relaxed);
        match (answer, ended) {
            (Ok(_), Some(user)) => {
                let _ended = self.end.send(End::User(user, way));
            }
            (Ok(answer), None) if !orders.is_empty() => {
                let _ended = self.tell.send(Tell::Orders(orders, way.map(|way| (answer, way))));
            }
            (answer, _) => {
                // A refusal that changed something (a device that ended) is not waited for.
                if !orders.is_empty() {
                    let _ended = self.tell.send(Tell::Orders(orders, None));
                }
                if let Some(way) = way {
                    way.answer(answer);
                }
            }
        }
    }

    /// Makes one change within the transaction, or takes it back.
    fn make(&mut self, change: Change, way: Option<Way>) -> Made {
        let now_s = (self.clock)();
        match one(&self.db, &self.rules, now_s, change) {
            Ok((answer, made)) => Made { way, answer, ..made },
            Err(Stop::Fault(fault)) => Made { answer: Err(fault), ..refused(way) },
            Err(Stop::Sql(error)) => {
                self.complaints.tell(&error);
                refused(way)
            }
        }
    }

    fn sweep(&mut self) {
        self.swept = Instant::now();
        let now_s = (self.clock)();
        let swept = transaction(&self.db, &self.rules, now_s, |book| book.sweep());
        match swept {
            Ok(orders) if orders.is_empty() => {}
            Ok(orders) => {
                let _ended = self.tell.send(Tell::Orders(orders, None));
            }
            Err(Stop::Sql(error)) => self.complaints.tell(&error),
            Err(Stop::Fault(_)) => {}
        }
    }
}

fn refused(way: Option<Way>) -> Made {
    let answer = Err(Fault::Unavailable);
    Made { way, answer, orders: Vec::new(), ended: None, events_dropped: 0 }
}

/// One change within a transaction: whole, or not at all.
fn one(
    db: &Connection,
    rules: &Rules,
    now_s: u64,
    change: Change,
) -> Outcome<(Result<Answer, Fault>, Made)> {
    db.prepare_cached("SAVEPOINT one")?.execute([])?;
    let mut book = Book { db, rules, now_s, orders: Vec::new(), ended: None, events_dropped: 0 };
    match apply(&mut book, change) {
        Ok(answer) => {
            let Book { orders, ended, events_dropped, .. } = book;
            db.prepare_cached("RELEASE one")?.execute([])?;
            Ok((answer, Made { orders, ended, events_dropped, ..refused(None) }))
        }
        Err(stop) => {
            db.prepare_cached("ROLLBACK TO one")?.execute([])?;
            db.prepare_cached("RELEASE one")?.execute([])?;
            Err(stop)
        }
    }
}

/// Carries something out in a transaction of its own. Returns what shards are to be told.
pub(super) fn transaction(
    db: &Connection,
    rules: &Rules,
    now_s: u64,
    act: impl FnOnce(&mut Book<'_>) -> Outcome<()>,
) -> Outcome<Vec<Order>> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    let mut book = Book { db, rules, now_s, orders: Vec::new(), ended: None, events_dropped: 0 };
    let acted = act(&mut book);
    let orders = book.orders;
    match acted.and_then(|()| Ok(db.execute_batch("COMMIT")?)) {
        Ok(()) => Ok(orders),
        Err(stop) => {
            let _it_may_be_over = db.execute_batch("ROLLBACK");
            Err(stop)
        }
    }
}

/// Makes a change. The inner result: a refusal that is kept with what it changed.
fn apply(book: &mut Book<'_>, change: Change) -> Outcome<Result<Answer, Fault>> {
    let answer = match change {
        Change::Command(Command::Refresh { token }) => return book.refresh(&token),
        Change::Command(command) => command_of(book, command),
        Change::Register { register, hash } => book.register(&register, hash),
        Change::LogIn { user, seen, device, label } => book.log_in(user, &seen, device, &label),
        Change::SetPassword { user, keep, seen, hash } => {
            book.set_password(user, keep, (&seen, &hash))
        }
        Change::Provision { user, newcomer } => book.provision(user, newcomer),
        Change::BeginEnd { user } => book.begin_end(user).map(|()| Answer::Done),
        Change::Bury { user, not_before_s } => book.bury(user, not_before_s),
        Change::Told { user, device, not_before_s } => {
            book.told(user, device, not_before_s).map(|()| Answer::Done)
        }
    };
    answer.map(Ok)
}

fn command_of(book: &mut Book<'_>, command: Command) -> Outcome<Answer> {
    match command {
        Command::EndDevice { user, device } => book.log_out(user, device),
        Command::Edit { user, edit } => book.edit(user, *edit),
        Command::PutContact { user, other, alias } => book.put_contact(user, other, &alias),
        Command::EndContact { user, other } => book.end_contact(user, other),
        Command::Block { user, other } => book.block(user, other),
        Command::Unblock { user, other } => book.unblock(user, other),
        Command::AskToAdd { by, target, group } => book.ask_to_add(by, target, group),
        Command::EndInvitation { user, id } => book.end_invitation(user, id),
        Command::Uninvite { target, group } => book.uninvite(target, group),
        Command::Report(report) => book.report(&report),
        Command::CloseReport { id, note } => book.close_report(id, &note),
        Command::Suspend { user, note } => book.suspend(user, &note),
        Command::Unsuspend { user } => book.unsuspend(user),
        Command::MakeInvite { uses, valid_s, note } => book.make_invite(uses, valid_s, &note),
        Command::EndInvite { id } => book.end_invite(id),
        Command::Begin { user, key, request } => book.begin(user, &key, &request),
        Command::Finish { user, key, status, body } => book.finish(user, &key, (status, &body)),
        Command::Abandon { user, key } => book.abandon(user, &key),
        Command::Emit { kind, user, body } => book.emit_own(&kind, user, &body),
        Command::EventSent { id } => book.event_sent(id),
        Command::EventFailed { id, retry_at_s } => book.event_failed(id, retry_at_s),
        // The others are asked elsewhere: `read` says which.
        _ => Err(Fault::Unavailable.into()),
    }
}
