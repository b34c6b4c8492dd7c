//! Holds JSON to the tables of `docs/json.md`: what is printed is documented, with its type, and what is documented is printed.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// Checks what a command printed against the section with this heading. All that `printed` has together must have every
/// key that is documented, but for those inside of what is null or empty here.
pub fn check(heading: &str, printed: &[Value]) {
    let documented = documented(heading);
    let mut found = BTreeMap::<String, Vec<&Value>>::new();
    printed.iter().for_each(|value| collect(value, "", &documented, &mut found));
    for (path, values) in &found {
        let Some(types) = documented.get(path) else { panic!("{heading}: {path} is not documented") };
        for value in values {
            let is_one = types.split(" or ").any(|one| is_of(value, one));
            assert!(is_one, "{heading}: {path} is {value}, not {types}");
        }
    }
    let is_vacant = |path: &str| {
        let above = path.match_indices(['.', '[']).map(|(end, _)| &path[..end]);
        above.filter_map(|above| found.get(above)).any(|values| values.iter().all(|value| is_empty(value)))
    };
    for path in documented.keys() {
        assert!(found.contains_key(path) || is_vacant(path), "{heading}: {path} is documented and not there");
    }
}

/// The keys of a section's tables with their types.
fn documented(heading: &str) -> BTreeMap<String, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let text = fs::read_to_string(file).expect("it is there");
    let start = format!("\n## {heading}\n");
    let (_, section) = text.split_once(&start).unwrap_or_else(|| panic!("there is no section {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut keys = BTreeMap::new();
    let mut places = vec![String::new()];
    for line in section.lines() {
        if line.starts_with("In ") && line.ends_with(':') {
            places = line.split('`').skip(1).step_by(2).map(|place| format!("{place}.")).collect();
            if line.contains("the object itself") {
                places.push(String::new());
            }
        } else if let Some((key, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) {
            let types = rest.split(" |").next().unwrap_or_default();
            for place in &places {
                let twice = keys.insert(format!("{place}{key}"), types.to_owned());
                assert!(twice.is_none(), "{heading}: {place}{key} is there twice");
            }
        }
    }
    assert!(!keys.is_empty(), "{heading} has no table");
    keys
}

/// The paths of all values inside of one, as they are documented.
fn collect<'a>(
    value: &'a Value,
    path: &str,
    documented: &BTreeMap<String, String>,
    found: &mut BTreeMap<String, Vec<&'a Value>>,
) {
    match value {
        Value::Object(members) => {
            for (key, inner) in members {
                let dot = if path.is_empty() { "" } else { "." };
                let any = format!("{path}{dot}*");
                let is_any = documented.keys().any(|known| {
                    known
                        .strip_prefix(&any)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                });
                let path = if is_any { any } else { format!("{path}{dot}{key}") };
                if !is_any || documented.contains_key(&path) {
                    found.entry(path.clone()).or_default().push(inner);
                }
                collect(inner, &path, documented, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| {
            collect(inner, &format!("{path}[]"), documented, found);
        }),
        _ => {}
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "text" => value.is_string(),
        "boolean" => value.is_boolean(),
        "list" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => panic!("there is no type {name}"),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
