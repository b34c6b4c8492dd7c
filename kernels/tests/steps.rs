//! The search in steps, against the search in one go, for every kernel.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use kernels::item::TABLE_ITEMS;
use kernels::primitives::{b64, expand};
use kernels::search::ROUNDS;
use kernels::{Hash64, Item, Kernel, Passes, SearchState, Table, Target, Winner, WorkBits, work};

fn random_table(seed: u8) -> Table {
    let mut table = Table::new();
    for (number, item) in table.iter_mut().enumerate() {
        expand(&[seed; 32], number as u32, &mut item.0);
    }
    table
}

fn ann_hash1(seed: u32) -> Hash64 {
    b64(&[b"steps", &seed.to_le_bytes()])
}

fn easiest() -> Target {
    WorkBits::new(work::EASIEST).unwrap().target()
}

/// The first `count` numbers below 2^24 of a sequence that visits each once, in no order.
fn scattered(count: u32, seed: u32) -> Vec<u32> {
    (0..count).map(|i| (i.wrapping_mul(0x9e_3779) + seed) & 0xff_ffff).collect()
}

/// Hashed states, one for each soft nonce, over a table in which nothing is but the items that are read.
fn hash_in_steps(passes: &mut dyn Passes, table: &[Item], hash: &Hash64, nonces: &[u32]) -> Vec<SearchState> {
    let mut states = vec![SearchState::new(); nonces.len()];
    passes.init_states(hash, nonces, &mut states);
    for _ in 0..ROUNDS {
        let mut sparse = vec![Item([0x55; Item::LEN]); TABLE_ITEMS];
        for state in &states {
            let number = state.next_item() as usize;
            sparse[number] = table[number];
        }
        passes.advance_states(&sparse, &mut states);
    }
    passes.hash_states(&mut states);
    states
}

#[test]
fn a_search_in_steps_finds_what_a_search_finds() {
    let table = random_table(1);
    for kernel in Kernel::available() {
        let mut passes = kernel.passes();
        for count in [0, 1, 2, 3, 5, 8, 31, 63, 64, 65, 127, 130, 333] {
            let hash = ann_hash1(count);
            let mut expected = Vec::new();
            passes.search(&table, &hash, &easiest(), 1000..1000 + count, &mut expected);
            let nonces: Vec<u32> = (1000..1000 + count).rev().collect();
            let states = hash_in_steps(&mut *passes, &table, &hash, &nonces);
            let met = states.iter().rev().filter(|state| easiest().is_met_by(state.hash()));
            let found: Vec<Winner> = met.map(SearchState::winner).collect();
            assert!(found == expected, "{kernel}, {count} soft nonces");
        }
    }
}

#[test]
fn states_end_alike_with_every_kernel_whatever_their_order() {
    let table = random_table(2);
    for seed in 0..6 {
        let (hash, mut nonces) = (ann_hash1(1000 + seed), scattered(150 + seed, seed));
        nonces.extend([0, 0xff_ffff, nonces[7]]);
        let expected = hash_in_steps(&mut *Kernel::Portable.passes(), &table, &hash, &nonces);
        for kernel in Kernel::available() {
            let found = hash_in_steps(&mut *kernel.passes(), &table, &hash, &nonces);
            for ((found, expected), nonce) in found.iter().zip(&expected).zip(&nonces) {
                assert_eq!(found.soft_nonce(), *nonce);
                assert!(found.winner() == expected.winner(), "{kernel}, soft nonce {nonce}");
                assert_eq!(found.winner().hash(), *found.hash());
            }
        }
    }
}

/// States that were something else before, and are taken through their rounds in pieces.
#[test]
fn states_can_be_used_again_and_advance_in_pieces() {
    let table = random_table(3);
    let nonces = scattered(100, 3);
    for kernel in Kernel::available() {
        let mut passes = kernel.passes();
        let expected = hash_in_steps(&mut *passes, &table, &ann_hash1(1), &nonces);
        let mut states = hash_in_steps(&mut *passes, &table, &ann_hash1(2), &nonces);
        passes.init_states(&ann_hash1(1), &nonces, &mut states);
        for round in 0..ROUNDS as usize {
            let (first, second) = states.split_at_mut(9 + 20 * round);
            passes.advance_states(&table, second);
            passes.advance_states(&table, first);
        }
        passes.hash_states(&mut states[..50]);
        passes.hash_states(&mut states[50..]);
        assert!(states.iter().zip(&expected).all(|(state, expected)| state.winner() == expected.winner()));
    }
}

#[test]
fn steps_refuse_states_that_are_not_before_them() {
    let table = random_table(4);
    for kernel in Kernel::available() {
        let mut passes = kernel.passes();
        let mut refuses = |states: &mut [SearchState],
                           step: fn(&mut dyn Passes, &[Item], &mut [SearchState])| {
            catch_unwind(AssertUnwindSafe(|| step(&mut *passes, &table, states))).is_err()
        };
        let advance = |passes: &mut dyn Passes, table: &[Item], states: &mut [SearchState]| {
            passes.advance_states(table, states);
        };
        let mut states = vec![SearchState::new(); 3];
        assert!(refuses(&mut states, advance), "no soft nonces yet");
        assert!(refuses(&mut states, |passes, _, states| passes.init_states(&[0; 64], &[1, 2], states)));
        assert!(refuses(&mut states, |passes, _, states| {
            passes.init_states(&[0; 64], &[1, 2, 1 << 24], states);
        }));
        assert!(!refuses(&mut states, |passes, _, states| {
            passes.init_states(&[0; 64], &[1, 2, 3], states);
        }));
        assert!(refuses(&mut states, |passes, _, states| passes.hash_states(states)), "no rounds yet");
        assert!(refuses(&mut states, |passes, table, states| passes.advance_states(&table[1..], states)));
        assert!(!refuses(&mut states[..1], advance));
        assert!(refuses(&mut states, advance), "different rounds");
        assert!(catch_unwind(|| states[0].winner()).is_err(), "no hash yet");
    }
}
