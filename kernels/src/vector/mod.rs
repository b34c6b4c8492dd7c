//! What the kernels for vectors of x86-64 processors share: everything but their instructions.
//!
//! [`Vectors`] is what one of them brings along. Each has AVX2 at least, for which this folder is compiled.
//!
//! | file | what it holds |
//! |---|---|
//! | `plan.rs` | what a header asks for in CRYPT |
//! | `runs.rs` | which blocks of keystreams go together |
//! | `blake2b.rs` | BLAKE2b's constants |
//! | `message.rs` | what Poly1305 authenticates |
//! | `ops.rs` | which function computes which opcode |
//! | `interpreter.rs` | a program over sixty-four items at once |
//! | `items.rs` | items: run, FUZZ, CRYPT |
//! | `search.rs` | the search over soft nonces |
//! | `pages.rs` | memory for a table |
//! | `passes.rs` | the passes of such a kernel |

#![allow(
    unsafe_code,
    reason = "vector instructions on raw memory, behind types that have checked the processor"
)]

pub(crate) mod blake2b;
pub(crate) mod interpreter;
mod items;
pub(crate) mod message;
pub(crate) mod ops;
mod pages;
mod passes;
mod plan;
pub(crate) mod runs;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use pages::TableMemory;
pub(crate) use passes::VectorPasses;

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use interpreter::Operands;
use message::Message;
use runs::{Run, Task};

use crate::program::lanes::Compute;

/// The lines of one instruction, or of a few, for each of some registers: assembly of a step that is done side by side.
macro_rules! each {
    ($line:ident $($x:tt)+) => { concat!($($line!($x)),+) };
}
pub(crate) use each;

/// An instruction set: a value is the proof that this processor has it, and AVX2 besides.
///
/// Everything works across messages or states, one to a lane, wherever there are enough of them.
///
/// # Safety
/// There is a value only where the processor has these instructions, and AVX2.
pub(crate) unsafe trait Vectors: Copy + Send {
    /// XORs eight consecutive blocks for each task, which names the first of them.
    ///
    /// # Safety
    /// As [`runs::xor_runs`]; the runs have these blocks.
    unsafe fn xor_eights(self, runs: &[Run], tasks: &[Task]);

    /// XORs one block for each task.
    ///
    /// # Safety
    /// As [`runs::xor_runs`]; the runs have these blocks.
    unsafe fn xor_singles(self, runs: &[Run], tasks: &[Task]);

    /// The tags of any number of messages, handed to `put` with the messages' numbers. Messages of much the same length
    /// should be neighbours: up to sixteen go together.
    ///
    /// # Safety
    /// Headers can be read for 48 bytes, messages for all their blocks. Of the sixteen messages that begin at a
    /// multiple of sixteen, every one's head can be read for as many blocks as the longest has, up to `HEAD_BLOCKS`,
    /// and every one's tail, from three blocks before block `HEAD_BLOCKS` on, for as many. A message is at least three
    /// blocks long.
    unsafe fn tags(self, messages: &[Message], put: impl FnMut(usize, [u8; 16]));

    /// BLAKE2b with digests of `DIGEST` bytes, 32 or 64, of any number of messages of one length, handed to `put` with
    /// the messages' numbers.
    ///
    /// # Safety
    /// All messages can be read for `len` bytes, a positive multiple of 128.
    unsafe fn hash<const DIGEST: usize>(
        self,
        messages: &[*const u8],
        len: usize,
        put: impl FnMut(usize, [u8; DIGEST]),
    );

    /// Executes an instruction on [`interpreter::LANES`] lanes.
    ///
    /// # Safety
    /// All operands that the opcode takes must be readable, and all results that it gives writable and aligned to 64
    /// bytes, for a row each. Results must not overlap operands.
    unsafe fn execute(self, compute: &Compute, operands: Operands);
}

/// Asks for the cache line at an address, which need not be a valid one.
#[inline]
pub(crate) fn prefetch(line: *const u8) {
    // SAFETY: a prefetch never faults, whatever the address; every x86-64 processor has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}
