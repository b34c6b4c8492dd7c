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
//! | `driver`, `recovery` | the device's thread, and what becomes of a device that fails |
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
//! ever after, and stops it at the first bad one. A device that is lost is opened again from the start, a few times with
//! longer and longer pauses; rounds of which nothing was found are mined again, the others end. Want of memory halves the
//! batch. A shader that does not compile, work that is refused, and wrong results stop the device for good; other
//! backends go on.
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
mod source;
#[cfg(test)]
mod testing;
mod tuning;

use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

pub use self::{
    adapters::{About, Adapter, Feature, Kind, NO_DEVICE, Selection, UnknownDevice, list, may_have_card},
    context::GpuError,
    plan::{Limits, Plan, PlanError},
    tuning::Tuning,
};
use self::{
    device::GpuOpener,
    driver::{Device, Driver, Message, Opener, ProgramOf},
    host::{CANDIDATES, Host},
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
    let others = others.join(", ");
    format!(
        "there is no graphics card to mine on; what shares the processor is used with --device only: {others}"
    )
}

/// Opens the devices that the user means, all at the same time, and has each prove itself. Those that cannot be used are
/// told in the log; the others are given the numbers from 0 on.
///
/// # Errors
/// If there is none, or none that can be used.
pub fn start(settings: &Settings, sink: &Sink) -> Result<Vec<Box<dyn Backend>>, StartError> {
    let all: Vec<About> = list().into_iter().map(|adapter| adapter.about).collect();
    let chosen = settings.devices.choose(&all.iter().collect::<Vec<_>>())?;
    if chosen.is_empty() {
        let others = all.iter().enumerate().map(|(index, about)| format!("{index} {}", about.name));
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
        let About { name: device, interface, driver, .. } = &all[*index];
        let name = format!("gpu {index}");
        let description = format!("{device} ({interface}, {driver})");
        let failed = |reason: String| StartError::Threads { name: name.clone(), reason };
        let host = Host::new((processors / chosen.len()).clamp(1, HOST_THREADS));
        let host = host.map_err(|error| failed(error.to_string()))?;
        let opening = Opening::begin(opener, name.clone(), description, host);
        openings.push(opening.map_err(|error| failed(error.to_string()))?);
    }
    let mut backends: Vec<Box<dyn Backend>> = Vec::new();
    for (opening, index) in openings.into_iter().zip(&chosen) {
        match opening.opened() {
            Ok(opened) => {
                let mut backend = opening.start(opened, BackendId(backends.len()), sink.clone());
                backend.info.bus = Some(all[*index].bus.clone()).filter(|bus| !bus.is_empty());
                backends.push(Box::new(backend));
            }
            Err(error) => tracing::error!("{} is not used: {error}", opening.name),
        }
    }
    if backends.is_empty() { Err(StartError::Failed(chosen.len())) } else { Ok(backends) }
}

/// Threads that make programs for a device, at most: two dozen tables a millisecond.
const HOST_THREADS: usize = 8;

/// Mines on one device.
pub struct GpuBackend<P> {
    info: BackendInfo,
    sender: mpsc::Sender<Message<P>>,
    counters: Arc<Mutex<Counters>>,
    thread: Option<JoinHandle<()>>,
}

/// A device that has proved itself: how it is used, and its counters.
type Opened = (Plan, Arc<Mutex<Counters>>);

/// A device that is being opened and proves itself, on its own thread.
struct Opening<P> {
    name: String,
    description: String,
    sender: mpsc::Sender<Message<P>>,
    opened: mpsc::Receiver<Result<Opened, GpuError>>,
    go: mpsc::Sender<(BackendId, Sink)>,
    thread: JoinHandle<()>,
}

impl<P: Send + 'static> Opening<P> {
    /// Begins to open a device. `name` and `description` are for [`BackendInfo`].
    ///
    /// # Errors
    /// If the system gives no thread.
    fn begin<O>(opener: O, name: String, description: String, host: Host) -> std::io::Result<Self>
    where
        O: Opener + Send + 'static,
        O::Device: Device<Program = P>,
    {
        let (sender, inbox) = mpsc::channel::<Message<ProgramOf<O>>>();
        let (tell, opened) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let channel = (sender.clone(), inbox);
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            match Driver::open(opener, host, channel) {
                Ok(driver) => {
                    let _ = tell.send(Ok((driver.plan(), driver.counters())));
                    // Where nobody gives it a number, nobody wants it.
                    if let Ok((id, sink)) = wait.recv() {
                        driver.run(id, sink);
                    }
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        })?;
        Ok(Self { name, description, sender, opened, go, thread })
    }

    /// Waits until the device has proved itself.
    fn opened(&self) -> Result<Opened, GpuError> {
        let gone = || GpuError::Lost { adapter: self.name.clone(), reason: "its thread panicked".into() };
        self.opened.recv().map_err(|_| gone())?
    }

    /// Has it mine.
    fn start(self, (plan, counters): Opened, id: BackendId, sink: Sink) -> GpuBackend<P> {
        let _ = self.go.send((id, sink));
        let rounds = plan.slots;
        GpuBackend {
            info: BackendInfo {
                name: self.name,
                description: format!(
                    "{}, {rounds} round{} at once",
                    self.description,
                    if rounds == 1 { "" } else { "s" }
                ),
                bus: None,
                capacity: plan.rounds_held(),
                candidates: CANDIDATES,
            },
            sender: self.sender,
            counters,
            thread: Some(self.thread),
        }
    }
}

impl<P: Send> Backend for GpuBackend<P> {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn start(&mut self, rounds: Vec<Round>) {
        // A thread that is gone has failed and said so.
        let _ = self.sender.send(Message::Start(rounds));
    }

    fn cancel(&mut self, rounds: &[u64], reach: Reach) {
        let _ = self.sender.send(Message::Cancel(rounds.to_vec(), reach));
    }

    fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> Drop for GpuBackend<P> {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::Close);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}
