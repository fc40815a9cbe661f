//! What must be true of a server that is killed: judged from outside, by what clients saw.
//!
//! Pure: told what was written, answered and delivered, it says which promise was broken.
//! Invariants are those of `docs/architecture.md` (I1 acked is kept, I2 once, I3 order, I4
//! positions are never reused). Deliberately not here: sockets, killing, time.

use std::collections::HashMap;

use wire::MessageId;

/// Broken promises kept in words; the rest are only counted.
const VIOLATIONS_KEPT: usize = 50;

/// A message as the oracle knows it.
#[derive(Clone, Debug)]
struct Message {
    to: u64,
    /// From the first `Sent`.
    sent_at: Option<u64>,
    /// Where the recipient saw it last, and in which life of the server.
    delivered_at: Option<(u64, u32)>,
    /// Where the recipient's second device found it.
    audited_at: Option<u64>,
    /// The sender's second device got its copy.
    copied: bool,
}

/// One live connection of one device, for what must hold within it.
#[derive(Clone, Debug, Default)]
struct Line {
    last_position: u64,
    /// Sender and device to the last id delivered.
    last_ids: HashMap<(u64, u32), u64>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Different messages handed to sessions.
    pub messages: u64,
    /// `Sent` answers seen, repeated ones included.
    pub answers: u64,
    /// Of them, answers to a message that was answered before.
    pub answers_repeated: u64,
    /// `Deliver` frames seen by recipients, copies not included.
    pub deliveries: u64,
    /// Of them, of messages delivered before (on an earlier connection).
    pub deliveries_repeated: u64,
    /// Messages pushed before a crash that got another position by the sender's retry.
    pub moved_by_retry: u64,
    /// Copies that the sender's other device got.
    pub copies: u64,
    /// Of them, more than one of the same message.
    pub copies_repeated: u64,
    /// Messages found in the store by the audit.
    pub audited: u64,
    /// Broken promises.
    pub violations: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    messages: HashMap<MessageId, Message>,
    /// (user, position) to what stands there.
    positions: HashMap<(u64, u64), MessageId>,
    /// (user, device) to its live connection.
    lines: HashMap<(u64, u32), Line>,
    life: u32,
    counts: Counts,
    violations: Vec<String>,
}

/// The content of a message, computed from its name: whoever sees it can check it.
#[must_use]
pub fn content(id: MessageId, to: u64, bytes: usize) -> Vec<u8> {
    let head = format!("{} {} {} {} ", id.sender, id.device, id.client_id, to);
    let mut content = head.into_bytes();
    let seed = id.sender ^ id.client_id.rotate_left(32);
    let filler = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    while content.len() < bytes {
        content.extend_from_slice(&filler);
    }
    content.truncate(bytes.max(1));
    content
}

impl Oracle {
    /// The server lives again: a new epoch of positions begins.
    pub fn server_started(&mut self) {
        self.life += 1;
        self.lines.clear();
    }

    /// A device has a new connection.
    pub fn connected(&mut self, user: u64, device: u32) {
        self.lines.insert((user, device), Line::default());
    }

    /// A message was handed to a session.
    pub fn written(&mut self, id: MessageId, to: u64) {
        self.counts.messages += 1;
        let message =
            Message { to, sent_at: None, delivered_at: None, audited_at: None, copied: false };
        if self.messages.insert(id, message).is_some() {
            self.broken(format!("the test itself used {id:?} twice"));
        }
    }

    /// `Sent` came for a message.
    pub fn sent(&mut self, id: MessageId, position: u64) {
        self.counts.answers += 1;
        let life = self.life;
        let Some(message) = self.messages.get_mut(&id) else {
            return self.broken(format!("Sent for {id:?}, which nobody wrote"));
        };
        let to = message.to;
        let repeated = message.sent_at.is_some();
        let first = *message.sent_at.get_or_insert(position);
        let delivered = message.delivered_at;
        if first != position {
            self.broken(format!(
                "I2: {id:?} was answered with {first:#x} and later with {position:#x}"
            ));
        }
        self.counts.answers_repeated += u64::from(repeated);
        // A push from before a crash may stand elsewhere; one of this life may not.
        if let Some((at, in_life)) = delivered
            && at != position
        {
            if in_life == life || epoch(at) >= epoch(position) {
                self.broken(format!(
                    "I2: {id:?} was delivered at {at:#x} and answered with {position:#x}"
                ));
            } else {
                self.counts.moved_by_retry += 1;
            }
        }
        self.occupied(to, position, id);
    }

