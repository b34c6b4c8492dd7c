//! The packages, made of the program under test and used as the systems do that they are for.

#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::{CommandExt, ExitStatusExt},
    },
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

/// The program, without any settings of whoever runs the tests.
fn pktmine(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    command.args(arguments).env("PKTMINE_CONFIG", "");
    command
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
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

/// A flight sheet's h-config.sh, sourced as HiveOS does it, into a shell that has its fields as variables and is held to
/// what it was. Gives the script's status and what it said.
fn configure(folder: &Path, url: &str, template: &str, extra: &str) -> (Option<i32>, String) {
    let script = r#"
        CUSTOM_CONFIG_FILENAME=$1/pktmine.toml CUSTOM_URL=$2 CUSTOM_TEMPLATE=$3 CUSTOM_USER_CONFIG=$4 status=
        seen() { echo "$-"; shopt; set | grep -v '^BASH_\|^_=\|^PIPESTATUS=\|^status='; }
        before=$(seen)
        . "$1/h-config.sh"
        status=$?
        diff <(echo "$before") <(seen | grep -v '^before=') || exit 99
        exit $status
    "#;
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash"]).arg(folder).args([url, template, extra]);
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    (output.status.code(), said)
}

/// h-run.sh as HiveOS starts it.
fn h_run(folder: &Path) -> Command {
    let mut command = Command::new(folder.join("h-run.sh"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it has one").port()
}

/// Answers as the miner's API does to whoever shows the token, if there is one, and gives its address.
fn api(token: Option<&'static str>) -> String {
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
            let heads: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let is_shown =
                |token: &str| heads.iter().any(|head| *head == format!("Authorization: Bearer {token}"));
            if !token.is_none_or(is_shown) {
                let _ = (&stream).write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
                continue;
            }
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
    fs::create_dir_all(&two).expect("made");
    fs::write(two.join("pktmine-0.0.0-x86_64-linux.tar.gz"), "of an older release").expect("written");
    assert_eq!(sums, make_packages(&two), "an older archive beside them has no part in it");
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
                "benches/RESULTS.md",
                "packaging/README.md",
                "packaging/pktmine.toml",
                "packaging/systemd/pktmine.service",
                "packaging/systemd/gpu.conf",
                "packaging/grafana/pktmine.json",
                "packaging/kubernetes/daemonset.yaml",
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
fn the_steps_to_install_a_service_name_files_that_the_archive_has() {
    let readme = read("README.md");
    let steps = readme.lines().filter_map(|line| line.trim().strip_prefix("install -D"));
    let mut files = 0;
    for step in steps {
        let file = step.split_whitespace().find_map(|word| word.strip_prefix("packaging/"));
        if let Some(file) = file {
            read(file);
            files += 1;
        }
    }
    assert_eq!(files, 3, "settings, unit and what graphics cards need");
    assert!(readme.contains("/usr/share/man/man1 man/*.1"), "the unit names the manual page");
}

#[test]
fn the_service_with_its_settings_as_they_come_asks_for_a_pool_and_is_not_started_again() {
    let unit = read("systemd/pktmine.service");
    let value = |key: &'static str| unit.lines().filter_map(move |line| line.strip_prefix(key));
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/pktmine.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    let start = value("ExecStart=").next().expect("it starts something");
    let arguments = start.split_whitespace().skip(1);
    let arguments =
        arguments.map(|word| if word.starts_with('/') { settings.as_os_str() } else { word.as_ref() });
    command.args(arguments).args(["--backend", "cpu", "--duration", "2s"]);
    command.envs(value("Environment=").filter_map(|text| text.split_once('=')));
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("for which pool?"), "{said}");
    assert_eq!(value("RestartPreventExitStatus=").next(), Some("2"));
}

#[test]
fn images_in_docker_compose_and_kubernetes_do_not_mine_without_a_pool() {
    assert!(read("Dockerfile").lines().any(|line| line == "ENV PKTMINE_REQUIRE_POOL=true"));
    assert!(read("compose.yaml").contains("PKTMINE_POOLS: ${PKTMINE_POOLS:?"));
    let variables = read("kubernetes/daemonset.yaml");
    let mut lines =
        variables.lines().map(str::trim).skip_while(|line| *line != "- name: PKTMINE_REQUIRE_POOL");
    assert_eq!(lines.nth(1), Some("value: \"true\""));
    for pools in ["", " "] {
        let mut command = pktmine(&["ann", "--backend", "cpu", "--duration", "2s"]);
        command.env("PKTMINE_REQUIRE_POOL", "true").env("PKTMINE_POOLS", pools);
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn all_that_images_are_told_by_variables_are_settings() {
    let known = run(&mut pktmine(&["config", "print"]));
    let mut names: Vec<String> = Vec::new();
    for file in ["Dockerfile", "compose.yaml", "kubernetes/daemonset.yaml", "systemd/pktmine.service"] {
        let text = read(file);
        let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
        names.extend(words.filter(|word| word.starts_with("PKTMINE_")).map(str::to_owned));
    }
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(known.contains(&format!("variable {name}\n")), "there is no {name}");
    }
}

#[test]
fn the_service_may_open_nvidias_devices_whatever_their_driver_calls_them() {
    let text = read("systemd/gpu.conf");
    let allowed = text.lines().filter_map(|line| line.strip_prefix("DeviceAllow=char-")?.strip_suffix(" rw"));
    let allowed: Vec<_> = allowed.collect();
    // As in /proc/devices, of older and of newer drivers.
    for group in
        ["nvidia", "nvidia-frontend", "nvidiactl", "nvidia-modeset", "nvidia-uvm", "nvidia-caps", "drm"]
    {
        let fits = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => group.starts_with(start),
            None => *pattern == group,
        };
        assert!(allowed.iter().any(fits), "{group} is not in {allowed:?}");
    }
}

#[test]
fn a_flight_sheet_of_hiveos_is_mined() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("hiveos", directory.path());
    symlink(env!("CARGO_BIN_EXE_pktmine"), folder.join("pktmine")).expect("a link");
    let (first, second) = (pool(), pool());
    let address = |pool: &LocalPool| pool.url().to_string();
    let bare = |pool: &LocalPool| address(pool).trim_start_matches("http://").to_owned();
    for (extra, urls) in [
        (
            "\n  --threads 1 --duration 4s --http 127.0.0.1:0",
            format!("{},{}", address(&first), bare(&second)),
        ),
        ("\n threads = 1\nduration = '4s'\nhttp = 0", format!(" {} ,", bare(&second))),
    ] {
        assert_eq!(configure(&folder, &urls, " wallet ", extra), (Some(0), String::new()));
        let before = second.stats().total.accepted;
        let shown = run(&mut h_run(&folder));
        assert!(shown.contains("goodrate 100.0%"), "{shown}");
        assert!(second.stats().total.accepted > before);
        let log = fs::read_to_string(folder.join("log/pktmine.log")).expect("there is a log");
        assert!(log.ends_with(&shown), "{log}");
    }
    let log = fs::read_to_string(folder.join("log/pktmine.log")).expect("there is a log");
    assert_eq!(log.matches("goodrate").count(), 3, "it is added to, so that HiveOS can empty it: {log}");
    assert!(first.stats().total.accepted > 0, "both pools of the first sheet got announcements");
    assert!(second.stats().pay_to.contains_key("wallet"));
}

#[test]
fn totals_reach_hiveoss_log_after_ctrl_c_and_the_miner_is_not_started_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("hiveos", directory.path());
    symlink(env!("CARGO_BIN_EXE_pktmine"), folder.join("pktmine")).expect("a link");
    let pool = pool();
    let extra = "--threads 1 --backend cpu --http 127.0.0.1:0";
    assert_eq!(configure(&folder, pool.url().as_str(), "wallet", extra), (Some(0), String::new()));
    let child = h_run(&folder).process_group(0).spawn().expect("it starts");
    let end = Instant::now() + Duration::from_secs(60);
    while pool.stats().total.accepted == 0 {
        assert!(Instant::now() < end, "nothing is mined");
        thread::sleep(Duration::from_millis(50));
    }
    // A terminal sends it to all that run there.
    run(Command::new("bash").args(["-c", &format!("kill -INT -- -{}", child.id())]));
    let status = child.wait_with_output().expect("it ends").status;
    assert_eq!(status.signal(), Some(2), "who started it sees that it was interrupted");
    let log = fs::read_to_string(folder.join("log/pktmine.log")).expect("there is a log");
    assert!(log.contains("goodrate"), "{log}");
}

#[test]
fn hiveos_mines_nothing_and_says_why_where_a_flight_sheet_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("hiveos", directory.path());
    symlink(env!("CARGO_BIN_EXE_pktmine"), folder.join("pktmine")).expect("a link");
    let refused = || {
        let output = h_run(&folder).output().expect("it starts");
        let shown = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{shown}");
        let log = fs::read_to_string(folder.join("log/pktmine.log")).expect("there is a log");
        assert!(log.ends_with(&shown) && shown.contains("mend the flight sheet"), "{shown}");
        shown
    };
    for (url, template, extra, why) in [
        ("", "wallet", "--duration 2s --backend cpu", "for which pool?"),
        (" , ", "wallet", "duration = '2s'\nbackend = 'cpu'", "for which pool?"),
        ("pool.invalid", "", "--backend cpu", "who is to be paid?"),
        ("pool.invalid", "wallet.worker", "--backend cpu", "\"wallet.worker\" is no payment address"),
    ] {
        assert_eq!(configure(&folder, url, template, extra), (Some(0), String::new()));
        let shown = refused();
        assert!(shown.contains(why), "{shown}");
    }
    let (status, said) = configure(&folder, "pool.invalid", "wallet", "--device 'RTX 3080");
    assert!(status == Some(1) && said.contains("h-config.sh: the quotes"), "{status:?}: {said}");
    let shown = refused();
    assert!(shown.contains("h-config.sh has written no settings"), "not with the old ones: {shown}");
}

