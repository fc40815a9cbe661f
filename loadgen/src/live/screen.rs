//! The live view for a terminal: rates, sessions, latency and the oracle, redrawn every second.
//!
//! Invariants: the terminal is given back on every way out, a panic included; Ctrl-C stays a
//! signal, because only echo is switched off, so whoever watches for it hears it. Deliberately not
//! here: keys: a run is steered by its scenario.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, Stdout};

use ratatui::Terminal;
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, LineGauge, Paragraph, Sparkline, Wrap};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::lines::{Lines, micros, thousands, visible_line};
use super::{Moment, Progress, Title};
use crate::report::{Quantiles, Report};

/// Seconds a sparkline can show; wider than any terminal.
const HISTORY_MAX: usize = 1_000;
/// Lines of news kept.
const NEWS_MAX: usize = 20;

/// What is on the screen.
#[derive(Debug, Default)]
struct View {
    title: Title,
    moment: Moment,
    delivered: VecDeque<u64>,
    sessions: VecDeque<u64>,
    p99: VecDeque<u64>,
    news: VecDeque<String>,
}

impl View {
    fn take(&mut self, moment: &Moment) {
        let second = &moment.second;
        push(&mut self.delivered, whole(second.delivered_per_second));
        push(&mut self.sessions, second.sessions);
        let latency = latency(moment).map_or(0, |(_, quantiles)| quantiles.p99);
        push(&mut self.p99, latency);
        for news in &moment.news {
            if self.news.len() >= NEWS_MAX {
                self.news.pop_front();
            }
            self.news.push_back(visible_line(news));
        }
        self.moment = moment.clone();
    }
}

fn push(history: &mut VecDeque<u64>, value: u64) {
    if history.len() >= HISTORY_MAX {
        history.pop_front();
    }
    history.push_back(value);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "such a cast stops at the ends of the type, and what is drawn there is as good"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// The latency that says most now, with its name.
fn latency(moment: &Moment) -> Option<(&'static str, Quantiles)> {
    let latency = &moment.second.latency_us;
    let kinds =
        [("delivered", latency.delivered), ("sent", latency.sent), ("connect", latency.connect)];
    kinds.into_iter().find_map(|(name, quantiles)| Some((name, quantiles?)))
}

/// The live view on standard output.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    view: View,
    /// The terminal as it was; `None` if input is none.
    before: Option<Termios>,
    is_open: bool,
}

impl Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("view", &self.view).finish_non_exhaustive()
    }
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// It can't be written to, or has no size.
    pub fn open(title: &Title) -> io::Result<Self> {
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO);
            // At worst what is typed shows on the screen.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &quiet);
        }
        give_back_on_panic(before.clone());
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        let view = View { title: plain(title), ..View::default() };
        Ok(Self { terminal, view, before, is_open: true })
    }

    fn give_back(&mut self) {
        if std::mem::take(&mut self.is_open) {
            give_back(self.before.as_ref());
        }
    }
}

fn plain(title: &Title) -> Title {
    Title { scenario: visible_line(&title.scenario), target: visible_line(&title.target) }
}

fn give_back(before: Option<&Termios>) {
    // The terminal may be gone; nobody is left to tell then.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    if let Some(before) = before {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
    }
}

/// A panic ends the process without unwinding, so nothing is dropped then.
fn give_back_on_panic(before: Option<Termios>) {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back(before.as_ref());
        earlier(panic);
    }));
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Progress for Screen {
    fn second(&mut self, moment: &Moment) {
        self.view.take(moment);
        // A terminal that went away is no reason to end the run.
        let _ = draw(&mut self.terminal, &self.view);
    }

    fn finish(&mut self, report: &Report) {
        self.give_back();
        Lines::new(&self.view.title, Box::new(io::stdout())).finish(report);
    }
}

/// Draws the whole screen.
fn draw<B: Backend>(terminal: &mut Terminal<B>, view: &View) -> Result<(), B::Error> {
    terminal.draw(|frame| {
        let news_rows = u16::try_from(view.news.len()).unwrap_or(0).min(5);
        let rows = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(3),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Length(if news_rows > 0 { news_rows + 2 } else { 0 }),
        ]);
        let [title, gauge, oracle, messages, latency, sessions, news] = rows.areas(frame.area());
        frame.render_widget(title_line(view), title);
        frame.render_widget(whole_run(view), gauge);
        frame.render_widget(oracle_line(view), oracle);
        for (area, (words, history, colour)) in [messages, latency, sessions].into_iter().zip([
            (messages_words(view), &view.delivered, Color::Green),
            (latency_words(view), &view.p99, Color::Yellow),
            (sessions_words(view), &view.sessions, Color::Blue),
        ]) {
            let spark = Sparkline::default()
                .block(Block::bordered().title(words))
                .data(fitting(history, area))
                .style(Style::new().fg(colour));
            frame.render_widget(spark, area);
        }
        if news_rows > 0 {
            let last = view.news.iter().rev().take(usize::from(news_rows)).rev();
            let lines: Vec<Line<'_>> = last.map(|line| Line::raw(line.as_str())).collect();
            let words = Paragraph::new(lines).wrap(Wrap { trim: true });
            frame.render_widget(words.block(Block::bordered().title(" what happened ")), news);
        }
    })?;
    Ok(())
}

/// The newest values, as many as have room.
fn fitting(history: &VecDeque<u64>, area: Rect) -> Vec<u64> {
    let room = usize::from(area.width.saturating_sub(2));
    history.iter().skip(history.len().saturating_sub(room)).copied().collect()
}

