//! Two runs held against each other.

use anstyle::{AnsiColor, Style};

use super::{Measurement, Report};
use crate::report::{Table, scaled};

const BETTER: Style = AnsiColor::Green.on_default();
const WORSE: Style = AnsiColor::Red.on_default();

/// Ratios nearer to 1 than this are noise as likely as not, and get no colour.
const NOISE: f64 = 0.03;

/// What a run and one before it have in common, and what differs.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What is not the same in both runs, so that ratios are not of the program alone.
    pub differences: Vec<String>,
    /// Rates, where both runs measured the same.
    pub rates: Table,
    /// By how much each step became faster.
    pub steps: Table,
    /// What only one of the runs measured.
    pub missing: Vec<String>,
}

/// Holds a run against one that was saved.
pub fn compare(saved: &Report, now: &Report) -> Comparison {
    let mut rates = Table::new(["", "difficulty", "saved", "now", "ratio"]);
    let mut steps =
        Table::new(["", "difficulty", "choice", "table 1", "tree", "table 2", "search", "in all"]);
    let mut missing = Vec::new();
    for measurement in &now.measurements {
        let Some(before) = saved.measurements.iter().find(|before| before.is_of_the_same(measurement)) else {
            missing.push(format!("only now: {}", name(measurement)));
            continue;
        };
        let plain = |text: String| (text, Style::new());
        let what = [measurement.label(), measurement.difficulty.to_string()].map(plain);
        let rate = ratio(measurement.total.e_per_s, before.total.e_per_s);
        let both = [before, measurement].map(|m| plain(scaled(m.total.e_per_s)));
        rates.styled_row(what.clone().into_iter().chain(both).chain([rate]));
        // Of times, the earlier one goes on top, so that more is better here too.
        let (old, new) = (&before.total.round_time, &measurement.total.round_time);
        let ratios = old.steps().into_iter().zip(new.steps()).map(|(old, new)| ratio(old, new));
        steps.styled_row(what.into_iter().chain(ratios).chain([ratio(old.total(), new.total())]));
    }
    for before in &saved.measurements {
        if !now.measurements.iter().any(|measurement| measurement.is_of_the_same(before)) {
            missing.push(format!("only saved: {}", name(before)));
        }
    }
    Comparison { differences: differences(saved, now), rates, steps, missing }
}

fn name(measurement: &Measurement) -> String {
    format!("{} at difficulty {}", measurement.label(), measurement.difficulty)
}

fn ratio(above: f64, below: f64) -> (String, Style) {
    if above <= 0.0 || below <= 0.0 {
        return ("-".into(), Style::new());
    }
    let ratio = above / below;
    let style = match ratio {
        r if r > 1.0 + NOISE => BETTER,
        r if r < 1.0 - NOISE => WORSE,
        _ => Style::new(),
    };
    (format!("{ratio:.3}"), style)
}

/// What else than the program may have changed the figures.
fn differences(saved: &Report, now: &Report) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, saved: String, now: String| {
        if saved != now {
            differences.push(format!("{what}: {saved} saved, {now} now"));
        }
    };
    let (old, new) = (&saved.machine, &now.machine);
    differ("another machine", old.processor.clone(), new.processor.clone());
    differ("processors", old.processors.to_string(), new.processors.to_string());
    differ("system", old.system.clone(), new.system.clone());
    differ("version", saved.version.clone(), now.version.clone());
    differ("kernel", kernels(saved), kernels(now));
    differ("seconds measured", saved.duration.to_string(), now.duration.to_string());
    for (when, run) in [("the saved run", saved), ("this run", now)] {
        if run.machine.load > 0.2 * run.machine.processors as f64 {
            let load = run.machine.load;
            differences.push(format!("{when} began on a busy machine (load {load:.1})"));
        }
    }
    differences
}

fn kernels(report: &Report) -> String {
    let mut kernels: Vec<_> = report.measurements.iter().filter_map(|m| m.kernel.as_deref()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    if kernels.is_empty() { "none".into() } else { kernels.join(", ") }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Against the saved run (ratios above 1 are better now)")?;
        for line in self.differences.iter().chain(&self.missing) {
            writeln!(f, "  {line}")?;
        }
        if self.rates.is_empty() {
            return writeln!(f, "The two runs measured nothing that is the same.");
        }
        write!(f, "{}", self.rates)?;
        write!(f, "\nBy how much each step of a round became faster\n{}", self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Figures, Machine, RoundTime};

    fn measurement(threads: usize, difficulty: u64, rate: f64) -> Measurement {
        let round_time =
            RoundTime { choice: 1.0, table_1: 1e5 / rate, search: 1e7 / rate, ..RoundTime::default() };
        Measurement {
            backend: "cpu".into(),
            threads: Some(threads),
            kernel: Some("avx2".into()),
            difficulty,
            work_bits: "0x2001ffff".into(),
            seconds: 10.0,
            whole_rounds: true,
            total: Figures { e_per_s: rate, round_time, ..Figures::default() },
            devices: Vec::new(),
            upload_mbit_per_s: 0.0,
            resident_mib: None,
            energy: None,
        }
    }

    fn report(measurements: Vec<Measurement>) -> Report {
        Report {
            format: 1,
            version: "0.1.0".into(),
            time: "2026-01-01T00:00:00Z".into(),
            machine: Machine {
                processor: "one".into(),
                processors: 2,
                memory_mib: 1,
                system: "Linux".into(),
                load: 0.0,
            },
            duration: 10.0,
            interrupted: false,
            energy: None,
            measurements,
        }
    }

    fn text(saved: &Report, now: &Report) -> String {
        anstream::adapter::strip_str(&compare(saved, now).to_string()).to_string()
    }

    #[test]
    fn what_both_runs_measured_has_a_ratio_and_the_rest_is_named() {
        let saved = report(vec![measurement(1, 128, 1e5), measurement(4, 128, 4e5)]);
        let now = report(vec![measurement(1, 128, 1.5e5), measurement(2, 128, 2e5)]);
        let text = text(&saved, &now);
        assert!(text.contains("1 thread         128  100 Ke/s  150 Ke/s  1.500"), "{text}");
        assert!(text.contains("only now: 2 threads at difficulty 128"), "{text}");
        assert!(text.contains("only saved: 4 threads at difficulty 128"), "{text}");
        let steps = text.lines().last().expect("the steps");
        assert_eq!(
            steps.split_whitespace().collect::<Vec<_>>()[3..],
            ["1.000", "1.500", "-", "-", "1.500", "1.493"]
        );
    }

    #[test]
    fn other_reasons_for_other_figures_are_named() {
        let saved = report(vec![measurement(1, 128, 1e5)]);
        assert!(compare(&saved, &saved).differences.is_empty());
        let mut now = saved.clone();
        now.machine.processor = "another".into();
        now.version = "0.2.0".into();
        now.measurements[0].kernel = Some("portable".into());
        now.machine.load = 1.5;
        let differences = compare(&saved, &now).differences.join("\n");
        for part in
            ["one saved, another now", "0.1.0 saved, 0.2.0 now", "avx2 saved, portable now", "(load 1.5)"]
        {
            assert!(differences.contains(part), "{part}: {differences}");
        }
        assert_eq!(differences.lines().count(), 4, "{differences}");
    }

    #[test]
    fn runs_with_nothing_in_common_are_said_to_have_nothing() {
        let text = text(&report(vec![measurement(1, 2, 1.0)]), &report(vec![measurement(1, 4, 1.0)]));
        assert!(text.contains("measured nothing that is the same"), "{text}");
    }
}
