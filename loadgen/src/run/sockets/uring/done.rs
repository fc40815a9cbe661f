//! What each completion means for its socket.

use std::io;

use super::super::ring::{AREA_BYTES, Done, Ring};
use super::super::{Completion, Sockets as _};
use super::{BITS, Operation, State, Uring, name, part};

/// What a watch reports when the other side has nothing more to say.
const ENDING: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;

impl Uring {
    /// Takes all completions of a ring.
    pub(super) fn take(&mut self, ring: usize, each: &mut dyn FnMut(u32, Completion<'_>)) {
        while let Some(done) = self.rings.get_mut(ring).and_then(Ring::next_done) {
            let first = u32::try_from(ring).unwrap_or(0) * self.table;
            let place = part(done.user_data, 1);
            self.done(ring, first + place, done, each);
        }
    }

    fn done(
        &mut self,
        ring: usize,
        slot: u32,
        done: Done,
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) {
        let operation = done.user_data >> (3 * BITS);
        if operation == Operation::Ring as u64 {
            let number = part(done.user_data, 0) as usize;
            if let Some(watched) = self.watched.get_mut(number) {
                *watched = false;
            }
            return;
        }
        let Some(conn) = self.conns.get(slot as usize).copied() else { return };
        let is_current = part(done.user_data, 2) == conn.generation && conn.state != State::Free;
        let buffer = part(done.user_data, 0);
        if operation == Operation::Receive as u64 {
            self.received(ring, slot, done.result, (buffer, is_current), each);
        } else if operation == Operation::Send as u64 {
            self.sent(slot, done, (buffer, is_current), each);
        } else if operation == Operation::Connect as u64 && is_current {
            if done.result < 0 {
                return self.end(slot, Some(done.result), each);
            }
            if let Some(conn) = self.conn(slot) {
                conn.state = State::Open;
            }
            self.watch(slot);
            each(slot, Completion::Connected);
        } else if operation == Operation::Watch as u64 && is_current {
            if let Some(conn) = self.conn(slot) {
                conn.ending |= done.result > 0 && done.result & ENDING != 0;
            }
            if !done.more {
                self.watch(slot); // the kernel had no room for a completion, for one
            }
            self.readable(slot);
        }
    }

    fn watch(&mut self, slot: u32) {
        let Some(generation) = self.conn(slot).map(|conn| conn.generation) else { return };
        let Some((ring, place)) = self.ring(slot) else { return };
        if let Err(error) = ring.watch(place, name(Operation::Watch, generation, place, 0)) {
            self.failed.push((slot, error));
        }
    }

    fn received(
        &mut self,
        ring: usize,
        slot: u32,
        result: i32,
        (area, is_current): (u32, bool),
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) {
        let Some(owner) = self.rings.get_mut(ring) else { return };
        let mut bytes = owner.take_area(area);
        let count = usize::try_from(result).unwrap_or(0);
        if is_current {
            if let Some(conn) = self.conn(slot) {
                conn.receiving = false;
            }
            match result {
                0 => self.end(slot, None, each),
                1.. => {
                    each(slot, Completion::Data(bytes.get_mut(..count).unwrap_or_default()));
                    let again = self.conn(slot).is_some_and(|conn| {
                        let watched = std::mem::take(&mut conn.readable);
                        count == AREA_BYTES || conn.held || conn.ending || watched
                    });
                    if again {
                        self.readable(slot);
                    }
                }
                _ if result == -libc::EAGAIN || result == -libc::EINTR => {
                    let again =
                        self.conn(slot).is_some_and(|conn| std::mem::take(&mut conn.readable));
                    if again {
                        self.readable(slot);
                    }
                }
                _ => self.end(slot, Some(result), each),
            }
        }
        if let Some(owner) = self.rings.get_mut(ring) {
            owner.give_area(area, bytes);
        }
    }

    fn sent(
        &mut self,
        slot: u32,
        done: Done,
        (number, is_current): (u32, bool),
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) {
        let Some((ring, place)) = self.ring(slot) else { return };
        if is_current && done.result > 0 {
            let written = usize::try_from(done.result).unwrap_or(0);
            match ring.send_rest(place, number, written, done.user_data) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => self.failed.push((slot, error)),
            }
        }
        let Some((ring, _)) = self.ring(slot) else { return };
        let buffer = ring.take_send(number);
        self.buffers.keep(buffer);
        if !is_current {
            return;
        }
        if let Some(conn) = self.conn(slot) {
            conn.sending = false;
        }
        if done.result < 0 {
            self.end(slot, Some(done.result), each);
        } else {
            each(slot, Completion::Written);
        }
    }

    pub(super) fn end(
        &mut self,
        slot: u32,
        result: Option<i32>,
        each: &mut dyn FnMut(u32, Completion<'_>),
    ) {
        self.close(slot);
        let error = result.map(|result| io::Error::from_raw_os_error(-result));
        each(slot, Completion::Ended(error));
    }
}
