//! A device's thread: keeps it supplied, hands on what it finds, and opens it again when it is lost.
//!
//! The thread owns the device and the [`Batches`]. Programs are made elsewhere, by [`Host`]'s threads, and come back as
//! messages. Whatever the device library does when a device is lost, panics included, ends up as a [`GpuError`] here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    time::{Duration, Instant},
};

use kernels::{Announcement, TableProgram};

use super::{
    batch::{Batches, Chosen, Effect, Finished, IN_FLIGHT, Nonsense, Second, Submission, TableCost},
    context::GpuError,
    host::{self, Host},
    plan::Plan,
    recovery::{Recovery, Verdict},
};
use crate::{
    backend::{BackendEvent, Counters, Reach, Sink, Step},
    protocol::BlockHash,
    self_test::KnownRound,
    values::{BackendId, HardNonces, Job, Moment, Round},
};

/// How long the thread waits for the device before it looks at its messages, if the device has all it can hold.
const WAIT_FULL: Duration = Duration::from_millis(20);

/// The same where a message can bring more to do.
const WAIT: Duration = Duration::from_micros(300);

/// A device that says nothing for so long will not any more.
const SILENCE: Duration = Duration::from_secs(180);

/// A device as the driver sees it.
pub trait Device {
    /// A table's program as the device runs it.
    type Program: TableCost + Send + Sync + 'static;

    /// Makes a program fit for the device.
    ///
    /// # Errors
    /// Why the device cannot run it; then another hard nonce is to be taken.
    fn lower(program: &TableProgram) -> Result<Self::Program, String>;

    /// Starts work, behind all that was submitted before.
    fn submit(&mut self, submission: Submission<Self::Program>) -> Result<(), GpuError>;

    /// Waits for the end of the oldest submission. `None` if it has not come within this time.
    fn wait(&mut self, timeout: Duration) -> Result<Option<Finished>, GpuError>;
}

/// Opens a device, as often as need be.
pub trait Opener {
    /// What it opens.
    type Device: Device;

    /// What people call it.
    fn name(&self) -> &str;

    /// How it is to be used, if its memory is enough.
    ///
    /// # Errors
    /// If it cannot be.
    fn plan(&self) -> Result<Plan, GpuError>;

    /// Opens it.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] if a smaller plan may do.
    fn open(&mut self, plan: Plan) -> Result<Self::Device, GpuError>;
}

/// What the thread is told.
pub enum Message<P> {
    /// Mine these.
    Start(Vec<Round>),
    /// End these early.
    Cancel(Vec<u64>, Reach),
    /// The host has chosen. Answers from before a device was lost are those of another `life`.
    Chosen { life: u32, batch: u64, choices: Vec<Option<Chosen<P>>>, spent: Duration },
    /// The host has made programs.
    Programs { life: u32, batch: u64, programs: Vec<(u32, Option<Second<P>>)> },
    /// End.
    Close,
}

/// Owns a device and all that is mined on it.
pub struct Driver<O: Opener> {
    opener: O,
    /// As long as there is one.
    device: Option<O::Device>,
    plan: Plan,
    batches: Batches<ProgramOf<O>>,
    /// How many devices there have been before.
    life: u32,
    /// Where events go, and whose they are.
    sink: Option<(BackendId, Sink)>,
    counters: Arc<Mutex<Counters>>,
    host: Host,
    sender: Sender<Message<ProgramOf<O>>>,
    inbox: Receiver<Message<ProgramOf<O>>>,
    recovery: Recovery,
    started: Instant,
}

/// The programs of an opener's devices.
pub type ProgramOf<O> = <<O as Opener>::Device as Device>::Program;

/// Where messages come from, and where others put them.
pub type Mailbox<P> = (Sender<Message<P>>, Receiver<Message<P>>);

/// Why the device is not driven any more.
enum Stop {
    /// Nobody wants it any more.
    Closed,
    Failed(GpuError),
}

