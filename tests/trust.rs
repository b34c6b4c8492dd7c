//! What `docs/trust.md` says of the sources is so: where unsafe code is, and that nothing of ours runs in a build.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Where unsafe code may be; a folder ends in a slash. What is not in the program comes last.
const ALLOWED: [&str; 6] = [
    "kernels/src/vector/",
    "kernels/src/avx2/",
    "kernels/src/avx512/",
    "src/backend/gpu/context.rs",
    "benches/peer/sodium.rs",
    "benches/alternate/clock.rs",
];

const FOLDERS: [&str; 5] = ["src", "kernels", "benches", "tests", "fuzz"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files with that ending below a folder.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("it can be read").path()) {
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// Blocks and functions, of the sources that have any, by path.
fn unsafe_code() -> BTreeMap<String, (usize, usize)> {
    let [block, function] = [concat!("unsa", "fe {"), concat!("unsa", "fe fn ")];
    let [extern_block, implementation] = [concat!("unsa", "fe extern"), concat!("unsa", "fe impl")];
    let mut all = BTreeMap::new();
    for path in FOLDERS.iter().flat_map(|folder| files(&root().join(folder), ".rs")) {
        let text = read(&path);
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let count = |what| code.matches(what).count();
        let counts = (count(block) + count(extern_block) + count(implementation), count(function));
        if counts != (0, 0) {
            let path = path.strip_prefix(root()).expect("it is below").to_string_lossy().replace('\\', "/");
            all.insert(path, counts);
        }
    }
    all
}

#[test]
fn unsafe_code_is_where_it_may_be_and_nowhere_else() {
    let all = unsafe_code();
    for path in all.keys() {
        assert!(ALLOWED.iter().any(|allowed| path.starts_with(allowed)), "{path} has unsafe code");
    }
    for allowed in ALLOWED {
        assert!(all.keys().any(|path| path.starts_with(allowed)), "{allowed} needs none any more");
    }
}

#[test]
fn the_list_of_unsafe_code_is_that_of_the_sources() {
    let document = read(&root().join("docs/trust.md"));
    let listed: BTreeMap<String, (usize, usize)> = document
        .lines()
        .filter_map(|line| {
            let mut cells =
                line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().trim_end_matches('`'));
            let path = cells.next().filter(|path| path.ends_with(".rs"))?;
            let mut number = || cells.next().and_then(|cell| cell.parse().ok());
            Some((path.to_owned(), (number()?, number()?)))
        })
        .collect();
    assert_eq!(listed, unsafe_code(), "docs/trust.md, left, counts blocks and functions");
}

/// Clippy has no eye for private ones. What a trait's ask for stands in the trait.
#[test]
fn every_function_that_is_not_safe_says_what_it_asks_for() {
    for path in unsafe_code().into_keys() {
        let text = read(&root().join(&path));
        let mut of_a_trait = false;
        let implements =
            |line: &&str| line.contains("impl ") && line.contains(" for ") && !line.starts_with([' ', '/']);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (number, (line, whole)) in lines.iter().zip(text.lines()).enumerate() {
            of_a_trait = implements(&whole) || of_a_trait && whole != "}";
            if !of_a_trait && line.contains(concat!("unsa", "fe fn ")) && !line.starts_with("//") {
                let above = lines[..number].iter().rev();
                let mut about = above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
                assert!(about.any(|line| *line == "/// # Safety"), "{path}, line {}: {line}", number + 1);
            }
        }
    }
}

#[test]
fn nothing_of_ours_runs_while_it_is_built() {
    let manifests = ["Cargo.toml", "kernels/Cargo.toml", "fuzz/Cargo.toml"].map(|name| root().join(name));
    for manifest in manifests {
        let script = manifest.with_file_name("build.rs");
        assert!(!script.exists(), "{}: docs/trust.md says that there is none", script.display());
        let text = read(&manifest);
        for key in ["build =", "proc-macro"] {
            assert!(!text.lines().any(|line| line.starts_with(key)), "{}: {key}", manifest.display());
        }
    }
}
