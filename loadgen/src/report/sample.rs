//! Reports for tests: like those of a run, the same every time.

use super::latency::{histogram, quantiles};
use super::{
    Example, Generator, Latencies, Latency, Machine, Messages, Report, Scenario, Second,
    SecondLatencies, Server, Sessions, Target, Threshold, Time, Versions, Wrong,
};
use crate::random::Random;

/// A run of so many seconds, `slower` times as slow as another.
pub(crate) fn report(seconds: u32, slower: u64) -> Report {
    let mut random = Random::new(7);
    let mut sum = [histogram(), histogram(), histogram(), histogram()];
    let mut series = Vec::new();
    let ramp = (seconds / 5).max(1);
    for second in 1..=seconds {
        let mut own = [histogram(), histogram(), histogram(), histogram()];
        let is_ramp = second <= ramp;
        for _ in 0..200 {
            // Most are fast, one in fifty is slow, and one second is bad.
            let slow = if random.once_in(50) { 20 } else { 1 };
            let bad = if second == seconds * 3 / 5 { 30 } else { 1 };
            let base = (180 + random.below(240)) * slow * bad * slower;
            for (index, factor) in [3, 1, 2, 4].into_iter().enumerate() {
                if is_ramp == (index == 0) {
                    own[index].saturating_record(base * factor);
                    sum[index].saturating_record(base * factor);
                }
            }
        }
        let [connect, sent, delivered, read] = own.each_ref().map(quantiles);
        let rate = if is_ramp { 0.0 } else { 9_900.0 + random.below(200) as f64 };
        series.push(Second {
            at_s: f64::from(second),
            phase: if is_ramp { "ramp" } else { "hold" }.to_owned(),
            sessions: 20_000 * u64::from(second.min(ramp)) / u64::from(ramp),
            logins: if is_ramp { 20_000 / u64::from(ramp) } else { 0 },
            failed: 0,
            sent_per_second: rate,
            delivered_per_second: rate * 0.995,
            wrong: u64::from(second == seconds * 3 / 5),
            latency_us: SecondLatencies { connect, sent, delivered, read },
            behind_us: 20 + random.below(60),
        });
    }
    let [connect, sent, delivered, read] = sum.each_ref().map(Latency::new);
    Report {
        format: super::FORMAT,
        valid: true,
        invalid_because: Vec::new(),
        messages: messages(delivered.count),
        sessions: Sessions { target: 20_000, established: 20_000, failed: 3, per_second: 4_321.5 },
        latency_us: Latencies { connect, sent, delivered, read },
        thresholds: thresholds(),
        series,
        ..surroundings(seconds)
    }
}

fn messages(delivered: u64) -> Messages {
    let acked = delivered + 1;
    Messages { sent: acked, acked, delivered, read: delivered, lost: 1, ..Messages::default() }
}

fn thresholds() -> Vec<Threshold> {
    let goal = |goal: &str, measured, held| Threshold { goal: goal.to_owned(), measured, held };
    vec![
        goal("latency_us.delivered.p99 <= 50000", Some(14_310.0), true),
        goal("messages.lost <= 0", Some(1.0), false),
    ]
}

fn surroundings(seconds: u32) -> Report {
    let parameters = [
        ("sessions", "20000"),
        ("rate", "10000"),
        ("payload_bytes", "150"),
        ("pairs", "one-to-one"),
    ];
    let mut report = Report {
        server: Server {
            pid: Some(4_711),
            rss_bytes_before: Some(12 << 20),
            rss_bytes_after: Some(21 << 20),
            user_bytes_per_session: Some(471.4),
            kernel_bytes_per_session: Some(4_012.0),
            memory_method: Some("resident set before and after, and MemAvailable".to_owned()),
            cpu_us_per_message: Some(18.7),
            cpu_user_s: Some(3.2),
            cpu_system_s: Some(11.9),
        },
        scenario: Scenario {
            name: "chat".to_owned(),
            parameters: parameters.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        },
        target: Target {
            protocol: "myriad".to_owned(),
            url: "ws://127.0.0.1:7777/v1/chat".to_owned(),
        },
        versions: Versions::new(Some("myriad 0.1.0".to_owned())),
        time: Time { started_unix_ms: 1_795_328_460_000, duration_s: f64::from(seconds) },
        generator: Generator {
            engine: "io_uring".to_owned(),
            threads: 2,
            bytes_per_client: Some(612.0),
            behind_p99_us: 70,
            behind_max_us: 812,
            cpu_s: Some(14.2),
        },
        machine: Machine::read(),
        ..Report::default()
    };
    report.oracle.examples.push(Example {
        kind: Wrong::Lost,
        from: 17,
        to: 4_242,
        sequence: 99,
        at_s: 61.25,
        detail: "acked 1.2 s before the end of the run".to_owned(),
    });
    report
}
