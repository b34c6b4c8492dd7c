//! The pools' clients against masters made of tables, with a clock that tests move.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tracing::Level;

use super::*;
use crate::protocol::BlockHash;

type Answer = Result<Vec<u8>, FetchError>;

const TARGET: u32 = 0x2002_0000;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn bits(w: u32) -> WorkBits {
    WorkBits::new(w).unwrap()
}

fn failed() -> Answer {
    Err(FetchError::Status { url: "http://pool/".into(), status: 500 })
}

/// The `branch`'s block at a height.
fn hash(branch: u32, height: u32) -> BlockHash {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&height.to_be_bytes());
    bytes[4..8].copy_from_slice(&branch.to_be_bytes());
    BlockHash(bytes)
}

/// What a master has in its files.
struct Master {
    files: BTreeMap<String, Answer>,
    config: Value,
    /// Hashes of its present chain by height, kept to know what is right.
    chain: Vec<BlockHash>,
    /// A chain that was left and may be come back to.
    left: Vec<BlockHash>,
    latency: Duration,
    silent: bool,
}

impl Master {
    fn new(height: u32) -> Self {
        let config = json!({
            "tipHash": null, "currentHeight": 0, "masterUrl": "http://m/", "paymakerUrl": "http://p/",
            "submitAnnUrls": ["http://a/submit", "http://b/submit"], "downloadAnnUrls": [], "submitBlockUrls": [],
            "version": 1, "softVersion": 1, "annVersions": [1], "mineOldAnns": 3, "annTarget": TARGET,
        });
        let mut master = Self {
            files: BTreeMap::new(),
            config,
            chain: Vec::new(),
            left: Vec::new(),
            latency: Duration::from_millis(50),
            silent: false,
        };
        master.extend(0, height);
        master
    }

    /// Adds blocks of a branch up to `height`, and announces the tip.
    fn extend(&mut self, branch: u32, height: u32) {
        while self.height() < i64::from(height) {
            let at = self.chain.len() as u32;
            let previous = self.chain.last().copied().unwrap_or(BlockHash([0; 32]));
            let block = hash(branch, at);
            let info = json!({
                "header": {"hash": block, "height": at, "previousblockhash": previous},
                "sigKey": null,
            });
            self.files.insert(blkinfo(block), Ok(info.to_string().into_bytes()));
            self.chain.push(block);
        }
        self.publish();
    }

    /// Drops the blocks above `height`; their files stay.
    fn cut(&mut self, height: u32) {
        self.chain.truncate(height as usize + 1);
        self.publish();
    }

    fn height(&self) -> i64 {
        self.chain.len() as i64 - 1
    }

    fn publish(&mut self) {
        self.config["tipHash"] = json!(self.chain.last());
        self.config["currentHeight"] = json!(self.chain.len());
        self.files.insert("/config.json".into(), Ok(self.config.to_string().into_bytes()));
    }

    fn set(&mut self, key: &str, value: Value) {
        self.config[key] = value;
        self.publish();
    }

    /// Puts something else in a file's place; gives what was there.
    fn replace(&mut self, file: &str, answer: Answer) -> Option<Answer> {
        self.files.insert(file.into(), answer)
    }

    fn replace_config(&mut self, body: impl Into<Vec<u8>>) {
        self.replace("/config.json", Ok(body.into()));
    }

    fn answer(&self, file: &str) -> Answer {
        let missing = || Err(FetchError::Status { url: file.into(), status: 404 });
        self.files.get(file).cloned().unwrap_or_else(missing)
    }

    /// What should be mined on.
    fn parent(&self, old: usize) -> (BlockHash, u32) {
        let at = self.chain.len() - 1 - old.min(self.chain.len() - 1);
        (self.chain[at], at as u32)
    }
}

fn blkinfo(hash: BlockHash) -> String {
    format!("/blkinfo_{hash}.json")
}

/// Pools, masters, and the wire between them.
struct World {
    pools: Pools,
    masters: Vec<Master>,
    now: Moment,
    in_flight: Vec<(Moment, Fetch, Answer)>,
    config_in_flight: Vec<Option<(u64, Moment)>>,
    fetched: Vec<(usize, String)>,
    jobs: Vec<Job>,
    views: Vec<PoolView>,
    notices: Vec<Notice>,
    fits: Option<WorkBits>,
}

impl World {
    fn new(masters: Vec<Master>, settings: Settings) -> Self {
        let urls = (0..masters.len()).map(|i| Url::parse(&format!("http://pool{i}/")).unwrap()).collect();
        let mut world = Self {
            pools: Pools::new(urls, settings),
            views: vec![PoolView::default(); masters.len()],
            config_in_flight: vec![None; masters.len()],
            masters,
            now: Moment::ZERO,
            in_flight: Vec::new(),
            fetched: Vec::new(),
            jobs: Vec::new(),
            notices: Vec::new(),
            fits: None,
        };
        world.send(Event::Tick);
        world
    }

    fn one() -> Self {
        Self::new(vec![Master::new(100)], Settings::default())
    }

    fn master(&mut self) -> &mut Master {
        &mut self.masters[0]
    }

    fn send(&mut self, event: Event) {
        if let Event::Fits(fits) = &event {
            self.fits = *fits;
        }
        for effect in self.pools.handle(event, self.now) {
            match effect {
                Effect::Fetch(fetch) => self.fetch(fetch),
                Effect::View { pool, view } => {
                    assert_ne!(self.views[pool.0], view, "a view is given only when it changed");
                    assert!(view.blocks.windows(2).all(|two| two[0].height + 1 == two[1].height));
                    assert!(view.blocks.last().is_none_or(|block| block.height <= view.tip_height));
                    self.views[pool.0] = view;
                }
                Effect::Mine(job) => {
                    assert_eq!(job.id, self.jobs.last().map_or(1, |old| old.id + 1));
                    let same = |old: &Job| Job { id: job.id, ..old.clone() } == job;
                    assert!(!self.jobs.last().is_some_and(same), "a job is given only when it changed");
                    let view = &self.views[self.pools.leader().0];
                    for easiest in [view.ann_target, self.fits].into_iter().flatten() {
                        assert!(
                            job.work_bits.is_at_least_as_hard_as(easiest),
                            "{} < {easiest}",
                            job.work_bits
                        );
                    }
                    let told = view.block_at(job.parent_height).map(|block| block.hash);
                    let goes_on = self.jobs.last().is_some_and(|old| old.parent_hash == job.parent_hash);
                    // Other work bits for a block that is mined on anyway, until another one is known.
                    let other_bits =
                        |old: &Job| Job { id: job.id, work_bits: job.work_bits, ..old.clone() } == job;
                    assert!(
                        told == Some(job.parent_hash)
                            || (told.is_none() && goes_on)
                            || self.jobs.last().is_some_and(other_bits),
                        "a view comes first: {view:?}, {job:?} after {:?}",
                        self.jobs.last()
                    );
                    self.jobs.push(job);
                }
                Effect::Note(notice) => {
                    assert!(!notice.text.contains('\n') && notice.text.len() < 1000, "{}", notice.text);
                    self.notices.push(notice);
                }
            }
        }
        assert!(self.pools.next_wake().unwrap() > self.now, "time stands still");
    }

