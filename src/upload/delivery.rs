//! What goes to one pool: sorting, checking, posting, and what the answers mean.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};

use kernels::Invalid;

use super::{
    Check, Effect, Post, Settings,
    answer::{self, Outcome, PostOutcome, Refusal, Trouble},
    batch::{Parcel, State},
    doubt::{PATIENCE, PROBE},
    handler::Handler,
    judge::{Judgement, judge},
    ledger::{Account, Cause, Fate},
    limit::{Bucket, Limit},
    queue::Queue,
};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::{
    complaints::Complaints,
    protocol::BATCH,
    values::{Address, BackendId, Found, Job, Moment, Notice, PoolId, PoolView},
};

/// How long a batch waits that was told `submit elsewhere` by the handler that the newest list names.
const WAIT_FOR_LIST: Duration = PATIENCE;

/// Announcements of refused batches that are validated at a time, at the most, and how long a batch waits that is refused
/// meanwhile: a pool that refuses everything must not have more validated than a processor does.
pub(super) const SIFTED_MAX: usize = 8 * BATCH;
const WAIT_FOR_CHECKS: Duration = Duration::from_secs(10);

/// The part of `Settings::batch_age` at which a batch may be closed at the earliest.
const AGE_MIN: f64 = 0.7;

/// What an event's handling may use.
pub(super) struct Context<'a> {
    pub now: Moment,
    pub settings: &'a Settings,
    pub rng: &'a mut fastrand::Rng,
    pub last_id: &'a mut u64,
    /// Backends that found what does not validate: all that is left of theirs is checked.
    pub erring: &'a mut BTreeSet<BackendId>,
    pub effects: Vec<Effect>,
}

impl Context<'_> {
    pub fn note(&mut self, notice: Notice) {
        self.effects.push(Effect::Note(notice));
    }

    fn new_id(&mut self) -> u64 {
        *self.last_id += 1;
        *self.last_id
    }
}

/// All that is on its way to one pool.
pub(super) struct Delivery {
    pool: PoolId,
    view: Option<PoolView>,
    /// As the newest view lists them.
    handlers: Vec<Handler>,
    /// No longer listed, but with posts in flight.
    retired: Vec<Handler>,
    /// What came while no handlers were known; bounded as a handler's queue is.
    holding: Queue,
    posts: BTreeMap<u64, InFlight>,
    checks: BTreeMap<u64, Checking>,
    /// Counts how often the list of handlers changed.
    list: u64,
    account: Account,
    /// Reasons to lose announcements that are told.
    told: BTreeMap<Cause, Complaints>,
    /// Since when the pool is no longer mined for.
    left: Option<Left>,
    /// The number of the last post to it.
    last_turn: u64,
    draining: bool,
    finished: bool,
}

/// How a pool was left that is no longer mined for.
struct Left {
    /// What all backends had found by then.
    found: u64,
    /// What waits until then is lost.
    patience: Moment,
    /// Whether that moment has come.
    over: bool,
}

struct InFlight {
    parcel: Parcel,
    handler: u64,
    url: String,
    since: Moment,
    /// The value of `Delivery::list` that it was sorted by.
    list: u64,
    /// It was made to find out whether the handler takes what is mined on its parent block.
    is_probe: bool,
}

/// A check that is under way.
struct Checking {
    announcements: Vec<Arc<Found>>,
    why: Why,
}

/// Why announcements are checked.
enum Why {
    /// A sample, before the first post.
    Sample,
    /// All of a batch, because its sample was bad.
    BadSample,
    /// All of a batch, because a handler refused it.
    Refused { at: InFlightAt, job: Arc<Job>, text: String },
}

impl Delivery {
    pub fn new(pool: PoolId, name: &str) -> Self {
        Self {
            pool,
            view: None,
            handlers: Vec::new(),
            retired: Vec::new(),
            holding: Queue::default(),
            posts: BTreeMap::new(),
            checks: BTreeMap::new(),
            list: 0,
            account: Account { pool: name.into(), ..Account::default() },
            told: BTreeMap::new(),
            left: None,
            last_turn: 0,
            draining: false,
            finished: false,
        }
    }

    /// The pool is mined for (again); `found` is what all backends have found so far.
    pub fn join(&mut self, found: u64) {
        if let Some(left) = self.left.take() {
            self.account.missed += found - left.found;
            self.told.clear();
            // What it said then is no measure of what is mined now: all waits until it says something again.
            self.view = None;
        }
    }

    /// The pool is no longer mined for. What waits for it is sent until `patience`, and lost then.
    pub fn leave(&mut self, found: u64, patience: Moment) {
        if self.left.is_none() {
            self.left = Some(Left { found, patience, over: false });
        }
    }

    /// Sorts new announcements.
    pub fn found(&mut self, announcements: &[Arc<Found>], cx: &mut Context) {
        let is_left = self.left.is_some();
        #[cfg(test)]
        let is_left = is_left && !planted(Bug::FeedRemovedPool);
        if is_left {
            return;
        }
        for found in announcements {
            let age = cx.new_id();
            self.sort(found.clone(), age, cx.now, cx);
        }
        self.drop_overflow(cx);
    }

    fn sort(&mut self, found: Arc<Found>, age: u64, since: Moment, cx: &mut Context) {
        match self.judge(&found.job) {
            Judgement::Lose(fate, cause) => self.lose(None, 1, false, fate, cause, cx),
            Judgement::Send | Judgement::Hold => {
                let place = self.place(&found);
                let (settings, rng) = (cx.settings, &mut *cx.rng);
                let oldest = || settings.batch_age.mul_f64(AGE_MIN + (1.0 - AGE_MIN) * rng.f64());
                self.queue(place).add(found, age, since, oldest, settings.batch_len);
            }
        }
    }

