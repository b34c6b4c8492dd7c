//! ChaCha20 of 32 blocks at once, or of sixteen: a lane of 32 bits is a block, of whatever states the blocks may be.
//!
//! Two groups of sixteen go side by side, all their words in registers, as some processors would wait for the results
//! of one. Compilers do not keep them there, hence the assembly.

use std::arch::asm;
use std::ptr;

use super::lanes::*;
use crate::vector::each;
use crate::vector::prefetch;
use crate::vector::runs::{BLOCK, CONSTANTS, Run, Task};

/// Blocks of a group.
const GROUP: usize = 16;

/// Consecutive blocks of a task of eight.
const EIGHT: usize = 8;

/// XORs eight blocks for each task.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs); the runs have these blocks.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn xor_eights(runs: &[Run], tasks: &[Task]) {
    let Some(last) = tasks.last() else { return };
    let mut start = Start::new();
    for task in tasks.iter().take(4) {
        (0..EIGHT).for_each(|block| prefetch(task.source(runs).wrapping_add(BLOCK * block)));
    }
    let (fours, rest) = tasks.as_chunks::<4>();
    let mut ahead = [[last.source(runs); GROUP]; 2];
    if let Some([a, b, c, d]) = fours.first() {
        // SAFETY: the caller's promise.
        unsafe {
            start.set_halves(0, Place::of(runs, a), Place::of(runs, b));
            start.set_halves(1, Place::of(runs, c), Place::of(runs, d));
        }
        list_sources(&mut ahead, runs, tasks.iter().skip(4));
    }
    for (i, four) in fours.iter().enumerate() {
        let words = keystreams(&mut start, &ahead);
        // Prepared before this is transposed, so that the next rounds, which want other execution units, follow at
        // once.
        if let Some([a, b, c, d]) = fours.get(i + 1) {
            // SAFETY: the caller's promise.
            unsafe {
                start.set_halves(0, Place::of(runs, a), Place::of(runs, b));
                start.set_halves(1, Place::of(runs, c), Place::of(runs, d));
            }
            list_sources(&mut ahead, runs, tasks.iter().skip(4 * (i + 2)));
        }
        let [a, b, c, d] = four;
        // SAFETY: the caller's promise.
        unsafe {
            xor_words_of_eights(words, Place::of(runs, a), Place::of(runs, b));
            xor_words_of_eights(start.second, Place::of(runs, c), Place::of(runs, d));
        }
    }
    for pair in rest.chunks(2) {
        // A half that nothing is left for has blocks of its own.
        let mut idle = [0_u8; BLOCK * EIGHT];
        let a = Place::of(runs, &pair[0]);
        let b = pair.get(1).map_or(a.idle(idle.as_mut_ptr()), |task| Place::of(runs, task));
        // SAFETY: the caller's promise, and see above.
        unsafe {
            start.set_halves(0, a, b);
            xor_words_of_eights(keystream(&mut start), a, b);
        }
    }
}

/// The sources of the next four tasks, or of as many as there are.
#[inline]
fn list_sources<'a>(
    sources: &mut [[*const u8; GROUP]; 2],
    runs: &[Run],
    tasks: impl Iterator<Item = &'a Task>,
) {
    for (eight, task) in sources.as_flattened_mut().chunks_mut(EIGHT).zip(tasks) {
        let first = task.source(runs);
        eight.iter_mut().enumerate().for_each(|(i, block)| *block = first.wrapping_add(BLOCK * i));
    }
}

/// XORs one block for each task.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs); the runs have these blocks.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn xor_singles(runs: &[Run], tasks: &[Task]) {
    let Some(last) = tasks.last() else { return };
    let mut start = Start::new();
    let mut nowhere = [0_u8; BLOCK];
    let idle = Place::of(runs, last).idle(nowhere.as_mut_ptr());
    let group = |i: usize| tasks.chunks(2 * GROUP).nth(i).unwrap_or_default();
    tasks.iter().take(2 * GROUP).for_each(|task| prefetch(task.source(runs)));
    // Listed two turns ahead: nothing should be read as a vector soon after it was written in pieces.
    let (mut now, mut next, mut then) = (&mut Singles::new(), &mut Singles::new(), &mut Singles::new());
    now.set(runs, group(0), idle);
    next.set(runs, group(1), idle);
    // SAFETY: the caller's promise.
    unsafe { start.set_singles(now) };
    for i in 0..tasks.len().div_ceil(2 * GROUP) {
        if group(i).len() <= GROUP {
            // SAFETY: the caller's promise, and idle lanes have a block of their own.
            unsafe { xor_words(keystream(&mut start), &now.sources[0], &now.destinations[0]) };
            return;
        }
        let words = keystreams(&mut start, &next.sources);
        then.set(runs, group(i + 2), idle);
        // SAFETY: as above.
        unsafe {
            start.set_singles(next);
            xor_words(words, &now.sources[0], &now.destinations[0]);
            xor_words(start.second, &now.sources[1], &now.destinations[1]);
        }
        (now, next, then) = (next, then, now);
    }
}

