//! The miner at one moment, as a plain value: all that status lines, displays, APIs and metrics are made from.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use kernels::WorkBits;

use super::Rate;
use crate::{
    backend::Counters,
    protocol::difficulty_shown,
    upload::{Account, Ledger},
    values::{Hardness, Job, Moment, PauseReason},
};

/// The miner's state at one moment. All of it was read at the same time, so that the ledger adds up.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The program's version.
    pub version: &'static str,
    /// When, since the miner started: its uptime.
    pub now: Moment,
    /// When, by the system's clock.
    pub time: SystemTime,
    /// When it started, by the system's clock as it was then: the same in each snapshot.
    pub started: SystemTime,
    /// What it is about.
    pub phase: Phase,
    /// Why it is paused; empty: it is not.
    pub pauses: Vec<PauseReason>,
    /// What is mined; `None` before there was work.
    pub job: Option<JobRow>,
    /// Whether it mines for a pool of its own, since none was named: nobody is paid.
    pub own_pool: bool,
    /// What the user lets it upload, in 10^6 bits a second; `None`: as much as the line takes.
    pub max_upload_mbit_per_s: Option<f64>,
    /// For how long there was something to mine so far, without pauses and the time in which the last is handed in.
    pub mined: Duration,
    /// The sum of the difficulties of all announcements found.
    pub work: f64,
    /// Rates of all backends and pools together.
    pub rates: RateRow,
    /// In the order of [`BackendId`](crate::values::BackendId)s, which is that of [`Ledger::found_by`].
    pub backends: Vec<BackendRow>,
    /// In the order of [`PoolId`](crate::values::PoolId)s, which is that of [`Ledger::pools`].
    pub pools: Vec<PoolRow>,
    /// Where every announcement is.
    pub ledger: Ledger,
    /// The newest warnings and errors, the oldest first; [`COMPLAINTS_MAX`] at most.
    pub complaints: Vec<Complaint>,
}

/// How many [`Snapshot::complaints`] are kept.
pub const COMPLAINTS_MAX: usize = 16;

/// What the miner is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It mines, or waits for work.
    Mining,
    /// It mines nothing until it is told to go on; what was found is handed in meanwhile.
    Paused,
    /// It has stopped mining and hands in what it has.
    Draining,
    /// It is done.
    Done,
}

/// What is mined.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// The job.
    pub job: Job,
    /// Since when it is mined.
    pub since: Since,
    /// Since when its parent block is mined on: a job with other work bits does not change that.
    pub block_since: Since,
    /// The work bits that the leading pool asks for.
    pub asked: Option<WorkBits>,
    /// Why the job's are what they are.
    pub hardness: Hardness,
}

/// Since when something is so. The clocks run apart and are set: what is told of one moment comes from one look at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// By the miner's clock.
    pub moment: Moment,
    /// By the system's clock.
    pub time: SystemTime,
}

/// Rates over all windows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateRow {
    /// Over the [`WINDOWS`](super::WINDOWS). Pauses count as time in which nothing was found.
    pub windows: [Rate; 3],
    /// The highest rate over the shortest window, in e/s; zero before that window was first over.
    pub highest: f64,
}

/// One backend.
#[derive(Clone, Debug)]
pub struct BackendRow {
    /// "cpu", "gpu 0".
    pub name: String,
    /// One line that says what runs, and why.
    pub description: String,
    /// Why it was stopped for good; `None`: it mines.
    pub failed: Option<String>,
    /// What it has done since it started; `found` is the ledger's [`Ledger::found_by`].
    pub counters: Counters,
    /// The sum of the difficulties of the announcements that it found.
    pub work: f64,
    /// Its rates. It uploads nothing by itself.
    pub rates: RateRow,
}

/// One pool, as far as its account in the ledger does not tell it.
#[derive(Clone, Debug, Default)]
pub struct PoolRow {
    /// Whether it is not mined for any more: the settings named it once. Then nothing else is known of it.
    pub removed: bool,
    /// Whether it decides what is mined.
    pub leads: bool,
    /// Whether its master gives good answers.
    pub up: bool,
    /// What is wrong with its master at the moment, in a sentence.
    pub complaint: Option<String>,
    /// Height of the newest block that it told of; `None` before it did.
    pub tip_height: Option<u32>,
    /// Megabits uploaded a second over the [`WINDOWS`](super::WINDOWS), counting announcements alone.
    pub upload_mbit_per_s: [f64; 3],
}

/// A warning or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// When it was said.
    pub at: Moment,
    /// Whether mining suffers; otherwise it was dealt with.
    pub is_error: bool,
    /// One line.
    pub text: String,
}

impl JobRow {
    /// The difficulty as people call it, and why it is another than the pool asks for; `None`: it is the pool's.
    pub fn difficulty(&self) -> (f64, Option<String>) {
        let mined = difficulty_shown(self.job.work_bits);
        let why = match (self.hardness, self.asked) {
            (Hardness::Pool, _) => None,
            (hardness, None) => Some(format!("--{hardness}")),
            (hardness, Some(asked)) => Some(format!("--{hardness}, pool {:.0}", difficulty_shown(asked))),
        };
        (mined, why)
    }
}

impl Snapshot {
    /// Announcements found by all backends.
    pub fn found(&self) -> u64 {
        self.ledger.found_by.iter().sum()
    }

    /// The pools that are mined for, and of those that no longer are the ones to which something is still on its way.
    pub fn pools_at_work(&self) -> impl Iterator<Item = (&Account, &PoolRow)> + Clone {
        let waits = |account: &Account| account.queued + account.in_flight > 0;
        let pools = self.ledger.pools.iter().zip(&self.pools);
        pools.filter(move |(account, row)| !row.removed || waits(account))
    }

