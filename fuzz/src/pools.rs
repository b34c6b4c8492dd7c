//! What masters and ann handlers answer, taken through the readers and the state machines: rubbish is told of and
//! survived, and once it is over, mining goes on and nothing is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kernels::primitives::{b32, expand};
use kernels::{Announcement, Invalid, WorkBits};
use pktmine::pool::{self, Fetch, FetchError, Pools};
use pktmine::protocol::{BlockHash, BlockInfo, Config};
use pktmine::upload::{self, PostOutcome, Uploader};
use pktmine::values::{BackendId, Block, Found, Job, Moment, PoolId, PoolView};
use serde_json::{Value, json};
use url::Url;

use crate::bytes::Bytes;
use crate::readers::assert_harmless;

/// Words of `config.json` and of blkinfo.
pub const MASTER: &[&str] = &[
    "\"tipHash\":",
    "\"currentHeight\":",
    "\"submitAnnUrls\":",
    "\"mineOldAnns\":",
    "\"annTarget\":",
    "\"blkinfoUrl\":",
    "\"annVersions\":",
    "\"header\":",
    "\"hash\":",
    "\"height\":",
    "\"previousblockhash\":",
    "\"sigKey\":",
    "null",
    "[]",
    "{}",
    "-1",
    "1e400",
    "4294967296",
    "2147483647",
    "537001984",
    "http://a.example/",
    "\\ud800",
    "\u{1b}[2J",
    "<html>",
    "\0",
    "\0!",
    "0000000000000000000000000000000000000000000000000000000000000000",
];

/// Words of a handler's answers.
pub const HANDLER: &[&str] = &[
    "\0",
    "\x00200 ",
    "\x00400 ",
    "\x00503 ",
    "\x00500 ",
    "\x00413 ",
    "\0T",
    "\0B",
    "\0C",
    "\0N",
    "\"warn\":",
    "\"error\":",
    "\"result\":",
    "\"accepted\":",
    "\"dup\":",
    "null",
    "[]",
    "{}",
    "4294967295",
    "-1",
    "\"overloaded\"",
    "\"server not ready\"",
    "\"block number out of range, expect 105 got 99\"",
    "\"wrong parent block height\"",
    "\"submit elsewhere\"",
    "\"not enough work\"",
    "\"check_ann() -> INVAL\"",
    "\"unexpected signed ann\"",
    "\"wrong signing key\"",
    "\"invalid payto\"",
    "<html>",
    "\u{1b}[2J",
];

/// The newest block of the pool that answers well, at first.
const TIP: u32 = 1_000_000;

/// From one block to the next.
const BLOCK_TIME: Duration = Duration::from_secs(60);

/// The most answers that are rubbish.
const ANSWERS: usize = 60;

/// How long what was said wrongly may have an effect: masters that contradict themselves are believed after a minute.
const HEALED_AFTER: Duration = Duration::from_secs(600);

/// A block's hash in the chain of the pool that answers well: B32 of its height.
fn hash_at(height: u32) -> BlockHash {
    BlockHash(b32(&[&height.to_le_bytes()]))
}

/// Answers of a master with a zero byte between them, each the body of what is asked for next; one that begins with
/// `!` is a failure.
pub fn master(data: &[u8]) {
    let mut miner = Miner {
        pools: Pools::new(vec![url("http://pool.example/")], pool::Settings::default()),
        now: Moment::ZERO,
        asked: VecDeque::new(),
    };
    let mut previous = None;
    for record in Bytes(data).records().take(ANSWERS) {
        previous = read_config(record, previous.as_ref()).or(previous);
        read_block(record);
        let fetch = miner.next_fetch();
        let result = match record.first() {
            Some(b'!') => Err(FetchError::Status { url: fetch.url.to_string(), status: 503 }),
            _ if record.len() > fetch.limit => {
                Err(FetchError::TooLarge { url: fetch.url.to_string(), limit: fetch.limit })
            }
            _ => Ok(record.to_vec()),
        };
        miner.take(fetch, result);
    }

    let healed = miner.now;
    while miner.now < healed + HEALED_AFTER {
        let fetch = miner.next_fetch();
        let tip = tip_after(miner.now - healed);
        let answer = good_answer(&fetch.url, tip);
        miner.take(fetch, answer);
    }
    let parent = tip_after(HEALED_AFTER) - 4;
    let job = miner.pools.job().map(|job| (job.parent_height, job.parent_hash, job.signing_key));
    assert_eq!(job, Some((parent, hash_at(parent), [0; 32])), "mining goes on once all is well");
    assert_eq!(miner.pools.last_error(PoolId(0)), None);
}

/// The pools' clients, and the requests that were not answered yet.
struct Miner {
    pools: Pools,
    now: Moment,
    asked: VecDeque<Fetch>,
}

