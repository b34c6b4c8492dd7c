//! A team's round: choice of a hard nonce, table 1, Merkle tree, table 2, search (spec §8).

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use kernels::{
    Announcement, Columns, Hash64, Item, MerkleTree, Passes, SearchState, Table, TableProgram, Target,
    Winner,
    announcement::MERKLE_DEPTH,
    item::TABLE_ITEMS,
    round::{RoundMemory, ann_hash1, build_announcement, table2_seed},
    search::ROUNDS,
};

use super::team::Team;
use crate::{
    backend::{
        Step, Steps,
        choose::{Choice, Choices},
    },
    values::Round,
};

/// Parents in a chunk of a level of the Merkle tree.
const PARENTS: usize = 512;

/// Levels that are divided: the one above the leaves has 4096 parents, and the next 2048. What is above them is a chunk
/// by itself.
const DIVIDED_LEVELS: usize = 2;

/// Up to so many soft nonces, table 2 is made on demand: 1024 of them read some 2560 of its 8192 items, 2048 some 4300.
/// With more, nearly all items are read in the end.
const ON_DEMAND: u32 = 2048;

/// Soft nonces whose states are kept at a time when table 2 is made on demand: 2 MiB. The more, the fewer times a
/// column is run.
const STATES: usize = 1024;

/// What has been done since the start, by all teams.
#[derive(Debug, Default)]
pub struct Progress {
    /// Items made, of both tables.
    pub items: AtomicU64,
    /// Soft nonces hashed.
    pub hashes: AtomicU64,
    /// Nanoseconds by step.
    steps: [AtomicU64; Step::ALL.len()],
}

impl Progress {
    /// Does work and adds the time that it takes to a step: some 50 ns for a clock that is asked twice, where a chunk of
    /// work takes 400 µs and more.
    fn time<R>(&self, step: Step, work: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let result = work();
        let time = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.steps[step as usize].fetch_add(time, Ordering::Relaxed);
        result
    }

    /// Time spent by step, of all members of all teams.
    pub fn steps(&self) -> Steps {
        let mut steps = Steps::default();
        for step in Step::ALL {
            steps[step] = Duration::from_nanos(self.steps[step as usize].load(Ordering::Relaxed));
        }
        steps
    }
}

/// A round whose table 1 was made and stays.
struct Rooted {
    choice: Choice,
    ann_hash1: Hash64,
    table2: TableProgram,
}

/// What a search is about.
struct Search<'a> {
    ann_hash1: Hash64,
    target: Target,
    /// Soft nonces are below it.
    end: u32,
    found: &'a (dyn Fn(&[Winner]) + Sync),
}

/// The round ends before its time: it was cancelled, or its programs cannot be run.
struct Ended;

/// What a round needs room for, to be used over and over: 9 MiB, and 2 MiB more once it was mined on demand.
#[derive(Default)]
pub struct Memory {
    tables: RoundMemory,
    states: Vec<SearchState>,
}

/// Mines a round, handing on announcements as they are found. Returns whether it came to its end.
pub fn mine(
    team: &Team,
    round: &Round,
    memory: &mut Memory,
    cancelled: &AtomicBool,
    progress: &Progress,
    found: &(dyn Fn(Vec<Announcement>) + Sync),
) -> bool {
    Work { team, round, cancelled, progress }.mine(memory, found).is_ok()
}

/// What all passes of a round need to know.
struct Work<'a> {
    team: &'a Team,
    round: &'a Round,
    cancelled: &'a AtomicBool,
    progress: &'a Progress,
}

