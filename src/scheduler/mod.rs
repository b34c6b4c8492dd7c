//! The scheduler: jobs become rounds, rounds go to backends.
//!
//! A state machine: it is told what happened and says what to do. It keeps every backend supplied with as many
//! rounds as it wants to hold, all of the newest job; when a job is replaced, rounds of the old one are cancelled
//! ([`CancelPolicy`]).

use std::{collections::BTreeMap, sync::Arc};

#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::{
    backend::{BackendInfo, Reach},
    values::{BackendId, HardNonces, Job, Notice, PoolView, Round},
};

/// What becomes of rounds whose job was replaced. Those of the same block stop at once, whatever the policy: another
/// difficulty was asked for, and rounds of a hard one are long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CancelPolicy {
    /// They stop at once; but where jobs come so fast that a backend ends no round, those at work run to their end as
    /// with `Finish`, or else nothing would ever be found.
    #[default]
    Now,
    /// They run to their end while ann handlers take announcements on their parent block.
    Finish,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is another job.
    Mine(Job),
    /// The leading pool says something else than before.
    View(PoolView),
    /// A backend holds a round no longer.
    Ended {
        /// Which backend.
        backend: BackendId,
        /// Which round.
        round: u64,
    },
    /// A backend is out of the game, for good.
    Failed {
        /// Which backend.
        backend: BackendId,
    },
    /// A backend wants to hold another number of rounds from now on.
    Resized {
        /// Which backend.
        backend: BackendId,
        /// How many.
        capacity: usize,
    },
    /// Another policy for rounds whose job is replaced.
    Policy(CancelPolicy),
    /// Mine nothing, until [`Event::Resume`].
    Pause,
    /// Mine again.
    Resume,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Hand rounds to a backend.
    Start {
        /// Which backend.
        backend: BackendId,
        /// The rounds.
        rounds: Vec<Round>,
    },
    /// Have a backend end rounds early.
    Cancel {
        /// Which backend.
        backend: BackendId,
        /// The rounds' identifiers.
        rounds: Vec<u64>,
        /// Whether those at work end too.
        reach: Reach,
    },
    /// Tell the user.
    Note(Notice),
}

/// Keeps backends supplied with rounds of the newest job.
#[derive(Debug)]
pub struct Scheduler {
    policy: CancelPolicy,
    job: Option<Arc<Job>>,
    /// What the leading pool said last.
    view: Option<PoolView>,
    paused: bool,
    backends: Vec<Supply>,
    next_round: u64,
    hard_nonces: NonceSupply,
}

/// What one backend holds and wants.
#[derive(Debug)]
struct Supply {
    capacity: usize,
    candidates: u32,
    failed: bool,
    held: BTreeMap<u64, Held>,
    /// Whether a round came to its end since there is this job.
    ended: bool,
    /// Whether all that was held of the job before was cut off before any round of it came to its end.
    cut: bool,
}

#[derive(Debug)]
struct Held {
    job: Arc<Job>,
    cancelled: Option<Reach>,
    /// It may run to its end though its job is replaced: the rounds before it could not.
    spared: bool,
}

/// Hands out every hard nonce once, from a random start: announcements carry no payment address, so two miners
/// that scan the same range would make each other's duplicates.
///
/// The count runs on from job to job, since a job can come back when a reorganisation is undone.
#[derive(Debug)]
struct NonceSupply {
    start: u32,
    handed_out: u64,
}

impl NonceSupply {
    /// The next `count` hard nonces, and whether the whole range of 2^32 had been handed out before them.
    fn take(&mut self, count: u32) -> (HardNonces, bool) {
        let first = self.start.wrapping_add(self.handed_out as u32);
        let before = self.handed_out >> 32;
        self.handed_out += u64::from(count);
        #[cfg(test)]
        if planted(Bug::NonceTwice) {
            self.handed_out -= 1;
        }
        (HardNonces { first, count }, self.handed_out >> 32 != before)
    }
}

impl Scheduler {
    /// A scheduler for backends that hold nothing yet. `first_hard_nonce` is a random number.
    pub fn new(backends: &[BackendInfo], policy: CancelPolicy, first_hard_nonce: u32) -> Self {
        let supply = |info: &BackendInfo| Supply {
            capacity: info.capacity,
            candidates: info.candidates.max(1),
            failed: false,
            held: BTreeMap::new(),
            ended: false,
            cut: false,
        };
        Self {
            policy,
            job: None,
            view: None,
            paused: false,
            backends: backends.iter().map(supply).collect(),
            next_round: 0,
            hard_nonces: NonceSupply { start: first_hard_nonce, handed_out: 0 },
        }
    }

