//! Questions: what is read and never written.
//!
//! Owner: the threads that read, each with a connection of its own; some are asked by the thread
//! that writes, of what it just wrote.

use super::book::{ENDING, SUSPENDED};
use super::sql::{Outcome, all, audience_of, from, id_of, is_there, one, page, sql, value};
use super::{
    Account, Answer, Card, Contact, Counts, Device, Event, Fault, Invitation, Invite, Page, Report,
    ReportCard, Rules, Standing, check,
};
use crate::limits;
use crate::state::order::Audience;
use rusqlite::{Connection, Row, params};

/// The columns of an account, in the order [`read_account`] takes them.
const ACCOUNT: &str = "user, created_s, password IS NOT NULL, name, phone, display, about, \
                       avatar, last_seen, receipts_off, marks_requests, group_adders, state, note";

fn read_account(row: &Row<'_>) -> rusqlite::Result<Account> {
    let state: i64 = row.get(12)?;
    Ok(Account {
        user: id_of(row, 0)?,
        created_s: id_of(row, 1)?,
        has_password: row.get(2)?,
        name: row.get(3)?,
        phone: row.get(4)?,
        display: row.get(5)?,
        about: row.get(6)?,
        avatar: row.get(7)?,
        last_seen: audience_of(row, 8)?,
        receipts_off: row.get(9)?,
        marks_requests: row.get(10)?,
        group_adders: audience_of(row, 11)?,
        suspended: state == SUSPENDED,
        note: row.get(13)?,
        ending: state == ENDING,
    })
}

/// The account of a user, if there is a row.
pub(super) fn account_of(db: &Connection, user: u64) -> Outcome<Option<Account>> {
    let text = format!("SELECT {ACCOUNT} FROM users WHERE user = ?");
    Ok(one(db, &text, [sql(user)], read_account)?)
}

/// The account of a user. One of the operator's identities that has no row has the defaults.
pub(super) fn account(db: &Connection, rules: &Rules, user: u64) -> Outcome<Answer> {
    let account = match account_of(db, user)? {
        Some(account) => account,
        None if rules.foreign && user != 0 => bare_account(user),
        None => return Err(Fault::Unknown("user").into()),
    };
    Ok(Answer::Account(Box::new(account)))
}

fn bare_account(user: u64) -> Account {
    Account {
        user,
        created_s: 0,
        has_password: false,
        name: None,
        phone: None,
        display: String::new(),
        about: String::new(),
        avatar: String::new(),
        last_seen: Audience::default(),
        receipts_off: false,
        marks_requests: false,
        group_adders: Audience::default(),
        suspended: false,
        note: String::new(),
        ending: false,
    }
}

/// A page of users for the operator.
pub(super) fn users(
    db: &Connection,
    prefix: &str,
    suspended: bool,
    (after, limit): (Option<u64>, u32),
) -> Outcome<Answer> {
    let limit = check::limit(limit);
    let only = if suspended { "AND state = 1" } else { "" };
    let accounts = if prefix.is_empty() {
        let Some(first) = from(after) else { return Ok(accounts(Vec::new(), limit)) };
        let text =
            format!("SELECT {ACCOUNT} FROM users WHERE user >= ? {only} ORDER BY user LIMIT ?");
        all(db, &text, params![first, limit + 1], read_account)?
    } else {
        let prefix = prefix.to_ascii_lowercase();
        // Not everybody has a name.
        let text = "SELECT ifnull(name, '') FROM users WHERE user = ?";
        let last: Option<String> = match after {
            Some(after) => value(db, text, [sql(after)])?,
            None => None,
        };
        let text = format!(
            "SELECT {ACCOUNT} FROM users WHERE name >= ?1 AND name < ?1 || '\u{10ffff}' \
             AND name > ?2 {only} ORDER BY name LIMIT ?3"
        );
        all(db, &text, params![prefix, last.unwrap_or_default(), limit + 1], read_account)?
    };
    Ok(self::accounts(accounts, limit))
}

