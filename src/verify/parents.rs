//! The hashes of parent blocks, as a pool's master tells them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use url::Url;

use crate::{
    pool::{self, FetchError, Fetcher, Pools},
    protocol::{BlockHash, MINE_OLD_MAX},
    values::{PoolId, PoolView},
};

/// Where the hashes of parent blocks come from.
#[derive(Debug)]
pub enum Parents {
    /// The user gave the one that all announcements have.
    Given(BlockHash),
    /// A pool tells those of its newest blocks.
    Pool(PoolBlocks),
}

impl Parents {
    /// Fetches what is not known yet of the blocks at some heights. What cannot be had is told by [`Parents::find`].
    pub fn fetch(&mut self, heights: impl Iterator<Item = u32>) {
        match self {
            Self::Given(_) => {}
            Self::Pool(blocks) => blocks.fetch(heights),
        }
    }

    /// The hash of the block at a height.
    ///
    /// # Errors
    /// If the pool does not tell it.
    pub fn find(&self, height: u32) -> Result<BlockHash, NoParent> {
        match self {
            Self::Given(hash) => Ok(*hash),
            Self::Pool(blocks) => blocks.find(height),
        }
    }
}

/// The blocks that a pool told of.
#[derive(Debug)]
pub struct PoolBlocks {
    pool: Url,
    tip: u32,
    known: BTreeMap<u32, BlockHash>,
    /// Why some are not known though they were asked for.
    failure: Option<String>,
}

/// An announcement's parent block is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoParent {
    /// The block is above the tip or far below it.
    #[error(
        "parent block unknown: {height} is not among the newest {MINE_OLD_MAX} blocks of the pool, which is at {tip}"
    )]
    OutOfReach {
        /// The height asked for.
        height: u32,
        /// The tip's height.
        tip: u32,
    },
    /// The pool does not tell of it.
    #[error("parent block unknown: the pool does not tell of block {height}: {reason}")]
    NotTold {
        /// The height asked for.
        height: u32,
        /// What went wrong.
        reason: String,
    },
}

/// A pool does not even tell its newest block.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A request failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answer is of no use.
    #[error("the pool does not tell its newest block: {0}; give the parent block's hash with --parent")]
    Answer(String),
}

impl PoolBlocks {
    /// Asks a pool for its tip.
    ///
    /// # Errors
    /// If it does not tell it.
    pub fn of(pool: &Url) -> Result<Self, PoolError> {
        let (view, failure) = ask(pool, pool::Settings::default(), |view| view.tip_height >= 1);
        match (view, failure) {
            (Some(view), None) => {
                Ok(Self { pool: pool.clone(), tip: view.tip_height, known: BTreeMap::new(), failure: None })
            }
            (_, Some(error)) => Err(error),
            (None, None) => Err(PoolError::Answer(SILENCE.into())),
        }
    }

    /// Asks for the blocks that are not known yet, from the tip that the pool has by now.
    fn fetch(&mut self, heights: impl Iterator<Item = u32>) {
        let missing: BTreeSet<u32> = heights.filter(|height| !self.known.contains_key(height)).collect();
        if missing.is_empty() {
            return;
        }
        let settings = pool::Settings { blocks: MINE_OLD_MAX + 1, ..pool::Settings::default() };
        let enough = |view: &PoolView| {
            let mut wanted = missing.iter().filter(|height| is_in_reach(**height, view.tip_height));
            view.tip_height >= 1 && wanted.all(|height| view.block_at(*height).is_some())
        };
        let (view, failure) = ask(&self.pool, settings, enough);
        if let Some(view) = view.filter(|view| view.tip_height >= 1) {
            self.tip = view.tip_height;
            self.known.extend(view.blocks.iter().map(|block| (block.height, block.hash)));
        }
        self.failure = failure.map(|error| error.to_string());
    }

    fn find(&self, height: u32) -> Result<BlockHash, NoParent> {
        let reason = || self.failure.clone().unwrap_or_else(|| SILENCE.into());
        match self.known.get(&height) {
            Some(hash) => Ok(*hash),
            None if is_in_reach(height, self.tip) => Err(NoParent::NotTold { height, reason: reason() }),
            None => Err(NoParent::OutOfReach { height, tip: self.tip }),
        }
    }
}

/// Whether a block is among those that are looked for below this tip.
fn is_in_reach(height: u32, tip: u32) -> bool {
    tip.checked_sub(height).is_some_and(|depth| depth <= MINE_OLD_MAX)
}

const SILENCE: &str = "it sends nothing that could be used";

/// Runs a pool client until its view has what is wanted, or a request fails. Returns the view as far as it came, and
/// what failed.
fn ask(
    pool: &Url,
    settings: pool::Settings,
    enough: impl Fn(&PoolView) -> bool,
) -> (Option<PoolView>, Option<PoolError>) {
    let fetcher = Fetcher::new(1);
    let started = Instant::now();
    let mut pools = Pools::new(vec![pool.clone()], settings);
    let mut events = VecDeque::from([pool::Event::Tick]);
    let mut said = SILENCE.to_owned();
    while let Some(event) = events.pop_front() {
        let effects = pools.handle(event, started.elapsed());
        // Before anything more is fetched: that may fail.
        if let Some(view) = pools.view(PoolId(0)).filter(|view| enough(view)) {
            return (Some(view.clone()), None);
        }
        for effect in effects {
            match effect {
                pool::Effect::Fetch(fetch) => match fetcher.fetch(&fetch) {
                    Ok(body) => {
                        let (request, result) = (fetch.request, Ok(body));
                        events.push_back(pool::Event::Fetched { request, result });
                    }
                    Err(error) => return (pools.view(PoolId(0)).cloned(), Some(error.into())),
                },
                pool::Effect::Note(notice) if notice.level <= tracing::Level::WARN => said = notice.text,
                pool::Effect::Note(_) | pool::Effect::View { .. } | pool::Effect::Mine(_) => {}
            }
        }
    }
    (pools.view(PoolId(0)).cloned(), Some(PoolError::Answer(said)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_pool::{self, LocalPool};

    #[test]
    fn parents_are_found_however_many_blocks_come_meanwhile() {
        let pool = LocalPool::start(local_pool::Settings::default()).expect("it starts");
        let mut blocks = PoolBlocks::of(&pool.url()).expect("it tells its tip");
        let first = blocks.tip;
        for new in 1..=3 {
            pool.new_block();
            let (deep, newest) = (first - 20 - new, first + new);
            blocks.fetch([deep, newest].into_iter());
            assert_eq!((blocks.failure.as_deref(), blocks.tip), (None, newest));
            let told: BTreeMap<_, _> = pool.window().into_iter().collect();
            assert_eq!(blocks.find(newest).ok(), told.get(&newest).copied(), "newer than the first tip");
            assert!(told.contains_key(&newest) && blocks.find(deep).is_ok(), "{:?}", blocks.find(deep));
        }
        blocks.fetch([first + 4, first - 98].into_iter());
        for height in [first + 4, first - 98] {
            assert_eq!(blocks.find(height), Err(NoParent::OutOfReach { height, tip: first + 3 }));
        }
        assert!(blocks.failure.is_none(), "nothing failed: {:?}", blocks.failure);
        blocks.fetch([first - 97].into_iter());
        assert!(blocks.find(first - 97).is_ok(), "the deepest one");
    }
}
