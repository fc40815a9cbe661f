//! Checkpoints: what a restart reads, what is freed, and the bytes of version 1.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail by panicking, and its numbers are small"
)]

use std::sync::Arc;

use myriad::log::{
    At, CHECKPOINT_END, CHECKPOINT_IMAGE, Committer, Kind, Lane, LiveReport, Phase, Placed,
    Reader as _, Record, Settings, SharedMemory, Stage, Step, Store as _, StoreReader, Ticket,
    Wake, next_epoch, recover,
};
use myriad::path::Rules;
use myriad::path::image::{self, Walk};
use myriad::path::replay::{Replay, ReplayError};
use myriad::state::Tables;
use myriad::state::placement::Placement;

const WALL_MS: u64 = 1_767_225_600_000;
const GOLDEN: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/log/version-1-checkpoint.seg");

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// A log with one shard, and what that shard would remember.
struct World {
    disk: SharedMemory,
    stage: Stage,
    committer: Committer<SharedMemory>,
    tables: Tables,
    epoch: u32,
    now_us: u64,
    next: u64,
    /// Messages on their way to the log.
    waiting: Vec<(Ticket, Record<'static>)>,
}

fn settings() -> Settings {
    let (never, small) = (u64::MAX / 1_000, Settings::small());
    Settings { checkpoint_gap_ms: 0, checkpoint_ms_max: never, scrub_age_ms: never, ..small }
}

fn tables() -> [Tables; 1] {
    [Tables::new(8, 64, 64)]
}

fn replay(disk: &SharedMemory) -> Result<(Tables, usize, u32), ReplayError> {
    let mut tables = tables();
    let mut replay = Replay::new(Placement::new(1), &Rules::default());
    let (mut fits, mut count) = (Ok(()), 0);
    let (recovered, _) = recover(disk.fork(), &settings(), &mut |at, record| {
        count += 1;
        if fits.is_ok() {
            fits = replay.record(&mut tables, at, record);
        }
    })
    .unwrap();
    fits?;
    replay.finish()?;
    recovered.check_live(tables[0].live.segments()).unwrap();
    let [tables] = tables;
    Ok((tables, count, recovered.highest_epoch))
}

impl World {
    fn open(disk: SharedMemory) -> Self {
        disk.reopen();
        let mut tables = tables();
        let mut replay = Replay::new(Placement::new(1), &Rules::default());
        let (recovered, _) = recover(disk.clone(), &settings(), &mut |at, record| {
            replay.record(&mut tables, at, record).unwrap();
        })
        .unwrap();
        let epoch = next_epoch(recovered.highest_epoch, 0);
        let (mut stages, committer) = recovered.start(epoch, vec![Arc::new(NoWake)]).unwrap();
        let [tables] = tables;
        let (stage, next) = (stages.remove(0), 0);
        Self { disk, stage, committer, tables, epoch, now_us: 0, next, waiting: Vec::new() }
    }

    /// Makes everything staged durable and takes note of it.
    fn commit(&mut self) {
        self.stage.flush();
        for _ in 0..20 {
            self.now_us += 1_000_000;
            assert!(!matches!(self.committer.step(self.now_us), Step::Failed(_)));
            while let Some(placed) = self.stage.committed() {
                self.place(placed);
            }
        }
    }

    fn place(&mut self, placed: Placed) {
        let mut replay = Replay::new(Placement::new(1), &Rules::default());
        let done = self.waiting.iter().take_while(|(it, _)| it.batch == placed.batch).count();
        for (ticket, record) in self.waiting.drain(..done) {
            let tables = std::slice::from_mut(&mut self.tables);
            replay.record(tables, placed.at(ticket), &record).unwrap();
        }
    }

    fn append(&mut self, record: Record<'static>) {
        let ticket = self.stage.append(Lane::Reserve, &record).unwrap();
        self.waiting.push((ticket, record));
        self.commit();
    }

    fn device(&mut self, user: u64) {
        let record =
            Record { stream_kind: 1, stream: user, device: 1, ..Record::blank(Kind::Device) };
        self.append(Record { time_ms: WALL_MS, ..record });
    }

    fn message(&mut self, to: u64, payload: &'static [u8]) -> u64 {
        self.next += 1;
        let position = u64::from(self.epoch) << 32 | self.next;
        self.append(Record {
            stream_kind: 1,
            stream: to,
            position,
            sender: 3 - to,
            device: 1,
            client_id: self.next,
            time_ms: WALL_MS + self.next,
            ttl_s: if self.next.is_multiple_of(2) { 3_600 } else { 0 },
            request_crc: 77,
            payload,
            ..Record::blank(Kind::Message)
        });
        position
    }

    fn ack(&mut self, user: u64, up_to: u64) {
        let record =
            Record { stream_kind: 1, stream: user, device: 1, ..Record::blank(Kind::Cursor) };
        self.append(Record { aux: up_to, time_ms: WALL_MS, ..record });
    }

