//! What people's settings and ties cost: N users with ten ties each, taken in as at a start, then
//! asked and changed as the message path and the directory do.
//!
//! `people [USERS] [TIES_EACH] [SHARDS]`: by default 1,000,000 users with 10 ties on 2 shards.
//! Prints the time to take them in, resident memory per user and per tie, and what a look at a
//! block and a change of one cost in the middle of them.

use std::hint::black_box;
use std::time::Instant;

use myriad::path::people::{Known, blocks, load, relate};
use myriad::state::Tables;
use myriad::state::order::{Person, Ties};
use myriad::state::placement::Placement;

/// Looks and changes that are timed.
const LOOKS: u64 = 1_000_000;

fn main() -> Result<(), String> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let number = |index: usize, otherwise: u64| {
        arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (users, each, shards) = (number(0, 1_000_000), number(1, 10), number(2, 2));
    let shards = usize::try_from(shards).map_err(|error| error.to_string())?;
    let users_max = usize::try_from(users).map_err(|error| error.to_string())?;
    println!("{users} users with {each} ties each on {shards} shards");
    let placement = Placement::new(shards);
    let mut tables: Vec<Tables> = (0..shards).map(|_| Tables::new(64, users_max, 1024)).collect();

    let began = Instant::now();
    let (empty, started) = (resident_bytes()?, began.elapsed());
    for user in 1..=users {
        let person = Known::Person { user, person: Person::default() };
        load(&mut tables, person).map_err(|error| error.to_string())?;
    }
    let (known, persons) = (resident_bytes()?, began.elapsed());
    let mut ties = Vec::new();
    for user in 1..=users {
        ties.clear();
        // One in ten of them blocked, at random places of the list.
        ties.extend((0..each).map(|nth| {
            let blocked = nth % 10 == 9;
            (other(user, nth, users), Ties { contact: !blocked, blocked })
        }));
        load(&mut tables, Known::Ties { user, ties: &ties }).map_err(|error| error.to_string())?;
    }
    let (full, all) = (resident_bytes()?, began.elapsed());
    let count: usize = tables.iter().map(|tables| tables.people.ties_count()).sum();
    println!(
        "taken in: users {:.2} s, {count} ties {:.2} s",
        (persons - started).as_secs_f64(),
        (all - persons).as_secs_f64()
    );
    println!(
        "memory: {:.1} B per user, {:.1} B per tie",
        (known - empty) as f64 / users as f64,
        (full - known) as f64 / count as f64
    );

    let began = Instant::now();
    let mut found = 0_u64;
    for look in 0..LOOKS {
        let user = mix(look) % users + 1;
        let here = &tables[placement.home(user)];
        let Some(index) = here.users.find(user) else { return Err(format!("{user} is lost")) };
        found += u64::from(blocks(here, index, black_box(other(user, look % each, users))));
    }
    let look_ns = began.elapsed().as_nanos() as f64 / LOOKS as f64;
    let began = Instant::now();
    for look in 0..LOOKS {
        let user = mix(look) % users + 1;
        let blocked = Ties { contact: false, blocked: look % 2 == 0 };
        let here = &mut tables[placement.home(user)];
        relate(here, user, mix(look + LOOKS), blocked).map_err(|fault| format!("{fault:?}"))?;
    }
    let change_ns = began.elapsed().as_nanos() as f64 / LOOKS as f64;
    println!("a look at a block: {look_ns:.0} ns (of {LOOKS}, {found} blocked)");
    println!("a change: {change_ns:.0} ns");
    Ok(())
}

/// Somebody a user has to do with.
fn other(user: u64, nth: u64, users: u64) -> u64 {
    mix(user * 1_000 + nth) % users + 1
}

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

fn resident_bytes() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/statm").map_err(|error| error.to_string())?;
    let pages = status.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.map(|pages| pages * 4096).ok_or_else(|| "statm can't be read".to_owned())
}
