//! The directory from outside: through its handle, with shards that are played.

use super::*;
use crate::limits;
use crate::state::order::{Audience, Done, GroupEdit, MemberCard, Person, Role, Ties};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Waits as long as nobody would.
const LONG: Duration = Duration::from_secs(60);
const NOW_S: u64 = 1_800_000_000;
const PASSWORD: &str = "correct horse battery";

/// What shards were told, and how they answer.
#[derive(Clone, Default)]
struct Shards {
    told: Arc<Mutex<Vec<Order>>>,
    /// So many orders are refused before one is obeyed.
    full: Arc<AtomicU64>,
    groups: Arc<Mutex<BTreeMap<u64, Vec<MemberCard>>>>,
}

impl Shards {
    /// What the home of a group would answer; `None`: it is no order about groups.
    fn group(&self, order: &Order) -> Option<Result<Done, order::Fault>> {
        let mut groups = self.groups.lock().unwrap();
        let (group, by, edit) = match order {
            Order::GroupsOf { .. } if groups.is_empty() => {
                return Some(Err(order::Fault::NotSupported));
            }
            Order::GroupsOf { user, after, .. } => {
                let is_in = |members: &[MemberCard]| members.iter().any(|one| one.user == *user);
                let of = groups.range(after + 1..).filter(|(_, members)| is_in(members));
                let groups: Vec<u64> = of.map(|(group, _)| *group).take(2).collect();
                return Some(Ok(Done::Groups { more: groups.len() == 2, groups }));
            }
            Order::GroupMembers { group, .. } => {
                let members = groups[group].clone();
                return Some(Ok(Done::Members { members, more: false }));
            }
            Order::GroupEdit { group, by, edit } => (group, by, edit),
            _ => return None,
        };
        let members = groups.get_mut(group).unwrap();
        let role = |members: &[MemberCard]| {
            members.iter().find(|one| one.user == *by).map(|member| member.role)
        };
        match edit {
            GroupEdit::Leave if role(members) == Some(Role::Owner) && members.len() > 1 => {
                return Some(Err(order::Fault::Conflict));
            }
            GroupEdit::Leave => members.retain(|member| member.user != *by),
            GroupEdit::HandOver(heir) => {
                for member in members.iter_mut().filter(|one| [*heir, *by].contains(&one.user)) {
                    member.role = if member.user == *heir { Role::Owner } else { Role::Admin };
                }
            }
            other => panic!("{other:?}"),
        }
        Some(Ok(Done::Changed { position: 1 }))
    }

    fn obey(&self, order: Order) -> Result<Done, order::Fault> {
        if self.full.load(Ordering::Relaxed) > 0 {
            self.full.fetch_sub(1, Ordering::Relaxed);
            return Err(order::Fault::Overloaded);
        }
        let answer = self.group(&order);
        self.told.lock().unwrap().push(order);
        answer.unwrap_or(Ok(Done::Obeyed))
    }

    fn take(&self) -> Vec<Order> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

struct World {
    threads: Option<Threads>,
    shards: Shards,
    now_s: Arc<AtomicU64>,
    rules: Rules,
    folder: Arc<tempfile::TempDir>,
}

impl World {
    fn new(registration: Registration) -> Self {
        Self::with(|rules| rules.registration = registration)
    }

    fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules {
            registration: Registration::Open,
            users_max: 100,
            access_s: 3_600,
            foreign: false,
            webhook: true,
            own: OwnKey::from_secret(b"0123456789abcdef0123456789abcdef"),
        };
        change(&mut rules);
        let mut world = Self {
            threads: None,
            shards: Shards::default(),
            now_s: Arc::new(AtomicU64::new(NOW_S)),
            rules,
            folder: Arc::new(tempfile::tempdir().unwrap()),
        };
        world.start();
        world
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts, or starts again after what a crash would have left.
    fn start(&mut self) {
        let now_s = Arc::clone(&self.now_s);
        let options = Options {
            folder: self.path().to_owned(),
            rules: self.rules.clone(),
            password_threads: 1,
            clock: Arc::new(move || now_s.load(Ordering::Relaxed)),
        };
        let threads = Threads::start(options).unwrap();
        let shards = self.shards.clone();
        threads.hang(Box::new(move |order, reply| reply(shards.obey(order))));
        self.threads = Some(threads);
    }

    fn stop(&mut self) {
        self.threads.take().unwrap().stop();
    }

    fn ask(&self, command: Command) -> Result<Answer, Fault> {
        let (told, answer) = channel();
        let directory = self.threads.as_ref().unwrap().directory();
        directory.ask(command, move |answer| told.send(answer).unwrap());
        answer.recv_timeout(LONG).unwrap()
    }

    fn hashes(&self) -> u64 {
        self.threads.as_ref().unwrap().hashes_count()
    }

    fn register(&self, name: &str) -> Session {
        session(self.ask(Command::Register(newcomer(name))))
    }

    fn log_in(&self, handle: &str, password: &str) -> Result<Answer, Fault> {
        self.ask(Command::LogIn {
            handle: handle.to_owned(),
            password: Secret::from(password),
            device: None,
            label: "phone".to_owned(),
        })
    }

    fn standing(&self, user: u64, device: u32, issued_s: u64) -> Standing {
        match self.ask(Command::Standing { user, device, issued_s }) {
            Ok(Answer::Standing(standing)) => standing,
            other => panic!("{other:?}"),
        }
    }