fn accounts(rows: Vec<Account>, limit: u32) -> Answer {
    let (accounts, more) = page(rows, limit);
    Answer::Accounts { accounts, more }
}

/// The user a name or phone number belongs to, with the hash of its password.
pub(super) fn found(
    db: &Connection,
    handle: &check::Handle,
) -> Outcome<Option<(u64, Option<String>)>> {
    let (text, handle) = match handle {
        check::Handle::Name(name) => ("SELECT user, password FROM users WHERE name = ?", name),
        check::Handle::Phone(phone) => ("SELECT user, password FROM users WHERE phone = ?", phone),
    };
    Ok(one(db, text, [handle], |row| Ok((id_of(row, 0)?, row.get(1)?)))?)
}

/// The hash of a user's password: none if it has none.
pub(super) fn password(db: &Connection, user: u64) -> Outcome<Option<String>> {
    let text = "SELECT password FROM users WHERE user = ? AND state <> ?";
    Ok(value::<Option<String>>(db, text, (sql(user), ENDING))?.flatten())
}

/// What others see of the user with this name or phone number.
pub(super) fn find(db: &Connection, by: u64, handle: &str) -> Outcome<Answer> {
    let handle = check::handle(handle)?;
    let (user, _) = found(db, &handle)?.ok_or(Fault::Unknown("user"))?;
    // Whoever is found by name is known, so nothing depends on whose identities these are.
    Ok(card_of(db, by, user)?.ok_or(Fault::Unknown("user"))?)
}

/// What others see of a user.
pub(super) fn card(db: &Connection, rules: &Rules, by: u64, user: u64) -> Outcome<Answer> {
    if let Some(card) = card_of(db, by, user)? {
        return Ok(card);
    }
    let known = is_there(db, "SELECT 1 FROM users WHERE user = ?", [sql(user)])?;
    if known || !rules.foreign || user == 0 {
        return Err(Fault::Unknown("user").into());
    }
    Ok(Answer::Card(bare_card(user)))
}

fn card_of(db: &Connection, by: u64, user: u64) -> Outcome<Option<Answer>> {
    let text = "SELECT name, display, about, avatar, \
                EXISTS (SELECT 1 FROM ties WHERE owner = ?1 AND other = ?2 AND blocked = 1) \
                FROM users WHERE user = ?1 AND state <> ?3";
    let card = one(db, text, params![sql(user), sql(by), ENDING], |row| {
        let name = row.get(0)?;
        if row.get(4)? {
            return Ok(Card { name, ..bare_card(user) });
        }
        Ok(Card { user, name, display: row.get(1)?, about: row.get(2)?, avatar: row.get(3)? })
    })?;
    Ok(card.map(Answer::Card))
}

fn bare_card(user: u64) -> Card {
    Card { user, name: None, display: String::new(), about: String::new(), avatar: String::new() }
}

/// A page of a contact book. A contact who blocked its owner shows as little as [`card`] does.
pub(super) fn contacts(db: &Connection, rules: &Rules, asked: Page) -> Outcome<Answer> {
    let limit = check::limit(asked.limit);
    let Some(first) = from(asked.after) else {
        return Ok(Answer::Contacts { contacts: Vec::new(), more: false });
    };
    let text = "SELECT t.other, t.alias, t.blocked, u.user IS NULL, u.name, u.display, u.about, \
                u.avatar, \
                EXISTS (SELECT 1 FROM ties b WHERE b.owner = t.other AND b.other = t.owner \
                        AND b.blocked = 1) \
                FROM ties t LEFT JOIN users u ON u.user = t.other AND u.state <> ?4 \
                WHERE t.owner = ?1 AND t.other >= ?2 AND t.contact = 1 \
                ORDER BY t.other LIMIT ?3";
    let values = params![sql(asked.user), first, limit + 1, ENDING];
    let rows = all(db, text, values, |row| {
        let mut card = bare_card(id_of(row, 0)?);
        let unknown: bool = row.get(3)?;
        if !unknown {
            card.name = row.get(4)?;
        }
        if !unknown && !row.get::<_, bool>(8)? {
            card = Card { display: row.get(5)?, about: row.get(6)?, avatar: row.get(7)?, ..card };
        }
        // An operator's identity may have no row and live.
        let gone = unknown && !rules.foreign;
        Ok(Contact { card, alias: row.get(1)?, blocked: row.get(2)?, gone })
    })?;
    let (contacts, more) = page(rows, limit);
    Ok(Answer::Contacts { contacts, more })
}

