//! `config.json`: what a master tells to mine.

use kernels::WorkBits;
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use super::{BlockHash, HANDLERS_MAX, MINE_OLD_MAX};
use crate::plain::is_obeyed;

/// Bytes of the longest address that is believed: it is in log lines, in metrics and in every post's head.
const ADDRESS_MAX: usize = 2048;

/// The body of `GET {pool}/config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Newest block; `None`: the pool is not ready.
    pub tip_hash: Option<BlockHash>,
    /// Height of the next block: the tip is at `current_height − 1`.
    pub current_height: i32,
    /// The master's own address.
    pub master_url: String,
    /// Where payments are made.
    pub paymaker_url: String,
    /// Where announcements go; the order matters.
    pub submit_ann_urls: Vec<String>,
    /// For block miners.
    pub download_ann_urls: Vec<String>,
    /// For block miners.
    pub submit_block_urls: Vec<String>,
    /// Version of the protocol.
    pub version: u32,
    /// Version of the pool's software.
    pub soft_version: u32,
    /// Versions of announcements that the pool takes.
    pub ann_versions: Vec<u8>,
    /// Mine on the block that many below the tip.
    pub mine_old_anns: u32,
    /// Work bits. `None`: this pool cannot be mined on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ann_target: Option<u32>,
    /// Where blkinfo files are, instead of the pool's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkinfo_url: Option<String>,
}

/// Why the body of a `config.json` or `blkinfo_HASH.json` cannot be used. The text does not name the address:
/// whoever fetched it knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No bytes at all.
    #[error("the answer is empty where JSON should be")]
    Empty,
    /// A web page, probably of a proxy or of another service.
    #[error("the answer is a web page (HTML) where JSON should be: check the pool's address")]
    WebPage,
    /// What the JSON parser found.
    #[error("the answer is not JSON: {0}")]
    NotJson(String),
    /// Some other JSON.
    #[error("the answer is JSON, but {0} where an object should be")]
    NotAnObject(String),
    /// A key without which nothing can be mined.
    #[error("{0}")]
    Key(String),
}

impl Config {
    /// Reads what a master said, for a miner: strict about what it needs, lenient about the rest.
    ///
    /// Besides the configuration it gives one sentence for every key that was damaged. See [`Self::parse_after`].
    ///
    /// # Errors
    /// If it is not a JSON object, or `tipHash` or `currentHeight` cannot be used.
    pub fn parse(body: &[u8]) -> Result<(Self, Vec<String>), ConfigError> {
        Self::parse_after(body, None)
    }

    /// Reads what a master said, and keeps from what it said before (`previous`) what is damaged now.
    ///
    /// The handlers are kept or replaced as a whole, since an announcement's handler is found by its index.
    /// A missing `annTarget` is not damage: it means that the pool cannot be mined on. With `tipHash` null
    /// the pool is not ready, and no other key is complained of.
    ///
    /// # Errors
    /// If it is not a JSON object, or `tipHash` or `currentHeight` cannot be used.
    pub fn parse_after(body: &[u8], previous: Option<&Self>) -> Result<(Self, Vec<String>), ConfigError> {
        let object = json_object(body)?;
        let mut keys = Keys { object: &object, problems: Vec::new() };
        let tip_hash = match object.get("tipHash") {
            Some(Value::Null) => None,
            value => Some(block_hash("tipHash", value)?),
        };
        let current_height = match object.get("currentHeight") {
            _ if tip_hash.is_none() => 0,
            value => value
                .and_then(Value::as_i64)
                .and_then(|h| i32::try_from(h).ok())
                .filter(|h| *h >= 1)
                .ok_or_else(|| {
                    ConfigError::Key(format!(
                        "currentHeight is {}, but must be the height of the next block, 1 to {}",
                        shown(value),
                        i32::MAX
                    ))
                })?,
        };
        let config = Self {
            tip_hash,
            current_height,
            master_url: keys.unneeded("masterUrl", as_string),
            paymaker_url: keys.unneeded("paymakerUrl", as_string),
            submit_ann_urls: keys.needed(
                "submitAnnUrls",
                &handlers_wanted(object.get("submitAnnUrls")),
                as_handlers,
                previous.map(|p| p.submit_ann_urls.clone()),
            ),
            download_ann_urls: keys.unneeded("downloadAnnUrls", as_strings),
            submit_block_urls: keys.unneeded("submitBlockUrls", as_strings),
            version: keys.unneeded("version", as_u32),
            soft_version: keys.unneeded("softVersion", as_u32),
            ann_versions: keys.unneeded("annVersions", as_versions),
            mine_old_anns: keys.needed(
                "mineOldAnns",
                "a number from 0 to 100",
                |value| as_u32(value).filter(|n| *n <= MINE_OLD_MAX),
                previous.map(|p| p.mine_old_anns),
            ),
            ann_target: keys.optional(
                "annTarget",
                "work bits that a hash can meet, in decimal (537001984 is difficulty 128)",
                |value| as_u32(value).filter(|bits| WorkBits::new(*bits).is_ok()),
                previous.and_then(|p| p.ann_target),
            ),
            blkinfo_url: keys.optional(
                "blkinfoUrl",
                &format!("an address, http:// or https://, of at most {ADDRESS_MAX} bytes"),
                |value| as_string(value).filter(|text| web_address(text).is_some()),
                previous.and_then(|p| p.blkinfo_url.clone()),
            ),
        };
        let mut problems = keys.problems;
        if !config.ann_versions.is_empty() && !config.ann_versions.contains(&1) {
            problems.push(format!(
                "annVersions is {:?} without 1, the only version that this miner makes: expect its handlers to refuse",
                config.ann_versions
            ));
        }
        if config.tip_hash.is_none() {
            problems.clear();
        }
        Ok((config, problems))
    }

