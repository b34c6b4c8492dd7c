//! What people and other programs write into files, and onto command lines: whatever it is, it is read, or refused in
//! words that a terminal can bear.

use std::path::Path;

use kernels::Announcement;
use pktmine::bench::{Report, compare, html, text};
use pktmine::config::ConfigError;
use pktmine::local_pool::{Fault, check_command};
use pktmine::{cli, config, verify};

/// Words of settings.
pub const SETTINGS: &[&str] = &[
    "pools = ",
    "paymentaddr = ",
    "threads = ",
    "uploaders = ",
    "uploadtimeout = ",
    "mineold = ",
    "exact-target = ",
    "verbose = ",
    "device = ",
    "kernel = ",
    "interval = ",
    "duration = ",
    "[pool]\n",
    "[bench]\n",
    "handlers = ",
    "block-time = ",
    "fault = ",
    "listen = ",
    "http = ",
    "http-token = ",
    "{ file = 'token' }",
    "true",
    "false",
    "'''",
    "\"\"\"",
    "0x",
    "1e400",
    "nan",
    "1979-05-27T07:32:00Z",
    "\"pools\":",
    "\"threads\":",
    "\"payment_addr\":",
    "\"uploaders\":",
    "\"upload_timeout\":",
    "\"mine_old_anns\":",
    "\u{1b}[2J",
    "\\u001b",
];

/// Words of faults and of commands to the local pool.
pub const FAULTS: &[&str] = &[
    "delay",
    "503",
    "500",
    "close-request",
    "close-reply",
    "truncated",
    "garbage",
    "huge",
    "hang",
    "redirect",
    "reorganise",
    "=1s",
    "=500ms",
    ":all",
    ":master",
    ":config",
    ":blkinfo",
    ":handlers",
    ":handler0",
    ":10",
    ":5s",
    ":20%",
    ":after",
    ":before",
    "1e308",
    "nan",
    "inf",
    "{\"fault\":",
    "{\"action\":",
    "\"new-block\"",
    "\"reorganise\"",
    "\"depth\":",
    "\"lower\":",
    "\"handlers\"",
    "\"count\":",
    "\"handler\"",
    "\"index\":",
    "\"state\":",
    "\"up\"",
    "\"seconds\":",
    "\"percent\":",
    "\"after_work\":",
    "\"on\":",
    "\"value\":",
];

/// The longest text that an error may be: some repeat a line, or all names that there are.
const LONGEST: usize = 4000;

/// Whether a text can stand in a log: not empty, not endless, and nothing in it that a terminal obeys.
pub fn assert_harmless(text: &str) {
    assert!(!text.is_empty() && text.len() <= LONGEST, "{} bytes: {text:.200?}", text.len());
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

/// A settings file: `pktmine.toml`, or the JSON of scripts for other miners.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that values are in are looked for beside it, so there are none.
    let path = Path::new("/nonexistent/settings.toml");
    if let Err(ConfigError(problems)) = config::check_text(&cli::definition(), path, text) {
        assert!(!problems.is_empty());
        problems.iter().for_each(|problem| assert_harmless(problem));
    }
}

/// A fault as it is typed, or the body of `POST /control`.
pub fn faults(data: &[u8]) {
    if let Err(error) = check_command(data) {
        assert_harmless(&error);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Fault>() {
        Ok(fault) => {
            let shown = fault.to_string();
            let again: Fault = shown.parse().unwrap_or_else(|error| panic!("{shown} is no fault: {error}"));
            assert_eq!(again.to_string(), shown);
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}

/// A file of announcements.
pub fn files(data: &[u8]) {
    let contents = verify::parse("file", data);
    contents.errors.iter().for_each(|error| assert_harmless(&error.to_string()));
    assert!(contents.announcements.len() <= data.len() / Announcement::LEN);
    assert!(!contents.announcements.is_empty() || !contents.errors.is_empty());
}

/// A run that `pktmine bench --json` has saved.
pub fn saved_run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Report::parse("file", text) {
        Ok(report) => {
            let comparison = compare::compare(&report, &report);
            assert!(comparison.missing.is_empty() || report.measurements.len() > 1);
            assert!(!text::report(&report).is_empty());
            assert!(html::page(&report).contains("</html>"));
            assert!(Report::parse("file", &report.to_json()).is_ok());
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}
