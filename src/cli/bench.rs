//! `pktmine bench`: measure this machine.

use std::{fs, num::NonZero, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{Exit, KernelChoice, UsageError, complain, gpu, parse_period, print, units::parse_count};
use crate::{
    backend::cpu,
    bench::{
        self, Progress, Report, Settings, Setup, Stopper,
        checksum::{self, Outcome, Verdict},
        compare, html, text,
    },
    report::scaled,
    shutdown,
};

/// The difficulty that is measured unless the user says otherwise.
const DIFFICULTY: u64 = 128;

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Each configuration is measured after a warm-up, until the first round that ends after --duration, so that the figures \
are of whole rounds. All runs mine the same rounds. ann/s is what is to be expected of the hashes made, found/s what was \
found, which varies by luck; e/s is the expected announcements times their difficulty.

--checksum mines hard nonces that are known beforehand, all of each, and holds the announcements to known ones: exit \
code 1 if this machine computes wrongly.")]
pub struct Arguments {
    /// What mines
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    backend: Backend,

    /// CPU kernel: auto is the fastest that the processor can run
    #[arg(long, default_value = "auto", value_name = "KERNEL")]
    kernel: KernelChoice,

    /// Threads that mine, each number measured by itself: 1,2,4 [default: all processors]
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', value_parser = parse_count::<NonZero<usize>>)]
    threads: Vec<NonZero<usize>>,

    /// Threads that share a round and its table [default: those that share a last-level cache]
    #[arg(long, value_name = "N", value_parser = parse_count::<NonZero<usize>>)]
    team: Option<NonZero<usize>>,

    #[command(flatten)]
    gpu: gpu::Flags,

    /// Difficulties, each measured by itself: 2,128,4096 [default: 128; with --checksum 2]
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(2..))]
    difficulty: Vec<u64>,

    /// How long each configuration is measured
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_period)]
    duration: Duration,

    /// Check that this machine computes correctly, on that many hard nonces [default: 64]
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = checksum::DEFAULT_ROUNDS,
        value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with_all = ["duration", "compare", "html"]
    )]
    checksum: Option<u32>,

    /// Hold this run against one that was saved: pktmine bench --json > FILE
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// The processors, the graphics cards if there are any, and both together, each by itself
    #[default]
    Auto,
    /// The processors
    Cpu,
    /// Graphics cards
    Gpu,
}

/// Runs the command.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    no_duplicates("--threads", &arguments.threads)?;
    no_duplicates("--difficulty", &arguments.difficulty)?;
    let setups = setups(&arguments)?;
    let saved = match &arguments.compare {
        Some(file) => Some(Report::read(file).map_err(|error| UsageError(error.to_string()))?),
        None => None,
    };
    if let Some(directory) = arguments.html.as_ref().and_then(|file| file.parent())
        && !directory.as_os_str().is_empty()
        && !directory.is_dir()
    {
        return Err(UsageError(format!("--html: there is no directory {}", directory.display())).into());
    }
    let stopper = stop_on_signal()?;
    if let Some(rounds) = arguments.checksum {
        return check(&arguments, &setups, rounds, &stopper);
    }

    let difficulties = or_default(&arguments.difficulty, DIFFICULTY);
    let settings = Settings { setups, difficulties, duration: arguments.duration };
    let bar = Bar::new();
    let report = bench::run(&settings, &stopper, &mut |progress| bar.show(progress));
    bar.clear();
    let report = report?;
    if report.measurements.is_empty() {
        anyhow::bail!("it was ended before anything was measured");
    }
    // Each of them is tried, whatever becomes of the other: what was measured took minutes.
    let written = arguments.html.as_ref().map_or(Ok(()), |file| {
        fs::write(file, html::page(&report)).with_context(|| format!("cannot write {}", file.display()))
    });
    print(if arguments.json { format!("{}\n", report.to_json()) } else { text::report(&report) })?;
    if let Some(saved) = &saved {
        let comparison = compare::compare(saved, &report);
        if arguments.json {
            complain(comparison);
        } else {
            print(format!("\n{comparison}"))?;
        }
    }
    written?;
    Ok(Exit::Done)
}

