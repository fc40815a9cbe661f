//! What the log costs.
//!
//! `disk SECONDS [DIR]`: a steady stream to real files, one message each 100 us, then each 10 us:
//! how long until it is durable, also while segments are being made. What a record costs without
//! a disk is counted in instructions by `scripts/bench`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use myriad::log::{
    Committer, FileStore, Kind, Lane, Record, Settings, Stage, Store, Wake, next_epoch, recover,
    run_committer,
};

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let number = |index: usize, otherwise: u64| {
        arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let dir = arguments.get(2).map_or_else(|| "target/log-bench".into(), PathBuf::from);
    disk(number(1, 5), &dir)
}

fn start<S: Store>(store: S, settings: &Settings) -> Result<(Stage, Committer<S>), String> {
    let (recovered, _) =
        recover(store, settings, &mut |_, _| {}).map_err(|error| error.to_string())?;
    let epoch = next_epoch(recovered.highest_epoch, 0);
    let wake = Arc::new(Unpark(thread::current()));
    let (mut stages, committer) =
        recovered.start(epoch, vec![wake]).map_err(|error| error.to_string())?;
    let stage = stages.pop().ok_or("no stage")?;
    Ok((stage, committer))
}

fn message(payload: &[u8]) -> Record<'_> {
    Record { stream_kind: 1, stream: 7, payload, ..Record::blank(Kind::Message) }
}

fn disk(seconds: u64, dir: &Path) -> Result<(), String> {
    let all = Settings::default();
    let one = Settings { log_bytes_max: Some(all.segment_bytes), ..all };
    let time = Duration::from_secs(seconds);
    for (name, gap_us, settings) in
        [("no segment made", 100, one), ("segments made", 100, all), ("segments made", 10, all)]
    {
        let _ = std::fs::remove_dir_all(dir.join("log"));
        let store = FileStore::open(dir).map_err(|error| error.to_string())?;
        let (mut stage, committer) = start(store, &settings)?;
        let bell = committer.bell();
        let running = thread::spawn(move || run_committer(committer));
        let (mut waits, refused) = stream(&mut stage, time, gap_us);
        bell.stop();
        running.join().map_err(|_| "the committer died")??;
        waits.sort_unstable();
        let at = |share: usize| waits[(waits.len() - 1) * share / 10_000];
        println!(
            "{name}, one each {gap_us} us: {} messages, {refused} refused; durable after us \
             p50 {} p99 {} p99.9 {} max {}",
            waits.len(),
            at(5_000),
            at(9_900),
            at(9_990),
            at(10_000)
        );
    }
    Ok(())
}

/// Sends at a steady pace whatever the log does; returns how long each message took, in us, and
/// how many were refused.
fn stream(stage: &mut Stage, time: Duration, gap_us: u64) -> (Vec<u64>, u64) {
    let payload = [3_u8; 700];
    let (mut waits, mut waiting, mut refused) = (Vec::new(), VecDeque::new(), 0);
    let begin = Instant::now();
    let mut due = Duration::ZERO;
    while due < time || !waiting.is_empty() {
        let now = begin.elapsed();
        while due <= now && due < time {
            match stage.append(Lane::Message, &message(&payload)) {
                Ok(ticket) => waiting.push_back((ticket, due)),
                Err(_) => refused += 1,
            }
            due += Duration::from_micros(gap_us);
        }
        stage.flush();
        while let Some(placed) = stage.committed() {
            let now = begin.elapsed();
            while let Some((_, since)) =
                waiting.pop_front_if(|(ticket, _)| ticket.batch <= placed.batch)
            {
                waits.push(u64::try_from((now - since).as_micros()).unwrap_or(u64::MAX));
            }
        }
        thread::park_timeout(Duration::from_micros(gap_us.max(50)));
    }
    (waits, refused)
}
