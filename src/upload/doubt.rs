//! Blocks on which a handler refuses what validates here: the chain was reorganised and the miner has yet to hear of
//! it, or the pool is on another chain or branch for good, or expects another signing key.
//!
//! What is mined on such a block waits until the pool's view explains it, [`PATIENCE`] at most. Then a little is tried:
//! if it is taken all goes on, and if not, what is mined on the block is unwanted there for a while. From then on a
//! little is tried first on every other block, too, until something is taken.

use std::time::Duration;

use super::ledger::Cause;
use crate::{
    protocol::BlockHash,
    values::{Job, Moment, PoolView},
};

/// How long what is mined on a block waits after a refusal: long enough for two more configurations to be fetched.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long what is mined on a block is unwanted, unless the pool says something new.
const AVOIDED_FOR: Duration = Duration::from_secs(60);

/// Announcements that are posted to try.
pub const PROBE: usize = 32;

/// **Bound**: more blocks than a window has, on several branches. The oldest doubt is dropped first, which costs one
/// more refusal.
const DOUBTS_MAX: usize = 16;

/// What one handler has shown that it does not take.
#[derive(Debug, Default)]
pub struct Doubts {
    doubts: Vec<Doubt>,
    /// It has refused what is valid twice, or the pool's news have not explained why, and it has taken nothing since.
    wary: bool,
}

#[derive(Debug)]
struct Doubt {
    parent: BlockHash,
    height: u32,
    /// The post that was refused.
    request: u64,
    /// When a little may be tried (again).
    next_try: Moment,
    /// Whether it is being tried.
    probing: bool,
    /// Whether something that was refused is known to validate here.
    proven: bool,
    /// Why what is mined on the block is unwanted until `next_try`.
    avoided: Option<Cause>,
}

impl Doubts {
    /// A post was refused for its parent block, or for a reason that is still to be found. Whether that is news.
    pub fn refused(&mut self, job: &Job, request: u64, now: Moment) -> bool {
        if let Some(doubt) = self.about(&job.parent_hash) {
            if doubt.next_try <= now {
                doubt.next_try = now + PATIENCE;
            }
            return false;
        }
        self.open(job, request, now + PATIENCE);
        true
    }

    fn open(&mut self, job: &Job, request: u64, next_try: Moment) -> &mut Doubt {
        if self.doubts.len() >= DOUBTS_MAX {
            self.doubts.remove(0);
        }
        self.doubts.push(Doubt {
            parent: job.parent_hash,
            height: job.parent_height,
            request,
            next_try,
            probing: false,
            proven: self.wary,
            avoided: None,
        });
        self.doubts.last_mut().expect("it was just put there")
    }

    fn about(&mut self, parent: &BlockHash) -> Option<&mut Doubt> {
        self.doubts.iter_mut().find(|doubt| doubt.parent == *parent)
    }

    /// All of a refused batch validates here. Whether the block is still in doubt.
    pub fn prove(&mut self, job: &Job) -> bool {
        self.about(&job.parent_hash).map(|doubt| doubt.proven = true).is_some()
    }

    /// Whether something mined on that block was refused that is known to validate here.
    pub fn is_proven(&self, job: &Job) -> bool {
        self.doubts.iter().any(|doubt| doubt.proven && doubt.parent == job.parent_hash)
    }

    /// The refusal was right: not all of the batch was valid.
    pub fn explained(&mut self, job: &Job) {
        self.doubts.retain(|doubt| doubt.parent != job.parent_hash);
    }

    /// What was tried was refused, though it is valid: what is mined on the block is unwanted for a while.
    ///
    /// Nothing follows where the doubt has ended since, by news of the pool or by a post that was taken.
    pub fn avoid(&mut self, job: &Job, cause: Cause, now: Moment) {
        let Some(doubt) = self.about(&job.parent_hash) else { return };
        (doubt.proven, doubt.probing) = (true, false);
        (doubt.avoided, doubt.next_try) = (Some(cause), now + AVOIDED_FOR);
        self.wary = true;
    }

    /// What was tried was refused, though it is valid and mined on a block that the pool names itself: the handler errs,
    /// and what waits for it waits on.
    pub fn wait_on(&mut self, job: &Job, now: Moment) {
        let Some(doubt) = self.about(&job.parent_hash) else { return };
        (doubt.proven, doubt.probing, doubt.next_try) = (true, false, now + PATIENCE);
    }