/// A block, or the first of a task's eight.
#[derive(Clone, Copy)]
struct Place {
    header: *const u8,
    counter: u32,
    source: *const u8,
    destination: *mut u8,
}

impl Place {
    #[inline]
    fn of(runs: &[Run], task: &Task) -> Self {
        Self {
            header: task.header(runs),
            counter: task.counter(runs),
            source: task.source(runs),
            destination: task.destination(runs),
        }
    }

    /// For lanes that nothing is left for: the same state, but elsewhere.
    #[inline]
    fn idle(self, nowhere: *mut u8) -> Self {
        Self { source: nowhere, destination: nowhere, ..self }
    }
}

/// A block for each lane of both groups.
struct Singles {
    headers: [[*const u8; GROUP]; 2],
    counters: [[u32; GROUP]; 2],
    sources: [[*const u8; GROUP]; 2],
    destinations: [[*mut u8; GROUP]; 2],
}

impl Singles {
    fn new() -> Self {
        Self {
            headers: [[ptr::null(); GROUP]; 2],
            counters: [[0; GROUP]; 2],
            sources: [[ptr::null(); GROUP]; 2],
            destinations: [[ptr::null_mut(); GROUP]; 2],
        }
    }

    /// The blocks of up to 32 tasks, and `idle` for the other lanes.
    #[inline]
    fn set(&mut self, runs: &[Run], tasks: &[Task], idle: Place) {
        for (lane, task) in tasks.iter().take(2 * GROUP).enumerate() {
            self.put(lane, Place::of(runs, task));
        }
        for lane in tasks.len()..2 * GROUP {
            self.put(lane, idle);
        }
    }

    #[inline]
    fn put(&mut self, lane: usize, place: Place) {
        self.headers.as_flattened_mut()[lane] = place.header;
        self.counters.as_flattened_mut()[lane] = place.counter;
        self.sources.as_flattened_mut()[lane] = place.source;
        self.destinations.as_flattened_mut()[lane] = place.destination;
    }
}

/// XORs a group's keystream, word by word, to the source of each lane, into the destination of each lane.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs).
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn xor_words(words: [Lanes; 16], sources: &[*const u8; GROUP], destinations: &[*mut u8; GROUP]) {
    for (lane, block) in transpose32(words).into_iter().enumerate() {
        // SAFETY: the caller's promise: sources and destinations are 64 bytes.
        unsafe { store(destinations[lane], xor(block, load(sources[lane]))) };
    }
}

/// The same with eight consecutive blocks in each half of the lanes.
///
/// # Safety
/// As [`xor_runs`](crate::vector::runs::xor_runs).
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn xor_words_of_eights(words: [Lanes; 16], low: Place, high: Place) {
    for (lane, block) in transpose32(words).into_iter().enumerate() {
        let (first, at) = (if lane < EIGHT { low } else { high }, BLOCK * (lane % EIGHT));
        // SAFETY: the caller's promise: sources and destinations are 64 bytes a block.
        unsafe { store(first.destination.add(at), xor(block, load(first.source.add(at)))) };
    }
}

/// The first 32 bytes of block 0 of 32 states' keystreams, word by word, a lane for a state: of the first sixteen, and
/// of the others.
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
    // Nothing else to ask for.
    let first = keystreams(&mut start, headers);
    [std::array::from_fn(|i| first[i]), std::array::from_fn(|i| start.second[i])]
}

/// A word of the headers in the lanes of their halves.
macro_rules! set_word {
    ([$word:tt $at:tt]) => {
        concat!(
            "vpbroadcastd {word}, [{low} + ",
            $at,
            "]\n",
            "vpbroadcastd {word}{{{high_lanes}}}, [{high} + ",
            $at,
            "]\n",
            "vmovdqa64 [{words} + 64 * ",
            $word,
            "], {word}\n",
        )
    };
}

/// The block of its eight that each lane is.
#[repr(C, align(64))]
struct Eights([u32; GROUP]);

