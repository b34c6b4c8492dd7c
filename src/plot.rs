//! Plots as SVG: lines over two axes, and stacked bars.
//!
//! Colours are attributes, so that a file shows right in every viewer; each shape has a class too, by which a page's style
//! sheet can give it other ones (`ink`, `ink-line`, `grid`, `on` for text in an area, and `s0` … `s5` for strokes, `f0` … `f5` for areas). Series differ
//! in shape as well as in colour, for print and for eyes that tell colours badly.

use std::fmt::Write;

/// Width of a plot; a page scales it.
pub const WIDTH: f64 = 640.0;
/// Height of a plot of lines.
pub const HEIGHT: f64 = 380.0;

/// Colours of the series on paper, told apart by most eyes.
pub const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#b7568c", "#5b6770", "#b87f00"];

const INK: &str = "#222222";
const GRID: &str = "#dddddd";

/// What is left free around the area of a plot: for ticks, labels and title.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 66.0;
/// Where the legend's text stands.
const LEGEND: f64 = 50.0;
const BOTTOM: f64 = 56.0;

/// Lines over two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn, 6 at most.
    pub lines: Vec<Line>,
}

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it is, with its unit.
    pub label: String,
    /// How numbers lie on it.
    pub scale: Scale,
}

/// How numbers lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// Evenly, from the smallest, in whole steps.
    Count,
    /// Each doubling as wide as the next.
    Doublings,
    /// Each tenfold as wide as the next.
    Decades,
}

/// A line through points in order.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

impl Chart {
    /// The plot, as an `svg` element.
    pub fn svg(&self) -> String {
        let mut out = open(&self.title, HEIGHT);
        let numbers = |pick: fn(&(f64, f64)) -> f64| -> Vec<f64> {
            self.lines.iter().flat_map(|line| line.points.iter().map(pick)).collect()
        };
        let x = Ticks::new(self.x.scale, &numbers(|point| point.0));
        let y = Ticks::new(self.y.scale, &numbers(|point| point.1));
        let across = |value: f64| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
        let up = |value: f64| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);

        for &value in &x.values {
            let at = across(value);
            rule(&mut out, (at, TOP), (at, bottom), GRID, "grid");
            text(&mut out, at, bottom + 18.0, "middle", &short(value));
        }
        for &value in &y.values {
            let at = up(value);
            rule(&mut out, (LEFT, at), (right, at), GRID, "grid");
            text(&mut out, LEFT - 8.0, at + 4.0, "end", &short(value));
        }
        rule(&mut out, (LEFT, bottom), (right, bottom), INK, "ink-line");
        rule(&mut out, (LEFT, TOP), (LEFT, bottom), INK, "ink-line");
        text(&mut out, f64::midpoint(LEFT, right), HEIGHT - 14.0, "middle", &self.x.label);
        let middle = f64::midpoint(TOP, bottom);
        let _ = write!(out, r#"<g transform="translate(18 {middle:.1}) rotate(-90)">"#);
        text(&mut out, 0.0, 0.0, "middle", &self.y.label);
        out.push_str("</g>");

        // The first is drawn last, above the others.
        for (series, line) in self.lines.iter().enumerate().rev() {
            let color = COLORS[series % COLORS.len()];
            let places = line.points.iter().map(|point| format!("{:.1},{:.1}", across(point.0), up(point.1)));
            let dashes = ["", r#" stroke-dasharray="7 4""#, r#" stroke-dasharray="2 3""#][series % 3];
            let _ = write!(
                out,
                r#"<polyline class="s{series}" fill="none" stroke="{color}" stroke-width="2"{dashes} points="{}"/>"#,
                places.collect::<Vec<_>>().join(" ")
            );
            for point in &line.points {
                mark(&mut out, series, across(point.0), up(point.1));
            }
        }
        if self.lines.len() > 1 {
            let names = self.lines.iter().map(|line| line.name.as_str());
            legend(&mut out, LEFT, names, mark);
        }
        out.push_str("</svg>");
        out
    }
}

/// Bars that are cut into parts, drawn as shares of their sum.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What they show.
    pub title: String,
    /// What the parts are, 6 at most.
    pub parts: Vec<String>,
    /// Each bar's name, its parts, and what is said at its end.
    pub bars: Vec<(String, Vec<f64>, String)>,
}

