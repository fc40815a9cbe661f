//! Logged-in connections go where they belong: to their user's home, into their device.
//!
//! A session moves once in its life, between `Hello` and `Welcome`, with what came behind its
//! `Hello` (at most `SURPLUS_BYTES_MAX`). Nothing of it is armed for life before that.
//! Connections that wait for a credit toward another shard are tried again from here.

use super::{Core, Shard, Waiter};
use crate::io::Driver;
use crate::limits;
use crate::log::Reader;
use crate::mem::Token;
use crate::path::{deliver, ending, group, session};
use crate::state::NONE;
use crate::state::conn::{Conn, Phase};
use crate::state::request::{Arrival, Envelope, Login};
use wire::Parting;

impl<S, R: Reader> Core<S, R> {
    /// A session arrives at its user's home.
    pub(super) fn on_arrival(&mut self, arrival: Arrival<S>) {
        let Arrival { socket, source, parser, surplus, login } = arrival;
        let mut conn = Conn::new(self.now.mono_ms, parser);
        conn.phase = Phase::Moving;
        conn.paused = true;
        let Ok(token) = self.tables.conns.insert(conn) else {
            self.tables.counters.conns_refused += 1;
            return; // the socket closes: even the spare places for saying why are taken
        };
        let handle = self.tables.sources.enter(source, token);
        if let Some(conn) = self.tables.conns.get_mut(token) {
            conn.source = handle;
            if !surplus.is_empty() {
                self.tables.partials.of(conn).raw.extend_from_slice(&surplus);
            }
        }
        self.wheel.arm(token.index, self.now.mono_ms + limits::HELLO_TIMEOUT_MS);
        self.arrivals.push((token, socket));
        self.log_in(token, &login);
    }

    /// At home: find the device, wait for its record if it is new, welcome it.
    fn log_in(&mut self, token: Token, login: &Login) {
        if self.drain_phase > 0 {
            self.doom(token, Parting::Shutdown);
            return;
        }
        if self.turn_away_if_full(token) {
            return;
        }
        let sessions = self.tables.conns.len().saturating_sub(self.tables.sources.greeting());
        if sessions >= self.sessions_max {
            self.doom(token, Parting::Full);
            return;
        }
        if let Some(parting) = ending::turns_away(&self.tables, login) {
            self.doom(token, parting);
            return;
        }
        let Self { tables, stage, now, .. } = self;
        match session::admit(tables, stage, login, *now) {
            Ok(session::Admitted::Known(device)) => self.on_durable_device(token, device, login),
            Ok(session::Admitted::New(device, ticket)) => {
                let login = *login;
                self.waiters.push_back(Waiter::Login { ticket, conn: token, device, login });
            }
            Err(parting) => {
                self.doom(token, parting);
            }
        }
    }

    pub(super) fn on_durable_device(&mut self, token: Token, device: u32, login: &Login) {
        let waits = self.tables.conns.get(token).is_some_and(|conn| conn.phase == Phase::Moving);
        if !waits {
            return; // the connection went away meanwhile
        }
        let same = self.tables.users.device_if_any(device).is_some_and(|here| {
            here.id == login.device && self.tables.users.user(here.user).id == login.user
        });
        // Suspended or logged out while the record was on its way; or the device was dropped for a
        // newer one, and its place may be another's.
        let parting = ending::turns_away(&self.tables, login);
        if let Some(parting) = parting.or_else(|| (!same).then_some(Parting::TooManyDevices)) {
            self.doom(token, parting);
            return;
        }
        let Self { tables, rules, now, .. } = self;
        self.settled.push(token);
        session::attach(tables, token, device, login, *now);
        deliver::ack(tables, device, login.resume_after, *now);
        session::welcome(tables, rules, token, device, *now);
        self.pong(token, false); // if heartbeats are asked for less often
        let Self { tables, now, .. } = self;
        group::members::log_in(tables, device, token);
        let user = tables.users.device(device).user;
        if login.active {
            session::active(tables, user, *now);
        }
        tables.watches.touch(tables.users.user(user).watchers);
        if let Some(conn) = tables.conns.get_mut(token) {
            conn.paused = false;
        }
        self.doom_tardy(token); // arms the wheel for the first deadline
        self.behind.push(device);
        self.read_on();
        self.on_kept(token);
    }
}

impl<D: Driver, R: Reader> Shard<D, R> {
    /// Logged-in connections go where they belong.
    pub(super) fn move_home(&mut self) {
        for _ in 0..self.core.movers.len() {
            let Some(mover) = self.core.movers.pop_front() else { return };
            let Some(conn) = self.core.tables.conns.get(mover.conn) else { continue };
            if conn.phase != Phase::Moving {
                continue;
            }
            let home = self.core.placement.home(mover.login.user);
            if home == self.core.me {
                self.core.log_in(mover.conn, &mover.login);
                continue;
            }
            let unsent = conn.outbox != NONE;
            if !unsent && self.core.mailbox.has_credit(home) {
                self.hand_over(mover.conn, home, mover.login);
            } else if self.core.now.mono_ms > mover.since_ms + limits::HELLO_TIMEOUT_MS / 2 {
                self.core.doom(mover.conn, Parting::Overloaded);
            } else {
                self.core.mailbox.wants_credit(home);
                self.core.movers.push_back(mover);
            }
        }
    }

    fn hand_over(&mut self, token: Token, home: usize, login: Login) {
        let core = &mut self.core;
        let Some(socket) = self.driver.detach(token) else { return };
        let Some(mut conn) = core.tables.conns.remove(token) else { return };
        core.wheel.disarm(token.index);
        let source = core.tables.sources.address(conn.source);
        core.tables.sources.leave(conn.source);
        let mut surplus = Vec::new();
        if let Some(partial) = core.tables.partials.take(&mut conn) {
            surplus.extend_from_slice(&partial.raw);
            core.tables.partials.recycle(partial);
        }
        core.tables.counters.moved += 1;
        let parser = conn.parser;
        let arrival = Box::new(Arrival { socket, source, parser, surplus, login });
        let sent = core.mailbox.notify(home, Envelope::Move(arrival));
        debug_assert!(sent.is_ok(), "a credit was there a moment ago");
    }

    /// Connections that waited for a credit try again; after a while they hear that there is none.
    pub(super) fn retry_parked(&mut self) {
        for _ in 0..self.core.parked.len() {
            let Some(parked) = self.core.parked.pop_front() else { return };
            let Some(conn) = self.core.tables.conns.get_mut(parked.token) else { continue };
            if conn.phase == Phase::Leaving {
                continue;
            }
            conn.paused = false;
            self.core.waits_since_ms = Some(parked.since_ms);
            self.core.on_kept(parked.token);
            self.core.waits_since_ms = None;
        }
    }
}
