//! The pool as a miner sees it: over HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot get what it needs has failed")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use kernels::{Announcement, Hash32, Header, Invalid, work::EASIEST};
use serde_json::{Value, json};

use super::*;
use crate::protocol::{AnnsResult, Answer};

const TIP: u32 = 1000;
/// What the tests mine on unless they say otherwise.
const PARENT: u32 = 997;
const KEY: [u8; 32] = [5; 32];

/// The verdict of the tests' validator stands in the announcement.
fn by_code(announcement: &Announcement, _: &Hash32) -> Result<(), Invalid> {
    match announcement.as_bytes()[1000] {
        0 => Ok(()),
        1 => Err(Invalid::Inval),
        2 => Err(Invalid::Item4Prefix),
        3 => Err(Invalid::InsufficientWork),
        _ => Err(Invalid::SoftNonceHigh),
    }
}

fn settings() -> Settings {
    Settings {
        first_height: TIP,
        validator: ValidatorFactory::new(|| by_code),
        validators: 2,
        ..Settings::default()
    }
}

fn start(settings: Settings) -> LocalPool {
    LocalPool::start(settings).unwrap()
}

/// One on some ports in a row that happen to be free, and the first of them. Another program may be quicker, so there is
/// more than one try.
fn start_on_ports(settings: &Settings) -> (LocalPool, u16) {
    let start = |port| {
        let listen = (Ipv4Addr::LOCALHOST, port).into();
        Some((LocalPool::start(Settings { listen, ..settings.clone() }).ok()?, port))
    };
    (0..20).find_map(|_| start(fastrand::u16(20_000..30_000))).unwrap()
}

/// Announcements that differ from each other, from those of other calls, and that `change` has changed.
fn announcements(count: usize, change: impl Fn(&mut Header)) -> Vec<u8> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut body = Vec::new();
    for _ in 0..count {
        let mut header = Header::new(7, WorkBits::at_least(128), PARENT, [0; 32]);
        change(&mut header);
        let mut bytes = [0; Announcement::LEN];
        bytes[..Header::LEN].copy_from_slice(&header.to_bytes());
        bytes[500..508].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        body.extend_from_slice(&bytes);
    }
    body
}

fn plain(count: usize) -> Vec<u8> {
    announcements(count, |_| {})
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into()
}

/// Headers that a miner sends, for a parent.
fn usual(parent: u32) -> Vec<(&'static str, String)> {
    vec![
        ("x-pc-payto", "me".into()),
        ("x-pc-sver", "1".into()),
        ("x-pc-annver", "1".into()),
        ("x-pc-worknum", (parent + 1).to_string()),
    ]
}

/// Status and text of an answer, if there is one.
type Seen = Result<(u16, String), ureq::Error>;

