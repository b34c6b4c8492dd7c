//! Status lines and totals for people.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{BackendRow, Phase, Snapshot};
use crate::upload::Account;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const RATE: Style = Style::new().bold();

/// What the columns of a status line are, said once at the start.
pub const LEGEND: &str = "columns: e/s and announcements/s over 10 s/60 s/15 min, upload, announcements \
                          accepted/duplicate/rejected/stale/overflow/unknown";

/// One line, 80 columns wide while the counts are small; some more where harder announcements are mined than the pool
/// asks for.
pub fn status(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    write_status(&mut out, snapshot).expect("a string takes everything");
    out
}

fn write_status(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let rates = &snapshot.rates.windows;
    let encryptions = join(rates.map(|rate| rate.e_per_s), true);
    let announcements = join(rates.map(|rate| rate.anns_per_s), false);
    write!(
        out,
        "{RATE}{encryptions}{RATE:#}  {announcements} ann/s  {:.2} Mb/s",
        rates[0].upload_mbit_per_s
    )?;
    let harder = snapshot.job.as_ref().and_then(|row| match row.difficulty() {
        (difficulty, Some(why)) => Some(format!("  difficulty {difficulty:.0} ({why})")),
        _ => None,
    });
    let harder = harder.unwrap_or_default();
    let pools: Vec<_> = snapshot.pools_at_work().map(|(account, _)| account).collect();
    match pools.as_slice() {
        [pool] => writeln!(out, "  {}{harder}", Counts(pool))?,
        pools => {
            writeln!(out, "{harder}")?;
            for pool in pools {
                writeln!(out, "  {}  {}", pool.pool, Counts(pool))?;
            }
        }
    }
    Ok(())
}

/// The totals, with every loss and its cause.
pub fn totals(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    write_totals(&mut out, snapshot).expect("a string takes everything");
    out
}

fn write_totals(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let found = snapshot.found();
    let time = snapshot.mined.as_secs_f64().max(1e-3);
    let mean = snapshot.work / time;
    writeln!(
        out,
        "\nmined {time:.1} s: {found} announcements, {:.1} ann/s, {}{}",
        found as f64 / time,
        scaled(mean),
        // Windows begin with the miner, the mean with mining: of a short run none may have been as high.
        if snapshot.rates.highest >= mean {
            format!(", highest {}", scaled(snapshot.rates.highest))
        } else {
            String::new()
        },
    )?;
    for BackendRow { name, counters, .. } in &snapshot.backends {
        writeln!(
            out,
            "  {name}: {} rounds, {} items, {} hashes, {} announcements",
            counters.rounds, counters.items, counters.hashes, counters.found
        )?;
    }
    write_results(out, snapshot)
}

/// What became of all announcements, pool by pool.
pub fn results(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    write_results(&mut out, snapshot).expect("a string takes everything");
    out
}

fn write_results(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    for pool in &snapshot.ledger.pools {
        writeln!(out, "{}", pool.pool)?;
        let others = [
            ("duplicate", pool.duplicate),
            ("rejected", pool.rejected),
            ("stale", pool.stale),
            ("overflow", pool.overflow),
            ("unknown", pool.unknown),
            ("unwanted", pool.unwanted),
            ("queued", pool.queued),
            ("in flight", pool.in_flight),
        ];
        write!(out, "  found {} = {GOOD}accepted {}{GOOD:#}", pool.found, pool.accepted)?;
        for (name, count) in others.iter().filter(|(_, count)| *count > 0) {
            write!(out, " + {name} {count}")?;
        }
        writeln!(out)?;
        if pool.missed > 0 {
            writeln!(out, "  {} more were found while this pool was not mined for", pool.missed)?;
        }
        if pool.told_late > 0 {
            writeln!(
                out,
                "  {} of the accepted were handed in more than once, since they were not answered at first",
                pool.told_late
            )?;
        }
        for ((fate, cause), count) in &pool.causes {
            writeln!(out, "  {BAD}{fate} {count}{BAD:#}: {cause}")?;
        }
        if pool.queued > 0 && snapshot.phase == Phase::Done {
            writeln!(
                out,
                "  {BAD}left behind {}{BAD:#}: handlers did not take them before the end",
                pool.queued
            )?;
        }
        writeln!(out, "  goodrate {}", goodrate(pool))?;
    }
    Ok(())
}

/// The six counts of a status line and the goodrate.
struct Counts<'a>(&'a Account);

impl std::fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Account { accepted, duplicate, rejected, stale, overflow, unknown, .. } = self.0;
        let style = if self.0.goodrate().is_some_and(|rate| rate < 0.99) { BAD } else { GOOD };
        write!(f, "{style}{accepted}/{duplicate}/{rejected}/{stale}/{overflow}/{unknown}{style:#}")?;
        write!(f, " good {}", goodrate(self.0))
    }
}

