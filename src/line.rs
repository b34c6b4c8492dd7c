//! How hard to mine so that what is found fits the line (`--max-upload`).
//!
//! Pools pay by work, that is difficulty × announcements: where more is found than the line takes, harder announcements
//! are worth as much and are fewer. [`Fitter`] measures the hash rate and says how hard they must be at least. It is a
//! state machine that is told the time.
//!
//! It goes by powers of two. Those are the targets with most soft nonces for a pair of tables (spec §8), so that harder
//! ones cost nothing; anything in between would fill the line better, which pays nobody, and would change more often:
//! each change is a new job, for which the tables at work are given up. So that it settles,
//!
//! - it leaves a part of the line free, less before it mines harder ones than before it mines easier ones;
//! - harder ones come soon, since what does not fit piles up (`HARDER_AFTER`), easier ones late (`EASIER_AFTER`);
//! - what is reckoned of easier ones is more than there will be: with fewer hashes for a pair of tables the rate falls.
//!
//! What it says is a difficulty and not a factor, so that it holds whatever a pool asks for, before and after.

use std::{collections::VecDeque, time::Duration};

use kernels::WorkBits;

use crate::values::{Moment, Notice};

/// What may be found: this part of what the line takes. The rest is for what is sent again, and for luck.
const USED: f64 = 0.85;

/// Harder announcements are mined when more than this part is found.
const FULL: f64 = 0.95;

/// How long after a change harder announcements are mined at the earliest.
const HARDER_AFTER: Duration = Duration::from_secs(5);

/// How long easier ones must have fitted before they are mined.
const EASIER_AFTER: Duration = Duration::from_secs(60);

/// How long it takes until a change shows in the hash rate.
const SETTLE: Duration = Duration::from_secs(2);

/// What a rate is measured over, at least and at most.
const MEASURED_MIN: Duration = Duration::from_secs(5);
const MEASURED_MAX: Duration = Duration::from_secs(30);

/// Who has not hashed for so long has no rate that means anything.
const SILENT: Duration = Duration::from_secs(10);

/// What waits may be worth so much of the line's time; what is beyond that is worked off ...
const WAITING: Duration = Duration::from_secs(10);

/// ... in this time, ...
const CATCH_UP: Duration = Duration::from_secs(60);

/// ... for which this part of the line is used at least by what is found.
const USED_MIN: f64 = 0.125;

/// The hardest that is asked for: difficulty 2^40.
const HARDEST: u32 = 40;

/// Hashes a second that a thread, and a graphics card, are assumed to do until it is measured. More than they do: what
/// is too hard for a few seconds costs nothing, what is too easy piles up.
const THREAD: f64 = 500e3;
const CARD: f64 = 50e6;

/// The hash rate to assume of so many threads and graphics cards.
pub fn assumed(threads: usize, cards: usize) -> f64 {
    threads as f64 * THREAD + cards as f64 * CARD
}

/// What the miner is about at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// Soft nonces hashed since it started.
    pub hashes: u64,
    /// Announcements that wait for handlers in which nothing is wrong.
    pub waiting: u64,
    /// Whether it mines: it has a job and is not paused.
    pub mining: bool,
}

/// Says how hard announcements must be at least.
#[derive(Clone, Debug)]
pub struct Fitter {
    /// Announcements a second that the line takes; `None`: all.
    capacity: Option<f64>,
    /// Hashes a second.
    rate: f64,
    /// Announcements are at least as hard as 2 to this power; 1: as easy as can be.
    level: u32,
    /// It is chosen anew without waiting: the limit is new, or the rate is a guess still.
    is_fresh: bool,
    is_measured: bool,
    changed: Moment,
    /// Since when easier announcements would fit, and the hardest level that would have been needed since.
    fits: Option<(Moment, u32)>,
    /// Not to be measured before.
    settled: Moment,
    samples: VecDeque<(Moment, u64)>,
    newest: Option<u64>,
    advanced: Moment,
}

