//! Thousands of schedules against pools that fail in every way the protocol document knows.
//!
//! Three counts are kept apart: what the backends found, the ledger, and what the pools recorded (their `/stats`).
//! A schedule passes if they agree, and if every announcement that the pool could have had, it has. The same
//! checks must fail for every planted bug.

#![allow(clippy::unwrap_used, reason = "what is unwrapped was made here")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use kernels::{Announcement, Hash32, Invalid, WorkBits};
use rayon::prelude::*;

use super::{doubt::PATIENCE, *};
use crate::{
    planted::{self, Agenda, Bug, Verdict, check},
    protocol::BlockHash,
    values::{Block, Job},
};

/// How many schedules are tried. Any number may be: a schedule is made from its number alone.
const SCHEDULES: u64 = 1000;

/// What makes a schedule what it is.
#[derive(Clone, Debug)]
struct Plan {
    /// Of a hundred posts, how many go wrong until all is healed.
    faults: u32,
    /// Faults after which nobody knows whether the batch was taken.
    unclear: bool,
    small_queue: bool,
    blocks: bool,
    reorganisation: bool,
    lists: bool,
    bad_backend: bool,
    twins: bool,
    raise: bool,
    drain_at_once: bool,
    cut_off: bool,
    /// Something before the handlers takes no more announcements at once.
    small_bodies: bool,
    /// The user takes pools away and names them again.
    changing_pools: bool,
    /// The line is limited, and the limit is changed.
    limited: bool,
    /// The second pool, if there is one, is not of the first one's world, ...
    strange: bool,
    /// ... until some moment.
    comes_round: bool,
}

/// Why a pool takes nothing that is mined for the leading one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strange {
    /// It expects another signing key.
    OtherKey,
    /// It is on another branch of the chain, as high as the leading one's.
    OtherBranch,
}

impl Plan {
    fn new(rng: &mut fastrand::Rng) -> Self {
        let mut some = |percent: u32| rng.u32(..100) < percent;
        let twins = some(10);
        let mut plan = Self {
            faults: 0,
            unclear: !twins && some(70),
            small_queue: some(15),
            blocks: some(40),
            reorganisation: some(15),
            lists: some(40),
            bad_backend: some(30),
            twins,
            raise: some(10),
            drain_at_once: some(50),
            cut_off: some(10),
            small_bodies: some(15),
            changing_pools: some(20),
            limited: some(20),
            strange: some(30),
            comes_round: some(50),
        };
        plan.faults = *rng.choice(&[0, 10, 40, 80]).unwrap();
        plan.comes_round &= plan.strange;
        plan.drain_at_once &= !plan.comes_round;
        plan
    }
}

#[derive(Debug)]
enum Coming {
    Mine(usize),
    Block,
    Reorganise,
    List(usize),
    Raise(usize),
    Change(usize),
    Limit,
    View(usize, PoolView),
    Answer { pool: usize, request: u64, outcome: PostOutcome },
    Verdicts(u64, Vec<Result<(), Invalid>>),
    ComeRound(usize),
    Heal,
    Drain,
    Finish,
    End,
}

/// A pool's own books.
struct FakePool {
    handlers: Vec<Address>,
    seen_view: PoolView,
    recorded: HashSet<Hash32>,
    accepted: u64,
    duplicate: u64,
    target: WorkBits,
    /// Its handlers know blocks up to that many below the tip.
    lag: u32,
    view_delay: Duration,
    leads: bool,
    listed: bool,
    /// What was found while it was mined for.
    meant: HashSet<*const Found>,
    in_flight: HashMap<u64, (Address, Arc<Batch>)>,
    told: HashSet<*const Found>,
    elsewhere: HashMap<Hash32, u32>,
    strange: Option<Strange>,
    /// What is found from then on it must have, as far as strangeness goes.
    sound_from: Moment,
    /// When the uploader heard that a handler refuses what is mined on a block, and why not is still to be told.
    refused: HashMap<(Address, BlockHash), Moment>,
}