    /// The handler, by its place on the list, that an announcement belongs to; 0 if there is no list.
    fn place(&self, found: &Found) -> usize {
        if self.handlers.is_empty() { 0 } else { found.handler_index(self.handlers.len()) }
    }

    /// The queue at a place on the list: the holding queue if there is no list.
    fn queue(&mut self, place: usize) -> &mut Queue {
        #[cfg(test)]
        let place = if planted(Bug::WrongHandler) { (place + 1) % self.handlers.len().max(1) } else { place };
        self.handlers.get_mut(place).map_or(&mut self.holding, |handler| &mut handler.queue)
    }

    fn queues(&mut self) -> impl Iterator<Item = &mut Queue> {
        self.handlers.iter_mut().map(|handler| &mut handler.queue).chain([&mut self.holding])
    }

    /// All queues, each with its handler; the holding queue has none.
    fn queues_by_handler(&mut self) -> impl Iterator<Item = (Option<u64>, &mut Queue)> {
        let of_handlers = self.handlers.iter_mut().map(|handler| (Some(handler.id), &mut handler.queue));
        of_handlers.chain([(None, &mut self.holding)])
    }

    fn judge(&self, job: &Job) -> Judgement {
        if self.left.as_ref().is_some_and(|left| left.over) {
            return Judgement::Lose(Fate::Unwanted, Cause::PoolRemoved);
        }
        let judgement = self.view.as_ref().map_or(Judgement::Hold, |view| judge(view, job));
        #[cfg(test)]
        if planted(Bug::KeepStale) && matches!(judgement, Judgement::Lose(Fate::Stale, _)) {
            return Judgement::Hold;
        }
        judgement
    }

    /// Takes in what the pool said.
    pub fn view(&mut self, view: PoolView, cx: &mut Context) {
        let changed = self.view.as_ref().map(|old| &old.handlers) != Some(&view.handlers);
        let chain = |view: &PoolView| (view.tip_height, view.blocks.clone());
        if self.view.as_ref().map(chain) != Some(chain(&view)) {
            self.handlers.iter_mut().chain(&mut self.retired).for_each(|handler| handler.doubts.view(&view));
        }
        self.view = Some(view);
        if changed {
            self.list += 1;
            self.sort_anew(cx);
        }
        self.drop_refusable(cx);
        self.drop_overflow(cx);
    }

    /// Sorts everything that waits by the newest list. A handler that stays on the list stays what it was.
    fn sort_anew(&mut self, cx: &mut Context) {
        let mut old = mem::take(&mut self.handlers);
        old.append(&mut self.retired);
        let mut parcels = Vec::new();
        let mut opens = Vec::new();
        for queue in old.iter_mut().map(|handler| &mut handler.queue).chain([&mut self.holding]) {
            parcels.append(&mut queue.extract(|_| true));
            opens.extend(queue.take_open());
        }
        let urls = self.view.as_ref().map(|view| view.handlers.clone()).unwrap_or_default();
        for url in urls {
            let handler = match old.iter().position(|handler| handler.url == url) {
                Some(known) => old.remove(known),
                None => Handler::new(cx.new_id(), url),
            };
            self.handlers.push(handler);
        }
        self.retired = old.into_iter().filter(|handler| handler.posts > 0).collect();

        parcels.sort_by_key(|parcel| parcel.age);
        #[cfg(test)]
        if planted(Bug::LoseAtListChange) {
            parcels.pop();
        }
        for mut parcel in parcels {
            parcel.not_before = Moment::ZERO;
            for (place, part) in parcel.split(|found| self.place(found)) {
                self.queue(place).join(part, cx.settings.batch_len);
            }
        }
        opens.sort_by_key(|open| open.age);
        for open in opens {
            for found in open.announcements {
                self.sort(found, open.age, open.opened, cx);
            }
        }
        if let Some(handler) = self.handlers.iter().find(|handler| handler.wants_nothing()) {
            let notice = format!(
                "pool {} wants no announcements at {}: what belongs there counts as unwanted",
                self.account.pool, handler.url
            );
            if self.is_news(&Cause::NoHandler, cx) {
                cx.note(Notice::warn(notice));
            }
        }
    }

    /// Loses what waits for a pool that is no longer mined for, when that had its time.
    fn drop_left(&mut self, cx: &mut Context) {
        let Some(left) = self.left.as_mut().filter(|left| !left.over && left.patience <= cx.now) else {
            return;
        };
        left.over = true;
        let handlers = self.handlers.iter_mut().map(|handler| (Some(handler.id), &mut handler.queue));
        let mut lost = Vec::new();
        for (handler, queue) in handlers.chain([(None, &mut self.holding)]) {
            queue.close();
            lost.extend(queue.extract(|_| true).into_iter().map(|parcel| (handler, parcel)));
        }
        let n: usize = lost.iter().map(|(_, parcel)| parcel.len()).sum();
        if n > 0 {
            cx.note(Notice::warn(format!(
                "pool {} is not mined for any more and did not take {n} announcements that waited for it",
                self.account.pool
            )));
        }
        for (handler, parcel) in lost {
            #[cfg(test)]
            if planted(Bug::DropRemovedSilently) {
                continue;
            }
            let maybe_delivered = parcel.history.maybe_delivered;
            self.lose(handler, parcel.len(), maybe_delivered, Fate::Unwanted, Cause::PoolRemoved, cx);
        }
    }

