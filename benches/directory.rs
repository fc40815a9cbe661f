//! What the directory costs when there are very many accounts.
//!
//!   cargo bench --bench directory -- [--accounts COUNT] [--ties COUNT]
//!
//! Builds two directories, one of 10,000 accounts and one of COUNT (1,000,000), each account with
//! as many contacts and blocks as asked for (10), and prints for both: how long their start takes,
//! what a contact costs in a shard's memory, and what a login, a look-up, a check of a block and a
//! page of contacts take. The last column is what the larger one costs in terms of the smaller:
//! flat is 1. A check of a block is measured of users that stay in the processor's caches and of
//! all users, one after the other, which waits for memory. Then it changes as much as it can and
//! prints what one order costs a shard's turn.

#![allow(
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unsafe_code,
    reason = "it reads a clock of the system, stops at the first surprise, and counts little"
)]

use myriad::auth::OwnKey;
use myriad::directory::{
    Answer, Command, Directory, Options, Page, Register, Registration, Rules, Secret, Threads,
};
use myriad::path::people;
use myriad::state::Tables;
use myriad::state::order::{Done, Fault, Order, Reply};
use myriad::state::placement::Placement;
use rusqlite::{Connection, params};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const SHARDS: usize = 2;
const FEW: u64 = 10_000;
const PASSWORD: &str = "correct horse battery";
const LOOKS: usize = 2_000;
const LOGINS: usize = 50;
/// Checks whose users stay in the processor's caches.
const HOT: usize = 200;
const PAGE: u32 = 100;
const STORM: usize = 20_000;

/// What one size costs.
struct Costs {
    start_ms: f64,
    tie_bytes: f64,
    login_us: f64,
    find_us: f64,
    block_ns: f64,
    cold_block_ns: f64,
    page_us: f64,
}

fn main() {
    let mut accounts = 1_000_000;
    let mut ties = 10;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("a number");
        match argument.as_str() {
            "--accounts" => accounts = number(),
            "--ties" => ties = number(),
            _ => {} // what cargo adds
        }
    }
    let few = measure(FEW.min(accounts), ties);
    let many = measure(accounts, ties);
    println!("{:<44}{:>14}{:>14}{:>8}", "", FEW.min(accounts), accounts, "ratio");
    let row = |what: &str, read: fn(&Costs) -> f64| {
        let (few, many) = (read(&few), read(&many));
        println!("{what:<44}{few:>14.1}{many:>14.1}{:>8.2}", many / few);
    };
    row("filling the shards' tables, ms", |costs| costs.start_ms);
    row("memory of a contact in a shard, bytes", |costs| costs.tie_bytes);
    row("login with a password, median, us", |costs| costs.login_us);
    row("look-up by name, median, us", |costs| costs.find_us);
    row("check of a block, of few users, ns", |costs| costs.block_ns);
    row("check of a block, of all users, ns", |costs| costs.cold_block_ns);
    row("page of 100 contacts, median, us", |costs| costs.page_us);
}

fn measure(accounts: u64, ties: u64) -> Costs {
    let folder = tempfile::tempdir().expect("a folder");
    let hash = register_one(folder.path());
    let began = Instant::now();
    build(folder.path(), (accounts, ties), &hash);
    eprintln!("{accounts} accounts built in {:.1} s", began.elapsed().as_secs_f64());
    let threads = open(folder.path());
    let users = usize::try_from(accounts).expect("a number of users") + 10;
    let mut tables: Vec<Tables> =
        (0..SHARDS).map(|_| Tables::new(16, users * 3 / 4 + 1_000, 1_024)).collect();
    let before = HELD_BYTES.load(Ordering::Relaxed);
    let began = Instant::now();
    let filled = threads.fill(&mut tables, 1_800_000_000).expect("room");
    let start_ms = began.elapsed().as_secs_f64() * 1e3;
    assert_eq!(filled.ties, accounts * ties);
    let grown = HELD_BYTES.load(Ordering::Relaxed) - before;
    let block_ns = check_blocks(&tables, (accounts, ties), HOT);
    let cold_block_ns = check_blocks(&tables, (accounts, ties), 10 * LOOKS);
    let directory = threads.directory();
    let (orders, taken) = channel();
    threads.hang(Box::new(move |order, reply| {
        if let Err(lost) = orders.send((order, reply)) {
            (lost.0.1)(Err(Fault::Overloaded));
        }
    }));
    let home = thread::spawn(move || obey(tables, &taken));
    let costs = Costs {
        start_ms,
        tie_bytes: grown as f64 / filled.ties as f64,
        login_us: median(LOGINS, |round| log_in(&directory, nth(round, accounts))),
        find_us: median(LOOKS, |round| find(&directory, nth(round, accounts))),
        block_ns,
        cold_block_ns,
        page_us: median(LOOKS, |round| contacts(&directory, nth(round, accounts))),
    };
    storm(&directory, accounts);
    threads.stop();
    let mut turns = home.join().expect("a home");
    turns.sort_unstable();
    let at = |share: f64| turns[((turns.len() - 1) as f64 * share) as usize].as_nanos();
    println!(
        "{accounts} accounts, {} orders in a storm of changes: one order of a shard's turn takes \
         {} ns (median), {} ns (99 of 100), {} ns (most)",
        turns.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    costs
}

/// Ids as the directory gives them: spread out.
fn id(index: u64) -> u64 {
    (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1 << 53) - 1) | 1
}

