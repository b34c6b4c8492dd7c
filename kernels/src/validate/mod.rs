//! The validator and its result codes (spec §10).

mod batch;

use std::collections::HashMap;

use batch::{BATCH, Batches};

use crate::announcement::MERKLE_DEPTH;
use crate::item::{Item, TableProgram};
use crate::merkle::root_of_branch;
use crate::portable::{Interpreter, State, hash_soft_nonce, make_item};
use crate::primitives::{b64, first_half};
use crate::program::InvalidProgram;
use crate::round::{ann_hash0_of, ann_hash1_of, apply_mask, table2_seed};
use crate::{Announcement, Hash32, Hash64, Header, Kernel, Winner, WorkBits};

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

/// Announcements of a round, or items of a table, below which one after the other is quicker: a kernel may need as long
/// for a few items as for 64.
const FEW: usize = 7;

/// Validates announcements, sharing what announcements of one hard nonce have in common.
///
/// It remembers the programs of the last eight tables and up to 512 items of each. That takes 5 MiB at most. Batches
/// take 11 MiB more, however long they are, and keep the items of table 2 of the round that came last.
pub struct Validator {
    kernel: Kernel,
    tables: Tables,
    /// What batches need, once there was one.
    batches: Option<Box<Batches>>,
}

impl Validator {
    /// A validator that remembers nothing yet, with the fastest kernel of this processor.
    pub fn new() -> Self {
        Self::with_kernel(Kernel::detect())
    }

    /// A validator that remembers nothing yet, and validates batches with the passes of `kernel`.
    pub fn with_kernel(kernel: Kernel) -> Self {
        Self { kernel, tables: Tables::default(), batches: None }
    }

    /// Validates one announcement against its parent block's hash (internal order). Plain code on every processor: the
    /// definition.
    ///
    /// # Errors
    /// The first failure in the validator's order (spec §10).
    pub fn validate(&mut self, announcement: &Announcement, parent_hash: &Hash32) -> Result<(), Invalid> {
        let work_bits = WorkBits::new(announcement.work_bits()).map_err(|_| Invalid::InsufficientWork)?;
        if announcement.soft_nonce() > work_bits.soft_nonce_max() {
            return Err(Invalid::SoftNonceHigh);
        }
        let round = Round::of(announcement, parent_hash);
        let winner = self.hash(announcement, &round)?;
        let branch = unmask_branch(announcement, &winner).ok_or(Invalid::Item4Prefix)?;
        let leaf = b64(&[&self.tables.item(&round.ann_hash0, winner.item)?.0]);
        if root_of_branch(winner.item, leaf, &branch) != round.root {
            return Err(Invalid::Inval);
        }
        if !work_bits.is_met_by(&winner.hash()) {
            return Err(Invalid::InsufficientWork);
        }
        Ok(())
    }

    /// Validates any number of announcements, each against its parent block's hash (internal order). The verdicts, one
    /// for each in the same order, are those of [`validate`](Self::validate); but announcements of one round, wherever
    /// they stand, are validated together, which takes a fraction of the time when there are many.
    pub fn validate_batch(&mut self, announcements: &[(&Announcement, &Hash32)]) -> Vec<Result<(), Invalid>> {
        let mut verdicts = vec![Ok(()); announcements.len()];
        let mut order: Vec<usize> = (0..announcements.len()).collect();
        order.sort_by_key(|at| round_key(&announcements[*at]));
        let is_same_round =
            |a: &usize, b: &usize| round_key(&announcements[*a]) == round_key(&announcements[*b]);
        for round in order.chunk_by(is_same_round) {
            for group in round.chunks(BATCH) {
                let parent_hash = announcements[group[0]].1;
                let of_round: Vec<&Announcement> = group.iter().map(|at| announcements[*at].0).collect();
                for (at, verdict) in group.iter().zip(self.validate_round(&of_round, parent_hash)) {
                    verdicts[*at] = verdict;
                }
            }
        }
        verdicts
    }

    /// Validates announcements of one round.
    fn validate_round(
        &mut self,
        announcements: &[&Announcement],
        parent_hash: &Hash32,
    ) -> Vec<Result<(), Invalid>> {
        if announcements.len() >= FEW {
            let batches = self.batches.get_or_insert_with(|| Box::new(Batches::new(self.kernel)));
            if let Some(verdicts) = batches.validate(&mut self.tables, announcements, parent_hash) {
                return verdicts;
            }
        }
        announcements.iter().map(|announcement| self.validate(announcement, parent_hash)).collect()
    }

    /// Hashes the announcement's soft nonce, whether or not it wins (spec §8, step 5).
    fn hash(&mut self, announcement: &Announcement, round: &Round) -> Result<Winner, Invalid> {
        let mut state = State::init(first_half(&round.ann_hash1));
        state.set_number(announcement.soft_nonce().into());
        let item = |number| self.tables.item(&round.table2_seed, number);
        let (_, item) = hash_soft_nonce(&mut state, item)?;
        Ok(Winner::new(announcement.soft_nonce(), item, &state.0))
    }
}