    fn fetch(&mut self, fetch: Fetch) {
        assert!(self.in_flight.iter().all(|(_, other, _)| other.request != fetch.request));
        let master = &self.masters[fetch.pool.0];
        let file = fetch.url.path().to_owned();
        let forgotten = seconds(60);
        let due = if master.silent { self.now + forgotten * 2 } else { self.now + master.latency };
        let answer = master.answer(&file);
        if file == "/config.json" {
            let before = self.config_in_flight[fetch.pool.0].replace((fetch.request, self.now));
            // One that is never answered is given up after a minute.
            let given_up = before.is_none_or(|(_, sent)| self.now >= sent + forgotten);
            assert!(given_up, "two configurations of one pool in flight");
        }
        self.fetched.push((fetch.pool.0, file));
        self.in_flight.push((due, fetch, answer));
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let wake = self.pools.next_wake().unwrap();
            let answer = (0..self.in_flight.len()).min_by_key(|i| self.in_flight[*i].0);
            match answer.map(|i| (i, self.in_flight[i].0)) {
                Some((i, due)) if due <= wake && due <= end => {
                    let (_, fetch, result) = self.in_flight.remove(i);
                    self.now = self.now.max(due);
                    self.config_in_flight[fetch.pool.0].take_if(|(request, _)| *request == fetch.request);
                    self.send(Event::Fetched { request: fetch.request, result });
                }
                _ if wake <= end => {
                    self.now = self.now.max(wake);
                    self.send(Event::Tick);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn parent(&self) -> (BlockHash, u32) {
        let job = self.pools.job().expect("there is a job");
        (job.parent_hash, job.parent_height)
    }

    /// What was said since last asked, of that level or worse.
    fn take_notices(&mut self, level: Level) -> Vec<String> {
        let notices = std::mem::take(&mut self.notices);
        notices.into_iter().filter(|n| n.level <= level).map(|n| n.text).collect()
    }
}

#[test]
fn a_pool_is_mined_on_as_soon_as_its_blocks_are_known() {
    let mut world = World::one();
    world.run(seconds(1));
    let job = world.jobs.last().unwrap().clone();
    assert_eq!((job.parent_hash, job.parent_height), (hash(0, 97), 97));
    assert_eq!(job.work_bits, bits(0x2001_ffff), "the longer range of soft nonces");
    let view = &world.views[0];
    assert_eq!((view.tip_height, view.handlers.len(), view.ann_target), (100, 2, Some(bits(TARGET))));
    assert_eq!(view.blocks.iter().map(|b| b.height).collect::<Vec<_>>(), [95, 96, 97, 98, 99, 100]);
    assert!(world.pools.is_up(PoolId(0)) && world.pools.last_error(PoolId(0)).is_none());
    assert_eq!(world.take_notices(Level::INFO), Vec::<String>::new());
    world.run(seconds(60));
    assert_eq!(world.jobs.len(), 1);
    let asked = world.fetched.iter().filter(|(_, file)| file.contains("blkinfo")).count();
    assert_eq!(asked, 6, "no block is asked for twice");
    assert_eq!(world.fetched.len() - asked, 13, "every 5 s");
}

#[test]
fn a_new_block_moves_the_job_and_costs_one_fetch() {
    let mut world = World::one();
    world.run(seconds(2));
    world.master().extend(0, 101);
    world.fetched.clear();
    world.run(seconds(5));
    assert_eq!(world.parent(), (hash(0, 98), 98));
    assert_eq!(world.fetched.len(), 2, "{:?}", world.fetched);
    assert_eq!(world.views[0].tip_height, 101);
}

#[test]
fn a_reorganisation_is_followed_at_the_same_height_and_to_a_lower_tip_and_back() {
    let mut world = World::one();
    world.run(seconds(2));
    world.master().cut(96);
    world.master().extend(1, 100);
    world.run(seconds(5));
    assert_eq!(world.parent(), (hash(1, 97), 97));
    let notices = world.take_notices(Level::INFO);
    assert!(notices.len() == 1 && notices[0].contains("following it"), "{notices:?}");
    world.master().cut(98);
    world.run(seconds(5));
    assert_eq!((world.parent(), world.views[0].tip_height), ((hash(0, 95), 95), 98));
    // Back to the first branch: its blocks are known still.
    world.master().cut(96);
    world.master().extend(0, 100);
    world.fetched.clear();
    world.run(seconds(5));
    assert_eq!(world.parent(), (hash(0, 97), 97));
    assert_eq!(world.fetched, [(0, "/config.json".to_string())]);
    assert_eq!(world.views[0].blocks.len(), 6);
}

#[test]
fn mine_old_is_followed_in_both_directions_and_drops_nothing() {
    let mut world = World::one();
    world.run(seconds(2));
    let mut parents = Vec::new();
    for old in [0, 5, 20, 1, 3] {
        world.master().set("mineOldAnns", json!(old));
        world.run(seconds(6));
        parents.push(world.parent().1);
        assert!(world.views[0].blocks.len() >= 6);
    }
    assert_eq!(parents, [100, 95, 80, 99, 97]);
    let mut files: Vec<_> = world.fetched.iter().filter(|(_, f)| f.contains("blkinfo")).collect();
    let asked = files.len();
    files.sort();
    files.dedup();
    assert_eq!((asked, files.len()), (21, 21));
}

#[test]
fn the_users_mine_old_overrides_the_pools() {
    for (mine_old, expected) in [(0, 100), (7, 93), (1000, 0)] {
        let settings = Settings { mine_old: Some(mine_old), ..Default::default() };
        let mut world = World::new(vec![Master::new(100)], settings);
        world.run(seconds(10));
        assert_eq!(world.parent().1, expected);
        world.master().set("mineOldAnns", json!(1));
        world.run(seconds(10));
        assert_eq!(world.parent().1, expected);
        let warned = world.take_notices(Level::INFO);
        assert_eq!(warned.len(), usize::from(mine_old > 100) + usize::from(mine_old > 5), "{warned:?}");
    }
}

#[test]
fn a_young_chain_is_mined_on_its_first_block() {
    let mut world = World::new(vec![Master::new(1)], Settings::default());
    world.run(seconds(2));
    assert_eq!((world.parent(), world.views[0].blocks.len()), ((hash(0, 0), 0), 2));
}

#[test]
fn a_block_that_cannot_be_had_is_asked_for_again_without_a_change_of_the_configuration() {
    let mut world = World::one();
    world.run(seconds(2));
    world.take_notices(Level::INFO);
    world.master().extend(0, 101);
    let file = blkinfo(hash(0, 101));
    let good = world.master().replace(&file, failed()).unwrap();
    world.run(seconds(30));
    let asked = world.fetched.iter().filter(|(_, f)| *f == file).count();
    assert!((6..=12).contains(&asked), "0.5 s doubling to 5 s: {asked}");
    assert_eq!(world.parent(), (hash(0, 97), 97), "mining goes on");
    assert_eq!(world.views[0].tip_height, 100, "no block proves another");
    assert_eq!(world.views[0].blocks.last().unwrap().height, 100);
    let notices = world.take_notices(Level::INFO);
    assert!(notices.len() == 1 && notices[0].contains("500"), "{notices:?}");
    world.master().replace(&file, good);
    world.run(seconds(6));
    assert_eq!(world.parent(), (hash(0, 98), 98));
    assert_eq!(world.take_notices(Level::INFO).len(), 1, "that it is well again");
}

#[test]
fn a_wrong_block_is_refused_once_in_the_log_and_asked_for_again() {
    let mutate = |change: fn(&mut Value)| {
        move |good: &[u8]| {
            let mut info: Value = serde_json::from_slice(good).unwrap();
            change(&mut info);
            info.to_string().into_bytes()
        }
    };
    type Damage = Box<dyn Fn(&[u8]) -> Vec<u8>>;
    let cases: Vec<(&str, Damage)> = vec![
        ("it is about block", Box::new(mutate(|i| i["header"]["hash"] = json!("ab".repeat(32))))),
        ("it says height 100", Box::new(mutate(|i| i["header"]["height"] = json!(100)))),
        ("header.height is -1", Box::new(mutate(|i| i["header"]["height"] = json!(-1)))),
        ("header.hash is \"ab\"", Box::new(mutate(|i| i["header"]["hash"] = json!("ab")))),
        ("sigKey is \"xyz\"", Box::new(mutate(|i| i["sigKey"] = json!("xyz")))),
        ("sigKey is 5", Box::new(mutate(|i| i["sigKey"] = json!(5)))),
        ("HTML", Box::new(|_| b"<html>".to_vec())),
        ("not JSON", Box::new(|good| good[..good.len() / 2].to_vec())),
        ("empty", Box::new(|_| Vec::new())),
        ("more than 65536 bytes", Box::new(|_| vec![b' '; 10 << 20])),
    ];
    for (expected, damage) in cases {
        let mut world = World::one();
        world.run(seconds(2));
        world.master().extend(0, 101);
        let file = blkinfo(hash(0, 101));
        let good = world.master().answer(&file).unwrap();
        world.master().replace(&file, Ok(damage(&good)));
        world.run(seconds(20));
        let notices = world.take_notices(Level::INFO);
        assert!(notices.len() == 1 && notices[0].contains(expected), "{expected}: {notices:?}");
        assert_eq!(world.parent(), (hash(0, 97), 97));
        world.master().replace(&file, Ok(good));
        world.run(seconds(6));
        assert_eq!(world.parent(), (hash(0, 98), 98), "{expected}");
    }
}

#[test]
fn a_block_that_cannot_be_had_is_asked_of_the_one_that_named_it() {
    let mut world = World::one();
    let lie = json!({
        "header": {"hash": hash(0, 99), "height": 99, "previousblockhash": hash(9, 98)}, "sigKey": null
    });
    let file = blkinfo(hash(0, 99));
    let truth = world.master().replace(&file, Ok(lie.to_string().into_bytes())).unwrap();
    world.run(seconds(60));
    assert!(world.pools.job().is_none());
    assert_eq!(world.take_notices(Level::WARN).len(), 1, "nothing is said twice");
    world.master().replace(&file, truth);
    world.run(seconds(10));
    assert_eq!(world.parent(), (hash(0, 97), 97));
}

#[test]
fn a_circle_of_blocks_is_walked_no_further_than_it_closes() {
    let mut master = Master::new(100);
    let info =
        json!({"header": {"hash": hash(0, 99), "height": 99, "previousblockhash": hash(0, 100)}}).to_string();
    master.replace(&blkinfo(hash(0, 99)), Ok(info.into_bytes()));
    master.set("mineOldAnns", json!(1));
    let mut world = World::new(vec![master], Settings::default());
    world.run(seconds(60));
    assert_eq!(world.parent(), (hash(0, 99), 99), "what is known suffices");
    assert_eq!(world.take_notices(Level::INFO).len(), 1);
    assert!(world.fetched.len() < 50);
}

#[test]
fn blocks_come_from_the_blkinfo_address_where_there_is_one() {
    let mut master = Master::new(100);
    master.set("blkinfoUrl", json!("http://elsewhere/files/"));
    let blocks = master.files.clone().into_iter().filter(|(file, _)| file != "/config.json");
    master.files.retain(|file, _| file == "/config.json");
    master.files.extend(blocks.map(|(file, answer)| (format!("/files{file}"), answer)));
    let mut world = World::new(vec![master], Settings::default());
    world.run(seconds(10));
    assert_eq!(world.parent().1, 97);
}

#[test]
fn signing_keys_reach_the_job() {
    let mut master = Master::new(100);
    let info = json!({
        "header": {"hash": hash(0, 97), "height": 97, "previousblockhash": hash(0, 96)},
        "sigKey": format!("01{}", "00".repeat(31)),
    });
    master.replace(&blkinfo(hash(0, 97)), Ok(info.to_string().into_bytes()));
    let mut world = World::new(vec![master], Settings::default());
    world.run(seconds(2));
    let key = world.pools.job().unwrap().signing_key;
    assert_eq!((key[0], key[31]), (1, 0), "as it is written: it is no hash");
}

#[test]
fn handlers_and_target_change_while_running() {
    let mut world = World::one();
    world.run(seconds(2));
    world.master().set("submitAnnUrls", json!(["http://a/submit", "http://b/submit", "http://invalid/"]));
    world.run(seconds(5));
    assert_eq!(world.views[0].handlers.len(), 3);
    assert_eq!(world.jobs.len(), 1, "the job is what it was");
    world.master().set("submitAnnUrls", json!(["http://b/submit"]));
    world.run(seconds(5));
    assert_eq!(world.views[0].handlers, ["http://b/submit".parse().unwrap()]);
    world.master().set("annTarget", json!(0x2000_ffff));
    world.run(seconds(5));
    assert_eq!(world.pools.job().unwrap().work_bits, bits(0x2000_ffff));
    assert_eq!(world.views[0].ann_target, Some(bits(0x2000_ffff)));
    assert_eq!(world.take_notices(Level::INFO).len(), 3);
}

#[test]
fn a_refused_target_is_mined_exactly_from_then_on_and_no_other() {
    let mut world = World::one();
    world.run(seconds(2));
    let refuse = |work_bits: u32| Event::TargetRefused { pool: PoolId(0), work_bits: bits(work_bits) };
    world.send(refuse(0x2000_ffff));
    world.send(Event::TargetRefused { pool: PoolId(7), work_bits: bits(0x2001_ffff) });
    assert_eq!(world.jobs.len(), 1, "that was about an older job or about nobody");
    // The pool may have another target by now, of which it has yet to tell.
    for _ in 0..2 {
        world.send(refuse(0x2001_ffff));
        world.run(seconds(7));
        assert_eq!(world.jobs.len(), 1);
    }
    world.run(seconds(7));
    world.send(refuse(0x2001_ffff));
    world.send(refuse(0x2001_ffff));
    assert_eq!((world.jobs.len(), world.jobs[1].work_bits), (2, bits(TARGET)));
    assert_eq!(world.take_notices(Level::WARN).len(), 1);
    world.send(refuse(TARGET));
    assert_eq!(world.jobs.len(), 2, "there is nothing to fall back to");
    for (target, expected) in [(0x2004_0000, 0x2003_ffff), (TARGET, TARGET)] {
        world.master().set("annTarget", json!(target));
        world.run(seconds(6));
        assert_eq!(world.pools.job().unwrap().work_bits, bits(expected));
    }
}

#[test]
fn refusals_by_a_target_that_the_pool_has_yet_to_tell_of_are_held_against_none() {
    let mut world = World::one();
    world.run(seconds(2));
    let refused = Event::TargetRefused { pool: PoolId(0), work_bits: bits(0x2001_ffff) };
    // It asks for more, and handlers know it first; then it asks for the same again.
    for asked in [0x2001_0000, TARGET] {
        world.send(refused.clone());
        world.master().set("annTarget", json!(asked));
        world.run(seconds(30));
        world.send(refused.clone());
    }
    // Refusals far apart are no proof either.
    for _ in 0..3 {
        world.run(seconds(90));
        world.send(refused.clone());
    }
    assert_eq!(world.pools.job().unwrap().work_bits, bits(0x2001_ffff));
    assert_eq!(world.take_notices(Level::WARN), Vec::<String>::new());
}

#[test]
fn the_user_can_have_the_exact_target() {
    let settings = Settings { exact_target: true, ..Default::default() };
    let mut world = World::new(vec![Master::new(100)], settings);
    world.run(seconds(2));
    assert_eq!(world.pools.job().unwrap().work_bits, bits(TARGET));
}

#[test]
fn work_bits_are_as_hard_as_pool_user_and_line_want_them_and_it_is_told_who_does() {
    let settings = Settings { easiest: Some(WorkBits::at_least(512)), ..Default::default() };
    let mut world = World::new(vec![Master::new(100)], settings.clone());
    world.run(seconds(2));
    let state = |world: &World| {
        let (asked, why) = world.pools.hardness();
        (world.pools.job().unwrap().work_bits, asked.unwrap(), why)
    };
    let of = WorkBits::at_least;
    assert_eq!(state(&world), (of(512), bits(TARGET), Hardness::MinDifficulty));
    let jobs = world.jobs.len();
    for (fits, mined, why) in [
        (Some(of(128)), of(512), Hardness::MinDifficulty),
        (Some(of(512)), of(512), Hardness::MinDifficulty),
        (Some(of(2048)), of(2048), Hardness::MaxUpload),
        (None, of(512), Hardness::MinDifficulty),
        (Some(of(4096)), of(4096), Hardness::MaxUpload),
    ] {
        world.send(Event::Fits(fits));
        assert_eq!(state(&world), (mined, bits(TARGET), why), "{fits:?}");
    }
    assert_eq!(world.jobs.len(), jobs + 3, "what changes nothing is no new job");
    // The pool asks for more, for less, and the user for nothing.
    for (target, mined, why) in [
        (0x1f00_ffff, of(65536), Hardness::Pool),
        (0x1f0f_ffff, of(4096), Hardness::Pool),
        (TARGET, of(4096), Hardness::MaxUpload),
    ] {
        world.master().set("annTarget", json!(target));
        world.run(seconds(6));
        assert_eq!(state(&world), (mined, bits(target), why));
    }
    let url = Url::clone(world.pools.clients[0].base());
    let now = world.now;
    world.pools.list(vec![url], Settings::default(), now);
    world.send(Event::Tick);
    assert_eq!(state(&world), (of(4096), bits(TARGET), Hardness::MaxUpload), "the line is what it was");
    world.send(Event::Fits(None));
    assert_eq!(state(&world), (bits(0x2001_ffff), bits(TARGET), Hardness::Pool));
}

#[test]
fn a_pool_is_counted_as_a_taker_of_what_is_as_hard_as_it_asks_for() {
    let mut hard = Master::new(100);
    hard.set("annTarget", json!(0x1f0f_ffff));
    let mut picky = Master::new(100);
    picky.set("submitAnnUrls", json!(["http://a/submit", "http://invalid/"]));
    let mut world = World::new(vec![Master::new(100), hard, picky], Settings::default());
    world.run(seconds(10));
    let takers = |difficulty| world.pools.takers(WorkBits::at_least(difficulty), |_, _| false);
    assert_eq!([2, 128, 2048, 4096].map(takers), [1.5, 1.5, 1.5, 2.5]);
    let refusing = |pool, url: &Address| pool == PoolId(2) && url.host_str() == Some("a");
    assert_eq!(world.pools.takers(WorkBits::at_least(4096), refusing), 2.0);
    let takers = world.pools.takers(WorkBits::at_least(4096), |_, _| true);
    assert_eq!(takers, 1.0, "the leading pool is mined for whatever its handlers say");
}

#[test]
fn a_pool_whose_handlers_know_more_than_it_told_is_asked_at_once_but_not_again_and_again() {
    let mut world = World::new(vec![Master::new(100)], Settings::default());
    world.run(seconds(11));
    let asked =
        |world: &World| world.fetched.iter().filter(|(_, file)| file.ends_with("/config.json")).count();
    let before = asked(&world);
    for _ in 0..10 {
        world.send(Event::Doubted { pool: PoolId(0) });
    }
    world.run(seconds(1));
    assert_eq!(asked(&world), before + 1);
    world.send(Event::Doubted { pool: PoolId(7) });
}

#[test]
fn whatever_is_wrong_with_a_configuration_is_said_once_and_mining_goes_on() {
    let good = || {
        let mut master = Master::new(100);
        master.publish();
        master.config
    };
    let with = |key: &str, value: Value| {
        let mut config = good();
        config[key] = value;
        config.to_string().into_bytes()
    };
    let without = |key: &str| {
        let mut config = good();
        config.as_object_mut().unwrap().remove(key);
        config.to_string().into_bytes()
    };
    let text = good().to_string();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("HTML", b"<!doctype html><title>502 Bad Gateway</title>".to_vec()),
        ("empty", Vec::new()),
        ("not JSON", text.as_bytes()[..text.len() - 10].to_vec()),
        ("not JSON", vec![0xff; 100]),
        ("not JSON", "[".repeat(100_000).into_bytes()),
        ("not JSON", r#"{"a":"#.repeat(100_000).into_bytes()),
        ("more than 1048576 bytes", vec![b' '; 10 << 20]),
        ("an object should be", b"[1,2,3]".to_vec()),
        ("an object should be", b"null".to_vec()),
        ("tipHash", without("tipHash")),
        ("tipHash", with("tipHash", json!("abc"))),
        ("tipHash", with("tipHash", json!("x".repeat(64)))),
        ("tipHash", with("tipHash", json!([1]))),
        ("currentHeight", without("currentHeight")),
        ("currentHeight", with("currentHeight", json!(-7))),
        ("currentHeight", with("currentHeight", json!(0))),
        ("currentHeight", with("currentHeight", json!(1u64 << 40))),
        ("currentHeight", with("currentHeight", json!(i32::MAX))),
        ("currentHeight", with("currentHeight", json!("101"))),
        ("currentHeight", with("currentHeight", json!(101.5))),
        ("submitAnnUrls", without("submitAnnUrls")),
        ("submitAnnUrls", with("submitAnnUrls", json!("http://a/"))),
        ("submitAnnUrls", with("submitAnnUrls", json!([]))),
        ("(entry 2 is \"nonsense\")", with("submitAnnUrls", json!(["http://a/", "nonsense"]))),
        ("(entry 1 is \"file:///etc\")", with("submitAnnUrls", json!(["file:///etc"]))),
        ("mineOldAnns", with("mineOldAnns", json!(-1))),
        ("mineOldAnns", with("mineOldAnns", json!(4_000_000_000u32))),
        ("mineOldAnns", with("mineOldAnns", json!("three"))),
        ("annTarget is missing", without("annTarget")),
        ("annTarget", with("annTarget", json!("0x20020000"))),
        ("annTarget", with("annTarget", json!(0))),
        ("annTarget", with("annTarget", json!(0x2080_0000u32))),
        ("annTarget", with("annTarget", json!(-1))),
        ("blkinfoUrl", with("blkinfoUrl", json!("ftp://x/"))),
        ("annVersions", with("annVersions", json!([2]))),
        ("version", with("version", json!({}))),
        ("downloadAnnUrls", with("downloadAnnUrls", json!(7))),
    ];
    for (expected, body) in cases {
        let mut world = World::one();
        world.run(seconds(2));
        assert_eq!(world.take_notices(Level::INFO), Vec::<String>::new());
        world.master().replace_config(body);
        world.run(seconds(50));
        let notices = world.take_notices(Level::INFO);
        assert!(notices.len() == 1 && notices[0].contains(expected), "{expected}: {notices:?}");
        assert!(notices[0].contains("http://pool0/config.json"), "{notices:?}");
        assert!(world.pools.last_error(PoolId(0)).is_some());
        assert_eq!((world.jobs.len(), world.parent()), (1, (hash(0, 97), 97)), "{expected}");
        assert_eq!(world.views[0].handlers.len(), 2);
        // Nothing of it stays behind.
        world.master().extend(0, 101);
        world.run(seconds(10));
        assert_eq!(world.take_notices(Level::INFO).len(), 1, "{expected}: that it is well again");
        assert_eq!(world.parent(), (hash(0, 98), 98), "{expected}");
        assert_eq!(world.pools.last_error(PoolId(0)), None);
    }
}

#[test]
fn an_absurd_height_is_believed_if_the_pool_insists() {
    let mut world = World::one();
    world.run(seconds(2));
    let config = json!({"tipHash": hash(0, 5_000_000), "currentHeight": 5_000_001, "mineOldAnns": 0,
        "annTarget": TARGET, "submitAnnUrls": ["http://a/"]});
    world.master().replace_config(config.to_string());
    let info = json!({"header": {"hash": hash(0, 5_000_000), "height": 5_000_000,
        "previousblockhash": hash(0, 4_999_999)}});
    world.master().replace(&blkinfo(hash(0, 5_000_000)), Ok(info.to_string().into_bytes()));
    world.run(seconds(50));
    assert_eq!(world.views[0].tip_height, 100);
    world.run(seconds(20));
    assert_eq!(world.views[0].tip_height, 5_000_000);
}

#[test]
fn a_height_that_blkinfo_disproves_changes_no_view() {
    for wrong in [5, 96, 98, 106, 90_000] {
        let mut world = World::one();
        world.run(seconds(2));
        let mut config = world.master().config.clone();
        config["currentHeight"] = json!(wrong);
        config["submitAnnUrls"] = json!(["http://c/submit"]);
        config["annTarget"] = json!(0x2000_ffff);
        world.master().replace_config(config.to_string());
        world.run(seconds(60));
        let view = &world.views[0];
        assert_eq!((view.tip_height, view.blocks.len()), (100, 6), "currentHeight {wrong}");
        assert_eq!(view.handlers, ["http://c/submit".parse().unwrap()], "what else is new is followed");
        assert_eq!(world.parent(), (hash(0, 97), 97));
        assert_eq!(world.pools.job().unwrap().work_bits, bits(0x2000_ffff), "by what is mined as well");
        world.master().extend(0, 101);
        world.run(seconds(6));
        assert_eq!((world.views[0].tip_height, world.parent().1), (101, 98));
    }
}

#[test]
fn nothing_is_told_of_a_leader_before_a_block_proves_its_height() {
    let mut master = Master::new(100);
    let good = master.replace(&blkinfo(hash(0, 100)), failed()).unwrap();
    let mut world = World::new(vec![master], Settings::default());
    world.run(seconds(30));
    assert_eq!(world.views[0], PoolView::default());
    world.master().replace(&blkinfo(hash(0, 100)), good);
    world.run(seconds(6));
    assert_eq!(world.views[0].tip_height, 100);
}

#[test]
fn a_leap_of_a_secondary_pool_is_believed_when_three_configurations_agree() {
    for (said, seconds_until) in [(202, 6), (204, 6), (200, 16), (5, 16), (205, 16), (90_000, 16)] {
        let mut world = two_pools();
        world.run(seconds(2));
        let mut config = world.masters[1].config.clone();
        config["currentHeight"] = json!(said);
        config["submitAnnUrls"] = json!(["http://c/submit"]);
        world.masters[1].replace_config(config.to_string());
        world.run(seconds(seconds_until - 5));
        assert_eq!(
            (world.views[1].tip_height, world.views[1].handlers.len()),
            (200, 2 - usize::from(seconds_until > 6))
        );
        world.run(seconds(5));
        assert_eq!(world.views[1].tip_height, said - 1, "currentHeight {said}");
    }
}

#[test]
fn a_single_false_height_of_a_secondary_pool_changes_nothing() {
    let mut world = two_pools();
    world.run(seconds(2));
    let good = world.masters[1].config.to_string();
    for wrong in [5, 90_000, 5, 5, 90_000] {
        let mut config = world.masters[1].config.clone();
        config["currentHeight"] = json!(wrong);
        world.masters[1].replace_config(config.to_string());
        world.run(seconds(5));
        assert_eq!(world.views[1].tip_height, 200);
    }
    world.masters[1].replace_config(good);
    world.run(seconds(60));
    assert_eq!(world.views[1].tip_height, 200);
}

#[test]
fn a_pool_that_lost_the_lead_for_want_of_blocks_still_gets_what_is_mined() {
    let mut world = World::new(vec![Master::new(100), Master::new(100)], Settings::default());
    world.run(seconds(2));
    let fail_blocks = |master: &mut Master| {
        let files: Vec<_> = master.files.keys().filter(|file| *file != "/config.json").cloned().collect();
        files.into_iter().for_each(|file| drop(master.replace(&file, failed())));
    };
    for height in 101..120 {
        for master in &mut world.masters {
            master.extend(0, height);
        }
        fail_blocks(world.master());
        world.run(seconds(30));
    }
    assert_eq!(world.pools.leader(), PoolId(1));
    assert_eq!((world.views[0].tip_height, world.views[1].tip_height), (119, 119));
}

#[test]
fn mining_so_deep_that_everything_is_stale_is_warned_of_once() {
    let mut world = World::one();
    world.run(seconds(2));
    for (old, warnings) in [(5, 0), (6, 1), (6, 0), (20, 1), (3, 0), (6, 1)] {
        world.master().set("mineOldAnns", json!(old));
        world.run(seconds(12));
        let said = world.take_notices(Level::WARN);
        assert_eq!(said.len(), warnings, "{old}: {said:?}");
        assert!(said.iter().all(|text| text.contains(&format!("mining {old} below the tip"))), "{said:?}");
    }
}

#[test]
fn before_anything_is_known_nothing_is_said_to_go_on() {
    let mut master = Master::new(100);
    master.replace("/config.json", failed());
    let mut world = World::new(vec![master], Settings::default());
    world.run(seconds(20));
    let said = world.take_notices(Level::WARN);
    assert!(said.len() == 1 && said[0].ends_with("asking again every 5 s"), "{said:?}");
    world.master().replace(&blkinfo(hash(0, 100)), failed());
    world.master().publish();
    world.run(seconds(20));
    let said = world.take_notices(Level::WARN);
    assert!(said.len() == 1 && said[0].ends_with("; asking again"), "{said:?}");
    world.run(seconds(700));
    assert_eq!(world.take_notices(Level::WARN).len(), 2, "but it is said again every 5 minutes");
}

#[test]
fn a_configuration_bad_in_many_keys_gives_a_line_that_can_be_read() {
    let mut world = World::one();
    world.run(seconds(2));
    let mut config = world.master().config.clone();
    for key in ["version", "softVersion", "downloadAnnUrls", "mineOldAnns", "annTarget"] {
        config[key] = json!({"nonsense": "of some length, to fill the line"});
    }
    world.master().replace_config(config.to_string());
    world.run(seconds(20));
    let said = world.take_notices(Level::WARN);
    assert!(said.len() == 1 && said[0].contains("annTarget") && said[0].ends_with("and 3 more"), "{said:?}");
}

#[test]
fn a_view_is_told_before_the_job_that_follows_from_it() {
    let mut world = World::one();
    world.run(seconds(2));
    world.master().set("mineOldAnns", json!(0));
    world.run(seconds(6));
    world.master().extend(0, 101);
    let mut order = Vec::new();
    while world.pools.job().unwrap().parent_height < 101 {
        world.now = world.pools.next_wake().unwrap();
        let mut effects = world.pools.handle(Event::Tick, world.now);
        while let Some(effect) = (!effects.is_empty()).then(|| effects.remove(0)) {
            match effect {
                Effect::Fetch(fetch) => {
                    let result = world.masters[0].answer(fetch.url.path());
                    let event = Event::Fetched { request: fetch.request, result };
                    effects.extend(world.pools.handle(event, world.now));
                }
                Effect::View { view, .. } => order.push(("view", view.tip_height)),
                Effect::Mine(job) => order.push(("mine", job.parent_height)),
                Effect::Note(_) => {}
            }
        }
    }
    assert_eq!(order, [("view", 101), ("mine", 101)]);
}

#[test]
fn a_pool_that_is_not_ready_is_asked_again() {
    let mut master = Master::new(100);
    master.replace_config(r#"{"tipHash": null, "currentHeight": null}"#);
    let mut world = World::new(vec![master], Settings::default());
    world.run(seconds(30));
    assert!(world.jobs.is_empty() && !world.pools.is_up(PoolId(0)));
    assert_eq!(world.take_notices(Level::INFO).len(), 1);
    world.master().publish();
    world.run(seconds(6));
    assert_eq!(world.parent().1, 97);
    assert_eq!(world.take_notices(Level::INFO).len(), 1);
}

#[test]
fn a_request_that_is_never_answered_is_given_up_and_its_late_answer_ignored() {
    let mut world = World::one();
    world.run(seconds(2));
    world.master().silent = true;
    world.run(seconds(10));
    world.master().extend(0, 101);
    world.master().silent = false;
    world.run(seconds(30));
    assert_eq!(world.parent().1, 97);
    world.run(seconds(40));
    assert_eq!(world.parent().1, 98, "a minute later it is asked again");
    assert_eq!(world.take_notices(Level::WARN).len(), 1);
    world.run(seconds(100));
    assert_eq!(world.parent().1, 98);
    assert!(world.in_flight.len() <= 1);
}

/// Two pools, on chains of different heights.
fn two_pools() -> World {
    World::new(vec![Master::new(100), Master::new(200)], Settings::default())
}

#[test]
fn a_secondary_pool_is_asked_for_no_blocks() {
    let mut world = two_pools();
    world.run(seconds(60));
    assert!(world.fetched.iter().all(|(pool, file)| *pool == 0 || !file.contains("blkinfo")));
    assert_eq!((world.parent().1, world.pools.leader()), (97, PoolId(0)));
    assert_eq!((world.views[1].tip_height, world.views[1].blocks.len()), (200, 0));
    assert!(world.pools.is_up(PoolId(1)));
}

#[test]
fn the_next_pool_leads_while_the_first_is_down_and_for_a_minute_after() {
    let mut world = two_pools();
    world.run(seconds(12));
    world.master().replace("/config.json", failed());
    world.run(seconds(12));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(0), 97), "one failure is no outage");
    world.run(seconds(5));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(1), 197));
    assert!(!world.pools.is_up(PoolId(0)));
    world.run(seconds(100));
    world.master().publish();
    world.run(seconds(58));
    assert_eq!(world.pools.leader(), PoolId(1));
    world.run(seconds(10));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(0), 97));
    let notices = world.take_notices(Level::WARN);
    assert_eq!(notices.len(), 3, "the failure, and two changes: {notices:?}");
}

