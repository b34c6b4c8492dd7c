//! Announcements → batches → ann handlers, and the ledger that accounts for every one of them.
//!
//! [`Uploader`] is a state machine, `(event, now) → effects`: it makes no connection, starts no thread and reads no
//! clock, and its chance is seeded. What posts batches is [`http`]; what validates is the caller's.
//!
//! The way of an announcement, for each pool on its own:
//!
//! | where | until |
//! |---|---|
//! | holding queue | the pool has told its handlers |
//! | batch being filled, one per handler | it is full, its job changed, it is old, or mining stopped |
//! | check of a sample | the sample is valid; otherwise all of the batch is checked and its good part goes on. Once a backend has erred, all that is left of its announcements is checked |
//! | handler's queue | a post to the handler is free, the limit lets it, the pool knows the parent block, and the handler has not refused valid announcements of that block lately |
//! | in flight | an answer, or none: then back to the queue, marked as maybe delivered |
//! | [`Account`] | for ever: every announcement ends in one of its fates |

mod answer;
mod backoff;
mod batch;
mod delivery;
mod doubt;
mod handler;
pub mod http;
mod judge;
mod ledger;
mod limit;
mod queue;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

pub use answer::{PostOutcome, Refusal};
pub use batch::{Batch, SAMPLED};
use delivery::{Context, Delivery};
use kernels::{Invalid, WorkBits};
pub use ledger::{Account, Cause, Fate, HandlerRow, Ledger};
use limit::Bucket;
pub use limit::{Limit, wire_bytes};

use crate::{
    protocol::{BATCH, PayTo},
    values::{Address, BackendId, Found, Moment, Notice, PoolId, PoolView},
};

/// How long what waits for a pool that is no longer mined for may take to be sent.
pub const LEAVE: Duration = Duration::from_secs(30);

/// The most posts at the same time, per handler: more than any handler can make use of.
const UPLOADERS_MAX: usize = 256;

/// How announcements are uploaded.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Posts in flight at the same time, per handler; 1 to 256, what is beyond counts as that.
    pub uploaders: usize,
    /// How long a post may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// How old a batch may get before it is posted though it is not full. Chance takes up to 30 % off, for each
    /// batch anew, so that those of many handlers, which begin at the same time, do not all leave at the same time.
    pub batch_age: Duration,
    /// Announcements in a full batch; at least 1.
    pub batch_len: usize,
    /// Announcements that may wait per handler, in bytes.
    pub queue_bytes: usize,
    /// Announcements that may wait for all handlers of a pool together, in bytes.
    pub pool_bytes: usize,
    /// The first wait after a failure.
    pub backoff_min: Duration,
    /// The longest wait after failures.
    pub backoff_max: Duration,
    /// The most that may be sent, to all pools together. Under a limit batches are shorter and younger than they could
    /// be.
    pub limit: Option<Limit>,
    /// Who is paid.
    pub pay_to: PayTo,
    /// What chance is made from: which announcements are sampled, how long waits are.
    pub seed: u64,
}

impl Settings {
    /// The defaults of the protocol document.
    pub fn new(pay_to: PayTo, seed: u64) -> Self {
        Self {
            uploaders: 5,
            timeout: Duration::from_secs(30),
            batch_age: Duration::from_secs(10),
            batch_len: BATCH,
            queue_bytes: 64 << 20,
            pool_bytes: 512 << 20,
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            limit: None,
            pay_to,
            seed,
        }
    }
}

/// How many posts to a handler at the same time are made of those asked for.
fn uploaders(asked: usize) -> usize {
    asked.clamp(1, UPLOADERS_MAX)
}

fn within_bounds(settings: Settings) -> Settings {
    let (mut batch_len, mut batch_age) = (settings.batch_len.max(1), settings.batch_age);
    if let Some(limit) = settings.limit {
        batch_len = batch_len.min(limit.longest_post());
        batch_age = limit.batch_age(batch_age);
    }
    Settings { uploaders: uploaders(settings.uploaders), batch_len, batch_age, ..settings }
}

