//! Which announcements were taken already: a table of short hashes for each parent block.

use std::collections::{HashMap, HashSet};

use super::chain::{Block, Chain};
use crate::protocol::{BlockHash, WINDOW};

/// What became of the announcements of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub accepted: u32,
    pub duplicates: u32,
}

/// The tables have no room for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The tables, by parent block.
#[derive(Debug)]
pub struct Duplicates {
    tables: HashMap<BlockHash, HashSet<u64>>,
    /// Bound on the number of entries in all tables, some 16 bytes each. A batch beyond it is not taken.
    capacity: usize,
}

impl Duplicates {
    pub fn new(capacity: usize) -> Self {
        Self { tables: HashMap::new(), capacity }
    }

    /// Records announcements, all of one parent, by their short hashes.
    pub fn record(&mut self, parent: &Block, hashes: &[u64]) -> Result<Recorded, Full> {
        if self.len() + hashes.len() > self.capacity {
            return Err(Full);
        }
        let table = self.tables.entry(parent.hash).or_default();
        let accepted = hashes.iter().filter(|hash| table.insert(**hash)).count() as u32;
        Ok(Recorded { accepted, duplicates: hashes.len() as u32 - accepted })
    }

    /// Forgets the parents that have left the chain or will not come back into the window. One window more than is
    /// needed stays, since reorganisations may move the window back so far, and no further (see [`Chain::reorganise`]).
    pub fn follow(&mut self, chain: &Chain) {
        let tip = chain.tip().height;
        let kept: HashSet<BlockHash> = ((tip + 1).saturating_sub(2 * WINDOW)..=tip)
            .filter_map(|height| chain.at(height))
            .map(|block| block.hash)
            .collect();
        self.tables.retain(|parent, _| kept.contains(parent));
    }

    fn len(&self) -> usize {
        self.tables.values().map(HashSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn duplicates_are_told_apart_within_a_batch_across_batches_and_by_parent() {
        let chain = Chain::new(0, 100, BTreeMap::new());
        let mut duplicates = Duplicates::new(100);
        let (tip, before) = (chain.tip(), chain.at(99).expect("it is there"));
        assert_eq!(duplicates.record(tip, &[1, 2, 1]), Ok(Recorded { accepted: 2, duplicates: 1 }));
        assert_eq!(duplicates.record(tip, &[2, 3]), Ok(Recorded { accepted: 1, duplicates: 1 }));
        assert_eq!(duplicates.record(before, &[2, 3]), Ok(Recorded { accepted: 2, duplicates: 0 }));
    }

    #[test]
    fn a_full_table_takes_nothing_until_parents_leave_the_window() {
        let mut chain = Chain::new(0, 100, BTreeMap::new());
        let mut duplicates = Duplicates::new(3);
        duplicates.record(chain.tip(), &[1, 2]).expect("there is room");
        assert_eq!(duplicates.record(chain.tip(), &[3, 4]), Err(Full));
        for _ in 0..2 * WINDOW {
            chain.extend();
            duplicates.follow(&chain);
        }
        assert_eq!(duplicates.record(chain.tip(), &[1, 2]), Ok(Recorded { accepted: 2, duplicates: 0 }));
    }

    #[test]
    fn a_lowered_tip_does_not_make_the_pool_forget() {
        let mut chain = Chain::new(0, 100, BTreeMap::new());
        let mut duplicates = Duplicates::new(100);
        let oldest = *chain.window().next().expect("a window");
        duplicates.record(&oldest, &[1]).expect("there is room");
        chain.extend();
        duplicates.follow(&chain);
        chain.reorganise(2, 1).expect("two blocks are there");
        duplicates.follow(&chain);
        assert!(chain.has_in_window(&oldest));
        assert_eq!(duplicates.record(&oldest, &[1]), Ok(Recorded { accepted: 0, duplicates: 1 }));
    }
}
