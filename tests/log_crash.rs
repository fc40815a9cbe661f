//! The log against a disk that loses power, fails, fills up, and a process that dies: what was
//! announced is kept, in order, once; nothing is made up; a granted append never fails.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use myriad::log::{
    At, Committer, Faults, Health, Kind, Lane, Reader, Record, RecoverError, Refused, Settings,
    SharedMemory, Stage, Step, StoreReader, Ticket, Wake, next_epoch, recover,
};
use proptest::collection::vec;
use proptest::prelude::*;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

const SHARDS: usize = 2;

/// What a log under test is asked to do.
#[derive(Clone, Debug)]
enum Action {
    Append { shard: usize, bytes: usize, reserve: bool },
    Flush { shard: usize },
    Step,
    Full { more: u64 },
    Roomy,
    FailSync { after: u32 },
    FailWrite { after: u32 },
    Kill { power: bool, survivors: u64, again: Option<u32> },
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        40 => (0..SHARDS, 0_usize..3000, any::<bool>())
            .prop_map(|(shard, bytes, reserve)| Action::Append { shard, bytes, reserve }),
        20 => (0..SHARDS).prop_map(|shard| Action::Flush { shard }),
        25 => Just(Action::Step),
        1 => (0_u64..3).prop_map(|more| Action::Full { more }),
        2 => Just(Action::Roomy),
        1 => (0_u32..4).prop_map(|after| Action::FailSync { after }),
        1 => (0_u32..4).prop_map(|after| Action::FailWrite { after }),
        5 => (any::<bool>(), any::<u64>(), proptest::option::of(0_u32..14))
            .prop_map(|(power, survivors, again)| Action::Kill { power, survivors, again }),
    ]
}

/// A small generator, so that which sectors survive follows from one number.
fn coin(state: &mut u64) -> bool {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 60) & 1 == 1
}

fn payload(id: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|n| (id * 31 + n).to_le_bytes()[0]).collect()
}

/// A log, and what must be true of it.
struct World {
    disk: SharedMemory,
    settings: Settings,
    stages: Vec<Stage>,
    committer: Committer<SharedMemory>,
    now_us: u64,
    epoch: u32,
    next_id: u64,
    /// By id: shard, payload length.
    staged: BTreeMap<u64, (usize, usize)>,
    /// Tickets not yet announced, per shard.
    waiting: Vec<Vec<(Ticket, u64)>>,
    /// Ids announced or recovered, with their places.
    kept: BTreeMap<u64, At>,
    failed: bool,
}

impl World {
    fn new(settings: Settings) -> Self {
        let disk = SharedMemory::new();
        let (recovered, report) = recover(disk.clone(), &settings, &mut |_, _| {}).unwrap();
        assert_eq!(report.records, 0);
        let epoch = next_epoch(recovered.highest_epoch, 0);
        let (stages, committer) = recovered.start(epoch, wakes()).unwrap();
        Self {
            disk,
            settings,
            stages,
            committer,
            now_us: 0,
            epoch,
            next_id: 1,
            staged: BTreeMap::new(),
            waiting: vec![Vec::new(); SHARDS],
            kept: BTreeMap::new(),
            failed: false,
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Append { shard, bytes, reserve } => self.append(shard, bytes, reserve),
            Action::Flush { shard } => self.stages[shard].flush(),
            Action::Step => self.step(),
            Action::Full { more } => {
                let used = self.bytes_on_disk();
                let bytes_max = Some(used + more * self.settings.segment_bytes);
                self.disk.set_faults(Faults { bytes_max, ..Faults::default() });
            }
            Action::Roomy => self.disk.set_faults(Faults::default()),
            Action::FailSync { after } => {
                self.disk.set_faults(Faults { failing_sync: Some(after), ..Faults::default() });
            }
            Action::FailWrite { after } => {
                self.disk.set_faults(Faults { failing_write: Some(after), ..Faults::default() });
            }
            Action::Kill { power, survivors, again } => self.restart(power, survivors, again),
        }
    }

