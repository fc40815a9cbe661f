//! Who writes to whom: the next sender, and one of those it may write to.
//!
//! What can't be handed over is counted, never waited for. Deliberately not here: when a message is
//! due (`pace`), and what becomes of it (`ledger`).

use super::course::Role;
use super::groups;
use super::ledger::UNDER_WAY_MAX;
use super::payload;
use super::play::Play;
use super::scenario::Traffic;

/// Recipients that are tried before a message counts as not sent.
const CHOICES: u32 = 32;

impl Play {
    /// Some client writes to some other. What can't be handed over is counted.
    pub(crate) fn write(&mut self, traffic: Traffic, intended_us: u64, now_us: u64) {
        let is_full = self.ledger.under_way() >= UNDER_WAY_MAX / self.course.threads as usize;
        let Some((local, to)) = self.choose(traffic).filter(|_| !is_full) else {
            self.ledger.tally.messages.unsent += 1;
            return;
        };
        let from = self.number(local);
        let group = groups::group_of(to);
        let is_plain = |number| self.course.role(number) == Role::Plain;
        let timed =
            traffic != Traffic::ToOffline && is_plain(from) && (group.is_some() || is_plain(to));
        let (tag, head) = self.ledger.name(from, to, intended_us, timed);
        payload::write(&head, self.course.scenario.clients.payload_bytes, &mut self.message);
        let message = std::mem::take(&mut self.message);
        let speaker = self.client(local).and_then(|client| client.speaker.as_mut());
        let taken = speaker.is_some_and(|speaker| match group {
            Some(group) => speaker.send_to_group(group, tag, &message).is_ok(),
            None => speaker.send(to, tag, &message).is_ok(),
        });
        self.message = message;
        if taken {
            let all_there = self.online >= self.course.scenario.clients.sessions;
            self.ledger.handed_over(&head, now_us, all_there || group.is_none());
            self.mark_dirty(local);
        } else {
            self.ledger.not_sent(&head);
        }
    }

    /// The next sender and a recipient for it.
    fn choose(&mut self, traffic: Traffic) -> Option<(u32, u32)> {
        let online = super::pace::locals(self.online, self.part, self.course.threads);
        let resends = self.course.promises().resends;
        if self.ready == 0 && !resends {
            return None; // without asking each of them, message for message
        }
        if traffic == Traffic::Group {
            return self.choose_seat(resends);
        }
        for _ in 0..online {
            self.cursor = if self.cursor + 1 >= online { 0 } else { self.cursor + 1 };
            let local = self.cursor;
            if self.role(local) == Role::Hostile {
                continue;
            }
            let Some(client) = self.clients.get(local as usize) else { continue };
            if !client.may_send(resends) {
                continue;
            }
            let from = self.number(local);
            if let Some(to) = self.recipient(traffic, from) {
                return Some((local, to));
            }
        }
        None
    }

    /// The next writer of a group, and the address of that.
    fn choose_seat(&mut self, resends: bool) -> Option<(u32, u32)> {
        let (threads, online, clients) = (self.course.threads, self.online, &self.clients);
        let may_write = |number: u32| {
            let client = clients.get((number / threads) as usize);
            number < online && client.is_some_and(|client| client.may_send(resends))
        };
        let (number, group) = self.seats.turn(may_write)?;
        Some((number / threads, groups::address(group)))
    }

    fn recipient(&mut self, traffic: Traffic, from: u32) -> Option<u32> {
        if self.course.promises().echoes {
            return Some(from);
        }
        let sessions = self.course.scenario.clients.sessions;
        let few = self.course.scenario.clients.fan_in_recipients.min(sessions);
        for _ in 0..CHOICES {
            let mut below = |first: u32, end: u32| {
                let width = u64::from(end.saturating_sub(first));
                first + u32::try_from(self.random.below(width)).unwrap_or(0)
            };
            let to = match traffic {
                Traffic::Pairs if from ^ 1 < sessions => from ^ 1,
                Traffic::Pairs => 0,
                Traffic::FanIn => below(0, few),
                Traffic::Random | Traffic::Group => below(0, self.online),
                Traffic::ToOffline => below(self.online, sessions),
            };
            if to != from && self.course.role(to) != Role::Hostile {
                return Some(to);
            }
        }
        None
    }
}
