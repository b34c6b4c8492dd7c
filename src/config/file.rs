//! `pktmine.toml`: its keys and values with their places, as text for the flags' parsers.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Origin, tuned};

/// The largest file that is read, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

/// A value that a layer gives to a setting.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The file's table; `None`: the top level.
    pub table: Option<String>,
    pub key: String,
    pub values: Vec<OsString>,
    pub held_by: Option<PathBuf>,
    pub origin: Origin,
}

/// A place in a file, counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub line: usize,
    pub column: usize,
}

/// Something that is wrong with a file.
#[derive(Debug)]
pub(super) struct Problem {
    /// Where; `None`: in the file as a whole.
    pub at: Option<Position>,
    pub part: Part,
    pub text: String,
}

/// The part of a file that something is wrong with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It may be any of them.
    Any,
    /// A table; `None`: the top level.
    Table(Option<String>),
}

/// A key and what it is set to, or why that cannot be.
pub(super) struct Entry {
    pub table: Option<String>,
    pub key: String,
    pub values: Result<Vec<OsString>, String>,
    /// The file that the value was read from.
    pub held_by: Option<PathBuf>,
    pub at: Position,
}

/// Reads a file's text: all entries that can be read, and all that is wrong with the rest.
pub(super) fn parse(text: &str, path: &Path) -> (Vec<Entry>, Vec<Problem>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let problem = |error: &toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        let (at, part) = (Some(position(text, offset)), part(text, table.get_ref(), offset));
        Problem { at, part, text: error.message().to_owned() }
    };
    let problems: Vec<_> = errors.iter().map(problem).collect();
    let mut entries = Vec::new();
    for (key, value) in table.get_ref().iter() {
        let at = position(text, key.span().start);
        // A line that is no TOML has been told of; what was made of it is worth nothing.
        if problems.iter().any(|wrong| wrong.at.is_some_and(|wrong| wrong.line == at.line)) {
            continue;
        }
        let name = key.get_ref().to_string();
        match value.get_ref() {
            DeValue::Table(inner) if !is_holder(inner) => {
                if name == tuned::TABLE {
                    // So that its place is known, and that it is there if it is empty.
                    let (table, key) = (Some(name.clone()), String::new());
                    entries.push(Entry { table, key, values: Ok(Vec::new()), held_by: None, at });
                }
                for (key, value) in inner.iter() {
                    let at = position(text, key.span().start);
                    if let DeValue::Table(facts) = value.get_ref()
                        && (name.as_str(), key.get_ref().as_ref()) == (tuned::TABLE, tuned::FOR)
                    {
                        for (key, value) in facts.iter() {
                            let (table, at) = (tuned::TUNED_FOR.into(), position(text, key.span().start));
                            entries.push(entry(Some(table), key.get_ref().to_string(), value, at, path));
                        }
                        continue;
                    }
                    entries.push(entry(Some(name.clone()), key.get_ref().to_string(), value, at, path));
                }
                if inner.is_empty() && name != tuned::TABLE && !super::TABLES.contains(&name.as_str()) {
                    entries.push(entry(Some(name), String::new(), value, at, path));
                }
            }
            _ => entries.push(entry(None, name, value, at, path)),
        }
    }
    (entries, problems)
}

/// The part of a file that a broken line is in: that of the last table begun before it. One that seems to begin a table
/// itself may be anybody's.
fn part(text: &str, table: &DeTable<'_>, offset: usize) -> Part {
    let line_start = text.get(..offset).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    if text.get(line_start..).is_none_or(|line| line.trim_start().starts_with('[')) {
        return Part::Any;
    }
    let begun = table.iter().filter(|(key, value)| {
        matches!(value.get_ref(), DeValue::Table(inner) if !is_holder(inner)) && key.span().start <= offset
    });
    let last = begun.max_by_key(|(key, _)| key.span().start);
    Part::Table(last.map(|(key, _)| key.get_ref().to_string()))
}

/// `{ file = "…" }`: the value is in another file, as secrets are.
fn is_holder(table: &DeTable<'_>) -> bool {
    table.len() == 1 && table.get("file").is_some_and(|value| value.get_ref().is_str())
}

