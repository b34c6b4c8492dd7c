//! BLAKE2b of sixteen messages of one length at once, in two sets of eight: a lane of 64 bits is a message.
//!
//! The working vectors of both sets fill all 32 registers: AVX-512 rotates in place, and message words are added from
//! memory. That leaves none to a compiler that loads a word before it is added, hence the assembly. One set alone would
//! keep two units of a processor busy, but not four.

use std::arch::asm;

use super::lanes::*;
use crate::vector::blake2b::{BLOCK, IV, schedule};
use crate::vector::each;

/// Messages of a set.
const SET: usize = 8;

/// Which word of the message is added where, in bytes from the start of [`Compression::message`].
static SCHEDULE: [[u16; 16]; 12] = schedule(2 * size_of::<Lanes>() as u16);

/// What a compression works on, in the layout that the assembly knows.
#[repr(C, align(64))]
struct Compression {
    /// The message block, word by word across the lanes: one that is looked up is there for both sets.
    message: [[Lanes; 2]; 16],
    /// What is hashed so far.
    h: [[Lanes; 2]; 8],
    /// Words 8 to 15 of the working vector as they begin, for all lanes: the initial vector's, changed by how many
    /// bytes are hashed, and by whether they are all.
    initial: [u64; 8],
}

/// As [`Vectors::hash`](crate::vector::Vectors::hash).
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn hash<const DIGEST: usize>(
    messages: &[*const u8],
    len: usize,
    mut put: impl FnMut(usize, [u8; DIGEST]),
) {
    const { assert!(DIGEST == 32 || DIGEST == 64, "the digests that the algorithm knows (spec §1)") };
    for (first, messages) in (0..).step_by(2 * SET).zip(messages.chunks(2 * SET)) {
        let sixteen = std::array::from_fn(|i: usize| messages[i.min(messages.len() - 1)]);
        // SAFETY: the caller's promise.
        let hashes = unsafe {
            if messages.len() > SET {
                hash_sets::<2>(DIGEST, sixteen, len)
            } else {
                hash_sets::<1>(DIGEST, sixteen, len)
            }
        };
        for (i, hash) in (first..first + messages.len()).zip(hashes.as_flattened()) {
            put(i, *hash.first_chunk().expect("no digest is longer"));
        }
    }
}

/// The hashes of the first `SETS` sets, which begin with digests of `digest` bytes.
///
/// # Safety
/// All messages are `len` bytes long, a positive multiple of 128.
#[target_feature(enable = "avx512f")]
unsafe fn hash_sets<const SETS: usize>(
    digest: usize,
    messages: [*const u8; 2 * SET],
    len: usize,
) -> [[[u8; 64]; SET]; 2] {
    let mut h = [[zero(); 2]; 8];
    for (h, word) in h.iter_mut().zip(IV) {
        *h = [all64(word); 2];
    }
    h[0] = [all64(IV[0] ^ 0x0101_0000 ^ digest as u64); 2];
    let mut compression = Compression { message: [[zero(); 2]; 16], h, initial: IV };
    for at in (0..len).step_by(BLOCK) {
        for set in 0..SETS {
            for half in 0..2 {
                let from = |i: usize| messages[SET * set + i].wrapping_add(at + 64 * half);
                // SAFETY: 64 bytes from there on lie within the block, and the block within the messages.
                let columns = unsafe { load_transposed64(std::array::from_fn(from)) };
                for (word, column) in compression.message[8 * half..].iter_mut().zip(columns) {
                    word[set] = column;
                }
            }
        }
        let end = at + BLOCK;
        compression.initial[4] = IV[4] ^ end as u64;
        if end == len {
            compression.initial[6] = !IV[6];
        }
        compression.run::<SETS>();
    }

    let mut hashes = [[[0; 64]; SET]; 2];
    for (set, hashes) in hashes[..SETS].iter_mut().enumerate() {
        let [a, b, c, d, e, f, g, h] = compression.h;
        let words = [a[set], b[set], c[set], d[set], e[set], f[set], g[set], h[set]];
        let rows = transpose64(words);
        for (hash, row) in hashes.iter_mut().zip(rows) {
            // SAFETY: hashes are 64 bytes.
            unsafe { store(hash.as_mut_ptr(), row) };
        }
    }
    hashes
}

