//! History against a plain model of itself: the same records, questions, times and crashes give the
//! same pages, and the files hold exactly the payloads that somebody keeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proptest::collection::vec;
use proptest::prelude::*;
use wire::{MessageId, Relation, Retention};

use super::apply::expiry_ms;
use super::{History, HistoryError, Rules, Store};
use crate::clock::{ExpiryClock, Now};
use crate::log::{
    self, Committer, Durable, FollowError, Follower, Kind, Lane, Pins, Record, RecoverError,
    Settings, SharedMemory, Stage, Wake, next_epoch, recover,
};
use crate::mem::Token;
use crate::shard::{Ask, Found, Kept, Question};

const USERS: u64 = 3;
const ITEMS_MAX: u32 = 6;
/// When the first message is sent.
const START_MS: u64 = 1_793_664_000_000;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// What happens to a history.
#[derive(Clone, Debug)]
enum Event {
    /// A message, deleted by its author if `deletes` names an earlier one (counted back).
    Send { from: u64, to: u64, bytes: usize, ttl_s: u32, deletes: Option<usize>, theft: bool },
    /// A user read a conversation up to their message so many back.
    Read { user: u64, peer: u64, back: usize },
    /// An account ends.
    End { user: u64 },
    /// A user chooses a retention.
    Retain { user: u64, peer: u64, retention: Retention },
    /// Time passes, seconds.
    Pass { seconds: u64 },
    /// What is staged is committed.
    Commit,
    /// History reads what was committed.
    Follow,
    /// What ended is removed.
    Sweep,
    /// The process dies: history is opened as its files are. With `lost` what it did since it was
    /// last saved by the test is gone with it.
    Crash { lost: bool },
    /// The files are saved, as the disk has them.
    Save,
    /// The log is recovered: places change.
    Recover,
}

fn any_event() -> impl Strategy<Value = Event> {
    let user = || 1..=USERS;
    let retention = prop_oneof![
        Just(Retention::UntilAcked),
        (1_u32..30).prop_map(Retention::Seconds),
        Just(Retention::Permanent),
    ];
    let ttl_s = prop_oneof![4 => Just(0), 1 => 1_u32..30];
    let deletes = proptest::option::weighted(0.2, 0_usize..8);
    prop_oneof![
        20 => (user(), user(), 0_usize..60, ttl_s, deletes, proptest::bool::weighted(0.2))
            .prop_map(|(from, to, bytes, ttl_s, deletes, theft)| {
                Event::Send { from, to, bytes, ttl_s, deletes, theft }
            }),
        3 => (user(), user(), 0_usize..6)
            .prop_map(|(user, peer, back)| Event::Read { user, peer, back }),
        2 => (user(), user(), retention)
            .prop_map(|(user, peer, retention)| Event::Retain { user, peer, retention }),
        1 => user().prop_map(|user| Event::End { user }),
        3 => (0_u64..20).prop_map(|seconds| Event::Pass { seconds }),
        8 => Just(Event::Commit),
        6 => Just(Event::Follow),
        3 => Just(Event::Sweep),
        2 => any::<bool>().prop_map(|lost| Event::Crash { lost }),
        2 => Just(Event::Save),
        1 => Just(Event::Recover),
    ]
}

// ---- the model -----------------------------------------------------------------------------

/// A record as the model applies it.
#[derive(Clone, Debug)]
enum Told {
    Message {
        from: u64,
        to: u64,
        client_id: u64,
        position: u64,
        time_ms: u64,
        ttl_s: u32,
        relation: Option<Relation>,
        payload: Vec<u8>,
    },
    Read {
        user: u64,
        peer: u64,
        up_to: u64,
    },
    Ended {
        user: u64,
    },
}

#[derive(Clone, Debug, Default)]
struct Side {
    retention: Option<Retention>,
    last: u64,
    time_ms: u64,
    read: u64,
    items: BTreeMap<u64, (Kept, u32, bool)>,
}

