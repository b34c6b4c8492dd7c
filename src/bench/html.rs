//! A run as one page that stands by itself: plots and tables, nothing fetched from anywhere.

use std::fmt::Write;

use super::{Measurement, Report, text};
use crate::{
    backend::Step,
    plot::{Axis, Bars, Chart, Line, Scale, escape},
    report::{scaled, three_digits},
};

/// For screens, light or dark, and for paper.
const STYLE: &str = "\
:root { color-scheme: light dark; --paper: #ffffff; --ink: #222222; --soft: #666666; --grid: #dddddd; --on: #ffffff;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b7568c; --c4: #5b6770; --c5: #b87f00; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #e6e6e6; --soft: #a0a0a0; --grid: #3a3d42; --on: #101214;
    --c0: #3d9bd8; --c1: #e8772e; --c2: #1fb58a; --c3: #d987b4; --c4: #a7b3bf; --c5: #e8ab2a; } }
@media print {
  :root { color-scheme: light; --paper: #ffffff; --ink: #000000; --soft: #444444; --grid: #cccccc; --on: #ffffff;
    --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b7568c; --c4: #5b6770; --c5: #b87f00; }
  body { max-width: none; margin: 0; padding: 0; font-size: 10pt; }
  figure, table { break-inside: avoid; }
  figure svg { width: 14cm; }
  h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 60rem;
  margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; color: var(--soft); }
figure { margin: 1.5rem 0; }
svg { max-width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.ink { fill: var(--ink); } .ink-line { stroke: var(--ink); } .grid { stroke: var(--grid); } .on { fill: var(--on); }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); }
.s3 { stroke: var(--c3); } .s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); }
.f3 { fill: var(--c3); } .f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
";

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>pktmine bench: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>pktmine bench</h1>\n",
        escape(&report.machine.processor)
    );
    for line in text::about(report).iter().chain(&text::notes(report)) {
        let _ = writeln!(out, "<p>{}</p>", escape(line));
    }
    if let Some(chart) = rate_against_threads(report) {
        let _ = writeln!(out, "<figure>{}</figure>", chart.svg());
    }
    let _ = writeln!(out, "<figure>{}</figure>", split(report).svg());
    for (heading, table) in text::tables(report) {
        let _ =
            writeln!(out, "<h2>{}</h2>\n<div class=\"scroll\">{}</div>", escape(heading), table.to_html());
    }
    out.push_str("</body>\n</html>\n");
    out
}

/// A line for each difficulty (the first six), where threads of processors were measured.
fn rate_against_threads(report: &Report) -> Option<Chart> {
    let mut lines: Vec<(u64, Vec<&Measurement>)> = Vec::new();
    for measurement in report.measurements.iter().filter(|measurement| measurement.threads.is_some()) {
        match lines.iter_mut().find(|(difficulty, _)| *difficulty == measurement.difficulty) {
            Some((_, line)) => line.push(measurement),
            None => lines.push((measurement.difficulty, vec![measurement])),
        }
    }
    lines.truncate(crate::plot::COLORS.len());
    let line = |(difficulty, mut measurements): (u64, Vec<&Measurement>)| {
        measurements.sort_by_key(|measurement| measurement.threads);
        let point = |m: &&Measurement| (m.threads.unwrap_or(0) as f64, m.total.e_per_s);
        Line { name: format!("difficulty {difficulty}"), points: measurements.iter().map(point).collect() }
    };
    let axis = |label: &str, scale| Axis { label: label.into(), scale };
    (!lines.is_empty()).then(|| Chart {
        title: "Rate against threads".into(),
        x: axis("threads", Scale::Count),
        y: axis("e/s", Scale::Linear),
        lines: lines.into_iter().map(line).collect(),
    })
}

/// Where a round's time goes, a bar for each measurement.
fn split(report: &Report) -> Bars {
    let bar = |measurement: &Measurement| {
        let name = format!("{} at {}", measurement.label(), measurement.difficulty);
        let round = &measurement.total.round_time;
        let end = format!("{} ms, {}", three_digits(round.total()), scaled(measurement.total.e_per_s));
        (name, round.steps().to_vec(), end)
    };
    Bars {
        title: "Where a round's time goes, by step (at difficulty)".into(),
        parts: Step::ALL.iter().map(|step| step.name().to_owned()).collect(),
        bars: report.measurements.iter().map(bar).collect(),
    }
}