    fn account(&self, user: u64) -> Account {
        match self.ask(Command::Account { user }) {
            Ok(Answer::Account(account)) => *account,
            other => panic!("{other:?}"),
        }
    }

    fn counts(&self) -> Counts {
        match self.ask(Command::Counts) {
            Ok(Answer::Counts(counts)) => counts,
            other => panic!("{other:?}"),
        }
    }

    fn events(&self) -> Vec<Event> {
        match self.ask(Command::Events { limit: 100 }) {
            Ok(Answer::Events(events)) => events,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
    }
}

fn newcomer(name: &str) -> Register {
    Register {
        name: Some(name.to_owned()),
        phone: None,
        password: Secret::from(PASSWORD),
        invite: None,
        label: "phone".to_owned(),
    }
}

fn session(answer: Result<Answer, Fault>) -> Session {
    match answer {
        Ok(Answer::Session(session)) => session,
        other => panic!("{other:?}"),
    }
}

fn page(user: u64, after: Option<u64>, limit: u32) -> Page {
    Page { user, after, limit }
}

#[test]
fn who_registers_is_known_to_shards_before_the_answer_and_logs_in() {
    let world = World::new(Registration::Open);
    let ada = world.register("Ada.L");
    assert!(ada.user != 0 && ada.user <= limits::USER_ID_MAX && ada.device == 1);
    assert_eq!(
        world.shards.take(),
        vec![Order::Person { user: ada.user, person: Person::default() }]
    );
    let again = session(world.log_in("ada.l", PASSWORD));
    assert_eq!((again.user, again.device), (ada.user, 2));
    assert_eq!(world.shards.take(), vec![], "a login changes nothing for shards");
    assert_eq!(world.standing(ada.user, 1, NOW_S), Standing::Good);
    let keys = crate::auth::Keys::from_secret(b"another secret of thirty-two bytes");
    let claims = keys.and_own(&world.rules.own).verify(again.access.expose(), NOW_S).unwrap();
    assert_eq!((claims.user, claims.device, claims.issued_s), (ada.user, 2, NOW_S));
    assert_eq!(claims.expires_s, NOW_S + again.access_s);
    let taken = world.ask(Command::Register(newcomer("ADA.l")));
    assert_eq!(taken, Err(Fault::Taken("name")));
}

#[test]
fn a_login_tells_neither_by_its_answer_nor_by_its_work_who_exists() {
    let world = World::new(Registration::Open);
    world.register("ada");
    for (handle, password) in [
        ("ada", "wrong password"),
        ("nobody", "wrong password"),
        ("no name at all", "wrong password"),
        ("+4930123456", PASSWORD),
    ] {
        let before = world.hashes();
        assert_eq!(world.log_in(handle, password), Err(Fault::WrongPassword), "{handle}");
        assert_eq!(world.hashes() - before, 1, "{handle}");
    }
    let before = world.hashes();
    session(world.log_in("ada", PASSWORD));
    assert_eq!(world.hashes() - before, 1);
}

#[test]
fn registration_is_closed_by_invite_or_open() {
    let world = World::new(Registration::Closed);
    assert_eq!(world.ask(Command::Register(newcomer("ada"))), Err(Fault::Closed));
    assert_eq!(world.hashes(), 0, "a refusal costs no hash");
    let world = World::new(Registration::Invite);
    assert_eq!(world.ask(Command::Register(newcomer("ada"))), Err(Fault::InviteNeeded));
    let made = world.ask(Command::MakeInvite { uses: 1, valid_s: 60, note: String::new() });
    let Ok(Answer::InviteMade { invite, code }) = made else { panic!("{made:?}") };
    let with = |name| {
        let invite = Some(code.clone());
        world.ask(Command::Register(Register { invite, ..newcomer(name) }))
    };
    session(with("ada"));
    assert_eq!(with("bob"), Err(Fault::InviteNotGood), "it was for one");
    assert_eq!(world.ask(Command::EndInvite { id: invite.id + 1 }), Err(Fault::Unknown("code")));
    let made = world.ask(Command::MakeInvite { uses: 9, valid_s: 60, note: String::new() });
    let Ok(Answer::InviteMade { code, .. }) = made else { panic!("{made:?}") };
    world.now_s.fetch_add(61, Ordering::Relaxed);
    let late = Register { invite: Some(code), ..newcomer("bob") };
    assert_eq!(world.ask(Command::Register(late)), Err(Fault::InviteNotGood));
}

#[test]
fn no_more_users_come_than_shards_remember() {
    let world = World::with(|rules| (rules.users_max, rules.foreign) = (1, true));
    let ada = world.register("ada");
    let full = Err(Fault::Full { what: "users on this server", max: 1 });
    assert_eq!(world.ask(Command::Register(newcomer("bob"))), full);
    assert_eq!(world.ask(Command::Block { user: 7, other: ada.user }), full);
    assert_eq!(world.ask(Command::Block { user: ada.user, other: 7 }), Ok(Answer::Done));
}

#[test]
fn who_is_gone_takes_no_place_of_the_living_but_is_remembered_within_bounds() {
    let world = World::with(|rules| rules.users_max = 1);
    for round in 0..limits::ROWS_PER_USER_MAX {
        let ada = world.register("ada");
        let full = Err(Fault::Full { what: "users on this server", max: 1 });
        assert_eq!(world.ask(Command::Register(newcomer("bob"))), full, "{round}");
        assert_eq!(
            world.ask(Command::DeleteUser { user: ada.user, password: None }),
            Ok(Answer::Done)
        );
    }
    let what = "users on this server, with those who were deleted";
    let full = Err(Fault::Full { what, max: limits::ROWS_PER_USER_MAX as u64 });
    assert_eq!(world.ask(Command::Register(newcomer("ada"))), full);
}

#[test]
fn two_who_take_one_name_at_once_get_it_once() {
    let world = World::new(Registration::Open);
    let (told, answers) = channel();
    let directory = world.threads.as_ref().unwrap().directory();
    for _ in 0..8 {
        let told = told.clone();
        let command = Command::Register(newcomer("ada"));
        directory.ask(command, move |answer| told.send(answer).unwrap());
    }
    let answers: Vec<_> = (0..8).map(|_| answers.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.contains(&Err(Fault::Taken("name"))));
    assert_eq!((world.counts().users, world.counts().devices), (1, 1));
}

#[test]
fn a_refresh_token_is_good_once_and_an_old_one_ends_the_device() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada");
    let refresh = |token: &Secret| world.ask(Command::Refresh { token: token.clone() });
    let second = session(refresh(&ada.refresh));
    assert_eq!((second.user, second.device), (ada.user, ada.device));
    let third = session(refresh(&second.refresh));
    world.shards.take();
    assert_eq!(refresh(&ada.refresh), Err(Fault::SessionOver));
    assert_eq!(refresh(&third.refresh), Err(Fault::SessionOver), "whoever has it");
    assert_eq!(world.standing(ada.user, ada.device, NOW_S), Standing::LoggedOut);
    let end = Order::EndDevice { user: ada.user, device: 1, not_before_s: NOW_S + 1 };
    world.stop_and(|shards| assert_eq!(shards.take(), vec![end]));
}

impl World {
    /// Ends it, so that everything was told, and looks.
    fn stop_and(mut self, look: impl FnOnce(&Shards)) {
        std::thread::sleep(Duration::from_millis(50));
        self.stop();
        look(&self.shards);
    }
}

#[test]
fn a_forged_refresh_token_ends_nothing() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada");
    for token in ["", "AAAA", &"A".repeat(64), &"ä".repeat(10), &"A".repeat(10_000)] {
        let refused = world.ask(Command::Refresh { token: Secret::from(token) });
        assert_eq!(refused, Err(Fault::SessionOver));
    }
    session(world.ask(Command::Refresh { token: ada.refresh }));
}

