//! A device's backend: keeps the device supplied, hands on what it finds, and has it opened again when it is lost.
//!
//! The thread owns the [`Batches`] and never waits but for messages: the device is driven on a thread of its own
//! ([`Remote`]), programs are made on [`Host`]'s. So rounds are taken and given back whatever the device's driver does.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use kernels::{Announcement, TableProgram};

use super::{
    batch::{Batches, Chosen, Effect, Finished, Second, Submission, TableCost},
    context::GpuError,
    host::{self, Host},
    plan::Plan,
    recovery::{Attempt, Due, Patience, Recovery, Verdict},
    remote::{Answer, Remote, WAIT_FULL, guarded},
};
use crate::{
    backend::{BackendEvent, Counters, Reach, Sink, Step},
    protocol::BlockHash,
    self_test::KnownRound,
    values::{BackendId, HardNonces, Job, Moment, Round},
};

/// A device that says nothing for so long while it proves itself will not any more.
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
pub trait Opener: Send + Sync + 'static {
    /// What it opens.
    type Device: Device;

    /// What people call it.
    fn name(&self) -> &str;

    /// How it is to be used, if its memory is enough.
    ///
    /// # Errors
    /// If it cannot be.
    fn plan(&self) -> Result<Plan, GpuError>;

    /// The ways to run its shaders, best first, as people call them: one at least.
    fn variants(&self) -> &[String];

    /// Opens it.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] if a smaller plan may do.
    fn open(&self, attempt: Attempt) -> Result<Self::Device, GpuError>;
}

/// What the thread is told.
pub enum Message<P> {
    /// Say so with these when there is something to say, under this number.
    Go(BackendId, Sink),
    /// Mine these.
    Start(Vec<Round>),
    /// End these early.
    Cancel(Vec<u64>, Reach),
    /// The host has chosen. Answers from before a device was lost are those of another `life`.
    Chosen { life: u32, batch: u64, choices: Vec<Option<Chosen<P>>>, spent: Duration },
    /// The host has made programs.
    Programs { life: u32, batch: u64, programs: Vec<(u32, Option<Second<P>>)> },
    /// The device says something.
    Device { life: u32, answer: Answer },
    /// End.
    Close,
}

/// How far a device is that has not mined yet.
#[derive(Debug)]
pub enum Standing {
    /// It has proved itself and is used in this way.
    Ready(Plan),
    /// It could not be opened, and will be tried again.
    Delayed,
    /// It is given up.
    Failed(GpuError),
}

/// Owns all that is mined on a device.
pub struct Driver<O: Opener> {
    opener: Arc<O>,
    /// As long as there is one.
    device: Option<Remote<ProgramOf<O>>>,
    /// How it is used.
    attempt: Attempt,
    batches: Batches<ProgramOf<O>>,
    /// How many devices there have been before.
    life: u32,
    /// Where events go, and whose they are.
    sink: Option<(BackendId, Sink)>,
    counters: Arc<Mutex<Counters>>,
    host: Host,
    sender: Sender<Message<ProgramOf<O>>>,
    inbox: Receiver<Message<ProgramOf<O>>>,
    standing: Sender<Standing>,
    patience: Patience,
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
    /// A device that is to be opened and used as `plan` says. How far it is, it tells by `standing`.
    pub fn new(
        opener: O,
        plan: Plan,
        host: Host,
        (sender, inbox): Mailbox<ProgramOf<O>>,
        standing: Sender<Standing>,
        patience: Patience,
    ) -> Self {
        let mut batches = Batches::new(BackendId(0), plan);
        // There is no device yet.
        batches.lost();
        Self {
            recovery: Recovery::new(plan, opener.variants().len(), patience),
            opener: Arc::new(opener),
            device: None,
            attempt: Attempt { plan, variant: 0 },
            batches,
            life: 0,
            sink: None,
            counters: Arc::default(),
            host,
            sender,
            inbox,
            standing,
            patience,
            started: Instant::now(),
        }
    }