#[test]
fn a_pool_that_is_down_from_the_start_is_not_waited_for() {
    let mut masters = vec![Master::new(100), Master::new(200)];
    masters[0].replace("/config.json", failed());
    let mut world = World::new(masters, Settings::default());
    world.run(seconds(2));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(1), 197));
}

#[test]
fn a_leader_without_target_or_without_blocks_gives_way() {
    let mut world = two_pools();
    world.run(seconds(2));
    world.master().config.as_object_mut().unwrap().remove("annTarget");
    world.master().publish();
    world.run(seconds(6));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(1), 197));

    let mut world = two_pools();
    world.master().files.retain(|file, _| file == "/config.json");
    world.run(seconds(10));
    assert!(world.jobs.is_empty());
    world.run(seconds(10));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(1), 197));
    world.run(seconds(300));
    assert_eq!(world.pools.leader(), PoolId(1), "it does not come back without blocks");
}

#[test]
fn with_every_pool_down_the_last_job_goes_on() {
    let mut world = two_pools();
    world.run(seconds(2));
    for master in &mut world.masters {
        master.replace("/config.json", failed());
    }
    world.run(seconds(600));
    assert_eq!((world.pools.leader(), world.jobs.len(), world.parent().1), (PoolId(0), 1, 97));
    let notices = world.take_notices(Level::INFO);
    assert_eq!(notices.len(), 4, "one for each pool, and again after 5 minutes: {notices:?}");
}

