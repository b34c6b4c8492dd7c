//! The clocks that slots are timed by.

/// Processor time.
#[cfg(unix)]
pub struct Clock {
    id: libc::clockid_t,
    started: f64,
}

#[cfg(unix)]
impl Clock {
    /// Of the calling thread.
    pub fn of_thread() -> Self {
        Self::start(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    /// Of all threads.
    pub fn of_process() -> Self {
        Self::start(libc::CLOCK_PROCESS_CPUTIME_ID)
    }

    fn start(id: libc::clockid_t) -> Self {
        Self { id, started: processor_seconds(id) }
    }

    pub fn seconds(&self) -> f64 {
        processor_seconds(self.id) - self.started
    }
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "the standard library does not read these clocks")]
fn processor_seconds(id: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is room for a timespec.
    let result = unsafe { libc::clock_gettime(id, &mut time) };
    assert_eq!(result, 0, "threads and processes have a clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Time that passes.
#[cfg(not(unix))]
pub struct Clock(std::time::Instant);

#[cfg(not(unix))]
impl Clock {
    pub fn of_thread() -> Self {
        Self(std::time::Instant::now())
    }

    pub fn of_process() -> Self {
        Self::of_thread()
    }

    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
