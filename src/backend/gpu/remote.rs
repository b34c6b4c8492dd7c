//! A device on a thread of its own, so that nobody waits for what its driver does.
//!
//! A driver can stop answering in any call: while it compiles a shader, while it takes work, and when a device is dropped,
//! where the device library waits for all that was submitted, for however long that is. So nobody else calls it. What the
//! thread has to say it says as [`Answer`]s. Whatever the library does when a device is lost, panics included, is a
//! [`GpuError`] there.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread,
    time::Duration,
};

use super::{
    batch::{Finished, IN_FLIGHT, Submission},
    context::GpuError,
    driver::{Device, Opener, ProgramOf, prove},
    recovery::Attempt,
};

/// How long the thread waits for the device before it looks for more work, if the device has all it can hold.
pub const WAIT_FULL: Duration = Duration::from_millis(20);

/// The same where there can be more to do.
const WAIT: Duration = Duration::from_micros(300);

/// What the thread says.
#[derive(Debug)]
pub enum Answer {
    /// The device is open and has proved itself.
    Proved,
    /// A submission has ended.
    Finished(Finished),
    /// The device is of no use any more. It is dropped after this.
    Failed(GpuError),
    /// The device is dropped: this is the last answer.
    Gone,
}

/// A device on its thread. It is let go of when this is dropped, which waits for nothing.
pub struct Remote<P> {
    work: Sender<Submission<P>>,
}

impl<P: Send + Sync + 'static> Remote<P> {
    /// Begins to open a device.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn open<O>(
        opener: Arc<O>,
        attempt: Attempt,
        tell: impl Fn(Answer) + Send + 'static,
    ) -> io::Result<Self>
    where
        O: Opener,
        O::Device: Device<Program = P>,
    {
        let (work, inbox) = mpsc::channel();
        // The thread is not waited for: it may never end.
        thread::Builder::new().name("device".into()).spawn(move || {
            serve(&*opener, attempt, &inbox, &tell);
            tell(Answer::Gone);
        })?;
        Ok(Self { work })
    }

    /// Has the device do something, behind all that was submitted before.
    pub fn submit(&self, submission: Submission<P>) {
        // A thread that has ended has said why.
        let _ = self.work.send(submission);
    }
}

/// Opens a device, has it prove itself, and drives it until nobody wants it any more.
fn serve<O: Opener>(
    opener: &O,
    attempt: Attempt,
    work: &Receiver<Submission<ProgramOf<O>>>,
    tell: &impl Fn(Answer),
) {
    let name = opener.name();
    let mut device = match guarded(name, || opener.open(attempt)) {
        Ok(device) => device,
        Err(error) => return tell(Answer::Failed(error)),
    };
    let ended = guarded(name, || {
        prove(&mut device, attempt.plan, name)?;
        tell(Answer::Proved);
        attend(&mut device, work, tell)
    });
    // First, since to drop it may take for ever.
    if let Err(error) = ended {
        tell(Answer::Failed(error));
    }
    // It may take offence.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(device)));
}

/// Hands work to a device and its results on.
fn attend<D: Device>(
    device: &mut D,
    work: &Receiver<Submission<D::Program>>,
    tell: &impl Fn(Answer),
) -> Result<(), GpuError> {
    let mut in_flight = 0;
    loop {
        let next = match in_flight {
            0 => work.recv().map_err(|_| TryRecvError::Disconnected),
            _ => work.try_recv(),
        };
        match next {
            Ok(submission) => {
                device.submit(submission)?;
                in_flight += 1;
                continue;
            }
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {}
        }
        let wait = if in_flight == IN_FLIGHT { WAIT_FULL } else { WAIT };
        if let Some(finished) = device.wait(wait)? {
            in_flight -= 1;
            tell(Answer::Finished(finished));
        }
    }
}

/// Runs something that panics when the device is lost.
///
/// # Errors
/// Its own, and [`GpuError::Lost`] for a panic.
pub fn guarded<T>(name: &str, work: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(name.to_owned(), &*panic)))
}

/// What a panic of the device library means.
fn panicked(adapter: String, panic: &(dyn Any + Send)) -> GpuError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    GpuError::Lost { adapter, reason: text.unwrap_or("its driver failed").to_owned() }
}
