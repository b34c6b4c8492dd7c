//! Ctrl-C and SIGTERM.

use std::{io, thread};

use signal_hook::{
    consts::signal::{SIGINT, SIGTERM},
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
