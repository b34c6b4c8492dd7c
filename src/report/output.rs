//! Stdout, written to by a thread of its own: whoever reads it may be slow, asleep or gone, and mining goes on.

use std::{
    io::{self, Write},
    iter,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

/// Texts that may wait for a slow reader. The newest is left out when there are more: a status line that is told late
/// is worth nothing, and the next one has the same counters.
const WAITING: usize = 16;

/// How long the last texts may take to be written.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What is wrong with stdout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// Nobody reads it any more.
    #[error("nobody reads stdout any more")]
    Closed,
    /// It cannot be written to.
    #[error("stdout cannot be written to: {0}")]
    Failed(String),
    /// Its reader has stopped reading.
    #[error("stdout is not being read, so what was to be told last was not written")]
    Stalled,
}

/// Texts on their way to stdout.
pub struct Output {
    texts: SyncSender<String>,
    /// Written when there are no more.
    last: Arc<OnceLock<String>>,
    failure: Arc<OnceLock<OutputError>>,
    left_out: AtomicU64,
    ended: Receiver<()>,
}

impl Output {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let (texts, waiting) = mpsc::sync_channel::<String>(WAITING);
        let (end, ended) = mpsc::channel();
        let (last, failure) = (Arc::new(OnceLock::<String>::new()), Arc::new(OnceLock::new()));
        let (very_last, first_failure) = (last.clone(), failure.clone());
        thread::Builder::new().name("output".into()).spawn(move || {
            let very_last = iter::from_fn(move || very_last.get().cloned()).take(1);
            for text in waiting.into_iter().chain(very_last) {
                if let Err(error) = to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
                    let _ = first_failure.set(match error.kind() {
                        io::ErrorKind::BrokenPipe => OutputError::Closed,
                        _ => OutputError::Failed(error.to_string()),
                    });
                }
            }
            let _ = end.send(());
        })?;
        Ok(Self { texts, last, failure, left_out: AtomicU64::new(0), ended })
    }

    /// Writes a text, soon. It is left out if too many wait.
    pub fn write(&self, text: String) {
        if let Err(TrySendError::Full(_)) = self.texts.try_send(text) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The first thing that went wrong so far.
    pub fn failure(&self) -> Option<&OutputError> {
        self.failure.get()
    }

    /// Writes a last text, whatever waits before it, and waits until all is written, for as long as `patience`. Returns
    /// how many texts were left out.
    ///
    /// # Errors
    /// The first thing that went wrong, also before.
    pub fn finish(self, last: Option<String>, patience: Duration) -> Result<u64, OutputError> {
        if let Some(last) = last {
            let _ = self.last.set(last);
        }
        drop(self.texts);
        let stalled = matches!(self.ended.recv_timeout(patience), Err(RecvTimeoutError::Timeout));
        match self.failure.get() {
            Some(failure) => Err(failure.clone()),
            None if stalled => Err(OutputError::Stalled),
            None => Ok(self.left_out.into_inner()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Writes only while nobody holds the lock.
    #[derive(Clone, Default)]
    struct Gate(Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_written_before_the_end() {
        let gate = Gate::default();
        let output = Output::start(gate.clone()).expect("it starts");
        output.write("one\n".into());
        output.write("two\n".into());
        assert_eq!(output.finish(Some("last\n".into()), Duration::from_secs(5)), Ok(0));
        assert_eq!(*gate.0.lock().expect("not poisoned"), b"one\ntwo\nlast\n");
    }

    #[test]
    fn a_reader_that_has_stopped_reading_stops_nobody_else() {
        let gate = Gate::default();
        let output = Output::start(gate.clone()).expect("it starts");
        let asleep = gate.0.lock().expect("not poisoned");
        for _ in 0..100 {
            output.write("line\n".into());
        }
        let result = output.finish(Some("last\n".into()), Duration::from_millis(50));
        assert_eq!(result, Err(OutputError::Stalled));
        drop(asleep);
    }

    #[test]
    fn what_is_told_last_is_written_whatever_was_left_out() {
        let gate = Gate::default();
        let output = Output::start(gate.clone()).expect("it starts");
        let asleep = gate.0.lock().expect("not poisoned");
        for _ in 0..100 {
            output.write("line\n".into());
        }
        drop(asleep);
        let left_out =
            output.finish(Some("last\n".into()), Duration::from_secs(5)).expect("it is read again");
        assert!(left_out > 80, "{left_out}");
        assert!(gate.0.lock().expect("not poisoned").ends_with(b"line\nlast\n"));
    }

    #[test]
    fn what_went_wrong_is_told() {
        for (kind, closed) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let output = Output::start(Broken(kind)).expect("it starts");
            output.write("line\n".into());
            let result = output.finish(None, Duration::from_secs(5));
            assert_eq!(matches!(result, Err(OutputError::Closed)), closed);
            assert!(result.is_err());
        }
    }
}
