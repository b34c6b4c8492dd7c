//! Answers that are dear are not made anew for whoever asks and asks.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::validation::lock;
use crate::http_server::Reply;

/// How often an answer is made anew: that many times in a row, and then once in each period.
const IN_A_ROW: u32 = 50;
const PERIOD: Duration = Duration::from_millis(50);

/// The newest answer, and how many more may be made.
#[derive(Debug)]
pub struct Sparing(Mutex<State>);

#[derive(Debug)]
struct State {
    left: u32,
    /// When one more was allowed last.
    since: Instant,
    /// To whom it was given: it says how the pool was asked.
    newest: Option<(String, Reply)>,
}

impl Sparing {
    /// All may be made anew.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State { left: IN_A_ROW, since: now, newest: None }))
    }

    /// An answer, made anew if it may be, else the newest that was made for the same host; `None`: there is none.
    pub fn get(&self, host: &str, now: Instant, make: impl FnOnce() -> Reply) -> Option<Reply> {
        {
            let state = &mut *lock(&self.0);
            let periods = now.duration_since(state.since).as_nanos() / PERIOD.as_nanos();
            if periods > 0 {
                state.left =
                    IN_A_ROW.min(state.left.saturating_add(u32::try_from(periods).unwrap_or(u32::MAX)));
                state.since = now;
            }
            if state.left == 0 {
                return state.newest.as_ref().filter(|(of, _)| of == host).map(|(_, reply)| reply.clone());
            }
            state.left -= 1;
        }
        let reply = make();
        lock(&self.0).newest = Some((host.to_owned(), reply.clone()));
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_too_often_sees_the_newest_answer_again() {
        let start = Instant::now();
        let (sparing, mut made) = (Sparing::new(start), 0);
        let mut ask = |host: &str, now| {
            let reply = sparing.get(host, now, || {
                made += 1;
                Reply::text(200, &made.to_string())
            });
            reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned())
        };
        for expected in 1..=IN_A_ROW {
            assert_eq!(ask("a", start), Some(expected.to_string()));
        }
        assert_eq!(ask("a", start), Some(IN_A_ROW.to_string()));
        assert_eq!(ask("b", start), None, "it was made for another host");
        assert_eq!(ask("b", start + PERIOD), Some((IN_A_ROW + 1).to_string()));
        assert_eq!(ask("b", start + PERIOD), Some((IN_A_ROW + 1).to_string()));
        let later = start + 1000 * PERIOD;
        for more in 2..=IN_A_ROW + 1 {
            assert_eq!(ask("a", later), Some((IN_A_ROW + more).to_string()));
        }
        assert_eq!(ask("a", later), Some((2 * IN_A_ROW + 1).to_string()));
    }
}
