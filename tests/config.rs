//! Settings as a user gives them: flags, variables, a file; and what becomes of a file that changes.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use kernels::WorkBits;
use pktmine::local_pool::{self, LocalPool};
use serde_json::Value;

/// The program without any settings of whoever runs the tests.
fn pktmine(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PKTMINE_") {
            command.env_remove(name);
        }
    }
    let nowhere = std::env::temp_dir().join("pktmine-tests-nowhere");
    command.args(arguments).env_remove("RUST_LOG").env("HOME", &nowhere).env("XDG_CONFIG_HOME", &nowhere);
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the command starts");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"), String::from_utf8(stderr).expect("UTF-8"))
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the directory")).expect("it can be made");
        fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    }
}

/// What `config print` says of each setting, `# key =` among them.
fn printed(command: &mut Command) -> BTreeMap<String, (String, String)> {
    let (code, stdout, stderr) = run(command);
    assert_eq!(code, Some(0), "{stderr}");
    let mut origin = String::new();
    let mut all = BTreeMap::new();
    for line in stdout.lines() {
        if let Some(text) = line.strip_prefix("# from: ") {
            origin = text.into();
        } else if line.starts_with("# default") {
            origin = "default".into();
        } else if let Some((key, value)) = line.trim_start_matches("# ").split_once(" =")
            && !key.contains(' ')
        {
            all.insert(key.to_owned(), (value.trim().to_owned(), std::mem::take(&mut origin)));
        }
    }
    all
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let directory = Directory::new();
    let file = directory
        .file("a.toml", "# mine\ninterval = \"7s\"\nthreads = 7\nkernel = 'portable'\njson = true\n");
    let settings = printed(
        pktmine(&["config", "print", "-c", &file, "--interval", "9s", "--json=false"])
            .env("PKTMINE_INTERVAL", "8s")
            .env("PKTMINE_THREADS", "8"),
    );
    let is = |key: &str, value: &str, origin: &str| {
        let (found, from) = &settings[key];
        assert_eq!(found, value, "{key}");
        assert!(from.ends_with(origin), "{key} comes from {from:?}");
    };
    is("interval", "\"9s\"", "command line");
    is("json", "false", "command line");
    is("threads", "8", "variable PKTMINE_THREADS");
    is("kernel", "\"portable\"", "a.toml, line 4");
    is("cancel", "\"now\"", "default");
}

#[test]
fn every_flag_of_ann_can_be_in_the_file_and_in_a_variable() {
    let (_, help, _) = run(&mut pktmine(&["ann", "--help"]));
    let flags = help.lines().filter_map(|line| {
        let flag = line.trim_start().split_once("--")?;
        let is_flag = flag.0.is_empty() || (flag.0.len() == 4 && flag.0.starts_with('-'));
        let name = flag.1.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()?;
        (is_flag && !["help", "version", "config"].contains(&name)).then(|| name.to_owned())
    });
    let mut flags: Vec<_> = flags.collect();
    assert!(flags.len() > 15, "{flags:?}");
    flags.push("pools".into());
    let settings = printed(&mut pktmine(&["config", "print"]));
    let directory = Directory::new();
    for flag in flags {
        assert!(settings.contains_key(&flag), "`config print` says nothing of --{flag}");
        // A value that no flag takes: what is told shows that the key and the variable are known.
        let file = directory.file("a.toml", &format!("{flag} = 1979-05-27\n"));
        let (code, _, stderr) = run(&mut pktmine(&["ann", "-c", &file]));
        assert_eq!(code, Some(2), "{flag}: {stderr}");
        assert!(stderr.contains(&format!("line 1, column 1: {flag}: it must be")), "{flag}: {stderr}");
    }
    for variable in
        ["PKTMINE_COLOR", "PKTMINE_EXACT_TARGET", "PKTMINE_POOLS", "PKTMINE_VERBOSE", "PKTMINE_MINEOLD"]
    {
        let (code, _, stderr) = run(pktmine(&["ann"]).env(variable, "nonsense"));
        assert_eq!(code, Some(2), "{variable}: {stderr}");
        assert!(stderr.contains(&format!("variable {variable}: ")), "{stderr}");
    }
}

