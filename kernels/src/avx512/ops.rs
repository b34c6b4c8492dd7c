//! What every opcode computes, sixteen lanes a vector (spec §5). 64-bit operands and results are pairs of vectors, low
//! words first.

use std::arch::x86_64::*;

use super::lanes::{Lanes as Word, add32, all32, and, load, or, store, xor};
use crate::program::Op;
use crate::program::lanes::Compute;
use crate::vector::interpreter::{LANES, Operands};
use crate::vector::ops::{execute, functions};

type Pair = [Word; 2];
type Quad = [Word; 4];

execute!("avx512f,avx512bw,avx512cd,avx512dq,avx512vbmi2,avx512bitalg,avx512vpopcntdq");

/// Leading zeros of a byte of which the other nibble is zero; 8 for none.
const CLZ_HIGH: u128 = table([8, 3, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
const CLZ_LOW: u128 = table([8, 7, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4]);

const REVERSE16: u128 = table([1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14]);
const REVERSE32: u128 = table([3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12]);

/// The low, or the high, byte of each half to both bytes.
const EVEN_TWICE: u128 = table([0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14]);
const ODD_TWICE: u128 = table([1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15]);

/// Bytes 0 and 1, or 2 and 3, of each word to the low byte of each half; zeros above.
const WIDEN_LOW: u128 = table([0, 255, 1, 255, 4, 255, 5, 255, 8, 255, 9, 255, 12, 255, 13, 255]);
const WIDEN_HIGH: u128 = table([2, 255, 3, 255, 6, 255, 7, 255, 10, 255, 11, 255, 14, 255, 15, 255]);

/// The same to the high byte of each half.
const RAISE_LOW: u128 = table([255, 0, 255, 1, 255, 4, 255, 5, 255, 8, 255, 9, 255, 12, 255, 13]);
const RAISE_HIGH: u128 = table([255, 2, 255, 3, 255, 6, 255, 7, 255, 10, 255, 11, 255, 14, 255, 15]);

const fn table(bytes: [u8; 16]) -> u128 {
    u128::from_le_bytes(bytes)
}

functions! {
    "avx512f,avx512bw,avx512cd,avx512dq,avx512vbmi2,avx512bitalg,avx512vpopcntdq";

    /// A table in all quarters of a vector, which are looked up apart.
    fn everywhere(table: u128) -> Word {
        _mm512_broadcast_i32x4(_mm_set_epi64x((table >> 64) as i64, table as i64))
    }
    /// Byte `order[i]` of each 16 to place i; zero where `order[i]` has its top bit set.
    fn look_up_bytes(a: Word, order: u128) -> Word { _mm512_shuffle_epi8(a, everywhere(order)) }

    fn ones() -> Word { all32(u32::MAX) }
    fn sub32(a: Word, b: Word) -> Word { _mm512_sub_epi32(a, b) }
    fn low_bytes(a: Word) -> Word { and(a, all32(0x00ff_00ff)) }
    fn high_bytes(a: Word) -> Word { and(a, all32(0xff00_ff00)) }
    fn low_halves(a: Word) -> Word { and(a, all32(0x0000_ffff)) }
    fn high_halves(a: Word) -> Word { and(a, all32(0xffff_0000)) }
    /// The low bytes of the one and the high bytes of the other.
    fn low_and_high8(low: Word, high: Word) -> Word {
        _mm512_ternarylogic_epi32::<0xca>(all32(0x00ff_00ff), low, high)
    }
    /// The low halves of the one and the high halves of the other.
    fn low_and_high16(low: Word, high: Word) -> Word {
        _mm512_ternarylogic_epi32::<0xca>(all32(0x0000_ffff), low, high)
    }
    fn negative(a: Word) -> __mmask16 { _mm512_movepi32_mask(a) }
    fn below(a: Word, b: Word) -> __mmask16 { _mm512_cmplt_epu32_mask(a, b) }

    fn popcnt8(a: Word) -> Word { _mm512_popcnt_epi8(a) }
    fn popcnt16(a: Word) -> Word { _mm512_popcnt_epi16(a) }
    fn popcnt32(a: Word) -> Word { _mm512_popcnt_epi32(a) }

    /// What the low nibble gives is too much if the high one is not zero, but with its top bit set, when both give
    /// zero.
    fn clz8(a: Word) -> Word {
        let high_nibbles = and(_mm512_srli_epi16(a, 4), all32(0x0f0f_0f0f));
        let high = _mm512_shuffle_epi8(everywhere(CLZ_HIGH), high_nibbles);
        _mm512_min_epu8(high, _mm512_shuffle_epi8(everywhere(CLZ_LOW), a))
    }
    /// Of words with the half in question on top, and a one below it.
    fn clz16(a: Word) -> Word {
        let high = _mm512_lzcnt_epi32(or(a, all32(0x8000)));
        let low = _mm512_lzcnt_epi32(_mm512_shldi_epi32::<16>(a, all32(0x8000_0000)));
        or(low, _mm512_slli_epi32(high, 16))
    }
    fn clz32(a: Word) -> Word { _mm512_lzcnt_epi32(a) }

    fn ctz8(a: Word) -> Word { popcnt8(_mm512_andnot_si512(a, add8(a, ones()))) }
    fn ctz16(a: Word) -> Word { popcnt16(_mm512_andnot_si512(a, add16(a, ones()))) }
    fn ctz32(a: Word) -> Word { popcnt32(_mm512_andnot_si512(a, add32(a, ones()))) }

    fn bswap16(a: Word) -> Word { look_up_bytes(a, REVERSE16) }
    fn bswap32(a: Word) -> Word { look_up_bytes(a, REVERSE32) }

    fn add8(a: Word, b: Word) -> Word { _mm512_add_epi8(a, b) }
    fn add16(a: Word, b: Word) -> Word { _mm512_add_epi16(a, b) }
    fn sub8(a: Word, b: Word) -> Word { _mm512_sub_epi8(a, b) }
    fn sub16(a: Word, b: Word) -> Word { _mm512_sub_epi16(a, b) }

    // There are no shifts of bytes: shift halves, once for each byte.

    fn even_counts8(b: Word) -> Word { and(b, all32(0x0007_0007)) }
    fn odd_counts8(b: Word) -> Word { and(_mm512_srli_epi16(b, 8), all32(0x0007_0007)) }

    fn shll8(a: Word, b: Word) -> Word {
        let even = _mm512_sllv_epi16(a, even_counts8(b));
        low_and_high8(even, _mm512_sllv_epi16(high_bytes(a), odd_counts8(b)))
    }
    fn shrl8(a: Word, b: Word) -> Word {
        let even = _mm512_srlv_epi16(low_bytes(a), even_counts8(b));
        low_and_high8(even, _mm512_srlv_epi16(a, odd_counts8(b)))
    }
    fn shra8(a: Word, b: Word) -> Word {
        let even = _mm512_srav_epi16(_mm512_slli_epi16(a, 8), or(even_counts8(b), all32(0x0008_0008)));
        low_and_high8(even, _mm512_srav_epi16(a, odd_counts8(b)))
    }
    /// A half of two equal bytes rotates as these do.
    fn rotl8(a: Word, b: Word) -> Word {
        let (even, odd) = (look_up_bytes(a, EVEN_TWICE), look_up_bytes(a, ODD_TWICE));
        low_and_high8(rotl16(even, b), rotl16(odd, _mm512_srli_epi16(b, 8)))
    }
    fn mul8(a: Word, b: Word) -> Word {
        low_and_high8(mul16(a, b), mul16(_mm512_srli_epi16(a, 8), high_bytes(b)))
    }

    // Shifts of two halves or words in a row take counts modulo their width, so they are used for one as well.

    fn shll16(a: Word, b: Word) -> Word { _mm512_shldv_epi16(a, all32(0), b) }
    fn shrl16(a: Word, b: Word) -> Word { _mm512_shrdv_epi16(a, all32(0), b) }
    fn shra16(a: Word, b: Word) -> Word { _mm512_srav_epi16(a, and(b, all32(0x000f_000f))) }
    fn rotl16(a: Word, b: Word) -> Word { _mm512_shldv_epi16(a, a, b) }
    fn mul16(a: Word, b: Word) -> Word { _mm512_mullo_epi16(a, b) }

    fn shll32(a: Word, b: Word) -> Word { _mm512_shldv_epi32(a, all32(0), b) }
    fn shrl32(a: Word, b: Word) -> Word { _mm512_shrdv_epi32(a, all32(0), b) }
    fn shra32(a: Word, b: Word) -> Word { _mm512_srav_epi32(a, and(b, all32(31))) }
    fn rotl32(a: Word, b: Word) -> Word { _mm512_rolv_epi32(a, b) }
    fn mul32(a: Word, b: Word) -> Word { _mm512_mullo_epi32(a, b) }

    fn widen(a: Word) -> Pair { [look_up_bytes(a, WIDEN_LOW), look_up_bytes(a, WIDEN_HIGH)] }
    fn raise(a: Word) -> Pair { [look_up_bytes(a, RAISE_LOW), look_up_bytes(a, RAISE_HIGH)] }
    fn add8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (widen(a), widen(b));
        [add16(a0, b0), add16(a1, b1)]
    }
    fn sub8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (widen(a), widen(b));
        [sub16(a0, b0), sub16(a1, b1)]
    }
    /// The upper half of what the bytes, times 256 each, give.
    fn mul8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (raise(a), raise(b));
        [_mm512_mulhi_epi16(a0, b0), _mm512_mulhi_epi16(a1, b1)]
    }
    /// Sums of two products, one of which is zero: of bytes without a sign and bytes with one.
    fn mulsu8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (widen(a), widen(b));
        [_mm512_maddubs_epi16(b0, a0), _mm512_maddubs_epi16(b1, a1)]
    }
    fn mulu8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (widen(a), widen(b));
        [mul16(a0, b0), mul16(a1, b1)]
    }

    fn add16c(a: Word, b: Word) -> Pair {
        let high = add32(_mm512_srli_epi32(a, 16), _mm512_srli_epi32(b, 16));
        [add32(low_halves(a), low_halves(b)), high]
    }
    fn sub16c(a: Word, b: Word) -> Pair {
        let high = sub32(_mm512_srli_epi32(a, 16), _mm512_srli_epi32(b, 16));
        [sub32(low_halves(a), low_halves(b)), high]
    }
    fn exchange_halves(a: Word) -> Word { _mm512_rol_epi32::<16>(a) }
    /// The low halves of both, then the high halves of both.
    fn halves_in_order(even: Word, odd: Word) -> Pair {
        [low_and_high16(even, exchange_halves(odd)), low_and_high16(exchange_halves(even), odd)]
    }
    /// Sums of two products, one of which is zero.
    fn mul16c(a: Word, b: Word) -> Pair {
        [_mm512_madd_epi16(a, low_halves(b)), _mm512_madd_epi16(a, high_halves(b))]
    }
    fn mulsu16c(a: Word, b: Word) -> Pair {
        let high = _mm512_mulhi_epu16(a, b);
        halves_in_order(mul16(a, b), _mm512_mask_sub_epi16(high, _mm512_movepi16_mask(a), high, b))
    }
    fn mulu16c(a: Word, b: Word) -> Pair { halves_in_order(mul16(a, b), _mm512_mulhi_epu16(a, b)) }

    fn add32c(a: Word, b: Word) -> Pair {
        let sum = add32(a, b);
        [sum, _mm512_maskz_set1_epi32(below(sum, a), 1)]
    }
    fn sub32c(a: Word, b: Word) -> Pair { [sub32(a, b), _mm512_movm_epi32(below(a, b))] }
    /// The even lanes of both, then the odd lanes of both.
    fn lanes_in_order(even: Word, odd: Word) -> Pair {
        let low = _mm512_mask_shuffle_epi32::<0b10_10_00_00>(even, 0xaaaa, odd);
        [low, _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0x5555, even)]
    }
    fn odd(a: Word) -> Word { _mm512_srli_epi64(a, 32) }
    fn mul32c(a: Word, b: Word) -> Pair {
        lanes_in_order(_mm512_mul_epi32(a, b), _mm512_mul_epi32(odd(a), odd(b)))
    }
    fn mulsu32c(a: Word, b: Word) -> Pair {
        let [low, high] = mulu32c(a, b);
        [low, _mm512_mask_sub_epi32(high, negative(a), high, b)]
    }
    fn mulu32c(a: Word, b: Word) -> Pair {
        lanes_in_order(_mm512_mul_epu32(a, b), _mm512_mul_epu32(odd(a), odd(b)))
    }

    /// The high words, and a carry where `carry` is set.
    fn add_with(carry: __mmask16, a: Word, b: Word) -> Word {
        let sum = add32(a, b);
        _mm512_mask_sub_epi32(sum, carry, sum, ones())
    }
    fn sub_with(borrow: __mmask16, a: Word, b: Word) -> Word {
        let difference = sub32(a, b);
        _mm512_mask_add_epi32(difference, borrow, difference, ones())
    }
    fn add64(a: Pair, b: Pair) -> Pair {
        let low = add32(a[0], b[0]);
        [low, add_with(below(low, a[0]), a[1], b[1])]
    }
    fn sub64(a: Pair, b: Pair) -> Pair { [sub32(a[0], b[0]), sub_with(below(a[0], b[0]), a[1], b[1])] }

    /// Where a count modulo 64 is below 32.
    fn is_short(b: Pair) -> __mmask16 { _mm512_testn_epi32_mask(b[0], all32(32)) }
    fn shll64(a: Pair, b: Pair) -> Pair {
        let (low, high) = (shll32(a[0], b[0]), _mm512_shldv_epi32(a[1], a[0], b[0]));
        [_mm512_maskz_mov_epi32(is_short(b), low), _mm512_mask_mov_epi32(low, is_short(b), high)]
    }
    fn shrl64(a: Pair, b: Pair) -> Pair {
        let (low, high) = (_mm512_shrdv_epi32(a[0], a[1], b[0]), shrl32(a[1], b[0]));
        [_mm512_mask_mov_epi32(high, is_short(b), low), _mm512_maskz_mov_epi32(is_short(b), high)]
    }
    fn shra64(a: Pair, b: Pair) -> Pair {
        let (low, high) = (_mm512_shrdv_epi32(a[0], a[1], b[0]), shra32(a[1], b[0]));
        let signs = _mm512_srai_epi32(a[1], 31);
        [_mm512_mask_mov_epi32(high, is_short(b), low), _mm512_mask_mov_epi32(signs, is_short(b), high)]
    }
    /// With the words exchanged where the count is not short.
    fn exchanged(a: Pair, b: Pair) -> Pair {
        let short = is_short(b);
        [_mm512_mask_mov_epi32(a[1], short, a[0]), _mm512_mask_mov_epi32(a[0], short, a[1])]
    }
    fn rotl64(a: Pair, b: Pair) -> Pair {
        let [low, high] = exchanged(a, b);
        [_mm512_shldv_epi32(low, high, b[0]), _mm512_shldv_epi32(high, low, b[0])]
    }
    fn rotr64(a: Pair, b: Pair) -> Pair {
        let [low, high] = exchanged(a, b);
        [_mm512_shrdv_epi32(low, high, b[0]), _mm512_shrdv_epi32(high, low, b[0])]
    }
    /// As 64-bit elements: the even lanes, then the odd lanes. Its own inverse.
    fn mul64(a: Pair, b: Pair) -> Pair {
        let ([a0, a1], [b0, b1]) = (lanes_in_order(a[0], a[1]), lanes_in_order(b[0], b[1]));
        lanes_in_order(_mm512_mullo_epi64(a0, b0), _mm512_mullo_epi64(a1, b1))
    }

    /// The carry out of the high words is that of their top bits: two out of a, b, and not the sum.
    fn add64c(a: Pair, b: Pair) -> Quad {
        let [low, high] = add64(a, b);
        let carry = _mm512_ternarylogic_epi32::<0xd4>(a[1], b[1], high);
        [low, high, _mm512_srli_epi32(carry, 31), all32(0)]
    }
    /// Likewise the borrow: two out of not a, b, and the difference.
    fn sub64c(a: Pair, b: Pair) -> Quad {
        let [low, high] = sub64(a, b);
        let borrow = _mm512_srai_epi32(_mm512_ternarylogic_epi32::<0x8e>(a[1], b[1], high), 31);
        [low, high, borrow, borrow]
    }
    /// The four words of 64 × 64 → 128 products of the even lanes: of word 1 and word 0 the low half of the vectors'
    /// elements counts, the last vector holds words 2 and 3.
    fn wide_products(a: Pair, b: Pair) -> [Word; 3] {
        let low_part = _mm512_set1_epi64(0xffff_ffff);
        let p00 = _mm512_mul_epu32(a[0], b[0]);
        let p01 = _mm512_mul_epu32(a[0], b[1]);
        let p10 = _mm512_mul_epu32(a[1], b[0]);
        let p11 = _mm512_mul_epu32(a[1], b[1]);
        let middle = _mm512_add_epi64(p01, odd(p00));
        let middle_low = _mm512_add_epi64(p10, and(middle, low_part));
        let high = _mm512_add_epi64(_mm512_add_epi64(p11, odd(middle)), odd(middle_low));
        [p00, middle_low, high]
    }
    fn mulu64c(a: Pair, b: Pair) -> Quad {
        let even = wide_products(a, b);
        let odd_lanes = wide_products([odd(a[0]), odd(a[1])], [odd(b[0]), odd(b[1])]);
        let w0 = lanes_in_order(even[0], odd_lanes[0])[0];
        let w1 = lanes_in_order(even[1], odd_lanes[1])[0];
        let [w2, w3] = lanes_in_order(even[2], odd_lanes[2]);
        [w0, w1, w2, w3]
    }
    /// The upper 64 bits less `excess` where `is_signed`.
    fn less(product: Quad, is_signed: __mmask16, excess: Pair) -> Quad {
        let [w0, w1, w2, w3] = product;
        let borrow = _mm512_mask_cmplt_epu32_mask(is_signed, w2, excess[0]);
        let w3 = _mm512_mask_sub_epi32(w3, is_signed, w3, excess[1]);
        let w3 = _mm512_mask_add_epi32(w3, borrow, w3, ones());
        [w0, w1, _mm512_mask_sub_epi32(w2, is_signed, w2, excess[0]), w3]
    }
    fn mulsu64c(a: Pair, b: Pair) -> Quad { less(mulu64c(a, b), negative(a[1]), b) }
    fn mul64c(a: Pair, b: Pair) -> Quad { less(mulsu64c(a, b), negative(b[1]), a) }
}