    /// Takes note of an event and says what follows from it.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Mine(job) => {
                #[cfg(test)]
                let before = planted(Bug::OldJobOnceMore).then(|| self.job.clone()).flatten();
                let is_other_block = self.job.as_ref().is_none_or(|old| old.parent_hash != job.parent_hash);
                self.job = Some(Arc::new(job));
                if is_other_block {
                    self.spare();
                }
                #[cfg(test)]
                if let Some(before) = before {
                    let mut effects = self.cancel_replaced();
                    let new = self.job.replace(before);
                    effects.extend(self.top_up());
                    self.job = new;
                    return effects;
                }
                let mut effects = self.cancel_replaced();
                effects.extend(self.top_up());
                effects
            }
            Event::View(view) => {
                self.view = Some(view);
                self.cancel_replaced()
            }
            Event::Ended { backend, round } => {
                let supply = &mut self.backends[backend.0];
                #[cfg(test)]
                if planted(Bug::EndedFeedsNobody) {
                    supply.held.remove(&round);
                    return Vec::new();
                }
                supply.ended |= supply.held.remove(&round).is_some_and(|held| held.cancelled.is_none());
                self.top_up()
            }
            Event::Failed { backend } => {
                self.backends[backend.0].failed = true;
                self.backends[backend.0].held.clear();
                Vec::new()
            }
            Event::Resized { backend, capacity } => {
                self.backends[backend.0].capacity = capacity;
                self.top_up()
            }
            Event::Policy(policy) => {
                self.policy = policy;
                self.cancel_replaced()
            }
            Event::Pause => {
                self.paused = true;
                #[cfg(test)]
                if planted(Bug::PauseStopsNothing) {
                    return Vec::new();
                }
                self.cancel(Reach::Running, |_| true)
            }
            Event::Resume => {
                self.paused = false;
                #[cfg(test)]
                if planted(Bug::ResumeFeedsNobody) {
                    return Vec::new();
                }
                self.top_up()
            }
        }
    }

    /// The job that rounds are made of.
    pub fn job(&self) -> Option<&Arc<Job>> {
        self.job.as_ref()
    }

    /// Whether any backend is left that mines.
    pub fn has_backends(&self) -> bool {
        self.backends.iter().any(|supply| !supply.failed)
    }

    /// Rounds that backends hold.
    pub fn rounds_held(&self) -> usize {
        self.backends.iter().map(|supply| supply.held.len()).sum()
    }

    /// Spares the rounds of backends that did not come to the end of one for two blocks.
    fn spare(&mut self) {
        for supply in &mut self.backends {
            let starves = !supply.ended && supply.cut;
            supply.cut = !supply.ended && !supply.held.is_empty();
            supply.ended = false;
            supply.held.values_mut().for_each(|held| held.spared |= starves);
        }
    }

    /// Cancels what is held of jobs that were replaced, as far as the policy and the leading pool's view ask for.
    fn cancel_replaced(&mut self) -> Vec<Effect> {
        let (policy, current, view) = (self.policy, self.job.clone(), self.view.clone());
        let replaced = |held: &Held| current.as_ref() != Some(&held.job);
        let useless = |held: &Held| view.as_ref().is_some_and(|view| !takes(view, &held.job));
        let same_block =
            |held: &Held| current.as_ref().is_some_and(|job| job.parent_hash == held.job.parent_hash);
        let finishes = |held: &Held| (policy == CancelPolicy::Finish || held.spared) && !same_block(held);
        let stops = |held: &Held| replaced(held) && (!finishes(held) || useless(held));
        let mut effects = self.cancel(Reach::Running, stops);
        effects.extend(self.cancel(Reach::Waiting, replaced));
        effects
    }

    /// Cancels rounds that are `unwanted`, unless they were cancelled as far before.
    fn cancel(&mut self, reach: Reach, unwanted: impl Fn(&Held) -> bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (index, supply) in self.backends.iter_mut().enumerate() {
            let mut rounds = Vec::new();
            for (id, held) in &mut supply.held {
                let done = matches!(
                    (held.cancelled, reach),
                    (Some(Reach::Running), _) | (Some(Reach::Waiting), Reach::Waiting)
                );
                if !done && unwanted(held) {
                    held.cancelled = Some(reach);
                    rounds.push(*id);
                }
            }
            if !rounds.is_empty() {
                effects.push(Effect::Cancel { backend: BackendId(index), rounds, reach });
            }
        }
        effects
    }

    /// Gives every backend what it lacks. Rounds that were stopped at once do not count as held.
    fn top_up(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(job) = self.job.as_ref().filter(|_| !self.paused) else { return effects };
        let is_fed = |supply: &Supply| !supply.failed;
        #[cfg(test)]
        let is_fed = |supply: &Supply| is_fed(supply) || planted(Bug::FailedIsFed);
        for (index, supply) in self.backends.iter_mut().enumerate().filter(|(_, supply)| is_fed(supply)) {
            let busy = supply.held.values().filter(|h| h.cancelled != Some(Reach::Running)).count();
            let mut rounds = Vec::new();
            for _ in busy..supply.capacity {
                let (hard_nonces, wrapped) = self.hard_nonces.take(supply.candidates);
                if wrapped {
                    effects.push(Effect::Note(Notice::warn(
                        "all 2^32 hard nonces were used and are used again: if the pool has had no new block \
                         since the start, it will see duplicates",
                    )));
                }
                let round = Round { id: self.next_round, job: job.clone(), hard_nonces };
                self.next_round += 1;
                supply.held.insert(round.id, Held { job: job.clone(), cancelled: None, spared: false });
                rounds.push(round);
            }
            if !rounds.is_empty() {
                effects.push(Effect::Start { backend: BackendId(index), rounds });
            }
        }
        effects
    }
}

