//! Poly1305 of four messages at once, a lane of 64 bits for a message, four blocks of each per reduction.
//!
//! The accumulator and the powers of r are five limbs of 26 bits. A block's 32-bit words are not split into such limbs
//! but multiplied as they are, by r^k · 2^(32 i) for word i, brought into limbs beforehand: 20 products
//! instead of 25 and hardly any shifts. Only the first block of four, to which the accumulator is added, is split.

use std::arch::asm;
use std::arch::x86_64::_mm256_cmpgt_epi64;
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

/// A number modulo 2^130 − 5 in limbs of 26 bits, one a lane.
type Limbs = [Lanes; 5];

const LIMB: u64 = (1 << 26) - 1;

/// The bit above a block, in its limb.
const TOP_BIT: u64 = 1 << 24;

/// The tags of any number of messages, handed to `put` with the messages' numbers. Eight go together, of which the
/// first four and the last four should each be of much the same length.
///
/// # Safety
/// As [`Vectors::tags`](crate::vector::Vectors::tags).
#[target_feature(enable = "avx2")]
pub(super) unsafe fn tags(messages: &[Message], mut put: impl FnMut(usize, [u8; 16])) {
    let mut powers = Powers::new();
    for at in (0..messages.len()).step_by(8) {
        let pick = |i: usize| &messages[(at + i).min(messages.len() - 1)];
        // In the order of the key's lanes: the first four messages in the even ones, the others in the odd ones.
        let headers = [0, 4, 1, 5, 2, 6, 3, 7].map(|i| pick(i).header);
        // SAFETY: the caller's promise.
        let keys = unsafe { one_time_keys(&headers) };
        let (r, s) = even_key(&keys);
        powers.set(r);
        // SAFETY: the caller's promise.
        let four = unsafe { tags_of_four(&powers, s, [0, 1, 2, 3].map(pick), [4, 5, 6, 7].map(pick)) };
        (at..messages.len()).zip(four).for_each(|(i, tag)| put(i, tag));
        if messages.len() - at > 4 {
            let (r, s) = odd_key(&keys);
            powers.set(r);
            // SAFETY: the caller's promise.
            let four = unsafe { tags_of_four(&powers, s, [4, 5, 6, 7].map(pick), [8, 9, 10, 11].map(pick)) };
            (at + 4..messages.len()).zip(four).for_each(|(i, tag)| put(i, tag));
        }
    }
}

/// `r`, clamped, and `s` of the even 32-bit lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn even_key(words: &[Lanes; 8]) -> (Limbs, [Lanes; 2]) {
    let low = all64(0xffff_ffff);
    let r = clamped_limbs(words).map(|limb| and(limb, low));
    let s = |i: usize| or(and(words[i], low), shl64::<32>(words[i + 1]));
    (r, [s(4), s(6)])
}

/// `r`, clamped, and `s` of the odd 32-bit lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn odd_key(words: &[Lanes; 8]) -> (Limbs, [Lanes; 2]) {
    let high = all64(0xffff_ffff << 32);
    let r = clamped_limbs(words).map(|limb| shr64::<32>(limb));
    let s = |i: usize| or(shr64::<32>(words[i]), and(words[i + 1], high));
    (r, [s(4), s(6)])
}

/// The first four words in limbs, clamped, in lanes of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn clamped_limbs(words: &[Lanes; 8]) -> Limbs {
    let [w0, w1, w2, w3] = [words[0], words[1], words[2], words[3]];
    [
        and(w0, all32(0x3ff_ffff)),
        and(or(shr32::<26>(w0), shl32::<6>(w1)), all32(0x3ff_ff03)),
        and(or(shr32::<20>(w1), shl32::<12>(w2)), all32(0x3ff_c0ff)),
        and(or(shr32::<14>(w2), shl32::<18>(w3)), all32(0x3f0_3fff)),
        and(shr32::<8>(w3), all32(0x00f_ffff)),
    ]
}

/// What the blocks of a chunk are multiplied by, in the layout that the assembly knows.
#[repr(C)]
struct Powers {
    /// For the last three blocks, the last one first: r^k · 2^(32 i) for a block's word i, and for i = 4 the bit that
    /// is set above every block.
    multiples: [[Limbs; 5]; CHUNK - 1],
    /// For the first block and what precedes it: r^4.
    fourth: Factor,
    /// The bits above the last three blocks, multiplied and added up.
    top_bits: Limbs,
    /// [`TOP_BIT`] and [`LIMB`] in all lanes.
    top_bit: Lanes,
    limb: Lanes,
}

