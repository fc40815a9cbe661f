//! Touching what the next records need, before they need it.
//!
//! A user that was not heard of for a while is in no cache, and neither is its mail: replaying one
//! record after the other waits for memory half a dozen times in a row for each. The look-ups of
//! different records do not depend on each other, so a loop over many of them waits for all at
//! once. Nothing is changed here, so a wrong guess costs time and nothing else.

use std::hint::black_box;

use super::plain::{sender_of, stream_of};
use crate::log::{At, Record};
use crate::state::Tables;
use crate::state::placement::Placement;

pub(super) fn fetch(tables: &[Tables], placement: Placement, records: &[(At, Record<'_>)]) {
    // One wait per step and person, so that those of all persons fall together.
    let people = |(_, record): &(At, Record<'_>)| [stream_of(record), sender_of(record)];
    let guess = |id| {
        let here = &tables[placement.home(id)];
        here.users.guess(id).map(|user| (here, user))
    };
    let found: Vec<_> = records.iter().flat_map(people).flatten().filter_map(guess).collect();
    let found: Vec<_> = found.iter().map(|(here, user)| (here, here.users.user(*user))).collect();
    black_box(found.iter().fold(0, |all, (_, user)| all ^ user.id));
    black_box(found.iter().fold(0, |all, (here, user)| {
        let device = here.users.device_if_any(user.first_device).map_or(0, |it| it.window);
        let pair = here.pairs.get_if_any(user.first_pair).map_or(0, |it| it.waiting);
        let inbox = here.inboxes.get(user.inbox).map_or(0, |it| it.due_s);
        all ^ device ^ pair ^ inbox
    }));
    black_box(found.iter().fold(0, |all, (here, user)| {
        let inbox = here.inboxes.get(user.inbox);
        all ^ inbox.and_then(|it| it.last_position()).unwrap_or(0)
    }));
}