    /// A shard's part in a checkpoint, up to where `cut` says.
    fn checkpoint(&mut self, cut: Option<&str>) {
        self.stage.want_checkpoint();
        let number = loop {
            self.commit();
            match self.stage.phase() {
                Phase::Settle(_) => self.stage.settled(),
                Phase::Image(number) => break number,
                Phase::None => {}
            }
        };
        let part = |body_kind, payload| Record {
            body_kind,
            position: u64::from(self.epoch) << 32,
            time_ms: WALL_MS,
            aux: number,
            payload,
            ..Record::blank(Kind::Checkpoint)
        };
        let mut walk = Walk::START;
        let mut pieces = Vec::new();
        while walk != Walk::Done {
            let mut piece = Vec::new();
            walk = image::write(&self.tables, walk, 1_000, &mut piece);
            pieces.push(piece);
        }
        for piece in &pieces {
            self.stage.append(Lane::Image, &part(CHECKPOINT_IMAGE, piece)).unwrap();
        }
        if cut == Some("before END") {
            return self.commit();
        }
        self.stage.append(Lane::Image, &part(CHECKPOINT_END, &[])).unwrap();
        self.commit();
        let live = self.tables.live.report().live;
        self.stage.report(LiveReport { live, to_scrub: Vec::new() });
        self.commit();
        assert_ne!(self.stage.phase(), Phase::Image(number));
        self.commit();
    }

    fn segments(&self) -> Vec<u32> {
        let mut segments = self.disk.segments().unwrap();
        segments.sort_unstable();
        segments
    }
}

/// What a user would notice of tables: waiting mail, cursors, answers.
fn essence(tables: &mut Tables) -> Vec<String> {
    let mut lines = Vec::new();
    for index in 0..tables.users.count() as u32 {
        let user = tables.users.user(index);
        let (id, tail, has) = (user.id, user.tail, user.has);
        let waiting: Vec<_> = tables
            .inboxes
            .get(user.inbox)
            .into_iter()
            .flat_map(|inbox| inbox.after(0).map(|it| (it.position, it.due_s())))
            .collect();
        lines.push(format!("user {id} tail {tail:x} has {has:x} waiting {waiting:x?}"));
        for device in tables.users.devices_of(index).collect::<Vec<_>>() {
            let here = tables.users.device(device);
            let (cursor, top, window) = (here.cursor, here.top, here.window);
            let mut answers: Vec<_> = tables.windows.of(window).copied().collect();
            answers.sort_unstable_by_key(|answer| answer.client_id);
            lines.push(format!("  device cursor {cursor:x} top {top} answers {answers:x?}"));
        }
    }
    lines.sort();
    lines
}

/// Two people with some mail, read and unread, and a checkpoint behind it.
fn small_world() -> World {
    let mut world = World::open(SharedMemory::new());
    world.device(1);
    world.device(2);
    let first = world.message(2, b"hello, golden checkpoint");
    world.message(1, b"and hello to you");
    world.message(2, b"are you there?");
    world.ack(2, first);
    world
}

#[test]
fn a_restart_reads_the_checkpoint_and_what_came_after_it() {
    let mut world = small_world();
    let (mut before, all, _) = replay(&world.disk).unwrap();
    let before = essence(&mut before);
    world.checkpoint(None);
    let (mut tables, count, epoch) = replay(&world.disk).unwrap();
    assert_eq!(essence(&mut tables), before);
    assert_eq!(epoch, world.epoch, "no epoch is forgotten");
    assert!(count < all, "{count} records read instead of {all}");
    // What comes after it counts on top of it.
    world.message(2, b"after the checkpoint");
    world.ack(1, u64::from(world.epoch) << 32 | 2);
    let (mut tables, ..) = replay(&world.disk).unwrap();
    assert_eq!(essence(&mut tables), essence(&mut world.tables));
}

#[test]
fn a_checkpoint_that_was_not_completed_counts_for_nothing() {
    let mut world = small_world();
    let before = essence(&mut world.tables);
    world.checkpoint(Some("before END"));
    let (mut tables, ..) = replay(&world.disk).unwrap();
    assert_eq!(essence(&mut tables), before);
    let segments = world.segments();
    let mut world = World::open(world.disk.fork());
    assert_eq!(essence(&mut world.tables), before);
    // A start may copy the tail to a fresh segment and free what it copied; all others stay.
    let (_, older) = segments.split_last().unwrap();
    assert!(older.iter().all(|it| world.segments().contains(it)), "nothing was freed");
}

#[test]
fn recovery_does_not_depend_on_history() {
    let mut world = small_world();
    let mut counts = Vec::new();
    for _ in 0..6 {
        for _ in 0..30 {
            let position = world.message(2, b"read at once");
            world.ack(2, position);
        }
        world.checkpoint(None);
        let (mut tables, count, _) = replay(&world.disk).unwrap();
        assert_eq!(essence(&mut tables), essence(&mut world.tables));
        counts.push((count, world.segments().len()));
    }
    let (records, segments) = counts[1];
    let (last_records, last_segments) = counts[5];
    assert!(last_records <= records + 2, "records read: {counts:?}");
    assert!(last_segments <= segments + 2, "segments kept: {counts:?}");
}

#[test]
fn what_was_freed_is_zeros() {
    let mut world = small_world();
    let secret = b"nobody waits for this any more";
    for _ in 0..4 {
        let position = world.message(2, secret);
        world.ack(2, position);
    }
    let is_there = |world: &World| {
        world.segments().iter().any(|segment| {
            let image = world.disk.image(*segment).unwrap();
            image.windows(secret.len()).any(|window| window == secret)
        })
    };
    assert!(is_there(&world));
    // Under every name a segment ever has: what was freed is kept for its room, not as it was.
    let mut reused = 0;
    for _ in 0..4 {
        let before = world.segments();
        world.checkpoint(None);
        let after = world.segments();
        reused += usize::from(after.len() == before.len() && after != before);
    }
    assert!(reused > 0, "the room of a freed segment is used again");
    assert!(!is_there(&world));
}

#[test]
fn a_missing_segment_with_waiting_mail_is_an_error() {
    let mut world = small_world();
    world.checkpoint(None);
    let live: Vec<u32> = world.tables.live.segments().collect();
    let disk = world.disk.fork();
    disk.clone().remove(live[0]).unwrap();
    let mut tables = tables();
    let mut replay = Replay::new(Placement::new(1), &Rules::default());
    let result = recover(disk, &settings(), &mut |at, record| {
        replay.record(&mut tables, at, record).unwrap();
    });
    let refused = match result {
        Err(error) => error.to_string(),
        Ok((recovered, _)) => {
            recovered.check_live(tables[0].live.segments()).unwrap_err().to_string()
        }
    };
    assert!(refused.contains("missing"), "{refused}");
}

#[test]
fn the_golden_checkpoint_of_version_1_is_read_for_ever_and_still_written() {
    let mut world = small_world();
    world.checkpoint(None);
    // The segment a restart begins to read in: everything is in it.
    let begin = *world.segments().iter().find(|it| holds_image(&world.disk, **it)).unwrap();
    let written = world.disk.image(begin).unwrap();
    let used = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let written = &written[..used.next_multiple_of(4096)];
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, written).unwrap();
    }
    let golden = std::fs::read(GOLDEN).unwrap();
    // But for what the first programs left spare in the head of a segment, and its checksum.
    for part in [0..12, 16..48, 60..golden.len().max(written.len())] {
        let same = golden.get(part.clone()) == written.get(part);
        assert!(same, "version 1 is written as ever; a new format is a new version");
    }
    let mut items = Vec::new();
    let disk = SharedMemory::new();
    disk.put(begin, &golden);
    let mut reader = StoreReader::new(disk);
    for offset in (4096..golden.len() as u32).step_by(8) {
        let Some(record) = reader.read(At { segment: begin, offset }) else { continue };
        if record.kind == Kind::Checkpoint && record.body_kind == CHECKPOINT_IMAGE {
            image::read(record.payload, |item| {
                items.push(format!("{item:x?}"));
                Ok::<(), image::BadImage>(())
            })
            .unwrap();
        }
    }
    let starts = |name: &str| items.iter().filter(|item| item.starts_with(name)).count();
    let counts = (starts("User"), starts("Answer"), starts("Entry"), starts("Pair"));
    assert_eq!(counts, (2, 3, 2, 2), "{items:#?}");
}

