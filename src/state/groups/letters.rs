//! What homes of groups and homes of members say to each other.

use crate::mem::Token;
use crate::state::order::{Fault, Reply};
use std::fmt;
use std::sync::Arc;
use wire::{GroupChange, Mark, MessageId, Refusal, Relation};

/// A letter about a group.
#[derive(Debug)]
pub enum Letter {
    /// To members' homes: a record for those who are here.
    Push(Arc<Pushed>),
    /// To members' homes: there is something that was not pushed.
    Head {
        /// In which group.
        group: u64,
        /// Up to where.
        head: u64,
    },
    /// To a member's home: who is in, and who is not any more.
    Tiding(Tiding),
    /// To a group's home and back: where members stand. The box comes back empty.
    Stands(Box<Stands>),
    /// To a group's home and back: a page of its stream.
    Page(Box<Page>),
    /// To a user's home and back: may the user come into a group?
    Joining(Box<Joining>),
    /// To a group's home: the account of a member is gone.
    Quit {
        /// Which group.
        group: u64,
        /// Whose.
        user: u64,
    },
    /// To an author's home: messages got a mark.
    Tick(Tick),
    /// To a group's home: somebody types.
    Typing(Typing),
    /// To members' homes: the same.
    Typed(Typing),
}

const _: () = assert!(size_of::<Letter>() <= 48);

/// What members' homes get of a record, one for all of them.
#[derive(Debug)]
pub struct Pushed {
    /// The group.
    pub group: u64,
    /// What was announced before it: who was pushed that is live.
    pub after: u64,
    /// Its position.
    pub position: u64,
    /// Which message.
    pub id: MessageId,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// The application's own.
    pub kind: u32,
    /// The message it relates to.
    pub relation: Option<Relation>,
    /// No message: the group changed.
    pub change: Option<GroupChange>,
    /// Opaque, or a name.
    pub payload: Vec<u8>,
}

impl Default for Pushed {
    fn default() -> Self {
        Self {
            group: 0,
            after: 0,
            position: 0,
            id: MessageId { sender: 0, device: 0, client_id: 0 },
            time_ms: 0,
            kind: 0,
            relation: None,
            change: None,
            payload: Vec::new(),
        }
    }
}

/// Who is in a group, and who is not any more. These are never dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiding {
    /// A user came.
    Joined {
        /// Into which group.
        group: u64,
        /// Who.
        user: u64,
        /// By the record at this position,
        position: u64,
        /// which is pushed next.
        pushes: bool,
    },
    /// A user went.
    Left {
        /// Out of which group.
        group: u64,
        /// Who.
        user: u64,
        /// By the record at this position.
        position: u64,
    },
    /// The group is over.
    Ended {
        /// Which.
        group: u64,
        /// By the record at this position.
        position: u64,
    },
}

/// Where a member stands, as its home tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// In which group.
    pub group: u64,
    /// Who.
    pub user: u64,
    /// One device has everything up to here.
    pub has: u64,
    /// Read up to here.
    pub read: u64,
    /// All devices have everything up to here.
    pub acked: u64,
}

/// Where some members stand.
#[derive(Debug, Default)]
pub struct Stands {
    /// At most [`crate::limits::GROUP_MARKS_PER_LETTER_MAX`].
    pub stands: Vec<Stand>,
}

/// Marks for the author of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Whose messages got the mark.
    pub author: u64,
    /// In which group.
    pub group: u64,
    /// Positions above this,
    pub after: u64,
    /// up to this,
    pub up_to: u64,
    /// have this mark.
    pub mark: Mark,
}

/// Somebody types in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typing {
    /// Where.
    pub group: u64,
    /// Who.
    pub from: u64,
    /// Or stopped to.
    pub stopped: bool,
}

/// A user who is to come into a group: the user's home is asked first.
pub struct Joining {
    /// Into which group.
    pub group: u64,
    /// Who.
    pub user: u64,
    /// Who adds the user; 0: the operator.
    pub by: u64,
    /// The group begins, with this name and the user as its owner.
    pub begins: Option<String>,
    /// Why the user can't come.
    pub fault: Option<Fault>,
    /// The way back of the order.
    pub reply: Reply,
}

impl fmt::Debug for Joining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut joining = f.debug_struct("Joining");
        joining.field("group", &self.group).field("user", &self.user).field("by", &self.by);
        joining.field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// A question for a part of a group's stream, with its answer.
#[derive(Debug)]
pub struct Page {
    /// Who asks: the connection,
    pub conn: Token,
    /// and the user.
    pub user: u64,
    /// The client's number of the question.
    pub request: u64,
    /// About which group.
    pub group: u64,
    /// From (and without) this position; 0: from the end, or the beginning.
    pub from: u64,
    /// Towards newer records.
    pub forwards: bool,
    /// Items at the most, 1 to [`wire::PAGE_ITEMS_MAX`].
    pub limit: u32,
    /// The items.
    pub items: Vec<Piece>,
    /// Their payloads, one behind the other.
    pub payloads: Vec<u8>,
    /// There are further ones.
    pub more: bool,
    /// Forwards: nothing else that the asker may read lies at or below this position.
    pub up_to: u64,
    /// Why there is no answer.
    pub refusal: Option<Refusal>,
}

/// One item of a page.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its position.
    pub position: u64,
    /// Which message.
    pub id: MessageId,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// The application's own.
    pub kind: u32,
    /// The message it relates to.
    pub relation: Option<Relation>,
    /// No message: the group changed.
    pub change: Option<GroupChange>,
    /// Bytes of its payload.
    pub bytes: usize,
}
