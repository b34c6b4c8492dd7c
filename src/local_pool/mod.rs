//! The other side of the wire: a master and any number of ann handlers in one process, with a simulated chain.
//!
//! For demonstrations, for tests, and for people who write miners: what a miner is told here is what a real pool
//! tells it, and faults happen on request.
//!
//! | module | holds |
//! |---|---|
//! | `chain` | the simulated blocks |
//! | `handler` | what a handler makes of a batch: the checks, in order, and their texts |
//! | `duplicates` | which announcements were taken already |
//! | `validation` | threads that validate, hard nonce by hard nonce |
//! | `pool` | the state that all share, and a batch's way through it |
//! | `stats`, `sparing` | what was counted: `GET /stats`, which is not made anew for whoever asks and asks |
//! | `faults`, `control` | what goes wrong on request, by command line and by `POST /control` |
//! | `http`, `listen` | requests and answers; connections, and handlers that come and go |
//!
//! It knows nothing of the miner, only [`crate::protocol`] and [`kernels`].

mod chain;
mod control;
mod duplicates;
mod faults;
mod handler;
mod http;
mod listen;
mod pool;
mod sparing;
mod stats;
mod validation;

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

use kernels::WorkBits;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use url::Url;

pub use self::{
    chain::ReorganiseError,
    faults::{Fault, FaultError, FaultKind, Lasts, On},
    stats::{Counts, HandlerStats, Rate, Refused, Stats, TurnedAway, ValidationStats},
    validation::{Validator, ValidatorFactory},
};
use self::{pool::Pool, validation::Validation};
use crate::{
    plain::plain,
    protocol::{BlockHash, MINE_OLD_MAX},
};

/// The most threads that validate: more than any machine has processors for.
const MOST_VALIDATORS: usize = 1024;

/// How a pool is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the master listens. Port 0 lets the system choose; with any other, handlers take the ports after it.
    pub listen: SocketAddr,
    /// How many ann handlers.
    pub handlers: usize,
    /// How often there is a new block; `None`: only on request.
    pub block_time: Option<Duration>,
    /// What the hashes of blocks follow from.
    pub seed: u64,
    /// Height of the tip at the start.
    pub first_height: u32,
    /// Blocks whose hashes are given, by height: for announcements that were mined elsewhere.
    pub fixed_blocks: BTreeMap<u32, BlockHash>,
    /// The easiest work bits that are taken: `annTarget`.
    pub work_bits: WorkBits,
    /// `mineOldAnns`.
    pub mine_old: u32,
    /// Key that signed announcements must carry; `None`: there may be none that are signed.
    pub sigkey: Option<[u8; 32]>,
    /// Versions of announcements that are taken.
    pub ann_versions: Vec<u8>,
    /// Whether the master tells a `blkinfoUrl` of its own.
    pub blkinfo_url: bool,
    /// Whether there is work from the start; if not, `tipHash` is null and handlers say `server not ready`.
    pub ready: bool,
    /// Which announcements are validated.
    pub validate: Validate,
    /// Threads that validate.
    pub validators: usize,
    /// What validates.
    pub validator: ValidatorFactory,
    /// Bound on the announcements that are being read, wait or are being validated. Batches beyond it are refused as
    /// `overloaded`.
    pub queue_announcements: usize,
    /// Bound on the announcements that are remembered to tell duplicates, some 16 bytes each. Batches beyond it are
    /// refused as `overloaded`.
    pub duplicate_capacity: usize,
    /// Whether every announcement that is recorded is remembered, some 64 bytes each and without bound: for tests that
    /// ask for the fate of each.
    pub journal: bool,
    /// Whether `POST /control` is there.
    pub control: bool,
    /// Faults from the start.
    pub faults: Vec<Fault>,
    /// Bound on the connections to master and handlers together, lowered to what the process has descriptors for. At
    /// the bound, one on which nothing is asked gives way to a new one, or the new one is refused with 503.
    pub connections: usize,
    /// How long a connection may be kept on which nothing is asked.
    pub idle_timeout: Duration,
    /// How long a request may take to send its head, from the first byte on.
    pub header_timeout: Duration,
    /// How long a request may take to send its body.
    pub body_timeout: Duration,
    /// How long each 16 KiB of a body may take to come, and each 16 KiB of an answer to be taken.
    pub stall_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            handlers: 1,
            block_time: None,
            seed: 0,
            first_height: 1_000_000,
            fixed_blocks: BTreeMap::new(),
            work_bits: WorkBits::new(0x2002_0000).expect("the field's usual work bits are valid"),
            mine_old: 3,
            sigkey: None,
            ann_versions: vec![1],
            blkinfo_url: false,
            ready: true,
            validate: Validate::All,
            validators: thread::available_parallelism().map_or(1, usize::from),
            validator: ValidatorFactory::default(),
            queue_announcements: 256 * 1024,
            duplicate_capacity: 64 * 1024 * 1024,
            journal: false,
            control: false,
            faults: Vec::new(),
            connections: 12_000,
            idle_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(10),
        }
    }
}

