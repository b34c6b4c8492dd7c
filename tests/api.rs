//! The HTTP API as its clients meet it: the whole program mines against its own pool, and is asked over sockets.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use pktmine::local_pool::{self, LocalPool};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

fn pktmine(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    command.args(arguments).env_remove("RUST_LOG").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    pktmine(arguments).output().expect("the command starts")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A miner with an API, killed when the test ends, however it ends.
struct Miner {
    child: Child,
    address: SocketAddr,
    /// The lines of its log and of what it prints.
    log: Receiver<String>,
}

impl Drop for Miner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Miner {
    /// Mines against a pool of its own, on one thread, and serves the API on a free port.
    fn start(flags: &[&str]) -> Self {
        Self::start_for(&[&["--difficulty", "2"], flags].concat())
    }

    /// The same for the pools that are named.
    fn start_for(flags: &[&str]) -> Self {
        let mut command = pktmine(&["ann", "--threads", "1", "--http", "127.0.0.1:0"]);
        command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let (sender, log) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        for output in outputs {
            let (lines, sender) = (BufReader::new(output).lines(), sender.clone());
            // It reads on so that the miner can always write.
            thread::spawn(move || {
                lines.map_while(Result::ok).try_for_each(|line| sender.send(line).map_err(|_| ()))
            });
        }
        let mut miner = Self { child, address: ([127, 0, 0, 1], 0).into(), log };
        let line = miner.wait_for_line("HTTP API at http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        miner.address = address.and_then(|text| text.parse().ok()).expect("the log says where it listens");
        miner
    }

    fn wait_for_line(&self, part: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|e| panic!("no line has {part:?}: {e}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{path}: {e}: {}", answer.body))
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let host = self.address;
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n");
        self.raw(format!("{head}{body}").as_bytes())
    }

    /// Sends bytes and reads the answer to its end.
    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("it is sent");
        read_answer(stream)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        stream
    }

    fn call(&self, method: &str, headers: &[&str]) -> Answer {
        let headers: Vec<_> = ["Content-Type: application/json"].iter().chain(headers).copied().collect();
        self.ask("POST", "/json_rpc", &headers, &format!("{{\"method\":{method:?},\"id\":1}}"))
    }

    /// Waits for a state of `/status.json`.
    fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            // It says 503 until there is a first snapshot.
            let answer = self.get("/status.json");
            let status = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "never {what}: {}", answer.body);
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn mines(&self) -> Value {
        self.wait_until("mining", |status| status["pools"][0]["accepted"].as_u64() > Some(0))
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Whether values are there with their types: `n`umber, `s`tring, `b`ool, `o`bject, `a`rray, or null as well (`?`).
fn assert_types(value: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (path, kind) = field.split_once(':').expect("a path and a type");
        let found = path.split('.').try_fold(value, |value, key| match key.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(key),
        });
        let found = found.unwrap_or_else(|| panic!("{path} is missing: {value:#}"));
        let is_so = match kind.trim_end_matches('?') {
            "n" => found.is_number(),
            "i" => found.is_u64(),
            "s" => found.is_string(),
            "b" => found.is_boolean(),
            "o" => found.is_object(),
            "a" => found.is_array(),
            other => panic!("no such type: {other}"),
        };
        assert!(is_so || (kind.ends_with('?') && found.is_null()), "{path} is {found}, not {kind}");
    }
}

