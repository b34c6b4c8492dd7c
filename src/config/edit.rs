//! Writes the table `[tuned]` into the settings file, and leaves everything else in it as it is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::{FILE_NAME, tuned};
use crate::tune::Conditions;

/// What is to stand in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuned {
    /// Keys of `ann` and their values.
    pub settings: Vec<(&'static str, String)>,
    /// What they hold for.
    pub conditions: Conditions,
    /// What is said above the settings, line by line.
    pub remarks: Vec<String>,
}

/// The file cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It cannot be read or written.
    #[error(
        "{} cannot be written ({reason}): name another file with --config FILE, let somebody run it who may write there, \
         or see with --dry-run what would be written",
        path.display()
    )]
    File {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// It is something else.
    #[error(
        "{} is not TOML ({reason}): `pktmine config check` tells more; settings in JSON have no place for what is tuned, \
         write them into a {FILE_NAME}",
        path.display()
    )]
    Form {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A settings file that is to be edited.
#[derive(Clone, Debug)]
pub struct Editor {
    path: PathBuf,
}

impl Editor {
    /// For the file at a path, which need not exist, nor need its folder. Whether it can be written is tried here, so that
    /// it is known before anything is measured, and nothing is left of that.
    ///
    /// # Errors
    /// If it can not, or holds no TOML.
    pub fn open(path: &Path) -> Result<Self, EditError> {
        // What a link points to is edited, and the link stays.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let editor = Self { path };
        editor.edited(None)?;
        // Who may write into the nearest folder that is there may make those that are missing.
        let folder = editor.folder();
        let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
        let (temporary, _) = editor.temporary(there).map_err(|reason| editor.failed(reason))?;
        fs::remove_file(temporary).map_err(|reason| editor.failed(reason))?;
        Ok(editor)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the table into the file in the place of the one that there may be, or takes that away; says whether the file
    /// is another one now. The file is read anew and is replaced as a whole, so that nobody ever reads a part of it.
    ///
    /// # Errors
    /// If it cannot be read or written; then it is as it was.
    pub fn write(&self, tuned: Option<&Tuned>) -> Result<bool, EditError> {
        let Some(text) = self.edited(tuned)? else { return Ok(false) };
        let failed = |reason| self.failed(reason);
        fs::create_dir_all(self.folder()).map_err(failed)?;
        let (temporary, mut file) = self.temporary(self.folder()).map_err(failed)?;
        let written = (|| {
            if let Ok(metadata) = fs::metadata(&self.path) {
                keep_owner(&file, &metadata)?;
                file.set_permissions(metadata.permissions())?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            drop(file);
            fs::rename(&temporary, &self.path)
        })();
        if written.is_err() {
            // It may be gone already, or stay: the file itself is as it was.
            let _ = fs::remove_file(&temporary);
        }
        written.map(|()| true).map_err(failed)
    }

    /// The file's text with the table, or without any; `None` if it would be what it is.
    fn edited(&self, tuned: Option<&Tuned>) -> Result<Option<String>, EditError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|reason| self.failed(reason))?,
        };
        let form = |reason: String| EditError::Form { path: self.path.clone(), reason };
        if self.path.extension().is_some_and(|name| name == "json") || text.trim_start().starts_with('{') {
            return Err(form("it is JSON".into()));
        }
        let new = edited(&text, tuned).map_err(|error| form(error.message().to_owned()))?;
        Ok((new != text).then_some(new))
    }

    /// The folder that it is in.
    fn folder(&self) -> &Path {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    /// A new file in a folder, which only its owner can read if it takes the place of one.
    fn temporary(&self, folder: &Path) -> io::Result<(PathBuf, File)> {
        let name = format!(".{FILE_NAME}.{}", std::process::id());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // Who is new here may read it; who had no right to read the old one gets none.
            options.mode(if self.path.exists() { 0o600 } else { 0o644 });
        }
        let path = folder.join(name);
        let file = options.open(&path).map_err(|error| {
            let told = format!("{}: {error}", path.display());
            io::Error::new(error.kind(), told)
        })?;
        Ok((path, file))
    }

    fn failed(&self, reason: io::Error) -> EditError {
        EditError::File { path: self.path.clone(), reason }
    }
}

/// Leaves a file to whom it belongs, also when root edits it.
fn keep_owner(file: &File, before: &fs::Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            fchown(file, Some(before.uid()), Some(before.gid()))?;
        }
    }
    Ok(())
}