    /// The ann handlers' addresses, in order; empty if one of them is no web address.
    pub fn handlers(&self) -> Vec<Url> {
        self.submit_ann_urls.iter().map(|text| web_address(text)).collect::<Option<_>>().unwrap_or_default()
    }
}

/// The keys of an object, and what was wrong with those looked at so far.
struct Keys<'a> {
    object: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl Keys<'_> {
    /// A key that this miner has no use for: it may be missing.
    fn unneeded<T: Default>(&mut self, key: &str, read: impl Fn(&Value) -> Option<T>) -> T {
        let value = self.object.get(key).filter(|value| !value.is_null());
        value.map(read).unwrap_or_else(|| Some(T::default())).unwrap_or_else(|| {
            self.problems.push(format!("{key} is {}: ignored, it is not needed", shown(value)));
            T::default()
        })
    }

    /// A key that must be there.
    fn needed<T: Default + PartialEq>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
        previous: Option<T>,
    ) -> T {
        let value = self.object.get(key);
        value.and_then(read).unwrap_or_else(|| {
            self.damaged(key, wanted, previous.as_ref().is_some_and(|p| *p != T::default()));
            previous.unwrap_or_default()
        })
    }

    /// A key that may be missing, and means something by it.
    fn optional<T>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
        previous: Option<T>,
    ) -> Option<T> {
        let value = self.object.get(key).filter(|value| !value.is_null())?;
        read(value).or_else(|| {
            self.damaged(key, wanted, previous.is_some());
            previous
        })
    }

    fn damaged(&mut self, key: &str, wanted: &str, has_previous: bool) {
        let instead = if has_previous { "the last good one is kept" } else { "it counts as not given" };
        let value = shown(self.object.get(key));
        self.problems.push(format!("{key} is {value}, but must be {wanted}: {instead}"));
    }
}

/// The body as a JSON object.
pub(super) fn json_object(body: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    let text = body.trim_ascii_start();
    match text.first() {
        None => return Err(ConfigError::Empty),
        Some(b'<') => return Err(ConfigError::WebPage),
        Some(_) => {}
    }
    // The parser bounds the nesting by itself.
    match serde_json::from_slice(text).map_err(|error| ConfigError::NotJson(error.to_string()))? {
        Value::Object(object) => Ok(object),
        other => Err(ConfigError::NotAnObject(shown(Some(&other)))),
    }
}

/// A block's hash out of an object.
pub(super) fn block_hash(key: &str, value: Option<&Value>) -> Result<BlockHash, ConfigError> {
    value.and_then(Value::as_str).and_then(|text| text.parse().ok()).ok_or_else(|| {
        ConfigError::Key(format!("{key} is {}, but must be 64 hexadecimal digits", shown(value)))
    })
}