struct World {
    rng: fastrand::Rng,
    plan: Plan,
    now: Moment,
    agenda: Agenda<Coming>,
    uploader: Uploader,
    settings: Settings,
    chain: BTreeMap<u32, BlockHash>,
    pools: Vec<FakePool>,
    job: Arc<Job>,
    found_by: Vec<u64>,
    found: Vec<Arc<Found>>,
    found_at: HashMap<*const Found, Moment>,
    bad: HashSet<Hash32>,
    /// The uploader has said that the bad backend errs.
    erred: bool,
    healed: bool,
    draining: bool,
    finished: bool,
    /// When posts set out since the limit was last changed, and their bytes on the wire.
    posted: Vec<(Moment, f64)>,
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// One at which all that is found in a schedule can be sent in its time.
fn a_limit(rng: &mut fastrand::Rng) -> Limit {
    Limit::new(*rng.choice(&[64e3, 200e3, 2e6]).unwrap())
}

fn handler_url(pool: usize, handler: u32) -> Address {
    format!("http://pool{pool}.example/handler{handler}/submit").parse().unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = Plan::new(&mut rng);
        let pools = rng.usize(1..=2);
        let settings = Settings {
            uploaders: rng.usize(1..=3),
            timeout: seconds(5.0),
            batch_len: rng.usize(1..=8),
            queue_bytes: if plan.small_queue { 12 * Announcement::LEN } else { 64 << 20 },
            pool_bytes: if plan.small_queue { 20 * Announcement::LEN } else { 512 << 20 },
            backoff_max: seconds(4.0),
            limit: plan.limited.then(|| a_limit(&mut rng)),
            ..Settings::new("payme".parse().unwrap(), seed)
        };
        let chain: BTreeMap<_, _> =
            (90..=100).map(|height| (height, BlockHash([height as u8; 32]))).collect();
        let mut world = Self {
            uploader: Uploader::new(&vec!["pool".into(); pools], 2, settings.clone()),
            plan,
            now: Moment::ZERO,
            agenda: Agenda::default(),
            settings,
            job: Arc::new(Job {
                id: 1,
                parent_hash: chain[&98],
                parent_height: 98,
                work_bits: WorkBits::at_least(128),
                signing_key: [0; 32],
            }),
            chain,
            pools: (0..pools)
                .map(|pool| FakePool {
                    handlers: (0..rng.u32(1..=3)).map(|handler| handler_url(pool, handler)).collect(),
                    seen_view: PoolView::default(),
                    recorded: HashSet::new(),
                    accepted: 0,
                    duplicate: 0,
                    target: WorkBits::at_least(128),
                    lag: 0,
                    view_delay: seconds(rng.f64() * 4.0),
                    leads: pool == 0,
                    listed: true,
                    meant: HashSet::new(),
                    in_flight: HashMap::new(),
                    told: HashSet::new(),
                    elsewhere: HashMap::new(),
                    strange: None,
                    sound_from: Moment::ZERO,
                    refused: HashMap::new(),
                })
                .collect(),
            found_by: vec![0; 2],
            found: Vec::new(),
            found_at: HashMap::new(),
            bad: HashSet::new(),
            erred: false,
            healed: false,
            draining: false,
            finished: false,
            posted: Vec::new(),
            rng,
        };
        world.draw_up();
        world
    }

