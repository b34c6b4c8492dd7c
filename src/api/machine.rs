//! What the system tells about the machine and this process. What it does not tell is zero or empty.

use std::{collections::BTreeSet, fs, path::Path, thread};

/// What stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Its name in the network.
    pub host: String,
    /// The processor's name.
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
        let cpuinfo = read("/proc/cpuinfo");
        let values = |key: &str| {
            let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).collect::<Vec<_>>()
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let packages: Vec<_> = values("physical id");
        let cores: BTreeSet<_> = packages.iter().zip(values("core id")).collect();
        let flags = values("flags").first().or(values("Features").first()).copied().unwrap_or_default();
        let folders = |path: &str, prefix: &str| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let is_one = |name: &str| {
                let number = name.strip_prefix(prefix).unwrap_or_default();
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            };
            entries
                .filter(|entry| entry.file_name().to_str().is_some_and(is_one))
                .map(|entry| entry.path())
                .collect()
        };
        let processors: Vec<_> = folders("/sys/devices/system/cpu", "cpu");
        let caches: BTreeSet<_> =
            processors.iter().flat_map(|processor| caches(&processor.join("cache"))).collect();
        let bytes = |level| caches.iter().filter(|cache| cache.0 == level).map(|cache| cache.2).sum();
        let nodes: Vec<_> = folders("/sys/devices/system/node", "node");
        Self {
            host: host(),
            brand: values("model name").first().map(ToString::to_string).unwrap_or_default(),
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            threads,
            // Where the system does not tell.
            cores: if cores.is_empty() { threads } else { cores.len() },
            packages: packages.iter().collect::<BTreeSet<_>>().len().max(1),
            nodes: nodes.len().max(1),
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

/// Level, who shares it, and bytes of each cache of a processor.
fn caches(folder: &Path) -> Vec<(u32, String, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let cache = |path: &Path| {
        let text = |name| fs::read_to_string(path.join(name)).ok();
        let size = text("size")?;
        let kib: u64 = size.trim().strip_suffix('K')?.parse().ok()?;
        Some((text("level")?.trim().parse().ok()?, text("shared_cpu_list")?, kib << 10))
    };
    entries.filter_map(|entry| cache(&entry.path())).collect()
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
