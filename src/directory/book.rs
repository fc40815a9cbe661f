//! The open directory, while one change is made: what every kind of change shares.
//!
//! Owner: the thread that writes. All of a change happens inside one transaction, with others
//! beside it; it gathers the orders that shards get once that is committed.

use super::sql::{Outcome, audience_of, is_there, one, run, sql, value};
use super::{Fault, Rules};
use crate::limits;
use crate::state::order::{Order, Person};
use rusqlite::{Connection, params};

/// What a user is: the column `state`.
pub(super) const LIVES: i64 = 0;
/// Suspended by the operator.
pub(super) const SUSPENDED: i64 = 1;
/// Being deleted.
pub(super) const ENDING: i64 = 2;

/// See the module.
pub(super) struct Book<'a> {
    pub(super) db: &'a Connection,
    pub(super) rules: &'a Rules,
    /// Seconds since 1970.
    pub(super) now_s: u64,
    /// What shards are to be told.
    pub(super) orders: Vec<Order>,
    /// Somebody's end began.
    pub(super) ended: Option<u64>,
    /// Events that made room for newer ones.
    pub(super) events_dropped: u64,
}

impl Book<'_> {
    /// A row's state; none: nothing is known of the user.
    pub(super) fn state(&self, user: u64) -> Outcome<Option<i64>> {
        Ok(value(self.db, "SELECT state FROM users WHERE user = ?", [sql(user)])?)
    }

    /// Makes sure that a user who asks has a row: an operator's own identity gets one by need.
    pub(super) fn need_user(&self, user: u64) -> Outcome<()> {
        match self.state(user)? {
            Some(ENDING) => Err(Fault::Unknown("user").into()),
            Some(_) => Ok(()),
            None if self.rules.foreign && user != 0 => {
                self.room_for_user()?;
                let text = "INSERT INTO users (user, created_s) VALUES (?, ?)";
                run(self.db, text, params![sql(user), sql(self.now_s)])?;
                Ok(())
            }
            None => Err(Fault::Unknown("user").into()),
        }
    }

    /// That shards will have room for one more: or the next start would not. Accounts that are gone
    /// keep their rows there, and these are bounded, too.
    pub(super) fn room_for_user(&self) -> Outcome<()> {
        let max = self.rules.users_max;
        let count = |what| -> Outcome<u64> {
            let text = "SELECT value FROM counts WHERE what = ?";
            let count: Option<i64> = value(self.db, text, [what])?;
            Ok(count.unwrap_or(0).cast_unsigned())
        };
        let (users, gone) = (count("users")?, count("gone")?);
        if users >= max {
            return Err(Fault::Full { what: "users on this server", max }.into());
        }
        let max = max.saturating_mul(limits::ROWS_PER_USER_MAX as u64);
        if users + gone >= max {
            let what = "users on this server, with those who were deleted";
            return Err(Fault::Full { what, max }.into());
        }
        Ok(())
    }

    /// Makes sure that somebody who is spoken of may exist.
    pub(super) fn need_other(&self, other: u64) -> Outcome<()> {
        match self.state(other)? {
            Some(ENDING) => Err(Fault::Unknown("user").into()),
            Some(_) => Ok(()),
            None if self.rules.foreign && other != 0 => Ok(()),
            None => Err(Fault::Unknown("user").into()),
        }
    }

    /// Tells shards what they need to know of a user.
    pub(super) fn tell_person(&mut self, user: u64) -> Outcome<()> {
        let text = "SELECT state, receipts_off, last_seen, marks_requests FROM users \
                    WHERE user = ?";
        let person = one(self.db, text, [sql(user)], |row| {
            Ok(Person {
                suspended: row.get::<_, i64>(0)? != LIVES,
                receipts_off: row.get(1)?,
                last_seen: audience_of(row, 2)?,
                marks_requests: row.get(3)?,
            })
        })?;
        let person = person.ok_or(Fault::Unknown("user"))?;
        self.orders.push(Order::Person { user, person });
        Ok(())
    }

    /// An id nobody has or had.
    pub(super) fn fresh_user(&self) -> Outcome<u64> {
        loop {
            let random = getrandom::u64().map_err(|_| Fault::Unavailable)?;
            let user = random & limits::USER_ID_MAX;
            let taken = "SELECT 1 FROM users WHERE user = ?1 UNION ALL \
                         SELECT 1 FROM gone WHERE user = ?1";
            if user != 0 && !is_there(self.db, taken, [sql(user)])? {
                return Ok(user);
            }
        }
    }

    /// Leaves an event for the webhook, if there is one. The oldest makes room.
    pub(super) fn emit(&mut self, kind: &str, user: u64, body: &str) -> Outcome<()> {
        if !self.rules.webhook {
            return Ok(());
        }
        let waiting: Option<i64> =
            value(self.db, "SELECT value FROM counts WHERE what = 'events'", [])?;
        if waiting.is_some_and(|waiting| waiting.cast_unsigned() >= limits::EVENTS_WAITING_MAX) {
            let text = "DELETE FROM events WHERE id = (SELECT min(id) FROM events)";
            self.events_dropped += run(self.db, text, [])? as u64;
        }
        let text = "INSERT INTO events (kind, user, body, at_s, next_s) VALUES (?, ?, ?, ?4, ?4)";
        run(self.db, text, params![kind, sql(user), body, sql(self.now_s)])?;
        Ok(())
    }
}
