//! Sharing the machine: low priority, chosen processors, and a part of each processor's time.

use std::time::{Duration, Instant};

/// How much of the machine is taken.
#[derive(Clone, Debug, Default)]
pub struct Share {
    /// How much less the threads matter than others, at least: 0 as much, 19 least. Who started the process with more has
    /// said so and is left it. Of effect on Linux alone.
    pub nice: u8,
    /// The processors that the threads may run on; empty: all. Of effect on Linux alone.
    pub processors: Vec<usize>,
    /// The part of a processor's time that each thread takes at most, in (0, 1]; `None`: all that it gets.
    pub max_cpu: Option<f64>,
}

/// The processors do not take what was asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the mining threads cannot be kept to processors {processors:?}: {reason}; choose others with --affinity"
)]
pub struct ShareError {
    processors: Vec<usize>,
    reason: String,
}

impl Share {
    /// Does something in a thread of this priority, on these processors. The threads that it starts are like it.
    ///
    /// # Errors
    /// If the system does not take the processors.
    pub fn apply<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, ShareError> {
        if self.nice == 0 && self.processors.is_empty() {
            return Ok(work());
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    #[cfg(target_os = "linux")]
    fn enter(&self) -> Result<(), ShareError> {
        use rustix::{
            process::{getpriority_process, setpriority_process},
            thread::{CpuSet, sched_setaffinity},
        };
        if !self.processors.is_empty() {
            let mut set = CpuSet::new();
            for &processor in self.processors.iter().filter(|processor| **processor < CpuSet::MAX_CPU) {
                set.set(processor);
            }
            sched_setaffinity(None, &set).map_err(|error| ShareError {
                processors: self.processors.clone(),
                reason: error.to_string(),
            })?;
        }
        // On Linux a thread's priority is its own.
        let now = getpriority_process(None).unwrap_or(0);
        if let Some(nice) = self.nicer_than(now)
            && let Err(error) = setpriority_process(None, nice)
        {
            tracing::warn!("the mining threads run at nice {now}, not at {nice}: {error}");
        }
        Ok(())
    }

    /// How nice a thread is to be that is `now` so nice; `None`: it is nice enough.
    #[cfg(target_os = "linux")]
    fn nicer_than(&self, now: i32) -> Option<i32> {
        let least = i32::from(self.nice);
        (least > 0 && now < least).then_some(least)
    }

    #[cfg(not(target_os = "linux"))]
    fn enter(&self) -> Result<(), ShareError> {
        tracing::warn!("priority and choice of processors are for Linux alone: the system decides both");
        Ok(())
    }
}

/// Keeps a thread to a part of a processor's time, by telling it when to sleep, and for how long.
///
/// What the thread may use comes in with time and goes out with use, both as measured: a sleep that takes too long, or time
/// that other processes took, is made good.
#[derive(Debug)]
pub struct Throttle {
    part: f64,
    /// Seconds that may be used at once. Negative: too much was used.
    credit: f64,
    /// Seconds on the clock and of the processor when it last looked.
    seen: (f64, f64),
}

/// What may be saved up, in seconds: what a thread did not use while it waited for others. Little, so that nobody notices
/// when it is used.
const CREDIT_MAX: f64 = 0.05;

/// Shorter sleeps are put off.
const SLEEP_MIN: f64 = 0.002;

impl Throttle {
    fn new(part: f64, seen: (f64, f64)) -> Self {
        Self { part, credit: 0.0, seen }
    }

    /// How long to sleep after so many seconds on the clock, `used` of which were the processor's.
    fn sleep(&mut self, clock: f64, used: f64) -> Option<Duration> {
        let earned = (clock - self.seen.0) * self.part;
        self.credit = (self.credit + earned - (used - self.seen.1)).min(CREDIT_MAX);
        self.seen = (clock, used);
        let seconds = -self.credit / self.part;
        (seconds >= SLEEP_MIN).then(|| Duration::from_secs_f64(seconds))
    }
}

/// A [`Throttle`] with the clocks of the thread that it is used by.
#[derive(Debug)]
pub struct ThreadThrottle {
    begun: Instant,
    throttle: Option<Throttle>,
    part: f64,
    /// Seconds that others have used in this thread's place.
    charged: f64,
    slept: f64,
}

impl ThreadThrottle {
    /// For a thread that may take so much of a processor.
    pub fn new(part: f64) -> Self {
        Self { begun: Instant::now(), throttle: None, part, charged: 0.0, slept: 0.0 }
    }

    /// Sleeps if it is time to. To be called every few milliseconds of work, by the same thread. `charged` are seconds that
    /// another thread has used in its place.
    pub fn pause(&mut self, charged: f64) {
        self.charged += charged;
        let clock = self.begun.elapsed().as_secs_f64();
        // Where it is not told, the thread is thought to have had a processor whenever it did not sleep.
        let used = thread_seconds().unwrap_or(clock - self.slept);
        let now = (clock, used + self.charged);
        let throttle = self.throttle.get_or_insert_with(|| Throttle::new(self.part, now));
        if let Some(time) = throttle.sleep(now.0, now.1) {
            std::thread::sleep(time);
            self.slept += self.begun.elapsed().as_secs_f64() - clock;
        }
    }
}

/// Seconds of a processor that this thread has used; `None`: the system does not tell.
pub fn thread_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        use rustix::time::{ClockId, clock_gettime};
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What part of the time a thread uses whose chunks take up to 2 ms, whose sleeps are too long, and which gets only
    /// `given` of a processor.
    fn used(part: f64, given: f64) -> f64 {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut clock, mut used) = (0.0, 0.0);
        let mut throttle = Throttle::new(part, (0.0, 0.0));
        while clock < 20.0 {
            let chunk = 0.002 * rng.f64();
            used += chunk;
            clock += chunk / given;
            if let Some(time) = throttle.sleep(clock, used) {
                clock += time.as_secs_f64() + 0.001 * rng.f64();
            }
        }
        used / clock
    }