impl Miner {
    fn handle(&mut self, event: pool::Event) {
        for effect in self.pools.handle(event, self.now) {
            match effect {
                pool::Effect::Fetch(fetch) => {
                    assert!(matches!(fetch.url.scheme(), "http" | "https"), "{}", fetch.url);
                    self.asked.push_back(fetch);
                }
                pool::Effect::View { view, .. } => {
                    assert!(view.handlers.len() <= 256 && view.blocks.len() <= 200)
                }
                pool::Effect::Mine(_) => {}
                pool::Effect::Note(notice) => assert_harmless(&notice.text),
            }
        }
        assert!(self.asked.len() <= 8, "{} requests at a time", self.asked.len());
    }

    /// What is asked for first; time passes until there is something.
    fn next_fetch(&mut self) -> Fetch {
        for _ in 0..1000 {
            if let Some(fetch) = self.asked.pop_front() {
                return fetch;
            }
            let wake = self.pools.next_wake().expect("there is a pool");
            self.now = wake.max(self.now + Duration::from_millis(1));
            self.handle(pool::Event::Tick);
        }
        panic!("nothing is asked for any more at {:?}", self.now);
    }

    fn take(&mut self, fetch: Fetch, result: Result<Vec<u8>, FetchError>) {
        self.now += Duration::from_millis(100);
        self.handle(pool::Event::Fetched { request: fetch.request, result });
    }
}

/// What is read of a configuration stays the same if it is written and read again.
fn read_config(body: &[u8], previous: Option<&Config>) -> Option<Config> {
    match Config::parse_after(body, previous) {
        Ok((config, problems)) => {
            problems.iter().for_each(|problem| assert_harmless(problem));
            assert!(config.tip_hash.is_none() || config.current_height >= 1);
            assert!(config.mine_old_anns <= 100 && config.handlers().len() == config.submit_ann_urls.len());
            let written = serde_json::to_vec(&config).expect("it can be written");
            assert_eq!(Config::parse(&written).map(|(again, _)| again).as_ref(), Ok(&config));
            Some(config)
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            None
        }
    }
}

