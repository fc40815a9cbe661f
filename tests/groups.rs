//! What a message of a group costs, as ratios within one run: processor time per copy, bytes
//! stored, the cost of a post to very many.
//!
//! Two real shards with the readiness driver over loopback and the log on a disk in memory, all in
//! one thread (`benches/hot-path/src/world/mod.rs`). Processor time is that of `turn` alone:
//! phones, committer and disk are not in it. Promises to people are in
//! `tests/end_to_end/groups.rs`.

#![allow(clippy::expect_used, reason = "a test may fail by panicking")]

#[path = "../benches/hot-path/src/world/mod.rs"]
mod world;

use myriad::limits;
use myriad::log::SharedMemory;
use myriad::state::order::{GroupEdit, Order};
use wire::client::TickMark;
use world::{Person, Phone, SHARDS, Server};

const GROUP: u64 = 700;
/// Rounds that may pass without what is waited for.
const STUCK_ROUNDS: u64 = 20_000;

type World = Server<SharedMemory>;

/// Processor time of this thread so far.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000_000 + nanos
}

/// A server with room for so many users and phones of the first, all logged in.
fn world(places: usize, users: u64, peer_of: impl Fn(u64) -> Option<u64>) -> (World, Vec<Phone>) {
    let mut server = Server::start(&SharedMemory::new(), places);
    let mut phones = Vec::new();
    for user in 1..=users {
        let person = Person { user, device: 1, peer: peer_of(user), done: TickMark::Has };
        let shard = usize::try_from(user).expect("a small number") % SHARDS;
        phones.push(server.connect("ws", shard, &person));
        server.round();
        if user % 64 == 0 {
            run(&mut server, &mut phones, 1, 0, 3);
        }
    }
    for _ in 0..STUCK_ROUNDS {
        if phones.iter().all(Phone::is_live) {
            return (server, phones);
        }
        run(&mut server, &mut phones, 1, 0, 1);
    }
    panic!("not everybody could log in");
}

/// So many rounds; processor time of the shards, records and bytes committed.
fn run(
    server: &mut World,
    phones: &mut [Phone],
    in_flight: u64,
    written_max: u64,
    rounds: u64,
) -> (u64, u64, u64) {
    let (mut cpu, mut records, mut bytes) = (0, 0, 0);
    for _ in 0..rounds {
        for phone in &mut *phones {
            phone.run(server.now_ms, in_flight, written_max);
        }
        for index in 0..SHARDS {
            let began = cpu_ns();
            server.turn(index);
            cpu += cpu_ns() - began;
        }
        let committed = server.commit();
        (records, bytes) = (records + committed.0, bytes + committed.1);
        server.now_ms += 1;
    }
    (cpu, records, bytes)
}

/// Makes a group of the first `members` users.
fn make_group(server: &mut World, group: u64, members: u64) {
    let name = "friends".to_owned();
    server.order(std::iter::once(Order::GroupCreate { group, owner: 1, name }));
    let add = |user| Order::GroupEdit { group, by: 1, edit: GroupEdit::Add(user) };
    server.order((2..=members).map(add));
}

/// Says things in a group, `burst` at once, and waits until all members have all of it; what
/// [`run`] says of all that.
fn post(
    server: &mut World,
    phones: &mut [Phone],
    group: u64,
    (posts, burst): (u64, u64),
) -> (u64, u64, u64) {
    let mut sum = (0, 0, 0);
    let mut go_on = |server: &mut World, phones: &mut [Phone], rounds| {
        let (cpu, records, bytes) = run(server, phones, 1, 0, rounds);
        sum = (sum.0 + cpu, sum.1 + records, sum.2 + bytes);
    };
    let done = phones[0].done + posts;
    for _ in 0..posts / burst {
        for _ in 0..burst {
            phones[0].say(group);
        }
        go_on(server, phones, 3);
    }
    let mut rounds = 0;
    while phones[0].done < done {
        go_on(server, phones, 1);
        rounds += 1;
        assert!(rounds < STUCK_ROUNDS, "messages of a group never got their tick");
    }
    sum
}

fn heard(phones: &[Phone]) -> u64 {
    phones.iter().map(|phone| phone.heard).sum()
}

