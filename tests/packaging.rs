//! The packages, made of the program under test and used as the systems do that they are for.

#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use kernels::WorkBits;
use pktmine::local_pool::{self, LocalPool};
use serde_json::{Value, json};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs a script and gives what it printed.
fn run(command: &mut Command) -> String {
    let output =
        command.stdin(Stdio::null()).output().expect("it starts: tests/run installs bash, curl and jq");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Makes all packages, of a script that runs the program under test: that itself is large and would take long to pack.
fn make_packages(out: &Path) -> String {
    let program = out.with_extension("sh");
    let text = format!("#!/bin/sh\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_pktmine"));
    fs::write(&program, text).expect("it can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/make-packages.sh");
    run(Command::new(script).arg("--out").arg(out).arg("--binary").arg(&program));
    fs::read_to_string(out.join("SHA256SUMS")).expect("there are checksums")
}

/// A package's scripts, with its paths below a folder.
fn unpack(system: &str, into: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(system);
    for file in fs::read_dir(from).expect("it is there") {
        let file = file.expect("it is there").path();
        let to = into.join(file.file_name().expect("it has a name"));
        fs::copy(&file, &to).expect("it can be copied");
        if to.extension().is_some_and(|extension| extension == "conf") {
            let text = fs::read_to_string(&to).expect("text");
            let text = text
                .replace("@VERSION@", VERSION)
                .replace("/hive/miners/custom/pktmine", &into.display().to_string());
            let text = text.replace("/var/log/miner/custom", &into.join("log").display().to_string());
            fs::write(&to, text).expect("it can be written");
        }
    }
    into.to_owned()
}

/// Answers as the miner's API does, and gives its address.
fn api() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one").to_string();
    let summary = json!({
        "uptime": 77, "version": VERSION, "algo": "packetcrypt",
        "connection": {"accepted": 1200, "rejected": 3},
        "hashrate": {"total": [401_000.0, 400_000.0, null], "highest": 402_000.0},
    });
    let gpu = |bus: &str, rate: f64, temperature: u32| {
        json!({
            "bus_id": bus, "hashrate": [rate, null, null],
            "health": {"temperature": temperature, "power": 150, "clock": 1500, "mem_clock": 5000, "fan_speed": [40]},
        })
    };
    let backends = json!([
        {"type": "cuda", "enabled": false, "hashrate": null, "threads": []},
        {"type": "vulkan", "enabled": true, "hashrate": [300_000.0, null, null],
         "threads": [gpu("0a:00.0", 200_000.0, 61), gpu("0000:21:00.0", 100_000.0, 62)]},
        {"type": "cpu", "enabled": true, "hashrate": [101_500.0, null, null],
         "threads": [{"hashrate": [50_000.0, null, null]}, {"hashrate": [51_500.0, null, null]}]},
    ]);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let body = if path.contains("/2/summary") { summary.to_string() } else { backends.to_string() };
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = (&stream).write_all((head + &body).as_bytes());
        }
    });
    address
}

fn pool() -> LocalPool {
    let settings =
        local_pool::Settings { work_bits: WorkBits::at_least(2), validators: 1, ..Default::default() };
    LocalPool::start(settings).expect("the local pool starts")
}

