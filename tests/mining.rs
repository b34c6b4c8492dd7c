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
    backend::{Which, cpu, gpu},
    local_pool::{self, HandlerState, LocalPool},
    miner::{Miner, Settings, Stopper},
    pool,
    scheduler::CancelPolicy,
    upload::{self, Account, Cause, Fate, Ledger, Refusal},
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
    let upload = upload::Settings::new("tester".parse().expect("letters"), 7);
    Settings {
        pools,
        pool: pool::Settings {
            poll_interval: Duration::from_millis(100),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_millis(200),
            down_after: Duration::from_millis(1500),
            lead_back_after: Duration::from_secs(2),
            ..pool::Settings::default()
        },
        fetch_timeout: Duration::from_secs(1),
        upload: upload::Settings {
            timeout: Duration::from_millis(1500),
            batch_age: Duration::from_millis(300),
            batch_len: 128,
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(200),
            ..upload
        },
        cancel: CancelPolicy::Now,
        backends: Which::Cpu,
        gpu: gpu::Settings::default(),
        cpu: cpu::Settings { threads: NonZero::new(1), ..cpu::Settings::default() },
        duration: None,
        drain: Duration::from_secs(20),
        interval: Duration::from_secs(1),
        format: None,
    }
}

/// A miner that runs until the test has seen enough.
struct Running {
    stopper: Stopper,
    thread: thread::JoinHandle<Ledger>,
}

fn mine(settings: Settings) -> Running {
    let miner = Miner::new(settings).expect("the miner starts");
    let stopper = miner.stopper();
    Running { stopper, thread: thread::spawn(move || miner.run().expect("it mines")) }
}

impl Running {
    fn finish(self) -> Ledger {
        self.stopper.stop();
        let ledger = self.thread.join().expect("the miner does not panic");
        assert!(ledger.adds_up(), "{ledger:#?}");
        ledger
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
    miner.stopper.stop();
    thread::sleep(Duration::from_millis(300));
    let ledger = miner.finish();
    assert!(asked.elapsed() < Duration::from_secs(1), "took {:?}", asked.elapsed());
    let account = &ledger.pools[0];
    assert!(account.unknown + account.queued > 0, "{account:#?}");
}
