//! What there is to say about difficulties, for people and for machines.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::{Point, Rule, Supply, periods, work_bits};
use crate::report::{Table, three_digits};

const BEST: Style = AnsiColor::Green.on_default().bold();

/// Everything, in tables of 80 columns. `advice` is left out where nothing is known of the hardware.
pub fn text(supply: &Supply, difficulty: u64, curve: &[Point], advice: Option<&Point>) -> String {
    let mut out = String::new();
    let d = difficulty as f64;
    let bits = work_bits(difficulty).map_or("no work bits".into(), |bits| bits.to_string());
    let _ = writeln!(
        out,
        "Power at difficulty {difficulty} ({bits}), {} announcements a block period, by\nthe number of periods used \
         (effective: of the oldest; of one: against one):",
        whole(supply.per_period(d))
    );
    let _ = writeln!(out, "{}", by_periods(supply, difficulty));
    out.push_str("Power by difficulty, each at its best number of periods:\n");
    let _ = writeln!(out, "{}", by_difficulty(curve));
    if let Some(advice) = advice {
        if supply.has_line() {
            let _ = writeln!(out, "{}", by_line(curve, advice));
        }
        out.push_str(&advice_text(supply, advice));
    }
    out
}

/// Everything as one JSON object.
pub fn json(supply: &Supply, difficulty: u64, curve: &[Point], advice: Option<&Point>) -> Value {
    let d = difficulty as f64;
    let of_rule = |rule: Rule| periods(rule, d, supply.per_period(d)).collect::<Vec<_>>();
    json!({
        "difficulty": difficulty,
        "work_bits": work_bits(difficulty).map(|bits| bits.to_string()),
        "per_period": supply.per_period(d),
        "periods": { "in_force": of_rule(Rule::InForce), "documentation": of_rule(Rule::Documentation) },
        "curve": curve,
        "recommended": advice.map(|advice| json!({
            "difficulty": advice.difficulty,
            "work_bits": work_bits(advice.difficulty).map(|bits| bits.to_string()),
            "point": advice,
        })),
    })
}

fn by_periods(supply: &Supply, difficulty: u64) -> Table {
    let d = difficulty as f64;
    let allowed = Rule::ALL.map(|rule| periods(rule, d, supply.per_period(d)).collect::<Vec<_>>());
    let most = |rule: usize| allowed[rule].iter().map(|one| one.power).fold(0.0, f64::max);
    let most = [most(0), most(1)];
    let mut table = Table::new(
        ["periods", "effective", "ann", "power", "of one"].into_iter().chain(Rule::ALL.map(Rule::name)),
    );
    for (i, one) in allowed[1].iter().enumerate() {
        let usable = [0, 1].map(|rule| match allowed[rule].get(i) {
            None => ("too old".into(), Style::new()),
            Some(one) if one.power == most[rule] => ("best".into(), BEST),
            Some(_) => ("usable".into(), Style::new()),
        });
        let cells = [
            one.periods.to_string(),
            three_digits(one.effective_difficulty),
            whole(one.announcements),
            whole(one.power),
            three_digits(one.power / allowed[1][0].power),
        ];
        table.styled_row(cells.map(|cell| (cell, Style::new())).into_iter().chain(usable));
    }
    table
}

fn by_difficulty(curve: &[Point]) -> Table {
    let most = Rule::ALL.map(|rule| curve.iter().map(|point| point.power(rule)).fold(0.0, f64::max));
    let mut table = Table::new([
        "difficulty",
        "periods",
        "rule in force",
        "of best",
        "periods",
        "documentation",
        "of best",
    ]);
    for point in curve {
        let cells = Rule::ALL.iter().zip(most).flat_map(|(rule, most)| {
            let style = if point.power(*rule) >= most * (1.0 - 1e-12) { BEST } else { Style::new() };
            let plain = |text: String| (text, Style::new());
            match point.best(*rule) {
                None => [plain("-".into()), plain("not usable".into()), plain("-".into())],
                Some(best) => [
                    plain(best.periods.to_string()),
                    (whole(best.power), style),
                    (format!("{:.1}%", best.power / most * 100.0), style),
                ],
            }
        });
        table.styled_row([(point.difficulty.to_string(), Style::new())].into_iter().chain(cells));
    }
    table
}

/// What the line makes of it: the recommended difficulty, and the powers of two around it.
fn by_line(curve: &[Point], advice: &Point) -> Table {
    let near = |point: &&Point| {
        point.difficulty >= advice.difficulty / 8 && point.difficulty <= advice.difficulty.saturating_mul(8)
    };
    let mut points: Vec<&Point> = curve.iter().filter(near).chain([advice]).collect();
    points.sort_by_key(|point| point.difficulty);
    points.dedup_by_key(|point| point.difficulty);
    let mut table =
        Table::new(["difficulty", "found ann/s", "sent ann/s", "of found", "upload Mb/s", "of best power"]);
    for point in points {
        let style = if point.difficulty == advice.difficulty { BEST } else { Style::new() };
        let cells = [
            point.difficulty.to_string(),
            three_digits(point.found_per_s),
            three_digits(point.sent_per_s),
            format!("{:.1}%", point.sent_per_s / point.found_per_s * 100.0),
            three_digits(point.upload_mbit_per_s),
            format!("{:.1}%", point.power(Rule::InForce) / advice.power(Rule::InForce) * 100.0),
        ];
        table.styled_row(cells.map(|cell| (cell, style)));
    }
    table
}

fn advice_text(supply: &Supply, advice: &Point) -> String {
    let Point { difficulty, sent_per_s, upload_mbit_per_s, .. } = advice;
    let best = advice.best(Rule::InForce).expect("a difficulty that is recommended is usable");
    let why = if supply.has_line()
        && supply.found_per_s((*difficulty - 1) as f64) > supply.sent_per_s((*difficulty - 1) as f64)
    {
        "lower ones are found faster than\nthe line takes them, higher ones are fewer than it could take"
    } else if supply.has_line() {
        "the line takes all that is found"
    } else {
        "without --upload the line is taken to be wide enough"
    };
    format!(
        "Ask for difficulty {BEST}{difficulty}{BEST:#} ({}): {why}.\n{} ann/s, {} Mb/s, used for {} block period{}.\n",
        work_bits(*difficulty).expect("a difficulty that is recommended is usable"),
        three_digits(*sent_per_s),
        three_digits(*upload_mbit_per_s),
        best.periods,
        if best.periods == 1 { "" } else { "s" },
    )
}

/// A number as it is, or with three digits and a unit where it is long.
fn whole(number: f64) -> String {
    let units = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")];
    match units.into_iter().find(|(unit, _)| number >= 10.0 * unit) {
        Some((unit, name)) => format!("{} {name}", three_digits(number / unit)),
        None => format!("{number:.0}"),
    }
}
