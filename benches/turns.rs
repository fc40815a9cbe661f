//! The most that one turn has to do at once about large groups and busy people, piece by piece.
//!
//! `turns [MEMBERS]`: by default 100,000, as many members of a group, connected devices in it,
//! conversations of one user. Prints the longest piece of each kind in microseconds of processor
//! time. A turn does one piece of each at the most; of orders, as many as one turn obeys.

use myriad::limits;
use myriad::mem::Token;
use myriad::path::group::change::{Change, apply, farewell};
use myriad::path::group::{marks, members, seats, take_apart};
use myriad::path::people::{relate, set_person};
use myriad::path::receipt;
use myriad::state::Tables;
use myriad::state::groups::{Stand, Tiding};
use myriad::state::order::{Person, Role, Ties};
use myriad::state::placement::Placement;
use wire::Change as What;

const GROUP: u64 = 77;

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1).filter(|text| text != "--bench");
    let count: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    println!("a group of {count} members, all connected; a user with {count} conversations");
    let places = usize::try_from(count).map_err(|error| error.to_string())? * 2;
    let mut tables = Tables::new(64, places, places);
    group(&mut tables, count)?;
    people(&mut tables, count)
}

/// Does something until it says that it is done; the longest piece, which one that was, and how
/// many there were.
fn pieces(what: &str, mut piece: impl FnMut() -> bool) {
    let (mut longest, mut count) = ((0, 0), 0);
    loop {
        let began = cpu_ns();
        let goes_on = piece();
        count += 1;
        longest = longest.max((cpu_ns() - began, count));
        if !goes_on {
            let (ns, nth) = longest;
            break println!("{what}: {} us the longest, the {nth}. of {count}", ns / 1_000);
        }
    }
}

/// Processor time of this thread: what others on the machine do is not in it.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000_000 + nanos
}

fn group(tables: &mut Tables, count: u64) -> Result<(), String> {
    let play = |tables: &mut Tables, what, user, position| {
        let change = Change { what, by: 1, user, role: Role::Member, name: "friends" };
        apply(tables, Placement::new(1), GROUP, &change, position)
    };
    let mut user = 0;
    pieces("order: a member comes, at the group's home", || {
        user += 1;
        play(tables, if user == 1 { What::Created } else { What::Added }, user, user);
        user < count
    });
    let mut user = 0;
    pieces("a member comes, at the member's home", || {
        user += 1;
        let tiding = Tiding::Joined { group: GROUP, user, position: user, pushes: true };
        members::hear(tables, tiding);
        user < count
    });
    for user in 1..=count {
        let index = tables.users.find(user).ok_or("a member is lost")?;
        let device = tables.users.add_device(index, 1, 0);
        let place = u32::try_from(user).map_err(|error| error.to_string())?;
        members::log_in(tables, device, Token { index: place, generation: 1 });
    }
    let mut user = 0;
    pieces("a member's mark moves, the lowest first", || {
        user += 1;
        let stand = Stand { group: GROUP, user, has: count, read: count, acked: count };
        marks::take(tables, &stand);
        user < count
    });
    let index = tables.groups.find(GROUP).ok_or("the group is lost")?;
    pieces("a look at the marks of a group", || {
        marks::look(tables, index, &mut |_, _| true) == marks::Looked::Again
    });
    pieces("members are to be told that there is something", || {
        seats::head(tables, GROUP, count + 1);
        false
    });
    pieces("who follows an owner", || {
        let heir = tables.groups.of(GROUP).and_then(|group| farewell(group, 1));
        assert!(heir.is_some(), "there are others");
        false
    });
    pieces("order: a group ends, at its home", || {
        play(tables, What::Ended, 0, count + 2);
        false
    });
    pieces("a group that is over is taken apart", || {
        take_apart(tables);
        !tables.groups.over.is_empty()
    });
    members::hear(tables, Tiding::Ended { group: GROUP, position: count + 2 });
    pieces("members of a group that is over leave", || {
        members::leave_some(tables);
        tables.circles.is_ending()
    });
    Ok(())
}

fn people(tables: &mut Tables, count: u64) -> Result<(), String> {
    const BUSY: u64 = 1;
    let most = limits::TIES_PER_USER_MAX as u64;
    let mut other = 0;
    let mut refused = None;
    pieces("order: a tie of a user with up to 10,000", || {
        other += 1;
        let ties = Ties { contact: true, blocked: false };
        refused = relate(tables, BUSY, mix(other), ties).err();
        other < most && refused.is_none()
    });
    let busy = tables.users.find(BUSY).ok_or("the user is lost")?;
    let mut first = tables.users.user(busy).first_pair;
    for sender in 0..count {
        let pair = tables.pairs.find_or_add(busy, mix(sender), &mut first);
        let pair = tables.pairs.get_mut(pair.ok_or("no room for a pair")?);
        (pair.last, pair.read) = (count, count);
    }
    let user = tables.users.user_mut(busy);
    (user.first_pair, user.has) = (first, count);
    for (what, person) in [
        ("turns receipts off", Person { receipts_off: true, ..Person::default() }),
        ("turns receipts on again", Person::default()),
        ("has strangers marked", Person { marks_requests: true, ..Person::default() }),
    ] {
        pieces(&format!("order: a user with {count} conversations {what}"), || {
            refused = set_person(tables, BUSY, person).err();
            false
        });
        let placement = Placement::new(1);
        pieces("and receipts are told", || {
            receipt::tell_dirty(tables, placement, |_, _, _| true);
            false
        });
    }
    refused.map_or(Ok(()), |fault| Err(format!("{fault:?}")))
}

fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)) | 1 << 63
}
