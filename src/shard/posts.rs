//! Messages from outside a session, at their sender's home: the way of a `Send` without a device.
//! What repeats one that is remembered gets its answer; anything else becomes a request like that
//! of a device, with a copy for all devices of its sender.

use super::Core;
use crate::log::{self, Reader};
use crate::path::session::CLIENT_ID_MAX;
use crate::path::{people, route};
use crate::state::order::{Done, Fault, POST_DEVICE, Post, Reply};
use crate::state::people::Marks;
use crate::state::posts::PostKey;
use crate::state::request::Request;
use crate::state::window::Outcome;
use crate::{limits, state::NONE};
use std::collections::HashMap;
use std::fmt;
use wire::{Confirmed, Refusal, Send, Stream};

/// The ways back of those that are under way.
#[derive(Default)]
pub(super) struct Callers(HashMap<PostKey, Reply>);

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Callers {
    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl<S, R: Reader> Core<S, R> {
    /// Takes a message from outside a session.
    pub(super) fn post(&mut self, post: &Post, reply: Reply) {
        match self.begin_post(post) {
            Ok(Some(done)) => reply(Ok(done)),
            Ok(None) => {
                self.callers.0.insert((post.sender, post.client_id), reply);
                self.store_own();
            }
            Err(fault) => reply(Err(fault)),
        }
    }

    /// Begins it: none, it is under way. What was done before is done.
    fn begin_post(&mut self, post: &Post) -> Result<Option<Done>, Fault> {
        let refused = |reason| Err(Fault::Refused(reason));
        let user = self.tables.users.find(post.sender).ok_or(Fault::Unknown)?;
        let (Stream::User(to) | Stream::Group(to)) = post.to;
        if self.tables.users.user(user).marks.any(Marks::SUSPENDED) {
            return refused(Refusal::Suspended);
        }
        if post.client_id == 0 || post.client_id > CLIENT_ID_MAX {
            return refused(Refusal::Invalid);
        }
        if post.payload.len() > self.rules.payload_bytes_max {
            return refused(Refusal::PayloadTooLarge);
        }
        let send = Send {
            client_id: post.client_id,
            confirmed: Confirmed::default(),
            to: post.to,
            payload: &post.payload,
            ttl_seconds: post.ttl_s,
            kind: post.kind,
            relation: post.relation,
            automatic: true,
        };
        let key = (post.sender, post.client_id);
        let request_crc = route::request_crc(&send);
        if let Some((known_crc, outcome)) = self.tables.posts.find(key) {
            self.tables.counters.repeats += 1;
            return match outcome {
                _ if known_crc != request_crc => refused(Refusal::IdReused),
                Outcome::Pending => Err(Fault::Overloaded),
                Outcome::Sent { position, time_ms } => Ok(Some(Done::Posted { position, time_ms })),
                Outcome::Refused(reason) => refused(reason),
            };
        }
        self.check_room(to)?;
        if self.rates.take_message(user, self.host_ms).is_err() {
            return refused(Refusal::RateLimited);
        }
        if post.to == Stream::User(to) {
            people::wrote(&mut self.tables, user, to);
        }
        self.tables.posts.settle(key, request_crc, Outcome::Pending);
        let mut request = self.tables.requests.take();
        request.device_at = NONE;
        (request.sender, request.device) = (post.sender, POST_DEVICE);
        route::fill(&mut request, to, request_crc, &send);
        let home = self.placement.home(to);
        self.carry(home, request);
        Ok(None)
    }

    /// Whether a message to `to` could go its way now.
    fn check_room(&mut self, to: u64) -> Result<(), Fault> {
        match self.stage.health() {
            log::Health::Failed => return Err(Fault::StoreFailed),
            log::Health::Full => return Err(Fault::Refused(Refusal::DiskFull)),
            log::Health::Good => {}
        }
        let home = self.placement.home(to);
        let has_credit = home == self.me || self.mailbox.has_credit(home);
        if !has_credit || self.callers.count() >= limits::POSTS_UNDER_WAY_MAX {
            return Err(Fault::Overloaded);
        }
        Ok(())
    }

    /// What became of one is known, and durable.
    pub(super) fn finish_post(&mut self, request: &Request) {
        let key = (request.sender, request.client_id);
        let answer = match (request.retry, request.outcome) {
            (Some(reason), _) => {
                self.tables.posts.forget(key);
                Err(Fault::Refused(reason))
            }
            (None, outcome) => {
                self.tables.posts.settle(key, request.request_crc, outcome);
                match outcome {
                    Outcome::Sent { position, time_ms } => Ok(Done::Posted { position, time_ms }),
                    Outcome::Refused(reason) => Err(Fault::Refused(reason)),
                    Outcome::Pending => Err(Fault::Overloaded),
                }
            }
        };
        if let Some(reply) = self.callers.0.remove(&key) {
            reply(answer);
        }
    }
}
