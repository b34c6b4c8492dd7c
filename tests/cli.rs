//! The command line as a user types it.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

fn pktmine(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    // Whoever runs the tests may have settings of their own.
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .env("PKTMINE_CONFIG", "")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    pktmine(arguments).output().expect("the command starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The sum of all fates of a pool's account.
fn fates(pool: &Value) -> u64 {
    let names = "accepted duplicate rejected stale overflow unknown unwanted queued in_flight";
    names.split(' ').map(|name| pool[name].as_u64().expect("a count")).sum()
}

fn vectors(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    serde_json::from_slice(&fs::read(path).expect("the vectors are there")).expect("JSON")
}

/// Writes an announcement of the network into a file of the folder: its parent as explorers show it, and the file.
fn real_announcement(folder: &Path) -> (String, String) {
    let real = &vectors("real_world.json")["announcements"][0];
    let bytes = |key: &str| hex::decode(real[key].as_str().expect("text")).expect("digits");
    let file = folder.join("raw.bin");
    fs::write(&file, bytes("announcement")).expect("it can be written");
    let mut parent = bytes("parent_block_hash");
    parent.reverse();
    (hex::encode(parent), file.display().to_string())
}

/// Sends a signal to a process.
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(status.expect("kill exists").success());
}

/// A process that is killed when the test ends, however it ends.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the command starts"))
    }

    fn wait(mut self, limit: Duration) -> (Option<i32>, String, String) {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end within {limit:?}");
            thread::sleep(Duration::from_millis(20));
        };
        let mut text = (String::new(), String::new());
        if let Some(mut stdout) = self.0.stdout.take() {
            stdout.read_to_string(&mut text.0).expect("UTF-8");
        }
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut text.1).expect("UTF-8");
        }
        (status.code(), text.0, text.1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_a_pool_it_mines_against_its_own_and_the_totals_add_up() {
    let output = output(&["ann", "--duration", "12s", "--json", "--interval", "2s"]);
    let log = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("mining against a pool of our own"), "{log}");
    let lines = json_lines(&output);
    assert!(lines.len() >= 5, "a status line every two seconds: {lines:?}");
    assert!(lines[..lines.len() - 1].iter().all(|line| line["event"] == "status"));
    let totals = lines.last().expect("there are lines");
    assert_eq!((&totals["event"], &totals["phase"]), (&"totals".into(), &"done".into()));
    let pool = &totals["pools"][0];
    let found = pool["found"].as_u64().expect("a count");
    assert!(found > 0);
    assert_eq!((fates(pool), &pool["accepted"]), (found, &found.into()), "{pool}");
    assert_eq!(totals["backends"][0]["found"], found);
    assert!(log.contains(&format!("counted {found} accepted announcements, the miner {found}")), "{log}");
}

#[test]
fn under_a_limit_status_lines_say_what_is_mined_instead_of_what_the_pool_asks_for() {
    let arguments = ["ann", "--duration", "15s", "--json", "--interval", "1s", "--difficulty", "2"];
    let output = pktmine(&arguments).args(["--max-upload", "1Mbit/s"]).output().expect("the command starts");
    let log = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains(" for --max-upload: the pool asks for 2"), "{log}");
    let totals = json_lines(&output).pop().expect("there are lines");
    let job = &totals["job"];
    assert_eq!((&job["difficulty_reason"], &job["pool_difficulty"]), (&"max-upload".into(), &2.0.into()));
    assert_eq!(totals["max_upload_mbit_per_s"], 1.0);
    let pool = &totals["pools"][0];
    assert_eq!(pool["accepted"], pool["found"], "{pool}");
    let sent = pool["bytes_uploaded"].as_f64().expect("a count") * 8.0;
    assert!(sent <= 1e6 * totals["uptime"].as_f64().expect("seconds"), "{sent} bits: {totals}");
}

