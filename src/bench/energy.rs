//! What backends use of energy, where the machine tells: of the processors by RAPL (Linux), of NVIDIA's graphics cards
//! by their library if it is there.
//!
//! Both count for the whole package or card, whoever uses it. Cards that do not mine are not counted.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::backend::BackendInfo;

/// Where Linux tells of power.
const POWERCAP: &str = "/sys/class/powercap";

/// Adds up the energy that the machine's parts use.
pub struct Meter {
    counters: Vec<Counter>,
    joules: f64,
    /// Why something is not told.
    absent: Vec<String>,
}

/// Something that counts energy, up to some number and then from 0 again.
struct Counter {
    source: Source,
    last: u64,
}

enum Source {
    /// A processor package's counter, in microjoules.
    Package { file: PathBuf, range: u64 },
    /// A card's counter, in millijoules.
    Card { library: Library, bus: String },
}

/// What knows cards by where they sit.
type Library = Arc<dyn Cards>;

trait Cards {
    /// The millijoules that the card there has used since its driver was loaded, or why nobody knows.
    fn millijoules(&self, bus: &str) -> Result<u64, String>;
}

impl Meter {
    /// A meter of what these backends mine on.
    pub fn of<'a>(backends: impl Iterator<Item = &'a BackendInfo>) -> Self {
        Self::with(backends, Path::new(POWERCAP), library)
    }

    /// A meter that counts nothing.
    pub fn of_nothing() -> Self {
        Self { counters: Vec::new(), joules: 0.0, absent: Vec::new() }
    }

    fn with<'a>(
        backends: impl Iterator<Item = &'a BackendInfo>,
        powercap: &Path,
        library: impl FnOnce() -> Result<Library, String>,
    ) -> Self {
        let mut meter = Self::of_nothing();
        let (processors, cards): (Vec<_>, Vec<_>) = backends.partition(|info| info.name == "cpu");
        if !processors.is_empty() {
            meter.add(packages(powercap));
        }
        if !cards.is_empty() {
            meter.add(library().and_then(|library| counters_of(&cards, &library)));
        }
        meter
    }

    fn add(&mut self, sources: Result<Vec<Source>, String>) {
        match sources {
            Err(reason) => self.absent.push(reason),
            Ok(sources) => {
                for source in sources {
                    match source.read() {
                        Ok(last) => self.counters.push(Counter { source, last }),
                        Err(reason) => self.absent.push(reason),
                    }
                }
            }
        }
    }

    /// Joules used since it began; `None` if not all of what it is to measure is told. To be called every minute at
    /// least: a counter that has come round twice cannot be told from one that came round once.
    pub fn joules(&mut self) -> Option<f64> {
        for counter in &mut self.counters {
            match counter.source.read() {
                Ok(now) => {
                    self.joules += counter.source.joules(counter.last, now);
                    counter.last = now;
                }
                Err(reason) if self.absent.is_empty() => self.absent.push(reason),
                Err(_) => {}
            }
        }
        self.absent.is_empty().then_some(self.joules)
    }

    /// Why energy is not told; `None` if it is.
    pub fn absence(&self) -> Option<String> {
        (!self.absent.is_empty()).then(|| self.absent.join("; "))
    }
}

impl Source {
    fn read(&self) -> Result<u64, String> {
        match self {
            Self::Package { file, .. } => read_number(file),
            Self::Card { library, bus } => library
                .millijoules(bus)
                .map_err(|e| format!("NVIDIA's library does not tell the energy of the card at {bus}: {e}")),
        }
    }

    /// The energy between two counts.
    fn joules(&self, first: u64, last: u64) -> f64 {
        match self {
            Self::Package { range, .. } => {
                let microjoules =
                    if last >= first { last - first } else { range.saturating_sub(first) + last };
                microjoules as f64 / 1e6
            }
            // It counts from when the driver was loaded, in 64 bits.
            Self::Card { .. } => last.saturating_sub(first) as f64 / 1e3,
        }
    }
}

