//! What the directory and the HTTP API ask of shards, and what shards answer.
//!
//! An order goes to one home (that of a user or of a group) through a bounded inlet and is answered
//! once: when what it changed is obeyed by the next message and, if it is a record of the log,
//! durable. The way back is called on the shard's thread, so it may only put the answer somewhere.

use std::fmt;
use wire::{Refusal, Relation, Stream};

/// An order with its way back.
pub struct Ordered {
    /// What is asked.
    pub order: Order,
    /// Called once, on the shard's thread: must not block.
    pub reply: Reply,
}

/// The way back of an order.
pub type Reply = Box<dyn FnOnce(Result<Done, Fault>) + Send>;

/// An order that is obeyed as soon as the log says so.
pub struct Pending {
    /// The way back.
    pub reply: Reply,
    /// What is answered then.
    pub done: Done,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.done).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ordered").field(&self.order).finish_non_exhaustive()
    }
}

/// What is asked of a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The user exists and has these settings (all of them: the former are replaced).
    Person {
        /// Who.
        user: u64,
        /// The settings.
        person: Person,
    },
    /// What `user` has to do with `other` (all of it: the former is replaced). At `user`'s home.
    Relate {
        /// Whose view it is.
        user: u64,
        /// Of whom.
        other: u64,
        /// The view.
        ties: Ties,
    },
    /// The device is logged out: its session ends, its cursor goes, and so does every token of it
    /// issued before `not_before_s`.
    EndDevice {
        /// Whose.
        user: u64,
        /// Which.
        device: u32,
        /// Seconds since 1970.
        not_before_s: u64,
    },
    /// The account is gone: all sessions, devices and waiting mail with it; it is unknown after.
    EndUser {
        /// Who.
        user: u64,
        /// Seconds since 1970: tokens issued before are refused.
        not_before_s: u64,
    },
    /// A message from outside a session. At its sender's home.
    Post(Box<Post>),
    /// A group begins. At the group's home, like all that follow; with this id and owner it may be
    /// asked again and is answered alike.
    GroupCreate {
        /// Its id, not 0.
        group: u64,
        /// Its first member.
        owner: u64,
        /// Its name.
        name: String,
    },
    /// A group changes.
    GroupEdit {
        /// Which.
        group: u64,
        /// Who changes it; 0: the operator.
        by: u64,
        /// How.
        edit: GroupEdit,
    },
    /// What a member (or the operator, 0) may know of a group.
    GroupLook {
        /// Which.
        group: u64,
        /// Who asks.
        by: u64,
    },
    /// A page of members, by id.
    GroupMembers {
        /// Which.
        group: u64,
        /// Who asks.
        by: u64,
        /// Go on after this id; 0: from the first.
        after: u64,
        /// At the most.
        limit: u32,
    },
    /// Who has and who has read the message at `position`: its author asks (or the operator, 0).
    GroupMarks {
        /// Which.
        group: u64,
        /// Who asks.
        by: u64,
        /// The message.
        position: u64,
        /// Go on after this member; 0: from the first.
        after: u64,
        /// At the most.
        limit: u32,
    },
    /// The groups of a user, by id. At the user's home.
    GroupsOf {
        /// Whose.
        user: u64,
        /// Go on after this id; 0: from the first.
        after: u64,
        /// At the most.
        limit: u32,
    },
}

/// Settings of a user that the message path needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// No session, no sends: suspended by the operator.
    pub suspended: bool,
    /// Neither gives nor gets tick 3.
    pub receipts_off: bool,
    /// Who may see whether and when the user was last here.
    pub last_seen: Audience,
    /// First messages of strangers are marked as requests.
    pub marks_requests: bool,
}

/// Who may see something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    #[default]
    Everybody,
    /// Who is in the user's contact book.
    Contacts,
    /// Nobody.
    Nobody,
}

/// What a user has to do with another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ties {
    /// Is in the contact book.
    pub contact: bool,
    /// Is blocked.
    pub blocked: bool,
}

