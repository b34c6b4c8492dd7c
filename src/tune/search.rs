//! Which of many settings mines fastest: each is held against the best so far, in short turns that alternate.
//!
//! # Pairs, and what is noise
//!
//! A *pair* is a turn of the best so far and one of the candidate, right after each other and over the same rounds; which of
//! them goes first alternates, and each pair mines other rounds. What disturbs a machine for longer than a pair disturbs
//! both of its turns alike, so only the ratio of the two rates is looked at.
//!
//! A candidate is taken if the median of its ratios is above 1 by [`LEAST_GAIN`] at least, and if the signed-rank test of
//! Wilcoxon leaves a chance of 1 in 32 at most that ratios of two settings that are equally fast look like that: pairs
//! are ranked by how far their ratios are from 1, and the ranks of those in which the candidate was no faster may not add
//! up to more than `limit` says (of five pairs to nothing, of eight to 4). The test asks for no particular kind of
//! noise. As soon as a candidate cannot pass any more, or was slower by `HOPELESS` in a pair, its trial ends: that
//! takes time from nobody and makes no error likelier. Ties go to what was there before, which is the defaults first.
//!
//! With a dozen candidates that are as fast as the defaults, one in three searches would take one of them by luck. So
//! at the end the best one is held against the defaults by the same test, in pairs of their own. What passes both by luck
//! is about one search in a hundred, and the gain that is told is not flattered by having been chosen.
//!
//! # Time
//!
//! Turns are as long as the budget allows: at least so long that as many rounds end as the backends hold. What there is no
//! time for is not tried, and told.

use std::time::Duration;

/// How much faster a candidate must be to be taken: below that, nobody would notice.
pub const LEAST_GAIN: f64 = 0.01;

/// A candidate that is slower by that much in any pair is given up.
const HOPELESS: f64 = 0.1;

/// Pairs of a trial, where there is time for them; and of the last comparison.
const PAIRS: usize = 8;

/// The fewest pairs that can tell anything: with four, all can be luck once in 16.
pub const FEWEST_PAIRS: usize = 5;

/// How many pairs of a trial are to be expected: most candidates are given up early, some go to the end.
const EXPECTED_PAIRS: u32 = 6;

/// Rounds that end in a turn, at least.
const ROUNDS: f64 = 4.0;

/// Turns are no longer than that, however much time there is.
const LONGEST: Duration = Duration::from_secs(4);

/// Turns are no shorter than that.
const SHORTEST: Duration = Duration::from_millis(100);

/// What measures settings `C` of devices `P`.
pub trait Course<C, P> {
    /// Why it cannot go on.
    type Error;

    /// Measures a choice once.
    ///
    /// # Errors
    /// If there is no use in measuring anything else.
    fn turn(&mut self, request: &Request<'_, C, P>) -> Result<Outcome, Self::Error>;

    /// The time that has passed.
    fn now(&self) -> Duration;
}

/// A turn to be measured.
#[derive(Debug)]
pub struct Request<'a, C, P> {
    /// The settings.
    pub choice: &'a C,
    /// What mines with them.
    pub place: P,
    /// The pair that it is part of: both turns mine the same rounds.
    pub pair: u32,
    /// How long, without the warm-up.
    pub length: Duration,
    /// What is tried, for people.
    pub what: &'a str,
}

/// What came of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was measured.
    Measured {
        /// In e/s.
        rate: f64,
        /// Rounds that ended a second.
        rounds_per_s: f64,
        /// Rounds that the backends hold.
        held: usize,
    },
    /// Nothing mines with these settings, and why.
    Unusable(String),
    /// The user wants it to end.
    Stopped,
}

/// One thing that can be set in several ways.
pub struct Dimension<C, P> {
    /// What mines when it is measured.
    pub place: P,
    /// What is to be tried, given the best so far.
    pub candidates: Candidates<C>,
}

/// Says what is to be tried, given the best so far: choices and what people call them.
pub type Candidates<C> = Box<dyn Fn(&C) -> Vec<(C, String)>>;

/// A candidate and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What people call it.
    pub what: String,
    /// Its rates over those of the best so far, pair by pair.
    pub ratios: Vec<f64>,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the best so far.
    Taken,
    /// It is not better by more than the noise.
    NotBetter,
    /// Nothing mines with it.
    Unusable(String),
}

