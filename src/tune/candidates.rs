//! What is worth a try on a machine, one dimension after another.
//!
//! | dimension | candidates | measured with |
//! |---|---|---|
//! | kernel | all others that the processor can run | processors |
//! | threads | one for each core, one less than processors, as many as the caches have room for rounds; beside GPUs also one for each processor | all that mines |
//! | team | 1, half of a cache's processors, all of them | processors |
//! | rounds on GPUs | twice and half as many as planned, and on in the better direction, as far as the driver lets them | GPUs |
//! | settings of GPU passes | [`PASSES`], each by itself, and soft nonces at a time | GPUs |
//!
//! What makes no difference is left out: a team that is the usual one, a number of threads that is what mines anyway.
//! `unchecked` of the GPU settings is never tried: checks of what shaders read and write are not for a search to give up.

use std::num::NonZero;

use kernels::Kernel;

use super::{
    Choice, Machine,
    search::{Candidates, Dimension},
};
use crate::backend::{
    Which, cpu,
    gpu::{self, Plan},
};

/// Settings of GPU passes that hardware may like better, most promising first. Nobody has measured them on many cards, so
/// that each machine has to find out.
///
/// Outputs in workgroup memory take 1 KiB a lane: that is what bounds how many lanes a multiprocessor has, and more
/// than 32 lanes of a workgroup do not fit into what most devices give one.
pub const PASSES: [&str; 9] = [
    "output=storage",
    "registers=private:261",
    "loop-bounds=off",
    "tile=4096",
    "chacha-loop=on",
    "mixed-rows=on",
    "advance-lanes=128",
    "output=storage,execute-lanes=64",
    "int64=off",
];

/// What is tried on a machine, in order: what pays most comes first, since time may be short.
pub fn dimensions(machine: &Machine) -> Vec<Dimension<Choice, Which>> {
    let mut all = Vec::new();
    let mut add = |place, candidates| all.push(Dimension { place, candidates });
    if machine.which != Which::Cpu {
        add(Which::Gpu, gpu_rounds(machine, false));
        add(Which::Gpu, gpu_rounds(machine, true));
        add(Which::Gpu, states(machine));
        for setting in PASSES {
            add(Which::Gpu, gpu_setting(setting));
        }
    }
    if machine.which != Which::Gpu {
        add(Which::Cpu, kernels(&machine.cpu));
        add(machine.which, threads(machine));
        add(Which::Cpu, teams(machine));
    }
    all
}

fn kernels(cpu: &cpu::About) -> Candidates<Choice> {
    let others: Vec<Kernel> = cpu.kernels.iter().skip(1).copied().collect();
    Box::new(move |best| {
        let choice = |kernel: &Kernel| Choice { kernel: Some(*kernel), ..best.clone() };
        others.iter().map(|kernel| (choice(kernel), format!("kernel {kernel}"))).collect()
    })
}

fn threads(machine: &Machine) -> Candidates<Choice> {
    let numbers = thread_numbers(
        machine.cpu.processors,
        machine.usual_threads(),
        machine.cpu.cores,
        cpu::rounds_in_cache(&machine.cpu.caches),
    );
    Box::new(move |best| {
        let choice = |threads| Choice { threads: Some(threads), ..best.clone() };
        numbers.iter().map(|threads| (choice(*threads), plural(threads.get(), "thread"))).collect()
    })
}

fn thread_numbers(
    processors: usize,
    usual: usize,
    cores: Option<usize>,
    fitting: Option<usize>,
) -> Vec<NonZero<usize>> {
    let beside_gpus = (usual < processors).then_some(processors);
    let mut numbers = Vec::new();
    for number in [cores, Some(usual - 1), beside_gpus, fitting].into_iter().flatten() {
        if let Some(number) = NonZero::new(number)
            && number.get() != usual
            && number.get() <= processors
            && !numbers.contains(&number)
        {
            numbers.push(number);
        }
    }
    numbers
}

fn teams(machine: &Machine) -> Candidates<Choice> {
    let (caches, usual) = (machine.cpu.caches.clone(), machine.usual_threads());
    Box::new(move |best| {
        let threads = best.threads.map_or(usual, NonZero::get);
        let sizes = team_sizes(threads, &caches);
        let choice = |team| Choice { team: Some(team), ..best.clone() };
        sizes.into_iter().map(|team| (choice(team), format!("teams of {team}"))).collect()
    })
}

