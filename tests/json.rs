//! What commands print with `--json` is what `docs/json.md` says.

mod documented;

use std::{
    fs,
    process::{Command, Stdio},
};

use pktmine::local_pool::{LocalPool, Settings};
use serde_json::{Value, json};

/// The objects that a command prints, whatever its exit code.
fn print(arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    // What drivers say on stderr is not the command's.
    command.args(arguments).env("PKTMINE_CONFIG", "").env("NODEVICE_SELECT", "1").env_remove("RUST_LOG");
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    let objects = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    let objects: Vec<Value> = objects.map(|object| object.expect("JSON")).collect();
    assert!(!objects.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    objects
}

#[test]
fn saved_runs_and_checksums_are_documented() {
    let run = ["bench", "--backend", "cpu", "--threads", "1", "-d", "2", "--duration", "100ms", "--json"];
    documented::check("`pktmine bench --json`", &print(&run));
    let checksum = ["bench", "--backend", "cpu", "--checksum=1", "--json"];
    documented::check("`pktmine bench --checksum --json`", &print(&checksum));
}

#[test]
fn lists_of_devices_and_the_difficulties_are_documented() {
    documented::check("`pktmine devices --json`", &print(&["devices", "--json"]));
    let advised = print(&["difficulty", "--rate", "700Ke/s", "--upload", "50Mbit/s", "--json"]);
    let plain = print(&["difficulty", "-d", "1", "--json"]);
    assert_eq!((&plain[0]["recommended"], &plain[0]["work_bits"]), (&Value::Null, &Value::Null));
    documented::check("`pktmine difficulty --json`", &[advised, plain].concat());
}

#[test]
fn verdicts_and_a_pool_s_statistics_are_documented() {
    let settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        handlers: 2,
        faults: vec!["delay=1ms:config".parse().expect("a fault")],
        ..Settings::default()
    };
    let pool = LocalPool::start(settings).expect("it starts");
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("a.bin").display().to_string();
    fs::write(&file, [7; 1024]).expect("it can be written");
    let given = print(&["verify", "--json", "--parent", &"0".repeat(64), &file]);
    let asked = print(&["verify", "--json", "--pool", pool.url().as_ref(), &file]);
    assert_eq!(asked[0]["result"], "NO_PARENT");
    documented::check("`pktmine verify --json`", &[given, asked].concat());

    // A batch that is refused, for whom it would have been.
    let refused = ureq::post(pool.handler_urls()[0].to_string())
        .header("x-pc-payto", "me")
        .header("x-pc-annver", "1")
        .header("x-pc-sver", "1")
        .header("x-pc-worknum", (pool.stats().tip_height + 1).to_string())
        .config()
        .http_status_as_error(false)
        .build()
        .send(&[7; 1024][..])
        .expect("an answer");
    assert_eq!(refused.status(), 400);
    let stats = json!(pool.stats());
    for counted in ["refused", "faulted", "pay_to"] {
        assert!(stats[counted].as_object().is_some_and(|counts| !counts.is_empty()), "{counted}: {stats}");
    }
    documented::check("`pktmine pool --json` and `GET /stats`", &[stats]);
}
