//! The log on real files: the lock, the thread, the maps, the tools, and the golden segment.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use myriad::log::{
    At, FileStore, Filter, Health, InspectError, Kind, Lane, MapReader, OpenError, Reader, Record,
    Refused, Relation, Settings, SharedMemory, Stage, Step, Store, StoreReader, Wake, inspect,
    next_epoch, recover, run_committer, segment_file_name, verify,
};

/// A doorbell a test can sleep on.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
    count: AtomicU64,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ringing.notify_all();
    }
}

impl Bell {
    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            let (next, timeout) = self.ringing.wait_timeout(rung, Duration::from_secs(20)).unwrap();
            assert!(!timeout.timed_out(), "no wake-up came");
            rung = next;
        }
        *rung = false;
    }
}

/// Segments of 1 MiB: quick to make.
fn quick() -> Settings {
    Settings { segment_bytes: 1024 * 1024, batch_bytes: 64 * 1024, ..Settings::default() }
}

fn message(id: u64, payload: &[u8]) -> Record<'_> {
    Record {
        stream_kind: 1,
        stream: id % 7,
        sender: 1000 + id % 3,
        client_id: id,
        payload,
        ..Record::blank(Kind::Message)
    }
}

fn open_all(dir: &Path, settings: &Settings) -> (Vec<(u64, At)>, u32) {
    let mut found = Vec::new();
    let store = FileStore::open(dir).unwrap();
    let (recovered, _) = recover(store, settings, &mut |at, record| {
        if record.kind == Kind::Message {
            found.push((record.client_id, at));
        }
    })
    .unwrap();
    (found, recovered.highest_epoch)
}

/// Appends `count` messages with ids from `first`, waiting for each hundred; returns the places.
fn write_messages(stage: &mut Stage, bell: &Bell, first: u64, count: u64) -> BTreeMap<u64, At> {
    let mut places = BTreeMap::new();
    let mut tickets = Vec::new();
    let payload = vec![5_u8; 700];
    for id in first..first + count {
        loop {
            match stage.append(Lane::Message, &message(id, &payload)) {
                Ok(ticket) => break tickets.push((ticket, id)),
                Err(Refused::Busy) => {
                    stage.flush();
                    thread::sleep(Duration::from_millis(1));
                    collect(stage, &mut tickets, &mut places);
                }
                Err(refused) => panic!("{refused}"),
            }
        }
        if id % 100 == 0 {
            stage.flush();
        }
    }
    while !tickets.is_empty() {
        stage.flush();
        collect(stage, &mut tickets, &mut places);
        if !tickets.is_empty() {
            bell.sleep();
        }
    }
    assert!(stage.is_idle());
    places
}

fn collect(
    stage: &mut Stage,
    tickets: &mut Vec<(myriad::log::Ticket, u64)>,
    places: &mut BTreeMap<u64, At>,
) {
    while let Some(placed) = stage.committed() {
        let count = tickets.iter().take_while(|(ticket, _)| ticket.batch == placed.batch).count();
        for (ticket, id) in tickets.drain(..count) {
            places.insert(id, placed.at(ticket));
        }
    }
}

