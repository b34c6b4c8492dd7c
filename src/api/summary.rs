//! What dashboards of other miners read, in the shape and with the types that they expect: `/2/summary`,
//! `/2/backends`, `/1/config`. A hash rate is in e/s. What there is no such thing as here is zero, empty or null.

use serde_json::{Value, json};
use url::{Host, Url};

use super::{
    Settings,
    health::Health,
    machine::{Machine, Usage},
};
use crate::{
    protocol::difficulty_shown,
    report::{BackendRow, Phase, RateRow, Snapshot},
    upload::Account,
};

/// What is mined.
const ALGORITHM: &str = "packetcrypt";

/// `GET /2/summary`.
pub fn summary(snapshot: &Snapshot, machine: &Machine, usage: &Usage, restricted: bool) -> Value {
    let uptime = snapshot.now.as_secs();
    let difficulty = snapshot.job.as_ref().map_or(0, |row| whole(difficulty_shown(row.job.work_bits)));
    let pool = Leader::of(snapshot);
    let work = whole(snapshot.work);
    // Time between two announcements that were taken.
    let average_ms = (snapshot.mined.as_millis() as u64).checked_div(pool.accepted).unwrap_or(0);
    let threads: Vec<_> = snapshot.backends.iter().map(|row| windows(&row.rates)).collect();
    json!({
        "id": id(&machine.host),
        "worker_id": machine.host,
        "uptime": uptime,
        "restricted": restricted,
        "resources": {
            "memory": {
                "free": usage.memory_free,
                "total": usage.memory_total,
                "resident_set_memory": usage.resident,
            },
            "load_average": usage.load,
            "hardware_concurrency": machine.threads,
        },
        "features": ["api", "http", "tls"],
        "results": {
            "diff_current": difficulty,
            "shares_good": pool.accepted,
            "shares_total": pool.settled,
            "avg_time": average_ms / 1000,
            "avg_time_ms": average_ms,
            "hashes_total": work,
            "best": vec![0; 10],
            "error_log": [],
        },
        "algo": ALGORITHM,
        "connection": {
            "pool": pool.address,
            "ip": pool.ip,
            "uptime": if pool.up { uptime } else { 0 },
            "uptime_ms": if pool.up { snapshot.now.as_millis() as u64 } else { 0 },
            "ping": pool.ping_ms,
            "failures": pool.failures,
            "tls": pool.tls.then_some("TLS"),
            "tls-fingerprint": null,
            "algo": ALGORITHM,
            "diff": difficulty,
            "accepted": pool.accepted,
            "rejected": pool.settled - pool.accepted,
            "avg_time": average_ms / 1000,
            "avg_time_ms": average_ms,
            "hashes_total": work,
            "error_log": pool.complaint.into_iter().collect::<Vec<_>>(),
        },
        "limits": {
            "max_upload_mbit_per_s": snapshot.max_upload_mbit_per_s,
            "difficulty_reason": snapshot.job.as_ref().map(|row| row.hardness.to_string()),
            "pool_difficulty": snapshot.job.as_ref().and_then(|row| row.asked).map(|bits| whole(difficulty_shown(bits))),
        },
        "own_pool": snapshot.own_pool,
        "version": snapshot.version,
        "kind": "miner",
        "ua": format!("pktmine/{} ({} {})", snapshot.version, std::env::consts::OS, std::env::consts::ARCH),
        "cpu": cpu(machine),
        "donate_level": 0,
        "paused": snapshot.phase != Phase::Mining,
        "algorithms": [ALGORITHM],
        "hashrate": {
            "total": windows(&snapshot.rates),
            "highest": number(snapshot.rates.highest),
            "threads": threads,
        },
        "hugepages": [0, 0],
    })
}

/// `GET /2/backends`: one object for the processors, one for all graphics processors.
pub fn backends(snapshot: &Snapshot, machine: &Machine, health: &Health) -> Value {
    let kind = |row: &BackendRow| row.name.split(' ').next().unwrap_or_default().to_owned();
    let mut kinds: Vec<String> = Vec::new();
    for row in &snapshot.backends {
        if !kinds.contains(&kind(row)) {
            kinds.push(kind(row));
        }
    }
    let objects = kinds.into_iter().map(|name| {
        let rows: Vec<_> = snapshot.backends.iter().filter(|row| kind(row) == name).collect();
        let sum = |window: usize| rows.iter().map(|row| row.rates.windows[window].e_per_s).sum::<f64>();
        let mut object = json!({
            "type": name,
            "enabled": rows.iter().any(|row| row.failed.is_none()),
            "algo": ALGORITHM,
            "profile": rows.first().map_or("", |row| row.description.as_str()),
            "hashrate": [number(sum(0)), number(sum(1)), number(sum(2))],
            "threads": rows.iter().enumerate().map(|(index, row)| thread(index, row, health)).collect::<Vec<_>>(),
        });
        if name == "cpu" {
            object["hw-aes"] = machine.flags.contains("aes").into();
            object["priority"] = (-1).into();
            object["msr"] = false.into();
            object["asm"] = "none".into();
            object["argon2-impl"] = Value::Null;
            object["hugepages"] = json!([0, 0]);
            object["memory"] = 0.into();
        }
        object
    });
    objects.collect()
}

