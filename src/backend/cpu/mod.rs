//! The CPU backend: teams of threads that share rounds.
//!
//! # Teams
//!
//! The search reads 8 MiB of table 2 at random, three items of 1 KiB a hash (the first of four is the same for all).
//! One round per thread is simplest and wastes nothing, and is what happens as long as the tables of all threads fit
//! into their last-level cache. On a processor with eight cores and 32 MiB they do not: most reads would go to memory.
//! There the threads of a cache are one team, which has only as many rounds in work as fit, two at least: members who
//! find nothing to do in one round (the last chunks of a pass, the top of the tree) go on with the other, so that a
//! round's tables are made while the one before is searched.
//!
//! | processors | last-level caches | teams | rounds in work | tables per cache |
//! |---|---|---|---|---|
//! | 2 | 1 × 32 MiB | 2 of 1 | 2 × 1 | 16 MiB |
//! | 16 | 2 × 32 MiB | 2 of 8 | 2 × 3 | 24 MiB |
//! | 128 | 16 × 32 MiB | 16 of 8 | 16 × 3 | 24 MiB |
//! | 64 | 1 × 96 MiB | 1 of 64 | 9 | 72 MiB |
//!
//! A table has 28 chunks of columns, which eight members do in four turns, the last of them half empty; the other round
//! fills the gap. Rounds wait in one queue, of which the driver that is free first takes the oldest.
//!
//! Memory: 9 MiB per round in work (table and tree; 2 MiB of states more at difficulties where table 2 is made on
//! demand), and what a kernel needs per thread, less than 2 MiB.
//!
//! Where there are several caches and a thread for every processor, each thread is bound to one: a thread that the system
//! moves to another cache would leave its tables behind. With fewer threads, or a single cache, the system places them.

mod about;
mod mine;
mod share;
mod team;
mod topology;
mod tuning;

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

use kernels::{Announcement, Kernel};

pub use self::{
    about::{About, CpuInfo},
    share::{Share, ShareError},
    topology::{CacheGroup, cache_bytes, parse_list, processors},
};
use self::{
    mine::{Memory, Progress},
    share::thread_seconds,
    team::Team,
};
use super::{Backend, BackendEvent, BackendInfo, Counters, Reach, Sink, choose::CANDIDATES};
use crate::self_test::{self, Choice, Wrong};
use crate::values::{BackendId, Found, Round};

/// What the user can say of the CPU backend.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Threads that mine; `None`: as many as the machine has processors.
    pub threads: Option<NonZero<usize>>,
    /// Threads that share rounds; `None`: what suits the caches, see the module's documentation.
    pub team: Option<NonZero<usize>>,
    /// The kernel; `None`: the fastest that the processor can run.
    pub kernel: Option<Kernel>,
    /// How much of the machine is taken.
    pub share: Share,
}

/// The CPU backend cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it computes is wrong.
    #[error(transparent)]
    SelfTest(#[from] Wrong),
    /// The processors chosen are not there.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The system gives no more threads.
    #[error("cannot start {threads} mining threads: {reason}; use fewer with --threads")]
    Threads {
        /// How many were to be started.
        threads: usize,
        /// What the system said.
        reason: String,
    },
}

/// Mines on the machine's processors.
pub struct CpuBackend {
    info: BackendInfo,
    settings: Settings,
    choice: Choice,
    shared: Arc<Shared>,
    staff: Staff,
    /// One for each round in work: it waits for a round and has its team mine it.
    drivers: Vec<JoinHandle<()>>,
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
    running: Vec<Running>,
    closed: bool,
}

/// A round at work.
struct Running {
    id: u64,
    cancelled: Arc<AtomicBool>,
    /// That of the driver that it is with.
    staff: Staff,
}

/// Drivers that were started together. They leave when this is set.
type Staff = Arc<AtomicBool>;

impl CpuBackend {
    /// Proves the kernel on a known round and starts the threads.
    ///
    /// # Errors
    /// If the kernel computes wrongly or the system gives no threads.
    pub fn start(id: BackendId, settings: Settings, sink: Sink) -> Result<Self, StartError> {
        let share = settings.share.clone();
        share.apply(|| Self::start_here(id, settings, sink))?
    }