#[test]
fn dashboards_of_other_miners_find_every_field_with_its_type() {
    let miner = Miner::start(&[]);
    miner.mines();
    let summary = miner.json("/2/summary");
    assert_types(
        &summary,
        "id:s worker_id:s uptime:i restricted:b resources:o resources.memory:o resources.memory.free:i \
         resources.memory.total:i resources.memory.resident_set_memory:i resources.load_average:a \
         resources.load_average.0:n resources.load_average.2:n resources.hardware_concurrency:i features:a results:o \
         results.diff_current:i results.shares_good:i results.shares_total:i results.avg_time:i results.avg_time_ms:i \
         results.hashes_total:i results.best:a results.best.9:i algo:s connection:o connection.pool:s connection.ip:s \
         connection.uptime:i connection.uptime_ms:i connection.ping:i connection.failures:i connection.tls:s? \
         connection.algo:s connection.diff:i connection.accepted:i connection.rejected:i connection.avg_time:i \
         connection.hashes_total:i version:s kind:s ua:s cpu:o cpu.brand:s cpu.threads:i paused:b algorithms:a \
         algorithms.0:s hashrate:o hashrate.total:a hashrate.total.0:n hashrate.total.1:n hashrate.total.2:n \
         hashrate.highest:n? hugepages:a",
    );
    assert_eq!(summary["results"]["shares_good"], summary["connection"]["accepted"]);
    assert_eq!((&summary["kind"], &summary["algo"]), (&"miner".into(), &"packetcrypt".into()));
    assert_eq!(summary["connection"]["ip"], "127.0.0.1");
    let backends = miner.json("/2/backends");
    assert_types(
        &backends,
        "0.type:s 0.enabled:b 0.algo:s 0.profile:s 0.hashrate:a 0.hashrate.0:n 0.hashrate.2:n 0.threads:a \
         0.threads.0.hashrate:a 0.threads.0.hashrate.2:n 0.threads.0.intensity:i 0.threads.0.affinity:n",
    );
    assert_eq!(backends[0]["type"], "cpu");
    assert!(backends[0]["hashrate"][2].as_f64() > Some(0.0), "{backends}");
    let config = miner.json("/1/config");
    assert_types(
        &config,
        "http.enabled:b http.host:s http.port:i http.access-token:s? http.restricted:b pools.0.url:s",
    );
    assert_eq!(config["http"]["port"], miner.address.port());
    for path in ["/2/summary", "/2/backends", "/1/config", "/api.json", "/status.json"] {
        let answer = miner.get(path);
        assert_eq!(answer.header("Content-Type"), Some("application/json"), "{path}");
        for method in ["GET", "OPTIONS"] {
            let answer = miner.ask(method, path, &["Origin: https://dashboard.example"], "");
            assert_eq!(answer.status, 200, "{method} {path}");
            assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
            assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("GET, PUT, POST, DELETE"));
            assert_eq!(answer.header("Access-Control-Allow-Headers"), Some("Authorization, Content-Type"));
        }
    }
}

#[test]
fn each_metric_that_is_documented_is_served_and_the_dashboard_uses_no_other() {
    let miner = Miner::start(&[]);
    let status = miner.mines();
    let answer = miner.get("/metrics");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let served: BTreeSet<_> = answer
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, _)| name.to_owned())
        .collect();
    let documentation = fs::read_to_string(root().join("docs/api.md")).expect("it is there");
    let documented: BTreeSet<_> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("| `pktmine_")?.split('`').next())
        .map(|name| format!("pktmine_{name}"))
        .collect();
    assert_eq!(served, documented);
    let value = |name: &str| {
        let line =
            answer.body.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
    };
    assert!(
        value("pktmine_announcements_found_total{")
            >= status["backends"][0]["found"].as_f64().expect("a count")
    );
    assert!(value("pktmine_handler_announcements_total{") > 0.0);
    assert_eq!(value("pktmine_pool_up{"), 1.0);
    assert_eq!((value("pktmine_own_pool "), &status["own_pool"]), (1.0, &true.into()));
    let alerts: Vec<_> =
        documentation.lines().filter(|line| line.starts_with("    ")).flat_map(names).collect();
    assert!(alerts.len() > 5 && alerts.iter().all(|name| served.contains(*name)), "{alerts:?}");
    // It is not there before the first loss: that would not be seen.
    assert!(!alerts.contains(&"pktmine_pool_lost_announcements_total"));

    let dashboard = fs::read_to_string(root().join("packaging/grafana/pktmine.json")).expect("it is there");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let expressions: Vec<_> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("queries"))
        .map(|target| target["expr"].as_str().expect("an expression"))
        .collect();
    assert!(expressions.len() >= panels.len() && panels.len() > 10);
    for expression in expressions {
        let named: Vec<_> = names(expression).collect();
        assert!(!named.is_empty(), "{expression}");
        for name in named {
            assert!(served.contains(name), "the dashboard names {name}, which there is not: {expression}");
        }
    }
    let variables = dashboard["templating"]["list"].to_string();
    assert!(names(&variables).all(|name| served.contains(name)), "{variables}");
}

