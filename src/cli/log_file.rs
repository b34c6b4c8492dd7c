//! A log file that never grows beyond bounds.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Bytes in a file before the next is begun.
const BYTES_MAX: u64 = 10 << 20;

/// Files kept beside the newest one.
const OLD_FILES: usize = 4;

/// Writes to a file, which is renamed when it is full: `miner.log` becomes `miner.log.1`, that `miner.log.2`, and the oldest
/// of [`OLD_FILES`] goes.
///
/// A text is never divided between two files. A file that somebody else has moved or deleted is begun anew.
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// That something went wrong was told.
    told: bool,
}

impl LogFile {
    /// Opens a file to write at its end.
    ///
    /// # Errors
    /// If it can be neither opened nor made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let metadata = file.metadata()?;
        // A device or a pipe is nothing to rename.
        let bytes_max = if metadata.is_file() { BYTES_MAX } else { u64::MAX };
        Ok(Self { path: path.to_owned(), file, bytes: metadata.len(), bytes_max, told: false })
    }

    /// The path of the file that was the newest so many files ago.
    fn old(&self, age: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{age}"));
        name.into()
    }

    /// Renames all files and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        for age in (1..OLD_FILES).rev() {
            match fs::rename(self.old(age), self.old(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.old(1))?;
        let old =
            std::mem::replace(&mut self.file, File::options().create(true).append(true).open(&self.path)?);
        drop(old);
        self.bytes = 0;
        Ok(())
    }

    /// Opens the path again where it no longer leads to the file.
    fn follow(&mut self) -> io::Result<()> {
        if self.bytes_max < u64::MAX && is_elsewhere(&self.file, &self.path) {
            let told = self.told;
            *self = Self { bytes_max: self.bytes_max, told, ..Self::open(&self.path)? };
        }
        Ok(())
    }

    /// Says once what is wrong; stderr has it, where the file does not.
    fn tell(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!("the log file {} {what}: {error}; mining goes on", self.path.display());
        }
    }
}

/// Whether a path leads to another file, or to none.
#[cfg(unix)]
fn is_elsewhere(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let number = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (opened, there) = (file.metadata().map(number), fs::metadata(path).map(number));
    opened.is_ok_and(|opened| {
        there.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |there| there != opened)
    })
}

/// Whether a path leads to another file: other systems let nobody move a file that is open.
#[cfg(not(unix))]
fn is_elsewhere(_: &File, _: &Path) -> bool {
    false
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.follow() {
            self.tell("was moved away and cannot be made anew", &error);
        }
        let is_full = self.bytes > 0 && self.bytes + bytes.len() as u64 > self.bytes_max;
        if is_full && let Err(error) = self.rotate() {
            self.tell("cannot be rotated and grows", &error);
            // Not tried again before as much was written again.
            self.bytes = 0;
        }
        match self.file.write_all(bytes) {
            Ok(()) => self.bytes += bytes.len() as u64,
            Err(error) => self.tell("cannot be written to, so lines are missing", &error),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_moved_or_deleted_is_begun_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("miner.log");
        let moved = directory.path().join("miner.log-20260101");
        let mut file = LogFile::open(&path).expect("it opens");
        file.write_all(b"one\n").expect("written");
        fs::rename(&path, &moved).expect("moved");
        file.write_all(b"two\n").expect("written");
        assert_eq!(fs::read_to_string(&moved).expect("there"), "one\n");
        assert_eq!(fs::read_to_string(&path).expect("there"), "two\n");
        fs::remove_file(&path).expect("deleted");
        file.write_all(b"three\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), "three\n");
        fs::remove_dir_all(directory.path()).expect("deleted");
        file.write_all(b"nowhere\n").expect("mining goes on");
        assert!(file.told);
    }

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("miner.log");
        fs::write(&path, "from an earlier run\n").expect("written");
        let mut file = LogFile { bytes_max: 50, ..LogFile::open(&path).expect("it opens") };
        for number in 0..100 {
            let line = format!("line number {number:02} of many\n");
            file.write_all(line.as_bytes()).expect("written");
        }
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .expect("there")
            .map(|entry| entry.expect("there").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        assert_eq!(names, ["miner.log", "miner.log.1", "miner.log.2", "miner.log.3", "miner.log.4"]);
        let text = |name: &str| fs::read_to_string(directory.path().join(name)).expect("there");
        let all: String = names.iter().rev().map(|name| text(name)).collect();
        let expected: String = (92..100).map(|number| format!("line number {number:02} of many\n")).collect();
        assert!(all.ends_with(&expected), "{all}");
        assert!(names.iter().all(|name| text(name).len() <= 50));
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_never_renamed() {
        let file = LogFile::open(Path::new("/dev/null")).expect("there is one");
        assert_eq!(file.bytes_max, u64::MAX);
    }

    #[test]
    fn a_file_that_is_there_is_written_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("miner.log");
        for text in ["one\n", "two\n"] {
            LogFile::open(&path).expect("it opens").write_all(text.as_bytes()).expect("written");
        }
        assert_eq!(fs::read_to_string(&path).expect("there"), "one\ntwo\n");
    }

    #[test]
    fn a_file_that_cannot_be_rotated_is_written_on_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("miner.log");
        // Something is in the way of the oldest file.
        fs::create_dir_all(directory.path().join("miner.log.3/x")).expect("made");
        fs::create_dir_all(directory.path().join("miner.log.4/x")).expect("made");
        let mut file = LogFile { bytes_max: 50, ..LogFile::open(&path).expect("it opens") };
        for number in 0..10 {
            file.write_all(format!("line number {number}\n").as_bytes()).expect("written");
        }
        let text = fs::read_to_string(&path).expect("there");
        assert_eq!(text.lines().count(), 10, "{text}");
    }
}
