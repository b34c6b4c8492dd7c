//! Which difficulty a pool should ask for (spec §11).
//!
//! Announcements grow old: their effective difficulty halves with each block, and what a pool gains from them goes with
//! the *smallest* effective difficulty among those that it mines with, times the square of their number. Harder
//! announcements last for more block periods, but there are fewer of them.
//!
//! With `n` announcements of difficulty `d` found each block period, mining with those of the newest `k` periods has the
//! power multiplier `(d / 2^(k−1)) · (k·n)²`. It is best at `k = 3`, as long as announcements are usable for so long:
//! that is where the two [rules](Rule) differ.

pub mod text;

use kernels::{Announcement, WorkBits};
use serde::Serialize;

use crate::plot::{Axis, Chart, Line, Scale, stack};

/// Seconds between two blocks of the network.
pub const BLOCK_TIME: f64 = 60.0;

/// The part of a line that announcements may fill; the rest is for the protocols below and for everything else.
pub const LINE_SHARE: f64 = 0.9;

/// The highest difficulty that is looked at one by one; above, only powers of two are.
const SEARCHED: u64 = 1 << 17;

/// When an announcement is too old to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// While its target is no easier than the easiest one, `0x207fffff`: that of difficulty 2.
    InForce,
    /// While its effective difficulty is at least 1, as the network's documentation has it.
    Documentation,
}

impl Rule {
    /// Both.
    pub const ALL: [Self; 2] = [Self::InForce, Self::Documentation];

    /// The smallest effective difficulty that is usable.
    pub fn least(self) -> f64 {
        match self {
            Self::InForce => 2.0,
            Self::Documentation => 1.0,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InForce => "rule in force",
            Self::Documentation => "documentation",
        }
    }
}

/// Mining with the announcements of some block periods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Periods {
    /// How many, the newest ones.
    pub periods: u32,
    /// The effective difficulty of the oldest.
    pub effective_difficulty: f64,
    /// Announcements of all of them.
    pub announcements: f64,
    /// What they multiply the pool's power by.
    pub power: f64,
}

/// What each number of periods gives that a rule allows, from one up; none if the difficulty itself is too low.
pub fn periods(rule: Rule, difficulty: f64, per_period: f64) -> impl Iterator<Item = Periods> {
    let all = (1..).map(move |periods: u32| {
        let effective_difficulty = difficulty / 2f64.powi(periods as i32 - 1);
        let announcements = f64::from(periods) * per_period;
        let power = effective_difficulty * announcements * announcements;
        Periods { periods, effective_difficulty, announcements, power }
    });
    all.take_while(move |one| one.effective_difficulty >= rule.least())
}

/// The number of periods that gives most.
pub fn best(rule: Rule, difficulty: f64, per_period: f64) -> Option<Periods> {
    periods(rule, difficulty, per_period).max_by(|a, b| a.power.total_cmp(&b.power))
}

/// How many announcements there are, at any difficulty.
#[derive(Clone, Debug, PartialEq)]
pub struct Supply {
    /// Rates in e/s at difficulties, in order of difficulty.
    rates: Vec<(f64, f64)>,
    /// Announcements a second that the line takes.
    line: Option<f64>,
    /// Seconds.
    block_time: f64,
}

impl Supply {
    /// The supply of hardware that does so many e/s at each of some difficulties, behind a line of so many bits a second,
    /// of which [`LINE_SHARE`] is used. Between two difficulties the rate is interpolated, along the logarithm of the
    /// difficulty; beyond the first and the last it stays as it is.
    ///
    /// # Panics
    /// If there is no rate.
    pub fn new(mut rates: Vec<(f64, f64)>, upload: Option<f64>, block_time: f64) -> Self {
        assert!(!rates.is_empty(), "a supply has a rate");
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let line = upload.map(|bits| bits * LINE_SHARE / (8 * Announcement::LEN) as f64);
        Self { rates, line, block_time }
    }

    /// The supply that the network's documentation reckons with: so many a block period at difficulty 1, and half as many
    /// with each doubling.
    pub fn of(at_difficulty_1: f64, upload: Option<f64>, block_time: f64) -> Self {
        Self::new(vec![(1.0, at_difficulty_1 / block_time)], upload, block_time)
    }

    /// The rate at a difficulty, in e/s.
    pub fn rate(&self, difficulty: f64) -> f64 {
        let after = self.rates.partition_point(|(at, _)| *at < difficulty);
        let Some((high, high_rate)) = self.rates.get(after) else {
            return self.rates[self.rates.len() - 1].1;
        };
        let Some((low, low_rate)) = after.checked_sub(1).map(|before| self.rates[before]) else {
            return *high_rate;
        };
        let share = (difficulty / low).ln() / (high / low).ln();
        low_rate + share * (high_rate - low_rate)
    }

    /// Announcements of a difficulty found each second.
    pub fn found_per_s(&self, difficulty: f64) -> f64 {
        self.rate(difficulty) / difficulty
    }

    /// Those of them that the line takes.
    pub fn sent_per_s(&self, difficulty: f64) -> f64 {
        let found = self.found_per_s(difficulty);
        self.line.map_or(found, |line| found.min(line))
    }

