//! The GPU backend as a user meets it, on a software adapter where there is no other.
//!
//! Without any adapter these tests are skipped, unless the variable `PKTMINE_REQUIRE_GPU` is set.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

fn pktmine(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pktmine"));
    command.args(arguments).env_remove("RUST_LOG").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    pktmine(arguments).output().expect("the command starts")
}

/// What `pktmine devices` lists; `None`: there is nothing to test with.
fn gpus() -> Option<Vec<Value>> {
    let output = output(&["devices", "--json"]);
    assert!(output.status.success());
    let devices: Value = serde_json::from_slice(&output.stdout).expect("a JSON object");
    assert!(devices["cpu"]["processors"].as_u64() > Some(0), "{devices}");
    let gpus = devices["gpus"].as_array().expect("a list").clone();
    let required = std::env::var_os("PKTMINE_REQUIRE_GPU").is_some_and(|value| value != "0");
    assert!(!required || !gpus.is_empty(), "no Vulkan adapter: install one (Debian: mesa-vulkan-drivers)");
    (!gpus.is_empty()).then_some(gpus)
}

/// A miner that is killed when the test ends, however it ends.
struct Miner(Child);

impl Drop for Miner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Mines until all of `backends` have found something, stops with Ctrl-C, and returns the totals and the log.
fn mine(arguments: &[&str], backends: &[&str]) -> (Value, String) {
    let arguments = [&["ann", "--difficulty", "2", "--json", "--interval", "500ms"], arguments].concat();
    let mut command = pktmine(&arguments);
    let mut miner = Miner(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let mut log = miner.0.stderr.take().expect("a pipe");
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).expect("UTF-8");
        text
    });
    let deadline = Instant::now() + Duration::from_secs(400);
    let mut asked = false;
    let mut totals = Value::Null;
    for line in BufReader::new(miner.0.stdout.take().expect("a pipe")).lines() {
        let status: Value = serde_json::from_str(&line.expect("a line")).expect("a JSON object");
        let list = status["backends"].as_array().expect("a list").clone();
        let names: Vec<_> = list.iter().map(|backend| backend["name"].as_str().expect("a name")).collect();
        assert_eq!(names, backends);
        let all = list.iter().all(|backend| backend["found"].as_u64() > Some(0));
        assert!(all || Instant::now() < deadline, "nothing is found: {status}");
        if all && !asked {
            asked = true;
            let pid = miner.0.id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill exists").success());
        }
        totals = status;
    }
    let log = log.join().expect("it only reads");
    assert_eq!(miner.0.wait().expect("it ends").code(), Some(0), "{log}");
    assert_eq!(totals["event"], "totals", "{log}");
    (totals, log)
}

/// Everything that was found was accepted, says the miner, and so says the pool.
fn assert_all_accepted(totals: &Value, log: &str) {
    let pool = &totals["pools"][0];
    let by_backends: u64 =
        totals["backends"].as_array().expect("a list").iter().filter_map(|b| b["found"].as_u64()).sum();
    let found = pool["found"].as_u64().expect("a count");
    assert!(found > 0);
    assert_eq!((by_backends, pool["accepted"].as_u64()), (found, Some(found)), "{pool}\n{log}");
    assert!(log.contains(&format!("counted {found} accepted announcements, the miner {found}")), "{log}");
}

#[test]
fn a_gpu_alone_mines_and_everything_is_accepted() {
    let Some(gpus) = gpus() else { return };
    let name = gpus[0]["name"].as_str().expect("a name");
    let (totals, log) = mine(&["--backend", "gpu", "--device", name, "--gpu-rounds", "1"], &["gpu 0"]);
    assert_all_accepted(&totals, &log);
    assert!(log.contains(&format!("mining on gpu 0: {name}")), "{log}");
    assert!(log.contains("1 round at once"), "{log}");
    let backend = &totals["backends"][0];
    assert!(backend["items"].as_u64() >= Some(2 * 8192), "{backend}");
    assert!(backend["hashes"].as_u64() >= backend["found"].as_u64(), "{backend}");
}

#[test]
fn gpu_and_processors_mine_side_by_side() {
    if gpus().is_none() {
        return;
    }
    let (totals, log) = mine(&["--device", "0", "--gpu-rounds", "1"], &["gpu 0", "cpu"]);
    assert_all_accepted(&totals, &log);
}

#[test]
fn devices_are_listed_in_eighty_columns() {
    let output = output(&["devices"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.starts_with("GPUs\n") && text.contains("\nCPU\n") && text.contains("(used)"), "{text}");
    let list = gpus().unwrap_or_default();
    for (index, gpu) in list.iter().enumerate() {
        assert_eq!(gpu["index"], index);
        assert!(text.contains(&format!("{index:>3}  {}\n", gpu["name"].as_str().expect("a name"))), "{text}");
    }
}

#[test]
fn too_many_rounds_for_a_device_are_told_with_what_it_takes() {
    if gpus().is_none() {
        return;
    }
    let output = output(&["ann", "--backend", "gpu", "--device", "0", "--gpu-rounds", "4000000000"]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("rounds at once at most, not 4000000000: ask for fewer with --gpu-rounds"), "{log}");
}
