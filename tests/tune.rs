//! `pktmine tune` as a user types it, and what `pktmine ann` makes of what it leaves behind.

mod documented;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::Value;

/// The program without any settings of whoever runs the tests; all that it is told of a home is this folder.
fn pktmine(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PKTMINE_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"));
    // What drivers say on stderr is not the command's.
    command.env("NODEVICE_SELECT", "1").stdin(Stdio::null());
    command
}

fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = pktmine(home, arguments).output().expect("the command starts");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8_lossy(&stderr).into_owned())
}

/// Searches, with more and more time where a loaded machine needs it.
fn tune(home: &Path, arguments: &[&str]) -> (String, String) {
    for duration in ["10s", "40s", "160s"] {
        let arguments =
            [&["tune", "--backend", "cpu", "--difficulty", "2", "--duration", duration], arguments];
        let (code, stdout, stderr) = run(home, &arguments.concat());
        if code == Some(2) && stderr.contains("is too little time for what mines here") {
            continue;
        }
        assert_eq!(code, Some(0), "{stderr}");
        return (stdout, stderr);
    }
    panic!("no time is enough");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The table that says what settings hold for: here, with these changes.
fn holds_here(home: &Path, changes: &[(&str, &str)]) -> String {
    let (code, stdout, stderr) = run(home, &["devices", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let cpu = &serde_json::from_str::<Value>(&stdout).expect("JSON")["cpu"];
    let caches = cpu["caches"].as_array().expect("a list");
    let kernels = cpu["kernels"].as_array().expect("a list");
    let cache = |cache: &Value| {
        let processors = cache["processors"].as_array().expect("a list").len();
        (cache["bytes"].as_u64(), processors)
    };
    let mut kinds: Vec<((Option<u64>, usize), usize)> = Vec::new();
    for kind in caches.iter().map(cache) {
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let caches: Vec<String> = (kinds.iter())
        .map(|((bytes, processors), count)| match bytes {
            Some(bytes) => format!("{count} × {} KiB of {processors}", bytes >> 10),
            None => format!("{count} × unknown of {processors}"),
        })
        .collect();
    let mut facts = [
        ("version", format!("{:?}", env!("CARGO_PKG_VERSION"))),
        ("processor", cpu["model"].to_string()),
        ("processors", cpu["processors"].to_string()),
        ("caches", format!("{caches:?}")),
        ("kernels", Value::from(kernels.clone()).to_string()),
        ("devices", "[\"cpu\"]".to_owned()),
    ];
    for (key, value) in changes {
        facts.iter_mut().find(|fact| fact.0 == *key).expect("a fact").1 = (*value).to_owned();
    }
    facts.iter().fold("[tuned.for]\n".to_owned(), |text, (key, value)| format!("{text}{key} = {value}\n"))
}

#[test]
fn a_short_search_tells_what_it_tried_and_leaves_files_alone_when_told_to() {
    let home = folder();
    let (stdout, _) = tune(home.path(), &["--dry-run", "--json"]);
    let found: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(found["difficulty"], 2);
    assert!(found["duration"].as_f64() >= Some(10.0), "{found}");
    assert_eq!((&found["file"], &found["file_changed"]), (&Value::Null, &false.into()));
    assert!(found["defaults_e_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{found}");
    let trials = found["trials"].as_array().expect("a list");
    let untried = found["untried"].as_array().expect("a list");
    assert!(
        trials.len() + untried.len() >= 1,
        "there is always another kernel or number of threads: {found}"
    );
    for trial in trials {
        assert!(trial["candidate"].is_string() && trial["reason"].is_null(), "{trial}");
        let ratios = trial["ratios"].as_array().expect("a list");
        assert!((1..=8).contains(&ratios.len()), "{trial}");
        assert!(ratios.iter().all(|ratio| ratio.as_f64() > Some(0.0)), "{trial}");
        assert!(trial["verdict"] == "not better" || ratios.len() >= 5, "{trial}");
    }
    documented::check("`pktmine tune --json`", std::slice::from_ref(&found));
    let is_better = found["comparison"]["is_better"] == true;
    assert_eq!(found["tuned"].is_object(), is_better, "{found}");
    assert!(!home.path().join("config").exists(), "nothing is written");
}

#[test]
fn what_is_found_is_written_and_what_is_void_is_taken_away() {
    let home = folder();
    let own = "# mine\ninterval = \"7s\" # seven\n\n# the pool\n[pool]\nhandlers = 1\n";
    let old = format!("{own}\n[tuned]\nteam = 1\n{}", holds_here(home.path(), &[("version", "\"0.0.1\"")]));
    let file = home.path().join("config/pktmine/pktmine.toml");
    fs::create_dir_all(file.parent().expect("a folder")).expect("it can be made");
    fs::write(&file, &old).expect("it can be written");
    let (stdout, _) = tune(home.path(), &[]);
    for part in ["with the defaults at difficulty 2", "candidate", "median"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let now = fs::read_to_string(&file).expect("it is there");
    assert!(now.starts_with(own), "all else stays: {now}");
    if stdout.contains("Nothing is better than the defaults") {
        assert_eq!(now, own, "{stdout}");
        assert!(stdout.contains("The settings tuned before were taken out of"), "{stdout}");
    } else {
        assert!(stdout.contains("`pktmine ann` uses it from now on"), "{stdout}");
        assert!(now.contains("[tuned]\n# Found by `pktmine tune` at ") && !now.contains("0.0.1"), "{now}");
        let (code, stdout, stderr) = run(home.path(), &["config", "check"]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("(tuned, ") && !stdout.contains("void"), "{stdout}");
    }
}

#[test]
fn what_stands_in_the_way_is_told_before_anything_is_measured() {
    let home = folder();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let json = file("a.json", "{\"threads\": 1}");
    let wrong = file("wrong.toml", "thread = 1\n");
    let nowhere = format!("{json}/pktmine.toml");
    for (arguments, code, expected) in [
        (["--config", &json], 1, "settings in JSON have no place for what is tuned"),
        (["--config", &wrong], 2, "line 1, column 1: there is no setting `thread`"),
        (["--config", &nowhere], 1, "cannot be written ("),
        (["--config", ""], 2, "name one with --config FILE, or see what is found with --dry-run"),
        (["--device", "abacus"], 2, "no device \"abacus\""),
        (["--difficulty", "1"], 2, "1 is not in 2.."),
    ] {
        let told = run(home.path(), &[&["tune"][..], &arguments[..]].concat());
        assert_eq!((told.0, told.1.as_str()), (Some(code), ""), "{told:?}");
        assert!(told.2.contains(expected), "{expected}: {}", told.2);
    }
    let short = ["tune", "--backend", "cpu", "--difficulty", "4096", "--duration", "100ms", "--dry-run"];
    let (code, _, stderr) = run(home.path(), &short);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("is too little time") && stderr.contains("try --duration "), "{stderr}");
}

#[test]
fn where_settings_come_from_and_whether_they_hold_is_shown() {
    let home = folder();
    let file = home.path().join("a.toml");
    let print = |table: &str| {
        fs::write(&file, format!("interval = '9s'\nbackend = 'cpu'\n[tuned]\nteam = 1\n{table}"))
            .expect("written");
        run(home.path(), &["config", "print", "-c", &file.display().to_string()])
    };
    let (code, stdout, stderr) = print(&holds_here(home.path(), &[]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("a.toml, line 4\nteam = 1\n") && stdout.contains("# from: tuned, "), "{stdout}");
    assert!(!stderr.contains("void"), "{stderr}");
    let (code, stdout, stderr) = print(&holds_here(home.path(), &[("processor", "\"Abacus\"")]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("\n# team ="), "{stdout}");
    assert!(
        stderr.contains(
            "a.toml, line 3: the tuned settings are void (the processor: Abacus when it was tuned, "
        ),
        "{stderr}"
    );
    let (code, _, stderr) = print(&holds_here(home.path(), &[]).replace("version", "colour"));
    assert_eq!(code, Some(0), "what another version has written stops nobody: {stderr}");
    assert!(
        stderr.contains("a.toml, line 3: the tuned settings are void") && stderr.contains("`colour`"),
        "{stderr}"
    );
}

/// A miner whose log is read along.
struct Miner(Child, Receiver<String>);

impl Miner {
    fn start(home: &Path, file: &Path) -> Self {
        let mut command = pktmine(home, &["ann", "--backend", "cpu", "--difficulty", "2", "--json", "-c"]);
        let mut child =
            command.arg(file).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (sender, lines) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self(child, lines)
    }

    fn wait_for(&self, text: &str) {
        let mut seen = Vec::new();
        while let Ok(line) = self.1.recv_timeout(Duration::from_secs(30)) {
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("{text:?} is not in:\n{}", seen.join("\n"));
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(status.expect("kill exists").success());
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ann_mines_with_what_was_tuned_until_it_is_void_also_while_it_runs() {
    let home = folder();
    let file = home.path().join("a.toml");
    let write = |threads: u32, changes: &[(&str, &str)]| {
        let table = holds_here(home.path(), changes);
        fs::write(&file, format!("[tuned]\nthreads = {threads}\n{table}")).expect("it can be written");
    };
    write(3, &[]);
    let miner = Miner::start(home.path(), &file);
    miner.wait_for("threads = 3 (tuned, ");
    miner.wait_for("3 threads in 3 teams");
    write(1, &[]);
    miner.signal("HUP");
    miner.wait_for("threads = 1 (tuned, ");
    miner.wait_for("settings changed: threads");
    write(1, &[("processors", "999")]);
    miner.signal("HUP");
    miner.wait_for("the tuned settings are void (processors: 999 when it was tuned, ");
    miner.wait_for("settings changed: threads");
    miner.signal("TERM");
    miner.wait_for("the miner");
}