/// A page of those a user blocked.
pub(super) fn blocks(db: &Connection, asked: Page) -> Outcome<Answer> {
    let limit = check::limit(asked.limit);
    let Some(first) = from(asked.after) else {
        return Ok(Answer::Blocks { users: Vec::new(), more: false });
    };
    let text = "SELECT other FROM ties WHERE owner = ? AND other >= ? AND blocked = 1 \
                ORDER BY other LIMIT ?";
    let values = params![sql(asked.user), first, limit + 1];
    let (users, more) = page(all(db, text, values, |row| id_of(row, 0))?, limit);
    Ok(Answer::Blocks { users, more })
}

/// Whether a token's holder may act.
pub(super) fn standing(
    db: &Connection,
    rules: &Rules,
    user: u64,
    (device, issued_s): (u32, u64),
) -> Outcome<Answer> {
    let text = "SELECT state, not_before_s, \
                (SELECT not_before_s FROM revoked WHERE user = ?1 AND device = ?2), \
                (SELECT not_before_s FROM gone WHERE user = ?1) FROM users WHERE user = ?1";
    let row = one(db, text, params![sql(user), device], |row| {
        let before = |at| row.get::<_, Option<i64>>(at).map(|time| time.unwrap_or(0));
        Ok((before(0)?, before(1)?.max(before(2)?).max(before(3)?).cast_unsigned()))
    })?;
    let text = "SELECT not_before_s FROM gone WHERE user = ?";
    let standing = match row {
        Some((ENDING, _)) => Standing::Deleted,
        Some((_, not_before_s)) if issued_s < not_before_s => Standing::LoggedOut,
        Some((SUSPENDED, _)) => Standing::Suspended,
        Some(_) => Standing::Good,
        None => match value::<i64>(db, text, [sql(user)])?.map(i64::cast_unsigned) {
            Some(not_before_s) if issued_s < not_before_s => Standing::Deleted,
            _ if rules.foreign => Standing::Good,
            _ => Standing::Deleted,
        },
    };
    Ok(Answer::Standing(standing))
}

/// The devices of a user.
pub(super) fn devices(db: &Connection, user: u64) -> Outcome<Answer> {
    let text = "SELECT device, label, created_s, refreshed_s FROM devices \
                WHERE user = ? ORDER BY device";
    let devices = all(db, text, [sql(user)], |row| {
        Ok(Device {
            device: row.get(0)?,
            label: row.get(1)?,
            created_s: id_of(row, 2)?,
            refreshed_s: id_of(row, 3)?,
        })
    })?;
    Ok(Answer::Devices(devices))
}

fn read_invitation(row: &Row<'_>) -> rusqlite::Result<Invitation> {
    Ok(Invitation {
        id: id_of(row, 0)?,
        group: id_of(row, 1)?,
        by: id_of(row, 2)?,
        at_s: id_of(row, 3)?,
    })
}

/// A page of invitations to groups.
pub(super) fn invitations(db: &Connection, asked: Page) -> Outcome<Answer> {
    let limit = check::limit(asked.limit);
    let text = "SELECT id, grp, inviter, at_s FROM invitations \
                WHERE target = ? AND id > ? AND hidden = 0 ORDER BY id LIMIT ?";
    let after = number(asked.after);
    let rows = all(db, text, params![sql(asked.user), after, limit + 1], read_invitation)?;
    let (invitations, more) = page(rows, limit);
    Ok(Answer::Invitations { invitations, more })
}

