//! What ties the passes of a hard nonce together (spec §8, §9).

use std::ops::Range;

use crate::announcement::{Announcement, Header};
use crate::item::{Columns, Table, TableProgram};
use crate::merkle::MerkleTree;
use crate::primitives::b64;
use crate::program::InvalidProgram;
use crate::{Hash32, Hash64, Passes, Winner};

/// The seed of table 1 (spec §8, step 1). The parent block's hash is in internal order.
pub fn ann_hash0(header: &Header, parent_hash: &Hash32) -> Hash64 {
    ann_hash0_of(&header.to_bytes(), parent_hash)
}

/// What soft nonces are initialised with, once table 1's Merkle root is known (spec §8, step 3).
pub fn ann_hash1(header: &Header, root: &Hash64) -> Hash64 {
    ann_hash1_of(&header.to_bytes(), root)
}

/// The seed of table 2 (spec §8, step 4).
pub fn table2_seed(root: &Hash64, ann_hash0: &Hash64) -> Hash64 {
    b64(&[root, ann_hash0])
}

pub(crate) fn ann_hash0_of(header: &[u8; Header::LEN], parent_hash: &Hash32) -> Hash64 {
    b64(&[header, parent_hash, &[0; 32]])
}

pub(crate) fn ann_hash1_of(header: &[u8; Header::LEN], root: &Hash64) -> Hash64 {
    b64(&[header, root])
}

/// The finished, masked announcement of a winner (spec §9). `tree` is table 1's.
pub fn build_announcement(header: &Header, tree: &MerkleTree, winner: &Winner) -> Announcement {
    let mut bytes = [0; Announcement::LEN];
    bytes[..Header::LEN].copy_from_slice(&header.to_bytes());
    bytes[1..4].copy_from_slice(&winner.soft_nonce.to_le_bytes()[..3]);
    bytes[88..920].copy_from_slice(tree.branch(winner.item).as_flattened());
    bytes[920..984].copy_from_slice(tree.root());
    apply_mask(&mut bytes, &winner.mask);
    Announcement::from_bytes(bytes)
}

/// Masks the branch and the item prefix, or takes the mask off (spec §9).
pub(crate) fn apply_mask(bytes: &mut [u8; Announcement::LEN], mask: &[u8; Winner::MASK_LEN]) {
    let (branch, prefix) = mask.split_at(832);
    xor(&mut bytes[88..920], branch);
    xor(&mut bytes[984..], prefix);
}

fn xor(bytes: &mut [u8], mask: &[u8]) {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// What a round needs room for: table 2 and table 1's tree, 9 MiB, to be used over and over.
#[derive(Default)]
pub struct RoundMemory {
    /// Table 2.
    pub table2: Table,
    /// The tree over table 1.
    pub tree: MerkleTree,
}

/// Mines one round, all passes in a row on one thread: the soft nonces `nonces` of the header's hard nonce.
///
/// # Errors
/// If one of the round's programs is invalid or [not bounded](TableProgram::is_bounded); take another hard nonce.
///
/// # Panics
/// If `nonces` goes past 2^24. A soft nonce above the work bits' maximum makes announcements that are refused.
pub fn mine_round(
    header: &Header,
    parent_hash: &Hash32,
    passes: &mut dyn Passes,
    nonces: Range<u32>,
    memory: &mut RoundMemory,
) -> Result<Vec<Announcement>, InvalidProgram> {
    let RoundMemory { table2, tree } = memory;

    let ann_hash0 = ann_hash0(header, parent_hash);
    let table1_program = bounded_table(&ann_hash0)?;
    passes.hash_columns(&table1_program, Columns::of(tree.leaves_mut()));
    tree.build(passes);

    let table2_program = bounded_table(&table2_seed(tree.root(), &ann_hash0))?;
    passes.make_columns(&table2_program, Columns::of(table2));

    let mut winners = Vec::new();
    let ann_hash1 = ann_hash1(header, tree.root());
    passes.search(table2, &ann_hash1, &header.work_bits.target(), nonces, &mut winners);
    Ok(winners.iter().map(|winner| build_announcement(header, tree, winner)).collect())
}

fn bounded_table(seed: &Hash64) -> Result<TableProgram, InvalidProgram> {
    let table = TableProgram::new(seed)?;
    if table.is_bounded() { Ok(table) } else { Err(InvalidProgram::TooLong) }
}
