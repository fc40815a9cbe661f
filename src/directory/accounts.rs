//! Accounts: how they begin, log in, change their password, end.
//!
//! Passwords were hashed or checked before, on threads made for it; here is what is written then.

use super::book::{Book, ENDING, LIVES, SUSPENDED};
use super::devices::hash;
use super::sql::{Outcome, is_there, run, sql, value};
use super::{Answer, Fault, Register, Registration, Secret, check, view};
use crate::limits;
use rusqlite::params;

/// Random bytes.
///
/// # Errors
/// The system has none.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Fault::Unavailable)?;
    Ok(bytes)
}

/// Names and password of somebody who is to have an account.
pub(super) struct Newcomer {
    pub(super) name: Option<String>,
    pub(super) phone: Option<String>,
    /// The hash of the password, if there is one.
    pub(super) hash: Option<String>,
}

impl Book<'_> {
    /// A new account and its first device.
    pub(super) fn register(&mut self, register: &Register, hash: String) -> Outcome<Answer> {
        self.use_invite(register.invite.as_ref())?;
        let newcomer = Newcomer {
            name: register.name.clone(),
            phone: register.phone.clone(),
            hash: Some(hash),
        };
        let user = self.fresh_user()?;
        self.add_account(user, newcomer)?;
        self.emit("user.registered", user, "{}")?;
        self.new_session(user, None, &register.label)
    }

    /// Takes one use of a code, where one is needed.
    fn use_invite(&self, code: Option<&Secret>) -> Outcome<()> {
        match self.rules.registration {
            Registration::Open => return Ok(()),
            Registration::Closed => return Err(Fault::Closed.into()),
            Registration::Invite => {}
        }
        let code = code.ok_or(Fault::InviteNeeded)?;
        let text = "UPDATE invites SET uses = uses - 1 \
                    WHERE code = ? AND uses > 0 AND until_s > ?";
        let used = run(self.db, text, params![invite_hash(code), sql(self.now_s)])?;
        if used == 1 { Ok(()) } else { Err(Fault::InviteNotGood.into()) }
    }

    /// A row for somebody new, or for one of the operator's identities that has one already.
    fn add_account(&mut self, user: u64, newcomer: Newcomer) -> Outcome<()> {
        let Newcomer { name, phone, hash } = newcomer;
        if name.is_none() && phone.is_none() && hash.is_some() {
            let advice = "a name or a phone number is needed to log in";
            return Err(Fault::Invalid { field: "name", advice }.into());
        }
        self.room_for_user()?;
        self.free_name(user, name.as_deref())?;
        self.free_phone(user, phone.as_deref())?;
        let text = "INSERT INTO users (user, created_s, name, phone, password) \
                    VALUES (?, ?, ?, ?, ?)";
        let name = name.map(|name| check::name(&name)).transpose()?;
        run(self.db, text, params![sql(user), sql(self.now_s), name, phone, hash])?;
        self.tell_person(user)
    }

    /// That a name can be this user's.
    pub(super) fn free_name(&self, user: u64, name: Option<&str>) -> Outcome<()> {
        let Some(name) = name else { return Ok(()) };
        let text = "SELECT 1 FROM users WHERE name = ? AND user <> ?";
        if is_there(self.db, text, params![check::name(name)?, sql(user)])? {
            return Err(Fault::Taken("name").into());
        }
        Ok(())
    }

    /// That a phone number can be this user's.
    pub(super) fn free_phone(&self, user: u64, phone: Option<&str>) -> Outcome<()> {
        let Some(phone) = phone else { return Ok(()) };
        let text = "SELECT 1 FROM users WHERE phone = ? AND user <> ?";
        if is_there(self.db, text, params![check::phone(phone)?, sql(user)])? {
            return Err(Fault::Taken("phone number").into());
        }
        Ok(())
    }

    /// Somebody who need not register, by the operator.
    pub(super) fn provision(&mut self, user: Option<u64>, newcomer: Newcomer) -> Outcome<Answer> {
        let user = match user {
            Some(0) => {
                let advice = "an id is a number from 1 on";
                return Err(Fault::Invalid { field: "user", advice }.into());
            }
            Some(user) if self.state(user)?.is_some() => {
                return Err(Fault::Conflict("this user is there already; change it").into());
            }
            Some(user) => user,
            None => self.fresh_user()?,
        };
        self.add_account(user, newcomer)?;
        self.emit("user.registered", user, "{}")?;
        view::account(self.db, self.rules, user)
    }

    /// A device of an account whose password was right: the hash it was held against is still its.
    pub(super) fn log_in(
        &mut self,
        user: u64,
        seen: &str,
        device: Option<u32>,
        label: &str,
    ) -> Outcome<Answer> {
        let text = "SELECT state FROM users WHERE user = ? AND password = ?";
        match value(self.db, text, params![sql(user), seen])? {
            Some(LIVES) => self.new_session(user, device, label),
            Some(SUSPENDED) => Err(Fault::Suspended.into()),
            _ => Err(Fault::WrongPassword.into()),
        }
    }

    /// Another password, for who had this one. Other devices have to log in again.
    pub(super) fn set_password(
        &mut self,
        user: u64,
        keep: u32,
        (seen, hash): (&str, &str),
    ) -> Outcome<Answer> {
        let text = "UPDATE users SET password = ? WHERE user = ? AND password = ? AND state <> ?";
        if run(self.db, text, params![hash, sql(user), seen, ENDING])? != 1 {
            return Err(Fault::WrongPassword.into());
        }
        self.end_other_devices(user, keep)?;
        Ok(Answer::Done)
    }

    /// The end of a user begins: from here on it is finished, whatever happens.
    pub(super) fn begin_end(&mut self, user: u64) -> Outcome<()> {
        if self.state(user)? != Some(ENDING) {
            self.need_user(user)?;
            let text = "UPDATE users SET state = ? WHERE user = ?";
            run(self.db, text, params![ENDING, sql(user)])?;
            run(self.db, "DELETE FROM devices WHERE user = ?", [sql(user)])?;
        }
        self.ended = Some(user);
        Ok(())
    }

    /// The user has left its groups and its home: the rows go.
    pub(super) fn bury(&mut self, user: u64, not_before_s: u64) -> Outcome<Answer> {
        let text = "DELETE FROM users WHERE user = ? AND state = ?";
        if run(self.db, text, params![sql(user), ENDING])? == 0 {
            return Ok(Answer::Done); // it was deleted twice at once
        }
        let text = "INSERT INTO gone (user, not_before_s) VALUES (?1, ?2) \
                    ON CONFLICT DO UPDATE SET not_before_s = ?2";
        run(self.db, text, params![sql(user), sql(not_before_s)])?;
        run(self.db, "DELETE FROM invitations WHERE inviter = ?", [sql(user)])?;
        run(self.db, "DELETE FROM requests WHERE user = ?", [sql(user)])?;
        self.emit("user.deleted", user, "{}")?;
        Ok(Answer::Done)
    }

    /// A code with which to register.
    pub(super) fn make_invite(&mut self, uses: u32, valid_s: u32, note: &str) -> Outcome<Answer> {
        check::text("note", note, limits::NOTE_BYTES_MAX)?;
        if !(1..=limits::INVITE_USES_MAX).contains(&uses) {
            let advice = "a code is good for 1 to 10000";
            return Err(Fault::Invalid { field: "uses", advice }.into());
        }
        if !(1..=limits::INVITE_S_MAX).contains(&valid_s) {
            let advice = "a code is good for a second to a year";
            return Err(Fault::Invalid { field: "valid_s", advice }.into());
        }
        let count: i64 = value(self.db, "SELECT count(*) FROM invites", [])?.unwrap_or(0);
        if count.cast_unsigned() >= limits::INVITES_MAX {
            return Err(Fault::Full { what: "codes", max: limits::INVITES_MAX }.into());
        }
        let code = readable(&random::<16>()?);
        let until_s = self.now_s + u64::from(valid_s);
        let text = "INSERT INTO invites (code, uses, until_s, note) VALUES (?, ?, ?, ?)";
        run(self.db, text, params![invite_hash(&code), uses, sql(until_s), note])?;
        let id = self.db.last_insert_rowid().cast_unsigned();
        let invite = super::Invite { id, uses, until_s, note: note.to_owned() };
        Ok(Answer::InviteMade { invite, code })
    }
}

/// The hash under which a code is kept; how it is written does not matter to it.
pub(super) fn invite_hash(code: &Secret) -> Vec<u8> {
    let plain: String = code.expose().chars().filter(char::is_ascii_alphanumeric).collect();
    hash(plain.to_ascii_uppercase().as_bytes())
}

/// Bytes as letters and digits that are not mistaken for one another, in groups.
fn readable(bytes: &[u8; 16]) -> Secret {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut rest = u128::from_le_bytes(*bytes);
    let mut text = String::new();
    // 25 letters of 5 bits each: what is left of 128 is not worth a group.
    for at in 0..25 {
        if at > 0 && at % 5 == 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[(rest % 32) as usize]));
        rest /= 32;
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_readable_and_found_however_it_is_written() {
        let code = readable(&[0xa7; 16]);
        assert_eq!(code.expose().len(), 29);
        assert!(!code.expose().contains(['0', 'O', '1', 'I']));
        let sloppy = Secret::new(code.expose().replace('-', " ").to_lowercase());
        assert_eq!(invite_hash(&code), invite_hash(&sloppy));
        assert_ne!(invite_hash(&code), invite_hash(&readable(&[0xa8; 16])));
    }
}