/// What mines together and is counted together: a graphics processor, or all threads of the processors.
fn thread(index: usize, row: &BackendRow, health: &Health) -> Value {
    let mut thread = json!({
        "index": index,
        "name": row.description,
        "intensity": 1,
        "affinity": -1,
        "av": 1,
        "hashrate": windows(&row.rates),
    });
    if row.name.starts_with("gpu") {
        thread["bus_id"] = health.bus(&row.name).map(short_bus).into();
        thread["health"] = health.read(&row.name);
    }
    thread
}

/// "0a:00.0" of "0000:0a:00.0", as dashboards know it.
fn short_bus(bus: &str) -> &str {
    match bus.matches(':').count() {
        2 => bus.split_once(':').map_or(bus, |(_, rest)| rest),
        _ => bus,
    }
}

/// `GET /1/config`, without what is nobody else's business: the token and the address that is paid.
pub fn config(snapshot: &Snapshot, settings: &Settings) -> Value {
    let listed = snapshot.ledger.pools.iter().zip(&snapshot.pools).filter(|(_, row)| !row.removed);
    let pools = listed.map(|(account, _)| {
        json!({
            "algo": ALGORITHM,
            "url": account.pool,
            "user": "(not shown)",
            "pass": "(not shown)",
            "enabled": true,
            "tls": account.pool.starts_with("https:"),
        })
    });
    let enabled = |kind: &str| snapshot.backends.iter().any(|row| row.name.starts_with(kind));
    json!({
        "api": { "id": null, "worker-id": null },
        "http": {
            "enabled": true,
            "host": settings.listen.ip().to_string(),
            "port": settings.listen.port(),
            "access-token": settings.token.is_some().then_some("(not shown)"),
            "restricted": !settings.control,
        },
        "autosave": false,
        "background": false,
        "cpu": { "enabled": enabled("cpu") },
        "gpu": { "enabled": enabled("gpu") },
        "donate-level": 0,
        "pools": pools.collect::<Vec<_>>(),
    })
}

/// The pool that decides what is mined, as dashboards know pools.
#[derive(Default)]
struct Leader {
    /// Host and port.
    address: String,
    /// Known only if it was named by its address.
    ip: String,
    tls: bool,
    up: bool,
    complaint: Option<String>,
    accepted: u64,
    settled: u64,
    ping_ms: u64,
    failures: usize,
}

impl Leader {
    fn of(snapshot: &Snapshot) -> Self {
        let leads = snapshot.pools.iter().position(|row| row.leads);
        let leads = leads.or_else(|| snapshot.pools.iter().position(|row| !row.removed)).unwrap_or(0);
        let (Some(row), Some(account)) = (snapshot.pools.get(leads), snapshot.ledger.pools.get(leads)) else {
            return Self::default();
        };
        let url = account.pool.parse::<Url>().ok();
        let host = url.as_ref().and_then(Url::host);
        Self {
            address: url.as_ref().map_or(String::new(), |url| {
                let port = url.port_or_known_default().unwrap_or_default();
                format!("{}:{port}", url.host_str().unwrap_or_default())
            }),
            ip: match host {
                Some(Host::Ipv4(ip)) => ip.to_string(),
                Some(Host::Ipv6(ip)) => ip.to_string(),
                _ => String::new(),
            },
            tls: url.is_some_and(|url| url.scheme() == "https"),
            up: row.up,
            complaint: row.complaint.clone(),
            accepted: account.accepted,
            settled: account.settled(),
            ping_ms: ping(account),
            failures: account.handlers.iter().filter(|handler| handler.trouble.is_some()).count()
                + usize::from(!row.up),
        }
    }
}

/// The mean of the times that its handlers' last answers took, in milliseconds.
fn ping(account: &Account) -> u64 {
    let times: Vec<_> = account.handlers.iter().filter_map(|handler| handler.latency).collect();
    times.iter().sum::<std::time::Duration>().as_millis() as u64 / times.len().max(1) as u64
}