#[test]
fn an_unused_refresh_token_ends() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada");
    world.now_s.fetch_add(limits::REFRESH_TOKEN_S + 1, Ordering::Relaxed);
    let refused = world.ask(Command::Refresh { token: ada.refresh });
    assert_eq!(refused, Err(Fault::SessionOver));
    assert_eq!(world.counts().devices, 0);
}

#[test]
fn the_ninth_device_ends_the_one_seen_longest_ago_and_no_number_comes_again() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada");
    let mut last = ada.clone();
    for device in 2..=9 {
        world.now_s.fetch_add(1, Ordering::Relaxed);
        last = session(world.log_in("ada", PASSWORD));
        assert_eq!(last.device, device);
    }
    let end = Order::EndDevice { user: ada.user, device: 1, not_before_s: NOW_S + 9 };
    assert!(world.shards.take().contains(&end), "before the answer");
    let out = |device| world.ask(Command::EndDevice { user: ada.user, device });
    assert_eq!(out(9), Ok(Answer::Done));
    assert_eq!(out(9), Err(Fault::Unknown("device")));
    assert_eq!(session(world.log_in("ada", PASSWORD)).device, 10);
    assert_eq!(world.ask(Command::Refresh { token: last.refresh }), Err(Fault::SessionOver));
    // A device that is still the user's comes back under its number, with new tokens.
    let back = world.ask(Command::LogIn {
        handle: "ada".to_owned(),
        password: Secret::from(PASSWORD),
        device: Some(5),
        label: "tablet".to_owned(),
    });
    assert_eq!(session(back).device, 5);
    let Ok(Answer::Devices(devices)) = world.ask(Command::Devices { user: ada.user }) else {
        panic!("no devices")
    };
    assert_eq!(devices.len(), 8);
    assert!(devices.iter().any(|device| (device.device, &*device.label) == (5, "tablet")));
}

#[test]
fn another_password_logs_all_other_devices_out() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada");
    let other = session(world.log_in("ada", PASSWORD));
    let set = |old: &str, new: &str| {
        let (old, new) = (Secret::from(old), Secret::from(new));
        world.ask(Command::SetPassword { user: ada.user, keep: ada.device, old, new })
    };
    assert_eq!(set("wrong password", "another password"), Err(Fault::WrongPassword));
    assert!(matches!(set(PASSWORD, "short"), Err(Fault::Invalid { .. })));
    assert_eq!(set(PASSWORD, "another password"), Ok(Answer::Done));
    assert_eq!(world.log_in("ada", PASSWORD), Err(Fault::WrongPassword));
    assert_eq!(world.standing(ada.user, other.device, NOW_S), Standing::LoggedOut);
    assert_eq!(world.standing(ada.user, ada.device, NOW_S), Standing::Good);
    session(world.log_in("ada", "another password"));
}

