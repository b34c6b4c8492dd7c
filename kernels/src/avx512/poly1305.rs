//! Poly1305 of eight messages at once, a lane of 64 bits for a message, four blocks of each per reduction.
//!
//! Numbers are in limbs of 52, 52 and 26 bits. The processor multiplies the low 52 bits of two lanes and adds either
//! half of the product to a third: the high half belongs to the next limb, and what lies above a limb need not be
//! masked. Nothing is reduced within a product, since limb i of a block or of the accumulator meets r^k · 2^(52 i),
//! brought into limbs beforehand: that is 17 halves of products for a block.
//!
//! The last block of a chunk is not multiplied at all but begins the sums; the r that it lacks comes at the very end.

use std::arch::asm;
use std::arch::x86_64::{
    __mmask8, _mm_loadu_si128, _mm512_cmpgt_epu64_mask, _mm512_cmplt_epu64_mask, _mm512_mask_add_epi64,
    _mm512_mask_blend_epi64, _mm512_mask_broadcast_i32x4, _mm512_maskz_loadu_epi64,
};
use std::mem::offset_of;
use std::ops::Range;

use super::chacha::one_time_keys;
use super::lanes::*;
use crate::vector::each;
use crate::vector::message::{HEAD_BLOCKS, Message};

/// Bytes of a block.
const BLOCK: usize = 16;

/// Blocks that are added up before a reduction.
const CHUNK: usize = 4;

/// Messages that go together.
const WIDTH: usize = 8;

/// Messages whose keys lie together.
const GROUP: usize = 2 * WIDTH;

/// A number modulo 2^130 − 5 in limbs of 52, 52 and 26 bits, one a lane. Of the first two only the low 52 bits count;
/// the third one, where nothing else is said, is at most 2^26 + 31.
type Limbs = [Lanes; 3];

const LIMB: u64 = (1 << 52) - 1;
const TOP_LIMB: u64 = (1 << 26) - 1;

/// The bit above a block, in its limb.
const TOP_BIT: u64 = 1 << 24;

/// The tags of any number of messages, handed to `put` with the messages' numbers. Eight go together, which should be
/// of much the same length.
///
/// # Safety
/// As [`Vectors::tags`](crate::vector::Vectors::tags).
#[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
pub(super) unsafe fn tags(messages: &[Message], mut put: impl FnMut(usize, [u8; 16])) {
    let mut powers = [Powers::new(), Powers::new()];
    for at in (0..messages.len()).step_by(2 * GROUP) {
        let pick = |i: usize| &messages[(at + i).min(messages.len() - 1)];
        // In the order of the keys' lanes: eight messages in the even ones, the next eight in the odd ones.
        let headers = std::array::from_fn(|group| {
            std::array::from_fn(|lane| pick(GROUP * group + WIDTH * (lane % 2) + lane / 2).header)
        });
        // SAFETY: the caller's promise.
        let keys = unsafe { one_time_keys(&headers) };
        for (group, words) in keys.iter().enumerate().take((messages.len() - at).div_ceil(GROUP)) {
            let keys = [even_key(words), odd_key(words)];
            // Both at once: these are long chains, which go beside each other.
            for (powers, key) in powers.iter_mut().zip(&keys) {
                powers.set(key);
            }
            for (half, (powers, key)) in powers.iter().zip(&keys).enumerate() {
                let first = GROUP * group + WIDTH * half;
                let eight = |first: usize| std::array::from_fn(|i| pick(first + i));
                if at + first < messages.len() {
                    // SAFETY: the caller's promise.
                    let tags = unsafe { tags_of_eight(powers, key, eight(first), eight(first + WIDTH)) };
                    (at + first..messages.len()).zip(tags).for_each(|(i, tag)| put(i, tag));
                }
            }
        }
    }
}

/// One-time keys: low and high 64 bits of `r`, not clamped yet, and of `s`.
struct Key {
    r: [Lanes; 2],
    s: [Lanes; 2],
}