    /// Takes out of the queues what the pool would refuse.
    fn drop_refusable(&mut self, cx: &mut Context) {
        let Some(view) = self.view.take() else { return };
        let is_lost = |job: &Job| matches!(judge(&view, job), Judgement::Lose(..));
        #[cfg(test)]
        let is_lost = |job: &Job| is_lost(job) && !planted(Bug::KeepStale);
        let mut lost = Vec::new();
        for (handler, queue) in self.queues_by_handler() {
            queue.close_if(is_lost);
            let parcels = queue.extract(|parcel| is_lost(&parcel.batch.job));
            lost.extend(parcels.into_iter().map(|parcel| (handler, parcel)));
        }
        self.view = Some(view);
        for (handler, parcel) in lost {
            if let Judgement::Lose(fate, cause) = self.judge(&parcel.batch.job) {
                self.lose(handler, parcel.len(), parcel.history.maybe_delivered, fate, cause, cx);
            }
        }
    }

    /// Whether something that lasts should be told: it is so at first, and every few minutes.
    fn is_news(&mut self, cause: &Cause, cx: &Context) -> bool {
        self.told.entry(cause.clone()).or_default().failed(String::new(), cx.now).is_some()
    }

    /// Keeps queues free of what their handlers have shown that they refuse. While draining it is sent all the same.
    fn drop_avoided(&mut self, cx: &mut Context) {
        if self.draining {
            return;
        }
        let mut lost = Vec::new();
        for Handler { id, queue, doubts, .. } in &mut self.handlers {
            if !doubts.avoids_some(cx.now) {
                continue;
            }
            queue.close_if(|job| doubts.avoids(job, cx.now).is_some());
            for parcel in queue.extract(|parcel| doubts.avoids(&parcel.batch.job, cx.now).is_some()) {
                let cause = doubts.avoids(&parcel.batch.job, cx.now).cloned().unwrap_or(Cause::ParentRefused);
                lost.push((*id, parcel, cause));
            }
        }
        for (id, parcel, cause) in lost {
            let maybe_delivered = parcel.history.maybe_delivered;
            self.lose(Some(id), parcel.len(), maybe_delivered, Fate::Unwanted, cause, cx);
        }
    }

    /// Keeps queues within their bounds, and free of what their handlers do not want.
    fn drop_overflow(&mut self, cx: &mut Context) {
        self.drop_avoided(cx);
        let bytes = cx.settings.queue_bytes;
        let mut lost = Vec::new();
        for handler in &mut self.handlers {
            let (bytes, fate, cause) = if handler.wants_nothing() {
                (0, Fate::Unwanted, Cause::NoHandler)
            } else {
                (bytes, Fate::Overflow, Cause::QueueFull)
            };
            while let Some(parcel) = handler.queue.pop_over(bytes) {
                lost.push((Some(handler.id), parcel, fate, cause.clone()));
            }
        }
        while let Some(parcel) = self.holding.pop_over(bytes) {
            lost.push((None, parcel, Fate::Overflow, Cause::QueueFull));
        }
        while self.queued() * kernels::Announcement::LEN as u64 > cx.settings.pool_bytes as u64
            && let Some((handler, largest)) = self.queues_by_handler().max_by_key(|(_, queue)| queue.len())
            && let Some(parcel) = largest.pop_over(0)
        {
            lost.push((handler, parcel, Fate::Overflow, Cause::QueueFull));
        }
        for (handler, parcel, fate, cause) in lost {
            #[cfg(test)]
            if planted(Bug::SilentOverflow) && fate == Fate::Overflow {
                continue;
            }
            self.lose(handler, parcel.len(), parcel.history.maybe_delivered, fate, cause, cx);
        }
    }

    /// Writes a loss down, also with the handler that it was meant for. What may have been delivered is not known to
    /// be lost: it is `unknown`, unless it does not validate, which no handler can have taken.
    fn lose(
        &mut self,
        handler: Option<u64>,
        n: usize,
        maybe_delivered: bool,
        fate: Fate,
        cause: Cause,
        cx: &mut Context,
    ) {
        let advice = match (&fate, &cause) {
            (Fate::Unwanted, Cause::ParentRefused) => Some(
                "a handler refuses what is valid on the leading pool's chain, so it seems to be on another",
            ),
            (Fate::Unwanted, Cause::TooEasy) => Some("it asks for harder work bits than are mined"),
            (Fate::Unwanted, Cause::OtherKey) => Some("it expects another signing key than the leading pool"),
            (Fate::Unwanted, Cause::ParentAhead) => Some("its newest block is far below the one mined on"),
            (Fate::Overflow, _) => Some("its handlers take less than is found, and a queue is full"),
            _ => None,
        };
        if let Some(advice) = advice
            && self.is_news(&cause, cx)
        {
            cx.note(Notice::warn(format!(
                "pool {} does not get all announcements: {advice}; they count as {fate} ({cause})",
                self.account.pool
            )));
        }
        let fate = if maybe_delivered && !matches!(cause, Cause::Invalid(_)) { Fate::Unknown } else { fate };
        self.account.lose(fate, cause, n);
        if let Some(handler) = handler.and_then(|id| self.handler(id)) {
            handler.lose(fate, n);
        }
    }