fn entry(
    table: Option<String>,
    key: String,
    value: &Spanned<DeValue<'_>>,
    at: Position,
    path: &Path,
) -> Entry {
    let mut held_by = None;
    let values = match value.get_ref() {
        DeValue::Array(values) => values.iter().map(|value| scalar(value.get_ref())).collect(),
        DeValue::Table(inner) if is_holder(inner) => {
            let name = inner.get("file").and_then(|value| value.get_ref().as_str()).unwrap_or_default();
            let folder = path.parent().unwrap_or(Path::new("."));
            let file = folder.join(name);
            let value = read_value(&file).map(|value| vec![value.into()]);
            held_by = Some(file);
            value
        }
        value => scalar(value).map(|value| vec![value]),
    };
    Entry { table, key, values, held_by, at }
}

fn scalar(value: &DeValue<'_>) -> Result<OsString, String> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| format!("the number {number} is out of range"))?
            .to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        other => {
            return Err(format!(
                "it must be a text, a number, true or false, a list of those, or {{ file = \"…\" }}, not a {}",
                other.type_str()
            ));
        }
    };
    Ok(text.into())
}

/// Reads a value that stands alone in a file, without the white space around it.
pub(super) fn read_value(path: &Path) -> Result<String, String> {
    let text = load(path).map_err(|why| format!("{} cannot be read ({why})", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Reads a file's text, or says why it cannot be read. A name may lead to a device or a pipe that never ends.
pub(super) fn load(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(_) if text.len() as u64 > LARGEST => Err("it is larger than 1 MiB".into()),
        Ok(_) => Ok(text),
    }
}

fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, Vec<OsString>)> {
        let (entries, problems) = parse(text, Path::new("test.toml"));
        assert!(problems.is_empty(), "{problems:?}");
        let value = |entry: Entry| (entry.key, entry.values.expect("it is a value"));
        let mut all: Vec<_> = entries.into_iter().map(value).collect();
        all.sort();
        all
    }

    #[test]
    fn values_of_all_kinds_become_what_one_would_type() {
        let text = "a = 4\nb = 'x y'\nc = true\nd = [1, 'two']\ne = 0x10\nf = 2.5\n";
        let all: Vec<_> = values(text).into_iter().flat_map(|(_, values)| values).collect();
        assert_eq!(all, ["4", "x y", "true", "1", "two", "16", "2.5"].map(OsString::from));
    }

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let (entries, _) = parse("# ä\n\n  threads = 3\n[pool]\nhandlers = 2", Path::new("test.toml"));
        let mut places: Vec<_> = entries.iter().map(|entry| (entry.at.line, entry.at.column)).collect();
        places.sort_unstable();
        assert_eq!(places, [(3, 3), (5, 1)]);
        let (_, problems) = parse("a = 1\nää = [1,\n", Path::new("test.toml"));
        assert!(problems[0].at.is_some_and(|at| at.line >= 2), "{problems:?}");
    }

    #[test]
    fn every_broken_line_is_told_and_the_others_are_read() {
        let (entries, problems) = parse("a = maybe\nb = 2\nc = nope\ne = 5\n", Path::new("test.toml"));
        let lines: Vec<_> = problems.iter().filter_map(|problem| problem.at).map(|at| at.line).collect();
        assert_eq!(lines, [1, 3], "{problems:?}");
        let mut keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["b", "e"]);
    }

    #[test]
    fn a_broken_line_is_of_the_table_that_was_begun_before_it() {
        let table = |name: &str| Part::Table(Some(name.into()));
        for (text, part) in [
            ("a = maybe\n[pool]\nb = 2\n", Part::Table(None)),
            ("a = 1\n[pool]\nb = nope\n[bench]\nc = 1\n", table("pool")),
            ("[pool]\nb = 2\n[bench]\nc = = 1\n", table("bench")),
            ("key = { file = 'x' }\na = maybe\n", Part::Table(None)),
            ("a = 1\n[pool\nb = 2\n", Part::Any),
        ] {
            let (_, problems) = parse(text, Path::new("test.toml"));
            assert_eq!(problems.first().map(|problem| &problem.part), Some(&part), "{text}: {problems:?}");
        }
    }
}
