//! What a message between shards and a wake-up take with a thread at each end, where the caches
//! have their say.
//!
//! `cargo bench --bench queue` prints nanoseconds; a word chooses: `threads`, `doorbell`, `inlet`.
//! The work itself, both ends' on one core, is counted in instructions by `scripts/bench`.

#![allow(clippy::expect_used, reason = "a benchmark may fail by panicking")]

use myriad::ring::{Doorbell, Inlet, Kind, Mailbox, mesh};
use std::hint::black_box;
use std::time::Instant;

/// About what a request between shards weighs.
type Message = [u64; 8];

const CREDITS: usize = 4096;
const ROUNDS: usize = 2_000_000;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| word == name);
    for in_flight in [1, 64, 1024] {
        if wanted("threads") {
            two_threads(in_flight);
        }
    }
    if wanted("doorbell") {
        doorbell();
    }
    if wanted("inlet") {
        inlet();
    }
}

fn report(what: &str, rounds: usize, start: Instant) {
    #[allow(clippy::cast_precision_loss, reason = "for people to read")]
    let each = start.elapsed().as_nanos() as f64 / rounds as f64;
    println!("{what:<58} {each:>9.1} ns");
}

/// Questions and their answers, a thread at each end, both always awake.
fn two_threads(in_flight: usize) {
    let rounds = ROUNDS / 4;
    let mut boxes = mesh::<Message>(2, CREDITS, vec![Doorbell::silent(); 2]);
    let (Some(mut other), Some(mut me)) = (boxes.pop(), boxes.pop()) else { return };
    std::thread::scope(|scope| {
        scope.spawn(move || answer_until_told(&mut other));
        let start = Instant::now();
        let (mut asked, mut answered) = (0, 0);
        while answered < rounds {
            while asked < rounds && asked - answered < in_flight {
                me.ask(1, [asked as u64; 8]).expect("a credit");
                asked += 1;
            }
            me.ring_doorbells();
            while me.receive().is_some() {
                answered += 1;
            }
        }
        report(&format!("question and answer, two threads, {in_flight} in flight"), rounds, start);
        me.notify(1, [0; 8]).expect("a credit");
        me.ring_doorbells();
    });
}

/// Answers everything; a notice ends it.
fn answer_until_told(mailbox: &mut Mailbox<Message>) {
    loop {
        while let Some((from, kind, message)) = mailbox.receive() {
            if kind == Kind::Notice {
                return;
            }
            mailbox.answer(from, message);
        }
        mailbox.ring_doorbells();
        std::hint::spin_loop();
    }
}

/// Ringing a shard that is awake: what nearly every message pays.
fn doorbell() {
    let doorbell = Doorbell::silent();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(&doorbell).ring();
    }
    report("ringing a shard that is awake", ROUNDS, start);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(&doorbell).prepare_sleep();
        black_box(&doorbell).awake();
    }
    report("preparing to sleep and waking up", ROUNDS, start);
}

fn inlet() {
    let inlet = Inlet::new(16, Doorbell::silent());
    let start = Instant::now();
    for round in 0..ROUNDS {
        inlet.push(round).expect("room");
        black_box(inlet.pop());
    }
    report("through an inlet", ROUNDS, start);
}
