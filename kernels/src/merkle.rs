//! The Merkle tree over table 1 (spec §8).

use crate::announcement::MERKLE_DEPTH;
use crate::item::TABLE_ITEMS;
use crate::primitives::b64;
use crate::{Hash64, Passes};

/// Hashes of a tree: 8192 leaves, 4096 parents, and so on up to the root.
const HASHES: usize = 2 * TABLE_ITEMS - 1;

/// A tree over 8192 leaves: 16383 hashes, 1 MiB, on the heap; to be used over and over.
pub struct MerkleTree {
    /// All levels, leaves first, the root last.
    hashes: Box<[Hash64]>,
}

impl MerkleTree {
    /// A tree of zeros.
    pub fn new() -> Self {
        Self { hashes: vec![[0; 64]; HASHES].into_boxed_slice() }
    }

    /// The 8192 leaves, to be filled in before [`build`](Self::build).
    pub fn leaves_mut(&mut self) -> &mut [Hash64] {
        &mut self.hashes[..TABLE_ITEMS]
    }

    /// Makes all levels from the leaves.
    pub fn build(&mut self, passes: &mut dyn Passes) {
        for level in 1..=MERKLE_DEPTH {
            let (children, parents) = self.level_mut(level);
            passes.hash_pairs(children, parents);
        }
    }

    /// A level, 1 to 13, with its children, for [`Passes::hash_pairs`]: a team builds a tree level by level, each of
    /// its threads a range of the level's parents and twice that range of children.
    ///
    /// # Panics
    /// If there is no such level.
    pub fn level_mut(&mut self, level: usize) -> (&[Hash64], &mut [Hash64]) {
        assert!(
            (1..=MERKLE_DEPTH).contains(&level),
            "a tree has levels 1 to {MERKLE_DEPTH} above its leaves"
        );
        let parents = TABLE_ITEMS >> level;
        let (below, above) = self.hashes.split_at_mut(HASHES + 1 - 2 * parents);
        (&below[below.len() - 2 * parents..], &mut above[..parents])
    }

    /// The root, once built.
    pub fn root(&self) -> &Hash64 {
        &self.hashes[HASHES - 1]
    }

    /// The siblings on the way from leaf `item` to the root, the leaf's own first.
    ///
    /// # Panics
    /// If there is no such leaf.
    pub fn branch(&self, item: u32) -> [Hash64; MERKLE_DEPTH] {
        assert!((item as usize) < TABLE_ITEMS, "a tree has {TABLE_ITEMS} leaves");
        let mut level = 0;
        let mut at = item as usize;
        std::array::from_fn(|depth| {
            let sibling = self.hashes[level + (at ^ 1)];
            level += TABLE_ITEMS >> depth;
            at /= 2;
            sibling
        })
    }
}

impl Default for MerkleTree {
    fn default() -> Self {
        Self::new()
    }
}

/// The root that a branch leads to from leaf `item`.
pub(crate) fn root_of_branch(item: u32, leaf: Hash64, branch: &[Hash64; MERKLE_DEPTH]) -> Hash64 {
    branch.iter().enumerate().fold(leaf, |node, (depth, sibling)| {
        if item >> depth & 1 == 0 { b64(&[&node, sibling]) } else { b64(&[sibling, &node]) }
    })
}