    /// Starts threads that inherit the priority and the processors of this one.
    fn start_here(id: BackendId, settings: Settings, sink: Sink) -> Result<Self, StartError> {
        let choice = settings.kernel.map_or_else(self_test::fastest, self_test::asked_for)?;
        let shared = Arc::new(Shared {
            id,
            sink,
            queue: Mutex::default(),
            work_or_end: Condvar::new(),
            progress: Progress::default(),
            found: Mutex::new(0),
            rounds: AtomicU64::new(0),
        });
        let info = BackendInfo {
            name: "cpu".into(),
            description: String::new(),
            bus: None,
            capacity: 0,
            candidates: CANDIDATES,
        };
        let staff = Staff::default();
        let mut backend = Self { info, settings, choice, shared, staff: staff.clone(), drivers: Vec::new() };
        backend.employ(&staff)?;
        Ok(backend)
    }

    /// Starts the threads that the settings ask for.
    fn employ(&mut self, staff: &Staff) -> Result<(), StartError> {
        let (settings, kernel) = (self.settings.clone(), self.choice.kernel);
        let threads = settings.threads.or_else(|| thread::available_parallelism().ok());
        let threads = threads.map_or(1, NonZero::get);
        let caches = topology::cache_groups(&processors());
        let plan = plan(threads, settings.team.map(NonZero::get), &caches);
        let rounds: usize = plan.iter().map(|team| team.rounds).sum();
        let failed = |reason: String| StartError::Threads { threads, reason };
        let description = description(&self.choice, threads, plan.len());
        // A round for each team waits, so that no team ever does.
        let capacity = rounds + plan.len();
        for (number, TeamPlan { members, rounds, processors }) in plan.into_iter().enumerate() {
            let team = Team::new(number, members, kernel, processors, settings.share.max_cpu)
                .map_err(|e| failed(e.to_string()))?;
            let team = Arc::new(team);
            for driver in 0..rounds {
                let (shared, team, staff) = (self.shared.clone(), team.clone(), staff.clone());
                let thread = thread::Builder::new()
                    .name(format!("drive {}.{}", number + 1, driver + 1))
                    .spawn(move || shared.work(&team, &staff))
                    .map_err(|e| failed(e.to_string()))?;
                self.drivers.push(thread);
            }
        }
        (self.info.description, self.info.capacity) = (description, capacity);
        Ok(())
    }
}

/// What a round in work needs of a cache: table 2. The tree is only read by whoever finds something.
const ROUND_BYTES: usize = 8 << 20;

/// A team to be.
#[derive(Debug, PartialEq)]
struct TeamPlan {
    members: usize,
    /// Rounds in work.
    rounds: usize,
    processors: Option<Vec<core_affinity::CoreId>>,
}

/// Which teams there are to be, for so many threads on these caches.
fn plan(threads: usize, team: Option<usize>, groups: &[CacheGroup]) -> Vec<TeamPlan> {
    let processors: usize = groups.iter().map(|group| group.processors.len()).sum();
    if team.is_some() || processors < threads {
        // The user's own division, or more threads than processors: the system places them.
        let size = team.unwrap_or(1).min(threads);
        let members = (0..threads).step_by(size).map(|first| size.min(threads - first));
        return members
            .map(|members| TeamPlan { members, rounds: if members == 1 { 1 } else { 2 }, processors: None })
            .collect();
    }
    let mut plans = Vec::new();
    let mut left = threads;
    let bind = groups.len() > 1 && threads == processors;
    let mut processors = processors;
    for group in groups {
        // Fewer threads than processors are spread over the caches.
        let members = (left * group.processors.len()).div_ceil(processors);
        left -= members;
        processors -= group.processors.len();
        if members == 0 {
            continue;
        }
        let bound = group.processors.iter().take(members).map(|&id| core_affinity::CoreId { id });
        let bound: Option<Vec<_>> = bind.then(|| bound.collect());
        let fitting = group.bytes.map_or(2, fitting);
        if fitting >= members {
            plans.extend((0..members).map(|member| TeamPlan {
                members: 1,
                rounds: 1,
                processors: bound.as_ref().map(|bound| vec![bound[member]]),
            }));
        } else {
            plans.push(TeamPlan { members, rounds: fitting.max(2), processors: bound });
        }
    }
    plans
}

/// Whether so many threads on these caches are divided into teams of `team` threads without being told to.
pub fn is_usual_team(threads: usize, team: usize, caches: &[CacheGroup]) -> bool {
    plan(threads, Some(team), caches) == plan(threads, None, caches)
}

/// Rounds whose tables fit into these caches at a time; `None` where the system does not tell how large they are.
pub fn rounds_in_cache(caches: &[CacheGroup]) -> Option<usize> {
    caches.iter().map(|group| group.bytes.map(fitting)).sum()
}

/// Rounds whose tables fit into a cache: a quarter of it is left for everything else.
fn fitting(cache: usize) -> usize {
    cache / 4 * 3 / ROUND_BYTES
}

