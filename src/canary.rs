//! Bugs that are planted on purpose, to prove that the simulator finds them.
//!
//! Only with the feature `canary`, which nothing that is shipped has: without it [`is`] is `false`
//! at compile time and nothing of a canary is left in the program. With it a canary sings on the
//! thread that `set` it, and on no other, so that tests run side by side. `docs/testing.md` has
//! the table of what each one breaks and how soon it is found.

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Canary {
    /// A shard's end of the log stages something else in the place of some messages.
    DropAppend,
    /// A commit is announced without its sync.
    AckBeforeSync,
    /// A start overlooks some messages in the log.
    ForgetAtRecovery,
    /// A start does not rebuild the answers that clients may ask for again.
    ForgetAnswers,
    /// A repeat of something answered is answered anew, with a time of its own.
    AnswerAnew,
    /// Reading on from the log, two messages change places.
    SwapDeliveries,
    /// What was refused with "try again" holds nothing back.
    OvertakeRefused,
    /// A start goes on in the epoch of the one before.
    ReuseEpoch,
    /// The epoch of a start does not follow the wall clock.
    EpochIgnoresClock,
    /// Some messages are refused after they were pushed.
    PushThenRefuse,
    /// Some messages get no answer at all.
    SwallowSend,
    /// A device that does not ack is pushed to nevertheless.
    UnackedOverflow,
    /// A start rebuilds more answers than a device can ask for.
    AnswersOverflow,
    /// Who is removed from a group is pushed to nevertheless.
    PushToRemoved,
    /// In a page of a group two records change places.
    SwapGroupPage,
    /// Authors in a group are told that everybody has what not everybody has.
    TickEarly,
    /// Pages of a group leave some messages out.
    LoseFromPage,
    /// What somebody writes who is blocked is stored and delivered.
    DeliverBlocked,
    /// Receipts are told across what was written by somebody who was blocked.
    TickBlocked,
    /// A start does not know any more what was written by those who were blocked.
    ForgetVoids,
    /// Who hides is seen.
    ShowHidden,
    /// Who reads silently tells what was read.
    TellSilent,
}

#[cfg(feature = "canary")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Canary>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread, or takes it away.
#[cfg(feature = "canary")]
pub fn set(canary: Option<Canary>) {
    PLANTED.set(canary);
}

/// Whether this bug is planted here.
#[cfg(feature = "canary")]
#[must_use]
pub fn is(canary: Canary) -> bool {
    PLANTED.get() == Some(canary)
}

/// Whether this bug is planted here: never.
#[cfg(not(feature = "canary"))]
#[must_use]
pub const fn is(_: Canary) -> bool {
    false
}

/// `items` as they come; with the first two changed if this bug is planted.
#[cfg(feature = "canary")]
pub fn swapped<T>(canary: Canary, items: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let mut items = items;
    let late = if is(canary) { items.next() } else { None };
    let first = if late.is_some() { items.next() } else { None };
    first.into_iter().chain(late).chain(items)
}

/// `items` as they come.
#[cfg(not(feature = "canary"))]
pub const fn swapped<I>(_: Canary, items: I) -> I {
    items
}
