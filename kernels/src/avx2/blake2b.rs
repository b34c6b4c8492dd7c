//! BLAKE2b of four messages of one length at once: a lane of 64 bits is a message.
//!
//! All 16 words of the working vector stay in registers, but one of them waits in memory while its register is needed
//! for the rotations by 63. Compilers do not find that, hence the assembly. What is loaded from where it was just
//! stored comes ten cycles later, so that is done once per half round, with a word that is not needed soon.

use std::arch::asm;

use super::lanes::*;
use crate::vector::blake2b::{BLOCK, IV, schedule};
use crate::vector::each;

/// The byte shuffles that rotate 64-bit lanes right by 24 and by 16.
#[repr(C, align(32))]
struct Rotations([[u8; 32]; 2]);

static ROTATIONS: Rotations = Rotations([rotation(3), rotation(2)]);

const fn rotation(bytes: u8) -> [u8; 32] {
    let mut shuffle = [0; 32];
    let mut i = 0;
    while i < 32 {
        let (lane, byte) = (i as u8 & 8, i as u8 & 7);
        shuffle[i] = lane | (byte + bytes) & 7;
        i += 1;
    }
    shuffle
}

/// The initial vector in all lanes.
#[repr(C, align(32))]
struct Everywhere([[u64; 4]; 8]);

static IV_LANES: Everywhere = {
    let mut lanes = [[0; 4]; 8];
    let mut i = 0;
    while i < 8 {
        lanes[i] = [IV[i]; 4];
        i += 1;
    }
    Everywhere(lanes)
};

/// Which word of the message is added where, in bytes from the start of [`Compression::message`].
static SCHEDULE: [[u16; 16]; 12] = schedule(size_of::<Lanes>() as u16);

/// What a compression works on, in the layout that the assembly knows.
#[repr(C, align(32))]
struct Compression {
    /// The message block, word by word across the lanes.
    message: [Lanes; 16],
    /// What is hashed so far.
    h: [Lanes; 8],
    /// The working vector's words 12 and 14, which depend on the bytes that are hashed, and on whether they are all.
    word12: Lanes,
    word14: Lanes,
    /// Where a word waits while its register is needed.
    waiting: Lanes,
}

/// As [`Vectors::hash`](crate::vector::Vectors::hash).
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn hash<const DIGEST: usize>(
    messages: &[*const u8],
    len: usize,
    mut put: impl FnMut(usize, [u8; DIGEST]),
) {
    for (first, messages) in (0..).step_by(4).zip(messages.chunks(4)) {
        let four = [0, 1, 2, 3].map(|i: usize| messages[i.min(messages.len() - 1)]);
        // SAFETY: the caller's promise.
        let hashes = unsafe { hash_four(four, len) };
        (first..first + messages.len()).zip(hashes).for_each(|(i, hash)| put(i, hash));
    }
}

/// # Safety
/// All messages are `len` bytes long, a positive multiple of 128.
#[target_feature(enable = "avx2")]
unsafe fn hash_four<const DIGEST: usize>(messages: [*const u8; 4], len: usize) -> [[u8; DIGEST]; 4] {
    const { assert!(DIGEST == 32 || DIGEST == 64, "the digests that the algorithm knows (spec §1)") };
    let mut h = IV.map(|word| all64(word));
    h[0] = xor(h[0], all64(0x0101_0000 ^ DIGEST as u64));
    let mut compression =
        Compression { message: [zero(); 16], h, word12: zero(), word14: all64(IV[6]), waiting: zero() };
    for at in (0..len).step_by(BLOCK) {
        for quarter in 0..4 {
            let rows = messages.map(|message| message.wrapping_add(at + 32 * quarter));
            // SAFETY: 32 bytes from there on lie within the block, and the block within the messages.
            let columns = unsafe { load_transposed64(rows) };
            compression.message[4 * quarter..][..4].copy_from_slice(&columns);
        }
        let end = at + BLOCK;
        compression.word12 = all64(IV[4] ^ end as u64);
        if end == len {
            compression.word14 = all64(!IV[6]);
        }
        compression.run();
    }

    let [a, b, c, d, e, f, g, h] = compression.h;
    let mut digests = [[0; DIGEST]; 4];
    let starts = digests.each_mut().map(|digest| digest.as_mut_ptr());
    // SAFETY: digests are 32 bytes, or else 64.
    unsafe {
        for (start, row) in starts.into_iter().zip(transpose64([a, b, c, d])) {
            store(start, row);
        }
        if DIGEST == 64 {
            for (start, row) in starts.into_iter().zip(transpose64([e, f, g, h])) {
                store(start.add(32), row);
            }
        }
    }
    digests
}

/// `a += b + m`, where m is looked up: spelt out, twelve rounds would be more than the processor keeps decoded.
macro_rules! add_message {
    ([$a:tt $b:tt $m:tt]) => {
        concat!(
            "movzx {at:e}, word ptr [{schedule} + 2 * ",
            $m,
            "]\n",
            "vpaddq ymm",
            $a,
            ", ymm",
            $a,
            ", [{s} + {at}]\n",
            "vpaddq ymm",
            $a,
            ", ymm",
            $a,
            ", ymm",
            $b,
            "\n",
        )
    };
}

