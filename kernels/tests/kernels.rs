//! Every kernel against the portable one, bit by bit.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;

use kernels::item::TABLE_ITEMS;
use kernels::portable::State;
use kernels::primitives::{b64, expand};
use kernels::{Hash64, Item, Kernel, Table, Target, Winner, WorkBits, work};

fn fast_kernels() -> impl Iterator<Item = Kernel> {
    Kernel::available().into_iter().filter(|kernel| *kernel != Kernel::Portable)
}

fn random_table(seed: u8) -> Table {
    let mut table = Table::new();
    for (number, item) in table.iter_mut().enumerate() {
        expand(&[seed; 32], number as u32, &mut item.0);
    }
    table
}

fn target(bits: u32) -> Target {
    WorkBits::new(bits).unwrap().target()
}

fn ann_hash1(seed: u32) -> Hash64 {
    b64(&[&seed.to_le_bytes()])
}

fn first_header(ann_hash1: &Hash64) -> u32 {
    let state = State::init(ann_hash1.first_chunk().unwrap());
    u32::from_le_bytes(state.0[16..20].try_into().unwrap())
}

fn search(
    kernel: Kernel,
    table2: &[Item],
    ann_hash1: &Hash64,
    target: &Target,
    nonces: std::ops::Range<u32>,
) -> Vec<Winner> {
    let mut winners = Vec::new();
    kernel.passes().search(table2, ann_hash1, target, nonces, &mut winners);
    winners
}

/// Every winner's mask holds most of the final state, and its hash the whole: half of the nonces win.
fn same_winners(kernel: Kernel, table2: &[Item], ann_hash1: &Hash64, nonces: std::ops::Range<u32>) {
    let target = target(work::EASIEST);
    let expected = search(Kernel::Portable, table2, ann_hash1, &target, nonces.clone());
    let found = search(kernel, table2, ann_hash1, &target, nonces.clone());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.soft_nonce, expected.soft_nonce, "{kernel}, nonces {nonces:?}");
        assert!(found == expected, "{kernel}, winner {}", expected.soft_nonce);
    }
    assert_eq!(found.len(), expected.len(), "{kernel}, nonces {nonces:?}");
}

#[test]
fn a_search_finds_the_same_winners_whatever_the_range() {
    let table = random_table(1);
    for kernel in fast_kernels() {
        let mut start = 0;
        for len in (0..70).chain([96, 127, 128, 129, 500]) {
            same_winners(kernel, &table, &ann_hash1(len), start..start + len);
            start = (start * 5 + len + 3) % 0xff_0000;
        }
        same_winners(kernel, &table, &ann_hash1(7), (1 << 24) - 77..1 << 24);
    }
}

#[test]
fn a_search_finds_nothing_where_nothing_can_be_found() {
    let table = random_table(2);
    for kernel in fast_kernels() {
        assert_eq!(search(kernel, &table, &ann_hash1(0), &target(0x0300_0001), 0..1000), []);
    }
}

#[test]
fn a_search_adds_to_the_winners_that_there_are() {
    let table = random_table(2);
    for kernel in fast_kernels() {
        let mut winners = search(Kernel::Portable, &table, &ann_hash1(0), &target(work::EASIEST), 0..10);
        let before = winners.clone();
        kernel.passes().search(&table, &ann_hash1(0), &target(work::EASIEST), 10..20, &mut winners);
        assert_eq!(winners[..before.len()], before);
        assert!(winners.len() > before.len());
    }
}

/// What a header's `data` says (spec §7), in combinations that a kernel may treat apart.
fn kinds(data: u32) -> [(&'static str, u32, u32, u32); 3] {
    let decrypts = data >> 12 & 1;
    let (add, len_and_truncated) = (data >> 13 & 7, data >> 16 & 0xff);
    let (azc, tzc) = (data & 15, data >> 8 & 15);
    [
        ("length", decrypts, add, len_and_truncated),
        ("azc", decrypts, add, azc),
        ("tzc", decrypts, tzc, len_and_truncated >> 1 & 3),
    ]
}

/// Round 1's header is the same for all nonces and follows from bytes 16..20 of the initial state, so each kind is met
/// by a seed that leads to it; the nonces then meet random headers in the rounds after it.
#[test]
fn a_search_handles_every_kind_of_header_in_the_first_round() {
    let table = random_table(3);
    for kernel in fast_kernels() {
        let mut seen = HashSet::new();
        let mut seed = 0;
        // All lengths from 32 to 63 and from 96 to 127, cut or not.
        while seen.len() < 2 * (8 * 64 + 8 * 16 + 16 * 4) {
            let hash = ann_hash1(seed);
            let before = seen.len();
            seen.extend(kinds(first_header(&hash) & !(1 << 16) | 32 << 17));
            if seen.len() > before {
                same_winners(kernel, &table, &hash, seed % 1000..seed % 1000 + 9);
            }
            seed += 1;
        }
    }
}

#[test]
fn a_search_handles_every_kind_of_header_in_the_last_round() {
    let table = random_table(5);
    for kernel in fast_kernels() {
        let mut seen = HashSet::new();
        let mut first = 0;
        // Lengths that are cut count once for each amount of additional data.
        let lengths: usize = (0..8).map(|add| 32 + (125 - add - 95) + 1).sum();
        while seen.len() < 2 * (lengths + 8 * 16 + 16 * 4) {
            let hash = ann_hash1(first);
            same_winners(kernel, &table, &hash, first..first + 1000);
            for winner in search(kernel, &table, &hash, &target(work::EASIEST), first..first + 1000) {
                seen.extend(kinds(u32::from_le_bytes(winner.mask[12..16].try_into().unwrap())));
            }
            first += 1000;
            assert!(first < 1_000_000, "{} kinds in a million hashes", seen.len());
        }
    }
}

#[test]
fn a_search_reads_the_first_and_the_last_items_of_a_table() {
    let table = random_table(4);
    for kernel in fast_kernels() {
        for item in [0, 4095, 4096, TABLE_ITEMS as u32 - 1] {
            let leads_to_item = |seed: &u32| first_header(&ann_hash1(*seed)) & 0x1fff == item;
            for seed in (0..).filter(leads_to_item).take(3) {
                same_winners(kernel, &table, &ann_hash1(seed), 0..50);
            }
        }
    }
}

#[test]
fn parents_are_the_same_for_any_number_of_pairs() {
    let hashes: Vec<Hash64> = (0..2 * 70u32).map(ann_hash1).collect();
    for kernel in fast_kernels() {
        for pairs in 0..70 {
            let children = &hashes[70 - pairs..70 + pairs];
            let mut expected = vec![[0; 64]; pairs];
            Kernel::Portable.passes().hash_pairs(children, &mut expected);
            let mut found = vec![[1; 64]; pairs];
            kernel.passes().hash_pairs(children, &mut found);
            assert!(found == expected, "{kernel}, {pairs} pairs");
        }
    }
}
