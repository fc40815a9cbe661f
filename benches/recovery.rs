//! What a start costs: N waiting messages of 100 B for M users, recovered from the plain log and
//! from a checkpoint, with the page cache warm.
//!
//! `recovery [MESSAGES] [USERS] [DIR]`: by default 10,000,000 messages, 1,000,000 users. Prints the
//! time of each recovery and what the tables take per user with mail and per waiting message
//! (resident memory, measured in the process with one message per user and with all).

use std::io::Error as IoError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use myriad::log::{
    CHECKPOINT_END, CHECKPOINT_IMAGE, Committer, FileStore, Kind, Lane, LiveReport, Phase, Record,
    Refused, Settings, Stage, Step, Store, Wake, next_epoch,
};
use myriad::path::Rules;
use myriad::path::image::{self, Walk};
use myriad::path::replay::start;
use myriad::state::Tables;

type Outcome<T> = Result<T, String>;

const PAYLOAD: [u8; 100] = [7; 100];
/// 2026-06-01, in milliseconds since 1970.
const WALL_MS: u64 = 1_780_272_000_000;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let number = |index: usize, otherwise: u64| {
        arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (messages, users) = (number(0, 10_000_000), number(1, 1_000_000));
    let dir = arguments.get(2).map_or_else(|| "target/recovery-bench".into(), PathBuf::from);
    let _ = std::fs::remove_dir_all(&dir);
    println!("{messages} waiting messages of {} B for {users} users", PAYLOAD.len());

    // Before any table exists: what the allocator holds back later would hide the difference.
    let empty = resident_bytes()?;
    let tables = Tables::new(64, usize::try_from(users).map_err(text)? + 1, 1 << 30);
    let idle = resident_bytes()?;
    drop(tables);

    write(&dir, 0..users, 0..users.min(messages), users)?;
    let (one, _) = read(&dir, users, "one message each")?;
    let with_one = resident_bytes()?;
    drop(one);
    write(&dir, 0..0, users.min(messages)..messages, users)?;
    let (tables, _) = read(&dir, users, "plain log")?;
    let with_all = resident_bytes()?;
    let waiting: usize = waiting(&tables);
    if waiting as u64 != messages {
        return Err(format!("{waiting} messages wait, not {messages}"));
    }
    let more = (messages - users.min(messages)).max(1);
    println!(
        "memory: {} B per user with one message ({} B of that in tables sized at the start), \
         {:.1} B per further message",
        (with_one - empty) / users,
        idle.saturating_sub(empty) / users,
        (with_all.saturating_sub(with_one)) as f64 / more as f64
    );
    drop(tables);
    checkpoint(&dir, users)?;
    let (tables, _) = read(&dir, users, "from a checkpoint")?;
    if waiting != self::waiting(&tables) {
        return Err("the checkpoint lost messages".to_owned());
    }
    drop(tables);
    let log_bytes = bytes_of(&dir)?;
    // A longer log behind the same state: everybody's cursor moves, again and again.
    churn(&dir, users)?;
    let (tables, _) = read(&dir, users, "from a checkpoint, after as much history again")?;
    drop(tables);
    println!("log: {} MiB, then {} MiB", log_bytes >> 20, bytes_of(&dir)? >> 20);
    std::fs::remove_dir_all(&dir).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn waiting(tables: &Tables) -> usize {
    let users = 0..u32::try_from(tables.users.count()).unwrap_or(u32::MAX);
    let count = |user| tables.inboxes.get(tables.users.user(user).inbox).map_or(0, |it| it.count());
    users.map(count).sum()
}

fn settings() -> Settings {
    Settings { commit_gap_us: 0, ..Settings::default() }
}

/// Opens the log, with its tables.
fn open(dir: &Path, users: u64) -> Outcome<(Tables, Stage, Committer<FileStore>, u32)> {
    let store = FileStore::open(dir).map_err(text)?;
    let mut tables = [Tables::new(64, usize::try_from(users).map_err(text)? + 1, 1 << 30)];
    let (recovered, _) =
        start(store, &settings(), &Rules::default(), &mut tables, &mut |_| {}).map_err(text)?;
    let epoch = next_epoch(recovered.highest_epoch, WALL_MS);
    let (mut stages, committer) = recovered.start(epoch, vec![Arc::new(NoWake)]).map_err(text)?;
    let [tables] = tables;
    Ok((tables, stages.pop().ok_or("no stage")?, committer, epoch))
}

fn read(dir: &Path, users: u64, what: &str) -> Outcome<(Tables, Duration)> {
    let begin = Instant::now();
    let (tables, stage, committer, _) = open(dir, users)?;
    let time = begin.elapsed();
    drop((stage, committer));
    println!("recovery, {what}: {:.2} s", time.as_secs_f64());
    Ok((tables, time))
}

/// A committer and what it takes to keep it going.
struct Writer<S> {
    stage: Stage,
    committer: Committer<S>,
    now_us: u64,
}

impl<S: Store> Writer<S> {
    fn append(&mut self, lane: Lane, record: &Record<'_>) -> Outcome<()> {
        loop {
            match self.stage.append(lane, record) {
                Ok(_) => return Ok(()),
                Err(Refused::Busy) => self.commit()?,
                Err(refused) => return Err(refused.to_string()),
            }
        }
    }

    fn commit(&mut self) -> Outcome<()> {
        self.stage.flush();
        self.now_us += 1_000_000;
        if let Step::Failed(error) = self.committer.step(self.now_us) {
            return Err(error);
        }
        while self.stage.committed().is_some() {}
        Ok(())
    }

    fn drain(&mut self) -> Outcome<()> {
        while !self.stage.is_idle() {
            self.commit()?;
        }
        Ok(())
    }
}

/// Appends new users and messages to the log in `dir`.
fn write(
    dir: &Path,
    new_users: std::ops::Range<u64>,
    messages: std::ops::Range<u64>,
    users: u64,
) -> Outcome<()> {
    let (_, stage, committer, epoch) = open(dir, users)?;
    let mut writer = Writer { stage, committer, now_us: 0 };
    for user in new_users {
        let device = Record {
            stream_kind: 1,
            stream: user + 1,
            device: 1,
            time_ms: WALL_MS,
            ..Record::blank(Kind::Device)
        };
        writer.append(Lane::Message, &device)?;
    }
    for message in messages {
        // Rounds over all users: what one of them gets lies far apart in the log.
        let message = Record {
            stream_kind: 1,
            stream: message % users + 1,
            position: u64::from(epoch) << 32 | (message + 1),
            // Of strangers: what a device may be answered again is a cost of its own.
            sender: users + 1 + message % users % 1_000,
            device: 1,
            client_id: message / users + 1,
            time_ms: WALL_MS,
            payload: &PAYLOAD,
            ..Record::blank(Kind::Message)
        };
        writer.append(Lane::Message, &message)?;
    }
    writer.drain()
}

/// Moves cursors to where they are until the log has grown by half a gigabyte.
fn churn(dir: &Path, users: u64) -> Outcome<()> {
    let (tables, stage, committer, _) = open(dir, users)?;
    let mut writer = Writer { stage, committer, now_us: 0 };
    let rounds = (512 << 20) / 88;
    for round in 0..rounds {
        let cursor = Record {
            stream_kind: 1,
            stream: round % users + 1,
            device: 1,
            time_ms: WALL_MS,
            ..Record::blank(Kind::Cursor)
        };
        writer.append(Lane::Reserve, &cursor)?;
    }
    image(&mut writer, &tables)?;
    writer.drain()
}

fn checkpoint(dir: &Path, users: u64) -> Outcome<()> {
    // A start may have moved the end of the log: only its own tables know where things are.
    let (tables, stage, committer, _) = open(dir, users)?;
    let mut writer = Writer { stage, committer, now_us: 0 };
    let begin = Instant::now();
    image(&mut writer, &tables)?;
    println!("checkpoint: {:.2} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// What a shard does in a checkpoint, with nothing else to do.
fn image<S: Store>(writer: &mut Writer<S>, tables: &Tables) -> Outcome<()> {
    writer.stage.want_checkpoint();
    let number = loop {
        writer.commit()?;
        match writer.stage.phase() {
            Phase::Settle(_) => writer.stage.settled(),
            Phase::Image(number) => break number,
            Phase::None => {}
        }
    };
    let (mut walk, mut piece) = (Walk::START, Vec::new());
    while walk != Walk::Done {
        piece.clear();
        walk = image::write(tables, walk, myriad::limits::IMAGE_BYTES_MAX, &mut piece);
        if !piece.is_empty() {
            writer.append(Lane::Image, &part(CHECKPOINT_IMAGE, number, &piece))?;
        }
    }
    writer.append(Lane::Image, &part(CHECKPOINT_END, number, &[]))?;
    writer.drain()?;
    let live = tables.live.report().live;
    writer.stage.report(LiveReport { live, to_scrub: Vec::new() });
    while writer.stage.phase() != Phase::None {
        writer.commit()?;
    }
    Ok(())
}

fn part(body_kind: u32, number: u64, payload: &[u8]) -> Record<'_> {
    Record { body_kind, aux: number, payload, ..Record::blank(Kind::Checkpoint) }
}

fn bytes_of(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir.join("log")).map_err(text)? {
        bytes += entry.and_then(|entry| entry.metadata()).map_err(text)?.len();
    }
    Ok(bytes)
}

/// Resident memory of this process, from `/proc` (Linux).
fn resident_bytes() -> Outcome<u64> {
    let read = || -> Result<u64, IoError> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.map(|kib| kib * 1024).ok_or_else(|| IoError::other("no VmRSS"))
    };
    read().map_err(text)
}