#[test]
fn what_is_printed_gives_the_same_settings_again() {
    let arguments = [
        "-p",
        "me",
        "-t2",
        "--exact-target",
        "--duration",
        "90s",
        "-vv",
        "http://a.example/x",
        "http://b.example",
    ];
    let once = printed(pktmine(&["config", "print"]).args(arguments));
    let (_, text, _) = run(pktmine(&["config", "print"]).args(arguments));
    let directory = Directory::new();
    let file = directory.file("a.toml", &text);
    let twice = printed(&mut pktmine(&["config", "print", "-c", &file]));
    let values = |all: BTreeMap<String, (String, String)>| -> Vec<_> {
        all.into_iter().map(|(key, (value, _))| (key, value)).collect()
    };
    assert_eq!(values(once), values(twice));
    assert_eq!(run(&mut pktmine(&["config", "check", &file])).0, Some(0));
}

#[test]
fn all_that_is_wrong_with_a_file_is_told_with_place_and_remedy() {
    let directory = Directory::new();
    let text = "pools = [\"nonsense\"]\nthread = 3\n  threads = 0\njson = maybe\nbackend = \"abacus\"\n\
                interval = [1, 2]\npaymentaddr = { file = \"missing\" }\n[pool]\nhandlers = 0\n[poll]\nx = 1\n";
    let file = directory.file("bad.toml", text);
    let (code, stdout, stderr) = run(&mut pktmine(&["config", "check", &file]));
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    for (line, expected) in [
        (1, "column 1: pools: \"nonsense\" is not a pool's address"),
        (2, "column 1: there is no setting `thread`; did you mean `threads`?"),
        (3, "column 3: threads: \"0\""),
        (4, "column 8: string values must be quoted"),
        (5, "is not one of auto, cpu, gpu"),
        (6, "it takes one value, not a list"),
        (7, "missing cannot be read"),
        (9, "handlers: \"0\""),
        (11, "there is no table [poll]; there is [pool]"),
    ] {
        let place = format!("bad.toml, line {line}, ");
        assert!(
            lines.iter().any(|told| told.contains(&place) && told.contains(expected)),
            "{expected}:\n{stderr}"
        );
    }
    assert_eq!(lines.len(), 9, "{stderr}");
    let (code, _, same) = run(&mut pktmine(&["ann", "-c", &file]));
    assert_eq!((code, same), (Some(2), stderr), "`ann` says the same");
}

#[test]
fn the_file_is_looked_for_where_the_manual_says_and_never_in_the_current_directory() {
    let directory = Directory::new();
    let own = directory.file("config/pktmine/pktmine.toml", "threads = 3\n");
    let named = directory.file("named.toml", "threads = 4\n");
    directory.file("pktmine.toml", "threads = 5\n");
    let threads = |command: &mut Command| printed(command.current_dir(directory.path(""))).remove("threads");
    let threads = |command: &mut Command| threads(command).expect("it is there").0;
    let own_folder = directory.path("config");
    assert_eq!(threads(&mut pktmine(&["config", "print"])), "");
    assert_eq!(threads(pktmine(&["config", "print"]).env("XDG_CONFIG_HOME", &own_folder)), "3");
    let variable = |value: &str| {
        let mut command = pktmine(&["config", "print"]);
        command.env("XDG_CONFIG_HOME", &own_folder).env("PKTMINE_CONFIG", value);
        command
    };
    assert_eq!(threads(&mut variable(&named)), "4");
    assert_eq!(threads(&mut variable("")), "", "an empty name: no file");
    assert_eq!(threads(variable(&named).args(["-c", &own])), "3");
    let (code, stdout, _) = run(pktmine(&["config", "check"]).env("XDG_CONFIG_HOME", &own_folder));
    assert_eq!((code, stdout.contains("pktmine.toml: all is well")), (Some(0), true));
    assert_eq!(run(&mut pktmine(&["config", "check"])).0, Some(2), "there is none");
    let none = |command: &mut Command| {
        let (code, stdout, stderr) = run(command.env("XDG_CONFIG_HOME", &own_folder));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains("an empty name means no settings file"), "{stderr}");
    };
    none(&mut pktmine(&["config", "check", "--config", ""]));
    none(&mut pktmine(&["config", "check", ""]));
    none(pktmine(&["config", "check"]).env("PKTMINE_CONFIG", ""));
}

