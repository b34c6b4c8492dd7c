//! One cell of the matrix: one fault in one configuration, from the first announcement found to the last account.
//!
//! Who found what is written down between backend and miner, who took what by the pools: the miner's own ledger is held to
//! both, announcement by announcement.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use kernels::{WorkBits, announcement::short_hash};
use pktmine::{
    backend::{self, BackendEvent, Sink, Which, cpu, gpu},
    local_pool::{self, LocalPool, Validate},
    miner::{Control, Miner, Settings},
    pool,
    protocol::BlockHash,
    upload::{self, Account, Ledger},
};
use url::Url;

use super::tls::SelfSigned;

/// How quickly everything goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Cells at one time.
    pub cells: usize,
    /// A fault lasts that long at least.
    lasts: Duration,
    /// Time between two blocks where they come quickly.
    block_time: Duration,
    /// How long an answer takes where it is late, and where it never comes.
    delay: Duration,
    hang: Duration,
    /// The part of a processor that each cell mines with.
    part: f64,
    /// How long anything may take.
    patience: Duration,
    /// Whether intervals and time-outs are those of the program as it is run.
    real: bool,
}

impl Pace {
    /// Half a minute takes a second.
    pub const HURRIED: Self = Self {
        cells: 12,
        lasts: Duration::from_millis(300),
        block_time: Duration::from_secs(1),
        delay: Duration::from_millis(300),
        hang: Duration::from_secs(6),
        part: 0.05,
        patience: Duration::from_secs(90),
        real: false,
    };

    /// Everything as it is when the program is run, and a minute of each fault.
    pub const REAL: Self = Self {
        cells: 36,
        lasts: Duration::from_secs(60),
        block_time: Duration::from_secs(1),
        delay: Duration::from_secs(3),
        hang: Duration::from_secs(60),
        part: 0.02,
        patience: Duration::from_secs(600),
        real: true,
    };

