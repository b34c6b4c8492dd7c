//! The whole way, in one process over real HTTP: a miner against local pools, with faults.
//!
//! Three counts are held against each other, each made by somebody else: what the backend found, what the miner's
//! ledger says became of it, and what the pool recorded.

use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use kernels::WorkBits;
use pktmine::{
    backend::{Which, cpu},
    local_pool::{self, HandlerState, LocalPool},
    miner::{Control, Miner, Settings},
    pool,
    report::{Phase, Snapshot, Watch},
    upload::{self, Account, Cause, Fate, Ledger, Limit, Refusal},
    values::{Hardness, PauseReason},
};
use url::Url;

fn start_pool(settings: local_pool::Settings) -> LocalPool {
    LocalPool::start(settings).expect("the local pool starts")
}

/// Easy work, so that announcements come by the hundred, and blocks only when a test asks for them.
fn easy() -> local_pool::Settings {
    local_pool::Settings {
        work_bits: WorkBits::at_least(2),
        validators: 1,
        ..local_pool::Settings::default()
    }
}

/// Everything in a hurry, so that what takes half a minute in earnest takes a second here.
fn hurried(pools: Vec<Url>) -> Settings {
    let defaults = Settings::new(pools, "tester".parse().expect("letters"), 7);
    Settings {
        pool: pool::Settings {
            poll_interval: Duration::from_millis(100),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_millis(200),
            down_after: Duration::from_millis(1500),
            lead_back_after: Duration::from_secs(2),
            ..defaults.pool
        },
        fetch_timeout: Duration::from_secs(1),
        upload: upload::Settings {
            timeout: Duration::from_millis(1500),
            batch_age: Duration::from_millis(300),
            batch_len: 128,
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(200),
            ..defaults.upload
        },
        backends: Which::Cpu,
        cpu: cpu::Settings { threads: NonZero::new(1), ..defaults.cpu },
        drain: Duration::from_secs(20),
        interval: Duration::from_secs(1),
        ..defaults
    }
}

/// A miner that runs until the test has seen enough.
struct Running {
    control: Control,
    watch: Watch,
    thread: thread::JoinHandle<Ledger>,
}

fn mine(settings: Settings) -> Running {
    let miner = Miner::new(settings).expect("the miner starts");
    let (control, watch) = (miner.control(), miner.watch());
    let thread = thread::spawn(move || miner.run().expect("it mines"));
    Running { control, watch, thread }
}

impl Running {
    fn finish(self) -> Ledger {
        self.control.stop();
        let ledger = self.thread.join().expect("the miner does not panic");
        assert!(ledger.adds_up(), "{ledger:#?}");
        ledger
    }
}

/// Waits for a snapshot in which something is so.
fn wait_until(watch: &Watch, what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let snapshot = watch.latest().filter(|snapshot| is_so(snapshot));
        if let Some(snapshot) = snapshot {
            return (*snapshot).clone();
        }
        assert!(Instant::now() < deadline, "never {what}: {:#?}", watch.latest());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the pool has taken `more` announcements.
fn wait_for(pool: &LocalPool, more: u64) {
    let wanted = pool.stats().total.accepted + more;
    let deadline = Instant::now() + Duration::from_secs(60);
    while pool.stats().total.accepted < wanted {
        assert!(Instant::now() < deadline, "mining does not go on: {:#?}", pool.stats());
        thread::sleep(Duration::from_millis(20));
    }
}

/// All three counts agree and nothing at all was lost.
fn assert_nothing_lost(account: &Account, pool: &LocalPool) {
    assert_eq!(account.found, account.accepted, "{account:#?}");
    assert_eq!(account.accepted, pool.stats().total.accepted, "{account:#?}\n{:#?}", pool.stats());
    assert!(account.accepted > 0);
}

#[test]
fn every_announcement_is_accepted_when_nothing_goes_wrong() {
    let pool = start_pool(local_pool::Settings { handlers: 3, ..easy() });
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 600);
    let ledger = miner.finish();
    assert_nothing_lost(&ledger.pools[0], &pool);
    let stats = pool.stats();
    assert_eq!((stats.total.duplicates, stats.total.refused.len()), (0, 0));
    assert!(
        stats.handlers.iter().all(|handler| handler.counts.accepted > 100),
        "each handler gets its share"
    );
}

