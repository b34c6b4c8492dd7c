//! The primitives that everything else is made of (spec §1).

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};

use crate::{Hash32, Hash64};

/// `B64`: BLAKE2b with a 64-byte digest of the concatenation of `parts`.
pub fn b64(parts: &[&[u8]]) -> Hash64 {
    let mut hash = blake2b_simd::State::new();
    for part in parts {
        hash.update(part);
    }
    *hash.finalize().as_array()
}

/// `B32`: BLAKE2b with a 32-byte digest of the concatenation of `parts`. Not a shortened [`b64`].
pub fn b32(parts: &[&[u8]]) -> Hash32 {
    let mut hash = blake2b_simd::Params::new().hash_length(32).to_state();
    for part in parts {
        hash.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finalize().as_bytes());
    out
}

/// `CC(key, nonce, 0)`: the keystream from block 0 on, to be written or applied piece by piece.
pub(crate) fn chacha20(key: &[u8; 32], nonce: &[u8; 12]) -> ChaCha20 {
    ChaCha20::new(key.into(), nonce.into())
}

/// `CC(key, nonce, block)`: fills `out` with keystream from the 64-byte block numbered `block` on.
///
/// # Panics
/// If the keystream would go past its last block, 2^32 − 1.
pub fn keystream(key: &[u8; 32], nonce: &[u8; 12], block: u32, out: &mut [u8]) {
    let mut cipher = chacha20(key, nonce);
    cipher.seek(u64::from(block) * 64);
    cipher.write_keystream(out);
}

/// `EXPAND(seed, number, out.len())`.
pub fn expand(seed: &Hash32, number: u32, out: &mut [u8]) {
    chacha20(seed, &expand_nonce(number)).write_keystream(out);
}

/// `EXPAND(seed, number, 64 * blocks.len())`, for long expansions: eight blocks at once where the processor has AVX2.
pub(crate) fn expand_blocks(seed: &Hash32, number: u32, blocks: &mut [[u8; 64]]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = crate::avx2::Avx2::new() {
        return avx2.expand_blocks(seed, number, blocks);
    }
    expand(seed, number, blocks.as_flattened_mut());
}

pub(crate) fn expand_nonce(number: u32) -> [u8; 12] {
    let mut nonce = *b"....PC_EXPND";
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// The first 64 bytes of `EXPAND(seed, number, …)` for the numbers from `first` on: eight at once where the processor
/// has AVX2.
pub(crate) fn expand_starts(seed: &Hash32, first: u32, starts: &mut [[u8; 64]]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = crate::avx2::Avx2::new() {
        return avx2.expand_starts(seed, first, starts);
    }
    for (number, start) in (first..).zip(starts) {
        expand(seed, number, start);
    }
}

/// Both halves of a 64-byte hash.
pub(crate) fn halves(hash: &Hash64) -> (&Hash32, &Hash32) {
    let (halves, _) = hash.as_chunks();
    (&halves[0], &halves[1])
}

/// The half that a search's states are initialised with.
pub(crate) fn first_half(hash: &Hash64) -> &Hash32 {
    halves(hash).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_expansions_are_those_of_the_crate() {
        for count in [0, 1, 7, 32, 33, 128] {
            let mut blocks = vec![[1; 64]; count];
            expand_blocks(&[3; 32], 5, &mut blocks);
            let mut expected = vec![0; 64 * count];
            expand(&[3; 32], 5, &mut expected);
            assert_eq!(blocks.as_flattened(), expected, "{count} blocks");
        }
    }

    #[test]
    fn starts_of_expansions_are_those_of_each_by_itself() {
        for count in [0, 1, 7, 8, 16, 21] {
            let mut starts = vec![[0; 64]; count];
            expand_starts(&[3; 32], 5, &mut starts);
            for (number, start) in (5..).zip(starts) {
                let mut expected = [0; 64];
                expand(&[3; 32], number, &mut expected);
                assert_eq!(start, expected, "number {number} of {count}");
            }
        }
    }
}