impl Work<'_> {
    fn mine(&self, memory: &mut Memory, found: &(dyn Fn(Vec<Announcement>) + Sync)) -> Result<(), Ended> {
        let Memory { tables: RoundMemory { table2, tree }, states } = memory;
        let Rooted { choice, ann_hash1, table2: table2_program } = self.choose_and_build(tree)?;
        let search = Search {
            ann_hash1,
            target: self.round.job.work_bits.target(),
            end: self.soft_nonces(),
            found: &|winners: &[Winner]| {
                if !winners.is_empty() {
                    let build = |winner| build_announcement(&choice.header, tree, winner);
                    found(winners.iter().map(build).collect());
                }
            },
        };
        if search.end <= ON_DEMAND {
            self.search_on_demand(&search, &table2_program, table2, states)
        } else {
            self.search_all(&search, &table2_program, table2)
        }
    }

    /// Makes table 1's tree of one hard nonce after the other, until the rest of the round is worth it.
    fn choose_and_build(&self, tree: &mut MerkleTree) -> Result<Rooted, Ended> {
        let soft_nonces = self.soft_nonces();
        let costs = &self.team.tuning.costs;
        // Where table 2 is made on demand, rounds differ by less than a table 1 costs.
        let reservation =
            if soft_nonces <= ON_DEMAND { f64::INFINITY } else { costs.reservation(soft_nonces) };
        let mut choices = Choices::new(self.round, self.team.tuning.price);
        while let Some(choice) = self.progress.time(Step::Choice, || choices.next()) {
            self.build_tree(&choice.table1, tree)?;
            let ann_hash1 = ann_hash1(&choice.header, tree.root());
            let seed = table2_seed(tree.root(), &choice.ann_hash0);
            let Some(table2) = self.progress.time(Step::Table2, || runnable(&seed)) else { continue };
            let rest = costs.rest(&ann_hash1, table2.program(), soft_nonces);
            if rest <= reservation || choices.is_empty() {
                return Ok(Rooted { choice, ann_hash1, table2 });
            }
        }
        Err(Ended)
    }

    fn soft_nonces(&self) -> u32 {
        self.round.job.work_bits.soft_nonce_max() + 1
    }

    fn build_tree(&self, table1: &TableProgram, tree: &mut MerkleTree) -> Result<(), Ended> {
        self.each(
            Step::Table1,
            Columns::of(tree.leaves_mut()).chunks(self.team.tuning.columns),
            |passes, leaves| {
                self.count_items(&leaves);
                passes.hash_columns(table1, leaves);
            },
        )?;
        for level in 1..=DIVIDED_LEVELS {
            let (children, parents) = tree.level_mut(level);
            let pairs = children.chunks(2 * PARENTS).zip(parents.chunks_mut(PARENTS));
            self.each(Step::Tree, pairs, |passes, (children, parents)| passes.hash_pairs(children, parents))?;
        }
        self.each(Step::Tree, std::iter::once(tree), |passes, tree| {
            for level in DIVIDED_LEVELS + 1..=MERKLE_DEPTH {
                let (children, parents) = tree.level_mut(level);
                passes.hash_pairs(children, parents);
            }
        })
    }

    /// Makes all of table 2, then searches it.
    fn search_all(
        &self,
        search: &Search,
        table2_program: &TableProgram,
        table2: &mut Table,
    ) -> Result<(), Ended> {
        self.each(Step::Table2, Columns::of(table2).chunks(self.team.tuning.columns), |passes, items| {
            self.count_items(&items);
            passes.make_columns(table2_program, items);
        })?;
        let chunk = self.team.tuning.nonces;
        let nonces = (0..search.end).step_by(chunk as usize);
        self.each(Step::Search, nonces.map(|first| first..search.end.min(first + chunk)), |passes, nonces| {
            self.progress.hashes.fetch_add(nonces.len() as u64, Ordering::Relaxed);
            let mut winners = Vec::new();
            passes.search(table2, &search.ann_hash1, &search.target, nonces, &mut winners);
            (search.found)(&winners);
        })
    }

    /// Searches step by step with many soft nonces at once, and makes the items that the next step reads before it.
    fn search_on_demand(
        &self,
        search: &Search,
        table2_program: &TableProgram,
        table2: &mut Table,
        states: &mut Vec<SearchState>,
    ) -> Result<(), Ended> {
        let nonces: Vec<u32> = (0..search.end).collect();
        let mut made = vec![false; TABLE_ITEMS];
        states.resize_with(STATES, SearchState::new);
        for nonces in nonces.chunks(STATES) {
            let states = &mut states[..nonces.len()];
            self.search_states(search, table2_program, table2, &mut made, nonces, states)?;
        }
        Ok(())
    }

    /// Takes the states of some soft nonces from their start to their end.
    fn search_states(
        &self,
        search: &Search,
        table2_program: &TableProgram,
        table2: &mut Table,
        made: &mut [bool],
        nonces: &[u32],
        states: &mut [SearchState],
    ) -> Result<(), Ended> {
        let chunk = self.team.tuning.nonces as usize;
        self.each(
            Step::Search,
            nonces.chunks(chunk).zip(states.chunks_mut(chunk)),
            |passes, (nonces, states)| {
                passes.init_states(&search.ann_hash1, nonces, states);
            },
        )?;
        for _ in 0..ROUNDS {
            self.make_missing(states, table2_program, table2, made)?;
            self.each(Step::Search, states.chunks_mut(chunk), |passes, states| {
                passes.advance_states(table2, states)
            })?;
        }
        self.each(Step::Search, states.chunks_mut(chunk), |passes, states| {
            passes.hash_states(states);
            self.progress.hashes.fetch_add(states.len() as u64, Ordering::Relaxed);
            let won = states.iter().filter(|state| search.target.is_met_by(state.hash()));
            (search.found)(&won.map(SearchState::winner).collect::<Vec<_>>());
        })
    }

    /// Makes the items that states read next and that are not made yet.
    fn make_missing(
        &self,
        states: &[SearchState],
        table2_program: &TableProgram,
        table2: &mut Table,
        made: &mut [bool],
    ) -> Result<(), Ended> {
        let mut missing: Vec<u32> = states.iter().map(SearchState::next_item).collect();
        missing.retain(|number| !std::mem::replace(&mut made[*number as usize], true));
        // Items of a column run alike: they belong in the same chunk.
        missing.sort_unstable_by_key(|number| number % Columns::<Item>::COUNT);
        let table2 = Mutex::new(table2);
        self.each(Step::Table2, chunks_of_columns(&missing, self.team.tuning.columns), |passes, numbers| {
            let mut items = vec![Item::ZERO; numbers.len()];
            passes.make_items_at(table2_program, numbers, &mut items);
            self.progress.items.fetch_add(numbers.len() as u64, Ordering::Relaxed);
            let mut table2 = table2.lock().unwrap_or_else(PoisonError::into_inner);
            for (number, item) in numbers.iter().zip(items) {
                table2[*number as usize] = item;
            }
        })
    }

    /// Has the team do chunks of work of a step, until the round is cancelled.
    fn each<C>(
        &self,
        step: Step,
        chunks: impl Iterator<Item = C> + Send,
        work: impl Fn(&mut dyn Passes, C) + Sync,
    ) -> Result<(), Ended> {
        let cancelled = || self.cancelled.load(Ordering::Relaxed);
        let timed = |passes: &mut dyn Passes, chunk| self.progress.time(step, || work(passes, chunk));
        self.team.each(chunks.take_while(|_| !cancelled()), timed);
        if cancelled() { Err(Ended) } else { Ok(()) }
    }

    fn count_items<T>(&self, columns: &Columns<T>) {
        self.progress.items.fetch_add(columns.items().count() as u64, Ordering::Relaxed);
    }
}

