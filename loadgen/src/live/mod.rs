//! A run as it goes: what the engine tells once a second, and who shows it.
//!
//! [`open`] picks the view: a screen if standard output is a terminal, plain lines every few
//! seconds otherwise.
//! Deliberately not here: measuring, and the report at the end (`report`).

pub mod lines;
pub mod screen;

use std::io::IsTerminal;

use crate::report::{Messages, Report, Second};

/// What the engine knows at the end of a second.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// The second that ended.
    pub second: Second,
    /// Sessions that are wanted now.
    pub sessions_target: u64,
    /// Which phase this is, from 1.
    pub phase_number: usize,
    /// Phases in all.
    pub phases: usize,
    /// How much of the whole run is done, 0 to 1.
    pub done: f64,
    /// What became of the messages so far. `lost` is known at the end only.
    pub messages: Messages,
    /// Sessions and attempts that failed so far.
    pub failed: u64,
    /// Something to tell at once, a line each: a reconnect, a limit met.
    pub news: Vec<String>,
}

/// Shows a run.
pub trait Progress {
    /// A second is over.
    fn second(&mut self, moment: &Moment);
    /// The run is over; gives the terminal back and says how it went in a few lines.
    fn finish(&mut self, report: &Report);
}

/// What the view is of.
#[derive(Clone, Debug, Default)]
pub struct Title {
    /// The scenario's name.
    pub scenario: String,
    /// The address.
    pub target: String,
}

/// The view that fits standard output.
#[must_use]
pub fn open(title: &Title) -> Box<dyn Progress> {
    if std::io::stdout().is_terminal() {
        // A terminal that can't be drawn on gets lines.
        if let Ok(screen) = screen::Screen::open(title) {
            return Box::new(screen);
        }
    }
    Box::new(lines::Lines::new(title, Box::new(std::io::stdout())))
}
