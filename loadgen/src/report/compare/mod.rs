//! Two sides, each one run or several: what differs, by how much, and whether that is more than
//! noise.
//!
//! Noise is judged without a model: with several runs a side, a difference counts if the sides do
//! not overlap at all, the worst run of one being better than the best of the other. [`by_chance`]
//! says how often luck alone would do that. Deliberately not here: drawing (`text`, `page`).

mod page;
mod text;

use std::path::{Path, PathBuf};

pub use page::page;
pub use text::table;

use super::{Report, ReportError};

/// Reports on one side.
pub const RUNS_MAX: usize = 100;
/// Runs a side from which on noise can be judged: of fewer, none overlap too often.
pub const RUNS_TO_JUDGE: usize = 3;

/// Why two sides can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A report can't be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A folder can't be read.
    #[error("{}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nothing to compare.
    #[error("{}: no reports; name one, several with commas between, or a folder", .0.display())]
    Empty(PathBuf),
    /// More than are read.
    #[error("{}: {count} reports, at most {RUNS_MAX} are compared", path.display())]
    TooMany {
        /// Where.
        path: PathBuf,
        /// How many.
        count: usize,
    },
}

/// One side: runs of the same thing.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it is called.
    pub name: String,
    /// Its runs; at least one.
    pub runs: Vec<Report>,
}

impl Side {
    /// Reads a side: `a.json`, `a1.json,a2.json,a3.json`, or a folder of them.
    ///
    /// # Errors
    /// There is none, or one can't be read.
    pub fn read(words: &str) -> Result<Self, CompareError> {
        let path = Path::new(words);
        let files = if path.is_dir() {
            reports_in(path)?
        } else if path.exists() {
            vec![path.to_owned()] // whatever commas are in its name
        } else {
            words.split(',').filter(|word| !word.is_empty()).map(PathBuf::from).collect()
        };
        if files.is_empty() {
            return Err(CompareError::Empty(path.to_owned()));
        }
        if files.len() > RUNS_MAX {
            return Err(CompareError::TooMany { path: path.to_owned(), count: files.len() });
        }
        let runs = files.iter().map(|file| Report::read(file)).collect::<Result<_, _>>()?;
        Ok(Self { name: words.to_owned(), runs })
    }

    /// Their figures, without those that were not measured.
    fn values(&self, metric: &Metric) -> Vec<f64> {
        let values = self.runs.iter().filter_map(metric.of);
        values.filter(|value| value.is_finite()).collect()
    }
}

fn reports_in(folder: &Path) -> Result<Vec<PathBuf>, CompareError> {
    let failed = |source| CompareError::Folder { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Which way is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Good {
    Lower,
    Higher,
}

/// In what a figure is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Count,
    Micros,
    Bytes,
}

/// A figure that is compared.
struct Metric {
    name: &'static str,
    unit: Unit,
    good: Good,
    of: fn(&Report) -> Option<f64>,
}

/// Shorthand for the table below.
const fn metric(
    name: &'static str,
    unit: Unit,
    good: Good,
    of: fn(&Report) -> Option<f64>,
) -> Metric {
    Metric { name, unit, good, of }
}

fn us(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

/// What is compared, in the order it is shown: what must not happen comes first.
const METRICS: &[Metric] = &[
    metric("messages lost", Unit::Count, Good::Lower, |r| Some(r.messages.lost as f64)),
    metric("messages duplicated", Unit::Count, Good::Lower, |r| Some(r.messages.duplicated as f64)),
    metric("messages reordered", Unit::Count, Good::Lower, |r| Some(r.messages.reordered as f64)),
    metric("messages corrupted", Unit::Count, Good::Lower, |r| Some(r.messages.corrupted as f64)),
    metric("sessions established", Unit::Count, Good::Higher, |r| {
        Some(r.sessions.established as f64)
    }),
    metric("sessions failed", Unit::Count, Good::Lower, |r| Some(r.sessions.failed as f64)),
    metric("logins per second", Unit::Count, Good::Higher, |r| Some(r.sessions.per_second)),
    metric("delivered per second", Unit::Count, Good::Higher, |r| {
        (r.time.duration_s > 0.0).then(|| r.messages.delivered as f64 / r.time.duration_s)
    }),
    metric("connect p50", Unit::Micros, Good::Lower, |r| us(r.latency_us.connect.p50)),
    metric("connect p99", Unit::Micros, Good::Lower, |r| us(r.latency_us.connect.p99)),
    metric("sent p50", Unit::Micros, Good::Lower, |r| us(r.latency_us.sent.p50)),
    metric("sent p99", Unit::Micros, Good::Lower, |r| us(r.latency_us.sent.p99)),
    metric("sent p99.9", Unit::Micros, Good::Lower, |r| us(r.latency_us.sent.p999)),
    metric("delivered p50", Unit::Micros, Good::Lower, |r| us(r.latency_us.delivered.p50)),
    metric("delivered p99", Unit::Micros, Good::Lower, |r| us(r.latency_us.delivered.p99)),
    metric("delivered p99.9", Unit::Micros, Good::Lower, |r| us(r.latency_us.delivered.p999)),
    metric("delivered slowest", Unit::Micros, Good::Lower, |r| us(r.latency_us.delivered.max)),
    metric("read p50", Unit::Micros, Good::Lower, |r| us(r.latency_us.read.p50)),
    metric("read p99", Unit::Micros, Good::Lower, |r| us(r.latency_us.read.p99)),
    metric("server memory per session", Unit::Bytes, Good::Lower, |r| {
        r.server.user_bytes_per_session
    }),
    metric("kernel memory per session", Unit::Bytes, Good::Lower, |r| {
        r.server.kernel_bytes_per_session
    }),
    metric("server CPU per message", Unit::Micros, Good::Lower, |r| r.server.cpu_us_per_message),
];

/// The figures of one side.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// In the middle.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
    /// How many.
    pub runs: usize,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&low, &high) = (values.first()?, values.last()?);
        let runs = values.len();
        let upper = *values.get(runs / 2)?;
        let lower = *values.get((runs - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), low, high, runs })
    }
}