/// Nothing is lost under faults that pass: each is set, mining goes on for a while, and it is cleared.
fn survives(fault: &str) {
    let pool = start_pool(local_pool::Settings { handlers: 2, ..easy() });
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    pool.inject(fault.parse().expect("a fault"));
    thread::sleep(Duration::from_secs(2));
    pool.clear_faults();
    wait_for(&pool, 300);
    let ledger = miner.finish();
    assert_nothing_lost(&ledger.pools[0], &pool);
    assert!(!pool.stats().faulted.is_empty(), "the fault was met");
}

/// A test for each fault, so that they run side by side and are named when they fail.
macro_rules! nothing_is_lost_under {
    ($($name:ident: $fault:literal,)*) => {
        mod nothing_is_lost_under {
            $(#[test] fn $name() { super::survives($fault); })*
        }
    };
}

nothing_is_lost_under! {
    overload: "503:handlers",
    internal_errors: "500:handlers:50%",
    delay: "delay=400ms:handlers",
    requests_closed_halfway: "close-request:handlers:50%",
    replies_closed_halfway_before_the_work: "close-reply:handlers:50%",
    replies_closed_halfway_after_the_work: "close-reply:handlers:50%:after",
    truncated_replies_after_the_work: "truncated:handlers:50%:after",
    garbage_before_the_work: "garbage:handlers:50%",
    garbage_after_the_work: "garbage:handlers:50%:after",
    huge_replies_after_the_work: "huge:handlers:50%:after",
    hanging_before_the_work: "hang=3s:handlers:30%",
    hanging_after_the_work: "hang=3s:handlers:30%:after",
    redirects: "redirect:handlers:50%",
    one_handler_overloaded: "503:handler1",
    a_master_that_fails: "500:master",
    a_master_that_hangs: "hang=3s:config",
    a_master_that_sends_rubbish: "garbage:master",
    a_master_that_sends_too_much: "huge:master",
    a_master_that_sends_half: "truncated:master:50%",
    a_master_that_redirects_without_end: "redirect:master",
}

#[test]
fn handlers_that_come_and_go_lose_nothing() {
    let pool = start_pool(local_pool::Settings { handlers: 2, ..easy() });
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    for handlers in [4, 1, 3] {
        pool.set_handlers(handlers).expect("handlers start");
        wait_for(&pool, 200);
    }
    pool.set_handler(1, HandlerState::Down).expect("it goes down");
    thread::sleep(Duration::from_secs(1));
    pool.set_handler(1, HandlerState::Up).expect("it comes back");
    wait_for(&pool, 200);
    assert_nothing_lost(&miner.finish().pools[0], &pool);
}

#[test]
fn new_blocks_and_reorganisations_lose_only_what_the_rules_allow() {
    let pool = start_pool(local_pool::Settings { handlers: 2, mine_old: 1, ..easy() });
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    for _ in 0..3 {
        pool.new_block();
        wait_for(&pool, 150);
    }
    pool.reorganise(3).expect("there are three blocks");
    wait_for(&pool, 150);
    pool.reorganise_lower(3, 1).expect("there are three blocks");
    wait_for(&pool, 150);
    let account = miner.finish().pools.remove(0);
    assert_eq!(account.accepted, pool.stats().total.accepted);
    assert_eq!(account.accepted + account.stale + account.rejected, account.found, "{account:#?}");
    for (fate, cause) in account.causes.keys() {
        // A batch that was on its way while its block was replaced is refused as invalid.
        let allowed = match fate {
            Fate::Stale => matches!(cause, Cause::ParentReplaced | Cause::ParentTooOld | Cause::OutOfRange),
            Fate::Rejected => matches!(cause, Cause::Refused(_)),
            _ => false,
        };
        assert!(allowed, "{fate}: {cause}");
    }
}

#[test]
fn a_target_that_changes_is_followed() {
    let pool = start_pool(easy());
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    pool.set_work_bits(WorkBits::at_least(16));
    wait_for(&pool, 100);
    pool.set_work_bits(WorkBits::at_least(2));
    wait_for(&pool, 100);
    let account = miner.finish().pools.remove(0);
    assert_eq!(account.accepted, pool.stats().total.accepted);
    for (fate, cause) in account.causes.keys() {
        // What was found before the harder target was known.
        let allowed = matches!(cause, Cause::TooEasy | Cause::Refused(Refusal::NotEnoughWork));
        assert!(allowed, "{fate}: {cause}");
    }
    assert_eq!(account.accepted + account.rejected + account.unwanted, account.found, "{account:#?}");
}

#[test]
fn every_pool_gets_every_announcement_and_the_first_one_leads() {
    let first = start_pool(local_pool::Settings { handlers: 2, ..easy() });
    // The same seed gives the same chain: announcements for one pool are announcements for the other.
    let second = start_pool(easy());
    let miner = mine(hurried(vec![first.url(), second.url()]));
    wait_for(&second, 300);
    let ledger = miner.finish();
    assert_nothing_lost(&ledger.pools[0], &first);
    assert_nothing_lost(&ledger.pools[1], &second);
}

#[test]
fn when_the_leading_pool_goes_down_the_next_one_leads() {
    let (first, second) = (start_pool(easy()), start_pool(easy()));
    let miner = mine(Settings { drain: Duration::from_secs(3), ..hurried(vec![first.url(), second.url()]) });
    wait_for(&first, 50);
    first.shutdown();
    thread::sleep(Duration::from_secs(2));
    second.new_block();
    wait_for(&second, 600);
    let ledger = miner.finish();
    assert_nothing_lost(&ledger.pools[1], &second);
    let lost = &ledger.pools[0];
    assert!(lost.accepted >= 50 && lost.queued + lost.unknown > 0, "{lost:#?}");
}

#[test]
fn a_pool_that_is_not_ready_is_waited_for() {
    let pool = start_pool(local_pool::Settings { ready: false, ..easy() });
    let miner = mine(hurried(vec![pool.url()]));
    thread::sleep(Duration::from_millis(500));
    pool.set_ready(true);
    wait_for(&pool, 100);
    assert_nothing_lost(&miner.finish().pools[0], &pool);
}

#[test]
fn a_signing_key_that_the_pool_asks_for_is_used() {
    let pool = start_pool(local_pool::Settings { sigkey: Some([7; 32]), ..easy() });
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    assert_nothing_lost(&miner.finish().pools[0], &pool);
    assert_eq!(pool.stats().total.unsigned, 0);
}

#[test]
fn what_is_found_while_stopping_is_handed_in_and_nobody_waits_long() {
    let pool = start_pool(easy());
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 1);
    let asked = Instant::now();
    let ledger = miner.finish();
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
    assert_nothing_lost(&ledger.pools[0], &pool);
}

