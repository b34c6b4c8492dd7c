//! The passes of this kernel.

use std::ops::Range;

use super::Avx2;
use super::items::{Items, Wanted};
use super::search::{self, Search};
use crate::Hash64;
use crate::item::{Columns, Item, TableProgram};
use crate::kernel::{Passes, Winner, check};
use crate::portable::State;
use crate::primitives::first_half;
use crate::search::SearchState;
use crate::work::Target;

/// The AVX2 kernel's passes.
pub struct Avx2Passes {
    avx2: Avx2,
    items: Items,
    search: Search,
}

impl Avx2Passes {
    /// Passes for one thread.
    pub fn new(avx2: Avx2) -> Self {
        Self { avx2, items: Items::new(avx2), search: Search::new() }
    }
}

/// Items in the order of their places.
fn wanted(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = Wanted> {
    numbers.enumerate().map(|(place, number)| Wanted { place: place as u32, number })
}

impl Passes for Avx2Passes {
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
        self.avx2.hash_pairs(children, parents);
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
        let Avx2(()) = self.avx2;
        // SAFETY: an `Avx2` exists, so the processor has it.
        unsafe { self.search.search(table2, ann_hash1, target, nonces, winners) }
    }

    fn init_states(&mut self, ann_hash1: &Hash64, soft_nonces: &[u32], states: &mut [SearchState]) {
        check::init_states(soft_nonces, states);
        search::init(&State::init(first_half(ann_hash1)), soft_nonces.iter().copied(), states);
    }

    fn advance_states(&mut self, table2: &[Item], states: &mut [SearchState]) {
        let last = check::advance_states(table2, states);
        let Avx2(()) = self.avx2;
        // SAFETY: an `Avx2` exists, so the processor has it.
        unsafe { self.search.advance(table2, states, last) }
    }

    fn hash_states(&mut self, states: &mut [SearchState]) {
        check::hash_states(states);
        let Avx2(()) = self.avx2;
        // SAFETY: an `Avx2` exists, so the processor has it.
        unsafe { search::hash(states) }
    }
}