#[test]
fn two_shards_write_through_the_thread_and_read_back_through_maps() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    let (recovered, _) = recover(store, &quick(), &mut |_, _| {}).unwrap();
    let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
    let wakes = bells.iter().map(|bell| Arc::clone(bell) as Arc<dyn Wake>).collect();
    let (stages, committer) = recovered.start(1, wakes).unwrap();
    let stop = committer.bell();
    let running = thread::spawn(move || run_committer(committer));
    let shards: Vec<_> = stages
        .into_iter()
        .zip(bells)
        .enumerate()
        .map(|(shard, (mut stage, bell))| {
            thread::spawn(move || {
                write_messages(&mut stage, &bell, 1 + shard as u64 * 1_000_000, 4_000)
            })
        })
        .collect();
    let mut places = BTreeMap::new();
    for shard in shards {
        places.extend(shard.join().unwrap());
    }
    stop.stop();
    running.join().unwrap().unwrap();
    assert_eq!(places.len(), 8_000);
    let mut maps = MapReader::open(dir.path());
    for (id, at) in &places {
        let record = maps.read(*at).unwrap_or_else(|| panic!("record {id}"));
        assert_eq!((record.client_id, record.payload.len()), (*id, 700));
    }
    let segments = places.values().map(|at| at.segment).max().unwrap();
    assert!(segments >= 6, "8,000 messages of 800 bytes fill several segments: {segments}");
    // Wrong places give nothing, and do not upset anybody.
    let (id, at) = places.iter().next_back().unwrap();
    for offset in [0, 8, 4096, at.offset + 8, at.offset - 8, 1024 * 1024 - 4, u32::MAX] {
        assert_eq!(maps.read(At { offset, ..*at }), None, "offset {offset}, near {id}");
    }
    assert_eq!(maps.read(At { segment: 4_000, offset: 4096 }), None);

    let (found, epoch) = open_all(dir.path(), &quick());
    assert_eq!((found.len(), epoch), (8_000, 1));
    let report = verify(dir.path()).unwrap();
    assert!(
        report.report.as_ref().is_some_and(|report| report.records > 8_000),
        "messages, the epoch, and the begin of a checkpoint"
    );
    assert!(report.to_string().ends_with("whole"), "{report}");
    let mut lines = Vec::new();
    inspect(dir.path(), &mut lines, &Filter { user: Some(1001), ..Filter::default() }).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    assert!(lines.lines().all(|line| line.contains("message user") && line.contains("from 1001.")));
    assert!(lines.lines().count() > 2_000);
}

#[test]
fn a_data_folder_has_one_user_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = FileStore::open(dir.path()).unwrap();
    let nothing_yet = verify(dir.path());
    assert!(matches!(nothing_yet, Err(InspectError::Open(_))), "no log is not a whole log");
    first.create(1, 16_384).unwrap();
    assert!(matches!(FileStore::open(dir.path()), Err(OpenError::Locked(_))));
    assert!(verify(dir.path()).unwrap().in_use, "looking is allowed, with a warning");
    drop(first);
    assert!(FileStore::open(dir.path()).is_ok());
    assert!(!verify(dir.path()).unwrap().in_use);
    assert!(matches!(verify(&dir.path().join("nowhere")), Err(InspectError::Open(_))));
}

#[test]
fn looking_never_writes() {
    let dir = tempfile::tempdir().unwrap();
    drop(FileStore::open(dir.path()).unwrap());
    let mut looking = FileStore::open_read_only(dir.path()).unwrap();
    assert!(looking.create(1, 16_384).is_err());
    assert!(looking.write_at(1, 0, b"x").is_err());
    assert!(looking.sync(1).is_err());
    assert!(looking.remove(1).is_err());
}

#[test]
fn segments_are_whole_files_of_zeros_and_unfinished_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(dir.path()).unwrap();
    store.create(3, 1024 * 1024).unwrap();
    assert!(store.create(3, 4096).is_err(), "it is there");
    assert_eq!((store.segments().unwrap(), store.bytes(3).unwrap()), (vec![3], 1024 * 1024));
    let path = dir.path().join("log").join(segment_file_name(3));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
    assert!(store.write_at(4, 0, b"x").is_err(), "nothing is made by writing");
    fs::write(dir.path().join("log/log-0000000009.new"), b"half").unwrap();
    fs::write(dir.path().join("log/notes.txt"), b"not ours").unwrap();
    drop(store);
    let mut store = FileStore::open(dir.path()).unwrap();
    assert!(!dir.path().join("log/log-0000000009.new").exists());
    assert!(dir.path().join("log/notes.txt").exists());
    store.write_at(3, 4096, b"abc").unwrap();
    store.sync(3).unwrap();
    let mut out = [0_u8; 5];
    assert_eq!(store.read_at(3, 4095, &mut out).unwrap(), 5);
    assert_eq!(&out, b"\0abc\0");
    assert_eq!(store.read_at(3, 1024 * 1024 - 2, &mut out).unwrap(), 2);
    store.remove(3).unwrap();
    assert_eq!(store.segments().unwrap(), Vec::<u32>::new());
}