impl<O: Opener> Driver<O> {
    /// Opens the device and has it prove itself.
    ///
    /// # Errors
    /// If it cannot be opened, or computes wrongly.
    pub fn open(mut opener: O, host: Host, (sender, inbox): Mailbox<ProgramOf<O>>) -> Result<Self, GpuError> {
        let plan = opener.plan()?;
        let (device, plan) = open_and_prove(&mut opener, plan)?;
        Ok(Self {
            opener,
            device: Some(device),
            plan,
            batches: Batches::new(BackendId(0), plan),
            life: 0,
            sink: None,
            counters: Arc::default(),
            host,
            sender,
            inbox,
            recovery: Recovery::default(),
            started: Instant::now(),
        })
    }

    /// How the device is used.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// What has been done, to be looked at by others.
    pub fn counters(&self) -> Arc<Mutex<Counters>> {
        self.counters.clone()
    }

    /// Mines until it is closed or the device has failed for good.
    pub fn run(mut self, id: BackendId, sink: Sink) {
        self.batches = Batches::new(id, self.plan);
        self.sink = Some((id, sink));
        loop {
            let stop = self.guarded(Self::drive);
            self.let_go();
            let error = match stop {
                Stop::Closed => return self.say_times(),
                Stop::Failed(error) => error,
            };
            match self.reopen(error) {
                Ok(()) => {}
                Err(Stop::Closed) => return,
                Err(Stop::Failed(error)) => {
                    let error = error.to_string();
                    return self.tell(|backend| BackendEvent::Failed { backend, error });
                }
            }
        }
    }

    /// Says in the log where the time went.
    fn say_times(&self) {
        let Counters { steps, rounds, .. } = self.batches.counters();
        let times: Vec<_> = Step::ALL
            .iter()
            .map(|step| format!("{} {:.3} s", step.name(), steps[*step].as_secs_f64()))
            .collect();
        tracing::debug!("{}: {rounds} rounds: {}", self.opener.name(), times.join(", "));
    }

