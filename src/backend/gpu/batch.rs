//! The life of batches: which rounds are on the device, how far each is, and what the device is to do next.
//!
//! A state machine: it is told what happened ([`Batches::start`], [`Batches::chosen`], [`Batches::finished`], …), says
//! what follows from it ([`Effect`]), and says what to submit when the device has room ([`Batches::next`]). It knows
//! neither device nor clock nor threads.
//!
//! A round's way:
//!
//! | stage | who | what |
//! |---|---|---|
//! | choice | host | a hard nonce whose program is cheap, and the program lowered for the device |
//! | items of table 1 | device | execute, finish |
//! | tree | device | leaves, levels; the root is read back |
//! | program | host | `ann_hash1`, the seed of table 2, its program |
//! | items of table 2 | device | over those of table 1 |
//! | search | device | slices of soft nonces; announcements are read back |
//!
//! Rounds of one job that start together are a batch and share a place in the device's memory. The oldest batch that has
//! something to submit comes first. So announcements come early, little is lost with a job that is replaced, and while
//! the host makes the programs of one batch the device has another's tables to make. One batch more than there are
//! places is chosen ahead.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use kernels::{Announcement, Hash64, Header, item::TABLE_ITEMS, program::MEMORY_PERIOD};

use super::{
    context::GpuError,
    pace::{Kind, Pace},
    passes::search::Output,
    plan::Plan,
};
use crate::{
    backend::{Counters, Reach, Step},
    values::{BackendId, Found, Job, Round},
};

/// Columns are cut into units by multiples of this: a workgroup, or several.
const COLUMNS: u32 = 64;

/// Submissions on the device or waiting for it, at most.
pub const IN_FLIGHT: usize = 2;

/// What must be known of a table's program, however the device has it.
pub trait TableCost {
    /// What it costs to make a table with it, in a unit of the device's own.
    fn table_cost(&self) -> u64;

    /// See [`kernels::Program::reads_word0`].
    fn reads_word0(&self) -> bool;
}

/// What follows from an event.
#[derive(Debug)]
pub enum Effect {
    /// Choose a hard nonce for each of these rounds and make its program; the answer goes to [`Batches::chosen`].
    Choose {
        /// To be handed back.
        batch: u64,
        /// The rounds.
        rounds: Vec<Round>,
        /// The device has nothing to do until then.
        hurry: bool,
    },
    /// Make table 2's program of each; the answer goes to [`Batches::programs`].
    Program {
        /// To be handed back.
        batch: u64,
        /// What they are made from.
        roots: Vec<Rooted>,
    },
    /// Announcements of one job were found: by round, then lowest soft nonce first.
    Found(Vec<Arc<Found>>),
    /// A round is no longer held.
    Ended(u64),
}

/// A round's choice.
#[derive(Clone, Debug)]
pub struct Chosen<P> {
    /// With the hard nonce.
    pub header: Header,
    /// Spec §8, step 1.
    pub ann_hash0: Hash64,
    /// What makes table 1.
    pub program: P,
}

/// A round whose table 1 has a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rooted {
    /// Its slot.
    pub slot: u32,
    /// With the hard nonce.
    pub header: Header,
    /// Spec §8, step 1.
    pub ann_hash0: Hash64,
    /// Root of table 1's tree.
    pub root: Hash64,
}

/// What a round's search starts from.
#[derive(Clone, Debug)]
pub struct Second<P> {
    /// Spec §8, step 3.
    pub ann_hash1: Hash64,
    /// What makes table 2.
    pub program: P,
}

/// Work for the device.
#[derive(Clone, Debug)]
pub struct Submission<P> {
    /// Counts up.
    pub id: u64,
    /// Where the batch lies.
    pub place: u32,
    /// What is to be done.
    pub work: Work<P>,
}

/// What a submission does.
#[derive(Clone, Debug)]
pub enum Work<P> {
    /// Makes items, over those that lay there before.
    Items {
        /// Programs that these units and later ones run.
        uploads: Vec<(u32, Arc<P>)>,
        /// What to run.
        units: Vec<Unit>,
    },
    /// Hashes items to leaves, and builds the trees up to their roots, which are read back.
    Trees {
        /// Of these slots.
        slots: Vec<u32>,
    },
    /// Hashes soft nonces and makes announcements.
    Search {
        /// What slots' searches start from, for these slices and later ones.
        uploads: Vec<(u32, SearchInput)>,
        /// The soft nonces.
        slices: Vec<Slice>,
        /// Announcements that are read back at most. What is beyond is counted.
        limit: u32,
    },
}

/// Columns of a table: items `first`, `first + 1792` and so on, `copies` of them, for `count` values of `first`. Those
/// past 8191 are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Which of the batch's rounds.
    pub slot: u32,
    /// The first item.
    pub first: u32,
    /// How many columns; 1792 at most.
    pub count: u32,
    /// Items of a column.
    pub copies: u32,
}

impl Unit {
    /// How many items it makes.
    pub fn items(self) -> u32 {
        let column = |copy: u32| (TABLE_ITEMS as u32).saturating_sub(self.first + copy * MEMORY_PERIOD);
        (0..self.copies).map(|copy| column(copy).min(self.count)).sum()
    }
}

/// Soft nonces of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Which of the batch's rounds.
    pub slot: u32,
    /// The first soft nonce.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What a round's search and its announcements are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchInput {
    /// The announcements' header, soft nonce zero.
    pub header: Header,
    /// Spec §8, step 3.
    pub ann_hash1: Hash64,
}

/// A submission has ended.
#[derive(Debug)]
pub struct Finished {
    /// Which.
    pub id: u64,
    /// How long the device was busy with it.
    pub elapsed: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a submission.
#[derive(Debug)]
pub enum Outcome {
    /// Items lie where they belong.
    Items,
    /// The roots, in the order of [`Work::Trees`].
    Roots(Vec<Hash64>),
    /// Announcements.
    Winners {
        /// How many there are. If this is more than `rows`, they did not fit.
        count: u32,
        /// Those that fitted, in any order.
        rows: Rows,
    },
}

/// Announcements where the device has left them, so that each is copied once: to where it stays. To be dropped before
/// the next submission, which may need the place.
pub struct Rows(Box<dyn AsRef<[Output]> + Send>);

impl Rows {
    /// Those that `lie` there. It is dropped with the rows.
    pub fn new(lie: impl AsRef<[Output]> + Send + 'static) -> Self {
        Self(Box::new(lie))
    }
}

impl std::ops::Deref for Rows {
    type Target = [Output];