    /// The recipient's first device got a message.
    pub fn delivered(&mut self, user: u64, device: u32, position: u64, id: MessageId) {
        self.counts.deliveries += 1;
        let life = self.life;
        self.in_line(user, device, position, id);
        self.occupied(user, position, id);
        let Some(message) = self.messages.get_mut(&id) else {
            return self.broken(format!("{user} was delivered {id:?}, which nobody wrote"));
        };
        let to = message.to;
        let sent_at = message.sent_at;
        let before = message.delivered_at.replace((position, life));
        self.counts.deliveries_repeated += u64::from(before.is_some());
        if to != user {
            self.broken(format!("{id:?} went to {user} instead of {to}"));
        }
        if let Some(sent_at) = sent_at
            && sent_at != position
        {
            self.broken(format!(
                "I2: {id:?} was answered with {sent_at:#x} and then delivered at {position:#x}"
            ));
        }
        if let Some((at, in_life)) = before
            && at != position
            && (in_life == life || epoch(at) >= epoch(position))
        {
            self.broken(format!("I2: {id:?} stands at {at:#x} and at {position:#x}"));
        }
    }

    /// The content of a delivery is not what was written.
    pub fn corrupted(&mut self, user: u64, id: MessageId) {
        self.broken(format!("{user} got another content of {id:?} than was written"));
    }

    /// The recipient's second device, which reads everything that is stored, got a message.
    pub fn audited(&mut self, user: u64, device: u32, position: u64, id: MessageId) {
        self.counts.audited += 1;
        self.in_line(user, device, position, id);
        self.occupied(user, position, id);
        let Some(message) = self.messages.get_mut(&id) else {
            return self.broken(format!("the store of {user} has {id:?}, which nobody wrote"));
        };
        let to = message.to;
        let sent_at = message.sent_at;
        let before = message.audited_at.replace(position);
        if let Some(before) = before {
            self.broken(format!("I2: {id:?} is stored at {before:#x} and at {position:#x}"));
        }
        if to != user {
            self.broken(format!("{id:?} is stored for {user} instead of {to}"));
        }
        if let Some(sent_at) = sent_at
            && sent_at != position
        {
            self.broken(format!(
                "I2: {id:?} was answered with {sent_at:#x} and is stored at {position:#x}"
            ));
        }
    }

    /// The sender's second device got its copy of a message.
    pub fn copied(&mut self, user: u64, device: u32, position: u64, id: MessageId, at: u64) {
        self.counts.copies += 1;
        self.in_line_position(user, device, position);
        self.occupied(user, position, id);
        let Some(message) = self.messages.get_mut(&id) else {
            return self.broken(format!("{user} got a copy of {id:?}, which nobody wrote"));
        };
        let sent_at = message.sent_at;
        let again = std::mem::replace(&mut message.copied, true);
        self.counts.copies_repeated += u64::from(again);
        if id.sender != user {
            self.broken(format!("{user} got a copy of {id:?}"));
        }
        if let Some(sent_at) = sent_at
            && sent_at != at
        {
            self.broken(format!(
                "the copy of {id:?} says it stands at {at:#x}, its answer said {sent_at:#x}"
            ));
        }
    }

    /// How many messages with a `Sent` the recipients' first devices have not got.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        let lacks =
            |message: &&Message| message.sent_at.is_some() && message.delivered_at.is_none();
        self.messages.values().filter(lacks).count()
    }

    /// How many answered messages the second devices have not found; with `copies`, or whose
    /// copy they have not got.
    #[must_use]
    pub fn unaudited(&self, copies: bool) -> usize {
        let lacks = |message: &&Message| {
            message.sent_at.is_some() && (message.audited_at.is_none() || copies && !message.copied)
        };
        self.messages.values().filter(lacks).count()
    }

    /// Everything had its time: what is missing now is lost.
    pub fn judge(&mut self, copies: bool) {
        let mut broken = Vec::new();
        for (id, message) in &self.messages {
            let Some(position) = message.sent_at else { continue };
            if message.delivered_at.is_none() {
                broken.push(format!("I1: {id:?}, answered with {position:#x}, never arrived"));
            }
            if message.audited_at.is_none() {
                broken.push(format!("I1: {id:?}, answered with {position:#x}, is not stored"));
            }
            if copies && !message.copied {
                broken.push(format!("{id:?}, answered with {position:#x}, has no copy"));
            }
        }
        for words in broken {
            self.broken(words);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The first broken promises, in words.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// A promise was broken.
    pub fn broken(&mut self, words: String) {
        self.counts.violations += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(words);
        }
    }

    /// I4: a position stands for one message for ever.
    fn occupied(&mut self, user: u64, position: u64, id: MessageId) {
        let before = *self.positions.entry((user, position)).or_insert(id);
        if before != id {
            self.broken(format!(
                "I4: {position:#x} of {user} stood for {before:?} and stands for {id:?}"
            ));
        }
    }

    /// I3 within one connection: positions rise, and so do the ids of each sender.
    fn in_line(&mut self, user: u64, device: u32, position: u64, id: MessageId) {
        self.in_line_position(user, device, position);
        let line = self.lines.entry((user, device)).or_default();
        let last = line.last_ids.insert((id.sender, id.device), id.client_id).unwrap_or(0);
        if last >= id.client_id {
            self.broken(format!("I3: {user} got {id:?} after {last} of the same sender"));
        }
    }

    fn in_line_position(&mut self, user: u64, device: u32, position: u64) {
        let line = self.lines.entry((user, device)).or_default();
        let last = std::mem::replace(&mut line.last_position, position);
        if last >= position {
            self.broken(format!(
                "I3: {user}/{device} got {position:#x} after {last:#x} on one connection"
            ));
        }
    }
}

