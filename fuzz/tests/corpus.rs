//! Every target on its corpus, and on inputs that are like it, on any toolchain.
//!
//! `PKTMINE_FUZZ_TRIES=100` tries a hundred times as many, `PKTMINE_FUZZ_SEED=7` others.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use pktmine_fuzz::{KERNELS, Mutator, POOL, Target};

/// The most bytes of all corpora together.
const CORPORA: usize = 200_000;

fn targets() -> impl Iterator<Item = Target> {
    KERNELS.into_iter().chain(POOL)
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

/// A target's inputs, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = folder(target.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file's name can be read").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has a corpus", target.name);
    files.iter().map(|file| fs::read(file).expect("a file can be read")).collect()
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn run(target: &Target, input: &[u8], which: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let file = std::env::temp_dir().join(format!("pktmine-fuzz-{}-{}", target.name, std::process::id()));
        let kept =
            fs::write(&file, input).map_or("it cannot be written".into(), |()| file.display().to_string());
        eprintln!("{}: {which} of {} bytes fails; it is kept in {kept}", target.name, input.len());
        std::panic::resume_unwind(panic);
    }
}

/// The corpus and its like.
fn try_all(name: &str) {
    let target = &targets().find(|target| target.name == name).expect("a target of that name");
    let corpus = corpus(target);
    for (number, input) in corpus.iter().enumerate() {
        run(target, input, &format!("number {number} of the corpus"));
    }
    let (seed, times) = (setting("PKTMINE_FUZZ_SEED", 1), setting("PKTMINE_FUZZ_TRIES", 1));
    let mut mutator = Mutator::new(seed, target.words, target.longest);
    for number in 0..u64::from(target.tries) * times {
        run(target, &mutator.input(&corpus), &format!("input {number} of seed {seed}"));
    }
}

macro_rules! targets {
    ($($sentence:ident: $name:literal,)+) => {
        $(#[test] fn $sentence() { try_all($name) })+
        const TESTED: &[&str] = &[$($name),+];
    };
}

targets! {
    announcements_of_rubbish_are_judged_alike_by_every_kernel: "announcement",
    words_at_random_are_refused_or_run_within_bounds: "program",
    programs_that_are_built_run_alike_in_every_kernel: "lanes",
    every_seed_gives_a_program_that_runs_alike_in_every_kernel: "randgen",
    every_table_is_made_alike_by_every_kernel: "tables",
    every_search_finds_alike_in_every_kernel: "search",
    settings_of_rubbish_are_refused_in_plain_words: "settings",
    faults_of_rubbish_are_refused_in_plain_words: "faults",
    files_of_rubbish_are_read_as_far_as_they_are_announcements: "files",
    saved_runs_of_rubbish_are_refused_in_plain_words: "saved_run",
    a_master_that_talks_rubbish_is_followed_again_once_it_does_not: "master",
    a_handler_that_talks_rubbish_loses_nothing_of_what_is_accounted_for: "handler",
    requests_of_rubbish_are_answered_or_closed_and_others_served: "requests",
}

#[test]
fn every_target_is_tested_and_has_its_program() {
    let names: Vec<&str> = targets().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
    for name in names {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets").join(format!("{name}.rs"));
        let text =
            fs::read_to_string(&program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        assert!(text.contains(&format!("::{name}(data)")), "{} calls its target", program.display());
    }
}

#[test]
fn the_corpora_are_small() {
    let bytes: usize = targets().flat_map(|target| corpus(&target)).map(|input| input.len()).sum();
    assert!(bytes <= CORPORA, "{bytes} bytes; cargo fuzz cmin makes them smaller");
    for target in targets() {
        let longest = corpus(&target).iter().map(Vec::len).max();
        assert!(longest <= Some(target.longest), "{}: {longest:?} bytes", target.name);
    }
}