#[test]
fn a_deleted_account_leaves_nothing_but_that_its_id_is_not_given_again() {
    let world = World::new(Registration::Open);
    let (ada, bob) = (world.register("ada"), world.register("bob"));
    let put = Command::PutContact { user: ada.user, other: bob.user, alias: "Bob".to_owned() };
    assert_eq!(world.ask(put), Ok(Answer::Done));
    let put = Command::PutContact { user: bob.user, other: ada.user, alias: "Ada".to_owned() };
    assert_eq!(world.ask(put), Ok(Answer::Done));
    world.shards.take();
    let delete = |password| {
        let password = Some(Secret::from(password));
        world.ask(Command::DeleteUser { user: ada.user, password })
    };
    assert_eq!(delete("wrong password"), Err(Fault::WrongPassword));
    assert_eq!(delete(PASSWORD), Ok(Answer::Done));
    assert_eq!(
        world.shards.take(),
        vec![
            Order::GroupsOf { user: ada.user, after: 0, limit: 100 },
            Order::EndUser { user: ada.user, not_before_s: NOW_S + 1 }
        ]
    );
    assert_eq!(world.standing(ada.user, ada.device, NOW_S), Standing::Deleted);
    assert_eq!(world.log_in("ada", PASSWORD), Err(Fault::WrongPassword));
    assert_eq!(world.ask(Command::Account { user: ada.user }), Err(Fault::Unknown("user")));
    assert_eq!(world.ask(Command::Refresh { token: ada.refresh }), Err(Fault::SessionOver));
    let counts = world.counts();
    assert_eq!((counts.users, counts.ties, counts.devices), (1, 1, 1));
    let contacts = world.ask(Command::Contacts(page(bob.user, None, 10)));
    let Ok(Answer::Contacts { contacts, .. }) = contacts else { panic!("{contacts:?}") };
    assert!(contacts[0].gone && contacts[0].card.name.is_none());
    let kinds: Vec<String> = world.events().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["user.registered", "user.registered", "user.deleted"]);
    session(world.ask(Command::Register(newcomer("ada")))); // the name is free again
}

#[test]
fn whoever_ends_leaves_its_groups_and_hands_over_the_ones_it_owns() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada").user;
    let member = |user, role, since| MemberCard { user, role, since, has: 0, read: 0 };
    let owner = member(ada, Role::Owner, 1);
    let (early, late) = (member(6, Role::Admin, 2), member(5, Role::Admin, 3));
    let plain = member(7, Role::Member, 1);
    *world.shards.groups.lock().unwrap() = BTreeMap::from([
        (1, vec![owner, plain, late, early]),
        (2, vec![member(ada, Role::Member, 9), plain]),
        (3, vec![owner]),
        (4, vec![plain]),
    ]);
    let delete = Command::DeleteUser { user: ada, password: None };
    assert_eq!(world.ask(delete), Ok(Answer::Done));
    let heir = MemberCard { role: Role::Owner, ..early };
    let groups = world.shards.groups.lock().unwrap().clone();
    let left = [(1, vec![plain, late, heir]), (2, vec![plain]), (3, vec![]), (4, vec![plain])];
    assert_eq!(groups, BTreeMap::from(left));
    let told = world.shards.take();
    assert!(matches!(told.last(), Some(Order::EndUser { user, .. }) if *user == ada));
}

#[test]
fn a_shard_without_room_is_asked_again_before_the_answer() {
    let world = World::new(Registration::Open);
    let (ada, bob) = (world.register("ada"), world.register("bob"));
    world.shards.take();
    world.shards.full.store(3, Ordering::Relaxed);
    assert_eq!(world.ask(Command::Block { user: ada.user, other: bob.user }), Ok(Answer::Done));
    assert_eq!(world.shards.full.load(Ordering::Relaxed), 0);
    let ties = Ties { contact: false, blocked: true };
    let relate = Order::Relate { user: ada.user, other: bob.user, ties };
    assert_eq!(world.shards.take(), vec![relate]);
}

#[test]
fn of_one_users_changes_the_last_one_reaches_its_home_last() {
    let world = World::new(Registration::Open);
    let (ada, bob) = (world.register("ada"), world.register("bob"));
    let directory = world.threads.as_ref().unwrap().directory();
    world.shards.take();
    let (told, answers) = channel();
    for round in 0..200 {
        if round % 7 == 0 {
            world.shards.full.fetch_add(1, Ordering::Relaxed);
        }
        let (user, other, told) = (ada.user, bob.user, told.clone());
        let block = Command::Block { user, other };
        let unblock = Command::Unblock { user, other };
        let command = if round % 2 == 0 { block } else { unblock };
        directory.ask(command, move |answer| told.send(answer).unwrap());
    }
    for _ in 0..200 {
        assert_eq!(answers.recv_timeout(LONG).unwrap(), Ok(Answer::Done));
    }
    let told = world.shards.take();
    assert_eq!(told.len(), 200);
    for (round, order) in told.into_iter().enumerate() {
        let ties = Ties { contact: false, blocked: round % 2 == 0 };
        assert_eq!(order, Order::Relate { user: ada.user, other: bob.user, ties });
    }
}

