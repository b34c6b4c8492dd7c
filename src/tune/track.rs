//! Measures settings, by what `pktmine bench` measures with.
//!
//! The backends of the best so far and of a candidate stay at hand, of which one rests while the other mines: to start
//! one takes longer than a turn, on a GPU above all. Where both do not find room in a card's memory, only one is at hand.

use std::time::{Duration, Instant};

use super::{
    Choice, Machine,
    search::{Course, Outcome, Request},
};
use crate::{
    backend::{
        Which, cpu,
        gpu::{self, Plan},
    },
    bench::{BenchError, Progress, Setup, Station, Stopper, Turn, energy::Meter},
};

/// Announcements that are validated after each turn.
const SAMPLE: usize = 16;

/// Hard nonces from one pair to the next: more than a turn mines or looks at.
const NONCES: u32 = 1 << 20;

/// Called again and again, for people who watch.
pub type Watch<'a> = Box<dyn FnMut(&Progress) + 'a>;

/// Measures settings on this machine.
pub struct Track<'a> {
    machine: &'a Machine,
    difficulty: u64,
    budget: Duration,
    begin: Instant,
    stopper: Stopper,
    /// At hand, the one used last at the end.
    stations: Vec<(Choice, Which, Station)>,
    /// How many may be.
    room: usize,
    watch: Watch<'a>,
}

impl<'a> Track<'a> {
    /// Measures at a difficulty. The time begins here.
    pub fn new(
        machine: &'a Machine,
        difficulty: u64,
        budget: Duration,
        stopper: Stopper,
        watch: Watch<'a>,
    ) -> Self {
        let begin = Instant::now();
        Self { machine, difficulty, budget, begin, stopper, stations: Vec::new(), room: 2, watch }
    }

    /// Puts the backends for a choice at the end of the list.
    fn make_ready(&mut self, choice: &Choice, place: Which) -> Result<(), String> {
        if let Some(at) = self.stations.iter().position(|(known, of, _)| (known, *of) == (choice, place)) {
            let station = self.stations.remove(at);
            self.stations.push(station);
            return Ok(());
        }
        loop {
            // Those that have not been used for longest make room first.
            self.stations.drain(..self.stations.len().saturating_sub(self.room - 1));
            let alone = self.stations.is_empty();
            let started = self.start(choice, place, alone);
            match started {
                Ok(station) => {
                    self.stations.push((choice.clone(), place, station));
                    return Ok(());
                }
                Err(reason) if alone => return Err(reason),
                Err(_) => {
                    self.room = 1;
                    self.stations.clear();
                }
            }
        }
    }

    fn start(&self, choice: &Choice, place: Which, alone: bool) -> Result<Station, String> {
        let setup = self.setup(choice, place)?;
        let station = Station::start(&setup, self.difficulty, SAMPLE).map_err(|error| error.to_string())?;
        if place != Which::Cpu {
            let planned = |about: &gpu::About| Plan::new(about.limits, choice.gpu_rounds);
            let planned = self.machine.gpus.iter().filter_map(|about| planned(about).ok());
            let held = station.capacities();
            // GPUs come first. What a card has no memory for it halves by itself, and then it is not what was asked for.
            let is_less = planned.zip(&held).any(|(plan, held)| *held < plan.rounds_held());
            if is_less && (choice.gpu_rounds.is_some() || !alone) {
                return Err("the card has too little memory".into());
            }
        }
        Ok(station)
    }

    fn setup(&self, choice: &Choice, place: Which) -> Result<Setup, String> {
        let cpu = cpu::Settings {
            threads: choice.threads,
            team: choice.team,
            kernel: choice.kernel,
            ..cpu::Settings::default()
        };
        let tuning = match choice.gpu_tuning.as_slice() {
            [] => gpu::Tuning::default(),
            settings => settings.join(",").parse()?,
        };
        let devices = self.machine.selection.clone();
        let gpu = gpu::Settings { devices, rounds: choice.gpu_rounds, tuning, late: false };
        Ok(match place {
            Which::Cpu => {
                // Alone, the processors mine with the threads that they have beside GPUs.
                let threads = cpu.threads.or_else(|| self.machine.usual_threads().try_into().ok());
                Setup::cpu(cpu::Settings { threads, ..cpu })
            }
            Which::Gpu => Setup::gpu(gpu),
            Which::Auto => Setup::all(cpu, gpu),
        })
    }
}