/// What the uploader is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed: the moment of [`Uploader::next_wake`] has come.
    Tick,
    /// A backend found announcements.
    Found {
        /// Which one.
        backend: BackendId,
        /// How many it has found since it started, these included, by its own count.
        found_total: u64,
        /// The new ones.
        announcements: Vec<Arc<Found>>,
    },
    /// A pool said something new. To be told before the jobs that follow from it are mined: what is mined on a
    /// block that the view contradicts counts as stale.
    View {
        /// Which one.
        pool: PoolId,
        /// All that is known of it now.
        view: PoolView,
    },
    /// A post has ended.
    Answered {
        /// Which one: [`Post::request`].
        request: u64,
        /// How.
        outcome: PostOutcome,
    },
    /// A check has ended.
    Checked {
        /// Which one: [`Check::check`].
        check: u64,
        /// A verdict for each announcement of it, in order.
        verdicts: Vec<Result<(), Invalid>>,
    },
    /// From now on announcements go to these pools, and in this way. What waits for another pool is sent to it still,
    /// for [`LEAVE`] at most.
    Change {
        /// The pools with their names, those known already among them.
        pools: Vec<(PoolId, String)>,
        /// How announcements are uploaded.
        settings: Settings,
    },
    /// Mining has stopped: send what there is, full batch or not.
    Drain,
    /// The time to drain is over: what is in flight will not be waited for.
    Finish,
}

/// What the uploader wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Post a batch, and report with [`Event::Answered`].
    Post(Post),
    /// Validate announcements, and report with [`Event::Checked`].
    Check(Check),
    /// A pool wants more work than these work bits stand for, whatever it said before.
    TargetRefused {
        /// Which pool.
        pool: PoolId,
        /// The work bits of the refused batch.
        work_bits: WorkBits,
    },
    /// A handler refused what may well be valid: the pool's chain may have changed. Ask what the pool says.
    Doubted {
        /// Which pool.
        pool: PoolId,
    },
    /// A backend found something that does not validate: stop it.
    BackendErred {
        /// Which one.
        backend: BackendId,
        /// What the validator says of one such announcement.
        verdict: Invalid,
    },
    /// Say something in the log.
    Note(Notice),
}

/// A batch to post.
#[derive(Clone, Debug)]
pub struct Post {
    /// Counts up; never used twice.
    pub request: u64,
    /// Whose handler it is.
    pub pool: PoolId,
    /// The handler.
    pub url: Address,
    /// The value of `x-pc-worknum`.
    pub work_number: u32,
    /// The value of `x-pc-payto`.
    pub pay_to: PayTo,
    /// What to post.
    pub batch: Arc<Batch>,
    /// How long it may take in all.
    pub timeout: Duration,
    /// The time over which to spread its body; zero: none, as fast as the line is.
    pub spread: Duration,
}

/// Announcements to validate.
#[derive(Clone, Debug)]
pub struct Check {
    /// Counts up; never used twice.
    pub check: u64,
    /// What to validate, each against the parent hash of its job.
    pub announcements: Vec<Arc<Found>>,
    /// Whether a batch waits for it that no handler has refused: others may wait meanwhile.
    pub urgent: bool,
}

/// Sends every announcement to every pool, and keeps the ledger.
pub struct Uploader {
    settings: Settings,
    rng: fastrand::Rng,
    last_id: u64,
    /// Backends that found what does not validate.
    erring: BTreeSet<BackendId>,
    found_by: Vec<u64>,
    deliveries: Vec<Delivery>,
    bucket: Bucket,
}

impl Uploader {
    /// An uploader for pools, named as the user named them, and a number of backends.
    pub fn new(pools: &[String], backends: usize, settings: Settings) -> Self {
        let settings = within_bounds(settings);
        Self {
            rng: fastrand::Rng::with_seed(settings.seed),
            settings,
            last_id: 0,
            erring: BTreeSet::new(),
            found_by: vec![0; backends],
            deliveries: pools.iter().enumerate().map(|(i, pool)| Delivery::new(PoolId(i), pool)).collect(),
            bucket: Bucket::default(),
        }
    }