fn title_line(view: &View) -> Line<'_> {
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let phase = &view.moment.second.phase;
    Line::from(vec![
        Span::styled(format!(" {} ", view.title.scenario), strong.fg(Color::Cyan)),
        Span::raw(format!("against {}   ", view.title.target)),
        Span::styled(visible_line(phase), strong),
        Span::raw(format!(
            " ({} of {})   {:.0} s   Ctrl-C ends the run",
            view.moment.phase_number, view.moment.phases, view.moment.second.at_s
        )),
    ])
}

fn whole_run(view: &View) -> LineGauge<'_> {
    let done = if view.moment.done.is_finite() { view.moment.done.clamp(0.0, 1.0) } else { 0.0 };
    let rest = Style::new().fg(Color::DarkGray);
    LineGauge::default().filled_style(Style::new().fg(Color::Cyan)).unfilled_style(rest).ratio(done)
}

fn oracle_line(view: &View) -> Paragraph<'_> {
    let messages = &view.moment.messages;
    let mut spans = Vec::new();
    for (name, count) in [
        ("lost", messages.lost),
        ("duplicated", messages.duplicated),
        ("reordered", messages.reordered),
        ("corrupted", messages.corrupted),
    ] {
        let colour = if count == 0 { Color::Green } else { Color::Red };
        let style = Style::new().fg(colour).add_modifier(Modifier::BOLD);
        spans.push(Span::styled(format!(" {} {name} ", thousands(count)), style));
    }
    spans.push(Span::raw(format!(
        "  of {} sent, {} acked, {} delivered, {} read",
        thousands(messages.sent),
        thousands(messages.acked),
        thousands(messages.delivered),
        thousands(messages.read)
    )));
    Paragraph::new(Line::from(spans)).block(Block::bordered().title(" oracle "))
}

fn messages_words(view: &View) -> String {
    let second = &view.moment.second;
    format!(
        " delivered {}/s, sent {}/s ",
        thousands(whole(second.delivered_per_second)),
        thousands(whole(second.sent_per_second))
    )
}

fn latency_words(view: &View) -> String {
    let behind = view.moment.second.behind_us;
    let behind = format!("this generator late by {}", micros(behind));
    match latency(&view.moment) {
        None => format!(" latency: nothing completed; {behind} "),
        Some((name, q)) => format!(
            " {name} p50 {}, p99 {}, slowest {}; {behind} ",
            micros(q.p50),
            micros(q.p99),
            micros(q.max)
        ),
    }
}

fn sessions_words(view: &View) -> String {
    let second = &view.moment.second;
    format!(
        " sessions {} of {}, {} logins/s, {} failed ",
        thousands(second.sessions),
        thousands(view.moment.sessions_target),
        thousands(second.logins),
        thousands(view.moment.failed)
    )
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::report::{Messages, sample};

    fn shown(width: u16, height: u16, view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        draw(&mut terminal, view).unwrap();
        let buffer = terminal.backend().buffer();
        let symbols: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        let lines = symbols.chunks(usize::from(width)).map(|line| line.concat());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn view() -> View {
        let title = Title { scenario: "chat".to_owned(), target: "ws://h:1".to_owned() };
        let mut view = View { title, ..View::default() };
        for second in sample::report(30, 1).series {
            view.take(&Moment {
                second,
                sessions_target: 20_000,
                phase_number: 2,
                phases: 3,
                done: 0.5,
                messages: Messages { sent: 1_234_567, duplicated: 3, ..Messages::default() },
                failed: 7,
                news: Vec::new(),
            });
        }
        view
    }

    #[test]
    fn rates_sessions_latency_and_oracle_are_on_a_small_terminal() {
        let text = shown(80, 24, &view());
        let second = sample::report(30, 1).series.pop().unwrap();
        let delivered = thousands(whole(second.delivered_per_second));
        for words in [
            "chat against ws://h:1",
            "hold (2 of 3)",
            &format!("delivered {delivered}/s"),
            "sessions 20,000 of 20,000",
            "3 duplicated",
            "0 lost",
            "1,234,567 sent",
            "7 failed",
            &format!("p50 {}", micros(second.latency_us.delivered.unwrap().p50)),
        ] {
            assert!(text.contains(words), "no `{words}` in\n{text}");
        }
        assert!(text.contains('█'), "a sparkline is drawn\n{text}");
    }

    #[test]
    fn news_are_shown_and_can_do_no_harm() {
        let mut view = view();
        let news = (0..100).map(|n| format!("client {n} came back \u{1b}[2J")).collect();
        view.take(&Moment { news, ..view.moment.clone() });
        let text = shown(100, 30, &view);
        assert!(text.contains("client 99 came back") && !text.contains('\u{1b}'), "{text}");
        assert!(view.news.len() <= NEWS_MAX);
    }

    #[test]
    fn every_size_can_be_drawn_on() {
        for (width, height) in [(1, 1), (10, 3), (20, 50), (300, 2), (400, 100)] {
            shown(width, height, &view());
            shown(width, height, &View::default());
        }
        let nonsense = Moment { done: f64::NAN, ..Moment::default() };
        let mut view = View::default();
        view.take(&nonsense);
        shown(80, 24, &view);
    }

    #[test]
    fn history_is_bounded() {
        let mut view = View::default();
        for _ in 0..3 * HISTORY_MAX {
            view.take(&Moment::default());
        }
        assert_eq!(view.p99.len(), HISTORY_MAX);
    }
}
