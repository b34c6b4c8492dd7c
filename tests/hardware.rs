//! Hardware that errs, dies or hangs: what comes of it, and how soon it is noticed.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kernels::{Announcement, Invalid, Validator, WorkBits};
use pktmine::{
    backend::{Backend, BackendEvent, BackendInfo, Counters, Reach, Sink, cpu},
    local_pool::{self, LocalPool},
    miner::{Control, Miner, Settings},
    pool,
    protocol::BlockHash,
    report::{Snapshot, Watch},
    upload::{self, Account, Cause, Check, Effect, Event, Fate, Ledger, SAMPLED, Uploader},
    values::{BackendId, Block, Found, Job, PoolId, PoolView, Round},
};
use url::Url;

/// What is between a backend and the miner: passes events on, changes them, or swallows them.
type Between = dyn Fn(BackendEvent, &Sink) + Send + Sync;

/// A processor with something wrong.
struct Faulty(cpu::CpuBackend);

impl Faulty {
    fn start(id: BackendId, sink: &Sink, between: Box<Between>) -> Box<dyn Backend> {
        let sink = sink.clone();
        let inner: Sink = Arc::new(move |event| between(event, &sink));
        Box::new(Self(cpu::CpuBackend::start(id, one_thread(), inner).expect("the processor computes well")))
    }
}

impl Backend for Faulty {
    fn info(&self) -> &BackendInfo {
        self.0.info()
    }

    fn start(&mut self, rounds: Vec<Round>) {
        self.0.start(rounds);
    }

    fn cancel(&mut self, rounds: &[u64], reach: Reach) {
        self.0.cancel(rounds, reach);
    }

    fn counters(&self) -> Counters {
        self.0.counters()
    }
}

fn one_thread() -> cpu::Settings {
    cpu::Settings { threads: NonZero::new(1), ..cpu::Settings::default() }
}

fn settings(pool: &LocalPool) -> Settings {
    let defaults = Settings::new(vec![pool.url()], "tester".parse().expect("letters"), 7);
    Settings {
        pool: pool::Settings { poll_interval: Duration::from_millis(100), ..defaults.pool },
        upload: upload::Settings { batch_age: Duration::from_millis(200), batch_len: 256, ..defaults.upload },
        drain: Duration::from_secs(20),
        ..defaults
    }
}

struct Running {
    control: Control,
    watch: Watch,
    thread: thread::JoinHandle<Ledger>,
}

/// A healthy processor as backend 0, and beside it one with something between it and the miner.
fn mine_beside(pool: &LocalPool, between: Box<Between>) -> Running {
    let miner = Miner::with_backends(settings(pool), |sink| {
        let healthy =
            cpu::CpuBackend::start(BackendId(0), one_thread(), sink.clone()).expect("it computes well");
        Ok(vec![Box::new(healthy), Faulty::start(BackendId(1), sink, between)])
    });
    let miner = miner.expect("the miner starts");
    let (control, watch) = (miner.control(), miner.watch());
    Running { control, watch, thread: thread::spawn(move || miner.run().expect("it mines")) }
}

