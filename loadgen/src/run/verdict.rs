//! The end of a run: what is lost, which goals were met, whether the numbers may be used.
//!
//! Pure. A message is lost if the server answered it (or, where servers do not answer, if it was
//! handed over) and it had not reached its recipient, who was connected, when the wait was over.

use std::collections::HashSet;

use super::ledger::Name;
use super::oracle::Track;
use super::player::Outcome;
use super::scenario::{Scenario, Thresholds};
use super::tally::Tally;
use crate::report::{Example, Latencies, Latency, Threshold, Wrong};

/// Adds what only the end tells to the counts: lost, waiting, unanswered.
pub(crate) fn close_books(outcomes: &[Outcome], tally: &mut Tally, now_us: u64) {
    let mut open = HashSet::new();
    let mut refused = HashSet::new();
    let mut missing = HashSet::new();
    for outcome in outcomes {
        let (theirs_open, theirs_refused) = outcome.ledger.excused();
        open.extend(theirs_open);
        refused.extend(theirs_refused);
        missing.extend(outcome.missing.iter().copied());
    }
    let nothing_came = Track::default();
    for outcome in outcomes {
        for ((from, to), sent) in &outcome.ledger.sent {
            let owner = outcomes.get(*to as usize % outcomes.len().max(1));
            let track = owner.and_then(|owner| owner.ledger.tracks.get(&(*to, *from)));
            for (first, last) in track.unwrap_or(&nothing_came).missing(*sent) {
                for sequence in first..=last {
                    let name: Name = (*from, *to, sequence);
                    if refused.contains(&name) {
                        continue;
                    } else if open.contains(&name) {
                        tally.messages.unanswered += 1;
                    } else if missing.contains(to) {
                        tally.messages.waiting += 1;
                    } else {
                        tally.wrong(lost(name, now_us));
                    }
                }
            }
        }
    }
}

fn lost((from, to, sequence): Name, now_us: u64) -> Example {
    Example {
        kind: Wrong::Lost,
        from: u64::from(from),
        to: u64::from(to),
        sequence: u64::from(sequence),
        at_s: now_us as f64 / 1e6,
        detail: String::new(),
    }
}

/// Every goal and whether it was met. `absent`: clients that were to be connected at the end and
/// were not.
pub(crate) fn judge(
    thresholds: &Thresholds,
    tally: &Tally,
    latencies: &Latencies,
    absent: u64,
) -> Vec<Threshold> {
    let messages = &tally.messages;
    let mut goals = Vec::new();
    for (name, measured, most) in [
        ("messages.lost", messages.lost, thresholds.lost),
        ("messages.duplicated", messages.duplicated, thresholds.duplicated),
        ("messages.reordered", messages.reordered, thresholds.reordered),
        ("messages.corrupted", messages.corrupted, thresholds.corrupted),
        ("messages.unanswered", messages.unanswered, 0),
        ("messages.refused", messages.refused, 0),
        ("sessions.failed", tally.failed, thresholds.failed),
        ("sessions.absent", absent, 0),
    ] {
        goals.push(Threshold {
            goal: format!("{name} <= {most}"),
            measured: Some(measured as f64),
            held: measured <= most,
        });
    }
    let t = thresholds;
    let bounds = [
        ("connect", [t.connect_p50_us, t.connect_p99_us, t.connect_p999_us, t.connect_max_us]),
        ("sent", [t.sent_p50_us, t.sent_p99_us, t.sent_p999_us, t.sent_max_us]),
        (
            "delivered",
            [t.delivered_p50_us, t.delivered_p99_us, t.delivered_p999_us, t.delivered_max_us],
        ),
        ("read", [t.read_p50_us, t.read_p99_us, t.read_p999_us, t.read_max_us]),
    ];
    for ((name, latency), (_, bounds)) in latencies.named().into_iter().zip(bounds) {
        let measured = [latency.p50, latency.p99, latency.p999, latency.max];
        for ((quantile, measured), most) in
            ["p50", "p99", "p999", "max"].into_iter().zip(measured).zip(bounds)
        {
            if let Some(most) = most {
                goals.push(Threshold {
                    goal: format!("latency_us.{name}.{quantile} <= {most}"),
                    measured: measured.map(|us| us as f64),
                    // What was never measured has not been met.
                    held: measured.is_some_and(|us| us <= most),
                });
            }
        }
    }
    goals
}

/// The four latencies as reports have them.
pub(crate) fn latencies(tally: &Tally) -> Latencies {
    Latencies {
        connect: Latency::new(&tally.connect_us),
        sent: Latency::new(&tally.sent_us),
        delivered: Latency::new(&tally.delivered_us),
        read: Latency::new(&tally.read_us),
    }
}

/// Why the numbers may not be used; empty if they may.
pub(crate) fn invalid_because(
    scenario: &Scenario,
    tally: &Tally,
    absent: u64,
    interrupted: bool,
) -> Vec<String> {
    let mut why = Vec::new();
    let bound = scenario.ending.behind_p99_us_max;
    let behind = tally.behind_us.value_at_quantile(0.99);
    if behind > bound {
        why.push(format!(
            "the generator was too slow: 1 in 100 messages began {behind} us after its intended \
             time or later, {bound} us are allowed; lower the rate, or give it more or quieter \
             processors"
        ));
    }
    let messages = &tally.messages;
    if messages.unsent > 0 {
        why.push(format!(
            "{} messages could not be handed over at their time: their senders had too many \
             unanswered ones, or no sender was connected; no latency tells of them",
            messages.unsent
        ));
    }
    if messages.waiting > 0 && absent > 0 {
        why.push(format!(
            "{} messages could not be judged: their recipients were not connected at the end",
            messages.waiting
        ));
    }
    if interrupted {
        why.push("it was interrupted".to_owned());
    }
    why
}
