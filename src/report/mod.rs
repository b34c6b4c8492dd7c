//! Counters → status lines and totals, for people or for machines.

mod json;
mod output;
mod rates;
mod table;
mod text;

use std::time::Duration;

pub use output::{Output, OutputError, PATIENCE};
pub use rates::{Rate, Rates, Sample, WINDOWS};
pub use table::Table;
pub use text::{scaled, three_digits};

use crate::{
    backend::Counters,
    upload::Ledger,
    values::{Job, Moment},
};

/// What status lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What the miner is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It mines, or waits for work.
    Mining,
    /// It has stopped mining and hands in what it has.
    Draining,
    /// It is done.
    Done,
}

/// The miner's state at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// When: since the miner started.
    pub now: Moment,
    /// What it is about.
    pub phase: Phase,
    /// What is mined.
    pub job: Option<Job>,
    /// Each backend's name and counters.
    pub backends: Vec<(String, Counters)>,
    /// Where every announcement is.
    pub ledger: Ledger,
    /// Rates over [`WINDOWS`].
    pub rates: [Rate; 3],
    /// For how long there was something to mine so far, without the time in which the last is handed in.
    pub mined: Duration,
    /// The highest rate over the shortest window, in e/s.
    pub highest: f64,
    /// The sum of the difficulties of all announcements found.
    pub work: f64,
}

/// Keeps rates and writes them down.
pub struct Reporter {
    format: Option<Format>,
    rates: Rates,
    work: f64,
}

impl Reporter {
    /// A reporter that measures from `now` on. Without a format it writes nothing.
    pub fn new(format: Option<Format>, now: Moment) -> Self {
        Self { format, rates: Rates::new(now), work: 0.0 }
    }

    /// Takes note of announcements found for a job.
    pub fn found(&mut self, announcements: usize, job: &Job) {
        self.work += announcements as f64 * job.work_bits.difficulty_f64();
    }

    /// Takes note of the counters; to be called every second or so.
    pub fn sample(&mut self, status: &Status) {
        self.rates.push(
            status.now,
            Sample {
                found: status.ledger.found_by.iter().sum(),
                work: self.work,
                hashes: status.backends.iter().map(|(_, counters)| counters.hashes).sum(),
                uploaded: status.ledger.pools.iter().map(|pool| pool.bytes_uploaded).sum(),
            },
        );
    }

    /// Says in the log what a status line's columns are.
    pub fn write_legend(&self) {
        if self.format == Some(Format::Text) {
            tracing::info!("{}", text::LEGEND);
        }
    }

    /// The state that a status line tells, from what the miner knows of itself.
    pub fn status(
        &self,
        now: Moment,
        mined: Duration,
        phase: Phase,
        job: Option<&Job>,
        backends: Vec<(String, Counters)>,
        ledger: Ledger,
    ) -> Status {
        Status {
            now,
            mined,
            phase,
            job: job.cloned(),
            backends,
            ledger,
            rates: WINDOWS.map(|window| self.rates.over(window)),
            highest: self.rates.highest(),
            work: self.work,
        }
    }

    /// Brings a state's rates up to the newest sample.
    pub fn refresh(&self, status: &mut Status) {
        status.rates = WINDOWS.map(|window| self.rates.over(window));
        status.highest = self.rates.highest();
    }

    /// A status line, or several; nothing without a format.
    pub fn status_text(&self, status: &Status) -> Option<String> {
        Some(match self.format? {
            Format::Text => text::status(status),
            Format::Json => json::status(status),
        })
    }

    /// The totals, for after mining has ended; nothing without a format.
    pub fn totals_text(&self, status: &Status) -> Option<String> {
        Some(match self.format? {
            Format::Text => text::totals(status),
            Format::Json => json::totals(status),
        })
    }
}

/// Seconds with as many digits as matter.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
