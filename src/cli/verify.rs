//! `pktmine verify`: validate announcements.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use kernels::{Announcement, Invalid, validate::result_code};
use serde_json::json;
use url::Url;

use super::{Exit, UsageError};
use crate::{
    protocol::BlockHash,
    verify::{parents_from_pool, read, validate},
};

/// The largest file that is read: half a million announcements in hexadecimal.
const MAX_FILE: u64 = 1 << 30;

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints one line for each announcement: file and number, result code and name, then height, hard nonce and soft \
nonce. The codes are 0 OK, 1 INVAL, 2 INVAL_ITEM4, 3 INSUF_POW, 4 SOFT_NONCE_HIGH. Exits with 1 if any is not OK.")]
pub struct Arguments {
    /// Files of announcements: 1024 bytes each, or lines of 2048 hexadecimal digits (- for standard input)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Hash of the parent block, as block explorers show it
    #[arg(long, value_name = "HASH", required_unless_present = "pool")]
    parent: Option<BlockHash>,

    /// Ask this pool for the parent blocks
    #[arg(long, value_name = "POOL_URL", conflicts_with = "parent")]
    pool: Option<String>,

    /// Print each verdict as a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let pool = arguments.pool.as_deref().map(super::pool_url).transpose()?;
    let mut exit = Exit::Done;
    for file in &arguments.files {
        let contents = contents(file)?;
        let (announcements, errors) = read(file, &contents);
        let parents = parents(arguments.parent, pool.as_ref(), &announcements)?;
        let parent_of = |announcement: &Announcement| match &parents {
            Parents::One(hash) => *hash,
            // A height above the tip has no block yet: no hash fits it.
            Parents::ByHeight(known) => {
                known.get(&announcement.parent_block_height()).copied().unwrap_or(BlockHash([0; 32]))
            }
        };
        let pairs: Vec<_> =
            announcements.into_iter().map(|a| (parent_of(&a), a)).map(|(p, a)| (a, p)).collect();
        let verdicts = validate(&pairs);
        let mut out = anstream::stdout().lock();
        for (index, ((announcement, _), verdict)) in pairs.iter().zip(&verdicts).enumerate() {
            let line = Line { file, number: index + 1, announcement, verdict: *verdict };
            if let Err(error) = line.write(&mut out, arguments.json) {
                // Whoever reads has seen enough.
                return if error.kind() == io::ErrorKind::BrokenPipe { Ok(exit) } else { Err(error.into()) };
            }
        }
        for error in &errors {
            anstream::eprintln!("pktmine: {error}");
        }
        if !errors.is_empty() || verdicts.iter().any(Result::is_err) {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// Where parent hashes come from.
enum Parents {
    One(BlockHash),
    ByHeight(BTreeMap<u32, BlockHash>),
}

fn parents(
    one: Option<BlockHash>,
    pool: Option<&Url>,
    announcements: &[Announcement],
) -> anyhow::Result<Parents> {
    if let Some(hash) = one {
        return Ok(Parents::One(hash));
    }
    let pool =
        pool.ok_or_else(|| UsageError("give the parent block with --parent HASH or --pool URL".into()))?;
    let Some(lowest) = announcements.iter().map(Announcement::parent_block_height).min() else {
        return Ok(Parents::ByHeight(BTreeMap::new()));
    };
    Ok(Parents::ByHeight(parents_from_pool(pool, lowest)?))
}

fn contents(file: &Path) -> anyhow::Result<Vec<u8>> {
    let reader: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).with_context(|| format!("cannot open {}", file.display()))?)
    };
    let mut contents = Vec::new();
    let read = reader.take(MAX_FILE + 1).read_to_end(&mut contents);
    let length = read.with_context(|| format!("cannot read {}", file.display()))? as u64;
    anyhow::ensure!(length <= MAX_FILE, "{} is larger than 1 GiB: split it", file.display());
    Ok(contents)
}

/// What is said of one announcement.
struct Line<'a> {
    file: &'a Path,
    number: usize,
    announcement: &'a Announcement,
    verdict: Result<(), Invalid>,
}

impl Line<'_> {
    fn write(&self, out: &mut impl Write, as_json: bool) -> io::Result<()> {
        let code = result_code(self.verdict);
        let name = self.verdict.map_or_else(|invalid| invalid.to_string(), |()| "OK".into());
        let (height, hard, soft) = (
            self.announcement.parent_block_height(),
            self.announcement.hard_nonce(),
            self.announcement.soft_nonce(),
        );
        if as_json {
            let object = json!({
                "file": self.file.display().to_string(),
                "number": self.number,
                "code": code,
                "result": name,
                "version": self.announcement.version(),
                "parent_block_height": height,
                "hard_nonce": hard,
                "soft_nonce": soft,
                "work_bits": format!("{:#010x}", self.announcement.work_bits()),
                "hash": hex::encode(self.announcement.hash()),
            });
            return writeln!(out, "{object}");
        }
        let version = match self.announcement.version() {
            1 => String::new(),
            other => format!(", version {other}"),
        };
        writeln!(
            out,
            "{}:{}: {code} {name} (height {height}, hard nonce {hard}, soft nonce {soft}{version})",
            self.file.display(),
            self.number
        )
    }
}
