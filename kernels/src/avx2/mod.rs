//! The instructions of the kernel for processors with AVX2.
//!
//! [`Avx2`] can only exist where the processor has it; everything in this folder is reached through its methods. What
//! is done with them is in the folder `vector`.

#![allow(
    unsafe_code,
    reason = "vector instructions on raw memory, behind a type that has checked the processor"
)]

mod blake2b;
mod chacha;
mod expand;
mod lanes;
mod ops;
mod poly1305;

use crate::program::lanes::Compute;
use crate::vector::Vectors;
use crate::vector::interpreter::Operands;
use crate::vector::message::Message;
use crate::vector::runs::{Run, Task};

/// Proof that this processor has AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, if it holds.
    pub fn new() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

// SAFETY: `new` is the only way to a value.
unsafe impl Vectors for Avx2 {
    #[inline(always)]
    unsafe fn xor_eights(self, runs: &[Run], tasks: &[Task]) {
        // SAFETY: `self` exists, so there is AVX2; and the caller's promise.
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