#[derive(Clone, Debug)]
struct Model {
    default: Retention,
    sides: BTreeMap<(u64, u64), Side>,
}

impl Model {
    fn retention(&self, pair: (u64, u64)) -> Retention {
        self.sides.get(&pair).and_then(|side| side.retention).unwrap_or(self.default)
    }

    fn expiry(&self, pair: (u64, u64), item: &(Kept, u32, bool)) -> u64 {
        let expires_ms = expiry_ms(item.0.time_ms, item.1, self.retention(pair));
        if expires_ms == 0 { u64::MAX } else { expires_ms }
    }

    fn apply(&mut self, told: &Told, now_ms: u64) {
        match told {
            Told::Ended { user } => self.sides.retain(|pair, _| pair.0 != *user),
            Told::Read { user, peer, up_to } => {
                if self.retention((*user, *peer)) == Retention::UntilAcked {
                    return;
                }
                let side = self.sides.entry((*user, *peer)).or_default();
                side.read = side.read.max(*up_to);
            }
            Told::Message { from, to, relation: Some(Relation { kind: 3, target }), .. }
                if target.sender == *from =>
            {
                for pair in [(*from, *to), (*to, *from)] {
                    let side = self.sides.entry(pair).or_default();
                    for (item, _, _) in side.items.values_mut().filter(|i| i.0.id == *target) {
                        item.payload.clear();
                        (item.deleted, item.relation, item.kind) = (true, None, 0);
                    }
                }
            }
            Told::Message { from, to, client_id, position, time_ms, ttl_s, relation, payload } => {
                for pair in
                    [(*from, *to), (*to, *from)].into_iter().take(1 + usize::from(from != to))
                {
                    if self.retention(pair) == Retention::UntilAcked {
                        continue;
                    }
                    let side = self.sides.entry(pair).or_default();
                    side.last += 1;
                    side.time_ms = side.time_ms.max(*time_ms);
                    let id = MessageId { sender: *from, device: 1, client_id: *client_id };
                    let kept = Kept {
                        number: side.last,
                        id,
                        position: *position,
                        time_ms: *time_ms,
                        kind: 5,
                        payload: payload.clone(),
                        relation: *relation,
                        deleted: false,
                    };
                    let item = (kept, *ttl_s, pair.0 == *from);
                    if self.expiry(pair, &item) <= now_ms {
                        continue;
                    }
                    let side = self.sides.entry(pair).or_default();
                    side.items.insert(item.0.number, item);
                    if side.items.len() > ITEMS_MAX as usize {
                        side.items.pop_first();
                    }
                }
            }
        }
    }

    fn retain(&mut self, pair: (u64, u64), retention: Retention) {
        let side = self.sides.entry(pair).or_default();
        side.retention = Some(retention);
        if retention == Retention::UntilAcked {
            side.items.clear();
        }
    }

    fn sweep(&mut self, now_ms: u64) {
        let model = self.clone();
        for (pair, side) in &mut self.sides {
            side.items.retain(|_, item| model.expiry(*pair, item) > now_ms);
        }
    }
}

// ---- the world -----------------------------------------------------------------------------

struct World {
    disk: SharedMemory,
    stage: Stage,
    committer: Committer<SharedMemory>,
    durable: Arc<Durable>,
    pins: Pins,
    folder: tempfile::TempDir,
    copies: u32,
    rules: Rules,
    history: Option<History<SharedMemory>>,
    now_ms: u64,
    epoch: u32,
    sent: Vec<Told>,
    /// Staged, committed, applied by the model.
    staged: Vec<Told>,
    committed: Vec<Told>,
    applied: usize,
    model: Model,
    /// Files, model and how far it was, when they were last saved.
    saved: Option<(PathBuf, Model, usize)>,
    /// An account has ended since there was a sweep: its payloads may still be there.
    is_unswept: bool,
}

