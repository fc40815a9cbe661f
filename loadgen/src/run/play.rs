//! The clients of one thread, and what becomes of each when its socket tells something.
//!
//! ```text
//!  Away ──▶ Connecting ──▶ Greeting ──▶ Ready
//!   ▲            │              │          │
//!   └────────────┴── lost ──────┴──────────┘   and back by the list of retries
//! ```
//!
//! Never touches a socket: what is to be done with one is put on a list. Owner: one thread.
//! Deliberately not here: who writes what to whom (`write`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use super::course::{Course, Role};
use super::groups::Seats;
use super::ledger::{Heard, Ledger, Listener};
use super::sockets::Completion;
use crate::protocol::Speaker;
use crate::protocol::hostile::Hostile;
use crate::random::Random;

/// First wait before another attempt to connect; doubled each time, up to the longest.
const RETRY_US: u64 = 100_000;
const RETRY_US_MAX: u64 = 5_000_000;
/// A client that breaks rules comes back after this.
const HOSTILE_RETRY_US: u64 = 200_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Away,
    Connecting,
    /// TCP stands, the login is not through.
    Greeting,
    Ready,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Made when it first connects.
    pub(crate) speaker: Option<Box<dyn Speaker>>,
    /// When it was meant to be there.
    pub(crate) due_us: u64,
    /// Connections so far.
    pub(crate) life: u32,
    attempts: u16,
    pub(crate) stage: Stage,
    /// A write is under way.
    pub(crate) sending: bool,
    /// On the list of those with something to write.
    dirty: bool,
    /// Refused for good.
    hopeless: bool,
}

impl Client {
    /// Whether it can be given a message.
    pub(super) fn may_send(&self, resends: bool) -> bool {
        self.stage == Stage::Ready || resends && self.life > 0 && !self.hopeless
    }
}

/// See the module.
pub(crate) struct Play {
    pub(crate) course: Arc<Course>,
    pub(super) part: u32,
    pub(crate) clients: Vec<Client>,
    pub(crate) ledger: Ledger,
    pub(crate) ready: u64,
    pub(crate) hopeless: u64,
    /// Clients with smaller numbers are to be connected.
    pub(crate) online: u32,
    /// So many of this thread are to be logged in.
    pub(crate) wanted: u64,
    /// Those with something to write.
    pub(crate) dirty: Vec<u32>,
    /// Connections to close, and why.
    pub(crate) doomed: Vec<(u32, String)>,
    /// Slow readers that logged in: to be read by hand.
    pub(crate) to_hold: Vec<u32>,
    /// When a client is to connect again.
    pub(crate) retries: BinaryHeap<Reverse<(u64, u32)>>,
    /// Until when a connection must be through: deadline, client, life.
    pub(crate) deadlines: VecDeque<(u64, u32, u32)>,
    /// What servers said last on connections that are about to end.
    goodbyes: HashMap<u32, (String, u32, bool)>,
    heard: Heard,
    pub(super) random: Random,
    /// Where the next sender is looked for.
    pub(super) cursor: u32,
    /// Who writes to groups.
    pub(super) seats: Seats,
    /// With groups: until when clients were away on purpose.
    away_until: HashMap<u32, u64>,
    pub(super) message: Vec<u8>,
}

impl Play {
    pub(crate) fn new(course: Arc<Course>, part: u32) -> Self {
        let numbers = course.scenario.clients.sessions;
        let count = super::pace::locals(numbers, part, course.threads);
        let mut clients = Vec::new();
        clients.resize_with(count as usize, || Client {
            speaker: None,
            due_us: 0,
            life: 0,
            attempts: 0,
            stage: Stage::Away,
            sending: false,
            dirty: false,
            hopeless: false,
        });
        let read_percent = course.scenario.clients.read_percent;
        let plan = course.plan;
        let ledger = Ledger::new(course.run, read_percent, course.promises()).with_groups(plan);
        let mut play = Self {
            part,
            clients,
            ledger,
            ready: 0,
            hopeless: 0,
            online: 0,
            wanted: 0,
            dirty: Vec::new(),
            doomed: Vec::new(),
            to_hold: Vec::new(),
            retries: BinaryHeap::new(),
            deadlines: VecDeque::new(),
            goodbyes: HashMap::new(),
            heard: Heard::default(),
            random: Random::new(course.run ^ u64::from(part)),
            cursor: 0,
            seats: Seats::new(plan.as_ref(), part, course.threads),
            away_until: HashMap::new(),
            message: Vec::new(),
            course,
        };
        play.set_online(play.course.online_first());
        play
    }

    /// From now on clients with smaller numbers are to be connected; returns the number before.
    pub(crate) fn set_online(&mut self, online: u32) -> u32 {
        let locals = 0..super::pace::locals(online, self.part, self.course.threads);
        self.wanted = locals.filter(|local| self.role(*local) != Role::Hostile).count() as u64;
        std::mem::replace(&mut self.online, online)
    }

    /// A client is to be there from then on, and was not before.
    pub(crate) fn is_due(&mut self, local: u32, intended_us: u64) {
        if let Some(client) = self.client(local) {
            client.due_us = intended_us;
        }
        if self.course.plan.is_some() {
            self.away_until.insert(local, intended_us);
        }
    }

    pub(crate) fn client(&mut self, local: u32) -> Option<&mut Client> {
        self.clients.get_mut(local as usize)
    }

    pub(crate) fn number(&self, local: u32) -> u32 {
        local * self.course.threads + self.part
    }

    pub(crate) fn role(&self, local: u32) -> Role {
        self.course.role(self.number(local))
    }

