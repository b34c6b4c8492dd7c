//! The passes of a kernel for vectors.

use std::ops::Range;
use std::ptr;

use super::Vectors;
use super::items::{Items, Wanted};
use super::search::{self, Search};
use crate::Hash64;
use crate::item::{Columns, Item, TableProgram};
use crate::kernel::{Passes, Winner, check};
use crate::portable::State;
use crate::primitives::first_half;
use crate::search::SearchState;
use crate::work::Target;

/// The passes by the instructions of `V`.
pub(crate) struct VectorPasses<V> {
    vectors: V,
    items: Items<V>,
    search: Search<V>,
}

impl<V: Vectors> VectorPasses<V> {
    /// Passes for one thread.
    pub fn new(vectors: V) -> Self {
        Self { vectors, items: Items::new(vectors), search: Search::new(vectors) }
    }
}

/// Pairs that are hashed at a time.
const PAIRS: usize = 64;

/// Items in the order of their places.
fn wanted(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = Wanted> {
    numbers.enumerate().map(|(place, number)| Wanted { place: place as u32, number })
}

impl<V: Vectors> Passes for VectorPasses<V> {
    fn make_items(&mut self, table: &TableProgram, items: Range<u32>, out: &mut [Item]) {
        check::items(table, &items, out.len());
        self.items.make(table, wanted(items), |place, _, item| item.store(&mut out[place]));
    }

    fn make_items_at(&mut self, table: &TableProgram, numbers: &[u32], out: &mut [Item]) {
        check::items_at(table, numbers, out.len());
        self.items.make(table, wanted(numbers.iter().copied()), |place, _, item| item.store(&mut out[place]));
    }

    fn make_columns(&mut self, table: &TableProgram, mut out: Columns<Item>) {
        check::bounded(table);
        self.items.make(table, wanted(out.items()), |_, number, item| item.store(out.item_mut(number)));
    }

    fn hash_columns(&mut self, table: &TableProgram, mut leaves: Columns<Hash64>) {
        check::bounded(table);
        self.items.hash(table, wanted(leaves.items()), |_, number, leaf| *leaves.item_mut(number) = leaf);
    }

    fn hash_items(&mut self, table: &TableProgram, items: Range<u32>, leaves: &mut [Hash64]) {
        check::items(table, &items, leaves.len());
        self.items.hash(table, wanted(items), |place, _, leaf| leaves[place] = leaf);
    }

    fn hash_items_at(&mut self, table: &TableProgram, numbers: &[u32], leaves: &mut [Hash64]) {
        check::items_at(table, numbers, leaves.len());
        self.items.hash(table, wanted(numbers.iter().copied()), |place, _, leaf| leaves[place] = leaf);
    }

    fn hash_pairs(&mut self, children: &[Hash64], parents: &mut [Hash64]) {
        check::pairs(children, parents);
        for (children, parents) in children.chunks(2 * PAIRS).zip(parents.chunks_mut(PAIRS)) {
            let messages = &mut [ptr::null(); PAIRS][..parents.len()];
            for (message, pair) in messages.iter_mut().zip(children.as_chunks::<2>().0) {
                *message = pair.as_ptr().cast();
            }
            // SAFETY: pairs are 128 bytes.
            unsafe { self.vectors.hash(messages, size_of::<[Hash64; 2]>(), |i, parent| parents[i] = parent) };
        }
    }

    fn search(
        &mut self,
        table2: &[Item],
        ann_hash1: &Hash64,
        target: &Target,
        nonces: Range<u32>,
        winners: &mut Vec<Winner>,
    ) {
        check::search(table2, &nonces);
        // SAFETY: there is a `V`, so the processor has AVX2.
        unsafe { self.search.search(table2, ann_hash1, target, nonces, winners) }
    }

    fn init_states(&mut self, ann_hash1: &Hash64, soft_nonces: &[u32], states: &mut [SearchState]) {
        check::init_states(soft_nonces, states);
        search::init(&State::init(first_half(ann_hash1)), soft_nonces.iter().copied(), states);
    }

    fn advance_states(&mut self, table2: &[Item], states: &mut [SearchState]) {
        let last = check::advance_states(table2, states);
        // SAFETY: there is a `V`, so the processor has AVX2.
        unsafe { self.search.advance(table2, states, last) }
    }

    fn hash_states(&mut self, states: &mut [SearchState]) {
        check::hash_states(states);
        // SAFETY: there is a `V`, so the processor has AVX2.
        unsafe { search::hash(self.vectors, states) }
    }
}