    /// Takes in how a post ended.
    pub fn answered(&mut self, request: u64, outcome: &PostOutcome, cx: &mut Context) {
        let Some(InFlight { mut parcel, handler: id, url, since, list, mut is_probe }) =
            self.posts.remove(&request)
        else {
            return;
        };
        let n = parcel.len();
        if let Some(handler) = self.handler(id) {
            handler.posts -= 1;
            handler.in_flight -= n;
            if let PostOutcome::Answer { .. } = outcome {
                handler.latency = Some(cx.now.saturating_sub(since));
            }
            is_probe &= handler.doubts.probed(&parcel.batch.job);
        }
        self.retired.retain(|handler| handler.posts > 0);
        if !matches!(outcome, PostOutcome::NotSent(_) | PostOutcome::CutShort(_)) {
            self.account.bytes_uploaded += (n * kernels::Announcement::LEN) as u64;
        }
        match answer::interpret(outcome) {
            Outcome::Taken { accepted, duplicate } => {
                self.recover(id, cx);
                if let Some(handler) = self.handler(id) {
                    handler.doubts.taken(&parcel.batch.job, request);
                }
                self.taken(&parcel, id, &url, accepted, duplicate, cx);
                #[cfg(test)]
                if planted(Bug::ResendAccepted) {
                    self.file(parcel, id, cx);
                }
            }
            Outcome::Kept(trouble) => {
                #[cfg(test)]
                if planted(Bug::DropBatchOn503) && matches!(trouble, Trouble::Status(503, _)) {
                    return;
                }
                self.give_time(id, &url, trouble, cx);
                self.file(parcel, id, cx);
            }
            Outcome::Unclear(trouble) => {
                #[cfg(test)]
                if planted(Bug::CountTwiceOnTimeout) && trouble == Trouble::TimedOut {
                    self.account.accepted += n as u64;
                }
                #[cfg(test)]
                if planted(Bug::GarbageIsAccepted) && trouble == Trouble::Garbled {
                    self.account.accepted += n as u64;
                    return;
                }
                parcel.history.maybe_delivered = true;
                self.give_time(id, &url, trouble, cx);
                self.file(parcel, id, cx);
            }
            Outcome::Refused(refusal, text) => {
                self.recover(id, cx);
                let at = InFlightAt { id, url, list, request, is_probe };
                self.refused(parcel, at, refusal, text, cx);
            }
        }
        self.drop_overflow(cx);
    }

    fn handler(&mut self, id: u64) -> Option<&mut Handler> {
        self.handlers.iter_mut().chain(&mut self.retired).find(|handler| handler.id == id)
    }

    /// A handler has done its work: whatever was wrong with it is over.
    fn recover(&mut self, id: u64, cx: &mut Context) {
        let Some(handler) = self.handler(id) else { return };
        handler.back_off.reset();
        handler.troubles.over();
        if handler.trouble.take().is_some() {
            let notice = format!("handler {} takes announcements again", handler.url);
            cx.note(Notice::info(notice));
        }
    }

    /// A handler has not done its work: it is left alone for a while.
    fn give_time(&mut self, id: u64, url: &str, trouble: Trouble, cx: &mut Context) {
        let (settings, now, draining) = (cx.settings, cx.now, self.draining);
        let Some(handler) = self.handler(id) else { return };
        handler.back_off.fail(now, settings.backoff_min, settings.backoff_max, cx.rng);
        if draining {
            // There is little time left, and so nothing to be gained from patience.
            handler.back_off.cut_short(now + Duration::from_secs(1));
        }
        if handler.troubles.failed(trouble.kind().into(), now).is_some() {
            cx.note(Notice::warn(format!(
                "handler {url} {trouble}: its announcements are kept and sent again until it takes them"
            )));
        }
        handler.trouble = Some(trouble);
    }

    /// Writes down what a handler says that it took.
    fn taken(
        &mut self,
        parcel: &Parcel,
        id: u64,
        url: &str,
        told_accepted: u64,
        told_duplicate: u64,
        cx: &mut Context,
    ) {
        let n = parcel.len() as u64;
        let accepted = told_accepted.min(n);
        let duplicate = told_duplicate.min(n - accepted);
        let rest = n - accepted - duplicate;
        // Announcements of a batch that may have been delivered before are duplicates of themselves: the pool has
        // them from the first time, and pays for them. A real duplicate among them cannot be told apart, but is
        // as rare as two miners with the same hard nonce.
        let late = if parcel.history.maybe_delivered { duplicate } else { 0 };
        #[cfg(test)]
        let late = if planted(Bug::LateIsDuplicate) { 0 } else { late };
        let account = &mut self.account;
        account.accepted += accepted + late;
        account.told_late += late;
        account.duplicate += duplicate - late;
        account.lose(Fate::Rejected, Cause::Remainder, rest as usize);
        let Some(handler) = self.handler(id) else { return };
        handler.accepted += accepted + late;
        handler.duplicate += duplicate - late;
        handler.rejected += rest;
        handler.refusals.over();
        handler.takes_no_size = false;
        if (told_accepted + told_duplicate != n) && !mem::replace(&mut handler.told_nonsense, true) {
            cx.note(Notice::warn(format!(
                "handler {url} got {n} announcements and counts {told_accepted} as accepted, {told_duplicate} as \
                 duplicates: at most {n} are counted here, and what it counts nowhere as rejected"
            )));
        }
    }

