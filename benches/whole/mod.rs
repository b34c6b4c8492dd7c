//! The CPU backend as the program runs it: handed rounds, with threads of its own.

use std::num::NonZero;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use kernels::{Kernel, WorkBits};
use pktmine::backend::cpu::{CpuBackend, Settings};
use pktmine::backend::{Backend, BackendEvent, Counters, Reach};
use pktmine::protocol::BlockHash;
use pktmine::values::{BackendId, HardNonces, Job, Round};

use crate::alternate::Clock;

/// A backend, and what it says.
pub struct Whole {
    backend: CpuBackend,
    events: mpsc::Receiver<BackendEvent>,
    next_round: u64,
    held: Vec<u64>,
}

/// What a stretch of mining came to.
#[derive(Clone, Copy)]
pub struct Stretch {
    /// Seconds that passed.
    pub elapsed: f64,
    /// Seconds of processor time of the whole process.
    pub processor: f64,
    /// Soft nonces hashed.
    pub hashes: u64,
    /// Announcements found.
    pub found: u64,
}

impl Whole {
    pub fn start(kernel: Kernel, threads: usize) -> Self {
        let (sender, events) = mpsc::channel();
        // The receiver is gone once nobody is interested any more.
        let sink = Arc::new(move |event| drop(sender.send(event)));
        let settings =
            Settings { threads: NonZero::new(threads), kernel: Some(kernel), ..Settings::default() };
        let backend = CpuBackend::start(BackendId(0), settings, sink).expect("the kernel is right");
        Self { backend, events, next_round: 0, held: Vec::new() }
    }

    /// Mines some rounds to their end, each of them another.
    pub fn mine(&mut self, work_bits: WorkBits, rounds: usize) -> Stretch {
        self.timed(|whole| {
            whole.supply(work_bits, rounds);
            while !whole.held.is_empty() {
                whole.wait();
            }
        })
    }

    /// Mines for some time, always supplied with rounds, after a second that does not count.
    pub fn mine_for(&mut self, work_bits: WorkBits, time: Duration) -> Stretch {
        self.go_on_for(work_bits, Duration::from_secs(1));
        let stretch = self.timed(|whole| whole.go_on_for(work_bits, time));
        self.cancel();
        stretch
    }

    /// Has all threads mine for a while, then cancels all rounds: seconds until the last of them ended.
    pub fn cancel_after(&mut self, work_bits: WorkBits, time: Duration) -> f64 {
        self.go_on_for(work_bits, time);
        let asked = Instant::now();
        self.cancel();
        asked.elapsed().as_secs_f64()
    }

    fn timed(&mut self, work: impl FnOnce(&mut Self)) -> Stretch {
        let before: Counters = self.backend.counters();
        let (started, clock) = (Instant::now(), Clock::of_process());
        work(self);
        let (elapsed, processor) = (started.elapsed().as_secs_f64(), clock.seconds());
        let after = self.backend.counters();
        Stretch {
            elapsed,
            processor,
            hashes: after.hashes - before.hashes,
            found: after.found - before.found,
        }
    }

    fn go_on_for(&mut self, work_bits: WorkBits, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let wanted = self.backend.info().capacity;
            self.supply(work_bits, wanted.saturating_sub(self.held.len()));
            if let Ok(event) = self.events.recv_timeout(left) {
                self.note(&event);
            }
        }
    }

    fn supply(&mut self, work_bits: WorkBits, rounds: usize) {
        let job = Arc::new(Job {
            id: 1,
            parent_hash: BlockHash(super::PARENT_HASH),
            parent_height: 100_000,
            work_bits,
            signing_key: [0; 32],
        });
        let count = self.backend.info().candidates;
        let rounds: Vec<Round> = (self.next_round..)
            .take(rounds)
            .map(|id| Round {
                id,
                job: job.clone(),
                hard_nonces: HardNonces { first: (id as u32).wrapping_mul(count), count },
            })
            .collect();
        self.next_round += rounds.len() as u64;
        self.held.extend(rounds.iter().map(|round| round.id));
        self.backend.start(rounds);
    }

    fn cancel(&mut self) {
        self.backend.cancel(&self.held, Reach::Running);
        while !self.held.is_empty() {
            self.wait();
        }
    }

    fn wait(&mut self) {
        let event = self.events.recv().expect("the backend is there");
        self.note(&event);
    }

    fn note(&mut self, event: &BackendEvent) {
        match event {
            BackendEvent::Ended { round, .. } => self.held.retain(|held| held != round),
            BackendEvent::Found { .. } => {}
            BackendEvent::Failed { error, .. } => panic!("{error}"),
        }
    }
}
