//! Announcements validated in batches, against one at a time, for every kernel.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::path::Path;

use kernels::item::TABLE_ITEMS;
use kernels::primitives::{b32, b64, expand};
use kernels::round::{ann_hash0, ann_hash1, build_announcement, table2_seed};
use kernels::validate::result_code;
use kernels::{
    Announcement, Columns, Hash32, Header, Invalid, Kernel, MerkleTree, Table, TableProgram, Validator,
    WorkBits, work,
};
use serde::Deserialize;

type Batch = Vec<(Announcement, Hash32)>;

fn validate_batch(validator: &mut Validator, batch: &[(Announcement, Hash32)]) -> Vec<Result<(), Invalid>> {
    let batch: Vec<_> = batch.iter().map(|(announcement, parent)| (announcement, parent)).collect();
    validator.validate_batch(&batch)
}

/// Holds `batch` against one at a time, whatever the kernel and whatever is remembered. The verdicts that occurred.
fn check(batch: &[(Announcement, Hash32)]) -> HashSet<Result<(), Invalid>> {
    let mut one = Validator::with_kernel(Kernel::Portable);
    let expected: Vec<_> =
        batch.iter().map(|(announcement, parent)| one.validate(announcement, parent)).collect();
    for kernel in Kernel::available() {
        let mut validator = Validator::with_kernel(kernel);
        for again in [false, true] {
            let verdicts = validate_batch(&mut validator, batch);
            for (at, (verdict, expected)) in verdicts.iter().zip(&expected).enumerate() {
                assert_eq!(verdict, expected, "{kernel}, {:?}, again: {again}", batch[at].0);
            }
            assert_eq!(verdicts.len(), expected.len());
        }
    }
    expected.into_iter().collect()
}

/// Random numbers that follow from a seed.
struct Random(std::vec::IntoIter<u8>);

impl Random {
    fn new(seed: u8) -> Self {
        let mut bytes = vec![0; 1 << 18];
        expand(&[seed; 32], 77, &mut bytes);
        Self(bytes.into_iter())
    }

    fn below(&mut self, limit: usize) -> usize {
        let number = u32::from_le_bytes(std::array::from_fn(|_| self.0.next().expect("enough of them")));
        number as usize % limit
    }

    fn shuffle<T>(&mut self, values: &mut [T]) {
        for end in (1..values.len()).rev() {
            values.swap(end, self.below(end + 1));
        }
    }
}

/// Announcements of one round that prove everything but that their hashes meet the header's work bits, of soft nonces
/// some of which are too high: half of those from 0 on and of those from 950 on.
fn mine(seed: u8, work_bits: u32) -> Batch {
    let parent_hash = b32(&[&[seed, 1]]);
    let hard_nonce = u32::from_le_bytes([seed, 2, 3, 4]);
    let header = Header::new(hard_nonce, WorkBits::new(work_bits).unwrap(), 1000, [seed; 32]);
    let mut passes = Kernel::detect().passes();
    let hash0 = ann_hash0(&header, &parent_hash);
    let mut tree = MerkleTree::new();
    passes.hash_columns(&TableProgram::new(&hash0).unwrap(), Columns::of(tree.leaves_mut()));
    tree.build(&mut *passes);
    let mut table2 = Table::new();
    let seed2 = table2_seed(tree.root(), &hash0);
    passes.make_columns(&TableProgram::new(&seed2).unwrap(), Columns::of(&mut table2));

    let easiest = WorkBits::new(work::EASIEST).unwrap().target();
    let mut winners = Vec::new();
    for nonces in [0..80, 950..1100] {
        passes.search(&table2, &ann_hash1(&header, tree.root()), &easiest, nonces, &mut winners);
    }
    assert!(winners.len() > 60 && winners.iter().all(|winner| (winner.item as usize) < TABLE_ITEMS));
    winners.iter().map(|winner| (build_announcement(&header, &tree, winner), parent_hash)).collect()
}

/// Rounds with work bits of two difficulties.
fn rounds(count: u8) -> Batch {
    let bits = |seed: u8| if seed % 3 == 2 { 0x2007_ffff } else { work::EASIEST };
    (0..count).flat_map(|seed| mine(seed, bits(seed))).collect()
}

#[derive(Deserialize)]
struct Validation {
    validation: Vec<ValidationVector>,
}

#[derive(Deserialize)]
struct ValidationVector {
    case: String,
    parent_block_hash: String,
    announcement: String,
    code: u8,
}