/// What runs, and why.
fn description(Choice { kernel, reason }: &Choice, threads: usize, teams: usize) -> String {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    format!(
        "{threads} thread{} in {teams} team{}, {kernel} kernel ({reason})",
        plural(threads),
        plural(teams)
    )
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
                for round in queue.running.iter().filter(|round| rounds.contains(&round.id)) {
                    round.cancelled.store(true, Ordering::Relaxed);
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
            steps: self.shared.progress.steps(),
        }
    }

    fn set_threads(&mut self, threads: Option<NonZero<usize>>) -> Option<Result<(), String>> {
        let (before, staff) = (self.settings.threads, Staff::default());
        self.settings.threads = threads;
        let share = self.settings.share.clone();
        let started = share.apply(|| self.employ(&staff)).map_err(StartError::from).flatten();
        if started.is_err() {
            self.settings.threads = before;
        }
        let leaving = if started.is_ok() { std::mem::replace(&mut self.staff, staff) } else { staff };
        {
            let queue = self.shared.queue();
            leaving.store(true, Ordering::Relaxed);
            for round in queue.running.iter().filter(|round| Arc::ptr_eq(&round.staff, &leaving)) {
                round.cancelled.store(true, Ordering::Relaxed);
            }
        }
        self.shared.work_or_end.notify_all();
        self.drivers.retain(|driver| !driver.is_finished());
        Some(started.map_err(|error| error.to_string()))
    }
}

