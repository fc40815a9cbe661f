//! The tables below the charts: findings, server, generator, settings, machine.

use super::markup::Html;
use super::numbers::{DASH, amount, bytes, latency_of};
use crate::live::lines::thousands;
use crate::report::Report;

/// Findings shown; the file has the others.
const EXAMPLES_SHOWN: usize = 100;

pub(super) fn all(report: &Report, html: &mut Html) {
    examples(report, html);
    html.raw("<section class=\"tables\">");
    server(report, html);
    groups(report, html);
    generator(report, html);
    parameters(report, html);
    html.raw("</section>");
    machine(report, html);
}

/// A table of two columns with a title.
fn pairs(
    html: &mut Html,
    title: &'static str,
    note: &'static str,
    rows: impl IntoIterator<Item = (String, String)>,
) {
    html.raw("<div class=\"facts-table\">").element("h2", &[], title);
    if !note.is_empty() {
        html.element("p", &[], note);
    }
    html.raw("<table><tbody>");
    for (name, value) in rows {
        html.raw("<tr>").element("th", &[], name).element("td", &[], value).raw("</tr>");
    }
    html.raw("</tbody></table></div>");
}

fn examples(report: &Report, html: &mut Html) {
    let found = &report.oracle.examples;
    if found.is_empty() {
        return;
    }
    html.raw("<section><h2>The messages that went wrong</h2>");
    let hidden = found.len().saturating_sub(EXAMPLES_SHOWN) as u64 + report.oracle.left_out;
    if hidden > 0 {
        let words = format!(
            "The first {}; there are {} more.",
            EXAMPLES_SHOWN.min(found.len()),
            thousands(hidden)
        );
        html.element("p", &[], words);
    }
    html.raw("<div class=\"wide\"><table class=\"numbers\"><thead><tr><th>what</th><th>from</th>")
        .raw("<th>to</th><th>number</th><th>after</th><th class=\"words\">more</th></tr></thead>")
        .raw("<tbody>");
    for example in found.iter().take(EXAMPLES_SHOWN) {
        html.raw("<tr class=\"broken\">").element("th", &[], example.kind.name());
        html.element("td", &[], example.from).element("td", &[], example.to);
        html.element("td", &[], example.sequence);
        html.element("td", &[], format!("{:.3}\u{a0}s", example.at_s));
        html.element("td", &[("class", &"words")], &example.detail).raw("</tr>");
    }
    html.raw("</tbody></table></div></section>");
}

fn server(report: &Report, html: &mut Html) {
    let server = &report.server;
    let size = |value: Option<u64>| value.map_or_else(|| DASH.to_owned(), bytes);
    let number = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| DASH.to_owned(), |value| format!("{}\u{a0}{unit}", amount(value)))
    };
    let mut rows = vec![
        ("memory before the first session".to_owned(), size(server.rss_bytes_before)),
        ("memory with all sessions".to_owned(), size(server.rss_bytes_after)),
        ("its memory per session".to_owned(), number(server.user_bytes_per_session, "B")),
        ("the kernel's per session".to_owned(), number(server.kernel_bytes_per_session, "B")),
        ("CPU per delivered message".to_owned(), number(server.cpu_us_per_message, "\u{b5}s")),
        ("CPU in user space".to_owned(), number(server.cpu_user_s, "s")),
        ("CPU in the kernel".to_owned(), number(server.cpu_system_s, "s")),
    ];
    if let Some(method) = &server.memory_method {
        rows.push(("how memory was found".to_owned(), method.clone()));
    }
    let note = match server.pid {
        Some(_) => "",
        None => "Not measured: give the server's process id with --server-pid.",
    };
    pairs(html, "The server", note, rows);
}

fn groups(report: &Report, html: &mut Html) {
    let Some(groups) = report.groups else { return };
    let rows = [
        ("groups", groups.count),
        ("members of each", groups.members),
        ("of them write", groups.writers),
        ("messages to groups", groups.sent),
        ("copies that arrived", groups.delivered),
    ];
    let rows = rows.map(|(name, value)| (name.to_owned(), thousands(value)));
    pairs(
        html,
        "The groups",
        "Each copy of a message counts as delivered, and in the latency.",
        rows,
    );
}

fn generator(report: &Report, html: &mut Html) {
    let generator = &report.generator;
    let per_client =
        generator.bytes_per_client.map_or_else(|| DASH.to_owned(), |v| format!("{v:.0}\u{a0}B"));
    let cpu = generator.cpu_s.map_or_else(|| DASH.to_owned(), |v| format!("{v:.1}\u{a0}s"));
    let rows = [
        ("engine".to_owned(), generator.engine.clone()),
        ("threads".to_owned(), generator.threads.to_string()),
        ("memory per client".to_owned(), per_client),
        ("CPU".to_owned(), cpu),
        ("late by, 99 of 100 less".to_owned(), latency_of(generator.behind_p99_us)),
        ("late by, at the worst".to_owned(), latency_of(generator.behind_max_us)),
    ];
    pairs(html, "The load generator", "", rows);
}

fn parameters(report: &Report, html: &mut Html) {
    let own = report.scenario.parameters.iter();
    pairs(
        html,
        "What was played",
        "All that was set, by the scenario or by flags.",
        own.map(|(name, value)| (name.clone(), value.clone())),
    );
}

fn machine(report: &Report, html: &mut Html) {
    let machine = &report.machine;
    let memory = machine.memory_bytes.map_or_else(|| "not readable".to_owned(), bytes);
    let mut rows = vec![
        ("kernel".to_owned(), format!("{} ({})", machine.kernel, machine.architecture)),
        ("processor".to_owned(), format!("{} x {}", machine.cpu_count, machine.cpu_model)),
        ("memory".to_owned(), memory),
    ];
    let settings = machine.settings.iter();
    rows.extend(settings.map(|setting| (setting.name.clone(), setting.value.clone())));
    html.raw("<section class=\"tables one\">");
    pairs(html, "The machine", "Where the load generator ran, as it was at the start.", rows);
    html.raw("</section>");
}
