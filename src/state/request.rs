//! A message on its way through the server, and what shards say to each other.
//!
//! Requests are boxed and recycled: the box goes to the recipient's home and comes home with the
//! outcome, so that a hop between shards allocates nothing.

use crate::state::NONE;
use crate::state::groups::Letter;
use crate::state::window::Outcome;
use std::net::IpAddr;
use wire::{Confirmed, Parser, Refusal, Relation, Stream};

/// One message under way.
#[derive(Debug)]
pub struct Request {
    /// Who sends.
    pub sender: u64,
    /// From which device.
    pub device: u32,
    /// Where that device probably is in the tables of its home: to be checked. [`NONE`] if nobody
    /// knows.
    pub device_at: u32,
    /// Refusals with "try again" its shard had heard from the recipient's home, see `path::store`.
    pub refusals_heard: u64,
    /// The device's id for it.
    pub client_id: u64,
    /// The recipient: a user,
    pub to: u64,
    /// or a group.
    pub in_group: bool,
    /// CRC-32C over everything that makes it this message.
    pub request_crc: u32,
    /// The application's kind.
    pub kind: u32,
    /// Asked-for retention in seconds, 0 for the default.
    pub ttl_s: u32,
    /// The message it relates to.
    pub relation: Option<Relation>,
    /// Opaque.
    pub payload: Vec<u8>,
    /// What became of it.
    pub outcome: Outcome,
    /// The refusal, when it may be tried again.
    pub retry: Option<Refusal>,
    /// What is staged for it at present.
    pub stage: Staged,
}

impl Request {
    /// The recipient.
    #[must_use]
    pub fn stream(&self) -> Stream {
        if self.in_group { Stream::Group(self.to) } else { Stream::User(self.to) }
    }
}

/// Which record of a request waits for its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staged {
    /// The message itself, at the recipient's home.
    Message,
    /// The copy for the sender's other devices, at the sender's home.
    OwnCopy,
    /// The note that it was refused for good, at the sender's home.
    Refusal,
    /// The word that it was given up, at the sender's home.
    Notice,
}

/// Requests not in use, to be filled again.
#[derive(Debug, Default)]
pub struct Requests {
    #[allow(clippy::vec_box, reason = "the box itself is recycled: it travels between shards")]
    spare: Vec<Box<Request>>,
}

const SPARE_REQUESTS_MAX: usize = 8 * 1024;
const SPARE_PAYLOAD_BYTES_MAX: usize = 4 * 1024;

impl Requests {
    /// An empty request.
    pub fn take(&mut self) -> Box<Request> {
        self.spare.pop().unwrap_or_else(|| {
            Box::new(Request {
                sender: 0,
                device: 0,
                device_at: NONE,
                refusals_heard: 0,
                client_id: 0,
                to: 0,
                in_group: false,
                request_crc: 0,
                kind: 0,
                ttl_s: 0,
                relation: None,
                payload: Vec::new(),
                outcome: Outcome::Pending,
                retry: None,
                stage: Staged::Message,
            })
        })
    }

    /// Gives a request back.
    pub fn give(&mut self, mut request: Box<Request>) {
        if self.spare.len() < SPARE_REQUESTS_MAX {
            request.device_at = NONE;
            request.payload.clear();
            request.payload.shrink_to(SPARE_PAYLOAD_BYTES_MAX);
            self.spare.push(request);
        }
    }
}

/// A session on its way to its user's home.
#[derive(Debug)]
pub struct Arrival<S> {
    /// The connection itself, registered nowhere.
    pub socket: S,
    /// Where it came from.
    pub source: IpAddr,
    /// Where its input stands.
    pub parser: Parser,
    /// Bytes that came behind the `Hello`.
    pub surplus: Vec<u8>,
    /// Who it is.
    pub login: Login,
}

/// A `Hello` whose token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: u64,
    /// The device.
    pub device: u32,
    /// Seconds since 1970 when the token ends,
    pub expires_s: u64,
    /// and when it was issued; 0: it does not say.
    pub issued_s: u64,
    /// The highest position the device says it holds.
    pub resume_after: u64,
    /// The answers the device says it saw.
    pub confirmed: Confirmed,
    /// The user is at the device.
    pub active: bool,
}

/// What one shard says to another.
#[derive(Debug)]
pub enum Envelope<S> {
    /// A session for its user's home.
    Move(Box<Arrival<S>>),
    /// A message for its recipient's home; comes back with the outcome.
    Send(Box<Request>),
    /// A message whose time is over, for its sender's home; comes back when the sender is told.
    Notice(Box<Request>),
    /// Marks for the devices of `sender`.
    Receipt {
        /// Whose messages got the mark.
        sender: u64,
        /// In whose stream.
        recipient: u64,
        /// Positions above this,
        after: u64,
        /// up to this,
        up_to: u64,
        /// have this mark.
        mark: wire::Mark,
    },
    /// An errand for the home of its target.
    Errand(Errand),
    /// Something about a group.
    Group(Letter),
    /// Somebody types.
    Typing {
        /// Who types.
        from: u64,
        /// To whom.
        to: u64,
        /// Or stopped to.
        stopped: bool,
    },
    /// The presence of a watched user.
    Presence {
        /// Who watches,
        watcher: u64,
        /// on which device,
        device: u32,
        /// whom,
        user: u64,
        /// and what is true now.
        online: bool,
        /// Seconds since 1970.
        last_seen_s: u32,
        /// The watcher has just asked.
        asked: bool,
    },
}

/// A question about another user that is answered by pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Tell `asker` the marks of what it wrote to `peer`.
    Receipts {
        /// Who asks.
        asker: u64,
        /// About whom.
        peer: u64,
    },
    /// Tell `asker` the marks of what it wrote in `group`.
    Ticks {
        /// Who asks.
        asker: u64,
        /// About which group.
        group: u64,
    },
    /// Tell `watcher` whenever the presence of `target` changes.
    Watch {
        /// Who watches,
        watcher: u64,
        /// on which device,
        device: u32,
        /// whom.
        target: u64,
    },
}

impl Errand {
    /// Whose home has the answer: a user's or a group's.
    #[must_use]
    pub fn target(&self) -> u64 {
        match *self {
            Self::Receipts { peer, .. } => peer,
            Self::Ticks { group, .. } => group,
            Self::Watch { target, .. } => target,
        }
    }
}