/// The best against the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// e/s with the defaults, the median.
    pub before: f64,
    /// e/s with the best, the median.
    pub after: f64,
    /// After over before, pair by pair.
    pub ratios: Vec<f64>,
    /// Whether it is better by more than the noise.
    pub is_better: bool,
}

/// By how much something is faster, pair by pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// The median of the pairs' ratios, less 1.
    pub median: f64,
    /// The pair that was least in its favour.
    pub least: f64,
    /// The pair that was most in its favour.
    pub most: f64,
    /// Pairs.
    pub pairs: usize,
}

impl Gain {
    /// What ratios tell; `None` if there are none.
    pub fn of(ratios: &[f64]) -> Option<Self> {
        let least = ratios.iter().copied().reduce(f64::min)? - 1.0;
        let most = ratios.iter().copied().reduce(f64::max)? - 1.0;
        Some(Self { median: median(ratios) - 1.0, least, most, pairs: ratios.len() })
    }
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<C> {
    /// The best choice; the defaults if nothing is better.
    pub best: C,
    /// e/s of the defaults where they were first measured.
    pub default_rate: f64,
    /// What was tried, in order.
    pub trials: Vec<Trial>,
    /// What there was no time for.
    pub untried: Vec<String>,
    /// The best against the defaults, if anything was taken.
    pub comparison: Option<Comparison>,
}

/// A search came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SearchError<E> {
    /// The defaults do not mine.
    #[error("nothing mines with the default settings: {0}")]
    Defaults(String),
    /// It was ended.
    #[error("it was ended before anything was found; nothing has changed")]
    Stopped,
    /// The time is not enough for a single candidate.
    #[error(
        "{} is too little time for what mines here, whose rounds are long: try --duration {}, or a lower --difficulty",
        seconds(*.budget), seconds(*.needed)
    )]
    TooShort {
        /// What there was.
        budget: Duration,
        /// What is needed for one candidate at least.
        needed: Duration,
    },
    /// Measuring fails.
    #[error(transparent)]
    Course(E),
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64().ceil())
}

/// Tries one dimension after another, from the defaults on, and holds the best against the defaults at the end.
///
/// `place` is what mines in the end. The time that it takes is the budget's, give or take a turn.
///
/// # Errors
/// If the defaults do not mine, there is too little time, or the course fails or is stopped.
pub fn search<C: Clone + PartialEq, P: Copy + PartialEq, T: Course<C, P>>(
    course: &mut T,
    default: C,
    dimensions: &[Dimension<C, P>],
    place: P,
    budget: Duration,
) -> Result<Found<C>, SearchError<T::Error>> {
    let expected: usize = dimensions.iter().map(|dimension| (dimension.candidates)(&default).len()).sum();
    let mut search =
        Search { course, default: default.clone(), budget, paces: Vec::new(), pairs: 0, left: expected };
    let mut found = Found {
        best: default.clone(),
        default_rate: search.pace(place)?.rate,
        trials: Vec::new(),
        untried: Vec::new(),
        comparison: None,
    };
    let mut needed = Duration::ZERO;
    for dimension in dimensions {
        for (candidate, what) in (dimension.candidates)(&found.best) {
            search.left = search.left.saturating_sub(1);
            if candidate == found.best {
                continue;
            }
            let pace = search.pace(dimension.place)?;
            let reserve = search.pace(place)?.pairs(FEWEST_PAIRS);
            let left = budget.saturating_sub(search.course.now() + reserve);
            let pairs = pace.affordable(left);
            if pairs < FEWEST_PAIRS {
                needed = search.course.now() + reserve + pace.start + pace.pairs(FEWEST_PAIRS);
                found.untried.push(what);
                continue;
            }
            let (duel, verdict) = search.duel(&found.best, &candidate, dimension.place, pairs, &what)?;
            if verdict == Verdict::Taken {
                found.best = candidate;
            }
            found.trials.push(Trial { what, ratios: duel.ratios(), verdict });
        }
    }
    if found.trials.is_empty() && !found.untried.is_empty() {
        return Err(SearchError::TooShort { budget, needed });
    }
    if found.best != default {
        let left = budget.saturating_sub(search.course.now());
        let pairs = search.pace(place)?.affordable(left).max(FEWEST_PAIRS);
        let (duel, verdict) =
            search.duel(&default, &found.best, place, pairs, "the best against the defaults")?;
        let is_better = verdict == Verdict::Taken;
        if !is_better {
            found.best = default;
        }
        found.comparison = (!duel.0.is_empty()).then(|| Comparison {
            before: median(&duel.0.iter().map(|pair| pair.0).collect::<Vec<_>>()),
            after: median(&duel.0.iter().map(|pair| pair.1).collect::<Vec<_>>()),
            ratios: duel.ratios(),
            is_better,
        });
    }
    Ok(found)
}

