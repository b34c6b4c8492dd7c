//! ChaCha20 of eight blocks at once: a lane of 32 bits is a block, of whatever states the blocks may be.
//!
//! All 16 words stay in registers, but one of them waits in memory while its register is needed for the rotations by 12
//! and by 7. Compilers do not find that, hence the assembly. What is loaded from where it was just stored comes ten
//! cycles later, so that another word waits each time, and none that is needed soon.

use std::arch::asm;
use std::arch::x86_64::_mm256_setr_epi32;

use super::lanes::*;
use crate::vector::each;
use crate::vector::prefetch;
use crate::vector::runs::{BLOCK, CONSTANTS, Run, Task};

/// How many eights before their turn sources are asked for.
const AHEAD: usize = 4;

/// XORs eight blocks for each task.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs); the runs have these blocks.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn xor_eights(runs: &[Run], tasks: &[Task]) {
    let mut start = Start::new();
    let ask_for = |task: &Task| (0..8).for_each(|i| prefetch(task.source(runs).wrapping_add(BLOCK * i)));
    tasks.iter().take(AHEAD).for_each(ask_for);
    for (i, task) in tasks.iter().enumerate() {
        tasks.get(i + AHEAD).map(ask_for);
        let (source, destination) = (task.source(runs), task.destination(runs));
        // SAFETY: the caller's promise.
        unsafe {
            start.set_header(task.header(runs));
            start.set_counters(task.counter(runs));
            let place = |lane| (source.wrapping_add(BLOCK * lane), destination.wrapping_add(BLOCK * lane));
            xor_eight(&mut start, place);
        }
    }
}

/// XORs one block for each task.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs); the runs have these blocks.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn xor_singles(runs: &[Run], tasks: &[Task]) {
    let Some(&last) = tasks.last() else { return };
    let mut start = Start::new();
    let mut idle = [0_u8; BLOCK];
    let nowhere: *mut u8 = (&raw mut idle).cast();
    tasks.iter().take(16).for_each(|task| prefetch(task.source(runs)));
    for (i, group) in tasks.chunks(8).enumerate() {
        tasks.iter().skip(8 * (i + 2)).take(8).for_each(|task| prefetch(task.source(runs)));
        let mut headers = [last.header(runs); 8];
        let mut counters = [0; 8];
        // Lanes that nothing is left for have a block of their own.
        let mut places = [(nowhere.cast_const(), nowhere); 8];
        for (lane, task) in group.iter().enumerate() {
            headers[lane] = task.header(runs);
            counters[lane] = task.counter(runs);
            places[lane] = (task.source(runs), task.destination(runs));
        }
        // SAFETY: the caller's promise, and see above.
        unsafe {
            start.set_lanes(&headers, counters);
            xor_eight(&mut start, |lane| places[lane]);
        }
    }
}

/// Block 0 of eight keystreams of the header's key and nonce, but for the nonce's first word: that is `first` and the
/// seven numbers after it.
#[target_feature(enable = "avx2")]
pub(super) fn first_blocks(header: &[u8; 48], first: u32) -> [[u8; BLOCK]; 8] {
    let mut blocks = [[0; BLOCK]; 8];
    let to = blocks.as_mut_ptr();
    let mut start = Start::new();
    // SAFETY: the header is 48 bytes, and every lane has a block of its own.
    unsafe {
        start.set_header(header.as_ptr());
        start.words[12] = zero();
        start.words[13] = add32(all32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        xor_eight(&mut start, |lane| (to.add(lane).cast_const().cast(), to.add(lane).cast()));
    }
    blocks
}

/// XORs the eight blocks that start from `start` to the source of each lane, into the destination of each lane.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs).
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn xor_eight(start: &mut Start, places: impl Fn(usize) -> (*const u8, *mut u8)) {
    let lower = keystream(start);
    for (half, words) in [lower, start.upper].into_iter().enumerate() {
        for (lane, row) in transpose32(words).into_iter().enumerate() {
            let (source, destination) = places(lane);
            // SAFETY: the caller's promise: sources and destinations are 64 bytes.
            unsafe { store(destination.add(32 * half), xor(row, load(source.add(32 * half)))) };
        }
    }
}

/// The first 32 bytes of block 0 of eight states' keystreams, word by word, a lane for a state.
///
/// # Safety
/// Headers can be read for 48 bytes.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn one_time_keys(headers: &[*const u8; 8]) -> [Lanes; 8] {
    let mut start = Start::new();
    // SAFETY: the caller's promise.
    unsafe { start.set_lanes(headers, [0; 8]) };
    keystream(&mut start)
}

