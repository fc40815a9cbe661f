//! Nothing overtakes a refusal (I3): which refusals with "try again" a shard had not heard of yet.

use super::Stored;
use crate::state::request::Request;
use std::collections::VecDeque;
use wire::Refusal;

/// Refusals with "try again" of which one source shard had not heard when it sent what came last.
///
/// Both ends count them. An answer not yet taken out holds a credit, so there are at most as many
/// as that shard has credits (I6).
#[derive(Debug)]
pub struct Refusals {
    /// How many there ever were.
    told: u64,
    /// In the order of their numbers.
    unheard: VecDeque<Unheard>,
    unheard_max: usize,
}

#[derive(Debug)]
struct Unheard {
    number: u64,
    sender: u64,
    device: u32,
    client_id: u64,
}

impl Refusals {
    /// Remembers at most `credits` refusals.
    #[must_use]
    pub fn new(credits: usize) -> Self {
        Self { told: 0, unheard: VecDeque::new(), unheard_max: credits }
    }

    /// How many are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.unheard.len()
    }

    /// The shard had heard of the first `count` when it sent what has come now.
    pub(super) fn heard(&mut self, count: u64) {
        while self.unheard.front().is_some_and(|refused| refused.number <= count) {
            self.unheard.pop_front();
        }
    }

    /// Whether an earlier message of its device was refused, unheard.
    pub(super) fn holds(&self, request: &Request) -> bool {
        self.unheard.iter().any(|refused| {
            (refused.sender, refused.device) == (request.sender, request.device)
                && refused.client_id < request.client_id
        })
    }

    /// Refuses a request that may be tried again.
    ///
    /// # Errors
    /// Always: `reason`.
    pub fn refuse(&mut self, request: &Request, reason: Refusal) -> Result<Stored, Refusal> {
        self.heard(request.refusals_heard);
        self.note(request);
        Err(reason)
    }

    pub(super) fn note(&mut self, request: &Request) {
        debug_assert!(self.unheard.len() < self.unheard_max, "each of them holds a credit");
        if self.unheard.len() >= self.unheard_max {
            self.unheard.pop_front();
        }
        self.told += 1;
        let Request { sender, device, client_id, .. } = *request;
        self.unheard.push_back(Unheard { number: self.told, sender, device, client_id });
    }
}

#[cfg(test)]
mod tests {
    use super::Refusals;
    use crate::state::request::Requests;

    /// Whether a request of the one device is held, given what its shard had heard.
    fn is_held(refusals: &mut Refusals, client_id: u64, heard: u64) -> bool {
        let mut request = Requests::default().take();
        request.client_id = client_id;
        refusals.heard(heard);
        refusals.holds(&request)
    }

    fn refuse(refusals: &mut Refusals, client_id: u64) {
        let mut request = Requests::default().take();
        request.client_id = client_id;
        refusals.note(&request);
    }

    #[test]
    fn what_was_sent_before_a_refusal_was_heard_does_not_overtake_it() {
        let mut refusals = Refusals::new(8);
        refuse(&mut refusals, 5);
        assert!(is_held(&mut refusals, 6, 0), "sent right behind it");
        refuse(&mut refusals, 6);
        // The client tries 5 again at once; its shard has heard of 5 and not of 6 by then.
        assert!(!is_held(&mut refusals, 5, 1));
        assert!(is_held(&mut refusals, 7, 1), "6 is still refused");
        assert!(!is_held(&mut refusals, 6, 2));
        assert!(!is_held(&mut refusals, 7, 2));
        assert_eq!(refusals.count(), 0);
    }

    #[test]
    fn another_device_is_not_held() {
        let mut refusals = Refusals::new(8);
        refuse(&mut refusals, 5);
        let mut other = Requests::default().take();
        (other.device, other.client_id) = (9, 6);
        assert!(!refusals.holds(&other));
    }
}
