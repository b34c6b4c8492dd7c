//! The PacketCrypt announcement algorithm on the CPU.
//!
//! No I/O, no threads, no clock, no randomness, no environment: what a function returns depends on its
//! arguments alone. Section numbers (`spec §7`) are those of the announcement specification.
//!
//! The portable code is the definition; every faster kernel, here or on a GPU, is compared with it bit by bit.
//!
//! | module | what it holds | spec |
//! |---|---|---|
//! | [`primitives`] | BLAKE2b, ChaCha20 expansion | §1 |
//! | [`announcement`] | the 1024 bytes, header fields, announcement hash | §3, §9 |
//! | [`work`] | work bits, targets, difficulty, ageing | §8, §11 |
//! | [`program`] | RandGen, checked and decoded programs | §4, §5 |
//! | [`item`] | items, tables, what a table is made from | §8 |
//! | [`portable`] | the passes, written plainly: run programs, crypt, items, search | §5 to §8 |
//! | `vector` | the passes for x86-64 processors with AVX2 at least | §5 to §8 |
//! | `avx2`, `avx512` | their instructions: ChaCha20, Poly1305, BLAKE2b, opcodes | §1, §5 |
//! | [`kernel`] | which kernels there are, and the passes that each one provides | §8 |
//! | [`search`] | what a search keeps of a soft nonce from round to round | §8 |
//! | [`merkle`] | tree and branch | §8 |
//! | [`round`] | what ties the passes of a hard nonce together | §8, §9 |
//! | [`validate`] | the validator and its result codes | §10 |

pub mod announcement;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod item;
pub mod kernel;
pub mod merkle;
pub mod portable;
pub mod primitives;
pub mod program;
pub mod round;
pub mod search;
pub mod validate;
#[cfg(target_arch = "x86_64")]
mod vector;
pub mod work;

pub use announcement::{Announcement, Header};
pub use item::{Columns, Item, Table, TableProgram};
pub use kernel::{Kernel, Passes, Winner};
pub use merkle::MerkleTree;
pub use program::{InvalidProgram, Program};
pub use search::SearchState;
pub use validate::{Invalid, Validator};
pub use work::{Target, WorkBits};

/// A 32-byte hash. Block hashes are in internal order, the byte reverse of how they are shown (spec §8).
pub type Hash32 = [u8; 32];

/// A 64-byte hash.
pub type Hash64 = [u8; 64];
