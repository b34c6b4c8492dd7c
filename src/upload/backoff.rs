//! How long a handler that is in trouble is left alone.

use std::time::Duration;

use crate::values::Moment;

/// Waits that double from one failure to the next, each shortened by chance so that miners that failed
/// together do not come back together.
#[derive(Clone, Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
    until: Moment,
}

impl BackOff {
    /// Something failed: wait from now on for between half of `min · 2^failures` and the whole of it, the
    /// whole being at most `max`.
    pub fn fail(&mut self, now: Moment, min: Duration, max: Duration, rng: &mut fastrand::Rng) {
        let whole = min.saturating_mul(1 << self.failures.min(20)).min(max);
        self.until = now + whole.mul_f64(0.5 + 0.5 * rng.f64());
        self.failures = self.failures.saturating_add(1);
    }

    /// Something went well: no more waiting.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// When to try again; `None` while all is well.
    pub fn until(&self) -> Option<Moment> {
        (self.failures > 0).then_some(self.until)
    }

    /// Waits no longer than until `moment`.
    pub fn cut_short(&mut self, moment: Moment) {
        self.until = self.until.min(moment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_success() {
        let (min, max) = (Duration::from_millis(250), Duration::from_secs(30));
        let mut rng = fastrand::Rng::with_seed(1);
        let mut back_off = BackOff::default();
        assert_eq!(back_off.until(), None);
        let now = Duration::from_secs(100);
        for whole in [0.25, 0.5, 1., 2., 4., 8., 16., 30., 30., 30.] {
            back_off.fail(now, min, max, &mut rng);
            let wait = (back_off.until().expect("it failed") - now).as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&wait), "{wait} s of {whole} s");
        }
        (0..100).for_each(|_| back_off.fail(now, min, max, &mut rng));
        back_off.reset();
        assert_eq!(back_off.until(), None);
    }

    #[test]
    fn two_miners_do_not_wait_alike() {
        let wait = |seed| {
            let mut back_off = BackOff::default();
            let mut rng = fastrand::Rng::with_seed(seed);
            back_off.fail(Moment::ZERO, Duration::from_secs(1), Duration::from_secs(30), &mut rng);
            back_off.until()
        };
        assert_ne!(wait(1), wait(2));
    }
}