/// An instruction on two vectors, the result first.
macro_rules! on_two {
    ($name:literal $result:tt $a:tt $b:tt) => {
        concat!($name, " zmm", $result, ", zmm", $a, ", zmm", $b, "\n")
    };
}

/// `a += b + m` in the first set, and `e += f + m` in the second, where m is looked up: spelt out, twelve rounds would
/// be more than the processor keeps decoded.
macro_rules! add_message {
    ([$m:tt $a:tt $b:tt $($e:tt $f:tt)?]) => {
        concat!(
            "movzx {at:e}, word ptr [{schedule} + 2 * ",
            $m,
            "]\n",
            concat!("vpaddq zmm", $a, ", zmm", $a, ", [{s} + {at}]\n"),
            $(concat!("vpaddq zmm", $e, ", zmm", $e, ", [{s} + {at} + 64]\n"),)?
            on_two!("vpaddq" $a $a $b),
            $(on_two!("vpaddq" $e $e $f),)?
        )
    };
}

/// `x ^= y`.
macro_rules! xor_into {
    ([$x:tt $y:tt]) => {
        on_two!("vpxorq" $x $x $y)
    };
}

/// `x += y`.
macro_rules! add_into {
    ([$x:tt $y:tt]) => {
        on_two!("vpaddq" $x $x $y)
    };
}

/// Rotates right.
macro_rules! rotate {
    ([$x:tt $bits:literal]) => {
        concat!("vprorq zmm", $x, ", zmm", $x, ", ", $bits, "\n")
    };
}

/// Four mixings side by side, of the columns or of the diagonals, in one set or in both.
macro_rules! half_round {
    ($([$a:tt $b:tt $c:tt $d:tt $(and $e:tt $f:tt $g:tt $h:tt)?])+, [$($m:tt)+], [$($n:tt)+]) => {
        concat!(
            each!(add_message $([$m $a $b $($e $f)?])+),
            each!(xor_into $([$d $a] $([$h $e])?)+),
            each!(rotate $([$d 32] $([$h 32])?)+),
            each!(add_into $([$c $d] $([$g $h])?)+),
            each!(xor_into $([$b $c] $([$f $g])?)+),
            each!(rotate $([$b 24] $([$f 24])?)+),
            each!(add_message $([$n $a $b $($e $f)?])+),
            each!(xor_into $([$d $a] $([$h $e])?)+),
            each!(rotate $([$d 16] $([$h 16])?)+),
            each!(add_into $([$c $d] $([$g $h])?)+),
            each!(xor_into $([$b $c] $([$f $g])?)+),
            each!(rotate $([$b 63] $([$f 63])?)+),
        )
    };
}

/// Word `i` of what is hashed so far, of one set.
macro_rules! load_h {
    ([$register:tt $i:tt $set:tt]) => {
        concat!("vmovdqa64 zmm", $register, ", [{s} + 2048 + 128 * ", $i, " + 64 * ", $set, "]\n")
    };
}

/// Word `i + 8` of the working vector.
macro_rules! load_initial {
    ([$register:tt $i:tt]) => {
        concat!("vpbroadcastq zmm", $register, ", [{s} + 3072 + 8 * ", $i, "]\n")
    };
}

/// `h ^= v[i] ^ v[i + 8]` in one set.
macro_rules! feed_forward {
    ([$a:tt $b:tt $i:tt $set:tt]) => {
        concat!(
            concat!(
                "vpternlogq zmm",
                $a,
                ", zmm",
                $b,
                ", [{s} + 2048 + 128 * ",
                $i,
                " + 64 * ",
                $set,
                "], 0x96\n"
            ),
            concat!("vmovdqa64 [{s} + 2048 + 128 * ", $i, " + 64 * ", $set, "], zmm", $a, "\n"),
        )
    };
}

