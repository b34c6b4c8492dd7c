//! The GPU backend: whole rounds on devices with compute shaders, many rounds at once.
//!
//! # Who does what
//!
//! Each device is a backend of its own, with its own thread, queue and hard nonces.
//!
//! | module | |
//! |---|---|
//! | `adapters` | which devices there are, and which the user means |
//! | `plan`, `pace` | how many rounds at once, and how much of a kind of work in a submission: pure functions |
//! | `batch` | the life of batches: a state machine that says what to submit next |
//! | `driver` | the backend's thread: owns the batches, waits for nothing but messages |
//! | `remote` | the device's thread: the only one that the device's driver can hold up |
//! | `recovery` | what becomes of a device that fails: a state machine |
//! | `host` | threads that choose hard nonces and make programs |
//! | `device` | memory, encoding, reading back |
//! | `tuning` | what only hardware can decide, in one place |
//! | `passes`, `program` | the shaders' host sides, and programs in the form that they run |
//! | `context`, `source`, `primitives` | an open device, and shaders put together from parts |
//!
//! Only `context`, `device`, `adapters` and `passes` know the device library. The driver is tested against a device that
//! the processor plays, the batches against one that only keeps books.
//!
//! # A batch
//!
//! Rounds of one job, as many as the plan has slots, lie in a *place* of device memory. There are three places: while one
//! batch is searched, the tables of the next are there already or are made in the gaps, in which the host makes programs.
//! Two submissions are in flight, so that the device has the next one when it ends one, and no more, so that a new job
//! finds little in its way: nothing is submitted for a round that was cancelled. A submission takes about 100 ms, by
//! its time stamps. Table 1 is overwritten by table 2 once it is hashed.
//!
//! What crosses between host and device: up, programs of some 14 KiB and 2 KiB a search, in one buffer for each
//! submission in flight; down, 64 bytes for each root, then finished announcements with their hashes, 1088 bytes each,
//! into a buffer for 32,768 at most. No more is searched at a time than there is room for: if there are more
//! announcements nevertheless (a chance of 10⁻¹⁵), none of that submission is taken, and its soft nonces are searched
//! again in halves. The processor's kernels have no part in it; what the host does is RandGen and a few hashes a round.
//!
//! Not every driver says that it gave a submission up. So each answer has to show that it is its submission's
//! (`passes::done`), and each announcement that its round was searched for it just then; otherwise the device counts as
//! lost.
//!
//! # Proof and failure
//!
//! A device proves itself before it mines, each time it is opened: every slot of a batch mines a known round, through the
//! same code as all others, and must find its announcements byte by byte. The uploader validates a sample of what it finds
//! ever after, and stops it at the first bad one. A device that is lost or cannot be opened, at first too, is opened again
//! from the start, a few times with longer and longer pauses; rounds of which nothing was found are mined again, the others
//! end. Each loss makes its first submissions smaller; the second one, and want of memory, halve the batch. Where shaders do
//! not compile or compute wrongly the first time, simpler ones are tried ([`Tuning::variants`]), unless the user has chosen.
//! Work that is refused, and wrong results after right ones, stop the device for good; other backends go on.
//!
//! A driver can stop answering in any call, and nothing can end that call. So it holds up the device's own thread only: the
//! device is taken for lost, its rounds are given back, and no other is opened in its place while the driver has not let go
//! of it. At the end that thread is left behind.
//!
//! # What lies where on the device
//!
//! A batch has `slots` rounds. All buffers are arrays of 32-bit words, little-endian as the specification has them.
//!
//! | buffer | one for each | shape | what it holds |
//! |---|---|---|---|
//! | tables | place | slot, item 0..8192, 256 words | table 1's items until they are hashed, then table 2's |
//! | trees | place | slot, node 0..16384, 16 words | table 1's Merkle tree: leaves, then level by level, root at node 16382 |
//! | programs | place | slot, see `program` | what a table is made from: instructions, words of MEM, initial state |
//! | rounds | place | slot, 576 words | header, target and initial state of a search |
//! | executed | device | unit, lane 0..1792, 512 words | states behind both cycles, item number not yet added |
//! | scratch | device | unit, see `passes::execute` | registers |
//! | states | device | state, 512 words | soft nonces in search |
//! | outputs | submission in flight | record, 272 words | announcements with their hashes and slots |
//! | sent, done | submission in flight | 2 words | the number of the submission; of the last that was carried out |

mod adapters;
mod batch;
mod context;
mod device;
mod driver;
mod host;
mod pace;
mod passes;
mod plan;
mod primitives;
mod program;
mod recovery;
mod remote;
mod source;
#[cfg(test)]
mod testing;
mod tuning;