impl World {
    fn new(default: Retention) -> Self {
        let disk = SharedMemory::new();
        let (stage, committer, epoch) = open_log(&disk);
        let (durable, pins) = (committer.durable(), committer.pins());
        let rules = Rules { retention: default, items_max: ITEMS_MAX };
        let mut world = Self {
            disk,
            stage,
            durable,
            pins,
            committer,
            folder: tempfile::tempdir().unwrap(),
            copies: 0,
            rules,
            history: None,
            now_ms: START_MS,
            epoch,
            sent: Vec::new(),
            staged: Vec::new(),
            committed: Vec::new(),
            applied: 0,
            model: Model { default, sides: BTreeMap::new() },
            saved: None,
            is_unswept: false,
        };
        world.open();
        world
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("history")
    }

    fn open(&mut self) {
        let store = Store::open(&self.place(), self.rules).unwrap();
        let done = store.done();
        let follower =
            Follower::open(self.disk.clone(), Arc::clone(&self.durable), &self.pins, done).unwrap();
        let expiry = ExpiryClock::new(self.now(), false);
        self.history = Some(History::new(store, follower, expiry).unwrap());
    }

    fn history(&mut self) -> &mut History<SharedMemory> {
        self.history.as_mut().unwrap()
    }

    fn act(&mut self, event: &Event) {
        match *event {
            Event::Send { from, to, bytes, ttl_s, deletes, theft } => {
                self.send(from, to, bytes, ttl_s, deletes, theft);
            }
            Event::Read { user, peer, back } => self.read(user, peer, back),
            Event::End { user } => self.stage(Told::Ended { user }),
            Event::Retain { user, peer, retention } => {
                let now_ms = self.now_ms;
                let question = Question::Retain { peer, retention };
                let found = self.history().store().answer(user, 1, question, now_ms).unwrap();
                self.model.retain((user, peer), retention);
                assert!(matches!(found, Found::Retained(c) if c.retention == retention));
                // Unlike messages it is not in the log: it must not be lost, and is not.
                self.saved = None;
            }
            Event::Pass { seconds } => self.now_ms += seconds * 1000,
            Event::Commit => self.commit(),
            Event::Follow => self.follow(),
            Event::Sweep => {
                let now_ms = self.now_ms;
                while self.history().store().sweep(now_ms).unwrap() {}
                self.model.sweep(now_ms);
                self.is_unswept = false;
                self.saved = None; // what was given up by time alone comes back for a moment
            }
            Event::Crash { lost } => self.crash(lost),
            Event::Save => {
                self.history = None; // redb holds its file
                self.copies += 1;
                let saved = self.folder.path().join(format!("saved-{}", self.copies));
                copy_folder(&self.place(), &saved);
                self.saved = Some((saved, self.model.clone(), self.applied));
                self.open();
            }
            Event::Recover => {
                self.commit();
                let (stage, committer, epoch) = open_log(&self.disk);
                assert!(epoch > self.epoch);
                (self.stage, self.epoch, self.durable) = (stage, epoch, committer.durable());
                self.pins = committer.pins();
                self.committer = committer;
                self.history = None;
                self.open();
            }
        }
    }

    fn send(
        &mut self,
        from: u64,
        to: u64,
        bytes: usize,
        ttl_s: u32,
        deletes: Option<usize>,
        theft: bool,
    ) {
        let n = self.sent.len() as u64 + 1;
        let mut payload = if bytes == 0 { String::new() } else { format!("<{n:06}>") }.into_bytes();
        payload.resize(bytes.max(payload.len()), b'x');
        let (mut from, mut to) = (from, to);
        let mut relation = None;
        let target = deletes.and_then(|back| self.sent.iter().rev().nth(back));
        if let Some(Told::Message { from: author, to: at, client_id, .. }) = target {
            let id = MessageId { sender: *author, device: 1, client_id: *client_id };
            relation = Some(Relation { kind: 3, target: id });
            // By somebody else it deletes nothing.
            (from, to) = if theft { (*at, *author) } else { (*author, *at) };
        }
        let told = Told::Message {
            from,
            to,
            client_id: n,
            position: u64::from(self.epoch) << 32 | n,
            time_ms: self.now_ms,
            ttl_s,
            relation,
            payload,
        };
        self.sent.push(told.clone());
        self.stage(told);
    }