/// The upper half of a position: which life of the server gave it.
fn epoch(position: u64) -> u64 {
    position >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client_id: u64) -> MessageId {
        MessageId { sender: 1, device: 1, client_id }
    }

    fn at(epoch: u64, sequence: u64) -> u64 {
        epoch << 32 | sequence
    }

    fn started() -> Oracle {
        let mut oracle = Oracle::default();
        oracle.server_started();
        oracle.connected(2, 1);
        oracle.connected(2, 2);
        oracle.written(id(1), 2);
        oracle.written(id(2), 2);
        oracle
    }

    #[test]
    fn a_faultless_run_breaks_no_promise() {
        let mut oracle = started();
        oracle.delivered(2, 1, at(1, 1), id(1)); // pushed, then lost in the crash
        oracle.server_started();
        oracle.connected(2, 1);
        oracle.connected(2, 2);
        oracle.delivered(2, 1, at(2, 1), id(1));
        oracle.sent(id(1), at(2, 1));
        oracle.sent(id(1), at(2, 1));
        oracle.delivered(2, 1, at(2, 2), id(2));
        oracle.sent(id(2), at(2, 2));
        oracle.audited(2, 2, at(2, 1), id(1));
        oracle.audited(2, 2, at(2, 2), id(2));
        oracle.judge(false);
        assert_eq!(oracle.violations(), [] as [&str; 0]);
        assert_eq!(oracle.undelivered() + oracle.unaudited(false), 0);
    }

    #[test]
    fn a_lost_message_is_noticed() {
        let mut oracle = started();
        oracle.sent(id(1), at(1, 1));
        oracle.judge(false);
        assert_eq!(oracle.counts().violations, 2);
    }

    #[test]
    fn another_answer_to_a_retry_is_noticed() {
        let mut oracle = started();
        oracle.sent(id(1), at(1, 1));
        oracle.sent(id(1), at(1, 2));
        assert!(oracle.violations().iter().any(|words| words.starts_with("I2")));
    }

    #[test]
    fn two_stored_copies_are_noticed() {
        let mut oracle = started();
        oracle.audited(2, 2, at(1, 1), id(1));
        oracle.server_started();
        oracle.audited(2, 2, at(2, 1), id(1));
        assert!(oracle.violations().iter().any(|words| words.starts_with("I2")));
    }

    #[test]
    fn a_push_and_an_answer_apart_in_one_life_are_noticed() {
        let mut oracle = started();
        oracle.delivered(2, 1, at(1, 1), id(1));
        oracle.sent(id(1), at(1, 2));
        assert!(oracle.violations().iter().any(|words| words.starts_with("I2")));
    }

    #[test]
    fn a_reused_position_is_noticed() {
        let mut oracle = started();
        oracle.delivered(2, 1, at(1, 1), id(1));
        oracle.server_started();
        oracle.delivered(2, 1, at(1, 1), id(2));
        assert!(oracle.violations().iter().any(|words| words.starts_with("I4")));
    }

    #[test]
    fn a_swapped_pair_and_a_double_delivery_are_noticed() {
        let mut oracle = started();
        oracle.delivered(2, 1, at(1, 1), id(2));
        oracle.delivered(2, 1, at(1, 2), id(1));
        assert!(oracle.violations().iter().any(|words| words.starts_with("I3")));
        let mut oracle = started();
        oracle.delivered(2, 1, at(1, 1), id(1));
        oracle.delivered(2, 1, at(1, 1), id(1));
        assert!(oracle.violations().iter().any(|words| words.starts_with("I3")));
    }

    #[test]
    fn content_names_its_message() {
        assert_ne!(content(id(1), 2, 150), content(id(2), 2, 150));
        assert_eq!(content(id(1), 2, 150).len(), 150);
        assert_eq!(content(id(1), 2, 0).len(), 1);
    }
}
