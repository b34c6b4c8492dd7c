//! libsodium's calls, as slices.

#![allow(unsafe_code, reason = "libsodium is a C library; each call below says why it is sound")]

use std::ffi::CStr;
use std::mem::MaybeUninit;

use libsodium_sys as c;

/// libsodium, initialised: it has looked at the processor and chosen its vector code.
#[derive(Clone, Copy)]
pub struct Sodium(());

impl Sodium {
    /// Without this call libsodium would run its portable C for everything.
    pub fn init() -> Self {
        // SAFETY: may be called at any time, any number of times.
        let result = unsafe { c::sodium_init() };
        assert!(result >= 0, "libsodium cannot be initialised");
        Self(())
    }

    /// Version and the instruction sets it found.
    pub fn describe(self) -> String {
        // SAFETY: a constant string of the library, ended by a zero.
        let version = unsafe { CStr::from_ptr(c::sodium_version_string()) }.to_string_lossy();
        // SAFETY: these read what `sodium_init` found out.
        let sets = unsafe {
            [
                ("SSSE3", c::sodium_runtime_has_ssse3()),
                ("SSE4.1", c::sodium_runtime_has_sse41()),
                ("AVX2", c::sodium_runtime_has_avx2()),
                ("AVX-512F", c::sodium_runtime_has_avx512f()),
                ("NEON", c::sodium_runtime_has_neon()),
            ]
        };
        let found: Vec<_> = sets.iter().filter(|(_, has)| *has != 0).map(|(name, _)| *name).collect();
        format!(
            "libsodium {version}, found {}",
            if found.is_empty() { "no SIMD".into() } else { found.join(", ") }
        )
    }

    /// Fills `out` with ChaCha20 keystream from block 0 on.
    #[inline]
    pub fn keystream(self, key: &[u8; 32], nonce: &[u8; 12], out: &mut [u8]) {
        // SAFETY: `out` is written over its length; nonce and key have the lengths that are read.
        unsafe {
            c::crypto_stream_chacha20_ietf(out.as_mut_ptr(), out.len() as u64, nonce.as_ptr(), key.as_ptr());
        }
    }

    /// XORs `bytes` with ChaCha20 keystream from `block` on.
    #[inline]
    pub fn xor_keystream(self, key: &[u8; 32], nonce: &[u8; 12], block: u32, bytes: &mut [u8]) {
        let at = bytes.as_mut_ptr();
        // SAFETY: the library allows output and input to be the same; nonce and key as above.
        unsafe {
            c::crypto_stream_chacha20_ietf_xor_ic(
                at,
                at,
                bytes.len() as u64,
                nonce.as_ptr(),
                block,
                key.as_ptr(),
            );
        }
    }

    /// Poly1305 of `content ‖ last`.
    #[inline]
    pub fn poly1305(self, key: &[u8; 32], content: &[u8], last: &[u8; 16]) -> [u8; 16] {
        let mut state = MaybeUninit::<c::crypto_onetimeauth_poly1305_state>::uninit();
        let state = state.as_mut_ptr();
        let mut tag = [0; 16];
        // SAFETY: `state` is room for a state, made by `init` before it is used; the rest are slices with their lengths.
        unsafe {
            c::crypto_onetimeauth_poly1305_init(state, key.as_ptr());
            c::crypto_onetimeauth_poly1305_update(state, content.as_ptr(), content.len() as u64);
            c::crypto_onetimeauth_poly1305_update(state, last.as_ptr(), last.len() as u64);
            c::crypto_onetimeauth_poly1305_final(state, tag.as_mut_ptr());
        }
        tag
    }

    /// BLAKE2b with a digest of `N` bytes, 32 or 64.
    #[inline]
    pub fn blake2b<const N: usize>(self, message: &[u8]) -> [u8; N] {
        const { assert!(N == 32 || N == 64) };
        let mut digest = [0; N];
        // SAFETY: `digest` is written over its length, which is one that BLAKE2b has; no key is read as its length is 0.
        unsafe {
            c::crypto_generichash_blake2b(
                digest.as_mut_ptr(),
                N,
                message.as_ptr(),
                message.len() as u64,
                std::ptr::null(),
                0,
            );
        }
        digest
    }
}