impl Fitter {
    /// One for a line that takes so many announcements a second (`None`: all that there are), and for hardware that is
    /// assumed to do so many hashes a second.
    pub fn new(capacity: Option<f64>, assumed: f64) -> Self {
        Self {
            capacity,
            rate: assumed,
            level: 1,
            is_fresh: true,
            is_measured: false,
            changed: Moment::ZERO,
            fits: None,
            settled: Moment::ZERO,
            samples: VecDeque::new(),
            newest: None,
            advanced: Moment::ZERO,
        }
    }

    /// The line takes so many announcements a second from now on.
    pub fn set_capacity(&mut self, capacity: Option<f64>) {
        self.is_fresh |= capacity != self.capacity;
        self.capacity = capacity;
    }

    /// Takes note of what the miner is about, to be told every second or so; gives the easiest work bits to mine with,
    /// `None` if all will do. `takers` says how many pools take announcements if they are to be as hard as given work
    /// bits at least: each goes to all of them.
    pub fn observe(
        &mut self,
        observed: Observed,
        takers: impl Fn(WorkBits) -> f64,
        now: Moment,
    ) -> Option<WorkBits> {
        self.measure(observed, now);
        let Some(capacity) = self.capacity else {
            (self.level, self.fits) = (1, None);
            return None;
        };
        let demand = |level: u32| self.rate * (-f64::from(level)).exp2() * takers(work_bits(level));
        let late = (observed.waiting as f64 - capacity * WAITING.as_secs_f64()).max(0.0);
        let spare = late / CATCH_UP.as_secs_f64();
        let allowed = |part: f64| (part * capacity - spare).max(part * capacity * USED_MIN);
        let fitting = (1..HARDEST).find(|level| demand(*level) <= allowed(USED)).unwrap_or(HARDEST);

        if self.is_fresh {
            self.is_fresh = !self.is_measured;
            self.change(fitting, now);
        } else if !observed.mining || now > self.advanced + SILENT {
            self.fits = None;
        } else if fitting < self.level {
            let (since, hardest) = self.fits.unwrap_or((now, fitting));
            self.fits = Some((since, hardest.max(fitting)));
            if now >= since.max(self.changed) + EASIER_AFTER {
                self.change(hardest.max(fitting), now);
            }
        } else {
            self.fits = None;
            if demand(self.level) > allowed(FULL) && now >= self.changed + HARDER_AFTER {
                self.change(fitting, now);
            }
        }
        (self.level > 1).then(|| work_bits(self.level))
    }

    fn change(&mut self, level: u32, now: Moment) {
        self.fits = None;
        if level != self.level {
            (self.level, self.changed) = (level, now);
            self.measure_anew(now);
        }
    }

    fn measure_anew(&mut self, now: Moment) {
        self.samples.clear();
        self.settled = now + SETTLE;
    }

    fn measure(&mut self, observed: Observed, now: Moment) {
        let has_advanced =
            self.newest.replace(observed.hashes).is_some_and(|before| before < observed.hashes);
        if has_advanced {
            self.advanced = now;
        }
        if !observed.mining {
            return self.measure_anew(now);
        }
        // From a moment on at which there is something to measure: the first tables may take a while.
        if now < self.settled || (self.samples.is_empty() && !has_advanced) {
            return;
        }
        self.samples.push_back((now, observed.hashes));
        while self.samples.front().is_some_and(|(then, _)| *then + MEASURED_MAX < now) {
            self.samples.pop_front();
        }
        let (then, before) = self.samples[0];
        if now >= then + MEASURED_MIN {
            self.rate = (observed.hashes - before) as f64 / (now - then).as_secs_f64();
            self.is_measured = true;
        }
    }
}

/// The easiest work bits of difficulty 2^level: a mantissa of ones.
fn work_bits(level: u32) -> WorkBits {
    let (bytes, bits) = ((level - 1) / 8, (level - 1) % 8);
    WorkBits::new((0x20 - bytes) << 24 | 0x7f_ffff >> bits).expect("levels are from 1 to HARDEST")
}

/// How long it is looked whether queues overflow, three times in a row.
const LOOK: Duration = Duration::from_secs(20);

