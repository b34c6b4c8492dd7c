//! Times variants in turns, A B C A B C …, so that what the machine does meanwhile meets all of them alike.

mod clock;

pub use clock::Clock;

/// What one variant came to, turn by turn: seconds per unit of one measure.
pub type Series = Vec<f64>;

/// Gives every variant a slot in each of `turns` turns, after one that does not count. A slot returns one figure for each
/// of its measures. The series come by measure, then by variant.
pub fn alternate<V>(
    turns: usize,
    variants: &mut [V],
    mut slot: impl FnMut(usize, &mut V) -> Vec<f64>,
) -> Vec<Vec<Series>> {
    let mut measures: Vec<Vec<Series>> = Vec::new();
    for turn in 0..=turns {
        for at in 0..variants.len() {
            let figures = slot(turn, &mut variants[at]);
            measures.resize(figures.len(), vec![Vec::new(); variants.len()]);
            if turn > 0 {
                for (measure, figure) in measures.iter_mut().zip(figures) {
                    measure[at].push(figure);
                }
            }
        }
    }
    measures
}

/// Seconds that `work` takes: of this thread's processor time where there is a clock for that, so that sharing the
/// machine costs no more than cache and frequency.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let clock = Clock::of_thread();
    work();
    clock.seconds()
}

/// A series in short.
#[derive(Clone, Copy)]
pub struct Summary {
    /// Half of the turns were faster.
    pub median: f64,
    /// The fastest turn.
    pub min: f64,
    /// The slowest turn.
    pub max: f64,
    /// How many times as fast as the reference: the median of the ratios within a turn.
    pub speedup: f64,
}

/// Sums up a series beside the reference's.
///
/// # Panics
/// If a series is empty or they differ in length.
pub fn summarize(series: &[f64], reference: &[f64]) -> Summary {
    assert_eq!(series.len(), reference.len(), "one figure per turn");
    let ratios: Vec<f64> = reference.iter().zip(series).map(|(reference, own)| reference / own).collect();
    Summary {
        median: median(series),
        min: series.iter().copied().fold(f64::INFINITY, f64::min),
        max: series.iter().copied().fold(0.0, f64::max),
        speedup: median(&ratios),
    }
}

/// The middle one in order, or the mean of the two in the middle.
///
/// # Panics
/// If there is none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}