/// The names of metrics in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("pktmine_"))
}

#[test]
fn kubernetes_starts_the_miner_with_flags_that_there_are_and_prometheus_finds_its_port() {
    let text = fs::read_to_string(root().join("packaging/kubernetes/daemonset.yaml")).expect("it is there");
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {key}")).trim_matches('"')
    };
    assert_eq!((value("prometheus.io/scrape"), value("prometheus.io/path")), ("true", "/metrics"));
    assert_eq!(value("prometheus.io/port"), value("- containerPort"));
    let help = String::from_utf8(output(&["ann", "--help"]).stdout).expect("UTF-8");
    let flags: Vec<_> = text.lines().filter_map(|line| line.trim().strip_prefix("- --")).collect();
    assert!(
        flags.iter().any(|flag| *flag == format!("http=0.0.0.0:{}", value("prometheus.io/port"))),
        "{flags:?}"
    );
    for flag in flags {
        let name = flag.split('=').next().expect("a name");
        assert!(help.contains(&format!("--{name} ")), "there is no --{name}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_is_in_nobodys_frame() {
    let miner = Miner::start(&["--http-token", "secret"]);
    let page = miner.get("/");
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("Content-Security-Policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for part in ["src=\"http", "href=\"http", "url(", "@import", "//cdn"] {
        assert!(!page.body.contains(part), "{part}");
    }
    assert!(!page.body.contains("secret"));
}

/// A browser that can be had without a window. Without one the test is skipped, unless the variable
/// `PKTMINE_REQUIRE_BROWSER` is set.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    let required = std::env::var_os("PKTMINE_REQUIRE_BROWSER").is_some_and(|value| value != "0");
    assert!(found.is_some() || !required, "PKTMINE_REQUIRE_BROWSER is set, but there is none of {names:?}");
    found
}

/// What a page has become after some seconds of a browser's own time.
fn page_after(browser: &str, url: &str, seconds: u32) -> String {
    let profile = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--dump-dom",
    ]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("--virtual-time-budget={}", seconds * 1000)).arg(url);
    let output = command.stderr(Stdio::null()).output().expect("the browser starts");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_browser_shows_the_rate_the_pool_and_what_became_of_announcements() {
    let Some(browser) = browser() else { return };
    let miner = Miner::start(&[]);
    let status = miner.mines();
    let page = page_after(browser, &format!("http://{}/", miner.address), 3);
    assert!(page.contains("<span id=\"phase\" class=\"pill good\" role=\"status\">mining</span>"), "{page}");
    for part in [
        "e/s</strong>",
        "<span>accepted</span>",
        "<div id=\"own\">",
        status["pools"][0]["pool"].as_str().expect("a pool"),
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains("<button id=\"pause\" class=\"push\" hidden=\"\">"), "nobody may control: {page}");
    let closed = Miner::start(&["--http-token", "secret"]);
    let page = page_after(browser, &format!("http://{}/", closed.address), 3);
    assert!(page.contains("<form id=\"login\">") && page.contains("<div id=\"live\" hidden=\"\">"), "{page}");
}

/// A server in front of a miner that adds scripts to its page, before and after the page's own, has each answer changed,
/// and each call be of a type that is refused.
fn in_front_of(miner: SocketAddr, scripts: [&'static str; 2], change: fn(String) -> String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    let pass_on = move |mut stream: TcpStream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        let mut lines = Vec::new();
        let length = loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.to_ascii_lowercase().as_str() {
                "\r\n" => {
                    let length = lines.iter().find_map(|line: &String| line.strip_prefix("Content-Length: "));
                    break length.map_or(0, |length| length.trim().parse().expect("a length"));
                }
                lower if lower.starts_with("connection:") || lower.starts_with("accept-encoding:") => {}
                _ => lines.push(line.replace("application/json", "text/plain")),
            }
        };
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let mut behind = TcpStream::connect(miner).expect("it listens");
        let request = [lines.concat().as_bytes(), b"Connection: close\r\n\r\n", &body].concat();
        behind.write_all(&request).expect("it is sent");
        let answer = read_answer(behind);
        let mut text = change(answer.body);
        if lines[0].starts_with("GET / ") {
            let [before, after] = scripts;
            text = text.replacen("<script>", &format!("<script>{before}</script><script>"), 1);
            text = text.replace("</body>", &format!("<script>{after}</script></body>"));
        }
        let kept =
            answer.head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
        let head = kept.collect::<Vec<_>>().join("\r\n");
        // A browser may have gone.
        let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || pass_on(stream));
        }
    });
    address
}

