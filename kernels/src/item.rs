//! Items, tables, and what a table is made from (spec §8).

use crate::portable::State;
use crate::program::{InvalidProgram, Program};
use crate::{Hash32, Hash64};

/// Items of a table.
pub const TABLE_ITEMS: usize = 8192;

/// An item of a table: 1024 bytes, aligned to a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Item(pub [u8; Self::LEN]);

impl Item {
    /// Length in bytes.
    pub const LEN: usize = 1024;

    /// What a new table is filled with.
    pub const ZERO: Self = Self([0; Self::LEN]);
}

/// A table: 8192 items, 8 MiB, in one piece on the heap.
pub struct Table(Box<[Item]>);

impl Table {
    /// A table of zeros.
    pub fn new() -> Self {
        Self(vec![Item::ZERO; TABLE_ITEMS].into_boxed_slice())
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl std::ops::Deref for Table {
    type Target = [Item];

    fn deref(&self) -> &[Item] {
        &self.0
    }
}

impl std::ops::DerefMut for Table {
    fn deref_mut(&mut self) -> &mut [Item] {
        &mut self.0
    }
}

/// What all items of a table share: the program, and the state that it starts from.
#[derive(Clone, Debug)]
pub struct TableProgram {
    program: Program,
    item_seed: Hash32,
    initial_state: State,
}

impl TableProgram {
    /// `TABLE(seed)`: the program of the seed's first half, items of its second half.
    ///
    /// # Errors
    /// If the seed's program is invalid; then the hard nonce is unusable.
    pub fn new(seed: &Hash64) -> Result<Self, InvalidProgram> {
        let (program_seed, item_seed) = crate::round::halves(seed);
        Ok(Self::from_parts(Program::generate(program_seed)?, *item_seed))
    }

    /// A table of a program that is at hand already.
    pub fn from_parts(program: Program, item_seed: Hash32) -> Self {
        Self { program, item_seed, initial_state: State::init(&item_seed) }
    }

    /// The program that every item is made by.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The seed of the items' initial state.
    pub fn item_seed(&self) -> &Hash32 {
        &self.item_seed
    }

    /// `INIT(item_seed, 0)`; for item i the first 8 bytes are `u64(i)`.
    pub fn initial_state(&self) -> &State {
        &self.initial_state
    }

    /// Whether the [`Passes`](crate::Passes) make items of it: see [`Program::is_bounded`]. Every program seen so
    /// far is; of one that is not, take another hard nonce.
    pub fn is_bounded(&self) -> bool {
        self.program.is_bounded()
    }
}
