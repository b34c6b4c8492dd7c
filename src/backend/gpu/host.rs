//! What the host does for a device, on threads of its own: it chooses hard nonces and makes programs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kernels::{
    TableProgram,
    round::{ann_hash1, table2_seed},
};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder, prelude::*};

use super::batch::{Chosen, Rooted, Second};
use crate::{
    backend::choose::{Choice, Choices},
    values::{HardNonces, Round},
};

/// Hard nonces that are looked at when the device waits for it.
const HURRY: u32 = 4;

/// Hard nonces that a round is given, and that are looked at when there is plenty of time.
pub const CANDIDATES: u32 = 64;

/// The first program that costs no more than this is taken, see [`Choices`]. One in a hundred costs less; of those that are
/// looked at, the cheapest is taken then.
const PRICE: u64 = 2000;

/// The part of a processor's time that choosing may take, per device.
const SHARE: f64 = 0.5;

/// Threads that make programs for a device, and how much they may do.
#[derive(Clone)]
pub struct Host {
    threads: Arc<ThreadPool>,
    looks: Arc<Looks>,
}

/// How many hard nonces are looked at for each round: as many as a share of the time between two batches allows.
struct Looks {
    started: Instant,
    /// Looks for a round.
    count: AtomicU32,
    /// When the last batch was to be chosen, in microseconds after the start.
    last: AtomicU64,
}

impl Host {
    /// Starts so many threads.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let name = |thread| format!("programs {}", thread + 1);
        let threads = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build()?;
        // Eight: until it is known how much time there is.
        let looks = Looks { started: Instant::now(), count: AtomicU32::new(8), last: AtomicU64::new(0) };
        Ok(Self { threads: Arc::new(threads), looks: Arc::new(looks) })
    }

    /// Chooses for each round, in parallel, and hands the choices on, with the time that all threads spent on them.
    pub fn choose<P: Send + 'static>(
        &self,
        rounds: Vec<Round>,
        hurry: bool,
        lower: fn(&TableProgram) -> Result<P, String>,
        done: impl FnOnce(Vec<Option<Chosen<P>>>, Duration) + Send + 'static,
    ) {
        let looks = self.looks.clone();
        self.threads.spawn(move || {
            let most = if hurry { HURRY } else { looks.count.load(Ordering::Relaxed) };
            let spent = AtomicU64::new(0);
            let choose_one = |round: &Round| {
                let begun = Instant::now();
                let HardNonces { first, count } = round.hard_nonces;
                let round =
                    Round { hard_nonces: HardNonces { first, count: count.min(most) }, ..round.clone() };
                let choice = choose(&round, lower);
                spent.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
                choice
            };
            let choices = rounds.par_iter().map(choose_one).collect();
            let spent = Duration::from_micros(spent.into_inner());
            if !hurry {
                looks.took(spent);
            }
            done(choices, spent);
        });
    }

    /// Makes what each round's search starts from, in parallel, and hands it on by slot.
    pub fn programs<P: Send + 'static>(
        &self,
        roots: Vec<Rooted>,
        lower: fn(&TableProgram) -> Result<P, String>,
        done: impl FnOnce(Vec<(u32, Option<Second<P>>)>) + Send + 'static,
    ) {
        self.threads.spawn(move || {
            done(roots.par_iter().map(|rooted| (rooted.slot, second(rooted, lower))).collect());
        });
    }
}

impl Looks {
    /// Takes note of the time that choosing for a batch took, in all threads together.
    fn took(&self, spent: Duration) {
        let now = self.started.elapsed().as_micros() as u64;
        let since = Duration::from_micros(now - self.last.swap(now, Ordering::Relaxed).min(now));
        let count = next_count(self.count.load(Ordering::Relaxed), spent, since);
        self.count.store(count, Ordering::Relaxed);
    }
}

/// How many to look at next, if looking at `count` for each round took `spent` once in the time `since`.
fn next_count(count: u32, spent: Duration, since: Duration) -> u32 {
    let share = spent.as_secs_f64() / since.as_secs_f64().max(1e-6);
    match share {
        share if share > SHARE => (count / 2).max(1),
        share if share < SHARE / 4.0 => (count * 2).min(CANDIDATES),
        _ => count,
    }
}

/// Chooses a hard nonce among a round's and makes table 1's program for a device; `None` if none can be mined.
pub fn choose<P>(round: &Round, lower: fn(&TableProgram) -> Result<P, String>) -> Option<Chosen<P>> {
    Choices::new(round, PRICE).find_map(|Choice { header, ann_hash0, table1 }| match lower(&table1) {
        Ok(program) => Some(Chosen { header, ann_hash0, program }),
        Err(reason) => {
            tracing::debug!("round {}: {reason}", round.id);
            None
        }
    })
}

/// Makes what a round's search starts from; `None` if it cannot be mined.
pub fn second<P>(rooted: &Rooted, lower: fn(&TableProgram) -> Result<P, String>) -> Option<Second<P>> {
    let Rooted { header, ann_hash0, root, .. } = rooted;
    let program = TableProgram::new(&table2_seed(root, ann_hash0)).ok().filter(TableProgram::is_bounded)?;
    let program = lower(&program).inspect_err(|reason| tracing::debug!("a table 2: {reason}")).ok()?;
    Some(Second { ann_hash1: ann_hash1(header, root), program })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choosing_takes_no_more_than_its_share_of_the_time() {
        let look = Duration::from_micros(20);
        for (rounds, between) in [(128, Duration::from_millis(50)), (128, Duration::from_secs(5)), (2, look)]
        {
            let mut count = 8;
            for _ in 0..50 {
                count = next_count(count, look * count * rounds, between);
                assert!((1..=CANDIDATES).contains(&count));
            }
            let share = (look * count * rounds).as_secs_f64() / between.as_secs_f64();
            assert!(share <= SHARE || count == 1, "{share}");
            assert!(share >= SHARE / 8.0 || count == CANDIDATES, "{share}");
        }
    }
}
