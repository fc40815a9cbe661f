//! The threads that read, and where each command begins.
//!
//! A question is answered here, from what was committed last, and waits for no sync. What needs a
//! password looks up the hash here, goes to the threads that hash, and from there to the one that
//! writes. All other changes go there at once.

use super::accounts::{Newcomer, invite_hash};
use super::complaint::Complaints;
use super::passwords::Passwords;
use super::sql::{Outcome, Stop, is_there, sql};
use super::way::Way;
use super::write::{Change, Writer};
use super::{Answer, Clock, Command, Fault, Register, Registration, Rules, Secret, check, view};
use crate::limits;
use rusqlite::{Connection, params};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

/// What waits for the threads that read; `None`: one of them ends.
pub(super) type Questions = Receiver<Option<(Command, Way)>>;

/// A thread that reads.
pub(super) struct Reader {
    pub(super) db: Connection,
    pub(super) rules: Arc<Rules>,
    pub(super) clock: Clock,
    pub(super) told: Arc<Mutex<Questions>>,
    pub(super) writer: Writer,
    pub(super) passwords: Passwords,
    pub(super) events_dropped: Arc<AtomicU64>,
    pub(super) complaints: Complaints,
}

/// Whether a command begins at a thread that reads.
pub(super) fn is_read(command: &Command) -> bool {
    !matches!(
        command,
        Command::Refresh { .. }
            | Command::EndDevice { .. }
            | Command::Edit { .. }
            | Command::PutContact { .. }
            | Command::EndContact { .. }
            | Command::Block { .. }
            | Command::Unblock { .. }
            | Command::AskToAdd { .. }
            | Command::EndInvitation { .. }
            | Command::Uninvite { .. }
            | Command::Report(_)
            | Command::CloseReport { .. }
            | Command::Suspend { .. }
            | Command::Unsuspend { .. }
            | Command::MakeInvite { .. }
            | Command::EndInvite { .. }
            | Command::Begin { .. }
            | Command::Finish { .. }
            | Command::Abandon { .. }
            | Command::Emit { .. }
            | Command::EventSent { .. }
            | Command::EventFailed { .. }
    )
}

