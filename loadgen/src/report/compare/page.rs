//! Two sides as one page: the table, and percentile curves laid over each other.

use hdrhistogram::Histogram;

use super::text::{cell, footnote, runs};
use super::{Side, Verdict, differences, rows};
use crate::report::Latency;
use crate::report::html::charts::curve_chart;
use crate::report::html::frame;
use crate::report::html::markup::Html;
use crate::report::html::numbers::DASH;
use crate::report::html::svg::Chart;

/// Single runs drawn beside the sum of a side.
const THIN_MAX: usize = 10;

/// Draws both sides.
#[must_use]
pub fn page(a: &Side, b: &Side) -> String {
    let mut body = Html::default();
    body.raw("<header><p class=\"kind\">Comparison</p><h1>");
    body.raw("<span class=\"c1\">A</span> ").text(&a.name);
    body.raw(" and <span class=\"c3\">B</span> ").text(&b.name).raw("</h1>");
    body.raw("<p class=\"facts\">");
    for (name, side) in [("A", a), ("B", b)] {
        if let Some(run) = side.runs.first() {
            let server = run.versions.server.as_deref().unwrap_or("version not told");
            let facts = [&run.scenario.name, &run.target.protocol];
            let facts = facts.map(String::as_str).join(" on ");
            body.element("span", &[], format!("{name}: {facts}, server {server}, {}", runs(side)));
        }
    }
    body.raw("</p></header>");
    not_the_same(a, b, &mut body);
    figures(a, b, &mut body);
    let charts = charts(a, b);
    if !charts.is_empty() {
        body.raw("<section class=\"charts\">");
        for chart in charts {
            body.append(&chart.draw());
        }
        body.raw("</section>");
    }
    frame("Comparison", &body)
}

fn not_the_same(a: &Side, b: &Side, body: &mut Html) {
    let differences = differences(a, b);
    if differences.is_empty() {
        body.raw("<section class=\"verdict good\"><h2>Alike</h2><p>Scenario, settings, versions ")
            .raw("and machine are the same on both sides.</p></section>");
        return;
    }
    body.raw("<section class=\"verdict bad\"><h2>Not the same on both sides (A / B)</h2><ul>");
    for line in differences {
        body.element("li", &[], line);
    }
    body.raw("</ul></section>");
}

fn figures(a: &Side, b: &Side, body: &mut Html) {
    body.raw("<section><h2>Figures</h2><div class=\"wide\"><table class=\"numbers\"><thead><tr>")
        .raw("<th></th><th>A</th><th>B</th><th>B / A</th><th>B is</th></tr></thead><tbody>");
    for row in rows(a, b) {
        let class = match row.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            _ => "",
        };
        let ratio = row.ratio.map_or_else(|| DASH.to_owned(), |ratio| format!("{ratio:.2}"));
        body.raw("<tr>").element("th", &[], row.name);
        body.element("td", &[], cell(&row, row.a)).element("td", &[], cell(&row, row.b));
        body.element("td", &[("class", &class)], ratio);
        body.element("td", &[("class", &class)], row.verdict.words()).raw("</tr>");
    }
    body.raw("</tbody></table></div>");
    body.element("p", &[("class", &"hint")], footnote(a, b)).raw("</section>");
}

/// One chart for each latency that a side has.
fn charts(a: &Side, b: &Side) -> Vec<Chart> {
    let titles = ["Connect", "Sent", "Delivered", "Read"];
    let charts = titles.into_iter().enumerate().map(|(kind, title)| {
        let (a, b) = (curves(a, kind), curves(b, kind));
        let mut lines = Vec::new();
        // Single runs first, so that the sums lie over them.
        for (side, class) in [(&a, "c1 thin"), (&b, "c3 thin")] {
            lines.extend(side.single.iter().map(|run| (String::new(), class, run)));
        }
        for (side, name, class) in [(&a, "A", "c1"), (&b, "B", "c3")] {
            lines.extend(side.sum.iter().map(|sum| (name.to_owned(), class, sum)));
        }
        let note = "Lower is better. Thin lines are single runs.";
        curve_chart(title, note, lines)
    });
    charts.flatten().collect()
}

/// A latency of one side.
struct Curves {
    single: Vec<Histogram<u64>>,
    sum: Option<Histogram<u64>>,
}

/// What can't be decoded is left out; the table has its numbers.
fn curves(side: &Side, kind: usize) -> Curves {
    let of = |run: &'_ crate::report::Report| -> Option<Latency> {
        run.latency_us.named().get(kind).map(|(_, latency)| (*latency).clone())
    };
    let latencies: Vec<Latency> = side.runs.iter().filter_map(of).collect();
    let sum = Latency::merged(&latencies).and_then(|sum| sum.histogram()).ok();
    let sum = sum.filter(|sum| !sum.is_empty());
    let mut single = Vec::new();
    if latencies.len() > 1 {
        let all = latencies.iter().take(THIN_MAX).filter_map(|latency| latency.histogram().ok());
        single.extend(all.filter(|histogram| !histogram.is_empty()));
    }
    Curves { single, sum }
}
