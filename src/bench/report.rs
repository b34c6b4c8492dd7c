//! What was measured, as it is saved by `--json` and read again by `--compare`.

use std::{fs, path::Path, time::Duration};

use kernels::{Announcement, WorkBits, item::TABLE_ITEMS};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Machine, Setup};
use crate::backend::{BackendInfo, Counters, Step};
use crate::plain::{json_fault, plain};

/// The version of the saved form.
pub const FORMAT: u32 = 1;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The saved form's version.
    pub format: u32,
    /// The program's version.
    pub version: String,
    /// When it began (RFC 3339, UTC).
    pub time: String,
    /// What it ran on.
    pub machine: Machine,
    /// Seconds asked for, each measurement.
    pub duration: f64,
    /// Whether it was ended early.
    pub interrupted: bool,
    /// Why no energy is told, if none is.
    pub energy: Option<String>,
    /// One for each setup and difficulty.
    pub measurements: Vec<Measurement>,
}

/// A setup at a difficulty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What mined: "cpu".
    pub backend: String,
    /// Threads of the processors that mined.
    pub threads: Option<usize>,
    /// The kernel that they ran.
    pub kernel: Option<String>,
    /// The difficulty asked for.
    pub difficulty: u64,
    /// The work bits mined with.
    pub work_bits: String,
    /// Seconds measured.
    pub seconds: f64,
    /// Whether the measured time begins and ends where rounds end.
    pub whole_rounds: bool,
    /// All devices together.
    pub total: Figures,
    /// Each device.
    pub devices: Vec<Device>,
    /// What uploading the announcements would take, in 10^6 bits a second, counting announcements alone.
    pub upload_mbit_per_s: f64,
    /// Memory resident in the whole process, in MiB; the most that was seen.
    pub resident_mib: Option<f64>,
    /// Energy used, where the system tells it.
    pub energy: Option<Energy>,
}

/// A backend's part in a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its name: "cpu", "gpu 0".
    pub name: String,
    /// What runs, and why.
    pub description: String,
    /// What it did.
    pub figures: Figures,
}

/// What was done in the measured time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Expected announcements × difficulty, a second.
    pub e_per_s: f64,
    /// Announcements to be expected of the hashes, a second.
    pub anns_per_s: f64,
    /// Announcements found, a second.
    pub found_per_s: f64,
    /// Soft nonces hashed a second.
    pub hashes_per_s: f64,
    /// Items made a second, in tables of 8192.
    pub tables_per_s: f64,
    /// Rounds' worth of soft nonces hashed a second.
    pub rounds_per_s: f64,
    /// Announcements found.
    pub found: u64,
    /// Soft nonces hashed.
    pub hashes: u64,
    /// Items made.
    pub items: u64,
    /// Rounds that ended.
    pub rounds: u64,
    /// Threads or queues that were at work, on average.
    pub at_work: f64,
    /// Where the time of a round goes.
    pub round_time: RoundTime,
}

/// Milliseconds that a round takes of the time of all threads or queues, by step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundTime {
    /// Choosing a hard nonce.
    pub choice: f64,
    /// Table 1, hashed to leaves.
    pub table_1: f64,
    /// The Merkle tree above the leaves.
    pub tree: f64,
    /// Table 2.
    pub table_2: f64,
    /// The search.
    pub search: f64,
}

impl RoundTime {
    /// The steps in order, see [`Step::ALL`].
    pub fn steps(&self) -> [f64; 5] {
        [self.choice, self.table_1, self.tree, self.table_2, self.search]
    }

    /// All steps together.
    pub fn total(&self) -> f64 {
        self.steps().iter().sum()
    }
}

/// Energy used in the measured time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// Joules.
    pub joules: f64,
    /// Joules a second.
    pub watts: f64,
    /// Joules for each announcement to be expected.
    pub joules_per_announcement: f64,
}