    /// Does what a refusal asks for.
    fn refused(
        &mut self,
        mut parcel: Parcel,
        at: InFlightAt,
        refusal: Refusal,
        text: String,
        cx: &mut Context,
    ) {
        let InFlightAt { id, list, .. } = at;
        let (n, maybe_delivered) = (parcel.len(), parcel.history.maybe_delivered);
        let remedy = match refusal {
            Refusal::OutOfRange => {
                return self.lose(Some(id), n, maybe_delivered, Fate::Stale, Cause::OutOfRange, cx);
            }
            // Once for each list: a pool may change it again before it has told of the last change.
            Refusal::Elsewhere if parcel.history.astray != Some(list) => {
                parcel.history.astray = Some(list);
                if list == self.list && !self.draining {
                    parcel.not_before = cx.now + WAIT_FOR_LIST;
                }
                return self.file(parcel, id, cx);
            }
            Refusal::Invalid | Refusal::Other if !parcel.history.sifted => {
                return self.sift(parcel, at, text, cx);
            }
            Refusal::TooLarge if n > 1 && !self.takes_no_size(id) => {
                return self.halve(parcel, id, &at.url, cx);
            }
            Refusal::TooLarge => {
                if let Some(handler) = self.handler(id) {
                    handler.takes_no_size = true;
                }
                "even one announcement is too large for it; tell the pool"
            }
            Refusal::NotEnoughWork => {
                let work_bits = parcel.batch.job.work_bits;
                cx.effects.push(Effect::TargetRefused { pool: self.pool, work_bits });
                "harder ones will be mined"
            }
            Refusal::Elsewhere => "the pool's list of handlers does not fit the handler; tell the pool",
            Refusal::Invalid | Refusal::Other => {
                self.refused_again(&parcel.batch.job, &at, Cause::ParentRefused, cx);
                "what was sent is what validates here; tell the pool"
            }
            Refusal::WrongParent => "this is a fault of the program, please report it",
            Refusal::UnexpectedKey | Refusal::WrongKey => {
                let job = &parcel.batch.job;
                let is_named = |view: &PoolView| {
                    view.block_at(job.parent_height).is_some_and(|block| block.signing_key == job.signing_key)
                };
                let (cause, remedy) = match self.view.as_ref().is_some_and(is_named) {
                    true => {
                        let remedy = "its master names another signing key than the handler; tell the pool";
                        (Cause::ParentRefused, remedy)
                    }
                    false => {
                        let remedy = "it expects another signing key than the leading pool, which decides what is mined";
                        (Cause::OtherKey, remedy)
                    }
                };
                self.refused_again(job, &at, cause, cx);
                remedy
            }
            Refusal::Version => "a newer version of the program may be needed",
            Refusal::PayTo => "check the payment address",
        };
        if self.is_refusal_news(id, cx.now) {
            let url = at.url;
            let text = if text.is_empty() { refusal.to_string() } else { text };
            cx.note(Notice::error(format!(
                "handler {url} refused {n} announcements ({text}), which count as rejected: {remedy}"
            )));
        }
        self.lose(Some(id), n, maybe_delivered, Fate::Rejected, Cause::Refused(refusal), cx);
    }

    /// Whether a handler's refusal should be told: the first one since it took something, and then every few minutes.
    fn is_refusal_news(&mut self, id: u64, now: Moment) -> bool {
        self.handler(id).is_none_or(|handler| handler.refusals.failed(String::new(), now).is_some())
    }

    /// Has a refused batch validated. While it is in doubt whether the handler takes anything of its parent block, it
    /// waits instead.
    fn sift(&mut self, mut parcel: Parcel, at: InFlightAt, text: String, cx: &mut Context) {
        let (id, is_probe, job) = (at.id, at.is_probe, parcel.batch.job.clone());
        let is_proven = self.handler(id).is_some_and(|handler| handler.doubts.is_proven(&job));
        if self.draining && is_proven {
            let maybe_delivered = parcel.history.maybe_delivered;
            return self.lose(
                Some(id),
                parcel.len(),
                maybe_delivered,
                Fate::Unwanted,
                Cause::ParentRefused,
                cx,
            );
        }
        if !self.draining {
            let is_first = self.doubt(&job, &at, cx);
            if !is_first && !is_probe {
                return self.file(parcel, id, cx);
            }
            if self.being_sifted() >= SIFTED_MAX {
                parcel.not_before = cx.now + WAIT_FOR_CHECKS;
                return self.file(parcel, id, cx);
            }
        }
        let why = Why::Refused { at, job, text };
        parcel.state = State::Waiting(self.check(parcel.batch.announcements.clone(), why, cx));
        self.file(parcel, id, cx);
    }

    /// A refusal casts doubt on a parent block. Whether nothing did before.
    fn doubt(&mut self, job: &Job, at: &InFlightAt, cx: &mut Context) -> bool {
        let Some(handler) = self.handler(at.id) else { return true };
        let is_first = handler.doubts.refused(job, at.request, cx.now);
        #[cfg(test)]
        if planted(Bug::NeverInDoubt) {
            handler.doubts.explained(job);
            return true;
        }
        if is_first && self.left.is_none() {
            cx.effects.push(Effect::Doubted { pool: self.pool });
        }
        is_first
    }

    /// What is valid was refused: as a probe for good, otherwise it may be a matter of time.
    fn refused_again(&mut self, job: &Job, at: &InFlightAt, cause: Cause, cx: &mut Context) {
        if self.draining {
            return;
        }
        self.doubt(job, at, cx);
        self.refused_though_valid(job, at, cause, cx.now);
    }

    /// Draws the conclusion: what the pool itself names its handler should take, some time; anything else it need not.
    fn refused_though_valid(&mut self, job: &Job, at: &InFlightAt, cause: Cause, now: Moment) {
        let errs = cause == Cause::ParentRefused && self.is_named(job);
        let Some(handler) = self.handler(at.id) else { return };
        match (at.is_probe, errs) {
            (true, true) => handler.doubts.wait_on(job, now),
            (true, false) => handler.doubts.avoid(job, cause, now),
            (false, _) => _ = handler.doubts.prove(job),
        }
    }