#[test]
fn extra_arguments_of_a_flight_sheet_are_split_as_in_a_shell_and_win_over_its_other_fields() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("hiveos", directory.path());
    let written = |extra: &str| {
        assert_eq!(configure(&folder, "a.example", "wallet", extra), (Some(0), String::new()));
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("it is written");
        (read("pktmine.toml"), read("pktmine.flags"))
    };
    let (_, flags) = written("\t\n--device \"RTX 3080, 3090\"  --log-file 'a b' \n-t 4");
    assert_eq!(flags, "--device\nRTX 3080, 3090\n--log-file\na b\n-t\n4\n");
    let (settings, flags) = written("pools = ['http://b.example']\n http=4049\nhttp-token = 'secret'");
    assert_eq!(flags, "");
    assert!(!settings.contains("a.example") && !settings.contains("4048"), "{settings}");
    assert!(settings.contains("paymentaddr = \"wallet\""), "{settings}");
    run(pktmine(&["config", "check"]).arg(folder.join("pktmine.toml")));
    let mode = fs::metadata(folder.join("pktmine.toml")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "there is a token in it");
}

#[test]
fn hiveos_is_told_of_each_device() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("hiveos", directory.path());
    let stats = || {
        let script = r#"
            set -u
            seen() { echo "$-"; set | grep -v '^BASH_\|^_=\|^PIPESTATUS=\|^before=\|^khs=\|^stats='; }
            before=$(seen)
            . "$0/h-stats.sh"
            diff <(echo "$before") <(seen)
            echo "$khs"; echo "$stats"; false || echo "goes on"
        "#;
        run(Command::new("bash").args(["-c", script]).arg(&folder))
    };
    // As h-run.sh finds it: the program is asked, only it does not mine.
    let program = format!("#!/bin/sh\n[ \"$1\" = ann ] || exec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_pktmine"));
    fs::write(folder.join("pktmine"), program).expect("it can be written");
    fs::set_permissions(folder.join("pktmine"), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let (open, closed) = (api(None), api(Some("a\"b\\c'd")));
    let port = open.rsplit(':').next().expect("a port");
    fs::write(folder.join("token"), "a\"b\\c'd\n").expect("written");
    for extra in [
        format!("--http {open}"),
        format!("http = {port}"),
        format!("http = '{closed}'\nhttp-token = \"a\\\"b\\\\c'd\""),
        format!("--http {closed} --http-token a\\\"b\\\\c\\'d"),
        format!("http = '{closed}'\nhttp-token = {{ file = 'token' }}"),
        format!("--http-token @token --http {closed}"),
    ] {
        assert_eq!(configure(&folder, "a.example", "wallet", &extra), (Some(0), String::new()));
        run(&mut h_run(&folder));
        let told = stats();
        let mut lines = told.lines();
        assert_eq!(lines.next(), Some("401.5"), "{extra}: {told}");
        let object: Value = serde_json::from_str(lines.next().expect("a line")).expect("JSON");
        assert_eq!(
            object,
            json!({
                "hs": [200, 100, 101.5], "hs_units": "khs", "temp": [61, 62, 0], "fan": [40, 40, 0], "uptime": 77,
                "ar": [1200, 3], "algo": "packetcrypt", "bus_numbers": [10, 33, null], "ver": VERSION,
            })
        );
        assert_eq!(lines.next(), Some("goes on"), "the shell that sources it is left as it was");
    }
    let mode = fs::metadata(folder.join("pktmine.api")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "there is a token in it");

    fs::write(folder.join("pktmine.api"), format!("{}\n\n", free_port())).expect("written");
    let begin = Instant::now();
    assert_eq!(stats(), "0\nnull\ngoes on\n", "nobody is there");
    assert!(begin.elapsed() < Duration::from_secs(10));
    fs::remove_file(folder.join("pktmine.api")).expect("it is ours");
    assert_eq!(stats(), "0\nnull\ngoes on\n", "nothing has been started yet");
}

