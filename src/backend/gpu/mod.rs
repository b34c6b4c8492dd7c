//! The GPU backend: whole rounds on devices with compute shaders, many rounds at once.
//!
//! # What lies where on the device
//!
//! A batch has `slots` rounds. All buffers are arrays of 32-bit words, little-endian as the specification has them.
//!
//! | buffer | shape | what it holds |
//! |---|---|---|
//! | tables | slot, item 0..8192, 256 words | table 1's items until they are hashed, then table 2's |
//! | trees | slot, node 0..16384, 16 words | table 1's Merkle tree: leaves, then level by level, root at node 16382 |
//! | programs | slot, see `program` | what a table is made from: instructions, words of MEM, initial state |
//! | executed | run, lane 0..1792, 512 words | states behind both cycles, item number not yet added |
//! | states | state, 512 words | soft nonces in search |

mod adapters;
mod batch;
mod context;
mod driver;
mod host;
mod pace;
mod passes;
mod plan;
mod primitives;
mod recovery;
mod source;
#[cfg(test)]
mod testing;

use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

pub use self::{
    adapters::{About, Adapter, Feature, Kind, NO_DEVICE, Selection, UnknownDevice, list},
    context::GpuError,
    plan::{Limits, Plan},
};
use self::{
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
}

/// Mines on one device.
pub struct GpuBackend<P> {
    info: BackendInfo,
    sender: mpsc::Sender<Message<P>>,
    counters: Arc<Mutex<Counters>>,
    thread: Option<JoinHandle<()>>,
}

/// A device that is being opened and proves itself, on its own thread.
struct Opening<P> {
    name: String,
    description: String,
    sender: mpsc::Sender<Message<P>>,
    opened: mpsc::Receiver<Result<(Plan, Arc<Mutex<Counters>>), GpuError>>,
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
    fn opened(&self) -> Result<(Plan, Arc<Mutex<Counters>>), GpuError> {
        let gone = || GpuError::Lost { adapter: self.name.clone(), reason: "its thread panicked".into() };
        self.opened.recv().map_err(|_| gone())?
    }

    /// Has it mine.
    fn start(
        self,
        (plan, counters): (Plan, Arc<Mutex<Counters>>),
        id: BackendId,
        sink: Sink,
    ) -> GpuBackend<P> {
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
