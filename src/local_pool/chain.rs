//! The simulated chain: what blocks there are follows from the seed and from what was done, never from a clock.

use std::collections::{BTreeMap, VecDeque};

use kernels::primitives::b32;

use crate::protocol::{BlockHash, BlockHeader, WINDOW};

/// How many blocks of the current branch are remembered, and as many that a reorganisation took away.
const HISTORY: u32 = 256;

/// The deepest reorganisation that there can ever be.
pub const DEEPEST: u32 = HISTORY - WINDOW;

/// A block of the simulated chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub hash: BlockHash,
    pub height: u32,
    pub previous: BlockHash,
}

/// A reorganisation that cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the chain cannot be reorganised {depth} blocks deep and end {lower} lower: the depth must be 1 to {deepest}, \
     and it can end {lowest} lower at most"
)]
pub struct ReorganiseError {
    depth: u32,
    lower: u32,
    deepest: u32,
    lowest: u32,
}

/// The newest blocks of the current branch, and the newest of those that it left.
#[derive(Debug)]
pub struct Chain {
    seed: u64,
    branch: u32,
    /// The greatest height that there has been.
    highest: u32,
    /// In order of height, without gaps; never empty.
    blocks: VecDeque<Block>,
    /// A miner may still ask for their blkinfo.
    orphans: VecDeque<Block>,
    /// Hashes that blocks of the first branch have instead of simulated ones.
    fixed: BTreeMap<u32, BlockHash>,
}

impl Chain {
    /// A chain whose newest block is at `tip_height`.
    pub fn new(seed: u64, tip_height: u32, fixed: BTreeMap<u32, BlockHash>) -> Self {
        let first = (tip_height + 1).saturating_sub(HISTORY);
        let mut chain = Self {
            seed,
            branch: 0,
            highest: first,
            blocks: VecDeque::new(),
            orphans: VecDeque::new(),
            fixed,
        };
        let previous = match first.checked_sub(1) {
            Some(height) => chain.hash_at(height),
            None => BlockHash([0; 32]),
        };
        let hash = chain.hash_at(first);
        chain.blocks.push_back(Block { hash, height: first, previous });
        while chain.tip().height < tip_height {
            chain.extend();
        }
        chain
    }

    /// The newest block.
    pub fn tip(&self) -> &Block {
        self.blocks.back().expect("a chain is never empty")
    }

    /// The block of the current branch at a height, if it is remembered.
    pub fn at(&self, height: u32) -> Option<&Block> {
        let first = self.blocks.front()?.height;
        self.blocks.get(height.checked_sub(first)? as usize)
    }

    /// The block with a hash, whichever branch it is on.
    pub fn find(&self, hash: &BlockHash) -> Option<&Block> {
        self.blocks.iter().rev().chain(&self.orphans).find(|block| block.hash == *hash)
    }

    /// The parents that announcements are taken for, oldest first.
    pub fn window(&self) -> impl Iterator<Item = &Block> {
        self.blocks.range(self.blocks.len().saturating_sub(WINDOW as usize)..)
    }

    /// Whether announcements on this very block are taken.
    pub fn has_in_window(&self, block: &Block) -> bool {
        self.window().any(|other| other == block)
    }

    /// Adds a block.
    pub fn extend(&mut self) {
        let (previous, height) = (self.tip().hash, self.tip().height + 1);
        let hash = self.hash_at(height);
        self.blocks.push_back(Block { hash, height, previous });
        self.highest = self.highest.max(height);
        if self.blocks.len() > HISTORY as usize {
            self.blocks.pop_front();
        }
    }

    /// Replaces the newest `depth` blocks by `depth − lower` others.
    ///
    /// # Errors
    /// If that many blocks are not remembered, `lower` is more than `depth`, or the newest block would be more than
    /// [`WINDOW`] below the highest that there has been: what was taken for the blocks there is forgotten.
    pub fn reorganise(&mut self, depth: u32, lower: u32) -> Result<(), ReorganiseError> {
        // The window must stay full, so that every parent in it has a block.
        let deepest = (self.blocks.len() as u32).saturating_sub(WINDOW).max(1);
        let fallen = self.highest - self.tip().height;
        let lowest = WINDOW.saturating_sub(fallen).min(depth);
        if depth == 0 || depth > deepest || depth as usize >= self.blocks.len() || lower > lowest {
            return Err(ReorganiseError { depth, lower, deepest, lowest });
        }
        for _ in 0..depth {
            self.orphans.extend(self.blocks.pop_back());
        }
        while self.orphans.len() > HISTORY as usize {
            self.orphans.pop_front();
        }
        self.branch += 1;
        for _ in lower..depth {
            self.extend();
        }
        Ok(())
    }

