//! Who may change what of a group, and what a change does: for orders and for a replay alike.
//!
//! A change is a record of the group's stream and takes effect exactly there.

use super::{GroupRules, end};
use crate::limits;
use crate::log::{Kind, Record, STREAM_GROUP};
use crate::state::Tables;
use crate::state::groups::Group;
use crate::state::order::{Fault, GroupEdit, Role};
use crate::state::placement::Placement;
use wire::Change as What;

/// Arrivals and departures: in large groups nobody is told of them.
#[must_use]
pub fn is_traffic(what: What) -> bool {
    matches!(what, What::Added | What::Removed | What::Left)
}

/// A change of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// What happened.
    pub what: What,
    /// Who did it; 0: the operator.
    pub by: u64,
    /// Whom it concerns; 0: nobody.
    pub user: u64,
    /// The role of that user from now on.
    pub role: Role,
    /// The name, of a group that begins or is renamed.
    pub name: &'a str,
}

impl<'a> Change<'a> {
    /// What a record says.
    #[must_use]
    pub fn of(record: &Record<'a>) -> Option<Self> {
        let role = role_of(u32::try_from(record.aux).ok()?)?;
        let name = std::str::from_utf8(record.payload).ok()?;
        let what = What::from_code(u8::try_from(record.body_kind).ok()?)?;
        Some(Self { what, by: record.sender, user: record.peer, role, name })
    }

    /// The same for members.
    #[must_use]
    pub fn told(&self) -> wire::GroupChange {
        let role = wire::Role::from_code(self.role as u8).unwrap_or_default();
        wire::GroupChange { what: self.what, user: self.user, role }
    }

    /// The record that says so.
    #[must_use]
    pub fn record(&self, group: u64, position: u64, time_ms: u64) -> Record<'a> {
        Record {
            stream_kind: STREAM_GROUP,
            stream: group,
            position,
            sender: self.by,
            time_ms,
            body_kind: u32::from(self.what.code()),
            peer: self.user,
            aux: self.role as u64,
            payload: self.name.as_bytes(),
            ..Record::blank(Kind::Group)
        }
    }
}

/// The role with this number, in the log and on the wire.
#[must_use]
pub fn role_of(number: u32) -> Option<Role> {
    [Role::Member, Role::Admin, Role::Owner].get(number as usize).copied()
}

/// Whether a group begins here: nothing is known of it that would not be behind this record.
#[must_use]
pub fn begins(record: &Record<'_>) -> bool {
    record.kind == Kind::Group && record.body_kind == u32::from(What::Created.code())
}

/// Whether a group may begin. None: it is there already, with this owner.
///
/// # Errors
/// It is another one's, or there are as many as there may be.
pub fn create<'a>(
    tables: &Tables,
    group: u64,
    owner: u64,
    name: &'a str,
) -> Result<Option<Change<'a>>, Fault> {
    if let Some(known) = tables.groups.of(group) {
        return if known.owner == owner { Ok(None) } else { Err(Fault::Conflict) };
    }
    if group == 0 || owner == 0 || !is_name(name) {
        return Err(Fault::Conflict);
    }
    if tables.groups.count() >= limits::GROUPS_PER_SHARD_MAX {
        return Err(Fault::Full);
    }
    Ok(Some(Change { what: What::Created, by: owner, user: owner, role: Role::Owner, name }))
}

/// What an edit changes. None: it is so already.
///
/// # Errors
/// Who asks may not do that, or it can't be done; nothing changes then.
pub fn decide<'a>(
    group: &Group,
    rules: &GroupRules,
    by: u64,
    edit: &'a GroupEdit,
) -> Result<Option<Change<'a>>, Fault> {
    let role = if by == 0 { Role::Owner } else { group.role(by).ok_or(Fault::Unknown)? };
    let needs = |least: Role| if role >= least { Ok(()) } else { Err(Fault::Forbidden) };
    let change = |what, user, role| Change { what, by, user, role, name: "" };
    Ok(match *edit {
        GroupEdit::Add(user) => {
            needs(Role::Admin)?;
            if group.members.contains_key(&user) {
                return Ok(None);
            }
            if group.count() >= rules.members_max as usize {
                return Err(Fault::Full);
            }
            Some(change(What::Added, user, Role::Member))
        }
        GroupEdit::Remove(user) => {
            needs(Role::Admin)?;
            match group.role(user) {
                None => None,
                Some(Role::Owner) => return Err(Fault::Conflict),
                Some(_) => Some(change(What::Removed, user, Role::Member)),
            }
        }
        GroupEdit::Leave if by == 0 => return Err(Fault::Conflict),
        GroupEdit::Leave if group.count() == 1 => Some(change(What::Ended, 0, Role::Member)),
        GroupEdit::Leave if role == Role::Owner => return Err(Fault::Conflict),
        GroupEdit::Leave => Some(change(What::Left, by, Role::Member)),
        GroupEdit::Rename(ref name) => {
            needs(Role::Admin)?;
            if !is_name(name) {
                return Err(Fault::Conflict);
            }
            (**name != *group.name)
                .then(|| Change { name, ..change(What::Renamed, 0, Role::Member) })
        }
        GroupEdit::Promote(user) => {
            needs(Role::Owner)?;
            let is_plain = group.role(user).ok_or(Fault::Unknown)? == Role::Member;
            is_plain.then(|| change(What::Role, user, Role::Admin))
        }
        GroupEdit::Demote(user) => {
            needs(Role::Owner)?;
            match group.role(user).ok_or(Fault::Unknown)? {
                Role::Owner => return Err(Fault::Conflict),
                Role::Admin => Some(change(What::Role, user, Role::Member)),
                Role::Member => None,
            }
        }
        GroupEdit::HandOver(user) => {
            needs(Role::Owner)?;
            let is_owner = group.role(user).ok_or(Fault::Unknown)? == Role::Owner;
            (!is_owner).then(|| change(What::Role, user, Role::Owner))
        }
        GroupEdit::End => {
            needs(Role::Owner)?;
            Some(change(What::Ended, 0, Role::Member))
        }
    })
}

