//! What the machine uses of energy, where it tells: of the processors by RAPL (Linux), of NVIDIA's graphics processors
//! by their library if it is there.
//!
//! Both count for the whole package or card, whoever uses it.

use std::{
    fs,
    path::{Path, PathBuf},
};

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
    #[cfg(feature = "nvml")]
    Card { library: std::sync::Arc<nvml_wrapper::Nvml>, index: u32 },
}

impl Meter {
    /// A meter of the processors, the graphics processors, or both.
    pub fn new(processors: bool, graphics: bool) -> Self {
        let mut meter = Self { counters: Vec::new(), joules: 0.0, absent: Vec::new() };
        if processors {
            meter.add(packages(Path::new(POWERCAP)));
        }
        if graphics {
            meter.add(cards());
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
            #[cfg(feature = "nvml")]
            Self::Card { library, index } => {
                let card = library.device_by_index(*index);
                let energy = card.and_then(|card| card.total_energy_consumption());
                energy.map_err(|e| format!("NVIDIA's library does not tell the energy of card {index}: {e}"))
            }
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
            #[cfg(feature = "nvml")]
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

/// The counters of all NVIDIA cards.
#[cfg(feature = "nvml")]
fn cards() -> Result<Vec<Source>, String> {
    use nvml_wrapper::error::NvmlError;

    let library = nvml_wrapper::Nvml::init().map_err(|error| match error {
        NvmlError::LibloadingError(_) => {
            "NVIDIA's library (NVML), which comes with their driver, is not there".into()
        }
        error => format!("NVIDIA's library (NVML) tells nothing: {error}"),
    })?;
    let library = std::sync::Arc::new(library);
    let count = library.device_count().map_err(|e| format!("NVIDIA's library tells of no cards: {e}"))?;
    match count {
        0 => Err("NVIDIA's library tells of no cards".into()),
        _ => Ok((0..count).map(|index| Source::Card { library: library.clone(), index }).collect()),
    }
}

#[cfg(not(feature = "nvml"))]
fn cards() -> Result<Vec<Source>, String> {
    Err("this program was built without NVML".into())
}

#[cfg(test)]
mod tests {
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
        let mut meter = Meter { counters: Vec::new(), joules: 0.0, absent: Vec::new() };
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

    #[test]
    fn graphics_processors_tell_their_energy_or_why_not() {
        let mut meter = meter(cards());
        match meter.joules() {
            Some(joules) => assert!(joules >= 0.0),
            None => assert!(meter.absence().is_some_and(|text| text.contains("NV"))),
        }
    }
}