    /// Runs something that panics when the device is lost.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Stop) -> Stop {
        let name = self.opener.name().to_owned();
        catch_unwind(AssertUnwindSafe(|| work(self)))
            .unwrap_or_else(|panic| Stop::Failed(panicked(name, &*panic)))
    }

    /// Drops the device, which may take offence.
    fn let_go(&mut self) {
        let device = self.device.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(device)));
    }

    /// Opens the device again after an error, as often as it makes sense.
    fn reopen(&mut self, mut error: GpuError) -> Result<(), Stop> {
        self.life += 1;
        let effects = self.batches.lost();
        self.carry_out(effects);
        loop {
            let now = self.now();
            let Verdict::Reopen { at, smaller } = self.recovery.failed(&error, now) else {
                return Err(Stop::Failed(error));
            };
            let what = if smaller { "with fewer rounds" } else { "again" };
            tracing::warn!("{error}; opening it {what} in {:.0?}", at - now);
            self.idle_until(at)?;
            let plan = if smaller { self.plan.smaller() } else { Some(self.plan) };
            let Some(plan) = plan else { return Err(Stop::Failed(error)) };
            let opened = self.guarded(|driver| {
                match open_and_prove(&mut driver.opener, plan) {
                    Ok((device, plan)) => (driver.device, driver.plan) = (Some(device), plan),
                    Err(error) => return Stop::Failed(error),
                }
                Stop::Closed
            });
            if let Stop::Failed(failure) = opened {
                error = failure;
                continue;
            }
            tracing::info!("{} is back: {} rounds at once", self.opener.name(), self.plan.slots);
            let effects = self.batches.resume(self.plan);
            self.carry_out(effects);
            return Ok(());
        }
    }

    /// Attends to messages while there is no device.
    fn idle_until(&mut self, at: Moment) -> Result<(), Stop> {
        loop {
            let left = at.saturating_sub(self.now());
            match self.inbox.recv_timeout(left) {
                Ok(message) => self.message(message)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Closed),
            }
        }
    }

    /// Mines, until something is wrong.
    fn drive(&mut self) -> Stop {
        let mut last_answer = Instant::now();
        loop {
            if let Err(stop) = self.turn(&mut last_answer) {
                return stop;
            }
        }
    }

    fn turn(&mut self, last_answer: &mut Instant) -> Result<(), Stop> {
        loop {
            match self.inbox.try_recv() {
                Ok(message) => self.message(message)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Stop::Closed),
            }
        }
        let device = self.device.as_mut().expect("there is a device while it is driven");
        while let Some(submission) = self.batches.next() {
            if self.batches.in_flight() == 1 {
                *last_answer = Instant::now();
            }
            device.submit(submission).map_err(Stop::Failed)?;
        }
        let wait = match self.batches.in_flight() {
            0 => {
                // The host is at work, or there is nothing to mine.
                return match self.inbox.recv() {
                    Ok(message) => self.message(message),
                    Err(_) => Err(Stop::Closed),
                };
            }
            IN_FLIGHT => WAIT_FULL,
            _ => WAIT,
        };
        if let Some(finished) = device.wait(wait).map_err(Stop::Failed)? {
            *last_answer = Instant::now();
            let effects = self.batches.finished(finished).map_err(|e| Stop::Failed(self.wrong(&e)))?;
            self.carry_out(effects);
        } else if last_answer.elapsed() > SILENCE {
            let (adapter, reason) = (self.opener.name().into(), format!("no answer for {SILENCE:?}"));
            return Err(Stop::Failed(GpuError::Lost { adapter, reason }));
        }
        Ok(())
    }

    fn message(&mut self, message: Message<ProgramOf<O>>) -> Result<(), Stop> {
        let effects = match message {
            Message::Start(rounds) => self.batches.start(rounds),
            Message::Cancel(rounds, reach) => self.batches.cancel(&rounds, reach),
            Message::Chosen { life, batch, choices, spent } if life == self.life => {
                self.batches.chosen(batch, choices, spent)
            }
            Message::Programs { life, batch, programs } if life == self.life => {
                self.batches.programs(batch, programs)
            }
            Message::Chosen { .. } | Message::Programs { .. } => return Ok(()),
            Message::Close => return Err(Stop::Closed),
        };
        self.carry_out(effects);
        Ok(())
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = self.batches.counters();
        let mut found_total = self.batches.counters().found;
        // Each event tells the total up to itself.
        found_total -= effects.iter().map(found_in).sum::<u64>();
        for effect in effects {
            found_total += found_in(&effect);
            let (life, sender) = (self.life, self.sender.clone());
            match effect {
                Effect::Choose { batch, rounds, hurry } => {
                    // The thread is gone only when nobody wants the answer any more.
                    self.host.choose(rounds, hurry, O::Device::lower, move |choices, spent| {
                        let _ = sender.send(Message::Chosen { life, batch, choices, spent });
                    });
                }
                Effect::Program { batch, roots } => {
                    self.host.programs(roots, O::Device::lower, move |programs| {
                        let _ = sender.send(Message::Programs { life, batch, programs });
                    });
                }
                Effect::Found(announcements) => {
                    self.tell(|backend| BackendEvent::Found { backend, found_total, announcements });
                }
                Effect::Ended(round) => self.tell(|backend| BackendEvent::Ended { backend, round }),
            }
        }
    }

    fn tell(&self, event: impl FnOnce(BackendId) -> BackendEvent) {
        if let Some((id, sink)) = &self.sink {
            sink(event(*id));
        }
    }

    fn now(&self) -> Moment {
        self.started.elapsed()
    }

    fn wrong(&self, nonsense: &Nonsense) -> GpuError {
        nonsense.error(self.opener.name())
    }
}

fn found_in(effect: &Effect) -> u64 {
    if let Effect::Found(found) = effect { found.len() as u64 } else { 0 }
}