    /// What all backends have done together.
    pub fn counters(&self) -> Counters {
        self.backends.iter().fold(Counters::default(), |mut sum, backend| {
            sum += backend.counters;
            sum
        })
    }
}

/// The newest snapshot, for any number of readers in other threads. Clones share it.
///
/// The lock is held for as long as it takes to copy a pointer, so that the miner never waits for a reader.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    newest: Mutex<Newest>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Newest {
    snapshot: Option<Arc<Snapshot>>,
    /// Nothing newer will come.
    ended: bool,
}

impl Watch {
    /// The newest snapshot, a second old at the most while the miner runs; `None` before it does.
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        self.lock().snapshot.clone()
    }

    /// Waits for another snapshot than `last`; `None`: there is none within that time, or none will ever come.
    pub fn next(&self, last: Option<&Arc<Snapshot>>, patience: Duration) -> Option<Arc<Snapshot>> {
        let is_old = |newest: &mut Newest| {
            !newest.ended && newest.snapshot.as_ref().map(Arc::as_ptr) == last.map(Arc::as_ptr)
        };
        let waited = self.0.changed.wait_timeout_while(self.lock(), patience, is_old);
        let newest = waited.unwrap_or_else(PoisonError::into_inner).0;
        let snapshot = newest.snapshot.clone();
        snapshot.filter(|snapshot| last.is_none_or(|last| !Arc::ptr_eq(last, snapshot)))
    }

    /// Whether the last snapshot was published: the miner is done.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Publishes a snapshot.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let old = self.lock().snapshot.replace(snapshot);
        self.0.changed.notify_all();
        // Outside the lock: freeing it takes longer than replacing it.
        drop(old);
    }

    /// No snapshot will follow.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{thread, time::UNIX_EPOCH};

    use super::*;
    use crate::protocol::BlockHash;

    /// The same, but with a limit for the sake of which harder announcements are mined.
    pub fn limited(pools: Vec<Account>) -> Snapshot {
        let mut snapshot = snapshot(pools);
        snapshot.max_upload_mbit_per_s = Some(2.5);
        let row = snapshot.job.as_mut().expect("there is work");
        row.asked = Some(WorkBits::at_least(16));
        row.hardness = Hardness::MaxUpload;
        snapshot
    }

    /// A miner with one backend that has found 2810 announcements in a minute, and these accounts.
    pub fn snapshot(pools: Vec<Account>) -> Snapshot {
        let rate = |e: f64| Rate {
            e_per_s: e,
            anns_per_s: e / 128.0,
            hashes_per_s: e * 1.5,
            upload_mbit_per_s: 2.31,
        };
        let rates = RateRow { windows: [rate(36_100.0), rate(35_900.0), rate(350_000.0)], highest: 37_000.0 };
        let job = Job {
            id: 1,
            parent_hash: BlockHash([0xab; 32]),
            parent_height: 1_234_567,
            work_bits: WorkBits::at_least(128),
            signing_key: [0; 32],
        };
        let pool = |leads| PoolRow {
            removed: false,
            leads,
            up: true,
            complaint: None,
            tip_height: Some(1_234_567),
            upload_mbit_per_s: [2.31, 2.2, 2.1],
        };
        let time = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let since = Since { moment: Duration::from_secs(23), time: time - Duration::from_secs(42) };
        Snapshot {
            version: "1.2.3",
            now: Duration::from_secs(65),
            time,
            started: time - Duration::from_secs(65),
            own_pool: false,
            phase: Phase::Mining,
            pauses: Vec::new(),
            job: Some(JobRow {
                asked: Some(job.work_bits),
                job,
                since,
                block_since: since,
                hardness: Hardness::Pool,
            }),
            max_upload_mbit_per_s: None,
            mined: Duration::from_secs(60),
            work: 2810.0 * 128.0,
            rates,
            backends: vec![BackendRow {
                name: "cpu".into(),
                description: "2 threads in 2 teams, avx2 kernel".into(),
                failed: None,
                counters: Counters { found: 2810, ..Counters::default() },
                work: 2810.0 * 128.0,
                rates,
            }],
            pools: (0..pools.len()).map(|i| pool(i == 0)).collect(),
            ledger: Ledger { found_by: vec![2810], pools },
            complaints: Vec::new(),
        }
    }

    /// The same, and the second pool was taken away.
    pub fn reloaded(pools: Vec<Account>) -> Snapshot {
        let mut snapshot = snapshot(pools);
        let removed =
            PoolRow { removed: true, up: false, leads: false, tip_height: None, ..snapshot.pools[1].clone() };
        snapshot.pools[1] = removed;
        snapshot
    }

    #[test]
    fn a_reader_is_told_of_each_newer_snapshot_and_of_the_end() {
        let watch = Watch::default();
        assert!(watch.latest().is_none());
        assert!(watch.next(None, Duration::ZERO).is_none());
        let reader = {
            let watch = watch.clone();
            thread::spawn(move || {
                let first = watch.next(None, Duration::from_secs(60)).expect("the first");
                let second = watch.next(Some(&first), Duration::from_secs(60)).expect("the second");
                (second.now, watch.next(Some(&second), Duration::from_secs(60)).is_none())
            })
        };
        watch.publish(snapshot(vec![]));
        // The reader may see the first and the second, or the second and the third.
        while Arc::strong_count(&watch.latest().expect("published")) < 3 {
            thread::yield_now();
        }
        watch.publish(Snapshot { now: Duration::from_secs(99), ..snapshot(vec![]) });
        thread::sleep(Duration::from_millis(20));
        watch.end();
        assert_eq!(reader.join().expect("no panic"), (Duration::from_secs(99), true));
        assert!(watch.has_ended());
    }
}