#[test]
fn a_copy_costs_at_most_a_third_of_a_message_and_stores_nothing() {
    const MEMBERS: u64 = 1_024;
    const POSTS: u64 = 64;
    let partner = |user: u64| Some(if user % 2 == 1 { user + 1 } else { user - 1 });
    let (mut server, mut phones) = world(2_048, MEMBERS, partner);
    let mut message_ns = Vec::new();
    let mut written = 0;
    for burst in [1, 16] {
        // The first ones warm everything up.
        for counts in [false, true] {
            let before: u64 = phones.iter().map(|phone| phone.done).sum();
            written += 16;
            let (cpu, ..) = run(&mut server, &mut phones, burst, written, 200);
            let messages = phones.iter().map(|phone| phone.done).sum::<u64>() - before;
            assert_eq!(messages, MEMBERS * 16, "all have their ticks");
            if counts {
                message_ns.push(cpu / messages);
            }
        }
    }
    make_group(&mut server, GROUP, MEMBERS);
    make_group(&mut server, GROUP + 1, 8);
    run(&mut server, &mut phones, 1, 0, 1_500); // what was told of that is fetched and acked
    post(&mut server, &mut phones, GROUP, (16, 1));
    let (mut stored, mut ratios) = (Vec::new(), Vec::new());
    for (burst, message_ns) in [1, 16].into_iter().zip(message_ns) {
        let before = heard(&phones);
        let (cpu, records, bytes) = post(&mut server, &mut phones, GROUP, (POSTS, burst));
        let copies = heard(&phones) - before;
        assert_eq!(copies, (MEMBERS - 1) * POSTS, "everybody heard everything");
        let copy_ns = cpu / copies;
        println!("{burst} at once: {copy_ns} ns a copy, {message_ns} ns a message to one user");
        ratios.push((copy_ns, message_ns));
        stored.push((records, bytes));
    }
    let (_, records, bytes) = post(&mut server, &mut phones, GROUP + 1, (POSTS, 1));
    println!("{POSTS} messages: {:?} with 1,024 members, {:?} with 8", stored[0], (records, bytes));
    assert_eq!(stored[0], (records, bytes), "what is stored does not grow with members");
    assert_eq!(records, POSTS, "one record each");
    for (copy_ns, message_ns) in ratios {
        assert!(copy_ns * 3 <= message_ns, "{copy_ns} ns a copy, {message_ns} ns a message");
    }
}

/// Runs until everybody holds all that was said and done in groups.
fn catch_up(server: &mut World, phones: &mut [Phone]) -> u64 {
    let mut cpu = 0;
    for _ in 0..STUCK_ROUNDS {
        // A group that only tells does so once a second.
        cpu += run(server, phones, 1, 0, limits::GROUP_HEAD_MS + 100).0;
        if phones.iter().all(Phone::is_level) {
            return cpu;
        }
    }
    panic!("somebody never caught up");
}

#[test]
fn a_post_to_a_hundred_thousand_costs_no_more_than_one_to_a_thousand() {
    const POSTS: u64 = 400;
    const ONLINE: u64 = 16;
    let (mut server, mut phones) = world(100_000, ONLINE, |_| None);
    let mut costs = Vec::new();
    for (group, members) in [(1, 1_024), (2, 100_000)] {
        make_group(&mut server, group, members);
        catch_up(&mut server, &mut phones);
        let before = heard(&phones);
        let (mut cpu, mut stored) = (0, 0);
        for _ in 0..POSTS {
            phones[0].say(group);
            let (ns, records, _) = run(&mut server, &mut phones, 1, 0, 5);
            (cpu, stored) = (cpu + ns, stored + records);
        }
        cpu += catch_up(&mut server, &mut phones);
        assert!(stored >= POSTS, "some were refused: {stored} records of {POSTS} posts");
        assert!(heard(&phones) - before >= (ONLINE - 1) * POSTS, "who is online hears all");
        costs.push(cpu / POSTS);
    }
    println!("a post costs {} ns with 1,024 members, {} ns with 100,000", costs[0], costs[1]);
    // The quarter is for what other work on the machine takes of the caches.
    assert!(costs[1] * 4 <= costs[0] * 5, "{costs:?}");
}
