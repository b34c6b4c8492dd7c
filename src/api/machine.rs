//! What the system tells about the machine and this process. What it does not tell is zero or empty.

use std::{collections::BTreeSet, fs};

use crate::backend::cpu;

/// What stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Its name in the network.
    pub host: String,
    /// The processor's name, or its architecture.
    pub brand: String,
    /// What the processor can.
    pub flags: BTreeSet<String>,
    /// Processors that this process may run on.
    pub threads: usize,
    pub cores: usize,
    pub packages: usize,
    /// Nodes of memory.
    pub nodes: usize,
    /// Bytes of all second-level caches.
    pub l2: u64,
    /// Bytes of all third-level caches.
    pub l3: u64,
}

/// What changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes of memory that the machine has.
    pub memory_total: u64,
    /// Bytes that programs could have still.
    pub memory_free: u64,
    /// Bytes that this process has.
    pub resident: u64,
    /// Over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Seconds that all threads of this process ran together.
    pub cpu_seconds: Option<f64>,
}

impl Machine {
    pub fn read() -> Self {
        let about = cpu::About::this_machine();
        let told = cpu::CpuInfo::read();
        let flags = told.values("flags").chain(told.values("Features")).next().unwrap_or_default();
        let nodes = cpu::parse_list(read("/sys/devices/system/node/online").trim());
        let bytes = |level| u64::try_from(cpu::cache_bytes(level)).unwrap_or(0);
        Self {
            host: host(),
            brand: about.model,
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            threads: about.processors,
            // Where the system does not tell.
            cores: about.cores.unwrap_or(about.processors),
            packages: told.values("physical id").collect::<BTreeSet<_>>().len().max(1),
            nodes: nodes.map_or(1, |nodes| nodes.len()),
            l2: bytes(2),
            l3: bytes(3),
        }
    }
}

impl Usage {
    pub fn read() -> Self {
        let kib = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
                .map_or(0, |n: u64| n << 10)
        };
        let memory = read("/proc/meminfo");
        let load = read("/proc/loadavg");
        let mut load = load.split(' ').map(|number| number.parse().unwrap_or(0.0));
        Self {
            memory_total: kib(&memory, "MemTotal"),
            memory_free: kib(&memory, "MemAvailable"),
            resident: kib(&read("/proc/self/status"), "VmRSS"),
            load: std::array::from_fn(|_| load.next().unwrap_or(0.0)),
            cpu_seconds: cpu_seconds(),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

#[cfg(unix)]
fn cpu_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
}

#[cfg(not(unix))]
fn cpu_seconds() -> Option<f64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_about_itself() {
        let (machine, usage) = (Machine::read(), Usage::read());
        assert!(machine.threads >= 1 && machine.cores >= 1 && !machine.host.is_empty(), "{machine:?}");
        assert!(usage.resident > 1 << 20 && usage.resident < usage.memory_total, "{usage:?}");
        assert!(usage.memory_free <= usage.memory_total && usage.cpu_seconds > Some(0.0), "{usage:?}");
    }
}
