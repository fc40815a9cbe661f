//! How connections end.
//!
//! A connection the server ends hears why (`Goodbye`, and a close frame on WebSocket), gets what
//! was written to it, then the end of the stream; what it still sends is read and thrown away for
//! a moment, because unread input would turn the end into a reset and take the reason with it.
//! Only one that does not read at all is reset.

use super::{Core, Shard};
use crate::clock::Past;
use crate::io::{Driver, How};
use crate::limits;
use crate::log::Reader;
use crate::mem::Token;
use crate::metrics::Counters;
use crate::path::session;
use crate::shard::intake::Step;
use crate::state::NONE;
use crate::state::conn::Phase;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8};
use wire::{Parting, Transport};

/// How the server ends: the coordinator moves the phase on, shards report.
#[derive(Debug, Default)]
pub struct Drain {
    /// 0 run, 1 take nothing new and finish what is under way, 2 say goodbye and end.
    pub phase: AtomicU8,
    /// Nothing is under way on this shard.
    pub quiet: AtomicBool,
    /// What it has counted and how many connections it has left, a moment ago.
    pub report: Mutex<(Counters, usize)>,
}

impl<S, R: Reader> Core<S, R> {
    /// Ends a connection for this reason, in the flush phase.
    pub(super) fn doom(&mut self, token: Token, parting: Parting) -> Step {
        if let Some(conn) = self.tables.conns.get_mut(token) {
            conn.paused = true; // what comes behind the reason is not looked at
        }
        self.tables.doomed.push((token, parting));
        Step::Taken
    }

    /// Writes the reason now and ends the connection when it has left.
    pub(super) fn say_goodbye(&mut self, token: Token, parting: Parting, detail: &str) {
        self.say_goodbye_as(token, parting, parting.close_code(), detail);
    }

    /// The same with the close code a WebSocket peer expects for its fault.
    pub(super) fn say_goodbye_as(
        &mut self,
        token: Token,
        parting: Parting,
        close_code: u16,
        detail: &str,
    ) {
        let retry_after_ms = self.retry_after_ms(token, parting);
        self.say(token, parting, (close_code, retry_after_ms), detail);
    }

    /// Says goodbye for this long, in milliseconds.
    pub(super) fn say_goodbye_for(
        &mut self,
        token: Token,
        parting: Parting,
        retry_after_ms: u32,
        detail: &str,
    ) {
        let retry_after_ms = retry_after_ms.max(self.retry_after_ms(token, parting));
        self.say(token, parting, (parting.close_code(), retry_after_ms), detail);
    }

    fn say(
        &mut self,
        token: Token,
        parting: Parting,
        (close_code, retry_after_ms): (u16, u32),
        detail: &str,
    ) {
        let Some(conn) = self.tables.conns.get_mut(token) else { return };
        if conn.phase == Phase::Leaving {
            return;
        }
        self.tables.counters.goodbyes += 1;
        let detail = if detail.is_empty() { parting.advice() } else { detail };
        let frame = wire::Goodbye { reason: parting, retry_after_ms, detail: bounded(detail) };
        let transport = conn.transport();
        if transport != Transport::Undecided {
            self.tables.outboxes.write(token, conn, |out| {
                wire::write_goodbye(transport, &frame, close_code, out);
            });
        }
        self.leave(token);
    }

    /// Nothing more is taken from this connection; it closes when its output has left.
    pub(super) fn leave(&mut self, token: Token) {
        let Some(conn) = self.tables.conns.get_mut(token) else { return };
        if conn.phase == Phase::Leaving {
            return;
        }
        session::gone(&mut self.tables, token, self.now);
        let Some(conn) = self.tables.conns.get_mut(token) else { return };
        conn.phase = Phase::Leaving;
        conn.heard = Past::at(self.now.mono_ms);
        if let Some(partial) = self.tables.partials.take(conn) {
            self.tables.partials.recycle(partial);
        }
        if std::mem::take(&mut conn.paused) {
            self.resumes.push(token);
        }
        self.wheel.arm(token.index, self.now.mono_ms + limits::LINGER_MS);
        self.leaving.push(token);
    }

    /// The driver let go of a connection: forget it.
    pub(super) fn on_closed(&mut self, token: Token) {
        session::gone(&mut self.tables, token, self.now);
        let Some(mut conn) = self.tables.conns.remove(token) else {
            self.tables.counters.stale += 1;
            return;
        };
        self.tables.outboxes.forget(&mut conn);
        if let Some(partial) = self.tables.partials.take(&mut conn) {
            self.tables.partials.recycle(partial);
        }
        self.wheel.disarm(token.index);
    }

    /// Dooms a connection whose deadline has come; looks again later otherwise.
    pub(super) fn doom_tardy(&mut self, token: Token) {
        let now_ms = self.now.mono_ms;
        let Some(conn) = self.tables.conns.get(token) else { return };
        let (due_ms, parting) = session::deadline(&self.tables, &self.rules, conn, self.now);
        if due_ms > now_ms {
            self.wheel.arm(token.index, due_ms.min(now_ms + limits::LOOK_MS_MAX));
        } else {
            self.doom(token, parting);
        }
    }
}

impl<D: Driver, R: Reader> Shard<D, R> {
    /// Looks at a connection whose deadline may have come.
    pub(super) fn look_at(&mut self, index: u32) {
        let core = &mut self.core;
        let Some((token, conn)) = core.tables.conns.by_index(index) else { return };
        if conn.phase == Phase::Leaving {
            // It had its time to read the reason.
            let how = if conn.outbox == NONE { How::Graceful } else { How::Reset };
            self.driver.close(token, how);
            self.core.on_closed(token);
        } else {
            core.doom_tardy(token);
        }
    }

    /// Says goodbye to every connection the steps doomed in this turn.
    pub(super) fn close_doomed(&mut self) {
        while let Some((token, parting)) = self.core.tables.doomed.pop() {
            self.core.say_goodbye(token, parting, "");
        }
        while let Some(token) = self.core.tables.outboxes.overflowing() {
            if self.core.tables.conns.get(token).is_some() {
                self.core.tables.counters.goodbyes += 1;
                self.core.tables.counters.too_slow += 1;
                self.driver.close(token, How::Reset);
                self.core.on_closed(token);
            }
        }
    }

    /// Half-closes connections that left and have nothing more to be sent.
    pub(super) fn finish_leaving(&mut self) {
        let mut leaving = std::mem::take(&mut self.core.leaving);
        leaving.retain(|&token| {
            let Some(conn) = self.core.tables.conns.get(token) else { return false };
            let unsent = conn.outbox != NONE;
            if !unsent {
                self.driver.finish(token);
            }
            unsent
        });
        leaving.append(&mut self.core.leaving);
        self.core.leaving = leaving;
    }
}

/// Details are for people reading logs; they stay short enough for a close frame.
fn bounded(detail: &str) -> &str {
    let mut end = detail.len().min(limits::DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    &detail[..end]
}