/// What is to be measured, one after the other.
fn setups(arguments: &Arguments) -> Result<Vec<Setup>, UsageError> {
    if arguments.backend == Backend::Gpu && (!arguments.threads.is_empty() || arguments.team.is_some()) {
        return Err(UsageError("--threads and --team are for processors: leave --backend gpu away".into()));
    }
    let threads = match arguments.threads.as_slice() {
        [] => vec![None],
        list => list.iter().copied().map(Some).collect(),
    };
    let cpu = |threads| cpu::Settings {
        threads,
        team: arguments.team,
        kernel: arguments.kernel.0,
        ..cpu::Settings::default()
    };
    let gpu = arguments.gpu.settings(arguments.backend == Backend::Cpu)?;
    let unknown = |error| UsageError(format!("--device: {error}"));
    let has_gpus = arguments.backend != Backend::Cpu && !gpu.devices.find().map_err(unknown)?.is_empty();
    let mut setups = Vec::new();
    if arguments.backend != Backend::Gpu {
        setups.extend(threads.into_iter().map(|threads| Setup::cpu(cpu(threads))));
    }
    if has_gpus || arguments.backend == Backend::Gpu {
        setups.push(Setup::gpu(gpu.clone()));
    }
    if has_gpus && arguments.backend == Backend::Auto {
        setups.push(Setup::all(cpu(None), gpu));
    }
    Ok(setups)
}

fn no_duplicates<T: PartialEq + std::fmt::Display>(flag: &str, list: &[T]) -> Result<(), UsageError> {
    match list.iter().enumerate().find(|(i, one)| list[..*i].contains(one)) {
        Some((_, twice)) => Err(UsageError(format!("{flag} has {twice} twice: name each once"))),
        None => Ok(()),
    }
}

fn or_default(list: &[u64], default: u64) -> Vec<u64> {
    if list.is_empty() { vec![default] } else { list.to_vec() }
}

/// The first Ctrl-C ends the run with what there is, the second at once.
pub(super) fn stop_on_signal() -> anyhow::Result<Stopper> {
    let stopper = Stopper::default();
    let asked = stopper.clone();
    let mut times = 0;
    shutdown::on_stop(move || {
        times += 1;
        if times > 1 {
            std::process::exit(1);
        }
        asked.stop();
    })
    .context("cannot catch Ctrl-C")?;
    Ok(stopper)
}

/// Holds each setup to known announcements.
fn check(arguments: &Arguments, setups: &[Setup], rounds: u32, stopper: &Stopper) -> anyhow::Result<Exit> {
    let difficulties = or_default(&arguments.difficulty, checksum::DEFAULT_DIFFICULTY);
    let of = setups.len() * difficulties.len();
    let mut exit = Exit::Done;
    let pairs =
        setups.iter().flat_map(|setup| difficulties.iter().map(move |difficulty| (setup, *difficulty)));
    for (number, (setup, difficulty)) in pairs.enumerate() {
        let bar = Bar::new();
        let what = format!("{}, difficulty {difficulty}", setup.label());
        let mut watch = |fraction| bar.show(&Progress { what: &what, number, of, fraction, rate: None });
        let outcome = checksum::checksum(setup, rounds, difficulty, stopper, &mut watch);
        bar.clear();
        let Some(outcome) = outcome? else {
            anyhow::bail!("it was ended before the checksum was complete");
        };
        if matches!(outcome.verdict, Verdict::Wrong { .. }) {
            exit = Exit::Failed;
        }
        print(if arguments.json {
            format!("{}\n", outcome_json(setup, &outcome))
        } else {
            text::outcome(&setup.label(), &outcome)
        })?;
    }
    Ok(exit)
}

fn outcome_json(setup: &Setup, outcome: &Outcome) -> serde_json::Value {
    let (verdict, expected) = match &outcome.verdict {
        Verdict::Correct => ("correct", Some(outcome.digest.as_str())),
        Verdict::Wrong { digest, .. } => ("wrong", Some(*digest)),
        Verdict::Unknown => ("unknown", None),
    };
    json!({
        "backend": setup.backend,
        "threads": setup.threads,
        "kernel": setup.kernel,
        "hard_nonces": outcome.rounds,
        "difficulty": outcome.difficulty,
        "work_bits": outcome.work_bits.to_string(),
        "announcements": outcome.announcements,
        "seconds": outcome.seconds,
        "checksum": outcome.digest,
        "expected": expected,
        "verdict": verdict,
    })
}

/// A progress bar on stderr; nothing where that is no terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} [{bar:24}] {msg}");
        bar.set_style(style.expect("the template is well formed").progress_chars("=> "));
        Self(bar)
    }

    pub(super) fn show(&self, progress: &Progress) {
        let rate = progress.rate.map(|rate| format!("  {}", scaled(rate))).unwrap_or_default();
        let warming = if progress.fraction == 0.0 { "  warming up" } else { "" };
        // Where nobody knows of how many, the number alone says little.
        if progress.of > 0 {
            self.0.set_prefix(format!("{}/{}", progress.number + 1, progress.of));
        }
        self.0.set_position((progress.fraction * 1000.0) as u64);
        self.0.set_message(format!("{}{rate}{warming}", progress.what));
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
