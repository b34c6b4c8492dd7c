//! `pktmine verify`: validate announcements.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use kernels::Announcement;
use serde_json::json;

use super::{Exit, UsageError, complain, print};
use crate::{
    protocol::BlockHash,
    verify::{Contents, Parents, PoolBlocks, Verdict, judge, read},
};

/// The command's flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints one line for each announcement: file and number, result code and name, then height, hard nonce and soft \
nonce. The codes are 0 OK, 1 INVAL, 2 INVAL_ITEM4, 3 INSUF_POW, 4 SOFT_NONCE_HIGH; an announcement whose parent \
block the pool does not tell has - instead (in JSON null, and the result NO_PARENT). Exits with 1 if any is not OK, \
or a file or a part of one cannot be read.")]
pub struct Arguments {
    /// Files of announcements: 1024 bytes each, or lines of 2048 hexadecimal digits (- for standard input)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Hash of the parent block, as block explorers show it
    #[arg(long, value_name = "HASH")]
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
    let mut parents = parents(&arguments)?;
    let mut exit = Exit::Done;
    for file in &arguments.files {
        let Contents { announcements, errors } = read(file);
        let verdicts = judge(&announcements, &mut parents);
        let mut lines = Vec::new();
        for (number, (announcement, verdict)) in (1..).zip(announcements.iter().zip(&verdicts)) {
            Line { file, number, announcement, verdict }.write(&mut lines, arguments.json)?;
        }
        print(lines)?;
        for error in &errors {
            complain(format_args!("pktmine: {error}\n"));
        }
        if !errors.is_empty() || verdicts.iter().any(|verdict| *verdict != Verdict::Valid) {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

fn parents(arguments: &Arguments) -> anyhow::Result<Parents> {
    match (arguments.parent, &arguments.pool) {
        (Some(hash), _) => Ok(Parents::Given(hash)),
        (None, Some(pool)) => Ok(Parents::Pool(PoolBlocks::of(&super::pool_url(pool)?)?)),
        (None, None) => {
            Err(UsageError("give the parent block with --parent HASH or --pool URL".into()).into())
        }
    }
}

/// What is said of one announcement.
struct Line<'a> {
    file: &'a Path,
    /// From 1.
    number: usize,
    announcement: &'a Announcement,
    verdict: &'a Verdict,
}

impl Line<'_> {
    fn write(&self, out: &mut impl Write, as_json: bool) -> io::Result<()> {
        let (code, name, reason) = match self.verdict {
            Verdict::Valid => (Some(0), "OK".into(), None),
            Verdict::Invalid(invalid) => (Some(invalid.code()), invalid.to_string(), None),
            Verdict::NoParent(no_parent) => (None, "NO_PARENT".into(), Some(no_parent.to_string())),
        };
        let (height, hard, soft) = (
            self.announcement.parent_block_height(),
            self.announcement.hard_nonce(),
            self.announcement.soft_nonce(),
        );
        if as_json {
            let mut object = json!({
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
            if let Some(reason) = reason {
                object["reason"] = reason.into();
            }
            return writeln!(out, "{object}");
        }
        let version = match self.announcement.version() {
            1 => String::new(),
            other => format!(", version {other}"),
        };
        writeln!(
            out,
            "{}:{}: {} {} (height {height}, hard nonce {hard}, soft nonce {soft}{version})",
            self.file.display(),
            self.number,
            code.map_or("-".into(), |code| code.to_string()),
            reason.unwrap_or(name)
        )
    }
}
