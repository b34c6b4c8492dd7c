//! The starts of many expansions of one seed, which RandGen draws its numbers from (spec §4).

use super::Avx2;
use super::chacha::{BLOCK, first_blocks};
use crate::Hash32;
use crate::primitives::expand_nonce;

impl Avx2 {
    /// As [`expand_starts`](crate::primitives::expand_starts).
    pub(crate) fn expand_starts(self, seed: &Hash32, first: u32, starts: &mut [[u8; BLOCK]]) {
        let mut header = [0; 48];
        header[..12].copy_from_slice(&expand_nonce(first));
        header[16..].copy_from_slice(seed);
        for (first, starts) in (first..).step_by(8).zip(starts.chunks_mut(8)) {
            // SAFETY: `self` exists, so there is AVX2.
            let blocks = unsafe { first_blocks(&header, first) };
            starts.copy_from_slice(&blocks[..starts.len()]);
        }
    }
}
