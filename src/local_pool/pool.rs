//! The pool's state, and the way of a batch through it: checked, validated, recorded.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use kernels::{Announcement, WorkBits, primitives::b32};
use tokio::sync::Notify;
use url::Url;

use super::{
    HandlerState, Settings, Validate,
    chain::{Chain, ReorganiseError},
    duplicates::{Duplicates, Recorded},
    faults::{Endpoint, Fault, Faults, Met},
    handler::{self, Checked, Refusal, Rules, Submission},
    listen::Listeners,
    sparing::Sparing,
    stats::{Counter, Counters, HandlerStats, Stats, Taken, TurnedAway, ValidationStats},
    validation::{Validation, Verdict, lock},
};
use crate::{
    http_server::{AcceptTrouble, Connections, connections_within},
    protocol::{AnnsResult, Answer, BlockHash, BlockInfo, PayTo, difficulty_shown},
};

/// Everything that master and handlers share.
pub struct Pool {
    pub settings: Settings,
    pub validation: Validation,
    /// Room for request bodies.
    pub room: Arc<Room>,
    /// Those of all listeners.
    pub connections: Arc<Connections>,
    /// The master's port.
    pub port: u16,
    /// Asynchronous, so that changes of the list of handlers follow one another.
    pub listeners: tokio::sync::Mutex<Listeners>,
    pub accept_trouble: Arc<AcceptTrouble>,
    /// Answers to `GET /stats`.
    pub stats_answers: Sparing,
    started: Instant,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    /// Wakes who waits for a reorganisation.
    faults_changed: Notify,
}

struct State {
    chain: Chain,
    duplicates: Duplicates,
    /// All that was recorded, if that is asked for.
    journal: Option<HashSet<(BlockHash, u64)>>,
    counters: Counters,
    ready: bool,
    work_bits: WorkBits,
    announced_work_bits: Option<u32>,
    mine_old: u32,
    handlers: Vec<HandlerSlot>,
}

/// A handler that is listed.
#[derive(Clone, Debug)]
pub struct HandlerSlot {
    /// Never used twice: a handler's place in the list may become another's.
    pub id: u64,
    /// Its port.
    pub port: u16,
    pub state: HandlerState,
    /// The address under which it is listed, if that is not its own.
    pub listed_as: Option<Url>,
}

/// What `config.json` depends on.
pub struct MasterView {
    pub tip_hash: Option<BlockHash>,
    pub tip_height: u32,
    pub work_bits: Option<u32>,
    pub mine_old: u32,
    pub handlers: Vec<HandlerSlot>,
}

/// A batch that was read.
pub struct Posted {
    pub work_number: i32,
    pub pay_to: String,
    pub body: Bytes,
}