/// What eight blocks start from, in the layout that the assembly knows.
#[repr(C, align(32))]
struct Start {
    words: [Lanes; 16],
    /// Where words wait while their registers are needed.
    waiting: [Lanes; 2],
    /// Words 8 to 15 of the blocks.
    upper: [Lanes; 8],
}

impl Start {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new() -> Self {
        let mut words = [zero(); 16];
        for (word, constant) in words.iter_mut().zip(CONSTANTS) {
            *word = all32(constant);
        }
        Self { words, waiting: [zero(); 2], upper: [zero(); 8] }
    }

    /// Key and nonce of each lane's header, and its counter.
    ///
    /// # Safety
    /// Headers can be read for 48 bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn set_lanes(&mut self, headers: &[*const u8; 8], counters: [u32; 8]) {
        let [a, b, c, d, e, f, g, h] = counters.map(|counter| counter as i32);
        self.words[12] = _mm256_setr_epi32(a, b, c, d, e, f, g, h);
        // SAFETY: the caller's promise.
        unsafe {
            let low = std::array::from_fn(|i| load_halves(headers[i].add(16), headers[i + 4].add(16)));
            self.words[4..8].copy_from_slice(&transpose_halves32(low));
            let high = std::array::from_fn(|i| load_high_halves(headers[i].add(16), headers[i + 4].add(16)));
            self.words[8..12].copy_from_slice(&transpose_halves32(high));
            let nonces = std::array::from_fn(|lane| load_halves(headers[lane], headers[lane + 4]));
            self.words[13..].copy_from_slice(&transpose_halves32(nonces)[..3]);
        }
    }

    /// Key and nonce of one header in all lanes.
    ///
    /// # Safety
    /// The header can be read for 48 bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn set_header(&mut self, header: *const u8) {
        // SAFETY: the caller's promise.
        let word = |at: usize| unsafe { header.add(at).cast::<u32>().read_unaligned() };
        for i in 0..8 {
            self.words[4 + i] = all32(word(16 + 4 * i));
        }
        for i in 0..3 {
            self.words[13 + i] = all32(word(4 * i));
        }
    }

    /// Consecutive counters.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn set_counters(&mut self, first: u32) {
        self.words[12] = add32(all32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
}

/// The byte shuffles that rotate 32-bit lanes left by 16 and by 8.
#[repr(C, align(32))]
struct Rotations([[u8; 32]; 2]);

static ROTATIONS: Rotations = Rotations([rotation(2), rotation(1)]);

const fn rotation(bytes: u8) -> [u8; 32] {
    let mut shuffle = [0; 32];
    let mut i = 0;
    while i < 32 {
        let (lane, byte) = (i as u8 & 12, i as u8 & 3);
        shuffle[i] = lane | (byte + 4 - bytes) & 3;
        i += 1;
    }
    shuffle
}

/// `a += b; d ^= a`, or `c += d; b ^= c`.
macro_rules! add_xor {
    ([$a:tt $b:tt $d:tt]) => {
        concat!(
            "vpaddd ymm",
            $a,
            ", ymm",
            $a,
            ", ymm",
            $b,
            "\n",
            "vpxor ymm",
            $d,
            ", ymm",
            $d,
            ", ymm",
            $a,
            "\n",
        )
    };
}

macro_rules! rotate16 {
    ($x:tt) => {
        concat!("vpshufb ymm", $x, ", ymm", $x, ", [{rotations}]\n")
    };
}

macro_rules! rotate8 {
    ($x:tt) => {
        concat!("vpshufb ymm", $x, ", ymm", $x, ", [{rotations} + 32]\n")
    };
}

/// With the register of word 3, which waits.
macro_rules! rotate12 {
    ($x:tt) => { rotate!($x 12 20 3) };
}

/// With the register of word 0, which waits.
macro_rules! rotate7 {
    ($x:tt) => { rotate!($x 7 25 0) };
}

