//! Which processors share a last-level cache, and how large it is.

use std::{collections::BTreeSet, fs, path::Path};

/// Processors that share a last-level cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheGroup {
    /// Their numbers.
    pub processors: Vec<usize>,
    /// The cache's size in bytes; `None`: the system does not tell.
    pub bytes: Option<usize>,
}

/// The caches of the processors `all`, which are those that this process may run on. One group of all of them where the
/// system does not tell.
pub fn cache_groups(all: &[usize]) -> Vec<CacheGroup> {
    groups(all, |cpu| last_level_cache(Path::new("/sys/devices/system/cpu"), cpu))
}

/// How many cores the processors `all` are part of; `None` where the system does not tell. It is fewer than there are
/// processors where cores run several threads at a time.
pub fn cores(all: &[usize]) -> Option<usize> {
    distinct(all, |cpu| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
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
struct Cache {
    level: u32,
    shared_by: BTreeSet<usize>,
    bytes: Option<usize>,
}

/// A processor's cache of the highest level.
fn last_level_cache(root: &Path, cpu: usize) -> Option<Cache> {
    let caches = fs::read_dir(root.join(format!("cpu{cpu}/cache"))).ok()?;
    let caches = caches.filter_map(|entry| {
        let path = entry.ok()?.path();
        let read = |name: &str| fs::read_to_string(path.join(name)).ok();
        Some(Cache {
            level: read("level")?.trim().parse().ok()?,
            shared_by: parse_list(read("shared_cpu_list")?.trim())?,
            bytes: read("size").and_then(|text| parse_size(text.trim())),
        })
    });
    caches.max_by_key(|cache| cache.level)
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
}