fn cpu(machine: &Machine) -> Value {
    let is_x64 = cfg!(target_arch = "x86_64");
    json!({
        "brand": machine.brand,
        "arch": std::env::consts::ARCH,
        "aes": machine.flags.contains("aes"),
        "avx2": machine.flags.contains("avx2"),
        "x64": is_x64,
        "64_bit": cfg!(target_pointer_width = "64"),
        "l2": machine.l2,
        "l3": machine.l3,
        "cores": machine.cores,
        "threads": machine.threads,
        "packages": machine.packages,
        "nodes": machine.nodes,
        "backend": "basic",
        "msr": "none",
        "assembly": "none",
        "flags": machine.flags,
    })
}

fn windows(rates: &RateRow) -> Value {
    rates.windows.iter().map(|rate| number(rate.e_per_s)).collect()
}

/// A rate with as many digits as matter.
fn number(rate: f64) -> Value {
    json!((rate * 100.0).round() / 100.0)
}

fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// Sixteen digits that are the same for the same machine (FNV-1a of its name).
fn id(host: &str) -> String {
    let hash = host.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Card,
        report::snapshot::tests::{limited, reloaded, snapshot},
    };

    #[test]
    fn graphics_processors_are_one_backend_with_their_places_and_health() {
        let mut snapshot = snapshot(vec![Account::default()]);
        for name in ["gpu 0", "gpu 1"] {
            let row = BackendRow { name: name.into(), ..snapshot.backends[0].clone() };
            snapshot.backends.push(row);
        }
        snapshot.backends[2].failed = Some("it errs".into());
        let health = Health::new(vec![Card { backend: "gpu 1".into(), bus: "0000:0a:00.0".into() }]);
        let backends = backends(&snapshot, &Machine::default(), &health);
        let [cpu, gpu] = backends.as_array().expect("a list").as_slice() else { panic!("{backends}") };
        assert_eq!((&cpu["type"], &gpu["type"]), (&"cpu".into(), &"gpu".into()));
        assert_eq!((&cpu["hashrate"][0], &gpu["hashrate"][0]), (&36_100.0.into(), &72_200.0.into()));
        assert!(cpu["threads"][0].get("health").is_none() && gpu["enabled"] == true);
        assert_eq!(
            (&gpu["threads"][0]["bus_id"], &gpu["threads"][1]["bus_id"]),
            (&Value::Null, &"0a:00.0".into())
        );
        assert!(gpu["threads"][1]["health"].get("temperature").is_some());
    }

    #[test]
    fn before_there_is_work_the_summary_has_its_numbers_too() {
        let mut snapshot = snapshot(Vec::new());
        snapshot.job = None;
        let summary = summary(&snapshot, &Machine::default(), &Usage::default(), true);
        assert_eq!(
            (&summary["results"]["diff_current"], &summary["connection"]["pool"]),
            (&0.into(), &"".into())
        );
        assert_eq!(summary["limits"]["pool_difficulty"], Value::Null);
    }

    #[test]
    fn a_pool_that_was_taken_away_is_in_no_configuration_and_leads_nothing() {
        let account = |pool: &str, accepted| Account { pool: pool.into(), accepted, ..Account::default() };
        let mut snapshot = reloaded(vec![account("http://a.example/", 1), account("http://b.example/", 2)]);
        let listen = ([127, 0, 0, 1], 4048).into();
        let settings = Settings { listen, token: None, control: false, cards: Vec::new() };
        let config = config(&snapshot, &settings);
        let urls: Vec<_> =
            config["pools"].as_array().expect("a list").iter().map(|pool| &pool["url"]).collect();
        assert_eq!(urls, ["http://a.example/"]);
        // Nobody leads for now, and the first was taken away.
        snapshot.pools.swap(0, 1);
        snapshot.pools[1].leads = false;
        let summary = summary(&snapshot, &Machine::default(), &Usage::default(), true);
        assert_eq!(summary["connection"]["pool"], "b.example:80");
    }

    #[test]
    fn the_summary_says_which_difficulty_is_mined_and_why() {
        let summary = summary(&limited(Vec::new()), &Machine::default(), &Usage::default(), true);
        let limits =
            json!({ "max_upload_mbit_per_s": 2.5, "difficulty_reason": "max-upload", "pool_difficulty": 16 });
        assert_eq!((&summary["results"]["diff_current"], &summary["limits"]), (&128.into(), &limits));
    }
}
