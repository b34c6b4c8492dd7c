//! ChaCha20 of 32 blocks at once, or of sixteen: a lane of 32 bits is a block, of whatever states the blocks may be.
//!
//! Two groups of sixteen go side by side, all their words in registers, as some processors would wait for the results of
//! one. Compilers do not keep them there, hence the assembly.

use std::arch::asm;
use std::arch::x86_64::_mm512_setr_epi32;

use super::lanes::*;
use crate::vector::prefetch;
use crate::vector::runs::{BLOCK, Run, Task};

/// "expand 32-byte k"
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Blocks of a group.
const GROUP: usize = 16;

/// Consecutive blocks of a task of eight.
const EIGHT: usize = 8;

/// Where a block is and where it goes.
type Place = (*const u8, *mut u8);

/// XORs eight blocks for each task.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs); the runs have these blocks.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn xor_eights(runs: &[Run], tasks: &[Task]) {
    let mut start = Start::new();
    let ask_for = |task: &Task| (0..EIGHT).for_each(|i| prefetch(task.source(runs).wrapping_add(BLOCK * i)));
    let place = |task: &Task| (task.source(runs), task.destination(runs));
    tasks.iter().take(4).for_each(ask_for);
    let (fours, rest) = tasks.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        tasks.iter().skip(4 * (i + 1)).take(4).for_each(ask_for);
        let headers = four.each_ref().map(|task| task.header(runs));
        let counters = four.each_ref().map(|task| task.counter(runs));
        let places = four.each_ref().map(place);
        // SAFETY: the caller's promise.
        unsafe {
            start.set_halves(0, [headers[0], headers[1]], [counters[0], counters[1]]);
            start.set_halves(1, [headers[2], headers[3]], [counters[2], counters[3]]);
            xor_two_groups(&mut start, |lane| of_eight(places[lane / EIGHT], lane % EIGHT));
        }
    }
    let Some(last) = rest.last() else { return };
    // Halves that nothing is left for have blocks of their own.
    let mut idle = [0; BLOCK * EIGHT];
    let nowhere: *mut u8 = (&raw mut idle).cast();
    let headers: [_; 4] = std::array::from_fn(|i| rest.get(i).unwrap_or(last).header(runs));
    let counters: [_; 4] = std::array::from_fn(|i| rest.get(i).unwrap_or(last).counter(runs));
    let places: [Place; 4] =
        std::array::from_fn(|i| rest.get(i).map_or((nowhere.cast_const(), nowhere), place));
    // SAFETY: the caller's promise, and see above.
    unsafe {
        start.set_halves(0, [headers[0], headers[1]], [counters[0], counters[1]]);
        if rest.len() <= 2 {
            xor_group(&mut start, |lane| of_eight(places[lane / EIGHT], lane % EIGHT));
        } else {
            start.set_halves(1, [headers[2], headers[3]], [counters[2], counters[3]]);
            xor_two_groups(&mut start, |lane| of_eight(places[lane / EIGHT], lane % EIGHT));
        }
    }
}

/// A block's place, from that of the first of its eight.
fn of_eight((source, destination): Place, block: usize) -> Place {
    (source.wrapping_add(BLOCK * block), destination.wrapping_add(BLOCK * block))
}

/// XORs one block for each task.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs); the runs have these blocks.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn xor_singles(runs: &[Run], tasks: &[Task]) {
    let Some(&last) = tasks.last() else { return };
    let mut start = Start::new();
    let mut idle = [0; BLOCK];
    let nowhere: *mut u8 = (&raw mut idle).cast();
    tasks.iter().take(2 * GROUP).for_each(|task| prefetch(task.source(runs)));
    for (i, blocks) in tasks.chunks(2 * GROUP).enumerate() {
        tasks.iter().skip(2 * GROUP * (i + 1)).take(2 * GROUP).for_each(|task| prefetch(task.source(runs)));
        let mut headers = [[last.header(runs); GROUP]; 2];
        let mut counters = [[0; GROUP]; 2];
        // Lanes that nothing is left for have a block of their own.
        let mut places: [Place; 2 * GROUP] = [(nowhere.cast_const(), nowhere); 2 * GROUP];
        for (lane, task) in blocks.iter().enumerate() {
            headers.as_flattened_mut()[lane] = task.header(runs);
            counters.as_flattened_mut()[lane] = task.counter(runs);
            places[lane] = (task.source(runs), task.destination(runs));
        }
        // SAFETY: the caller's promise, and see above.
        unsafe {
            start.set_lanes(0, &headers[0], &counters[0]);
            if blocks.len() <= GROUP {
                xor_group(&mut start, |lane| places[lane]);
            } else {
                start.set_lanes(1, &headers[1], &counters[1]);
                xor_two_groups(&mut start, |lane| places[lane]);
            }
        }
    }
}

