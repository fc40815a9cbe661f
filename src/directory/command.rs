//! What may be asked of the directory.
//!
//! A command is answered once. One that changes something is answered when the change is durable
//! and, where shards need to know of it, obeyed by the next message. Who asks (`user`, `by`) was
//! checked by the caller: it is the user of a token, or the operator where a comment says so.

use super::Secret;
use crate::state::order::Audience;

/// A command. Each says what [`super::Answer`] it gets.
#[derive(Clone, Debug)]
pub enum Command {
    // ---- accounts and devices
    /// A new account and its first device: `Session`.
    Register(Register),
    /// A further device, or one that comes back: `Session`.
    LogIn {
        /// The account's name or phone number.
        handle: String,
        /// Its password.
        password: Secret,
        /// The device that comes back; one that is not this user's any more gets a new number.
        device: Option<u32>,
        /// What the user calls the device, at most `limits::LABEL_BYTES_MAX`.
        label: String,
    },
    /// New tokens for old: `Session`. The refresh token is spent; one that was spent before ends
    /// the device.
    Refresh {
        /// The refresh token.
        token: Secret,
    },
    /// Whether a token's holder may still act: `Standing`.
    Standing {
        /// The token's user.
        user: u64,
        /// The token's device.
        device: u32,
        /// When it was issued, in seconds since 1970.
        issued_s: u64,
    },
    /// The devices of a user: `Devices`.
    Devices {
        /// Whose.
        user: u64,
    },
    /// Logs a device out: `Done`.
    EndDevice {
        /// Whose.
        user: u64,
        /// Which.
        device: u32,
    },
    /// Another password: `Done`. All devices but `keep` are logged out.
    SetPassword {
        /// Whose.
        user: u64,
        /// The device that asks.
        keep: u32,
        /// The password so far.
        old: Secret,
        /// The new one.
        new: Secret,
    },
    /// Deletes an account and all the directory knows of the user: `Done`, when it is done. Once
    /// begun it is finished, after a restart too.
    DeleteUser {
        /// Who.
        user: u64,
        /// Has to be right for a user that has one; `None`: the operator deletes.
        password: Option<Secret>,
    },

    // ---- profiles and settings
    /// All of one's own account: `Account`.
    Account {
        /// Who.
        user: u64,
    },
    /// Changes of one's own account: `Account`, as it is then.
    Edit {
        /// Who.
        user: u64,
        /// What.
        edit: Box<Edit>,
    },
    /// What others see of a user: `Card`.
    Card {
        /// Who asks.
        by: u64,
        /// Of whom.
        user: u64,
    },
    /// The user with this name or phone number: `Card`.
    Find {
        /// Who asks.
        by: u64,
        /// The name, or the phone number with `+`.
        handle: String,
    },

    // ---- contacts and blocks
    /// A page of the contact book: `Contacts`.
    Contacts(Page),
    /// Adds a contact or renames it: `Done`.
    PutContact {
        /// Whose book.
        user: u64,
        /// Who goes in.
        other: u64,
        /// What `user` calls it, at most `limits::DISPLAY_BYTES_MAX`; may be empty.
        alias: String,
    },
    /// Takes a contact out: `Done`, also if it was not in.
    EndContact {
        /// Whose book.
        user: u64,
        /// Who goes out.
        other: u64,
    },
    /// A page of those a user blocked: `Blocks`.
    Blocks(Page),
    /// Blocks: `Done`.
    Block {
        /// Who blocks.
        user: u64,
        /// Whom.
        other: u64,
    },
    /// Unblocks: `Done`, also if it was not blocked.
    Unblock {
        /// Who unblocks.
        user: u64,
        /// Whom.
        other: u64,
    },

    // ---- invitations to groups
    /// Whether `by` may put `target` into a group, or `target` is asked first: `GroupAdd`.
    AskToAdd {
        /// Who adds. That it may add to this group is checked by the group's home.
        by: u64,
        /// Who is added.
        target: u64,
        /// To which group.
        group: u64,
    },
    /// A page of the invitations of a user, by their numbers: `Invitations`.
    Invitations(Page),
    /// One invitation of a user: `Invitation`.
    Invitation {
        /// Who was invited.
        user: u64,
        /// Its number.
        id: u64,
    },
    /// An invitation was followed, or is declined: `Done`.
    EndInvitation {
        /// Who was invited.
        user: u64,
        /// Its number.
        id: u64,
    },

    /// All invitations of a user to a group end: `Done`.
    Uninvite {
        /// Who was invited.
        target: u64,
        /// Where to.
        group: u64,
    },

    // ---- abuse
    /// Tells the operator of a user or a message: `Filed`.
    Report(Report),
    /// Operator: a page of reports, by their numbers: `Reports`.
    Reports {
        /// Only those nobody closed.
        open: bool,
        /// Go on after this number.
        after: Option<u64>,
        /// At the most; see `limits::PAGE_ROWS_MAX`.
        limit: u32,
    },
    /// Operator: a report was dealt with: `Done`.
    CloseReport {
        /// Its number.
        id: u64,
        /// What was done, at most `limits::NOTE_BYTES_MAX`.
        note: String,
    },
    /// Operator: no session and no sends until it is taken back: `Done`.
    Suspend {
        /// Who.
        user: u64,
        /// Why, for the operator alone, at most `limits::NOTE_BYTES_MAX`.
        note: String,
    },
    /// Operator: takes that back: `Done`.
    Unsuspend {
        /// Who.
        user: u64,
    },

