//! `pktmine ann`: mine announcements.

use std::{num::NonZero, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, FromArgMatches, ValueEnum};
use kernels::WorkBits;
use url::Url;

use super::{
    Exit, KernelChoice, Log, UsageError, gpu, parse_duration, parse_interval, parse_period, pool_url,
    units::{parse_count, parse_upload_limit},
};
use crate::{
    backend::{self, cpu, gpu::StartError as GpuError},
    config::{self, Layers, Resolved},
    display::{self, Display},
    local_pool,
    miner::{self, Miner, MinerError},
    pool,
    protocol::{PayTo, PayToError, difficulty_shown},
    report::Format,
    scheduler::CancelPolicy,
    sharing,
    shutdown::{self, Asked},
    upload::{self, Limit},
};

/// Who is paid when the pool is our own and pays nobody.
const LOCAL_PAY_TO: &str = "local";

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a pool the miner starts one inside its own process and mines against it over HTTP on the loopback \
interface: nothing leaves this machine and nobody is paid.

Every flag is also a key of the settings file (--exact-target: exact-target = true) and a variable \
(PKTMINE_EXACT_TARGET=true); flags win over variables, those over the file, that over what `pktmine tune` has found \
for this machine. `pktmine config print` shows all settings \
and where each comes from. The file is $XDG_CONFIG_HOME/pktmine/pktmine.toml or /etc/pktmine/pktmine.toml, unless \
--config or PKTMINE_CONFIG names one; while mining it, and what it names with { file = \"…\" }, is read again when it \
changes or appears, and on SIGHUP.

The counters of a status line are accepted/duplicate/rejected/stale/overflow/unknown.")]
pub struct Arguments {
    /// Pools to mine for; the first one that is up decides what is mined, all get every announcement
    #[arg(value_name = "POOL_URL", value_parser = pool_url)]
    pools: Vec<Url>,

    /// Fail where no pool is named, instead of mining against a pool of one's own: for services
    #[arg(long)]
    require_pool: bool,

    /// Address that is paid
    #[arg(short, long, value_name = "ADDRESS", value_parser = payment_address)]
    paymentaddr: Option<PayTo>,

    /// Threads that mine [default: all processors]
    #[arg(short, long, value_name = "N", value_parser = parse_count::<NonZero<usize>>)]
    threads: Option<NonZero<usize>>,

    /// Connections to each ann handler [default: 5]
    #[arg(short = 'U', long, value_name = "N", value_parser = parse_count::<NonZero<usize>>)]
    uploaders: Option<NonZero<usize>>,

    /// How long an upload may take, in seconds [default: 30]
    #[arg(short = 'T', long, value_name = "SECONDS", value_parser = parse_period)]
    uploadtimeout: Option<Duration>,

    /// Mine on the block that many below the tip, whatever the pool asks for
    #[arg(short, long, value_name = "BLOCKS", value_parser = parse_count::<u32>)]
    mineold: Option<u32>,

    /// File with settings instead of the default ones; an empty name: none
    #[arg(short, long, value_name = "FILE")]
    config: Option<String>,

    /// What mines
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    backend: Backend,

    #[command(flatten)]
    gpu: gpu::Flags,

    /// CPU kernel: auto is the fastest that the processor can run
    #[arg(long, default_value = "auto", value_name = "KERNEL")]
    kernel: KernelChoice,

    /// Threads that share a round and its table [default: those that share a last-level cache]
    #[arg(long, value_name = "N", value_parser = parse_count::<NonZero<usize>>)]
    team: Option<NonZero<usize>>,

    /// The most that is uploaded, such as 50Mbit/s or 6MB/s: where more would be found than that takes, fewer and
    /// harder announcements are mined, for which pools pay as much [default: what the line takes]
    #[arg(long, value_name = "RATE", value_parser = parse_upload_limit)]
    max_upload: Option<Limit>,

    /// Mine no easier announcements than of this difficulty, whatever the pool asks for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=1 << 40))]
    min_difficulty: Option<u64>,

    /// Stop after this time
    #[arg(long, value_name = "TIME", value_parser = parse_period)]
    duration: Option<Duration>,

    /// What becomes of work on a block when there is a new one
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    cancel: Cancel,

    /// Mine with the pool's work bits as they are, also where slightly harder ones pay better
    #[arg(long)]
    exact_target: bool,

    /// Print status lines and totals as JSON objects, one a line
    #[arg(long)]
    json: bool,

    /// Time between two status lines
    #[arg(
        long, visible_alias = "print-time", value_name = "TIME", default_value = "10s", value_parser = parse_interval
    )]
    interval: Duration,

    /// Log to this file as well; it is renamed when it has 10 MiB, and four old ones are kept
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    #[command(flatten)]
    api: super::api::Flags,

    /// No status lines and no live display, only warnings, errors and the totals
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// How much less the mining threads matter than other programs, if the miner was not started with more: 0 as much, 19
    /// least (Linux)
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=19))]
    nice: u8,

    /// Part of a processor's time that each mining thread takes at most, such as 80%
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    max_cpu: Option<f64>,

    /// Processors to mine on, such as 0-3,8 (Linux) [default: all]
    #[arg(long, value_name = "LIST", value_parser = parse_processors)]
    affinity: Option<ProcessorList>,

    /// Mine only while the machine is plugged in (Linux)
    #[arg(long)]
    pause_on_battery: bool,

    /// Mine only when nobody has typed at another terminal of this machine for so long, 60 s if not said (Linux)
    #[arg(
        long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60",
        value_parser = parse_period
    )]
    pause_on_active: Option<Duration>,

    /// Difficulty that the miner's own pool asks for (without a pool URL only) [default: 128]
    #[arg(long, value_name = "N", conflicts_with = "pools", value_parser = clap::value_parser!(u64).range(2..))]
    difficulty: Option<u64>,

    /// Time between two blocks of the miner's own pool (without a pool URL only) [default: 60s]
    #[arg(long, value_name = "TIME", conflicts_with = "pools", value_parser = parse_duration)]
    block_time: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// Graphics cards and processors
    #[default]
    Auto,
    /// The processors
    Cpu,
    /// Graphics processors
    Gpu,
}

