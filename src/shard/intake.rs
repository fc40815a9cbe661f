//! Completions become frames, frames become steps of the path.
//!
//! Input is parsed where the driver left it; only what is incomplete is copied and kept with the
//! connection. A frame that needs a credit toward another shard and finds none is kept whole, and
//! its connection is not read until it went through: order is kept and memory is bounded.

use super::Core;
use crate::clock::Past;
use crate::io::Next;
use crate::limits;
use crate::log::Reader;
use crate::mem::Token;
use crate::path::{accept, deliver, frame, presence, session};
use crate::state::NONE;
use crate::state::conn::{Conn, Parked, Partial, Phase};
use std::net::IpAddr;
use wire::{ClientFrame, Parting, Stream};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Done with.
    Taken,
    /// It needs a credit that is not there: keep it.
    Wait,
}

impl<S, R: Reader> Core<S, R> {
    pub(super) fn on_accepted(&mut self, socket: S, source: IpAddr) {
        let Self { tables, rules, now, .. } = self;
        if let Some(token) = accept::accept(tables, rules, source, now.mono_ms) {
            self.wheel.arm(token.index, self.now.mono_ms + limits::HELLO_TIMEOUT_MS);
            self.arrivals.push((token, socket));
        }
    }

    pub(super) fn on_sent(&mut self, token: Token, buffer: Vec<u8>) {
        let outboxes = &mut self.tables.outboxes;
        match self.tables.conns.get_mut(token) {
            Some(conn) => {
                outboxes.sent(token, conn, buffer);
                let device = conn.device;
                if device != NONE && deliver::is_behind(&self.tables, device) {
                    self.behind.push(device); // a full outbox may have stopped its reading
                }
            }
            None => outboxes.recycle(buffer),
        }
    }

    pub(super) fn on_data(&mut self, token: Token, bytes: &mut [u8]) -> Next {
        self.tables.counters.receives += 1;
        let Some(conn) = self.tables.conns.get_mut(token) else {
            self.tables.counters.stale += 1;
            return Next::Close;
        };
        if conn.phase == Phase::Leaving || self.drain_phase > 0 {
            return Next::Read; // said goodbye: what still comes is not looked at
        }
        let mut taken = bytes.len();
        if conn.phase != Phase::Session {
            let room = limits::HELLO_BYTES_MAX.saturating_sub(usize::from(conn.spent));
            taken = taken.min(room);
            conn.spent = conn.spent.saturating_add(u16::try_from(taken).unwrap_or(u16::MAX));
        }
        let too_much = taken < bytes.len();
        let bytes = &mut bytes[..taken]; // what is beyond is never looked at
        let mut partial =
            self.tables.partials.take(conn).unwrap_or_else(|| self.tables.partials.fresh());
        if partial.raw.is_empty() && partial.waiting.is_empty() {
            let Partial { assembly, raw, waiting } = &mut *partial;
            let used = self.consume(token, bytes, assembly, waiting);
            raw.extend_from_slice(&bytes[used..]);
        } else {
            partial.raw.extend_from_slice(bytes);
            self.consume_kept(token, &mut partial);
        }
        let next = self.keep(token, partial);
        if too_much { self.stop_stranger(token, next) } else { next }
    }

    /// Too many bytes before a login. A head that never ends was answered in HTTP already.
    fn stop_stranger(&mut self, token: Token, next: Next) -> Next {
        let Some(conn) = self.tables.conns.get(token) else { return next };
        if conn.phase != Phase::Leaving {
            // Now, not at the end of the turn: without the bytes beyond it must not move home.
            self.say_goodbye(token, Parting::HelloExpected, "");
        }
        next
    }

    /// Goes on with the kept input of a connection that was stopped.
    pub(super) fn on_kept(&mut self, token: Token) {
        let Some(conn) = self.tables.conns.get_mut(token) else { return };
        let Some(mut partial) = self.tables.partials.take(conn) else {
            self.resumes.push(token);
            return;
        };
        self.consume_kept(token, &mut partial);
        if self.keep(token, partial) == Next::Read {
            self.resumes.push(token);
        }
    }