    /// Makes the speaker if there is none; whether a connection may be opened.
    pub(crate) fn prepare(&mut self, local: u32) -> bool {
        let number = self.number(local);
        let is_hostile = self.role(local) == Role::Hostile;
        let course = Arc::clone(&self.course);
        let seed = self.random.bits();
        let Some(client) = self.client(local) else { return false };
        if client.hopeless || client.stage != Stage::Away {
            return false;
        }
        if client.speaker.is_none() {
            let speaker = if is_hostile {
                Ok(Box::new(Hostile::new(seed)) as Box<dyn Speaker>)
            } else {
                let server = course.servers.get(course.server(number));
                let none = || Err("there is no server".to_owned());
                server.map_or_else(none, |server| server.protocol.speaker(number))
            };
            match speaker {
                Ok(speaker) => client.speaker = Some(speaker),
                Err(why) => {
                    client.hopeless = true;
                    self.hopeless += 1;
                    self.ledger.tally.failed += 1;
                    self.ledger.tally.reason(why, 1);
                    return false;
                }
            }
        }
        true
    }

    /// Takes in what a socket tells.
    pub(crate) fn complete(&mut self, local: u32, completion: Completion<'_>, now_us: u64) {
        match completion {
            Completion::Connected => {
                let Some(client) = self.client(local) else { return };
                client.stage = Stage::Greeting;
                if let Some(speaker) = &mut client.speaker {
                    speaker.connected(now_us / 1_000);
                }
                self.mark_dirty(local);
            }
            Completion::Written => {
                if let Some(client) = self.client(local) {
                    client.sending = false;
                }
                self.mark_dirty(local);
            }
            Completion::Data(bytes) => self.data(local, bytes, now_us),
            Completion::Ended(error) => {
                let why = error.map_or_else(
                    || "the server closed the connection".to_owned(),
                    |error| super::host::explain(&error),
                );
                self.lost(local, why, now_us);
            }
        }
    }

    pub(crate) fn mark_dirty(&mut self, local: u32) {
        if let Some(client) = self.client(local)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(local);
        }
    }

    /// Takes the list of those with something to write.
    pub(crate) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        for local in &dirty {
            if let Some(client) = self.client(*local) {
                client.dirty = false;
            }
        }
        dirty
    }

    fn data(&mut self, local: u32, bytes: &mut [u8], now_us: u64) {
        let number = self.number(local);
        let Some(client) = self.clients.get_mut(local as usize) else { return };
        let Some(speaker) = &mut client.speaker else { return };
        let since_us = self.away_until.get(&local).copied().unwrap_or(0);
        let listener = Listener { number, life: client.life, now_us, since_us };
        let (ledger, heard) = (&mut self.ledger, &mut self.heard);
        let result = speaker
            .receive(bytes, now_us / 1_000, &mut |event| ledger.hear(listener, event, heard));
        for mark in heard.reads.drain(..) {
            speaker.read(mark);
        }
        let became_ready = std::mem::take(&mut heard.ready) && client.stage == Stage::Greeting;
        if let Some(goodbye) = heard.goodbye.take() {
            self.goodbyes.insert(local, goodbye);
        }
        if became_ready {
            client.stage = Stage::Ready;
            client.attempts = 0;
            let took = now_us.saturating_sub(client.due_us);
            self.ready += 1;
            self.ledger.tally.logins += 1;
            self.ledger.tally.connect_us.saturating_record(took);
            if self.role(local) == Role::Slow {
                self.to_hold.push(local);
            }
        }
        self.mark_dirty(local);
        if let Err(why) = result {
            self.doomed.push((local, why));
        }
    }

    /// A connection is gone against our will.
    pub(crate) fn lost(&mut self, local: u32, why: String, now_us: u64) {
        let goodbye = self.goodbyes.remove(&local);
        if self.role(local) == Role::Hostile {
            self.leave(local);
            self.retries.push(Reverse((now_us + HOSTILE_RETRY_US, local)));
            return;
        }
        let was_ready = self.leave(local);
        let (why, wait_ms, is_hopeless) = goodbye.unwrap_or((why, 0, false));
        self.ledger.tally.failed += 1;
        self.ledger.tally.reason(why, 1);
        let Some(client) = self.client(local) else { return };
        if was_ready {
            client.due_us = now_us;
        }
        if is_hopeless {
            client.hopeless = true;
            self.hopeless += 1;
            return;
        }
        client.attempts = client.attempts.saturating_add(1);
        let wait_us = (RETRY_US << client.attempts.min(10)).min(RETRY_US_MAX);
        let wait_us = wait_us.max(u64::from(wait_ms) * 1_000);
        // Spread, or all that were cut at once come back at once for ever.
        let jitter_us = self.random.below(wait_us / 2);
        self.retries.push(Reverse((now_us + wait_us / 2 + jitter_us, local)));
    }

    /// Forgets a connection; whether it was logged in.
    pub(crate) fn leave(&mut self, local: u32) -> bool {
        let Some(client) = self.client(local) else { return false };
        let was_ready = client.stage == Stage::Ready;
        client.stage = Stage::Away;
        client.sending = false;
        if let Some(speaker) = &mut client.speaker {
            speaker.disconnected();
        }
        if was_ready {
            self.ready -= 1;
        }
        was_ready
    }

    /// Numbers of those that are to be connected and are not.
    pub(crate) fn missing(&self) -> Vec<u32> {
        let all = 0..u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        all.filter(|local| {
            let stage = self.clients.get(*local as usize).map(|client| client.stage);
            stage != Some(Stage::Ready) && self.role(*local) != Role::Hostile
        })
        .map(|local| self.number(local))
        .collect()
    }
}
