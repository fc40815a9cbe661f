//! What completions mean for connections that have a slot, and how they end.
//!
//! Owner: the driver. The ready list and its rule (one read per connection and poll) are those of
//! the readiness driver; only the system calls are gathered.

use super::super::{Closed, Completion, How, Next};
use super::op::{Done, Op};
use super::slots::{
    ENDING, FULL, Home, PAUSED, Place, QUEUED, READABLE, READING, SENDING, UNWATCHED, Where,
};
use super::{LOBBY, Uring};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

impl Uring {
    /// Sets flags and puts the connection into the ready list if it is not in it.
    pub(super) fn queue(&mut self, place: Place, flags: u8) {
        let slot = self.slots.at(place);
        let queued = slot.flags & QUEUED != 0;
        slot.flags |= flags | QUEUED;
        if !queued {
            self.ready.push_back(place);
        }
    }

    /// Takes every completion there is.
    pub(super) fn reap(&mut self, sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next) {
        for ring in 0..self.rings.count() {
            while let Some(done) = self.rings.next(ring) {
                self.on_done(ring, done, sink);
            }
        }
    }

    /// The same, but what is there to be read, and was read, is kept for the next `poll`, in order.
    pub(super) fn reap_sent(&mut self, sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next) {
        for ring in 0..self.rings.count() {
            while let Some(done) = self.rings.next(ring) {
                if matches!(done.op, Op::Receive | Op::Watch) {
                    self.aside.push((ring, done));
                } else {
                    self.on_done(ring, done, sink);
                }
            }
        }
    }

    pub(super) fn on_done(
        &mut self,
        ring: usize,
        done: Done,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) {
        let place = Place {
            ring: u16::try_from(ring).unwrap_or(0),
            slot: u16::try_from(done.slot).unwrap_or(0),
        };
        match done.op {
            Op::Watch => self.on_watch(place, done),
            Op::Room => self.on_room(place),
            Op::Receive => self.on_receive(place, done, sink),
            Op::Send => self.on_send(place, done, sink),
            Op::Close | Op::Counted => self.settle_up(place),
            Op::File => self.on_file(done),
            Op::Ring | Op::Other => {}
        }
    }

    /// A file of the driver's own has something.
    fn on_file(&mut self, done: Done) {
        self.lobby_due |= done.slot == LOBBY;
        if !done.more {
            self.unwatched.push(done.slot); // the kernel is full of completions
        }
    }

    /// Has the driver's own files watched again.
    pub(super) fn watch_files(&mut self) {
        for which in std::mem::take(&mut self.unwatched) {
            let file = if which == LOBBY { self.lobby.as_raw_fd() } else { self.bell };
            self.rings.watch_file(file, which);
            self.lobby_due = true;
        }
    }

    /// One operation on a slot has had its last completion.
    fn settle_up(&mut self, place: Place) {
        let slot = self.slots.at(place);
        slot.pending -= 1;
        self.give_if_done(place);
    }

    /// A slot that is in the ready list is given back when it leaves it.
    fn give_if_done(&mut self, place: Place) {
        let slot = self.slots.at(place);
        if slot.pending == 0 && !slot.has_tenant() && slot.flags & QUEUED == 0 {
            self.slots.give(place);
        }
    }

    fn on_watch(&mut self, place: Place, done: Done) {
        let slot = self.slots.at(place);
        if !slot.has_tenant() {
            if !done.more {
                self.settle_up(place);
            }
            return;
        }
        if !done.more {
            slot.flags |= UNWATCHED; // the kernel is short of memory, or full of completions
        }
        let ends = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
        let ending = done.result >= 0 && done.result & i32::from(ends) != 0;
        self.queue(place, if ending { READABLE | ENDING } else { READABLE });
    }

    fn on_room(&mut self, place: Place) {
        let slot = self.slots.at(place);
        slot.flags &= !FULL;
        if slot.has_tenant()
            && let Some(number) = self.delayed.remove(&self.slots.at(place).index)
        {
            self.rings.send_rest(usize::from(place.ring), u32::from(place.slot), number);
            return; // the one pending operation is the send again
        }
        self.settle_up(place);
    }

    fn on_receive(
        &mut self,
        place: Place,
        done: Done,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) {
        let mut area = self.rings.take_area(done.number);
        let slot = self.slots.at(place);
        slot.flags &= !READING;
        if slot.has_tenant() {
            self.hand_out(place, done.result, &mut area, sink);
        }
        self.rings.give_area(done.number, area);
        self.settle_up(place);
    }