    // ---- the operator's view
    /// A page of users, by id: `Accounts`.
    Users {
        /// Only those whose name begins so (then by name, and `after` is a user too); may be empty.
        prefix: String,
        /// Only suspended ones.
        suspended: bool,
        /// Go on after this user.
        after: Option<u64>,
        /// At the most; see `limits::PAGE_ROWS_MAX`.
        limit: u32,
    },
    /// A user who need not register: `Account`.
    Provision {
        /// Its id where the operator's tokens name it; else one is chosen.
        user: Option<u64>,
        /// Its name.
        name: Option<String>,
        /// Its phone number.
        phone: Option<String>,
        /// Its password; without one it logs in with tokens of the operator only.
        password: Option<Secret>,
    },
    /// A code with which to register: `InviteMade`.
    MakeInvite {
        /// How many may register with it, 1 to `limits::INVITE_USES_MAX`.
        uses: u32,
        /// How long, in seconds.
        valid_s: u32,
        /// For the operator, at most `limits::NOTE_BYTES_MAX`.
        note: String,
    },
    /// A page of codes that still are good, by their numbers: `Invites`.
    Invites {
        /// Go on after this number.
        after: Option<u64>,
        /// At the most; see `limits::PAGE_ROWS_MAX`.
        limit: u32,
    },
    /// A code is good no more: `Done`.
    EndInvite {
        /// Its number.
        id: u64,
    },
    /// How many there are: `Counts`.
    Counts,

    // ---- what the HTTP API keeps here
    /// A request with an idempotency key begins: `Begun`.
    Begin {
        /// Who asks; 0: the operator, or nobody who is logged in.
        user: u64,
        /// The key, at most `limits::IDEMPOTENCY_KEY_BYTES_MAX`.
        key: String,
        /// A hash of the request: method, path, body.
        request: [u8; 32],
    },
    /// It ended with this answer: `Done`. Not for answers with secrets in them.
    Finish {
        /// As in `Begin`.
        user: u64,
        /// As in `Begin`.
        key: String,
        /// The status of the answer.
        status: u16,
        /// Its body, at most `limits::IDEMPOTENCY_BODY_BYTES_MAX`.
        body: Vec<u8>,
    },
    /// It changed nothing and may be tried again with the same key: `Done`.
    Abandon {
        /// As in `Begin`.
        user: u64,
        /// As in `Begin`.
        key: String,
    },
    /// Something happened that the webhook should tell: `Done`. Dropped where there is no webhook.
    Emit {
        /// What, as the webhook names it.
        kind: String,
        /// To whom it happened; 0: to nobody.
        user: u64,
        /// More of it, a JSON object, at most `limits::EVENT_BYTES_MAX`.
        body: String,
    },
    /// The oldest events whose time has come: `Events`.
    Events {
        /// At the most.
        limit: u32,
    },
    /// An event was told: `Done`.
    EventSent {
        /// Its number.
        id: u64,
    },
    /// An event could not be told: `Done`.
    EventFailed {
        /// Its number.
        id: u64,
        /// Try again then, in seconds since 1970.
        retry_at_s: u64,
    },
}

/// A new account.
#[derive(Clone, Debug)]
pub struct Register {
    /// Its name: 3 to 32 of `a-z0-9_.`; capitals become small. Name or phone number are needed.
    pub name: Option<String>,
    /// Its phone number: `+` and 7 to 15 digits.
    pub phone: Option<String>,
    /// Its password, at least `limits::PASSWORD_CHARS_MIN` characters.
    pub password: Secret,
    /// The code, where registration is by invite.
    pub invite: Option<Secret>,
    /// What the user calls the first device.
    pub label: String,
}

/// A page of something of one user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Whose.
    pub user: u64,
    /// Go on after this user or number.
    pub after: Option<u64>,
    /// At the most; see `limits::PAGE_ROWS_MAX`.
    pub limit: u32,
}

/// Changes of an account; `None`: as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// The name; `Some(None)` gives it up, if there is a phone number.
    pub name: Option<Option<String>>,
    /// The phone number; likewise.
    pub phone: Option<Option<String>>,
    /// The name others see, at most `limits::DISPLAY_BYTES_MAX`.
    pub display: Option<String>,
    /// A line about the user, at most `limits::ABOUT_BYTES_MAX`.
    pub about: Option<String>,
    /// The media id of a picture, at most `limits::AVATAR_BYTES_MAX`; opaque.
    pub avatar: Option<String>,
    /// Who may see whether and when the user was last here.
    pub last_seen: Option<Audience>,
    /// Neither gives nor gets tick 3.
    pub receipts_off: Option<bool>,
    /// First messages of strangers are marked as requests.
    pub marks_requests: Option<bool>,
    /// Who may put the user into groups unasked.
    pub group_adders: Option<Audience>,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who reports.
    pub by: u64,
    /// Whom.
    pub user: u64,
    /// The group it happened in, if any.
    pub group: Option<u64>,
    /// The message's position, if it is about one.
    pub position: Option<u64>,
    /// Why, in a word of the application's, at most `limits::LABEL_BYTES_MAX`.
    pub reason: String,
    /// What the reporter says and shows, at most `limits::REPORT_BYTES_MAX`.
    pub text: String,
}
