//! The whole miner but its threads, clock and sockets: the loop with scheduler, pools' clients and uploader, in a world
//! that masters, handlers, backends, network and user play.
//!
//! A schedule is made from its number alone. After every step it is held to what must hold at every moment; at the end
//! it has to follow the pools' last word and to have lost nothing that could be had. The same checks must fail for
//! every planted bug.
//!
//! `PKTMINE_SCHEDULES=N` tries so many; `PKTMINE_SCHEDULE=N` repeats that one and tells what happens in it.

#![allow(clippy::unwrap_used, reason = "what is unwrapped was made here")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    env, mem,
    sync::{Arc, Mutex, PoisonError},
};

use kernels::{Announcement, Hash32, WorkBits};
use rayon::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    backend::Reach,
    planted::{self, Agenda, Bug, Verdict, check},
    pool::FetchError,
    protocol::{BlockHash, WINDOW},
    scheduler::CancelPolicy,
    upload::{Batch, Cause, PostOutcome},
    values::{Address, Found, PoolView, Round},
};

/// How many schedules are tried.
const SCHEDULES: u64 = 1000;

/// How many are tried for a planted bug at the most.
const SCHEDULES_FOR_A_BUG: u64 = 300;

/// When faults end, and when all is to be well again.
const HEALED: Duration = Duration::from_secs(40);
const CALM: Duration = Duration::from_secs(75);

/// What the loop asks of the world, in order, and what it is told of the time.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    now: Moment,
    wishes: Vec<Wish>,
}

enum Wish {
    Fetch(pool::Fetch),
    Post(upload::Post),
    Check(upload::Check),
    Start(usize, Vec<Round>),
    Cancel(usize, Vec<u64>, Reach),
}

impl Wire {
    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self, wish: Wish) {
        self.asked().wishes.push(wish);
    }
}

impl Outside for Wire {
    fn now(&self) -> Moment {
        self.asked().now
    }

    fn fetch(&mut self, fetch: pool::Fetch) {
        self.wish(Wish::Fetch(fetch));
    }

    fn post(&mut self, post: upload::Post) {
        self.wish(Wish::Post(post));
    }

    fn check(&mut self, check: upload::Check) {
        self.wish(Wish::Check(check));
    }

    fn resize(&mut self, _pools: usize, _uploaders: usize) {}
}

/// A backend that passes on what it is told.
struct Played {
    place: usize,
    info: BackendInfo,
    wire: Wire,
}

impl Backend for Played {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn start(&mut self, rounds: Vec<Round>) {
        self.wire.wish(Wish::Start(self.place, rounds));
    }