/// Accounts far apart.
fn nth(round: usize, accounts: u64) -> u64 {
    (round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % accounts
}

fn open(folder: &Path) -> Threads {
    let rules = Rules {
        registration: Registration::Open,
        users_max: 10_000_000,
        access_s: 3_600,
        foreign: false,
        webhook: false,
        own: OwnKey::from_secret(&[7; 32]),
    };
    let options = Options {
        folder: folder.to_owned(),
        rules,
        password_threads: 2,
        clock: Arc::new(|| 1_800_000_000),
    };
    Threads::start(options).expect("a directory")
}

fn ask(directory: &Directory, command: Command) -> Answer {
    let (told, answer) = channel();
    directory.ask(command, move |answer| told.send(answer).expect("somebody waits"));
    answer.recv().expect("an answer").expect("no refusal")
}

/// Lets the directory make its tables, and one real hash.
fn register_one(folder: &Path) -> String {
    let threads = open(folder);
    threads.hang(Box::new(|_, reply| reply(Ok(Done::Obeyed))));
    let register = Register {
        name: Some("first".to_owned()),
        phone: None,
        password: Secret::from(PASSWORD),
        invite: None,
        label: String::new(),
    };
    ask(&threads.directory(), Command::Register(register));
    threads.stop();
    let db = Connection::open(folder.join("directory.sqlite")).expect("the file");
    let hash = db.query_row("SELECT password FROM users", [], |row| row.get(0)).expect("a hash");
    db.execute_batch("DELETE FROM users").expect("an empty table");
    hash
}

/// Fills the tables past the triggers that count, which would take most of the time.
fn build(folder: &Path, (accounts, ties): (u64, u64), hash: &str) {
    let mut db = Connection::open(folder.join("directory.sqlite")).expect("the file");
    db.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000").expect("settings");
    let triggers: Vec<(String, String)> = db
        .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        .and_then(|mut all| all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("the triggers");
    for (name, _) in &triggers {
        db.execute_batch(&format!("DROP TRIGGER {name}")).expect("no trigger");
    }
    let mut users: Vec<(u64, u64)> = (0..accounts).map(|index| (id(index), index)).collect();
    users.sort_unstable();
    let all = db.transaction().expect("a transaction");
    {
        let text = "INSERT INTO users (user, created_s, name, password, ties) VALUES (?,?,?,?,?)";
        let mut user = all.prepare(text).expect("a statement");
        let text = "INSERT INTO ties (owner, other, contact, blocked) VALUES (?, ?, ?, ?)";
        let mut tie = all.prepare(text).expect("a statement");
        for &(me, index) in &users {
            let name = format!("user{index}");
            user.execute(params![me.cast_signed(), 1, name, hash, ties.cast_signed()])
                .expect("a user");
        }
        for &(me, index) in &users {
            let mut others: Vec<u64> =
                (1..=ties).map(|step| id((index + step * step) % accounts)).collect();
            others.sort_unstable();
            for (at, other) in others.into_iter().enumerate() {
                let blocked = at == 0;
                tie.execute(params![me.cast_signed(), other.cast_signed(), !blocked, blocked])
                    .expect("a tie");
            }
        }
    }
    all.commit().expect("a commit");
    for (_, sql) in &triggers {
        db.execute_batch(sql).expect("a trigger");
    }
    let counts = "UPDATE counts SET value = ? WHERE what = ?";
    db.execute(counts, params![accounts.cast_signed(), "users"]).expect("a count");
    db.execute(counts, params![(accounts * ties).cast_signed(), "ties"]).expect("a count");
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint");
}

/// Counts what is allocated and not freed; SQLite's own memory is not in it.
struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}

fn median(rounds: usize, mut act: impl FnMut(usize)) -> f64 {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|round| {
            let began = Instant::now();
            act(round);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2].as_secs_f64() * 1e6
}

fn log_in(directory: &Directory, index: u64) {
    let handle = format!("user{index}");
    let (password, label) = (Secret::from(PASSWORD), String::new());
    ask(directory, Command::LogIn { handle, password, device: None, label });
}

fn find(directory: &Directory, index: u64) {
    ask(directory, Command::Find { by: 1, handle: format!("user{index}") });
}

fn contacts(directory: &Directory, index: u64) {
    ask(directory, Command::Contacts(Page { user: id(index), after: None, limit: PAGE }));
}

/// Nanoseconds of one check, half of them of somebody who is blocked.
fn check_blocks(tables: &[Tables], (accounts, ties): (u64, u64), count: usize) -> f64 {
    let placement = Placement::new(SHARDS);
    let pairs: Vec<(usize, u32, u64)> = (0..count)
        .map(|round| {
            let index = nth(round, accounts);
            let home = placement.home(id(index));
            let user = tables[home].users.find(id(index)).expect("a user");
            (home, user, id((index + 1 + round as u64 % (2 * ties)) % accounts))
        })
        .collect();
    let check = |(home, user, other): &(usize, u32, u64)| {
        std::hint::black_box(people::blocks(&tables[*home], *user, *other));
    };
    let times = |_| {
        let began = Instant::now();
        pairs.iter().for_each(check);
        began.elapsed().as_secs_f64() * 1e9 / pairs.len() as f64
    };
    let mut times: Vec<f64> = (0..9).map(times).collect();
    times.sort_unstable_by(f64::total_cmp);
    times[4]
}

/// The homes: obeys what comes and keeps what each order took.
fn obey(mut tables: Vec<Tables>, taken: &Receiver<(Order, Reply)>) -> Vec<Duration> {
    let placement = Placement::new(SHARDS);
    let mut times = Vec::new();
    while let Ok((order, reply)) = taken.recv() {
        let tables = &mut tables[placement.home(order.home())];
        let began = worked();
        let done = match order {
            Order::Person { user, person } => people::set_person(tables, user, person),
            Order::Relate { user, other, ties } => people::relate(tables, user, other, ties),
            _ => Ok(()),
        };
        times.push(worked() - began);
        reply(done.map(|()| Done::Obeyed));
    }
    times
}

/// How long the calling thread has worked: not what it waited for others that wanted its core.
fn worked() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is one of the system's, and `time` lives for the call.
    let told = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(told, 0, "the system has a clock per thread");
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// As many changes as go.
fn storm(directory: &Directory, accounts: u64) {
    let (told, answers): (Sender<bool>, Receiver<bool>) = channel();
    let began = Instant::now();
    let mut done = 0;
    let mut sent = 0;
    while done < STORM {
        while sent < STORM && sent - done < 1_000 {
            let (me, other) = (nth(sent, accounts), nth(sent + 7, accounts));
            let (user, other, told) = (id(me), id(other), told.clone());
            let command = if user == other {
                Command::Unblock { user, other: 1 }
            } else {
                Command::Block { user, other }
            };
            directory.ask(command, move |answer| told.send(answer.is_ok()).expect("a count"));
            sent += 1;
        }
        assert!(answers.recv().expect("an answer"), "no refusal");
        done += 1;
    }
    let rate = STORM as f64 / began.elapsed().as_secs_f64();
    println!("{accounts} accounts: {rate:.0} durable changes a second, 1,000 at a time");
}
