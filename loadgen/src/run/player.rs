//! One thread of a run: does what the pace says is due, and lets the sockets tell the clients.
//!
//! A turn: what is due, retries and time, then writing, then waiting for the sockets until the next
//! thing is due. Deliberately not here: what a word of the server changes (`play`).

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::course::{Course, Role};
use super::ledger::Ledger;
use super::pace::{Deed, Pace, storm_due_us};
use super::play::{Play, Stage};
use super::schedule::micros;
use super::sockets::Sockets;
use super::tally::Tally;

/// Longest wait for sockets: how soon a stop is noticed.
const WAIT_US_MAX: u64 = 20_000;
/// Deeds of one turn; then the sockets are looked at.
const DEEDS_PER_TURN: usize = 512;
/// Connections of one turn.
const CONNECTS_PER_TURN: usize = 16;
/// Every client is told the time this often, while there are few of them.
const TICK_US: u64 = 250_000;
/// And this often otherwise.
const TICK_MANY_US: u64 = 1_000_000;
/// Clients of one thread from which on there are many.
const MANY: usize = 20_000;
/// Slow readers read this often.
const SLOW_US: u64 = 100_000;

/// What a thread knows at the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ledger: Ledger,
    /// Clients that were not connected at the end.
    pub(crate) missing: Vec<u32>,
}

/// See the module.
pub(crate) struct Player {
    course: Arc<Course>,
    part: u32,
    sockets: Box<dyn Sockets>,
    play: Play,
    pace: Pace,
    tallies: Sender<Tally>,
    asked: u64,
    ticked_us: u64,
    tick_next: u32,
    slow: Vec<u32>,
    slow_us: u64,
}

impl Player {
    pub(crate) fn new(
        course: &Arc<Course>,
        part: u32,
        sockets: Box<dyn Sockets>,
        tallies: Sender<Tally>,
    ) -> Self {
        let play = Play::new(Arc::clone(course), part);
        let now_us = course.now_us();
        let count = u32::try_from(play.clients.len()).unwrap_or(u32::MAX);
        let slow = (0..count).filter(|local| play.role(*local) == Role::Slow).collect();
        Self {
            part,
            sockets,
            pace: Pace::new(course, part, now_us),
            play,
            tallies,
            asked: 0,
            ticked_us: now_us,
            tick_next: 0,
            slow,
            slow_us: 0,
            course: Arc::clone(course),
        }
    }

    /// Plays until told to stop.
    pub(crate) fn run(mut self) -> Result<Outcome, String> {
        let course = Arc::clone(&self.course);
        while !course.is_stopped() {
            let now_us = course.now_us();
            let busy = self.act(now_us);
            self.time_passes(now_us);
            self.write_all();
            self.tell();
            let wait_us = if busy { 0 } else { self.until_due() };
            let play = &mut self.play;
            self.sockets
                .wait(Duration::from_micros(wait_us), &mut |slot, completion| {
                    play.complete(slot, completion, course.now_us());
                })
                .map_err(|error| format!("the engine failed: {error}"))?;
            self.close_doomed();
            self.write_all();
        }
        let missing = self.play.missing();
        Ok(Outcome { ledger: self.play.ledger, missing })
    }

    /// Does what is due; whether there may be more.
    fn act(&mut self, now_us: u64) -> bool {
        let course = Arc::clone(&self.course);
        let mut connects = 0;
        for _ in 0..DEEDS_PER_TURN {
            if connects >= CONNECTS_PER_TURN {
                return true;
            }
            let Some(deed) = self.pace.next(&course, now_us) else {
                return self.retry(now_us, connects);
            };
            match deed {
                Deed::Connect { local, intended_us } => {
                    connects += 1;
                    self.play.is_due(local, intended_us);
                    self.connect(local, now_us);
                }
                Deed::Send { intended_us } => {
                    let traffic = self.pace.leg(&course).map(|leg| leg.traffic);
                    self.play.write(traffic.unwrap_or_default(), intended_us, course.now_us());
                }
                Deed::Churn { intended_us } => self.churn(intended_us),
                Deed::Begin { leg } => self.begin(leg, now_us),
                Deed::End => {
                    for local in std::mem::take(&mut self.slow) {
                        self.sockets.hold(local, false); // what waits is wanted now
                    }
                }
            }
        }
        true
    }

