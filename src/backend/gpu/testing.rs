//! A device for tests, which the processor plays: it keeps to the same interface and can be made to fail.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kernels::{
    Hash64, Item, Kernel, MerkleTree, Passes, Table, TableProgram, Winner, program::MEMORY_PERIOD,
    round::build_announcement,
};

use super::{
    adapters::Kind,
    batch::{Finished, Outcome, Rows, SearchInput, Slice, Submission, TableCost, Work},
    context::GpuError,
    driver::{Device, Opener},
    passes::search::Output,
    plan::{Limits, Plan},
};

impl TableCost for TableProgram {
    fn table_cost(&self) -> u64 {
        self.program().static_cost()
    }

    fn reads_word0(&self) -> bool {
        self.program().reads_word0()
    }
}

/// What goes wrong, and what has happened.
#[derive(Debug, Default)]
pub struct Faults {
    /// Submissions until one fails in this way.
    pub next: Option<(u32, Fault)>,
    /// The most rounds that there is memory for.
    pub memory: Option<u32>,
    /// How often it was opened.
    pub opened: u32,
    /// What every plan is.
    pub slots: u32,
}

/// How a device fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It says that it was lost.
    Lost,
    /// Waiting for it panics, as wgpu does when a device is lost.
    Panic,
    /// A bit of every announcement is wrong from here on.
    WrongBit,
    /// What it answers cannot be.
    Nonsense,
    /// It gives up the next search without a word: what comes back is what the last one found.
    Stale,
}

/// Opens [`FakeDevice`]s.
pub struct FakeOpener(pub Arc<Mutex<Faults>>);

/// A device that the processor plays.
pub struct FakeDevice {
    faults: Arc<Mutex<Faults>>,
    passes: Box<dyn Passes>,
    slots: BTreeMap<(u32, u32), FakeSlot>,
    queue: VecDeque<Finished>,
    wrong_bit: bool,
    panics: bool,
    stale: bool,
    /// What was found last.
    last: Vec<Output>,
}

#[derive(Default)]
struct FakeSlot {
    program: Option<Arc<TableProgram>>,
    table: Table,
    tree: MerkleTree,
    input: Option<SearchInput>,
}

pub fn lock(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Opener for FakeOpener {
    type Device = FakeDevice;

    fn name(&self) -> &str {
        "a fake"
    }

    fn plan(&self) -> Result<Plan, GpuError> {
        let limits = Limits { kind: Kind::Software, binding: 1 << 31, buffer: 1 << 31 };
        Ok(Plan { slots: lock(&self.0).slots, ..Plan::new(limits, None).expect("a plan") })
    }

    fn open(&mut self, plan: Plan) -> Result<FakeDevice, GpuError> {
        let mut faults = lock(&self.0);
        faults.opened += 1;
        if faults.memory.is_some_and(|memory| plan.slots > memory) {
            let (adapter, reason) = ("a fake".into(), "full".into());
            return Err(GpuError::OutOfMemory { adapter, rounds: plan.slots, reason });
        }
        Ok(FakeDevice {
            faults: self.0.clone(),
            passes: Kernel::detect().passes(),
            slots: BTreeMap::new(),
            queue: VecDeque::new(),
            wrong_bit: false,
            panics: false,
            stale: false,
            last: Vec::new(),
        })
    }
}

impl Device for FakeDevice {
    type Program = TableProgram;

    fn lower(program: &TableProgram) -> Result<TableProgram, String> {
        Ok(program.clone())
    }

    fn submit(&mut self, submission: Submission<TableProgram>) -> Result<(), GpuError> {
        let Submission { id, place, work } = submission;
        let mut outcome = self.run(place, work);
        match self.fault() {
            Some(Fault::Lost) => {
                return Err(GpuError::Lost { adapter: "a fake".into(), reason: "somebody pulled it".into() });
            }
            Some(Fault::Panic) => self.panics = true,
            Some(Fault::WrongBit) => self.wrong_bit = true,
            Some(Fault::Nonsense) => outcome = Outcome::Winners { count: u32::MAX, rows: Rows::new([]) },
            Some(Fault::Stale) => self.stale = true,
            None => {}
        }
        self.queue.push_back(Finished { id, elapsed: Duration::from_millis(1), outcome });
        Ok(())
    }

    fn wait(&mut self, _: Duration) -> Result<Option<Finished>, GpuError> {
        assert!(!self.panics, "the device was lost");
        Ok(self.queue.pop_front())
    }
}

impl FakeDevice {
    /// The fault whose turn it is.
    fn fault(&self) -> Option<Fault> {
        let next = &mut lock(&self.faults).next;
        let (left, fault) = next.as_mut()?;
        *left -= 1;
        let fault = (*left == 0).then_some(*fault);
        if fault.is_some() {
            *next = None;
        }
        fault
    }

    fn run(&mut self, place: u32, work: Work<TableProgram>) -> Outcome {
        match work {
            Work::Items { uploads, units } => {
                for (slot, program) in uploads {
                    self.slots.entry((place, slot)).or_default().program = Some(program);
                }
                for unit in units {
                    let slot = self.slots.get_mut(&(place, unit.slot)).expect("a program was uploaded");
                    let program = slot.program.as_ref().expect("a program was uploaded");
                    let columns = unit.first..unit.first + unit.count;
                    let copies = |column| (0..unit.copies).map(move |copy| column + copy * MEMORY_PERIOD);
                    let numbers: Vec<u32> = columns.flat_map(copies).filter(|item| *item < 8192).collect();
                    let mut items = vec![Item::ZERO; numbers.len()];
                    self.passes.make_items_at(program, &numbers, &mut items);
                    for (number, item) in numbers.into_iter().zip(items) {
                        slot.table[number as usize] = item;
                    }
                }
                Outcome::Items
            }
            Work::Trees { slots } => {
                Outcome::Roots(slots.iter().map(|slot| self.root((place, *slot))).collect())
            }
            Work::Search { uploads, slices, limit } => {
                for (slot, input) in uploads {
                    self.slots.get_mut(&(place, slot)).expect("a table").input = Some(input);
                }
                let mut rows: Vec<_> = slices.iter().flat_map(|slice| self.search(place, *slice)).collect();
                if std::mem::take(&mut self.stale) {
                    rows = self.last.clone();
                }
                self.last = rows.clone();
                let count = rows.len() as u32;
                rows.truncate(limit as usize);
                Outcome::Winners { count, rows: Rows::new(rows) }
            }
        }
    }

    fn root(&mut self, key: (u32, u32)) -> Hash64 {
        let slot = self.slots.get_mut(&key).expect("a table");
        for (leaf, item) in slot.tree.leaves_mut().iter_mut().zip(slot.table.iter()) {
            *leaf = kernels::primitives::b64(&[&item.0]);
        }
        slot.tree.build(&mut *self.passes);
        *slot.tree.root()
    }

    fn search(&mut self, place: u32, slice: Slice) -> Vec<Output> {
        let slot = &self.slots[&(place, slice.slot)];
        let SearchInput { header, ann_hash1 } = slot.input.as_ref().expect("a search was uploaded");
        let mut winners = Vec::new();
        let nonces = slice.first..slice.first + slice.count;
        self.passes.search(&slot.table, ann_hash1, &header.work_bits.target(), nonces, &mut winners);
        let row = |winner: &Winner| {
            let mut announcement = build_announcement(header, &slot.tree, winner);
            announcement.as_bytes_mut()[500] ^= u8::from(self.wrong_bit);
            Output::new(slice.slot, &announcement, announcement.hash(), winner.item)
        };
        winners.iter().map(row).collect()
    }
}
