//! Ctrl-C, SIGTERM and SIGHUP, and what they ask for.

use std::{
    io::{self, IsTerminal},
    thread,
    time::{Duration, Instant},
};

use signal_hook::{
    consts::signal::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Signals so close together are one wish: `timeout` sends its own to the program and then to the program's group, and a
/// person does not type as fast.
const CHATTER: Duration = Duration::from_millis(100);

/// SIGTERM so soon after another signal is the same wish: shells and service managers send more than one when they end.
const INSISTENCE: Duration = Duration::from_secs(1);

/// What signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To end.
    Stop,
    /// To read the settings again.
    Reload,
}

/// Calls `asked` whenever Ctrl-C or SIGTERM asks to stop, from a thread of its own, until the process ends.
///
/// # Errors
/// If the system does not let signals be caught.
pub fn on_stop(mut asked: impl FnMut() + Send + 'static) -> io::Result<()> {
    catch(&[SIGINT, SIGTERM], move |_| asked())
}

/// Calls `asked` whenever Ctrl-C, SIGTERM or SIGHUP asks for something, from a thread of its own, until the process ends.
///
/// # Errors
/// If the system does not let signals be caught.
pub fn on_signal(asked: impl FnMut(Asked) + Send + 'static) -> io::Result<()> {
    catch(&[SIGINT, SIGTERM, SIGHUP], asked)
}

fn catch(signals: &[i32], mut asked: impl FnMut(Asked) + Send + 'static) -> io::Result<()> {
    let terminals = || [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    let before = terminals();
    let mut signals = Signals::new(signals)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut reader = Reader::default();
        for signal in signals.forever() {
            let terminal_gone = before.iter().zip(terminals()).any(|(before, now)| *before && !now);
            if let Some(wish) = reader.read(signal, terminal_gone, Instant::now()) {
                asked(wish);
            }
        }
    })?;
    Ok(())
}

/// Tells wishes from signals.
#[derive(Debug, Default)]
struct Reader {
    last_stop: Option<Instant>,
}

impl Reader {
    /// What a signal asks for; `None`: nothing that was not asked for already.
    ///
    /// A closed terminal sends the same signal by which services are asked to read their settings again. It is closed
    /// once, however many send it: the system and the shell both do.
    fn read(&mut self, signal: i32, terminal_gone: bool, now: Instant) -> Option<Asked> {
        if signal == SIGHUP && !terminal_gone {
            return Some(Asked::Reload);
        }
        let same_within = match signal {
            SIGHUP => Duration::MAX,
            SIGTERM => INSISTENCE,
            _ => CHATTER,
        };
        if self.last_stop.is_some_and(|last| now.saturating_duration_since(last) < same_within) {
            return None;
        }
        self.last_stop = Some(now);
        Some(Asked::Stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What signals mean that come at these times in milliseconds.
    fn wishes(signals: &[(i32, u64)], terminal_gone: bool) -> Vec<Option<Asked>> {
        let (mut reader, start) = (Reader::default(), Instant::now());
        let read = |(signal, at): &(i32, u64)| {
            reader.read(*signal, terminal_gone, start + Duration::from_millis(*at))
        };
        signals.iter().map(read).collect()
    }

    #[test]
    fn each_ctrl_c_of_a_person_is_a_wish() {
        let stop = Some(Asked::Stop);
        assert_eq!(wishes(&[(SIGINT, 0), (SIGINT, 150), (SIGINT, 300)], false), [stop; 3]);
    }

    #[test]
    fn signals_that_programs_send_twice_are_one_wish() {
        let stop = Some(Asked::Stop);
        assert_eq!(wishes(&[(SIGINT, 0), (SIGINT, 1)], false), [stop, None]);
        assert_eq!(wishes(&[(SIGTERM, 0), (SIGTERM, 0)], false), [stop, None]);
        assert_eq!(wishes(&[(SIGTERM, 0), (SIGTERM, 700), (SIGTERM, 1400)], false), [stop, None, stop]);
    }

    #[test]
    fn a_terminal_is_closed_once() {
        let stop = Some(Asked::Stop);
        assert_eq!(wishes(&[(SIGHUP, 0), (SIGHUP, 5), (SIGHUP, 5000)], true), [stop, None, None]);
        assert_eq!(wishes(&[(SIGHUP, 0), (SIGTERM, 70), (SIGINT, 3000)], true), [stop, None, stop]);
        assert_eq!(wishes(&[(SIGINT, 0), (SIGHUP, 3000)], true), [stop, None]);
    }

    #[test]
    fn where_the_terminal_is_there_a_hangup_asks_for_the_settings() {
        assert_eq!(wishes(&[(SIGHUP, 0), (SIGHUP, 1)], false), [Some(Asked::Reload); 2]);
        assert_eq!(wishes(&[(SIGHUP, 0), (SIGTERM, 1)], false), [Some(Asked::Reload), Some(Asked::Stop)]);
    }
}
