//! The charts of one report, from its series and its histograms.

use super::numbers::{latency_of, short, short_micros, short_time};
use super::svg::{Axis, Band, Chart, Line, Scale, Slot, around, from_zero};
use crate::live::lines::thousands;
use crate::report::{Quantiles, Report, Second};

/// Points of a chart over time; a longer run shows the worst or the mean of several seconds.
const SLOTS_MAX: usize = 180;
/// Phases that are drawn; a scenario has a handful.
const BANDS_MAX: usize = 60;
/// Seconds with wrong messages that are pointed at.
const MARKS_MAX: usize = 200;

/// Seconds drawn as one point.
struct Group<'r> {
    seconds: &'r [Second],
}

impl Group<'_> {
    fn last(&self) -> Option<&Second> {
        self.seconds.last()
    }

    fn at(&self) -> f64 {
        self.last().map_or(0.0, |second| second.at_s)
    }

    fn mean(&self, of: impl Fn(&Second) -> f64) -> f64 {
        self.seconds.iter().map(of).sum::<f64>() / self.seconds.len().max(1) as f64
    }

    /// The worst of each: quantiles of several seconds have no mean.
    fn worst(&self, of: impl Fn(&Second) -> Option<Quantiles>) -> Option<Quantiles> {
        self.seconds.iter().filter_map(of).reduce(|a, b| Quantiles {
            p50: a.p50.max(b.p50),
            p99: a.p99.max(b.p99),
            max: a.max.max(b.max),
        })
    }
}

/// The charts over time; none if the series is empty.
pub(super) fn over_time(report: &Report) -> Vec<Chart> {
    let size = report.series.len().div_ceil(SLOTS_MAX).max(1);
    let groups: Vec<Group<'_>> =
        report.series.chunks(size).map(|seconds| Group { seconds }).collect();
    let (Some(first), Some(last)) = (report.series.first(), report.series.last()) else {
        return Vec::new();
    };
    let low = if first.at_s <= 1.5 { 0.0 } else { first.at_s };
    let x = Axis { scale: Scale::Time, low, high: last.at_s.max(low + 1.0), label: short_time };
    let frame = Frame {
        x,
        bands: bands(report),
        marks: marks(report),
        per_point: match size {
            1 => String::new(),
            _ => format!(" Each point stands for {size} seconds: "),
        },
    };
    let mut charts = vec![sessions(&frame, &groups, report), rates(&frame, &groups)];
    charts.extend(latency(&frame, &groups));
    charts.push(logins(&frame, &groups));
    charts.push(behind(&frame, &groups));
    charts
}

/// What all charts over time share.
struct Frame {
    x: Axis,
    bands: Vec<Band>,
    marks: Vec<f64>,
    per_point: String,
}

impl Frame {
    /// `taken` says what stands for several seconds, if they are drawn as one.
    fn chart(&self, title: &'static str, note: [&str; 2], y: Axis, lines: Vec<Line>) -> Chart {
        let [note, taken] = note;
        let note = match self.per_point.as_str() {
            "" => note.to_owned(),
            per_point => format!("{note}{per_point}{taken}."),
        };
        Chart {
            title,
            note,
            x: self.x,
            y,
            lines,
            bands: self.bands.clone(),
            marks: self.marks.clone(),
            slots: Vec::new(),
        }
    }
}

fn bands(report: &Report) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    let mut before = 0.0;
    for second in &report.series {
        let count = bands.len();
        match bands.last_mut() {
            Some(band) if band.name == second.phase => band.to = second.at_s,
            _ if count >= BANDS_MAX => break,
            _ => bands.push(Band { from: before, to: second.at_s, name: second.phase.clone() }),
        }
        before = second.at_s;
    }
    bands
}

fn marks(report: &Report) -> Vec<f64> {
    let wrong = report.series.iter().filter(|second| second.wrong > 0);
    wrong.map(|second| second.at_s).take(MARKS_MAX).collect()
}

fn line(name: &str, class: &'static str, points: Vec<(f64, Option<f64>)>) -> Line {
    Line { name: name.to_owned(), class, points, filled: false }
}

fn most(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value).fold(0.0, f64::max)
}