#[test]
fn a_second_request_to_stop_leaves_at_once_and_names_what_is_left() {
    let pool = start_pool(easy());
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    pool.inject("hang=30s:handlers".parse().expect("a fault"));
    thread::sleep(Duration::from_secs(1));
    let asked = Instant::now();
    miner.control.stop();
    thread::sleep(Duration::from_millis(300));
    let ledger = miner.finish();
    assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
    let account = &ledger.pools[0];
    assert!(account.unknown + account.queued > 0, "{account:#?}");
}

#[test]
fn asking_to_finish_again_and_again_ends_nothing_early() {
    let pool = start_pool(easy());
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    pool.inject("delay=1s:handlers".parse().expect("a fault"));
    thread::sleep(Duration::from_millis(500));
    miner.control.stop();
    for _ in 0..3 {
        miner.control.finish();
    }
    let ledger = miner.thread.join().expect("the miner does not panic");
    assert_nothing_lost(&ledger.pools[0], &pool);
}

#[test]
fn a_pool_named_twice_gets_everything_once() {
    let pool = start_pool(easy());
    let miner = mine(hurried(vec![pool.url(), pool.url()]));
    wait_for(&pool, 100);
    let ledger = miner.finish();
    assert_eq!((ledger.pools.len(), pool.stats().total.duplicates), (1, 0));
    assert_nothing_lost(&ledger.pools[0], &pool);
}

