//! Does the log ever hold a shard up? One thread does to the log what a shard does in a turn, as
//! fast as the log takes it, and measures how long each turn's calls take.
//!
//! `sustained [SECONDS] [DIR]`: 60 s by default. A turn is: take what became durable, take part in
//! a checkpoint, append up to 256 messages of 100 bytes, read 64 of the last records back through
//! the map, flush. Everything is acked at once, so segments are freed and used again meanwhile.
//!
//! A machine that is shared holds threads up by itself. So the time a thread waited for a
//! processor, by the scheduler's account, is taken off (what is left is computing and blocking),
//! and beside it a thread that only counts is measured in the same way: the noise floor. What the
//! hypervisor takes is in both.

use std::collections::VecDeque;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use myriad::log::{
    At, CHECKPOINT_END, FileStore, Kind, Lane, LiveReport, MapReader, Phase, Reader, Record,
    Settings, Stage, Ticket, Wake, next_epoch, recover, run_committer,
};

/// What issue and budget ask for.
const TURN_US_MAX: u64 = 5_000;
const APPENDS_PER_TURN: usize = 256;
const READS_PER_TURN: usize = 64;
/// Records that may still be read back: some megabytes of the log.
const RECENT: usize = 64 * 1024;
const PAYLOAD: [u8; 100] = [3; 100];

type Outcome<T> = Result<T, String>;

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// The clocks of one thread.
struct Clock {
    schedstat: File,
}

impl Clock {
    fn new() -> Outcome<Self> {
        let schedstat = File::open("/proc/thread-self/schedstat");
        Ok(Self { schedstat: schedstat.map_err(|error| format!("no schedstat: {error}"))? })
    }

    /// How long this thread has ever waited for a processor.
    fn waited_us(&self) -> u64 {
        let mut text = [0_u8; 96];
        let count = self.schedstat.read_at(&mut text, 0).unwrap_or(0);
        let text = std::str::from_utf8(&text[..count]).unwrap_or_default();
        let waited_ns = text.split_ascii_whitespace().nth(1).and_then(|ns| ns.parse::<u64>().ok());
        waited_ns.unwrap_or(0) / 1_000
    }
}

/// How long something took, over and over.
#[derive(Default)]
struct Times {
    walls_us: Vec<u32>,
    /// Longest without the wait for a processor, and how many were too long.
    own_us_max: u64,
    own_over: u64,
    wall_over: u64,
}

impl Times {
    fn note(&mut self, wall_us: u64, waited_us: u64) {
        let own_us = wall_us.saturating_sub(waited_us);
        self.walls_us.push(u32::try_from(wall_us).unwrap_or(u32::MAX));
        self.own_us_max = self.own_us_max.max(own_us);
        self.own_over += u64::from(own_us > TURN_US_MAX);
        self.wall_over += u64::from(wall_us > TURN_US_MAX);
    }

    fn print(&mut self, name: &str) {
        self.walls_us.sort_unstable();
        let at = |share: usize| {
            let last = self.walls_us.len().saturating_sub(1);
            self.walls_us.get(last * share / 10_000).copied().unwrap_or(0)
        };
        println!(
            "{name}: {} of them, us p50 {} p99 {} p99.9 {} max {}; longer than {TURN_US_MAX} us: \
             {}; without the wait for a processor max {}, longer: {}",
            self.walls_us.len(),
            at(5_000),
            at(9_900),
            at(9_990),
            at(10_000),
            self.wall_over,
            self.own_us_max,
            self.own_over,
        );
    }
}

/// A shard as far as the log is concerned.
struct Shard {
    stage: Stage,
    reader: MapReader,
    waiting: VecDeque<Ticket>,
    recent: VecDeque<At>,
    settled: u64,
    begun: u64,
    end: Option<Ticket>,
    /// Longest of each part of a turn: taking, appending, reading, flushing.
    parts_us_max: [u64; 4],
    appended: u64,
    read: u64,
    checkpoints: u64,
}

impl Shard {
    /// True: something was done.
    fn turn(&mut self) -> Outcome<bool> {
        let begin = Instant::now();
        let phase = self.stage.phase();
        let took = self.take();
        self.checkpoint(phase);
        let took_at = begin.elapsed();
        let appended = self.append()?;
        let appended_at = begin.elapsed();
        self.read_back()?;
        let read_at = begin.elapsed();
        self.stage.flush();
        let flushed_at = begin.elapsed();
        let parts = [took_at, appended_at - took_at, read_at - appended_at, flushed_at - read_at];
        for (most, part) in self.parts_us_max.iter_mut().zip(parts) {
            *most = (*most).max(micros(part));
        }
        Ok(took || appended)
    }

    fn take(&mut self) -> bool {
        let mut any = false;
        while let Some(placed) = self.stage.committed() {
            any = true;
            while let Some(ticket) = self.waiting.front().copied() {
                if ticket.batch != placed.batch {
                    break;
                }
                self.waiting.pop_front();
                self.recent.push_back(placed.at(ticket));
            }
            if self.end.is_some_and(|end| end.batch == placed.batch) {
                self.end = None;
                self.checkpoints += 1;
                // All is acked. Only what may still be read back has to stay.
                let mut kept: Vec<u32> = self.recent.iter().map(|at| at.segment).collect();
                kept.dedup();
                self.reader.retain(&|segment| kept.contains(&segment));
                let live = kept.into_iter().map(|segment| (segment, u64::from(u32::MAX)));
                self.stage.report(LiveReport { live: live.collect(), to_scrub: Vec::new() });
            }
        }
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
        any
    }

