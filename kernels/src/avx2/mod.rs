//! The kernel for processors with AVX2.
//!
//! [`Avx2`] can only exist where the processor has it; everything in this folder is reached through its safe methods.
//! Everything works across messages or states, one to a lane, wherever there are enough of them.

#![allow(
    unsafe_code,
    reason = "vector instructions on raw memory, behind a type that has checked the processor"
)]

/// The lines of one instruction, or of a few, for each of some registers: assembly of a step that is done side by side.
macro_rules! each {
    ($line:ident $($x:tt)+) => { concat!($($line!($x)),+) };
}

mod blake2b;
mod chacha;
mod expand;
mod interpreter;
mod items;
mod lanes;
mod ops;
mod pages;
mod passes;
mod plan;
mod poly1305;
mod search;

pub(crate) use pages::TableMemory;
pub use passes::Avx2Passes;

/// Proof that this processor has AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, if it holds.
    pub fn new() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}