    fn deref(&self) -> &[Output] {
        (*self.0).as_ref()
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows", self.len())
    }
}

/// What a device answers cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// A working device would never answer so.
    #[error("the device's answer to submission {id} makes no sense: {what}")]
    Senseless {
        /// The submission.
        id: u64,
        /// What is wrong.
        what: String,
    },
    /// Announcements came back that this submission cannot have found. What drivers give up without a word leaves
    /// behind what was found before.
    #[error("what came back for submission {id} is not what it found: {what}")]
    Foreign {
        /// The submission.
        id: u64,
        /// What does not belong to it.
        what: String,
    },
}

impl Nonsense {
    /// What it means for a device that has proved that it computes rightly.
    pub fn error(&self, adapter: &str) -> GpuError {
        let (adapter, reason) = (adapter.to_owned(), self.to_string());
        match self {
            Self::Senseless { .. } => GpuError::Wrong { adapter, reason },
            Self::Foreign { .. } => GpuError::Lost { adapter, reason },
        }
    }
}

/// All batches of a device.
pub struct Batches<P> {
    backend: BackendId,
    plan: Plan,
    pace: Pace,
    waiting: VecDeque<Round>,
    /// Oldest first. Those with a place come before the one that is chosen ahead.
    batches: VecDeque<Batch<P>>,
    free_places: Vec<u32>,
    /// Whether there is a device; without one no batch is formed.
    has_device: bool,
    in_flight: VecDeque<InFlight>,
    next_batch: u64,
    next_submission: u64,
    counters: Counters,
}

struct Batch<P> {
    id: u64,
    job: Arc<Job>,
    place: Option<u32>,
    slots: Vec<Slot<P>>,
    /// Slices whose announcements did not fit: each list is a submission of its own.
    again: VecDeque<Vec<Slice>>,
}

struct Slot<P> {
    round: Round,
    stage: Stage<P>,
    cancelled: bool,
    /// Submissions (of slices: one for each) that have to do with it.
    in_flight: u32,
}

enum Stage<P> {
    /// The host chooses.
    Choice,
    Items {
        table: Table,
        program: Arc<P>,
        uploaded: bool,
        units: VecDeque<Unit>,
    },
    Tree(Header, Hash64),
    /// The tree is being built.
    Root(Header, Hash64),
    /// The host makes table 2's program.
    Program(Header),
    Search {
        input: SearchInput,
        uploaded: bool,
        /// The first soft nonce that was never submitted.
        next: u32,
        /// Soft nonces whose outcome is not known.
        left: u32,
    },
    Ended,
}

/// Which of a round's tables, and what is needed after it.
enum Table {
    First(Header, Hash64),
    Second(SearchInput),
}

/// What is remembered of a submission.
struct InFlight {
    id: u64,
    batch: u64,
    cost: f64,
    what: InFlightWork,
}

enum InFlightWork {
    Items {
        slots: Vec<u32>,
        items: u64,
        /// How much of it is for table 1.
        first_share: f64,
    },
    Trees(Vec<u32>),
    Search {
        slices: Vec<Slice>,
        limit: u32,
    },
}

impl<P: TableCost> Batches<P> {
    /// No rounds yet.
    pub fn new(backend: BackendId, plan: Plan) -> Self {
        Self {
            backend,
            pace: plan.pace(),
            free_places: (0..plan.places).rev().collect(),
            has_device: true,
            plan,
            waiting: VecDeque::new(),
            batches: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_batch: 0,
            next_submission: 0,
            counters: Counters::default(),
        }
    }

    /// Whose announcements they are, from here on.
    pub fn set_backend(&mut self, backend: BackendId) {
        self.backend = backend;
    }

    /// What has been done.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Submissions that were handed out and have not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Takes rounds.
    pub fn start(&mut self, rounds: Vec<Round>) -> Vec<Effect> {
        self.waiting.extend(rounds);
        self.tidy(Vec::new())
    }

    /// Ends rounds early. Nothing is submitted for them any more; those that the device has to do with end when it has
    /// not.
    pub fn cancel(&mut self, rounds: &[u64], reach: Reach) -> Vec<Effect> {
        let mut effects = Vec::new();
        let rounds: HashSet<u64> = rounds.iter().copied().collect();
        self.waiting.retain(|round| {
            let keep = !rounds.contains(&round.id);
            if !keep {
                effects.push(Effect::Ended(round.id));
            }
            keep
        });
        for slot in self.batches.iter_mut().flat_map(|batch| &mut batch.slots) {
            let reached = reach == Reach::Running || matches!(slot.stage, Stage::Choice);
            if reached && rounds.contains(&slot.round.id) {
                slot.cancelled = true;
                slot.end_if_cancelled(&mut effects);
            }
        }
        self.tidy(effects)
    }

    /// Takes the choices for a batch's rounds, which took the host's threads so long; `None` for a round that cannot be
    /// mined.
    pub fn chosen(&mut self, batch: u64, choices: Vec<Option<Chosen<P>>>, spent: Duration) -> Vec<Effect> {
        self.counters.steps[Step::Choice] += spent;
        let mut effects = Vec::new();
        if let Some(batch) = self.batches.iter_mut().find(|b| b.id == batch) {
            for ((number, slot), choice) in (0..).zip(&mut batch.slots).zip(choices) {
                match (&slot.stage, choice) {
                    (Stage::Choice, Some(Chosen { header, ann_hash0, program })) => {
                        slot.stage = Stage::items(number, Table::First(header, ann_hash0), program);
                    }
                    (Stage::Choice, None) => slot.end(&mut effects),
                    _ => {}
                }
            }
        }
        self.tidy(effects)
    }

    /// Takes the programs of table 2 by slot; `None` for a round that cannot be mined.
    pub fn programs(&mut self, batch: u64, programs: Vec<(u32, Option<Second<P>>)>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(batch) = self.batches.iter_mut().find(|b| b.id == batch) {
            for (number, second) in programs {
                let slot = &mut batch.slots[number as usize];
                match (&slot.stage, second) {
                    (Stage::Program(header), Some(Second { ann_hash1, program })) => {
                        let input = SearchInput { header: header.clone(), ann_hash1 };
                        slot.stage = Stage::items(number, Table::Second(input), program);
                    }
                    (Stage::Program(_), None) => slot.end(&mut effects),
                    _ => {}
                }
            }
        }
        self.tidy(effects)
    }

    /// The next submission, if the device has room for it and there is something to do.
    pub fn next(&mut self) -> Option<Submission<P>> {
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        for batch in &mut self.batches {
            let Some(place) = batch.place else { continue };
            let Some((work, what, cost)) = batch.next(&self.plan, &self.pace) else { continue };
            let id = self.next_submission;
            self.next_submission += 1;
            self.in_flight.push_back(InFlight { id, batch: batch.id, cost, what });
            return Some(Submission { id, place, work });
        }
        None
    }