/// `x ^= y`.
macro_rules! xor_into {
    ([$x:tt $y:tt]) => {
        concat!("vpxor ymm", $x, ", ymm", $x, ", ymm", $y, "\n")
    };
}

/// `c += d; b ^= c`.
macro_rules! add_xor {
    ([$b:tt $c:tt $d:tt]) => {
        concat!(
            "vpaddq ymm",
            $c,
            ", ymm",
            $c,
            ", ymm",
            $d,
            "\n",
            "vpxor ymm",
            $b,
            ", ymm",
            $b,
            ", ymm",
            $c,
            "\n",
        )
    };
}

macro_rules! rotate32 {
    ($x:tt) => {
        concat!("vpshufd ymm", $x, ", ymm", $x, ", 0xb1\n")
    };
}

macro_rules! rotate24 {
    ($x:tt) => {
        concat!("vpshufb ymm", $x, ", ymm", $x, ", [{rotations}]\n")
    };
}

macro_rules! rotate16 {
    ($x:tt) => {
        concat!("vpshufb ymm", $x, ", ymm", $x, ", [{rotations} + 32]\n")
    };
}

macro_rules! rotate63 {
    ($x:tt) => {
        concat!(
            "vpaddq ymm11, ymm",
            $x,
            ", ymm",
            $x,
            "\n",
            "vpsrlq ymm",
            $x,
            ", ymm",
            $x,
            ", 63\n",
            "vpor ymm",
            $x,
            ", ymm",
            $x,
            ", ymm11\n",
        )
    };
}

/// Four mixings side by side: of the columns, or of the diagonals.
macro_rules! half_round {
    ($([$a:tt $b:tt $c:tt $d:tt])+, [$($m:tt)+], [$($n:tt)+]) => {
        concat!(
            each!(add_message $([$a $b $m])+),
            each!(xor_into $([$d $a])+),
            each!(rotate32 $($d)+),
            each!(add_xor $([$b $c $d])+),
            each!(rotate24 $($b)+),
            each!(add_message $([$a $b $n])+),
            each!(xor_into $([$d $a])+),
            each!(rotate16 $($d)+),
            each!(add_xor $([$b $c $d])+),
            "vmovdqa [{s} + 832], ymm11\n",
            each!(rotate63 $($b)+),
            "vmovdqa ymm11, [{s} + 832]\n",
        )
    };
}

macro_rules! load_h {
    ($i:tt) => {
        concat!("vmovdqa ymm", $i, ", [{s} + 512 + 32 * ", $i, "]\n")
    };
}

/// Words 8 to 11 and so on are the initial vector's from word 0 on.
macro_rules! load_iv {
    ([$i:tt $iv:tt]) => {
        concat!("vmovdqa ymm", $i, ", [{iv} + 32 * ", $iv, "]\n")
    };
}

/// `h ^= v[i] ^ v[i + 8]`.
macro_rules! feed_forward {
    ([$i:tt $j:tt]) => {
        concat!(
            "vpxor ymm",
            $i,
            ", ymm",
            $i,
            ", ymm",
            $j,
            "\n",
            "vpxor ymm",
            $i,
            ", ymm",
            $i,
            ", [{s} + 512 + 32 * ",
            $i,
            "]\n",
            "vmovdqa [{s} + 512 + 32 * ",
            $i,
            "], ymm",
            $i,
            "\n",
        )
    };
}

impl Compression {
    /// Compresses the message block into `h`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn run(&mut self) {
        // SAFETY: reads and writes `self`, at places below 864 that the schedule or the code says, and reads the
        // initial vector, the twelve rows of the schedule and the rotations. What whole vectors are moved to or from is
        // aligned to 32 bytes, as the types say; every vector register is declared as overwritten.
        unsafe {
            asm!(
                each!(load_h 0 1 2 3 4 5 6 7),
                each!(load_iv [8 0] [9 1] [10 2] [11 3] [13 5] [15 7]),
                "vmovdqa ymm12, [{s} + 768]",
                "vmovdqa ymm14, [{s} + 800]",
                "mov {rounds:e}, 12",
                "2:",
                half_round!([0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15], [0 2 4 6], [1 3 5 7]),
                half_round!([0 5 10 15] [1 6 11 12] [2 7 8 13] [3 4 9 14], [8 10 12 14], [9 11 13 15]),
                "add {schedule}, 32",
                "dec {rounds:e}",
                "jnz 2b",
                each!(feed_forward [0 8] [1 9] [2 10] [3 11] [4 12] [5 13] [6 14] [7 15]),
                iv = in(reg) &IV_LANES,
                schedule = inout(reg) &SCHEDULE => _,
                at = out(reg) _,
                rounds = out(reg) _,
                s = in(reg) self,
                rotations = in(reg) &ROTATIONS,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
                out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
                out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
                options(nostack),
            );
        }
    }
}
