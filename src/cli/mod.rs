//! What the user typed: the commands, their flags, and how a failure is told. No logic beyond that.

mod ann;
mod api;
mod bench;
mod difficulty;
mod log;
mod log_file;
mod pool;
mod units;
mod verify;

use std::{io::Write, process::ExitCode, str::FromStr, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use kernels::{Kernel, kernel::UnknownKernel};
use url::Url;

use self::log::Log;

/// Announcement miner and hardware benchmark for PacketCrypt.
#[derive(Debug, Parser)]
#[command(name = "pktmine", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Log more: -v what state machines decide, -vv everything (the variable RUST_LOG says it finer)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,

    /// When to colour the output
    #[arg(long, value_enum, default_value_t, global = true, value_name = "WHEN")]
    color: Color,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mine announcements
    #[command(alias = "annmine")]
    Ann(ann::Arguments),
    /// Measure this machine, without any network
    Bench(bench::Arguments),
    /// Explain and compute which difficulty to ask a pool for
    Difficulty(difficulty::Arguments),
    /// Run a pool on this machine: a master and ann handlers, for tests, demonstrations and benchmarks
    Pool(pool::Arguments),
    /// Validate announcements
    Verify(verify::Arguments),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands' exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done.
    Done,
    /// Failed; what failed has been said.
    Failed,
}

/// A kernel, or none for the fastest.
#[derive(Clone, Copy, Debug)]
struct KernelChoice(Option<Kernel>);

impl FromStr for KernelChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            name => {
                name.parse().map(|kernel| Self(Some(kernel))).map_err(|e: UnknownKernel| format!("{e}, auto"))
            }
        }
    }
}

/// A failure that the user can mend by typing something else.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let mut log = Log::start(arguments.verbose);
    let result = match arguments.command {
        Command::Ann(arguments) => ann::run(arguments, &mut log),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Difficulty(arguments) => difficulty::run(&arguments),
        Command::Pool(arguments) => pool::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    };
    match result {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Failed) => ExitCode::from(1),
        Err(error) => {
            // Where stderr cannot be written to, the exit code has to do.
            let _ = writeln!(anstream::stderr(), "pktmine: {error:#}");
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

/// Reads a pool's address.
fn pool_url(text: &str) -> Result<Url, UsageError> {
    let url = Url::parse(text).map_err(|e| {
        UsageError(format!("{text:?} is not a pool's address: {e} (try http://pool.example.com)"))
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(UsageError(format!(
            "{text:?} is not a pool's address: it must begin with http:// or https://"
        )));
    }
    Ok(url)
}

/// Reads durations as people type them: `90s`, `10m`, `1h 30m`, or plain seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string());
    }
    humantime::parse_duration(text).map_err(|e| format!("{e} (try 90s, 10m or 1h)"))
}

/// Reads a duration that may not be zero.
fn parse_period(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than nothing".into()),
        period => Ok(period),
    }
}
