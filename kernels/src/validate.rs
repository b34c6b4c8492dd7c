//! The validator and its result codes (spec §10).

use std::collections::HashMap;

use crate::announcement::MERKLE_DEPTH;
use crate::item::{Item, TableProgram};
use crate::merkle::root_of_branch;
use crate::portable::{Interpreter, State, hash_soft_nonce, make_item};
use crate::primitives::b64;
use crate::program::InvalidProgram;
use crate::round::{ann_hash0_of, ann_hash1_of, apply_mask, first_half, table2_seed};
use crate::{Announcement, Hash32, Hash64, Winner, WorkBits};

/// Why a validator refuses an announcement. The order is that in which failures are looked for, apart from
/// invalid work bits, which are [`Invalid::InsufficientWork`] before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Invalid {
    /// Code 4: the soft nonce is above the maximum of the work bits.
    #[error("SOFT_NONCE_HIGH")]
    SoftNonceHigh,
    /// Code 2: the item prefix is not zero after unmasking.
    #[error("INVAL_ITEM4")]
    Item4Prefix,
    /// Code 1: the item is not in the tree, or a program is invalid.
    #[error("INVAL")]
    Inval,
    /// Code 3: the hash does not meet the work bits, or nothing ever could.
    #[error("INSUF_POW")]
    InsufficientWork,
}

impl Invalid {
    /// The validator's result code; 0 stands for a valid announcement.
    pub fn code(self) -> u8 {
        match self {
            Self::Inval => 1,
            Self::Item4Prefix => 2,
            Self::InsufficientWork => 3,
            Self::SoftNonceHigh => 4,
        }
    }
}

/// The validator's result code of a verdict: 0 for a valid announcement, else the failure's (spec §10).
pub fn result_code(verdict: Result<(), Invalid>) -> u8 {
    verdict.map_or_else(Invalid::code, |()| 0)
}

/// Tables that a validator remembers: both of four rounds.
const TABLES: usize = 8;

/// Items that a validator remembers of each table.
const ITEMS: usize = 512;

/// Validates announcements, sharing what announcements of one hard nonce have in common.
///
/// It remembers the programs of the last eight tables and up to 512 items of each. That takes 5 MiB at most.
#[derive(Default)]
pub struct Validator {
    /// Most recently used last.
    tables: Vec<RememberedTable>,
    interpreter: Interpreter,
}

impl Validator {
    /// A validator that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Validates one announcement against its parent block's hash (internal order).
    ///
    /// # Errors
    /// The first failure in the validator's order (spec §10).
    pub fn validate(&mut self, announcement: &Announcement, parent_hash: &Hash32) -> Result<(), Invalid> {
        let work_bits = WorkBits::new(announcement.work_bits()).map_err(|_| Invalid::InsufficientWork)?;
        if announcement.soft_nonce() > work_bits.soft_nonce_max() {
            return Err(Invalid::SoftNonceHigh);
        }
        let header = announcement.header_bytes();
        let root = announcement.merkle_root();
        let ann_hash0 = ann_hash0_of(&header, parent_hash);

        let winner =
            self.hash(announcement, &ann_hash1_of(&header, &root), &table2_seed(&root, &ann_hash0))?;
        let branch = unmask_branch(announcement, &winner).ok_or(Invalid::Item4Prefix)?;
        let leaf = b64(&[&self.item(&ann_hash0, winner.item)?.0]);
        if root_of_branch(winner.item, leaf, &branch) != root {
            return Err(Invalid::Inval);
        }
        if !work_bits.is_met_by(&winner.hash()) {
            return Err(Invalid::InsufficientWork);
        }
        Ok(())
    }

    /// Hashes the announcement's soft nonce, whether or not it wins (spec §8, step 5).
    fn hash(
        &mut self,
        announcement: &Announcement,
        ann_hash1: &Hash64,
        table2_seed: &Hash64,
    ) -> Result<Winner, Invalid> {
        let mut state = State::init(first_half(ann_hash1));
        state.set_number(announcement.soft_nonce().into());
        let (_, item) = hash_soft_nonce(&mut state, |number, out| {
            out.copy_from_slice(&self.item(table2_seed, number)?.0);
            Ok(())
        })?;
        Ok(Winner::new(announcement.soft_nonce(), item, &state.0))
    }

    /// An item of the table that belongs to `seed`.
    fn item(&mut self, seed: &Hash64, number: u32) -> Result<Item, Invalid> {
        match self.tables.iter().position(|table| table.seed == *seed) {
            Some(at) => self.tables[at..].rotate_left(1),
            None => {
                if self.tables.len() == TABLES {
                    self.tables.remove(0);
                }
                self.tables.push(RememberedTable::new(seed));
            }
        }
        let table = self.tables.last_mut().expect("the table was just moved or pushed there");
        table.item(number, &mut self.interpreter)
    }
}

struct RememberedTable {
    seed: Hash64,
    program: Result<TableProgram, InvalidProgram>,
    items: HashMap<u32, Item>,
}

impl RememberedTable {
    fn new(seed: &Hash64) -> Self {
        Self { seed: *seed, program: TableProgram::new(seed), items: HashMap::new() }
    }

    fn item(&mut self, number: u32, interpreter: &mut Interpreter) -> Result<Item, Invalid> {
        if let Some(item) = self.items.get(&number) {
            return Ok(*item);
        }
        let program = self.program.as_ref().map_err(|_| Invalid::Inval)?;
        let item = make_item(interpreter, program, number).map_err(|_| Invalid::Inval)?;
        if self.items.len() < ITEMS {
            self.items.insert(number, item);
        }
        Ok(item)
    }
}

/// The Merkle branch in the clear; nothing if the item prefix does not come out as zeros.
fn unmask_branch(announcement: &Announcement, winner: &Winner) -> Option<[Hash64; MERKLE_DEPTH]> {
    let mut bytes = *announcement.as_bytes();
    apply_mask(&mut bytes, &winner.mask);
    if bytes[984..] != [0; 40] {
        return None;
    }
    let (hashes, _) = bytes[88..920].as_chunks();
    Some(std::array::from_fn(|depth| hashes[depth]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validator_remembers_no_more_than_it_says() {
        let mut validator = Validator::new();
        for table in 0..TABLES as u8 + 3 {
            for number in 0..2 {
                validator.item(&[table; 64], number).expect("a valid program");
            }
        }
        let first = validator.item(&[3; 64], 0);
        assert_eq!(validator.tables.len(), TABLES);
        assert_eq!(validator.tables[TABLES - 1].seed, [3; 64], "what was used last is kept longest");
        for number in 0..ITEMS as u32 + 50 {
            validator.item(&[3; 64], number).expect("a valid program");
        }
        assert_eq!(validator.tables[TABLES - 1].items.len(), ITEMS);
        assert_eq!(Validator::new().item(&[3; 64], 0), first);
    }
}
