//! Backends: what turns rounds into announcements, on one kind of device.
//!
//! A backend is handed rounds and holds several at a time, as many as [`BackendInfo::capacity`] says: some that it
//! works on and some that wait, so that a device never waits for the scheduler. A CPU backend has teams of threads
//! that share rounds; a GPU takes its rounds in batches. What it has to say, it says as [`BackendEvent`]s, from
//! threads of its own.

pub mod choose;
pub mod cpu;
pub mod gpu;

use std::{
    num::NonZero,
    ops::{Index, IndexMut},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::values::{BackendId, Found, Round};

/// Turns rounds into announcements. None of the calls blocks for longer than it takes to pass a message on.
///
/// Dropping a backend stops its work and waits for its threads.
pub trait Backend: Send {
    /// What it is and how much it takes.
    fn info(&self) -> &BackendInfo;

    /// Takes rounds to mine, after those that it holds already. More than its capacity may be held for a moment,
    /// while cancelled rounds come to their end.
    fn start(&mut self, rounds: Vec<Round>);

    /// Ends rounds before their time. Each of them still ends with [`BackendEvent::Ended`], and what was found
    /// until then counts. Identifiers of rounds that have ended already are ignored.
    fn cancel(&mut self, rounds: &[u64], reach: Reach);

    /// What it has done since it started.
    fn counters(&self) -> Counters;

    /// Mines with another number of threads from now on (`None`: as many as the machine has processors), if it is a
    /// backend with threads; `None` if not. Rounds at work are given up, and end as all rounds do; those that wait
    /// stay. [`BackendInfo::capacity`] is another one then.
    ///
    /// # Errors
    /// If the threads cannot be had; those that there are go on.
    fn set_threads(&mut self, threads: Option<NonZero<usize>>) -> Option<Result<(), String>> {
        let _ = threads;
        None
    }
}

/// How far cancelling goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Rounds that nobody works on yet; others run to their end.
    Waiting,
    /// Those at work too, at once.
    Running,
}

/// What a backend is and how much it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// For the log and the status: "cpu", "gpu 0".
    pub name: String,
    /// One line that says what runs, and why.
    pub description: String,
    /// Where its device sits, such as "0000:0a:00.0", if it is one that sits somewhere.
    pub bus: Option<String>,
    /// Rounds that it wants to hold, at work and waiting.
    pub capacity: usize,
    /// Hard nonces that it can make use of in each round; 1 for one that takes what it gets.
    pub candidates: u32,
}

/// What a backend has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Announcements found.
    pub found: u64,
    /// Soft nonces hashed.
    pub hashes: u64,
    /// Items made, of both tables.
    pub items: u64,
    /// Rounds that ran to their end.
    pub rounds: u64,
    /// Time spent on each step of its rounds.
    pub steps: Steps,
}

/// The steps of a round, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Choosing a hard nonce, the program of table 1 included.
    Choice,
    /// Making the items of table 1 and hashing them to leaves.
    Table1,
    /// The Merkle tree above the leaves.
    Tree,
    /// Making table 2, its program included.
    Table2,
    /// Hashing soft nonces, and building the announcements found.
    Search,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Choice, Self::Table1, Self::Tree, Self::Table2, Self::Search];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Choice => "choice",
            Self::Table1 => "table 1",
            Self::Tree => "tree",
            Self::Table2 => "table 2",
            Self::Search => "search",
        }
    }
}

/// Time by [`Step`]: that of each thread or queue that worked on it, added up, so that it can be more than has gone by.
/// Waiting is none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps([Duration; Step::ALL.len()]);

impl Steps {
    /// The time of all steps.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }
}

impl Index<Step> for Steps {
    type Output = Duration;

    fn index(&self, step: Step) -> &Duration {
        &self.0[step as usize]
    }
}

impl IndexMut<Step> for Steps {
    fn index_mut(&mut self, step: Step) -> &mut Duration {
        &mut self.0[step as usize]
    }
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.found += other.found;
        self.hashes += other.hashes;
        self.items += other.items;
        self.rounds += other.rounds;
        for step in Step::ALL {
            self.steps[step] += other.steps[step];
        }
    }
}

/// What a backend has to say.
#[derive(Debug)]
pub enum BackendEvent {
    /// It found announcements.
    Found {
        /// Who.
        backend: BackendId,
        /// All that it has found since it started, these included: the count that the ledger is held to.
        found_total: u64,
        /// What was found.
        announcements: Vec<Arc<Found>>,
    },
    /// A round is no longer held.
    Ended {
        /// Who.
        backend: BackendId,
        /// The round's identifier.
        round: u64,
    },
    /// The backend has stopped for good and holds nothing any more.
    Failed {
        /// Who.
        backend: BackendId,
        /// What went wrong, and what to do about it.
        error: String,
    },
}

/// Where a backend's events go. Called from the backend's threads.
pub type Sink = Arc<dyn Fn(BackendEvent) + Send + Sync>;

/// What mines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// All suitable GPUs, and the processors.
    #[default]
    Auto,
    /// The processors.
    Cpu,
    /// GPUs.
    Gpu,
}

/// No backend can be started as asked.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The CPU backend cannot.
    #[error(transparent)]
    Cpu(#[from] cpu::StartError),
    /// The GPU backend cannot.
    #[error(transparent)]
    Gpu(#[from] gpu::StartError),
}

/// How many threads the processors mine with beside so many GPUs, if the user asks for `asked`; `None`: all.
pub fn threads_beside(gpus: usize, asked: Option<NonZero<usize>>) -> Option<NonZero<usize>> {
    if asked.is_some() || gpus == 0 {
        return asked;
    }
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    NonZero::new(processors.saturating_sub(gpus).max(1))
}

/// Starts backends and has them prove themselves. Each has its index in the list as its number.
///
/// Beside GPUs the processors mine with a thread less for each of them: what drives a GPU must not wait, and a batch
/// whose programs come late costs more than a thread mines. A number of threads that the user gives is taken as it is.
///
/// # Errors
/// If what was asked for cannot be started. With [`Which::Auto`], a GPU that cannot be used is told in the log.
pub fn start(
    which: Which,
    cpu: cpu::Settings,
    gpu: &gpu::Settings,
    sink: &Sink,
) -> Result<Vec<Box<dyn Backend>>, StartError> {
    let mut backends = Vec::new();
    if which == Which::Auto && gpu.devices == gpu::Selection::Suitable && !gpu::may_have_card() {
        tracing::info!("there is no graphics card in this machine; mining on the processors");
    } else if which != Which::Cpu {
        match gpu::start(gpu, sink) {
            Ok(gpus) => backends = gpus,
            Err(error @ (gpu::StartError::Nothing { .. } | gpu::StartError::Failed(_)))
                if which == Which::Auto =>
            {
                tracing::info!("{error}; mining on the processors");
            }
            Err(error) => return Err(error.into()),
        }
    }
    if which != Which::Gpu {
        let cpu = cpu::Settings { threads: threads_beside(backends.len(), cpu.threads), ..cpu };
        let id = BackendId(backends.len());
        backends.push(Box::new(cpu::CpuBackend::start(id, cpu, sink.clone())?));
    }
    Ok(backends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_leave_a_thread_to_each_gpu_unless_told_otherwise() {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        assert_eq!(threads_beside(0, None), None);
        assert_eq!(threads_beside(1, None).map(NonZero::get), Some((processors - 1).max(1)));
        assert_eq!(threads_beside(processors + 5, None).map(NonZero::get), Some(1));
        assert_eq!(threads_beside(3, NonZero::new(7)), NonZero::new(7));
    }
}