impl From<Backend> for backend::Which {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::Cpu => Self::Cpu,
            Backend::Gpu => Self::Gpu,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Cancel {
    /// Stop it at once
    #[default]
    Now,
    /// Let rounds end while ann handlers take them
    Finish,
}

/// Settings that can change while mining goes on: [`settings`] and [`Control::change`] know them. A change of any other
/// needs a restart.
///
/// [`Control::change`]: miner::Control::change
pub(super) const LIVE: [&str; 11] = [
    "pools",
    "paymentaddr",
    "threads",
    "uploaders",
    "uploadtimeout",
    "mineold",
    "cancel",
    "exact-target",
    "max-upload",
    "min-difficulty",
    "interval",
];

/// Processors, each of which is there.
#[derive(Clone, Debug)]
struct ProcessorList(Vec<usize>);

/// Reads a list of processors.
fn parse_processors(text: &str) -> Result<ProcessorList, String> {
    let list = cpu::parse_list(text).ok_or("write numbers and ranges, such as 0-3,8")?;
    let there = cpu::processors();
    match list.iter().find(|processor| !there.contains(processor)) {
        Some(missing) => {
            Err(format!("there is no processor {missing} for this program: there are {there:?}"))
        }
        None => Ok(ProcessorList(list.into_iter().collect())),
    }
}

/// Reads a part of a whole: `80%`, or `80`.
fn parse_percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text
        .trim_end_matches('%')
        .trim()
        .parse()
        .map_err(|_| "write a percentage, such as 80%".to_owned())?;
    if (1.0..=100.0).contains(&percent) {
        Ok(percent / 100.0)
    } else {
        Err("it must be from 1% to 100%".into())
    }
}