    /// What has been done, to be looked at by others.
    pub fn counters(&self) -> Arc<Mutex<Counters>> {
        self.counters.clone()
    }

    /// Opens the device, has it prove itself, and mines until it is closed or the device has failed for good.
    pub fn run(mut self) {
        let name = self.opener.name().to_owned();
        let stop = guarded(&name, || Ok(self.drive()));
        match stop.unwrap_or_else(Stop::Failed) {
            Stop::Closed => self.close(),
            Stop::Failed(error) => self.fail(error),
        }
    }

    fn drive(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.turn() {
                return stop;
            }
        }
    }

    /// Does what is due, supplies the device, and attends to the next messages.
    fn turn(&mut self) -> Result<(), Stop> {
        // What has come first: the process may have slept, and the device answered meanwhile.
        while let Ok(message) = self.inbox.try_recv() {
            self.message(message)?;
        }
        while let Some(due) = self.recovery.due(self.now()) {
            self.act(due)?;
        }
        if let Some(device) = &self.device {
            while let Some(submission) = self.batches.next() {
                device.submit(submission);
                self.recovery.submitted(self.started.elapsed());
            }
        }
        let first = match self.recovery.wakes() {
            Some(at) => self.inbox.recv_timeout(at.saturating_sub(self.now())),
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match first {
            Ok(message) => self.message(message)?,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(Stop::Closed),
        }
        // All that has come, before anything is submitted that it makes useless.
        while let Ok(message) = self.inbox.try_recv() {
            self.message(message)?;
        }
        Ok(())
    }

    fn act(&mut self, due: Due) -> Result<(), Stop> {
        let adapter = || self.opener.name().to_owned();
        match due {
            Due::Open(attempt) => self.open(attempt),
            Due::Silent(time) => {
                let reason = format!("no answer for {time:?}");
                self.failed(GpuError::Lost { adapter: adapter(), reason })
            }
            Due::Stuck(time) => {
                let reason = format!("its driver has not let go of it for {time:?}; restart the computer");
                Err(Stop::Failed(GpuError::Lost { adapter: adapter(), reason }))
            }
        }
    }

    fn open(&mut self, attempt: Attempt) -> Result<(), Stop> {
        let (life, sender) = (self.life, self.sender.clone());
        let tell = move |answer| {
            // The driver is gone only when nobody wants the device any more.
            let _ = sender.send(Message::Device { life, answer });
        };
        self.attempt = attempt;
        match Remote::open(self.opener.clone(), attempt, tell) {
            Ok(device) => {
                self.device = Some(device);
                Ok(())
            }
            Err(error) => {
                let (adapter, reason) = (self.opener.name().to_owned(), format!("no thread: {error}"));
                let failed = self.failed(GpuError::Open { adapter, reason });
                self.recovery.gone();
                failed
            }
        }
    }

    fn message(&mut self, message: Message<ProgramOf<O>>) -> Result<(), Stop> {
        let effects = match message {
            Message::Go(id, sink) => {
                self.batches.set_backend(id);
                self.sink = Some((id, sink));
                return Ok(());
            }
            Message::Start(rounds) => self.batches.start(rounds),
            Message::Cancel(rounds, reach) => self.batches.cancel(&rounds, reach),
            Message::Chosen { life, batch, choices, spent } if life == self.life => {
                self.batches.chosen(batch, choices, spent)
            }
            Message::Programs { life, batch, programs } if life == self.life => {
                self.batches.programs(batch, programs)
            }
            Message::Device { life, answer } if life == self.life => return self.answered(answer),
            Message::Device { life, answer: Answer::Gone } if life + 1 == self.life => {
                self.recovery.gone();
                return Ok(());
            }
            Message::Chosen { .. } | Message::Programs { .. } | Message::Device { .. } => return Ok(()),
            Message::Close => return Err(Stop::Closed),
        };
        self.carry_out(effects);
        Ok(())
    }

    fn answered(&mut self, answer: Answer) -> Result<(), Stop> {
        match answer {
            Answer::Proved => {
                self.recovery.proved();
                self.ready();
                Ok(())
            }
            Answer::Finished(finished) => self.finished(finished),
            Answer::Failed(error) => self.failed(error),
            Answer::Gone => {
                let adapter = self.opener.name().to_owned();
                let failed = self.failed(GpuError::Lost { adapter, reason: "its thread ended".into() });
                self.recovery.gone();
                failed
            }
        }
    }

    fn ready(&mut self) {
        let Attempt { plan, variant } = self.attempt;
        if self.life > 0 {
            let name = self.opener.name();
            let with = if variant > 0 {
                format!(", with {}", self.opener.variants()[variant])
            } else {
                String::new()
            };
            tracing::info!("{name} has proved itself: {} rounds at once{with}", plan.slots);
        }
        let _ = self.standing.send(Standing::Ready(plan));
        let effects = self.batches.resume(plan);
        self.carry_out(effects);
    }

    fn finished(&mut self, finished: Finished) -> Result<(), Stop> {
        match self.batches.finished(finished) {
            Ok(effects) => {
                self.recovery.answered(self.batches.in_flight() > 0, self.now());
                self.carry_out(effects);
                Ok(())
            }
            Err(nonsense) => self.failed(nonsense.error(self.opener.name())),
        }
    }

    /// Lets go of the device, says so, and takes its rounds back. What is to be done then is due in time.
    fn failed(&mut self, error: GpuError) -> Result<(), Stop> {
        // Its driver may never let go of it: nobody waits for that.
        self.device = None;
        self.life += 1;
        let verdict = self.recovery.failed(&error, self.now());
        let Verdict::Reopen { wait, smaller, variant } = verdict else { return Err(Stop::Failed(error)) };
        let how = match variant {
            Some(variant) => format!("trying it with {}", self.opener.variants()[variant]),
            None if smaller => "opening it with fewer rounds".into(),
            None => "opening it again".into(),
        };
        let when = if wait.is_zero() { String::new() } else { format!(" in {wait:.0?}") };
        tracing::warn!("{error}; {how}{when}");
        if !wait.is_zero() {
            let _ = self.standing.send(Standing::Delayed);
        }
        let effects = self.batches.lost();
        self.carry_out(effects);
        Ok(())
    }

    /// Gives everything back for good.
    fn fail(mut self, error: GpuError) {
        self.device = None;
        let text = error.to_string();
        let _ = self.standing.send(Standing::Failed(error));
        // Who is to be told may not be known yet.
        while self.sink.is_none() {
            match self.inbox.recv() {
                Ok(Message::Go(id, sink)) => self.sink = Some((id, sink)),
                Ok(Message::Close) | Err(_) => return,
                Ok(_) => {}
            }
        }
        self.tell(|backend| BackendEvent::Failed { backend, error: text });
    }

    /// Lets go of the device and waits until its driver has, but not for ever.
    fn close(mut self) {
        self.say_times();
        // If it failed, nobody is told any more when it is gone.
        if self.device.take().is_none() {
            return;
        }
        let until = self.now() + self.patience.closing;
        loop {
            match self.inbox.recv_timeout(until.saturating_sub(self.now())) {
                Ok(Message::Device { life, answer: Answer::Gone }) if life == self.life => return,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let (name, time) = (self.opener.name(), self.patience.closing);
        tracing::warn!("the driver of {name} has not let go of it for {time:?}: going on without");
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
}

fn found_in(effect: &Effect) -> u64 {
    if let Effect::Found(found) = effect { found.len() as u64 } else { 0 }
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
        Backend, BackendInfo,
        gpu::{
            GpuBackend, Opening,
            testing::{FakeOpener, Fault, Faults, lock},
        },
    };

    type Events = mpsc::Receiver<BackendEvent>;

    /// With drivers that are silent for long.
    const IMPATIENT: Patience = Patience {
        opening: Duration::from_secs(60),
        working: Duration::from_secs(10),
        ending: Duration::from_millis(300),
        closing: Duration::from_millis(100),
    };

    fn opening(faults: &Arc<Mutex<Faults>>, patience: Patience) -> Opening<TableProgram> {
        let host = Host::new(1).expect("a thread");
        let opener = FakeOpener::new(faults.clone());
        let info = BackendInfo {
            name: "gpu 7".into(),
            description: "a fake".into(),
            bus: None,
            capacity: 0,
            candidates: 1,
        };
        let plan = opener.plan().expect("a plan");
        Opening::begin(opener, plan, info, host, patience).expect("a thread")
    }

    fn start(ready: Opening<TableProgram>) -> (GpuBackend<TableProgram>, Events) {
        let (sender, events) = mpsc::channel();
        let sink: Sink = Arc::new(move |event| {
            let _ = sender.send(event);
        });
        (ready.start(BackendId(4), sink), events)
    }

    /// A backend on a device that fails as `faults` says.
    fn backend(faults: &Arc<Mutex<Faults>>) -> Result<(GpuBackend<TableProgram>, Events), GpuError> {
        backend_with(faults, Patience::default())
    }

    fn backend_with(
        faults: &Arc<Mutex<Faults>>,
        patience: Patience,
    ) -> Result<(GpuBackend<TableProgram>, Events), GpuError> {
        let until = Instant::now() + Duration::from_secs(60);
        Ok(start(opening(faults, patience).ready(until, false)?))
    }

    /// Why the backend has stopped.
    fn until_failed(events: &Events) -> String {
        loop {
            if let BackendEvent::Failed { error, .. } =
                events.recv_timeout(Duration::from_secs(60)).expect("it fails")
            {
                return error;
            }
        }
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
            assert_eq!(lock(&faults).opened(), 2, "{fault:?}");
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
        lock(&faults).wrong_variants = 3;
        let error = backend(&faults).err().expect("it cannot prove itself").to_string();
        assert!(error.starts_with("a fake computes wrongly"), "{error}");
        assert_eq!(lock(&faults).opened(), 3, "each variant was tried");
    }

    #[test]
    fn a_device_that_computes_wrongly_at_first_mines_with_the_variant_that_is_right() {
        let faults = faults(1);
        lock(&faults).wrong_variants = 2;
        let (mut backend, events) = backend(&faults).expect("the third proves itself");
        backend.start(vec![round(0)]);
        let found = until_ended(&events, 1);
        assert!(found.iter().all(|(hard_nonce, announcements)| *announcements == expected(*hard_nonce)));
        let tried: Vec<_> = lock(&faults).attempts.iter().map(|attempt| attempt.variant).collect();
        assert_eq!(tried, [0, 1, 2]);
    }

    #[test]
    fn a_device_that_cannot_be_opened_at_first_is_tried_again() {
        let faults = faults(1);
        lock(&faults).refusals = 1;
        let (mut backend, events) = backend(&faults).expect("it opens the second time");
        assert_eq!(lock(&faults).opened(), 2);
        backend.start(vec![round(0)]);
        assert_eq!(until_ended(&events, 1).len(), 1);
    }

    #[test]
    fn a_device_that_may_be_late_keeps_nobody_waiting_and_mines_when_it_can() {
        let patience = Patience { ending: Duration::from_secs(60), ..IMPATIENT };
        let until = Instant::now() + Duration::from_secs(60);
        let refused = faults(1);
        lock(&refused).refusals = 1;
        let late = opening(&refused, patience).ready(until, true).expect("it may be late");
        let slow = faults(1);
        lock(&slow).stuck_opening = true;
        let soon = Instant::now() + Duration::from_millis(50);
        let slow_one = opening(&slow, patience).ready(soon, true).expect("it may be late");
        for (faults, opening) in [(refused, late), (slow, slow_one)] {
            let (mut backend, events) = start(opening);
            backend.start((0..3).map(round).collect());
            backend.cancel(&[1], Reach::Running);
            assert!(until_ended(&events, 1).is_empty(), "what is cancelled ends at once");
            lock(&faults).stuck_opening = false;
            assert_eq!(until_ended(&events, 2).len(), 2);
        }
    }

    #[test]
    fn a_device_that_is_never_ready_is_gone_on_without() {
        let faults = faults(1);
        lock(&faults).stuck_opening = true;
        let begun = Instant::now();
        let error = opening(&faults, IMPATIENT).ready(begun + Duration::from_millis(50), false).err();
        let error = error.expect("it is not ready").to_string();
        assert!(error.contains("not ready"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30), "it is left behind");
        lock(&faults).stuck_opening = false;
    }

    #[test]
    fn a_driver_that_never_lets_go_of_a_silent_device_keeps_nobody_waiting() {
        let faults = faults(2);
        let (mut backend, events) = backend_with(&faults, IMPATIENT).expect("it proves itself");
        {
            let mut faults = lock(&faults);
            (faults.next, faults.stuck_dropping) = (Some((1, Fault::Silence)), true);
        }
        backend.start((0..6).map(round).collect());
        let error = until_failed(&events);
        assert!(error.contains("its driver has not let go of it"), "{error}");
        let seen = lock(&faults);
        assert_eq!((seen.opened(), seen.alive), (1, 1), "no other is opened while it lives");
        drop(seen);
        let begun = Instant::now();
        drop(backend);
        assert!(begun.elapsed() < Duration::from_secs(30));
        lock(&faults).stuck_dropping = false;
    }

    #[test]
    fn rounds_of_a_silent_device_can_be_cancelled_and_are_mined_once_its_driver_lets_go() {
        let faults = faults(2);
        let patience = Patience { ending: Duration::from_secs(60), ..IMPATIENT };
        let (mut backend, events) = backend_with(&faults, patience).expect("it proves itself");
        {
            let mut faults = lock(&faults);
            (faults.next, faults.stuck_dropping) = (Some((1, Fault::Silence)), true);
        }
        backend.start((0..4).map(round).collect());
        // Silent for longer than anybody waits.
        std::thread::sleep(IMPATIENT.working + Duration::from_millis(500));
        backend.cancel(&[0, 1, 2], Reach::Running);
        assert!(until_ended(&events, 3).is_empty());
        lock(&faults).stuck_dropping = false;
        assert_eq!(until_ended(&events, 1).len(), 1);
        assert_eq!(lock(&faults).opened(), 2);
    }

    #[test]
    fn a_backend_ends_though_the_driver_never_lets_go_of_its_device() {
        let faults = faults(1);
        let (backend, _events) = backend_with(&faults, IMPATIENT).expect("it proves itself");
        lock(&faults).stuck_dropping = true;
        let begun = Instant::now();
        drop(backend);
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!(lock(&faults).alive, 1);
        lock(&faults).stuck_dropping = false;
    }

    #[test]
    fn a_device_that_runs_out_of_memory_at_work_is_given_fewer_rounds() {
        let faults = faults(4);
        let (mut backend, events) = backend(&faults).expect("it proves itself");
        lock(&faults).next = Some((3, Fault::Full));
        backend.start((0..8).map(round).collect());
        until_ended(&events, 8);
        let slots: Vec<_> = lock(&faults).attempts.iter().map(|attempt| attempt.plan.slots).collect();
        assert_eq!(slots, [4, 2]);
    }

    #[test]
    fn a_device_whose_answers_make_no_sense_is_stopped_for_good() {
        let faults = faults(1);
        let (mut backend, events) = backend(&faults).expect("it proves itself");
        lock(&faults).next = Some((3, Fault::Nonsense));
        backend.start(vec![round(0), round(1)]);
        let error = until_failed(&events);
        assert!(error.contains("makes no sense"), "{error}");
        assert_eq!(lock(&faults).opened(), 1);
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
            assert_eq!(lock(&faults).opened(), 2, "it is a loss, not a device that computes wrongly");
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