impl World {
    /// The user names other pools, or other settings.
    fn list(&mut self, pools: &[usize], settings: Settings) {
        let urls = pools.iter().map(|i| Url::parse(&format!("http://pool{i}/")).unwrap()).collect();
        let before = self.pools.len();
        self.pools.list(urls, settings, self.now);
        for pool in pools.iter().filter(|pool| **pool >= before) {
            assert!(self.pools.is_listed(PoolId(*pool)));
            self.views.push(PoolView::default());
            self.config_in_flight.push(None);
        }
        self.send(Event::Tick);
    }
}

#[test]
fn a_pool_named_first_while_mining_leads_as_soon_as_it_is_up() {
    let mut world = World::one();
    world.run(seconds(7));
    world.masters.push(Master::new(200));
    world.list(&[1, 0], Settings::default());
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(0), 97), "the old job goes on meanwhile");
    world.run(seconds(1));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(1), 197));
    let first = world.masters.remove(1);
    world.masters.push(Master { silent: true, ..first });
    world.run(seconds(120));
    assert_eq!(world.pools.leader(), PoolId(0), "it gives way like any other");
}

#[test]
fn a_pool_that_leads_already_when_it_is_named_first_gets_no_head_start_later() {
    let mut world = two_pools();
    world.masters[0].silent = true;
    world.run(seconds(60));
    assert_eq!(world.pools.leader(), PoolId(1));
    world.list(&[1, 0], Settings::default());
    world.masters[0].silent = false;
    world.masters[1].silent = true;
    world.run(seconds(60));
    assert_eq!(world.pools.leader(), PoolId(0));
    world.masters[1].silent = false;
    world.run(seconds(30));
    assert_eq!(world.pools.leader(), PoolId(0), "it has not been up for long");
    world.run(seconds(60));
    assert_eq!(world.pools.leader(), PoolId(1));
}