impl Pool {
    pub fn new(settings: Settings, port: u16, validation: Validation) -> Self {
        let fixed: BTreeMap<u32, BlockHash> = settings.fixed_blocks.clone();
        let state = State {
            chain: Chain::new(settings.seed, settings.first_height, fixed),
            duplicates: Duplicates::new(settings.duplicate_capacity),
            journal: settings.journal.then(HashSet::new),
            counters: Counters::default(),
            ready: settings.ready,
            work_bits: settings.work_bits,
            announced_work_bits: Some(settings.work_bits.get()),
            mine_old: settings.mine_old,
            handlers: Vec::new(),
        };
        let pool = Self {
            room: Arc::new(Room {
                capacity: settings.queue_announcements.saturating_mul(Announcement::LEN),
                used: AtomicUsize::new(0),
            }),
            validation,
            connections: Arc::new(Connections::new(connections_within(settings.connections))),
            started: Instant::now(),
            port,
            listeners: tokio::sync::Mutex::default(),
            accept_trouble: Arc::default(),
            stats_answers: Sparing::new(Instant::now()),
            state: Mutex::new(state),
            faults: Mutex::default(),
            faults_changed: Notify::new(),
            settings,
        };
        pool.settings.faults.iter().for_each(|fault| pool.inject(fault.clone()));
        pool
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A new block on top.
    pub fn new_block(&self) {
        let tip = {
            let state = &mut *self.state();
            state.chain.extend();
            state.duplicates.follow(&state.chain);
            *state.chain.tip()
        };
        tracing::debug!("local pool: block {} {}", tip.height, tip.hash);
    }

    /// Replaces the newest `depth` blocks by `depth − lower` others.
    pub fn reorganise(&self, depth: u32, lower: u32) -> Result<(), ReorganiseError> {
        let tip = {
            let state = &mut *self.state();
            state.chain.reorganise(depth, lower)?;
            state.duplicates.follow(&state.chain);
            *state.chain.tip()
        };
        let blocks = if depth == 1 { "block" } else { "blocks" };
        tracing::info!(
            "local pool: the newest {depth} {blocks} replaced; the tip is now {} {}",
            tip.height,
            tip.hash
        );
        Ok(())
    }

    /// Reorganises the chain whenever a fault says so. Never ends.
    pub async fn reorganise_when_due(&self) {
        loop {
            let due = lock(&self.faults).next_reorganisation();
            let wait = due.map_or(Duration::MAX, |due| due.saturating_sub(self.now()));
            if tokio::time::timeout(wait, self.faults_changed.notified()).await.is_ok() {
                continue;
            }
            for depth in self.reorganisations_due() {
                match self.reorganise(depth, 0) {
                    Ok(()) => *self.state().counters.faulted.entry("reorganise").or_default() += 1,
                    Err(error) => tracing::warn!("local pool: {error}"),
                }
            }
        }
    }

    fn reorganisations_due(&self) -> Vec<u32> {
        lock(&self.faults).reorganisations(self.now(), fastrand::f64)
    }

    /// What handlers ask for and the master tells.
    pub fn set_work_bits(&self, work_bits: WorkBits) {
        let mut state = self.state();
        state.work_bits = work_bits;
        state.announced_work_bits = Some(work_bits.get());
    }

    /// What the master tells, whatever handlers ask for.
    pub fn announce_work_bits(&self, work_bits: Option<u32>) {
        self.state().announced_work_bits = work_bits;
    }

    pub fn set_mine_old(&self, mine_old: u32) {
        self.state().mine_old = mine_old;
    }

    pub fn set_ready(&self, ready: bool) {
        self.state().ready = ready;
    }

    pub fn handlers(&self) -> Vec<HandlerSlot> {
        self.state().handlers.clone()
    }

    pub fn set_handlers(&self, handlers: Vec<HandlerSlot>) {
        self.state().handlers = handlers;
    }

    /// A handler's place in the list; `None`: it is gone.
    pub fn handler_index(&self, id: u64) -> Option<usize> {
        self.state().handlers.iter().position(|slot| slot.id == id)
    }

    /// The parents that announcements are taken for, oldest first.
    pub fn window(&self) -> Vec<(u32, BlockHash)> {
        self.state().chain.window().map(|block| (block.height, block.hash)).collect()
    }

    /// All that was recorded, if it is remembered.
    pub fn journal(&self) -> HashSet<(BlockHash, u64)> {
        self.state().journal.clone().unwrap_or_default()
    }

    pub fn inject(&self, fault: Fault) {
        tracing::info!("local pool: fault {fault}");
        lock(&self.faults).inject(fault, self.now());
        self.faults_changed.notify_one();
    }

    pub fn clear_faults(&self) {
        lock(&self.faults).clear();
        self.faults_changed.notify_one();
        tracing::info!("local pool: no faults any more");
    }

    /// What a request meets.
    pub fn meet(&self, endpoint: Endpoint) -> Met {
        let met = lock(&self.faults).meet(endpoint, self.now(), fastrand::f64);
        let count = |name| *self.state().counters.faulted.entry(name).or_default() += 1;
        if !met.delay.is_zero() {
            count("delay");
        }
        if let Some((kind, _)) = &met.fault {
            count(kind.name());
        }
        met
    }

    pub fn master_view(&self) -> MasterView {
        let state = self.state();
        MasterView {
            tip_hash: state.ready.then(|| state.chain.tip().hash),
            tip_height: state.chain.tip().height,
            work_bits: state.announced_work_bits,
            mine_old: state.mine_old,
            handlers: state.handlers.clone(),
        }
    }

    pub fn block_info(&self, hash: &BlockHash) -> Option<BlockInfo> {
        let block = *self.state().chain.find(hash)?;
        Some(BlockInfo { header: block.header(), sig_key: self.settings.sigkey.map(hex::encode) })
    }

    /// Takes a batch or refuses it, and counts it either way.
    pub async fn submit(&self, handler: u64, posted: Posted) -> (u16, Answer) {
        let announcements = posted.body.len() / Announcement::LEN;
        match self.try_submit(handler, &posted).await {
            Ok(result) => (200, Answer { result: Some(result), ..Answer::default() }),
            Err(refusal) => {
                // Only an address that is one is worth a line of its own.
                let pay_to = posted.pay_to.parse::<PayTo>().ok().map(|_| posted.pay_to.as_str());
                self.count_refused(handler, pay_to, refusal.reason(), announcements);
                (refusal.status(), Answer { error: vec![refusal.to_string()], ..Answer::default() })
            }
        }
    }

    /// Counts a request that did not get as far as [`Pool::submit`].
    pub fn count_refused(
        &self,
        handler: u64,
        pay_to: Option<&str>,
        reason: &'static str,
        announcements: usize,
    ) {
        self.state().counters.refused(handler, pay_to, reason, announcements);
    }

    async fn try_submit(&self, handler: u64, posted: &Posted) -> Result<AnnsResult, Refusal> {
        let rules = self.rules(handler).ok_or(Refusal::NotReady)?;
        let (checked, digest) = self.check(rules, posted).await?;
        let verdict =
            self.validation.validate(&posted.body, &checked.to_validate, checked.parent.hash.0).await;
        match verdict {
            Verdict::Valid => {}
            Verdict::Invalid(invalid) => return Err(Refusal::Invalid(invalid)),
            Verdict::Failed => return Err(Refusal::Internal),
        }
        if let Some(refusal) = checked.refusal {
            return Err(refusal);
        }
        let Recorded { accepted, duplicates } = self.record(handler, &checked)?;
        Ok(AnnsResult {
            kind: "anns".into(),
            accepted,
            dup: duplicates,
            inval: 0,
            bad_hash: 0,
            runt: 0,
            internal_err: 0,
            pay_to: checked.pay_to.to_string(),
            unsigned: checked.unsigned,
            total_len: 0,
            target: checked.target,
            time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            event_id: hex::encode(&digest[..16]),
        })
    }

    /// What the handler goes by now; `None`: it is no longer listed.
    fn rules(&self, handler: u64) -> Option<Rules> {
        let state = self.state();
        Some(Rules {
            window: if state.ready { state.chain.window().copied().collect() } else { Vec::new() },
            work_bits: state.work_bits,
            signing_key: self.settings.sigkey,
            versions: self.settings.ann_versions.clone(),
            index: state.handlers.iter().position(|slot| slot.id == handler)?,
            handlers: state.handlers.len(),
        })
    }

    /// Checks a batch and hashes its body. Two milliseconds for a full one: too long for a thread that serves
    /// connections.
    async fn check(&self, rules: Rules, posted: &Posted) -> Result<(Checked, [u8; 32]), Refusal> {
        let (work_number, pay_to, body) = (posted.work_number, posted.pay_to.clone(), posted.body.clone());
        let validate = self.settings.validate;
        let check = move || {
            let count = body.len() / Announcement::LEN;
            // One at least, wherever it stands, so that small batches do not slip through.
            let chosen = fastrand::usize(..count.max(1));
            let mut index = 0..;
            let sampled = || match validate {
                Validate::All => true,
                Validate::Sample(n) => index.next() == Some(chosen) || fastrand::u32(..n.get()) == 0,
            };
            let submission = Submission { work_number, pay_to: &pay_to, body: &body };
            handler::check(&rules, submission, sampled).map(|checked| (checked, b32(&[&body])))
        };
        tokio::task::spawn_blocking(check).await.unwrap_or(Err(Refusal::Internal))
    }

    /// Records a batch, of which another copy may have been recorded while this one was validated, and whose parent
    /// may have left the window.
    fn record(&self, handler: u64, checked: &Checked) -> Result<Recorded, Refusal> {
        let state = &mut *self.state();
        if !state.chain.has_in_window(&checked.parent) {
            return Err(Refusal::LeftWindow);
        }
        let recorded =
            state.duplicates.record(&checked.parent, &checked.hashes).map_err(|_| Refusal::Overloaded)?;
        if let Some(journal) = &mut state.journal {
            journal.extend(checked.hashes.iter().map(|hash| (checked.parent.hash, *hash)));
        }
        let taken = Taken {
            accepted: recorded.accepted,
            duplicates: recorded.duplicates,
            unsigned: checked.unsigned,
            target: checked.target,
        };
        state.counters.taken(handler, &checked.pay_to.to_string(), taken, self.now());
        Ok(recorded)
    }

    /// What was counted, and how things stand.
    pub fn stats(&self, handler_url: impl Fn(&HandlerSlot) -> String) -> Stats {
        let now = self.now();
        let faults = lock(&self.faults).list(now);
        let connections = self.connections.counts();
        let state = self.state();
        let snapshot = |counter: Option<&Counter>| counter.map(|c| c.snapshot(now)).unwrap_or_default();
        Stats {
            uptime: now.as_secs_f64(),
            tip_height: state.chain.tip().height,
            tip_hash: state.chain.tip().hash.to_string(),
            work_bits: state.work_bits.get(),
            difficulty: difficulty_shown(state.work_bits),
            validation: ValidationStats {
                mode: self.settings.validate.to_string(),
                threads: self.settings.validators,
                validated: self.validation.validated(),
            },
            queued: self.room.used.load(Ordering::Relaxed).div_ceil(Announcement::LEN),
            queue_capacity: self.settings.queue_announcements,
            connections: connections.open,
            connections_most: connections.most,
            turned_away: TurnedAway {
                gave_way: connections.gave_way,
                refused: connections.refused,
                too_slow: connections.too_slow,
            },
            faults,
            faulted: state.counters.faulted.clone(),
            total: state.counters.total.snapshot(now),
            handlers: state
                .handlers
                .iter()
                .map(|slot| HandlerStats {
                    url: handler_url(slot),
                    state: slot.state.name(),
                    counts: snapshot(state.counters.handlers.get(&slot.id)),
                })
                .collect(),
            pay_to: state
                .counters
                .pay_to
                .iter()
                .map(|(pay_to, counter)| (pay_to.clone(), counter.snapshot(now)))
                .collect(),
        }
    }
}

/// Bounds the request bodies in memory, from their first byte to their answer: the input queue. What does not fit is
/// refused as `overloaded`.
pub struct Room {
    capacity: usize,
    used: AtomicUsize,
}

impl Room {
    /// Holds nothing yet.
    pub fn hold(self: &Arc<Self>) -> Held {
        Held { room: self.clone(), bytes: 0 }
    }
}

/// A share of the room, given back when dropped.
pub struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Held {
    /// Holds more; `false`: there is no room for that.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.room.capacity);
        let held = self.room.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.bytes += if held { bytes } else { 0 };
        held
    }
}

impl Held {
    /// How much is held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        self.room.used.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}
