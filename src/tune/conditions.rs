//! What tuned settings hold for: the machine that they were measured on.
//!
//! Everything that decides which settings are best: the program's version (its kernels, and what is thought best by
//! default), the processor with its caches and instruction sets, what mines, and the driver of each GPU. If any of it is
//! no longer so, the settings are void: the defaults are never bad, and settings for something else may be. The name of
//! the machine is none of it, so that machines of a kind can share what one of them has found.

use super::Machine;
use crate::backend::{Which, cpu, gpu};

/// What tuned settings hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The program's version.
    pub version: String,
    /// The processor's model.
    pub processor: String,
    /// Logical processors that the program may use.
    pub processors: usize,
    /// Last-level caches: "2 × 32 MiB of 8 processors".
    pub caches: Vec<String>,
    /// Kernels that the processor can run, which stand for its instruction sets.
    pub kernels: Vec<String>,
    /// What mines: "cpu", and GPUs with their drivers.
    pub devices: Vec<String>,
}

impl Conditions {
    /// What is so on a machine.
    pub fn of(machine: &Machine) -> Self {
        let cpu = &machine.cpu;
        let gpu = |about: &gpu::About| format!("{} ({}, {})", about.name, about.interface, about.driver);
        let gpus = machine.gpus.iter().map(gpu);
        let processors = (machine.which != Which::Gpu).then(|| "cpu".to_owned());
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            processor: cpu.model.clone(),
            processors: cpu.processors,
            caches: caches(&cpu.caches),
            kernels: cpu.kernels.iter().map(|kernel| kernel.name().to_owned()).collect(),
            devices: processors.into_iter().chain(gpus).collect(),
        }
    }

    /// Why settings that hold for this are void where `now` is so; `None`: they are not.
    pub fn void(&self, now: &Self) -> Option<String> {
        let list = |list: &[String]| if list.is_empty() { "nothing".into() } else { list.join(", ") };
        let facts = [
            ("pktmine", self.version.clone(), now.version.clone()),
            ("the processor", self.processor.clone(), now.processor.clone()),
            ("processors", self.processors.to_string(), now.processors.to_string()),
            ("last-level caches", list(&self.caches), list(&now.caches)),
            ("kernels", list(&self.kernels), list(&now.kernels)),
            ("what mines", list(&self.devices), list(&now.devices)),
        ];
        let (what, then, now) = facts.into_iter().find(|(_, then, now)| then != now)?;
        Some(format!("{what}: {then} when it was tuned, {now} now"))
    }
}

/// Caches that are alike together.
fn caches(caches: &[cpu::CacheGroup]) -> Vec<String> {
    let mut kinds: Vec<(usize, Option<usize>, usize)> = Vec::new();
    for cache in caches {
        let (bytes, processors) = (cache.bytes, cache.processors.len());
        match kinds.iter_mut().find(|kind| (kind.1, kind.2) == (bytes, processors)) {
            Some(kind) => kind.0 += 1,
            None => kinds.push((1, bytes, processors)),
        }
    }
    let text = |(count, bytes, processors): (usize, Option<usize>, usize)| match bytes {
        Some(bytes) => format!("{count} × {} KiB of {processors}", bytes >> 10),
        None => format!("{count} × unknown of {processors}"),
    };
    kinds.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions() -> Conditions {
        Conditions {
            version: "1".into(),
            processor: "A".into(),
            processors: 16,
            caches: vec!["2 × 32768 KiB of 8".into()],
            kernels: vec!["avx2".into(), "portable".into()],
            devices: vec!["cpu".into(), "Card (Vulkan, 550.1)".into()],
        }
    }

    /// Why settings are void where one thing has changed.
    fn changed(change: fn(&mut Conditions)) -> String {
        let mut now = conditions();
        change(&mut now);
        conditions().void(&now).expect("something has changed")
    }

    #[test]
    fn settings_are_void_where_anything_has_changed_and_it_is_said_what() {
        assert_eq!(conditions().void(&conditions()), None);
        assert_eq!(changed(|now| now.version = "2".into()), "pktmine: 1 when it was tuned, 2 now");
        assert_eq!(changed(|now| now.processor = "B".into()), "the processor: A when it was tuned, B now");
        assert_eq!(changed(|now| now.processors = 8), "processors: 16 when it was tuned, 8 now");
        assert!(changed(|now| now.caches.clear()).starts_with("last-level caches: 2 × 32768 KiB of 8 when"));
        assert!(changed(|now| now.kernels.truncate(1)).starts_with("kernels: avx2, portable when"));
        let driver = changed(|now| now.devices[1] = "Card (Vulkan, 560.2)".into());
        assert_eq!(
            driver,
            "what mines: cpu, Card (Vulkan, 550.1) when it was tuned, cpu, Card (Vulkan, 560.2) now"
        );
        assert!(changed(|now| now.devices.truncate(1)).ends_with(", cpu now"));
    }

    #[test]
    fn caches_that_are_alike_are_told_together() {
        let cache =
            |processors: usize, bytes| cpu::CacheGroup { processors: (0..processors).collect(), bytes };
        let all = [cache(8, Some(32 << 20)), cache(8, Some(32 << 20)), cache(4, None)];
        assert_eq!(caches(&all), ["2 × 32768 KiB of 8", "1 × unknown of 4"]);
    }

    #[test]
    fn this_machine_is_what_it_was_a_moment_ago() {
        let here = || Conditions::of(&Machine::here(Which::Cpu, None).expect("processors"));
        assert_eq!(here().void(&here()), None);
        assert_eq!(here().devices, ["cpu"]);
    }
}
