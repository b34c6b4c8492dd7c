//! A team: threads that work on the same rounds, and share their tables.
//!
//! A round's passes are cut into chunks of a fraction of a millisecond that any member can do. A team has more rounds
//! in work than one, so that members who find nothing to do in one of them (the last chunks of a pass, the top of the
//! tree) go on with another.

use std::sync::{Mutex, PoisonError};

use kernels::{Kernel, Passes};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use super::tuning::Tuning;

/// Threads that share rounds.
pub struct Team {
    threads: ThreadPool,
    /// What its kernel asks for.
    pub tuning: Tuning,
    /// Each member's kernel with its scratch memory.
    passes: Vec<Mutex<Box<dyn Passes>>>,
}

impl Team {
    /// Starts the threads, each on one of `processors` and no other if they are given.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(
        number: usize,
        members: usize,
        kernel: Kernel,
        processors: Option<Vec<core_affinity::CoreId>>,
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
        Ok(Self { threads, tuning: Tuning::of(kernel), passes })
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
                        }
                    });
                });
            }
        });
    }

    /// Does work with the kernel of the member that this runs on.
    fn with_passes(&self, work: impl FnOnce(&mut dyn Passes)) {
        let member = self.threads.current_thread_index().expect("only members do chunks");
        // Nobody else takes this member's passes, so this never waits.
        let mut passes = self.passes[member].lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut **passes);
    }
}