impl Running {
    fn wait_until(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(snapshot) = self.watch.latest().filter(|snapshot| is_so(snapshot)) {
                return (*snapshot).clone();
            }
            assert!(Instant::now() < deadline, "never {what}: {:#?}", self.watch.latest());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the healthy one has found more.
    fn mining_goes_on(&self) {
        let found = |snapshot: &Snapshot| snapshot.ledger.found_by[0];
        let before = found(&self.watch.latest().expect("it mines"));
        self.wait_until("mining goes on", |snapshot| found(snapshot) > before + 100);
    }

    fn finish(self) -> Account {
        self.control.stop();
        let ledger = self.thread.join().expect("the miner does not panic");
        assert!(ledger.adds_up(), "{ledger:#?}");
        ledger.pools[0].clone()
    }
}

/// After how many announcements at most hardware that errs in that part of them is found out, but for one case in a
/// million: every sampled one is a chance.
fn bound(error_rate: f64) -> f64 {
    SAMPLED as f64 * (1e-6_f64.ln() / (1.0 - error_rate).ln()).max(1.0)
}

fn flipped(found: &Found, rng: &mut fastrand::Rng) -> Found {
    let mut bytes = *found.announcement.as_bytes();
    bytes[rng.usize(..Announcement::LEN)] ^= 1 << rng.u8(..8);
    Found::new(Announcement::from_bytes(bytes), found.job.clone(), found.backend)
}

/// Flips a bit in that part of what the second backend finds. The pool takes what is good of it and nothing else.
fn bits_flip(error_rate: f64) {
    let pool = LocalPool::start(local_pool::Settings {
        work_bits: WorkBits::at_least(32),
        validators: 1,
        handlers: 2,
        ..local_pool::Settings::default()
    })
    .expect("the local pool starts");
    let flips = Arc::new(AtomicU64::new(0));
    let counted = flips.clone();
    let running = mine_beside(
        &pool,
        Box::new(move |event, sink| match event {
            BackendEvent::Found { backend, found_total, announcements } => {
                let mut rng = fastrand::Rng::with_seed(found_total);
                let announcements = announcements.into_iter().map(|found| {
                    if rng.f64() >= error_rate {
                        return found;
                    }
                    counted.fetch_add(1, Ordering::Relaxed);
                    Arc::new(flipped(&found, &mut rng))
                });
                let announcements = announcements.collect();
                sink(BackendEvent::Found { backend, found_total, announcements });
            }
            event => sink(event),
        }),
    );
    let stopped = running.wait_until("stopped", |snapshot| snapshot.backends[1].failed.is_some());
    let row = &stopped.backends[1];
    let reason = row.failed.as_deref().unwrap_or_default();
    assert!(reason.contains("does not validate"), "{reason}");
    assert!(
        stopped.complaints.iter().any(|c| c.is_error && c.text.contains("stopped for good")),
        "{stopped:#?}"
    );
    // What was found while batches filled and were checked comes on top.
    let under_way = 2.0 * row.counters.found as f64 / stopped.now.as_secs_f64();
    let found = row.counters.found as f64;
    assert!(
        found <= bound(error_rate) + under_way,
        "{found} found before it was stopped, {under_way} under way"
    );
    assert!(stopped.backends[0].failed.is_none(), "{stopped:#?}");
    running.mining_goes_on();
    let account = running.finish();
    // Every announcement that is good was taken, none that is bad, and each of those is named as what it is.
    let flips = flips.load(Ordering::Relaxed);
    assert_eq!((account.rejected, account.accepted), (flips, account.found - flips), "{account:#?}");
    assert_eq!(pool.stats().total.accepted, account.accepted);
    let invalid = account
        .causes
        .iter()
        .filter(|((fate, cause), _)| *fate == Fate::Rejected && matches!(cause, Cause::Invalid(_)));
    assert_eq!(invalid.map(|(_, count)| count).sum::<u64>(), flips);
}

#[test]
fn hardware_of_which_nothing_is_right_is_stopped_and_nothing_of_it_leaves() {
    bits_flip(1.0);
}

#[test]
fn hardware_that_errs_now_and_then_is_stopped_in_time_and_only_what_is_good_counts() {
    bits_flip(0.1);
}

#[test]
fn a_device_that_is_lost_leaves_the_others_mining() {
    let pool = easy_pool();
    let (lost, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let running = mine_beside(
        &pool,
        Box::new(move |event, sink| {
            if lost.load(Ordering::Relaxed) {
                return;
            }
            let found = matches!(event, BackendEvent::Found { .. });
            sink(event);
            if found && seen.fetch_add(1, Ordering::Relaxed) == 3 && !lost.swap(true, Ordering::Relaxed) {
                sink(BackendEvent::Failed { backend: BackendId(1), error: "it fell off the bus".into() });
            }
        }),
    );
    let stopped = running.wait_until("stopped", |snapshot| snapshot.backends[1].failed.is_some());
    assert_eq!(stopped.backends[1].failed.as_deref(), Some("it fell off the bus"));
    running.mining_goes_on();
    let account = running.finish();
    assert_eq!(
        (account.found, account.accepted),
        (account.accepted, pool.stats().total.accepted),
        "{account:#?}"
    );
}

#[test]
fn a_device_that_hangs_holds_up_neither_the_others_nor_the_end() {
    let pool = easy_pool();
    let running = mine_beside(&pool, Box::new(|_, _| {}));
    running.wait_until("mining", |snapshot| snapshot.ledger.found_by[0] > 0);
    running.mining_goes_on();
    let before = Instant::now();
    let account = running.finish();
    assert!(before.elapsed() < Duration::from_secs(10), "it took {:?} to end", before.elapsed());
    assert_eq!(
        (account.found, account.accepted),
        (account.accepted, pool.stats().total.accepted),
        "{account:#?}"
    );
}

fn easy_pool() -> LocalPool {
    let easy = local_pool::Settings {
        work_bits: WorkBits::at_least(2),
        validators: 1,
        ..local_pool::Settings::default()
    };
    LocalPool::start(easy).expect("the local pool starts")
}

/// Feeds an uploader with announcements of which chance makes some bad, until it says so.
fn found_until_noticed(error_rate: f64, batch_len: usize, seed: u64) -> usize {
    let url: Url = "http://handler/".parse().expect("an address");
    let block = Block { hash: BlockHash([1; 32]), height: 100, signing_key: [0; 32] };
    let work_bits = WorkBits::at_least(128);
    let job = Job { id: 1, parent_hash: block.hash, parent_height: 100, work_bits, signing_key: [0; 32] };
    let view = PoolView {
        handlers: vec![url.into()],
        tip_height: 100,
        ann_target: Some(work_bits),
        blocks: vec![block],
    };
    let upload = upload::Settings::new("tester".parse().expect("letters"), seed);
    let mut uploader = Uploader::new(
        &["pool".to_owned()],
        1,
        upload::Settings { batch_len, queue_bytes: 1 << 20, ..upload },
    );
    uploader.handle(Event::View { pool: PoolId(0), view }, Duration::ZERO);
    let (mut rng, job) = (fastrand::Rng::with_seed(seed), Arc::new(job));
    let mut total = 0;
    loop {
        let announcements: Vec<_> = std::iter::repeat_with(|| {
            let mut bytes = [0; Announcement::LEN];
            rng.fill(&mut bytes[..16]);
            bytes[0] = u8::from(rng.f64() < error_rate);
            Arc::new(Found::new(Announcement::from_bytes(bytes), job.clone(), BackendId(0)))
        })
        .take(batch_len)
        .collect();
        total += announcements.len();
        let event = Event::Found { backend: BackendId(0), found_total: total as u64, announcements };
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in uploader.handle(event, Duration::from_millis(total as u64)) {
                match effect {
                    Effect::BackendErred { .. } => return total,
                    Effect::Check(Check { check, announcements, .. }) => {
                        let verdict = |found: &Arc<Found>| match found.announcement.as_bytes()[0] {
                            0 => Ok(()),
                            _ => Err(Invalid::Inval),
                        };
                        events.push(Event::Checked {
                            check,
                            verdicts: announcements.iter().map(verdict).collect(),
                        });
                    }
                    Effect::Post(post) => {
                        // What handlers say of a batch does not matter here: it may leave once its sample has passed.
                        let outcome = upload::PostOutcome::Answer { status: 503, body: Vec::new() };
                        events.push(Event::Answered { request: post.request, outcome });
                    }
                    Effect::TargetRefused { .. } | Effect::Doubted { .. } | Effect::Note(_) => {}
                }
            }
        }
    }
}

#[test]
fn how_soon_errors_are_noticed_is_as_the_documentation_says() {
    for (error_rate, batch_len, tries) in [(0.01, 1024, 60), (0.1, 1024, 200), (0.01, 16, 60)] {
        let mut counts: Vec<_> =
            (0..tries).map(|seed| found_until_noticed(error_rate, batch_len, seed) as f64).collect();
        counts.sort_by(f64::total_cmp);
        let most = counts[counts.len() - 1];
        assert!(
            most <= bound(error_rate) + batch_len as f64,
            "at {error_rate} in batches of {batch_len}: {most}"
        );
        // Of a small batch one is sampled, too, which is more often than one in so many.
        let chances = SAMPLED.min(batch_len) as f64;
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let expected = chances / error_rate;
        assert!(
            (0.6 * expected..1.5 * expected + batch_len as f64).contains(&mean),
            "at {error_rate} in batches of {batch_len}: {mean} in the mean, {expected} expected"
        );
    }
}

#[test]
fn a_flipped_bit_makes_any_announcement_invalid() {
    let pool = easy_pool();
    let mine = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = mine.clone();
    let running = mine_beside(
        &pool,
        Box::new(move |event, sink| {
            if let BackendEvent::Found { announcements, .. } = &event {
                kept.lock().expect("nobody panics").extend_from_slice(announcements);
            }
            sink(event);
        }),
    );
    running.wait_until("many", |snapshot| snapshot.ledger.found_by[1] > 100);
    running.finish();
    let (mut validator, mut rng) = (Validator::default(), fastrand::Rng::with_seed(1));
    for found in mine.lock().expect("nobody panics").iter().take(100) {
        let valid = |found: &Found, validator: &mut Validator| {
            validator.validate_batch(&[(&found.announcement, &found.job.parent_hash.0)])[0].is_ok()
        };
        assert!(valid(found, &mut validator));
        let flipped = flipped(found, &mut rng);
        assert!(!valid(&flipped, &mut validator), "{:?}", flipped.announcement.as_bytes());
    }
}