impl Powers {
    #[target_feature(enable = "avx2")]
    fn new() -> Self {
        let zero = [zero(); 5];
        Self {
            multiples: [[zero; 5]; CHUNK - 1],
            fourth: Factor::new(zero),
            top_bits: zero,
            top_bit: all64(TOP_BIT),
            limb: all64(LIMB),
        }
    }

    /// The powers of `r`.
    #[target_feature(enable = "avx2")]
    fn set(&mut self, r: Limbs) {
        let by_r = Factor::new(r);
        let second = multiply(&r, &by_r);
        let [first_multiples, second_multiples, third_multiples] = &mut self.multiples;
        first_multiples[0] = r;
        second_multiples[0] = second;
        third_multiples[0] = multiply(&second, &by_r);
        self.fourth = Factor::new(multiply(&second, &Factor::new(second)));
        for i in 1..5 {
            first_multiples[i] = shift_by_a_word(&first_multiples[i - 1]);
            second_multiples[i] = shift_by_a_word(&second_multiples[i - 1]);
            third_multiples[i] = shift_by_a_word(&third_multiples[i - 1]);
        }
        self.top_bits = add(&first_multiples[4], &add(&second_multiples[4], &third_multiples[4]));
    }
}

/// # Safety
/// As [`tags`].
#[target_feature(enable = "avx2")]
unsafe fn tags_of_four(
    powers: &Powers,
    s: [Lanes; 2],
    messages: [&Message; 4],
    next: [&Message; 4],
) -> [[u8; 16]; 4] {
    let chunks = messages.map(|message| u64::from(message.blocks) / CHUNK as u64);
    let shortest = chunks.into_iter().fold(u64::MAX, u64::min);
    let longest = chunks.into_iter().fold(0, u64::max);
    let chunks = each64(chunks);
    let head = (HEAD_BLOCKS / CHUNK) as u64;
    let (heads, tails) = (messages.map(|message| message.head), messages.map(|message| message.tail));
    let next = next.map(|message| message.head);
    let mut h = [zero(); 5];
    // SAFETY: the caller's promise.
    unsafe {
        add_chunks(&mut h, powers, &heads, 0..shortest.min(head), &next);
        add_last_chunks(&mut h, powers, &heads, shortest.min(head)..longest.min(head), chunks);
        add_chunks(&mut h, powers, &tails, head..shortest, &tails);
        add_last_chunks(&mut h, powers, &tails, shortest.max(head)..longest, chunks);
    }

    // One to four blocks are left, the lengths being the last of them: put where they end a chunk that begins with
    // nothing, and the accumulator multiplied by as many powers.
    let left = messages.map(|message| u64::from(message.blocks) % CHUNK as u64 + 1);
    let left = each64(left);
    let ends = messages.map(|message| {
        let whole = message.blocks as usize / CHUNK * CHUNK;
        let piece = if whole < HEAD_BLOCKS { message.head } else { message.tail };
        piece.wrapping_add(BLOCK * message.blocks as usize)
    });
    let mut sums = powers.multiples[0][4];
    let mut factor = powers.multiples[0][0];
    // SAFETY: the lengths are 16 bytes.
    let lengths = unsafe { load_block(&messages.map(|message| message.lengths.as_ptr().cast()), 0) };
    multiply_words(&mut sums, lengths, &powers.multiples[0]);
    for i in 1..CHUNK {
        let present = _mm256_cmpgt_epi64(left, all64(i as u64));
        // SAFETY: the caller's promise: at least three blocks precede every end.
        let block = unsafe { load_block(&ends.map(|end| end.wrapping_sub(BLOCK * i)), 0) };
        let block = block.map(|half| and(half, present));
        let power;
        if i < CHUNK - 1 {
            let multiples = &powers.multiples[i];
            power = &multiples[0];
            multiply_words(&mut sums, block, multiples);
            sums = add(&sums, &multiples[4].map(|limb| and(limb, present)));
        } else {
            power = powers.fourth.limbs();
            h = add(&h, &split(block, and(all64(TOP_BIT), present)));
        }
        for (factor, power) in factor.iter_mut().zip(power) {
            *factor = blend(*factor, *power, present);
        }
    }
    multiply_into(&mut sums, &h, &Factor::new(factor));
    finish(carry(sums), s)
}

