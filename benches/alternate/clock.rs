//! The clock that slots are timed by.

/// Processor time of the calling thread.
#[cfg(unix)]
pub struct Clock(f64);

#[cfg(unix)]
impl Clock {
    pub fn start() -> Self {
        Self(thread_seconds())
    }

    pub fn seconds(&self) -> f64 {
        thread_seconds() - self.0
    }
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "the standard library does not read this clock")]
fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is room for a timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the thread has a clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Time that passes.
#[cfg(not(unix))]
pub struct Clock(std::time::Instant);

#[cfg(not(unix))]
impl Clock {
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
