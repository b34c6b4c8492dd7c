//! The settings file that scripts for other miners already have, in JSON.

use std::{ffi::OsString, path::Path, time::Duration};

use serde_json::{Map, Value};

use super::{Origin, file::Given, nearest};
use crate::plain::json_fault;

/// The keys that there are, each with the flag that it stands for and how its value is read.
const KEYS: [(&str, &str, Reader); 6] = [
    ("pools", "pools", addresses),
    ("threads", "threads", count),
    ("payment_addr", "paymentaddr", address),
    ("uploaders", "uploaders", count),
    ("upload_timeout", "uploadtimeout", timeout),
    ("mine_old_anns", "mineold", mine_old),
];

/// Reads a value as what would be typed, or says what it must be; `None`: as if the key were not there.
type Reader = fn(&Value) -> Result<Option<Vec<OsString>>, &'static str>;

/// Reads the file's text; its keys become the flags that they stand for.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<Given>, Vec<String>> {
    let keys: Map<String, Value> = match serde_json::from_str(text) {
        Ok(Value::Object(keys)) => keys,
        Ok(_) => return Err(vec!["it has no JSON object: write {\"pools\": [\"http://…\"], …}".into()]),
        Err(error) => return Err(vec![format!("it is not JSON ({})", json_fault(&error))]),
    };
    let origin = Origin::File { path: path.to_owned(), line: None };
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for (key, value) in &keys {
        let Some((_, flag, reader)) = KEYS.iter().find(|(known, _, _)| known == key) else {
            problems.push(unknown(key));
            continue;
        };
        // Keys that are null are as good as missing.
        let read = if value.is_null() { Ok(None) } else { reader(value) };
        match read {
            Ok(values) => all.extend(values.map(|values| Given {
                table: None,
                key: (*flag).to_owned(),
                values,
                held_by: None,
                origin: origin.clone(),
            })),
            Err(must_be) => problems.push(format!("{key} is {value}: it must be {must_be}")),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

fn unknown(key: &str) -> String {
    let known = || KEYS.iter().map(|(key, _, _)| *key);
    let remedy = match nearest(key, known()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            format!("there are {}; a pktmine.toml has all settings", known().collect::<Vec<_>>().join(", "))
        }
    };
    format!("there is no key `{key}`; {remedy}")
}

fn addresses(value: &Value) -> Result<Option<Vec<OsString>>, &'static str> {
    let list = value.as_array().and_then(|list| list.iter().map(|one| Some(one.as_str()?.into())).collect());
    list.map(Some).ok_or("a list of addresses, such as [\"http://pool.example.com\"]")
}

fn address(value: &Value) -> Result<Option<Vec<OsString>>, &'static str> {
    value.as_str().map(|text| Some(vec![text.into()])).ok_or("a text: the address that is paid")
}

fn count(value: &Value) -> Result<Option<Vec<OsString>>, &'static str> {
    let count = value.as_u64().filter(|count| *count > 0);
    count.map(|count| Some(vec![count.to_string().into()])).ok_or("a whole number, 1 or more")
}

fn timeout(value: &Value) -> Result<Option<Vec<OsString>>, &'static str> {
    let seconds =
        value.as_f64().filter(|seconds| Duration::try_from_secs_f64(*seconds).is_ok_and(|t| !t.is_zero()));
    seconds.map(|seconds| Some(vec![seconds.to_string().into()])).ok_or("a number of seconds above 0")
}

/// −1 is how other miners say that the pool decides.
fn mine_old(value: &Value) -> Result<Option<Vec<OsString>>, &'static str> {
    match value.as_i64() {
        Some(-1) => Ok(None),
        Some(blocks) if u32::try_from(blocks).is_ok() => Ok(Some(vec![blocks.to_string().into()])),
        _ => Err("0 or more blocks, or -1 for what the pool asks for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_the_flags_that_they_stand_for() {
        let text = r#"{"pools": ["http://a", "http://b"], "threads": 4, "payment_addr": "me", "uploaders": null,
                       "upload_timeout": 2.5, "mine_old_anns": -1}"#;
        let mut given = read(Path::new("a.json"), text).expect("it is good");
        given.sort_by(|one, two| one.key.cmp(&two.key));
        let given: Vec<_> = given.into_iter().map(|one| (one.key, one.values)).collect();
        let value =
            |key: &str, values: &[&str]| (key.to_owned(), values.iter().map(OsString::from).collect());
        let expected = [
            value("paymentaddr", &["me"]),
            value("pools", &["http://a", "http://b"]),
            value("threads", &["4"]),
            value("uploadtimeout", &["2.5"]),
        ];
        assert_eq!(given, expected);
    }

    #[test]
    fn all_that_is_wrong_is_told_in_words_for_people() {
        let text =
            r#"{"pool": [], "pools": ["http://a", 7], "threads": "four", "uploaders": 0, "colour": 3}"#;
        let told = read(Path::new("a.json"), text).expect_err("it is wrong").join("\n");
        for part in [
            "there is no key `pool`; did you mean `pools`?",
            "pools is [\"http://a\",7]: it must be a list of addresses",
            "threads is \"four\": it must be a whole number, 1 or more",
            "uploaders is 0: it must be",
            "there is no key `colour`; there are pools, threads,",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let told = |text| read(Path::new("a.json"), text).expect_err("it is wrong").join("\n");
        assert_eq!(told("{\"threads\": 4,,}"), "it is not JSON (line 1, column 15: key must be a string)");
        assert!(told("[]").contains("it has no JSON object"), "{}", told("[]"));
    }
}