#[test]
fn pools_come_and_go_while_mining_and_each_account_adds_up() {
    let (first, second) = (start_pool(easy()), start_pool(local_pool::Settings { handlers: 2, ..easy() }));
    let miner = mine(hurried(vec![first.url()]));
    wait_for(&first, 100);
    miner.control.change(hurried(vec![second.url(), first.url()]));
    wait_for(&second, 100);
    miner.control.change(hurried(vec![second.url()]));
    let without = wait_until(&miner.watch, "without the first", |snapshot| snapshot.pools[0].removed);
    assert!(!without.pools[0].up && !without.pools[0].leads && without.pools[0].tip_height.is_none());
    assert!(!without.pools[1].removed && without.pools[1].leads);
    // Longer than it takes to hand in what was found for both.
    thread::sleep(Duration::from_secs(2));
    wait_for(&second, 100);
    miner.control.change(hurried(vec![first.url(), second.url()]));
    wait_for(&first, 100);
    wait_until(&miner.watch, "mined for again", |snapshot| {
        !snapshot.pools[0].removed && snapshot.pools[0].up
    });
    let ledger = miner.finish();
    assert_nothing_lost(&ledger.pools[0], &first);
    assert_nothing_lost(&ledger.pools[1], &second);
    assert!(ledger.pools[0].missed > 0 && ledger.pools[1].missed > 0, "{ledger:#?}");
}

#[test]
fn threads_come_and_go_while_mining_and_nothing_is_lost() {
    let pool = start_pool(easy());
    let miner = mine(hurried(vec![pool.url()]));
    for threads in [3, 1, 2] {
        wait_for(&pool, 100);
        let cpu = cpu::Settings { threads: NonZero::new(threads), ..cpu::Settings::default() };
        miner.control.change(Settings { cpu, ..hurried(Vec::new()) });
    }
    wait_for(&pool, 300);
    assert_nothing_lost(&miner.finish().pools[0], &pool);
}

#[test]
fn a_pause_lasts_until_its_last_reason_is_gone_and_uploads_go_on_meanwhile() {
    let pool = start_pool(easy());
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    miner.control.pause(PauseReason::User);
    miner.control.pause(PauseReason::Battery);
    let idle = wait_until(&miner.watch, "idle", |snapshot| {
        let account = &snapshot.ledger.pools[0];
        snapshot.pauses.len() == 2 && account.queued + account.in_flight == 0
    });
    assert_eq!((idle.phase, idle.pauses), (Phase::Paused, vec![PauseReason::User, PauseReason::Battery]));
    miner.control.resume(PauseReason::User);
    thread::sleep(Duration::from_millis(1500));
    let later = wait_until(&miner.watch, "paused for one reason", |snapshot| snapshot.pauses.len() == 1);
    assert_eq!((later.found(), later.mined), (idle.ledger.found_by[0], idle.mined), "nothing is mined");
    assert_eq!(pool.stats().total.accepted, later.found(), "everything was handed in");
    // A new block does not wake it.
    pool.new_block();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(pool.stats().total.accepted, later.found());

    miner.control.resume(PauseReason::Battery);
    wait_for(&pool, 100);
    let mining = wait_until(&miner.watch, "mining", |snapshot| snapshot.found() > later.found());
    assert_eq!(mining.phase, Phase::Mining);
    assert!(mining.mined > later.mined && mining.mined + Duration::from_secs(1) < mining.now);
    let watch = miner.watch.clone();
    assert_nothing_lost(&miner.finish().pools[0], &pool);
    assert!(watch.has_ended());
    assert_eq!(watch.latest().expect("the last").phase, Phase::Done);
}

#[test]
fn snapshots_add_up_at_every_moment_and_tell_of_backends_pools_and_the_job() {
    let pool = start_pool(local_pool::Settings { handlers: 2, ..easy() });
    let mut settings = hurried(vec![pool.url(), "http://127.0.0.1:1".parse().expect("an address")]);
    settings.interval = Duration::from_millis(20);
    let miner = mine(settings);
    let mut last = None;
    for _ in 0..100 {
        let Some(snapshot) = miner.watch.next(last.as_ref(), Duration::from_secs(5)) else { continue };
        assert!(snapshot.ledger.adds_up(), "{snapshot:#?}");
        assert_eq!(snapshot.backends[0].counters.found, snapshot.ledger.pools[0].found);
        last = Some(snapshot);
    }
    wait_for(&pool, 100);
    let snapshot = wait_until(&miner.watch, "accepted", |snapshot| snapshot.ledger.pools[0].accepted > 100);
    let job = &snapshot.job.as_ref().expect("there is work").job;
    assert_eq!(
        Some(job.parent_height + 3),
        snapshot.pools[0].tip_height,
        "as the pool's mineOldAnns asks for"
    );
    assert!(snapshot.pools[0].leads && snapshot.pools[0].up && snapshot.pools[0].complaint.is_none());
    assert!(!snapshot.pools[1].leads && !snapshot.pools[1].up && snapshot.pools[1].complaint.is_some());
    assert!(snapshot.backends[0].rates.windows[0].e_per_s > 0.0);
    assert_eq!(snapshot.backends[0].rates, {
        let mut rates = snapshot.rates;
        rates.windows.iter_mut().for_each(|rate| rate.upload_mbit_per_s = 0.0);
        rates
    });
    assert!(snapshot.pools[0].upload_mbit_per_s[0] > 0.0);
    assert_eq!(snapshot.ledger.pools[0].handlers.len(), 2);
    drop(last);
    miner.control.stop();
    miner.thread.join().expect("the miner does not panic");
}

