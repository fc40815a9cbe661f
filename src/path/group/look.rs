//! What members and the operator may know of a group, and users of their groups.

use crate::limits;
use crate::path::group::GroupRules;
use crate::state::Tables;
use crate::state::groups::{Group, Member};
use crate::state::order::{Done, Fault, GroupCard, MemberCard};

/// A group as `by` (0: the operator) may see it.
///
/// # Errors
/// There is none, or `by` is no member.
pub fn card(tables: &Tables, rules: &GroupRules, id: u64, by: u64) -> Result<Done, Fault> {
    let group = visible(tables, id, by)?;
    Ok(Done::Group(GroupCard {
        group: id,
        name: group.name.to_string(),
        owner: group.owner,
        members: u32::try_from(group.count()).unwrap_or(u32::MAX),
        role: group.role(by),
        pulls: group.count() > rules.push_max as usize,
        head: group.tail,
    }))
}

/// A page of members, by id.
///
/// # Errors
/// As [`card`].
pub fn members(tables: &Tables, id: u64, by: u64, after: u64, limit: u32) -> Result<Done, Fault> {
    let group = visible(tables, id, by)?;
    let mut found = page(group, after, limit, |_| true);
    if let Done::Members { members, .. } = &mut found
        && by != 0
    {
        // Where others stand is for authors, message by message ([`marks`]).
        for member in members.iter_mut().filter(|member| member.user != by) {
            (member.has, member.read) = (0, 0);
        }
    }
    Ok(found)
}

/// A page of the members who were in when the record at `position` came: its author asks. Once
/// everybody has it nobody knows the author any more: then whoever could read it may ask.
///
/// # Errors
/// As [`card`]; or `by` may not know of that record.
pub fn marks(
    tables: &Tables,
    (id, by): (u64, u64),
    position: u64,
    after: u64,
    limit: u32,
) -> Result<Done, Fault> {
    let group = visible(tables, id, by)?;
    if by != 0 {
        match group.find(position) {
            Some(entry) if entry.sender != by => return Err(Fault::Forbidden),
            None if !group.may_read(by, position) || position > group.tail => {
                return Err(Fault::Unknown);
            }
            _ => {}
        }
    }
    Ok(page(group, after, limit, |member| member.since <= position))
}

/// A page of a user's groups, by id. At the user's home.
#[must_use]
pub fn groups_of(tables: &Tables, user: u64, after: u64, limit: u32) -> Done {
    let Some(user) = tables.users.find(user) else {
        return Done::Groups { groups: Vec::new(), more: false };
    };
    let circles = &tables.circles;
    let memberships = circles.memberships_of(user).filter_map(|at| circles.membership(at));
    let present = memberships.filter(|here| !circles.is_over(here) && here.group > after);
    let mut groups: Vec<u64> = present.map(|here| here.group).collect();
    groups.sort_unstable();
    let limit = bounded(limit);
    let more = groups.len() > limit;
    groups.truncate(limit);
    Done::Groups { groups, more }
}

fn visible(tables: &Tables, id: u64, by: u64) -> Result<&Group, Fault> {
    let group = tables.groups.of(id).ok_or(Fault::Unknown)?;
    if by == 0 || group.members.contains_key(&by) { Ok(group) } else { Err(Fault::Unknown) }
}

fn page(group: &Group, after: u64, limit: u32, which: impl Fn(&Member) -> bool) -> Done {
    let Some(first) = after.checked_add(1) else {
        return Done::Members { members: Vec::new(), more: false };
    };
    let limit = bounded(limit);
    let mut rest = group.members.range(first..).filter(|(_, member)| which(member)).peekable();
    let mut members = Vec::new();
    while members.len() < limit
        && let Some((&user, member)) = rest.next()
    {
        let Member { since, has, read, .. } = *member;
        let role = group.role(user).unwrap_or_default();
        members.push(MemberCard { user, role, since, has, read });
    }
    Done::Members { members, more: rest.peek().is_some() }
}

fn bounded(limit: u32) -> usize {
    (limit as usize).clamp(1, limits::GROUP_PAGE_MAX)
}
