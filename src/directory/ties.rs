//! Contacts, blocks, and who may be put into groups.

use super::book::Book;
use super::sql::{Outcome, audience_of, one, run, sql, value};
use super::{Answer, Fault, GroupAdd, check};
use crate::limits;
use crate::state::order::{Audience, Order, Ties};
use rusqlite::params;

impl Book<'_> {
    /// Adds a contact, or gives it another alias.
    pub(super) fn put_contact(&mut self, user: u64, other: u64, alias: &str) -> Outcome<Answer> {
        check::text("alias", alias, limits::DISPLAY_BYTES_MAX)?;
        self.need_other(other)?;
        let former = self.set_ties(user, other, |ties| ties.contact = true)?;
        let text = "UPDATE ties SET alias = ? WHERE owner = ? AND other = ?";
        run(self.db, text, params![alias, sql(user), sql(other)])?;
        if former.contact {
            self.orders.pop(); // another alias is nothing to a shard
        }
        Ok(Answer::Done)
    }

    /// Takes a contact out of a book.
    pub(super) fn end_contact(&mut self, user: u64, other: u64) -> Outcome<Answer> {
        self.set_ties(user, other, |ties| ties.contact = false)?;
        let text = "UPDATE ties SET alias = '' WHERE owner = ? AND other = ? AND alias <> ''";
        run(self.db, text, params![sql(user), sql(other)])?;
        Ok(Answer::Done)
    }

    /// Blocks. Invitations of the blocked one go.
    pub(super) fn block(&mut self, user: u64, other: u64) -> Outcome<Answer> {
        self.need_other(other)?;
        self.set_ties(user, other, |ties| ties.blocked = true)?;
        let text = "DELETE FROM invitations WHERE target = ? AND inviter = ?";
        run(self.db, text, params![sql(user), sql(other)])?;
        Ok(Answer::Done)
    }

    /// Unblocks.
    pub(super) fn unblock(&mut self, user: u64, other: u64) -> Outcome<Answer> {
        self.set_ties(user, other, |ties| ties.blocked = false)?;
        Ok(Answer::Done)
    }

    /// Changes what a user has to do with another, and tells the user's home. Returns what it was.
    fn set_ties(&mut self, user: u64, other: u64, change: impl FnOnce(&mut Ties)) -> Outcome<Ties> {
        if user == other {
            return Err(Fault::Conflict("nobody is a contact of their own, nor blocked").into());
        }
        self.need_user(user)?;
        let former = self.ties(user, other)?;
        let mut ties = former;
        change(&mut ties);
        let ids = (sql(user), sql(other));
        if ties == Ties::default() {
            run(self.db, "DELETE FROM ties WHERE owner = ? AND other = ?", ids)?;
        } else {
            if former == Ties::default() {
                self.room_for_ties(user)?;
            }
            let text = "INSERT INTO ties (owner, other, contact, blocked) VALUES (?1, ?2, ?3, ?4) \
                        ON CONFLICT DO UPDATE SET contact = ?3, blocked = ?4";
            run(self.db, text, params![ids.0, ids.1, ties.contact, ties.blocked])?;
        }
        self.orders.push(Order::Relate { user, other, ties });
        Ok(former)
    }

    fn room_for_ties(&self, user: u64) -> Outcome<()> {
        let max = limits::TIES_PER_USER_MAX as u64;
        let count: Option<i64> =
            value(self.db, "SELECT ties FROM users WHERE user = ?", [sql(user)])?;
        if count.is_some_and(|count| count.cast_unsigned() >= max) {
            return Err(Fault::Full { what: "contacts and blocked users", max }.into());
        }
        Ok(())
    }

    fn ties(&self, user: u64, other: u64) -> Outcome<Ties> {
        let text = "SELECT contact, blocked FROM ties WHERE owner = ? AND other = ?";
        let ties = one(self.db, text, (sql(user), sql(other)), |row| {
            Ok(Ties { contact: row.get(0)?, blocked: row.get(1)? })
        })?;
        Ok(ties.unwrap_or_default())
    }

    /// Whether `by` may put `target` into a group. If not, an invitation is left; one of somebody
    /// the target blocked is left as well, so that it takes as long, but nobody sees it.
    pub(super) fn ask_to_add(&mut self, by: u64, target: u64, group: u64) -> Outcome<Answer> {
        self.need_user(by)?;
        self.need_other(target)?;
        let text = "SELECT group_adders FROM users WHERE user = ?";
        let adders = one(self.db, text, [sql(target)], |row| audience_of(row, 0))?;
        let ties = self.ties(target, by)?;
        let allowed = match adders.unwrap_or_default() {
            Audience::Everybody => true,
            Audience::Contacts => ties.contact,
            Audience::Nobody => false,
        };
        if by == target || (allowed && !ties.blocked) {
            return Ok(Answer::GroupAdd(GroupAdd::Now));
        }
        self.leave_invitation(by, target, (group, ties.blocked))?;
        Ok(Answer::GroupAdd(GroupAdd::Asked))
    }

    fn leave_invitation(&self, by: u64, target: u64, (group, hidden): (u64, bool)) -> Outcome<()> {
        let text = "INSERT INTO invitations (target, grp, inviter, at_s, hidden) \
                    VALUES (?1, ?2, ?3, ?4, ?5) \
                    ON CONFLICT (target, grp, inviter) DO UPDATE SET at_s = ?4, hidden = ?5";
        let values = params![sql(target), sql(group), sql(by), sql(self.now_s), hidden];
        run(self.db, text, values)?;
        // Those nobody sees must not push out those that are seen.
        let text = "DELETE FROM invitations WHERE id IN (SELECT id FROM invitations \
                    WHERE target = ? AND hidden = ? ORDER BY id DESC LIMIT -1 OFFSET ?)";
        run(self.db, text, params![sql(target), hidden, limits::INVITATIONS_PER_USER_MAX])?;
        Ok(())
    }

    /// Nobody invites `target` to a group any more: it was added, or an admin will not have it.
    pub(super) fn uninvite(&self, target: u64, group: u64) -> Outcome<Answer> {
        let text = "DELETE FROM invitations WHERE target = ? AND grp = ?";
        run(self.db, text, (sql(target), sql(group)))?;
        Ok(Answer::Done)
    }

    /// An invitation was followed or declined.
    pub(super) fn end_invitation(&self, user: u64, id: u64) -> Outcome<Answer> {
        let text = "DELETE FROM invitations WHERE id = ? AND target = ? AND hidden = 0";
        if run(self.db, text, (sql(id), sql(user)))? == 0 {
            return Err(Fault::Unknown("invitation").into());
        }
        Ok(Answer::Done)
    }
}