#[test]
fn damage_on_disk_is_named_by_file_place_and_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    let (recovered, _) = recover(store, &quick(), &mut |_, _| {}).unwrap();
    let bell = Arc::new(Bell::default());
    let (mut stages, mut committer) =
        recovered.start(1, vec![Arc::clone(&bell) as Arc<dyn Wake>]).unwrap();
    let mut first = None;
    for id in 1..=3 {
        let ticket = stages[0].append(Lane::Message, &message(id, b"hello")).unwrap();
        stages[0].flush();
        assert!(matches!(committer.step(id * 10_000), Step::Committed { .. }));
        let placed = stages[0].committed().unwrap();
        first = first.or_else(|| Some(placed.at(ticket)));
    }
    drop(committer);
    let at = first.unwrap();
    let path = dir.path().join("log").join(segment_file_name(at.segment));
    let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0_u8];
    file.seek(SeekFrom::Start(u64::from(at.offset) + 90)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(u64::from(at.offset) + 90)).unwrap();
    file.write_all(&[byte[0] ^ 4]).unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(!report.is_whole());
    let told = report.to_string();
    let place = format!("{}, byte {}", segment_file_name(at.segment), at.offset - 64);
    assert!(told.contains(&place) && told.contains("users concerned: 1."), "{told}");
    let store = FileStore::open(dir.path()).unwrap();
    assert!(recover(store, &quick(), &mut |_, _| {}).is_err());
}

#[test]
fn a_message_after_a_quiet_spell_is_committed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    let (recovered, _) = recover(store, &quick(), &mut |_, _| {}).unwrap();
    let bell = Arc::new(Bell::default());
    let (mut stages, committer) =
        recovered.start(1, vec![Arc::clone(&bell) as Arc<dyn Wake>]).unwrap();
    let stop = committer.bell();
    let running = thread::spawn(move || run_committer(committer));
    let mut best = Duration::MAX;
    for id in 1..=20 {
        thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        stages[0].append(Lane::Message, &message(id, b"hello")).unwrap();
        stages[0].flush();
        while stages[0].committed().is_none() {
            bell.sleep();
        }
        best = best.min(start.elapsed());
    }
    assert!(best < Duration::from_millis(20), "{best:?}");
    assert_eq!(stages[0].health(), Health::Good);
    stop.stop();
    running.join().unwrap().unwrap();
}

#[test]
fn stopping_commits_what_was_handed_over_lazy_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { lazy_ms: 3_600_000, ..quick() };
    let store = FileStore::open(dir.path()).unwrap();
    let (recovered, _) = recover(store, &settings, &mut |_, _| {}).unwrap();
    let (mut stages, committer) =
        recovered.start(1, vec![Arc::new(Bell::default()) as Arc<dyn Wake>]).unwrap();
    let stop = committer.bell();
    let running = thread::spawn(move || run_committer(committer));
    thread::sleep(Duration::from_millis(20));
    stages[0].append(Lane::Reserve, &Record::blank(Kind::Cursor)).unwrap();
    stages[0].flush();
    stop.stop();
    running.join().unwrap().unwrap();
    assert!(stages[0].committed().is_some());
    assert!(stages[0].is_idle());
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// The records of the golden segment.
fn golden_records() -> Vec<Record<'static>> {
    let relation = Relation { kind: 3, sender: 42, device: 2, client_id: 1 << 40 };
    let full = Record {
        kind: Kind::Message,
        stream_kind: 1,
        stream: 0x0102_0304_0506_0708,
        position: 7 << 32 | 1,
        sender: 42,
        device: 2,
        client_id: 9,
        time_ms: 1_767_225_600_000,
        ttl_s: 86_400,
        request_crc: 0xdead_beef,
        body_kind: 5,
        peer: 0,
        aux: 0,
        moved: false,
        relation: Some(relation),
        payload: b"hello, golden segment",
    };
    let of = |kind| Record { kind, relation: None, payload: b"", peer: 43, aux: 77, ..full };
    vec![
        full,
        of(Kind::OwnCopy),
        of(Kind::Refusal),
        of(Kind::Device),
        of(Kind::Cursor),
        of(Kind::ReadMark),
        of(Kind::Void),
        Record { stream_kind: 2, relation: None, ..full },
    ]
}