impl Default for Validator {
    fn default() -> Self {
        Self::new()
    }
}

/// What follows from what the announcements of a round have in common (spec §8).
struct Round {
    root: Hash64,
    ann_hash0: Hash64,
    ann_hash1: Hash64,
    table2_seed: Hash64,
}

impl Round {
    fn of(announcement: &Announcement, parent_hash: &Hash32) -> Self {
        let header = announcement.header_bytes();
        let root = announcement.merkle_root();
        let ann_hash0 = ann_hash0_of(&header, parent_hash);
        let (ann_hash1, table2_seed) = (ann_hash1_of(&header, &root), table2_seed(&root, &ann_hash0));
        Self { root, ann_hash0, ann_hash1, table2_seed }
    }
}

/// What the announcements of a round have in common: parent, header without the soft nonce, and root.
fn round_key<'a>((announcement, parent_hash): &(&'a Announcement, &'a Hash32)) -> [&'a [u8]; 4] {
    let bytes = announcement.as_bytes();
    [&parent_hash[..], &bytes[..1], &bytes[4..Header::LEN], &bytes[920..984]]
}

/// The tables that were used last.
#[derive(Default)]
struct Tables {
    /// Most recently used last.
    tables: Vec<RememberedTable>,
    interpreter: Interpreter,
}

impl Tables {
    /// The table that belongs to `seed`, and what runs its program.
    fn get(&mut self, seed: &Hash64) -> (&mut RememberedTable, &mut Interpreter) {
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
        (table, &mut self.interpreter)
    }

    /// An item of the table that belongs to `seed`.
    fn item(&mut self, seed: &Hash64, number: u32) -> Result<Item, Invalid> {
        let (table, interpreter) = self.get(seed);
        table.item(number, interpreter)
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

    /// The program, if the passes make items of it.
    fn usable(&self) -> Option<&TableProgram> {
        self.program.as_ref().ok().filter(|program| program.is_bounded())
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
    use crate::program::{BUFFER_WORDS, Program};

    #[test]
    fn a_validator_remembers_no_more_than_it_says() {
        let mut tables = Tables::default();
        for table in 0..TABLES as u8 + 3 {
            for number in 0..2 {
                tables.item(&[table; 64], number).expect("a valid program");
            }
        }
        let first = tables.item(&[3; 64], 0);
        assert_eq!(tables.tables.len(), TABLES);
        assert_eq!(tables.tables[TABLES - 1].seed, [3; 64], "what was used last is kept longest");
        for number in 0..ITEMS as u32 + 50 {
            tables.item(&[3; 64], number).expect("a valid program");
        }
        assert_eq!(tables.tables[TABLES - 1].items.len(), ITEMS);
        assert_eq!(Tables::default().item(&[3; 64], 0), first);
    }

    /// A program of loops in loops, which executes too many instructions.
    fn endless() -> TableProgram {
        let mut buffer = Box::new([0; BUFFER_WORDS]);
        let words = [66 | 300 << 20, 64 | 9 << 20, 66 | 300 << 20, 64 | 9 << 20, 70, 70];
        buffer[..words.len()].copy_from_slice(&words);
        let program = Program::decode(buffer, words.len()).expect("it can be decoded");
        assert!(!program.is_bounded());
        TableProgram::from_parts(program, [3; 32])
    }

    #[test]
    fn a_batch_over_tables_of_no_use_to_the_passes_is_validated_one_at_a_time() {
        let announcement = |soft_nonce| {
            let mut bytes = [0; Announcement::LEN];
            bytes[1] = soft_nonce;
            bytes[8..12].copy_from_slice(&crate::work::EASIEST.to_le_bytes());
            Announcement::from_bytes(bytes)
        };
        let announcements: Vec<Announcement> = (0..9).map(announcement).collect();
        let batch: Vec<_> = announcements.iter().map(|announcement| (announcement, &[5; 32])).collect();
        for kernel in Kernel::available() {
            for program in [Ok(endless()), Err(InvalidProgram::TooBig)] {
                let mut validator = Validator::with_kernel(kernel);
                let seed = Round::of(&announcements[0], &[5; 32]).table2_seed;
                let table = RememberedTable { seed, program, items: HashMap::new() };
                validator.tables.tables.push(table);
                assert_eq!(validator.validate_batch(&batch), [Err(Invalid::Inval); 9]);
            }
        }
    }

    #[test]
    fn a_batch_takes_no_more_memory_the_longer_it_is() {
        let mut bytes = [0; Announcement::LEN];
        bytes[8..12].copy_from_slice(&crate::work::EASIEST.to_le_bytes());
        let announcement = Announcement::from_bytes(bytes);
        let mut validator = Validator::new();
        let verdicts = validator.validate_batch(&vec![(&announcement, &[0; 32]); 2 * BATCH + 100]);
        assert_eq!(verdicts, [Err(Invalid::Item4Prefix); 2 * BATCH + 100]);
        assert_eq!(validator.batches.map(|batches| batches.states()), Some(BATCH));
    }
}
