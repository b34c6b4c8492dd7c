//! Items, leaves, parents and the search, one at a time (spec §8).

use std::ops::Range;

use super::{Interpreter, State};
use crate::item::{Columns, Item, TableProgram};
use crate::kernel::{Passes, Winner, check};
use crate::primitives::{b64, first_half};
use crate::program::InvalidProgram;
use crate::search::{ROUNDS, SearchState};
use crate::work::Target;
use crate::{Hash32, Hash64};

/// `ITEM(program, seed, number)` (spec §8).
///
/// # Errors
/// [`InvalidProgram::TooLong`] if a cycle reaches 20001 instructions.
pub fn make_item(
    interpreter: &mut Interpreter,
    table: &TableProgram,
    number: u32,
) -> Result<Item, InvalidProgram> {
    let mut state = table.initial_state().clone();
    state.set_number(number.into());
    interpreter.run(table.program(), number, &mut state)?;
    state.fuzz();
    state.crypt();
    Ok(state.item())
}

/// Hashes the soft nonce that `state` was initialised with; `item` gives an item of table 2. The state ends as the one
/// that masks an announcement. Returns its hash, and the number of the fourth item.
///
/// # Errors
/// The first error of `item`.
pub fn hash_soft_nonce<E>(
    state: &mut State,
    mut item: impl FnMut(u32) -> Result<Item, E>,
) -> Result<(Hash32, u32), E> {
    let mut number = 0;
    for _ in 0..ROUNDS {
        number = state.next_item();
        state.read_item(&item(number)?);
    }
    Ok((state.finish(), number))
}

/// The portable kernel's passes.
#[derive(Default)]
pub struct Portable {
    interpreter: Interpreter,
}

impl Portable {
    /// Passes for one thread.
    pub fn new() -> Self {
        Self::default()
    }

    fn item(&mut self, table: &TableProgram, number: u32) -> Item {
        make_item(&mut self.interpreter, table, number).expect("a bounded program runs to its end")
    }
}

impl Passes for Portable {
    fn make_items(&mut self, table: &TableProgram, items: Range<u32>, out: &mut [Item]) {
        check::items(table, &items, out.len());
        for (number, out) in items.zip(out) {
            *out = self.item(table, number);
        }
    }

    fn make_items_at(&mut self, table: &TableProgram, numbers: &[u32], out: &mut [Item]) {
        check::items_at(table, numbers, out.len());
        for (number, out) in numbers.iter().zip(out) {
            *out = self.item(table, *number);
        }
    }

    fn make_columns(&mut self, table: &TableProgram, mut out: Columns<Item>) {
        check::bounded(table);
        for number in out.items() {
            *out.item_mut(number) = self.item(table, number);
        }
    }

    fn hash_columns(&mut self, table: &TableProgram, mut leaves: Columns<Hash64>) {
        check::bounded(table);
        for number in leaves.items() {
            *leaves.item_mut(number) = b64(&[&self.item(table, number).0]);
        }
    }

    fn hash_items(&mut self, table: &TableProgram, items: Range<u32>, leaves: &mut [Hash64]) {
        check::items(table, &items, leaves.len());
        for (number, leaf) in items.zip(leaves) {
            *leaf = b64(&[&self.item(table, number).0]);
        }
    }

    fn hash_items_at(&mut self, table: &TableProgram, numbers: &[u32], leaves: &mut [Hash64]) {
        check::items_at(table, numbers, leaves.len());
        for (number, leaf) in numbers.iter().zip(leaves) {
            *leaf = b64(&[&self.item(table, *number).0]);
        }
    }

    fn hash_pairs(&mut self, children: &[Hash64], parents: &mut [Hash64]) {
        check::pairs(children, parents);
        for ([left, right], parent) in children.as_chunks().0.iter().zip(parents) {
            *parent = b64(&[left, right]);
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
        let initial = State::init(first_half(ann_hash1));
        let mut state = SearchState::new();
        for soft_nonce in nonces {
            init(&mut state, &initial, soft_nonce);
            for _ in 0..ROUNDS {
                advance(&mut state, table2);
            }
            hash(&mut state);
            if target.is_met_by(state.hash()) {
                winners.push(state.winner());
            }
        }
    }

    fn init_states(&mut self, ann_hash1: &Hash64, soft_nonces: &[u32], states: &mut [SearchState]) {
        check::init_states(soft_nonces, states);
        let initial = State::init(first_half(ann_hash1));
        for (soft_nonce, state) in soft_nonces.iter().zip(states) {
            init(state, &initial, *soft_nonce);
        }
    }

    fn advance_states(&mut self, table2: &[Item], states: &mut [SearchState]) {
        check::advance_states(table2, states);
        for state in states {
            advance(state, table2);
        }
    }

    fn hash_states(&mut self, states: &mut [SearchState]) {
        check::hash_states(states);
        for state in states {
            hash(state);
        }
    }
}

fn init(search: &mut SearchState, initial: &State, soft_nonce: u32) {
    search.state.clone_from(initial);
    search.state.set_number(soft_nonce.into());
    search.soft_nonce = soft_nonce;
    search.round = 0;
}

fn advance(search: &mut SearchState, table2: &[Item]) {
    search.item = search.next_item();
    search.state.read_item(&table2[search.item as usize]);
    search.round += 1;
}

fn hash(search: &mut SearchState) {
    search.state.finish();
    search.round = SearchState::HASHED;
}