    fn bytes_on_disk(&self) -> u64 {
        let count = (1..200).filter(|segment| self.disk.image(*segment).is_some()).count() as u64;
        count * self.settings.segment_bytes
    }

    fn append(&mut self, shard: usize, bytes: usize, reserve: bool) {
        let id = self.next_id;
        let body = payload(id, bytes);
        let record = Record {
            stream_kind: 1,
            stream: shard as u64,
            position: u64::from(self.epoch) << 32 | id,
            client_id: id,
            time_ms: id,
            payload: &body,
            ..Record::blank(if reserve { Kind::Cursor } else { Kind::Message })
        };
        let lane = if reserve { Lane::Reserve } else { Lane::Message };
        match self.stages[shard].append(lane, &record) {
            Ok(ticket) => {
                self.next_id += 1;
                self.staged.insert(id, (shard, bytes));
                self.waiting[shard].push((ticket, id));
            }
            Err(Refused::Failed) => assert_eq!(self.stages[shard].health(), Health::Failed),
            Err(Refused::Full | Refused::Busy) => {}
        }
    }

    fn step(&mut self) {
        self.now_us += 2_000;
        match self.committer.step(self.now_us) {
            Step::Failed(_) => self.failed = true,
            Step::Committed { records, .. } => {
                assert!(!self.failed, "nothing is committed after a failure");
                assert!(records > 0);
            }
            Step::Idle { .. } => {}
        }
        for shard in 0..SHARDS {
            while let Some(placed) = self.stages[shard].committed() {
                assert!(!self.failed, "nothing is announced after a failure");
                let waiting = &mut self.waiting[shard];
                let count = waiting.iter().take_while(|(t, _)| t.batch == placed.batch).count();
                assert!(count > 0, "batches come back in order");
                for (ticket, id) in waiting.drain(..count) {
                    self.kept.insert(id, placed.at(ticket));
                }
            }
        }
    }

    /// Everything granted becomes durable without the disk growing any further.
    fn drain(&mut self) {
        for _ in 0..200 {
            if self.failed || self.stages.iter().all(Stage::is_idle) {
                return;
            }
            for stage in &mut self.stages {
                stage.flush();
            }
            self.now_us += 2_000_000;
            self.step();
        }
        panic!("what was granted is never committed: {:?}", self.committer);
    }

    fn restart(&mut self, power: bool, mut survivors: u64, again: Option<u32>) {
        if power {
            self.disk.cut_power(&mut |_, _| coin(&mut survivors));
        }
        if let Some(dies_after) = again {
            // The process dies while it recovers, and then the power goes.
            let before = self.disk.fork();
            self.disk.set_faults(Faults { dies_after: Some(dies_after), ..Faults::default() });
            let highest = open(&self.disk, &self.settings).map(|opened| opened.epoch);
            drop(before);
            self.disk.cut_power(&mut |_, _| coin(&mut survivors));
            if let Ok(epoch) = highest {
                self.epoch = self.epoch.max(epoch);
            }
        }
        self.disk.set_faults(Faults::default());
        let opened = open(&self.disk, &self.settings).expect("a crash is always recovered");
        assert!(opened.epoch > self.epoch, "epochs rise");
        self.epoch = opened.epoch;
        self.check(&opened.found);
        self.kept = opened.found.iter().map(|(id, at)| (*id, *at)).collect();
        self.staged.retain(|id, _| self.kept.contains_key(id));
        self.waiting = vec![Vec::new(); SHARDS];
        self.stages = opened.stages;
        self.committer = opened.committer;
        self.failed = false;
        self.read_back();
    }

