//! Names for the instructions that the kernels are made of, so that these read like the papers.
//!
//! [`Lanes`] are 16 lanes of 32 bits or 8 of 64, as the suffix says.

use std::arch::asm;
use std::arch::x86_64::*;

/// 512 bits.
pub(super) type Lanes = __m512i;

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),+) = $instruction:expr;)+) => {$(
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(super) fn $name($($argument: Lanes),+) -> Lanes {
            $instruction
        }
    )+};
}

name! {
    add32(a, b) = _mm512_add_epi32(a, b);
    add64(a, b) = _mm512_add_epi64(a, b);
    and(a, b) = _mm512_and_si512(a, b);
    or(a, b) = _mm512_or_si512(a, b);
    xor(a, b) = _mm512_xor_si512(a, b);
    /// The low 64 bits of each 128: of `a`, then of `b`.
    low64(a, b) = _mm512_unpacklo_epi64(a, b);
    /// The high 64 bits of each 128: of `a`, then of `b`.
    high64(a, b) = _mm512_unpackhi_epi64(a, b);
    /// 128 bits 0 and 2 of `a`, then of `b`.
    even128(a, b) = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
    /// 128 bits 1 and 3 of `a`, then of `b`.
    odd128(a, b) = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn shl64<const BITS: u32>(a: Lanes) -> Lanes {
    _mm512_slli_epi64::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn shr64<const BITS: u32>(a: Lanes) -> Lanes {
    _mm512_srli_epi64::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn all32(word: u32) -> Lanes {
    _mm512_set1_epi32(word as i32)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn all64(word: u64) -> Lanes {
    _mm512_set1_epi64(word as i64)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn zero() -> Lanes {
    _mm512_setzero_si512()
}

/// `sum` and the low 52 bits of the product of the low 52 bits of `a` and `b`.
#[inline]
#[target_feature(enable = "avx512ifma")]
pub(super) fn madd_low(sum: Lanes, a: Lanes, b: Lanes) -> Lanes {
    _mm512_madd52lo_epu64(sum, a, b)
}

/// `sum` and the high 52 bits of the product of the low 52 bits of `a` and `b`.
#[inline]
#[target_feature(enable = "avx512ifma")]
pub(super) fn madd_high(sum: Lanes, a: Lanes, b: Lanes) -> Lanes {
    _mm512_madd52hi_epu64(sum, a, b)
}

/// 64 bits, from bit `BITS` on, of the 128 that `low` and `high` are.
#[inline]
#[target_feature(enable = "avx512vbmi2")]
pub(super) fn shrd64<const BITS: i32>(low: Lanes, high: Lanes) -> Lanes {
    _mm512_shrdi_epi64::<BITS>(low, high)
}

/// From registers: a vector that is loaded right after its words are stored is waited for.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn each64(words: [u64; 8]) -> Lanes {
    let [a, b, c, d, e, f, g, h] = words.map(|word| word as i64);
    _mm512_setr_epi64(a, b, c, d, e, f, g, h)
}

/// # Safety
/// 64 bytes can be read.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load(from: *const u8) -> Lanes {
    // SAFETY: the caller's promise; the load needs no alignment.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

/// # Safety
/// 64 bytes can be written.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn store(to: *mut u8, lanes: Lanes) {
    // SAFETY: the caller's promise; the store needs no alignment.
    unsafe { _mm512_storeu_si512(to.cast(), lanes) }
}

/// The 16 bytes `AT` bytes on from each. In assembly, as compilers put halves together from registers, which takes
/// shuffles.
///
/// # Safety
/// They can be read.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load_quarters<const AT: usize>(
    a: *const u8,
    b: *const u8,
    c: *const u8,
    d: *const u8,
) -> Lanes {
    let lanes;
    // SAFETY: the caller's promise; the loads need no alignment.
    unsafe {
        asm!(
            "vbroadcasti32x4 {lanes}, [{a} + {at}]",
            "vinserti32x4 {lanes}, {lanes}, [{b} + {at}], 1",
            "vinserti32x4 {lanes}, {lanes}, [{c} + {at}], 2",
            "vinserti32x4 {lanes}, {lanes}, [{d} + {at}], 3",
            at = const AT,
            lanes = out(zmm_reg) lanes,
            a = in(reg) a,
            b = in(reg) b,
            c = in(reg) c,
            d = in(reg) d,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    lanes
}

// Spelt out, since not every closure on vectors is inlined: some pass them through memory.

/// Rows to columns: 16 × 16 words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose32(rows: [Lanes; 16]) -> [Lanes; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = rows;
    // In each 128 bits the words of four rows, then whole 128 bits.
    let [a, b, c, d] = transpose_quarters32([a, b, c, d]);
    let [e, f, g, h] = transpose_quarters32([e, f, g, h]);
    let [i, j, k, l] = transpose_quarters32([i, j, k, l]);
    let [m, n, o, p] = transpose_quarters32([m, n, o, p]);
    let [w0, w4, w8, w12] = transpose128([a, e, i, m]);
    let [w1, w5, w9, w13] = transpose128([b, f, j, n]);
    let [w2, w6, w10, w14] = transpose128([c, g, k, o]);
    let [w3, w7, w11, w15] = transpose128([d, h, l, p]);
    [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15]
}

/// Rows to columns, 4 × 4 words of 32 bits in each 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_quarters32(rows: [Lanes; 4]) -> [Lanes; 4] {
    let [a, b, c, d] = rows;
    let (ab, ab_) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd, cd_) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [low64(ab, cd), high64(ab, cd), low64(ab_, cd_), high64(ab_, cd_)]
}

/// Rows to columns: 4 × 4 words of 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose128(rows: [Lanes; 4]) -> [Lanes; 4] {
    let [a, b, c, d] = rows;
    let (ab, ab_) = (even128(a, b), odd128(a, b));
    let (cd, cd_) = (even128(c, d), odd128(c, d));
    [even128(ab, cd), even128(ab_, cd_), odd128(ab, cd), odd128(ab_, cd_)]
}

