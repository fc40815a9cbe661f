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
use myriad::state::order::{GroupEdit, Order, Ties};
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
    let phones = log_in(&mut server, 1..=users, peer_of);
    (server, phones)
}

/// A phone each for these users, logged in.
fn log_in(
    server: &mut World,
    users: impl Iterator<Item = u64>,
    peer_of: impl Fn(u64) -> Option<u64>,
) -> Vec<Phone> {
    let mut phones = Vec::new();
    for user in users {
        let person = Person { user, device: 1, peer: peer_of(user), done: TickMark::Has };
        let shard = usize::try_from(user).expect("a small number") % SHARDS;
        phones.push(server.connect("ws", shard, &person));
        server.round();
        if phones.len() % 64 == 0 {
            run(server, &mut phones, 1, 0, 3);
        }
    }
    for _ in 0..STUCK_ROUNDS {
        if phones.iter().all(Phone::is_live) {
            return phones;
        }
        run(server, &mut phones, 1, 0, 1);
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
    gather(server, group, 1..=members);
}

/// Makes a group of these users; the first one owns it.
fn gather(server: &mut World, group: u64, mut members: impl Iterator<Item = u64>) {
    let name = "friends".to_owned();
    let owner = members.next().expect("an owner");
    server.order(std::iter::once(Order::GroupCreate { group, owner, name }));
    let add = |user| Order::GroupEdit { group, by: owner, edit: GroupEdit::Add(user) };
    server.order(members.map(add));
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

/// Processor time of a message to one user: all have so many in flight, each to a partner.
fn message_ns(server: &mut World, phones: &mut [Phone], burst: u64, written: &mut u64) -> u64 {
    let done = |phones: &[Phone]| phones.iter().map(|phone| phone.done).sum::<u64>();
    let before = done(phones);
    *written += 16;
    let (cpu, ..) = run(server, phones, burst, *written, 200);
    let messages = done(phones) - before;
    assert_eq!(messages, phones.len() as u64 * 16, "all have their ticks");
    cpu / messages
}

#[test]
fn slow_a_copy_costs_at_most_a_third_of_a_message_and_stores_nothing() {
    const MEMBERS: u64 = 1_024;
    const POSTS: u64 = 32;
    const ROUNDS: usize = 3;
    let partner = |user: u64| Some(if user % 2 == 1 { user + 1 } else { user - 1 });
    let (mut server, mut phones) = world(2_048, MEMBERS, partner);
    make_group(&mut server, GROUP, MEMBERS);
    make_group(&mut server, GROUP + 1, 8);
    catch_up(&mut server, &mut phones);
    let (mut written, mut stored) = (0, (0, 0));
    for burst in [1, 16] {
        // The first ones warm everything up.
        message_ns(&mut server, &mut phones, burst, &mut written);
        post(&mut server, &mut phones, GROUP, (16, burst));
        // In turns, so that whatever else the machine does is beside both.
        let mut shares: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let message_ns = message_ns(&mut server, &mut phones, burst, &mut written);
                let before = heard(&phones);
                let (cpu, records, bytes) = post(&mut server, &mut phones, GROUP, (POSTS, burst));
                let copies = heard(&phones) - before;
                assert_eq!(copies, (MEMBERS - 1) * POSTS, "everybody heard everything");
                if burst == 1 {
                    stored = (records, bytes);
                }
                let copy_ns = cpu / copies;
                (copy_ns * 1_000 / message_ns, copy_ns, message_ns)
            })
            .collect();
        shares.sort_unstable();
        let (share, copy_ns, message_ns) = shares[ROUNDS / 2];
        println!(
            "{burst} at once: a copy costs {share} thousandths of a message to one user \
             ({copy_ns} and {message_ns} ns; of {ROUNDS} rounds {} to {})",
            shares[0].0,
            shares[ROUNDS - 1].0
        );
        // A third is what is wanted and what a machine at rest shows (docs/budgets.md). The fifth
        // above it is for what other work takes of the caches: the copy waits for them more often.
        assert!(share <= 400, "{shares:?}");
    }
    let (_, records, bytes) = post(&mut server, &mut phones, GROUP + 1, (POSTS, 1));
    println!("{POSTS} messages: {stored:?} with 1,024 members, {:?} with 8", (records, bytes));
    assert_eq!(stored, (records, bytes), "what is stored does not grow with members");
    assert_eq!(records, POSTS, "one record each");
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

/// Processor time of a copy in a group of 1,024 online users, far apart among so many whom the
/// server knows, each with a contact.
fn copy_ns_among(known: u64) -> u64 {
    const MEMBERS: u64 = 1_024;
    const POSTS: u64 = 128;
    let places = usize::try_from(known).expect("a number of users");
    let mut server = Server::start(&SharedMemory::new(), places);
    let ties = Ties { contact: true, blocked: false };
    let contact = |user| Order::Relate { user, other: user % known + 1, ties };
    server.order((1..=known).map(contact));
    let ids = || (0..MEMBERS).map(|nth| nth * (known / MEMBERS) + 1);
    let mut phones = log_in(&mut server, ids(), |_| None);
    gather(&mut server, GROUP, ids());
    catch_up(&mut server, &mut phones);
    post(&mut server, &mut phones, GROUP, (16, 1));
    let before = heard(&phones);
    let (cpu, ..) = post(&mut server, &mut phones, GROUP, (POSTS, 1));
    let copies = heard(&phones) - before;
    assert_eq!(copies, (MEMBERS - 1) * POSTS, "everybody heard everything");
    cpu / copies
}

#[test]
fn slow_a_copy_costs_the_same_among_a_million_users() {
    let (few, many) = (copy_ns_among(10_240), copy_ns_among(1_000_000));
    println!("{few} ns a copy among 10,240 users, {many} ns among 1,000,000");
    // Half of it is for what other work on the machine takes of the caches.
    assert!(many * 2 <= few * 3, "{few} ns a copy among few users, {many} ns among many");
}
