//! Beside the message path: who may write to whom, who may see whom, and what changes that.
//!
//! ```text
//!  directory --load--> tables, before anybody can connect
//!  directory --order--> a change, obeyed by the next message
//! ```
//!
//! Blocks and privacy are asked at the home of the user whose they are. What holds in both
//! directions (presence, typing) is asked at both homes, each for its own user.

use crate::canary::{self, Canary};
use crate::path::session::doom_all;
use crate::state::order::{Fault, Person, Ties};
use crate::state::pairs::Pairs;
use crate::state::people::{Marks, People};
use crate::state::placement::Placement;
use crate::state::users::Users;
use crate::state::{NONE, Tables};
use wire::Parting;

/// One thing the directory knows when a server starts.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// The user exists and has these settings.
    Person {
        /// Who.
        user: u64,
        /// The settings.
        person: Person,
    },
    /// All the user's contacts and blocks, in any order.
    Ties {
        /// Whose.
        user: u64,
        /// Of whom, and what. At most [`crate::limits::TIES_PER_USER_MAX`].
        ties: &'a [(u64, Ties)],
    },
    /// Tokens issued before this are not good any more.
    Revoked {
        /// Whose.
        user: u64,
        /// Those of this device; none: of all devices.
        device: Option<u32>,
        /// Seconds since 1970.
        not_before_s: u64,
    },
}

impl Known<'_> {
    fn user(&self) -> u64 {
        match self {
            Self::Person { user, .. } | Self::Ties { user, .. } | Self::Revoked { user, .. } => {
                *user
            }
        }
    }
}

/// Why what the directory knows does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// More users than `users_max`.
    #[error("the directory knows more users than users_max allows on this shard; raise users_max")]
    TooManyUsers,
    /// More contacts and blocks than a user may have.
    #[error(
        "user {0} has more contacts and blocks than {most}; remove some of them",
        most = crate::limits::TIES_PER_USER_MAX
    )]
    TooManyTies(u64),
}

/// Takes in one thing the directory knows: at start, after the log was replayed and before anybody
/// listens. `tables` are those of all shards, in order. The user need not be known before.
///
/// # Errors
/// [`LoadError`]: there is no room for it.
pub fn load(tables: &mut [Tables], known: Known<'_>) -> Result<(), LoadError> {
    let home = Placement::new(tables.len()).home(known.user());
    let Tables { users, people, .. } = &mut tables[home];
    let found = match known {
        // Nobody exists because tokens were revoked: the account may be gone, or never was used.
        Known::Revoked { user, .. } => users.find_or_add_ended(user),
        _ => users.find_or_add(known.user()),
    };
    let user = found.ok_or(LoadError::TooManyUsers)?;
    let marks = &mut users.user_mut(user).marks;
    match known {
        Known::Person { person, .. } => marks.set_person(person),
        Known::Ties { user: id, ties } => {
            if !people.load(user, ties) {
                return Err(LoadError::TooManyTies(id));
            }
            marks.set(Marks::BLOCKS, people.blocks_somebody(user));
        }
        Known::Revoked { device, not_before_s, .. } => {
            people.revoke(user, device, u32::try_from(not_before_s).unwrap_or(u32::MAX));
            marks.set(Marks::REVOKED, true);
        }
    }
    Ok(())
}

/// Whether a user blocks another.
#[must_use]
pub fn blocks(tables: &Tables, user: u32, other: u64) -> bool {
    tables.users.user(user).marks.any(Marks::BLOCKS) && tables.people.blocks(user, other)
}

/// Whether a user lets another see whether and when it was here, as far as this is the user's own
/// choice.
#[must_use]
pub fn shows(tables: &Tables, user: u32, to: u64) -> bool {
    const CHOSE: Marks = Marks::BLOCKS.and(Marks::CONTACTS_SEE).and(Marks::NOBODY_SEES);
    let marks = tables.users.user(user).marks;
    if !marks.any(CHOSE) || canary::is(Canary::ShowHidden) {
        return true;
    }
    let ties = tables.people.ties(user, to);
    let hides = marks.any(Marks::NOBODY_SEES) || (marks.any(Marks::CONTACTS_SEE) && !ties.contact);
    !ties.blocked && !hides
}

