//! What the machine's processors are, for people and for reports.

use std::fs;

use kernels::Kernel;

use super::topology::{CacheGroup, cache_groups, cores, processors};

/// What is known of the processors that this process may run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What the maker calls them; the architecture where the system does not tell.
    pub model: String,
    /// How many there are, as threads see them.
    pub processors: usize,
    /// How many cores they are part of, if the system tells.
    pub cores: Option<usize>,
    /// Last-level caches.
    pub caches: Vec<CacheGroup>,
    /// Kernels that they can run, the one that is used first.
    pub kernels: Vec<Kernel>,
}

impl About {
    /// Asks the system.
    pub fn this_machine() -> Self {
        let processors = processors();
        Self {
            model: model(&CpuInfo::read()).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cores: cores(&processors),
            caches: cache_groups(&processors),
            kernels: Kernel::available(),
        }
    }
}

/// What Linux tells of each processor, in lines such as `core id : 3`; nothing elsewhere.
pub struct CpuInfo(String);

impl CpuInfo {
    /// Asks the system.
    pub fn read() -> Self {
        Self(fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
    }

    /// What is said under a key, processor by processor.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.0.lines().filter_map(|line| line.split_once(':'));
        lines.filter(move |(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    }
}

fn model(cpuinfo: &CpuInfo) -> Option<String> {
    let told = cpuinfo.values("model name").next().unwrap_or_default();
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(told).filter(|model| !model.is_empty()).or_else(|| std::env::var("PROCESSOR_IDENTIFIER").ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_read_where_it_is_told() {
        let text = "processor\t: 0\nvendor_id\t: X\nmodel name\t: AMD EPYC  7B13 \nmodel name\t: other\n";
        let text = CpuInfo(text.into());
        assert_eq!(model(&text).as_deref(), Some("AMD EPYC 7B13"));
        assert_eq!(text.values("model name").count(), 2);
        #[cfg(not(windows))]
        for text in ["processor : 0\nmodel name :\n", ""] {
            assert_eq!(model(&CpuInfo(text.into())), None, "{text:?}");
        }
    }
}