impl Bars {
    /// The plot, as an `svg` element.
    pub fn svg(&self) -> String {
        const ROW: f64 = 30.0;
        let longest = |texts: &mut dyn Iterator<Item = &String>| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0) as f64 * 7.0 + 12.0
        };
        let left = longest(&mut self.bars.iter().map(|bar| &bar.0)).max(40.0);
        let right = WIDTH - longest(&mut self.bars.iter().map(|bar| &bar.2));
        let height = TOP + self.bars.len() as f64 * ROW + 10.0;
        let mut out = open(&self.title, height);

        let names = self.parts.iter().map(String::as_str);
        legend(&mut out, left, names, |out, series, x, y| {
            area(out, series, (x - 6.0, y - 6.0), (12.0, 12.0))
        });
        for (row, (name, parts, end)) in self.bars.iter().enumerate() {
            let top = TOP + row as f64 * ROW;
            let sum: f64 = parts.iter().sum();
            text(&mut out, left - 8.0, top + 16.0, "end", name);
            let mut at = left;
            for (series, part) in parts.iter().enumerate() {
                let share = if sum > 0.0 { part / sum } else { 0.0 };
                let width = share * (right - left);
                area(&mut out, series, (at, top), (width, 22.0));
                if width > 44.0 {
                    let _ = write!(
                        out,
                        r##"<text class="on" x="{:.1}" y="{:.1}" text-anchor="middle" fill="#ffffff" font-weight="600">{:.0} %</text>"##,
                        at + width / 2.0,
                        top + 16.0,
                        share * 100.0
                    );
                }
                at += width;
            }
            text(&mut out, right + 8.0, top + 16.0, "start", end);
        }
        out.push_str("</svg>");
        out
    }
}

/// Plots one below the other in one picture, on white.
pub fn stack(title: &str, plots: &[String]) -> String {
    let height = HEIGHT * plots.len() as f64;
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"><title>{}</title><rect width="100%" height="100%" fill="#ffffff"/>"##,
        escape(title)
    );
    for (i, plot) in plots.iter().enumerate() {
        let _ = write!(out, r#"<g transform="translate(0 {:.1})">{plot}</g>"#, HEIGHT * i as f64);
    }
    out.push_str("</svg>\n");
    out
}

/// Text that may stand in XML and HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no place for them, however they are written.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn open(title: &str, height: f64) -> String {
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13"><title>{}</title>"#,
        escape(title)
    );
    let _ = write!(
        out,
        r#"<text class="ink" x="{:.1}" y="24" text-anchor="middle" fill="{INK}" font-size="15" font-weight="600">{}</text>"#,
        WIDTH / 2.0,
        escape(title)
    );
    out
}

