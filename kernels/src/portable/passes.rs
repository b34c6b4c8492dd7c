//! Items, leaves, parents and the search, one at a time (spec §8).

use std::convert::Infallible;
use std::ops::Range;

use super::{Interpreter, State};
use crate::item::{Item, TableProgram};
use crate::kernel::{Passes, Winner, check};
use crate::primitives::{b32, b64};
use crate::program::InvalidProgram;
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

/// Hashes the soft nonce that `state` was initialised with; `item` copies an item of table 2 to where it is told to.
/// The state ends as the one that masks an announcement. Returns its hash, and the number of the fourth item.
///
/// # Errors
/// The first error of `item`.
pub fn hash_soft_nonce<E>(
    state: &mut State,
    mut item: impl FnMut(u32, &mut [u8]) -> Result<(), E>,
) -> Result<(Hash32, u32), E> {
    let mut number = 0;
    for _ in 0..4 {
        number = state.next_item();
        item(number, &mut state.0[32..32 + Item::LEN])?;
        state.fuzz();
        state.crypt();
    }
    let hash = b32(&[&state.0]);
    state.0[..32].copy_from_slice(&hash);
    Ok((hash, number))
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

    fn hash_items(&mut self, table: &TableProgram, items: Range<u32>, leaves: &mut [Hash64]) {
        check::items(table, &items, leaves.len());
        for (number, leaf) in items.zip(leaves) {
            *leaf = b64(&[&self.item(table, number).0]);
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
        let initial = State::init(crate::round::first_half(ann_hash1));
        for soft_nonce in nonces {
            let mut state = initial.clone();
            state.set_number(soft_nonce.into());
            let copy_item = |number: u32, out: &mut [u8]| {
                out.copy_from_slice(&table2[number as usize].0);
                Ok::<(), Infallible>(())
            };
            let Ok((hash, item)) = hash_soft_nonce(&mut state, copy_item);
            if target.is_met_by(&hash) {
                winners.push(Winner::new(soft_nonce, item, &state.0));
            }
        }
    }
}