#[test]
fn a_pool_that_is_no_longer_named_is_asked_nothing_until_it_is_named_again() {
    let mut world = two_pools();
    world.run(seconds(7));
    world.list(&[1], Settings::default());
    world.fetched.clear();
    world.run(seconds(60));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(1), 197));
    assert!(world.fetched.iter().all(|(pool, _)| *pool == 1) && !world.pools.is_listed(PoolId(0)));
    world.views[0] = PoolView::default();
    world.list(&[0, 1], Settings::default());
    world.run(seconds(1));
    assert_eq!((world.pools.leader(), world.parent().1, world.pools.len()), (PoolId(0), 97, 2));
}

#[test]
fn the_order_of_pools_changes_who_leads_without_a_wait() {
    let mut world = two_pools();
    world.run(seconds(7));
    world.list(&[1, 0], Settings::default());
    world.run(seconds(1));
    assert_eq!((world.pools.leader(), world.parent().1), (PoolId(1), 197));
    world.list(&[1, 0, 1], Settings::default());
    world.run(seconds(100));
    assert_eq!((world.pools.leader(), world.pools.len()), (PoolId(1), 2), "one named twice counts once");
}

#[test]
fn the_users_depth_and_target_can_change_while_mining() {
    let mut world = World::one();
    world.run(seconds(7));
    world.list(&[0], Settings { mine_old: Some(1), exact_target: true, ..Settings::default() });
    world.run(seconds(1));
    assert_eq!(world.parent().1, 99);
    assert_eq!(world.jobs.last().unwrap().work_bits, bits(TARGET));
    world.list(&[0], Settings::default());
    assert_eq!(world.parent().1, 97);
}

