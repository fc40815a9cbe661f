//! Newcomers: who is in the lobby, under which name, and how one gets a slot of a ring.
//!
//! Owner: the driver. The lobby is a readiness driver with indices of its own, so that its table
//! stays as small as the number of newcomers; their completions get their real names here.

use super::super::{Closed, Completion, Driver, Next};
use super::slots::{Home, PAUSED, Place, Slot, Where};
use super::{Guest, NOBODY, Uring};
use crate::limits::URING_GROW_PAUSE_MS;
use crate::mem::Token;
use crate::remedy;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Guests tried again in one turn.
const LATE_SETTLES_MAX: usize = 64;

impl Uring {
    /// Takes somebody in; gives the index in the lobby.
    pub(super) fn new_guest(&mut self, owner: Token, socket: TcpStream) -> io::Result<u32> {
        let fresh = u32::try_from(self.guests.len()).unwrap_or(u32::MAX);
        let index = self.guests_free.last().copied().unwrap_or(fresh);
        self.guests_ever = self.guests_ever.checked_add(1).unwrap_or(1);
        let guest = Guest { owner, generation: self.guests_ever };
        self.lobby.attach(Token { index, generation: guest.generation }, socket)?;
        if index == fresh {
            self.guests.push(guest);
        } else {
            self.guests_free.pop();
            self.guests[index as usize] = guest;
        }
        Ok(index)
    }

    /// The name of a guest in the lobby.
    pub(super) fn guest(&self, index: u32) -> Token {
        Token { index, generation: self.guests[index as usize].generation }
    }

    /// Forgets a guest's name; the lobby has let go of it.
    pub(super) fn forget_guest(&mut self, index: u32) {
        let token = std::mem::replace(&mut self.guests[index as usize].owner, NOBODY);
        self.homes[token.index as usize] = Home::NOWHERE;
        self.guests_free.push(index);
    }

    /// A slot, of a new ring if need be.
    fn free_slot(&mut self) -> Option<Place> {
        if let Some(place) = self.slots.take() {
            return Some(place);
        }
        if self.grow_again.is_some_and(|again| Instant::now() < again) {
            return None;
        }
        if let Err(error) = self.rings.grow() {
            remedy::note_error(&error);
            let pause = Duration::from_millis(URING_GROW_PAUSE_MS);
            self.grow_again = Some(Instant::now() + pause);
            return None;
        }
        self.slots.grow();
        self.slots.take()
    }

    /// Serves the lobby and gives its completions the names the owner knows.
    pub(super) fn poll_lobby(
        &mut self,
        events_max: usize,
        sink: &mut impl FnMut(Completion<'_, TcpStream>) -> Next,
    ) -> io::Result<()> {
        let Self { lobby, guests, guests_free, homes, .. } = self;
        let mut gone = |index: u32, homes: &mut Vec<Home>, guests: &mut Vec<Guest>| {
            let token = std::mem::replace(&mut guests[index as usize].owner, NOBODY);
            homes[token.index as usize] = Home::NOWHERE;
            guests_free.push(index);
            token
        };
        lobby.poll(Some(Duration::ZERO), events_max, &mut |completion| match completion {
            Completion::Accepted { socket, source } => {
                sink(Completion::Accepted { socket, source })
            }
            Completion::Data(guest, bytes) => {
                let next = sink(Completion::Data(guests[guest.index as usize].owner, bytes));
                if next == Next::Close {
                    gone(guest.index, homes, guests);
                }
                next
            }
            Completion::Sent(guest, buffer) => {
                sink(Completion::Sent(guests[guest.index as usize].owner, buffer))
            }
            Completion::Closed(guest, why) => {
                let token = gone(guest.index, homes, guests);
                sink(Completion::Closed(token, why))
            }
        })?;
        self.lobby_due = self.lobby.is_due();
        Ok(())
    }

    /// Gives slots to guests that could not have one before: a few per turn.
    pub(super) fn settle_later(&mut self) {
        for _ in 0..self.settling.len().min(LATE_SETTLES_MAX) {
            let Some(token) = self.settling.pop_front() else { return };
            if matches!(self.find(token), Where::Lobby(_)) {
                self.settle_guest(token);
            }
        }
    }

    /// Gives a guest a slot; it stays where it is while there is none, and works there.
    pub(super) fn settle_guest(&mut self, token: Token) {
        let Where::Lobby(index) = self.find(token) else { return };
        let guest = self.guest(index);
        if self.lobby.is_sending(guest) {
            return self.settling.push_back(token);
        }
        let Some(place) = self.free_slot() else { return self.settling.push_back(token) };
        let paused = self.lobby.is_paused(guest);
        let Some(socket) = self.lobby.detach(guest) else { return self.slots.give(place) };
        self.forget_guest(index);
        if self.rings.place(usize::from(place.ring), u32::from(place.slot), &socket).is_err() {
            self.slots.give(place);
            if self.attach(token, socket).is_err() {
                self.lost.push((token, Closed::Failed(io::ErrorKind::OutOfMemory)));
            } else if paused {
                self.pause(token);
            }
            return;
        }
        *self.slots.at(place) = Slot {
            index: token.index,
            generation: token.generation,
            flags: if paused { PAUSED } else { 0 },
            pending: 1,
            fault: None,
        };
        self.homes[token.index as usize] = Home::settled(place);
        self.rings.watch(usize::from(place.ring), u32::from(place.slot));
    }
}