/// Whether ann handlers that follow `view` take announcements of a job.
fn takes(view: &PoolView, job: &Job) -> bool {
    // A parent above the tip is one that a lower tip took away, for now or for good.
    let in_window = view.window().contains(&job.parent_height);
    let hard_enough = view.ann_target.is_none_or(|target| job.work_bits.is_at_least_as_hard_as(target));
    in_window
        && hard_enough
        && view.block_at(job.parent_height).is_none_or(|block| block.hash == job.parent_hash)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kernels::WorkBits;

    use super::*;
    use crate::{protocol::BlockHash, values::Block};

    fn job(id: u64, height: u32) -> Job {
        Job {
            id,
            parent_hash: BlockHash([id as u8; 32]),
            parent_height: height,
            work_bits: WorkBits::at_least(2),
            signing_key: [0; 32],
        }
    }

    fn view(tip_height: u32, blocks: Vec<Block>) -> PoolView {
        PoolView { tip_height, blocks, ..PoolView::default() }
    }

    fn backend(capacity: usize, candidates: u32) -> BackendInfo {
        BackendInfo { name: "test".into(), description: String::new(), bus: None, capacity, candidates }
    }

    fn started(effects: &[Effect]) -> Vec<Round> {
        let rounds = effects.iter().filter_map(|effect| match effect {
            Effect::Start { rounds, .. } => Some(rounds.clone()),
            _ => None,
        });
        rounds.flatten().collect()
    }

    fn cancelled(effects: &[Effect]) -> Vec<(u64, Reach)> {
        let rounds = effects.iter().filter_map(|effect| match effect {
            Effect::Cancel { rounds, reach, .. } => Some(rounds.iter().map(|id| (*id, *reach))),
            _ => None,
        });
        rounds.flatten().collect()
    }

    #[test]
    fn every_backend_is_given_as_many_rounds_as_it_wants_to_hold() {
        let mut scheduler = Scheduler::new(&[backend(2, 1), backend(16, 64)], CancelPolicy::Now, 7);
        assert_eq!(scheduler.handle(Event::Mine(job(1, 100))).len(), 2);
        assert_eq!(scheduler.rounds_held(), 18);
        let more = scheduler.handle(Event::Ended { backend: BackendId(1), round: 5 });
        assert_eq!(started(&more).len(), 1);
        assert_eq!(scheduler.rounds_held(), 18);
    }

    #[test]
    fn no_hard_nonce_is_handed_out_twice_whatever_the_job() {
        let mut scheduler =
            Scheduler::new(&[backend(3, 5), backend(4, 64)], CancelPolicy::Now, u32::MAX - 50);
        let mut seen = HashSet::new();
        for id in 0..50 {
            for round in started(&scheduler.handle(Event::Mine(job(id, 100)))) {
                for nonce in round.hard_nonces.iter() {
                    assert!(seen.insert(nonce), "hard nonce {nonce} twice");
                }
            }
        }
        assert!(seen.contains(&u32::MAX) && seen.contains(&0), "the range wraps");
    }

    #[test]
    fn a_new_job_stops_the_old_one_and_starts_at_once() {
        let mut scheduler = Scheduler::new(&[backend(2, 1)], CancelPolicy::Now, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        let effects = scheduler.handle(Event::Mine(job(2, 101)));
        assert_eq!(cancelled(&effects), [(0, Reach::Running), (1, Reach::Running)]);
        assert!(started(&effects).iter().all(|round| round.job.id == 2));
        assert_eq!(started(&effects).len(), 2);
        let after = scheduler.handle(Event::Ended { backend: BackendId(0), round: 0 });
        assert_eq!(after, [], "a cancelled round leaves no hole");
    }

    #[test]
    fn where_jobs_come_faster_than_rounds_end_those_at_work_are_spared_while_handlers_take_them() {
        let mut scheduler = Scheduler::new(&[backend(1, 1)], CancelPolicy::Now, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        assert_eq!(cancelled(&scheduler.handle(Event::Mine(job(2, 101)))), [(0, Reach::Running)]);
        scheduler.handle(Event::Ended { backend: BackendId(0), round: 0 });
        let effects = scheduler.handle(Event::Mine(job(3, 102)));
        assert_eq!(cancelled(&effects), [(1, Reach::Waiting)], "the second one in a row may end");
        assert_eq!(scheduler.handle(Event::View(view(102, vec![]))), [], "whatever else the pool says");
        let effects = scheduler.handle(Event::View(view(107, vec![])));
        assert_eq!(cancelled(&effects), [(1, Reach::Running)], "101 is too old");

        let next = scheduler.handle(Event::Mine(job(4, 103)));
        scheduler.handle(Event::Ended { backend: BackendId(0), round: started(&next)[0].id });
        let after = scheduler.handle(Event::Mine(job(5, 104)));
        assert!(
            cancelled(&after).iter().all(|(_, reach)| *reach == Reach::Running),
            "nobody starves: {after:?}"
        );
    }

    #[test]
    fn another_difficulty_on_the_same_block_stops_rounds_at_once_and_starves_nobody() {
        for policy in [CancelPolicy::Now, CancelPolicy::Finish] {
            let mut scheduler = Scheduler::new(&[backend(1, 1)], policy, 0);
            scheduler.handle(Event::Mine(job(1, 100)));
            for (round, difficulty) in [64, 1 << 17, 2].into_iter().enumerate() {
                let other = Job { work_bits: WorkBits::at_least(difficulty), ..job(1, 100) };
                let effects = scheduler.handle(Event::Mine(other));
                assert_eq!(cancelled(&effects), [(round as u64, Reach::Running)], "{policy:?}");
                assert_eq!(started(&effects).len(), 1);
            }
        }
        let mut scheduler = Scheduler::new(&[backend(1, 1)], CancelPolicy::Now, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        scheduler.handle(Event::Mine(Job { work_bits: WorkBits::at_least(64), ..job(1, 100) }));
        let effects = scheduler.handle(Event::Mine(job(2, 101)));
        assert_eq!(cancelled(&effects), [(1, Reach::Running)], "one block after another is no haste");
    }

    #[test]
    fn rounds_that_became_too_easy_do_not_run_on() {
        let mut scheduler = Scheduler::new(&[backend(1, 1)], CancelPolicy::Finish, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        let harder = Job { work_bits: WorkBits::at_least(64), ..job(2, 100) };
        let raised = PoolView { ann_target: Some(harder.work_bits), ..view(100, vec![]) };
        scheduler.handle(Event::View(raised));
        assert_eq!(cancelled(&scheduler.handle(Event::Mine(harder))), [(0, Reach::Running)]);
    }

    #[test]
    fn with_finish_rounds_end_while_handlers_take_their_parent_and_no_longer() {
        let mut scheduler = Scheduler::new(&[backend(2, 1)], CancelPolicy::Finish, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        let effects = scheduler.handle(Event::Mine(job(2, 101)));
        assert_eq!(cancelled(&effects), [(0, Reach::Waiting), (1, Reach::Waiting)]);
        assert_eq!(started(&effects), [], "both old rounds may still run");
        let next = scheduler.handle(Event::Ended { backend: BackendId(0), round: 0 });
        assert_eq!(started(&next).iter().map(|r| r.job.id).collect::<Vec<_>>(), [2]);
        assert_eq!(scheduler.handle(Event::View(view(105, vec![]))), [], "105 − 5 = 100 is still taken");
        let effects = scheduler.handle(Event::View(view(106, vec![])));
        assert_eq!(cancelled(&effects), [(1, Reach::Running)]);
    }

    #[test]
    fn rounds_on_a_block_that_was_reorganised_away_stop_at_once() {
        let other = Block { hash: BlockHash([9; 32]), height: 100, signing_key: [0; 32] };
        for gone in [view(100, vec![other]), view(99, vec![])] {
            for view_first in [true, false] {
                let mut scheduler = Scheduler::new(&[backend(1, 1)], CancelPolicy::Finish, 0);
                scheduler.handle(Event::Mine(job(1, 100)));
                let mut events = [Event::View(gone.clone()), Event::Mine(job(2, 99))];
                if !view_first {
                    events.reverse();
                }
                let effects: Vec<_> = events.into_iter().flat_map(|e| scheduler.handle(e)).collect();
                assert!(cancelled(&effects).contains(&(0, Reach::Running)));
            }
        }
    }

    #[test]
    fn the_newest_job_is_mined_even_where_handlers_would_not_take_it_at_the_moment() {
        let mut scheduler = Scheduler::new(&[backend(1, 1)], CancelPolicy::Now, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        assert_eq!(scheduler.handle(Event::View(view(99, vec![]))), []);
    }

    #[test]
    fn a_backend_that_failed_gets_nothing_any_more_and_the_others_go_on() {
        let mut scheduler = Scheduler::new(&[backend(2, 1), backend(2, 1)], CancelPolicy::Now, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        scheduler.handle(Event::Failed { backend: BackendId(0) });
        assert!(scheduler.has_backends());
        let effects = scheduler.handle(Event::Mine(job(2, 101)));
        assert!(effects.iter().all(|effect| match effect {
            Effect::Start { backend, .. } | Effect::Cancel { backend, .. } => backend.0 == 1,
            Effect::Note(_) => false,
        }));
        scheduler.handle(Event::Failed { backend: BackendId(1) });
        assert!(!scheduler.has_backends());
    }

    #[test]
    fn a_backend_that_is_resized_holds_as_many_as_it_wants_from_then_on() {
        let mut scheduler = Scheduler::new(&[backend(2, 1)], CancelPolicy::Now, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        let more = scheduler.handle(Event::Resized { backend: BackendId(0), capacity: 5 });
        assert_eq!((started(&more).len(), scheduler.rounds_held()), (3, 5));
        assert_eq!(scheduler.handle(Event::Resized { backend: BackendId(0), capacity: 1 }), []);
        for (round, expected) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)] {
            let effects = scheduler.handle(Event::Ended { backend: BackendId(0), round });
            assert_eq!(started(&effects).len(), expected, "after round {round}");
        }
    }

    #[test]
    fn a_stricter_policy_stops_old_rounds_that_the_laxer_one_let_run() {
        let mut scheduler = Scheduler::new(&[backend(2, 1)], CancelPolicy::Finish, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        scheduler.handle(Event::Mine(job(2, 101)));
        let effects = scheduler.handle(Event::Policy(CancelPolicy::Now));
        assert_eq!(cancelled(&effects), [(0, Reach::Running), (1, Reach::Running)]);
    }

    #[test]
    fn a_pause_stops_everything_and_resuming_starts_it_again() {
        let mut scheduler = Scheduler::new(&[backend(2, 1)], CancelPolicy::Now, 0);
        scheduler.handle(Event::Mine(job(1, 100)));
        assert_eq!(cancelled(&scheduler.handle(Event::Pause)).len(), 2);
        assert_eq!(scheduler.handle(Event::Ended { backend: BackendId(0), round: 0 }), []);
        assert_eq!(started(&scheduler.handle(Event::Resume)).len(), 2);
    }
}
