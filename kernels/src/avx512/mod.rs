//! The instructions of the kernel for processors with AVX-512, from Intel's Ice Lake and AMD's Zen 4 on.
//!
//! [`Avx512`] can only exist where the processor has them all; everything in this folder is reached through its
//! methods. What is done with them is in the folder `vector`.

#![allow(
    unsafe_code,
    reason = "vector instructions on raw memory, behind a type that has checked the processor"
)]

mod blake2b;
mod chacha;
mod lanes;
mod ops;
mod poly1305;

use std::arch::is_x86_feature_detected as has;

use crate::program::lanes::Compute;
use crate::vector::Vectors;
use crate::vector::interpreter::Operands;
use crate::vector::message::Message;
use crate::vector::runs::{Run, Task};

/// Proof that this processor has AVX-512 F, BW, CD, DQ and VL, IFMA, VBMI2, BITALG and VPOPCNTDQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, if it holds.
    pub fn new() -> Option<Self> {
        let has_all = has!("avx2")
            && has!("avx512f")
            && has!("avx512bw")
            && has!("avx512cd")
            && has!("avx512dq")
            && has!("avx512vl")
            && has!("avx512ifma")
            && has!("avx512vbmi2")
            && has!("avx512bitalg")
            && has!("avx512vpopcntdq");
        has_all.then_some(Self(()))
    }
}

// SAFETY: `new` is the only way to a value.
unsafe impl Vectors for Avx512 {
    #[inline(always)]
    unsafe fn xor_eights(self, runs: &[Run], tasks: &[Task]) {
        // SAFETY: `self` exists, so there is AVX-512; and the caller's promise.
        unsafe { chacha::xor_eights(runs, tasks) }
    }

    #[inline(always)]
    unsafe fn xor_singles(self, runs: &[Run], tasks: &[Task]) {
        // SAFETY: as above.
        unsafe { chacha::xor_singles(runs, tasks) }
    }

    #[inline(always)]
    unsafe fn tags(self, messages: &[Message], put: impl FnMut(usize, [u8; 16])) {
        // SAFETY: as above.
        unsafe { poly1305::tags(messages, put) }
    }

    #[inline(always)]
    unsafe fn hash<const DIGEST: usize>(
        self,
        messages: &[*const u8],
        len: usize,
        put: impl FnMut(usize, [u8; DIGEST]),
    ) {
        // SAFETY: as above.
        unsafe { blake2b::hash(messages, len, put) }
    }

    #[inline(always)]
    unsafe fn execute(self, compute: &Compute, operands: Operands) {
        // SAFETY: as above.
        unsafe { ops::execute(compute, operands) }
    }
}