impl Measurement {
    /// Puts together what was measured.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own, and there is one caller")]
    pub(super) fn new(
        setup: &Setup,
        difficulty: u64,
        work_bits: WorkBits,
        time: Duration,
        whole_rounds: bool,
        devices: Vec<(&BackendInfo, Counters)>,
        resident: Option<u64>,
        joules: Option<f64>,
    ) -> Self {
        let mut all = Counters::default();
        for (_, counters) in &devices {
            all.found += counters.found;
            all.hashes += counters.hashes;
            all.items += counters.items;
            all.rounds += counters.rounds;
            for step in Step::ALL {
                all.steps[step] += counters.steps[step];
            }
        }
        let total = Figures::new(&all, work_bits, time);
        let seconds = time.as_secs_f64();
        let energy = joules.map(|joules| Energy {
            joules,
            watts: ratio(joules, seconds),
            joules_per_announcement: ratio(joules, total.anns_per_s * seconds),
        });
        let device = |(info, counters): (&BackendInfo, Counters)| Device {
            name: info.name.clone(),
            description: info.description.clone(),
            figures: Figures::new(&counters, work_bits, time),
        };
        Self {
            backend: setup.backend.clone(),
            threads: setup.threads,
            kernel: setup.kernel.clone(),
            difficulty,
            work_bits: work_bits.to_string(),
            seconds,
            whole_rounds,
            upload_mbit_per_s: total.anns_per_s * (8 * Announcement::LEN) as f64 / 1e6,
            total,
            devices: devices.into_iter().map(device).collect(),
            resident_mib: resident.map(|bytes| bytes as f64 / f64::from(1 << 20)),
            energy,
        }
    }

    /// What mined: "2 threads", or the backend's name.
    pub fn label(&self) -> String {
        label(&self.backend, self.threads)
    }

    /// Whether the same was measured in another run, whatever the kernel and however long.
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        (&self.backend, self.threads, self.difficulty) == (&other.backend, other.threads, other.difficulty)
    }
}

/// What mines, in a word or two.
pub fn label(backend: &str, threads: Option<usize>) -> String {
    match (backend, threads) {
        ("cpu", Some(1)) => "1 thread".into(),
        ("cpu", Some(threads)) => format!("{threads} threads"),
        _ => backend.into(),
    }
}

impl Figures {
    fn new(counters: &Counters, work_bits: WorkBits, time: Duration) -> Self {
        let per_second = |count: f64| ratio(count, time.as_secs_f64());
        // A hash is below the target with this probability.
        let chance =
            work_bits.target().limbs().iter().fold(0.0, |sum, limb| (sum + *limb as f64) / 2f64.powi(64));
        let expected = counters.hashes as f64 * chance;
        let rounds = counters.hashes as f64 / (f64::from(work_bits.soft_nonce_max()) + 1.0);
        let per_round = |step| ratio(counters.steps[step].as_secs_f64() * 1e3, rounds);
        Self {
            e_per_s: per_second(expected * work_bits.difficulty_f64()),
            anns_per_s: per_second(expected),
            found_per_s: per_second(counters.found as f64),
            hashes_per_s: per_second(counters.hashes as f64),
            tables_per_s: per_second(counters.items as f64 / TABLE_ITEMS as f64),
            rounds_per_s: per_second(rounds),
            found: counters.found,
            hashes: counters.hashes,
            items: counters.items,
            rounds: counters.rounds,
            at_work: per_second(counters.steps.total().as_secs_f64()),
            round_time: RoundTime {
                choice: per_round(Step::Choice),
                table_1: per_round(Step::Table1),
                tree: per_round(Step::Tree),
                table_2: per_round(Step::Table2),
                search: per_round(Step::Search),
            },
        }
    }
}

/// A ratio; 0 of nothing, since JSON knows no infinity.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// A saved run that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("the saved run {file} cannot be read: {reason}")]
    File {
        /// Its path.
        file: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// It holds something else.
    #[error("{file} is not a run that `pktmine bench --json` has saved: {reason}")]
    Form {
        /// Its path.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Report {
    /// Reads a saved run.
    ///
    /// # Errors
    /// If the file cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let file = path.display().to_string();
        let text =
            fs::read_to_string(path).map_err(|reason| ReadError::File { file: file.clone(), reason })?;
        Self::parse(&file, &text)
    }

    /// As [`read`](Self::read), of a file whose text is at hand; `file` is its name in errors.
    ///
    /// # Errors
    /// If it is something else than a saved run.
    pub fn parse(file: &str, text: &str) -> Result<Self, ReadError> {
        let form = |reason: String| ReadError::Form { file: file.to_owned(), reason: plain(&reason) };
        let value: Value =
            serde_json::from_str(text).map_err(|e| form(format!("it is not JSON ({})", json_fault(&e))))?;
        match value.get("format") {
            None => return Err(form("it has no `format`, as saved runs have".into())),
            Some(format) if *format != FORMAT => {
                return Err(form(format!(
                    "its format is {format}, this program knows format {FORMAT}: measure again with this version"
                )));
            }
            Some(_) => {}
        }
        // From the text, since a value has forgotten its place.
        serde_json::from_str(text).map_err(|e| form(format!("it is damaged ({})", json_fault(&e))))
    }

    /// One JSON object, with line breaks.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text are all JSON knows")
    }
}
