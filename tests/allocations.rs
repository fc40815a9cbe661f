//! Counts what a message costs in allocations once everything is warm: nothing, on a shard.
//!
//! Two real shards with the readiness driver over loopback and the real log on a disk in memory,
//! all in one thread (`benches/hot-path/src/world/mod.rs`). Counted is what happens inside `turn`:
//! driver, rules, tables, queues between shards, staging. Phones, committer and disk are not.
//! `MYRIAD_BACKTRACES=n` prints where the first n came from.
//!
//! A program of its own, because its allocator counts.

#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(clippy::expect_used, reason = "a test may fail by panicking")]

#[path = "../benches/hot-path/src/world/mod.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;

use myriad::log::SharedMemory;
use myriad::state::order::{GroupEdit, Order};
use myriad::state::placement::Placement;
use wire::client::TickMark;
use world::{Person, Phone, SHARDS, Server};

/// Messages before the count begins: buffers and pools find their sizes.
const WARM_UP: u64 = 20_000;
/// Messages that are counted, each with all three ticks.
const COUNTED: u64 = 10_000;
/// Messages each user has without the third tick at the most.
const IN_FLIGHT: u64 = 16;
/// The same before the count begins: more, so that every pool is at its largest by then, and few
/// enough that no buffer, which doubles as it grows, outgrows what a pool keeps (16 KiB).
const IN_FLIGHT_WARM_UP: u64 = 20;
/// Rounds that may pass without any message getting its last tick.
const STUCK_ROUNDS: u64 = 10_000;

const GROUP: u64 = 700;

struct Counting;

thread_local! {
    /// Whether allocations are counted at the moment.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BACKTRACES: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    if COUNTS.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if BACKTRACES.get() > 0 {
            BACKTRACES.set(BACKTRACES.get() - 1);
            COUNTS.set(false); // the backtrace allocates itself
            eprintln!("{}", Backtrace::force_capture());
            COUNTS.set(true);
        }
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches cells of the
// thread that need neither allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_turn_of_a_warm_shard_allocates_nothing() {
    let backtraces = std::env::var("MYRIAD_BACKTRACES").ok().and_then(|count| count.parse().ok());
    let mut server = Server::start(&SharedMemory::new(), 16);
    let placement = Placement::new(SHARDS);
    let living_at = |home| (1..).find(|user| placement.home(*user) == home).expect("some user");
    let (anna, bert) = (living_at(0), living_at(1));
    // Anna has a second device: own copies. One connects at the other's home: it moves.
    let mut phones = Vec::new();
    for (shard, user, device, peer) in
        [(0, anna, 1, Some(bert)), (0, bert, 1, Some(anna)), (1, anna, 2, None)]
    {
        let person = Person { user, device, peer, done: TickMark::Read };
        phones.push(server.connect("tcp", shard, &person));
    }
    run_until(&mut server, &mut phones, WARM_UP, false, write);
    BACKTRACES.set(backtraces.unwrap_or(0));
    let turns = run_until(&mut server, &mut phones, WARM_UP + COUNTED, true, write);
    let allocations = ALLOCATIONS.get();
    println!("{allocations} allocations in {turns} turns of {COUNTED} fully ticked messages");
    assert_eq!(allocations, 0, "in {turns} turns; MYRIAD_BACKTRACES=3 shows where");
}

#[test]
fn a_turn_with_messages_of_a_warm_group_allocates_nothing() {
    const MEMBERS: u64 = 32;
    let backtraces = std::env::var("MYRIAD_BACKTRACES").ok().and_then(|count| count.parse().ok());
    let mut server = Server::start(&SharedMemory::new(), 64);
    let mut phones = Vec::new();
    for user in 1..=MEMBERS {
        let person = Person { user, device: 1, peer: None, done: TickMark::Has };
        phones.push(server.connect("tcp", Placement::new(SHARDS).home(user), &person));
    }
    let name = "friends".to_owned();
    server.order(std::iter::once(Order::GroupCreate { group: GROUP, owner: 1, name }));
    let add = |user| Order::GroupEdit { group: GROUP, by: 1, edit: GroupEdit::Add(user) };
    server.order((2..=MEMBERS).map(add));
    // Two members write.
    let mut said = [0; 2];
    let mut say = |phones: &mut [Phone], now_ms: u64, in_flight: u64| {
        for phone in &mut *phones {
            phone.run(now_ms, 0, 0);
        }
        for (phone, said) in phones.iter_mut().zip(&mut said) {
            while phone.is_live() && *said < phone.done + in_flight {
                phone.say(GROUP);
                *said += 1;
            }
        }
    };
    run_until(&mut server, &mut phones, WARM_UP, false, &mut say);
    BACKTRACES.set(backtraces.unwrap_or(0));
    let turns = run_until(&mut server, &mut phones, WARM_UP + COUNTED, true, &mut say);
    let allocations = ALLOCATIONS.get();
    println!("{allocations} allocations in {turns} turns of {COUNTED} messages to {MEMBERS}");
    assert_eq!(allocations, 0, "in {turns} turns; MYRIAD_BACKTRACES=3 shows where");
}

#[test]
fn what_allocates_is_counted() {
    COUNTS.set(true);
    drop(std::hint::black_box(Box::new(7)));
    COUNTS.set(false);
    assert_eq!(ALLOCATIONS.get(), 1);
}

/// Everybody writes to its peer while fewer than `in_flight` messages are under way.
fn write(phones: &mut [Phone], now_ms: u64, in_flight: u64) {
    for phone in phones {
        phone.run(now_ms, in_flight, u64::MAX);
    }
}

/// Goes on until so many messages have all their ticks; returns the turns. `drive` lets phones hear
/// what came and write.
fn run_until(
    server: &mut Server<SharedMemory>,
    phones: &mut [Phone],
    ticked: u64,
    counts: bool,
    mut drive: impl FnMut(&mut [Phone], u64, u64),
) -> u64 {
    let (mut turns, mut done, mut stuck) = (0, 0, 0);
    while done < ticked {
        drive(phones, server.now_ms, if counts { IN_FLIGHT } else { IN_FLIGHT_WARM_UP });
        for index in 0..SHARDS {
            COUNTS.set(counts);
            server.turn(index);
            COUNTS.set(false);
        }
        server.commit();
        server.now_ms += 1;
        turns += SHARDS as u64;
        let before = std::mem::replace(&mut done, phones.iter().map(|phone| phone.done).sum());
        stuck = if done > before { 0 } else { stuck + 1 };
        assert!(stuck < STUCK_ROUNDS, "{done} of {ticked} messages have all ticks");
    }
    turns
}