/// What is to be done so that a user whose account is gone leaves; a group of others gets another
/// owner first. None: the user is not in it.
#[must_use]
pub fn farewell(group: &Group, user: u64) -> Option<GroupEdit> {
    match group.role(user)? {
        Role::Owner if group.count() == 1 => Some(GroupEdit::End),
        Role::Owner => group.heir_of(user).map(GroupEdit::HandOver),
        Role::Admin | Role::Member => Some(GroupEdit::Remove(user)),
    }
}

/// A name is short text that can be seen, without control characters.
fn is_name(name: &str) -> bool {
    let fits = name.len() <= limits::GROUP_NAME_BYTES_MAX && !name.trim().is_empty();
    fits && !name.chars().any(char::is_control)
}

/// The change of the record at `position` happens. Idempotent: a replay may show it twice, or
/// after its effect. Returns the group's index; none: it is over, or was never there.
pub fn apply(
    tables: &mut Tables,
    placement: Placement,
    id: u64,
    change: &Change<'_>,
    position: u64,
) -> Option<u32> {
    let index = match change.what {
        What::Created => tables.groups.add(id),
        _ => tables.groups.find(id)?,
    };
    if change.what == What::Ended {
        end(tables, index);
        return None;
    }
    let group = tables.groups.get_mut(index)?;
    group.tail = group.tail.max(position);
    let home = placement.home(change.user);
    match change.what {
        What::Created => {
            (group.owner, group.name) = (change.user, change.name.into());
            group.join(change.user, home, position);
        }
        What::Added => group.join(change.user, home, position),
        What::Removed | What::Left => {
            group.part(change.user, home, position, limits::GROUP_FORMER_MAX);
        }
        What::Renamed => group.name = change.name.into(),
        What::Role => set_role(group, change.user, change.role),
        What::Ended => {}
    }
    tables.groups.touch_marks(index);
    Some(index)
}