static EIGHTS: Eights = Eights([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7]);

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

    /// What the blocks of both groups start from.
    ///
    /// # Safety
    /// Headers can be read for 48 bytes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn set_singles(&mut self, singles: &Singles) {
        // SAFETY: the caller's promise.
        unsafe {
            self.set_lanes(0, &singles.headers[0], &singles.counters[0]);
            self.set_lanes(1, &singles.headers[1], &singles.counters[1]);
        }
    }

    /// Key and nonce of each lane's header, and its counter.
    ///
    /// # Safety
    /// Headers can be read for 48 bytes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn set_lanes(&mut self, group: usize, headers: &[*const u8; GROUP], counters: &[u32; GROUP]) {
        let words = &mut self.words[group];
        // SAFETY: there are sixteen.
        words[12] = unsafe { load(counters.as_ptr().cast()) };
        let (mut nonce, mut key, mut key_end) = ([zero(); 4], [zero(); 4], [zero(); 4]);
        for i in 0..4 {
            let [a, b, c, d] = [headers[i], headers[i + 4], headers[i + 8], headers[i + 12]];
            // SAFETY: the caller's promise.
            unsafe {
                nonce[i] = load_quarters::<0>(a, b, c, d);
                key[i] = load_quarters::<16>(a, b, c, d);
                key_end[i] = load_quarters::<32>(a, b, c, d);
            }
        }
        words[4..8].copy_from_slice(&transpose_quarters32(key));
        words[8..12].copy_from_slice(&transpose_quarters32(key_end));
        words[13..].copy_from_slice(&transpose_quarters32(nonce)[..3]);
    }

    /// Key and nonce of a header in each half's lanes, and consecutive counters.
    ///
    /// # Safety
    /// Headers can be read for 48 bytes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn set_halves(&mut self, group: usize, low: Place, high: Place) {
        let words = &mut self.words[group];
        // SAFETY: the caller's promise; writes words 4 to 15, aligned to 64 bytes as their type says.
        unsafe {
            asm!(
                each!(set_word [4 16] [5 20] [6 24] [7 28] [8 32] [9 36] [10 40] [11 44] [13 0] [14 4] [15 8]),
                "vpbroadcastd {word}, [{low_counter}]",
                "vpbroadcastd {word}{{{high_lanes}}}, [{high_counter}]",
                "vpaddd {word}, {word}, [{eights}]",
                "vmovdqa64 [{words} + 64 * 12], {word}",
                words = in(reg) words,
                low = in(reg) low.header,
                high = in(reg) high.header,
                low_counter = in(reg) &low.counter,
                high_counter = in(reg) &high.counter,
                eights = in(reg) &EIGHTS,
                high_lanes = in(kreg) 0xff00_u16,
                word = out(zmm_reg) _,
                options(nostack, preserves_flags),
            );
        }
    }
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

/// One line of the four that are at `line`.
macro_rules! ask_for {
    ($i:tt) => {
        concat!("mov {address}, [{ahead} + {line} + ", $i, "]\nprefetcht0 [{address}]\n")
    };
}

/// The blocks of both groups that start from `start`: twenty rounds, and what they started from added. Returns the
/// first group's words; the second's are in `start.second`, since transposition needs registers besides.
///
/// The lines of `ahead` are asked for meanwhile, a few at a time: as many at once as there are would have all wait.
#[target_feature(enable = "avx512f")]
#[inline]
fn keystreams(start: &mut Start, ahead: &[[*const u8; GROUP]; 2]) -> [Lanes; 16] {
    let (a, b, c, d, e, f, g, h): (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes);
    let (i, j, k, l, m, n, o, p): (Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes, Lanes);
    // SAFETY: reads `ahead` and `start`, and writes the latter where the second group goes, all aligned to 64 bytes as
    // its type says; every vector register is declared as written; a prefetch never faults.
    unsafe {
        asm!(
            for_first!(load_word),
            for_second!(load_word),
            "mov {rounds:e}, 10",
            "2:",
            // Each of the eight fours once at least.
            "mov {line:e}, {rounds:e}",
            "and {line:e}, 7",
            "shl {line:e}, 5",
            each!(ask_for 0 8),
            quarter_rounds!(
                [0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15]
                [16 20 24 28] [17 21 25 29] [18 22 26 30] [19 23 27 31]
            ),
            each!(ask_for 16 24),
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
            ahead = in(reg) ahead,
            rounds = out(reg) _,
            line = out(reg) _,
            address = out(reg) _,
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