    #[test]
    fn a_thread_uses_its_part_of_the_time_and_no_more() {
        for part in [0.05, 0.2, 0.5, 0.8, 0.95, 1.0] {
            let used = used(part, 1.0);
            assert!((used - part).abs() < 0.01, "{used} of {part}");
        }
    }

    #[test]
    fn what_others_take_of_the_processor_is_not_taken_off_once_more() {
        assert!((used(0.5, 0.6) - 0.5).abs() < 0.01);
        assert!((used(0.5, 0.3) - 0.3).abs() < 0.01, "all that there is, where it is less");
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let mut throttle = Throttle::new(0.5, (0.0, 0.0));
        assert_eq!(throttle.sleep(3600.0, 0.0), None);
        let slept = throttle.sleep(3601.0, 1.0).expect("it used too much");
        assert!((slept.as_secs_f64() - (1.0 - 2.0 * CREDIT_MAX)).abs() < 1e-6, "{slept:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_real_thread_is_kept_to_its_part() {
        let mut throttle = ThreadThrottle::new(0.25);
        let (begun, before) = (Instant::now(), thread_seconds().expect("Unix tells"));
        throttle.pause(0.0);
        let mut charged = 0.0;
        while begun.elapsed() < Duration::from_millis(800) {
            let chunk = thread_seconds().expect("Unix tells") + 0.001;
            while thread_seconds().expect("Unix tells") < chunk {}
            charged += 0.0005;
            throttle.pause(0.0005);
        }
        let used = thread_seconds().expect("Unix tells") - before + charged;
        let part = used / begun.elapsed().as_secs_f64();
        assert!(part < 0.26 && used > 0.02, "{part}: {used} s");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_that_are_started_inherit_priority_and_processors() {
        use rustix::{
            process::{getpriority_process, setpriority_process},
            thread::sched_getaffinity,
        };
        let one = super::super::processors()[0];
        let share = Share { nice: 7, processors: vec![one], max_cpu: None };
        let seen = share.apply(|| {
            let look =
                || (getpriority_process(None).ok(), sched_getaffinity(None).map(|set| set.count()).ok());
            std::thread::spawn(look).join().expect("no panic")
        });
        assert_eq!(seen.expect("it is there"), (Some(7), Some(1)));
        assert_ne!(getpriority_process(None), Ok(7), "nobody else");
        // Who started us is nicer than that already; priority is never raised, which needs a right that many do not have.
        let both = std::thread::spawn({
            let share = share.clone();
            move || {
                setpriority_process(None, 15).expect("anybody may be nicer");
                share.apply(|| getpriority_process(None)).expect("it is there")
            }
        });
        assert_eq!(both.join().expect("no panic"), Ok(15));
        assert_eq!(
            [-5, 0, 6, 7, 19].map(|now| share.nicer_than(now)),
            [Some(7), Some(7), Some(7), None, None]
        );
        assert_eq!(Share { nice: 0, ..share.clone() }.nicer_than(-5), None, "nothing is asked for");
        let nowhere = Share { processors: vec![1000], ..share };
        assert!(nowhere.apply(|| ()).expect_err("no such processor").to_string().contains("--affinity"));
    }
}
