//! Which part of a run is measured.
//!
//! Warm-up lasts until every backend has ended the rounds that it was handed first; the measured time goes from there to
//! the first round that ends after the time asked for. With one team of threads it holds whole rounds exactly; with
//! several, each other team is somewhere in a round at either end, as often early as late.
//!
//! Rounds of high difficulty are long. Where the first have not ended after half of the time asked for, nothing is left out:
//! the measured time begins where the rounds did, so that their tables are part of it. And it ends after twice the time
//! asked for at the latest; then the last rounds are cut short, and as tables come first in a round the rate is told a
//! little too low: by as much as tables take of a round at most, which is little where rounds are long.

use std::time::Duration;

use crate::values::Moment;

/// Something that is read at both ends of the measured time.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<T> {
    /// When.
    pub at: Moment,
    /// What was read.
    pub value: T,
}

/// Watches rounds end, and says what to measure. It is told the time.
#[derive(Debug)]
pub struct Window<T> {
    duration: Duration,
    start: Option<Reading<T>>,
    /// Rounds that each backend has still to end before it is warm.
    cold: Vec<usize>,
    whole: bool,
    first: Option<Reading<T>>,
    last: Option<Reading<T>>,
}

/// The measured part of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured<T> {
    /// Where it begins.
    pub first: Reading<T>,
    /// Where it ends.
    pub last: Reading<T>,
    /// Whether it begins and ends where rounds do.
    pub whole_rounds: bool,
}

impl<T> Window<T> {
    /// A window of about `duration`, of backends that are handed so many rounds each at the time of `start`.
    pub fn new(start: Reading<T>, duration: Duration, rounds: Vec<usize>) -> Self {
        Self { duration, start: Some(start), cold: rounds, whole: true, first: None, last: None }
    }

    /// A round of a backend has ended; `read` reads what is to be measured.
    pub fn round_ended(&mut self, now: Moment, backend: usize, read: impl FnOnce() -> T) {
        if let Some(first) = &self.first {
            if self.last.is_none() && now >= first.at + self.duration {
                self.last = Some(Reading { at: now, value: read() });
            }
            return;
        }
        self.cold[backend] = self.cold[backend].saturating_sub(1);
        if self.cold.iter().all(|rounds| *rounds == 0) {
            self.first = Some(Reading { at: now, value: read() });
        }
    }

    /// Time goes by; to be called several times a second. Rounds are cut short only where there is `something_to_tell`:
    /// without that it goes on for as long as it takes.
    pub fn time_passes(&mut self, now: Moment, something_to_tell: bool, read: impl FnOnce() -> T) {
        if self.first.is_none()
            && self.start.as_ref().is_some_and(|start| now >= start.at + self.duration / 2)
        {
            self.first = self.start.take();
        }
        let late = |first: &Reading<T>| now >= first.at + self.duration * 2;
        if something_to_tell && self.last.is_none() && self.first.as_ref().is_some_and(late) {
            self.stop(now, read);
        }
    }

    /// It ends here, with what there is.
    pub fn stop(&mut self, now: Moment, read: impl FnOnce() -> T) {
        self.start = None;
        if self.first.is_some() && self.last.is_none() {
            self.whole = false;
            self.last = Some(Reading { at: now, value: read() });
        }
    }

    /// How much of it has gone by, 0 to 1; warm-up counts nothing.
    pub fn fraction(&self, now: Moment) -> f64 {
        let measured = |first: &Reading<T>| (now - first.at).as_secs_f64() / self.duration.as_secs_f64();
        self.first.as_ref().map_or(0.0, measured).min(1.0)
    }

    /// Where the measured time begins, once it has.
    pub fn first(&self) -> Option<&Reading<T>> {
        self.first.as_ref()
    }

    /// Whether all is measured.
    pub fn is_over(&self) -> bool {
        self.last.is_some()
    }

    /// What is to be measured; `None` if it was stopped while warming up.
    pub fn into_measured(self) -> Option<Measured<T>> {
        Some(Measured { first: self.first?, last: self.last?, whole_rounds: self.whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A window of 10 s over two backends that hold two rounds and one; what is read is the time in milliseconds.
    fn window() -> Window<u128> {
        Window::new(Reading { at: SECOND, value: 1000 }, 10 * SECOND, vec![2, 1])
    }

    fn round_ended(window: &mut Window<u128>, milliseconds: u64, backend: usize) {
        let now = Duration::from_millis(milliseconds);
        window.round_ended(now, backend, || now.as_millis());
    }

    fn time_passes(window: &mut Window<u128>, milliseconds: u64) {
        let now = Duration::from_millis(milliseconds);
        window.time_passes(now, true, || now.as_millis());
    }

    #[test]
    fn it_goes_from_the_end_of_the_first_rounds_of_all_to_the_first_end_after_the_time() {
        let mut window = window();
        for (time, backend) in [(1100, 0), (1200, 0), (1300, 0)] {
            round_ended(&mut window, time, backend);
            time_passes(&mut window, time + 50);
            assert!(window.first().is_none(), "backend 1 is cold");
        }
        round_ended(&mut window, 1400, 1);
        assert_eq!(window.fraction(Duration::from_millis(6400)), 0.5);
        for time in [1500, 6000, 11_399] {
            round_ended(&mut window, time, 0);
            time_passes(&mut window, time);
            assert!(!window.is_over());
        }
        time_passes(&mut window, 11_450);
        round_ended(&mut window, 11_500, 1);
        round_ended(&mut window, 11_600, 1);
        let measured = window.into_measured().expect("it is over");
        assert_eq!((measured.first.value, measured.last.value), (1400, 11_500));
        assert_eq!(measured.last.at, Duration::from_millis(11_500));
        assert!(measured.whole_rounds);
    }

    #[test]
    fn long_rounds_are_measured_from_their_beginning() {
        let mut window = window();
        time_passes(&mut window, 5900);
        assert!(window.first().is_none());
        time_passes(&mut window, 6000);
        assert_eq!(window.first().map(|first| first.value), Some(1000));
        assert_eq!(window.fraction(Duration::from_secs(6)), 0.5);
        round_ended(&mut window, 9000, 0);
        time_passes(&mut window, 14_000);
        assert!(!window.is_over());
        round_ended(&mut window, 17_000, 0);
        let measured = window.into_measured().expect("it is over");
        assert_eq!((measured.first.value, measured.last.value), (1000, 17_000));
        assert!(measured.whole_rounds);
    }

    #[test]
    fn rounds_that_do_not_end_are_cut_and_it_is_said() {
        let mut window = window();
        for time in [6000, 20_900] {
            time_passes(&mut window, time);
        }
        assert!(!window.is_over());
        assert_eq!(window.fraction(Duration::from_secs(30)), 1.0);
        window.time_passes(Duration::from_millis(20_950), false, || 0);
        window.time_passes(Duration::from_millis(21_000), false, || 0);
        assert!(!window.is_over(), "there is nothing to tell yet");
        time_passes(&mut window, 21_000);
        let measured = window.into_measured().expect("it is over");
        assert_eq!((measured.first.value, measured.last.value), (1000, 21_000));
        assert!(!measured.whole_rounds);
    }

    #[test]
    fn one_that_is_stopped_has_what_was_measured_until_then() {
        let mut cold = window();
        cold.stop(2 * SECOND, || 0);
        assert_eq!(cold.into_measured(), None);

        let mut warm = window();
        time_passes(&mut warm, 6000);
        warm.stop(8 * SECOND, || 8000);
        assert_eq!(warm.into_measured().expect("something").last.at, 8 * SECOND);
    }
}
