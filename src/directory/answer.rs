//! What the directory answers, and why it refuses.

use super::Secret;
use crate::state::order::Audience;
use std::time::Duration;

/// An answer; which one, each [`super::Command`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Done,
    /// Tokens of a device.
    Session(Session),
    /// Whether a token's holder may act.
    Standing(Standing),
    /// Devices, by number.
    Devices(Vec<Device>),
    /// One's own account, or any one for the operator.
    Account(Box<Account>),
    /// A page of accounts.
    Accounts {
        /// By id, or by name where one was searched for.
        accounts: Vec<Account>,
        /// There are further ones.
        more: bool,
    },
    /// What others see of a user.
    Card(Card),
    /// A page of a contact book.
    Contacts {
        /// By id.
        contacts: Vec<Contact>,
        /// There are further ones.
        more: bool,
    },
    /// A page of blocked users.
    Blocks {
        /// By id.
        users: Vec<u64>,
        /// There are further ones.
        more: bool,
    },
    /// How somebody may be put into a group.
    GroupAdd(GroupAdd),
    /// A page of invitations.
    Invitations {
        /// By number.
        invitations: Vec<Invitation>,
        /// There are further ones.
        more: bool,
    },
    /// One invitation.
    Invitation(Invitation),
    /// A report was taken, under this number.
    Filed(u64),
    /// A page of reports.
    Reports {
        /// By number.
        reports: Vec<ReportCard>,
        /// There are further ones.
        more: bool,
    },
    /// A code with which to register. It is shown this once.
    InviteMade {
        /// What is known of it later.
        invite: Invite,
        /// The code.
        code: Secret,
    },
    /// A page of codes.
    Invites {
        /// By number.
        invites: Vec<Invite>,
        /// There are further ones.
        more: bool,
    },
    /// How many there are.
    Counts(Counts),
    /// How a request with an idempotency key goes on.
    Begun(Begun),
    /// Events to be told.
    Events(Vec<Event>),
}

/// Tokens of a device that is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Who.
    pub user: u64,
    /// Which device.
    pub device: u32,
    /// The token for the chat socket and the HTTP API.
    pub access: Secret,
    /// How long it is good, in seconds.
    pub access_s: u64,
    /// Good once, for the next two tokens.
    pub refresh: Secret,
    /// How long it is good unless used, in seconds.
    pub refresh_s: u64,
}

/// Whether a token's holder may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Good,
    /// Suspended by the operator.
    Suspended,
    /// The device was logged out after the token was issued.
    LoggedOut,
    /// The account is deleted, or being deleted.
    Deleted,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number; never given to another one of this user.
    pub device: u32,
    /// What the user calls it.
    pub label: String,
    /// When it logged in, in seconds since 1970.
    pub created_s: u64,
    /// When it last fetched tokens, in seconds since 1970.
    pub refreshed_s: u64,
}

/// All of an account but what is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub user: u64,
    /// When it began, in seconds since 1970; 0: only tokens of the operator know it.
    pub created_s: u64,
    /// Logs in with a password of its own.
    pub has_password: bool,
    /// The name.
    pub name: Option<String>,
    /// The phone number.
    pub phone: Option<String>,
    /// The name others see.
    pub display: String,
    /// A line about the user.
    pub about: String,
    /// The media id of a picture.
    pub avatar: String,
    /// Who may see whether and when the user was last here.
    pub last_seen: Audience,
    /// Neither gives nor gets tick 3.
    pub receipts_off: bool,
    /// First messages of strangers are marked as requests.
    pub marks_requests: bool,
    /// Who may put the user into groups unasked.
    pub group_adders: Audience,
    /// Suspended by the operator.
    pub suspended: bool,
    /// Why: the operator's words. Not for the user.
    pub note: String,
    /// Being deleted.
    pub ending: bool,
}

/// What others see of a user. Phone numbers are not in it: who looks for one has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its id.
    pub user: u64,
    /// The name.
    pub name: Option<String>,
    /// The name others see; empty for whom the user blocked, like the next two.
    pub display: String,
    /// A line about the user.
    pub about: String,
    /// The media id of a picture.
    pub avatar: String,
}

