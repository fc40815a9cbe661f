//! A line chart as SVG: scales, axes, lines, phases behind them, and what a pointer reads off.
//!
//! The page runs no script: what the pointer shows is there from the start, hidden by the style
//! until its slot is pointed at. Deliberately not here: what is drawn (`charts`, `compare`).

use super::markup::Html;

/// Size of the drawing area in units of the picture; the page scales it.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 26.0;
/// Ticks of a linear axis, about.
const TICKS: f64 = 5.0;

/// How values become places on an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::report) enum Scale {
    /// Even steps, from zero.
    Linear,
    /// Even factors.
    Log,
    /// Seconds: steps that suit a clock.
    Time,
    /// Powers of ten, given by their exponents: steps of one.
    Decades,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub(in crate::report) struct Axis {
    pub(in crate::report) scale: Scale,
    pub(in crate::report) low: f64,
    pub(in crate::report) high: f64,
    /// How its ticks are written.
    pub(in crate::report) label: fn(f64) -> String,
}

impl Axis {
    /// Where a value lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let at = match self.scale {
            Scale::Log => {
                let (low, high) = (self.low.max(1e-9).ln(), self.high.max(1e-9).ln());
                (value.max(1e-9).ln() - low) / (high - low)
            }
            Scale::Linear | Scale::Time | Scale::Decades => {
                (value - self.low) / (self.high - self.low)
            }
        };
        if at.is_finite() { at.clamp(0.0, 1.0) } else { 0.0 }
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => self.steps(nice_step((self.high - self.low) / TICKS)),
            Scale::Time => self.steps(clock_step((self.high - self.low) / TICKS)),
            Scale::Decades => self.steps(1.0),
            Scale::Log => {
                let decades = (self.high / self.low).log10();
                let factors: &[f64] = if decades <= 1.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let mut ticks = Vec::new();
                let mut decade = 10f64.powf(self.low.log10().floor());
                while decade <= self.high * 1.001 && ticks.len() < 40 {
                    ticks.extend(factors.iter().map(|factor| decade * factor));
                    decade *= 10.0;
                }
                ticks.retain(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick));
                ticks
            }
        }
    }

    fn steps(&self, step: f64) -> Vec<f64> {
        let mut ticks = Vec::new();
        let mut tick = (self.low / step).ceil() * step;
        while tick <= self.high * 1.000_001 && ticks.len() < 20 {
            ticks.push(tick);
            tick += step;
        }
        ticks
    }
}

/// An axis from zero to a little above the largest value.
pub(in crate::report) fn from_zero(most: f64, label: fn(f64) -> String) -> Axis {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let step = nice_step(most / TICKS);
    Axis { scale: Scale::Linear, low: 0.0, high: (most / step).ceil() * step, label }
}

/// A logarithmic axis around values, by whole factors of 1, 2 and 5.
pub(in crate::report) fn around(
    values: impl Iterator<Item = f64>,
    label: fn(f64) -> String,
) -> Axis {
    let (mut low, mut high) = (f64::INFINITY, 0f64);
    for value in values.filter(|value| *value > 0.0) {
        (low, high) = (low.min(value), high.max(value));
    }
    if high == 0.0 {
        (low, high) = (1.0, 10.0);
    }
    let below = 10f64.powf(low.log10().floor());
    let low = [5.0, 2.0, 1.0].iter().map(|f| below * f).find(|v| *v <= low).unwrap_or(below);
    let above = 10f64.powf(high.log10().floor());
    let ceilings = [1.0, 2.0, 5.0, 10.0];
    let high = ceilings.iter().map(|f| above * f).find(|v| *v >= high).unwrap_or(above * 10.0);
    Axis { scale: Scale::Log, low, high: high.max(low * 10.0), label }
}

fn nice_step(rough: f64) -> f64 {
    if !(rough.is_finite() && rough > 0.0) {
        return 1.0;
    }
    let decade = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    factors.iter().map(|f| f * decade).find(|step| *step >= rough).unwrap_or(decade * 10.0)
}

fn clock_step(rough: f64) -> f64 {
    let steps = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0,
        7_200.0, 14_400.0,
    ];
    if rough < 1.0 {
        return nice_step(rough);
    }
    steps.into_iter().find(|step| *step >= rough).unwrap_or(28_800.0)
}