/// A file's text with the table, or without any.
fn edited(text: &str, tuned: Option<&Tuned>) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let old = document.remove_entry(tuned::TABLE);
    if old.is_none() && tuned.is_none() {
        return Ok(text.to_owned());
    }
    let raw =
        |raw: Option<&toml_edit::RawString>| raw.and_then(|raw| raw.as_str()).unwrap_or_default().to_owned();
    // What stands before the table is somebody else's, and so is what stands behind it.
    let (before, position) = match &old {
        Some((_, Item::Table(table))) if !table.is_dotted() => {
            let implicit = table.is_implicit();
            let inner = table.get(tuned::FOR).and_then(Item::as_table).filter(|_| implicit);
            let first = inner.unwrap_or(table);
            (raw(first.decor().prefix()), first.position())
        }
        Some((key, _)) => (raw(key.leaf_decor().prefix()), None),
        None => (String::new(), None),
    };
    match tuned {
        None => {
            let next = document.as_table_mut().iter_mut().filter_map(|(_, item)| match item {
                Item::Table(table) if position.is_some() && table.position() > position => Some(table),
                _ => None,
            });
            match next.min_by_key(|table| table.position()) {
                Some(next) => {
                    let own = raw(next.decor().prefix());
                    next.decor_mut().set_prefix(format!("{before}{own}"));
                }
                None => {
                    let own = raw(Some(document.trailing()));
                    // Blank lines that set the table off have nothing to set off any more.
                    let kept = format!("{before}{own}");
                    let kept = kept.trim_end();
                    let line_end = if kept.is_empty() { "" } else { "\n" };
                    document.set_trailing(format!("{kept}{line_end}"));
                }
            }
        }
        Some(tuned) => {
            let mut table = to_table(tuned);
            if position.is_some() {
                table.decor_mut().set_prefix(before);
                table.set_position(position);
            } else {
                // It goes behind everything: comments at the file's end, which may be settings to be switched on, stay
                // part of what they were part of.
                let trailing = raw(Some(document.trailing()));
                let above = format!("{before}{trailing}");
                let above = above.trim_end();
                let blank = if document.is_empty() && above.is_empty() { "" } else { "\n" };
                let line_end = if above.is_empty() { "" } else { "\n" };
                table.decor_mut().set_prefix(format!("{above}{line_end}{blank}"));
                document.set_trailing("");
            }
            document.insert(tuned::TABLE, Item::Table(table));
        }
    }
    Ok(document.to_string())
}

fn to_table(tuned: &Tuned) -> Table {
    let mut table = Table::new();
    let remarks: String = tuned.remarks.iter().map(|line| format!("# {line}\n")).collect();
    for (key, value) in &tuned.settings {
        let value = value.parse::<i64>().map_or_else(|_| Value::from(value), Value::from);
        table.insert(key, value.into());
    }
    if let Some((mut first, _)) = table.iter_mut().next() {
        first.leaf_decor_mut().set_prefix(remarks);
    }
    let list = |list: &[String]| Value::from(list.iter().collect::<Array>());
    let Conditions { version, processor, processors, caches, kernels, devices } = &tuned.conditions;
    let mut conditions = Table::new();
    let facts = [
        ("version", version.into()),
        ("processor", processor.into()),
        ("processors", i64::try_from(*processors).unwrap_or(i64::MAX).into()),
        ("caches", list(caches)),
        ("kernels", list(kernels)),
        ("devices", list(devices)),
    ];
    for (key, value) in facts {
        conditions.insert(key, Item::Value(value));
    }
    table.insert(tuned::FOR, Item::Table(conditions));
    table
}

