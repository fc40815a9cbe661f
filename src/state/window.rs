//! Answers a device may still ask for again: the window of unconfirmed client ids.
//!
//! At most `UNCONFIRMED_IDS_MAX` per device (I6), because a new id lies within that distance of the
//! confirmed base; devices without unconfirmed answers own none. Buffers are pooled.

use crate::canary::{self, Canary};
use crate::state::NONE;
use wire::{Refusal, Stream};

/// What became of one client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Under way.
    Pending,
    /// Durable at this position of the recipient's stream, at this time.
    Sent {
        /// Position in the recipient's stream.
        position: u64,
        /// Milliseconds since 1970.
        time_ms: u64,
    },
    /// Refused for good.
    Refused(Refusal),
}

/// One remembered answer. 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The id it answers.
    pub client_id: u64,
    /// CRC-32C of the request, to tell a repeat from another message under the same id.
    pub request_crc: u32,
    /// [`stream_tag`] of whose stream it went to.
    pub stream: u16,
    /// Whether the sender's own inbox holds a copy.
    pub copied: bool,
    /// The outcome is known and not told yet: a copy is on its way to the log.
    pub settling: bool,
    /// What became of it.
    pub outcome: Outcome,
}

/// 16 bits of a user's or group's id, enough to tell streams apart: two that look the same cost a
/// new number for a message that came late after a crash.
#[must_use]
pub fn stream_tag(stream: Stream) -> u16 {
    let id = match stream {
        Stream::User(user) => user,
        Stream::Group(group) => !group, // a number is one of a user, and another of a group
    };
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
    u16::try_from(mixed).unwrap_or(0)
}

const _: () = assert!(size_of::<Answer>() <= 40);

/// All windows of a shard.
#[derive(Debug, Default)]
pub struct Windows {
    slots: slab::Slab<Vec<Answer>>,
    spare: Vec<Vec<Answer>>,
}

const SPARE_WINDOWS_MAX: usize = 16 * 1024;

impl Windows {
    /// The answer to `client_id`, if remembered.
    pub fn find(&mut self, window: u32, client_id: u64) -> Option<&mut Answer> {
        self.slots.get_mut(window as usize)?.iter_mut().find(|answer| answer.client_id == client_id)
    }

    /// Whether a later id to the same stream was stored already.
    #[must_use]
    pub fn is_overtaken(&self, window: u32, client_id: u64, stream: u16) -> bool {
        !canary::is(Canary::OvertakeRefused)
            && self.slots.get(window as usize).is_some_and(|answers| {
                answers.iter().any(|answer| {
                    answer.client_id > client_id
                        && answer.stream == stream
                        && matches!(answer.outcome, Outcome::Sent { .. })
                })
            })
    }

    /// Remembers an answer; the caller has checked that the id is new.
    pub fn insert(&mut self, window: &mut u32, answer: Answer) {
        if *window == NONE {
            let fresh = self.spare.pop().unwrap_or_default();
            *window = u32::try_from(self.slots.insert(fresh)).unwrap_or(NONE);
        }
        if let Some(answers) = self.slots.get_mut(*window as usize) {
            answers.push(answer);
        }
    }

    /// Forgets the answers for which `keep` says no.
    pub fn retain(&mut self, window: &mut u32, keep: impl FnMut(&Answer) -> bool) {
        let Some(answers) = self.slots.get_mut(*window as usize) else { return };
        let mut keep = keep;
        answers.retain(|answer| keep(answer));
        if answers.is_empty() {
            let buffer = self.slots.remove(*window as usize);
            *window = NONE;
            if self.spare.len() < SPARE_WINDOWS_MAX {
                self.spare.push(buffer);
            }
        }
    }

    /// The answers of one window.
    pub fn of(&self, window: u32) -> impl Iterator<Item = &Answer> {
        self.slots.get(window as usize).into_iter().flatten()
    }

    /// Answers remembered in one window.
    #[must_use]
    pub fn answers(&self, window: u32) -> usize {
        self.slots.get(window as usize).map_or(0, Vec::len)
    }

    /// Number of devices with unconfirmed answers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_exists_only_while_something_is_unconfirmed() {
        let mut windows = Windows::default();
        let mut window = NONE;
        for client_id in 1..=3 {
            let outcome = Outcome::Pending;
            windows.insert(
                &mut window,
                Answer {
                    client_id,
                    request_crc: 0,
                    stream: 0,
                    copied: false,
                    settling: false,
                    outcome,
                },
            );
        }
        windows.retain(&mut window, |answer| answer.client_id > 2);
        assert!(windows.find(window, 2).is_none());
        assert!(windows.find(window, 3).is_some());
        windows.retain(&mut window, |_| false);
        assert_eq!((window, windows.count()), (NONE, 0));
    }

    #[test]
    fn an_id_is_overtaken_by_a_later_one_stored_in_the_same_stream() {
        let mut windows = Windows::default();
        let mut window = NONE;
        let sent = Outcome::Sent { position: 1, time_ms: 1 };
        for (client_id, to, outcome) in [(4, 7, sent), (6, 8, sent), (9, 7, Outcome::Pending)] {
            let stream = stream_tag(Stream::User(to));
            let answer = Answer {
                client_id,
                request_crc: 0,
                stream,
                copied: false,
                settling: false,
                outcome,
            };
            windows.insert(&mut window, answer);
        }
        assert!(windows.is_overtaken(window, 3, stream_tag(Stream::User(7))));
        assert!(windows.is_overtaken(window, 5, stream_tag(Stream::User(8))));
        assert!(
            !windows.is_overtaken(window, 5, stream_tag(Stream::User(7))),
            "9 may yet be refused"
        );
        assert!(!windows.is_overtaken(NONE, 1, stream_tag(Stream::User(7))));
    }
}
