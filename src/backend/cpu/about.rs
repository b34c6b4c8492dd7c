//! What the machine's processors are, for people and for reports.

use std::fs;

use kernels::Kernel;

use super::topology::{CacheGroup, cache_groups, cores};

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
        let processors: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        Self {
            model: model().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cores: cores(&processors),
            caches: cache_groups(&processors),
            kernels: Kernel::available(),
        }
    }
}

fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok();
    text.and_then(|text| model_in(&text)).or_else(|| std::env::var("PROCESSOR_IDENTIFIER").ok())
}

/// The model in what Linux tells.
fn model_in(cpuinfo: &str) -> Option<String> {
    let value = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    cpuinfo.lines().find_map(value).filter(|model| !model.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_read_where_it_is_told() {
        let text = "processor\t: 0\nvendor_id\t: X\nmodel name\t: AMD EPYC  7B13 \nmodel name\t: other\n";
        assert_eq!(model_in(text).as_deref(), Some("AMD EPYC 7B13"));
        assert_eq!(model_in("processor : 0\nmodel name :\n"), None);
        assert_eq!(model_in(""), None);
    }
}