/// Rows to columns: 8 × 8 words of 64 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose64(rows: [Lanes; 8]) -> [Lanes; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let [w0, w2, w4, w6] = transpose128([low64(a, b), low64(c, d), low64(e, f), low64(g, h)]);
    let [w1, w3, w5, w7] = transpose128([high64(a, b), high64(c, d), high64(e, f), high64(g, h)]);
    [w0, w1, w2, w3, w4, w5, w6, w7]
}

/// Rows to columns: 8 × 8 words of 64 bits, the rows from memory. A half of a row is put beside another as it is
/// loaded, which leaves fewer shuffles than [`transpose64`] needs.
///
/// # Safety
/// 64 bytes can be read from each.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load_transposed64(rows: [*const u8; 8]) -> [Lanes; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    // SAFETY: the caller's promise: rows are two halves.
    let (low, high) = unsafe {
        let low = [load_halves(a, c), load_halves(b, d), load_halves(e, g), load_halves(f, h)];
        let [a, b, c, d, e, f, g, h] = rows.map(|row| row.wrapping_add(32));
        (low, [load_halves(a, c), load_halves(b, d), load_halves(e, g), load_halves(f, h)])
    };
    let [w0, w1, w2, w3] = transpose_halves64(low);
    let [w4, w5, w6, w7] = transpose_halves64(high);
    [w0, w1, w2, w3, w4, w5, w6, w7]
}

/// The 32 bytes at `low`, then the 32 at `high`.
///
/// # Safety
/// They can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_halves(low: *const u8, high: *const u8) -> Lanes {
    // SAFETY: the caller's promise; the loads need no alignment.
    unsafe {
        let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.cast()));
        _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.cast()))
    }
}

/// Rows to columns: four words of 64 bits of eight rows, of which numbers 0 and 2, 1 and 3, 4 and 6, 5 and 7 lie
/// together.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_halves64([a, b, c, d]: [Lanes; 4]) -> [Lanes; 4] {
    let (low, low_) = (low64(a, b), low64(c, d));
    let (high, high_) = (high64(a, b), high64(c, d));
    [even128(low, low_), even128(high, high_), odd128(low, low_), odd128(high, high_)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avx512::Avx512;

    #[test]
    fn rows_become_columns() {
        if Avx512::new().is_none() {
            return;
        }
        let words: [[u32; 16]; 16] =
            std::array::from_fn(|row| std::array::from_fn(|i| (100 * row + i) as u32));
        // SAFETY: there is AVX-512; vectors are plain bits.
        let columns: [[u32; 16]; 16] = unsafe {
            std::mem::transmute(transpose32(std::mem::transmute::<[[u32; 16]; 16], [Lanes; 16]>(words)))
        };
        for (i, column) in columns.iter().enumerate() {
            assert_eq!(*column, words.map(|row| row[i]), "word {i}");
        }
        let words: [[u64; 8]; 8] = std::array::from_fn(|row| std::array::from_fn(|i| (100 * row + i) as u64));
        // SAFETY: as above.
        let columns: [[u64; 8]; 8] = unsafe {
            std::mem::transmute(transpose64(std::mem::transmute::<[[u64; 8]; 8], [Lanes; 8]>(words)))
        };
        // SAFETY: there is AVX-512, and rows are 64 bytes.
        let loaded = unsafe { load_transposed64(words.each_ref().map(|row| row.as_ptr().cast())) };
        // SAFETY: vectors are plain bits.
        let loaded: [[u64; 8]; 8] = unsafe { std::mem::transmute(loaded) };
        for (i, column) in columns.iter().enumerate() {
            assert_eq!(*column, words.map(|row| row[i]), "word {i}");
            assert_eq!(loaded[i], *column, "word {i}");
        }
    }
}
