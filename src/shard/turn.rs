//! The phases of one turn. Read this first: a message's way through a shard is the order below.
//!
//! ```text
//!  completions   accept > frame > session > route                       (sockets before timers)
//!  letters       from other shards, then own: store > deliver, or finish at the sender's home
//!  commits       what became durable: finish, answers, devices that read on from the log
//!  checkpoint    a few pieces of an image of all this, while one is under way
//!  logins        moves home, tokens checked elsewhere, connections that waited for a credit
//!  timers        deadlines, presence, mail that has waited too long; whether to let more in
//!  receipts      dirty marks become receipts, those of groups as well
//!  flush         one batch to the log, one send per connection, one ring per doorbell
//! ```

use super::{Core, Level, Shard, Side};
use crate::clock::Now;
use crate::io::{Completion, Driver, Next};
use crate::limits;
use crate::log::{Lane, Reader};
use crate::path::{presence, receipt};
use crate::state::NONE;
use crate::state::outbox::Flush;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl<D: Driver, R: Reader> Shard<D, R> {
    /// One turn; `clock` is read after waking. Sleeps only when there is nothing to do and `sleep`
    /// allows. False: the drain is over and the shard has nothing left.
    ///
    /// # Errors
    /// The driver can't wait for completions any more: the shard can't go on.
    pub fn turn(&mut self, clock: &impl Fn() -> Now, sleep: bool) -> io::Result<bool> {
        self.completions(clock, sleep)?;
        let core = &mut self.core;
        core.tables.counters.turns += 1;
        core.signatures_left = limits::SIGNATURES_PER_TURN_MAX;
        let phase = core.stage.phase();
        let has_letters = core.letters();
        core.commits();
        core.checked();
        core.answered();
        core.take_orders();
        core.overload.leave_some(has_letters);
        core.checkpoint(phase, has_letters);
        self.attach_arrivals();
        self.move_home();
        self.settle();
        self.retry_parked();
        self.core.store_own();
        self.timers();
        self.core.watch_load();
        self.admit();
        self.core.run_errands();
        self.core.tell_receipts();
        self.core.serve_groups();
        self.flush()?;
        Ok(self.follow_drain())
    }

    fn completions(&mut self, clock: &impl Fn() -> Now, sleep: bool) -> io::Result<()> {
        let ended_ms = self.core.take_done_much().then(|| clock().mono_ms);
        self.core.overload.end(ended_ms);
        self.doorbell.prepare_sleep(); // before looking: what comes after this rings
        let timeout_ms = if sleep && self.core.may_sleep() { self.core.sleep_ms() } else { 0 };
        let timeout = Duration::from_millis(timeout_ms);
        if timeout_ms == 0 {
            self.doorbell.awake();
        }
        self.core.slept_max_ms = timeout_ms;
        let core = &mut self.core;
        let mut began_ms = None;
        let received = core.tables.counters.receives;
        let polled =
            self.driver.poll(Some(timeout), limits::EVENTS_PER_TURN_MAX, &mut |completion| {
                if began_ms.is_none() {
                    core.set_now(clock());
                    began_ms = Some(core.host_ms);
                }
                match completion {
                    Completion::Accepted { socket, source } => core.on_accepted(socket, source),
                    Completion::Data(token, bytes) => return core.on_data(token, bytes),
                    Completion::Sent(token, buffer) => core.on_sent(token, buffer),
                    Completion::Closed(token, _) => core.on_closed(token),
                }
                Next::Read
            });
        self.doorbell.awake();
        let core = &mut self.core;
        core.set_now(clock());
        core.overload.begin(began_ms.unwrap_or(core.host_ms));
        let received = core.tables.counters.receives - received;
        core.overload.leave_some(received >= limits::EVENTS_PER_TURN_MAX as u64);
        polled
    }

    /// Connections accepted in this turn start to be read.
    fn attach_arrivals(&mut self) {
        for (token, socket) in self.core.arrivals.drain(..) {
            if self.driver.attach(token, socket).is_err() {
                self.core.tables.doomed.push((token, wire::Parting::Overloaded));
            }
        }
    }

    /// Opens or closes the door.
    fn admit(&mut self) {
        let core = &mut self.core;
        let served = core.tables.counters.logins + core.tables.counters.moved;
        let inside = core.tables.sources.greeting();
        let shrink = core.overload.door_shrink();
        let open = core.admission.is_open(inside, served, core.now.mono_ms, shrink);
        let open = open && core.drain_phase == 0;
        if open != self.accepting {
            self.accepting = open;
            self.driver.accept(open);
        }
    }

    /// Sessions that are at home stay.
    fn settle(&mut self) {
        for token in self.core.settled.drain(..) {
            self.driver.settle(token);
        }
    }

    /// Deadlines of connections that may have come.
    fn timers(&mut self) {
        let now_ms = self.core.now.mono_ms;
        let mut expired = std::mem::take(&mut self.expired);
        self.core.wheel.expire(now_ms, &mut expired, limits::EXPIRIES_PER_TURN_MAX);
        for index in expired.drain(..) {
            self.look_at(index);
        }
        self.expired = expired;
        self.core.watchers(&mut self.handles);
        self.core.expire();
        self.core.flush_seen();
    }

    /// One batch to the log, one send per connection, one ring per doorbell.
    fn flush(&mut self) -> io::Result<()> {
        let core = &mut self.core;
        if core.now.mono_ms >= core.cursors_due_ms || core.drain_phase > 0 {
            core.cursors_due_ms = core.now.mono_ms + limits::COMMIT_LAZY_MS;
            receipt::stage_cursors(
                &mut core.tables,
                &mut core.stage,
                Lane::Reserve,
                core.now.wall_ms,
            );
            core.stage_reads();
        }
        core.stage.flush();
        self.close_doomed();
        self.send_dirty()?;
        self.finish_leaving();
        for token in self.core.resumes.drain(..) {
            self.driver.resume(token);
        }
        self.core.mailbox.ring_doorbells();
        Ok(())
    }

    /// Until nothing is dirty: what left in the first round may make room for more.
    fn send_dirty(&mut self) -> io::Result<()> {
        while self.core.tables.outboxes.has_dirty() {
            self.send_dirty_once();
            let core = &mut self.core;
            self.driver.flush(&mut |completion| {
                if let Completion::Sent(token, buffer) = completion {
                    core.on_sent(token, buffer);
                }
                Next::Read
            })?;
        }
        Ok(())
    }

    fn send_dirty_once(&mut self) {
        let mut dirty = self.core.tables.outboxes.take_dirty();
        for token in dirty.drain(..) {
            let tables = &mut self.core.tables;
            let Some(conn) = tables.conns.get_mut(token) else { continue };
            match tables.outboxes.flush(conn) {
                Flush::Send(buffer) => {
                    tables.counters.sends += 1;
                    if let Some(buffer) = self.driver.send(token, buffer) {
                        self.core.on_sent(token, buffer);
                    }
                }
                Flush::Wait | Flush::Empty => {}
            }
        }
        self.core.tables.outboxes.give_dirty(dirty);
    }

    /// Follows the coordinator's signal; false when there is nothing left to do.
    fn follow_drain(&mut self) -> bool {
        let phase = self.core.drain.phase.load(Ordering::Acquire);
        if phase > self.core.drain_phase {
            self.core.drain_phase = phase;
            self.accepting = false;
            self.driver.accept(false);
        }
        let core = &mut self.core;
        if phase > 0 {
            core.drain.quiet.store(core.is_quiet(), Ordering::Release);
            core.report_drain();
        }
        if phase >= 2 {
            core.say_farewells();
        }
        let saved = core.stage.is_idle() || core.stage.health() == crate::log::Health::Failed;
        phase < 2 || !core.tables.conns.is_empty() || !saved
    }
}

