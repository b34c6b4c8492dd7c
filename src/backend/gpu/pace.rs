//! How much of a kind of work goes into one submission, so that each takes about [`TARGET`].
//!
//! Shorter ones cost overhead, longer ones make a desktop jerk, hold a new job up, and in the end wake the driver's
//! watchdog (some 2 s). How fast a device is nobody tells; so the first submissions are small, and each finished one
//! corrects the next.

use std::time::Duration;

/// What a submission should take.
pub const TARGET: Duration = Duration::from_millis(100);

/// By how much a budget grows at once, at most, and by how much it shrinks.
const GROWTH: f64 = 4.0;
const SHRINKING: f64 = 16.0;

/// Kinds of work, each with its own unit of cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Making items; what their program costs, some 5e7 a table.
    Items,
    /// Merkle trees; trees.
    Trees,
    /// The search; soft nonces.
    Search,
}

/// The budgets of a device.
#[derive(Clone, Debug)]
pub struct Pace {
    budgets: [f64; 3],
}

impl Pace {
    /// First budgets, in the order of [`Kind`].
    pub fn new(first: [f64; 3]) -> Self {
        Self { budgets: first }
    }

    /// What a submission of this kind may cost.
    pub fn budget(&self, kind: Kind) -> f64 {
        self.budgets[kind as usize]
    }

    /// Takes note of what a submission took.
    pub fn finished(&mut self, kind: Kind, cost: f64, elapsed: Duration) {
        let budget = &mut self.budgets[kind as usize];
        // A small one says little: it does not fill the device.
        if cost < *budget / 2.0 && elapsed < TARGET {
            return;
        }
        let fitting = cost * TARGET.as_secs_f64() / elapsed.as_secs_f64().max(1e-6);
        *budget = fitting.clamp(*budget / SHRINKING, *budget * GROWTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_come_near_the_target_on_fast_devices_and_slow_ones() {
        for per_second in [2e2, 1e5, 1e9] {
            let mut pace = Pace::new([1.0, 1.0, 65536.0]);
            let mut elapsed = Duration::ZERO;
            for _ in 0..20 {
                let cost = pace.budget(Kind::Search);
                elapsed = Duration::from_secs_f64(cost / per_second);
                pace.finished(Kind::Search, cost, elapsed);
            }
            assert!(elapsed > TARGET / 2 && elapsed < TARGET * 2, "{per_second}/s: {elapsed:?}");
            assert_eq!(pace.budget(Kind::Trees), 1.0, "the others are as they were");
        }
    }

    #[test]
    fn a_small_submission_changes_nothing_unless_it_takes_too_long() {
        let mut pace = Pace::new([1.0, 16.0, 1.0]);
        pace.finished(Kind::Trees, 1.0, Duration::from_millis(90));
        assert_eq!(pace.budget(Kind::Trees), 16.0);
        pace.finished(Kind::Trees, 1.0, Duration::from_millis(200));
        assert_eq!(pace.budget(Kind::Trees), 1.0);
    }
}