    /// Whether the pool itself names the block that a job is mined on.
    fn is_named(&self, job: &Job) -> bool {
        let block = self.view.as_ref().and_then(|view| view.block_at(job.parent_height));
        block.is_some_and(|block| block.hash == job.parent_hash)
    }

    /// Whether a handler, by its address, is known to refuse what is valid.
    pub fn is_refused_by(&self, url: &Address) -> bool {
        self.handlers.iter().any(|handler| handler.url == *url && handler.doubts.is_wary())
    }

    fn takes_no_size(&mut self, id: u64) -> bool {
        self.handler(id).is_some_and(|handler| handler.takes_no_size)
    }

    /// Has a batch that is too large for a handler sent in two parts.
    fn halve(&mut self, parcel: Parcel, id: u64, url: &str, cx: &mut Context) {
        if self.handler(id).is_some_and(|handler| !mem::replace(&mut handler.told_too_large, true)) {
            cx.note(Notice::warn(format!(
                "handler {url} calls a batch of {} announcements too large (HTTP status 413): sending it in parts",
                parcel.len()
            )));
        }
        if let Judgement::Lose(fate, cause) = self.judge(&parcel.batch.job) {
            return self.lose(Some(id), parcel.len(), parcel.history.maybe_delivered, fate, cause, cx);
        }
        // The second half first: each is put before its siblings, so that a single one is soon reached.
        for half in parcel.halves().into_iter().rev() {
            for (place, part) in half.split(|found| self.place(found)) {
                self.queue(place).insert_first(part);
            }
        }
    }

    /// Puts a parcel that a handler did not take back where it belongs by the newest view.
    fn file(&mut self, parcel: Parcel, handler: u64, cx: &mut Context) {
        if let Judgement::Lose(fate, cause) = self.judge(&parcel.batch.job) {
            return self.lose(Some(handler), parcel.len(), parcel.history.maybe_delivered, fate, cause, cx);
        }
        for (place, part) in parcel.split(|found| self.place(found)) {
            self.queue(place).insert(part);
        }
    }

    /// Announcements of refused batches whose verdicts have not come yet.
    fn being_sifted(&self) -> usize {
        let refused = self.checks.values().filter(|check| matches!(check.why, Why::Refused { .. }));
        refused.map(|check| check.announcements.len()).sum()
    }

    /// Asks for announcements to be validated.
    fn check(&mut self, announcements: Vec<Arc<Found>>, why: Why, cx: &mut Context) -> u64 {
        let check = cx.new_id();
        let urgent = !matches!(why, Why::Refused { .. });
        cx.effects.push(Effect::Check(Check { check, announcements: announcements.clone(), urgent }));
        self.checks.insert(check, Checking { announcements, why });
        check
    }

    /// Takes in verdicts. By now the batch may have been taken apart, or dropped: they go to what is left of it.
    pub fn checked(&mut self, check: u64, verdicts: &[Result<(), Invalid>], cx: &mut Context) {
        let Some(Checking { announcements, why }) = self.checks.remove(&check) else { return };
        let mut bad: HashMap<*const Found, Invalid> = HashMap::new();
        let mut erred: BTreeMap<BackendId, Invalid> = BTreeMap::new();
        for (found, verdict) in announcements.iter().zip(verdicts) {
            if let Err(invalid) = verdict {
                bad.insert(Arc::as_ptr(found), *invalid);
                erred.entry(found.backend).or_insert(*invalid);
            }
        }
        for (&backend, &verdict) in &erred {
            #[cfg(test)]
            if planted(Bug::TrustErring) {
                cx.effects.push(Effect::BackendErred { backend, verdict });
                continue;
            }
            cx.erring.insert(backend);
            cx.effects.push(Effect::BackendErred { backend, verdict });
        }
        if matches!(why, Why::Sample) {
            return self.sampled(check, bad.is_empty(), cx);
        }
        self.note_check(&announcements, &bad, &why, cx);
        let sifted = matches!(why, Why::Refused { .. });
        if let Why::Refused { at, job, .. } = &why {
            if bad.is_empty() {
                self.refused_though_valid(job, at, Cause::ParentRefused, cx.now);
            } else if let Some(handler) = self.handler(at.id) {
                handler.doubts.explained(job);
            }
        }
        let mut lost = Vec::new();
        for queue in self.queues() {
            for mut parcel in queue.extract(|parcel| parcel.state == State::Waiting(check)) {
                let mut good = parcel.batch.announcements.clone();
                good.retain(|found| match bad.get(&Arc::as_ptr(found)) {
                    Some(invalid) => {
                        lost.push(*invalid);
                        false
                    }
                    None => true,
                });
                #[cfg(test)]
                if planted(Bug::ForgetGoodPart) && sifted {
                    lost.extend(good.drain(..).map(|_| Invalid::Inval));
                }
                if good.is_empty() {
                    continue;
                }
                Arc::make_mut(&mut parcel.batch).announcements = good;
                parcel.state = State::Ready;
                parcel.erring_known = cx.erring.len();
                parcel.history.sifted |= sifted;
                queue.insert(parcel);
            }
        }
        let handler = match why {
            Why::Refused { at, .. } => Some(at.id),
            Why::Sample | Why::BadSample => None,
        };
        for invalid in lost {
            self.lose(handler, 1, false, Fate::Rejected, Cause::invalid(invalid), cx);
        }
        self.drop_avoided(cx);
    }

