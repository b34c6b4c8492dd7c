//! `pktmine ann`: mine announcements.

use std::{num::NonZero, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use kernels::WorkBits;
use serde::Deserialize;

use super::{Exit, KernelChoice, Log, UsageError, parse_duration, parse_period, pool_url};
use crate::{
    backend::cpu,
    display::{self, Display},
    local_pool,
    miner::{self, Miner},
    pool,
    protocol::{PayTo, difficulty_shown},
    report::Format,
    scheduler::CancelPolicy,
    sharing, shutdown, upload,
};

/// Who is paid when the pool is our own and pays nobody.
const LOCAL_PAY_TO: &str = "local";

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a pool the miner starts one inside its own process and mines against it over HTTP on the loopback \
interface: nothing leaves this machine and nobody is paid.

The counters of a status line are accepted/duplicate/rejected/stale/overflow/unknown.")]
pub struct Arguments {
    /// Pools to mine for; the first one that is up decides what is mined, all get every announcement
    #[arg(value_name = "POOL_URL")]
    pools: Vec<String>,

    /// Address that is paid
    #[arg(short, long, value_name = "ADDRESS")]
    paymentaddr: Option<String>,

    /// Threads that mine [default: all processors]
    #[arg(short, long, value_name = "N")]
    threads: Option<NonZero<usize>>,

    /// Connections to each ann handler [default: 5]
    #[arg(short = 'U', long, value_name = "N")]
    uploaders: Option<NonZero<usize>>,

    /// How long an upload may take, in seconds [default: 30]
    #[arg(short = 'T', long, value_name = "SECONDS", value_parser = parse_period)]
    uploadtimeout: Option<Duration>,

    /// Mine on the block that many below the tip, whatever the pool asks for
    #[arg(short, long, value_name = "BLOCKS")]
    mineold: Option<u32>,

    /// File with settings (JSON: pools, threads, payment_addr, uploaders, upload_timeout, mine_old_anns);
    /// flags win over it
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// What mines
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    backend: Backend,

    /// CPU kernel: auto is the fastest that the processor can run
    #[arg(long, default_value = "auto", value_name = "KERNEL")]
    kernel: KernelChoice,

    /// Threads that share a round and its table [default: those that share a last-level cache]
    #[arg(long, value_name = "N")]
    team: Option<NonZero<usize>>,

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
        long, visible_alias = "print-time", value_name = "TIME", default_value = "10s", value_parser = parse_period
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

    /// How much less the mining threads matter than other programs: 0 as much, 19 least (Linux)
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
enum Backend {
    /// Everything that this build can use
    #[default]
    Auto,
    /// The processors
    Cpu,
    /// Graphics processors
    Gpu,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Cancel {
    /// Stop it at once
    #[default]
    Now,
    /// Let rounds end while ann handlers take them
    Finish,
}

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

/// The settings file that scripts for other miners already have.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    pools: Option<Vec<String>>,
    threads: Option<NonZero<usize>>,
    payment_addr: Option<String>,
    uploaders: Option<NonZero<usize>>,
    upload_timeout: Option<f64>,
    /// −1 is how other miners say that the pool decides.
    mine_old_anns: Option<i64>,
}

impl ConfigFile {
    fn read(path: &PathBuf) -> anyhow::Result<Self> {
        let wrong = |what: String| UsageError(format!("the settings file {}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("it cannot be read ({e})")))?;
        Ok(serde_json::from_str(&text)
            .map_err(|e| wrong(if e.is_data() { e.to_string() } else { format!("it is not JSON ({e})") }))?)
    }

    fn mine_old(&self) -> Result<Option<u32>, UsageError> {
        match self.mine_old_anns {
            None | Some(-1) => Ok(None),
            Some(blocks) => u32::try_from(blocks).map(Some).map_err(|_| {
                UsageError(format!("mine_old_anns in the settings file is {blocks}: it must be 0 or more, or -1 for what the pool asks for"))
            }),
        }
    }

    fn timeout(&self) -> Result<Option<Duration>, UsageError> {
        let Some(seconds) = self.upload_timeout else { return Ok(None) };
        match Duration::try_from_secs_f64(seconds) {
            Ok(timeout) if !timeout.is_zero() => Ok(Some(timeout)),
            _ => Err(UsageError(format!(
                "upload_timeout in the settings file is {seconds}: it must be a number of seconds above 0"
            ))),
        }
    }
}

/// Runs the command.
pub fn run(arguments: Arguments, log: &mut Log) -> anyhow::Result<Exit> {
    if let Some(path) = &arguments.log_file {
        log.add_file(path)?;
    }
    if arguments.quiet {
        log.be_quiet();
    }
    if arguments.backend == Backend::Gpu {
        anyhow::bail!("the GPU backend is not built yet: mine with --backend cpu");
    }
    let file = arguments.config.as_ref().map(ConfigFile::read).transpose()?.unwrap_or_default();
    let (mine_old, timeout) = (file.mine_old()?, file.timeout()?);
    let named = if arguments.pools.is_empty() { file.pools.unwrap_or_default() } else { arguments.pools };
    let pay_to = arguments.paymentaddr.or(file.payment_addr);
    if named.is_empty() && pay_to.is_some() {
        tracing::warn!(
            "the payment address is of no use without a pool: name one, or leave --paymentaddr away"
        );
    }
    let urls = named.iter().map(|text| pool_url(text)).collect::<Result<Vec<_>, _>>()?;

    if !urls.is_empty() && (arguments.difficulty.is_some() || arguments.block_time.is_some()) {
        let what = "--difficulty and --block-time are for the miner's own pool: the pool in the settings file decides";
        return Err(UsageError(what.into()).into());
    }

    // Kept until the end: dropping it stops it.
    let mut own_pool = None;
    let (urls, pay_to) = if urls.is_empty() {
        let pool = start_own_pool(arguments.difficulty, arguments.block_time)?;
        let url = pool.url();
        own_pool = Some(pool);
        (vec![url], LOCAL_PAY_TO.to_owned())
    } else {
        let missing = "who is to be paid? give your address with --paymentaddr ADDRESS (or payment_addr in the \
                       settings file)";
        (urls, pay_to.ok_or_else(|| UsageError(missing.into()))?)
    };
    let pay_to: PayTo = pay_to
        .parse()
        .map_err(|error| UsageError(format!("{error}: a payment address is 1 to 63 letters and digits")))?;

    let upload_defaults = upload::Settings::new(pay_to, fastrand::u64(..));
    let settings = miner::Settings {
        pools: urls,
        pool: pool::Settings {
            mine_old: arguments.mineold.or(mine_old),
            exact_target: arguments.exact_target,
            ..pool::Settings::default()
        },
        fetch_timeout: miner::FETCH_TIMEOUT,
        upload: upload::Settings {
            uploaders: arguments.uploaders.or(file.uploaders).map_or(upload_defaults.uploaders, NonZero::get),
            timeout: arguments.uploadtimeout.or(timeout).unwrap_or(upload_defaults.timeout),
            ..upload_defaults
        },
        cancel: match arguments.cancel {
            Cancel::Now => CancelPolicy::Now,
            Cancel::Finish => CancelPolicy::Finish,
        },
        cpu: cpu::Settings {
            threads: arguments.threads.or(file.threads),
            team: arguments.team,
            kernel: arguments.kernel.0,
            share: cpu::Share {
                nice: arguments.nice,
                processors: arguments.affinity.map(|list| list.0).unwrap_or_default(),
                max_cpu: arguments.max_cpu,
            },
        },
        duration: arguments.duration,
        drain: miner::DRAIN,
        interval: arguments.interval,
        quiet: arguments.quiet,
        format: Some(if arguments.json { Format::Json } else { Format::Text }),
    };
    let live = !arguments.json && !arguments.quiet;
    let mut miner = Miner::new(settings)?;
    // It answers until the command ends.
    let _api = arguments.api.start(&miner)?;
    if live && let Some(display) = Display::start(log.output(), miner.watch(), miner.control()) {
        miner.show_on(display);
    }
    let sharing =
        sharing::Settings { on_battery: arguments.pause_on_battery, on_active: arguments.pause_on_active };
    sharing::watch(sharing, miner.control()).context("cannot start a thread")?;
    let stopper = miner.stopper();
    let mut asked = 0;
    shutdown::on_signal(move || {
        asked += 1;
        if asked > 2 {
            // It was asked twice and has not gone: whatever holds it up does not hold this up.
            display::restore_terminal();
            std::process::exit(1);
        }
        stopper.stop();
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
