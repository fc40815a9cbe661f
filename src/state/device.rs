//! A device of a user: what it has, what it was pushed, which ids it used, where it is connected.
//!
//! There are as many as users and more, most of them idle: fields are as narrow as their bounds
//! allow, and those that take care to change are changed by a method.

use crate::limits;
use crate::mem::{Token, entry_bytes};
use crate::state::NONE;

/// Names no connection: generations begin at 1.
const NOBODY: Token = Token { index: 0, generation: 0 };

/// One device of a user. 96 bytes (asserted below).
#[derive(Debug)]
pub struct Device {
    /// Acked by this device up to here.
    pub cursor: u64,
    /// Pushed on the present connection up to here.
    pub pushed: u64,
    /// Its connection; of generation 0, which no connection has: none. An `Option` takes 4 more.
    conn: Token,
    /// Ids up to here are answered and the answers were seen.
    pub base: u64,
    /// Bit i: the answer of id `base + 1 + i` was seen.
    pub seen: u64,
    /// Bit i: id `base + 1 + i` was refused with "try again" and did not come again yet.
    pub held: u64,
    /// The highest client id ever used.
    pub top: u64,
    /// The id on the wire.
    pub id: u32,
    /// Its user.
    pub user: u32,
    /// The next device of the same user.
    pub next: u32,
    /// Answers not confirmed yet, [`NONE`] for none.
    pub window: u32,
    /// Payload bytes pushed and not acked.
    pub unacked_bytes: u32,
    /// What lies at or below was there before it and is not for it.
    pub start: u64,
    /// Seconds since 1970 when it logged in last.
    pub seen_s: u32,
    /// Users it asked to watch in this minute.
    watched: u16,
    /// Session clock, seconds, wrapping: since when an `Ack` is due.
    unacked_since_s: u16,
    /// The minute `watched` counts, wrapping.
    watch_minute: u8,
    /// Messages pushed and not acked.
    pub unacked: u8,
    /// What the log knows of the cursor.
    pub cursor_news: CursorNews,
    /// Its own record is durable: before that it is not welcomed, so that no message of it can
    /// be in the log of a device the log does not know.
    pub durable: bool,
}

const _: () = assert!(size_of::<Device>() == 96 && entry_bytes::<Device>() == 96);

/// How the cursor of a device stands to what the log says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorNews {
    /// The log was told.
    Told,
    /// It moved without an ack (over own messages, or what was deleted), and the log was not told:
    /// before anything is let go on its strength, it has to be.
    Implied,
    /// It is ahead of what the log says, and is to be told to it: on the list of such cursors.
    Due,
}

impl Device {
    /// A device that has seen everything up to `cursor`.
    #[must_use]
    pub fn new(id: u32, user: u32, cursor: u64) -> Self {
        Self {
            cursor,
            pushed: cursor,
            conn: NOBODY,
            base: 0,
            seen: 0,
            held: 0,
            top: 0,
            id,
            user,
            next: NONE,
            window: NONE,
            unacked_bytes: 0,
            start: cursor,
            seen_s: 0,
            watched: 0,
            unacked_since_s: 0,
            watch_minute: 0,
            unacked: 0,
            cursor_news: CursorNews::Told,
            durable: false,
        }
    }

    /// Its connection, if it has one.
    #[must_use]
    pub fn conn(&self) -> Option<Token> {
        (self.conn != NOBODY).then_some(self.conn)
    }

    /// From now on `token` is its connection. Returns the former one.
    pub fn connect(&mut self, token: Token) -> Option<Token> {
        debug_assert_ne!(token.generation, NOBODY.generation);
        let former = self.conn();
        self.conn = token;
        former
    }

    /// It has no connection any more.
    pub fn disconnect(&mut self) {
        self.conn = NOBODY;
    }

    /// The cursor moves to `position` without an ack.
    pub fn imply_cursor(&mut self, position: u64) {
        self.cursor = position;
        if self.cursor_news == CursorNews::Told {
            self.cursor_news = CursorNews::Implied;
        }
    }

    /// The cursor is to be told to the log. True: it was not before, so put it on the list.
    pub fn note_cursor(&mut self) -> bool {
        std::mem::replace(&mut self.cursor_news, CursorNews::Due) != CursorNews::Due
    }

