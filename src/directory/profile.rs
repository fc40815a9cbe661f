//! Changes of one's own account: names, profile, settings.

use super::book::Book;
use super::sql::{Outcome, audience, run, sql};
use super::{Account, Answer, Edit, Fault, check, view};
use crate::limits;
use rusqlite::params;

impl Book<'_> {
    /// Changes what `edit` names.
    pub(super) fn edit(&mut self, user: u64, edit: Edit) -> Outcome<Answer> {
        self.need_user(user)?;
        let former = view::account_of(self.db, user)?.ok_or(Fault::Unknown("user"))?;
        let account = changed(former.clone(), edit)?;
        if account.has_password && account.name.is_none() && account.phone.is_none() {
            return Err(Fault::Conflict("an account needs a name or a phone number").into());
        }
        self.free_name(user, account.name.as_deref())?;
        self.free_phone(user, account.phone.as_deref())?;
        let text = "UPDATE users SET name = ?, phone = ?, display = ?, about = ?, avatar = ?, \
                    last_seen = ?, receipts_off = ?, marks_requests = ?, group_adders = ? \
                    WHERE user = ?";
        let values = params![
            account.name,
            account.phone,
            account.display,
            account.about,
            account.avatar,
            audience(account.last_seen),
            account.receipts_off,
            account.marks_requests,
            audience(account.group_adders),
            sql(user)
        ];
        run(self.db, text, values)?;
        let told =
            |account: &Account| (account.last_seen, account.receipts_off, account.marks_requests);
        if told(&account) != told(&former) {
            self.tell_person(user)?;
        }
        Ok(Answer::Account(Box::new(Account { note: String::new(), ..account })))
    }
}

/// An account with changes, each checked.
fn changed(mut account: Account, edit: Edit) -> Result<Account, Fault> {
    if let Some(name) = edit.name {
        account.name = name.map(|name| check::name(&name)).transpose()?;
    }
    if let Some(phone) = edit.phone {
        account.phone = phone.map(|phone| check::phone(&phone)).transpose()?;
    }
    let texts = [
        ("display", edit.display, &mut account.display, limits::DISPLAY_BYTES_MAX),
        ("about", edit.about, &mut account.about, limits::ABOUT_BYTES_MAX),
        ("avatar", edit.avatar, &mut account.avatar, limits::AVATAR_BYTES_MAX),
    ];
    for (field, text, place, bytes_max) in texts {
        let Some(text) = text else { continue };
        check::text(field, &text, bytes_max)?;
        *place = text;
    }
    account.last_seen = edit.last_seen.unwrap_or(account.last_seen);
    account.receipts_off = edit.receipts_off.unwrap_or(account.receipts_off);
    account.marks_requests = edit.marks_requests.unwrap_or(account.marks_requests);
    account.group_adders = edit.group_adders.unwrap_or(account.group_adders);
    Ok(account)
}
