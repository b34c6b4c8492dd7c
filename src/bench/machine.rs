//! What a run runs on, so that figures of two machines are not mistaken for those of one.

use std::{num::NonZero, thread};

use serde::{Deserialize, Serialize};
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System,
};

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model, as it calls itself.
    pub processor: String,
    /// Logical processors that this program may use.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The operating system and its version.
    pub system: String,
    /// Processes that were running or waiting to, over the minute before (0 where the system does not tell).
    pub load: f64,
}

impl Machine {
    /// "2 logical processors".
    pub fn processors_text(&self) -> String {
        format!("{} logical processor{}", self.processors, if self.processors == 1 { "" } else { "s" })
    }

    /// The one that this runs on.
    pub fn here() -> Self {
        let known = System::new_with_specifics(
            RefreshKind::nothing()
                .with_cpu(CpuRefreshKind::nothing())
                .with_memory(MemoryRefreshKind::nothing().with_ram()),
        );
        let processor = known.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
        Self {
            processor: processor.filter(|brand| !brand.is_empty()).unwrap_or_else(|| "unknown".into()),
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            memory_mib: known.total_memory() >> 20,
            system: [System::name(), System::kernel_version()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            load: System::load_average().one,
        }
    }
}

/// Memory resident in this process, in bytes; `None` where the system does not tell.
pub fn resident_memory() -> Option<u64> {
    let this = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), false, what);
    system.process(this).map(sysinfo::Process::memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known_and_so_is_what_the_process_takes_of_it() {
        let machine = Machine::here();
        assert!(machine.processors > 0 && machine.memory_mib > 0, "{machine:?}");
        let before = resident_memory().expect("this system tells it");
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let with_block = resident_memory().expect("this system tells it");
        assert!(with_block > before + (32 << 20), "{before} {with_block} with {} more", block.len());
    }
}
