//! One thread's round: table 1, Merkle tree, table 2, search (spec §8).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernels::{
    Announcement, Hash64, Kernel, Passes, TableProgram,
    round::{RoundMemory, ann_hash0, ann_hash1, build_announcement, table2_seed},
};

use crate::values::Round;

/// Items made between two looks at whether the round was cancelled: some 2 ms with the portable kernel.
const ITEMS_AT_ONCE: usize = 64;

/// Soft nonces hashed between two looks: some 2 ms with the portable kernel.
const NONCES_AT_ONCE: u32 = 128;

/// What all threads have done since they started.
#[derive(Debug, Default)]
pub struct Progress {
    /// Items made, of both tables.
    pub items: AtomicU64,
    /// Soft nonces hashed.
    pub hashes: AtomicU64,
}

/// A thread's kernel and memory.
pub struct Miner {
    passes: Box<dyn Passes>,
    memory: RoundMemory,
}

/// What became of a hard nonce.
enum Outcome {
    Mined,
    /// One of its programs cannot be run.
    Unusable,
    Cancelled,
}

impl Miner {
    /// Allocates a thread's memory.
    pub fn new(kernel: Kernel) -> Self {
        Self { passes: kernel.passes(), memory: RoundMemory::default() }
    }

    /// Mines the first of the round's hard nonces whose programs can be run, handing on announcements as they are
    /// found. Returns whether it came to its end.
    pub fn mine(
        &mut self,
        round: &Round,
        cancelled: &AtomicBool,
        progress: &Progress,
        found: &mut dyn FnMut(Vec<Announcement>),
    ) -> bool {
        for hard_nonce in round.hard_nonces.iter() {
            match self.mine_nonce(round, hard_nonce, cancelled, progress, found) {
                Outcome::Mined => return true,
                Outcome::Cancelled => return false,
                Outcome::Unusable => {}
            }
        }
        false
    }

    fn mine_nonce(
        &mut self,
        round: &Round,
        hard_nonce: u32,
        cancelled: &AtomicBool,
        progress: &Progress,
        found: &mut dyn FnMut(Vec<Announcement>),
    ) -> Outcome {
        let RoundMemory { table2, tree } = &mut self.memory;
        let header = round.job.header(hard_nonce);
        let hash0 = ann_hash0(&header, &round.job.parent_hash.0);

        let Some(program) = runnable(&hash0) else { return Outcome::Unusable };
        let firsts = (0..).step_by(ITEMS_AT_ONCE);
        for (first, leaves) in firsts.zip(tree.leaves_mut().chunks_mut(ITEMS_AT_ONCE)) {
            if cancelled.load(Ordering::Relaxed) {
                return Outcome::Cancelled;
            }
            self.passes.hash_items(&program, first..first + leaves.len() as u32, leaves);
            progress.items.fetch_add(leaves.len() as u64, Ordering::Relaxed);
        }
        tree.build(&mut *self.passes);

        let Some(program) = runnable(&table2_seed(tree.root(), &hash0)) else { return Outcome::Unusable };
        let firsts = (0..).step_by(ITEMS_AT_ONCE);
        for (first, items) in firsts.zip(table2.chunks_mut(ITEMS_AT_ONCE)) {
            if cancelled.load(Ordering::Relaxed) {
                return Outcome::Cancelled;
            }
            self.passes.make_items(&program, first..first + items.len() as u32, items);
            progress.items.fetch_add(items.len() as u64, Ordering::Relaxed);
        }

        let hash1 = ann_hash1(&header, tree.root());
        let target = round.job.work_bits.target();
        let end = round.job.work_bits.soft_nonce_max() + 1;
        let mut winners = Vec::new();
        for first in (0..end).step_by(NONCES_AT_ONCE as usize) {
            if cancelled.load(Ordering::Relaxed) {
                return Outcome::Cancelled;
            }
            let nonces = first..end.min(first + NONCES_AT_ONCE);
            progress.hashes.fetch_add(nonces.len() as u64, Ordering::Relaxed);
            self.passes.search(table2, &hash1, &target, nonces, &mut winners);
            if !winners.is_empty() {
                found(winners.drain(..).map(|winner| build_announcement(&header, tree, &winner)).collect());
            }
        }
        Outcome::Mined
    }
}

/// A table's program, unless it is one of those (never seen) that cannot be run or would have to be counted.
fn runnable(seed: &Hash64) -> Option<TableProgram> {
    TableProgram::new(seed).ok().filter(TableProgram::is_bounded)
}