fn team_sizes(threads: usize, caches: &[cpu::CacheGroup]) -> Vec<NonZero<usize>> {
    let whole = caches.iter().map(|cache| cache.processors.len()).max().unwrap_or(1).min(threads);
    let mut sizes = Vec::new();
    for size in [whole, whole / 2, 1].into_iter().filter_map(NonZero::new) {
        if !cpu::is_usual_team(threads, size.get(), caches) && !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    sizes
}

/// Rounds beside the planned number; `further`: on from what was better.
fn gpu_rounds(machine: &Machine, further: bool) -> Candidates<Choice> {
    let limits: Vec<gpu::Limits> = machine.gpus.iter().map(|about| about.limits).collect();
    Box::new(move |best| {
        let planned = |rounds| limits.iter().map(move |limits| Plan::new(*limits, rounds));
        // Cards that differ have one setting: what the smallest is planned for.
        let Some(usual) = planned(None).filter_map(Result::ok).map(|plan| plan.slots).min() else {
            return Vec::new();
        };
        let numbers = match (further, best.gpu_rounds.map(NonZero::get)) {
            (false, _) => vec![usual * 2, usual / 2],
            (true, Some(better)) if better > usual => vec![better * 2, better * 4],
            (true, Some(better)) => vec![better / 2],
            (true, None) => Vec::new(),
        };
        let possible = numbers.into_iter().filter_map(NonZero::new);
        let possible = possible.filter(|rounds| planned(Some(*rounds)).all(|plan| plan.is_ok()));
        let choice = |rounds| Choice { gpu_rounds: Some(rounds), ..best.clone() };
        possible.map(|rounds| (choice(rounds), format!("{} on each GPU", plural(rounds, "round")))).collect()
    })
}

/// Soft nonces that are searched at a time.
fn states(machine: &Machine) -> Candidates<Choice> {
    let limits: Vec<gpu::Limits> = machine.gpus.iter().map(|about| about.limits).collect();
    Box::new(move |best| {
        let plans =
            || limits.iter().filter_map(|limits| Some((Plan::new(*limits, best.gpu_rounds).ok()?, limits)));
        let Some(usual) = plans().map(|(plan, _)| plan.states).min() else { return Vec::new() };
        let fits =
            |states: &u32| plans().all(|(plan, limits)| plan.with_states(*states, *limits).states == *states);
        let numbers = [usual.saturating_mul(2), usual / 2].into_iter().filter(fits);
        numbers.map(|states| with(best, &format!("states={states}"))).collect()
    })
}

fn gpu_setting(setting: &'static str) -> Candidates<Choice> {
    Box::new(move |best| vec![with(best, setting)])
}

/// The best so far with other settings of GPU passes.
fn with(best: &Choice, settings: &str) -> (Choice, String) {
    let key = |setting: &str| setting.split('=').next().map(str::to_owned);
    let mut choice = best.clone();
    for setting in settings.split(',') {
        choice.gpu_tuning.retain(|other| key(other) != key(setting));
        choice.gpu_tuning.push(setting.to_owned());
    }
    (choice, format!("{settings} on GPUs"))
}

fn plural(number: impl std::fmt::Display, what: &str) -> String {
    let number = number.to_string();
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::{Kind, Limits};

    fn caches(count: usize, processors: usize, mib: usize) -> Vec<cpu::CacheGroup> {
        let group = |at: usize| cpu::CacheGroup {
            processors: (at * processors..(at + 1) * processors).collect(),
            bytes: Some(mib << 20),
        };
        (0..count).map(group).collect()
    }

    fn numbers<T: Into<usize> + Copy>(list: &[NonZero<usize>], expected: &[T]) {
        let list: Vec<usize> = list.iter().map(|number| number.get()).collect();
        assert_eq!(list, expected.iter().map(|number| (*number).into()).collect::<Vec<usize>>());
    }

    #[test]
    fn threads_are_tried_by_cores_caches_and_what_is_left_for_the_system() {
        numbers(&thread_numbers(16, 16, Some(8), Some(6)), &[8_u8, 15, 6]);
        numbers(&thread_numbers(2, 2, Some(2), Some(3)), &[1_u8]);
        numbers(&thread_numbers(1, 1, Some(1), None), &[] as &[u8]);
        numbers(&thread_numbers(8, 7, Some(8), None), &[8_u8, 6]);
    }

    #[test]
    fn teams_are_tried_that_are_not_the_usual_ones() {
        // Tables of both threads fit: teams of one are usual.
        numbers(&team_sizes(2, &caches(1, 2, 32)), &[2_u8]);
        // Threads of several caches are bound, which teams of the user's are not.
        numbers(&team_sizes(16, &caches(2, 8, 32)), &[8_u8, 4, 1]);
        numbers(&team_sizes(1, &caches(1, 8, 32)), &[] as &[u8]);
        // Too many threads for one cache: nine rounds for all of them are usual, two are a team's of the user.
        numbers(&team_sizes(64, &caches(1, 64, 96)), &[64_u8, 32, 1]);
    }

    fn gpu_machine(kind: Kind, binding: u64) -> Machine {
        let mut about = gpu::About::example("X");
        about.limits = Limits { kind, binding, buffer: 1 << 40 };
        let cpu = cpu::About::this_machine();
        Machine { cpu, gpus: vec![about], which: Which::Gpu, selection: gpu::Selection::Suitable }
    }

    fn whats(candidates: &Candidates<Choice>, best: &Choice) -> Vec<String> {
        candidates(best).into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn rounds_are_tried_around_the_plan_and_on_in_the_better_direction_within_limits() {
        let large = gpu_machine(Kind::Discrete, 4 << 30);
        let on = |rounds| Choice { gpu_rounds: NonZero::new(rounds), ..Choice::default() };
        let usual = Choice::default();
        assert_eq!(
            whats(&gpu_rounds(&large, false), &usual),
            ["256 rounds on each GPU", "64 rounds on each GPU"]
        );
        assert_eq!(whats(&gpu_rounds(&large, true), &on(256)), ["512 rounds on each GPU"], "1024 do not fit");
        assert_eq!(whats(&gpu_rounds(&large, true), &on(64)), ["32 rounds on each GPU"]);
        assert_eq!(whats(&gpu_rounds(&large, true), &usual), [""; 0]);
        let small = gpu_machine(Kind::Discrete, 128 << 20);
        assert_eq!(whats(&gpu_rounds(&small, false), &usual), ["8 rounds on each GPU"]);
        let tiny = gpu_machine(Kind::Software, 1 << 20);
        assert_eq!(whats(&gpu_rounds(&tiny, false), &usual), [""; 0], "it cannot mine at all");
        assert_eq!(whats(&states(&large), &usual), ["states=1048576 on GPUs", "states=262144 on GPUs"]);
    }

    #[test]
    fn every_setting_that_is_tried_is_one_that_devices_know() {
        for setting in PASSES {
            let tuning: gpu::Tuning = setting.parse().expect(setting);
            assert_ne!(tuning, gpu::Tuning::default());
            // The least that a device has which mines with outputs in workgroup memory.
            let limits = wgpu::Limits { max_compute_workgroup_storage_size: 32 << 10, ..Default::default() };
            assert!(tuning.config(&limits).execute.workgroup_bytes() <= 32 << 10, "{setting}");
        }
        let best = Choice { gpu_tuning: vec!["tile=0".into(), "states=8".into()], ..Choice::default() };
        assert_eq!(with(&best, "tile=4096").0.gpu_tuning, ["states=8", "tile=4096"]);
        assert_eq!(with(&best, "states=64,tile=0").0.gpu_tuning, ["states=64", "tile=0"]);
    }

    #[test]
    fn what_is_tried_is_of_what_mines() {
        let mut machine = gpu_machine(Kind::Discrete, 4 << 30);
        let places =
            |machine: &Machine| -> Vec<Which> { dimensions(machine).iter().map(|one| one.place).collect() };
        assert!(places(&machine).iter().all(|place| *place == Which::Gpu));
        machine.which = Which::Auto;
        let mixed = places(&machine);
        assert!(mixed.contains(&Which::Cpu) && mixed.contains(&Which::Gpu) && mixed.contains(&Which::Auto));
        machine.which = Which::Cpu;
        machine.gpus.clear();
        assert!(places(&machine).iter().all(|place| *place == Which::Cpu));
    }
}