/// A line. Gaps are where nothing was measured.
#[derive(Clone, Debug)]
pub(in crate::report) struct Line {
    /// Its name in the legend.
    pub(in crate::report) name: String,
    /// Its class in the style: `c1` to `c4`, `thin` beside.
    pub(in crate::report) class: &'static str,
    pub(in crate::report) points: Vec<(f64, Option<f64>)>,
    /// Filled down to the axis.
    pub(in crate::report) filled: bool,
}

/// A stretch behind the lines, with a name.
#[derive(Clone, Debug)]
pub(in crate::report) struct Band {
    pub(in crate::report) from: f64,
    pub(in crate::report) to: f64,
    pub(in crate::report) name: String,
}

/// What the pointer reads off at one place.
#[derive(Clone, Debug)]
pub(in crate::report) struct Slot {
    pub(in crate::report) at: f64,
    pub(in crate::report) words: String,
}

/// A chart.
#[derive(Clone, Debug)]
pub(in crate::report) struct Chart {
    /// What it shows, for those who hear the page.
    pub(in crate::report) title: &'static str,
    /// One sentence below the title.
    pub(in crate::report) note: String,
    pub(in crate::report) x: Axis,
    pub(in crate::report) y: Axis,
    pub(in crate::report) lines: Vec<Line>,
    pub(in crate::report) bands: Vec<Band>,
    /// Places to point at in red: something went wrong there.
    pub(in crate::report) marks: Vec<f64>,
    pub(in crate::report) slots: Vec<Slot>,
}

/// A number as the picture has it.
fn n(value: f64) -> String {
    format!("{value:.1}")
}

