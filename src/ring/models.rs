//! Doorbell, inlets and mailboxes in every order of their steps (`scripts/loom`).
//!
//! What a model holds: nobody sleeps over something that came (loom reports all threads asleep as
//! a deadlock), nothing is lost, doubled or out of order, and an answer finds its slot (the
//! assertion in `Mailbox::push`). Each model stands beside mutations of the code that it notices.

use super::{Doorbell, Inlet, Kind, Mailbox, mesh};
use crate::sync::model::{Effect, Mutation, current, explore, fails_with, park, spawn};
use std::sync::{Arc, OnceLock};

const DOORBELL: (&str, &str) = ("src/ring/doorbell.rs", include_str!("doorbell.rs"));
const MAILBOX: (&str, &str) = ("src/ring/mailbox.rs", include_str!("mailbox.rs"));

/// What an eventfd is to a shard: a mark that ends this sleep or the next one.
#[derive(Clone, Default)]
struct Ear(Arc<OnceLock<crate::sync::Thread>>);

impl Ear {
    /// A doorbell heard by the thread that says [`Ear::is_here`], before it sleeps.
    fn doorbell(&self) -> Doorbell {
        let ear = self.clone();
        Doorbell::new(Arc::new(move || {
            if let Some(thread) = ear.0.get() {
                thread.unpark();
            }
        }))
    }

    fn is_here(&self) {
        assert!(self.0.set(current()).is_ok(), "two threads with one ear");
    }
}

/// Two threads push, a shard falls asleep between any two steps of theirs.
fn pushes_into_an_inlet() {
    explore(Some(3), || {
        let ear = Ear::default();
        let doorbell = ear.doorbell();
        let inlet = Inlet::new(2, doorbell.clone());
        let senders: Vec<_> = (0..2)
            .map(|number| {
                let inlet = inlet.clone();
                spawn(move || assert_eq!(inlet.push(number), Ok(())))
            })
            .collect();
        ear.is_here();
        let mut heard = [false; 2];
        while heard != [true; 2] {
            if let Some(number) = inlet.pop() {
                assert!(!std::mem::replace(&mut heard[number], true), "{number} came twice");
                continue;
            }
            doorbell.prepare_sleep();
            if inlet.is_empty() {
                park();
            }
            doorbell.awake();
        }
        for sender in senders {
            sender.join();
        }
    });
}

/// A shard that sends so much and is done when it has heard so much.
struct Player {
    mailbox: Mailbox<u64>,
    ear: Ear,
    doorbell: Doorbell,
    to: usize,
    /// Still to be sent.
    questions: u64,
    notices: u64,
    /// To be heard in all: questions, notices, answers.
    hears: [u64; 3],
    heard: [u64; 3],
}

impl Player {
    fn play(mut self) {
        self.ear.is_here();
        let (questions, notices) = (self.questions, self.notices);
        loop {
            let more = self.turn(questions, notices);
            if self.heard == self.hears && self.questions + self.notices == 0 {
                return;
            }
            if more {
                continue;
            }
            self.doorbell.prepare_sleep();
            if self.mailbox.may_sleep() {
                park();
            }
            self.doorbell.awake();
        }
    }

    /// Hears all there is, sends one letter and says so. Whether another may follow at once: so a
    /// credit is wanted in a turn after the one that used it. Numbers each kind from 0.
    fn turn(&mut self, questions: u64, notices: u64) -> bool {
        while let Some((from, kind, number)) = self.mailbox.receive() {
            let heard = &mut self.heard[kind as usize];
            if self.mailbox.shards() == 2 {
                assert_eq!(number, *heard, "each kind comes in the order it was sent");
            }
            *heard += 1;
            if kind == Kind::Question {
                self.mailbox.answer(from, number);
            }
        }
        let mut sent = false;
        if self.questions > 0 {
            sent = self.mailbox.ask(self.to, questions - self.questions).is_ok();
            self.questions -= u64::from(sent);
        } else if self.notices > 0 {
            sent = self.mailbox.notify(self.to, notices - self.notices).is_ok();
            self.notices -= u64::from(sent);
        }
        let more = self.questions + self.notices > 0;
        if more && !sent {
            self.mailbox.wants_credit(self.to);
        }
        self.mailbox.ring_doorbells();
        more && sent
    }
}

