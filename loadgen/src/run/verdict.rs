//! The end of a run: what is lost, which goals were met, whether the numbers may be used.
//!
//! Pure. A message is lost if the server answered it (or, where servers do not answer, if it was
//! handed over) and it had not reached its recipient, who was connected, when the wait was over.
//! Of a message to a group each copy is judged so.

use std::collections::BTreeSet;

use super::groups;
use super::ledger::{self, Ledger, Name};
use super::oracle::Track;
use super::player::Outcome;
use super::scenario::{Scenario, Thresholds};
use super::tally::Tally;
use crate::report::{Example, Latencies, Latency, Threshold, Wrong};

/// When the books are closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    /// On the run's clock.
    pub(crate) now_us: u64,
    /// Nobody waited for what was under way: what came after all of its pair may yet come.
    pub(crate) interrupted: bool,
}

/// Adds what only the end tells to the counts: lost, waiting, unanswered.
///
/// A run that was stopped under load has millions of messages under way, and whoever stopped it
/// waits. So everything is sorted once and gone through side by side.
pub(crate) fn close_books(outcomes: &[Outcome], tally: &mut Tally, closing: Closing) {
    let mut missing: Vec<u32> =
        outcomes.iter().flat_map(|outcome| outcome.missing.iter().copied()).collect();
    missing.sort_unstable();
    let closed = Closed { outcomes, missing: &missing, closing };
    let nothing_came = Track::default();
    for outcome in outcomes {
        let mut excused = Excused::new(&outcome.ledger);
        let mut pairs: Vec<(u32, u32, u32)> =
            outcome.ledger.sent.iter().map(|((from, to), sent)| (*from, *to, *sent)).collect();
        pairs.sort_unstable();
        for (from, to, sent) in pairs {
            if let Some(group) = groups::group_of(to) {
                closed.close_group((from, group, sent), &excused, tally);
                continue;
            }
            let owner = outcomes.get(to as usize % outcomes.len().max(1));
            let track = owner.and_then(|owner| owner.ledger.tracks.get(&(to, from)));
            let track = track.unwrap_or(&nothing_came);
            let is_away = missing.binary_search(&to).is_ok();
            for (first, last) in track.missing(sent) {
                // Behind what came last: it was not overtaken, there only was no time for it.
                let is_tail = last == sent && first > track.came_up_to();
                for sequence in first..=last {
                    let name: Name = (from, to, sequence);
                    match excused.of(name) {
                        Some(Excuse::Refused) => {}
                        Some(Excuse::Open) => tally.messages.unanswered += 1,
                        None if is_away || closing.interrupted && is_tail => {
                            tally.messages.waiting += 1;
                        }
                        None => tally.wrong(lost(name, to, closing.now_us)),
                    }
                }
            }
        }
    }
    closed.compare_orders(tally);
}

/// The books of all threads, and who is not there any more.
struct Closed<'a> {
    outcomes: &'a [Outcome],
    /// Clients that were not connected at the end, ascending.
    missing: &'a [u32],
    closing: Closing,
}

impl Closed<'_> {
    /// What one member wrote to a group: every copy of it. A message without an answer counts once,
    /// whoever lacks it.
    fn close_group(&self, (from, group, sent): Name, excused: &Excused, tally: &mut Tally) {
        let owner = |number: u32| self.outcomes.get(number as usize % self.outcomes.len().max(1));
        let books = |number| owner(number).and_then(|owner| owner.ledger.copies.as_ref());
        let Some(plan) = books(from).map(|copies| copies.plan) else { return };
        let nothing_came = Track::default();
        let to = groups::address(group);
        let mut open = BTreeSet::new();
        for member in plan.members(group).filter(|member| *member != from) {
            let track = books(member).and_then(|copies| copies.track(group, member, from));
            let track = track.unwrap_or(&nothing_came);
            let is_away = self.missing.binary_search(&member).is_ok();
            for (first, last) in track.missing(sent) {
                let excuses = excused.among((from, to, first), (from, to, last));
                let unanswered = excuses.iter().filter(|(_, excuse)| *excuse == Excuse::Open);
                open.extend(unanswered.map(|((.., sequence), _)| *sequence));
                let is_tail = last == sent && first > track.came_up_to();
                if is_away || self.closing.interrupted && is_tail {
                    let all = u64::from(last - first) + 1;
                    tally.messages.waiting += all - excuses.len() as u64;
                    continue;
                }
                for sequence in first..=last {
                    let name = (from, to, sequence);
                    if excuses.binary_search_by_key(&name, |(name, _)| *name).is_err() {
                        tally.wrong(lost(name, member, self.closing.now_us));
                    }
                }
            }
        }
        tally.messages.unanswered += open.len() as u64;
    }

    /// Clients of one thread were compared as they got things; this is for those of two.
    fn compare_orders(&self, tally: &mut Tally) {
        let all = || self.outcomes.iter().filter_map(|outcome| outcome.ledger.copies.as_ref());
        for (index, copies) in all().enumerate() {
            for other in all().take(index) {
                for ((group, from, sequence), member, detail) in copies.differences(other) {
                    let name = (from, groups::address(group), sequence);
                    let now_us = self.closing.now_us;
                    tally.wrong(ledger::example(Wrong::Reordered, name, member, now_us, detail));
                }
            }
        }
    }
}

/// Why a message need not have come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Excuse {
    /// The server refused it.
    Refused,
    /// The server did not answer it.
    Open,
}

/// All excused messages of a thread's senders.
struct Excused {
    /// Ascending.
    list: Vec<(Name, Excuse)>,
    /// Those before were asked for.
    at: usize,
}

impl Excused {
    fn new(ledger: &Ledger) -> Self {
        let (open, refused) = ledger.excused();
        let open = open.into_iter().map(|name| (name, Excuse::Open));
        let mut list: Vec<_> = open.collect();
        list.extend(refused.iter().map(|name| (*name, Excuse::Refused)));
        list.sort_unstable();
        Self { list, at: 0 }
    }

    /// The excuse of this message, which is above all that were asked for before.
    fn of(&mut self, name: Name) -> Option<Excuse> {
        while self.list.get(self.at).is_some_and(|(other, _)| *other < name) {
            self.at += 1;
        }
        self.list.get(self.at).filter(|(other, _)| *other == name).map(|(_, excuse)| *excuse)
    }

    /// All of these, in any order of questions.
    fn among(&self, first: Name, last: Name) -> &[(Name, Excuse)] {
        let start = self.list.partition_point(|(name, _)| *name < first);
        let end = self.list.partition_point(|(name, _)| *name <= last);
        self.list.get(start..end).unwrap_or_default()
    }
}

fn lost(name: Name, to: u32, now_us: u64) -> Example {
    ledger::example(Wrong::Lost, name, to, now_us, String::new())
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
    if messages.waiting > 0 && absent > 0 && !interrupted {
        why.push(format!(
            "{} messages could not be judged: their recipients were not connected at the end",
            messages.waiting
        ));
    }
    if interrupted {
        why.push(if messages.waiting > 0 {
            format!(
                "it was interrupted: {} messages under way were not waited for, and are not \
                 judged",
                messages.waiting
            )
        } else {
            "it was interrupted".to_owned()
        });
    }
    why
}

#[cfg(test)]
mod tests;
