//! Notices when the settings are to be read again: a file has changed, or a signal asks for it.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use super::file::LARGEST;

/// From one look at the files to the next.
const INTERVAL: Duration = Duration::from_secs(2);

/// Calls `changed` when one of the files has new contents, or is new, and all have stayed the same for a moment, so that a
/// file half written is not taken for a new one; and whenever something is sent to what is returned. It is told whether it
/// was asked for, and tells the files to watch from then on; the thread ends when it tells none, or when the process does.
///
/// Files are read again and again, since that works on every file system; what is no file but a pipe, say, is not.
///
/// # Errors
/// If the system gives no thread.
pub fn watch(
    files: Vec<PathBuf>,
    mut changed: impl FnMut(bool) -> Option<Vec<PathBuf>> + Send + 'static,
) -> std::io::Result<Sender<()>> {
    let (sender, asked) = mpsc::channel();
    let kept = sender.clone();
    // What changes from here on is told.
    let mut known = Seen::default();
    known.look(files);
    thread::Builder::new().name("settings".into()).spawn(move || {
        // As long as this thread lives somebody may ask.
        let _kept = kept;
        let mut seen = known.clone();
        loop {
            let by_request = !matches!(asked.recv_timeout(INTERVAL), Err(RecvTimeoutError::Timeout));
            let mut now = Seen::default();
            now.look(known.0.keys().cloned());
            let settled = now == seen;
            seen.clone_from(&now);
            if by_request || (settled && now != known) {
                known = now;
                let Some(files) = changed(by_request) else { return };
                known.0.retain(|file, _| files.contains(file));
                known.look(files);
                seen.clone_from(&known);
            }
        }
    })?;
    Ok(sender)
}

/// The contents of files; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Seen {
    /// Reads those files that it has not.
    fn look(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        for file in files {
            self.0.entry(file).or_insert_with_key(|file| contents(file));
        }
    }
}

fn contents(path: &Path) -> Option<Vec<u8>> {
    // Opening a pipe waits for somebody to write to it.
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
    Some(bytes)
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
        let files = vec![file.clone()];
        let again = files.clone();
        let ask = watch(files, move |asked| told.send(asked).is_ok().then(|| again.clone()));
        let ask = ask.expect("it starts");
        let begin = Instant::now();
        ask.send(()).expect("it listens");
        assert_eq!(calls.recv_timeout(Duration::from_secs(5)), Ok(true));
        assert!(begin.elapsed() < INTERVAL);
        std::fs::write(&file, "two").expect("it can be written");
        assert_eq!(calls.recv_timeout(INTERVAL * 5), Ok(false));
        assert!(calls.recv_timeout(INTERVAL * 2).is_err(), "the same contents are no news");
    }

    #[test]
    fn a_file_that_appears_is_told_and_so_are_those_that_it_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let [file, named] = ["settings", "named"].map(|name| directory.path().join(name));
        std::fs::write(&named, "one").expect("it can be written");
        let (told, calls) = mpsc::channel();
        let both = vec![file.clone(), named.clone()];
        let ask = watch(vec![file.clone()], move |_| told.send(()).is_ok().then(|| both.clone()));
        std::fs::write(&file, "new").expect("it can be written");
        assert_eq!(calls.recv_timeout(INTERVAL * 5), Ok(()), "it appears");
        // By the next call it has looked at the other one, too.
        ask.expect("it starts").send(()).expect("it listens");
        assert_eq!(calls.recv_timeout(INTERVAL * 5), Ok(()), "it was asked");
        std::fs::write(&named, "two").expect("it can be written");
        assert_eq!(calls.recv_timeout(INTERVAL * 5), Ok(()), "the other one changes");
    }
}
