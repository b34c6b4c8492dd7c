//! What rubbish is thrown at: a function a target, which takes any bytes and panics if something is not as it is to be.
//!
//! `fuzz_targets/` has a program of cargo-fuzz for each, and `tests/corpus.rs` runs each on the stable toolchain: on
//! its corpus, and on what [`Mutator`] makes of it. Both call what is here.
//!
//! | module | targets |
//! |---|---|
//! | [`passes`] | the kernels against the portable code: programs, tables, searches, validation |
//! | [`readers`] | what people and other programs write: settings, faults, files, saved runs |
//! | [`pools`] | what masters and ann handlers answer, taken through the state machines |
//! | [`requests`] | what miners send: bytes to the local pool's listeners |

pub mod bytes;
mod mutator;
pub mod passes;
#[cfg(feature = "pool")]
pub mod pools;
pub mod programs;
#[cfg(feature = "pool")]
pub mod readers;
#[cfg(feature = "pool")]
pub mod requests;

pub use mutator::Mutator;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its program, and of the folder of its corpus.
    pub name: &'static str,
    /// Runs it on an input.
    pub run: fn(&[u8]),
    /// The longest input that is of use, in bytes.
    pub longest: usize,
    /// What is likely to get an input further.
    pub words: &'static [&'static str],
    /// How many mutated inputs a test tries: about two seconds' worth.
    pub tries: u32,
}

/// The kernels' targets.
pub const KERNELS: [Target; 6] = [
    Target { name: "announcement", run: passes::announcement, longest: 1057, words: &[], tries: 1000 },
    Target { name: "program", run: passes::program, longest: 8194, words: &[], tries: 3000 },
    Target { name: "lanes", run: passes::lanes, longest: 2048, words: &[], tries: 1000 },
    Target { name: "randgen", run: passes::randgen, longest: 36, words: &[], tries: 500 },
    Target { name: "tables", run: passes::tables, longest: 256, words: &[], tries: 300 },
    Target { name: "search", run: passes::search, longest: 512, words: &[], tries: 300 },
];

/// The other targets.
#[cfg(feature = "pool")]
pub const POOL: [Target; 7] = [
    Target { name: "settings", run: readers::settings, longest: 4096, words: readers::SETTINGS, tries: 1500 },
    Target { name: "faults", run: readers::faults, longest: 256, words: readers::FAULTS, tries: 20_000 },
    Target { name: "files", run: readers::files, longest: 8192, words: &[], tries: 5000 },
    Target { name: "saved_run", run: readers::saved_run, longest: 8192, words: &[], tries: 3000 },
    Target { name: "master", run: pools::master, longest: 8192, words: pools::MASTER, tries: 150 },
    Target { name: "handler", run: pools::handler, longest: 4096, words: pools::HANDLER, tries: 1500 },
    Target {
        name: "requests",
        run: requests::requests,
        longest: 16_384,
        words: requests::WORDS,
        tries: 1000,
    },
];
