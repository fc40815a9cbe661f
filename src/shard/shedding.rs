//! What a shard does less of at each level (`overload.rs`), and how it does all of it again.
//!
//! Nothing here is lost for good: held presence is told when the shard has time (the last state of
//! each watched user), read marks are told later, a session that was refused or let go comes back
//! after the time it was given. Deliberately not here: typing, which is worth nothing later and is
//! dropped where it comes in.

use super::Core;
use super::overload::{Level, Seen};
use crate::limits;
use crate::log::Reader;
use crate::mem::Token;
use crate::path::{receipt, session};
use crate::state::NONE;
use crate::state::conn::{Conn, Phase};
use std::sync::PoisonError;
use wire::{Parting, ServerFrame};

/// What shedding remembers from turn to turn.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    /// Sessions that may be told of another heartbeat until the next look.
    heartbeats_left: usize,
    /// Host clock: when read marks that were delayed are told.
    reads_due_ms: u64,
    /// Some were.
    reads_delayed: bool,
    /// Frames and sends when the last turn ended.
    handled: u64,
    /// Where the table is looked at next for sessions to let go, and how long their users must have
    /// done nothing.
    hand: u32,
    idle_s: u64,
    /// The same for the goodbyes of the server's end, and how many there are.
    farewell: u32,
    leaving_count: usize,
    /// When the end is reported next.
    report_due_ms: u64,
}

impl<S, R: Reader> Core<S, R> {
    /// Whether the turn that ends did so much, or left so much, that it may have taken long.
    pub(super) fn take_done_much(&mut self) -> bool {
        let counters = &self.tables.counters;
        let handled = counters.frames + counters.sends + counters.stored;
        let done = handled - std::mem::replace(&mut self.shedding.handled, handled);
        done >= limits::OVERLOAD_TIMED_EVENTS || self.overload.has_left_some()
    }

    /// Looks how the shard stands, if it is time, and does what the level asks for.
    pub(super) fn watch_load(&mut self) {
        if !self.overload.is_due() {
            return;
        }
        let queue_percent = self.mailbox.used_percent().max(self.stage.used_percent());
        let conns = self.tables.conns.len();
        let sessions = conns.saturating_sub(self.tables.sources.greeting());
        let counters = &mut self.tables.counters;
        let (stored, delivered) = (counters.stored, counters.delivered);
        let seen = Seen { queue_percent, conns, sessions, stored, delivered };
        let look = self.overload.look(seen);
        counters.levels_raised += u64::from(look.is > look.was);
        match look.was {
            Level::Normal => {}
            Level::Busy => counters.busy_ms += look.for_ms,
            Level::Strained => counters.strained_ms += look.for_ms,
            Level::Full => counters.full_ms += look.for_ms,
        }
        self.shedding.heartbeats_left = limits::HEARTBEATS_TOLD_PER_LOOK_MAX;
        self.shed_idle();
    }

    /// A full shard takes no new session. True: this one is told to come back later.
    pub(super) fn turn_away_if_full(&mut self, token: Token) -> bool {
        let full = self.overload.is_full() && self.drain_phase == 0;
        if full {
            self.tables.counters.turned_away += 1;
            self.doom(token, Parting::Overloaded);
        }
        full
    }

    /// The interval of heartbeats to tell this session, if it knows another one: what it is told
    /// here is what it is judged by from now on.
    pub(super) fn heartbeat_news(&mut self, token: Token) -> Option<u32> {
        let stretched = self.overload.is_strained();
        let conn = self.tables.conns.get_mut(token)?;
        if conn.stretched == stretched || self.shedding.heartbeats_left == 0 {
            return None;
        }
        self.shedding.heartbeats_left -= 1;
        conn.stretched = stretched;
        self.tables.counters.stretched += u64::from(stretched);
        u32::try_from(session::heartbeat_ms(&self.rules, stretched)).ok()
    }

    /// Answers a `Ping`, if it asks for that or there is another interval to be told.
    pub(super) fn pong(&mut self, token: Token, asked: bool) {
        let news = self.heartbeat_news(token);
        if asked || news.is_some() {
            let (server_time_ms, heartbeat_ms) = (self.now.wall_ms, news.unwrap_or(0));
            let pong = wire::Pong { server_time_ms, heartbeat_ms };
            self.tables.write(token, &ServerFrame::Pong(pong));
        }
    }

    /// A device's user has read. A strained shard tells it later, with what follows.
    pub(super) fn note_read(&mut self, device: u32, peer: Option<u64>, up_to: u64) {
        let later = self.overload.is_strained();
        if receipt::read(&mut self.tables, device, peer, up_to, !later) && later {
            self.tables.counters.reads_delayed += 1;
            self.shedding.reads_delayed = true;
        }
    }

    /// Read marks go to the log, and those that were delayed to their senders.
    pub(super) fn stage_reads(&mut self) {
        let now_ms = self.host_ms; // the session clock is slow when this matters
        let waits = self.overload.is_strained() && now_ms < self.shedding.reads_due_ms;
        if waits && self.drain_phase == 0 {
            return;
        }
        self.shedding.reads_due_ms = now_ms + limits::READS_DELAYED_MS;
        if std::mem::take(&mut self.shedding.reads_delayed) {
            let tables = &mut self.tables;
            tables.dirty_reads.iter().for_each(|&index| tables.pairs.mark_dirty(index));
        }
        receipt::stage_reads(&mut self.tables, &mut self.stage, self.now.wall_ms);
    }