/// A message from outside a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// As whom.
    pub sender: u64,
    /// The caller's number of it: with the same one it is the same message ([`POST_DEVICE`]).
    pub client_id: u64,
    /// To whom.
    pub to: Stream,
    /// The application's kind.
    pub kind: u32,
    /// Asked-for retention in seconds; 0: the default.
    pub ttl_s: u32,
    /// The message it relates to.
    pub relation: Option<Relation>,
    /// Opaque.
    pub payload: Vec<u8>,
}

/// The device in the ids of messages from outside a session; no token has it.
pub const POST_DEVICE: u32 = u32::MAX;

/// A change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEdit {
    /// An admin adds a member.
    Add(u64),
    /// An admin removes a member.
    Remove(u64),
    /// `by` leaves. The last one to leave ends the group; an owner has to hand over before, unless
    /// alone.
    Leave,
    /// An admin gives it another name.
    Rename(String),
    /// The owner makes a member an admin.
    Promote(u64),
    /// The owner makes an admin a plain member.
    Demote(u64),
    /// The owner makes somebody else the owner, and becomes an admin.
    HandOver(u64),
    /// The owner ends it.
    End,
}

/// What a member is in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads and writes.
    #[default]
    Member,
    /// Also adds, removes, renames.
    Admin,
    /// Also makes admins, hands over, ends.
    Owner,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is so.
    Obeyed,
    /// A message is durable.
    Posted {
        /// Its position in the recipient's stream.
        position: u64,
        /// Milliseconds since 1970.
        time_ms: u64,
    },
    /// The group changed (or was so already: `position` 0).
    Changed {
        /// Of the record that says so, in the group's stream.
        position: u64,
    },
    /// A group.
    Group(GroupCard),
    /// A page of members.
    Members {
        /// By id.
        members: Vec<MemberCard>,
        /// There are further ones.
        more: bool,
    },
    /// A page of groups.
    Groups {
        /// By id.
        groups: Vec<u64>,
        /// There are further ones.
        more: bool,
    },
}

/// A group, as its members see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCard {
    /// Its id.
    pub group: u64,
    /// Its name.
    pub name: String,
    /// Who owns it.
    pub owner: u64,
    /// How many members it has.
    pub members: u32,
    /// What the asking member is in it; none for the operator.
    pub role: Option<Role>,
    /// Members are told that there is something and pull it.
    pub pulls: bool,
    /// The newest position of its stream.
    pub head: u64,
}

/// A member, as other members see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberCard {
    /// Who.
    pub user: u64,
    /// As what.
    pub role: Role,
    /// Joined at this position.
    pub since: u64,
    /// Has everything up to here.
    pub has: u64,
    /// Read everything up to here.
    pub read: u64,
}

/// Why an order was not obeyed. Nothing was changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such user or group, or the one who asks may not know of it.
    Unknown,
    /// The one who asks may not do that.
    Forbidden,
    /// It would be one more than the limit.
    Full,
    /// It is another one's, or stands against what is there (such as an owner who leaves).
    Conflict,
    /// A message was refused.
    Refused(Refusal),
    /// Too much is under way: try again.
    Overloaded,
    /// The log takes nothing (its disk is full, or it failed).
    StoreFailed,
    /// This server does not do that.
    NotSupported,
}

impl Order {
    /// Whose home it is for: a user's or a group's id.
    #[must_use]
    pub fn home(&self) -> u64 {
        match self {
            Self::Person { user, .. }
            | Self::Relate { user, .. }
            | Self::EndDevice { user, .. }
            | Self::EndUser { user, .. }
            | Self::GroupsOf { user, .. } => *user,
            Self::Post(post) => post.sender,
            Self::GroupCreate { group, .. }
            | Self::GroupEdit { group, .. }
            | Self::GroupLook { group, .. }
            | Self::GroupMembers { group, .. }
            | Self::GroupMarks { group, .. } => *group,
        }
    }
}
