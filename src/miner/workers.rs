//! Threads for calls that block: HTTP requests, validation.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(30);

type Task = Box<dyn FnOnce() + Send>;

/// As many threads as there are tasks at one time, up to a bound; those without work for a while end.
///
/// Tasks beyond the bound wait, in order. How many may wait is bounded by who hands them in: there is one task for
/// each request in flight, and for each batch that waits for its verdict.
#[derive(Clone)]
pub struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    most: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Task>,
    threads: usize,
    idle: usize,
}

impl Workers {
    /// Workers of which there are at most `most` at one time.
    pub fn new(name: &'static str, most: usize) -> Self {
        let shared = Shared { name, most: most.max(1), state: Mutex::default(), work: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Runs a task, soon.
    pub fn run(&self, task: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state();
        state.waiting.push_back(Box::new(task));
        if state.idle >= state.waiting.len() || state.threads >= self.shared.most {
            self.shared.work.notify_one();
            return;
        }
        let shared = self.shared.clone();
        match thread::Builder::new().name(self.shared.name.into()).spawn(move || shared.work()) {
            Ok(_) => state.threads += 1,
            // With no thread at all the task would never run: better to wait here than to lose it.
            Err(error) if state.threads == 0 => {
                let task = state.waiting.pop_back();
                drop(state);
                tracing::error!(
                    "no thread for {}: {error}; doing its work in the main thread",
                    self.shared.name
                );
                if let Some(task) = task {
                    task();
                }
            }
            Err(_) => self.shared.work.notify_one(),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(task) = state.waiting.pop_front() {
                drop(state);
                // A task that panics has said so; its thread goes on with the next.
                let _ = catch_unwind(AssertUnwindSafe(task));
                state = self.state();
                continue;
            }
            state.idle += 1;
            let (woken, waited) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn tasks_that_block_do_not_keep_others_waiting_up_to_the_bound() {
        let workers = Workers::new("test", 3);
        let (gate, opened) = mpsc::channel::<()>();
        let opened = Arc::new(Mutex::new(opened));
        let (done, finished) = mpsc::channel();
        for blocked in [true, true, false] {
            let (opened, done) = (opened.clone(), done.clone());
            workers.run(move || {
                if blocked {
                    let _ = opened.lock().expect("not poisoned").recv_timeout(Duration::from_secs(10));
                }
                done.send(blocked).expect("the test waits");
            });
        }
        assert_eq!(finished.recv_timeout(Duration::from_secs(5)), Ok(false));
        drop(gate);
        assert_eq!(finished.iter().take(2).collect::<Vec<_>>(), [true, true]);
    }
}
