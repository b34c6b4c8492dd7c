//! The terminal as a device: what it is, its modes, its keys and the signals about it.

use std::{
    fs::File,
    io::{self, IsTerminal},
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::fstat,
    process::getpgrp,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr},
};
use signal_hook::{
    consts::signal::{SIGCONT, SIGTSTP, SIGWINCH},
    iterator::Signals,
    low_level::emulate_default_handler,
};

/// The modes that the terminal had before; `None`: it has them still. Known to the whole process, so that whoever ends it
/// in a hurry can restore them.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// How often it is looked whether the process is in the foreground again.
const LOOK: Duration = Duration::from_millis(250);

/// Whether lines can be painted over on stdout.
pub fn can_paint() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    io::stdout().is_terminal() && !dumb
}

/// Whether stdin and stdout are the same terminal, so that keys can be read from it.
pub fn has_keys() -> bool {
    io::stdin().is_terminal() && is_same(io::stdin(), io::stdout())
}

/// Whether what is written to stderr appears on stdout's terminal.
pub fn has_log() -> bool {
    io::stderr().is_terminal() && is_same(io::stderr(), io::stdout())
}

fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    matches!((fstat(one), fstat(other)), (Ok(one), Ok(other)) if one.st_rdev == other.st_rdev)
}

/// Stdout, unbuffered: a block is written in one piece.
///
/// # Errors
/// If the system gives no file descriptor.
pub fn writer() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Columns and rows; what all terminals once had where it is not told.
pub fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size_of(io::stdout());
    let size = size.map(|(width, height)| (usize::from(width.0), usize::from(height.0)));
    size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or((80, 24))
}

/// Whether the terminal is ours: a process in the background has no business with it, and is stopped if it tries.
pub fn is_foreground() -> bool {
    tcgetpgrp(io::stdout()).is_ok_and(|group| group == getpgrp())
}

/// Has the terminal hand over each key at once and show none. Signals such as Ctrl-C's stay what they are.
pub fn take_keys() {
    let Ok(before) = tcgetattr(io::stdin()) else { return };
    let mut modes = before.clone();
    modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    if tcsetattr(io::stdin(), OptionalActions::Now, &modes).is_ok() {
        BEFORE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(before);
    }
}

/// Gives the terminal the modes back that it had. Does nothing if it has them, or if it is somebody else's now.
pub fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before.filter(|_| is_foreground()) {
        // Nothing can be done about a terminal that does not take them.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Has the calling thread not be stopped for meddling with a terminal that has just become somebody else's: its calls
/// fail instead.
pub fn do_not_stop() {
    let signals = SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]);
    // It fails for signals that do not exist.
    let _ = signals.thread_block();
}

/// Calls `pressed` for each key while `goes_on` says so and there is a terminal. Only keys that make a character count,
/// and they are told in lower case.
pub fn read_keys(goes_on: impl Fn() -> bool, mut pressed: impl FnMut(char)) {
    do_not_stop();
    let stdin = io::stdin();
    let patience = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
    while goes_on() {
        if !is_foreground() {
            thread::sleep(LOOK);
            continue;
        }
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut ready, Some(&patience)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let mut bytes = [0; 64];
        match rustix::io::read(&stdin, &mut bytes) {
            Ok(0) => return,
            Ok(n) => keys_in(&bytes[..n]).into_iter().for_each(&mut pressed),
            // In the background since a moment ago.
            Err(rustix::io::Errno::IO | rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {
                thread::sleep(LOOK)
            }
            Err(_) => return,
        }
    }
}

/// The keys that make a character, in lower case. What cursor keys and the like send are sequences that begin with Escape.
fn keys_in(bytes: &[u8]) -> Vec<char> {
    let mut keys = Vec::new();
    let mut bytes = bytes.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            // Parameters, and a last byte from `@` to `~`.
            0x1b if bytes.next_if_eq(&b'[').is_some() => {
                bytes.by_ref().find(|byte| (0x40..=0x7e).contains(byte));
            }
            0x1b if bytes.next_if_eq(&b'O').is_some() => drop(bytes.next()),
            key if key.is_ascii_graphic() => keys.push(char::from(key.to_ascii_lowercase())),
            _ => {}
        }
    }
    keys
}

/// What happens to a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has another size.
    Size,
    /// The process is about to be stopped.
    Stop,
    /// The process was stopped and goes on.
    Continue,
}

/// Calls `changed` for all that happens, from a thread of its own. The process stops after the call with
/// [`Change::Stop`].
///
/// # Errors
/// If the system does not let signals be caught.
pub fn on_change(mut changed: impl FnMut(Change) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGWINCH, SIGTSTP, SIGCONT])?;
    thread::Builder::new().name("terminal".into()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGWINCH => changed(Change::Size),
                SIGTSTP => {
                    changed(Change::Stop);
                    // It returns when the process goes on, which SIGCONT tells of as well.
                    let _ = emulate_default_handler(SIGTSTP);
                }
                _ => changed(Change::Continue),
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_keys_are_not_taken_for_letters() {
        assert_eq!(keys_in(b"hP\n \x1b[Aq\x1b[15~r\x1bOHs\xc3\xa9c\x1b"), ['h', 'p', 'q', 'r', 's', 'c']);
        assert!(keys_in(b"\x1b[1;5").is_empty());
    }
}
