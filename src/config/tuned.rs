//! The file's table `[tuned]`: settings that `pktmine tune` has found, and what they hold for.
//!
//! They are a layer between the defaults and whatever else anybody says. What is measured together holds together: where
//! the user gives one of the processors' settings, none of the tuned ones for processors are used, and likewise for GPUs.

use std::ffi::OsString;

use super::{
    Given, Origin,
    file::{Entry, Position},
};
use crate::tune::Conditions;

/// The table's name.
pub(super) const TABLE: &str = "tuned";

/// The name of the table inside it that says what it holds for.
pub(super) const FOR: &str = "for";

/// The tables' names together, as [`Entry::table`] has them.
pub(super) const TUNED_FOR: &str = "tuned.for";

/// What the processors mine with: tuned together, and void together where the user gives any of it.
const OF_PROCESSORS: [&str; 4] = ["threads", "team", "kernel", "affinity"];

/// The same of GPUs.
const OF_GPUS: [&str; 2] = ["gpu-rounds", "gpu-tuning"];

/// What can be tuned.
pub(super) const KEYS: [&str; 5] = ["threads", "team", "kernel", "gpu-rounds", "gpu-tuning"];

/// How to mend whatever is wrong with the table.
const REMEDY: &str = "remove it, or the whole table: `pktmine tune` writes it anew";

/// The table, as it stands in the file; its values are not checked before it is known that they hold.
#[derive(Clone, Debug)]
pub(super) struct Tuned {
    pub at: Position,
    pub settings: Vec<(Given, Position)>,
    /// What they hold for, or why nobody knows: a file of another version may say other things.
    pub conditions: Result<Conditions, String>,
}

/// The settings that are tuned and given together with one.
pub(super) fn together_with(key: &str) -> &'static [&'static str] {
    [&OF_PROCESSORS[..], &OF_GPUS[..]].into_iter().find(|group| group.contains(&key)).unwrap_or_default()
}

/// Puts the table together from the file's entries; `None` if there is none.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn table(
    entries: Vec<Entry>,
    path: &std::path::Path,
) -> Result<Option<Tuned>, Vec<(Position, String)>> {
    let Some(at) = entries.iter().map(|entry| entry.at).min() else { return Ok(None) };
    let mut problems = Vec::new();
    let (mut settings, mut facts) = (Vec::new(), Vec::new());
    for Entry { table, key, values, held_by, at } in entries {
        let is_fact = table.as_deref() == Some(TUNED_FOR);
        if key.is_empty() {
            continue;
        }
        if !is_fact && !KEYS.contains(&key.as_str()) {
            let known = KEYS.join(", ");
            problems.push((at, format!("there is no `{key}` in [{TABLE}]; there is {known}: {REMEDY}")));
            continue;
        }
        match values {
            Err(why) => problems.push((at, format!("{key}: {why}: {REMEDY}"))),
            Ok(values) if is_fact => facts.push((key, values)),
            Ok(values) if values.len() != 1 => {
                problems.push((at, format!("{key}: it takes one value, not a list: {REMEDY}")));
            }
            Ok(values) => {
                let origin = Origin::Tuned { path: path.to_owned(), line: at.line };
                settings.push((Given { table: None, key, values, held_by, origin }, at));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let conditions = conditions(&facts)
        .map_err(|why| format!("[{TUNED_FOR}], which says what [{TABLE}] holds for, {why}"));
    Ok(Some(Tuned { at, settings, conditions }))
}

const FACTS: [&str; 6] = ["version", "processor", "processors", "caches", "kernels", "devices"];

fn conditions(facts: &[(String, Vec<OsString>)]) -> Result<Conditions, String> {
    if let Some((unknown, _)) = facts.iter().find(|(key, _)| !FACTS.contains(&key.as_str())) {
        return Err(format!("has `{unknown}`, which means nothing to this version"));
    }
    let find = |name: &str| facts.iter().find(|(key, _)| key == name).map(|(_, values)| values);
    let list = |name: &str| {
        let values = find(name).ok_or_else(|| format!("lacks `{name}`"))?;
        Ok::<_, String>(values.iter().map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>())
    };
    let one = |name: &str| match list(name)?.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(format!("has a list for `{name}`")),
    };
    Ok(Conditions {
        version: one("version")?,
        processor: one("processor")?,
        processors: one("processors")?.parse().map_err(|_| "has no number for `processors`".to_owned())?,
        caches: list("caches")?,
        kernels: list("kernels")?,
        devices: list("devices")?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file;

    const WHOLE: &str = "[tuned]\nthreads = 3\n[tuned.for]\nversion = '1'\nprocessor = 'A'\nprocessors = 4\n\
                         caches = []\nkernels = ['avx2']\ndevices = ['cpu', 'X']\n";

    fn read(text: &str) -> Result<Option<Tuned>, Vec<(Position, String)>> {
        let path = Path::new("a.toml");
        let (entries, problems) = file::parse(text, path);
        assert!(problems.is_empty(), "{problems:?}");
        let ours = |entry: &Entry| matches!(entry.table.as_deref(), Some(TABLE | TUNED_FOR));
        table(entries.into_iter().filter(ours).collect(), path)
    }

    fn problems(text: &str) -> String {
        let problems = read(text).expect_err("it is wrong");
        let tell = |(at, text): &(Position, String)| format!("{}: {text}", at.line);
        problems.iter().map(tell).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_table_is_read_with_what_it_holds_for() {
        let tuned = read(WHOLE).expect("it is good").expect("it is there");
        assert_eq!((tuned.at.line, tuned.settings.len()), (1, 1));
        let (given, _) = &tuned.settings[0];
        assert_eq!((given.key.as_str(), given.values.as_slice()), ("threads", &[OsString::from("3")][..]));
        assert_eq!(given.origin, Origin::Tuned { path: "a.toml".into(), line: 2 });
        let conditions = tuned.conditions.expect("they are whole");
        assert_eq!((conditions.processors, conditions.devices.len()), (4, 2));
        assert!(read("threads = 3\n").expect("it is good").is_none());
    }

    #[test]
    fn what_is_not_known_is_told_with_line_and_remedy() {
        let unknown = WHOLE.replace("threads = 3", "thread = 3\ninterval = 9\nteam = [1, 2]");
        let told = problems(&unknown);
        assert!(told.contains("2: there is no `thread` in [tuned]; there is threads, team"), "{told}");
        assert!(told.contains("3: there is no `interval`") && told.contains("`pktmine tune`"), "{told}");
        assert!(told.contains("4: team: it takes one value"), "{told}");
        assert!(problems("[tuned]\nfor = 3\n").contains("there is no `for` in [tuned]"));
    }

    #[test]
    fn what_says_too_little_or_too_much_of_the_machine_holds_for_none() {
        let void =
            |text: &str| read(text).expect("no error").expect("it is there").conditions.expect_err("void");
        assert!(void(&WHOLE.replace("version =", "colour =")).contains("has `colour`"));
        assert!(void("[tuned]\nteam = 2\n").starts_with("[tuned.for], which says what"));
        assert!(void("[tuned]\n").contains("lacks `version`"), "an empty one, too");
        assert!(void(&WHOLE.replace("processors = 4", "processors = 'x'")).contains("no number"));
    }

    #[test]
    fn settings_are_given_up_together() {
        assert_eq!(together_with("team"), OF_PROCESSORS);
        assert_eq!(together_with("gpu-tuning"), OF_GPUS);
        assert!(together_with("interval").is_empty());
        assert!(KEYS.iter().all(|key| together_with(key).contains(key)));
    }
}
