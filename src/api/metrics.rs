//! `GET /metrics`: the text that Prometheus reads. Names, meanings and labels are in `docs/api.md`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use super::machine::Usage;
use crate::{
    protocol::difficulty_shown,
    report::{Phase, PoolRow, Snapshot, seconds},
    upload::{Account, HandlerRow},
    values::{Hardness, PauseReason},
};

/// The version of the format that this is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names of the windows that rates are over, in their order.
const WINDOWS: [&str; 3] = ["10s", "60s", "15m"];

/// All samples of one name.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<(Labels, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

type Labels = Vec<(&'static str, String)>;

/// The metrics of a snapshot.
pub fn render(snapshot: &Snapshot, usage: &Usage) -> String {
    let mut out = String::new();
    for family in families(snapshot, usage) {
        write_family(&mut out, &family).expect("a string takes everything");
    }
    out
}

fn write_family(out: &mut String, family: &Family) -> fmt::Result {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    writeln!(out, "# HELP {} {}", family.name, family.help)?;
    writeln!(out, "# TYPE {} {kind}", family.name)?;
    for (labels, value) in &family.samples {
        out.push_str(family.name);
        for (i, (name, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(out, "{}{name}=\"{text}\"", if i == 0 { '{' } else { ',' })?;
        }
        writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" })?;
    }
    Ok(())
}

fn families(snapshot: &Snapshot, usage: &Usage) -> Vec<Family> {
    let mut all = miner(snapshot, usage);
    all.extend(job(snapshot));
    all.extend(backends(snapshot));
    all.extend(pools(snapshot));
    all.extend(handlers(snapshot));
    all
}

fn miner(snapshot: &Snapshot, usage: &Usage) -> Vec<Family> {
    let one = |value: f64| vec![(Labels::new(), value)];
    let phases = [
        ("mining", Phase::Mining),
        ("paused", Phase::Paused),
        ("draining", Phase::Draining),
        ("done", Phase::Done),
    ];
    vec![
        gauge(
            "pktmine_build_info",
            "The program's version; always 1.",
            vec![(vec![("version", snapshot.version.to_owned())], 1.0)],
        ),
        gauge(
            "pktmine_start_timestamp_seconds",
            "When the miner started, in seconds since 1970.",
            one(since_1970(snapshot.started)),
        ),
        gauge(
            "pktmine_snapshot_timestamp_seconds",
            "When these values were read, in seconds since 1970; a second ago while the miner is well.",
            one(since_1970(snapshot.time)),
        ),
        gauge(
            "pktmine_own_pool",
            "1 if no pool was named: it mines for a pool of its own, and nobody is paid.",
            one(flag(snapshot.own_pool)),
        ),
        gauge(
            "pktmine_phase",
            "1 for what the miner is about: mining, paused, draining (handing in the last), done.",
            phases.map(|(name, phase)| (vec![("phase", name.into())], flag(phase == snapshot.phase))).into(),
        ),
        gauge(
            "pktmine_paused",
            "1 for each reason for which mining is paused.",
            PauseReason::ALL
                .map(|why| (vec![("reason", why.name().into())], flag(snapshot.pauses.contains(&why))))
                .into(),
        ),
        counter(
            "pktmine_mined_seconds_total",
            "For how long there was something to mine, without pauses.",
            one(snapshot.mined.as_secs_f64()),
        ),
        gauge("pktmine_resident_memory_bytes", "Memory that the process has.", one(usage.resident as f64)),
        counter(
            "pktmine_cpu_seconds_total",
            "How long the process's threads ran, together.",
            usage.cpu_seconds.map(|seconds| (Labels::new(), seconds)).into_iter().collect(),
        ),
    ]
}

fn job(snapshot: &Snapshot) -> Vec<Family> {
    let job = snapshot.job.as_ref();
    let one = |value: Option<f64>| value.map(|value| (Labels::new(), value)).into_iter().collect();
    let reasons = [Hardness::Pool, Hardness::MinDifficulty, Hardness::MaxUpload];
    vec![
        gauge(
            "pktmine_job_difficulty",
            "Difficulty that announcements are mined with: hashes for one, on average.",
            one(job.map(|row| difficulty_shown(row.job.work_bits))),
        ),
        gauge(
            "pktmine_job_pool_difficulty",
            "Difficulty that the leading pool asks for.",
            one(job.and_then(|row| row.asked).map(difficulty_shown)),
        ),
        gauge(
            "pktmine_job_difficulty_reason",
            "1 for why the difficulty is what it is: pool, min-difficulty, max-upload.",
            job.map(|row| reasons.map(|why| (vec![("reason", why.to_string())], flag(why == row.hardness))))
                .map_or_else(Vec::new, Vec::from),
        ),
        gauge(
            "pktmine_upload_limit_bytes_per_second",
            "The most that is uploaded, packets' heads included; missing without a limit.",
            one(snapshot.max_upload_mbit_per_s.map(|mbit| mbit * 1e6 / 8.0)),
        ),
        gauge(
            "pktmine_job_parent_height",
            "Height of the block that is mined on.",
            one(job.map(|row| f64::from(row.job.parent_height))),
        ),
        gauge(
            "pktmine_job_start_timestamp_seconds",
            "Since when the job is mined, in seconds since 1970.",
            one(job.map(|row| since_1970(row.since.time))),
        ),
        gauge(
            "pktmine_block_start_timestamp_seconds",
            "Since when the job's parent block is mined on, in seconds since 1970.",
            one(job.map(|row| since_1970(row.block_since.time))),
        ),
    ]
}

fn backends(snapshot: &Snapshot) -> Vec<Family> {
    let rows = || snapshot.backends.iter();
    let label = |name: &str| vec![("backend", name.to_owned())];
    let windows = rows().flat_map(|row| {
        let windows = WINDOWS.iter().zip(&row.rates.windows);
        windows.map(move |(window, rate)| {
            let labels = vec![("backend", row.name.clone()), ("window", (*window).to_owned())];
            (labels, rate.e_per_s)
        })
    });
    vec![
        gauge(
            "pktmine_backend_up",
            "1 if the backend mines, 0 if it was stopped for good.",
            rows().map(|row| (label(&row.name), flag(row.failed.is_none()))).collect(),
        ),
        gauge(
            "pktmine_encryptions_per_second",
            "Rate over a window: announcements a second times their difficulty.",
            windows.collect(),
        ),
        gauge(
            "pktmine_highest_encryptions_per_second",
            "The highest rate over 10 seconds.",
            rows().map(|row| (label(&row.name), row.rates.highest)).collect(),
        ),
        counter(
            "pktmine_encryptions_total",
            "The sum of the difficulties of all announcements found.",
            rows().map(|row| (label(&row.name), row.work)).collect(),
        ),
        counter(
            "pktmine_announcements_found_total",
            "Announcements found.",
            rows().map(|row| (label(&row.name), row.counters.found as f64)).collect(),
        ),
        counter(
            "pktmine_hashes_total",
            "Soft nonces hashed.",
            rows().map(|row| (label(&row.name), row.counters.hashes as f64)).collect(),
        ),
        counter(
            "pktmine_items_total",
            "Items made, of both tables.",
            rows().map(|row| (label(&row.name), row.counters.items as f64)).collect(),
        ),
        counter(
            "pktmine_rounds_total",
            "Rounds that ran to their end.",
            rows().map(|row| (label(&row.name), row.counters.rounds as f64)).collect(),
        ),
    ]
}

fn pools(snapshot: &Snapshot) -> Vec<Family> {
    let names = distinct(snapshot.ledger.pools.iter().map(|account| account.pool.as_str()));
    // Counters of a pool that was taken away stay, as counters must; what it was like at the end is no news.
    let accounts = || names.iter().zip(&snapshot.ledger.pools);
    let all = || accounts().zip(&snapshot.pools);
    let listed = || all().filter(|(_, row)| !row.removed);
    let rows = || listed().map(|((name, _), row)| (name, row));
    let label = |name: &String| vec![("pool", name.clone())];
    let waiting = |count: fn(&Account) -> u64| {
        let pools = all().filter(|((_, account), row)| !row.removed || count(account) > 0);
        pools.map(|((name, account), _)| (label(name), count(account) as f64)).collect()
    };
    let fates = accounts().flat_map(|(name, account)| {
        fates(account)
            .into_iter()
            .map(move |(fate, count)| (vec![("pool", name.clone()), ("fate", fate.into())], count))
    });
    let causes = accounts().flat_map(|(name, account)| {
        account.causes.iter().map(move |((fate, cause), count)| {
            let labels =
                vec![("pool", name.clone()), ("fate", fate.to_string()), ("cause", cause.to_string())];
            (labels, *count as f64)
        })
    });
    let goodrates = listed().filter_map(|((name, account), _)| Some((label(name), account.goodrate()?)));
    vec![
        gauge(
            "pktmine_pool_up",
            "1 if the pool's master gives good answers.",
            rows().map(|(name, row)| (label(name), flag(row.up))).collect(),
        ),
        gauge(
            "pktmine_pool_leads",
            "1 for the pool that decides what is mined.",
            rows().map(|(name, row)| (label(name), flag(row.leads))).collect(),
        ),
        gauge(
            "pktmine_pool_tip_height",
            "Height of the newest block that the pool told of.",
            rows().filter_map(|(name, row)| Some((label(name), f64::from(row.tip_height?)))).collect(),
        ),
        counter(
            "pktmine_pool_announcements_total",
            "Announcements by what became of them: accepted, duplicate, rejected, stale, overflow, unknown, unwanted.",
            fates.collect(),
        ),
        counter(
            "pktmine_pool_lost_announcements_total",
            "Announcements that the pool did not take, by why.",
            causes.collect(),
        ),
        gauge(
            "pktmine_pool_queued_announcements",
            "Announcements that wait for the pool's handlers.",
            waiting(|account| account.queued),
        ),
        gauge(
            "pktmine_pool_in_flight_announcements",
            "Announcements that were posted and not answered yet.",
            waiting(|account| account.in_flight),
        ),
        gauge(
            "pktmine_pool_goodrate_ratio",
            "The part of the announcements that was accepted, of those that no longer wait.",
            goodrates.collect(),
        ),
        counter(
            "pktmine_pool_uploaded_bytes_total",
            "Bytes of announcements posted; those sent again count again.",
            accounts().map(|(name, account)| (label(name), account.bytes_uploaded as f64)).collect(),
        ),
    ]
}

fn handlers(snapshot: &Snapshot) -> Vec<Family> {
    let names = distinct(snapshot.ledger.pools.iter().map(|account| account.pool.as_str()));
    let all: Vec<(Labels, &HandlerRow, &PoolRow)> = names
        .iter()
        .zip(&snapshot.ledger.pools)
        .zip(&snapshot.pools)
        .flat_map(|((name, account), pool)| {
            let urls = distinct(account.handlers.iter().map(|row| row.url.as_str()));
            let labels = urls.into_iter().map(|url| vec![("pool", name.clone()), ("handler", url)]);
            labels.zip(&account.handlers).map(|(labels, row)| (labels, row, pool)).collect::<Vec<_>>()
        })
        .collect();
    // As with pools: only counters stay.
    let rows = || all.iter().filter(|(.., pool)| !pool.removed).map(|(labels, row, _)| (labels, row));
    let each = |value: fn(&HandlerRow) -> f64| {
        rows().map(|(labels, row)| (labels.clone(), value(row))).collect::<Vec<_>>()
    };
    let fates = all.iter().flat_map(|(labels, row, _)| {
        let counts = [
            ("accepted", row.accepted),
            ("duplicate", row.duplicate),
            ("rejected", row.rejected),
            ("stale", row.stale),
            ("overflow", row.overflow),
            ("unknown", row.unknown),
        ];
        counts.map(|(fate, count)| {
            let fate = ("fate", fate.to_owned());
            (labels.iter().cloned().chain([fate]).collect(), count as f64)
        })
    });
    let latencies = rows().filter_map(|(labels, row)| Some((labels.clone(), row.latency?.as_secs_f64())));
    vec![
        gauge(
            "pktmine_handler_up",
            "1 if the handler takes announcements, 0 while it is left alone for its trouble.",
            each(|row| flag(row.trouble.is_none())),
        ),
        counter(
            "pktmine_handler_announcements_total",
            "Announcements by what the handler made of them; begins anew when the pool takes the handler off its list.",
            fates.collect(),
        ),
        gauge(
            "pktmine_handler_queued_announcements",
            "Announcements that wait for the handler.",
            each(|row| row.queued as f64),
        ),
        gauge("pktmine_handler_queued_bytes", "Their bytes.", each(|row| row.queued_bytes() as f64)),
        gauge(
            "pktmine_handler_in_flight_announcements",
            "Announcements posted to the handler and not answered yet.",
            each(|row| row.in_flight as f64),
        ),
        gauge(
            "pktmine_handler_open_posts",
            "Posts that it has not answered yet.",
            each(|row| row.posts as f64),
        ),
        gauge("pktmine_handler_latency_seconds", "How long its last answer took.", latencies.collect()),
    ]
}

/// The counts of a pool's account that nothing is taken off again.
fn fates(account: &Account) -> [(&'static str, f64); 7] {
    [
        ("accepted", account.accepted as f64),
        ("duplicate", account.duplicate as f64),
        ("rejected", account.rejected as f64),
        ("stale", account.stale as f64),
        ("overflow", account.overflow as f64),
        ("unknown", account.unknown as f64),
        ("unwanted", account.unwanted as f64),
    ]
}

/// Addresses so that they differ: two samples of the same labels would have Prometheus refuse them all.
fn distinct<'a>(addresses: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = BTreeMap::<&str, usize>::new();
    addresses
        .map(|address| {
            let count = seen.entry(address).or_default();
            *count += 1;
            if *count == 1 { address.to_owned() } else { format!("{address} ({count})") }
        })
        .collect()
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, seconds)
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn counter(name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) -> Family {
    Family { name, kind: Kind::Counter, help, samples }
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) -> Family {
    Family { name, kind: Kind::Gauge, help, samples }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::{
        report::snapshot::tests::{limited, reloaded},
        upload::{Cause, Fate},
    };

    fn busy() -> Snapshot {
        let handler = |url: &str| HandlerRow {
            url: url.into(),
            queued: 3,
            accepted: 2000,
            latency: Some(Duration::from_millis(12)),
            ..HandlerRow::default()
        };
        let account = Account {
            pool: "http://pool.example/".into(),
            found: 2810,
            accepted: 2000,
            stale: 7,
            queued: 803,
            causes: [((Fate::Stale, Cause::ParentTooOld), 7)].into(),
            handlers: vec![handler("http://ann.example/submit"), handler("http://ann.example/submit")],
            ..Account::default()
        };
        limited(vec![account.clone(), account])
    }

    /// Reads the text as strictly as its format is described.
    fn parse(text: &str) -> BTreeMap<String, (String, Vec<(String, f64)>)> {
        assert!(text.ends_with('\n'), "the last line ends, too");
        let is_name = |name: &str| {
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        };
        let mut families = BTreeMap::new();
        let mut lines = text.lines().peekable();
        while let Some(help) = lines.next() {
            let (name, help) =
                help.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect("HELP first");
            assert!(is_name(name) && name.starts_with("pktmine_") && help.ends_with('.'), "{name}: {help}");
            let kind = lines
                .next()
                .and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")))
                .expect("TYPE next");
            let mut samples = Vec::new();
            let mut seen = BTreeSet::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let rest = line.strip_prefix(name).expect("samples follow their family's head");
                let (labels, value) = rest.rsplit_once(' ').expect("a value");
                assert!(seen.insert(labels), "twice: {line}");
                if !labels.is_empty() {
                    let mut inner =
                        labels.strip_prefix('{').and_then(|l| l.strip_suffix('}')).expect("braces");
                    while !inner.is_empty() {
                        let (label, rest) = inner.split_once("=\"").expect("a label and its value");
                        assert!(is_name(label), "{line}");
                        let mut characters = rest.char_indices();
                        let end = loop {
                            match characters.next().expect("the value ends") {
                                (_, '\\') => {
                                    let next = characters.next().expect("something is escaped").1;
                                    assert!(matches!(next, '\\' | '"' | 'n'), "{line}");
                                }
                                (at, '"') => break at,
                                _ => {}
                            }
                        };
                        inner = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
                    }
                }
                let value: f64 = value.parse().expect("a number");
                assert!(value.is_finite() && value >= 0.0, "{line}");
                samples.push((labels.to_owned(), value));
            }
            assert!(matches!(kind, "counter" | "gauge"), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(
                families.insert(name.to_owned(), (kind.to_owned(), samples)).is_none(),
                "{name} comes twice"
            );
        }
        families
    }

    #[test]
    fn what_prometheus_reads_is_well_formed_and_says_what_the_snapshot_says() {
        let usage = Usage { resident: 1 << 20, cpu_seconds: Some(0.5), ..Usage::default() };
        let families = parse(&render(&busy(), &usage));
        let value = |name: &str, labels: &str| {
            let (_, samples) = &families[name];
            let found = samples.iter().find(|(l, _)| l == labels);
            found.unwrap_or_else(|| panic!("{name}{labels}: {samples:?}")).1
        };
        assert_eq!(value("pktmine_announcements_found_total", "{backend=\"cpu\"}"), 2810.0);
        assert_eq!(value("pktmine_encryptions_per_second", "{backend=\"cpu\",window=\"60s\"}"), 35_900.0);
        assert_eq!(
            value("pktmine_pool_announcements_total", "{pool=\"http://pool.example/ (2)\",fate=\"stale\"}"),
            7.0
        );
        let handler = "{pool=\"http://pool.example/\",handler=\"http://ann.example/submit (2)\"}";
        assert_eq!(value("pktmine_handler_queued_bytes", handler), 3072.0);
        assert_eq!(value("pktmine_handler_latency_seconds", handler), 0.012);
        assert_eq!(value("pktmine_phase", "{phase=\"mining\"}"), 1.0);
        assert_eq!(value("pktmine_start_timestamp_seconds", ""), 1_800_000_000.0 - 65.0);
        assert_eq!(value("pktmine_job_start_timestamp_seconds", ""), 1_800_000_000.0 - 42.0);
        assert_eq!(value("pktmine_own_pool", ""), 0.0);
        assert_eq!(value("pktmine_cpu_seconds_total", ""), 0.5);
        assert_eq!(value("pktmine_job_pool_difficulty", ""), 16.0);
        assert_eq!(value("pktmine_job_difficulty_reason", "{reason=\"max-upload\"}"), 1.0);
        assert_eq!(value("pktmine_job_difficulty_reason", "{reason=\"pool\"}"), 0.0);
        assert_eq!(value("pktmine_upload_limit_bytes_per_second", ""), 312_500.0);
    }

    #[test]
    fn difficulties_are_what_people_call_them() {
        let mut snapshot = busy();
        let job = snapshot.job.as_mut().expect("something is mined");
        job.asked = Some(kernels::WorkBits::new(0x2002_0000).expect("valid work bits"));
        let text = render(&snapshot, &Usage::default());
        assert!(text.contains("\npktmine_job_pool_difficulty 128\n"), "{text}");
    }

    #[test]
    fn moments_are_told_alike_in_each_snapshot_however_the_clocks_run() {
        let told = |snapshot: &Snapshot| {
            let text = render(snapshot, &Usage::default());
            let is_one = |line: &&str| line.contains("start_timestamp_seconds ") && !line.starts_with('#');
            text.lines().filter(is_one).map(str::to_owned).collect::<Vec<_>>()
        };
        let (mut early, mut late) = (busy(), busy());
        early.started += Duration::from_micros(1234);
        late.started = early.started;
        late.now += Duration::from_nanos(1_000_000_017);
        late.time += Duration::from_micros(1_000_311);
        assert_eq!(told(&early), told(&late));
        assert_eq!(told(&early)[0], "pktmine_start_timestamp_seconds 1799999935.001");
        assert_eq!(told(&early).len(), 3);
    }

    #[test]
    fn of_a_pool_that_was_taken_away_there_are_counters_alone() {
        let mut snapshot = reloaded(busy().ledger.pools);
        snapshot.ledger.pools[1].queued = 0;
        snapshot.ledger.pools[1].in_flight = 5;
        let removed = "pool=\"http://pool.example/ (2)\"";
        let is_counter = |kind: &str| kind == "counter";
        let families = parse(&render(&snapshot, &Usage::default()));
        let before = parse(&render(&busy(), &Usage::default()));
        for (name, (kind, samples)) in &families {
            let of_it = |samples: &[(String, f64)]| {
                samples.iter().filter(|(labels, _)| labels.contains(removed)).cloned().collect::<Vec<_>>()
            };
            match name.as_str() {
                "pktmine_pool_in_flight_announcements" => assert_eq!(of_it(samples)[0].1, 5.0),
                _ if is_counter(kind) => assert_eq!(of_it(samples), of_it(&before[name].1), "{name}"),
                _ => assert_eq!(of_it(samples), [], "{name}"),
            }
        }
        assert!(families["pktmine_pool_up"].1.len() == 1 && before["pktmine_pool_up"].1.len() == 2);
    }

    #[test]
    fn a_loss_is_an_increase_of_a_series_that_was_there_before_for_each_fate() {
        let fresh = limited(vec![Account { pool: "http://pool.example/".into(), ..Account::default() }]);
        let families = parse(&render(&fresh, &Usage::default()));
        let (_, samples) = &families["pktmine_pool_announcements_total"];
        for fate in ["accepted", "duplicate", "rejected", "stale", "overflow", "unknown", "unwanted"] {
            let series = (format!("{{pool=\"http://pool.example/\",fate=\"{fate}\"}}"), 0.0);
            assert!(samples.contains(&series), "{series:?}: {samples:?}");
        }
    }

    #[test]
    fn labels_may_hold_anything() {
        let mut snapshot = busy();
        snapshot.backends[0].name = "a \"b\" \\ c\nd, e=\"f\"} 7".into();
        let families = parse(&render(&snapshot, &Usage::default()));
        let labels = &families["pktmine_rounds_total"].1[0].0;
        assert_eq!(labels, "{backend=\"a \\\"b\\\" \\\\ c\\nd, e=\\\"f\\\"} 7\"}");
    }

    #[test]
    fn the_documentation_has_the_metrics_that_there_are() {
        let documented: BTreeSet<_> = include_str!("../../docs/api.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `pktmine_")?.split_once('`'))
            .map(|(name, rest)| {
                (format!("pktmine_{name}"), rest.split('|').nth(1).unwrap_or_default().trim().to_owned())
            })
            .collect();
        let labels = |family: &Family| {
            let names =
                family.samples.first().map(|(labels, _)| labels.iter().map(|(name, _)| format!("`{name}`")));
            names.map(|names| names.collect::<Vec<_>>().join(", ")).unwrap_or_default()
        };
        let usage = Usage { cpu_seconds: Some(0.5), ..Usage::default() };
        let families = families(&busy(), &usage);
        assert!(families.iter().all(|family| !family.samples.is_empty()), "the test shows each of them");
        let there: BTreeSet<_> =
            families.iter().map(|family| (family.name.to_owned(), labels(family))).collect();
        assert_eq!(documented, there);
    }
}