/// A value as a log line can bear it: short, and without characters that a terminal obeys.
pub(super) fn shown(value: Option<&Value>) -> String {
    let kind = match value {
        None => return "missing".into(),
        Some(Value::Array(list)) => format!("a list of {} ", list.len()),
        Some(Value::Object(_)) => "an object ".into(),
        Some(_) => String::new(),
    };
    let text = value.map(Value::to_string).unwrap_or_default();
    let mut short: String =
        text.chars().take(72).map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().nth(72).is_some() {
        short.push('…');
    }
    format!("{kind}{short}")
}

fn web_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= ADDRESS_MAX)?;
    // What is not ASCII takes more room in it.
    (matches!(url.scheme(), "http" | "https") && url.has_host() && url.as_str().len() <= ADDRESS_MAX)
        .then_some(url)
}

fn as_string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn as_strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(as_string).collect()
}

fn as_handlers(value: &Value) -> Option<Vec<String>> {
    as_strings(value)
        .filter(|list| (1..=HANDLERS_MAX).contains(&list.len()))
        .filter(|list| list.iter().all(|text| web_address(text).is_some()))
}

/// What `submitAnnUrls` must be; names the first entry that is not.
fn handlers_wanted(value: Option<&Value>) -> String {
    let wanted = format!(
        "a list of 1 to {HANDLERS_MAX} addresses, each http:// or https:// and of at most {ADDRESS_MAX} bytes"
    );
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match list.iter().enumerate().find(|(_, v)| v.as_str().and_then(web_address).is_none()) {
        Some((index, Value::String(long))) if long.len() > ADDRESS_MAX => {
            format!("{wanted} (entry {} has {} bytes)", index + 1, long.len())
        }
        Some((index, bad)) => format!("{wanted} (entry {} is {})", index + 1, shown(Some(bad))),
        None => wanted,
    }
}

fn as_u32(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok())
}