impl Drop for CpuBackend {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.queue();
            queue.closed = true;
            for round in &queue.running {
                round.cancelled.store(true, Ordering::Relaxed);
            }
        }
        self.shared.work_or_end.notify_all();
        for thread in self.drivers.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// What a driver does all its life.
    fn work(&self, team: &Team, staff: &Staff) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut memory = Memory::default();
            while let Some((round, cancelled)) = self.next_round(staff) {
                let before = thread_seconds();
                let found = |announcements| self.report(&round, announcements);
                if mine::mine(team, &round, &mut memory, &cancelled, &self.progress, &found) {
                    self.rounds.fetch_add(1, Ordering::Relaxed);
                }
                // The choice of hard nonces is this thread's work.
                if let (Some(before), Some(after)) = (before, thread_seconds()) {
                    team.charge(after - before);
                }
                self.queue().running.retain(|running| running.id != round.id);
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

    /// Waits for a round; `None` when the backend ends, or the driver is to leave.
    fn next_round(&self, staff: &Staff) -> Option<(Round, Arc<AtomicBool>)> {
        let mut queue = self.queue();
        loop {
            if queue.closed || staff.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(round) = queue.waiting.pop_front() {
                let cancelled = Arc::new(AtomicBool::new(false));
                let running = Running { id: round.id, cancelled: cancelled.clone(), staff: staff.clone() };
                queue.running.push(running);
                return Some((round, cancelled));
            }
            queue = self.work_or_end.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn report(&self, round: &Round, announcements: Vec<Announcement>) {
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
        backend::Step,
        protocol::BlockHash,
        values::{HardNonces, Job},
    };

    fn backend(threads: usize) -> (CpuBackend, mpsc::Receiver<BackendEvent>) {
        let (sender, events) = mpsc::channel();
        let sink: Sink = Arc::new(move |event| {
            let _ = sender.send(event);
        });
        let settings = Settings { threads: NonZero::new(threads), ..Settings::default() };
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
        Round { id, job: Arc::new(job), hard_nonces: HardNonces { first: 1000 * id as u32, count: 20 } }
    }

    #[test]
    fn teams_suit_the_caches() {
        let cache = |processors: std::ops::Range<usize>, mib: usize| CacheGroup {
            processors: processors.collect(),
            bytes: Some(mib << 20),
        };
        let shape = |plans: Vec<TeamPlan>| -> Vec<(usize, usize)> {
            plans.iter().map(|team| (team.members, team.rounds)).collect()
        };
        assert_eq!(shape(plan(2, None, &[cache(0..2, 32)])), [(1, 1), (1, 1)], "both tables fit");
        assert_eq!(shape(plan(8, None, &[cache(0..8, 32)])), [(8, 3)]);
        assert_eq!(shape(plan(8, None, &[cache(0..8, 8)])), [(8, 2)], "two at least, to fill the gaps");
        let two = [cache(0..8, 32), cache(8..16, 32)];
        assert_eq!(shape(plan(16, None, &two)), [(8, 3), (8, 3)]);
        assert_eq!(shape(plan(9, None, &two)), [(5, 3), (4, 3)], "spread over the caches");
        assert_eq!(shape(plan(1, None, &two)), [(1, 1)]);
        assert_eq!(plan(9, None, &two)[0].processors, None, "free where the system has a choice");
        assert_eq!(shape(plan(5, Some(2), &two)), [(2, 2), (2, 2), (1, 1)], "as the user says");
        assert_eq!(shape(plan(3, None, &[cache(0..2, 32)])), [(1, 1); 3], "more threads than processors");
        let bound = plan(16, None, &two)[1].processors.clone().expect("bound");
        assert_eq!(bound.iter().map(|core| core.id).collect::<Vec<_>>(), (8..16).collect::<Vec<_>>());
        assert_eq!(plan(2, None, &[cache(0..2, 32)])[0].processors, None, "free with a single cache");
    }

    #[test]
    fn a_round_has_the_same_announcements_whether_table_2_is_made_on_demand_or_not() {
        for (difficulty, members) in [(2, 1), (4, 2), (8, 1), (8, 3)] {
            let round = Round { hard_nonces: HardNonces { first: 4711, count: 1 }, ..round(1, difficulty) };
            let team = Team::new(0, members, Kernel::detect(), None, None).expect("threads");
            let found = Mutex::new(Vec::new());
            let collect = |announcements| lock(&found).extend(announcements);
            let (mut memory, go_on) = (Memory::default(), AtomicBool::new(false));
            assert!(mine::mine(&team, &round, &mut memory, &go_on, &Progress::default(), &collect));
            let mut found = found.into_inner().expect("nobody panicked");
            found.sort_by_key(Announcement::soft_nonce);

            let header = round.job.header(4711);
            let expected = kernels::round::mine_round(
                &header,
                &round.job.parent_hash.0,
                &mut *Kernel::Portable.passes(),
                0..header.work_bits.soft_nonce_max() + 1,
                &mut kernels::round::RoundMemory::default(),
            );
            assert_eq!(found, expected.expect("it can be mined"), "difficulty {difficulty}");
        }
    }

    #[test]
    fn rounds_end_with_valid_announcements_that_the_backend_has_counted() {
        let begun = Instant::now();
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
        assert_eq!(counters.hashes, 2 * 1024);
        for step in Step::ALL {
            assert!(counters.steps[step] > Duration::ZERO, "no time for {}", step.name());
        }
        // Two drivers and two members; what they were not at work is not counted.
        assert!(counters.steps.total() <= 4 * begun.elapsed(), "{:?}", counters.steps);
        assert!((2 * 8192..4 * 8192).contains(&counters.items), "table 2 is made on demand");
        assert!((800..1300).contains(&found.len()), "{} announcements in two rounds", found.len());
        let mut validator = Validator::new();
        for one in found.iter().step_by(40) {
            assert_eq!(validator.validate(&one.announcement, &one.job.parent_hash.0), Ok(()));
        }
        let hashes: HashSet<_> = found.iter().map(|one| one.hash).collect();
        assert_eq!(hashes.len(), found.len());
    }

    #[test]
    fn cancelled_rounds_all_end() {
        let (mut backend, events) = backend(2);
        backend.start((0..5).map(|id| round(id, 1 << 30)).collect());
        std::thread::sleep(Duration::from_millis(300));
        backend.cancel(&[0, 1, 2, 3, 4, 99], Reach::Waiting);
        let waiting: HashSet<_> = (0..3).map(|_| ended(&events)).collect();
        assert_eq!(waiting, HashSet::from([2, 3, 4]), "those at work go on");
        backend.cancel(&[0, 1], Reach::Running);
        let running: HashSet<_> = (0..2).map(|_| ended(&events)).collect();
        assert_eq!(running, HashSet::from([0, 1]));
    }

    /// In all steps of a round. Other processes take their share of the time, so a step's quickest try counts.
    #[test]
    fn a_new_job_stops_all_work_within_20_ms() {
        let (mut backend, events) = backend(2);
        let mut ids = 0..;
        for wait in [0, 5, 10, 15, 25, 40, 80] {
            let mut quickest = Duration::MAX;
            for _ in 0..40 {
                let rounds: Vec<u64> = ids.by_ref().take(3).collect();
                backend.start(rounds.iter().map(|id| round(*id, 1 << 30)).collect());
                std::thread::sleep(Duration::from_millis(wait));
                let asked = Instant::now();
                backend.cancel(&rounds, Reach::Running);
                let all: HashSet<_> = rounds.iter().map(|_| ended(&events)).collect();
                quickest = quickest.min(asked.elapsed());
                assert_eq!(all, rounds.into_iter().collect());
                if quickest < Duration::from_millis(20) {
                    break;
                }
            }
            assert!(quickest < Duration::from_millis(20), "{quickest:?} after {wait} ms");
        }
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
