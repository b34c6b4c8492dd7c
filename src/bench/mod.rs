//! Measuring a machine without any network: how fast its backends mine, and whether they compute correctly.
//!
//! All runs mine rounds of the same [job], with hard nonces counted up from 0, so that the same work is measured each
//! time. A [`Setup`] is what mines; [`run`] measures each setup at each difficulty, [`checksum`] holds a setup to known
//! announcements.
//!
//! # What is measured
//!
//! A backend keeps all the rounds that it wants to hold, as when it mines. What it does before each of the rounds
//! that it was handed first has ended is warm-up and not measured: threads that start, memory that is touched for
//! the first time, pipelines that fill. The measured time begins there and ends with the first round that ends after
//! the time asked for, so that it holds whole rounds; see [`window`] for rounds that are long.
//!
//! Announcements per second are told twice: those found, whose number is luck (some 4 % up or down where 600 were found),
//! and those to be *expected* of the soft nonces hashed. e/s is the expected announcements × their difficulty.

pub mod checksum;
pub mod compare;
pub mod energy;
pub mod html;
mod machine;
mod measure;
mod report;
mod rig;
pub mod text;
pub mod window;

use std::{
    num::NonZero,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use kernels::{Kernel, WorkBits};

use self::report::FORMAT;
pub use self::{
    machine::Machine,
    measure::{Station, Turn},
    report::{Energy, Figures, Measurement, ReadError, Report, RoundTime},
};
use crate::{
    backend::{self, Backend, Sink, Which, cpu, gpu},
    protocol::BlockHash,
    self_test::{self, Choice, Wrong},
    values::{BackendId, Job},
};

/// What is measured.
pub struct Settings {
    /// What mines; each is measured by itself.
    pub setups: Vec<Setup>,
    /// Difficulties, 2 or more.
    pub difficulties: Vec<u64>,
    /// How long each setup is measured at each difficulty, warm-up not included.
    pub duration: Duration,
}

/// What mines together.
#[derive(Clone)]
pub struct Setup {
    /// What the user calls it: "cpu".
    pub backend: String,
    /// Processors' threads that mine; `None`: no processor mines.
    pub threads: Option<usize>,
    /// The kernel that they run.
    pub kernel: Option<String>,
    /// Starts the backends; backend `i` is to be `BackendId(i)`.
    pub start: Start,
}

/// Starts backends whose events go to a sink, or says why it cannot.
pub type Start = Rc<dyn Fn(Sink) -> Result<Vec<Box<dyn Backend>>, String>>;

impl Setup {
    /// The processors alone.
    pub fn cpu(settings: cpu::Settings) -> Self {
        let available = || thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            backend: "cpu".into(),
            threads: Some(settings.threads.map_or_else(available, NonZero::get)),
            kernel: kernel_name(settings.kernel, self_test::fastest()),
            start: Rc::new(move |sink| {
                let backend = cpu::CpuBackend::start(BackendId(0), settings.clone(), sink)
                    .map_err(|e| e.to_string())?;
                Ok(vec![Box::new(backend)])
            }),
        }
    }

    /// Graphics cards alone.
    pub fn gpu(settings: gpu::Settings) -> Self {
        Self {
            backend: "gpu".into(),
            threads: None,
            kernel: None,
            start: Self::starting(Which::Gpu, cpu::Settings::default(), settings),
        }
    }

    /// Graphics cards and processors together, as `ann` mines.
    pub fn all(cpu: cpu::Settings, gpu: gpu::Settings) -> Self {
        Self {
            backend: "gpu and cpu".into(),
            threads: None,
            kernel: kernel_name(cpu.kernel, self_test::fastest()),
            start: Self::starting(Which::Auto, cpu, gpu),
        }
    }

    fn starting(which: Which, cpu: cpu::Settings, gpu: gpu::Settings) -> Start {
        Rc::new(move |sink| {
            backend::start(which, cpu.clone(), &gpu, &sink).map_err(|error| error.to_string())
        })
    }

    /// What it is called in tables: "2 threads", or the backend's name.
    pub fn label(&self) -> String {
        report::label(&self.backend, self.threads)
    }
}