    /// Announcements that reach the pool each block period.
    pub fn per_period(&self, difficulty: f64) -> f64 {
        self.sent_per_s(difficulty) * self.block_time
    }

    /// Whether a line was named.
    pub fn has_line(&self) -> bool {
        self.line.is_some()
    }
}

/// A difficulty, and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The difficulty.
    pub difficulty: u64,
    /// Announcements found each second.
    pub found_per_s: f64,
    /// Those that the line takes.
    pub sent_per_s: f64,
    /// What sending them takes, in 10^6 bits a second, counting announcements alone.
    pub upload_mbit_per_s: f64,
    /// The best number of periods under the rule in force, if any is usable.
    pub in_force: Option<Periods>,
    /// The best number of periods under the documentation's rule.
    pub documentation: Option<Periods>,
}

impl Point {
    /// What comes of a difficulty.
    pub fn new(supply: &Supply, difficulty: u64) -> Self {
        let d = difficulty as f64;
        let sent_per_s = supply.sent_per_s(d);
        Self {
            difficulty,
            found_per_s: supply.found_per_s(d),
            sent_per_s,
            upload_mbit_per_s: sent_per_s * (8 * Announcement::LEN) as f64 / 1e6,
            in_force: best(Rule::InForce, d, supply.per_period(d)),
            documentation: best(Rule::Documentation, d, supply.per_period(d)),
        }
    }

    /// The best number of periods under a rule.
    pub fn best(&self, rule: Rule) -> Option<Periods> {
        match rule {
            Rule::InForce => self.in_force,
            Rule::Documentation => self.documentation,
        }
    }

    /// The power multiplier under a rule; 0 where announcements of this difficulty are never usable.
    pub fn power(&self, rule: Rule) -> f64 {
        self.best(rule).map_or(0.0, |best| best.power)
    }
}

/// The difficulty with the highest power multiplier under a rule, among those at which the line takes all that is found;
/// the higher one of two that are equal, which needs less bandwidth.
pub fn recommend(supply: &Supply, rule: Rule) -> Point {
    let least = rule.least() as u64;
    let doublings = (SEARCHED.ilog2() + 1..u64::BITS - 1).map(|power| 1 << power);
    let power = |difficulty: u64| {
        let d = difficulty as f64;
        let fits = supply.sent_per_s(d) >= supply.found_per_s(d);
        let power = best(rule, d, supply.per_period(d)).map_or(0.0, |best| best.power);
        (difficulty, if fits { power } else { 0.0 })
    };
    // Equal but for rounding.
    let better =
        |best: (u64, f64), other: (u64, f64)| if other.1 >= best.1 * (1.0 - 1e-12) { other } else { best };
    let best = (least..=SEARCHED).chain(doublings).map(power).reduce(better);
    Point::new(supply, best.expect("there are difficulties to choose from").0)
}

/// The optimal-difficulty curve: powers of two up to a difficulty.
pub fn curve(supply: &Supply, up_to: u64) -> Vec<Point> {
    let doublings = (0..u64::BITS).map(|power| 1_u64 << power).take_while(|difficulty| *difficulty <= up_to);
    doublings.map(|difficulty| Point::new(supply, difficulty)).collect()
}

/// The work bits to ask for where a difficulty is meant; `None` where no validator takes any so easy.
pub fn work_bits(difficulty: u64) -> Option<WorkBits> {
    (difficulty >= 2).then(|| WorkBits::at_least(difficulty))
}

