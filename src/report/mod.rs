//! Counters → status lines and totals, for people or for machines.

mod json;
mod output;
mod rates;
pub(crate) mod snapshot;
mod table;
mod text;

use std::time::Duration;

pub use json::status_object;
pub use output::{Output, OutputError, PATIENCE};
pub use rates::{Rate, Rates, Sample, WINDOWS};
pub use snapshot::{
    BackendRow, COMPLAINTS_MAX, Complaint, JobRow, Phase, PoolRow, RateRow, Since, Snapshot, Watch,
};
pub use table::Table;
pub use text::{results, scaled, short, three_digits};

use crate::{
    backend::Counters,
    values::{BackendId, Job, Moment},
};

/// The log's target of status lines: a log file has them, stderr does not.
pub const STATUS_TARGET: &str = "pktmine::status";

/// What status lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Keeps rates and writes snapshots down.
pub struct Reporter {
    format: Option<Format>,
    rates: Rates,
    work: f64,
    backends: Vec<(f64, Rates)>,
    pools: Vec<Rates>,
}

impl Reporter {
    /// A reporter that measures from `now` on. Without a format it writes nothing.
    pub fn new(format: Option<Format>, backends: usize, pools: usize, now: Moment) -> Self {
        Self {
            format,
            rates: Rates::new(now),
            work: 0.0,
            backends: (0..backends).map(|_| (0.0, Rates::new(now))).collect(),
            pools: (0..pools).map(|_| Rates::new(now)).collect(),
        }
    }

    /// Takes note of announcements found for a job.
    pub fn found(&mut self, backend: BackendId, announcements: usize, job: &Job) {
        let work = announcements as f64 * job.work_bits.difficulty_f64();
        self.work += work;
        if let Some((sum, _)) = self.backends.get_mut(backend.0) {
            *sum += work;
        }
    }

    /// Takes note of the counters; to be called every second or so.
    pub fn sample(&mut self, snapshot: &Snapshot) {
        let now = snapshot.now;
        let uploads = snapshot.ledger.pools.iter().map(|pool| pool.bytes_uploaded);
        let sample = |counters: Counters, work, uploaded| Sample {
            found: counters.found,
            work,
            hashes: counters.hashes,
            uploaded,
        };
        self.rates.push(now, sample(snapshot.counters(), self.work, uploads.clone().sum()));
        for ((work, rates), backend) in self.backends.iter_mut().zip(&snapshot.backends) {
            rates.push(now, sample(backend.counters, *work, 0));
        }
        // A pool that came later uploaded nothing before.
        let pools = self.pools.len().max(snapshot.ledger.pools.len());
        self.pools.resize_with(pools, || Rates::new(now));
        for (rates, uploaded) in self.pools.iter_mut().zip(uploads) {
            rates.push(now, sample(Counters::default(), 0.0, uploaded));
        }
    }

    /// Fills in a snapshot's work, and its rates as of the newest sample.
    pub fn fill(&self, snapshot: &mut Snapshot) {
        snapshot.work = self.work;
        snapshot.rates = self.rates.row();
        for (backend, (work, rates)) in snapshot.backends.iter_mut().zip(&self.backends) {
            (backend.work, backend.rates) = (*work, rates.row());
        }
        for (pool, rates) in snapshot.pools.iter_mut().zip(&self.pools) {
            pool.upload_mbit_per_s = rates.row().windows.map(|rate| rate.upload_mbit_per_s);
        }
    }

    /// Says in the log what a status line's columns are.
    pub fn write_legend(&self) {
        if self.format == Some(Format::Text) {
            tracing::info!("{}", text::LEGEND);
        }
    }

    /// Says the rates in the log, for those who keep it in a file.
    pub fn log(&self, snapshot: &Snapshot) {
        if self.format.is_some() {
            log_lines(&text::status(snapshot));
        }
    }

    /// Says the totals in the log, for the same.
    pub fn log_totals(&self, snapshot: &Snapshot) {
        if self.format.is_some() {
            log_lines(&text::totals(snapshot));
        }
    }

    /// A status line, or several; nothing without a format.
    pub fn status_text(&self, snapshot: &Snapshot) -> Option<String> {
        Some(match self.format? {
            Format::Text => text::status(snapshot),
            Format::Json => json::status(snapshot),
        })
    }

    /// The totals, for after mining has ended; nothing without a format.
    pub fn totals_text(&self, snapshot: &Snapshot) -> Option<String> {
        Some(match self.format? {
            Format::Text => text::totals(snapshot),
            Format::Json => json::totals(snapshot),
        })
    }
}

fn log_lines(text: &str) {
    for line in text.lines().filter(|line| !line.is_empty()) {
        tracing::info!(target: STATUS_TARGET, "{}", anstream::adapter::strip_str(line));
    }
}

/// Seconds with as many digits as matter.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
