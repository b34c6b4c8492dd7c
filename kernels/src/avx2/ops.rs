//! What every opcode computes, eight lanes a vector (spec §5). 64-bit operands and results are pairs of vectors, low
//! words first.

use std::arch::x86_64::*;

use super::lanes::{Lanes as Word, add32, all32, and, load, or, store, xor};
use crate::program::Op;
use crate::program::lanes::Compute;
use crate::vector::interpreter::{LANES, Operands};
use crate::vector::ops::{execute, functions};

type Pair = [Word; 2];
type Quad = [Word; 4];

execute!("avx2");

/// Sixteen bytes, as the halves that a vector is set from.
type Table = [i64; 2];

const fn table(bytes: [u8; 16]) -> Table {
    let bits = u128::from_le_bytes(bytes);
    [bits as i64, (bits >> 64) as i64]
}

/// Bits of a nibble.
#[rustfmt::skip]
const POPCNT4: Table = table([0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4]);

/// Leading zeros of a byte of which the other nibble is zero; 8 for none.
const CLZ_HIGH: Table = table([8, 3, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
const CLZ_LOW: Table = table([8, 7, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4]);

/// Trailing zeros likewise.
const CTZ_HIGH: Table = table([8, 4, 5, 4, 6, 4, 5, 4, 7, 4, 5, 4, 6, 4, 5, 4]);
const CTZ_LOW: Table = table([8, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0]);

/// 2^i and 2^(7 − i) for i below 8.
const POWERS: Table = table([1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0]);
const INVERSE_POWERS: Table = table([128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);

const REVERSE16: Table = table([1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14]);
const REVERSE32: Table = table([3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12]);

/// Bytes 0 and 1, or 2 and 3, of each word to the low byte of each half; zeros above.
const WIDEN_LOW: Table = table([0, 255, 1, 255, 4, 255, 5, 255, 8, 255, 9, 255, 12, 255, 13, 255]);
const WIDEN_HIGH: Table = table([2, 255, 3, 255, 6, 255, 7, 255, 10, 255, 11, 255, 14, 255, 15, 255]);

/// The same to the high byte of each half.
const RAISE_LOW: Table = table([255, 0, 255, 1, 255, 4, 255, 5, 255, 8, 255, 9, 255, 12, 255, 13]);
const RAISE_HIGH: Table = table([255, 2, 255, 3, 255, 6, 255, 7, 255, 10, 255, 11, 255, 14, 255, 15]);

/// The low, or the high, half of each word to both halves.
const TWICE_LOW: Table = table([0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13]);
const TWICE_HIGH: Table = table([2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15]);

functions! {
    "avx2";

    /// `table[i]` for every byte i of `indices`; zero where its top bit is set.
    fn look_up(table: Table, indices: Word) -> Word { _mm256_shuffle_epi8(twice(table), indices) }
    /// In both halves of a vector, which are looked up apart.
    fn twice(table: Table) -> Word { _mm256_set_epi64x(table[1], table[0], table[1], table[0]) }

    fn word(value: i32) -> Word { _mm256_set1_epi32(value) }
    fn low_nibbles(a: Word) -> Word { _mm256_and_si256(a, _mm256_set1_epi8(15)) }
    fn high_nibbles(a: Word) -> Word { low_nibbles(_mm256_srli_epi16(a, 4)) }
    fn low_bytes(a: Word) -> Word { _mm256_and_si256(a, _mm256_set1_epi16(0xff)) }
    fn low_halves(a: Word) -> Word { _mm256_and_si256(a, word(0xffff)) }
    fn high_halves(a: Word) -> Word { _mm256_and_si256(a, word(!0xffff)) }
    fn sub32(a: Word, b: Word) -> Word { _mm256_sub_epi32(a, b) }

    /// Ones where a < b, unsigned.
    fn below(a: Word, b: Word) -> Word {
        let not_below = _mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a);
        _mm256_xor_si256(not_below, word(-1))
    }

    /// Ones where a is negative.
    fn negative(a: Word) -> Word { _mm256_srai_epi32(a, 31) }

    /// The low halves of the one and the high halves of the other.
    fn low_and_high(low: Word, high: Word) -> Word { _mm256_blend_epi16(low, high, 0xaa) }

    fn popcnt8(a: Word) -> Word {
        _mm256_add_epi8(look_up(POPCNT4, low_nibbles(a)), look_up(POPCNT4, high_nibbles(a)))
    }
    fn popcnt16(a: Word) -> Word { _mm256_maddubs_epi16(popcnt8(a), _mm256_set1_epi8(1)) }
    fn popcnt32(a: Word) -> Word { _mm256_madd_epi16(popcnt16(a), _mm256_set1_epi16(1)) }

    fn clz8(a: Word) -> Word {
        _mm256_min_epu8(look_up(CLZ_HIGH, high_nibbles(a)), look_up(CLZ_LOW, low_nibbles(a)))
    }
    fn clz16(a: Word) -> Word {
        let bytes = clz8(a);
        let high = _mm256_srli_epi16(bytes, 8);
        let is_zero = _mm256_cmpeq_epi16(high, _mm256_set1_epi16(8));
        _mm256_add_epi16(high, and(low_bytes(bytes), is_zero))
    }
    /// From the exponent of the number as a float. Clearing the bit below each set one keeps it from being rounded
    /// up; a zero has exponent 0, a negative number one of 256 and more.
    fn clz32(a: Word) -> Word {
        let rounded = _mm256_andnot_si256(_mm256_srli_epi32(a, 1), a);
        let float = _mm256_castps_si256(_mm256_cvtepi32_ps(rounded));
        let zeros = _mm256_subs_epu16(word(158), _mm256_srli_epi32(float, 23));
        _mm256_min_epi16(zeros, word(32))
    }

    fn ctz8(a: Word) -> Word {
        _mm256_min_epu8(look_up(CTZ_HIGH, high_nibbles(a)), look_up(CTZ_LOW, low_nibbles(a)))
    }
    fn ctz16(a: Word) -> Word {
        popcnt16(_mm256_andnot_si256(a, _mm256_sub_epi16(a, _mm256_set1_epi16(1))))
    }
    fn ctz32(a: Word) -> Word { popcnt32(_mm256_andnot_si256(a, sub32(a, word(1)))) }

    fn bswap16(a: Word) -> Word { look_up_bytes(a, REVERSE16) }
    fn bswap32(a: Word) -> Word { look_up_bytes(a, REVERSE32) }
    /// Byte `order[i]` of each 16 to place i; zero where `order[i]` has its top bit set.
    fn look_up_bytes(a: Word, order: Table) -> Word { _mm256_shuffle_epi8(a, twice(order)) }

    fn add8(a: Word, b: Word) -> Word { _mm256_add_epi8(a, b) }
    fn add16(a: Word, b: Word) -> Word { _mm256_add_epi16(a, b) }
    fn sub8(a: Word, b: Word) -> Word { _mm256_sub_epi8(a, b) }
    fn sub16(a: Word, b: Word) -> Word { _mm256_sub_epi16(a, b) }

    // There are no shifts of bytes: multiply by powers of two.

    fn powers8(b: Word) -> Word { look_up(POWERS, and(b, _mm256_set1_epi8(7))) }
    fn inverse_powers8(b: Word) -> Word { look_up(INVERSE_POWERS, and(b, _mm256_set1_epi8(7))) }

    fn shll8(a: Word, b: Word) -> Word {
        let powers = powers8(b);
        let even = _mm256_mullo_epi16(a, low_bytes(powers));
        let odd_bytes = _mm256_andnot_si256(_mm256_set1_epi16(0xff), a);
        or(low_bytes(even), _mm256_mullo_epi16(odd_bytes, _mm256_srli_epi16(powers, 8)))
    }
    fn shrl8(a: Word, b: Word) -> Word {
        let powers = inverse_powers8(b);
        let even = _mm256_mullo_epi16(low_bytes(a), low_bytes(powers));
        let odd = _mm256_mullo_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(powers, 8));
        or(_mm256_srli_epi16(even, 7), _mm256_slli_epi16(_mm256_srli_epi16(odd, 7), 8))
    }
    fn shra8(a: Word, b: Word) -> Word {
        let powers = inverse_powers8(b);
        let even_bytes = _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8);
        let even = _mm256_mullo_epi16(even_bytes, low_bytes(powers));
        let odd = _mm256_mullo_epi16(_mm256_srai_epi16(a, 8), _mm256_srli_epi16(powers, 8));
        or(low_bytes(_mm256_srli_epi16(even, 7)), _mm256_slli_epi16(_mm256_srli_epi16(odd, 7), 8))
    }
    fn rotl8(a: Word, b: Word) -> Word {
        let powers = powers8(b);
        let even = _mm256_mullo_epi16(low_bytes(a), low_bytes(powers));
        let odd = _mm256_mullo_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(powers, 8));
        let even = low_bytes(or(even, _mm256_srli_epi16(even, 8)));
        let odd = or(_mm256_slli_epi16(odd, 8), _mm256_andnot_si256(_mm256_set1_epi16(0xff), odd));
        or(even, odd)
    }
    fn mul8(a: Word, b: Word) -> Word {
        let odd_bytes = _mm256_andnot_si256(_mm256_set1_epi16(0xff), b);
        or(low_bytes(_mm256_mullo_epi16(a, b)), _mm256_mullo_epi16(_mm256_srli_epi16(a, 8), odd_bytes))
    }

    fn mul16(a: Word, b: Word) -> Word { _mm256_mullo_epi16(a, b) }
    fn mul32(a: Word, b: Word) -> Word { _mm256_mullo_epi32(a, b) }

    // Nor are there shifts of halves by counts of their own: shift words, once for each half.

    fn low_counts16(b: Word) -> Word { and(b, word(15)) }
    fn high_counts16(b: Word) -> Word { and(_mm256_srli_epi32(b, 16), word(15)) }

    fn shll16(a: Word, b: Word) -> Word {
        let low = _mm256_sllv_epi32(a, low_counts16(b));
        low_and_high(low, _mm256_sllv_epi32(high_halves(a), high_counts16(b)))
    }
    fn shrl16(a: Word, b: Word) -> Word {
        let low = _mm256_srlv_epi32(low_halves(a), low_counts16(b));
        low_and_high(low, _mm256_srlv_epi32(a, high_counts16(b)))
    }
    fn shra16(a: Word, b: Word) -> Word {
        let low = _mm256_srav_epi32(_mm256_slli_epi32(a, 16), low_counts16(b));
        low_and_high(_mm256_srli_epi32(low, 16), _mm256_srav_epi32(a, high_counts16(b)))
    }
    fn rotl16(a: Word, b: Word) -> Word {
        let low = _mm256_sllv_epi32(look_up_bytes(a, TWICE_LOW), low_counts16(b));
        let high = _mm256_sllv_epi32(look_up_bytes(a, TWICE_HIGH), high_counts16(b));
        low_and_high(_mm256_srli_epi32(low, 16), high)
    }

    fn counts32(b: Word) -> Word { and(b, word(31)) }
    fn shll32(a: Word, b: Word) -> Word { _mm256_sllv_epi32(a, counts32(b)) }
    fn shrl32(a: Word, b: Word) -> Word { _mm256_srlv_epi32(a, counts32(b)) }
    fn shra32(a: Word, b: Word) -> Word { _mm256_srav_epi32(a, counts32(b)) }
    fn rotl32(a: Word, b: Word) -> Word {
        let count = counts32(b);
        or(_mm256_sllv_epi32(a, count), _mm256_srlv_epi32(a, sub32(word(32), count)))
    }

    fn bytes_up(a: Word) -> Pair { [look_up_bytes(a, WIDEN_LOW), look_up_bytes(a, WIDEN_HIGH)] }
    fn signed_bytes_up(a: Word) -> Pair {
        let (low, high) = (look_up_bytes(a, RAISE_LOW), look_up_bytes(a, RAISE_HIGH));
        [_mm256_srai_epi16(low, 8), _mm256_srai_epi16(high, 8)]
    }
    fn add8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (bytes_up(a), bytes_up(b));
        [_mm256_add_epi16(a0, b0), _mm256_add_epi16(a1, b1)]
    }
    fn sub8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (bytes_up(a), bytes_up(b));
        [_mm256_sub_epi16(a0, b0), _mm256_sub_epi16(a1, b1)]
    }
    fn mul8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (signed_bytes_up(a), signed_bytes_up(b));
        [_mm256_mullo_epi16(a0, b0), _mm256_mullo_epi16(a1, b1)]
    }
    fn mulsu8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (signed_bytes_up(a), bytes_up(b));
        [_mm256_mullo_epi16(a0, b0), _mm256_mullo_epi16(a1, b1)]
    }
    fn mulu8c(a: Word, b: Word) -> Pair {
        let ([a0, a1], [b0, b1]) = (bytes_up(a), bytes_up(b));
        [_mm256_mullo_epi16(a0, b0), _mm256_mullo_epi16(a1, b1)]
    }

    fn add16c(a: Word, b: Word) -> Pair {
        let high = add32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
        [add32(low_halves(a), low_halves(b)), high]
    }
    fn sub16c(a: Word, b: Word) -> Pair {
        let high = sub32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
        [sub32(low_halves(a), low_halves(b)), high]
    }
    /// Products whose low and high halves stand in `low` and `high`.
    fn products16(low: Word, high: Word) -> Pair {
        [low_and_high(low, _mm256_slli_epi32(high, 16)), low_and_high(_mm256_srli_epi32(low, 16), high)]
    }
    fn mul16c(a: Word, b: Word) -> Pair { products16(_mm256_mullo_epi16(a, b), _mm256_mulhi_epi16(a, b)) }
    fn mulsu16c(a: Word, b: Word) -> Pair {
        let excess = and(_mm256_srai_epi16(a, 15), b);
        products16(_mm256_mullo_epi16(a, b), _mm256_sub_epi16(_mm256_mulhi_epu16(a, b), excess))
    }
    fn mulu16c(a: Word, b: Word) -> Pair { products16(_mm256_mullo_epi16(a, b), _mm256_mulhi_epu16(a, b)) }

    fn add32c(a: Word, b: Word) -> Pair {
        let sum = add32(a, b);
        [sum, _mm256_srli_epi32(below(sum, a), 31)]
    }
    fn sub32c(a: Word, b: Word) -> Pair { [sub32(a, b), below(a, b)] }
    /// Low and high words of products, of which the even and the odd lanes' are at hand.
    fn split(even: Word, odd: Word) -> Pair {
        let low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
        [low, _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa)]
    }
    fn odd(a: Word) -> Word { _mm256_srli_epi64(a, 32) }
    fn mul32c(a: Word, b: Word) -> Pair { split(_mm256_mul_epi32(a, b), _mm256_mul_epi32(odd(a), odd(b))) }
    fn mulsu32c(a: Word, b: Word) -> Pair {
        let [low, high] = mulu32c(a, b);
        [low, sub32(high, and(negative(a), b))]
    }
    fn mulu32c(a: Word, b: Word) -> Pair { split(_mm256_mul_epu32(a, b), _mm256_mul_epu32(odd(a), odd(b))) }

    fn add64(a: Pair, b: Pair) -> Pair {
        let low = add32(a[0], b[0]);
        [low, sub32(add32(a[1], b[1]), below(low, a[0]))]
    }
    fn sub64(a: Pair, b: Pair) -> Pair {
        [sub32(a[0], b[0]), add32(sub32(a[1], b[1]), below(a[0], b[0]))]
    }

    // Vector shifts by 32 and more, also by counts below zero, give zeros (arithmetic ones: signs).

    fn counts64(b: Pair) -> Word { and(b[0], word(63)) }
    fn shll64(a: Pair, b: Pair) -> Pair {
        let count = counts64(b);
        let high = or(_mm256_sllv_epi32(a[1], count), _mm256_srlv_epi32(a[0], sub32(word(32), count)));
        [_mm256_sllv_epi32(a[0], count), or(high, _mm256_sllv_epi32(a[0], sub32(count, word(32))))]
    }
    fn shrl64(a: Pair, b: Pair) -> Pair {
        let count = counts64(b);
        let low = or(_mm256_srlv_epi32(a[0], count), _mm256_sllv_epi32(a[1], sub32(word(32), count)));
        [or(low, _mm256_srlv_epi32(a[1], sub32(count, word(32)))), _mm256_srlv_epi32(a[1], count)]
    }
    fn shra64(a: Pair, b: Pair) -> Pair {
        let count = counts64(b);
        let low = or(_mm256_srlv_epi32(a[0], count), _mm256_sllv_epi32(a[1], sub32(word(32), count)));
        let low_of_long = _mm256_srav_epi32(a[1], sub32(count, word(32)));
        let is_long = _mm256_cmpgt_epi32(count, word(31));
        [_mm256_blendv_epi8(low, low_of_long, is_long), _mm256_srav_epi32(a[1], count)]
    }
    fn rotl64(a: Pair, b: Pair) -> Pair { rotate64(a, b[0]) }
    fn rotr64(a: Pair, b: Pair) -> Pair { rotate64(a, sub32(word(0), b[0])) }
    fn rotate64(a: Pair, count: Word) -> Pair {
        let swap = negative(_mm256_slli_epi32(count, 26));
        let low = _mm256_blendv_epi8(a[0], a[1], swap);
        let high = _mm256_blendv_epi8(a[1], a[0], swap);
        let count = counts32(count);
        let rest = sub32(word(32), count);
        [
            or(_mm256_sllv_epi32(low, count), _mm256_srlv_epi32(high, rest)),
            or(_mm256_sllv_epi32(high, count), _mm256_srlv_epi32(low, rest)),
        ]
    }
    fn mul64(a: Pair, b: Pair) -> Pair {
        let [low, high] = mulu32c(a[0], b[0]);
        let crossed = add32(_mm256_mullo_epi32(a[0], b[1]), _mm256_mullo_epi32(a[1], b[0]));
        [low, add32(high, crossed)]
    }

    fn add64c(a: Pair, b: Pair) -> Quad {
        let low = add32(a[0], b[0]);
        let carry = below(low, a[0]);
        let high = add32(a[1], b[1]);
        let carry_out = or(below(high, a[1]), and(carry, _mm256_cmpeq_epi32(high, word(-1))));
        [low, sub32(high, carry), _mm256_srli_epi32(carry_out, 31), word(0)]
    }
    fn sub64c(a: Pair, b: Pair) -> Quad {
        let borrow = below(a[0], b[0]);
        let borrow_out = or(below(a[1], b[1]), and(borrow, _mm256_cmpeq_epi32(a[1], b[1])));
        [sub32(a[0], b[0]), add32(sub32(a[1], b[1]), borrow), borrow_out, borrow_out]
    }
    /// The four words of 64 × 64 → 128 products of the even lanes: of word 1 and word 0 the low half of the vectors'
    /// elements counts, the last vector holds words 2 and 3.
    fn wide_products(a: Pair, b: Pair) -> [Word; 3] {
        let low_part = _mm256_set1_epi64x(0xffff_ffff);
        let p00 = _mm256_mul_epu32(a[0], b[0]);
        let p01 = _mm256_mul_epu32(a[0], b[1]);
        let p10 = _mm256_mul_epu32(a[1], b[0]);
        let p11 = _mm256_mul_epu32(a[1], b[1]);
        let middle = _mm256_add_epi64(p01, odd(p00));
        let middle_low = _mm256_add_epi64(p10, and(middle, low_part));
        let high = _mm256_add_epi64(_mm256_add_epi64(p11, odd(middle)), odd(middle_low));
        [p00, middle_low, high]
    }
    fn mulu64c(a: Pair, b: Pair) -> Quad {
        let even = wide_products(a, b);
        let odd_lanes = wide_products([odd(a[0]), odd(a[1])], [odd(b[0]), odd(b[1])]);
        let w0 = _mm256_blend_epi32(even[0], _mm256_slli_epi64(odd_lanes[0], 32), 0xaa);
        let w1 = _mm256_blend_epi32(even[1], _mm256_slli_epi64(odd_lanes[1], 32), 0xaa);
        let [w2, w3] = split(even[2], odd_lanes[2]);
        [w0, w1, w2, w3]
    }
    /// The upper 64 bits less `excess` where `is_signed`.
    fn less(product: Quad, is_signed: Word, excess: Pair) -> Quad {
        let excess = [and(is_signed, excess[0]), and(is_signed, excess[1])];
        let [w2, w3] = sub64([product[2], product[3]], excess);
        [product[0], product[1], w2, w3]
    }
    fn mulsu64c(a: Pair, b: Pair) -> Quad { less(mulu64c(a, b), negative(a[1]), b) }
    fn mul64c(a: Pair, b: Pair) -> Quad { less(mulsu64c(a, b), negative(b[1]), a) }
}