/// Which announcements are validated. Everything but the proof of work is always checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validate {
    /// Every one.
    All,
    /// One of that many, chosen at random, and at least one of each batch.
    Sample(NonZeroU32),
}

impl fmt::Display for Validate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Sample(n) => write!(f, "sample:{n}"),
        }
    }
}

/// Text that says nothing about validation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not say which announcements to validate; say all, or sample (one of 16), or sample:N (one of N)"
)]
pub struct ValidateError(String);

impl FromStr for Validate {
    type Err = ValidateError;

    fn from_str(text: &str) -> Result<Self, ValidateError> {
        let sample = |n: &str| n.parse().ok().map(Self::Sample);
        match text {
            "all" => Some(Self::All),
            "sample" => sample("16"),
            _ => text.strip_prefix("sample:").and_then(sample),
        }
        .ok_or_else(|| ValidateError(text.chars().take(40).collect()))
    }
}

/// What a handler that is listed does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandlerState {
    /// It takes announcements.
    Up,
    /// It refuses connections.
    Down,
    /// It is listed with the host `invalid`, which means that no announcements are wanted there.
    Unwanted,
}

impl HandlerState {
    fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unwanted => "unwanted",
        }
    }
}

/// A pool that cannot start, or cannot be changed as asked for.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or is none of this machine's.
    #[error(
        "the pool cannot listen on {address}: {reason}; choose another address or port with --listen (handlers take \
         the ports that follow the master's), or stop what listens there"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says. Not called the source: the text has it already.
        reason: io::Error,
    },
    /// The ports after the master's do not suffice.
    #[error(
        "there are not enough ports above the master's for that many handlers; choose a lower port with --listen"
    )]
    NoPorts,
    /// Too many handlers.
    #[error("a pool has at most {most} handlers, not {count}; choose fewer with --handlers")]
    TooManyHandlers {
        /// Asked for.
        count: usize,
        /// The bound.
        most: usize,
    },
    /// A fault from the start is on a handler that is not there.
    #[error(
        "the fault {fault} befalls nobody: handlers are counted from 0, and the pool has {count} (--handlers)"
    )]
    FaultOnNobody {
        /// The fault.
        fault: Fault,
        /// How many handlers there are.
        count: usize,
    },
    /// There is no handler with that index.
    #[error("there is no handler {index}: the pool has {count}, counted from 0")]
    NoSuchHandler {
        /// Asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// An order that leaves handlers out, or names one twice.
    #[error("the order must name each of the {count} handlers once, counted from 0")]
    Order {
        /// How many there are.
        count: usize,
    },
    /// A setting that makes no sense.
    #[error("{what} cannot be {value}; it must be {remedy}")]
    Setting {
        /// Which.
        what: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        remedy: &'static str,
    },
    /// The system gives no threads.
    #[error("the pool's threads cannot be started: {0}; raise the system's limit, or use fewer --validators")]
    Threads(io::Error),
}