    fn read(&mut self, user: u64, peer: u64, back: usize) {
        let mut positions = self.sent.iter().rev().filter_map(|told| match told {
            Told::Message { to, position, .. } if *to == user => Some(*position),
            _ => None,
        });
        if let Some(up_to) = positions.nth(back) {
            self.stage(Told::Read { user, peer, up_to });
        }
    }

    fn stage(&mut self, told: Told) {
        let record = match &told {
            Told::Message { from, to, client_id, position, time_ms, ttl_s, relation, payload } => {
                Record {
                    stream_kind: 1,
                    stream: *to,
                    sender: *from,
                    device: 1,
                    client_id: *client_id,
                    position: *position,
                    time_ms: *time_ms,
                    ttl_s: *ttl_s,
                    body_kind: 5,
                    relation: relation.map(|relation| log::Relation {
                        kind: relation.kind,
                        sender: relation.target.sender,
                        device: relation.target.device,
                        client_id: relation.target.client_id,
                    }),
                    payload,
                    ..Record::blank(Kind::Message)
                }
            }
            Told::Read { user, peer, up_to } => Record {
                stream_kind: 1,
                stream: *user,
                peer: *peer,
                aux: *up_to,
                ..Record::blank(Kind::ReadMark)
            },
            Told::Ended { user } => {
                Record { stream_kind: 1, stream: *user, ..Record::blank(Kind::Ended) }
            }
        };
        if self.stage.append(Lane::Message, &record).is_err() {
            self.commit();
            self.stage.append(Lane::Message, &record).unwrap();
        }
        self.staged.push(told);
    }

    fn commit(&mut self) {
        self.stage.flush();
        for turn in 0..64 {
            self.committer.step(turn * 1_000_000_000);
            while self.stage.committed().is_some() {}
        }
        assert!(self.stage.is_idle());
        self.committed.append(&mut self.staged);
    }

    fn follow(&mut self) {
        let now_ms = self.now_ms;
        let now = self.now();
        self.history().catch_up(now).unwrap();
        for told in &self.committed[self.applied..] {
            self.model.apply(told, now_ms);
            self.is_unswept |= matches!(told, Told::Ended { .. });
        }
        self.applied = self.committed.len();
    }