fn sessions(frame: &Frame, groups: &[Group<'_>], report: &Report) -> Chart {
    let of = |group: &Group<'_>| group.last().map(|second| second.sessions as f64);
    let points = groups.iter().map(|group| (group.at(), of(group))).collect();
    let mut lines = vec![line("logged in", "c1", points)];
    lines[0].filled = true;
    let y = from_zero(most(&lines).max(report.sessions.target as f64), short);
    let mut chart = frame.chart("Sessions", ["Clients that were logged in.", "the last"], y, lines);
    chart.slots = slots(groups, |group| {
        let sessions = group.last().map_or(0, |second| second.sessions);
        let logins: u64 = group.seconds.iter().map(|second| second.logins).sum();
        let failed: u64 = group.seconds.iter().map(|second| second.failed).sum();
        let logins = thousands(logins);
        format!("{} sessions, {logins} new, {} failed", thousands(sessions), thousands(failed))
    });
    chart
}

fn rates(frame: &Frame, groups: &[Group<'_>]) -> Chart {
    let sent = |group: &Group<'_>| group.mean(|second| second.sent_per_second);
    let delivered = |group: &Group<'_>| group.mean(|second| second.delivered_per_second);
    let points = |of: &dyn Fn(&Group<'_>) -> f64| {
        groups.iter().map(|group| (group.at(), Some(of(group)))).collect()
    };
    let lines =
        vec![line("sent", "c1", points(&sent)), line("delivered", "c2", points(&delivered))];
    let y = from_zero(most(&lines), short);
    let note = "Per second. Where the lines part, messages wait.";
    let mut chart = frame.chart("Messages", [note, "their mean"], y, lines);
    chart.slots = slots(groups, |group| {
        format!("{} sent/s, {} delivered/s", whole(sent(group)), whole(delivered(group)))
    });
    chart
}

/// A wave of logins, and what of it failed.
fn logins(frame: &Frame, groups: &[Group<'_>]) -> Chart {
    let logins = |group: &Group<'_>| group.mean(|second| second.logins as f64);
    let failed = |group: &Group<'_>| group.mean(|second| second.failed as f64);
    let points = |of: &dyn Fn(&Group<'_>) -> f64| {
        groups.iter().map(|group| (group.at(), Some(of(group)))).collect()
    };
    let mut lines =
        vec![line("logins", "c2", points(&logins)), line("failed", "c4", points(&failed))];
    lines[0].filled = true;
    let y = from_zero(most(&lines), short);
    let note = "Per second: connected and let in, or not.";
    let mut chart = frame.chart("Logins", [note, "their mean"], y, lines);
    chart.slots = slots(groups, |group| {
        format!("{} logins/s, {} failed/s", whole(logins(group)), whole(failed(group)))
    });
    chart
}

fn whole(value: f64) -> String {
    super::numbers::amount(value.round())
}

/// Over time, of the kind that says most: delivered, or sent, or connect.
fn latency(frame: &Frame, groups: &[Group<'_>]) -> Option<Chart> {
    type Pick = fn(&Second) -> Option<Quantiles>;
    let kinds: [(&str, Pick); 3] = [
        ("From the moment a message was meant to leave until it arrived.", |second| {
            second.latency_us.delivered
        }),
        ("From the moment a message was meant to leave until the server took it.", |second| {
            second.latency_us.sent
        }),
        ("From the moment a client was meant to connect until it was logged in.", |second| {
            second.latency_us.connect
        }),
    ];
    let (note, pick) = kinds
        .into_iter()
        .find(|(_, pick)| groups.iter().any(|group| group.worst(pick).is_some()))?;
    let points = |of: fn(Quantiles) -> u64| {
        let value = |group: &Group<'_>| group.worst(pick).map(|q| of(q) as f64);
        groups.iter().map(|group| (group.at(), value(group))).collect()
    };
    let lines = vec![
        line("slowest", "c4", points(|q| q.max)),
        line("99 of 100 are faster", "c3", points(|q| q.p99)),
        line("half are faster", "c1", points(|q| q.p50)),
    ];
    let values = lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let y = around(values, short_micros);
    let mut chart = frame.chart("Latency over time", [note, "the worst"], y, lines);
    chart.slots = slots(groups, |group| match group.worst(pick) {
        None => "nothing completed".to_owned(),
        Some(q) => format!(
            "p50 {}, p99 {}, slowest {}",
            latency_of(q.p50),
            latency_of(q.p99),
            latency_of(q.max)
        ),
    });
    Some(chart)
}

fn behind(frame: &Frame, groups: &[Group<'_>]) -> Chart {
    let worst = |group: &Group<'_>| {
        group.seconds.iter().map(|second| second.behind_us).max().unwrap_or_default()
    };
    let points =
        groups.iter().map(|group| (group.at(), Some(worst(group).max(1) as f64))).collect();
    let lines = vec![line("late by, at the worst", "c3", points)];
    let values = lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let y = around(values, short_micros);
    let note = "How late the load generator itself was. It is part of every latency above.";
    let mut chart = frame.chart("The generator's own lateness", [note, "the worst"], y, lines);
    chart.slots = slots(groups, |group| format!("late by {}", latency_of(worst(group))));
    chart.marks.clear();
    chart
}

fn slots(groups: &[Group<'_>], words: impl Fn(&Group<'_>) -> String) -> Vec<Slot> {
    let slot = |group: &Group<'_>| {
        let phase: String =
            group.last().map_or("", |second| &second.phase).chars().take(16).collect();
        let words = format!("{} {phase}: {}", short_time(group.at().round()), words(group));
        Slot { at: group.at(), words }
    };
    groups.iter().map(slot).collect()
}

/// Percentile curves of one report. What can't be decoded is left out of the picture; the table
/// below it has its numbers.
pub(super) fn percentiles(report: &Report) -> Option<Chart> {
    let classes = ["c2", "c1", "c3", "c4"];
    let mut curves = Vec::new();
    for ((name, latency), class) in report.latency_us.named().into_iter().zip(classes) {
        if let Ok(histogram) = latency.histogram()
            && !histogram.is_empty()
        {
            curves.push((name, class, histogram));
        }
    }
    let note = "Every message is in here: read up from a share, and across to how long it took \
                at most.";
    let named =
        curves.iter().map(|(name, class, histogram)| ((*name).to_owned(), *class, histogram));
    curve_chart("Latency by share", note, named.collect())
}

/// Histograms as curves, the rare ones drawn wide: one in ten, in a hundred, in a thousand.
pub(in crate::report) fn curve_chart(
    title: &'static str,
    note: &str,
    curves: Vec<(String, &'static str, &hdrhistogram::Histogram<u64>)>,
) -> Option<Chart> {
    let most = curves.iter().map(|(_, _, histogram)| histogram.len()).max()?;
    // As far as there are values: the last of 1,000 is 1 in 1,000.
    let far = (most as f64).log10().clamp(1.0, 7.0);
    let lines: Vec<Line> = curves
        .into_iter()
        .map(|(name, class, histogram)| line(&name, class, curve(histogram)))
        .collect();
    let values = lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let y = around(values, short_micros);
    let x = Axis { scale: Scale::Decades, low: 0.0, high: far, label: share };
    let note = note.to_owned();
    let (bands, marks) = (Vec::new(), Vec::new());
    let mut chart = Chart { title, note, x, y, lines, bands, marks, slots: Vec::new() };
    chart.slots = curve_slots(&chart);
    Some(chart)
}

/// Points per decade of a curve.
const POINTS: u32 = 24;

/// Latency at 1 - 10^-t for t from 0 on, to the last value there is.
fn curve(histogram: &hdrhistogram::Histogram<u64>) -> Vec<(f64, Option<f64>)> {
    let far = (histogram.len() as f64).log10().clamp(0.0, 7.0);
    let mut points = Vec::new();
    for step in 0..=7 * POINTS {
        let at = f64::from(step) / f64::from(POINTS);
        if at >= far {
            break;
        }
        let value = histogram.value_at_quantile(1.0 - 10f64.powf(-at));
        points.push((at, Some(value.max(1) as f64)));
    }
    points.push((far, Some(histogram.max().max(1) as f64)));
    points
}

fn curve_slots(chart: &Chart) -> Vec<Slot> {
    let longest = chart.lines.iter().max_by_key(|line| line.points.len());
    let Some(longest) = longest else { return Vec::new() };
    let words = |at: f64| {
        let of = |line: &Line| {
            let point = line.points.iter().find(|(x, _)| *x == at)?;
            Some(format!("{} {}", line.name, short_micros(point.1?)))
        };
        let parts: Vec<String> = chart.lines.iter().filter_map(of).collect();
        format!("{}: {}", fine_share(at), parts.join(", "))
    };
    let points = longest.points.iter().step_by(3);
    points.map(|(at, _)| Slot { at: *at, words: words(*at) }).collect()
}

/// `90 %`, `99 %`, `99.9 %` at 1, 2, 3.
fn share(at: f64) -> String {
    match at {
        v if v < 0.5 => "0\u{a0}%".to_owned(),
        v if v.fract() != 0.0 => String::new(),
        v if v < 2.5 => format!("{:.0}\u{a0}%", 100.0 - 100.0 * 10f64.powf(-v)),
        v if v < 3.5 => "99.9\u{a0}%".to_owned(),
        v if v < 4.5 => "99.99\u{a0}%".to_owned(),
        v if v < 5.5 => "99.999\u{a0}%".to_owned(),
        _ => "99.9999\u{a0}%".to_owned(),
    }
}

fn fine_share(at: f64) -> String {
    let share = 100.0 - 100.0 * 10f64.powf(-at);
    let text = format!("{share:.5}");
    let end = text.len().min(5 + text.chars().skip(3).take_while(|c| *c == '9').count());
    format!("{}\u{a0}%", text.get(..end).unwrap_or(&text))
}
