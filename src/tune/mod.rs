//! Finding the settings with which this machine mines fastest.
//!
//! | module | |
//! |---|---|
//! | [`search`] | which of many settings is best: pairs of turns, noise, time; pure |
//! | [`candidates`] | what is worth a try on a machine |
//! | [`track`] | measures settings, by what `pktmine bench` measures with |
//! | [`conditions`] | what settings hold for, and when they are void |
//!
//! The settings file's side is in [`crate::config`].

pub mod candidates;
pub mod conditions;
pub mod search;
pub mod track;

use std::num::NonZero;

use kernels::Kernel;

pub use self::{candidates::dimensions, conditions::Conditions, track::Track};
use crate::backend::{
    Which, cpu,
    gpu::{self, Selection, UnknownDevice},
};

/// Settings that can be tuned; what is not set is as it is by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Threads that mine.
    pub threads: Option<NonZero<usize>>,
    /// Threads that share rounds.
    pub team: Option<NonZero<usize>>,
    /// What the processors run.
    pub kernel: Option<Kernel>,
    /// Rounds that each GPU takes at once.
    pub gpu_rounds: Option<NonZero<u32>>,
    /// Settings of GPU passes, `KEY=VALUE`.
    pub gpu_tuning: Vec<String>,
}

impl Choice {
    /// What is set, as the flags of `ann` by their long names.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let number = |number: NonZero<usize>| number.to_string();
        let tuning = (!self.gpu_tuning.is_empty()).then(|| self.gpu_tuning.join(","));
        let all = [
            ("threads", self.threads.map(number)),
            ("team", self.team.map(number)),
            ("kernel", self.kernel.map(|kernel| kernel.name().into())),
            ("gpu-rounds", self.gpu_rounds.map(|rounds| rounds.to_string())),
            ("gpu-tuning", tuning),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// What there is to mine with, and what of it mines.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processors.
    pub cpu: cpu::About,
    /// GPUs that mine.
    pub gpus: Vec<gpu::About>,
    /// What mines: [`Which::Cpu`] where there are no GPUs and none is asked for.
    pub which: Which,
    /// The GPUs, as the user means them.
    pub selection: Selection,
}

impl Machine {
    /// What would mine here with these settings of `ann`.
    ///
    /// # Errors
    /// If the user means a device that is not there.
    pub fn here(which: Which, device: Option<&str>) -> Result<Self, UnknownDevice> {
        let selection = device.map_or(Selection::Suitable, |list| Selection::Named(list.into()));
        let gpus = if which == Which::Cpu { Vec::new() } else { selection.find()? };
        let which = if which == Which::Auto && gpus.is_empty() { Which::Cpu } else { which };
        Ok(Self { cpu: cpu::About::this_machine(), gpus, which, selection })
    }

    /// Threads that mine on the processors by default.
    pub fn usual_threads(&self) -> usize {
        // Each GPU has a thread to itself, see `backend::start`.
        self.cpu.processors.saturating_sub(self.gpus.len()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_one_would_type() {
        assert_eq!(Choice::default().settings(), []);
        let choice = Choice {
            threads: NonZero::new(3),
            kernel: Some(Kernel::Portable),
            gpu_rounds: NonZero::new(64),
            gpu_tuning: vec!["tile=4096".into(), "states=8".into()],
            ..Choice::default()
        };
        let typed: Vec<_> =
            choice.settings().into_iter().map(|(key, value)| format!("--{key}={value}")).collect();
        let expected =
            ["--threads=3", "--kernel=portable", "--gpu-rounds=64", "--gpu-tuning=tile=4096,states=8"];
        assert_eq!(typed, expected);
    }
}