#[test]
fn a_limit_that_is_none_is_refused_with_what_would_be_one() {
    for (flag, value, part) in [
        ("--max-upload", "50", "50Mbit/s, 50Mb/s, 800kbit or 6MB/s"),
        ("--max-upload", "1kbit/s", "less than 16kbit/s"),
        ("--min-difficulty", "1", "2.."),
    ] {
        let output = output(&["ann", flag, value]);
        let log = stderr(&output);
        assert!(output.status.code() == Some(2) && log.contains(part), "{log}");
    }
}

#[test]
fn a_pipe_gets_plain_lines_with_the_unit_that_scripts_look_for() {
    let arguments = ["ann", "--duration", "10s", "--interval", "1s", "--difficulty", "2"];
    let output = output(&arguments);
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert!(!text.contains('\x1b'), "no colour in a pipe");
    assert!(text.lines().filter(|line| line.contains(" Ke/s  ")).count() >= 3, "{text}");
    assert!(text.contains("goodrate 100.0%"), "{text}");
    let forced = pktmine(&arguments).args(["--color", "always"]).output().expect("the command starts");
    assert!(String::from_utf8_lossy(&forced.stdout).contains("\x1b["), "colour where it is asked for");
}

#[test]
fn a_log_file_has_the_log_and_the_rates_without_colours_and_q_leaves_warnings_and_totals() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("miner.log");
    let name = file.display().to_string();
    let arguments =
        ["ann", "--difficulty", "2", "--duration", "4s", "--print-time", "1", "--log-file", &name];
    let output = pktmine(&arguments).args(["--color", "always"]).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let log = fs::read_to_string(&file).expect("it was written");
    assert!(log.contains("INFO mining on cpu") && log.contains(" Ke/s  "), "{log}");
    assert!(!log.contains('\x1b'), "{log:?}");
    assert!(log.contains("INFO mined 4.") && log.contains("goodrate 100.0%"), "{log}");
    assert!(!stderr(&output).contains(" Ke/s  "), "rates are on stdout: {}", stderr(&output));

    let quiet = directory.path().join("quiet.log").display().to_string();
    let status = pktmine(&arguments[..5]).args(["--quiet", "--log-file", &quiet]).output();
    assert_eq!(status.expect("the command starts").status.code(), Some(0));
    let log = fs::read_to_string(&quiet).expect("it was written");
    assert!(
        log.contains("goodrate 100.0%") && !log.contains("mining on") && !log.contains(" Ke/s  "),
        "{log}"
    );

    let quiet = pktmine(&arguments[..5]).arg("--quiet").output().expect("the command starts");
    let (text, log) = (String::from_utf8_lossy(&quiet.stdout).into_owned(), stderr(&quiet));
    assert!(!log.contains("INFO") && text.contains("goodrate 100.0%"), "{text}{log}");
    assert_eq!(text.lines().filter(|line| line.contains(" Ke/s  ")).count(), 0, "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn mining_threads_and_no_others_have_a_low_priority_and_the_processors_asked_for() {
    // The first of those that this process may use.
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let allowed =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("it is there").trim();
    let processor: String = allowed.chars().take_while(char::is_ascii_digit).collect();
    let miner = Process::start(
        pktmine(&["ann", "-t", "1", "--affinity", &processor]).stdout(Stdio::null()).stderr(Stdio::null()),
    );
    // Name, priority and processors of each thread.
    let threads = || -> Vec<(String, i64, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", miner.0.id())).expect("it runs");
        let read = |task: fs::DirEntry| {
            let file = |name: &str| fs::read_to_string(task.path().join(name)).ok();
            let nice = file("stat")?.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()?;
            let status = file("status")?;
            let list =
                status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned();
            Some((file("comm")?.trim().to_owned(), nice, list))
        };
        tasks.filter_map(|task| read(task.ok()?)).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let all = loop {
        let all = threads();
        let is_mining = |name: &str| name.starts_with("mine") || name.starts_with("drive");
        // The thread that starts the others is like them, and soon gone.
        let others_are_usual = all.iter().all(|(name, nice, _)| is_mining(name) || *nice == 0);
        if all.iter().any(|(name, ..)| is_mining(name)) && others_are_usual {
            break all;
        }
        assert!(Instant::now() < deadline, "nothing is mined, or others have a low priority: {all:?}");
        thread::sleep(Duration::from_millis(50));
    };
    for (name, nice, list) in &all {
        if name.starts_with("mine") || name.starts_with("drive") {
            assert_eq!((*nice, list), (10, &processor), "{name}");
        }
    }
}

#[test]
fn a_closed_pipe_ends_mining_without_complaint() {
    let mut child = Process::start(
        pktmine(&["ann", "--interval", "500ms", "--difficulty", "2"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let (code, _, log) = child.wait(Duration::from_secs(20));
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_log_or_the_results_does_not_stop_mining() {
    let full = || fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let arguments = ["ann", "--difficulty", "2", "--duration", "6s", "--interval", "1s"];
    let mut command = pktmine(&arguments);
    let log_lost = command.stdout(Stdio::piped()).stderr(full()).output().expect("the command starts");
    assert_eq!(log_lost.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&log_lost.stdout).contains("goodrate 100.0%"));

    let mut command = pktmine(&arguments);
    let results_lost = command.stdout(full()).stderr(Stdio::piped()).output().expect("the command starts");
    let log = stderr(&results_lost);
    assert_eq!(results_lost.status.code(), Some(1), "{log}");
    assert!(log.contains("mining goes on") && log.contains("No space left"), "{log}");
    assert!(
        log.contains("the pool of our own counted") || log.contains("results are not all written"),
        "{log}"
    );
}

/// Commands that print what they found and end.
#[cfg(target_os = "linux")]
const PRINTING: [&[&str]; 8] = [
    &["bench", "--backend", "cpu", "--threads", "1", "--difficulty", "2", "--duration", "300ms"],
    &["bench", "--backend", "cpu", "--threads", "1", "--difficulty", "2", "--duration", "300ms", "--json"],
    &["bench", "--backend", "cpu", "--checksum"],
    &["devices"],
    &["difficulty"],
    &["config", "print"],
    &["completions", "bash"],
    &["man"],
];

#[cfg(target_os = "linux")]
#[test]
fn commands_whose_results_cannot_be_written_say_so_and_a_reader_who_has_seen_enough_is_no_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let (parent, file) = real_announcement(directory.path());
    let verify = ["verify", "--parent", &parent, &file];
    for arguments in PRINTING.into_iter().chain([&verify[..]]) {
        let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let full = pktmine(arguments).stdout(full).output().expect("the command starts");
        let log = stderr(&full);
        assert_eq!(full.status.code(), Some(1), "{arguments:?}: {log}");
        assert!(log.contains("cannot write to stdout: No space left"), "{arguments:?}: {log}");
        assert!(!log.contains("panicked"), "{arguments:?}: {log}");

        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let closed = pktmine(arguments).stdout(writer).output().expect("the command starts");
        assert_eq!(closed.status.code(), Some(0), "{arguments:?}: {}", stderr(&closed));
    }
}

/// A pipe that takes a few lines more, of which nobody reads any.
fn almost_full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    writer.write_all(&[b' '; 60 << 10]).expect("a pipe holds 64 KiB");
    (reader, writer)
}

#[test]
fn output_that_nobody_reads_holds_up_neither_mining_nor_leaving() {
    let (_pool, url) = pool(&["--difficulty", "2"]);
    let (_nobody, stdout) = almost_full_pipe();
    let miner = Process::start(
        pktmine(&["ann", "--json", "--interval", "100ms", "-vv", "-p", "me", &url])
            .stdout(stdout)
            .stderr(Stdio::piped()),
    );
    let accepted = || stats(&url)["accepted"].as_u64().expect("a count");
    let deadline = Instant::now() + Duration::from_secs(60);
    // Far more than the pipes hold is written before this many are found.
    while accepted() < 5000 {
        assert!(Instant::now() < deadline, "mining has stopped at {}", accepted());
        thread::sleep(Duration::from_millis(100));
    }
    signal(&miner.0, "INT");
    let mut miner = miner;
    let deadline = Instant::now() + Duration::from_secs(20);
    while miner.0.try_wait().expect("it is our child").is_none() {
        assert!(Instant::now() < deadline, "it does not leave");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(miner.0.wait().expect("it has ended").code(), Some(1), "the totals could not be written");
}

#[test]
fn a_pool_whose_statistics_nobody_reads_still_ends_when_asked() {
    let mut command = pktmine(&["pool", "--listen", "127.0.0.1:0", "--json", "--interval", "100ms"]);
    let (_nobody, stdout) = almost_full_pipe();
    let child = Process::start(command.stdout(stdout).stderr(Stdio::null()));
    // Far more than a pipe holds.
    thread::sleep(Duration::from_secs(2));
    signal(&child.0, "TERM");
    let mut child = child;
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.0.try_wait().expect("it is our child").is_none() {
        assert!(Instant::now() < deadline, "it does not leave");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(child.0.wait().expect("it has ended").code(), Some(0));
}

#[test]
fn wrong_usage_says_what_is_wrong_and_exits_with_two() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let unknown_key = file("unknown.json", r#"{"pools": ["http://127.0.0.1:1"], "colour": 3}"#);
    let negative = file("negative.json", r#"{"mine_old_anns": -7}"#);
    let no_time = file("no_time.json", r#"{"upload_timeout": 0}"#);
    let with_pool = file("pool.json", r#"{"pools": ["http://127.0.0.1:1"], "payment_addr": "me"}"#);
    let not_json = file("not.json", "pools = 3");
    for (arguments, expected) in [
        (vec!["ann", "http://127.0.0.1:1"], "who is to be paid?"),
        (vec!["ann", "-p", "me", "127.0.0.1"], "is not a pool's address"),
        (vec!["ann", "-p", "me", "127.0.0.1:18500"], "(try http://127.0.0.1:18500)"),
        (vec!["ann", "-p", "me", "localhost:18500"], "(try http://localhost:18500)"),
        (vec!["ann", "-p", "me", "ftp://127.0.0.1"], "must begin with http:// or https://"),
        (vec!["ann", "-p", "not an address!", "http://127.0.0.1:1"], "is no payment address: give"),
        (vec!["ann", "-t", "0"], "it must be a whole number, 1 or more"),
        (vec!["ann", "--threads", "-1"], "it must be a whole number, 1 or more"),
        (vec!["ann", "--nice", "-1"], "-1 is not in 0..=19"),
        (vec!["ann", "--duration", "-1"], "it must be a time from 0 to ten years"),
        (vec!["ann", "--kernel", "abacus"], "no kernel `abacus` on this processor"),
        (vec!["ann", "--duration", "soon"], "try 90s"),
        (vec!["ann", "--interval", "1ns"], "must be 100ms at least"),
        (vec!["pool", "--interval", "0"], "must be 100ms at least"),
        (vec!["ann", "--difficulty", "2", "-p", "me", "http://127.0.0.1:1"], "cannot be used with"),
        (vec!["ann", "-c", &unknown_key], "there is no key `colour`; there are pools, threads"),
        (vec!["ann", "-c", &not_json], "it is not JSON"),
        (vec!["ann", "-c", &with_pool, "--difficulty", "7"], "cannot be used with pools"),
        (vec!["ann", "--difficulty", "0"], "0 is not in 2.."),
        (vec!["ann", "--affinity", "9999"], "there is no processor 9999"),
        (vec!["ann", "--affinity", "some"], "such as 0-3,8"),
        (vec!["ann", "--max-cpu", "0%"], "from 1% to 100%"),
        (vec!["ann", "--nice", "20"], "20 is not in 0..=19"),
        (vec!["ann", "-q", "-v"], "cannot be used with"),
        (vec!["ann", "--log-file", "/nonexistent/miner.log"], "the log file /nonexistent/miner.log"),
        (vec!["ann", "-c", &negative], "mine_old_anns is -7: it must be 0 or more blocks"),
        (vec!["ann", "-c", &no_time], "upload_timeout is 0: it must be a number of seconds above 0"),
        (vec!["ann", "-c", "/nonexistent.json"], "/nonexistent.json: it cannot be read"),
        (vec!["ann", "--backend", "abacus"], "possible values"),
        (vec!["pool", "--work-bits", "0"], "can never be met"),
        (vec!["pool", "--handlers", "100000"], "at most"),
        (vec!["pool", "--fault", "earthquake"], "reorganise=2:30s"),
        (
            vec!["pool", "--fault", "503:handler1"],
            "befalls nobody: handlers are counted from 0, and the pool has 1",
        ),
        (vec!["pool", "--listen", "nonsense"], "or a port of this machine: 4048"),
        (vec!["pool", "--fault", "reorganise=0"], "1 to 250 blocks"),
        (vec!["pool", "--mine-old", "101"], "at most 100"),
        (vec!["verify", "x"], "--parent"),
        (vec!["verify", "--parent", "abc", "x"], "64 hexadecimal digits"),
        (vec!["mine"], "unrecognized subcommand"),
        (vec!["ann", "--backend", "gpu", "--device", "no such device"], "no device \"no such device\"; "),
        (vec!["ann", "--device", ","], "--device: no device"),
        (vec!["ann", "--backend", "cpu", "--device", "0"], "leave --backend cpu away"),
        (vec!["ann", "--gpu-rounds", "0"], "--gpu-rounds"),
        (vec![], "Usage"),
    ] {
        let output = output(&arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}: nothing on stdout");
    }
}

#[test]
fn a_variable_that_says_what_to_log_and_cannot_be_understood_is_told() {
    let with = |value: &str, arguments: &[&str]| {
        let output = pktmine(arguments).env("RUST_LOG", value).output().expect("the command starts");
        (output.status.code(), stderr(&output))
    };
    let (code, text) = with("pktmine=loud", &["ann", "-q", "--duration", "100ms", "--difficulty", "2"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("the variable RUST_LOG=pktmine=loud is no list of what to log"), "{text}");
    assert_eq!(text.lines().count(), 1, "nothing is logged: {text}");
    let pool = &["pool", "--listen", "127.0.0.1:0", "--duration", "100ms"];
    for (value, lines) in [("", true), ("pktmine=info", true), ("error", false)] {
        let (code, text) = with(value, pool);
        assert_eq!((code, text.contains("INFO")), (Some(0), lines), "{value}: {text}");
    }
}

#[test]
fn what_cannot_be_done_is_said_and_exits_with_one() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it has one").to_string();
    for (arguments, expected) in [
        (vec!["pool", "--listen", &address], "--listen"),
        (vec!["verify", "--parent", &"0".repeat(64), "/nonexistent"], "cannot read /nonexistent"),
        (vec!["ann", "-t1", "--duration", "1s", "-p", "me", "http://127.0.0.1:1"], "no pool ever gave work"),
    ] {
        let output = output(&arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

/// `pktmine pool` in a process of its own, and the address of its master.
fn pool(arguments: &[&str]) -> (Process, String) {
    let mut command = pktmine(&["pool", "--listen", "127.0.0.1:0", "--json", "--interval", "200ms"]);
    let mut child = Process::start(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut log = BufReader::new(child.0.stderr.take().expect("a pipe"));
    let mut line = String::new();
    let url = loop {
        line.clear();
        assert!(log.read_line(&mut line).expect("UTF-8") > 0, "the pool ended early");
        if let Some((_, rest)) = line.split_once("master at ") {
            break rest.split(',').next().expect("an address").to_owned();
        }
    };
    // The rest of the log is read so that the pool never waits for a reader.
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (child, url)
}

fn post_control(url: &str, body: &str) {
    let response = ureq::post(format!("{url}control")).send(body).expect("the pool does it");
    assert_eq!(response.status(), 200);
}

fn stats(url: &str) -> Value {
    let body = ureq::get(format!("{url}stats")).call().expect("an answer").body_mut().read_to_vec();
    serde_json::from_slice(&body.expect("a body")).expect("JSON")
}

#[test]
fn against_another_process_with_blocks_handlers_and_faults_nothing_is_lost_that_may_not_be() {
    let (_pool, url) =
        pool(&["--handlers", "2", "--difficulty", "2", "--block-time", "4s", "--control", "--mine-old", "1"]);
    let miner = Process::start(
        pktmine(&["ann", "--duration", "20s", "--json", "-p", "me", &url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    for fault in
        ["503:handlers", "close-reply:handlers:50%:after", "500:handlers:50%:after", "truncated:handlers"]
    {
        thread::sleep(Duration::from_secs(3));
        post_control(&url, &format!(r#"{{"fault": "{fault}"}}"#));
        thread::sleep(Duration::from_millis(1500));
        post_control(&url, r#"{"action": "clear"}"#);
    }
    let (code, stdout, log) = miner.wait(Duration::from_secs(60));
    assert_eq!(code, Some(0), "{log}");
    let totals: Value = serde_json::from_str(stdout.lines().last().expect("totals")).expect("JSON");
    let account = &totals["pools"][0];
    assert_eq!(fates(account), account["found"].as_u64().expect("a count"), "{account}");
    let [found, accepted, stale] =
        ["found", "accepted", "stale"].map(|name| account[name].as_u64().expect("a count"));
    assert!(found > 500, "{account}");
    assert_eq!(accepted + stale, found, "{account}\n{log}");
    assert_eq!(stats(&url)["accepted"], accepted, "{account}");
    assert_eq!(stats(&url)["pay_to"]["me"]["accepted"], accepted);
}

#[test]
fn ctrl_c_and_sigterm_hand_in_what_was_found_and_exit_with_zero() {
    for name in ["INT", "TERM"] {
        let (_pool, url) = pool(&["--difficulty", "2"]);
        let miner = Process::start(
            pktmine(&["ann", "--json", "-p", "me", &url]).stdout(Stdio::piped()).stderr(Stdio::piped()),
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        while stats(&url)["accepted"] == 0 {
            assert!(Instant::now() < deadline, "nothing is found");
            thread::sleep(Duration::from_millis(100));
        }
        let asked = Instant::now();
        signal(&miner.0, name);
        let (code, stdout, log) = miner.wait(Duration::from_secs(15));
        assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}: {log}", asked.elapsed());
        assert_eq!(code, Some(0), "{log}");
        let totals: Value = serde_json::from_str(stdout.lines().last().expect("totals")).expect("JSON");
        let account = &totals["pools"][0];
        assert!(account["found"].as_u64().expect("a count") > 0);
        assert_eq!(account["accepted"], account["found"], "{account}");
        assert_eq!(stats(&url)["accepted"], account["found"]);
    }
}

#[test]
fn verify_tells_each_announcement_s_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let (parent, raw) = real_announcement(directory.path());
    let mut bytes = fs::read(&raw).expect("it was written");
    let hex_text = &hex::encode(&bytes);
    let fine = output(&["verify", "--parent", &parent, &raw]);
    assert_eq!(fine.status.code(), Some(0), "{}", stderr(&fine));
    assert!(String::from_utf8_lossy(&fine.stdout).contains(":1: 0 OK (height "));

    bytes[500] ^= 1;
    let lines = directory.path().join("lines.txt");
    fs::write(&lines, format!("{hex_text}\n{}\n", hex::encode(&bytes))).expect("it can be written");
    let lines = lines.display().to_string();
    let bad = output(&["verify", "--json", "--parent", &parent, &lines]);
    assert_eq!(bad.status.code(), Some(1));
    let verdicts = json_lines(&bad);
    assert_eq!([&verdicts[0]["code"], &verdicts[1]["code"]], [&Value::from(0), &Value::from(1)]);

    fs::write(directory.path().join("rest.bin"), &bytes[..1000]).expect("it can be written");
    let rest = directory.path().join("rest.bin").display().to_string();
    let partial = output(&["verify", "--parent", &parent, &rest]);
    assert_eq!(partial.status.code(), Some(1));
    assert!(stderr(&partial).contains("1000 are left over"), "{}", stderr(&partial));

    // A file that is not there and a mistyped line leave the rest as it is.
    fs::write(&lines, format!("{hex_text}\no{}\n{hex_text}\n", &hex_text[1..])).expect("it can be written");
    let mixed = output(&["verify", "--parent", &parent, "/nonexistent", &lines, &raw]);
    assert_eq!(mixed.status.code(), Some(1));
    let told = stderr(&mixed);
    assert!(told.contains("cannot read /nonexistent") && told.contains("line 2: character 1"), "{told}");
    let stdout = String::from_utf8_lossy(&mixed.stdout);
    assert_eq!(stdout.lines().filter(|line| line.contains(" 0 OK ")).count(), 3, "{stdout}");
}

#[test]
fn verify_can_ask_a_pool_for_the_parent() {
    let (_pool, url) = pool(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("anns.bin");
    // An announcement of the local chain's newest block that is nonsense otherwise: the parent is found, and the
    // verdict is about the announcement.
    let tip = stats(&url)["tip_height"].as_u64().expect("a height") as u32;
    let mut bytes = [0; 1024];
    bytes[0] = 1;
    bytes[8..12].copy_from_slice(&0x207f_ffff_u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&(tip - 2).to_le_bytes());
    fs::write(&file, bytes).expect("it can be written");
    let file = file.display().to_string();
    let found = output(&["verify", "--pool", &url, &file]);
    assert_eq!(found.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&found.stdout).contains("INVAL"), "{}", stderr(&found));

    // One that no pool tells of is said to be so, and those around it are judged.
    let (mut above, mut absurd) = (bytes, bytes);
    above[12..16].copy_from_slice(&(tip + 1).to_le_bytes());
    absurd[12..16].copy_from_slice(&4_000_000_000_u32.to_le_bytes());
    fs::write(&file, [bytes, above, absurd, bytes].concat()).expect("it can be written");
    let mixed = output(&["verify", "--pool", &url, &file]);
    assert_eq!(mixed.status.code(), Some(1), "{}", stderr(&mixed));
    let text = String::from_utf8_lossy(&mixed.stdout);
    let codes: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(codes, ["2", "-", "-", "2"], "{text}");
    assert!(text.contains("parent block unknown: 4000000000 is not among"), "{text}");
    let verdicts = json_lines(&output(&["verify", "--json", "--pool", &url, &file]));
    assert_eq!((&verdicts[2]["code"], &verdicts[2]["result"]), (&Value::Null, &"NO_PARENT".into()));
    assert!(verdicts[2]["reason"].as_str().is_some_and(|reason| reason.contains("4000000000")));
    assert_eq!(verdicts[3]["code"], 2);

    // A pool that does not even prove its tip is of no use.
    let (_broken, url) = pool(&["--fault", "500:blkinfo"]);
    let untold = output(&["verify", "--pool", &url, &file]);
    assert_eq!(untold.status.code(), Some(1));
    let text = stderr(&untold);
    assert!(text.contains("/blkinfo_") && text.contains("HTTP status 500"), "{text}");
}