impl<S, R: Reader> Core<S, R> {
    /// How long there is nothing to do unless something comes in.
    fn sleep_ms(&self) -> u64 {
        let urgent = !self.parked.is_empty()
            || !self.movers.is_empty()
            || !self.copies.is_empty()
            || !self.tables.doomed.is_empty()
            || !self.errands.is_empty()
            || self.imaging.is_busy()
            || !self.burials.is_empty()
            || self.tables.pairs.has_dirty()
            || self.groups_wait()
            || self.drain_phase > 0;
        let mut sleep_ms = if urgent { 1 } else { limits::SLEEP_MS_MAX };
        let mut by = |due_ms: u64| {
            sleep_ms = sleep_ms.min(due_ms.saturating_sub(self.now.mono_ms));
        };
        if let Some(due_ms) = self.admission.look_ms() {
            by(due_ms.max(self.now.mono_ms + 1));
        }
        if let Some(due_ms) = self.grouping.due_ms() {
            by(due_ms.max(self.now.mono_ms + 1));
        }
        if let Some(due_ms) = self.wheel.next_due_ms(self.now.mono_ms) {
            by(due_ms.max(self.now.mono_ms + 1));
        }
        if !self.tables.dirty_cursors.is_empty() || !self.tables.dirty_reads.is_empty() {
            by(self.cursors_due_ms.max(self.now.mono_ms + 1));
        }
        if self.overload.level() > Level::Normal {
            by(self.now.mono_ms + limits::OVERLOAD_LOOK_MS);
        } else if self.tables.watches.count() > 0 {
            by(self.presence_due_ms.max(self.now.mono_ms + 1));
        }
        sleep_ms
    }

