//! What users tell the operator, and what the operator does about it.

use super::book::{Book, LIVES, SUSPENDED};
use super::sql::{Outcome, run, sql, value};
use super::{Answer, Fault, Report, check};
use crate::limits;
use rusqlite::params;

impl Book<'_> {
    /// Takes a report.
    pub(super) fn report(&mut self, report: &Report) -> Outcome<Answer> {
        check::text("reason", &report.reason, limits::LABEL_BYTES_MAX)?;
        check::text("text", &report.text, limits::REPORT_BYTES_MAX)?;
        self.need_user(report.by)?;
        self.need_other(report.user)?;
        let text = "SELECT count(*) FROM reports WHERE reporter = ? AND closed IS NULL";
        let open: i64 = value(self.db, text, [sql(report.by)])?.unwrap_or(0);
        let max = limits::REPORTS_OPEN_PER_USER_MAX;
        if open.cast_unsigned() >= max {
            return Err(Fault::Full { what: "reports nobody has looked at yet", max }.into());
        }
        let text = "INSERT INTO reports \
                    (reporter, user, grp, position, reason, text, at_s) \
                    VALUES (?, ?, ?, ?, ?, ?, ?)";
        let values = params![
            sql(report.by),
            sql(report.user),
            report.group.map(sql),
            report.position.map(sql),
            report.reason,
            report.text,
            sql(self.now_s)
        ];
        run(self.db, text, values)?;
        let id = self.db.last_insert_rowid().cast_unsigned();
        let body = format!("{{\"report\":\"{id}\",\"by\":\"{}\"}}", report.by);
        self.emit("report.filed", report.user, &body)?;
        Ok(Answer::Filed(id))
    }

    /// A report was dealt with. Another note replaces the first.
    pub(super) fn close_report(&self, id: u64, note: &str) -> Outcome<Answer> {
        check::text("note", note, limits::NOTE_BYTES_MAX)?;
        let text = "UPDATE reports SET closed = ? WHERE id = ?";
        if run(self.db, text, params![note, sql(id)])? == 0 {
            return Err(Fault::Unknown("report").into());
        }
        Ok(Answer::Done)
    }

    /// Suspends, or writes another note.
    pub(super) fn suspend(&mut self, user: u64, note: &str) -> Outcome<Answer> {
        check::text("note", note, limits::NOTE_BYTES_MAX)?;
        self.need_user(user)?;
        let new = self.state(user)? == Some(LIVES);
        let text = "UPDATE users SET state = ?, note = ? WHERE user = ?";
        run(self.db, text, params![SUSPENDED, note, sql(user)])?;
        if new {
            self.emit("user.suspended", user, "{}")?;
        }
        self.tell_person(user)?;
        Ok(Answer::Done)
    }

    /// Takes that back.
    pub(super) fn unsuspend(&mut self, user: u64) -> Outcome<Answer> {
        self.need_user(user)?;
        let text = "UPDATE users SET state = ?, note = '' WHERE user = ? AND state = ?";
        if run(self.db, text, params![LIVES, sql(user), SUSPENDED])? == 1 {
            self.emit("user.unsuspended", user, "{}")?;
        }
        self.tell_person(user)?;
        Ok(Answer::Done)
    }

    /// A code is good no more.
    pub(super) fn end_invite(&self, id: u64) -> Outcome<Answer> {
        if run(self.db, "DELETE FROM invites WHERE id = ?", [sql(id)])? == 0 {
            return Err(Fault::Unknown("code").into());
        }
        Ok(Answer::Done)
    }
}