fn try_post(url: &Url, headers: &[(&'static str, String)], body: &[u8]) -> Seen {
    let mut request = agent().post(url.as_str());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let mut response = request.send(body)?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

fn post_with(url: &Url, headers: &[(&'static str, String)], body: &[u8]) -> (u16, String) {
    try_post(url, headers, body).unwrap()
}

fn post(pool: &LocalPool, parent: u32, body: &[u8]) -> (u16, Answer) {
    let (status, text) = post_with(&pool.handler_urls()[0], &usual(parent), body);
    (status, serde_json::from_str(&text).unwrap())
}

/// Accepted and duplicates of a batch that must be taken.
fn taken(pool: &LocalPool, body: &[u8]) -> (u32, u32) {
    let (status, answer) = post(pool, PARENT, body);
    assert_eq!((status, &answer.error), (200, &vec![]));
    let result = answer.result.unwrap();
    (result.accepted, result.dup)
}

/// The error of a batch that must be refused.
fn refused(pool: &LocalPool, parent: u32, body: &[u8]) -> String {
    let (status, answer) = post(pool, parent, body);
    assert_eq!((status, answer.result, answer.warn.len()), (400, None, 0));
    assert_eq!(answer.error.len(), 1);
    answer.error[0].clone()
}

fn json_of(response: &mut ureq::http::Response<ureq::Body>) -> Value {
    serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
}

fn try_get(pool: &LocalPool, path: &str) -> Result<(u16, Value), ureq::Error> {
    let mut response = agent().get(pool.url().join(path).unwrap().as_str()).call()?;
    let text = response.body_mut().with_config().limit(100 << 20).read_to_string()?;
    Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

fn get(pool: &LocalPool, path: &str) -> Value {
    let (status, value) = try_get(pool, path).unwrap();
    assert_eq!(status, 200, "{path}: {value}");
    value
}

/// Sends bytes as they are and reads until the server closes, which it must do within some seconds.
fn raw(url: &Url, bytes: &[u8]) -> String {
    let mut stream = connect(url).unwrap();
    stream.write_all(bytes).unwrap();
    read_until_closed(&mut stream)
}

fn read_until_closed(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the server does not close the connection: {error}"),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn connect(url: &Url) -> io::Result<TcpStream> {
    TcpStream::connect(url.socket_addrs(|| None).unwrap()[0])
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what} does not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A gate that validators stand at until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Gate {
    fn state(&self) -> MutexGuard<'_, (usize, bool)> {
        self.0.0.lock().unwrap()
    }

    fn settings(&self) -> Settings {
        let gate = self.clone();
        let validator = ValidatorFactory::new(move || {
            let gate = gate.clone();
            move |_: &Announcement, _: &Hash32| {
                let mut state = gate.state();
                state.0 += 1;
                while !state.1 {
                    state = gate.0.1.wait(state).unwrap();
                }
                Ok(())
            }
        });
        Settings { validator, ..settings() }
    }

    fn wait_for(&self, waiting: usize) {
        wait_until("validation", || self.state().0 >= waiting);
    }

    fn open(&self) {
        self.state().1 = true;
        self.0.1.notify_all();
    }
}

// Master

#[test]
fn config_json_has_what_the_protocol_says() {
    let pool = start(Settings { handlers: 2, ..settings() });
    let mut response = agent().get(pool.url().join("config.json").unwrap().as_str()).call().unwrap();
    assert_eq!(response.headers()["cache-control"], "max-age=8, stale-while-revalidate=2");
    assert_eq!(response.headers()["content-type"], "application/json");
    let config = json_of(&mut response);
    let master = pool.url().to_string().trim_end_matches('/').to_owned();
    let handlers: Vec<String> = pool.handler_urls().iter().map(Url::to_string).collect();
    let tip = pool.stats().tip_hash;
    assert_eq!(
        config,
        json!({
            "tipHash": tip, "currentHeight": TIP + 1, "masterUrl": master, "paymakerUrl": master,
            "submitAnnUrls": handlers, "downloadAnnUrls": [], "submitBlockUrls": [], "version": 1,
            "softVersion": 1, "annVersions": [1], "mineOldAnns": 3, "annTarget": 0x2002_0000,
        })
    );
}

#[test]
fn blocks_can_be_walked_back_from_the_tip_and_cached_for_ever() {
    let pool = start(Settings { sigkey: Some(KEY), blkinfo_url: true, ..settings() });
    let config = get(&pool, "config.json");
    let mut hash = config["tipHash"].as_str().unwrap().to_owned();
    let base = config["blkinfoUrl"].as_str().unwrap();
    for height in (TIP - 20..=TIP).rev() {
        let path = format!("blkinfo_{hash}.json");
        let mut response = agent().get(format!("{base}/{path}")).call().unwrap();
        assert_eq!(response.headers()["cache-control"], "public, max-age=31536000, immutable");
        let info = json_of(&mut response);
        assert_eq!(info, get(&pool, &path), "the master itself has them as well");
        let header = &info["header"];
        assert_eq!((&header["hash"], &header["height"]), (&json!(hash), &json!(height)));
        assert_eq!(info["sigKey"], json!(hex::encode(KEY)));
        for key in ["version", "versionHex", "merkleroot", "time", "nonce", "bits", "difficulty"] {
            assert!(!header[key].is_null(), "{key}");
        }
        hash = header["previousblockhash"].as_str().unwrap().to_owned();
    }
    let unsigned = start(settings());
    let tip = get(&unsigned, "config.json")["tipHash"].as_str().unwrap().to_owned();
    assert_eq!(get(&unsigned, &format!("blkinfo_{tip}.json"))["sigKey"], Value::Null);
}

#[test]
fn a_master_says_404_and_405() {
    let pool = start(settings());
    let zeros = format!("blkinfo_{}.json", "00".repeat(32));
    for path in ["", "submit", "blkinfo_12.json", &zeros, "control"] {
        assert_eq!(try_get(&pool, path).unwrap().0, 404, "{path}");
    }
    for path in ["config.json", "stats", &zeros] {
        assert_eq!(post_with(&pool.url().join(path).unwrap(), &[], b"x").0, 405, "{path}");
    }
}

#[test]
fn a_master_answers_head_like_get_without_the_body() {
    let pool = start(settings());
    let tip = format!("blkinfo_{}.json", pool.stats().tip_hash);
    for path in ["config.json", "stats", &tip] {
        let head = agent().head(pool.url().join(path).unwrap().as_str()).call().unwrap();
        assert_eq!(
            (head.status().as_u16(), &head.headers()["content-type"]),
            (200, &"application/json".parse().unwrap()),
            "{path}"
        );
        assert!(head.headers()["content-length"].to_str().unwrap().parse::<u64>().unwrap() > 100);
    }
    let seen = raw(&pool.url(), b"HEAD /config.json HTTP/1.1\r\nhost: pool\r\nconnection: close\r\n\r\n");
    assert!(seen.starts_with("HTTP/1.1 200") && seen.ends_with("\r\n\r\n"), "{seen}");
}

#[test]
fn what_a_master_tells_can_be_changed() {
    let pool = start(Settings { ready: false, ..settings() });
    assert_eq!(get(&pool, "config.json")["tipHash"], Value::Null);
    assert_eq!(refused(&pool, PARENT, &plain(1)), "server not ready");
    pool.set_ready(true);
    pool.set_mine_old(2);
    pool.set_work_bits(WorkBits::at_least(4096));
    pool.new_block();
    let config = get(&pool, "config.json");
    assert_eq!(config["currentHeight"], TIP + 2);
    assert_eq!((&config["mineOldAnns"], &config["annTarget"]), (&json!(2), &json!(0x1f0f_ffff)));
    assert_eq!(refused(&pool, PARENT, &plain(1)), "not enough work");
    pool.announce_work_bits(None);
    assert_eq!(get(&pool, "config.json").get("annTarget"), None);
}

#[test]
fn a_reorganisation_changes_the_tip_and_what_announcements_are_validated_against() {
    let parents = Arc::new(Mutex::new(Vec::new()));
    let validator = ValidatorFactory::new({
        let parents = parents.clone();
        move || {
            let parents = parents.clone();
            move |_: &Announcement, parent: &Hash32| {
                parents.lock().unwrap().push(BlockHash(*parent).to_string());
                Ok(())
            }
        }
    });
    let pool = start(Settings { validator, ..settings() });
    let on_tip = announcements(1, |header| header.parent_block_height = TIP);
    let before = pool.stats().tip_hash;
    assert_eq!(post(&pool, TIP, &on_tip).1.result.unwrap().accepted, 1);
    pool.reorganise(2).unwrap();
    let after = get(&pool, "config.json")["tipHash"].as_str().unwrap().to_owned();
    assert_ne!(before, after);
    assert_eq!(post(&pool, TIP, &on_tip).1.result.unwrap().accepted, 1, "another parent, another table");
    assert_eq!(*parents.lock().unwrap(), [before, after]);
    pool.reorganise_lower(2, 1).unwrap();
    assert_eq!(get(&pool, "config.json")["currentHeight"], TIP);
    assert!(refused(&pool, TIP, &on_tip).starts_with("block number out of range"));
    pool.reorganise(100_000).unwrap_err();
}

#[test]
fn blocks_come_by_themselves_if_asked_for() {
    let pool = start(Settings { block_time: Some(Duration::from_millis(20)), ..settings() });
    wait_until("a block", || pool.stats().tip_height >= TIP + 2);
}

// Ann handler: rows of the table

#[test]
fn a_fine_batch_is_taken_once() {
    let pool = start(settings());
    let body = plain(5);
    let (status, answer) = post(&pool, PARENT, &body);
    let result = answer.result.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(now as u64 - result.time < 10_000);
    let event_id = hex::encode(&kernels::primitives::b32(&[&body])[..16]);
    let expected = AnnsResult {
        kind: "anns".into(),
        accepted: 5,
        dup: 0,
        inval: 0,
        bad_hash: 0,
        runt: 0,
        internal_err: 0,
        pay_to: "me".into(),
        unsigned: 5,
        total_len: 0,
        target: WorkBits::at_least(128).get(),
        time: result.time,
        event_id,
    };
    assert_eq!((status, result, answer.error, answer.warn), (200, expected, vec![], vec![]));
    assert_eq!(taken(&pool, &body), (0, 5));
    assert_eq!(taken(&pool, &[&body[..2048], &plain(1)].concat()), (1, 2));
    let twice = plain(1);
    assert_eq!(taken(&pool, &[&twice[..], &twice, &twice].concat()), (1, 2));
    assert_eq!(taken(&pool, &[]), (0, 0));
}

#[test]
fn every_refusal_of_the_table_is_told() {
    let pool = start(Settings { handlers: 2, ..settings() });
    let keyed = start(Settings { sigkey: Some(KEY), ann_versions: vec![2, 3], ..settings() });
    let easy = || WorkBits::new(EASIEST).unwrap();
    let one = plain(1);
    assert_eq!(refused(&pool, PARENT, &one[1..]), "size not an even multiple of 1024");
    assert_eq!(refused(&pool, PARENT, &announcements(1, |h| h.work_bits = easy())), "not enough work");
    let signed = announcements(1, |header| header.signing_key = [9; 32]);
    assert_eq!(refused(&pool, PARENT, &signed), "unexpected signed ann");
    assert_eq!(refused(&keyed, PARENT, &signed), "wrong signing key");
    let right = announcements(1, |header| header.signing_key = KEY);
    assert_eq!(refused(&keyed, PARENT, &right), "unsupported ann version");
    assert_eq!(refused(&keyed, 996, &one), "wrong parent block height, want 996 got 997");
    assert_eq!(refused(&pool, 994, &one), "block number out of range, expect 1000 got 994");
    assert_eq!(refused(&pool, 1001, &one), "block number out of range, expect 995 got 1001");
    let content = announcements(1, |header| header.content_hash = [1; 32]);
    assert_eq!(refused(&pool, PARENT, &content), "submit elsewhere");
}

#[test]
fn a_batch_with_one_bad_announcement_is_refused_and_its_good_ones_may_come_again() {
    let pool = start(settings());
    let good = plain(3);
    for (code, text) in [(1, "INVAL"), (2, "INVAL_ITEM4"), (3, "INSUF_POW"), (4, "SOFT_NONCE_HIGH")] {
        let mut bad = plain(1);
        bad[1000] = code;
        let mut wrong_height = announcements(1, |header| header.parent_block_height = 996);
        wrong_height[1000] = 1;
        let body = [&good[..], &bad, &wrong_height].concat();
        assert_eq!(refused(&pool, PARENT, &body), format!("check_ann() -> {text}"));
    }
    assert_eq!(taken(&pool, &good), (3, 0));
    let stats = pool.stats();
    assert_eq!((stats.total.accepted, stats.total.duplicates, stats.total.batches), (3, 0, 1));
    assert_eq!(stats.total.refused["check_ann() -> INVAL"], Refused { batches: 1, announcements: 5 });
}

#[test]
fn a_handler_takes_only_what_is_its_own() {
    let pool = start(Settings { handlers: 3, ..settings() });
    let body = plain(30);
    let mut accepted = [0; 3];
    for bytes in body.as_chunks::<{ Announcement::LEN }>().0 {
        let hash = Announcement::from_bytes(*bytes).hash();
        let owner = (kernels::announcement::short_hash(&hash) % 3) as usize;
        for (index, url) in pool.handler_urls().iter().enumerate() {
            let (status, text) = post_with(url, &usual(PARENT), bytes);
            assert_eq!(status, if index == owner { 200 } else { 400 }, "{text}");
            assert!(index == owner || text.contains("submit elsewhere"));
        }
        accepted[owner] += 1;
    }
    let stats = pool.stats();
    let counted: Vec<u64> = stats.handlers.iter().map(|handler| handler.counts.accepted).collect();
    assert_eq!((counted, stats.total.accepted), (accepted.to_vec(), 30));
}

#[test]
fn the_payment_address_is_checked() {
    let pool = start(settings());
    let url = &pool.handler_urls()[0];
    let error = |pay_to: &str| {
        let mut headers = usual(PARENT);
        headers[0].1 = pay_to.into();
        let (status, text) = post_with(url, &headers, &plain(1));
        (status, serde_json::from_str::<Answer>(&text).unwrap().error)
    };
    assert_eq!(error("not_me"), (400, vec!["invalid payto not_me".into()]));
    assert_eq!(error(&"a".repeat(64)), (400, vec!["payto too long".into()]));
    assert_eq!(error(&"a".repeat(63)), (200, vec![]));
    let stats = pool.stats();
    assert_eq!(stats.pay_to.keys().collect::<Vec<_>>(), [&"a".repeat(63)]);
    assert_eq!(stats.total.refused["invalid payto"].announcements, 1);
}

#[test]
fn missing_and_malformed_headers_are_named() {
    let pool = start(settings());
    let url = &pool.handler_urls()[0];
    for index in 0..4 {
        let mut headers = usual(PARENT);
        let (name, _) = headers.remove(index);
        let text = format!("Missing request header \"{name}\"");
        assert_eq!(post_with(url, &headers, &plain(1)), (400, text));
        if name != "x-pc-payto" {
            headers.push((name, "one".into()));
            let text = format!("Invalid request header \"{name}\"");
            assert_eq!(post_with(url, &headers, &plain(1)), (400, text));
        }
    }
    let refused = Refused { batches: 7, announcements: 7 };
    assert_eq!(pool.stats().total.refused["malformed request"], refused);
}

#[test]
fn a_handler_says_404_and_405() {
    let pool = start(settings());
    let url = &pool.handler_urls()[0];
    assert_eq!(post_with(&url.join("/").unwrap(), &usual(PARENT), &plain(1)).0, 404);
    assert_eq!(post_with(&url.join("/config.json").unwrap(), &[], b"").0, 404);
    let response = agent().get(url.as_str()).call().unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &"POST".parse().unwrap()));
    // Whoever sends much sees the answer, too.
    let full = plain(1024);
    for _ in 0..20 {
        assert_eq!(post_with(&url.join("/wrong").unwrap(), &usual(PARENT), &full).0, 404);
        assert_eq!(post_with(&pool.url().join("/config.json").unwrap(), &[], &full).0, 405);
    }
}

#[test]
fn a_chunked_body_is_as_good_as_one_with_a_length() {
    let pool = start(settings());
    let body = plain(2);
    let mut request = agent().post(pool.handler_urls()[0].as_str());
    for (name, value) in usual(PARENT) {
        request = request.header(name, value);
    }
    let response = request.send(ureq::SendBody::from_reader(&mut &body[..])).unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(taken(&pool, &body), (0, 2));
}

#[test]
fn a_connection_is_kept() {
    let pool = start(settings());
    let url = &pool.handler_urls()[0];
    let agent = agent();
    for _ in 0..20 {
        let mut request = agent.post(url.as_str());
        for (name, value) in usual(PARENT) {
            request = request.header(name, value);
        }
        let mut response = request.send(&plain(1)[..]).unwrap();
        response.body_mut().read_to_string().unwrap();
    }
    assert_eq!(pool.stats().connections, 1);
}

#[test]
fn a_full_queue_is_overloaded_and_recovers() {
    let gate = Gate::default();
    let pool = start(Settings { queue_announcements: 3, ..gate.settings() });
    thread::scope(|scope| {
        let first = scope.spawn(|| taken(&pool, &plain(2)));
        gate.wait_for(1);
        let (status, text) = post_with(&pool.handler_urls()[0], &usual(PARENT), &plain(2));
        assert_eq!((status, &text[..]), (503, r#"{"warn":[],"error":["overloaded"],"result":null}"#));
        assert_eq!(pool.stats().queued, 2);
        gate.open();
        assert_eq!(first.join().unwrap(), (2, 0));
    });
    assert_eq!(taken(&pool, &plain(3)), (3, 0));
    let stats = pool.stats();
    let overloaded = Refused { batches: 1, announcements: 2 };
    assert_eq!((stats.queued, stats.total.refused["overloaded"]), (0, overloaded));
}

#[test]
fn two_copies_of_a_batch_at_once_are_taken_once() {
    let gate = Gate::default();
    let pool = start(gate.settings());
    let body = announcements(8, |_| {});
    let sum = thread::scope(|scope| {
        let copies = [(); 4].map(|()| scope.spawn(|| taken(&pool, &body)));
        wait_until("queueing", || pool.stats().queued == 32);
        gate.open();
        copies.map(|copy| copy.join().unwrap()).iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    });
    assert_eq!(sum, (8, 24));
}

#[test]
fn a_parent_that_leaves_the_window_during_validation_is_out_of_range() {
    for change in [
        |pool: &LocalPool| (0..6).for_each(|_| pool.new_block()),
        |pool: &LocalPool| pool.reorganise(4).unwrap(),
    ] {
        let gate = Gate::default();
        let pool = start(gate.settings());
        thread::scope(|scope| {
            let batch = scope.spawn(|| refused(&pool, PARENT, &plain(1)));
            gate.wait_for(1);
            change(&pool);
            gate.open();
            assert_eq!(batch.join().unwrap(), "block number out of range");
        });
        assert_eq!(pool.stats().total.accepted, 0);
    }
}

#[test]
fn sampling_validates_some_of_every_batch_and_is_told() {
    let validate: Validate = "sample:1000000".parse().unwrap();
    let pool = start(Settings { validate, ..settings() });
    for _ in 0..10 {
        taken(&pool, &plain(10));
    }
    let validation = get(&pool, "stats")["validation"].clone();
    assert_eq!(validation["mode"], "sample:1000000");
    assert!((10..20).contains(&validation["validated"].as_u64().unwrap()), "{validation}");
    let error = "some".parse::<Validate>().unwrap_err().to_string();
    assert!(error.contains("sample:N"), "{error}");
    "sample:0".parse::<Validate>().unwrap_err();
}

#[test]
fn a_real_validator_judges_the_known_announcements() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/validation.json")).unwrap();
    let mut judged = BTreeMap::<u64, u32>::new();
    for vector in vectors["validation"].as_array().unwrap() {
        let code = vector["code"].as_u64().unwrap();
        let body = hex::decode(vector["announcement"].as_str().unwrap()).unwrap();
        let announcement = Announcement::from_bytes(body[..].try_into().unwrap());
        let height = announcement.parent_block_height();
        let seldom = *judged.get(&code).unwrap_or(&0) < 2;
        let plain = announcement.version() == 1
            && announcement.work_bits() <= EASIEST
            && (6..1 << 29).contains(&height)
            && announcement.as_bytes()[24..88].iter().all(|byte| *byte == 0);
        if !seldom || !plain {
            continue;
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(vector["parent_block_hash"].as_str().unwrap(), &mut hash).unwrap();
        let pool = start(Settings {
            first_height: height + 3,
            fixed_blocks: BTreeMap::from([(height, BlockHash(hash))]),
            work_bits: WorkBits::new(EASIEST).unwrap(),
            validators: 1,
            ..Settings::default()
        });
        let (_, answer) = post(&pool, height, &body);
        let expected = ["", "INVAL", "INVAL_ITEM4", "INSUF_POW", "SOFT_NONCE_HIGH"][code as usize];
        let expected = if code == 0 { vec![] } else { vec![format!("check_ann() -> {expected}")] };
        assert_eq!(answer.error, expected, "{}", vector["case"]);
        *judged.entry(code).or_default() += 1;
    }
    assert!(judged.contains_key(&0) && judged.len() >= 4, "{judged:?}");
}

// Faults

#[test]
fn faults_of_handlers_happen_before_or_after_the_work() {
    let pool = start(settings());
    let url = &pool.handler_urls()[0];
    // What the miner sees, and whether the batch was taken when it says `after`.
    type Row = (&'static str, fn(&Seen) -> bool, bool);
    let rows: [Row; 9] = [
        ("503", |seen| matches!(seen, Ok((503, text)) if text.contains("overloaded")), true),
        ("500", |seen| matches!(seen, Ok((500, _))), true),
        ("close-request", |seen| seen.is_err(), false),
        ("close-reply", |seen| seen.is_err(), true),
        (
            "truncated",
            |seen| matches!(seen, Ok((200, text)) if text.starts_with("{\"warn\":") && !text.ends_with('}')),
            true,
        ),
        ("garbage", |seen| matches!(seen, Ok((200, text)) if text.starts_with("<!DOCTYPE")), true),
        ("hang=100ms", |seen| seen.is_err(), true),
        ("redirect", |seen| matches!(seen, Ok((307, _))), true),
        ("delay=100ms", |seen| matches!(seen, Ok((200, _))), true),
    ];
    for (kind, is_seen, works) in rows {
        for when in ["before", "after"] {
            let body = plain(20);
            let before = pool.stats().total.accepted;
            pool.inject(format!("{kind}:1:{when}").parse().unwrap());
            let started = Instant::now();
            let seen = try_post(url, &usual(PARENT), &body);
            assert!(is_seen(&seen), "{kind} {when}: {seen:?}");
            assert!(!kind.contains("=100ms") || started.elapsed() >= Duration::from_millis(100));
            let expected = works && (when == "after" || kind.starts_with("delay"));
            let recorded = pool.stats().total.accepted - before;
            assert_eq!(recorded, if expected { 20 } else { 0 }, "{kind} {when}");
            let again = taken(&pool, &body);
            assert_eq!(again, if expected { (0, 20) } else { (20, 0) }, "{kind} {when}: it ends");
        }
    }
    assert_eq!(pool.stats().faulted["500"], 2);
}

#[test]
fn faults_of_the_master_happen_where_they_are_asked_for() {
    let pool = start(settings());
    let blkinfo = format!("blkinfo_{}.json", pool.stats().tip_hash);
    pool.inject("500:config".parse().unwrap());
    assert_eq!(try_get(&pool, "config.json").unwrap().0, 500);
    assert_eq!(try_get(&pool, &blkinfo).unwrap().0, 200);
    pool.clear_faults();
    for (kind, path) in [("close-request", "config.json"), ("close-reply", &blkinfo), ("hang=50ms", &blkinfo)]
    {
        pool.inject(format!("{kind}:master:1").parse().unwrap());
        try_get(&pool, path).unwrap_err();
    }
    pool.inject("truncated:master:1".parse().unwrap());
    assert!(matches!(try_get(&pool, "config.json").unwrap(), (200, Value::String(_))));
    pool.inject("huge:blkinfo:1".parse().unwrap());
    let (status, huge) = try_get(&pool, &blkinfo).unwrap();
    assert_eq!((status, huge["warn"][0].as_str().unwrap().len()), (200, 64 << 20));
    pool.inject("redirect:config:1".parse().unwrap());
    let response = agent().get(pool.url().join("config.json").unwrap().as_str()).call().unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!((response.status().as_u16(), &location[..]), (307, "/redirected/config.json"));
    assert_eq!(get(&pool, &location)["currentHeight"], TIP + 1);
    assert_eq!(get(&pool, "stats")["faults"], json!([]));
}

#[test]
fn a_reply_that_breaks_off_has_begun() {
    let pool = start(settings());
    pool.inject("close-reply:config".parse().unwrap());
    let seen = raw(&pool.url(), b"GET /config.json HTTP/1.1\r\nhost: pool\r\n\r\n");
    assert!(seen.starts_with("HTTP/1.1 200 OK"), "{seen}");
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length"), "{head}");
    assert!(body.starts_with("{\"tipHash\"") && !body.ends_with('}'), "{body}");
}

#[test]
fn faults_can_be_there_from_the_start() {
    let pool = start(Settings { faults: vec!["503:all:1".parse().unwrap()], ..settings() });
    assert_eq!(try_get(&pool, "config.json").unwrap().0, 503);
    get(&pool, "config.json");
}

#[test]
fn the_chain_is_reorganised_again_and_again_if_asked_for() {
    let pool = start(Settings { faults: vec!["reorganise=2:20ms".parse().unwrap()], ..settings() });
    wait_until("reorganising twice", || pool.stats().faulted.get("reorganise") >= Some(&2));
    pool.clear_faults();
    let before = pool.stats().tip_hash;
    pool.inject("reorganise=1:20ms:1".parse().unwrap());
    wait_until("the end of the fault", || pool.stats().faults.is_empty());
    wait_until("another branch", || pool.stats().tip_hash != before);
    assert_eq!(pool.stats().tip_height, TIP);
}

// Miners that misbehave

#[test]
fn requests_that_never_end_are_cut_off() {
    let short = Duration::from_millis(100);
    let pool =
        start(Settings { idle_timeout: short, header_timeout: short, body_timeout: short, ..settings() });
    let url = &pool.handler_urls()[0];
    raw(url, b"");
    raw(url, b"POST /submit HTTP/1.1\r\nx-pc-");
    let slow = raw(url, b"POST /submit HTTP/1.1\r\nhost: pool\r\ncontent-length: 1024\r\n\r\nabc");
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    let stats = pool.stats();
    assert_eq!((stats.queued, stats.total.refused["body too slow"].batches), (0, 1));
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let faults = vec!["huge:config".parse().unwrap()];
    let pool = start(Settings { faults, stall_timeout: Duration::from_millis(200), ..settings() });
    let mut stream = connect(&pool.url()).unwrap();
    stream.write_all(b"GET /config.json HTTP/1.1\r\nhost: pool\r\n\r\n").unwrap();
    wait_until("the connection", || pool.stats().connections == 1);
    wait_until("its end", || pool.stats().connections == 0);
    drop(stream);
}

#[test]
fn what_is_too_large_is_refused() {
    let pool = start(settings());
    let url = &pool.handler_urls()[0];
    let full = vec![0; 1024 * 1024];
    assert_eq!(post_with(url, &usual(PARENT), &full).0, 400, "a full batch is read");
    let (status, text) = post_with(url, &usual(PARENT), &vec![0; 2 * 1024 * 1024]);
    assert_eq!((status, &text[..17]), (413, "Payload Too Large"));
    let seen = raw(url, b"POST /submit HTTP/1.1\r\nhost: pool\r\ncontent-length: 99999999999\r\n\r\n");
    assert!(seen.starts_with("HTTP/1.1 413"), "{seen}");
    let mut head = b"GET /submit HTTP/1.1\r\nhost: pool\r\n".to_vec();
    for _ in 0..100 {
        head.extend_from_slice(b"x-many: many\r\n");
    }
    head.extend_from_slice(b"\r\n");
    assert!(raw(url, &head).starts_with("HTTP/1.1 431"));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    assert!(raw(url, long.as_bytes()).starts_with("HTTP/1.1 4"));
    assert!(raw(url, b"\x16\x03\x01 this is TLS\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert_eq!(taken(&pool, &plain(1)), (1, 0), "and goes on");
}

#[test]
fn a_batch_is_taken_also_if_the_miner_leaves() {
    let gate = Gate::default();
    let pool = start(gate.settings());
    let body = plain(1);
    let mut stream = connect(&pool.handler_urls()[0]).unwrap();
    write!(stream, "POST /submit HTTP/1.1\r\nhost: pool\r\ncontent-length: {}\r\n", body.len()).unwrap();
    for (name, value) in usual(PARENT) {
        write!(stream, "{name}: {value}\r\n").unwrap();
    }
    stream.write_all(b"\r\n").unwrap();
    stream.write_all(&body).unwrap();
    gate.wait_for(1);
    drop(stream);
    wait_until("the miner's leaving", || pool.stats().connections == 0);
    gate.open();
    wait_until("recording", || pool.stats().total.accepted == 1);
}

// Control, statistics, handlers that come and go

#[test]
fn the_control_endpoint_is_off_unless_asked_for() {
    let off = start(settings());
    let body = br#"{"action":"new-block"}"#;
    let (status, text) = post_with(&off.url().join("control").unwrap(), &[], body);
    assert_eq!(status, 404);
    assert!(text.contains("--control"), "{text}");

    let pool = start(Settings { control: true, ..settings() });
    let url = pool.url().join("control").unwrap();
    let command = |body: Value| post_with(&url, &[], body.to_string().as_bytes());
    for body in [
        json!({"action": "new-block"}),
        json!({"action": "reorganise", "depth": 2}),
        json!({"action": "handlers", "count": 3}),
        json!({"action": "handler", "index": 2, "state": "unwanted"}),
        json!({"action": "work-bits", "value": EASIEST}),
        json!({"action": "mine-old", "value": 1}),
        json!({"fault": "overloaded", "on": "handlers", "count": 10}),
        json!({"fault": "delay=1ms:master"}),
    ] {
        assert_eq!(command(body.clone()), (200, r#"{"ok":true}"#.into()), "{body}");
    }
    let config = get(&pool, "config.json");
    assert_eq!((&config["currentHeight"], &config["mineOldAnns"]), (&json!(TIP + 2), &json!(1)));
    assert_eq!(
        (&config["annTarget"], config["submitAnnUrls"].as_array().unwrap().len()),
        (&json!(EASIEST), 3)
    );
    assert_eq!(get(&pool, "stats")["faults"], json!(["503:handlers:10", "delay=1ms:master"]));
    command(json!({"action": "clear"}));
    assert_eq!(get(&pool, "stats")["faults"], json!([]));
    for (body, told) in [
        (json!({"action": "work-bits", "value": 0}), "can never be met"),
        (json!({"action": "reorganise", "depth": 0}), "the depth must be"),
        (json!({"action": "handler", "index": 9, "state": "up"}), "there is no handler 9"),
        (json!({"action": "handlers", "count": 100_000}), "--handlers"),
        (json!({"action": "jump"}), "new-block"),
        (json!({"action": "clear", "when": "now"}), "unknown field `when`"),
        (json!({"fault": "sneeze"}), "close-reply"),
    ] {
        let (status, text) = command(body);
        assert!(status == 400 && text.contains(told), "{text}");
    }
}

#[test]
fn pages_of_other_sites_cannot_control_the_pool() {
    let pool = start(Settings { control: true, ..settings() });
    let url = pool.url().join("control").unwrap();
    let own = format!("http://127.0.0.1:{}", url.port().unwrap());
    let body = br#"{"action":"new-block"}"#;
    for (headers, expected) in [
        (vec![("origin", "http://evil.example".to_owned())], 403),
        (vec![("origin", "null".into())], 403),
        (vec![("sec-fetch-site", "cross-site".into())], 403),
        (vec![("host", "evil.example:1".into()), ("origin", "http://evil.example:1".into())], 403),
        (vec![("origin", own)], 200),
        (vec![("host", "pool:18080".into())], 200),
    ] {
        assert_eq!(post_with(&url, &headers, body).0, expected, "{headers:?}");
    }
    assert_eq!(pool.stats().tip_height, TIP + 2);
}

#[test]
fn handlers_take_ports_that_are_free_after_the_list_was_turned_round() {
    let (pool, port) = start_on_ports(&Settings { handlers: 2, control: true, ..settings() });
    let url = pool.url().join("control").unwrap();
    for body in [
        json!({"action": "handler-order", "order": [1, 0]}),
        json!({"action": "handlers", "count": 1}),
        json!({"action": "handlers", "count": 2}),
    ] {
        assert_eq!(post_with(&url, &[], body.to_string().as_bytes()).0, 200, "{body}");
    }
    let ports: Vec<u16> = pool.handler_urls().iter().filter_map(Url::port).collect();
    assert_eq!(ports, [port + 2, port + 1]);
}

#[test]
fn stats_over_http_are_the_same_as_from_the_method() {
    let pool = start(Settings { handlers: 2, ..settings() });
    for body in [plain(1), plain(1), plain(1)] {
        for url in pool.handler_urls() {
            post_with(&url, &usual(PARENT), &body);
        }
    }
    let (http, method) = (get(&pool, "stats"), serde_json::to_value(pool.stats()).unwrap());
    assert_eq!((&http["accepted"], &http["refused"]), (&method["accepted"], &method["refused"]));
    assert_eq!(http["refused"]["submit elsewhere"], json!({"batches": 3, "announcements": 3}));
    assert_eq!(http["pay_to"]["me"]["accepted"], 3);
    assert!(http["announcements_per_second"]["10s"].as_f64().unwrap() > 0.0);
    assert!(http["pay_to"]["me"]["encryptions_per_second"]["total"].as_f64().unwrap() > 0.0);
    assert_eq!(http["handlers"].as_array().unwrap().len(), 2);
}

#[test]
fn handlers_come_and_go_while_the_pool_runs() {
    let pool = start(settings());
    let body = plain(1);
    assert_eq!(taken(&pool, &body), (1, 0));
    pool.set_handlers(3).unwrap();
    let urls = pool.handler_urls();
    assert_eq!(
        get(&pool, "config.json")["submitAnnUrls"],
        json!(urls.iter().map(Url::as_str).collect::<Vec<_>>())
    );
    let kept = connect(&urls[2]).unwrap();
    pool.set_handlers(1).unwrap();
    assert_eq!(pool.handler_urls(), urls[..1]);
    assert!(connect(&urls[1]).is_err() && connect(&urls[2]).is_err(), "they refuse connections");
    assert_eq!(read_until_closed(&mut { kept }), "", "and close those that they have");
    assert_eq!(taken(&pool, &body), (0, 1), "what was taken before is still known");
    pool.set_handlers(0).unwrap();
    assert_eq!(get(&pool, "config.json")["submitAnnUrls"], json!([]));
}

#[test]
fn a_handler_can_be_down_or_unwanted_and_stay_listed() {
    let pool = start(Settings { handlers: 2, ..settings() });
    let urls = pool.handler_urls();
    pool.set_handler(0, HandlerState::Down).unwrap();
    assert_eq!(pool.handler_urls(), urls);
    assert!(connect(&urls[0]).is_err() && connect(&urls[1]).is_ok());
    pool.set_handler(0, HandlerState::Up).unwrap();
    assert!(connect(&urls[0]).is_ok());
    pool.set_handler(1, HandlerState::Unwanted).unwrap();
    assert_eq!(pool.handler_urls()[1].host_str(), Some("invalid"));
    let states: Vec<&str> = pool.stats().handlers.iter().map(|handler| handler.state).collect();
    assert_eq!(states, ["up", "unwanted"]);
    pool.set_handler(2, HandlerState::Up).unwrap_err();
}

#[test]
fn handlers_change_places_and_addresses_and_take_only_what_belongs_there_now() {
    let pool = start(Settings { handlers: 2, journal: true, ..settings() });
    let urls = pool.handler_urls();
    let listed = || get(&pool, "config.json")["submitAnnUrls"].clone();
    pool.order_handlers(&[1, 0]).unwrap();
    assert_eq!(listed(), json!([urls[1].as_str(), urls[0].as_str()]));
    for order in [&[0][..], &[0, 0], &[0, 2], &[0, 1, 2]] {
        assert!(pool.order_handlers(order).unwrap_err().to_string().contains("each of the 2"), "{order:?}");
    }
    let elsewhere = Url::parse("https://elsewhere.example/submit").unwrap();
    pool.list_handler(1, Some(elsewhere.clone())).unwrap();
    assert_eq!(listed(), json!([urls[1].as_str(), elsewhere.as_str()]));
    pool.list_handler(1, None).unwrap();
    pool.list_handler(2, None).unwrap_err();
    assert_eq!(listed(), json!([urls[1].as_str(), urls[0].as_str()]));

    let body = plain(1);
    let announcement = Announcement::from_bytes(body.clone().try_into().unwrap());
    let hash = kernels::announcement::short_hash(&announcement.hash());
    let place = (hash % 2) as usize;
    let statuses = pool.handler_urls().into_iter().map(|url| post_with(&url, &usual(PARENT), &body).0);
    let expected = if place == 0 { [200, 400] } else { [400, 200] };
    assert_eq!(statuses.collect::<Vec<_>>(), expected);
    let parent = pool.window().iter().find(|(height, _)| *height == PARENT).unwrap().1;
    assert_eq!(pool.journal(), [(parent, hash)].into());
}

#[test]
fn a_master_that_is_down_comes_back_on_its_port_and_handlers_go_on_meanwhile() {
    let pool = start(Settings { control: true, ..settings() });
    pool.stop_master();
    assert!(connect(&pool.url()).is_err());
    assert_eq!(taken(&pool, &plain(1)), (1, 0));
    pool.restart_master().unwrap();
    pool.restart_master().unwrap();
    get(&pool, "config.json");
    let control = pool.url().join("control").unwrap();
    let asked = post_with(&control, &[], br#"{"action":"master-down","seconds":0.3}"#);
    assert_eq!(asked.0, 200, "{}", asked.1);
    wait_until("down", || connect(&pool.url()).is_err());
    wait_until("back", || connect(&pool.url()).is_ok());
    for bad in ["-1", "1e99"] {
        let body = format!(r#"{{"action":"master-down","seconds":{bad}}}"#);
        assert!(post_with(&control, &[], body.as_bytes()).1.contains("3600 seconds"));
    }
}

#[test]
fn a_redirect_loop_leads_where_it_came_from() {
    let pool = start(settings());
    pool.inject("redirect-loop:config:2".parse().unwrap());
    for _ in 0..2 {
        let response = agent().get(pool.url().join("config.json").unwrap().as_str()).call().unwrap();
        let location = response.headers()["location"].to_str().unwrap();
        assert_eq!((response.status().as_u16(), location), (307, "/config.json"));
    }
    get(&pool, "config.json");
}

#[test]
fn with_a_port_given_handlers_take_those_that_follow_and_shutting_down_frees_them() {
    let (pool, port) = start_on_ports(&Settings { handlers: 2, ..settings() });
    let ports: Vec<u16> = pool.handler_urls().iter().filter_map(Url::port).collect();
    assert_eq!((pool.url().port(), ports), (Some(port), vec![port + 1, port + 2]));
    let _kept = connect(&pool.url()).unwrap();
    let listen = (Ipv4Addr::LOCALHOST, port).into();
    let error = LocalPool::start(Settings { listen, ..settings() }).err().unwrap();
    let error = format!("{:#}", anyhow::Error::new(error));
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--listen"), "{error}");
    assert_eq!(error.matches("os error").count(), 1, "{error}");
    pool.shutdown();
    drop(start(Settings { listen, handlers: 2, ..settings() }));
    start(Settings { listen, handlers: 2, ..settings() }).shutdown();
}

#[test]
fn a_pool_on_every_address_names_itself_as_it_was_asked() {
    let pool = start(Settings { listen: "0.0.0.0:0".parse().unwrap(), ..settings() });
    let seen =
        raw(&pool.url(), b"GET /config.json HTTP/1.1\r\nhost: pool.example:9\r\nconnection: close\r\n\r\n");
    assert!(seen.contains("\"submitAnnUrls\":[\"http://pool.example:"), "{seen}");
    assert_eq!(pool.url().host_str(), Some("127.0.0.1"));
}

#[test]
fn settings_that_make_no_sense_are_refused_with_what_would() {
    for settings in [
        Settings { block_time: Some(Duration::ZERO), ..settings() },
        Settings { validators: 0, ..settings() },
        Settings { validators: 20_000, ..settings() },
        Settings { ann_versions: vec![], ..settings() },
        Settings { first_height: u32::MAX, ..settings() },
        Settings { handlers: 1000, ..settings() },
        Settings { mine_old: 101, ..settings() },
    ] {
        let error = LocalPool::start(settings).err().unwrap().to_string();
        assert!(error.contains("cannot be") || error.contains("at most"), "{error}");
    }
    let short = Settings { block_time: Some(Duration::from_millis(1)), ..settings() };
    let error = LocalPool::start(short).err().unwrap().to_string();
    assert_eq!(error, "the block time cannot be 1ms; it must be 10ms or more");
}

/// Both ends of the connections are in this process: more would need more open files than many systems allow.
#[test]
fn hundreds_of_connections_are_served_at_once() {
    let pool = start(settings());
    let url = &pool.handler_urls()[0];
    let mut streams: Vec<TcpStream> = (0..400).map(|_| connect(url).unwrap()).collect();
    wait_until("accepting", || pool.stats().connections == 400);
    let headers: String = usual(PARENT).iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    for stream in &mut streams {
        write!(stream, "POST /submit HTTP/1.1\r\nhost: pool\r\ncontent-length: 1024\r\n{headers}\r\n")
            .unwrap();
        stream.write_all(&plain(1)).unwrap();
    }
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
    }
    let stats = pool.stats();
    assert_eq!((stats.total.accepted, stats.connections), (400, 400));
}