#[test]
fn the_archives_are_the_same_each_time_and_hold_what_each_system_wants() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    let sums = make_packages(&one);
    assert_eq!(sums, make_packages(&two));
    assert_eq!(sums.lines().count(), 3, "{sums}");
    run(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&one));
    let machine = std::env::consts::ARCH;
    for (archive, expected) in [
        (
            format!("pktmine-{VERSION}-{machine}-linux.tar.gz"),
            vec![
                "pktmine",
                "README.md",
                "docs/api.md",
                "docs/json.md",
                "LICENSE-MIT",
                "systemd/pktmine.service",
                "man/pktmine-ann.1",
                "completions/pktmine.zsh",
            ],
        ),
        (
            format!("hiveos/pktmine-{VERSION}.tar.gz"),
            vec!["pktmine", "h-manifest.conf", "h-config.sh", "h-run.sh", "h-stats.sh"],
        ),
        (format!("mmpos/pktmine-{VERSION}.tar.gz"), vec!["pktmine", "mmp-external.conf", "mmp-stats.sh"]),
    ] {
        let list = run(Command::new("tar").arg("-tvzf").arg(one.join(&archive)));
        for name in expected {
            let line = list.lines().find(|line| line.ends_with(&format!("/{name}")));
            let line = line.unwrap_or_else(|| panic!("{name} is not in {archive}:\n{list}"));
            assert!(line.contains(" 0/0 ") && line.contains("1970-01-01"), "{line}");
            let runs = name == "pktmine" || name.ends_with(".sh");
            assert_eq!(line.starts_with("-rwxr-xr-x"), runs, "{line}");
        }
    }
    let manifest = run(Command::new("tar")
        .args(["-xzOf", &format!("hiveos/pktmine-{VERSION}.tar.gz"), "pktmine/h-manifest.conf"])
        .current_dir(&one));
    assert!(manifest.contains(&format!("CUSTOM_VERSION={VERSION}\n")), "{manifest}");
}

#[test]
fn a_flight_sheet_of_hiveos_is_mined() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("hiveos", directory.path());
    symlink(env!("CARGO_BIN_EXE_pktmine"), folder.join("pktmine")).expect("a link");
    let (first, second) = (pool(), pool());
    let config = folder.join("pktmine.toml");
    let address = |pool: &LocalPool| pool.url().to_string();
    for (extra, urls) in [
        ("--threads 1 --duration 4s", format!("{} {}", address(&first), address(&second))),
        ("threads = 1\nduration = '4s'", address(&second).trim_start_matches("http://").to_owned()),
    ] {
        run(Command::new(folder.join("h-config.sh"))
            .env("CUSTOM_CONFIG_FILENAME", &config)
            .env("CUSTOM_URL", urls)
            .env("CUSTOM_TEMPLATE", "wallet")
            .env("CUSTOM_USER_CONFIG", extra));
        run(Command::new(env!("CARGO_BIN_EXE_pktmine")).args(["config", "check"]).arg(&config));
        let before = second.stats().total.accepted;
        let shown = run(Command::new(folder.join("h-run.sh")).env("PKTMINE_HTTP", "127.0.0.1:0"));
        assert!(shown.contains("goodrate 100.0%"), "{shown}");
        assert!(second.stats().total.accepted > before);
        assert_eq!(fs::read_to_string(folder.join("log/pktmine.log")).expect("there is a log"), shown);
    }
    assert!(first.stats().total.accepted > 0, "both pools of the first sheet got announcements");
    assert!(second.stats().pay_to.contains_key("wallet"));
}

#[test]
fn hiveos_is_told_of_each_device() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("hiveos", directory.path());
    let stats = |api: &str| {
        let script = r#"set -u; . ./h-stats.sh; echo "$khs"; echo "$stats"; false || echo "goes on""#;
        let mut command = Command::new("bash");
        run(command.args(["-c", script]).current_dir(&folder).env("PKTMINE_HTTP", api))
    };
    let told = stats(&api());
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("401.5"), "{told}");
    let object: Value = serde_json::from_str(lines.next().expect("a line")).expect("JSON");
    assert_eq!(
        object,
        json!({
            "hs": [200, 100, 101.5], "hs_units": "khs", "temp": [61, 62, 0], "fan": [40, 40, 0], "uptime": 77,
            "ar": [1200, 3], "algo": "packetcrypt", "bus_numbers": [10, 33, null], "ver": VERSION,
        })
    );
    assert_eq!(lines.next(), Some("goes on"), "the shell that sources it is left as it was");

    let nobody =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it has one").to_string();
    let begin = Instant::now();
    assert_eq!(stats(&nobody), "0\nnull\ngoes on\n");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn mmpos_is_told_of_each_device_the_processors_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("mmpos", directory.path());
    let told = run(Command::new(folder.join("mmp-stats.sh")).env("PKTMINE_HTTP", api()));
    let object: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        object,
        json!({
            "busid": ["cpu", 10, 33], "hash": [101_500, 200_000, 100_000], "units": "hs", "air": ["1200", "0", "3"],
            "miner_name": "pktmine", "miner_version": VERSION,
        })
    );
}