    /// Hands out what a read brought.
    fn hand_out(
        &mut self,
        place: Place,
        result: i32,
        area: &mut [u8],
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) {
        let slot = self.slots.at(place);
        let token = slot.token();
        let bytes = match usize::try_from(result) {
            Ok(0) => return self.fail(place, Closed::Peer, sink),
            Ok(bytes) => bytes.min(area.len()),
            Err(_) if result == -libc::EAGAIN => {
                slot.flags &= !READABLE;
                return;
            }
            Err(_) if result == -libc::EINTR => return self.queue(place, READABLE),
            Err(_) => return self.fail(place, closed_by(result), sink),
        };
        let drained = bytes < area.len() && slot.flags & ENDING == 0;
        if drained {
            slot.flags &= !READABLE;
        }
        match sink(Completion::Data(token, &mut area[..bytes])) {
            Next::Read if drained => {}
            Next::Read => self.queue(place, READABLE),
            Next::Pause => self.slots.at(place).flags |= PAUSED,
            Next::Close => self.end(place, How::Graceful),
        }
    }

    fn on_send(
        &mut self,
        place: Place,
        done: Done,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) {
        let written = usize::try_from(done.result).unwrap_or(0);
        let all = self.rings.sent(done.number, written);
        let slot = self.slots.at(place);
        if !slot.has_tenant() {
            drop(self.rings.take_send(done.number));
            return self.settle_up(place);
        }
        let again = done.result >= 0 || [-libc::EAGAIN, -libc::EINTR].contains(&done.result);
        if all || !again {
            let token = slot.token();
            slot.flags &= !SENDING;
            let buffer = self.rings.take_send(done.number);
            if again {
                sink(Completion::Sent(token, buffer));
            } else {
                slot.fault = Some(closed_by(done.result));
                self.queue(place, 0);
            }
            return self.settle_up(place);
        }
        // The pending operation is now the wait for room.
        slot.flags |= FULL;
        let index = slot.index;
        self.delayed.insert(index, done.number);
        self.counts.sends_delayed += 1;
        self.rings.watch_room(usize::from(place.ring), u32::from(place.slot));
    }

    /// Serves the front of the ready list: one read each, as many at once as there are areas.
    pub(super) fn serve(
        &mut self,
        events_max: usize,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) -> io::Result<()> {
        // Whoever queues again while being served waits for the next poll.
        let mut left = self.ready.len().min(events_max);
        while left > 0 {
            let before = left;
            while left > 0 && self.ask(sink) {
                left -= 1;
            }
            if left == before {
                break; // every area is taken by reads that are still under way
            }
            self.rings.submit()?;
            self.reap(sink);
        }
        Ok(())
    }

    /// Asks the kernel for what the first of the ready list has to say. False: not now, it stays.
    fn ask(&mut self, sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next) -> bool {
        let Some(place) = self.ready.pop_front() else { return true };
        let slot = self.slots.at(place);
        slot.flags &= !QUEUED;
        if !slot.has_tenant() {
            self.give_if_done(place);
        } else if let Some(why) = slot.fault {
            self.fail(place, why, sink);
        } else if slot.flags & (READABLE | PAUSED | READING) == READABLE {
            if !self.rings.receive(usize::from(place.ring), u32::from(place.slot)) {
                self.queue_first(place);
                return false;
            }
            let slot = self.slots.at(place);
            let unwatched = slot.flags & UNWATCHED != 0;
            slot.flags = slot.flags & !UNWATCHED | READING;
            slot.pending += 1;
            if unwatched {
                self.rings.watch(usize::from(place.ring), u32::from(place.slot));
            }
        }
        true
    }

    /// Back to the front: it was its turn.
    fn queue_first(&mut self, place: Place) {
        self.slots.at(place).flags |= QUEUED;
        self.ready.push_front(place);
    }

    /// Lets go of a connection and says why.
    fn fail(
        &mut self,
        place: Place,
        why: Closed,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) {
        let token = self.slots.at(place).token();
        self.end(place, How::Graceful);
        sink(Completion::Closed(token, why));
    }

    /// Ends a connection. Its slot is free when the last completion has come.
    pub(super) fn end(&mut self, place: Place, how: How) {
        let (ring, number) = (usize::from(place.ring), u32::from(place.slot));
        let slot = self.slots.at(place);
        let token = slot.token();
        let flags = slot.flags;
        slot.flags &= QUEUED;
        (slot.generation, slot.fault) = (0, None);
        slot.pending += 2; // the close, and a discard or setting the option
        self.homes[token.index as usize] = Home::NOWHERE;
        if flags & UNWATCHED == 0 {
            self.rings.cancel(ring, Op::Watch, number);
        } else {
            self.slots.at(place).pending -= 1;
        }
        if flags & FULL != 0 {
            if let Some(send) = self.delayed.remove(&token.index) {
                drop(self.rings.take_send(send));
            }
            self.rings.cancel(ring, Op::Room, number);
        }
        match how {
            How::Reset => self.rings.reset_on_close(ring, number),
            // Unread input would turn the end of the stream into a reset.
            How::Graceful => self.rings.discard(ring, number),
        }
        self.rings.close(ring, number);
        debug_assert!(self.homes[token.index as usize].look() == Where::Nowhere);
    }
}

/// What a negated error says about a connection.
fn closed_by(result: i32) -> Closed {
    Closed::from_error(&io::Error::from_raw_os_error(-result))
}
