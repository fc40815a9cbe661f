//! Tells shards what changed, and answers who waits for it.
//!
//! Owner: the thread `directory-tell`. An order says all there is about its subject, so a late one
//! must never come after a newer one: of each user one order is under way at a time, and one that a
//! shard had no room for is sent again until it is obeyed. How many there are is bounded by the
//! commands that are under way.

use super::way::Way;
use super::write::{Change, Writer};
use super::{Answer, ToShards};
use crate::limits;
use crate::state::order::{self, Order};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// What the thread is told.
pub(super) enum Tell {
    /// Send these orders; when all are obeyed answer so.
    Orders(Vec<Order>, Option<(Answer, Way)>),
    /// A shard answered the order of this user that is under way.
    Answered(u64, Result<order::Done, order::Fault>),
    /// End. Whoever still waits is answered: what they asked is durable, and the next start tells
    /// it to the shards.
    Stop,
}

/// Somebody who waits for orders.
struct Waiting {
    orders: usize,
    answer: Option<(Answer, Way)>,
}

/// See the module.
pub(super) struct Teller {
    told: Receiver<Tell>,
    tell: Sender<Tell>,
    to_shards: ToShards,
    writer: Writer,
    /// Per user the orders to send, the first of them under way, each with who waits for it.
    queues: HashMap<u64, VecDeque<(Order, u64)>>,
    waiting: HashMap<u64, Waiting>,
    /// The number of the last one who waits.
    last: u64,
    /// Users whose first order is to be sent again, and when.
    again: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Teller {
    pub(super) fn new(
        (tell, told): (Sender<Tell>, Receiver<Tell>),
        to_shards: ToShards,
        writer: Writer,
    ) -> Self {
        let (queues, waiting, again) = (HashMap::new(), HashMap::new(), BinaryHeap::new());
        Self { told, tell, to_shards, writer, queues, waiting, last: 0, again }
    }

    /// The body of the thread.
    pub(super) fn run(mut self) {
        loop {
            let told = match self.again.peek() {
                None => self.told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(Reverse((when, _))) => {
                    self.told.recv_timeout(when.saturating_duration_since(Instant::now()))
                }
            };
            match told {
                Ok(Tell::Orders(orders, answer)) => self.take(orders, answer),
                Ok(Tell::Answered(user, answer)) => self.answered(user, &answer),
                Ok(Tell::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.send_again();
        }
        for (_, waiting) in self.waiting {
            if let Some((answer, way)) = waiting.answer {
                way.answer(Ok(answer));
            }
        }
    }

    fn take(&mut self, orders: Vec<Order>, answer: Option<(Answer, Way)>) {
        if orders.is_empty() {
            return answer.into_iter().for_each(|(answer, way)| way.answer(Ok(answer)));
        }
        self.last += 1;
        self.waiting.insert(self.last, Waiting { orders: orders.len(), answer });
        for order in orders {
            let user = order.home();
            let queue = self.queues.entry(user).or_default();
            queue.push_back((order, self.last));
            if queue.len() == 1 {
                self.send(user);
            }
        }
    }

    /// Sends the first order of a user.
    fn send(&self, user: u64) {
        let first = self.queues.get(&user).and_then(VecDeque::front);
        let Some((order, _)) = first else { return };
        let tell = self.tell.clone();
        let reply = Box::new(move |answer| {
            let _ended = tell.send(Tell::Answered(user, answer));
        });
        match self.to_shards.get() {
            Some(send) => send(order.clone(), reply),
            None => reply(Err(order::Fault::Overloaded)), // they are not there yet
        }
    }

    fn answered(&mut self, user: u64, answer: &Result<order::Done, order::Fault>) {
        let retry_ms = match answer {
            Err(order::Fault::Overloaded) => Some(limits::ORDER_RETRY_MS),
            Err(order::Fault::StoreFailed) => Some(limits::ORDER_RETRY_STORE_MS),
            // Another refusal would come again: a shard without room for the user, or one that
            // never heard of it and has nothing to end.
            Ok(_) | Err(_) => None,
        };
        if let Some(ms) = retry_ms {
            let when = Instant::now() + Duration::from_millis(ms);
            return self.again.push(Reverse((when, user)));
        }
        let Some(queue) = self.queues.get_mut(&user) else { return };
        let Some((order, waits)) = queue.pop_front() else { return };
        if queue.is_empty() {
            self.queues.remove(&user);
        } else {
            self.send(user);
        }
        if let Order::EndDevice { user, device, not_before_s } = order {
            self.writer.note(Change::Told { user, device, not_before_s });
        }
        let Some(waiting) = self.waiting.get_mut(&waits) else { return };
        waiting.orders -= 1;
        if waiting.orders == 0
            && let Some(Waiting { answer: Some((answer, way)), .. }) = self.waiting.remove(&waits)
        {
            way.answer(Ok(answer));
        }
    }

    fn send_again(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((when, user))) = self.again.peek().copied()
            && when <= now
        {
            self.again.pop();
            self.send(user);
        }
    }
}