/// An entry of a contact book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The contact as others see it. A deleted one has an id only.
    pub card: Card,
    /// What the owner of the book calls it.
    pub alias: String,
    /// The owner of the book blocked it.
    pub blocked: bool,
    /// It was deleted, or nobody knows it.
    pub gone: bool,
}

/// How somebody may be put into a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupAdd {
    /// At once.
    Now,
    /// An invitation was left. (Also to whom the target blocked: nobody sees that one.)
    Asked,
}

/// An invitation to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its number.
    pub id: u64,
    /// The group.
    pub group: u64,
    /// Who invites.
    pub by: u64,
    /// When, in seconds since 1970.
    pub at_s: u64,
}

/// A report, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportCard {
    /// Its number.
    pub id: u64,
    /// What was reported.
    pub report: super::Report,
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// What was done about it; `None`: nothing yet.
    pub closed: Option<String>,
}

/// A code with which to register, without the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Its number.
    pub id: u64,
    /// How many may still register with it.
    pub uses: u32,
    /// Until when, in seconds since 1970.
    pub until_s: u64,
    /// The operator's words.
    pub note: String,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Users the directory knows something of.
    pub users: u64,
    /// Of these suspended.
    pub suspended: u64,
    /// Devices that are logged in with a password.
    pub devices: u64,
    /// Contacts and blocks.
    pub ties: u64,
    /// Reports nobody closed.
    pub reports: u64,
    /// Events the webhook has not been told.
    pub events: u64,
    /// Events that were dropped because too many waited, since the start.
    pub events_dropped: u64,
}

/// How a request with an idempotency key goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is the first with this key: carry it out.
    First,
    /// It was answered so.
    Answered {
        /// The status of the answer.
        status: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// It is under way.
    UnderWay,
    /// The key was used for another request.
    Other,
}

/// Something the webhook is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number; they grow.
    pub id: u64,
    /// What happened: `user.registered`, `user.deleted`, `user.suspended`, `user.unsuspended`,
    /// `report.filed`, or what `Command::Emit` said.
    pub kind: String,
    /// To whom; 0: to nobody.
    pub user: u64,
    /// More of it, a JSON object.
    pub body: String,
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// How often it could not be told.
    pub attempts: u32,
}

/// Why something was not done. Nothing was changed then. The texts say what to do and may be told
/// to the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Too much waits.
    #[error("too much is under way; try again in a moment")]
    Overloaded,
    /// The directory's files can't be written or read; the operator was told more.
    #[error("the directory can't reach its files; try again later")]
    Unavailable,
    /// Nobody may register.
    #[error("this server does not let people register; ask its operator for an account")]
    Closed,
    /// Only who has a code may register.
    #[error(
        "this server lets in who has an invitation code: ask its operator for one, and send it as \
         `invite` (`myriad chat --register --invite CODE`)"
    )]
    InviteNeeded,
    /// No code that is good.
    #[error("this code is not good, or not any more; ask the operator for another one")]
    InviteNotGood,
    /// Something in the command can't be.
    #[error("{field}: {advice}")]
    Invalid {
        /// Which field of the command.
        field: &'static str,
        /// What it should be.
        advice: &'static str,
    },
    /// The name or phone number is another one's.
    #[error("this {0} is taken; choose another one")]
    Taken(&'static str),
    /// Unknown user or wrong password: nobody is told which.
    #[error("name and password do not fit; check both")]
    WrongPassword,
    /// The refresh token is not good; if it was spent before, its device is logged out now.
    #[error("this session is over; log in again")]
    SessionOver,
    /// The account is suspended.
    #[error("this account is suspended; ask the operator")]
    Suspended,
    /// There is no such thing, or the one who asks may not know of it.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// It would be one more than there may be.
    #[error("there are too many {what} ({max}); remove some first")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: u64,
    },
    /// It stands against what is there.
    #[error("{0}")]
    Conflict(&'static str),
}

impl Fault {
    /// When a retry may help, if one can at all.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Overloaded => Some(Duration::from_secs(1)),
            Self::Unavailable => Some(Duration::from_secs(10)),
            _ => None,
        }
    }
}
