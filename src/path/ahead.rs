//! Touching what the next records or requests need, before they need it.
//!
//! A user that was not heard of for a while is in no cache, and neither is its mail: whoever takes
//! one after the other waits for memory half a dozen times in a row for each. The look-ups of
//! different users do not depend on each other, so a loop over many of them waits for all at once.
//! Nothing is changed here: a wrong guess costs time and nothing else.

use std::hint::black_box;

use crate::state::Tables;

/// How many are worth looking ahead for at once: beyond it the first would be forgotten again.
pub const AHEAD_MAX: usize = 32;

/// Fewer are not worth the looking: each is about to be waited for anyway.
const AHEAD_MIN: usize = 4;

/// Fetches what storing something for these users will touch: their home's tables, and their id.
pub fn fetch<'a>(people: impl Iterator<Item = (&'a Tables, u64)>) {
    let mut found = [None; 2 * AHEAD_MAX];
    let mut count = 0;
    // One wait per step and person, so that those of all persons fall together.
    for (place, (here, id)) in found.iter_mut().zip(people) {
        *place = here.users.guess(id).map(|user| (here, user));
        count += 1;
    }
    if count < AHEAD_MIN {
        return;
    }
    let each = || {
        let found = found[..count].iter().flatten();
        found.map(|(here, user)| (*here, here.users.user(*user)))
    };
    black_box(each().fold(0, |all, (_, user)| all ^ user.id));
    black_box(each().fold(0, |all, (here, user)| {
        let device = here.users.device_if_any(user.first_device).map_or(0, |it| it.window);
        let pair = here.pairs.get_if_any(user.first_pair).map_or(0, |it| it.waiting);
        let inbox = here.inboxes.get(user.inbox).map_or(0, |it| it.due_s());
        all ^ device ^ pair ^ inbox
    }));
    black_box(each().fold(0, |all, (here, user)| {
        all ^ here.inboxes.get(user.inbox).map_or(0, |it| it.touch_end())
    }));
}