    /// Nothing waits in any queue of this shard.
    fn may_sleep(&self) -> bool {
        self.behind.is_empty()
            && self.mailbox.may_sleep()
            && !self.stage.has_committed()
            && self.orders.is_empty()
            && self.side.as_ref().is_none_or(Side::is_empty)
    }

    /// Presence: what happened to watched users soon, what time changed every second.
    fn watchers(&mut self, handles: &mut Vec<u32>) {
        if self.now.mono_ms < self.presence_due_ms || self.overload.sheds_presence() {
            return; // what changes meanwhile stays marked
        }
        self.presence_due_ms = self.now.mono_ms + limits::PRESENCE_LOOK_MS;
        handles.clear();
        self.tables.watches.take_dirty(handles);
        if self.now.mono_ms >= self.sweep_due_ms {
            self.sweep_due_ms = self.now.mono_ms + limits::PRESENCE_SWEEP_MS;
            handles.clear();
            self.tables.watches.each(handles);
        }
        for &handle in handles.iter() {
            debug_assert_ne!(handle, NONE);
            let Self { tables, rules, mailbox, placement, me, now, .. } = self;
            presence::look(tables, rules, handle, *now, |tables, news| {
                super::traffic::tell_presence(tables, mailbox, *placement, *me, news)
            });
        }
    }

    /// Marks that moved become receipts, as far as there are credits.
    fn tell_receipts(&mut self) {
        let Self { tables, mailbox, placement, me, .. } = self;
        receipt::tell_dirty(tables, *placement, |tables, home, receipt| {
            super::traffic::tell_receipt(tables, mailbox, *me, home, receipt)
        });
    }

    /// Last-seen times go to their file.
    fn flush_seen(&mut self) {
        let due = self.now.mono_ms >= self.seen_due_ms || self.drain_phase > 0;
        if !due || self.tables.dirty_seen.is_empty() {
            return;
        }
        self.seen_due_ms = self.now.mono_ms + limits::LAST_SEEN_FLUSH_MS;
        let batch = presence::take_seen(&mut self.tables);
        if let Some(side) = &self.side {
            let _next_flush_has_newer = side.seen.push(batch);
        }
    }
}
