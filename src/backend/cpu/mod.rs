//! The CPU backend: every thread mines rounds of its own.
//!
//! A thread's memory is one table (8 MiB), one Merkle tree (1 MiB) and what its kernel needs as scratch. Rounds
//! wait in one queue, of which free threads take the oldest. Work is done in chunks of a millisecond or two,
//! between which a thread looks whether its round was cancelled.

mod mine;

use std::{
    collections::VecDeque,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use kernels::Kernel;

use self::mine::{Miner, Progress};
use super::{Backend, BackendEvent, BackendInfo, Counters, Reach, Sink, self_test};
use crate::values::{BackendId, Found, Round};

/// What the user can say of the CPU backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Threads that mine; `None`: as many as the machine has processors.
    pub threads: Option<NonZero<usize>>,
}

/// The CPU backend cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it computes is wrong.
    #[error("the CPU's {kernel} kernel computes wrongly, so nothing is mined with it: {reason}")]
    SelfTest {
        /// The kernel.
        kernel: &'static str,
        /// What the self-test found.
        reason: String,
    },
    /// The system gives no more threads.
    #[error("cannot start mining thread {number}: {source}; use fewer with --threads")]
    Thread {
        /// Which thread, from 1.
        number: usize,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Mines on the machine's processors.
pub struct CpuBackend {
    info: BackendInfo,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share.
struct Shared {
    id: BackendId,
    sink: Sink,
    queue: Mutex<Queue>,
    work_or_end: Condvar,
    progress: Progress,
    /// Announcements found so far. Held while they are passed on, so that the counts arrive in order.
    found: Mutex<u64>,
    rounds: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Round>,
    running: Vec<(u64, Arc<AtomicBool>)>,
    closed: bool,
}

impl CpuBackend {
    /// Proves the kernel on a known round and starts the threads.
    ///
    /// # Errors
    /// If the kernel computes wrongly or the system gives no threads.
    pub fn start(id: BackendId, settings: Settings, sink: Sink) -> Result<Self, StartError> {
        let kernel = Kernel::detect();
        self_test::prove(kernel).map_err(|reason| StartError::SelfTest { kernel: kernel.name(), reason })?;
        let threads =
            settings.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
        let shared = Arc::new(Shared {
            id,
            sink,
            queue: Mutex::default(),
            work_or_end: Condvar::new(),
            progress: Progress::default(),
            found: Mutex::new(0),
            rounds: AtomicU64::new(0),
        });
        let mut backend = Self {
            info: BackendInfo {
                name: "cpu".into(),
                description: format!(
                    "{threads} thread{}, {} kernel",
                    if threads == 1 { "" } else { "s" },
                    kernel.name()
                ),
                capacity: threads,
                candidates: 1,
            },
            shared,
            threads: Vec::with_capacity(threads),
        };
        for number in 1..=threads {
            let shared = backend.shared.clone();
            let thread = thread::Builder::new()
                .name(format!("mine {number}"))
                .spawn(move || shared.work(kernel))
                .map_err(|source| StartError::Thread { number, source })?;
            backend.threads.push(thread);
        }
        Ok(backend)
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn start(&mut self, rounds: Vec<Round>) {
        self.shared.queue().waiting.extend(rounds);
        self.shared.work_or_end.notify_all();
    }

    fn cancel(&mut self, rounds: &[u64], reach: Reach) {
        let mut dropped = Vec::new();
        {
            let mut queue = self.shared.queue();
            queue.waiting.retain(|round| {
                let keep = !rounds.contains(&round.id);
                if !keep {
                    dropped.push(round.id);
                }
                keep
            });
            if reach == Reach::Running {
                for (_, cancelled) in queue.running.iter().filter(|(id, _)| rounds.contains(id)) {
                    cancelled.store(true, Ordering::Relaxed);
                }
            }
        }
        for round in dropped {
            (self.shared.sink)(BackendEvent::Ended { backend: self.shared.id, round });
        }
    }

    fn counters(&self) -> Counters {
        Counters {
            found: *lock(&self.shared.found),
            hashes: self.shared.progress.hashes.load(Ordering::Relaxed),
            items: self.shared.progress.items.load(Ordering::Relaxed),
            rounds: self.shared.rounds.load(Ordering::Relaxed),
        }
    }
}

impl Drop for CpuBackend {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.queue();
            queue.closed = true;
            for (_, cancelled) in &queue.running {
                cancelled.store(true, Ordering::Relaxed);
            }
        }
        self.shared.work_or_end.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// What a thread does all its life.
    fn work(&self, kernel: Kernel) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut miner = Miner::new(kernel);
            while let Some((round, cancelled)) = self.next_round() {
                let finished = miner.mine(&round, &cancelled, &self.progress, &mut |announcements| {
                    self.report(&round, announcements);
                });
                if finished {
                    self.rounds.fetch_add(1, Ordering::Relaxed);
                }
                self.queue().running.retain(|(id, _)| *id != round.id);
                (self.sink)(BackendEvent::Ended { backend: self.id, round: round.id });
            }
        }));
        if result.is_err() {
            self.queue().closed = true;
            self.work_or_end.notify_all();
            let error = "a mining thread panicked: this is a bug, please report it with the log above";
            (self.sink)(BackendEvent::Failed { backend: self.id, error: error.into() });
        }
    }

    /// Waits for a round; `None` when the backend ends.
    fn next_round(&self) -> Option<(Round, Arc<AtomicBool>)> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(round) = queue.waiting.pop_front() {
                let cancelled = Arc::new(AtomicBool::new(false));
                queue.running.push((round.id, cancelled.clone()));
                return Some((round, cancelled));
            }
            queue = self.work_or_end.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn report(&self, round: &Round, announcements: Vec<kernels::Announcement>) {
        let announcements: Vec<_> = announcements
            .into_iter()
            .map(|announcement| Arc::new(Found::new(announcement, round.job.clone(), self.id)))
            .collect();
        let mut found = lock(&self.found);
        *found += announcements.len() as u64;
        (self.sink)(BackendEvent::Found { backend: self.id, found_total: *found, announcements });
    }
}