/// Both curves as an SVG file: power against the number of periods at one difficulty, and against difficulty.
pub fn svg(supply: &Supply, difficulty: u64, curve: &[Point]) -> String {
    let d = difficulty as f64;
    let axis = |label: &str, scale| Axis { label: label.into(), scale };
    let line = |rule: Rule, points: Vec<(f64, f64)>| Line { name: rule.name().into(), points };
    let by_periods = |rule: Rule| {
        let all = periods(rule, d, supply.per_period(d));
        line(rule, all.map(|one| (f64::from(one.periods), one.power)).collect())
    };
    let by_difficulty = |rule: Rule| {
        let usable = curve.iter().filter(|point| point.best(rule).is_some());
        line(rule, usable.map(|point| (point.difficulty as f64, point.power(rule))).collect())
    };
    let first = Chart {
        title: format!("Power by the block periods used, at difficulty {difficulty}"),
        x: axis("block periods whose announcements are used", Scale::Count),
        y: axis("power multiplier", Scale::Linear),
        lines: Rule::ALL.map(by_periods).into(),
    };
    let second = Chart {
        title: "Power by difficulty, at the best number of periods".into(),
        x: axis("difficulty", Scale::Doublings),
        y: axis("power multiplier", Scale::Decades),
        lines: Rule::ALL.map(by_difficulty).into(),
    };
    stack("Which difficulty is best", &[first.svg(), second.svg()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented() -> Supply {
        Supply::of(1000.0, None, BLOCK_TIME)
    }

    /// The power multiplier at the best number of periods.
    fn power(rule: Rule, difficulty: u64) -> f64 {
        (Point::new(&documented(), difficulty).power(rule) * 1e3).round() / 1e3
    }

    #[test]
    fn the_documentations_model_gives_the_documentations_figures() {
        let powers = [1, 2, 4, 8, 16, 32].map(|difficulty| power(Rule::Documentation, difficulty));
        assert_eq!(powers, [1_000_000.0, 1_000_000.0, 562_500.0, 281_250.0, 140_625.0, 70_312.5]);
        let used = [1, 2, 4, 8].map(|d| Point::new(&documented(), d).documentation.map(|best| best.periods));
        assert_eq!(used, [Some(1), Some(2), Some(3), Some(3)]);
    }

    #[test]
    fn under_the_rule_in_force_the_last_period_drops_out() {
        let powers = [1, 2, 4, 8, 16, 32].map(|difficulty| power(Rule::InForce, difficulty));
        assert_eq!(powers, [0.0, 500_000.0, 500_000.0, 281_250.0, 140_625.0, 70_312.5]);
        let used = [1, 2, 4, 8].map(|d| Point::new(&documented(), d).in_force.map(|best| best.periods));
        assert_eq!(used, [None, Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn three_periods_are_two_and_a_quarter_times_as_good_as_one() {
        for rule in Rule::ALL {
            let all: Vec<_> = periods(rule, 128.0, 500.0).collect();
            assert_eq!(all.len(), if rule == Rule::InForce { 7 } else { 8 });
            let ratios: Vec<f64> = all.iter().map(|one| one.power / all[0].power).collect();
            assert_eq!(ratios[..5], [1.0, 2.0, 2.25, 2.0, 1.5625]);
            assert_eq!(best(rule, 128.0, 500.0).map(|best| best.periods), Some(3));
        }
    }

    #[test]
    fn the_rule_in_force_is_the_one_by_which_targets_grow_easier() {
        for difficulty in (2..600).chain([1 << 20, 1_000_003]) {
            let work_bits = work_bits(difficulty).expect("it is 2 or more");
            let all: Vec<_> = periods(Rule::InForce, difficulty as f64, 1.0).collect();
            for (age, one) in all.iter().enumerate() {
                let effective = work_bits.effective_difficulty(0, 3 + age as u32).expect("it is usable");
                let effective = f64::from(effective);
                assert!((effective - one.effective_difficulty).abs() <= 1.0, "{difficulty} {age}");
            }
            assert_eq!(work_bits.effective_difficulty(0, 3 + all.len() as u32), None, "{difficulty}");
        }
    }

    #[test]
    fn without_a_line_the_lowest_difficulties_are_best_and_of_equal_ones_the_higher() {
        assert_eq!(recommend(&documented(), Rule::InForce).difficulty, 4);
        assert_eq!(recommend(&documented(), Rule::Documentation).difficulty, 2);
    }

    #[test]
    fn a_line_asks_for_the_difficulty_at_which_everything_found_just_fits() {
        let supply = Supply::new(vec![(128.0, 700e3)], Some(50e6), BLOCK_TIME);
        let advice = recommend(&supply, Rule::InForce);
        // 700,000 e/s, and 50 Mbit/s × 0.9 / 8192 bits = 5493 announcements a second.
        assert_eq!(advice.difficulty, 128);
        assert!(advice.sent_per_s == advice.found_per_s && advice.upload_mbit_per_s < 45.0, "{advice:?}");
        let easier = Point::new(&supply, 127);
        assert!(easier.sent_per_s < easier.found_per_s);
        let half = Supply::new(vec![(128.0, 700e3)], Some(25e6), BLOCK_TIME);
        assert_eq!(recommend(&half, Rule::InForce).difficulty, 255);
        let wide = Supply::new(vec![(128.0, 700e3)], Some(1e12), BLOCK_TIME);
        assert_eq!(recommend(&wide, Rule::InForce).difficulty, 4);
    }

    #[test]
    fn hardware_that_is_slow_at_low_difficulty_gets_a_higher_one() {
        // Tables cost so much that at 2 there are hardly more announcements than at 16.
        let rates = vec![(16.0, 160e3), (2.0, 21e3)];
        let supply = Supply::new(rates, None, BLOCK_TIME);
        assert_eq!(supply.rate(2.0), 21e3);
        assert_eq!((supply.rate(1.0), supply.rate(4096.0)), (21e3, 160e3));
        let between = supply.rate(32f64.sqrt());
        assert!((between - 90.5e3).abs() < 1.0, "{between}");
        // What the easier announcements gain is lost by the tables, and the other way round.
        assert_eq!(recommend(&supply, Rule::InForce).difficulty, 11);
        let power = |difficulty| Point::new(&supply, difficulty).power(Rule::InForce);
        assert!(power(11) > power(10) && power(11) > power(12));
    }

    #[test]
    fn the_picture_shows_both_rules_on_both_axes() {
        let svg = svg(&documented(), 8, &curve(&documented(), 64));
        assert_eq!(svg.matches("<polyline").count(), 4);
        for text in ["rule in force", "documentation", "power multiplier", "difficulty", "block periods"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
