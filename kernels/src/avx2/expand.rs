//! Expansions of a seed: long ones, and the starts of many, which RandGen draws its numbers from (spec §4).

use super::Avx2;
use super::chacha::first_blocks;
use crate::Hash32;
use crate::primitives::expand_nonce;
use crate::vector::runs::{BLOCK, RUN_BLOCKS, Run, xor_runs};

impl Avx2 {
    /// As [`expand_blocks`](crate::primitives::expand_blocks).
    pub(crate) fn expand_blocks(self, seed: &Hash32, number: u32, blocks: &mut [[u8; BLOCK]]) {
        let header = header(seed, number);
        blocks.as_flattened_mut().fill(0);
        for (blocks, first) in blocks.chunks_mut(RUN_BLOCKS).zip((0..).step_by(RUN_BLOCKS)) {
            let destination: *mut u8 = blocks.as_mut_ptr().cast();
            let run = Run {
                header: header.as_ptr(),
                counter: first,
                blocks: blocks.len() as u32,
                source: destination.cast_const(),
                destination,
            };
            // SAFETY: `self` exists, so there is AVX2. The header is 48 bytes; every block is its own source.
            unsafe { xor_runs(self, &[run]) };
        }
    }

    /// As [`expand_starts`](crate::primitives::expand_starts).
    pub(crate) fn expand_starts(self, seed: &Hash32, first: u32, starts: &mut [[u8; BLOCK]]) {
        let header = header(seed, first);
        for (first, starts) in (first..).step_by(8).zip(starts.chunks_mut(8)) {
            // SAFETY: `self` exists, so there is AVX2.
            let blocks = unsafe { first_blocks(&header, first) };
            starts.copy_from_slice(&blocks[..starts.len()]);
        }
    }
}

fn header(seed: &Hash32, number: u32) -> [u8; 48] {
    let mut header = [0; 48];
    header[..12].copy_from_slice(&expand_nonce(number));
    header[16..].copy_from_slice(seed);
    header
}