/// The keys of the even 32-bit lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn even_key(words: &[Lanes; 8]) -> Key {
    let low = all64(0xffff_ffff);
    let pair = |i: usize| or(and(words[i], low), shl64::<32>(words[i + 1]));
    Key { r: [pair(0), pair(2)], s: [pair(4), pair(6)] }
}

/// The keys of the odd 32-bit lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn odd_key(words: &[Lanes; 8]) -> Key {
    let high = all64(0xffff_ffff << 32);
    let pair = |i: usize| or(shr64::<32>(words[i]), and(words[i + 1], high));
    Key { r: [pair(0), pair(2)], s: [pair(4), pair(6)] }
}

/// A power of r as a factor: multiplied by 2^(52 i) for limb i of the other factor. The third limb of each is at most
/// 2^26 + 31.
type Multiples = [Limbs; 3];

/// What the blocks of a chunk are multiplied by, in the layout that the assembly knows.
#[repr(C)]
struct Powers {
    /// r to r^4: r for the third block, r^4 for what precedes the first one.
    multiples: [Multiples; CHUNK],
    /// The bits above a chunk's blocks, multiplied and added up: a limb is less than 7 · 2^52.
    top_bits: Limbs,
    /// [`LIMB`] and [`TOP_LIMB`] in all lanes.
    limb: Lanes,
    top_limb: Lanes,
}

impl Powers {
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        let zero = [zero(); 3];
        Self { multiples: [[zero; 3]; CHUNK], top_bits: zero, limb: all64(LIMB), top_limb: all64(TOP_LIMB) }
    }

    /// The powers of a key's r.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    fn set(&mut self, key: &Key) {
        let [low, high] = key.r;
        let r = [and(low, all64(0x0fff_fffc_0fff_ffff)), and(high, all64(0x0fff_fffc_0fff_fffc))];
        let first = multiples(&pieces(r));
        let second = multiples(&multiply(&first[0], &first));
        self.multiples = [
            first,
            second,
            multiples(&multiply(&second[0], &first)),
            multiples(&multiply(&second[0], &second)),
        ];
        let top_bit = all64(TOP_BIT);
        let mut sums = Sums::new([zero(), zero(), top_bit]);
        for multiples in &self.multiples[..CHUNK - 1] {
            sums.add_piece(top_bit, &multiples[2]);
        }
        self.top_bits = sums.added_up();
    }
}

/// Sums of products of limbs.
struct Sums {
    /// The low 52 bits of products, number i of weight 2^(52 i).
    low: [Lanes; 3],
    /// The bits above, number i of weight 2^(52 (i + 1)).
    high: [Lanes; 3],
}

impl Sums {
    /// Begins with a number.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(low: [Lanes; 3]) -> Self {
        Self { low, high: [zero(); 3] }
    }

    /// Adds a limb, multiplied.
    #[inline]
    #[target_feature(enable = "avx512ifma")]
    fn add_limb(&mut self, limb: Lanes, multiple: &Limbs) {
        self.add_piece(limb, multiple);
        self.high[2] = madd_high(self.high[2], limb, multiple[2]);
    }

    /// Adds a limb of at most 25 bits, multiplied: the last product has no high half.
    #[inline]
    #[target_feature(enable = "avx512ifma")]
    fn add_piece(&mut self, limb: Lanes, multiple: &Limbs) {
        for (sum, multiple) in self.low.iter_mut().zip(multiple) {
            *sum = madd_low(*sum, limb, *multiple);
        }
        for (sum, multiple) in self.high.iter_mut().zip(&multiple[..2]) {
            *sum = madd_high(*sum, limb, *multiple);
        }
    }

    /// Adds a block, multiplied.
    #[inline]
    #[target_feature(enable = "avx512ifma")]
    fn add_block(&mut self, pieces: &Limbs, multiples: &Multiples) {
        self.add_limb(pieces[0], &multiples[0]);
        self.add_limb(pieces[1], &multiples[1]);
        self.add_piece(pieces[2], &multiples[2]);
    }

    /// Adds a number of three full limbs, multiplied.
    #[inline]
    #[target_feature(enable = "avx512ifma")]
    fn add_product(&mut self, limbs: &Limbs, multiples: &Multiples) {
        for (limb, multiple) in limbs.iter().zip(multiples) {
            self.add_limb(*limb, multiple);
        }
    }

    /// The sums of weight 1, 2^52 and 2^104.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn added_up(&self) -> Limbs {
        [self.low[0], add64(self.low[1], self.high[0]), add64(self.low[2], self.high[1])]
    }

    /// The number in limbs again.
    ///
    /// At most, in units of 2^52: a chunk has 12 low and 12 high halves of products for each limb, one block that is
    /// not multiplied, and [`Powers::top_bits`], which makes 20 and twice 32 when added up; and 9 products of little
    /// more than 2^26 in `high[2]`. So `over` is less than 2^56, the first limb with five times that less than 2^59,
    /// and what the second one passes on at most 32.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn reduced(&self) -> Limbs {
        let [a, b, c] = self.added_up();
        // From 2^130 = 5 on; the upper halves of the last products are of weight 2^156.
        let over = add64(shr64::<26>(c), shl64::<26>(self.high[2]));
        let a = add64(a, five(over));
        let b = add64(b, shr64::<52>(a));
        let c = add64(and(c, all64(TOP_LIMB)), shr64::<52>(b));
        [a, b, c]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn five(a: Lanes) -> Lanes {
    add64(a, shl64::<2>(a))
}