    /// Lets a batch pass whose sample is good, and has all of it checked if not.
    fn sampled(&mut self, check: u64, good: bool, cx: &mut Context) {
        let mut suspects = Vec::new();
        for queue in self.queues() {
            for parcel in queue.parcels_mut().filter(|parcel| parcel.state == State::Waiting(check)) {
                if good {
                    parcel.state = State::Ready;
                } else {
                    suspects.extend_from_slice(&parcel.batch.announcements);
                }
            }
        }
        if suspects.is_empty() {
            return;
        }
        let whole = self.check(suspects, Why::BadSample, cx);
        for queue in self.queues() {
            for parcel in queue.parcels_mut().filter(|parcel| parcel.state == State::Waiting(check)) {
                parcel.state = State::Waiting(whole);
            }
        }
    }

    /// Says what was wrong with a batch.
    fn note_check(
        &mut self,
        announcements: &[Arc<Found>],
        bad: &HashMap<*const Found, Invalid>,
        why: &Why,
        cx: &mut Context,
    ) {
        let n = announcements.len();
        let mut codes: BTreeMap<String, usize> = BTreeMap::new();
        bad.values().for_each(|invalid| *codes.entry(invalid.to_string()).or_default() += 1);
        let codes: Vec<_> = codes.into_iter().map(|(code, count)| format!("{count} {code}")).collect();
        let finding = if !bad.is_empty() {
            format!(
                "{} of {n} do not validate here ({}) and count as rejected; the others are sent",
                bad.len(),
                codes.join(", ")
            )
        } else if self.draining {
            format!("all {n} validate here and are sent again once")
        } else {
            let patience = PATIENCE.as_secs();
            format!(
                "all {n} validate here: what is mined on their parent block waits for the pool's next news, {patience} s \
                 at most, and a little of it is tried then"
            )
        };
        match why {
            Why::Sample => {}
            Why::BadSample => cx.note(Notice::error(format!("a batch held bad announcements: {finding}"))),
            Why::Refused { at: InFlightAt { id, url, is_probe, .. }, job, text } => {
                let text = format!("handler {url} refused a batch of {n} ({text}): {finding}");
                let is_explained = |handler: &mut Handler| !handler.doubts.is_probe(job);
                if !bad.is_empty() {
                    self.is_refusal_news(*id, cx.now);
                    cx.note(Notice::error(text));
                } else if (*is_probe && !self.is_named(job))
                    || (!self.draining && self.handler(*id).is_some_and(is_explained))
                {
                    // What follows from a probe is told as a loss; what the pool has explained needs no words.
                } else if self.is_refusal_news(*id, cx.now) {
                    cx.note(Notice::warn(text));
                }
            }
        }
    }

    /// Stops waiting for batches to fill.
    pub fn drain(&mut self, cx: &mut Context) {
        self.draining = true;
        let soon = cx.now + cx.settings.backoff_min;
        for handler in &mut self.handlers {
            handler.back_off.cut_short(soon);
            handler.queue.parcels_mut().for_each(|parcel| parcel.not_before = Moment::ZERO);
            #[cfg(test)]
            if planted(Bug::LoseOpenAtDrain) {
                handler.queue.take_open();
            }
        }
    }

    /// Stops waiting for answers.
    pub fn finish(&mut self, cx: &mut Context) {
        if mem::replace(&mut self.finished, true) {
            return;
        }
        let mut unanswered = 0;
        for post in mem::take(&mut self.posts).into_values() {
            unanswered += post.parcel.len();
            if let Some(handler) = self.handler(post.handler) {
                handler.lose(Fate::Unknown, post.parcel.len());
            }
        }
        self.retired.clear();
        for handler in &mut self.handlers {
            (handler.posts, handler.in_flight) = (0, 0);
        }
        for handler in &mut self.handlers {
            let lost = handler.queue.extract(|parcel| parcel.history.maybe_delivered);
            let lost = lost.iter().map(Parcel::len).sum();
            handler.lose(Fate::Unknown, lost);
            unanswered += lost;
        }
        let lost = self.holding.extract(|parcel| parcel.history.maybe_delivered);
        unanswered += lost.iter().map(Parcel::len).sum::<usize>();
        self.account.lose(Fate::Unknown, Cause::OutOfTime, unanswered);
        let parts = [(self.queued(), "not sent"), (unanswered as u64, "sent but not answered")];
        let parts: Vec<_> =
            parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if !parts.is_empty() {
            let parts = parts.join(", ");
            cx.note(Notice::warn(format!(
                "left behind: announcements for pool {}: {parts}",
                self.account.pool
            )));
        }
    }

    /// Closes and checks what it is time for.
    pub fn advance(&mut self, cx: &mut Context) {
        if self.finished {
            return;
        }
        self.drop_left(cx);
        for place in 0..self.handlers.len() {
            self.close_old(place, cx);
            self.check_samples(place, cx);
        }
    }

    fn close_old(&mut self, place: usize, cx: &Context) {
        let queue = &mut self.handlers[place].queue;
        #[cfg(test)]
        if planted(Bug::IgnoreAge) && !self.draining {
            return;
        }
        let no_more = self.draining || self.left.is_some();
        if queue.due().is_some_and(|due| no_more || due <= cx.now) {
            queue.close();
        }
    }

    fn check_samples(&mut self, place: usize, cx: &mut Context) {
        let mut checks = Vec::new();
        for parcel in self.handlers[place].queue.parcels_mut() {
            if parcel.needs_check(cx.erring) {
                let check = cx.new_id();
                parcel.state = State::Waiting(check);
                parcel.erring_known = cx.erring.len();
                checks.push((check, parcel.sample(cx.rng, cx.erring)));
            }
        }
        for (check, announcements) in checks {
            cx.effects.push(Effect::Check(Check {
                check,
                announcements: announcements.clone(),
                urgent: true,
            }));
            self.checks.insert(check, Checking { announcements, why: Why::Sample });
        }
    }