/// What a panic of the device library means.
fn panicked(adapter: String, panic: &(dyn std::any::Any + Send)) -> GpuError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    GpuError::Lost { adapter, reason: text.unwrap_or("its driver failed").to_owned() }
}

/// Opens a device, with fewer rounds where its memory is not enough, and holds it to the known round.
fn open_and_prove<O: Opener>(opener: &mut O, mut plan: Plan) -> Result<(O::Device, Plan), GpuError> {
    loop {
        let proved = opener.open(plan).and_then(|mut device| {
            prove(&mut device, plan, opener.name())?;
            Ok(device)
        });
        match (proved, plan.smaller()) {
            (Ok(device), _) => return Ok((device, plan)),
            (Err(error @ GpuError::OutOfMemory { .. }), Some(smaller)) => {
                tracing::warn!("{error}; trying it with {}", smaller.slots);
                plan = smaller;
            }
            (Err(error), _) => return Err(error),
        }
    }
}

/// Has every slot of a batch mine the known round, as everything else is mined.
pub fn prove<D: Device>(device: &mut D, plan: Plan, name: &str) -> Result<(), GpuError> {
    let wrong = |reason| GpuError::Wrong { adapter: name.to_owned(), reason };
    let known = KnownRound::new();
    let header = &known.header;
    let job = Arc::new(Job {
        id: 0,
        parent_hash: BlockHash(known.parent_hash),
        parent_height: header.parent_block_height,
        work_bits: header.work_bits,
        signing_key: header.signing_key,
    });
    let hard_nonces = HardNonces { first: header.hard_nonce, count: 1 };
    let rounds = (0..u64::from(plan.slots)).map(|id| Round { id, job: job.clone(), hard_nonces });
    let found = mine(device, plan, rounds.collect(), name)?;
    let whole = usize::try_from(plan.slots).expect("a number of rounds fits");
    for chunk in found.chunks((found.len() / whole).max(1)) {
        known.check(chunk).map_err(wrong)?;
    }
    if found.is_empty() {
        return Err(wrong("of a round with announcements it found none".into()));
    }
    Ok(())
}

