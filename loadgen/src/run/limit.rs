//! `--find-limit`: the highest rate at which a latency goal is met, and what gave out above it.
//!
//! Every step is a whole run of the scenario at another rate: doubled while it holds, then halved
//! in between, by factors. Deliberately not here: the run itself (`control`).

use std::str::FromStr;

use super::{Options, RunError};
use crate::interrupt;
use crate::live::lines::{micros, thousands};
use crate::live::{Moment, Progress};
use crate::report::Report;

/// Runs of one search: a factor of 1,000 up and down, and some to close in.
const STEPS_MAX: usize = 20;
/// Near enough: what lies between is noise on most hosts.
const NEAR: f64 = 1.08;
/// Below this a search ends: nothing holds.
const RATE_MIN: f64 = 1.0;
/// A server that uses this share of all processors has none left to speak of.
const BUSY: f64 = 0.85;

/// A bound on a latency: `delivered.p99=50ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Goal {
    kind: &'static str,
    quantile: &'static str,
    most_us: u64,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no goal; wanted is one such as delivered.p99=50ms: connect, sent, \
                 delivered or read; p50, p99, p999 or max; us, ms or s"
            )
        };
        let (what, most) = text.split_once('=').ok_or_else(wrong)?;
        let (kind, quantile) = what.split_once('.').ok_or_else(wrong)?;
        let kinds = ["connect", "sent", "delivered", "read"];
        let quantiles = ["p50", "p99", "p999", "max"];
        let kind = kinds.into_iter().find(|known| *known == kind).ok_or_else(wrong)?;
        let quantile = quantiles.into_iter().find(|known| *known == quantile).ok_or_else(wrong)?;
        let digits = most.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match most.get(digits.len()..) {
            Some("us") => 1,
            Some("ms") => 1_000,
            Some("s") => 1_000_000,
            _ => return Err(wrong()),
        };
        let most: u64 = digits.parse().map_err(|_| wrong())?;
        let most_us = most.checked_mul(factor).filter(|us| *us > 0).ok_or_else(wrong)?;
        Ok(Self { kind, quantile, most_us })
    }
}

impl Goal {
    fn measured(&self, report: &Report) -> Option<u64> {
        let named = report.latency_us.named();
        let (_, latency) = named.into_iter().find(|(name, _)| *name == self.kind)?;
        match self.quantile {
            "p50" => latency.p50,
            "p99" => latency.p99,
            "p999" => latency.p999,
            _ => latency.max,
        }
    }

    /// In words.
    fn words(&self) -> String {
        format!("{} {} <= {}", self.kind, self.quantile, micros(self.most_us))
    }

    /// What gave out in a run; `None` if all of it held.
    fn gave_out(&self, report: &Report) -> Option<String> {
        let messages = &report.messages;
        if messages.wrong() > 0 {
            return Some(format!("messages: {}", crate::live::lines::oracle(messages)));
        }
        if report.sessions.failed > 0 {
            return Some(format!("sessions: {} failed", thousands(report.sessions.failed)));
        }
        if messages.refused > 0 {
            return Some(format!("the server refused {} messages", thousands(messages.refused)));
        }
        // Senders that wait are the server's doing, whatever the generator's clock says.
        let held_up = messages.unsent + messages.unanswered;
        if held_up > 0 {
            let count = thousands(held_up);
            return Some(format!("the server did not answer in time: {count} messages held up"));
        }
        if !report.valid {
            let why = report.invalid_because.join("; ");
            return Some(format!("the load generator, not the server: {why}"));
        }
        let Some(measured) = self.measured(report) else {
            return Some(format!("no {} was measured at all", self.kind));
        };
        if measured > self.most_us {
            let words = self.words();
            return Some(format!("{words} was {}{}", micros(measured), processors(report)));
        }
        let missed = report.thresholds.iter().find(|goal| !goal.held)?;
        Some(format!("the scenario's own goal {}", missed.goal))
    }
}

