//! Validating announcements from files: reading them, finding their parent blocks, telling the verdicts.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    time::Instant,
};

use kernels::{Announcement, Invalid, Validator};
use rayon::prelude::*;
use url::Url;

use crate::{
    pool::{self, FetchError, Fetcher, Pools},
    protocol::BlockHash,
    values::{PoolId, PoolView},
};

/// Announcements that share a validator: long enough for it to make use of what they have in common.
const CHUNK: usize = 256;

/// How far below the tip parent blocks are looked for at a pool.
const DEEPEST: u32 = 100;

/// A file's contents are not announcements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Raw bytes with a rest.
    #[error("{file}: {bytes} bytes are no whole number of announcements of 1024 bytes; {rest} are left over")]
    Remainder {
        /// The file.
        file: String,
        /// Its length.
        bytes: usize,
        /// What is left over.
        rest: usize,
    },
    /// A line of hexadecimal digits of another length.
    #[error("{file}, line {line}: an announcement has 2048 hexadecimal digits, not {digits}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// How many digits it has.
        digits: usize,
    },
    /// Nothing at all.
    #[error("{file}: there is no announcement in it")]
    Empty {
        /// The file.
        file: String,
    },
}

/// Reads announcements: 1024 bytes each, or lines of 2048 hexadecimal digits, whichever the contents are.
/// Returns those that are whole, and what is wrong with the rest.
pub fn read(file: &Path, contents: &[u8]) -> (Vec<Announcement>, Vec<ReadError>) {
    let file = file.display().to_string();
    let text = contents.iter().all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace());
    let (announcements, mut errors) =
        if text { read_lines(&file, contents) } else { read_raw(&file, contents) };
    if announcements.is_empty() && errors.is_empty() {
        errors.push(ReadError::Empty { file });
    }
    (announcements, errors)
}

fn read_raw(file: &str, contents: &[u8]) -> (Vec<Announcement>, Vec<ReadError>) {
    let (records, rest) = contents.as_chunks();
    let announcements = records.iter().map(|record| Announcement::from_bytes(*record)).collect();
    let errors = if rest.is_empty() {
        Vec::new()
    } else {
        vec![ReadError::Remainder { file: file.into(), bytes: contents.len(), rest: rest.len() }]
    };
    (announcements, errors)
}

fn read_lines(file: &str, contents: &[u8]) -> (Vec<Announcement>, Vec<ReadError>) {
    let (mut announcements, mut errors) = (Vec::new(), Vec::new());
    for (index, line) in contents.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        let mut bytes = [0; Announcement::LEN];
        if line.is_empty() {
            continue;
        }
        match hex::decode_to_slice(line, &mut bytes) {
            Ok(()) => announcements.push(Announcement::from_bytes(bytes)),
            Err(_) => {
                errors.push(ReadError::Line { file: file.into(), line: index + 1, digits: line.len() });
            }
        }
    }
    (announcements, errors)
}

/// The hashes of the blocks from `lowest` to a pool's tip, by height, as its master tells them.
///
/// # Errors
/// If the master does not tell them, or `lowest` is above its tip or far below.
pub fn parents_from_pool(pool: &Url, lowest: u32) -> Result<BTreeMap<u32, BlockHash>, ParentError> {
    let tip = ask(pool, pool::Settings::default(), |view| view.tip_height >= 1)?.tip_height;
    let depth = tip.checked_sub(lowest).filter(|depth| *depth <= DEEPEST);
    let depth = depth.ok_or(ParentError::OutOfReach { height: lowest, tip })?;
    // Mining that far below the tip is what makes the client walk back as far.
    let settings = pool::Settings { mine_old: Some(depth), ..pool::Settings::default() };
    let view = ask(pool, settings, |view| view.block_at(lowest).is_some())?;
    Ok(view.blocks.iter().map(|block| (block.height, block.hash)).collect())
}

/// A parent block's hash is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// A request failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answers do not tell it.
    #[error("the pool does not tell the parent block: {0}; give its hash with --parent")]
    Answer(String),
    /// The block is above the tip or far below it.
    #[error(
        "the pool's newest block is {tip}, so it does not tell of block {height}: it would have to be among the \
         newest {DEEPEST}; give its hash with --parent"
    )]
    OutOfReach {
        /// The height asked for.
        height: u32,
        /// The tip's height.
        tip: u32,
    },
}

/// Runs a pool client until its view has what is wanted. The first failed request ends it.
fn ask(
    pool: &Url,
    settings: pool::Settings,
    enough: impl Fn(&PoolView) -> bool,
) -> Result<PoolView, ParentError> {
    let fetcher = Fetcher::new(1);
    let started = Instant::now();
    let mut pools = Pools::new(vec![pool.clone()], settings);
    let mut events = VecDeque::from([pool::Event::Tick]);
    let mut said = "it sends nothing that could be used".to_owned();
    while let Some(event) = events.pop_front() {
        for effect in pools.handle(event, started.elapsed()) {
            match effect {
                pool::Effect::Fetch(fetch) => {
                    let result = Ok(fetcher.fetch(&fetch)?);
                    events.push_back(pool::Event::Fetched { request: fetch.request, result });
                }
                pool::Effect::Note(notice) if notice.level <= tracing::Level::WARN => said = notice.text,
                pool::Effect::Note(_) | pool::Effect::View { .. } | pool::Effect::Mine(_) => {}
            }
        }
        if let Some(view) = pools.view(PoolId(0)).filter(|view| enough(view)) {
            return Ok(view.clone());
        }
    }
    Err(ParentError::Answer(said))
}

/// Validates announcements on all processors, each against its parent's hash. Verdicts come in the same order.
pub fn validate(announcements: &[(Announcement, BlockHash)]) -> Vec<Result<(), Invalid>> {
    let chunks = announcements.par_chunks(CHUNK).flat_map_iter(|chunk| {
        let mut validator = Validator::new();
        chunk.iter().map(move |(announcement, parent)| validator.validate(announcement, &parent.0))
    });
    chunks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: u8) -> [u8; 1024] {
        [n; 1024]
    }

    #[test]
    fn raw_records_and_lines_of_digits_are_told_apart() {
        let file = Path::new("f");
        let raw = [bytes(1), bytes(2)].concat();
        assert_eq!(
            read(file, &raw),
            (vec![Announcement::from_bytes(bytes(1)), Announcement::from_bytes(bytes(2))], vec![])
        );
        let lines = format!("{}\n\n  {}\r\n", hex::encode(bytes(1)), hex::encode_upper(bytes(0xab)));
        assert_eq!(read(file, lines.as_bytes()).0.len(), 2);
        assert_eq!(read(file, lines.as_bytes()).1, vec![]);
    }

    #[test]
    fn what_is_whole_is_read_and_what_is_not_is_named() {
        let file = Path::new("f");
        let (read_raw, errors) = read(file, &[bytes(1).to_vec(), vec![7; 5]].concat());
        assert_eq!(read_raw.len(), 1);
        assert_eq!(errors, [ReadError::Remainder { file: "f".into(), bytes: 1029, rest: 5 }]);
        let (lines, errors) = read(file, format!("abc\n{}\n", hex::encode(bytes(1))).as_bytes());
        assert_eq!(lines.len(), 1);
        assert_eq!(errors, [ReadError::Line { file: "f".into(), line: 1, digits: 3 }]);
        assert_eq!(read(file, b"").1, [ReadError::Empty { file: "f".into() }]);
    }
}