/// Runs the command with its settings, which can be put together again from their layers.
pub fn run(arguments: Arguments, layers: Layers, resolved: Resolved, log: &mut Log) -> anyhow::Result<Exit> {
    if let Some(path) = &arguments.log_file {
        log.add_file(path)?;
    }
    if arguments.quiet {
        log.be_quiet();
    }
    // Kept until the end: dropping it stops it.
    let mut own_pool = None;
    let settings = if arguments.pools.is_empty() {
        if arguments.require_pool {
            let missing = "for which pool? name one as an argument, as pools in the settings file or as PKTMINE_POOLS \
                           (--require-pool: none of one's own is started, which would pay nobody)";
            return Err(UsageError(missing.into()).into());
        }
        let pool = start_own_pool(arguments.difficulty, arguments.block_time)?;
        if let Some(address) = &arguments.paymentaddr {
            tracing::warn!(
                "NOBODY IS PAID, {address} least of all: an address was given (--paymentaddr) and no pool. Name one, as \
                 in: pktmine ann -p {address} http://pool.example.com"
            );
        }
        let url = pool.url();
        own_pool = Some(pool);
        let pay_to = LOCAL_PAY_TO.parse().expect("it has letters only");
        miner::Settings { own_pool: true, ..settings(&arguments, vec![url], pay_to)? }
    } else {
        named_pools(&arguments)?
    };
    let live = !arguments.json && !arguments.quiet;
    let mut miner = Miner::new(settings).map_err(|error| match error {
        MinerError::Backend(backend::StartError::Gpu(GpuError::Unknown(error))) => {
            UsageError(format!("--device: {error}")).into()
        }
        MinerError::Backend(backend::StartError::Gpu(error @ GpuError::Rounds { .. })) => {
            UsageError(error.to_string()).into()
        }
        error => anyhow::Error::from(error),
    })?;
    // It answers until the command ends.
    let _api = arguments.api.start(&miner)?;
    if live && let Some(display) = Display::start(log.output(), miner.watch(), miner.control()) {
        miner.show_on(display);
    }
    let sharing =
        sharing::Settings { on_battery: arguments.pause_on_battery, on_active: arguments.pause_on_active };
    sharing::watch(sharing, miner.control()).context("cannot start a thread")?;
    let control = miner.control();
    let files = resolved.watched.clone();
    let (started, mut current) = (resolved.clone(), resolved);
    let changed = control.clone();
    let ask = config::watch(files, move |_| {
        reload(&layers, &started, &mut current, &changed);
        Some(current.watched.clone())
    })
    .context("cannot start a thread")?;
    let mut stops = 0;
    shutdown::on_signal(move |asked| match asked {
        // The thread that takes it lives as long as the process.
        Asked::Reload => drop(ask.send(())),
        Asked::Stop => {
            stops += 1;
            if stops > 2 {
                // It was asked twice and has not gone: whatever holds it up does not hold this up.
                display::restore_terminal();
                std::process::exit(1);
            }
            control.stop();
        }
    })
    .context("cannot catch Ctrl-C")?;
    let ledger = miner.run()?;
    if let Some(pool) = own_pool {
        let accepted: u64 = ledger.pools.iter().map(|account| account.accepted).sum();
        let counted = pool.stats().total.accepted;
        tracing::info!("the pool of our own counted {counted} accepted announcements, the miner {accepted}");
        pool.shutdown();
    }
    Ok(Exit::Done)
}

/// The miner's settings for the pools that were named.
fn named_pools(arguments: &Arguments) -> Result<miner::Settings, UsageError> {
    let missing = "who is to be paid? give your address with --paymentaddr ADDRESS (or paymentaddr in the settings \
                   file, or PKTMINE_PAYMENTADDR)";
    let pay_to = arguments.paymentaddr.clone().ok_or_else(|| UsageError(missing.into()))?;
    settings(arguments, arguments.pools.clone(), pay_to)
}

/// What the miner is to do, for these pools and this address.
fn settings(arguments: &Arguments, pools: Vec<Url>, pay_to: PayTo) -> Result<miner::Settings, UsageError> {
    let defaults = miner::Settings::new(pools, pay_to, fastrand::u64(..));
    Ok(miner::Settings {
        pool: pool::Settings {
            mine_old: arguments.mineold,
            exact_target: arguments.exact_target,
            easiest: arguments.min_difficulty.map(WorkBits::at_least),
            ..defaults.pool
        },
        upload: upload::Settings {
            uploaders: arguments.uploaders.map_or(defaults.upload.uploaders, NonZero::get),
            timeout: arguments.uploadtimeout.unwrap_or(defaults.upload.timeout),
            limit: arguments.max_upload,
            ..defaults.upload
        },
        cancel: match arguments.cancel {
            Cancel::Now => CancelPolicy::Now,
            Cancel::Finish => CancelPolicy::Finish,
        },
        backends: arguments.backend.into(),
        gpu: arguments.gpu.settings(arguments.backend == Backend::Cpu)?,
        cpu: cpu::Settings {
            threads: arguments.threads,
            team: arguments.team,
            kernel: arguments.kernel.0,
            share: cpu::Share {
                nice: arguments.nice,
                processors: arguments.affinity.clone().map(|list| list.0).unwrap_or_default(),
                max_cpu: arguments.max_cpu,
            },
        },
        duration: arguments.duration,
        interval: arguments.interval,
        quiet: arguments.quiet,
        format: Some(if arguments.json { Format::Json } else { Format::Text }),
        ..defaults
    })
}