    /// Both clocks stand at the same number: none was ever set.
    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: self.now_ms }
    }

    fn crash(&mut self, lost: bool) {
        self.history = None;
        if lost && let Some((files, model, applied)) = self.saved.take() {
            std::fs::remove_dir_all(self.place()).unwrap();
            std::fs::rename(files, self.place()).unwrap();
            self.model = model;
            self.applied = applied;
            self.is_unswept = true;
        }
        self.open();
    }

    // ---- what must hold --------------------------------------------------------------------

    fn check(&mut self) {
        let now_ms = self.now_ms;
        let model = self.model.clone();
        let mut living = Vec::new();
        for user in 1..=USERS {
            let list = self.list(user);
            for peer in 1..=USERS {
                let pair = (user, peer);
                let empty = Side::default();
                let side = model.sides.get(&pair).unwrap_or(&empty);
                let alive = side.items.values().filter(|item| model.expiry(pair, item) > now_ms);
                let expected: Vec<Kept> = alive.map(|item| item.0.clone()).collect();
                assert_eq!(self.all(pair, true), expected, "{pair:?}");
                let mut back = self.all(pair, false);
                back.reverse();
                assert_eq!(back, expected, "{pair:?}");
                living.extend(side.items.values().map(|item| item.0.payload.clone()));
                let unread = side.items.values().filter(|i| !i.2 && i.0.position > side.read);
                let state = list.iter().find(|state| state.stream == wire::Stream::User(peer));
                let Some(state) = state else {
                    assert_eq!((side.last, side.read), (0, 0), "{pair:?}");
                    continue;
                };
                assert_eq!((state.last, state.time_ms), (side.last, side.time_ms), "{pair:?}");
                assert_eq!(state.unread as usize, unread.count(), "{pair:?}");
                assert_eq!(state.retention, model.retention(pair), "{pair:?}");
            }
        }
        let mut found = payloads_in(&self.place());
        let mut kept: Vec<u64> = living.iter().filter_map(|payload| number_in(payload)).collect();
        for list in [&mut found, &mut kept] {
            list.sort_unstable();
            list.dedup();
        }
        if self.is_unswept {
            found.retain(|number| kept.contains(number));
        }
        assert_eq!(found, kept, "the files hold what somebody keeps, and nothing else");
    }

    fn all(&mut self, pair: (u64, u64), forwards: bool) -> Vec<Kept> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let question = Question::Page { peer: pair.1, from, forwards, limit: 2 };
            let now_ms = self.now_ms;
            let found = self.history().store().answer(pair.0, 1, question, now_ms).unwrap();
            let Found::Page { items, more } = found else { panic!("{found:?}") };
            assert!(items.len() <= 2 && (items.len() == 2 || !more));
            from = items.last().map_or(from, |item: &Kept| item.number);
            all.extend(items);
            if !more {
                return all;
            }
        }
    }

    fn list(&mut self, user: u64) -> Vec<wire::Conversation> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let question = Question::Conversations { after, limit: 1 };
            let found = self.history().store().answer(user, 9, question, 0).unwrap();
            let Found::Conversations { list, more } = found else { panic!("{found:?}") };
            assert!(list.iter().all(|state| state.request == 9));
            let Some(wire::Stream::User(last)) = list.last().map(|state| state.stream) else {
                return all;
            };
            after = last;
            all.extend(list);
            if !more {
                return all;
            }
        }
    }
}

fn open_log(disk: &SharedMemory) -> (Stage, Committer<SharedMemory>, u32) {
    let settings = Settings::small();
    let (recovered, _) = recover(disk.clone(), &settings, &mut |_, _| {}).unwrap();
    let epoch = next_epoch(recovered.highest_epoch, 0);
    let (mut stages, committer) = recovered.start(epoch, vec![Arc::new(NoWake)]).unwrap();
    (stages.remove(0), committer, epoch)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The numbers of all payloads in the files of a folder.
fn payloads_in(folder: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            numbers.extend(payloads_in(&path));
        } else {
            let bytes = std::fs::read(path).unwrap();
            numbers.extend(bytes.windows(8).filter_map(number_in));
        }
    }
    numbers
}

fn number_in(bytes: &[u8]) -> Option<u64> {
    let text = bytes.get(..8)?.strip_prefix(b"<")?.strip_suffix(b">")?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn history_is_what_the_log_told_whatever_crashes(
        events in vec(any_event(), 1..80),
        default in prop_oneof![
            3 => Just(Retention::Permanent),
            1 => (5_u32..40).prop_map(Retention::Seconds),
            1 => Just(Retention::UntilAcked),
        ],
    ) {
        let mut world = World::new(default);
        for event in &events {
            world.act(event);
            world.check();
        }
        world.act(&Event::Commit);
        world.act(&Event::Follow);
        world.check();
        world.now_ms += 1_000_000;
        world.act(&Event::Sweep);
        world.check();
    }
}

