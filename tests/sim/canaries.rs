//! The simulator finds every planted bug, by the checker whose invariant it breaks.
//!
//! `cargo nextest run -p myriad --features canary --test simulation canary` runs one test per
//! canary. Each prints its line of the table in `docs/testing.md` (add `--success-output final`).

use myriad::canary::{self, Canary};

use super::sim::harness;
use super::sim::plan::Plan;

/// Worlds in which a canary has to be found.
const WORLDS_MAX: u64 = 200;
/// Events in which it has to be found.
const EVENTS_MAX: u64 = 1_000_000;

/// Runs worlds until one of them breaks its word, which must be by the checker of this name.
fn is_found(planted: Canary, breaks: &str) {
    canary::set(Some(planted));
    let mut events = 0;
    for world in 0..WORLDS_MAX {
        let seed = world / 2;
        let mut plan = match planted {
            Canary::DeliverBlocked
            | Canary::TickBlocked
            | Canary::ForgetVoids
            | Canary::ShowHidden
            | Canary::TellSilent => Plan::of_whims(seed),
            _ if world % 2 == 0 => Plan::of(seed),
            _ => Plan::of_crashes(seed),
        };
        if planted == Canary::EpochIgnoresClock {
            // Only the restore of a backup shows it, and few worlds have any.
            (plan.chances.backup, plan.chances.restore) = (20, 300);
        }
        if planted == Canary::AnswerAnew {
            // Only somebody who left before the answer came asks again, and few do.
            plan.chances.leave *= 4;
        }
        match harness::run_world(plan) {
            Ok(world) => events += world.events(),
            Err(failure) => {
                events += failure.events;
                let what = failure.what;
                assert!(what.starts_with(breaks), "found by another checker: {what}");
                assert!(events <= EVENTS_MAX, "found only after {events} events");
                println!("| `{planted:?}` | {breaks} | {} | {events} | {what} |", world + 1);
                return;
            }
        }
        assert!(events <= EVENTS_MAX, "{planted:?} was not found in {events} events");
    }
    panic!("{planted:?} was not found in {WORLDS_MAX} worlds");
}

#[test]
fn drop_append() {
    is_found(Canary::DropAppend, "I1");
}

#[test]
fn ack_before_sync() {
    is_found(Canary::AckBeforeSync, "I1");
}

#[test]
fn forget_at_recovery() {
    is_found(Canary::ForgetAtRecovery, "I1");
}

#[test]
fn forget_answers() {
    is_found(Canary::ForgetAnswers, "I2");
}

#[test]
fn answer_anew() {
    is_found(Canary::AnswerAnew, "I2");
}

#[test]
fn swap_deliveries() {
    is_found(Canary::SwapDeliveries, "I3");
}

#[test]
fn overtake_refused() {
    is_found(Canary::OvertakeRefused, "I3");
}

#[test]
fn reuse_epoch() {
    is_found(Canary::ReuseEpoch, "I4");
}

#[test]
fn epoch_ignores_clock() {
    is_found(Canary::EpochIgnoresClock, "I4");
}

#[test]
fn push_then_refuse() {
    is_found(Canary::PushThenRefuse, "I5");
}

#[test]
fn swallow_send() {
    is_found(Canary::SwallowSend, "I5");
}

#[test]
fn unacked_overflow() {
    is_found(Canary::UnackedOverflow, "I6");
}

#[test]
fn push_to_removed() {
    is_found(Canary::PushToRemoved, "groups");
}

#[test]
fn swap_group_page() {
    is_found(Canary::SwapGroupPage, "I3");
}

#[test]
fn tick_early() {
    is_found(Canary::TickEarly, "ticks");
}

#[test]
fn lose_from_page() {
    is_found(Canary::LoseFromPage, "I1");
}

#[test]
fn answers_overflow() {
    is_found(Canary::AnswersOverflow, "I6");
}

#[test]
fn deliver_blocked() {
    is_found(Canary::DeliverBlocked, "blocks");
}

#[test]
fn tick_blocked() {
    is_found(Canary::TickBlocked, "ticks");
}

#[test]
fn forget_voids() {
    is_found(Canary::ForgetVoids, "ticks");
}

#[test]
fn show_hidden() {
    is_found(Canary::ShowHidden, "privacy");
}

#[test]
fn tell_silent() {
    is_found(Canary::TellSilent, "privacy");
}