/// The counters of the processors' packages. Their parts (cores, memory) are counted within them, and a second
/// interface to the same ones (`intel-rapl-mmio`) would count them twice.
fn packages(powercap: &Path) -> Result<Vec<Source>, String> {
    let entries = fs::read_dir(powercap).into_iter().flatten().flatten();
    let mut sources = Vec::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("intel-rapl:");
        let is_package = number.is_some_and(|number| !number.contains(':'))
            && fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.starts_with("package"));
        if is_package {
            let range = read_number(&entry.path().join("max_energy_range_uj"))?;
            sources.push(Source::Package { file: entry.path().join("energy_uj"), range });
        }
    }
    match sources.is_empty() {
        true => Err(format!("no processor's energy counter (RAPL) in {}", powercap.display())),
        false => Ok(sources),
    }
}

fn read_number(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{} cannot be read: {e}", file.display()))?;
    text.trim().parse().map_err(|_| format!("{} holds no number: {:?}", file.display(), text.trim()))
}

/// The counters of these backends' cards. Two backends on one card use the same energy.
fn counters_of(cards: &[&BackendInfo], library: &Library) -> Result<Vec<Source>, String> {
    let place = |info: &&BackendInfo| {
        let unknown = || format!("nobody tells where {} sits, nor what energy it uses", info.name);
        info.bus.clone().ok_or_else(unknown)
    };
    let places: BTreeSet<String> = cards.iter().map(place).collect::<Result<_, _>>()?;
    Ok(places.into_iter().map(|bus| Source::Card { library: library.clone(), bus }).collect())
}

#[cfg(feature = "nvml")]
impl Cards for nvml_wrapper::Nvml {
    fn millijoules(&self, bus: &str) -> Result<u64, String> {
        let card = self.device_by_pci_bus_id(bus);
        card.and_then(|card| card.total_energy_consumption()).map_err(|error| error.to_string())
    }
}

/// NVIDIA's library.
#[cfg(feature = "nvml")]
fn library() -> Result<Library, String> {
    use nvml_wrapper::error::NvmlError;

    let library = nvml_wrapper::Nvml::init().map_err(|error| match error {
        NvmlError::LibloadingError(_) => {
            "NVIDIA's library (NVML), which comes with their driver, is not there".into()
        }
        error => format!("NVIDIA's library (NVML) tells nothing: {error}"),
    })?;
    Ok(Arc::new(library))
}