struct Search<'a, C, P, T> {
    course: &'a mut T,
    default: C,
    budget: Duration,
    /// How long turns are, by what mines.
    paces: Vec<(P, Pace)>,
    /// Pairs so far.
    pairs: u32,
    /// Candidates that are still to be tried, as far as is known.
    left: usize,
}

/// How long turns are.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// What is measured of a turn.
    length: Duration,
    /// All of it.
    whole: Duration,
    /// What backends take to start.
    start: Duration,
    /// e/s of the defaults.
    rate: f64,
}

impl Pace {
    fn pairs(&self, pairs: usize) -> Duration {
        self.whole * 2 * pairs as u32
    }

    /// Pairs of a trial that fit into a time.
    fn affordable(&self, time: Duration) -> usize {
        let pairs = time.saturating_sub(self.start).as_secs_f64() / self.pairs(1).as_secs_f64().max(1e-9);
        (pairs as usize).min(PAIRS)
    }
}

/// The rates of pairs: of what was there before, and of the candidate.
struct Duel(Vec<(f64, f64)>);

impl Duel {
    fn ratios(&self) -> Vec<f64> {
        self.0.iter().map(|(before, after)| after / before).collect()
    }
}

impl<C, P: Copy + PartialEq, T: Course<C, P>> Search<'_, C, P, T> {
    /// Measures the defaults twice, the first time to see how fast they are, and decides how long turns are.
    fn pace(&mut self, place: P) -> Result<Pace, SearchError<T::Error>> {
        if let Some((_, pace)) = self.paces.iter().find(|(known, _)| *known == place) {
            return Ok(*pace);
        }
        let first = (self.budget / 60).clamp(SHORTEST, LONGEST);
        let begin = self.course.now();
        let (_, rounds_per_s, held) = self.defaults(place, first)?;
        let started = self.course.now();
        let least = ROUNDS.max(held as f64) / rounds_per_s.max(1e-3);
        // Longer than the budget is as good as for ever.
        let least = Duration::from_secs_f64(least.min(1e6)).clamp(SHORTEST, self.budget.max(SHORTEST));
        let (rate, rounds_per_s, _) = self.defaults(place, least)?;
        let now = self.course.now();
        let beside = (now - started).saturating_sub(least);
        // What is left, shared by all the turns that there will be.
        let turns = 2 * (EXPECTED_PAIRS * self.left.max(1) as u32 + PAIRS as u32);
        let starts = (started - begin) * self.left as u32 / 2;
        let share = self.budget.saturating_sub(now + starts) / turns;
        let length = share.saturating_sub(beside).clamp(least, LONGEST.max(least));
        let start = (started - begin).saturating_sub(first + beside);
        // A turn goes on to the end of a round.
        let round = Duration::from_secs_f64((0.5 / rounds_per_s.max(1e-3)).min(1e6));
        let pace = Pace { length, whole: length + beside + round, start, rate };
        self.paces.push((place, pace));
        Ok(pace)
    }

    /// A turn of the defaults.
    fn defaults(&mut self, place: P, length: Duration) -> Result<(f64, f64, usize), SearchError<T::Error>> {
        self.pairs += 1;
        let what = "the defaults";
        let request = Request { choice: &self.default, place, pair: self.pairs, length, what };
        match self.course.turn(&request).map_err(SearchError::Course)? {
            Outcome::Measured { rate, rounds_per_s, held } if rate > 0.0 => Ok((rate, rounds_per_s, held)),
            Outcome::Measured { .. } => Err(SearchError::Defaults("nothing was hashed".into())),
            Outcome::Unusable(why) => Err(SearchError::Defaults(why)),
            Outcome::Stopped => Err(SearchError::Stopped),
        }
    }

    /// Holds a candidate against what was there before, for so many pairs at most.
    fn duel(
        &mut self,
        before: &C,
        candidate: &C,
        place: P,
        pairs: usize,
        what: &str,
    ) -> Result<(Duel, Verdict), SearchError<T::Error>> {
        let length = self.pace(place)?.length;
        let mut duel = Duel(Vec::new());
        while duel.0.len() < pairs {
            self.pairs += 1;
            let begin = self.course.now();
            let mut rates = [0.0; 2];
            let order = if duel.0.len().is_multiple_of(2) { [0, 1] } else { [1, 0] };
            for which in order {
                let choice = [before, candidate][which];
                let request = Request { choice, place, pair: self.pairs, length, what };
                match self.course.turn(&request).map_err(SearchError::Course)? {
                    Outcome::Measured { rate, .. } if rate > 0.0 => rates[which] = rate,
                    Outcome::Measured { .. } => {
                        return Ok((duel, Verdict::Unusable("nothing was hashed".into())));
                    }
                    Outcome::Unusable(why) if which == 1 => return Ok((duel, Verdict::Unusable(why))),
                    Outcome::Unusable(why) => return Err(SearchError::Defaults(why)),
                    Outcome::Stopped => return Err(SearchError::Stopped),
                }
            }
            duel.0.push((rates[0], rates[1]));
            // The first pair has starts in it.
            if let Some((_, pace)) = self.paces.iter_mut().find(|(known, _)| *known == place)
                && duel.0.len() > 1
            {
                pace.whole = (pace.whole * 6 + (self.course.now() - begin)) / 8;
            }
            if is_hopeless(&duel.ratios(), pairs) {
                return Ok((duel, Verdict::NotBetter));
            }
        }
        let verdict = if is_better(&duel.ratios()) { Verdict::Taken } else { Verdict::NotBetter };
        Ok((duel, verdict))
    }
}