/// A pool that runs until it is shut down or dropped. Its methods must not be called from asynchronous code: those
/// that start and stop listeners wait.
pub struct LocalPool {
    pool: Arc<Pool>,
    /// `None` once it is shut down.
    runtime: Option<Runtime>,
}

impl LocalPool {
    /// Starts a pool on threads of its own, and returns when it listens.
    ///
    /// # Errors
    /// If an address cannot be listened on, a setting makes no sense, or there are no threads.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        settings.check()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(settings.validators)
            .thread_name("local pool")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let validation =
            Validation::start(settings.validators, &settings.validator).map_err(StartError::Threads)?;
        let (handlers, block_time) = (settings.handlers, settings.block_time);
        let pool = runtime.block_on(async {
            let address = settings.listen;
            let listener = listen::bind(address)?;
            let port = listen::port_of(&listener).map_err(|reason| StartError::Listen { address, reason })?;
            let pool = Arc::new(Pool::new(settings, port, validation));
            listen::set_handlers(&pool, handlers).await?;
            listen::start_master(&pool, listener).await;
            tokio::spawn({
                let pool = pool.clone();
                async move { pool.reorganise_when_due().await }
            });
            if let Some(block_time) = block_time {
                tokio::spawn(make_blocks(pool.clone(), block_time));
            }
            Ok(pool)
        })?;
        Ok(Self { pool, runtime: Some(runtime) })
    }

    /// The master's address.
    pub fn url(&self) -> Url {
        listen::addresses(&self.pool, None).master.parse().expect("a host and a port make an address")
    }

    /// The handlers' addresses as they are listed.
    pub fn handler_urls(&self) -> Vec<Url> {
        let addresses = listen::addresses(&self.pool, None);
        let url = |text: String| text.parse().expect("a host, a port and a path make an address");
        self.pool.handlers().iter().map(|slot| url(addresses.handler(slot))).collect()
    }

    /// What was counted, as `GET /stats` tells it.
    pub fn stats(&self) -> Stats {
        let addresses = listen::addresses(&self.pool, None);
        self.pool.stats(|slot| addresses.handler(slot))
    }

    /// Adds a block.
    pub fn new_block(&self) {
        self.pool.new_block();
    }

    /// Replaces the newest `depth` blocks by as many others.
    ///
    /// # Errors
    /// If so many blocks are not remembered.
    pub fn reorganise(&self, depth: u32) -> Result<(), ReorganiseError> {
        self.pool.reorganise(depth, 0)
    }

    /// Replaces the newest `depth` blocks by `lower` fewer: the tip is then lower than it was.
    ///
    /// # Errors
    /// If so many blocks are not remembered, or `lower` is more than `depth`.
    pub fn reorganise_lower(&self, depth: u32, lower: u32) -> Result<(), ReorganiseError> {
        self.pool.reorganise(depth, lower)
    }

    /// Changes the easiest work bits that are taken, and `annTarget` with them.
    pub fn set_work_bits(&self, work_bits: WorkBits) {
        self.pool.set_work_bits(work_bits);
    }

    /// Changes `annTarget` alone, to anything: `None` leaves it out, and invalid ones are told as well.
    pub fn announce_work_bits(&self, work_bits: Option<u32>) {
        self.pool.announce_work_bits(work_bits);
    }

    /// Changes `mineOldAnns`.
    pub fn set_mine_old(&self, mine_old: u32) {
        self.pool.set_mine_old(mine_old);
    }

    /// Whether there is work: without, `tipHash` is null and handlers say `server not ready`.
    pub fn set_ready(&self, ready: bool) {
        self.pool.set_ready(ready);
    }

    /// Changes the number of handlers: new ones come at the end of the list, and the last ones vanish.
    ///
    /// # Errors
    /// If a new one cannot listen.
    pub fn set_handlers(&self, count: usize) -> Result<(), StartError> {
        self.runtime().block_on(listen::set_handlers(&self.pool, count))
    }

    /// Lets a handler refuse connections, be unwanted, or come back on its old port. It stays in the list.
    ///
    /// # Errors
    /// If there is no such handler, or its port was taken meanwhile.
    pub fn set_handler(&self, index: usize, state: HandlerState) -> Result<(), StartError> {
        self.runtime().block_on(listen::set_handler(&self.pool, index, state))
    }

    /// Changes the order of the handlers' list: `order` has each handler's index in the list as it is.
    ///
    /// # Errors
    /// If it does not name each of them once.
    pub fn order_handlers(&self, order: &[usize]) -> Result<(), StartError> {
        self.runtime().block_on(listen::order_handlers(&self.pool, order))
    }

    /// Lists a handler under another address, whatever is there; `None`: under its own again.
    ///
    /// # Errors
    /// If there is no such handler.
    pub fn list_handler(&self, index: usize, url: Option<Url>) -> Result<(), StartError> {
        self.runtime().block_on(listen::list_handler(&self.pool, index, url))
    }

    /// Lets the master refuse connections, those that are open included. Handlers go on.
    pub fn stop_master(&self) {
        self.runtime().block_on(listen::stop_master(&self.pool));
    }

    /// Has the master come back on its old port.
    ///
    /// # Errors
    /// If the port was taken meanwhile.
    pub fn restart_master(&self) -> Result<(), StartError> {
        self.runtime().block_on(listen::restart_master(&self.pool))
    }

    /// The parents that announcements are taken for at the moment, by height, oldest first.
    pub fn window(&self) -> Vec<(u32, BlockHash)> {
        self.pool.window()
    }

    /// The announcements recorded so far, by parent and short hash; empty without [`Settings::journal`].
    pub fn journal(&self) -> HashSet<(BlockHash, u64)> {
        self.pool.journal()
    }

    /// Lets something go wrong.
    pub fn inject(&self, fault: Fault) {
        self.pool.inject(fault);
    }

    /// Lets nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.pool.clear_faults();
    }

    /// Closes all listeners and connections. Also done when dropped.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("only shutting down, which takes the pool, takes the runtime")
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.block_on(listen::stop_all(&self.pool));
            runtime.shutdown_background();
        }
    }
}