/// Cuts numbers that are sorted by column into chunks of so many columns at most.
fn chunks_of_columns(mut numbers: &[u32], columns: u32) -> impl Iterator<Item = &[u32]> + Send {
    std::iter::from_fn(move || {
        let same = |a: &u32, b: &u32| a % Columns::<Item>::COUNT == b % Columns::<Item>::COUNT;
        let length = numbers.chunk_by(same).take(columns as usize).map(<[u32]>::len).sum();
        let (chunk, rest) = numbers.split_at(length);
        numbers = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// A table's program, unless it is one of those (never seen) that cannot be run or would have to be counted.
fn runnable(seed: &Hash64) -> Option<TableProgram> {
    TableProgram::new(seed).ok().filter(TableProgram::is_bounded)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::{Arc, atomic::AtomicUsize},
        time::{Duration, Instant},
    };

    use kernels::{Kernel, Program, WorkBits, portable::State, primitives::b64};

    use super::*;
    use crate::{
        backend::{choose::CANDIDATES, cpu::tuning::Tuning},
        protocol::BlockHash,
        values::{HardNonces, Job},
    };

    fn round(work_bits: WorkBits, first: u32) -> Round {
        let job = Job {
            id: 1,
            parent_hash: BlockHash([9; 32]),
            parent_height: 77,
            work_bits,
            signing_key: [0; 32],
        };
        Round { id: 1, job: Arc::new(job), hard_nonces: HardNonces { first, count: CANDIDATES } }
    }

    fn team(members: usize) -> Team {
        Team::new(0, members, Kernel::detect(), None, None).expect("threads")
    }

    #[test]
    fn a_round_needs_no_more_than_12_mib_whatever_the_difficulty() {
        let (team, mut memory) = (team(1), Memory::default());
        for difficulty in [8, 2, 4] {
            let round = round(WorkBits::at_least(difficulty), 0);
            let go_on = AtomicBool::new(false);
            assert!(mine(&team, &round, &mut memory, &go_on, &Progress::default(), &|_| {}));
            let Memory { tables: RoundMemory { table2, .. }, states } = &memory;
            let tree = (2 * TABLE_ITEMS - 1) * size_of::<Hash64>();
            let bytes = size_of_val(&**table2) + tree + states.capacity() * size_of::<SearchState>();
            assert!(bytes <= 12 << 20, "{bytes} bytes after difficulty {difficulty}");
            assert!(bytes > 9 << 20 || difficulty == 8);
        }
    }

    #[test]
    fn no_chunk_is_begun_once_a_round_is_cancelled() {
        for members in [1, 2, 3] {
            let (team, round) = (team(members), round(WorkBits::at_least(2), 0));
            let (cancelled, progress) = (AtomicBool::new(false), Progress::default());
            let work = Work { team: &team, round: &round, cancelled: &cancelled, progress: &progress };
            let (done, late) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let result = work.each(Step::Search, 0..1_000_000, |_, chunk| {
                done.fetch_add(1, Ordering::Relaxed);
                if cancelled.load(Ordering::Relaxed) {
                    late.fetch_add(1, Ordering::Relaxed);
                }
                if chunk == 50 {
                    cancelled.store(true, Ordering::Relaxed);
                }
            });
            assert!(result.is_err());
            assert!(done.into_inner() > 50);
            // The others may each have taken one before, and not begun it.
            let late = late.into_inner();
            assert!(late < members, "{late} chunks by {members} members");
            assert!(work.each(Step::Search, 0..3, |_, _| panic!("a chunk of a cancelled round")).is_err());
        }
    }

    /// What a new job may have to wait for a chunk in hand, of its 20 ms.
    const LONGEST_CHUNK: Duration = Duration::from_millis(10);

    #[test]
    fn chunks_of_every_kernel_take_a_few_milliseconds_at_most() {
        let programs = (0..150u8).map(|seed| Program::generate(&[seed; 32]).expect("valid"));
        let programs: Vec<Program> = programs.filter(Program::is_bounded).collect();
        let dearest = [false, true].map(|reads_word0| {
            let kind = programs.iter().filter(|program| program.reads_word0() == reads_word0);
            kind.max_by_key(|program| program.static_cost()).expect("there are both")
        });
        for kernel in Kernel::available() {
            let Tuning { columns, nonces, .. } = Tuning::of(kernel);
            let mut passes = kernel.passes();
            let mut leaves = vec![[0; 64]; TABLE_ITEMS];
            for program in dearest {
                let table = TableProgram::from_parts(program.clone(), [1; 32]);
                let time = time_of(|| {
                    let chunk = Columns::of(&mut leaves).chunks(columns).next();
                    passes.hash_columns(&table, chunk.expect("a table has columns"));
                });
                assert!(time <= LONGEST_CHUNK, "{kernel}: {time:?} for {columns} columns");
            }
            let (table2, target) = (Table::new(), WorkBits::at_least(1 << 30).target());
            let time = time_of(|| passes.search(&table2, &[1; 64], &target, 0..nonces, &mut Vec::new()));
            assert!(time <= LONGEST_CHUNK, "{kernel}: {time:?} for {nonces} soft nonces");
        }
    }

    /// Of some calls, the mean of their processor time; where the system does not tell it, the least of their time.
    fn time_of(mut work: impl FnMut()) -> Duration {
        const CALLS: u32 = 25;
        let before = processor_time();
        let mut least = Duration::MAX;
        for _ in 0..CALLS {
            let started = Instant::now();
            work();
            least = least.min(started.elapsed());
        }
        match before.zip(processor_time()).filter(|(before, after)| after > before) {
            Some((before, after)) => (after - before) / CALLS,
            None => least,
        }
    }

    /// This thread's, to a few milliseconds.
    fn processor_time() -> Option<Duration> {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    }

    /// The first header of a round decides whether it is mined; what is mined comes from a table 1 that stands whole.
    #[test]
    fn long_searches_are_of_rounds_that_decipher_little_at_first() {
        // The highest difficulty: 2^24 soft nonces.
        let hardest = WorkBits::new(0x1c00_ffff).expect("valid work bits");
        let team = team(1);
        let (go_on, mut first_nonces) = (AtomicBool::new(false), HashSet::new());
        for first in [0, 10_000] {
            let (round, progress) = (round(hardest, first), Progress::default());
            let work = Work { team: &team, round: &round, cancelled: &go_on, progress: &progress };
            let mut tree = MerkleTree::new();
            let Ok(rooted) = work.choose_and_build(&mut tree) else { panic!("nobody cancelled") };
            let header = &rooted.choice.header;
            assert_eq!(rooted.ann_hash1, ann_hash1(header, tree.root()));
            assert_eq!(rooted.ann_hash1, b64(&[&header.to_bytes(), tree.root()]));
            first_nonces.insert(header.hard_nonce);
            let items = progress.items.into_inner();
            assert_eq!(items % TABLE_ITEMS as u64, 0, "tables are whole");
            let state = State::init(rooted.ann_hash1.first_chunk().expect("32 bytes"));
            let data = u32::from_le_bytes([state.0[16], state.0[17], state.0[18], state.0[19]]);
            let deciphers_little = data >> 12 & 1 == 1 && data >> 23 & 1 == 0;
            let last = items / TABLE_ITEMS as u64 > 8;
            assert!(deciphers_little || last, "{data:#x} after {items} items");
        }
        assert_eq!(first_nonces.len(), 2);
    }

    #[test]
    fn chunks_are_cut_between_columns() {
        let mut numbers: Vec<u32> = (0..8192).step_by(3).collect();
        numbers.sort_unstable_by_key(|number| number % Columns::<Item>::COUNT);
        let chunks: Vec<_> = chunks_of_columns(&numbers, 64).collect();
        assert_eq!(chunks.concat(), numbers);
        let mut ends = None;
        for chunk in chunks {
            let column = |number: &u32| number % Columns::<Item>::COUNT;
            assert!(ends < chunk.first().map(column), "a column is not cut in two");
            let mut columns: Vec<u32> = chunk.iter().map(column).collect();
            columns.dedup();
            assert!(columns.len() <= 64);
            ends = columns.last().copied();
        }
        assert_eq!(chunks_of_columns(&[], 64).count(), 0);
    }
}
