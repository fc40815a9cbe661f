//! Plain lines, for logs and pipes: one every few seconds and a few at the end.

use std::fmt::Debug;
use std::io::Write;

use super::{Moment, Progress, Title};
use crate::report::{Latency, Messages, Quantiles, Report};

/// A line every so many seconds; the first second always has one.
const SECONDS_PER_LINE: u64 = 5;

/// How an invalid run is called.
pub(crate) const INVALID: &str = "INVALID: latencies and rates of this run say nothing about the \
    server; what the oracle found holds";

/// Plain lines on a stream.
pub struct Lines {
    out: Box<dyn Write>,
    seconds: u64,
    phase: String,
}

impl Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("seconds", &self.seconds).finish_non_exhaustive()
    }
}

impl Lines {
    /// Begins with a line that names the run.
    #[must_use]
    pub fn new(title: &Title, out: Box<dyn Write>) -> Self {
        let mut lines = Self { out, seconds: 0, phase: String::new() };
        lines.say(&format!("{} against {}", title.scenario, title.target));
        lines
    }

    fn say(&mut self, line: &str) {
        // Nobody may be reading any more; the report and the exit code still tell.
        let _ = writeln!(self.out, "{}", visible_line(line)).and_then(|()| self.out.flush());
    }
}

impl Progress for Lines {
    fn second(&mut self, moment: &Moment) {
        for news in &moment.news {
            self.say(news);
        }
        let is_new_phase = moment.second.phase != self.phase;
        if self.seconds.is_multiple_of(SECONDS_PER_LINE) || is_new_phase {
            self.say(&line(moment));
            self.phase.clone_from(&moment.second.phase);
        }
        self.seconds += 1;
    }

    fn finish(&mut self, report: &Report) {
        for line in summary(report) {
            self.say(&line);
        }
    }
}

/// A line without anything that would act on a terminal.
#[must_use]
pub fn visible_line(line: &str) -> String {
    line.chars().map(crate::report::html::markup::visible).collect()
}

/// A moment in one line.
#[must_use]
pub fn line(moment: &Moment) -> String {
    let second = &moment.second;
    let quantiles = |quantiles: Option<Quantiles>| {
        quantiles.map_or_else(|| "-".to_owned(), |q| format!("{}/{}", micros(q.p50), micros(q.p99)))
    };
    format!(
        "{:>6.0} s  {:<12} sessions {}/{}  sent {:.0}/s  delivered {:.0}/s  p50/p99 sent {} \
         delivered {}  {}",
        second.at_s,
        second.phase,
        thousands(second.sessions),
        thousands(moment.sessions_target),
        second.sent_per_second,
        second.delivered_per_second,
        quantiles(second.latency_us.sent),
        quantiles(second.latency_us.delivered),
        oracle(&moment.messages),
    )
}

/// What went wrong, or that nothing did.
#[must_use]
pub fn oracle(messages: &Messages) -> String {
    if messages.wrong() == 0 {
        return "nothing wrong".to_owned();
    }
    let counts = [
        (messages.lost, "lost"),
        (messages.duplicated, "duplicated"),
        (messages.reordered, "reordered"),
        (messages.corrupted, "corrupted"),
    ];
    let words = counts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> =
        words.map(|(count, name)| format!("{} {name}", thousands(*count))).collect();
    words.join(", ")
}

/// The same for the end of a run, where also what was not judged counts.
fn verdict(messages: &Messages) -> String {
    let judged =
        if messages.sent == 0 { "no message was sent".to_owned() } else { oracle(messages) };
    let rest = [
        (messages.unanswered, "unanswered"),
        (messages.waiting, "not judged"),
        (messages.unsent, "not handed over"),
    ];
    let rest = rest.into_iter().filter(|(count, _)| *count > 0);
    let rest: String = rest.map(|(count, name)| format!("; {} {name}", thousands(count))).collect();
    judged + &rest
}