    fn checkpoint(&mut self, phase: Phase) {
        match phase {
            Phase::Settle(number) if number != self.settled => {
                self.settled = number;
                self.stage.settled();
            }
            Phase::Image(number) if number != self.begun => {
                let record = Record {
                    body_kind: CHECKPOINT_END,
                    peer: 1,
                    aux: number,
                    ..Record::blank(Kind::Checkpoint)
                };
                if let Ok(ticket) = self.stage.append_urgent(Lane::Image, &record) {
                    self.begun = number;
                    self.end = Some(ticket);
                }
            }
            _ => {}
        }
    }

    fn append(&mut self) -> Outcome<bool> {
        let record =
            Record { stream_kind: 1, stream: 7, payload: &PAYLOAD, ..Record::blank(Kind::Message) };
        for nth in 0..APPENDS_PER_TURN {
            match self.stage.append(Lane::Message, &record) {
                Ok(ticket) => self.waiting.push_back(ticket),
                Err(myriad::log::Refused::Busy) => return Ok(nth > 0),
                Err(refused) => return Err(refused.to_string()),
            }
            self.appended += 1;
        }
        Ok(true)
    }

    fn read_back(&mut self) -> Outcome<()> {
        let step = (self.recent.len() / READS_PER_TURN).max(1);
        for at in self.recent.iter().step_by(step) {
            let record = self.reader.read(*at);
            black_box(record.ok_or_else(|| format!("{at:?} can't be read back"))?);
            self.read += 1;
        }
        Ok(())
    }
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let seconds = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(60);
    let dir = arguments.get(1).map_or_else(|| "target/sustained-bench".into(), PathBuf::from);
    let stop = Arc::new(AtomicBool::new(false));
    let noise = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || noise(&stop))
    };
    let result = sustain(Duration::from_secs(seconds), &dir);
    stop.store(true, Ordering::Relaxed);
    let noise = noise.join().map_err(|_| "the noise floor panicked".to_owned())?;
    let _ = std::fs::remove_dir_all(&dir);
    let mut turns = result?;
    turns.print("turns");
    noise?.print("noise floor");
    if turns.own_over > 0 {
        return Err(format!("{} turns were held up by the log", turns.own_over));
    }
    Ok(())
}

/// As fast as the log takes it; gives the times of the turns.
fn sustain(time: Duration, dir: &Path) -> Outcome<Times> {
    let _ = std::fs::remove_dir_all(dir);
    let store = FileStore::open(dir).map_err(|error| error.to_string())?;
    let settings = Settings::default();
    let (recovered, _) =
        recover(store, &settings, &mut |_, _| {}).map_err(|error| error.to_string())?;
    let epoch = next_epoch(recovered.highest_epoch, 0);
    let wake = Arc::new(Unpark(thread::current()));
    let (mut stages, committer) =
        recovered.start(epoch, vec![wake]).map_err(|error| error.to_string())?;
    let bell = committer.bell();
    let running = thread::spawn(move || run_committer(committer));
    let mut shard = Shard {
        stage: stages.pop().ok_or("no stage")?,
        reader: MapReader::open(dir),
        waiting: VecDeque::new(),
        recent: VecDeque::with_capacity(2 * RECENT),
        settled: 0,
        begun: 0,
        end: None,
        parts_us_max: [0; 4],
        appended: 0,
        read: 0,
        checkpoints: 0,
    };
    let (clock, mut times, begin) = (Clock::new()?, Times::default(), Instant::now());
    while begin.elapsed() < time {
        let (waited_us, turn) = (clock.waited_us(), Instant::now());
        let busy = shard.turn()?;
        times.note(micros(turn.elapsed()), clock.waited_us() - waited_us);
        if !busy {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
    bell.stop();
    let written = running.join().map_err(|_| "the committer died")??;
    let [take, append, read, flush] = shard.parts_us_max;
    println!(
        "{} messages in {time:?}, {} read back, {} commits of {} B, {} checkpoints, {} segments; \
         longest part of a turn, us: take {take}, append {append}, read {read}, flush {flush}",
        shard.appended,
        shard.read,
        written.commits,
        written.bytes / written.commits.max(1),
        shard.checkpoints,
        segments(dir),
    );
    Ok(times)
}

fn segments(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("log")).map_or(0, |entries| entries.flatten().count())
}

/// Counts for about as long as a turn takes, again and again, and touches nothing.
fn noise(stop: &AtomicBool) -> Outcome<Times> {
    let (clock, mut times) = (Clock::new()?, Times::default());
    while !stop.load(Ordering::Relaxed) {
        let (waited_us, turn) = (clock.waited_us(), Instant::now());
        let mut sum = 0_u64;
        for number in 0..200_000_u64 {
            sum = black_box(sum.wrapping_add(number));
        }
        black_box(sum);
        times.note(micros(turn.elapsed()), clock.waited_us() - waited_us);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(times)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
