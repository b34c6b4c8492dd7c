//! A team: threads that work on the same rounds, and share their tables.
//!
//! A round's passes are cut into chunks of a fraction of a millisecond that any member can do. A team has more rounds
//! in work than one, so that members who find nothing to do in one of them (the last chunks of a pass, the top of the
//! tree) go on with another.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use kernels::{Kernel, Passes};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::{share::ThreadThrottle, tuning::Tuning};

/// Threads that share rounds.
pub struct Team {
    threads: ThreadPool,
    /// What its kernel asks for.
    pub tuning: Tuning,
    /// Each member's kernel with its scratch memory.
    passes: Vec<Mutex<Box<dyn Passes>>>,
    /// For each member, what keeps it to its part of a processor.
    throttles: Option<Vec<Mutex<ThreadThrottle>>>,
    /// Microseconds that others have used for the team, which its members make good.
    charged: AtomicU64,
}

impl Team {
    /// Starts the threads, each on one of `processors` and no other if they are given, and each taking no more than
    /// `max_cpu` of a processor's time.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(
        number: usize,
        members: usize,
        kernel: Kernel,
        processors: Option<Vec<core_affinity::CoreId>>,
        max_cpu: Option<f64>,
    ) -> Result<Self, ThreadPoolBuildError> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(members)
            .thread_name(move |member| format!("mine {}.{}", number + 1, member + 1))
            .start_handler(move |member| {
                if let Some(processor) = processors.as_ref().and_then(|list| list.get(member)) {
                    // Where it fails the thread runs wherever the system likes: slower at worst.
                    core_affinity::set_for_current(*processor);
                }
            })
            .build()?;
        let passes = (0..members).map(|_| Mutex::new(kernel.passes())).collect();
        let throttle = |part| (0..members).map(|_| Mutex::new(ThreadThrottle::new(part))).collect();
        let throttles = max_cpu.map(throttle);
        Ok(Self { threads, tuning: Tuning::of(kernel), passes, throttles, charged: AtomicU64::new(0) })
    }

    /// Does chunks of work on all members and waits for them, on a thread that is no member. A member that finds no chunk
    /// left goes on with what another caller wants done.
    pub fn each<C>(&self, chunks: impl Iterator<Item = C> + Send, work: impl Fn(&mut dyn Passes, C) + Sync) {
        let chunks = Mutex::new(chunks);
        let next = || chunks.lock().unwrap_or_else(PoisonError::into_inner).next();
        self.threads.in_place_scope(|scope| {
            for _ in &self.passes {
                scope.spawn(|_| {
                    self.with_passes(|passes| {
                        while let Some(chunk) = next() {
                            work(passes, chunk);
                            self.throttle();
                        }
                    });
                });
            }
        });
    }

    /// Has the member that this runs on sleep if it has taken more than its part.
    fn throttle(&self) {
        if let Some(throttles) = &self.throttles {
            let member = self.threads.current_thread_index().expect("only members do chunks");
            let charged = self.charged.swap(0, Ordering::Relaxed) as f64 * 1e-6;
            throttles[member].lock().unwrap_or_else(PoisonError::into_inner).pause(charged);
        }
    }

    /// Has the members make good what another thread has used for the team, in seconds of a processor.
    pub fn charge(&self, seconds: f64) {
        if self.throttles.is_some() {
            self.charged.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
        }
    }

    /// Does work with the kernel of the member that this runs on.
    fn with_passes(&self, work: impl FnOnce(&mut dyn Passes)) {
        let member = self.threads.current_thread_index().expect("only members do chunks");
        // Nobody else takes this member's passes, so this never waits.
        let mut passes = self.passes[member].lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut **passes);
    }
}
