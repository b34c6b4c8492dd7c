//! The loop: the three state machines, the backends and the clock in one thread's hands.

#[cfg(test)]
mod simulation;

use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZero,
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread,
    time::{Duration, SystemTime},
};

use kernels::{Invalid, WorkBits};
use url::Url;

use super::{MinerError, Settings};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::{
    backend::{self, Backend, BackendEvent, BackendInfo, Counters},
    display::Display,
    line::{self, Fitter, OverflowWatch},
    pool::{self, Pools},
    protocol::difficulty_shown,
    report::{
        BackendRow, COMPLAINTS_MAX, Complaint, JobRow, Output, OutputError, PATIENCE, Phase, PoolRow,
        RateRow, Reporter, Since, Snapshot, Watch,
    },
    scheduler::{self, Scheduler},
    upload::{self, Ledger, Limit, Uploader},
    values::{Address, BackendId, Hardness, Job, Moment, Notice, PauseReason, PoolId},
};

/// Time between two samples of the rates.
const SAMPLE: Duration = Duration::from_secs(1);

/// How long a backend may take to stop its rounds before the miner goes on without waiting for it.
const STOP: Duration = Duration::from_secs(2);

/// Messages handled before the clock is looked at again.
const MESSAGES_AT_ONCE: usize = 1000;

/// What other threads tell the loop.
pub(super) enum Message {
    Backend(BackendEvent),
    Fetched { request: u64, result: Result<Vec<u8>, pool::FetchError> },
    Answered { request: u64, outcome: upload::PostOutcome },
    Checked { check: u64, verdicts: Vec<Result<(), Invalid>> },
    Change(Box<Settings>),
    Pause(PauseReason),
    Resume(PauseReason),
    Finish,
    Stop,
}

/// The world as the loop sees it: its clock, and all that blocks and comes back as a [`Message`].
pub(super) trait Outside {
    /// The time since the miner started.
    fn now(&self) -> Moment;
    /// Fetches; comes back as [`Message::Fetched`].
    fn fetch(&mut self, fetch: pool::Fetch);
    /// Posts; comes back as [`Message::Answered`].
    fn post(&mut self, post: upload::Post);
    /// Validates; comes back as [`Message::Checked`].
    fn check(&mut self, check: upload::Check);
    /// From now on there are so many pools, known ones included, and so many uploads to a handler at a time.
    fn resize(&mut self, pools: usize, uploaders: usize);
}

/// The loop's state.
pub(super) struct Loop<O> {
    settings: Settings,
    pools: Pools,
    leader: PoolId,
    fitter: Fitter,
    /// What it said last.
    fits: Option<WorkBits>,
    overflow_watch: OverflowWatch,
    scheduler: Scheduler,
    uploader: Uploader,
    backends: Vec<Slot>,
    reporter: Reporter,
    outside: O,
    /// When the miner started, by the system's clock.
    started: SystemTime,
    stage: Stage,
    next_status: Moment,
    next_sample: Moment,
    /// What is mined, and since when.
    job: Option<JobRow>,
    mined: Stopwatch,
    /// Why mining is paused.
    pauses: BTreeSet<PauseReason>,
    /// The newest warnings and errors; the oldest goes when there are more than [`COMPLAINTS_MAX`].
    complaints: VecDeque<Complaint>,
    watch: Watch,
    /// How often it was asked to stop.
    stops: u32,
    output: Option<Output>,
    display: Option<Display>,
    /// Whether it has been said that stdout is lost.
    output_lost: bool,
}

/// Whom the loop tells what it is about.
pub(super) struct Outputs {
    pub output: Option<Output>,
    pub watch: Watch,
    pub display: Option<Display>,
}

/// A backend's place. It is empty once the backend has failed; the name and the last counters stay.
struct Slot {
    name: String,
    description: String,
    backend: Option<Box<dyn Backend>>,
    counters: Counters,
    /// Why it was stopped for good.
    failed: Option<String>,
}