#[test]
fn variables_hold_lists_switches_and_names_of_files() {
    let directory = Directory::new();
    let address = directory.file("address", "pkt1qme\n");
    let settings = printed(
        pktmine(&["config", "print"])
            .env("PKTMINE_POOLS", "http://a.example, http://b.example")
            .env("PKTMINE_JSON", "yes")
            .env("PKTMINE_PAYMENTADDR_FILE", address),
    );
    assert_eq!(settings["pools"].0, "[\"http://a.example\", \"http://b.example\"]");
    assert_eq!(settings["json"].0, "true");
    assert_eq!(settings["paymentaddr"].0, "\"pkt1qme\"");
    let mistyped = run(pktmine(&["ann", "--duration", "1ms"]).env("PKTMINE_THREAD", "1"));
    assert!(
        mistyped.2.contains("PKTMINE_THREAD means nothing here: did you mean PKTMINE_THREADS?"),
        "{mistyped:?}"
    );
    let foreign = run(pktmine(&["config", "print"])
        .env("PKTMINE_FROBNICATE", "1")
        .env("PKTMINE_PORT_4048_TCP_ADDR", "10.0.0.1")
        .env("PKTMINE_SERVICE_HOST", "10.0.0.1"));
    assert!(
        foreign.0 == Some(0) && foreign.2.contains("PKTMINE_FROBNICATE means nothing here: "),
        "{foreign:?}"
    );
    assert_eq!(foreign.2.lines().count(), 1, "what Kubernetes sets is nobody's mistake: {foreign:?}");
}

#[test]
fn a_file_to_check_is_named_with_or_without_the_flag_and_the_placeholder_of_the_readme_is_told_of() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("it is there");
    let (_, example) = readme.split_once("    # ~/.config/pktmine/pktmine.toml\n").expect("it is there");
    let lines = example.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let text = lines.map(str::trim).collect::<Vec<_>>().join("\n");
    let directory = Directory::new();
    let file = directory.file("readme.toml", &text);
    for arguments in [vec!["config", "check", &file], vec!["config", "check", "--config", &file]] {
        let (code, _, stderr) = run(&mut pktmine(&arguments));
        assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
        assert!(stderr.contains("\"YOUR_ADDRESS\" is no payment address: give your own"), "{stderr}");
    }
    let own = directory.file("own.toml", &text.replace("YOUR_ADDRESS", "pkt1qme"));
    let (code, stdout, stderr) = run(&mut pktmine(&["config", "check", &own]));
    assert!(code == Some(0) && stdout.contains("all is well"), "{stdout}{stderr}");
}

#[test]
fn a_secret_can_be_in_a_file_of_its_own_and_is_not_printed() {
    let directory = Directory::new();
    directory.file("address", "pkt1qsecret\n");
    let file = directory.file("a.toml", "paymentaddr = { file = \"address\" }\n");
    let (code, stdout, stderr) = run(&mut pktmine(&["config", "print", "-c", &file]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("paymentaddr = { file = ") && !stdout.contains("pkt1qsecret"), "{stdout}");
}

#[test]
fn scripts_are_told_of_one_setting_as_it_is_whoever_says_it() {
    let directory = Directory::new();
    directory.file("token", "a\"b\n");
    let file = directory.file("a.toml", "http = 4048\nhttp-token = { file = \"token\" }\n");
    let only = |key: &str, more: &[&str]| {
        let mut arguments = vec!["config", "print", "--only", key, "-c", file.as_str()];
        arguments.extend(more);
        run(pktmine(&arguments).env("RUST_LOG", "off"))
    };
    assert_eq!(only("http", &[]), (Some(0), "4048\n".into(), String::new()));
    assert_eq!(only("http", &["--http", "[::1]:9"]).1, "[::1]:9\n");
    assert_eq!(only("http-token", &[]).1, "a\"b\n");
    assert_eq!(only("pools", &[]), (Some(0), String::new(), String::new()));
    assert_eq!(only("pools", &["-p", "me", "http://a.example", "http://b.example"]).1.lines().count(), 2);
    let (code, _, stderr) = only("htp", &[]);
    assert!(code == Some(2) && stderr.contains("there is no setting `htp`"), "{stderr}");
}

#[test]
fn settings_that_exclude_each_other_are_judged_by_their_layers() {
    let directory = Directory::new();
    let own_pool = directory.file("own.toml", "difficulty = 7\n");
    let settings =
        printed(&mut pktmine(&["config", "print", "-c", &own_pool, "-p", "me", "http://a.example"]));
    assert_eq!(settings["difficulty"], (String::new(), "default".into()), "the pool that was typed wins");
    let named = directory.file("named.toml", "pools = ['http://a.example']\n");
    let (code, _, stderr) = run(&mut pktmine(&["ann", "-c", &named, "--difficulty", "7"]));
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("difficulty (command line) cannot be used with pools (") && stderr.contains("line 1"),
        "{stderr}"
    );
    let both = directory.file("both.toml", "pools = ['http://a.example']\ndifficulty = 7\n");
    let (code, _, stderr) = run(&mut pktmine(&["ann", "-c", &both]));
    assert!(code == Some(2) && stderr.contains("cannot be used with"), "{stderr}");
}

