//! The end of a run: what is lost, which goals were met, whether the numbers may be used.
//!
//! Pure. A message is lost if the server answered it (or, where servers do not answer, if it was
//! handed over) and it had not reached its recipient, who was connected, when the wait was over.

use super::ledger::{Ledger, Name};
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
    let nothing_came = Track::default();
    for outcome in outcomes {
        let mut excused = Excused::new(&outcome.ledger);
        let mut pairs: Vec<(u32, u32, u32)> =
            outcome.ledger.sent.iter().map(|((from, to), sent)| (*from, *to, *sent)).collect();
        pairs.sort_unstable();
        for (from, to, sent) in pairs {
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
                        None => tally.wrong(lost(name, closing.now_us)),
                    }
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

/// All excused messages of a thread's senders; asked for in ascending order.
struct Excused {
    list: std::iter::Peekable<std::vec::IntoIter<(Name, Excuse)>>,
}

impl Excused {
    fn new(ledger: &Ledger) -> Self {
        let (open, refused) = ledger.excused();
        let open = open.into_iter().map(|name| (name, Excuse::Open));
        let mut list: Vec<_> = open.collect();
        list.extend(refused.iter().map(|name| (*name, Excuse::Refused)));
        list.sort_unstable();
        Self { list: list.into_iter().peekable() }
    }

    /// The excuse of this message, which is above all that were asked for before.
    fn of(&mut self, name: Name) -> Option<Excuse> {
        while self.list.next_if(|(other, _)| *other < name).is_some() {}
        self.list.next_if(|(other, _)| *other == name).map(|(_, excuse)| excuse)
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
mod tests {
    use super::*;
    use crate::protocol::{Event, Promises, ReadMark};
    use crate::run::ledger::{Heard, Listener};
    use crate::run::payload;

    const RUN: u64 = 5;

    /// Client 0 writes `sent` messages to client 1 in one thread; these are answered, refused and
    /// delivered.
    fn books(sent: u64, acked: &[u64], refused: &[u64], came: &[u32]) -> Outcome {
        let promises = Promises { acks: true, ..Promises::default() };
        let mut ledger = Ledger::new(RUN, 0, promises);
        let mut heard = Heard::default();
        let listener = Listener { number: 1, life: 1, now_us: 9 };
        let mut payloads = Vec::new();
        for tag in 1..=sent {
            let (found, head) = ledger.name(0, 1, 1, true);
            assert_eq!(found, tag);
            ledger.handed_over(&head, 1);
            let mut bytes = Vec::new();
            payload::write(&head, 50, &mut bytes);
            payloads.push(bytes);
        }
        for tag in acked {
            ledger.hear(listener, Event::Acked { tag: *tag }, &mut heard);
        }
        for tag in refused {
            let event = Event::Refused { tag: *tag, reason: String::new() };
            ledger.hear(listener, event, &mut heard);
        }
        for sequence in came {
            let payload = &payloads[*sequence as usize - 1];
            let event = Event::Delivered { payload, mark: ReadMark::default() };
            ledger.hear(listener, event, &mut heard);
        }
        Outcome { ledger, missing: Vec::new() }
    }

    /// Lost, unanswered, waiting; and the sequences that are named as lost.
    fn judged(outcome: Outcome, interrupted: bool) -> ([u64; 3], Vec<u64>) {
        let mut tally = Tally::new();
        close_books(&[outcome], &mut tally, Closing { now_us: 10, interrupted });
        let messages = &tally.messages;
        let names = tally.examples.iter().map(|example| example.sequence).collect();
        ([messages.lost, messages.unanswered, messages.waiting], names)
    }

    #[test]
    fn only_what_was_answered_and_never_came_is_lost() {
        let books = || books(9, &[1, 2, 3, 6, 9], &[4], &[1, 5, 6]);
        assert_eq!(judged(books(), false), ([3, 2, 0], vec![2, 3, 9]));
        let absent = Outcome { missing: vec![1], ..books() };
        assert_eq!(judged(absent, false), ([0, 2, 3], Vec::new()));
    }

    #[test]
    fn what_an_interrupted_run_had_under_way_is_not_called_lost() {
        let books = || books(6, &[1, 2, 3, 4, 5, 6], &[], &[1, 3]);
        assert_eq!(judged(books(), false), ([4, 0, 0], vec![2, 4, 5, 6]));
        // 2 was overtaken by 3, so it is lost all the same.
        assert_eq!(judged(books(), true), ([1, 0, 3], vec![2]));
    }
}