#[cfg(not(feature = "nvml"))]
fn library() -> Result<Library, String> {
    Err("this program was built without NVML".into())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicU64, Ordering},
    };

    use super::*;

    /// A directory like the kernel's, of two packages with parts, and what is to be left out.
    fn powercap() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (name, called, energy) in [
            ("intel-rapl:0", "package-0", "900"),
            ("intel-rapl:0:0", "core", "500"),
            ("intel-rapl:1", "package-1", "1000000"),
            ("intel-rapl:2", "psys", "77"),
            ("intel-rapl-mmio:0", "package-0", "900"),
        ] {
            let directory = root.path().join(name);
            fs::create_dir(&directory).expect("it can be made");
            for (file, text) in [("name", called), ("energy_uj", energy), ("max_energy_range_uj", "1000000")]
            {
                fs::write(directory.join(file), format!("{text}\n")).expect("it can be written");
            }
        }
        root
    }

    fn meter(sources: Result<Vec<Source>, String>) -> Meter {
        let mut meter = Meter::of_nothing();
        meter.add(sources);
        meter
    }

    #[test]
    fn packages_are_added_up_also_when_their_counters_come_round() {
        let root = powercap();
        let set = |name: &str, energy: u64| {
            fs::write(root.path().join(name).join("energy_uj"), energy.to_string())
                .expect("it can be written");
        };
        let mut meter = meter(packages(root.path()));
        assert_eq!(meter.counters.len(), 2);
        assert_eq!((meter.joules(), meter.absence()), (Some(0.0), None));
        set("intel-rapl:0", 500_900);
        set("intel-rapl:1", 250_000);
        assert_eq!(meter.joules(), Some(0.5 + 0.25));
        set("intel-rapl:1", 350_000);
        assert!((meter.joules().expect("all is told") - 0.85).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_told_is_said_to_be_so() {
        let root = powercap();
        let mut partly = meter(packages(root.path()));
        fs::remove_file(root.path().join("intel-rapl:1/energy_uj")).expect("it is there");
        assert_eq!(partly.joules(), None, "half of the machine is not the machine");
        assert!(partly.absence().is_some_and(|text| text.contains("intel-rapl:1/energy_uj cannot be read")));

        let empty = tempfile::tempdir().expect("a directory");
        let mut nothing = meter(packages(empty.path()));
        assert_eq!(nothing.joules(), None);
        assert!(nothing.absence().is_some_and(|text| text.contains("no processor's energy counter")));
    }

    /// Cards that use so many millijoules from one look to the next.
    struct Played(BTreeMap<&'static str, (u64, AtomicU64)>);

    impl Cards for Played {
        fn millijoules(&self, bus: &str) -> Result<u64, String> {
            let (more, last) = self.0.get(bus).ok_or("not found")?;
            Ok(last.fetch_add(*more, Ordering::Relaxed))
        }
    }

    fn played() -> Result<Library, String> {
        let cards = [("0000:0a:00.0", 1_000), ("0000:0b:00.0", 20_000), ("0000:0c:00.0", 300_000)];
        let cards = cards.map(|(bus, more)| (bus, (more, AtomicU64::new(7))));
        Ok(Arc::new(Played(cards.into())))
    }

    fn info(name: &str, bus: Option<&str>) -> BackendInfo {
        let (name, bus) = (name.into(), bus.map(Into::into));
        BackendInfo { name, description: String::new(), bus, capacity: 1, candidates: 1 }
    }

    #[test]
    fn processors_and_those_cards_that_mine_are_counted_together() {
        let root = powercap();
        let (cpu, first) = (info("cpu", None), info("gpu 0", Some("0000:0a:00.0")));
        let (third, same) = (info("gpu 2", Some("0000:0c:00.0")), info("gpu 3", Some("0000:0c:00.0")));
        let used = |backends: &[&BackendInfo]| {
            let start = "900";
            fs::write(root.path().join("intel-rapl:0/energy_uj"), start).expect("it can be written");
            let mut meter = Meter::with(backends.iter().copied(), root.path(), played);
            fs::write(root.path().join("intel-rapl:0/energy_uj"), "500900").expect("it can be written");
            (meter.joules(), meter.absence())
        };
        assert_eq!(used(&[&first, &third, &cpu]), (Some(0.5 + 1.0 + 300.0), None));
        assert_eq!(used(&[&cpu]), (Some(0.5), None));
        assert_eq!(used(&[&third, &same]), (Some(300.0), None), "one card is counted once");
        let nowhere = info("gpu 4", None);
        let (joules, absence) = used(&[&first, &nowhere, &cpu]);
        assert_eq!(joules, None, "a part of what mines is not all of it");
        assert_eq!(absence.as_deref(), Some("nobody tells where gpu 4 sits, nor what energy it uses"));
        let (joules, absence) = used(&[&first, &info("gpu 5", Some("0000:01:00.0"))]);
        let absence = absence.expect("another maker's");
        assert!(
            joules.is_none() && absence.ends_with("energy of the card at 0000:01:00.0: not found"),
            "{absence}"
        );
    }

    #[test]
    fn a_machine_without_nvidia_s_library_says_so() {
        let mut meter = Meter::of([&info("gpu 0", Some("ff:1f.7"))].into_iter());
        assert_eq!(meter.joules(), None, "no machine has a card there");
        assert!(meter.absence().is_some_and(|text| text.contains("NV")), "{:?}", meter.absence());
    }
}