/// Adds those of the chunks that a lane has to its accumulator.
///
/// # Safety
/// The chunks can be read from each lane's pointer on.
#[target_feature(enable = "avx2")]
unsafe fn add_last_chunks(
    h: &mut Limbs,
    powers: &Powers,
    from: &[*const u8; 4],
    chunks: Range<u64>,
    chunks_of_lane: Lanes,
) {
    for chunk in chunks {
        let mut sums = *h;
        // SAFETY: the caller's promise.
        unsafe { add_chunks(&mut sums, powers, from, chunk..chunk + 1, from) };
        let unfinished = _mm256_cmpgt_epi64(chunks_of_lane, all64(chunk));
        for (h, sum) in h.iter_mut().zip(sums) {
            *h = blend(*h, sum, unfinished);
        }
    }
}

/// A block of each lane: its low and its high 64 bits.
macro_rules! load_block {
    ($at:tt $low:tt $high:tt) => {
        concat!(
            "vmovdqu xmm10, [{a} + {at} + ",
            $at,
            "]\n",
            "vinserti128 ymm10, ymm10, [{c} + {at} + ",
            $at,
            "], 1\n",
            "vmovdqu xmm11, [{b} + {at} + ",
            $at,
            "]\n",
            "vinserti128 ymm11, ymm11, [{d} + {at} + ",
            $at,
            "], 1\n",
            "vpunpcklqdq ymm",
            $low,
            ", ymm10, ymm11\n",
            "vpunpckhqdq ymm",
            $high,
            ", ymm10, ymm11\n",
        )
    };
}

/// `sum = addend + x * factor`: the factor `limb` after the one at an offset in [`Powers`].
macro_rules! add_product {
    ($sum:tt $product:tt, $addend:expr, $x:tt $limb:tt $($from:tt)+) => {
        concat!(
            "vpmuludq ymm", $product, ", ymm", $x, ", [{powers} + 32 * ", $limb, " + ", $($from),+, "]\n",
            "vpaddq ymm", $sum, ", ymm", $product, ", ", $addend, "\n",
        )
    };
}

/// `sums += x * factors`: five of them, the first at an offset in [`Powers`].
macro_rules! add_products {
    ([$x:tt $($from:tt)+]) => {
        concat!(
            add_product!(5 10, "ymm5", $x 0 $($from)+),
            add_product!(6 11, "ymm6", $x 1 $($from)+),
            add_product!(7 12, "ymm7", $x 2 $($from)+),
            add_product!(8 10, "ymm8", $x 3 $($from)+),
            add_product!(9 11, "ymm9", $x 4 $($from)+),
        )
    };
}

/// The same for sums that begin with the bits above the blocks.
macro_rules! start_products {
    ([$x:tt $($from:tt)+]) => {
        concat!(
            add_product!(5 10, "[{powers} + {top_bits}]", $x 0 $($from)+),
            add_product!(6 11, "[{powers} + {top_bits} + 32]", $x 1 $($from)+),
            add_product!(7 12, "[{powers} + {top_bits} + 64]", $x 2 $($from)+),
            add_product!(8 10, "[{powers} + {top_bits} + 96]", $x 3 $($from)+),
            add_product!(9 11, "[{powers} + {top_bits} + 128]", $x 4 $($from)+),
        )
    };
}

/// Adds a block, multiplied by a power of r.
macro_rules! add_block {
    ($at:tt $power:tt) => {
        concat!(
            load_block!($at 13 14),
            add_products!([13 "{multiples} + 160 * (5 * " $power ")"]),
            "vpsrlq ymm13, ymm13, 32\n",
            add_products!([13 "{multiples} + 160 * (5 * " $power " + 1)"]),
            add_products!([14 "{multiples} + 160 * (5 * " $power " + 2)"]),
            "vpsrlq ymm14, ymm14, 32\n",
            add_products!([14 "{multiples} + 160 * (5 * " $power " + 3)"]),
        )
    };
}