#[test]
fn the_page_says_that_a_token_is_wrong_and_takes_another() {
    let Some(browser) = browser() else { return };
    let miner = Miner::start(&["--http-token", "secret"]);
    // No header can hold this one.
    let before = r#"sessionStorage.setItem("token", "\u2713");"#;
    let after = r#"
        const later = (seconds, act) => setTimeout(act, seconds * 1000);
        const type = text => { at("token").value = text; at("login").requestSubmit(); };
        const note = name => {
            document.body.dataset[name] = ["wrong", "login", "gone", "live"].filter(id => !at(id).hidden).join(" ");
        };
        later(7, () => { note("stored"); type("\u20ac"); });
        later(10, () => { note("euro"); type("wrong"); });
        later(13, () => { note("typed"); type(" secret "); });"#;
    let front = in_front_of(miner.address, [before, after], |body| body);
    let page = page_after(browser, &format!("http://{front}/"), 16);
    for name in ["stored", "euro", "typed"] {
        assert!(page.contains(&format!("data-{name}=\"wrong login\"")), "{name}: {page}");
    }
    assert!(page.contains("<form id=\"login\" hidden=\"\">") && page.contains("<div id=\"live\">"), "{page}");
}

#[test]
fn the_page_says_that_a_call_was_refused_and_that_a_pool_was_taken_away() {
    let Some(browser) = browser() else { return };
    let miner = Miner::start(&["--http-control"]);
    miner.mines();
    let press = r#"setTimeout(() => at("pause").click(), 2500);"#;
    let removed = |body: String| body.replace("\"removed\":false", "\"removed\":true");
    let front = in_front_of(miner.address, ["", press], removed);
    let page = page_after(browser, &format!("http://{front}/"), 5);
    let refused = "<div id=\"refused\" role=\"alert\">Pause was refused: Unsupported Media Type";
    assert!(page.contains(refused), "{page}");
    assert!(page.contains("<span class=\"pill\">removed</span>"), "{page}");
    assert_eq!(miner.json("/status.json")["phase"], "mining");
}

#[test]
fn no_user_name_and_no_password_of_a_pool_is_printed_anywhere_and_pools_are_told_apart_without_them() {
    let settings = local_pool::Settings {
        work_bits: kernels::WorkBits::at_least(2),
        validators: 1,
        ..local_pool::Settings::default()
    };
    let pool = LocalPool::start(settings).expect("it starts");
    let (place, none) = (pool.url().to_string(), "http://127.0.0.1:1/");
    let with = |name: &str, url: &str| url.replace("http://", &format!("http://{name}@"));
    let named = [with("mallory:s%22e", &place), with("trent", &place), with("mallory:s%22e", none)];
    let mut flags = vec!["-p", "me", "-v", "--http-control", "--interval", "200ms"];
    flags.extend(named.iter().map(String::as_str));
    let mut miner = Miner::start_for(&flags);
    let status = miner.wait_until("mining", |status| {
        (0..2).all(|pool| status["pools"][pool]["found"].as_u64() > Some(0))
            && !status["pools"][2]["complaint"].is_null()
    });
    let names: Vec<_> = (0..3).map(|pool| status["pools"][pool]["pool"].as_str().expect("a name")).collect();
    assert_eq!(names, [&place, &format!("{place} (2)"), none]);
    let mut told: Vec<String> =
        ["/status.json", "/metrics", "/2/summary", "/1/config"].map(|path| miner.get(path).body).into();
    assert!(told[1].contains(&format!("pktmine_pool_up{{pool=\"{place} (2)\"}} 1\n")), "{}", told[1]);
    // Some status lines.
    thread::sleep(Duration::from_millis(500));
    miner.call("stop", &[]);
    assert_eq!(miner.wait(), Some(0));
    told.extend(miner.log.iter());
    for part in [format!("  {place} (2)  "), format!("{none}config.json cannot be fetched")] {
        assert!(told.iter().any(|text| text.contains(&part)), "{part}: {told:#?}");
    }
    for text in told {
        assert!(
            !["mallory", "s%22e", "s\\\"e", "trent"].iter().any(|secret| text.contains(secret)),
            "{text}"
        );
    }
}