    /// A post was taken. It ends a doubt that is older than it.
    pub fn taken(&mut self, job: &Job, request: u64) {
        let before = self.doubts.len();
        self.doubts.retain(|doubt| doubt.parent != job.parent_hash || doubt.request >= request);
        self.wary &= self.doubts.len() == before;
    }

    /// The pool says something new of its chain: of a block that it names, or of whose branch it never says anything,
    /// its handlers are asked anew.
    pub fn view(&mut self, view: &PoolView) {
        let from = view.window().start;
        self.doubts.retain(|doubt| {
            let named = view.block_at(doubt.height);
            let is_explained = named.is_some_and(|block| block.hash != doubt.parent) || doubt.height < from;
            let goes_on = !view.blocks.is_empty() && named.is_none() && !is_explained;
            self.wary |= doubt.proven && !is_explained && !goes_on;
            goes_on
        });
    }

    /// From when on something mined for a job may be posted; `None`: not before an answer.
    pub fn free_from(&self, job: &Job) -> Option<Moment> {
        match self.doubts.iter().find(|doubt| doubt.parent == job.parent_hash) {
            Some(doubt) => (!doubt.probing).then_some(doubt.next_try),
            None => Some(Moment::ZERO),
        }
    }

    /// Whether a post for a job is made to try, and so is to be short.
    pub fn is_probe(&self, job: &Job) -> bool {
        self.wary || self.doubts.iter().any(|doubt| doubt.parent == job.parent_hash)
    }

    /// A little is being tried.
    pub fn probe(&mut self, job: &Job) {
        if self.about(&job.parent_hash).is_none() {
            self.open(job, 0, Moment::ZERO);
        }
        if let Some(doubt) = self.about(&job.parent_hash) {
            doubt.probing = true;
        }
    }

    /// What was tried has had an answer, or never will have. Whether the block is still in doubt.
    pub fn probed(&mut self, job: &Job) -> bool {
        self.about(&job.parent_hash).map(|doubt| doubt.probing = false).is_some()
    }

    /// Why what is mined for a job is unwanted at the moment, if it is.
    pub fn avoids(&self, job: &Job, now: Moment) -> Option<&Cause> {
        let doubt =
            self.doubts.iter().find(|doubt| doubt.parent == job.parent_hash && now < doubt.next_try)?;
        doubt.avoided.as_ref()
    }

    /// Whether it avoids any block at the moment.
    pub fn avoids_some(&self, now: Moment) -> bool {
        self.doubts.iter().any(|doubt| doubt.avoided.is_some() && now < doubt.next_try)
    }

    /// Whether it refuses something at the moment that is known to validate here.
    pub fn refuses_valid(&self) -> bool {
        self.wary || self.doubts.iter().any(|doubt| doubt.proven)
    }

    /// Whether it has refused what is valid, twice, and taken nothing since.
    pub fn is_wary(&self) -> bool {
        self.wary
    }
}

#[cfg(test)]
mod tests {
    use kernels::WorkBits;

    use super::*;
    use crate::values::Block;

    const SECOND: Duration = Duration::from_secs(1);

    fn job(height: u8) -> Job {
        Job {
            id: 1,
            parent_hash: BlockHash([height; 32]),
            parent_height: height.into(),
            work_bits: WorkBits::at_least(2),
            signing_key: [0; 32],
        }
    }

