//! One report as one file of HTML: nothing is fetched, no script runs.
//!
//! What must not be overlooked comes first: what the oracle found, whether the numbers may be used,
//! whether the goals were met. Deliberately not here: two reports side by side (`compare`).

pub(in crate::report) mod charts;
pub(crate) mod markup;
pub(in crate::report) mod numbers;
pub(in crate::report) mod svg;
mod tables;

use markup::Html;
use numbers::{count, date, duration, latency};

use super::Report;
use crate::live::lines::thousands;

const STYLE: &str = include_str!("style.css");
/// Nothing but the style below may act, whatever is in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Draws a report.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut body = Html::default();
    header(report, &mut body);
    oracle(report, &mut body);
    verdict(report, &mut body);
    key_figures(report, &mut body);
    let mut pictures = Vec::new();
    pictures.extend(charts::percentiles(report));
    pictures.extend(charts::over_time(report));
    if !pictures.is_empty() {
        body.raw("<section class=\"charts\">");
        for picture in &pictures {
            body.append(&picture.draw());
        }
        body.raw("</section>");
    }
    tables::all(report, &mut body);
    frame(&format!("{} on {}", report.scenario.name, report.target.protocol), &body)
}

/// A whole page around a body.
pub(in crate::report) fn frame(title: &str, body: &Html) -> String {
    let mut html = Html::default();
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.open("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &POLICY)]);
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">");
    html.element("title", &[], title);
    html.raw("<style>").raw(STYLE).raw("</style></head><body><main>\n");
    html.append(body);
    html.raw("\n</main></body></html>\n");
    html.into_string()
}

fn header(report: &Report, html: &mut Html) {
    html.raw("<header>");
    html.element("p", &[("class", &"kind")], format!("{} load test", report.target.protocol));
    html.element("h1", &[], &report.scenario.name);
    html.raw("<p class=\"facts\">");
    let server = report.versions.server.as_deref().unwrap_or("version not told");
    for fact in [
        report.target.url.clone(),
        format!("server {server}"),
        date(report.time.started_unix_ms),
        duration(report.time.duration_s),
        format!("myriad-loadgen {}", report.versions.loadgen),
    ] {
        html.element("span", &[], fact);
    }
    html.raw("</p></header>");
}

fn verdict(report: &Report, html: &mut Html) {
    if report.valid {
        html.raw("<section class=\"verdict good\"><h2>Valid</h2><p>The load generator kept up; ")
            .raw("the numbers are the server's.</p></section>");
    } else {
        html.raw("<section class=\"verdict bad\"><h2>Invalid</h2>")
            .raw("<p>These numbers say nothing about the server, because</p><ul>");
        for why in &report.invalid_because {
            html.element("li", &[], why);
        }
        html.raw("</ul></section>");
    }
    if report.thresholds.is_empty() {
        return;
    }
    let broken = report.thresholds.iter().filter(|goal| !goal.held).count();
    let class = if broken == 0 { "verdict good" } else { "verdict bad" };
    html.open("section", &[("class", &class)]);
    let title = match broken {
        0 => format!("All {} goals met", report.thresholds.len()),
        _ => format!("{broken} of {} goals missed", report.thresholds.len()),
    };
    html.element("h2", &[], title).raw("<ul class=\"goals\">");
    for goal in &report.thresholds {
        let measured = goal.measured.map_or_else(|| "nothing".to_owned(), numbers::amount);
        let class = if goal.held { "held" } else { "broken" };
        html.open("li", &[("class", &class)]).element("code", &[], &goal.goal);
        html.text(format!(" measured {measured}")).close("li");
    }
    html.raw("</ul></section>");
}

fn oracle(report: &Report, html: &mut Html) {
    let messages = &report.messages;
    html.raw("<section><h2>Did every message arrive, once and in order?</h2>");
    let words = if messages.sent == 0 {
        "No messages were sent in this run.".to_owned()
    } else if messages.wrong() == 0 {
        format!("Yes, as far as {} messages tell.", thousands(messages.sent))
    } else {
        let wrong = thousands(messages.wrong());
        format!("No: {wrong} went wrong among {}.", thousands(messages.sent))
    };
    html.element("p", &[], words).raw("<div class=\"cards\">");
    for (name, value, meaning) in [
        ("lost", messages.lost, "acked, never arrived"),
        ("duplicated", messages.duplicated, "arrived again"),
        ("reordered", messages.reordered, "overtaken by a later one"),
        ("corrupted", messages.corrupted, "other bytes"),
    ] {
        card(html, if value == 0 { "card good" } else { "card bad" }, name, value, meaning);
    }
    html.raw("</div><div class=\"cards small\">");
    for (name, value, meaning) in [
        ("sent", messages.sent, "handed to the server"),
        ("acked", messages.acked, "taken for good"),
        ("delivered", messages.delivered, "arrived, first time each"),
        ("read", messages.read, "known to be read"),
    ] {
        card(html, "card", name, value, meaning);
    }
    html.raw("</div>");
    let rest: Vec<String> = [
        (messages.refused, "refused by the server"),
        (messages.unanswered, "neither answered nor delivered at the end"),
        (messages.redelivered, "came again after a reconnect, as they may"),
        (
            messages.waiting,
            "not judged: their recipients were away at the end, or the run was interrupted",
        ),
        (messages.unsent, "not handed over: too many waited already"),
        (messages.foreign, "of an earlier run"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, words)| format!("{} {words}", thousands(count)))
    .collect();
    if !rest.is_empty() {
        html.element("p", &[("class", &"hint")], format!("Besides: {}.", rest.join("; ")));
    }
    html.raw("</section>");
}

fn card(html: &mut Html, class: &'static str, name: &str, value: u64, meaning: &str) {
    html.open("div", &[("class", &class)]);
    html.element("b", &[], thousands(value));
    html.element("span", &[], name).element("small", &[], meaning).close("div");
}

fn key_figures(report: &Report, html: &mut Html) {
    let sessions = &report.sessions;
    html.raw("<section><h2>Sessions and latency</h2><p>");
    html.text(format!(
        "{} of {} sessions were there at one time; {} logins per second while they came; \
         {} failed.",
        thousands(sessions.established),
        thousands(sessions.target),
        numbers::amount(sessions.per_second),
        thousands(sessions.failed),
    ));
    html.raw("</p>");
    failures(report, html);
    html.raw("<div class=\"wide\"><table class=\"numbers\"><thead><tr><th></th><th>count</th>")
        .raw("<th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>slowest</th></tr></thead>")
        .raw("<tbody>");
    for (name, l) in report.latency_us.named() {
        html.raw("<tr>").element("th", &[], name).element("td", &[], count(Some(l.count)));
        for value in [l.p50, l.p90, l.p99, l.p999, l.max] {
            html.element("td", &[], latency(value));
        }
        html.raw("</tr>");
    }
    html.raw(
        "</tbody></table></div><p class=\"hint\">Counted from the moment an action was meant ",
    )
    .raw("to begin, not from when it could: a server that stands still is seen to. <b>sent</b>")
    .raw(" is the first tick, <b>delivered</b> the arrival, <b>read</b> the third tick back at")
    .raw(" the sender.</p></section>");
}

/// Why sessions failed or messages were refused, if any were.
fn failures(report: &Report, html: &mut Html) {
    if report.failures.is_empty() {
        return;
    }
    html.raw("<p>What failed, and how often:</p><ul>");
    for failure in &report.failures {
        html.element("li", &[], format!("{} x {}", thousands(failure.count), failure.reason));
    }
    html.raw("</ul>");
}

#[cfg(test)]
mod tests;
