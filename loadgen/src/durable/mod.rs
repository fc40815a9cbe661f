//! Messages for people who are not there, against two yardsticks: Redis with `appendfsync always`
//! taking the same payloads, and the bare cost of the same bytes in as many writes and syncs.
//!
//! Each sender writes to some people of its own, as people do. In every round each of the three
//! runs once, on the same host, with the same number of connections and the same number of
//! messages under way, so that what else the machine does falls on all alike.
//! What is compared is CPU of the server's process per message, user and kernel, as the scheduler
//! counts it. Deliberately not here: judging the ratios, and rates as promises.

mod bare;
mod inbox;
mod redis;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::bench::BenchError;
use crate::process::{Home, ProcessError, ServeOptions, ServerProcess};

/// Longest wait for the end of a server.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `myriad` binary.
    pub server_binary: PathBuf,
    /// The `redis-server` binary.
    pub redis_binary: PathBuf,
    /// Numbers of shards, measured one after the other.
    pub shards: Vec<usize>,
    /// Connections; each sends.
    pub senders: usize,
    /// Messages under way per connection, at most 64.
    pub in_flight: usize,
    /// Messages per run.
    pub messages: u64,
    /// Bytes per message.
    pub payload_bytes: usize,
    /// People each sender writes to, in turn; none of them ever logs in.
    pub recipients: u64,
    /// How often all of it is measured.
    pub rounds: u32,
    /// Further arguments of the server.
    pub server_arguments: Vec<String>,
}

/// What one server took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// CPU seconds per million messages.
    pub cpu_s_per_million: f64,
    /// Of it in user space, to 10 ms in all.
    pub user_s_per_million: f64,
    /// Messages per second.
    pub messages_per_second: f64,
}

/// One run of the server under test.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// Shards.
    pub shards: usize,
    /// What it took.
    pub cost: Cost,
    /// Commits it made, from its own counters.
    pub commits: u64,
    /// Bytes of them.
    pub commit_bytes: u64,
    /// CPU seconds per million messages of as many bare writes and syncs of as many bytes.
    pub bare_cpu_s_per_million: f64,
    /// CPU over that of Redis in the same round.
    pub to_redis: f64,
    /// CPU over that of the bare writes and syncs.
    pub to_bare: f64,
}

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Messages of each run.
    pub messages: u64,
    /// Under way at once.
    pub in_flight: usize,
    /// Redis, per round.
    pub redis: Vec<Cost>,
    /// The server, per round and number of shards.
    pub runs: Vec<Run>,
    /// Per number of shards: the median of the ratios to Redis, then to the bare writes.
    pub medians: Vec<(usize, f64, f64)>,
}

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// A server did not start or end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The traffic could not be played.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// There is no Redis.
    #[error("can't run {0}: {1}. Debian: apt-get install redis-server")]
    NoRedis(PathBuf, std::io::Error),
    /// Redis, or a file.
    #[error("{0}: {1}")]
    Io(&'static str, std::io::Error),
    /// The server did not say what it wrote.
    #[error("the server printed no `{0}` when it drained: {1}")]
    NoCounter(&'static str, String),
}

/// Measures.
///
/// # Errors
/// See [`DurableError`].
pub fn run(options: &Options) -> Result<Report, DurableError> {
    crate::usage::raise_file_limit();
    has_redis(&options.redis_binary)?;
    let (mut redis_costs, mut runs) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let redis = redis::measure(options)?;
        crate::say!("round {round}: redis {}", told(redis));
        redis_costs.push(redis);
        for &shards in &options.shards {
            let run = measure(options, shards, redis)?;
            crate::say!(
                "round {round}: {shards} shard(s) {}, {} commits of {} B; bare {:.3}; \
                 ratio to redis {:.2}, to bare {:.2}",
                told(run.cost),
                run.commits,
                run.commit_bytes / run.commits.max(1),
                run.bare_cpu_s_per_million,
                run.to_redis,
                run.to_bare,
            );
            runs.push(run);
        }
    }
    let medians = options.shards.iter().map(|&shards| {
        let of = |ratio: fn(&Run) -> f64| {
            median(runs.iter().filter(|run| run.shards == shards).map(ratio).collect())
        };
        (shards, of(|run| run.to_redis), of(|run| run.to_bare))
    });
    let medians = medians.collect();
    Ok(Report {
        messages: options.messages,
        in_flight: options.senders * options.in_flight,
        redis: redis_costs,
        runs,
        medians,
    })
}

fn has_redis(binary: &Path) -> Result<(), DurableError> {
    let tried = Command::new(binary).arg("--version").output();
    tried.map(|_| ()).map_err(|error| DurableError::NoRedis(binary.to_owned(), error))
}

fn told(cost: Cost) -> String {
    format!(
        "{:.3} CPU s per million ({:.3} user), {:.0} per second",
        cost.cpu_s_per_million, cost.user_s_per_million, cost.messages_per_second
    )
}

/// One run of the server under test, and of the writes and syncs it made.
fn measure(options: &Options, shards: usize, redis: Cost) -> Result<Run, DurableError> {
    let home = Home::new()?;
    let mut arguments = options.server_arguments.clone();
    arguments.push("--unknown-users-allowed".to_owned());
    let serve = ServeOptions { shards, arguments, ..ServeOptions::new(&options.server_binary) };
    let server = ServerProcess::start(&serve, &home)?;
    let cost = inbox::fill(options, &server, &home)?;
    server.terminate()?;
    server.wait(END_TIMEOUT, &home)?;
    let said = home.log_tail();
    let commits = counter(&said, "log_commits")?;
    let commit_bytes = counter(&said, "log_bytes")?;
    let bare = bare::measure(&home.data(), commits, commit_bytes)
        .map_err(|error| DurableError::Io("bare writes", error))?;
    let bare_cpu_s_per_million = bare * 1e6 / options.messages as f64;
    Ok(Run {
        shards,
        cost,
        commits,
        commit_bytes,
        bare_cpu_s_per_million,
        to_redis: cost.cpu_s_per_million / redis.cpu_s_per_million,
        to_bare: cost.cpu_s_per_million / bare_cpu_s_per_million,
    })
}

/// A counter of those the server prints at its end.
fn counter(said: &str, name: &'static str) -> Result<u64, DurableError> {
    let line = said.lines().rev().find_map(|line| line.split_once("counters "));
    let value = line.and_then(|(_, json)| serde_json::from_str::<serde_json::Value>(json).ok());
    let value = value.and_then(|value| value.get(name).and_then(serde_json::Value::as_u64));
    value.ok_or_else(|| DurableError::NoCounter(name, said.to_owned()))
}

/// What is per million of what was seen in one run.
fn cost(messages: u64, seconds: f64, cpu: crate::usage::Cpu) -> Cost {
    let millions = messages.max(1) as f64 / 1e6;
    Cost {
        cpu_s_per_million: cpu.scheduled_s / millions,
        user_s_per_million: cpu.user_s / millions,
        messages_per_second: messages as f64 / seconds,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(value), 1) => *value,
        (Some(value), _) => (value + values[middle - 1]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_in_the_last_line_that_has_some() {
        let said = "myriad: x\nmyriad: drained; counters {\"log_commits\":3,\"log_bytes\":9}\n";
        assert_eq!(counter(said, "log_commits").unwrap(), 3);
        assert_eq!(counter(said, "log_bytes").unwrap(), 9);
        assert!(counter("myriad: nothing", "log_bytes").is_err());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}