    #[test]
    fn a_block_in_doubt_waits_then_a_little_is_tried_and_then_it_is_avoided() {
        let mut doubts = Doubts::default();
        assert!(doubts.refused(&job(98), 7, SECOND) && !doubts.refused(&job(98), 8, SECOND));
        assert_eq!(doubts.free_from(&job(98)), Some(SECOND + PATIENCE));
        assert_eq!((doubts.free_from(&job(99)), doubts.is_probe(&job(99))), (Some(Moment::ZERO), false));
        doubts.probe(&job(98));
        assert_eq!(doubts.free_from(&job(98)), None);
        doubts.probed(&job(98));
        doubts.refused(&job(98), 9, 12 * SECOND);
        assert_eq!(doubts.free_from(&job(98)), Some(12 * SECOND + PATIENCE), "until it is found out why");
        doubts.avoid(&job(98), Cause::ParentRefused, 20 * SECOND);
        let avoids = |seconds: u32| doubts.avoids(&job(98), seconds * SECOND).is_some();
        assert_eq!([20, 79, 80].map(avoids), [true, true, false]);
        assert!(doubts.is_wary() && doubts.is_probe(&job(99)), "other blocks, too, are tried first");
        doubts.probe(&job(99));
        assert_eq!(doubts.free_from(&job(99)), None);
        doubts.taken(&job(99), 9);
        assert!(!doubts.is_wary() && !doubts.is_probe(&job(99)));
    }

    #[test]
    fn a_late_verdict_on_a_doubt_that_has_ended_changes_nothing() {
        let mut doubts = Doubts::default();
        doubts.refused(&job(98), 7, SECOND);
        doubts.probe(&job(98));
        doubts.taken(&job(98), 8);
        assert!(!doubts.probed(&job(98)));
        doubts.avoid(&job(98), Cause::ParentRefused, 20 * SECOND);
        assert!(!doubts.avoids_some(20 * SECOND) && !doubts.is_wary() && !doubts.is_probe(&job(98)));
    }

    #[test]
    fn what_a_handler_wrongly_refuses_waits_on_and_is_tried_again_and_again() {
        let mut doubts = Doubts::default();
        doubts.refused(&job(98), 7, SECOND);
        doubts.probe(&job(98));
        assert!(doubts.probed(&job(98)));
        doubts.wait_on(&job(98), 20 * SECOND);
        assert!(!doubts.avoids_some(20 * SECOND) && !doubts.is_wary());
        assert_eq!(doubts.free_from(&job(98)), Some(20 * SECOND + PATIENCE));
    }

    #[test]
    fn only_what_was_posted_after_a_refusal_ends_a_doubt() {
        let mut doubts = Doubts::default();
        doubts.refused(&job(98), 7, SECOND);
        doubts.taken(&job(98), 6);
        assert!(doubts.is_probe(&job(98)));
        doubts.taken(&job(98), 8);
        assert!(!doubts.is_probe(&job(98)));
    }

    #[test]
    fn the_pools_own_word_ends_a_doubt_and_a_walk_that_did_not_come_so_far_does_not() {
        let in_doubt = |blocks: &[u8], tip_height| {
            let mut doubts = Doubts::default();
            doubts.refused(&job(98), 7, SECOND);
            let block = |height: &u8| Block {
                hash: job(*height).parent_hash,
                height: (*height).into(),
                signing_key: [0; 32],
            };
            doubts.view(&PoolView {
                tip_height,
                blocks: blocks.iter().map(block).collect(),
                ..PoolView::default()
            });
            doubts.is_probe(&job(98))
        };
        assert!(in_doubt(&[100], 100), "what it says of that height is still to come");
        assert!(!in_doubt(&[98, 99, 100], 100));
        assert!(!in_doubt(&[], 100), "a pool whose blocks nobody asks for");
        assert!(!in_doubt(&[110], 110), "too old to matter");
    }

    #[test]
    fn who_refused_valid_ones_and_goes_on_to_another_block_is_asked_with_a_little() {
        let is_wary_after = |blocks: Vec<Block>| {
            let mut doubts = Doubts::default();
            doubts.refused(&job(98), 7, SECOND);
            doubts.prove(&job(98));
            doubts.view(&PoolView { tip_height: 100, blocks, ..PoolView::default() });
            doubts.is_wary()
        };
        let block = |hash| Block { hash: BlockHash([hash; 32]), height: 98, signing_key: [0; 32] };
        assert!(is_wary_after(vec![]) && is_wary_after(vec![block(98)]));
        assert!(!is_wary_after(vec![block(1)]), "it was right to refuse what was replaced");
    }

    #[test]
    fn doubts_are_bounded() {
        let mut doubts = Doubts::default();
        (0..=255).for_each(|height| assert!(doubts.refused(&job(height), 1, SECOND)));
        assert_eq!(doubts.doubts.len(), DOUBTS_MAX);
    }
}
