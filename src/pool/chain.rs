//! The blocks that a pool told of, and the walk back from its tip.

use std::collections::BTreeMap;

use crate::{
    protocol::{BlockHash, BlockInfo},
    values::Block,
};

/// Blocks that are remembered, of the present branch and of those left: more than the longest walk, so that a
/// branch that is come back to is rarely asked for again.
const CAPACITY: usize = 256;

/// A block by name: what the configuration says of the tip, or a block of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockName {
    /// Its hash.
    pub hash: BlockHash,
    /// The height that it must have.
    pub height: u32,
}

/// A walk back from a tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The blocks met, in order of height and without gaps, the tip last.
    pub blocks: Vec<Block>,
    /// The block at which the walk had to stop because nothing is known of it.
    pub missing: Option<BlockName>,
}

/// An answer that is not about the block asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongBlock {
    /// Another hash.
    #[error("it is about block {0}")]
    Hash(BlockHash),
    /// Another height than the configuration, or the block above it, implies.
    #[error("it says height {said}, but the block must be at height {expected}")]
    Height {
        /// What the answer says.
        said: i32,
        /// What follows from the configuration, or from the block above.
        expected: u32,
    },
    /// The signing key is no key.
    #[error("its sigKey is not 64 hexadecimal digits")]
    SigningKey,
}

/// The blocks known. Only blocks that were checked get in.
#[derive(Debug, Default)]
pub struct Chain {
    known: BTreeMap<BlockHash, Known>,
    walks: u64,
}

#[derive(Debug)]
struct Known {
    block: Block,
    previous: BlockHash,
    /// Number of the walk that met it last: the least recently met are forgotten first.
    met: u64,
}

impl Chain {
    /// Walks back from `tip` until `depth` blocks are met, the first block of all is, or one is missing.
    pub fn walk(&mut self, tip: BlockName, depth: u32) -> Walk {
        self.walks += 1;
        let mut walk = Walk { blocks: Vec::new(), missing: None };
        let mut next = tip;
        for _ in 0..depth {
            // A known hash at another height is somebody's lie, or a circle: ask again, then it is found out whose.
            let Some(known) = self.known.get_mut(&next.hash).filter(|k| k.block.height == next.height) else {
                walk.missing = Some(next);
                break;
            };
            known.met = self.walks;
            walk.blocks.push(known.block);
            let Some(height) = next.height.checked_sub(1) else { break };
            next = BlockName { hash: known.previous, height };
        }
        walk.blocks.reverse();
        walk
    }

    /// Takes what the pool says of the block `asked` for.
    ///
    /// # Errors
    /// If it says it of another block.
    pub fn insert(&mut self, asked: BlockName, info: &BlockInfo) -> Result<(), WrongBlock> {
        if info.header.hash != asked.hash {
            return Err(WrongBlock::Hash(info.header.hash));
        }
        if u32::try_from(info.header.height) != Ok(asked.height) {
            return Err(WrongBlock::Height { said: info.header.height, expected: asked.height });
        }
        let signing_key = info.signing_key().ok_or(WrongBlock::SigningKey)?;
        let block = Block { hash: asked.hash, height: asked.height, signing_key };
        let previous = info.header.previousblockhash;
        self.known.insert(asked.hash, Known { block, previous, met: self.walks });
        if self.known.len() > CAPACITY {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.met).map(|(hash, _)| *hash);
            oldest.and_then(|hash| self.known.remove(&hash));
        }
        Ok(())
    }

    /// The block by which `block` was named as the one before it.
    pub fn namer_of(&self, block: BlockName) -> Option<BlockName> {
        let names = |known: &&Known| {
            known.previous == block.hash && Some(known.block.height) == block.height.checked_add(1)
        };
        let Block { hash, height, .. } = self.known.values().find(names)?.block;
        Some(BlockName { hash, height })
    }

    /// How many blocks are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;
    use serde_json::json;

    fn hash(n: u8) -> BlockHash {
        BlockHash([n; 32])
    }

    fn name(n: u8, height: u32) -> BlockName {
        BlockName { hash: hash(n), height }
    }

    fn info(n: u8, height: u32, previous: u8) -> BlockInfo {
        let header = json!({"hash": hash(n), "height": height, "previousblockhash": hash(previous)});
        BlockInfo::parse(json!({"header": header}).to_string().as_bytes()).unwrap()
    }

    fn heights(walk: &Walk) -> Vec<u32> {
        walk.blocks.iter().map(|b| b.height).collect()
    }

    #[test]
    fn a_walk_stops_at_its_depth_at_the_first_block_or_at_what_is_missing() {
        let mut chain = Chain::default();
        assert_eq!(chain.walk(name(2, 2), 6), Walk { blocks: vec![], missing: Some(name(2, 2)) });
        chain.insert(name(2, 2), &info(2, 2, 1)).unwrap();
        chain.insert(name(1, 1), &info(1, 1, 100)).unwrap();
        assert_eq!(chain.walk(name(2, 2), 6).missing, Some(name(100, 0)));
        assert_eq!(chain.walk(name(2, 2), 2).missing, None);
        chain.insert(name(100, 0), &info(100, 0, 0)).unwrap();
        let walk = chain.walk(name(2, 2), 6);
        assert_eq!((heights(&walk), walk.missing), (vec![0, 1, 2], None));
    }

    #[test]
    fn an_answer_about_another_block_is_refused() {
        let mut chain = Chain::default();
        assert_eq!(chain.insert(name(2, 2), &info(3, 2, 1)), Err(WrongBlock::Hash(hash(3))));
        let wrong = WrongBlock::Height { said: 3, expected: 2 };
        assert_eq!(chain.insert(name(2, 2), &info(2, 3, 1)), Err(wrong));
        assert_eq!(chain.len(), 0);
    }

    #[test]
    fn a_circle_ends_where_it_closes() {
        let mut chain = Chain::default();
        chain.insert(name(2, 9), &info(2, 9, 1)).unwrap();
        chain.insert(name(1, 8), &info(1, 8, 2)).unwrap();
        let walk = chain.walk(name(2, 9), 100);
        assert_eq!((heights(&walk), walk.missing), (vec![8, 9], Some(name(2, 7))));
    }

    #[test]
    fn what_was_not_met_for_long_is_forgotten_first() {
        let mut chain = Chain::default();
        let at = |height: u32| BlockName {
            hash: BlockHash([height.to_le_bytes(); 8].concat().try_into().unwrap()),
            height,
        };
        for height in 1..=1000 {
            let mut info = info(0, height, 0);
            (info.header.hash, info.header.previousblockhash) = (at(height).hash, at(height - 1).hash);
            chain.insert(at(height), &info).unwrap();
            let walk = chain.walk(at(height), 101);
            assert_eq!(walk.blocks.len() as u32, height.min(101));
            assert!(chain.len() <= CAPACITY);
        }
    }
}
