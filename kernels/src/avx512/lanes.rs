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

/// Rows to columns: 16 × 16 words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose32(rows: [Lanes; 16]) -> [Lanes; 16] {
    // In each 128 bits words 0 to 3 of rows 4 i to 4 i + 3, then whole 128 bits.
    let quads: [[Lanes; 4]; 4] =
        std::array::from_fn(|i| transpose_quarters32(std::array::from_fn(|k| rows[4 * i + k])));
    let columns: [[Lanes; 4]; 4] =
        std::array::from_fn(|word| transpose128(std::array::from_fn(|i| quads[i][word])));
    std::array::from_fn(|i| columns[i % 4][i / 4])
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
    let low: [Lanes; 4] = std::array::from_fn(|i| low64(rows[2 * i], rows[2 * i + 1]));
    let high: [Lanes; 4] = std::array::from_fn(|i| high64(rows[2 * i], rows[2 * i + 1]));
    let (even, odd) = (transpose128(low), transpose128(high));
    std::array::from_fn(|i| if i % 2 == 0 { even[i / 2] } else { odd[i / 2] })
}

/// Rows to columns: 8 × 8 words of 64 bits, the rows from memory. A half of a row is put beside another as it is loaded,
/// which leaves fewer shuffles than [`transpose64`] needs.
///
/// # Safety
/// 64 bytes can be read from each.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load_transposed64(rows: [*const u8; 8]) -> [Lanes; 8] {
    let half = |row: usize, half: usize| rows[row].wrapping_add(32 * half).cast();
    // SAFETY: the caller's promise: rows are two halves.
    let beside = |low: usize, high: usize, i: usize| unsafe {
        let low = _mm512_castsi256_si512(_mm256_loadu_si256(half(low, i)));
        _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(half(high, i)))
    };
    let columns = [0, 1].map(|i| {
        let (a, b, c, d) = (beside(0, 2, i), beside(1, 3, i), beside(4, 6, i), beside(5, 7, i));
        let (low, high) = ([low64(a, b), low64(c, d)], [high64(a, b), high64(c, d)]);
        [even128(low[0], low[1]), even128(high[0], high[1]), odd128(low[0], low[1]), odd128(high[0], high[1])]
    });
    std::array::from_fn(|word| columns[word / 4][word % 4])
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