    fn settings(&self, pools: Vec<Url>) -> Settings {
        let defaults = Settings::new(pools, "tester".parse().expect("letters"), 7);
        let share = cpu::Share { max_cpu: Some(self.part), ..cpu::Share::default() };
        let real = Settings {
            backends: Which::Cpu,
            cpu: cpu::Settings { threads: NonZero::new(1), share, ..cpu::Settings::default() },
            drain: self.patience,
            interval: Duration::from_secs(1),
            ..defaults
        };
        if self.real {
            return real;
        }
        Settings {
            pool: pool::Settings {
                poll_interval: Duration::from_millis(100),
                retry_min: Duration::from_millis(50),
                retry_max: Duration::from_millis(200),
                down_after: Duration::from_millis(1500),
                lead_back_after: Duration::from_millis(500),
                ..real.pool
            },
            fetch_timeout: Duration::from_millis(1500),
            upload: upload::Settings {
                timeout: Duration::from_secs(4),
                batch_age: Duration::from_millis(200),
                batch_len: 64,
                backoff_min: Duration::from_millis(20),
                backoff_max: Duration::from_millis(200),
                ..real.upload
            },
            ..real
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Requests to the first handler of the first pool meet one of the local pool's faults.
    Handler { kind: &'static str, after_work: bool },
    /// The first handler is listed, and refuses connections.
    HandlerDown,
    /// The first handler is listed under a name that does not resolve, ...
    HandlerUnknown,
    /// ... as `https://`, which it does not speak, ...
    HandlerWithoutTls,
    /// ... or where a certificate is shown that nobody trusts.
    HandlerUntrusted,
    /// Requests to the first pool's master meet one of the local pool's faults.
    Master { kind: &'static str },
    /// The first pool's master refuses connections.
    MasterDown,
    /// The user named the first pool by a name that does not resolve, and then names it right, ...
    MasterUnknown,
    /// ... or by `https://`, which it does not speak, ...
    MasterWithoutTls,
    /// ... or where a certificate is shown that nobody trusts.
    MasterUntrusted,
    /// The newest blocks are replaced by others, three times.
    Reorganise,
    /// Blocks come so fast that a parent is soon too old.
    Blocks,
    /// The first pool has one handler more, ...
    Appear,
    /// ... one less, ...
    Vanish,
    /// ... or its handlers change places.
    Swap,
    /// The first pool asks for harder work all of a sudden.
    Target,
}

/// One fault, and the words by which the miner must have named it; any of those with `|` between them.
pub struct Row {
    pub name: &'static str,
    pub fault: Fault,
    pub said: &'static str,
}

/// How many handlers each pool has, and how many pools there are.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub handlers: usize,
    pub pools: usize,
}

/// What became of one cell.
#[derive(Clone, Debug)]
pub struct Record {
    /// The first pool's account, and the second's.
    pub accounts: Vec<Account>,
    /// By what the miner got over it.
    pub means: BTreeSet<&'static str>,
    /// From the end of the fault until everybody took announcements again.
    pub recovered_in: Duration,
}

/// An announcement as it came from the backend.
#[derive(Clone, Copy, Debug)]
struct Seen {
    hash: u64,
    parent: BlockHash,
    height: u32,
    work_bits: WorkBits,
}

/// The work bits of all pools, and those that one of them asks for all of a sudden.
fn usual() -> WorkBits {
    WorkBits::at_least(2)
}
fn harder() -> WorkBits {
    WorkBits::at_least(8)
}

/// What the miner says of a post that took too long.
const TIMED_OUT: &str = "does not answer in time";

/// What the miner says, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0)).into_owned()
    }

    fn has(&self, words: &str) -> bool {
        self.text().contains(words)
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A miner at work against local pools.
struct World {
    pace: Pace,
    pools: Vec<LocalPool>,
    tls: Option<SelfSigned>,
    /// As the user named them at last.
    named: Vec<Url>,
    seen: Arc<Mutex<Vec<Seen>>>,
    log: Log,
    control: Control,
    thread: Option<thread::JoinHandle<Ledger>>,
}

/// How many batches each handler of each pool has taken.
type Marks = Vec<Vec<u64>>;

/// Runs one cell.
///
/// # Panics
/// If anything is not as it must be.
pub fn run(row: &Row, shape: Shape, pace: Pace) -> Record {
    let world = World::start(row.fault, shape, pace);
    if !world.is_misnamed(row.fault) {
        world.until_all_take_more("before the fault");
    }
    world.strike(row.fault);
    world.until_met(row);
    let second_leads = world.until_others_go_on(row.fault);
    let healed = Instant::now();
    world.heal(row.fault);
    if second_leads {
        let first = format!("pool {} decides now what is mined", world.named[0]);
        world.until("the first pool leads again", || world.log.has(&first));
    }
    // That something new is mined for shows that the way from the master is open, ...
    world.pools.iter().for_each(LocalPool::new_block);
    world.until_mining_on_the_newest();
    // ... and this the way to the handlers.
    world.until_all_take_more("after the fault");
    let recovered_in = healed.elapsed();
    world.finish(row.fault, recovered_in)
}

impl World {
    fn start(fault: Fault, shape: Shape, pace: Pace) -> Self {
        let settings = local_pool::Settings {
            handlers: shape.handlers,
            work_bits: usual(),
            mine_old: 1,
            validators: 1,
            // Each would be as dear as to find it.
            validate: Validate::Sample(NonZero::new(64).expect("not zero")),
            journal: true,
            ..local_pool::Settings::default()
        };
        // The same seed gives the same chain: announcements for one pool are announcements for the other.
        let pools: Vec<_> = (0..shape.pools)
            .map(|_| LocalPool::start(settings.clone()).expect("the local pool starts"))
            .collect();
        let tls = matches!(fault, Fault::HandlerUntrusted | Fault::MasterUntrusted).then(SelfSigned::start);
        let named: Vec<_> = pools.iter().map(LocalPool::url).collect();
        let mut misnamed = named.clone();
        match (fault, &tls) {
            (Fault::MasterUnknown, _) => misnamed[0] = url("http://master.pktmine.invalid/"),
            (Fault::MasterWithoutTls, _) => misnamed[0].set_scheme("https").expect("another scheme"),
            (Fault::MasterUntrusted, Some(tls)) => misnamed[0] = url(&format!("https://{}/", tls.address)),
            _ => {}
        }
        let (log, seen) = (Log::default(), Arc::default());
        let miner = Miner::with_backends(pace.settings(misnamed), |sink| write_down(&seen, pace, sink));
        let miner = miner.expect("the miner starts");
        let (control, writer) = (miner.control(), log.clone());
        let thread = thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_target(false)
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(subscriber, || miner.run()).expect("it mines")
        });
        Self { pace, pools, tls, named, seen, log, control, thread: Some(thread) }
    }

    /// Whether it is the user who has to put something right.
    fn is_misnamed(&self, fault: Fault) -> bool {
        matches!(fault, Fault::MasterUnknown | Fault::MasterWithoutTls | Fault::MasterUntrusted)
    }

    /// Lets it go wrong.
    fn strike(&self, fault: Fault) {
        let pool = &self.pools[0];
        let of_kind = |kind: &str| match kind {
            "delay" => format!("delay={}ms", self.pace.delay.as_millis()),
            "hang" => format!("hang={}ms", self.pace.hang.as_millis()),
            other => other.to_owned(),
        };
        let inject = |text: String| pool.inject(text.parse().expect("a fault of the local pool"));
        let list = |address: String| pool.list_handler(0, Some(url(&address))).expect("it is there");
        let handlers = pool.handler_urls().len();
        match fault {
            Fault::Handler { kind, after_work } => {
                inject(format!("{}:handler0{}", of_kind(kind), if after_work { ":after" } else { "" }));
            }
            Fault::Master { kind } => inject(format!("{}:master", of_kind(kind))),
            Fault::HandlerDown => {
                pool.set_handler(0, local_pool::HandlerState::Down).expect("it is there");
            }
            Fault::HandlerUnknown => list("http://handler.pktmine.invalid/submit".into()),
            Fault::HandlerWithoutTls => {
                list(pool.handler_urls()[0].to_string().replace("http:", "https:"));
            }
            Fault::HandlerUntrusted => {
                let tls = self.tls.as_ref().expect("started with the cell");
                list(format!("https://{}/submit", tls.address));
            }
            Fault::MasterDown => pool.stop_master(),
            Fault::MasterUnknown | Fault::MasterWithoutTls | Fault::MasterUntrusted => {}
            Fault::Reorganise => (0..3).for_each(|_| {
                self.pools.iter().for_each(|pool| pool.reorganise(2).expect("two blocks are there"));
                self.until_mining_on_the_newest();
            }),
            Fault::Blocks => {
                let parents =
                    || lock(&self.seen).iter().map(|seen| seen.parent).collect::<HashSet<_>>().len();
                self.until("mined on several blocks in a row", || {
                    self.pools.iter().for_each(LocalPool::new_block);
                    thread::sleep(self.pace.block_time);
                    parents() >= 4
                });
            }
            Fault::Appear => pool.set_handlers(handlers + 1).expect("there are ports"),
            Fault::Vanish => pool.set_handlers(handlers - 1).expect("none is started"),
            Fault::Swap if handlers > 1 => {
                let order: Vec<_> = (0..handlers).rev().collect();
                pool.order_handlers(&order).expect("each is named once");
            }
            Fault::Swap => {
                // One alone changes places with one that was not there before.
                pool.set_handlers(2).expect("there are ports");
                pool.order_handlers(&[1, 0]).expect("each is named once");
                pool.set_handlers(1).expect("none is started");
            }
            Fault::Target => pool.set_work_bits(harder()),
        }
    }

    /// Waits until the fault was met more than once, and the miner has named it.
    fn until_met(&self, row: &Row) {
        let pool = &self.pools[0];
        if let Fault::Handler { kind, .. } | Fault::Master { kind } = row.fault {
            self.until("the fault is met", || {
                pool.stats().faulted.get(kind).is_some_and(|times| *times >= 3)
            });
        }
        let said = || row.said.split('|').any(|words| self.log.has(words));
        self.until(&format!("the miner says {:?}", row.said), said);
        if let Some(tls) = &self.tls {
            self.until("the certificate is refused", || tls.refused() > 0);
        }
        if row.fault == Fault::Target {
            let harder = || lock(&self.seen).iter().any(|seen| seen.work_bits == harder());
            self.until("harder ones are mined", harder);
        }
    }

    /// Waits until everybody who has nothing to do with the fault has taken more, and the fault has lasted. Says whether
    /// the second pool leads by then.
    fn until_others_go_on(&self, fault: Fault) -> bool {
        let (begun, before) = (Instant::now(), self.marks());
        let found = lock(&self.seen).len();
        let spared = |pool: usize, handler: usize| match fault {
            _ if pool == 1 => true,
            Fault::Handler { .. }
            | Fault::HandlerDown
            | Fault::HandlerUnknown
            | Fault::HandlerWithoutTls
            | Fault::HandlerUntrusted => handler > 0,
            Fault::MasterUnknown | Fault::MasterWithoutTls | Fault::MasterUntrusted => false,
            // With the only one gone, the old list stays, and nobody is there.
            Fault::Vanish => before[0].len() > 1,
            _ => true,
        };
        self.until("those whom it spares take more", || {
            let now = self.marks();
            let more = |pool: usize, handler: usize| now[pool][handler] > before[pool][handler];
            let mut all = (0..now.len()).flat_map(|pool| (0..now[pool].len()).map(move |h| (pool, h)));
            all.all(|(pool, handler)| !spared(pool, handler) || more(pool, handler))
        });
        if self.is_misnamed(fault) && self.pools.len() == 1 {
            assert!(lock(&self.seen).is_empty(), "nobody gave work");
        } else {
            self.until("mining goes on", || lock(&self.seen).len() > found);
        }
        let is_outage = match fault {
            Fault::Master { kind } => kind != "delay",
            Fault::MasterDown => true,
            fault => self.is_misnamed(fault),
        };
        let second_leads = is_outage && self.pools.len() == 2;
        if second_leads {
            let second = format!("pool {} decides now what is mined", self.named[1]);
            self.until("the second pool leads", || self.log.has(&second));
        }
        thread::sleep(self.pace.lasts.saturating_sub(begun.elapsed()));
        second_leads
    }

    /// Ends the fault.
    fn heal(&self, fault: Fault) {
        let pool = &self.pools[0];
        let handlers = pool.handler_urls().len();
        match fault {
            Fault::Handler { .. } | Fault::Master { .. } => pool.clear_faults(),
            Fault::HandlerDown => {
                pool.set_handler(0, local_pool::HandlerState::Up).expect("its port is free");
            }
            Fault::HandlerUnknown | Fault::HandlerWithoutTls | Fault::HandlerUntrusted => {
                pool.list_handler(0, None).expect("it is there");
            }
            Fault::MasterDown => pool.restart_master().expect("its port is free"),
            Fault::MasterUnknown | Fault::MasterWithoutTls | Fault::MasterUntrusted => {
                self.control.change(self.pace.settings(self.named.clone()));
            }
            Fault::Reorganise | Fault::Blocks => {}
            Fault::Appear => pool.set_handlers(handlers - 1).expect("none is started"),
            Fault::Vanish => pool.set_handlers(handlers + 1).expect("there are ports"),
            Fault::Swap => {
                let order: Vec<_> = (0..handlers).rev().collect();
                pool.order_handlers(&order).expect("each is named once");
            }
            Fault::Target => pool.set_work_bits(usual()),
        }
    }

    /// Stops the miner and holds its ledger against what was found and what was taken.
    fn finish(mut self, fault: Fault, recovered_in: Duration) -> Record {
        self.control.stop();
        let thread = self.thread.take().expect("nobody else takes it");
        let ledger = thread.join().expect("the miner does not panic");
        let (seen, log) = (lock(&self.seen).clone(), self.log.text());
        assert!(ledger.adds_up(), "{ledger:#?}");
        assert_eq!(ledger.found_by, [seen.len() as u64], "as the backend handed over");
        let distinct: HashSet<_> = seen.iter().map(|seen| (seen.parent, seen.hash)).collect();
        assert_eq!(distinct.len(), seen.len(), "nothing is found twice");
        let mut accounts = Vec::new();
        for (place, (pool, named)) in self.pools.iter().zip(&self.named).enumerate() {
            let account = ledger.pools.iter().find(|account| account.pool == named.as_str());
            let account = account.expect("it was mined for").clone();
            let words = format!("pool {place}: {account:#?}\n{:#?}\n{log}", pool.stats());
            let (journal, taken) = (pool.journal(), pool.stats().total.accepted);
            assert_eq!(taken, journal.len() as u64, "{words}");
            let known = account.accepted..=account.accepted + account.unknown;
            assert!(known.contains(&taken), "{words}");
            assert!(account.unknown == 0 || log.contains(TIMED_OUT), "{words}");
            assert_eq!((account.queued, account.in_flight, account.duplicate), (0, 0, 0), "{words}");
            // What was found before the pool was named was not meant for it.
            let meant = &seen[account.missed as usize..];
            let lost: Vec<_> =
                meant.iter().filter(|seen| !journal.contains(&(seen.parent, seen.hash))).collect();
            assert_eq!(account.found - taken, lost.len() as u64, "{words}");
            let window = pool.window();
            for lost in lost {
                let excused = match fault {
                    Fault::Reorganise => !window.contains(&(lost.height, lost.parent)),
                    Fault::Blocks => lost.height < window[0].0,
                    Fault::Target => place == 0 && lost.work_bits == usual(),
                    _ => false,
                };
                assert!(excused, "{lost:?} could have been taken; {words}");
            }
            accounts.push(account);
        }
        self.check_causes(fault, &accounts);
        let has = |words: &str| log.contains(words);
        let means = [
            ("kept and sent again", has("takes announcements again")),
            ("told of late", accounts[0].told_late > 0),
            ("old job meanwhile", self.is_master(fault) && self.pools.len() == 1 && !self.is_misnamed(fault)),
            ("the other pool leads meanwhile", has("decides now what is mined")),
            ("followed", has(": following it") || fault == Fault::Blocks),
            ("sorted anew", has("changed its ann handlers")),
            ("mined anew", has("changed annTarget")),
            ("named right", self.is_misnamed(fault)),
        ];
        let means = means.into_iter().filter(|(_, is_so)| *is_so).map(|(text, _)| text).collect();
        Record { accounts, means, recovered_in }
    }

    fn is_master(&self, fault: Fault) -> bool {
        matches!(fault, Fault::Master { .. } | Fault::MasterDown) || self.is_misnamed(fault)
    }

    /// That it was this fault that was met, where it was, and nobody else.
    fn check_causes(&self, fault: Fault, accounts: &[Account]) {
        let stats = self.pools[0].stats();
        let injected = match fault {
            Fault::Handler { kind, .. } | Fault::Master { kind } => Some(kind),
            _ => None,
        };
        let met: Vec<_> = stats.faulted.keys().copied().collect();
        assert_eq!(met, Vec::from_iter(injected), "the faults that requests met");
        // A handler that goes may have just taken what it will not tell of any more.
        let closes = matches!(fault, Fault::HandlerDown | Fault::Appear | Fault::Vanish | Fault::Swap);
        if let Fault::Handler { after_work: true, .. } = fault {
            let told_late = accounts[0].told_late;
            assert!((1..=stats.total.duplicates).contains(&told_late), "{told_late} of {stats:#?}");
        } else if !closes {
            let told_late = accounts[0].told_late;
            assert!(told_late == 0 || self.is_slow(fault), "{told_late} were not told of: {stats:#?}");
        }
        let chain_moves = matches!(fault, Fault::Reorganise | Fault::Blocks);
        let moves = chain_moves || matches!(fault, Fault::Swap | Fault::Appear | Fault::Vanish);
        for (index, handler) in stats.handlers.iter().enumerate() {
            let is_meant = moves || fault == Fault::Target || (index == 0 && !self.is_master(fault));
            assert!(is_meant || handler.counts.refused.is_empty(), "handler {index}: {handler:#?}");
        }
        for other in self.pools.iter().skip(1) {
            let stats = other.stats();
            assert!(stats.faulted.is_empty(), "{stats:#?}");
            assert!(chain_moves || stats.total.refused.is_empty(), "{stats:#?}");
            assert!(stats.total.duplicates == 0 || self.is_slow(fault), "{stats:#?}");
        }
    }

    /// Whether this machine was so busy that posts took too long that nobody held up.
    fn is_slow(&self, fault: Fault) -> bool {
        !matches!(fault, Fault::Handler { kind: "hang", .. }) && self.log.has(TIMED_OUT)
    }

    fn marks(&self) -> Marks {
        let of_pool =
            |pool: &LocalPool| pool.stats().handlers.iter().map(|handler| handler.counts.batches).collect();
        self.pools.iter().map(of_pool).collect()
    }

    /// Waits until every handler that is listed has taken another batch.
    fn until_all_take_more(&self, when: &str) {
        let before = self.marks();
        self.until(&format!("every handler takes announcements {when}"), || {
            self.marks().iter().flatten().zip(before.iter().flatten()).all(|(now, before)| now > before)
        });
    }

    /// Waits until the block is mined on that the first pool wants mined on.
    fn until_mining_on_the_newest(&self) {
        let window = self.pools[0].window();
        let (height, parent) = window[window.len() - 2];
        let words = format!("mining on block {height} ({:.16}…)", parent.to_string());
        self.until(&words, || self.log.has(&words));
        self.until("something is found on it", || lock(&self.seen).iter().any(|seen| seen.parent == parent));
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + self.pace.patience;
        while !is_so() {
            let has_ended = self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished);
            assert!(!has_ended, "the miner has ended before {what}:\n{}", self.log.text());
            if Instant::now() > deadline {
                let stats: Vec<_> = self.pools.iter().map(LocalPool::stats).collect();
                panic!("never: {what}\n{}{stats:#?}", self.log.text());
            }
            thread::sleep(Duration::from_millis(25));
        }
    }
}

/// A miner whose cell has failed does not go on beside the others.
impl Drop for World {
    fn drop(&mut self) {
        (0..2).for_each(|_| self.control.stop());
    }
}

/// Starts the processors' backend; all that it finds is written down before the miner gets it.
fn write_down(
    seen: &Arc<Mutex<Vec<Seen>>>,
    pace: Pace,
    sink: &Sink,
) -> Result<Vec<Box<dyn backend::Backend>>, backend::StartError> {
    let (seen, sink) = (seen.clone(), sink.clone());
    let between: Sink = Arc::new(move |event| {
        if let BackendEvent::Found { announcements, .. } = &event {
            lock(&seen).extend(announcements.iter().map(|found| Seen {
                hash: short_hash(&found.hash),
                parent: found.job.parent_hash,
                height: found.job.parent_height,
                work_bits: found.job.work_bits,
            }));
        }
        sink(event);
    });
    backend::start(Which::Cpu, pace.settings(Vec::new()).cpu, &gpu::Settings::default(), &between)
}

fn url(text: &str) -> Url {
    text.parse().expect("an address")
}
