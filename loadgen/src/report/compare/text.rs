//! Two sides as a table for the terminal.

use super::{RUNS_TO_JUDGE, Row, Side, Spread, Unit, by_chance, differences, rows};
use crate::live::lines::{micros, visible_line};
use crate::report::html::numbers::{DASH, amount};

/// Draws both sides as text, a line each.
#[must_use]
pub fn table(a: &Side, b: &Side) -> Vec<String> {
    let mut lines =
        vec![format!("A  {} ({})", a.name, runs(a)), format!("B  {} ({})", b.name, runs(b))];
    let differences = differences(a, b);
    if !differences.is_empty() {
        lines.push(String::new());
        lines.push("not the same on both sides (A / B):".to_owned());
        lines.extend(differences.into_iter().map(|line| format!("  {line}")));
    }
    lines.push(String::new());
    lines.push(format!("{:<26} {:>22} {:>22} {:>7}  {}", "", "A", "B", "B/A", "B is"));
    for row in rows(a, b) {
        let ratio = row.ratio.map_or_else(|| DASH.to_owned(), |ratio| format!("{ratio:.2}"));
        let line = format!(
            "{:<26} {:>22} {:>22} {ratio:>7}  {}",
            row.name,
            cell(&row, row.a),
            cell(&row, row.b),
            row.verdict.words()
        );
        lines.push(line.trim_end().to_owned());
    }
    lines.push(String::new());
    lines.push(footnote(a, b));
    lines.into_iter().map(|line| visible_line(&line)).collect()
}

pub(super) fn runs(side: &Side) -> String {
    match side.runs.len() {
        1 => "1 run".to_owned(),
        count => format!("{count} runs, medians"),
    }
}

/// How to read the last column.
pub(super) fn footnote(a: &Side, b: &Side) -> String {
    let (one, other) = (a.runs.len(), b.runs.len());
    if one.min(other) < RUNS_TO_JUDGE {
        return format!(
            "One run tells nothing about noise: with {RUNS_TO_JUDGE} or more of each side this \
             says which differences exceed it."
        );
    }
    format!(
        "better, worse: no run of one side reaches the other side. Luck alone does that to a line \
         in {:.1} % of all comparisons of {one} with {other} runs.",
        by_chance(one, other) * 100.0
    )
}

pub(super) fn cell(row: &Row, spread: Option<Spread>) -> String {
    let Some(spread) = spread else { return DASH.to_owned() };
    if spread.runs == 1 || spread.low == spread.high {
        return value(row.unit, spread.median);
    }
    format!(
        "{} ({}..{})",
        value(row.unit, spread.median),
        value(row.unit, spread.low),
        value(row.unit, spread.high)
    )
}

fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count => amount(value),
        Unit::Bytes => format!("{} B", amount(value)),
        Unit::Micros if value < 1_000.0 => format!("{}us", amount(value)),
        Unit::Micros => micros(whole(value)),
    }
}

/// The whole number nearest to it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "such a cast stops at the ends of the type, and what is shown there is as good"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}