    fn keep(&mut self, token: Token, partial: Box<Partial>) -> Next {
        let Some(conn) = self.tables.conns.get_mut(token) else {
            self.tables.partials.recycle(partial);
            return Next::Close;
        };
        if conn.phase == Phase::Leaving {
            self.tables.partials.recycle(partial);
            return Next::Read;
        }
        let waits = matches!(conn.phase, Phase::Verifying | Phase::Moving);
        if waits && partial.raw.len() > limits::SURPLUS_BYTES_MAX {
            // Now, not at the end of the turn: it must not move home meanwhile.
            self.say_goodbye(token, Parting::HelloExpected, "");
            self.tables.partials.recycle(partial);
            return Next::Read;
        }
        self.tables.partials.put(conn, partial);
        if conn.paused { Next::Pause } else { Next::Read }
    }

    fn consume_kept(&mut self, token: Token, partial: &mut Partial) {
        if !partial.waiting.is_empty() {
            let frame = std::mem::take(&mut partial.waiting);
            let step = match ClientFrame::decode(&frame) {
                Ok(frame) => self.on_frame(token, &frame),
                Err(_) => Step::Taken, // it was decoded before it was kept
            };
            partial.waiting = frame;
            if step == Step::Wait {
                return;
            }
            partial.waiting.clear();
            self.waits_since_ms = None; // what follows has not waited yet
        }
        let used =
            self.consume(token, &mut partial.raw, &mut partial.assembly, &mut partial.waiting);
        partial.raw.drain(..used);
    }

    /// Parses and handles what is complete; returns how many bytes were used up.
    fn consume(
        &mut self,
        token: Token,
        input: &mut [u8],
        assembly: &mut Vec<u8>,
        waiting: &mut Vec<u8>,
    ) -> usize {
        let mut used = 0;
        loop {
            let Some(conn) = self.tables.conns.get_mut(token) else { return used };
            let stopped = conn.paused || !matches!(conn.phase, Phase::Greeting | Phase::Session);
            if stopped {
                return used;
            }
            let (step, unit) = frame::next(conn, &self.rules, &mut input[used..], assembly);
            used += step;
            if !matches!(unit, frame::Unit::More) && spend(conn, cost_of(step), self.host_ms) {
                self.doom(token, Parting::TooManyFrames);
                return used;
            }
            match unit {
                frame::Unit::More => return used,
                frame::Unit::Nothing => {}
                frame::Unit::Frame(bytes) => match frame::decode(bytes) {
                    Ok(frame) => {
                        if self.on_frame(token, &frame) == Step::Wait {
                            waiting.extend_from_slice(bytes);
                        }
                    }
                    Err(unit) => self.on_transport(token, unit),
                },
                unit => self.on_transport(token, unit),
            }
        }
    }

    /// What is not a frame: the upgrade, WebSocket's own control frames, and errors.
    fn on_transport(&mut self, token: Token, unit: frame::Unit<'_>) {
        let Some(conn) = self.tables.conns.get_mut(token) else { return };
        let outboxes = &mut self.tables.outboxes;
        if conn.phase == Phase::Session {
            conn.heard = Past::at(self.now.mono_ms); // before login nothing buys time but a Hello
        }
        match unit {
            frame::Unit::Upgraded(handshake) => {
                outboxes.write(token, conn, |out| handshake.write_response(out));
                return;
            }
            frame::Unit::Ping(bytes) => {
                outboxes.write(token, conn, |out| {
                    wire::write_control(wire::Control::Pong(bytes), None, out);
                });
                return;
            }
            frame::Unit::Close(code) => {
                outboxes.write(token, conn, |out| {
                    wire::write_control(wire::Control::Close { code, reason: "" }, None, out);
                });
            }
            frame::Unit::NotUpgraded(response) => {
                outboxes.write(token, conn, |out| out.extend_from_slice(response.as_bytes()));
            }
            frame::Unit::Bad(parting, close_code, detail) => {
                self.say_goodbye_as(token, parting, close_code, &detail);
                return;
            }
            _ => return,
        }
        self.leave(token);
    }

    fn on_frame(&mut self, token: Token, frame: &ClientFrame<'_>) -> Step {
        self.tables.counters.frames += 1;
        let Some(conn) = self.tables.conns.get_mut(token) else { return Step::Taken };
        match (conn.phase, frame) {
            (Phase::Greeting, ClientFrame::Hello(hello)) => self.on_hello(token, hello),
            (Phase::Greeting, _) => self.doom(token, Parting::HelloExpected),
            (Phase::Session, ClientFrame::Hello(_)) => self.doom(token, Parting::SecondHello),
            (Phase::Session, _) => {
                conn.heard = Past::at(self.now.mono_ms);
                self.on_session_frame(token, frame)
            }
            _ => Step::Taken,
        }
    }