#[test]
fn under_an_upload_limit_what_is_found_fits_it_is_accepted_and_pays_as_much() {
    let first = start_pool(local_pool::Settings { handlers: 3, ..easy() });
    let second = start_pool(easy());
    let limit = Limit::new(2e6);
    let mut settings = hurried(vec![first.url(), second.url()]);
    settings.upload.limit = Some(limit);
    let miner = mine(settings);
    let why = |snapshot: &Snapshot| snapshot.job.as_ref().map(|row| row.hardness);
    wait_until(&miner.watch, "harder", |snapshot| why(snapshot) == Some(Hardness::MaxUpload));
    // Announcements that the pools took, at moments that are some time apart.
    let mut taken: Vec<(Instant, u64)> = Vec::new();
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        taken.push((Instant::now(), first.stats().total.accepted + second.stats().total.accepted));
        thread::sleep(Duration::from_millis(100));
    }
    let snapshot = miner.watch.latest().expect("it mines");
    let ledger = miner.finish();
    assert_nothing_lost(&ledger.pools[0], &first);
    assert_nothing_lost(&ledger.pools[1], &second);
    // What was sent in a second or more is no more than the limit lets through, but for a post that ends in it.
    for (at, (begin, before)) in taken.iter().enumerate() {
        let later = taken[at..].iter().filter(|(end, _)| *end >= *begin + Duration::from_secs(1));
        for (end, after) in later {
            let most = limit.announcements_per_s() * ((*end - *begin).as_secs_f64() + 0.7);
            assert!((after - before) as f64 <= most, "{} in {:?}", after - before, *end - *begin);
        }
    }
    assert!(taken[taken.len() - 1].1 > 300, "{:?}", taken[taken.len() - 1]);
    // Each hash is worth one, whatever the difficulty.
    let (hashes, work) = (snapshot.counters().hashes as f64, snapshot.work);
    assert!((0.8..1.2).contains(&(work / hashes)), "{hashes} hashes made {work}");
    assert!(first.stats().total.work >= 0.99 * work, "{work} was found, {:?}", first.stats().total);
}

#[test]
fn a_least_difficulty_and_a_limit_come_and_go_while_mining() {
    let pool = start_pool(easy());
    let miner = mine(hurried(vec![pool.url()]));
    wait_for(&pool, 100);
    let mined = |snapshot: &Snapshot| {
        snapshot.job.as_ref().map(|row| (row.job.work_bits.difficulty_f64() as u64, row.hardness))
    };
    let mut settings = hurried(Vec::new());
    settings.pool.easiest = Some(WorkBits::at_least(64));
    miner.control.change(settings.clone());
    wait_until(&miner.watch, "as the user wants it", |snapshot| {
        mined(snapshot) == Some((64, Hardness::MinDifficulty))
    });
    wait_for(&pool, 20);
    settings.upload.limit = Some(Limit::new(64e3));
    miner.control.change(settings);
    let limited = wait_until(&miner.watch, "as the line takes it", |snapshot| {
        mined(snapshot).is_some_and(|(difficulty, why)| difficulty > 64 && why == Hardness::MaxUpload)
    });
    assert_eq!(limited.max_upload_mbit_per_s, Some(0.064));
    miner.control.change(hurried(Vec::new()));
    wait_until(&miner.watch, "as the pool wants it", |snapshot| mined(snapshot) == Some((2, Hardness::Pool)));
    wait_for(&pool, 100);
    assert_nothing_lost(&miner.finish().pools[0], &pool);
}