/// The kernel that processors run: the one asked for, or the one that this process has chosen; `None` if none computes as
/// it should, which the backend says when it starts.
fn kernel_name(asked: Option<Kernel>, chosen: Result<Choice, Wrong>) -> Option<String> {
    let kernel = asked.or_else(|| chosen.ok().map(|choice| choice.kernel));
    kernel.map(|kernel| kernel.name().into())
}

/// Why a measurement came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The backends do not start.
    #[error("{what} cannot be measured: {reason}")]
    Start {
        /// The setup.
        what: String,
        /// What the backend said.
        reason: String,
    },
    /// A backend stopped while it was measured.
    #[error("{backend} has stopped: {reason}")]
    Backend {
        /// Its name.
        backend: String,
        /// What it said.
        reason: String,
    },
    /// What was found is not valid, so that figures are worth nothing.
    #[error(
        "{backend} computes wrongly: {wrong} of {looked_at} announcements that were looked at are not valid; \
         its figures are worth nothing (too hot, or clocked too high?)"
    )]
    Invalid {
        /// Its name.
        backend: String,
        /// How many are not.
        wrong: usize,
        /// Of how many.
        looked_at: usize,
    },
}

/// Asks a run to end early; clones ask the same run.
#[derive(Clone, Debug, Default)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    /// Asks it to end.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far a run has come, for whoever watches it.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// What is at work: "2 threads, difficulty 128".
    pub what: &'a str,
    /// Which one it is, from 0.
    pub number: usize,
    /// Of how many; 0: nobody knows.
    pub of: usize,
    /// How much of it is done, 0 to 1.
    pub fraction: f64,
    /// Its rate so far, in e/s; `None` before there is one.
    pub rate: Option<f64>,
}

/// Measures every setup at every difficulty. A run that is stopped reports what was measured until then, which may be
/// nothing.
///
/// # Errors
/// If backends cannot start, stop by themselves, or find what is not valid.
pub fn run(
    settings: &Settings,
    stopper: &Stopper,
    watch: &mut dyn FnMut(&Progress),
) -> Result<Report, BenchError> {
    let mut report = Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        machine: Machine::here(),
        duration: settings.duration.as_secs_f64(),
        interrupted: false,
        energy: None,
        measurements: Vec::new(),
    };
    let of = settings.setups.len() * settings.difficulties.len();
    for setup in &settings.setups {
        for &difficulty in &settings.difficulties {
            let what = format!("{}, difficulty {difficulty}", setup.label());
            let number = report.measurements.len();
            let mut watch = |fraction, rate| watch(&Progress { what: &what, number, of, fraction, rate });
            let (measured, absence) =
                measure::measure(setup, difficulty, settings.duration, stopper, &mut watch)?;
            report.measurements.extend(measured);
            // One reason for all: where several are measured, the last one has most that uses energy.
            report.energy = absence;
            if stopper.is_asked() {
                report.interrupted = report.measurements.len() < of
                    || report.measurements.last().is_some_and(|last| last.seconds < report.duration);
                return Ok(report);
            }
        }
    }
    Ok(report)
}

/// The job that is mined: parent block hash 00 01 02 … 1f in internal order, height 1,000,000, not signed.
pub fn job(work_bits: WorkBits) -> Job {
    let hash = std::array::from_fn(|i| i as u8);
    Job { id: 1, parent_hash: BlockHash(hash), parent_height: 1_000_000, work_bits, signing_key: [0; 32] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_that_is_told_is_the_one_that_runs() {
        let slow = || Ok(Choice { kernel: Kernel::Portable, reason: "the fastest computes wrongly".into() });
        assert_eq!(kernel_name(None, slow()).as_deref(), Some("portable"));
        let fastest = Kernel::detect();
        assert_eq!(kernel_name(Some(fastest), slow()).as_deref(), Some(fastest.name()), "it was asked for");
        let none = || Err(Wrong { kernel: "portable", reason: "nothing is right".into() });
        assert_eq!(kernel_name(None, none()), None);
    }
}