    fn check(&self, found: &[(u64, At)]) {
        let ids: Vec<u64> = found.iter().map(|(id, _)| *id).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "no record is there twice: {ids:?}");
        for id in self.kept.keys() {
            assert!(unique.binary_search(id).is_ok(), "record {id} was announced and is lost");
        }
        for shard in 0..SHARDS {
            let mine: Vec<u64> =
                ids.iter().copied().filter(|id| self.staged[id].0 == shard).collect();
            assert!(mine.is_sorted(), "order of shard {shard}: {mine:?}");
        }
        assert!(found.iter().map(|(_, at)| *at).is_sorted(), "places rise");
    }

    /// Every record that is kept can be read where it is said to be.
    fn read_back(&self) {
        let mut reader = StoreReader::new(self.disk.clone());
        for (id, at) in &self.kept {
            let record = reader.read(*at).unwrap_or_else(|| panic!("record {id} at {at:?}"));
            assert_eq!(record.client_id, *id);
            assert_eq!(record.payload, payload(*id, self.staged[id].1));
        }
    }
}

fn wakes() -> Vec<Arc<dyn Wake>> {
    (0..SHARDS).map(|_| Arc::new(NoWake) as Arc<dyn Wake>).collect()
}

struct Opened {
    found: Vec<(u64, At)>,
    epoch: u32,
    stages: Vec<Stage>,
    committer: Committer<SharedMemory>,
}

