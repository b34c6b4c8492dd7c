//! Names for the instructions that the kernels are made of, so that these read like the papers.
//!
//! [`Lanes`] are 8 lanes of 32 bits or 4 of 64, as the suffix says.

use std::arch::x86_64::*;

/// 256 bits.
pub(super) type Lanes = __m256i;

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),+) = $instruction:expr;)+) => {$(
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx2")]
        pub(super) fn $name($($argument: Lanes),+) -> Lanes {
            $instruction
        }
    )+};
}

name! {
    add32(a, b) = _mm256_add_epi32(a, b);
    add64(a, b) = _mm256_add_epi64(a, b);
    and(a, b) = _mm256_and_si256(a, b);
    or(a, b) = _mm256_or_si256(a, b);
    sub64(a, b) = _mm256_sub_epi64(a, b);
    xor(a, b) = _mm256_xor_si256(a, b);
    /// The low halves of each 64-bit lane, multiplied.
    mul32(a, b) = _mm256_mul_epu32(a, b);
    /// `b` where `mask` is set, a byte at a time.
    blend(a, b, mask) = _mm256_blendv_epi8(a, b, mask);
    /// The low 64 bits of each 128: of `a`, then of `b`.
    low64(a, b) = _mm256_unpacklo_epi64(a, b);
    /// The high 64 bits of each 128: of `a`, then of `b`.
    high64(a, b) = _mm256_unpackhi_epi64(a, b);
    /// The low 128 bits: of `a`, then of `b`.
    low128(a, b) = _mm256_permute2x128_si256::<0x20>(a, b);
    /// The high 128 bits: of `a`, then of `b`.
    high128(a, b) = _mm256_permute2x128_si256::<0x31>(a, b);
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn shl64<const BITS: i32>(a: Lanes) -> Lanes {
    _mm256_slli_epi64::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn shr64<const BITS: i32>(a: Lanes) -> Lanes {
    _mm256_srli_epi64::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn shl32<const BITS: i32>(a: Lanes) -> Lanes {
    _mm256_slli_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn shr32<const BITS: i32>(a: Lanes) -> Lanes {
    _mm256_srli_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn all32(word: u32) -> Lanes {
    _mm256_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn all64(word: u64) -> Lanes {
    _mm256_set1_epi64x(word as i64)
}

/// From registers: a vector that is loaded right after its words are stored is waited for.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn each64(words: [u64; 4]) -> Lanes {
    let [a, b, c, d] = words.map(|word| word as i64);
    _mm256_setr_epi64x(a, b, c, d)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn zero() -> Lanes {
    _mm256_setzero_si256()
}

/// # Safety
/// 32 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn load(from: *const u8) -> Lanes {
    // SAFETY: the caller's promise; the load needs no alignment.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// # Safety
/// 32 bytes can be written.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store(to: *mut u8, lanes: Lanes) {
    // SAFETY: the caller's promise; the store needs no alignment.
    unsafe { _mm256_storeu_si256(to.cast(), lanes) }
}

/// The 16 bytes at `low`, then the 16 at `high`.
///
/// # Safety
/// 16 bytes can be read at each.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn load_halves(low: *const u8, high: *const u8) -> Lanes {
    // SAFETY: the caller's promise; the loads need no alignment.
    unsafe {
        _mm256_inserti128_si256::<1>(
            _mm256_castsi128_si256(_mm_loadu_si128(low.cast())),
            _mm_loadu_si128(high.cast()),
        )
    }
}

/// # Safety
/// 16 bytes can be written at each.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store_halves(low: *mut u8, high: *mut u8, lanes: Lanes) {
    // SAFETY: the caller's promise; the stores need no alignment.
    unsafe {
        _mm_storeu_si128(low.cast(), _mm256_castsi256_si128(lanes));
        _mm_storeu_si128(high.cast(), _mm256_extracti128_si256::<1>(lanes));
    }
}

/// Rows to columns: 8 × 8 words of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose32(rows: [Lanes; 8]) -> [Lanes; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let (ab, ab_) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd, cd_) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    let (ef, ef_) = (_mm256_unpacklo_epi32(e, f), _mm256_unpackhi_epi32(e, f));
    let (gh, gh_) = (_mm256_unpacklo_epi32(g, h), _mm256_unpackhi_epi32(g, h));
    let low = [low64(ab, cd), high64(ab, cd), low64(ab_, cd_), high64(ab_, cd_)];
    let high = [low64(ef, gh), high64(ef, gh), low64(ef_, gh_), high64(ef_, gh_)];
    [
        low128(low[0], high[0]),
        low128(low[1], high[1]),
        low128(low[2], high[2]),
        low128(low[3], high[3]),
        high128(low[0], high[0]),
        high128(low[1], high[1]),
        high128(low[2], high[2]),
        high128(low[3], high[3]),
    ]
}

/// Rows to columns: 4 × 4 words of 64 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose64(rows: [Lanes; 4]) -> [Lanes; 4] {
    let [a, b, c, d] = rows;
    let (ab, ab_) = (low64(a, b), high64(a, b));
    let (cd, cd_) = (low64(c, d), high64(c, d));
    [low128(ab, cd), low128(ab_, cd_), high128(ab, cd), high128(ab_, cd_)]
}

/// Rows to columns: 4 × 4 words of 64 bits that are in memory.
///
/// # Safety
/// 32 bytes can be read at each.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn load_transposed64([a, b, c, d]: [*const u8; 4]) -> [Lanes; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (ac, bd) = (load_halves(a, c), load_halves(b, d));
        let (ac_, bd_) = (load_high_halves(a, c), load_high_halves(b, d));
        [low64(ac, bd), high64(ac, bd), low64(ac_, bd_), high64(ac_, bd_)]
    }
}

/// The last 16 of 32 bytes at `low`, then those at `high`: by a blend, of which processors do more in a cycle than of
/// any other way to put halves together.
///
/// # Safety
/// 32 bytes can be read at each.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn load_high_halves(low: *const u8, high: *const u8) -> Lanes {
    // SAFETY: the caller's promise; the loads need no alignment.
    unsafe {
        let low = _mm256_castsi128_si256(_mm_loadu_si128(low.add(16).cast()));
        _mm256_blend_epi32::<0b1111_0000>(low, load(high))
    }
}

/// Rows to columns, 4 × 4 words of 32 bits in each half: the low halves are rows 0..4, the high ones rows 4..8.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose_halves32(rows: [Lanes; 4]) -> [Lanes; 4] {
    let [a, b, c, d] = rows;
    let (ab, ab_) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd, cd_) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [low64(ab, cd), high64(ab, cd), low64(ab_, cd_), high64(ab_, cd_)]
}