    fn connect(&mut self, local: u32, now_us: u64) {
        let number = self.play.number(local);
        if number >= self.play.online || !self.play.prepare(local) {
            return;
        }
        let sources = &self.course.sources;
        let source = sources.get(number as usize % sources.len().max(1)).copied();
        let timeout_us = micros(self.course.scenario.clients.connect_timeout_seconds);
        let result = self.sockets.connect(local, self.course.server(number), source);
        let Some(client) = self.play.client(local) else { return };
        client.stage = Stage::Connecting;
        client.life += 1;
        let life = client.life;
        match result {
            Ok(()) => self.play.deadlines.push_back((now_us + timeout_us, local, life)),
            Err(error) => self.play.lost(local, super::host::explain(&error), now_us),
        }
    }

    /// Connects those whose wait is over; whether there may be more.
    fn retry(&mut self, now_us: u64, mut connects: usize) -> bool {
        while let Some(Reverse((due_us, local))) = self.play.retries.peek().copied()
            && due_us <= now_us
        {
            if connects >= CONNECTS_PER_TURN {
                return true;
            }
            connects += 1;
            self.play.retries.pop();
            self.connect(local, now_us);
        }
        false
    }

    /// Cuts a connection that is logged in and lets it come back at once.
    fn churn(&mut self, intended_us: u64) {
        let count = u32::try_from(self.play.clients.len()).unwrap_or(u32::MAX);
        for _ in 0..count {
            self.tick_next = (self.tick_next + 1) % count.max(1);
            let local = self.tick_next;
            let is_ready = self.play.client(local).is_some_and(|c| c.stage == Stage::Ready);
            if is_ready && self.play.role(local) == Role::Plain {
                self.cut(local, intended_us);
                return;
            }
        }
    }

    /// Cuts a connection on purpose; it comes back at `due_us`.
    fn cut(&mut self, local: u32, due_us: u64) {
        self.sockets.close(local);
        self.play.leave(local);
        if let Some(client) = self.play.client(local) {
            client.due_us = due_us;
        }
        self.play.retries.push(Reverse((due_us, local)));
    }

    fn begin(&mut self, leg: usize, now_us: u64) {
        let course = Arc::clone(&self.course);
        let Some(leg) = course.legs.get(leg) else { return };
        let before = self.play.set_online(leg.online);
        for local in self.pace.locals(leg.online)..self.pace.locals(before) {
            self.sockets.close(local);
            self.play.leave(local);
        }
        let start_us = self.pace.leg_start_us();
        if let Some(per_second) = leg.storm {
            for local in 0..self.pace.locals(leg.online.min(before)) {
                let is_away =
                    self.play.client(local).is_none_or(|client| client.stage == Stage::Away);
                if !is_away && self.play.role(local) != Role::Hostile {
                    let due_us = storm_due_us(start_us, per_second, self.play.number(local));
                    self.cut(local, due_us);
                }
            }
        }
        if leg.online > before {
            self.pace.open(&course, before, leg.online, now_us);
        }
    }

    fn time_passes(&mut self, now_us: u64) {
        while let Some((deadline_us, local, life)) = self.play.deadlines.front().copied()
            && deadline_us <= now_us
        {
            self.play.deadlines.pop_front();
            let is_late = self.play.client(local).is_some_and(|client| {
                client.life == life && matches!(client.stage, Stage::Connecting | Stage::Greeting)
            });
            if is_late && self.play.role(local) != Role::Hostile {
                let seconds = self.course.scenario.clients.connect_timeout_seconds;
                let why = format!("not logged in within {seconds} s");
                self.play.doomed.push((local, why));
            }
        }
        self.tick(now_us);
        if now_us >= self.slow_us && !self.slow.is_empty() {
            self.slow_us = now_us + SLOW_US;
            let per_second = u64::from(self.course.scenario.clients.slow_bytes_per_second);
            let bytes = (per_second * SLOW_US / 1_000_000).max(1);
            for local in &self.slow {
                self.sockets.read(*local, usize::try_from(bytes).unwrap_or(usize::MAX));
            }
        }
        self.close_doomed();
    }