/// What a shard sends, questions and notices, to which other one; what it hears follows.
fn exchange(preemptions: usize, credits: usize, plan: &'static [(u64, u64, usize)]) {
    explore(Some(preemptions), move || {
        let ears: Vec<Ear> = plan.iter().map(|_| Ear::default()).collect();
        let doorbells: Vec<_> = ears.iter().map(Ear::doorbell).collect();
        let mailboxes = mesh::<u64>(plan.len(), credits, doorbells.clone());
        let mut players = Vec::new();
        for (mailbox, (ear, doorbell)) in mailboxes.into_iter().zip(ears.into_iter().zip(doorbells))
        {
            let me = mailbox.me();
            let (questions, notices, to) = plan[me];
            let mut hears = [0, 0, questions];
            for (questions, notices, _) in plan.iter().filter(|(.., to)| *to == me) {
                hears[Kind::Question as usize] += questions;
                hears[Kind::Notice as usize] += notices;
            }
            let heard = [0; 3];
            players.push(Player { mailbox, ear, doorbell, to, questions, notices, hears, heard });
        }
        let first = players.remove(0);
        let others: Vec<_> =
            players.into_iter().map(|player| spawn(move || player.play())).collect();
        first.play();
        for other in others {
            other.join();
        }
    });
}

/// The second question waits for the credit that the first one's answer brings back.
fn two_questions_with_one_credit() {
    exchange(4, 1, &[(2, 0, 1), (0, 0, 0)]);
}

/// Each notice waits for the credit of the one before, which no letter brings back.
fn notices_with_one_credit() {
    exchange(3, 1, &[(0, 3, 1), (0, 0, 0)]);
}

/// Both spend their credits on each other; their answers need slots in the same queues.
fn questions_that_cross() {
    exchange(3, 1, &[(1, 1, 1), (1, 1, 0)]);
}

/// The second notice comes when the answer has its slot: there is not one to spare.
fn notices_beside_an_answer() {
    exchange(3, 1, &[(0, 2, 1), (1, 0, 0)]);
}

/// Two shards publish to one bitmap.
fn two_shards_to_a_third() {
    exchange(3, 1, &[(0, 0, 0), (0, 1, 0), (0, 1, 0)]);
}

#[test]
fn nobody_sleeps_over_an_inlet() {
    pushes_into_an_inlet();
}

#[test]
fn a_question_gets_its_answer_and_its_credit() {
    two_questions_with_one_credit();
}

#[test]
fn a_starving_shard_hears_of_its_credit() {
    notices_with_one_credit();
}

#[test]
fn an_answer_always_has_a_slot() {
    questions_that_cross();
    notices_beside_an_answer();
}

#[test]
fn no_bit_of_a_bitmap_is_lost() {
    two_shards_to_a_third();
}

/// A deadlock is what loom says when all threads sleep.
fn sleeps(mutation: Mutation, model: fn()) {
    let why = fails_with(mutation, model);
    assert!(why.contains("deadlock"), "{why}");
}

#[test]
fn noticed_a_doorbell_without_a_fence() {
    for place in ["pub fn ring(", "pub fn prepare_sleep("] {
        sleeps(Mutation::new(DOORBELL, place, "fence(", Effect::Skip), pushes_into_an_inlet);
        let mutation = Mutation::new(DOORBELL, place, "fence(", Effect::Skip);
        sleeps(mutation, two_questions_with_one_credit);
    }
}

#[test]
fn noticed_a_sleeper_that_does_not_say_so() {
    let mutation = Mutation::new(DOORBELL, "pub fn prepare_sleep(", ".store(", Effect::Skip);
    sleeps(mutation, two_questions_with_one_credit);
}

#[test]
fn noticed_a_letter_that_is_not_published() {
    for effect in [Effect::Skip, Effect::Relax] {
        let mutation = Mutation::new(MAILBOX, "pub fn ring_doorbells(", "fetch_or(", effect);
        sleeps(mutation, two_questions_with_one_credit);
        sleeps(mutation, two_shards_to_a_third);
    }
}

#[test]
fn noticed_a_bitmap_that_orders_nothing() {
    let mutation = Mutation::new(MAILBOX, "pub fn receive(", "swap(0", Effect::Relax);
    sleeps(mutation, two_questions_with_one_credit);
}

#[test]
fn noticed_a_credit_that_nobody_hears_of() {
    let unfenced = Mutation::new(MAILBOX, "pub fn ring_doorbells(", "fence(", Effect::Skip);
    sleeps(unfenced, notices_with_one_credit);
    let unsaid = Mutation::new(MAILBOX, "pub fn wants_credit(", ".store(", Effect::Skip);
    sleeps(unsaid, notices_with_one_credit);
}

#[test]
fn noticed_a_credit_without_a_slot() {
    for (place, operation) in [("fn settle(", ".store("), ("pub fn has_credit(", ".load(")] {
        let mutation = Mutation::new(MAILBOX, place, operation, Effect::Relax);
        let why = fails_with(mutation, notices_beside_an_answer);
        assert!(why.contains("the credits bound the queue"), "{why}");
    }
}