/// For how long there was something to mine.
#[derive(Clone, Copy, Debug, Default)]
struct Stopwatch {
    before: Duration,
    since: Option<Moment>,
}

impl Stopwatch {
    fn run(&mut self, now: Moment) {
        self.since.get_or_insert(now);
    }

    fn stop(&mut self, now: Moment) {
        *self = Self { before: self.read(now), since: None };
    }

    fn read(&self, now: Moment) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

/// How far the miner is. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Mining,
    /// Backends have been told to stop. Goes on when they have, or at this moment.
    Stopping(Moment),
    /// Uploads go on until this moment.
    Draining(Moment),
    Done,
}

impl<O: Outside> Loop<O> {
    pub fn new(settings: Settings, backends: Vec<Box<dyn Backend>>, outside: O, outputs: Outputs) -> Self {
        let infos: Vec<_> = backends.iter().map(|backend| backend.info().clone()).collect();
        for info in &infos {
            tracing::info!("mining on {}: {}", info.name, info.description);
        }
        let slot = |backend: Box<dyn Backend>| Slot {
            name: backend.info().name.clone(),
            description: backend.info().description.clone(),
            backend: Some(backend),
            counters: Counters::default(),
            failed: None,
        };
        let pools = Pools::new(settings.pools.clone(), settings.pool.clone());
        let names: Vec<_> = (0..pools.len()).map(|pool| pools.label(PoolId(pool)).to_owned()).collect();
        let fitter = Fitter::new(capacity(&settings), assumed_rate(&settings, &infos));
        Self {
            leader: pools.leader(),
            pools,
            fitter,
            fits: None,
            overflow_watch: OverflowWatch::default(),
            scheduler: Scheduler::new(&infos, settings.cancel, fastrand::u32(..)),
            uploader: Uploader::new(&names, backends.len(), settings.upload.clone()),
            reporter: Reporter::new(settings.format, backends.len(), names.len(), Moment::ZERO),
            backends: backends.into_iter().map(slot).collect(),
            started: SystemTime::now().checked_sub(outside.now()).unwrap_or(SystemTime::UNIX_EPOCH),
            outside,
            stage: Stage::Mining,
            next_status: settings.interval,
            next_sample: Moment::ZERO,
            job: None,
            mined: Stopwatch::default(),
            pauses: BTreeSet::new(),
            complaints: VecDeque::new(),
            watch: outputs.watch,
            display: outputs.display,
            stops: 0,
            output: outputs.output,
            output_lost: false,
            settings,
        }
    }