    fn on_session_frame(&mut self, token: Token, frame: &ClientFrame<'_>) -> Step {
        let device = self.tables.conns.get(token).map_or(NONE, |conn| conn.device);
        if device == NONE {
            return Step::Taken; // replaced in this very turn: its goodbye is on the way
        }
        let user = self.tables.users.device(device).user;
        if let Some(step) = self.on_group_frame(token, user, device, frame) {
            return step;
        }
        let now = self.now;
        match frame {
            ClientFrame::Send(send) => return self.on_send(token, user, device, send),
            ClientFrame::Ack(ack) => {
                let own = Stream::User(self.tables.users.user(user).id);
                if ack.stream.is_some_and(|stream| stream != own) {
                    return Step::Taken; // other inboxes are not its own
                }
                if deliver::ack(&mut self.tables, device, ack.up_to, now) {
                    self.behind.push(device);
                }
            }
            ClientFrame::Read(read) => {
                if !read.automatic {
                    session::active(&mut self.tables, user, now);
                }
                let id_of = |(Stream::User(id) | Stream::Group(id))| id;
                let peer = read.stream.map(id_of);
                self.note_read(device, peer, read.up_to);
            }
            ClientFrame::Ping(ping) => {
                session::confirm(&mut self.tables, device, ping.confirmed);
                if ping.active {
                    session::active(&mut self.tables, user, now);
                }
                self.pong(token, ping.answer);
            }
            ClientFrame::Typing(typing) => {
                session::active(&mut self.tables, user, now);
                if self.overload.sheds_presence() {
                    self.tables.counters.shed += 1;
                } else if let Stream::User(to) = typing.to {
                    self.send_typing(user, to, typing.stopped);
                }
            }
            ClientFrame::WatchPresence(watch) => {
                let Self { tables, errands, .. } = self;
                if presence::may_ask(tables, device, watch.users.len(), now) {
                    let new = presence::watch_errands(tables, user, device, &watch.users);
                    super::traffic::add_errands(errands, new);
                }
            }
            ClientFrame::AskReceipts(ask) => {
                let Self { tables, errands, .. } = self;
                if presence::may_ask(tables, device, ask.peers.len(), now) {
                    let new = presence::receipt_errands(tables, user, &ask.peers);
                    super::traffic::add_errands(errands, new);
                }
            }
            ClientFrame::Renew(renew) => {
                let (conn, host_ms) = (self.tables.conns.get_mut(token), self.host_ms);
                if conn.is_some_and(|conn| spend(conn, limits::RENEW_COST_FRAMES, host_ms)) {
                    return self.doom(token, Parting::TooManyFrames);
                }
                return self.on_token(token, renew.token, None);
            }
            question => return self.on_question(token, user, question),
        }
        Step::Taken
    }

    /// Stops reading a connection until there is room for its next frame.
    pub(super) fn park(&mut self, token: Token) {
        if let Some(conn) = self.tables.conns.get_mut(token) {
            conn.paused = true;
            let since_ms = self.waits_since_ms.unwrap_or(self.now.mono_ms);
            self.parked.push_back(Parked { token, since_ms });
        }
    }
}

/// What so many bytes of input count in frames.
fn cost_of(bytes: usize) -> u16 {
    u16::try_from(1 + bytes / limits::FRAME_COST_BYTES).unwrap_or(u16::MAX)
}

/// Counts what a session costs in this second of the host's clock; the session clock is slow while
/// the server is late, and would count more. True: it is more than a session may.
pub(super) fn spend(conn: &mut Conn, cost: u16, now_ms: u64) -> bool {
    if conn.phase != Phase::Session {
        return false;
    }
    let second = u8::try_from(now_ms / 1000 % 256).unwrap_or(0);
    if conn.second != second {
        (conn.second, conn.spent) = (second, 0);
    }
    conn.spent = conn.spent.saturating_add(cost);
    conn.spent > limits::FRAMES_PER_SECOND_MAX
}