impl Compression {
    /// Compresses the message block into `h`, in the first set or in both.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn run<const SETS: usize>(&mut self) {
        macro_rules! run {
            ($($line:expr),+; $($register:tt)+) => {
                asm!(
                    $($line),+,
                    schedule = inout(reg) &SCHEDULE => _,
                    at = out(reg) _,
                    rounds = inout(reg) 12 => _,
                    s = in(reg) self,
                    $(out($register) _,)+
                    options(nostack),
                )
            };
        }
        // SAFETY: reads and writes `self`, at places below 3136 that the schedule or the code says, and reads the
        // twelve rows of the schedule. What whole vectors are moved to or from is aligned to 64 bytes, as the type
        // says; every vector register that changes is declared as overwritten.
        unsafe {
            if SETS == 2 {
                run!(
                    each!(load_h [0 0 0] [1 1 0] [2 2 0] [3 3 0] [4 4 0] [5 5 0] [6 6 0] [7 7 0]),
                    each!(load_h [16 0 1] [17 1 1] [18 2 1] [19 3 1] [20 4 1] [21 5 1] [22 6 1] [23 7 1]),
                    each!(load_initial [8 0] [9 1] [10 2] [11 3] [12 4] [13 5] [14 6] [15 7]),
                    each!(load_initial [24 0] [25 1] [26 2] [27 3] [28 4] [29 5] [30 6] [31 7]),
                    "2:",
                    half_round!(
                        [0 4 8 12 and 16 20 24 28] [1 5 9 13 and 17 21 25 29]
                        [2 6 10 14 and 18 22 26 30] [3 7 11 15 and 19 23 27 31],
                        [0 2 4 6], [1 3 5 7]
                    ),
                    half_round!(
                        [0 5 10 15 and 16 21 26 31] [1 6 11 12 and 17 22 27 28]
                        [2 7 8 13 and 18 23 24 29] [3 4 9 14 and 19 20 25 30],
                        [8 10 12 14], [9 11 13 15]
                    ),
                    "add {schedule}, 32",
                    "dec {rounds:e}",
                    "jnz 2b",
                    each!(feed_forward [0 8 0 0] [1 9 1 0] [2 10 2 0] [3 11 3 0]),
                    each!(feed_forward [4 12 4 0] [5 13 5 0] [6 14 6 0] [7 15 7 0]),
                    each!(feed_forward [16 24 0 1] [17 25 1 1] [18 26 2 1] [19 27 3 1]),
                    each!(feed_forward [20 28 4 1] [21 29 5 1] [22 30 6 1] [23 31 7 1]);
                    "zmm0" "zmm1" "zmm2" "zmm3" "zmm4" "zmm5" "zmm6" "zmm7"
                    "zmm8" "zmm9" "zmm10" "zmm11" "zmm12" "zmm13" "zmm14" "zmm15"
                    "zmm16" "zmm17" "zmm18" "zmm19" "zmm20" "zmm21" "zmm22" "zmm23"
                    "zmm24" "zmm25" "zmm26" "zmm27" "zmm28" "zmm29" "zmm30" "zmm31"
                );
            } else {
                run!(
                    each!(load_h [0 0 0] [1 1 0] [2 2 0] [3 3 0] [4 4 0] [5 5 0] [6 6 0] [7 7 0]),
                    each!(load_initial [8 0] [9 1] [10 2] [11 3] [12 4] [13 5] [14 6] [15 7]),
                    "2:",
                    half_round!([0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15], [0 2 4 6], [1 3 5 7]),
                    half_round!([0 5 10 15] [1 6 11 12] [2 7 8 13] [3 4 9 14], [8 10 12 14], [9 11 13 15]),
                    "add {schedule}, 32",
                    "dec {rounds:e}",
                    "jnz 2b",
                    each!(feed_forward [0 8 0 0] [1 9 1 0] [2 10 2 0] [3 11 3 0]),
                    each!(feed_forward [4 12 4 0] [5 13 5 0] [6 14 6 0] [7 15 7 0]);
                    "zmm0" "zmm1" "zmm2" "zmm3" "zmm4" "zmm5" "zmm6" "zmm7"
                    "zmm8" "zmm9" "zmm10" "zmm11" "zmm12" "zmm13" "zmm14" "zmm15"
                );
            }
        }
    }
}