/// The data behind these locks is whole at every moment, so a thread that panicked elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::mpsc,
        time::{Duration, Instant},
    };

    use kernels::{Validator, WorkBits};

    use super::*;
    use crate::{
        protocol::BlockHash,
        values::{HardNonces, Job},
    };

    fn backend(threads: usize) -> (CpuBackend, mpsc::Receiver<BackendEvent>) {
        let (sender, events) = mpsc::channel();
        let sink: Sink = Arc::new(move |event| {
            let _ = sender.send(event);
        });
        let settings = Settings { threads: NonZero::new(threads) };
        (CpuBackend::start(BackendId(3), settings, sink).expect("the backend starts"), events)
    }

    fn round(id: u64, difficulty: u64) -> Round {
        let job = Job {
            id: 1,
            parent_hash: BlockHash([5; 32]),
            parent_height: 77,
            work_bits: WorkBits::at_least(difficulty),
            signing_key: [0; 32],
        };
        Round { id, job: Arc::new(job), hard_nonces: HardNonces { first: 1000 + id as u32, count: 1 } }
    }

    #[test]
    fn rounds_end_with_valid_announcements_that_the_backend_has_counted() {
        let (mut backend, events) = backend(2);
        backend.start(vec![round(0, 2), round(1, 2)]);
        let (mut ended, mut found, mut last_total) = (0, Vec::new(), 0);
        while ended < 2 {
            match events.recv_timeout(Duration::from_secs(120)).expect("rounds end") {
                BackendEvent::Found { backend, found_total, announcements } => {
                    assert_eq!(backend, BackendId(3));
                    found.extend(announcements);
                    assert_eq!(found_total, found.len() as u64);
                    last_total = found_total;
                }
                BackendEvent::Ended { .. } => ended += 1,
                BackendEvent::Failed { error, .. } => panic!("{error}"),
            }
        }
        let counters = backend.counters();
        assert_eq!((counters.found, counters.rounds), (last_total, 2));
        assert_eq!((counters.hashes, counters.items), (2 * 1024, 4 * 8192));
        assert!((800..1300).contains(&found.len()), "{} announcements in two rounds", found.len());
        let mut validator = Validator::new();
        for one in found.iter().step_by(40) {
            assert_eq!(validator.validate(&one.announcement, &one.job.parent_hash.0), Ok(()));
        }
        let hashes: HashSet<_> = found.iter().map(|one| one.hash).collect();
        assert_eq!(hashes.len(), found.len());
    }

    #[test]
    fn cancelled_rounds_end_within_a_tenth_of_a_second_and_all_end() {
        let (mut backend, events) = backend(2);
        backend.start((0..5).map(|id| round(id, 1 << 30)).collect());
        std::thread::sleep(Duration::from_millis(300));
        backend.cancel(&[0, 1, 2, 3, 4, 99], Reach::Waiting);
        let waiting: HashSet<_> = (0..3).map(|_| ended(&events)).collect();
        assert_eq!(waiting, HashSet::from([2, 3, 4]), "those at work go on");
        let asked = Instant::now();
        backend.cancel(&[0, 1], Reach::Running);
        let running: HashSet<_> = (0..2).map(|_| ended(&events)).collect();
        assert_eq!(running, HashSet::from([0, 1]));
        assert!(asked.elapsed() < Duration::from_millis(100), "took {:?}", asked.elapsed());
    }

    #[test]
    fn dropping_the_backend_stops_its_threads() {
        let (mut backend, events) = backend(2);
        backend.start((0..4).map(|id| round(id, 1 << 30)).collect());
        std::thread::sleep(Duration::from_millis(50));
        drop(backend);
        while events.recv().is_ok() {}
    }

    fn ended(events: &mpsc::Receiver<BackendEvent>) -> u64 {
        loop {
            match events.recv_timeout(Duration::from_secs(60)).expect("rounds end") {
                BackendEvent::Ended { round, .. } => return round,
                BackendEvent::Found { .. } => {}
                BackendEvent::Failed { error, .. } => panic!("{error}"),
            }
        }
    }
}
