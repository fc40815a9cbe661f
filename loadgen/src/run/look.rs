//! A look at a run every second: what the threads counted, shown and kept.
//!
//! Deliberately not here: when to look, and what follows (`control`).

use std::sync::mpsc::RecvTimeoutError;

use super::control::{LOOK, Run};
use super::tally::Tally;
use crate::live::{Moment, Progress};
use crate::report::{SERIES_MAX, Second};

impl Run {
    /// Collects what the threads counted, and shows it.
    pub(super) fn second(&mut self, now_us: u64, view: &mut dyn Progress) {
        self.course.ask();
        let mut counted = Tally::new();
        for _ in 0..self.threads.len() {
            match self.tallies.recv_timeout(LOOK) {
                Ok(tally) => counted.add(tally),
                // A thread that is busy: its counts come with the next second.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let (phase_number, phase) = self.phase(now_us);
        let ready = self.course.sum(|gauge| &gauge.ready);
        self.most_ready = self.most_ready.max(ready);
        let length_s = self.series.last().map_or(1.0, |last| now_us as f64 / 1e6 - last.at_s);
        let second = Second {
            at_s: now_us as f64 / 1e6,
            phase,
            sessions: ready,
            logins: counted.logins,
            failed: counted.failed,
            sent_per_second: counted.messages.sent as f64 / length_s,
            delivered_per_second: counted.messages.delivered as f64 / length_s,
            wrong: counted.messages.wrong(),
            latency_us: counted.brief(),
            behind_us: counted.behind_us.max(),
        };
        self.total.add(counted);
        for (reason, count) in &self.total.reasons {
            if !self.known_reasons.contains_key(reason) {
                self.news.push(format!("{reason} ({count} so far)"));
                self.known_reasons.insert(reason.clone(), *count);
            }
        }
        let length = self.course.legs.last().map_or(1, |leg| leg.end_us).max(1);
        let into = self.course.begun_us().map_or(0, |begun| now_us.saturating_sub(begun));
        view.second(&Moment {
            second: second.clone(),
            sessions_target: self.wanted(),
            phase_number,
            phases: self.course.legs.len(),
            done: (into as f64 / length as f64).min(1.0),
            messages: self.total.messages,
            failed: self.total.failed,
            news: std::mem::take(&mut self.news),
        });
        if self.series.len() < SERIES_MAX {
            self.series.push(second);
        }
    }

    /// Number and name of what is played now.
    fn phase(&self, now_us: u64) -> (usize, String) {
        let Some(begun_us) = self.course.begun_us() else { return (0, "connect".to_owned()) };
        let into = now_us.saturating_sub(begun_us);
        let legs = self.course.legs.iter().zip(&self.course.scenario.phases);
        let mut numbered = legs.enumerate();
        match numbered.find(|(_, (leg, _))| into < leg.end_us) {
            Some((index, (_, phase))) => (index + 1, phase.name.clone()),
            None => (self.course.legs.len(), "drain".to_owned()),
        }
    }
}
