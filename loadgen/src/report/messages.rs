//! Counts of messages: what the oracle and the schedule say became of them.

use serde::{Deserialize, Serialize};

/// What became of the messages. Counted by the oracle, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Handed to the server.
    pub sent: u64,
    /// Taken by it for good (`Sent`, `PUBACK`; for protocols that know none, those that arrived).
    pub acked: u64,
    /// Arrived at who they were for, the first time each.
    pub delivered: u64,
    /// Marked as read, as far as the sender heard.
    pub read: u64,
    /// Acked and never arrived.
    pub lost: u64,
    /// Arrived again.
    pub duplicated: u64,
    /// Arrived after one that was sent later.
    pub reordered: u64,
    /// Arrived with other bytes.
    pub corrupted: u64,
    /// Refused by the server for good.
    #[serde(default)]
    pub refused: u64,
    /// Handed over, and neither answered nor delivered at the end.
    #[serde(default)]
    pub unanswered: u64,
    /// Arrived again after a reconnect, as a server may that does not know what the client holds.
    #[serde(default)]
    pub redelivered: u64,
    /// For recipients that were not connected at the end, or under way when the run was
    /// interrupted: not judged.
    #[serde(default)]
    pub waiting: u64,
    /// Could not be handed over: too many waited for the server already.
    #[serde(default)]
    pub unsent: u64,
    /// Arrived from an earlier run.
    #[serde(default)]
    pub foreign: u64,
}

impl Messages {
    /// Adds what another part of a run counted.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.read += other.read;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.redelivered += other.redelivered;
        self.waiting += other.waiting;
        self.unsent += other.unsent;
        self.foreign += other.foreign;
    }

    /// Everything a server must not do.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupted
    }
}
