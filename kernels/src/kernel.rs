//! Which kernels there are, and the passes that each one provides.

use std::ops::Range;
use std::str::FromStr;

#[cfg(target_arch = "x86_64")]
use crate::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::avx512::Avx512;
use crate::item::{Columns, Item, TableProgram};
use crate::portable::Portable;
use crate::search::SearchState;
#[cfg(target_arch = "x86_64")]
use crate::vector::VectorPasses;
use crate::work::Target;
use crate::{Hash32, Hash64};

/// An implementation of the passes, chosen once, at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Plain code for any processor: the definition.
    Portable,
    /// For x86-64 processors with AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// For x86-64 processors with AVX-512, from Intel's Ice Lake and AMD's Zen 4 on.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Kernel {
    /// The fastest that this processor can run.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// All that this processor can run, fastest first.
    pub fn available() -> Vec<Self> {
        let mut available = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            available.extend(Avx512::new().map(Self::Avx512));
            available.extend(Avx2::new().map(Self::Avx2));
        }
        available.push(Self::Portable);
        available
    }

    /// What [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        }
    }

    /// Passes for one thread.
    pub fn passes(self) -> Box<dyn Passes> {
        match self {
            Self::Portable => Box::new(Portable::new()),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => Box::new(VectorPasses::new(avx2)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => Box::new(VectorPasses::new(avx512)),
        }
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A name that belongs to none of this processor's kernels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no kernel `{name}` on this processor; it can run {}", names(&Kernel::available()))]
pub struct UnknownKernel {
    name: String,
}

fn names(kernels: &[Kernel]) -> String {
    kernels.iter().map(|kernel| kernel.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Kernel {
    type Err = UnknownKernel;

    fn from_str(name: &str) -> Result<Self, UnknownKernel> {
        let known = Self::available().into_iter().find(|kernel| kernel.name() == name);
        known.ok_or_else(|| UnknownKernel { name: name.to_owned() })
    }
}

/// The passes of a round, as one kernel provides them: one value per thread, which owns its scratch memory.
///
/// Every pass takes a range and the buffers of its caller, so that several threads can share a table and a job can be
/// dropped between two calls. All kernels give the same results, bit by bit.
pub trait Passes: Send {
    /// Makes items `items` of `table`: item `items.start + i` into `out[i]`.
    ///
    /// # Panics
    /// If `out` is not as long as the range, the range goes past 8192, or the table's program is not
    /// [bounded](TableProgram::is_bounded).
    fn make_items(&mut self, table: &TableProgram, items: Range<u32>, out: &mut [Item]);

    /// Makes the items `numbers` of `table`, in any order: item `numbers[i]` into `out[i]`.
    ///
    /// # Panics
    /// As [`make_items`](Self::make_items), for each of the numbers.
    fn make_items_at(&mut self, table: &TableProgram, numbers: &[u32], out: &mut [Item]);

    /// Makes all items of some columns of `table`: the quick way to a whole table. Columns take turns 64 at a time, so
    /// multiples of that are best.
    ///
    /// # Panics
    /// If the table's program is not [bounded](TableProgram::is_bounded).
    fn make_columns(&mut self, table: &TableProgram, out: Columns<Item>);

    /// Makes all items of some columns of `table` and hashes them into their Merkle leaves, but does not store them:
    /// the quick way to a whole tree.
    ///
    /// # Panics
    /// As [`make_columns`](Self::make_columns).
    fn hash_columns(&mut self, table: &TableProgram, leaves: Columns<Hash64>);

    /// Makes items `items` of `table` and hashes them, but does not store them: `leaves[i]` is the Merkle leaf of item
    /// `items.start + i`.
    ///
    /// # Panics
    /// As [`make_items`](Self::make_items), for `leaves`.
    fn hash_items(&mut self, table: &TableProgram, items: Range<u32>, leaves: &mut [Hash64]);

    /// Makes the items `numbers` of `table`, in any order, and hashes them, but does not store them: `leaves[i]` is the
    /// Merkle leaf of item `numbers[i]`.
    ///
    /// # Panics
    /// As [`make_items_at`](Self::make_items_at), for `leaves`.
    fn hash_items_at(&mut self, table: &TableProgram, numbers: &[u32], leaves: &mut [Hash64]);

    /// Hashes neighbours: `parents[i]` of `children[2 * i]` and `children[2 * i + 1]`.
    ///
    /// # Panics
    /// If there are not twice as many children as parents.
    fn hash_pairs(&mut self, children: &[Hash64], parents: &mut [Hash64]);

    /// Hashes the soft nonces of a range over table 2 (spec §8, step 5) and adds those that meet the target to
    /// `winners`, lowest soft nonce first.
    ///
    /// # Panics
    /// If `table2` has not 8192 items, or the range goes past 2^24.
    fn search(
        &mut self,
        table2: &[Item],
        ann_hash1: &Hash64,
        target: &Target,
        nonces: Range<u32>,
        winners: &mut Vec<Winner>,
    );

    /// Starts a search in steps, on states that the caller owns: INIT of soft nonce `soft_nonces[i]` into `states[i]`
    /// (spec §8, step 5). Soft nonces come in any order, and the same ones as often as one likes.
    ///
    /// # Panics
    /// If there are not as many states as soft nonces, or a soft nonce has more than 24 bits.
    fn init_states(&mut self, ann_hash1: &Hash64, soft_nonces: &[u32], states: &mut [SearchState]);

    /// Takes states through one of their four rounds: each reads its [next item](SearchState::next_item), FUZZ, CRYPT.
    /// Of table 2, the items that are read must be there; it makes no difference what the others are.
    ///
    /// # Panics
    /// If `table2` has not 8192 items, or the states are not all before the same round.
    fn advance_states(&mut self, table2: &[Item], states: &mut [SearchState]);

    /// Hashes states that are behind their four rounds, whatever their hashes: see [`SearchState::hash`] and
    /// [`SearchState::winner`].
    ///
    /// # Panics
    /// If some states are not.
    fn hash_states(&mut self, states: &mut [SearchState]);
}

/// A soft nonce whose hash meets the target, and what its announcement is made of (spec §9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Winner {
    /// The soft nonce.
    pub soft_nonce: u32,
    /// The item that the fourth round read, whose Merkle branch goes into the announcement.
    pub item: u32,
    /// The start of the final state, the hash in bytes 0..32.
    pub mask: [u8; Self::MASK_LEN],
}

impl Winner {
    /// How much of the final state masks an announcement, in bytes.
    pub const MASK_LEN: usize = 872;

    /// The winner of a final state, whose first 32 bytes are its hash.
    ///
    /// # Panics
    /// If the state is shorter than the mask.
    pub fn new(soft_nonce: u32, item: u32, state: &[u8]) -> Self {
        let mask = *state.first_chunk().expect("a state is longer than the mask");
        Self { soft_nonce, item, mask }
    }

    /// The hash that meets the target.
    pub fn hash(&self) -> Hash32 {
        *self.mask.first_chunk().expect("the mask is longer than a hash")
    }
}

/// The shapes that all kernels hold their callers to, see [`Passes`].
pub(crate) mod check {
    use super::*;
    use crate::item::TABLE_ITEMS;
    use crate::search::ROUNDS;

    pub(crate) fn items(table: &TableProgram, items: &Range<u32>, out: usize) {
        assert!(items.end as usize <= TABLE_ITEMS, "items {items:?} go past the table's {TABLE_ITEMS}");
        assert_eq!(items.len(), out, "items {items:?} need as many places");
        bounded(table);
    }

    pub(crate) fn items_at(table: &TableProgram, numbers: &[u32], out: usize) {
        for number in numbers {
            assert!((*number as usize) < TABLE_ITEMS, "item {number} is past the table's {TABLE_ITEMS}");
        }
        assert_eq!(numbers.len(), out, "{} items need as many places", numbers.len());
        bounded(table);
    }

    pub(crate) fn bounded(table: &TableProgram) {
        assert!(table.is_bounded(), "the table's program might execute too many instructions");
    }

    pub(crate) fn pairs(children: &[Hash64], parents: &[Hash64]) {
        assert_eq!(children.len(), 2 * parents.len(), "a parent has two children");
    }

    pub(crate) fn search(table2: &[Item], nonces: &Range<u32>) {
        assert_eq!(table2.len(), TABLE_ITEMS, "table 2 has {TABLE_ITEMS} items");
        assert!(nonces.end <= 1 << 24, "soft nonces {nonces:?} go past 24 bits");
    }

    pub(crate) fn init_states(soft_nonces: &[u32], states: &[SearchState]) {
        assert_eq!(soft_nonces.len(), states.len(), "a state for each soft nonce");
        for soft_nonce in soft_nonces {
            assert!(*soft_nonce < 1 << 24, "soft nonce {soft_nonce} has more than 24 bits");
        }
    }

    /// Whether it is the last round that the states are before.
    pub(crate) fn advance_states(table2: &[Item], states: &[SearchState]) -> bool {
        assert_eq!(table2.len(), TABLE_ITEMS, "table 2 has {TABLE_ITEMS} items");
        let round = states.first().map_or(0, |state| state.round);
        assert!(round < ROUNDS, "the states are behind their {ROUNDS} rounds");
        assert!(states.iter().all(|state| state.round == round), "all states are before the same round");
        round + 1 == ROUNDS
    }

    pub(crate) fn hash_states(states: &[SearchState]) {
        assert!(
            states.iter().all(|state| state.round == ROUNDS),
            "the states are behind their {ROUNDS} rounds"
        );
    }
}