    /// Lets some idle sessions go with each look, while the process is short of memory: those first
    /// whose users did nothing for longest, roughly, and none that has something under way.
    fn shed_idle(&mut self) {
        if !self.overload.sheds_sessions() || self.drain_phase > 0 {
            self.shedding.idle_s = limits::SHED_IDLE_S;
            return;
        }
        let places = self.places();
        let mut left = limits::SHED_SESSIONS_PER_LOOK;
        for _ in 0..limits::SHED_PLACES_PER_LOOK.min(places as usize) {
            if left == 0 {
                return;
            }
            if self.shedding.hand >= places {
                self.shedding.hand = 0;
                self.shedding.idle_s = (self.shedding.idle_s / 2).max(limits::SHED_IDLE_S_MIN);
            }
            let index = self.shedding.hand;
            self.shedding.hand += 1;
            let Some((token, conn)) = self.tables.conns.by_index(index) else { continue };
            if self.is_idle(conn) {
                left -= 1;
                self.tables.counters.sessions_shed += 1;
                self.doom(token, Parting::Overloaded);
            }
        }
    }

    /// Places of the table of connections.
    fn places(&self) -> u32 {
        u32::try_from(self.tables.conns.capacity()).unwrap_or(u32::MAX).max(1)
    }

    /// A session with nothing under way whose user did nothing for a while.
    fn is_idle(&self, conn: &Conn) -> bool {
        let waits = conn.outbox != NONE || conn.partial != NONE || conn.paused;
        if conn.phase != Phase::Session || conn.device == NONE || waits {
            return false;
        }
        let device = self.tables.users.device(conn.device);
        let active_s = u64::from(self.tables.users.user(device.user).active_s);
        let idle_s = (self.now.wall_ms / 1000).saturating_sub(active_s);
        device.unacked == 0 && idle_s >= self.shedding.idle_s
    }

    /// Says goodbye to the next few connections of a server that ends. Whoever came in meanwhile
    /// is found in the next round.
    pub(super) fn say_farewells(&mut self) {
        let places = self.places();
        if self.shedding.leaving_count == 0 {
            self.shedding.leaving_count = self.tables.conns.len().max(1);
        }
        let mut left = limits::GOODBYES_PER_TURN_MAX;
        for _ in 0..limits::GOODBYE_LOOKS_PER_TURN_MAX.min(places as usize) {
            if left == 0 {
                return;
            }
            let index = self.shedding.farewell % places;
            self.shedding.farewell = index + 1;
            let Some((token, conn)) = self.tables.conns.by_index(index) else { continue };
            if conn.phase != Phase::Leaving {
                left -= 1;
                self.tables.doomed.push((token, Parting::Shutdown));
            }
        }
    }

    /// Says what was counted, for a server that does not wait for the end of this shard.
    pub(super) fn report_drain(&mut self) {
        if self.host_ms >= self.shedding.report_due_ms {
            self.shedding.report_due_ms = self.host_ms + limits::DRAIN_REPORT_MS;
            let report = (self.tables.counters.clone(), self.tables.conns.len());
            *self.drain.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
        }
    }

    /// What a client is told to wait before it comes back, spread so that not all of them come in
    /// the same second.
    pub(super) fn retry_after_ms(&self, token: Token, parting: Parting) -> u32 {
        let (least_ms, spread_ms) = match parting {
            Parting::Shutdown => {
                let count = u64::try_from(self.shedding.leaving_count).unwrap_or(u64::MAX);
                let all_ms = count.saturating_mul(1_000) / u64::from(limits::RETURNS_PER_SECOND);
                let all_ms = u32::try_from(all_ms).unwrap_or(u32::MAX);
                let most_ms = limits::RETURN_SPREAD_MS_MAX;
                (limits::RETRY_AFTER_MS, all_ms.clamp(limits::RETRY_SPREAD_MS, most_ms))
            }
            Parting::Overloaded if self.overload.is_full() => {
                (limits::FULL_RETRY_MS, limits::FULL_RETRY_SPREAD_MS)
            }
            Parting::Overloaded
            | Parting::Full
            | Parting::Replaced
            | Parting::StoreFailed
            | Parting::Evicted => (limits::RETRY_AFTER_MS, limits::RETRY_SPREAD_MS),
            _ => return 0,
        };
        least_ms + spread(token, spread_ms)
    }
}

/// A number below `most` that differs well between neighbours in the table and over time.
fn spread(token: Token, most: u32) -> u32 {
    let mixed = (token.index ^ token.generation.rotate_left(16)).wrapping_mul(0x9E37_79B9);
    let scaled = (u64::from(mixed) * u64::from(most)) >> 32;
    u32::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Token, spread};

    #[test]
    fn those_who_come_back_are_spread_evenly() {
        let mut tenths = [0_u32; 10];
        for index in 0..10_000 {
            let at = spread(Token { index, generation: index / 7 + 1 }, 20_000);
            tenths[at as usize / 2_000] += 1;
        }
        assert!(tenths.iter().all(|count| (700..1_300).contains(count)), "{tenths:?}");
    }
}