/// The user exists from now on and has these settings. What stands already follows: sessions of one
/// who is suspended end, watches are looked at anew.
///
/// # Errors
/// [`Fault::Full`]: no room for another user.
pub fn set_person(tables: &mut Tables, user: u64, person: Person) -> Result<(), Fault> {
    let user = tables.users.find_or_add(user).ok_or(Fault::Full)?;
    let here = tables.users.user_mut(user);
    let former = here.marks;
    here.marks.set_person(person);
    let (first_pair, watchers) = (here.first_pair, here.watchers);
    tables.watches.touch(watchers);
    if person.suspended {
        doom_all(tables, user, Parting::Suspended);
    }
    let shy_before = former.any(Marks::RECEIPTS_OFF);
    let marked_before = former.any(Marks::MARKS_REQUESTS);
    let mut at = first_pair;
    while at != NONE {
        if shy_before && !person.receipts_off {
            tables.pairs.mark_dirty(at); // what was not told meanwhile
        }
        if person.marks_requests && !marked_before {
            note_answered(tables, at); // whoever wrote before is no stranger
        }
        at = tables.pairs.get(at).next;
    }
    Ok(())
}

/// Sets what a user has to do with another.
///
/// # Errors
/// [`Fault::Full`]: one more than a user may have.
pub fn relate(tables: &mut Tables, user: u64, other: u64, ties: Ties) -> Result<(), Fault> {
    let user = tables.users.find_or_add_ended(user).ok_or(Fault::Full)?;
    let former = tables.people.ties(user, other);
    if !tables.people.relate(user, other, ties) {
        return Err(Fault::Full);
    }
    let blocks_somebody = tables.people.blocks_somebody(user);
    let here = tables.users.user_mut(user);
    here.marks.set(Marks::BLOCKS, blocks_somebody);
    let watchers = here.watchers;
    tables.watches.touch(watchers);
    if former.blocked
        && !ties.blocked
        && let Some(pair) = tables.pairs.find(user, other)
    {
        tables.pairs.mark_dirty(pair); // what was not told meanwhile
    }
    Ok(())
}

/// A user who wants messages of strangers marked: of those it has not written to and does not have
/// among its contacts.
#[derive(Clone, Copy, Debug)]
pub struct Wary {
    user: u32,
    id: u64,
    first_pair: u32,
}

impl Wary {
    /// The user with this index, if it wants that.
    #[must_use]
    pub fn of(users: &Users, user: u32) -> Option<Self> {
        let here = users.user(user);
        let wary = here.marks.any(Marks::MARKS_REQUESTS);
        wary.then_some(Self { user, id: here.id, first_pair: here.first_pair })
    }

    /// Whether this sender is a stranger.
    #[must_use]
    pub fn is_stranger(self, people: &People, pairs: &Pairs, sender: u64) -> bool {
        let pair = pairs.find_from(self.first_pair, self.user, sender);
        sender != self.id
            && !pair.is_some_and(|pair| pairs.get(pair).answered)
            && !people.ties(self.user, sender).contact
    }
}

/// A user who has strangers marked writes to somebody: who is none from now on.
pub fn wrote(tables: &mut Tables, user: u32, to: u64) {
    let here = tables.users.user_mut(user);
    if !here.marks.any(Marks::MARKS_REQUESTS) || here.id == to {
        return;
    }
    // Without room for the pair what `to` writes stays marked: nothing worse.
    if let Some(pair) = tables.pairs.find_or_add(user, to, &mut here.first_pair) {
        note_answered(tables, pair);
    }
}

/// The recipient of a pair wrote to its sender. The log is told with the pair's read mark.
fn note_answered(tables: &mut Tables, pair: u32) {
    let here = tables.pairs.get_mut(pair);
    if !std::mem::replace(&mut here.answered, true)
        && !std::mem::replace(&mut here.read_dirty, true)
    {
        tables.dirty_reads.push(pair);
    }
}