    /// Puts what will happen of itself on the calendar: mining for a minute, healing, time to settle.
    fn draw_up(&mut self) {
        for pool in 0..self.pools.len() {
            self.publish(pool);
        }
        if self.plan.strange && self.pools.len() > 1 {
            self.pools[1].strange = self.rng.choice([Strange::OtherKey, Strange::OtherBranch]);
            self.pools[1].sound_from = Moment::MAX;
            if self.plan.comes_round {
                let moment = seconds(self.rng.f64() * 60.0);
                self.at(moment, Coming::ComeRound(1));
                self.pools[1].sound_from = moment + seconds(80.0);
                (0..3).for_each(|_| self.at(moment + seconds(81.0), Coming::Mine(0)));
            }
        }
        for _ in 0..self.rng.u32(5..25) {
            let backend = self.rng.usize(..2);
            self.at_random(60.0, Coming::Mine(backend));
        }
        if self.plan.blocks {
            (0..self.rng.u32(1..8)).for_each(|_| self.at_random(60.0, Coming::Block));
        }
        if self.plan.reorganisation {
            self.at_random(60.0, Coming::Reorganise);
        }
        if self.plan.limited {
            (0..self.rng.u32(0..3)).for_each(|_| self.at_random(80.0, Coming::Limit));
        }
        for pool in 0..self.pools.len() {
            if self.plan.lists {
                (0..self.rng.u32(1..4)).for_each(|_| self.at_random(60.0, Coming::List(pool)));
            }
            if self.plan.raise {
                self.at_random(60.0, Coming::Raise(pool));
            }
            if self.plan.changing_pools {
                (0..self.rng.u32(0..4)).for_each(|_| self.at_random(60.0, Coming::Change(pool)));
            }
        }
        let healing = self.rng.f64() * 20.0 + 50.0;
        self.at(seconds(healing), Coming::Heal);
        if self.plan.drain_at_once {
            self.at(seconds(60.0), Coming::Drain);
        }
        if self.plan.cut_off {
            let end = 60.0 + self.rng.f64() * 10.0;
            self.at(seconds(end), Coming::Finish);
        }
        self.at(seconds(600.0), Coming::End);
    }

    fn at(&mut self, moment: Moment, what: Coming) {
        self.agenda.put(moment, what);
    }

    fn at_random(&mut self, within: f64, what: Coming) {
        let moment = seconds(self.rng.f64() * within);
        self.at(moment, what);
    }

    fn tip(&self) -> u32 {
        *self.chain.keys().last().unwrap()
    }

    /// The pool's master tells the miner the news, in a while.
    fn publish(&mut self, pool: usize) {
        let tip_height = self.tip();
        let block = |(&height, &hash): (&u32, &BlockHash)| Block { hash, height, signing_key: [0; 32] };
        let FakePool { handlers, target, leads, view_delay, .. } = &self.pools[pool];
        let blocks = self.chain.range(tip_height - 5..).map(block).filter(|_| *leads).collect();
        let view = PoolView { handlers: handlers.clone(), tip_height, ann_target: Some(*target), blocks };
        self.at(self.now + *view_delay, Coming::View(pool, view));
    }

    fn mine(&mut self, backend: usize) -> Event {
        let count = self.rng.usize(1..=10);
        let announcements: Vec<_> = (0..count).map(|_| self.make(backend)).collect();
        self.found_by[backend] += count as u64;
        self.found.extend_from_slice(&announcements);
        self.found_at.extend(announcements.iter().map(|found| (Arc::as_ptr(found), self.now)));
        for pool in self.pools.iter_mut().filter(|pool| pool.listed) {
            pool.meant.extend(announcements.iter().map(Arc::as_ptr));
        }
        Event::Found { backend: BackendId(backend), found_total: self.found_by[backend], announcements }
    }

    fn make(&mut self, backend: usize) -> Arc<Found> {
        if self.plan.twins
            && self.rng.u32(..10) == 0
            && let Some(twin) = self.rng.choice(&self.found)
            && !self.bad.contains(&twin.hash)
        {
            return Arc::new(Found { backend: BackendId(backend), ..Found::clone(twin) });
        }
        let mut bytes = [0; 1024];
        bytes[..88].copy_from_slice(&self.job.header(self.rng.u32(..)).to_bytes());
        let mut hash = [0; 32];
        self.rng.fill(&mut hash);
        if self.plan.bad_backend && backend == 1 && self.rng.u32(..4) == 0 {
            self.bad.insert(hash);
        }
        let announcement = Announcement::from_bytes(bytes);
        Arc::new(Found { announcement, hash, job: self.job.clone(), backend: BackendId(backend) })
    }

