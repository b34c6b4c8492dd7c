//! One setup at one difficulty.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kernels::WorkBits;

use super::{
    BenchError, Measurement, Setup, Stopper,
    energy::Meter,
    machine::resident_memory,
    rig::{Event, Keep, Rig},
    window::{Reading, Window},
};
use crate::{backend::Counters, self_test, values::Found};

/// How often time is looked at while no round ends.
const TICK: Duration = Duration::from_millis(100);

/// How often those who watch are told, and energy and memory are read.
const TELL: Duration = Duration::from_millis(250);

/// Announcements that are validated at the end, the newest ones: those of several chunks of the search.
const SAMPLE: usize = 256;

/// What is read at both ends of the measured time.
struct Readings {
    counters: Vec<Counters>,
    /// Joules used since the meter began, if it knows.
    joules: Option<f64>,
}

/// Measures a setup at a difficulty, with the energy that it uses; `None` if it was stopped before there was anything to
/// measure. Also gives why energy is not told, if it is not.
pub fn measure(
    setup: &Setup,
    difficulty: u64,
    duration: Duration,
    stopper: &Stopper,
    watch: &mut dyn FnMut(f64, Option<f64>),
) -> Result<(Option<Measurement>, Option<String>), BenchError> {
    watch(0.0, None);
    let mut station = Station::start(setup, difficulty, SAMPLE)?;
    let mut meter = Meter::of(station.rig.backends().iter().map(|backend| backend.info()));
    let turn = Turn { duration, first_hard_nonce: 0 };
    let measured = station.measure(turn, &mut meter, stopper, watch)?;
    Ok((measured, meter.absence()))
}

/// A setup that is ready to be measured, once or again and again. Between its turns it rests.
pub struct Station {
    setup: Setup,
    difficulty: u64,
    work_bits: WorkBits,
    sample: Arc<Mutex<VecDeque<Arc<Found>>>>,
    rig: Rig,
}

/// What is measured at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How long, without the warm-up.
    pub duration: Duration,
    /// The first hard nonce that is mined: turns with the same one mine the same rounds.
    pub first_hard_nonce: u32,
}

impl Station {
    /// Starts the backends of a setup. Of what they find in a turn, the newest `sample` announcements are validated.
    ///
    /// # Errors
    /// If they do not start.
    pub fn start(setup: &Setup, difficulty: u64, sample: usize) -> Result<Self, BenchError> {
        let work_bits = WorkBits::at_least(difficulty);
        let kept = Arc::new(Mutex::new(VecDeque::with_capacity(sample)));
        let rig = Rig::start(setup, work_bits, sampler(kept.clone(), sample))?;
        Ok(Self { setup: setup.clone(), difficulty, work_bits, sample: kept, rig })
    }

    /// Rounds that each of the backends holds while it is measured.
    pub fn capacities(&self) -> Vec<usize> {
        self.rig.backends().iter().map(|backend| backend.info().capacity).collect()
    }

    /// Measures it; `None` if it was stopped before there was anything to measure.
    ///
    /// # Errors
    /// If a backend stops by itself, or finds what is not valid.
    pub fn measure(
        &mut self,
        turn: Turn,
        meter: &mut Meter,
        stopper: &Stopper,
        watch: &mut dyn FnMut(f64, Option<f64>),
    ) -> Result<Option<Measurement>, BenchError> {
        let capacities = self.capacities();
        let rig = &mut self.rig;
        rig.clear(turn.first_hard_nonce)?;
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).clear();

