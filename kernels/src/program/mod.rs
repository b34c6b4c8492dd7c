//! Random programs: made from a seed, checked, and decoded into the form that every interpreter runs
//! (spec §4, §5).

mod decode;
mod instruction;
mod randgen;

pub use instruction::{Closes, Condition, Instruction, Kind, Op, Operand};

use crate::Hash32;
use crate::item::TABLE_ITEMS;

/// Words of a program buffer, and the most instructions that a program can have.
pub const BUFFER_WORDS: usize = 2048;

/// An item that executes this many instructions in a cycle makes its program invalid (spec §6).
pub const INSTRUCTION_LIMIT: u32 = 20_001;

/// Words of the program buffer that an item sees as its memory (spec §6).
pub const MEMORY_WORDS: usize = 256;

/// Items whose numbers are equal modulo this see the same memory (spec §6).
pub const MEMORY_PERIOD: u32 = 1792;

/// A program that has been checked: running it neither fails nor reads outside of its registers.
///
/// Registers are numbered without the specification's scope markers, so that a scope's variables are consecutive
/// *slots* and a slot is the variable's index in a plain array.
#[derive(Clone, Debug)]
pub struct Program {
    buffer: Box<[u32; BUFFER_WORDS]>,
    len: usize,
    instructions: Vec<Instruction>,
    max_registers: usize,
    max_loop_depth: usize,
    instruction_bound: u64,
    static_cost: u64,
    reads_word0: bool,
}

/// Why a seed or a buffer gives no program that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProgram {
    /// RandGen emitted more than 2048 instructions (spec §4).
    #[error("the program has more than 2048 instructions; take another hard nonce")]
    TooBig,
    /// An instruction makes no sense where it stands. RandGen never emits such a program.
    #[error("instruction {at} of the program {fault}; take another hard nonce")]
    Malformed {
        /// Index of the instruction word.
        at: usize,
        /// What is wrong with it.
        fault: Fault,
    },
    /// An item reaches [`INSTRUCTION_LIMIT`] (spec §6), or might: see [`Program::is_bounded`].
    #[error("an item may execute more than 20000 instructions of the program; take another hard nonce")]
    TooLong,
}

/// What is wrong with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The opcode is 0 or above 70.
    #[error("has an unknown opcode")]
    Opcode,
    /// An operand is above the stack, a scope marker, or a pair whose lower half is one.
    #[error("has an operand that is no register")]
    Operand,
    /// A program starts with LOOP.
    #[error("should be the LOOP that the program starts with")]
    NoLoop,
    /// A loop count is 2 to 2047.
    #[error("has a loop count outside 2 to 2047")]
    LoopCount,
    /// A branch is `IF, JMP, body, END, JMP, body, END` and its jumps lead past the bodies, or the JMP stands alone.
    #[error("breaks the structure of a branch")]
    Branch,
    /// The program ends before its first loop does.
    #[error("is missing: the program's loop is not closed")]
    Unclosed,
    /// The program goes on after its first loop.
    #[error("comes after the end of the program's loop")]
    Trailing,
}

impl Program {
    /// `RANDGEN(seed)` (spec §4).
    ///
    /// # Errors
    /// [`InvalidProgram::TooBig`]; no seed is known that gives one.
    pub fn generate(seed: &Hash32) -> Result<Self, InvalidProgram> {
        Self::generate_at_most(seed, u64::MAX).map(|program| program.expect("no program costs more"))
    }

    /// As [`generate`](Self::generate), but `None` if the program's [`table_cost`](Self::table_cost) is above `price`, found out
    /// with a part of the work.
    ///
    /// # Errors
    /// As [`generate`](Self::generate). What is abandoned is not known to be valid.
    pub fn generate_at_most(seed: &Hash32, price: u64) -> Result<Option<Self>, InvalidProgram> {
        let Some((buffer, len)) = randgen::generate(seed, price)? else {
            return Ok(None);
        };
        Self::decode(buffer, len).map(Some)
    }

    /// Checks and decodes the first `len` words of `buffer`, whatever they are; the rest is memory.
    ///
    /// # Errors
    /// The first fault that is found, with its place.
    pub fn decode(buffer: Box<[u32; BUFFER_WORDS]>, len: usize) -> Result<Self, InvalidProgram> {
        decode::decode(buffer, len)
    }

    /// The instructions in order; index 0 is the program's loop. Branch targets are indices into this list.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The program buffer: the instructions' words, then what the seed expanded to.
    pub fn memory(&self) -> &[u32; BUFFER_WORDS] {
        &self.buffer
    }

    /// The 256 words that MEMORY instructions of item `item` read.
    pub fn memory_of(&self, item: u32) -> &[u32; MEMORY_WORDS] {
        let start = (item % MEMORY_PERIOD) as usize;
        self.buffer[start..].first_chunk().expect("1791 + 256 words are inside the buffer")
    }

    /// The instruction words, as RandGen emits them.
    pub fn words(&self) -> &[u32] {
        &self.buffer[..self.len]
    }

    /// How many register slots a run needs. At most 8188; 228 is the most ever seen of a generated program.
    pub fn max_registers(&self) -> usize {
        self.max_registers
    }

    /// How many loops are inside each other at most.
    pub fn max_loop_depth(&self) -> usize {
        self.max_loop_depth
    }

    /// No cycle of any item executes more instructions than this (spec §6). Stops at `u64::MAX`.
    pub fn instruction_bound(&self) -> u64 {
        self.instruction_bound
    }

    /// Whether no item can reach [`INSTRUCTION_LIMIT`], so that nothing needs to be counted while running.
    pub fn is_bounded(&self) -> bool {
        self.instruction_bound < u64::from(INSTRUCTION_LIMIT)
    }

    /// Instructions × loop counts, both bodies of every branch, and a unit for every word that an END puts out: what a
    /// lane-parallel kernel has to do for a cycle, up to a factor. Stops at `u64::MAX`.
    pub fn static_cost(&self) -> u64 {
        self.static_cost
    }

    /// What a table of the program costs: [`static_cost`](Self::static_cost) for each of the [`MEMORY_PERIOD`] items that are
    /// run, times as much more as more of them are run because the program [reads word 0](Self::reads_word0). Stops at
    /// `u64::MAX`.
    pub fn table_cost(&self) -> u64 {
        table_cost(self.static_cost, self.reads_word0)
    }

    /// Whether the program reads input word 0, the one word that holds the item's number: if not, items that are
    /// equal modulo [`MEMORY_PERIOD`] run alike.
    pub fn reads_word0(&self) -> bool {
        self.reads_word0
    }
}

/// See [`Program::table_cost`].
fn table_cost(static_cost: u64, reads_word0: bool) -> u64 {
    if reads_word0 {
        let items = static_cost.checked_mul(TABLE_ITEMS as u64);
        items.map_or(u64::MAX, |items| items / u64::from(MEMORY_PERIOD))
    } else {
        static_cost
    }
}