    /// The miner turns to another job, by what the leading pool says.
    fn turn(&mut self, view: &PoolView) {
        let block = self.rng.choice(&view.blocks[3..]).unwrap();
        self.job = Arc::new(Job {
            id: self.job.id + 1,
            parent_hash: block.hash,
            parent_height: block.height,
            work_bits: view.ann_target.unwrap(),
            signing_key: block.signing_key,
        });
    }

    /// What a handler does with a batch by the protocol document, and what it answers.
    fn submit(&mut self, pool: usize, url: &Address, batch: &Batch) -> (u16, String) {
        let (tip, chain, bad) = (self.tip(), &self.chain, &self.bad);
        let pool = &mut self.pools[pool];
        let (tip, parent) = (tip - pool.lag, batch.job.parent_height);
        let error =
            |text: &str| (400, serde_json::json!({"warn": [], "error": [text], "result": null}).to_string());
        let Some(place) = pool.handlers.iter().position(|handler| handler == url) else {
            return (404, "not found".into());
        };
        if self.plan.small_bodies && batch.len() > 2 {
            return (413, "<html>".into());
        }
        if parent + 5 < tip || parent > tip {
            let text = format!("block number out of range, expect {} got {}", tip + 1, parent + 1);
            return error(&text);
        }
        if pool.strange == Some(Strange::OtherKey) {
            return error("wrong signing key");
        }
        if !batch.job.work_bits.is_at_least_as_hard_as(pool.target) {
            return error("not enough work");
        }
        for found in &batch.announcements {
            if found.handler_index(pool.handlers.len()) != place {
                for found in &batch.announcements {
                    *pool.elsewhere.entry(found.hash).or_default() += 1;
                }
                return error("submit elsewhere");
            }
            let is_other = pool.strange.is_some() || chain.get(&parent) != Some(&batch.job.parent_hash);
            if bad.contains(&found.hash) || is_other {
                return error("check_ann() -> INVAL");
            }
        }
        let new = batch.announcements.iter().filter(|found| pool.recorded.insert(found.hash)).count();
        let dup = batch.len() - new;
        pool.accepted += new as u64;
        pool.duplicate += dup as u64;
        let result = serde_json::json!({"type": "anns", "accepted": new, "dup": dup});
        (200, serde_json::json!({"warn": [], "error": [], "result": result}).to_string())
    }

