//! Items, tables, and what a table is made from (spec §8).

use std::ops::Range;

use crate::portable::State;
use crate::program::{InvalidProgram, MEMORY_PERIOD, Program};
#[cfg(target_arch = "x86_64")]
use crate::vector::TableMemory;
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
pub struct Table(TableMemory);

impl Table {
    /// A table of zeros.
    pub fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        let memory = TableMemory::zeroed();
        #[cfg(not(target_arch = "x86_64"))]
        let memory = vec![Item::ZERO; TABLE_ITEMS].into_boxed_slice();
        Self(memory)
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

/// Memory as it comes.
#[cfg(not(target_arch = "x86_64"))]
type TableMemory = Box<[Item]>;

/// How many items a column has at most; columns from 1024 on have one less.
const COPIES: usize = TABLE_ITEMS.div_ceil(MEMORY_PERIOD as usize);

/// Columns of a table, or of its leaves: column c holds what belongs to the items c, c + 1792, c + 3584 and so on.
///
/// Unless the program reads input word 0 ([`Program::reads_word0`]), the items of a column run alike, so that a kernel
/// that makes whole columns runs 1792 items instead of 8192. A table's columns can be split among threads.
#[derive(Debug)]
pub struct Columns<'a, T> {
    first: u32,
    /// The items below 1792, the next 1792, and so on; only these columns' of each.
    copies: [&'a mut [T]; COPIES],
}

impl<'a, T> Columns<'a, T> {
    /// How many columns a table has.
    pub const COUNT: u32 = MEMORY_PERIOD;

    /// All columns of a table, or of the leaves of a tree.
    ///
    /// # Panics
    /// If there are not 8192.
    pub fn of(values: &'a mut [T]) -> Self {
        assert_eq!(values.len(), TABLE_ITEMS, "a table has {TABLE_ITEMS} items");
        let mut copies = values.chunks_mut(Self::COUNT as usize);
        Self { first: 0, copies: std::array::from_fn(|_| copies.next().unwrap_or_default()) }
    }

    /// Which columns these are.
    pub fn range(&self) -> Range<u32> {
        self.first..self.first + self.copies[0].len() as u32
    }

    /// The first `count` of these columns, and the others. All and none, if there are not more.
    pub fn split_at(self, count: u32) -> (Self, Self) {
        let count = count.min(self.range().len() as u32);
        let mut rest = std::array::from_fn(|_| Default::default());
        let mut copies = self.copies;
        for (copy, rest) in copies.iter_mut().zip(&mut rest) {
            let at = copy.len().min(count as usize);
            (*copy, *rest) = std::mem::take(copy).split_at_mut(at);
        }
        (Self { first: self.first, copies }, Self { first: self.first + count, copies: rest })
    }

    /// These columns, `count` at a time.
    ///
    /// # Panics
    /// If `count` is zero.
    pub fn chunks(self, count: u32) -> impl Iterator<Item = Self> {
        assert!(count > 0, "chunks of no columns");
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let (chunk, others) = rest.take().filter(|rest| !rest.range().is_empty())?.split_at(count);
            rest = Some(others);
            Some(chunk)
        })
    }

    /// The numbers of these columns' items, in order within each column.
    pub fn items(&self) -> impl Iterator<Item = u32> + use<T> {
        let all = 0..TABLE_ITEMS as u32;
        self.range().flat_map(move |column| all.clone().skip(column as usize).step_by(Self::COUNT as usize))
    }

    /// What belongs to item `number`.
    ///
    /// # Panics
    /// If the item is in none of these columns.
    pub fn item_mut(&mut self, number: u32) -> &mut T {
        let (copy, column) = (number / Self::COUNT, number % Self::COUNT);
        assert!(self.range().contains(&column), "item {number} is not in columns {:?}", self.range());
        &mut self.copies[copy as usize][(column - self.first) as usize]
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
        let (program_seed, item_seed) = crate::primitives::halves(seed);
        Ok(Self::from_parts(Program::generate(program_seed)?, *item_seed))
    }

    /// As [`new`](Self::new), but `None` if the program's [`table_cost`](Program::table_cost) is above `price`, found out with a
    /// part of the work: for choosing among many seeds.
    ///
    /// # Errors
    /// As [`new`](Self::new). What is abandoned is not known to be valid.
    pub fn new_at_most(seed: &Hash64, price: u64) -> Result<Option<Self>, InvalidProgram> {
        let (program_seed, item_seed) = crate::primitives::halves(seed);
        let program = Program::generate_at_most(program_seed, price)?;
        Ok(program.map(|program| Self::from_parts(program, *item_seed)))
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