fn read_block(body: &[u8]) {
    match BlockInfo::parse(body) {
        Ok(mut info) => {
            assert!(info.header.height >= 0 && info.signing_key().is_some());
            // JSON's numbers come back nearly, not exactly.
            info.header.difficulty = 0.0;
            let written = serde_json::to_vec(&info).expect("it can be written");
            assert_eq!(BlockInfo::parse(&written).as_ref(), Ok(&info));
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}

fn tip_after(time: Duration) -> u32 {
    TIP + (time.as_secs() / BLOCK_TIME.as_secs()) as u32
}

fn good_answer(url: &Url, tip: u32) -> Result<Vec<u8>, FetchError> {
    let name = url.path().rsplit('/').next().unwrap_or_default();
    if name == "config.json" {
        return Ok(good_config(tip).to_string().into_bytes());
    }
    let hash = name.strip_prefix("blkinfo_").and_then(|name| name.strip_suffix(".json")?.parse().ok());
    let height = (TIP - 200..=tip).find(|height| Some(hash_at(*height)) == hash);
    let answer = height.map(|height| good_block(height).to_string().into_bytes());
    answer.ok_or_else(|| FetchError::Status { url: url.to_string(), status: 404 })
}

fn good_config(tip: u32) -> Value {
    json!({
        "tipHash": hash_at(tip).to_string(), "currentHeight": tip + 1, "masterUrl": "http://pool.example/",
        "submitAnnUrls": ["http://one.example/submit", "http://two.example/submit"], "version": 1, "softVersion": 1,
        "annVersions": [1], "mineOldAnns": 3, "annTarget": 0x2002_0000
    })
}

fn good_block(height: u32) -> Value {
    let header = json!({
        "hash": hash_at(height).to_string(), "height": height, "previousblockhash": hash_at(height - 1).to_string()
    });
    json!({ "header": header, "sigKey": null })
}

/// A byte of choices, then what becomes of posts, with a zero byte between them: a status and a body (`200 {…}`), or
/// `T` for no answer in time, `B` for one that broke off, `C` for a request that did, `N` for none at all.
pub fn handler(data: &[u8]) {
    let mut bytes = Bytes(data);
    let choices = bytes.u8();
    let mut delivery = Sender::new(choices);
    let mut outcomes = bytes.records().take(ANSWERS).map(outcome);
    let mut drained = false;
    for _ in 0..20_000 {
        if let Some(post) = delivery.posts.pop_front() {
            let outcome = outcomes.next().unwrap_or_else(|| taken(post.batch.len()));
            delivery.now += Duration::from_millis(10);
            delivery.handle(upload::Event::Answered { request: post.request, outcome });
        } else if let Some(check) = delivery.checks.pop_front() {
            let verdict = |found: &Arc<Found>| match choices & 1 == 1 && found.hash[0] < 16 {
                true => Err(Invalid::Inval),
                false => Ok(()),
            };
            let verdicts = check.announcements.iter().map(verdict).collect();
            delivery.handle(upload::Event::Checked { check: check.check, verdicts });
        } else if delivery.uploader.is_idle() && drained {
            break;
        } else if let Some(wake) = delivery.uploader.next_wake().filter(|_| drained || choices & 2 == 0) {
            delivery.now = wake.max(delivery.now + Duration::from_millis(1));
            delivery.handle(upload::Event::Tick);
            drained |= delivery.uploader.is_idle();
        } else {
            drained = true;
            delivery.handle(upload::Event::Drain);
        }
    }
    let ledger = delivery.uploader.snapshot();
    assert!(delivery.uploader.is_idle(), "{ledger:?}");
    assert_eq!((ledger.pools[0].queued, ledger.pools[0].in_flight), (0, 0), "{ledger:?}");
    assert_eq!(ledger.pools[0].found, delivery.found, "{ledger:?}");
}

fn taken(count: usize) -> PostOutcome {
    let body = json!({ "warn": [], "error": [], "result": { "type": "anns", "accepted": count, "dup": 0 } });
    PostOutcome::Answer { status: 200, body: body.to_string().into_bytes() }
}

fn outcome(record: &[u8]) -> PostOutcome {
    let text = || String::from_utf8_lossy(&record[1..]).into_owned();
    match record.first() {
        Some(b'T') => PostOutcome::TimedOut,
        Some(b'B') => PostOutcome::Broken(text()),
        Some(b'C') => PostOutcome::CutShort(text()),
        Some(b'N') => PostOutcome::NotSent(text()),
        _ => {
            let (status, body) = record.split_at(record.len().min(3));
            let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
            let body = body.strip_prefix(b" ").unwrap_or(body).to_vec();
            PostOutcome::Answer { status: status.unwrap_or(200), body }
        }
    }
}

/// An uploader with announcements to hand in, and what it wants done.
struct Sender {
    uploader: Uploader,
    now: Moment,
    found: u64,
    posts: VecDeque<upload::Post>,
    checks: VecDeque<upload::Check>,
}

impl Sender {
    fn new(choices: u8) -> Self {
        let pay_to = "someone".parse().expect("letters are an address");
        let settings = upload::Settings {
            batch_len: 1 + usize::from(choices >> 2 & 7),
            uploaders: 1 + usize::from(choices >> 5),
            ..upload::Settings::new(pay_to, choices.into())
        };
        let uploader = Uploader::new(&["pool".into()], 1, settings);
        let mut sender =
            Self { uploader, now: Moment::ZERO, found: 30, posts: VecDeque::new(), checks: VecDeque::new() };
        let block = |height| Block { hash: hash_at(height), height, signing_key: [0; 32] };
        let work_bits = WorkBits::at_least(128);
        let view = PoolView {
            handlers: ["http://one.example/submit", "http://two.example/submit"]
                .map(|text| url(text).into())
                .into(),
            tip_height: TIP,
            ann_target: Some(work_bits),
            blocks: (TIP - 5..=TIP).map(block).collect(),
        };
        sender.handle(upload::Event::View { pool: PoolId(0), view });
        let parent = block(TIP - 3);
        let job = Arc::new(Job {
            id: 1,
            parent_hash: parent.hash,
            parent_height: parent.height,
            work_bits,
            signing_key: parent.signing_key,
        });
        let found = |number| {
            let mut bytes = [0; Announcement::LEN];
            expand(&[1; 32], number, &mut bytes);
            bytes[..88].copy_from_slice(&job.header(number).to_bytes());
            Arc::new(Found::new(Announcement::from_bytes(bytes), job.clone(), BackendId(0)))
        };
        let announcements = (0..sender.found as u32).map(found).collect();
        sender.handle(upload::Event::Found {
            backend: BackendId(0),
            found_total: sender.found,
            announcements,
        });
        sender
    }

    fn handle(&mut self, event: upload::Event) {
        for effect in self.uploader.handle(event, self.now) {
            match effect {
                upload::Effect::Post(post) => self.posts.push_back(post),
                upload::Effect::Check(check) => self.checks.push_back(check),
                upload::Effect::Note(notice) => assert_harmless(&notice.text),
                upload::Effect::TargetRefused { .. }
                | upload::Effect::Doubted { .. }
                | upload::Effect::BackendErred { .. } => {}
            }
        }
        let ledger = self.uploader.snapshot();
        assert!(ledger.adds_up(), "{ledger:?}");
    }
}

fn url(text: &str) -> Url {
    text.parse().expect("it is an address")
}