    fn hash_at(&self, height: u32) -> BlockHash {
        if let (0, Some(hash)) = (self.branch, self.fixed.get(&height)) {
            return *hash;
        }
        let (seed, branch) = (self.seed.to_le_bytes(), self.branch.to_le_bytes());
        let mut hash = b32(&[b"pktmine simulated chain", &seed, &branch, &height.to_le_bytes()]);
        // Displayed hashes of real blocks begin with zeros.
        hash[29..].fill(0);
        BlockHash(hash)
    }
}

impl Block {
    /// The block's header as a master tells it. What nobody mines by is made up, the same each time.
    pub fn header(&self) -> BlockHeader {
        BlockHeader {
            hash: self.hash,
            height: i32::try_from(self.height).unwrap_or(i32::MAX),
            version: 0x2000_0000,
            version_hex: "20000000".into(),
            merkleroot: BlockHash(self.hash.0.map(|byte| !byte)),
            time: 1_566_269_808_u32.saturating_add(self.height.saturating_mul(60)),
            nonce: u32::from_le_bytes([self.hash.0[0], self.hash.0[1], self.hash.0[2], self.hash.0[3]]),
            bits: "1c00ffff".into(),
            difficulty: 256.0,
            previousblockhash: self.previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain::new(7, 1000, BTreeMap::new())
    }

    #[test]
    fn the_same_seed_and_history_give_the_same_blocks() {
        let (mut a, mut b) = (chain(), chain());
        for chain in [&mut a, &mut b] {
            chain.extend();
            chain.reorganise(2, 0).expect("two blocks are there");
            chain.extend();
        }
        assert_eq!(a.blocks, b.blocks);
        assert_ne!(a.tip().hash, Chain::new(8, 1002, BTreeMap::new()).tip().hash);
        assert_ne!(a.tip().hash, Chain::new(7, 1002, BTreeMap::new()).tip().hash, "another branch");
    }

    #[test]
    fn blocks_are_linked_and_the_window_holds_the_newest_six() {
        let mut chain = chain();
        (0..500).for_each(|_| chain.extend());
        let mut block = *chain.tip();
        for _ in 1..HISTORY {
            let previous = *chain.find(&block.previous).expect("the block before is remembered");
            assert_eq!(previous.height + 1, block.height);
            block = previous;
        }
        assert_eq!(chain.find(&block.previous), None, "and no more than that");
        let window: Vec<u32> = chain.window().map(|block| block.height).collect();
        assert_eq!(window, [1495, 1496, 1497, 1498, 1499, 1500]);
    }

    #[test]
    fn a_reorganisation_keeps_what_is_below_it_and_may_end_lower() {
        let mut chain = chain();
        let old = chain.blocks.clone();
        chain.reorganise(3, 2).expect("three blocks are there");
        assert_eq!(chain.tip().height, 998);
        assert_eq!(chain.at(997), old.iter().find(|block| block.height == 997));
        let gone = old.iter().find(|block| block.height == 998).expect("it was there");
        assert_ne!(chain.tip().hash, gone.hash);
        assert_eq!(chain.find(&gone.hash), Some(gone), "a block that was left can still be asked for");
        assert!(!chain.has_in_window(gone));
    }

    #[test]
    fn reorganisations_never_end_more_than_a_window_below_the_highest_block() {
        let mut chain = chain();
        for lower in [4, 2] {
            chain.reorganise(5, lower).expect("not too low");
        }
        let error = chain.reorganise(5, 1).expect_err("too low").to_string();
        assert!(error.ends_with("it can end 0 lower at most"), "{error}");
        assert_eq!(chain.tip().height, 1000 - WINDOW);
        chain.reorganise(5, 0).expect("not lower");
        chain.extend();
        chain.reorganise(5, 1).expect("as low as before");
    }

    #[test]
    fn a_reorganisation_that_cannot_be_done_changes_nothing() {
        let mut chain = chain();
        let tip = *chain.tip();
        for (depth, lower) in [(0, 0), (1, 2), (HISTORY, 0), (u32::MAX, 0)] {
            chain.reorganise(depth, lower).expect_err("cannot be done");
        }
        assert_eq!(*chain.tip(), tip);
    }

    #[test]
    fn a_chain_may_start_at_the_first_block_of_all() {
        let chain = Chain::new(0, 0, BTreeMap::new());
        assert_eq!((chain.tip().height, chain.tip().previous), (0, BlockHash([0; 32])));
        assert_eq!(chain.window().count(), 1);
    }

    #[test]
    fn fixed_hashes_replace_simulated_ones() {
        let hash = BlockHash([9; 32]);
        let chain = Chain::new(0, 50, BTreeMap::from([(48, hash)]));
        assert_eq!(chain.at(48).map(|block| block.hash), Some(hash));
        assert_eq!(chain.at(49).map(|block| block.previous), Some(hash));
    }
}