impl Reader {
    /// The body of the thread.
    pub(super) fn run(self) {
        loop {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Some((command, way))) = told else { return };
            self.begin(command, way);
        }
    }

    fn begin(&self, command: Command, way: Way) {
        match command {
            Command::Register(register) => self.register(register, way),
            Command::LogIn { handle, password, device, label } => {
                self.log_in(&handle, password, (device, label), way);
            }
            Command::SetPassword { user, keep, old, new } => {
                self.set_password((user, keep), old, new, way);
            }
            Command::DeleteUser { user, password } => self.delete(user, password, way),
            Command::Provision { user, name, phone, password } => {
                self.provision(user, Newcomer { name, phone, hash: None }, password, way);
            }
            question => way.answer(self.told(self.look(question))),
        }
    }

    /// What who asked is told. What the file refuses is told to the operator.
    fn told<T>(&self, outcome: Outcome<T>) -> Result<T, Fault> {
        outcome.map_err(|stop| match stop {
            Stop::Fault(fault) => fault,
            Stop::Sql(error) => {
                self.complaints.tell(&error);
                Fault::Unavailable
            }
        })
    }

    fn look(&self, question: Command) -> Outcome<Answer> {
        let (db, rules) = (&self.db, &*self.rules);
        match question {
            Command::Standing { user, device, issued_s } => {
                view::standing(db, rules, user, (device, issued_s))
            }
            Command::Devices { user } => view::devices(db, user),
            Command::Account { user } => view::account(db, rules, user),
            Command::Card { by, user } => view::card(db, rules, by, user),
            Command::Find { by, handle } => view::find(db, by, &handle),
            Command::Contacts(page) => view::contacts(db, rules, page),
            Command::Blocks(page) => view::blocks(db, page),
            Command::Invitations(page) => view::invitations(db, page),
            Command::Invitation { user, id } => view::invitation(db, user, id),
            Command::Reports { open, after, limit } => view::reports(db, open, (after, limit)),
            Command::Users { prefix, suspended, after, limit } => {
                view::users(db, &prefix, suspended, (after, limit))
            }
            Command::Invites { after, limit } => view::invites(db, (self.clock)(), (after, limit)),
            Command::Counts => view::counts(db, self.events_dropped.load(Ordering::Relaxed)),
            Command::Events { limit } => view::events(db, (self.clock)(), limit),
            // The others are changes: `is_read` says which.
            _ => Err(Fault::Unavailable.into()),
        }
    }

    /// All that can be refused without a hash is refused before one is made.
    fn register(&self, register: Register, way: Way) {
        if let Err(fault) = self.told(self.may_register(&register)) {
            return way.answer(Err(fault));
        }
        let writer = self.writer.clone();
        self.passwords.push(way, move |hasher, way| match hasher.hash(&register.password) {
            Ok(hash) => writer.send(Change::Register { register, hash }, Some(way)),
            Err(fault) => way.answer(Err(fault)),
        });
    }

    fn may_register(&self, register: &Register) -> Outcome<()> {
        match self.rules.registration {
            Registration::Closed => return Err(Fault::Closed.into()),
            Registration::Open => {}
            Registration::Invite => {
                let code = register.invite.as_ref().ok_or(Fault::InviteNeeded)?;
                let text = "SELECT 1 FROM invites WHERE code = ? AND uses > 0 AND until_s > ?";
                let values = params![invite_hash(code), sql((self.clock)())];
                if !is_there(&self.db, text, values)? {
                    return Err(Fault::InviteNotGood.into());
                }
            }
        }
        check::password(register.password.expose())?;
        check::text("label", &register.label, limits::LABEL_BYTES_MAX)?;
        self.may_be_called(register.name.as_deref(), register.phone.as_deref())
    }

    fn may_be_called(&self, name: Option<&str>, phone: Option<&str>) -> Outcome<()> {
        if name.is_none() && phone.is_none() {
            let advice = "a name or a phone number is needed to log in";
            return Err(Fault::Invalid { field: "name", advice }.into());
        }
        let name = name.map(check::name).transpose()?.map(check::Handle::Name);
        let phone = phone.map(check::phone).transpose()?.map(check::Handle::Phone);
        if let Some(name) = name
            && view::found(&self.db, &name)?.is_some()
        {
            return Err(Fault::Taken("name").into());
        }
        if let Some(phone) = phone
            && view::found(&self.db, &phone)?.is_some()
        {
            return Err(Fault::Taken("phone number").into());
        }
        Ok(())
    }

    fn log_in(
        &self,
        handle: &str,
        password: Secret,
        (device, label): (Option<u32>, String),
        way: Way,
    ) {
        if let Err(fault) = check::text("label", &label, limits::LABEL_BYTES_MAX) {
            return way.answer(Err(fault));
        }
        // What can be nobody's name is nobody's: it takes as long.
        let found = match check::handle(handle) {
            Ok(handle) => self.told(view::found(&self.db, &handle)),
            Err(_) => Ok(None),
        };
        let known = match found {
            Ok(known) => known.and_then(|(user, hash)| Some((user, hash?))),
            Err(fault) => return way.answer(Err(fault)),
        };
        let writer = self.writer.clone();
        self.passwords.push(way, move |hasher, way| {
            let right = hasher.is_right(&password, known.as_ref().map(|(_, hash)| hash.as_str()));
            match known {
                Some((user, seen)) if right => {
                    writer.send(Change::LogIn { user, seen, device, label }, Some(way));
                }
                _ => way.answer(Err(Fault::WrongPassword)),
            }
        });
    }

    fn set_password(&self, (user, keep): (u64, u32), old: Secret, new: Secret, way: Way) {
        let seen = match self.told(view::password(&self.db, user)) {
            Ok(Some(seen)) => seen,
            Ok(None) => return way.answer(Err(Fault::Conflict("this account has no password"))),
            Err(fault) => return way.answer(Err(fault)),
        };
        if let Err(fault) = check::password(new.expose()) {
            return way.answer(Err(fault));
        }
        let writer = self.writer.clone();
        self.passwords.push(way, move |hasher, way| {
            if !hasher.is_right(&old, Some(&seen)) {
                return way.answer(Err(Fault::WrongPassword));
            }
            match hasher.hash(&new) {
                Ok(hash) => {
                    writer.send(Change::SetPassword { user, keep, seen, hash }, Some(way));
                }
                Err(fault) => way.answer(Err(fault)),
            }
        });
    }

    fn delete(&self, user: u64, password: Option<Secret>, way: Way) {
        let hash = match self.told(view::password(&self.db, user)) {
            Ok(hash) => hash,
            Err(fault) => return way.answer(Err(fault)),
        };
        let writer = self.writer.clone();
        // A user without a password is the operator's: its token was its proof.
        let (Some(password), Some(hash)) = (password, hash) else {
            return writer.send(Change::BeginEnd { user }, Some(way));
        };
        self.passwords.push(way, move |hasher, way| {
            if hasher.is_right(&password, Some(&hash)) {
                writer.send(Change::BeginEnd { user }, Some(way));
            } else {
                way.answer(Err(Fault::WrongPassword));
            }
        });
    }

    fn provision(&self, user: Option<u64>, newcomer: Newcomer, password: Option<Secret>, way: Way) {
        let writer = self.writer.clone();
        let Some(password) = password else {
            return writer.send(Change::Provision { user, newcomer }, Some(way));
        };
        let names = (newcomer.name.as_deref(), newcomer.phone.as_deref());
        let checked = check::password(password.expose());
        if let Err(fault) = checked.and_then(|()| self.told(self.may_be_called(names.0, names.1))) {
            return way.answer(Err(fault));
        }
        self.passwords.push(way, move |hasher, way| match hasher.hash(&password) {
            Ok(hash) => {
                let newcomer = Newcomer { hash: Some(hash), ..newcomer };
                writer.send(Change::Provision { user, newcomer }, Some(way));
            }
            Err(fault) => way.answer(Err(fault)),
        });
    }
}