/// Puts the layers together again and has the miner change what can be changed while it mines. What is wrong is told,
/// and the old settings stay.
///
/// `started` is what the miner was started with, `current` what was read last.
fn reload(layers: &Layers, started: &Resolved, current: &mut Resolved, control: &miner::Control) {
    let refused =
        |why: &dyn std::fmt::Display| tracing::error!("the old settings stay, the new ones are wrong: {why}");
    let new = match layers.resolve() {
        Ok(new) => new,
        Err(error) => return refused(&error),
    };
    let arguments = new.matches.subcommand().map(|(_, matches)| Arguments::from_arg_matches(matches));
    let arguments = match arguments {
        Some(Ok(arguments)) => arguments,
        Some(Err(error)) => return refused(&error),
        None => return,
    };
    if let Some(file) = new.file.as_ref().filter(|file| current.file.as_ref() != Some(file)) {
        tracing::info!("settings read from {}", file.display());
    }
    // What has been told once need not be told again.
    for warning in new.warnings.iter().filter(|warning| !current.warnings.contains(warning)) {
        tracing::warn!("{warning}");
    }
    for note in new.notes.iter().filter(|note| !current.notes.contains(note)) {
        tracing::info!("{note}");
    }
    let changed = new.changed(current);
    if changed.is_empty() {
        tracing::info!("the settings were read again and are what they were");
        *current = new;
        return;
    }
    let own_pool = |resolved: &Resolved| {
        resolved.settings.iter().any(|setting| setting.key == "pools" && setting.values.is_empty())
    };
    if own_pool(&new) != own_pool(current) {
        return refused(&"going to or from the miner's own pool needs a restart");
    }
    let (live, other): (Vec<_>, Vec<_>) = changed.iter().partition(|key| LIVE.contains(key));
    let waiting = new.changed(started);
    let waiting: Vec<_> = waiting.iter().filter(|key| !LIVE.contains(key)).collect();
    if !live.is_empty() {
        let changed = if own_pool(&new) {
            // It stays: nothing else is known of it here.
            settings(&arguments, Vec::new(), LOCAL_PAY_TO.parse().expect("it has letters only"))
        } else {
            named_pools(&arguments)
        };
        match changed {
            Ok(settings) => control.change(settings),
            Err(error) => return refused(&error),
        }
        tracing::info!("settings changed: {}", join(&live));
    }
    match (other.is_empty(), waiting.is_empty()) {
        (true, _) => {}
        (false, true) => tracing::info!("what needed a restart is again as it was: {}", join(&other)),
        (false, false) => tracing::warn!("needs a restart: {}", join(&waiting)),
    }
    *current = new;
}

fn join(keys: &[&&str]) -> String {
    keys.iter().map(|key| **key).collect::<Vec<_>>().join(", ")
}

/// Reads a payment address.
fn payment_address(text: &str) -> Result<PayTo, String> {
    text.parse().map_err(|_: PayToError| {
        format!(
            "{text:?} is no payment address: give your own, such as pkt1q…, of 1 to 63 letters and digits"
        )
    })
}

/// Starts a pool in this process and says so.
fn start_own_pool(
    difficulty: Option<u64>,
    block_time: Option<Duration>,
) -> anyhow::Result<local_pool::LocalPool> {
    let defaults = local_pool::Settings::default();
    let settings = local_pool::Settings {
        work_bits: difficulty.map_or(defaults.work_bits, WorkBits::at_least),
        block_time: Some(block_time.unwrap_or(Duration::from_secs(60))).filter(|time| !time.is_zero()),
        ..defaults
    };
    let work_bits = settings.work_bits;
    let pool = local_pool::LocalPool::start(settings).context("cannot start the miner's own pool")?;
    tracing::info!(
        "no pool was named: mining against a pool of our own, {}, difficulty {:.0}; nothing leaves this machine and \
         nobody is paid",
        pool.url(),
        difficulty_shown(work_bits)
    );
    Ok(pool)
}
