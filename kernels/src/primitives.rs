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
    let mut nonce = *b"....PC_EXPND";
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    chacha20(seed, &nonce).write_keystream(out);
}
