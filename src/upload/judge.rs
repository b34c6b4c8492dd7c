//! Whether a pool would take what was mined for a job.

use super::ledger::{Cause, Fate};
use crate::{
    protocol::WINDOW,
    values::{Job, PoolView},
};

/// What a pool would do with a job's announcements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Take them.
    Send,
    /// Take them when it knows the parent block.
    Hold,
    /// Refuse them, now and for ever.
    Lose(Fate, Cause),
}

/// Judges a job by what a pool last said.
pub(super) fn judge(view: &PoolView, job: &Job) -> Judgement {
    let window = view.window();
    if job.parent_height < window.start {
        return Judgement::Lose(Fate::Stale, Cause::ParentTooOld);
    }
    if job.parent_height >= window.end.saturating_add(WINDOW) {
        return Judgement::Lose(Fate::Unwanted, Cause::ParentAhead);
    }
    if let Some(block) = view.block_at(job.parent_height) {
        if block.hash != job.parent_hash {
            return Judgement::Lose(Fate::Stale, Cause::ParentReplaced);
        }
        if block.signing_key != job.signing_key {
            return Judgement::Lose(Fate::Unwanted, Cause::OtherKey);
        }
    }
    if view.ann_target.is_some_and(|target| !job.work_bits.is_at_least_as_hard_as(target)) {
        return Judgement::Lose(Fate::Unwanted, Cause::TooEasy);
    }
    if job.parent_height >= window.end { Judgement::Hold } else { Judgement::Send }
}

#[cfg(test)]
mod tests {
    use kernels::WorkBits;

    use super::*;
    use crate::{protocol::BlockHash, values::Block};

    const KEY: [u8; 32] = [7; 32];

    fn job(parent_height: u32) -> Job {
        let work_bits = WorkBits::at_least(128);
        Job { id: 1, parent_hash: hash(parent_height), parent_height, work_bits, signing_key: KEY }
    }

    fn hash(height: u32) -> BlockHash {
        BlockHash([height as u8; 32])
    }

    fn view() -> PoolView {
        let block = |height| Block { hash: hash(height), height, signing_key: KEY };
        PoolView {
            handlers: Vec::new(),
            tip_height: 100,
            ann_target: Some(WorkBits::at_least(128)),
            blocks: (98..=100).map(block).collect(),
        }
    }

    #[test]
    fn only_the_newest_six_parents_are_sent() {
        for (height, judgement) in [
            (94, Judgement::Lose(Fate::Stale, Cause::ParentTooOld)),
            (95, Judgement::Send),
            (100, Judgement::Send),
            (101, Judgement::Hold),
            (106, Judgement::Hold),
            (107, Judgement::Lose(Fate::Unwanted, Cause::ParentAhead)),
            (u32::MAX, Judgement::Lose(Fate::Unwanted, Cause::ParentAhead)),
        ] {
            assert_eq!(judge(&view(), &job(height)), judgement, "{height}");
        }
        let young = PoolView { tip_height: 2, blocks: Vec::new(), ..view() };
        assert_eq!(judge(&young, &job(0)), Judgement::Send);
    }

    #[test]
    fn a_block_that_was_replaced_is_stale_where_blocks_are_known() {
        let other = |height| Job { parent_hash: hash(0), ..job(height) };
        assert_eq!(judge(&view(), &other(99)), Judgement::Lose(Fate::Stale, Cause::ParentReplaced));
        assert_eq!(judge(&view(), &other(97)), Judgement::Send);
    }

    #[test]
    fn another_key_or_harder_work_makes_it_unwanted() {
        let unsigned = Job { signing_key: [0; 32], ..job(99) };
        assert_eq!(judge(&view(), &unsigned), Judgement::Lose(Fate::Unwanted, Cause::OtherKey));
        let easy = Job { work_bits: WorkBits::at_least(127), ..job(99) };
        assert_eq!(judge(&view(), &easy), Judgement::Lose(Fate::Unwanted, Cause::TooEasy));
        let hard = Job { work_bits: WorkBits::at_least(4096), ..job(99) };
        assert_eq!(judge(&view(), &hard), Judgement::Send);
        assert_eq!(judge(&PoolView { ann_target: None, ..view() }, &easy), Judgement::Send);
    }
}