/// Those of the second golden segment: what was added to version 1 for groups.
fn golden_group_records() -> Vec<Record<'static>> {
    let of = |body_kind, peer, aux, payload| Record {
        stream_kind: 2,
        stream: 700,
        position: 7 << 32 | u64::from(body_kind),
        sender: 42,
        time_ms: 1_767_225_600_000,
        body_kind,
        peer,
        aux,
        payload,
        ..Record::blank(Kind::Group)
    };
    vec![
        of(1, 42, 2, b"friends".as_slice()),
        of(2, 43, 0, b""),
        of(3, 43, 0, b""),
        of(4, 44, 0, b""),
        of(5, 0, 0, "B\u{fc}cher".as_bytes()),
        of(6, 45, 1, b""),
        of(7, 0, 0, b""),
        Record { stream_kind: 2, stream: 700, aux: 7 << 32 | 6, ..Record::blank(Kind::Cursor) },
        Record { stream_kind: 2, stream: 700, position: 9, ..Record::blank(Kind::Tombstone) },
        Record { stream_kind: 1, stream: 42, peer: 700, aux: 2, ..Record::blank(Kind::Refusal) },
    ]
}

/// Writes records the way version 1 does, each pair a commit.
fn golden_log(records: &[Record<'static>]) -> SharedMemory {
    let disk = SharedMemory::new();
    let settings = Settings { segment_bytes: 32 * 1024, ..Settings::small() };
    let (recovered, _) = recover(disk.clone(), &settings, &mut |_, _| {}).unwrap();
    let (mut stages, mut committer) = recovered.start(7, vec![Arc::new(NoWake)]).unwrap();
    for (nth, pair) in records.chunks(2).enumerate() {
        for record in pair {
            stages[0].append_urgent(Lane::Message, record).unwrap();
        }
        stages[0].flush();
        let step = committer.step(nth as u64 * 10_000);
        assert!(matches!(step, Step::Committed { records: 2, .. }));
        assert!(stages[0].committed().is_some());
    }
    disk
}

#[test]
fn the_golden_segments_of_version_1_are_read_for_ever_and_still_written() {
    read_golden("version-1.seg", &golden_records());
    read_golden("version-1-groups.seg", &golden_group_records());
}

fn read_golden(name: &str, records: &[Record<'static>]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log").join(name);
    let written = golden_log(records).image(1).unwrap();
    if std::env::var_os("MYRIAD_WRITE_GOLDEN").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let golden = fs::read(&path).expect("the golden segment");
    assert!(written == golden, "version 1 is written as ever; a new format is a new version");
    let disk = SharedMemory::new();
    disk.put(1, &golden);
    let settings = Settings { segment_bytes: 32 * 1024, ..Settings::small() };
    let mut places = Vec::new();
    let mut epochs = Vec::new();
    let (recovered, report) = recover(disk.clone(), &settings, &mut |at, record| {
        if record.kind == Kind::Epoch {
            epochs.push(record.aux);
        } else {
            places.push(at);
        }
    })
    .unwrap();
    let commits = records.len() as u64 / 2 + 1;
    assert_eq!((epochs, report.commits, report.highest_epoch), (vec![7], commits, 7));
    assert_eq!(report.last_time_ms, 1_767_225_600_000);
    let epoch = next_epoch(recovered.highest_epoch, 0);
    let _opened = recovered.start(epoch, vec![Arc::new(NoWake)]).unwrap();
    let mut reader = StoreReader::new(disk);
    assert_eq!(places.len(), records.len());
    for (at, expected) in places.iter().zip(records) {
        assert_eq!(reader.read(*at), Some(*expected));
    }
}