/// Passes on what of a limb is above 26 bits: `[from to]`, or from two registers to two others.
macro_rules! pass_on {
    ([4 0]) => {
        concat!(
            "vpsrlq ymm10, ymm4, 26\n",
            "vpand ymm4, ymm4, ymm15\n",
            "vpsllq ymm11, ymm10, 2\n",
            "vpaddq ymm0, ymm0, ymm10\n",
            "vpaddq ymm0, ymm0, ymm11\n",
        )
    };
    ([$from:tt $to:tt]) => { pass_on!([$from $to, $from $to]) };
    ([$from:tt $to:tt, $kept:tt $sum:tt]) => {
        concat!(
            "vpsrlq ymm10, ymm", $from, ", 26\n",
            "vpand ymm", $kept, ", ymm", $from, ", ymm15\n",
            "vpaddq ymm", $sum, ", ymm", $to, ", ymm10\n",
        )
    };
}

/// Adds chunks that all lanes have to their accumulators, and asks for the same ones of the next messages.
///
/// What waits for the accumulator, the reduction of the chunk before, goes beside the products of the last three
/// blocks, which do not. Compilers do not find that: they keep copies of the factors, on a stack that is not aligned.
///
/// # Safety
/// The chunks can be read from each lane's pointer on.
#[target_feature(enable = "avx2")]
unsafe fn add_chunks(
    h: &mut Limbs,
    powers: &Powers,
    from: &[*const u8; 4],
    chunks: Range<u64>,
    next: &[*const u8; 4],
) {
    if chunks.is_empty() {
        return;
    }
    let [mut s0, mut s1, mut s2, mut s3, mut s4] = *h;
    // SAFETY: reads what the caller promises, and `powers`, aligned to 32 bytes as its type says; prefetches never
    // fault; every vector register is declared as written.
    unsafe {
        asm!(
            "vmovdqa ymm15, [{powers} + {limb}]",
            "2:",
            // The sums, in 5 to 9, become the accumulator, in 0 to 4.
            each!(pass_on [5 6, 0 1] [8 9, 3 4] [1 7, 1 2]),
            load_block!(48 13 14),
            start_products!([13 "{multiples}"]),
            pass_on!([4 0]),
            "vpsrlq ymm13, ymm13, 32",
            add_products!([13 "{multiples} + 160"]),
            pass_on!([2 3]),
            add_products!([14 "{multiples} + 320"]),
            pass_on!([0 1]),
            "vpsrlq ymm14, ymm14, 32",
            add_products!([14 "{multiples} + 480"]),
            pass_on!([3 4]),
            add_block!(32 1),
            add_block!(16 2),
            "prefetcht0 [{next_a} + {at}]",
            "prefetcht0 [{next_b} + {at}]",
            "prefetcht0 [{next_c} + {at}]",
            "prefetcht0 [{next_d} + {at}]",
            // The first block is split into limbs and added to the accumulator.
            load_block!(0 13 14),
            "vpand ymm10, ymm13, ymm15",
            "vpaddq ymm0, ymm0, ymm10",
            "vpsrlq ymm11, ymm13, 26",
            "vpand ymm11, ymm11, ymm15",
            "vpaddq ymm1, ymm1, ymm11",
            "vpsrlq ymm12, ymm13, 52",
            "vpsllq ymm10, ymm14, 12",
            "vpor ymm12, ymm12, ymm10",
            "vpand ymm12, ymm12, ymm15",
            "vpaddq ymm2, ymm2, ymm12",
            "vpsrlq ymm11, ymm14, 14",
            "vpand ymm11, ymm11, ymm15",
            "vpaddq ymm3, ymm3, ymm11",
            "vpsrlq ymm12, ymm14, 40",
            "vpaddq ymm4, ymm4, ymm12",
            "vpaddq ymm4, ymm4, [{powers} + {top_bit}]",
            each!(add_products
                [0 "{fourth} + 32 * 4"] [1 "{fourth} + 32 * 3"] [2 "{fourth} + 32 * 2"]
                [3 "{fourth} + 32"] [4 "{fourth}"]),
            "add {at}, 64",
            "cmp {at}, {end}",
            "jne 2b",
            multiples = const offset_of!(Powers, multiples),
            fourth = const offset_of!(Powers, fourth),
            top_bits = const offset_of!(Powers, top_bits),
            top_bit = const offset_of!(Powers, top_bit),
            limb = const offset_of!(Powers, limb),
            powers = in(reg) powers,
            a = in(reg) from[0],
            b = in(reg) from[1],
            c = in(reg) from[2],
            d = in(reg) from[3],
            next_a = in(reg) next[0],
            next_b = in(reg) next[1],
            next_c = in(reg) next[2],
            next_d = in(reg) next[3],
            at = inout(reg) chunks.start * (CHUNK * BLOCK) as u64 => _,
            end = in(reg) chunks.end * (CHUNK * BLOCK) as u64,
            inout("ymm5") s0, inout("ymm6") s1, inout("ymm7") s2, inout("ymm8") s3, inout("ymm9") s4,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm10") _, out("ymm11") _, out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack, readonly),
        );
    }
    *h = carry([s0, s1, s2, s3, s4]);
}