/// Users with much history end, and the process dies on the way: no look does more than its share.
#[test]
fn what_a_user_leaves_is_removed_piece_by_piece_whatever_crashes() {
    let mut world = World::new(Retention::Permanent);
    world.rules.items_max = 5_000;
    world.act(&Event::Crash { lost: false });
    let count = crate::limits::HISTORY_SWEEP_ITEMS_MAX as u64 + 300;
    for _ in 0..count {
        world.send(1, 1, 30, 0, None, false);
    }
    world.send(1, 2, 30, 0, None, false);
    world.act(&Event::End { user: 1 });
    world.act(&Event::Commit);
    world.act(&Event::Follow);
    assert_eq!(payloads_in(&world.place()).len() as u64, count + 1);
    world.act(&Event::Crash { lost: false });
    assert!(world.all((1, 1), true).is_empty(), "nobody sees what is to go");
    let now_ms = world.now_ms;
    assert!(world.history().store().sweep(now_ms).unwrap(), "there is more");
    let left = payloads_in(&world.place()).len();
    assert!((301..=302).contains(&left), "{left}");
    world.act(&Event::Crash { lost: false });
    assert!(!world.history().store().sweep(now_ms).unwrap());
    world.is_unswept = false;
    world.model.sides.retain(|pair, _| pair.0 != 1);
    assert_eq!(payloads_in(&world.place()), [count + 1], "what 2 received stays");
    world.check();
}

const DAY_MS: u64 = 24 * 3_600_000;

/// What one device of user 1 is told of the conversation with user 2, through the thread's door.
fn told(world: &mut World, now: Now) -> usize {
    let conn = Token { index: 0, generation: 1 };
    let question = Question::Page { peer: 2, from: 0, forwards: true, limit: 10 };
    let answer =
        world.history().answer(&Ask { shard: 0, conn, user: 1, request: 1, question }, now);
    let Found::Page { items, .. } = answer.found else { panic!("{answer:?}") };
    items.len()
}

/// A message that is kept for 30 days and was said now, in a history that `held` or not.
fn said(held: bool) -> World {
    let mut world = World::new(Retention::Seconds(30 * 24 * 3_600));
    world.send(1, 2, 40, 0, None, false);
    world.commit();
    let now = world.now();
    world.history().expiry = ExpiryClock::new(now, held);
    world
}

#[test]
fn a_wall_clock_that_is_set_ahead_ends_nothing() {
    let mut world = said(false);
    let go = AtomicBool::new(false);
    let start = world.now();
    // Applied, told and swept while the clock is wrong.
    for seconds in 1..=4 {
        let mono_ms = start.mono_ms + seconds * 1_000;
        let now = Now { mono_ms, wall_ms: start.wall_ms + 40 * DAY_MS };
        while world.history().step(now, &go) {}
        assert_eq!(told(&mut world, now), 1);
    }
    assert_eq!(payloads_in(&world.place()), [1], "and it is still in the files");
    // The same time, when it has really passed.
    let now = Now { mono_ms: start.mono_ms + 40 * DAY_MS, wall_ms: start.wall_ms + 40 * DAY_MS };
    while world.history().step(now, &go) {}
    assert_eq!(told(&mut world, now), 0);
    assert_eq!(payloads_in(&world.place()), [0_u64; 0]);
}

#[test]
fn while_expiry_is_held_nothing_ends() {
    let mut world = said(true);
    let go = AtomicBool::new(false);
    let later = world.now_ms + 40 * DAY_MS;
    let now = Now { mono_ms: later, wall_ms: later };
    while world.history().step(now, &go) {}
    assert_eq!(told(&mut world, now), 1);
    assert_eq!(payloads_in(&world.place()), [1]);
}

#[test]
fn what_can_never_be_cured_by_trying_again_is_told_apart() {
    assert!(HistoryError::Damaged("an item").is_final());
    assert!(HistoryError::Log(FollowError::Lost(7)).is_final());
    let refused = || std::io::Error::other("refused");
    assert!(!HistoryError::Payloads(refused()).is_final());
    let io = RecoverError::Io { what: "reading".to_owned(), error: refused() };
    assert!(!HistoryError::Log(FollowError::Log(io)).is_final());
}
