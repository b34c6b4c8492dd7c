//! Ctrl-C, SIGTERM and SIGHUP.

use std::{
    io::{self, IsTerminal},
    thread,
};

use signal_hook::{
    consts::signal::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Calls `asked` for each Ctrl-C or SIGTERM, from a thread of its own, until the process ends.
///
/// # Errors
/// If the system does not let signals be caught.
pub fn on_signal(mut asked: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            asked();
        }
    })?;
    Ok(())
}

/// Calls `asked` for each SIGHUP, from a thread of its own, until the process ends, and says whether the terminal that
/// the process was started on is gone. A closed terminal sends the same signal by which services are asked to read
/// their settings again.
///
/// # Errors
/// If the system does not let signals be caught.
pub fn on_hangup(mut asked: impl FnMut(bool) + Send + 'static) -> io::Result<()> {
    let terminals = || [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    let before = terminals();
    let mut signals = Signals::new([SIGHUP])?;
    thread::Builder::new().name("hangup".into()).spawn(move || {
        for _ in signals.forever() {
            asked(before.iter().zip(terminals()).any(|(before, now)| *before && !now));
        }
    })?;
    Ok(())
}
