//! What one thread is to do next, and when: the scenario's phases dealt out by the clock.
//!
//! Says what is due; never looks whether it could be done. Deliberately not here: doing it.

use super::course::{Course, Leg};
use super::scenario::Traffic;
use super::schedule::{Rate, Schedule, micros};

/// Something that is due.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Deed {
    /// The client of this place on the thread connects for the first time, or again after a rest.
    Connect { local: u32, intended_us: u64 },
    /// Some client writes; which, is the player's choice.
    Send { intended_us: u64 },
    /// Some connection is cut and comes back.
    Churn { intended_us: u64 },
    /// A phase begins.
    Begin { leg: usize },
    /// All phases are over.
    End,
}

/// Connections to open one by one.
#[derive(Debug)]
struct Opening {
    schedule: Schedule,
    start_us: u64,
    next_local: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    part: u32,
    threads: u32,
    openings: Vec<Opening>,
    /// The phase that is played.
    leg: Option<usize>,
    leg_start_us: u64,
    sends: Schedule,
    churn: Schedule,
    ended: bool,
}

impl Pace {
    /// Begins with opening the clients of the first phase.
    pub(crate) fn new(course: &Course, part: u32, now_us: u64) -> Self {
        let mut pace = Self {
            part,
            threads: course.threads,
            openings: Vec::new(),
            leg: None,
            leg_start_us: 0,
            sends: nothing(),
            churn: nothing(),
            ended: false,
        };
        pace.open(course, 0, course.online_first(), now_us);
        pace
    }

    /// The next thing that is due by now.
    pub(crate) fn next(&mut self, course: &Course, now_us: u64) -> Option<Deed> {
        for opening in &mut self.openings {
            if let Some(at) = opening.schedule.take(now_us.saturating_sub(opening.start_us)) {
                let local = opening.next_local;
                opening.next_local += 1;
                return Some(Deed::Connect { local, intended_us: opening.start_us + at });
            }
        }
        self.openings.retain(|opening| opening.schedule.due_us().is_some());
        let into_leg_us = now_us.saturating_sub(self.leg_start_us);
        if let Some(at) = self.sends.take(into_leg_us) {
            return Some(Deed::Send { intended_us: self.leg_start_us + at });
        }
        if let Some(at) = self.churn.take(into_leg_us) {
            return Some(Deed::Churn { intended_us: self.leg_start_us + at });
        }
        self.turn_page(course, now_us)
    }

    /// When something is due next, if that is known.
    pub(crate) fn due_us(&self, course: &Course) -> Option<u64> {
        let openings = self
            .openings
            .iter()
            .filter_map(|opening| opening.schedule.due_us().map(|due| opening.start_us + due));
        let in_leg = [self.sends.due_us(), self.churn.due_us()].into_iter().flatten();
        let in_leg = in_leg.map(|due| self.leg_start_us + due);
        let page = self.page_us(course).filter(|_| !self.ended);
        openings.chain(in_leg).chain(page).min()
    }

    /// Whether all phases are over.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The phase that is played.
    pub(crate) fn leg<'c>(&self, course: &'c Course) -> Option<&'c Leg> {
        course.legs.get(self.leg?)
    }

    /// How many clients of this thread have numbers below this.
    pub(crate) fn locals(&self, numbers: u32) -> u32 {
        locals(numbers, self.part, self.threads)
    }

    /// Opens the clients with numbers from `first` to `end`, one by one.
    pub(crate) fn open(&mut self, course: &Course, first: u32, end: u32, start_us: u64) {
        let count = f64::from(end.saturating_sub(first));
        let per_second = course.scenario.clients.connects_per_second;
        let rate = Rate { from: per_second, to: per_second, seconds: count / per_second };
        let next_local = self.locals(first);
        let first_number = next_local * self.threads + self.part;
        let offset = u64::from(first_number.saturating_sub(first));
        let schedule = Schedule::new(rate, offset, u64::from(self.threads));
        self.openings.push(Opening { schedule, start_us, next_local });
    }

    /// When the phase that is played ends, or the first begins.
    fn page_us(&self, course: &Course) -> Option<u64> {
        let begun_us = course.begun_us()?;
        let leg = self.leg.map_or(Some(0), |leg| course.legs.get(leg).map(|leg| leg.end_us));
        leg.map(|at| begun_us + at)
    }

    fn turn_page(&mut self, course: &Course, now_us: u64) -> Option<Deed> {
        if self.ended || self.page_us(course)? > now_us {
            return None;
        }
        let next = self.leg.map_or(0, |leg| leg + 1);
        self.leg = Some(next);
        let Some(leg) = course.legs.get(next) else {
            self.ended = true;
            return Some(Deed::End);
        };
        self.leg_start_us = course.begun_us()? + leg.start_us;
        let (part, parts) = (u64::from(self.part), u64::from(self.threads));
        self.sends = match course.plan.filter(|_| leg.traffic == Traffic::Group) {
            None => Schedule::new(leg.rate, part, parts),
            Some(plan) => match plan.share(leg.online, self.part, self.threads) {
                Some((part, parts)) => Schedule::new(leg.rate, part, parts),
                None => nothing(), // those of others write all of it
            },
        };
        let churn = leg.churn_per_second;
        let seconds = leg.rate.seconds;
        self.churn = Schedule::new(Rate { from: churn, to: churn, seconds }, part, parts);
        Some(Deed::Begin { leg: next })
    }

    /// When the phase that is played began.
    pub(crate) fn leg_start_us(&self) -> u64 {
        self.leg_start_us
    }
}

fn nothing() -> Schedule {
    Schedule::new(Rate { from: 0.0, to: 0.0, seconds: 0.0 }, 0, 1)
}

/// How many of the numbers below `numbers` belong to a part.
pub(crate) fn locals(numbers: u32, part: u32, parts: u32) -> u32 {
    if numbers <= part { 0 } else { (numbers - part).div_ceil(parts) }
}

/// When the n-th of a storm's clients comes back.
pub(crate) fn storm_due_us(start_us: u64, per_second: f64, number: u32) -> u64 {
    if per_second > 0.0 { start_us + micros(f64::from(number) / per_second) } else { start_us }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_belongs_to_one_part() {
        for (numbers, parts) in [(0, 3), (1, 3), (7, 2), (1_000, 7)] {
            let sum: u32 = (0..parts).map(|part| locals(numbers, part, parts)).sum();
            assert_eq!(sum, numbers);
        }
    }

    #[test]
    fn a_storm_comes_back_at_its_rate() {
        assert_eq!(storm_due_us(5, 0.0, 1_000), 5);
        assert_eq!(storm_due_us(5, 100.0, 200), 2_000_005);
    }
}
