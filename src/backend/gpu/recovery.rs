//! What to do when a device fails: a state machine that is told the time.
//!
//! A driver that was reset gives another device if it is asked again; one that is out of memory may take fewer rounds.
//! What computes wrongly or does not compile would do so again.

use std::{collections::VecDeque, time::Duration};

use super::context::GpuError;
use crate::values::Moment;

/// How long to wait before a device is opened again, the first time, the second and so on.
const WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30)];

/// Failures that lie further back than this are forgotten.
const MEMORY: Duration = Duration::from_secs(600);

/// Remembers a device's failures.
#[derive(Debug, Default)]
pub struct Recovery {
    failures: VecDeque<Moment>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Open it again.
    Reopen {
        /// When.
        at: Moment,
        /// With fewer rounds.
        smaller: bool,
    },
    /// Leave it.
    GiveUp,
}

impl Recovery {
    /// Takes note of a failure and says what to do.
    pub fn failed(&mut self, error: &GpuError, now: Moment) -> Verdict {
        while self.failures.front().is_some_and(|failure| *failure + MEMORY < now) {
            self.failures.pop_front();
        }
        let smaller = match error {
            // However often: a plan can be halved a few times only.
            GpuError::OutOfMemory { .. } => return Verdict::Reopen { at: now, smaller: true },
            GpuError::Lost { .. } | GpuError::Open { .. } => false,
            GpuError::Missing { .. }
            | GpuError::Shader { .. }
            | GpuError::Plan { .. }
            | GpuError::Refused { .. }
            | GpuError::Wrong { .. } => return Verdict::GiveUp,
        };
        let Some(wait) = WAITS.get(self.failures.len()) else { return Verdict::GiveUp };
        self.failures.push_back(now);
        Verdict::Reopen { at: now + *wait, smaller }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> GpuError {
        GpuError::Lost { adapter: "H200".into(), reason: "reset".into() }
    }

    #[test]
    fn a_lost_device_is_opened_again_a_few_times_later_and_later() {
        let (mut recovery, mut now) = (Recovery::default(), Moment::ZERO);
        for wait in WAITS {
            let at = now + wait;
            assert_eq!(recovery.failed(&lost(), now), Verdict::Reopen { at, smaller: false });
            now = at + Duration::from_secs(1);
        }
        assert_eq!(recovery.failed(&lost(), now), Verdict::GiveUp);
    }

    #[test]
    fn a_device_that_fails_once_in_a_while_is_never_given_up() {
        let mut recovery = Recovery::default();
        for hour in 0..100 {
            let now = Duration::from_secs(3600 * hour);
            let verdict = recovery.failed(&lost(), now);
            assert_eq!(verdict, Verdict::Reopen { at: now + WAITS[0], smaller: false });
        }
    }

    #[test]
    fn wrong_results_are_final_and_want_of_memory_means_fewer_rounds() {
        let (adapter, now) = (String::from("H200"), Duration::from_secs(7));
        let wrong = GpuError::Wrong { adapter: adapter.clone(), reason: "2 + 2 = 5".into() };
        assert_eq!(Recovery::default().failed(&wrong, now), Verdict::GiveUp);
        let full = GpuError::OutOfMemory { adapter, rounds: 128, reason: "full".into() };
        let smaller = Verdict::Reopen { at: now, smaller: true };
        assert_eq!(Recovery::default().failed(&full, now), smaller);
    }
}