fn open(disk: &SharedMemory, settings: &Settings) -> Result<Opened, RecoverError> {
    let mut found = Vec::new();
    let (recovered, _) = recover(disk.clone(), settings, &mut |at, record| {
        if matches!(record.kind, Kind::Message | Kind::Cursor) {
            found.push((record.client_id, at));
        }
    })?;
    let epoch = next_epoch(recovered.highest_epoch, 0);
    let (stages, committer) = recovered
        .start(epoch, wakes())
        .map_err(|error| RecoverError::Io { what: "starting".to_owned(), error })?;
    Ok(Opened { found, epoch, stages, committer })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("LOG_CASES").map_or(600, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Acked is kept, once and in order, through power cuts, kills, deaths during recovery, full
    /// disks and failing writes and syncs.
    #[test]
    fn what_was_announced_is_kept(
        actions in vec(any_action(), 1..120), lazy: bool, pages in 4_u64..32,
    ) {
        let lazy_ms = if lazy { 50 } else { 0 };
        let segment_bytes = pages * 4096;
        let mut world = World::new(Settings { lazy_ms, segment_bytes, ..Settings::small() });
        for action in &actions {
            world.act(action);
        }
        world.restart(true, 0, None);
    }

    /// A granted append is never refused later, whatever the disk's size: everything staged on a
    /// disk that is or gets full becomes durable.
    #[test]
    fn a_granted_append_always_finds_room(
        actions in vec(prop_oneof![
            5 => (0..SHARDS, 0_usize..3900, any::<bool>())
                .prop_map(|(shard, bytes, reserve)| Action::Append { shard, bytes, reserve }),
            2 => (0..SHARDS).prop_map(|shard| Action::Flush { shard }),
            1 => Just(Action::Step),
        ], 1..150),
        segments in 1_u64..6,
        pages in 4_u64..12,
        batch_pages in 1_usize..3,
    ) {
        let settings = Settings {
            segment_bytes: pages.max(2 + 2 * batch_pages as u64) * 4096,
            batch_bytes: batch_pages * 4096 - 64,
            log_bytes_max: Some(segments * pages.max(2 + 2 * batch_pages as u64) * 4096),
            ..Settings::small()
        };
        let mut world = World::new(settings);
        for action in &actions {
            world.act(action);
        }
        world.drain();
        prop_assert!(!world.failed);
        world.read_back();
        prop_assert!(world.bytes_on_disk() <= settings.log_bytes_max.unwrap());
    }
}

/// Segments large enough that none has to be made in the middle of a test.
fn medium() -> Settings {
    Settings { segment_bytes: 256 * 1024, ..Settings::small() }
}

/// One shard, a few messages, each a commit.
fn short_log(settings: &Settings, messages: u64) -> World {
    let mut world = World::new(*settings);
    for _ in 0..messages {
        world.append(0, 1000, false);
        world.stages[0].flush();
        world.step();
    }
    assert_eq!(world.kept.len() as u64, messages);
    world
}

#[test]
fn every_subset_of_the_last_commits_sectors_is_a_torn_tail_or_the_whole() {
    let mut world = short_log(&medium(), 1);
    world.append(0, 2900, false);
    world.stages[0].flush();
    // The sync of the second message fails: it is never announced, its sectors are in limbo.
    let before = world.disk.fork();
    world.disk.set_faults(Faults { dies_after: Some(1), ..Faults::default() });
    world.step();
    assert!(world.failed);
    let dirty = world.disk.dirty();
    assert_eq!(dirty.len(), 8, "a page");
    drop(before);
    for subset in 0..1_u32 << dirty.len() {
        let disk = world.disk.fork();
        disk.cut_power(&mut |segment, sector| {
            let nth = dirty.iter().position(|d| *d == (segment, sector)).unwrap();
            subset & 1 << nth != 0
        });
        let opened = open(&disk, &world.settings).unwrap();
        let ids: Vec<u64> = opened.found.iter().map(|(id, _)| *id).collect();
        // Head 64, record 88 + 2900: six sectors carry it, the rest is padding.
        let whole = subset & 0b11_1111 == 0b11_1111;
        assert_eq!(ids, if whole { vec![1, 2] } else { vec![1] }, "subset {subset:08b}");
    }
}

#[test]
fn damage_before_a_durable_boundary_is_an_error_with_place_and_users() {
    let world = short_log(&Settings::small(), 5);
    let first = world.kept[&1];
    for (id, at) in &world.kept {
        let disk = world.disk.fork();
        disk.corrupt(at.segment, at.offset as usize + 90, &mut |byte| byte ^ 1);
        let result = open(&disk, &world.settings);
        if *id == 5 {
            assert_eq!(result.unwrap().found.len(), 4, "nothing proves that the last was durable");
            continue;
        }
        let Err(RecoverError::Corrupt(corrupt)) = result else { panic!("record {id}: no error") };
        assert_eq!(corrupt.at.segment, at.segment);
        assert_eq!(corrupt.at.offset, at.offset - 64, "the commit it is in");
        assert_eq!(corrupt.users, [0]);
        assert_eq!(corrupt.commit, id + 1);
    }
    let disk = world.disk.fork();
    disk.corrupt(first.segment, 30, &mut |byte| byte ^ 1);
    assert!(matches!(open(&disk, &world.settings), Err(RecoverError::Corrupt(_))), "a head");
}

#[test]
fn damage_leaves_the_disk_as_it_was() {
    let world = short_log(&Settings::small(), 5);
    let at = world.kept[&2];
    world.disk.corrupt(at.segment, at.offset as usize + 90, &mut |byte| byte ^ 1);
    let images = || (1..9).map(|segment| world.disk.image(segment)).collect::<Vec<_>>();
    let before = images();
    assert!(open(&world.disk, &world.settings).is_err());
    assert_eq!(images(), before);
}

#[test]
fn a_missing_segment_is_an_error() {
    let world = short_log(&Settings::small(), 8);
    let mut removed = 0;
    for segment in 1..world.kept[&8].segment {
        let disk = world.disk.fork();
        if disk.image(segment).is_none() {
            continue;
        }
        myriad::log::Store::remove(&mut disk.clone(), segment).unwrap();
        let result = open(&disk, &world.settings);
        assert!(matches!(result, Err(RecoverError::Corrupt(_))), "segment {segment}");
        removed += 1;
    }
    assert!(removed >= 2);
}

#[test]
fn what_an_earlier_use_of_a_segment_left_never_verifies() {
    let world = short_log(&Settings::small(), 2);
    let at = world.kept[&2];
    // The same bytes under the head of another generation.
    let stale = world.disk.image(at.segment).unwrap();
    let mut recovered = open(&world.disk, &world.settings).unwrap();
    let now = recovered.found.last().unwrap().1;
    assert_ne!(now.segment, at.segment);
    let fresh = world.disk.image(now.segment).unwrap();
    let mut mixed = fresh[..4096].to_vec();
    mixed.extend_from_slice(&stale[4096..]);
    let disk = SharedMemory::new();
    disk.put(now.segment, &mixed);
    let mut reader = StoreReader::new(disk);
    assert_eq!(reader.read(At { segment: now.segment, offset: at.offset }), None);
    assert!(recovered.stages[0].committed().is_none());
}

#[test]
fn a_failed_sync_answers_nobody_and_is_final() {
    let mut world = short_log(&medium(), 1);
    world.disk.set_faults(Faults { failing_sync: Some(0), ..Faults::default() });
    world.append(0, 10, false);
    world.append(1, 10, false);
    world.stages[0].flush();
    world.stages[1].flush();
    world.step();
    assert!(world.failed);
    world.step();
    assert_eq!(world.kept.len(), 1);
    assert!(!world.stages[0].is_idle());
    for stage in &mut world.stages {
        assert_eq!(stage.health(), Health::Failed);
        let refused = stage.append(Lane::Reserve, &Record::blank(Kind::Cursor));
        assert_eq!(refused, Err(Refused::Failed));
    }
    let (writes, _) = world.disk.counts();
    world.step();
    assert_eq!(world.disk.counts().0, writes, "nothing is written any more");
}

#[test]
fn what_only_the_page_cache_had_is_durable_before_anything_is_served() {
    let mut world = short_log(&medium(), 1);
    world.append(0, 10, false);
    world.stages[0].flush();
    world.disk.set_faults(Faults { failing_sync: Some(0), ..Faults::default() });
    world.step();
    // The process restarts, the power stays: the commit reads as whole, and the kernel has
    // forgotten that it is not on the disk.
    let opened = open(&world.disk, &world.settings).unwrap();
    assert_eq!(opened.found.len(), 2);
    world.disk.cut_power(&mut |_, _| false);
    let opened = open(&world.disk, &world.settings).unwrap();
    assert_eq!(opened.found.len(), 2, "it was served, so it has to stay");
}

#[test]
fn so_it_is_when_the_log_goes_on_in_place_for_want_of_room() {
    let settings = Settings { log_bytes_max: Some(256 * 1024), ..medium() };
    let mut world = short_log(&settings, 3);
    world.append(0, 10, false);
    world.stages[0].flush();
    world.disk.set_faults(Faults { failing_sync: Some(0), ..Faults::default() });
    world.step();
    assert!(world.failed);
    let opened = open(&world.disk, &settings).unwrap();
    assert_eq!(opened.found.len(), 4);
    assert_eq!(opened.found[0].1, world.kept[&1], "in place");
    world.disk.cut_power(&mut |_, _| false);
    let opened = open(&world.disk, &settings).unwrap();
    assert_eq!(opened.found.len(), 4, "it was served, so it has to stay");
}

#[test]
fn a_torn_tail_is_reported_once_and_then_gone() {
    for (settings, commits) in [(medium(), 1), (Settings::small(), 2)] {
        let mut left = 0;
        // Dies in the middle of each write in turn; the one of the commit leaves half of it.
        let torn = loop {
            let mut world = short_log(&settings, commits);
            world.append(0, 2900, false);
            world.stages[0].flush();
            let disk = world.disk.clone();
            disk.set_faults(Faults { dies_after: Some(left), ..Faults::default() });
            world.step();
            disk.cut_power(&mut |_, _| true);
            let report = recover(disk.fork(), &settings, &mut |_, _| {}).unwrap().1;
            if report.torn.is_some() {
                break disk;
            }
            left += 1;
            assert!(left < 20, "no write left a torn tail");
        };
        assert_eq!(open(&torn, &settings).unwrap().found.len() as u64, commits);
        let report = recover(torn.fork(), &settings, &mut |_, _| {}).unwrap().1;
        assert_eq!(report.torn, None);
    }
}

#[test]
fn restarts_do_not_leave_a_trail_of_segments() {
    let world = short_log(&Settings { segment_bytes: 64 * 1024, ..Settings::small() }, 2);
    for _ in 0..12 {
        assert_eq!(open(&world.disk, &world.settings).unwrap().found.len(), 2);
    }
    let segments = (1..40).filter(|segment| world.disk.image(*segment).is_some()).count();
    assert!(segments <= 4, "{segments} segments after 12 restarts");
}

#[test]
fn a_full_disk_refuses_messages_takes_acks_restarts_and_recovers_by_itself() {
    let settings = Settings { log_bytes_max: Some(256 * 1024), ..medium() };
    let mut world = World::new(settings);
    let mut messages = 0;
    loop {
        world.append(0, 3000, false);
        world.stages[0].flush();
        world.step();
        if world.kept.len() == messages {
            break;
        }
        messages += 1;
    }
    assert!(messages > 40, "{messages}");
    assert_eq!(world.stages[0].health(), Health::Full);
    let message = Record::blank(Kind::Message);
    assert_eq!(world.stages[1].append(Lane::Message, &message), Err(Refused::Full));
    world.append(1, 0, true);
    world.drain();
    assert_eq!(world.kept.len(), messages + 1);
    // A restart on the full disk goes on in place, and still has everything.
    let mut opened = open(&world.disk, &settings).unwrap();
    assert_eq!(opened.found.len(), messages + 1);
    world.disk.cut_power(&mut |_, _| false);
    opened = open(&world.disk, &settings).unwrap();
    assert_eq!(opened.found.len(), messages + 1);
    assert_eq!(opened.stages[0].append(Lane::Message, &message), Err(Refused::Full));
    // However often: no start uses up what the next one needs.
    for _ in 0..200 {
        opened = open(&world.disk, &settings).unwrap();
        assert!(opened.epoch > world.epoch, "epochs rise");
        world.epoch = opened.epoch;
    }
    assert_eq!(opened.found.len(), messages + 1);
    // With more room it is good again by itself.
    drop(opened);
    let mut opened = open(&world.disk, &Settings { log_bytes_max: None, ..settings }).unwrap();
    assert!(matches!(opened.committer.step(2_000_000), Step::Idle { .. }));
    assert_eq!(opened.stages[0].health(), Health::Good);
    assert!(opened.stages[0].append(Lane::Message, &message).is_ok());
}

#[test]
fn room_returns_while_running_when_the_disk_has_some_again() {
    let mut world = World::new(Settings::small());
    let used = world.bytes_on_disk();
    world.disk.set_faults(Faults { bytes_max: Some(used), ..Faults::default() });
    for _ in 0..30 {
        world.append(0, 3000, false);
        world.stages[0].flush();
        world.step();
    }
    assert_eq!(world.stages[0].health(), Health::Full);
    assert!(world.committer.trouble().is_some());
    world.disk.set_faults(Faults::default());
    world.step();
    assert_eq!(world.stages[0].health(), Health::Full, "tried again a second later");
    world.now_us += 1_000_000;
    world.step();
    assert_eq!(world.stages[0].health(), Health::Good);
    assert_eq!(world.committer.trouble(), None);
}

#[test]
fn commits_are_paced_and_lazy_records_wait_for_company() {
    let settings = Settings { commit_gap_us: 1_000, lazy_ms: 50, ..Settings::default() };
    let disk = SharedMemory::new();
    let (recovered, _) = recover(disk, &settings, &mut |_, _| {}).unwrap();
    let (mut stages, mut committer) = recovered.start(1, wakes()).unwrap();
    let message = Record::blank(Kind::Message);
    let cursor = Record::blank(Kind::Cursor);
    // With nothing to do it sleeps until the next checkpoint, hours away.
    let Step::Idle { until_us: Some(until_us) } = committer.step(0) else { panic!("it is idle") };
    assert!(until_us > 3_600_000_000);
    // Alone and after a pause: at once.
    stages[0].append(Lane::Message, &message).unwrap();
    stages[0].flush();
    assert!(matches!(committer.step(10_000), Step::Committed { batches: 1, records: 1, .. }));
    // The next waits for the gap, which starts when the commit has ended.
    stages[0].append(Lane::Message, &message).unwrap();
    stages[0].flush();
    committer.note_end(10_300);
    assert_eq!(committer.step(10_300), Step::Idle { until_us: Some(11_300) });
    stages[1].append(Lane::Message, &message).unwrap();
    stages[1].flush();
    assert!(matches!(committer.step(11_300), Step::Committed { batches: 2, .. }));
    // A cursor waits for a message, or 50 ms.
    stages[0].append(Lane::Reserve, &cursor).unwrap();
    stages[0].flush();
    assert_eq!(committer.step(20_000), Step::Idle { until_us: Some(70_000) });
    stages[1].append(Lane::Message, &message).unwrap();
    stages[1].flush();
    assert!(matches!(committer.step(21_000), Step::Committed { batches: 2, .. }));
    stages[0].append(Lane::Reserve, &cursor).unwrap();
    stages[0].flush();
    assert_eq!(committer.step(30_000), Step::Idle { until_us: Some(80_000) });
    assert!(matches!(committer.step(80_000), Step::Committed { batches: 1, .. }));
    // Unless somebody waits for it.
    stages[0].append_urgent(Lane::Reserve, &cursor).unwrap();
    stages[0].flush();
    assert!(matches!(committer.step(90_000), Step::Committed { batches: 1, .. }));
}

#[test]
fn a_message_behind_lazy_batches_does_not_wait_for_them() {
    let settings = Settings { batches_per_shard: 2, ..Settings::small() };
    let mut world = World::new(settings);
    world.append(0, 10, true);
    world.stages[0].flush();
    assert!(matches!(world.committer.step(1_000), Step::Idle { until_us: Some(_) }));
    world.append(0, 10, false);
    world.stages[0].flush();
    world.now_us = 1_000;
    world.step();
    world.stages[0].flush();
    world.step();
    assert_eq!(world.kept.len(), 2);
}

#[test]
fn a_full_ring_is_back_pressure() {
    let mut world = World::new(Settings::small());
    let mut granted = 0;
    loop {
        let before = world.staged.len();
        world.append(0, 3900, false);
        world.stages[0].flush();
        if world.staged.len() == before {
            break;
        }
        granted += 1;
    }
    assert!(granted <= 4);
    assert_eq!(world.stages[0].health(), Health::Good);
    world.drain();
    assert_eq!(world.kept.len(), granted);
    world.append(0, 3900, false);
    assert_eq!(world.staged.len(), granted + 1);
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let small = Settings::small();
    for settings in [
        Settings { segment_bytes: 16_385, ..small },
        Settings { segment_bytes: 1 << 33, ..small },
        Settings { segment_bytes: 12_288, ..small },
        Settings { batch_bytes: 50, ..small },
        Settings { batches_per_shard: 1, ..small },
    ] {
        let result = recover(SharedMemory::new(), &settings, &mut |_, _| {});
        assert!(matches!(result, Err(RecoverError::Settings(_))), "{settings:?}");
    }
    assert!(small.check().is_ok() && Settings::default().check().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_recovered_from_or_refused(mut input in vec(any::<u8>(), 0..20_000)) {
        if let Some(mode) = input.first_mut() {
            *mode = 0;
        }
        myriad::log::fuzz_recover(&input);
    }

    #[test]
    fn any_damage_gives_an_error_or_a_beginning(
        changes in vec((any::<bool>(), 0_u16..16_384, 1_u8..), 1..8),
    ) {
        let mut input = vec![1];
        for (segment, offset, change) in changes {
            let [high, low] = offset.to_be_bytes();
            input.extend([u8::from(segment), high, low, change]);
        }
        myriad::log::fuzz_recover(&input);
    }
}
