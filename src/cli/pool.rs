//! `pktmine pool`: run a pool on this machine.

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use kernels::WorkBits;
use serde_json::json;

use super::{
    Exit, UsageError, parse_duration, parse_interval, parse_period,
    units::{parse_count, parse_listen},
};
use crate::{
    http_server::raise_descriptor_limit,
    local_pool::{Fault, LocalPool, Settings, StartError, Stats, Validate},
    protocol::{WINDOW, difficulty_shown},
    report::{Output, OutputError, PATIENCE, scaled},
    shutdown,
};

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
GET /stats on the master's address tells what was accepted and refused. With --control, POST /control injects \
faults and moves the chain while the pool runs.")]
pub struct Arguments {
    /// Address of the master; handlers listen on the ports after it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = parse_listen)]
    listen: SocketAddr,

    /// Ann handlers
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count::<NonZero<usize>>)]
    handlers: NonZero<usize>,

    /// Time between two blocks (0: none but those asked for by --control)
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    block_time: Duration,

    /// The chain is the same for the same seed
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_count::<u64>)]
    seed: u64,

    /// Difficulty of announcements: the easiest work bits that reach it [default: work bits 0x20020000]
    #[arg(long, value_name = "N", conflicts_with = "work_bits", value_parser = clap::value_parser!(u64).range(2..))]
    difficulty: Option<u64>,

    /// Work bits of announcements, in hexadecimal (0x20020000) or decimal
    #[arg(long, value_name = "BITS", value_parser = parse_work_bits)]
    work_bits: Option<WorkBits>,

    /// Have miners mine on the block that many below the tip
    #[arg(long, value_name = "BLOCKS", default_value_t = Settings::default().mine_old, value_parser = parse_count::<u32>)]
    mine_old: u32,

    /// Key that announcements must be signed with, 64 hexadecimal digits
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    sigkey: Option<[u8; 32]>,

    /// Versions of announcements that are taken
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1")]
    ann_versions: Vec<u8>,

    /// Which announcements are validated: all, or sample:N for one of N
    #[arg(long, default_value = "all", value_name = "WHICH")]
    validate: Validate,

    /// Threads that validate [default: all processors]
    #[arg(long, value_name = "N", value_parser = parse_count::<NonZero<usize>>)]
    validators: Option<NonZero<usize>>,

    /// Connections at one time, to master and handlers together, as far as the system allows. One more closes one on
    /// which nothing is asked, or is refused with 503
    #[arg(long, value_name = "N", default_value_t = Settings::default().connections, value_parser = parse_count::<usize>)]
    connections: usize,

    /// Announcements in memory at one time, those that are just coming included; one batch more is refused with 503
    #[arg(long, value_name = "N", default_value_t = Settings::default().queue_announcements, value_parser = parse_count::<usize>)]
    queue: usize,

    /// How long a connection is kept on which nothing is asked
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_period)]
    idle_timeout: Duration,

    /// How long the head of a request may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_period)]
    header_timeout: Duration,

    /// How long a request's body may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_period)]
    body_timeout: Duration,

    /// How long each 16 KiB of a body may take to come, and each 16 KiB of an answer to be taken
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_period)]
    stall_timeout: Duration,

    /// Take commands at POST /control: faults, blocks, handlers
    #[arg(long)]
    control: bool,

    /// A fault from the start on, such as 503:handlers:10 (ten requests), delay=500ms:master, or reorganise=2:30s
    /// (two blocks, every 30 seconds); may be repeated
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Fault>,

    /// Stop after this time
    #[arg(long, value_name = "TIME", value_parser = parse_period)]
    duration: Option<Duration>,

    /// Print statistics as JSON objects, one a line
    #[arg(long)]
    json: bool,

    /// Time between two lines of statistics
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_interval)]
    interval: Duration,
}