fn set_role(group: &mut Group, user: u64, role: Role) {
    if role == Role::Owner {
        let former = std::mem::replace(&mut group.owner, user);
        group.set_admin(former, true);
    } else {
        group.set_admin(user, role == Role::Admin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: u64 = 77;

    /// A group of the owner 1, the admin 2 and the plain members 3 and 4.
    fn tables() -> Tables {
        let mut tables = Tables::new(4, 4, 4);
        let placement = Placement::new(1);
        let mut position = 0;
        let mut play = |what, user, role| {
            position += 1;
            let change = Change { what, by: 1, user, role, name: "friends" };
            apply(&mut tables, placement, GROUP, &change, position);
        };
        play(What::Created, 1, Role::Owner);
        for user in 2..=4 {
            play(What::Added, user, Role::Member);
        }
        play(What::Role, 2, Role::Admin);
        tables
    }

    fn ask(tables: &Tables, by: u64, edit: &GroupEdit) -> Result<Option<What>, Fault> {
        let rules = GroupRules { members_max: 5, ..GroupRules::default() };
        let group = tables.groups.of(GROUP).unwrap();
        decide(group, &rules, by, edit).map(|change| change.map(|change| change.what))
    }

    #[test]
    fn everybody_may_do_what_the_role_allows_and_no_more() {
        let tables = tables();
        let rename = || GroupEdit::Rename("enemies".into());
        for (edit, least) in [
            (GroupEdit::Add(9), 2),
            (GroupEdit::Remove(3), 2),
            (rename(), 2),
            (GroupEdit::Promote(3), 1),
            (GroupEdit::Demote(2), 1),
            (GroupEdit::HandOver(3), 1),
            (GroupEdit::End, 1),
        ] {
            for by in 1..=3 {
                let expected = by <= least;
                let told = ask(&tables, by, &edit);
                assert_eq!(matches!(told, Ok(Some(_))), expected, "{by} {edit:?}: {told:?}");
                assert!(expected || told == Err(Fault::Forbidden), "{by} {edit:?}: {told:?}");
            }
            assert!(matches!(ask(&tables, 0, &edit), Ok(Some(_))), "the operator: {edit:?}");
            assert_eq!(ask(&tables, 9, &edit), Err(Fault::Unknown), "a stranger: {edit:?}");
        }
    }

    #[test]
    fn what_is_so_already_changes_nothing_and_what_cannot_be_is_refused() {
        let tables = tables();
        for edit in [
            GroupEdit::Add(3),
            GroupEdit::Remove(9),
            GroupEdit::Rename("friends".into()),
            GroupEdit::Promote(2),
            GroupEdit::Demote(3),
            GroupEdit::HandOver(1),
        ] {
            assert_eq!(ask(&tables, 1, &edit), Ok(None), "{edit:?}");
        }
        for (by, edit, fault) in [
            (1, GroupEdit::Leave, Fault::Conflict),
            (2, GroupEdit::Remove(1), Fault::Conflict),
            (1, GroupEdit::Demote(1), Fault::Conflict),
            (1, GroupEdit::Promote(9), Fault::Unknown),
            (1, GroupEdit::Rename(String::new()), Fault::Conflict),
            (1, GroupEdit::Rename("a\nb".into()), Fault::Conflict),
            (1, GroupEdit::Rename("x".repeat(limits::GROUP_NAME_BYTES_MAX + 1)), Fault::Conflict),
            (0, GroupEdit::Leave, Fault::Conflict),
        ] {
            assert_eq!(ask(&tables, by, &edit), Err(fault), "{by} {edit:?}");
        }
        assert_eq!(create(&tables, GROUP, 1, "friends"), Ok(None), "asked again");
        assert_eq!(create(&tables, GROUP, 2, "friends"), Err(Fault::Conflict));
    }

    #[test]
    fn a_handed_over_group_has_one_owner_and_the_former_one_is_an_admin() {
        let mut tables = tables();
        let edit = GroupEdit::HandOver(3);
        let group = tables.groups.of(GROUP).unwrap();
        let change = decide(group, &GroupRules::default(), 1, &edit).unwrap().unwrap();
        apply(&mut tables, Placement::new(1), GROUP, &change, 10);
        let group = tables.groups.of(GROUP).unwrap();
        let roles = [1, 2, 3, 4].map(|user| group.role(user).unwrap());
        assert_eq!(roles, [Role::Admin, Role::Admin, Role::Owner, Role::Member]);
    }

    #[test]
    fn whose_account_is_gone_leaves_and_an_owner_hands_over_first() {
        let mut tables = tables();
        let mut position = 10;
        for user in [1, 3, 2, 4] {
            while let Some(edit) = tables.groups.of(GROUP).and_then(|it| farewell(it, user)) {
                let group = tables.groups.of(GROUP).unwrap();
                let change = decide(group, &GroupRules::default(), 0, &edit).unwrap().unwrap();
                position += 1;
                apply(&mut tables, Placement::new(1), GROUP, &change, position);
            }
            let owner = tables.groups.of(GROUP).map(|group| group.owner);
            let expected = [(1, Some(2)), (3, Some(2)), (2, Some(4)), (4, None)];
            assert!(expected.contains(&(user, owner)), "{user} left, and the owner is {owner:?}");
        }
    }

    #[test]
    fn the_last_one_to_leave_ends_the_group() {
        let mut tables = tables();
        for user in [4, 3, 2] {
            let group = tables.groups.of(GROUP).unwrap();
            let edit = GroupEdit::Leave;
            let change = decide(group, &GroupRules::default(), user, &edit).unwrap().unwrap();
            assert_eq!(change.what, What::Left);
            apply(&mut tables, Placement::new(1), GROUP, &change, 20 + user);
        }
        assert_eq!(ask(&tables, 1, &GroupEdit::Leave), Ok(Some(What::Ended)));
        let change = Change { what: What::Ended, by: 1, user: 0, role: Role::Member, name: "" };
        assert_eq!(apply(&mut tables, Placement::new(1), GROUP, &change, 30), None);
        assert!(tables.groups.of(GROUP).is_none());
    }

    #[test]
    fn a_record_says_what_the_change_was() {
        for what in (1..=7).map(|number| What::from_code(number).unwrap()) {
            let change = Change { what, by: 5, user: 6, role: Role::Admin, name: "Bücher" };
            assert_eq!(Change::of(&change.record(GROUP, 9, 1)), Some(change));
        }
    }
}
