//! The mailboxes against queues of the standard library, and under threads.

use super::{Kind, Mailbox, mesh};
use crate::ring::Doorbell;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn quiet<T: Send>(shards: usize, credits: usize) -> Vec<Mailbox<T>> {
    mesh(shards, credits, vec![Doorbell::silent(); shards])
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, usize),
    Notify(usize, usize),
    /// Answers the oldest question that the shard holds.
    Answer(usize),
    Receive(usize),
    Ring(usize),
}

const SHARDS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let shard = || 0..SHARDS;
    let step = prop_oneof![
        (shard(), shard()).prop_map(|(me, to)| Step::Ask(me, to)),
        (shard(), shard()).prop_map(|(me, to)| Step::Notify(me, to)),
        shard().prop_map(Step::Answer),
        shard().prop_map(Step::Receive),
        shard().prop_map(Step::Ring),
    ];
    prop::collection::vec(step, 0..400)
}

/// What the mailboxes should do, said with plain queues and counts.
#[derive(Default)]
struct Model {
    /// (from, to) -> messages.
    queues: [[VecDeque<(Kind, u32)>; SHARDS]; SHARDS],
    /// How many of a queue are published.
    published: [[usize; SHARDS]; SHARDS],
    under_way: [[usize; SHARDS]; SHARDS],
    held: [VecDeque<(usize, u32)>; SHARDS],
}

proptest! {
    #[test]
    fn behaves_like_plain_queues_with_credits(steps in steps(), credits in 1..4usize) {
        let mut boxes = quiet::<u32>(SHARDS, credits);
        let mut model = Model::default();
        let mut serial = 0;
        for step in steps {
            serial += 1;
            match step {
                Step::Ask(me, to) | Step::Notify(me, to) => {
                    let ask = matches!(step, Step::Ask(..));
                    let free = model.under_way[me][to] < credits;
                    prop_assert_eq!(boxes[me].has_credit(to), free);
                    let (kind, sent) = if ask {
                        (Kind::Question, boxes[me].ask(to, serial))
                    } else {
                        (Kind::Notice, boxes[me].notify(to, serial))
                    };
                    prop_assert_eq!(sent, if free { Ok(()) } else { Err(serial) });
                    if free {
                        model.under_way[me][to] += 1;
                        model.queues[me][to].push_back((kind, serial));
                    }
                }
                Step::Answer(me) => if let Some((to, question)) = model.held[me].pop_front() {
                    boxes[me].answer(to, question);
                    model.queues[me][to].push_back((Kind::Answer, question));
                },
                Step::Receive(me) => match boxes[me].receive() {
                    Some((from, kind, item)) => {
                        // The round may be anything fair; each sender's own order is fixed.
                        prop_assert_eq!(model.queues[from][me].pop_front(), Some((kind, item)));
                        model.published[from][me] = model.published[from][me].saturating_sub(1);
                        match kind {
                            Kind::Question => model.held[me].push_back((from, item)),
                            Kind::Notice => model.under_way[from][me] -= 1,
                            Kind::Answer => model.under_way[me][from] -= 1,
                        }
                    }
                    None => for from in 0..SHARDS {
                        prop_assert_eq!(model.published[from][me], 0, "published, not received");
                    },
                },
                Step::Ring(me) => {
                    boxes[me].ring_doorbells();
                    for to in 0..SHARDS {
                        model.published[me][to] = model.queues[me][to].len();
                    }
                }
            }
        }
    }
}

#[test]
fn senders_take_turns() {
    let mut boxes = quiet::<usize>(3, 8);
    for sender in [1, 2] {
        for _ in 0..4 {
            boxes[sender].notify(0, sender).unwrap();
        }
        boxes[sender].ring_doorbells();
    }
    let order: Vec<_> = std::iter::from_fn(|| boxes[0].receive()).map(|(from, ..)| from).collect();
    assert_eq!(order, [1, 2, 1, 2, 1, 2, 1, 2]);
}

#[test]
#[should_panic(expected = "answer without a question")]
fn an_answer_too_many_is_a_bug() {
    let mut boxes = quiet(2, 1);
    boxes[0].notify(1, ()).unwrap();
    boxes[0].ring_doorbells();
    assert!(boxes[1].receive().is_some());
    boxes[1].answer(0, ());
}

#[test]
fn two_shards_with_all_credits_spent_go_on() {
    let mut boxes = quiet::<u32>(2, 1);
    for mailbox in &mut boxes {
        let other = 1 - mailbox.me();
        assert_eq!(mailbox.ask(other, 1), Ok(()));
        assert_eq!(mailbox.ask(other, 2), Err(2));
        mailbox.ring_doorbells();
    }
    for mailbox in &mut boxes {
        let other = 1 - mailbox.me();
        assert_eq!(mailbox.receive(), Some((other, Kind::Question, 1)));
        mailbox.answer(other, 10);
        mailbox.ring_doorbells();
    }
    for mailbox in &mut boxes {
        let other = 1 - mailbox.me();
        assert_eq!(mailbox.receive(), Some((other, Kind::Answer, 10)));
        assert_eq!(mailbox.ask(other, 2), Ok(()));
    }
}

/// A doorbell that counts how often it really wakes.
fn counting() -> (Doorbell, Arc<AtomicU64>) {
    let rung = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&rung);
    let waker = move || {
        count.fetch_add(1, Ordering::Relaxed);
    };
    (Doorbell::new(Arc::new(waker)), rung)
}