/// Runs the command.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let defaults = Settings::default();
    let asked = arguments.difficulty.map(WorkBits::at_least).or(arguments.work_bits);
    let settings = Settings {
        listen: arguments.listen,
        handlers: arguments.handlers.get(),
        block_time: Some(arguments.block_time).filter(|time| !time.is_zero()),
        seed: arguments.seed,
        work_bits: asked.unwrap_or(defaults.work_bits),
        mine_old: arguments.mine_old,
        sigkey: arguments.sigkey,
        ann_versions: arguments.ann_versions,
        validate: arguments.validate,
        validators: arguments.validators.map_or(defaults.validators, NonZero::get),
        connections: arguments.connections,
        queue_announcements: arguments.queue,
        idle_timeout: arguments.idle_timeout,
        header_timeout: arguments.header_timeout,
        body_timeout: arguments.body_timeout,
        stall_timeout: arguments.stall_timeout,
        control: arguments.control,
        faults: arguments.fault,
        ..defaults
    };
    if !settings.listen.ip().is_loopback() {
        tracing::warn!("the pool can be reached from other machines: it listens on {}", settings.listen);
        if settings.control {
            tracing::warn!(
                "and whoever reaches it controls it (--control): its chain, its handlers, its faults"
            );
        }
    }
    if settings.mine_old >= WINDOW {
        tracing::warn!(
            "--mine-old {}: handlers take announcements on the newest {WINDOW} blocks alone, so they will refuse all \
             that is mined; use {} or less",
            settings.mine_old,
            WINDOW - 1
        );
    }
    let work_bits = settings.work_bits;
    raise_descriptor_limit();
    let pool = LocalPool::start(settings).map_err(|error| match error {
        StartError::Setting { .. }
        | StartError::TooManyHandlers { .. }
        | StartError::NoPorts
        | StartError::FaultOnNobody { .. } => UsageError(error.to_string()).into(),
        other => anyhow::Error::new(other),
    })?;
    tracing::info!("master at {}, difficulty {:.0} ({work_bits})", pool.url(), difficulty_shown(work_bits));
    for url in pool.handler_urls() {
        tracing::info!("ann handler at {url}");
    }
    tracing::info!("mine on it with: pktmine ann -p ADDRESS {}", pool.url());

    let (signal, signals) = mpsc::channel();
    shutdown::on_stop(move || {
        let _ = signal.send(());
    })
    .context("cannot catch Ctrl-C")?;
    let output = Output::start(anstream::stdout()).context("cannot start a thread")?;
    let started = Instant::now();
    let last = loop {
        let left = arguments.duration.map(|duration| duration.saturating_sub(started.elapsed()));
        let wait = left.map_or(arguments.interval, |left| left.min(arguments.interval));
        let over = match signals.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => left.is_some_and(|left| left <= wait),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
        };
        let text = statistics(&pool.stats(), arguments.json);
        if over {
            break Some(text);
        }
        output.write(text);
        // Whoever read the statistics has gone: the pool is of no more use to them.
        if output.failure().is_some() {
            break None;
        }
    };
    pool.shutdown();
    match output.finish(last, PATIENCE) {
        Err(error @ OutputError::Failed(_)) => Err(error.into()),
        Ok(_) | Err(OutputError::Closed | OutputError::Stalled) => Ok(Exit::Done),
    }
}

/// A line of statistics.
fn statistics(stats: &Stats, as_json: bool) -> String {
    if as_json {
        return format!("{}\n", json!(stats));
    }
    let total = &stats.total;
    let refused: u64 = total.refused.values().map(|refused| refused.announcements).sum();
    format!(
        "block {}  {}  {:.0} ann/s  accepted {}, duplicates {}, refused {refused}  queue {}  {} connections\n",
        stats.tip_height,
        scaled(total.encryptions_per_second.ten_seconds),
        total.announcements_per_second.ten_seconds,
        total.accepted,
        total.duplicates,
        stats.queued,
        stats.connections,
    )
}

/// Reads work bits in hexadecimal or decimal.
fn parse_work_bits(text: &str) -> Result<WorkBits, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let number = number.map_err(|_| "work bits are a number such as 0x20020000 or 537001984".to_owned())?;
    WorkBits::new(number).map_err(|error| error.to_string())
}

/// Reads a signing key.
fn parse_key(text: &str) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    hex::decode_to_slice(text, &mut key).map_err(|_| "a signing key is 64 hexadecimal digits".to_owned())?;
    Ok(key)
}