use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use self::{
    adapters::{About, Adapter, Feature, Kind, NO_DEVICE, Selection, UnknownDevice, list, may_have_card},
    context::GpuError,
    plan::{Limits, Plan, PlanError},
    tuning::Tuning,
};
use self::{
    device::GpuOpener,
    driver::{Device, Driver, Message, Opener, ProgramOf, Standing},
    host::{CANDIDATES, Host},
    recovery::Patience,
};
use super::{Backend, BackendInfo, Counters, Reach, Sink};
use crate::values::{BackendId, Round};

/// What the user can say of the GPU backend.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which devices mine.
    pub devices: Selection,
    /// Rounds of a batch; `None`: what suits the device.
    pub rounds: Option<NonZero<u32>>,
    /// What is to be set otherwise than by default, for measuring.
    pub tuning: Tuning,
    /// Whether a device that is not ready in time mines later, instead of not at all.
    pub late: bool,
}

/// The GPU backend cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The user means a device that is not there.
    #[error(transparent)]
    Unknown(#[from] UnknownDevice),
    /// There is no device that is used of its own accord.
    #[error("{}", nothing_suitable(others))]
    Nothing {
        /// Those that are used if the user says so.
        others: Vec<String>,
    },
    /// None of the devices takes as many rounds as the user wants.
    #[error("{adapter} cannot mine: {reason}")]
    Rounds {
        /// The first of them.
        adapter: String,
        /// How many it takes.
        reason: PlanError,
    },
    /// None of the devices can be used; why has been said.
    #[error("none of the {0} GPUs can be used; the log above says why")]
    Failed(usize),
    /// The system gives no more threads.
    #[error("cannot start threads for {name}: {reason}")]
    Threads {
        /// The device.
        name: String,
        /// What the system said.
        reason: String,
    },
}

fn nothing_suitable(others: &[String]) -> String {
    if others.is_empty() {
        return format!("there is no GPU to mine on: {NO_DEVICE}");
    }
    format!(
        "there is no graphics card to mine on; what shares the processor mines only when it is named: {}",
        others.join(", ")
    )
}

/// Opens the devices that the user means, all at the same time, and has each prove itself. Those that cannot be used are
/// told in the log; the others are given the numbers from 0 on. One that is not ready after a minute, or, where it may be
/// late, could not be opened at once, keeps nobody waiting.
///
/// # Errors
/// If there is none, or none that can be used.
pub fn start(settings: &Settings, sink: &Sink) -> Result<Vec<Box<dyn Backend>>, StartError> {
    let all: Vec<About> = list().into_iter().map(|adapter| adapter.about).collect();
    let chosen = settings.devices.choose(&all.iter().collect::<Vec<_>>())?;
    if chosen.is_empty() {
        let name = |(index, about): (usize, &About)| format!("--device {index} ({})", about.name);
        let others = all.iter().enumerate().map(name);
        return Err(StartError::Nothing { others: others.collect() });
    }
    let too_many = |index: &usize| match Plan::new(all[*index].limits, settings.rounds) {
        Err(reason @ PlanError::TooMany { .. }) => Some((all[*index].name.clone(), reason)),
        _ => None,
    };
    let too_many = chosen.iter().map(too_many).collect::<Option<Vec<_>>>().unwrap_or_default();
    if let Some((adapter, reason)) = too_many.into_iter().next() {
        return Err(StartError::Rounds { adapter, reason });
    }
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let mut openings = Vec::new();
    for index in &chosen {
        let opener = GpuOpener::new(&all, *index, settings);
        let About { name: device, interface, driver, bus, .. } = &all[*index];
        let name = format!("gpu {index}");
        let plan = match opener.plan() {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!("{name} is not used: {error}");
                continue;
            }
        };
        let info = BackendInfo {
            name: name.clone(),
            description: format!("{device} ({interface}, {driver})"),
            bus: Some(bus.clone()).filter(|bus| !bus.is_empty()),
            capacity: 0,
            candidates: CANDIDATES,
        };
        let failed = |reason: String| StartError::Threads { name: name.clone(), reason };
        let host = Host::new((processors / chosen.len()).clamp(1, HOST_THREADS));
        let host = host.map_err(|error| failed(error.to_string()))?;
        let opening = Opening::begin(opener, plan, info, host, Patience::default());
        openings.push(opening.map_err(|error| failed(error.to_string()))?);
    }
    // Those that cannot join later are waited for as long as drivers may take.
    let until = Instant::now() + if settings.late { READY } else { Patience::default().opening };
    let mut backends: Vec<Box<dyn Backend>> = Vec::new();
    for opening in openings {
        let name = opening.info.name.clone();
        match opening.ready(until, settings.late) {
            Ok(ready) => backends.push(Box::new(ready.start(BackendId(backends.len()), sink.clone()))),
            Err(error) => tracing::error!("{name} is not used: {error}"),
        }
    }
    if backends.is_empty() { Err(StartError::Failed(chosen.len())) } else { Ok(backends) }
}