        let clock = Instant::now();
        let start = Readings { counters: rig.counters(), joules: meter.joules() };
        let start = Reading { at: clock.elapsed(), value: start };
        for (backend, capacity) in capacities.iter().enumerate() {
            rig.hand_in(backend, *capacity, false);
        }
        let mut window = Window::new(start, turn.duration, capacities);
        let mut resident = resident_memory();
        let mut told = Duration::ZERO;
        while !window.is_over() {
            let event = rig.wait(TICK)?;
            let now = clock.elapsed();
            let hashed = |first: &Reading<Readings>| {
                total_hashes(&rig.counters()) - total_hashes(&first.value.counters)
            };
            let hashed_some = window.first().is_some_and(|first| hashed(first) > 0);
            let mut read = || Readings { counters: rig.counters(), joules: meter.joules() };
            if stopper.is_asked() {
                window.stop(now, read);
                break;
            }
            if let Some(Event::Ended { backend, .. }) = event {
                window.round_ended(now, backend, &mut read);
                window.time_passes(now, hashed_some, read);
                rig.hand_in(backend, 1, false);
            } else {
                window.time_passes(now, hashed_some, read);
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
        rig.clear(0)?;

        let devices: Vec<_> = rig.backends().iter().map(|backend| backend.info().clone()).collect();
        let sample: Vec<_> = self.sample.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        validate(&sample, |backend| devices[backend].name.clone())?;
        let hashes = |readings: &Readings| total_hashes(&readings.counters);
        let measured = window.into_measured();
        // One that was stopped may have made tables alone.
        let measured = measured.filter(|m| hashes(&m.last.value) > hashes(&m.first.value));
        Ok(measured.map(|measured| {
            let counters = measured.first.value.counters.iter().zip(&measured.last.value.counters);
            let done = counters.map(|(first, last)| done_between(first, last));
            let joules =
                measured.last.value.joules.zip(measured.first.value.joules).map(|(last, first)| last - first);
            Measurement::new(
                &self.setup,
                self.difficulty,
                self.work_bits,
                measured.last.at - measured.first.at,
                measured.whole_rounds,
                devices.iter().zip(done).collect(),
                resident,
                joules,
            )
        }))
    }
}

/// Keeps the newest announcements and passes none on.
fn sampler(sample: Arc<Mutex<VecDeque<Arc<Found>>>>, most: usize) -> Keep {
    Box::new(move |announcements| {
        let mut sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
        for found in announcements {
            if sample.len() == most {
                sample.pop_front();
            }
            sample.push_back(found);
        }
        Vec::new()
    })
}

fn validate(sample: &[Arc<Found>], name: impl Fn(usize) -> String) -> Result<(), BenchError> {
    let pairs: Vec<_> = sample.iter().map(|found| (&found.announcement, &found.job.parent_hash.0)).collect();
    let verdicts = self_test::validator().validate_batch(&pairs);
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

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;
    use crate::{
        backend::{BackendEvent, Sink, cpu},
        bench::rig,
        values::BackendId,
    };

    const DURATION: Duration = Duration::from_millis(400);

    fn one_thread() -> cpu::Settings {
        cpu::Settings { threads: NonZero::new(1), ..cpu::Settings::default() }
    }

    fn measured(setup: &Setup, difficulty: u64) -> Result<Option<Measurement>, BenchError> {
        let turn = Turn { duration: DURATION, first_hard_nonce: 0 };
        let mut station = Station::start(setup, difficulty, SAMPLE)?;
        station.measure(turn, &mut Meter::of_nothing(), &Stopper::default(), &mut |_, _| ())
    }

    #[test]
    fn figures_agree_with_each_other() {
        let measured = measured(&Setup::cpu(one_thread()), 2).expect("it starts").expect("nobody stops it");
        let total = &measured.total;
        assert!(total.hashes > 0 && measured.seconds >= 0.4, "{measured:?}");
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b;
        assert!(close(total.hashes_per_s * measured.seconds, total.hashes as f64), "{total:?}");
        assert!(
            close(total.anns_per_s, total.hashes_per_s / 2.0) && close(total.e_per_s, total.hashes_per_s)
        );
        assert!(close(total.rounds_per_s, total.hashes_per_s / 1024.0), "{total:?}");
        assert!(close(measured.upload_mbit_per_s, total.anns_per_s * 8192.0 / 1e6));
        // Two standard deviations of what luck does, and then some.
        let expected = total.hashes as f64 / 2.0;
        assert!((total.found as f64 - expected).abs() < 5.0 * expected.sqrt(), "{total:?}");
        assert!(total.round_time.steps().iter().all(|time| *time > 0.0), "{total:?}");
        assert_eq!(measured.devices.len(), 1);
        assert_eq!(&measured.devices[0].figures, total);
        assert_eq!(measured.energy.map(|energy| energy.joules), Some(0.0), "a meter of nothing");
    }

    #[test]
    fn figures_of_a_machine_that_computes_wrongly_are_refused() {
        let wrong = rig::planted(|found| found.announcement.as_bytes_mut()[1000] ^= 1);
        match measured(&wrong, 2) {
            Err(BenchError::Invalid { backend, wrong: 1.., looked_at: SAMPLE }) => assert_eq!(backend, "cpu"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_backend_that_stops_by_itself_ends_the_run() {
        let start = |sink: Sink| {
            let failing: Sink = Arc::new(move |event| {
                if let BackendEvent::Ended { backend, .. } = event {
                    sink(BackendEvent::Failed { backend, error: "it is lost".into() });
                }
            });
            let backend = cpu::CpuBackend::start(BackendId(0), one_thread(), failing).expect("it starts");
            Ok(vec![Box::new(backend) as _])
        };
        let setup = Setup { start: std::rc::Rc::new(start), ..Setup::cpu(one_thread()) };
        let error = measured(&setup, 2).expect_err("it fails").to_string();
        assert_eq!(error, "cpu has stopped: it is lost");
    }

    #[test]
    fn however_short_the_time_something_is_measured() {
        let setup = Setup::cpu(one_thread());
        let short = Duration::from_nanos(1);
        let measured = measure(&setup, 2, short, &Stopper::default(), &mut |_, _| ());
        let (measured, absence) = measured.expect("it starts");
        let measured = measured.expect("nobody stops it");
        assert_eq!(measured.energy.is_none(), absence.is_some(), "it is told, or why not: {absence:?}");
        assert!(measured.total.hashes > 0 && measured.total.e_per_s > 0.0, "{measured:?}");
    }

    #[test]
    fn one_that_is_stopped_at_once_has_measured_nothing() {
        let stopper = Stopper::default();
        stopper.stop();
        let setup = Setup::cpu(one_thread());
        let none = measure(&setup, 2, DURATION, &stopper, &mut |_, _| ());
        assert_eq!(none.expect("it starts").0, None);
    }
}