/// How a run went, in a few lines; what must not be overlooked comes first.
#[must_use]
pub fn summary(report: &Report) -> Vec<String> {
    let messages = &report.messages;
    let mut lines = vec![format!("oracle     {}", verdict(messages))];
    if !report.valid {
        lines.push(INVALID.to_owned());
        lines.extend(report.invalid_because.iter().map(|why| format!("  because {why}")));
    }
    lines.push(format!(
        "messages   {} sent, {} acked, {} delivered, {} read",
        thousands(messages.sent),
        thousands(messages.acked),
        thousands(messages.delivered),
        thousands(messages.read),
    ));
    let sessions = &report.sessions;
    lines.push(format!(
        "sessions   {} of {}, {:.0} logins per second, {} failed",
        thousands(sessions.established),
        thousands(sessions.target),
        sessions.per_second,
        thousands(sessions.failed),
    ));
    lines.extend(report.groups.map(|groups| {
        format!(
            "groups     {} of {} members, {} of them write; {} sent, {} copies delivered",
            thousands(groups.count),
            thousands(groups.members),
            thousands(groups.writers),
            thousands(groups.sent),
            thousands(groups.delivered),
        )
    }));
    let failures = report.failures.iter();
    lines.extend(failures.map(|f| format!("  {} x {}", thousands(f.count), f.reason)));
    for (name, latency) in report.latency_us.named() {
        lines.extend(latency_line(name, latency));
    }
    for threshold in &report.thresholds {
        let verdict = if threshold.held { "held" } else { "BROKEN" };
        let measured =
            threshold.measured.map_or_else(|| "nothing measured".to_owned(), |v| format!("{v}"));
        lines.push(format!("goal       {}: {verdict} ({measured})", threshold.goal));
    }
    lines
}

fn latency_line(name: &str, latency: &Latency) -> Option<String> {
    Some(format!(
        "{name:<10} p50 {}  p99 {}  p99.9 {}  max {}",
        micros(latency.p50?),
        micros(latency.p99?),
        micros(latency.p999?),
        micros(latency.max?),
    ))
}

/// Microseconds in the unit that suits them: `850us`, `12.3ms`, `1.05s`.
#[must_use]
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..10_000 => format!("{:.2}ms", us as f64 / 1e3),
        10_000..100_000 => format!("{:.1}ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0}ms", us as f64 / 1e3),
        _ => format!("{:.2}s", us as f64 / 1e6),
    }
}

/// A count with its thousands apart: `1,234,567`.
#[must_use]
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(micros(999), "999us");
        assert_eq!(micros(12_345), "12.3ms");
        assert_eq!(micros(1_050_000), "1.05s");
    }

    #[test]
    fn names_do_not_act_on_the_terminal() {
        assert_eq!(visible_line("a\u{1b}[2J\r\u{202e}b"), "a\u{fffd}[2J\u{fffd}\u{fffd}b");
    }

    #[test]
    fn what_went_wrong_is_named() {
        let messages = Messages { lost: 1, corrupted: 2_000, ..Messages::default() };
        assert_eq!(oracle(&messages), "1 lost, 2,000 corrupted");
        assert_eq!(oracle(&Messages::default()), "nothing wrong");
        assert_eq!(verdict(&Messages::default()), "no message was sent");
        let messages = Messages { sent: 9, unsent: 2, waiting: 1_000, ..Messages::default() };
        assert_eq!(verdict(&messages), "nothing wrong; 1,000 not judged; 2 not handed over");
    }

    #[test]
    fn a_summary_begins_with_the_oracle_and_says_why_sessions_failed() {
        let mut report = crate::report::sample::report(5, 1);
        let reason = "connection refused: nothing listens there (any more)".to_owned();
        report.failures = vec![crate::report::Failure { reason, count: 3 }];
        let lines = summary(&report);
        assert_eq!(lines[0], "oracle     1 lost");
        assert!(lines.iter().any(|line| line.starts_with("  3 x connection refused")), "{lines:?}");
    }
}