impl Tuned {
    /// The table as it would stand in a file.
    pub fn text(&self) -> String {
        edited("", Some(self)).expect("an empty text is TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuned(threads: &str) -> Tuned {
        Tuned {
            settings: vec![("threads", threads.into()), ("gpu-tuning", "tile=4096,states=8".into())],
            conditions: Conditions {
                version: "1".into(),
                processor: "A \"B\"".into(),
                processors: 4,
                caches: vec!["1 × 32768 KiB of 4".into()],
                kernels: vec!["avx2".into(), "portable".into()],
                devices: vec!["cpu".into()],
            },
            remarks: vec!["found".into()],
        }
    }

    const OWN: &str = "# mine\nthreads = 4   # four\n\npools = [\n  'http://a.example', # one\n]\n\n# the pool\n[pool]\n\
                       handlers = 2\n# a last word\n#team = 2\n";

    fn edit(text: &str, tuned: Option<&Tuned>) -> String {
        edited(text, tuned).expect("it is TOML")
    }

    #[test]
    fn a_table_goes_behind_everything_and_nothing_else_changes() {
        let with = edit(OWN, Some(&tuned("3")));
        assert!(with.starts_with(OWN), "{with}");
        let added = &with[OWN.len()..];
        let expected = "\n[tuned]\n# found\nthreads = 3\ngpu-tuning = \"tile=4096,states=8\"\n\n[tuned.for]\n\
                        version = \"1\"\nprocessor = 'A \"B\"'\nprocessors = 4\n\
                        caches = [\"1 × 32768 KiB of 4\"]\nkernels = [\"avx2\", \"portable\"]\ndevices = [\"cpu\"]\n";
        assert_eq!(added, expected);
        assert_eq!(edit(&with, None), OWN, "taken away, it is what it was");
        assert_eq!(edit(OWN, None), OWN);
        assert_eq!(edit("", Some(&tuned("3"))), expected.trim_start());
        assert_eq!(tuned("3").text(), expected.trim_start());
        let comments = "# only\n#threads = 3\n";
        assert!(edit(comments, Some(&tuned("3"))).starts_with("# only\n#threads = 3\n\n[tuned]\n"));
    }

    #[test]
    fn a_table_that_is_there_is_replaced_where_it_stands() {
        let text = format!("{}\n# behind\n[bench]\nthreads = [1]\n", edit(OWN, Some(&tuned("3"))));
        let replaced = edit(&text, Some(&tuned("5")));
        assert_eq!(replaced, text.replace("threads = 3", "threads = 5"));
        let removed = edit(&replaced, None);
        assert_eq!(removed, format!("{OWN}\n\n# behind\n[bench]\nthreads = [1]\n"));
    }

    #[test]
    fn other_ways_to_write_the_table_are_replaced_too() {
        let one = tuned("3");
        for text in [
            "# a\nx = 1\ntuned = { threads = 9 }\n# b\ny = 2\n",
            "# a\nx = 1\ntuned.threads = 9\n# b\ny = 2\n",
            "# a\nx = 1\n# b\ny = 2\n[tuned.for]\nversion = '1'\n",
        ] {
            let new = edit(text, Some(&one));
            assert_eq!(new.matches("tuned]").count(), 1, "{new}");
            assert!(new.starts_with("# a\nx = 1\n# b\ny = 2\n") && !new.contains("= 9"), "{new}");
            new.parse::<DocumentMut>().expect("it is TOML");
        }
    }

    #[test]
    fn the_file_is_replaced_as_a_whole_and_keeps_its_rights() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("new/folder/pktmine.toml");
        let editor = Editor::open(&path).expect("it can be made");
        let is_untouched = || fs::read_dir(directory.path()).expect("it is there").count() == 0;
        assert!(is_untouched(), "nothing is written, and no folder made, before it is known what");
        assert!(!editor.write(None).expect("nothing to take away") && is_untouched());
        assert!(editor.write(Some(&tuned("3"))).expect("it is written"));
        assert!(!editor.write(Some(&tuned("3"))).expect("it is the same"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let link = directory.path().join("link.toml");
            fs::write(&path, OWN).expect("it can be written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
            std::os::unix::fs::symlink(&path, &link).expect("a link");
            assert!(
                Editor::open(&link).expect("it is there").write(Some(&tuned("3"))).expect("it is written")
            );
            assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o640);
            assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink(), "the link stays");
        }
        assert!(fs::read_to_string(&path).expect("it is there").ends_with("devices = [\"cpu\"]\n"));
        assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("it is there").count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_edited_is_told_with_a_remedy() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("it can be written");
            Editor::open(&path).expect_err("it is refused").to_string()
        };
        assert!(error("a.json", "{}").contains("a.json is not TOML (it is JSON)"));
        assert!(error("a.conf", " {\"pools\": []}").contains("write them into a pktmine.toml"));
        assert!(error("a.toml", "threads = = 3").contains("`pktmine config check` tells more"));
        // No folder can be where a file is; that holds for root, too.
        let nowhere = directory.path().join("a.json/pktmine.toml");
        let error = Editor::open(&nowhere).expect_err("it is refused").to_string();
        assert!(error.contains("cannot be written (") && error.contains("--dry-run"), "{error}");
    }
}