    pub fn run(mut self, messages: &Receiver<Message>) -> Result<Ledger, MinerError> {
        if !self.settings.quiet && self.display.is_none() {
            self.reporter.write_legend();
        }
        while self.stage != Stage::Done {
            self.turn();
            let now = self.now();
            match messages.recv_timeout(self.next_wake().saturating_sub(now)) {
                Ok(message) => {
                    self.message(message);
                    for message in messages.try_iter().take(MESSAGES_AT_ONCE) {
                        self.message(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the shell holds a sender"),
            }
        }
        self.finish()
    }

    /// Does what time alone makes due.
    fn turn(&mut self) {
        self.pools(pool::Event::Tick);
        self.upload(upload::Event::Tick);
        self.report();
        self.advance();
    }

    fn now(&self) -> Moment {
        self.outside.now()
    }

    /// When something is to be done though no message comes.
    fn next_wake(&self) -> Moment {
        let machines = [self.pools.next_wake(), self.uploader.next_wake()].into_iter().flatten();
        let end = match self.stage {
            Stage::Mining => self.settings.duration,
            Stage::Stopping(end) | Stage::Draining(end) => Some(end),
            Stage::Done => Some(Moment::ZERO),
        };
        machines.chain(end).chain([self.next_status, self.next_sample]).min().unwrap_or_default()
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Backend(BackendEvent::Found { backend, found_total, announcements }) => {
                #[cfg(test)]
                if planted(Bug::FoundInPauseIsLost) && !self.pauses.is_empty() {
                    return;
                }
                if let Some(first) = announcements.first() {
                    self.reporter.found(backend, announcements.len(), &first.job);
                }
                self.upload(upload::Event::Found { backend, found_total, announcements });
            }
            Message::Backend(BackendEvent::Ended { backend, round }) => {
                tracing::debug!("round {round}: ended");
                self.schedule(scheduler::Event::Ended { backend, round });
            }
            Message::Backend(BackendEvent::Failed { backend, error }) => self.lose_backend(backend, &error),
            Message::Fetched { request, result } => self.pools(pool::Event::Fetched { request, result }),
            Message::Answered { request, outcome } => {
                tracing::debug!("post {request}: {outcome}");
                #[cfg(test)]
                if planted(Bug::DeafWhileDraining) && matches!(self.stage, Stage::Draining(_)) {
                    return;
                }
                self.upload(upload::Event::Answered { request, outcome });
            }
            Message::Checked { check, verdicts } => self.upload(upload::Event::Checked { check, verdicts }),
            Message::Change(settings) => self.change(*settings),
            Message::Pause(reason) => self.pause(reason),
            Message::Resume(reason) => self.resume(reason),
            Message::Finish => self.asked_to_finish(),
            Message::Stop => self.asked_to_stop(),
        }
    }

    /// Takes over what can change while mining.
    fn change(&mut self, new: Settings) {
        if self.stage != Stage::Mining {
            return;
        }
        let keep = Settings { pools: self.settings.pools.clone(), ..new };
        let pools = if new.pools.is_empty() { keep.pools.clone() } else { new.pools };
        // What was chosen by chance stays.
        let upload = upload::Settings { seed: self.settings.upload.seed, ..keep.upload };
        if keep.cpu.threads != self.settings.cpu.threads {
            self.settings.cpu.threads = keep.cpu.threads;
            self.resize();
        }
        self.next_status = self.next_status.min(self.now() + keep.interval);
        self.settings.interval = keep.interval;
        self.settings.cancel = keep.cancel;
        self.settings.upload = upload.clone();
        self.settings.pool = keep.pool.clone();
        self.fitter.set_capacity(capacity(&self.settings));
        self.schedule(scheduler::Event::Policy(keep.cancel));
        let listed = self.pools.list(pools, keep.pool, self.now());
        self.outside.resize(self.pools.len(), upload.uploaders);
        self.settings.pools = listed.iter().map(|(_, address)| Url::clone(address)).collect();
        let listed = listed.into_iter().map(|(pool, _)| (pool, self.pools.label(pool).to_owned())).collect();
        self.upload(upload::Event::Change { pools: listed, settings: upload });
        self.fit_line();
        self.pools(pool::Event::Tick);
    }

    /// Has every backend that has threads mine with as many as the settings say.
    fn resize(&mut self) {
        let gpus = self.backends.iter().filter(|slot| is_gpu(&slot.name)).count();
        let threads = backend::threads_beside(gpus, self.settings.cpu.threads);
        let mut resized = Vec::new();
        for (index, slot) in self.backends.iter_mut().enumerate() {
            let Some(backend) = &mut slot.backend else { continue };
            match backend.set_threads(threads) {
                None => {}
                Some(Ok(())) => {
                    let info = backend.info();
                    tracing::info!("mining on {}: {}", info.name, info.description);
                    slot.description.clone_from(&info.description);
                    resized.push((BackendId(index), info.capacity));
                }
                Some(Err(error)) => tracing::error!("{error}; mining goes on with as many as before"),
            }
        }
        for (backend, capacity) in resized {
            self.schedule(scheduler::Event::Resized { backend, capacity });
        }
    }

    fn pause(&mut self, reason: PauseReason) {
        if self.stage != Stage::Mining || !self.pauses.insert(reason) {
            return;
        }
        if self.pauses.len() == 1 {
            let now = self.now();
            self.mined.stop(now);
            self.schedule(scheduler::Event::Pause);
        }
        tracing::info!("mining is paused: {}; uploads go on", join(&self.pauses));
        self.publish();
    }

    fn resume(&mut self, reason: PauseReason) {
        if self.stage != Stage::Mining || self.pauses.is_empty() {
            return;
        }
        let was_there = self.pauses.remove(&reason);
        if !self.pauses.is_empty() {
            tracing::info!("mining is still paused: {}", join(&self.pauses));
        } else if was_there {
            tracing::info!("mining goes on");
            let now = self.now();
            if self.job.is_some() {
                self.mined.run(now);
            }
            self.schedule(scheduler::Event::Resume);
        }
        self.publish();
    }

    fn asked_to_finish(&mut self) {
        if self.stage == Stage::Mining {
            tracing::info!(
                "stopping: handing in what was found, for {} s at most (Ctrl-C again to leave at once)",
                self.settings.drain.as_secs()
            );
            self.stop();
        }
    }

    /// The first time mining stops, the second time everything ends.
    fn asked_to_stop(&mut self) {
        self.stops += 1;
        match (self.stops, self.stage) {
            (1, Stage::Mining) => self.asked_to_finish(),
            (1, _) => tracing::info!("stopping already (Ctrl-C again to leave at once)"),
            _ => self.stage = Stage::Done,
        }
    }

    /// Stops mining; what was found is handed in still.
    fn stop(&mut self) {
        if self.stage == Stage::Mining {
            let now = self.now();
            self.mined.stop(now);
            self.pauses.clear();
            self.stage = Stage::Stopping(now + STOP);
            self.schedule(scheduler::Event::Pause);
        }
    }

    /// Goes from stage to stage when the time has come.
    fn advance(&mut self) {
        let now = self.now();
        if self.stage == Stage::Mining {
            let over = self.settings.duration.is_some_and(|duration| now >= duration);
            let unread = matches!(self.output.as_ref().and_then(Output::failure), Some(OutputError::Closed));
            if over || unread || !self.scheduler.has_backends() {
                self.stop();
            }
        }
        if let Stage::Stopping(end) = self.stage
            && (self.scheduler.rounds_held() == 0 || now >= end)
        {
            self.stage = Stage::Draining(now + self.settings.drain);
            self.upload(upload::Event::Drain);
        }
        if let Stage::Draining(end) = self.stage
            && (self.uploader.is_idle() || now >= end)
        {
            self.stage = Stage::Done;
        }
    }

    fn finish(mut self) -> Result<Ledger, MinerError> {
        self.upload(upload::Event::Finish);
        let snapshot = self.publish();
        self.watch.end();
        if let Some(display) = self.display.take() {
            display.close();
        }
        self.reporter.log_totals(&snapshot);
        let totals = self.reporter.totals_text(&snapshot);
        let written = self.output.take().map_or(Ok(0), |output| output.finish(totals, PATIENCE));
        if !self.scheduler.has_backends() {
            return Err(MinerError::NoBackend);
        }
        if self.scheduler.job().is_none() {
            let reason = self.pools.last_error(self.pools.leader()).unwrap_or("it did not answer in time");
            return Err(MinerError::NoWork(reason.to_owned()));
        }
        match written {
            Err(error @ (OutputError::Failed(_) | OutputError::Stalled)) => Err(MinerError::Output(error)),
            Err(OutputError::Closed) | Ok(0) => Ok(snapshot.ledger),
            Ok(left_out) => {
                tracing::warn!("stdout was not always read, so {left_out} status lines were left out");
                Ok(snapshot.ledger)
            }
        }
    }

    /// The state as it is now, with the rates of the newest sample.
    fn snapshot(&mut self) -> Snapshot {
        for slot in &mut self.backends {
            if let Some(backend) = &slot.backend {
                slot.counters = backend.counters();
            }
        }
        let ledger = self.uploader.snapshot();
        // What a backend has found and what the ledger has of it are a message apart: the ledger is told.
        let backends = self.backends.iter().zip(&ledger.found_by).map(|(slot, found)| BackendRow {
            name: slot.name.clone(),
            description: slot.description.clone(),
            failed: slot.failed.clone(),
            counters: Counters { found: *found, ..slot.counters },
            work: 0.0,
            rates: RateRow::default(),
        });
        let pools = (0..self.pools.len()).map(PoolId).map(|pool| {
            let removed = !self.pools.is_listed(pool);
            // Nobody asks it any more: what it said last is no news.
            if removed {
                return PoolRow { removed, ..PoolRow::default() };
            }
            PoolRow {
                removed,
                leads: pool == self.pools.leader(),
                up: self.pools.is_up(pool),
                complaint: self.pools.last_error(pool).map(str::to_owned),
                // A view says nothing before there are handlers in it.
                tip_height: self.pools.view(pool).map(|view| view.tip_height).filter(|height| *height > 0),
                upload_mbit_per_s: [0.0; 3],
            }
        });
        let now = self.now();
        let mut snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            now,
            time: SystemTime::now(),
            started: self.started,
            own_pool: self.settings.own_pool,
            phase: match self.stage {
                Stage::Mining if self.pauses.is_empty() => Phase::Mining,
                Stage::Mining => Phase::Paused,
                Stage::Stopping(_) | Stage::Draining(_) => Phase::Draining,
                Stage::Done => Phase::Done,
            },
            pauses: self.pauses.iter().copied().collect(),
            job: self.job.clone().map(|row| {
                let (asked, hardness) = self.pools.hardness();
                JobRow { asked, hardness, ..row }
            }),
            max_upload_mbit_per_s: self.settings.upload.limit.map(Limit::mbit_per_s),
            mined: self.mined.read(now),
            work: 0.0,
            rates: RateRow::default(),
            backends: backends.collect(),
            pools: pools.collect(),
            ledger,
            complaints: self.complaints.iter().cloned().collect(),
        };
        self.reporter.fill(&mut snapshot);
        snapshot
    }

    /// Tells all readers what it is about now.
    fn publish(&mut self) -> Snapshot {
        let snapshot = self.snapshot();
        self.watch.publish(snapshot.clone());
        snapshot
    }

    fn report(&mut self) {
        let now = self.now();
        if now < self.next_sample && now < self.next_status {
            return;
        }
        self.next_sample = now + SAMPLE;
        let mut snapshot = self.snapshot();
        self.reporter.sample(&snapshot);
        self.reporter.fill(&mut snapshot);
        if now >= self.next_status {
            self.next_status = now + self.settings.interval;
            if !self.settings.quiet {
                self.tell(&snapshot);
            }
        }
        self.watch.publish(snapshot);
        self.watch_output();
        self.fit_line();
    }

    /// Has announcements mined that are as hard as they must be for the line, and looks whether it is too slow.
    fn fit_line(&mut self) {
        let (now, ledger) = (self.now(), self.uploader.snapshot());
        let counters = self.backends.iter().map(|slot| match &slot.backend {
            Some(backend) => backend.counters().hashes,
            None => slot.counters.hashes,
        });
        let hashes = counters.sum();
        let handlers = || {
            let of_listed = |(place, _): &(usize, _)| self.pools.is_listed(PoolId(*place));
            let accounts = ledger.pools.iter().enumerate().filter(of_listed);
            let handlers = accounts.flat_map(|(_, account)| &account.handlers);
            handlers.filter(|handler| handler.trouble.is_none())
        };
        let observed = line::Observed {
            hashes,
            waiting: handlers().map(|handler| handler.queued).sum(),
            mining: self.stage == Stage::Mining && self.pauses.is_empty() && self.job.is_some(),
        };
        let refuses = |pool, url: &Address| self.uploader.is_refused_by(pool, url);
        let fits = self.fitter.observe(observed, |easiest| self.pools.takers(easiest, refuses), now);
        let overflow = handlers().map(|handler| handler.overflow).sum();
        let sent = ledger.pools.iter().map(|account| account.bytes_uploaded).sum();
        let limit = self.settings.upload.limit.map(Limit::mbit_per_s);
        if let Some(notice) = self.overflow_watch.observe(overflow, sent, limit, now) {
            self.note(&notice);
        }
        if fits != self.fits && self.stage == Stage::Mining {
            self.fits = fits;
            self.pools(pool::Event::Fits(fits));
        }
    }

    /// Writes a status line.
    fn tell(&self, snapshot: &Snapshot) {
        self.reporter.log(snapshot);
        let Some(text) = self.reporter.status_text(snapshot) else { return };
        match (&self.display, &self.output) {
            (Some(display), _) => display.status(text),
            (None, Some(output)) => output.write(text),
            (None, None) => {}
        }
    }

    /// Says something in the log, and remembers it if it is a complaint.
    fn note(&mut self, notice: &Notice) {
        notice.log();
        if notice.level <= tracing::Level::WARN {
            if self.complaints.len() == COMPLAINTS_MAX {
                self.complaints.pop_front();
            }
            let is_error = notice.level == tracing::Level::ERROR;
            self.complaints.push_back(Complaint { at: self.now(), is_error, text: notice.text.clone() });
        }
    }

    /// Takes note of what is mined from now on.
    fn begin(&mut self, job: &Job) {
        let now = Since { moment: self.now(), time: SystemTime::now() };
        let same_block = self.job.as_ref().filter(|row| row.job.parent_hash == job.parent_hash);
        let block_since = same_block.map_or(now, |row| row.block_since);
        let (asked, hardness) = self.pools.hardness();
        self.job = Some(JobRow { job: job.clone(), since: now, block_since, asked, hardness });
        if self.pauses.is_empty() {
            self.mined.run(now.moment);
        }
    }

    /// Mining ends when nobody reads its results any more, as a command in a pipe should; on a full disk it goes on.
    fn watch_output(&mut self) {
        let failure = self.output.as_ref().and_then(Output::failure);
        if let Some(failure) = failure.filter(|_| !self.output_lost) {
            match failure {
                OutputError::Closed => tracing::info!("stopping: {failure}"),
                failure => tracing::error!("{failure}; mining goes on"),
            }
            self.output_lost = true;
        }
    }

    fn pools(&mut self, event: pool::Event) {
        for effect in self.pools.handle(event, self.now()) {
            match effect {
                pool::Effect::Fetch(fetch) => {
                    tracing::debug!("fetch {}: {}", fetch.request, fetch.url);
                    self.outside.fetch(fetch);
                }
                pool::Effect::View { pool, view } => {
                    if pool == self.pools.leader() {
                        self.schedule(scheduler::Event::View(view.clone()));
                    }
                    #[cfg(test)]
                    if planted(Bug::SecondariesUnheard) && pool != self.pools.leader() {
                        continue;
                    }
                    self.upload(upload::Event::View { pool, view });
                }
                // Whoever is about to leave has no use for it.
                pool::Effect::Mine(_) if self.stage != Stage::Mining => {}
                pool::Effect::Mine(job) => {
                    tracing::info!(
                        "mining on block {} ({:.16}…), difficulty {:.0} ({}){}",
                        job.parent_height,
                        job.parent_hash.to_string(),
                        difficulty_shown(job.work_bits),
                        job.work_bits,
                        why_harder(self.pools.hardness())
                    );
                    self.begin(&job);
                    self.schedule(scheduler::Event::Mine(job));
                }
                pool::Effect::Note(notice) => self.note(&notice),
            }
        }
        let leader = self.pools.leader();
        if leader != self.leader {
            self.leader = leader;
            if let Some(view) = self.pools.view(leader) {
                self.schedule(scheduler::Event::View(view.clone()));
            }
        }
    }

    fn schedule(&mut self, event: scheduler::Event) {
        for effect in self.scheduler.handle(event) {
            match effect {
                scheduler::Effect::Start { backend, rounds } => {
                    for round in &rounds {
                        let (id, height, first) =
                            (round.id, round.job.parent_height, round.hard_nonces.first);
                        tracing::debug!(
                            "round {id}: block {height}, hard nonces from {first}, to backend {}",
                            backend.0
                        );
                    }
                    if let Some(backend) = &mut self.backends[backend.0].backend {
                        backend.start(rounds);
                    }
                }
                scheduler::Effect::Cancel { backend, rounds, reach } => {
                    tracing::debug!("rounds {rounds:?} cancelled ({reach:?})");
                    if let Some(backend) = &mut self.backends[backend.0].backend {
                        backend.cancel(&rounds, reach);
                    }
                }
                scheduler::Effect::Note(notice) => self.note(&notice),
            }
        }
    }

    fn upload(&mut self, event: upload::Event) {
        for effect in self.uploader.handle(event, self.now()) {
            match effect {
                upload::Effect::Post(post) => {
                    tracing::debug!(
                        "post {}: {} announcements to {}",
                        post.request,
                        post.batch.len(),
                        post.url
                    );
                    self.outside.post(post);
                }
                upload::Effect::Check(check) => {
                    tracing::debug!("check {}: {} announcements", check.check, check.announcements.len());
                    self.outside.check(check);
                }
                upload::Effect::TargetRefused { pool, work_bits } => {
                    self.pools(pool::Event::TargetRefused { pool, work_bits });
                }
                upload::Effect::Doubted { pool } => self.pools(pool::Event::Doubted { pool }),
                upload::Effect::BackendErred { backend, verdict } => {
                    let error = format!("it found an announcement that does not validate: {verdict}");
                    self.lose_backend(backend, &error);
                }
                upload::Effect::Note(notice) => self.note(&notice),
            }
        }
    }

    /// Stops a backend for good; the others go on.
    fn lose_backend(&mut self, backend: BackendId, error: &str) {
        let slot = &mut self.backends[backend.0];
        let Some(lost) = slot.backend.take() else { return };
        slot.counters = lost.counters();
        slot.failed = Some(error.to_owned());
        let notice = Notice::error(format!("backend {} is stopped for good: {error}", slot.name));
        self.note(&notice);
        // Dropping waits for the backend's threads, which may hang: that is not to hold up anything else.
        if let Err(error) = thread::Builder::new().name("stop".into()).spawn(move || drop(lost)) {
            tracing::error!("no thread to stop backend {} in: {error}", backend.0);
        }
        self.schedule(scheduler::Event::Failed { backend });
    }
}

/// Announcements a second that the line takes, if the user has said.
fn capacity(settings: &Settings) -> Option<f64> {
    settings.upload.limit.map(Limit::announcements_per_s)
}

/// The hash rate that is assumed until it is measured.
fn assumed_rate(settings: &Settings, backends: &[BackendInfo]) -> f64 {
    let processors = || thread::available_parallelism().map_or(1, NonZero::get);
    let (cards, others) = backends.iter().partition::<Vec<_>, _>(|info| is_gpu(&info.name));
    let threads =
        if others.is_empty() { 0 } else { settings.cpu.threads.map_or_else(processors, NonZero::get) };
    line::assumed(threads, cards.len())
}

fn is_gpu(backend: &str) -> bool {
    backend.starts_with("gpu")
}

/// Why the job is harder than the pool asks for, for the log.
fn why_harder((asked, hardness): (Option<WorkBits>, Hardness)) -> String {
    match (asked, hardness) {
        (Some(asked), Hardness::MinDifficulty | Hardness::MaxUpload) => {
            format!(" for --{hardness}: the pool asks for {:.0}", difficulty_shown(asked))
        }
        _ => String::new(),
    }
}

/// Reasons to pause, in one line.
fn join(reasons: &BTreeSet<PauseReason>) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
