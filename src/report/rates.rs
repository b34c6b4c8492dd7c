//! Rates over sliding windows.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use super::RateRow;
use crate::values::Moment;

/// The windows that miners compare rates over.
pub const WINDOWS: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(15 * 60)];

/// How far apart samples are kept.
const STEP: Duration = Duration::from_secs(1);

/// Running totals at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Announcements found.
    pub found: u64,
    /// The sum of their difficulties: "encryptions".
    pub work: f64,
    /// Soft nonces hashed.
    pub hashes: u64,
    /// Bytes of announcements handed in.
    pub uploaded: u64,
}

/// What happened each second, over one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Announcements' difficulty a second.
    pub e_per_s: f64,
    /// Announcements a second.
    pub anns_per_s: f64,
    /// Soft nonces hashed a second.
    pub hashes_per_s: f64,
    /// Megabits uploaded a second, counting announcements alone.
    pub upload_mbit_per_s: f64,
}

/// Remembers running totals for as long as the longest window.
#[derive(Debug)]
pub struct Rates {
    samples: VecDeque<(Moment, Sample)>,
    /// The highest rate over the shortest window, in e/s; zero before there is a whole one.
    highest: f64,
}

impl Rates {
    /// Starts measuring at `now`, from totals of zero.
    pub fn new(now: Moment) -> Self {
        Self { samples: VecDeque::from([(now, Sample::default())]), highest: 0.0 }
    }

    /// Takes note of the totals at `now`.
    pub fn push(&mut self, now: Moment, sample: Sample) {
        // The newest sample moves along until it is a step away from the one before it.
        let steps = self.samples.len();
        if steps >= 2 && now - self.samples[steps - 2].0 < STEP {
            self.samples.pop_back();
        }
        self.samples.push_back((now, sample));
        let horizon = now.saturating_sub(WINDOWS[WINDOWS.len() - 1]);
        // One sample older than the longest window stays: that window begins at it.
        while self.samples.len() > 2 && self.samples[1].0 <= horizon {
            self.samples.pop_front();
        }
        if now.saturating_sub(self.samples[0].0) >= WINDOWS[0] {
            self.highest = self.highest.max(self.over(WINDOWS[0]).e_per_s);
        }
    }

    /// The rate over the newest `window`, or over all the time there was if that is shorter.
    pub fn over(&self, window: Duration) -> Rate {
        let Some((now, newest)) = self.samples.back() else { return Rate::default() };
        let begin = now.saturating_sub(window);
        // The last sample at or before the window's begin, or the oldest.
        let at = self.samples.partition_point(|(moment, _)| *moment <= begin).saturating_sub(1);
        let (then, old) = &self.samples[at];
        let seconds = (*now - *then).as_secs_f64();
        if seconds <= 0.0 {
            return Rate::default();
        }
        Rate {
            e_per_s: (newest.work - old.work) / seconds,
            anns_per_s: (newest.found - old.found) as f64 / seconds,
            hashes_per_s: (newest.hashes - old.hashes) as f64 / seconds,
            upload_mbit_per_s: (newest.uploaded - old.uploaded) as f64 * 8e-6 / seconds,
        }
    }

    /// The rates over all windows.
    pub fn row(&self) -> RateRow {
        let windows = WINDOWS.map(|window| self.over(window));
        // Before a whole window is over there is no highest rate but those that are shown.
        let highest = windows.iter().map(|rate| rate.e_per_s).fold(self.highest, f64::max);
        RateRow { windows, highest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64, found: u64) -> (Moment, Sample) {
        (Duration::from_secs_f64(seconds), Sample { found, work: found as f64 * 128.0, ..Sample::default() })
    }

    #[test]
    fn a_steady_rate_is_the_same_over_all_windows() {
        let mut rates = Rates::new(Duration::ZERO);
        for tenth in 1..=20_000_u32 {
            let (now, sample) = at(f64::from(tenth) / 10.0, u64::from(tenth) * 10);
            rates.push(now, sample);
        }
        for window in WINDOWS {
            assert!(
                (rates.over(window).anns_per_s - 100.0).abs() < 1.0,
                "{window:?}: {:?}",
                rates.over(window)
            );
        }
        assert!((rates.row().highest - 12_800.0).abs() < 128.0);
        assert!(rates.samples.len() < 1100, "{} samples kept", rates.samples.len());
    }

    #[test]
    fn a_short_window_forgets_what_a_long_one_remembers() {
        let mut rates = Rates::new(Duration::ZERO);
        for second in 1..=100_u32 {
            let (now, sample) = at(f64::from(second), u64::from(second.min(50)) * 10);
            rates.push(now, sample);
        }
        assert_eq!(rates.over(WINDOWS[0]).anns_per_s, 0.0);
        assert!((rates.over(WINDOWS[1]).anns_per_s - 100.0 / 60.0).abs() < 0.2);
        assert!((rates.over(WINDOWS[2]).anns_per_s - 5.0).abs() < 0.01);
    }

    #[test]
    fn a_young_miner_is_measured_over_its_life() {
        let mut rates = Rates::new(Duration::ZERO);
        let (now, sample) = at(2.0, 100);
        rates.push(now, sample);
        assert_eq!(rates.over(WINDOWS[2]).anns_per_s, 50.0);
    }
}
