//! Validates many announcements of one round at once: items, hashes and branches by a kernel's passes.

use super::{FEW, Invalid, Round, Tables, unmask_branch};
use crate::announcement::MERKLE_DEPTH;
use crate::item::{Item, TABLE_ITEMS, Table, TableProgram};
use crate::portable::{Interpreter, make_item};
use crate::primitives::b64;
use crate::search::{ROUNDS, SearchState};
use crate::{Announcement, Hash32, Hash64, Kernel, Passes, WorkBits};

/// Announcements that are validated at a time at most.
pub(super) const BATCH: usize = 512;

/// A kernel's passes and the memory that batches need: up to 11 MiB, of which the table is 8.
pub(super) struct Batches {
    passes: Box<dyn Passes>,
    table2: PartialTable,
    states: Vec<SearchState>,
}

/// What the announcement's Merkle branch is checked with.
struct Proof {
    /// Of the announcement.
    index: usize,
    hash: Hash32,
    item: u32,
    branch: [Hash64; MERKLE_DEPTH],
}

impl Batches {
    pub fn new(kernel: Kernel) -> Self {
        Self { passes: kernel.passes(), table2: PartialTable::new(), states: Vec::new() }
    }

    /// Validates announcements, at least one, that have header, root and parent in common: the same verdicts as
    /// [`Validator::validate`](super::Validator::validate) gives. None at all if the passes do not make the items of
    /// one of the tables.
    pub fn validate(
        &mut self,
        tables: &mut Tables,
        announcements: &[&Announcement],
        parent_hash: &Hash32,
    ) -> Option<Vec<Result<(), Invalid>>> {
        let Ok(work_bits) = WorkBits::new(announcements[0].work_bits()) else {
            return Some(vec![Err(Invalid::InsufficientWork); announcements.len()]);
        };
        let is_low = |announcement: &Announcement| announcement.soft_nonce() <= work_bits.soft_nonce_max();
        let mut verdicts = vec![Err(Invalid::SoftNonceHigh); announcements.len()];
        let low: Vec<usize> = (0..announcements.len()).filter(|i| is_low(announcements[*i])).collect();
        if low.is_empty() {
            return Some(verdicts);
        }

        let round = Round::of(announcements[0], parent_hash);
        let soft_nonces: Vec<u32> = low.iter().map(|i| announcements[*i].soft_nonce()).collect();
        let mut proofs = Vec::with_capacity(low.len());
        for (index, state) in low.into_iter().zip(self.hash(tables, &round, &soft_nonces)?) {
            let winner = state.winner();
            verdicts[index] = Err(Invalid::Item4Prefix);
            if let Some(branch) = unmask_branch(announcements[index], &winner) {
                proofs.push(Proof { index, hash: winner.hash(), item: winner.item, branch });
            }
        }

        let target = work_bits.target();
        for (proof, root) in proofs.iter().zip(self.roots(tables, &round.ann_hash0, &proofs)?) {
            verdicts[proof.index] = if root != round.root {
                Err(Invalid::Inval)
            } else if !target.is_met_by(&proof.hash) {
                Err(Invalid::InsufficientWork)
            } else {
                Ok(())
            };
        }
        Some(verdicts)
    }

    /// How many states there is memory for.
    #[cfg(test)]
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// The hashed states of soft nonces over table 2 (spec §8, step 5).
    fn hash(&mut self, tables: &mut Tables, round: &Round, soft_nonces: &[u32]) -> Option<&[SearchState]> {
        let (table, interpreter) = tables.get(&round.table2_seed);
        let program = table.usable()?;
        self.table2.change_to(&round.table2_seed);
        if self.states.len() < soft_nonces.len() {
            self.states.resize_with(soft_nonces.len(), SearchState::new);
        }
        let states = &mut self.states[..soft_nonces.len()];

        self.passes.init_states(&round.ann_hash1, soft_nonces, states);
        for _ in 0..ROUNDS {
            let missing = self.table2.missing(states);
            let items = make_items(&mut *self.passes, interpreter, program, &missing);
            self.table2.put(&missing, &items);
            self.passes.advance_states(&self.table2.items, states);
        }
        self.passes.hash_states(states);
        Some(states)
    }

    /// The roots that the branches lead to from the leaves of the items of the table that belongs to `seed`.
    fn roots(&mut self, tables: &mut Tables, seed: &Hash64, proofs: &[Proof]) -> Option<Vec<Hash64>> {
        if proofs.is_empty() {
            return Some(Vec::new());
        }
        let (table, interpreter) = tables.get(seed);
        let program = table.usable()?;
        let numbers: Vec<u32> = proofs.iter().map(|proof| proof.item).collect();
        let mut nodes = vec![[0; 64]; proofs.len()];
        if numbers.len() < FEW {
            let items = make_items(&mut *self.passes, interpreter, program, &numbers);
            nodes = items.iter().map(|item| b64(&[&item.0])).collect();
        } else {
            self.passes.hash_items_at(program, &numbers, &mut nodes);
        }

        let mut children = Vec::with_capacity(2 * proofs.len());
        for depth in 0..MERKLE_DEPTH {
            children.clear();
            children.extend(proofs.iter().zip(&nodes).flat_map(|(proof, node)| {
                let sibling = proof.branch[depth];
                if proof.item >> depth & 1 == 0 { [*node, sibling] } else { [sibling, *node] }
            }));
            self.passes.hash_pairs(&children, &mut nodes);
        }
        Some(nodes)
    }
}

fn make_items(
    passes: &mut dyn Passes,
    interpreter: &mut Interpreter,
    program: &TableProgram,
    numbers: &[u32],
) -> Vec<Item> {
    if numbers.len() < FEW {
        let make = |number: &u32| make_item(interpreter, program, *number);
        return numbers
            .iter()
            .map(make)
            .collect::<Result<_, _>>()
            .expect("a bounded program runs to its end");
    }
    let mut items = vec![Item::ZERO; numbers.len()];
    passes.make_items_at(program, numbers, &mut items);
    items
}

/// A table of which only some items are there. It keeps them for as long as the batches are of the same round.
struct PartialTable {
    seed: Hash64,
    items: Table,
    is_there: Vec<bool>,
}

impl PartialTable {
    fn new() -> Self {
        Self { seed: [0; 64], items: Table::new(), is_there: vec![false; TABLE_ITEMS] }
    }

    /// Makes it the table that belongs to `seed`, if it is not yet.
    fn change_to(&mut self, seed: &Hash64) {
        if self.seed != *seed {
            self.seed = *seed;
            self.is_there.fill(false);
        }
    }

    /// Which of the items that `states` read next are not there, each once.
    fn missing(&self, states: &[SearchState]) -> Vec<u32> {
        let mut missing: Vec<u32> = states.iter().map(SearchState::next_item).collect();
        missing.retain(|number| !self.is_there[*number as usize]);
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    fn put(&mut self, numbers: &[u32], items: &[Item]) {
        for (number, item) in numbers.iter().zip(items) {
            self.items[*number as usize] = *item;
            self.is_there[*number as usize] = true;
        }
    }
}
