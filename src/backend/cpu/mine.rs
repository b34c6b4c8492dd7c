//! A team's round: choice of a hard nonce, table 1, Merkle tree, table 2, search (spec §8).

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use kernels::{
    Announcement, Columns, Hash64, Item, Passes, SearchState, Table, TableProgram, Target, Winner,
    announcement::MERKLE_DEPTH,
    item::TABLE_ITEMS,
    round::{RoundMemory, ann_hash1, build_announcement, table2_seed},
    search::ROUNDS,
};

use super::{choose::choose, team::Team};
use crate::{
    backend::{Step, Steps},
    values::Round,
};

/// Columns in a chunk of a table: what the kernels run at one time. Some 1 ms with AVX2 for 293 items, 10 with the
/// portable kernel.
const COLUMNS: u32 = 64;

/// Soft nonces in a chunk of the search: some 0.4 ms with AVX2, 2 with the portable kernel.
const NONCES: u32 = 128;

/// Parents in a chunk of a level of the Merkle tree.
const PARENTS: usize = 512;

/// Levels that are divided: the one above the leaves has 4096 parents, and the next 2048. What is above them is a chunk
/// by itself.
const DIVIDED_LEVELS: usize = 2;

/// Up to so many soft nonces, table 2 is made on demand: 1024 of them read some 2560 of its 8192 items, 2048 some 4300.
/// With more, nearly all items are read in the end.
const ON_DEMAND: u32 = 2048;

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

/// What a round needs room for, to be used over and over: 9 MiB, and 4 MiB more once it was mined on demand.
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
        let choice = self.progress.time(Step::Choice, || choose(self.round)).ok_or(Ended)?;

        self.each(Step::Table1, Columns::of(tree.leaves_mut()).chunks(COLUMNS), |passes, leaves| {
            self.count_items(&leaves);
            passes.hash_columns(&choice.table1, leaves);
        })?;
        for level in 1..=DIVIDED_LEVELS {
            let (children, parents) = tree.level_mut(level);
            let pairs = children.chunks(2 * PARENTS).zip(parents.chunks_mut(PARENTS));
            self.each(Step::Tree, pairs, |passes, (children, parents)| passes.hash_pairs(children, parents))?;
        }
        self.each(Step::Tree, std::iter::once(&mut *tree), |passes, tree| {
            for level in DIVIDED_LEVELS + 1..=MERKLE_DEPTH {
                let (children, parents) = tree.level_mut(level);
                passes.hash_pairs(children, parents);
            }
        })?;

        let seed = table2_seed(tree.root(), &choice.ann_hash0);
        let table2_program = self.progress.time(Step::Table2, || runnable(&seed)).ok_or(Ended)?;
        let search = Search {
            ann_hash1: ann_hash1(&choice.header, tree.root()),
            target: self.round.job.work_bits.target(),
            end: self.round.job.work_bits.soft_nonce_max() + 1,
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

    /// Makes all of table 2, then searches it.
    fn search_all(
        &self,
        search: &Search,
        table2_program: &TableProgram,
        table2: &mut Table,
    ) -> Result<(), Ended> {
        self.each(Step::Table2, Columns::of(table2).chunks(COLUMNS), |passes, items| {
            self.count_items(&items);
            passes.make_columns(table2_program, items);
        })?;
        let nonces = (0..search.end).step_by(NONCES as usize);
        self.each(
            Step::Search,
            nonces.map(|first| first..search.end.min(first + NONCES)),
            |passes, nonces| {
                self.progress.hashes.fetch_add(nonces.len() as u64, Ordering::Relaxed);
                let mut winners = Vec::new();
                passes.search(table2, &search.ann_hash1, &search.target, nonces, &mut winners);
                (search.found)(&winners);
            },
        )
    }

    /// Searches step by step with all soft nonces at once, and makes the items that the next step reads before it.
    fn search_on_demand(
        &self,
        search: &Search,
        table2_program: &TableProgram,
        table2: &mut Table,
        states: &mut Vec<SearchState>,
    ) -> Result<(), Ended> {
        let nonces: Vec<u32> = (0..search.end).collect();
        states.resize_with(nonces.len(), SearchState::new);
        let chunk = NONCES as usize;
        self.each(
            Step::Search,
            nonces.chunks(chunk).zip(states.chunks_mut(chunk)),
            |passes, (nonces, states)| {
                passes.init_states(&search.ann_hash1, nonces, states);
            },
        )?;
        let mut made = vec![false; TABLE_ITEMS];
        for _ in 0..ROUNDS {
            self.make_missing(states, table2_program, table2, &mut made)?;
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
        let items = Mutex::new(Vec::with_capacity(missing.len()));
        self.each(Step::Table2, chunks_of_columns(&missing), |passes, numbers| {
            let mut out = vec![Item::ZERO; numbers.len()];
            passes.make_items_at(table2_program, numbers, &mut out);
            self.progress.items.fetch_add(numbers.len() as u64, Ordering::Relaxed);
            let made = numbers.iter().copied().zip(out);
            items.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
        })?;
        for (number, item) in items.into_inner().unwrap_or_else(PoisonError::into_inner) {
            table2[number as usize] = item;
        }
        Ok(())
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

/// Cuts numbers that are sorted by column into chunks of [`COLUMNS`] columns at most.
fn chunks_of_columns(mut numbers: &[u32]) -> impl Iterator<Item = &[u32]> + Send {
    std::iter::from_fn(move || {
        let same = |a: &u32, b: &u32| a % Columns::<Item>::COUNT == b % Columns::<Item>::COUNT;
        let length = numbers.chunk_by(same).take(COLUMNS as usize).map(<[u32]>::len).sum();
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
    use super::*;

    #[test]
    fn chunks_are_cut_between_columns() {
        let mut numbers: Vec<u32> = (0..8192).step_by(3).collect();
        numbers.sort_unstable_by_key(|number| number % Columns::<Item>::COUNT);
        let chunks: Vec<_> = chunks_of_columns(&numbers).collect();
        assert_eq!(chunks.concat(), numbers);
        let mut ends = None;
        for chunk in chunks {
            let column = |number: &u32| number % Columns::<Item>::COUNT;
            assert!(ends < chunk.first().map(column), "a column is not cut in two");
            let mut columns: Vec<u32> = chunk.iter().map(column).collect();
            columns.dedup();
            assert!(columns.len() <= COLUMNS as usize);
            ends = columns.last().copied();
        }
        assert_eq!(chunks_of_columns(&[]).count(), 0);
    }
}
