//! The log: to stderr, or above the block on a terminal, and to a file.

use std::{
    ffi::OsStr,
    fmt,
    io::{self, IsTerminal, Write},
    path::Path,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{dynamic_filter_fn, filter_fn},
    fmt::{format::Writer, time::FormatTime},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use super::{UsageError, log_file::LogFile};
use crate::{display::LogOutput, report::STATUS_TARGET};

/// Log lines that may wait for a slow reader, or a slow disk; those beyond are left out.
const LINES: usize = 4096;

/// Says what to log, finer than flags do.
const VARIABLE: &str = "RUST_LOG";

/// The log of this process. What waits is written when it is dropped.
pub struct Log {
    output: LogOutput,
    filter: reload::Handle<EnvFilter, Registry>,
    /// Whether the user said with [`VARIABLE`] what to log.
    is_said: bool,
    file: Arc<OnceLock<NonBlocking>>,
    guards: Vec<WorkerGuard>,
}

impl Log {
    /// Starts to log to stderr, so that stdout holds results alone. A thread of its own writes the lines, so that a reader
    /// who has stopped reading stops nobody else.
    ///
    /// # Errors
    /// If the variable that says what to log says nothing that can be understood.
    pub fn start(verbose: u8) -> Result<Self, UsageError> {
        let default = match verbose {
            0 => "pktmine=info,warn",
            1 => "pktmine=debug,warn",
            _ => "trace",
        };
        let said = said(std::env::var_os(VARIABLE).as_deref())?;
        let is_said = said.is_some();
        let (filter, handle) = reload::Layer::new(said.unwrap_or_else(|| EnvFilter::new(default)));
        let output = LogOutput::default();
        let (writer, guard) = writer(output.clone());
        let to_stderr = tracing_subscriber::fmt::layer()
            .with_writer(writer)
            // Telling stderr that stderr cannot be written to would panic.
            .log_internal_errors(false)
            .with_ansi(has_color())
            .with_timer(Seconds)
            .with_target(verbose > 1)
            // These are on stdout, or in the block.
            .with_filter(filter_fn(|metadata| metadata.target() != STATUS_TARGET));
        let file = Arc::new(OnceLock::new());
        let (to, is_open) = (FileOutput(file.clone()), file.clone());
        let to_file = tracing_subscriber::fmt::layer()
            .with_writer(move || to.clone())
            .log_internal_errors(false)
            .with_ansi(false)
            .with_timer(Seconds)
            .with_target(verbose > 1)
            .with_filter(dynamic_filter_fn(move |_, _| is_open.get().is_some()));
        tracing_subscriber::registry().with(filter).with(to_stderr).with(to_file).init();
        Ok(Self { output, filter: handle, is_said, file, guards: vec![guard] })
    }

    /// Where its lines go, for a display.
    pub fn output(&self) -> &LogOutput {
        &self.output
    }

    /// Logs warnings and errors alone from now on, and into a file the totals, unless the user said finer what to log.
    pub fn be_quiet(&self) {
        if !self.is_said {
            // It fails only without a subscriber, and then nothing is logged anyway.
            let _ = self.filter.reload(EnvFilter::new(format!("warn,{STATUS_TARGET}=info")));
        }
    }

    /// Logs to a file as well from now on.
    ///
    /// # Errors
    /// If the file cannot be written to.
    pub fn add_file(&mut self, path: &Path) -> Result<(), UsageError> {
        let file = LogFile::open(path).map_err(|error| {
            UsageError(format!("the log file {} cannot be written to: {error}", path.display()))
        })?;
        let (writer, guard) = writer(file);
        if self.file.set(writer).is_ok() {
            self.guards.push(guard);
        }
        Ok(())
    }
}

/// What the variable says is to be logged; `None` if it says nothing.
fn said(variable: Option<&OsStr>) -> Result<Option<EnvFilter>, UsageError> {
    let Some(text) = variable.filter(|text| !text.is_empty()) else { return Ok(None) };
    let why = match text.to_str().map(EnvFilter::try_new) {
        Some(Ok(filter)) => return Ok(Some(filter)),
        Some(Err(error)) => error.to_string(),
        None => "it is no text".into(),
    };
    Err(UsageError(format!(
        "the variable {VARIABLE}={} is no list of what to log ({why}): write it like pktmine=debug,warn, or unset it",
        text.display()
    )))
}

fn writer(to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(LINES).lossy(true).finish(to)
}

/// Whether lines on stderr have colours.
fn has_color() -> bool {
    match anstream::ColorChoice::global() {
        anstream::ColorChoice::Always | anstream::ColorChoice::AlwaysAnsi => true,
        anstream::ColorChoice::Never => false,
        anstream::ColorChoice::Auto => {
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// The log file, once there is one.
#[derive(Clone)]
struct FileOutput(Arc<OnceLock<NonBlocking>>);

impl Write for FileOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.get() {
            Some(file) => file.clone().write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time of a log line, to the second.
struct Seconds;

impl FormatTime for Seconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", humantime::format_rfc3339_seconds(SystemTime::now()))
    }
}