#[test]
fn who_gives_an_address_and_no_pool_is_told_that_nobody_is_paid() {
    let output =
        output(&["ann", "--difficulty", "2", "--threads", "1", "--duration", "100ms", "-p", "pkt1qexample"]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("WARN") && log.contains("NOBODY IS PAID, pkt1qexample least of all"), "{log}");
}

#[test]
fn with_a_token_nothing_is_told_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    fs::write(&file, "s3cret-token\n").expect("it can be written");
    let miner = Miner::start(&["--http-token", &format!("@{}", file.display()), "--http-control"]);
    let right = "Authorization: Bearer s3cret-token";
    for path in ["/metrics", "/status.json", "/2/summary", "/2/backends", "/1/config", "/api.json"] {
        for headers in
            [vec![], vec!["Authorization: Bearer wrong"], vec!["Authorization: Basic s3cret-token"]]
        {
            let answer = miner.ask("GET", path, &headers, "");
            assert_eq!((answer.status, answer.header("WWW-Authenticate")), (401, Some("Bearer")), "{path}");
        }
    }
    assert_eq!(miner.call("pause", &[]).status, 401);
    let deadline = Instant::now() + LIMIT;
    while miner.ask("GET", "/1/config", &[right], "").status != 200 {
        assert!(Instant::now() < deadline, "the token does not open");
        thread::sleep(Duration::from_millis(50));
    }
    let config = miner.ask("GET", "/1/config", &[right], "").body;
    assert!(!config.contains("s3cret") && config.contains("\"access-token\":\"(not shown)\""), "{config}");
    assert_eq!(miner.call("pause", &[right, "Origin: https://dashboard.example"]).status, 200);
}

#[test]
fn it_controls_only_where_that_was_allowed() {
    let read_only = Miner::start(&[]);
    let refused = read_only.call("pause", &[]);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("--http-control"), "{}", refused.body);
    drop(read_only);

    let mut miner = Miner::start(&["--http-control"]);
    miner.mines();
    for header in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"] {
        assert_eq!(miner.call("pause", &[header]).status, 403, "{header}");
    }
    let form =
        miner.ask("POST", "/json_rpc", &["Content-Type: text/plain"], "{\"method\":\"stop\",\"id\":1}");
    assert_eq!(form.status, 415);
    assert_eq!(miner.json("/status.json")["phase"], "mining");

    let paused = miner.call("pause", &[&format!("Origin: http://{}", miner.address)]);
    assert_eq!(
        serde_json::from_str::<Value>(&paused.body).expect("JSON"),
        serde_json::json!({ "id": 1, "jsonrpc": "2.0", "result": { "status": "OK" } })
    );
    miner.wait_until("paused", |status| status["phase"] == "paused");
    assert_eq!(miner.json("/2/summary")["paused"], true);
    assert_eq!(miner.json("/status.json")["pauses"], serde_json::json!(["user"]));
    assert_eq!(miner.call("resume", &[]).status, 200);
    miner.wait_until("mining again", |status| status["phase"] == "mining");
    // A client that asks again because it did not see the answer does not make the miner leave its results behind.
    let mut again = miner.connect();
    assert_eq!(miner.call("stop", &[]).status, 200);
    let stop = "{\"method\":\"stop\",\"id\":1}";
    let head =
        "POST /json_rpc HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ";
    // It may have ended already.
    let _ = again.write_all(format!("{head}{}\r\n\r\n{stop}", stop.len()).as_bytes());
    assert_eq!(miner.wait(), Some(0));
    miner.wait_for_line("the pool of our own counted");
}