/// Mines rounds to their end and returns what was found: round by round, lowest soft nonce first.
///
/// # Errors
/// If the device fails.
pub fn mine<D: Device>(
    device: &mut D,
    plan: Plan,
    rounds: Vec<Round>,
    name: &str,
) -> Result<Vec<Announcement>, GpuError> {
    let wrong = |reason| GpuError::Wrong { adapter: name.to_owned(), reason };
    let mut batches = Batches::new(BackendId(0), plan);
    let mut found = Vec::new();
    let mut left = rounds.len();
    let mut effects = batches.start(rounds);
    let mut last_answer = Instant::now();
    while left > 0 {
        let mut next = Vec::new();
        for effect in std::mem::take(&mut effects) {
            match effect {
                Effect::Choose { batch, rounds, .. } => {
                    let choices = rounds.iter().map(|round| host::choose(round, D::lower)).collect();
                    next.extend(batches.chosen(batch, choices, Duration::ZERO));
                }
                Effect::Program { batch, roots } => {
                    let programs = roots.iter().map(|rooted| (rooted.slot, host::second(rooted, D::lower)));
                    let programs = programs.collect();
                    next.extend(batches.programs(batch, programs));
                }
                Effect::Found(announcements) => {
                    let announcements = announcements.iter().map(|found| found.announcement.clone());
                    found.extend(announcements);
                }
                Effect::Ended(_) => left -= 1,
            }
        }
        if !next.is_empty() || left == 0 {
            effects = next;
            continue;
        }
        while let Some(submission) = batches.next() {
            device.submit(submission)?;
        }
        if let Some(finished) = device.wait(WAIT_FULL)? {
            last_answer = Instant::now();
            effects = batches.finished(finished).map_err(|nonsense| wrong(nonsense.to_string()))?;
        } else if last_answer.elapsed() > SILENCE {
            let reason = format!("no answer for {SILENCE:?}");
            return Err(GpuError::Lost { adapter: name.to_owned(), reason });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        sync::mpsc,
    };

    use kernels::{
        Kernel, WorkBits,
        round::{RoundMemory, mine_round},
    };

    use super::*;
    use crate::backend::{
        Backend,
        gpu::{
            GpuBackend, Opening,
            testing::{FakeOpener, Fault, Faults, lock},
        },
    };

    type Events = mpsc::Receiver<BackendEvent>;

    /// A backend on a device that fails as `faults` says.
    fn backend(faults: &Arc<Mutex<Faults>>) -> Result<(GpuBackend<TableProgram>, Events), GpuError> {
        let host = Host::new(1).expect("a thread");
        let opener = FakeOpener(faults.clone());
        let opening = Opening::begin(opener, "gpu 7".into(), "a fake".into(), host).expect("a thread");
        let opened = opening.opened()?;
        let (sender, events) = mpsc::channel();
        let sink: Sink = Arc::new(move |event| {
            let _ = sender.send(event);
        });
        Ok((opening.start(opened, BackendId(4), sink), events))
    }

    fn faults(slots: u32) -> Arc<Mutex<Faults>> {
        Arc::new(Mutex::new(Faults { slots, ..Faults::default() }))
    }

    fn round(id: u64) -> Round {
        let job = Job {
            id: 1,
            parent_hash: BlockHash([5; 32]),
            parent_height: 77,
            work_bits: WorkBits::at_least(2),
            signing_key: [0; 32],
        };
        Round { id, job: Arc::new(job), hard_nonces: HardNonces { first: 1000 * id as u32, count: 2 } }
    }

    /// Everything that happens until so many rounds have ended: what was found, by hard nonce.
    fn until_ended(events: &Events, rounds: usize) -> HashMap<u32, Vec<Announcement>> {
        until_ended_after(events, rounds, 0)
    }

    /// The same where so many announcements were found before.
    fn until_ended_after(events: &Events, rounds: usize, before: u64) -> HashMap<u32, Vec<Announcement>> {
        let (mut ended, mut found, mut total) = (HashSet::new(), HashMap::<u32, Vec<_>>::new(), before);
        while ended.len() < rounds {
            match events.recv_timeout(Duration::from_secs(60)).expect("rounds end") {
                BackendEvent::Found { backend, found_total, announcements } => {
                    assert_eq!(backend, BackendId(4));
                    total += announcements.len() as u64;
                    assert_eq!(found_total, total);
                    for one in announcements {
                        assert_eq!(one.hash, one.announcement.hash());
                        found
                            .entry(one.announcement.hard_nonce())
                            .or_default()
                            .push(one.announcement.clone());
                    }
                }
                BackendEvent::Ended { round, .. } => {
                    assert!(ended.insert(round), "round {round} ended twice")
                }
                BackendEvent::Failed { error, .. } => panic!("{error}"),
            }
        }
        found
    }

    /// What a CPU kernel finds.
    fn expected(hard_nonce: u32) -> Vec<Announcement> {
        let (job, passes) = (round(0).job, &mut *Kernel::detect().passes());
        let header = job.header(hard_nonce);
        let nonces = 0..header.work_bits.soft_nonce_max() + 1;
        let memory = &mut RoundMemory::default();
        mine_round(&header, &job.parent_hash.0, passes, nonces, memory).expect("it can be mined")
    }

    #[test]
    fn rounds_end_with_the_announcements_that_a_cpu_kernel_finds() {
        let (mut backend, events) = backend(&faults(2)).expect("it proves itself");
        assert_eq!(backend.info().name, "gpu 7");
        assert_eq!(backend.info().description, "a fake, 2 rounds at once");
        backend.start((0..5).map(round).collect());
        let found = until_ended(&events, 5);
        assert_eq!(found.len(), 5);
        for (hard_nonce, announcements) in &found {
            assert_eq!(*announcements, expected(*hard_nonce));
        }
        let counters = backend.counters();
        assert_eq!((counters.rounds, counters.items, counters.hashes), (5, 5 * 16384, 5 * 1024));
        assert_eq!(counters.found, found.values().map(Vec::len).sum::<usize>() as u64);
    }

    #[test]
    fn a_lost_device_is_opened_again_and_nothing_is_found_twice() {
        for (submissions, fault) in [(2, Fault::Lost), (9, Fault::Panic), (13, Fault::Lost)] {
            let faults = faults(2);
            let (mut backend, events) = backend(&faults).expect("it proves itself");
            lock(&faults).next = Some((submissions, fault));
            backend.start((0..6).map(round).collect());
            let found = until_ended(&events, 6);
            assert_eq!(lock(&faults).opened, 2, "{fault:?}");
            for (hard_nonce, announcements) in &found {
                let expected = expected(*hard_nonce);
                let part = &expected[..announcements.len().min(expected.len())];
                assert_eq!(announcements, part, "{fault:?}: each once and in order");
            }
            assert!(found.len() >= 4, "what was not searched is mined again");
        }
    }

    #[test]
    fn a_device_that_computes_wrongly_is_not_used() {
        let faults = faults(1);
        lock(&faults).next = Some((1, Fault::WrongBit));
        let error = backend(&faults).err().expect("it cannot prove itself").to_string();
        assert!(error.starts_with("a fake computes wrongly"), "{error}");
    }

    #[test]
    fn a_device_whose_answers_make_no_sense_is_stopped_for_good() {
        let faults = faults(1);
        let (mut backend, events) = backend(&faults).expect("it proves itself");
        lock(&faults).next = Some((3, Fault::Nonsense));
        backend.start(vec![round(0), round(1)]);
        loop {
            match events.recv_timeout(Duration::from_secs(60)).expect("it fails") {
                BackendEvent::Failed { error, .. } => {
                    assert!(error.contains("makes no sense"), "{error}");
                    break;
                }
                BackendEvent::Ended { .. } | BackendEvent::Found { .. } => {}
            }
        }
        assert_eq!(lock(&faults).opened, 1);
    }

    #[test]
    fn a_search_that_was_given_up_in_silence_is_a_lost_device_and_hands_nothing_on() {
        // The known rounds' announcements, which this device found last; and those of its own rounds.
        for searched in [0, 3] {
            let faults = faults(1);
            let (mut backend, events) = backend(&faults).expect("it proves itself");
            backend.start((0..searched).map(round).collect());
            let mut found = until_ended(&events, searched as usize);
            lock(&faults).next = Some((1, Fault::Stale));
            backend.start((10..13).map(round).collect());
            found.extend(until_ended_after(&events, 3, found.values().map(|all| all.len() as u64).sum()));
            assert_eq!(lock(&faults).opened, 2, "it is a loss, not a device that computes wrongly");
            assert_eq!(found.len(), searched as usize + 3);
            for (hard_nonce, announcements) in &found {
                assert_eq!(*announcements, expected(*hard_nonce), "each once and in order");
            }
        }
    }

    #[test]
    fn where_memory_is_short_fewer_rounds_are_mined_at_once() {
        let faults = faults(8);
        lock(&faults).memory = Some(3);
        let (backend, _) = backend(&faults).expect("it fits in the end");
        assert_eq!(backend.info().description, "a fake, 2 rounds at once");
    }

    #[test]
    fn cancelled_rounds_end_and_a_dropped_backend_stops_its_thread() {
        let (mut backend, events) = backend(&faults(2)).expect("it proves itself");
        let hard = |id| {
            let job = Job { work_bits: WorkBits::at_least(1 << 30), ..(*round(id).job).clone() };
            Round { job: Arc::new(job), ..round(id) }
        };
        backend.start((0..9).map(hard).collect());
        std::thread::sleep(Duration::from_millis(200));
        backend.cancel(&(0..8).collect::<Vec<_>>(), Reach::Running);
        until_ended(&events, 8);
        drop(backend);
        while events.recv().is_ok() {}
    }
}
