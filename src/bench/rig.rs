//! Backends at work on the fixed job, and the rounds that they are handed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use kernels::WorkBits;

use super::{BenchError, Setup, job};
use crate::{
    backend::{Backend, BackendEvent, Counters, Reach, Sink},
    values::{BackendId, Found, HardNonces, Job, Round},
};

/// Backends at work. Dropping it stops them and waits for their threads.
pub struct Rig {
    // Backends end before the channel that they write to.
    backends: Vec<Box<dyn Backend>>,
    /// Holds an event at most for each round handed in, besides what [`Keep`] lets pass of announcements.
    events: Receiver<BackendEvent>,
    job: Arc<Job>,
    next_round: u64,
    next_hard_nonce: u32,
    /// Rounds that each backend holds.
    held: Vec<BTreeSet<u64>>,
}

/// What becomes of announcements that were found, on the backends' threads: those that it gives back are passed on.
pub type Keep = Box<dyn Fn(Vec<Arc<Found>>) -> Vec<Arc<Found>> + Send + Sync>;

/// What a rig has to say.
pub enum Event {
    /// Announcements were found.
    Found(Vec<Arc<Found>>),
    /// A round has ended.
    Ended {
        /// Of which backend.
        backend: usize,
        /// Which one: they count from 0, and so do their hard nonces where each has one.
        round: u64,
    },
}

impl Rig {
    /// Starts the backends of a setup, without rounds.
    pub fn start(setup: &Setup, work_bits: WorkBits, keep: Keep) -> Result<Self, BenchError> {
        let (sender, events) = mpsc::channel();
        let sink: Sink = Arc::new(move |event| {
            let event = match event {
                BackendEvent::Found { backend, found_total, announcements } => {
                    let announcements = keep(announcements);
                    if announcements.is_empty() {
                        return;
                    }
                    BackendEvent::Found { backend, found_total, announcements }
                }
                other => other,
            };
            // Whoever measures has gone: nobody needs to know any more.
            let _ = sender.send(event);
        });
        let backends =
            (setup.start)(sink).map_err(|reason| BenchError::Start { what: setup.label(), reason })?;
        let held = vec![BTreeSet::new(); backends.len()];
        Ok(Self { backends, events, job: Arc::new(job(work_bits)), next_round: 0, next_hard_nonce: 0, held })
    }

    /// The backends.
    pub fn backends(&self) -> &[Box<dyn Backend>] {
        &self.backends
    }

    /// What each backend has done so far.
    pub fn counters(&self) -> Vec<Counters> {
        self.backends.iter().map(|backend| backend.counters()).collect()
    }

    /// Rounds handed in so far.
    pub fn handed_in(&self) -> u64 {
        self.next_round
    }

    /// Hands a backend its next rounds, each with as many hard nonces as it can make use of, or with just one.
    pub fn hand_in(&mut self, backend: usize, rounds: usize, one_nonce: bool) {
        let count = if one_nonce { 1 } else { self.backends[backend].info().candidates };
        let rounds = (0..rounds).map(|_| {
            let hard_nonces = HardNonces { first: self.next_hard_nonce, count };
            self.next_hard_nonce = self.next_hard_nonce.wrapping_add(count);
            self.next_round += 1;
            Round { id: self.next_round - 1, job: self.job.clone(), hard_nonces }
        });
        let rounds: Vec<_> = rounds.collect();
        self.held[backend].extend(rounds.iter().map(|round| round.id));
        self.backends[backend].start(rounds);
    }

    /// Takes back all rounds that the backends hold, and waits until they have let go of them. What is handed in next
    /// counts its hard nonces from `hard_nonce` on.
    ///
    /// # Errors
    /// If a backend has stopped.
    pub fn clear(&mut self, hard_nonce: u32) -> Result<(), BenchError> {
        for (backend, held) in self.backends.iter_mut().zip(&self.held) {
            backend.cancel(&held.iter().copied().collect::<Vec<_>>(), Reach::Running);
        }
        while self.held.iter().any(|held| !held.is_empty()) {
            self.wait(Duration::from_secs(1))?;
        }
        self.next_hard_nonce = hard_nonce;
        Ok(())
    }

    /// Waits for something to happen, for as long as `patience`.
    ///
    /// # Errors
    /// If a backend has stopped.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<Event>, BenchError> {
        let name = |id: BackendId| self.backends[id.0].info().name.clone();
        match self.events.recv_timeout(patience) {
            Ok(BackendEvent::Found { announcements, .. }) => Ok(Some(Event::Found(announcements))),
            Ok(BackendEvent::Ended { backend, round }) => {
                self.held[backend.0].remove(&round);
                Ok(Some(Event::Ended { backend: backend.0, round }))
            }
            Ok(BackendEvent::Failed { backend, error }) => {
                Err(BenchError::Backend { backend: name(backend), reason: error })
            }
            Err(_) => Ok(None),
        }
    }
}

/// One thread that mines well, but does something to one in some dozens of the announcements that it finds.
#[cfg(test)]
pub fn planted(harm: impl Fn(&mut Found) + Send + Sync + Copy + 'static) -> Setup {
    use std::{num::NonZero, rc::Rc};

    use crate::backend::cpu::{CpuBackend, Settings};

    let cpu = Settings { threads: NonZero::new(1), ..Settings::default() };
    let for_backend = cpu.clone();
    let start = move |sink: Sink| {
        let harmful: Sink = Arc::new(move |mut event| {
            if let BackendEvent::Found { announcements, .. } = &mut event {
                let mut found = (*announcements[0]).clone();
                harm(&mut found);
                announcements[0] = Arc::new(found);
            }
            sink(event);
        });
        let backend =
            CpuBackend::start(BackendId(0), for_backend.clone(), harmful).map_err(|e| e.to_string())?;
        Ok(vec![Box::new(backend) as Box<dyn Backend>])
    };
    Setup { start: Rc::new(start), ..Setup::cpu(cpu) }
}