#[test]
fn contacts_and_blocks_come_in_pages_and_stay_apart() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada");
    let mut others: Vec<u64> = (0..5).map(|n| world.register(&format!("user{n}")).user).collect();
    others.sort_unstable();
    for &other in &others {
        let put = Command::PutContact { user: ada.user, other, alias: format!("a{other}") };
        assert_eq!(world.ask(put), Ok(Answer::Done));
    }
    assert_eq!(world.ask(Command::Block { user: ada.user, other: others[1] }), Ok(Answer::Done));
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let answer = world.ask(Command::Contacts(page(ada.user, after, 2)));
        let Ok(Answer::Contacts { contacts, more }) = answer else { panic!("{answer:?}") };
        after = contacts.last().map(|contact| contact.card.user);
        seen.extend(contacts.iter().map(|contact| (contact.card.user, contact.blocked)));
        if !more {
            break;
        }
    }
    let expected: Vec<(u64, bool)> = others.iter().map(|&id| (id, id == others[1])).collect();
    assert_eq!(seen, expected);
    let end = Command::EndContact { user: ada.user, other: others[1] };
    assert_eq!(world.ask(end), Ok(Answer::Done));
    let blocks = world.ask(Command::Blocks(page(ada.user, None, 10)));
    assert_eq!(blocks, Ok(Answer::Blocks { users: vec![others[1]], more: false }));
    let unknown = Command::Block { user: ada.user, other: 12_345 };
    assert_eq!(world.ask(unknown), Err(Fault::Unknown("user")));
    let own = Command::Block { user: ada.user, other: ada.user };
    assert!(matches!(world.ask(own), Err(Fault::Conflict(_))));
}

#[test]
fn who_is_blocked_sees_a_bare_card_and_can_not_tell_why() {
    let world = World::new(Registration::Open);
    let (ada, bob) = (world.register("ada"), world.register("bob"));
    let edit = Edit { display: Some("Ada".to_owned()), ..Edit::default() };
    let Ok(Answer::Account(account)) =
        world.ask(Command::Edit { user: ada.user, edit: Box::new(edit) })
    else {
        panic!("not edited")
    };
    assert_eq!(account.display, "Ada");
    let find = || world.ask(Command::Find { by: bob.user, handle: "Ada".to_owned() });
    let Ok(Answer::Card(card)) = find() else { panic!("not found") };
    assert_eq!((card.user, &*card.display), (ada.user, "Ada"));
    assert_eq!(world.ask(Command::Block { user: ada.user, other: bob.user }), Ok(Answer::Done));
    let bare = Card { display: String::new(), ..card };
    assert_eq!(find(), Ok(Answer::Card(bare.clone())));
    let look = Command::Card { by: bob.user, user: ada.user };
    assert_eq!(world.ask(look), Ok(Answer::Card(bare)));
}

#[test]
fn settings_reach_the_home_and_a_handle_can_not_be_given_up_without_another() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada");
    world.shards.take();
    let edit = |edit| world.ask(Command::Edit { user: ada.user, edit: Box::new(edit) });
    let shy = Edit {
        last_seen: Some(Audience::Contacts),
        receipts_off: Some(true),
        marks_requests: Some(true),
        ..Edit::default()
    };
    assert!(edit(shy).is_ok());
    let person = Person {
        suspended: false,
        receipts_off: true,
        last_seen: Audience::Contacts,
        marks_requests: true,
    };
    assert_eq!(world.shards.take(), vec![Order::Person { user: ada.user, person }]);
    assert!(edit(Edit { about: Some("hello".to_owned()), ..Edit::default() }).is_ok());
    assert_eq!(world.shards.take(), vec![], "shards need not know what is about a user");
    let nameless = Edit { name: Some(None), ..Edit::default() };
    assert!(matches!(edit(nameless.clone()), Err(Fault::Conflict(_))));
    let phone = Edit { phone: Some(Some("+4930123456".to_owned())), ..nameless };
    assert!(edit(phone).is_ok());
    assert_eq!(session(world.log_in("+4930123456", PASSWORD)).user, ada.user);
    let long = Edit { about: Some("x".repeat(513)), ..Edit::default() };
    assert!(matches!(edit(long), Err(Fault::Invalid { field: "about", .. })));
}

#[test]
fn who_may_be_put_into_groups_decides_itself_and_a_block_looks_like_that() {
    let world = World::new(Registration::Open);
    let (ada, bob, eve) = (world.register("ada"), world.register("bob"), world.register("eve"));
    let ask = |by: u64| world.ask(Command::AskToAdd { by, target: ada.user, group: 7 });
    assert_eq!(ask(bob.user), Ok(Answer::GroupAdd(GroupAdd::Now)));
    let edit = Edit { group_adders: Some(Audience::Contacts), ..Edit::default() };
    assert!(world.ask(Command::Edit { user: ada.user, edit: Box::new(edit) }).is_ok());
    assert_eq!(world.ask(Command::Block { user: ada.user, other: eve.user }), Ok(Answer::Done));
    assert_eq!(ask(eve.user), Ok(Answer::GroupAdd(GroupAdd::Asked)));
    assert_eq!(ask(bob.user), Ok(Answer::GroupAdd(GroupAdd::Asked)));
    assert_eq!(ask(bob.user), Ok(Answer::GroupAdd(GroupAdd::Asked)), "once more is the same");
    let list = || match world.ask(Command::Invitations(page(ada.user, None, 10))) {
        Ok(Answer::Invitations { invitations, more: false }) => invitations,
        other => panic!("{other:?}"),
    };
    let invitations = list();
    assert_eq!(invitations.len(), 1, "of whom is blocked nothing is seen");
    assert_eq!((invitations[0].by, invitations[0].group), (bob.user, 7));
    assert_eq!(world.ask(Command::Unblock { user: ada.user, other: eve.user }), Ok(Answer::Done));
    assert_eq!(list().len(), 1, "nor later");
    let id = invitations[0].id;
    let wrong = Command::Invitation { user: bob.user, id };
    assert_eq!(world.ask(wrong), Err(Fault::Unknown("invitation")));
    let end = Command::EndInvitation { user: ada.user, id };
    assert_eq!(world.ask(end.clone()), Ok(Answer::Done));
    assert_eq!(world.ask(end), Err(Fault::Unknown("invitation")));
    let put = Command::PutContact { user: ada.user, other: bob.user, alias: String::new() };
    assert_eq!(world.ask(put), Ok(Answer::Done));
    assert_eq!(ask(bob.user), Ok(Answer::GroupAdd(GroupAdd::Now)));
}