/// One invitation.
pub(super) fn invitation(db: &Connection, user: u64, id: u64) -> Outcome<Answer> {
    let text = "SELECT id, grp, inviter, at_s FROM invitations \
                WHERE target = ? AND id = ? AND hidden = 0";
    let found = one(db, text, (sql(user), sql(id)), read_invitation)?;
    Ok(Answer::Invitation(found.ok_or(Fault::Unknown("invitation"))?))
}

/// Where a list by number goes on.
fn number(after: Option<u64>) -> i64 {
    after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX))
}

/// A page of reports.
pub(super) fn reports(
    db: &Connection,
    open: bool,
    (after, limit): (Option<u64>, u32),
) -> Outcome<Answer> {
    let limit = check::limit(limit);
    let only = if open { "AND closed IS NULL" } else { "" };
    let text = format!(
        "SELECT id, reporter, user, grp, position, reason, text, at_s, closed FROM reports \
         WHERE id > ? {only} ORDER BY id LIMIT ?"
    );
    let rows = all(db, &text, params![number(after), limit + 1], |row| {
        let optional = |at| row.get::<_, Option<i64>>(at).map(|id| id.map(i64::cast_unsigned));
        Ok(ReportCard {
            id: id_of(row, 0)?,
            report: Report {
                by: id_of(row, 1)?,
                user: id_of(row, 2)?,
                group: optional(3)?,
                position: optional(4)?,
                reason: row.get(5)?,
                text: row.get(6)?,
            },
            at_s: id_of(row, 7)?,
            closed: row.get(8)?,
        })
    })?;
    let (reports, more) = page(rows, limit);
    Ok(Answer::Reports { reports, more })
}

/// A page of codes that are good.
pub(super) fn invites(
    db: &Connection,
    now_s: u64,
    (after, limit): (Option<u64>, u32),
) -> Outcome<Answer> {
    let limit = check::limit(limit);
    let text = "SELECT id, uses, until_s, note FROM invites \
                WHERE id > ? AND uses > 0 AND until_s > ? ORDER BY id LIMIT ?";
    let rows = all(db, text, params![number(after), sql(now_s), limit + 1], |row| {
        Ok(Invite {
            id: id_of(row, 0)?,
            uses: row.get(1)?,
            until_s: id_of(row, 2)?,
            note: row.get(3)?,
        })
    })?;
    let (invites, more) = page(rows, limit);
    Ok(Answer::Invites { invites, more })
}

/// How many there are.
pub(super) fn counts(db: &Connection, events_dropped: u64) -> Outcome<Answer> {
    let mut counts = Counts { events_dropped, ..Counts::default() };
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, id_of(row, 1)?));
    for (what, count) in all(db, "SELECT what, value FROM counts", [], read)? {
        match what.as_str() {
            "users" => counts.users = count,
            "suspended" => counts.suspended = count,
            "devices" => counts.devices = count,
            "ties" => counts.ties = count,
            "reports" => counts.reports = count,
            "events" => counts.events = count,
            _ => {}
        }
    }
    Ok(Answer::Counts(counts))
}

/// The oldest events whose time has come.
pub(super) fn events(db: &Connection, now_s: u64, limit: u32) -> Outcome<Answer> {
    let limit = limit.clamp(1, limits::PAGE_ROWS_MAX);
    let text = "SELECT id, kind, user, body, at_s, attempts FROM events \
                WHERE next_s <= ? ORDER BY next_s, id LIMIT ?";
    let events = all(db, text, params![sql(now_s), limit], |row| {
        Ok(Event {
            id: id_of(row, 0)?,
            kind: row.get(1)?,
            user: id_of(row, 2)?,
            body: row.get(3)?,
            at_s: id_of(row, 4)?,
            attempts: row.get(5)?,
        })
    })?;
    Ok(Answer::Events(events))
}
