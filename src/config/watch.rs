//! Notices when the settings are to be read again: the file has changed, or a signal asks for it.

use std::{
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

/// From one look at the file to the next.
const INTERVAL: Duration = Duration::from_secs(2);

/// Calls `changed` when the file has new contents and these have stayed the same for a moment, so that a file half
/// written is not taken for a new one; and whenever something is sent to what is returned. Files are read again and
/// again, since that works on every file system. The thread ends when `changed` says so or the process does.
///
/// # Errors
/// If the system gives no thread.
pub fn watch(
    file: Option<PathBuf>,
    mut changed: impl FnMut(bool) -> bool + Send + 'static,
) -> std::io::Result<Sender<()>> {
    let (sender, asked) = mpsc::channel();
    let read = move || file.as_ref().map(|file| std::fs::read(file).ok());
    let kept = sender.clone();
    thread::Builder::new().name("settings".into()).spawn(move || {
        // As long as this thread lives somebody may ask.
        let _kept = kept;
        let mut known = read();
        let mut seen = known.clone();
        loop {
            let by_request = !matches!(asked.recv_timeout(INTERVAL), Err(RecvTimeoutError::Timeout));
            let now = read();
            let settled = now == seen;
            seen.clone_from(&now);
            if by_request || (settled && now != known) {
                known = now;
                if !changed(by_request) {
                    return;
                }
            }
        }
    })?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_changed_file_is_told_once_and_a_request_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("settings");
        std::fs::write(&file, "one").expect("it can be written");
        let (told, calls) = mpsc::channel();
        let ask = watch(Some(file.clone()), move |asked| told.send(asked).is_ok()).expect("it starts");
        let begin = Instant::now();
        ask.send(()).expect("it listens");
        assert_eq!(calls.recv_timeout(Duration::from_secs(5)), Ok(true));
        assert!(begin.elapsed() < INTERVAL);
        std::fs::write(&file, "two").expect("it can be written");
        assert_eq!(calls.recv_timeout(INTERVAL * 5), Ok(false));
        assert!(calls.recv_timeout(INTERVAL * 2).is_err(), "the same contents are no news");
    }
}