#[test]
fn addresses_that_others_reach_are_warned_of_and_not_controlled_without_a_token() {
    let refused = output(&["ann", "--http", "0.0.0.0:0", "--http-control"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--http-token"), "it says the remedy");
    for (arguments, part) in [
        (["--http", "nonsense"], "127.0.0.1:4048"),
        (["--http-token", "t"], "--http"),
        (["--http=4048", "--http-token="], "token"),
    ] {
        let wrong = output(&[&["ann"][..], &arguments].concat());
        assert_eq!(wrong.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&wrong.stderr).contains(part), "{arguments:?}");
    }
    let open = Miner::start(&[]);
    let taken = output(&["ann", "--http", &open.address.to_string()]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&taken.stderr).contains("cannot listen on"), "{taken:?}");
}

#[test]
fn requests_that_are_none_are_answered_and_mining_goes_on() {
    let miner = Miner::start(&["--http-control"]);
    let before = miner.mines()["backends"][0]["found"].as_u64();
    for (method, path, expected) in [
        ("GET", "/nowhere", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "//", 404),
        ("HEAD", "/nowhere", 404),
        ("POST", "/metrics", 405),
        ("PUT", "/1/config", 405),
        ("DELETE", "/2/summary", 405),
        ("GET", "/json_rpc", 405),
        ("BREW", "/", 405),
        ("GET", "/2/summary?x=1", 200),
    ] {
        let answer = miner.ask(method, path, &[], "");
        assert_eq!(answer.status, expected, "{method} {path}");
        assert_eq!(answer.header("Allow").is_some(), expected == 405, "{method} {path}");
    }
    for path in ["/", "/metrics", "/2/summary"] {
        let head = miner.ask("HEAD", path, &[], "");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert!(head.header("Content-Length").is_some_and(|length| length != "0"), "{path}");
    }
    let json = ["Content-Type: application/json"];
    assert_eq!(miner.ask("POST", "/json_rpc", &json, &"x".repeat(1 << 20)).status, 413);
    let chunked = "POST /json_rpc HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    let endless = [chunked.as_bytes(), &b"8000\r\n"[..], &[b'x'; 0x8000], b"\r\n0\r\n\r\n"].concat();
    assert_eq!(miner.raw(&endless).status, 413);
    assert_eq!(miner.raw(b"\x16\x03\x01 is no HTTP\r\n\r\n").status, 400);
    assert_eq!(
        miner.raw(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 17)).as_bytes()).status,
        431
    );
    // A body that never comes.
    let slow = b"POST /json_rpc HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
                 Content-Length: 9\r\n\r\n{";
    assert_eq!(miner.raw(slow).status, 408);
    miner.wait_until("more", |status| status["backends"][0]["found"].as_u64() > before);
}

#[test]
fn clients_that_hold_their_connections_keep_nobody_out_and_disturb_no_mining() {
    let miner = Miner::start(&[]);
    let before = miner.mines()["backends"][0]["found"].as_u64();
    let mut held = Vec::new();
    for i in 0..400 {
        let mut stream = miner.connect();
        // Some say nothing at all, some begin a request that they never end.
        if i % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ").expect("it is sent");
        }
        held.push(stream);
        if i % 100 == 99 {
            let asked = Instant::now();
            assert_eq!(miner.get("/metrics").status, 200);
            assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
        }
    }
    // No more of them are held than there may be: the oldest were closed.
    let mut closed = 0;
    for stream in &mut held[..300] {
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
        let mut byte = [0];
        closed += u32::from(!matches!(stream.read(&mut byte), Ok(1..)));
    }
    assert_eq!(closed, 300);
    miner.wait_until("more", |status| status["backends"][0]["found"].as_u64() > before);
}

#[test]
fn the_documentation_has_every_key_of_the_status() {
    let miner = Miner::start(&[]);
    let status = miner.mines();
    let text = fs::read_to_string(Path::new(&root()).join("docs/api.md")).expect("it is there");
    let mut keys = BTreeSet::new();
    collect(&status, &mut keys);
    for key in keys {
        let is_told = [format!("`{key}`"), format!("`{key}[]`"), format!(".{key}[]`")]
            .iter()
            .any(|form| text.contains(form));
        assert!(is_told, "{key} is not documented");
    }
}

/// All keys of all objects.
fn collect(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, inner)| {
            keys.insert(key.clone());
            collect(inner, keys);
        }),
        Value::Array(list) => list.iter().for_each(|inner| collect(inner, keys)),
        _ => {}
    }
}