    /// Takes what came of the oldest submission.
    ///
    /// # Errors
    /// If a working device would not answer so.
    pub fn finished(&mut self, finished: Finished) -> Result<Vec<Effect>, Nonsense> {
        let Finished { id, elapsed, outcome } = finished;
        let nonsense = |what: String| Nonsense::Senseless { id, what };
        let InFlight { batch, cost, what, .. } = self
            .in_flight
            .front()
            .is_some_and(|oldest| oldest.id == id)
            .then(|| self.in_flight.pop_front())
            .flatten()
            .ok_or_else(|| nonsense("it is not the one whose turn it is".into()))?;
        let batch =
            self.batches.iter_mut().find(|b| b.id == batch).expect("batches outlive their submissions");
        let mut effects = Vec::new();
        match (what, outcome) {
            (InFlightWork::Items { slots, items, first_share }, Outcome::Items) => {
                self.pace.finished(Kind::Items, cost, elapsed);
                self.counters.items += items;
                let first = elapsed.mul_f64(first_share.clamp(0.0, 1.0));
                self.counters.steps[Step::Table1] += first;
                self.counters.steps[Step::Table2] += elapsed.saturating_sub(first);
                for slot in slots {
                    batch.slots[slot as usize].in_flight -= 1;
                }
            }
            (InFlightWork::Trees(slots), Outcome::Roots(roots)) if slots.len() == roots.len() => {
                self.pace.finished(Kind::Trees, cost, elapsed);
                self.counters.steps[Step::Tree] += elapsed;
                let rooted = slots.into_iter().zip(roots).filter_map(|(slot, root)| batch.rooted(slot, root));
                let roots: Vec<_> = rooted.collect();
                if !roots.is_empty() {
                    effects.push(Effect::Program { batch: batch.id, roots });
                }
            }
            (InFlightWork::Search { slices, limit }, Outcome::Winners { count, rows }) => {
                if rows.len() != count.min(limit) as usize {
                    return Err(nonsense(format!("{count} announcements, of which {} came", rows.len())));
                }
                let hashes = slices.iter().map(|slice| u64::from(slice.count)).sum::<u64>();
                if u64::from(count) > hashes {
                    let what = format!("{count} announcements of {hashes} hashes");
                    return Err(Nonsense::Foreign { id, what });
                }
                self.pace.finished(Kind::Search, cost, elapsed);
                self.counters.steps[Step::Search] += elapsed;
                for slice in &slices {
                    batch.slots[slice.slot as usize].in_flight -= 1;
                }
                if count > limit {
                    batch.again.extend(halves(slices));
                } else {
                    let found = batch.found(&rows, &slices, self.backend);
                    let found = found.map_err(|what| Nonsense::Foreign { id, what })?;
                    self.counters.hashes += hashes;
                    self.counters.found += found.len() as u64;
                    if !found.is_empty() {
                        effects.push(Effect::Found(found));
                    }
                    for slice in slices {
                        if batch.slots[slice.slot as usize].searched(slice.count, &mut effects) {
                            self.counters.rounds += 1;
                        }
                    }
                }
            }
            _ => return Err(nonsense("it answers something else than was asked".into())),
        }
        for slot in &mut batch.slots {
            slot.end_if_cancelled(&mut effects);
        }
        Ok(self.tidy(effects))
    }

    /// The device and all that was on it are gone. Rounds of which nothing was found go back to those that wait; the
    /// others end, since to mine them again would find the same announcements.
    pub fn lost(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for batch in self.batches.drain(..).rev() {
            for mut slot in batch.slots.into_iter().rev() {
                if slot.cancelled || slot.has_been_searched() {
                    slot.end(&mut effects);
                } else if !matches!(slot.stage, Stage::Ended) {
                    self.waiting.push_front(slot.round);
                }
            }
        }
        self.in_flight.clear();
        self.has_device = false;
        effects
    }

    /// Forms batches again after [`lost`](Self::lost): there is a device, with nothing on it.
    pub fn resume(&mut self, plan: Plan) -> Vec<Effect> {
        self.has_device = true;
        self.free_places = (0..plan.places).rev().collect();
        self.pace = plan.pace();
        self.plan = plan;
        self.tidy(Vec::new())
    }

    /// Lets go of batches that have ended, gives places away, and forms new batches.
    fn tidy(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let free_places = &mut self.free_places;
        self.batches.retain(|batch| {
            let over =
                batch.slots.iter().all(|slot| matches!(slot.stage, Stage::Ended) && slot.in_flight == 0);
            if over {
                free_places.extend(batch.place);
            }
            !over
        });
        self.give_places();
        let ready = |batches: &VecDeque<Batch<P>>| batches.iter().all(|batch| batch.place.is_some());
        while let Some(first) = self.waiting.front().filter(|_| self.has_device && ready(&self.batches)) {
            let job = first.job.clone();
            let same = self.waiting.iter().take(self.plan.slots as usize);
            let count = same.take_while(|round| round.job == job).count();
            let full = count == self.plan.slots as usize || count < self.waiting.len();
            // Of fewer rounds than there is room for a batch is made only where the device would stand still.
            if !full && !self.batches.is_empty() {
                break;
            }
            let rounds: Vec<Round> = self.waiting.drain(..count).collect();
            let id = self.next_batch;
            self.next_batch += 1;
            effects.push(Effect::Choose {
                batch: id,
                rounds: rounds.clone(),
                hurry: self.batches.is_empty(),
            });
            let slot = |round| Slot { round, stage: Stage::Choice, cancelled: false, in_flight: 0 };
            let slots = rounds.into_iter().map(slot).collect();
            self.batches.push_back(Batch { id, job, place: None, slots, again: VecDeque::new() });
            self.give_places();
        }
        effects
    }

    fn give_places(&mut self) {
        for batch in self.batches.iter_mut().filter(|batch| batch.place.is_none()) {
            batch.place = self.free_places.pop();
        }
    }
}

impl<P: TableCost> Batch<P> {
    /// The next thing to do, what is to be remembered of it, and its cost. Earlier stages come first.
    fn next(&mut self, plan: &Plan, pace: &Pace) -> Option<(Work<P>, InFlightWork, f64)> {
        self.next_items(plan, pace.budget(Kind::Items))
            .or_else(|| self.next_trees(pace.budget(Kind::Trees)))
            .or_else(|| self.next_search(plan, pace.budget(Kind::Search)))
    }