#[test]
fn no_pool_at_all_does_nothing() {
    let mut pools = Pools::new(Vec::new(), Settings::default());
    assert_eq!(pools.handle(Event::Tick, seconds(1)), vec![]);
    assert_eq!(pools.next_wake(), None);
}

/// Thousands of steps of masters that do whatever they please, then behave: what is mined is then what they say.
#[test]
fn whatever_masters_do_their_last_word_is_followed_once_they_behave() {
    for seed in 0..20 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let line = &mut fastrand::Rng::with_seed(!seed);
        let pools = random.usize(1..=3);
        let masters = (0..pools).map(|_| Master::new(random.u32(0..60))).collect();
        let mine_old = random.bool().then(|| random.u32(0..9));
        let mut world = World::new(masters, Settings { mine_old, ..Default::default() });
        for _ in 0..150 {
            let which = random.usize(0..pools);
            misbehave(&mut world.masters[which], random);
            if random.u8(..) < 20 {
                let work_bits = bits(if random.bool() { TARGET } else { 0x2001_ffff });
                world.send(Event::TargetRefused { pool: PoolId(which), work_bits });
            }
            if line.u8(..) < 20 {
                world.send(Event::Fits(line.bool().then(|| WorkBits::at_least(1 << line.u32(1..20)))));
            }
            let step = random.u64(0..20_000);
            world.run(Duration::from_millis(step));
            let remembered: usize = world.pools.clients.iter().map(PoolClient::remembered).sum();
            assert!(remembered < 400 * pools, "seed {seed}");
        }
        for master in &mut world.masters {
            behave(master);
        }
        world.run(seconds(300));
        assert_eq!(world.pools.leader(), PoolId(0), "seed {seed}");
        let old = mine_old.unwrap_or(3) as usize;
        assert_eq!(world.parent(), world.masters[0].parent(old), "seed {seed}");
        for (index, master) in world.masters.iter().enumerate() {
            let id = PoolId(index);
            assert_eq!(i64::from(world.views[index].tip_height), master.height(), "seed {seed}");
            assert_eq!(world.views[index], *world.pools.view(id).unwrap());
            assert!(world.pools.is_up(id) && world.pools.last_error(id).is_none(), "seed {seed}");
        }
    }
}