    /// Tells the time to as many clients as its passing allows, in turn.
    fn tick(&mut self, now_us: u64) {
        let count = self.play.clients.len();
        let every_us = if count > MANY { TICK_MANY_US } else { TICK_US };
        let passed_us = now_us.saturating_sub(self.ticked_us).min(every_us);
        let due = passed_us * count as u64 / every_us;
        if due == 0 {
            return;
        }
        self.ticked_us = now_us;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        for _ in 0..due {
            self.tick_next = if self.tick_next + 1 >= count { 0 } else { self.tick_next + 1 };
            let local = self.tick_next;
            let Some(client) = self.play.client(local) else { continue };
            if matches!(client.stage, Stage::Away | Stage::Connecting) {
                continue;
            }
            let Some(speaker) = &mut client.speaker else { continue };
            match speaker.tick(now_us / 1_000) {
                Ok(()) => self.play.mark_dirty(local),
                Err(why) => self.play.doomed.push((local, why)),
            }
        }
    }

    fn close_doomed(&mut self) {
        let now_us = self.course.now_us();
        for (local, why) in std::mem::take(&mut self.play.doomed) {
            if self.play.client(local).is_some_and(|client| client.stage != Stage::Away) {
                self.write(local); // the answer to a close
                self.sockets.close(local);
                self.play.lost(local, why, now_us);
            }
        }
        for local in std::mem::take(&mut self.play.to_hold) {
            if !self.pace.has_ended() {
                self.sockets.hold(local, true);
            }
        }
    }

    fn write_all(&mut self) {
        for local in self.play.take_dirty() {
            self.write(local);
        }
    }

    fn write(&mut self, local: u32) {
        let mut buffer = self.sockets.buffers().take();
        let Some(client) = self.play.client(local) else { return };
        if client.sending || matches!(client.stage, Stage::Away | Stage::Connecting) {
            self.sockets.buffers().keep(buffer);
            return;
        }
        if let Some(speaker) = &mut client.speaker {
            speaker.take_output(&mut buffer);
        }
        if buffer.is_empty() {
            self.sockets.buffers().keep(buffer);
        } else {
            client.sending = !self.sockets.write(local, buffer);
        }
    }

    /// Shows the others how far this thread is, and hands over its counts when asked.
    fn tell(&mut self) {
        if let Some(gauge) = self.course.gauges.get(self.part as usize) {
            let ledger = &self.play.ledger;
            let wanted = self.play.wanted;
            gauge.ready.store(self.play.ready, Ordering::Relaxed);
            gauge.wanted.store(wanted, Ordering::Relaxed);
            gauge.hopeless.store(self.play.hopeless, Ordering::Relaxed);
            gauge.sent.store(ledger.sent_count, Ordering::Relaxed);
            gauge.expected.store(ledger.expected_count, Ordering::Relaxed);
            gauge.answered.store(ledger.answered_count, Ordering::Relaxed);
            gauge.arrived.store(ledger.arrived_count, Ordering::Relaxed);
            gauge.under_way.store(ledger.under_way() as u64, Ordering::Relaxed);
        }
        let asked = self.course.asked();
        if asked != self.asked {
            self.asked = asked;
            // Nobody listens any more only when the run is over.
            let _ = self.tallies.send(std::mem::replace(&mut self.play.ledger.tally, Tally::new()));
        }
    }

    fn until_due(&self) -> u64 {
        let now_us = self.course.now_us();
        let retry = self.play.retries.peek().map(|Reverse((due_us, _))| *due_us);
        let slow = (!self.slow.is_empty()).then_some(self.slow_us);
        let due = [self.pace.due_us(&self.course), retry, slow].into_iter().flatten().min();
        due.map_or(WAIT_US_MAX, |due| due.saturating_sub(now_us)).min(WAIT_US_MAX)
    }
}