/// Whether ratios above 1 are more than noise.
fn is_better(ratios: &[f64]) -> bool {
    ratios.len() >= FEWEST_PAIRS
        && median(ratios) > 1.0 + LEAST_GAIN
        && against(ratios) <= f64::from(limit(ratios.len()))
}

/// Whether ratios can no longer be found better when there are `pairs` of them: further ones only raise the ranks of
/// those that are there.
fn is_hopeless(ratios: &[f64], pairs: usize) -> bool {
    against(ratios) > f64::from(limit(pairs)) || ratios.last().is_some_and(|last| *last < 1.0 - HOPELESS)
}

/// The ranks of the ratios that are not above 1, added up. Ratios as far from 1 as each other share their ranks.
fn against(ratios: &[f64]) -> f64 {
    let far = |ratio: &f64| ratio.ln().abs();
    let rank = |ratio: &f64| {
        let nearer = ratios.iter().filter(|other| far(other) < far(ratio)).count() as f64;
        let same = ratios.iter().filter(|other| far(other) == far(ratio)).count() as f64;
        nearer + f64::midpoint(same, 1.0)
    };
    ratios.iter().filter(|ratio| **ratio <= 1.0).map(rank).sum()
}

/// The most that the ranks against a candidate may add up to, so that chance does that in one of 32 cases at most: of
/// `2^pairs` equally likely ways of which pairs are against it, those with a sum up to there are counted.
fn limit(pairs: usize) -> u32 {
    // Sums of parts of 1..=pairs: how many there are of each. Pairs are few; sums above 64 are of no interest.
    let mut ways = [0_u64; 64];
    ways[0] = 1;
    for rank in 1..=pairs.min(63) {
        for sum in (rank..ways.len()).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let all = 1_u64 << pairs.min(63);
    let mut sum = 0;
    let within = ways.iter().take_while(|ways| {
        sum += **ways;
        sum * 32 <= all
    });
    (within.count().max(1) - 1) as u32
}

/// The middle of some numbers; 0 of none.
fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len().wrapping_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that is played: choices are numbers, each with its true rate.
    struct Played {
        rate: fn(u32) -> f64,
        /// How far rates are off, as a part of them.
        noise: f64,
        /// A turn in so many is disturbed and has half its rate; 0: none.
        disturbed: usize,
        rng: fastrand::Rng,
        now: Duration,
        /// What a turn takes beside its length.
        beside: Duration,
        rounds_per_s: f64,
        turns: u32,
        unusable: Option<u32>,
    }

    fn played(rate: fn(u32) -> f64, noise: f64, seed: u64) -> Played {
        Played {
            rate,
            noise,
            disturbed: 0,
            rng: fastrand::Rng::with_seed(seed),
            now: Duration::ZERO,
            beside: Duration::from_millis(200),
            rounds_per_s: 30.0,
            turns: 0,
            unusable: None,
        }
    }

    impl Course<u32, ()> for Played {
        type Error = std::convert::Infallible;

        fn turn(&mut self, request: &Request<'_, u32, ()>) -> Result<Outcome, Self::Error> {
            self.turns += 1;
            self.now += request.length + self.beside;
            if self.unusable == Some(*request.choice) {
                return Ok(Outcome::Unusable("it does not fit".into()));
            }
            // Nearly normal, with heavier tails where turns are disturbed; and slower and slower as it gets hot.
            let normal: f64 = (0..12).map(|_| self.rng.f64()).sum::<f64>() - 6.0;
            let disturbed = self.disturbed > 0 && self.rng.usize(..self.disturbed) == 0;
            let heat = 1.0 - 0.1 * (self.now.as_secs_f64() / 90.0).min(1.0);
            let rate = (self.rate)(*request.choice) * (self.noise * normal).exp() * heat;
            let rate = if disturbed { rate / 2.0 } else { rate };
            Ok(Outcome::Measured { rate, rounds_per_s: self.rounds_per_s, held: 4 })
        }

        fn now(&self) -> Duration {
            self.now
        }
    }

    fn candidates(numbers: &'static [u32]) -> Dimension<u32, ()> {
        let list = move |_: &u32| numbers.iter().map(|number| (*number, number.to_string())).collect();
        Dimension { place: (), candidates: Box::new(list) }
    }

    fn searched(played: &mut Played, seconds: u64) -> Result<Found<u32>, String> {
        let dimensions = [candidates(&[1, 2, 3]), candidates(&[4, 5, 6]), candidates(&[7, 8])];
        let budget = Duration::from_secs(seconds);
        search(played, 0, &dimensions, (), budget).map_err(|error| error.to_string())
    }

    #[test]
    fn the_limits_are_those_of_the_signed_rank_test() {
        // One-sided at 1/32: of 5 pairs only all (1/32), of 6 a sum of 1 (2/64), of 8 of 4 (7/256).
        assert_eq!([5, 6, 7, 8].map(limit), [0, 1, 2, 4]);
        assert!((against(&[1.1, 0.99, 1.02, 0.8]) - (1.0 + 4.0)).abs() < 1e-9);
        assert!((against(&[1.0, 1.0, 1.5]) - 3.0).abs() < 1e-9, "no faster is against it, ranks are shared");
        assert!(is_better(&[1.02; 5]) && !is_better(&[1.02; 4]) && !is_better(&[1.009; 8]));
        assert!(!is_better(&[1.02, 1.02, 1.02, 1.02, 0.999]));
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9 && (median(&[1.0, 2.0]) - 1.5).abs() < 1e-9);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn of_settings_that_are_all_alike_one_in_some_hundred_searches_prefers_any() {
        for (noise, disturbed) in [(0.005, 0), (0.03, 0), (0.1, 0), (0.03, 10)] {
            let (mut written, mut taken, mut trials) = (0, 0, 0);
            for seed in 0..500 {
                let mut played = Played { disturbed, ..played(|_| 1e5, noise, seed) };
                let found = searched(&mut played, 90).expect("it ends");
                written += usize::from(found.best != 0);
                taken += found.trials.iter().filter(|trial| trial.verdict == Verdict::Taken).count();
                trials += found.trials.len();
                assert_eq!(found.best != 0, found.comparison.is_some_and(|comparison| comparison.is_better));
            }
            assert!(trials > 3000, "{trials}");
            assert!(taken * 25 <= trials, "noise {noise}: {taken} of {trials} trials");
            assert!(written <= 10, "noise {noise}: {written} of 500");
        }
    }

    #[test]
    fn what_is_better_by_more_than_the_noise_is_found_and_its_gain_is_told() {
        let (mut gains, mut some) = (Vec::new(), 0);
        for seed in 0..200 {
            // 5 is 10 % better than the defaults, 2 is 5 % better, 7 is a good deal worse.
            let rate = |choice| match choice {
                5 => 1.1e5,
                2 => 1.05e5,
                7 => 0.3e5,
                _ => 1e5,
            };
            let found =
                searched(&mut Played { disturbed: 40, ..played(rate, 0.02, seed) }, 90).expect("it ends");
            some += usize::from(found.best != 0);
            if found.best == 5 {
                let comparison = found.comparison.expect("it was held against the defaults");
                gains.push(Gain::of(&comparison.ratios).expect("there are pairs").median);
            }
            let seven = found.trials.iter().find(|trial| trial.what == "7").expect("it was tried");
            assert_eq!((seven.ratios.len(), &seven.verdict), (1, &Verdict::NotBetter), "given up at once");
        }
        // A disturbed turn against the candidate ends its trial: that is what it costs to be seldom wrong.
        assert!(gains.len() > 120 && some > 150, "{} of 200, something better {some}", gains.len());
        assert!((median(&gains) - 0.1).abs() < 0.01, "the gain is not flattered: {}", median(&gains));
    }

    #[test]
    fn a_gain_that_nobody_would_notice_is_left_alone() {
        let rate = |choice| if choice == 4 { 1.005e5 } else { 1e5 };
        let wins = (0..100)
            .filter(|seed| searched(&mut played(rate, 0.001, *seed), 90).is_ok_and(|found| found.best != 0));
        assert_eq!(wins.count(), 0, "0.5 % above noise of 0.1 %");
    }

    #[test]
    fn the_budget_is_kept_and_what_there_was_no_time_for_is_told() {
        for (seconds, beside) in [(10, 30), (90, 200), (90, 1000), (300, 3000)] {
            let mut slow = Played { beside: Duration::from_millis(beside), ..played(|_| 1e5, 0.03, 7) };
            match searched(&mut slow, seconds) {
                Ok(found) => assert_eq!(found.trials.len() + found.untried.len(), 8),
                Err(error) => panic!("{seconds} s, {beside} ms: {error}"),
            }
            assert!(slow.now <= Duration::from_secs(seconds) + Duration::from_secs(4), "{:?}", slow.now);
        }
        let mut hasty = played(|_| 1e5, 0.03, 1);
        let found = searched(&mut hasty, 12).expect("time for a few");
        assert!(!found.untried.is_empty() && !found.trials.is_empty(), "{found:?}");
        let mut sluggish = Played { rounds_per_s: 0.2, ..played(|_| 1e5, 0.03, 1) };
        let error = searched(&mut sluggish, 30).expect_err("a turn takes longer");
        assert!(error.contains("30s is too little time") && error.contains("--duration"), "{error}");
    }

    #[test]
    fn settings_that_nothing_mines_with_are_passed_over() {
        let mut played = Played { unusable: Some(2), ..played(|choice| 1e5 + f64::from(choice), 0.01, 3) };
        let found = searched(&mut played, 90).expect("the others are fine");
        let two = found.trials.iter().find(|trial| trial.what == "2").expect("it was tried");
        assert_eq!(two.verdict, Verdict::Unusable("it does not fit".into()));
        played.unusable = Some(0);
        let error = searched(&mut played, 90).expect_err("the defaults must mine");
        assert!(error.contains("nothing mines with the default settings: it does not fit"), "{error}");
    }

    #[test]
    fn later_candidates_are_made_from_the_best_so_far() {
        let double = |best: &u32| vec![(best * 2 + 2, (best * 2 + 2).to_string())];
        let dimensions: Vec<Dimension<u32, ()>> = (0..3)
            .map(|_| Dimension { place: (), candidates: Box::new(double) as Candidates<u32> })
            .collect();
        let rate = |choice: u32| if choice <= 6 { 1e5 * (1.0 + 0.1 * f64::from(choice)) } else { 1e5 };
        let mut played = played(rate, 0.005, 1);
        let found = search(&mut played, 0, &dimensions, (), Duration::from_secs(90)).expect("it ends");
        let whats: Vec<_> = found.trials.iter().map(|trial| trial.what.as_str()).collect();
        assert_eq!((found.best, whats), (6, vec!["2", "6", "14"]));
        let comparison = found.comparison.expect("it was compared");
        let gain = Gain::of(&comparison.ratios).expect("there are pairs");
        assert!(gain.least < gain.median && gain.median < gain.most && gain.least > 0.5, "{comparison:?}");
        assert_eq!(Gain::of(&[]), None);
    }
}