fn goodrate(pool: &Account) -> String {
    // Rounded down, so that 100 % means all.
    pool.goodrate().map_or_else(|| "-".into(), |rate| format!("{:.1}%", (rate * 1000.0).floor() / 10.0))
}

/// Three numbers with a common unit: those of e/s in thousands at least, as miners are used to.
fn join(numbers: [f64; 3], encryptions: bool) -> String {
    let (scale, unit) = if encryptions { unit(numbers[0]) } else { (1.0, "") };
    let [a, b, c] = numbers.map(|number| three_digits(number / scale));
    if encryptions { format!("{a}/{b}/{c} {unit}") } else { format!("{a}/{b}/{c}") }
}

/// A rate in e/s with its unit.
pub fn scaled(rate: f64) -> String {
    let (scale, unit) = unit(rate);
    format!("{} {unit}", three_digits(rate / scale))
}

/// A number in three or four digits, with a letter for its thousands.
pub fn short(number: f64) -> String {
    match number {
        n if n < 1e4 => three_digits(n),
        n if n < 1e7 => format!("{} K", three_digits(n / 1e3)),
        n if n < 1e10 => format!("{} M", three_digits(n / 1e6)),
        n => format!("{} G", three_digits(n / 1e9)),
    }
}

fn unit(rate: f64) -> (f64, &'static str) {
    match rate {
        r if r >= 1e10 => (1e9, "Ge/s"),
        r if r >= 1e7 => (1e6, "Me/s"),
        _ => (1e3, "Ke/s"),
    }
}

/// A number with three digits, or as many more as it has before the point.
pub fn three_digits(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::snapshot::tests::{limited, reloaded, snapshot},
        upload::{Cause, Fate},
    };

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_status_line_fits_into_eighty_columns() {
        let account = Account { found: 2810, accepted: 2810, ..Account::default() };
        let line = plain(&super::status(&snapshot(vec![account.clone()])));
        assert_eq!(line, "36.1/35.9/350 Ke/s  282/280/2734 ann/s  2.31 Mb/s  2810/0/0/0/0/0 good 100.0%\n");
        assert!(line.len() <= 80);
    }

    #[test]
    fn a_difficulty_that_is_not_the_pools_is_told_with_its_reason() {
        let line = plain(&super::status(&limited(vec![Account::default()])));
        assert!(line.ends_with(" good -  difficulty 128 (--max-upload, pool 16)\n"), "{line}");
        let lines = plain(&super::status(&limited(vec![Account::default(); 2])));
        assert!(lines.lines().next().is_some_and(|line| line.ends_with("pool 16)")), "{lines}");
    }

    #[test]
    fn each_pool_has_its_counts_where_there_are_several() {
        let account = |pool: &str| Account { pool: pool.into(), found: 9, accepted: 9, ..Account::default() };
        let lines = plain(&super::status(&snapshot(vec![account("http://a/"), account("http://b/")])));
        assert_eq!(lines.lines().count(), 3);
        assert!(lines.contains("  http://b/  9/0/0/0/0/0 good 100.0%"));
    }

    #[test]
    fn a_pool_that_was_taken_away_has_its_counts_in_the_totals_alone_once_nothing_waits_for_it() {
        let account = |pool: &str| Account { pool: pool.into(), found: 9, accepted: 9, ..Account::default() };
        let mut snapshot = reloaded(vec![account("http://a/"), account("http://b/")]);
        let line = plain(&super::status(&snapshot));
        assert!(line.lines().count() == 1 && line.ends_with("  9/0/0/0/0/0 good 100.0%\n"), "{line}");
        assert!(plain(&super::totals(&snapshot)).contains("http://b/\n  found 9 = accepted 9"));
        snapshot.ledger.pools[1].queued = 1;
        assert!(plain(&super::status(&snapshot)).contains("  http://b/  9/0/0/0/0/0 good"));
    }

    #[test]
    fn totals_name_every_loss_with_its_cause() {
        let causes = [((Fate::Stale, Cause::ParentTooOld), 10)].into();
        let account =
            Account { found: 2810, accepted: 2799, stale: 10, queued: 1, causes, ..Account::default() };
        let done = Snapshot { phase: Phase::Done, ..snapshot(vec![account.clone()]) };
        let totals = plain(&super::totals(&done));
        assert!(totals.contains("found 2810 = accepted 2799 + stale 10 + queued 1"), "{totals}");
        assert!(totals.contains("stale 10: parent block too old"), "{totals}");
        assert!(totals.contains("left behind 1"), "{totals}");
        assert!(totals.contains("goodrate 99.6%"), "{totals}");
    }

    #[test]
    fn rates_are_told_in_thousands_at_least() {
        let shown = [0.0, 999.0, 36_123.0, 9_999_000.0, 12_340_000.0, 5e10].map(scaled);
        assert_eq!(shown, ["0.00 Ke/s", "1.00 Ke/s", "36.1 Ke/s", "9999 Ke/s", "12.3 Me/s", "50.0 Ge/s"]);
    }
}