#[test]
fn the_pool_has_a_table_of_its_own() {
    let directory = Directory::new();
    let file = directory
        .file("a.toml", "threads = 1\n[pool]\nlisten = '127.0.0.1:0'\nhandlers = 3\nduration = '100ms'\n");
    let (code, _, stderr) = run(pktmine(&["pool", "--handlers", "2"]).env("PKTMINE_CONFIG", &file));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr.matches("ann handler at").count(), 2, "{stderr}");
}

#[test]
fn what_is_wrong_outside_a_command_s_own_table_is_no_more_than_a_warning_to_it() {
    let directory = Directory::new();
    let pool = |file: &str| {
        let arguments = ["pool", "--listen", "127.0.0.1:0", "--duration", "100ms"];
        run(pktmine(&arguments).env("PKTMINE_CONFIG", file))
    };
    let others = "thread = 3\njson = maybe\n[tuned]\nx = 1\n[bench]\ndifficulty = 0\n[zoo]\ny = 1\n";
    let file = directory.file("a.toml", &format!("{others}[pool]\nhandlers = 3\n"));
    let (code, _, stderr) = pool(&file);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr.matches("ann handler at").count(), 3, "its own table is read: {stderr}");
    for told in
        ["line 1, column 1: there is no setting `thread`", "line 2, ", "line 4, ", "line 6, ", "line 8, "]
    {
        let line =
            stderr.lines().find(|line| line.contains(told)).unwrap_or_else(|| panic!("{told}: {stderr}"));
        assert!(line.contains("WARN") && line.contains("not in [pool]"), "{line}");
    }
    let (code, _, stderr) = run(&mut pktmine(&["ann", "-c", &file]));
    assert_eq!((code, stderr.lines().count()), (Some(2), 5), "all of it is an error to `ann`: {stderr}");

    for (text, expected) in [
        ("[pool]\nhandlers = 0\n", "line 2, column 1: handlers: "),
        ("[pool]\nhandlers = = 3\n", "line 2, "),
        ("[pool\nhandlers = 3\n", "line 1, "),
        ("[poll]\nhandlers = 3\n", "there is no table [poll]"),
    ] {
        let (code, _, stderr) = pool(&directory.file("own.toml", text));
        assert_eq!(code, Some(2), "{text}: {stderr}");
        assert!(stderr.contains(expected) && stderr.contains("PKTMINE_CONFIG='' pktmine pool"), "{stderr}");
    }
    let short = ["bench", "--backend", "cpu", "-t1", "--difficulty", "2", "--duration", "1ms"];
    let json = directory.file("a.json", "{\"colour\": 3}");
    let (code, _, stderr) = run(pktmine(&short).env("PKTMINE_CONFIG", &json));
    assert!(code == Some(0) && stderr.contains("there is no key `colour`"), "{stderr}");
}