#[test]
fn a_returned_credit_wakes_the_shard_that_starves() {
    let (doorbell, rung) = counting();
    let mut boxes = mesh::<u32>(2, 1, vec![doorbell.clone(), Doorbell::silent()]);
    let (left, right) = boxes.split_at_mut(1);
    let (me, other) = (&mut left[0], &mut right[0]);
    me.notify(1, 1).unwrap();
    me.wants_credit(1);
    me.ring_doorbells();
    doorbell.prepare_sleep();
    assert!(me.may_sleep());
    assert!(other.receive().is_some());
    assert_eq!(rung.load(Ordering::Relaxed), 0);
    other.ring_doorbells();
    assert_eq!(rung.load(Ordering::Relaxed), 1);
    // Back before the sleep: seen without a ring, and reported once.
    doorbell.prepare_sleep();
    assert!(!me.may_sleep());
    assert!(me.may_sleep());
    doorbell.awake();
    // Nobody starves: nobody is woken.
    me.notify(1, 2).unwrap();
    me.ring_doorbells();
    doorbell.prepare_sleep();
    assert!(other.receive().is_some());
    other.ring_doorbells();
    assert_eq!(rung.load(Ordering::Relaxed), 1);
}

#[test]
fn nothing_sleeps_over_unpublished_or_unread_messages() {
    let mut boxes = quiet::<u32>(2, 4);
    assert!(boxes[0].may_sleep());
    boxes[0].notify(1, 1).unwrap();
    assert!(!boxes[0].may_sleep());
    assert!(boxes[1].may_sleep());
    boxes[0].ring_doorbells();
    assert!(boxes[0].may_sleep());
    assert!(!boxes[1].may_sleep());
    assert!(boxes[1].receive().is_some());
    assert!(boxes[1].receive().is_none());
    boxes[1].ring_doorbells();
    assert!(boxes[1].may_sleep());
}

/// What a shard of the stress test does until it has had all its answers.
struct Player {
    mailbox: Mailbox<u64>,
    doorbell: Doorbell,
    thread: std::sync::mpsc::Receiver<()>,
    asked: u64,
    answered: u64,
    noticed: u64,
    heard: u64,
    rounds: u64,
}

impl Player {
    fn done(&self) -> bool {
        [self.asked, self.answered, self.noticed, self.heard].iter().all(|n| *n >= self.rounds)
    }

    fn turn(&mut self) {
        let other = 1 - self.mailbox.me();
        while let Some((from, kind, item)) = self.mailbox.receive() {
            match kind {
                Kind::Question => self.mailbox.answer(from, item + 1),
                Kind::Answer => {
                    self.answered += 1;
                    assert_eq!(item, self.answered, "answers come in the order of the questions");
                }
                Kind::Notice => {
                    assert_eq!(item, self.heard, "notices come in order");
                    self.heard += 1;
                }
            }
        }
        while self.asked < self.rounds && self.mailbox.ask(other, self.asked).is_ok() {
            self.asked += 1;
        }
        while self.noticed < self.rounds && self.mailbox.notify(other, self.noticed).is_ok() {
            self.noticed += 1;
        }
        if self.asked < self.rounds || self.noticed < self.rounds {
            self.mailbox.wants_credit(other);
        }
        self.mailbox.ring_doorbells();
    }

    /// Turns until the other side is also done: it needs this side's answers.
    fn play(&mut self, both_done: &AtomicU64) {
        let mut counted = false;
        loop {
            self.turn();
            if self.done() && !counted {
                counted = true;
                both_done.fetch_add(1, Ordering::SeqCst);
            }
            if both_done.load(Ordering::SeqCst) == 2 {
                return;
            }
            self.doorbell.prepare_sleep();
            if self.mailbox.may_sleep() && !self.done() {
                let woken = self.thread.recv_timeout(std::time::Duration::from_secs(20));
                assert!(woken.is_ok(), "shard {} slept through something", self.mailbox.me());
            } else if self.done() {
                std::thread::yield_now();
            }
            self.doorbell.awake();
        }
    }
}

fn stress(credits: usize, rounds: u64) {
    let mut doorbells = Vec::new();
    let mut ears = Vec::new();
    for _ in 0..2 {
        let (mouth, ear) = std::sync::mpsc::sync_channel(1);
        // A full channel already holds a wake-up.
        doorbells.push(Doorbell::new(Arc::new(move || {
            let _ = mouth.try_send(());
        })));
        ears.push(ear);
    }
    let boxes = mesh::<u64>(2, credits, doorbells.clone());
    let both_done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for ((mailbox, doorbell), thread) in boxes.into_iter().zip(doorbells).zip(ears) {
            let both_done = &both_done;
            let mut player = Player {
                mailbox,
                doorbell,
                thread,
                asked: 0,
                answered: 0,
                noticed: 0,
                heard: 0,
                rounds,
            };
            scope.spawn(move || player.play(both_done));
        }
    });
}

#[test]
fn threads_with_one_credit_neither_lose_nor_stall() {
    stress(1, if cfg!(miri) { 20 } else { 20_000 });
}

#[test]
fn threads_with_many_credits_neither_lose_nor_stall() {
    stress(64, if cfg!(miri) { 40 } else { 200_000 });
}
