//! Pieces of many states' keystreams: which blocks go together through a kernel's lanes.

use std::ptr;

use super::Vectors;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;

/// ChaCha20's first four words: "expand 32-byte k".
pub(crate) const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Most blocks of a run: as many as a state's content has.
pub(crate) const RUN_BLOCKS: usize = 32;

/// Runs whose blocks are put together at a time.
const RUNS: usize = 64;

/// Consecutive blocks of one state's keystream, and what they are XORed to.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// The state's header: nonce in bytes 0..12, key in bytes 16..48.
    pub header: *const u8,
    /// Number of the first block.
    pub counter: u32,
    /// How many blocks.
    pub blocks: u32,
    /// 64 bytes a block.
    pub source: *const u8,
    /// Where source XOR keystream goes.
    pub destination: *mut u8,
}

impl Run {
    /// Of no blocks.
    pub const NONE: Self = Self {
        header: ptr::null(),
        counter: 0,
        blocks: 0,
        source: ptr::null(),
        destination: ptr::null_mut(),
    };
}

/// Some blocks of a list of runs: the first or only one of them, by its run's place in the list, in the upper half, and
/// its place in the run.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Task(u32);

impl Task {
    fn run(self, runs: &[Run]) -> &Run {
        &runs[(self.0 >> 16) as usize]
    }

    fn block(self) -> u32 {
        self.0 & 0xffff
    }

    /// The header of its run.
    pub fn header(self, runs: &[Run]) -> *const u8 {
        self.run(runs).header
    }

    /// Number of the block in its state's keystream.
    pub fn counter(self, runs: &[Run]) -> u32 {
        self.run(runs).counter.wrapping_add(self.block())
    }

    /// What the block is XORed to.
    pub fn source(self, runs: &[Run]) -> *const u8 {
        self.run(runs).source.wrapping_add(BLOCK * self.block() as usize)
    }

    /// Where the block goes.
    pub fn destination(self, runs: &[Run]) -> *mut u8 {
        self.run(runs).destination.wrapping_add(BLOCK * self.block() as usize)
    }
}

/// XORs all blocks of all runs, in no particular order.
///
/// # Panics
/// If a run has more than 32 blocks.
///
/// # Safety
/// Headers can be read for 48 bytes, sources and destinations for 64 bytes a block; destinations can be written. A
/// block's destination is its own source, or overlaps no header and no other block's source or destination.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn xor_runs<V: Vectors>(vectors: V, runs: &[Run]) {
    for runs in runs.chunks(RUNS) {
        // How many blocks a run has nobody predicts. So all the eights that there can be are listed, and then as many
        // are taken as there are, without a branch; what is left of each run goes together.
        let mut eights = [Task(0); RUNS * RUN_BLOCKS / 8 + 4];
        let mut singles = [Task(0); RUNS * 7 + 1];
        let (mut eights_len, mut singles_len) = (0, 0);
        for (i, run) in runs.iter().enumerate() {
            let blocks = run.blocks as usize;
            assert!(blocks <= RUN_BLOCKS, "a run of {blocks} blocks");
            let first = (i as u32) << 16;
            let left = first + (blocks / 8 * 8) as u32;
            eights[eights_len..][..4].copy_from_slice(&[0, 8, 16, 24].map(|block| Task(first + block)));
            singles[singles_len..][..8]
                .copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7].map(|block| Task(left + block)));
            eights_len += blocks / 8;
            singles_len += blocks % 8;
        }
        // SAFETY: the caller's promise; the tasks are the blocks of the runs, each one once.
        unsafe {
            vectors.xor_eights(runs, &eights[..eights_len]);
            vectors.xor_singles(runs, &singles[..singles_len]);
        }
    }
}