#[test]
fn a_file_that_cannot_be_read_stops_only_those_who_need_it_or_were_told_to_read_it() {
    let directory = Directory::new();
    let own = directory.file("config/pktmine/pktmine.toml", "");
    // Who has all rights can read every file, but not as text.
    fs::write(&own, [0xff, 0xfe]).expect("it can be written");
    let with = |arguments: &[&str], named: Option<&str>| {
        let mut command = pktmine(arguments);
        command.env("XDG_CONFIG_HOME", directory.path("config"));
        named.map(|name| command.env("PKTMINE_CONFIG", name));
        run(&mut command)
    };
    let pool = ["pool", "--listen", "127.0.0.1:0", "--duration", "100ms"];
    let (code, _, stderr) = with(&pool, None);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("pktmine.toml: it cannot be read (") && stderr.contains("WARN"), "{stderr}");
    assert!(!stderr.contains("settings read from"), "{stderr}");
    let (code, _, stderr) = with(&pool, Some(&own));
    assert!(code == Some(2) && stderr.contains("or none with PKTMINE_CONFIG=''"), "{stderr}");
    assert_eq!(with(&pool, Some("")).0, Some(0), "the remedy is one");
    let (code, _, stderr) = with(&["ann"], None);
    assert!(code == Some(2) && stderr.contains("or none with --config ''"), "it says who is paid: {stderr}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, stdout, _) = run(&mut pktmine(&["completions", shell]));
        assert_eq!(code, Some(0));
        for word in ["exact-target", "config", "completions"] {
            assert!(stdout.contains(word), "{shell}: {word}");
        }
    }
    let directory = Directory::new();
    let out = directory.path("man").display().to_string();
    assert_eq!(run(&mut pktmine(&["man", "--out", &out])).0, Some(0));
    let page =
        |name: &str| fs::read_to_string(Path::new(&out).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for name in ["pktmine.1", "pktmine-ann.1", "pktmine-pool.1", "pktmine-verify.1", "pktmine-config-print.1"]
    {
        assert!(page(name).contains(".SH FILES"), "{name}");
    }
    assert!(page("pktmine-ann.1").contains("exact\\-target"));
    let (code, stdout, _) = run(&mut pktmine(&["man"]));
    assert!(code == Some(0) && stdout.contains(".TH"));
}

#[cfg(target_os = "linux")]
#[test]
fn bash_completes_flags_of_the_alias_and_values_where_they_are_known() {
    let completed = |line: &[&str]| {
        let words: String = line.iter().map(|word| format!("'{word}' ")).collect();
        let script = format!(
            "source <('{}' completions bash) && COMP_WORDS=({words}) COMP_CWORD={} &&
             _pktmine pktmine \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\" && echo \"${{COMPREPLY[@]}}\"",
            env!("CARGO_BIN_EXE_pktmine"),
            line.len() - 1
        );
        // Warnings: compopt is of no use outside of a completion.
        run(Command::new("bash").args(["-c", &script])).1.trim().to_owned()
    };
    assert_eq!(completed(&["pktmine", "annmine", "--ker"]), "--kernel");
    assert_eq!(completed(&["pktmine", "ann", "--kernel", ""]), "auto avx512 avx2 portable");
    assert_eq!(completed(&["pktmine", "ann", "--threads", ""]), "", "no names of files");
    assert!(completed(&["pktmine", "ann", "--config", "Cargo.to"]).contains("Cargo.toml"));
}