#[test]
fn a_batch_of_the_vectors_gives_their_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/validation.json");
    let vectors: Validation = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let batch: Batch = vectors
        .validation
        .iter()
        .map(|v| {
            let (mut bytes, mut parent_hash) = ([0; Announcement::LEN], [0; 32]);
            hex::decode_to_slice(&v.announcement, &mut bytes).unwrap();
            hex::decode_to_slice(&v.parent_block_hash, &mut parent_hash).unwrap();
            (Announcement::from_bytes(bytes), parent_hash)
        })
        .collect();
    for kernel in Kernel::available() {
        let verdicts = validate_batch(&mut Validator::with_kernel(kernel), &batch);
        for (verdict, v) in verdicts.into_iter().zip(&vectors.validation) {
            assert_eq!(result_code(verdict), v.code, "{kernel}, {}", v.case);
        }
    }
    // Each of them three times, so that all are of a round with others.
    let mut thrice = [&batch[..], &batch, &batch].concat();
    Random::new(1).shuffle(&mut thrice);
    assert_eq!(check(&thrice).len(), 5, "all codes occur");
}

#[test]
fn announcements_of_several_rounds_in_any_order_get_the_verdicts_of_one_at_a_time() {
    let mut random = Random::new(2);
    let all = rounds(7);
    for len in [1, 2, 3, 5, 8, 20, 77, 300, 700] {
        let mut batch: Batch = (0..len).map(|_| all[random.below(all.len())].clone()).collect();
        let verdicts = check(&batch);
        assert!(len < 20 || verdicts.len() == 3, "valid, too easy, and of high soft nonces");
        batch.sort_by_key(|(announcement, _)| *announcement.as_bytes());
        check(&batch);
    }
}

#[test]
fn announcements_with_flipped_bits_get_the_verdicts_of_one_at_a_time() {
    let mut random = Random::new(3);
    let all = rounds(3);
    // Soft nonce, the other fields of the header, branch, root, item prefix; and the parent's hash.
    let fields = [(1, 4), (4, 8), (8, 12), (12, 88), (0, 1), (88, 920), (920, 984), (984, 1024)];
    let mut batch = all.clone();
    for (start, end) in fields {
        for _ in 0..if end == 920 { 150 } else { 12 } {
            let (mut announcement, parent_hash) = all[random.below(all.len())].clone();
            let bit = 8 * start + random.below(8 * (end - start));
            announcement.as_bytes_mut()[bit / 8] ^= 1 << (bit % 8);
            batch.push((announcement, parent_hash));
        }
    }
    for _ in 0..12 {
        let (announcement, mut parent_hash) = all[random.below(all.len())].clone();
        parent_hash[random.below(32)] ^= 1 << random.below(8);
        batch.push((announcement, parent_hash));
    }
    random.shuffle(&mut batch);
    assert_eq!(check(&batch).len(), 5, "all verdicts occur");
}

#[test]
fn arbitrary_bytes_in_a_batch_do_not_panic() {
    let mut batch = Batch::new();
    for number in 0..60u32 {
        let mut bytes = [0; Announcement::LEN];
        expand(&[9; 32], number, &mut bytes);
        batch.push((Announcement::from_bytes(bytes), [number as u8; 32]));
        // Rounds of three, five and so on, with work bits and soft nonces that get them hashed.
        bytes[8..12].copy_from_slice(&work::EASIEST.to_le_bytes());
        for soft_nonce in 0..(number % 12) as u8 {
            bytes[1..4].copy_from_slice(&[soft_nonce, soft_nonce % 5, 0]);
            bytes[500] ^= soft_nonce;
            batch.push((Announcement::from_bytes(bytes), [number as u8; 32]));
        }
    }
    assert!(!check(&batch).contains(&Ok(())));
}

#[test]
fn a_batch_of_nothing_has_no_verdicts() {
    for kernel in Kernel::available() {
        assert_eq!(Validator::with_kernel(kernel).validate_batch(&[]), []);
    }
}

#[test]
fn leaves_of_items_in_any_order_are_those_of_the_items() {
    let table = TableProgram::new(&b64(&[b"leaves"])).unwrap();
    for kernel in Kernel::available() {
        let mut passes = kernel.passes();
        for count in [0, 1, 3, 64, 100] {
            let numbers: Vec<u32> = (0..count).map(|i: u32| i * i * 2531 % 8192).collect();
            let mut items = vec![kernels::Item::ZERO; numbers.len()];
            passes.make_items_at(&table, &numbers, &mut items);
            let mut leaves = vec![[0; 64]; numbers.len()];
            passes.hash_items_at(&table, &numbers, &mut leaves);
            assert!(leaves.iter().zip(&items).all(|(leaf, item)| *leaf == b64(&[&item.0])), "{kernel}");
        }
    }
}
