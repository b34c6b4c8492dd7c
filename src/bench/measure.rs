//! One setup at one difficulty.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kernels::{Validator, WorkBits};

use super::{
    BenchError, Measurement, Setup, Stopper,
    energy::Meter,
    machine::resident_memory,
    rig::{Event, Keep, Rig},
    window::{Reading, Window},
};
use crate::{backend::Counters, values::Found};

/// How often time is looked at while no round ends.
const TICK: Duration = Duration::from_millis(100);

/// How often those who watch are told, and energy and memory are read.
const TELL: Duration = Duration::from_millis(250);

/// Announcements that are validated at the end, the newest ones.
const SAMPLE: usize = 64;

/// What is read at both ends of the measured time.
struct Readings {
    counters: Vec<Counters>,
    /// Joules used since the meter began, if it knows.
    joules: Option<f64>,
}

/// Measures a setup at a difficulty; `None` if it was stopped before there was anything to measure.
pub fn measure(
    setup: &Setup,
    difficulty: u64,
    duration: Duration,
    meter: &mut Meter,
    stopper: &Stopper,
    watch: &mut dyn FnMut(f64, Option<f64>),
) -> Result<Option<Measurement>, BenchError> {
    let work_bits = WorkBits::at_least(difficulty);
    watch(0.0, None);
    let sample = Arc::new(Mutex::new(VecDeque::with_capacity(SAMPLE)));
    let mut rig = Rig::start(setup, work_bits, sampler(sample.clone()))?;

    let clock = Instant::now();
    let capacities: Vec<usize> = rig.backends().iter().map(|backend| backend.info().capacity).collect();
    let start = Readings { counters: rig.counters(), joules: meter.joules() };
    let start = Reading { at: clock.elapsed(), value: start };
    for (backend, capacity) in capacities.iter().enumerate() {
        rig.hand_in(backend, *capacity, false);
    }
    let mut window = Window::new(start, duration, capacities);
    let mut resident = resident_memory();
    let mut told = Duration::ZERO;
    while !window.is_over() {
        let event = rig.wait(TICK)?;
        let now = clock.elapsed();
        let mut read = || Readings { counters: rig.counters(), joules: meter.joules() };
        if stopper.is_asked() {
            window.stop(now, read);
            break;
        }
        if let Some(Event::Ended { backend, .. }) = event {
            window.round_ended(now, backend, &mut read);
            window.time_passes(now, read);
            rig.hand_in(backend, 1, false);
        } else {
            window.time_passes(now, read);
        }
        if now >= told + TELL {
            told = now;
            meter.joules();
            resident = resident.max(resident_memory());
            let rate = window.first().map(|first| {
                let hashes = total_hashes(&rig.counters()) - total_hashes(&first.value.counters);
                hashes as f64 / (now - first.at).as_secs_f64().max(1e-3)
            });
            watch(window.fraction(now), rate.filter(|rate| *rate > 0.0));
        }
    }
    watch(1.0, None);

    let devices: Vec<_> = rig.backends().iter().map(|backend| backend.info().clone()).collect();
    drop(rig);
    let sample: Vec<_> =
        sample.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect::<Vec<Arc<Found>>>();
    validate(&sample, |backend| devices[backend].name.clone())?;
    Ok(window.into_measured().map(|measured| {
        let counters = measured.first.value.counters.iter().zip(&measured.last.value.counters);
        let done = counters.map(|(first, last)| done_between(first, last));
        let joules =
            measured.last.value.joules.zip(measured.first.value.joules).map(|(last, first)| last - first);
        Measurement::new(
            setup,
            difficulty,
            work_bits,
            measured.last.at - measured.first.at,
            measured.whole_rounds,
            devices.iter().zip(done).collect(),
            resident,
            joules,
        )
    }))
}

/// Keeps the newest announcements and passes none on.
fn sampler(sample: Arc<Mutex<VecDeque<Arc<Found>>>>) -> Keep {
    Box::new(move |announcements| {
        let mut sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
        for found in announcements {
            if sample.len() == SAMPLE {
                sample.pop_front();
            }
            sample.push_back(found);
        }
        Vec::new()
    })
}

fn validate(sample: &[Arc<Found>], name: impl Fn(usize) -> String) -> Result<(), BenchError> {
    let pairs: Vec<_> = sample.iter().map(|found| (&found.announcement, &found.job.parent_hash.0)).collect();
    let verdicts = Validator::new().validate_batch(&pairs);
    let wrong: Vec<_> = sample.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_err()).collect();
    match wrong.first() {
        None => Ok(()),
        Some((found, _)) => Err(BenchError::Invalid {
            backend: name(found.backend.0),
            wrong: wrong.len(),
            looked_at: sample.len(),
        }),
    }
}

fn total_hashes(counters: &[Counters]) -> u64 {
    counters.iter().map(|counters| counters.hashes).sum()
}

/// What was done between two moments.
fn done_between(first: &Counters, last: &Counters) -> Counters {
    let mut done = Counters {
        found: last.found - first.found,
        hashes: last.hashes - first.hashes,
        items: last.items - first.items,
        rounds: last.rounds - first.rounds,
        ..*last
    };
    for step in crate::backend::Step::ALL {
        done.steps[step] = last.steps[step].saturating_sub(first.steps[step]);
    }
    done
}