fn holds_image(disk: &SharedMemory, segment: u32) -> bool {
    let mut reader = StoreReader::new(disk.clone());
    let bytes = disk.bytes(segment).unwrap() as u32;
    (4096..bytes).step_by(8).any(|offset| {
        let record = reader.read(At { segment, offset });
        record.is_some_and(|it| it.kind == Kind::Checkpoint && it.body_kind == CHECKPOINT_IMAGE)
    })
}

/// On a slow disk small batches of messages are under way all the time. A checkpoint has to get on
/// beside them, a piece per batch, and that much traffic is no overload.
#[test]
fn a_checkpoint_gets_on_behind_a_slow_disk_without_filling_every_batch() {
    let big = Settings { segment_bytes: 16 * 1024 * 1024, ..Settings::default() };
    let (recovered, _) = recover(SharedMemory::new(), &big, &mut |_, _| {}).unwrap();
    let (mut stages, _slow) = recovered.start(1, vec![Arc::new(NoWake)]).unwrap();
    let mut stage = stages.remove(0);
    let message = Record { stream: 72, payload: b"hello", ..Record::blank(Kind::Message) };
    let piece = vec![7; 30 * 1024];
    let image = Record { payload: &piece, ..Record::blank(Kind::Checkpoint) };
    assert!(stage.image_room() > piece.len(), "while nothing is under way");
    let mut pieces = 0;
    for turn in 0..100 {
        stage.append(Lane::Message, &message).unwrap();
        if turn >= 4 && stage.image_room() > 0 {
            assert!(stage.image_room() < piece.len(), "one is enough");
            stage.append(Lane::Image, &image).unwrap();
            pieces += 1;
        }
        assert!(stage.used_percent() == 0, "half of the batches is what a slow disk takes");
        stage.flush();
    }
    assert!((20..=40).contains(&pieces), "{pieces}");
}