/// Whether processors were the reason, if the server's were measured.
fn processors(report: &Report) -> String {
    let server = &report.server;
    let (Some(user), Some(system)) = (server.cpu_user_s, server.cpu_system_s) else {
        return String::new();
    };
    let seconds = report.time.duration_s.max(0.1);
    let used = (user + system) / seconds;
    let own = report.generator.cpu_s.unwrap_or(0.0) / seconds;
    let all = report.machine.cpu_count as f64;
    let reason = if used + own > BUSY * all { ": no processor was left" } else { "" };
    format!("; the server used {used:.1} of {all:.0} processors, the generator {own:.1}{reason}")
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found<T> {
    /// The highest rate that held, and its run.
    pub(crate) best: Option<(f64, T)>,
    /// The lowest rate that did not, and what gave out.
    pub(crate) gave_out: Option<(f64, String)>,
}

/// Searches from a rate on. `play` plays at a rate: a run, and what gave out in it.
pub(crate) fn search<T, E>(
    first: f64,
    mut play: impl FnMut(f64) -> Result<(T, Option<String>), E>,
) -> Result<Found<T>, E> {
    let mut found = Found { best: None, gave_out: None };
    let mut rate = first;
    for _ in 0..STEPS_MAX {
        match play(rate)? {
            (run, None) => found.best = Some((rate, run)),
            (_, Some(why)) => found.gave_out = Some((rate, why)),
        }
        if interrupt::requested() {
            break;
        }
        let low = found.best.as_ref().map(|(rate, _)| *rate);
        let high = found.gave_out.as_ref().map(|(rate, _)| *rate);
        rate = match (low, high) {
            (Some(low), Some(high)) if high / low <= NEAR => break,
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => low * 2.0,
            (None, Some(high)) => high / 2.0,
            (None, None) => break,
        };
        if rate < RATE_MIN {
            break;
        }
    }
    Ok(found)
}

/// Shows nothing: a search tells a line per run.
struct Silent;

impl Progress for Silent {
    fn second(&mut self, _moment: &Moment) {}
    fn finish(&mut self, _report: &Report) {}
}

/// Searches with whole runs; the report of the best one. Tells each step and the end on standard
/// output.
pub(crate) fn find(options: &Options, goal: Goal) -> Result<Option<Report>, RunError> {
    let view = &mut |_: &str| -> Box<dyn Progress> { Box::new(Silent) };
    crate::say!("searching the highest rate with {}", goal.words());
    let mut play = |options: &Options| -> Result<(f64, Report, Option<String>), RunError> {
        let report = super::run(options, view)?;
        let key = "messages_per_second_max";
        let rate = report.scenario.parameters.get(key).and_then(|rate| rate.parse().ok());
        let rate: f64 = rate.unwrap_or_default();
        let why = goal.gave_out(&report);
        let measured = goal.measured(&report).map_or_else(|| "nothing".to_owned(), micros);
        let verdict = why.clone().unwrap_or_else(|| "held".to_owned());
        crate::say!("{rate:>12.0}/s  {} {} {measured}: {verdict}", goal.kind, goal.quantile);
        Ok((rate, report, why))
    };
    // The first run tells the scenario's own rate, if none is given.
    let (first, report, why) = play(options)?;
    if first <= 0.0 {
        return Err(RunError::Arguments("the scenario sends no messages; nothing to find".into()));
    }
    let mut ready = Some((report, why));
    let found = search(first, |rate| match ready.take() {
        Some(run) => Ok::<_, RunError>(run),
        None => {
            let (_, report, why) = play(&Options { rate: Some(rate), ..options.clone() })?;
            Ok((report, why))
        }
    })?;
    Ok(tell(found, goal))
}

/// Says what was found, also in the report.
fn tell(found: Found<Report>, goal: Goal) -> Option<Report> {
    let above = match &found.gave_out {
        Some((rate, why)) => format!("at {rate:.0}/s gave out: {why}"),
        None => "nothing gave out; the search ended".to_owned(),
    };
    match found.best {
        None => {
            crate::say!("no rate holds; {above}");
            None
        }
        Some((rate, mut report)) => {
            crate::say!("the limit is {rate:.0}/s; {above}");
            for (key, value) in [
                ("limit_goal", goal.words()),
                ("limit_messages_per_second", format!("{rate:.0}")),
                ("limit_what_gave_out", above),
            ] {
                report.scenario.parameters.insert(key.to_owned(), value);
            }
            Some(report)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn search_limit(first: f64, limit: f64) -> (Found<()>, usize) {
        let mut runs = 0;
        let found = search(first, |rate| {
            runs += 1;
            Ok::<_, ()>(((), (rate > limit).then(|| "too much".to_owned())))
        });
        (found.unwrap(), runs)
    }

    #[test]
    fn the_limit_is_found_from_below_and_from_above() {
        for first in [1_000.0, 50_000.0, 7.0] {
            let (found, runs) = search_limit(first, 12_345.0);
            let best = found.best.unwrap().0;
            let next = found.gave_out.unwrap().0;
            assert!(best <= 12_345.0 && next > 12_345.0, "{best} {next}");
            assert!(next / best <= NEAR, "{best} {next}");
            assert!(runs <= STEPS_MAX);
        }
    }

    #[test]
    fn a_search_without_an_end_ends() {
        let (found, runs) = search_limit(1_000.0, f64::INFINITY);
        assert!(found.gave_out.is_none() && runs <= STEPS_MAX);
        let (found, runs) = search_limit(1_000.0, 0.0);
        assert!(found.best.is_none() && runs <= 11);
    }

    #[test]
    fn goals_are_read() {
        let goal: Goal = "delivered.p99=50ms".parse().unwrap();
        assert_eq!(goal, Goal { kind: "delivered", quantile: "p99", most_us: 50_000 });
        assert_eq!("read.max=2s".parse::<Goal>().unwrap().most_us, 2_000_000);
        for wrong in [
            "",
            "delivered",
            "p99=5ms",
            "sent.p98=5ms",
            "sent.p99=5",
            "sent.p99=0ms",
            "sent.p99=-5ms",
            "sent.p99=99999999999999999999s",
        ] {
            let error = wrong.parse::<Goal>().unwrap_err();
            assert!(error.contains("delivered.p99=50ms"), "{error}");
        }
    }

    #[test]
    fn what_gave_out_is_named() {
        let goal: Goal = "delivered.p99=50ms".parse().unwrap();
        let mut report = sample::report(20, 1);
        let words = |report: &Report| goal.gave_out(report).unwrap_or_default();
        assert_eq!(words(&report), "messages: 1 lost");
        report.messages.lost = 0;
        assert_eq!(words(&report), "sessions: 3 failed");
        report.sessions.failed = 0;
        report.messages.unsent = 9;
        assert!(words(&report).contains("9 messages held up"));
        report.messages.unsent = 0;
        report.thresholds.clear();
        assert_eq!(goal.gave_out(&report), None);
        report.valid = false;
        report.invalid_because = vec!["it was too slow".to_owned()];
        assert!(words(&report).starts_with("the load generator, not the server: it was too slow"));
        report.valid = true;
        let tight: Goal = "delivered.p99=1us".parse().unwrap();
        let why = tight.gave_out(&report).unwrap();
        assert!(why.starts_with("delivered p99 <= 1us was "), "{why}");
        assert!(why.contains("processors"), "{why}");
    }
}
