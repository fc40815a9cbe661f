//! What one thread counted since it was last asked.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::report::latency::{histogram, quantiles};
use crate::report::{EXAMPLES_MAX, Example, Messages, SecondLatencies, Wrong};

/// Different words about failures that are kept; further ones are counted as the last.
const REASONS_MAX: usize = 20;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) messages: Messages,
    /// Messages to groups, and copies of them that arrived.
    pub(crate) posts: u64,
    pub(crate) copies: u64,
    pub(crate) logins: u64,
    pub(crate) failed: u64,
    pub(crate) connect_us: Histogram<u64>,
    pub(crate) sent_us: Histogram<u64>,
    pub(crate) delivered_us: Histogram<u64>,
    pub(crate) read_us: Histogram<u64>,
    /// How late sends began.
    pub(crate) behind_us: Histogram<u64>,
    pub(crate) examples: Vec<Example>,
    pub(crate) examples_left_out: u64,
    /// Why connections failed and messages were refused, and how often.
    pub(crate) reasons: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            messages: Messages::default(),
            posts: 0,
            copies: 0,
            logins: 0,
            failed: 0,
            connect_us: histogram(),
            sent_us: histogram(),
            delivered_us: histogram(),
            read_us: histogram(),
            behind_us: histogram(),
            examples: Vec::new(),
            examples_left_out: 0,
            reasons: BTreeMap::new(),
        }
    }

    /// Counts a message that went wrong and spells it out, if there is room.
    pub(crate) fn wrong(&mut self, example: Example) {
        match example.kind {
            Wrong::Lost => self.messages.lost += 1,
            Wrong::Duplicated => self.messages.duplicated += 1,
            Wrong::Reordered => self.messages.reordered += 1,
            Wrong::Corrupted => self.messages.corrupted += 1,
        }
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example);
        } else {
            self.examples_left_out += 1;
        }
    }

    /// Counts a reason.
    pub(crate) fn reason(&mut self, words: String, count: u64) {
        if let Some(known) = self.reasons.get_mut(&words) {
            *known += count;
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.insert(words, count);
        } else if let Some(mut last) = self.reasons.last_entry() {
            *last.get_mut() += count;
        }
    }

    /// Adds what another thread or another second counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.messages.add(&other.messages);
        self.posts += other.posts;
        self.copies += other.copies;
        self.logins += other.logins;
        self.failed += other.failed;
        for (sum, part) in [
            (&mut self.connect_us, &other.connect_us),
            (&mut self.sent_us, &other.sent_us),
            (&mut self.delivered_us, &other.delivered_us),
            (&mut self.read_us, &other.read_us),
            (&mut self.behind_us, &other.behind_us),
        ] {
            if !part.is_empty() {
                // Fails for other bounds only, and all have the same.
                let _ = sum.add(part);
            }
        }
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        let left_out = other.examples.len().saturating_sub(room) as u64;
        self.examples_left_out += other.examples_left_out + left_out;
        self.examples.extend(other.examples.into_iter().take(room));
        for (words, count) in other.reasons {
            self.reason(words, count);
        }
    }

    /// The four latencies in brief.
    pub(crate) fn brief(&self) -> SecondLatencies {
        SecondLatencies {
            connect: quantiles(&self.connect_us),
            sent: quantiles(&self.sent_us),
            delivered: quantiles(&self.delivered_us),
            read: quantiles(&self.read_us),
        }
    }
}