    fn cancel(&mut self, rounds: &[u64], reach: Reach) {
        self.wire.wish(Wish::Cancel(self.place, rounds.to_vec(), reach));
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// What a device does with the rounds that it holds; the first one is at work.
struct Device {
    held: Vec<Round>,
    capacity: usize,
    /// Ends of rounds on their way to the loop that count as held there still.
    ending: HashSet<u64>,
    /// Ends of rounds on their way that were stopped: others may take their place when they arrive.
    stopping: HashSet<u64>,
    failed: bool,
    /// Whether the loop knows that.
    failure_told: bool,
    /// Found by its own count, and as far as the loop was told.
    found: u64,
    told: u64,
    /// What it says arrives in order.
    last_message: Moment,
}

/// A pool's own books, and what its master says.
struct Master {
    base: Url,
    handlers: Vec<Address>,
    target: WorkBits,
    /// The hardest that it ever asked for.
    hardest: WorkBits,
    /// Whether it answers at all.
    down: bool,
    /// How many of the newest blocks it has not heard of.
    lag: u32,
    latency: Duration,
    recorded: HashSet<Hash32>,
    accepted: u64,
    listed: bool,
    /// What was found while it was mined for.
    meant: HashSet<Hash32>,
    in_flight: HashMap<u64, (Address, Arc<Batch>)>,
    /// What it said that it took.
    told: HashSet<Hash32>,
    elsewhere: HashMap<Hash32, u32>,
    configurations_in_flight: usize,
    /// How often it was taken away, or left out.
    term: u32,
}

enum Coming {
    Message(Box<Message>),
    Fetched {
        pool: usize,
        is_config: bool,
        term: u32,
        message: Box<Message>,
    },
    Answered {
        pool: usize,
        request: u64,
        outcome: PostOutcome,
    },
    Ended {
        device: usize,
        round: u64,
    },
    Found {
        device: usize,
        total: u64,
        announcements: Vec<Arc<Found>>,
    },
    Work(usize),
    Fail(usize),
    Failed(usize),
    Block,
    Reorganise,
    List(usize),
    Target(usize),
    Outage(usize, bool),
    /// The user names pools, these in this order.
    Change(Vec<usize>),
    Heal,
    Calm,
    Stop,
}

/// What makes a schedule what it is.
#[derive(Clone, Debug)]
struct Plan {
    /// Of a hundred requests, how many go wrong until all is healed.
    fetch_faults: u32,
    post_faults: u32,
    blocks: u32,
    reorganisations: u32,
    lists: u32,
    targets: u32,
    outages: u32,
    changes: u32,
    pauses: u32,
    failing_backend: bool,
    /// It is stopped while much is wrong.
    early_stop: bool,
}

impl Plan {
    fn new(rng: &mut fastrand::Rng) -> Self {
        let mut up_to =
            |percent: u32, most: u32| if rng.u32(..100) < percent { rng.u32(1..=most) } else { 0 };
        Self {
            blocks: up_to(70, 12),
            reorganisations: up_to(30, 4),
            lists: up_to(40, 4),
            targets: up_to(30, 3),
            outages: up_to(40, 3),
            changes: up_to(25, 3),
            pauses: up_to(30, 4),
            failing_backend: up_to(20, 1) > 0,
            early_stop: up_to(15, 1) > 0,
            fetch_faults: *rng.choice(&[0, 10, 40, 80]).unwrap(),
            post_faults: *rng.choice(&[0, 10, 40, 80]).unwrap(),
        }
    }
}

struct World {
    rng: fastrand::Rng,
    plan: Plan,
    now: Moment,
    agenda: Agenda<Coming>,
    wire: Wire,
    mine: Loop<Wire>,
    settings: Settings,
    /// The blocks of the chain by height, and all that there ever were with the one before each.
    chain: Vec<BlockHash>,
    blocks: HashMap<BlockHash, (usize, BlockHash)>,
    highest: usize,
    masters: Vec<Master>,
    /// The pools that are mined for, in the order that the user gave.
    order: Vec<usize>,
    devices: Vec<Device>,
    nonces: HashSet<u32>,
    found: Vec<Arc<Found>>,
    found_when_healed: usize,
    healed: bool,
    stopped: bool,
    stage: usize,
    tells: bool,
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn handler_url(pool: usize, handler: usize) -> Address {
    format!("http://pool{pool}.example/handler{handler}/submit").parse().unwrap()
}

fn settings(pools: Vec<Url>, seed: u64, rng: &mut fastrand::Rng) -> Settings {
    let defaults = Settings::new(pools, "payme".parse().unwrap(), seed);
    Settings {
        pool: pool::Settings {
            poll_interval: seconds(1.5),
            retry_max: seconds(2.0),
            down_after: seconds(5.0),
            lead_back_after: seconds(5.0),
            ..defaults.pool
        },
        fetch_timeout: seconds(5.0),
        upload: upload::Settings {
            uploaders: rng.usize(1..=3),
            timeout: seconds(5.0),
            batch_len: rng.usize(1..=8),
            batch_age: seconds(3.0),
            backoff_max: seconds(4.0),
            ..defaults.upload
        },
        cancel: if rng.bool() { CancelPolicy::Now } else { CancelPolicy::Finish },
        drain: seconds(40.0),
        quiet: true,
        ..defaults
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // The loop chooses its first hard nonce by this one.
        fastrand::seed(seed);
        let plan = Plan::new(&mut rng);
        let pools = rng.usize(1..=3);
        let bases: Vec<Url> =
            (0..pools).map(|pool| format!("http://pool{pool}.example/").parse().unwrap()).collect();
        let settings = settings(bases.clone(), seed, &mut rng);
        let wire = Wire::default();
        let devices: Vec<_> = (0..rng.usize(1..=2))
            .map(|_| Device {
                held: Vec::new(),
                capacity: rng.usize(1..=4),
                ending: HashSet::new(),
                stopping: HashSet::new(),
                failed: false,
                failure_told: false,
                found: 0,
                told: 0,
                last_message: Moment::ZERO,
            })
            .collect();
        let played = |(place, device): (usize, &Device)| {
            let info = BackendInfo {
                name: format!("played {place}"),
                description: String::new(),
                bus: None,
                capacity: device.capacity,
                candidates: 1 + place as u32 * 2,
            };
            Box::new(Played { place, info, wire: wire.clone() }) as Box<dyn Backend>
        };
        let backends = devices.iter().enumerate().map(played).collect();
        let outputs = Outputs { output: None, watch: Watch::default(), display: None };
        let mut world = Self {
            mine: Loop::new(settings.clone(), backends, wire.clone(), outputs),
            plan,
            now: Moment::ZERO,
            agenda: Agenda::default(),
            wire,
            settings,
            chain: Vec::new(),
            blocks: HashMap::new(),
            highest: 0,
            masters: bases
                .into_iter()
                .enumerate()
                .map(|(pool, base)| Master {
                    base,
                    handlers: (0..rng.usize(1..=3)).map(|handler| handler_url(pool, handler)).collect(),
                    target: WorkBits::at_least(128),
                    hardest: WorkBits::at_least(128),
                    down: false,
                    lag: 0,
                    latency: seconds(rng.f64()),
                    recorded: HashSet::new(),
                    accepted: 0,
                    listed: true,
                    meant: HashSet::new(),
                    in_flight: HashMap::new(),
                    told: HashSet::new(),
                    elsewhere: HashMap::new(),
                    configurations_in_flight: 0,
                    term: 0,
                })
                .collect(),
            order: (0..pools).collect(),
            devices,
            nonces: HashSet::new(),
            found: Vec::new(),
            found_when_healed: 0,
            healed: false,
            stopped: false,
            stage: 0,
            tells: env::var_os("PKTMINE_SCHEDULE").is_some(),
            rng,
        };
        (0..40).for_each(|_| world.extend());
        world.draw_up();
        world
    }

    /// Puts what will happen of itself on the calendar.
    fn draw_up(&mut self) {
        let plan = self.plan.clone();
        let faulty = HEALED.as_secs_f64();
        for device in 0..self.devices.len() {
            self.at_random(2.0, Coming::Work(device));
        }
        (0..plan.blocks).for_each(|_| self.at_random(faulty + 10.0, Coming::Block));
        (0..plan.reorganisations).for_each(|_| self.at_random(faulty, Coming::Reorganise));
        for _ in 0..plan.lists {
            let pool = self.any_pool();
            self.at_random(faulty, Coming::List(pool));
        }
        for _ in 0..plan.targets {
            let pool = self.any_pool();
            self.at_random(faulty, Coming::Target(pool));
        }
        for _ in 0..plan.outages {
            let (pool, begin) = (self.any_pool(), self.rng.f64() * faulty);
            let end = begin + self.rng.f64() * 20.0;
            self.at(seconds(begin), Coming::Outage(pool, true));
            self.at(seconds(end), Coming::Outage(pool, false));
        }
        for _ in 0..plan.changes {
            let mut order: Vec<_> = (0..self.masters.len()).collect();
            self.rng.shuffle(&mut order);
            order.truncate(self.rng.usize(1..=order.len()));
            self.at_random(faulty, Coming::Change(order));
        }
        for _ in 0..plan.pauses {
            let reason = if self.rng.bool() { PauseReason::User } else { PauseReason::Battery };
            let message = if self.rng.bool() { Message::Pause(reason) } else { Message::Resume(reason) };
            self.at_random(faulty, Coming::Message(Box::new(message)));
        }
        if plan.failing_backend {
            self.at_random(faulty, Coming::Fail(0));
        }
        if plan.early_stop {
            self.at_random(faulty, Coming::Stop);
        }
        self.at(HEALED, Coming::Heal);
        self.at(CALM, Coming::Calm);
    }

    fn at(&mut self, moment: Moment, what: Coming) {
        self.agenda.put(moment, what);
    }

    fn at_random(&mut self, within: f64, what: Coming) {
        let moment = self.now + seconds(self.rng.f64() * within);
        self.at(moment, what);
    }

    fn any_pool(&mut self) -> usize {
        self.rng.usize(..self.masters.len())
    }

    fn tip(&self) -> usize {
        self.chain.len() - 1
    }

    fn extend(&mut self) {
        let before = self.chain.last().copied().unwrap_or(BlockHash([0; 32]));
        let mut hash = [0; 32];
        self.rng.fill(&mut hash);
        self.blocks.insert(BlockHash(hash), (self.chain.len(), before));
        self.chain.push(BlockHash(hash));
        self.highest = self.highest.max(self.tip());
    }

    /// A device says something, in order.
    fn say(&mut self, device: usize, what: Coming) {
        let soon = self.now + seconds(self.rng.f64() * 0.05);
        let moment = self.devices[device].last_message.max(soon);
        self.devices[device].last_message = moment;
        self.at(moment, what);
    }

    /// A device goes on with the round at work.
    fn work(&mut self, place: usize) {
        let next = self.now + seconds(0.3 + self.rng.f64() * 3.0);
        if self.devices[place].failed {
            return;
        }
        self.at(next, Coming::Work(place));
        let Some(round) = self.devices[place].held.first().map(|round| round.id) else { return };
        self.find(place, 0..=4);
        if self.rng.u32(..3) == 0 {
            self.end_round(place, round, true);
        }
    }

    /// A device finds some in the round at work.
    fn find(&mut self, place: usize, count: std::ops::RangeInclusive<usize>) {
        let Some(round) = self.devices[place].held.first().cloned() else { return };
        let announcements: Vec<_> = (0..self.rng.usize(count)).map(|_| self.make(place, &round)).collect();
        if !announcements.is_empty() {
            let device = &mut self.devices[place];
            device.found += announcements.len() as u64;
            let total = device.found;
            self.say(place, Coming::Found { device: place, total, announcements });
        }
    }

    fn make(&mut self, backend: usize, round: &Round) -> Arc<Found> {
        let mut bytes = [0; 1024];
        bytes[..88].copy_from_slice(&round.job.header(round.hard_nonces.first).to_bytes());
        let mut hash = [0; 32];
        self.rng.fill(&mut hash);
        let announcement = Announcement::from_bytes(bytes);
        Arc::new(Found { announcement, hash, job: round.job.clone(), backend: BackendId(backend) })
    }

    /// A device no longer holds a round; `counts`: the scheduler takes it for held until it is told.
    fn end_round(&mut self, place: usize, round: u64, counts: bool) {
        let device = &mut self.devices[place];
        let before = device.held.len();
        device.held.retain(|held| held.id != round);
        if device.held.len() < before {
            if counts { &mut device.ending } else { &mut device.stopping }.insert(round);
            self.say(place, Coming::Ended { device: place, round });
        }
    }

    /// What a master answers.
    fn fetch(&mut self, fetch: pool::Fetch) -> Verdict {
        let pool = fetch.pool.0;
        let file = fetch.url.path().trim_start_matches('/').to_owned();
        let is_config = file == "config.json";
        let late = self.settings.fetch_timeout;
        let url = fetch.url.to_string();
        let tip = self.tip() - self.masters[pool].lag as usize;
        let master = &mut self.masters[pool];
        check!(master.listed || !is_config, "pool {pool} is asked though nobody mines for it");
        if is_config {
            master.configurations_in_flight += 1;
            check!(master.configurations_in_flight == 1, "two configurations of pool {pool} in flight");
        }
        let handlers: Vec<_> = master.handlers.iter().map(|url| url.as_str()).collect();
        let good = if is_config {
            json!({
                "tipHash": self.chain[tip], "currentHeight": tip + 1, "masterUrl": "http://m/",
                "paymakerUrl": "http://p/", "submitAnnUrls": handlers, "downloadAnnUrls": [],
                "submitBlockUrls": [], "version": 1, "softVersion": 1, "annVersions": [1], "mineOldAnns": 3,
                "annTarget": master.target.get(),
            })
        } else {
            let name = file.trim_start_matches("blkinfo_").trim_end_matches(".json");
            let hash: BlockHash = name.parse().map_err(|_| format!("{file} was asked for"))?;
            let Some((height, before)) = self.blocks.get(&hash) else {
                return Err(format!("{file} was asked for, which nobody told of"));
            };
            json!({"header": {"hash": hash, "height": height, "previousblockhash": before}, "sigKey": null})
        };
        let good = good.to_string().into_bytes();
        let (mut moment, latency) = (self.now + master.latency, self.rng.f64());
        moment += seconds(latency * 0.2);
        let failed = |cause: &str| Err(FetchError::Failed { url: url.clone(), cause: cause.into() });
        let faulty = !self.healed && self.rng.u32(..100) < self.plan.fetch_faults;
        let result = match if faulty { self.rng.u32(1..9) } else { 0 } {
            _ if self.masters[pool].down => failed("connection refused"),
            0 => Ok(good),
            1 => Err(FetchError::Status { url: url.clone(), status: 503 }),
            2 => {
                moment = self.now + late;
                Err(FetchError::TimedOut { url: url.clone(), timeout: late })
            }
            3 => failed("reset"),
            4 => Ok(b"<html>".to_vec()),
            5 => Ok(good[..good.len() / 2].to_vec()),
            6 => Err(FetchError::TooLarge { url: url.clone(), limit: fetch.limit }),
            7 => Err(FetchError::TooManyRedirects { url: url.clone() }),
            _ if is_config => {
                let config = String::from_utf8_lossy(&good).replace("annTarget", "noTarget");
                Ok(config.into_bytes())
            }
            _ => Ok(String::from_utf8_lossy(&good).replace("\"height\":", "\"height\":1").into_bytes()),
        };
        let message = Box::new(Message::Fetched { request: fetch.request, result });
        let term = self.masters[pool].term;
        self.at(moment, Coming::Fetched { pool, is_config, term, message });
        Ok(())
    }

    /// What a handler does with a batch by the protocol document, and what it answers.
    fn submit(&mut self, pool: usize, url: &Address, batch: &Batch) -> (u16, String) {
        let (tip, chain) = (self.tip(), &self.chain);
        let master = &mut self.masters[pool];
        let (tip, parent) = (tip - master.lag as usize, batch.job.parent_height as usize);
        let error = |text: &str| (400, json!({"warn": [], "error": [text], "result": null}).to_string());
        let Some(place) = master.handlers.iter().position(|handler| handler == url) else {
            return (404, "not found".into());
        };
        if parent + 5 < tip || parent > tip {
            return error(&format!("block number out of range, expect {} got {}", tip + 1, parent + 1));
        }
        if !batch.job.work_bits.is_at_least_as_hard_as(master.target) {
            return error("not enough work");
        }
        if batch.announcements.iter().any(|found| found.handler_index(master.handlers.len()) != place) {
            for found in &batch.announcements {
                *master.elsewhere.entry(found.hash).or_default() += 1;
            }
            return error("submit elsewhere");
        }
        if chain.get(parent) != Some(&batch.job.parent_hash) {
            return error("check_ann() -> INVAL");
        }
        let new = batch.announcements.iter().filter(|found| master.recorded.insert(found.hash)).count();
        master.accepted += new as u64;
        let result = json!({"type": "anns", "accepted": new, "dup": batch.len() - new});
        (200, json!({"warn": [], "error": [], "result": result}).to_string())
    }

    /// A post sets out: what of it was wrong, and what will come of it.
    fn post(&mut self, post: upload::Post) -> Verdict {
        let upload::Post { request, pool: PoolId(pool), url, batch, .. } = post;
        check!(!batch.is_empty(), "an empty batch");
        check!(batch.announcements.iter().all(|found| found.job == batch.job), "a batch of several jobs");
        check!(post.work_number == batch.job.parent_height + 1, "work number {}", post.work_number);
        let view = self.mine.pools.view(PoolId(pool)).unwrap();
        let books = &self.masters[pool];
        // Of a pool that was named again nothing is known at first; what was known goes on to be sent to.
        if books.listed && *view != PoolView::default() {
            check!(view.window().contains(&batch.job.parent_height), "posted outside the window");
            for found in &batch.announcements {
                let right = &view.handlers[found.handler_index(view.handlers.len())];
                check!(*right == url, "posted to {url} and not to {right}");
            }
        }
        for found in &batch.announcements {
            check!(!books.told.contains(&found.hash), "posted after it was accepted");
            let twice = |(_, other): &(Address, Arc<Batch>)| {
                other.announcements.iter().any(|other| Arc::ptr_eq(other, found))
            };
            check!(!books.in_flight.values().any(twice), "posted twice at the same time");
        }
        let posts = books.in_flight.values().filter(|(to, _)| *to == url).count();
        check!(posts < self.settings.upload.uploaders, "{posts} posts to {url}");

        let (soon, late) = (self.now + seconds(self.rng.f64()), self.now + post.timeout);
        let answer = |status, body: &str| PostOutcome::Answer { status, body: body.into() };
        let faulty = !self.healed && self.rng.u32(..100) < self.plan.post_faults;
        let fault = if faulty { self.rng.u32(1..10) } else { 0 };
        let (moment, outcome) = match fault {
            1 => (soon, answer(503, r#"{"warn":[],"error":["overloaded"],"result":null}"#)),
            2 => (soon, answer(400, r#"{"warn":[],"error":["server not ready"],"result":null}"#)),
            3 => (soon, PostOutcome::NotSent("refused".into())),
            4 => (soon, PostOutcome::CutShort("reset".into())),
            5 => (late, PostOutcome::TimedOut),
            6 => (soon, answer(500, "<html>")),
            _ => {
                let (status, body) = self.submit(pool, &url, &batch);
                match fault {
                    7 => (late, PostOutcome::TimedOut),
                    8 => (soon, PostOutcome::Broken("reset".into())),
                    9 if status == 200 => (soon, answer(200, &body[..body.len() / 2])),
                    _ => (soon, answer(status, &body)),
                }
            }
        };
        self.masters[pool].in_flight.insert(request, (url, batch));
        self.at(moment, Coming::Answered { pool, request, outcome });
        Ok(())
    }

    /// Carries out what the loop asked for.
    fn carry_out(&mut self) -> Verdict {
        let wishes = mem::take(&mut self.wire.asked().wishes);
        for wish in wishes {
            match wish {
                Wish::Fetch(fetch) => self.fetch(fetch)?,
                Wish::Post(post) => self.post(post)?,
                Wish::Check(check) => {
                    let verdicts = vec![Ok(()); check.announcements.len()];
                    let message = Message::Checked { check: check.check, verdicts };
                    self.at_random(0.5, Coming::Message(Box::new(message)));
                }
                Wish::Start(device, rounds) => {
                    check!(!self.devices[device].failure_told, "a backend that has failed gets rounds");
                    check!(self.mine.stage == Stage::Mining, "rounds start though mining has stopped");
                    for round in rounds {
                        let newest = self.mine.scheduler.job();
                        check!(newest == Some(&round.job), "a round of an old job starts");
                        for nonce in round.hard_nonces.iter() {
                            check!(self.nonces.insert(nonce), "hard nonce {nonce} twice");
                        }
                        if !self.devices[device].failed {
                            self.devices[device].held.push(round);
                        }
                    }
                }
                Wish::Cancel(device, rounds, reach) => {
                    let at_work = self.devices[device].held.first().map(|round| round.id);
                    for round in rounds {
                        if reach == Reach::Running {
                            if at_work == Some(round) && self.rng.bool() {
                                // What was found until then counts.
                                self.find(device, 1..=2);
                            }
                            let ended = self.devices[device].ending.remove(&round);
                            self.devices[device].stopping.extend(ended.then_some(round));
                            self.end_round(device, round, false);
                        } else if at_work != Some(round) {
                            self.end_round(device, round, true);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Something happens; gives what the loop is told of it.
    fn happen(&mut self, what: Coming) -> Option<Message> {
        match what {
            Coming::Message(message) => return Some(*message),
            Coming::Fetched { pool, is_config, term, message } => {
                let master = &mut self.masters[pool];
                master.configurations_in_flight -= usize::from(is_config && term == master.term);
                return Some(*message);
            }
            Coming::Answered { pool, request, outcome } => {
                let master = &mut self.masters[pool];
                let (_, batch) = master.in_flight.remove(&request).unwrap();
                if let PostOutcome::Answer { status: 200, body } = &outcome
                    && serde_json::from_slice::<serde_json::Value>(body).is_ok()
                {
                    master.told.extend(batch.announcements.iter().map(|found| found.hash));
                }
                return Some(Message::Answered { request, outcome });
            }
            Coming::Ended { device, round } => {
                self.devices[device].ending.remove(&round);
                self.devices[device].stopping.remove(&round);
                return Some(Message::Backend(BackendEvent::Ended { backend: BackendId(device), round }));
            }
            Coming::Found { device, total, announcements } => {
                self.devices[device].told = total;
                self.found.extend_from_slice(&announcements);
                for master in self.masters.iter_mut().filter(|master| master.listed) {
                    master.meant.extend(announcements.iter().map(|found| found.hash));
                }
                let backend = BackendId(device);
                let event = BackendEvent::Found { backend, found_total: total, announcements };
                return Some(Message::Backend(event));
            }
            Coming::Work(device) => self.work(device),
            Coming::Fail(device) => {
                let failing = &mut self.devices[device];
                failing.failed = true;
                failing.held.clear();
                // What it said before comes before.
                self.say(device, Coming::Failed(device));
            }
            Coming::Failed(device) => {
                self.devices[device].failure_told = true;
                let (backend, error) = (BackendId(device), "played".into());
                return Some(Message::Backend(BackendEvent::Failed { backend, error }));
            }
            Coming::Block => {
                self.extend();
                for master in &mut self.masters {
                    master.lag = if self.healed { 0 } else { self.rng.u32(0..2) };
                }
            }
            Coming::Reorganise => {
                let (depth, lower) = (self.rng.usize(1..=3), self.rng.usize(0..=1));
                self.chain.truncate(self.chain.len() - depth);
                (lower..depth).for_each(|_| self.extend());
                self.masters.iter_mut().for_each(|master| master.lag = 0);
            }
            Coming::List(pool) => {
                let mut handlers: Vec<_> = (0..5).map(|handler| handler_url(pool, handler)).collect();
                self.rng.shuffle(&mut handlers);
                handlers.truncate(self.rng.usize(1..=3));
                self.masters[pool].handlers = handlers;
            }
            Coming::Target(pool) => {
                let target = WorkBits::at_least(*self.rng.choice(&[128, 256, 512]).unwrap());
                let master = &mut self.masters[pool];
                master.target = target;
                if target.is_at_least_as_hard_as(master.hardest) {
                    master.hardest = target;
                }
            }
            Coming::Outage(pool, down) => self.masters[pool].down = down && !self.healed,
            Coming::Change(order) => {
                if self.mine.stage != Stage::Mining {
                    return None;
                }
                for (pool, master) in self.masters.iter_mut().enumerate() {
                    master.listed = order.contains(&pool);
                    if !master.listed {
                        // One that is named again begins anew, whatever is on its way still.
                        master.term += 1;
                        master.configurations_in_flight = 0;
                    }
                }
                let pools = order.iter().map(|pool| self.masters[*pool].base.clone()).collect();
                self.order = order;
                return Some(Message::Change(Box::new(Settings { pools, ..self.settings.clone() })));
            }
            Coming::Heal => {
                self.healed = true;
                for master in &mut self.masters {
                    (master.lag, master.down) = (0, false);
                }
                self.found_when_healed = self.found.len();
                for reason in [PauseReason::User, PauseReason::Battery] {
                    self.at(self.now, Coming::Message(Box::new(Message::Resume(reason))));
                }
            }
            Coming::Calm => self.at(self.now, Coming::Stop),
            Coming::Stop if !self.stopped => {
                self.stopped = true;
                return Some(Message::Stop);
            }
            Coming::Stop => {}
        }
        None
    }

    /// From the start to the last account.
    fn run(mut self) -> Verdict {
        for _ in 0..50_000 {
            let calm = self.step()?;
            if calm {
                self.is_calm()?;
            }
            if self.mine.stage == Stage::Done {
                return self.settle();
            }
        }
        Err("it does not come to an end".into())
    }

    /// One turn of the loop; whether all should be well by now.
    fn step(&mut self) -> Result<bool, String> {
        self.wire.asked().now = self.now;
        self.mine.turn();
        self.carry_out()?;
        let wake = self.mine.next_wake();
        check!(wake > self.now || self.mine.stage == Stage::Done, "it wakes for nothing at {wake:?}");
        let comes_first = self.agenda.next().is_some_and(|moment| moment < wake);
        let Some((moment, what)) = comes_first.then(|| self.agenda.take()).flatten() else {
            self.audit()?;
            self.now = wake;
            return Ok(false);
        };
        self.now = self.now.max(moment);
        self.wire.asked().now = self.now;
        let is_calm = matches!(what, Coming::Calm) && !self.stopped;
        if let Some(message) = self.happen(what) {
            if self.tells {
                println!("{:?}: {}", self.now, told(&message));
            }
            self.mine.message(message);
            self.carry_out()?;
            self.audit()?;
        }
        Ok(is_calm)
    }

    /// What holds at every moment.
    fn audit(&mut self) -> Verdict {
        let stage = match self.mine.stage {
            Stage::Mining => 0,
            Stage::Stopping(_) => 1,
            Stage::Draining(_) => 2,
            Stage::Done => 3,
        };
        check!(stage >= self.stage, "it goes back from stage {} to {stage}", self.stage);
        self.stage = stage;

        let ledger = self.mine.uploader.snapshot();
        check!(ledger.adds_up(), "does not add up: {ledger:?}");
        let told: Vec<_> = self.devices.iter().map(|device| device.told).collect();
        check!(ledger.found_by == told, "{told:?} were found, not {:?}", ledger.found_by);
        for (pool, (account, books)) in ledger.pools.iter().zip(&self.masters).enumerate() {
            let meant = books.meant.len() as u64;
            check!(account.found == meant, "{meant} were found for pool {pool}, not {}", account.found);
            check!(account.accepted <= books.accepted, "more accepted than pool {pool} has");
            let flying: u64 = books.in_flight.values().map(|(_, batch)| batch.len() as u64).sum();
            let known = account.accepted + account.unknown + account.queued + flying;
            check!(books.accepted <= known, "pool {pool} has more than the ledger knows of: {account:?}");
            let flies = account.in_flight;
            check!(flies == flying, "{flying} fly to pool {pool}, not {flies}");
        }

        let is_mining = self.mine.stage == Stage::Mining && self.mine.pauses.is_empty();
        for (place, device) in self.devices.iter().enumerate().filter(|(_, device)| !device.failed) {
            let busy = device.held.len() + device.ending.len();
            if is_mining && self.mine.scheduler.job().is_some() {
                let waits = busy < device.capacity && !device.stopping.is_empty();
                check!(
                    busy == device.capacity || waits,
                    "backend {place} holds {busy} and wants {}",
                    device.capacity
                );
            } else {
                check!(device.held.is_empty(), "backend {place} works though nothing is to be mined");
            }
        }
        let silent = self.devices.iter().any(|device| device.failed && !device.failure_told);
        let at_work = self.devices.iter().filter(|device| !device.failed);
        let held: usize = at_work.map(|at| at.held.len() + at.ending.len() + at.stopping.len()).sum();
        let rounds = self.mine.scheduler.rounds_held();
        check!(silent || rounds == held, "backends hold {held} rounds, and the scheduler thinks {rounds}");
        if let Some(job) = self.mine.scheduler.job() {
            let block = self.blocks.get(&job.parent_hash).map(|(height, _)| *height);
            check!(block == Some(job.parent_height as usize), "mined on a block that never was: {job:?}");
        }
        Ok(())
    }

    /// What holds when all has been well for a while.
    fn is_calm(&self) -> Verdict {
        let pools = &self.mine.pools;
        let first = self.order[0];
        check!(pools.leader() == PoolId(first), "pool {} leads, not {first}", pools.leader().0);
        let job = self.mine.scheduler.job().ok_or("there is no job")?;
        let height = self.tip() - 3;
        let parent = (self.chain[height], height as u32);
        check!((job.parent_hash, job.parent_height) == parent, "mined is {job:?}, not {parent:?}");
        let target = self.masters[first].target;
        check!(job.work_bits.is_at_least_as_hard_as(target), "mined for {}, not {target}", job.work_bits);
        let exact = target.longer_nonce_range().unwrap_or(target);
        check!([exact, target].contains(&job.work_bits), "mined for {}, not {target}", job.work_bits);
        for &pool in &self.order {
            let (view, master) = (pools.view(PoolId(pool)).unwrap(), &self.masters[pool]);
            check!(pools.is_up(PoolId(pool)), "pool {pool} counts as down");
            check!(view.handlers == master.handlers, "pool {pool} has other handlers");
            check!(view.tip_height as usize == self.tip(), "pool {pool} is at another height");
            check!(view.ann_target == Some(master.target), "pool {pool} has another target");
        }
        let mines = self.devices.iter().any(|device| !device.failed);
        check!(!mines || self.found.len() > self.found_when_healed, "mining did not go on");
        Ok(())
    }

    /// What holds at the end.
    fn settle(self) -> Verdict {
        let (early, mined) = (self.now < CALM, self.mine.scheduler.job().is_some());
        let has_backends = self.mine.scheduler.has_backends();
        let before = self.mine.uploader.snapshot();
        let ledger = match self.mine.finish() {
            Ok(ledger) => ledger,
            Err(MinerError::NoBackend) if !has_backends => return Ok(()),
            Err(MinerError::NoWork(_)) if !mined => return Ok(()),
            Err(error) => return Err(format!("it ends with {error}")),
        };
        check!(ledger.adds_up(), "does not add up at the end: {ledger:?}");
        let late = self.now.saturating_sub(CALM);
        check!(early || late < self.settings.drain, "the last is not handed in for {late:?}: {before:?}");
        for (pool, (account, books)) in ledger.pools.iter().zip(&self.masters).enumerate() {
            let words = || format!("pool {pool}: {account:?}, while it has {}", books.accepted);
            check!(account.in_flight == 0, "in flight for ever, {}", words());
            check!(books.accepted <= account.accepted + account.unknown, "it has more, {}", words());
            check!(account.duplicate == 0 && account.overflow == 0, "{}", words());
            if early {
                continue;
            }
            check!(account.queued == 0, "something is left, {}", words());
            let is_lost = |found: &&Arc<Found>| {
                let (job, height) = (&found.job, found.job.parent_height as usize);
                let stale = height + (WINDOW as usize) <= self.highest
                    || self.chain.get(height) != Some(&job.parent_hash);
                let easy = !job.work_bits.is_at_least_as_hard_as(books.hardest);
                let astray = books.elsewhere.get(&found.hash).is_some_and(|&times| times > 1);
                let excused = stale || easy || astray;
                books.meant.contains(&found.hash) && !excused && !books.recorded.contains(&found.hash)
            };
            let lost = self.found.iter().filter(is_lost).count() as u64;
            let removed = account.causes.iter().filter(|((_, cause), _)| *cause == Cause::PoolRemoved);
            let removed: u64 = removed.map(|(_, count)| *count).sum();
            check!(self.plan.changes > 0 || removed == 0, "it was never removed, {}", words());
            check!(lost <= removed, "{lost} good ones are lost, {}", words());
            let causes: BTreeMap<_, _> = account.causes.iter().collect();
            let moves = self.plan.blocks + self.plan.reorganisations > 0;
            check!(moves || account.stale == 0, "stale by {causes:?}, {}", words());
        }
        Ok(())
    }
}

/// A message in a few words.
fn told(message: &Message) -> String {
    match message {
        Message::Backend(BackendEvent::Found { backend, announcements, .. }) => {
            format!("backend {} found {}", backend.0, announcements.len())
        }
        Message::Backend(event) => format!("{event:?}"),
        Message::Fetched { request, result } => match result {
            Ok(body) => format!("fetch {request}: {:.60}", String::from_utf8_lossy(body)),
            Err(error) => format!("fetch {request}: {error}"),
        },
        Message::Answered { request, outcome } => format!("post {request}: {outcome}"),
        Message::Checked { check, .. } => format!("check {check}"),
        Message::Change(settings) => format!("the user names {:?}", settings.pools),
        Message::Pause(reason) => format!("pause: {reason}"),
        Message::Resume(reason) => format!("resume: {reason}"),
        Message::Finish => "finish".into(),
        Message::Stop => "stop".into(),
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

#[test]
fn in_every_schedule_the_miner_keeps_its_books_and_follows_the_pools() {
    if let Some(seed) = number("PKTMINE_SCHEDULE") {
        println!("schedule {seed}: {:?}", World::new(seed).plan);
        assert_eq!(World::new(seed).run(), Ok(()));
        return;
    }
    let schedules = number("PKTMINE_SCHEDULES").unwrap_or(SCHEDULES);
    let fails = |seed| Some((seed, World::new(seed).run().err()?));
    if let Some((seed, fault)) = (0..schedules).into_par_iter().find_map_first(fails) {
        let plan = World::new(seed).plan;
        panic!("schedule {seed}: {fault}\n{plan:?}\nPKTMINE_SCHEDULE={seed} repeats it");
    }
    println!("schedules 0 to {} hold", schedules - 1);
}

#[test]
fn the_same_checks_find_every_bug_planted_in_clients_scheduler_and_loop() {
    Bug::OF_MINER.into_par_iter().for_each(|bug| {
        let fails = |seed| Some((seed, World::new(seed).run().err()?));
        let found = planted::with(bug, || (0..SCHEDULES_FOR_A_BUG).find_map(fails));
        let (seed, fault) = found.unwrap_or_else(|| panic!("{bug:?} goes unnoticed"));
        println!("{bug:?}: schedule {seed}: {fault:.100}");
    });
}
