//! The parts of frames that speak of groups: changes of a group, news of it. Meanings:
//! `docs/protocol.md`, "Groups".
//!
//! A change stands in the group's stream like a message. Deliberately not here: the frames that
//! carry it (`server_frame.rs`, `history_frame.rs`).

use crate::schema::{DecodeError, Field, Fields, Sink, complete_id, read_reason, required};
use crate::types::MessageId;

/// What happened to a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Change {
    /// It began; its first member is its owner. The payload is its name.
    Created = 1,
    /// Somebody was added.
    Added = 2,
    /// Somebody was removed.
    Removed = 3,
    /// Somebody left.
    Left = 4,
    /// It has another name: the payload.
    Renamed = 5,
    /// A member has another role.
    Role = 6,
    /// There is no such group any more.
    Ended = 7,
}

impl Change {
    /// The schema's number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The change of a schema number.
    pub fn from_code(code: u8) -> Option<Self> {
        const ALL: [Change; 7] = [
            Change::Created,
            Change::Added,
            Change::Removed,
            Change::Left,
            Change::Renamed,
            Change::Role,
            Change::Ended,
        ];
        ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// What a member is in a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Role {
    /// Reads and writes.
    #[default]
    Member = 0,
    /// Also adds, removes, renames.
    Admin = 1,
    /// Also makes admins, hands over, ends.
    Owner = 2,
}

impl Role {
    /// The schema's number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The role of a schema number.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Member),
            1 => Some(Self::Admin),
            2 => Some(Self::Owner),
            _ => None,
        }
    }
}

/// A change of a group: takes effect at its position of the group's stream. Who did it is the
/// sender in the record's id (0: the operator), whose device and client id are 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GroupChange {
    /// What happened.
    pub what: Change,
    /// Whom it concerns; 0 for [`Change::Renamed`] and [`Change::Ended`].
    pub user: u64,
    /// What they are from now on.
    pub role: Role,
}

/// Something lies in a group's stream that is not pushed to this device: it is to be fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupNews {
    /// Which group.
    pub group: u64,
    /// There are records up to this position.
    pub head: u64,
    /// This device acked the stream up to here.
    pub cursor: u64,
    /// The user is no member any more; `head` is where that ended.
    pub left: bool,
}

#[inline]
pub(crate) fn write_change(sink: &mut impl Sink, number: u32, change: Option<GroupChange>) {
    if let Some(change) = change {
        sink.message(number, |sink| {
            sink.uint64(1, u64::from(change.what.code()));
            sink.uint64(2, change.user);
            sink.uint64(3, u64::from(change.role.code()));
        });
    }
}

pub(crate) fn describe_news(sink: &mut impl Sink, news: &GroupNews) {
    sink.uint64(1, news.group);
    sink.fixed64(2, news.head);
    sink.fixed64(3, news.cursor);
    sink.boolean(4, news.left);
}

/// A `GroupChange` while its fields come in.
#[derive(Clone, Copy, Default)]
pub(crate) struct ChangeParts {
    came: bool,
    what: Option<Change>,
    user: u64,
    role: Role,
}

impl ChangeParts {
    /// Reads one, merging into what an earlier field of the same number said.
    pub(crate) fn read(&mut self, field: Field<'_, '_>) -> Result<(), DecodeError> {
        self.came = true;
        let mut fields = field.message()?;
        while let Some(field) = fields.next()? {
            match field.number() {
                1 => self.what = read_reason(field, "change.what", Change::from_code)?,
                2 => self.user = field.uint64()?,
                3 => self.role = read_role(field)?,
                _ => field.skip()?,
            }
        }
        Ok(())
    }

    /// The change if there is one; and an id that is complete if there is none.
    #[inline]
    pub(crate) fn complete(self, id: MessageId) -> Result<Option<GroupChange>, DecodeError> {
        if !self.came {
            return complete_id(id, "id").map(|_| None);
        }
        let what = self.what.ok_or(DecodeError::MissingField("change.what"))?;
        Ok(Some(GroupChange { what, user: self.user, role: self.role }))
    }
}

fn read_role(field: Field<'_, '_>) -> Result<Role, DecodeError> {
    let code = u8::try_from(field.uint64()?).ok();
    code.and_then(Role::from_code).ok_or(DecodeError::OutOfRange("change.role"))
}

pub(crate) fn read_news(mut fields: Fields<'_>) -> Result<GroupNews, DecodeError> {
    let mut news = GroupNews { group: 0, head: 0, cursor: 0, left: false };
    while let Some(field) = fields.next()? {
        match field.number() {
            1 => news.group = field.uint64()?,
            2 => news.head = field.fixed64()?,
            3 => news.cursor = field.fixed64()?,
            4 => news.left = field.boolean()?,
            _ => field.skip()?,
        }
    }
    required(news.group, "group")?;
    Ok(news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_others_are_none() {
        for code in 1..=7 {
            assert_eq!(Change::from_code(code).map(Change::code), Some(code));
        }
        assert_eq!((Change::from_code(0), Change::from_code(8)), (None, None));
        for code in 0..=2 {
            assert_eq!(Role::from_code(code).map(Role::code), Some(code));
        }
        assert_eq!(Role::from_code(3), None);
    }
}