#[test]
fn who_is_suspended_gets_no_tokens_and_the_operator_sees_why() {
    let world = World::new(Registration::Open);
    let ada = world.register("ada");
    world.shards.take();
    let suspend = Command::Suspend { user: ada.user, note: "spam".to_owned() };
    assert_eq!(world.ask(suspend), Ok(Answer::Done));
    let person = Person { suspended: true, ..Person::default() };
    assert_eq!(world.shards.take(), vec![Order::Person { user: ada.user, person }]);
    assert_eq!(world.standing(ada.user, 1, NOW_S), Standing::Suspended);
    assert_eq!(world.log_in("ada", PASSWORD), Err(Fault::Suspended));
    assert_eq!(world.log_in("ada", "wrong password"), Err(Fault::WrongPassword));
    let refresh = || world.ask(Command::Refresh { token: ada.refresh.clone() });
    assert_eq!(refresh(), Err(Fault::Suspended));
    let list = Command::Users { prefix: "A".to_owned(), suspended: true, after: None, limit: 9 };
    let Ok(Answer::Accounts { accounts, .. }) = world.ask(list) else { panic!("no list") };
    assert_eq!((accounts.len(), &*accounts[0].note), (1, "spam"));
    assert_eq!(world.counts().suspended, 1);
    assert_eq!(world.ask(Command::Unsuspend { user: ada.user }), Ok(Answer::Done));
    assert_eq!(world.counts().suspended, 0);
    session(refresh());
}

#[test]
fn reports_are_bounded_listed_and_closed() {
    let world = World::new(Registration::Open);
    let (ada, bob) = (world.register("ada"), world.register("bob"));
    let report = Report {
        by: ada.user,
        user: bob.user,
        group: None,
        position: Some(5),
        reason: "spam".to_owned(),
        text: "look".to_owned(),
    };
    let max = limits::REPORTS_OPEN_PER_USER_MAX;
    for _ in 0..max {
        assert!(matches!(world.ask(Command::Report(report.clone())), Ok(Answer::Filed(_))));
    }
    let full = world.ask(Command::Report(report.clone()));
    assert!(matches!(full, Err(Fault::Full { .. })));
    let list = |open, after| {
        let answer = world.ask(Command::Reports { open, after, limit: 3 });
        let Ok(Answer::Reports { reports, more }) = answer else { panic!("{answer:?}") };
        (reports, more)
    };
    let (reports, more) = list(true, None);
    assert!(more && reports.len() == 3 && reports[0].report == report);
    let close = Command::CloseReport { id: reports[0].id, note: "warned".to_owned() };
    assert_eq!(world.ask(close), Ok(Answer::Done));
    assert_eq!(list(true, None).0[0].id, reports[1].id);
    assert_eq!(list(false, None).0[0].closed.as_deref(), Some("warned"));
    assert_eq!(world.counts().reports, max - 1);
}

