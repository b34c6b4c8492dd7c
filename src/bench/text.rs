//! What was measured, for people: tables of 80 columns.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use anstyle::{AnsiColor, Style};

use super::{
    Figures, Measurement, Report,
    checksum::{self, Outcome, Verdict},
};
use crate::report::{Table, scaled, three_digits};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const RATE: Style = Style::new().bold();

/// A run, with line breaks.
pub fn report(report: &Report) -> String {
    let mut out = String::new();
    for line in about(report) {
        out.push_str(&wrap(&line));
    }
    if report.measurements.is_empty() {
        return out;
    }
    for (heading, table) in tables(report) {
        let _ = write!(out, "\n{heading}\n{table}");
    }
    let notes = notes(report);
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        out.push_str(&wrap(&note));
    }
    out
}

/// What ran, on what.
pub fn about(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    let mut lines = vec![
        format!("pktmine {}, {}", report.version, report.time),
        format!("{}, {}, {} MiB", machine.processor, machine.processors_text(), machine.memory_mib),
        format!("{}, load {:.1} before", machine.system, machine.load),
    ];
    let mut devices: Vec<_> = (report.measurements.iter().flat_map(|m| &m.devices))
        .map(|device| format!("{}: {}", device.name, device.description))
        .collect();
    devices.dedup();
    lines.extend(devices);
    lines
}

/// The tables and what they are about.
pub fn tables(report: &Report) -> Vec<(&'static str, Table)> {
    let mut rates = Table::new(["", "difficulty", "e/s", "hashes/s", "ann/s", "found/s", "tables/s"]);
    let mut rounds =
        Table::new(["", "difficulty", "choice", "table 1", "tree", "table 2", "search", "in all"]);
    let mut needs =
        Table::new(["", "difficulty", "rounds/s", "upload Mb/s", "MiB", "at work", "W", "mJ/ann"]);
    for measurement in &report.measurements {
        for (label, figures) in lines(measurement) {
            let difficulty = measurement.difficulty.to_string();
            let plain = |text: String| (text, Style::new());
            rates.styled_row([
                plain(label.clone()),
                plain(difficulty.clone()),
                (scaled(figures.e_per_s), RATE),
                plain(whole(figures.hashes_per_s)),
                plain(three_digits(figures.anns_per_s)),
                plain(three_digits(figures.found_per_s)),
                plain(three_digits(figures.tables_per_s)),
            ]);
            let steps = figures.round_time.steps().map(three_digits);
            let in_all = three_digits(figures.round_time.total());
            rounds.row([label, difficulty].into_iter().chain(steps).chain([in_all]));
        }
        let energy = |value: Option<f64>| value.map_or("-".into(), three_digits);
        needs.row([
            measurement.label(),
            measurement.difficulty.to_string(),
            three_digits(measurement.total.rounds_per_s),
            three_digits(measurement.upload_mbit_per_s),
            measurement.resident_mib.map_or("-".into(), whole),
            three_digits(measurement.total.at_work),
            energy(measurement.energy.map(|energy| energy.watts)),
            energy(measurement.energy.map(|energy| energy.joules_per_announcement * 1e3)),
        ]);
    }
    vec![
        ("Rates (ann/s: to be expected of the hashes; found/s: what luck made of it)", rates),
        ("Where a round's time goes, ms of all threads together", rounds),
        ("What it takes (at work: threads that were busy, on average)", needs),
    ]
}

/// A line for each device where there are several, and one for all.
fn lines(measurement: &Measurement) -> Vec<(String, &Figures)> {
    let several = measurement.devices.len() > 1;
    let devices = measurement.devices.iter().filter(|_| several);
    let devices = devices.map(|device| (format!("  {}", device.name), &device.figures));
    [(measurement.label(), &measurement.total)].into_iter().chain(devices).collect()
}

/// What must be known to read the tables right.
pub fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(reason) = &report.energy {
        notes.push(format!("Energy is not told by this system: {reason}."));
    }
    let cut = report.measurements.iter().filter(|m| !m.whole_rounds);
    let cut: Vec<_> = cut.map(|m| format!("{} at difficulty {}", m.label(), m.difficulty)).collect();
    if !cut.is_empty() {
        notes.push(format!(
            "Measured on parts of rounds, since rounds are long or it was stopped: {}. A longer --duration is more exact.",
            cut.join(", ")
        ));
    }
    if report.interrupted {
        notes.push("It was ended early: not all of what was asked for was measured.".into());
    }
    notes
}

/// What came of a checksum.
pub fn outcome(label: &str, outcome: &Outcome) -> String {
    let Outcome { rounds, difficulty, announcements, digest, seconds, .. } = outcome;
    let rate = *announcements as f64 / seconds.max(1e-3);
    let verdict = match &outcome.verdict {
        Verdict::Correct => format!("{GOOD}correct{GOOD:#}"),
        Verdict::Wrong { announcements, digest } => format!(
            "{BAD}WRONG{BAD:#}: it must be\n{digest} over {announcements} announcements. This machine computes wrongly \
             (too hot, or clocked too high?)"
        ),
        Verdict::Unknown => {
            let mut known = BTreeMap::<u64, BTreeSet<u32>>::new();
            checksum::known().for_each(|(rounds, difficulty)| {
                known.entry(difficulty).or_default().insert(rounds);
            });
            let known = known.iter().map(|(difficulty, rounds)| {
                let rounds: Vec<_> = rounds.iter().map(ToString::to_string).collect();
                format!("{} at difficulty {difficulty}", rounds.join(", "))
            });
            let known = known.collect::<Vec<_>>().join("; ");
            format!(
                "cannot be judged:\nnone is known of so many hard nonces at this difficulty. Known are those of\n{known}"
            )
        }
    };
    format!(
        "{label}: {rounds} hard nonces at difficulty {difficulty}\n\
         {announcements} announcements in {seconds:.1} s ({} ann/s), checksum\n{digest} {verdict}\n",
        three_digits(rate)
    )
}

/// Text in lines of 80 columns, where its words allow it.
fn wrap(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > 80 {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
    out
}

/// A whole number with its thousands apart.
fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use kernels::WorkBits;

    use super::*;

    #[test]
    fn a_right_checksum_is_green_and_a_wrong_one_red_with_what_it_must_be() {
        let told = |verdict| {
            let (digest, work_bits) = ("ab".repeat(32), WorkBits::at_least(2));
            let found = Outcome {
                rounds: 4,
                difficulty: 2,
                work_bits,
                announcements: 2089,
                digest,
                seconds: 1.0,
                verdict,
            };
            outcome("2 threads", &found)
        };
        let right = told(Verdict::Correct);
        assert!(right.ends_with(&format!("abab {GOOD}correct{GOOD:#}\n")), "{right}");
        let wrong = told(Verdict::Wrong { announcements: 2090, digest: "cdcd" });
        assert!(wrong.contains(&format!("abab {BAD}WRONG{BAD:#}: it must be\ncdcd over 2090 ")), "{wrong}");
        assert!(wrong.contains("\u{1b}[31m") && right.contains("\u{1b}[32m"), "{wrong}{right}");
    }
}