    /// Takes an event at a moment; moments never go back.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        if let Event::Change { pools, settings } = &event {
            self.change(pools, settings.clone(), now);
        }
        let mut cx = Context {
            now,
            settings: &self.settings,
            rng: &mut self.rng,
            last_id: &mut self.last_id,
            erring: &mut self.erring,
            effects: Vec::new(),
        };
        match event {
            Event::Tick | Event::Change { .. } => {}
            Event::Found { backend, found_total, announcements } => {
                if self.found_by.len() <= backend.0 {
                    self.found_by.resize(backend.0 + 1, 0);
                }
                let handed_over = self.found_by[backend.0] + announcements.len() as u64;
                if handed_over != found_total {
                    cx.note(Notice::error(format!(
                        "backend {} counts {found_total} announcements, but handed over {handed_over}: the ledger \
                         cannot add up; this is a fault of the program, please report it",
                        backend.0
                    )));
                }
                self.found_by[backend.0] = found_total;
                self.deliveries.iter_mut().for_each(|delivery| delivery.found(&announcements, &mut cx));
            }
            Event::View { pool, view } => {
                if let Some(delivery) = self.deliveries.get_mut(pool.0) {
                    delivery.view(view, &mut cx);
                }
            }
            Event::Answered { request, outcome } => {
                for delivery in &mut self.deliveries {
                    delivery.answered(request, &outcome, &mut cx);
                }
            }
            Event::Checked { check, verdicts } => {
                for delivery in &mut self.deliveries {
                    delivery.checked(check, &verdicts, &mut cx);
                }
            }
            Event::Drain => self.deliveries.iter_mut().for_each(|delivery| delivery.drain(&mut cx)),
            Event::Finish => self.deliveries.iter_mut().for_each(|delivery| delivery.finish(&mut cx)),
        }
        for delivery in &mut self.deliveries {
            delivery.advance(&mut cx);
        }
        // Whoever has waited longest has its turn, so that a limit leaves everybody a share.
        while self.bucket.free_from() <= now
            && let Some((_, place, delivery)) = (self.deliveries.iter_mut())
                .filter_map(|delivery| delivery.next_turn(&cx).map(|(turn, place)| (turn, place, delivery)))
                .min_by_key(|(turn, ..)| *turn)
        {
            delivery.post(place, &mut self.bucket, &mut cx);
        }
        cx.effects
    }

    fn change(&mut self, pools: &[(PoolId, String)], settings: Settings, now: Moment) {
        self.settings = within_bounds(settings);
        self.bucket.relax(self.settings.limit, now);
        let found = self.found_by.iter().sum();
        for (pool, name) in pools {
            while self.deliveries.len() <= pool.0 {
                self.deliveries.push(Delivery::new(PoolId(self.deliveries.len()), name));
                let new = self.deliveries.last_mut().expect("it was just put there");
                new.leave(0, now);
                new.join(found);
            }
        }
        for (place, delivery) in self.deliveries.iter_mut().enumerate() {
            match pools.iter().any(|(pool, _)| pool.0 == place) {
                true => delivery.join(found),
                false => delivery.leave(found, now + LEAVE),
            }
        }
    }

    /// When [`Event::Tick`] is due; `None`: not before some other event.
    pub fn next_wake(&self) -> Option<Moment> {
        self.deliveries.iter().filter_map(|delivery| delivery.next_wake(&self.settings, &self.bucket)).min()
    }

    /// Whether a pool's handler, by its address, is known to refuse what is mined at the moment, though it is valid.
    pub fn is_refused_by(&self, pool: PoolId, handler: &Address) -> bool {
        self.deliveries.get(pool.0).is_some_and(|delivery| delivery.is_refused_by(handler))
    }

    /// Where every announcement is now.
    pub fn snapshot(&self) -> Ledger {
        let found = self.found_by.iter().sum();
        Ledger {
            found_by: self.found_by.clone(),
            pools: self.deliveries.iter().map(|delivery| delivery.account(found)).collect(),
        }
    }

    /// Whether nothing waits and nothing is in flight. While draining, what waits for a pool that never said a word
    /// is left behind: nothing can come of waiting for it.
    pub fn is_idle(&self) -> bool {
        self.deliveries.iter().all(Delivery::is_idle)
    }
}