/// A miner whose log is read along.
struct Miner {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Miner {
    fn start(file: &str) -> Self {
        Self::spawn(pktmine(&["ann", "--json", "--interval", "500ms", "-c", file]))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, written) = (BufReader::new(child.stderr.take().expect("a pipe")), log.clone());
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                written.lock().expect("not poisoned").push_str(&format!("{line}\n"));
            }
        });
        Self { child, log }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill exists").success());
    }

    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.log.lock().expect("not poisoned").contains(text) {
            assert!(
                Instant::now() < deadline,
                "{text:?} is not in:\n{}",
                self.log.lock().expect("not poisoned")
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it and gives its totals.
    fn finish(mut self) -> Value {
        self.signal("TERM");
        let stdout = BufReader::new(self.child.stdout.take().expect("a pipe"));
        let last = stdout.lines().map_while(Result::ok).last().expect("there are totals");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
        serde_json::from_str(&last).expect("JSON")
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_pool() -> LocalPool {
    let settings = local_pool::Settings {
        work_bits: WorkBits::at_least(2),
        validators: 1,
        ..local_pool::Settings::default()
    };
    LocalPool::start(settings).expect("the local pool starts")
}

fn wait_for(pool: &LocalPool, more: u64) {
    let wanted = pool.stats().total.accepted + more;
    let deadline = Instant::now() + Duration::from_secs(60);
    while pool.stats().total.accepted < wanted {
        assert!(Instant::now() < deadline, "mining does not go on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_file_that_changes_changes_pools_and_threads_while_mining_and_the_ledger_stays_exact() {
    let (first, second) = (start_pool(), start_pool());
    let directory = Directory::new();
    let text = |pools: &[&LocalPool], more: &str| {
        let pools: Vec<_> = pools.iter().map(|pool| pool.url().to_string()).collect();
        format!("pools = {pools:?}\npaymentaddr = 'me'\n{more}\n")
    };
    let file = directory.file("a.toml", &text(&[&first], "threads = 1"));
    let miner = Miner::start(&file);
    miner.wait_for("settings read from");
    wait_for(&first, 1);
    fs::write(&file, text(&[&second], "threads = 2\nkernel = 'portable'")).expect("it can be written");
    miner.wait_for("settings changed: pools, threads");
    miner.wait_for("needs a restart: kernel");
    miner.wait_for("mining on cpu: 2 threads");
    wait_for(&second, 1);
    let taken = first.stats().total.accepted;
    let limits = "threads = 2\nmin-difficulty = 4\nmax-upload = '900Mbit/s'";
    fs::write(&file, text(&[&second], limits)).expect("it can be written");
    miner.wait_for("settings changed: max-upload, min-difficulty");
    miner.wait_for("what needed a restart is again as it was: kernel");
    miner.wait_for("difficulty 4 (0x203fffff) for --min-difficulty: the pool asks for 2");

    fs::write(&file, "pools = 7\nthread = 2\n").expect("it can be written");
    miner.signal("HUP");
    miner.wait_for("the old settings stay, the new ones are wrong");
    miner.wait_for("did you mean `threads`?");
    wait_for(&second, 1);
    fs::write(&file, "threads = 1\n").expect("it can be written");
    miner.signal("HUP");
    miner.wait_for("own pool needs a restart");
    wait_for(&second, 1);

    let totals = miner.finish();
    let count = |pool: usize, name: &str| totals["pools"][pool][name].as_u64().expect("a count");
    for (place, pool) in [&first, &second].into_iter().enumerate() {
        assert_eq!(count(place, "accepted"), count(place, "found"), "{totals}");
        assert_eq!(count(place, "accepted"), pool.stats().total.accepted, "{totals}");
        assert_eq!(
            count(place, "found") + count(place, "missed"),
            totals["backends"][0]["found"],
            "{totals}"
        );
    }
    assert!(taken <= count(0, "found") && count(0, "missed") > 0);
    let removed = [0, 1].map(|place| totals["pools"][place]["removed"].as_bool().expect("it is told"));
    assert_eq!((removed, totals["own_pool"].as_bool()), ([true, false], Some(false)), "{totals}");
}

#[test]
fn a_file_that_appears_is_read_while_mining_and_so_are_those_that_hold_values_when_they_change() {
    let pool = start_pool();
    let directory = Directory::new();
    let url = pool.url().to_string();
    let mut command = pktmine(&["ann", "--json", "-t1", "-p", "me", &url]);
    let difficulty = directory.file("difficulty", "4\n");
    command.env("XDG_CONFIG_HOME", directory.path("config")).env("PKTMINE_MIN_DIFFICULTY_FILE", &difficulty);
    let miner = Miner::spawn(command);
    miner.wait_for("for --min-difficulty: the pool asks for 2");
    directory.file("config/pktmine/limit", "900Mbit/s\n");
    directory.file("config/pktmine/pktmine.toml", "max-upload = { file = 'limit' }\nmineold = 2\n");
    miner.wait_for("settings read from");
    miner.wait_for("settings changed: mineold, max-upload");
    // By the time that it answers, it has looked at the file that holds the limit.
    miner.signal("HUP");
    miner.wait_for("are what they were");
    directory.file("config/pktmine/limit", "800Mbit/s\n");
    miner.wait_for("settings changed: max-upload\n");
    fs::write(&difficulty, "8\n").expect("it can be written");
    miner.wait_for("settings changed: min-difficulty\n");
    miner.finish();
}
