//! Merkle trees over table 1 (spec §8): leaves, then level by level.
//!
//! A leaf is 8 compressions of BLAKE2b and reads 1 KiB; a tree is 73,727 compressions, 160 million 32-bit operations:
//! some 10 µs of a device that issues 15 T/s. The upper levels of a tree have few parents, but the trees of all slots
//! are built at once, and thirteen dispatches are nothing to a table.

use std::ops::Range;

use super::super::context::{Access, Gpu, GpuError, Shader};
use super::super::primitives::{BLAKE2B, ROWS};
use super::super::source::Part;
#[cfg(test)]
use kernels::MerkleTree;
use kernels::announcement::MERKLE_DEPTH;
use kernels::item::TABLE_ITEMS;
use kernels::{Hash64, Item};

/// Nodes that a tree has room for; the last one is not used.
const NODES: u64 = 2 * TABLE_ITEMS as u64;

/// Bytes of a node.
const NODE: u64 = size_of::<Hash64>() as u64;

/// Lanes of a workgroup, unless a test says otherwise.
const WORKGROUP: u32 = 64;

/// Bytes of the tables of so many slots.
pub const fn tables_bytes(slots: u32) -> u64 {
    slots as u64 * (TABLE_ITEMS * Item::LEN) as u64
}

/// Bytes of the trees of so many slots.
pub const fn trees_bytes(slots: u32) -> u64 {
    slots as u64 * NODES * NODE
}

/// Where a slot's root lies in the trees' buffer, in bytes.
pub const fn root_offset(slot: u32) -> u64 {
    (slot as u64 * NODES + NODES - 2) * NODE
}

/// The shaders that build trees.
pub struct Merkle {
    workgroup: u32,
    leaves: Shader,
    levels: Shader,
}

/// A batch's tables and trees.
pub struct MerkleBinding {
    leaves: wgpu::BindGroup,
    levels: wgpu::BindGroup,
}

impl Merkle {
    /// Compiles them.
    ///
    /// # Errors
    /// If one does not compile.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        Self::with_workgroup(gpu, WORKGROUP)
    }

    fn with_workgroup(gpu: &Gpu, workgroup: u32) -> Result<Self, GpuError> {
        let constants = [("WORKGROUP", workgroup)];
        let leaves = [ROWS, BLAKE2B, Part::Text(include_str!("../../../../shaders/leaves.wgsl"))];
        let levels = [ROWS, BLAKE2B, Part::Text(include_str!("../../../../shaders/levels.wgsl"))];
        Ok(Self {
            workgroup,
            leaves: gpu.shader("leaves", &leaves, &constants, &[Access::Read, Access::Write])?,
            levels: gpu.shader("levels", &levels, &constants, &[Access::Write])?,
        })
    }

    /// Binds a batch's buffers, of [`tables_bytes`] and [`trees_bytes`].
    pub fn bind(&self, gpu: &Gpu, tables: &wgpu::Buffer, trees: &wgpu::Buffer) -> MerkleBinding {
        let (tables, trees) = (tables.as_entire_buffer_binding(), trees.as_entire_buffer_binding());
        MerkleBinding {
            leaves: self.leaves.bind(gpu, &[tables, trees.clone()]),
            levels: self.levels.bind(gpu, &[trees]),
        }
    }

    /// Hashes the tables of some slots and builds their trees.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, binding: &MerkleBinding, slots: Range<u32>) {
        let (first, count) = (slots.start, slots.len() as u32);
        let items = TABLE_ITEMS as u32;
        let workgroups = |lanes: u32| lanes.div_ceil(self.workgroup);
        self.leaves.dispatch(pass, &binding.leaves, &[first, count], workgroups(count * items));
        for level in 1..=MERKLE_DEPTH as u32 {
            let parents = workgroups(count * (items >> level));
            self.levels.dispatch(pass, &binding.levels, &[first, count, level], parents);
        }
    }
}

/// All hashes of a tree, leaves first, the root last.
#[cfg(test)]
pub(super) fn hashes_of(tree: &mut MerkleTree) -> Vec<u8> {
    let mut bytes = tree.leaves_mut().as_flattened().to_vec();
    for level in 1..=MERKLE_DEPTH {
        bytes.extend_from_slice(tree.level_mut(level).1.as_flattened());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use kernels::Kernel;

    use super::*;
    use crate::backend::gpu::context::testing::on_each_gpu;

    #[test]
    fn trees_of_random_items_are_those_of_the_portable_code() {
        const SLOTS: u32 = 3;
        let mut random = fastrand::Rng::with_seed(5);
        let mut tables = vec![0u8; tables_bytes(SLOTS) as usize];
        random.fill(&mut tables);

        // Of the first slot nothing is wanted.
        let mut expected = vec![0u8; trees_bytes(SLOTS) as usize];
        for (slot, tree_bytes) in expected.chunks_mut(trees_bytes(1) as usize).enumerate().skip(1) {
            let items = tables[slot * tables_bytes(1) as usize..].as_chunks::<{ Item::LEN }>().0;
            let mut tree = MerkleTree::new();
            for (leaf, item) in tree.leaves_mut().iter_mut().zip(items) {
                *leaf = kernels::primitives::b64(&[item]);
            }
            tree.build(&mut *Kernel::Portable.passes());
            let hashes = hashes_of(&mut tree);
            tree_bytes[..hashes.len()].copy_from_slice(&hashes);
            assert_eq!(tree_bytes[root_offset(0) as usize..][..64], *tree.root());
        }
        on_each_gpu(|gpu| {
            let workgroup = if gpu.int64 { WORKGROUP } else { 256 };
            let merkle = Merkle::with_workgroup(gpu, workgroup).expect("it compiles");
            let tables = gpu.upload("tables", &tables);
            let trees = gpu.buffer("trees", trees_bytes(SLOTS));
            let binding = merkle.bind(gpu, &tables, &trees);
            gpu.run(|pass| merkle.encode(pass, &binding, 1..SLOTS));
            let trees = gpu.download::<u8>(&trees);
            assert!(trees == expected, "workgroups of {workgroup}");
        });
    }
}