/// XORs the blocks of both groups that start from `start` to the source of each lane, into the destination of each lane.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs).
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn xor_two_groups(start: &mut Start, places: impl Fn(usize) -> Place) {
    let first = keystreams(start);
    // SAFETY: the caller's promise.
    unsafe {
        xor_words(first, &places);
        xor_words(start.second, |lane| places(GROUP + lane));
    }
}

/// XORs the blocks of the first group alone.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs).
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn xor_group(start: &mut Start, places: impl Fn(usize) -> Place) {
    // SAFETY: the caller's promise.
    unsafe { xor_words(keystream(start), places) };
}

/// XORs a group's keystream, word by word, to the source of each lane, into the destination of each lane.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs).
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn xor_words(words: [Lanes; 16], places: impl Fn(usize) -> Place) {
    for (lane, block) in transpose32(words).into_iter().enumerate() {
        let (source, destination) = places(lane);
        // SAFETY: the caller's promise: sources and destinations are 64 bytes.
        unsafe { store(destination, xor(block, load(source))) };
    }
}

/// The first 32 bytes of block 0 of 32 states' keystreams, word by word, a lane for a state: of the first sixteen, and of
/// the others.
///
/// # Safety
/// Headers can be read for 48 bytes.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn one_time_keys(headers: &[[*const u8; GROUP]; 2]) -> [[Lanes; 8]; 2] {
    let mut start = Start::new();
    // SAFETY: the caller's promise.
    unsafe {
        start.set_lanes(0, &headers[0], &[0; GROUP]);
        start.set_lanes(1, &headers[1], &[0; GROUP]);
    }
    let first = keystreams(&mut start);
    [std::array::from_fn(|i| first[i]), std::array::from_fn(|i| start.second[i])]
}

/// What two groups start from, in the layout that the assembly knows.
#[repr(C, align(64))]
struct Start {
    words: [[Lanes; 16]; 2],
    /// The second group's keystream.
    second: [Lanes; 16],
}

impl Start {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new() -> Self {
        let mut words = [zero(); 16];
        for (word, constant) in words.iter_mut().zip(CONSTANTS) {
            *word = all32(constant);
        }
        Self { words: [words; 2], second: [zero(); 16] }
    }

    /// Key and nonce of each lane's header, and its counter.
    ///
    /// # Safety
    /// Headers can be read for 48 bytes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn set_lanes(&mut self, group: usize, headers: &[*const u8; GROUP], counters: &[u32; GROUP]) {
        let words = &mut self.words[group];
        // SAFETY: the caller's promise.
        unsafe {
            words[12] = load(counters.as_ptr().cast());
            let words_at = |at: usize| {
                transpose_quarters32(std::array::from_fn(|i| {
                    load_quarters(
                        [headers[i], headers[i + 4], headers[i + 8], headers[i + 12]]
                            .map(|header| header.add(at)),
                    )
                }))
            };
            words[4..8].copy_from_slice(&words_at(16));
            words[8..12].copy_from_slice(&words_at(32));
            words[13..].copy_from_slice(&words_at(0)[..3]);
        }
    }

    /// Key and nonce of a header in each half's lanes, and consecutive counters.
    ///
    /// # Safety
    /// Headers can be read for 48 bytes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn set_halves(&mut self, group: usize, headers: [*const u8; 2], counters: [u32; 2]) {
        let words = &mut self.words[group];
        // SAFETY: the caller's promise.
        let word = |at: usize| unsafe {
            let [low, high] = headers.map(|header| header.add(at).cast::<u32>().read_unaligned());
            halves32(low, high)
        };
        for i in 0..8 {
            words[4 + i] = word(16 + 4 * i);
        }
        let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
        words[12] = add32(halves32(counters[0], counters[1]), lane);
        for i in 0..3 {
            words[13 + i] = word(4 * i);
        }
    }
}

/// The lines of one instruction for each of some registers.
macro_rules! each {
    ($line:ident $($x:tt)+) => { concat!($($line!($x)),+) };
}

/// `a += b; d = (d ^ a) <<< bits`, or `c += d; b = (b ^ c) <<< bits`, of some side by side.
macro_rules! add_xor_rotate {
    ($bits:tt $([$a:tt $b:tt $d:tt])+) => {
        concat!(
            $("vpaddd zmm", $a, ", zmm", $a, ", zmm", $b, "\n",)+
            $("vpxord zmm", $d, ", zmm", $d, ", zmm", $a, "\n",)+
            $("vprold zmm", $d, ", zmm", $d, ", ", $bits, "\n",)+
        )
    };
}

/// Quarter rounds side by side.
macro_rules! quarter_rounds {
    ($([$a:tt $b:tt $c:tt $d:tt])+) => {
        concat!(
            add_xor_rotate!(16 $([$a $b $d])+),
            add_xor_rotate!(12 $([$c $d $b])+),
            add_xor_rotate!(8 $([$a $b $d])+),
            add_xor_rotate!(7 $([$c $d $b])+),
        )
    };
}

/// Words 0 to 15 of the first group in the registers of their numbers.
macro_rules! for_first {
    ($line:ident) => { each!($line 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) };
}