fn as_versions(value: &Value) -> Option<Vec<u8>> {
    value.as_array()?.iter().map(|n| n.as_u64().and_then(|n| u8::try_from(n).ok())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({
            "tipHash": "ab".repeat(32), "currentHeight": 101, "masterUrl": "http://m/", "paymakerUrl": "http://p/",
            "submitAnnUrls": ["http://a/submit", "https://b/submit"], "downloadAnnUrls": [], "submitBlockUrls": [],
            "version": 1, "softVersion": 2, "annVersions": [1], "mineOldAnns": 3, "annTarget": 0x2002_0000,
            "somethingNew": {"x": 1}
        })
    }

    fn with(key: &str, value: Value) -> Vec<u8> {
        let mut object = good();
        object[key] = value;
        object.to_string().into_bytes()
    }

    fn without(key: &str) -> Vec<u8> {
        let mut object = good();
        object.as_object_mut().unwrap().remove(key);
        object.to_string().into_bytes()
    }

    #[test]
    fn a_good_configuration_has_no_problems_and_survives_its_own_writing() {
        let (config, problems) = Config::parse(good().to_string().as_bytes()).unwrap();
        assert_eq!((config.current_height, config.mine_old_anns), (101, 3));
        assert_eq!(config.handlers().len(), 2);
        assert!(problems.is_empty());
        let written = serde_json::to_vec(&config).unwrap();
        assert_eq!(Config::parse(&written).unwrap(), (config, vec![]));
    }

    #[test]
    fn keys_that_a_miner_does_not_need_may_be_missing() {
        for key in
            ["masterUrl", "paymakerUrl", "downloadAnnUrls", "submitBlockUrls", "version", "softVersion"]
        {
            assert_eq!(Config::parse(&without(key)).unwrap().1, Vec::<String>::new(), "{key}");
            let (_, problems) = Config::parse(&with(key, json!({"no": "thing"}))).unwrap();
            assert_eq!(problems.len(), 1, "{key}: {problems:?}");
            assert!(problems[0].starts_with(key) && problems[0].contains("ignored"), "{problems:?}");
        }
    }

    #[test]
    fn what_is_damaged_is_kept_from_before_and_said() {
        let (before, _) = Config::parse(good().to_string().as_bytes()).unwrap();
        let damages = [
            ("submitAnnUrls", json!(["http://a/submit", "gopher://b/"])),
            ("submitAnnUrls", json!(["http://a/submit", 7])),
            ("submitAnnUrls", json!([])),
            ("submitAnnUrls", json!("http://a/submit")),
            ("submitAnnUrls", json!(vec!["http://a/"; 257])),
            ("submitAnnUrls", json!(["http://a/submit", format!("http://a/{}", "x".repeat(2040))])),
            ("submitAnnUrls", json!([format!("http://a/{}", "ä".repeat(400))])),
            ("mineOldAnns", json!(-1)),
            ("mineOldAnns", json!(101)),
            ("mineOldAnns", json!(1.5)),
            ("annTarget", json!("537001984")),
            ("annTarget", json!(0)),
            ("annTarget", json!(0x2080_0000u32)),
            ("annTarget", json!(u64::MAX)),
            ("blkinfoUrl", json!("not an address")),
            ("blkinfoUrl", json!(7)),
        ];
        for (key, value) in damages {
            let (config, problems) = Config::parse_after(&with(key, value.clone()), Some(&before)).unwrap();
            assert_eq!(config, before, "{key}: {value}");
            assert_eq!(problems.len(), 1, "{key}: {problems:?}");
            assert!(problems[0].starts_with(key) && problems[0].len() < 600, "{problems:?}");
            let (config, _) = Config::parse(&with(key, value)).unwrap();
            assert_ne!(config.handlers().is_empty(), key != "submitAnnUrls");
        }
    }

    #[test]
    fn an_address_may_be_as_long_as_any_is_in_earnest_and_its_complaint_is_short() {
        let with_length = |len: usize| {
            let url = format!("http://a/{}", "x".repeat(len - "http://a/".len()));
            let (config, problems) =
                Config::parse(&with("submitAnnUrls", json!(["http://b/", url]))).unwrap();
            (config.handlers().len(), problems)
        };
        assert_eq!(with_length(2048), (2, vec![]));
        let (handlers, problems) = with_length(200_000);
        assert_eq!((handlers, problems.len()), (0, 1));
        assert!(problems[0].contains("entry 2 has 200000 bytes") && problems[0].len() < 400, "{problems:?}");
    }

    #[test]
    fn a_missing_target_is_not_kept_from_before() {
        let (before, _) = Config::parse(good().to_string().as_bytes()).unwrap();
        let (config, problems) = Config::parse_after(&without("annTarget"), Some(&before)).unwrap();
        assert_eq!((config.ann_target, problems), (None, vec![]));
    }

    #[test]
    fn a_pool_that_is_not_ready_need_not_say_anything_else() {
        let (config, problems) = Config::parse(br#"{"tipHash": null}"#).unwrap();
        assert_eq!((config.tip_hash, problems), (None, vec![]));
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_one_sentence() {
        let deep = "[".repeat(100_000);
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("empty", b" \n".to_vec()),
            ("web page", b"<html><body>502</body></html>".to_vec()),
            ("not JSON", b"{\"tipHash\":".to_vec()),
            ("not JSON", b"\xff\xfe".to_vec()),
            ("not JSON: recursion", deep.into_bytes()),
            ("a list of 0", b"[]".to_vec()),
            ("an object", b"null".to_vec()),
            ("tipHash is missing", without("tipHash")),
            ("tipHash is \"abcd\"", with("tipHash", json!("abcd"))),
            ("tipHash is 5", with("tipHash", json!(5))),
            ("currentHeight is missing", without("currentHeight")),
            ("currentHeight is -5", with("currentHeight", json!(-5))),
            ("currentHeight is 0", with("currentHeight", json!(0))),
            ("currentHeight is 4294967296", with("currentHeight", json!(1u64 << 32))),
            ("currentHeight is \"101\"", with("currentHeight", json!("101"))),
        ];
        for (expected, body) in cases {
            let text = Config::parse(&body).unwrap_err().to_string();
            assert!(text.contains(expected), "{expected}: {text}");
            assert!(text.len() < 250 && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn values_are_shown_short_and_harmless() {
        let text = shown(Some(&json!("\u{1b}[2J\u{9b}".repeat(50))));
        assert!(text.chars().count() < 80 && !text.chars().any(is_obeyed), "{text}");
    }
}