impl Chart {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// The chart with its title, note and legend.
    pub(in crate::report) fn draw(&self) -> Html {
        let mut html = Html::default();
        html.raw("<figure><figcaption>").element("h3", &[], self.title);
        html.element("p", &[], &self.note).raw("<div class=\"legend\">");
        let mut named: Vec<&str> = Vec::new();
        for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
            if !named.contains(&line.name.as_str()) {
                html.open("span", &[]).open("i", &[("class", &line.class)]).close("i");
                html.text(&line.name).close("span");
                named.push(&line.name);
            }
        }
        if !self.marks.is_empty() {
            html.raw("<span><i class=\"wrong\"></i>a message went wrong</span>");
        }
        html.raw("</div></figcaption>");
        html.open(
            "svg",
            &[
                ("viewBox", &format!("0 0 {WIDTH} {HEIGHT}")),
                ("role", &"img"),
                ("aria-label", &self.title),
            ],
        );
        self.draw_bands(&mut html);
        self.draw_axes(&mut html);
        self.draw_marks(&mut html);
        for line in &self.lines {
            self.draw_line(line, &mut html);
        }
        self.draw_slots(&mut html);
        html.raw("</svg></figure>");
        html
    }

    fn draw_bands(&self, html: &mut Html) {
        for (index, band) in self.bands.iter().enumerate() {
            let (from, to) = (self.x(band.from), self.x(band.to));
            let width = n((to - from).max(0.0));
            if index % 2 == 1 {
                let height = n(HEIGHT - TOP - BOTTOM);
                let place: [(&str, &dyn std::fmt::Display); 5] = [
                    ("class", &"band"),
                    ("x", &n(from)),
                    ("y", &TOP),
                    ("width", &width),
                    ("height", &height),
                ];
                html.open("rect", &place).close("rect");
            }
            // Six and a half units per letter, as in the style.
            let mut room = 0.0;
            let fits = |_: &char| {
                room += 6.5;
                room < to - from - 4.0
            };
            let name: String = band.name.chars().take_while(fits).collect();
            if name.chars().count() >= 3.min(band.name.chars().count()) {
                let place: [(&str, &dyn std::fmt::Display); 3] =
                    [("class", &"phase"), ("x", &n(from + 3.0)), ("y", &n(TOP + 11.0))];
                html.element("text", &place, name);
            }
        }
    }

    fn draw_axes(&self, html: &mut Html) {
        let (bottom, right) = (n(HEIGHT - BOTTOM), n(WIDTH - RIGHT));
        for tick in self.y.ticks() {
            let y = self.y(tick);
            html.open("path", &[("class", &"grid"), ("d", &format!("M{LEFT} {y:.1}H{right}"))]);
            html.close("path");
            html.element(
                "text",
                &[("class", &"tick end"), ("x", &n(LEFT - 6.0)), ("y", &n(y + 4.0))],
                (self.y.label)(tick),
            );
        }
        let ticks = self.x.ticks();
        for (index, tick) in ticks.iter().enumerate() {
            let x = self.x(*tick);
            // The last one would stick out.
            let sticks_out = index + 1 == ticks.len() && x > WIDTH - RIGHT - 20.0;
            let class = if sticks_out { "tick end" } else { "tick mid" };
            html.open("path", &[("class", &"axis"), ("d", &format!("M{x:.1} {bottom}v4"))]);
            html.close("path");
            html.element(
                "text",
                &[("class", &class), ("x", &n(x)), ("y", &n(HEIGHT - 8.0))],
                (self.x.label)(*tick),
            );
        }
        html.open("path", &[("class", &"axis"), ("d", &format!("M{LEFT} {bottom}H{right}"))]);
        html.close("path");
    }

    fn draw_marks(&self, html: &mut Html) {
        for mark in &self.marks {
            let way = format!("M{:.1} {TOP}V{}", self.x(*mark), n(HEIGHT - BOTTOM));
            html.open("path", &[("class", &"wrong"), ("d", &way)]).close("path");
        }
    }

    fn draw_line(&self, line: &Line, html: &mut Html) {
        for part in line.points.split(|(_, value)| value.is_none()) {
            let places: Vec<(f64, f64)> = part
                .iter()
                .filter_map(|(at, value)| Some((self.x(*at), self.y((*value)?))))
                .collect();
            let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
            let steps: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let way = format!("M{}", steps.join("L"));
            if line.filled {
                let base = n(HEIGHT - BOTTOM);
                let area = format!("{way}V{base}H{:.1}Z", first.0);
                let class = format!("area {}", line.class);
                html.open("path", &[("class", &class), ("d", &area)]).close("path");
            }
            // One point alone would not be seen.
            let dot =
                if places.len() == 1 { format!("M{:.1} {:.1}h.1", last.0, last.1) } else { way };
            let class = format!("line {}", line.class);
            html.open("path", &[("class", &class), ("d", &dot)]).close("path");
        }
    }

    fn draw_slots(&self, html: &mut Html) {
        let places: Vec<f64> = self.slots.iter().map(|slot| self.x(slot.at)).collect();
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(&at) = places.get(index) else { continue };
            let before = index.checked_sub(1).and_then(|index| places.get(index));
            let from = before.map_or(LEFT, |before| f64::midpoint(*before, at));
            let to = places.get(index + 1).map_or(WIDTH - RIGHT, |next| f64::midpoint(at, *next));
            html.raw("<g class=\"slot\">");
            html.open(
                "rect",
                &[
                    ("x", &n(from)),
                    ("y", &"0"),
                    ("width", &n((to - from).max(0.1))),
                    ("height", &HEIGHT),
                ],
            );
            html.close("rect");
            let way = format!("M{at:.1} {TOP}V{}", n(HEIGHT - BOTTOM));
            html.open("path", &[("d", &way)]).close("path");
            html.element("text", &[("x", &LEFT), ("y", &"14")], &slot.words).raw("</g>");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let axis = from_zero(9_700.0, |v| v.to_string());
        assert_eq!((axis.high, axis.ticks().len()), (10_000.0, 6));
        let axis = around([130.0, 7_000.0].into_iter(), |v| v.to_string());
        assert_eq!((axis.low, axis.high), (100.0, 10_000.0));
        assert_eq!(axis.ticks(), [100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn nothing_and_nonsense_have_axes_too() {
        for most in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let axis = from_zero(most, |v| v.to_string());
            assert!(axis.high > 0.0 && axis.ticks().len() > 1, "{most}");
            assert_eq!(axis.place(f64::NAN), 0.0);
        }
        assert!(around(std::iter::empty(), |v| v.to_string()).ticks().len() > 1);
        let now = Axis { scale: Scale::Time, low: 0.0, high: 0.0, label: |v| v.to_string() };
        assert!(now.ticks().len() <= 20);
    }

    #[test]
    fn steps_suit_a_clock() {
        let axis = Axis { scale: Scale::Time, low: 0.0, high: 300.0, label: |v| v.to_string() };
        assert_eq!(axis.ticks(), [0.0, 60.0, 120.0, 180.0, 240.0, 300.0]);
    }
}