macro_rules! rotate {
    ($x:tt $left:tt $right:tt $other:tt) => {
        concat!(
            "vpslld ymm",
            $other,
            ", ymm",
            $x,
            ", ",
            $left,
            "\n",
            "vpsrld ymm",
            $x,
            ", ymm",
            $x,
            ", ",
            $right,
            "\n",
            "vpor ymm",
            $x,
            ", ymm",
            $x,
            ", ymm",
            $other,
            "\n",
        )
    };
}

/// Four quarter rounds side by side.
macro_rules! quarter_rounds {
    ($([$a:tt $b:tt $c:tt $d:tt])+) => {
        concat!(
            each!(add_xor $([$a $b $d])+),
            each!(rotate16 $($d)+),
            each!(add_xor $([$c $d $b])+),
            "vmovdqa [{words} + 512], ymm3\n",
            each!(rotate12 $($b)+),
            "vmovdqa ymm3, [{words} + 512]\n",
            each!(add_xor $([$a $b $d])+),
            each!(rotate8 $($d)+),
            each!(add_xor $([$c $d $b])+),
            "vmovdqa [{words} + 544], ymm0\n",
            each!(rotate7 $($b)+),
            "vmovdqa ymm0, [{words} + 544]\n",
        )
    };
}

/// Words 0 to 15 in the registers of their numbers.
macro_rules! for_words {
    ($line:ident) => { each!($line 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) };
}

macro_rules! load_word {
    ($i:tt) => {
        concat!("vmovdqa ymm", $i, ", [{words} + 32 * ", $i, "]\n")
    };
}

macro_rules! add_word {
    ($i:tt) => {
        concat!("vpaddd ymm", $i, ", ymm", $i, ", [{words} + 32 * ", $i, "]\n")
    };
}

macro_rules! store_upper_word {
    ($i:tt) => {
        concat!("vmovdqa [{words} + 576 + 32 * (", $i, " - 8)], ymm", $i, "\n")
    };
}

/// The blocks that start from `start`: twenty rounds, and what they started from added. Returns words 0 to 7; the
/// others are in `start.upper`, since transposition needs registers besides, and should not begin with a word that has
/// just been stored.
#[target_feature(enable = "avx2")]
#[inline]
fn keystream(start: &mut Start) -> [Lanes; 8] {
    let (a, b, c, d, e, f, g, h): (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes);
    // SAFETY: reads `start` and the rotations and writes `start` where words wait and the upper ones go, all aligned to
    // 32 bytes as their types say; every vector register is declared as written.
    unsafe {
        asm!(
            for_words!(load_word),
            "mov {rounds:e}, 10",
            "2:",
            quarter_rounds!([0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15]),
            quarter_rounds!([0 5 10 15] [1 6 11 12] [2 7 8 13] [3 4 9 14]),
            "dec {rounds:e}",
            "jnz 2b",
            for_words!(add_word),
            each!(store_upper_word 8 9 10 11 12 13 14 15),
            words = in(reg) start,
            rotations = in(reg) &ROTATIONS,
            rounds = out(reg) _,
            out("ymm0") a, out("ymm1") b, out("ymm2") c, out("ymm3") d,
            out("ymm4") e, out("ymm5") f, out("ymm6") g, out("ymm7") h,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        );
    }
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avx2::Avx2;
    use crate::primitives::{expand, keystream};

    #[test]
    fn one_time_keys_are_the_start_of_block_0() {
        if Avx2::new().is_none() {
            return;
        }
        let mut headers = [0; 8 * 48];
        expand(&[8; 32], 0, &mut headers);
        let pointers = std::array::from_fn(|lane| headers[48 * lane..].as_ptr());
        // SAFETY: there is AVX2, and the headers are 48 bytes.
        let keys = unsafe { one_time_keys(&pointers) };
        // SAFETY: vectors are plain bits.
        let words: [[u32; 8]; 8] = unsafe { std::mem::transmute(keys) };
        for lane in 0..8 {
            let header = &headers[48 * lane..][..48];
            let mut stream = [0; 32];
            let (key, nonce) = (header[16..48].try_into().expect("32"), header[..12].try_into().expect("12"));
            keystream(key, nonce, 0, &mut stream);
            for (word, bytes) in words.iter().zip(stream.as_chunks().0) {
                assert_eq!(word[lane], u32::from_le_bytes(*bytes));
            }
        }
    }
}