/// Words 0 to 15 of the second group in the next sixteen.
macro_rules! for_second {
    ($line:ident) => { each!($line 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31) };
}

macro_rules! load_word {
    ($i:tt) => {
        concat!("vmovdqa64 zmm", $i, ", [{start} + 64 * ", $i, "]\n")
    };
}

macro_rules! add_word {
    ($i:tt) => {
        concat!("vpaddd zmm", $i, ", zmm", $i, ", [{start} + 64 * ", $i, "]\n")
    };
}

macro_rules! store_word {
    ($i:tt) => {
        concat!("vmovdqa64 [{start} + 2048 + 64 * (", $i, " - 16)], zmm", $i, "\n")
    };
}

/// The blocks of both groups that start from `start`: twenty rounds, and what they started from added. Returns the first
/// group's words; the second's are in `start.second`, since transposition needs registers besides.
#[target_feature(enable = "avx512f")]
#[inline]
fn keystreams(start: &mut Start) -> [Lanes; 16] {
    let (a, b, c, d, e, f, g, h): (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes);
    let (i, j, k, l, m, n, o, p): (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes);
    // SAFETY: reads `start`, and writes it where the second group goes, all aligned to 64 bytes as its type says; every
    // vector register is declared as written.
    unsafe {
        asm!(
            for_first!(load_word),
            for_second!(load_word),
            "mov {rounds:e}, 10",
            "2:",
            quarter_rounds!(
                [0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15]
                [16 20 24 28] [17 21 25 29] [18 22 26 30] [19 23 27 31]
            ),
            quarter_rounds!(
                [0 5 10 15] [1 6 11 12] [2 7 8 13] [3 4 9 14]
                [16 21 26 31] [17 22 27 28] [18 23 24 29] [19 20 25 30]
            ),
            "dec {rounds:e}",
            "jnz 2b",
            for_second!(add_word),
            for_second!(store_word),
            for_first!(add_word),
            start = in(reg) start,
            rounds = out(reg) _,
            out("zmm0") a, out("zmm1") b, out("zmm2") c, out("zmm3") d,
            out("zmm4") e, out("zmm5") f, out("zmm6") g, out("zmm7") h,
            out("zmm8") i, out("zmm9") j, out("zmm10") k, out("zmm11") l,
            out("zmm12") m, out("zmm13") n, out("zmm14") o, out("zmm15") p,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(nostack),
        );
    }
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// The blocks of the first group alone.
#[target_feature(enable = "avx512f")]
#[inline]
fn keystream(start: &mut Start) -> [Lanes; 16] {
    let (a, b, c, d, e, f, g, h): (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes);
    let (i, j, k, l, m, n, o, p): (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes);
    // SAFETY: reads `start`, aligned to 64 bytes as its type says; the registers are declared as written.
    unsafe {
        asm!(
            for_first!(load_word),
            "mov {rounds:e}, 10",
            "2:",
            quarter_rounds!([0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15]),
            quarter_rounds!([0 5 10 15] [1 6 11 12] [2 7 8 13] [3 4 9 14]),
            "dec {rounds:e}",
            "jnz 2b",
            for_first!(add_word),
            start = in(reg) start,
            rounds = out(reg) _,
            out("zmm0") a, out("zmm1") b, out("zmm2") c, out("zmm3") d,
            out("zmm4") e, out("zmm5") f, out("zmm6") g, out("zmm7") h,
            out("zmm8") i, out("zmm9") j, out("zmm10") k, out("zmm11") l,
            out("zmm12") m, out("zmm13") n, out("zmm14") o, out("zmm15") p,
            options(nostack),
        );
    }
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avx512::Avx512;
    use crate::primitives::{expand, keystream};

    #[test]
    fn one_time_keys_are_the_start_of_block_0() {
        if Avx512::new().is_none() {
            return;
        }
        let mut headers = [0; 2 * GROUP * 48];
        expand(&[8; 32], 0, &mut headers);
        let pointers: [[*const u8; GROUP]; 2] = std::array::from_fn(|group| {
            std::array::from_fn(|lane| headers[48 * (GROUP * group + lane)..].as_ptr())
        });
        // SAFETY: there is AVX-512, and the headers are 48 bytes.
        let keys = unsafe { one_time_keys(&pointers) };
        // SAFETY: vectors are plain bits.
        let words: [[[u32; GROUP]; 8]; 2] = unsafe { std::mem::transmute(keys) };
        for (i, header) in headers.as_chunks::<48>().0.iter().enumerate() {
            let mut stream = [0; 32];
            let (key, nonce) = (header[16..48].try_into().expect("32"), header[..12].try_into().expect("12"));
            keystream(key, nonce, 0, &mut stream);
            for (word, bytes) in words[i / GROUP].iter().zip(stream.as_chunks().0) {
                assert_eq!(word[i % GROUP], u32::from_le_bytes(*bytes), "state {i}");
            }
        }
    }
}