impl Drop for LocalPool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Settings {
    fn check(&self) -> Result<(), StartError> {
        let setting = |what, value: String, remedy| Err(StartError::Setting { what, value, remedy });
        if let Some(time) = self.block_time.filter(|time| *time < Duration::from_millis(10)) {
            return setting("the block time", humantime::format_duration(time).to_string(), "10ms or more");
        }
        if self.mine_old > MINE_OLD_MAX {
            let remedy = "at most 100, or miners take the configuration for damaged";
            return setting("the number of blocks to mine below the tip", self.mine_old.to_string(), remedy);
        }
        if self.validators > MOST_VALIDATORS {
            return setting("the number of validators", self.validators.to_string(), "at most 1024");
        }
        if self.first_height > i32::MAX as u32 / 2 {
            return setting("the first height", self.first_height.to_string(), "at most 1073741823");
        }
        if let Some(fault) = self.faults.iter().find(|fault| fault.on.is_nobody(self.handlers)) {
            return Err(StartError::FaultOnNobody { fault: fault.clone(), count: self.handlers });
        }
        for (what, value) in [
            ("the number of validators", self.validators),
            ("the queue's length in announcements", self.queue_announcements),
            ("the number of connections", self.connections),
            ("the number of announcement versions", self.ann_versions.len()),
        ] {
            if value == 0 {
                return setting(what, "0".into(), "1 or more");
            }
        }
        Ok(())
    }
}

/// Whether `POST /control` would understand a body.
///
/// # Errors
/// What it would answer if not.
pub fn check_command(body: &[u8]) -> Result<(), String> {
    control::parse(body).map(|_| ()).map_err(|error| plain(&error.to_string()))
}

async fn make_blocks(pool: Arc<Pool>, block_time: Duration) {
    loop {
        tokio::time::sleep(block_time).await;
        pool.new_block();
    }
}

#[cfg(test)]
mod tests;