    /// The handler, by its place on the list, that a post is to be made to next, and whose turn that is: the smaller
    /// one has waited longer. `None`: nothing can be posted now.
    pub fn next_turn(&self, cx: &Context) -> Option<((u64, u64), usize)> {
        if self.finished {
            return None;
        }
        let may_post = |handler: &Handler| {
            handler.free_from(cx.settings.uploaders).is_some_and(|from| from <= cx.now)
                && handler.queue.parcels().any(|parcel| self.may_leave(handler, parcel, cx.now))
        };
        let handlers = self.handlers.iter().enumerate().filter(|(_, handler)| may_post(handler));
        let (place, handler) = handlers.min_by_key(|(_, handler)| handler.last_turn)?;
        Some(((self.last_turn, handler.last_turn), place))
    }

    fn may_leave(&self, handler: &Handler, parcel: &Parcel, now: Moment) -> bool {
        self.leaves_from(handler, parcel).is_some_and(|from| from <= now)
    }

    /// From when on a batch may be posted, as far as it and its parent block matter; `None`: something must happen
    /// before.
    fn leaves_from(&self, handler: &Handler, parcel: &Parcel) -> Option<Moment> {
        let job = &parcel.batch.job;
        let tip_height = self.view.as_ref().map_or(0, |view| view.tip_height);
        if parcel.state != State::Ready || job.parent_height > tip_height {
            return None;
        }
        let undoubted = if self.draining { Moment::ZERO } else { handler.doubts.free_from(job)? };
        Some(parcel.not_before.max(undoubted))
    }

    /// Posts the oldest batch that a handler may have, or as much of it as may be in one post.
    pub fn post(&mut self, place: usize, bucket: &mut Bucket, cx: &mut Context) {
        let handler = &self.handlers[place];
        let oldest = handler.queue.parcels().position(|parcel| self.may_leave(handler, parcel, cx.now));
        let handler = &mut self.handlers[place];
        let Some(mut parcel) = oldest.and_then(|oldest| handler.queue.take(oldest)) else { return };
        // One that was closed before there was a limit, or under a higher one.
        let mut most = cx.settings.limit.map_or(usize::MAX, Limit::longest_post);
        let is_probe = !self.draining && handler.doubts.is_probe(&parcel.batch.job);
        if is_probe {
            handler.doubts.probe(&parcel.batch.job);
            most = most.min(PROBE);
        }
        if parcel.len() > most {
            let rest = parcel.cut(most);
            handler.queue.insert_first(rest);
        }
        let request = cx.new_id();
        (handler.last_turn, self.last_turn) = (request, request);
        handler.posts += 1;
        handler.in_flight += parcel.len();
        let limit = cx.settings.limit;
        #[cfg(test)]
        let limit = limit.filter(|_| !planted(Bug::IgnoreLimit));
        cx.effects.push(Effect::Post(Post {
            request,
            pool: self.pool,
            url: handler.url.clone(),
            work_number: parcel.batch.job.work_number(),
            pay_to: cx.settings.pay_to.clone(),
            batch: parcel.batch.clone(),
            timeout: cx.settings.timeout,
            spread: bucket.post(limit, parcel.len(), cx.now),
        }));
        let url = handler.url.to_string();
        let post = InFlight { parcel, handler: handler.id, url, since: cx.now, list: self.list, is_probe };
        self.posts.insert(request, post);
    }

    /// When time alone will change something.
    pub fn next_wake(&self, settings: &Settings, bucket: &Bucket) -> Option<Moment> {
        if self.finished {
            return None;
        }
        let of_handler = |handler: &Handler| {
            let full_age = handler.queue.due();
            let post = handler.free_from(settings.uploaders).and_then(|from| {
                let from = from.max(bucket.free_from());
                let parcels = handler.queue.parcels();
                let ready = parcels.filter_map(|parcel| self.leaves_from(handler, parcel));
                ready.map(|ready| ready.max(from)).min()
            });
            full_age.into_iter().chain(post).min()
        };
        let waits = || self.queued() > 0;
        let patience = self.left.as_ref().filter(|left| !left.over && waits()).map(|left| left.patience);
        self.handlers.iter().filter_map(of_handler).chain(patience).min()
    }

    fn queued(&self) -> u64 {
        let len = self.handlers.iter().map(|handler| handler.queue.len()).sum::<usize>() + self.holding.len();
        len as u64
    }

    fn in_flight(&self) -> u64 {
        self.posts.values().map(|post| post.parcel.len() as u64).sum()
    }

    /// This pool's side of the ledger.
    pub fn account(&self, found: u64) -> Account {
        let since_left = self.left.as_ref().map_or(0, |left| found - left.found);
        let missed = self.account.missed + since_left;
        let account = Account {
            found: found - missed,
            missed,
            queued: self.queued(),
            in_flight: self.in_flight(),
            handlers: self.handlers.iter().map(Handler::row).collect(),
            ..self.account.clone()
        };
        #[cfg(test)]
        if planted(Bug::FoundFromFates) {
            return Account { found: account.settled() + account.queued + account.in_flight, ..account };
        }
        account
    }

    pub fn is_idle(&self) -> bool {
        let is_hopeless = self.draining && self.view.is_none();
        self.posts.is_empty() && (is_hopeless || self.queued() == 0)
    }
}

/// Where a parcel was in flight to.
struct InFlightAt {
    id: u64,
    url: String,
    list: u64,
    request: u64,
    is_probe: bool,
}
