//! `pktmine difficulty` as a user types it.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn difficulty(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    command.arg("difficulty").args(arguments).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command.output().expect("the command starts")
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn the_tables_hold_the_documented_figures_in_eighty_columns() {
    let text = stdout(&difficulty(&["--supply", "1000", "--difficulty", "8"]));
    let row = |start: &[&str]| {
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row.starts_with(start)).map(|row| row.join(" ")).collect::<Vec<_>>()
    };
    // By the number of periods, and by difficulty.
    assert_eq!(row(&["3"]), ["3 2.00 375 281250 2.25 best best"], "{text}");
    assert_eq!(row(&["4", "1.00"]), ["4 1.00 500 250000 2.00 too old usable"], "{text}");
    assert_eq!(row(&["1", "-"]), ["1 - not usable - 1 1000000 100.0%"], "{text}");
    assert_eq!(row(&["2", "1", "500000"]), ["2 1 500000 100.0% 2 1000000 100.0%"], "{text}");
    assert_eq!(row(&["4", "2", "500000"]), ["4 2 500000 100.0% 3 562500 56.2%"], "{text}");
    assert_eq!(row(&["8", "3"]), ["8 3 281250 56.2% 3 281250 28.1%"], "{text}");
    assert!(!text.contains("Ask for"), "nothing is known of the hardware: {text}");

    let easiest = stdout(&difficulty(&["--difficulty", "1"]));
    assert!(easiest.starts_with("Power at difficulty 1 (no work bits), 1000 announcements"), "{easiest}");
    let hardware = stdout(&difficulty(&["--rate", "700Ke/s", "--upload", "50Mbit/s"]));
    for line in text.lines().chain(hardware.lines()).chain(easiest.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn hardware_and_a_line_get_a_recommendation_and_a_picture() {
    let directory = tempfile::tempdir().expect("a directory");
    let picture = directory.path().join("curves.svg");
    let file = picture.display().to_string();
    let text = stdout(&difficulty(&["--rate", "700Ke/s", "--upload", "50Mbit/s", "--svg", &file]));
    assert!(text.contains("Ask for difficulty 128 (0x2001ffff)"), "{text}");
    let svg = fs::read_to_string(picture).expect("it was written");
    for label in ["rule in force", "documentation", "power multiplier", "difficulty", "block periods"] {
        assert!(svg.contains(label), "{label}");
    }

    let arguments = ["--rate", "30Ke/s@2,400Ke/s@128", "--upload", "10Mbit/s", "--json"];
    let json: Value = serde_json::from_str(&stdout(&difficulty(&arguments))).expect("JSON");
    let point = &json["recommended"]["point"];
    let [found, sent, upload] = ["found_per_s", "sent_per_s", "upload_mbit_per_s"]
        .map(|name| point[name].as_f64().expect("a number"));
    assert_eq!(found, sent);
    // Nine tenths of the line, and hardly less.
    assert!((8.9..=9.0).contains(&upload), "{json}");
    assert_eq!(json["difficulty"], json["recommended"]["difficulty"]);
    assert_eq!(json["curve"][0]["in_force"], Value::Null);
}

#[test]
fn rates_are_taken_from_a_saved_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("saved.json").display().to_string();
    let bench = Command::new(env!("CARGO_BIN_EXE_pktmine"))
        .args(["bench", "--threads", "1", "--difficulty", "2,8", "--duration", "200ms", "--json"])
        .output()
        .expect("the command starts");
    fs::write(&file, &bench.stdout).expect("it can be written");
    let saved: Value = serde_json::from_slice(&bench.stdout).expect("JSON");
    let rate = saved["measurements"][1]["total"]["e_per_s"].as_f64().expect("a rate");
    let json = stdout(&difficulty(&["--bench", &file, "--difficulty", "8", "--json"]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let per_period = json["per_period"].as_f64().expect("a number");
    assert!((per_period - rate / 8.0 * 60.0).abs() < 1e-6 * per_period, "{per_period} {rate}");
}

#[test]
fn wrong_usage_says_what_is_wrong_and_exits_with_two() {
    for (arguments, expected) in [
        (vec!["--difficulty", "0"], "0 is not in 1.."),
        (vec!["--rate", "fast"], "try 700Ke/s"),
        (vec!["--rate", "0"], "try 700Ke/s"),
        (vec!["--rate", "7K@0"], "try 700Ke/s@128"),
        (vec!["--rate", "7K,8K"], "several rates need their difficulties"),
        (vec!["--rate", "7K@2,8K@2"], "two rates for difficulty 2"),
        (vec!["--rate", "7K", "--supply", "1"], "cannot be used with"),
        (vec!["--upload", "50"], "such as 50Mbit/s"),
        (vec!["--supply=-1"], "above 0"),
        (vec!["--supply", "0"], "above 0"),
        (vec!["--block-time", "0"], "longer than nothing"),
        (vec!["--bench", "/nonexistent.json"], "/nonexistent.json cannot be read"),
    ] {
        let output = difficulty(&arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}: nothing on stdout");
    }
}

#[test]
fn a_picture_that_cannot_be_written_is_said_and_exits_with_one() {
    let unwritable = difficulty(&["--svg", "/nonexistent/curves.svg"]);
    assert_eq!(unwritable.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unwritable.stderr).contains("cannot write /nonexistent/curves.svg"));
}