    fn next_items(&mut self, plan: &Plan, budget: f64) -> Option<(Work<P>, InFlightWork, f64)> {
        let (mut uploads, mut taken, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let (mut cost, mut first_cost) = (0.0, 0.0);
        'slots: for (number, slot) in (0..).zip(&mut self.slots).filter(|(_, slot)| !slot.cancelled) {
            let Stage::Items { table, program, uploaded, units } = &mut slot.stage else { continue };
            while let Some(unit) = units.front_mut() {
                let column = column_cost(&**program);
                let room = ((budget - cost) / column) as u32 / COLUMNS * COLUMNS;
                // The first piece is taken however dear it is.
                let count = if taken.is_empty() { room.max(COLUMNS) } else { room }.min(unit.count);
                if count == 0 || taken.len() == plan.units as usize {
                    break 'slots;
                }
                if !std::mem::replace(uploaded, true) {
                    uploads.push((number, program.clone()));
                }
                taken.push(Unit { count, ..*unit });
                slots.push(number);
                slot.in_flight += 1;
                cost += column * f64::from(count);
                if matches!(table, Table::First(..)) {
                    first_cost += column * f64::from(count);
                }
                if count < unit.count {
                    (unit.first, unit.count) = (unit.first + count, unit.count - count);
                } else {
                    units.pop_front();
                }
            }
            // Submissions run in order, so the next stage need not wait for this one's end.
            if units.is_empty() {
                slot.behind_items();
            }
        }
        let items = taken.iter().map(|unit| u64::from(unit.items())).sum();
        let some = !taken.is_empty();
        some.then_some((
            Work::Items { uploads, units: taken },
            InFlightWork::Items { slots, items, first_share: first_cost / cost },
            cost,
        ))
    }

    fn next_trees(&mut self, budget: f64) -> Option<(Work<P>, InFlightWork, f64)> {
        let mut slots = Vec::new();
        for (number, slot) in (0..).zip(&mut self.slots).filter(|(_, slot)| !slot.cancelled) {
            if slots.len() >= (budget as usize).max(1) {
                break;
            }
            if let Stage::Tree(header, ann_hash0) = &slot.stage {
                slot.stage = Stage::Root(header.clone(), *ann_hash0);
                slot.in_flight += 1;
                slots.push(number);
            }
        }
        let cost = slots.len() as f64;
        (!slots.is_empty()).then(|| (Work::Trees { slots: slots.clone() }, InFlightWork::Trees(slots), cost))
    }

    fn next_search(&mut self, plan: &Plan, budget: f64) -> Option<(Work<P>, InFlightWork, f64)> {
        let difficulty = self.job.work_bits.difficulty_f64();
        let slots = &self.slots;
        let alive = |slice: &Slice| {
            let slot = &slots[slice.slot as usize];
            !slot.cancelled && !matches!(slot.stage, Stage::Ended)
        };
        let again = std::iter::from_fn(|| self.again.pop_front());
        let mut again = again.map(|slices| slices.into_iter().filter(alive).collect::<Vec<_>>());
        let again = again.find(|slices| !slices.is_empty());
        let mut uploads = Vec::new();
        let slices = again.unwrap_or_else(|| {
            let mut room = (budget as u32).max(COLUMNS).min(plan.room(difficulty));
            let mut slices = Vec::new();
            for (number, slot) in (0..).zip(&mut self.slots).filter(|(_, slot)| !slot.cancelled) {
                let end = self.job.work_bits.soft_nonce_max() + 1;
                let Stage::Search { input, uploaded, next, .. } = &mut slot.stage else { continue };
                let count = room.min(end - *next);
                if count > 0 {
                    if !std::mem::replace(uploaded, true) {
                        uploads.push((number, input.clone()));
                    }
                    slices.push(Slice { slot: number, first: *next, count });
                    *next += count;
                    room -= count;
                }
            }
            slices
        });
        if slices.is_empty() {
            return None;
        }
        for slice in &slices {
            self.slots[slice.slot as usize].in_flight += 1;
        }
        let count: u32 = slices.iter().map(|slice| slice.count).sum();
        let limit = plan.limit(count, difficulty);
        let in_flight = InFlightWork::Search { slices: slices.clone(), limit };
        Some((Work::Search { uploads, slices, limit }, in_flight, f64::from(count)))
    }

    /// Takes a root. What is to be made from it, unless the round was cancelled.
    fn rooted(&mut self, number: u32, root: Hash64) -> Option<Rooted> {
        let slot = &mut self.slots[number as usize];
        slot.in_flight -= 1;
        let Stage::Root(header, ann_hash0) = &slot.stage else { return None };
        let (header, ann_hash0) = (header.clone(), *ann_hash0);
        slot.stage = Stage::Program(header.clone());
        (!slot.cancelled).then_some(Rooted { slot: number, header, ann_hash0, root })
    }

    /// Announcements in order, or which of them was not found in these slices.
    fn found(
        &self,
        rows: &[Output],
        slices: &[Slice],
        backend: BackendId,
    ) -> Result<Vec<Arc<Found>>, String> {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        let key = |at: u32| (rows[at as usize].slot, rows[at as usize].soft_nonce);
        order.sort_unstable_by_key(|at| key(*at));
        if let Some(twice) = order.windows(2).find(|pair| key(pair[0]) == key(pair[1])) {
            let (slot, soft_nonce) = key(twice[0]);
            return Err(format!("soft nonce {soft_nonce} of slot {slot} twice"));
        }
        let mut found = Vec::with_capacity(rows.len());
        for of_slot in order.chunk_by(|a, b| key(*a).0 == key(*b).0) {
            let slot = key(of_slot[0]).0;
            let Some(Stage::Search { input, .. }) = self.slots.get(slot as usize).map(|slot| &slot.stage)
            else {
                return Err(format!("an announcement of slot {slot}, which is not searched"));
            };
            let mut header = input.header.to_bytes();
            for at in of_slot {
                let Output { announcement, hash, soft_nonce, .. } = &rows[*at as usize];
                let searched = |slice: &Slice| {
                    slice.slot == slot && soft_nonce.checked_sub(slice.first).is_some_and(|n| n < slice.count)
                };
                if !slices.iter().any(searched) {
                    return Err(format!("soft nonce {soft_nonce} of slot {slot}, which it did not search"));
                }
                header[1..4].copy_from_slice(&soft_nonce.to_le_bytes()[..3]);
                if announcement[..Header::LEN] != header {
                    return Err(format!("an announcement with another header than slot {slot} has"));
                }
                let announcement = Announcement::from_bytes(*announcement);
                found.push(Arc::new(Found { announcement, hash: *hash, job: self.job.clone(), backend }));
            }
        }
        Ok(found)
    }
}

impl<P> Slot<P> {
    /// Goes on to what comes after a table's items.
    fn behind_items(&mut self) {
        if let Stage::Items { table, .. } = std::mem::replace(&mut self.stage, Stage::Ended) {
            let end = self.round.job.work_bits.soft_nonce_max() + 1;
            self.stage = match table {
                Table::First(header, ann_hash0) => Stage::Tree(header, ann_hash0),
                Table::Second(input) => Stage::Search { input, uploaded: false, next: 0, left: end },
            };
        }
    }

    /// Takes note of soft nonces whose outcome is known. Whether the round has come to its end with them.
    fn searched(&mut self, count: u32, effects: &mut Vec<Effect>) -> bool {
        let Stage::Search { left, .. } = &mut self.stage else { return false };
        *left -= count;
        let over = *left == 0;
        if over {
            self.end(effects);
        }
        over
    }