impl Course<Choice, Which> for Track<'_> {
    type Error = BenchError;

    fn turn(&mut self, request: &Request<'_, Choice, Which>) -> Result<Outcome, BenchError> {
        if self.stopper.is_asked() {
            return Ok(Outcome::Stopped);
        }
        let (number, of) = (request.pair as usize, 0);
        let at = |begin: &Instant| begin.elapsed().as_secs_f64() / self.budget.as_secs_f64();
        let fraction = at(&self.begin).clamp(0.001, 1.0);
        (self.watch)(&Progress { what: request.what, number, of, fraction, rate: None });
        if let Err(reason) = self.make_ready(request.choice, request.place) {
            return Ok(Outcome::Unusable(reason));
        }
        let (_, _, station) = self.stations.last_mut().expect("it was just made ready");
        let turn = Turn { duration: request.length, first_hard_nonce: request.pair.wrapping_mul(NONCES) };
        let (begin, budget, watch) = (self.begin, self.budget, &mut self.watch);
        let mut tell = |_, rate| {
            let fraction = (begin.elapsed().as_secs_f64() / budget.as_secs_f64()).clamp(0.001, 1.0);
            watch(&Progress { what: request.what, number, of, fraction, rate });
        };
        // Energy is nobody's question here.
        let measured = station.measure(turn, &mut Meter::of_nothing(), &self.stopper, &mut tell);
        let held = station.capacities().iter().sum();
        if self.stopper.is_asked() {
            return Ok(Outcome::Stopped);
        }
        match measured {
            Ok(Some(measured)) => {
                let (rate, rounds_per_s) = (measured.total.e_per_s, measured.total.rounds_per_s);
                Ok(Outcome::Measured { rate, rounds_per_s, held })
            }
            Ok(None) => Ok(Outcome::Stopped),
            // What errs or stops with some settings may do well with others.
            Err(error) => {
                self.stations.pop();
                Ok(Outcome::Unusable(error.to_string()))
            }
        }
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;

    fn request(choice: &Choice, pair: u32) -> Request<'_, Choice, Which> {
        let length = Duration::from_millis(100);
        Request { choice, place: Which::Cpu, pair, length, what: "a test" }
    }

    #[test]
    fn settings_are_measured_in_turns_and_those_that_do_not_mine_are_told() {
        let machine = Machine::here(Which::Cpu, None).expect("processors");
        let mut told = 0;
        let stopper = Stopper::default();
        let watch: Watch = Box::new(|progress| told += usize::from(progress.what == "a test"));
        let mut track = Track::new(&machine, 2, Duration::from_secs(9), stopper.clone(), watch);
        let choices = [NonZero::new(1), None].map(|threads| Choice { threads, ..Choice::default() });
        for (pair, choice) in [(1, &choices[0]), (1, &choices[1]), (2, &choices[1]), (2, &choices[0])] {
            match track.turn(&request(choice, pair)).expect("it goes on") {
                Outcome::Measured { rate, rounds_per_s, held } => {
                    assert!(rate > 0.0 && rounds_per_s > 0.0 && held >= 2);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(track.stations.len(), 2, "both stay at hand");
        let nonsense = Choice { gpu_tuning: vec!["speed=11".into()], ..Choice::default() };
        match track.turn(&request(&nonsense, 3)).expect("it goes on") {
            Outcome::Unusable(why) => assert!(why.contains("there is no such key"), "{why}"),
            other => panic!("{other:?}"),
        }
        stopper.stop();
        assert_eq!(track.turn(&request(&choices[0], 4)).expect("it ends"), Outcome::Stopped);
        drop(track);
        assert!(told >= 4);
    }
}