/// What a difference is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// No difference at all.
    Same,
    /// B is better, and the sides do not overlap.
    Better,
    /// B is worse, and the sides do not overlap.
    Worse,
    /// The sides overlap.
    Noise,
    /// Too few runs to tell.
    Unknown,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Noise => "within noise",
            Self::Unknown => "",
        }
    }
}

/// One figure of both sides.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    unit: Unit,
    /// Of the first side, if it was measured there.
    pub a: Option<Spread>,
    /// Of the second side, if it was measured there.
    pub b: Option<Spread>,
    /// The median of B divided by that of A.
    pub ratio: Option<f64>,
    /// What the difference is worth.
    pub verdict: Verdict,
}

/// All figures that at least one side has.
#[must_use]
pub fn rows(a: &Side, b: &Side) -> Vec<Row> {
    let rows = METRICS.iter().map(|metric| {
        let (a, b) = (Spread::of(a.values(metric)), Spread::of(b.values(metric)));
        let both = a.zip(b);
        let ratio = both.and_then(|(a, b)| (a.median > 0.0).then(|| b.median / a.median));
        let verdict = both.map_or(Verdict::Unknown, |(a, b)| judge(a, b, metric.good));
        Row { name: metric.name, unit: metric.unit, a, b, ratio, verdict }
    });
    rows.filter(|row| row.a.is_some() || row.b.is_some()).collect()
}

fn judge(a: Spread, b: Spread, good: Good) -> Verdict {
    if (a.low, a.high) == (b.low, b.high) && a.low == a.high {
        return Verdict::Same;
    }
    if a.runs < RUNS_TO_JUDGE || b.runs < RUNS_TO_JUDGE {
        return Verdict::Unknown;
    }
    match (b.low > a.high, b.high < a.low, good) {
        (true, _, Good::Higher) | (_, true, Good::Lower) => Verdict::Better,
        (true, _, Good::Lower) | (_, true, Good::Higher) => Verdict::Worse,
        _ => Verdict::Noise,
    }
}

/// How likely luck alone sets two sides apart that are the same: of all ways to deal so many runs
/// to two sides, two have no overlap.
#[must_use]
pub fn by_chance(a: usize, b: usize) -> f64 {
    let ways: f64 = (1..=a).map(|index| (b + index) as f64 / index as f64).product();
    (2.0 / ways).min(1.0)
}

/// What else differs: the reader has to know before he believes the figures. A line each.
#[must_use]
pub fn differences(a: &Side, b: &Side) -> Vec<String> {
    let mut lines = Vec::new();
    for side in [a, b] {
        let invalid = side.runs.iter().filter(|run| !run.valid).count();
        if invalid > 0 {
            let reason = side.runs.iter().find_map(|run| run.invalid_because.first());
            let reason = reason.map_or("no reason given", String::as_str);
            let count = side.runs.len();
            lines.push(format!("{}: {invalid} of {count} runs are INVALID: {reason}", side.name));
        }
    }
    let (Some(first), Some(second)) = (a.runs.first(), b.runs.first()) else { return lines };
    let mut differ = |what: &str, one: &str, other: &str| {
        if one != other {
            lines.push(format!("{what}: {one} / {other}"));
        }
    };
    differ("scenario", &first.scenario.name, &second.scenario.name);
    differ("protocol", &first.target.protocol, &second.target.protocol);
    let none = String::from("not set");
    let names = first.scenario.parameters.keys().chain(second.scenario.parameters.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    // Where the scenario lay does not matter; what was in it does.
    for name in names.into_iter().filter(|name| *name != "file") {
        let of = |run: &'_ Report| run.scenario.parameters.get(name).unwrap_or(&none).clone();
        differ(name, &of(first), &of(second));
    }
    let told = |version: &Option<String>| version.clone().unwrap_or_else(|| "not told".to_owned());
    differ("server", &told(&first.versions.server), &told(&second.versions.server));
    differ("load generator", &first.versions.loadgen, &second.versions.loadgen);
    differ("engine", &first.generator.engine, &second.generator.engine);
    let (one, other) = (&first.machine, &second.machine);
    differ("kernel", &one.kernel, &other.kernel);
    differ("processor", &one.cpu_model, &other.cpu_model);
    differ("processors", &one.cpu_count.to_string(), &other.cpu_count.to_string());
    for setting in &one.settings {
        let same_name = other.settings.iter().find(|found| found.name == setting.name);
        if setting.name != super::machine::LOAD_AVERAGE
            && let Some(found) = same_name
        {
            differ(&setting.name, &setting.value, &found.value);
        }
    }
    lines
}

#[cfg(test)]
mod tests;