/// Tells the user, once, that the line is too slow for what is found.
#[derive(Clone, Debug, Default)]
pub struct OverflowWatch {
    /// When the look began, what had overflowed, and what had been sent by then.
    begun: Option<(Moment, u64, u64)>,
    /// Looks in a row in which queues overflowed, and bytes sent meanwhile.
    full: u32,
    sent: u64,
    is_told: bool,
}

impl OverflowWatch {
    /// Takes note of the announcements that were dropped so far because queues were full of handlers in which nothing
    /// is wrong, and of the bytes of announcements sent so far; `limit` is what the user lets it send, in 10^6 bits a
    /// second.
    pub fn observe(&mut self, overflow: u64, sent: u64, limit: Option<f64>, now: Moment) -> Option<Notice> {
        let (begun, overflow_then, sent_then) = *self.begun.get_or_insert((now, overflow, sent));
        if self.is_told || now < begun + LOOK {
            return None;
        }
        self.begun = Some((now, overflow, sent));
        if overflow <= overflow_then {
            (self.full, self.sent) = (0, 0);
            return None;
        }
        self.full += 1;
        self.sent += sent.saturating_sub(sent_then);
        if self.full < 3 {
            return None;
        }
        self.is_told = true;
        // A little less than what got through, so that queues can empty.
        let kbit = 0.9 * self.sent as f64 * 8e-3 / (LOOK * self.full).as_secs_f64();
        let advice = if kbit >= 2000.0 {
            format!("{:.0}Mbit/s", kbit / 1e3)
        } else {
            format!("{:.0}kbit/s", kbit.max(16.0))
        };
        let remedy = match limit {
            None => {
                format!("--max-upload {advice} has the miner find fewer and harder ones, which pays as much")
            }
            Some(limit) => format!("the line takes less than --max-upload {limit}Mbit/s says; try {advice}"),
        };
        Some(Notice::warn(format!(
            "the line is too slow for what is found: queues are full for a minute, and announcements are lost as \
             overflow; {remedy}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A miner and its line, second by second.
    struct Bench {
        fitter: Fitter,
        now: Moment,
        rng: fastrand::Rng,
        /// Hashes a second while no tables are made, and what a pair of them costs.
        speed: f64,
        table_cost: f64,
        /// How much the rate differs from one second to the next.
        noise: f64,
        /// Announcements a second that really leave.
        line: f64,
        pools: Vec<WorkBits>,
        mining: bool,
        hashes: f64,
        waiting: f64,
        mined: WorkBits,
        /// When the work bits changed, and whether to harder ones.
        changes: Vec<(Moment, bool)>,
        most_waiting: f64,
        sent: f64,
    }

    impl Bench {
        fn new(capacity: f64, speed: f64, asked: u64) -> Self {
            let asked = WorkBits::at_least(asked);
            let mut bench = Self {
                fitter: Fitter::new(Some(capacity), assumed(8, 0)),
                now: Moment::ZERO,
                rng: fastrand::Rng::with_seed(1),
                speed,
                table_cost: 6000.0,
                noise: 0.05,
                line: capacity,
                pools: vec![asked],
                mining: true,
                hashes: 0.0,
                waiting: 0.0,
                mined: asked,
                changes: Vec::new(),
                most_waiting: 0.0,
                sent: 0.0,
            };
            // As the miner does, before there is work.
            bench.look();
            bench
        }

        /// What is found a second at some work bits, each as often as there are pools that take it.
        fn found(&self, mined: WorkBits) -> f64 {
            let nonces = f64::from(mined.soft_nonce_max()) + 1.0;
            let takers = self.pools.iter().filter(|asked| mined.is_at_least_as_hard_as(**asked)).count();
            self.speed * nonces / (nonces + self.table_cost) / mined.difficulty_f64() * takers as f64
        }

        fn run(&mut self, time: u64) {
            for _ in 0..time {
                self.now += seconds(1);
                let noise = 1.0 + self.noise * (2.0 * self.rng.f64() - 1.0);
                let found = if self.mining { self.found(self.mined) * noise } else { 0.0 };
                if self.mining {
                    let nonces = f64::from(self.mined.soft_nonce_max()) + 1.0;
                    self.hashes += self.speed * nonces / (nonces + self.table_cost) * noise;
                }
                self.waiting += found;
                let sent = self.waiting.min(self.line);
                self.waiting -= sent;
                self.sent += sent;
                self.most_waiting = self.most_waiting.max(self.waiting);
                self.look();
            }
        }

        fn look(&mut self) {
            let (hashes, waiting) = (self.hashes as u64, self.waiting as u64);
            let asked = self.pools[0];
            let harder = |floor: WorkBits| if floor.is_at_least_as_hard_as(asked) { floor } else { asked };
            let takers = |floor: WorkBits| {
                let mined = harder(floor);
                self.pools.iter().filter(|asked| mined.is_at_least_as_hard_as(**asked)).count() as f64
            };
            let observed = Observed { hashes, waiting, mining: self.mining };
            let floor = self.fitter.observe(observed, takers, self.now);
            let mined = floor.map_or(asked, harder);
            if mined != self.mined {
                self.changes.push((self.now, mined.is_at_least_as_hard_as(self.mined)));
                self.mined = mined;
            }
        }

        fn difficulty(&self) -> f64 {
            self.mined.difficulty_f64()
        }

        /// Whether the line takes what is found, and would not take twice as much, unless the pool wants it so.
        fn assert_fits(&self) {
            let (found, line) = (self.found(self.mined), self.line);
            assert!(
                found < line,
                "{found}/s are found at {}, {line}/s can be sent, {:?}",
                self.mined,
                self.changes
            );
            let is_asked_for = self.mined == self.pools[0];
            assert!(is_asked_for || found > 0.35 * line, "{found}/s of {line} at {}", self.mined);
        }
    }

    #[test]
    fn levels_are_powers_of_two() {
        for level in 1..=HARDEST {
            assert_eq!(work_bits(level), WorkBits::at_least(1 << level), "{level}");
        }
    }

    #[test]
    fn what_is_found_fits_from_the_start_and_nothing_piles_up() {
        for capacity in [1.4, 20.0, 900.0, 6000.0, 100_000.0] {
            for speed in [5e3, 400e3, 3e6] {
                for asked in [2, 128, 4096, 1 << 20] {
                    let mut bench = Bench::new(capacity, speed, asked);
                    bench.run(600);
                    bench.assert_fits();
                    assert!(
                        bench.most_waiting <= 2.0 * capacity + bench.found(bench.pools[0]),
                        "{bench:?}",
                        bench = bench.most_waiting
                    );
                    // The guess, what is measured, and what easier targets make of the rate where tables matter.
                    assert!(bench.changes.len() <= 5, "{:?}", bench.changes);
                }
            }
        }
    }

    #[test]
    fn a_steady_rate_settles_whatever_it_is() {
        for step in 0..200 {
            let mut bench = Bench::new(1000.0, 1e6 * (1.0 + f64::from(step) / 100.0), 2);
            bench.run(120);
            let settled = bench.changes.len();
            bench.run(3600);
            assert!(bench.changes.len() <= settled + 1, "{:?}", bench.changes);
            bench.assert_fits();
        }
    }

    #[test]
    fn harder_announcements_come_soon_and_easier_ones_late() {
        let mut bench = Bench::new(1000.0, 300e3, 2);
        bench.run(300);
        let before = bench.difficulty();
        bench.changes.clear();
        bench.speed *= 16.0;
        let jumped = bench.now;
        bench.run(40);
        assert!(bench.found(bench.mined) < bench.line);
        assert!(bench.changes.iter().all(|(_, harder)| *harder));
        assert!(bench.changes[0].0 <= jumped + seconds(6), "{:?}", bench.changes);
        bench.run(300);
        assert!(bench.waiting < 10.0 * bench.line, "it has caught up: {}", bench.waiting);
        bench.changes.clear();
        bench.speed /= 16.0;
        let fallen = bench.now;
        bench.run(600);
        bench.assert_fits();
        assert_eq!(bench.difficulty(), before);
        assert!(bench.changes.iter().all(|(at, harder)| !harder && *at >= fallen + EASIER_AFTER));
    }

    #[test]
    fn two_changes_are_never_close_together_once_the_rate_is_known() {
        let random = &mut fastrand::Rng::with_seed(7);
        for _ in 0..50 {
            let mut bench = Bench::new(10f64.powf(1.0 + 3.0 * random.f64()), 1e6, 2);
            bench.noise = 0.3;
            bench.run(20);
            bench.changes.clear();
            for _ in 0..40 {
                bench.speed = 10f64.powf(4.0 + 3.0 * random.f64());
                bench.run(random.u64(1..90));
            }
            for pair in bench.changes.windows(2) {
                let wait = if pair[1].1 { HARDER_AFTER } else { EASIER_AFTER };
                assert!(pair[1].0 >= pair[0].0 + wait, "{pair:?}");
            }
        }
    }

    #[test]
    fn a_new_limit_holds_at_once_and_none_gives_the_pools_own_target() {
        let mut bench = Bench::new(1000.0, 1e6, 2);
        bench.run(120);
        for capacity in [50.0, 4000.0, 300.0] {
            bench.fitter.set_capacity(Some(capacity));
            bench.line = capacity;
            bench.run(1);
            assert!(bench.changes.last().is_some_and(|(at, _)| *at == bench.now), "{:?}", bench.changes);
            bench.run(100);
            bench.assert_fits();
        }
        bench.fitter.set_capacity(None);
        bench.run(1);
        assert_eq!(bench.mined, bench.pools[0]);
    }

    #[test]
    fn what_a_pool_asks_for_makes_no_difference_to_what_fits() {
        let mut bench = Bench::new(1000.0, 1e6, 4096);
        bench.run(120);
        assert_eq!(bench.mined, bench.pools[0], "it fits by far");
        let waiting = bench.most_waiting;
        bench.pools[0] = WorkBits::at_least(2);
        bench.run(1);
        bench.assert_fits();
        bench.run(300);
        bench.assert_fits();
        assert!(bench.most_waiting <= waiting.max(1000.0), "nothing was found that was too easy");
    }

    #[test]
    fn each_pool_takes_its_share_of_the_line() {
        let mut bench = Bench::new(1000.0, 1e6, 2);
        bench.run(120);
        let one = bench.difficulty();
        bench.pools = vec![WorkBits::at_least(2); 4];
        bench.run(120);
        bench.assert_fits();
        assert_eq!(bench.difficulty(), one * 4.0);
        // One that takes nothing so easy needs nothing.
        bench.pools[1..].fill(WorkBits::at_least(1 << 30));
        bench.run(300);
        bench.assert_fits();
        assert_eq!(bench.difficulty(), one);
    }

    #[test]
    fn a_pause_changes_nothing() {
        let mut bench = Bench::new(1000.0, 1e6, 2);
        bench.run(120);
        bench.changes.clear();
        for time in [3, 100, 1000] {
            bench.mining = false;
            bench.run(time);
            bench.mining = true;
            bench.run(time);
        }
        assert_eq!(bench.changes, []);
    }

    #[test]
    fn a_line_that_takes_less_than_it_should_is_given_time_to_catch_up() {
        let mut bench = Bench::new(1000.0, 1e6, 2);
        bench.run(120);
        bench.line = 600.0;
        bench.run(1200);
        assert!(bench.waiting < 60.0 * bench.line, "{} wait", bench.waiting);
        bench.line = 1000.0;
        bench.run(300);
        assert!(bench.waiting < 10.0 * bench.line);
    }

    #[test]
    fn a_line_that_is_too_slow_is_told_of_once_and_a_short_overflow_not_at_all() {
        let mut watch = OverflowWatch::default();
        let mut told = Vec::new();
        for second in 0..300_u64 {
            // For 30 s, and from 100 s on: 1 MB a second is sent.
            let overflow = second.clamp(20, 50) + second.saturating_sub(100);
            told.extend(watch.observe(overflow, second * 1_000_000, None, seconds(second)));
        }
        let [Notice { text, .. }] = told.as_slice() else { panic!("{told:?}") };
        assert!(text.contains("--max-upload 7Mbit/s"), "{text}");
    }
}
