//! A device for tests, which the processor plays: it keeps to the same interface and can be made to fail.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
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
    recovery::Attempt,
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
    /// How often the driver gives no device before it gives one.
    pub refusals: u32,
    /// So many of the first variants compute wrongly.
    pub wrong_variants: usize,
    /// The driver does not come back from opening a device, as long as this is set.
    pub stuck_opening: bool,
    /// The same of letting go of one.
    pub stuck_dropping: bool,
    /// How it was opened each time.
    pub attempts: Vec<Attempt>,
    /// Devices that the driver has not let go of.
    pub alive: u32,
    /// What every plan is.
    pub slots: u32,
}

impl Faults {
    /// How often it was opened.
    pub fn opened(&self) -> usize {
        self.attempts.len()
    }
}

/// How a device fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It says that it was lost.
    Lost,
    /// It says that it was lost, since there was no memory left.
    Full,
    /// Waiting for it panics, as wgpu does when a device is lost.
    Panic,
    /// It never answers any more.
    Silence,
    /// What it answers cannot be.
    Nonsense,
    /// It gives up the next search without a word: what comes back is what the last one found.
    Stale,
}

/// Opens [`FakeDevice`]s.
pub struct FakeOpener {
    faults: Arc<Mutex<Faults>>,
    variants: Vec<String>,
}

impl FakeOpener {
    /// Of devices with three variants that fail as `faults` says.
    pub fn new(faults: Arc<Mutex<Faults>>) -> Self {
        Self { faults, variants: ["as usual", "otherwise", "as a last resort"].map(String::from).to_vec() }
    }
}

/// A device that the processor plays.
pub struct FakeDevice {
    faults: Arc<Mutex<Faults>>,
    passes: Box<dyn Passes>,
    slots: BTreeMap<(u32, u32), FakeSlot>,
    queue: VecDeque<Finished>,
    wrong_bit: bool,
    panics: bool,
    silent: bool,
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
        Ok(Plan { slots: lock(&self.faults).slots, ..Plan::new(limits, None).expect("a plan") })
    }

    fn variants(&self) -> &[String] {
        &self.variants
    }

    fn open(&self, attempt: Attempt) -> Result<FakeDevice, GpuError> {
        let rounds = attempt.plan.slots;
        lock(&self.faults).attempts.push(attempt);
        stuck(&self.faults, |faults| faults.stuck_opening);
        let mut faults = lock(&self.faults);
        let adapter = "a fake".to_owned();
        if faults.refusals > 0 {
            faults.refusals -= 1;
            return Err(GpuError::Open { adapter, reason: "its driver is not up".into() });
        }
        if faults.memory.is_some_and(|memory| rounds > memory) {
            return Err(GpuError::OutOfMemory { adapter, rounds, reason: "full".into() });
        }
        faults.alive += 1;
        Ok(FakeDevice {
            faults: self.faults.clone(),
            passes: Kernel::detect().passes(),
            slots: BTreeMap::new(),
            queue: VecDeque::new(),
            wrong_bit: attempt.variant < faults.wrong_variants,
            panics: false,
            silent: false,
            stale: false,
            last: Vec::new(),
        })
    }
}

/// Waits as long as a driver that does not come back.
fn stuck(faults: &Mutex<Faults>, is_stuck: impl Fn(&Faults) -> bool) {
    while is_stuck(&lock(faults)) {
        thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for FakeDevice {
    fn drop(&mut self) {
        stuck(&self.faults, |faults| faults.stuck_dropping);
        lock(&self.faults).alive -= 1;
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
            Some(Fault::Full) => {
                return Err(GpuError::Lost {
                    adapter: "a fake".into(),
                    reason: "Not enough memory left.".into(),
                });
            }
            Some(Fault::Panic) => self.panics = true,
            Some(Fault::Silence) => self.silent = true,
            Some(Fault::Nonsense) => outcome = Outcome::Winners { count: u32::MAX, rows: Rows::new([]) },
            Some(Fault::Stale) => self.stale = true,
            None => {}
        }
        self.queue.push_back(Finished { id, elapsed: Duration::from_millis(1), outcome });
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<Finished>, GpuError> {
        assert!(!self.panics, "the device was lost");
        if self.silent {
            thread::sleep(timeout);
            return Ok(None);
        }
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
