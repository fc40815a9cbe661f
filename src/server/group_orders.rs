//! Orders about groups on the control socket: for an operator who has no other way to them, and
//! for tests. As JSON, one order in, one answer out.

use crate::limits;
use crate::shard::Desk;
use crate::state::order::{Done, Fault, GroupCard, GroupEdit, MemberCard, Order};
use serde::{Deserialize, Serialize};
use std::sync::mpsc;
use std::time::Duration;

/// What is asked. `by` 0 is the operator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Ask {
    /// A group begins.
    Create { group: u64, owner: u64, name: String },
    /// A group changes.
    Edit {
        group: u64,
        #[serde(default)]
        by: u64,
        edit: Edit,
    },
    /// What is known of a group.
    Look {
        group: u64,
        #[serde(default)]
        by: u64,
    },
    /// A page of members.
    Members {
        group: u64,
        #[serde(default)]
        by: u64,
        #[serde(default)]
        after: u64,
    },
    /// Who has and read a message.
    Marks {
        group: u64,
        #[serde(default)]
        by: u64,
        position: u64,
        #[serde(default)]
        after: u64,
    },
    /// The groups of a user.
    Of {
        user: u64,
        #[serde(default)]
        after: u64,
    },
}

/// How a group changes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Edit {
    Add(u64),
    Remove(u64),
    Leave,
    Rename(String),
    Promote(u64),
    Demote(u64),
    Handover(u64),
    End,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Answer {
    /// It changed, by the record at this position (0: it was so already).
    Changed(u64),
    /// A group.
    Group { name: String, owner: u64, members: u32, pulls: bool, head: u64 },
    /// A page of members: user, role, since, has, read.
    Members { members: Vec<(u64, u32, u64, u64, u64)>, more: bool },
    /// A page of groups.
    Groups { groups: Vec<u64>, more: bool },
    /// Not obeyed, and why.
    Fault(String),
}

/// Hands an order to its home and waits for the answer.
pub(super) fn obey(desk: &Desk, ask: Ask) -> Answer {
    let (told, heard) = mpsc::sync_channel(1);
    desk.send(
        order_of(ask),
        Box::new(move |answer| {
            let _who_asked_gave_up = told.try_send(answer);
        }),
    );
    match heard.recv_timeout(Duration::from_millis(limits::CONTROL_WAIT_MS)) {
        Ok(Ok(done)) => answer_of(done),
        Ok(Err(fault)) => Answer::Fault(name_of(fault)),
        Err(_) => Answer::Fault("no answer in time; it may still happen: look".to_owned()),
    }
}

fn order_of(ask: Ask) -> Order {
    let limit = u32::try_from(limits::GROUP_PAGE_MAX).unwrap_or(u32::MAX);
    match ask {
        Ask::Create { group, owner, name } => Order::GroupCreate { group, owner, name },
        Ask::Edit { group, by, edit } => Order::GroupEdit { group, by, edit: edit_of(edit) },
        Ask::Look { group, by } => Order::GroupLook { group, by },
        Ask::Members { group, by, after } => Order::GroupMembers { group, by, after, limit },
        Ask::Marks { group, by, position, after } => {
            Order::GroupMarks { group, by, position, after, limit }
        }
        Ask::Of { user, after } => Order::GroupsOf { user, after, limit },
    }
}

fn edit_of(edit: Edit) -> GroupEdit {
    match edit {
        Edit::Add(user) => GroupEdit::Add(user),
        Edit::Remove(user) => GroupEdit::Remove(user),
        Edit::Leave => GroupEdit::Leave,
        Edit::Rename(name) => GroupEdit::Rename(name),
        Edit::Promote(user) => GroupEdit::Promote(user),
        Edit::Demote(user) => GroupEdit::Demote(user),
        Edit::Handover(user) => GroupEdit::HandOver(user),
        Edit::End => GroupEdit::End,
    }
}

fn answer_of(done: Done) -> Answer {
    match done {
        Done::Changed { position } => Answer::Changed(position),
        Done::Group(GroupCard { name, owner, members, pulls, head, .. }) => {
            Answer::Group { name, owner, members, pulls, head }
        }
        Done::Members { members, more } => {
            let row = |card: MemberCard| {
                let MemberCard { user, role, since, has, read } = card;
                (user, role as u32, since, has, read)
            };
            Answer::Members { members: members.into_iter().map(row).collect(), more }
        }
        Done::Groups { groups, more } => Answer::Groups { groups, more },
        Done::Obeyed | Done::Posted { .. } => Answer::Changed(0),
    }
}

fn name_of(fault: Fault) -> String {
    match fault {
        Fault::Unknown => "there is no such group or user, or the asker is no member".to_owned(),
        Fault::Forbidden => "the asker may not do that".to_owned(),
        Fault::Full => "it would be more than the limit".to_owned(),
        Fault::Conflict => {
            "it stands against what is there, such as an owner who leaves".to_owned()
        }
        Fault::Overloaded => "too much is under way; try again".to_owned(),
        Fault::StoreFailed => "the log takes nothing; see the server's own messages".to_owned(),
        Fault::NotSupported => "this server does not do that".to_owned(),
        Fault::Refused(reason) => format!("refused: {reason:?}"),
    }
}