fn misbehave(master: &mut Master, random: &mut fastrand::Rng) {
    let tip = master.chain.len() as u32 - 1;
    // A hash stands for all blocks before it as well, so that each branch needs a number of its own.
    let branch = random.u32(1..);
    match random.u8(0..16) {
        0..4 => master.extend(branch, tip + random.u32(1..4)),
        4 => master.extend(branch, tip + random.u32(1..40)),
        5 if !master.left.is_empty() => {
            std::mem::swap(&mut master.chain, &mut master.left);
            master.publish();
        }
        5 => master.cut(tip.saturating_sub(random.u32(0..8))),
        6 => {
            master.left = master.chain.clone();
            master.cut(tip.saturating_sub(random.u32(1..8)));
            master.extend(branch, tip + random.u32(0..2));
        }
        7 => {
            master.replace("/config.json", failed());
        }
        8 => {
            let mut body = master.answer("/config.json").unwrap_or_default();
            for _ in 0..random.usize(1..4) {
                if !body.is_empty() {
                    let at = random.usize(0..body.len());
                    body[at] = random.u8(..);
                }
            }
            body.truncate(random.usize(0..=body.len() * 4));
            master.replace_config(body);
        }
        9 | 10 => {
            let file =
                blkinfo(master.chain[random.usize(master.chain.len().saturating_sub(4)..master.chain.len())]);
            let broken = match random.u8(0..3) {
                0 => failed(),
                1 => master.answer(&blkinfo(master.chain[0])),
                _ => Ok(vec![random.u8(..); 10]),
            };
            master.replace(&file, broken);
        }
        11 => master.latency = Duration::from_millis(random.u64(0..12_000)),
        12 => master.silent = random.bool(),
        13 => {
            let values = [json!(0), json!(5), json!(30), json!(-1), json!("x"), json!(null)];
            master.set("mineOldAnns", values[random.usize(0..values.len())].clone());
        }
        14 => {
            let values = [json!(TARGET), json!(0x2000_ffff), json!(0), json!(null), json!("x")];
            master.set("annTarget", values[random.usize(0..values.len())].clone());
        }
        _ => {
            let values = [json!(["http://a/"]), json!([]), json!(["http://a/", "x"]), json!(i32::MAX)];
            let key = if random.bool() { "submitAnnUrls" } else { "currentHeight" };
            master.config[key] = values[random.usize(0..values.len())].clone();
            let body = master.config.to_string();
            master.replace_config(body);
        }
    }
}

/// Puts everything in order again; the chain stays where it was.
fn behave(master: &mut Master) {
    let chain = std::mem::take(&mut master.chain);
    *master = Master::new(0);
    master.chain = Vec::new();
    let mut previous = BlockHash([0; 32]);
    for (height, block) in chain.into_iter().enumerate() {
        let info = json!({"header": {"hash": block, "height": height, "previousblockhash": previous}});
        master.replace(&blkinfo(block), Ok(info.to_string().into_bytes()));
        master.chain.push(block);
        previous = block;
    }
    master.publish();
}