    /// Whether announcements of it may have been handed on.
    fn has_been_searched(&self) -> bool {
        let all = self.round.job.work_bits.soft_nonce_max() + 1;
        matches!(self.stage, Stage::Search { left, .. } if left < all)
    }

    fn end_if_cancelled(&mut self, effects: &mut Vec<Effect>) {
        if self.cancelled && self.in_flight == 0 {
            self.end(effects);
        }
    }

    /// Ends the round, once.
    fn end(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.stage, Stage::Ended) {
            self.stage = Stage::Ended;
            effects.push(Effect::Ended(self.round.id));
        }
    }
}

impl<P: TableCost> Stage<P> {
    /// All of a table's items are to be made.
    fn items(slot: u32, table: Table, program: P) -> Self {
        let all = TABLE_ITEMS as u32;
        let starts = (0..all).step_by(MEMORY_PERIOD as usize);
        let copies = starts.len() as u32;
        let unit = |first: u32, copies| Unit { slot, first, count: MEMORY_PERIOD.min(all - first), copies };
        let units = if program.reads_word0() {
            starts.map(|first| unit(first, 1)).collect()
        } else {
            [unit(0, copies)].into()
        };
        Self::Items { table, program: Arc::new(program), uploaded: false, units }
    }
}

/// What a column costs.
fn column_cost(program: &impl TableCost) -> f64 {
    let columns = if program.reads_word0() { TABLE_ITEMS as u32 } else { MEMORY_PERIOD };
    (program.table_cost() as f64 / f64::from(columns)).max(1e-3)
}

