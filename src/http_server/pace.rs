//! How long clients may take: what a connection is at, and until when it must be done with that.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

/// Bytes of a body, or of answers, that must pass within each [`Times::stall`]: the lowest rate.
pub const LEAST: usize = 16 * 1024;

/// How long clients may take. None of these times includes work on this side.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// To ask something on a connection, from its opening or from the answer before.
    pub idle: Duration,
    /// To send the head of a request, from its first byte on.
    pub head: Duration,
    /// To send a whole body.
    pub body: Duration,
    /// To send 16 KiB of a body or the rest of it, and to take 16 KiB of answers or the rest of them.
    pub stall: Duration,
}

/// A stretch in which bytes must pass no slower than at the lowest rate.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    since: Instant,
    bytes: usize,
}

impl Pace {
    /// Begins.
    pub fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// Some bytes have passed.
    pub fn passed(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes;
        if self.bytes >= LEAST {
            *self = Self::new(now);
        }
    }

    /// When the next ones are overdue.
    pub fn deadline(&self, times: &Times) -> Instant {
        self.since + times.stall
    }
}

/// What a connection is at.
#[derive(Debug)]
pub struct Meter(Mutex<State>);

#[derive(Debug)]
struct State {
    is_answering: bool,
    waiting_since: Instant,
    /// When the first byte of a head came that is not whole yet.
    head_since: Option<Instant>,
    /// There are bytes that the client has not taken yet.
    sending: Option<Pace>,
    /// Waits until all is sent.
    waker: Option<Waker>,
}

/// What a client is too slow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// It asks nothing.
    Idle,
    /// The head of its request does not come to an end.
    Head,
    /// It does not take its answers.
    Answer,
}

impl Meter {
    /// A connection was opened.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            is_answering: false,
            waiting_since: now,
            head_since: None,
            sending: None,
            waker: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come.
    pub fn received(&self, now: Instant) {
        let state = &mut *self.lock();
        if !state.is_answering {
            state.head_since.get_or_insert(now);
        }
    }

    /// There are bytes to send.
    pub fn sends(&self, now: Instant) {
        self.lock().sending.get_or_insert(Pace::new(now));
    }

    /// The client has taken some of them.
    pub fn sent(&self, bytes: usize, now: Instant) {
        if let Some(pace) = &mut self.lock().sending {
            pace.passed(bytes, now);
        }
    }

    /// The client has taken all of them.
    pub fn all_sent(&self) {
        let waker = {
            let state = &mut *self.lock();
            state.sending = None;
            state.waker.take()
        };
        waker.inspect(Waker::wake_by_ref);
    }

    /// Waits until the client has taken all that there was to send.
    pub fn poll_all_sent(&self, context: &Context<'_>) -> Poll<()> {
        let state = &mut *self.lock();
        if state.sending.is_none() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// The head of a request is there.
    pub fn begins_answering(&self) {
        let state = &mut *self.lock();
        (state.is_answering, state.head_since) = (true, None);
    }

    /// A request is answered, but for what is still to be sent.
    pub fn ends_answering(&self, now: Instant) {
        let state = &mut *self.lock();
        (state.is_answering, state.head_since, state.waiting_since) = (false, None, now);
    }

    /// What the client must do next, and until when; `None`: it waits for us.
    pub fn deadline(&self, times: &Times) -> Option<(Instant, Slow)> {
        let state = self.lock();
        if let Some(pace) = &state.sending {
            return Some((pace.deadline(times), Slow::Answer));
        }
        match state.head_since {
            _ if state.is_answering => None,
            Some(since) => Some((since + times.head, Slow::Head)),
            None => Some((state.waiting_since + times.idle, Slow::Idle)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        idle: Duration::from_secs(60),
        head: Duration::from_secs(10),
        body: Duration::from_secs(30),
        stall: Duration::from_secs(5),
    };

    /// A meter, and its deadline in seconds since the start.
    struct Watched {
        meter: Arc<Meter>,
        start: Instant,
    }

    impl Watched {
        fn new() -> Self {
            let start = Instant::now();
            Self { meter: Meter::new(start), start }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn deadline(&self) -> Option<(u64, Slow)> {
            self.meter.deadline(&TIMES).map(|(at, slow)| ((at - self.start).as_secs(), slow))
        }
    }

    #[test]
    fn a_head_must_be_whole_some_time_after_its_first_byte_however_it_trickles() {
        let watched = Watched::new();
        assert_eq!(watched.deadline(), Some((60, Slow::Idle)));
        (50..59).for_each(|second| watched.meter.received(watched.at(second)));
        assert_eq!(watched.deadline(), Some((60, Slow::Head)));
        watched.meter.begins_answering();
        assert_eq!(watched.deadline(), None, "now it is our turn");
        watched.meter.received(watched.at(100));
        watched.meter.ends_answering(watched.at(200));
        assert_eq!(watched.deadline(), Some((260, Slow::Idle)));
    }

    #[test]
    fn answers_must_be_taken_no_slower_than_at_the_lowest_rate() {
        let watched = Watched::new();
        watched.meter.begins_answering();
        watched.meter.sends(watched.at(1));
        (2..5).for_each(|second| watched.meter.sent(1, watched.at(second)));
        assert_eq!(watched.deadline(), Some((6, Slow::Answer)), "single bytes gain no time");
        watched.meter.ends_answering(watched.at(5));
        watched.meter.sent(LEAST, watched.at(5));
        assert_eq!(watched.deadline(), Some((10, Slow::Answer)));
        watched.meter.all_sent();
        assert_eq!(watched.deadline(), Some((65, Slow::Idle)));
    }

    #[test]
    fn nothing_more_is_answered_before_what_was_answered_is_taken() {
        let watched = Watched::new();
        let context = Context::from_waker(Waker::noop());
        assert!(watched.meter.poll_all_sent(&context).is_ready());
        watched.meter.sends(watched.at(0));
        assert!(watched.meter.poll_all_sent(&context).is_pending());
        watched.meter.all_sent();
        assert!(watched.meter.poll_all_sent(&context).is_ready());
    }
}