/// The block `at` bytes after each lane's pointer: low and high 64 bits.
///
/// # Safety
/// 16 bytes can be read there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_block(from: &[*const u8; 4], at: usize) -> [Lanes; 2] {
    let [a, b, c, d] = from.map(|from| from.wrapping_add(at));
    // SAFETY: the caller's promise.
    let (ac, bd) = unsafe { (load_halves(a, c), load_halves(b, d)) };
    [low64(ac, bd), high64(ac, bd)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn split([low, high]: [Lanes; 2], top_bit: Lanes) -> Limbs {
    let mask = all64(LIMB);
    [
        and(low, mask),
        and(shr64::<26>(low), mask),
        and(or(shr64::<52>(low), shl64::<12>(high)), mask),
        and(shr64::<14>(high), mask),
        or(shr64::<40>(high), top_bit),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: &Limbs, b: &Limbs) -> Limbs {
    std::array::from_fn(|i| add64(a[i], b[i]))
}

/// A number to be multiplied by: five times its limbs 1 to 4, for the limbs that 2^130 = 5 brings down, then its limbs.
/// So limb i of the other factor meets, for the product's limbs 0 to 4, five in a row, from 4 − i on.
#[repr(transparent)]
struct Factor([Lanes; 9]);

impl Factor {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(limbs: Limbs) -> Self {
        let [a, b, c, d, e] = limbs;
        Self([five(b), five(c), five(d), five(e), a, b, c, d, e])
    }

    fn limbs(&self) -> &Limbs {
        self.0.last_chunk().expect("nine are more than five")
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn five(a: Lanes) -> Lanes {
    add64(a, shl64::<2>(a))
}

/// `sums += a * b`.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_into(sums: &mut Limbs, a: &Limbs, b: &Factor) {
    for (i, a) in a.iter().enumerate() {
        for (sum, b) in sums.iter_mut().zip(&b.0[4 - i..]) {
            *sum = add64(*sum, mul32(*a, *b));
        }
    }
}

/// `sums += block * r^k`, the bit above the block left out.
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_words(sums: &mut Limbs, [low, high]: [Lanes; 2], multiples: &[Limbs; 5]) {
    let words = [low, shr64::<32>(low), high, shr64::<32>(high)];
    for (word, multiple) in words.into_iter().zip(multiples) {
        for (sum, limb) in sums.iter_mut().zip(multiple) {
            *sum = add64(*sum, mul32(word, *limb));
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn multiply(a: &Limbs, b: &Factor) -> Limbs {
    let mut sums = [zero(); 5];
    multiply_into(&mut sums, a, b);
    carry(sums)
}

/// Brings sums of up to 62 bits back to limbs of hardly more than 26.
#[inline]
#[target_feature(enable = "avx2")]
fn carry(mut a: Limbs) -> Limbs {
    let mask = all64(LIMB);
    let mut pass_on = |from: usize| {
        let over = shr64::<26>(a[from]);
        a[from] = and(a[from], mask);
        let to = (from + 1) % 5;
        a[to] = add64(a[to], if to == 0 { five(over) } else { over });
    };
    for from in [0, 3, 1, 4, 2, 0, 3] {
        pass_on(from);
    }
    a
}

/// a · 2^32.
#[inline]
#[target_feature(enable = "avx2")]
fn shift_by_a_word(a: &Limbs) -> Limbs {
    let mask = all64(LIMB);
    // A limb up, and 6 bits.
    let shifted =
        [five(shl64::<6>(a[4])), shl64::<6>(a[0]), shl64::<6>(a[1]), shl64::<6>(a[2]), shl64::<6>(a[3])];
    let over = shifted.map(|limb| shr64::<26>(limb));
    let kept = shifted.map(|limb| and(limb, mask));
    add(&kept, &[five(over[4]), over[0], over[1], over[2], over[3]])
}

/// The tags: h modulo 2^130 − 5, plus s, modulo 2^128.
#[inline]
#[target_feature(enable = "avx2")]
fn finish(mut h: Limbs, s: [Lanes; 2]) -> [[u8; 16]; 4] {
    let mask = all64(LIMB);
    for from in [4, 0, 1, 2, 3, 4, 0] {
        let over = shr64::<26>(h[from]);
        h[from] = and(h[from], mask);
        let to = (from + 1) % 5;
        h[to] = add64(h[to], if to == 0 { five(over) } else { over });
    }
    // h + 5 goes past 2^130 where h is not below the modulus.
    let mut over = all64(5);
    for limb in h {
        over = shr64::<26>(add64(limb, over));
    }
    let mut carried = five(over);
    for limb in &mut h {
        let sum = add64(*limb, carried);
        carried = shr64::<26>(sum);
        *limb = and(sum, mask);
    }

    let low = or(h[0], or(shl64::<26>(h[1]), shl64::<52>(h[2])));
    let high = or(shr64::<12>(h[2]), or(shl64::<14>(h[3]), shl64::<40>(h[4])));
    let tag_low = add64(low, s[0]);
    let sign = all64(1 << 63);
    // −1 where the addition went past 2^64.
    let carry = _mm256_cmpgt_epi64(xor(low, sign), xor(tag_low, sign));
    let tag_high = sub64(add64(high, s[1]), carry);

    let mut tags = [[0; 16]; 4];
    let [a, b, c, d] = tags.each_mut().map(|tag| tag.as_mut_ptr());
    // SAFETY: a tag is 16 bytes.
    unsafe {
        store_halves(a, c, low64(tag_low, tag_high));
        store_halves(b, d, high64(tag_low, tag_high));
    }
    tags
}

#[cfg(test)]
mod tests {
    use poly1305::universal_hash::KeyInit;

    use super::*;
    use crate::avx2::Avx2;

    /// The largest r that there is, and messages of nothing but ones, of like and of different lengths.
    #[test]
    fn the_largest_factors_do_not_overflow() {
        if Avx2::new().is_none() {
            return;
        }
        /// # Safety
        /// There is AVX2, and the messages can be read for all blocks of the longest.
        #[target_feature(enable = "avx2")]
        unsafe fn tags_by_ones(messages: [&Message; 4]) -> [[u8; 16]; 4] {
            let (r, s) = even_key(&[all32(u32::MAX); 8]);
            let mut powers = Powers::new();
            powers.set(r);
            // SAFETY: the caller's promise.
            unsafe { tags_of_four(&powers, s, messages, messages) }
        }
        let content = [0xff; 16 * 128];
        for lengths in [[3; 4], [4; 4], [125; 4], [60, 61, 64, 67], [125, 3, 59, 124]] {
            let at = content.as_ptr();
            let message = |blocks| Message { header: at, head: at, tail: at, blocks, lengths: [u64::MAX; 2] };
            let messages = lengths.map(message);
            let expected: [[u8; 16]; 4] = lengths.map(|blocks| {
                let key = [0xff; 32].into();
                poly1305::Poly1305::new(&key).compute_unpadded(&content[..16 * (blocks as usize + 1)]).into()
            });
            // SAFETY: there is AVX2, and the content is 128 blocks long.
            let found = unsafe { tags_by_ones(messages.each_ref()) };
            assert_eq!(found, expected, "{lengths:?} blocks");
        }
    }

    /// The final reduction, at and about the modulus.
    #[test]
    fn numbers_about_the_modulus_are_reduced() {
        if Avx2::new().is_none() {
            return;
        }
        /// # Safety
        /// There is AVX2.
        #[target_feature(enable = "avx2")]
        unsafe fn finished(h: [u64; 5]) -> [u8; 16] {
            finish(h.map(|limb| all64(limb)), [zero(); 2])[3]
        }
        let modulus = [LIMB - 4, LIMB, LIMB, LIMB, LIMB];
        for above in 0..10 {
            let mut h = modulus;
            h[0] += above;
            // SAFETY: there is AVX2, see above.
            let tag = u128::from_le_bytes(unsafe { finished(h) });
            assert_eq!(tag, u128::from(above));
        }
        for below in 1..10u64 {
            let mut h = modulus;
            h[0] -= below;
            // SAFETY: there is AVX2, see above.
            let tag = u128::from_le_bytes(unsafe { finished(h) });
            assert_eq!(tag, u128::MAX - 4 - u128::from(below));
        }
    }
}