#[test]
fn an_idempotency_key_answers_alike_and_only_the_same_request() {
    let mut world = World::new(Registration::Open);
    let begin = |world: &World, request: u8| {
        let (user, key, request) = (7, "key".to_owned(), [request; 32]);
        match world.ask(Command::Begin { user, key, request }) {
            Ok(Answer::Begun(begun)) => begun,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(begin(&world, 1), Begun::First);
    assert_eq!(begin(&world, 1), Begun::UnderWay);
    assert_eq!(begin(&world, 2), Begun::Other);
    let finish = |world: &World| {
        let body = b"{}".to_vec();
        world.ask(Command::Finish { user: 7, key: "key".to_owned(), status: 201, body })
    };
    assert_eq!(finish(&world), Ok(Answer::Done));
    assert_eq!(begin(&world, 1), Begun::Answered { status: 201, body: b"{}".to_vec() });
    world.now_s.fetch_add(limits::IDEMPOTENCY_S + 1, Ordering::Relaxed);
    assert_eq!(begin(&world, 2), Begun::First, "a day later the key is a new one");
    world.stop();
    world.start();
    assert_eq!(begin(&world, 3), Begun::First, "what was under way may be tried again");
    let abandon = Command::Abandon { user: 7, key: "key".to_owned() };
    assert_eq!(world.ask(abandon), Ok(Answer::Done));
    assert_eq!(begin(&world, 4), Begun::First);
}

#[test]
fn events_wait_for_the_webhook_until_told() {
    let world = World::new(Registration::Open);
    world.register("ada");
    let emit = Command::Emit { kind: "group.made".to_owned(), user: 0, body: "{}".to_owned() };
    assert_eq!(world.ask(emit), Ok(Answer::Done));
    let events = world.events();
    assert_eq!(events.len(), 2);
    let failed = Command::EventFailed { id: events[0].id, retry_at_s: NOW_S + 10 };
    assert_eq!(world.ask(failed), Ok(Answer::Done));
    let sent = Command::EventSent { id: events[1].id };
    assert_eq!(world.ask(sent), Ok(Answer::Done));
    assert_eq!(world.events(), vec![]);
    world.now_s.fetch_add(10, Ordering::Relaxed);
    assert_eq!(world.events()[0].attempts, 1);
    let none = World::with(|rules| rules.webhook = false);
    none.register("ada");
    assert_eq!(none.events(), vec![]);
}

#[test]
fn an_operators_own_identities_have_settings_contacts_and_blocks_by_need() {
    let world = World::with(|rules| rules.foreign = true);
    let big = u64::MAX - 1;
    assert_eq!(world.standing(big, 3, NOW_S), Standing::Good);
    assert_eq!(world.account(big).created_s, 0);
    assert_eq!(world.ask(Command::Block { user: big, other: 5 }), Ok(Answer::Done));
    let blocks = world.ask(Command::Blocks(page(big, None, 10)));
    assert_eq!(blocks, Ok(Answer::Blocks { users: vec![5], more: false }));
    assert_eq!(world.account(big).created_s, NOW_S);
    assert_eq!(world.ask(Command::EndDevice { user: big, device: 3 }), Ok(Answer::Done));
    assert_eq!(world.standing(big, 3, NOW_S), Standing::LoggedOut);
    assert_eq!(world.standing(big, 3, NOW_S + 1), Standing::Good);
    let delete = Command::DeleteUser { user: big, password: None };
    assert_eq!(world.ask(delete), Ok(Answer::Done));
    assert_eq!(world.standing(big, 4, NOW_S), Standing::Deleted);
    let name = Some("Zed".to_owned());
    let again = Command::Provision { user: Some(big), name, phone: None, password: None };
    let Ok(Answer::Account(account)) = world.ask(again.clone()) else { panic!("not made") };
    assert_eq!((account.user, account.name.as_deref()), (big, Some("zed")));
    assert!(matches!(world.ask(again), Err(Fault::Conflict(_))));
    assert_eq!(world.standing(big, 4, NOW_S), Standing::LoggedOut, "tokens of the former one");
}

#[test]
fn very_many_devices_that_ended_count_for_all_as_old_as_the_first() {
    let world = World::with(|rules| rules.foreign = true);
    let most = u32::try_from(limits::REVOCATIONS_PER_USER_MAX).unwrap();
    for device in 1..=most + 4 {
        world.now_s.fetch_add(10, Ordering::Relaxed);
        assert_eq!(world.ask(Command::EndDevice { user: 7, device }), Ok(Answer::Done));
        std::thread::sleep(Duration::from_millis(5)); // until its home's answer is written
    }
    assert_eq!(world.standing(7, 1, NOW_S), Standing::LoggedOut);
    assert_eq!(world.standing(7, 999, NOW_S), Standing::LoggedOut, "another one, as old");
    let now_s = world.now_s.load(Ordering::Relaxed);
    assert_eq!(world.standing(7, 999, now_s), Standing::Good);
    assert_eq!(world.standing(7, most + 4, now_s), Standing::LoggedOut);
}

#[test]
fn a_device_that_ended_is_told_again_after_a_crash_until_its_home_obeyed() {
    let mut world = World::new(Registration::Open);
    let ada = world.register("ada");
    world.shards.full.store(u64::MAX, Ordering::Relaxed);
    let directory = world.threads.as_ref().unwrap().directory();
    let (told, answer) = channel();
    let end = Command::EndDevice { user: ada.user, device: 1 };
    directory.ask(end, move |answer| told.send(answer).unwrap());
    assert!(answer.recv_timeout(Duration::from_millis(100)).is_err(), "not before it is obeyed");
    world.stop();
    assert_eq!(answer.recv_timeout(LONG).unwrap(), Ok(Answer::Done), "it is durable");
    world.shards.take();
    world.shards.full.store(0, Ordering::Relaxed);
    world.start();
    std::thread::sleep(Duration::from_millis(200));
    let end = Order::EndDevice { user: ada.user, device: 1, not_before_s: NOW_S + 1 };
    assert_eq!(world.shards.take(), vec![end]);
    world.stop();
    world.start();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(world.shards.take(), vec![], "once was enough");
}

#[test]
fn an_end_of_an_account_that_a_crash_cut_short_is_finished() {
    let mut world = World::new(Registration::Open);
    let ada = world.register("ada");
    world.shards.full.store(u64::MAX, Ordering::Relaxed);
    let directory = world.threads.as_ref().unwrap().directory();
    let (told, answer) = channel();
    let delete = Command::DeleteUser { user: ada.user, password: None };
    directory.ask(delete, move |answer| told.send(answer).unwrap());
    assert!(answer.recv_timeout(Duration::from_millis(100)).is_err());
    assert_eq!(world.standing(ada.user, 1, NOW_S), Standing::Deleted, "from its first moment");
    world.stop();
    assert_eq!(answer.recv_timeout(LONG).unwrap(), Err(Fault::Unavailable));
    world.shards.full.store(0, Ordering::Relaxed);
    world.start();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(world.counts().users, 0);
    assert!(world.shards.take().iter().any(|order| matches!(order, Order::EndUser { .. })));
}

#[test]
fn what_is_known_fills_the_tables_of_shards() {
    let mut world = World::new(Registration::Open);
    let (ada, bob) = (world.register("ada"), world.register("bob"));
    assert_eq!(world.ask(Command::Block { user: ada.user, other: bob.user }), Ok(Answer::Done));
    let suspend = Command::Suspend { user: bob.user, note: String::new() };
    assert_eq!(world.ask(suspend), Ok(Answer::Done));
    session(world.log_in("ada", PASSWORD));
    assert_eq!(world.ask(Command::EndDevice { user: ada.user, device: 2 }), Ok(Answer::Done));
    let eve = world.register("eve");
    let delete = Command::DeleteUser { user: eve.user, password: None };
    assert_eq!(world.ask(delete), Ok(Answer::Done));
    world.stop();
    world.start();
    let mut tables: Vec<_> = (0..2).map(|_| crate::state::Tables::new(4, 64, 64)).collect();
    let filled = world.threads.as_ref().unwrap().fill(&mut tables, NOW_S).unwrap();
    assert_eq!(filled, Filled { users: 2, ties: 1, revoked: 2 });
    let placement = crate::state::placement::Placement::new(2);
    let home = &tables[placement.home(ada.user)];
    let index = home.users.find(ada.user).unwrap();
    assert!(crate::path::people::blocks(home, index, bob.user));
    assert!(home.people.is_revoked(index, 2, NOW_S) && !home.people.is_revoked(index, 1, NOW_S));
    let mut none = vec![crate::state::Tables::new(4, 1, 4)];
    let refusal = world.threads.as_ref().unwrap().fill(&mut none, NOW_S).unwrap_err();
    assert!(refusal.to_string().contains("users_max"), "{refusal}");
}

#[test]
fn a_copy_is_whole_while_others_write() {
    let world = World::new(Registration::Open);
    world.register("ada");
    let copy = tempfile::tempdir().unwrap();
    world.threads.as_ref().unwrap().copier().copy(copy.path()).unwrap();
    world.register("bob");
    let mut other = World::new(Registration::Open);
    other.stop();
    other.folder = Arc::new(copy);
    other.start();
    session(other.log_in("ada", PASSWORD));
    assert_eq!(other.log_in("bob", PASSWORD), Err(Fault::WrongPassword));
}

#[test]
fn after_the_end_every_question_is_answered() {
    let mut world = World::new(Registration::Open);
    let directory = world.threads.as_ref().unwrap().directory();
    world.stop();
    for command in [Command::Counts, Command::Unsuspend { user: 1 }] {
        let (told, answer) = channel();
        directory.ask(command, move |answer| told.send(answer).unwrap());
        assert_eq!(answer.recv_timeout(LONG).unwrap(), Err(Fault::Unavailable));
    }
}

#[test]
fn what_ended_by_time_is_swept_away() {
    let world = World::with(|rules| rules.foreign = true);
    world.ask(Command::MakeInvite { uses: 1, valid_s: 60, note: String::new() }).unwrap();
    world.ask(Command::EndDevice { user: 7, device: 1 }).unwrap();
    session(world.ask(Command::Register(newcomer("ada"))));
    let db = schema::open(world.path()).unwrap();
    let count = |table: &str| {
        let text = format!("SELECT count(*) FROM {table}");
        db.query_row(&text, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    std::thread::sleep(Duration::from_millis(50));
    let later = NOW_S + limits::REFRESH_TOKEN_S + 1;
    let orders = write::transaction(&db, &world.rules, later, |book| book.sweep()).unwrap();
    assert!(matches!(orders[..], [Order::EndDevice { device: 1, .. }]), "{orders:?}");
    // The device that ended just now is remembered, the one of before is not.
    assert_eq!((count("invites"), count("devices"), count("revoked")), (0, 0, 1));
}

#[test]
fn nothing_that_is_printed_of_commands_and_answers_holds_a_secret() {
    let world = World::new(Registration::Invite);
    let made = world.ask(Command::MakeInvite { uses: 1, valid_s: 60, note: String::new() });
    let printed = format!("{made:?}");
    let Ok(Answer::InviteMade { code, .. }) = made else { panic!("{made:?}") };
    let register = Register { invite: Some(code.clone()), ..newcomer("ada") };
    let command = Command::Register(register);
    let printed = format!("{printed} {command:?} {:?}", world.rules);
    let ada = session(world.ask(command));
    let refresh = Command::Refresh { token: ada.refresh.clone() };
    let (old, new) = (Secret::from(PASSWORD), Secret::from("another password"));
    let set = Command::SetPassword { user: 1, keep: 1, old, new };
    let printed = format!("{printed} {ada:?} {refresh:?} {set:?} {:?}", world.threads);
    let secrets = [code.expose(), ada.access.expose(), ada.refresh.expose(), PASSWORD, "another"];
    for secret in secrets {
        assert!(!printed.contains(secret), "{printed}");
    }
    // Nor does the file hold what a thief could use.
    drop(world.threads.as_ref().unwrap().directory());
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(world.path()).unwrap() {
        bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("$argon2id$"), "the test reads what was written");
    for secret in secrets {
        assert!(!text.contains(secret));
    }
}
