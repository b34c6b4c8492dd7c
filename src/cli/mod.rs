//! What the user typed: the commands, their flags, and how a failure is told. No logic beyond that.

mod ann;
mod api;
mod bench;
mod config;
mod devices;
mod difficulty;
mod documents;
mod gpu;
mod log;
mod log_file;
mod pool;
mod tune;
mod units;
mod verify;

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    process::ExitCode,
    str::FromStr,
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use kernels::{Kernel, kernel::UnknownKernel};
use url::Url;

use self::log::Log;
use crate::{
    config::{ConfigError, Layers, Resolved, with_switches},
    report::PATIENCE,
};

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
    /// Find the settings with which this machine mines fastest, and keep them
    Tune(tune::Arguments),
    /// Explain and compute which difficulty to ask a pool for
    Difficulty(difficulty::Arguments),
    /// Run a pool on this machine: a master and ann handlers, for tests, demonstrations and benchmarks
    Pool(pool::Arguments),
    /// List what there is to mine with: GPUs and processors
    Devices(devices::Arguments),
    /// Validate announcements
    Verify(verify::Arguments),
    /// Check the settings file, and show what settings come from where
    #[command(subcommand)]
    Config(config::Arguments),
    /// Print what a shell needs to complete commands and flags
    Completions(documents::Completions),
    /// Print the manual page, or write those of all commands
    Man(documents::Man),
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

/// The whole command line.
pub fn definition() -> clap::Command {
    with_switches(Arguments::command()).mut_subcommands(with_negative_numbers)
}

/// Lets `-1` be a value, so that a flag's own parser says what it must be.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let takes = |arg: clap::Arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    command.mut_args(takes).mut_subcommands(with_negative_numbers)
}

/// Reads the command line, and what variables and the settings file say where it says nothing.
fn parse() -> Result<(Arguments, Option<(Layers, Resolved)>), ConfigError> {
    let definition = definition();
    let matches = definition.clone().get_matches();
    let layered = match Layers::of(&definition, &matches) {
        Some(layers) => Some(layers.resolve().map(|resolved| (layers, resolved))?),
        None => None,
    };
    let matches = layered.as_ref().map_or(&matches, |(_, resolved)| &resolved.matches);
    let arguments = Arguments::from_arg_matches(matches).map_err(|e| ConfigError(vec![e.to_string()]))?;
    Ok((arguments, layered))
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let (arguments, layered) = match parse() {
        Ok(parsed) => parsed,
        Err(ConfigError(problems)) => {
            for problem in problems {
                complain(format_args!("pktmine: {problem}\n"));
            }
            return ExitCode::from(2);
        }
    };
    match arguments.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let mut log = match Log::start(arguments.verbose) {
        Ok(log) => log,
        Err(error) => {
            complain(format_args!("pktmine: {error}\n"));
            return ExitCode::from(2);
        }
    };
    if let Some((_, resolved)) = &layered {
        if let Some(file) = &resolved.file {
            tracing::info!("settings read from {}", file.display());
        }
        resolved.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        resolved.notes.iter().for_each(|note| tracing::info!("{note}"));
    }
    let result = match (arguments.command, layered) {
        (Command::Ann(arguments), Some((layers, resolved))) => {
            ann::run(arguments, layers, resolved, &mut log)
        }
        (Command::Config(config::Arguments::Print(print)), Some((_, resolved))) => {
            config::print(&print, &resolved)
        }
        (Command::Config(config::Arguments::Check(check)), _) => config::check(&definition(), &check),
        (Command::Ann(_) | Command::Config(_), None) => unreachable!("these commands have settings"),
        (Command::Bench(arguments), _) => bench::run(arguments),
        (Command::Devices(arguments), _) => devices::run(&arguments),
        (Command::Difficulty(arguments), _) => difficulty::run(&arguments),
        (Command::Pool(arguments), _) => pool::run(arguments),
        (Command::Tune(arguments), _) => tune::run(&arguments, &definition()),
        (Command::Verify(arguments), _) => verify::run(arguments),
        (Command::Completions(arguments), _) => documents::completions(&arguments, definition()),
        (Command::Man(arguments), _) => documents::man(&arguments, definition()),
    };
    match result {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Failed) => ExitCode::from(1),
        Err(error) => {
            complain(format_args!("pktmine: {error:#}\n"));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

/// Writes to stdout; a reader who has seen enough is no failure.
///
/// # Errors
/// If it cannot be written, on a full disk for example.
fn print(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

/// Writes to stderr; where that is not possible, or not soon, there is nobody left to tell.
fn complain(text: impl Display) {
    let text = text.to_string();
    let (end, ended) = mpsc::channel();
    let write = move || {
        let _ = anstream::stderr().write_all(text.as_bytes());
        let _ = end.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = ended.recv_timeout(PATIENCE);
    }
}

/// Reads a pool's address.
fn pool_url(text: &str) -> Result<Url, UsageError> {
    let web = |text: &str| {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("it must begin with http:// or https://".to_owned());
        }
        match url.query().or(url.fragment()) {
            Some(more) => Err(format!("nothing is asked of a pool by its address ({more:?})")),
            None => Ok(url),
        }
    };
    web(text).map_err(|why| {
        let meant = format!("http://{text}");
        let (why, meant) = if text.contains("://") || web(&meant).is_err() {
            (why.as_str(), "http://pool.example.com")
        } else {
            ("it must begin with http:// or https://", meant.as_str())
        };
        UsageError(format!("{text:?} is not a pool's address: {why} (try {meant})"))
    })
}

/// The longest duration that can be asked for: clocks go on from any moment for some centuries only.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Reads durations as people type them: `90s`, `10m`, `1h 30m`, or plain seconds; [`LONGEST`] at most.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds)
            .map_err(|_| "it must be a time from 0 to ten years".to_owned())?,
        Err(_) => humantime::parse_duration(text).map_err(|e| format!("{e} (try 90s, 10m or 1h)"))?,
    };
    if duration > LONGEST { Err("must be ten years at most".into()) } else { Ok(duration) }
}

/// Reads a duration that may not be zero.
fn parse_period(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than nothing".into()),
        period => Ok(period),
    }
}

/// The shortest time between two lines: nobody reads faster, and a pipe or a disk would be full of them.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Reads the time between two lines.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < SHORTEST_INTERVAL { Err("must be 100ms at least".into()) } else { Ok(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_ten_times_a_second_at_most() {
        for (text, millis) in [("100ms", 100), ("0.1", 100), ("10s", 10_000)] {
            assert_eq!(parse_interval(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["0", "1ns", "99ms", "0.05"] {
            assert_eq!(parse_interval(text), Err("must be 100ms at least".into()), "{text}");
        }
    }

    #[test]
    fn durations_are_what_people_type_and_no_longer_than_clocks_go() {
        for (text, seconds) in [("90s", 90), ("1h 30m", 5400), ("0", 0), ("315360000", LONGEST.as_secs())] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["1e19", "18446744073709551615s", "-1", "nan", "11years", "soon"] {
            parse_duration(text).expect_err(text);
        }
    }

    #[test]
    fn the_command_line_is_well_defined_and_knows_each_setting_that_can_change_while_mining() {
        let definition = definition();
        definition.clone().debug_assert();
        let ann = definition.find_subcommand("ann").expect("there is such a command");
        for key in ann::LIVE {
            let known = ann.get_arguments().any(|arg| arg.get_long() == Some(key) || arg.get_id() == key);
            assert!(known, "{key} is no setting");
        }
    }
}