#[test]
fn mmpos_is_told_of_each_device_the_processors_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("mmpos", directory.path());
    let told = run(Command::new(folder.join("mmp-stats.sh")).env("PKTMINE_HTTP", api(None)));
    let object: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        object,
        json!({
            "busid": ["cpu", 10, 33], "hash": [101_500, 200_000, 100_000], "units": "hs", "air": ["1200", "0", "3"],
            "miner_name": "pktmine", "miner_version": VERSION,
        })
    );
}

#[test]
fn mmpos_asks_the_miner_that_runs_there_with_its_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let folder = unpack("mmpos", directory.path());
    let script = || {
        let mut command = Command::new(folder.join("mmp-stats.sh"));
        command.env_remove("PKTMINE_HTTP").stdin(Stdio::null());
        command
    };
    // A copy: other tests run the program itself.
    fs::copy(env!("CARGO_BIN_EXE_pktmine"), folder.join("pktmine")).expect("it can be copied");
    let output = script().output().expect("it starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success() && said.contains("no miner runs here with --http"), "{said}");

    let (pool, port) = (pool(), free_port());
    let mut miner = Command::new("./pktmine");
    miner.args(["-v", "annmine", "--threads", "1", "--backend", "cpu", "-p", "wallet", pool.url().as_str()]);
    miner.args(["--http", &port.to_string(), "--duration", "60s"]).env("PKTMINE_HTTP_TOKEN", "secret");
    miner.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut miner = miner.spawn().expect("it starts");
    let end = Instant::now() + Duration::from_secs(50);
    let told = loop {
        let output = script().output().expect("it starts");
        if output.status.success() || Instant::now() > end {
            break output;
        }
        thread::sleep(Duration::from_millis(100));
    };
    miner.kill().expect("it runs");
    miner.wait().expect("it ends");
    let object: Value = serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&told.stderr)));
    assert_eq!((&object["busid"], &object["miner_version"]), (&json!(["cpu"]), &json!(VERSION)));
}