/// Cuts slices in two parts with as many soft nonces.
fn halves(slices: Vec<Slice>) -> [Vec<Slice>; 2] {
    let mut room = slices.iter().map(|slice| slice.count).sum::<u32>() / 2;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for slice in slices {
        let count = slice.count.min(room);
        room -= count;
        first.push(Slice { count, ..slice });
        second.push(Slice { first: slice.first + count, count: slice.count - count, ..slice });
    }
    [first, second].map(|half| half.into_iter().filter(|slice| slice.count > 0).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kernels::WorkBits;

    use super::*;
    use crate::{
        backend::gpu::{adapters::Kind, plan::Limits},
        protocol::BlockHash,
        values::HardNonces,
    };

    /// A program that knows what it is for.
    #[derive(Clone, Debug)]
    struct Program {
        round: u64,
        table: u32,
        cost: u64,
        reads_word0: bool,
    }

    impl TableCost for Program {
        fn table_cost(&self) -> u64 {
            self.cost
        }

        fn reads_word0(&self) -> bool {
            self.reads_word0
        }
    }

    /// What lies in a slot of the device.
    #[derive(Default)]
    struct Lies {
        round: u64,
        table: u32,
        units: Vec<Unit>,
        tree_of: Option<u64>,
        searches: Option<u64>,
        header: Option<Header>,
    }

    impl Lies {
        /// Takes note of a unit that is made.
        fn make(&mut self, unit: Unit) {
            let apart = |other: &Unit| {
                let apart = other.first + other.count <= unit.first || unit.first + unit.count <= other.first;
                other.copies == unit.copies && apart
            };
            assert!(self.units.iter().all(apart), "an item twice");
            self.units.push(unit);
        }

        fn items(&self) -> u32 {
            self.units.iter().map(|unit| unit.items()).sum()
        }
    }

    /// A whole world around the batches: a device, a host and a scheduler, each as quick or slow as chance has it.
    struct World {
        random: fastrand::Rng,
        batches: Batches<Program>,
        plan: Plan,
        lies: BTreeMap<(u32, u32), Lies>,
        queue: VecDeque<Submission<Program>>,
        host: Vec<Effect>,
        next_round: u64,
        job: Arc<Job>,
        started: BTreeSet<u64>,
        cancelled: BTreeSet<u64>,
        unusable: BTreeSet<u64>,
        lost: BTreeSet<u64>,
        ended: BTreeSet<u64>,
        found: BTreeMap<u64, BTreeSet<u32>>,
        overflows: u32,
    }

    /// Whether a soft nonce wins. In every eighth round all do, which never happens: there is no room for so many.
    fn wins(round: u64, soft_nonce: u32) -> bool {
        round.is_multiple_of(8) || (round * 7919 + u64::from(soft_nonce) * 104_729) % 16 == 3
    }

    fn job(id: u64) -> Arc<Job> {
        job_of_difficulty(id, 2)
    }

    fn job_of_difficulty(id: u64, difficulty: u64) -> Arc<Job> {
        Arc::new(Job {
            id,
            parent_hash: BlockHash([id as u8; 32]),
            parent_height: id as u32,
            work_bits: WorkBits::at_least(difficulty),
            signing_key: [0; 32],
        })
    }

    /// An announcement with nothing but its header.
    fn row(slot: u32, header: &Header, soft_nonce: u32) -> Output {
        let mut bytes = [0; Announcement::LEN];
        bytes[..Header::LEN].copy_from_slice(&header.to_bytes());
        bytes[1..4].copy_from_slice(&soft_nonce.to_le_bytes()[..3]);
        Output::new(slot, &Announcement::from_bytes(bytes), [0; 32], 0)
    }

    fn plan(slots: u32, places: u32, units: u32, states: u32, outputs: u32) -> Plan {
        let limits = Limits { kind: Kind::Software, binding: 1 << 31, buffer: 1 << 31 };
        let plan = Plan::new(limits, None).expect("a plan");
        Plan { slots, places, units, states, outputs, ..plan }
    }

    impl World {
        fn new(seed: u64) -> Self {
            let mut random = fastrand::Rng::with_seed(seed);
            let outputs = if random.bool() { 10_000 } else { random.u32(64..400) };
            let plan =
                plan(random.u32(1..5), random.u32(1..4), random.u32(1..7), random.u32(64..1500), outputs);
            Self {
                batches: Batches::new(BackendId(2), plan),
                random,
                plan,
                lies: BTreeMap::new(),
                queue: VecDeque::new(),
                host: Vec::new(),
                next_round: 1,
                job: job(1),
                started: BTreeSet::new(),
                cancelled: BTreeSet::new(),
                unusable: BTreeSet::new(),
                lost: BTreeSet::new(),
                ended: BTreeSet::new(),
                found: BTreeMap::new(),
                overflows: 0,
            }
        }

        fn start(&mut self, count: usize) {
            let round = |id| Round {
                id,
                job: self.job.clone(),
                hard_nonces: HardNonces { first: id as u32, count: 1 },
            };
            let rounds: Vec<_> = (self.next_round..).take(count).map(round).collect();
            self.next_round += count as u64;
            self.started.extend(rounds.iter().map(|round| round.id));
            let effects = self.batches.start(rounds);
            self.carry_out(effects);
        }

        fn held(&self) -> Vec<u64> {
            self.started.difference(&self.ended).copied().collect()
        }

        /// As the scheduler does: cancelled rounds leave a hole that is filled at once.
        fn top_up(&mut self) {
            let busy = self.held().iter().filter(|round| !self.cancelled.contains(round)).count();
            self.start(self.plan.rounds_held().saturating_sub(busy));
        }

        fn cancel(&mut self, rounds: &[u64], reach: Reach) {
            if reach == Reach::Running {
                self.cancelled.extend(rounds);
            }
            let effects = self.batches.cancel(rounds, reach);
            self.carry_out(effects);
        }

        fn carry_out(&mut self, effects: Vec<Effect>) {
            for effect in effects {
                match effect {
                    Effect::Ended(round) => {
                        assert!(self.started.contains(&round), "round {round} was never started");
                        assert!(self.ended.insert(round), "round {round} ended twice");
                    }
                    Effect::Found(found) => {
                        let order: Vec<_> = found.iter().map(|f| f.announcement.soft_nonce()).collect();
                        assert!(order.len() == 1 || order.is_sorted() || found.len() > 1);
                        for found in found {
                            let round = u64::from(found.announcement.hard_nonce());
                            assert!(!self.ended.contains(&round), "found after the end of round {round}");
                            assert_eq!(u64::from(found.job.parent_height), found.job.id);
                            assert_eq!(found.backend, BackendId(2));
                            let soft_nonce = found.announcement.soft_nonce();
                            let new = self.found.entry(round).or_default().insert(soft_nonce);
                            assert!(new, "soft nonce {soft_nonce} of round {round} was found twice");
                        }
                    }
                    host => self.host.push(host),
                }
            }
        }

        /// Notes what the device would do, and that it makes sense.
        fn submit(&mut self, submission: Submission<Program>) {
            let place = submission.place;
            assert!(place < self.plan.places);
            match &submission.work {
                Work::Items { uploads, units } => {
                    assert!(!units.is_empty() && units.len() <= self.plan.units as usize);
                    for (slot, program) in uploads {
                        let (round, table) = (program.round, program.table);
                        let tree_of = self.lies.remove(&(place, *slot)).and_then(|lies| lies.tree_of);
                        let lies = Lies { round, table, tree_of, ..Lies::default() };
                        assert!(table == 1 || tree_of == Some(round), "table 2 comes after the tree");
                        self.lies.insert((place, *slot), lies);
                    }
                    for unit in units {
                        assert!(unit.slot < self.plan.slots && (1..=1792).contains(&unit.count));
                        let lies = self.lies.get_mut(&(place, unit.slot)).expect("a program");
                        assert!(!self.cancelled.contains(&lies.round), "items for a cancelled round");
                        lies.make(*unit);
                    }
                }
                Work::Trees { slots } => {
                    for slot in slots {
                        let lies = self.lies.get_mut(&(place, *slot)).expect("a table");
                        assert_eq!((lies.table, lies.items()), (1, 8192), "of a whole table 1");
                        assert!(!self.cancelled.contains(&lies.round), "a tree for a cancelled round");
                        lies.tree_of = Some(lies.round);
                    }
                }
                Work::Search { uploads, slices, limit } => {
                    for (slot, input) in uploads {
                        let lies = self.lies.get_mut(&(place, *slot)).expect("a table");
                        lies.searches = Some(u64::from(input.header.hard_nonce));
                        lies.header = Some(input.header.clone());
                        assert_eq!(lies.searches, Some(lies.round));
                        assert_eq!(input.ann_hash1, [lies.round as u8; 64]);
                    }
                    let states: u32 = slices.iter().map(|slice| slice.count).sum();
                    assert!((1..=self.plan.room(2.0)).contains(&states) && *limit <= self.plan.outputs);
                    for slice in slices {
                        let lies = &self.lies[&(place, slice.slot)];
                        assert_eq!((lies.table, lies.items()), (2, 8192), "over a whole table 2");
                        assert_eq!(lies.searches, Some(lies.round));
                        assert!(!self.cancelled.contains(&lies.round), "hashes for a cancelled round");
                        assert!(slice.count > 0 && slice.first + slice.count <= 1024);
                    }
                }
            }
            self.queue.push_back(submission);
            assert!(self.queue.len() <= IN_FLIGHT);
        }

        fn finish_oldest(&mut self) {
            let Some(submission) = self.queue.pop_front() else { return };
            let lies = |slot: u32| &self.lies[&(submission.place, slot)];
            let outcome = match &submission.work {
                Work::Items { .. } => Outcome::Items,
                Work::Trees { slots } => {
                    Outcome::Roots(slots.iter().map(|slot| [lies(*slot).round as u8; 64]).collect())
                }
                Work::Search { slices, limit, .. } => {
                    let mut rows = Vec::new();
                    for slice in slices {
                        let round = lies(slice.slot).round;
                        for soft_nonce in (slice.first..slice.first + slice.count).filter(|n| wins(round, *n))
                        {
                            let header = lies(slice.slot).header.as_ref().expect("a search was uploaded");
                            rows.push(row(slice.slot, header, soft_nonce));
                        }
                    }
                    self.random.shuffle(&mut rows);
                    let count = rows.len() as u32;
                    self.overflows += u32::from(count > *limit);
                    rows.truncate(*limit as usize);
                    Outcome::Winners { count, rows: Rows::new(rows) }
                }
            };
            let elapsed = Duration::from_micros(self.random.u64(10..400_000));
            let finished = Finished { id: submission.id, elapsed, outcome };
            let effects = self.batches.finished(finished).expect("it makes sense");
            self.carry_out(effects);
        }

        /// The host ends one of the jobs that it was given.
        fn finish_host(&mut self) {
            if self.host.is_empty() {
                return;
            }
            let job = self.host.swap_remove(self.random.usize(..self.host.len()));
            let effects = match job {
                Effect::Choose { batch, rounds, .. } => {
                    let choices = rounds.iter().map(|round| {
                        let program = self.program(round.id, 1)?;
                        let header = round.job.header(round.hard_nonces.first);
                        Some(Chosen { header, ann_hash0: [1; 64], program })
                    });
                    let choices = choices.collect();
                    self.batches.chosen(batch, choices, Duration::from_millis(1))
                }
                Effect::Program { batch, roots } => {
                    let seconds = roots.into_iter().map(|rooted| {
                        let round = u64::from(rooted.header.hard_nonce);
                        assert_eq!(rooted.root, [round as u8; 64], "its own root");
                        let program = self.program(round, 2);
                        let second = |program| Second { ann_hash1: [round as u8; 64], program };
                        (rooted.slot, program.map(second))
                    });
                    let seconds = seconds.collect();
                    self.batches.programs(batch, seconds)
                }
                other => panic!("{other:?} is no job for the host"),
            };
            self.carry_out(effects);
        }

        /// Some programs cannot be run.
        fn program(&mut self, round: u64, table: u32) -> Option<Program> {
            if self.random.u32(..60) == 0 {
                self.unusable.insert(round);
                return None;
            }
            let cost = self.random.u64(1000..10_000_000);
            Some(Program { round, table, cost, reads_word0: self.random.u32(..8) == 0 })
        }

        fn lose(&mut self) {
            self.lost.extend(self.held());
            let effects = self.batches.lost();
            self.carry_out(effects);
            self.queue.clear();
            self.lies.clear();
            for _ in 0..self.random.u32(..3) {
                self.anything();
                assert!(self.batches.next().is_none(), "there is no device");
            }
            let (slots, states) = (self.random.u32(1..=self.plan.slots), self.plan.states);
            self.plan = Plan { slots, states, ..self.plan };
            let effects = self.batches.resume(self.plan);
            self.carry_out(effects);
        }

        /// Something happens on the host's side.
        fn anything(&mut self) {
            match self.random.u32(..40) {
                0 => {
                    let held = self.held();
                    self.job = job(self.job.id + 1);
                    self.cancel(&held, Reach::Running);
                    self.top_up();
                }
                1 => {
                    let some: Vec<u64> = self.held().into_iter().filter(|round| round % 3 == 0).collect();
                    let reach = if self.random.bool() { Reach::Running } else { Reach::Waiting };
                    self.cancel(&some, reach);
                }
                2 => self.cancel(&[0, 77_777], Reach::Running),
                3..20 => self.finish_host(),
                _ => {}
            }
        }

        /// Mines until nothing is held any more.
        fn run(&mut self, steps: u32) {
            for step in 0.. {
                if step < steps {
                    self.top_up();
                    self.anything();
                    if self.random.u32(..150) == 0 {
                        self.lose();
                    }
                } else if self.held().is_empty() {
                    break;
                } else {
                    assert!(step < steps + 200_000, "it never comes to an end: {:?}", self.held());
                    self.finish_host();
                }
                while let Some(submission) = self.batches.next() {
                    self.submit(submission);
                }
                if self.random.u32(..3) > 0 {
                    self.finish_oldest();
                }
            }
        }
    }

    #[test]
    fn in_thousands_of_schedules_every_round_ends_once_and_nothing_is_lost_or_found_twice() {
        let (mut overflows, mut whole, mut cut_short) = (0, 0, 0);
        for seed in 0..1500 {
            let mut world = World::new(seed);
            let steps = world.random.u32(20..60);
            world.run(steps);
            assert!(world.queue.is_empty() && world.batches.in_flight() == 0, "seed {seed}");
            for round in &world.started {
                let all: BTreeSet<u32> = (0..1024).filter(|nonce| wins(*round, *nonce)).collect();
                let found = world.found.remove(round).unwrap_or_default();
                let early =
                    [&world.cancelled, &world.unusable, &world.lost].iter().any(|set| set.contains(round));
                assert!(found.is_subset(&all), "seed {seed}");
                if !early && found != all {
                    // Cancelled while it waited, or before its batch was on the device: nothing was found.
                    assert!(found.is_empty(), "seed {seed}: round {round} is not whole");
                    cut_short += 1;
                }
                whole += u32::from(found == all);
            }
            overflows += world.overflows;
        }
        assert!(whole > 5000 && overflows > 300 && cut_short > 50, "{whole} {overflows} {cut_short}");
    }

    #[test]
    fn a_unit_has_the_items_that_there_are() {
        let items = |first, count, copies| Unit { slot: 0, first, count, copies }.items();
        assert_eq!([items(0, 1792, 5), items(7168, 1024, 1), items(0, 64, 5)], [8192, 1024, 320]);
        assert_eq!([items(1024, 1, 5), items(1023, 2, 5), items(1728, 64, 5)], [4, 9, 256]);
    }

    #[test]
    fn counters_are_those_of_what_was_mined() {
        let mut batches = Batches::<Program>::new(BackendId(2), plan(2, 1, 8, 2048, 2048));
        let mut world = World { batches, ..World::new(5) };
        world.plan = plan(2, 1, 8, 2048, 2048);
        world.lies.clear();
        world.start(2);
        world.unusable.clear();
        for _ in 0..10_000 {
            world.finish_host();
            while let Some(submission) = world.batches.next() {
                world.submit(submission);
            }
            world.finish_oldest();
        }
        batches = world.batches;
        let counters = batches.counters();
        let found = world.found.values().map(BTreeSet::len).sum::<usize>() as u64;
        assert_eq!((counters.rounds, counters.items, counters.hashes), (2, 4 * 8192, 2048));
        assert_eq!(counters.found, found);
        assert!(found > 100);
        assert!(Step::ALL.iter().all(|step| !counters.steps[*step].is_zero()), "{:?}", counters.steps);
    }

    #[test]
    fn while_the_host_makes_programs_the_device_has_another_batch_to_work_on() {
        let mut world = World::new(1);
        world.plan = plan(2, 2, 8, 2048, 2048);
        world.batches = Batches::new(BackendId(2), world.plan);
        world.top_up();
        // All choices are made, but no program of table 2.
        while let Some(at) = world.host.iter().position(|job| matches!(job, Effect::Choose { .. })) {
            world.host.swap(0, at);
            let Effect::Choose { batch, rounds, .. } = world.host.swap_remove(0) else { unreachable!() };
            let program = |round| Program { round, table: 1, cost: 1000, reads_word0: false };
            let chosen = |round: &Round| Chosen {
                header: round.job.header(round.id as u32),
                ann_hash0: [0; 64],
                program: program(round.id),
            };
            let choices = rounds.iter().map(|r| Some(chosen(r))).collect();
            let effects = world.batches.chosen(batch, choices, Duration::ZERO);
            world.carry_out(effects);
        }
        let mut places = Vec::new();
        for _ in 0..100 {
            while let Some(submission) = world.batches.next() {
                places.push(submission.place);
                world.submit(submission);
            }
            world.finish_oldest();
        }
        places.dedup();
        assert_eq!(places, [0, 1], "the second batch's tables, while the first one's programs are made");
        assert_eq!(world.host.len(), 4, "two slots' trees at a time make two programs each, or one each");
    }

    #[test]
    fn answers_that_make_no_sense_are_told() {
        let fresh = || {
            let mut batches = Batches::<Program>::new(BackendId(2), plan(1, 1, 8, 2048, 2048));
            let round = Round { id: 1, job: job(1), hard_nonces: HardNonces { first: 1, count: 1 } };
            let effects = batches.start(vec![round]);
            assert!(matches!(effects[..], [Effect::Choose { hurry: true, .. }]));
            let program = Program { round: 1, table: 1, cost: 1, reads_word0: false };
            let header = job(1).header(1);
            batches.chosen(0, vec![Some(Chosen { header, ann_hash0: [0; 64], program })], Duration::ZERO);
            let id = batches.next().expect("items to make").id;
            (batches, id)
        };
        for (later, outcome) in [
            (1, Outcome::Items),
            (0, Outcome::Roots(vec![])),
            (0, Outcome::Winners { count: 0, rows: Rows::new([]) }),
        ] {
            let (mut batches, id) = fresh();
            let finished = Finished { id: id + later, elapsed: Duration::ZERO, outcome };
            assert!(batches.finished(finished).is_err());
        }
        let (mut batches, id) = fresh();
        let finished = Finished { id, elapsed: Duration::ZERO, outcome: Outcome::Items };
        assert!(batches.finished(finished).expect("it makes sense").is_empty());
    }

    /// Two rounds of a difficulty, whose search is the next thing to submit.
    fn before_search(plan: Plan, difficulty: u64) -> Batches<Program> {
        let job = job_of_difficulty(1, difficulty);
        let mut batches = Batches::new(BackendId(2), plan);
        let hard_nonces = |id| HardNonces { first: id as u32, count: 1 };
        let round = |id| Round { id, job: job.clone(), hard_nonces: hard_nonces(id) };
        batches.start([5, 6].map(round).into());
        let program = |table| Program { round: 0, table, cost: 1, reads_word0: false };
        let chosen = |id| Chosen { header: job.header(id), ann_hash0: [0; 64], program: program(1) };
        batches.chosen(0, vec![Some(chosen(5)), Some(chosen(6))], Duration::ZERO);
        let mut tables = 0;
        while tables < 4 {
            let Submission { id, work, .. } = batches.next().expect("something to submit");
            let outcome = match work {
                Work::Items { uploads, .. } => {
                    tables += uploads.len();
                    Outcome::Items
                }
                Work::Trees { slots } => Outcome::Roots(vec![[0; 64]; slots.len()]),
                Work::Search { .. } => panic!("a search before all tables are made"),
            };
            let finished = Finished { id, elapsed: Duration::ZERO, outcome };
            for effect in batches.finished(finished).expect("it makes sense") {
                let Effect::Program { batch, roots } = effect else { continue };
                let second = |slot| (slot, Some(Second { ann_hash1: [0; 64], program: program(2) }));
                batches.programs(batch, roots.iter().map(|rooted| second(rooted.slot)).collect());
            }
        }
        batches
    }

    #[test]
    fn announcements_that_a_submission_cannot_have_found_are_foreign_and_none_is_handed_on() {
        let search = || {
            let mut batches = before_search(plan(2, 1, 8, 300, 300), 2);
            let Some(Submission { id, work: Work::Search { slices, limit, .. }, .. }) = batches.next() else {
                panic!("a search")
            };
            let Slice { slot, first, count } = slices[0];
            assert_eq!((slot, first, slices.len()), (0, 0, 1));
            (batches, id, count, limit)
        };
        let (own, other) = (job(1).header(5), job(1).header(6));
        let newer = Header { parent_block_height: 2, ..own.clone() };
        let harder = Header { work_bits: WorkBits::at_least(3), ..own.clone() };
        let beyond = search().2;
        let mut contradictory = row(0, &own, 7);
        contradictory.soft_nonce = 8;
        for (foreign, expected) in [
            (row(0, &other, 7), "another header than slot 0 has"),
            (row(0, &newer, 7), "another header than slot 0 has"),
            (row(0, &harder, 7), "another header than slot 0 has"),
            (contradictory, "another header than slot 0 has"),
            (row(1, &other, 7), "soft nonce 7 of slot 1, which it did not search"),
            (row(0, &own, beyond), "which it did not search"),
            (row(0, &own, 3), "soft nonce 3 of slot 0 twice"),
            (row(2, &own, 7), "slot 2, which is not searched"),
        ] {
            let (mut batches, id, ..) = search();
            let rows = Rows::new([row(0, &own, 4), row(0, &own, 3), foreign]);
            let outcome = Outcome::Winners { count: 3, rows };
            let error = batches.finished(Finished { id, elapsed: Duration::ZERO, outcome });
            let error = error.expect_err(expected);
            assert!(matches!(error, Nonsense::Foreign { .. }), "{error}");
            assert!(error.to_string().ends_with(expected), "{error}");
            assert!(matches!(error.error("H200"), GpuError::Lost { .. }), "{error}");
            assert_eq!(batches.counters().found, 0);
        }
        let (mut batches, id, _, limit) = search();
        let rows = Rows::new([row(0, &own, beyond - 1), row(0, &own, 3)]);
        assert!(limit > 2);
        let outcome = Outcome::Winners { count: 2, rows };
        let effects = batches.finished(Finished { id, elapsed: Duration::ZERO, outcome });
        let effects = effects.expect("they are its own");
        let Some(Effect::Found(found)) = effects.first() else { panic!("{effects:?}") };
        let nonces: Vec<_> = found.iter().map(|found| found.announcement.soft_nonce()).collect();
        assert_eq!(nonces, [3, beyond - 1]);
    }

    #[test]
    fn a_submission_searches_what_there_is_room_for_at_every_difficulty() {
        let limits = Limits { kind: Kind::Discrete, binding: 1 << 31, buffer: 1 << 40 };
        let large = Plan::new(limits, None).expect("a plan");
        for (difficulty, largest) in [(2, 500), (128, 1 << 13), (4096, 1 << 13)] {
            // 500 announcements have room: those of a third of a round at difficulty 2.
            let plan = Plan { slots: 2, states: 1 << 13, outputs: 600, ..large };
            let mut batches = before_search(plan, difficulty);
            let (mut sizes, mut ended) = (Vec::new(), 0);
            while let Some(Submission { id, work: Work::Search { slices, limit, .. }, .. }) = batches.next() {
                let size: u32 = slices.iter().map(|slice| slice.count).sum();
                assert!(size <= plan.room(difficulty as f64));
                assert!(limit == plan.limit(size, difficulty as f64) && limit <= 600);
                sizes.push(size);
                let outcome = Outcome::Winners { count: 0, rows: Rows::new([]) };
                let finished = Finished { id, elapsed: Duration::from_millis(100), outcome };
                ended += batches.finished(finished).expect("it makes sense").len();
            }
            let all = 2 * (job_of_difficulty(1, difficulty).work_bits.soft_nonce_max() + 1);
            assert_eq!((sizes.iter().sum::<u32>(), ended), (all, 2), "difficulty {difficulty}");
            assert!(
                sizes.iter().max().is_some_and(|most| *most > largest * 3 / 4),
                "{difficulty}: {sizes:?}"
            );
        }
    }
}
