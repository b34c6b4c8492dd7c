//! The miner: puts the boxes together.
//!
//! One thread, the loop, owns the three state machines (pools, scheduler, uploader), the backends and the
//! clock. It waits for messages, hands them to the machine that they are for, and carries out what the machines answer.
//! All that blocks runs elsewhere and comes back as a message: HTTP requests and validation on `workers`,
//! mining on the backends' own threads, signals on theirs.

mod control;
mod event_loop;
mod shell;
mod workers;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use url::Url;

pub use self::control::Control;
use self::{
    event_loop::{Loop, Message, Outputs},
    shell::Shell,
};
use crate::{
    backend::{self, Backend, BackendInfo, Sink, cpu, gpu},
    display::Display,
    pool,
    protocol::PayTo,
    report::{Format, Output, OutputError, Watch},
    scheduler::CancelPolicy,
    upload::{self, Ledger},
    values::Address,
};

/// How long uploads may go on after mining has stopped, unless tests say otherwise.
pub const DRAIN: Duration = Duration::from_secs(10);

/// How long a master may take to answer, unless tests say otherwise.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two status lines, unless the user says otherwise.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Masters, the leading one first.
    pub pools: Vec<Url>,
    /// Whether they are a pool of the program's own, which pays nobody. That does not change while mining.
    pub own_pool: bool,
    /// How masters are asked.
    pub pool: pool::Settings,
    /// How long a master may take to answer.
    pub fetch_timeout: Duration,
    /// How announcements are handed in.
    pub upload: upload::Settings,
    /// What becomes of work on a block when there is a new one.
    pub cancel: CancelPolicy,
    /// What mines.
    pub backends: backend::Which,
    /// The CPU backend.
    pub cpu: cpu::Settings,
    /// The GPU backend.
    pub gpu: gpu::Settings,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// How long uploads may go on after mining has stopped.
    pub drain: Duration,
    /// Time between two status lines.
    pub interval: Duration,
    /// Whether there are no status lines, only totals.
    pub quiet: bool,
    /// What status lines look like; `None`: there are none, and no totals.
    pub format: Option<Format>,
}

impl Settings {
    /// The defaults: everything that there is mines until it is told to stop, and nothing is printed. `seed` is what chance in
    /// uploads is made from.
    pub fn new(pools: Vec<Url>, pay_to: PayTo, seed: u64) -> Self {
        Self {
            pools,
            own_pool: false,
            pool: pool::Settings::default(),
            fetch_timeout: FETCH_TIMEOUT,
            upload: upload::Settings::new(pay_to, seed),
            cancel: CancelPolicy::Now,
            backends: backend::Which::Auto,
            cpu: cpu::Settings::default(),
            gpu: gpu::Settings::default(),
            duration: None,
            drain: DRAIN,
            interval: INTERVAL,
            quiet: false,
            format: None,
        }
    }
}

/// Why mining failed.
#[derive(Debug, thiserror::Error)]
pub enum MinerError {
    /// What is to mine cannot start.
    #[error(transparent)]
    Backend(#[from] backend::StartError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// All was mined, but results were lost.
    #[error("mining went on, but its results are not all written: {0}")]
    Output(OutputError),
    /// No backend is left.
    #[error("no backend is left that mines; the log above says why")]
    NoBackend,
    /// Not one job in all the time.
    #[error("nothing was mined, since no pool ever gave work: {0}")]
    NoWork(String),
}

/// A miner that is ready to start.
pub struct Miner {
    settings: Settings,
    backends: Vec<Box<dyn Backend>>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    watch: Watch,
    display: Option<Display>,
}

impl Miner {
    /// Starts the backends and has them prove themselves.
    ///
    /// # Errors
    /// If a backend cannot start.
    pub fn new(settings: Settings) -> Result<Self, MinerError> {
        let (which, cpu) = (settings.backends, settings.cpu.clone());
        let gpu = gpu::Settings { late: true, ..settings.gpu.clone() };
        Self::with_backends(settings, |sink| backend::start(which, cpu, &gpu, sink))
    }

    /// The same with backends of the caller's own, whatever the settings say of them. They report to the sink, each
    /// with its place in the list as its number.
    ///
    /// # Errors
    /// If a backend cannot start.
    pub fn with_backends(
        mut settings: Settings,
        start: impl FnOnce(&Sink) -> Result<Vec<Box<dyn Backend>>, backend::StartError>,
    ) -> Result<Self, MinerError> {
        let mut known = HashSet::new();
        settings.pools.retain(|url| {
            let is_new = known.insert(url.clone());
            if !is_new {
                let address = Address::from(url.clone());
                tracing::warn!("{address} is named twice: it gets every announcement once");
            }
            is_new
        });
        let (sender, messages) = mpsc::channel();
        let to_loop = sender.clone();
        let sink: Sink = Arc::new(move |event| {
            // The loop is gone only when the process is about to end.
            let _ = to_loop.send(Message::Backend(event));
        });
        let backends = start(&sink)?;
        Ok(Self { settings, backends, sender, messages, watch: Watch::default(), display: None })
    }

    /// What pauses, resumes, stops and changes it.
    pub fn control(&self) -> Control {
        Control::new(self.sender.clone())
    }

    /// What its backends are.
    pub fn backends(&self) -> impl Iterator<Item = &BackendInfo> {
        self.backends.iter().map(|backend| backend.info())
    }

    /// Where it publishes what it is about, every second.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Has a display take the place of status lines.
    pub fn show_on(&mut self, display: Display) {
        self.display = Some(display);
    }

    /// Mines until the time is over, it is asked to stop, or nothing is left that mines. Returns where every
    /// announcement went.
    ///
    /// # Errors
    /// If there was nothing to mine, or nothing left to mine with.
    pub fn run(self) -> Result<Ledger, MinerError> {
        let output = self.settings.format.map(|_| Output::start(anstream::stdout())).transpose();
        let output = output.map_err(MinerError::Thread)?;
        let outputs = Outputs { output, watch: self.watch, display: self.display };
        let shell = Shell::new(self.sender, &self.settings);
        Loop::new(self.settings, self.backends, shell, outputs).run(&self.messages)
    }
}
