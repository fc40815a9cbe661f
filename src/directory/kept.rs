//! What the HTTP API keeps here: answers under idempotency keys, events for the webhook. And what
//! ends by time.

use super::book::Book;
use super::sql::{Outcome, all, id_of, one, run, sql, value};
use super::{Answer, Begun, Fault, check};
use crate::limits;
use rusqlite::params;

/// What ends by time: the rows of a table whose `at` is before a moment go.
const SWEPT: [(&str, u64); 4] = [
    (
        "DELETE FROM invitations WHERE id IN \
         (SELECT id FROM invitations WHERE at_s < ?1 ORDER BY at_s LIMIT ?2)",
        limits::INVITATION_S,
    ),
    (
        "DELETE FROM invites WHERE id IN \
         (SELECT id FROM invites WHERE until_s < ?1 ORDER BY until_s LIMIT ?2)",
        0,
    ),
    (
        "DELETE FROM requests WHERE (user, key) IN \
         (SELECT user, key FROM requests WHERE at_s < ?1 ORDER BY at_s LIMIT ?2)",
        limits::IDEMPOTENCY_S,
    ),
    (
        "DELETE FROM revoked WHERE (user, device) IN (SELECT user, device FROM revoked \
         WHERE not_before_s < ?1 AND told = 1 ORDER BY not_before_s LIMIT ?2)",
        limits::REVOCATION_S,
    ),
];

impl Book<'_> {
    /// A request with an idempotency key begins.
    pub(super) fn begin(&mut self, user: u64, key: &str, request: &[u8; 32]) -> Outcome<Answer> {
        check::text("key", key, limits::IDEMPOTENCY_KEY_BYTES_MAX)?;
        let text = "SELECT request, status, body FROM requests \
                    WHERE user = ? AND key = ? AND at_s > ?";
        let since = sql(self.now_s.saturating_sub(limits::IDEMPOTENCY_S));
        let known = one(self.db, text, params![sql(user), key, since], |row| {
            let body: Option<Vec<u8>> = row.get(2)?;
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<u16>>(1)?, body))
        })?;
        let begun = match known {
            Some((former, _, _)) if former != request => Begun::Other,
            Some((_, None, _)) => Begun::UnderWay,
            Some((_, Some(status), body)) => {
                Begun::Answered { status, body: body.unwrap_or_default() }
            }
            None => {
                self.room_for_request(user)?;
                let text = "INSERT OR REPLACE INTO requests (user, key, request, at_s) \
                            VALUES (?, ?, ?, ?)";
                run(self.db, text, params![sql(user), key, &request[..], sql(self.now_s)])?;
                Begun::First
            }
        };
        Ok(Answer::Begun(begun))
    }

    fn room_for_request(&self, user: u64) -> Outcome<()> {
        let max = match user {
            0 => limits::IDEMPOTENCY_NOBODY_MAX,
            _ => limits::IDEMPOTENCY_PER_USER_MAX,
        };
        let text = "SELECT count(*) FROM requests WHERE user = ?";
        let count: i64 = value(self.db, text, [sql(user)])?.unwrap_or(0);
        if count.cast_unsigned() >= max {
            return Err(Fault::Full { what: "idempotency keys of one day", max }.into());
        }
        Ok(())
    }

    /// A request ended with this answer.
    pub(super) fn finish(
        &self,
        user: u64,
        key: &str,
        (status, body): (u16, &[u8]),
    ) -> Outcome<Answer> {
        if body.len() > limits::IDEMPOTENCY_BODY_BYTES_MAX {
            let advice = "an answer that is kept has at most 64 KiB";
            return Err(Fault::Invalid { field: "body", advice }.into());
        }
        let text = "UPDATE requests SET status = ?, body = ? WHERE user = ? AND key = ?";
        if run(self.db, text, params![status, body, sql(user), key])? == 0 {
            return Err(Fault::Unknown("request").into());
        }
        Ok(Answer::Done)
    }

    /// A request changed nothing: its key may be used again.
    pub(super) fn abandon(&self, user: u64, key: &str) -> Outcome<Answer> {
        let text = "DELETE FROM requests WHERE user = ? AND key = ? AND status IS NULL";
        run(self.db, text, params![sql(user), key])?;
        Ok(Answer::Done)
    }

    /// Requests that were under way when the server ended: nobody knows how far they came, so they
    /// may be tried again.
    pub(super) fn abandon_all(&self) -> Outcome<()> {
        run(self.db, "DELETE FROM requests WHERE status IS NULL", [])?;
        Ok(())
    }

    /// An event of the HTTP API's own.
    pub(super) fn emit_own(&mut self, kind: &str, user: u64, body: &str) -> Outcome<Answer> {
        if kind.len() > limits::LABEL_BYTES_MAX || body.len() > limits::EVENT_BYTES_MAX {
            let advice = "an event has at most 16 KiB";
            return Err(Fault::Invalid { field: "body", advice }.into());
        }
        self.emit(kind, user, body)?;
        Ok(Answer::Done)
    }

    /// An event was told. That it is gone already is as well.
    pub(super) fn event_sent(&self, id: u64) -> Outcome<Answer> {
        run(self.db, "DELETE FROM events WHERE id = ?", [sql(id)])?;
        Ok(Answer::Done)
    }

    /// An event could not be told.
    pub(super) fn event_failed(&self, id: u64, retry_at_s: u64) -> Outcome<Answer> {
        let text = "UPDATE events SET attempts = attempts + 1, next_s = ? WHERE id = ?";
        run(self.db, text, (sql(retry_at_s), sql(id)))?;
        Ok(Answer::Done)
    }

    /// Removes what has ended by time, a bounded number of rows.
    pub(super) fn sweep(&mut self) -> Outcome<()> {
        for (text, age_s) in SWEPT {
            let before = sql(self.now_s.saturating_sub(age_s));
            run(self.db, text, params![before, limits::DIRECTORY_SWEPT_MAX])?;
        }
        let text = "SELECT user, device FROM devices WHERE refreshed_s < ? \
                    ORDER BY refreshed_s LIMIT ?";
        let before = sql(self.now_s.saturating_sub(limits::REFRESH_TOKEN_S));
        let late: Vec<(u64, u32)> =
            all(self.db, text, params![before, limits::DIRECTORY_SWEPT_MAX], |row| {
                Ok((id_of(row, 0)?, row.get(1)?))
            })?;
        late.into_iter().try_for_each(|(user, device)| self.end_device(user, device))
    }
}