    /// A post sets out: what will come of it, and what of it was wrong.
    fn post(&mut self, post: Post) -> Verdict {
        let Post { request, pool: PoolId(pool), url, batch, spread, .. } = post;
        self.check_limit(batch.len(), spread)?;
        let one_job = |found: &Arc<Found>| found.job == batch.job;
        check!(!batch.is_empty() && batch.len() <= self.settings.batch_len, "{} in a batch", batch.len());
        check!(batch.announcements.iter().all(one_job), "a batch of several jobs");
        let bad = |found: &Arc<Found>| self.bad.contains(&found.hash);
        check!(
            !self.erred || !batch.announcements.iter().any(bad),
            "bad announcements of a backend known to err"
        );
        check!(post.work_number == batch.job.parent_height + 1, "work number {}", post.work_number);
        let books = &self.pools[pool];
        let (view, job) = (&books.seen_view, &batch.job);
        check!(view.window().contains(&job.parent_height), "posted outside the window");
        let replaced = view.block_at(job.parent_height).is_some_and(|block| block.hash != job.parent_hash);
        check!(!replaced, "posted though its parent was replaced");
        let refused = books.refused.get(&(url.clone(), job.parent_hash)).filter(|_| !self.draining);
        let waited = refused.is_none_or(|refused| *refused + PATIENCE <= self.now);
        check!(waited, "posted at once what was refused, or its like");
        for found in &batch.announcements {
            let handlers = &books.seen_view.handlers;
            let right = &handlers[found.handler_index(handlers.len())];
            check!(*right == url, "posted to {url} and not to {right}");
            check!(!books.told.contains(&Arc::as_ptr(found)), "posted after it was accepted");
            let same = |other: &Arc<Found>| Arc::ptr_eq(other, found);
            let twice = books.in_flight.values().any(|(_, batch)| batch.announcements.iter().any(same));
            check!(!twice, "posted twice at the same time");
        }
        let posts = books.in_flight.values().filter(|(to, _)| *to == url).count();
        check!(posts < self.settings.uploaders, "{posts} posts to {url}");
        check!(!self.finished, "posted after the end");

        let soon = self.now + seconds(self.rng.f64());
        let late = self.now + self.settings.timeout;
        let faulty = !self.healed && self.rng.u32(..100) < self.plan.faults;
        let fault = if !faulty { 0 } else { self.rng.u32(1..if self.plan.unclear { 14 } else { 6 }) };
        let answer = |status, body: &str| PostOutcome::Answer { status, body: body.into() };
        let (moment, outcome) = match fault {
            0 => {
                let (status, body) = self.submit(pool, &url, &batch);
                (soon, answer(status, &body))
            }
            1 => (soon, answer(503, r#"{"warn":[],"error":["overloaded"],"result":null}"#)),
            2 => (soon, answer(503, "<html>")),
            3 => (soon, answer(400, r#"{"warn":[],"error":["server not ready"],"result":null}"#)),
            4 => (soon, answer(429, "")),
            5 if self.rng.bool() => (soon, PostOutcome::CutShort("reset".into())),
            5 => (soon, PostOutcome::NotSent("refused".into())),
            // From here on, nobody tells whether it was taken.
            6 => (late, PostOutcome::TimedOut),
            7 => (soon, PostOutcome::Broken("reset".into())),
            8 => (soon, answer(200, "garbage")),
            9 => (soon, answer(500, "<html>")),
            _ => {
                let (status, body) = self.submit(pool, &url, &batch);
                match fault {
                    10 => (late, PostOutcome::TimedOut),
                    11 => (soon, PostOutcome::Broken("reset".into())),
                    12 => (soon, answer(502, "<html>")),
                    _ if status == 200 => (soon, answer(200, &body[..body.len() / 2])),
                    _ => (soon, answer(status, &body)),
                }
            }
        };
        self.pools[pool].in_flight.insert(request, (url, batch));
        self.at(moment, Coming::Answer { pool, request, outcome });
        Ok(())
    }

    /// What was posted must have had its time before something else is.
    fn check_limit(&mut self, announcements: usize, spread: Duration) -> Verdict {
        let Some(limit) = self.settings.limit else {
            check!(spread.is_zero(), "spread over {spread:?} without a limit");
            return Ok(());
        };
        let bytes_per_s = limit.mbit_per_s() * 1e6 / 8.0;
        let mut sent = 0.0;
        for (moment, bytes) in self.posted.iter().rev().take(100) {
            sent += bytes;
            let room = bytes_per_s * (self.now - *moment).as_secs_f64();
            let fits = sent <= room + 1.0;
            check!(fits, "{sent} bytes since {moment:?}, at {:?} and {limit:?}", self.now);
        }
        let bytes = wire_bytes(announcements) as f64;
        let is_even = (spread.as_secs_f64() * bytes_per_s - bytes).abs() < 1.0;
        check!(is_even, "{bytes} spread over {spread:?}");
        self.posted.push((self.now, bytes));
        Ok(())
    }

    fn happen(&mut self, what: Coming) -> Option<Event> {
        match what {
            Coming::Mine(backend) => return Some(self.mine(backend)),
            Coming::Block => {
                let height = self.tip() + 1;
                let mut hash = [height as u8; 32];
                self.rng.fill(&mut hash[..8]);
                self.chain.insert(height, BlockHash(hash));
                for pool in &mut self.pools {
                    pool.lag = u32::from(!self.healed && self.plan.faults > 0 && self.rng.bool());
                }
                (0..self.pools.len()).for_each(|pool| self.publish(pool));
            }
            Coming::Reorganise => {
                let tip = self.tip();
                for height in tip - self.rng.u32(1..3)..=tip {
                    let mut hash = [0; 32];
                    self.rng.fill(&mut hash);
                    self.chain.insert(height, BlockHash(hash));
                }
                (0..self.pools.len()).for_each(|pool| self.publish(pool));
            }
            Coming::List(pool) => {
                let mut handlers: Vec<_> = (0..5).map(|handler| handler_url(pool, handler)).collect();
                self.rng.shuffle(&mut handlers);
                handlers.truncate(self.rng.usize(1..=3));
                self.pools[pool].handlers = handlers;
                self.publish(pool);
            }
            Coming::Raise(pool) => {
                self.pools[pool].target = WorkBits::at_least(256);
                self.publish(pool);
            }
            Coming::Change(pool) => {
                self.pools[pool].listed ^= true;
                self.pools[pool].refused.clear();
                self.publish(pool);
                return Some(self.change());
            }
            Coming::Limit => {
                self.settings.limit = self.rng.bool().then(|| a_limit(&mut self.rng));
                self.posted.clear();
                return Some(self.change());
            }
            // Nobody asks a pool that is not mined for.
            Coming::View(pool, _) if !self.pools[pool].listed => {}
            Coming::View(pool, view) => {
                self.pools[pool].seen_view = view.clone();
                self.pools[pool].refused.clear();
                if pool == 0 {
                    self.turn(&view);
                }
                return Some(Event::View { pool: PoolId(pool), view });
            }
            Coming::Answer { pool, request, outcome } => {
                let pool = &mut self.pools[pool];
                let (url, batch) = pool.in_flight.remove(&request).unwrap();
                let block = (url, batch.job.parent_hash);
                match &outcome {
                    PostOutcome::Answer { status: 200, .. } => _ = pool.refused.remove(&block),
                    // One that is bad explains itself.
                    PostOutcome::Answer { status: 400, body } if !self.plan.bad_backend => {
                        let text = String::from_utf8_lossy(body);
                        let is_over = pool.refused.get(&block).is_none_or(|at| *at + PATIENCE <= self.now);
                        if (text.contains("check_ann") || text.contains("signing key")) && is_over {
                            pool.refused.insert(block, self.now);
                        }
                    }
                    _ => {}
                }
                let told = match &outcome {
                    PostOutcome::Answer { status: 200, body } => {
                        serde_json::from_slice::<serde_json::Value>(body).is_ok()
                    }
                    _ => false,
                };
                if told {
                    pool.told.extend(batch.announcements.iter().map(Arc::as_ptr));
                }
                return Some(Event::Answered { request, outcome });
            }
            Coming::Verdicts(check, verdicts) => return Some(Event::Checked { check, verdicts }),
            Coming::ComeRound(pool) => self.pools[pool].strange = None,
            Coming::Heal => {
                self.healed = true;
                self.pools.iter_mut().for_each(|pool| pool.lag = 0);
            }
            Coming::Drain => {
                self.draining = true;
                return Some(Event::Drain);
            }
            Coming::Finish => {
                self.finished = true;
                return Some(Event::Finish);
            }
            Coming::End => {}
        }
        None
    }

    /// The user has changed the settings.
    fn change(&self) -> Event {
        let listed = (0..self.pools.len()).filter(|pool| self.pools[*pool].listed);
        let pools = listed.map(|pool| (PoolId(pool), "pool".into())).collect();
        Event::Change { pools, settings: self.settings.clone() }
    }

    fn run(mut self) -> Verdict {
        let mut steps = 0;

        loop {
            steps += 1;
            check!(steps < 20_000, "it spins");
            let moment = self.agenda.next().unwrap();
            let event = match self.uploader.next_wake() {
                Some(wake) if wake <= moment => {
                    check!(wake > self.now || steps == 1, "it wakes for nothing at {wake:?}");
                    self.now = wake;
                    Some(Event::Tick)
                }
                _ => {
                    self.now = moment;
                    let (_, what) = self.agenda.take().unwrap();
                    if matches!(what, Coming::End) {
                        return self.settle();
                    }
                    self.happen(what)
                }
            };
            let Some(event) = event else { continue };
            for effect in self.uploader.handle(event, self.now) {
                match effect {
                    Effect::Post(post) => self.post(post)?,
                    Effect::Check(Check { check, announcements, .. }) => {
                        let verdict = |found: &Arc<Found>| match self.bad.contains(&found.hash) {
                            true => Err(Invalid::Inval),
                            false => Ok(()),
                        };
                        let verdicts = announcements.iter().map(verdict).collect();
                        let moment = self.now + seconds(self.rng.f64() * 0.5);
                        self.at(moment, Coming::Verdicts(check, verdicts));
                    }
                    Effect::BackendErred { backend, .. } => {
                        check!(self.plan.bad_backend && backend.0 == 1, "a good backend is blamed");
                        self.erred = true;
                    }
                    Effect::TargetRefused { .. } => check!(self.plan.raise, "the target was not raised"),
                    Effect::Doubted { .. } | Effect::Note(_) => {}
                }
            }
            self.audit()?;
        }
    }

    /// What holds at every moment.
    fn audit(&self) -> Verdict {
        let ledger = self.uploader.snapshot();
        check!(ledger.adds_up(), "does not add up: {ledger:?}");
        check!(ledger.found_by == self.found_by, "{:?} were found, not {:?}", self.found_by, ledger.found_by);
        let found: u64 = self.found_by.iter().sum();
        for (account, pool) in ledger.pools.iter().zip(&self.pools) {
            let meant = pool.meant.len() as u64;
            check!(account.found == meant, "{meant} were found for it, not {}", account.found);
            check!(account.found + account.missed == found, "{found} were found: {account:?}");
            let room = self.settings.queue_bytes / Announcement::LEN;
            check!(account.handlers.iter().all(|row| row.queued as usize <= room), "a queue is too long");
            let room = self.settings.pool_bytes / Announcement::LEN;
            check!(account.queued as usize <= room, "a pool's queues are too long");
            let at_handlers =
                |count: fn(&super::HandlerRow) -> u64| account.handlers.iter().map(count).sum::<u64>();
            check!(at_handlers(|row| row.stale) <= account.stale, "handlers count more stale ones");
            check!(at_handlers(|row| row.overflow) <= account.overflow, "handlers count more overflow");
            check!(at_handlers(|row| row.unknown) <= account.unknown, "handlers count more unknown ones");
            check!(at_handlers(|row| row.rejected) <= account.rejected, "handlers count more rejected ones");
            check!(account.accepted <= pool.accepted, "more accepted than the pool has");
            let late_or_flying = pool.in_flight.values().map(|(_, batch)| batch.len() as u64).sum::<u64>();
            let known = account.accepted + account.unknown + account.queued + late_or_flying;
            check!(self.finished || pool.accepted <= known, "the pool has more than the ledger knows of");
        }
        Ok(())
    }

    /// What holds at the end.
    fn settle(&self) -> Verdict {
        self.audit()?;
        let ledger = self.uploader.snapshot();
        let tip = self.tip();
        let waits = ledger.pools.iter().any(|account| account.queued + account.in_flight > 0);
        // Cut off before a pool that was named again has said a word, what waits for it is left behind.
        let hopeless = self.finished && self.plan.changing_pools;
        check!(self.uploader.is_idle() != waits || hopeless, "idle or not: {ledger:?}");
        for (account, pool) in ledger.pools.iter().zip(&self.pools) {
            let words =
                format!("{account:?}, while the pool has {} and {} twice", pool.accepted, pool.duplicate);
            check!(pool.accepted == pool.recorded.len() as u64, "the pool contradicts itself");
            check!(pool.accepted <= account.accepted + account.unknown, "the pool has more: {words}");
            let told = if self.plan.unclear { 0 } else { pool.duplicate };
            check!(account.duplicate == told || self.finished, "duplicates: {words}");
            if self.finished {
                continue;
            }
            check!(account.queued + account.in_flight == 0, "something is left: {words}");
            let is_lost = |found: &&Arc<Found>| {
                let job = &found.job;
                let stale = job.parent_height + 5 < tip
                    || self.chain.get(&job.parent_height) != Some(&job.parent_hash);
                let easy = !job.work_bits.is_at_least_as_hard_as(pool.target);
                let astray = pool.elsewhere.get(&found.hash).is_some_and(|&times| times > 1);
                let early = self.found_at[&Arc::as_ptr(found)] < pool.sound_from;
                let excused = stale || easy || astray || early || self.bad.contains(&found.hash);
                !(excused || pool.recorded.contains(&found.hash))
            };
            let meant = self.found.iter().filter(|found| pool.meant.contains(&Arc::as_ptr(found)));
            let lost = meant.filter(is_lost).count() as u64;
            let removed = account.causes.iter().filter(|((_, cause), _)| *cause == Cause::PoolRemoved);
            let mut excused = removed.map(|(_, count)| *count).sum::<u64>();
            check!(self.plan.changing_pools || excused == 0, "it was never removed: {words}");
            if self.plan.small_queue {
                excused += account.overflow + account.unknown;
            }
            check!(lost <= excused, "{lost} good ones are lost: {words}");
            check!(self.plan.small_queue || account.overflow == 0, "overflow: {words}");
            let is_strange = pool.sound_from > Moment::ZERO;
            let mut refused = account.causes.keys().map(|(_, cause)| cause);
            let refused = refused.any(|cause| matches!(cause, Cause::ParentRefused | Cause::OtherKey));
            check!(is_strange || self.plan.reorganisation || !refused, "it refused nothing: {words}");
            let moves = self.plan.blocks || self.plan.reorganisation;
            check!(moves || account.stale == 0, "stale: {words}");
            let bad = self.found.iter().filter(|found| self.bad.contains(&found.hash)).count() as u64;
            let Plan { lists, raise, small_queue, changing_pools, .. } = self.plan;
            let calm = !(moves || lists || raise || small_queue || changing_pools || is_strange);
            check!(!calm || account.rejected == bad, "{bad} were bad: {words}");
            check!(!calm || account.unknown == 0, "unknown: {words}");
        }
        Ok(())
    }
}

#[test]
fn ledger_backends_and_pools_agree_in_every_schedule() {
    let schedule = |seed| Some((seed, World::new(seed).run().err()?));
    if let Some((seed, fault)) = (0..SCHEDULES).into_par_iter().find_map_first(schedule) {
        panic!("schedule {seed}: {fault}\n{:?}", World::new(seed).plan);
    }
}

#[test]
fn the_same_checks_find_every_planted_bug() {
    for bug in Bug::OF_UPLOADER {
        let schedule = |seed| Some((seed, World::new(seed).run().err()?));
        let found = planted::with(bug, || (0..SCHEDULES).find_map(schedule));
        let (seed, fault) = found.unwrap_or_else(|| panic!("{bug:?} goes unnoticed"));
        println!("{bug:?}: schedule {seed}: {fault:.60}");
    }
}

#[test]
fn the_same_schedule_runs_twice_alike() {
    let trace = |seed| {
        let mut world = World::new(seed);
        let event = world.mine(0);
        let view =
            PoolView { handlers: world.pools[0].handlers.clone(), tip_height: 100, ..PoolView::default() };
        let first = format!("{:?}", world.uploader.handle(event, Moment::ZERO));
        let event = Event::View { pool: PoolId(0), view };
        first + &format!("{:?}", world.uploader.handle(event, Moment::ZERO))
    };
    assert_eq!(trace(7), trace(7));
}
