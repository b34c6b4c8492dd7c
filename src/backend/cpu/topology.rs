//! Which processors there are, which of them share a core or a cache, and how large caches are.

use std::{collections::BTreeSet, fs, path::Path};

/// Processors that share a last-level cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheGroup {
    /// Their numbers.
    pub processors: Vec<usize>,
    /// The cache's size in bytes; `None`: the system does not tell.
    pub bytes: Option<usize>,
}

/// Where Linux tells of processors.
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// The numbers of the processors that this process may run on; empty where the system does not tell.
pub fn processors() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// The last-level caches of the processors `all`, which are those that this process may run on. One group of all of them where the
/// system does not tell.
pub fn cache_groups(all: &[usize]) -> Vec<CacheGroup> {
    groups(all, |cpu| caches(Path::new(PROCESSORS), cpu).into_iter().max_by_key(|cache| cache.level))
}

/// Bytes of all caches of a level that the machine has, 1 for the first; 0 where the system does not tell.
pub fn cache_bytes(level: u32) -> usize {
    bytes_of_level(Path::new(PROCESSORS), level)
}

fn bytes_of_level(root: &Path, level: u32) -> usize {
    let online = fs::read_to_string(root.join("online")).ok();
    let online = online.and_then(|text| parse_list(text.trim())).unwrap_or_default();
    // Each is told of by all processors that share it.
    let caches: BTreeSet<_> = online.into_iter().flat_map(|cpu| caches(root, cpu)).collect();
    caches.iter().filter(|cache| cache.level == level).filter_map(|cache| cache.bytes).sum()
}

/// How many cores the processors `all` are part of; `None` where the system does not tell. It is fewer than there are
/// processors where cores run several threads at a time.
pub fn cores(all: &[usize]) -> Option<usize> {
    distinct(all, |cpu| {
        let path = format!("{PROCESSORS}/cpu{cpu}/topology/thread_siblings_list");
        parse_list(fs::read_to_string(path).ok()?.trim())
    })
}

fn distinct(all: &[usize], siblings_of: impl Fn(usize) -> Option<BTreeSet<usize>>) -> Option<usize> {
    let first_of = |cpu: &usize| siblings_of(*cpu)?.first().copied();
    let firsts: Option<BTreeSet<usize>> = all.iter().map(first_of).collect();
    firsts.map(|firsts| firsts.len()).filter(|cores| *cores > 0)
}

fn groups(all: &[usize], cache_of: impl Fn(usize) -> Option<Cache>) -> Vec<CacheGroup> {
    let mut groups = Vec::new();
    let mut rest: BTreeSet<usize> = all.iter().copied().collect();
    while let Some(first) = rest.first().copied() {
        let cache = cache_of(first);
        let mut processors: Vec<usize> = match &cache {
            Some(cache) => rest.intersection(&cache.shared_by).copied().collect(),
            None => rest.iter().copied().collect(),
        };
        if processors.is_empty() {
            processors.push(first);
        }
        rest.retain(|cpu| !processors.contains(cpu));
        groups.push(CacheGroup { processors, bytes: cache.and_then(|cache| cache.bytes) });
    }
    groups
}

/// A cache, as a processor sees it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cache {
    level: u32,
    shared_by: BTreeSet<usize>,
    bytes: Option<usize>,
}

/// A processor's caches, as far as the system tells of them.
fn caches(root: &Path, cpu: usize) -> Vec<Cache> {
    let entries = fs::read_dir(root.join(format!("cpu{cpu}/cache"))).into_iter().flatten().flatten();
    let caches = entries.filter_map(|entry| {
        let path = entry.path();
        let read = |name: &str| fs::read_to_string(path.join(name)).ok();
        Some(Cache {
            level: read("level")?.trim().parse().ok()?,
            shared_by: parse_list(read("shared_cpu_list")?.trim())?,
            bytes: read("size").and_then(|text| parse_size(text.trim())),
        })
    });
    caches.collect()
}

/// Reads a list of processors such as `0-7,64-71`: ranges go upwards.
pub fn parse_list(text: &str) -> Option<BTreeSet<usize>> {
    let mut list = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has as many processors; a file that says so is nonsense.
        list.extend((first <= last && last < 1 << 16).then_some(first..=last)?);
    }
    Some(list)
}

/// Reads a size such as `32768K`.
fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(processors: &[usize], bytes: Option<usize>) -> CacheGroup {
        CacheGroup { processors: processors.to_vec(), bytes }
    }

    #[test]
    fn lists_and_sizes_are_read() {
        assert_eq!(parse_list("0-2,5"), Some(BTreeSet::from([0, 1, 2, 5])));
        assert_eq!(parse_list("7"), Some(BTreeSet::from([7])));
        for nonsense in ["", "a", "3-", "3-1", "0-3,9-8", "0-99999999"] {
            assert_eq!(parse_list(nonsense), None, "{nonsense:?}");
        }
        let sizes = ["32768K", "2M", "77", "", "K", "99999999999999999999K"].map(parse_size);
        assert_eq!(sizes, [Some(32 << 20), Some(2 << 20), Some(77), None, None, None]);
    }

    #[test]
    fn processors_of_one_core_are_counted_once() {
        let pairs = |cpu: usize| Some(BTreeSet::from([cpu % 4, cpu % 4 + 4]));
        assert_eq!(distinct(&[0, 1, 2, 3, 4, 5, 6, 7], pairs), Some(4));
        assert_eq!(distinct(&[1, 5, 6], pairs), Some(2));
        assert_eq!(distinct(&[0, 1], |_| None), None);
        assert_eq!(distinct(&[], pairs), None);
    }

    #[test]
    fn processors_are_grouped_by_the_cache_that_they_share() {
        let of_four = |cpu: usize| {
            Some(Cache { level: 3, shared_by: (cpu / 4 * 4..cpu / 4 * 4 + 4).collect(), bytes: Some(9) })
        };
        assert_eq!(groups(&[0, 1, 2, 5, 7], of_four), [group(&[0, 1, 2], Some(9)), group(&[5, 7], Some(9))]);
        assert_eq!(groups(&[0, 1, 9], |_| None), [group(&[0, 1, 9], None)]);
        let nobody = |_| Some(Cache { level: 3, shared_by: BTreeSet::new(), bytes: None });
        assert_eq!(groups(&[3], nobody), [group(&[3], None)]);
    }

    #[test]
    fn each_cache_of_the_machine_is_counted_once_in_whatever_unit_it_is_told() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::write(root.path().join("online"), "0-1,3\n").expect("it can be written");
        for cpu in [0, 1, 3] {
            let own = cpu.to_string();
            let l3 = if cpu == 3 { ("3", "32768K") } else { ("0-1", "96M") };
            for (cache, level, (shared, size)) in
                [("index0", "1", (own.as_str(), "32K")), ("index2", "2", (&own, "512K")), ("index3", "3", l3)]
            {
                let folder = root.path().join(format!("cpu{cpu}/cache/{cache}"));
                std::fs::create_dir_all(&folder).expect("it can be made");
                for (file, text) in [("level", level), ("shared_cpu_list", shared), ("size", size)] {
                    std::fs::write(folder.join(file), format!("{text}\n")).expect("it can be written");
                }
            }
        }
        let bytes = [1, 2, 3, 4].map(|level| bytes_of_level(root.path(), level));
        assert_eq!(bytes, [(3 * 32) << 10, (3 * 512) << 10, 128 << 20, 0]);
        assert_eq!(bytes_of_level(Path::new("/nonexistent"), 3), 0);
    }
}