    /// It asks to watch so many users more. Returns how many it asked for in this minute.
    ///
    /// Of the minute the lower eight bits are kept: one that was silent for a multiple of 256
    /// minutes finds its former count. At the worst it waits until the next minute for presence.
    pub fn count_watched(&mut self, count: usize, now_ms: u64) -> u16 {
        let minute = u8::try_from(now_ms / 60_000 % 256).unwrap_or(0);
        if self.watch_minute != minute {
            (self.watch_minute, self.watched) = (minute, 0);
        }
        self.watched = self.watched.saturating_add(u16::try_from(count).unwrap_or(u16::MAX));
        self.watched
    }

    /// From now on an `Ack` is due.
    pub fn expect_ack(&mut self, now_ms: u64) {
        self.unacked_since_s = wrapped_seconds(now_ms);
    }

    /// Milliseconds since an `Ack` is due, in whole seconds and up to one more than have passed
    /// (below 18 hours).
    #[must_use]
    pub fn unacked_for_ms(&self, now_ms: u64) -> u64 {
        let seconds = wrapped_seconds(now_ms).wrapping_sub(self.unacked_since_s);
        u64::from(seconds) * 1000
    }

    /// The id a client that forgot everything goes on with.
    #[must_use]
    pub fn next_client_id(&self) -> u64 {
        self.top.max(self.base).saturating_add(1)
    }

    /// Bit of `client_id` in `seen` and `held`, if it is in the window above `base`.
    #[must_use]
    pub fn bit(&self, client_id: u64) -> Option<u64> {
        let distance = client_id.checked_sub(self.base)?.checked_sub(1)?;
        (distance < limits::UNCONFIRMED_IDS_MAX).then(|| 1 << distance)
    }

    /// Raises `base`; what lay below is forgotten.
    pub fn raise_base(&mut self, base: u64) {
        let Some(by) = base.checked_sub(self.base).filter(|by| *by > 0) else { return };
        let shift =
            |map: u64| u32::try_from(by).ok().and_then(|by| map.checked_shr(by)).unwrap_or(0);
        self.seen = shift(self.seen);
        self.held = shift(self.held);
        self.base = base;
    }
}

fn wrapped_seconds(now_ms: u64) -> u16 {
    u16::try_from(now_ms / 1000 % 65_536).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_the_base_shifts_both_maps() {
        let mut device = Device::new(1, 0, 0);
        device.seen = 0b1010;
        device.held = 0b0100;
        device.raise_base(2);
        assert_eq!((device.base, device.seen, device.held), (2, 0b10, 0b01));
        assert_eq!(
            (device.bit(2), device.bit(3), device.bit(66), device.bit(67)),
            (None, Some(1), Some(1 << 63), None)
        );
        device.raise_base(1000);
        assert_eq!((device.seen, device.held), (0, 0));
    }

    #[test]
    fn one_connection_at_a_time() {
        let (first, second) =
            (Token { index: 0, generation: 1 }, Token { index: 0, generation: u32::MAX });
        let mut device = Device::new(1, 0, 0);
        assert_eq!(device.conn(), None);
        assert_eq!(device.connect(first), None);
        assert_eq!(device.connect(second), Some(first));
        assert_eq!(device.conn(), Some(second));
        device.disconnect();
        assert_eq!(device.conn(), None);
    }

    #[test]
    fn a_cursor_is_listed_once_until_the_log_was_told() {
        let mut device = Device::new(1, 0, 0);
        device.imply_cursor(3);
        assert_eq!((device.cursor, device.cursor_news), (3, CursorNews::Implied));
        assert!(device.note_cursor());
        assert!(!device.note_cursor(), "on the list already");
        device.imply_cursor(4);
        assert_eq!((device.cursor, device.cursor_news), (4, CursorNews::Due), "and stays there");
    }

    #[test]
    fn what_was_asked_is_counted_by_the_minute() {
        const MINUTE_MS: u64 = 60_000;
        let mut device = Device::new(1, 0, 0);
        assert_eq!(device.count_watched(3, MINUTE_MS - 1), 3);
        assert_eq!(device.count_watched(4, MINUTE_MS), 4);
        assert_eq!(device.count_watched(4, 2 * MINUTE_MS - 1), 8);
        assert_eq!(device.count_watched(usize::MAX, 2 * MINUTE_MS - 1), u16::MAX);
        // As the method says: the former count of a minute that looks the same, for that minute.
        assert_eq!(device.count_watched(0, 257 * MINUTE_MS), u16::MAX);
        assert_eq!(device.count_watched(1, 258 * MINUTE_MS), 1);
    }
}