/// How long devices may take until they are ready; then others begin without them.
const READY: Duration = Duration::from_secs(60);

/// Threads that make programs for a device, at most: two dozen tables a millisecond.
const HOST_THREADS: usize = 8;

/// Mines on one device.
pub struct GpuBackend<P> {
    info: BackendInfo,
    driver: DriverThread<P>,
    counters: Arc<Mutex<Counters>>,
}

/// A driver's thread. It is ended when this is dropped; what the device's own driver does then keeps it for a few seconds at
/// most.
struct DriverThread<P> {
    sender: mpsc::Sender<Message<P>>,
    thread: Option<JoinHandle<()>>,
}

/// A device that is being opened and proves itself, on threads of its own.
struct Opening<P> {
    /// Without its capacity.
    info: BackendInfo,
    /// How it is used, unless its memory is too small.
    plan: Plan,
    driver: DriverThread<P>,
    counters: Arc<Mutex<Counters>>,
    standing: mpsc::Receiver<Standing>,
}

impl<P: Send + Sync + 'static> Opening<P> {
    /// Begins to open a device.
    ///
    /// # Errors
    /// If the system gives no thread.
    fn begin<O>(
        opener: O,
        plan: Plan,
        info: BackendInfo,
        host: Host,
        patience: Patience,
    ) -> std::io::Result<Self>
    where
        O: Opener,
        O::Device: Device<Program = P>,
    {
        let (sender, inbox) = mpsc::channel::<Message<ProgramOf<O>>>();
        let (tell, standing) = mpsc::channel();
        let driver = Driver::new(opener, plan, host, (sender.clone(), inbox), tell, patience);
        let counters = driver.counters();
        let thread = thread::Builder::new().name(info.name.clone()).spawn(move || driver.run())?;
        let driver = DriverThread { sender, thread: Some(thread) };
        Ok(Self { info, plan, driver, counters, standing })
    }

    /// Waits until the device has proved itself; where it may be `late`, no longer than until it is known to take its time.
    ///
    /// # Errors
    /// If it cannot be used, or is not ready in time and may not be late.
    fn ready(mut self, until: Instant, late: bool) -> Result<Self, GpuError> {
        let adapter = self.info.description.clone();
        loop {
            match self.standing.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Standing::Ready(plan)) => {
                    self.plan = plan;
                    return Ok(self);
                }
                Ok(Standing::Failed(error)) => return Err(error),
                Ok(Standing::Delayed) if !late => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(GpuError::Lost { adapter, reason: "its thread panicked".into() });
                }
                Err(mpsc::RecvTimeoutError::Timeout) if !late => {
                    return Err(GpuError::Open { adapter, reason: "it was not ready in time".into() });
                }
                Ok(Standing::Delayed) | Err(mpsc::RecvTimeoutError::Timeout) => {
                    tracing::warn!("{} mines as soon as it is open and has proved itself", self.info.name);
                    return Ok(self);
                }
            }
        }
    }

    /// Has it mine.
    fn start(self, id: BackendId, sink: Sink) -> GpuBackend<P> {
        let Self { info, plan, driver, counters, .. } = self;
        let _ = driver.sender.send(Message::Go(id, sink));
        let rounds = plan.slots;
        let plural = if rounds == 1 { "" } else { "s" };
        let description = format!("{}, {rounds} round{plural} at once", info.description);
        let info = BackendInfo { description, capacity: plan.rounds_held(), ..info };
        GpuBackend { info, driver, counters }
    }
}

impl<P: Send> Backend for GpuBackend<P> {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn start(&mut self, rounds: Vec<Round>) {
        // A thread that is gone has failed and said so.
        let _ = self.driver.sender.send(Message::Start(rounds));
    }

    fn cancel(&mut self, rounds: &[u64], reach: Reach) {
        let _ = self.driver.sender.send(Message::Cancel(rounds.to_vec(), reach));
    }

    fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> Drop for DriverThread<P> {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::Close);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}