/// What the series are, in a row below the title.
fn legend<'a>(
    out: &mut String,
    left: f64,
    names: impl Iterator<Item = &'a str>,
    draw: impl Fn(&mut String, usize, f64, f64),
) {
    let mut at = left;
    for (series, name) in names.enumerate() {
        draw(out, series, at + 6.0, LEGEND - 4.0);
        text(out, at + 18.0, LEGEND, "start", name);
        at += name.chars().count() as f64 * 7.0 + 40.0;
    }
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(
        out,
        r#"<text class="ink" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{INK}">{}</text>"#,
        escape(text)
    );
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64), color: &str, class: &str) {
    let _ = write!(
        out,
        r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{color}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

fn area(out: &mut String, series: usize, at: (f64, f64), size: (f64, f64)) {
    let color = COLORS[series % COLORS.len()];
    let _ = write!(
        out,
        r#"<rect class="f{series}" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{color}"/>"#,
        at.0, at.1, size.0, size.1
    );
}

/// A point of a series: each has a shape of its own.
fn mark(out: &mut String, series: usize, x: f64, y: f64) {
    let color = COLORS[series % COLORS.len()];
    let corners: &[(f64, f64)] = match series % 4 {
        0 => {
            let _ =
                write!(out, r#"<circle class="f{series}" cx="{x:.1}" cy="{y:.1}" r="4" fill="{color}"/>"#);
            return;
        }
        1 => &[(-4.0, -4.0), (4.0, -4.0), (4.0, 4.0), (-4.0, 4.0)],
        2 => &[(0.0, -5.0), (5.0, 4.0), (-5.0, 4.0)],
        _ => &[(0.0, -5.5), (5.5, 0.0), (0.0, 5.5), (-5.5, 0.0)],
    };
    let corners = corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy));
    let points = corners.collect::<Vec<_>>().join(" ");
    let _ = write!(out, r#"<polygon class="f{series}" points="{points}" fill="{color}"/>"#);
}

/// Where an axis begins and ends, and the numbers that are written on it.
struct Ticks {
    scale: Scale,
    low: f64,
    high: f64,
    values: Vec<f64>,
}

impl Ticks {
    fn new(scale: Scale, numbers: &[f64]) -> Self {
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (least, most) = if least <= most { (least, most) } else { (1.0, 1.0) };
        match scale {
            Scale::Linear => {
                let step = round_step(most.max(f64::MIN_POSITIVE) / 5.0);
                let steps = (most / step).ceil().max(1.0);
                let values = (0..=steps as usize).map(|i| i as f64 * step).collect();
                Self { scale, low: 0.0, high: steps * step, values }
            }
            Scale::Count => {
                let step = ((most - least) / 12.0).ceil().max(1.0);
                let values = (0..=12).map(|i| least + f64::from(i) * step).take_while(|value| *value <= most);
                let (low, high) = if least < most {
                    (least, most)
                } else {
                    (least - least.abs().max(1.0), least + least.abs().max(1.0))
                };
                Self { scale, low, high, values: values.collect() }
            }
            Scale::Doublings | Scale::Decades => {
                let base: f64 = if scale == Scale::Doublings { 2.0 } else { 10.0 };
                let (least, most) = (least.max(f64::MIN_POSITIVE), most.max(f64::MIN_POSITIVE));
                // The edges of a logarithm's steps are not always whole.
                let low = (least.log(base) + 1e-9).floor();
                let high = (most.log(base) - 1e-9).ceil().max(low + 1.0);
                let step = ((high - low) / 14.0).ceil().max(1.0);
                let values = (0..=14).map(|i| low + f64::from(i) * step).take_while(|power| *power <= high);
                let values = values.map(|power| base.powf(power)).collect();
                Self { scale, low: base.powf(low), high: base.powf(high), values }
            }
        }
    }

    /// Where a number lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear | Scale::Count => (value - self.low) / (self.high - self.low),
            Scale::Doublings | Scale::Decades => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }
}

/// The next of … 1, 2, 5, 10, 20, 50 … that is not below.
fn round_step(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    let step = step / decade;
    let round = [1.0, 2.0, 5.0].into_iter().find(|round| step <= round * (1.0 + 1e-9)).unwrap_or(10.0);
    round * decade
}

/// A number as it is written on an axis: 5, 0.2, 30 k, 1.5 M.
fn short(value: f64) -> String {
    let (scale, unit) = match value.abs() {
        v if v >= 1e15 => (1e15, " P"),
        v if v >= 1e12 => (1e12, " T"),
        v if v >= 1e9 => (1e9, " G"),
        v if v >= 1e6 => (1e6, " M"),
        v if v >= 1e4 => (1e3, " k"),
        _ => (1.0, ""),
    };
    let number = (value / scale * 1000.0).round() / 1000.0;
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers_and_hold_everything() {
        for (scale, numbers, values) in [
            (Scale::Linear, vec![3.0, 97.0], vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
            (Scale::Count, vec![1.0, 4.0], vec![1.0, 2.0, 3.0, 4.0]),
            (Scale::Doublings, vec![2.0, 16.0], vec![2.0, 4.0, 8.0, 16.0]),
            (Scale::Decades, vec![30.0, 5000.0], vec![10.0, 100.0, 1000.0, 10_000.0]),
        ] {
            let ticks = Ticks::new(scale, &numbers);
            assert_eq!(ticks.values.len(), values.len(), "{scale:?}: {:?}", ticks.values);
            for (value, expected) in ticks.values.iter().zip(values) {
                assert!((value - expected).abs() < 1e-6 * expected.max(1.0), "{scale:?}: {:?}", ticks.values);
            }
            assert!(numbers.iter().all(|number| (0.0..=1.0).contains(&ticks.place(*number))), "{scale:?}");
        }
    }

    #[test]
    fn nothing_or_a_single_point_makes_an_axis_too() {
        for scale in [Scale::Linear, Scale::Count, Scale::Doublings, Scale::Decades] {
            for numbers in [vec![], vec![0.0], vec![7.0], vec![1e300]] {
                let ticks = Ticks::new(scale, &numbers);
                assert!(
                    ticks.high > ticks.low && !ticks.values.is_empty() && ticks.values.len() < 20,
                    "{scale:?}"
                );
                assert!(ticks.values.iter().all(|value| ticks.place(*value).is_finite()));
            }
        }
    }

    #[test]
    fn text_cannot_end_the_element_that_it_stands_in() {
        let line = Line { name: "<script>&\u{1b}".into(), points: vec![(1.0, 1.0), (2.0, 3.0)] };
        let axis = |label: &str| Axis { label: label.into(), scale: Scale::Linear };
        let chart = Chart { title: "a < b".into(), x: axis("\"x\""), y: axis("y"), lines: vec![line; 2] };
        let svg = chart.svg();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;&amp;\u{fffd}"), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("&quot;x&quot;"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn parts_of_a_bar_fill_it() {
        let bars = Bars {
            title: "bars".into(),
            parts: vec!["a".into(), "b".into()],
            bars: vec![
                ("one".into(), vec![1.0, 3.0], "4 ms".into()),
                ("none".into(), vec![0.0, 0.0], "0 ms".into()),
            ],
        };
        let svg = bars.svg();
        assert!(svg.contains("25 %") && svg.contains("75 %"), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn numbers_on_axes_are_short() {
        let shown = [0.0, 0.25, 8192.0, 65_536.0, 1_500_000.0, 2e9].map(short);
        assert_eq!(shown, ["0", "0.25", "8192", "65.536 k", "1.5 M", "2 G"]);
    }
}