/// A number of 128 bits in limbs.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
fn pieces([low, high]: [Lanes; 2]) -> Limbs {
    [low, shrd64::<52>(low, high), shr64::<40>(high)]
}

/// Only the bits that count.
#[inline]
#[target_feature(enable = "avx512f")]
fn masked([a, b, c]: Limbs) -> Limbs {
    [and(a, all64(LIMB)), and(b, all64(LIMB)), c]
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiply(a: &Limbs, b: &Multiples) -> Limbs {
    let mut sums = Sums::new([zero(); 3]);
    sums.add_product(a, b);
    sums.reduced()
}

/// A number, and that number times 2^52 and 2^104.
#[inline]
#[target_feature(enable = "avx512f")]
fn multiples(number: &Limbs) -> Multiples {
    let [a, b, c] = masked(*number);
    let low26 = all64(TOP_LIMB);
    // What of a and b, and of b and c, goes past 2^130 when it is moved two limbs up or one: 2^130 = 5.
    let ab = five(add64(shr64::<26>(a), shl64::<26>(and(b, low26))));
    let bc = five(add64(shr64::<26>(b), shl64::<26>(c)));
    [[a, b, c], passed_on([bc, a, and(b, low26)]), passed_on([ab, bc, and(a, low26)])]
}

/// Passes on what the first two limbs have above 52 bits, and leaves it there.
#[inline]
#[target_feature(enable = "avx512f")]
fn passed_on([a, b, c]: Limbs) -> Limbs {
    let b = add64(b, shr64::<52>(a));
    [a, b, add64(c, shr64::<52>(b))]
}

/// # Safety
/// As [`tags`].
#[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
unsafe fn tags_of_eight(
    powers: &Powers,
    key: &Key,
    messages: [&Message; WIDTH],
    next: [&Message; WIDTH],
) -> [[u8; 16]; WIDTH] {
    let chunks = messages.map(|message| u64::from(message.blocks) / CHUNK as u64);
    let shortest = chunks.into_iter().fold(u64::MAX, u64::min);
    let longest = chunks.into_iter().fold(0, u64::max);
    let chunks = each64(chunks);
    let head = (HEAD_BLOCKS / CHUNK) as u64;
    let (heads, tails) = (messages.map(|message| message.head), messages.map(|message| message.tail));
    let (next_heads, next_tails) = (next.map(|message| message.head), next.map(|message| message.tail));
    let mut h = [zero(); 3];
    // SAFETY: the caller's promise.
    unsafe {
        add_chunks(&mut h, powers, &heads, 0..shortest.min(head), &next_heads);
        add_last_chunks(&mut h, powers, &heads, shortest.min(head)..longest.min(head), chunks);
        add_chunks(&mut h, powers, &tails, head..shortest, &next_tails);
        add_last_chunks(&mut h, powers, &tails, shortest.max(head)..longest, chunks);
        h = add_rest(&h, powers, messages);
    }
    // The last block has not met r yet.
    finish(multiply(&h, &powers.multiples[0]), key.s)
}

/// Adds the one to four blocks that are left, the lengths being the last of them: put where they end a chunk that
/// begins with nothing, and the accumulator multiplied by as many powers.
///
/// # Safety
/// At least three blocks can be read before the end of each message, in the piece where it ends.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
unsafe fn add_rest(h: &Limbs, powers: &Powers, messages: [&Message; WIDTH]) -> Limbs {
    let mut rows = [zero(); WIDTH];
    for (row, message) in rows.iter_mut().zip(messages) {
        let blocks = message.blocks as usize;
        let piece = if blocks / CHUNK * CHUNK < HEAD_BLOCKS { message.head } else { message.tail };
        let start = piece.wrapping_add(BLOCK * blocks).wrapping_sub(BLOCK * (CHUNK - 1));
        // Of 64-bit words, two a block: those of the blocks that are left, at the end of three blocks.
        let present: __mmask8 = 0b11_1111 & (0b11_1111 << (2 * (CHUNK - 1 - blocks % CHUNK)));
        // SAFETY: the caller's promise, and nothing else is read; the lengths are 16 bytes.
        *row = unsafe {
            let blocks = _mm512_maskz_loadu_epi64(present, start.cast());
            let lengths = _mm_loadu_si128(message.lengths.as_ptr().cast());
            _mm512_mask_broadcast_i32x4(blocks, 0xf000, lengths)
        };
    }
    let words = transpose64(rows);
    let left = each64(messages.map(|message| u64::from(message.blocks) % CHUNK as u64 + 1));
    let top_bit = all64(TOP_BIT);
    let mut factor = powers.multiples[0];
    let mut sums = Sums::new(masked(pieces([words[6], words[7]])));
    sums.low[2] = add64(sums.low[2], top_bit);
    for i in 1..CHUNK {
        let present = _mm512_cmpgt_epu64_mask(left, all64(i as u64));
        let [low, middle, high] = pieces([words[6 - 2 * i], words[7 - 2 * i]]);
        let high = _mm512_mask_add_epi64(high, present, high, top_bit);
        sums.add_block(&[low, middle, high], &powers.multiples[i - 1]);
        for (factor, power) in factor.iter_mut().zip(&powers.multiples[i]) {
            for (limb, other) in factor.iter_mut().zip(power) {
                *limb = _mm512_mask_blend_epi64(present, *limb, *other);
            }
        }
    }
    sums.add_product(h, &factor);
    sums.reduced()
}

/// Adds those of the chunks that a lane has to its accumulator.
///
/// # Safety
/// The chunks can be read from each lane's pointer on.
#[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
unsafe fn add_last_chunks(
    h: &mut Limbs,
    powers: &Powers,
    from: &[*const u8; WIDTH],
    chunks: Range<u64>,
    chunks_of_lane: Lanes,
) {
    for chunk in chunks {
        let mut sums = *h;
        // SAFETY: the caller's promise.
        unsafe { add_chunks(&mut sums, powers, from, chunk..chunk + 1, from) };
        let unfinished = _mm512_cmpgt_epu64_mask(chunks_of_lane, all64(chunk));
        for (h, sum) in h.iter_mut().zip(sums) {
            *h = _mm512_mask_blend_epi64(unfinished, *h, sum);
        }
    }
}

macro_rules! prefetch {
    ($i:tt) => {
        concat!("mov {there}, [{next} + 8 * ", $i, "]\n", "prefetcht0 [{there} + {at}]\n")
    };
}

macro_rules! load_row {
    ([$to:tt $from:tt]) => {
        concat!("vmovdqu64 zmm", $to, ", [{", $from, "} + {at}]\n")
    };
}

/// `low64`, `high64`, `even128` or `odd128` of two registers.
macro_rules! merge {
    ([$to:tt low64 $a:tt $b:tt]) => {
        concat!("vpunpcklqdq zmm", $to, ", zmm", $a, ", zmm", $b, "\n")
    };
    ([$to:tt high64 $a:tt $b:tt]) => {
        concat!("vpunpckhqdq zmm", $to, ", zmm", $a, ", zmm", $b, "\n")
    };
    ([$to:tt even128 $a:tt $b:tt]) => {
        concat!("vshufi64x2 zmm", $to, ", zmm", $a, ", zmm", $b, ", 0x88\n")
    };
    ([$to:tt odd128 $a:tt $b:tt]) => {
        concat!("vshufi64x2 zmm", $to, ", zmm", $a, ", zmm", $b, ", 0xdd\n")
    };
}

/// `low += x * factor` and `high += x * factor`, the halves of the product: the factor `limb` after the one at an
/// offset in [`Powers`].
macro_rules! add_product {
    ($low:tt $high:tt $factor:tt, $x:tt $limb:tt $($from:tt)+) => {
        concat!(
            "vmovdqa64 zmm", $factor, ", [{powers} + 64 * ", $limb, " + ", $($from),+, "]\n",
            "vpmadd52luq zmm", $low, ", zmm", $x, ", zmm", $factor, "\n",
            "vpmadd52huq zmm", $high, ", zmm", $x, ", zmm", $factor, "\n",
        )
    };
}

/// `sums += x * factors`: three of them, the first at an offset in [`Powers`].
macro_rules! add_limb {
    ([$x:tt $($from:tt)+]) => {
        concat!(
            add_product!(3 6 12, $x 0 $($from)+),
            add_product!(4 7 13, $x 1 $($from)+),
            add_product!(5 8 14, $x 2 $($from)+),
        )
    };
}

/// The same to the other sums.
macro_rules! add_limb_apart {
    ([$x:tt $($from:tt)+]) => {
        concat!(
            add_product!(9 10 12, $x 0 $($from)+),
            add_product!(4 11 13, $x 1 $($from)+),
            add_product!(5 8 14, $x 2 $($from)+),
        )
    };
}

/// The same of at most 25 bits, whose last product has no high half.
macro_rules! add_piece_apart {
    ([$x:tt $($from:tt)+]) => {
        concat!(
            add_product!(9 10 12, $x 0 $($from)+),
            add_product!(4 11 13, $x 1 $($from)+),
            "vpmadd52luq zmm5, zmm", $x, ", [{powers} + 64 * 2 + ", $($from),+, "]\n",
        )
    };
}

/// Low and high word of a block become its second and third limb.
macro_rules! cut {
    ([$low:tt $high:tt]) => {
        concat!(
            "vpshrdq zmm",
            $low,
            ", zmm",
            $low,
            ", zmm",
            $high,
            ", 52\n",
            "vpsrlq zmm",
            $high,
            ", zmm",
            $high,
            ", 40\n",
        )
    };
}

/// Adds chunks that all lanes have to their accumulators, and asks for the same ones of the next messages.
///
/// What waits for the accumulator comes last, so that the reduction of the chunk before goes beside the other products.
/// Half of the sums are made in two parts, where that costs one addition or none, since chains of twelve products are
/// long. Compilers undo both: they prefer the order that needs the fewest registers.
///
/// # Safety
/// The chunks can be read from each lane's pointer on.
#[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
unsafe fn add_chunks(
    h: &mut Limbs,
    powers: &Powers,
    from: &[*const u8; WIDTH],
    chunks: Range<u64>,
    next: &[*const u8; WIDTH],
) {
    if chunks.is_empty() {
        return;
    }
    let [mut h0, mut h1, mut h2] = *h;
    // SAFETY: reads what the caller promises, `next`, and `powers`, aligned to 64 bytes as its type says; prefetches
    // never fault; every vector register is declared as written.
    unsafe {
        asm!(
            "vmovdqa64 zmm30, [{powers} + {limb}]",
            "vmovdqa64 zmm31, [{powers} + {top_limb}]",
            "2:",
            each!(prefetch 0 1 2 3 4 5 6 7),
            each!(load_row [16 "a"] [17 "b"] [18 "c"] [19 "d"] [20 "e"] [21 "f"] [22 "g"] [23 "h"]),
            each!(merge
                [24 low64 16 17] [25 low64 18 19] [26 low64 20 21] [27 low64 22 23]
                [16 high64 16 17] [18 high64 18 19] [20 high64 20 21] [22 high64 22 23]),
            // The low words of the four blocks, in 21, 23, 17 and 19.
            each!(merge
                [17 even128 24 25] [19 even128 26 27] [21 even128 17 19] [17 odd128 17 19]
                [24 odd128 24 25] [26 odd128 26 27] [23 even128 24 26] [19 odd128 24 26]),
            // The high words, in 26, 27, 24 and 16.
            each!(merge
                [24 even128 16 18] [25 even128 20 22] [26 even128 24 25] [24 odd128 24 25]
                [16 odd128 16 18] [20 odd128 20 22] [27 even128 16 20] [16 odd128 16 20]),

            // The sums: low halves in 3, 4 and 5, high ones in 6, 7 and 8.
            "vmovdqa64 zmm3, [{powers} + {top_bits}]",
            "vmovdqa64 zmm4, [{powers} + {top_bits} + 64]",
            "vmovdqa64 zmm5, [{powers} + {top_bits} + 128]",
            "vpxor xmm6, xmm6, xmm6",
            "vpxor xmm7, xmm7, xmm7",
            "vpxor xmm8, xmm8, xmm8",
            each!(add_limb [21 "64 * 18"] [23 "64 * 9"] [17 "0"]),
            // The others, which begin with the last block: 9 beside 3, 10 and 11 beside 6 and 7.
            "vpandq zmm9, zmm19, zmm30",
            "vpshrdq zmm10, zmm19, zmm16, 52",
            "vpandq zmm10, zmm10, zmm30",
            "vpsrlq zmm11, zmm16, 40",
            each!(cut [21 26] [23 27] [17 24]),
            each!(add_limb_apart [21 "64 * 21"] [23 "64 * 12"] [17 "64 * 3"]),
            each!(add_piece_apart [26 "64 * 24"] [27 "64 * 15"] [24 "64 * 6"]),
            each!(add_limb [0 "64 * 27"] [1 "64 * 30"] [2 "64 * 33"]),

            // As in `Sums::reduced`.
            "vpaddq zmm7, zmm7, zmm11",
            "vpaddq zmm5, zmm5, zmm7",
            "vpsllq zmm8, zmm8, 26",
            "vpsrlq zmm12, zmm5, 26",
            "vpaddq zmm3, zmm3, zmm9",
            "vpaddq zmm12, zmm12, zmm8",
            "vpsllq zmm13, zmm12, 2",
            "vpaddq zmm3, zmm3, zmm12",
            "vpaddq zmm6, zmm6, zmm10",
            "vpaddq zmm0, zmm3, zmm13",
            "vpaddq zmm4, zmm4, zmm6",
            "vpsrlq zmm12, zmm0, 52",
            "vpandq zmm5, zmm5, zmm31",
            "vpaddq zmm1, zmm4, zmm12",
            "vpsrlq zmm12, zmm1, 52",
            "vpaddq zmm2, zmm5, zmm12",
            "add {at}, 64",
            "cmp {at}, {end}",
            "jne 2b",
            top_bits = const offset_of!(Powers, top_bits),
            limb = const offset_of!(Powers, limb),
            top_limb = const offset_of!(Powers, top_limb),
            powers = in(reg) powers,
            a = in(reg) from[0],
            b = in(reg) from[1],
            c = in(reg) from[2],
            d = in(reg) from[3],
            e = in(reg) from[4],
            f = in(reg) from[5],
            g = in(reg) from[6],
            h = in(reg) from[7],
            next = in(reg) next,
            there = out(reg) _,
            at = inout(reg) chunks.start * (CHUNK * BLOCK) as u64 => _,
            end = in(reg) chunks.end * (CHUNK * BLOCK) as u64,
            inout("zmm0") h0, inout("zmm1") h1, inout("zmm2") h2,
            out("zmm3") _, out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _, out("zmm8") _,
            out("zmm9") _, out("zmm10") _, out("zmm11") _, out("zmm12") _, out("zmm13") _, out("zmm14") _,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _,
            out("zmm22") _, out("zmm23") _, out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm30") _, out("zmm31") _,
            options(nostack, readonly),
        );
    }
    *h = [h0, h1, h2];
}

/// The tags: h modulo 2^130 − 5, plus s, modulo 2^128.
#[inline]
#[target_feature(enable = "avx512f")]
fn finish(h: Limbs, s: [Lanes; 2]) -> [[u8; 16]; WIDTH] {
    let [a, b, c] = masked(h);
    // h + 5 goes past 2^130 where h is not below the modulus, of which it is less than twice as much.
    let [_, _, top] = passed_on([add64(a, all64(5)), b, c]);
    let [a, b, c] = masked(passed_on([add64(a, five(shr64::<26>(top))), b, c]));

    let low = or(a, shl64::<52>(b));
    let high = or(shr64::<12>(b), shl64::<40>(c));
    let tag_low = add64(low, s[0]);
    let tag_high = add64(high, s[1]);
    let carried = _mm512_cmplt_epu64_mask(tag_low, low);
    let tag_high = _mm512_mask_add_epi64(tag_high, carried, tag_high, all64(1));

    let mut halves = [[[0; 16]; WIDTH / 2]; 2];
    let [even, odd] = halves.each_mut().map(|half| half.as_mut_ptr().cast());
    // SAFETY: four tags are 64 bytes.
    unsafe {
        store(even, low64(tag_low, tag_high));
        store(odd, high64(tag_low, tag_high));
    }
    std::array::from_fn(|i| halves[i % 2][i / 2])
}

#[cfg(test)]
mod tests {
    use poly1305::universal_hash::KeyInit;

    use super::*;
    use crate::avx512::Avx512;

    /// The largest r that there is, and messages of nothing but ones, of like and of different lengths.
    #[test]
    fn the_largest_factors_do_not_overflow() {
        if Avx512::new().is_none() {
            return;
        }
        /// # Safety
        /// There is AVX-512, and the messages can be read for all blocks of the longest.
        #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
        unsafe fn tags_by_ones(messages: [&Message; WIDTH]) -> [[u8; 16]; WIDTH] {
            let key = even_key(&[all32(u32::MAX); 8]);
            let mut powers = Powers::new();
            powers.set(&key);
            // SAFETY: the caller's promise.
            unsafe { tags_of_eight(&powers, &key, messages, messages) }
        }
        let content = [0xff; 16 * 128];
        for lengths in
            [[3; 8], [4; 8], [125; 8], [60, 61, 64, 67, 59, 62, 63, 68], [125, 3, 59, 124, 4, 5, 6, 60]]
        {
            let at = content.as_ptr();
            let message = |blocks| Message { header: at, head: at, tail: at, blocks, lengths: [u64::MAX; 2] };
            let messages = lengths.map(message);
            let expected: [[u8; 16]; 8] = lengths.map(|blocks| {
                let key = [0xff; 32].into();
                poly1305::Poly1305::new(&key).compute_unpadded(&content[..16 * (blocks as usize + 1)]).into()
            });
            // SAFETY: there is AVX-512, and the content is 128 blocks long.
            let found = unsafe { tags_by_ones(messages.each_ref()) };
            assert_eq!(found, expected, "{lengths:?} blocks");
        }
    }

    /// The final reduction, at and about the modulus, and where limbs have more above than counts.
    #[test]
    fn numbers_about_the_modulus_are_reduced() {
        if Avx512::new().is_none() {
            return;
        }
        /// # Safety
        /// There is AVX-512.
        #[target_feature(enable = "avx512f")]
        unsafe fn finished(h: [u64; 3]) -> [u8; 16] {
            finish(h.map(|limb| all64(limb)), [zero(); 2])[3]
        }
        const MODULUS: [u64; 3] = [LIMB - 4, LIMB, TOP_LIMB];
        for above in 0..10u64 {
            let passed = u64::from(above > 4);
            let h =
                if passed == 1 { [above - 5, 0, TOP_LIMB + 1] } else { [MODULUS[0] + above, LIMB, TOP_LIMB] };
            // SAFETY: there is AVX-512, see above.
            let tag = u128::from_le_bytes(unsafe { finished([h[0] | 63 << 52, h[1] | 4095 << 52, h[2]]) });
            assert_eq!(tag, u128::from(above));
        }
        for below in 1..10u64 {
            // SAFETY: there is AVX-512, see above.
            let tag = u128::from_le_bytes(unsafe { finished([MODULUS[0] - below, LIMB, TOP_LIMB]) });
            assert_eq!(tag, u128::MAX - 4 - u128::from(below));
        }
        // The largest that a reduction leaves: 2^130 = 5, 31 · 2^104 and what is below.
        // SAFETY: there is AVX-512, see above.
        let tag = u128::from_le_bytes(unsafe { finished([LIMB, LIMB, TOP_LIMB + 32]) });
        assert_eq!(tag, (32 << 104) - 1 + 5);
    }

    /// A number modulo 2^130 − 5: the sum of terms, each a word and the bits by which it is shifted.
    fn modulo(terms: &[(u64, u32)]) -> u128 {
        let (mut high, mut low) = (0u64, 0u128);
        for bit in (0..324).rev() {
            (high, low) = (high << 1 | (low >> 127) as u64, low << 1);
            for (word, shift) in terms {
                if (*shift..*shift + 64).contains(&bit) {
                    let carried;
                    (low, carried) = low.overflowing_add(u128::from(word >> (bit - shift) & 1));
                    high += u64::from(carried);
                }
            }
            for _ in 0..2 {
                let (sum, carried) = low.overflowing_add(u128::from(5 * (high >> 2)));
                (high, low) = ((high & 3) + u64::from(carried), sum);
            }
        }
        if high == 3 && low > u128::MAX - 5 { low - (u128::MAX - 4) } else { low }
    }

    /// Sums of every size up to the largest that a chunk makes, and factors of numbers of every size.
    #[test]
    fn sums_and_factors_stay_the_same_number() {
        const SUMS: [u64; 6] = [20 << 52, 16 << 52, 16 << 52, 16 << 52, 16 << 52, 9 * ((1 << 26) + 32)];
        if Avx512::new().is_none() {
            return;
        }
        /// # Safety
        /// There is AVX-512.
        #[target_feature(enable = "avx512f")]
        unsafe fn found([a, b, c, d, e, f]: [u64; 6]) -> ([u64; 3], [u128; 4]) {
            let all = |word: u64| all64(word);
            let h = Sums { low: [a, b, c].map(all), high: [d, e, f].map(all) }.reduced();
            let value = |limbs: Limbs| u128::from_le_bytes(finish(limbs, [zero(); 2])[5]);
            let [first, second, third] = multiples(&h);
            // SAFETY: vectors are plain bits.
            let top = third.map(|lanes| unsafe { std::mem::transmute::<Lanes, [u64; 8]>(lanes) }[0]);
            (top, [value(h), value(first), value(second), value(third)])
        }
        let mut bytes = vec![0; 8 * 6 * 500];
        crate::primitives::expand(&[3; 32], 0, &mut bytes);
        let random: Vec<u64> = bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        for case in 0..500 {
            let sums = std::array::from_fn(|i| match (case, random[6 * case + i]) {
                (0, _) => SUMS[i] - 1,
                (1, _) => 0,
                (_, word) if word % 5 == 0 => (SUMS[i] - 1) & (!0 << (word % 58)),
                (_, word) => word % SUMS[i],
            });
            // SAFETY: there is AVX-512, see above.
            let (third, values) = unsafe { found(sums) };
            assert!(third[2] <= (1 << 26) + 31, "case {case}");
            let shifts = [0, 52, 104, 52, 104, 156];
            let expected = [0, 0, 52, 104].map(|up| {
                let mut terms = [(0, 0); 6];
                for (i, term) in terms.iter_mut().enumerate() {
                    *term = (sums[i], shifts[i] + up);
                }
                modulo(&terms)
            });
            assert_eq!(values, expected, "case {case}: {sums:x?}");
        }
    }
}
