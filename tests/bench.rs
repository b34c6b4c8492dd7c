//! `pktmine bench` as a user types it.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    command.arg("bench").args(arguments);
    // What drivers say on stderr is not the command's.
    command.env("NODEVICE_SELECT", "1");
    command.env_remove("RUST_LOG").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    bench(arguments).output().expect("the command starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Measures two numbers of threads in short, and saves it.
fn save(directory: &Path) -> (Value, String) {
    let output = output(&["--threads", "1,2", "--difficulty", "2", "--duration", "300ms", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let file = directory.join("saved.json");
    fs::write(&file, &output.stdout).expect("it can be written");
    (serde_json::from_slice(&output.stdout).expect("JSON"), file.display().to_string())
}

#[test]
fn a_saved_run_has_every_figure_and_the_next_one_is_held_against_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (saved, file) = save(directory.path());
    assert_eq!((&saved["format"], &saved["duration"]), (&1.into(), &0.3.into()));
    assert_eq!(saved["interrupted"], false);
    assert!(saved["machine"]["processors"].as_u64().is_some_and(|processors| processors > 0));
    let measurements = saved["measurements"].as_array().expect("a list");
    assert_eq!(measurements.len(), 2);
    for (measurement, threads) in measurements.iter().zip([1, 2]) {
        assert_eq!((&measurement["threads"], &measurement["difficulty"]), (&threads.into(), &2.into()));
        assert_eq!(measurement["work_bits"], "0x207fffff");
        let figures = &measurement["total"];
        for name in ["e_per_s", "anns_per_s", "found_per_s", "hashes_per_s", "tables_per_s", "rounds_per_s"] {
            assert!(figures[name].as_f64().is_some_and(|rate| rate > 0.0), "{name}: {figures}");
        }
        for step in ["choice", "table_1", "tree", "table_2", "search"] {
            assert!(figures["round_time"][step].as_f64().is_some_and(|time| time > 0.0), "{step}: {figures}");
        }
        assert!(measurement["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.3), "{measurement}");
        assert!(measurement["resident_mib"].as_f64().is_some_and(|mib| mib > 9.0), "{measurement}");
    }

    let page = directory.path().join("page.html").display().to_string();
    let mut arguments = vec!["--threads", "2", "--difficulty", "2", "--duration", "300ms"];
    arguments.extend(["--kernel", "portable", "--compare", &file, "--html", &page]);
    let compared = output(&arguments);
    let text = stdout(&compared);
    assert_eq!(compared.status.code(), Some(0), "{}", stderr(&compared));
    assert!(text.contains("Against the saved run"), "{text}");
    assert!(text.contains("only saved: 1 thread at difficulty 2"), "{text}");
    assert!(!text.contains('\x1b'), "no colour in a pipe");
    if measurements[0]["kernel"] != "portable" {
        assert!(text.contains("saved, portable now"), "{text}");
    }
    assert!(stderr(&compared).is_empty(), "no progress bar where nobody looks: {}", stderr(&compared));

    let page = fs::read_to_string(page).expect("it was written");
    assert_eq!(page.matches("<svg").count(), 2, "{page}");
    assert!(page.contains("2 threads") && page.contains("table 1"));
    let addresses = page.matches("http").count();
    let names = page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(addresses, names, "nothing is fetched from anywhere");
    assert!(!page.contains("<script") && !page.contains("url(") && !page.contains("@import"));
}

#[test]
fn a_table_for_people_fits_into_eighty_columns() {
    let output = output(&["--threads", "2", "--difficulty", "2", "--duration", "300ms", "--color", "always"]);
    let colored = stdout(&output);
    assert!(colored.contains('\x1b'), "colour where it is asked for: {colored}");
    let text = anstream::adapter::strip_str(&colored).to_string();
    let tables = text.split_once("\n\n").expect("tables below the heading").1;
    for line in tables.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for heading in ["hashes/s", "tables/s", "table 1", "search", "upload Mb/s", "MiB", "mJ/ann"] {
        assert!(tables.contains(heading), "{heading}: {tables}");
    }
    // Either it tells energy, or it says once that it does not.
    let absent = text.matches("not told by this system").count();
    assert!(absent == usize::from(text.contains("  -       -")), "{text}");
}

#[test]
fn a_checksum_is_correct_and_one_that_nobody_knows_is_told_as_it_is() {
    let correct = output(&["--checksum=4"]);
    let text = stdout(&correct);
    assert_eq!(correct.status.code(), Some(0), "{}", stderr(&correct));
    assert!(text.contains("4 hard nonces at difficulty 2\n2089 announcements in"), "{text}");
    assert!(text.trim_end().ends_with(" correct"), "{text}");

    let default = stdout(&output(&["--checksum", "--difficulty", "2"]));
    assert!(default.contains("64 hard nonces at difficulty 2") && default.contains(" correct"), "{default}");
    let unknown = output(&["--checksum=1", "--threads", "1", "--json"]);
    assert_eq!(unknown.status.code(), Some(0), "{}", stderr(&unknown));
    let outcome: Value = serde_json::from_str(&stdout(&unknown)).expect("JSON");
    assert_eq!((&outcome["verdict"], &outcome["expected"]), (&"unknown".into(), &Value::Null));
    assert_eq!(outcome["checksum"].as_str().map(str::len), Some(64));
    let told = stdout(&output(&["--checksum=1", "--threads", "1"]));
    assert!(
        told.contains("cannot be judged:") && told.contains("\n4, 64, 512 at difficulty 2; 64, 256"),
        "{told}"
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_with_what_was_measured() {
    let arguments = ["--threads", "1,2", "--difficulty", "2", "--duration", "2s", "--json"];
    let mut command = bench(&arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    // The first is measured by then unless the machine is very busy, and the second is not.
    thread::sleep(Duration::from_millis(3000));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
    assert!(kill.success());
    let asked = Instant::now();
    let output = child.wait_with_output().expect("it is our child");
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
    if output.status.code() == Some(1) {
        assert!(stderr(&output).contains("before anything was measured"), "{}", stderr(&output));
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["interrupted"], true);
    assert!(!report["measurements"].as_array().expect("a list").is_empty());
}

#[test]
fn wrong_usage_says_what_is_wrong_and_exits_with_two() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let damaged = file("damaged.json", r#"{"format": 1, "version": 7}"#);
    let newer = file("newer.json", r#"{"format": 9}"#);
    let not_json = file("not.json", "e/s: many");
    let another = file("another.json", r#"{"event": "totals"}"#);
    for (arguments, expected) in [
        (vec!["--threads", "0"], "it must be a whole number, 1 or more"),
        (vec!["--threads", "-1"], "it must be a whole number, 1 or more"),
        (vec!["--threads", "1,2,1"], "--threads has 1 twice"),
        (vec!["--threads", "many"], "--threads"),
        (vec!["--difficulty", "0"], "0 is not in 2.."),
        (vec!["--difficulty", "1"], "1 is not in 2.."),
        (vec!["--difficulty", "2,128,2"], "--difficulty has 2 twice"),
        (vec!["--duration", "0"], "longer than nothing"),
        (vec!["--kernel", "abacus"], "no kernel `abacus` on this processor"),
        (vec!["--backend", "abacus"], "possible values"),
        (vec!["--checksum=0"], "0 is not in 1.."),
        (vec!["--checksum=4", "--compare", "x"], "cannot be used with"),
        (vec!["--compare", "/nonexistent.json"], "/nonexistent.json cannot be read"),
        (vec!["--compare", &not_json], "has saved: it is not JSON (line 1, column 1: "),
        (vec!["--compare", &another], "has saved: it has no `format`, as saved runs have"),
        (vec!["--compare", &damaged], "has saved: it is damaged (line 1, column 26: "),
        (vec!["--compare", &newer], "has saved: its format is 9, this program knows format 1"),
        (vec!["--html", "/nonexistent/page.html"], "there is no directory /nonexistent"),
    ] {
        let output = output(&arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}: nothing on stdout");
    }
}
